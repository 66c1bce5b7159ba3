// Uncertainty against explicit Jacobians, the ensembles' formulas, and the statistics of samples.
#include "linnet/predict/posterior.h"

#include "linnet/autodiff/config.h"
#include "linnet/autodiff/ops.h"
#include "linnet/predict/predict.h"
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
using problem::Array, problem::difference, problem::Draw, problem::Index, problem::infinity, problem::product, problem::Shape, problem::transposed;
using Weights = Tree<Array<double>>;

namespace {

Var linear(const Tree<Var>& p, const Var& x) { return dot(x, p["W"].leaf()); }
Var network(const Tree<Var>& p, const Var& x) { return dot(erf(dot(x, p["in"].leaf())), p["out"].leaf()); }

struct Case {
  Weights params;
  Array<double> x, y, x_new;
};
Case network_case(Index n, Index width, Index outputs, std::uint64_t seed) {
  Draw draw(seed);
  const Array<double> in = draw.array({3, width}), out = draw.array({width, outputs});
  return {{{"in", in}, {"out", out}}, draw.array({n, 3}), draw.array({n, outputs}), draw.array({5, 3})};
}
// [outputs of all rows, weights], the weights of `in` times the root of their variance.
Array<double> jacobian(const Case& c, const Array<double>& x, double in_variance = 1) {
  Array<double> j = linnet::autodiff::jacobian(network, c.params, x);
  const Index in = c.params["in"].leaf().size(), all = j.shape()[1];
  for (Index r = 0; r < j.shape()[0]; ++r)
    for (Index i = 0; i < in; ++i) j.data()[r * all + i] *= std::sqrt(in_variance);
  return j;
}
Array<double> value(const Case& c, const Array<double>& x) { return linnet::autodiff::compile(network, c.params, x)(c.params, x); }

// The inverse of a positive definite matrix by Gauss and Jordan's method.
Array<double> inverse(Array<double> a) {
  const Index n = a.shape()[0];
  Array<double> b({n, n});
  for (Index i = 0; i < n; ++i) b[{i, i}] = 1;
  for (Index i = 0; i < n; ++i) {
    const double pivot = a[{i, i}];
    for (Index j = 0; j < n; ++j) a[{i, j}] /= pivot, b[{i, j}] /= pivot;
    for (Index r = 0; r < n; ++r) {
      const double factor = a[{r, i}];
      for (Index j = 0; j < n && r != i; ++j) a[{r, j}] -= factor * a[{i, j}], b[{r, j}] -= factor * b[{i, j}];
    }
  }
  return b;
}
Array<double> plus_diagonal(Array<double> a, double r) {
  for (Index i = 0; i < a.shape()[0]; ++i) a[{i, i}] += r;
  return a;
}
struct Exact {
  Array<double> mean, covariance;
};
Exact exact(const Case& c, double noise, double in_variance = 1) {
  const Array<double> a = jacobian(c, c.x, in_variance), b = jacobian(c, c.x_new, in_variance);
  const Array<double> weight = product(product(b, transposed(a)), inverse(plus_diagonal(product(a, transposed(a)), noise * noise)));
  const Array<double> residual = (c.y - value(c, c.x)).reshaped({c.y.size()}), f0 = value(c, c.x_new);
  return {f0 + product(weight, residual).reshaped(f0.shape()), product(b, transposed(b)) - product(weight, product(a, transposed(b)))};
}
Weights moved(const Weights& from, std::size_t leaf, Index entry, double by) {
  Weights to = from;
  to.leaves()[leaf]->data()[entry] += by;
  return to;
}
template <Scalar T> Tree<Array<T>> narrowed(const Weights& tree) {
  return map([](const Array<double>& a) { return cast<T>(a); }, tree);
}

}  // namespace

TEST_CASE("means and variances are those of explicit Jacobians, for one output and for several, with variances of weights") {
  for (const auto& [n, width, outputs] : std::vector<std::array<Index, 3>>{{1, 4, 1}, {7, 5, 1}, {6, 8, 3}, {12, 2, 2}})
    for (const double in_variance : {1.0, 0.3}) {
      const Case c = network_case(n, width, outputs, 1);
      const Exact expected = exact(c, 0.2, in_variance);
      const auto at = posterior(network, c.params, c.x, c.y, {.noise = 0.2, .variances = {{"in", rate(in_variance)}}}).predict(c.x_new);
      CHECK(difference(at.mean, expected.mean) <= 1e-11);
      REQUIRE(at.variance.shape() == expected.mean.shape());
      for (Index i = 0; i < at.variance.size(); ++i) CHECK(at.variance.data()[i] == doctest::Approx(expected.covariance[{i, i}]).epsilon(1e-9));
      const auto narrow = posterior<float>(network, narrowed<float>(c.params), cast<float>(c.x), cast<float>(c.y), {.noise = 0.2, .variances = {{"in", rate(in_variance)}}}).predict(cast<float>(c.x_new));
      CHECK(difference(cast<double>(narrow.variance), at.variance) <= 1e-4);
      CHECK(difference(cast<double>(narrow.mean), at.mean) <= 1e-4);
    }
}

TEST_CASE("of one output it is Gaussian process regression on what the first weights leave") {
  const Case c = network_case(9, 6, 1, 2);
  const auto at = posterior(network, c.params, c.x, c.y, {.noise = 0.3}).predict(c.x_new);
  const auto k = [&](const Array<double>& a, const Array<double>& b) { return linnet::ntk::full<double>(network, c.params, a, b).matrix(); };
  const Gaussian gp = gp_inference<double>({k(c.x, c.x)}, c.y - value(c, c.x), {.ridge = 0.09}).predict<double>({k(c.x_new, c.x)}, k(c.x_new, c.x_new));
  CHECK(difference(at.mean, value(c, c.x_new) + gp.mean) <= 1e-11);
  for (Index i = 0; i < 5; ++i) CHECK(at.variance.data()[i] == doctest::Approx(gp.covariance[{i, i}]).epsilon(1e-9));
}

TEST_CASE("the mean weights are those of gradient flow with ridge at infinity, and answer the mean outputs") {
  const Case c = network_case(8, 5, 2, 3);
  const auto model = posterior(network, c.params, c.x, c.y, {.noise = 0.4, .variances = {{"out", rate(2)}}});
  const Weights mean = model.mean(), flow = gradient_flow(network, c.params, c.x, c.y, {.ridge = 0.4 * 0.4, .rates = {{"out", rate(2)}}})(infinity).weights();
  for (std::size_t l = 0; l < 2; ++l) CHECK(difference(*mean.leaves()[l], *flow.leaves()[l]) <= 1e-12);
  CHECK(difference(model.linearized(mean, c.x_new), model.predict(c.x_new).mean) <= 1e-12);
  const Weights again = model.trained(c.params, c.y);
  for (std::size_t l = 0; l < 2; ++l) CHECK(difference(*mean.leaves()[l], *again.leaves()[l]) <= 1e-12);
  CHECK(model.rank() == 16);
}

TEST_CASE("no variance is negative: examples trained on, beside them, without noise, from few weights and from duplicates") {
  for (const auto& [n, width, outputs] : std::vector<std::array<Index, 3>>{{30, 40, 1}, {30, 3, 2}, {4, 50, 2}}) {
    Case c = network_case(n, width, outputs, 4);
    std::copy_n(c.x.data(), 3, c.x.data() + 3);
    Draw draw(5);
    Array<double> near({200, 3});
    for (Index i = 0; i < near.size(); ++i) near.data()[i] = c.x.data()[i % c.x.size()] + (i < 300 ? 0 : 1e-6 * draw());
    const Array<double> prior = linnet::ntk::diagonal<double>(network, c.params, near);
    for (const double noise : {0.0, 1e-8, 1e-4, 1e-1, 1e4}) {
      const auto at = posterior(network, c.params, c.x, c.y, {.noise = noise}).predict(near);
      for (Index i = 0; i < at.variance.size(); ++i) {
        CHECK(at.variance.data()[i] >= 0);
        CHECK(at.variance.data()[i] <= prior.data()[i] * (1 + 1e-12));
        if (i < 90 * outputs && noise <= 1) CHECK(at.variance.data()[i] <= noise * noise * (1 + 1e-6) + 1e-9 * prior.data()[i]);  // was trained on
      }
    }
  }
}

TEST_CASE("training from every start is affine, and carries the prior and the noise to the posterior's covariance exactly") {
  const Case c = network_case(6, 4, 2, 6);
  const double noise = 0.3, in_variance = 0.5;
  const auto model = posterior(network, c.params, c.x, c.y, {.noise = noise, .variances = {{"in", rate(in_variance)}}});
  const Array<double> base = model.linearized(model.trained(c.params, c.y), c.x_new);
  const Index rows = base.size();
  Array<double> covariance({rows, rows});
  const auto add = [&](const Array<double>& outputs, double variance) {
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < rows; ++j) covariance[{i, j}] += variance * (outputs.data()[i] - base.data()[i]) * (outputs.data()[j] - base.data()[j]);
  };
  for (std::size_t l = 0; l < 2; ++l)
    for (Index i = 0; i < c.params.leaves()[l]->size(); ++i) add(model.linearized(model.trained(moved(c.params, l, i, 1), c.y), c.x_new), l == 0 ? in_variance : 1);
  for (Index i = 0; i < c.y.size(); ++i) {
    Array<double> targets = c.y;
    targets.data()[i] += 1;
    add(model.linearized(model.trained(c.params, targets), c.x_new), noise * noise);
  }
  CHECK(difference(covariance, exact(c, noise, in_variance).covariance) <= 1e-11);
}

TEST_CASE("samples have the posterior's mean and covariance within their error") {
  const Case c = network_case(6, 5, 1, 7);
  const auto model = posterior(network, c.params, c.x, c.y, {.noise = 0.5});
  const Exact expected = exact(c, 0.5);
  constexpr int count = 4000;
  Array<double> sum({5}), products({5, 5});
  for (int s = 0; s < count; ++s) {
    const Array<double> f = model.linearized(model.sample(static_cast<std::uint64_t>(s)), c.x_new) - expected.mean;
    for (Index i = 0; i < 5; ++i) {
      sum.data()[i] += f.data()[i] / count;
      for (Index j = 0; j < 5; ++j) products[{i, j}] += f.data()[i] * f.data()[j] / count;
    }
  }
  const Array<double>& k = expected.covariance;
  for (Index i = 0; i < 5; ++i) {
    CHECK(std::abs(sum.data()[i]) <= 4 * std::sqrt(k[{i, i}] / count));
    for (Index j = 0; j < 5; ++j) CHECK(std::abs(products[{i, j}] - k[{i, j}]) <= 4 * std::sqrt((k[{i, i}] * k[{j, j}] + k[{i, j}] * k[{i, j}]) / count));
  }
}

TEST_CASE("where targets say nothing samples are the prior, standard normal by their moments, each its own") {
  Draw draw(8);
  const Weights params{{"in", draw.array({3, 101})}, {"out", draw.array({101, 101})}};
  const Array<double> x = draw.array({1, 3}), y = draw.array({1, 101});
  const auto model = posterior(network, params, x, y, {.noise = 1e8, .variances = {{"in", rate(4)}}});
  const auto noise_of = [&](const Weights& theta, const char* name) { return theta[name].leaf() - params[name].leaf(); };
  const Array<double> z = noise_of(model.sample(3), "out"), in = noise_of(model.sample(3), "in");
  double moments[5] = {}, neighbours = 0, others = 0;
  const double n = static_cast<double>(z.size());
  const Array<double> other = noise_of(model.sample(4), "out"), seeded = noise_of(model.sample(3, 1), "out");
  for (Index i = 0; i < z.size(); ++i) {
    for (int k = 1; k <= 4; ++k) moments[k] += std::pow(z.data()[i], k) / n;
    neighbours += z.data()[i] * z.data()[(i + 1) % z.size()] / n;
    others += z.data()[i] * (other.data()[i] + seeded.data()[i]) / n;
  }
  CHECK(std::abs(moments[1]) <= 4 / std::sqrt(n));
  CHECK(std::abs(moments[2] - 1) <= 4 * std::sqrt(2 / n));
  CHECK(std::abs(moments[3]) <= 4 * std::sqrt(15 / n));
  CHECK(std::abs(moments[4] - 3) <= 4 * std::sqrt(96 / n));
  CHECK(std::abs(neighbours) <= 4 / std::sqrt(n));
  CHECK(std::abs(others) <= 4 * std::sqrt(2 / n));
  CHECK(dot(in, in) / static_cast<double>(in.size()) == doctest::Approx(4).epsilon(4 * std::sqrt(2.0 / 303)));
  CHECK(model.sample(3) == model.sample(3));
  CHECK(max_abs(z - other) > 1);
  CHECK(max_abs(z - seeded) > 1);
}

TEST_CASE("networks drawn as they are initialized and trained for a time are the ensemble of the closed form") {
  Draw draw(9);
  const Array<double> x = draw.array({6, 8}), y = draw.array({6, 1}), x_new = draw.array({4, 8}), deviation = draw.array({8});
  const Weights zero{{"W", Array<double>({8, 1})}};
  const double noise = 0.4;
  const auto model = posterior(linear, zero, x, y, {.noise = noise});
  const auto covariance = [&](Array<double> a, Array<double> b) {
    for (Array<double>* of : {&a, &b})
      for (Index i = 0; i < of->size(); ++i) of->data()[i] *= deviation.data()[i % 8];
    return product(a, transposed(b));
  };
  const EnsembleKernels<double> train{covariance(x, x), product(x, transposed(x))}, test{covariance(x_new, x), product(x_new, transposed(x))};
  const Ensemble ensemble = gradient_flow_ensemble(train, y, {.ridge = noise * noise});
  for (const double t : {0.0, 0.5, 20.0, infinity}) {
    CAPTURE(t);
    const Gaussian expected = ensemble.predict(test, covariance(x_new, x_new), t);
    const Array<double> base = model.linearized(model.trained(zero, y, t), x_new);
    CHECK(difference(base, expected.mean) <= 1e-12);
    Array<double> came({4, 4});
    for (Index p = 0; p < 8; ++p) {
      const Array<double> f = model.linearized(model.trained(moved(zero, 0, p, deviation.data()[p]), y, t), x_new) - base;
      for (Index i = 0; i < 4; ++i)
        for (Index j = 0; j < 4; ++j) came[{i, j}] += f.data()[i] * f.data()[j];
    }
    CHECK(difference(came, expected.covariance) <= 1e-11);
  }
}

TEST_CASE("the evidence is the density of the targets, and is largest near the noise that there is") {
  const Weights zero{{"W", Array<double>({1, 1})}};
  const Array<double> x({2, 1}, {1, 2}), y({2, 1}, {0.3, -0.4});
  // K + s^2 = [[1 + s^2, 2], [2, 4 + s^2]]
  const double s2 = 0.25, a = 1 + s2, d = 4 + s2, determinant = a * d - 4;
  const double square = (d * 0.09 - 4 * 0.3 * -0.4 + a * 0.16) / determinant;
  CHECK(posterior(linear, zero, x, y, {.noise = 0.5}).log_evidence() == doctest::Approx(-0.5 * (square + std::log(determinant)) - std::log(2 * std::acos(-1.0))).epsilon(1e-12));
  CHECK_THROWS_WITH_AS(posterior(linear, zero, x, y, {.noise = 0}).log_evidence(), doctest::Contains("posterior: K + noise^2 is singular to rounding (1 of 2 eigenvalues are above"), NumericalError);

  Draw draw(10);
  const Array<double> many = draw.array({200, 3}), truth = draw.array({3, 1});
  Array<double> targets = product(many, truth);
  for (double& v : targets) v += 0.1 * std::sqrt(3.0) * draw();  // of standard deviation 0.1
  const Weights params{{"W", Array<double>({3, 1})}};
  const auto evidence = [&](double noise) { return posterior(linear, params, many, targets, {.noise = noise}).log_evidence(); };
  CHECK(evidence(0.1) > evidence(0.05));
  CHECK(evidence(0.1) > evidence(0.2));
}

TEST_CASE("what the posterior refuses is said in sentences") {
  const Case c = network_case(4, 5, 2, 11);
  const auto make = [&](const PosteriorOptions& o) { return posterior(network, c.params, c.x, c.y, o); };
  CHECK_THROWS_WITH_AS(make({.noise = -1}), "posterior: the noise must be finite and not negative, got -1", NumericalError);
  CHECK_THROWS_WITH_AS(make({.noise = infinity}), "posterior: the noise must be finite and not negative, got inf", NumericalError);
  CHECK_THROWS_WITH_AS(make({.variances = {{"in", rate(-1)}}}), doctest::Contains("rates must be finite and not negative"), NumericalError);
  CHECK_THROWS_WITH_AS(posterior(network, c.params, Array<double>({0, 3}), Array<double>({0, 2})), "posterior: x is [0,3]; there must be at least one example", ShapeError);
  CHECK_THROWS_WITH_AS(posterior(network, c.params, c.x, Array<double>({4, 1})), "posterior: y is [4,1], the outputs f(params, x) it is the target of are [4,2]; reshape y to that", ShapeError);
  CHECK_THROWS_WITH_AS(posterior(network, c.params, c.x, Array<double>({4, 2}, infinity)), "posterior: y has inf at [0,0]; every value must be finite", NumericalError);
  const auto model = make({.variances = {{"in", rate(0)}}});
  CHECK_THROWS_WITH_AS(model.predict(Array<double>({2, 4})), "posterior: x_new is [2,4], the examples trained on are [4,3]; they may differ in the leading axis only", ShapeError);
  CHECK_THROWS_WITH_AS(model.predict(Array<double>({1, 3}, infinity)), "posterior: x_new has inf at [0,0]; every value must be finite", NumericalError);
  CHECK_THROWS_WITH_AS(model.trained(c.params, c.y, -1), "posterior: the time must not be negative, got -1", NumericalError);
  CHECK_THROWS_WITH_AS(model.trained(c.params, Array<double>({8})), "posterior: the targets are [8], y is [4,2]; reshape them to that", ShapeError);
  CHECK_THROWS_WITH_AS(model.trained(moved(c.params, 0, 4, 1), c.y), "posterior: 'in' of start differs from params at [0,4], where its variance is 0; leave it as it is, or give it a variance", StructureError);
  CHECK_THROWS_WITH_AS(model.linearized(Weights({{"in", c.params["in"]}}), c.x), "posterior: the tree has leaves [in], expected [in, out]", StructureError);
  CHECK(model.predict(Array<double>({0, 3})).mean.shape() == Shape{0, 2});
  CHECK(model.linearized(c.params, Array<double>({0, 3})).shape() == Shape{0, 2});
  CHECK(model.sample(0)["in"] == c.params["in"]);
}

TEST_CASE_TEMPLATE("posteriors and their samples have the same bits for any number of threads", T, float, double) {
  const Case c = network_case(90, 60, 2, 12);
  const auto numbers = [&] {
    const auto model = posterior<T>(network, narrowed<T>(c.params), cast<T>(c.x), cast<T>(c.y));
    const auto at = model.predict(cast<T>(c.x_new));
    std::vector<T> all(at.mean.begin(), at.mean.end());
    all.insert(all.end(), at.variance.begin(), at.variance.end());
    const Tree<Array<T>> theta = model.sample(7);
    for (const Array<T>* leaf : theta.leaves()) all.insert(all.end(), leaf->begin(), leaf->end());
    all.push_back(static_cast<T>(model.log_evidence()));
    return all;
  };
  const int before = linnet::autodiff::threads();
  linnet::autodiff::set_threads(1);
  const auto expected = numbers();
  for (const int threads : {2, 3}) {
    linnet::autodiff::set_threads(threads);
    const auto came = numbers();
    CHECK(std::memcmp(came.data(), expected.data(), expected.size() * sizeof(T)) == 0);
  }
  linnet::autodiff::set_threads(before);
}
