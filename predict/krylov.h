// Training dynamics from products with a kernel alone: the laws of law.h as functions of K times f0 - y, by Lanczos' method, each with a bound of its error. One basis serves
// every time and every ridge, and is continued where a later time, or a longer run, needs more of it. docs/dynamics.md has the bounds; dynamics.h is what to compare with.
// (Saad, SIAM J. Numer. Anal. 29, 1992; Druskin & Knizhnerman, USSR Comput. Math. 29, 1989.)
#pragma once

#include "linnet/ntk/lanczos.h"
#include "linnet/predict/law.h"

#include <memory>
#include <span>
#include <string>

namespace linnet::predict {

using autodiff::Array;
using autodiff::Scalar;

// How functions of the kernel are computed. automatic: a decomposition where it takes a second or two, products where it does not; docs/dynamics.md has the rule.
enum class Solver { automatic,
                    decomposition,
                    krylov };

struct KrylovOptions {
  double tolerance = 1e-8;     // of the outputs' change K c and the weights' A^T c, as lengths, relative to them; never below what rounding leaves
  Index max_products = 0;      // with the kernel for each right side; 0: as many as there are rows
  std::size_t max_memory = 0;  // bytes of the basis; 0: half of what the kernel's Options leave
};

// How wrong an answer may be. Outputs and weights are lengths: |f - f_true| over all training rows, |theta - theta_true| over all weights (with rates P, of P^(-1/2) theta).
struct Bounds {
  double outputs = 0, weights = 0;
  double weights_estimate = 0;                            // near the truth more often, and no proof: takes the smallest Ritz value for the smallest eigenvalue
  double rounding = 0;                                    // that part of outputs that no further product mends
  bool outputs_rigorous = true, weights_rigorous = true;  // whether it is a theorem but for rounding; otherwise an estimate
  bool converged = true;                                  // to the tolerance or to rounding
  Index products = 0;                                     // with the kernel so far, by this and earlier answers
  // Of outputs elsewhere, of which the kernel's diagonal K(x, x) is given: sqrt(K(x, x)) times that of the weights, and rigorous if that is.
  Array<double> points(const Array<double>& diagonal) const;
};

class Krylov {
 public:
  // kernel: products with K [n, n], symmetric and positive semidefinite; residual: f0 - y, [n], or [n, k] where the kernel acts on k columns alike. pull: A theta0 of that
  // shape, where weights decay. Products and the basis are in T. null_tolerance, relative to the largest eigenvalue: those not above it are zero to the kernel's rounding; 0: max(n, 10)
  // epsilon. noise: by how much a product may be wrong, relative to the same; 0: epsilon of double. NumericalError: what the law refuses, options out of their ranges.
  template <Scalar T>
  Krylov(ntk::Symmetric<T> kernel, const Array<double>& residual, const Law& law, const Array<double>& pull = {}, const KrylovOptions& options = {}, double null_tolerance = 0, double noise = 0,
         autodiff::ProgressFunction progress = {});

  // As of Dynamics, [rows of the kernel, times, k]; as far as the options allow, and at least as exact as bounds() says. NumericalError: an indefinite kernel, a product that is not
  // finite or not of a symmetric matrix, an answer that overflows, cancelled. They multiply where the basis is too small.
  Array<double> coefficients(std::span<const double> times);
  Array<double> change(std::span<const double> times);
  Bounds bounds(double t);

  // The same with another ridge and the same basis, which both continue.
  Krylov with_ridge(double ridge) const;

  double lambda_max();  // of Ritz values: from below
  double condition();   // the same, from below
  Index products() const;
  std::size_t bytes() const;  // of the basis
  // The products that t needs, by how fast the bound has fallen so far; 0 where it is small enough. After some 20 of them.
  double products_predicted(double t);
  // Continues as far as t needs, and not beyond so many products; whether that was enough.
  bool advance(double t, Index most);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace linnet::predict
