// Layers that make several values of one, or one of several: fan_out copies; fan_in_sum, fan_in_prod and fan_in_concat join the values of parallel.
#include "linnet/nn/kernel_layers.h"

#include <limits>

namespace linnet::nn {
namespace {

// How errors speak of a layer that joins values.
struct Joining {
  const char *layer, *done, *verb;
};

const Shape& shape_of(const Shape& s) { return s; }
const Shape& shape_of(const Var& v) { return v.shape(); }
const Shape& shape_of(const ExampleValue& v) { return v.shape; }
const Shape& shape_of(const PairValue& v) { return v.shape; }

// The values, which must be arrays; `place` is where the layer stands.
template <class Leaf> std::vector<Leaf> values_of(const Joining& j, const Tree<Leaf>& x, const std::string& place) {
  if (x.is_leaf()) fail<StructureError>("{}{}: several values are {}, got one array {}", place, j.layer, j.done, shape_of(x.leaf()));
  if (x.children().empty()) fail<StructureError>("{}{}: there is nothing to {}", place, j.layer, j.verb);
  std::vector<Leaf> values;
  for (const auto& [name, value] : x.children()) {
    if (!value.is_leaf()) fail<StructureError>("{}{}: value {} should be one array, but {}", place, j.layer, name, value.names());
    values.push_back(value.leaf());
  }
  return values;
}

// Values of one shape.
template <class Leaf> std::vector<Leaf> equal_values(const Joining& j, const Tree<Leaf>& x, const std::string& place) {
  std::vector<Leaf> values = values_of(j, x, place);
  for (std::size_t i = 1; i < values.size(); ++i)
    if (shape_of(values[i]) != shape_of(values[0]))
      fail<ShapeError>("{}{}: the values must have one shape, value {} has {} and the first has {}", place, j.layer, x.children()[i].first, shape_of(values[i]), shape_of(values[0]));
  return values;
}

// A layer that folds values of one shape into one.
template <class F> Layer folding(Joining j, F f, Rule rule) {
  return {.name = j.layer,
          .init = [j](Key, const Tree<Shape>& input, Width) -> Initialized { return {equal_values(j, input, "")[0], {}}; },
          .apply = [j, f](const Tree<Var>& params, const Value& x, const Context&) -> Value {
            check_no_others(j.layer, params, {}, x);
            const std::vector<Var> values = equal_values(j, x, place(params, x));
            Var all = values[0];
            for (std::size_t i = 1; i < values.size(); ++i) all = f(all, values[i]);
            return all;
          },
          .options = LayerOptions{},
          .kernel = std::move(rule)};
}

constexpr Index most_copies = 100000;

constexpr Joining concatenating{"fan_in_concat", "concatenated", "concatenate"};

// The axis from the front and the shape of the result, of values that agree in every other axis.
std::pair<Index, Shape> joined_shape(Index axis, const std::vector<Shape>& values, const std::string& place) {
  const Shape& first = values[0];
  const Index at = axis < 0 ? axis + first.rank() : axis;
  if (at < 0 || at >= first.rank()) fail<ShapeError>("{}fan_in_concat: there is no axis {} in {}", place, axis, first);
  if (at == 0) fail<ShapeError>("{}fan_in_concat: axis {} of {} counts the examples; values are concatenated along another one", place, axis, first);
  Index extent = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i].rank() != first.rank() || values[i].with(at, 0) != first.with(at, 0))
      fail<ShapeError>("{}fan_in_concat: the values must agree in every axis but {}, value {} has {} and the first has {}", place, at, i, values[i], first);
    if (values[i][at] > std::numeric_limits<Index>::max() - extent) fail<ShapeError>("{}fan_in_concat: together the values have more entries along axis {} than an index counts", place, at);
    extent += values[i][at];
  }
  return {at, first.with(at, extent)};
}

// ---- kernels

// Of values that are one beside another; StructureError unless no two depend on the same weights.
Law joined_law(const Joining& j, const Tree<Law>& in, bool independent) {
  if (in.is_leaf()) fail<StructureError>("{}: several values are {}, got one array", j.layer, j.done);
  Law all{true, j.layer, {}};
  int not_of_mean_zero = 0;
  for (const auto& [name, value] : in.children()) {
    if (!value.is_leaf()) fail<StructureError>("{}: value {} should be one array, but {}", j.layer, name, value.names());
    const Law& law = value.leaf();
    for (const int w : law.weights) {
      const auto at = std::lower_bound(all.weights.begin(), all.weights.end(), w);
      const bool there = at != all.weights.end() && *at == w;
      if (there && independent)
        fail<StructureError>("{}: in infinite width the values must be independent, but value {} (of {}) and one before it come from the same layer with weights; put a layer with weights into one of the branches", j.layer, name, law.of);
      if (!there) all.weights.insert(at, w);
    }
    all.gaussian = all.gaussian && law.gaussian;
    not_of_mean_zero += !law.gaussian;
  }
  if (std::string_view(j.verb) == "sum" && not_of_mean_zero > 1)
    fail<StructureError>("{}: in infinite width at most one value may have a mean other than zero, {} have (they are not what dense, conv or attention answer); put a layer with weights at the end of the branches", j.layer, not_of_mean_zero);
  return all;
}

template <class F, class G> Rule joining_rule(std::function<Law(const Tree<Law>&)> law, F example, G pair) {
  KernelRule rule;
  rule.law = [law](const Tree<Law>& in, int&) -> Tree<Law> { return law(in); };
  rule.example = [example](const Tree<ExampleValue>& in, Statistics& statistics, const Scale&) -> Tree<ExampleValue> { return example(in, statistics); };
  rule.pair = [pair](const Tree<PairValue>& in, const Tree<Sides>& after, std::span<const Sides> statistics, const Scale&) -> Tree<PairValue> { return pair(in, after.leaf(), statistics); };
  return std::make_shared<const KernelRule>(std::move(rule));
}

Rule fan_out_rule(Index n) {
  KernelRule rule;
  const auto copies = [n](const auto& in) { return listed(std::vector(static_cast<std::size_t>(n), in)); };
  rule.law = [copies](const Tree<Law>& in, int&) { return copies(in); };
  rule.example = [copies](const Tree<ExampleValue>& in, Statistics&, const Scale&) { return copies(in); };
  rule.pair = [copies](const Tree<PairValue>& in, const Tree<Sides>&, std::span<const Sides>, const Scale&) { return copies(in); };
  return std::make_shared<const KernelRule>(std::move(rule));
}

Rule fan_in_sum_rule() {
  static constexpr Joining j{"fan_in_sum", "summed", "sum"};
  return joining_rule([](const Tree<Law>& in) { return joined_law(j, in, true); },
                      [](const Tree<ExampleValue>& in, Statistics& statistics) {
                        const std::vector<ExampleValue> values = equal_values(j, in, "");
                        return mixed(values, std::vector<double>(values.size(), 1), values[0].shape, statistics);
                      },
                      [](const Tree<PairValue>& in, const Sides& after, std::span<const Sides> statistics) {
                        const std::vector<PairValue> values = values_of(j, in, "");
                        return mixed(values, std::vector<double>(values.size(), 1), after, statistics);
                      });
}

// Covariances of independent values are multiplied: of two, K = K1 K2, the gap is gap1 K2 + s1 s2 gap2 and the ntk ntk1 K2 + K1 ntk2.
Rule fan_in_prod_rule() {
  static constexpr Joining j{"fan_in_prod", "multiplied", "multiply"};
  return joining_rule(
      [](const Tree<Law>& in) {
        Law law = joined_law(j, in, true);
        law.gaussian = false;
        return law;
      },
      [](const Tree<ExampleValue>& in, Statistics&) {
        const std::vector<ExampleValue> values = equal_values(j, in, "");
        ExampleValue all = values[0];
        for (std::size_t i = 1; i < values.size(); ++i) all.variance = all.variance * values[i].variance;
        return all;
      },
      [](const Tree<PairValue>& in, const Sides&, std::span<const Sides>) {
        const std::vector<PairValue> values = values_of(j, in, "");
        PairValue all = values[0];
        Var scale = product(values[0].deviation);
        for (std::size_t i = 1; i < values.size(); ++i) {
          const Var next = values[i].nngp(), own = scale - all.gap;
          all.ntk = plus(scaled_by(next, all.ntk), scaled_by(own, values[i].ntk));
          all.gap = all.gap * next + scale * values[i].gap;
          scale = scale * product(values[i].deviation);
        }
        return all;
      });
}

// Along the channels: covariances are means over all channels, each part as wide as it is in the finite network. Entries are no longer alike, so it is not Gaussian in the
// sense that activations need.
Rule fan_in_concat_rule(Index axis) {
  const auto weights = [axis](const auto& values, const Shape& all) {
    const Index channels = all.rank() - 1;
    if ((axis < 0 ? axis + all.rank() : axis) != channels) fail<StructureError>("fan_in_concat: in infinite width values are concatenated along the channels (axis -1), not along axis {}", axis);
    std::vector<double> parts;
    for (const auto& v : values) parts.push_back(static_cast<double>(v.shape[channels]) / static_cast<double>(all[channels]));
    return parts;
  };
  const auto joined = [axis](const auto& values) {
    std::vector<Shape> shapes;
    for (const auto& v : values) shapes.push_back(v.shape);
    return joined_shape(axis, shapes, "").second;
  };
  return joining_rule(
      [](const Tree<Law>& in) {
        Law law = joined_law(concatenating, in, false);
        law.gaussian = false;
        return law;
      },
      [=](const Tree<ExampleValue>& in, Statistics& statistics) {
        const std::vector<ExampleValue> values = values_of(concatenating, in, "");
        const Shape all = joined(values);
        return mixed(values, weights(values, all), all, statistics);
      },
      [=](const Tree<PairValue>& in, const Sides& after, std::span<const Sides> statistics) {
        const std::vector<PairValue> values = values_of(concatenating, in, "");
        return mixed(values, weights(values, joined(values)), after, statistics);
      });
}

}  // namespace

Layer fan_out(Index n) {
  if (n < 1) fail<ShapeError>("fan_out: the number of copies must be 1 or more, got {}", n);
  if (n > most_copies) fail<ShapeError>("fan_out: {} copies are more than the {} there may be", n, most_copies);
  return {.name = "fan_out",
          .init = [n](Key, const Tree<Shape>& input, Width) -> Initialized { return {listed(std::vector(static_cast<std::size_t>(n), input)), {}}; },
          .apply = [n](const Tree<Var>& params, const Value& x, const Context&) -> Value {
            check_no_others("fan_out", params, {}, x);
            return listed(std::vector(static_cast<std::size_t>(n), x));
          },
          .options = LayerOptions{{"n", n}},
          .kernel = fan_out_rule(n)};
}

Layer fan_in_sum() {
  return folding({"fan_in_sum", "summed", "sum"}, [](const Var& a, const Var& b) { return a + b; }, fan_in_sum_rule());
}

Layer fan_in_prod() {
  return folding({"fan_in_prod", "multiplied", "multiply"}, [](const Var& a, const Var& b) { return a * b; }, fan_in_prod_rule());
}

Layer fan_in_concat(Index axis) {
  return {.name = "fan_in_concat",
          .init = [axis](Key, const Tree<Shape>& input, Width) -> Initialized { return {joined_shape(axis, values_of(concatenating, input, ""), "").second, {}}; },
          .apply = [axis](const Tree<Var>& params, const Value& x, const Context&) -> Value {
            check_no_others("fan_in_concat", params, {}, x);
            const std::string here = place(params, x);
            std::vector<Var> values = values_of(concatenating, x, here);
            std::vector<Shape> shapes;
            for (const Var& v : values) shapes.push_back(v.shape());
            const Index at = joined_shape(axis, shapes, here).first;
            return values.size() == 1 ? values[0] : concatenate(std::move(values), at);
          },
          .options = LayerOptions{{"axis", axis}},
          .kernel = fan_in_concat_rule(axis)};
}

}  // namespace linnet::nn
