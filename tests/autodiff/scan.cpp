// Loops and derivatives of one's own: scan, custom_jvp, checkpoint, and where a value that is not finite comes from.
#include "linnet/autodiff/numerics.h"
#include "linnet/autodiff/testing.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace linnet::autodiff;

namespace {

using Values = std::span<const Var>;

Array<double> filled(const Shape& s, double phase) {
  Array<double> x(s);
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = 0.8 * std::sin(phase + 1.7 * static_cast<double>(i));
  return x;
}

// A recurrent network: x [T, d], W [d, h], U [h, h], h0 [1, h]; answers the last state, and the sum of every one.
std::vector<Var> recurrent(Values v) {
  return scan([&](Values s) -> std::vector<Var> {
    const Var h = tanh(dot(reshape(s[1], {1, s[1].shape()[0]}), v[1]) + dot(s[0], v[2]));
    return {h, sum(h)};
  }, {v[3]}, {v[0]}, v[0].shape()[0]);
}
std::vector<Var> unrolled(Values v) {
  Var h = v[3];
  std::vector<Var> sums;
  for (Index t = 0; t < v[0].shape()[0]; ++t) {
    h = tanh(dot(slice(v[0], 0, t, 1), v[1]) + dot(h, v[2]));
    sums.push_back(reshape(sum(h), {1}));
  }
  return {h, concatenate(sums, 0)};
}
std::vector<Array<double>> network(Index steps) { return {filled({steps, 2}, .1), filled({2, 3}, .4), filled({3, 3}, .7), filled({1, 3}, .9)}; }

template <class T> Views<T> views(const std::vector<Array<T>>& a) { return {a.begin(), a.end()}; }
template <class T> std::vector<Array<T>> in_width(const std::vector<Array<double>>& a) {
  std::vector<Array<T>> b;
  for (const auto& x : a) b.push_back(cast<T>(x));
  return b;
}

template <class F> std::string message(F f) {
  try {
    f();
  } catch (const std::exception& e) {
    return e.what();
  }
  return "nothing was thrown";
}
Program record(const Function& f, const std::vector<Shape>& shapes) { return trace(f, shapes); }

void expect_right(const Function& f, const std::vector<Array<double>>& x, DerivativeCheck check = {}) {
  for (const std::string& found : check_derivatives(f, x, check)) FAIL_CHECK(found);
}

}  // namespace

TEST_CASE("a loop has the derivatives of its steps, to the third order") {
  expect_right(recurrent, network(4), {.order = 3});
  expect_right(recurrent, network(1), {.order = 2});
}

TEST_CASE_TEMPLATE("a loop equals its unrolled steps in bits, and so do its derivatives", T, float, double) {
  const auto x = in_width<T>(network(6));
  const FlatLinearMap<T> a(recurrent, views(x), {}), b(unrolled, views(x), {});
  CHECK(a.value() == b.value());
  const auto tangents = in_width<T>(network(6));
  CHECK(a.jvp(views(tangents), -1) == b.jvp(views(tangents), -1));
  const auto cotangents = in_width<T>({filled({1, 3}, 2), filled({6}, 3)});
  const auto ga = a.vjp(views(cotangents), -1), gb = b.vjp(views(cotangents), -1);
  for (std::size_t i = 0; i < ga.size(); ++i) CHECK(max_abs(ga[i] - gb[i]) <= 8 * std::numeric_limits<T>::epsilon() * max_abs(gb[i]));
}

TEST_CASE("a loop is traced once, whatever its length") {
  const auto short_one = FlatLinearMap<double>(recurrent, views(network(2)), {}), long_one = FlatLinearMap<double>(recurrent, views(network(1000)), {});
  CHECK(long_one.program().code.size() == short_one.program().code.size());
  CHECK(long_one.transpose_program().code.size() == short_one.transpose_program().code.size());
  CHECK(long_one.transpose_program().code.size() < 40);
}

TEST_CASE("a loop may carry several states, answer none, or run over nothing but its counter") {
  expect_right([](Values v) { return scan([](Values s) -> std::vector<Var> { return {s[1], s[0] * s[2]}; }, {v[0], v[1]}, {v[2]}, 5); }, {filled({2}, 1), filled({2}, 2), filled({5, 2}, 3)}, {.order = 2});
  expect_right([](Values v) { return scan([&](Values s) -> std::vector<Var> { return {s[0] * v[0] + 1.0}; }, {v[1]}, {}, 7); }, {filled({2}, 1), filled({2}, 2)}, {.order = 3});
  expect_right([](Values v) { return scan([](Values s) -> std::vector<Var> { return {sin(s[0])}; }, {}, {v[0]}, 3); }, {filled({3, 2}, 1)}, {.order = 2});
}

TEST_CASE("loops nest, and may be recomputed") {
  const Function nested = [](Values v) {
    return scan([](Values outer) { return scan([&](Values s) -> std::vector<Var> { return {tanh(s[0] + s[1] * outer[0])}; }, {outer[0]}, {outer[1]}, 3); }, {v[0]}, {v[1]}, 2);
  };
  expect_right(nested, {filled({2}, 1), filled({2, 3, 2}, 2)}, {.order = 2});
  expect_right(checkpoint(recurrent), network(3), {.order = 2});
}

TEST_CASE("what is wrong with a loop is said while it is traced") {
  const Function keep = [](Values s) { return std::vector<Var>(s.begin(), s.begin() + 1); };
  auto loop = [&](const Function& body, Index length) { return message([&] { record([&](Values v) { return scan(body, {v[0]}, {v[1]}, length); }, {{2}, {3, 2}}); }); };
  CHECK(loop(keep, 0) == "scan: the length must be at least 1, got 0");
  CHECK(loop(keep, 4) == "scan: an array [3,2] came to be run over 4 steps; its leading axis must have that extent");
  CHECK(loop([](Values) { return std::vector<Var>(); }, 3) == "scan: the body answers 0 values, but carries 1 states");
  CHECK(loop([](Values s) -> std::vector<Var> { return {sum(s[0])}; }, 3) == "scan: state 0 is [2], the body answers [] for it");
}

TEST_CASE("a function may have a derivative of one's own, of every order and with lanes") {
  const Function exponential = custom_jvp([](Values x) -> std::vector<Var> { return {exp(x[0]), x[0] * x[1]}; },
                                          [](Values x, Values t) -> std::vector<Var> { return {t[0] * exp(x[0]), t[0] * x[1] + x[0] * t[1]}; });
  expect_right(exponential, {filled({4}, .2), filled({4}, 1)}, {.order = 3});
  const Function smooth_relu = custom_jvp([](Values x) -> std::vector<Var> { return {relu(x[0])}; }, [](Values x, Values t) -> std::vector<Var> { return {t[0] * sigmoid(x[0])}; });
  const Array<double> g = grad([&](Var x) { return sum(smooth_relu(std::array{x})[0]); }, Array<double>({2}, {0, 1}));
  CHECK(g[{0}] == doctest::Approx(0.5));
  CHECK(g[{1}] == doctest::Approx(1 / (1 + std::exp(-1.0))));
}

TEST_CASE("a derivative of one's own that does not fit is refused") {
  auto derivative = [](CustomJvp rule) {
    return message([&] {
      const Function f = custom_jvp([](Values x) -> std::vector<Var> { return {exp(x[0])}; }, rule);
      grad([&](Var x) { return sum(f(std::array{x})[0]); }, Array<double>({2}, {0, 1}));
    });
  };
  CHECK(derivative([](Values, Values) { return std::vector<Var>(); }) == "custom_jvp: the function has 1 results, its jvp answers 0 tangents");
  CHECK(derivative([](Values, Values t) -> std::vector<Var> { return {sum(t[0])}; }) == "custom_jvp: result 0 is [2], its tangent []");
  CHECK(derivative([](Values, Values t) -> std::vector<Var> { return {t[0] * t[0]}; }) == "custom_jvp: the jvp is not linear in the tangents: %2 = mul multiplies two linear values");
}

TEST_CASE("the first value that is not finite is named with its operation, layer and position") {
  auto f = [](Var x) {
    const Tape::Scope layer(x.tape(), "dense_1");
    return sum(1.0 / log(x));
  };
  CHECK(message([&] { check_numerics(f, Array<double>({2, 2}, {2, 3, 1, 4})); }) == "check_numerics: dense_1: div gives inf at [1,0] of [2,2]");
  CHECK(message([&] { check_numerics(f, Array<float>({2, 2}, {2, 0, 1, 4})); }) == "check_numerics: dense_1: log gives -inf at [0,1] of [2,2]");
  CHECK(message([&] { check_numerics(f, Array<double>({2}, {2, NAN})); }) == "check_numerics: input 0 [2] is nan at [1]");
  CHECK(message([&] { check_numerics([](Var x) { return x + constant(Array<double>({2}, {INFINITY, 0})); }, Array<double>({2}, {1, 2})); }) == "check_numerics: a constant [2] is inf at [0]");
  check_numerics(f, Array<double>({2}, {2, 3}));
}
