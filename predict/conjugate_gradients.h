// (K + ridge I) x = b for many right sides at once, from products with K alone: conjugate gradients, with a preconditioner of the largest eigenvalues. For what trains at t = infinity
// with many targets: samples of a posterior, variances at many points. Of one right side, and of every other time, krylov.h is the shorter way.
#pragma once

#include "linnet/autodiff/array.h"

#include <cstdint>
#include <functional>

namespace linnet::predict {

using autodiff::Array;
using autodiff::Index;

// K v for v [n, k], symmetric and positive semidefinite.
using ColumnProducts = std::function<Array<double>(const Array<double>& v)>;

// Nystrom's approximation of K by `rank` of its products with random vectors, and with it P^-1 = U (l + r) (L + r)^-1 U^T + (I - U U^T), l the smallest of its eigenvalues L. The
// condition of P^-1 (K + r) is then that of what is left of K. (Frangella, Tropp & Udell, SIAM J. Matrix Anal. Appl. 44, 2023, algorithms 2.1 and 5.1.)
class NystromPreconditioner {
 public:
  // ShapeError: a rank that is not between 1 and n, or a product of another shape. NumericalError: a product that is not finite, or of an indefinite kernel.
  NystromPreconditioner(const ColumnProducts& kernel, Index n, Index rank, std::uint64_t seed = 0);
  Index size() const { return n_; }
  const Array<double>& values() const { return values_; }           // [rank or fewer], descending: L
  Array<double> apply(double ridge, const Array<double>& v) const;  // P^-1 v, [n, k]

 private:
  Index n_;
  Array<double> values_, vectors_;  // [l], [l, n]
};

struct SolveOptions {
  double ridge = 0;
  double tolerance = 1e-8;  // of |b - (K + ridge) x| for every column, relative to |b|
  Index max_products = 0;   // each with all columns; 0: ten times as many as there are rows
  const NystromPreconditioner* preconditioner = nullptr;
};

struct Solution {
  Array<double> x;          // of the shape of b
  Array<double> residuals;  // [k]: |b - (K + ridge) x|, computed anew. With a ridge the error of K x is at most that, and of A^T x at most that / (2 sqrt(ridge))
  Index products = 0;
  bool converged = true;  // every column
};

// b [n] or [n, k]. Columns go on until each has converged, or no product is left. ShapeError: shapes that do not fit; NumericalError: NaN or infinity, options out of their ranges, an
// indefinite kernel.
Solution solve(const ColumnProducts& kernel, const Array<double>& b, const SolveOptions& options = {});

}  // namespace linnet::predict
