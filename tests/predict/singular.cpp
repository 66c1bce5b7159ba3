// The eight kinds of kernels of problem.h, singular ones among them, at 17 times and at infinity: by decomposition and by products, in function space and in
// weight space, against a singular value decomposition in long double; and the same table by neural-tangents (tests/reference/singular_kernels.py).
#include "linnet/autodiff/npy.h"
#include "linnet/autodiff/ops.h"
#include "linnet/predict/predict.h"
#include "linnet/tests/predict/problem.h"
#include "singular_kernels.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <ostream>

using linnet::autodiff::Tree;
using linnet::autodiff::Var;
using linnet::ntk::FullKernel;
using linnet::predict::FlowOptions;
using linnet::predict::gradient_flow;
using linnet::predict::Solver;
using problem::Array, problem::bound, problem::difference, problem::eight, problem::Index, problem::infinity, problem::Problem, problem::product, problem::Shape, problem::times, problem::transposed;

namespace {

using Wide = std::vector<long double>;

const std::vector<Index> ranks = {24, 24, 24, 24, 22, 23, 12, 9};

struct Answer {
  Array<double> train, test, change;  // of the weights: theta(t) - theta0
};

// Rotations of the rows of A until they are orthogonal (one-sided Jacobi): A = Q^T W, so K = Q^T diag(|w_i|^2) Q. Nothing of the library takes part.
class Exact {
 public:
  Exact(const Problem& p, Index rank) : p_(p), n_(p.n()), columns_(p.p()), rank_(rank), w_(p.a.begin(), p.a.end()), q_(static_cast<std::size_t>(n_ * n_)) {
    for (Index i = 0; i < n_; ++i) q_[at(i, i, n_)] = 1;
    bool done = false;
    for (int sweep = 0; sweep < 60 && !done; ++sweep) {
      done = true;
      for (Index i = 0; i < n_; ++i)
        for (Index j = i + 1; j < n_; ++j)
          if (rotate(i, j)) done = false;
    }
    for (Index i = 0; i < n_; ++i) {
      order_.push_back(i);
      lambda_.push_back(inner(w_, i, i, columns_));
    }
    std::sort(order_.begin(), order_.end(), [&](Index i, Index j) { return lambda_[i] > lambda_[j]; });
  }
  double lambda(Index i) const { return static_cast<double>(lambda_[order_[i]]); }  // in falling order
  double condition() const { return lambda(0) / lambda(rank_ - 1); }

  Answer operator()(double t) const {
    Wide change(static_cast<std::size_t>(columns_)), train(p_.f0.begin(), p_.f0.end());
    for (Index kept = 0; kept < rank_; ++kept) {
      const Index i = order_[kept];
      long double mode = 0;
      for (Index j = 0; j < n_; ++j) mode += q_[at(i, j, n_)] * (static_cast<long double>(p_.f0.data()[j]) - p_.y.data()[j]);
      const long double moved = std::expm1(-lambda_[i] * (static_cast<long double>(t) / n_)) * mode;  // t = infinity: -mode
      for (Index j = 0; j < n_; ++j) train[j] += q_[at(i, j, n_)] * moved;
      for (Index j = 0; j < columns_; ++j) change[j] += w_[at(i, j, columns_)] * moved / lambda_[i];
    }
    Answer a{Array<double>(Shape{n_}), Array<double>(Shape{p_.a_test.shape()[0]}), Array<double>(Shape{columns_})};
    std::copy(train.begin(), train.end(), a.train.begin());
    std::copy(change.begin(), change.end(), a.change.begin());
    for (Index m = 0; m < a.test.size(); ++m) {
      long double sum = p_.f0_test.data()[m];
      for (Index j = 0; j < columns_; ++j) sum += p_.a_test.data()[m * columns_ + j] * change[j];
      a.test.data()[m] = static_cast<double>(sum);
    }
    return a;
  }

 private:
  static std::size_t at(Index i, Index j, Index columns) { return static_cast<std::size_t>(i * columns + j); }
  static long double inner(const Wide& m, Index i, Index j, Index columns) {
    long double sum = 0;
    for (Index k = 0; k < columns; ++k) sum += m[at(i, k, columns)] * m[at(j, k, columns)];
    return sum;
  }
  bool rotate(Index i, Index j) {
    const long double a = inner(w_, i, i, columns_), b = inner(w_, j, j, columns_), c = inner(w_, i, j, columns_);
    if (a == 0 || b == 0 || std::abs(c) <= 1e-18L * std::sqrt(a) * std::sqrt(b) || std::min(a, b) < 1e-32L) return false;
    const long double zeta = (b - a) / (2 * c), tangent = std::copysign(1 / (std::abs(zeta) + std::sqrt(1 + zeta * zeta)), zeta), cosine = 1 / std::sqrt(1 + tangent * tangent);
    for (auto* m : {&w_, &q_}) {
      const Index columns = m == &w_ ? columns_ : n_;
      for (Index k = 0; k < columns; ++k) {
        long double &x = (*m)[at(i, k, columns)], &y = (*m)[at(j, k, columns)];
        const long double x0 = x;
        x = cosine * (x0 - tangent * y);
        y = cosine * (tangent * x0 + y);
      }
    }
    return true;
  }
  const Problem& p_;
  Index n_, columns_, rank_;
  Wide w_, q_, lambda_;
  std::vector<Index> order_;
};

std::vector<double> every_time() {
  std::vector<double> all = {0};
  all.insert(all.end(), times.begin(), times.end());
  all.insert(all.end(), {1e300, infinity});
  return all;
}

Var linear(const Tree<Var>& params, const Var& x) { return dot(x, params["W"]); }
Array<double> column(const Array<double>& v) { return v.reshaped(Shape{v.size(), 1}); }
Array<double> row(const Array<double>& v) { return v.reshaped(Shape{v.size()}); }
FlowOptions by(Solver solver) { return {.solver = solver, .krylov = {.tolerance = 1e-14}}; }
auto kernel_flow(const Problem& p, Solver solver) { return gradient_flow(FullKernel<double>(p.kernel(), p.n(), p.n(), 1), p.f0, p.y, by(solver)); }
auto network_flow(const Problem& p, Solver solver) {
  return gradient_flow(linear, Tree<Array<double>>{{"W", column(p.theta0)}}, p.a, column(p.y), by(solver));
}
FullKernel<double> test_kernel(const Problem& p) { return {p.kernel_test(), p.a_test.shape()[0], p.n(), 1}; }

void check_close(const char* what, const Array<double>& came, const Array<double>& wanted, double allowed) {
  CAPTURE(what);
  CHECK(linnet::autodiff::first_not_finite<double>(came.values()) == -1);
  CHECK(difference(came, wanted) <= allowed);
}

}  // namespace

TEST_CASE("the singular value decomposition that the others are held to has the spectra of the eight kernels") {
  const std::vector<Problem> all = eight();
  for (std::size_t i = 0; i < all.size(); ++i) {
    CAPTURE(all[i].name);
    const Exact exact(all[i], ranks[i]);
    for (Index j = 0; j < all[i].s.size(); ++j) CHECK(exact.lambda(j) == doctest::Approx(std::pow(all[i].s.data()[j], 2)).epsilon(1e-9));
    if (ranks[i] < all[i].n()) CHECK(exact.lambda(ranks[i]) < 1e-25 * exact.lambda(0));
    CHECK(difference(exact(0).train, all[i].f0) == 0);
    CHECK(difference(exact(7).train, all[i].f0 + product(all[i].a, exact(7).change)) < 1e-15);
  }
}

TEST_CASE("outputs and weights of all eight kernels at all times are those of long double, by decomposition and by products, of kernels and of networks") {
  const std::vector<Problem> all = eight();
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Problem& p = all[i];
    const Exact exact(p, ranks[i]);
    const double allowed = bound(exact.condition());
    for (const Solver solver : {Solver::decomposition, Solver::krylov}) {
      const auto of_kernel = kernel_flow(p, solver);
      const auto of_network = network_flow(p, solver);
      CHECK(of_kernel.explain().starts_with(solver == Solver::krylov ? "products with" : "decomposition"));
      for (const double t : every_time()) {
        CAPTURE(p.name);
        CAPTURE(solver == Solver::krylov);
        CAPTURE(t);
        const Answer wanted = exact(t);
        const auto a = of_kernel(t);
        check_close("train, kernel", a.train(), wanted.train, allowed);
        check_close("test, kernel", a.predict(test_kernel(p), p.f0_test), wanted.test, allowed);
        check_close("weights, kernel", product(transposed(p.a), a.coefficients()), wanted.change, allowed);
        const auto b = of_network(t);
        check_close("train, network", row(b.train()), wanted.train, allowed);
        check_close("test, network", row(b.predict(p.a_test)), wanted.test, allowed);
        check_close("test, linearized", row(b.linearized(p.a_test)), wanted.test, allowed);
        check_close("weights, network", row(b.weights()["W"].leaf()) - p.theta0, wanted.change, allowed);
      }
    }
  }
}

TEST_CASE("singular kernels in float keep their rank, and answers are right to float's rounding at all times") {
  const std::vector<Problem> all = eight();
  for (const std::size_t i : {0, 4, 5, 6, 7}) {
    const Problem& p = all[i];
    const Exact exact(p, ranks[i]);
    const auto narrow = [](const Array<double>& a) { return linnet::autodiff::cast<float>(a); };
    const double allowed = 10 * static_cast<double>(std::numeric_limits<float>::epsilon()) * exact.condition();
    for (const Solver solver : {Solver::decomposition, Solver::krylov}) {
      const auto flow = gradient_flow(FullKernel<float>(narrow(p.kernel()), p.n(), p.n(), 1), narrow(p.f0), narrow(p.y), FlowOptions{.solver = solver});
      if (solver == Solver::decomposition) CHECK(flow(1).rank() == ranks[i]);
      for (const double t : every_time()) {
        CAPTURE(p.name);
        CAPTURE(solver == Solver::krylov);
        CAPTURE(t);
        const auto at = flow(t);
        const Answer wanted = exact(t);
        check_close("train", linnet::autodiff::cast<double>(at.train()), wanted.train, allowed);
        check_close("weights", product(transposed(p.a), at.coefficients()), wanted.change, allowed);
      }
    }
  }
}

TEST_CASE("by products, to a tolerance of 1e-8, outputs and weights of all eight kernels are within their bounds at all times") {
  const std::vector<Problem> all = eight();
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Problem& p = all[i];
    const Exact exact(p, ranks[i]);
    const auto flow = gradient_flow(FullKernel<double>(p.kernel(), p.n(), p.n(), 1), p.f0, p.y, FlowOptions{.solver = Solver::krylov});
    for (const double t : every_time()) {
      CAPTURE(p.name);
      CAPTURE(t);
      const Answer wanted = exact(t);
      const auto at = flow(t);
      const auto b = at.bounds();
      const double rounding = bound(exact.condition());
      CHECK(b.converged);
      CHECK(norm(at.train() - wanted.train) <= b.outputs + rounding * norm(wanted.train));
      CHECK(norm(product(transposed(p.a), at.coefficients()) - wanted.change) <= b.weights + rounding * std::max(1.0, norm(wanted.change)));
      CHECK(b.outputs <= 1e-7 * norm(p.f0 - p.y) + b.rounding);
    }
  }
}

TEST_CASE("the loss never grows, by products to rounding, and outputs and weights are continuous in t") {
  const double step = 1e-5;
  const std::vector<Problem> all = eight();
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Problem& p = all[i];
    const Exact exact(p, ranks[i]);
    const double allowed = 2 * bound(exact.condition()), error = norm(p.f0 - p.y);
    for (const Solver solver : {Solver::decomposition, Solver::krylov}) {
      const auto flow = network_flow(p, solver);
      const double first = flow(0).loss();
      double before = first;
      for (const double t : every_time()) {
        CAPTURE(p.name);
        CAPTURE(solver == Solver::krylov);
        CAPTURE(t);
        const auto at = flow(t), next = flow(t * (1 + step));
        const double rounding = solver == Solver::krylov ? 1e-15 * first : 0;
        CHECK(at.loss() <= before + rounding);
        CHECK(next.loss() <= at.loss() + rounding);
        before = next.loss();
        // t d/dt is lambda t e^(-lambda t) of outputs, no more than 1 / e, and 1 / sqrt(lambda) times that of weights.
        const double outputs = step * error / 2.7, weights = outputs / std::sqrt(exact.lambda(ranks[i] - 1));
        CHECK(max_abs(next.train() - at.train()) <= outputs + allowed * std::max(1.0, max_abs(at.train())));
        const Array<double> w = at.weights()["W"].leaf();
        CHECK(max_abs(next.weights()["W"].leaf() - w) <= weights + allowed * std::max(1.0, max_abs(w)));
      }
    }
  }
}

namespace {

// Of a table of predictions, how many are right to the bound, finite and wrong, or not finite.
struct Count {
  int right = 0, wrong = 0, not_finite = 0;
  double largest = 0;  // error of what is wrong
  bool add(const Array<double>& came, const Array<double>& wanted, double allowed) {
    const bool finite = linnet::autodiff::first_not_finite<double>(came.values()) == -1, agrees = finite && difference(came, wanted) <= allowed;
    ++(agrees ? right : finite ? wrong : not_finite);
    if (finite && !agrees) largest = std::max(largest, difference(came, wanted));
    return agrees;
  }
  bool operator==(const Count& b) const { return right == b.right && wrong == b.wrong && not_finite == b.not_finite && std::abs(largest - b.largest) <= .05 * b.largest; }
};
std::ostream& operator<<(std::ostream& out, const Count& c) { return out << c.right << " right, " << c.wrong << " wrong, " << c.not_finite << " not finite, error " << c.largest; }

// What is expected of the peer: at the 17 times, and at infinity.
struct Table {
  Count train, test, last_train, last_test;
};
const Count every = {17, 0, 0}, right = {1, 0, 0}, none = {0, 0, 1};
Count late(double largest) { return {11, 6, 0, largest}; }
Count wrong(double largest) { return {0, 1, 0, largest}; }
const std::vector<Table> table = {{every, every, right, right}, {every, every, right, right}, {every, every, right, right}, {every, every, right, right},
  {late(.12), late(.074), wrong(.18), none}, {every, every, wrong(.69), none}, {late(.75), late(2.9), wrong(.84), none}, {late(.66), late(8.0), wrong(.64), none}};

// Row [i, j] of [problems, times, outputs].
Array<double> part(const Array<double>& a, std::size_t i, std::size_t j) {
  const auto m = static_cast<std::size_t>(a.shape()[2]);
  const double* from = a.data() + (i * static_cast<std::size_t>(a.shape()[1]) + j) * m;
  Array<double> v(Shape{a.shape()[2]});
  std::copy(from, from + m, v.begin());
  return v;
}

}  // namespace

TEST_CASE("neural-tangents' answers of the same kernels agree where they are right, and are wrong or NaN as docs/dynamics.md says") {
  const auto peer = linnet::autodiff::load_npz<double>(LINNET_SINGULAR_KERNELS);
  const std::vector<Problem> all = eight();
  REQUIRE(peer.at("train").shape() == Shape{8, 18, 24});
  REQUIRE(peer.at("test").shape() == Shape{8, 18, 7});
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Problem& p = all[i];
    CAPTURE(p.name);
    const Exact exact(p, ranks[i]);
    const double allowed = bound(exact.condition());
    CHECK(difference(part(peer.at("f0"), i, 0), p.f0) < 1e-14);  // the same problem
    const auto flow = kernel_flow(p, Solver::decomposition);
    Table its{};
    Count ours;
    for (std::size_t k = 0; k < 18; ++k) {
      const double t = k < 17 ? times[k] : infinity;
      CAPTURE(t);
      const Answer wanted = exact(t);
      const auto at = flow(t);
      const Array<double> train = at.train(), test = at.predict(test_kernel(p), p.f0_test), its_train = part(peer.at("train"), i, k), its_test = part(peer.at("test"), i, k);
      if ((k < 17 ? its.train : its.last_train).add(its_train, wanted.train, allowed)) CHECK(difference(train, its_train) <= 2 * allowed);
      if ((k < 17 ? its.test : its.last_test).add(its_test, wanted.test, allowed)) CHECK(difference(test, its_test) <= 2 * allowed);
      if (t < 1e5) CHECK(its.train.right == static_cast<int>(k) + 1);  // what is wrong of it is what comes late
      ours.add(train, wanted.train, allowed);
      ours.add(test, wanted.test, allowed);
    }
    CHECK(ours == Count{36, 0, 0});
    CHECK(its.train == table[i].train);
    CHECK(its.test == table[i].test);
    CHECK(its.last_train == table[i].last_train);
    CHECK(its.last_test == table[i].last_test);
  }
}

TEST_CASE("two equal examples, an eigenvalue that is exactly zero: neural-tangents' test outputs are NaN at every time, ours are right") {
  const auto peer = linnet::autodiff::load_npz<double>(LINNET_SINGULAR_KERNELS);
  const Array<double>&its_train = peer.at("pair_train"), &its_test = peer.at("pair_test");
  const auto flow = gradient_flow(FullKernel<double>(Array<double>(Shape{2, 2}, 1), 2, 2, 1), Array<double>(Shape{2}), Array<double>(Shape{2}, std::vector<double>{1, 2}));
  REQUIRE(its_test.shape() == Shape{18, 1});
  for (std::size_t k = 0; k < 18; ++k) {
    const double t = k < 17 ? times[k] : infinity;
    CAPTURE(t);
    const double wanted = 1.5 * -std::expm1(-t);  // the mean of both targets; the kernel's eigenvalue is 2, N too
    const Array<double> train = flow(t).train(), test = flow(t).predict(FullKernel<double>(Array<double>(Shape{1, 2}, .5), 1, 2, 1), Array<double>(Shape{1}));
    for (const double v : train.values()) CHECK(std::abs(v - wanted) <= 1e-15);
    CHECK(std::abs(test.data()[0] - wanted / 2) <= 1e-15);
    CHECK(std::isnan(its_test.data()[k]));
    if (k < 17) CHECK(std::abs(its_train.data()[2 * k] - wanted) <= 1e-15);
  }
  CHECK(its_train.data()[34] == 1);  // at infinity its training outputs are the targets, which equal examples cannot reach
  CHECK(its_train.data()[35] == 2);
}
