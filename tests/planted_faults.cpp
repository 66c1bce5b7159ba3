// Faults on purpose, each in a process of its own: address and undefined-behaviour sanitizer must name it and end the process, lest a detector that is
// dead be taken for a library that has no faults. Built under these sanitizers only.
#include "linnet/autodiff/kernels/gemm.h"

#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace {

// What the process of `fault` wrote to stderr; nothing if it ended well.
std::string report_of(void (*fault)()) {
  int ends[2];
  if (pipe(ends) != 0) return {};
  std::fflush(stdout);  // or the child would write it again
  const pid_t child = fork();
  if (child < 0) return {};
  if (child == 0) {
    dup2(ends[1], 2);
    close(ends[0]);
    close(ends[1]);
    fault();
    std::exit(0);  // leaks are looked for here
  }
  close(ends[1]);
  std::string report;
  char part[4096];
  for (ssize_t n = 0; (n = read(ends[0], part, sizeof part)) > 0;) report.append(part, static_cast<std::size_t>(n));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? std::string() : report;
}

void write_beyond_an_array() {  // by the library
  std::vector<double> a(4, 1.0), b(4, 1.0), c(3);
  linnet::autodiff::gemm<double>(false, false, 2, 2, 2, a.data(), b.data(), c.data());
}
void read_what_is_freed() {
  auto* const values = new std::vector<double>(8);
  const volatile double* const first = values->data();
  delete values;
  std::printf("%g\n", *first);
}
void overflow_a_sum() {
  volatile int large = std::numeric_limits<int>::max();
  large = large + 1;
}
void forget_memory() {
  static double* volatile kept = new double[1000];
  kept = nullptr;
}

}  // namespace

int main() {
  const struct {
    const char* name;
    void (*fault)();
    const char* report;
  } all[] = {{"a write beyond an array", write_beyond_an_array, "heap-buffer-overflow"}, {"a read of freed memory", read_what_is_freed, "heap-use-after-free"},
             {"a sum that overflows", overflow_a_sum, "signed integer overflow"}, {"memory nobody frees", forget_memory, "detected memory leaks"}};
  int passed = 0, failed = 0;
  for (const auto& planted : all) {
    const std::string report = report_of(planted.fault);
    const bool found = report.find(planted.report) != std::string::npos;
    ++(found ? passed : failed);
    std::printf("%s: %s\n%s", planted.name, found ? "found" : "NOT found; the process wrote:", found ? "" : (report + "\n").c_str());
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed > 0;
}
