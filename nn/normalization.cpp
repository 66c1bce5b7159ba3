// LayerNorm: every example for itself, over the axes named. The formula is autodiff's layer_norm.
#include "linnet/nn/check.h"

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

}  // namespace

Layer LayerNorm(std::vector<Index> axes, double epsilon) {
  if (axes.empty()) fail<ShapeError>("layer_norm: no axes came; name those to normalize over, -1 for the channels");
  if (!std::isfinite(epsilon) || epsilon <= 0) fail<StructureError>("layer_norm: epsilon must be finite and above 0, got {}", epsilon);
  return plain(
      "layer_norm",
      [axes](Key, const Shape& input, Width) {
        normalized(axes, input, "");
        return std::pair(input, Tree<Array<double>>());
      },
      [axes, epsilon](const Tree<Var>& params, const Var& x) {
        check_no_others("layer_norm", params, {}, x);
        return layer_norm(x, normalized(axes, x.shape(), place(params, x)), epsilon);
      },
      LayerOptions{{"axis", axes}, {"eps", epsilon}});
}

}  // namespace linnet::nn
