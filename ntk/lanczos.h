// The spectrum of a kernel that is known by its products with vectors alone: its largest eigenvalues, and estimates of its trace and Frobenius norm. Read
// operator.h first. Functions of all eigenvalues are in predict.
#pragma once

#include "linnet/ntk/operator.h"

#include <cstdint>
#include <functional>

namespace linnet::ntk {

// A symmetric matrix [size, size] as the function that multiplies with it. Products are asked for in `shape`, which has `size` numbers.
template <Scalar T> struct Symmetric {
  Shape shape;
  Index outputs = 1;  // eigenvalues come in groups of up to so many
  std::function<Array<T>(const Array<T>&)> product;
  Symmetric(Shape shape_, std::function<Array<T>(const Array<T>&)> product_, Index outputs_ = 1) : shape(shape_), outputs(outputs_), product(std::move(product_)) {}
  Symmetric(const Operator<T>& k) : shape(k.value().shape()), outputs(k.outputs()), product(k) {}
};

struct LanczosOptions {
  double tolerance = 1e-5;  // of residuals, relative to the largest eigenvalue
  Index max_products = 0;   // 0: as many as there are rows, which is always enough
  Index block = 0;          // vectors it starts from, which is the largest multiplicity that it sees; 0: the outputs
  std::uint64_t seed = 0;   // of these vectors
  autodiff::ProgressFunction progress{};
};

template <Scalar T> struct LargestEigenvalues {
  Array<double> values;     // [k], descending
  Array<T> vectors;         // [k, size], orthonormal
  Array<double> residuals;  // [k]: |K v - value v|; an eigenvalue is no further from the value
  Index products = 0;
};

// The k largest by Lanczos' method with several starting vectors and full reorthogonalization (Golub & Van Loan, Matrix Computations, 4th ed., 10.3.7; Ruhe, Math. Comp. 33,
// 1979). A vector in memory for every product. ShapeError: k below 1 or beyond the rows, or a product of another shape. NumericalError: not within the
// tolerance after max_products, a product that is not finite or not of a symmetric matrix, or cancelled.
template <Scalar T> LargestEigenvalues<T> largest_eigenvalues(const Symmetric<T>& kernel, Index k, const LanczosOptions& options = {});
template <Scalar T> LargestEigenvalues<T> largest_eigenvalues(const Operator<T>& kernel, Index k, const LanczosOptions& options = {}) { return largest_eigenvalues(Symmetric<T>(kernel), k, options); }

// The mean of samples, with its standard error: the truth lies within twice that in nineteen of twenty cases, if samples are many.
struct Estimate {
  double value = 0, error = 0;
  Index samples = 0;
};
struct NormEstimates {
  Estimate trace, frobenius;  // sum of eigenvalues; root of the sum of their squares
};
// By Hutchinson's probes of signs (Commun. Stat. Simul. 19, 1990): the means of z.Kz and |Kz|^2, a product for each. ShapeError unless there are two or more.
template <Scalar T> NormEstimates estimate_norms(const Symmetric<T>& kernel, Index samples, std::uint64_t seed = 0);
template <Scalar T> NormEstimates estimate_norms(const Operator<T>& kernel, Index samples, std::uint64_t seed = 0) { return estimate_norms(Symmetric<T>(kernel), samples, seed); }

}  // namespace linnet::ntk
