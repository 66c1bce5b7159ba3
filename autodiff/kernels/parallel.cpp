// The one place with OpenMP.
#include "linnet/autodiff/kernels/parallel.h"

#include "linnet/autodiff/fail.h"

#include <exception>
#include <limits>
#include <omp.h>

namespace linnet::autodiff {
namespace {

thread_local bool inside = false;

struct Failure {
  Index item = std::numeric_limits<Index>::max();
  std::exception_ptr error;
};

}  // namespace

bool inside_item() { return inside; }
int thread_index() { return inside ? omp_get_thread_num() : 0; }
int thread_count() { return omp_get_max_threads(); }
void set_thread_count(int n) {
  if (n < 1) fail<ShapeError>("threads: the number of threads must be at least 1, got {}", n);
  omp_set_num_threads(n);
}

void parallel_for(Index n, FunctionRef<void(Index)> f, Index serial) {
  if (inside) {
    for (Index i = 0; i < n; ++i) f(i);
    return;
  }
  Failure first;
#pragma omp parallel if (n > serial)
  {
    inside = true;
    Failure mine;
#pragma omp for schedule(dynamic)
    for (Index i = 0; i < n; ++i) {
      try {
        f(i);
      } catch (...) {
        if (i < mine.item) mine = {i, std::current_exception()};
      }
    }
#pragma omp critical(linnet_failure)
    if (mine.item < first.item) first = mine;
    inside = false;
  }
  if (first.error) std::rethrow_exception(first.error);
}

}  // namespace linnet::autodiff
