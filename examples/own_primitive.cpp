// Operations of your own: a primitive of each kind, a function with a derivative of its own, and a value that derivatives do not see. None of it is in the
// library. docs/extending.md goes through this file; tests/examples/programs.cpp holds it to what the page says it prints.
#include "linnet/autodiff/ops.h"
#include "linnet/autodiff/primitive.h"
#include "linnet/autodiff/testing.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

using namespace linnet::autodiff;

// [smooth]
// softplus(x) = log(1 + exp(x)), in scalar code that overflows nowhere; its slope is a composition of what there is.
template <class T> void softplus_kernel(const Attributes&, const T* const* in, T* out, Index n) {
  for (Index i = 0; i < n; ++i) out[i] = std::max(in[0][i], T(0)) + std::log1p(std::exp(-std::abs(in[0][i])));
}
constexpr Primitive softplus_primitive{
    .name = "softplus",
    .operands = {Operand::smooth},
    .infer = [](Shapes in, const Attributes&) { return in[0]; },
    .map = {softplus_kernel<float>, softplus_kernel<double>},
    .jvp = [](const Rule& r, int, Var tangent) { return tangent * sigmoid(r.in[0]); }};
Var softplus(const Var& x) { return emit(softplus_primitive, std::array{x}); }
// [end]

// [linear]
// reversed(x): the last axis from its end. A linear operand has a transpose, which here is the operation itself.
Var reversed(const Var& x);
template <class T> void reversed_kernel(const KernelCall<T>& call) {
  const Shape& shape = call.out_shape;
  const Index length = shape[shape.rank() - 1];
  for (Index lane = 0; lane < call.count(); ++lane)
    for (Index at = 0; at < shape.size(); at += length)
      std::reverse_copy(call.lane(0, lane) + at, call.lane(0, lane) + at + length, call.out + lane * shape.size() + at);
}
constexpr Primitive reversed_primitive{
    .name = "reversed",
    .operands = {Operand::linear},
    .joint = true,
    .infer = [](Shapes in, const Attributes&) {
      if (in[0].rank() == 0) throw ShapeError("reversed: a scalar has no axis to reverse");
      return in[0];
    },
    .eval = {reversed_kernel<float>, reversed_kernel<double>},
    .transpose = [](const Rule&, int, Var cotangent) { return reversed(cotangent); },
    .flops = no_flops};
Var reversed(const Var& x) { return emit(reversed_primitive, std::array{x}); }
// [end]

// [custom]
// The y with y + y^3 = x by twenty steps of Newton's method. Its derivative is 1 / (1 + 3 y^2): the steps are not differentiated.
Var root(const Var& x) {
  const Function newton = [](std::span<const Var> in) {
    return scan([&](std::span<const Var> y) -> std::vector<Var> { return {y[0] - (y[0] + pow(y[0], 3.0) - in[0]) / (1.0 + 3.0 * square(y[0]))}; }, {in[0]}, {}, 20);
  };
  const CustomJvp implicit = [](std::span<const Var> in, std::span<const Var> tangent) -> std::vector<Var> { return {tangent[0] / (1.0 + 3.0 * square(root(in[0])))}; };
  return custom_jvp(newton, implicit)(std::array{x})[0];
}
// [end]

// [stop]
// sign(x), with the slope of x: a straight-through estimate.
Var sign_through(const Var& x) { return x + stop_gradient(sign(x) - x); }
// [end]

void show(const char* name, const Array<double>& x) {
  std::printf("%-24s", name);
  for (const double v : x) std::printf(" %9.6f", v);
  std::printf("\n");
}

// [check]
// Values against differences, the adjoint identity, lanes, both widths: to the third order.
bool holds(const char* name, Var (*f)(const Var&), const Array<double>& x) {
  const std::vector<std::string> failures = check_derivatives(f, x, {.order = 3});
  std::printf("%-24s %s\n", name, failures.empty() ? "every derivative holds to the third order" : failures[0].c_str());
  return failures.empty();
}
// [end]

int main() {
  const Array<double> x({4}, {-2, -0.5, 0.25, 3});
  auto total = [](auto f) { return [f](const Var& v) { return sum(f(v)); }; };
  show("x", x);
  show("softplus", compile(softplus, x)(x));
  show("  its slope", grad(total(softplus), x));
  show("  its curvature", hvp(total(softplus), x, Array<double>({4}, 1)));
  show("reversed", compile(reversed, x)(x));
  show("root", compile(root, x)(x));
  show("  its slope", grad(total(root), x));
  show("sign_through", compile(sign_through, x)(x));
  show("  its slope", grad(total(sign_through), x));
  bool good = holds("softplus", softplus, x);
  good &= holds("reversed", reversed, x);
  good &= holds("root", root, x);
  return good ? 0 : 1;
}
