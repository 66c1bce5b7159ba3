// Dynamics from products alone: against decompositions, over spectra of every kind, with bounds that hold.
#include "linnet/autodiff/kernels/decompositions.h"
#include "linnet/autodiff/kernels/gemm.h"
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
  const auto geometric = [n](double condition, Index rank) {
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
