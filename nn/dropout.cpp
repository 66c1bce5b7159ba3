// Dropout: the one layer that draws when it is applied. The mask is a constant of the program, with the bits of JAX's bernoulli in the same width.
#include "linnet/nn/kernel_layers.h"

namespace linnet::nn {
namespace {

template <Scalar T> Array<T> mask(Key key, const Shape& shape, double keep) {
  Array<T> drawn = uniform<T>(key, shape);
  for (T& v : drawn) v = v < static_cast<T>(keep);
  return drawn;
}

Var apply_dropout(double keep, const Tree<Var>& params, const Var& x, const Context& context) {
  if (!context.train || keep == 1) return x;
  if (!context.key) fail<StructureError>("{}dropout: in training it draws and needs a key; apply the network with Context{{.key = Key(seed), .train = true}}", place(params, x));
  const Var kept = context.width == Width::float32 ? constant(mask<float>(*context.key, x.shape(), keep)) : constant(mask<double>(*context.key, x.shape(), keep));
  return where(kept, x / keep, 0.0);
}

}  // namespace

Layer Dropout(double keep) {
  if (!(keep > 0 && keep <= 1)) fail<StructureError>("dropout: the probability to keep an entry must be above 0 and at most 1, got {}", keep);
  Layer layer = plain(
      "dropout", [](Key, const Shape& input, Width) { return std::pair(input, Tree<Array<double>>()); }, [](const Tree<Var>&, const Var& x) { return x; }, LayerOptions{{"keep", keep}});
  layer.apply = [keep](const Tree<Var>& params, const Value& x, const Context& context) -> Value {
    if (!x.is_leaf()) fail<StructureError>("{}dropout: one array is expected, got {} values", place(params, x), x.children().size());
    check_no_others("dropout", params, {}, x);
    return apply_dropout(keep, params, x.leaf(), context);
  };
  return with_kernel(std::move(layer), same_rule());  // as it is outside of training
}

}  // namespace linnet::nn
