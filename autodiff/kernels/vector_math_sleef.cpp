// vector_math.h by SLEEF, in the widest vectors the compiler may use.
#include "linnet/autodiff/kernels/vector_math.h"

#include <immintrin.h>
#include <sleef.h>

namespace linnet::autodiff {
namespace {

#if defined(__AVX512F__)
using Packet = __m512d;
constexpr Index width = 8;
Packet load(const double* p) { return _mm512_loadu_pd(p); }
void store(double* p, Packet v) { _mm512_storeu_pd(p, v); }
Packet erf(Packet x) { return Sleef_erfd8_u10(x); }
Packet tanh(Packet x) { return Sleef_tanhd8_u10(x); }
#elif defined(__AVX__)
using Packet = __m256d;
constexpr Index width = 4;
Packet load(const double* p) { return _mm256_loadu_pd(p); }
void store(double* p, Packet v) { _mm256_storeu_pd(p, v); }
Packet erf(Packet x) { return Sleef_erfd4_u10(x); }
Packet tanh(Packet x) { return Sleef_tanhd4_u10(x); }
#else
using Packet = __m128d;
constexpr Index width = 2;
Packet load(const double* p) { return _mm_loadu_pd(p); }
void store(double* p, Packet v) { _mm_storeu_pd(p, v); }
Packet erf(Packet x) { return Sleef_erfd2_u10(x); }
Packet tanh(Packet x) { return Sleef_tanhd2_u10(x); }
#endif

}  // namespace

void erf_packets(const double* x, double* y, Index n) {
  for (Index i = 0; i < n; i += width) store(y + i, erf(load(x + i)));
}
void tanh_packets(const double* x, double* y, Index n) {
  for (Index i = 0; i < n; i += width) store(y + i, tanh(load(x + i)));
}
std::string vector_math_provider() { return "SLEEF, " + std::to_string(width) + " doubles at a time"; }

}  // namespace linnet::autodiff
