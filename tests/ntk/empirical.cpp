// The kernel of every method against an explicit Jacobian in double, contracted by loops: by architecture, by the number of examples and outputs.
#include "networks_by_hand.h"

#include "linnet/autodiff/kernels/decompositions.h"

#include <doctest/doctest.h>

#include <cstring>

using namespace networks;
using linnet::autodiff::ShapeError;
using ntk::Method;

namespace {

constexpr Method methods[] = {Method::structured, Method::jacobian_contraction, Method::vector_products, Method::automatic};
const char* name_of(Method m) {
  switch (m) {
    case Method::structured: return "structured";
    case Method::jacobian_contraction: return "jacobian_contraction";
    case Method::vector_products: return "vector_products";
    default: return "automatic";
  }
}

// The explicit kernel of a network over some examples, to take blocks of.
struct Explicit {
  const Network& net;
  Array<double> x, kernel;
  Index outputs;
  Explicit(const Network& net_, Array<double> x_) : net(net_), x(std::move(x_)) {
    const Array<double> J = jacobian(net, x);
    outputs = J.shape()[0] / x.shape()[0];
    kernel = outer(J, J);
  }
  Array<double> full(Index i, Index m, Index j, Index n) const { return block(kernel, i * outputs, m * outputs, j * outputs, n * outputs); }
};

// One set of m examples from i on, by a method, full and traced.
template <class T> void check_one_set(const Explicit& e, Index i, Index m, Method method) {
  CAPTURE(std::string(name_of(method)));
  CAPTURE(m);
  const Tree<Array<T>> params = as<T>(e.net.params);
  const Array<T> x = as<T>(e.x.rows(i, m));
  const Array<double> expected = e.full(i, m, i, m);
  const auto full = ntk::full(e.net.f, params, x, {.method = method});
  CHECK(difference(full.matrix(), expected) <= tolerance<T>());
  CHECK(symmetric(full.matrix()));
  CHECK(full.rows() == m);
  CHECK(full.columns() == m);
  CHECK(full.outputs() == e.outputs);
  const auto trace = ntk::traced(e.net.f, params, x, {.method = method});
  CHECK(difference(trace.matrix(), networks::traced(expected, e.outputs)) <= tolerance<T>());
  CHECK(symmetric(trace.matrix()));
  CHECK(trace.outputs() == e.outputs);
}

// n2 examples from i on with n1 from j on.
template <class T> void check_two_sets(const Explicit& e, Index i, Index n2, Index j, Index n1, Method method) {
  CAPTURE(std::string(name_of(method)));
  CAPTURE(n2);
  CAPTURE(n1);
  const Tree<Array<T>> params = as<T>(e.net.params);
  const Array<T> x2 = as<T>(e.x.rows(i, n2)), x1 = as<T>(e.x.rows(j, n1));
  const Array<double> expected = e.full(i, n2, j, n1);
  const auto full = ntk::full(e.net.f, params, x2, x1, {.method = method});
  CHECK(difference(full.matrix(), expected) <= tolerance<T>());
  CHECK(full.rows() == n2);
  CHECK(full.columns() == n1);
  const auto trace = ntk::traced(e.net.f, params, x2, x1, {.method = method});
  CHECK(difference(trace.matrix(), networks::traced(expected, e.outputs)) <= tolerance<T>());
}

}  // namespace

TEST_CASE_TEMPLATE("every method gives the kernel of the explicit Jacobian, for every use of a parameter", T, float, double) {
  for (const Network& net : by_hand()) {
    CAPTURE(net.name);
    const Explicit e(net, examples(net, 8, 1));
    for (const Method method : methods) {
      check_one_set<T>(e, 0, 5, method);
      check_two_sets<T>(e, 5, 3, 0, 5, method);
    }
    const Array<T> diagonal = ntk::diagonal(net.f, as<T>(net.params), as<T>(e.x));
    Array<double> expected({8, e.outputs});
    for (Index i = 0; i < expected.size(); ++i) expected.data()[i] = e.kernel[{i, i}];
    CHECK(difference(diagonal, expected) <= tolerance<T>());
  }
}

TEST_CASE_TEMPLATE("every method gives the kernel of the explicit Jacobian, for thirty drawn architectures", T, float, double) {
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    const Network net = drawn(seed);
    CAPTURE(net.name);
    const Explicit e(net, examples(net, 10, seed + 1));
    for (const Method method : methods) {
      check_one_set<T>(e, 0, 7, method);
      check_two_sets<T>(e, 6, 4, 0, 6, method);
    }
  }
}

TEST_CASE_TEMPLATE("the number of examples may be anything: none, one, ragged, beyond a chunk and a tile", T, float, double) {
  for (const Index outputs : {1, 2, 3, 10}) {
    const Network net = mlp(3, {4, 3}, outputs);
    CAPTURE(net.name);
    const Explicit e(net, examples(net, outputs < 10 ? 385 : 129, 1));
    const Index most = e.x.shape()[0];
    for (const Method method : {Method::structured, Method::jacobian_contraction}) {
      for (const Index n : {0, 1, 2, 31, 33, 129, 385})
        if (n <= most) check_one_set<T>(e, 0, n, method);
      for (const auto [n2, n1] : {std::array<Index, 2>{0, 5}, {5, 0}, {1, 33}, {33, 31}, {2, 129}, {129, 1}, {129, 385}, {385, 31}, {385, 384}})
        if (std::max(n1, n2) <= most) check_two_sets<T>(e, most - n2, n2, 0, n1, method);
    }
    for (const Index n : {0, 1, 2, 33}) check_one_set<T>(e, 0, n, Method::vector_products);
    check_two_sets<T>(e, 4, 33, 0, 2, Method::vector_products);
    check_two_sets<T>(e, 4, 2, 0, 33, Method::vector_products);
  }
}

TEST_CASE_TEMPLATE("positions beside a ragged number of examples and several outputs", T, float, double) {
  for (const std::string name : {"dense over positions", "positions, then one", "W at positions, transposed there", "of parameters alone", "recurrent"}) {
    const std::vector<Network> all = by_hand();
    const Network& net = *std::find_if(all.begin(), all.end(), [&](const Network& n) { return n.name == name; });
    CAPTURE(name);
    const Explicit e(net, examples(net, 131, 1));
    for (const Method method : {Method::structured, Method::jacobian_contraction}) {
      for (const Index n : {1, 33, 131}) check_one_set<T>(e, 0, n, method);
      check_two_sets<T>(e, 98, 33, 0, 98, method);
    }
  }
}

TEST_CASE_TEMPLATE("more outputs than a tile has rows, and products deeper than a packed block", T, float, double) {
  for (const Network& net : {mlp(2, {2}, 400), mlp(600, {3}, 1), mlp(600, {3}, 3), mlp(2, {600}, 2), mlp(1, {1}, 1)}) {
    CAPTURE(net.name);
    CAPTURE(net.example[0]);
    const Explicit e(net, examples(net, 4, 1));
    for (const Method method : methods) {
      check_one_set<T>(e, 0, 3, method);
      check_two_sets<T>(e, 1, 3, 0, 1, method);
    }
  }
}

TEST_CASE_TEMPLATE("no eigenvalue is below what rounding explains", T, float, double) {
  for (const Network& net : {mlp(3, {4}, 1), mlp(3, {4}, 3), drawn(3), drawn(8)}) {
    CAPTURE(net.name);
    const Array<double> x = examples(net, 40, 1);
    for (const Method method : methods)
      for (const bool traced : {false, true}) {
        CAPTURE(std::string(name_of(method)));
        const auto params = as<T>(net.params);
        const Array<T> k = traced ? ntk::traced(net.f, params, as<T>(x), {.method = method}).matrix() : ntk::full(net.f, params, as<T>(x), {.method = method}).matrix();
        Array<double> a = linnet::autodiff::cast<double>(k);
        const Index n = a.shape()[0];
        std::vector<double> values(static_cast<std::size_t>(n));
        linnet::autodiff::eigh(n, a.data(), values.data());
        CHECK(values.back() > 0);
        CHECK(values.front() >= -10 * static_cast<double>(n) * std::numeric_limits<T>::epsilon() * values.back());
      }
  }
}

TEST_CASE_TEMPLATE("the diagonal is that of the full kernel, for any number of examples", T, float, double) {
  const Network net = mlp(3, {4, 5}, 3);
  for (const Index n : {0, 1, 7, 8, 9, 33}) {
    CAPTURE(n);
    const Array<T> x = as<T>(examples(net, n, 1)), diagonal = ntk::diagonal(net.f, as<T>(net.params), x);
    const auto full = ntk::full(net.f, as<T>(net.params), x);
    Array<double> expected({n, 3});
    for (Index i = 0; i < 3 * n; ++i) expected.data()[i] = full.matrix()[{i, i}];
    CHECK(difference(diagonal, expected) <= tolerance<T>());
    for (const Method method : methods) CHECK(difference(ntk::diagonal(net.f, as<T>(net.params), x, {.method = method}), expected) <= tolerance<T>());
  }
}

TEST_CASE_TEMPLATE("the NNGP is the product of the outputs, divided by their number", T, float, double) {
  for (const Network& net : {mlp(3, {4}, 1), mlp(3, {4}, 5), drawn(1)}) {
    for (const auto [n2, n1] : {std::array<Index, 2>{7, 33}, {1, 1}, {0, 3}, {3, 0}}) {
      const Array<double> x2 = examples(net, n2, 1), x1 = examples(net, n1, 2);
      const auto outputs = [&](const Array<double>& x) {
        const Array<double> y = compile([&](const Tree<Var>& p, const Var& v) { return net.f(p, v); }, net.params, x)(net.params, x);
        return y.reshaped({y.shape()[0], y.shape().size(1, y.shape().rank())});
      };
      const Array<double> y2 = outputs(x2), y1 = outputs(x1);
      const double scale = 1 / static_cast<double>(y1.shape()[1]);
      const auto params = as<T>(net.params);
      CHECK(difference(ntk::nngp(net.f, params, as<T>(x2), as<T>(x1)), scale * outer(y2, y1)) <= tolerance<T>());
      const Array<T> one = ntk::nngp(net.f, params, as<T>(x1));
      CHECK(difference(one, scale * outer(y1, y1)) <= tolerance<T>());
      CHECK(symmetric(one));
    }
  }
}

TEST_CASE("the peer's layout has the outputs behind the examples, the mean is divided by the outputs") {
  const Network net = mlp(3, {4}, 2);
  const Array<double> x2 = examples(net, 3, 1), x1 = examples(net, 4, 2);
  const auto full = ntk::full(net.f, net.params, x2, x1);
  const Array<double> peer = full.to_peer_layout();
  REQUIRE(peer.shape() == Shape{3, 4, 2, 2});
  for (Index n = 0; n < 3; ++n)
    for (Index m = 0; m < 4; ++m)
      for (Index o = 0; o < 2; ++o)
        for (Index q = 0; q < 2; ++q) CHECK(peer[{n, m, o, q}] == full.matrix()[{n * 2 + o, m * 2 + q}]);
  const auto trace = ntk::traced(net.f, net.params, x2, x1);
  REQUIRE(trace.mean().shape() == Shape{3, 4});
  for (Index n = 0; n < 3; ++n)
    for (Index m = 0; m < 4; ++m) {
      CHECK(trace.mean()[{n, m}] == trace.matrix()[{n, m}] / 2);
      CHECK(trace.matrix()[{n, m}] == doctest::Approx(peer[{n, m, 0, 0}] + peer[{n, m, 1, 1}]).epsilon(1e-13));
    }
}
