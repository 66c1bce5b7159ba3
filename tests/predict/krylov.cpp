// Dynamics from products alone: against decompositions, over spectra of every kind, with bounds that hold.
#include "linnet/autodiff/kernels/decompositions.h"
#include "linnet/autodiff/kernels/gemm.h"
#include "linnet/autodiff/kernels/parallel.h"
#include "linnet/predict/predict.h"
#include "linnet/tests/predict/problem.h"

#include <doctest/doctest.h>

#include <functional>

using linnet::autodiff::cast;
using linnet::autodiff::NumericalError;
using linnet::autodiff::Scalar;
using linnet::autodiff::ShapeError;
using linnet::ntk::Symmetric;
using namespace linnet::predict;
using problem::difference, problem::Draw, problem::infinity, problem::Shape;
using linnet::autodiff::Index;

namespace {

constexpr double epsilon = std::numeric_limits<double>::epsilon();

// The product of matrices by the library's own, since long sums of long doubles take longer than all else here.
Array<double> times_matrix(bool transpose, const Array<double>& a, const Array<double>& b) {
  const Index n = b.shape()[0], k = b.size() / n;
  Array<double> c(b.shape());
  linnet::autodiff::gemm(transpose, false, n, k, n, a.data(), b.data(), c.data());
  return c;
}

template <Scalar T = double> Symmetric<T> products_with(const Array<double>& kernel, Index* count = nullptr) {
  return {Shape{kernel.shape()[0]}, [k = cast<T>(kernel), count](const Array<T>& v) {
            Array<T> z(v.shape());
            linnet::autodiff::gemm(false, false, v.size(), 1, v.size(), k.data(), v.data(), z.data());
            if (count) ++*count;
            return z;
          }};
}

struct Case {
  std::string name;
  Array<double> kernel, residual, root;  // root: A^T for the kernel A A^T
  double condition = 1;  // of what is not zero
};

// Kernels of these eigenvalues, in one basis of eigenvectors.
class Cases {
 public:
  Cases(Index n, std::uint64_t seed) : draw_(seed), q_(problem::orthonormal(n, n, draw_)), n_(n) {}
  Case operator()(std::string name, const std::function<double(Index)>& eigenvalue, double scale = 1) {
    Array<double> left = q_, root = problem::transposed(q_);
    double most = 0, least = infinity;
    for (Index j = 0; j < n_; ++j) {
      const double lambda = scale * eigenvalue(j);
      for (Index i = 0; i < n_; ++i) left[{i, j}] *= lambda, root[{j, i}] *= std::sqrt(lambda);
      most = std::max(most, lambda);
      if (lambda > 0) least = std::min(least, lambda);
    }
    Array<double> k = times_matrix(false, left, problem::transposed(q_));
    for (Index i = 0; i < n_; ++i)
      for (Index j = 0; j < i; ++j) k[{i, j}] = k[{j, i}];
    return {std::move(name), std::move(k), draw_.array(Shape{n_}), std::move(root), most / least};
  }
  Draw& draw() { return draw_; }

 private:
  Draw draw_;
  Array<double> q_;
  Index n_;
};

std::vector<Case> eight_spectra(Index n) {
  Cases make(n, 21);
  const auto geometric = [](double condition, Index rank) {
    return [condition, rank](Index i) { return i < rank ? std::pow(condition, -static_cast<double>(i) / static_cast<double>(rank - 1)) : 0.; };
  };
  std::vector<Case> all;
  all.push_back(make("log-uniform, 1e4", geometric(1e4, n)));
  all.push_back(make("log-uniform, 1e8", geometric(1e8, n)));
  all.push_back(make("uniform", [n](Index i) { return 1 - .9999 * static_cast<double>(i) / static_cast<double>(n - 1); }));
  all.push_back(make("i^-2", [](Index i) { return std::pow(i + 1., -2); }));
  all.push_back(make("i^-1", [](Index i) { return std::pow(i + 1., -1); }));
  all.push_back(make("clusters and outliers", [](Index i) { return i < 10 ? std::pow(.6, i) : .01 * std::pow(.1, i % 4); }));
  all.push_back(make("rank N/2, log-uniform 1e4", geometric(1e4, n / 2)));
  all.push_back(make("rank N/2, i^-2", [n](Index i) { return i < n / 2 ? std::pow(i + 1., -2) : 0.; }));
  return all;
}

double length(const Array<double>& v) { return norm(v); }
double in_weights(const Case& c, const Array<double>& d) { return norm(times_matrix(false, c.root, d)); }
Array<double> at(const Array<double>& answer, Shape shape) { return answer.reshaped(shape); }

}  // namespace

TEST_CASE("products give what a decomposition gives, at twelve times and infinity, for eight spectra") {
  const Index n = 240;
  for (const Case& c : eight_spectra(n)) {
    const Law law{.rate = static_cast<double>(n)};  // t is the time of the gradient itself
    const Dynamics exact(Spectrum(c.kernel), c.residual, law);
    Krylov krylov(products_with(c.kernel), c.residual, law);
    for (const double t : {1., 10., 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e10, 1e12, 1e16, infinity}) {
      CAPTURE(c.name);
      CAPTURE(t);
      const Array<double> change = exact.change(t), weights = exact.coefficients(t);
      const Array<double> came = at(krylov.change(std::span(&t, 1)), c.residual.shape()), came_weights = at(krylov.coefficients(std::span(&t, 1)), c.residual.shape());
      const double allowed = std::max(1e-8, 10 * epsilon * std::min(t, c.condition));
      CHECK(length(came - change) <= allowed * length(change));
      CHECK(in_weights(c, came_weights - weights) <= allowed * in_weights(c, weights));
      const Bounds b = krylov.bounds(t);
      CHECK(b.converged);
      CHECK(length(came - change) <= b.outputs + epsilon * c.condition * length(change));  // the decomposition rounds too
      CHECK(b.outputs - b.rounding <= 1e-8 * length(change));
    }
  }
}

namespace {

// Of how many problems a bound holds, and is near the truth.
struct Ratios {
  int problems = 0, outputs_hold = 0, outputs_near = 0, weights_hold = 0, weights_near = 0, points_hold = 0, estimate_near = 0;
};

void measure(const Case& c, const Law& law, double t, double tolerance, Draw& draw, Ratios& r) {
  const Dynamics exact(Spectrum(c.kernel), c.residual, law);
  Krylov krylov(products_with(c.kernel), c.residual, law, {}, {.tolerance = tolerance});
  const Array<double> change = at(krylov.change(std::span(&t, 1)), c.residual.shape()), weights = at(krylov.coefficients(std::span(&t, 1)), c.residual.shape());
  const Bounds b = krylov.bounds(t);
  const Array<double> wrong = weights - exact.coefficients(t);
  const double floor = 10 * epsilon * std::min(t * law.rate / static_cast<double>(c.residual.size()), c.condition) * length(exact.change(t));  // of the decomposition
  const double outputs = length(change - exact.change(t)), moved = in_weights(c, wrong);
  ++r.problems;
  r.outputs_hold += outputs <= b.outputs + floor;
  r.outputs_near += b.outputs <= 10 * (outputs + b.rounding);
  const double weights_floor = 10 * epsilon * std::min(t * law.rate / static_cast<double>(c.residual.size()), c.condition) * in_weights(c, exact.coefficients(t));
  r.weights_hold += moved <= b.weights + weights_floor;
  r.weights_near += b.weights <= 100 * (moved + weights_floor);
  r.estimate_near += b.weights_estimate <= 100 * (moved + weights_floor);
  // A point whose gradient is any vector of unit length has the kernel 1 with itself.
  bool hold = true;
  const Array<double> direction = times_matrix(false, c.root, wrong);
  for (int i = 0; i < 20; ++i) {
    const Array<double> gradient = draw.array(wrong.shape());
    hold = hold && std::abs(dot(gradient, direction)) / length(gradient) <= b.points(Array<double>(Shape{1}, {1.0})).item() + weights_floor;
  }
  r.points_hold += hold;
}

}  // namespace

TEST_CASE("bounds hold on two hundred random problems, and are near the truth") {
  Ratios r;
  Draw draw(31);
  for (int family = 0; family < 8; ++family) {
    const Index n = 60 + 12 * family;
    Cases make(n, 100 + static_cast<std::uint64_t>(family));
    for (int i = 0; i < 25; ++i) {
      const double decades = 5 + 4 * draw(), scale = std::pow(10., 3 * draw()), power = 1.5 + draw();
      const Index rank = family % 4 == 3 ? n / 2 : n;
      const Case c = make("", [&](Index k) {
        if (k >= rank) return 0.;
        const double x = static_cast<double>(k) / static_cast<double>(rank - 1);
        return family % 3 == 0 ? std::pow(10., -decades * x) : family % 3 == 1 ? std::pow(k + 1., -power) : 1 - (1 - std::pow(10., -decades)) * x;
      }, scale);
      const Law law{.rate = static_cast<double>(n), .ridge = i % 5 == 4 ? scale * 1e-4 : 0.};
      measure(c, law, std::pow(10., 3.5 + 3.5 * draw()) / scale, std::pow(10., -6 + 3 * draw()), draw, r);
    }
  }
  INFO("of ", r.problems, ": outputs hold ", r.outputs_hold, ", within 10 ", r.outputs_near, "; weights hold ", r.weights_hold, ", within 100 ", r.weights_near, "; points hold ", r.points_hold, "; estimate within 100 ", r.estimate_near);
  CHECK(r.problems == 200);
  CHECK(r.outputs_hold == 200);
  CHECK(r.outputs_near == 200);
  CHECK(r.weights_hold == 200);
  CHECK(r.weights_near >= 180);
  CHECK(r.points_hold == 200);
  CHECK(r.estimate_near >= 180);
}

TEST_CASE("every law is answered from products: steps, momentum, weight decay, ridges") {
  const Index n = 120;
  Cases make(n, 41);
  const Case c = make("", [](Index i) { return std::pow(i + 1., -2); });
  const Array<double> pull = times_matrix(true, problem::transposed(c.root), Draw(42).array(Shape{n}));  // in the range of A
  const double rate = .9 * static_cast<double>(n);  // rate lambda_max / N = 0.9
  std::vector<Law> laws;
  for (const Motion motion : {Motion::gradient_flow, Motion::gradient_descent, Motion::momentum, Motion::momentum_flow})
    for (const double ridge : {0., 1e-3})
      for (const double decay : {0., 1e-5}) laws.push_back({.motion = motion, .rate = rate, .ridge = ridge, .weight_decay = decay, .momentum = motion == Motion::momentum || motion == Motion::momentum_flow ? .9 : 0});
  laws.push_back({.motion = Motion::momentum, .rate = rate, .momentum = .8, .nesterov = true});
  laws.push_back({.motion = Motion::gradient_descent, .rate = 1.9 * static_cast<double>(n)});
  laws.push_back({.motion = Motion::gradient_descent, .rate = 2.2 * static_cast<double>(n)});  // diverges
  for (const Law& law : laws) {
    const Array<double> moved = law.weight_decay > 0 ? pull : Array<double>();
    const Dynamics exact(Spectrum(c.kernel), c.residual, law, moved);
    Krylov krylov(products_with(c.kernel), c.residual, law, moved);
    for (const double t : {0., 1., 3., 30., 300., 1e4, infinity}) {
      if (law.rate > 2 * static_cast<double>(n) && t > 300) continue;
      CAPTURE(law.name());
      CAPTURE(law.rate);
      CAPTURE(law.ridge);
      CAPTURE(law.weight_decay);
      CAPTURE(t);
      const Array<double> change = at(krylov.change(std::span(&t, 1)), c.residual.shape()), weights = at(krylov.coefficients(std::span(&t, 1)), c.residual.shape());
      const Bounds b = krylov.bounds(t);
      CHECK(b.converged);
      // Each of two right sides is answered to the tolerance, relative to its own part; parts may cancel.
      const double size = std::max(length(exact.change(t)), law.weight_decay > 0 ? length(c.residual) : 0.);
      CHECK(length(change - exact.change(t)) <= 2e-8 * size);
      CHECK(length(change - exact.change(t)) <= (b.outputs_rigorous ? 1 : 3) * b.outputs + 1e-11 * size);
      const double in_all = std::max(in_weights(c, exact.coefficients(t)), law.weight_decay > 0 ? length(pull) : 0.);
      CHECK(in_weights(c, weights - exact.coefficients(t)) <= 2e-8 * in_all);
      const bool known = std::isinf(t) || law.motion == Motion::gradient_flow || (law.motion == Motion::gradient_descent && law.rate < static_cast<double>(n));
      if (t >= 30) CHECK(b.outputs_rigorous == known);
      if (t == 0) CHECK(max_abs(change) == 0);
    }
  }
}

TEST_CASE("a basis is continued, not begun again, and ridges of one basis agree with their own") {
  const Index n = 150;
  Cases make(n, 51);
  const Case c = make("", [](Index i) { return std::pow(i + 1., -1.5); });
  const Law law{.rate = static_cast<double>(n)};
  Index first = 0, second = 0;
  Krylov grown(products_with(c.kernel, &first), c.residual, law), direct(products_with(c.kernel, &second), c.residual, law);
  for (const double t : {1., 10., 100., 1e4}) grown.change(std::span(&t, 1));
  const double late = 1e4;
  const Array<double> a = grown.change(std::span(&late, 1)), b = direct.change(std::span(&late, 1));
  CHECK(first == grown.products());
  CHECK(first <= second + second / 8 + 1);
  CHECK(difference(a, b) < 1e-7);
  const Index before = first;
  for (const double t : {2., 3., 4.}) grown.coefficients(std::span(&t, 1));
  CHECK(first == before);
  const std::vector<double> times = {1, 100, 1e4};
  const Array<double> many = grown.change(times);
  CHECK(many.shape() == Shape{n, 3, 1});
  for (Index k = 0; k < 3; ++k) {
    const Array<double> one = grown.change(std::span(&times[static_cast<std::size_t>(k)], 1));
    double worst = 0;
    for (Index i = 0; i < n; ++i) worst = std::max(worst, std::abs(many.data()[i * 3 + k] - one.data()[i]));
    CHECK(worst < 1e-14);
  }
}

TEST_CASE("kernels in very small and very large units are answered as others are") {
  const Index n = 100;
  Cases make(n, 55);
  const Array<double> unit = make("", [](Index i) { return std::pow(i + 1., -2); }).kernel, residual = Draw(56).array(Shape{n});
  const Law law{.rate = static_cast<double>(n)};
  for (const double t : {10., 1e4, infinity}) {
    const Array<double> expected = Krylov(products_with(unit), residual, law).change(std::span(&t, 1));
    for (const double scale : {0x1p-600, 0x1p600}) {
      CAPTURE(t);
      CAPTURE(scale);
      const double time = t / scale;
      Krylov krylov(products_with(scale * unit), residual, law);
      CHECK(difference(krylov.change(std::span(&time, 1)), expected) < 1e-8);
      const Bounds b = krylov.bounds(time);
      CHECK(b.converged);
      CHECK(b.outputs < 1e-7);
      CHECK_FALSE(std::isnan(b.weights));
    }
  }
}

TEST_CASE("float products give float's digits, and their bound says so") {
  const Index n = 150;
  Cases make(n, 61);
  const Case c = make("", [](Index i) { return std::pow(i + 1., -2); });
  const Law law{.rate = static_cast<double>(n)};
  const Dynamics exact(Spectrum(c.kernel), c.residual, law);
  Krylov narrow(products_with<float>(c.kernel), c.residual, law, {}, {.tolerance = 1e-5}, 1e-6, 1e-7);
  for (const double t : {1., 100., 1e4}) {
    const Array<double> change = at(narrow.change(std::span(&t, 1)), c.residual.shape());
    const Bounds b = narrow.bounds(t);
    CHECK(b.converged);
    CHECK(length(change - exact.change(t)) <= b.outputs);
    CHECK(b.outputs <= 1e-2 * length(exact.change(t)));
    CHECK(length(change - exact.change(t)) <= 1e-4 * length(exact.change(t)));
  }
}

TEST_CASE_TEMPLATE("a basis of several tiles is the same for any number of threads, and right", T, float, double) {
  const Index n = 9001;  // two whole tiles and a ragged one
  Draw draw(65);
  Array<double> residual = draw.array(Shape{n}), lambda(Shape{n});
  for (Index i = 0; i < n; ++i) lambda.data()[i] = std::pow(1 + i % 500, -1.5);
  const Symmetric<T> products(Shape{n}, [&](const Array<T>& v) {
    Array<T> z(v.shape());
    for (Index i = 0; i < n; ++i) z.data()[i] = static_cast<T>(lambda.data()[i]) * v.data()[i];
    return z;
  });
  const Law law{.rate = static_cast<double>(n)};
  const std::vector<double> times = {3, 2000};
  const int before = linnet::autodiff::thread_count();
  std::vector<Array<double>> came;
  for (const int threads : {1, 2, 3}) {
    linnet::autodiff::set_thread_count(threads);
    Krylov krylov(products, residual, law, {}, {.tolerance = 1e-5}, 1e-6, std::is_same_v<T, float> ? 1e-7 : 0);
    came.push_back(krylov.change(times));
    CHECK(krylov.products() > 32);  // more than a tile is high
  }
  linnet::autodiff::set_thread_count(before);
  CHECK(came[0] == came[1]);
  CHECK(came[0] == came[2]);
  for (Index k = 0; k < 2; ++k) {
    double wrong = 0, size = 0;
    for (Index i = 0; i < n; ++i) {
      const double exact = std::expm1(-lambda.data()[i] * times[static_cast<std::size_t>(k)]) * residual.data()[i];
      wrong += std::pow(came[0].data()[i * 2 + k] - exact, 2);
      size += exact * exact;
    }
    CHECK(std::sqrt(wrong) <= (std::is_same_v<T, float> ? 2e-4 : 1e-5) * std::sqrt(size));  // products in float are wrong by some 3e-8, and t lambda_max is 2000
  }
}

TEST_CASE("the smallest problems: one row, nothing to learn, a kernel of zeros, columns of which one is done") {
  const double t = 2;
  Krylov one(products_with(Array<double>(Shape{1, 1}, {4.0})), Array<double>(Shape{1}, {2.0}), {});
  CHECK(one.change(std::span(&t, 1)).item() == doctest::Approx(2 * std::expm1(-8)).epsilon(1e-14));
  CHECK(one.products() == 1);
  CHECK(one.bounds(infinity).outputs < 1e-14);

  Index products = 0;
  Krylov done(products_with(Array<double>(Shape{3, 3}, {2, 1, 0, 1, 2, 1, 0, 1, 2}), &products), Array<double>(Shape{3}), {});
  for (const double s : {0., 2., infinity}) CHECK(max_abs(done.change(std::span(&s, 1))) == 0);
  CHECK(products == 0);
  CHECK(done.bounds(3).outputs == 0);
  CHECK(done.bounds(3).converged);

  Krylov zero(products_with(Array<double>(Shape{3, 3})), Array<double>(Shape{3}, {1, 2, 3}), {});
  for (const double s : {0., 2., infinity}) {
    CHECK(max_abs(zero.change(std::span(&s, 1))) == 0);
    CHECK(max_abs(zero.coefficients(std::span(&s, 1))) == 0);
  }

  const Array<double> kernel(Shape{3, 3}, {2, 1, 0, 1, 2, 1, 0, 1, 2}), residual(Shape{3, 2}, {1, 0, 2, 0, 3, 0});
  const Dynamics exact(Spectrum(kernel), residual, {});
  Krylov columns(products_with(kernel), residual, {});
  CHECK(difference(columns.change(std::span(&t, 1)).reshaped(Shape{3, 2}), exact.change(t)) < 1e-14);
}

TEST_CASE("not converged is an answer: the least residual, and its length as bound") {
  const Index n = 200;
  Cases make(n, 71);
  const Case c = make("", [](Index i) { return std::pow(1e12, -static_cast<double>(i) / static_cast<double>(n - 1)); });
  const Law law{.rate = static_cast<double>(n)};
  Krylov krylov(products_with(c.kernel), c.residual, law, {}, {.max_products = 60});
  const double t = infinity;
  const Array<double> change = at(krylov.change(std::span(&t, 1)), c.residual.shape()), weights = at(krylov.coefficients(std::span(&t, 1)), c.residual.shape());
  const Bounds b = krylov.bounds(t);
  CHECK_FALSE(b.converged);
  CHECK_FALSE(b.weights_rigorous);
  CHECK(b.products == 60);
  CHECK(length(change) <= length(c.residual) * (1 + 1e-12));
  CHECK(difference(times_matrix(false, c.kernel, weights), change) < 1e-9);  // outputs are those of the weights
  const double residual = length(change + c.residual);
  CHECK(residual <= b.outputs);
  CHECK(residual >= .99 * (b.outputs - b.rounding));
  CHECK(residual < length(c.residual));

  // Memory is a limit too: as many vectors as there is room for.
  Krylov small(products_with(c.kernel), c.residual, law, {}, {.max_memory = 2 * 32 * 200 * 8});
  CHECK_FALSE(small.bounds(t).converged);
  CHECK(small.bytes() <= 2 * 32 * 200 * 8);
  CHECK(small.products() > 60);
}

TEST_CASE("what is no kernel is refused in words") {
  const Array<double> e(Shape{3}, {1, 2, 3});
  const double t = 1;
  const auto answer = [&](const Array<double>& kernel) { Krylov(products_with(kernel), e, {}).change(std::span(&t, 1)); };
  CHECK_THROWS_WITH_AS(answer(Array<double>(Shape{3, 3}, {1, 0, 0, 0, -2, 0, 0, 0, 1.5})), doctest::Contains("gradient_flow: the kernel is indefinite: lambda_min = -"), NumericalError);
  CHECK_THROWS_WITH_AS(answer(Array<double>(Shape{3, 3}, {1, 0, 0, 0, NAN, 0, 0, 0, 1})), "gradient_flow: product 1 with the kernel is not finite; scale the inputs or parameters, or compute in double", NumericalError);
  CHECK_THROWS_WITH_AS(answer(Array<double>(Shape{3, 3}, {1, 5, 0, 0, 2, 5, 0, 0, 3})), doctest::Contains("gradient_flow: the products are not those of a symmetric matrix: u.Kv and v.Ku differ by "), NumericalError);
  const Symmetric<double> other(Shape{3}, [](const Array<double>&) { return Array<double>(Shape{2}); });
  CHECK_THROWS_WITH_AS(Krylov(other, e, {}).change(std::span(&t, 1)), "gradient_flow: a product with [3] came as [2]; a kernel answers what it is given", ShapeError);
  const auto fine = products_with(Array<double>(Shape{3, 3}, {2, 1, 0, 1, 2, 1, 0, 1, 2}));
  for (const double tolerance : {0., 1., -1., double(NAN)})
    CHECK_THROWS_WITH_AS(Krylov(fine, e, {}, {}, {.tolerance = tolerance}), doctest::Contains("gradient_flow: the tolerance of KrylovOptions must be between 0 and 1, got "), NumericalError);
  CHECK_THROWS_WITH_AS(Krylov(fine, e, {}, {}, {.max_products = 1}), "gradient_flow: KrylovOptions::max_products must be 0 or at least 2, got 1", NumericalError);
  CHECK_THROWS_WITH_AS(Krylov(fine, e, {}, {}, {.max_memory = 100}), "gradient_flow: a basis takes 768 B for its first vectors, and there are 100 B for it (KrylovOptions::max_memory); allow more", NumericalError);
  CHECK_THROWS_WITH_AS(Krylov(fine, Array<double>(Shape{4}), {}), "gradient_flow: products are with vectors [3], f0 - y is [4]", ShapeError);
  CHECK_THROWS_WITH_AS(Krylov(fine, Array<double>(Shape{0}), {}), "gradient_flow: there is nothing to train on: f0 - y is [0]", ShapeError);
  CHECK_THROWS_WITH_AS(Krylov(fine, Array<double>(Shape{3}, {1, NAN, 1}), {}), "gradient_flow: f0 - y has nan at [1]; every value must be finite", NumericalError);
  CHECK_THROWS_WITH_AS(Krylov(fine, e, {.weight_decay = 1}), "gradient_flow: weights decay, so A theta0 must have the shape [3] of f0 - y, got [0]", ShapeError);
  CHECK_THROWS_WITH_AS(Krylov(fine, e, {.weight_decay = 1}, Array<double>(Shape{3}, {1, 2, infinity})), "gradient_flow: A theta0 has inf at [2]; every value must be finite", NumericalError);
  const double never = -1, forever = infinity;
  CHECK_THROWS_WITH_AS(Krylov(fine, e, {}).change(std::span(&never, 1)), doctest::Contains("train: t must be a number from 0 to infinity, got -1"), NumericalError);
  CHECK_THROWS_WITH_AS(Krylov(fine, e, {.motion = Motion::gradient_descent, .rate = 5}).change(std::span(&forever, 1)), doctest::Contains("gradient_descent: the steps do not converge, so there is no t = infinity: the rate is 5"), NumericalError);
  const double many = 1e6;
  CHECK_THROWS_WITH_AS(Krylov(fine, e, {.motion = Motion::gradient_descent, .rate = 5}).change(std::span(&many, 1)), doctest::Contains("train: the answer of gradient_descent at t = 1e+06 with lambda_max = 3.4"), NumericalError);
  CHECK_THROWS_WITH_AS(Bounds{.weights = 1}.points(Array<double>(Shape{1}, {-1.0})), "bounds: an entry of the kernel's diagonal is -1; it must be finite and not negative", NumericalError);
  const auto cancel = [](const linnet::autodiff::Progress&) { return false; };
  Cases make(40, 81);
  const Case c = make("", [](Index i) { return std::pow(i + 1., -2); });
  CHECK_THROWS_WITH_AS(Krylov(products_with(c.kernel), c.residual, {.rate = 4e3}, {}, {}, 0, 0, cancel).change(std::span(&many, 1)), doctest::Contains("gradient_flow: cancelled by the progress function after"), NumericalError);
}

TEST_CASE("the tridiagonal eigenproblem is that of the matrix, in any unit, and refuses what is not finite") {
  Draw draw(91);
  for (const Index n : {0, 1, 2, 3, 50})
    for (const double unit : {1e-200, 1., 1e200}) {
      Array<double> d = unit * draw.array(Shape{n}), e = unit * draw.array(Shape{std::max<Index>(n - 1, 0)}), v(Shape{n, n}), values(Shape{n});
      linnet::autodiff::tridiagonal_eigh(n, d.data(), e.data(), v.data(), values.data());
      for (Index i = 0; i < n; ++i)
        for (Index j = 0; j < n; ++j) {
          double image = d.data()[j] * v[{i, j}];
          if (j > 0) image += e.data()[j - 1] * v[{i, j - 1}];
          if (j + 1 < n) image += e.data()[j] * v[{i, j + 1}];
          CHECK(std::abs(image - values.data()[i] * v[{i, j}]) <= 4e-14 * unit);
        }
      CHECK(std::is_sorted(values.begin(), values.end()));
    }
  const double bad[2] = {1, NAN};
  double v[4], values[2];
  CHECK_THROWS_WITH_AS(linnet::autodiff::tridiagonal_eigh(2, bad, bad, v, values), "tridiagonal_eigh: row 1 of 2 is nan and 0; every value must be finite", NumericalError);
  CHECK_THROWS_WITH_AS(linnet::autodiff::tridiagonal_eigh(-1, bad, bad, v, values), "tridiagonal_eigh: a matrix of -1 rows", ShapeError);
}
