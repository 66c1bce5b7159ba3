// Parts of the kernel: its diagonal, by example or by output; the share of every parameter or layer; and any pairs of examples, when they are asked for. Read
// empirical.h first, whose checks and errors these have.
#pragma once

#include "linnet/ntk/empirical.h"

#include <memory>
#include <span>

namespace linnet::ntk {

// ---- by example: the kernel of every example with itself. TraceError with Options{.independent = false}.
// [n, outputs, outputs], each block symmetric in bits.
template <Scalar T> Array<T> blocks(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options = {});
// The traces of these blocks [n]: squared Frobenius norms of the examples' Jacobians; their sum is the trace of the kernel.
template <Scalar T> Array<T> traced_diagonal(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options = {});

// ---- by output: Theta[(n, o), (n', o)], as [n2, n1, outputs]. A kernel of one output at a time; symmetric in bits for one set of examples.
template <Scalar T> Array<T> diagonal_over_outputs(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options = {});
template <Scalar T> Array<T> diagonal_over_outputs(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x2, const Array<T>& x1, const Options& options = {});

// ---- by parameter: Theta is the sum over parameters of that of each, all others held fixed. In a tree of the form of params; by layer the children of its root, each
// with all that is below it (a bias beside a weight then costs nothing). All of them are in memory.
template <Scalar T> Tree<FullKernel<T>> full_by_parameter(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options = {});
template <Scalar T> Tree<TracedKernel<T>> traced_by_parameter(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options = {});
template <Scalar T> Tree<FullKernel<T>> full_by_layer(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options = {});
template <Scalar T> Tree<TracedKernel<T>> traced_by_layer(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options = {});

// ---- on demand: kernels of lists of examples, of which each is counted from 0 and may come more than once. Planned once, for all pairs of x; nothing is
// computed before it is asked for, nor kept. One thread at a time.
template <Scalar T> class Pairs {
 public:
  Pairs(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options = {});
  FullKernel<T> operator()(std::span<const Index> rows, std::span<const Index> columns) const;  // ShapeError: an example that x does not have
  FullKernel<T> operator()(std::span<const Index> examples) const;                              // with themselves: symmetric in bits
  TracedKernel<T> traced(std::span<const Index> rows, std::span<const Index> columns) const;
  TracedKernel<T> traced(std::span<const Index> examples) const;
  Index examples() const;
  Index outputs() const;

 private:
  struct State;
  std::shared_ptr<const State> state_;
};

}  // namespace linnet::ntk
