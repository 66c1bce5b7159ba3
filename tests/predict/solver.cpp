// The door with a solver: networks and kernels by products as by a decomposition, which of both is taken where nobody said, and what is told about it.
#include "linnet/autodiff/kernels/parallel.h"
#include "linnet/autodiff/ops.h"
#include "linnet/predict/predict.h"
#include "linnet/tests/predict/problem.h"

#include <doctest/doctest.h>

using linnet::autodiff::cast;
using linnet::autodiff::NumericalError;
using linnet::autodiff::Scalar;
using linnet::autodiff::StructureError;
using linnet::autodiff::Tree;
using linnet::autodiff::Var;
using linnet::ntk::FullKernel;
using namespace linnet::predict;
using problem::difference, problem::Draw, problem::infinity, problem::Shape;
using linnet::autodiff::Index;

namespace {

Var network(const Tree<Var>& params, const Var& x) {
  const Var h = erf(dot(x, params["W1"]) + params["b1"]);
  return dot(erf(dot(h, params["W2"])), params["W3"]);
}

struct Case {
  Tree<Array<double>> params;
  Array<double> x, x_new, y;
};

Case network_case(Index n, Index outputs, std::uint64_t seed) {
  Draw draw(seed);
  const Index width = 12;
  Case c;
  c.params = {{"W1", draw.array(Shape{3, width})}, {"b1", draw.array(Shape{1, width})}, {"W2", draw.array(Shape{width, width})}, {"W3", draw.array(Shape{width, outputs})}};
  c.x = draw.array(Shape{n, 3});
  c.x_new = draw.array(Shape{5, 3});
  c.y = draw.array(Shape{n, outputs});
  return c;
}

// Eigenvalues d in the basis of a reflection, which costs nothing to make.
FullKernel<double> reflected(const Array<double>& d, std::uint64_t seed) {
  const Index n = d.size();
  Array<double> u = Draw(seed).array(Shape{n}), k(Shape{n, n});
  u = (1 / norm(u)) * u;
  double s = 0;
  for (Index i = 0; i < n; ++i) s += u.data()[i] * u.data()[i] * d.data()[i];
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < n; ++j) k[{i, j}] = (i == j ? d.data()[i] : 0) + 2 * u.data()[i] * u.data()[j] * (2 * s - (d.data()[i] + d.data()[j]));
  return {std::move(k), n, n, 1};
}
FullKernel<double> falling(Index n, double power, std::uint64_t seed) {
  Array<double> d(Shape{n});
  for (Index i = 0; i < n; ++i) d.data()[i] = std::pow(i + 1., -power);
  return reflected(d, seed);
}

double distance(const Tree<Array<double>>& a, const Tree<Array<double>>& b) {
  double sum = 0;
  map([&](const Array<double>& x, const Array<double>& y) { return sum += dot(x - y, x - y); }, a, b);
  return std::sqrt(sum);
}

}  // namespace

TEST_CASE("a network trained by products is where a decomposition says, within its bounds, at training rows, elsewhere and in weights") {
  for (const Index outputs : {1, 3}) {
    const Case c = network_case(outputs == 1 ? 60 : 20, outputs, 5);
    for (FlowOptions options : {FlowOptions{.rate = 2}, FlowOptions{.rate = 2, .relative_ridge = 1e-4}, FlowOptions{.rate = 2, .weight_decay = 1e-4}, FlowOptions{.rate = 2, .rates = {{"W1", rate(.25)}, {"W2", rate(0)}}}}) {
      options.solver = Solver::decomposition;
      const auto exact = gradient_flow(network, c.params, c.x, c.y, options);
      options.solver = Solver::krylov;
      options.krylov.tolerance = 1e-7;
      const auto flow = gradient_flow(network, c.params, c.x, c.y, options);
      const Points points = exact.points(c.x_new);
      for (const double t : {0., 1., 100., 3e3}) {
        CAPTURE(t);
        const auto at = flow(t), truth = exact(t);
        const Bounds b = at.bounds();
        CHECK(b.converged);
        CHECK(norm(at.train() - truth.train()) <= b.outputs + 1e-11);
        CHECK(b.outputs <= 1e-5);
        if (options.rates.is_leaf() || options.rates.children().empty()) CHECK(distance(at.weights(), truth.weights()) <= b.weights + 1e-11);
        const Array<double> elsewhere = at.bounds(c.x_new), wrong = at.predict(c.x_new) - truth.predict(points);
        CHECK(elsewhere.shape() == Shape{5, outputs});
        for (Index i = 0; i < wrong.size(); ++i) CHECK(std::abs(wrong.data()[i]) <= elsewhere.data()[i] + 1e-11);
        CHECK(difference(at.linearized(c.x_new), at.predict(c.x_new)) < 1e-11);  // of the same coefficients
        CHECK(at.loss() == doctest::Approx(truth.loss()).epsilon(1e-6));
      }
      CHECK(difference(flow(infinity).train(), exact(infinity).train()) < 1e-6);
      CHECK(flow(1).lambda_max() == doctest::Approx(exact(1).lambda_max()).epsilon(1e-8));
      CHECK(flow(1).condition() <= exact(1).condition() * (1 + 1e-6));
      CHECK(flow.explain().starts_with("products with a kernel of 60 rows: Solver::krylov; "));
      CHECK_THROWS_WITH_AS(flow(1).rank(), "rank: these dynamics know the kernel by products alone; take Solver::decomposition, where N = 60 rows are not too many, or ntk::largest_eigenvalues", StructureError);
      CHECK_THROWS_WITH_AS(flow.dynamics().spectrum(), doctest::Contains("spectrum: these dynamics know the kernel by products alone;"), StructureError);
    }
  }
}

TEST_CASE("kernels of networks, one with more rows than weights, are answered by products to 1e-8 or to what the bound says") {
  for (const Index n : {150, 320}) {  // 204 weights
    const Case c = network_case(n, 1, 14);
    const auto kernel = linnet::ntk::full(network, c.params, c.x);
    const Array<double> f0 = linnet::autodiff::compile(network, c.params, c.x)(c.params, c.x);
    const auto exact = gradient_flow(kernel, f0, c.y, {.solver = Solver::decomposition}), flow = gradient_flow(kernel, f0, c.y, {.solver = Solver::krylov});
    const double unit = static_cast<double>(n) / exact(0).lambda_max();
    CHECK((exact(0).rank() < n) == (n == 320));
    for (const double s : {1., 3., 10., 30., 1e2, 3e2, 1e3, 1e4, 1e5, 1e6, 1e8, 1e12, infinity}) {
      CAPTURE(n);
      CAPTURE(s);
      const double t = s * unit;
      const Array<double> change = exact(t).train() - f0, came = flow(t).train() - f0;
      const Bounds b = flow(t).bounds();
      const double rounding = 10 * std::numeric_limits<double>::epsilon() * std::min(s, exact(0).condition()), allowed = std::max(1e-8, rounding);
      if (b.converged) CHECK(norm(came - change) <= allowed * norm(change));
      CHECK(norm(came - change) <= b.outputs + rounding * norm(change));
      CHECK((b.converged || s > 1e7));
    }
  }
}

TEST_CASE("momentum and steps take a solver too, and many times are answered in one product") {
  const Case c = network_case(40, 1, 6);
  const auto exact = momentum(network, c.params, c.x, c.y, {.rate = .2, .momentum = .8, .solver = Solver::decomposition});
  const auto steps = momentum(network, c.params, c.x, c.y, {.rate = .2, .momentum = .8, .solver = Solver::krylov});
  const std::vector<double> times = {0, 10, 1000};
  CHECK(difference(steps.train(times), exact.train(times)) < 1e-6);
  CHECK(difference(steps.predict(steps.points(c.x_new), times), exact.predict(exact.points(c.x_new), times)) < 1e-6);
  CHECK(steps.max_rate() == doctest::Approx(exact.max_rate()).epsilon(1e-8));
  CHECK_FALSE(steps(10).bounds().outputs_rigorous);
}

TEST_CASE("a float network is answered by float products where the tolerance is a float's, and by double ones where it is not") {
  const Case c = network_case(60, 1, 7);
  const auto params = map([](const Array<double>& a) { return cast<float>(a); }, c.params);
  const auto wide = map([](const Array<float>& a) { return cast<double>(a); }, params);
  const auto exact = gradient_flow(network, wide, cast<double>(cast<float>(c.x)), cast<double>(cast<float>(c.y)), {.solver = Solver::decomposition});
  for (const double tolerance : {1e-5, 1e-8}) {
    const auto flow = gradient_flow(network, params, cast<float>(c.x), cast<float>(c.y), {.solver = Solver::krylov, .krylov = {.tolerance = tolerance}});
    const std::string text = flow.explain();
    CHECK((text.find("in float") != std::string::npos) == (tolerance == 1e-5));
    for (const double t : {1., 100.}) {
      const auto at = flow(t);
      const Array<double> wrong = flow.dynamics().change(t) - exact.dynamics().change(t);
      CHECK(norm(wrong) <= at.bounds().outputs + 1e-12);
      CHECK(norm(wrong) <= 10 * tolerance * norm(exact.dynamics().change(t)));
      CHECK(max_abs(at.train() - cast<float>(exact(t).train())) < (tolerance == 1e-5 ? 1e-4f : 1e-6f));
    }
  }
}

TEST_CASE("where nobody said, small kernels are decomposed, larger ones multiplied, unless that takes too many products") {
  const Index small = 300, large = 1100;
  Draw draw(8);
  const auto flow_of = [&](const FullKernel<double>& k, FlowOptions options = {}) {
    const Index n = k.rows();
    options.rate = static_cast<double>(n);
    Draw numbers(9);
    const Array<double> f0 = numbers.array(Shape{n}), y = numbers.array(Shape{n});
    return gradient_flow(k, f0, y, options);
  };
  CHECK(flow_of(falling(small, 2, 1)).explain() == "decomposition of a kernel of 300 rows");

  const FullKernel<double> kernel = falling(large, 1.5, 2);
  const auto flow = flow_of(kernel), products = flow_of(kernel, {.solver = Solver::krylov});
  for (const double t : {1., 1e3}) CHECK(flow(t).train() == products(t).train());
  CHECK(flow(1e3).bounds().converged);
  CHECK(flow.explain().starts_with("products with a kernel of 1100 rows: a decomposition is taken at once up to 1000 rows"));
  // At infinity by the factor of a kernel that is not singular: no more products.
  const Index before = flow(1e3).bounds().products;
  const auto end = flow(infinity);
  CHECK(difference(end.train(), products(infinity).train()) < 1e-7);
  CHECK(end.bounds().outputs < 1e-10);
  CHECK(flow(1e3).bounds().products == before);
  CHECK(flow.explain().ends_with("; t = infinity by Cholesky's factor"));
  CHECK(flow(1).rank() == large);  // wants the spectrum
  CHECK(flow.explain() == "decomposition of a kernel of 1100 rows: rank wants the spectrum");
  CHECK(difference(flow(1e3).train(), products(1e3).train()) < 1e-6);

  Array<double> flat(Shape{large});
  for (Index i = 0; i < large; ++i) flat.data()[i] = std::pow(1e6, -static_cast<double>(i) / static_cast<double>(large - 1));
  const auto hard = flow_of(reflected(flat, 3));
  hard(1e6).train();
  CHECK(hard.explain().starts_with("decomposition of a kernel of 1100 rows: t = 1e+06 would need some "));
  CHECK(hard(1e6).bounds().converged);

  // A singular kernel has no factor; a ridge gives it one.
  for (Index i = 0; i < large; ++i) flat.data()[i] = i < 40 ? std::pow(i + 1., -1) : 0;
  const auto singular = flow_of(reflected(flat, 4));
  CHECK(singular(infinity).bounds().converged);
  CHECK(singular.explain().find("Cholesky") == std::string::npos);
  const auto ridge = flow_of(reflected(flat, 4), {.ridge = 1e-3}), ridge_products = flow_of(reflected(flat, 4), {.ridge = 1e-3, .solver = Solver::krylov});
  CHECK(difference(ridge(infinity).train(), ridge_products(infinity).train()) < 1e-7);
  CHECK(ridge(infinity).bounds().weights_rigorous);
  CHECK(ridge.explain().find("Cholesky") != std::string::npos);
}

TEST_CASE("of many rows a network's kernel is never assembled, and a decomposition tells its rounding as bound") {
  const Case many = network_case(5001, 1, 15);
  const auto flow = gradient_flow(network, many.params, many.x, many.y);
  const auto at = flow(10);
  const Array<double> elsewhere = at.predict(many.x_new);
  CHECK(at.bounds().converged);
  CHECK(at.bounds().products < 100);
  CHECK(flow.explain().starts_with("products with a kernel of 5001 rows: a kernel is assembled up to 5000 rows; "));
  CHECK(difference(at.linearized(many.x), at.train()) < 1e-11);
  CHECK(difference(elsewhere, at.linearized(many.x_new)) < 1e-14);
  CHECK(at.predict(Array<double>(Shape{0, 3})).shape() == Shape{0, 1});

  const Case few = network_case(40, 1, 16);
  const auto exact = gradient_flow(network, few.params, few.x, few.y)(100);
  const Bounds b = exact.bounds();
  CHECK(b.products == 0);
  CHECK(b.converged);
  CHECK(b.outputs > 0);
  CHECK(b.outputs < 1e-10);
  CHECK(difference(exact.linearized(few.x), exact.train()) <= b.outputs);
}

TEST_CASE("another ridge needs no other decomposition and no other basis") {
  const Case c = network_case(60, 1, 13);
  for (const Solver solver : {Solver::decomposition, Solver::krylov}) {
    const auto flow = gradient_flow(network, c.params, c.x, c.y, {.solver = solver});
    flow(100).train();
    const Index before = flow(100).bounds().products;
    const auto ridged = flow.with_ridge(1e-2), own = gradient_flow(network, c.params, c.x, c.y, {.ridge = 1e-2, .solver = solver});
    for (const double t : {1., 100., infinity}) CHECK(difference(ridged(t).weights()["W3"], own(t).weights()["W3"]) < 1e-6);
    const Index with = ridged(infinity).bounds().products;
    if (solver == Solver::krylov) CHECK(with < before + own(infinity).bounds().products);
    CHECK(difference(flow(100).train(), gradient_flow(network, c.params, c.x, c.y)(100).train()) < 1e-7);
    CHECK_THROWS_WITH_AS(flow.with_ridge(-1), "gradient_flow: the ridge must be finite and not negative, got -1", NumericalError);
  }
}

TEST_CASE("a kernel traced over outputs is multiplied with every column") {
  const Case c = network_case(30, 3, 10);
  const auto traced = approximate_by_trace(linnet::ntk::traced(network, c.params, c.x));
  const Array<double> f0 = Draw(11).array(Shape{30, 3});
  const auto exact = gradient_flow(traced, f0, c.y, {.solver = Solver::decomposition}), flow = gradient_flow(traced, f0, c.y, {.solver = Solver::krylov});
  for (const double t : {0., 10., 1e4}) {
    CHECK(norm((flow(t).train() - exact(t).train())) <= flow(t).bounds().outputs + 1e-11);
    CHECK(difference(flow(t).train(), exact(t).train()) < 1e-6);
  }
}

TEST_CASE_TEMPLATE("products give the same bits for any number of threads", T, float, double) {
  const Case c = network_case(300, 1, 12);
  const auto params = map([](const Array<double>& a) { return cast<T>(a); }, c.params);
  const int before = linnet::autodiff::thread_count();
  const auto answers = [&] {
    const auto flow = gradient_flow(network, params, cast<T>(c.x), cast<T>(c.y), {.solver = Solver::krylov, .krylov = {.tolerance = 1e-5}});
    return std::pair(flow(1e3).train(), flow(1e3).weights());
  };
  linnet::autodiff::set_thread_count(1);
  const auto one = answers();
  for (const int threads : {2, 4}) {
    linnet::autodiff::set_thread_count(threads);
    CHECK(answers() == one);
  }
  linnet::autodiff::set_thread_count(before);
}
