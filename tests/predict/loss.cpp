// The losses: values, gradients and Hessians against formulas in long double, where they are small and where they are large, and what they refuse.
#include "linnet/autodiff/derivative.h"
#include "linnet/autodiff/ops.h"
#include "linnet/autodiff/testing.h"
#include "linnet/predict/loss.h"
#include "linnet/tests/predict/problem.h"

#include <doctest/doctest.h>

#include <functional>

using linnet::autodiff::cast;
using linnet::autodiff::NumericalError;
using linnet::autodiff::Scalar;
using linnet::autodiff::ShapeError;
using linnet::autodiff::Var;
using linnet::predict::Loss;
using linnet::predict::LossOn;
using problem::Array, problem::Draw, problem::Index, problem::infinity, problem::Shape;

namespace {

using Real = long double;
using Reals = std::vector<Real>;

// What each loss means: its gradient, of outputs [n, k].
struct Meaning {
  std::string name;
  Loss loss;
  std::function<Reals(const Reals& f, const Reals& y, Index k)> gradient;
  bool smooth = true;
};

std::vector<Meaning> meanings() {
  const auto entries = [](auto slope) {
    return [slope](const Reals& f, const Reals& y, Index) {
      Reals g(f.size());
      for (std::size_t i = 0; i < f.size(); ++i) g[i] = slope(f[i], y[i]) / static_cast<Real>(f.size());
      return g;
    };
  };
  return {{"squared", Loss::squared(), entries([](Real f, Real y) { return f - y; })},
          {"logistic", Loss::logistic(), entries([](Real f, Real y) { return (1 - y) / (1 + std::exp(-f)) - y / (1 + std::exp(f)); })},
          {"huber", Loss::huber(.3), entries([](Real f, Real y) { return std::min<Real>(std::max<Real>(f - y, -.3), .3); }), false},
          {"softmax", Loss::softmax_cross_entropy(), [](const Reals& f, const Reals& y, Index k) {
             Reals g(f.size());
             for (std::size_t i = 0; i < f.size(); ++i) {
               const std::size_t first = i / static_cast<std::size_t>(k) * static_cast<std::size_t>(k);
               Real sum = 0;  // sum_j (p_i y_j - p_j y_i) of softmax p
               for (std::size_t j = first; j < first + static_cast<std::size_t>(k); ++j)
                 if (j != i) {
                   Real all_i = 0, all_j = 0;
                   for (std::size_t l = first; l < first + static_cast<std::size_t>(k); ++l) all_i += std::exp(f[l] - f[i]), all_j += std::exp(f[l] - f[j]);
                   sum += y[j] / all_i - y[i] / all_j;
                 }
               g[i] = sum / (static_cast<Real>(f.size()) / static_cast<Real>(k));
             }
             return g;
           }}};
}

Reals reals(const Array<double>& a) { return Reals(a.begin(), a.end()); }

Array<double> distributions(Index n, Index k, Draw& draw) {
  Array<double> y = draw.array(Shape{n, k});
  for (Index i = 0; i < n; ++i) {
    double sum = 0;
    for (Index j = 0; j < k; ++j) sum += y[{i, j}] = std::abs(y[{i, j}]);
    for (Index j = 0; j < k; ++j) y[{i, j}] /= sum;
  }
  return y;
}

double relative(const Array<double>& came, const Reals& expected) {
  Real error = 0, size = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    error = std::max(error, std::abs(static_cast<Real>(came.data()[i]) - expected[i]));
    size = std::max(size, std::abs(expected[i]));
  }
  return static_cast<double>(error / size);
}

}  // namespace

TEST_CASE("gradients of every loss are those of its formula, and Hessians their derivatives") {
  for (const Meaning& m : meanings())
    for (const double scale : {1e-3, 1.0, 5.0}) {
      CAPTURE(m.name);
      CAPTURE(scale);
      Draw draw(3);
      const Index n = 7, k = 4;
      const Array<double> f = scale * draw.array(Shape{n, k}), y = distributions(n, k, draw), v = draw.array(Shape{n, k});
      const LossOn loss("test", m.loss, f.shape(), y);
      Array<double> g(f.shape()), hv(f.shape());
      const double value = loss(f.data(), g.data());
      CHECK(value == loss(f.data()));
      CHECK(relative(g, m.gradient(reals(f), reals(y), k)) < 1e-14);
      loss.hessian_product(f.data(), v.data(), hv.data());
      const Real h = 1e-5L;
      Reals up = reals(f), down = up;
      for (std::size_t i = 0; i < up.size(); ++i) up[i] += h * v.data()[i], down[i] -= h * v.data()[i];
      const Reals g_up = m.gradient(up, reals(y), k), g_down = m.gradient(down, reals(y), k);
      Reals expected(g_up.size());
      for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = (g_up[i] - g_down[i]) / (2 * h);
      if (m.smooth || scale != 5.0) CHECK(relative(hv, expected) < 1e-8);
    }
}

TEST_CASE("what a loss is follows from its gradient: the value is its integral along a line") {
  for (const Meaning& m : meanings()) {
    CAPTURE(m.name);
    Draw draw(4);
    const Array<double> f = 3.0 * draw.array(Shape{5, 3}), y = distributions(5, 3, draw);
    const LossOn loss("test", m.loss, f.shape(), y);
    Array<double> g(f.shape());
    Real sum = 0;
    const int steps = 4000;
    for (int i = 0; i < steps; ++i) {
      const Array<double> at = y + ((i + .5) / steps) * (f - y);
      loss(at.data(), g.data());
      for (Index j = 0; j < g.size(); ++j) sum += static_cast<Real>(g.data()[j]) * (f - y).data()[j] / steps;
    }
    CHECK(loss(f.data()) - loss(y.data()) == doctest::Approx(static_cast<double>(sum)).epsilon(1e-6));
  }
}

TEST_CASE("where a loss is small, its gradient and value keep their relative accuracy, and where outputs are huge they are finite") {
  const Array<double> y(Shape{1, 3}, {0, 1, 0}), one(Shape{1, 1}, {1.0}), zero(Shape{1, 1}, {0.0});
  Array<double> g(Shape{1, 3}), h(Shape{1, 3}), g1(Shape{1, 1});
  const Array<double> f(Shape{1, 3}, {1, 81, 0}), v(Shape{1, 3}, {1, 0, 0});
  const LossOn softmax("test", Loss::softmax_cross_entropy(), f.shape(), y);
  CHECK(softmax(f.data(), g.data()) == doctest::Approx(std::exp(-80) + std::exp(-81)).epsilon(1e-13));
  CHECK(g[{0, 0}] == doctest::Approx(std::exp(-80)).epsilon(1e-13));
  CHECK(g[{0, 1}] == doctest::Approx(-std::exp(-80) - std::exp(-81)).epsilon(1e-13));
  softmax.hessian_product(f.data(), v.data(), h.data());
  CHECK(h[{0, 1}] == doctest::Approx(-std::exp(-80)).epsilon(1e-13));
  const LossOn positive("test", Loss::logistic(), one.shape(), one), negative("test", Loss::logistic(), one.shape(), zero);
  const double far = 300, back = -300, nothing = 0;
  CHECK(positive(&far, g1.data()) == doctest::Approx(std::exp(-300)).epsilon(1e-13));
  CHECK(g1.item() == doctest::Approx(-std::exp(-300)).epsilon(1e-13));
  CHECK(negative(&back, g1.data()) == doctest::Approx(std::exp(-300)).epsilon(1e-13));
  CHECK(g1.item() == doctest::Approx(std::exp(-300)).epsilon(1e-13));
  CHECK(positive(&nothing) == doctest::Approx(std::log(2)).epsilon(1e-15));
  const double unit = 1;
  positive.hessian_product(&nothing, &unit, g1.data());
  CHECK(g1.item() == doctest::Approx(.25).epsilon(1e-15));  // at outputs of exactly 0 too
  const Array<double> huge(Shape{1, 3}, {-1e300, 1e300, 0}), wrong(Shape{1, 3}, {1e300, -1e300, 0});
  CHECK(softmax(huge.data(), g.data()) == 0);
  CHECK(max_abs(g) == 0);
  CHECK(softmax(wrong.data(), g.data()) == doctest::Approx(2e300));
  CHECK(g == Array<double>(Shape{1, 3}, {1, -1, 0}));
}

TEST_CASE_TEMPLATE("losses are traced functions in either width, with derivatives of every order", T, float, double) {
  Draw draw(5);
  const Array<double> y = distributions(4, 3, draw), f = 2.0 * draw.array(Shape{4, 3});
  for (const Meaning& m : meanings()) {
    CAPTURE(m.name);
    const auto g = linnet::autodiff::grad([&](const Var& f, const Var& y) { return m.loss(f, y); }, cast<T>(f), cast<T>(y));
    CHECK(relative(cast<double>(g), m.gradient(reals(cast<double>(cast<T>(f))), reals(cast<double>(cast<T>(y))), 3)) < (std::is_same_v<T, float> ? 1e-6 : 1e-14));
    const auto failures = linnet::autodiff::check_derivatives([&](const Var& f) { return m.loss(f, linnet::autodiff::constant(y)); }, f, {.order = 2, .differences = m.smooth});
    CHECK_MESSAGE(failures.empty(), (failures.empty() ? "" : failures[0]));
  }
}

TEST_CASE("targets that are none of a loss are refused in a sentence") {
  const Shape f{2, 2};
  const auto made = [&](const Loss& loss, const Array<double>& y) { return LossOn("gradient_flow", loss, f, y); };
  CHECK_THROWS_WITH_AS(made(Loss::squared(), Array<double>(Shape{4})), "gradient_flow: y is [4], the outputs it is the target of are [2,2]; reshape y to that", ShapeError);
  CHECK_THROWS_WITH_AS(made(Loss::squared(), Array<double>(Shape{2, 2}, {0, 1, NAN, 0})), "gradient_flow: y has nan at [1,0]; every value must be finite", NumericalError);
  CHECK_THROWS_WITH_AS(made(Loss::logistic(), Array<double>(Shape{2, 2}, {0, 1, -1, 0})),
                       "gradient_flow: y is -1 at [1,0]; the logistic loss takes the probability of the positive class, in [0, 1] (labels -1 and 1 become 0 and 1)", NumericalError);
  CHECK_THROWS_WITH_AS(made(Loss::softmax_cross_entropy(), Array<double>(Shape{2, 2}, {0, 1, -1, 2})), "gradient_flow: y is -1 at [1,0]; softmax cross-entropy takes one-hot rows or probabilities", NumericalError);
  CHECK_THROWS_WITH_AS(made(Loss::softmax_cross_entropy(), Array<double>(Shape{2, 2}, {0, 1, 1, 1})),
                       "gradient_flow: the row of y at [1,0] sums to 2; softmax cross-entropy takes one-hot rows or probabilities, which sum to 1", NumericalError);
  CHECK_THROWS_WITH_AS(LossOn("gradient_flow", Loss::softmax_cross_entropy(), Shape{3, 1}, Array<double>(Shape{3, 1}, 1.0)),
                       "gradient_flow: softmax needs two classes or more in the last axis, the outputs are [3,1]; for one output of two classes take Loss::logistic()", ShapeError);
  CHECK_THROWS_WITH_AS(Loss::huber(0), "Loss::huber: delta must be positive and finite, got 0", NumericalError);
  CHECK_THROWS_WITH_AS(Loss::huber(infinity), "Loss::huber: delta must be positive and finite, got inf", NumericalError);
  CHECK_THROWS_WITH_AS(made(Loss([](const Var& f, const Var& y) { return square(f - y); }, "mine"), Array<double>(f)),
                       "gradient_flow: mine answered [2,2]; a loss is one number, the mean over all examples", ShapeError);
  CHECK_THROWS_AS(made(Loss([](const Var& f, const Var& y) { return sum(f - y); }), Array<double>(Shape{3})), ShapeError);
}

TEST_CASE("a loss that is linear, or constant in the outputs, has a Hessian of zeros") {
  const Array<double> y = Draw(6).array(Shape{3, 1}), f = Draw(7).array(Shape{3, 1});
  for (const Loss& loss : {Loss([](const Var& f, const Var& y) { return sum(f * y); }), Loss([](const Var&, const Var& y) { return sum(y); })}) {
    const LossOn on("test", loss, f.shape(), y);
    Array<double> product(f.shape(), 7.0);
    on.hessian_product(f.data(), y.data(), product.data());
    CHECK(max_abs(product) == 0);
  }
}
