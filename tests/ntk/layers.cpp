// Kernels of convolutional networks, a residual one and a transformer block: every method against the explicit Jacobian, and what is built on it.
#include "networks_of_layers.h"

#include "linnet/predict/predict.h"

#include <doctest/doctest.h>

using namespace networks;
using ntk::Method;

namespace {

constexpr std::pair<Method, const char*> methods[] = {
    {Method::structured, "structured"}, {Method::jacobian_contraction, "jacobian_contraction"}, {Method::vector_products, "vector_products"}, {Method::automatic, "automatic"}};

}  // namespace

TEST_CASE_TEMPLATE("every method gives the kernel of every kind of network: full, traced and its diagonal, of one set and of two", T, float, double) {
  for (const Network& net : of_every_kind()) {
    CAPTURE(net.name);
    const Array<double> x = examples(net, 7, 1), J = jacobian(net, x), kernel = outer(J, J);
    const Index outputs = J.shape()[0] / 7;
    const auto params = as<T>(net.params);
    const Array<T> all = as<T>(x), first = as<T>(x.rows(0, 5)), last = as<T>(x.rows(5, 2));
    const Array<double> square = block(kernel, 0, 5 * outputs, 0, 5 * outputs), rows = block(kernel, 5 * outputs, 2 * outputs, 0, 5 * outputs);
    Array<double> diagonal({7, outputs});
    for (Index i = 0; i < 7 * outputs; ++i) diagonal.data()[i] = kernel[{i, i}];
    for (const auto& [method, name] : methods) {
      CAPTURE(std::string(name));
      const ntk::Options options{.method = method};
      CHECK(difference(ntk::full(net.f, params, all, options).matrix(), kernel) <= tolerance<T>());
      CHECK(symmetric(ntk::full(net.f, params, all, options).matrix()));
      CHECK(difference(ntk::full(net.f, params, first, options).matrix(), square) <= tolerance<T>());
      CHECK(difference(ntk::full(net.f, params, last, first, options).matrix(), rows) <= tolerance<T>());
      CHECK(difference(ntk::traced(net.f, params, first, options).matrix(), networks::traced(square, outputs)) <= tolerance<T>());
      CHECK(difference(ntk::traced(net.f, params, last, first, options).matrix(), networks::traced(rows, outputs)) <= tolerance<T>());
      CHECK(difference(ntk::diagonal(net.f, params, all, options), diagonal) <= tolerance<T>());
    }
    CHECK(ntk::full(net.f, params, all.rows(0, 0)).matrix().size() == 0);
    CHECK(difference(ntk::full(net.f, params, all.rows(0, 1)).matrix(), block(kernel, 0, outputs, 0, outputs)) <= tolerance<T>());
  }
}

TEST_CASE_TEMPLATE("kernels of every kind of network have the same bits for any number of threads", T, float, double) {
  const int before = linnet::autodiff::threads();
  for (const Network& net : of_every_kind()) {
    CAPTURE(net.name);
    const auto params = as<T>(net.params);
    const Array<T> x = as<T>(examples(net, 70, 1));
    for (const Method method : {Method::structured, Method::jacobian_contraction}) {
      linnet::autodiff::set_threads(1);
      const auto one = ntk::full(net.f, params, x, {.method = method}).matrix();
      for (const int n : {2, 3}) {
        linnet::autodiff::set_threads(n);
        CHECK(ntk::full(net.f, params, x, {.method = method}).matrix() == one);
      }
    }
  }
  linnet::autodiff::set_threads(before);
}

TEST_CASE("function space and weight space agree for every kind of network, at every time") {
  for (const Network& net : of_every_kind()) {
    CAPTURE(net.name);
    const Array<double> x = examples(net, 4, 2), x_new = examples(net, 3, 3);
    const auto f = [&](const Tree<Var>& p, const Var& v) { return reshape(net.f(p, v), {v.shape()[0], net.f(p, v).shape().size(1, net.f(p, v).shape().rank())}); };
    const Array<double> outputs = compile(f, net.params, x)(net.params, x);
    Draw draw(5);
    const Array<double> y = draw.array(outputs.shape());
    const auto flow = linnet::predict::gradient_flow(ntk::Apply(f), net.params, x, y, {.rate = 0.5});
    for (const double t : {0., 1., 100., double(INFINITY)}) {
      CAPTURE(t);
      const auto at = flow(t);
      const double bound = std::max(1e-11, 10 * std::numeric_limits<double>::epsilon() * flow.dynamics().condition());
      CHECK(difference(at.linearized(x), at.train()) <= bound);
      CHECK(difference(at.linearized(x_new), at.predict(x_new)) <= bound);
    }
  }
}
