// A race on purpose, through parallel_for: thread sanitizer must report it, lest a detector that is dead be taken for a library that has no races.
// Built under thread sanitizer only.
#include "linnet/autodiff/kernels/parallel.h"

#include <atomic>
#include <cstdio>

namespace {
std::atomic<bool> reported = false;
}

// The sanitizer calls the first for each race that it finds, and takes the second as its options: a finding is this program's success.
extern "C" void __tsan_on_report(void*) { reported = true; }
extern "C" const char* __tsan_default_options() { return "exitcode=0"; }

int main() {
  linnet::autodiff::set_thread_count(2);
  std::atomic<int> here = 0;
  int sum = 0;
  linnet::autodiff::parallel_for(2, [&](linnet::autodiff::Index) {
    here.fetch_add(1, std::memory_order_relaxed);
    while (here.load(std::memory_order_relaxed) < 2) {}  // each item in a thread of its own; relaxed, or it would order them
    ++sum;
  });
  std::printf("the planted race was %s (sum %d)\n%d passed, %d failed\n", reported ? "found" : "NOT found", sum, reported ? 1 : 0, reported ? 0 : 1);
  return reported ? 0 : 1;
}
