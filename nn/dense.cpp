// Dense: y = x W + b over the last axis. Two axes is what everything else is brought to, so that one product does all rows.
#include "linnet/nn/kernel_layers.h"
#include "linnet/nn/kernel_maps.h"

namespace linnet::nn {
namespace {

// ShapeError unless the input has examples and features.
void check_input(const Shape& x, const std::string& place) {
  if (x.rank() < 2) fail<ShapeError>("{}dense: the input {} needs an axis of examples and one of features at least; reshape it to [examples, features]", place, x);
  if (x[-1] == 0) fail<ShapeError>("{}dense: the input {} has no features, one at least is needed", place, x);
}

struct Scales { double weight, bias; };
Scales scales(const DenseOptions& options, Index fan_in) { return {options.W_std / std::sqrt(static_cast<double>(fan_in)), options.b_std.value_or(0)}; }

Var apply_dense(Index width, const DenseOptions& options, const Tree<Var>& params, const Var& x) {
  const Shape shape = x.shape();
  check_input(shape, place(params, x));
  check_no_others("dense", params, options.b_std ? std::vector<std::string>{"W", "b"} : std::vector<std::string>{"W"}, x);
  const Index fan_in = shape[-1];
  const Var W = parameter("dense", params, "W", {fan_in, width}, x);
  const Scales scale = scales(options, fan_in);
  const bool ntk = options.parameterization == Parameterization::ntk;
  Var y = dot(shape.rank() == 2 ? x : reshape(x, {shape.size(0, shape.rank() - 1), fan_in}), W);
  if (ntk) y = scale.weight * y;
  if (options.b_std) {
    const Var b = parameter("dense", params, "b", {1, width}, x);
    y = y + (ntk ? scale.bias * b : b);
  }
  return shape.rank() == 2 ? y : reshape(y, shape.with(-1, width));
}

// q' = W_std^2 q + b_std^2, and so K'. The gap is W_std^2 times that before, and what the bias, which both have, leaves of s1' s2' - W_std^2 s1 s2 - b_std^2: s1' s2' times the
// versine of the difference of the angles with tangents b_std / (W_std s). The ntk: K' + W_std^2 ntk of weights drawn with variance 1, fan_in K + 1 + W_std^2 ntk of the
// standard ones (arXiv 1806.07572; 2001.07301).
Rule dense_rule(Index width, const DenseOptions& options) {
  const auto bias = [options](const Scale& scale) { return options.b_std ? scale("b_std", *options.b_std) : Var(); };
  const auto is_nothing = [](const Var& b) { return b.is_zero() || b.number() == 0.0; };
  OneValue rule;
  rule.law = [](const Law&, int& draws) { return with_weights("dense", draws); };
  rule.example = [=](const ExampleValue& in, Statistics& statistics, const Scale& scale) -> ExampleValue {
    check_input(in.shape, "");
    const Var W = scale("W_std", options.W_std), b = bias(scale), q = squared(W) * in.variance;
    if (is_nothing(b)) return {in.shape.with(-1, width), q};
    statistics.push_back({arctangent(zeros_like(q) + b, W * sqrt(in.variance))});  // an angle: its rounding is no more than that of the kernel
    return {in.shape.with(-1, width), q + squared(b)};
  };
  rule.pair = [=](const PairValue& in, const Sides& after, std::span<const Sides> statistics, const Scale& scale) {
    const Var W = squared(scale("W_std", options.W_std));
    PairValue out;
    out.gap = W * in.gap;
    if (!is_nothing(bias(scale))) out.gap = out.gap + product(after) * versine(difference(statistics[0]));
    const Var own = options.parameterization == Parameterization::ntk ? product(after) - out.gap : static_cast<double>(in.shape[-1]) * in.nngp() + (options.b_std ? 1.0 : 0.0);
    out.ntk = plus(own, scaled_by(W, in.ntk));
    return out;
  };
  return one_value_rule("dense", std::move(rule));
}

}  // namespace

Layer Dense(Index width, DenseOptions options) {
  if (width < 1) fail<ShapeError>("dense: the width must be 1 or more, got {}", width);
  check_not_negative("dense", "W_std", options.W_std);
  if (options.b_std) check_not_negative("dense", "b_std", *options.b_std);
  LayerOptions made{{"out", width}, {"W_std", options.W_std}};
  if (options.b_std) made.push_back({"b_std", *options.b_std});
  made.push_back({"parameterization", word(options.parameterization)});
  return with_kernel(plain(
      "dense",
      [width, options](Key key, const Shape& input, Width number) {
        check_input(input, "");
        const Index fan_in = input[-1];
        const std::vector<Key> keys = split(key);
        const Scales scale = options.parameterization == Parameterization::ntk ? Scales{1, 1} : scales(options, fan_in);
        std::vector<Tree<Array<double>>::Child> params;
        params.emplace_back("W", scaled_normal(keys[0], {fan_in, width}, number, scale.weight));
        if (options.b_std) params.emplace_back("b", scaled_normal(keys[1], {1, width}, number, scale.bias));
        return std::pair(input.with(-1, width), Tree<Array<double>>(std::move(params)));
      },
      [width, options](const Tree<Var>& params, const Var& x) { return apply_dense(width, options, params, x); }, std::move(made)), dense_rule(width, options));
}

}  // namespace linnet::nn
