// Values of primitives and compositions against loops in long double, at ordinary arguments and at the edges: infinities, NaN, zeros, ties, one
// element and none. Their derivatives are checked in ops_table.cpp; here only slopes at kinks and where a NaN must not leak.
#include "linnet/tests/autodiff/samples.h"

#include <doctest/doctest.h>

#include <functional>

using namespace linnet::autodiff;
using samples::Arrays, samples::difference, samples::eps, samples::infinity, samples::random, samples::run1, samples::same_bits, samples::ulps;

namespace {

using Values = std::span<const Var>;
const double not_a_number = std::numeric_limits<double>::quiet_NaN();

struct Unary {
  const char* name;
  Var (*f)(const Var&);
  long double (*exact)(long double);
  double ulps_double, ulps_float;
  double low, high;
};
const Unary unary[] = {
    {"exp", exp, std::exp, 2, 6, -80, 80},    {"log", log, std::log, 1.5, 6, 1e-6, 1e6}, {"sqrt", sqrt, std::sqrt, .5, .5, 0, 1e6},  {"sin", sin, std::sin, 1.5, 6, -30, 30},
    {"cos", cos, std::cos, 1.5, 6, -30, 30},  {"erf", erf, std::erf, 1.5, 6, -4, 4},     {"tanh", tanh, std::tanh, 2.5, 6, -9, 9}, {"neg", [](const Var& x) { return -x; }, [](long double x) { return -x; }, 0, 0, -9, 9},
    {"scale", [](const Var& x) { return -0.75 * x; }, [](long double x) { return -0.75l * x; }, .5, .5, -9, 9},
    {"step", step, [](long double x) { return x > 0 ? 1.0l : 0.0l; }, 0, 0, -1, 1},
    {"sign", sign, [](long double x) { return std::isnan(x) ? x : x > 0 ? 1.0l : x < 0 ? -1.0l : 0.0l; }, 0, 0, -1, 1},
    {"stop_gradient", stop_gradient, [](long double x) { return x; }, 0, 0, -1, 1},
};
struct Binary {
  const char* name;
  Var (*f)(const Var&, const Var&);
  long double (*exact)(long double, long double);
  double ulps;
};
const Binary binary[] = {
    {"add", [](const Var& a, const Var& b) { return a + b; }, [](long double a, long double b) { return a + b; }, .5},
    {"sub", [](const Var& a, const Var& b) { return a - b; }, [](long double a, long double b) { return a - b; }, .5},
    {"mul", [](const Var& a, const Var& b) { return a * b; }, [](long double a, long double b) { return a * b; }, .5},
    {"div", [](const Var& a, const Var& b) { return a / b; }, [](long double a, long double b) { return a / b; }, .5},
    {"pow", pow, std::pow, 1},
    {">", [](const Var& a, const Var& b) { return a > b; }, [](long double a, long double b) { return a > b ? 1.0l : 0.0l; }, 0},
    {"<", [](const Var& a, const Var& b) { return a < b; }, [](long double a, long double b) { return a < b ? 1.0l : 0.0l; }, 0},
};

template <class T> std::vector<T> edges() {
  const T big = std::numeric_limits<T>::max(), small = std::numeric_limits<T>::min(), inf = std::numeric_limits<T>::infinity();
  return {T(0), -T(0), T(1), T(-1), T(2), T(.5), T(.49), T(.99), T(1.01), T(-1.3), T(3), T(-2), T(1000), T(-1000), std::numeric_limits<T>::epsilon(), small, big, -big, inf, -inf, T(not_a_number)};
}
template <class T> Array<T> vector(const std::vector<T>& values) { return Array<T>({static_cast<Index>(values.size())}, std::span<const T>(values)); }
template <class T> Array<T> of(std::initializer_list<double> values) {
  Array<T> a({static_cast<Index>(values.size())});
  std::transform(values.begin(), values.end(), a.begin(), [](double v) { return static_cast<T>(v); });
  return a;
}
using Map = std::function<Var(const Var&)>;
template <class T> Array<T> apply(const Map& f, const Array<T>& x) { return compile(f, x)(x); }
template <class T> Array<T> slope(const Map& f, const Array<T>& x) { return grad([&](Var v) { return sum(f(v)); }, x); }

}  // namespace

TEST_CASE_TEMPLATE("functions of one operand are right to a few units in the last place at any size", T, float, double) {
  for (const Unary& u : unary)
    for (const Index n : {0, 1, 7, 8, 9, 17, 2047, 2048, 2049, 5000}) {
      CAPTURE(std::string(u.name));
      CAPTURE(n);
      const Array<T> x = random<T>({n}, 21, u.low, u.high), y = apply(u.f, x);
      double worst = 0;
      for (Index i = 0; i < n; ++i) worst = std::max(worst, ulps(y.data()[i], u.exact(x.data()[i])));
      CHECK(worst <= (std::same_as<T, double> ? u.ulps_double : u.ulps_float));
    }
}

TEST_CASE_TEMPLATE("functions of one operand have the values of the mathematics at zeros, infinities and NaN", T, float, double) {
  for (const Unary& u : unary) {
    const bool periodic = u.f == static_cast<Var (*)(const Var&)>(sin) || u.f == static_cast<Var (*)(const Var&)>(cos);
    for (const T x : edges<T>()) {
      if (periodic && std::abs(x) > 1e5 && std::isfinite(x)) continue;  // one period is less than the spacing of the numbers
      CAPTURE(std::string(u.name));
      CAPTURE(x);
      const T y = apply(u.f, of<T>({x})).item();
      const T alone = y, among = apply(u.f, Array<T>({40}, x)).data()[23];
      CHECK((same_bits(alone, among) || std::isnan(alone)));
      CHECK(ulps(y, u.exact(x)) <= (std::abs(x) == std::numeric_limits<T>::min() ? 32 : 6));  // what leads to so small a result is below the normal numbers
    }
  }
}

TEST_CASE_TEMPLATE("functions of two operands are right to a unit in the last place, at edges too", T, float, double) {
  for (const Binary& b : binary) {
    CAPTURE(std::string(b.name));
    Array<T> x = random<T>({2100}, 22, .2, 3), y = random<T>({2100}, 23, -3, 3);
    for (const T p : edges<T>())
      for (const T q : edges<T>()) {
        CAPTURE(p);
        CAPTURE(q);
        const T came = run1<T>([&](Values v) { return b.f(v[0], v[1]); }, {of<T>({p}), of<T>({q})}).item();
        const T expected = static_cast<T>(b.exact(p, q));
        if (std::isfinite(expected) && std::abs(expected) < std::numeric_limits<T>::min()) CHECK(std::abs(came - expected) <= std::numeric_limits<T>::min());
        else CHECK(ulps(came, b.exact(p, q)) <= b.ulps);
      }
    const Array<T> z = run1<T>([&](Values v) { return b.f(v[0], v[1]); }, {x, y});
    for (Index i = 0; i < z.size(); ++i) {
      CAPTURE(i);
      REQUIRE(ulps(z.data()[i], b.exact(x.data()[i], y.data()[i])) <= b.ulps);
    }
  }
}

TEST_CASE_TEMPLATE("where chooses by the condition, and a NaN in the branch not taken stays there", T, float, double) {
  const Arrays<T> in = {of<T>({1, 0, -2, -0.0, not_a_number}), of<T>({1, 2, 3, 4, 5}), of<T>({-1, not_a_number, infinity, -4, -5})};
  const Array<T> y = run1<T>([](Values v) { return where(v[0], v[1], v[2]); }, in);
  CHECK(y.data()[0] == 1);
  CHECK(std::isnan(y.data()[1]));
  CHECK(y.data()[2] == 3);
  CHECK(y.data()[3] == -4);
  CHECK(y.data()[4] == 5);
}

TEST_CASE_TEMPLATE("the idiom of two wheres keeps a NaN out of the gradient, to the second order", T, float, double) {
  auto safe_sqrt = [](Var x) {
    const Var positive = x > 0.0;
    return where(positive, sqrt(where(positive, x, 1.0)), 0.0);
  };
  auto safe_log = [](Var x) {
    const Var positive = x > 0.0;
    return where(positive, log(where(positive, x, 1.0)), 0.0);
  };
  const Array<T> x = of<T>({-1, 0, 4});
  CHECK(difference(slope(safe_sqrt, x), of<T>({0, 0, .25})) <= eps<T>);
  CHECK(difference(slope(safe_log, x), of<T>({0, 0, .25})) <= eps<T>);
  const Array<T> second = hvp([&](Var v) { return sum(safe_log(v)); }, x, of<T>({1, 1, 1}));
  CHECK(difference(second, of<T>({0, 0, -1.0 / 16})) <= eps<T>);
  CHECK(std::isnan(slope([](Var v) { return where(v > 0.0, sqrt(v), 0.0); }, x).data()[0]));  // one where alone does not
}

TEST_CASE_TEMPLATE("powers have the derivatives of the mathematics at zero", T, float, double) {
  const Array<T> x = of<T>({0, 2}), ones = of<T>({1, 1});
  auto power = [](double e) { return [e](Var v) { return sum(pow(v, e)); }; };
  auto third = [&](double e) { return grad([&](Var v) { return sum(hvp(power(e), v, fill(v.tape(), v.shape(), 1))); }, x); };
  CHECK(difference(grad(power(0), x), of<T>({0, 0})) == 0);
  CHECK(difference(grad(power(1), x), of<T>({1, 1})) == 0);
  CHECK(difference(grad(power(2), x), of<T>({0, 4})) == 0);
  CHECK(difference(hvp(power(1), x, ones), of<T>({0, 0})) == 0);
  CHECK(difference(hvp(power(2), x, ones), of<T>({2, 2})) == 0);
  CHECK(difference(hvp(power(3), x, ones), of<T>({0, 12})) == 0);
  CHECK(difference(third(2), of<T>({0, 0})) == 0);
  CHECK(difference(third(3), of<T>({6, 6})) == 0);
  CHECK(std::isinf(grad(power(.5), x).data()[0]));
  // in the exponent: x^y log x, taken as 0 where x is 0
  const Array<T> in_exponent = grad([](Var e, Var base) { return sum(pow(base, e)); }, of<T>({0, 1, 2}), of<T>({0, 0, 2}));
  CHECK(difference(in_exponent, of<T>({0, 0, 4 * std::log(2.0)})) <= 8 * eps<T>);
}

TEST_CASE_TEMPLATE("at a kink the slope is the mean of both sides", T, float, double) {
  const Array<T> x = of<T>({-2, -0.0, 0, 3});
  auto leaky = [](Var v) { return abrelu(v, 0.1, 1); };
  CHECK(difference(slope([](Var v) { return relu(v); }, x), of<T>({0, .5, .5, 1})) == 0);
  CHECK(difference(slope(leaky, x), of<T>({.1, .55, .55, 1})) <= eps<T>);
  CHECK(difference(slope([](Var v) { return abs(v); }, x), of<T>({-1, 0, 0, 1})) == 0);
  CHECK(difference(apply([](Var v) { return relu(v); }, x), of<T>({0, 0, 0, 3})) == 0);
  CHECK(difference(apply(leaky, x), of<T>({-.2, 0, 0, 3})) <= eps<T>);
  CHECK(difference(apply([](Var v) { return abs(v); }, x), of<T>({2, 0, 0, 3})) == 0);
  const Array<T> y = apply([](Var v) { return relu(v); }, of<T>({-infinity, infinity, not_a_number}));
  CHECK(y.data()[0] == 0);
  CHECK(y.data()[1] == std::numeric_limits<T>::infinity());
  CHECK(std::isnan(y.data()[2]));
}

TEST_CASE_TEMPLATE("sigmoid and gelu are right and do not overflow", T, float, double) {
  const Array<T> x = of<T>({-1000, -30, -1, 0, .5, 2, 1000});
  const Array<T> s = apply([](Var v) { return sigmoid(v); }, x), g = apply([](Var v) { return gelu(v); }, x), ds = slope([](Var v) { return sigmoid(v); }, x);
  for (Index i = 0; i < x.size(); ++i) {
    CAPTURE(x.data()[i]);
    const long double v = x.data()[i], e = 1 / (1 + std::exp(-v)), phi = .5l * std::erfc(-v / std::sqrt(2.0l));
    CHECK(std::abs(s.data()[i] - e) <= 2 * eps<T>);
    CHECK(std::abs(ds.data()[i] - e * (1 - e)) <= 2 * eps<T>);
    CHECK(std::abs(g.data()[i] - v * phi) <= 4 * eps<T> * std::max(1.0l, std::abs(v)));
  }
}

TEST_CASE_TEMPLATE("softmax and logsumexp hold for entries that overflow, and for infinite ones", T, float, double) {
  const Array<T> large({2, 3}, {T(1000), T(1001), T(999), T(-1000), T(-1000), T(-1000)});
  const Array<T> p = apply([](Var v) { return softmax(v); }, large), l = apply([](Var v) { return logsumexp(v); }, large);
  const double z = 1 + std::exp(-1.0) + std::exp(-2.0);
  CHECK(std::abs(p.data()[0] - std::exp(-1.0) / z) <= 4 * eps<T>);
  CHECK(std::abs(p.data()[1] - 1 / z) <= 4 * eps<T>);
  CHECK(std::abs(p.data()[5] - 1 / 3.0) <= 4 * eps<T>);
  CHECK(ulps(l.data()[0], 1001 + std::log(z)) <= 2);
  CHECK(ulps(l.data()[1], -1000 + std::log(3.0l)) <= 2);
  CHECK(difference(slope([](Var v) { return logsumexp(v); }, large), p) <= 4 * eps<T>);
  const Array<T> columns = apply([](Var v) { return softmax(v, 0); }, large);
  CHECK(columns.data()[0] == 1);
  CHECK(columns.data()[3] == 0);

  const T inf = std::numeric_limits<T>::infinity(), huge = T(1e30);
  const std::pair<std::vector<T>, T> cases[] = {{{-inf, 0}, 0}, {{-inf, -inf}, -inf}, {{inf, 0}, inf}, {{inf, -inf}, inf}, {{huge, 0}, huge}, {{-huge, -huge}, -huge}, {{5}, 5}, {{-inf}, -inf}};
  for (const auto& [in, out] : cases) {
    const Array<T> x = vector(in);
    CAPTURE(in[0]);
    CAPTURE(in.back());
    CHECK(ulps(apply([](Var v) { return logsumexp(v); }, x).item(), out) <= 1);
  }
  CHECK(std::isnan(apply([](Var v) { return logsumexp(v); }, of<T>({not_a_number, 1})).item()));
  const Array<T> masked = apply([](Var v) { return softmax(v); }, of<T>({-infinity, 0, 0}));
  CHECK(difference(masked, of<T>({0, .5, .5})) == 0);
}
TEST_CASE("logsumexp of entries near the largest double is not infinite") {
  CHECK(apply([](Var v) { return logsumexp(v); }, of<double>({1e200, 0})).item() == 1e200);
}

TEST_CASE_TEMPLATE("sums, means and maxima over any axes are those of a loop", T, float, double) {
  const Shape s{3, 4, 5, 2};
  const Array<T> x = random<T>(s, 31);
  for (int set = 1; set < 16; ++set)
    for (const bool keep : {false, true}) {
      std::vector<Index> axes, kept, left;
      for (Index a = 0; a < 4; ++a) {
        if (set >> a & 1) axes.push_back(a - (a % 2 ? 4 : 0));
        else left.push_back(s[a]);
        kept.push_back(set >> a & 1 ? 1 : s[a]);
      }
      std::reverse(axes.begin(), axes.end());
      const Shape out{std::span<const Index>(keep ? kept : left)};
      std::vector<long double> sums(static_cast<std::size_t>(out.size()), 0), largest(sums.size(), -infinity);
      for (Index i = 0; i < x.size(); ++i) {
        Index at = 0;
        for (Index a = 0; a < 4; ++a)
          if (!(set >> a & 1)) at = at * s[a] + i / s.size(a + 1, 4) % s[a];
        sums[static_cast<std::size_t>(at)] += x.data()[i];
        largest[static_cast<std::size_t>(at)] = std::max<long double>(largest[static_cast<std::size_t>(at)], x.data()[i]);
      }
      const double n = static_cast<double>(s.size() / out.size());
      const Array<T> total = apply([&](Var v) { return sum(v, axes, keep); }, x), average = apply([&](Var v) { return mean(v, axes, keep); }, x), top = apply([&](Var v) { return max(v, axes, keep); }, x);
      CAPTURE(set);
      REQUIRE(total.shape() == out);
      REQUIRE(average.shape() == out);
      REQUIRE(top.shape() == out);
      for (Index i = 0; i < out.size(); ++i) {
        const auto at = static_cast<std::size_t>(i);
        REQUIRE(std::abs(total.data()[i] - sums[at]) <= 4 * eps<T> * n);
        REQUIRE(std::abs(average.data()[i] - sums[at] / n) <= 4 * eps<T>);
        REQUIRE(top.data()[i] == largest[at]);
      }
    }
  CHECK(apply([](Var v) { return sum(v); }, Array<T>({0})).item() == 0);
  CHECK(difference(apply([](Var v) { return sum(v, {0}); }, Array<T>({0, 3})), Array<T>({3})) == 0);
  CHECK(apply([](Var v) { return sum(v); }, Array<T>({100000}, T(.1))).item() == doctest::Approx(10000).epsilon(20 * eps<T>));
  CHECK(apply([](Var v) { return sum(v, {0}); }, Array<T>({100000, 2}, T(.1))).data()[1] == doctest::Approx(10000).epsilon(300 * eps<T>));
}

TEST_CASE_TEMPLATE("the maximum shares its slope among ties, and a NaN is the maximum", T, float, double) {
  const Array<T> x({2, 4}, {1, 3, 3, 3, 2, 0, 1, 2});
  const Array<T> g = slope([](Var v) { return max(v, {1}); }, x);
  CHECK(difference(g, Array<T>({2, 4}, {0, T(1) / 3, T(1) / 3, T(1) / 3, T(.5), 0, 0, T(.5)})) <= eps<T>);
  CHECK(difference(slope([](Var v) { return max(v); }, Array<T>({4}, T(2))), Array<T>({4}, T(.25))) == 0);
  for (const Index at : {0, 1, 3}) {
    Array<T> with_nan = of<T>({1, 2, 3, 0});
    with_nan.data()[at] = static_cast<T>(not_a_number);
    CHECK(std::isnan(apply([](Var v) { return max(v); }, with_nan).item()));
  }
  CHECK(apply([](Var v) { return max(v); }, of<T>({-infinity, -infinity})).item() == -std::numeric_limits<T>::infinity());
}

TEST_CASE_TEMPLATE("the mean squared error is a mean, and its gradient is right", T, float, double) {
  const Array<T> p = of<T>({1, 2, 4}), y = of<T>({1, 0, 1});
  auto [value, gradient] = value_and_grad([](Var a, Var b) { return mean_squared_error(a, b); }, p, y);
  CHECK(value == doctest::Approx(13 / 3.0));
  CHECK(difference(gradient, of<T>({0, 4 / 3.0, 2})) <= 4 * eps<T>);
}

TEST_CASE_TEMPLATE("dot multiplies vectors, matrices and batches, each transposed or not", T, float, double) {
  for (const auto& [m, k, n] : {std::array<Index, 3>{1, 1, 1}, {2, 3, 4}, {33, 17, 9}, {7, 0, 3}, {0, 3, 2}, {3, 2, 0}, {300, 40, 5}})
    for (const Index batch : {1, 3})
      for (const bool ta : {false, true})
        for (const bool tb : {false, true}) {
          const Shape a_of = batch == 1 ? Shape{ta ? k : m, ta ? m : k} : Shape{batch, ta ? k : m, ta ? m : k}, b_of = batch == 1 ? Shape{tb ? n : k, tb ? k : n} : Shape{batch, tb ? n : k, tb ? k : n};
          const Array<T> a = random<T>(a_of, 41), b = random<T>(b_of, 42);
          const Array<T> c = run1<T>([&, ta = ta, tb = tb](Values v) { return dot(v[0], v[1], {ta, tb}); }, {a, b});
          CAPTURE(str(a_of) + str(b_of));
          REQUIRE(c.shape() == (batch == 1 ? Shape{m, n} : Shape{batch, m, n}));
          double worst = 0;
          for (Index l = 0; l < batch; ++l)
            for (Index i = 0; i < m; ++i)
              for (Index j = 0; j < n; ++j) {
                long double s = 0;
                for (Index q = 0; q < k; ++q) s += static_cast<long double>(a.data()[l * m * k + (ta ? q * m + i : i * k + q)]) * b.data()[l * k * n + (tb ? j * k + q : q * n + j)];
                worst = std::max(worst, static_cast<double>(std::abs(c.data()[(l * m + i) * n + j] - s)));
              }
          CHECK(worst <= eps<T> * static_cast<double>(k + 1));
        }
  const Array<T> u = of<T>({1, 2, 3}), v = of<T>({4, 5, 6}), w({3, 2}, {1, 2, 3, 4, 5, 6});
  auto product = [](Values x) { return dot(x[0], x[1]); };
  CHECK(run1<T>(product, {u, v}).item() == 32);
  CHECK(run1<T>(product, {u, v}).shape() == Shape{});
  CHECK(difference(run1<T>(product, {u, w}), of<T>({22, 28})) == 0);
  CHECK(difference(run1<T>([](Values x) { return dot(x[1], x[0], {true, false}); }, {u, w}), of<T>({22, 28})) == 0);
  CHECK(difference(run1<T>(product, {random<T>({2, 4, 3}, 43), w}), run1<T>([](Values x) { return reshape(dot(reshape(x[0], {8, 3}), x[1]), {2, 4, 2}); }, {random<T>({2, 4, 3}, 43), w})) == 0);
  CHECK(run1<T>(product, {random<T>({2, 4, 3}, 43), u}).shape() == Shape{2, 4});
}

TEST_CASE_TEMPLATE("primitives that move values put each where it belongs", T, float, double) {
  const Array<T> x({2, 3}, {1, 2, 3, 4, 5, 6});
  CHECK(apply([](Var v) { return transpose(v); }, x) == Array<T>({3, 2}, {1, 4, 2, 5, 3, 6}));
  CHECK(apply([](Var v) { return reshape(v, {3, 2}); }, x) == Array<T>({3, 2}, {1, 2, 3, 4, 5, 6}));
  CHECK(apply([](Var v) { return slice(v, -1, 1, 2); }, x) == Array<T>({2, 2}, {2, 3, 5, 6}));
  CHECK(apply([](Var v) { return slice(v, 0, 1, 1); }, x) == Array<T>({1, 3}, {4, 5, 6}));
  CHECK(apply([](Var v) { return pad(v, 1, 1, 0); }, x) == Array<T>({2, 4}, {0, 1, 2, 3, 0, 4, 5, 6}));
  CHECK(apply([](Var v) { return pad(v, 0, 0, 1); }, x) == Array<T>({3, 3}, {1, 2, 3, 4, 5, 6, 0, 0, 0}));
  CHECK(apply([](Var v) { return concatenate({v, slice(v, 1, 0, 1)}, -1); }, x) == Array<T>({2, 4}, {1, 2, 3, 1, 4, 5, 6, 4}));
  CHECK(apply([](Var v) { return broadcast(v, 1, {2}); }, x) == Array<T>({2, 2, 3}, {1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6}));
  CHECK(apply([](Var v) { return broadcast(v, 2, {2}); }, x) == Array<T>({2, 3, 2}, {1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6}));
  CHECK(apply([](Var v) { return gather(v, constant(Array<T>({3}, {1, 0, 1}))); }, x) == Array<T>({3, 3}, {4, 5, 6, 1, 2, 3, 4, 5, 6}));
  CHECK(apply([](Var v) { return scatter_add(v, constant(Array<T>({2}, {1, 1})), 3); }, x) == Array<T>({3, 3}, {0, 0, 0, 5, 7, 9, 0, 0, 0}));
  CHECK(apply([](Var v) { return zeros_like(v) + 2.0; }, x) == Array<T>({2, 3}, T(2)));
  const Shape s{2, 3, 4, 5};
  const Array<T> y = random<T>(s, 51);
  std::vector<Index> axes{0, 1, 2, 3};
  do {
    const Array<T> z = apply([&](Var v) { return transpose(v, axes); }, y);
    for (Index i = 0; i < z.size(); ++i) {
      Index from = 0;
      for (Index a = 0; a < 4; ++a) from += i / z.shape().size(a + 1, 4) % z.shape()[a] * s.size(axes[static_cast<std::size_t>(a)] + 1, 4);
      REQUIRE(z.data()[i] == y.data()[from]);
    }
  } while (std::next_permutation(axes.begin(), axes.end()));
}

TEST_CASE_TEMPLATE("operands broadcast by NumPy's rule", T, float, double) {
  const std::pair<Shape, Shape> pairs[] = {{{}, {}}, {{}, {4}}, {{3, 1}, {1, 4}}, {{4}, {3, 4}}, {{2, 1, 4}, {3, 1}}, {{1, 1, 1}, {5}}, {{0, 4}, {1, 4}}, {{2, 3, 1, 2}, {1, 3, 5, 1}}};
  for (const auto& [p, q] : pairs) {
    CAPTURE(str(p) + str(q));
    const Shape out = broadcast_shapes("test", p, q);
    const Array<T> a = random<T>(p, 61), b = random<T>(q, 62), c = run1<T>([](Values v) { return v[0] - v[1]; }, {a, b});
    REQUIRE(c.shape() == out);
    auto offset = [&](const Shape& s, Index i) {
      Index at = 0;
      for (Index axis = 0; axis < s.rank(); ++axis) at = at * s[axis] + i / out.size(out.rank() - s.rank() + axis + 1, out.rank()) % out[out.rank() - s.rank() + axis] % s[axis];
      return at;
    };
    for (Index i = 0; i < c.size(); ++i) REQUIRE(c.data()[i] == a.data()[offset(p, i)] - b.data()[offset(q, i)]);
  }
}

TEST_CASE_TEMPLATE("a constant array takes part as a traced value does", T, float, double) {
  const Array<T> x = random<T>({4, 3}, 71), row = random<T>({3}, 72), column = random<T>({4, 1}, 73), w = random<T>({3, 2}, 74), batch = random<T>({2, 4, 3}, 75);
  auto same = [&](const auto& f, const Array<T>& c) {
    const Array<T> traced = run1<T>([&](Values v) { return f(v[0], v[1]); }, {x, c}), fixed = run1<T>([&](Values v) { return f(v[0], constant(c)); }, {x});
    return same_bits(traced, fixed);
  };
  CHECK(same([](Var a, Var c) { return a * c; }, x));
  CHECK(same([](Var a, Var c) { return a + c; }, row));
  CHECK(same([](Var a, Var c) { return c / a; }, column));
  CHECK(same([](Var a, Var c) { return where(c > 0.0 * a, a, c); }, row));
  CHECK(same([](Var a, Var c) { return pow(exp(a), c); }, row));
  CHECK(same([](Var a, Var c) { return dot(a, c); }, w));
  CHECK(same([](Var a, Var c) { return dot(a, c); }, row));
  CHECK(same([](Var a, Var c) { return dot(c, transpose(a)); }, batch));
  CHECK(same([](Var a, Var c) { return concatenate({c, a}, 0); }, x));
}

TEST_CASE_TEMPLATE("an index that is no row is an error with its position", T, float, double) {
  const Array<T> table({3, 2}, {1, 2, 3, 4, 5, 6}), rows({2, 2}, {1, 2, 3, 4});
  auto at = [&](std::initializer_list<double> i) { return run1<T>([](Values v) { return gather(v[0], v[1]); }, {table, of<T>(i)}); };
  auto add = [&](std::initializer_list<double> i) { return run1<T>([](Values v) { return scatter_add(v[0], v[1], 3); }, {rows, of<T>(i)}); };
  CHECK_THROWS_WITH_AS(at({0, 1, 3}), "gather: index 3 at position 2 is no row of 0 to 2", NumericalError);
  CHECK_THROWS_WITH_AS(at({0, -1}), "gather: index -1 at position 1 is no row of 0 to 2", NumericalError);
  CHECK_THROWS_WITH_AS(at({0.5}), "gather: index 0.5 at position 0 is no row of 0 to 2", NumericalError);
  CHECK_THROWS_WITH_AS(at({not_a_number}), doctest::Contains("gather: index nan at position 0"), NumericalError);
  CHECK_THROWS_WITH_AS(at({infinity}), "gather: index inf at position 0 is no row of 0 to 2", NumericalError);
  CHECK_THROWS_WITH_AS(add({1, 3}), "scatter_add: index 3 at position 1 is no row of 0 to 2", NumericalError);
  CHECK(at({}).shape() == Shape{0, 2});
  CHECK(at({-0.0}) == Array<T>({1, 2}, {1, 2}));
}
