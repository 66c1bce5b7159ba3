// Layers: the parameters they draw, against neural-tangents' (made by tests/reference/make_random.py), what they compute, against loops, and what they refuse.
#include "layers.h"

#include "linnet/autodiff/program.h"

#include <numbers>

namespace {

// y = w x W + v b by loops, x [rows, in].
template <class T> Array<double> affine(const Array<T>& x, const Array<T>& W, const Array<T>* b, double w, double v) {
  const Index in = W.shape()[0], out = W.shape()[1], rows = x.size() / in;
  Array<double> y(x.shape().with(-1, out));
  for (Index r = 0; r < rows; ++r)
    for (Index j = 0; j < out; ++j) {
      double sum = 0;
      for (Index i = 0; i < in; ++i) sum += double(x.data()[r * in + i]) * W.data()[i * out + j];
      y.data()[r * out + j] = w * sum + (b ? v * b->data()[j] : 0);
    }
  return y;
}

// The network of make_random.py.
nn::Layer residual() {
  const auto dense = [](Index width, nn::Parameterization p = nn::Parameterization::ntk, std::optional<double> b_std = 0.05) { return nn::Dense(width, {1.5, b_std, p}); };
  const nn::Layer branch = nn::serial({nn::Erf(), dense(2)});
  return nn::serial({dense(2), nn::fan_out(2), nn::parallel({branch, nn::identity()}), nn::fan_in_sum(), nn::Relu(), dense(2, nn::Parameterization::standard), dense(1, nn::Parameterization::ntk, std::nullopt)});
}

}  // namespace

TEST_CASE("parameters have the paths of their layers, and only layers with parameters have an entry") {
  const auto params = nn::initialize<float>(residual(), Key(3), {1, 3});
  CHECK(params.paths() == std::vector<std::string>{"dense_0/W", "dense_0/b", "parallel_2/serial_0/dense_1/W", "parallel_2/serial_0/dense_1/b", "dense_5/W", "dense_5/b", "dense_6/W"});
  CHECK(!params.is_leaf());
  CHECK(nn::initialize<double>(nn::serial({nn::Relu(), nn::serial({nn::Erf()})}), Key(0), {1, 3}) == Params<double>());
  CHECK(nn::initialize<double>(nn::Dense(2), Key(0), {1, 3}).paths() == std::vector<std::string>{"W"});
}

TEST_CASE_TEMPLATE("equal keys give the parameters and outputs of neural-tangents", T, float, double) {
  const std::vector<Array<double>> expected = sizeof(T) == 4
      ? std::vector<Array<double>>{{{3, 2}, {2.091721773147583, -0.10585258901119232, 0.2549341917037964, -2.0744853019714355, -1.166058897972107, -0.05929502472281456}},
                                   {{1, 2}, {1.0326886177062988, 1.0619932413101196}},
                                   {{2, 2}, {1.1399996280670166, 0.8406676650047302, -1.3381884098052979, 0.2775101065635681}},
                                   {{1, 2}, {-1.9268059730529785, -1.3257184028625488}},
                                   {{2, 2}, {-0.6001654863357544, -0.5569717288017273, 1.1854931116104126, 1.4118876457214355}},
                                   {{1, 2}, {-0.06796631962060928, 0.09063949435949326}},
                                   {{2, 1}, {0.4778163731098175, -0.9743098616600037}},
                                   {{2, 1}, {1.4587748050689697, -0.1281132847070694}}}
      : std::vector<Array<double>>{{{3, 2}, {1.5124964395880833, -0.44475356815887473, -1.4748119930328107, 0.3428907987779684, -1.0622263901501636, -0.9116497669200115}},
                                   {{1, 2}, {0.31035252079111475, -0.058925315890845736}},
                                   {{2, 2}, {-1.142551568197155, -0.9244395028342118, -0.5820977236451428, 1.9128185119221666}},
                                   {{1, 2}, {1.8435665115280688, 0.17070520661470684}},
                                   {{2, 2}, {-2.151430657901943, 0.06988523477313899, 2.609521099152358, 2.72931117880613}},
                                   {{1, 2}, {0.008246544209044908, -0.05615865187188166}},
                                   {{2, 1}, {-1.060433827086756, 0.6515432466680647}},
                                   {{2, 1}, {-3.237977932160553, 0.28861604474747204}}};
  const double bar = sizeof(T) == 4 ? 1e-5 : 1e-11;
  const auto params = nn::initialize<T>(residual(), Key(3), {0, 3});  // the number of examples plays no part
  const auto leaves = params.leaves();
  REQUIRE(leaves.size() == 7);
  for (std::size_t i = 0; i < 7; ++i) {
    CAPTURE(i);
    REQUIRE(leaves[i]->shape() == expected[i].shape());
    for (Index j = 0; j < leaves[i]->size(); ++j) CHECK(std::abs(leaves[i]->data()[j] - expected[i].data()[j]) <= bar * std::abs(expected[i].data()[j]));
  }
  check_close(run(residual(), params, Array<T>({2, 3}, {1, 2, -1, .5, -.25, 3})), expected[7], sizeof(T) == 4 ? 2e-5 : 1e-11);
}

TEST_CASE_TEMPLATE("dense is W_std/sqrt(in) x W + b_std b, or x W + b with the scales in the draws", T, float, double) {
  for (const Shape& shape : {Shape{5, 3}, Shape{1, 1}, Shape{0, 3}, Shape{2, 3, 4}, Shape{2, 1, 3, 2}})
    for (const bool ntk : {true, false})
      for (const bool bias : {true, false}) {
        CAPTURE(autodiff::str(shape));
        CAPTURE(ntk);
        CAPTURE(bias);
        nn::DenseOptions options{.W_std = 1.5, .parameterization = ntk ? nn::Parameterization::ntk : nn::Parameterization::standard};
        if (bias) options.b_std = 0.25;
        const nn::Layer layer = nn::Dense(4, options);
        const auto params = nn::initialize<T>(layer, Key(1), shape);
        const auto x = nn::normal<T>(Key(2), shape);
        REQUIRE(params["W"].leaf().shape() == Shape{shape[-1], 4});
        if (bias) REQUIRE(params["b"].leaf().shape() == Shape{1, 4});
        const double w = 1.5 / std::sqrt(double(shape[-1]));
        check_close(run(layer, params, x), affine(x, params["W"].leaf(), bias ? &params["b"].leaf() : nullptr, ntk ? w : 1, ntk ? 0.25 : 1), 4 * tolerance<T>());
        // The draws of both parameterizations are the same normals.
        const auto plain = nn::initialize<T>(nn::Dense(4, {.b_std = 1}), Key(1), shape);
        CHECK(params["W"].leaf().data()[1] == doctest::Approx((ntk ? 1 : w) * plain["W"].leaf().data()[1]).epsilon(1e-6));
        if (bias) CHECK(params["b"].leaf().data()[1] == doctest::Approx((ntk ? 1 : 0.25) * plain["b"].leaf().data()[1]).epsilon(1e-6));
      }
}

TEST_CASE_TEMPLATE("activations compute their functions and slopes", T, float, double) {
  using std::numbers::pi;
  struct Case {
    nn::Layer layer;
    double (*f)(double);
  };
  const std::vector<Case> cases{
      {nn::Erf(), [](double x) { return std::erf(x); }},
      {nn::Erf(2, -0.5, 3), [](double x) { return 2 * std::erf(-0.5 * x) + 3; }},
      {nn::Sigmoid_like(), [](double x) { return 0.5 * std::erf(x / 2.4020563531719796) + 0.5; }},
      {nn::Relu(), [](double x) { return x > 0 ? x : 0; }},
      {nn::LeakyRelu(0.1), [](double x) { return x > 0 ? x : 0.1 * x; }},
      {nn::Abs(), [](double x) { return std::abs(x); }},
      {nn::Gelu(), [](double x) { return x / 2 * std::erfc(-x / std::sqrt(2.)); }},
      {nn::Sin(), [](double x) { return std::sin(x); }},
      {nn::Sin(2, 3, 0.5), [](double x) { return 2 * std::sin(3 * x + 0.5); }},
      {nn::Cos(), [](double x) { return std::cos(x); }},
      {nn::Cos(2, 3, 0.5), [](double x) { return 2 * std::cos(3 * x + 0.5); }},
      {nn::Tanh(), [](double x) { return std::tanh(x); }},
      {nn::Rbf(0.7), [](double x) { return std::sqrt(2.) * std::sin(std::sqrt(1.4) * x + pi / 4); }},
      {nn::Rbf(), [](double x) { return std::sqrt(2.) * std::sin(std::sqrt(2.) * x + pi / 4); }},
      {nn::Exp(), [](double x) { return std::exp(x); }},
      {nn::Exp(2, -0.5), [](double x) { return 2 * std::exp(-0.5 * x); }},
      {nn::Gaussian(), [](double x) { return std::exp(-x * x); }},
      {nn::Gaussian(2, 0.25), [](double x) { return 2 * std::exp(0.25 * x * x); }},
      {nn::Sign(), [](double x) { return double((x > 0) - (x < 0)); }},
  };
  Array<T> x({7, 3});
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<T>((static_cast<double>(i) - 10) / 4 + (i == 10 ? 0 : 0.125));
  for (const Case& c : cases) check_elementwise(c.layer, c.f, x, c.layer.name == "sign" ? 10 : -1);  // at the kinks of others the symmetric difference is the mean slope, as ours
}

TEST_CASE("at the kink the slope is the mean of both sides, and that of sign is 0") {
  const auto slope = [](const nn::Layer& layer) {
    const Array<double> zero({1, 1}), one({1, 1}, 1.);
    return autodiff::jvp([&](const Var& v) { return layer.apply({}, v, {}).leaf(); }, zero, one).second.item();
  };
  CHECK(slope(nn::Relu()) == 0.5);
  CHECK(slope(nn::LeakyRelu(0.25)) == 0.625);
  CHECK(slope(nn::Abs()) == 0);
  CHECK(slope(nn::Sign()) == 0);
}

TEST_CASE_TEMPLATE("combinators compose, copy, sum and flatten", T, float, double) {
  const auto x = nn::normal<T>(Key(5), {2, 3, 2});
  CHECK(run(nn::identity(), {}, x) == x);
  CHECK(run(nn::flatten(), {}, x) == x.reshaped({2, 6}));
  CHECK(run(nn::flatten(), {}, Array<T>({4}, {1, 2, 3, 4})) == Array<T>({4, 1}, {1, 2, 3, 4}));
  CHECK(run(nn::flatten(), {}, Array<T>({0, 3, 2})).shape() == Shape{0, 6});
  CHECK(run(nn::serial({nn::fan_out(3), nn::fan_in_sum()}), {}, x) == x + x + x);
  CHECK(run(nn::serial({nn::fan_out(1), nn::fan_in_sum()}), {}, x) == x);
  const nn::Layer branches = nn::serial({nn::fan_out(2), nn::parallel({nn::Relu(), nn::LeakyRelu(-1)}), nn::fan_in_sum()});  // relu(x) + |x|
  Array<double> expected({2, 3, 2});
  for (Index i = 0; i < x.size(); ++i) expected.data()[i] = std::max(0., double(x.data()[i])) + std::abs(double(x.data()[i]));
  check_close(run(branches, {}, x), expected, tolerance<T>());
  const nn::Layer nested = nn::serial({nn::fan_out(2), nn::fan_out(2), nn::parallel({nn::fan_in_sum(), nn::fan_in_sum()}), nn::fan_in_sum()});
  CHECK(run(nested, {}, x) == T(4) * x);
}

TEST_CASE("one layer used twice has parameters of its own at each place") {
  const nn::Layer dense = nn::Dense(3);
  const auto params = nn::initialize<double>(nn::serial({dense, dense}), Key(0), {1, 3});
  CHECK(params.paths() == std::vector<std::string>{"dense_0/W", "dense_1/W"});
  CHECK(params["dense_0"]["W"].leaf() != params["dense_1"]["W"].leaf());
}

TEST_CASE("programs carry the layer paths, which are the paths of the parameters below the network's name") {
  const auto params = nn::initialize<double>(residual(), Key(3), {1, 3});
  const auto compiled = autodiff::compile(nn::function_of(residual()), params, Array<double>({4, 3}));
  std::vector<std::string> paths;
  for (const auto& c : compiled.program().code)
    if (paths.empty() || paths.back() != *c.path) paths.push_back(*c.path);
  CHECK(paths == std::vector<std::string>{"serial/dense_0", "serial/parallel_2/serial_0/erf_0", "serial/parallel_2/serial_0/dense_1", "serial/fan_in_sum_3", "serial/relu_4", "serial/dense_5", "serial/dense_6"});
}

TEST_CASE("parameters are traced where the input is a constant") {
  const nn::Layer net = nn::serial({nn::Dense(2), nn::Erf()});
  const auto params = nn::initialize<double>(net, Key(0), {1, 3});
  const auto x = nn::normal<double>(Key(1), {4, 3});
  const auto f = autodiff::compile([&](const Tree<Var>& p) { return nn::function_of(net)(p, autodiff::constant(x)); }, params);
  CHECK(f(params) == run(net, params, x));
  for (const auto& c : f.program().code) CHECK(c.path->starts_with("serial/"));
}

TEST_CASE("an input of several axes may be a constant, where a layer begins with its axes") {
  const auto x = nn::normal<double>(Key(1), {2, 4, 3});
  for (const nn::Layer& layer : {nn::Dense(2), nn::Conv(2, {3}), nn::GlobalSelfAttention(2, 1, 1, 1)}) {
    CAPTURE(layer.name);
    const auto params = nn::initialize<double>(layer, Key(0), {1, 4, 3});
    const auto f = autodiff::compile([&](const Tree<Var>& p) { return nn::function_of(layer)(p, autodiff::constant(x)); }, params);
    CHECK(f(params) == run(layer, params, x));
  }
}

TEST_CASE("a layer that draws when applied has a key of its own, split as stax splits") {
  std::vector<std::optional<Key>> seen;
  const nn::Layer drawing{.name = "drawing",
                          .init = [](Key, const Tree<Shape>& in, nn::Width) { return nn::Initialized{in, {}}; },
                          .apply = [&](const Tree<Var>&, const nn::Value& x, const nn::Context& context) { seen.push_back(context.key); return x; }};
  const nn::Layer net = nn::serial({drawing, nn::fan_out(2), nn::parallel({drawing, drawing})});
  const auto apply = [&](const nn::Context& context) {
    autodiff::compile([&](const Var& x) { return net.apply({}, x, context).children()[0].second.leaf(); }, Array<double>({1, 1}));
  };
  apply({});
  CHECK(seen == std::vector<std::optional<Key>>(3));
  seen.clear();
  apply({.key = Key(7)});
  const auto outer = nn::split(Key(7), 3), inner = nn::split(outer[2], 2);
  CHECK(seen == std::vector<std::optional<Key>>{outer[0], inner[0], inner[1]});
}

TEST_CASE_TEMPLATE("a layer of one's own is a name and two functions", T, float, double) {
  const nn::Layer scale = nn::plain(
      "scale", [](Key key, const Shape& in, nn::Width width) { return std::pair(in, Tree<Array<double>>{{"s", nn::scaled_normal(key, {in[-1]}, width, 3)}}); },
      [](const Tree<Var>& params, const Var& x) {
        const auto [s] = nn::take(params, "s");
        return x * s;
      });
  const nn::Layer net = nn::serial({nn::Relu(), scale});
  const auto params = nn::initialize<T>(net, Key(0), {1, 2});
  const auto& s = params["scale_1"]["s"].leaf();
  check_close(run(net, params, Array<T>({1, 2}, {2, 3})), Array<double>({1, 2}, {2. * s.data()[0], 3. * s.data()[1]}), tolerance<T>());
  CHECK_THROWS_WITH_AS(nn::take(Tree<Array<T>>{{"a", Array<T>()}, {"b", Array<T>()}}, "a", "c"), "tree: there is no child 'c'; its children are a, b", StructureError);
}

TEST_CASE("float parameters are drawn in float") {
  const auto params = nn::Dense(4, {.W_std = 1. / 3, .parameterization = nn::Parameterization::standard}).init(Key(0), Shape{1, 5}, nn::Width::float32).params;
  for (const double v : params["W"].leaf()) CHECK(v == static_cast<float>(v));
}

TEST_CASE("options that are none are refused when the layer is made") {
  const double nan = std::nan("");
  CHECK_THROWS_WITH_AS(nn::Dense(0), "dense: the width must be 1 or more, got 0", ShapeError);
  CHECK_THROWS_WITH_AS(nn::Dense(-3), "dense: the width must be 1 or more, got -3", ShapeError);
  CHECK_THROWS_WITH_AS(nn::Dense(1, {.W_std = -1}), "dense: W_std must be finite and not negative, got -1", StructureError);
  CHECK_THROWS_WITH_AS(nn::Dense(1, {.W_std = nan}), "dense: W_std must be finite and not negative, got nan", StructureError);
  CHECK_THROWS_WITH_AS(nn::Dense(1, {.b_std = INFINITY}), "dense: b_std must be finite and not negative, got inf", StructureError);
  CHECK_THROWS_WITH_AS(nn::fan_out(0), "fan_out: the number of copies must be 1 or more, got 0", ShapeError);
  CHECK_THROWS_WITH_AS(nn::Erf(nan), "erf: a must be a finite number, got nan", StructureError);
  CHECK_THROWS_WITH_AS(nn::Erf(1, nan), "erf: b must be a finite number, got nan", StructureError);
  CHECK_THROWS_WITH_AS(nn::Sin(1, 1, INFINITY), "sin: c must be a finite number, got inf", StructureError);
  CHECK_THROWS_WITH_AS(nn::Cos(nan), "cos: a must be a finite number, got nan", StructureError);
  CHECK_THROWS_WITH_AS(nn::Exp(1, nan), "exp: b must be a finite number, got nan", StructureError);
  CHECK_THROWS_WITH_AS(nn::Gaussian(-INFINITY), "gaussian: a must be a finite number, got -inf", StructureError);
  CHECK_THROWS_WITH_AS(nn::LeakyRelu(nan), "leaky_relu: alpha must be a finite number, got nan", StructureError);
  CHECK_THROWS_WITH_AS(nn::Rbf(-1), "rbf: gamma must be finite and not negative, got -1", StructureError);
}

TEST_CASE("a list of layers that is none is refused") {
  CHECK_THROWS_WITH_AS(nn::serial({}), "serial: there are no layers; give one at least, identity() if nothing is to happen", StructureError);
  CHECK_THROWS_WITH_AS(nn::parallel({}), "parallel: there are no layers; give one at least, identity() if nothing is to happen", StructureError);
  nn::Layer wrong = nn::Relu();
  wrong.name = "a/b";
  CHECK_THROWS_WITH_AS(nn::serial({wrong}), "serial: a layer is named 'a/b'; a name has letters, digits and '_' only, and one at least", StructureError);
  wrong.name = "";
  CHECK_THROWS_WITH_AS(nn::parallel({wrong}), "parallel: a layer is named ''; a name has letters, digits and '_' only, and one at least", StructureError);
  CHECK_THROWS_WITH_AS(nn::serial({nn::Layer{.name = "x"}}), "serial: layer 'x' has no init function", StructureError);
  CHECK_THROWS_WITH_AS(nn::plain("x", [](Key, const Shape& s, nn::Width) { return std::pair(s, Tree<Array<double>>()); }, nullptr), "plain: layer 'x' has no apply function", StructureError);
  CHECK_THROWS_WITH_AS(nn::function_of(nn::Layer{.name = "x"}), "function_of: layer 'x' has no init function", StructureError);
  CHECK_THROWS_WITH_AS(nn::initialize<float>(nn::Layer{.name = "x"}, Key(0), {1}), "initialize: layer 'x' has no init function", StructureError);
}

TEST_CASE("initialize says which layer an input does not fit") {
  const nn::Layer net = nn::serial({nn::serial({nn::fan_out(2), nn::parallel({nn::Relu(), nn::Dense(2)})})});
  CHECK(init_error_of<ShapeError>(net, {}) == "initialize: the shape of the input is that of a scalar; expected is [examples, …], with any number of examples");
  CHECK(init_error_of<ShapeError>(net, {5}) == "serial/serial_0/parallel_1/dense_1: dense: the input [5] needs an axis of examples and one of features at least; reshape it to [examples, features]");
  CHECK(init_error_of<ShapeError>(net, {5, 0}) == "serial/serial_0/parallel_1/dense_1: dense: the input [5,0] has no features, one at least is needed");
  CHECK(init_error_of<StructureError>(nn::serial({nn::fan_out(2), nn::Relu()}), {1, 1}) == "serial/relu_1: relu: one array is expected, got 2 values");
  CHECK(init_error_of<StructureError>(nn::parallel({nn::Relu(), nn::Relu()}), {1, 1}) == "parallel: parallel: 2 layers need as many values, got one array; put fan_out(2) in front");
  CHECK(init_error_of<StructureError>(nn::serial({nn::fan_out(3), nn::parallel({nn::Relu(), nn::Relu()})}), {1, 1}) == "serial/parallel_1: parallel: 2 layers need as many values, got 3");
  CHECK(init_error_of<ShapeError>(nn::serial({nn::fan_out(2), nn::parallel({nn::Dense(2), nn::Dense(3)}), nn::fan_in_sum()}), {7, 1}) ==
        "serial/fan_in_sum_2: fan_in_sum: the values must have one shape, value 1 has [7,3] and the first has [7,2]");
  CHECK(init_error_of<StructureError>(nn::fan_in_sum(), {7, 1}) == "fan_in_sum: fan_in_sum: several values are summed, got one array [7,1]");
  CHECK(init_error_of<StructureError>(nn::serial({nn::fan_out(2), nn::fan_out(2), nn::fan_in_sum()}), {7, 1}) == "serial/fan_in_sum_2: fan_in_sum: value 0 should be one array, but its children are 0, 1");
  CHECK_THROWS_WITH_AS(nn::fan_in_sum().init(Key(0), Tree<Shape>(), nn::Width::float32), "fan_in_sum: there is nothing to sum", StructureError);
  CHECK_THROWS_WITH_AS(nn::flatten().init(Key(0), Shape(), nn::Width::float32), "flatten: a scalar has no axis of examples; expected is [examples, …]", ShapeError);
  CHECK_THROWS_WITH_AS(nn::initialize<float>(nn::Dense(1, {.W_std = 1e300, .parameterization = nn::Parameterization::standard}), Key(0), {1, 1}),
                       "dense: scaled_normal: normals times 1e+300 are not finite in float; choose a smaller scale", NumericalError);
}

TEST_CASE("apply says which layer an input does not fit") {
  CHECK(error_of<ShapeError>(nn::Dense(2), {{"W", Array<double>({1, 2})}}, {}) == "dense: dense: the input [] needs an axis of examples and one of features at least; reshape it to [examples, features]");
  CHECK(error_of<ShapeError>(nn::Dense(2), {{"W", Array<double>({0, 2})}}, {3, 0}) == "dense: dense: the input [3,0] has no features, one at least is needed");
  CHECK(error_of<ShapeError>(nn::serial({nn::flatten()}), {}, {}) == "serial/flatten_0: flatten: a scalar has no axis of examples; expected is [examples, …]");
  CHECK(error_of<StructureError>(nn::serial({nn::parallel({nn::Relu()})}), {}, {1}) == "serial/parallel_0: parallel: 1 layers need as many values, got one array; put fan_out(1) in front");
  CHECK(error_of<StructureError>(nn::serial({nn::fan_out(3), nn::parallel({nn::Relu(), nn::Relu()})}), {}, {1}) == "serial/parallel_1: parallel: 2 layers need as many values, got 3");
  CHECK(error_of<StructureError>(nn::serial({nn::fan_out(3), nn::Relu()}), {}, {1}) == "serial/relu_1: relu: one array is expected, got 3 values");
  CHECK(error_of<StructureError>(nn::serial({nn::Relu(), nn::fan_in_sum()}), {}, {1}) == "serial/fan_in_sum_1: fan_in_sum: several values are summed, got one array [1]");
  CHECK(error_of<ShapeError>(nn::serial({nn::fan_out(2), nn::parallel({nn::flatten(), nn::identity()}), nn::fan_in_sum()}), {}, {2, 3, 4}) ==
        "serial/fan_in_sum_2: fan_in_sum: the values must have one shape, value 1 has [2,3,4] and the first has [2,12]");
  CHECK(error_of<StructureError>(nn::serial({nn::fan_out(2)}), {}, {1}) == "serial: it answers 2 values, one array is expected; end it with fan_in_sum()");
}

TEST_CASE("apply says which parameters are missing, unknown or of the wrong shape") {
  const nn::Layer net = nn::serial({nn::Dense(2, {.b_std = 1}), nn::Relu()});
  const Array<double> W({3, 2}), b({1, 2});
  const auto of = [](Params<double> dense) { return Params<double>{{"dense_0", std::move(dense)}}; };
  CHECK(error_of<StructureError>(net, {}, {4, 3}) == "serial/dense_0: dense: parameter 'W' is missing among the parameters: it has no children");
  CHECK(error_of<StructureError>(net, of({{"W", W}}), {4, 3}) == "serial/dense_0: dense: parameter 'b' is missing among the parameters: its children are W");
  CHECK(error_of<StructureError>(net, of({{"W", W}, {"b", b}, {"c", b}}), {4, 3}) == "serial/dense_0: dense: there is a parameter 'c' that it does not know; it has W, b");
  CHECK(error_of<StructureError>(nn::Dense(2), {{"W", W}, {"b", b}}, {4, 3}) == "dense: dense: there is a parameter 'b' that it does not know; it has W");
  CHECK(error_of<StructureError>(net, of({{"W", Params<double>{{"x", W}}}, {"b", b}}), {4, 3}) == "serial/dense_0: dense: parameter 'W' should be one array, but its children are x");
  CHECK(error_of<ShapeError>(net, of({{"W", W}, {"b", b}}), {4, 5}) == "serial/dense_0: dense: parameter 'W' has shape [3,2], expected [5,2] for an input [4,5]");
  CHECK(error_of<ShapeError>(net, of({{"W", W}, {"b", Array<double>({2})}}), {4, 3}) == "serial/dense_0: dense: parameter 'b' has shape [2], expected [1,2] for an input [4,3]");
  CHECK(error_of<StructureError>(net, of(W), {4, 3}) == "serial/dense_0: dense: the parameters are one array without a name; it has W, b");
  CHECK(error_of<StructureError>(net, {{"dense_1", of(W)}}, {4, 3}) == "serial: serial: there are parameters 'dense_1', but no such layer; its layers are dense_0, relu_1");
  CHECK(error_of<StructureError>(net, W, {4, 3}) == "serial: serial: the parameters are one array; expected is a tree with children among dense_0, relu_1");
  CHECK(error_of<StructureError>(nn::Relu(), {{"W", W}}, {4, 3}) == "relu: relu: there is a parameter 'W' that it does not know; it has no parameters");
  CHECK(error_of<StructureError>(nn::fan_out(1), {{"W", W}}, {4, 3}) == "fan_out: fan_out: there is a parameter 'W' that it does not know; it has no parameters");
}
