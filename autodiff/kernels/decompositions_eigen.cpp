// The decompositions of decompositions.h by Eigen, for builds without LAPACK: slower by a factor of some five at a thousand rows, of equal accuracy.
#include "linnet/autodiff/kernels/decompositions.h"

#include "linnet/autodiff/array.h"
#include "linnet/autodiff/fail.h"

#include <Eigen/Eigenvalues>

namespace linnet::autodiff {
namespace {

void check_finite(const char* what, Index n, const double* values, Index count) {
  const Index bad = first_not_finite(std::span(values, static_cast<std::size_t>(count)));
  if (bad >= 0) fail<NumericalError>("eigh: {} of a matrix of {} rows has {} at position {}; every value must be finite", what, n, values[bad], bad);
}

}  // namespace

void eigh(Index n, double* a, double* values) {
  if (n < 0) fail<ShapeError>("eigh: a matrix of {} rows", n);
  if (n == 0) return;
  check_finite("the input", n, a, n * n);
  Eigen::Map<Eigen::MatrixXd> matrix(a, n, n);  // of a symmetric matrix columns are rows
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(matrix);
  if (solver.info() != Eigen::Success)
    fail<NumericalError>("eigh: Eigen's solver did not decompose a matrix of {} rows (info = {}); scale it, or build with -Dlapack=enabled", n, static_cast<int>(solver.info()));
  matrix = solver.eigenvectors();  // its columns are rows here
  Eigen::Map<Eigen::VectorXd>(values, n) = solver.eigenvalues();
  check_finite("an eigenvalue", n, values, n);
  check_finite("an eigenvector", n, a, n * n);
}

std::string decompositions_provider() { return fmt::format("Eigen {}.{}.{}", EIGEN_WORLD_VERSION, EIGEN_MAJOR_VERSION, EIGEN_MINOR_VERSION); }

}  // namespace linnet::autodiff
