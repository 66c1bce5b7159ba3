// The eigen-decomposition of kernels, its checks, and functions of a kernel times vectors.
#include "linnet/predict/spectrum.h"

#include "linnet/autodiff/config.h"
#include "linnet/autodiff/error.h"
#include "linnet/autodiff/kernels/decompositions.h"
#include "linnet/autodiff/kernels/parallel.h"
#include "linnet/tests/predict/problem.h"

#include <doctest/doctest.h>

using linnet::autodiff::NumericalError;
using linnet::autodiff::ShapeError;
using linnet::predict::expm1_dot;
using linnet::predict::inv_expm1_dot;
using linnet::predict::Spectrum;
using problem::Array, problem::bound, problem::conditioned, problem::difference, problem::Draw, problem::eight, problem::Index, problem::infinity, problem::orthonormal,
    problem::Problem, problem::product, problem::Shape, problem::times, problem::transposed;

namespace {

const double eps = std::numeric_limits<double>::epsilon();

// The ratios of LAPACK's own tests: |K - V^T L V| and |I - V V^T| in units of n eps times the size.
std::pair<double, double> ratios(const Array<double>& kernel, const Spectrum& spectrum) {
  const Index n = spectrum.size();
  const Array<double>& v = spectrum.vectors();
  Array<double> scaled = v, gram = product(v, transposed(v));
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < n; ++j) scaled[{i, j}] *= spectrum.values().data()[i];
  for (Index i = 0; i < n; ++i) gram[{i, i}] -= 1;
  const double size = std::max(max_abs(spectrum.values()), 1e-300);
  return {max_abs(product(transposed(v), scaled) - kernel) / (static_cast<double>(n) * eps * size), max_abs(gram) / (static_cast<double>(n) * eps)};
}

Array<double> symmetric(Index n, double smallest, Draw& draw) {
  const Array<double> q = orthonormal(n, n, draw);
  Array<double> scaled = q;
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < n; ++j) scaled[{i, j}] *= std::pow(smallest, n == 1 ? 0 : static_cast<double>(j) / static_cast<double>(n - 1));
  Array<double> k = product(scaled, transposed(q));
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < i; ++j) k[{i, j}] = k[{j, i}];
  return k;
}

// U diag(g(s^2)) U^T v of a problem whose singular values are known.
template <class G> Array<double> reference(const Problem& p, G g, const Array<double>& v) {
  Array<double> modes = product(transposed(p.u), v);
  for (Index i = 0; i < p.s.size(); ++i) modes.data()[i] *= g(p.s.data()[i] * p.s.data()[i]);
  return product(p.u, modes);
}

}  // namespace

TEST_CASE("a decomposition reproduces its kernel as LAPACK's tests demand") {
  Draw draw(3);
  for (const Index n : {1, 2, 3, 5, 50, 130})
    for (const double smallest : {1.0, 1e-2, 1e-8, 1e-16})
      for (const double scale : {1.0, 1e-290, 1e280}) {
        CAPTURE(n);
        CAPTURE(smallest);
        CAPTURE(scale);
        const Array<double> kernel = scale * symmetric(n, smallest, draw);
        const Spectrum spectrum(kernel);
        const auto [residual, orthogonality] = ratios(kernel, spectrum);
        CHECK(residual <= 10);
        CHECK(orthogonality <= 10);
        CHECK(std::is_sorted(spectrum.values().begin(), spectrum.values().end()));
        CHECK(spectrum.lambda_max() == doctest::Approx(scale));
      }
}

TEST_CASE("kernels of no rows, one row and nothing but zeros are decomposed") {
  const Spectrum none(Array<double>(Shape{0, 0}));
  CHECK(none.size() == 0);
  CHECK(none.rank() == 0);
  CHECK(expm1_dot(none, 1, Array<double>(Shape{0})).size() == 0);
  const Spectrum one(Array<double>(Shape{1, 1}, {4.0}));
  CHECK(one.lambda_max() == doctest::Approx(4));
  CHECK(one.rank() == 1);
  const Spectrum zero(Array<double>(Shape{3, 3}));
  CHECK(zero.rank() == 0);
  CHECK(zero.condition() == 1);
  CHECK(max_abs(expm1_dot(zero, infinity, Array<double>(Shape{3}, 1.0))) == 0);
  CHECK(max_abs(inv_expm1_dot(zero, infinity, Array<double>(Shape{3}, 1.0))) == 0);
}

TEST_CASE_TEMPLATE("rank, condition and tolerance follow from the type the kernel was computed in", T, float, double) {
  Draw draw(4);
  const Problem p = conditioned("rank 8 of 20", 20, 30, 8, 100, draw);
  const Spectrum spectrum(cast<T>(p.kernel()));
  CHECK(spectrum.rank() == 8);
  CHECK(spectrum.condition() == doctest::Approx(100).epsilon(1e-4));
  CHECK(spectrum.tolerance() == doctest::Approx(20 * static_cast<double>(std::numeric_limits<T>::epsilon())));
  double trace = 0;
  for (Index i = 0; i < 20; ++i) trace += p.kernel()[{i, i}];
  CHECK(spectrum.mean_diagonal() == doctest::Approx(trace / 20));
}

TEST_CASE("a shifted spectrum is that of the kernel with a multiple of the identity") {
  Draw draw(5);
  const Array<double> kernel = symmetric(12, 1e-3, draw), v = draw.array(Shape{12, 2});
  Array<double> shifted = kernel;
  for (Index i = 0; i < 12; ++i) shifted[{i, i}] += .5;
  const Spectrum a = Spectrum(kernel).shifted(.5), b(shifted);
  CHECK(difference(a.values(), b.values()) < 1e-14);
  CHECK(a.mean_diagonal() == doctest::Approx(b.mean_diagonal()));
  CHECK(difference(inv_expm1_dot(a, 2, v), inv_expm1_dot(b, 2, v)) < 1e-13);
  CHECK_THROWS_WITH_AS(b.shifted(NAN), "spectrum: a shift must be finite, got nan", NumericalError);
}

TEST_CASE("expm1_dot and inv_expm1_dot are right at every time from zero to infinity, for every kind of kernel") {
  std::vector<double> all = times;
  all.insert(all.end(), {0, 1e300, infinity});
  for (const Problem& p : eight()) {
    const Spectrum spectrum(p.kernel());
    for (const double dt : all) {
      CAPTURE(p.name);
      CAPTURE(dt);
      const Array<double> change = expm1_dot(spectrum, dt, p.y), inverse = inv_expm1_dot(spectrum, dt, p.y);
      // K times the second is the first, and both are known where the singular values are.
      CHECK(max_abs(product(p.kernel(), inverse) - change) <= bound(spectrum.condition()) * std::max(1.0, max_abs(p.y)));
      if (p.s.size() == 0) continue;
      const auto g = [dt](double l) { return std::expm1(-l * dt); };
      CHECK(max_abs(change - reference(p, g, p.y)) <= bound(spectrum.condition()));
      const Array<double> wanted = reference(
          p, [&](double l) { return dt == 0 ? 0 : g(l) / l; }, p.y);
      CHECK(max_abs(inverse - wanted) <= bound(spectrum.condition()) * max_abs(wanted));
    }
    CHECK(expm1_dot(spectrum, 1e300, p.y) == expm1_dot(spectrum, infinity, p.y));
    CHECK(inv_expm1_dot(spectrum, 1e300, p.y) == inv_expm1_dot(spectrum, infinity, p.y));
    CHECK(max_abs(expm1_dot(spectrum, 0, p.y)) == 0);
  }
}

TEST_CASE("a negative time runs backwards, until the answer overflows and says so") {
  Draw draw(6);
  const Problem p = conditioned("forth and back", 10, 12, 10, 10, draw);
  const Spectrum spectrum(p.kernel());
  const Array<double> later = p.y + expm1_dot(spectrum, 3, p.y);
  CHECK(difference(later + expm1_dot(spectrum, -3, later), p.y) < 1e-13);
  CHECK_THROWS_WITH_AS(expm1_dot(spectrum, -1e4, p.y), "expm1_dot: the result overflows at dt = -10000 with lambda_max = 1; exp(-lambda_max dt) is finite for dt above -700", NumericalError);
  CHECK_THROWS_WITH_AS(inv_expm1_dot(spectrum, -infinity, p.y), doctest::Contains("inv_expm1_dot: the result overflows at dt = -inf with lambda_max = 1"), NumericalError);
  // In the null space there is nothing that could.
  CHECK(max_abs(expm1_dot(Spectrum(Array<double>(Shape{2, 2})), -infinity, Array<double>(Shape{2}, 1.0))) == 0);
}

TEST_CASE("what is no kernel, or no number, is refused by position") {
  Array<double> kernel(Shape{3, 3}, {2, 1, 0, 1, 2, 1, 0, 1, 2});
  CHECK_THROWS_WITH_AS(Spectrum(Array<double>(Shape{2, 3})), "spectrum: a kernel must be a square matrix, got [2,3]", ShapeError);
  CHECK_THROWS_WITH_AS(Spectrum(Array<double>(Shape{4})), "spectrum: a kernel must be a square matrix, got [4]", ShapeError);
  kernel[{1, 2}] = NAN;
  CHECK_THROWS_WITH_AS((Spectrum(kernel)), "spectrum: the kernel has nan at [1,2]; every value must be finite", NumericalError);
  kernel[{1, 2}] = 1 + 1e-14;
  CHECK_THROWS_WITH_AS((Spectrum(kernel)), doctest::Contains("spectrum: the kernel is not symmetric: entry [2,1] is 1, entry [1,2] is 1.00000000000001; they may differ by 4.44e-15"), NumericalError);
  kernel[{1, 2}] = 1 + 1e-15;
  CHECK_NOTHROW((Spectrum(kernel)));
  CHECK_NOTHROW((Spectrum(cast<float>(kernel))));
  CHECK_THROWS_WITH_AS((Spectrum(1e307 * kernel)), doctest::Contains("spectrum: the largest entry of a kernel of 3 rows is 2e+307, and products with its eigenvectors overflow; scale the kernel"), NumericalError);

  const Spectrum spectrum(kernel);
  const Array<double> v(Shape{3}, {1, infinity, 0});
  CHECK_THROWS_WITH_AS(expm1_dot(spectrum, 1, v), "expm1_dot: v has inf at [1]; every value must be finite", NumericalError);
  CHECK_THROWS_WITH_AS(expm1_dot(spectrum, NAN, Array<double>(Shape{3})), "expm1_dot: dt is NaN; it must be a number, infinity allowed", NumericalError);
  CHECK_THROWS_WITH_AS(inv_expm1_dot(spectrum, 1, Array<double>(Shape{4})), "spectrum: a kernel of 3 rows acts on vectors [3] or [3,k], got [4]", ShapeError);
  CHECK_THROWS_WITH_AS(spectrum.from_modes(Array<double>(Shape{2, 3})), "spectrum: a kernel of 3 rows has modes [3] or [3,k], got [2,3]", ShapeError);
  kernel[{0, 0}] = -2;
  CHECK_THROWS_WITH_AS(expm1_dot(Spectrum(kernel), 1, Array<double>(Shape{3})), doctest::Contains("expm1_dot: the kernel is indefinite: lambda_min = -2.2"), NumericalError);
}

TEST_CASE("the decomposition itself refuses what it cannot decompose") {
  double a[4] = {1, 0, 0, NAN}, values[2];
  CHECK_THROWS_WITH_AS(linnet::autodiff::eigh(2, a, values), "eigh: the input of a matrix of 2 rows has nan at position 3; every value must be finite", NumericalError);
  CHECK_THROWS_WITH_AS(linnet::autodiff::eigh(-1, a, values), doctest::Contains("eigh: a matrix of -1 rows"), ShapeError);
  const std::string provider = linnet::autodiff::decompositions_provider();
  CHECK((provider.starts_with("LAPACK (OpenBLAS ") || provider.starts_with("Eigen 3.")));
  if (provider.starts_with("LAPACK"))
    CHECK_THROWS_WITH_AS(linnet::autodiff::eigh(40000, a, values), "eigh: a matrix of 40000 rows; LAPACK's 32-bit integers count the workspace of at most 32766", ShapeError);
}

TEST_CASE("the bits of a decomposition and of its products do not depend on the number of threads") {
  Draw draw(7);
  const Array<double> kernel = symmetric(300, 1e-6, draw), v = draw.array(Shape{300, 3});
  const int before = linnet::autodiff::thread_count();
  linnet::autodiff::set_thread_count(1);
  const Spectrum one(kernel);
  const Array<double> wanted = inv_expm1_dot(one, 10, v);
  for (const int threads : {2, 3, 4}) {
    linnet::autodiff::set_thread_count(threads);
    const Spectrum many(kernel);
    CHECK(many.values() == one.values());
    CHECK(many.vectors() == one.vectors());
    CHECK(inv_expm1_dot(many, 10, v) == wanted);
  }
  linnet::autodiff::set_thread_count(before);
}
