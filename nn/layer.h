// A layer is a name and two functions: init draws its parameters, apply computes with them. A third says what it does where it is infinitely wide (kernel_rule.h). Layers are combined by serial and parallel as in
// neural-tangents' stax, and define the same functions of the same parameters.
#pragma once

#include "linnet/autodiff/ops.h"
#include "linnet/autodiff/tree.h"
#include "linnet/nn/kernel_rule.h"
#include "linnet/nn/random.h"

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace linnet::nn {

using Value = Tree<Var>;  // one array for most layers, several after fan_out

enum class Width { float32, float64 };  // what is drawn in; a float's normals are not a double's rounded

struct Context {
  std::optional<Key> key;          // for layers that draw when applied
  bool train = false;
  Width width = Width::float64;    // of what they draw
};

struct Initialized {
  Tree<Shape> shape;            // of the output; the leading axis counts examples and may be any number
  Tree<Array<double>> params;   // exact in the width asked for
};

// What a layer was made with, under the names of spec.h. Enumerations are their words.
struct Option {
  std::string name;
  std::variant<bool, Index, double, std::string, std::vector<Index>, std::vector<double>> value;
  bool operator==(const Option&) const = default;
};
using LayerOptions = std::vector<Option>;  // all of them, those left at their default too; what is absent (no bias) is not there

struct Layer {
  std::string name;  // [A-Za-z0-9_]+; in serial the path of child i is name_i
  std::function<Initialized(Key, const Tree<Shape>& input, Width)> init;
  std::function<Value(const Tree<Var>& params, const Value& x, const Context&)> apply;
  std::shared_ptr<const std::vector<Layer>> children;  // of serial, repeat and parallel; null otherwise
  bool side_by_side = false;                           // whether child i takes value i (parallel) or what child i - 1 answers (serial, repeat)
  std::optional<LayerOptions> options{};               // none of a layer of your own
  std::shared_ptr<const KernelRule> kernel{};          // what it does to kernels of infinite width; null where nothing is known, and of layers with children
  // The option of this name, or null where it is absent or of another type: if (const double* b_std = layer.option<double>("b_std")) …
  template <class T> const T* option(std::string_view of) const {
    if (options)
      for (const Option& o : *options)
        if (o.name == of) return std::get_if<T>(&o.value);
    return nullptr;
  }
};

// A layer of one array in and one out.
Layer plain(std::string name, std::function<std::pair<Shape, Tree<Array<double>>>(Key, const Shape& input, Width)> init, std::function<Var(const Tree<Var>& params, const Var& x)> apply,
            std::optional<LayerOptions> options = {});
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
Layer repeat(const Layer& layer, Index n);  // serial of n layers of this kind, which must keep the shape; each has parameters and draws of its own
Layer fan_out(Index n);                     // n copies
Layer fan_in_sum();                         // of values of one shape
Layer fan_in_prod();                        // of values of one shape, entry by entry
Layer fan_in_concat(Index axis = -1);       // along any axis but that of the examples
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

// ---- convolution and pooling: two numbers for images [n, height, width, channels], one for sequences [n, length, channels]
using autodiff::Padding;  // same: ceil(extent / stride) places, zeros outside; valid: no place beyond an edge; circular: same, with the other end outside
struct ConvOptions {
  std::vector<Index> strides;  // none: 1 each
  Padding padding = Padding::valid;
  double W_std = 1;
  std::optional<double> b_std;  // none: no bias
  Parameterization parameterization = Parameterization::ntk;
};
// As Dense with fan_in = taps times channels, at edges too: y = W_std/sqrt(fan_in) x * W + b_std b, cross-correlated (W is not flipped).
// W [filter…, channels of x, channels], b [1, 1 for each filter axis, channels].
Layer Conv(Index channels, std::vector<Index> filter, ConvOptions options = {});

struct PoolOptions {
  std::vector<Index> strides;  // none: 1 each
  Padding padding = Padding::valid;
  bool normalize_edges = false;  // AvgPool, Padding::same: divide by the values inside the image, not by the whole window
};
Layer AvgPool(std::vector<Index> window, PoolOptions options = {});
Layer SumPool(std::vector<Index> window, PoolOptions options = {});
Layer MaxPool(std::vector<Index> window, PoolOptions options = {});  // equal maxima share the slope
Layer GlobalAvgPool();  // [n, …, channels] -> [n, channels], any number of axes between
Layer GlobalSumPool();

// ---- normalization and noise
// (x - mean) / sqrt(variance + epsilon) over these axes, of the whole population; no gain, no bias.
Layer LayerNorm(std::vector<Index> axes = {-1}, double epsilon = 1e-12);
// In training an entry is kept with probability `keep`, divided by it, and 0 otherwise; else it is the identity. StructureError in training without a key.
// Draws follow the shape of the whole batch, so kernels in training need ntk::Options{.independent = false}.
Layer Dropout(double keep);

// ---- attention and tables
enum class Mechanism { softmax, identity, abs, relu };
enum class PositionalEmbedding { none, sum, concat };
struct AttentionOptions {
  bool linear_scaling = true;  // queries are the keys, and products are divided by key_channels; else by its square root
  double W_key_std = 1, W_value_std = 1, W_query_std = 1, W_out_std = 1;
  std::optional<double> b_std;  // none: no bias
  Mechanism mechanism = Mechanism::softmax;
  PositionalEmbedding pos_emb = PositionalEmbedding::none;  // parameters added to x, or concatenated to its channels
  std::optional<Index> pos_emb_channels;                    // of concat; none: those of x
  double W_pos_emb_std = 1;
  bool val_pos_emb = false;  // whether values see it, and not keys and queries alone
};
// Every position attends to all (arXiv 2006.10540): G = zeta(W_query_std W_key_std / (C key_channels^s) Q K^T) per head with s = 1 or 1/2, and
// y = W_out_std W_value_std / sqrt(value_channels heads C') [G V] W_out + b_std b, with C the channels that keys see and C' those that values see.
// x [n, …, c] -> [n, …, channels]. W_query, W_key [heads, C, key_channels], W_value [heads, C', value_channels], W_out [value_channels heads, channels], its rows head
// fastest; b [1, …, channels]; pos_emb [1, positions…, channels of it].
Layer GlobalSelfAttention(Index channels, Index key_channels, Index value_channels, Index heads, AttentionOptions options = {});

struct EmbeddingOptions {
  double W_std = 1;
  Parameterization parameterization = Parameterization::ntk;
};
// Rows of a table by whole numbers in [0, vocabulary): x [n, …] -> [n, …, width], y = W_std W[x] with W ~ N(0, 1), or W[x] with the scale in the draws.
// W [vocabulary, width]. NumericalError of the run for any other number. Nothing is differentiated by x.
Layer Embedding(Index vocabulary, Index width, EmbeddingOptions options = {});

// ---- activations, elementwise. Defaults are stax's. At a kink the slope is the mean of both sides; that of Sign is 0 everywhere.
Layer Erf(double a = 1, double b = 1, double c = 0);        // a erf(b x) + c
Layer Sigmoid_like();                                       // Erf(.5, 1/2.4020563531719796, .5)
Layer ABRelu(double a, double b);                           // a x below 0, b x above
Layer Relu();
Layer LeakyRelu(double alpha);                              // alpha x below 0
Layer Abs();
Layer Gelu(bool approximate = false);                       // x Phi(x), or its approximation by tanh (arXiv 1606.08415)
Layer Sin(double a = 1, double b = 1, double c = 0);        // a sin(b x + c)
Layer Cos(double a = 1, double b = 1, double c = 0);        // a cos(b x + c)
Layer Tanh();
Layer Rbf(double gamma = 1);                                // sqrt(2) sin(sqrt(2 gamma) x + pi/4)
Layer Exp(double a = 1, double b = 1);                      // a exp(b x)
Layer Gaussian(double a = 1, double b = -1);                // a exp(b x^2)
Layer Gabor();                                              // exp(-x^2) sin(x)
Layer Sign();
Layer Monomial(Index degree);                               // x^degree
Layer RectifiedMonomial(Index degree);                      // x^degree from 0 on, 0 below
Layer Polynomial(std::vector<double> coefficients);         // coefficients[0] + coefficients[1] x + …
Layer Hermite(Index degree);                                // He_degree(x) / sqrt(degree!), of norm 1 under a standard normal
Layer Elementwise(const std::string& name, const std::function<Var(const Var&)>& f);  // of your own; f must keep the shape

// The layer with this rule.
Layer with_kernel(Layer layer, std::shared_ptr<const KernelRule> rule);

// ---- use
// Parameters in the width asked for. `input` has a leading axis for the examples, of any extent.
template <Scalar T> Tree<Array<T>> initialize(const Layer& layer, Key key, const Shape& input);
// The layer as a function of one array, as ntk and predict take it. StructureError if it answers several arrays. Layer paths begin with its name.
std::function<Var(const Tree<Var>& params, Var x)> function_of(const Layer& layer, const Context& context = {});
// A table of layers, output shapes, parameters and bytes for an input of this shape (with its leading axis).
std::string summary(const Layer& layer, const Shape& input, Width width = Width::float64);

}  // namespace linnet::nn
