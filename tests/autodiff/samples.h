// What the tests of autodiff share: random arrays that are the same everywhere, functions run in either width, comparisons by bits.
#pragma once

#include "linnet/autodiff/derivative.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace samples {

using linnet::autodiff::Array;
using linnet::autodiff::Function;
using linnet::autodiff::Index;
using linnet::autodiff::Scalar;
using linnet::autodiff::Shape;
using linnet::autodiff::Var;
template <class T> using Arrays = std::vector<Array<T>>;

constexpr double infinity = std::numeric_limits<double>::infinity();
template <class T> constexpr double eps = std::numeric_limits<T>::epsilon();

inline thread_local std::uint64_t stream = 0;  // what is drawn is another in each (bounds.cpp)

// Numbers in [low, high) that both widths hold exactly.
template <Scalar T> Array<T> random(Shape shape, std::uint64_t seed, double low = -1, double high = 1) {
  Array<T> a(shape);
  std::uint64_t state = (seed + 1'000'003 * stream) * 0x9E3779B97F4A7C15u + 1;
  for (T& v : a) {
    std::uint64_t z = state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    v = static_cast<float>(low + (high - low) * static_cast<double>(z >> 11) * 0x1p-53);
  }
  return a;
}

template <Scalar T> std::vector<Shape> shapes(const Arrays<T>& x) {
  std::vector<Shape> s;
  for (const auto& a : x) s.push_back(a.shape());
  return s;
}
template <Scalar To, Scalar From> Arrays<To> cast_all(const Arrays<From>& x) {
  Arrays<To> y;
  for (const auto& a : x) y.push_back(linnet::autodiff::cast<To>(a));
  return y;
}

template <Scalar T> Arrays<T> run(const Function& f, const Arrays<T>& x) {
  return linnet::autodiff::FlatFunction<T>(f, shapes(x))({x.begin(), x.end()});
}
template <Scalar T, class F> Array<T> run1(const F& f, const Arrays<T>& x) {  // f(span) -> Var
  return run<T>([&](std::span<const Var> v) { return std::vector<Var>{f(v)}; }, x)[0];
}

template <Scalar T> bool same_bits(T a, T b) {
  using Bits = std::conditional_t<std::same_as<T, float>, std::uint32_t, std::uint64_t>;
  return std::bit_cast<Bits>(a) == std::bit_cast<Bits>(b);
}
template <Scalar T> bool same_bits(const Array<T>& a, const Array<T>& b) {
  return a.shape() == b.shape() && std::equal(a.begin(), a.end(), b.begin(), [](T x, T y) { return same_bits(x, y); });
}
template <Scalar T> bool same_bits(const Arrays<T>& a, const Arrays<T>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Array<T>& x, const Array<T>& y) { return same_bits(x, y); });
}

// The largest difference; NaN where shapes differ or one of the arrays has a NaN.
template <Scalar T> double difference(const Array<T>& a, const Array<T>& b) {
  if (a.shape() != b.shape()) return std::numeric_limits<double>::quiet_NaN();
  double m = 0;
  for (Index i = 0; i < a.size(); ++i) {
    const double d = std::abs(static_cast<double>(a.data()[i]) - static_cast<double>(b.data()[i]));
    if (std::isnan(d)) return d;
    m = std::max(m, d);
  }
  return m;
}

// |came - expected| in units of the last place of what was expected. 0 for equal values, infinities and NaNs included.
template <Scalar T> double ulps(T came, long double expected) {
  const T nearest = static_cast<T>(expected);
  if (std::isnan(came) || std::isnan(nearest)) return std::isnan(came) && std::isnan(nearest) ? 0 : infinity;
  if (came == nearest) return 0;
  const T size = std::max(std::abs(nearest), std::numeric_limits<T>::min());
  const T unit = std::isinf(size) ? std::numeric_limits<T>::max() : std::nextafter(size, std::numeric_limits<T>::infinity()) - size;
  return static_cast<double>(std::abs(static_cast<long double>(came) - expected) / static_cast<long double>(unit));
}

}  // namespace samples
