// Training on any loss: against the closed form where there is one, against many small steps carried out on explicit weights, and against itself: any order of
// times, states that go on, threads, widths.
#include "linnet/autodiff/kernels/parallel.h"
#include "linnet/autodiff/ops.h"
#include "linnet/predict/predict.h"
#include "linnet/tests/predict/problem.h"
#include "linnet/tests/rounds.h"

#include <doctest/doctest.h>

#include <functional>

using namespace linnet::predict;
using linnet::autodiff::cast;
using linnet::autodiff::NumericalError;
using linnet::autodiff::Scalar;
using linnet::autodiff::ShapeError;
using linnet::autodiff::StructureError;
using linnet::autodiff::Tree;
using linnet::autodiff::Var;
using linnet::ntk::FullKernel;
using problem::conditioned, problem::difference, problem::Draw, problem::eight, problem::infinity, problem::Problem, problem::product, problem::transposed;

namespace {

// Outputs [examples, k] of weights [p, k].
Var linear(const Tree<Var>& params, const Var& x) { return dot(x, params["W"]); }
Var network(const Tree<Var>& params, const Var& x) { return dot(erf(dot(x, params["W1"]) + params["b1"]), params["W2"]); }

struct Case {
  Tree<Array<double>> params;
  Array<double> x, x_test, y;
};

Array<double> one_hot(Index n, Index k) {
  Array<double> y(Shape{n, k});
  for (Index i = 0; i < n; ++i) y[{i, (i * i + 3 * i) % k}] = 1;
  return y;
}

Case network_case(Index n, Index k, std::uint64_t seed, Index width = 9) {
  Draw draw(seed);
  return {{{"W1", draw.array(Shape{3, width})}, {"b1", draw.array(Shape{1, width})}, {"W2", draw.array(Shape{width, k})}}, draw.array(Shape{n, 3}), draw.array(Shape{5, 3}), one_hot(n, k)};
}
FullKernel<double> kernel_of(const Problem& p) { return FullKernel<double>(p.kernel(), p.n(), p.n(), 1); }
Array<double> column(const Array<double>& a) { return a.reshaped(Shape{a.size(), 1}); }

bool same(const Tree<Array<double>>& a, const Tree<Array<double>>& b, double tolerance) {
  bool all = true;
  map([&](const Array<double>& x, const Array<double>& y) { return all = all && max_abs(x - y) <= tolerance * std::max(1.0, max_abs(y)); }, a, b);
  return all;
}

// ---- training carried out: f = a theta, theta [p, k], by steps on the explicit weights

using Slope = std::function<void(const double* f, const double* y, double* g, Index n, Index k)>;

void softmax_slope(const double* f, const double* y, double* g, Index n, Index k) {
  for (Index i = 0; i < n; ++i) {
    double sum = 0, most = f[i * k];
    for (Index j = 0; j < k; ++j) most = std::max(most, f[i * k + j]);
    for (Index j = 0; j < k; ++j) sum += std::exp(f[i * k + j] - most);
    for (Index j = 0; j < k; ++j) g[i * k + j] = (std::exp(f[i * k + j] - most) / sum - y[i * k + j]) / static_cast<double>(n);
  }
}
Slope entrywise(std::function<double(double, double)> slope) {
  return [slope](const double* f, const double* y, double* g, Index n, Index k) {
    for (Index i = 0; i < n * k; ++i) g[i] = slope(f[i], y[i]) / static_cast<double>(n * k);
  };
}

Array<double> steps(const Array<double>& a, const Array<double>& theta0, const Array<double>& y, const Slope& slope, double rate, int count) {
  const Index n = a.shape()[0], p = a.shape()[1], k = y.shape()[1];
  Array<double> theta = theta0, f(y.shape()), g(y.shape());
  for (int s = 0; s < count; ++s) {
    std::fill(f.begin(), f.end(), 0);
    for (Index i = 0; i < n; ++i)
      for (Index l = 0; l < p; ++l)
        for (Index j = 0; j < k; ++j) f.data()[i * k + j] += a.data()[i * p + l] * theta.data()[l * k + j];
    slope(f.data(), y.data(), g.data(), n, k);
    for (Index i = 0; i < n; ++i)
      for (Index l = 0; l < p; ++l)
        for (Index j = 0; j < k; ++j) theta.data()[l * k + j] -= rate * a.data()[i * p + l] * g.data()[i * k + j];
  }
  return theta;
}

// The limit of smaller steps: their errors in powers of the step, the first two taken out.
Array<double> flowed(const Array<double>& a, const Array<double>& theta0, const Array<double>& y, const Slope& slope, double t, int count) {
  const auto at = [&](int times) { return steps(a, theta0, y, slope, t / (times * count), times * count); };
  const Array<double> one = at(1), two = at(2), four = at(4);
  const Array<double> first = 2.0 * two - one, second = 2.0 * four - two;
  return second + (1.0 / 3) * (second - first);
}

}  // namespace

TEST_CASE("on the squared loss the integrated flow is the closed form, for every kind of kernel and into stiffness") {
  for (const Problem& p : eight()) {
    const auto exact = gradient_flow(kernel_of(p), column(p.f0), column(p.y), FlowOptions{.rate = .5});
    const auto flow = gradient_flow(kernel_of(p), column(p.f0), column(p.y), Loss::squared(), {.rate = .5});
    for (const double t : {0.0, 1e-6, 1.0, 1e2, 1e4, 1e6, 1e12}) {
      CAPTURE(p.name);
      CAPTURE(t);
      CHECK(difference(flow(t).train(), exact(t).train()) < 3e-8 + 2e-16 * .5 * t * exact(t).lambda_max() / static_cast<double>(p.n()));
      CHECK(flow(t).loss() == doctest::Approx(exact(t).loss()).epsilon(1e-6));
      CHECK(flow(t).time() == t);
    }
    CHECK(flow.state().method == Stepping::exprb43);
    CHECK(flow.rows() == p.n());
  }
}

TEST_CASE("ridge, weight decay, rates and frozen layers are those of the closed form") {
  const Case c = network_case(6, 2, 21);
  const Rates rates = {{"W1", rate(.25)}, {"b1", rate(0)}};
  for (const auto& [ridge, decay, rated] : std::vector<std::tuple<double, double, bool>>{{.3, 0, false}, {6e-3, 0, false}, {0, .05, false}, {0, 5e-4, true}, {.2, .1, true}, {0, 0, true}}) {
    const auto exact = gradient_flow(network, c.params, c.x, c.y, FlowOptions{.rate = .7, .ridge = ridge, .weight_decay = decay, .rates = rated ? rates : Rates{}});
    LossOptions options{.rate = .7, .ridge = ridge, .weight_decay = decay, .rates = rated ? rates : Rates{}};
    for (const bool matrix_free : {false, true}) {
      options.matrix_free = matrix_free;
      const auto flow = gradient_flow(network, c.params, c.x, c.y, Loss::squared(), options);
      const Points points = flow.points(c.x_test);
      for (const double t : {0.0, .5, 20.0, 3e3, 1e6}) {
        CAPTURE(ridge);
        CAPTURE(decay);
        CAPTURE(t);
        CHECK(difference(flow(t).train(), exact(t).train()) < 3e-8);
        CHECK(difference(flow(t).predict(c.x_test), exact(t).predict(c.x_test)) < 1e-6);
        CHECK(difference(flow(t).predict(points), flow(t).predict(c.x_test)) < 1e-9);
        CHECK(same(flow(t).weights(), exact(t).weights(), 1e-6));
      }
    }
    options.matrix_free = false;
    options.relative_ridge = .01;
    const auto relative = gradient_flow(network, c.params, c.x, c.y, FlowOptions{.rate = .7, .ridge = ridge, .relative_ridge = .01, .weight_decay = decay, .rates = rated ? rates : Rates{}});
    CHECK(difference(gradient_flow(network, c.params, c.x, c.y, Loss::squared(), options)(infinity).train(), relative(infinity).train()) < 1e-9);
    const auto weights = gradient_flow(network, c.params, c.x, c.y, Loss::squared(), options)(5).weights();
    if (rated) CHECK(weights["b1"].leaf() == c.params["b1"].leaf());
  }
}

TEST_CASE("momentum flow, and steps with and without momentum, are those of the closed form on the squared loss") {
  const Case c = network_case(6, 2, 22);
  for (const double decay : {0.0, .02}) {
    const auto wave = momentum_flow(network, c.params, c.x, c.y, Loss::squared(), {.rate = .04, .ridge = .1, .weight_decay = decay, .momentum = .8});
    const auto exact_wave = momentum_flow(network, c.params, c.x, c.y, MomentumOptions{.rate = .04, .momentum = .8, .ridge = .1, .weight_decay = decay});
    for (const double t : {0.0, 3.0, 100.0, 4e3}) {
      CHECK(difference(wave(t).train(), exact_wave(t).train()) < 3e-7);
      CHECK(same(wave(t).weights(), exact_wave(t).weights(), 1e-6));
    }
    const auto plain = gradient_descent(network, c.params, c.x, c.y, Loss::squared(), {.rate = .1, .ridge = .1, .weight_decay = decay});
    const auto exact_plain = gradient_descent(network, c.params, c.x, c.y, DescentOptions{.rate = .1, .ridge = .1, .weight_decay = decay});
    for (const bool nesterov : {false, true}) {
      const auto heavy = momentum(network, c.params, c.x, c.y, Loss::squared(), {.rate = .1, .weight_decay = decay, .momentum = .7, .nesterov = nesterov});
      const auto exact_heavy = momentum(network, c.params, c.x, c.y, MomentumOptions{.rate = .1, .momentum = .7, .nesterov = nesterov, .weight_decay = decay});
      for (const double t : {0.0, 1.0, 2.0, 77.0, 1000.0}) {
        CHECK(same(heavy(t).weights(), exact_heavy(t).weights(), 1e-11));
        CHECK(same(plain(t).weights(), exact_plain(t).weights(), 1e-11));
        CHECK(difference(plain(t).train(), exact_plain(t).train()) < 1e-11);
      }
    }
  }
}

TEST_CASE("every loss is what small steps on explicit weights come to") {
  struct Kind {
    const char* name;
    Loss loss;
    Slope slope;
    Index outputs;
  };
  const Loss mine([](const Var& f, const Var& y) { return mean(sqrt(1.0 + square(f - y))); }, "mine");
  const std::vector<Kind> kinds = {{"softmax", Loss::softmax_cross_entropy(), softmax_slope, 3},
                                   {"logistic", Loss::logistic(), entrywise([](double f, double y) { return 1 / (1 + std::exp(-f)) - y; }), 1},
                                   {"logistic of two", Loss::logistic(), entrywise([](double f, double y) { return 1 / (1 + std::exp(-f)) - y; }), 2},
                                   {"huber", Loss::huber(.4), entrywise([](double f, double y) { return std::clamp(f - y, -.4, .4); }), 2},
                                   {"of one's own", mine, entrywise([](double f, double y) { return (f - y) / std::sqrt(1 + (f - y) * (f - y)); }), 1}};
  for (const Kind& kind : kinds)
    for (const auto& [n, p] : std::vector<std::pair<Index, Index>>{{8, 5}, {1, 4}, {6, 9}}) {
      CAPTURE(kind.name);
      CAPTURE(n);
      Draw draw(23);
      Array<double> a = draw.array(Shape{n, p});
      const Array<double> theta0 = draw.array(Shape{p, kind.outputs});
      Array<double> y(Shape{n, kind.outputs});
      for (Index i = 0; i < n; ++i) y[{i, i % kind.outputs}] = i % 3 == 0 ? 0 : 1;
      if (kind.slope.target<decltype(&softmax_slope)>() != nullptr) y = one_hot(n, kind.outputs);
      const double t = 40;
      const Array<double> expected = flowed(a, theta0, y, kind.slope, t, 10000);
      const auto at = gradient_flow(linear, {{"W", theta0}}, a, y, kind.loss)(t);
      CHECK(difference(at.weights()["W"], expected) < (kind.slope.target<int>() == nullptr && std::string(kind.name) == "huber" ? 2e-6 : 2e-7));
      CHECK(difference(at.train(), product(a, expected)) < 2e-6);
    }
}

TEST_CASE("steps approach the flow in the first order of their rate") {
  const Case c = network_case(7, 3, 24);
  const auto exact = gradient_flow(network, c.params, c.x, c.y, Loss::softmax_cross_entropy())(8).train();
  double before = 0;
  for (const int count : {400, 800, 1600}) {
    const auto at = gradient_descent(network, c.params, c.x, c.y, Loss::softmax_cross_entropy(), {.rate = 8.0 / count})(count).train();
    const double error = max_abs(at - exact);
    if (before > 0) CHECK(before / error == doctest::Approx(2).epsilon(.02));
    before = error;
  }
  CHECK(before < 3e-3);
}

TEST_CASE("tolerances are kept: ten times smaller ones, ten times smaller errors") {
  const Case c = network_case(9, 3, 25);
  const auto at = [&](double tolerance) { return gradient_flow(network, c.params, c.x, c.y, Loss::softmax_cross_entropy(), {.rtol = tolerance, .atol = tolerance}); };
  const auto exact = at(1e-12);
  for (const double t : {1.0, 33.3, 1e3, 1e5})
    for (const double tolerance : {1e-4, 1e-6, 1e-8}) {
      CAPTURE(t);
      CAPTURE(tolerance);
      CHECK(max_abs(at(tolerance)(t).train() - exact(t).train()) < 30 * tolerance);
    }
}

TEST_CASE("softmax cross-entropy reaches t lambda_max / 2 n = 1e6 within 1e-6 of the outputs, in few products") {
  for (const bool conflicting : {false, true}) {
    CAPTURE(conflicting);
    Case c = network_case(60, 3, 26, 256);
    c.x = Draw(27).array(Shape{60, 20});
    c.params["W1"] = Draw(28).array(Shape{20, 256});
    c.params["W2"] = .15 * Draw(29).array(Shape{256, 3});
    if (conflicting)  // every fourth example comes twice, with another label
      for (Index i = 0; i + 1 < 60; i += 4) {
        std::copy_n(c.x.data() + i * 20, 20, c.x.data() + (i + 1) * 20);
        for (Index k = 0; k < 3; ++k) c.y[{i + 1, k}] = c.y[{i, (k + 1) % 3}];
      }
    const auto kernel = linnet::ntk::full(network, c.params, c.x);
    const auto f0 = linnet::autodiff::compile(network, c.params, c.x)(c.params, c.x);
    const double t = 1e6 * 2 * 60 / Spectrum(kernel.matrix()).lambda_max(), tolerance = conflicting ? 1e-6 : 1e-7;
    const auto flow = gradient_flow(kernel, f0, c.y, Loss::softmax_cross_entropy(), {.rtol = tolerance, .atol = tolerance});
    const auto exact = gradient_flow(kernel, f0, c.y, Loss::softmax_cross_entropy(), {.rtol = 1e-10, .atol = 1e-10});
    CHECK(max_abs(flow(t).train() - exact(t).train()) < 1e-6);
    CHECK(flow.state().products <= (conflicting ? 8000 : 1500));
    CHECK((flow.state().method == Stepping::exprb43) == conflicting);
    MESSAGE(std::string(conflicting ? "conflicting labels: " : "separable: ") << flow.state().products << " products, error " << max_abs(flow(t).train() - exact(t).train()));
  }
}

TEST_CASE("an answer has the same bits in any order of times, and from a state that goes on") {
  const Case c = network_case(8, 3, 30);
  const std::vector<double> times = {2e5, 1, 0, 40, 1e4, 39, 40, 3e5};
  for (const Loss& loss : {Loss::softmax_cross_entropy(), Loss::squared()}) {
    const auto flow = gradient_flow(network, c.params, c.x, c.y, loss);
    const Array<double> many = flow.train(times);
    CHECK(many.shape() == Shape{8, 8, 3});
    for (std::size_t i = 0; i < times.size(); ++i) {
      CHECK(many.rows(static_cast<Index>(i), 1).reshaped(Shape{8, 3}) == flow(times[i]).train());
      CHECK(flow(times[i]).train() == gradient_flow(network, c.params, c.x, c.y, loss)(times[i]).train());
    }
    CHECK(flow.coefficients(times).rows(3, 1).reshaped(Shape{8, 3}) == flow(40).coefficients());
    CHECK(flow.weights(times)[4] == flow(1e4).weights());
    CHECK(flow.predict(flow.points(c.x_test), times).rows(4, 1).reshaped(Shape{5, 3}) == flow(1e4).predict(flow.points(c.x_test)));

    const auto first = gradient_flow(network, c.params, c.x, c.y, loss);
    first(1e4);
    const auto second = gradient_flow(network, c.params, c.x, c.y, loss, {.start = first.state()});
    for (const double t : {1e4, 2e5, 3e5}) CHECK(second(t).train() == flow(t).train());
    CHECK(second(3e5).weights() == flow(3e5).weights());
    CHECK(second.state().products == flow.state().products);
    CHECK_THROWS_AS(second(1), NumericalError);
  }
  const auto stepped = momentum(network, c.params, c.x, c.y, Loss::squared(), {.rate = .1});
  stepped(50);
  const auto on = momentum(network, c.params, c.x, c.y, Loss::squared(), {.rate = .1, .start = stepped.state()});
  CHECK(on(80).weights() == stepped(80).weights());
}

TEST_CASE_TEMPLATE("float networks are trained in double and answered in float, with the same bits for any number of threads", T, float, double) {
  const Case wide = network_case(67, 3, 31);
  const auto params = map([](const Array<double>& a) { return cast<T>(a); }, wide.params);
  const Array<T> x = cast<T>(wide.x), y = cast<T>(wide.y), x_test = cast<T>(wide.x_test);
  const auto answers = [&] {
    std::vector<Array<T>> all;
    for (const bool matrix_free : {false, true})
      for (const Loss& loss : {Loss::softmax_cross_entropy(), Loss::squared()}) {
        const auto flow = gradient_flow(network, params, x, y, loss, {.rtol = 1e-6, .atol = 1e-6, .matrix_free = matrix_free});
        const auto at = flow(2000);
        all.push_back(at.train());
        all.push_back(at.predict(x_test));
        const auto weights = at.weights();
        for (const Array<T>* leaf : weights.leaves()) all.push_back(*leaf);
      }
    return all;
  };
  const int before = linnet::autodiff::threads();
  linnet::autodiff::set_threads(1);
  const auto expected = answers();
  for (const int threads : rounds::thread_counts) {
    linnet::autodiff::set_threads(threads);
    CHECK(answers() == expected);
  }
  linnet::autodiff::set_threads(before);
  const auto same_in_double = gradient_flow(network, map([](const Array<T>& a) { return cast<double>(a); }, params), cast<double>(x), cast<double>(y), Loss::softmax_cross_entropy(), {.rtol = 1e-6, .atol = 1e-6});
  CHECK(cast<T>(same_in_double(2000).train()) == expected[0]);
}

TEST_CASE("a kernel of every output at once, traced kernels and new examples answer what the network does") {
  const Case c = network_case(6, 3, 32);
  const auto kernel = linnet::ntk::full(network, c.params, c.x), test = linnet::ntk::full(network, c.params, c.x_test, c.x);
  const auto f0 = linnet::autodiff::compile(network, c.params, c.x)(c.params, c.x), f0_test = linnet::autodiff::compile(network, c.params, c.x_test)(c.params, c.x_test);
  const auto flow = gradient_flow(network, c.params, c.x, c.y, Loss::softmax_cross_entropy());
  const auto from_kernel = gradient_flow(kernel, f0, c.y, Loss::softmax_cross_entropy());
  for (const double t : {0.0, 4.0, 300.0}) {
    CHECK(difference(from_kernel(t).train(), flow(t).train()) < 1e-10);
    CHECK(difference(from_kernel(t).predict(test, f0_test), flow(t).predict(c.x_test)) < 1e-9);
    CHECK(difference(flow(t).train(), flow(t).linearized(c.x)) < 1e-10);
  }
  // One kernel for all outputs is the full kernel of three blocks alike.
  const TraceApproximation<double> traced = approximate_by_trace(linnet::ntk::traced(network, c.params, c.x)), traced_test = approximate_by_trace(linnet::ntk::traced(network, c.params, c.x_test, c.x));
  const auto spread = [](const Array<double>& k) {
    Array<double> full(Shape{k.shape()[0] * 3, k.shape()[1] * 3});
    for (Index i = 0; i < k.shape()[0]; ++i)
      for (Index j = 0; j < k.shape()[1]; ++j)
        for (Index o = 0; o < 3; ++o) full[{i * 3 + o, j * 3 + o}] = k[{i, j}];
    return full;
  };
  const auto one = gradient_flow(traced, f0, c.y, Loss::softmax_cross_entropy());
  const auto blocks = gradient_flow(FullKernel<double>(spread(traced.kernel), 6, 6, 3), f0, c.y, Loss::softmax_cross_entropy());
  for (const double t : {4.0, 1e5}) {
    CHECK(difference(one(t).train(), blocks(t).train()) < 1e-7);
    CHECK(difference(one(t).predict(traced_test, f0_test), blocks(t).predict(FullKernel<double>(spread(traced_test.kernel), 5, 6, 3), f0_test)) < 1e-6);
  }
  CHECK(flow(2).predict(Array<double>(Shape{0, 3})).shape() == Shape{0, 3});
}

TEST_CASE("the peer's numbers for other losses than the squared one, as a flow and with momentum") {  // tests/reference/any_loss.py
  const auto features = [](Index n, double shift) {
    Array<double> a(Shape{n, 6});
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < 6; ++j) a[{i, j}] = std::sin(.7 * static_cast<double>(i) + 1.3 * static_cast<double>(j) + shift);
    return a;
  };
  const Array<double> a = features(4, .1), b = features(2, 2);
  Array<double> f0(Shape{4, 3}), f0_test(Shape{2, 3}), y(Shape{4, 3}, {1, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1});
  for (Index i = 0; i < 4; ++i)
    for (Index k = 0; k < 3; ++k) f0[{i, k}] = std::cos(.4 * static_cast<double>(i) + .9 * static_cast<double>(k));
  for (Index i = 0; i < 2; ++i)
    for (Index k = 0; k < 3; ++k) f0_test[{i, k}] = std::cos(.3 * static_cast<double>(i) - .8 * static_cast<double>(k));
  const TraceApproximation<double> kernel{product(a, transposed(a)), 3}, kernel_test{product(b, transposed(a)), 3};
  struct Row {
    Loss loss;
    double momentum, t;
    Array<double> train, test;
  };
  const std::vector<Row> rows = {
      {Loss::softmax_cross_entropy(), 0, 2, Array<double>(Shape{4, 3}, {1.166411503, 0.361654844, -0.1336584735, 0.2155623159, 0.187063343, 0.1974330464, -0.5488950978, 0.00806972454, 0.251798835, -0.8375211888, -0.2149750778, -0.07998458009}),
       Array<double>(Shape{2, 3}, {-0.2770768366, 0.9546509302, 0.9899330935, 0.1463541115, 1.195069892, 0.7589938757})},
      {Loss::softmax_cross_entropy(), 0, 50, Array<double>(Shape{4, 3}, {2.565469507, -0.4406478856, -0.7304137473, -1.06284622, 0.6459797158, 1.016925209, -3.903514662, 1.512369659, 2.102118465, -4.690621784, 1.627212653, 1.930928284}),
       Array<double>(Shape{2, 3}, {-4.179072857, 2.789512236, 3.057067809, -2.931720434, 2.740806967, 2.291331347})},
      {Loss::softmax_cross_entropy(), 0.9, 2, Array<double>(Shape{4, 3}, {1.142849127, 0.3477293621, -0.09617061537, -0.008371049836, 0.2335715291, 0.3748582261, -0.8678800921, 0.09313805187, 0.485715502, -1.101534185, -0.1313555728, 0.1004089106}),
       Array<double>(Shape{2, 3}, {-0.5719260961, 1.043114496, 1.196318787, 0.001774289572, 1.252740955, 0.8459026354})},
      {Loss::softmax_cross_entropy(), 0.9, 50, Array<double>(Shape{4, 3}, {7.25933442, -2.79242543, -3.072501117, -4.97206999, 2.579524985, 2.99260371, -14.57725809, 6.821861189, 7.466370368, -17.10885656, 7.815513615, 8.160862099}),
       Array<double>(Shape{2, 3}, {-16.71235861, 9.032219833, 9.347645964, -12.95475321, 7.742582917, 7.312588176})},
      {Loss::logistic(), 0, 2, Array<double>(Shape{4, 3}, {0.9368850418, 0.3676943976, -0.3285579717, 0.4389115483, 0.01975331529, -0.4694709289, 0.02228519419, -0.2539013642, -0.5734542572, -0.1871448534, -0.4483981311, -0.6754573649}),
       Array<double>(Shape{2, 3}, {0.3830773934, 0.700149079, 0.2922848466, 0.6622321333, 1.052317247, 0.5116295065})},
      {Loss::logistic(), 0, 50, Array<double>(Shape{4, 3}, {1.415289553, -1.143237584, -1.257417512, -1.687727857, -1.195352953, -0.3568886136, -3.709206385, -0.6016984542, 0.5276206919, -3.768509811, 0.2346883628, 0.8962574646}),
       Array<double>(Shape{2, 3}, {-3.432916497, 1.101244082, 1.801510798, -1.742234233, 2.299420726, 1.966131954})},
      {Loss::logistic(), 0.9, 2, Array<double>(Shape{4, 3}, {0.9322710923, 0.3706887745, -0.3237093583, 0.4301127319, 0.01921758223, -0.4655879185, 0.01343973179, -0.2577152436, -0.5723630902, -0.1918768027, -0.4536964298, -0.6776712343}),
       Array<double>(Shape{2, 3}, {0.3768280471, 0.695029939, 0.2909737927, 0.6619688355, 1.047490074, 0.5076144877})},
      {Loss::logistic(), 0.9, 50, Array<double>(Shape{4, 3}, {4.873117896, -1.17257725, -1.293931999, -4.652909154, -1.235306082, -0.3339925149, -11.70282623, -0.6334744661, 0.5991589835, -13.03104388, 0.2260342233, 0.9827923727}),
       Array<double>(Shape{2, 3}, {-12.79121666, 1.085004331, 1.887971494, -9.194215738, 2.310547765, 2.038089979})}};
  for (const Row& row : rows) {
    CAPTURE(row.loss.name());
    CAPTURE(row.momentum);
    CAPTURE(row.t);
    const auto training = row.momentum == 0 ? gradient_flow(kernel, f0, y, row.loss, {.rate = .8}) : momentum_flow(kernel, f0, y, row.loss, {.rate = .8, .momentum = row.momentum});
    CHECK(difference(training(row.t).train(), row.train) < 3e-7);
    CHECK(difference(training(row.t).predict(kernel_test, f0_test), row.test) < 3e-7);
  }
}

TEST_CASE("both methods of steps have one answer, and where nothing is stiff the exponential one gives way") {
  const Case c = network_case(9, 3, 41);
  for (const Loss& loss : {Loss::softmax_cross_entropy(), Loss::logistic()}) {
    const auto explicit_steps = gradient_flow(network, c.params, c.x, c.y, loss, {.rtol = 1e-10, .atol = 1e-10});
    const auto exponential = gradient_flow(network, c.params, c.x, c.y, loss, {.rtol = 1e-10, .atol = 1e-10, .start = Integration{.method = Stepping::exprb43}});
    exponential(1e-6);
    CHECK(exponential.state().method == Stepping::exprb43);
    for (const double t : {.3, 5.0, 40.0}) CHECK(difference(exponential(t).train(), explicit_steps(t).train()) < 1e-8);
    CHECK(exponential.state().method == Stepping::dopri5);
    CHECK(exponential.state().switches == 1);
  }
  CHECK_THROWS_WITH_AS(momentum_flow(network, c.params, c.x, c.y, Loss::squared(), {.start = Integration{.method = Stepping::exprb43}}),
                       "momentum_flow: the state to start from takes steps of exprb43, which are not for momentum; go on by what made it", StructureError);
}

TEST_CASE("targets of another shape, and kernels computed in float, are trained on as well") {
  const Case c = network_case(7, 3, 37);
  Array<double> classes(Shape{7});
  for (Index i = 0; i < 7; ++i) classes.data()[i] = static_cast<double>((i * i + 3 * i) % 3);
  const Loss of_classes([](const Var& f, const Var& y) {  // the logarithm that belongs to each class, by its place in the flat outputs
    const Index n = f.shape()[0], k = f.shape()[1];
    Array<double> first(Shape{n});
    for (Index i = 0; i < n; ++i) first.data()[i] = static_cast<double>(i * k);
    return mean(logsumexp(f)) - mean(gather(reshape(f, {n * k}), y + linnet::autodiff::constant(first)));
  });
  const auto by_class = gradient_flow(network, c.params, c.x, classes, of_classes), by_one_hot = gradient_flow(network, c.params, c.x, c.y, Loss::softmax_cross_entropy());
  for (const double t : {1.0, 100.0}) {
    CHECK(difference(by_class(t).train(), by_one_hot(t).train()) < 1e-7);
    CHECK(by_class(t).loss() == doctest::Approx(by_one_hot(t).loss()).epsilon(1e-6));
  }
  const auto params = map([](const Array<double>& a) { return cast<float>(a); }, c.params);
  const auto kernel = linnet::ntk::full(network, params, cast<float>(c.x));
  const auto f0 = linnet::autodiff::compile(network, params, cast<float>(c.x))(params, cast<float>(c.x));
  const auto narrow = gradient_flow(kernel, f0, cast<float>(c.y), Loss::softmax_cross_entropy());
  for (const double t : {1.0, 100.0, 1e5}) CHECK(difference(cast<double>(narrow(t).train()), by_one_hot(t).train()) < 1e-4);
}

TEST_CASE("a loss that is not convex, or mixes examples, is integrated by explicit steps where others would be stiff") {
  const Case c = network_case(6, 1, 33);
  const Loss wavy([](const Var& f, const Var& y) { return mean(0.5 * square(f - y) + 0.4 * sin(3.0 * f)); }, "wavy");
  const Loss mixing([](const Var& f, const Var& y) { return 2.0 * square(mean(f)) + mean(square(f - y)); }, "mixing");
  for (const Loss& loss : {wavy, mixing}) {
    const auto coarse = gradient_flow(network, c.params, c.x, c.y, loss), fine = gradient_flow(network, c.params, c.x, c.y, loss, {.rtol = 1e-11, .atol = 1e-11});
    CHECK(max_abs(coarse(500).train() - fine(500).train()) < 1e-6);
  }
  const auto mixed = gradient_flow(network, c.params, c.x, c.y, mixing);
  mixed(600);
  CHECK(mixed.state().method == Stepping::dopri5);
  CHECK_FALSE(mixed.state().convex);
}

TEST_CASE("t = infinity is the minimum where there is one: the closed form's on the squared loss, and where late times of others are") {
  for (const Problem& p : eight()) {
    CAPTURE(p.name);
    const auto exact = gradient_flow(kernel_of(p), column(p.f0), column(p.y), FlowOptions{})(infinity);
    const auto at = gradient_flow(kernel_of(p), column(p.f0), column(p.y), Loss::squared())(infinity);
    CHECK(difference(at.train(), exact.train()) < 1e-9);
    if (exact.condition() < 1e9) CHECK(difference(at.coefficients(), exact.coefficients()) < 1e-7 * exact.condition());
    CHECK(std::isinf(at.time()));
  }
  const Case c = network_case(6, 2, 38);
  for (const double decay : {0.0, .05}) {
    const auto exact = gradient_flow(network, c.params, c.x, c.y, FlowOptions{.ridge = .1, .weight_decay = decay})(infinity);
    CHECK(same(gradient_flow(network, c.params, c.x, c.y, Loss::squared(), {.ridge = .1, .weight_decay = decay})(infinity).weights(), exact.weights(), 1e-9));
    CHECK(same(momentum_flow(network, c.params, c.x, c.y, Loss::squared(), {.ridge = .1, .weight_decay = decay, .matrix_free = true})(infinity).weights(), exact.weights(), 1e-9));
  }
  Case soft = network_case(5, 3, 39);  // no label is certain: cross-entropy has a minimum
  for (Index i = 0; i < 5; ++i)
    for (Index k = 0; k < 3; ++k) soft.y[{i, k}] = (1 + static_cast<double>((i + k) % 3)) / 6;
  for (const Loss& loss : {Loss::softmax_cross_entropy(), Loss::logistic(), Loss([](const Var& f, const Var& y) { return mean(sqrt(1.0 + square(f - y))); })}) {
    const auto flow = gradient_flow(network, soft.params, soft.x, soft.y, loss, {.rate = 10, .rtol = 1e-9, .atol = 1e-9});
    CHECK(difference(flow(infinity).train(), flow(1e6).train()) < 1e-6);
    CHECK(same(flow(infinity).weights(), flow(1e6).weights(), 1e-4));
    CHECK(flow(infinity).loss() <= flow(1e6).loss() + 1e-15);
  }
  const Case apart = network_case(5, 2, 40);
  CHECK_THROWS_WITH_AS(gradient_flow(network, apart.params, apart.x, apart.y, Loss::softmax_cross_entropy())(infinity), doctest::Contains("still falls, with outputs up to "), NumericalError);
  CHECK(std::isfinite(gradient_flow(network, apart.params, apart.x, apart.y, Loss::softmax_cross_entropy(), {.ridge = 1e-3})(infinity).loss()));
  const Loss wavy([](const Var& f, const Var& y) { return mean(0.5 * square(f - y) - 4.0 * square(sin(f))); }, "wavy");
  CHECK_THROWS_WITH_AS(gradient_flow(network, apart.params, apart.x, apart.y, wavy)(infinity), "gradient_flow: there is no t = infinity that is known: the loss is not convex on the way; ask for a finite time", NumericalError);
  CHECK_THROWS_WITH_AS(gradient_descent(network, c.params, c.x, c.y, Loss::squared(), {.rate = .1})(infinity), "gradient_descent: steps are carried out one by one; where they converge, t = infinity is that of gradient_flow", StructureError);
  const Array<double> many(Shape{4001, 1}), to(Shape{4001, 1}, 1.0);
  CHECK_THROWS_WITH_AS(gradient_flow(linear, {{"W", Array<double>(Shape{1, 1})}}, many, to, Loss::squared(), {.matrix_free = true})(infinity),
                       "gradient_flow: t = infinity takes a decomposition of the kernel, and with 4001 rows it has more than 4000; ask for a finite time", NumericalError);
}

TEST_CASE("outputs that are where they should be, and a kernel of zeros, stay for all times") {
  const Case c = network_case(4, 2, 34);
  const auto f0 = linnet::autodiff::compile(network, c.params, c.x)(c.params, c.x);
  const auto still = gradient_flow(network, c.params, c.x, f0, Loss::squared());
  CHECK(still(1e200).train() == f0);
  CHECK(still(1e200).weights() == c.params);
  CHECK(gradient_flow(FullKernel<double>(Array<double>(Shape{8, 8}), 4, 4, 2), f0, c.y, Loss::softmax_cross_entropy())(1e100).train() == f0);
}

TEST_CASE("what cannot be trained on a loss is refused in a sentence") {
  const Case c = network_case(6, 2, 35);
  const Loss softmax = Loss::softmax_cross_entropy();
  const auto kernel = linnet::ntk::full(network, c.params, c.x);
  const auto f0 = linnet::autodiff::compile(network, c.params, c.x)(c.params, c.x);
  const auto flow = gradient_flow(network, c.params, c.x, c.y, softmax);
  CHECK_THROWS_WITH_AS(flow(-1), "gradient_flow: t must be a number from 0 to infinity, got -1; expm1_dot runs backwards, where that is wanted", NumericalError);
  CHECK_THROWS_WITH_AS(gradient_flow(network, c.params, c.x, Array<double>(Shape{6}), softmax), "gradient_flow: y is [6], the outputs it is the target of are [6,2]; reshape y to that", ShapeError);
  CHECK_THROWS_WITH_AS(gradient_flow(network, c.params, c.x, c.y, softmax, {.rtol = 0}), "gradient_flow: rtol and atol must be from 1e-13 to 1, got 0 and 1e-08; below that it is rounding that decides", NumericalError);
  CHECK_THROWS_WITH_AS(gradient_flow(network, c.params, c.x, c.y, softmax, {.relative_ridge = -1}), "gradient_flow: the relative ridge must be finite and not negative, got -1", NumericalError);
  CHECK_THROWS_WITH_AS(gradient_flow(network, c.params, c.x, c.y, softmax, {.relative_ridge = 1, .matrix_free = true}),
                       "gradient_flow: a relative ridge is one of the kernel's diagonal, which is not there with matrix_free; give the ridge itself", StructureError);
  CHECK_THROWS_WITH_AS(gradient_flow(network, c.params, c.x, c.y, softmax, {.max_products = 0}), "gradient_flow: max_products must be positive, got 0", NumericalError);
  CHECK_THROWS_WITH_AS(gradient_flow(network, c.params, Array<double>(Shape{0, 3}), c.y, softmax), "gradient_flow: x is [0,3]; there must be at least one example and one output", ShapeError);
  CHECK_THROWS_WITH_AS(momentum_flow(network, c.params, c.x, c.y, softmax, {.nesterov = true}),
                       "momentum_flow: Nesterov's steps have no flow of their own; for small rates they become the heavy ball's, without nesterov", StructureError);
  CHECK_THROWS_WITH_AS(gradient_descent(network, c.params, c.x, c.y, softmax)(.5), "gradient_descent: t counts steps here and must be a whole number up to 2^53, or infinity, got 0.5; gradient_flow has a time", NumericalError);
  CHECK_THROWS_WITH_AS(gradient_flow(kernel, f0, c.y, softmax, {.weight_decay = 1}),
                       "gradient_flow: weight decay moves the outputs by A theta0, which a kernel does not know; make it by gradient_flow(f, params, x, y, loss)", StructureError);
  CHECK_THROWS_WITH_AS(gradient_flow(kernel, f0, c.y, softmax, {.rates = {{"W1", rate(0)}}}), "gradient_flow: a kernel has no weights for rates to belong to; make it by gradient_flow(f, params, x, y, loss)", StructureError);
  CHECK_THROWS_WITH_AS(gradient_flow(kernel, f0, c.y, softmax, {.matrix_free = true}),
                       "gradient_flow: a kernel that is there is multiplied with; products without one are those of gradient_flow(f, params, x, y, loss)", StructureError);
  CHECK_THROWS_WITH_AS(gradient_flow(kernel, f0.rows(0, 5), c.y.rows(0, 5), softmax), "gradient_flow: f0 is [5,2], the kernel is [12,12]; it must be of the training examples with themselves", ShapeError);
  CHECK_THROWS_WITH_AS(gradient_flow(kernel, f0, c.y, softmax)(1).weights(),
                       "weights: this training was made from a kernel and has no network; make it by gradient_flow(f, params, x, y, loss), or give predict the kernel and f0 of the test examples", StructureError);
  CHECK_THROWS_WITH_AS(flow(1).linearized(Array<double>(Shape{2, 4})), "linearized: x_new is [2,4], the examples trained on are [6,3]; they may differ in the leading axis only", ShapeError);
  CHECK_THROWS_WITH_AS(flow(1).predict(kernel, f0.rows(0, 3)), "predict: f0 of the test examples is [3,2] beside a kernel of [12,12]; training outputs are [6,2], and it must have a row for each of the kernel's", ShapeError);
  CHECK_THROWS_WITH_AS(flow(1).predict(Points{Array<double>(Shape{2, 5}), f0}), "predict: the kernel of test and training examples is [2,5], its columns must be the 12 rows of the kernel trained on", ShapeError);
  const TraceApproximation<double> traced = approximate_by_trace(linnet::ntk::traced(network, c.params, c.x));
  CHECK_THROWS_WITH_AS(flow(1).predict(traced, f0), "predict: this training was made from a full kernel; give it the full kernel of test and training examples", StructureError);
  const auto one = gradient_flow(traced, f0, c.y, softmax);
  CHECK_THROWS_WITH_AS(one(1).predict(kernel, f0), "predict: this training was made from a traced kernel; give it the traced kernel of test and training examples by approximate_by_trace", StructureError);
  CHECK_THROWS_WITH_AS(one(1).predict(TraceApproximation<double>{traced.kernel, 3}, f0), "predict: the traced kernel is of 3 outputs, the one trained on of 2", ShapeError);
  const auto decaying = gradient_flow(network, c.params, c.x, c.y, softmax, {.weight_decay = .1});
  CHECK_THROWS_WITH_AS(decaying(1).predict(kernel, f0), "predict: weights decay here, and predictions need A theta0 of the new examples besides their kernel and f0; give predict the examples, or their points()", StructureError);
}

TEST_CASE("states, products and kernels that do not hold say so, and where they stopped") {
  const Case c = network_case(6, 2, 36);
  const Loss softmax = Loss::softmax_cross_entropy();
  const auto flow = gradient_flow(network, c.params, c.x, c.y, softmax);
  flow(10);
  Integration state = flow.state();
  CHECK_THROWS_WITH_AS(gradient_flow(network, c.params, c.x, c.y, softmax, {.weight_decay = .1, .start = state}),
                       "gradient_flow: the state to start from has 24 numbers and is of a flow; this training has 26 and is a flow; go on by what made it, with the same options", StructureError);
  CHECK_THROWS_WITH_AS(gradient_descent(network, c.params, c.x, c.y, softmax, {.start = state}),
                       "gradient_descent: the state to start from has 24 numbers and is of a flow; this training has 24 and counts steps; go on by what made it, with the same options", StructureError);
  CHECK_THROWS_WITH_AS(gradient_flow(network, c.params, c.x, c.y, softmax, {.start = state})(1e-9),
                       doctest::Contains("gradient_flow: t = 1e-09 is before the state that was continued from, at t = "), NumericalError);
  state.values[3] = NAN;
  CHECK_THROWS_WITH_AS(gradient_flow(network, c.params, c.x, c.y, softmax, {.start = state}), "gradient_flow: the state to start from has nan; every value must be finite", NumericalError);
  state = flow.state();
  state.h = infinity;
  CHECK_THROWS_WITH_AS(gradient_flow(network, c.params, c.x, c.y, softmax, {.start = state}), doctest::Contains("with h = inf; both must be finite and not negative"), NumericalError);

  const auto few = gradient_flow(network, c.params, c.x, c.y, softmax, {.max_products = 60});
  const Array<double> early = few(.3).train();
  CHECK_THROWS_WITH_AS(few(1e5), doctest::Contains("by max_products = 60, after 9 steps"), NumericalError);
  CHECK(few(.3).train() == early);
  CHECK(few(.3).train() == flow(.3).train());

  Array<double> bad(Shape{2, 2}, {1, 2, 2, 1});
  CHECK_THROWS_WITH_AS(gradient_flow(FullKernel<double>(bad, 2, 2, 1), Array<double>(Shape{2, 1}), Array<double>(Shape{2, 1}, {1, -1}), Loss::squared())(1),
                       doctest::Contains("gradient_flow: the kernel is indefinite: there is a vector with v.Kv = -1 |v|^2"), NumericalError);
  const Loss cliff([](const Var& f, const Var& y) { return mean(0.0 - log(1.0 - f) + y); }, "cliff");  // rises without bound towards 1, and is not a number beyond
  const Loss falling([](const Var& f, const Var& y) { return mean(log(1.0 - f) + y); }, "falling");    // falls without bound towards 1
  CHECK_THROWS_WITH_AS(gradient_flow(FullKernel<double>(Array<double>(Shape{1, 1}, 1.0), 1, 1, 1), Array<double>(Shape{1, 1}), Array<double>(Shape{1, 1}), falling)(3),
                       doctest::Contains("gradient_flow: no step from t = 0.5 is short enough"), NumericalError);
  CHECK(std::isfinite(gradient_flow(FullKernel<double>(Array<double>(Shape{1, 1}, 1.0), 1, 1, 1), Array<double>(Shape{1, 1}), Array<double>(Shape{1, 1}), cliff)(3).loss()));
  CHECK_THROWS_WITH_AS(gradient_descent(FullKernel<double>(Array<double>(Shape{1, 1}, 1.0), 1, 1, 1), Array<double>(Shape{1, 1}, 1.0), Array<double>(Shape{1, 1}), Loss::squared(), {.rate = 1e6})(100),
                       doctest::Contains("steps with rate 1e+06 the answer overflows; lower the rate, or ask for fewer steps"), NumericalError);
  CHECK_THROWS_WITH_AS(gradient_flow(FullKernel<double>(Array<double>(Shape{1, 1}, 1.0), 1, 1, 1), Array<double>(Shape{1, 1}, 1.0), Array<double>(Shape{1, 1}), cliff)(1),
                       "gradient_flow: the gradient of the loss is not finite at t = 0; give a loss that is finite at f(params, x), or scale the inputs", NumericalError);
  CHECK_THROWS_WITH_AS(gradient_flow(FullKernel<double>(Array<double>(Shape{1, 1}, 1.0), 1, 1, 1), Array<double>(Shape{1, 1}, 2.0), Array<double>(Shape{1, 1}), cliff)(0).loss(),
                       doctest::Contains("loss: the loss of the outputs at t = 0 is "), NumericalError);
}
