// conjugate_gradients.h: columns are independent problems that share their products; sums over rows go row by row.
#include "linnet/predict/conjugate_gradients.h"

#include "linnet/autodiff/finite.h"
#include "linnet/autodiff/kernels/decompositions.h"
#include "linnet/autodiff/kernels/gemm.h"
#include "linnet/autodiff/kernels/threefry.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace linnet::predict {

using autodiff::check_finite;
using autodiff::fail;
using autodiff::gemm;
using autodiff::NumericalError;
using autodiff::Shape;
using autodiff::ShapeError;

namespace {

Array<double> transposed(const Array<double>& a) {
  const Index n = a.shape()[0], k = a.shape()[1];
  Array<double> t = Array<double>::uninitialized(Shape{k, n});
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < k; ++j) t.data()[j * n + i] = a.data()[i * k + j];
  return t;
}

Array<double> multiply(const char* operation, const ColumnProducts& kernel, const Array<double>& v) {
  Array<double> product = kernel(v);
  if (product.shape() != v.shape()) fail<ShapeError>("{}: a product with {} came as {}; a kernel answers what it is given", operation, v.shape(), product.shape());
  check_finite(operation, "a product with the kernel", product);
  return product;
}

// Signs over sqrt(n), each with probability one half: [n, k].
Array<double> random_columns(Index n, Index k, std::uint64_t seed) {
  Array<double> omega = Array<double>::uninitialized(Shape{n, k});
  const double size = 1 / std::sqrt(static_cast<double>(n));
  const std::array key{static_cast<std::uint32_t>(seed >> 32), static_cast<std::uint32_t>(seed)};
  for (Index i = 0; i < omega.size(); ++i) {
    const auto [a, b] = autodiff::threefry(key, static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(static_cast<std::uint64_t>(i) >> 32));
    omega.data()[i] = (a ^ b) & 1 ? size : -size;
  }
  return omega;
}

// Of columns: a.b of each.
std::vector<double> dots(const Array<double>& a, const Array<double>& b) {
  const Index n = a.shape()[0], k = a.shape()[1];
  std::vector<double> sums(static_cast<std::size_t>(k), 0);
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < k; ++j) sums[static_cast<std::size_t>(j)] += a.data()[i * k + j] * b.data()[i * k + j];
  return sums;
}

// to = from + scale to, or to += scale from, column by column.
void combine(const Array<double>& from, const std::vector<double>& scale, Array<double>& to, bool onto) {
  const Index k = static_cast<Index>(scale.size());
  for (Index i = 0; i < to.size(); ++i) {
    const double s = scale[static_cast<std::size_t>(i % k)];
    to.data()[i] = onto ? to.data()[i] + s * from.data()[i] : from.data()[i] + s * to.data()[i];
  }
}

}  // namespace

NystromPreconditioner::NystromPreconditioner(const ColumnProducts& kernel, Index n, Index rank, std::uint64_t seed) : n_(n) {
  const char* const operation = "NystromPreconditioner";
  if (rank < 1 || rank > n) fail<ShapeError>("{}: a rank of {} was asked for of a kernel of {} rows; from 1 to all of them there are", operation, rank, n);
  const Array<double> omega = random_columns(n, rank, seed), y = multiply(operation, kernel, omega);
  if (max_abs(y) == 0) return;  // of zeros nothing is known, and nothing is to be done
  // A shift that is rounding beside K lets the small matrix have a factor; it is taken out of the eigenvalues again.
  double shift = std::sqrt(static_cast<double>(n)) * std::numeric_limits<double>::epsilon() * norm(y);
  Array<double> rows = transposed(y), core(Shape{rank, rank}), factor;
  for (int attempt = 0;; ++attempt, shift *= 100) {
    const Array<double> shifted = y + shift * omega;
    gemm(true, false, rank, rank, n, omega.data(), shifted.data(), core.data());
    for (Index i = 0; i < rank; ++i)
      for (Index j = 0; j < i; ++j) core[{i, j}] = core[{j, i}] = (core[{i, j}] + core[{j, i}]) / 2;
    factor = core;
    if (autodiff::cholesky(rank, core.data(), factor.data()) == rank) {
      rows = transposed(shifted);
      break;
    }
    if (attempt == 3) fail<NumericalError>("{}: the kernel of {} rows is indefinite by more than {:.3g}; conjugate gradients need a positive semidefinite one", operation, n, shift);
  }
  autodiff::triangular_solve(false, rank, n, factor.data(), rows.data(), rows.data());  // rows^T rows approximates K + shift
  gemm(false, true, rank, rank, n, rows.data(), rows.data(), core.data());
  for (Index i = 0; i < rank; ++i)
    for (Index j = 0; j < i; ++j) core[{i, j}] = core[{j, i}];
  Array<double> eigenvalues(Shape{rank});
  autodiff::eigh(rank, core.data(), eigenvalues.data());
  const double largest = eigenvalues.data()[rank - 1];
  Index kept = 0;  // directions of small ones are rounding
  while (kept < rank && eigenvalues.data()[rank - 1 - kept] > 1e-10 * largest) ++kept;
  Array<double> turn(Shape{kept, rank});
  values_ = Array<double>(Shape{kept});
  for (Index i = 0; i < kept; ++i) {
    const double value = eigenvalues.data()[rank - 1 - i];
    values_.data()[i] = std::max(value - shift, 0.);
    for (Index j = 0; j < rank; ++j) turn[{i, j}] = core[{rank - 1 - i, j}] / std::sqrt(value);
  }
  vectors_ = Array<double>(Shape{kept, n});
  gemm(false, false, kept, n, rank, turn.data(), rows.data(), vectors_.data());
}

Array<double> NystromPreconditioner::apply(double ridge, const Array<double>& v) const {
  if (v.shape().rank() != 2 || v.shape()[0] != n_) fail<ShapeError>("NystromPreconditioner: it is for columns of {} rows, got {}", n_, v.shape());
  const Index l = values_.size(), k = v.shape()[1];
  Array<double> result = v;
  if (l == 0) return result;
  const double least = values_.data()[l - 1] + ridge;
  Array<double> modes(Shape{l, k});
  gemm(false, false, l, k, n_, vectors_.data(), v.data(), modes.data());
  for (Index i = 0; i < l; ++i)
    for (Index j = 0; j < k; ++j) modes.data()[i * k + j] *= (least > 0 ? least / (values_.data()[i] + ridge) : 1) - 1;
  gemm(true, false, n_, k, l, vectors_.data(), modes.data(), result.data(), true);
  return result;
}

Solution solve(const ColumnProducts& kernel, const Array<double>& b, const SolveOptions& options) {
  const char* const operation = "solve";
  if (b.shape().rank() < 1 || b.shape().rank() > 2 || b.size() == 0) fail<ShapeError>("{}: right sides are [n] or [n,k] with one row and one column at least, got {}", operation, b.shape());
  if (!(std::isfinite(options.ridge) && options.ridge >= 0)) fail<NumericalError>("{}: the ridge must be finite and not negative, got {}", operation, options.ridge);
  if (!(options.tolerance > 0 && options.tolerance < 1)) fail<NumericalError>("{}: the tolerance must be between 0 and 1, got {}", operation, options.tolerance);
  if (options.max_products < 0) fail<NumericalError>("{}: SolveOptions::max_products is {}", operation, options.max_products);
  const Index n = b.shape()[0], k = b.size() / n;
  if (options.preconditioner && options.preconditioner->size() != n) fail<ShapeError>("{}: the preconditioner is for {} rows, the right sides have {}", operation, options.preconditioner->size(), n);
  check_finite(operation, "b", b);
  const Array<double> right = b.reshaped(Shape{n, k});
  const auto times = [&](const Array<double>& v) { return multiply(operation, kernel, v) + options.ridge * v; };
  const auto preconditioned = [&](const Array<double>& v) { return options.preconditioner ? options.preconditioner->apply(options.ridge, v) : v; };
  const std::vector<double> size = dots(right, right);
  Solution s{Array<double>(right.shape()), Array<double>(Shape{k})};
  Array<double> r = right, z = preconditioned(r), p = z;
  std::vector<double> along = dots(r, z), step(static_cast<std::size_t>(k)), turn(static_cast<std::size_t>(k));
  const auto done = [&](std::size_t j, double square) { return square <= options.tolerance * options.tolerance * size[j]; };
  const Index most = options.max_products ? options.max_products : 10 * n;
  for (std::vector<double> left = size; s.products < most;) {
    bool all = true;
    for (std::size_t j = 0; j < left.size(); ++j) all = all && done(j, left[j]);
    if (all) break;
    const Array<double> q = times(p);
    ++s.products;
    const std::vector<double> curvature = dots(p, q);
    for (std::size_t j = 0; j < left.size(); ++j) {
      if (!done(j, left[j]) && curvature[j] < 0 && -curvature[j] > 1e-10 * std::sqrt(dots(p, p)[j] * dots(q, q)[j]))  // beyond what rounding does to a direction of the null space
        fail<NumericalError>("{}: the kernel is indefinite: v.(K + ridge) v is {:.3g} for a direction of column {}; pass a larger ridge", operation, curvature[j], j);
      step[j] = done(j, left[j]) || curvature[j] <= 0 ? 0 : along[j] / curvature[j];  // a column that is done stays as it is
    }
    combine(p, step, s.x, true);
    for (double& v : step) v = -v;
    combine(q, step, r, true);
    left = dots(r, r);
    z = preconditioned(r);
    const std::vector<double> next = dots(r, z);
    for (std::size_t j = 0; j < left.size(); ++j) turn[j] = along[j] > 0 ? next[j] / along[j] : 0;
    along = next;
    combine(z, turn, p, false);
  }
  const Array<double> missing = right - times(s.x);
  const std::vector<double> squares = dots(missing, missing);
  for (std::size_t j = 0; j < squares.size(); ++j) {
    s.residuals.data()[j] = std::sqrt(squares[j]);
    s.converged = s.converged && s.residuals.data()[j] <= 2 * options.tolerance * std::sqrt(size[j]);
  }
  ++s.products;
  s.x = std::move(s.x).reshaped(b.shape());
  return s;
}

}  // namespace linnet::predict
