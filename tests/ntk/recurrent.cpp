// Kernels of recurrent networks whose loop is traced once (scan): tied weights, one state or two, outputs of the last step or of all, by every method against
// an explicit Jacobian in double contracted by loops.
#include "networks.h"

#include <doctest/doctest.h>

using namespace networks;
using namespace linnet::autodiff;
using networks::difference;
using ntk::Method;

namespace {

using P = const Tree<Var>&;
constexpr Method methods[] = {Method::structured, Method::jacobian_contraction, Method::vector_products, Method::automatic};
constexpr Index steps = 5, features = 2, width = 3;

Var start(const Var& x) { return fill(x.tape(), {x.shape()[0], width}, 0); }
Var in_time(const Var& x) { return transpose(x, {1, 0, 2}); }  // [n, steps, features] -> [steps, n, features]
using Values = std::span<const Var>;

// Sequences [n, steps, features] through loops.
std::vector<Network> recurrent_networks() {
  const Shape in{steps, features};
  const std::vector<std::pair<std::string, Shape>> plain = {{"W", {features, width}}, {"U", {width, width}}, {"b", {width}}, {"V", {width, 2}}};
  auto last = [](P p, const Var& x) {
    return scan([&](Values v) -> std::vector<Var> { return {tanh(dot(v[1], p["W"].leaf()) + dot(v[0], p["U"].leaf()) + p["b"].leaf())}; }, {start(x)}, {in_time(x)}, steps)[0];
  };
  std::vector<Network> all;
  all.push_back(network("last state", in, plain, [last](P p, Var x) { return dot(last(p, x), p["V"].leaf()); }));
  all.push_back(network("one output", in, {{"W", {features, width}}, {"U", {width, width}}, {"b", {width}}, {"v", {width}}}, [last](P p, Var x) { return dot(last(p, x), p["v"].leaf()); }));
  all.push_back(network("weights tied with those outside", in, {{"W", {features, width}}, {"U", {width, width}}, {"b", {width}}},
                        [last](P p, Var x) { return tanh(dot(last(p, x), p["U"].leaf()) + p["b"].leaf()); }));
  all.push_back(network("what enters is projected before the loop", in, plain, [](P p, Var x) {
    const Var h = scan([&](Values v) -> std::vector<Var> { return {tanh(v[1] + dot(v[0], p["U"].leaf()))}; }, {start(x)}, {in_time(dot(x, p["W"].leaf()) + p["b"].leaf())}, steps)[0];
    return dot(h, p["V"].leaf());
  }));
  all.push_back(network("outputs of every step", in, plain, [](P p, Var x) {
    const auto out = scan([&](Values v) -> std::vector<Var> {
      const Var h = tanh(dot(v[1], p["W"].leaf()) + dot(v[0], p["U"].leaf()) + p["b"].leaf());
      return {h, dot(h, p["V"].leaf())};
    }, {start(x)}, {in_time(x)}, steps);
    return transpose(out[1], {1, 0, 2});
  }));
  all.push_back(network("gated, with two states and a start that is learnt", in,
                        {{"W", {features, width}}, {"U", {width, width}}, {"G", {features, width}}, {"H", {width, width}}, {"h", {width}}, {"V", {width, 2}}}, [](P p, Var x) {
    const Var h0 = start(x) + p["h"].leaf();
    const auto out = scan([&](Values v) -> std::vector<Var> {
      const Var gate = sigmoid(dot(v[2], p["G"].leaf()) + dot(v[0], p["H"].leaf())), cell = gate * v[1] + (1.0 - gate) * tanh(dot(v[2], p["W"].leaf()) + dot(v[0], p["U"].leaf()));
      return {gate * tanh(cell), cell};
    }, {h0, start(x)}, {in_time(x)}, steps);
    return dot(out[0], p["V"].leaf());
  }));
  all.push_back(network("a step is recomputed", in, plain, [](P p, Var x) {
    const Function body = [&](Values v) -> std::vector<Var> { return checkpoint([&](Values u) -> std::vector<Var> { return {tanh(dot(u[1], p["W"].leaf()) + dot(u[0], p["U"].leaf()))}; })(v); };
    return dot(scan(body, {start(x)}, {in_time(x)}, steps)[0] + p["b"].leaf(), p["V"].leaf());
  }));
  return all;
}

}  // namespace

TEST_CASE_TEMPLATE("the kernel of a network with a loop is that of the explicit Jacobian by every method", T, float, double) {
  for (const Network& net : recurrent_networks()) {
    CAPTURE(net.name);
    const Array<double> x2 = examples(net, 3, 1), x1 = examples(net, 7, 2);
    const Array<double> j2 = jacobian(net, x2), j1 = jacobian(net, x1), one = outer(j1, j1), two = outer(j2, j1);
    const Index outputs = j1.shape()[0] / 7;
    const auto params = as<T>(net.params);
    for (const Method method : methods) {
      CAPTURE(static_cast<int>(method));
      const auto k = ntk::full(net.f, params, as<T>(x1), {.method = method});
      CHECK(difference(k.matrix(), one) <= tolerance<T>());
      CHECK(symmetric(k.matrix()));
      CHECK(difference(ntk::full(net.f, params, as<T>(x2), as<T>(x1), {.method = method}).matrix(), two) <= tolerance<T>());
      CHECK(difference(ntk::traced(net.f, params, as<T>(x1), {.method = method}).matrix(), networks::traced(one, outputs)) <= tolerance<T>());
      CHECK(difference(ntk::traced(net.f, params, as<T>(x2), as<T>(x1), {.method = method}).matrix(), networks::traced(two, outputs)) <= tolerance<T>());
    }
    const Array<T> diagonal = ntk::diagonal(net.f, params, as<T>(x1));
    for (Index i = 0; i < diagonal.size(); ++i) CHECK(diagonal.data()[i] == doctest::Approx(one[{i, i}]).epsilon(10 * tolerance<T>()));
  }
}

TEST_CASE("the kernel of a loop is that of its unrolled steps, for one example and for none") {
  const Network net = recurrent_networks()[0];
  const ntk::Apply unrolled = [](P p, Var x) {
    Var h = start(x);
    for (Index t = 0; t < steps; ++t) h = tanh(dot(reshape(slice(x, 1, t, 1), {x.shape()[0], features}), p["W"].leaf()) + dot(h, p["U"].leaf()) + p["b"].leaf());
    return dot(h, p["V"].leaf());
  };
  for (const Index n : {0, 1, 6})
    for (const Method method : methods) {
      const Array<double> x = examples(net, n, 3), k = ntk::full(net.f, net.params, x, {.method = method}).matrix();
      CHECK(difference(k, ntk::full(unrolled, net.params, x, {.method = method}).matrix()) <= tolerance<double>());
    }
}
