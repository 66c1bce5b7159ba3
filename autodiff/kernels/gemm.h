// Matrix products: the one place where Eigen multiplies.
#pragma once

#include "linnet/autodiff/array.h"
#include "linnet/autodiff/kernels/parallel.h"

namespace linnet::autodiff {

using RowsDone = FunctionRef<void(Index first, Index rows)>;

// c = op(a) op(b), or c += it. All row-major and contiguous: op(a) [m, k], op(b) [k, n], c [m, n]; none may overlap c. Panels of rows, each one
// product by one thread; the bits depend on neither panels nor threads. Inside an item of parallel_for always one product.
// `done` is called for every panel once it is finished, in threads, while it is near the processor; the panels together are the rows of c.
template <Scalar T> void gemm(bool transpose_a, bool transpose_b, Index m, Index n, Index k, const T* a, const T* b, T* c, bool accumulate = false, const RowsDone* done = nullptr);

}  // namespace linnet::autodiff
