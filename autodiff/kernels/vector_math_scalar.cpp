// vector_math.h by the C library, one number at a time.
#include "linnet/autodiff/kernels/vector_math.h"

#include <cmath>

namespace linnet::autodiff {

void erf_packets(const double* x, double* y, Index n) {
  for (Index i = 0; i < n; ++i) y[i] = std::erf(x[i]);
}
void tanh_packets(const double* x, double* y, Index n) {
  for (Index i = 0; i < n; ++i) y[i] = std::tanh(x[i]);
}
std::string vector_math_provider() { return "the C library, scalar"; }

}  // namespace linnet::autodiff
