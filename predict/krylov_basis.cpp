// A step is a product, the two terms that the recurrence knows, and a pass over the whole basis for what rounding left of the others; a second pass where the first took
// away so much that its own rounding counts.
#include "linnet/predict/krylov_basis.h"

#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/kernels/gemm.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace linnet::predict {

using autodiff::fail;
using autodiff::gemm;
using autodiff::NumericalError;
using autodiff::parallel_for;
using autodiff::ShapeError;

template <Scalar T>
Basis<T>::Basis(const char* operation, ntk::Symmetric<T> kernel, const Array<double>& start, double noise)
    : operation_(operation), kernel_(std::move(kernel)), n_(start.size()), noise_(noise) {
  const double largest = max_abs(start);
  if (largest == 0) {
    complete_ = true;
    return;
  }
  const Array<double> unit = (1 / largest) * start;  // squares of it do not overflow
  const double length = autodiff::norm(unit);
  start_ = largest * length;
  append(autodiff::cast<T>(unit), length);
}

template <Scalar T> double Basis<T>::dot(const Array<T>& a, const Array<T>& b) {
  Buffer<double> products(static_cast<std::size_t>(a.size()));
  for (Index i = 0; i < a.size(); ++i) products[static_cast<std::size_t>(i)] = static_cast<double>(a.data()[i]) * static_cast<double>(b.data()[i]);
  return autodiff::fixed_sum(products.data(), a.size());
}
template <Scalar T> double Basis<T>::norm(const Array<T>& z) {
  const double largest = static_cast<double>(max_abs(z));
  if (largest == 0 || (largest > 1e-140 && largest < 1e140)) return std::sqrt(dot(z, z));
  return largest * autodiff::norm((1 / largest) * autodiff::cast<double>(z));  // of kernels in units whose squares are no numbers
}
template <Scalar T> void Basis<T>::add(double scale, const Array<T>& what, Array<T>& to) {
  for (Index i = 0; i < to.size(); ++i) to.data()[i] = static_cast<T>(static_cast<double>(to.data()[i]) + scale * static_cast<double>(what.data()[i]));
}
template <Scalar T> double Basis<T>::negligible() const { return std::max(static_cast<double>(size_) * std::numeric_limits<double>::epsilon(), noise_) * scale_; }

template <Scalar T> void Basis<T>::append(const Array<T>& z, double norm) {
  if (size_ % high == 0) tiles_.emplace_back(static_cast<std::size_t>(high * n_));
  for (Index p = 0; p < pieces(); ++p) {
    T* const to = tiles_.back().data() + high * p * wide + size_ % high * width(p);
    for (Index i = 0; i < width(p); ++i) to[i] = static_cast<T>(static_cast<double>(z.data()[p * wide + i]) / norm);
  }
  ++size_;
}

template <Scalar T> Array<T> Basis<T>::vector(Index i) const {
  Array<T> v = Array<T>::uninitialized(kernel_.shape);
  for (Index p = 0; p < pieces(); ++p) std::copy_n(tile(i / high, p) + i % high * width(p), width(p), v.data() + p * wide);
  return v;
}

template <Scalar T> std::vector<double> Basis<T>::project(const Array<T>& z) const {
  Buffer<T> parts(static_cast<std::size_t>(pieces() * size_));
  parallel_for(pieces(), [&](Index p) {
    for (Index first = 0; first < size_; first += high)
      gemm(false, false, std::min(high, size_ - first), 1, width(p), tile(first / high, p), z.data() + p * wide, parts.data() + p * size_ + first);
  });
  std::vector<double> h(static_cast<std::size_t>(size_), 0);
  for (Index p = 0; p < pieces(); ++p)
    for (Index i = 0; i < size_; ++i) h[static_cast<std::size_t>(i)] += static_cast<double>(parts[static_cast<std::size_t>(p * size_ + i)]);
  return h;
}

template <Scalar T> void Basis<T>::subtract(const std::vector<double>& h, Array<T>& z) const {
  Buffer<T> minus(h.size());
  for (std::size_t i = 0; i < h.size(); ++i) minus[i] = static_cast<T>(-h[i]);
  parallel_for(pieces(), [&](Index p) {
    for (Index first = 0; first < size_; first += high)
      gemm(true, false, width(p), 1, std::min(high, size_ - first), tile(first / high, p), minus.data() + first, z.data() + p * wide, true);
  });
}

template <Scalar T> void Basis<T>::extend() {
  if (complete_) return;
  const Index m = size_;
  const Array<T> v = vector(m - 1);
  Array<T> z = kernel_.product(v);
  if (z.shape() != kernel_.shape) fail<ShapeError>("{}: a product with {} came as {}; a kernel answers what it is given", operation_, kernel_.shape, z.shape());
  if (autodiff::first_not_finite(std::span<const T>(z.values())) >= 0)
    fail<NumericalError>("{}: product {} with the kernel is not finite; scale the inputs or parameters, or compute in double", operation_, m);
  scale_ = std::max(scale_, norm(z));

  double along = dot(v, z);
  add(-along, v, z);
  if (m > 1) add(-beside_.back(), vector(m - 2), z);
  for (double before = norm(z), after = 0;; before = after) {
    const std::vector<double> h = project(z);
    const double others = *std::max_element(h.begin(), h.end(), [](double a, double b) { return std::abs(a) < std::abs(b); });
    if (std::abs(others) > (std::sqrt(static_cast<double>(std::numeric_limits<T>::epsilon())) + 100 * noise_) * scale_)
      fail<NumericalError>("{}: the products are not those of a symmetric matrix: u.Kv and v.Ku differ by {:.3g}, the longest product is {:.3g}", operation_, std::abs(others), scale_);
    along += h.back();
    subtract(h, z);
    after = norm(z);
    if (!(after < .7 * before) || after <= negligible()) break;
  }
  const double beta = norm(z);
  diagonal_.push_back(along);
  if (size_ == n_ || beta <= negligible()) {
    complete_ = true;
    beside_.push_back(0);
    return;
  }
  beside_.push_back(beta);
  append(z, beta);
}

template <Scalar T> Array<double> Basis<T>::combine(const Array<double>& weights) const {
  const Index vectors = weights.shape()[0], columns = weights.shape()[1];
  const Array<T> narrow = autodiff::cast<T>(weights);
  Array<double> result({n_, columns});
  if (columns == 0) return result;
  parallel_for(pieces(), [&](Index p) {
    Buffer<T> part(static_cast<std::size_t>(width(p) * columns));
    double* const to = result.data() + p * wide * columns;
    for (Index first = 0; first < vectors; first += high) {
      gemm(true, false, width(p), columns, std::min(high, vectors - first), tile(first / high, p), narrow.data() + first * columns, part.data());
      for (Index i = 0; i < width(p) * columns; ++i) to[i] += static_cast<double>(part[static_cast<std::size_t>(i)]);
    }
  });
  return result;
}

template class Basis<float>;
template class Basis<double>;

}  // namespace linnet::predict
