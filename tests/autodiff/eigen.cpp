// The opt-in header: arrays as Eigen maps, in a file that is compiled as a consumer's would be.
#include "linnet/autodiff/eigen.h"

#include <doctest/doctest.h>

using linnet::autodiff::Array;
using linnet::autodiff::ShapeError;

TEST_CASE_TEMPLATE("an array is seen by Eigen as a matrix of its first axis by the rest, or as a vector, without a copy", T, float, double) {
  Array<T> a({2, 3}, {1, 2, 3, 4, 5, 6});
  const Array<T>& fixed = a;
  CHECK(matrix(a).rows() == 2);
  CHECK(matrix(a)(1, 0) == 4);
  matrix(a)(1, 0) = 40;
  CHECK(fixed.data()[3] == 40);
  CHECK(matrix(fixed).data() == a.data());
  CHECK(vector(a).size() == 6);
  CHECK(vector(fixed)(5) == 6);
  const Array<T> cube({2, 3, 4});
  CHECK(matrix(cube).cols() == 12);
  CHECK(matrix(Array<T>({0, 3})).rows() == 0);
  const Array<T> number(linnet::autodiff::Shape{});
  Array<T> changeable(linnet::autodiff::Shape{});
  CHECK_THROWS_WITH_AS(matrix(number), "matrix: a scalar array has no rows; use item()", ShapeError);
  CHECK_THROWS_WITH_AS(matrix(changeable), "matrix: a scalar array has no rows; use item()", ShapeError);
  CHECK(vector(number)(0) == 0);
}
