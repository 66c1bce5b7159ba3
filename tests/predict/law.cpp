// Every row of the table of dynamics: one eigenvalue against its recurrence in long double, and weights, outputs and coefficients of linear networks
// against ten thousand steps of training them.
#include "linnet/predict/law.h"

#include "linnet/autodiff/ops.h"
#include "linnet/predict/affine.h"
#include "linnet/predict/predict.h"
#include "linnet/tests/predict/problem.h"

#include <doctest/doctest.h>

using linnet::autodiff::NumericalError;
using linnet::autodiff::Tree;
using linnet::autodiff::Var;
using linnet::predict::Law;
using linnet::predict::max_learning_rate;
using linnet::predict::Motion;
using linnet::predict::Response;
using linnet::predict::response;
using linnet::predict::shrink;
using problem::Array, problem::bound, problem::conditioned, problem::difference, problem::Draw, problem::eight, problem::Index, problem::infinity, problem::Problem, problem::product,
    problem::Shape, problem::transposed;

namespace {

const std::vector<Law> step_laws = {
    {.motion = Motion::gradient_descent},
    {.motion = Motion::gradient_descent, .ridge = .3},
    {.motion = Motion::gradient_descent, .weight_decay = 1e-2},
    {.motion = Motion::gradient_descent, .ridge = .02, .weight_decay = 1e-3},
    {.motion = Motion::momentum, .momentum = .9},
    {.motion = Motion::momentum, .ridge = .1, .weight_decay = 2e-3, .momentum = .5},
    {.motion = Motion::momentum, .momentum = .9, .nesterov = true},
    {.motion = Motion::momentum, .ridge = .05, .weight_decay = 1e-3, .momentum = .8, .nesterov = true},
};
const std::vector<Law> flow_laws = {
    {.motion = Motion::gradient_flow},
    {.motion = Motion::gradient_flow, .ridge = .3},
    {.motion = Motion::gradient_flow, .weight_decay = 1e-2},
    {.motion = Motion::gradient_flow, .ridge = .02, .weight_decay = 3e-2},
    {.motion = Motion::momentum_flow, .momentum = .9},
    {.motion = Motion::momentum_flow, .ridge = .2, .weight_decay = 2e-2, .momentum = .3},
};
std::vector<Law> all_laws() {
  std::vector<Law> all = step_laws;
  all.insert(all.end(), flow_laws.begin(), flow_laws.end());
  return all;
}

// The steps themselves, for one mode: a unit residual if `own`, a unit component of A theta0 otherwise. What is trained is c and s - 1.
struct Recurrence {
  long double c = 0, cv = 0, s = 0, sv = 0;
  void step(const Law& law, long double lambda, long double rows, bool own) {
    const long double m = law.momentum, gc = ((own ? 1.0L : s) + lambda * c + law.ridge * c) / rows + law.weight_decay * c, gs = law.ridge / rows * s + law.weight_decay * (1 + s);
    cv = m * cv + gc, sv = m * sv + gs;
    c -= law.rate * (law.nesterov ? gc + m * cv : cv), s -= law.rate * (law.nesterov ? gs + m * sv : sv);
  }
};

double relative(double value, long double exact) { return static_cast<double>(std::abs(value - exact) / std::max(std::abs(exact), 1e-300L)); }

// f = x W + 0.7, so that f0 is not A theta0.
Var shifted(const Tree<Var>& params, const Var& x) { return dot(x, params["W"]) + 0.7; }

using Vector = std::vector<long double>;

// Training itself, in long double: weights, their velocity, and single rates p.
struct Trainer {
  const Problem& p;
  Law law;
  Vector rates, theta, velocity;
  Trainer(const Problem& problem, const Law& of) : p(problem), law(of), rates(problem.p(), 1), theta(problem.theta0.begin(), problem.theta0.end()), velocity(problem.p(), 0) {}

  Vector gradient(const Vector& at) const {
    const Index n = p.n(), m = p.p();
    Vector g(at.size());
    for (Index i = 0; i < n; ++i) {
      long double error = 0.7L - p.y.data()[i];
      for (Index j = 0; j < m; ++j) error += static_cast<long double>(p.a.data()[i * m + j]) * at[j];
      for (Index j = 0; j < m; ++j) g[j] += error * p.a.data()[i * m + j] / n;
    }
    for (Index j = 0; j < m; ++j) g[j] = rates[j] == 0 ? 0 : rates[j] * g[j] + law.ridge / static_cast<long double>(n) * (at[j] - p.theta0.data()[j]) + law.weight_decay * static_cast<long double>(at[j]);
    return g;
  }
  void step() {
    const Vector g = gradient(theta);
    for (std::size_t j = 0; j < g.size(); ++j) {
      velocity[j] = law.momentum * velocity[j] + g[j];
      theta[j] -= law.rate * (law.nesterov ? g[j] + law.momentum * velocity[j] : velocity[j]);
    }
  }
  // A Runge-Kutta step of fourth order, of theta and its velocity.
  void flow(long double h) {
    const bool second = law.motion == Motion::momentum_flow;
    const long double root = std::sqrt(static_cast<long double>(law.rate)), friction = (1 - law.momentum) / root;
    const auto slope = [&](const Vector& at, const Vector& v) {
      const Vector g = gradient(at);
      std::pair<Vector, Vector> d{Vector(at.size()), Vector(at.size())};
      for (std::size_t j = 0; j < at.size(); ++j) {
        d.first[j] = second ? root * v[j] : -law.rate * g[j];
        d.second[j] = second ? root * (-friction * v[j] - g[j]) : 0;
      }
      return d;
    };
    const auto moved = [](const Vector& a, long double s, const Vector& b) {
      Vector c = a;
      for (std::size_t j = 0; j < a.size(); ++j) c[j] += s * b[j];
      return c;
    };
    const auto k1 = slope(theta, velocity), k2 = slope(moved(theta, h / 2, k1.first), moved(velocity, h / 2, k1.second)),
               k3 = slope(moved(theta, h / 2, k2.first), moved(velocity, h / 2, k2.second)), k4 = slope(moved(theta, h, k3.first), moved(velocity, h, k3.second));
    for (std::size_t j = 0; j < theta.size(); ++j) {
      theta[j] += h / 6 * (k1.first[j] + 2 * k2.first[j] + 2 * k3.first[j] + k4.first[j]);
      velocity[j] += h / 6 * (k1.second[j] + 2 * k2.second[j] + 2 * k3.second[j] + k4.second[j]);
    }
  }
  Array<double> weights() const {
    Array<double> w(Shape{p.p(), 1});
    for (Index j = 0; j < p.p(); ++j) w.data()[j] = static_cast<double>(theta[j]);
    return w;
  }
  Array<double> outputs(const Array<double>& a) const {
    Array<double> f(Shape{a.shape()[0], 1});
    for (Index i = 0; i < a.shape()[0]; ++i) {
      long double sum = 0.7L;
      for (Index j = 0; j < p.p(); ++j) sum += theta[j] * a[{i, j}];
      f.data()[i] = static_cast<double>(sum);
    }
    return f;
  }
};

linnet::predict::Training<double> training_of(const Problem& p, const Law& law, const linnet::predict::Rates& rates = {}) {
  const Tree<Array<double>> params = {{"W", p.theta0.reshaped(Shape{p.p(), 1})}};
  const Array<double> y = p.y.reshaped(Shape{p.n(), 1});
  const linnet::predict::FlowOptions plain{.rate = law.rate, .ridge = law.ridge, .weight_decay = law.weight_decay, .rates = rates};
  const linnet::predict::MomentumOptions heavy{.rate = law.rate, .momentum = law.momentum, .nesterov = law.nesterov, .ridge = law.ridge, .weight_decay = law.weight_decay, .rates = rates};
  switch (law.motion) {
    case Motion::gradient_flow: return gradient_flow(shifted, params, p.a, y, plain);
    case Motion::gradient_descent: return gradient_descent(shifted, params, p.a, y, plain);
    case Motion::momentum: return momentum(shifted, params, p.a, y, heavy);
    default: return momentum_flow(shifted, params, p.a, y, heavy);
  }
}

void compare(const linnet::predict::Trained<double>& at, const Trainer& trained, double allowed) {
  const Problem& p = trained.p;
  CHECK(difference(at.weights()["W"], trained.weights()) <= allowed);
  CHECK(difference(at.train(), trained.outputs(p.a)) <= allowed);
  CHECK(difference(at.predict(p.a_test), trained.outputs(p.a_test)) <= allowed);
  CHECK(difference(at.linearized(p.a_test), trained.outputs(p.a_test)) <= allowed);
  const Array<double> error = trained.outputs(p.a) - p.y.reshaped(Shape{p.n(), 1});
  const double loss = dot(error, error) / (2 * static_cast<double>(p.n()));
  CHECK(std::abs(at.loss() - loss) <= allowed * std::max(1.0, loss));
}

}  // namespace

TEST_CASE("one eigenvalue after ten thousand steps is what the steps themselves give, from zero to the edge") {
  const double rows = 24;
  for (Law law : step_laws)
    for (const double share : {0.0, 1e-12, 1e-6, 1e-3, .1, .5, .97, .9999}) {  // of the edge
      CAPTURE(law.name());
      CAPTURE(law.ridge);
      CAPTURE(share);
      law.rate = 7;
      const double lambda = share * (law.edge() * rows / law.rate - law.shift(rows));
      Recurrence own, pulled;
      for (int steps = 0; steps <= 10000; ++steps) {
        if (steps == 1 || steps == 2 || steps == 37 || steps == 10000) {
          const Response r = response(law, lambda, rows, steps);
          CHECK(relative(r.coefficient, own.c) <= 1e-12);
          CHECK(std::abs(r.change - lambda * own.c) <= 1e-12);
          CHECK(std::abs(r.left - (1 + lambda * own.c)) <= 1e-12);
          CHECK(std::abs(shrink(law, rows, steps) - own.s) <= 1e-12);
          if (law.weight_decay > 0) {
            CHECK(std::abs(r.pull_coefficient - pulled.c) <= 1e-12 * static_cast<double>(std::abs(own.c)));
            CHECK(std::abs(r.pull_change - (lambda * pulled.c + pulled.s)) <= 1e-12);
          }
        }
        own.step(law, lambda, rows, true);
        pulled.step(law, lambda, rows, false);
      }
    }
}

TEST_CASE("beyond the edge one eigenvalue grows as its steps do, and at the edge it does not settle") {
  const double rows = 10;
  for (Law law : {Law{.motion = Motion::gradient_descent}, Law{.motion = Motion::momentum, .momentum = .9}, Law{.motion = Motion::momentum, .momentum = .9, .nesterov = true}}) {
    CAPTURE(law.name());
    for (const double share : {1.001, 1.05, 1.5}) {
      const double lambda = share * law.edge() * rows;
      Recurrence own;
      for (int steps = 0; steps < 300; ++steps) own.step(law, lambda, rows, true);
      if (share > 1.01) CHECK(std::abs(own.c * lambda) > 1e3);
      CHECK(relative(response(law, lambda, rows, 300).coefficient, own.c) <= 1e-12);
    }
    law.rate = .5;
    Recurrence own;
    for (int steps = 0; steps < 10001; ++steps) own.step(law, 2 * law.edge() * rows, rows, true);
    CHECK(std::abs(own.c) * 2 * law.edge() * rows >= 1.5);
    CHECK(relative(response(law, 2 * law.edge() * rows, rows, 10001).coefficient, own.c) <= 1e-10);
  }
}

TEST_CASE("the limits of one eigenvalue are those of many steps, for every law") {
  for (const Law& law : all_laws())
    for (const double lambda : {1e-3, .2, 1.0}) {
      CAPTURE(law.name());
      const Response last = response(law, lambda, 3, infinity), late = response(law, lambda, 3, 0x1p40);
      CHECK(late.coefficient == doctest::Approx(last.coefficient).epsilon(1e-12));
      CHECK(last.coefficient == doctest::Approx(-1 / (lambda + law.shift(3))).epsilon(1e-14));
      CHECK(std::abs(late.change - last.change) <= 1e-12);
      CHECK(std::abs(late.left - last.left) <= 1e-12);
      CHECK(std::abs(late.pull_coefficient - last.pull_coefficient) <= 1e-12 * std::max(1.0, std::abs(last.pull_coefficient)));
      CHECK(std::abs(late.pull_change - last.pull_change) <= 1e-12);
      CHECK(shrink(law, 3, 0x1p40) == doctest::Approx(shrink(law, 3, infinity)).epsilon(1e-12));
      CHECK(response(law, lambda, 3, 0).coefficient == 0);
      CHECK(response(law, lambda, 3, 0).left == 1);
      CHECK(shrink(law, 3, 0) == 0);
    }
}

TEST_CASE("an eigenvalue of zero drifts without an end, by as much as was asked") {
  CHECK(response({.motion = Motion::gradient_descent, .rate = 3}, 0, 6, 0x1p50).coefficient == -0x1p49);
  CHECK(response({.motion = Motion::momentum, .rate = 1, .momentum = .75}, 0, 1, 0x1p50).coefficient == doctest::Approx(-0x1p52).epsilon(1e-12));
  CHECK(response({.motion = Motion::momentum_flow, .rate = 4, .momentum = .5}, 0, 2, 1e12).coefficient == doctest::Approx(-4e12).epsilon(1e-10));
}

TEST_CASE("powers and exponentials of a map are exact where they can be known") {
  linnet::predict::Affine<2> map{{{{-.5, 3}, {0, 0}}}};  // z -> z/2 + 3
  CHECK(power(map, 0).d[0][1] == 0);
  CHECK(power(map, 1).d[0][1] == 3);
  CHECK(power(map, 3).d[0][0] == -.875);
  CHECK(power(map, 3).d[0][1] == 5.25);
  linnet::predict::Affine<3> rotation{{{{0, 1, 0}, {-1, 0, 0}, {0, 0, 0}}}};
  for (const double t : {0.0, 1e-200, .1, 3.0, 700.0}) {
    CHECK(exponential(rotation, 1, t).d[0][0] == doctest::Approx(std::cos(t) - 1).epsilon(1e-11));
    CHECK(exponential(rotation, 1, t).d[0][1] == doctest::Approx(std::sin(t)).epsilon(1e-11));
  }
}

TEST_CASE("ten thousand steps of training a linear network end where the closed form says, for every law of steps") {
  Draw draw(21);
  Array<double> twice = draw.array(Shape{12, 20});  // singular, exactly
  for (Index j = 0; j < 20; ++j) twice[{3, j}] = twice[{10, j}];
  for (const Problem& p : {conditioned("condition 100", 12, 20, 12, 100, draw), problem::of("a row twice", twice, draw), conditioned("more rows than parameters", 14, 5, 5, 10, draw)}) {
    for (Law law : step_laws) {
      CAPTURE(p.name);
      CAPTURE(law.name());
      CAPTURE(law.ridge);
      CAPTURE(law.nesterov);
      law.rate = .6 * training_of(p, law).max_rate();
      const auto training = training_of(p, law);
      Trainer trained(p, law);
      for (int steps = 0; steps <= 10000; ++steps) {
        if (steps == 0 || steps == 1 || steps == 100 || steps == 10000) compare(training(steps), trained, 1e-12);
        trained.step();
      }
    }
  }
}

TEST_CASE("ten thousand fine steps along a flow end where the closed form says, for every law of flows") {
  Draw draw(22);
  const Problem p = conditioned("condition 100", 10, 16, 10, 100, draw);
  for (Law law : flow_laws) {
    CAPTURE(law.name());
    CAPTURE(law.ridge);
    law.rate = 9;
    const auto training = training_of(p, law);
    Trainer trained(p, law);
    for (int steps = 0; steps <= 10000; ++steps) {
      if (steps == 1000 || steps == 10000) compare(training(steps * 1e-3), trained, 1e-12);
      trained.flow(1e-3L);
    }
  }
}

TEST_CASE("beyond the edge training diverges as the closed form does, which says the largest rate and when it overflows") {
  Draw draw(23);
  const Problem p = conditioned("condition 100", 12, 20, 12, 100, draw);
  for (Law law : {step_laws[0], step_laws[4], step_laws[6]}) {
    law.rate = 1.005 * law.edge() * 12;
    const auto training = training_of(p, law);
    CHECK(training.max_rate() == doctest::Approx(law.edge() * 12).epsilon(1e-13));
    Trainer trained(p, law);
    for (int steps = 0; steps < 3000; ++steps) trained.step();
    CHECK(max_abs(trained.weights()) > 1e3);
    const auto at = training(3000);
    const Array<double> w = at.weights()["W"];
    CHECK(max_abs(w - trained.weights()) <= 1e-9 * max_abs(trained.weights()));
    CHECK(max_abs(at.train() - trained.outputs(p.a)) <= 1e-9 * max_abs(trained.outputs(p.a)));
    CHECK(at.loss() > 1e3 * training(0).loss());
    CHECK_THROWS_WITH_AS(training(infinity).train(), doctest::Contains("the steps do not converge, so there is no t = infinity: the rate is "), NumericalError);
    CHECK_THROWS_WITH_AS(training(1e9).train(), doctest::Contains("train: after 1e+09 steps of "), NumericalError);
    CHECK_THROWS_WITH_AS(training(1e9).loss(), doctest::Contains("loss: the squares of f - y after t = 1e+09 of "), NumericalError);
  }
  // One row of one weight at the edge itself jumps between two answers.
  const Problem one = problem::of("one", Array<double>(Shape{1, 1}, {1.0}), draw);
  const auto training = training_of(one, {.motion = Motion::gradient_descent, .rate = 2});
  CHECK(difference(training(1e6).train(), training(0).train()) < 1e-9);
  CHECK(difference(training(1e6 + 1).train(), training(1).train()) < 1e-9);
  CHECK_THROWS_WITH_AS(training(infinity).weights(),
                       "gradient_descent: the steps do not converge, so there is no t = infinity: the rate is 2, and steps converge below 2, the largest rate for "
                       "lambda_max = 1 and N = 1; lower the rate, or ask for a finite number of steps",
                       NumericalError);
}

TEST_CASE("weight space and function space agree for every law, every kind of kernel and every time") {
  for (const Problem& p : eight(5))
    for (Law law : all_laws()) {
      law.rate = law.steps() ? .9 * training_of(p, law).max_rate() : 5;
      const auto training = training_of(p, law);
      const auto test = training.points(p.a_test);
      for (const double t : {0.0, 1.0, 17.0, 1e4, 1e9, 0x1p53, infinity}) {
        CAPTURE(p.name);
        CAPTURE(law.name());
        CAPTURE(t);
        const auto at = training(t);
        const double allowed = bound(at.condition());
        const Array<double> w = at.weights()["W"];
        CHECK(linnet::autodiff::first_not_finite<double>(w.values()) == -1);
        const Array<double> offset(Shape{p.n(), 1}, .7), offset_test(Shape{7, 1}, .7);
        CHECK(difference(product(p.a, w) + offset, at.train()) <= allowed);
        CHECK(difference(product(p.a_test, w) + offset_test, at.predict(test)) <= allowed);
        CHECK(difference(at.linearized(p.a_test), at.predict(p.a_test)) <= allowed);
      }
      CHECK(difference(training(0x1p53).train(), training(infinity).train()) <= bound(training(1).condition()));
    }
}

TEST_CASE("momentum of nothing is gradient descent, and small steps approach their flows") {
  const Problem p = eight(6)[0];
  const Law descent{.motion = Motion::gradient_descent, .rate = 20, .ridge = .1, .weight_decay = 1e-3};
  for (const bool nesterov : {false, true}) {
    Law law = descent;
    law.motion = Motion::momentum;
    law.nesterov = nesterov;
    CHECK(training_of(p, law)(50).train() == training_of(p, descent)(50).train());
  }
  double before = 0, before_heavy = 0;
  for (const double steps : {1000.0, 2000.0, 4000.0}) {
    Law law = descent, heavy{.motion = Motion::momentum, .rate = std::pow(300 / steps, 2), .ridge = .1, .weight_decay = 1e-3, .momentum = 1 - 100 / steps};
    law.rate = 1000 / steps;
    const double error = max_abs(training_of(p, law)(steps).train() - training_of(p, {.motion = Motion::gradient_flow, .rate = 1000 / steps, .ridge = .1, .weight_decay = 1e-3})(steps).train());
    Law limit = heavy;
    limit.motion = Motion::momentum_flow;
    const double error_heavy = max_abs(training_of(p, heavy)(steps).train() - training_of(p, limit)(steps).train());
    if (before > 0) {
      CHECK(before / error == doctest::Approx(2).epsilon(.05));
      CHECK(before_heavy / error_heavy == doctest::Approx(2).epsilon(.1));
    }
    before = error;
    before_heavy = error_heavy;
  }
}

TEST_CASE("with weight decay the end is the ridge regression towards zero, wherever training began") {
  Draw draw(24);
  Problem p = conditioned("rank 6 of 12", 12, 20, 6, 50, draw);
  const Law law{.motion = Motion::gradient_flow, .weight_decay = .05};
  const Array<double> first = training_of(p, law)(infinity).weights()["W"];
  p.theta0 = draw.array(Shape{20});
  CHECK(difference(training_of(p, law)(infinity).weights()["W"], first) < 1e-13);
  Trainer end(p, law);
  for (Index j = 0; j < 20; ++j) end.theta[j] = first.data()[j];
  for (const long double g : end.gradient(end.theta)) CHECK(std::abs(g) < 1e-15L);
}

TEST_CASE("the largest rate follows from the motion, the rows and the largest eigenvalue") {
  CHECK(max_learning_rate(4, 10) == 5);
  CHECK(max_learning_rate(4, 10, .5) == 7.5);
  CHECK(max_learning_rate(4, 10, .5, true) == 3.75);
  CHECK(max_learning_rate(0, 10) == infinity);
  CHECK_THROWS_WITH_AS(max_learning_rate(-1, 10), "max_learning_rate: lambda_max is -1; the largest eigenvalue of a kernel is not negative", NumericalError);
  CHECK_THROWS_WITH_AS(max_learning_rate(1, 0), "max_learning_rate: there are 0 rows; N counts examples times outputs and is at least 1", NumericalError);
  CHECK_THROWS_WITH_AS(max_learning_rate(1, 1, 1), "max_learning_rate: the momentum must be in [0, 1), got 1", NumericalError);
  // Of two outputs alike: the traced kernel has half the rows, and the same rate.
  const Array<double> k(Shape{2, 2}, {2, 1, 1, 2}), full(Shape{4, 4}, {2, 0, 1, 0, 0, 2, 0, 1, 1, 0, 2, 0, 0, 1, 0, 2});
  CHECK(max_learning_rate(linnet::ntk::FullKernel<double>(full, 2, 2, 2)) == doctest::Approx(8. / 3).epsilon(1e-14));
  CHECK(max_learning_rate(linnet::predict::TraceApproximation<double>{k, 2}) == doctest::Approx(8. / 3).epsilon(1e-14));
  CHECK(max_learning_rate(linnet::predict::TraceApproximation<float>{cast<float>(k), 2}, .5, true) == doctest::Approx(2).epsilon(1e-6));
  for (const Law& law : step_laws) {
    const Problem p = eight(7)[0];
    CHECK(training_of(p, law).max_rate() == doctest::Approx(max_learning_rate(1 + law.shift(24), 24, law.momentum, law.nesterov)).epsilon(1e-13));
  }
  CHECK(training_of(eight(7)[0], {}).max_rate() == infinity);
}

TEST_CASE("laws that are none are refused in words") {
  const Problem p = eight()[0];
  const auto make = [&](const Law& law) { training_of(p, law); };
  CHECK_THROWS_WITH_AS(make({.motion = Motion::gradient_descent, .rate = 0}), "gradient_descent: the rate must be positive and finite, got 0", NumericalError);
  CHECK_THROWS_WITH_AS(make({.motion = Motion::momentum, .ridge = -1}), "momentum: the ridge must be finite and not negative, got -1", NumericalError);
  CHECK_THROWS_WITH_AS(make({.weight_decay = infinity}), "gradient_flow: the weight decay must be finite and not negative, got inf", NumericalError);
  CHECK_THROWS_WITH_AS(make({.motion = Motion::momentum_flow, .momentum = 1}), "momentum_flow: the momentum must be in [0, 1), got 1", NumericalError);
  CHECK_THROWS_WITH_AS(make({.motion = Motion::momentum, .momentum = NAN}), "momentum: the momentum must be in [0, 1), got nan", NumericalError);
  CHECK_THROWS_WITH_AS(make({.motion = Motion::momentum_flow, .nesterov = true}), "momentum_flow: Nesterov's steps have no flow of their own; for small rates they become the heavy ball's, without nesterov", linnet::autodiff::StructureError);
  const auto steps = training_of(p, {.motion = Motion::gradient_descent, .rate = 10});
  CHECK_THROWS_WITH_AS(steps(1.5), "gradient_descent: t counts steps here and must be a whole number up to 2^53, or infinity, got 1.5; gradient_flow has a time", NumericalError);
  CHECK_THROWS_WITH_AS(steps(0x1p54), doctest::Contains("gradient_descent: t counts steps here and must be a whole number up to 2^53, or infinity, got 1.8"), NumericalError);
  CHECK_THROWS_WITH_AS(steps(-1), "gradient_descent: t must be a number from 0 to infinity, got -1", NumericalError);
  // Weights that decay by more than all at each step.
  const auto decays = training_of(p, {.motion = Motion::gradient_descent, .rate = 10, .weight_decay = 1});
  CHECK_THROWS_WITH_AS(decays.dynamics().shrink(1e4), "gradient_descent: the weights decay by more than all of them at each step and overflow after 10000 steps; lower the rate or the weight decay", NumericalError);
  CHECK_THROWS_WITH_AS(decays(1e4).weights(), doctest::Contains("coefficients: after 10000 steps of gradient_descent with rate 10 the answer overflows"), NumericalError);
}
