// Training in pieces against the closed form where that is exact, against gradient descent step by step, and against the network's own flow by Runge and Kutta's method.
#include "linnet/predict/relinearize.h"

#include "linnet/autodiff/config.h"
#include "linnet/autodiff/ops.h"
#include "linnet/tests/predict/problem.h"

#include <doctest/doctest.h>

#include <cstring>

using namespace linnet::predict;
using linnet::autodiff::cast;
using linnet::autodiff::NumericalError;
using linnet::autodiff::Scalar;
using linnet::autodiff::ShapeError;
using linnet::autodiff::StructureError;
using linnet::autodiff::Var;
using problem::Array, problem::difference, problem::Draw, problem::Index, problem::infinity, problem::Shape;
using Weights = Tree<Array<double>>;

namespace {

Var linear(const Tree<Var>& p, const Var& x) { return dot(x, p["W"].leaf()) + p["b"].leaf(); }
Var network(const Tree<Var>& p, const Var& x) { return dot(erf(dot(x, p["in"]["W"].leaf()) + p["in"]["b"].leaf()), p["out"].leaf()); }

struct Case {
  Weights params;
  Array<double> x, y;
};
Case linear_case(Index n, Index features, std::uint64_t seed) {
  Draw draw(seed);
  const Array<double> W = draw.array({features, 2}), b = draw.array({1, 2});
  return {{{"W", W}, {"b", b}}, draw.array({n, features}), draw.array({n, 2})};
}
Case network_case(Index n, Index width, Index outputs, std::uint64_t seed) {
  Draw draw(seed);
  const Array<double> W = draw.array({3, width}), b = draw.array({1, width}), out = draw.array({width, outputs});
  return {{{"in", {{"W", W}, {"b", b}}}, {"out", out}}, draw.array({n, 3}), draw.array({n, outputs})};
}
double apart(const Weights& a, const Weights& b) {
  double most = 0;
  const auto u = a.leaves(), v = b.leaves();
  REQUIRE(u.size() == v.size());
  for (std::size_t i = 0; i < u.size(); ++i) most = std::max(most, difference(*u[i], *v[i]));
  return most;
}

// theta' = -rate P (grad |f - y|^2 / (2 N) + r P^-1 (theta - theta0) / N + w theta), P a rate for each of in and out.
struct Real {
  const Case& c;
  double rate = 1, ridge = 0, decay = 0, in_rate = 1;
  Weights slope(const Weights& theta) const {
    const auto loss = [](const Tree<Var>& p, const Var& x, const Var& y) { return 0.5 * mean(square(network(p, x) - y)); };
    if (!compiled) compiled.emplace(linnet::autodiff::compile([&](const Tree<Var>& p, const Var& x, const Var& y) { return grad([&](const Tree<Var>& q) { return loss(q, x, y); }, p); }, theta, c.x, c.y));
    const Weights gradient = (*compiled)(theta, c.x, c.y);
    const double n = static_cast<double>(c.y.size());
    const auto full = [&](double own) {
      return [=, this](const Array<double>& g, const Array<double>& at, const Array<double>& start) {
        return own == 0 ? Array<double>(g.shape()) : -rate * (own * g + ridge / n * (at - start) + decay * at);
      };
    };
    return {{"in", map(full(in_rate), gradient["in"], theta["in"], c.params["in"])}, {"out", map(full(1), gradient["out"], theta["out"], c.params["out"])}};
  }
  static Weights add(const Weights& a, double s, const Weights& b) {
    return map([s](const Array<double>& u, const Array<double>& v) { return u + s * v; }, a, b);
  }
  Weights flow(double t, int steps) const {
    Weights theta = c.params;
    const double h = t / steps;
    for (int i = 0; i < steps; ++i) {
      const Weights k1 = slope(theta), k2 = slope(add(theta, h / 2, k1)), k3 = slope(add(theta, h / 2, k2)), k4 = slope(add(theta, h, k3));
      theta = add(add(add(add(theta, h / 6, k1), h / 3, k2), h / 3, k3), h / 6, k4);
    }
    return theta;
  }
  Weights descent(int steps) const {
    Weights theta = c.params;
    for (int i = 0; i < steps; ++i) theta = add(theta, 1, slope(theta));
    return theta;
  }
  mutable std::optional<linnet::autodiff::Compiled<Weights, Weights, Array<double>, Array<double>>> compiled = {};
};

}  // namespace

TEST_CASE("one piece is the closed form, and many are the same of a network that is linear") {
  const Case c = linear_case(7, 3, 1), wide = linear_case(4, 6, 2), nonlinear = network_case(6, 5, 2, 3);
  for (const FlowOptions& o : {FlowOptions{.rate = .7}, FlowOptions{.ridge = .3}, FlowOptions{.relative_ridge = .1, .weight_decay = .02}, FlowOptions{.rate = 2, .weight_decay = .05}}) {
    for (const auto& [at, f] : {std::pair<const Case&, linnet::ntk::Apply>{c, linear}, {wide, linear}, {nonlinear, network}}) {
      const auto whole = gradient_flow(f, at.params, at.x, at.y, o)(6);
      const auto path = relinearize(f, at.params, at.x, at.y, {.training = o, .t_end = 6});
      REQUIRE(path.size() == 2);
      CHECK(apart(path[1].weights, whole.weights()) <= 1e-12);
      CHECK(path[1].rank == whole.rank());
      CHECK(path[1].time == 6);
      CHECK(path[0].time == 0);
      CHECK(path[0].weights == at.params);
      CHECK(path[0].outputs == linnet::autodiff::compile(f, at.params, at.x)(at.params, at.x));
      CHECK(difference(path[1].outputs, linnet::autodiff::compile(f, at.params, at.x)(path[1].weights, at.x)) <= 1e-15);
    }
    for (const int order : {1, 2})
      for (const Case* at : {&c, &wide}) {
        const auto whole = gradient_flow(linear, at->params, at->x, at->y, o)(6);
        const auto path = relinearize(linear, at->params, at->x, at->y, {.training = o, .t_end = 6, .dt = .8, .order = order});
        REQUIRE(path.size() == 9);
        CHECK(path[3].time == 3 * .8);
        CHECK(path.back().time == 6);
        CHECK(apart(path.back().weights, whole.weights()) <= 1e-12);
        CHECK(difference(path.back().outputs, whole.train()) <= 1e-12);
        CHECK(path.back().loss == doctest::Approx(whole.loss()).epsilon(1e-10));
        for (const auto& piece : path) CHECK(piece.gap <= 1e-14);
      }
  }
}

TEST_CASE("weights with rates of their own and frozen ones move in pieces as in one where the network is linear") {
  const Case c = linear_case(7, 3, 4);
  for (const FlowOptions& o : {FlowOptions{.ridge = .2, .rates = {{"W", rate(3)}, {"b", rate(.4)}}}, FlowOptions{.ridge = .2, .weight_decay = .1, .rates = {{"W", rate(0)}, {"b", rate(2)}}}}) {
    const auto whole = gradient_flow(linear, c.params, c.x, c.y, o)(5);
    for (const int order : {1, 2}) {
      const auto path = relinearize(linear, c.params, c.x, c.y, {.training = o, .t_end = 5, .dt = 1, .order = order});
      CHECK(apart(path.back().weights, whole.weights()) <= 1e-12);
    }
  }
  const Weights frozen = relinearize(linear, c.params, c.x, c.y, {.training = {.weight_decay = .1, .rates = {{"W", rate(0)}}}, .t_end = 5, .dt = 1}).back().weights;
  CHECK(frozen["W"] == c.params["W"]);
  CHECK(frozen["b"] != c.params["b"]);
}

TEST_CASE("pieces of one step are gradient descent of the network itself") {
  const Case c = network_case(6, 5, 2, 5);
  for (const Real& real : {Real{c, .8}, Real{c, .5, .4, .03}, Real{c, .5, .4, .03, 3}, Real{c, .5, 0, .1, 0}}) {
    const FlowOptions o{.rate = real.rate, .ridge = real.ridge, .weight_decay = real.decay, .rates = {{"in", rate(real.in_rate)}}};
    const auto path = relinearize(network, c.params, c.x, c.y, {.training = o, .motion = Motion::gradient_descent, .t_end = 40, .dt = 1});
    REQUIRE(path.size() == 41);
    CHECK(apart(path.back().weights, real.descent(40)) <= 1e-12);
    CHECK(apart(path[7].weights, real.descent(7)) <= 1e-12);
    const auto few = relinearize(network, c.params, c.x, c.y, {.training = o, .motion = Motion::gradient_descent, .t_end = 40, .dt = 8});
    if (real.in_rate > 0) CHECK(apart(few.back().weights, real.descent(40)) > 1e-6);  // else it is linear
  }
}

TEST_CASE("as pieces get shorter they go to the network's own flow, by first order and by second") {
  const Case c = network_case(5, 6, 2, 6);
  for (const Real& real : {Real{c, 1}, Real{c, 1, .5, .05, 2}}) {
    const double t = 8;
    const Weights truth = real.flow(t, 4000);
    REQUIRE(apart(truth, real.flow(t, 2000)) <= 1e-12);
    const FlowOptions o{.rate = real.rate, .ridge = real.ridge, .weight_decay = real.decay, .rates = {{"in", rate(real.in_rate)}}};
    CHECK(apart(gradient_flow(network, c.params, c.x, c.y, o)(t).weights(), truth) > 1e-2);
    for (const int order : {1, 2}) {
      const auto error = [&](int pieces) { return apart(relinearize(network, c.params, c.x, c.y, {.training = o, .t_end = t, .dt = t / pieces, .order = order}).back().weights, truth); };
      const double coarse = error(64), fine = error(128);
      CAPTURE(order);
      CAPTURE(coarse);
      CAPTURE(fine);
      CHECK(std::log2(coarse / fine) == doctest::Approx(order).epsilon(0.05));
      CHECK(fine < (order == 1 ? 5e-3 : 1e-4));
    }
  }
}

TEST_CASE("pieces adapt: what the network departs by in one stays below the tolerance, and less tolerance is closer to its flow") {
  const Case c = network_case(5, 6, 2, 7);
  const Real real{c, 1};
  const Weights truth = real.flow(20, 4000);
  for (const int order : {1, 2}) {
    double before = infinity;
    std::size_t pieces = 0;
    for (const double tolerance : {.2, .02, .002}) {
      const auto path = relinearize(network, c.params, c.x, c.y, {.t_end = 20, .order = order, .tolerance = tolerance});
      CHECK(path.back().time == 20);
      for (std::size_t i = 1; i < path.size(); ++i) CHECK(path[i].gap <= tolerance * std::max(path[i].change, std::sqrt(2 * path[i - 1].loss)) + 1e-13);
      const double error = apart(path.back().weights, truth);
      CHECK(error < before / 2);
      CHECK(path.size() > pieces);
      before = error;
      pieces = path.size();
    }
  }
  const auto steps = relinearize(network, c.params, c.x, c.y, {.motion = Motion::gradient_descent, .t_end = 30, .tolerance = 1e-9});
  CHECK(apart(steps.back().weights, real.descent(30)) <= 1e-12);  // so small a tolerance leaves single steps
  CHECK(steps.size() == 31);
}

TEST_CASE("training of a narrow network in pieces ends where the network fits, which its linearization at the beginning misses") {
  const Case c = network_case(4, 6, 1, 8);
  const auto path = relinearize(network, c.params, c.x, c.y, {.training = {.rate = 1}, .t_end = 1e6, .order = 1, .tolerance = .05, .keep_weights = false});
  CHECK(path.back().loss < 1e-10);
  CHECK(max_abs(path.back().outputs - c.y) < 1e-4);
  CHECK(path.size() < 40);
  const Weights predicted = gradient_flow(network, c.params, c.x, c.y)(1e6).weights();
  CHECK(max_abs(linnet::autodiff::compile(network, predicted, c.x)(predicted, c.x) - c.y) > 1e-2);
  CHECK(path[0].weights == c.params);
  CHECK(path[1].weights.children().empty());
  CHECK(!path.back().weights.children().empty());
  for (std::size_t i = 1; i < path.size(); ++i) CHECK(path[i].loss <= path[i - 1].loss * (1 + 1e-9) + 1e-25);
}

TEST_CASE("examples that depend on each other, one example, and duplicated ones train in pieces") {
  Case c = network_case(1, 4, 1, 9);
  const auto one = relinearize(network, c.params, c.x, c.y, {.t_end = 2, .dt = .5});
  CHECK(one.size() == 5);
  CHECK(one.back().loss < one[0].loss);
  c = network_case(4, 5, 2, 10);
  const auto mixing = [](const Tree<Var>& p, const Var& x) { return network(p, x - 0.25 * sum(x, {0})); };
  CHECK(relinearize<double>(mixing, c.params, c.x, c.y, {.training = {.kernel = {.independent = false}}, .t_end = 1, .dt = .1}).back().loss > 0);
  for (Index i = 0; i < 3; ++i) c.x.data()[i + 3] = c.x.data()[i];
  for (const int order : {1, 2}) {
    const auto path = relinearize(network, c.params, c.x, c.y, {.t_end = 300, .dt = 60, .order = order});
    CHECK(path.back().rank == 6);  // of 8 rows two are twice there
    CHECK(difference(path.back().outputs.rows(0, 1), path.back().outputs.rows(1, 1)) <= 1e-14);
  }
}

TEST_CASE("what relinearize refuses is said in sentences") {
  const Case c = network_case(4, 5, 2, 11);
  const auto run = [&](const RelinearizeOptions& o) { return relinearize(network, c.params, c.x, c.y, o); };
  CHECK_THROWS_WITH_AS(run({}), "relinearize: t_end must be finite and positive, got 0", NumericalError);
  CHECK_THROWS_WITH_AS(run({.t_end = infinity}), "relinearize: t_end must be finite and positive, got inf", NumericalError);
  CHECK_THROWS_WITH_AS(run({.t_end = 1, .dt = -1}), "relinearize: dt must be finite and not negative, got -1", NumericalError);
  CHECK_THROWS_WITH_AS(run({.t_end = 1, .tolerance = -2}), "relinearize: the tolerance must be finite and not negative, got -2", NumericalError);
  CHECK_THROWS_WITH_AS(run({.t_end = 1, .order = 3}), "relinearize: pieces are of order 1 or 2, got 3", ShapeError);
  CHECK_THROWS_WITH_AS(run({.motion = Motion::gradient_descent, .t_end = 4, .order = 2}), "relinearize: whole steps have no middle; order 2 is of gradient_flow alone", StructureError);
  CHECK_THROWS_WITH_AS(run({.motion = Motion::momentum, .t_end = 4}),
                       "relinearize: momentum has a velocity, which no linearization at the weights alone knows; take gradient_flow or gradient_descent", StructureError);
  CHECK_THROWS_WITH_AS(run({.motion = Motion::gradient_descent, .t_end = 4.5}), doctest::Contains("whole number"), NumericalError);
  CHECK_THROWS_WITH_AS(run({.motion = Motion::gradient_descent, .t_end = 4, .dt = .5}), doctest::Contains("whole number"), NumericalError);
  CHECK_THROWS_WITH_AS(run({.t_end = 10, .dt = 1, .max_pieces = 4}), "relinearize: 4 pieces lead to t = 4 of 10; allow more pieces (max_pieces), or make them longer", NumericalError);
  CHECK_THROWS_WITH_AS(run({.training = {.rate = -1}, .t_end = 1}), doctest::Contains("rate"), NumericalError);
  CHECK_THROWS_WITH_AS(run({.training = {.relative_ridge = -1}, .t_end = 1}), "relinearize: the relative ridge must be finite and not negative, got -1", NumericalError);
  CHECK_THROWS_WITH_AS(run({.training = {.rates = {{"middle", rate(1)}}}, .t_end = 1}), doctest::Contains("the rates name 'middle'"), StructureError);
  CHECK_THROWS_WITH_AS(relinearize(network, c.params, c.x, Array<double>({4, 1}), {.t_end = 1}), "relinearize: y is [4,1], the outputs f(params, x) it is the target of are [4,2]; reshape y to that", ShapeError);
  CHECK_THROWS_WITH_AS(relinearize(network, c.params, Array<double>({0, 3}), Array<double>({0, 2}), {.t_end = 1}), "relinearize: x is [0,3]; there must be at least one example", ShapeError);
  CHECK_THROWS_WITH_AS(relinearize(network, c.params, c.x, Array<double>({4, 2}, infinity), {.t_end = 1}), "relinearize: y has inf at [0,0]; every value must be finite", NumericalError);
  const auto steep = [](const Tree<Var>& p, const Var& x) { return exp(dot(x, p.leaf())); };
  const auto far = [&](double tolerance) { return relinearize<double>(steep, Array<double>({1, 1}, 0.0), Array<double>({1, 1}, 1.0), Array<double>({1, 1}, 1e3), {.t_end = 1e9, .tolerance = tolerance}); };
  CHECK_THROWS_WITH_AS(far(0), "relinearize: f(theta, x) at t = 1e+09 has inf at [0,0]; every value must be finite", NumericalError);
  CHECK(far(.1).back().outputs.item() == doctest::Approx(1e3));
  const auto broken = [](const Tree<Var>& p, const Var& x) { return dot(x, p.leaf()) + sign(p.leaf() - 0.5); };  // a step that no piece is short enough for
  CHECK_THROWS_WITH_AS(relinearize<double>(broken, Array<double>({1, 1}, 0.0), Array<double>({1, 1}, 1.0), Array<double>({1, 1}, 3.0), {.t_end = 10, .tolerance = .1}),
                       doctest::Contains("still departs by more than the tolerance 0.1 allows; raise the tolerance"), NumericalError);
}

TEST_CASE_TEMPLATE("training in pieces has the same bits for any number of threads, and float answers what double does", T, float, double) {
  const Case c = network_case(40, 70, 3, 12);
  const auto params = map([](const Array<double>& a) { return cast<T>(a); }, c.params);
  const auto numbers = [&] {
    std::vector<T> all;
    for (const int order : {1, 2})
      for (const auto& piece : relinearize<T>(network, params, cast<T>(c.x), cast<T>(c.y), {.t_end = 3, .dt = 1, .order = order})) {
        for (const Array<T>* leaf : piece.weights.leaves()) all.insert(all.end(), leaf->begin(), leaf->end());
        all.insert(all.end(), piece.outputs.begin(), piece.outputs.end());
        all.push_back(static_cast<T>(piece.gap));
      }
    return all;
  };
  const int before = linnet::autodiff::threads();
  linnet::autodiff::set_threads(1);
  const auto expected = numbers();
  for (const int threads : {2, 3}) {
    linnet::autodiff::set_threads(threads);
    const auto came = numbers();
    REQUIRE(came.size() == expected.size());
    CHECK(std::memcmp(came.data(), expected.data(), expected.size() * sizeof(T)) == 0);
  }
  linnet::autodiff::set_threads(before);
  const auto wide = relinearize(network, c.params, c.x, c.y, {.t_end = 3, .dt = 1}).back();
  const auto narrow = relinearize<T>(network, params, cast<T>(c.x), cast<T>(c.y), {.t_end = 3, .dt = 1}).back();
  CHECK(difference(cast<double>(narrow.outputs), wide.outputs) <= (sizeof(T) == 4 ? 1e-5 : 0));
}
