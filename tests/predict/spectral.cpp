// phi and the decay against long double, and the policy for eigenvalues that count as zero.
#include "linnet/predict/spectral.h"

#include "linnet/autodiff/error.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

using linnet::autodiff::NumericalError;
using linnet::predict::check_semidefinite;
using linnet::predict::decay;
using linnet::predict::null_tolerance;
using linnet::predict::phi;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

long double exact(double lambda, double t) {
  if (lambda == 0 || t == 0) return t;
  const long double x = static_cast<long double>(lambda) * t;
  if (std::abs(x) < 1e-22L) return t;
  return -std::expm1(-x) / lambda;
}

// The distance in units of the spacing of doubles at the exact value.
double ulps(double value, long double exact) {
  const double rounded = static_cast<double>(exact);
  if (value == rounded) return 0;
  if (!std::isfinite(rounded) || !std::isfinite(value)) return infinity;
  const double spacing = std::nextafter(std::abs(rounded), infinity) - std::abs(rounded);
  return static_cast<double>(std::abs(value - exact) / spacing);
}

}  // namespace

TEST_CASE("phi is within 4 ulp of long double at more than a million points of 600 decades") {
  double worst = 0, at_lambda = 0, at_t = 0;
  for (int i = -600; i <= 600; ++i)
    for (int j = -450; j <= 450; ++j) {
      const double lambda = std::exp(1.15129 * i + 0.001 * j), t = std::exp(1.5337 * j + 0.0007 * i);
      const double error = ulps(phi(lambda, t), exact(lambda, t));
      if (!(error <= worst)) worst = error, at_lambda = lambda, at_t = t;
    }
  CAPTURE(at_lambda);
  CAPTURE(at_t);
  CHECK(worst <= 4);
}

TEST_CASE("phi is within 4 ulp where the product of its arguments is of order one, and around its switch") {
  double worst = 0;
  for (int i = 0; i < 200000; ++i) {
    const double t = std::exp(0.0005 * (i % 2000) - 0.5), x = std::exp(-40 + 45e-6 * 5 * i * 0.2);
    worst = std::max(worst, ulps(phi(x / t, t), exact(x / t, t)));
  }
  CHECK(worst <= 4);
}

TEST_CASE("phi holds at zero, denormal, huge and infinite arguments") {
  const double tiny = std::numeric_limits<double>::denorm_min(), huge = std::numeric_limits<double>::max();
  for (const double lambda : {0.0, tiny, 3 * tiny, 1e-310, 1e-300, 1e-16, 1.0, 1e16, 1e300, huge})
    for (const double t : {0.0, tiny, 1e-310, 1e-300, 1e-12, 1.0, 1e26, 1e300, huge}) {
      CAPTURE(lambda);
      CAPTURE(t);
      CHECK(ulps(phi(lambda, t), exact(lambda, t)) <= 4);
    }
  CHECK(phi(0, infinity) == infinity);
  CHECK(phi(4, infinity) == .25);
  CHECK(phi(huge, infinity) == 1 / huge);
  CHECK(phi(infinity, 0) == 0);
  CHECK(phi(0, -2) == -2);
  CHECK(phi(0, 0) == 0);
}

TEST_CASE("phi grows with time and never exceeds its limits") {
  for (const double lambda : {1e-300, 1e-20, 1e-3, 1.0, 1e5, 1e200}) {
    double before = 0;
    for (double t = 1e-30; t < 1e30; t *= 1.37) {
      const double now = phi(lambda, t);
      CHECK(now >= before);
      CHECK(now <= t);
      CHECK(now <= (1 / lambda) * (1 + 1e-15));
      before = now;
    }
  }
}

TEST_CASE("phi below zero is right as far as the product of its arguments is") {
  for (const double x : {-1e-18, -1e-10, -1e-3, -1.0, -30.0, -600.0}) CHECK(ulps(phi(x / 3, 3), exact(x / 3, 3)) <= 4 + 2 * std::abs(x));
  CHECK(phi(-1, 1000) == infinity);
}

TEST_CASE("the decay is one without an eigenvalue or a time, and zero in the end") {
  CHECK(decay(0, infinity) == 1);
  CHECK(decay(3, 0) == 1);
  CHECK(decay(infinity, 0) == 1);
  CHECK(decay(1e-300, infinity) == 0);
  CHECK(decay(2, .25) == doctest::Approx(0.60653065971263342).epsilon(1e-15));
}

TEST_CASE("the null space is measured by the size of the matrix, at least ten rows, and the type it was computed in") {
  CHECK(null_tolerance(3, 2, 1e-7) == doctest::Approx(2e-6));
  CHECK(null_tolerance(500, 2, 1e-7) == doctest::Approx(1e-4));
  CHECK(null_tolerance(500, 0, 1e-7) == 0);
}

TEST_CASE("an indefinite kernel is refused in words that name its eigenvalues and the ridge that would do") {
  CHECK_NOTHROW(check_semidefinite("test", -1e-13, 10, 5, 1e-12));
  try {
    check_semidefinite("test", -.25, 10, 5, 1e-12);
    FAIL("nothing was thrown");
  } catch (const NumericalError& error) {
    CHECK(std::string(error.what()) ==
          "test: the kernel is indefinite: lambda_min = -0.25, lambda_max = 10, N = 5, where rounding explains eigenvalues down to -1e-12; correct the kernel, or pass a ridge of at least 0.2502");
  }
  CHECK_NOTHROW(check_semidefinite("test", -.25, 10, 5, 1e-12, .2502));
  CHECK_THROWS_AS(check_semidefinite("test", -.25, 10, 5, 1e-12, .2), NumericalError);
}
