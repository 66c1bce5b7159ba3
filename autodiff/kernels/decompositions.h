// Decompositions of symmetric matrices. Eigenvectors have one source file per provider, of which the build takes one: decompositions_lapack.cpp or
// decompositions_eigen.cpp, both in one thread. Triangular factors are in triangular.cpp, always. The bits do not depend on the number of threads.
#pragma once

#include "linnet/autodiff/array.h"

#include <string>

namespace linnet::autodiff {

// a [n, n], symmetric in bits and finite, becomes its eigenvectors: row i is the unit eigenvector of values[i], and values ascend.
// NumericalError if an entry is not finite, the iteration does not converge or answers what is not finite; ShapeError if the provider cannot index n rows.
void eigh(Index n, double* a, double* values);

// The same of the tridiagonal matrix with this diagonal [n] and what is below it [n - 1], by implicit QL, always: vectors [n, n], of which row i is the unit eigenvector
// of values[i], and values ascend. NumericalError if an entry is not finite or the iteration does not converge.
void tridiagonal_eigh(Index n, const double* diagonal, const double* below, double* vectors, double* values);

// l becomes the lower factor of a [n, n], of which the lower triangle is read: a = l l^T, zeros above. Answers n; or the first row whose pivot is not positive and
// finite, with that pivot at its place on the diagonal of l. l may be a.
template <Scalar T> Index cholesky(Index n, const T* a, T* l);

// x [n, k] = op(l)^-1 b, of which the lower triangle is read, op the transpose or nothing. No entry on its diagonal may be 0. x may be b.
template <Scalar T> void triangular_solve(bool transpose, Index n, Index k, const T* l, const T* b, T* x);

std::string decompositions_provider();  // "LAPACK (OpenBLAS 0.3.21, SkylakeX)"

}  // namespace linnet::autodiff
