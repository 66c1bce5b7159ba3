#include "linnet/autodiff/shape.h"

#include "linnet/autodiff/fail.h"

#include <algorithm>
#include <limits>

namespace linnet::autodiff {

Shape::Shape(std::initializer_list<Index> extents) : Shape(std::span(extents.begin(), extents.size())) {}

Shape::Shape(std::span<const Index> extents) {
  if (static_cast<Index>(extents.size()) > max_rank) fail<ShapeError>("shape: [{}] has {} axes, at most {} are possible", fmt::join(extents, ","), extents.size(), max_rank);
  Index left = std::numeric_limits<Index>::max();  // how many elements may still follow, so that no product overflows
  for (const Index n : extents) {
    if (n < 0) fail<ShapeError>("shape: [{}] has a negative extent", fmt::join(extents, ","));
    if (n > left) fail<ShapeError>("shape: [{}] has more elements than a 64-bit index counts", fmt::join(extents, ","));
    if (n > 0) left /= n;
  }
  std::copy(extents.begin(), extents.end(), extents_.begin());
  rank_ = static_cast<Index>(extents.size());
}

Index Shape::size(Index from, Index to) const {
  Index n = 1;
  for (Index i = from; i < to; ++i) n *= extents_[static_cast<std::size_t>(i)];
  return n;
}

Index Shape::operator[](Index axis) const { return extents_[static_cast<std::size_t>(normalized_axis("shape", axis, *this))]; }

Shape Shape::with(Index axis, Index extent) const {
  std::array<Index, max_rank> extents = extents_;
  extents[static_cast<std::size_t>(normalized_axis("shape", axis, *this))] = extent;
  return Shape(std::span<const Index>(extents.data(), static_cast<std::size_t>(rank_)));
}

Shape Shape::inserted(Index at, std::span<const Index> extents) const {
  std::array<Index, 2 * max_rank> all{};
  if (rank_ + static_cast<Index>(extents.size()) > max_rank) fail<ShapeError>("shape: {} with [{}] inserted has more than {} axes", *this, fmt::join(extents, ","), max_rank);
  auto to = std::copy(begin(), begin() + at, all.begin());
  to = std::copy(extents.begin(), extents.end(), to);
  to = std::copy(begin() + at, end(), to);
  return Shape(std::span<const Index>(all.begin(), to));
}

Shape Shape::erased(Index first, Index count) const {
  std::array<Index, max_rank> left{};
  auto to = std::copy(begin(), begin() + first, left.begin());
  to = std::copy(begin() + first + count, end(), to);
  return Shape(std::span<const Index>(left.begin(), to));
}

std::string str(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape.begin(), shape.end(), ",")); }

Index normalized_axis(const char* operation, Index axis, const Shape& shape) {
  const Index counted = axis < 0 ? axis + shape.rank() : axis;
  if (counted < 0 || counted >= shape.rank()) fail<ShapeError>("{}: there is no axis {} in {}, which has rank {}", operation, axis, shape, shape.rank());
  return counted;
}

Shape broadcast_shapes(const char* operation, const Shape& a, const Shape& b) {
  const Index rank = std::max(a.rank(), b.rank());
  std::array<Index, Shape::max_rank> extents{};
  for (Index i = 1; i <= rank; ++i) {
    const Index m = i <= a.rank() ? a[-i] : 1, n = i <= b.rank() ? b[-i] : 1;
    if (m != n && m != 1 && n != 1) fail<ShapeError>("{}: shapes {} and {} do not broadcast: axis -{} is {} and {}; equal extents or 1 are needed", operation, a, b, i, m, n);
    extents[static_cast<std::size_t>(rank - i)] = m == 1 ? n : m;
  }
  return Shape(std::span<const Index>(extents.data(), static_cast<std::size_t>(rank)));
}

}  // namespace linnet::autodiff
