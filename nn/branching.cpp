// Layers that make several values of one, or one of several: fan_out copies; fan_in_sum, fan_in_prod and fan_in_concat join the values of parallel.
#include "linnet/nn/check.h"

#include <limits>

namespace linnet::nn {
namespace {

// How errors speak of a layer that joins values.
struct Joining {
  const char *layer, *done, *verb;
};

const Shape& shape_of(const Shape& s) { return s; }
const Shape& shape_of(const Var& v) { return v.shape(); }

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
template <class F> Layer folding(Joining j, F f) {
  return {.name = j.layer,
          .init = [j](Key, const Tree<Shape>& input, Width) -> Initialized { return {equal_values(j, input, "")[0], {}}; },
          .apply = [j, f](const Tree<Var>& params, const Value& x, const Context&) -> Value {
            check_no_others(j.layer, params, {}, x);
            const std::vector<Var> values = equal_values(j, x, place(params, x));
            Var all = values[0];
            for (std::size_t i = 1; i < values.size(); ++i) all = f(all, values[i]);
            return all;
          },
          .options = LayerOptions{}};
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
          .options = LayerOptions{{"n", n}}};
}

Layer fan_in_sum() {
  return folding({"fan_in_sum", "summed", "sum"}, [](const Var& a, const Var& b) { return a + b; });
}

Layer fan_in_prod() {
  return folding({"fan_in_prod", "multiplied", "multiply"}, [](const Var& a, const Var& b) { return a * b; });
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
          .options = LayerOptions{{"axis", axis}}};
}

}  // namespace linnet::nn
