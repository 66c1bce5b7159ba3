// The door from a network: weights by one vjp, the network linearized there by one jvp, and function space, against each other and against training.
#include "linnet/autodiff/derivative.h"
#include "linnet/autodiff/kernels/parallel.h"
#include "linnet/autodiff/ops.h"
#include "linnet/predict/predict.h"
#include "linnet/tests/predict/problem.h"

#include <doctest/doctest.h>

using linnet::autodiff::cast;
using linnet::autodiff::NumericalError;
using linnet::autodiff::Scalar;
using linnet::autodiff::ShapeError;
using linnet::autodiff::Tree;
using linnet::autodiff::Var;
using linnet::predict::FlowOptions;
using linnet::predict::gradient_flow;
using linnet::predict::Points;
using problem::Array, problem::bound, problem::difference, problem::Draw, problem::eight, problem::Index, problem::infinity, problem::Problem, problem::product, problem::Shape, problem::times;

namespace {

Var linear(const Tree<Var>& params, const Var& x) { return dot(x, params["W"]); }

// Two hidden layers of erf, small enough that an explicit Jacobian costs nothing.
Var network(const Tree<Var>& params, const Var& x) {
  const Var h = erf(dot(x, params["W1"]) + params["b1"]);
  return dot(erf(dot(h, params["W2"])), params["W3"]);
}

struct Case {
  Tree<Array<double>> params;
  Array<double> x, x_test, y;
};

Case network_case(Index n, Index width, Index outputs, std::uint64_t seed) {
  Draw draw(seed);
  Case c;
  c.params = {{"W1", draw.array(Shape{3, width})}, {"b1", draw.array(Shape{1, width})}, {"W2", draw.array(Shape{width, width})}, {"W3", draw.array(Shape{width, outputs})}};
  c.x = draw.array(Shape{n, 3});
  c.x_test = draw.array(Shape{5, 3});
  c.y = draw.array(Shape{n, outputs});
  return c;
}

Tree<Array<double>> matrix_weights(const Array<double>& theta0) { return {{"W", theta0.reshaped(Shape{theta0.size(), 1})}}; }

// f(params, x) + J(x) (weights - params), by autodiff alone.
template <class F> Array<double> linearized(const F& f, const Tree<Array<double>>& params, const Tree<Array<double>>& weights, const Array<double>& x) {
  const auto change = map([](const Array<double>& a, const Array<double>& b) { return a - b; }, weights, params);
  const auto [value, derivative] = linnet::autodiff::jvp(f, params, change, x);
  return value + derivative;
}

template <Scalar T> Tree<Array<T>> narrowed(const Tree<Array<double>>& tree) {
  return map([](const Array<double>& a) { return cast<T>(a); }, tree);
}

}  // namespace

TEST_CASE("the linearized network at the weights of every time answers what function space does, for every kind of kernel") {
  std::vector<double> all = times;
  all.insert(all.end(), {0, 1e300, infinity});
  for (const Problem& p : eight()) {
    const Tree<Array<double>> params = matrix_weights(p.theta0);
    const Array<double> y = p.y.reshaped(Shape{p.n(), 1});
    const auto flow = gradient_flow(linear, params, p.a, y);
    const Points test = flow.points(p.a_test);
    for (const double t : all) {
      CAPTURE(p.name);
      CAPTURE(t);
      const auto at = flow(t);
      const Tree<Array<double>> weights = at.weights();
      const double allowed = bound(at.condition());
      CHECK(difference(linearized(linear, params, weights, p.a), at.train()) <= allowed);
      CHECK(difference(linearized(linear, params, weights, p.a_test), at.predict(test)) <= allowed);
      CHECK(difference(at.linearized(p.a_test), at.predict(p.a_test)) <= allowed);
      CHECK(at.predict(p.a_test) == at.predict(test));
      CHECK(at.train().shape() == Shape{p.n(), 1});
      CHECK(at.time() == t);
    }
    CHECK(flow(0).weights() == params);
    CHECK(flow(1e300).weights() == flow(infinity).weights());
    CHECK(flow(1).rank() == flow.dynamics().rank());
    CHECK(flow(1).lambda_max() == flow.dynamics().spectrum().lambda_max());
  }
}

TEST_CASE("networks of one output and of several, linearized, agree in weights and functions") {
  for (const auto& [n, width, outputs] : std::vector<std::array<Index, 3>>{{1, 4, 1}, {9, 8, 1}, {6, 5, 3}, {40, 3, 2}}) {
    const Case c = network_case(n, width, outputs, 11);
    for (const FlowOptions& options : {FlowOptions{.rate = .7}, FlowOptions{.rate = 2, .ridge = 1e-2}}) {
      const auto flow = gradient_flow(network, c.params, c.x, c.y, options);
      CHECK(flow.rows() == n * outputs);
      double before = infinity;
      for (const double t : {0.0, 1e-3, 1.0, 50.0, 1e4, 1e9, infinity}) {
        CAPTURE(n);
        CAPTURE(t);
        const auto at = flow(t);
        const Tree<Array<double>> weights = at.weights();
        CHECK(difference(linearized(network, c.params, weights, c.x), at.train()) <= bound(at.condition()));
        CHECK(difference(at.linearized(c.x_test), at.predict(c.x_test)) <= bound(at.condition()));
        CHECK(difference(linearized(network, c.params, weights, c.x_test), at.linearized(c.x_test)) <= bound(at.condition()));
        CHECK(at.predict(c.x_test).shape() == Shape{5, outputs});
        CHECK(at.loss() <= before);
        before = at.loss();
      }
    }
  }
}

TEST_CASE("the weights are those that small steps of gradient descent on the linearized network reach") {
  const Case c = network_case(6, 5, 2, 12);
  const double t = 3, rate = .5, rows = 12;
  const auto map_at = linnet::autodiff::linearize(network, c.params, c.x);
  double before = 0;
  const auto exact = gradient_flow(network, c.params, c.x, c.y, {.rate = rate})(t).weights();
  for (const int steps : {200, 400}) {
    Tree<Array<double>> change = map([](const Array<double>& a) { return Array<double>(a.shape()); }, c.params);
    for (int i = 0; i < steps; ++i) {
      const auto gradient = map_at.vjp(map_at.value() + map_at.jvp(change) - c.y);
      change = map([&](const Array<double>& a, const Array<double>& g) { return a - (rate * t / steps / rows) * g; }, change, gradient);
    }
    double error = 0;
    map([&](const Array<double>& start, const Array<double>& a, const Array<double>& b) { return error = std::max(error, max_abs(start + a - b)); }, c.params, change, exact);
    if (before > 0) CHECK(before / error == doctest::Approx(2).epsilon(.05));
    before = error;
  }
  CHECK(before < 2e-2);
}

TEST_CASE("a network and its kernel give one flow") {
  const Case c = network_case(6, 5, 3, 13);
  const auto flow = gradient_flow(network, c.params, c.x, c.y);
  const auto kernel = linnet::ntk::full(network, c.params, c.x), test = linnet::ntk::full(network, c.params, c.x_test, c.x);
  const auto f = linnet::autodiff::compile(network, c.params, c.x), f_test = linnet::autodiff::compile(network, c.params, c.x_test);
  const auto same = gradient_flow(kernel, f(c.params, c.x), c.y);
  for (const double t : {0.0, 2.0, infinity}) {
    CHECK(difference(same(t).train(), flow(t).train()) < 1e-12);
    CHECK(difference(same(t).predict(test, f_test(c.params, c.x_test)), flow(t).predict(c.x_test)) <= bound(flow(t).condition()));
    CHECK(difference(flow(t).predict(test, f_test(c.params, c.x_test)), flow(t).predict(c.x_test)) < 1e-12);
  }
}

TEST_CASE("float networks are trained in double and answered in float") {
  const Case c = network_case(6, 5, 2, 14);
  const auto params = narrowed<float>(c.params);
  const auto flow = gradient_flow(network, params, cast<float>(c.x), cast<float>(c.y), {.rate = .5});
  const auto wide = gradient_flow(network, map([](const Array<float>& a) { return cast<double>(a); }, params), cast<double>(cast<float>(c.x)), cast<double>(cast<float>(c.y)), {.rate = .5});
  for (const double t : {0.0, 3.0, infinity}) {
    CHECK(flow(t).weights() == narrowed<float>(wide(t).weights()));
    CHECK(flow(t).train() == cast<float>(wide(t).train()));
    CHECK(flow(t).predict(cast<float>(c.x_test)) == cast<float>(wide(t).predict(cast<double>(cast<float>(c.x_test)))));
    CHECK(flow(t).loss() == wide(t).loss());
  }
  CHECK(flow.dynamics().spectrum().tolerance() < 1e-12 * flow(1).lambda_max());
}

TEST_CASE("no new examples, and more than are evaluated at once, are answered") {
  const Case c = network_case(4, 3, 2, 15);
  const auto at = gradient_flow(network, c.params, c.x, c.y)(2);
  CHECK(at.predict(Array<double>(Shape{0, 3})).shape() == Shape{0, 2});
  CHECK(at.linearized(Array<double>(Shape{0, 3})).shape() == Shape{0, 2});
  const Array<double> many = Draw(16).array(Shape{300, 3}), all = at.predict(many);
  CHECK(difference(all, at.linearized(many)) <= bound(at.condition()));
  CHECK(difference(all.rows(299, 1), at.predict(many.rows(299, 1))) < 1e-12);
}

TEST_CASE("the bits of weights and predictions do not depend on the number of threads") {
  const Case c = network_case(50, 6, 2, 17);
  const int before = linnet::autodiff::thread_count();
  linnet::autodiff::set_thread_count(1);
  const auto one = gradient_flow(network, c.params, c.x, c.y)(100);
  const auto weights = one.weights();
  const auto test = one.predict(c.x_test);
  for (const int threads : {2, 4}) {
    linnet::autodiff::set_thread_count(threads);
    const auto many = gradient_flow(network, c.params, c.x, c.y)(100);
    CHECK(many.weights() == weights);
    CHECK(many.predict(c.x_test) == test);
  }
  linnet::autodiff::set_thread_count(before);
}

TEST_CASE("progress goes to the kernel, and cancels there") {
  const Case c = network_case(6, 5, 2, 18);
  FlowOptions options;
  options.kernel.progress = [](const linnet::autodiff::Progress&) { return false; };
  CHECK_THROWS_AS(gradient_flow(network, c.params, c.x, c.y, options), NumericalError);
}

TEST_CASE("what is not a number, or does not fit the network, is refused by name and position") {
  const Case c = network_case(6, 5, 2, 19);
  Case bad = c;
  bad.params["W2"].leaf()[{3, 1}] = NAN;
  CHECK_THROWS_WITH_AS(gradient_flow(network, bad.params, c.x, c.y), "gradient_flow: params 'W2' has nan at [3,1]; every value must be finite", NumericalError);
  bad.x[{4, 2}] = infinity;
  CHECK_THROWS_WITH_AS(gradient_flow(network, c.params, bad.x, c.y), "gradient_flow: x has inf at [4,2]; every value must be finite", NumericalError);
  bad.y[{5, 0}] = NAN;
  CHECK_THROWS_WITH_AS(gradient_flow(network, c.params, c.x, bad.y), "gradient_flow: y has nan at [5,0]; every value must be finite", NumericalError);
  CHECK_THROWS_WITH_AS(gradient_flow(network, c.params, c.x, Array<double>(Shape{6})), "gradient_flow: y is [6], the outputs f0 it is the target of are [6,2]; reshape y to that", ShapeError);
  CHECK_THROWS_WITH_AS(gradient_flow(network, c.params, Array<double>(Shape{0, 3}), Array<double>(Shape{0, 2})), "gradient_flow: x is [0,3]; there must be at least one example and one output", ShapeError);

  const auto flow = gradient_flow(network, c.params, c.x, c.y);
  CHECK_THROWS_WITH_AS(flow(1).predict(Array<double>(Shape{2, 4})), "predict: x_new is [2,4], the examples trained on are [6,3]; they may differ in the leading axis only", ShapeError);
  CHECK_THROWS_WITH_AS(flow.points(Array<double>(Shape{3})), "points: x_new is [3], the examples trained on are [6,3]; they may differ in the leading axis only", ShapeError);
  bad.x_test[{1, 1}] = NAN;
  CHECK_THROWS_WITH_AS(flow(1).linearized(bad.x_test), "linearized: x_new has nan at [1,1]; every value must be finite", NumericalError);
}

TEST_CASE("an answer that a float cannot hold says so") {
  const Tree<Array<float>> params = {{"W", Array<float>(Shape{1, 1}, {1e-20f})}};
  const auto flow = gradient_flow(linear, params, Array<float>(Shape{1, 1}, {1e-19f}), Array<float>(Shape{1, 1}, {3e38f}));
  CHECK_THROWS_WITH_AS(flow(infinity).weights(), "weights: the answer at t = inf has inf at [0,0]; every value must be finite", NumericalError);
}
