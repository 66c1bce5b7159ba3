// Gradient flow from a kernel, with an explicit Jacobian: against training loops, against the singular value decomposition, and against itself.
#include "linnet/autodiff/kernels/parallel.h"
#include "linnet/predict/predict.h"
#include "linnet/tests/predict/problem.h"

#include <doctest/doctest.h>

using linnet::autodiff::NumericalError;
using linnet::autodiff::Scalar;
using linnet::autodiff::ShapeError;
using linnet::autodiff::StructureError;
using linnet::ntk::FullKernel;
using linnet::predict::approximate_by_trace;
using linnet::predict::FlowOptions;
using linnet::predict::gradient_flow;
using linnet::predict::phi;
using linnet::predict::Spectrum;
using problem::Array, problem::bound, problem::conditioned, problem::difference, problem::Draw, problem::eight, problem::Index, problem::infinity, problem::Problem, problem::product,
    problem::Shape, problem::times, problem::transposed;

namespace {

template <Scalar T = double> FullKernel<T> kernel_of(const Problem& p) { return FullKernel<T>(linnet::autodiff::cast<T>(p.kernel()), p.n(), p.n(), 1); }
FullKernel<double> test_kernel_of(const Problem& p) { return FullKernel<double>(p.kernel_test(), p.a_test.shape()[0], p.n(), 1); }
auto flow_of(const Problem& p, const FlowOptions& options = {}) { return gradient_flow(kernel_of(p), p.f0, p.y, options); }

// The change of the weights, A^T c.
Array<double> weights(const Problem& p, const Array<double>& c) { return product(transposed(p.a), c); }

// d/dt of the weights' change: -rate (A^T (f0 + A delta - y) + r delta) / N.
Array<double> velocity(const Problem& p, const FlowOptions& options, const Array<double>& delta) {
  const Array<double> error = p.f0 + product(p.a, delta) - p.y;
  return (-options.rate / static_cast<double>(p.n())) * (product(transposed(p.a), error) + options.ridge * delta);
}
Array<double> euler(const Problem& p, const FlowOptions& options, double t, int steps) {
  Array<double> delta(Shape{p.p()});
  for (int i = 0; i < steps; ++i) delta = delta + (t / steps) * velocity(p, options, delta);
  return delta;
}
Array<double> runge_kutta(const Problem& p, const FlowOptions& options, double t, int steps) {
  Array<double> delta(Shape{p.p()});
  const double h = t / steps;
  for (int i = 0; i < steps; ++i) {
    const Array<double> k1 = velocity(p, options, delta), k2 = velocity(p, options, delta + (h / 2) * k1), k3 = velocity(p, options, delta + (h / 2) * k2), k4 = velocity(p, options, delta + h * k3);
    delta = delta + (h / 6) * (k1 + 2 * k2 + 2 * k3 + k4);
  }
  return delta;
}

// x of m x = b by elimination with pivots, in long double.
Array<double> solve(const Array<double>& m, const Array<double>& b) {
  const auto n = static_cast<std::size_t>(b.size());
  std::vector<std::vector<long double>> rows(n);
  for (std::size_t i = 0; i < n; ++i) {
    rows[i].assign(m.data() + i * n, m.data() + (i + 1) * n);
    rows[i].push_back(b.data()[i]);
  }
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = i + 1; j < n; ++j)
      if (std::abs(rows[j][i]) > std::abs(rows[i][i])) std::swap(rows[i], rows[j]);
    for (std::size_t j = i + 1; j < n; ++j)
      for (std::size_t k = n + 1; k-- > i;) rows[j][k] -= rows[j][i] / rows[i][i] * rows[i][k];
  }
  Array<double> x(b.shape());
  for (std::size_t i = n; i-- > 0;) {
    long double sum = rows[i][n];
    for (std::size_t k = i + 1; k < n; ++k) sum -= rows[i][k] * static_cast<long double>(x.data()[k]);
    x.data()[i] = static_cast<double>(sum / rows[i][i]);
  }
  return x;
}

double squared_error(const Array<double>& f, const Array<double>& y) { return dot(f - y, f - y) / (2 * static_cast<double>(y.size())); }

// The kernel of outputs that are alike and do not touch each other: K (x) I over rows (example, output).
Array<double> repeated(const Array<double>& k, Index outputs) {
  const Index m = k.shape()[0], n = k.shape()[1];
  Array<double> full(Shape{m * outputs, n * outputs});
  for (Index i = 0; i < m; ++i)
    for (Index j = 0; j < n; ++j)
      for (Index o = 0; o < outputs; ++o) full[{i * outputs + o, j * outputs + o}] = k[{i, j}];
  return full;
}

}  // namespace

TEST_CASE("weights and outputs agree at every time for every kind of kernel, on training and test rows") {
  std::vector<double> all = times;
  all.insert(all.end(), {0, 1e300, infinity});
  for (const Problem& p : eight()) {
    const auto flow = flow_of(p);
    for (const double t : all) {
      CAPTURE(p.name);
      CAPTURE(t);
      const auto at = flow(t);
      const Array<double> delta = weights(p, at.coefficients()), train = at.train(), test = at.predict(test_kernel_of(p), p.f0_test);
      CHECK(linnet::autodiff::first_not_finite<double>(delta.values()) == -1);
      CHECK(max_abs(p.f0 + product(p.a, delta) - train) <= bound(at.condition()) * std::max(1.0, max_abs(p.f0)));
      CHECK(max_abs(p.f0_test + product(p.a_test, delta) - test) <= bound(at.condition()) * std::max(1.0, max_abs(test)));
    }
    const auto late = flow(1e300), last = flow(infinity);
    CHECK(late.train() == last.train());
    CHECK(late.coefficients() == last.coefficients());
    CHECK(flow(0).train() == p.f0);
    CHECK(max_abs(flow(0).coefficients()) == 0);
    CHECK(difference(flow(1e26).predict(test_kernel_of(p), p.f0_test), last.predict(test_kernel_of(p), p.f0_test)) <= bound(last.condition()));
  }
}

TEST_CASE("weights are those of the singular value decomposition, and the pseudo-inverse's at infinity") {
  for (const Problem& p : eight()) {
    if (p.s.size() == 0) continue;
    const auto flow = flow_of(p, {.rate = .5});
    for (const double t : {1e-6, 1.0, 1e3, 1e6, 1e16, infinity}) {
      CAPTURE(p.name);
      CAPTURE(t);
      Array<double> modes = product(transposed(p.u), p.f0 - p.y);
      for (Index i = 0; i < p.s.size(); ++i) {
        const double s = p.s.data()[i];
        modes.data()[i] *= -s * phi(s * s, .5 * t / static_cast<double>(p.n()));
      }
      CHECK(difference(weights(p, flow(t).coefficients()), product(p.v, modes)) <= bound(flow(t).condition()));
    }
    CHECK(flow(1).rank() == p.s.size());
    CHECK(flow(1).lambda_max() == doctest::Approx(1));
    CHECK(flow(1).condition() == doctest::Approx(std::pow(p.s.data()[0] / p.s.data()[p.s.size() - 1], 2)).epsilon(1e-3));
  }
}

TEST_CASE("at infinity the weights solve the normal equations, and are the smallest that do") {
  for (const Problem& p : eight(2)) {
    CAPTURE(p.name);
    const auto at = flow_of(p)(infinity);
    const Array<double> delta = weights(p, at.coefficients()), error = p.f0 + product(p.a, delta) - p.y;
    CHECK(max_abs(product(transposed(p.a), error)) <= bound(at.condition()) * max_abs(p.a) * static_cast<double>(p.n()));
    if (at.rank() == p.n()) CHECK(difference(at.train(), p.y) < 1e-13);
    if (at.rank() == p.n() && at.condition() < 1e5) CHECK(difference(delta, product(transposed(p.a), solve(p.kernel(), p.y - p.f0))) <= bound(at.condition()));
  }
}

TEST_CASE("rank counts the rows that are trained") {
  const std::vector<Problem> all = eight();
  const std::vector<Index> ranks = {24, 24, 24, 24, 22, 23, 12, 9};
  for (std::size_t i = 0; i < all.size(); ++i) CHECK(flow_of(all[i])(1).rank() == ranks[i]);
  CHECK(flow_of(all[0]).rows() == 24);
}

TEST_CASE("the loss is that of the outputs, and never grows") {
  std::vector<double> dense = {0};
  for (double t = 1e-14; t < 1e28; t *= 1.25) dense.push_back(t);
  dense.push_back(infinity);
  for (const Problem& p : eight(3))
    for (const double ridge : {0.0, 1e-3}) {
      CAPTURE(p.name);
      const auto flow = flow_of(p, {.ridge = ridge});
      double before = infinity, outputs_before = infinity;
      const double first = flow(0).loss();
      CHECK(first == doctest::Approx(squared_error(p.f0, p.y)).epsilon(1e-13));
      for (const double t : dense) {
        const auto at = flow(t);
        CHECK(at.loss() <= before);
        const double outputs = squared_error(at.train(), p.y);
        CHECK(outputs <= outputs_before + 1e-14 * first);
        CHECK(outputs == doctest::Approx(at.loss()).epsilon(1e-12).scale(first));
        before = at.loss();
        outputs_before = outputs;
      }
    }
}

TEST_CASE("the null space keeps its initial outputs") {
  for (const Problem& p : eight()) {
    const auto flow = flow_of(p);
    const Spectrum& spectrum = flow.dynamics().spectrum();
    const Array<double> modes = spectrum.to_modes(flow(infinity).train() - p.f0);
    for (Index i = 0; i < p.n(); ++i)
      if (!spectrum.keeps(i)) CHECK(std::abs(modes.data()[i]) <= 1e-13);
  }
}

TEST_CASE("training on from where one stopped is training for the sum of the times") {
  for (const Problem& p : eight()) {
    CAPTURE(p.name);
    const auto flow = flow_of(p);
    for (const auto& [first, second] : std::vector<std::pair<double, double>>{{1e-3, 2e-3}, {1, 5}, {30, 1e3}, {1e5, 1e7}, {1, infinity}}) {
      const auto on = gradient_flow(kernel_of(p), flow(first).train(), p.y);
      CHECK(max_abs(on(second).train() - flow(first + second).train()) <= 1e-12);
    }
  }
}

TEST_CASE("explicit Euler steps approach the flow in the first order of their size") {
  Draw draw(8);
  const Problem p = conditioned("well conditioned", 12, 20, 12, 10, draw);
  for (const double ridge : {0.0, 0.2}) {
    const FlowOptions options{.rate = 2, .ridge = ridge};
    const Array<double> exact = weights(p, flow_of(p, options)(9).coefficients());
    double before = 0;
    for (const int steps : {250, 500, 1000, 2000}) {
      const double error = max_abs(euler(p, options, 9, steps) - exact);
      if (before > 0) CHECK(before / error == doctest::Approx(2).epsilon(0.02));
      before = error;
    }
    CHECK(before < 1e-3);
  }
}

TEST_CASE("the flow with a ridge is that of a fourth-order training loop, and the ridge regression at infinity") {
  for (const Problem& p : eight(4)) {
    CAPTURE(p.name);
    const FlowOptions options{.rate = 3, .ridge = .05};
    const auto flow = flow_of(p, options);
    CHECK(flow(1).rank() == p.n());  // a ridge leaves nothing out
    const Array<double> delta = weights(p, flow(8).coefficients());
    CHECK(difference(delta, runge_kutta(p, options, 8, 400)) < 1e-9);
    CHECK(difference(flow(8).train(), p.f0 + product(p.a, delta)) < 1e-12);
    CHECK(difference(flow(8).predict(test_kernel_of(p), p.f0_test), p.f0_test + product(p.a_test, delta)) < 1e-12);

    Array<double> normal = product(transposed(p.a), p.a);
    for (Index i = 0; i < p.p(); ++i) normal[{i, i}] += options.ridge;
    const Array<double> wanted = solve(normal, product(transposed(p.a), p.y - p.f0));
    CHECK(difference(weights(p, flow(infinity).coefficients()), wanted) < 1e-12);
  }
}

TEST_CASE("the learning rate is a unit of time") {
  const Problem p = eight()[0];
  CHECK(difference(flow_of(p, {.rate = .25})(8).train(), flow_of(p)(2).train()) < 1e-15);
  CHECK(flow_of(p, {.rate = 1e300})(1e300).train() == flow_of(p)(infinity).train());
}

TEST_CASE("a kernel that acts on outputs alike, traced, gives what its full form gives") {
  Draw draw(9);
  const Problem p = conditioned("three outputs", 8, 11, 6, 50, draw);
  const Index outputs = 3;
  const Array<double> f0 = draw.array(Shape{8, outputs}), y = draw.array(Shape{8, outputs}), f0_test = draw.array(Shape{7, outputs});
  const auto full = gradient_flow(FullKernel<double>(repeated(p.kernel(), outputs), 8, 8, outputs), f0, y, {.rate = 2});
  const linnet::ntk::TracedKernel<double> traced(3.0 * p.kernel(), outputs), traced_test(3.0 * p.kernel_test(), outputs);
  const auto flow = gradient_flow(approximate_by_trace(traced), f0, y, {.rate = 2});
  for (const double t : {0.0, 1.0, 40.0, 1e16, infinity}) {
    CHECK(difference(flow(t).train(), full(t).train()) < 1e-13);
    CHECK(difference(flow(t).predict(approximate_by_trace(traced_test), f0_test), full(t).predict(FullKernel<double>(repeated(p.kernel_test(), outputs), 7, 8, outputs), f0_test)) < 1e-12);
    CHECK(flow(t).loss() == doctest::Approx(full(t).loss()).epsilon(1e-12));
    CHECK(flow(t).coefficients().shape() == Shape{8, 3});
  }
  CHECK(flow.rows() == 24);
  CHECK(flow(1).rank() == 18);
  CHECK(full(1).rank() == 18);
}

TEST_CASE_TEMPLATE("answers come in the type of the kernel, computed in double", T, float, double) {
  const Problem p = eight()[0];
  const auto flow = gradient_flow(kernel_of<T>(p), linnet::autodiff::cast<T>(p.f0), linnet::autodiff::cast<T>(p.y));
  const auto exact = flow_of(p);
  for (const double t : {0.0, 3.0, 1e5, infinity}) {
    const Array<T> train = flow(t).train();
    CHECK(difference(linnet::autodiff::cast<double>(train), exact(t).train()) < 20 * static_cast<double>(std::numeric_limits<T>::epsilon()));
  }
  CHECK(flow.dynamics().spectrum().tolerance() == doctest::Approx(24 * static_cast<double>(std::numeric_limits<T>::epsilon())));
}

TEST_CASE("one example, and no test examples, are a problem like any other") {
  const FullKernel<double> kernel(Array<double>(Shape{1, 1}, {4.0}), 1, 1, 1);
  const auto flow = gradient_flow(kernel, Array<double>(Shape{1}, {3.0}), Array<double>(Shape{1}, {1.0}));
  CHECK(flow(.5).train().item() == doctest::Approx(1 + 2 * std::exp(-2)));
  CHECK(flow(.5).predict(FullKernel<double>(Array<double>(Shape{0, 1}), 0, 1, 1), Array<double>(Shape{0})).size() == 0);
}

TEST_CASE("the bits of predictions do not depend on the number of threads") {
  Draw draw(10);
  const Problem p = conditioned("large", 300, 310, 290, 1e4, draw);
  const int before = linnet::autodiff::thread_count();
  linnet::autodiff::set_thread_count(1);
  const auto one = flow_of(p)(1e3);
  const Array<double> train = one.train(), test = one.predict(test_kernel_of(p), p.f0_test);
  for (const int threads : {2, 4}) {
    linnet::autodiff::set_thread_count(threads);
    const auto many = flow_of(p)(1e3);
    CHECK(many.train() == train);
    CHECK(many.predict(test_kernel_of(p), p.f0_test) == test);
    CHECK(many.loss() == one.loss());
  }
  linnet::autodiff::set_thread_count(before);
}

TEST_CASE("what does not fit a kernel is refused in words") {
  const Problem p = eight()[0];
  const FullKernel<double> kernel = kernel_of(p), other(p.kernel_test(), 7, 24, 1);
  const auto flow = flow_of(p);
  const auto nan = [](Array<double> a, Index at) {
    a.data()[at] = NAN;
    return a;
  };
  CHECK_THROWS_WITH_AS(gradient_flow(kernel, p.f0, Array<double>(Shape{24, 1})), "gradient_flow: y is [24,1], the outputs f0 it is the target of are [24]; reshape y to that", ShapeError);
  CHECK_THROWS_WITH_AS(gradient_flow(kernel, Array<double>(Shape{12, 2}), Array<double>(Shape{12, 2})), "gradient_flow: f0 and y are [12,2], the kernel is of 24 examples with 1 outputs each", ShapeError);
  CHECK_THROWS_WITH_AS(gradient_flow(other, p.f0, p.y), "gradient_flow: the kernel is of 7 examples with 24 others; it must be of the training examples with themselves", ShapeError);
  CHECK_THROWS_WITH_AS(gradient_flow(FullKernel<double>(Array<double>(Shape{0, 0}), 0, 0, 1), Array<double>(Shape{0}), Array<double>(Shape{0})), "gradient_flow: f0 is [0]; there must be at least one example and one output", ShapeError);
  CHECK_THROWS_WITH_AS(gradient_flow(kernel, p.f0, nan(p.y, 5)), "gradient_flow: y has nan at [5]; every value must be finite", NumericalError);
  CHECK_THROWS_WITH_AS(gradient_flow(kernel, nan(p.f0, 2), p.y), "gradient_flow: f0 has nan at [2]; every value must be finite", NumericalError);
  CHECK_THROWS_WITH_AS(gradient_flow(FullKernel<double>(nan(p.kernel(), 25), 24, 24, 1), p.f0, p.y), "spectrum: the kernel has nan at [1,1]; every value must be finite", NumericalError);
  CHECK_THROWS_WITH_AS(gradient_flow(FullKernel<double>(-1.0 * p.kernel(), 24, 24, 1), p.f0, p.y), doctest::Contains("gradient_flow: the kernel is indefinite: lambda_min = -1, lambda_max = -0.1, N = 24"), NumericalError);
  CHECK_NOTHROW(gradient_flow(FullKernel<double>(-1.0 * p.kernel(), 24, 24, 1), p.f0, p.y, {.ridge = 1.001}));
  const Array<double> big(Shape{24}, 1e308);
  CHECK_THROWS_WITH_AS(gradient_flow(kernel, big, -1.0 * big), "gradient_flow: f0 - y has inf at [0]; every value must be finite", NumericalError);
  CHECK_THROWS_WITH_AS(gradient_flow(kernel, 1e-50 * big, p.y)(0).loss(), doctest::Contains("loss: the squares of f0 - y overflow; the largest entry in the eigenbasis is"), NumericalError);

  for (const double rate : {0.0, -1.0, infinity, double(NAN)}) CHECK_THROWS_WITH_AS(flow_of(p, {.rate = rate}), doctest::Contains("gradient_flow: the rate must be positive and finite, got"), NumericalError);
  for (const double ridge : {-1.0, infinity, double(NAN)}) CHECK_THROWS_WITH_AS(flow_of(p, {.ridge = ridge}), doctest::Contains("gradient_flow: the ridge must be finite and not negative, got"), NumericalError);
  CHECK_THROWS_WITH_AS(flow(-1), doctest::Contains("gradient_flow: t must be a number from 0 to infinity, got -1;"), NumericalError);
  CHECK_THROWS_WITH_AS(flow(NAN), doctest::Contains("gradient_flow: t must be a number from 0 to infinity, got nan;"), NumericalError);
}

TEST_CASE("what a flow from a kernel does not have, it says") {
  const Problem p = eight()[0];
  const auto flow = flow_of(p);
  const Array<double> x(Shape{2, 3});
  for (const std::string operation : {"weights", "predict", "linearized", "points"}) {
    CAPTURE(operation);
    const auto call = [&] {
      if (operation == "weights") flow(1).weights();
      if (operation == "predict") flow(1).predict(x);
      if (operation == "linearized") flow(1).linearized(x);
      if (operation == "points") flow.points(x);
    };
    CHECK_THROWS_WITH_AS(call(), (operation + ": this flow was made from a kernel and has no network; make it by gradient_flow(f, params, x, y), or give predict the kernel and f0 of the test examples").c_str(), StructureError);
  }
}

TEST_CASE("a kernel of test and training examples that does not fit is refused in words") {
  const Problem p = eight()[0];
  const auto at = flow_of(p)(1);
  CHECK_THROWS_WITH_AS(at.predict(FullKernel<double>(Array<double>(Shape{7, 20}), 7, 20, 1), p.f0_test), "predict: the kernel of test and training examples is [7,20], its columns must be the 24 rows of the kernel trained on", ShapeError);
  CHECK_THROWS_WITH_AS(at.predict(test_kernel_of(p), Array<double>(Shape{6})), "predict: f0 of the test examples is [6] beside a kernel of [7,24]; with training outputs of [24] it must be [7]", ShapeError);
  CHECK_THROWS_WITH_AS(at.predict(test_kernel_of(p), Array<double>(Shape{7, 1})), "predict: f0 of the test examples is [7,1] beside a kernel of [7,24]; with training outputs of [24] it must be [7]", ShapeError);
  Array<double> bad = p.kernel_test();
  bad[{2, 3}] = infinity;
  CHECK_THROWS_WITH_AS(at.predict(FullKernel<double>(bad, 7, 24, 1), p.f0_test), "predict: the kernel of test and training examples has inf at [2,3]; every value must be finite", NumericalError);
  Array<double> f0 = p.f0_test;
  f0.data()[6] = NAN;
  CHECK_THROWS_WITH_AS(at.predict(test_kernel_of(p), f0), "predict: f0 of the test examples has nan at [6]; every value must be finite", NumericalError);

  const auto trace = approximate_by_trace(linnet::ntk::TracedKernel<double>(p.kernel(), 1)), trace_test = approximate_by_trace(linnet::ntk::TracedKernel<double>(p.kernel_test(), 1));
  CHECK_THROWS_WITH_AS(at.predict(trace_test, p.f0_test), "predict: this flow was made from a full kernel; give it the full kernel of test and training examples", StructureError);
  CHECK_THROWS_WITH_AS(gradient_flow(trace, p.f0, p.y)(1).predict(test_kernel_of(p), p.f0_test), "predict: this flow was made from a traced kernel; give it the traced kernel of test and training examples by approximate_by_trace", StructureError);
  CHECK_THROWS_WITH_AS(gradient_flow(trace_test, p.f0, p.y), "gradient_flow: f0 and y are [24], the traced kernel is [7,24] with 1 outputs for each example; it must be of the training examples with themselves", ShapeError);
}

TEST_CASE("an answer that overflows says so") {
  Array<double> k(Shape{1, 1}, {1e-300});
  const auto flow = gradient_flow(FullKernel<double>(k, 1, 1, 1), Array<double>(Shape{1}, {1e20}), Array<double>(Shape{1}, {0.0}));
  CHECK_THROWS_WITH_AS(flow(infinity).coefficients(), "coefficients: the answer at t = inf with lambda_max = 1e-300 has -inf at [0]; every value must be finite", NumericalError);
  CHECK(flow(infinity).train().item() == 0);
}
