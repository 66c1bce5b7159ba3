// Kernels of activations in closed form: K' = E f(u) f(v) of two Gaussian variables with variances q1, q2 and covariance K, and its slope dK'/dK = E f'(u) f'(v) (Price,
// IRE Trans. Inf. Theory 4, 1958). Written with gap = s1 s2 - K wherever that keeps digits: q1 q2 - K^2 = gap (2 s1 s2 - gap) has no cancellation.
#include "linnet/nn/kernel_layers.h"
#include "linnet/nn/kernel_maps.h"

#include <numbers>

namespace linnet::nn {
namespace {

using namespace autodiff;
using std::numbers::pi;

// What closed forms are written in.
struct Gaussians {
  Var gap, P, K, square_of_sine;  // s1 s2 - K, s1 s2, K, q1 q2 - K^2
  explicit Gaussians(const PairValue& v) : gap(v.gap), P(product(v.deviation)), K(P - gap), square_of_sine(gap * (2.0 * P - gap)) {}
};

// 1 - cos of the angle between them; 1 where one of them is 0, so that slopes are those at 0, of which the finite network takes the mean of both sides.
Var one_minus_cosine(const PairValue& v) { return relative_gap(v.gap, product(v.deviation)); }

Var power(const Var& x, Index n) {
  if (n == 1) return x;
  const Var half = power(x, n / 2), all = half * half;
  return n % 2 ? all * x : all;
}

// sum of c[i] x^i, of two coefficients or more.
Var horner(const std::vector<double>& c, const Var& x) {
  Var y = c.back() * x + c[c.size() - 2];
  for (std::size_t i = c.size() - 2; i-- > 0;) y = c[i] == 0 ? y * x : y * x + c[i];
  return y;
}

}  // namespace

Rule activation_rule(std::string name, Activation activation) {
  OneValue rule;
  rule.law = [name](const Law& in, int&) { return only_of_gaussian(name, in, false); };
  rule.example = [activation](const ExampleValue& in, Statistics& statistics, const Scale&) -> ExampleValue { return {in.shape, activation.variance(in.variance, statistics)}; };
  rule.pair = [activation](const PairValue& in, const Sides& after, std::span<const Sides> statistics, const Scale&) -> PairValue {
    const Response response = activation.pair(in, after, statistics);
    return {in.shape, after, response.gap, in.ntk.is_zero() || response.slope.is_zero() ? Var() : response.slope * in.ntk};
  };
  return one_value_rule(name, std::move(rule));
}

// K' = A K + g (sin theta - theta cos theta) s1 s2, slope A - g theta, with A = (a^2 + b^2) / 2 and g = (a - b)^2 / (2 pi).
Rule abrelu_rule(std::string name, double a, double b) {
  const double A = (a * a + b * b) / 2, g = (a - b) * (a - b) / (2 * pi);
  if (g == 0)
    return activation_rule(std::move(name), {.variance = [A](const Var& q, Statistics&) { return A * q; },
                                             .pair = [A](const PairValue& v, const Sides&, std::span<const Sides>) -> Response { return {A * v.gap, zeros_like(v.gap) + A}; }});
  return activation_rule(
      std::move(name), {.variance = [A](const Var& q, Statistics&) { return A * q; },
                        .pair = [=](const PairValue& v, const Sides& after, std::span<const Sides>) -> Response {
                          const Var h = one_minus_cosine(v);
                          Var lacking = kink_gap(h, g / A);
                          if (std::abs(a + b) < std::max(std::abs(a), std::abs(b)) / 2) {  // f is nearly even: examples are near at the angle pi too
                            const Var rest = 2.0 - h;
                            lacking = where(step(h - 1.0), (a + b) * (a + b) / (2 * A) - a * b / A * rest - g / A * angle_moment(rest), lacking);
                          }
                          return {product(after) * lacking, A * kink_slope(h, g / A)};
                        }});
}

// With B = b^2: K' = a^2 2/pi atan(2 B K / root) + c^2, slope a^2 B 4/pi / root, root^2 = 1 + 2 B (q1 + q2) + 4 B^2 (q1 q2 - K^2).
Rule erf_rule(std::string name, double a, double b, double c) {
  const double B = b * b, scale = a * a * 2 / pi, shift = c * c;
  return activation_rule(std::move(name), {.variance =
                                               [=](const Var& q, Statistics& statistics) {
                                                 statistics.push_back({0.5 + 2 * B * q});
                                                 return scale * arctangent(2 * B * q, sqrt(1.0 + 4 * B * q)) + shift;
                                               },
                                           .pair = [=](const PairValue& v, const Sides& after, std::span<const Sides> s) -> Response {
                                             const Gaussians z(v);
                                             const Var root = sqrt(total(s[0]) + 4 * B * B * z.square_of_sine);
                                             return {gap_of(scale * arctangent(2 * B * z.K, root) + shift, after, v), 2 * B * scale / root};
                                           }});
}

// K' = K/4 + ((K^2 + q1 q2 d^2) / ((1 + q1)(1 + q2) d) + K psi) / (2 pi), d^2 = (1 + q1)(1 + q2) - K^2, psi = atan(K / d).
Rule gelu_rule() {
  return activation_rule("gelu", {.variance =
                                      [](const Var& q, Statistics& statistics) {
                                        const Var j = 1.0 / (1.0 + q), d2 = 1.0 + 2.0 * q, d = sqrt(d2);
                                        statistics.push_back({0.5 + q});
                                        statistics.push_back({j});
                                        return 0.25 * q + (square(q) * (1.0 + d2) * square(j) / d + q * arctangent(q, d)) / (2 * pi);
                                      },
                                  .pair = [](const PairValue& v, const Sides& after, std::span<const Sides> s) -> Response {
                                    const Gaussians z(v);
                                    const Var d2 = total(s[0]) + z.square_of_sine, inverse = 1.0 / sqrt(d2), jj = product(s[1]);
                                    const Var psi = arctangent(z.K, sqrt(d2)), P2 = square(z.P);
                                    const Var nngp = 0.25 * z.K + (1 / (2 * pi)) * ((square(z.K) + P2 * d2) * jj * inverse + z.K * psi);
                                    const Var slope = 0.25 + (1 / (2 * pi)) * (psi + z.K * inverse * (square(inverse) + (1.0 - P2) * jj + 1.0));
                                    return {gap_of(nngp, after, v), slope};
                                  }});
}

// K' = a^2/2 (e^{-b^2 D/2} - cos 2c e^{-b^2 (q1 + q2 + 2K)/2}), slope a^2 b^2/2 of their sum. Near K = 0 their difference is e^{-b^2 D/2} (1 - e^{-2 b^2 K}).
Rule sine_rule(std::string name, double a, double b, double cos2c) {
  const double B = b * b, half = a * a / 2;
  return activation_rule(std::move(name), {.variance = [=](const Var& q, Statistics&) { return half * ((1 - cos2c) - cos2c * expm1(-2 * B * q)); },
                                           .pair = [=](const PairValue& v, const Sides& after, std::span<const Sides>) -> Response {
                                             const Gaussians z(v);
                                             const Var near = exp(-0.5 * B * distance_of(v)), far = exp(-0.5 * B * (distance_of(v) + 4.0 * z.K));
                                             const Var x = -2 * B * z.K, little = step(1.0 - abs(x));
                                             const Var apart = where(little, -near * expm1(clip(x, -1.0, 1.0)), near - far);
                                             return {gap_of(half * ((1 - cos2c) * near + cos2c * apart), after, v), half * B * (near + cos2c * far)};
                                           }});
}

// K' = e^{-gamma D}.
Rule rbf_rule(double gamma) {
  return activation_rule("rbf", {.variance = [](const Var& q, Statistics&) { return zeros_like(q) + 1.0; },
                                 .pair = [gamma](const PairValue& v, const Sides&, std::span<const Sides>) -> Response {
                                   const Var lacking = expm1(-gamma * distance_of(v));
                                   return {-lacking, 2 * gamma * (1.0 + lacking)};
                                 }});
}

// K' = a^2 e^{b^2 (q1 + q2 + 2 K)/2} = s1' s2' e^{-b^2 D/2}.
Rule exp_rule(double a, double b) {
  const double B = b * b;
  return activation_rule("exp", {.variance = [=](const Var& q, Statistics&) { return a * a * exp(2 * B * q); },
                                 .pair = [=](const PairValue& v, const Sides& after, std::span<const Sides>) -> Response {
                                   const Var both = product(after), lacking = -1.0 * both * expm1(-0.5 * B * distance_of(v));
                                   return {lacking, B * (both - lacking)};
                                 }});
}

// K' = a^2 / root, slope 4 a^2 b^2 K / root^3, root^2 = (1 - 2 b q1)(1 - 2 b q2) - 4 b^2 K^2. For b > 0 there is none from q = 1/(4 b) on.
Rule gaussian_rule(double a, double b) {
  return activation_rule("gaussian", {.variance =
                                          [=](const Var& q, Statistics& statistics) {
                                            statistics.push_back({0.5 - 2 * b * q});
                                            return a * a / sqrt(1.0 - 4 * b * q);
                                          },
                                      .pair = [=](const PairValue& v, const Sides& after, std::span<const Sides> s) -> Response {
                                        const Gaussians z(v);
                                        const Var inverse = 1.0 / sqrt(total(s[0]) + 4 * b * b * z.square_of_sine);
                                        return {gap_of(a * a * inverse, after, v), 4 * a * a * b * b * z.K * inverse * inverse * inverse};
                                      }});
}

// e^{-x^2} turns the two variables into two of covariance K / M and sum of variances S = (q1 + q2 + 4 (q1 q2 - K^2)) / M, M = (1 + 2 q1)(1 + 2 q2) - 4 K^2:
// K' = e^{-S/2} sinh(K / M) / sqrt(M).
Rule gabor_rule() {
  const auto sinh = [](const Var& x) { return 0.5 * (expm1(x) - expm1(-x)); };
  return activation_rule("gabor", {.variance =
                                       [=](const Var& q, Statistics& statistics) {
                                         statistics.push_back({q});
                                         const Var M = 1.0 + 4.0 * q;
                                         return exp(-q / M) * sinh(q / M) / sqrt(M);
                                       },
                                   .pair = [=](const PairValue& v, const Sides& after, std::span<const Sides> s) -> Response {
                                     const Gaussians z(v);
                                     const Var sum = total(s[0]), M = 1.0 + 2.0 * sum + 4.0 * z.square_of_sine, inverse = 1.0 / M;
                                     const Var S = (sum + 4.0 * z.square_of_sine) * inverse, x = z.K * inverse, weight = exp(-0.5 * S) * sqrt(inverse);
                                     const Var cosh = 0.5 * (exp(x) + exp(-x)), slope = 4.0 * x * (2.0 - S) * sinh(x) + (inverse + 8.0 * square(x)) * cosh;
                                     return {gap_of(weight * sinh(x), after, v), weight * slope};
                                   }});
}

// K' = 1 - 2 theta / pi; 0 for an example that is 0. The slope of the finite network is 0 everywhere.
Rule sign_rule() {
  return activation_rule("sign", {.variance =
                                      [](const Var& q, Statistics&) { return step(q); },
                                  .pair = [](const PairValue& v, const Sides& after, std::span<const Sides>) -> Response {
                                    return {2 / pi * product(after) * angle(one_minus_cosine(v)), Var()};
                                  }});
}

// By Hermite's polynomials: f(s z) = sum over l of s^l r_l(q) He_l(z), and E He_l He_l = l! cos^l. So K' = sum of l! r_l(q1) r_l(q2) K^l,
// r_l(q) = sum over i = l, l + 2, … of c_i i! / (l! ((i-l)/2)! 2^((i-l)/2)) q^((i-l)/2).
Rule polynomial_rule(std::string name, const std::vector<double>& coefficients) {
  std::vector<std::vector<double>> r;  // of every l in powers of q
  for (Index l = 0; l < static_cast<Index>(coefficients.size()); ++l) {
    std::vector<double> powers;
    for (Index i = l, j = 0; i < static_cast<Index>(coefficients.size()); i += 2, ++j)
      powers.push_back(coefficients[static_cast<std::size_t>(i)] * std::exp(std::lgamma(double(i) + 1) - std::lgamma(double(l) + 1) - std::lgamma(double(j) + 1) - double(j) * std::log(2.0) + 0.5 * std::lgamma(double(l) + 1)));
    while (!powers.empty() && powers.back() == 0) powers.pop_back();
    for (const double c : powers)
      if (!std::isfinite(c)) return no_rule(fmt::format("of degree {} coefficients of its kernel are beyond the numbers of double", coefficients.size() - 1));
    r.push_back(std::move(powers));  // times sqrt(l!)
  }
  while (r.size() > 1 && r.back().empty()) r.pop_back();
  const auto of = [](const std::vector<double>& c, const Var& q) { return c.empty() ? zeros_like(q) : c.size() == 1 ? zeros_like(q) + c[0] : horner(c, q); };
  return activation_rule(std::move(name), {.variance =
                                               [=](const Var& q, Statistics& statistics) {
                                                 Var sum;
                                                 for (std::size_t l = r.size(); l-- > 0;) {
                                                   if (!r[l].empty()) statistics.push_back({of(r[l], q)});
                                                   const Var term = square(of(r[l], q));
                                                   sum = sum.is_zero() ? term : sum * q + term;
                                                 }
                                                 return sum;
                                               },
                                           .pair = [=](const PairValue& v, const Sides& after, std::span<const Sides> s) -> Response {
                                             const Gaussians z(v);
                                             Var sum, slope;
                                             std::size_t next = 0;
                                             for (std::size_t l = r.size(); l-- > 0;) {
                                               const Var term = r[l].empty() ? Var() : product(s[next++]);
                                               sum = plus(scaled_by(z.K, sum), term);
                                               if (l > 0) slope = plus(scaled_by(z.K, slope), scaled_by(static_cast<double>(l), term));
                                             }
                                             if (sum.is_zero()) sum = zeros_like(z.K);
                                             return {gap_of(sum, after, v), slope};
                                           }});
}

namespace {

// Cho and Saul's J_n(theta) = A_n(c) (pi - theta) + B_n(c) sin(theta), c = cos(theta), in powers of c. Of dJ_n/dc = n^2 J_{n-1}: A_n' = n^2 A_{n-1}, and
// A_n + B_n' (1 - c^2) - c B_n = n^2 B_{n-1} (1 - c^2), which has B_n from its highest power down, and the constant of A_n at last.
struct ChoSaul {
  std::vector<double> A{1}, B{};
};
ChoSaul next_of(const ChoSaul& before, Index n) {
  const auto size = static_cast<std::size_t>(n) + 1;
  const double n2 = static_cast<double>(n) * static_cast<double>(n);
  const auto at = [](const std::vector<double>& c, std::size_t k) { return k < c.size() ? c[k] : 0; };
  ChoSaul J{std::vector<double>(size), std::vector<double>(size)};
  for (std::size_t k = 1; k < size; ++k) J.A[k] = n2 * at(before.A, k - 1) / static_cast<double>(k);
  for (std::size_t k = size - 1; k >= 1; --k) {
    const double right = n2 * (at(before.B, k) - (k >= 2 ? at(before.B, k - 2) : 0));
    J.B[k - 1] = (J.A[k] + static_cast<double>(k + 1) * at(J.B, k + 1) - right) / static_cast<double>(k);
  }
  J.A[0] = n2 * at(before.B, 0) - at(J.B, 1);
  return J;
}

// s1^n s2^n J_n(theta) / (2 pi).
Var cho_saul(const ChoSaul& J, Index n, const Var& P, const Var& h) {
  const Var c = 1.0 - h, theta = angle(h), sine = angle_moment(h) + c * theta, rest = pi - theta;  // of the maps, which have slopes at both ends
  const auto of = [&](const std::vector<double>& p) { return p.size() == 1 ? zeros_like(c) + p[0] : horner(p, c); };
  const Var value = (1 / (2 * pi)) * (J.B.empty() ? rest : of(J.A) * rest + of(J.B) * sine);
  return n == 0 ? value : power(P, n) * value;
}

}  // namespace

// Of degree 0 it is 1 from 0 on, and so 1 for an example that is 0; its slope is 0 everywhere, as in the finite network.
Rule rectified_monomial_rule(Index n) {
  if (n == 1) return abrelu_rule("rectified_monomial", 0, 1);
  ChoSaul below, J;
  for (Index k = 1; k <= n; ++k) {
    below = J;
    J = next_of(below, k);
  }
  const double moment = std::exp(std::lgamma(2.0 * double(n) + 1) - std::lgamma(double(n) + 1) - double(n) * std::log(2.0)) / 2;  // (2n - 1)!! / 2
  if (!std::isfinite(moment)) return no_rule(fmt::format("of degree {} coefficients of its kernel are beyond the numbers of double", n));
  return activation_rule("rectified_monomial", {.variance =
                                                    [=](const Var& q, Statistics& statistics) {
                                                      if (n > 0) return moment * power(q, n);
                                                      const Var whole = 1.0 - 0.5 * step(q);  // 1/2, and 1 of 0
                                                      statistics.push_back({whole});
                                                      return whole;
                                                    },
                                                .pair = [=](const PairValue& v, const Sides& after, std::span<const Sides> s) -> Response {
                                                  const Var h = one_minus_cosine(v), P = product(v.deviation);
                                                  const Var value = cho_saul(J, n, P, h);
                                                  if (n == 0) return {gap_of(where(P, value, product(s[0])), after, v), Var()};
                                                  return {gap_of(value, after, v), static_cast<double>(n * n) * cho_saul(below, n - 1, P, h)};
                                                }});
}

}  // namespace linnet::nn
