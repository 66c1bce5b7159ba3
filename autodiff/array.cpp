#include "linnet/autodiff/array.h"

#include "linnet/autodiff/fail.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#ifdef __linux__
#include <sys/mman.h>
#endif

namespace linnet::autodiff {

void* allocate_aligned(std::size_t bytes) {
  void* const p = ::operator new(bytes, std::align_val_t(64));
#ifdef MADV_HUGEPAGE
  if (bytes >= (std::size_t(4) << 20)) {
    const auto at = reinterpret_cast<std::uintptr_t>(p), page = std::uintptr_t(4096), first = (at + page - 1) / page * page, last = (at + bytes) / page * page;
    madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);  // advice: without it everything is as right
  }
#endif
  return p;
}
void free_aligned(void* p) { ::operator delete(p, std::align_val_t(64)); }

namespace {

template <Scalar T> void check_equal(const char* operation, const Array<T>& a, const Array<T>& b) {
  if (a.shape() != b.shape()) fail<ShapeError>("{}: arrays must have one shape, got {} and {}", operation, a.shape(), b.shape());
}

constexpr Index sum_block = 4096;

template <Scalar T> T sum_of_block(const T* x, Index n) {
  T sums[16] = {};
  Index i = 0;
  for (; i + 16 <= n; i += 16)
    for (Index j = 0; j < 16; ++j) sums[j] += x[i + j];
  for (Index j = 0; i < n; ++i, ++j) sums[j] += x[i];
  for (Index width = 8; width; width /= 2)
    for (Index j = 0; j < width; ++j) sums[j] += sums[j + width];
  return sums[0];
}

}  // namespace

template <Scalar T> T fixed_sum(const T* x, Index n) {
  if (n <= sum_block) return sum_of_block(x, n);
  const Index half = (n / sum_block + 1) / 2 * sum_block;  // a tree over whole blocks; n alone decides its form
  return fixed_sum(x, half) + fixed_sum(x + half, n - half);
}

template <Scalar T> Array<T>::Array(Shape shape, std::span<const T> values) : shape_(shape), values_(values.begin(), values.end()) {
  if (size() != shape.size()) fail<ShapeError>("array: shape {} holds {} values, got {}", shape, shape.size(), size());
}

template <Scalar T> Array<T> Array<T>::uninitialized(Shape shape) {
  Array a;
  a.shape_ = shape;
  a.values_.resize(static_cast<std::size_t>(shape.size()));
  return a;
}

template <Scalar T> Index Array<T>::offset(std::initializer_list<Index> at) const {
  if (static_cast<Index>(at.size()) != shape_.rank()) fail<ShapeError>("array: index [{}] has {} axes, the array {} has {}", fmt::join(at, ","), at.size(), shape_, shape_.rank());
  Index offset = 0, axis = 0;
  for (const Index i : at) {
    if (i < 0 || i >= shape_[axis]) fail<ShapeError>("array: index [{}] is outside of {}", fmt::join(at, ","), shape_);
    offset = offset * shape_[axis++] + i;
  }
  return offset;
}

template <Scalar T> T Array<T>::item() const {
  if (size() != 1) fail<ShapeError>("array: item() needs exactly one value, the array {} has {}", shape_, size());
  return values_[0];
}

template <Scalar T> Array<T> Array<T>::reshaped(Shape shape) && {
  if (shape.size() != size()) fail<ShapeError>("array: cannot reshape {} to {}: {} values are not {}", shape_, shape, size(), shape.size());
  shape_ = shape;
  return std::move(*this);
}

template <Scalar T> Array<T> Array<T>::rows(Index first, Index count) const {
  if (shape_.rank() == 0 || first < 0 || count < 0 || first > shape_[0] - count) fail<ShapeError>("array: rows {} to {} are outside of {}", first, first + count, shape_);
  const Index row = shape_.size(1, shape_.rank());
  return Array(shape_.with(0, count), std::span(data() + first * row, static_cast<std::size_t>(count * row)));
}

template <Scalar T> Array<T> operator+(const Array<T>& a, const Array<T>& b) {
  check_equal("array +", a, b);
  Array<T> c = a;
  for (Index i = 0; i < c.size(); ++i) c.data()[i] += b.data()[i];
  return c;
}
template <Scalar T> Array<T> operator-(const Array<T>& a, const Array<T>& b) {
  check_equal("array -", a, b);
  Array<T> c = a;
  for (Index i = 0; i < c.size(); ++i) c.data()[i] -= b.data()[i];
  return c;
}
template <Scalar T> Array<T> operator*(std::type_identity_t<T> factor, const Array<T>& a) {
  Array<T> c = a;
  for (T& v : c) v *= factor;
  return c;
}
template <Scalar T> T dot(const Array<T>& a, const Array<T>& b) {
  check_equal("array dot", a, b);
  Array<T> products = a;
  for (Index i = 0; i < products.size(); ++i) products.data()[i] *= b.data()[i];
  return fixed_sum(products.data(), products.size());
}
template <Scalar T> T norm(const Array<T>& a) {
  const T scale = max_abs(a);  // so that squares neither overflow nor vanish
  if (scale == 0 || !std::isfinite(scale)) return scale;
  Array<T> scaled = a;
  for (T& v : scaled) v /= scale;
  return scale * std::sqrt(dot(scaled, scaled));
}
template <Scalar T> T max_abs(const Array<T>& a) {
  T largest = 0;
  for (const T v : a) {
    if (std::isnan(v)) return v;
    largest = std::max(largest, std::abs(v));
  }
  return largest;
}
template <Scalar To, Scalar From> Array<To> cast(const Array<From>& a) {
  Array<To> b = Array<To>::uninitialized(a.shape());
  for (Index i = 0; i < a.size(); ++i) b.data()[i] = static_cast<To>(a.data()[i]);
  return b;
}
// Of a NaN or an infinity times zero is NaN, and stays in a sum: blocks without one are passed over sixteen numbers at a time.
template <Scalar T> Index first_not_finite(std::span<const T> values) {
  const Index n = static_cast<Index>(values.size());
  for (Index first = 0; first < n; first += sum_block) {
    const Index end = std::min(n, first + sum_block);
    T seen[16] = {};
    Index i = first;
    for (; i + 16 <= end; i += 16)
      for (Index j = 0; j < 16; ++j) seen[j] += values[static_cast<std::size_t>(i + j)] * T(0);
    bool clean = i == end;
    if (clean)
      for (const T s : seen) clean &= s == 0;
    if (clean) continue;
    for (Index k = first; k < end; ++k)
      if (!std::isfinite(values[static_cast<std::size_t>(k)])) return k;
  }
  return -1;
}

#define LINNET_INSTANTIATE(T)                                  \
  template class Array<T>;                                     \
  template Array<T> operator+(const Array<T>&, const Array<T>&); \
  template Array<T> operator-(const Array<T>&, const Array<T>&); \
  template Array<T> operator*(std::type_identity_t<T>, const Array<T>&); \
  template T dot(const Array<T>&, const Array<T>&);            \
  template T norm(const Array<T>&);                            \
  template T max_abs(const Array<T>&);                         \
  template Array<float> cast(const Array<T>&);                 \
  template Array<double> cast(const Array<T>&);                \
  template Index first_not_finite(std::span<const T>);         \
  template T fixed_sum(const T*, Index);
LINNET_INSTANTIATE(float)
LINNET_INSTANTIATE(double)

}  // namespace linnet::autodiff
