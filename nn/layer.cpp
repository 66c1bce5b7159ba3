// Combinators, and what a layer is used by. Keys are split as stax splits them, so that equal keys give equal networks: serial gives child i
// the second half of the i-th split of a running key, parallel splits once.
#include "linnet/nn/layer.h"

#include "linnet/nn/kernel_layers.h"

#include <algorithm>

namespace linnet::nn {
namespace {

using autodiff::Tape;
using Children = std::shared_ptr<const std::vector<Layer>>;
template <class Leaf> using Entries = std::vector<typename Tree<Leaf>::Child>;

void check_layer(std::string_view combinator, const Layer& layer) {
  const auto allowed = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; };
  if (layer.name.empty() || !std::all_of(layer.name.begin(), layer.name.end(), allowed)) fail<StructureError>("{}: a layer is named '{}'; a name has letters, digits and '_' only, and one at least", combinator, layer.name);
  if (!layer.init || !layer.apply) fail<StructureError>("{}: layer '{}' has no {} function", combinator, layer.name, layer.init ? "apply" : "init");
}

Children checked(std::string_view combinator, std::vector<Layer> layers) {
  if (layers.empty()) fail<StructureError>("{}: there are no layers; give one at least, identity() if nothing is to happen", combinator);
  for (const Layer& layer : layers) check_layer(combinator, layer);
  return std::make_shared<const std::vector<Layer>>(std::move(layers));
}

std::string child_name(const std::vector<Layer>& layers, std::size_t i) { return fmt::format("{}_{}", layers[i].name, i); }

// The parameters of a child: what stands under its name, or none.
Tree<Var> params_of(const Tree<Var>& params, const std::string& name) { return params.has(name) ? params[name] : Tree<Var>(); }

void check_params(std::string_view combinator, const std::vector<Layer>& layers, const Tree<Var>& params, const Value& x) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < layers.size(); ++i) names.push_back(child_name(layers, i));
  if (params.is_leaf()) fail<StructureError>("{}{}: the parameters are one array; expected is a tree with children among {}", place(params, x), combinator, fmt::join(names, ", "));
  for (const auto& [name, child] : params.children())
    if (std::find(names.begin(), names.end(), name) == names.end()) fail<StructureError>("{}{}: there are parameters '{}', but no such layer; its layers are {}", place(params, x), combinator, name, fmt::join(names, ", "));
}

Value apply_in(const std::vector<Layer>& layers, std::size_t i, const Tree<Var>& params, const Value& x, const Context& context) {
  const std::string name = child_name(layers, i);
  const Tree<Var> mine = params_of(params, name);
  const Tape::Scope scope(tape_of(mine, x), name);
  return layers[i].apply(mine, x, context);
}

// One key a child, if there is one to split.
std::vector<Context> contexts(const Context& context, std::size_t n) {
  std::vector<Context> all(n, context);
  if (!context.key) return all;
  const std::vector<Key> keys = split(*context.key, static_cast<Index>(n));
  for (std::size_t i = 0; i < n; ++i) all[i].key = keys[i];
  return all;
}

Shape flat_shape(const Shape& x, const std::string& place) {
  if (x.rank() == 0) fail<ShapeError>("{}flatten: a scalar has no axis of examples; expected is [examples, …]", place);
  return {x[0], x.size(1, x.rank())};
}

}  // namespace

Layer plain(std::string name, std::function<std::pair<Shape, Tree<Array<double>>>(Key, const Shape& input, Width)> init, std::function<Var(const Tree<Var>& params, const Var& x)> apply,
            std::optional<LayerOptions> options) {
  Layer layer{
      .name = name,
      .init = [name, init](Key key, const Tree<Shape>& input, Width width) -> Initialized {
        if (!input.is_leaf()) fail<StructureError>("{}: one array is expected, got {} values", name, input.children().size());
        auto [shape, params] = init(key, input.leaf(), width);
        return {shape, std::move(params)};
      },
      .apply = [name, apply](const Tree<Var>& params, const Value& x, const Context&) -> Value {
        if (!x.is_leaf()) fail<StructureError>("{}{}: one array is expected, got {} values", place(params, x), name, x.children().size());
        autodiff::Tape* const tape = x.leaf().is_constant() ? tape_of(params, x) : nullptr;
        return apply(params, tape ? tape->take_in(x.leaf()) : x.leaf());  // a constant among traced parameters is a value like any other
      },
      .options = std::move(options)};
  if (!init) layer.init = nullptr;
  if (!apply) layer.apply = nullptr;
  check_layer("plain", layer);
  return layer;
}

Layer with_kernel(Layer layer, std::shared_ptr<const KernelRule> rule) {
  layer.kernel = std::move(rule);
  return layer;
}

Array<double> scaled_normal(Key key, const Shape& shape, Width width, double scale) {
  const auto drawn = [&]<Scalar T>(T factor) {
    Array<T> values = normal<T>(key, shape);
    for (T& v : values) v *= factor;
    if (autodiff::first_not_finite<T>(values.values()) >= 0) fail<NumericalError>("scaled_normal: normals times {} are not finite in {}; choose a smaller scale", scale, std::is_same_v<T, float> ? "float" : "double");
    return autodiff::cast<double>(values);
  };
  return width == Width::float64 ? drawn(scale) : drawn(static_cast<float>(scale));
}

// Children one after another, under the name of the combinator they are of.
static Layer chain(const char* name, std::vector<Layer> layers) {
  const Children children = checked(name, std::move(layers));
  return {
      .name = name,
      .init = [children](Key key, const Tree<Shape>& input, Width width) -> Initialized {
        Tree<Shape> shape = input;
        Entries<Array<double>> params;
        for (std::size_t i = 0; i < children->size(); ++i) {
          const std::vector<Key> keys = split(key);
          key = keys[0];
          Initialized made = in_layer(child_name(*children, i), [&] { return (*children)[i].init(keys[1], shape, width); });
          shape = std::move(made.shape);
          if (!made.params.leaves().empty()) params.emplace_back(child_name(*children, i), std::move(made.params));
        }
        return {std::move(shape), Tree<Array<double>>(std::move(params))};
      },
      .apply = [name, children](const Tree<Var>& params, const Value& x, const Context& context) -> Value {
        check_params(name, *children, params, x);
        const std::vector<Context> each = contexts(context, children->size());
        Value value = x;
        for (std::size_t i = 0; i < children->size(); ++i) value = apply_in(*children, i, params, value, each[i]);
        return value;
      },
      .children = children,
      .options = LayerOptions{}};
}

Layer serial(std::vector<Layer> layers) { return chain("serial", std::move(layers)); }

Layer repeat(const Layer& layer, Index n) {
  constexpr Index most = 100000;  // each is a layer of its own, with a name and parameters
  check_layer("repeat", layer);
  if (n < 1 || n > most) fail<ShapeError>("repeat: the number of layers must be from 1 to {}, got {}", most, n);
  const auto shapes = [](const Tree<Shape>& shape) {
    std::vector<Shape> all;
    for (const Shape* s : shape.leaves()) all.push_back(*s);
    return fmt::format("{}", fmt::join(all, " "));
  };
  Layer kept = layer;
  kept.init = [layer, shapes](Key key, const Tree<Shape>& input, Width width) -> Initialized {
    Initialized made = layer.init(key, input, width);
    if (made.shape != input) fail<ShapeError>("repeat: '{}' takes {} to {}, but what is repeated must keep the shape; use serial for layers that differ", layer.name, shapes(input), shapes(made.shape));
    return made;
  };
  Layer all = chain("repeat", std::vector(static_cast<std::size_t>(n), kept));
  all.options = LayerOptions{{"n", n}};
  return all;
}

Layer parallel(std::vector<Layer> layers) {
  const Children children = checked("parallel", std::move(layers));
  return {
      .name = "parallel",
      .init = [children](Key key, const Tree<Shape>& input, Width width) -> Initialized {
        const auto& inputs = side_by_side("parallel", input, children->size(), "");
        const std::vector<Key> keys = split(key, static_cast<Index>(children->size()));
        std::vector<Tree<Shape>> shapes;
        Entries<Array<double>> params;
        for (std::size_t i = 0; i < children->size(); ++i) {
          Initialized made = in_layer(child_name(*children, i), [&] { return (*children)[i].init(keys[i], inputs[i].second, width); });
          shapes.push_back(std::move(made.shape));
          if (!made.params.leaves().empty()) params.emplace_back(child_name(*children, i), std::move(made.params));
        }
        return {listed(std::move(shapes)), Tree<Array<double>>(std::move(params))};
      },
      .apply = [children](const Tree<Var>& params, const Value& x, const Context& context) -> Value {
        check_params("parallel", *children, params, x);
        const auto& inputs = side_by_side("parallel", x, children->size(), place(params, x));
        const std::vector<Context> each = contexts(context, children->size());
        std::vector<Value> values;
        for (std::size_t i = 0; i < children->size(); ++i) values.push_back(apply_in(*children, i, params, inputs[i].second, each[i]));
        return listed(std::move(values));
      },
      .children = children,
      .side_by_side = true,
      .options = LayerOptions{}};
}

Layer identity() {
  return {.name = "identity",
          .init = [](Key, const Tree<Shape>& input, Width) -> Initialized { return {input, {}}; },
          .apply = [](const Tree<Var>& params, const Value& x, const Context&) -> Value {
            check_no_others("identity", params, {}, x);
            return x;
          },
          .options = LayerOptions{},
          .kernel = same_rule()};
}

// Means of variances and covariances over places.
static Rule flatten_rule() {
  OneValue rule;
  const auto places = [](const Shape& shape) { return shape.rank() < 3; };  // whether there are none
  rule.places = Places::equal;
  rule.law = [](const Law& in, int&) { return not_gaussian("flatten", in); };
  rule.example = [places](const ExampleValue& in, Statistics&, const Scale&) -> ExampleValue { return {flat_shape(in.shape, ""), places(in.shape) ? in.variance : mean(in.variance)}; };
  rule.pair = [places](const PairValue& in, const Sides& after, std::span<const Sides>, const Scale&) -> PairValue {
    if (places(in.shape)) return in;
    std::vector<Index> axes;
    for (Index a = 1; a < in.gap.shape().rank(); ++a) axes.push_back(a);
    const auto over = [&](const Var& x) { return mean(x, axes); };
    PairValue out;
    out.gap = gap_of_distance(over(distance_of(in)), over(in.nngp()), after);
    if (!in.ntk.is_zero()) out.ntk = over(in.ntk);
    return out;
  };
  return one_value_rule("flatten", std::move(rule));
}

Layer flatten() {
  return with_kernel(plain(
      "flatten", [](Key, const Shape& input, Width) { return std::pair(flat_shape(input, ""), Tree<Array<double>>()); },
      [](const Tree<Var>& params, const Var& x) {
        check_no_others("flatten", params, {}, x);
        const Shape shape = flat_shape(x.shape(), place(params, x));
        return shape == x.shape() ? x : reshape(x, shape);
      },
      LayerOptions{}), flatten_rule());
}

template <Scalar T> Tree<Array<T>> initialize(const Layer& layer, Key key, const Shape& input) {
  check_layer("initialize", layer);
  if (input.rank() == 0) fail<ShapeError>("initialize: the shape of the input is that of a scalar; expected is [examples, …], with any number of examples");
  const Initialized made = in_layer(layer.name, [&] { return layer.init(key, input, std::is_same_v<T, float> ? Width::float32 : Width::float64); });
  return map([](const Array<double>& a) { return autodiff::cast<T>(a); }, made.params);
}
template Tree<Array<float>> initialize(const Layer&, Key, const Shape&);
template Tree<Array<double>> initialize(const Layer&, Key, const Shape&);

std::function<Var(const Tree<Var>& params, Var x)> function_of(const Layer& layer, const Context& context) {
  check_layer("function_of", layer);
  return [layer, context](const Tree<Var>& params, Var x) -> Var {
    const Tape::Scope scope(tape_of(params, x), layer.name);
    const Value y = layer.apply(params, x, context);
    if (!y.is_leaf()) fail<StructureError>("{}: it answers {} values, one array is expected; end it with fan_in_sum()", layer.name, y.children().size());
    return y.leaf();
  };
}

}  // namespace linnet::nn
