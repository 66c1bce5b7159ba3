// A layer is a name and two functions: init draws its parameters, apply computes with them. Layers are combined by serial and parallel as in
// neural-tangents' stax, and define the same functions of the same parameters.
#pragma once

#include "linnet/autodiff/ops.h"
#include "linnet/autodiff/tree.h"
#include "linnet/nn/random.h"

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace linnet::nn {

using autodiff::Tree;
using autodiff::Var;

using Value = Tree<Var>;  // one array for most layers, several after fan_out

struct Context {
  std::optional<Key> key;  // for layers that draw when applied
  bool train = false;
};

enum class Width { float32, float64 };  // what parameters are drawn in; a float's normals are not a double's rounded

struct Initialized {
  Tree<Shape> shape;            // of the output; the leading axis counts examples and may be any number
  Tree<Array<double>> params;   // exact in the width asked for
};

struct Layer {
  std::string name;  // [A-Za-z0-9_]+; in serial the path of child i is name_i
  std::function<Initialized(Key, const Tree<Shape>& input, Width)> init;
  std::function<Value(const Tree<Var>& params, const Value& x, const Context&)> apply;
  std::shared_ptr<const std::vector<Layer>> children;  // of serial and parallel, for summary; null otherwise
  bool side_by_side = false;                           // whether child i takes value i (parallel) or what child i - 1 answers (serial)
};

// A layer of one array in and one out.
Layer plain(std::string name, std::function<std::pair<Shape, Tree<Array<double>>>(Key, const Shape& input, Width)> init, std::function<Var(const Tree<Var>& params, const Var& x)> apply);
// For init: scale times standard normals, drawn and scaled in this width.
Array<double> scaled_normal(Key key, const Shape& shape, Width width, double scale = 1);
// For apply: const auto [W, b] = take(params, "W", "b"). StructureError lists the names there are.
template <class Leaf, class... Names> std::array<Leaf, sizeof...(Names)> take(const Tree<Leaf>& tree, const Names&... names) {
  return {tree[std::string_view(names)].leaf()...};
}

// ---- combinators. Parameters are a tree: child i is <layer>_<i>, i counting all children from 0; children without parameters have no entry.
// The same names are the layer paths of errors and of printed programs. Keys are split as in stax.
Layer serial(std::vector<Layer> layers);    // one after another
Layer parallel(std::vector<Layer> layers);  // layer i on value i
Layer fan_out(Index n);                     // n copies
Layer fan_in_sum();                         // of values of one shape
Layer identity();
Layer flatten();                            // [n, …] -> [n, product of the rest], row-major

// ---- dense
enum class Parameterization { ntk, standard };
struct DenseOptions {
  double W_std = 1;
  std::optional<double> b_std;  // none: no bias
  Parameterization parameterization = Parameterization::ntk;
};
// ntk: y = W_std/sqrt(fan_in) x W + b_std b with W, b ~ N(0, 1); standard: y = x W + b with the scales in the draws. W [in, width], b [1, width].
// x is [n, …, in]; more axes than two are kept.
Layer Dense(Index width, DenseOptions options = {});

// ---- activations, elementwise. Defaults are stax's. At a kink the slope is the mean of both sides; that of Sign is 0 everywhere.
Layer Erf(double a = 1, double b = 1, double c = 0);        // a erf(b x) + c
Layer Sigmoid_like();                                       // Erf(.5, 1/2.4020563531719796, .5)
Layer Relu();
Layer LeakyRelu(double alpha);                              // alpha x below 0
Layer Abs();
Layer Gelu();                                               // x Phi(x)
Layer Sin(double a = 1, double b = 1, double c = 0);        // a sin(b x + c)
Layer Cos(double a = 1, double b = 1, double c = 0);        // a cos(b x + c)
Layer Tanh();
Layer Rbf(double gamma = 1);                                // sqrt(2) sin(sqrt(2 gamma) x + pi/4)
Layer Exp(double a = 1, double b = 1);                      // a exp(b x)
Layer Gaussian(double a = 1, double b = -1);                // a exp(b x^2)
Layer Sign();

// ---- use
// Parameters in the width asked for. `input` has a leading axis for the examples, of any extent.
template <Scalar T> Tree<Array<T>> initialize(const Layer& layer, Key key, const Shape& input);
// The layer as a function of one array, as ntk and predict take it. StructureError if it answers several arrays. Layer paths begin with its name.
std::function<Var(const Tree<Var>& params, Var x)> function_of(const Layer& layer);
// A table of layers, output shapes, parameters and bytes for an input of this shape (with its leading axis).
std::string summary(const Layer& layer, const Shape& input, Width width = Width::float64);

}  // namespace linnet::nn
