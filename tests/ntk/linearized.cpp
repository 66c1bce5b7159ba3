// Expansions in the parameters, against derivatives written down by hand and explicit Jacobians; and that they are networks as any other.
#include "networks_by_hand.h"

#include <doctest/doctest.h>

#include <limits>

using namespace networks;
using linnet::autodiff::NumericalError;
using linnet::autodiff::ShapeError;
using linnet::autodiff::StructureError;
using linnet::autodiff::TraceError;

namespace {

template <class T> Array<T> run(const ntk::Apply& f, const Tree<Array<T>>& params, const Array<T>& x) {
  return compile([&](const Tree<Var>& p, const Var& v) { return f(p, v); }, params, x)(params, x);
}

template <class T> Tree<Array<T>> drawn_like(const Tree<Array<T>>& params, std::uint64_t seed) {
  Draw draw(seed);
  return map([&](const Array<T>& a) { return as<T>(draw.array(a.shape())); }, params);
}

// f = sum_j v_j sin(x w_j), of which every derivative along a line in (v, w) is known.
struct Sines {
  Index in = 3, units = 4;
  Array<double> w = Draw(1).array({in, units}), v = Draw(2).array({units}), w0 = Draw(3).array({in, units}), v0 = Draw(4).array({units}), x = Draw(5).array({6, in});
  ntk::Apply f = [](const Tree<Var>& p, const Var& x) { return dot(sin(dot(x, p["w"])), p["v"]); };
  Tree<Array<double>> params() const { return {{"w", w}, {"v", v}}; }
  Tree<Array<double>> at() const { return {{"w", w0}, {"v", v0}}; }

  static double sine(int k, double a) { return std::sin(a + k * 1.5707963267948966); }  // the k-th derivative
  // sum over k up to the order of d^k/dt^k f(at + t (params - at)) at t = 0 over k!, for every example.
  Array<double> expansion(int order) const {
    Array<double> y({x.shape()[0]});
    for (Index n = 0; n < x.shape()[0]; ++n)
      for (Index j = 0; j < units; ++j) {
        double a = 0, b = 0, factorial = 1;
        for (Index i = 0; i < in; ++i) {
          a += x[{n, i}] * w0[{i, j}];
          b += x[{n, i}] * (w[{i, j}] - w0[{i, j}]);
        }
        const double dv = v.data()[j] - v0.data()[j];
        for (int k = 0; k <= order; ++k) {
          if (k > 0) factorial *= k;
          y.data()[n] += (v0.data()[j] * sine(k, a) * std::pow(b, k) + (k > 0 ? k * dv * sine(k - 1, a) * std::pow(b, k - 1) : 0)) / factorial;
        }
      }
    return y;
  }
};

}  // namespace

TEST_CASE_TEMPLATE("the expansion to orders 0 to 5 is the Taylor polynomial", T, float, double) {
  const Sines s;
  for (int order = 0; order <= 5; ++order) {
    CAPTURE(order);
    const ntk::Apply f = ntk::taylor_expand(s.f, as<T>(s.at()), order);
    CHECK(difference(run(f, as<T>(s.params()), as<T>(s.x)), s.expansion(order)) <= tolerance<T>());
    CHECK(difference(run(f, as<T>(s.at()), as<T>(s.x)), s.expansion(-1) + run(s.f, s.at(), s.x)) <= tolerance<T>());
  }
}

TEST_CASE_TEMPLATE("the expansion of a polynomial is exact from its degree on, and not below", T, float, double) {
  // of degree 4 in the parameters
  const Network net = network("cubic", {3}, {{"W", {3, 4}}, {"V", {4, 4}}, {"U", {4, 2}}, {"g", {2}}, {"b", {2}}},
                              [](const Tree<Var>& p, const Var& x) { return dot(dot(dot(x, p["W"]), p["V"]), p["U"]) * p["g"] + p["b"]; });
  const Array<double> x = examples(net, 5, 1), exact = run(net.f, net.params, x);
  const Tree<Array<T>> at = as<T>(drawn_like(net.params, 8));
  for (int order = 0; order <= 5; ++order) {
    CAPTURE(order);
    const double d = difference(run(ntk::taylor_expand(net.f, at, order), as<T>(net.params), as<T>(x)), exact);
    if (order < 4) CHECK(d > 1e-3);
    else CHECK(d <= tolerance<T>());
  }
}

TEST_CASE_TEMPLATE("linearized is f there plus the Jacobian times the step, for every use of a parameter", T, float, double) {
  for (const Network& net : by_hand()) {
    CAPTURE(net.name);
    const Array<double> x = examples(net, 4, 1), J = jacobian(net, x);
    const Tree<Array<double>> at = net.params, params = drawn_like(net.params, 3);
    Array<double> expected = run(net.f, at, x);
    Index column = 0;
    for (std::size_t leaf = 0; leaf < at.leaves().size(); ++leaf)
      for (Index k = 0; k < at.leaves()[leaf]->size(); ++k, ++column)
        for (Index i = 0; i < expected.size(); ++i) expected.data()[i] += J[{i, column}] * (params.leaves()[leaf]->data()[k] - at.leaves()[leaf]->data()[k]);
    CHECK(difference(run(ntk::linearized(net.f, as<T>(at)), as<T>(params), as<T>(x)), expected) <= tolerance<T>());
  }
}

TEST_CASE_TEMPLATE("the kernel of linearized is the kernel where it was linearized, for any parameters and method", T, float, double) {
  for (const Network& net : {mlp(3, {4, 5}, 2), drawn(2), drawn(9), drawn(11)}) {
    CAPTURE(net.name);
    const Array<double> x = examples(net, 9, 1), x2 = examples(net, 4, 2);
    const ntk::Apply f = ntk::linearized(net.f, as<T>(net.params));
    const auto kernel = ntk::full(net.f, net.params, x), kernel2 = ntk::full(net.f, net.params, x2, x);
    for (const std::uint64_t seed : {1, 2}) {
      const Tree<Array<T>> params = as<T>(drawn_like(net.params, seed));
      for (const auto method : {ntk::Method::structured, ntk::Method::jacobian_contraction, ntk::Method::vector_products}) {
        const auto k = ntk::full(f, params, as<T>(x), {.method = method});
        CHECK(difference(k.matrix(), kernel.matrix()) <= tolerance<T>());
        CHECK(symmetric(k.matrix()));
        CHECK(difference(ntk::full(f, params, as<T>(x2), as<T>(x), {.method = method}).matrix(), kernel2.matrix()) <= tolerance<T>());
        CHECK(difference(ntk::traced(f, params, as<T>(x), {.method = method}).matrix(), networks::traced(kernel.matrix(), kernel.outputs())) <= tolerance<T>());
      }
    }
  }
}

TEST_CASE("the kernel of a quadratic expansion changes with the parameters") {
  const Network net = mlp(3, {4}, 1);
  const Array<double> x = examples(net, 5, 1);
  const ntk::Apply f = ntk::taylor_expand(net.f, net.params, 2);
  const Array<double> there = ntk::full(net.f, net.params, x).matrix();
  CHECK(difference(ntk::full(f, net.params, x).matrix(), there) <= 1e-12);
  CHECK(difference(ntk::full(f, drawn_like(net.params, 3), x).matrix(), there) > 1e-3);
}

TEST_CASE_TEMPLATE("gradients flow through linearized, to the parameters and to x", T, float, double) {
  const Sines s;
  const ntk::Apply f = ntk::linearized(s.f, as<T>(s.at()));
  const auto [value, gradient] = value_and_grad([&](const Tree<Var>& p, const Var& x) { return sum(square(f(p, x))); }, as<T>(s.params()), as<T>(s.x));
  const Array<double> y = s.expansion(1);
  double expected_value = 0;
  Array<double> gw({s.in, s.units}), gv({s.units}), gx(s.x.shape());
  for (Index n = 0; n < y.size(); ++n) {
    expected_value += y.data()[n] * y.data()[n];
    for (Index j = 0; j < s.units; ++j) {
      double a = 0, b = 0;
      for (Index i = 0; i < s.in; ++i) {
        a += s.x[{n, i}] * s.w0[{i, j}];
        b += s.x[{n, i}] * (s.w[{i, j}] - s.w0[{i, j}]);
      }
      const double v0 = s.v0.data()[j], dv = s.v.data()[j] - v0, twice = 2 * y.data()[n];
      gv.data()[j] += twice * std::sin(a);
      for (Index i = 0; i < s.in; ++i) {
        const double dw = s.w[{i, j}] - s.w0[{i, j}];
        gw[{i, j}] += twice * v0 * std::cos(a) * s.x[{n, i}];
        gx[{n, i}] += twice * (v0 * std::cos(a) * s.w0[{i, j}] + dv * std::cos(a) * s.w0[{i, j}] - v0 * std::sin(a) * s.w0[{i, j}] * b + v0 * std::cos(a) * dw);
      }
    }
  }
  CHECK(std::abs(value - expected_value) <= 10 * tolerance<T>() * expected_value);
  CHECK(difference(gradient["w"].leaf(), gw) <= 10 * tolerance<T>());
  CHECK(difference(gradient["v"].leaf(), gv) <= 10 * tolerance<T>());
  const Array<T> by_x = grad([&](const Var& x, const Tree<Var>& p) { return sum(square(f(p, x))); }, as<T>(s.x), as<T>(s.params()));
  CHECK(difference(by_x, gx) <= 10 * tolerance<T>());
}

TEST_CASE("linearizing what is linear changes nothing, and its second derivative is 0") {
  const Network net = mlp(3, {4}, 2);
  const Array<double> x = examples(net, 5, 1);
  const Tree<Array<double>> elsewhere = drawn_like(net.params, 1), params = drawn_like(net.params, 2), direction = drawn_like(net.params, 3);
  const ntk::Apply once = ntk::linearized(net.f, net.params), twice = ntk::linearized(once, elsewhere);
  CHECK(difference(run(twice, params, x), run(once, params, x)) <= 1e-12);
  const auto second = hvp([&](const Tree<Var>& p, const Var& v) { return sum(once(p, v)); }, params, direction, x);
  for (const auto* leaf : second.leaves()) CHECK(max_abs(*leaf) <= 1e-13);
}

TEST_CASE("an expansion captures its centre by value, and a float centre serves computations in double") {
  Network net = mlp(3, {4}, 2);
  const Array<double> x = examples(net, 5, 1);
  Tree<Array<double>> at = net.params;
  const ntk::Apply f = ntk::linearized(net.f, at), narrow = ntk::linearized(net.f, as<float>(at));
  const Tree<Array<double>> params = drawn_like(net.params, 2);
  const Array<double> before = run(f, params, x);
  at["dense_0"]["W"].leaf()[{0, 0}] += 1;
  CHECK(run(f, params, x) == before);
  CHECK(difference(run(narrow, params, x), before) <= 1e-12);  // the numbers are exact in float
}

TEST_CASE("expansions refuse negative orders, centres that are not finite, other trees, and values that are not traced") {
  const Network net = mlp(3, {4}, 2);
  const Array<double> x = examples(net, 5, 1);
  CHECK(message<ShapeError>([&] { ntk::taylor_expand(net.f, net.params, -1); }) == "ntk::taylor_expand: the order must not be negative, got -1");
  Tree<Array<double>> bad = net.params;
  bad["dense_2"]["W"].leaf()[{3, 1}] = std::numeric_limits<double>::quiet_NaN();
  CHECK(message<NumericalError>([&] { ntk::linearized(net.f, bad); }) == "ntk::linearized: at 'dense_2/W' has nan at [3,1]; every value must be finite");
  CHECK(message<NumericalError>([&] { ntk::taylor_expand(net.f, bad, 2); }) == "ntk::taylor_expand: at 'dense_2/W' has nan at [3,1]; every value must be finite");
  const ntk::Apply f = ntk::linearized(net.f, net.params);
  const std::string other = message<StructureError>([&] { run(f, Tree<Array<double>>{{"W", Array<double>({3, 4})}}, x); });
  CAPTURE(other);
  CHECK(other.find("ntk::linearized") != std::string::npos);
  Tree<Array<double>> reshaped = net.params;
  reshaped["dense_2"]["W"] = Array<double>({2, 4});
  const std::string shape = message<ShapeError>([&] { run(f, reshaped, x); });
  CAPTURE(shape);
  CHECK(shape.find("ntk::linearized") != std::string::npos);
  const Tree<Var> constants = map([](const Array<double>& a) { return constant(a); }, net.params);
  CHECK(message<TraceError>([&] { f(constants, constant(x)); }) == "ntk::linearized: neither params nor x is traced; use it inside a function that is differentiated or compiled");
}
