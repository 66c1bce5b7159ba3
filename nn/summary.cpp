// summary: what a network is made of, as a table. Parameters are counted by initializing one layer after another.
#include "linnet/nn/check.h"

#include <algorithm>

namespace linnet::nn {
namespace {

struct Row {
  std::string layer, output;
  Index parameters;
};

std::string with_separators(Index n) {
  const std::string digits = fmt::format("{}", n);
  std::string text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

std::string shapes(const Tree<Shape>& shape) {
  std::vector<std::string> all;
  for (const Shape* s : shape.leaves()) all.push_back(str(*s));
  return fmt::format("{}", fmt::join(all, " "));
}

// Adds the rows of a layer and answers the shape of its output; a combinator's row comes before its children's.
Tree<Shape> add_rows(const Layer& layer, const std::string& name, const Tree<Shape>& input, Width width, std::vector<Row>& rows, std::size_t depth) {
  const std::size_t mine = rows.size();
  rows.push_back({std::string(2 * depth, ' ') + name, "", 0});
  const auto child_rows = [&](std::size_t i, const Tree<Shape>& in) {
    const Layer& child = (*layer.children)[i];
    const std::size_t first = rows.size();
    Tree<Shape> out = add_rows(child, fmt::format("{}_{}", child.name, i), in, width, rows, depth + 1);
    rows[mine].parameters += rows[first].parameters;
    return out;
  };
  Tree<Shape> output = in_layer(name, [&]() -> Tree<Shape> {
    if (!layer.children) {
      Initialized made = layer.init(Key(0), input, width);
      for (const Array<double>* a : made.params.leaves()) rows[mine].parameters += a->size();
      return made.shape;
    }
    if (layer.side_by_side) {
      const auto& inputs = side_by_side(layer.name, input, layer.children->size(), "");
      std::vector<Tree<Shape>::Child> outputs;
      for (std::size_t i = 0; i < inputs.size(); ++i) outputs.emplace_back(fmt::format("{}", i), child_rows(i, inputs[i].second));
      return Tree<Shape>(std::move(outputs));
    }
    Tree<Shape> value = input;
    for (std::size_t i = 0; i < layer.children->size(); ++i) value = child_rows(i, value);
    return value;
  });
  rows[mine].output = shapes(output);
  return output;
}

}  // namespace

std::string summary(const Layer& layer, const Shape& input, Width width) {
  if (input.rank() == 0) fail<ShapeError>("summary: the shape of the input is that of a scalar; expected is [examples, …]");
  if (!layer.init) fail<StructureError>("summary: layer '{}' has no init function", layer.name);
  std::vector<Row> rows;
  add_rows(layer, layer.name, input, width, rows, 0);
  rows.insert(rows.begin(), {"input", str(input), 0});
  rows.push_back({"total", "", rows[1].parameters});
  std::size_t layers = 0, outputs = 6;  // "output"
  for (const Row& row : rows) {
    layers = std::max(layers, row.layer.size());
    outputs = std::max(outputs, row.output.size());
  }
  const Index bytes = width == Width::float32 ? 4 : 8;
  const std::string line = std::string(layers + outputs + 32, '-') + "\n";
  std::string table = fmt::format("{:<{}}  {:<{}}  {:>12}  {:>14}\n", "layer", layers, "output", outputs, "parameters", "bytes") + line;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Row& row = rows[i];
    const bool total = i + 1 == rows.size();
    std::string text = fmt::format("{:<{}}  {:<{}}", row.layer, layers, row.output, outputs);
    if (total || row.parameters > 0) text += fmt::format("  {:>12}  {:>14}", with_separators(row.parameters), with_separators(row.parameters * bytes));
    text.erase(text.find_last_not_of(' ') + 1);
    table += (total ? line : "") + text + "\n";
  }
  return table;
}

}  // namespace linnet::nn
