// Random numbers from keys: counter-based Threefry 2x32, so they do not depend on threads or on the order of calls. Keys, splits, bits and
// uniforms equal JAX's to the bit (with threefry_partitionable off), normals to 1e-5 relative of the same width.
#pragma once

#include "linnet/autodiff/array.h"

#include <array>
#include <cstdint>
#include <vector>

namespace linnet::nn {

using autodiff::Array;
using autodiff::Index;
using autodiff::Scalar;
using autodiff::Shape;

struct Key {
  std::array<std::uint32_t, 2> words{};
  Key() = default;
  explicit Key(std::uint64_t seed) : words{static_cast<std::uint32_t>(seed >> 32), static_cast<std::uint32_t>(seed)} {}
  bool operator==(const Key&) const = default;
};

// One key gives at most 2^32 - 1 words of 32 bits. ShapeError beyond that, and if n < 0.
std::vector<Key> split(Key key, Index n = 2);
std::vector<std::uint32_t> random_bits32(Key key, Index n);
std::vector<std::uint64_t> random_bits64(Key key, Index n);
template <Scalar T> Array<T> uniform(Key key, const Shape& shape, T low = 0, T high = 1);  // in [low, high) but for rounding; NumericalError unless low < high
template <Scalar T> Array<T> normal(Key key, const Shape& shape);                          // mean 0, variance 1

}  // namespace linnet::nn
