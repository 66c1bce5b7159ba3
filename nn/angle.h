// Angles of pairs of Gaussian variables, in vectors of 64 bytes (extensions of GCC and Clang): polynomials on a reduced range, by Chebyshev interpolation in quadruple precision.
// Relative errors, at most: angle 1.5e-16 and 6.4e-8, its moment 1.4e-16 and 5.5e-8, arctangent 1.3e-16 and 7e-8, besides the rounding of what they are put together of. Not installed.
#pragma once

#include <cmath>
#include <cstddef>
#include <numbers>
#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace linnet::nn {

template <class T> struct Series;
// angle / sqrt(y) and moment / (y sqrt(y)), of y = 1 - |cos| in [0, 1]; atan(t) / t, of t^2 in [0, tan(pi/8)^2]; versine(x) / x^2, of x^2: Taylor's, up to pi/2.
template <> struct Series<double> {
  static constexpr double angle[] = {1.4142135623730951,     0.11785113019774604,    0.026516504295916166,   0.0078918166870961971, 0.0026854115429505864, 0.00098869370645919834,   0.0003837000361256815,
                                     0.00015250797182385684, 7.2870682571377917e-05, -7.185800992367847e-06, 0.00010871230018361807, -0.00020499919349473681, 0.00034809874714982451, -0.00043000945159494793,
                                     0.00040068828185893019, -0.00026884644677358589, 0.00012425167869548127, -3.5378354952821868e-05, 4.7975410330206163e-06};
  static constexpr double moment[] = {0.94280904158206336,    0.047140452079087555,   0.0075761440856348498,   0.0017537370001752912,  0.00048825745445442485, 0.00015209729615888319,
                                      5.1230746797090729e-05, 1.7583617069244857e-05, 8.9232139786504697e-06,  -3.6793230159308196e-06, 1.4047980264888192e-05, -1.9667691203009999e-05,
                                      2.2713628805446335e-05, -1.7968169723438826e-05, 9.8105568570271146e-06, -3.24222421552795e-06,  5.1816681111577592e-07};
  static constexpr double atan[] = {1, -0.33333333333333326, 0.19999999999997015, -0.14285714285329709, 0.11111111085322109, -0.090909080590311914, 0.076922810999377436,
                                    -0.066662052599765265, 0.058768340046141607, -0.05217312574061591, 0.044995007289840322, -0.033387824501211957, 0.01511376509660093};
  static constexpr double versine[] = {0.5, -0.041666666666666664, 0.001388888888888889, -2.48015873015873e-05, 2.755731922398589e-07, -2.08767569878681e-09, 1.1470745597729725e-11, -4.779477332387385e-14, 1.5619206968586225e-16, -4.110317623312165e-19, 8.896791392450574e-22};
};
template <> struct Series<float> {
  static constexpr float angle[] = {1.41421355f, 0.117853167f, 0.0264744825f, 0.00821673096f, 0.00147885982f, 0.00333841701f, -0.00199064296f, 0.00121173777f};
  static constexpr float moment[] = {0.942809052f, 0.0471393947f, 0.00759271726f, 0.00165828471f, 0.000742261975f, -0.000176200355f, 0.000234471367f};
  static constexpr float atan[] = {0.999999981f, -0.333327858f, 0.199740824f, -0.138484902f, 0.0797629181f};
  static constexpr float versine[] = {0.5f, -0.0416666667f, 0.00138888889f, -2.48015873e-05f, 2.75573192e-07f, -2.0876757e-09f, 1.14707456e-11f};
};

// Sixty-four bytes of numbers. Comparisons are such that a NaN stays one.
template <class T> struct Packet {
  typedef T V __attribute__((vector_size(64)));
};
template <class T> using V = typename Packet<T>::V;

inline V<float> root(V<float> x) {
#if defined(__AVX512F__)
  return V<float>(_mm512_sqrt_ps(__m512(x)));
#else
  for (int i = 0; i < 16; ++i) x[i] = std::sqrt(x[i]);
  return x;
#endif
}
inline V<double> root(V<double> x) {
#if defined(__AVX512F__)
  return V<double>(_mm512_sqrt_pd(__m512d(x)));
#else
  for (int i = 0; i < 8; ++i) x[i] = std::sqrt(x[i]);
  return x;
#endif
}

template <class T, std::size_t n> inline V<T> horner(const T (&c)[n], V<T> x) {
  V<T> sum = x * c[n - 1] + c[n - 2];
  for (std::size_t k = n - 2; k-- > 0;) sum = sum * x + c[k];
  return sum;
}

// What is missing of |cos| to 1, for h that may be beyond [0, 2] by a rounding.
template <class T> inline V<T> folded(V<T> h) {
  const V<T> zero{}, y = h < 2 - h ? h : 2 - h;
  return y < zero ? zero : y;
}
template <class T> inline V<T> angle_of(V<T> h) {
  const V<T> y = folded<T>(h), near = root(y) * horner<T>(Series<T>::angle, y), far = std::numbers::pi_v<T> - near;
  return h > 1 ? far : near;
}
template <class T> inline V<T> moment_of(V<T> h) {
  const V<T> y = folded<T>(h), near = y * root(y) * horner<T>(Series<T>::moment, y), far = near + std::numbers::pi_v<T> * (1 - y);
  return h > 1 ? far : near;
}

// Both, of one root: sin(theta) - theta cos(theta) with the angle.
template <class T> inline void angle_and_moment(V<T> h, V<T>& angle, V<T>& moment) {
  const V<T> y = folded<T>(h), r = root(y), near = r * horner<T>(Series<T>::angle, y), small = y * r * horner<T>(Series<T>::moment, y);
  const V<T> far = std::numbers::pi_v<T> - near, large = small + std::numbers::pi_v<T> * (1 - y);
  angle = h > 1 ? far : near;
  moment = h > 1 ? large : small;
}

}  // namespace linnet::nn
