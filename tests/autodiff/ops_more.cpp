// erfc, expm1, log1p; choices between values; cumulative sums, minima, variances, layer norm; contractions over chosen axes. Values against loops in long double, derivatives
// to the third order, and every error.
#include "linnet/tests/autodiff/rows.h"

#include <algorithm>
#include <numeric>

using namespace linnet::autodiff;
using samples::Arrays, samples::difference, samples::eps, samples::first, samples::infinity, samples::kinked, samples::one, samples::random, samples::Row, samples::Table, samples::run1,
    samples::second, samples::third, samples::ulps, samples::Values;

namespace {

const double not_a_number = std::numeric_limits<double>::quiet_NaN();

template <class T> Array<T> of(std::initializer_list<double> values) {
  Array<T> a({static_cast<Index>(values.size())});
  std::transform(values.begin(), values.end(), a.begin(), [](double v) { return static_cast<T>(v); });
  return a;
}
template <class T, class F> Array<T> apply(const F& f, const Array<T>& x) { return compile(f, x)(x); }
template <class T, class F> Array<T> slope(const F& f, const Array<T>& x) { return grad([&](Var v) { return sum(f(v)); }, x); }

struct Unary {
  const char* name;
  Var (*f)(const Var&);
  long double (*exact)(long double);
  double ulps_double, ulps_float;
  std::vector<std::pair<double, double>> ranges;
};
const std::vector<Unary> unary = {
    {"erfc", erfc, std::erfc, 1.5, 6, {{-6, 2}, {0.4, 0.6}, {1, 1.5}, {2, 9}, {9, 26}}},
    {"expm1", expm1, std::expm1, 1.5, 6, {{-40, 80}, {-1, 1}, {-1e-3, 1e-3}, {-1e-20, 1e-20}}},
    {"log1p", log1p, std::log1p, 1.5, 6, {{-0.999, 80}, {-.5, .5}, {-1e-3, 1e-3}, {-1e-20, 1e-20}, {1e6, 1e30}}},
};
template <class T> std::vector<T> edges() {
  const T big = std::numeric_limits<T>::max(), small = std::numeric_limits<T>::min(), inf = std::numeric_limits<T>::infinity();
  return {T(0), -T(0), T(1), T(-1), T(.5), T(-.5), T(2), T(-2), T(30), T(-30), T(1000), T(-1000), std::numeric_limits<T>::epsilon(), small, -small, std::numeric_limits<T>::denorm_min(), big, -big, inf, -inf, T(not_a_number)};
}

}  // namespace

Table samples::more_rows() {
  Table t;
  const std::pair<const char*, std::pair<double, double>> reach[] = {{"erfc", {-2, 3}}, {"expm1", {-2, 2}}, {"log1p", {-.5, 3}}};
  for (const auto& [name, range] : reach)
    for (const Unary& u : unary)
      if (std::string_view(u.name) == name)
        for (const Shape& s : {Shape{}, {1}, {7}, {17}, {0}, {2, 0, 3}, {3, 1, 2}, {2100}})
          t[name].push_back({str(s), one([f = u.f](Values v) { return f(v[0]); }), {random<double>(s, 3, range.first, range.second)}, {.order = s.size() > 1000 ? 1 : s.size() > 10 || s.size() == 0 ? 2 : 3}});
  for (const bool reverse : {false, true}) {
    for (const Index axis : {0, 1, -1})
      for (const Shape& s : {Shape{3, 4, 2}, {1, 1, 1}, {2, 0, 3}, {0, 2, 2}})
        t["cumsum"].push_back({str(s), one([=](Values v) { return square(cumsum(v[0], axis, reverse)); }), {random<double>(s, 5)}, second});
    t["cumsum"].push_back({"long", one([=](Values v) { return cumsum(v[0], 0, reverse); }), {random<double>({2100}, 5)}, first});
    t["cumsum"].push_back({"beyond one block of columns", one([=](Values v) { return cumsum(v[0], 0, reverse); }), {random<double>({7, 150}, 5)}, first});
    t["cumsum"].push_back({"of a smooth function", one([=](Values v) { return exp(cumsum(v[0] * v[0], 0, reverse)); }), {random<double>({5}, 5)}, third});
  }
  return t;
}

TEST_CASE("derivatives of erfc, expm1, log1p and cumsum hold to the third order") {
  for (const auto& row : samples::more_rows()) {
    CAPTURE(std::string(row.first));
    samples::check_rows(row.second);
  }
}

TEST_CASE_TEMPLATE("erfc, expm1 and log1p are right to a few units in the last place, near zero and in the tail", T, float, double) {
  for (const Unary& u : unary)
    for (const auto& range : u.ranges)
      for (const Index n : {1, 17, 5000}) {
        CAPTURE(std::string(u.name));
        CAPTURE(range.first);
        CAPTURE(n);
        const Array<T> x = random<T>({n}, 21, range.first, range.second), y = apply(u.f, x);
        double worst = 0;
        for (Index i = 0; i < n; ++i)
          if (const long double exact = u.exact(x.data()[i]); std::abs(exact) >= std::numeric_limits<T>::min()) worst = std::max(worst, ulps(y.data()[i], exact));
        CHECK(worst <= (std::same_as<T, double> ? u.ulps_double : u.ulps_float));
      }
}

TEST_CASE_TEMPLATE("erfc, expm1 and log1p have the values of the mathematics at zeros, infinities and NaN", T, float, double) {
  for (const Unary& u : unary)
    for (const T x : edges<T>()) {
      CAPTURE(std::string(u.name));
      CAPTURE(x);
      const T alone = apply(u.f, Array<T>({1}, x)).item(), among = apply(u.f, Array<T>({40}, x)).data()[23];
      CHECK((samples::same_bits(alone, among) || std::isnan(alone)));
      CHECK(ulps(alone, u.exact(x)) <= 2);
    }
}

TEST_CASE_TEMPLATE("the maximum and the minimum of two values are those of the numbers, and a NaN stays", T, float, double) {
  const std::vector<T> at = edges<T>();
  for (const T p : at)
    for (const T q : at) {
      CAPTURE(p);
      CAPTURE(q);
      const Arrays<T> in{Array<T>({1}, p), Array<T>({1}, q)};
      const T high = run1<T>([](Values v) { return maximum(v[0], v[1]); }, in).item(), low = run1<T>([](Values v) { return minimum(v[0], v[1]); }, in).item();
      if (std::isnan(p) || std::isnan(q)) {
        CHECK(std::isnan(high));
        CHECK(std::isnan(low));
        continue;
      }
      if (p == std::numeric_limits<T>::denorm_min() && q == p) continue;  // half of it is no number
      CHECK(high == std::max(p, q));
      CHECK(low == std::min(p, q));
      const T beside = run1<T>([q](Values v) { return maximum(v[0], static_cast<double>(q)); }, {in[0]}).item(), before = run1<T>([p](Values v) { return minimum(static_cast<double>(p), v[0]); }, {in[1]}).item();
      CHECK(beside == std::max(p, q));
      CHECK(before == std::min(p, q));
    }
  const Array<T> x = of<T>({1, 5, -2}), y = of<T>({2, 5, -3});
  CHECK(run1<T>([&](Values v) { return maximum(v[0], constant(y)); }, {x}) == of<T>({2, 5, -2}));
  CHECK(run1<T>([](Values v) { return minimum(v[0], v[1]); }, {Array<T>({2, 1}, {1, 3}), of<T>({2, 0})}) == Array<T>({2, 2}, {1, 0, 2, 0}));
}

TEST_CASE_TEMPLATE("equal values share the slope of their maximum, and a clipped value has none outside", T, float, double) {
  const Array<T> x = of<T>({1, 2, 3}), y = of<T>({2, 2, 2});
  const Arrays<T> g = samples::run<T>([](Values v) { return std::vector<Var>{grad([&](Var a) { return sum(maximum(a, v[1])); }, v[0]), grad([&](Var b) { return sum(minimum(v[0], b)); }, v[1])}; }, {x, y});
  CHECK(g[0] == of<T>({0, .5, 1}));
  CHECK(g[1] == of<T>({0, .5, 1}));
  auto clipped = [](Var v) { return clip(v, -1, 2); };
  const Array<T> z = of<T>({-infinity, -3, -1, 0, 2, 7, infinity});
  CHECK(apply(clipped, z) == of<T>({-1, -1, -1, 0, 2, 2, 2}));
  CHECK(slope(clipped, z) == of<T>({0, 0, .5, 1, .5, 0, 0}));
  CHECK(std::isnan(apply(clipped, of<T>({not_a_number})).item()));
  CHECK(apply([](Var v) { return clip(v, v - 1.0, infinity); }, x) == x);
  CHECK(apply([](Var v) { return clip(v, 2, 2); }, x) == y);
  CHECK(run1<T>([](Values v) { return clip(v[0], v[1], v[1] + 0.5); }, {of<T>({0, 1, 2}), of<T>({1, .75, 1})}) == of<T>({1, 1, 1.5}));
  for (const double value : {1.5, -1.5}) {
    CAPTURE(value);
    for (const auto& failure : check_derivatives([](Var v) { return maximum(v * v, minimum(v, 0.5)) * clip(v, -1, 1); }, Array<double>({5}, value), {.order = 3})) FAIL_CHECK(failure);
  }
  CHECK_THROWS_WITH_AS(apply([](Var v) { return clip(v, 2, 1); }, x), "clip: the bounds are 2 and 1; the lower one must not be above the upper one, and neither may be NaN", NumericalError);
  CHECK_THROWS_WITH_AS(apply([](Var v) { return clip(v, not_a_number, 1); }, x), doctest::Contains("clip: the bounds are nan and 1"), NumericalError);
}

TEST_CASE_TEMPLATE("where of two functions keeps the NaN of the branch not taken out of every derivative", T, float, double) {
  const Array<T> x = of<T>({-4, -1, 0, 1, 4});
  auto root = [](Var v) { return where(v > 0.0, [](Var u) { return sqrt(u); }, [](Var u) { return 0.0 * u; }, v, 1); };
  auto logarithm = [](Var v) { return where(v > 0.0, [](Var u) { return log(u); }, [](Var u) { return -log(1.0 - u); }, v, 0.5); };
  auto halves = [](Var v) { return where(v > 0.0, [](Var u) { return sqrt(u); }, [](Var u) { return sqrt(1.0 - u); }, v, 1, -1); };  // neither is defined where the other one is
  auto quotient = [](Var v) { return where(abs(v), [](Var u) { return sin(u) / u; }, [](Var u) { return 1.0 - square(u) / 6.0; }, v, 1); };
  const double l5 = std::log(5.0), l2 = std::log(2.0);
  CHECK(difference(apply(root, x), of<T>({0, 0, 0, 1, 2})) == 0);
  CHECK(difference(apply(root, of<T>({1, 4})), apply([](Var v) { return sqrt(v); }, of<T>({1, 4}))) == 0);  // the branch taken is that function, in every bit
  CHECK(difference(slope(root, x), of<T>({0, 0, 0, .5, .25})) <= eps<T>);
  CHECK(difference(hvp([&](Var v) { return sum(root(v)); }, x, of<T>({1, 1, 1, 1, 1})), of<T>({0, 0, 0, -.25, -1 / 32.})) <= eps<T>);
  CHECK(difference(apply(logarithm, x), of<T>({-l5, -l2, 0, 0, std::log(4.0)})) <= 2 * eps<T>);
  CHECK(difference(slope(logarithm, x), of<T>({.2, .5, 1, 1, .25})) <= 2 * eps<T>);
  CHECK(difference(hvp([&](Var v) { return sum(logarithm(v)); }, x, of<T>({1, 1, 1, 1, 1})), of<T>({.04, .25, 1, -1, -1 / 16.})) <= 2 * eps<T>);
  CHECK(difference(slope(halves, x), of<T>({-.5 / std::sqrt(5.0), -.5 / std::sqrt(2.0), -.5, .5, .25})) <= 2 * eps<T>);
  CHECK(difference(apply(quotient, of<T>({0, 1})), of<T>({1, std::sin(1.0)})) <= 2 * eps<T>);
  CHECK(difference(hvp([&](Var v) { return sum(quotient(v)); }, of<T>({0}), of<T>({1})), of<T>({-1 / 3.})) <= 2 * eps<T>);
}

TEST_CASE_TEMPLATE("a cumulative sum is that of a loop, from either end, over any axis", T, float, double) {
  for (const Shape& s : {Shape{7}, {3, 4, 5}, {2, 1, 130}, {65, 70}, {0, 3}, {1}, {2, 0, 2}})
    for (Index axis = 0; axis < s.rank(); ++axis)
      for (const bool reverse : {false, true}) {
        CAPTURE(str(s));
        CAPTURE(axis);
        const Array<T> x = random<T>(s, 31), y = apply([&](Var v) { return cumsum(v, axis - s.rank(), reverse); }, x);
        REQUIRE(y.shape() == s);
        const Index n = s[axis], inner = s.size(axis + 1, s.rank());
        double worst = 0;
        for (Index i = 0; i < x.size(); ++i) {
          long double expected = 0;
          const Index at = i / inner % n;
          for (Index k = reverse ? at : 0; k <= (reverse ? n - 1 : at); ++k) expected += x.data()[i + (k - at) * inner];
          worst = std::max(worst, static_cast<double>(std::abs(y.data()[i] - expected)));
        }
        CHECK(worst <= eps<T> * static_cast<double>(4 * n));
      }
  CHECK(samples::same_for_any_threads<T>(one([](Values v) { return cumsum(v[0], 1); }), {random<T>({40, 50, 60}, 32)}));
  CHECK_THROWS_WITH_AS(apply([](Var v) { return cumsum(v, 1); }, Array<T>({3})), "cumsum: there is no axis 1 in [3], which has rank 1", ShapeError);
}

TEST_CASE_TEMPLATE("minima, variances and layer norms are those of loops", T, float, double) {
  const Array<T> x = random<T>({4, 6}, 33);
  const Array<T> low = apply([](Var v) { return min(v, {1}); }, x), spread = apply([](Var v) { return variance(v, {-1}, true); }, x), normal = apply([](Var v) { return layer_norm(v); }, x);
  REQUIRE(low.shape() == Shape{4});
  REQUIRE(spread.shape() == Shape{4, 1});
  for (Index i = 0; i < 4; ++i) {
    const T* row = x.data() + 6 * i;
    const long double mean = std::accumulate(row, row + 6, 0.0l) / 6, square = std::accumulate(row, row + 6, 0.0l, [&](long double s, T v) { return s + (v - mean) * (v - mean); }) / 6;
    CHECK(low.data()[i] == *std::min_element(row, row + 6));
    CHECK(std::abs(spread.data()[i] - square) <= 4 * eps<T>);
    for (Index j = 0; j < 6; ++j) CHECK(std::abs(normal.data()[6 * i + j] - (row[j] - mean) / std::sqrt(square + 1e-12l)) <= 16 * eps<T>);
  }
  CHECK(apply([](Var v) { return min(v); }, x).item() == *std::min_element(x.begin(), x.end()));
  CHECK(apply([](Var v) { return min(v, {0, 1}, true); }, x).shape() == Shape{1, 1});
  CHECK(std::isnan(apply([](Var v) { return min(v); }, of<T>({1, not_a_number, 2})).item()));
  CHECK(slope([](Var v) { return min(v); }, of<T>({2, 1, 1})) == of<T>({0, .5, .5}));
  CHECK(apply([](Var v) { return variance(v); }, of<T>({1000001, 1000003})).item() == 1);  // no difference of large squares
  CHECK(apply([](Var v) { return variance(v); }, of<T>({5})).item() == 0);
  CHECK(apply([](Var v) { return variance(v, {0}); }, x).shape() == Shape{6});
  const Array<T> constant_row = apply([](Var v) { return layer_norm(v); }, of<T>({3, 3, 3}));
  CHECK(constant_row == of<T>({0, 0, 0}));
  CHECK(difference(slope([](Var v) { return square(layer_norm(v, 0, 0.5)); }, of<T>({3, 3, 3})), of<T>({0, 0, 0})) == 0);
  CHECK(difference(apply([](Var v) { return layer_norm(v, {0, 1}); }, x), apply([](Var v) { return reshape(layer_norm(reshape(v, {24})), {4, 6}); }, x)) <= 8 * eps<T>);
  CHECK(difference(apply([](Var v) { return layer_norm(v, 0); }, x), apply([](Var v) { return transpose(layer_norm(transpose(v), -1)); }, x)) <= 8 * eps<T>);
  CHECK(apply([](Var v) { return layer_norm(v); }, Array<T>({0, 3})).shape() == Shape{0, 3});
}

TEST_CASE("derivatives of minima, variances and layer norms hold to the third order") {
  const Array<double> x = random<double>({3, 5}, 34);
  const auto expect = [&](auto f, DerivativeCheck check) {
    for (const std::string& failure : check_derivatives(f, x, check)) FAIL_CHECK(failure);
  };
  expect([](Var v) { return layer_norm(v); }, third);
  expect([](Var v) { return layer_norm(v, {0, 1}, 0.1); }, second);
  expect([](Var v) { return variance(v, {0}); }, third);
  expect([](Var v) { return min(v, {1}); }, kinked);
}

TEST_CASE("reductions of nothing and over axes that are not there are errors") {
  auto on = [](Shape s, auto f) { return apply(f, Array<double>(s)); };
  CHECK_THROWS_WITH_AS(on({2, 0}, [](Var v) { return min(v, {-1}); }), "min: axis 1 of [2,0] is empty, and nothing has no minimum", ShapeError);
  CHECK_THROWS_WITH_AS(on({2, 3}, [](Var v) { return min(v, {2}); }), "min: there is no axis 2 in [2,3], which has rank 2", ShapeError);
  CHECK_THROWS_WITH_AS(on({2, 3}, [](Var v) { return min(v, {1, -1}); }), "min: axis 1 of [2,3] is named twice", ShapeError);
  CHECK_THROWS_WITH_AS(on({0, 3}, [](Var v) { return variance(v); }), "variance: [0,3] has no values, and nothing has no mean", ShapeError);
  CHECK_THROWS_WITH_AS(on({3}, [](Var v) { return variance(v, {1}); }), "variance: there is no axis 1 in [3], which has rank 1", ShapeError);
  CHECK_THROWS_WITH_AS(on({3}, [](Var v) { return layer_norm(v, 1); }), "layer_norm: there is no axis 1 in [3], which has rank 1", ShapeError);
  CHECK_THROWS_WITH_AS(on({3}, [](Var v) { return layer_norm(v, std::vector<Index>{}); }), "layer_norm: no axes came for [3]; name those to normalize over", ShapeError);
  for (const double bad : {0.0, -1.0, infinity, not_a_number})
    CHECK_THROWS_WITH_AS(on({3}, [&](Var v) { return layer_norm(v, 0, bad); }), doctest::Contains("it must be finite and above 0, so that a constant row has a derivative"), NumericalError);
}

namespace {

// The contraction by its definition: every index of the result and of the contracted axes.
template <class T> Array<T> contracted(const Array<T>& a, const std::vector<Index>& axes_a, const Array<T>& b, const std::vector<Index>& axes_b, const std::vector<Index>& batch_a, const std::vector<Index>& batch_b) {
  auto free_of = [](const Shape& s, const std::vector<Index>& x, const std::vector<Index>& y) {
    std::vector<Index> free;
    for (Index i = 0; i < s.rank(); ++i)
      if (std::find(x.begin(), x.end(), i) == x.end() && std::find(y.begin(), y.end(), i) == y.end()) free.push_back(i);
    return free;
  };
  const std::vector<Index> free_a = free_of(a.shape(), axes_a, batch_a), free_b = free_of(b.shape(), axes_b, batch_b);
  std::vector<Index> out, inner;
  for (const Index i : batch_a) out.push_back(a.shape()[i]);
  for (const Index i : free_a) out.push_back(a.shape()[i]);
  for (const Index i : free_b) out.push_back(b.shape()[i]);
  for (const Index i : axes_a) inner.push_back(a.shape()[i]);
  const Shape result{std::span<const Index>(out)}, sums{std::span<const Index>(inner)};
  auto stride = [](const Shape& s, Index axis) { return s.size(axis + 1, s.rank()); };
  Array<T> c(result);
  for (Index i = 0; i < c.size(); ++i) {
    Index p = 0, q = 0;
    for (std::size_t k = 0; k < out.size(); ++k) {
      const auto axis = static_cast<Index>(k);
      const Index at = i / stride(result, axis) % out[k];
      if (k < batch_a.size()) { p += at * stride(a.shape(), batch_a[k]); q += at * stride(b.shape(), batch_b[k]); }
      else if (k < batch_a.size() + free_a.size()) p += at * stride(a.shape(), free_a[k - batch_a.size()]);
      else q += at * stride(b.shape(), free_b[k - batch_a.size() - free_a.size()]);
    }
    long double s = 0;
    for (Index j = 0; j < sums.size(); ++j) {
      Index u = p, v = q;
      for (std::size_t k = 0; k < inner.size(); ++k) {
        const Index at = j / stride(sums, static_cast<Index>(k)) % inner[k];
        u += at * stride(a.shape(), axes_a[k]);
        v += at * stride(b.shape(), axes_b[k]);
      }
      s += static_cast<long double>(a.data()[u]) * b.data()[v];
    }
    c.data()[i] = static_cast<T>(s);
  }
  return c;
}
struct Contraction {
  Shape a, b;
  std::vector<Index> axes_a, axes_b, batch_a, batch_b;
};
const std::vector<Contraction> contractions = {
    {{3, 4}, {4, 5}, {1}, {0}, {}, {}},          {{3, 4}, {5, 4}, {1}, {1}, {}, {}},          {{4, 3}, {4, 5}, {0}, {0}, {}, {}},          {{4, 3}, {5, 4}, {0}, {1}, {}, {}},
    {{2, 3, 4}, {4, 3, 5}, {1, 2}, {1, 0}, {}, {}}, {{2, 3, 4}, {3, 2, 5}, {0, 1}, {1, 0}, {}, {}}, {{2, 3, 4}, {2, 4, 5}, {2}, {1}, {0}, {0}}, {{3, 2, 4}, {5, 4, 2}, {2}, {1}, {1}, {2}},
    {{2, 3, 2, 4}, {4, 3, 2}, {3}, {0}, {2, 1}, {2, 1}}, {{3}, {4}, {}, {}, {}, {}},          {{3, 2}, {3}, {0}, {0}, {}, {}},            {{5}, {5}, {0}, {0}, {}, {}},
    {{4, 3}, {4, 3}, {}, {}, {0, 1}, {0, 1}},    {{4, 3}, {3, 4}, {0, 1}, {1, 0}, {}, {}},    {{2, 0}, {0, 3}, {1}, {0}, {}, {}},          {{0, 2}, {2, 3}, {1}, {0}, {}, {}},
    {{}, {3}, {}, {}, {}, {}},                   {{6, 1, 2}, {2, 6}, {2}, {0}, {0}, {1}},     {{2, 3, 4, 5}, {5, 4, 2, 3}, {1, 3}, {3, 0}, {0}, {2}},
};

}  // namespace

TEST_CASE_TEMPLATE("contract sums products over the chosen axes, with batch axes in front", T, float, double) {
  for (const Contraction& k : contractions) {
    CAPTURE(str(k.a) + str(k.b));
    const Array<T> a = random<T>(k.a, 41), b = random<T>(k.b, 42);
    const Array<T> c = run1<T>([&](Values v) { return contract(v[0], k.axes_a, v[1], k.axes_b, k.batch_a, k.batch_b); }, {a, b});
    CHECK(difference(c, contracted(a, k.axes_a, b, k.axes_b, k.batch_a, k.batch_b)) <= 16 * eps<T>);
    CHECK(samples::same_bits(c, run1<T>([&](Values v) { return contract(v[0], k.axes_a, constant(b), k.axes_b, k.batch_a, k.batch_b); }, {a})));
  }
  const Array<T> a = random<T>({2, 3, 4}, 43), b = random<T>({3, 4}, 44);
  CHECK(difference(run1<T>([](Values v) { return contract(v[0], {-1, -2}, v[1], {-1, -2}); }, {a, b}), contracted(a, {2, 1}, b, {1, 0}, {}, {})) <= 16 * eps<T>);
}

TEST_CASE("derivatives of contractions hold to the third order") {
  for (const Contraction& k : contractions) {
    CAPTURE(str(k.a) + str(k.b));
    const Function f = one([k](Values v) { return contract(v[0], k.axes_a, v[1], k.axes_b, k.batch_a, k.batch_b); });
    for (const std::string& failure : check_derivatives(f, {random<double>(k.a, 45), random<double>(k.b, 46)}, {.order = k.a.size() > 20 ? 2 : 3})) FAIL_CHECK(failure);
  }
}

TEST_CASE("a contraction moves an operand only where its axes lie in another order") {
  auto instructions = [](const Contraction& k) {
    std::vector<std::string> names;
    for (const Instruction& c : trace(one([&](Values v) { return contract(v[0], k.axes_a, v[1], k.axes_b, k.batch_a, k.batch_b); }), std::vector{k.a, k.b}).code) names.emplace_back(c.primitive->name);
    return names;
  };
  for (std::size_t i = 0; i < 4; ++i) CHECK(instructions(contractions[i]) == std::vector<std::string>{"dot"});
  CHECK(instructions(contractions[6]) == std::vector<std::string>{"dot"});
}

TEST_CASE("contractions of axes that do not fit are errors") {
  auto on = [](std::vector<Index> p, std::vector<Index> q, std::vector<Index> s = {}, std::vector<Index> t = {}) {
    return run1<double>([&](Values v) { return contract(v[0], p, v[1], q, s, t); }, {Array<double>({2, 3}), Array<double>({2, 4})});
  };
  CHECK_THROWS_WITH_AS(on({1}, {1}), "contract: axes [1] of [2,3] with [1] of [2,4], batch axes [] with []; as many on either side are needed, of equal extents", ShapeError);
  CHECK_THROWS_WITH_AS(on({0}, {}), doctest::Contains("contract: axes [0] of [2,3] with [] of [2,4]"), ShapeError);
  CHECK_THROWS_WITH_AS(on({}, {}, {1}, {1}), doctest::Contains("batch axes [1] with [1]"), ShapeError);
  CHECK_THROWS_WITH_AS(on({0}, {0}, {0}, {0}), "contract: axis 0 of [2,3] is named twice", ShapeError);
  CHECK_THROWS_WITH_AS(on({0}, {-2, 0}), "contract: axis 0 of [2,4] is named twice", ShapeError);
  CHECK_THROWS_WITH_AS(on({2}, {0}), "contract: there is no axis 2 in [2,3], which has rank 2", ShapeError);
}

TEST_CASE("attributes of cumulative sums, windows and solves tell themselves apart, and say what they are") {
  const Window w{{5, 3, 3, 2, 1, 1}, {6, 4, 3, 1, 1, 0}, false};
  std::vector<Attributes> all = {Cumulative{0, false}, Cumulative{0, true}, Cumulative{1, false}, Triangular{false}, Triangular{true}, w};
  for (int change = 0; change < 13; ++change) {
    Window other = w;
    WindowAxis& axis = change < 6 ? other.height : other.width;
    Index* const fields[] = {&axis.extent, &axis.places, &axis.size, &axis.stride, &axis.dilation, &axis.before};
    if (change == 12) other.circular = true;
    else ++*fields[change % 6];
    all.push_back(other);
  }
  for (std::size_t i = 0; i < all.size(); ++i)
    for (std::size_t j = 0; j < all.size(); ++j) {
      CHECK(same(all[i], all[j]) == (i == j));
      CHECK((i == j || hash(all[i]) != hash(all[j])));
    }
  CHECK(str(all[0]) == "axis 0");
  CHECK(str(all[1]) == "axis 0 from its end");
  CHECK(str(all[3]) == "");
  CHECK(str(all[4]) == "a^T");
  CHECK(str(all[5]) == "[3 of 5 by 2, dilation 1, 1 in front, 3 places; 3 of 6 by 1, dilation 1, 0 in front, 4 places]");
  CHECK(str(all.back()).ends_with("; circular]"));
}
