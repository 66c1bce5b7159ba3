// The check at every door: a value that is not finite is refused by name and position. Not installed.
#pragma once

#include "linnet/autodiff/array.h"
#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/tree.h"

#include <string>
#include <vector>

namespace linnet::autodiff {

inline std::string position(Index at, const Shape& shape) {  // "[3,5]"
  std::vector<Index> index(static_cast<std::size_t>(shape.rank()));
  for (Index axis = shape.rank(); axis-- > 0; at /= shape[axis]) index[static_cast<std::size_t>(axis)] = at % shape[axis];
  return fmt::format("[{}]", fmt::join(index, ","));
}

template <Scalar T> void check_finite(const char* operation, const std::string& what, const Array<T>& values) {
  if (const Index at = first_not_finite<T>(values.values()); at >= 0)
    fail<NumericalError>("{}: {} has {} at {}; every value must be finite", operation, what, values.data()[at], position(at, values.shape()));
}

template <Scalar T> void check_finite(const char* operation, const std::string& what, const Tree<Array<T>>& tree) {
  tree.visit([&](const std::string& path, const Array<T>& leaf) { check_finite(operation, path.empty() ? what : what + " '" + path + "'", leaf); });
}

}  // namespace linnet::autodiff
