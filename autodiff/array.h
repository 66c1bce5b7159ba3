// Array<T> owns its values and behaves as a std::vector does: copies are deep, a const array cannot be written to. Row-major,
// contiguous, and aligned to 64 bytes. ArrayView<T> borrows. There is no arithmetic here beyond what tests and examples need: computations are
// programs (tape.h), and eigen.h shows an array to Eigen.
#pragma once

#include "linnet/autodiff/shape.h"

#include <concepts>
#include <initializer_list>
#include <new>
#include <span>
#include <vector>

namespace linnet::autodiff {

template <class T> concept Scalar = std::same_as<T, float> || std::same_as<T, double>;

// To 64 bytes; of 4 MiB and more in huge pages where the system lends them on request, because touching fresh memory page by page costs as much as packing it.
void* allocate_aligned(std::size_t bytes);
void free_aligned(void* p);

// Aligned memory that is not set to zero unless asked: vector(n) leaves it as it is, vector(n, T(0)) clears it.
template <class T> struct AlignedAllocator {
  using value_type = T;
  T* allocate(std::size_t n) { return static_cast<T*>(allocate_aligned(n * sizeof(T))); }
  void deallocate(T* p, std::size_t) { free_aligned(p); }
  template <class U> void construct(U* p) { ::new (static_cast<void*>(p)) U; }
  template <class U, class... Args> void construct(U* p, Args&&... args) { ::new (static_cast<void*>(p)) U(std::forward<Args>(args)...); }
  bool operator==(const AlignedAllocator&) const { return true; }
};
template <class T> using Buffer = std::vector<T, AlignedAllocator<T>>;

template <Scalar T> class Array {
 public:
  using value_type = T;

  Array() : Array(Shape{0}) {}
  explicit Array(Shape shape) : shape_(shape), values_(static_cast<std::size_t>(shape.size()), T(0)) {}  // zeros
  Array(Shape shape, std::initializer_list<T> values) : Array(shape, std::span(values.begin(), values.size())) {}
  Array(Shape shape, std::span<const T> values);  // ShapeError unless there are shape.size() values
  Array(Shape shape, T value) : shape_(shape), values_(static_cast<std::size_t>(shape.size()), value) {}
  static Array uninitialized(Shape shape);

  const Shape& shape() const { return shape_; }
  Index size() const { return static_cast<Index>(values_.size()); }
  T* data() { return values_.data(); }
  const T* data() const { return values_.data(); }
  std::span<T> values() { return values_; }
  std::span<const T> values() const { return values_; }
  auto begin() { return values_.begin(); }
  auto end() { return values_.end(); }
  auto begin() const { return values_.begin(); }
  auto end() const { return values_.end(); }

  T& operator[](std::initializer_list<Index> at) { return values_[static_cast<std::size_t>(offset(at))]; }  // ShapeError if it is not in the array
  const T& operator[](std::initializer_list<Index> at) const { return values_[static_cast<std::size_t>(offset(at))]; }
  T item() const;  // the one value of an array of size 1; ShapeError otherwise

  Array reshaped(Shape shape) &&;       // the same values; ShapeError unless the sizes agree
  Array reshaped(Shape shape) const& { return Array(*this).reshaped(shape); }
  Array rows(Index first, Index count) const;  // [first, first + count) of the leading axis; ShapeError beyond it
  bool operator==(const Array&) const = default;

 private:
  Index offset(std::initializer_list<Index> at) const;
  Shape shape_;
  Buffer<T> values_;
};
extern template class Array<float>;
extern template class Array<double>;

// A borrowed array: a shape and where the values are. It must not outlive them.
template <Scalar T> struct ArrayView {
  Shape shape;
  const T* data = nullptr;
  ArrayView() = default;
  ArrayView(const Array<T>& array) : shape(array.shape()), data(array.data()) {}
  ArrayView(Shape of, const T* at) : shape(of), data(at) {}
};

// Elementwise, of one shape (ShapeError otherwise); sums in a fixed order, so that their bits do not depend on addresses or threads.
template <Scalar T> Array<T> operator+(const Array<T>& a, const Array<T>& b);
template <Scalar T> Array<T> operator-(const Array<T>& a, const Array<T>& b);
template <Scalar T> Array<T> operator*(std::type_identity_t<T> c, const Array<T>& a);
template <Scalar T> T dot(const Array<T>& a, const Array<T>& b);
template <Scalar T> T norm(const Array<T>& a);
template <Scalar T> T max_abs(const Array<T>& a);                    // 0 of an empty array
template <Scalar To, Scalar From> Array<To> cast(const Array<From>& a);
template <Scalar T> Index first_not_finite(std::span<const T> values);  // the position of the first NaN or infinity, or -1

// The sum of n values in a fixed tree: sixteen running sums within blocks of 4,096, then pairs of blocks.
template <Scalar T> T fixed_sum(const T* values, Index n);

}  // namespace linnet::autodiff
