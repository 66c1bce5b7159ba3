// A set of examples as kernels see it: what every example has by itself, computed once, and the gaps of the input for tiles of pairs. Not installed.
#pragma once

#include "linnet/infinite/network.h"
#include "linnet/ntk/tile.h"

#include <string>
#include <vector>

namespace linnet::infinite {

using autodiff::Array;
using autodiff::Buffer;
using autodiff::Scalar;

// A number of every example, in examples up to whole tiles; what is beyond is 0.
template <class T> struct Column {
  Index size = 1;  // of one example
  Buffer<T> high, low;
  const T* at(Index example) const { return high.data() + example * size; }
};

template <Scalar T> struct Examples {
  Index n = 0, places = 1, channels = 0, tile = 0;
  bool all_places = false;  // whether pairs of places are told apart
  const T* x = nullptr;
  std::vector<double> inverse_norm;   // of every place: 1 / |x|, 0 of 0
  double error = 0;                   // the largest part of a variance that a series lacks
  std::vector<double> variance, ntk;  // of the network's output; the ntk where the program has it
  std::vector<Column<T>> statistics;  // those of the program
  ntk::Packed<T> packed;              // where there are no places
};

// `what` names the set in errors. It refers to x. NumericalError: a statistic that is not finite, with its layer.
template <Scalar T> Examples<T> prepare(const ExampleProgram& program, bool all_places, const Array<T>& x, const std::string& what, Index tile);

// The same of a value of which the variances are known, without places.
template <Scalar T> Examples<T> prepare_variances(const ExampleProgram& program, const std::vector<double>& variances, const std::string& what, Index tile);

// The gaps of the input, s1 s2 - K: rows of tile i of a with columns of tile j of b, [tile, tile, places], or [tile, tile, places, places]; what is beyond the examples is 0. same: a and b are one set.
// Where two examples are near, a product has lost what tells them apart, and the gap is computed from their difference. `products` has room for ntk's blocks.
template <Scalar T> void input_gaps(const Examples<T>& a, Index i, const Examples<T>& b, Index j, bool same, const Column<T>& deviation_a, const Column<T>& deviation_b,
                                    Buffer<T>& products, T* out);

}  // namespace linnet::infinite
