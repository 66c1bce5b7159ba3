// Rates of single weights and layers, frozen layers, and what only a network or only a kernel can answer.
#include "linnet/autodiff/derivative.h"
#include "linnet/autodiff/ops.h"
#include "linnet/nn/nn.h"
#include "linnet/predict/predict.h"
#include "linnet/tests/predict/problem.h"

#include <doctest/doctest.h>

using linnet::autodiff::cast;
using linnet::autodiff::NumericalError;
using linnet::autodiff::Scalar;
using linnet::autodiff::ShapeError;
using linnet::autodiff::StructureError;
using linnet::autodiff::Tree;
using linnet::autodiff::Var;
using linnet::predict::gradient_descent;
using linnet::predict::gradient_flow;
using linnet::predict::momentum;
using linnet::predict::momentum_flow;
using linnet::predict::rate;
using linnet::predict::Rates;
using problem::Array, problem::bound, problem::difference, problem::Draw, problem::eight, problem::Index, problem::infinity, problem::Problem, problem::product, problem::Shape;

namespace {

Var network(const Tree<Var>& params, const Var& x) {
  const Var h = erf(dot(x, params["first"]["W"]) + params["first"]["b"]);
  return dot(erf(dot(h, params["second"])), params["third"]["W"]) + params["third"]["b"];
}

struct Case {
  Tree<Array<double>> params;
  Array<double> x, x_test, y;
};

Case network_case(Index n, Index width, Index outputs, std::uint64_t seed) {
  Draw draw(seed);
  Case c;
  c.params = {{"first", {{"W", draw.array(Shape{3, width})}, {"b", draw.array(Shape{1, width})}}},
              {"second", draw.array(Shape{width, width})},
              {"third", {{"W", draw.array(Shape{width, outputs})}, {"b", draw.array(Shape{1, outputs})}}}};
  c.x = draw.array(Shape{n, 3});
  c.x_test = draw.array(Shape{5, 3});
  c.y = draw.array(Shape{n, outputs});
  return c;
}

// The rate of each weight, in full.
Tree<Array<double>> spread(const Tree<Array<double>>& params, double first, double second, double third_w, double third_b) {
  const auto all = [](const Array<double>& a, double r) { return Array<double>(a.shape(), r); };
  return {{"first", {{"W", all(params["first"]["W"], first)}, {"b", all(params["first"]["b"], first)}}},
          {"second", all(params["second"], second)},
          {"third", {{"W", all(params["third"]["W"], third_w)}, {"b", all(params["third"]["b"], third_b)}}}};
}

Array<double> entrywise(const Array<double>& a, const Array<double>& b) {
  Array<double> c = a;
  for (Index i = 0; i < a.size(); ++i) c.data()[i] *= b.data()[i];
  return c;
}

struct Weight {
  double momentum = 0, ridge = 0, weight_decay = 0;
};

// Steps on the linearized network with a rate for each weight.
Tree<Array<double>> trained(const Case& c, const Tree<Array<double>>& rates, double rate, int steps, const Weight& w) {
  const auto at = linnet::autodiff::linearize(network, c.params, c.x);
  const double rows = static_cast<double>(c.y.size());
  Tree<Array<double>> change = map([](const Array<double>& a) { return Array<double>(a.shape()); }, c.params), velocity = change;
  for (int i = 0; i < steps; ++i) {
    const auto gradient = at.vjp(at.value() + at.jvp(change) - c.y);
    const auto pulled = [&](const Array<double>& g, const Array<double>& p, const Array<double>& d, const Array<double>& start) {
      Array<double> total = entrywise(p, (1 / rows) * g);
      for (Index j = 0; j < d.size(); ++j)
        if (p.data()[j] > 0) total.data()[j] += w.ridge / rows * d.data()[j] + w.weight_decay * (start.data()[j] + d.data()[j]);
      return total;
    };
    const auto step = map(pulled, gradient, rates, change, c.params);
    velocity = map([&](const Array<double>& v, const Array<double>& s) { return w.momentum * v + s; }, velocity, step);
    change = map([&](const Array<double>& d, const Array<double>& v) { return d - rate * v; }, change, velocity);
  }
  return map([](const Array<double>& a, const Array<double>& d) { return a + d; }, c.params, change);
}

double apart(const Tree<Array<double>>& a, const Tree<Array<double>>& b) {
  double largest = 0;
  map([&](const Array<double>& x, const Array<double>& y) { return largest = std::max(largest, difference(x, y)); }, a, b);
  return largest;
}

const Rates some = {{"third", {{"b", rate(0)}, {"W", rate(3)}}}, {"first", rate(.25)}};

}  // namespace

TEST_CASE("ten thousand steps with rates of layers and weights end where the closed form says") {
  const Case c = network_case(5, 4, 2, 31);
  const auto full = spread(c.params, .25, 1, 3, 0);
  for (const Weight& w : {Weight{}, Weight{.momentum = .9}, Weight{.momentum = .5, .ridge = .2, .weight_decay = 1e-3}}) {
    const auto training = momentum(network, c.params, c.x, c.y, {.rate = .5, .momentum = w.momentum, .ridge = w.ridge, .weight_decay = w.weight_decay, .rates = some});
    CHECK(training.max_rate() > .5);
    for (const int steps : {1, 20, 10000}) {
      const auto wanted = trained(c, full, .5, steps, w);
      CHECK(apart(training(steps).weights(), wanted) < 1e-12);
      CHECK(training(steps).weights()["third"]["b"] == c.params["third"]["b"]);
    }
  }
}

TEST_CASE("rates of single entries, with zeros among them, are those of a training loop") {
  const Case c = network_case(4, 3, 2, 32);
  Draw draw(33);
  Tree<Array<double>> rates = map([&](const Array<double>& a) { return Array<double>(draw.array(a.shape())); }, c.params);
  for (Array<double>* leaf : rates.leaves())
    for (double& r : *leaf) r = std::max(0.0, r);
  const auto training = gradient_descent(network, c.params, c.x, c.y, {.rate = .5, .weight_decay = 1e-2, .rates = rates});
  for (const int steps : {1, 300, 10000}) CHECK(apart(training(steps).weights(), trained(c, rates, .5, steps, {.weight_decay = 1e-2})) < 1e-12);
}

TEST_CASE("weight space and function space agree with rates, at every time") {
  const Case c = network_case(6, 4, 3, 34);
  for (const auto& options : {linnet::predict::FlowOptions{.rates = some}, {.ridge = .1, .rates = some}, {.weight_decay = 1e-2, .rates = some}, {.rates = {{"second", rate(0)}}}}) {
    const auto flow = gradient_flow(network, c.params, c.x, c.y, options);
    const auto points = flow.points(c.x_test);
    for (const double t : {0.0, .1, 100.0, 1e9, infinity}) {
      const auto at = flow(t);
      const double allowed = bound(at.condition());
      const auto change = map([](const Array<double>& a, const Array<double>& b) { return a - b; }, at.weights(), c.params);
      const auto [value, moved] = linnet::autodiff::jvp(network, c.params, change, c.x);
      CHECK(difference(value + moved, at.train()) <= allowed);
      const auto [value_test, moved_test] = linnet::autodiff::jvp(network, c.params, change, c.x_test);
      CHECK(difference(value_test + moved_test, at.predict(points)) <= allowed);
      CHECK(difference(at.linearized(c.x_test), at.predict(c.x_test)) <= allowed);
    }
    CHECK(flow(0).weights() == c.params);
  }
}

TEST_CASE("of networks with fewer weights than rows both spaces agree, however they are trained") {
  const Case c = network_case(15, 2, 2, 42);  // 18 weights, 30 rows
  const std::vector<linnet::predict::Training<double>> all = {
      gradient_descent(network, c.params, c.x, c.y, {.rate = .9}),
      gradient_descent(network, c.params, c.x, c.y, {.rate = .9, .weight_decay = 1e-3, .rates = some}),
      momentum(network, c.params, c.x, c.y, {.rate = .5}),
      momentum(network, c.params, c.x, c.y, {.rate = .5, .nesterov = true, .ridge = 1e-2}),
      momentum_flow(network, c.params, c.x, c.y, {.rate = .5, .momentum = .2}),
      momentum_flow(network, c.params, c.x, c.y, {.weight_decay = 1e-2, .rates = some})};
  for (const auto& training : all) {
    CAPTURE(training.dynamics().law().name());
    CHECK(training.rows() == 30);
    REQUIRE(training.max_rate() > 1);
    for (const double t : {0.0, 1.0, 30.0, 1e6, 1e15, infinity}) {
      CAPTURE(t);
      const auto at = training(t);
      const double allowed = bound(at.condition());
      CHECK(difference(at.linearized(c.x), at.train()) <= allowed);
      CHECK(difference(at.linearized(c.x_test), at.predict(c.x_test)) <= allowed);
      if (training.dynamics().law().ridge == 0 && training.dynamics().law().weight_decay == 0) CHECK(at.rank() <= 18);
      const Array<double> error = at.train() - c.y;
      CHECK(at.loss() == doctest::Approx(dot(error, error) / 60).epsilon(1e-9));
    }
    CHECK(training(0).weights() == c.params);
    CHECK(difference(training(1e15).train(), training(infinity).train()) <= bound(training(0).condition()));
  }
}

TEST_CASE("one rate for all is the learning rate, and a frozen layer is a network that has it as constants") {
  const Case c = network_case(5, 4, 2, 35);
  const auto doubled = gradient_flow(network, c.params, c.x, c.y, {.rates = rate(2)}), faster = gradient_flow(network, c.params, c.x, c.y, {.rate = 2});
  CHECK(apart(doubled(3).weights(), faster(3).weights()) < 1e-13);
  const auto frozen = gradient_flow(network, c.params, c.x, c.y, {.rates = {{"first", rate(0)}, {"second", rate(0)}}});
  const Tree<Array<double>> rest = {{"third", c.params["third"]}};
  const auto f = [&](const Tree<Var>& third, const Var& x) {
    const auto fixed = map([](const Array<double>& a) { return linnet::autodiff::constant(a); }, c.params);
    return network({{"first", fixed["first"]}, {"second", fixed["second"]}, {"third", third["third"]}}, x);
  };
  const auto last = gradient_flow(f, rest, c.x, c.y);
  for (const double t : {1.0, 50.0, infinity}) {
    const auto weights = frozen(t).weights();
    CHECK(weights["first"] == c.params["first"]);
    CHECK(weights["second"] == c.params["second"]);
    CHECK(apart(weights["third"], last(t).weights()["third"]) <= bound(last(t).condition()));
    CHECK(difference(frozen(t).predict(c.x_test), last(t).predict(c.x_test)) <= bound(last(t).condition()));
  }
  CHECK(frozen(1).rank() == last(1).rank());
}

TEST_CASE("every layer of a network of layers can be frozen alone, and all but one") {
  using namespace linnet;
  const nn::Layer network = nn::serial({nn::Conv(3, {2}), nn::LayerNorm(), nn::Erf(), nn::flatten(), nn::Dense(4, {.b_std = .1}), nn::Relu(), nn::Dense(2)});
  const Array<double> x = Draw(39).array(Shape{4, 5, 2}), x_test = Draw(40).array(Shape{3, 5, 2}), y = Draw(41).array(Shape{4, 2});
  const auto params = nn::initialize<double>(network, nn::Key(1), x.shape());
  const auto f = nn::function_of(network);
  std::vector<std::string> layers;
  for (const auto& [name, below] : params.children())
    if (!below.leaves().empty()) layers.push_back(name);
  REQUIRE(layers.size() == 3);
  for (const std::string& one : layers)
    for (const bool alone : {true, false}) {
      CAPTURE(one);
      CAPTURE(alone);
      std::vector<Rates::Child> rates;
      for (const std::string& layer : layers)
        if ((layer == one) == alone) rates.emplace_back(layer, rate(0));
      const auto flow = gradient_flow(f, params, x, y, {.rate = .3, .weight_decay = 1e-3, .rates = Rates(rates)});
      const auto at = flow(7), end = flow(infinity);
      const auto weights = at.weights();
      for (const std::string& layer : layers) CHECK((weights[layer] == params[layer]) == ((layer == one) == alone));
      CHECK(difference(at.linearized(x_test), at.predict(x_test)) <= bound(at.condition()));
      CHECK(difference(end.linearized(x_test), end.predict(x_test)) <= bound(end.condition()));
    }
}

TEST_CASE_TEMPLATE("many times at once are each of them", T, float, double) {
  const Case c = network_case(5, 4, 2, 36);
  const auto params = map([](const Array<double>& a) { return cast<T>(a); }, c.params);
  const auto flow = gradient_flow(network, params, cast<T>(c.x), cast<T>(c.y), {.weight_decay = 1e-3});
  const auto points = flow.points(cast<T>(c.x_test));
  const std::vector<double> times = {0, 1, 30, infinity};
  const Array<T> train = flow.train(times), test = flow.predict(points, times);
  CHECK(train.shape() == Shape{4, 5, 2});
  CHECK(test.shape() == Shape{4, 5, 2});
  for (Index i = 0; i < 4; ++i) {
    const double t = times[static_cast<std::size_t>(i)];
    CHECK(max_abs(train.rows(i, 1).reshaped(Shape{5, 2}) - flow(t).train()) < 1e-6);
    CHECK(max_abs(test.rows(i, 1).reshaped(Shape{5, 2}) - flow(t).predict(points)) < 1e-6);
    CHECK(max_abs(flow.coefficients(times).rows(i, 1).reshaped(Shape{5, 2}) - flow(t).coefficients()) < 1e-12 * std::max(1.0, max_abs(flow(t).coefficients())));
    CHECK(flow.weights(times)[static_cast<std::size_t>(i)] == flow(t).weights());
    if (sizeof(T) == 8) CHECK(max_abs(test.rows(i, 1).reshaped(Shape{5, 2}) - flow(t).predict(points)) < 1e-12);
  }
  CHECK(flow.weights({}).empty());
  CHECK(flow.train({}).shape() == Shape{0, 5, 2});
  CHECK(flow.predict(points, std::span<const double>()).shape() == Shape{0, 5, 2});
  CHECK(flow.predict(flow.points(Array<T>(Shape{0, 3})), times).shape() == Shape{4, 0, 2});
  CHECK_THROWS_WITH_AS(flow.train(std::vector<double>{1, -1}), doctest::Contains("train: t must be a number from 0 to infinity, got -1"), NumericalError);

  const Problem p = eight()[0];
  const linnet::predict::TraceApproximation<T> kernel{cast<T>(p.kernel()), 1}, test_kernel{cast<T>(p.kernel_test()), 1};
  const auto traced = gradient_descent(kernel, cast<T>(p.f0), cast<T>(p.y), {.rate = 20});
  const Array<T> many = traced.predict(test_kernel, cast<T>(p.f0_test), std::vector<double>{3, 5});
  CHECK(max_abs(many.rows(1, 1).reshaped(Shape{7}) - traced(5).predict(test_kernel, cast<T>(p.f0_test))) < 1e-5);
}

TEST_CASE("a relative ridge is a multiple of the mean of the kernel's diagonal") {
  const Problem p = eight()[0];
  const linnet::ntk::FullKernel<double> kernel(p.kernel(), 24, 24, 1);
  double trace = 0;
  for (Index i = 0; i < 24; ++i) trace += p.kernel()[{i, i}];
  const auto relative = gradient_flow(kernel, p.f0, p.y, {.ridge = .1, .relative_ridge = .5}), absolute = gradient_flow(kernel, p.f0, p.y, {.ridge = .1 + .5 * trace / 24});
  CHECK(difference(relative(30).train(), absolute(30).train()) < 1e-13);
  CHECK(relative.dynamics().law().ridge == doctest::Approx(.1 + .5 * trace / 24));
  CHECK_THROWS_WITH_AS(gradient_flow(kernel, p.f0, p.y, {.relative_ridge = -1}), "gradient_flow: the relative ridge must be finite and not negative, got -1", NumericalError);
}

TEST_CASE("rates that do not fit the parameters are refused by name") {
  const Case c = network_case(4, 3, 2, 37);
  const auto make = [&](const Rates& rates) { gradient_flow(network, c.params, c.x, c.y, {.rates = rates}); };
  CHECK_THROWS_WITH_AS(make({{"fourth", rate(0)}}), "gradient_flow: the rates name 'fourth', which the parameters do not have; its children are first, second, third", StructureError);
  CHECK_THROWS_WITH_AS(make({{"third", {{"c", rate(0)}}}}), "gradient_flow: the rates name 'c', which the parameters do not have in 'third'; its children are W, b", StructureError);
  CHECK_THROWS_WITH_AS(make({{"second", {{"W", rate(0)}}}}), "gradient_flow: the rates have children at 'second', which is one weight; give a number or an array there", StructureError);
  CHECK_THROWS_WITH_AS(make({{"second", Array<double>(Shape{3})}}), "gradient_flow: the rates of 'second' are [3], the weight is [3,3]; give one number, of shape [], or one for each of the weight", ShapeError);
  CHECK_THROWS_WITH_AS(make({{"first", rate(-1)}}), "gradient_flow: a rate of 'first/W' is -1; rates must be finite and not negative, 0 freezes", NumericalError);
  CHECK_THROWS_WITH_AS(make({{"first", rate(NAN)}}), "gradient_flow: a rate of 'first/W' is nan; rates must be finite and not negative, 0 freezes", NumericalError);
  CHECK_THROWS_WITH_AS(make(rate(0)), "gradient_flow: every rate is 0, so no weight is trained; leave a layer out of the rates, or give it a positive one", StructureError);
}

TEST_CASE("what a kernel cannot know is refused: rates, weight decay, and predictions with weight decay") {
  const Problem p = eight()[0];
  const linnet::ntk::FullKernel<double> kernel(p.kernel(), 24, 24, 1);
  CHECK_THROWS_WITH_AS(gradient_descent(kernel, p.f0, p.y, {.weight_decay = .1}), "gradient_descent: weight decay moves the outputs by A theta0, which a kernel does not know; make it by gradient_descent(f, params, x, y)", StructureError);
  CHECK_THROWS_WITH_AS(momentum(kernel, p.f0, p.y, {.rates = rate(2)}), "momentum: a kernel has no weights for rates to belong to; make it by momentum(f, params, x, y)", StructureError);
  CHECK_THROWS_WITH_AS(momentum(kernel, p.f0, p.y)(1).weights(), "weights: this flow was made from a kernel and has no network; make it by momentum(f, params, x, y), or give predict the kernel and f0 of the test examples", StructureError);
  CHECK_THROWS_WITH_AS(momentum(kernel, p.f0, p.y).weights(std::vector<double>{1}), doctest::Contains("weights: this flow was made from a kernel and has no network"), StructureError);
  const Case c = network_case(4, 3, 2, 38);
  const auto decays = gradient_flow(network, c.params, c.x, c.y, {.weight_decay = .1});
  auto points = decays.points(c.x_test);
  points.pull = {};
  CHECK_THROWS_WITH_AS(decays(1).predict(points), "predict: weights decay here, and predictions need A theta0 of the new examples besides their kernel and f0; give predict the examples, or their points()", StructureError);
  points = decays.points(c.x_test);
  points.pull.data()[3] = NAN;
  CHECK_THROWS_WITH_AS(decays(1).predict(points), "predict: A theta0 of the test examples has nan at [1,1]; every value must be finite", NumericalError);
  CHECK_THROWS_WITH_AS(linnet::predict::Dynamics(linnet::predict::Spectrum(p.kernel()), p.y, {.weight_decay = 1}), "gradient_flow: weights decay, so A theta0 must have the shape [24] of f0 - y, got [0]", ShapeError);
  Array<double> pull = p.y;
  pull.data()[4] = NAN;
  CHECK_THROWS_WITH_AS(linnet::predict::Dynamics(linnet::predict::Spectrum(p.kernel()), p.y, {.weight_decay = 1}, pull), "gradient_flow: A theta0 has nan at [4]; every value must be finite", NumericalError);
}
