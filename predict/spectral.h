// Functions of one eigenvalue of a kernel, and when an eigenvalue counts as zero. Everything closed-form dynamics know of rounding stands here;
// spectrum.h applies it to whole kernels.
#pragma once

#include "linnet/autodiff/shape.h"

namespace linnet::predict {

using autodiff::Index;

// (1 - exp(-lambda t))/lambda, and its limits: t as lambda -> 0, 1/lambda at t = infinity. Within 4 ulp for every lambda >= 0 and t >= 0; at
// lambda t < 0 it loses |lambda t| ulp, as the product itself does.
double phi(double lambda, double t);

// exp(-lambda t); 1 at lambda = 0, whatever t.
double decay(double lambda, double t);

// Eigenvalues of a positive semidefinite matrix of n rows that are not above this are indistinguishable from zero: max(n, 10) epsilon times the
// largest absolute eigenvalue. Measured noise is 22 to 150 times smaller. epsilon is that of the type the matrix was computed in.
double null_tolerance(Index n, double largest, double epsilon);

// NumericalError if lambda_min + ridge < -tolerance: no kernel has such an eigenvalue, and the dynamics would explode. The message names the ridge
// that would do.
void check_semidefinite(const char* operation, double lambda_min, double lambda_max, Index n, double tolerance, double ridge = 0);

}  // namespace linnet::predict
