// Ensembles and Gaussian processes: against networks that are linear in weights drawn at random, whose training is carried out; and against themselves.
#include "linnet/predict/ensemble.h"

#include "linnet/autodiff/kernels/parallel.h"
#include "linnet/predict/trained.h"
#include "linnet/tests/predict/problem.h"

#include <doctest/doctest.h>

using linnet::autodiff::cast;
using linnet::autodiff::NumericalError;
using linnet::autodiff::ShapeError;
using linnet::predict::EnsembleKernels;
using linnet::predict::EnsembleOptions;
using linnet::predict::Gaussian;
using linnet::predict::gp_inference;
using linnet::predict::gradient_flow_ensemble;
using problem::Array, problem::difference, problem::Draw, problem::Index, problem::infinity, problem::product, problem::Shape, problem::transposed;

namespace {

// Networks f = drawn theta + fixed xi, theta standard normal and xi zero before training. All are trained, or theta alone.
struct Networks {
  Array<double> drawn, fixed, drawn_test, fixed_test, y;
  Array<double> nngp(const Array<double>& a, const Array<double>& b) const { return product(a, transposed(b)); }
  EnsembleKernels<double> train(bool all) const {
    return {nngp(drawn, drawn), all ? nngp(drawn, drawn) + nngp(fixed, fixed) : Array<double>()};
  }
  EnsembleKernels<double> test(bool all) const {
    return {nngp(drawn_test, drawn), all ? nngp(drawn_test, drawn) + nngp(fixed_test, fixed) : Array<double>()};
  }
  Array<double> test_test() const { return nngp(drawn_test, drawn_test); }
};

Networks networks(Index n, Index width, std::uint64_t seed) {
  Draw draw(seed);
  return {draw.array(Shape{n, width}), draw.array(Shape{n, width}), draw.array(Shape{4, width}), draw.array(Shape{4, width}), draw.array(Shape{n, 2})};
}

using Rows = std::vector<std::vector<long double>>;
Rows side_by_side(const Array<double>& a, const Array<double>& b, bool all) {
  Rows rows(a.shape()[0]);
  for (Index i = 0; i < a.shape()[0]; ++i)
    for (Index j = 0; j < a.shape()[1] * (all ? 2 : 1); ++j) rows[i].push_back(j < a.shape()[1] ? a[{i, j}] : b[{i, j - a.shape()[1]}]);
  return rows;
}

// Runge-Kutta steps of fourth order for one network: weights w' = -(rate / N) (A^T (A w - target) + r (w - w0)).
std::vector<long double> trained(const Rows& a, std::vector<long double> w, const std::vector<long double>& target, long double per_row, long double r, long double t, int steps) {
  const std::vector<long double> start = w;
  const auto slope = [&](const std::vector<long double>& at) {
    std::vector<long double> d(at.size());
    for (std::size_t i = 0; i < a.size(); ++i) {
      long double error = -target[i];
      for (std::size_t j = 0; j < at.size(); ++j) error += a[i][j] * at[j];
      for (std::size_t j = 0; j < at.size(); ++j) d[j] -= per_row * error * a[i][j];
    }
    for (std::size_t j = 0; j < at.size(); ++j) d[j] -= per_row * r * (at[j] - start[j]);
    return d;
  };
  const auto moved = [](const std::vector<long double>& x, long double s, const std::vector<long double>& d) {
    std::vector<long double> z = x;
    for (std::size_t j = 0; j < x.size(); ++j) z[j] += s * d[j];
    return z;
  };
  const long double h = t / steps;
  for (int i = 0; i < steps; ++i) {
    const auto k1 = slope(w), k2 = slope(moved(w, h / 2, k1)), k3 = slope(moved(w, h / 2, k2)), k4 = slope(moved(w, h, k3));
    for (std::size_t j = 0; j < w.size(); ++j) w[j] += h / 6 * (k1[j] + 2 * k2[j] + 2 * k3[j] + k4[j]);
  }
  return w;
}

// Mean and covariance at rows `at` after training: the mean is the network that began at zero, the covariance follows from where each unit weight goes.
Gaussian by_training(const Networks& f, bool all, const Rows& at, const EnsembleOptions& options, double t) {
  const Rows a = side_by_side(f.drawn, f.fixed, all);
  const Index n = f.y.shape()[0], outputs = f.y.shape()[1], m = static_cast<Index>(at.size()), width = f.drawn.shape()[1];
  const long double per_row = options.rate / static_cast<long double>(f.y.size());
  const auto outputs_of = [&](const std::vector<long double>& w, Index i) {
    long double sum = 0;
    for (std::size_t j = 0; j < w.size(); ++j) sum += at[i][j] * w[j];
    return sum;
  };
  Gaussian g{Array<double>(Shape{m, outputs}), Array<double>(Shape{m, m})};
  for (Index o = 0; o < outputs; ++o) {
    std::vector<long double> target(n);
    for (Index i = 0; i < n; ++i) target[i] = f.y[{i, o}];
    const auto w = trained(a, std::vector<long double>(a[0].size()), target, per_row, options.ridge, t, 10000);
    for (Index i = 0; i < m; ++i) g.mean[{i, o}] = static_cast<double>(outputs_of(w, i));
  }
  for (Index j = 0; j < width; ++j) {
    std::vector<long double> unit(a[0].size());
    unit[j] = 1;
    const auto w = trained(a, unit, std::vector<long double>(n), per_row, options.ridge, t, 10000);
    for (Index i = 0; i < m; ++i)
      for (Index k = 0; k < m; ++k) g.covariance[{i, k}] += static_cast<double>(outputs_of(w, i) * outputs_of(w, k));
  }
  return g;
}

void compare(const Gaussian& a, const Gaussian& b, double allowed) {
  CHECK(difference(a.mean, b.mean) <= allowed);
  CHECK(difference(a.covariance, b.covariance) <= allowed);
}

}  // namespace

TEST_CASE("networks drawn at random and trained are distributed as the closed form says, on test and on training examples") {
  for (const Index n : {3, 5}) {
    const Networks f = networks(n, 4, 40 + n);  // five examples have a singular nngp
    for (const bool all : {true, false})
      for (const EnsembleOptions& options : {EnsembleOptions{.rate = 2}, EnsembleOptions{.rate = 2, .ridge = .5}}) {
        if (!all && options.ridge > 0) continue;  // where the last layer alone is trained a ridge is noise
        CAPTURE(n);
        CAPTURE(all);
        CAPTURE(options.ridge);
        const auto ensemble = gradient_flow_ensemble(f.train(all), f.y, options);
        compare(ensemble.predict(f.test(all), f.test_test(), 3), by_training(f, all, side_by_side(f.drawn_test, f.fixed_test, all), options, 3), 1e-12);
        compare(ensemble.train(3), by_training(f, all, side_by_side(f.drawn, f.fixed, all), options, 3), 1e-12);
        CHECK(difference(ensemble.mean(f.test(all), 3), ensemble.predict(f.test(all), f.test_test(), 3).mean) < 1e-14);
      }
  }
}

TEST_CASE("before training the ensemble is its prior, and in the end it knows the training examples") {
  const Networks f = networks(3, 6, 50);
  for (const bool all : {true, false}) {
    const auto ensemble = gradient_flow_ensemble(f.train(all), f.y);
    const Gaussian before = ensemble.predict(f.test(all), f.test_test(), 0), after = ensemble.train(infinity);
    CHECK(max_abs(before.mean) == 0);
    CHECK(difference(before.covariance, f.test_test()) < 1e-14);
    CHECK(difference(after.mean, f.y) < 1e-12);
    CHECK(max_abs(after.covariance) < 1e-12);
    CHECK(ensemble.rank() == 3);
    double variance = infinity;
    for (const double t : {0.0, .1, 1.0, 10.0, 1e3, 1e9, infinity}) {
      const Gaussian at = ensemble.predict(f.test(all), f.test_test(), t);
      const Array<double> s = deviations(at);
      for (Index i = 0; i < 4; ++i) {
        CHECK(s.data()[i] == std::sqrt(at.covariance[{i, i}]));
        for (Index j = 0; j < 4; ++j) CHECK(at.covariance[{i, j}] == at.covariance[{j, i}]);
      }
      if (!all) CHECK(s.data()[0] <= variance);
      variance = s.data()[0];
    }
  }
}

TEST_CASE("what training has taken all variance from has none, and never less") {
  double smallest = infinity;
  for (std::uint64_t seed = 60; seed < 80; ++seed) {
    const Networks f = networks(6, 9, seed);
    for (const bool all : {true, false})
      for (const double t : {1e6, infinity}) {
        const Gaussian at = gradient_flow_ensemble(f.train(all), f.y).train(t);
        for (const double s : deviations(at)) {
          CHECK(s >= 0);
          CHECK(s < 1e-5);
          smallest = std::min(smallest, s);
        }
      }
  }
  CHECK(smallest == 0);
}

TEST_CASE("inference by a factor is the ensemble at infinity, with noise and without") {
  const Networks f = networks(3, 6, 51);
  for (const bool all : {true, false})
    for (const EnsembleOptions& options : {EnsembleOptions{}, EnsembleOptions{.ridge = .1}, EnsembleOptions{.relative_ridge = .2}}) {
      const auto process = gp_inference(f.train(all), f.y, options);
      const auto ensemble = gradient_flow_ensemble(f.train(all), f.y, options);
      compare(process.predict(f.test(all), f.test_test()), ensemble.predict(f.test(all), f.test_test(), infinity), 1e-12);
      CHECK(difference(process.mean(f.test(all)), ensemble.mean(f.test(all), infinity)) < 1e-12);
    }
  // One example: k* y / (k + r) and k** - k*^2 / (k + r).
  const auto one = gp_inference<double>({Array<double>(Shape{1, 1}, {3.0})}, Array<double>(Shape{1}, {8.0}), {.ridge = 1});
  const Gaussian at = one.predict<double>({Array<double>(Shape{1, 1}, {2.0})}, Array<double>(Shape{1, 1}, {5.0}));
  CHECK(at.mean == Array<double>(Shape{1}, {4.0}));
  CHECK(at.covariance.item() == doctest::Approx(4));
}

TEST_CASE("the posterior with the NTK as covariance is had by giving it as the kernel") {
  const Networks f = networks(3, 6, 52);
  const auto process = gp_inference<double>({f.train(true).ntk}, f.y), both = gp_inference(f.train(true), f.y);
  CHECK(difference(process.mean<double>({f.test(true).ntk}), both.mean(f.test(true))) < 1e-13);
}

TEST_CASE("a singular kernel is projected by eigenvalues, and refused by the factor in words") {
  Networks f = networks(4, 6, 53);
  for (Index j = 0; j < 6; ++j) {
    f.drawn[{3, j}] = f.drawn[{1, j}];
    f.fixed[{3, j}] = f.fixed[{1, j}];
  }
  for (Index o = 0; o < 2; ++o) f.y[{3, o}] = f.y[{1, o}];
  Networks once = f;
  once.drawn = f.drawn.rows(0, 3);
  once.fixed = f.fixed.rows(0, 3);
  once.y = f.y.rows(0, 3);
  for (const bool all : {true, false}) {
    const auto ensemble = gradient_flow_ensemble(f.train(all), f.y);
    CHECK(ensemble.rank() == 3);
    compare(ensemble.predict(f.test(all), f.test_test(), infinity), gp_inference(once.train(all), once.y).predict(once.test(all), f.test_test()), 1e-12);
    CHECK(difference(ensemble.predict(f.test(all), f.test_test(), 1e30).covariance, ensemble.predict(f.test(all), f.test_test(), infinity).covariance) < 1e-12);
    CHECK_THROWS_WITH_AS(gp_inference(f.train(all), f.y), doctest::Contains("gp_inference: the kernel of 4 examples is singular to rounding: pivot 3 is "), NumericalError);
    CHECK_THROWS_WITH_AS(gp_inference(f.train(all), f.y), doctest::Contains("example 3 follows from those before it. Leave it out, pass a ridge well above that (relative_ridge = 1e-6, say), or take gradient_flow_ensemble at t = infinity, which leaves out what is singular"), NumericalError);
    CHECK_NOTHROW(gp_inference(f.train(all), f.y, {.relative_ridge = 1e-6}).predict(f.test(all), f.test_test()));
  }
}

TEST_CASE("the mean of an ensemble is one flow that begins at zero") {
  const Networks f = networks(3, 6, 54);
  const Array<double> zero(Shape{3, 2}), zero_test(Shape{4, 2});
  for (const double ridge : {0.0, .3}) {
    const auto flow = gradient_flow(linnet::predict::TraceApproximation<double>{f.train(true).ntk, 2}, zero, f.y, {.rate = .7, .ridge = ridge});
    const auto ensemble = gradient_flow_ensemble(f.train(true), f.y, {.rate = .7, .ridge = ridge});
    for (const double t : {0.0, 5.0, infinity}) {
      CHECK(difference(ensemble.mean(f.test(true), t), flow(t).predict(linnet::predict::TraceApproximation<double>{f.test(true).ntk, 2}, zero_test)) < 1e-12);
      CHECK(difference(ensemble.train(t).mean, flow(t).train()) < 1e-12);
    }
  }
}

TEST_CASE_TEMPLATE("kernels of either width, no test examples and many times are answered", T, float, double) {
  const Networks f = networks(3, 6, 55);
  const auto narrow = [](const EnsembleKernels<double>& k) { return EnsembleKernels<T>{cast<T>(k.nngp), cast<T>(k.ntk)}; };
  const Array<T> y = cast<T>(f.y), test = cast<T>(f.test_test());
  const auto ensemble = gradient_flow_ensemble(narrow(f.train(true)), y, {.ridge = .1});
  const auto wide = gradient_flow_ensemble(f.train(true), f.y, {.ridge = .1});
  const std::vector<double> times = {0, 2, infinity};
  const std::vector<Gaussian> all = ensemble.predict(narrow(f.test(true)), test, times);
  REQUIRE(all.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) {
    compare(all[i], wide.predict(f.test(true), f.test_test(), times[i]), sizeof(T) == 4 ? 1e-5 : 1e-13);
    CHECK(all[i].mean == ensemble.predict(narrow(f.test(true)), test, times[i]).mean);
  }
  compare(gp_inference(narrow(f.train(true)), y, {.ridge = .1}).predict(narrow(f.test(true)), test), wide.predict(f.test(true), f.test_test(), infinity), sizeof(T) == 4 ? 1e-5 : 1e-12);
  const EnsembleKernels<T> nothing{Array<T>(Shape{0, 3}), Array<T>(Shape{0, 3})};
  CHECK(ensemble.predict(nothing, Array<T>(Shape{0, 0}), 1.0).mean.shape() == Shape{0, 2});
  CHECK(gp_inference(narrow(f.train(true)), y).predict(nothing, Array<T>(Shape{0, 0})).covariance.shape() == Shape{0, 0});
}

TEST_CASE("the bits of means and covariances do not depend on the number of threads") {
  const Networks f = networks(150, 40, 56);
  const auto answers = [&] {
    return std::pair(gradient_flow_ensemble(f.train(true), f.y, {.ridge = .1}).train(3), gp_inference(f.train(true), f.y, {.ridge = .1}).predict(f.test(true), f.test_test()));
  };
  const int before = linnet::autodiff::thread_count();
  linnet::autodiff::set_thread_count(1);
  const auto one = answers();
  for (const int threads : {2, 4}) {
    linnet::autodiff::set_thread_count(threads);
    const auto many = answers();
    CHECK(many.first.mean == one.first.mean);
    CHECK(many.first.covariance == one.first.covariance);
    CHECK(many.second.covariance == one.second.covariance);
  }
  linnet::autodiff::set_thread_count(before);
}

TEST_CASE("kernels and targets that do not fit each other are refused in words") {
  const Networks f = networks(3, 6, 57);
  const auto train = f.train(true), test = f.test(true);
  CHECK_THROWS_WITH_AS(gp_inference(train, Array<double>(Shape{4, 2})), "gp_inference: y is [4,2], the nngp is [3,3]; of the training examples with themselves it must be [4,4]", ShapeError);
  CHECK_THROWS_WITH_AS(gradient_flow_ensemble<double>({train.nngp, Array<double>(Shape{2, 2})}, f.y), "gradient_flow_ensemble: y is [3,2], the ntk is [2,2]; of the training examples with themselves it must be [3,3]", ShapeError);
  CHECK_THROWS_WITH_AS(gp_inference(train, Array<double>(Shape{0, 2})), "gp_inference: y is [0,2]; there must be at least one example and one output", ShapeError);
  const auto ensemble = gradient_flow_ensemble(train, f.y), last = gradient_flow_ensemble<double>({train.nngp}, f.y);
  CHECK_THROWS_WITH_AS(ensemble.predict<double>({test.nngp}, f.test_test(), 1.0), "gradient_flow_ensemble: training had an ntk, so the test examples need theirs beside the nngp", ShapeError);
  CHECK_THROWS_WITH_AS(last.predict(test, f.test_test(), 1.0), "gradient_flow_ensemble: training had no ntk, so the test examples have none; give it with both or neither", ShapeError);
  CHECK_THROWS_WITH_AS(ensemble.mean<double>({Array<double>(Shape{2, 3}), Array<double>(Shape{2, 4})}, 1), "gradient_flow_ensemble: the ntk of test and training examples is [2,4], it must have 3 columns, the training examples", ShapeError);
  CHECK_THROWS_WITH_AS(ensemble.predict<double>({Array<double>(Shape{2, 3}), test.ntk}, f.test_test(), 1.0), "gradient_flow_ensemble: the nngp of test and training examples is [2,3], their ntk [4,3]; they must be of the same examples", ShapeError);
  CHECK_THROWS_WITH_AS(ensemble.predict(test, Array<double>(Shape{3, 3}), 1.0), "gradient_flow_ensemble: the nngp of the test examples with themselves is [3,3], beside 4 test examples it must be [4,4]", ShapeError);
  CHECK_THROWS_WITH_AS(ensemble.predict(test, f.test_test(), -1.0), "predict: t must be a number from 0 to infinity, got -1", NumericalError);
  CHECK_THROWS_WITH_AS(linnet::predict::deviations({Array<double>(Shape{2}), Array<double>(Shape{1, 1})}), "deviations: the covariance is [1,1], beside a mean of [2] it must be [2,2]", ShapeError);
}

TEST_CASE("values that are no kernels or no options are refused in words") {
  const Networks f = networks(3, 6, 58);
  const auto train = f.train(true), test = f.test(true);
  CHECK_THROWS_WITH_AS(gp_inference(train, f.y, {.ridge = -1}), "gp_inference: the ridge must be finite and not negative, got -1", NumericalError);
  CHECK_THROWS_WITH_AS(gp_inference(train, f.y, {.relative_ridge = NAN}), "gp_inference: the relative ridge must be finite and not negative, got nan", NumericalError);
  CHECK_THROWS_WITH_AS(gradient_flow_ensemble(train, f.y, {.rate = 0}), "gradient_flow_ensemble: the rate must be positive and finite, got 0", NumericalError);
  Array<double> y = f.y;
  y.data()[2] = NAN;
  CHECK_THROWS_WITH_AS(gp_inference(train, y), "gp_inference: y has nan at [1,0]; every value must be finite", NumericalError);
  auto bad = train;
  bad.nngp[{0, 1}] = infinity;
  CHECK_THROWS_WITH_AS(gp_inference(bad, f.y), "gp_inference: the kernel has inf at [0,1]; every value must be finite", NumericalError);
  bad = train;
  bad.ntk[{0, 1}] += 1;
  CHECK_THROWS_WITH_AS(gp_inference(bad, f.y), doctest::Contains("gp_inference: the kernel is not symmetric: entry [1,0] is "), NumericalError);
  Array<double> negative(Shape{2, 2}, {1, 0, 0, -1});
  CHECK_THROWS_WITH_AS(gradient_flow_ensemble<double>({negative}, Array<double>(Shape{2})), doctest::Contains("gradient_flow_ensemble: the kernel is indefinite: lambda_min = -1"), NumericalError);
  CHECK_THROWS_WITH_AS(gp_inference<double>({negative}, Array<double>(Shape{2})), doctest::Contains("gp_inference: the kernel of 2 examples is singular to rounding: pivot 1 is -1"), NumericalError);
  auto wrong = test;
  wrong.nngp[{2, 0}] = NAN;
  CHECK_THROWS_WITH_AS(gp_inference(train, f.y).predict(wrong, f.test_test()), "gp_inference: the nngp of test and training examples has nan at [2,0]; every value must be finite", NumericalError);
  // Kernels of other examples: more is known than there was to know.
  const auto process = gp_inference<double>({Array<double>(Shape{1, 1}, {1.0})}, Array<double>(Shape{1}));
  CHECK_THROWS_WITH_AS(process.predict<double>({Array<double>(Shape{1, 1}, {2.0})}, Array<double>(Shape{1, 1}, {1.0})),
                       "gp_inference: the variance of test example 0 is -3, where that of its prior is 1; the kernels are not of one covariance of both; give those of the same network, or pass a ridge", NumericalError);
}

TEST_CASE("means and covariances that overflow say so") {
  const Array<double> tiny(Shape{1, 1}, {1e-300}), one(Shape{1, 1}, {1.0}), y(Shape{1}, {1e20});
  const auto ensemble = gradient_flow_ensemble<double>({tiny}, y);
  CHECK_THROWS_WITH_AS(ensemble.mean<double>({one}, infinity), "gradient_flow_ensemble: the mean has inf at [0]; every value must be finite", NumericalError);
  CHECK_THROWS_WITH_AS(gp_inference<double>({tiny}, y).mean<double>({one}), "gp_inference: the mean has inf at [0]; every value must be finite", NumericalError);
  const auto calm = gradient_flow_ensemble<double>({one, tiny}, Array<double>(Shape{1}));
  CHECK_THROWS_WITH_AS(calm.predict<double>({one, one}, one, infinity), doctest::Contains("gradient_flow_ensemble: the covariance has "), NumericalError);
}
