// Powers and exponentials of small affine maps, which is what many steps of an optimizer are for one eigenvalue of a kernel. Not installed; law.cpp uses it.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

namespace linnet::predict {

// Near the edge of convergence powers lose as many digits as the number of steps has; where long double has more than double these are not missed.
using Wide = long double;

// The map z -> z + d z. The last component of z is the constant 1, so that the last row is 0. What is kept is the difference from doing nothing: many
// steps that change little then lose nothing to rounding beside a 1, as expm1 loses nothing where exp does.
template <int n> struct Affine {
  std::array<std::array<Wide, n>, n> d{};
};

// First one, then the other; for maps that commute.
template <int n> Affine<n> combined(const Affine<n>& a, const Affine<n>& b) {
  Affine<n> c;
  for (int i = 0; i + 1 < n; ++i)
    for (int j = 0; j < n; ++j) {
      Wide sum = a.d[i][j] + b.d[i][j];
      for (int l = 0; l + 1 < n; ++l) sum += a.d[i][l] * b.d[l][j];
      c.d[i][j] = sum;
    }
  return c;
}

// The map `steps` times, by squaring.
template <int n> Affine<n> power(Affine<n> step, std::uint64_t steps) {
  Affine<n> result;
  for (;; step = combined(step, step)) {
    if (steps & 1) result = combined(result, step);
    if ((steps >>= 1) == 0) return result;
  }
}

// What dz/dt = generator z does in time t, by scaling and squaring. No eigenvalue of the generator may be larger than `radius`.
template <int n> Affine<n> exponential(const Affine<n>& generator, Wide radius, Wide t) {
  const int squarings = radius > 0 ? std::max(0, std::ilogb(radius) + std::ilogb(t) + 4) : 0;  // then radius h < 1/4
  const Wide h = std::ldexp(t, -squarings);
  Affine<n> result, term;
  for (int i = 0; i + 1 < n; ++i)
    for (int j = 0; j < n; ++j) result.d[i][j] = term.d[i][j] = h * generator.d[i][j];
  for (int order = 2; order <= 20; ++order) {  // (1/4)^20 / 20! is far below rounding
    Affine<n> next;
    for (int i = 0; i + 1 < n; ++i)
      for (int j = 0; j < n; ++j) {
        for (int l = 0; l + 1 < n; ++l) next.d[i][j] += term.d[i][l] * generator.d[l][j];
        next.d[i][j] *= h / order;
        result.d[i][j] += next.d[i][j];
      }
    term = next;
  }
  for (int i = 0; i < squarings; ++i) result = combined(result, result);
  return result;
}

}  // namespace linnet::predict
