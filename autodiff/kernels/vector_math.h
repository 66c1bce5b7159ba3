// erf and tanh in double on whole packets: Eigen has no vector form of them. One provider is built: SLEEF (1.0 ulp), or the scalar library.
#pragma once

#include "linnet/autodiff/shape.h"

#include <string>

namespace linnet::autodiff {

// y[i] = f(x[i]) for i < n, a multiple of 16. Every element takes the same path wherever it lies.
void erf_packets(const double* x, double* y, Index n);
void tanh_packets(const double* x, double* y, Index n);

std::string vector_math_provider();  // for config()

}  // namespace linnet::autodiff
