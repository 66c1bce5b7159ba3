// The symmetric tridiagonal eigenproblem of decompositions.h, by Eigen whatever the provider of others: implicit QL. (LAPACK's method of multiple relatively robust
// representations, stemr, fails on the matrices Lanczos' method makes, which have eigenvalues that agree to rounding; QL is orthogonal to rounding on every one.)
#include "linnet/autodiff/kernels/decompositions.h"

#include "linnet/autodiff/fail.h"

#include <Eigen/Eigenvalues>

#include <algorithm>
#include <cmath>

namespace linnet::autodiff {

void tridiagonal_eigh(Index n, const double* diagonal, const double* below, double* vectors, double* values) {
  if (n < 0) fail<ShapeError>("tridiagonal_eigh: a matrix of {} rows", n);
  if (n == 0) return;
  double largest = 0;
  for (Index i = 0; i < n; ++i) {
    const double off = i + 1 < n ? below[i] : 0;
    if (!std::isfinite(diagonal[i]) || !std::isfinite(off)) fail<NumericalError>("tridiagonal_eigh: row {} of {} is {} and {}; every value must be finite", i, n, diagonal[i], off);
    largest = std::max({largest, std::abs(diagonal[i]), std::abs(off)});
  }
  // Eigen calls entries beside the diagonal zero by a rule that is not the same in other units; a power of 2 changes no digit.
  const int exponent = largest > 0 ? std::ilogb(largest) : 0;
  Eigen::VectorXd d(n), e(std::max<Index>(n - 1, 0));
  for (Index i = 0; i < n; ++i) d[i] = std::ldexp(diagonal[i], -exponent);
  for (Index i = 0; i + 1 < n; ++i) e[i] = std::ldexp(below[i], -exponent);
  Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(n);
  solver.computeFromTridiagonal(d, e, Eigen::ComputeEigenvectors);
  if (solver.info() != Eigen::Success) fail<NumericalError>("tridiagonal_eigh: the iteration did not converge for a matrix of {} rows", n);
  Eigen::Map<Eigen::MatrixXd>(vectors, n, n) = solver.eigenvectors();  // its columns are rows here
  for (Index i = 0; i < n; ++i) values[i] = std::ldexp(solver.eigenvalues()[i], exponent);
}

}  // namespace linnet::autodiff
