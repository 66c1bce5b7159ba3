// How often tests of threads run again. Sanitizers make them ten to thirty times slower; what they look for shows in any run, so the checks and the
// models stay as they are and only the repetitions fall. Read tests/autodiff/threads.cpp for their use.
#pragma once

#include <algorithm>
#include <initializer_list>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define LINNET_TESTS_SANITIZED
#endif
#endif

namespace rounds {

#ifdef LINNET_TESTS_SANITIZED
constexpr int most_repeats = 2;
constexpr std::initializer_list<int> thread_counts = {2, 4};
#else
constexpr int most_repeats = 1 << 20;
constexpr std::initializer_list<int> thread_counts = {1, 2, 3, 4, 8};
#endif

constexpr int repeats(int wanted) { return std::min(wanted, most_repeats); }

}  // namespace rounds
