// A network of layers, read for its kernels of infinite width: which rules (nn/kernel_rule.h) are asked in which order, and the two programs that they give when they are
// traced. One computes the variances of single examples, and whatever else pairs need of them, in double; the other follows one row of pairs through all layers. Not installed.
#pragma once

#include "linnet/autodiff/program.h"
#include "linnet/nn/layer.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace linnet::infinite {

using autodiff::Index;
using autodiff::Program;
using autodiff::Shape;
using autodiff::Tree;
using autodiff::Var;

// The rules in order. Values are numbered, the input is 0; of what is left of a network it is the value that comes, which has an ntk already.
struct Network {
  struct Step {
    const nn::KernelRule* rule;
    Tree<int> in, out;
    std::vector<std::string> path;  // of the layer, for errors: "serial", "dense_2"
    std::string name;               // of its kind, and what it was made with
    std::optional<nn::LayerOptions> options;
  };
  nn::Layer layer;  // keeps the rules
  std::vector<Step> steps;
  int values = 1, input = 0, output = 0;
  bool input_has_ntk = false;
  std::vector<bool> all_places;  // of every value: whether all pairs of its places are asked for
  bool flattens_first = false;   // the first layer is flatten(): places of the input need not be told apart
};
// StructureError: a layer without a rule, or one that comes where its rule does not hold; a network that answers several values.
Network read(const nn::Layer& layer);
// What is left of it behind so many steps, the last of which answers one value.
Network rest_of(const Network& network, std::size_t steps);

// Of one example: from the variance of the input, [places…], and where all pairs of its places are asked for the gaps of the example with itself,
// [places…, places…], to the statistics, in the order that pairs ask for them; then comes the variance of the network's output.
struct ExampleProgram {
  struct Of {
    Shape shape;
    bool split, whole;  // as nn::Statistic has them
    std::string of;     // the layer, for errors
    bool error = false;
  };
  std::shared_ptr<const Program> program;
  bool with_ntk = false;  // there is one more output, the ntk of the example with itself: where pairs of places are told apart
  std::vector<Of> statistics;
  std::vector<Shape> shapes;              // of every value, [1, …, channels]
  std::vector<int> deviation;             // of every value: which statistic its deviation is
  std::vector<std::vector<int>> of_step;  // which statistics a step has
};
// `input`: the shape of one example, [1, …, channels].
ExampleProgram trace_examples(const Network& network, const Shape& input);

enum class Wanted { nngp,
                    ntk,
                    both };

// Of one example (the row, a lane) with `columns` others. Inputs: the gap of the input, [columns, places…], or [columns, places…, places…] where all
// pairs are asked for, and its ntk if it has one; then for every statistic that of the row; that of the columns; and
// where it is split and numbers are float, what rounding left of either. Outputs: what is wanted, nngp first.
std::shared_ptr<const Program> trace_pairs(const Network& network, const ExampleProgram& examples, Index columns, bool in_float, Wanted wanted);

// Of traced examples without places: variances of rows [n] and of columns [m], and 1 - cos of the input's angles [n, m]. Both kernels, [n, m].
using StepScale = std::function<Var(const Network::Step&, std::string_view option, double value)>;
struct TracedKernels {
  Var nngp, ntk;
};
TracedKernels trace_kernels(const Network& network, Index channels, const Var& row_variances, const Var& column_variances, const Var& relative_gap, const StepScale& scale);

}  // namespace linnet::infinite
