// The eigen-decomposition of a kernel, K = V diag(lambda) V^T, and functions of K times vectors: g(K) v = V diag(g(lambda)) V^T v. In double
// whatever the kernel was computed in. Read spectral.h for the functions and for what counts as a zero eigenvalue.
#pragma once

#include "linnet/autodiff/array.h"

#include <functional>
#include <memory>

namespace linnet::predict {

using autodiff::Array;
using autodiff::Index;
using autodiff::Scalar;

// A kernel in double, the mean of itself and its mirror image. ShapeError: not square. NumericalError: an entry that is not finite, or two mirrored entries that
// differ by more than 10 epsilon (of T) of the largest entry (named).
template <Scalar T> Array<double> checked_kernel(const char* operation, const Array<T>& kernel);

class Spectrum {
 public:
  // kernel [N, N]. Errors of checked_kernel; NumericalError: a decomposition that does not reproduce the kernel. epsilon in tolerance() is that of T.
  template <Scalar T> explicit Spectrum(const Array<T>& kernel);

  Index size() const { return values_.size(); }
  const Array<double>& values() const { return values_; }     // [N], ascending
  const Array<double>& vectors() const { return *vectors_; }  // [N, N]: row i is the unit eigenvector of values()[i]
  double lambda_min() const { return size() ? values_.data()[0] : 0; }
  double lambda_max() const { return size() ? values_.data()[size() - 1] : 0; }
  double mean_diagonal() const { return mean_diagonal_; }  // of the kernel: what relative regularizations scale with
  double tolerance() const { return tolerance_; }          // of the kernel's rounding; shifted() leaves it
  bool keeps(Index i) const;                               // whether eigenvalue i is further from zero than tolerance()
  Index rank() const;                                      // the number of eigenvalues that are
  double condition() const;                                // the largest over the smallest of them, in absolute value; 1 if there is none

  Spectrum shifted(double r) const;  // of K + r I; shares the eigenvectors

  Array<double> to_modes(const Array<double>& v) const;    // V^T v for v [N] or [N, k]; ShapeError otherwise
  Array<double> from_modes(const Array<double>& a) const;  // V a
  // g(K) v on the kept eigenvalues: components in the null space are answered by zero.
  Array<double> apply(const std::function<double(double lambda)>& g, const Array<double>& v) const;

 private:
  Spectrum() = default;
  Array<double> values_;
  std::shared_ptr<const Array<double>> vectors_;
  double mean_diagonal_ = 0, tolerance_ = 0;
};

// (exp(-K dt) - I) v and K^-1 (exp(-K dt) - I) v on the kept space, for v [N] or [N, k]. Right for every dt, 0 and infinity included, and continuous
// there. A negative dt runs backwards. NumericalError: dt is NaN, K is indefinite, v or the answer is not finite (the message names dt and lambda_max).
Array<double> expm1_dot(const Spectrum& spectrum, double dt, const Array<double>& v);
Array<double> inv_expm1_dot(const Spectrum& spectrum, double dt, const Array<double>& v);

}  // namespace linnet::predict
