// The one place with OpenMP.
#include "linnet/autodiff/kernels/parallel.h"

#include "linnet/autodiff/fail.h"

#include <array>
#include <atomic>
#include <exception>
#include <limits>
#include <new>
#include <omp.h>

namespace linnet::autodiff {
namespace {

thread_local bool inside = false;

struct Failure {
  Index item = std::numeric_limits<Index>::max();
  std::exception_ptr error;
};

constexpr std::size_t kinds = 8;  // of scratch memory
using Most = std::array<std::atomic<std::size_t>, kinds>;
thread_local Most* most = nullptr;  // that any thread asked for since the parallel_for began that this one takes part in

class Memory {
 public:
  ~Memory() { release(); }
  void* at_least(std::size_t bytes) {
    if (bytes <= size_) return data_;
    release();
    data_ = ::operator new(bytes, std::align_val_t(64));
    size_ = bytes;
    return data_;
  }

 private:
  void release() {
    ::operator delete(data_, std::align_val_t(64));
    data_ = nullptr;
    size_ = 0;
  }
  void* data_ = nullptr;
  std::size_t size_ = 0;
};
thread_local std::array<Memory, kinds> memory;

}  // namespace

void* scratch_bytes(Scratch kind, std::size_t bytes) {
  const auto k = static_cast<std::size_t>(kind);
  if (most)
    for (std::size_t before = (*most)[k].load(); before < bytes && !(*most)[k].compare_exchange_weak(before, bytes);) {}
  return memory[k].at_least(bytes);
}

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
  auto item = [&](Index i, Failure& failure) {
    try {
      f(i);
    } catch (...) {
      if (i < failure.item) failure = {i, std::current_exception()};
    }
  };
  if (n <= serial || thread_count() == 1) {  // a team of one would be made anew each time
    inside = true;
    for (Index i = 0; i < n; ++i) item(i, first);
    inside = false;
  } else {
    Most all{};
#pragma omp parallel
    {
      inside = true;
      most = &all;
      Failure mine;
#pragma omp for schedule(dynamic)
      for (Index i = 0; i < n; ++i) item(i, mine);
      most = nullptr;  // all items are done
      try {
        for (std::size_t k = 0; k < kinds; ++k) memory[k].at_least(all[k].load());
      } catch (const std::bad_alloc&) {  // whoever asks for it next will say so
      }
      if (mine.error) {
#pragma omp critical(linnet_failure)
        if (mine.item < first.item) first = mine;
      }
      inside = false;
    }
  }
  if (first.error) std::rethrow_exception(first.error);
}

}  // namespace linnet::autodiff
