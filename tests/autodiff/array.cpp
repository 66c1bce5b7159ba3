// Arrays: values, copies, checked access, the little arithmetic there is, and sums whose bits depend on nothing but the values.
#include "linnet/autodiff/error.h"
#include "linnet/tests/autodiff/samples.h"

#include <doctest/doctest.h>

using namespace linnet::autodiff;
using samples::eps, samples::random;

TEST_CASE_TEMPLATE("an array starts with zeros, given values or one value", T, float, double) {
  CHECK(Array<T>().shape() == Shape{0});
  CHECK(Array<T>({2, 3}) == Array<T>({2, 3}, T(0)));
  const Array<T> a({2, 2}, {1, 2, 3, 4});
  CHECK(a[{1, 0}] == 3);
  CHECK(a.size() == 4);
  CHECK(Array<T>(Shape{}, {7}).item() == 7);
  CHECK(Array<T>({1, 1}, {7}).item() == 7);
  CHECK(Array<T>::uninitialized({3, 4}).size() == 12);
  CHECK(Array<T>({0, 3}).size() == 0);
}

TEST_CASE_TEMPLATE("arrays are values, aligned to 64 bytes", T, float, double) {
  Array<T> a({3}, {1, 2, 3}), b = a;
  b[{0}] = 9;
  CHECK(a[{0}] == 1);
  CHECK(a != b);
  const Array<T> c = std::move(b);
  CHECK(c[{0}] == 9);
  for (const Index n : {1, 3, 17, 1000}) CHECK(reinterpret_cast<std::uintptr_t>(Array<T>({n}).data()) % 64 == 0);
}

TEST_CASE_TEMPLATE("arrays take another shape of the same size, and give their rows", T, float, double) {
  const Array<T> a({2, 3}, {1, 2, 3, 4, 5, 6});
  CHECK(a.reshaped({3, 2})[{2, 1}] == 6);
  CHECK(a.rows(1, 1) == Array<T>({1, 3}, {4, 5, 6}));
  CHECK(a.rows(2, 0).shape() == Shape{0, 3});
  CHECK(a.rows(0, 2) == a);
  CHECK_THROWS_WITH_AS(a.reshaped({4}), "array: cannot reshape [2,3] to [4]: 6 values are not 4", ShapeError);
  CHECK_THROWS_WITH_AS(a.rows(1, 2), "array: rows 1 to 3 are outside of [2,3]", ShapeError);
  CHECK_THROWS_WITH_AS(a.rows(-1, 1), "array: rows -1 to 0 are outside of [2,3]", ShapeError);
  CHECK_THROWS_AS(a.rows(0, -1), ShapeError);
  CHECK_THROWS_AS(Array<T>(Shape{}).rows(0, 1), ShapeError);
}

TEST_CASE_TEMPLATE("access outside of an array is refused", T, float, double) {
  Array<T> a({2, 3});
  CHECK_THROWS_WITH_AS((a[{1}]), "array: index [1] has 1 axes, the array [2,3] has 2", ShapeError);
  CHECK_THROWS_WITH_AS((a[{2, 0}]), "array: index [2,0] is outside of [2,3]", ShapeError);
  CHECK_THROWS_WITH_AS((a[{0, -1}]), "array: index [0,-1] is outside of [2,3]", ShapeError);
  CHECK_THROWS_WITH_AS(a.item(), "array: item() needs exactly one value, the array [2,3] has 6", ShapeError);
  CHECK_THROWS_WITH_AS((Array<T>({2, 2}, {1, 2, 3})), "array: shape [2,2] holds 4 values, got 3", ShapeError);
}

TEST_CASE_TEMPLATE("arithmetic is elementwise on one shape", T, float, double) {
  const Array<T> a({3}, {1, 2, 3}), b({3}, {4, 6, 9}), c({1, 3});
  CHECK(a + b == Array<T>({3}, {5, 8, 12}));
  CHECK(b - a == Array<T>({3}, {3, 4, 6}));
  CHECK(2 * a == Array<T>({3}, {2, 4, 6}));
  CHECK(dot(a, b) == 43);
  CHECK(max_abs(T(-1) * b) == 9);
  CHECK(max_abs(Array<T>({0})) == 0);
  CHECK(std::isnan(max_abs(Array<T>({2}, {std::numeric_limits<T>::quiet_NaN(), 1}))));
  CHECK_THROWS_WITH_AS(a + c, "array +: arrays must have one shape, got [3] and [1,3]", ShapeError);
  CHECK_THROWS_WITH_AS(a - c, "array -: arrays must have one shape, got [3] and [1,3]", ShapeError);
  CHECK_THROWS_WITH_AS(dot(a, c), "array dot: arrays must have one shape, got [3] and [1,3]", ShapeError);
}

TEST_CASE_TEMPLATE("norms neither overflow nor vanish", T, float, double) {
  const T big = std::numeric_limits<T>::max() / 4, small = std::numeric_limits<T>::min();
  CHECK(norm(Array<T>({2}, {3, 4})) == doctest::Approx(5).epsilon(4 * eps<T>));
  CHECK(norm(Array<T>({2}, {big, big})) == doctest::Approx(big * std::sqrt(T(2))).epsilon(4 * eps<T>));
  CHECK(norm(Array<T>({2}, {small, small})) > small);
  CHECK(norm(Array<T>({3})) == 0);
  CHECK(norm(Array<T>({0})) == 0);
  CHECK(std::isinf(norm(Array<T>({2}, {std::numeric_limits<T>::infinity(), 1}))));
  CHECK(std::isnan(norm(Array<T>({2}, {std::numeric_limits<T>::quiet_NaN(), 1}))));
}

TEST_CASE_TEMPLATE("the fixed sum is exact on whole numbers, close to the sum, and the same at any address", T, float, double) {
  for (const Index n : {0, 1, 15, 16, 17, 4095, 4096, 4097, 8193, 20000}) {
    CAPTURE(n);
    const Array<T> x = random<T>({n + 16}, 5);
    long double exact = 0, size = 0;
    for (Index i = 0; i < n; ++i) {
      exact += x.data()[i];
      size += std::abs(x.data()[i]);
    }
    const T sum = fixed_sum(x.data(), n);
    CHECK(std::abs(sum - exact) <= 16 * eps<T> * size);
    Array<T> moved({n + 32});
    for (const Index by : {1, 3, 8}) {
      std::copy_n(x.data(), n, moved.data() + by);
      CHECK(samples::same_bits(fixed_sum(moved.data() + by, n), sum));
    }
    CHECK(fixed_sum(Array<T>({n}, T(1)).data(), n) == n);
  }
}

TEST_CASE_TEMPLATE("casts round, and what is not finite is found first", T, float, double) {
  const Array<double> a({2}, {1.0 / 3, -2});
  CHECK(cast<T>(a)[{0}] == static_cast<T>(1.0 / 3));
  CHECK(cast<double>(cast<T>(a)).shape() == Shape{2});
  const T inf = std::numeric_limits<T>::infinity();
  auto first = [](const Array<T>& x) { return first_not_finite(x.values()); };
  CHECK(first(Array<T>({3}, {1, inf, -inf})) == 1);
  CHECK(first(Array<T>({3}, {1, 2, std::numeric_limits<T>::quiet_NaN()})) == 2);
  CHECK(first(Array<T>({3})) == -1);
  CHECK(first(Array<T>({0})) == -1);
}
