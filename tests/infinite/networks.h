// What tests of infinite width share: the inputs and networks of neural-tangents' reference values, and comparisons.
#pragma once

#include "linnet/infinite/kernel.h"

#include <cmath>

namespace linnet::infinite {

using autodiff::Index;
using autodiff::Shape;

template <Scalar T> Array<T> reference_input() {  // x[i][j] = sin(.7 i + 1.3 j + .1)
  Array<T> x({3, 4});
  for (Index i = 0; i < 3; ++i)
    for (Index j = 0; j < 4; ++j) x[{i, j}] = static_cast<T>(std::sin(.7 * double(i) + 1.3 * double(j) + .1));
  return x;
}
template <Scalar T> Array<T> reference_images() {  // sin(.7 i + 1.3 a - .9 b + .4 c + .1)
  Array<T> x({3, 4, 4, 2});
  for (Index i = 0, at = 0; i < 3; ++i)
    for (Index a = 0; a < 4; ++a)
      for (Index b = 0; b < 4; ++b)
        for (Index c = 0; c < 2; ++c) x.data()[at++] = static_cast<T>(std::sin(.7 * double(i) + 1.3 * double(a) - .9 * double(b) + .4 * double(c) + .1));
  return x;
}
template <Scalar T> Array<T> reference_sequences() {  // sin(.7 i + 1.3 a + .4 c + .1)
  Array<T> x({3, 4, 2});
  for (Index i = 0, at = 0; i < 3; ++i)
    for (Index a = 0; a < 4; ++a)
      for (Index c = 0; c < 2; ++c) x.data()[at++] = static_cast<T>(std::sin(.7 * double(i) + 1.3 * double(a) + .4 * double(c) + .1));
  return x;
}
inline nn::Layer D(nn::Parameterization p = nn::Parameterization::ntk) { return nn::Dense(5, {.W_std = 1.5, .b_std = .3, .parameterization = p}); }

// Numbers without a pattern, from a counter.
template <Scalar T> Array<T> scattered(const Shape& shape, unsigned seed, double scale = 1) {
  Array<T> x(shape);
  std::uint64_t state = seed * 7919u + 1;
  for (T& v : x) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    v = static_cast<T>(scale * (static_cast<double>(state >> 11) * 0x1p-53 * 2 - 1));
  }
  return x;
}

// How far a is from b, relative to b.
inline double off(double a, double b) { return a == b ? 0 : std::abs(a - b) / std::abs(b); }

template <Scalar T> double largest_difference(const Array<T>& a, const Array<double>& b) { return autodiff::max_abs(autodiff::cast<double>(a) - b); }

}  // namespace linnet::infinite
