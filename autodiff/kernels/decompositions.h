// Decompositions of symmetric matrices, in double. One source file per provider, of which the build takes one: decompositions_lapack.cpp or
// decompositions_eigen.cpp. Both work in one thread, so the bits do not depend on their number.
#pragma once

#include "linnet/autodiff/shape.h"

#include <string>

namespace linnet::autodiff {

// a [n, n], symmetric in bits and finite, becomes its eigenvectors: row i is the unit eigenvector of values[i], and values ascend.
// NumericalError if an entry is not finite, the iteration does not converge or answers what is not finite; ShapeError if the provider cannot index n rows.
void eigh(Index n, double* a, double* values);

std::string decompositions_provider();  // "LAPACK (OpenBLAS 0.3.21, SkylakeX)"

}  // namespace linnet::autodiff
