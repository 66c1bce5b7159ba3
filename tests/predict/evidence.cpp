// The evidence against eigen-decompositions, differences and the formula of its gradient; by layer against the posterior of a network.
#include "linnet/predict/evidence.h"

#include "linnet/autodiff/config.h"
#include "linnet/autodiff/ops.h"
#include "linnet/autodiff/testing.h"
#include "linnet/infinite/function.h"
#include "linnet/infinite/kernel.h"
#include "linnet/nn/nn.h"
#include "linnet/ntk/parts.h"
#include "linnet/predict/posterior.h"
#include "linnet/tests/predict/problem.h"

#include <doctest/doctest.h>

#include <cstring>

using namespace linnet::predict;
using linnet::autodiff::cast;
using linnet::autodiff::NumericalError;
using linnet::autodiff::Scalar;
using linnet::autodiff::ShapeError;
using linnet::autodiff::StructureError;
using problem::Array, problem::difference, problem::Draw, problem::Index, problem::infinity, problem::product, problem::Shape, problem::transposed;
using Kernels = Tree<Array<double>>;
using Weights = Tree<Array<double>>;

namespace {

Array<double> gram(Index n, Index rank, Draw& draw) {
  const Array<double> a = draw.array({n, rank});
  return product(a, transposed(a));
}
Kernels three(Index n, std::uint64_t seed) {
  Draw draw(seed);
  return {{"a", gram(n, n + 2, draw)}, {"b", gram(n, 3, draw)}, {"c", 100 * gram(n, 1, draw)}};
}
// C, in plain loops.
Array<double> covariance(const Kernels& kernels, const Array<double>& logs) {
  const auto all = kernels.leaves();
  const Index n = all[0]->shape()[0], layers = logs.size() - 1;
  Array<double> c({n, n});
  for (Index l = 0; l < layers; ++l) c = c + std::exp(2 * logs.data()[l]) * *all[static_cast<std::size_t>(l)];
  for (Index i = 0; i < n; ++i) c[{i, i}] += std::exp(2 * logs.data()[layers]);
  return c;
}
double by_eigenvalues(const Array<double>& c, const Array<double>& residual) {
  const Index n = c.shape()[0], k = residual.size() / n;
  const Spectrum spectrum(c);
  const Array<double> modes = spectrum.to_modes(residual.reshaped({n, k}));
  long double sum = 0;
  for (Index i = 0; i < n; ++i) {
    const long double lambda = spectrum.values().data()[i];
    for (Index j = 0; j < k; ++j) sum += modes.data()[i * k + j] * modes.data()[i * k + j] / lambda + std::log(lambda) + std::log(2 * std::acos(-1.0L));
  }
  return static_cast<double>(-sum / 2);
}
// s_l^2 (tr(A^T K_l A) - k tr(C^-1 K_l)) of every layer, and of I: the identity's columns through the eigenvectors of C.
Array<double> by_traces(const Kernels& kernels, const Array<double>& logs, const Array<double>& residual) {
  const auto all = kernels.leaves();
  const Index n = all[0]->shape()[0], k = residual.size() / n, layers = logs.size() - 1;
  const Spectrum spectrum(covariance(kernels, logs));
  Array<double> identity({n, n}), gradient({layers + 1});
  for (Index i = 0; i < n; ++i) identity[{i, i}] = 1;
  const Array<double> inverse = spectrum.apply([](double lambda) { return 1 / lambda; }, identity), a = product(inverse, residual.reshaped({n, k}));
  for (Index l = 0; l <= layers; ++l) {
    const Array<double>& kernel = l < layers ? *all[static_cast<std::size_t>(l)] : identity;
    const Array<double> square = product(transposed(a), product(kernel, a)), ratio = product(inverse, kernel);
    for (Index j = 0; j < k; ++j) gradient.data()[l] += square[{j, j}];
    for (Index i = 0; i < n; ++i) gradient.data()[l] -= static_cast<double>(k) * ratio[{i, i}];
    gradient.data()[l] *= std::exp(2 * logs.data()[l]);
  }
  return gradient;
}
Array<double> moved(Array<double> logs, Index i, double by) {
  logs.data()[i] += by;
  return logs;
}
Index factors(const linnet::autodiff::Program& program) {
  Index count = 0;
  for (const auto& instruction : program.code) count += std::string_view(instruction.primitive->name) == "cholesky";
  return count;
}

Var network(const Tree<Var>& p, const Var& x) { return dot(erf(dot(x, p["in"].leaf())), p["out"].leaf()); }
struct Case {
  Weights params;
  Array<double> x, y;
};
Case network_case(Index n, Index width, Index outputs, std::uint64_t seed) {
  Draw draw(seed);
  const Array<double> in = draw.array({3, width}), out = draw.array({width, outputs});
  return {{{"in", in}, {"out", out}}, draw.array({n, 3}), draw.array({n, outputs})};
}
Array<double> value(const Case& c) { return linnet::autodiff::compile(network, c.params, c.x)(c.params, c.x); }

}  // namespace

TEST_CASE("the evidence and its gradient are those of eigenvalues and traces, for one column and for several, and for one row") {
  for (const Index n : {1, 2, 17, 70})
    for (const Index k : {1, 4}) {
      CAPTURE(n);
      CAPTURE(k);
      const Kernels kernels = three(n, 1);
      Draw draw(2);
      const Array<double> y = draw.array({n, k});
      const Evidence made = evidence(kernels, y);
      CHECK(made.names() == std::vector<std::string>{"a", "b", "c", "noise"});
      CHECK(made.rows() == n);
      const Array<double> logs = made.logs(std::vector<double>{0.7, 1.5, 0.1}, 0.3);
      const auto [value, gradient] = made.value_and_grad(logs);
      CHECK(value == doctest::Approx(by_eigenvalues(covariance(kernels, logs), y)).epsilon(1e-11));
      CHECK(made(logs) == doctest::Approx(value).epsilon(1e-14));
      REQUIRE(gradient.shape() == Shape{4});
      CHECK(difference(gradient, by_traces(kernels, logs, y)) <= 1e-10);
      for (Index i = 0; i < 4; ++i) {
        const double h = 1e-4, slope = (made(moved(logs, i, h)) - made(moved(logs, i, -h))) / (2 * h);
        CHECK(gradient.data()[i] == doctest::Approx(slope).epsilon(1e-5));
      }
    }
}

TEST_CASE("the Hessian is the difference of gradients, and symmetric in bits") {
  const Kernels kernels = three(23, 3);
  Draw draw(4);
  const Evidence made = evidence(kernels, draw.array({23, 2}));
  const Array<double> logs = made.logs(std::vector<double>{0.4, 1.2, 0.3}, 0.5), hessian = made.hessian(logs);
  REQUIRE(hessian.shape() == Shape{4, 4});
  const double h = 1e-4;
  for (Index i = 0; i < 4; ++i) {
    const Array<double> row = (1 / (2 * h)) * (made.value_and_grad(moved(logs, i, h)).second - made.value_and_grad(moved(logs, i, -h)).second);
    for (Index j = 0; j < 4; ++j) {
      CHECK(std::abs(hessian[{i, j}] - row.data()[j]) <= 1e-6 * max_abs(hessian));
      CHECK(hessian[{i, j}] == hessian[{j, i}]);
    }
  }
}

TEST_CASE("one factor serves the value, the gradient and the check of both") {
  const Evidence made = evidence(three(5, 5), Array<double>({5}, 1.0));
  CHECK(factors(made.program()) == 1);
}

TEST_CASE("by layer of a network it is the posterior's evidence with variances s^2, and one rate of all is the whole kernel") {
  for (const Index outputs : {1, 3}) {
    const Case c = network_case(9, 6, outputs, 6);
    const Evidence made = evidence(network, c.params, c.x, c.y);
    CHECK(made.names() == std::vector<std::string>{"in", "out", "noise"});
    for (const auto& [in, out, noise] : std::vector<std::array<double, 3>>{{1, 1, 0.2}, {0.3, 2, 0.5}, {1.7, 0.6, 0.05}}) {
      const auto posterior_at = posterior(network, c.params, c.x, c.y, {.noise = noise, .variances = {{"in", rate(in * in)}, {"out", rate(out * out)}}});
      CHECK(made(made.logs(std::vector<double>{in, out}, noise)) == doctest::Approx(posterior_at.log_evidence()).epsilon(1e-10));
    }
    const Array<double> f0 = value(c), logs = made.logs(std::vector<double>{0.8, 1.1}, 0.3);
    const auto by_layer = linnet::ntk::full_by_layer(network, c.params, c.x);
    const Evidence of_parts = evidence(by_layer, f0, c.y), of_whole = evidence(Tree(linnet::ntk::full(network, c.params, c.x)), f0, c.y);
    CHECK(of_parts(logs) == made(logs));
    CHECK(of_whole.names() == std::vector<std::string>{"kernel", "noise"});
    CHECK(of_whole(of_whole.logs(std::vector<double>{0.8}, 0.3)) == doctest::Approx(made(made.logs(std::vector<double>{0.8, 0.8}, 0.3))).epsilon(1e-12));
    const Kernels matrices{{"in", by_layer["in"].leaf().matrix()}, {"out", by_layer["out"].leaf().matrix()}};
    CHECK(difference(made.value_and_grad(logs).second, by_traces(matrices, logs, c.y - f0)) <= 1e-10);
  }
}

TEST_CASE("a kernel for every output is columns: of one output the full one, of several their sum") {
  const Case c = network_case(8, 30, 3, 7);
  const auto traced = linnet::ntk::traced_by_layer(network, c.params, c.x);
  const auto kernels = map(approximate_by_trace<double>, traced);
  const Array<double> f0 = value(c);
  const Evidence made = evidence(kernels, f0, c.y);
  const Array<double> logs = made.logs(std::vector<double>{0.8, 1.1}, 0.3);
  double sum = 0;
  for (Index o = 0; o < 3; ++o) {
    Array<double> one({8});
    for (Index i = 0; i < 8; ++i) one.data()[i] = c.y[{i, o}] - f0[{i, o}];
    sum += evidence(Kernels{{"in", traced["in"].leaf().mean()}, {"out", traced["out"].leaf().mean()}}, one)(logs);
  }
  CHECK(made(logs) == doctest::Approx(sum).epsilon(1e-12));
  const Case single = network_case(8, 30, 1, 8);
  const Array<double> one = value(single);
  CHECK(evidence(map(approximate_by_trace<double>, linnet::ntk::traced_by_layer(network, single.params, single.x)), one, single.y)(logs) ==
        doctest::Approx(evidence(network, single.params, single.x, single.y)(logs)).epsilon(1e-11));
}

TEST_CASE_TEMPLATE("kernels and targets of either width are taken, and the answer is theirs in double", T, float, double) {
  const Kernels kernels = three(12, 9);
  Draw draw(10);
  const Array<double> y = draw.array({12, 2});
  const Tree<Array<T>> came = map([](const Array<double>& k) { return cast<T>(k); }, kernels);
  const Kernels again = map([](const Array<T>& k) { return cast<double>(k); }, came);
  const Evidence made = evidence(came, cast<T>(y)), wide = evidence(again, cast<double>(cast<T>(y)));
  const Array<double> logs = made.logs(std::vector<double>{0.7, 0.8, 0.1}, 0.5);
  CHECK(made(logs) == wide(logs));
  CHECK(made.value_and_grad(logs).second == wide.value_and_grad(logs).second);
  const Case c = network_case(6, 5, 2, 11);
  const Tree<Array<T>> params = map([](const Array<double>& a) { return cast<T>(a); }, c.params);
  const Evidence of_network = evidence(network, params, cast<T>(c.x), cast<T>(c.y));
  CHECK(of_network(of_network.logs(std::vector<double>{1, 1}, 0.3)) ==
        doctest::Approx(posterior(network, params, cast<T>(c.x), cast<T>(c.y), {.noise = 0.3}).log_evidence()).epsilon(1e-10));
}

TEST_CASE("the traced functions compose: derivatives by what kernels are made of, to the second order") {
  Draw draw(12);
  const Array<double> distances = [&] {
    const Array<double> x = draw.array({6, 2});
    Array<double> d({6, 6});
    for (Index i = 0; i < 6; ++i)
      for (Index j = 0; j < 6; ++j) d[{i, j}] = std::pow(x[{i, 0}] - x[{j, 0}], 2) + std::pow(x[{i, 1}] - x[{j, 1}], 2);
    return d;
  }();
  const Array<double> y = draw.array({6}), at({3}, {-0.3, 0.2, -1});  // logs of a length, of a scale and of the noise
  const auto f = [&](const Var& p) {
    const Var length = reshape(exp(slice(p, 0, 0, 1)), Shape{});
    const Var kernel = exp(linnet::autodiff::constant(-0.5 * distances) / square(length));
    return log_evidence(layered_covariance(reshape(kernel, Shape{1, 6, 6}), slice(p, 0, 1, 2)), linnet::autodiff::constant(y));
  };
  CHECK(linnet::autodiff::check_derivatives(f, at, {.order = 2}) == std::vector<std::string>());
}

TEST_CASE("of an infinitely wide network the evidence has derivatives by W_std, b_std and the noise") {
  using namespace linnet;
  const nn::Layer layers = nn::serial({nn::Dense(8, {.W_std = 1.3, .b_std = 0.2}), nn::Erf(), nn::Dense(1, {.W_std = 1.1, .b_std = 0.1})});
  const auto kernel = infinite::kernel_function(layers);
  Draw draw(19);
  const Array<double> x = draw.array({7, 3}), y = draw.array({7, 2});
  Weights at = {{"scales", infinite::scales(layers)}, {"logs", Array<double>({2}, {0.0, -1.5})}};
  const auto f = [&](const Tree<Var>& p, const Var& points, const Var& targets) {
    const Var nngp = kernel(p["scales"], points, points)["nngp"].leaf();
    return log_evidence(layered_covariance(reshape(nngp, Shape{1, 7, 7}), p["logs"].leaf()), targets);
  };
  const auto [value, slopes] = autodiff::value_and_grad(f, at, x, y);
  const Array<double> nngp = infinite::kernel(layers).nngp(x);
  const Evidence made = evidence(Kernels{{"nngp", nngp}}, y);
  CHECK(value == doctest::Approx(made(at["logs"].leaf())).epsilon(1e-10));
  CHECK(difference(slopes["logs"].leaf(), made.value_and_grad(at["logs"].leaf()).second) <= 1e-8);
  const auto all = slopes.leaves();
  CHECK(all.size() == 5);
  for (std::size_t i = 0; i < 4; ++i) {
    CAPTURE(slopes.paths()[i]);
    const auto moved_by = [&](double h) {
      Weights there = at;
      there.leaves()[i]->data()[0] += h;
      return autodiff::compile(f, there, x, y)(there, x, y).item();
    };
    CHECK(all[i]->data()[0] == doctest::Approx((moved_by(1e-4) - moved_by(-1e-4)) / 2e-4).epsilon(1e-5));
  }
}

TEST_CASE("the noise and the scale that targets were made with are near a maximum") {
  Draw draw(13);
  const Index n = 150;
  const Array<double> a = draw.array({n, 4}), w = draw.array({4, 40}), kernel = product(a, transposed(a));
  Array<double> y = product(a, w);
  for (double& v : y) v += 0.1 * draw();
  const double spread = 1 / std::sqrt(3.0);  // of numbers in [-1, 1)
  const Evidence made = evidence(Kernels{{"w", kernel}}, y);
  Array<double> logs = made.logs(std::vector<double>{1}, 0.5);
  for (int i = 0; i < 12; ++i) {  // Newton's method; far away by the gradient's sign alone
    const auto [value, g] = made.value_and_grad(logs);
    const Array<double> h = made.hessian(logs);
    for (Index j = 0; j < 2; ++j) logs.data()[j] += h[{j, j}] < 0 ? std::clamp(-g.data()[j] / h[{j, j}], -0.5, 0.5) : std::copysign(0.5, g.data()[j]);
  }
  CHECK(max_abs(made.value_and_grad(logs).second) <= 1e-5);
  CHECK(std::exp(logs.data()[0]) == doctest::Approx(spread).epsilon(0.15));
  CHECK(std::exp(logs.data()[1]) == doctest::Approx(0.1 * spread).epsilon(0.05));
}

TEST_CASE("what the evidence refuses is said in sentences") {
  const Kernels kernels = three(4, 14);
  const Array<double> y({4}, 1.0);
  const auto full = [](Index n, double v) { return Tree(linnet::ntk::FullKernel<double>(Array<double>({n, n}, v), n, n, 1)); };
  CHECK_THROWS_WITH_AS(evidence(Kernels(), y), "evidence: there are no kernels; give at least one", StructureError);
  CHECK_THROWS_WITH_AS(evidence(kernels, Array<double>({3})), "evidence: the kernel of 'a' is [4,4], beside y [3] it must be [3,3]", ShapeError);
  CHECK_THROWS_WITH_AS(evidence(Kernels{{"a", kernels["a"]}, {"b", Array<double>({4})}}, y), "evidence: the kernel of 'b' is [4], beside y [4] it must be [4,4]", ShapeError);
  CHECK_THROWS_WITH_AS(evidence(Kernels{{"a", Array<double>({0, 0})}}, Array<double>({0, 2})), "evidence: y is [0,2]; there must be at least one example and one output", ShapeError);
  CHECK_THROWS_WITH_AS(evidence(kernels, Array<double>({4, 0})), "evidence: y is [4,0]; there must be at least one example and one output", ShapeError);
  CHECK_THROWS_WITH_AS(evidence(kernels, Array<double>({4}, infinity)), "evidence: y has inf at [0]; every value must be finite", NumericalError);
  CHECK_THROWS_WITH_AS(evidence(Kernels{{"a", Array<double>({4, 4}, NAN)}}, y), doctest::Contains("evidence: 'a': the kernel has nan at [0,0]"), NumericalError);
  CHECK_THROWS_WITH_AS(evidence(Kernels{{"a", Array<double>({2, 2}, {1, 2, 3, 1})}}, Array<double>({2})), doctest::Contains("evidence: 'a': the kernel is not symmetric: entry [1,0] is 3"), NumericalError);
  CHECK_THROWS_WITH_AS(evidence(full(4, 1), y, Array<double>({2, 2})), "evidence: f0 is [4] and y is [2,2]; they must be of one shape", ShapeError);
  CHECK_THROWS_WITH_AS(evidence(full(4, 1), Array<double>({4}, infinity), y), "evidence: f0 has inf at [0]; every value must be finite", NumericalError);
  const Tree<TraceApproximation<double>> approximation = TraceApproximation<double>{kernels["a"].leaf(), 3};
  CHECK_THROWS_WITH_AS(evidence(approximation, y, y), "evidence: the kernel of 'kernel' is of 3 outputs, y [4] has 1", ShapeError);
  const Case c = network_case(4, 5, 2, 15);
  CHECK_THROWS_WITH_AS(evidence(network, c.params, c.x, Array<double>({8})), "evidence: y is [8], the outputs f(params, x) it is the target of are [4,2]; reshape y to that", ShapeError);
  CHECK_THROWS_WITH_AS(evidence(network, c.params, Array<double>({0, 3}), Array<double>({0, 2})), "evidence: x is [0,3]; there must be at least one example", ShapeError);

  const Evidence made = evidence(kernels, y);
  const std::vector<double> scales{1, 1, 1};
  CHECK_THROWS_WITH_AS(made.logs(std::vector<double>{1}, 0.1), "evidence: 1 scales came, there are 3 layers; give one for each", ShapeError);
  CHECK_THROWS_WITH_AS(made.logs(scales, -0.1), "evidence: the standard deviation of 'noise' must be positive and finite, got -0.1", NumericalError);
  CHECK_THROWS_WITH_AS(made.logs(std::vector<double>{1, 0, 1}, 0.1), "evidence: the standard deviation of 'b' must be positive and finite, got 0; leave out a layer that is not trained", NumericalError);
  CHECK_THROWS_WITH_AS(made.logs(scales, infinity), doctest::Contains("'noise' must be positive and finite, got inf"), NumericalError);
  CHECK_THROWS_WITH_AS(made(Array<double>({3})), "evidence: the logs are [3], there are 3 layers and the noise; give [4]", ShapeError);
  CHECK_THROWS_WITH_AS(made.hessian(Array<double>({4}, NAN)), "evidence: the log of 'a' is nan; it must be finite, and exp(2 log) too", NumericalError);
  CHECK_THROWS_WITH_AS(made.value_and_grad(Array<double>({4}, 400)), "evidence: the log of 'a' is 400; it must be finite, and exp(2 log) too", NumericalError);
}

TEST_CASE("a covariance that is singular or no covariance is refused with what to do, and noise mends it") {
  Draw draw(16);
  const Array<double> y = draw.array({6});
  const Evidence singular = evidence(Kernels{{"a", gram(6, 2, draw)}}, y);
  const Array<double> quiet = singular.logs(std::vector<double>{1}, 1e-12), loud = singular.logs(std::vector<double>{1}, 1e-3);
  CHECK_THROWS_WITH_AS(singular(quiet), doctest::Contains("with noise s = 1e-12"), NumericalError);
  CHECK_THROWS_WITH_AS(singular(quiet), doctest::Contains("raise the noise"), NumericalError);
  CHECK_THROWS_AS(singular.value_and_grad(quiet), NumericalError);
  CHECK_THROWS_AS(singular.hessian(quiet), NumericalError);
  CHECK(std::isfinite(singular(loud)));
  // A pivot that is positive by rounding alone: the noise is lost beside the kernel in float, not in double.
  const Array<double> pair({2, 2}, {1, 1, 1, 1});
  const Evidence wide = evidence(Kernels{{"a", pair}}, Array<double>({2})), narrow = evidence(Tree<Array<float>>{{"a", cast<float>(pair)}}, Array<float>({2}));
  const Array<double> small = wide.logs(std::vector<double>{1}, 1e-4);
  CHECK(std::isfinite(wide(small)));
  CHECK_THROWS_WITH_AS(narrow(small), doctest::Contains("evidence: sum s_l^2 K_l + s^2 of 2 rows is singular to rounding with noise s = 0.0001: pivot 1 is 2e-08, where rounding explains 1.19e-06"), NumericalError);
  const Evidence indefinite = evidence(Kernels{{"a", Array<double>({2, 2}, {1, 3, 3, 1})}}, Array<double>({2}, 1.0));
  CHECK_THROWS_WITH_AS(indefinite(small), doctest::Contains("evidence: sum s_l^2 K_l + s^2 of 2 rows is not positive definite with noise s = 0.0001 (cholesky: pivot 1 of 2 rows is -7.99"), NumericalError);
  CHECK(std::isfinite(indefinite(indefinite.logs(std::vector<double>{1}, 2))));
}

TEST_CASE("the traced functions refuse shapes while they are traced") {
  const auto run = [](const Array<double>& a, const Array<double>& b, auto f) { return linnet::autodiff::compile(f, a, b); };
  const auto covariance_of = [](const Var& a, const Var& b) { return layered_covariance(a, b); };
  const auto density = [](const Var& a, const Var& b) { return log_evidence(a, b); };
  CHECK_THROWS_WITH_AS(run(Array<double>({2, 3, 3}), Array<double>({2}), covariance_of),
                       "layered_covariance: kernels [L,N,N] and logs [L + 1], one for each of them and one for the noise, are needed, got [2,3,3] and [2]", ShapeError);
  CHECK_THROWS_AS(run(Array<double>({2, 3, 4}), Array<double>({3}), covariance_of), ShapeError);
  CHECK_THROWS_WITH_AS(run(Array<double>({3, 3}), Array<double>({4}), density), "log_evidence: a covariance [N,N] and a residual [N] or [N,k] are needed, got [3,3] and [4]", ShapeError);
  CHECK_THROWS_AS(run(Array<double>({3}), Array<double>({3}), density), ShapeError);
}

TEST_CASE_TEMPLATE("the evidence and its derivatives have the same bits for any number of threads", T, float, double) {
  const Kernels kernels = three(150, 17);
  const Tree<Array<T>> came = map([](const Array<double>& k) { return cast<T>(k); }, kernels);
  Draw draw(18);
  const Array<T> y = cast<T>(draw.array({150, 3}));
  const auto numbers = [&] {
    const Evidence made = evidence(came, y);
    const Array<double> logs = made.logs(std::vector<double>{0.7, 0.8, 0.01}, 0.5), hessian = made.hessian(logs);
    const auto [value, gradient] = made.value_and_grad(logs);
    std::vector<double> all{value, made(logs)};
    all.insert(all.end(), gradient.begin(), gradient.end());
    all.insert(all.end(), hessian.begin(), hessian.end());
    return all;
  };
  const int before = linnet::autodiff::threads();
  linnet::autodiff::set_threads(1);
  const auto expected = numbers();
  for (const int threads : {2, 3}) {
    linnet::autodiff::set_threads(threads);
    const auto again = numbers();
    CHECK(std::memcmp(again.data(), expected.data(), expected.size() * sizeof(double)) == 0);
  }
  linnet::autodiff::set_threads(before);
}
