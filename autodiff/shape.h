// Shape: the extents of an array, at most eight of them, held inline. Row-major everywhere: the last axis is contiguous.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

namespace linnet::autodiff {

using Index = std::int64_t;

class Shape {
 public:
  static constexpr Index max_rank = 8;

  Shape() = default;                            // a scalar: rank 0, one element
  Shape(std::initializer_list<Index> extents);  // ShapeError: a negative extent, more than eight axes, or more elements than an index counts
  explicit Shape(std::span<const Index> extents);

  Index rank() const { return rank_; }
  Index size() const { return size(0, rank_); }
  Index size(Index from, Index to) const;       // product of the extents of axes [from, to)
  Index operator[](Index axis) const;           // a negative axis counts from the last one; ShapeError if there is no such axis
  const Index* begin() const { return extents_.data(); }
  const Index* end() const { return extents_.data() + rank_; }
  bool operator==(const Shape&) const = default;

  Shape with(Index axis, Index extent) const;                 // one extent replaced
  Shape inserted(Index at, std::span<const Index> extents) const;  // new axes in front of axis `at`
  Shape erased(Index first, Index count) const;               // axes [first, first + count) removed
  Shape part(Index from, Index to) const { return Shape(std::span(begin() + from, begin() + to)); }

 private:
  std::array<Index, max_rank> extents_{};  // zero beyond rank_, so that equality may compare all of it
  Index rank_ = 0;
};

std::string str(const Shape& shape);  // "[32,784]"

// `axis` counted from the last one if negative; ShapeError names `operation` where it does not exist.
Index normalized_axis(const char* operation, Index axis, const Shape& shape);

// The shape both broadcast to, by NumPy's rule: aligned at the last axis, extent 1 stretches. ShapeError names `operation`.
Shape broadcast_shapes(const char* operation, const Shape& a, const Shape& b);

}  // namespace linnet::autodiff
