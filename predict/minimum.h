// Where training on a loss ends: the minimum of the equations of integrate.h, for t = infinity. Not installed.
#pragma once

#include "linnet/predict/integrate.h"

namespace linnet::predict {

// y at the minimum that is reached from c = 0: Newton's method with a line search in the space of the weights, with f = f0 + S u, K = S S^T. Eigenvalues of
// K within max(N, 10) epsilon of the largest are left out, as everywhere in predict. Assembles K by as many products as it has rows, and decomposes it.
// NumericalError: the loss falls on without a minimum (cross-entropy of examples that can be separated), is not convex, or there are more than 4,000 rows.
Numbers minimum(const Equation& equation);

}  // namespace linnet::predict
