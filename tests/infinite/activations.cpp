// Every closed form of an activation against quadrature in two dimensions of the finite activation and of its slope, at correlations from -1 to 1.
#include "linnet/autodiff/derivative.h"
#include "linnet/autodiff/executor.h"
#include "networks.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <numbers>

namespace linnet::infinite {
namespace {

using namespace autodiff;
using nn::Layer;
using std::numbers::pi;

struct Answer {
  double nngp, slope, gap, variance;
};

// What the rule of an activation answers for variances q1, q2 and h = 1 - cos.
template <Scalar T> Answer by_rule(const Layer& layer, double q1, double q2, double h) {
  const auto scale = [](std::string_view, double value) { return Var(value); };
  Tape of_examples;
  const Var q = of_examples.input({2});
  std::vector<nn::Statistic> statistics;
  const nn::ExampleValue out = layer.kernel->example(nn::ExampleValue{{1, 3}, q}, statistics, scale).leaf();
  std::vector<Var> wanted{sqrt(q), sqrt(out.variance)};
  for (const auto& s : statistics) wanted.push_back(s.value);
  Executor<double> run(std::make_shared<const Program>(of_examples.seal(wanted)));
  std::vector<std::array<double, 2>> numbers(wanted.size());
  std::vector<double*> to;
  for (auto& n : numbers) to.push_back(n.data());
  const std::array<double, 2> given{q1, q2};
  const double* const from[] = {given.data()};
  run.run(from, to);

  Tape of_pairs;
  std::vector<T> values{static_cast<T>(h * numbers[0][0] * numbers[0][1])};
  const Var gap = of_pairs.input({1});
  std::vector<nn::Sides> sides;
  for (const auto& n : numbers) {
    sides.push_back({of_pairs.input({1}), of_pairs.input({1}), {}, {}});
    values.insert(values.end(), {static_cast<T>(n[0]), static_cast<T>(n[1])});
    if (std::is_same_v<T, float>) {
      sides.back().row_low = of_pairs.input({1}), sides.back().column_low = of_pairs.input({1});
      values.insert(values.end(), {static_cast<T>(n[0] - static_cast<T>(n[0])), static_cast<T>(n[1] - static_cast<T>(n[1]))});
    }
  }
  const Var one = fill(&of_pairs, {1}, 1);
  const nn::PairValue pair = layer.kernel->pair(nn::PairValue{{1, 3}, sides[0], gap, one}, sides[1], std::span(sides).subspan(2), scale).leaf();
  const Var slope = pair.ntk.is_zero() ? zeros_like(gap) : pair.ntk;
  Executor<T> run_pairs(std::make_shared<const Program>(of_pairs.seal(std::array{product(sides[1]) - pair.gap, slope, pair.gap})));
  std::vector<const T*> in;
  for (const T& v : values) in.push_back(&v);
  std::array<T, 3> answers{};
  T* const out_at[] = {&answers[0], &answers[1], &answers[2]};
  run_pairs.run(in, out_at);
  return {double(answers[0]), double(answers[1]), double(answers[2]), numbers[1][0] * numbers[1][0]};
}

// Nodes and weights of Gauss and Legendre on [0, 1].
std::vector<std::array<double, 2>> gauss_legendre(int n) {
  std::vector<std::array<double, 2>> rule;
  for (int i = 0; i < n; ++i) {
    double x = std::cos(pi * (i + 0.75) / (n + 0.5)), slope = 1;
    for (int step = 0; step < 100; ++step) {
      double a = 1, b = x;
      for (int k = 2; k <= n; ++k) std::tie(a, b) = std::pair(b, ((2 * k - 1) * x * b - (k - 1) * a) / k);
      slope = n * (x * b - a) / (x * x - 1);
      const double next = x - b / slope;
      if (std::abs(next - x) < 1e-16) break;
      x = next;
    }
    rule.push_back({(1 - x) / 2, 1 / ((1 - x * x) * slope * slope)});
  }
  return rule;
}

double angle_of(double h) { return h <= 1 ? 2 * std::asin(std::sqrt(h / 2)) : pi - 2 * std::asin(std::sqrt((2 - h) / 2)); }

// E f(u) f(v) and E f'(u) f'(v) in polar coordinates, u = s1 r cos(phi), v = s2 r cos(phi - theta): kinks at 0 lie at ends of panels.
std::array<double, 2> by_quadrature(const Layer& layer, double q1, double q2, double h) {
  const double theta = angle_of(h);
  static const auto angular = gauss_legendre(24), radial = gauss_legendre(18);
  std::vector<double> ends{-pi / 2, pi / 2, theta - pi / 2, theta + pi / 2, 3 * pi / 2};
  std::sort(ends.begin(), ends.end());
  std::vector<double> u, v, weight;
  for (std::size_t p = 0; p + 1 < ends.size(); ++p)
    for (int half = 0; half < 2; ++half)
      for (const auto& [at, w] : angular) {
        const double length = (ends[p + 1] - ends[p]) / 2, phi = ends[p] + length * (half + at);
        if (length <= 0) continue;
        for (int shell = 0; shell < 7; ++shell)
          for (const auto& [radius_at, radius_w] : radial) {
            const double r = 1.9 * (shell + radius_at);
            u.push_back(std::sqrt(q1) * r * std::cos(phi));
            v.push_back(std::sqrt(q2) * r * std::cos(phi - theta));
            weight.push_back(length * w * 1.9 * radius_w * r * std::exp(-r * r / 2) / (2 * pi));
          }
      }
  const auto f = [&](const Var& x) { return layer.apply({}, x, {}).leaf(); };
  const auto at = [&](const std::vector<double>& x) { return jvp(f, Array<double>({static_cast<Index>(x.size()), 1}, std::span(x)), Array<double>({static_cast<Index>(x.size()), 1}, 1.0)); };
  const auto [fu, du] = at(u);
  const auto [fv, dv] = at(v);
  std::array<double, 2> sums{};
  for (std::size_t k = 0; k < weight.size(); ++k) {
    sums[0] += weight[k] * fu.data()[k] * fv.data()[k];
    sums[1] += weight[k] * du.data()[k] * dv.data()[k];
  }
  return sums;
}

std::vector<Layer> activations() {
  using namespace nn;
  return {Erf(), Erf(1.3, .7, .2), Sigmoid_like(), Relu(), ABRelu(.3, 1.2), ABRelu(-.9, 1.1), ABRelu(2, 2), LeakyRelu(.1), Abs(), Gelu(), Sin(), Sin(.8, 1.4, .3), Cos(), Cos(1.1, .6, .4), Rbf(), Rbf(.3), Exp(), Exp(.7, -.6),
          Gaussian(), Gaussian(1.2, .04), Gabor(), Sign(), Monomial(0), Monomial(1), Monomial(2), Monomial(3), Monomial(4), Monomial(5), RectifiedMonomial(0), RectifiedMonomial(1), RectifiedMonomial(2),
          RectifiedMonomial(3), RectifiedMonomial(5), Polynomial({.3, -.5, .2, .1}), Polynomial({.7}), Hermite(1), Hermite(2), Hermite(5)};
}

// One unit in the last place beside both ends, too.
constexpr double hs[] = {0, 0x1p-53, 1e-12, 1e-6, 0.01, 0.3, 1 - 0x1p-40, 1, 1.4, 1.97, 2 - 1e-9, 2 - 0x1p-51, 2};
constexpr double variances[][2] = {{1, 1}, {0.49, 2.25}, {1e-3, 4}};

TEST_CASE("closed forms of activations are the integrals they stand for, in double to 1e-12 and in float to 2e-6") {
  for (const Layer& layer : activations())
    for (const auto& [q1, q2] : variances) {
      const auto at_1 = by_quadrature(layer, q1, q1, 0), at_2 = by_quadrature(layer, q2, q2, 0);
      const double scale = std::sqrt(at_1[0] * at_2[0]), slope_scale = std::sqrt(at_1[1] * at_2[1]);
      CHECK(std::abs(by_rule<double>(layer, q1, q2, 1).variance - at_1[0]) <= 1e-12 * at_1[0]);
      for (const double h : hs) {
        CAPTURE(layer.name);
        CAPTURE(layer.options->size());
        CAPTURE(q1);
        CAPTURE(h);
        const auto expected = by_quadrature(layer, q1, q2, h);
        const Answer in_double = by_rule<double>(layer, q1, q2, h);
        // Where examples point in opposite directions, and nearly so, h has the rounding of numbers near 2, and the angle the root of that: slopes have it where f has a kink, values where it
        // jumps.
        const bool opposite = h > 1.9, jumps = layer.name == "sign" || layer.name == "rectified_monomial";
        CHECK(std::abs(in_double.nngp - expected[0]) <= (opposite && jumps ? 3e-8 : 1e-12) * scale);
        CHECK(std::abs(in_double.slope - expected[1]) <= (opposite ? 3e-8 : 1e-12) * slope_scale);
        CHECK(in_double.gap >= 0);
        const Answer in_float = by_rule<float>(layer, q1, q2, h);
        CHECK(std::abs(in_float.nngp - expected[0]) <= (opposite && jumps ? 1e-3 : 2e-6) * scale);
        CHECK(std::abs(in_float.slope - expected[1]) <= (opposite ? 1e-3 : 4e-6) * slope_scale);
      }
    }
}

// ---- without a closed form

Var softplus(const Var& x) { return maximum(x, 0.0) + log1p(exp(-abs(x))); }
Var elu(const Var& x) { return where(step(x), x, expm1(minimum(x, 0.0))); }

TEST_CASE("activations without a closed form are within what their answer says it lacks, and smooth ones to 1e-12") {
  const std::tuple<Layer, double, double> all[] = {{nn::Tanh(), 2e-11, 1e-9}, {nn::Gelu(true), 1e-12, 1e-10}, {nn::Elementwise("softplus", softplus), 1e-12, 1e-11}, {nn::Elementwise("silu", [](const Var& x) { return x * sigmoid(x); }), 1e-12, 1e-11},
                                                   {nn::Elementwise("cosine", [](const Var& x) { return cos(x) + x; }), 1e-13, 1e-12}, {nn::Elementwise("elu", elu), 1e-5, 2e-4}};
  for (const auto& [layer, within, slope_within] : all)
    for (const auto& [q1, q2] : {std::pair{1., 1.}, {0.49, 2.25}, {1e-3, 1.5}}) {
      const auto at_1 = by_quadrature(layer, q1, q1, 0), at_2 = by_quadrature(layer, q2, q2, 0);
      const double scale = std::sqrt(at_1[0] * at_2[0]), slope_scale = std::sqrt(at_1[1] * at_2[1]);
      const Array<double> x({2, 1}, {std::sqrt(q1), std::sqrt(q2)});
      const double lacking = kernel(nn::serial({nn::Dense(1), layer})).both(x).lacking;
      CAPTURE(layer.name);
      CAPTURE(q2);
      CHECK(lacking <= within);
      CHECK(lacking >= (layer.name == "elu" ? 1e-11 : 0));  // its second derivative jumps
      for (const double h : {0., 1e-12, 1e-6, .01, .3, 1., 1.4, 1.97, 2.}) {
        CAPTURE(h);
        const auto expected = by_quadrature(layer, q1, q2, h);
        const Answer answer = by_rule<double>(layer, q1, q2, h);
        CHECK(std::abs(answer.nngp - expected[0]) <= std::min(2 * lacking + 1e-13, within) * scale);
        CHECK(std::abs(answer.slope - expected[1]) <= slope_within * slope_scale);
        const Answer in_float = by_rule<float>(layer, q1, q2, h);
        CHECK(std::abs(in_float.nngp - expected[0]) <= (within + 3e-6) * scale);
      }
    }
}

TEST_CASE("a function written by hand has the kernel of the activation that it is") {
  const Array<double> x = scattered<double>({7, 4}, 2);
  const nn::Layer d = D(), by_hand = nn::Elementwise("by_hand", [](const Var& v) { return erf(v); });
  const auto series = kernel(nn::serial({d, by_hand, d, by_hand, d})).both(x), closed = kernel(nn::serial({d, nn::Erf(), d, nn::Erf(), d})).both(x);
  CHECK(closed.lacking == 0);
  CHECK(largest_difference(series.nngp, closed.nngp) <= 1e-11);
  CHECK(largest_difference(series.ntk, closed.ntk) <= 1e-9);
  Array<double> zero({2, 2}, {0, 0, 1, 2});  // without a variance the slope is that at 0
  const nn::Layer plain = nn::Dense(3);
  const auto at_0 = kernel(nn::serial({plain, nn::Tanh(), plain})).both(zero);
  CHECK(at_0.ntk[{0, 0}] == 0);
  CHECK(at_0.nngp[{0, 1}] == 0);
  const nn::Layer biased = nn::Dense(3, {.W_std = 1, .b_std = 1});
  const auto k = kernel(nn::serial({plain, nn::Elementwise("shifted", [](const Var& v) { return sin(v) + 1.0; }), biased})).both(zero);
  CHECK(k.nngp[{0, 0}] == doctest::Approx(2));
  CHECK(k.nngp[{0, 1}] == doctest::Approx(2));
}

}  // namespace
}  // namespace linnet::infinite
