// Kernels of activations without a closed form, by Hermite's polynomials: f(s z) = sum of a_l(s) h_l(z), h_l of norm 1 under a standard normal, and so
// K' = sum of a_l(s1) a_l(s2) cos^l (O'Donnell, Analysis of Boolean Functions, chapter 11; arXiv 1602.05897). The sum is cut, so it is the kernel of a function near f, and positive;
// what it lacks of the variance, E f^2 - sum of a_l^2, is known (Parseval), bounds what any covariance lacks, and goes with the answer. The slope is the same of f', whose
// coefficients are sqrt(l + 1) a_{l+1} / s.
#include "linnet/autodiff/derivative.h"
#include "linnet/nn/kernel_layers.h"
#include "linnet/nn/kernel_maps.h"

#include <numbers>

namespace linnet::nn {
namespace {

using namespace autodiff;

constexpr Index terms = 161;   // of the sum
constexpr double reach = 13;   // integrals are over [-reach, reach]: what is beyond is below 1e-17 of them
constexpr Index panels = 104;  // with an end at 0, where functions have kinks

// Gauss and Legendre's nodes and weights of n points on each panel, times the normal density.
struct Quadrature {
  std::vector<double> z, weight;
};
Quadrature normal_quadrature(Index n) {
  Quadrature rule;
  std::vector<std::pair<double, double>> unit;
  for (Index i = 0; i < n; ++i) {
    double x = std::cos(std::numbers::pi * (double(i) + 0.75) / (double(n) + 0.5)), slope = 1;
    for (int step = 0; step < 20; ++step) {
      double before = 1, now = x;
      for (Index k = 2; k <= n; ++k) {
        const double next = (double(2 * k - 1) * x * now - double(k - 1) * before) / double(k);
        before = now;
        now = next;
      }
      slope = double(n) * (x * now - before) / (x * x - 1);
      x -= now / slope;
    }
    unit.emplace_back(x, 2 / ((1 - x * x) * slope * slope));
  }
  const double half = reach / double(panels);
  for (Index p = 0; p < panels; ++p)
    for (const auto& [x, w] : unit) {
      const double z = half * (double(2 * p + 1) + x) - reach;
      rule.z.push_back(z);
      rule.weight.push_back(half * w * std::exp(-z * z / 2) * std::numbers::inv_sqrtpi / std::numbers::sqrt2);
    }
  return rule;
}

// What integrals are taken by: [nodes, terms] for the coefficients, [nodes, 1] for the variance, and a coarser rule for it, whose difference tells the error of both.
struct Tables {
  Array<double> z, functions, weights, coarse_z, coarse_weights;
};
const Tables& tables() {
  static const Tables all = [] {
    const Quadrature fine = normal_quadrature(16), coarse = normal_quadrature(11);
    const auto n = static_cast<Index>(fine.z.size()), m = static_cast<Index>(coarse.z.size());
    Tables t{Array<double>({n}, std::span(fine.z)), Array<double>({n, terms}), Array<double>({n, 1}, std::span(fine.weight)), Array<double>({m}, std::span(coarse.z)), Array<double>({m, 1}, std::span(coarse.weight))};
    for (Index i = 0; i < n; ++i) {
      const double z = fine.z[static_cast<std::size_t>(i)];
      double before = 0, now = std::sqrt(fine.weight[static_cast<std::size_t>(i)]);  // times the root of the weight: no overflow
      for (Index l = 0; l < terms; ++l) {
        t.functions[{i, l}] = now * std::sqrt(fine.weight[static_cast<std::size_t>(i)]);
        const double next = (z * now - std::sqrt(double(l)) * before) / std::sqrt(double(l + 1));
        before = now;
        now = next;
      }
    }
    return t;
  }();
  return all;
}

}  // namespace

Rule series_rule(std::string name, std::function<Var(const Var&)> f, bool odd) {
  const Index first = odd ? 1 : 0, step_by = odd ? 2 : 1;
  const auto variance = [=](const Var& q, Statistics& statistics) {
    const Tables& t = tables();
    const Shape places = q.shape();
    const Var s = sqrt(q), column = reshape(s, {places.size(), 1}), positive = step(q), inverse = inverse_root(q);
    const auto at = [&](const Array<double>& z) { return f(column * constant(z)); };  // [places, nodes]
    const Var y = at(t.z), a = dot(y, constant(t.functions));
    const auto coefficient = [&](Index l) { return reshape(slice(a, 1, l, 1), places); };
    Var sum;
    for (Index l = first; l < terms; l += step_by) {
      statistics.push_back({coefficient(l)});
      sum = plus(sum, square(coefficient(l)));
    }
    const Var slope_at_0 = grad([&](const Var& x) { return autodiff::sum(f(x)); }, zeros_like(q));
    for (Index l = first; l < terms; l += step_by) {  // of f', one order lower
      if (l == 0) continue;
      const Var own = std::sqrt(double(l)) * coefficient(l) * inverse;
      statistics.push_back({where(positive, own, l == 1 ? slope_at_0 : zeros_like(q))});
    }
    const Var all = reshape(dot(square(y), constant(t.weights)), places), coarse = reshape(dot(square(at(t.coarse_z)), constant(t.coarse_weights)), places);
    const Var lacking = maximum(all - sum, 0.0) + abs(all - coarse);
    statistics.push_back({lacking / where(step(all), all, 1.0), false, false, true});
    return sum;
  };
  const auto pair = [=](const PairValue& v, const Sides& after, std::span<const Sides> s) -> Response {
    const Var c = 1.0 - relative_gap(v.gap, product(v.deviation)), c2 = odd ? square(c) : c;
    // The polynomial of every step_by-th power, from the highest down.
    const auto polynomial = [&](std::size_t from, std::size_t n) {
      Var sum = product(s[from + n - 1]);
      for (std::size_t k = n - 1; k-- > 0;) sum = sum * c2 + product(s[from + k]);
      return sum;
    };
    const auto n = static_cast<std::size_t>((terms - 1 - first) / step_by + 1);
    const Var nngp = odd ? polynomial(0, n) * c : polynomial(0, n);
    return {gap_of(nngp, after, v), polynomial(n, odd ? n : n - 1)};
  };
  return activation_rule(std::move(name), {.variance = variance, .pair = pair});
}

}  // namespace linnet::nn
