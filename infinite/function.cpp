#include "linnet/infinite/function.h"

#include "linnet/autodiff/fail.h"
#include "linnet/infinite/network.h"

#include <algorithm>

namespace linnet::infinite {

using namespace autodiff;

namespace {

constexpr const char* names[] = {"W_std", "b_std"};

// Where the scales of a step are in the tree: its path without the network's own name.
using Path = std::vector<std::string>;
Path below(const Network::Step& step) { return {step.path.begin() + 1, step.path.end()}; }

void insert(std::vector<Tree<Array<double>>::Child>& into, std::span<const std::string> path, const std::string& name, double value) {
  if (path.empty()) {
    into.emplace_back(name, Array<double>(Shape{}, value));
    return;
  }
  const auto at = std::find_if(into.begin(), into.end(), [&](const auto& child) { return child.first == path[0]; });
  std::vector<Tree<Array<double>>::Child> children;
  if (at != into.end()) children = at->second.children();
  insert(children, path.subspan(1), name, value);
  Tree<Array<double>> made(std::move(children));
  if (at != into.end()) at->second = std::move(made);
  else into.emplace_back(path[0], std::move(made));
}

// The scale of this name at a layer.
Var find(const Tree<Var>& scales, const Path& path, std::string_view option) {
  const Tree<Var>* at = &scales;
  for (const std::string& name : path) at = &(*at)[name];
  const Var& found = (*at)[option].leaf();
  if (found.shape().rank() != 0) fail<ShapeError>("infinite::kernel_function: the scale {} is {}, a scalar is expected", option, found.shape());
  return found;
}

Var of_lengths(const Var& x, const char* what) {
  if (x.shape().rank() != 2 || x.shape()[1] == 0) fail<ShapeError>("infinite::kernel_function: {} {} must be [examples, channels]; flatten what has more axes", what, x.shape());
  return sum(square(x), {1});
}

}  // namespace

Tree<Array<double>> scales(const nn::Layer& layer) {
  std::vector<Tree<Array<double>>::Child> all;
  for (const Network::Step& step : read(layer).steps)
    if (step.name == "dense" && step.options)
      for (const char* name : names)
        for (const nn::Option& option : *step.options)
          if (option.name == name) insert(all, below(step), name, std::get<double>(option.value));
  return Tree<Array<double>>(std::move(all));
}

std::function<Tree<Var>(const Tree<Var>&, const Var&, const Var&)> kernel_function(const nn::Layer& layer) {
  return [network = std::make_shared<const Network>(read(layer))](const Tree<Var>& scales, const Var& rows, const Var& columns) -> Tree<Var> {
    const Var lengths[] = {of_lengths(rows, "rows"), of_lengths(columns, "columns")};
    const Index n = rows.shape()[0], m = columns.shape()[0], c = rows.shape()[1];
    if (columns.shape()[1] != c) fail<ShapeError>("infinite::kernel_function: rows {} and columns {} must agree in all axes but the leading one", rows.shape(), columns.shape());
    const Var units[] = {rows / reshape(sqrt(lengths[0]), {n, 1}), columns / reshape(sqrt(lengths[1]), {m, 1})};
    const Var relative = 0.5 * sum(square(reshape(units[0], {n, 1, c}) - reshape(units[1], {1, m, c})), {2});  // of near examples to full accuracy
    const StepScale scale = [&](const Network::Step& step, std::string_view option, double value) { return step.name == "dense" ? find(scales, below(step), option) : Var(value); };
    const auto [nngp, ntk] = trace_kernels(*network, c, 1 / static_cast<double>(c) * lengths[0], 1 / static_cast<double>(c) * lengths[1], relative, scale);
    return Tree<Var>({{"nngp", nngp}, {"ntk", ntk}});
  };
}

}  // namespace linnet::infinite
