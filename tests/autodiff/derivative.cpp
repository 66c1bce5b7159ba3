// Derivatives of C++ functions on arrays and on trees: against hand-written loops, with data beside parameters, with lanes, of one output and many.
#include "linnet/tests/autodiff/samples.h"

#include <doctest/doctest.h>

using namespace linnet::autodiff;
using samples::difference, samples::eps, samples::random;

namespace {

template <class T> using Params = Tree<Array<T>>;

Var network(const Tree<Var>& p, const Var& x) { return dot(tanh(dot(x, p["W"]) + p["b"]), p["V"]); }
Var loss(const Tree<Var>& p, const Var& x, const Var& y) { return sum(square(network(p, x) - y)); }

// The same by loops, with its gradient: x [n, d], W [d, h], b [h], V [h, o].
template <class T> struct ByHand {
  std::vector<long double> hidden, residual;
  Index n, d, h, o;
  const Params<T>& p;
  const Array<T>& x;
  long double value = 0;
  ByHand(const Params<T>& params, const Array<T>& at, const Array<T>& y) : n(at.shape()[0]), d(at.shape()[1]), h(params["W"].leaf().shape()[1]), o(params["V"].leaf().shape()[1]), p(params), x(at) {
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < h; ++j) {
        long double s = p["b"].leaf().data()[j];
        for (Index k = 0; k < d; ++k) s += static_cast<long double>(x.data()[i * d + k]) * p["W"].leaf().data()[k * h + j];
        hidden.push_back(std::tanh(s));
      }
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < o; ++j) {
        long double s = -static_cast<long double>(y.data()[i * o + j]);
        for (Index k = 0; k < h; ++k) s += hidden[static_cast<std::size_t>(i * h + k)] * p["V"].leaf().data()[k * o + j];
        residual.push_back(s);
        value += s * s;
      }
  }
  Params<T> gradient() const {
    std::vector<long double> W(static_cast<std::size_t>(d * h)), b(static_cast<std::size_t>(h)), V(static_cast<std::size_t>(h * o));
    for (Index i = 0; i < n; ++i)
      for (Index k = 0; k < h; ++k) {
        const long double t = hidden[static_cast<std::size_t>(i * h + k)];
        long double back = 0;
        for (Index j = 0; j < o; ++j) {
          const long double r = 2 * residual[static_cast<std::size_t>(i * o + j)];
          V[static_cast<std::size_t>(k * o + j)] += t * r;
          back += r * p["V"].leaf().data()[k * o + j];
        }
        back *= 1 - t * t;
        b[static_cast<std::size_t>(k)] += back;
        for (Index q = 0; q < d; ++q) W[static_cast<std::size_t>(q * h + k)] += back * x.data()[i * d + q];
      }
    auto array = [](const std::vector<long double>& v, Shape s) {
      Array<T> a(s);
      std::transform(v.begin(), v.end(), a.begin(), [](long double e) { return static_cast<T>(e); });
      return a;
    };
    return {{"W", array(W, {d, h})}, {"b", array(b, {h})}, {"V", array(V, {h, o})}};
  }
};

template <class T> Params<T> params(Index d, Index h, Index o, std::uint64_t seed = 1) { return {{"W", random<T>({d, h}, seed)}, {"b", random<T>({h}, seed + 1)}, {"V", random<T>({h, o}, seed + 2)}}; }
template <class T> double tree_difference(const Params<T>& a, const Params<T>& b) {
  double worst = 0;
  for (const double d : {difference(a["W"].leaf(), b["W"].leaf()), difference(a["b"].leaf(), b["b"].leaf()), difference(a["V"].leaf(), b["V"].leaf())}) {
    if (std::isnan(d)) return d;
    worst = std::max(worst, d);
  }
  return worst;
}
template <class T> Array<T> lane(const Array<T>& all, Index l) {
  const Array<T> one = all.rows(l, 1);
  return one.reshaped(one.shape().erased(0, 1));
}
template <class T> Params<T> map_lane(const Params<T>& all, Index l) { return map([l](const Array<T>& a) { return lane(a, l); }, all); }
template <class T> Array<T> only(T value) { return Array<T>(Shape{}, {value}); }

}  // namespace

TEST_CASE_TEMPLATE("the gradient of a network's loss is that of hand-written loops, for any batch and width", T, float, double) {
  for (const auto& [n, d, h, o] : {std::array<Index, 4>{1, 1, 1, 1}, {5, 3, 4, 2}, {7, 2, 33, 1}, {64, 17, 9, 10}, {0, 3, 2, 2}}) {
    const Params<T> p = params<T>(d, h, o);
    const Array<T> x = random<T>({n, d}, 9), y = random<T>({n, o}, 10);
    const ByHand<T> expected(p, x, y);
    const auto [value, gradient] = value_and_grad(loss, p, x, y);
    CAPTURE(n);
    CAPTURE(h);
    const double scale = static_cast<double>(n * o * (h + d) + 1);
    CHECK(std::abs(value - expected.value) <= eps<T> * scale * 4);
    CHECK(tree_difference(gradient, expected.gradient()) <= eps<T> * scale * 4);
    CHECK(tree_difference(grad(loss, p, x, y), gradient) == 0);
  }
}

TEST_CASE_TEMPLATE("data is an input of the program and nothing is differentiated by it", T, float, double) {
  const Params<T> p = params<T>(3, 4, 2);
  const auto run = compile([](const Tree<Var>& q, Var x, Var y) { return loss(q, x, y); }, p, Array<T>({5, 3}), Array<T>({5, 2}));
  for (const std::uint64_t seed : {1, 2}) {  // traced once, run on two minibatches
    const Array<T> x = random<T>({5, 3}, seed), y = random<T>({5, 2}, seed + 5);
    CHECK(run(p, x, y).item() == doctest::Approx(static_cast<double>(ByHand<T>(p, x, y).value)).epsilon(64 * eps<T>));
  }
  CHECK(run.program().constants.empty());
  const auto g = grad([](Var a, const Tree<Var>& data, Var c) { return sum(a * data["u"] * data["v"] * c); }, Array<T>({2}, {1, 2}), Params<T>{{"u", Array<T>({2}, {3, 4})}, {"v", Array<T>({2}, {5, 6})}}, only<T>(2));
  CHECK(g == Array<T>({2}, {30, 48}));
}

TEST_CASE_TEMPLATE("jvp, vjp, linearize and jacobian agree with one another", T, float, double) {
  const Params<T> p = params<T>(3, 4, 2), t = params<T>(3, 4, 2, 20);
  const Array<T> x = random<T>({5, 3}, 9), ct = random<T>({5, 2}, 30);
  const auto [value, tangent] = jvp(network, p, t, x);
  const auto [same_value, pull] = vjp(network, p, x);
  const auto map = linearize(network, p, x);
  const Params<T> back = pull(ct);
  CHECK(samples::same_bits(value, same_value));
  CHECK(samples::same_bits(value, map.value()));
  CHECK(samples::same_bits(tangent, map.jvp(t)));
  CHECK(tree_difference(back, map.vjp(ct)) == 0);
  const Array<T> jacobian = linnet::autodiff::jacobian(network, p, x);
  REQUIRE(jacobian.shape() == Shape{10, 24});
  std::vector<T> flat;
  for (const Array<T>* leaf : t.leaves()) flat.insert(flat.end(), leaf->begin(), leaf->end());
  for (Index i = 0; i < 10; ++i) {
    double s = 0;
    for (Index j = 0; j < 24; ++j) s += static_cast<double>(jacobian.data()[i * 24 + j]) * flat[static_cast<std::size_t>(j)];
    CHECK(std::abs(s - tangent.data()[i]) <= 64 * eps<T>);
  }
  T through_jvp = dot(tangent, ct), through_vjp = dot(back["W"].leaf(), t["W"].leaf()) + dot(back["b"].leaf(), t["b"].leaf()) + dot(back["V"].leaf(), t["V"].leaf());
  CHECK(std::abs(through_jvp - through_vjp) <= 128 * eps<T>);
}

TEST_CASE_TEMPLATE("many directions in one sweep are a loop over single ones", T, float, double) {
  const Params<T> p = params<T>(3, 4, 2);
  const Array<T> x = random<T>({5, 3}, 9);
  const auto map = linearize(network, p, x);
  for (const Index k : {1, 2, 7}) {
    const Params<T> tangents = {{"W", random<T>({k, 3, 4}, 40)}, {"b", random<T>({k, 4}, 41)}, {"V", random<T>({k, 4, 2}, 42)}};
    const Array<T> cotangents = random<T>({k, 5, 2}, 43), swept = map.jvp_lanes(tangents);
    const Params<T> back = map.vjp_lanes(cotangents);
    CHECK(swept.shape() == Shape{k, 5, 2});
    CHECK(back["b"].leaf().shape() == Shape{k, 4});
    for (Index l = 0; l < k; ++l) {
      CHECK(difference(lane(swept, l), map.jvp(map_lane(tangents, l))) <= 32 * eps<T>);
      CHECK(tree_difference(map_lane(back, l), map.vjp(lane(cotangents, l))) <= 64 * eps<T>);
    }
  }
  CHECK(map.vjp_lanes(Array<T>({0, 5, 2}))["W"].leaf().shape() == Shape{0, 3, 4});
  CHECK(map.jvp_lanes({{"W", Array<T>({0, 3, 4})}, {"b", Array<T>({0, 4})}, {"V", Array<T>({0, 4, 2})}}).shape() == Shape{0, 5, 2});
}

TEST_CASE_TEMPLATE("Hessian products are those of the differences of gradients, and symmetric", T, float, double) {
  const Params<T> p = params<T>(3, 4, 2), u = params<T>(3, 4, 2, 50), v = params<T>(3, 4, 2, 60);
  const Array<T> x = random<T>({5, 3}, 9), y = random<T>({5, 2}, 10);
  const Params<T> Hu = hvp(loss, p, u, x, y), Hv = hvp(loss, p, v, x, y);
  auto inner = [](const Params<T>& a, const Params<T>& b) {
    double s = 0;
    for (std::size_t i = 0; i < 3; ++i) s += dot(*a.leaves()[i], *b.leaves()[i]);
    return s;
  };
  CHECK(std::abs(inner(u, Hv) - inner(v, Hu)) <= 1024 * eps<T>);
  if constexpr (std::same_as<T, double>) {
    auto at = [&](double h) { return grad(loss, map([h](const Array<T>& a, const Array<T>& b) { return a + h * b; }, p, u), x, y); };
    const auto ahead = at(1e-5), behind = at(-1e-5);
    const Params<T> difference_quotient = map([](const Array<T>& a, const Array<T>& b) { return 5e4 * (a - b); }, ahead, behind);
    CHECK(tree_difference(Hu, difference_quotient) <= 1e-7);
  }
  CHECK(hvp([](Var a) { return sum(a * a * a); }, Array<T>({2}, {1, 2}), Array<T>({2}, {1, 10})) == Array<T>({2}, {6, 120}));
  CHECK(hvp([](Var a) { return sum(a); }, Array<T>({2}, {1, 2}), Array<T>({2}, {1, 10})) == Array<T>({2}));
}

TEST_CASE_TEMPLATE("inside a traced function the same names work on traced values and trees of them", T, float, double) {
  const Params<T> p = params<T>(3, 4, 2), t = params<T>(3, 4, 2, 20);
  const Array<T> x = random<T>({5, 3}, 9), y = random<T>({5, 2}, 10);
  const auto of = [](Var a, Var b) { return [a, b](const Tree<Var>& q) { return loss(q, a, b); }; };
  const auto g = compile([&](const Tree<Var>& q, Var a, Var b) { return grad(of(a, b), q); }, p, x, y)(p, x, y);
  CHECK(tree_difference(g, grad(loss, p, x, y)) == 0);
  const auto h = compile([&](const Tree<Var>& q, const Tree<Var>& v, Var a, Var b) { return hvp(of(a, b), q, v); }, p, t, x, y)(p, t, x, y);
  CHECK(tree_difference(h, hvp(loss, p, t, x, y)) <= 256 * eps<T>);
  const auto [value, tangent] = jvp([&](const Tree<Var>& q, const Tree<Var>& v, Var a, Var b) { return jvp(of(a, b), q, v).second; }, p, Params<T>(map([](const Array<T>& a) { return T(0) * a; }, t)), t, x, y);
  CHECK(value.item() == doctest::Approx(jvp(loss, p, t, x, y).second.item()).epsilon(64 * eps<T>));
  CHECK(tangent.item() == 0);
  const auto norms = compile([&](const Tree<Var>& q, Var a, Var b) {
    auto [v, pull] = vjp(of(a, b), q);
    return pull(2.0 * v);
  }, p, x, y)(p, x, y);
  const T twice = 2 * static_cast<T>(ByHand<T>(p, x, y).value);
  CHECK(tree_difference(norms, map([&](const Array<T>& a) { return twice * a; }, g)) <= 2048 * eps<T> * static_cast<double>(twice));
}
