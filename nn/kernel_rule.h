// What a layer does to kernels where it is infinitely wide: the third member of Layer, beside init and apply. A rule is written with the operations of autodiff/ops.h,
// as apply is, and for two examples: infinite/network.h traces it once and runs it for all pairs. Read layer.h first.
//
// Of a value u of the network (its entries are alike and independent in the limit) a rule sees q = E u(x)^2 of single examples and, of a pair, not the covariance
// K = E u(x1) u(x2), but what it lacks: gap = s1 s2 - K >= 0 with s = sqrt(q). A covariance cannot tell near examples apart (cos(1e-4) is 1 - 5e-9, in float 1), and kernels of
// layers with a kink grow with the root of that difference; from gaps they follow to full accuracy. Numbers of single examples are computed in double.
#pragma once

#include "linnet/autodiff/ops.h"
#include "linnet/autodiff/tree.h"

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace linnet::nn {

using autodiff::Index;
using autodiff::Shape;
using autodiff::Tree;
using autodiff::Var;

// What is known of a value without numbers: whether it is Gaussian of mean zero, as activations need it, and which weights it is linear in the noise of. Values that
// share weights are not independent.
struct Law {
  bool gaussian = false;
  std::string of = "the input";   // the layer that answers it
  std::vector<int> weights = {};  // numbers of draws, ascending
};

// A number of either example of a pair; where numbers are float, `low` is what rounding left of it, and may be no value at all.
struct Sides {
  Var row, column, row_low, column_low;
};
Var product(const Sides& s);     // row column
Var difference(const Sides& s);  // row - column, to the accuracy of double
Var total(const Sides& s);       // row + column

// A value for a pair of examples. Of images K, and all else, has axes for places: those of the row and of the column, or one set of them where only equal places of both are asked
// for. There is one axis in front, of columns.
struct PairValue {
  Shape shape;      // of the value of one example, as Layer::init has it: [1, …, channels]
  Sides deviation;  // s1, s2
  Var gap;          // s1 s2 - K
  Var ntk;          // nothing (Var::is_zero) before the first weights
  bool all_places = false;
  Var nngp() const { return product(deviation) - gap; }
};

// A value for one example.
struct ExampleValue {
  Shape shape;
  Var variance;                                  // q, [places…]
  std::shared_ptr<const PairValue> self = {};    // the example with itself (one column), where all pairs of places are asked for
};

// A number of an example that a rule for pairs asks for, computed in double. split: with what rounding to float leaves.
struct Statistic {
  Var value;           // [places…], of which either side is spread over the places of the other
  bool split = false;
  bool whole = false;  // of any shape, given as it is: with an axis of columns in front on the side of the column
  bool error = false;  // no number that pairs ask for, but which part of the variance is lacking: the answer carries the largest
};

// A scale of the layer by its name among Layer::options: the number it was made with, or a traced value that stands for it, which derivatives are taken by.
using Scale = std::function<Var(std::string_view option, double value)>;

// The pairs of places that a layer asks of what comes: those it is asked for itself, all, or equal places of both.
enum class Places : char { as_asked, all, equal };

struct KernelRule {
  std::string refusal;  // why the layer has no kernel of infinite width; the functions are then not asked
  Places places = Places::as_asked;
  // StructureError where what comes is not what the layer needs. `draws` counts the weights there are.
  std::function<Tree<Law>(const Tree<Law>&, int& draws)> law;
  // The variances it answers; what `pair` needs of single examples is added to the statistics.
  std::function<Tree<ExampleValue>(const Tree<ExampleValue>&, std::vector<Statistic>&, const Scale&)> example;
  // What it answers for a pair: gap and ntk; `after` has the deviations of that, `statistics` those of `example` in their order. The other fields are filled in by
  // whoever asks.
  std::function<Tree<PairValue>(const Tree<PairValue>&, const Tree<Sides>& after, std::span<const Sides> statistics, const Scale&)> pair;
};

// The gap of a covariance that was computed without one: 0 for examples that were alike before, in bits, and never negative.
Var gap_of(const Var& nngp, const Sides& after, const PairValue& before);
// The same of a layer that is linear in values, from D' = E (u(x1) - u(x2))^2 = q1' + q2' - 2 K' and K', both of which it computes as it computes variances: D' is
// right for near examples, and K' for far ones.
Var gap_of_distance(const Var& distance, const Var& nngp, const Sides& after);
Var distance_of(const PairValue& value);  // D

// A sum of two, of which either may be nothing.
Var plus(const Var& a, const Var& b);

}  // namespace linnet::nn
