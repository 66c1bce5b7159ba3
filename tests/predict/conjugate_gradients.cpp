// Many right sides by conjugate gradients: against a factor, with a preconditioner that does what it is for, and what is refused.
#include "linnet/autodiff/kernels/decompositions.h"
#include "linnet/autodiff/kernels/gemm.h"
#include "linnet/autodiff/kernels/parallel.h"
#include "linnet/predict/predict.h"
#include "linnet/tests/predict/problem.h"

#include <doctest/doctest.h>

using linnet::autodiff::NumericalError;
using linnet::autodiff::ShapeError;
using namespace linnet::predict;
using problem::difference, problem::Draw, problem::infinity, problem::Shape;
using linnet::autodiff::Index;

namespace {

Array<double> times(const Array<double>& k, const Array<double>& v) {
  Array<double> z(v.shape());
  linnet::autodiff::gemm(false, false, k.shape()[0], v.size() / k.shape()[0], k.shape()[0], k.data(), v.data(), z.data());
  return z;
}
ColumnProducts products_with(const Array<double>& k) {
  return [k](const Array<double>& v) { return times(k, v); };
}
Array<double> kernel_of(Index n, double power, std::uint64_t seed) {
  Draw draw(seed);
  const Array<double> q = problem::orthonormal(n, n, draw);
  Array<double> left = q, k(Shape{n, n});
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < n; ++j) left[{i, j}] *= std::pow(j + 1., -power);
  linnet::autodiff::gemm(false, true, n, n, n, left.data(), q.data(), k.data());
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < i; ++j) k[{i, j}] = k[{j, i}];
  return k;
}
Array<double> by_factor(Array<double> k, double ridge, const Array<double>& b) {
  const Index n = k.shape()[0], columns = b.size() / n;
  for (Index i = 0; i < n; ++i) k[{i, i}] += ridge;
  REQUIRE(linnet::autodiff::cholesky(n, k.data(), k.data()) == n);
  Array<double> x = b;
  linnet::autodiff::triangular_solve(false, n, columns, k.data(), x.data(), x.data());
  linnet::autodiff::triangular_solve(true, n, columns, k.data(), x.data(), x.data());
  return x;
}

}  // namespace

TEST_CASE("right sides are solved as by a factor, and a preconditioner saves most of the products") {
  const Index n = 150;
  const Array<double> k = kernel_of(n, 2, 1), b = Draw(2).array(Shape{n, 7});
  for (const double ridge : {0., 1e-4, 1e-2}) {
    CAPTURE(ridge);
    const Array<double> exact = by_factor(k, ridge, b);
    const Solution plain = solve(products_with(k), b, {.ridge = ridge, .tolerance = 1e-10});
    const NystromPreconditioner preconditioner(products_with(k), n, 60);
    const Solution quick = solve(products_with(k), b, {.ridge = ridge, .tolerance = 1e-10, .preconditioner = &preconditioner});
    for (const Solution& s : {plain, quick}) {
      CHECK(s.converged);
      CHECK(s.x.shape() == b.shape());
      CHECK(norm(times(k, s.x - exact)) <= norm(s.residuals) + 1e-12);
      if (ridge > 0) CHECK(std::sqrt(dot(s.x - exact, times(k, s.x - exact))) <= norm(s.residuals) / (2 * std::sqrt(ridge)));
      CHECK(max_abs(s.x - exact) <= 1e-9 / (ridge + std::pow(n, -2.)) * max_abs(b));
    }
    CHECK(3 * quick.products < plain.products);
  }
}

TEST_CASE("the preconditioner's eigenvalues are those of the kernel, from below, and its inverse is symmetric") {
  const Index n = 120;
  const Array<double> k = kernel_of(n, 3, 3);
  const NystromPreconditioner p(products_with(k), n, 40);
  for (Index i = 0; i < 5; ++i) {
    CHECK(p.values().data()[i] <= std::pow(i + 1., -3) * (1 + 1e-12));
    CHECK(p.values().data()[i] == doctest::Approx(std::pow(i + 1., -3)).epsilon(1e-3));
  }
  const Array<double> u = Draw(4).array(Shape{n, 1}), v = Draw(5).array(Shape{n, 1});
  CHECK(dot(u, p.apply(.1, v)) == doctest::Approx(dot(v, p.apply(.1, u))).epsilon(1e-12));
  CHECK(NystromPreconditioner(products_with(Array<double>(Shape{3, 3})), 3, 2).values().size() == 0);
}

TEST_CASE("columns that are done wait for the others, and one that is zero is answered by zero") {
  const Index n = 60;
  const Array<double> k = kernel_of(n, 1, 6);
  Array<double> b = Draw(7).array(Shape{n, 3});
  for (Index i = 0; i < n; ++i) b[{i, 1}] = 0;
  const Solution s = solve(products_with(k), b, {.tolerance = 1e-9});
  CHECK(s.converged);
  for (Index i = 0; i < n; ++i) CHECK(s.x[{i, 1}] == 0);
  CHECK(difference(s.x, by_factor(k, 0, b)) < 1e-7);
  CHECK(solve(products_with(k), Array<double>(Shape{n})).products == 1);
  const Solution one = solve(products_with(Array<double>(Shape{1, 1}, {4.0})), Array<double>(Shape{1}, {2.0}));
  CHECK(one.x.item() == .5);
  const Solution few = solve(products_with(k), b, {.max_products = 3});
  CHECK_FALSE(few.converged);
  CHECK(few.products == 4);  // and one that tells how far it came
}

TEST_CASE("the bits of solutions do not depend on the number of threads") {
  const Index n = 400;
  Draw draw(8);
  const Array<double> a = draw.array(Shape{n, 90}), b = draw.array(Shape{n, 5});
  Array<double> k(Shape{n, n});
  linnet::autodiff::gemm(false, true, n, n, 90, a.data(), a.data(), k.data());
  const int before = linnet::autodiff::thread_count();
  std::vector<Array<double>> came;
  for (const int threads : {1, 2, 4}) {
    linnet::autodiff::set_thread_count(threads);
    const NystromPreconditioner p(products_with(k), n, 50);
    came.push_back(solve(products_with(k), b, {.ridge = 1, .preconditioner = &p}).x);
  }
  linnet::autodiff::set_thread_count(before);
  CHECK(came[0] == came[1]);
  CHECK(came[0] == came[2]);
}

TEST_CASE("what cannot be solved is refused in words") {
  const Array<double> k(Shape{2, 2}, {1, 0, 0, 1}), negative(Shape{2, 2}, {1, 0, 0, -1}), b(Shape{2}, {1, 2});
  CHECK_THROWS_WITH_AS(solve(products_with(negative), b), doctest::Contains("solve: the kernel is indefinite: v.(K + ridge) v is -3 for a direction of column 0; pass a larger ridge"), NumericalError);
  CHECK_THROWS_WITH_AS(solve(products_with(Array<double>(Shape{2, 2}, {NAN, 0, 0, 1})), b), "solve: a product with the kernel has nan at [0,0]; every value must be finite", NumericalError);
  CHECK_THROWS_WITH_AS(solve([](const Array<double>&) { return Array<double>(Shape{3}); }, b), "solve: a product with [2,1] came as [3]; a kernel answers what it is given", ShapeError);
  CHECK_THROWS_WITH_AS(solve(products_with(k), Array<double>(Shape{0})), "solve: right sides are [n] or [n,k] with one row and one column at least, got [0]", ShapeError);
  CHECK_THROWS_WITH_AS(solve(products_with(k), Array<double>(Shape{2}, {1, infinity})), "solve: b has inf at [1]; every value must be finite", NumericalError);
  CHECK_THROWS_WITH_AS(solve(products_with(k), b, {.ridge = -1}), "solve: the ridge must be finite and not negative, got -1", NumericalError);
  CHECK_THROWS_WITH_AS(solve(products_with(k), b, {.tolerance = 0}), "solve: the tolerance must be between 0 and 1, got 0", NumericalError);
  CHECK_THROWS_WITH_AS(solve(products_with(k), b, {.max_products = -1}), "solve: SolveOptions::max_products is -1", NumericalError);
  CHECK_THROWS_WITH_AS(NystromPreconditioner(products_with(k), 2, 3), "NystromPreconditioner: a rank of 3 was asked for of a kernel of 2 rows; from 1 to all of them there are", ShapeError);
  CHECK_THROWS_WITH_AS(NystromPreconditioner(products_with(-1.0 * k), 2, 2), doctest::Contains("NystromPreconditioner: the kernel of 2 rows is indefinite by more than "), NumericalError);
  const NystromPreconditioner p(products_with(k), 2, 1);
  CHECK_THROWS_WITH_AS(p.apply(0, Array<double>(Shape{3, 1})), "NystromPreconditioner: it is for columns of 2 rows, got [3,1]", ShapeError);
  CHECK_THROWS_WITH_AS(solve(products_with(Array<double>(Shape{1, 1}, {1.0})), Array<double>(Shape{1}), {.preconditioner = &p}), "solve: the preconditioner is for 2 rows, the right sides have 1", ShapeError);
}
