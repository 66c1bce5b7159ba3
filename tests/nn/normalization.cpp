// LayerNorm against loops, Dropout against the draws of neural-tangents, and what they refuse.
#include "layers.h"

#include "linnet/autodiff/testing.h"
#include "linnet/ntk/empirical.h"

#include <algorithm>

TEST_CASE_TEMPLATE("layer norm makes the mean 0 and the variance 1, over the axes named", T, float, double) {
  struct Case {
    Shape x;
    std::vector<Index> axes;
    std::vector<bool> over;
  };
  for (const Case& c : {Case{{3, 4}, {-1}, {false, true}}, Case{{2, 3, 4, 2}, {-1}, {false, false, false, true}}, Case{{2, 3, 4, 2}, {1, -1}, {false, true, false, true}},
                        Case{{2, 3, 4, 2}, {3, 2, 1}, {false, true, true, true}}, Case{{2, 3, 4}, {1}, {false, true, false}}, Case{{1, 1}, {1}, {false, true}}, Case{{0, 3}, {1}, {false, true}}}) {
    CAPTURE(autodiff::str(c.x));
    const auto x = nn::normal<T>(Key(1), c.x);
    // Entries that differ only in the axes normalized over belong together.
    const auto group = [&](Index i) {
      Index g = 0, stride = 1;
      for (Index a = c.x.rank(); a-- > 0; i /= c.x[a])
        if (!c.over[static_cast<std::size_t>(a)]) g += i % c.x[a] * stride, stride *= c.x[a];
      return static_cast<std::size_t>(g);
    };
    const auto size = static_cast<std::size_t>(c.x.size());
    std::vector<double> mean(size), variance(size), count(size);
    for (Index i = 0; i < c.x.size(); ++i) mean[group(i)] += x.data()[i], count[group(i)] += 1;
    for (Index i = 0; i < c.x.size(); ++i) variance[group(i)] += std::pow(x.data()[i] - mean[group(i)] / count[group(i)], 2);
    Array<double> y(c.x);
    for (Index i = 0; i < c.x.size(); ++i) {
      const std::size_t g = group(i);
      y.data()[i] = (x.data()[i] - mean[g] / count[g]) / std::sqrt(variance[g] / count[g] + 0.01);
    }
    check_close(run(nn::LayerNorm(c.axes, 0.01), {}, x), y, 2 * tolerance<T>());
  }
  CHECK(run(nn::LayerNorm(), {}, Array<T>({2, 3}, T(7))) == Array<T>({2, 3}));  // a constant row is 0, not NaN
}

TEST_CASE("axes that are none, or that mix examples, are refused") {
  CHECK_THROWS_WITH_AS(nn::LayerNorm({}), "layer_norm: no axes came; name those to normalize over, -1 for the channels", ShapeError);
  CHECK_THROWS_WITH_AS(nn::LayerNorm({-1}, 0), "layer_norm: epsilon must be finite and above 0, got 0", StructureError);
  CHECK_THROWS_WITH_AS(nn::LayerNorm({-1}, NAN), "layer_norm: epsilon must be finite and above 0, got nan", StructureError);
  for (const auto& [axes, text] : std::vector<std::pair<std::vector<Index>, std::string>>{
           {{3}, "there is no axis 3 in [2,3,4]"},
           {{-4}, "there is no axis -4 in [2,3,4]"},
           {{0, 1}, "axis 0 of [2,3,4] counts the examples; what is normalized over it would mix them"},
           {{-3}, "axis -3 of [2,3,4] counts the examples; what is normalized over it would mix them"},
           {{1, -2}, "axis 1 of [2,3,4] is named twice"}}) {
    const nn::Layer net = nn::serial({nn::LayerNorm(axes)});
    CHECK(init_error_of<ShapeError>(net, {2, 3, 4}) == "serial/layer_norm_0: layer_norm: " + text);
    CHECK(error_of<ShapeError>(net, {}, {2, 3, 4}) == "serial/layer_norm_0: layer_norm: " + text);
  }
  CHECK(error_of<StructureError>(nn::LayerNorm(), {{"g", Array<double>()}}, {2, 3}) == "layer_norm: layer_norm: there is a parameter 'g' that it does not know; it has no parameters");
}

TEST_CASE_TEMPLATE("dropout in training draws as neural-tangents does, in either width; otherwise it is the identity", T, float, double) {
  const nn::Layer net = nn::serial({nn::Dropout(.7), nn::fan_out(2), nn::parallel({nn::Dropout(.5), nn::identity()}), nn::fan_in_sum(), nn::Dropout(.9)});
  const Array<T> x({3, 5}, T(1));
  const double a = 1 / .63, b = 3 / .63;
  check_close(run(net, {}, x, {.key = Key(9), .train = true, .width = nn::Width::float32}), Array<double>({3, 5}, {a, a, 0, b, a, 0, b, a, 0, b, 0, a, b, b, a}), tolerance<T>());
  check_close(run(net, {}, x, {.key = Key(9), .train = true}), Array<double>({3, 5}, {a, a, b, a, a, 0, b, a, 0, b, 0, b, a, 0, b}), tolerance<T>());
  CHECK(run(net, {}, x) == x + x);
  CHECK(run(net, {}, x, {.key = Key(9)}) == x + x);
  CHECK(run(nn::Dropout(1), {}, x, {.train = true}) == x);  // draws nothing
  CHECK(run(nn::Dropout(.5), {}, Array<T>({0, 2}), {.key = Key(1), .train = true}).shape() == Shape{0, 2});
}

TEST_CASE("the share that dropout keeps is its probability, and what is kept has the mean of all") {
  const Array<double> x({100000, 1}, 1.);
  for (const double keep : {0.1, 0.5, 0.8}) {
    const auto y = run(nn::Dropout(keep), {}, x, {.key = Key(3), .train = true});
    const double kept = static_cast<double>(std::count_if(y.begin(), y.end(), [](double v) { return v != 0; }));
    CHECK(std::abs(kept / 1e5 - keep) < 5 * std::sqrt(keep * (1 - keep) / 1e5));
  }
}

TEST_CASE("the derivative of dropout is its mask") {
  const Array<double> x = nn::normal<double>(Key(1), {4, 3});
  const nn::Layer layer = nn::Dropout(0.5);
  const nn::Context context{.key = Key(2), .train = true};
  const auto f = [&](const Var& v) { return nn::function_of(layer, context)({}, v); };
  const auto [y, tangent] = autodiff::jvp(f, x, Array<double>({4, 3}, 1.));
  CHECK(tangent == run(layer, {}, Array<double>({4, 3}, 1.), context));
  CHECK(autodiff::check_derivatives(f, x) == std::vector<std::string>());
}

TEST_CASE("dropout refuses what is no probability, training without a key, parameters and several values") {
  CHECK_THROWS_WITH_AS(nn::Dropout(0), "dropout: the probability to keep an entry must be above 0 and at most 1, got 0", StructureError);
  CHECK_THROWS_WITH_AS(nn::Dropout(1.5), "dropout: the probability to keep an entry must be above 0 and at most 1, got 1.5", StructureError);
  CHECK_THROWS_WITH_AS(nn::Dropout(NAN), "dropout: the probability to keep an entry must be above 0 and at most 1, got nan", StructureError);
  CHECK(error_of<StructureError>(nn::serial({nn::Dropout(.5)}), {}, {2, 3}, {.train = true}) ==
        "serial/dropout_0: dropout: in training it draws and needs a key; apply the network with Context{.key = Key(seed), .train = true}");
  CHECK(error_of<StructureError>(nn::Dropout(.5), {{"p", Array<double>()}}, {2, 3}) == "dropout: dropout: there is a parameter 'p' that it does not know; it has no parameters");
  CHECK(error_of<StructureError>(nn::serial({nn::fan_out(2), nn::Dropout(.5)}), {}, {2, 3}) == "serial/dropout_1: dropout: one array is expected, got 2 values");
}

TEST_CASE("a kernel of dropout in training is refused example by example, since the draws are those of the whole batch") {
  const nn::Layer net = nn::serial({nn::Dense(8), nn::Dropout(.5), nn::Dense(1)});
  const auto params = nn::initialize<double>(net, Key(0), {1, 3});
  const auto x = nn::normal<double>(Key(1), {4, 3});
  const auto f = nn::function_of(net, {.key = Key(2), .train = true});
  CHECK_THROWS_AS(ntk::full(f, params, x), autodiff::TraceError);
  const auto together = ntk::full(f, params, x, {.independent = false});
  const auto J = autodiff::jacobian(f, params, x);
  for (Index i = 0; i < 4; ++i)
    for (Index j = 0; j < 4; ++j) CHECK(together.matrix()[{i, j}] == doctest::Approx(dot(J.rows(i, 1), J.rows(j, 1))).epsilon(1e-12));
}
