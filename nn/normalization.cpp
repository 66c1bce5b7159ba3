// LayerNorm: every example for itself, over the axes named. The formula is autodiff's layer_norm.
#include "linnet/nn/kernel_layers.h"

namespace linnet::nn {
namespace {

// The axes from the front, which exist, differ and leave the examples alone.
std::vector<Index> normalized(const std::vector<Index>& axes, const Shape& x, const std::string& place) {
  std::vector<Index> all;
  for (const Index axis : axes) {
    const Index at = axis < 0 ? axis + x.rank() : axis;
    if (at < 0 || at >= x.rank()) fail<ShapeError>("{}layer_norm: there is no axis {} in {}", place, axis, x);
    if (at == 0) fail<ShapeError>("{}layer_norm: axis {} of {} counts the examples; what is normalized over it would mix them", place, axis, x);
    if (std::find(all.begin(), all.end(), at) != all.end()) fail<ShapeError>("{}layer_norm: axis {} of {} is named twice", place, at, x);
    all.push_back(at);
  }
  return all;
}

// Over the channels, of which there are infinitely many, the mean is 0 and the variance q, or the mean of q over the places that are named too. (Without the channels it is no
// function of kernels.)
Rule layer_norm_rule(const std::vector<Index>& axes, double epsilon) {
  const auto averaged = [axes, epsilon](const Shape& shape, const Var& q) {
    std::vector<Index> places;
    for (const Index axis : normalized(axes, shape, ""))
      if (axis != shape.rank() - 1) places.push_back(axis - 1);
    if (places.size() == axes.size()) fail<StructureError>("layer_norm: in infinite width it must be over the channels (axis -1), with or without other axes");
    return epsilon + (places.empty() ? q : broadcast_to(mean(q, places, true), q.shape()));
  };
  OneValue rule;
  rule.law = [](const Law& in, int&) { return only_of_gaussian("layer_norm", in, true); };
  rule.example = [averaged](const ExampleValue& in, Statistics& statistics, const Scale&) -> ExampleValue {
    const Var q = averaged(in.shape, in.variance);
    statistics.push_back({1.0 / sqrt(q)});
    return {in.shape, in.variance / q};
  };
  rule.pair = [](const PairValue& in, const Sides&, std::span<const Sides> s, const Scale&) {
    const Var factor = product(s[0]);
    PairValue out;
    out.gap = factor * in.gap;
    out.ntk = scaled_by(factor, in.ntk);
    return out;
  };
  return one_value_rule("layer_norm", std::move(rule));
}

}  // namespace

Layer LayerNorm(std::vector<Index> axes, double epsilon) {
  if (axes.empty()) fail<ShapeError>("layer_norm: no axes came; name those to normalize over, -1 for the channels");
  if (!std::isfinite(epsilon) || epsilon <= 0) fail<StructureError>("layer_norm: epsilon must be finite and above 0, got {}", epsilon);
  return with_kernel(plain(
      "layer_norm",
      [axes](Key, const Shape& input, Width) {
        normalized(axes, input, "");
        return std::pair(input, Tree<Array<double>>());
      },
      [axes, epsilon](const Tree<Var>& params, const Var& x) {
        check_no_others("layer_norm", params, {}, x);
        return layer_norm(x, normalized(axes, x.shape(), place(params, x)), epsilon);
      },
      LayerOptions{{"axis", axes}, {"eps", epsilon}}), layer_norm_rule(axes, epsilon));
}

}  // namespace linnet::nn
