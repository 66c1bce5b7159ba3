// Kernels of networks that use primitives of the user's own (docs/extending.md): an activation with a slope, a linear operation with a transpose, and a
// function with a derivative of its own.
#include "networks.h"

#include "linnet/autodiff/primitive.h"

#include <doctest/doctest.h>

using namespace networks;
using namespace linnet::autodiff;
using networks::difference;
using ntk::Method;

namespace {

template <class T> void softplus_kernel(const Attributes&, const T* const* in, T* out, Index n) {
  for (Index i = 0; i < n; ++i) out[i] = std::max(in[0][i], T(0)) + std::log1p(std::exp(-std::abs(in[0][i])));
}
Shape unchanged(Shapes in, const Attributes&) { return in[0]; }
constexpr Primitive softplus_primitive{.name = "softplus", .operands = {Operand::smooth}, .infer = unchanged, .map = {softplus_kernel<float>, softplus_kernel<double>}, .eval = {},
                                       .jvp = [](const Rule& r, int, Var t) { return t * sigmoid(r.in[0]); }};
Var softplus(const Var& x) { return emit(softplus_primitive, std::array{x}); }

Var reversed(const Var& x);
template <class T> void reversed_kernel(const KernelCall<T>& call) {
  const Index size = call.out_shape.size(), length = call.out_shape[call.out_shape.rank() - 1];
  for (Index lane = 0; lane < call.count(); ++lane)
    for (Index at = 0; at < size; at += length) std::reverse_copy(call.lane(0, lane) + at, call.lane(0, lane) + at + length, call.out + lane * size + at);
}
constexpr Primitive reversed_primitive{.name = "reversed", .operands = {Operand::linear}, .joint = true, .infer = unchanged, .map = {}, .eval = {reversed_kernel<float>, reversed_kernel<double>},
                                       .transpose = [](const Rule&, int, Var ct) { return reversed(ct); }};
Var reversed(const Var& x) { return emit(reversed_primitive, std::array{x}); }

Var own_tanh(const Var& x) {
  const Function f = [](std::span<const Var> v) -> std::vector<Var> { return {tanh(v[0])}; };
  return custom_jvp(f, [](std::span<const Var> v, std::span<const Var> t) -> std::vector<Var> { return {t[0] * (1.0 - square(tanh(v[0])))}; })(std::array{x})[0];
}

}  // namespace

TEST_CASE_TEMPLATE("kernels go through the user's own primitives and derivatives by every method", T, float, double) {
  const std::vector<std::pair<std::string, Shape>> params = {{"W", {3, 4}}, {"b", {4}}, {"V", {4, 2}}, {"c", {2}}};
  using P = const Tree<Var>&;
  const Network nets[] = {
      network("own activation", {3}, params, [](P p, Var x) { return dot(softplus(dot(x, p["W"].leaf()) + p["b"].leaf()), p["V"].leaf()) + p["c"].leaf(); }),
      network("own moving of values", {3}, params, [](P p, Var x) { return dot(reversed(softplus(dot(x, p["W"].leaf()) + p["b"].leaf())), p["V"].leaf()) + p["c"].leaf(); }),
      network("on a parameter", {3}, params, [](P p, Var x) { return dot(tanh(dot(x, reversed(p["W"].leaf())) + softplus(p["b"].leaf())), p["V"].leaf()) + p["c"].leaf(); }),
      network("own derivative", {3}, params, [](P p, Var x) { return dot(own_tanh(dot(x, p["W"].leaf()) + p["b"].leaf()), p["V"].leaf()) + p["c"].leaf(); })};
  for (const Network& net : nets) {
    CAPTURE(net.name);
    const Array<double> x2 = examples(net, 3, 1), x1 = examples(net, 7, 2), j2 = jacobian(net, x2), j1 = jacobian(net, x1);
    const auto weights = as<T>(net.params);
    for (const Method method : {Method::structured, Method::jacobian_contraction, Method::vector_products, Method::automatic}) {
      CAPTURE(static_cast<int>(method));
      CHECK(difference(ntk::full(net.f, weights, as<T>(x1), {.method = method}).matrix(), outer(j1, j1)) <= tolerance<T>());
      CHECK(difference(ntk::traced(net.f, weights, as<T>(x2), as<T>(x1), {.method = method}).matrix(), networks::traced(outer(j2, j1), 2)) <= tolerance<T>());
    }
  }
}
