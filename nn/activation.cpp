// Activations: functions of one number without parameters, applied to every entry. Each is its formula over autodiff/ops.h, which has their slopes.
#include "linnet/nn/kernel_layers.h"

#include <numbers>

namespace linnet::nn {
namespace {

template <class F> Layer elementwise(std::string name, F f, Rule rule, std::optional<LayerOptions> options = LayerOptions{}) {
  return with_kernel(plain(
      name, [](Key, const Shape& input, Width) { return std::pair(input, Tree<Array<double>>()); },
      [name, f](const Tree<Var>& params, const Var& x) {
        check_no_others(name, params, {}, x);
        return f(x);
      },
      std::move(options)), std::move(rule));
}

void check_abc(std::string_view layer, double a, double b, double c = 0) {
  check_finite(layer, "a", a);
  check_finite(layer, "b", b);
  check_finite(layer, "c", c);
}

// c x and x + c without an instruction where they are x.
Var times(double c, const Var& x) { return c == 1 ? x : c * x; }
Var plus(const Var& x, double c) { return c == 0 ? x : x + c; }

LayerOptions abc(double a, double b, double c) { return {{"a", a}, {"b", b}, {"c", c}}; }

Layer scaled_erf(std::string name, double a, double b, double c, LayerOptions options) {
  Rule rule = erf_rule(name, a, b, c);
  return elementwise(
      std::move(name), [=](const Var& x) { return plus(times(a, erf(times(b, x))), c); }, std::move(rule), std::move(options));
}

// A number in the shape of x.
Var everywhere(double value, const Var& x) { return plus(zeros_like(x), value); }

// x^n of n > 0 by squares.
Var power(const Var& x, Index n) {
  if (n == 1) return x;
  const Var half = power(x, n / 2), all = half * half;
  return n % 2 ? all * x : all;
}

// By h_{k+1} = (x h_k - sqrt(k) h_{k-1}) / sqrt(k + 1), h_0 = 1, which overflows nowhere before its result does.
Var hermite(const Var& x, Index degree) {
  if (degree == 0) return everywhere(1, x);
  Var before, now = x;
  for (Index k = 1; k < degree; ++k) {
    const double root = std::sqrt(static_cast<double>(k));
    const Var next = (k == 1 ? x * now - 1.0 : x * now - root * before) / std::sqrt(static_cast<double>(k + 1));
    before = now;
    now = next;
  }
  return now;
}

Var polynomial(const Var& x, const std::vector<double>& c) {  // by Horner's rule
  if (c.size() == 1) return everywhere(c[0], x);
  Var y = plus(times(c.back(), x), c[c.size() - 2]);
  for (std::size_t i = c.size() - 2; i-- > 0;) y = plus(y * x, c[i]);
  return y;
}

void check_degree(std::string_view layer, Index degree) {
  constexpr Index most = 1000;
  if (degree < 0 || degree > most) fail<StructureError>("{}: the degree must be from 0 to {}, got {}", layer, most, degree);
}

Var gelu_by_tanh(const Var& x) { return 0.5 * x * (1.0 + tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * power(x, 3)))); }

// In powers of x.
std::vector<double> of_degree(Index degree) {
  std::vector<double> c(static_cast<std::size_t>(degree) + 1);
  c.back() = 1;
  return c;
}
std::vector<double> hermite_coefficients(Index degree) {
  std::vector<double> before, now{1};
  for (Index k = 0; k < degree; ++k) {
    std::vector<double> next(now.size() + 1);
    for (std::size_t i = 0; i < now.size(); ++i) next[i + 1] += now[i];
    for (std::size_t i = 0; i < before.size(); ++i) next[i] -= std::sqrt(static_cast<double>(k)) * before[i];
    for (double& c : next) c /= std::sqrt(static_cast<double>(k + 1));
    before = std::move(now);
    now = std::move(next);
  }
  return now;
}

}  // namespace

Layer Erf(double a, double b, double c) {
  check_abc("erf", a, b, c);
  return scaled_erf("erf", a, b, c, abc(a, b, c));
}
Layer Sigmoid_like() { return scaled_erf("sigmoid_like", 0.5, 1 / 2.4020563531719796, 0.5, {}); }
Layer ABRelu(double a, double b) {
  check_abc("ab_relu", a, b);
  return elementwise("ab_relu", [=](const Var& x) { return abrelu(x, a, b); }, abrelu_rule("ab_relu", a, b), LayerOptions{{"a", a}, {"b", b}});
}
Layer Relu() { return elementwise("relu", [](const Var& x) { return relu(x); }, abrelu_rule("relu", 0, 1)); }
Layer LeakyRelu(double alpha) {
  check_finite("leaky_relu", "alpha", alpha);
  return elementwise("leaky_relu", [=](const Var& x) { return abrelu(x, alpha, 1); }, abrelu_rule("leaky_relu", alpha, 1), LayerOptions{{"alpha", alpha}});
}
Layer Abs() { return elementwise("abs", [](const Var& x) { return abs(x); }, abrelu_rule("abs", -1, 1)); }
Layer Gelu(bool approximate) {
  return elementwise(
      "gelu",
      [=](const Var& x) {
        return approximate ? gelu_by_tanh(x) : gelu(x);
      },
      approximate ? series_rule("gelu", gelu_by_tanh) : gelu_rule(), LayerOptions{{"approximate", approximate}});
}
Layer Sin(double a, double b, double c) {
  check_abc("sin", a, b, c);
  return elementwise("sin", [=](const Var& x) { return times(a, sin(plus(times(b, x), c))); }, sine_rule("sin", a, b, std::cos(2 * c)), abc(a, b, c));
}
Layer Cos(double a, double b, double c) {
  check_abc("cos", a, b, c);
  return elementwise("cos", [=](const Var& x) { return times(a, cos(plus(times(b, x), c))); }, sine_rule("cos", a, b, -std::cos(2 * c)), abc(a, b, c));
}
Layer Tanh() { return elementwise("tanh", [](const Var& x) { return tanh(x); }, series_rule("tanh", [](const Var& x) { return tanh(x); }, true)); }
Layer Rbf(double gamma) {
  check_not_negative("rbf", "gamma", gamma);
  return elementwise("rbf", [=](const Var& x) { return std::numbers::sqrt2 * sin(std::sqrt(2 * gamma) * x + std::numbers::pi / 4); }, rbf_rule(gamma), LayerOptions{{"gamma", gamma}});
}
Layer Exp(double a, double b) {
  check_abc("exp", a, b);
  return elementwise("exp", [=](const Var& x) { return times(a, exp(times(b, x))); }, exp_rule(a, b), LayerOptions{{"a", a}, {"b", b}});
}
Layer Gaussian(double a, double b) {
  check_abc("gaussian", a, b);
  return elementwise("gaussian", [=](const Var& x) { return times(a, exp(times(b, square(x)))); }, gaussian_rule(a, b), LayerOptions{{"a", a}, {"b", b}});
}
Layer Gabor() { return elementwise("gabor", [](const Var& x) { return exp(-square(x)) * sin(x); }, gabor_rule()); }
Layer Sign() { return elementwise("sign", [](const Var& x) { return sign(x); }, sign_rule()); }
Layer Monomial(Index degree) {
  check_degree("monomial", degree);
  return elementwise("monomial", [=](const Var& x) { return degree == 0 ? everywhere(1, x) : power(x, degree); }, polynomial_rule("monomial", of_degree(degree)), LayerOptions{{"degree", degree}});
}
Layer RectifiedMonomial(Index degree) {
  check_degree("rectified_monomial", degree);
  return elementwise("rectified_monomial", [=](const Var& x) { return degree == 0 ? 1.0 - step(-x) : power(relu(x), degree); }, rectified_monomial_rule(degree), LayerOptions{{"degree", degree}});
}
Layer Polynomial(std::vector<double> coefficients) {
  if (coefficients.empty()) fail<StructureError>("polynomial: there are no coefficients; give one at least, that of 1 first");
  for (const double c : coefficients) check_finite("polynomial", "a coefficient", c);
  return elementwise("polynomial", [coefficients](const Var& x) { return polynomial(x, coefficients); }, polynomial_rule("polynomial", coefficients), LayerOptions{{"coefficients", coefficients}});
}
Layer Hermite(Index degree) {
  check_degree("hermite", degree);
  return elementwise("hermite", [=](const Var& x) { return hermite(x, degree); }, polynomial_rule("hermite", hermite_coefficients(degree)), LayerOptions{{"degree", degree}});
}
Layer Elementwise(const std::string& name, const std::function<Var(const Var&)>& f) {
  if (!f) fail<StructureError>("elementwise: there is no function");
  return elementwise(name, [name, f](const Var& x) {
    Var y = f(x);
    if (y.shape() != x.shape()) fail<ShapeError>("{}{}: the function takes {} to {}, but an elementwise one keeps the shape", place({}, x), name, x.shape(), y.shape());
    return y;
  }, series_rule(name, f), std::nullopt);
}

}  // namespace linnet::nn
