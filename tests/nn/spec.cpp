// Networks from JSON: every type, and every way to be wrong.
#include "linnet/autodiff/derivative.h"
#include "linnet/nn/nn.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>

using namespace linnet;
using autodiff::Array;
using autodiff::Index;
using autodiff::StructureError;
using autodiff::Tree;

namespace {

Array<double> run(const nn::Layer& layer, const Tree<Array<double>>& params, const Array<double>& x) { return compile(nn::function_of(layer), params, x)(params, x); }

std::string error_of(const std::string& json) {
  try {
    nn::layer_from_json(json);
  } catch (const StructureError& e) {
    return e.what();
  }
  return "nothing was thrown";
}

}  // namespace

TEST_CASE("a description answers the network that the same calls make") {
  const nn::Layer read = nn::layer_from_json(R"({"type": "serial", "layers": [
    {"type": "dense", "out": 6, "W_std": 1.5, "b_std": 0.05, "parameterization": "ntk"},
    {"type": "fan_out", "n": 2},
    {"type": "parallel", "layers": [{"type": "serial", "layers": [{"type": "erf"}, {"type": "dense", "out": 6}]}, {"type": "identity"}]},
    {"type": "fan_in_sum"},
    {"type": "dense", "out": 2, "W_std": 2, "b_std": 1, "parameterization": "standard"}]})");
  const nn::Layer made = nn::serial({nn::Dense(6, {.W_std = 1.5, .b_std = 0.05}), nn::fan_out(2), nn::parallel({nn::serial({nn::Erf(), nn::Dense(6)}), nn::identity()}), nn::fan_in_sum(),
                                     nn::Dense(2, {.W_std = 2, .b_std = 1, .parameterization = nn::Parameterization::standard})});
  const auto params = nn::initialize<double>(read, nn::Key(1), {1, 3});
  CHECK(params.paths() == std::vector<std::string>{"dense_0/W", "dense_0/b", "parallel_2/serial_0/dense_1/W", "dense_4/W", "dense_4/b"});
  CHECK(params == nn::initialize<double>(made, nn::Key(1), {1, 3}));
  const auto x = nn::normal<double>(nn::Key(2), {5, 3});
  CHECK(run(read, params, x) == run(made, params, x));
}

TEST_CASE("every type that has no parameters computes its function") {
  const double x = 0.7;
  const std::vector<std::pair<const char*, double>> cases{
      {R"({"type": "erf"})", std::erf(x)},
      {R"({"type": "erf", "a": 2, "b": 3, "c": 4})", 2 * std::erf(3 * x) + 4},
      {R"({"type": "relu"})", x},
      {R"({"type": "gelu"})", x * 0.5 * std::erfc(-x / std::sqrt(2.))},
      {R"({"type": "sin"})", std::sin(x)},
      {R"({"type": "sin", "a": 2, "b": 3, "c": 4})", 2 * std::sin(3 * x + 4)},
      {R"({"type": "cos"})", std::cos(x)},
      {R"({"type": "cos", "a": 2, "b": 3, "c": 4})", 2 * std::cos(3 * x + 4)},
      {R"({"type": "abs"})", x},
      {R"({"type": "leaky_relu", "alpha": 0.1})", x},
      {R"({"type": "sigmoid_like"})", 0.5 * std::erf(x / 2.4020563531719796) + 0.5},
      {R"({"type": "identity"})", x},
      {R"({"type": "flatten"})", x},
      {R"({"type": "tanh"})", std::tanh(x)},
      {R"({"type": "rbf"})", std::sqrt(2.) * std::sin(std::sqrt(2.) * x + std::acos(-1.) / 4)},
      {R"({"type": "rbf", "gamma": 2})", std::sqrt(2.) * std::sin(2 * x + std::acos(-1.) / 4)},
      {R"({"type": "exp"})", std::exp(x)},
      {R"({"type": "exp", "a": 2, "b": -1})", 2 * std::exp(-x)},
      {R"({"type": "gaussian"})", std::exp(-x * x)},
      {R"({"type": "gaussian", "a": 3, "b": -2})", 3 * std::exp(-2 * x * x)},
      {R"({"type": "sign"})", 1},
  };
  for (const auto& [json, expected] : cases) {
    CAPTURE(json);
    CHECK(run(nn::layer_from_json(json), {}, Array<double>({1, 1}, {x})).item() == doctest::Approx(expected).epsilon(1e-14));
  }
  CHECK(run(nn::layer_from_json(R"({"type": "leaky_relu", "alpha": 0.25})"), {}, Array<double>({1, 1}, {-2})).item() == -0.5);
}

TEST_CASE("a wrong description is refused with the place") {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"[]", "spec: at the top: a layer is an object, got array"},
      {"3", "spec: at the top: a layer is an object, got the number 3"},
      {"null", "spec: at the top: a layer is an object, got null"},
      {"{}", "spec: at the top: a layer needs the key 'type', a string"},
      {R"({"type": 1})", "spec: at the top: 'type' should be a string, got the number 1"},
      {R"({"type": "dense"})", "spec: at the top: dense needs the key 'out', an integer"},
      {R"({"type": "dense", "out": 1.5})", "spec: at the top: 'out' should be an integer, got the number 1.5"},
      {R"({"type": "dense", "out": "8"})", "spec: at the top: 'out' should be an integer, got the string \"8\""},
      {R"({"type": "dense", "out": 18446744073709551615})", "spec: at the top: 'out' is too large: 18446744073709551615"},
      {R"({"type": "dense", "out": 0})", "spec: at the top: dense: the width must be 1 or more, got 0"},
      {R"({"type": "dense", "out": 2, "b_std": null})", "spec: at the top: 'b_std' should be a number, got null"},
      {R"({"type": "dense", "out": 2, "W_std": -1})", "spec: at the top: dense: W_std must be finite and not negative, got -1"},
      {R"({"type": "dense", "out": 2, "parameterization": "mup"})", "spec: at the top: 'parameterization' should be \"ntk\" or \"standard\", got \"mup\""},
      {R"({"type": "dense", "out": 2, "bias": 1})", "spec: at the top: dense does not know the key 'bias'; it has W_std, b_std, out, parameterization, type"},
      {R"({"type": "relu", "alpha": 1})", "spec: at the top: relu does not know the key 'alpha'; it has type"},
      {R"({"type": "gaussian", "c": 1})", "spec: at the top: gaussian does not know the key 'c'; it has a, b, type"},
      {R"({"type": "leaky_relu"})", "spec: at the top: leaky_relu needs the key 'alpha', a number"},
      {R"({"type": "rbf", "gamma": -2})", "spec: at the top: rbf: gamma must be finite and not negative, got -2"},
      {R"({"type": "fan_out", "n": 0})", "spec: at the top: fan_out: the number of copies must be 1 or more, got 0"},
      {R"({"type": "serial"})", "spec: at the top: serial needs the key 'layers', a list of layers"},
      {R"({"type": "serial", "layers": {}})", "spec: at the top: 'layers' should be a list of layers, got object"},
      {R"({"type": "serial", "layers": []})", "spec: at the top: serial: there are no layers; give one at least, identity() if nothing is to happen"},
      {R"({"type": "serial", "layers": [{"type": "relu"}, {"type": "parallel", "layers": [{"type": "erf", "a": true}]}]})", "spec: at layers[1].layers[0]: 'a' should be a number, got the boolean true"},
      {R"({"type": "serial", "layers": [{"type": "relu"}, 7]})", "spec: at layers[1]: a layer is an object, got the number 7"},
      {R"({"type": "conv", "out": 2})", "spec: at the top: conv needs the key 'filter', a list of integers"},
      {R"({"type": "conv", "out": 2, "filter": 3})", "spec: at the top: 'filter' should be a list of integers, got the number 3"},
      {R"({"type": "conv", "out": 2, "filter": [3, 1.5]})", "spec: at the top: 'filter' should be a list of integers, got the number 1.5 in it"},
      {R"({"type": "conv", "out": 2, "filter": [18446744073709551615]})", "spec: at the top: 'filter' is too large: 18446744073709551615"},
      {R"({"type": "conv", "out": 2, "filter": [3, 3, 3]})", "spec: at the top: conv: the filter has 3 axes; two are for images, one is for sequences"},
      {R"({"type": "conv", "out": 2, "filter": [3], "padding": "FULL"})", "spec: at the top: 'padding' should be \"SAME\", \"VALID\" or \"CIRCULAR\", got \"FULL\""},
      {R"({"type": "conv", "out": 2, "filter": [3], "padding": "SAM"})", "spec: at the top: 'padding' should be \"SAME\", \"VALID\" or \"CIRCULAR\", got \"SAM\""},
      {R"({"type": "conv", "out": 2, "filter": [3], "dilation": [1]})", "spec: at the top: conv does not know the key 'dilation'; it has W_std, b_std, filter, out, padding, parameterization, strides, type"},
      {R"({"type": "avg_pool", "window": [2], "normalize_edges": 1})", "spec: at the top: 'normalize_edges' should be true or false, got the number 1"},
      {R"({"type": "sum_pool", "window": [2], "normalize_edges": true})", "spec: at the top: sum_pool does not know the key 'normalize_edges'; it has padding, strides, type, window"},
      {R"({"type": "avg_pool", "window": []})", "spec: at the top: avg_pool: the window has 0 axes; two are for images, one is for sequences"},
      {R"({"type": "layer_norm", "axis": 1.5})", "spec: at the top: 'axis' should be an integer, got the number 1.5"},
      {R"({"type": "layer_norm", "axis": []})", "spec: at the top: layer_norm: no axes came; name those to normalize over, -1 for the channels"},
      {R"({"type": "dropout", "keep": 0})", "spec: at the top: dropout: the probability to keep an entry must be above 0 and at most 1, got 0"},
      {R"({"type": "attention", "out": 2, "key": 2, "value": 2})", "spec: at the top: attention needs the key 'heads', an integer"},
      {R"({"type": "attention", "out": 2, "key": 2, "value": 2, "heads": 1, "mechanism": "sparse"})", "spec: at the top: 'mechanism' should be \"SOFTMAX\", \"IDENTITY\", \"ABS\" or \"RELU\", got \"sparse\""},
      {R"({"type": "embedding", "out": 2})", "spec: at the top: embedding needs the key 'vocabulary', an integer"},
      {R"({"type": "repeat", "n": 2})", "spec: at the top: repeat needs the key 'layer', a layer"},
      {R"({"type": "repeat", "n": 2, "layer": {"type": "relu", "x": 1}})", "spec: at layer: relu does not know the key 'x'; it has type"},
      {R"({"type": "repeat", "n": 0, "layer": {"type": "relu"}})", "spec: at the top: repeat: the number of layers must be from 1 to 100000, got 0"},
      {R"({"type": "hermite", "degree": -1})", "spec: at the top: hermite: the degree must be from 0 to 1000, got -1"},
      {R"({"type": "polynomial", "coefficients": [1, "x"]})", "spec: at the top: 'coefficients' should be a list of numbers, got the string \"x\" in it"},
      {R"({"type": "relu", "type": "erf"})", "spec: an object has the key 'type' twice"},
  };
  for (const auto& [json, expected] : cases) CHECK(error_of(json) == expected);
}

TEST_CASE("a type that is not known is named first, then the place and the types there are") {
  CHECK(error_of(R"({"type": "serial", "layers": [{"type": "lstm", "out": 6}]})") ==
        "spec: layer type 'lstm' is not available (at layers[0]); there are ab_relu, abs, attention, avg_pool, conv, cos, dense, dropout, embedding, erf, exp, fan_in_concat, fan_in_prod, fan_in_sum, "
        "fan_out, flatten, gabor, gaussian, gelu, global_avg_pool, global_sum_pool, hermite, identity, layer_norm, leaky_relu, max_pool, monomial, parallel, polynomial, rbf, rectified_monomial, relu, "
        "repeat, serial, sigmoid_like, sign, sin, sum_pool, tanh");
}

TEST_CASE("what is no JSON is refused with line and column") {
  CHECK(error_of("{\"type\": \"relu\",\n  oops}").starts_with("spec: this is not JSON: parse error at line 2, column 3: "));
  CHECK(error_of("").starts_with("spec: this is not JSON: parse error at line 1, column 1: "));
  CHECK(error_of(R"({"type": "relu"} x)").starts_with("spec: this is not JSON: parse error at line 1, column 18: "));
  CHECK(error_of(R"({"type": "erf", "a": 1e999})").starts_with("spec: this is not JSON: number overflow parsing '1e999'"));
  CHECK(error_of("{\"type\": \"\xff\"}").starts_with("spec: this is not JSON: parse error at line 1, column 11: "));
  CHECK(error_of(std::string(100000, '[')).starts_with("spec: this is not JSON: parse error"));
}

TEST_CASE("words may be written in small letters, numbers without a point, and one axis without a list") {
  const auto same = [](const char* a, const char* b) { CHECK(nn::layer_to_json(nn::layer_from_json(a)) == nn::layer_to_json(nn::layer_from_json(b))); };
  same(R"({"type": "conv", "out": 2, "filter": [3], "padding": "circular", "strides": [1]})", R"({"type": "conv", "out": 2, "filter": [3], "padding": "CIRCULAR"})");
  same(R"({"type": "attention", "out": 2, "key": 2, "value": 2, "heads": 1, "mechanism": "softmax"})", R"({"type": "attention", "out": 2, "key": 2, "value": 2, "heads": 1})");
  same(R"({"type": "dense", "out": 2, "W_std": 2})", R"({"type": "dense", "out": 2, "W_std": 2.0, "parameterization": "NTK"})");
  same(R"({"type": "layer_norm", "axis": 1})", R"({"type": "layer_norm", "axis": [1]})");
}

TEST_CASE("what a layer was made with can be asked") {
  const nn::Layer conv = nn::Conv(2, {3, 1}, {.padding = nn::Padding::circular, .b_std = 0.25});
  CHECK(*conv.option<Index>("out") == 2);
  CHECK(*conv.option<std::vector<Index>>("filter") == std::vector<Index>{3, 1});
  CHECK(*conv.option<std::vector<Index>>("strides") == std::vector<Index>{1, 1});
  CHECK(*conv.option<std::string>("padding") == "CIRCULAR");
  CHECK(*conv.option<double>("b_std") == 0.25);
  CHECK(conv.option<double>("out") == nullptr);
  CHECK(nn::Conv(2, {3}).option<double>("b_std") == nullptr);
  CHECK(*nn::GlobalSelfAttention(1, 1, 1, 1).option<bool>("linear_scaling"));
  CHECK(nn::Layer{.name = "mine"}.option<double>("b_std") == nullptr);
}

TEST_CASE("a layer is written with all its options, and only what the library has is written") {
  CHECK(nn::layer_to_json(nn::serial({nn::Conv(2, {3, 1}, {.b_std = 0.1}), nn::repeat(nn::Relu(), 2), nn::parallel({nn::identity()})})) ==
        R"({"layers":[{"W_std":1.0,"b_std":0.1,"filter":[3,1],"out":2,"padding":"VALID","parameterization":"ntk","strides":[1,1],"type":"conv"},)"
        R"({"layer":{"type":"relu"},"n":2,"type":"repeat"},{"layers":[{"type":"identity"}],"type":"parallel"}],"type":"serial"})");
  CHECK_THROWS_WITH_AS(nn::layer_to_json(nn::serial({nn::Elementwise("relu", [](const autodiff::Var& x) { return x; })})), "spec: a layer 'relu' has no description; only the library's own have", StructureError);
  nn::Layer deep = nn::Relu();
  for (int i = 0; i < 101; ++i) deep = nn::serial({deep});
  CHECK_THROWS_WITH_AS(nn::layer_to_json(deep), "spec: layers are nested deeper than 100", StructureError);
}

TEST_CASE("layers inside layers are read up to a depth, and no further") {
  const auto nested = [](int depth) {
    std::string json = R"({"type": "relu"})";
    for (int i = 0; i < depth; ++i) json = R"({"type": "serial", "layers": [)" + json + "]}";
    return json;
  };
  CHECK(run(nn::layer_from_json(nested(100)), {}, Array<double>({1, 1}, {-3})).item() == 0);
  const std::string error = error_of(nested(101));
  CHECK(error.ends_with("layers[0]: layers are nested deeper than 100"));
  CHECK(error.starts_with("spec: at layers[0].layers[0]"));
}
