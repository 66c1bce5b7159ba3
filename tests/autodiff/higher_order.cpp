// Derivatives of derivatives of whole networks: by every way of nesting them, against each other; and functions nested within functions that mention the
// variables around them. The primitives one by one are in ops_table.cpp.
#include "linnet/autodiff/testing.h"
#include "linnet/tests/autodiff/rows.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <set>

using namespace linnet::autodiff;
using samples::random;

namespace {

using Values = std::span<const Var>;
using Params = Tree<Array<double>>;

// conv -> layer norm -> activation -> average pool -> dense -> softmax cross entropy, of two images of 5 by 4 with two channels and three classes.
struct Network {
  Var (*activation)(const Var&);
  Array<double> images = random<double>({2, 5, 4, 2}, 1), targets{{2, 3}, {1, 0, 0, 0, 0, 1}};
  Var operator()(const Tree<Var>& p) const {
    const Var h = layer_norm(conv(constant(images), p["filter"].leaf()) + p["shift"].leaf(), {3}, 1e-2);
    const Var pooled = avg_pool(activation(p["gain"].leaf() * h), {2, 2}, {.stride = {2, 2}});
    const Var z = dot(reshape(pooled, {2, pooled.shape().size() / 2}), p["W"].leaf()) + p["b"].leaf();
    return -sum(constant(targets) * log(softmax(z))) * 0.5;
  }
};
Params parameters(std::uint64_t seed) {
  return Params({{"filter", random<double>({3, 2, 2, 3}, seed)}, {"shift", random<double>({3}, seed + 1)}, {"gain", random<double>({3}, seed + 2)},
                 {"W", random<double>({12, 3}, seed + 3)}, {"b", random<double>({1, 3}, seed + 4)}});
}
double inner(const Params& a, const Params& b) {
  double s = 0;
  const auto p = a.leaves(), q = b.leaves();
  for (std::size_t i = 0; i < p.size(); ++i) s += dot(*p[i], *q[i]);
  return s;
}
Var inner(const Tree<Var>& a, const Tree<Var>& b) {
  Var s = 0.0;
  const auto p = a.leaves(), q = b.leaves();
  for (std::size_t i = 0; i < p.size(); ++i) s = s + sum(*p[i] * *q[i]);
  return s;
}
Tree<Var> constants(const Params& a) { return map([](const Array<double>& x) { return constant(x); }, a); }
// The largest difference relative to the largest entry.
double difference(const Params& a, const Params& b) {
  double d = 0, scale = 0;
  const auto p = a.leaves(), q = b.leaves();
  for (std::size_t i = 0; i < p.size(); ++i) {
    const double here = samples::difference(*p[i], *q[i]);
    if (!(here <= d)) d = here;
    scale = std::max(scale, max_abs(*q[i]));
  }
  return scale > 0 ? d / scale : samples::infinity;
}

}  // namespace

TEST_CASE("the gradient of a gradient of a convolutional network equals forward over reverse, and every other nesting") {
  for (const auto activation : {static_cast<Var (*)(const Var&)>(gelu), static_cast<Var (*)(const Var&)>(tanh)})
    for (const std::uint64_t seed : {10u, 20u, 30u}) {
      const Network loss{activation};
      const Params theta = parameters(seed), v = parameters(seed + 100);
      const Params forward_over_reverse = hvp(loss, theta, v);
      const Params reverse_over_reverse = grad([&](const Tree<Var>& p) { return inner(grad(loss, p), constants(v)); }, theta);
      const Params reverse_over_forward = grad([&](const Tree<Var>& p) { return jvp(loss, p, constants(v)).second; }, theta);
      const Params forward_by_hand = jvp([&](const Tree<Var>& p) { return grad(loss, p); }, theta, v).second;
      CHECK(difference(reverse_over_reverse, forward_over_reverse) <= 1e-9);
      CHECK(difference(reverse_over_forward, forward_over_reverse) <= 1e-9);
      CHECK(difference(forward_by_hand, forward_over_reverse) <= 1e-9);
      const double along = inner(v, forward_over_reverse);  // v^T H v, forward over forward
      auto slope = [&](const Tree<Var>& p) { return jvp(loss, p, constants(v)).second; };
      CHECK(std::abs(jvp(slope, theta, v).second.item() - along) <= 1e-9 * std::abs(along));
    }
}

TEST_CASE("the third derivative of a convolutional network is the same by every nesting") {
  const Network loss{tanh};
  const Params theta = parameters(40), u = parameters(41), v = parameters(42);
  auto curvature = [&](const Tree<Var>& p) { return inner(hvp(loss, p, constants(v)), constants(v)); };  // v^T H v
  const Params g = grad(curvature, theta);
  const double forward = jvp(curvature, theta, u).second.item();
  CHECK(std::abs(inner(g, u) - forward) <= 1e-9 * std::abs(forward));
  auto slope = [&](const Tree<Var>& p) { return jvp([&](const Tree<Var>& q) { return jvp(loss, q, constants(v)).second; }, p, constants(v)).second; };
  CHECK(difference(grad(slope, theta), g) <= 1e-9);
}

TEST_CASE_TEMPLATE("the Hessian of a convolutional network is symmetric to rounding", T, float, double) {
  for (const std::uint64_t seed : {50u, 60u, 70u}) {
    const Network loss{gelu};
    auto narrow = [](const Params& p) { return map([](const Array<double>& a) { return cast<T>(a); }, p); };
    const auto theta = narrow(parameters(seed)), u = narrow(parameters(seed + 1)), v = narrow(parameters(seed + 2));
    const auto gradient = linearize([&](const Tree<Var>& p) { return grad(loss, p); }, theta);
    auto product = [](const auto& a, const auto& b, bool magnitudes) {
      double s = 0;
      const auto p = a.leaves(), q = b.leaves();
      for (std::size_t i = 0; i < p.size(); ++i)
        for (Index j = 0; j < p[i]->size(); ++j) {
          const double t = static_cast<double>(p[i]->data()[j]) * static_cast<double>(q[i]->data()[j]);
          s += magnitudes ? std::abs(t) : t;
        }
      return s;
    };
    const auto hu = gradient.jvp(u), hv = gradient.jvp(v);
    // The scale is the sum of the magnitudes of what is added up on either side, without the larger ones inside of Hu and Hv: a harder bar.
    const double S = product(u, hv, true) + product(v, hu, true), bar = 8 * samples::eps<T> * S;
    CHECK(S > 0);
    CHECK(std::abs(product(u, hv, false) - product(v, hu, false)) <= bar);
    CHECK(std::abs(product(gradient.vjp(u), v, false) - product(u, hv, false)) <= bar);
  }
}

TEST_CASE("every derivative of a convolutional network holds to the second order") {
  const Network loss{gelu};
  const Params theta = parameters(80);
  std::vector<Array<double>> x;
  for (const Array<double>* leaf : theta.leaves()) x.push_back(*leaf);
  const Function f = [&](Values v) -> std::vector<Var> {
    return {loss(Tree<Var>({{"filter", v[0]}, {"shift", v[1]}, {"gain", v[2]}, {"W", v[3]}, {"b", v[4]}}))};
  };
  REQUIRE(theta.paths() == std::vector<std::string>{"filter", "shift", "gain", "W", "b"});
  for (const std::string& failure : check_derivatives(f, x)) FAIL_CHECK(failure);
}

TEST_CASE("the table checks every smooth primitive to the third order, against differences") {
  const samples::Table table = samples::all_rows();
  int smooth = 0;
  for (const Primitive* p : primitives()) {
    if (std::find(p->operands.kind.begin(), p->operands.kind.end(), Operand::smooth) == p->operands.kind.end()) continue;
    ++smooth;
    const auto& rows = table.at(p->name);
    const bool covered = std::any_of(rows.begin(), rows.end(), [](const samples::Row& r) {
      return r.check.order >= 3 && r.check.differences && std::all_of(r.x.begin(), r.x.end(), [](const Array<double>& x) { return x.size() > 0; });
    });
    CHECK_MESSAGE(covered, std::string(p->name), " has no row of order 3 in tests/autodiff/ops_table.cpp or beside it");
  }
  CHECK(smooth >= 16);
}

TEST_CASE("functions within functions may mention the variables around them, at every depth") {
  const Array<double> x({2}, {0.3, -0.7});
  // d/dx sum_i x_i (d/dy sum(sin(x y) y) at y = x)_i, by hand: s(x) = x (x cos(x^2) x + sin(x^2)).
  auto outer = [](const Var& a) { return sum(a * grad([&](const Var& y) { return sum(sin(a * y) * y); }, a)); };
  const Array<double> g = grad(outer, x);
  for (Index i = 0; i < 2; ++i) {
    const double t = x[{i}], s = std::sin(t * t), c = std::cos(t * t);
    CHECK(g[{i}] == doctest::Approx(3 * t * t * c - 2 * t * t * t * t * s + s + 2 * t * t * c).epsilon(1e-13));
  }
  // Three deep, the innermost mentions both around it: f = d/dy [y d/dz (a^2 y^2 z^3) at z = y] at y = a = d/dy [3 a^2 y^5] = 15 a^6.
  auto deep = [](const Var& a) {
    return sum(grad([&](const Var& y) { return sum(y * grad([&](const Var& z) { return sum(square(a) * square(y) * pow(z, 3.0)); }, y)); }, a));
  };
  const Array<double> h = grad(deep, x), hh = hvp(deep, x, Array<double>({2}, 1));
  for (Index i = 0; i < 2; ++i) {
    CHECK(h[{i}] == doctest::Approx(90 * std::pow(x[{i}], 5)).epsilon(1e-13));
    CHECK(hh[{i}] == doctest::Approx(450 * std::pow(x[{i}], 4)).epsilon(1e-13));
  }
}

TEST_CASE("forward within reverse within forward, around loops and recomputed functions, mention what is around them") {
  const Array<double> x({3}, {0.2, -0.4, 0.9}), w({3}, {0.5, 0.1, -0.3});
  // y <- tanh(a y + b): the loop and the recomputed function mention a, which is differentiated around them.
  auto looped = [](const Var& a, const Var& b) { return scan([&](Values y) -> std::vector<Var> { return {tanh(a * y[0] + b)}; }, {b}, {}, 4)[0]; };
  auto unrolled = [](const Var& a, const Var& b) {
    Var y = b;
    for (int i = 0; i < 4; ++i) y = tanh(a * y + b);
    return y;
  };
  auto energy = [&](auto step) {
    return [&, step](const Var& a) {
      auto inside = [&](const Var& b) { return sum(checkpoint([&](Values v) -> std::vector<Var> { return {sin(a * step(a, v[0]))}; })(std::array{b})[0]); };
      return sum(a * jvp([&](const Var& b) { return grad(inside, b); }, a * a, constant(w)).second);
    };
  };
  const Array<double> one = grad(energy(looped), x), other = grad(energy(unrolled), x);
  CHECK(samples::difference(one, other) <= 1e-12 * max_abs(other));
  const Array<double> second = hvp(energy(looped), x, w), plain = hvp(energy(unrolled), x, w);
  CHECK(samples::difference(second, plain) <= 1e-11 * max_abs(plain));
  for (const std::string& failure : check_derivatives(energy(looped), x, {.order = 2})) FAIL_CHECK(failure);
}
