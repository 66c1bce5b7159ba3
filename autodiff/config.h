// What the library was built with and runs on; the number of threads; progress of long computations.
#pragma once

#include <cstddef>
#include <functional>
#include <string>

namespace linnet::autodiff {

std::string config();       // instruction set, library versions, threads, block constants; belongs in every report
void print_config();        // to standard output

void set_threads(int n);    // ShapeError unless n >= 1; results do not depend on it
int threads();

struct Progress {
  std::string what;         // "kernel tiles"
  std::size_t done = 0, total = 0;
  double seconds = 0;       // since the start
  std::size_t bytes = 0;    // written to disk since the start, where something is
};
// Called on the calling thread, at most ten times a second and at the end; false cancels.
using ProgressFunction = std::function<bool(const Progress&)>;

}  // namespace linnet::autodiff
