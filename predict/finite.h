// The check at every door of predict: a value that is not finite is refused by name and position. Not installed.
#pragma once

#include "linnet/autodiff/array.h"
#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/tree.h"

#include <string>
#include <vector>

namespace linnet::predict {

template <autodiff::Scalar T> void check_finite(const char* operation, const std::string& what, const autodiff::Array<T>& values) {
  autodiff::Index at = autodiff::first_not_finite<T>(values.values());
  if (at < 0) return;
  const T value = values.data()[at];
  std::vector<autodiff::Index> position(static_cast<std::size_t>(values.shape().rank()));
  for (autodiff::Index axis = values.shape().rank(); axis-- > 0; at /= values.shape()[axis]) position[static_cast<std::size_t>(axis)] = at % values.shape()[axis];
  autodiff::fail<autodiff::NumericalError>("{}: {} has {} at [{}]; every value must be finite", operation, what, value, fmt::join(position, ","));
}

template <autodiff::Scalar T> void check_finite(const char* operation, const std::string& what, const autodiff::Tree<autodiff::Array<T>>& tree) {
  tree.visit([&](const std::string& path, const autodiff::Array<T>& leaf) { check_finite(operation, path.empty() ? what : what + " '" + path + "'", leaf); });
}

}  // namespace linnet::predict
