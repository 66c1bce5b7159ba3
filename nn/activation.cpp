// Activations: functions of one number without parameters, applied to every entry. Each is its formula over autodiff/ops.h, which has their slopes.
#include "linnet/nn/check.h"

#include <numbers>

namespace linnet::nn {
namespace {

template <class F> Layer elementwise(std::string name, F f) {
  return plain(
      name, [](Key, const Shape& input, Width) { return std::pair(input, Tree<Array<double>>()); },
      [name, f](const Tree<Var>& params, const Var& x) {
        check_no_others(name, params, {}, x);
        return f(x);
      });
}

void check_abc(std::string_view layer, double a, double b, double c = 0) {
  check_finite(layer, "a", a);
  check_finite(layer, "b", b);
  check_finite(layer, "c", c);
}

// c x and x + c without an instruction where they are x.
Var times(double c, const Var& x) { return c == 1 ? x : c * x; }
Var plus(const Var& x, double c) { return c == 0 ? x : x + c; }

Layer scaled_erf(std::string name, double a, double b, double c) {
  return elementwise(std::move(name), [=](const Var& x) { return plus(times(a, erf(times(b, x))), c); });
}

}  // namespace

Layer Erf(double a, double b, double c) {
  check_abc("erf", a, b, c);
  return scaled_erf("erf", a, b, c);
}
Layer Sigmoid_like() { return scaled_erf("sigmoid_like", 0.5, 1 / 2.4020563531719796, 0.5); }
Layer Relu() { return elementwise("relu", [](const Var& x) { return relu(x); }); }
Layer LeakyRelu(double alpha) {
  check_finite("leaky_relu", "alpha", alpha);
  return elementwise("leaky_relu", [=](const Var& x) { return abrelu(x, alpha, 1); });
}
Layer Abs() { return elementwise("abs", [](const Var& x) { return abs(x); }); }
Layer Gelu() { return elementwise("gelu", [](const Var& x) { return gelu(x); }); }
Layer Sin(double a, double b, double c) {
  check_abc("sin", a, b, c);
  return elementwise("sin", [=](const Var& x) { return times(a, sin(plus(times(b, x), c))); });
}
Layer Cos(double a, double b, double c) {
  check_abc("cos", a, b, c);
  return elementwise("cos", [=](const Var& x) { return times(a, cos(plus(times(b, x), c))); });
}
Layer Tanh() { return elementwise("tanh", [](const Var& x) { return tanh(x); }); }
Layer Rbf(double gamma) {
  check_not_negative("rbf", "gamma", gamma);
  return elementwise("rbf", [=](const Var& x) { return std::numbers::sqrt2 * sin(std::sqrt(2 * gamma) * x + std::numbers::pi / 4); });
}
Layer Exp(double a, double b) {
  check_abc("exp", a, b);
  return elementwise("exp", [=](const Var& x) { return times(a, exp(times(b, x))); });
}
Layer Gaussian(double a, double b) {
  check_abc("gaussian", a, b);
  return elementwise("gaussian", [=](const Var& x) { return times(a, exp(times(b, square(x)))); });
}
Layer Sign() { return elementwise("sign", [](const Var& x) { return sign(x); }); }

}  // namespace linnet::nn
