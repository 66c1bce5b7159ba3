// Threefry 2x32 of 20 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): two random words for every key and counter, so numbers depend on
// no order and no thread. nn/random.h makes JAX's numbers of it; ntk draws its probes. Not installed.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace linnet::autodiff {

namespace detail {
template <int... Rotations> void threefry_rounds(std::uint32_t& a, std::uint32_t& b) {
  ((a += b, b = std::rotl(b, Rotations) ^ a), ...);
}
}  // namespace detail

inline std::array<std::uint32_t, 2> threefry(const std::array<std::uint32_t, 2>& key, std::uint32_t a, std::uint32_t b) {
  const std::array<std::uint32_t, 3> k{key[0], key[1], key[0] ^ key[1] ^ 0x1BD11BDAu};
  a += k[0], b += k[1];
  detail::threefry_rounds<13, 15, 26, 6>(a, b), a += k[1], b += k[2] + 1;
  detail::threefry_rounds<17, 29, 16, 24>(a, b), a += k[2], b += k[0] + 2;
  detail::threefry_rounds<13, 15, 26, 6>(a, b), a += k[0], b += k[1] + 3;
  detail::threefry_rounds<17, 29, 16, 24>(a, b), a += k[1], b += k[2] + 4;
  detail::threefry_rounds<13, 15, 26, 6>(a, b), a += k[2], b += k[0] + 5;
  return {a, b};
}

}  // namespace linnet::autodiff
