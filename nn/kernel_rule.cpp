// What rules of layers share: sides of a pair, gaps, laws, mixtures of independent values.
#include "linnet/nn/kernel_layers.h"
#include "linnet/nn/kernel_maps.h"

#include <utility>

namespace linnet::nn {

using namespace autodiff;

Var product(const Sides& s) { return s.row * s.column; }
Var total(const Sides& s) { return s.row + s.column; }
Var difference(const Sides& s) {
  const Var high = s.row - s.column;
  return s.row_low.is_zero() ? high : high + (s.row_low - s.column_low);
}

Var plus(const Var& a, const Var& b) { return a.is_zero() ? b : b.is_zero() ? a
                                                                            : a + b; }
Var scaled_by(const Var& factor, const Var& x) { return x.is_zero() ? x : factor * x; }
Var squared(const Var& x) {
  if (const auto c = x.number()) return *c * *c;
  return square(x);
}
Var inverse_root(const Var& q) {
  const Var positive = step(q);
  return where(positive, 1.0 / sqrt(where(positive, q, 1.0)), 0.0);
}

Var gap_of(const Var& nngp, const Sides& after, const PairValue& before) {
  const Var differ = before.gap + square(before.deviation.row - before.deviation.column);
  return where(differ, positive_part(product(after) - nngp), 0.0);
}
Var distance_of(const PairValue& value) { return 2.0 * value.gap + square(difference(value.deviation)); }
Var gap_of_distance(const Var& distance, const Var& nngp, const Sides& after) {
  const Var both = product(after);
  return where(step(0.5 * both - distance), 0.5 * positive_part(distance - square(difference(after))), positive_part(both - nngp));
}

Rule no_rule(std::string reason) {
  KernelRule rule;
  rule.refusal = std::move(reason);
  return std::make_shared<const KernelRule>(std::move(rule));
}

Rule same_rule() {
  KernelRule rule;
  rule.law = [](const Tree<Law>& in, int&) { return in; };
  rule.example = [](const Tree<ExampleValue>& in, Statistics&, const Scale&) { return in; };
  rule.pair = [](const Tree<PairValue>& in, const Tree<Sides>&, std::span<const Sides>, const Scale&) { return in; };
  return std::make_shared<const KernelRule>(std::move(rule));
}

Rule one_value_rule(std::string name, OneValue of) {
  const auto single = [name](const auto& in) -> const auto& {
    if (!in.is_leaf()) fail<StructureError>("{}: one array is expected, got {} values", name, in.children().size());
    return in.leaf();
  };
  KernelRule rule;
  rule.places = of.places;
  rule.law = [single, of](const Tree<Law>& in, int& draws) -> Tree<Law> { return of.law(single(in), draws); };
  rule.example = [single, of](const Tree<ExampleValue>& in, Statistics& statistics, const Scale& scale) -> Tree<ExampleValue> { return of.example(single(in), statistics, scale); };
  rule.pair = [single, of](const Tree<PairValue>& in, const Tree<Sides>& after, std::span<const Sides> statistics, const Scale& scale) -> Tree<PairValue> {
    return of.pair(single(in), after.leaf(), statistics, scale);
  };
  return std::make_shared<const KernelRule>(std::move(rule));
}

Law with_weights(const std::string& name, int& draws) { return {true, name, {draws++}}; }
Law only_of_gaussian(const std::string& name, const Law& in, bool gaussian) {
  if (!in.gaussian)
    fail<StructureError>("{}: in infinite width it needs a Gaussian value of mean zero, as dense, conv and attention answer, but it stands behind {}; put a layer with weights between them", name, in.of);
  return {gaussian, name, in.weights};
}
Law not_gaussian(const std::string& name, const Law& in) { return {false, name, in.weights}; }

// ---- mixtures: with r_i = sqrt(weight_i) s_i / s the gap is that of the parts, and s1 s2 (1 - sum of r_i r_i') = s1 s2 sum of (r_i - r_i')^2 / 2
ExampleValue mixed(const std::vector<ExampleValue>& values, std::span<const double> weights, const Shape& shape, Statistics& statistics) {
  Var q = weights[0] * values[0].variance;
  for (std::size_t i = 1; i < values.size(); ++i) q = q + weights[i] * values[i].variance;
  if (values.size() > 1) {
    const Var inverse = inverse_root(q);
    for (std::size_t i = 0; i < values.size(); ++i) statistics.push_back({std::sqrt(weights[i]) * sqrt(values[i].variance) * inverse});
  }
  return {shape, q};
}
PairValue mixed(const std::vector<PairValue>& values, std::span<const double> weights, const Sides& after, std::span<const Sides> statistics) {
  PairValue all;
  Var apart;
  for (std::size_t i = 0; i < values.size(); ++i) {
    all.gap = plus(all.gap, weights[i] * values[i].gap);
    all.ntk = plus(all.ntk, scaled_by(weights[i], values[i].ntk));
    if (values.size() > 1) apart = plus(apart, square(difference(statistics[i])));
  }
  if (!apart.is_zero()) all.gap = all.gap + 0.5 * product(after) * apart;
  return all;
}

}  // namespace linnet::nn
