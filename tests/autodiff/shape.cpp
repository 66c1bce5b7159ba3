// Shapes: extents, axes counted from either end, broadcasting, and what is refused.
#include "linnet/autodiff/error.h"
#include "linnet/autodiff/shape.h"

#include <doctest/doctest.h>

#include <array>
#include <limits>
#include <vector>

using namespace linnet::autodiff;

TEST_CASE("a shape knows its rank, its size and its extents from either end") {
  const Shape s{2, 3, 4};
  CHECK(s.rank() == 3);
  CHECK(s.size() == 24);
  CHECK(s.size(1, 3) == 12);
  CHECK(s.size(1, 1) == 1);
  CHECK(s[0] == 2);
  CHECK(s[-1] == 4);
  CHECK(s[-3] == 2);
  CHECK(str(s) == "[2,3,4]");
  CHECK(std::vector<Index>(s.begin(), s.end()) == std::vector<Index>{2, 3, 4});
}

TEST_CASE("a scalar has one element and a shape with an empty axis none") {
  CHECK(Shape().rank() == 0);
  CHECK(Shape().size() == 1);
  CHECK(str(Shape()) == "[]");
  CHECK(Shape{0, 7}.size() == 0);
  CHECK(Shape{0} != Shape{});
  CHECK(Shape{1} != Shape{1, 1});
}

TEST_CASE("shapes are changed by axis, and the original stays") {
  const Shape s{2, 3, 4};
  CHECK(s.with(-1, 7) == Shape{2, 3, 7});
  CHECK(s.inserted(1, std::array<Index, 2>{8, 9}) == Shape{2, 8, 9, 3, 4});
  CHECK(s.inserted(3, std::array<Index, 1>{5}) == Shape{2, 3, 4, 5});
  CHECK(s.erased(0, 2) == Shape{4});
  CHECK(s.erased(1, 0) == s);
  CHECK(s.erased(0, 3) == Shape{});
  CHECK(s.part(1, 3) == Shape{3, 4});
  CHECK(s == Shape{2, 3, 4});
  CHECK(s.with(1, 0).with(1, 3) == s);
}

TEST_CASE("eight axes are possible, nine are not") {
  const std::vector<Index> nine(9, 1);
  CHECK(Shape{1, 1, 1, 1, 1, 1, 1, 1}.rank() == 8);
  CHECK_THROWS_WITH_AS(Shape{std::span<const Index>(nine)}, "shape: [1,1,1,1,1,1,1,1,1] has 9 axes, at most 8 are possible", ShapeError);
  CHECK_THROWS_WITH_AS(Shape({1, 1, 1, 1, 1, 1, 1, 1}).inserted(0, std::array<Index, 1>{5}), "shape: [1,1,1,1,1,1,1,1] with [5] inserted has more than 8 axes", ShapeError);
}

TEST_CASE("negative extents and sizes beyond the index are refused") {
  const Index most = std::numeric_limits<Index>::max(), half = Index(1) << 32;
  CHECK_THROWS_WITH_AS((Shape{2, -3}), "shape: [2,-3] has a negative extent", ShapeError);
  CHECK_THROWS_WITH_AS((Shape{0, -3}), "shape: [0,-3] has a negative extent", ShapeError);
  CHECK_THROWS_WITH_AS((Shape{half, half}), "shape: [4294967296,4294967296] has more elements than a 64-bit index counts", ShapeError);
  CHECK_THROWS_AS((Shape{half, 0, half}), ShapeError);  // what is left of a product must not overflow either
  CHECK_THROWS_AS(Shape({2}).with(0, -1), ShapeError);
  CHECK_NOTHROW((Shape{most}));
  CHECK_NOTHROW((Shape{most, 1, 1}));
}

TEST_CASE("an axis that does not exist is refused by name") {
  const Shape s{2, 3};
  CHECK_THROWS_WITH_AS(s[2], "shape: there is no axis 2 in [2,3], which has rank 2", ShapeError);
  CHECK_THROWS_WITH_AS(s[-3], "shape: there is no axis -3 in [2,3], which has rank 2", ShapeError);
  CHECK_THROWS_WITH_AS(Shape{}[0], "shape: there is no axis 0 in [], which has rank 0", ShapeError);
  CHECK_THROWS_AS(s.with(2, 1), ShapeError);
  CHECK_THROWS_WITH_AS(normalized_axis("sum", 5, s), "sum: there is no axis 5 in [2,3], which has rank 2", ShapeError);
  CHECK(normalized_axis("sum", -2, s) == 0);
}

TEST_CASE("shapes broadcast by NumPy's rule") {
  CHECK(broadcast_shapes("add", {}, {}) == Shape{});
  CHECK(broadcast_shapes("add", {3, 1}, {4}) == Shape{3, 4});
  CHECK(broadcast_shapes("add", {1}, {2, 3, 1}) == Shape{2, 3, 1});
  CHECK(broadcast_shapes("add", {1, 0}, {5, 1}) == Shape{5, 0});
  CHECK(broadcast_shapes("add", {1, 1}, {0}) == Shape{1, 0});
  CHECK_THROWS_WITH_AS(broadcast_shapes("add", {2, 3}, {2}), "add: shapes [2,3] and [2] do not broadcast: axis -1 is 3 and 2; equal extents or 1 are needed", ShapeError);
  CHECK_THROWS_WITH_AS(broadcast_shapes("mul", {0, 3}, {2, 3}), "mul: shapes [0,3] and [2,3] do not broadcast: axis -2 is 0 and 2; equal extents or 1 are needed", ShapeError);
}
