// parallel_for: the only threads in the library. Which thread takes an item never changes a result: items are constants of the build,
// and no item adds into what another one writes.
#pragma once

#include "linnet/autodiff/shape.h"

#include <memory>
#include <type_traits>

namespace linnet::autodiff {

// A borrowed callable: does not own it, does not allocate.
template <class Signature> class FunctionRef;
template <class R, class... Args> class FunctionRef<R(Args...)> {
 public:
  template <class F> requires(!std::is_same_v<std::remove_cvref_t<F>, FunctionRef>)
  FunctionRef(F&& f) : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))), call_([](void* o, Args... args) -> R { return (*static_cast<std::remove_reference_t<F>*>(o))(args...); }) {}
  R operator()(Args... args) const { return call_(object_, args...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

// f(0) … f(n - 1), in threads. Every item runs even if one throws; then the exception of the lowest index is thrown again. With n <= serial no thread is
// woken. Inside another item they run here, one after another, up to the first that throws.
void parallel_for(Index n, FunctionRef<void(Index)> f, Index serial = 1);

// Memory of this thread to compute in, kept for the next call; what it holds is lost when the same kind is asked for again. After parallel_for every
// thread that took part has as much as the one that asked for most: which thread takes an item decides nothing, not even what a second run allocates.
enum class Scratch : int { strips, sums, packed_a, packed_b, triangle, windows, weights, parts };
void* scratch_bytes(Scratch kind, std::size_t bytes);  // aligned to 64
template <class T> T* scratch(Scratch kind, Index n) { return static_cast<T*>(scratch_bytes(kind, static_cast<std::size_t>(n) * sizeof(T))); }

bool inside_item();   // whether this code runs in an item of parallel_for, whatever the number of threads
int thread_index();   // of the running item: below thread_count()
int thread_count();
void set_thread_count(int n);  // ShapeError unless n >= 1

}  // namespace linnet::autodiff
