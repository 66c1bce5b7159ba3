// The checksum of kernel files, 64 bits: docs/kernel_file.md has it as a formula. A step is one to one in the state and in the word, so that a change within
// one word, as a flipped bit is, is always found; any other but for once in 2^64. Not installed.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace linnet::ntk {

class Checksum {
 public:
  void add(std::uint64_t word) {
    constexpr std::uint64_t odd = 0x9E3779B97F4A7C15;
    word *= odd;
    word ^= word >> 32;
    word *= odd;
    state_ = (state_ ^ word ^ word >> 29) * odd;
    state_ ^= state_ >> 32;
  }
  void add(const void* bytes, std::size_t n) {  // their number, then their words, the last one filled up with zeros
    const char* const from = static_cast<const char*>(bytes);
    add(n);
    for (std::size_t i = 0; i < n; i += 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, from + i, n - i < 8 ? n - i : 8);
      add(word);
    }
  }
  void add(std::string_view text) { add(text.data(), text.size()); }
  std::uint64_t value() const { return state_; }

 private:
  static_assert(std::endian::native == std::endian::little, "words are those of a little-endian file");
  std::uint64_t state_ = 0x6C696E6E65740001;
};

}  // namespace linnet::ntk
