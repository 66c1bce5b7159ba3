// Largest eigenvalues and estimates of norms, against the eigenvalues of the whole matrix.
#include "networks_by_hand.h"

#include "linnet/autodiff/kernels/decompositions.h"

#include <doctest/doctest.h>

using namespace networks;
using linnet::autodiff::NumericalError;
using linnet::autodiff::ShapeError;

namespace {

// Ascending.
Array<double> eigenvalues(Array<double> k) {
  Array<double> values({k.shape()[0]});
  linnet::autodiff::eigh(k.shape()[0], k.data(), values.data());
  return values;
}

template <class T> ntk::Symmetric<T> of_matrix(const Array<double>& k) {
  const Index n = k.shape()[0];
  return {Shape{n}, [k, n](const Array<T>& v) {
            Array<T> y({n});
            for (Index i = 0; i < n; ++i) {
              double sum = 0;
              for (Index j = 0; j < n; ++j) sum += k[{i, j}] * static_cast<double>(v.data()[j]);
              y.data()[i] = static_cast<T>(sum);
            }
            return y;
          }};
}

Array<double> diagonal_matrix(const std::vector<double>& d) {
  Array<double> k({static_cast<Index>(d.size()), static_cast<Index>(d.size())});
  for (std::size_t i = 0; i < d.size(); ++i) k[{static_cast<Index>(i), static_cast<Index>(i)}] = d[i];
  return k;
}

// Values and residuals against a matrix; vectors against both.
template <class T> void check_found(const ntk::LargestEigenvalues<T>& found, const Array<double>& k, Index count) {
  const Array<double> all = eigenvalues(k);
  const Index n = k.shape()[0];
  const double eps = std::numeric_limits<T>::epsilon(), largest = std::max(std::abs(all.data()[n - 1]), std::abs(all.data()[0]));
  REQUIRE(found.values.shape() == Shape{count});
  REQUIRE(found.vectors.shape() == Shape{count, n});
  CHECK(found.products <= n);
  for (Index e = 0; e < count; ++e) {
    const double value = found.values.data()[e];
    CHECK(std::abs(value - all.data()[n - 1 - e]) <= 1e-5 * largest);
    double residual = 0;
    for (Index i = 0; i < n; ++i) {
      double sum = -value * static_cast<double>(found.vectors[{e, i}]);
      for (Index j = 0; j < n; ++j) sum += k[{i, j}] * static_cast<double>(found.vectors[{e, j}]);
      residual += sum * sum;
    }
    CHECK(std::abs(std::sqrt(residual) - found.residuals.data()[e]) <= 100 * eps * largest);  // what is told of it is true
    CHECK(found.residuals.data()[e] <= 1e-5 * largest);
    for (Index g = 0; g <= e; ++g) {
      double dot = 0;
      for (Index i = 0; i < n; ++i) dot += static_cast<double>(found.vectors[{e, i}]) * static_cast<double>(found.vectors[{g, i}]);
      CHECK(std::abs(dot - (e == g)) <= 100 * eps);
    }
  }
}

}  // namespace

TEST_CASE_TEMPLATE("the largest eigenvalues of a kernel are found by its operator", T, float, double) {
  for (const Index outputs : {1, 3}) {
    const Network net = mlp(4, {7, 6}, outputs);
    const Array<double> x = examples(net, 30, 1), J = jacobian(net, x), k = outer(J, J);
    const ntk::Operator<T> op(net.f, as<T>(net.params), as<T>(x));
    for (const Index count : {1, 2, 5}) check_found(ntk::largest_eigenvalues(op, count), k, count);
    const auto few = ntk::largest_eigenvalues(op, 2);
    CHECK(few.products < 30 * outputs / 2);  // a kernel's spectrum falls fast
    CHECK(few.values == ntk::largest_eigenvalues(op, 2).values);
    CHECK(few.values != ntk::largest_eigenvalues(op, 2, {.seed = 1}).values);  // in the last bits
  }
}

TEST_CASE_TEMPLATE("all eigenvalues are found, of matrices of one row and of more", T, float, double) {
  check_found(ntk::largest_eigenvalues(of_matrix<T>(diagonal_matrix({3})), 1), diagonal_matrix({3}), 1);
  check_found(ntk::largest_eigenvalues(of_matrix<T>(diagonal_matrix({1, -4})), 2), diagonal_matrix({1, -4}), 2);
  Draw draw(4);
  const Array<double> a = draw.array({9, 9}), k = outer(a, a);
  check_found(ntk::largest_eigenvalues(of_matrix<T>(k), 9), k, 9);
}

TEST_CASE_TEMPLATE("eigenvalues that come several times are found as often as they come", T, float, double) {
  const std::vector<double> d{5, 5, 5, 2, 2, 2, 1, 1, 1, 0.5, 0.25, 0.125};
  ntk::Symmetric<T> kernel = of_matrix<T>(diagonal_matrix(d));
  check_found(ntk::largest_eigenvalues(kernel, 6, {.block = 3}), diagonal_matrix(d), 6);
  kernel.outputs = 3;  // the block, where nothing is said
  check_found(ntk::largest_eigenvalues(kernel, 6), diagonal_matrix(d), 6);
  check_found(ntk::largest_eigenvalues(of_matrix<T>(diagonal_matrix(d)), 12), diagonal_matrix(d), 12);  // from a single vector: fresh ones where nothing new comes
  check_found(ntk::largest_eigenvalues(of_matrix<T>(Array<double>({6, 6})), 2), Array<double>({6, 6}), 2);  // zero
  check_found(ntk::largest_eigenvalues(of_matrix<T>(diagonal_matrix({1, 1, 1, 1})), 4, {.block = 100}), diagonal_matrix({1, 1, 1, 1}), 4);
  // A linear network: the kernel is that of one output, once for each.
  const Network net = network("linear", {5}, {{"W", {5, 3}}}, [](const Tree<Var>& p, const Var& x) { return dot(x, p["W"]); });
  const Array<double> x = examples(net, 12, 1), J = jacobian(net, x);
  check_found(ntk::largest_eigenvalues(ntk::Operator<T>(net.f, as<T>(net.params), as<T>(x)), 7), outer(J, J), 7);
}

TEST_CASE_TEMPLATE("what cannot be asked, or does not come to an end, is refused", T, float, double) {
  const ntk::Symmetric<T> kernel = of_matrix<T>(diagonal_matrix({1, 2, 3, 4, 5, 6, 7, 8}));
  const auto shape_text = [&](Index k, const ntk::LanczosOptions& o) { return message<ShapeError>([&] { ntk::largest_eigenvalues(kernel, k, o); }); };
  CHECK(shape_text(0, {}) == "ntk::largest_eigenvalues: 0 eigenvalues were asked for of a matrix of 8 rows; from 1 to all of them there are");
  CHECK(shape_text(9, {}) == "ntk::largest_eigenvalues: 9 eigenvalues were asked for of a matrix of 8 rows; from 1 to all of them there are");
  CHECK(shape_text(1, {.block = -1}) == "ntk::largest_eigenvalues: products, block and tolerance must not be negative, got 0, -1 and 1e-05");
  CHECK(shape_text(3, {.max_products = 2}) == "ntk::largest_eigenvalues: 3 eigenvalues need as many products, LanczosOptions::max_products is 2");
  const std::string text = message<NumericalError>([&] { ntk::largest_eigenvalues(kernel, 1, {.max_products = 3}); });
  CAPTURE(text);
  CHECK(text.starts_with("ntk::largest_eigenvalues: 3 products leave a residual of 0."));
  CHECK(text.ends_with(" of the largest eigenvalue, the tolerance is 1e-05; allow more products, or a larger tolerance"));
  const auto bad = [&](auto product) { return message<NumericalError>([&] { ntk::largest_eigenvalues(ntk::Symmetric<T>(Shape{4}, product), 1); }); };
  CHECK(bad([](const Array<T>& v) { return Array<T>(v.shape(), std::numeric_limits<T>::quiet_NaN()); }) ==
        "ntk::largest_eigenvalues: a product is not finite; scale the inputs or parameters, or compute in double");
  CHECK(bad([](const Array<T>& v) { Array<T> y(v.shape()); for (Index i = 0; i < 3; ++i) y.data()[i] = v.data()[i + 1]; return y; })
            .starts_with("ntk::largest_eigenvalues: the product is not that of a symmetric matrix: u.Kv is "));
  CHECK(message<ShapeError>([&] { ntk::largest_eigenvalues(ntk::Symmetric<T>(Shape{4}, [](const Array<T>&) { return Array<T>({3}); }), 1); }) ==
        "ntk::largest_eigenvalues: a product with [4] came as [3]; a symmetric matrix answers what it is given");
  CHECK(message<NumericalError>([&] { ntk::largest_eigenvalues(kernel, 1, {.progress = [](const auto&) { return false; }}); }) ==
        "ntk::largest_eigenvalues: cancelled by the progress function after 1 of 8 products");
  CHECK(message<ShapeError>([&] { ntk::estimate_norms(kernel, 1); }) == "ntk::estimate_norms: an error needs two samples or more, got 1");
}

TEST_CASE_TEMPLATE("estimates of trace and Frobenius norm are within four of their errors, and errors fall with the samples", T, float, double) {
  const Network net = mlp(4, {7, 6}, 2);
  const Array<double> x = examples(net, 40, 1), J = jacobian(net, x), k = outer(J, J);
  double trace = 0, squares = 0;
  for (Index i = 0; i < 80; ++i) trace += k[{i, i}];
  for (const double v : k) squares += v * v;
  const ntk::Operator<T> op(net.f, as<T>(net.params), as<T>(x));
  double before = INFINITY;
  for (const Index samples : {10, 100, 400}) {
    const auto e = ntk::estimate_norms(op, samples, 7);
    CAPTURE(samples);
    CHECK(e.trace.samples == samples);
    CHECK(std::abs(e.trace.value - trace) <= 4 * e.trace.error);
    CHECK(std::abs(e.frobenius.value - std::sqrt(squares)) <= 4 * e.frobenius.error);
    CHECK(e.trace.error > 0);
    CHECK(e.trace.error < before);
    before = e.trace.error;
  }
  CHECK(ntk::estimate_norms(op, 10, 7).trace.value == ntk::estimate_norms(op, 10, 7).trace.value);
  CHECK(ntk::estimate_norms(op, 10, 7).trace.value != ntk::estimate_norms(op, 10, 8).trace.value);
}

TEST_CASE_TEMPLATE("of a diagonal matrix probes of signs find both norms without error", T, float, double) {
  const auto e = ntk::estimate_norms(of_matrix<T>(diagonal_matrix({1, 2, 3, 4})), 5);
  CHECK(e.trace.value == 10);
  CHECK(e.trace.error == 0);
  CHECK(std::abs(e.frobenius.value - std::sqrt(30.)) <= 1e-14);
  CHECK(e.frobenius.error == 0);
  const auto none = ntk::estimate_norms(of_matrix<T>(Array<double>({4, 4})), 5);
  CHECK(none.frobenius.value == 0);
  CHECK(none.frobenius.error == 0);
}
