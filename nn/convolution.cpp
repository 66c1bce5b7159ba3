// Conv: W slides over images or sequences, with the scales of Dense. The sliding itself, and what padding means, is autodiff's conv.
#include "linnet/nn/kernel_maps.h"
#include "linnet/nn/kernel_places.h"

namespace linnet::nn {
namespace {

struct Scales { double weight, bias; };

// What a Conv was made with, complete.
struct Convolution {
  Index channels;
  std::vector<Index> filter;
  ConvOptions options;

  bool ntk() const { return options.parameterization == Parameterization::ntk; }
  Shape weights(const Shape& x) const {
    std::vector<Index> extents = filter;
    extents.insert(extents.end(), {x[-1], channels});
    return Shape(extents);
  }
  Shape bias() const {
    std::vector<Index> extents(filter.size() + 1, 1);
    extents.push_back(channels);
    return Shape(extents);
  }
  Scales scales(const Shape& x) const {
    const Index fan_in = weights(x).size() / channels;
    return {options.W_std / std::sqrt(static_cast<double>(fan_in)), options.b_std.value_or(0)};
  }
  Var slide(const Var& x, const Var& W) const { return conv(x, W, {.stride = two(options.strides), .padding = options.padding}); }
  void check_input(const Shape& x, const std::string& place) const {
    check_images("conv", filter.size(), x, place);
    if (x[-1] == 0) fail<ShapeError>("{}conv: the input {} has no channels, one at least is needed", place, x);
  }
};

Var apply_conv(const Convolution& c, const Tree<Var>& params, const Var& x) {
  c.check_input(x.shape(), place(params, x));
  check_no_others("conv", params, c.options.b_std ? std::vector<std::string>{"W", "b"} : std::vector<std::string>{"W"}, x);
  const Var W = parameter("conv", params, "W", c.weights(x.shape()), x);
  const Scales scale = c.scales(x.shape());
  Var y = placed(params, x, [&] { return c.slide(x, W); });
  if (c.ntk()) y = scale.weight * y;
  if (!c.options.b_std) return y;
  const Var b = parameter("conv", params, "b", c.bias(), x);
  return y + (c.ntk() ? scale.bias * b : b);
}

std::pair<Shape, Tree<Array<double>>> init_conv(const Convolution& c, Key key, const Shape& input, Width number) {
  c.check_input(input, "");
  const Shape weights = c.weights(input);
  const Shape output = traced_shape(input, [&](const Var& x) { return c.slide(x, fill(x.tape(), weights, 0)); });
  const std::vector<Key> keys = split(key);
  const Scales scale = c.ntk() ? Scales{1, 1} : c.scales(input);
  std::vector<Tree<Array<double>>::Child> params;
  params.emplace_back("W", scaled_normal(keys[0], weights, number, scale.weight));
  if (c.options.b_std) params.emplace_back("b", scaled_normal(keys[1], c.bias(), number, scale.bias));
  return {output, Tree<Array<double>>(std::move(params))};
}

// As Dense, of the mean A over the taps, which is that of a window of both examples (arXiv 1810.05148): K' = W_std^2 A(K) + b_std^2, and so the distance D, in which the bias cancels.
// The standard ntk: fan_in A(K) + 1 + W_std^2 A(ntk).
Rule conv_rule(const Convolution& c) {
  const Windowed window{c.filter, c.options.strides, c.options.padding};
  const auto bias = [b_std = c.options.b_std](const Scale& scale) { return b_std ? squared(scale("b_std", *b_std)) : Var(); };
  OneValue rule;
  rule.law = [](const Law&, int& draws) { return with_weights("conv", draws); };
  rule.example = [=](const ExampleValue& in, Statistics&, const Scale& scale) -> ExampleValue {
    c.check_input(in.shape, "");
    traced_shape(in.shape, [&](const Var& x) { return c.slide(x, fill(x.tape(), c.weights(in.shape), 0)); });
    const Var q = plus(squared(scale("W_std", c.options.W_std)) * mean_of_taps(window, in.variance), bias(scale));
    return {joined_places(q.shape(), c.channels), q};
  };
  rule.pair = [=](const PairValue& in, const Sides& after, std::span<const Sides>, const Scale& scale) {
    const Var W = squared(scale("W_std", c.options.W_std)), b = bias(scale);
    const auto mean = [&](const Var& x) { return mean_of_taps(window, x, in.all_places); };
    const Var seen = mean(in.nngp()), nngp = plus(W * seen, b);
    PairValue out;
    out.gap = gap_of_distance(W * mean(distance_of(in)), nngp, after);
    // Where a tap is outside of one example and inside of the other, distances have what is inside besides, and are not small.
    if (in.all_places) out.gap = where_same_taps(window, places_of(in.shape), out.gap, positive_part(product(after) - nngp));
    const double fan_in = static_cast<double>(c.weights(in.shape).size() / c.channels);
    const Var own = c.ntk() ? nngp : fan_in * seen + (c.options.b_std ? 1.0 : 0.0);
    out.ntk = plus(own, in.ntk.is_zero() ? Var() : W * mean(in.ntk));
    return out;
  };
  return one_value_rule("conv", std::move(rule));
}

}  // namespace

Layer Conv(Index channels, std::vector<Index> filter, ConvOptions options) {
  if (channels < 1) fail<ShapeError>("conv: the number of channels must be 1 or more, got {}", channels);
  check_window("conv", "filter", filter, options.strides);
  check_not_negative("conv", "W_std", options.W_std);
  if (options.b_std) check_not_negative("conv", "b_std", *options.b_std);
  LayerOptions made{{"out", channels}, {"filter", filter}, {"strides", options.strides}, {"padding", word(options.padding)}, {"W_std", options.W_std}};
  if (options.b_std) made.push_back({"b_std", *options.b_std});
  made.push_back({"parameterization", word(options.parameterization)});
  const Convolution c{channels, std::move(filter), std::move(options)};
  return with_kernel(plain(
      "conv", [c](Key key, const Shape& input, Width number) { return init_conv(c, key, input, number); }, [c](const Tree<Var>& params, const Var& x) { return apply_conv(c, params, x); },
      std::move(made)), conv_rule(c));
}

}  // namespace linnet::nn
