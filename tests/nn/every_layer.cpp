// What every layer must hold, whatever it computes: a table of descriptions with an input each, run through shapes, batches, widths, derivatives, JSON and summary.
#include "layers.h"

#include "linnet/autodiff/testing.h"

#include <set>

namespace {

struct Row {
  const char* json;
  Shape example;           // of one, without the leading axis
  bool tokens = false;     // whole numbers 0, 1, 2
};

const std::vector<Row>& table() {
  static const std::vector<Row> rows{
      {R"({"type": "dense", "out": 3, "W_std": 1.5, "b_std": 0.5})", {4}},
      {R"({"type": "dense", "out": 2, "parameterization": "standard"})", {2, 3}},
      {R"({"type": "conv", "out": 3, "filter": [2, 3], "strides": [2, 1], "padding": "SAME", "W_std": 1.5, "b_std": 0.5})", {3, 4, 2}},
      {R"({"type": "conv", "out": 2, "filter": [3], "padding": "CIRCULAR", "parameterization": "standard"})", {4, 2}},
      {R"({"type": "conv", "out": 2, "filter": [2], "strides": [2], "b_std": 0.5})", {5, 1}},
      {R"({"type": "avg_pool", "window": [2, 2], "strides": [1, 2], "padding": "SAME", "normalize_edges": true})", {3, 4, 2}},
      {R"({"type": "avg_pool", "window": [2]})", {4, 2}},
      {R"({"type": "sum_pool", "window": [2, 3], "padding": "CIRCULAR"})", {3, 4, 1}},
      {R"({"type": "max_pool", "window": [2, 2], "strides": [2, 2], "padding": "SAME"})", {3, 4, 2}},
      {R"({"type": "global_avg_pool"})", {2, 3, 2}},
      {R"({"type": "global_sum_pool"})", {3, 2}},
      {R"({"type": "flatten"})", {2, 3}},
      {R"({"type": "layer_norm"})", {4}},
      {R"({"type": "layer_norm", "axis": [1, -1], "eps": 0.01})", {2, 2, 3}},
      {R"({"type": "dropout", "keep": 0.5})", {3}},
      {R"({"type": "attention", "out": 3, "key": 2, "value": 2, "heads": 2})", {3, 2}},
      {R"({"type": "attention", "out": 2, "key": 2, "value": 1, "heads": 1, "linear_scaling": false, "W_key_std": 0.9, "W_value_std": 1.1, "W_query_std": 1.2, "W_out_std": 1.3, "b_std": 0.5,
           "mechanism": "IDENTITY", "pos_emb": "CONCAT", "pos_emb_channels": 3, "W_pos_emb_std": 0.7, "val_pos_emb": true})", {2, 2, 1}},
      {R"({"type": "embedding", "vocabulary": 3, "out": 2, "W_std": 1.5})", {2}, true},
      {R"({"type": "identity"})", {3}},
      {R"({"type": "serial", "layers": [{"type": "dense", "out": 3}, {"type": "erf"}]})", {2}},
      {R"({"type": "repeat", "n": 2, "layer": {"type": "serial", "layers": [{"type": "dense", "out": 2, "b_std": 1}, {"type": "sin"}]}})", {2}},
      {R"({"type": "serial", "layers": [{"type": "fan_out", "n": 2}, {"type": "parallel", "layers": [{"type": "dense", "out": 3}, {"type": "identity"}]}, {"type": "fan_in_sum"}]})", {3}},
      {R"({"type": "serial", "layers": [{"type": "fan_out", "n": 2}, {"type": "parallel", "layers": [{"type": "dense", "out": 3}, {"type": "identity"}]}, {"type": "fan_in_prod"}]})", {3}},
      {R"({"type": "serial", "layers": [{"type": "fan_out", "n": 3}, {"type": "fan_in_concat", "axis": 1}]})", {2, 3}},
      {R"({"type": "serial", "layers": [{"type": "fan_out", "n": 2}, {"type": "fan_in_concat"}]})", {2, 3}},
      {R"({"type": "erf", "a": 2, "b": 0.5, "c": 0.25})", {3}},
      {R"({"type": "sin", "a": 2})", {3}},
      {R"({"type": "cos", "b": 2})", {3}},
      {R"({"type": "exp", "b": 0.5})", {3}},
      {R"({"type": "gaussian"})", {3}},
      {R"({"type": "gabor"})", {3}},
      {R"({"type": "rbf", "gamma": 0.5})", {3}},
      {R"({"type": "ab_relu", "a": -0.5, "b": 2})", {3}},
      {R"({"type": "leaky_relu", "alpha": 0.25})", {3}},
      {R"({"type": "relu"})", {3}},
      {R"({"type": "abs"})", {3}},
      {R"({"type": "gelu"})", {3}},
      {R"({"type": "gelu", "approximate": true})", {3}},
      {R"({"type": "tanh"})", {3}},
      {R"({"type": "sign"})", {3}},
      {R"({"type": "sigmoid_like"})", {3}},
      {R"({"type": "monomial", "degree": 3})", {3}},
      {R"({"type": "rectified_monomial", "degree": 2})", {3}},
      {R"({"type": "polynomial", "coefficients": [1, -0.5, 0.25]})", {3}},
      {R"({"type": "hermite", "degree": 4})", {3}},
  };
  return rows;
}

Shape batch(const Row& row, Index n) { return row.example.inserted(0, std::array{n}); }

template <class T> Array<T> input(const Row& row, Index n) {
  Array<T> x = nn::normal<T>(Key(3), batch(row, n));
  if (row.tokens)
    for (Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<T>(i * i % 3);
  return x;
}

// Parameters that are exact in float, in double.
Params<double> parameters(const nn::Layer& layer, const Row& row) {
  return map([](const Array<float>& a) { return autodiff::cast<double>(a); }, nn::initialize<float>(layer, Key(7), batch(row, 1)));
}

void types_in(const nn::Layer& layer, std::set<std::string>& found) {
  found.insert(layer.name);
  if (layer.children)
    for (const nn::Layer& child : *layer.children) types_in(child, found);
}

}  // namespace

TEST_CASE("the table has every type of layer there is") {
  std::set<std::string> found, expected;
  for (const Row& row : table()) types_in(nn::layer_from_json(row.json), found);
  std::string text;
  try {
    nn::layer_from_json(R"({"type": "none of them"})");
  } catch (const StructureError& e) {
    text = e.what();
  }
  text = text.substr(text.find("there are ") + 10);
  for (std::size_t at = 0; at < text.size(); at = text.find(", ", at) == std::string::npos ? text.size() : text.find(", ", at) + 2) expected.insert(text.substr(at, text.find(", ", at) - at));
  CHECK(found == expected);
}

TEST_CASE_TEMPLATE("init says the shape that apply answers, for no example, one and several, and examples do not see each other", T, float, double) {
  for (const Row& row : table()) {
    CAPTURE(row.json);
    const nn::Layer layer = nn::layer_from_json(row.json);
    const auto params = nn::initialize<T>(layer, Key(7), batch(row, 1));
    const Array<T> x = input<T>(row, 3), y = run(layer, params, x);
    for (const Index n : {0, 1, 3}) {
      const auto made = layer.init(Key(7), batch(row, n), sizeof(T) == 4 ? nn::Width::float32 : nn::Width::float64);
      const Array<T> some = run(layer, params, x.rows(0, n));
      CHECK(made.shape.leaf() == some.shape());
      CHECK(made.shape.leaf()[0] == n);
      CHECK(made.params.paths() == params.paths());
      if (n > 0) check_close(some, autodiff::cast<double>(y.rows(0, n)), tolerance<T>());
    }
  }
}

TEST_CASE("float agrees with double, from the same parameters") {
  for (const Row& row : table()) {
    CAPTURE(row.json);
    const nn::Layer layer = nn::layer_from_json(row.json);
    const auto params = parameters(layer, row);
    const Array<float> x = input<float>(row, 2);
    const Array<float> y = run(layer, map([](const Array<double>& a) { return autodiff::cast<float>(a); }, params), x);
    check_close(y, run(layer, params, autodiff::cast<double>(x)), 1e-5);
  }
}

TEST_CASE("derivatives in parameters and inputs are right, to the second order") {
  for (const Row& row : table()) {
    CAPTURE(row.json);
    const nn::Layer layer = nn::layer_from_json(row.json);
    const auto params = parameters(layer, row);
    const auto f = nn::function_of(layer);
    std::vector<Array<double>> in;
    for (const Array<double>* leaf : params.leaves()) in.push_back(*leaf);
    if (!row.tokens) in.push_back(input<double>(row, 2));
    const autodiff::Function flat = [&](std::span<const Var> values) -> std::vector<Var> {
      std::vector<Var> leaves(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(params.leaves().size()));
      const Tree<Var> tree = autodiff::unflatten(params, std::move(leaves));
      return {f(tree, row.tokens ? autodiff::constant(input<double>(row, 2)) : values.back())};
    };
    std::size_t checks = 0;
    CHECK(check_derivatives(flat, in, {.order = 2, .checks = &checks}) == std::vector<std::string>());
    CHECK(checks > 5);
  }
}

TEST_CASE("a description that is written is read as the same layer") {
  for (const Row& row : table()) {
    CAPTURE(row.json);
    const nn::Layer layer = nn::layer_from_json(row.json);
    const std::string written = nn::layer_to_json(layer);
    const nn::Layer again = nn::layer_from_json(written);
    CHECK(nn::layer_to_json(again) == written);
    CHECK(again.options == layer.options);
    const auto params = nn::initialize<double>(layer, Key(7), batch(row, 1));
    CHECK(nn::initialize<double>(again, Key(7), batch(row, 1)) == params);
    CHECK(run(again, params, input<double>(row, 2)) == run(layer, params, input<double>(row, 2)));
  }
}

TEST_CASE("a summary shows every layer with its output and its parameters") {
  for (const Row& row : table()) {
    CAPTURE(row.json);
    const nn::Layer layer = nn::layer_from_json(row.json);
    const auto params = nn::initialize<double>(layer, Key(7), batch(row, 1));
    Index count = 0;
    for (const Array<double>* leaf : params.leaves()) count += leaf->size();
    const std::string text = nn::summary(layer, batch(row, 1)), last = text.substr(text.rfind("total"));
    CHECK(text.find("\n" + layer.name + " ") != std::string::npos);
    CHECK(text.find(autodiff::str(layer.init(Key(0), batch(row, 1), nn::Width::float64).shape.leaf())) != std::string::npos);
    CHECK(last.find(" " + std::to_string(count) + " ") != std::string::npos);
  }
}
