// Opt-in: arrays as Eigen maps. The only public header that includes Eigen; nothing of Linnet includes it.
#pragma once

#include "linnet/autodiff/array.h"
#include "linnet/autodiff/error.h"

#include <Eigen/Core>

namespace linnet::autodiff {

template <Scalar T> using RowMajor = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// The array's values as a matrix [extent 0, product of the rest], without a copy; it must outlive the map. ShapeError for a scalar.
template <Scalar T> Eigen::Map<RowMajor<T>> matrix(Array<T>& a) {
  if (a.shape().rank() == 0) throw ShapeError("matrix: a scalar array has no rows; use item()");
  return {a.data(), a.shape()[0], a.shape().size(1, a.shape().rank())};
}
template <Scalar T> Eigen::Map<const RowMajor<T>> matrix(const Array<T>& a) {
  if (a.shape().rank() == 0) throw ShapeError("matrix: a scalar array has no rows; use item()");
  return {a.data(), a.shape()[0], a.shape().size(1, a.shape().rank())};
}
template <Scalar T> Eigen::Map<Eigen::Matrix<T, Eigen::Dynamic, 1>> vector(Array<T>& a) { return {a.data(), a.size()}; }
template <Scalar T> Eigen::Map<const Eigen::Matrix<T, Eigen::Dynamic, 1>> vector(const Array<T>& a) { return {a.data(), a.size()}; }

}  // namespace linnet::autodiff
