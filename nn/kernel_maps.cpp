// Each map is a polynomial on a reduced range: Chebyshev interpolation in quadruple precision, in powers. Relative errors, at most: angle 1.5e-16 and 6.4e-8,
// its moment 1.4e-16 and 5.5e-8, arctangent 1.3e-16 and 7e-8, besides the rounding of what they are put together of.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-math-errno")  // or square roots are no vector instructions
#endif
#include "linnet/nn/kernel_maps.h"

#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/primitive.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace linnet::nn {
namespace {

using namespace autodiff;

template <class T> struct Series;
// angle / sqrt(y) and moment / (y sqrt(y)), of y = 1 - |cos| in [0, 1]; atan(t) / t, of t^2 in [0, tan(pi/8)^2].
template <> struct Series<double> {
  static constexpr double angle[] = {1.4142135623730951,     0.11785113019774604,    0.026516504295916166,   0.0078918166870961971, 0.0026854115429505864, 0.00098869370645919834,   0.0003837000361256815,
                                     0.00015250797182385684, 7.2870682571377917e-05, -7.185800992367847e-06, 0.00010871230018361807, -0.00020499919349473681, 0.00034809874714982451, -0.00043000945159494793,
                                     0.00040068828185893019, -0.00026884644677358589, 0.00012425167869548127, -3.5378354952821868e-05, 4.7975410330206163e-06};
  static constexpr double moment[] = {0.94280904158206336,    0.047140452079087555,   0.0075761440856348498,   0.0017537370001752912,  0.00048825745445442485, 0.00015209729615888319,
                                      5.1230746797090729e-05, 1.7583617069244857e-05, 8.9232139786504697e-06,  -3.6793230159308196e-06, 1.4047980264888192e-05, -1.9667691203009999e-05,
                                      2.2713628805446335e-05, -1.7968169723438826e-05, 9.8105568570271146e-06, -3.24222421552795e-06,  5.1816681111577592e-07};
  static constexpr double atan[] = {1, -0.33333333333333326, 0.19999999999997015, -0.14285714285329709, 0.11111111085322109, -0.090909080590311914, 0.076922810999377436,
                                    -0.066662052599765265, 0.058768340046141607, -0.05217312574061591, 0.044995007289840322, -0.033387824501211957, 0.01511376509660093};
};
template <> struct Series<float> {
  static constexpr float angle[] = {1.41421355f, 0.117853167f, 0.0264744825f, 0.00821673096f, 0.00147885982f, 0.00333841701f, -0.00199064296f, 0.00121173777f};
  static constexpr float moment[] = {0.942809052f, 0.0471393947f, 0.00759271726f, 0.00165828471f, 0.000742261975f, -0.000176200355f, 0.000234471367f};
  static constexpr float atan[] = {0.999999981f, -0.333327858f, 0.199740824f, -0.138484902f, 0.0797629181f};
};

template <class T, std::size_t n> inline T horner(const T (&c)[n], T x) {
  T sum = c[n - 1];
  for (std::size_t k = n - 1; k-- > 0;) sum = sum * x + c[k];
  return sum;
}

template <class T> struct Angle {
  static T of(T h, T) {
    const T y = std::max(std::min(h, 2 - h), T(0)), near = std::sqrt(y) * horner(Series<T>::angle, y);
    return h > 1 ? std::numbers::pi_v<T> - near : near;
  }
};
template <class T> struct Moment {
  static T of(T h, T) {
    const T y = std::max(std::min(h, 2 - h), T(0)), near = y * std::sqrt(y) * horner(Series<T>::moment, y);
    return h > 1 ? near + std::numbers::pi_v<T> * (1 - y) : near;
  }
};
template <class T> struct Arctangent {
  static T of(T y, T x) {
    constexpr T high = T(2.41421356237309505), low = T(0.414213562373095049), pi = std::numbers::pi_v<T>;  // tan(3 pi/8), tan(pi/8)
    const T a = std::abs(y);
    const bool far = a > high * x, middle = a > low * x;
    const T up = far ? -x : middle ? a - x : a, down = far ? a : middle ? a + x : x, base = far ? pi / 2 : middle ? pi / 4 : T(0);
    const T t = up / (down > 0 ? down : T(1));
    return std::copysign(base + t * horner(Series<T>::atan, t * t), y);
  }
};

// Every element in a block of the same length, padded at the end, so that its bits do not depend on where it lies.
template <template <class> class F, int arity, class T> void blocks(const Attributes&, const T* const* in, T* out, Index n) {
  constexpr Index block = 64;
  alignas(64) T a[block] = {}, b[block] = {}, y[block];
  for (Index i = 0; i < n; i += block) {
    const Index m = std::min(block, n - i);
    std::copy_n(in[0] + i, m, a);
    if constexpr (arity == 2) std::copy_n(in[1] + i, m, b);
    for (Index k = 0; k < block; ++k) y[k] = F<T>::of(a[k], b[k]);
    std::copy_n(y, m, out + i);
  }
}

Shape one_shape(Shapes in, const Attributes&) {
  for (const Shape& s : in)
    if (s != in[0]) fail<ShapeError>("operands must have one shape, got {} and {}", in[0], s);
  return in[0];
}

template <class T> void inverse_sine(const Attributes&, const T* const* in, T* out, Index n) {  // 1 / sin(theta), 0 where that is 0
  for (Index i = 0; i < n; ++i) {
    const T h = in[0][i], square = h * (2 - h);
    out[i] = square > 0 ? 1 / std::sqrt(square) : T(0);
  }
}
Var slope_of_angle(const Var& h);
constexpr Primitive slope_of_angle_p{
    .name = "angle_slope", .operands = {Operand::smooth}, .infer = one_shape, .map = {inverse_sine<float>, inverse_sine<double>},
    .jvp = [](const Rule& r, int, Var t) { return t * (r.in[0] - 1.0) * r.out * r.out * r.out; }};
Var slope_of_angle(const Var& h) { return emit(slope_of_angle_p, std::array{h}); }

constexpr Primitive angle_p{
    .name = "angle", .operands = {Operand::smooth}, .infer = one_shape, .map = {blocks<Angle, 1, float>, blocks<Angle, 1, double>},
    .jvp = [](const Rule& r, int, Var t) { return t * slope_of_angle(r.in[0]); }};
constexpr Primitive moment_p{
    .name = "angle_moment", .operands = {Operand::smooth}, .infer = one_shape, .map = {blocks<Moment, 1, float>, blocks<Moment, 1, double>},
    .jvp = [](const Rule& r, int, Var t) { return t * angle(r.in[0]); }};
constexpr Primitive arctangent_p{
    .name = "arctangent", .operands = {Operand::smooth, Operand::smooth}, .infer = one_shape, .map = {blocks<Arctangent, 2, float>, blocks<Arctangent, 2, double>},
    .jvp = [](const Rule& r, int i, Var t) {
      const Var &y = r.in[0], &x = r.in[1], norm = square(x) + square(y);
      return t * (i == 0 ? x : -y) / norm;
    }};

}  // namespace

Var angle(const Var& h) { return emit(angle_p, std::array{h}); }
Var angle_moment(const Var& h) { return emit(moment_p, std::array{h}); }
Var arctangent(const Var& y, const Var& x) { return emit(arctangent_p, std::array{y, x}); }

}  // namespace linnet::nn
