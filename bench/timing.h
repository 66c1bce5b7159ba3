// What every benchmark shares: wall and processor time, the fastest of several runs of one or two computations, numbers to compute with.
#pragma once

#include "linnet/autodiff/array.h"
#include "linnet/autodiff/kernels/parallel.h"

namespace linnet::bench {

using autodiff::Array;
using autodiff::FunctionRef;
using autodiff::Index;
using autodiff::Scalar;
using autodiff::Shape;

struct Seconds {
  double wall = 0, processor = 0;  // of all threads together: waiting threads that spin are in it, unless OMP_WAIT_POLICY=passive
};
Seconds once(FunctionRef<void()> f);            // of one run; threads it starts first are not in the processor time

// Of several runs the least wall time and the median processor time: the clocks of threads that run elsewhere may lag behind, so the least of those
// would be too little.
Seconds typical(const std::vector<Seconds>& runs);
// That of `repeat` runs of f(0) to f(n - 1), in turns, so that all meet the same machine; one turn goes before.
std::vector<Seconds> in_turns(int repeat, int n, FunctionRef<void(int)> f);
Seconds fastest(int repeat, FunctionRef<void()> f);

// Seconds of a product of two 2048 x 2048 matrices by gemm(), and its operations: what the machine can do in this minute.
template <Scalar T> Seconds plain_product(int repeat);
constexpr double plain_product_flop = 2. * 2048 * 2048 * 2048;

// Fixed numbers, uniform in [-size, size].
template <Scalar T> Array<T> numbers(Shape shape, unsigned seed, double size);

double peak_memory_mb();  // of this process so far

}  // namespace linnet::bench
