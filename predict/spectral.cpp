// The formulas of spectral.h.
#include "linnet/predict/spectral.h"

#include "linnet/autodiff/fail.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace linnet::predict {

double phi(double lambda, double t) {
  if (t == 0 || lambda == 0) return t;  // the product of zero and infinity is never formed
  const double x = lambda * t;
  if (std::abs(x) < std::numeric_limits<double>::epsilon() / 2) return t * (1 - x / 2);
  return -std::expm1(-x) / lambda;
}

double decay(double lambda, double t) { return lambda == 0 || t == 0 ? 1 : std::exp(-lambda * t); }

double null_tolerance(Index n, double largest, double epsilon) { return static_cast<double>(std::max<Index>(n, 10)) * epsilon * largest; }

void check_semidefinite(const char* operation, double lambda_min, double lambda_max, Index n, double tolerance, double ridge) {
  if (lambda_min + ridge >= -tolerance) return;
  // A little more than -lambda_min, so that the printed digits do as well.
  autodiff::fail<autodiff::NumericalError>(
      "{}: the kernel is indefinite: lambda_min = {:.6g}, lambda_max = {:.6g}, N = {}, where rounding explains eigenvalues down to {:.3g}; "
      "correct the kernel, or pass a ridge of at least {:.4g}",
      operation, lambda_min, lambda_max, n, -tolerance, -lambda_min * 1.001);
}

}  // namespace linnet::predict
