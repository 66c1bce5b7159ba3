// Cholesky factors, triangular solves and what is composed of them: values against plain loops in long double, derivatives to the third order and against closed forms, matrices that are not
// positive definite, and equal bits for any number of threads.
#include "linnet/autodiff/kernels/decompositions.h"
#include "linnet/tests/autodiff/rows.h"

#include <cmath>

using namespace linnet::autodiff;
using samples::Arrays, samples::difference, samples::eps, samples::first, samples::one, samples::random, samples::run1, samples::second, samples::Table, samples::third, samples::Values;

namespace {

const double not_a_number = std::numeric_limits<double>::quiet_NaN();

// Symmetric, with eigenvalues near 1: the identity and a little of a random matrix. Exact in both widths.
template <class T> Array<T> positive(Index count, Index n, std::uint64_t seed = 1) {
  Array<T> a = random<T>({count, n, n}, seed);
  for (Index m = 0; m < count; ++m)
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j <= i; ++j) {
        T& low = a.data()[(m * n + i) * n + j];
        low = std::round(low * 64) / 64 / static_cast<T>(std::exp2(std::ceil(std::log2(static_cast<double>(n))))) + (i == j ? T(1) : T(0));
        a.data()[(m * n + j) * n + i] = low;
      }
  return a;
}
template <class T> Array<T> positive(Index n) { return positive<T>(1, n).reshaped({n, n}); }

// The factor by its definition, row by row.
template <class T> std::vector<long double> factor(const T* a, Index n) {
  std::vector<long double> l(static_cast<std::size_t>(n * n), 0);
  auto at = [&](Index i, Index j) -> long double& { return l[static_cast<std::size_t>(i * n + j)]; };
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j <= i; ++j) {
      long double s = a[i * n + j];
      for (Index k = 0; k < j; ++k) s -= at(i, k) * at(j, k);
      at(i, j) = i == j ? std::sqrt(s) : s / at(j, j);
    }
  return l;
}
template <class T, class F> Array<T> apply(const F& f, const Array<T>& x) { return compile(f, x)(x); }

// The inverse by solving for the identity in long double.
std::vector<long double> inverse(const Array<double>& a) {
  const Index n = a.shape()[0];
  const std::vector<long double> l = factor(a.data(), n);
  std::vector<long double> x(static_cast<std::size_t>(n * n), 0);
  auto at = [&](std::vector<long double>& m, Index i, Index j) -> long double& { return m[static_cast<std::size_t>(i * n + j)]; };
  std::vector<long double> lower = l;
  for (Index c = 0; c < n; ++c) {
    for (Index i = 0; i < n; ++i) {
      long double s = i == c;
      for (Index k = 0; k < i; ++k) s -= at(lower, i, k) * at(x, k, c);
      at(x, i, c) = s / at(lower, i, i);
    }
    for (Index i = n; i-- > 0;) {
      long double s = at(x, i, c);
      for (Index k = i + 1; k < n; ++k) s -= at(lower, k, i) * at(x, k, c);
      at(x, i, c) = s / at(lower, i, i);
    }
  }
  return x;
}

Var gram(const Var& m) {  // positive definite for any m
  const Index n = m.shape()[-1], r = m.shape().rank();
  Array<double> identity({n, n});
  for (Index i = 0; i < n; ++i) identity.data()[i * n + i] = 2;
  return dot(m, m, {false, true}) + broadcast_to(m.tape()->take_in(constant(identity)), r == 2 ? m.shape() : m.shape().with(-1, n));
}
Var factor_of(const Var& m) { return lower_triangle(m, 0.5) + gram(zeros_like(m)); }  // lower, its diagonal away from 0

}  // namespace

Table samples::linear_algebra_rows() {
  Table t;
  for (const Shape& s : {Shape{0, 0}, {1, 1}, {2, 2}, {3, 3}, {2, 3, 3}, {0, 2, 2}, {2, 1, 2, 2}, {5, 5}}) {
    const DerivativeCheck check{.order = s.size() > 4 ? 2 : 3};
    t["cholesky"].push_back({str(s), one([](Values v) { return cholesky(gram(v[0])); }), {random<double>(s, 3)}, check});
    t["lower_triangle"].push_back({str(s), one([](Values v) { return square(lower_triangle(v[0], 0.5)); }), {random<double>(s, 3)}, {.order = check.order}});
    for (const bool transposed : {false, true})
      for (const Index k : {0, 1, 3})
        t["triangular_solve"].push_back({str(s) + " for " + std::to_string(k), one([=](Values v) { return triangular_solve(factor_of(v[0]), v[1], transposed); }),
                                         {random<double>(s, 4), random<double>(s.with(-1, k), 5)}, {.order = check.order - (k != 1)}});
  }
  t["cholesky"].push_back({"beyond one tile", one([](Values v) { return cholesky(v[0]); }), {positive<double>(70)}, {.order = 1}});
  for (const bool transposed : {false, true})
    t["triangular_solve"].push_back({"what lies above the diagonal varies", one([=](Values v) { return triangular_solve(gram(v[0]), v[1], transposed); }), {random<double>({3, 3}, 4), random<double>({3, 2}, 5)}, {.order = 2}});
  t["triangular_solve"].push_back({"vectors", one([](Values v) { return triangular_solve(factor_of(v[0]), v[1]); }), {random<double>({2, 3, 3}, 4), random<double>({2, 3}, 5)}, second});
  t["triangular_solve"].push_back({"beyond one block", one([](Values v) { return triangular_solve(factor_of(0.1 * v[0]), v[1], true); }), {random<double>({70, 70}, 4), random<double>({70, 2}, 5)}, {.order = 1}});
  return t;
}

TEST_CASE("derivatives of Cholesky factors and triangular solves hold to the third order") {
  for (const auto& row : samples::linear_algebra_rows()) {
    CAPTURE(std::string(row.first));
    samples::check_rows(row.second);
  }
}

TEST_CASE_TEMPLATE("the Cholesky factor is that of a loop at any size, with zeros above the diagonal", T, float, double) {
  for (const Index n : {0, 1, 2, 3, 33, 63, 64, 65, 128, 200}) {
    CAPTURE(n);
    const Array<T> a = positive<T>(n), l = apply([](Var v) { return cholesky(v); }, a);
    const std::vector<long double> exact = factor(a.data(), n);
    double worst = 0;
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < n; ++j) {
        if (j > i) REQUIRE(samples::same_bits(l.data()[i * n + j], T(0)));
        worst = std::max(worst, static_cast<double>(std::abs(l.data()[i * n + j] - exact[static_cast<std::size_t>(i * n + j)])));
      }
    CHECK(worst <= 8 * eps<T>);
  }
  const Array<T> batch = positive<T>(6, 5, 7).reshaped({2, 3, 5, 5}), l = apply([](Var v) { return cholesky(v); }, batch);
  for (Index m = 0; m < 6; ++m) {
    const Array<T> one_matrix = apply([](Var v) { return cholesky(v); }, batch.reshaped({6, 5, 5}).rows(m, 1).reshaped({5, 5}));
    CHECK(samples::same_bits(one_matrix, l.reshaped({6, 5, 5}).rows(m, 1).reshaped({5, 5})));
  }
}

TEST_CASE_TEMPLATE("of a matrix that is not symmetric the factor is that of its symmetric part", T, float, double) {
  const Array<T> a({2, 2}, {4, 1, 3, 5}), symmetric({2, 2}, {4, 2, 2, 5});
  CHECK(apply([](Var v) { return cholesky(v); }, a) == apply([](Var v) { return cholesky(v); }, symmetric));
  CHECK(apply([](Var v) { return cholesky(v); }, a) == Array<T>({2, 2}, {2, 0, 1, 2}));
}

TEST_CASE_TEMPLATE("triangular solves are those of loops, and what lies above the diagonal is not read", T, float, double) {
  for (const Index n : {0, 1, 2, 33, 64, 65, 150})
    for (const Index k : {0, 1, 2, 7, 300}) {
      CAPTURE(n);
      CAPTURE(k);
      Array<T> l = random<T>({n, n}, 8);
      for (Index i = 0; i < n; ++i)
        for (Index j = 0; j < n; ++j)
          if (j > i) l.data()[i * n + j] = static_cast<T>(not_a_number);
          else l.data()[i * n + j] = i == j ? (i % 2 ? T(2) : T(-1.5)) : l.data()[i * n + j] / static_cast<T>(n);
      const Array<T> b = random<T>({n, k}, 9);
      for (const bool transposed : {false, true}) {
        const Array<T> x = run1<T>([=](Values v) { return triangular_solve(v[0], v[1], transposed); }, {l, b});
        REQUIRE(x.shape() == b.shape());
        double worst = 0;
        for (Index c = 0; c < k; ++c) {
          std::vector<long double> y(static_cast<std::size_t>(n));
          for (Index s = 0; s < n; ++s) {
            const Index i = transposed ? n - 1 - s : s;
            long double sum = b.data()[i * k + c];
            for (Index j = transposed ? i + 1 : 0; j < (transposed ? n : i); ++j) sum -= static_cast<long double>(l.data()[transposed ? j * n + i : i * n + j]) * y[static_cast<std::size_t>(j)];
            y[static_cast<std::size_t>(i)] = sum / l.data()[i * n + i];
            worst = std::max(worst, static_cast<double>(std::abs(x.data()[i * k + c] - y[static_cast<std::size_t>(i)])));
          }
        }
        CHECK(worst <= 32 * eps<T>);
      }
    }
  const Array<T> l({2, 2}, {2, 0, 1, 4});
  const Array<T> vectors = run1<T>([](Values v) { return triangular_solve(v[0], v[1]); }, {l, Array<T>({2}, {2, 9})});
  CHECK(vectors == Array<T>({2}, {1, 2}));
  CHECK(run1<T>([](Values v) { return triangular_solve(v[0], v[1], true); }, {l, Array<T>({2}, {4, 8})}) == Array<T>({2}, {1, 2}));
  CHECK(run1<T>([&](Values v) { return triangular_solve(constant(l), v[0]); }, {Array<T>({2}, {2, 9})}) == vectors);
  CHECK(run1<T>([](Values v) { return triangular_solve(v[0], constant(Array<T>({2}, {2, 9}))); }, {l}) == vectors);
}

TEST_CASE_TEMPLATE("positive systems are solved, and the logarithm of their determinant is right", T, float, double) {
  for (const Index n : {0, 1, 2, 33, 100}) {
    CAPTURE(n);
    const Array<T> a = positive<T>(n), b = random<T>({n, 3}, 10);
    const Array<T> x = run1<T>([](Values v) { return solve_positive(v[0], v[1]); }, {a, b}), back = run1<T>([](Values v) { return dot(v[0], v[1]); }, {a, x});
    CHECK(difference(back, b) <= 64 * eps<T>);
    long double logdet = 0;
    const std::vector<long double> l = factor(a.data(), n);
    for (Index i = 0; i < n; ++i) logdet += 2 * std::log(l[static_cast<std::size_t>(i * n + i)]);
    const Array<T> came = apply([](Var v) { return logdet_positive(v); }, a);
    REQUIRE(came.shape() == Shape{});
    CHECK(std::abs(came.item() - logdet) <= 16 * eps<T> * (1 + static_cast<double>(n)) / 4);
  }
  CHECK(apply([](Var v) { return logdet_positive(v); }, positive<T>(3, 4)).shape() == Shape{3});
  CHECK(run1<T>([](Values v) { return solve_positive(v[0], v[1]); }, {Array<T>({1, 1}, {4}), Array<T>({1}, {2})}) == Array<T>({1}, {.5}));
  CHECK(run1<T>([](Values v) { return solve_positive(constant(Array<T>({1, 1}, {4})), v[0]); }, {Array<T>({1}, {2})}) == Array<T>({1}, {.5}));
  // 600 orders of magnitude below the smallest double
  if (std::same_as<T, double>) CHECK(apply([](Var v) { return logdet_positive(v); }, apply([](Var v) { return 1e-300 * v; }, Array<T>({2, 2}, {1, 0, 0, 1}))).item() == doctest::Approx(-600 * std::log(10.0)));
}

TEST_CASE("the gradient of the logarithm of a determinant is the inverse, and its Hessian that of the inverse") {
  for (const Index n : {1, 2, 33}) {
    CAPTURE(n);
    const Array<double> a = positive<double>(n), g = grad([](Var v) { return logdet_positive(v); }, a);
    const std::vector<long double> inv = inverse(a);
    double worst = 0;
    for (Index i = 0; i < n * n; ++i) worst = std::max(worst, static_cast<double>(std::abs(g.data()[i] - inv[static_cast<std::size_t>(i)])));
    CHECK(worst <= 64 * eps<double>);
    Array<double> u = positive<double>(1, n, 9).reshaped({n, n});
    const Array<double> h = hvp([](Var v) { return logdet_positive(v); }, a, u);  // -A^-1 U A^-1
    const Array<double> back = run1<double>([](Values v) { return dot(dot(v[0], v[1]), v[0]); }, {a, h});
    CHECK(difference(back, run1<double>([](Values v) { return -v[0]; }, {u})) <= 256 * eps<double>);
  }
}

TEST_CASE("derivatives of systems, determinants and diagonals hold to the third order") {
  const auto expect = [](auto f, const Arrays<double>& x, DerivativeCheck check) {
    for (const std::string& failure : check_derivatives(one(f), x, check)) FAIL_CHECK(failure);
  };
  for (const Shape& s : {Shape{0, 0}, {1, 1}, {3, 3}, {2, 2, 2}}) {
    CAPTURE(str(s));
    expect([](Values v) { return logdet_positive(gram(v[0])); }, {random<double>(s, 11)}, {.order = s.size() > 8 ? 2 : 3});
    expect([](Values v) { return solve_positive(gram(v[0]), v[1]); }, {random<double>(s, 11), random<double>(s, 12)}, {.order = s.size() > 1 ? 2 : 3});
    expect([](Values v) { return square(diagonal(v[0])); }, {random<double>(s, 11)}, third);
  }
  CHECK(apply([](Var v) { return diagonal(v); }, Array<double>({2, 2, 2}, {1, 2, 3, 4, 5, 6, 7, 8})) == Array<double>({2, 2}, {1, 4, 5, 8}));
  CHECK(apply([](Var v) { return diagonal(v); }, Array<double>({3, 0, 0})).shape() == Shape{3, 0});
  CHECK(apply([](Var v) { return lower_triangle(v, 2); }, Array<double>({2, 2}, {1, 2, 3, 4})) == Array<double>({2, 2}, {2, 0, 3, 8}));
}

TEST_CASE_TEMPLATE("factors and solves have the same bits for any number of threads, alone and in a batch", T, float, double) {
  const Function f = [](Values v) -> std::vector<Var> { return {cholesky(v[0]), solve_positive(v[0], v[1])}; };
  CHECK(samples::same_for_any_threads<T>(f, {positive<T>(300), random<T>({300, 600}, 13)}));
  CHECK(samples::same_for_any_threads<T>(f, {positive<T>(40, 20), random<T>({40, 20, 3}, 13)}));
  const Array<T> a = positive<T>(150);
  Buffer<T> place(150 * 150);
  std::copy(a.begin(), a.end(), place.begin());
  Array<T> l(a.shape());
  CHECK(cholesky(150, place.data(), place.data()) == 150);  // in place
  CHECK(cholesky(150, a.data(), l.data()) == 150);
  CHECK(std::equal(l.begin(), l.end(), place.begin()));
}

TEST_CASE_TEMPLATE("a matrix that is not positive definite is an error that names the pivot", T, float, double) {
  auto on = [](const Array<T>& a) { return apply([](Var v) { return cholesky(v); }, a); };
  CHECK_THROWS_WITH_AS(on(Array<T>({2, 2}, {4, 2, 2, -0.5})), "cholesky: pivot 1 of 2 rows is -1.5, and must be positive and finite; the matrix is not positive definite, or a multiple of the identity must be added to it",
                       NumericalError);
  CHECK_THROWS_WITH_AS(on(Array<T>({2, 2}, {1, 1, 1, 1})), doctest::Contains("cholesky: pivot 1 of 2 rows is 0, and"), NumericalError);
  CHECK_THROWS_WITH_AS(on(Array<T>({1, 1}, {static_cast<T>(not_a_number)})), doctest::Contains("cholesky: pivot 0 of 1 rows is nan"), NumericalError);
  CHECK_THROWS_WITH_AS(on(Array<T>({1, 1}, {std::numeric_limits<T>::infinity()})), doctest::Contains("cholesky: pivot 0 of 1 rows is inf"), NumericalError);
  CHECK_THROWS_WITH_AS(on(Array<T>({3, 1, 1}, {1, 1, -2})), doctest::Contains("cholesky: pivot 0 of matrix 2 of 1 rows is -2"), NumericalError);
  Array<T> large = positive<T>(130);
  large.data()[100 * 130 + 100] = -7;
  CHECK_THROWS_WITH_AS(on(large), doctest::Contains("cholesky: pivot 100 of 130 rows is -7"), NumericalError);
  auto solve = [](const Array<T>& l) { return run1<T>([](Values v) { return triangular_solve(v[0], v[1]); }, {l, Array<T>(l.shape(), T(1))}); };
  CHECK_THROWS_WITH_AS(solve(Array<T>({2, 2}, {1, 0, 2, 0})), "triangular_solve: entry 1 on the diagonal of 2 rows is 0; it must be finite and not 0", NumericalError);
  CHECK_THROWS_WITH_AS(solve(Array<T>({2, 1, 1}, {1, static_cast<T>(not_a_number)})), "triangular_solve: entry 0 on the diagonal of matrix 1 of 1 rows is nan; it must be finite and not 0", NumericalError);
}

TEST_CASE("shapes that are no matrices to factor or to solve with are errors") {
  auto on = [](auto f, Shape a, Shape b = {}) { return run1<double>([&](Values v) { return f(v[0], v[1]); }, {Array<double>(a), Array<double>(b)}); };
  CHECK_THROWS_WITH_AS(on([](Var a, Var) { return cholesky(a); }, {2, 3}), "cholesky: square matrices [..,n,n] are needed, got [2,3]", ShapeError);
  CHECK_THROWS_WITH_AS(on([](Var a, Var) { return cholesky(a); }, {3}), "cholesky: square matrices [..,n,n] are needed, got [3]", ShapeError);
  CHECK_THROWS_WITH_AS(on([](Var a, Var) { return logdet_positive(a); }, {3, 2}), "cholesky: square matrices [..,n,n] are needed, got [3,2]", ShapeError);
  CHECK_THROWS_WITH_AS(on([](Var a, Var) { return diagonal(a); }, {2, 3}), "diagonal: square matrices [..,n,n] are needed, got [2,3]", ShapeError);
  CHECK_THROWS_WITH_AS(on([](Var a, Var) { return lower_triangle(a); }, {2, 3}), "lower_triangle: square matrices [..,n,n] are needed, got [2,3]", ShapeError);
  auto solve = [](Var l, Var b) { return triangular_solve(l, b); };
  CHECK_THROWS_WITH_AS(on(solve, {2, 3}, {2, 3}), "triangular_solve: square matrices [..,n,n] are needed, got [2,3]", ShapeError);
  CHECK_THROWS_WITH_AS(on(solve, {2, 2}, {3, 2}), "triangular_solve: a factor [..,n,n] and right sides [..,n,k] or [..,n] are needed, with equal leading axes; got [2,2] and [3,2]", ShapeError);
  CHECK_THROWS_WITH_AS(on(solve, {2, 2}, {3}), doctest::Contains("got [2,2] and [3,1]"), ShapeError);
  CHECK_THROWS_WITH_AS(on(solve, {4, 2, 2}, {3, 2, 2}), doctest::Contains("got [4,2,2] and [3,2,2]"), ShapeError);
}
