// What a kernel would take, told before it is computed: the method and why, how every parameter is treated and why, operations, and the peak of memory. Operations decide
// on methods, bytes on panels alone: a method that depended on what memory is left would change bits.
#pragma once

#include "linnet/ntk/empirical.h"

#include <cstddef>
#include <string>

namespace linnet::ntk {

struct KernelPlan {
  Method method = Method::structured;  // that is taken
  double flops = 0;
  std::size_t result = 0;     // bytes of the kernel
  std::size_t peak = 0;       // bytes at most, the kernel included, beside what is there already: parameters, examples, the program
  std::size_t least = 0;      // the peak with one tile of rows and one of columns in flight, and one chunk of examples at a time
  std::size_t available = 0;  // Options::max_memory, or what is left
  Index tile = 0, tiles = 0;  // examples of a tile, and tiles down; 0 by vector products
  Index panel = 0;            // tiles that are in flight, down and across. Chosen by memory, and changes no bit
  bool fits() const { return least <= available; }
  std::string table;          // all of it in words
};

// Of ntk::full, or of ntk::traced, of these arguments, with this number of threads. Errors as there, but none for want of memory.
template <Scalar T> KernelPlan plan_full(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options = {});
template <Scalar T> KernelPlan plan_full(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x2, const Array<T>& x1, const Options& options = {});
template <Scalar T> KernelPlan plan_traced(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options = {});
template <Scalar T> KernelPlan plan_traced(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x2, const Array<T>& x1, const Options& options = {});

}  // namespace linnet::ntk
