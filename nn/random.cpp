// Threefry (kernels/threefry.h) on counters 0, 1, 2, …, laid out as JAX does; uniforms from the top bits, normals by the
// inverse of erf. Every number depends on its own counter alone, so blocks of counters may run in any thread.
#include "linnet/nn/random.h"

#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/kernels/parallel.h"
#include "linnet/autodiff/kernels/threefry.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numbers>
#include <type_traits>

namespace linnet::nn {
namespace {

using autodiff::fail;
using autodiff::NumericalError;
using autodiff::ShapeError;
using Word = std::uint32_t;

constexpr Index block = 4096;  // pairs of words of one item

// The words of n values of `each` words. Checked before there is memory for them.
Index words(const char* operation, Index n, Index each) {
  constexpr Index most = std::numeric_limits<Word>::max();
  if (n < 0) fail<ShapeError>("{}: the number of values must not be negative, got {}", operation, n);
  if (n > most / each) fail<ShapeError>("{}: {} values are more than the {} that one key gives; split the key", operation, n, most / each);
  return n * each;
}

// f(i, word i, word half + i) for i below half = ceil(n / 2), of a stream of n words: counter i is paired with counter half + i, and the last of an
// odd number with 0.
template <class F> void for_pairs(const Key& key, Index n, F f) {
  const Index half = (n + 1) / 2;
  autodiff::parallel_for((half + block - 1) / block, [&](Index item) {
    for (Index i = item * block, end = std::min(half, i + block); i < end; ++i) {
      const auto [a, b] = autodiff::threefry(key.words, static_cast<Word>(i), static_cast<Word>(half + i < n ? half + i : 0));
      f(i, a, b);
    }
  });
}

std::uint64_t joined(Word high, Word low) { return static_cast<std::uint64_t>(high) << 32 | low; }

// In [0, 1): the top bits are the mantissa of a number in [1, 2).
float unit(std::uint32_t bits) { return std::bit_cast<float>(bits >> 9 | 0x3F800000u) - 1.f; }
double unit(std::uint64_t bits) { return std::bit_cast<double>(bits >> 12 | 0x3FF0000000000000u) - 1.; }

// out[i] = f(uniform i in [0, 1)).
template <Scalar T, class F> Array<T> transformed(const char* operation, const Key& key, const Shape& shape, F f) {
  constexpr Index each = sizeof(T) / sizeof(Word);
  const Index n = shape.size(), count = words(operation, n, each);
  Array<T> values = Array<T>::uninitialized(shape);
  T* const out = values.data();
  for_pairs(key, count, [&](Index i, Word a, Word b) {
    if constexpr (each == 2) {
      out[i] = f(unit(joined(a, b)));
    } else {
      const Index other = (n + 1) / 2 + i;
      out[i] = f(unit(a));
      if (other < n) out[other] = f(unit(b));
    }
  });
  return values;
}

template <std::size_t N> double polynomial(const double (&coefficients)[N], double x) {
  double y = coefficients[N - 1];
  for (std::size_t i = N - 1; i--;) y = std::fma(y, x, coefficients[i]);
  return y;
}

// erfinv(x)/x by polynomials in w = -log(1 - x^2), and in sqrt(w) for the tails; least squares on Chebyshev nodes, relative error 1e-7
// (tests/reference/fit_erfinv.py).
double erfinv_approximation(double x) {
  static constexpr double centre[] = {1.65365457, 0.2401581832, -0.006033719184, -0.0007407012608, 0.000186788811, -1.38860943e-05,
                                      -1.388383782e-06, 4.255379343e-07, -2.467073116e-08, -4.60201469e-09, 6.582038176e-10};
  static constexpr double tail[] = {4.142724231, 1.01004553, 0.0006211725783, -0.0005690327514, 0.0002075614018, -5.662776928e-05,
                                    7.049354907e-06, -7.268292756e-06, 9.861564594e-06, -3.966435314e-06, 4.619470521e-07};
  const double w = -std::log((1 - x) * (1 + x));
  return x * (w < 6.25 ? polynomial(centre, w - 3.125) : polynomial(tail, std::sqrt(w) - 4.3));
}

double erfinv(double x) {
  const double far = std::abs(x), z = std::abs(erfinv_approximation(x));
  const double error = far < 0.5 ? std::erf(z) - far : (1 - far) - std::erfc(z);  // 1 - far is exact from 0.5 on
  const double newton = std::sqrt(std::numbers::pi) / 2 * std::exp(z * z) * error;
  return std::copysign(z - newton / (1 + z * newton), x);  // Halley's step
}

}  // namespace

std::vector<Key> split(Key key, Index n) {
  const Index count = words("split", n, 2);
  std::vector<Key> keys(static_cast<std::size_t>(n));
  const auto word = [&](Index i) -> Word& { return keys[static_cast<std::size_t>(i / 2)].words[static_cast<std::size_t>(i % 2)]; };
  for_pairs(key, count, [&](Index i, Word a, Word b) { word(i) = a, word(n + i) = b; });
  return keys;
}

std::vector<std::uint32_t> random_bits32(Key key, Index n) {
  const Index count = words("random_bits32", n, 1), half = (n + 1) / 2;
  std::vector<std::uint32_t> bits(static_cast<std::size_t>(n));
  for_pairs(key, count, [&](Index i, Word a, Word b) {
    bits[static_cast<std::size_t>(i)] = a;
    if (half + i < n) bits[static_cast<std::size_t>(half + i)] = b;
  });
  return bits;
}

std::vector<std::uint64_t> random_bits64(Key key, Index n) {
  const Index count = words("random_bits64", n, 2);
  std::vector<std::uint64_t> bits(static_cast<std::size_t>(n));
  for_pairs(key, count, [&](Index i, Word a, Word b) { bits[static_cast<std::size_t>(i)] = joined(a, b); });
  return bits;
}

template <Scalar T> Array<T> uniform(Key key, const Shape& shape, T low, T high) {
  const T width = high - low;
  if (!(low < high) || !std::isfinite(width)) fail<NumericalError>("uniform: the bounds must be finite, low below high, and so must their difference; got [{}, {})", low, high);
  return transformed<T>("uniform", key, shape, [=](T u) { return std::max(low, std::fma(u, width, low)); });  // one rounding, as JAX's compiler does
}

template <Scalar T> Array<T> normal(Key key, const Shape& shape) {
  const T low = std::nextafter(T(-1), T(0)), width = 1 - low;
  return transformed<T>("normal", key, shape, [=](T u) {
    const double x = std::max(low, std::fma(u, width, low));  // in (-1, 1)
    return static_cast<T>(std::numbers::sqrt2 * (std::is_same_v<T, float> ? erfinv_approximation(x) : erfinv(x)));
  });
}

template Array<float> uniform(Key, const Shape&, float, float);
template Array<double> uniform(Key, const Shape&, double, double);
template Array<float> normal(Key, const Shape&);
template Array<double> normal(Key, const Shape&);

}  // namespace linnet::nn
