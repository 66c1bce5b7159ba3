#include "timing.h"

#include "linnet/autodiff/kernels/gemm.h"

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <sys/resource.h>

namespace linnet::bench {

namespace {

double clock_seconds(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// The clocks of the threads there are. The clock of the process lags behind by up to a tick for threads that run elsewhere at the moment.
std::vector<clockid_t> thread_clocks() {
  std::vector<clockid_t> all;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task"))
    all.push_back(static_cast<clockid_t>((~static_cast<unsigned>(std::stoi(task.path().filename()))) << 3 | 6));
  return all;
}
double processor(const std::vector<clockid_t>& threads) {
  double sum = 0;
  for (const clockid_t t : threads) sum += clock_seconds(t);
  return sum;
}

}  // namespace

Seconds once(FunctionRef<void()> f) {
  const std::vector<clockid_t> threads = thread_clocks();
  const double cpu = processor(threads), wall = clock_seconds(CLOCK_MONOTONIC);
  f();
  const double end = clock_seconds(CLOCK_MONOTONIC);
  return {end - wall, processor(threads) - cpu};
}

Seconds typical(const std::vector<Seconds>& runs) {
  Seconds s{runs[0].wall, 0};
  std::vector<double> processor;
  for (const Seconds& r : runs) {
    s.wall = std::min(s.wall, r.wall);
    processor.push_back(r.processor);
  }
  const auto middle = processor.begin() + static_cast<std::ptrdiff_t>(processor.size() / 2);
  std::nth_element(processor.begin(), middle, processor.end());
  s.processor = *middle;
  return s;
}

std::vector<Seconds> in_turns(int repeat, int n, FunctionRef<void(int)> f) {
  std::vector<std::vector<Seconds>> runs(static_cast<std::size_t>(n));
  for (int i = -1; i < repeat; ++i)
    for (int k = 0; k < n; ++k)
      if (const Seconds s = once([&] { f(k); }); i >= 0) runs[static_cast<std::size_t>(k)].push_back(s);
  std::vector<Seconds> all;
  for (const auto& of_one : runs) all.push_back(typical(of_one));
  return all;
}
Seconds fastest(int repeat, FunctionRef<void()> f) {
  return in_turns(repeat, 1, [&](int) { f(); })[0];
}

template <Scalar T> Seconds plain_product(int repeat) {
  constexpr Index n = 2048;
  const Array<T> a = numbers<T>({n, n}, 1, 1), b = numbers<T>({n, n}, 2, 1);
  Array<T> c({n, n});
  auto product = [&] { autodiff::gemm(false, false, n, n, n, a.data(), b.data(), c.data()); };
  return fastest(repeat, product);
}
template Seconds plain_product<float>(int);
template Seconds plain_product<double>(int);

template <Scalar T> Array<T> numbers(Shape shape, unsigned seed, double size) {
  Array<T> a = Array<T>::uninitialized(shape);
  std::uint64_t state = 0x9e3779b97f4a7c15u * (seed + 1);
  for (T& v : a) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    v = static_cast<T>(size * (static_cast<double>(state >> 11) * 0x1p-52 - 1));
  }
  return a;
}
template Array<float> numbers(Shape, unsigned, double);
template Array<double> numbers(Shape, unsigned, double);

double peak_memory_mb() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

}  // namespace linnet::bench
