// The maps: packets of nn/angle.h over flat spans.
#include "linnet/nn/kernel_maps.h"

#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/primitive.h"
#include "linnet/nn/angle.h"

#include <algorithm>
#include <cmath>

namespace linnet::nn {
namespace {

using namespace autodiff;

template <class T> struct Angle {
  static V<T> of(V<T> h, V<T>, T) { return angle_of<T>(h); }
};
template <class T> struct Moment {
  static V<T> of(V<T> h, V<T>, T) { return moment_of<T>(h); }
};
template <class T> struct KinkGap {
  static V<T> of(V<T> h, V<T>, T ratio) { return h - ratio * moment_of<T>(h); }
};
template <class T> struct KinkSlope {
  static V<T> of(V<T> h, V<T>, T ratio) { return 1 - ratio * angle_of<T>(h); }
};
template <class T> struct RelativeGap {
  static V<T> of(V<T> gap, V<T> both, T) {
    const V<T> one = V<T>{} + 1, two = one + one, h = gap / (both == 0 ? one : both), cut = two < h ? two : h;
    return both == 0 ? one : cut;
  }
};
template <class T> struct PositivePart {
  static V<T> of(V<T> x, V<T>, T) {
    const V<T> zero{};
    return x < zero ? zero : x;
  }
};
template <class T> struct Versine {
  static V<T> of(V<T> x, V<T>, T) {
    const V<T> z = x * x;
    return z * horner<T>(Series<T>::versine, z);
  }
};
template <class T> struct Arctangent {
  static V<T> of(V<T> y, V<T> x, T) {
    constexpr T high = T(2.41421356237309505), low = T(0.414213562373095049), pi = std::numbers::pi_v<T>;  // tan(3 pi/8), tan(pi/8)
    const V<T> zero{}, one = zero + 1, half = zero + pi / 2, quarter = zero + pi / 4, a = y < zero ? -y : y, difference = a - x, sum = a + x;
    const V<T> up = a > high * x ? -x : a > low * x ? difference
                                                    : a,
               down = a > high * x ? a : a > low * x ? sum
                                                     : x,
               base = a > high * x ? half : a > low * x ? quarter
                                                        : zero;
    const V<T> t = up / (down == 0 ? one : down), angle = base + t * horner<T>(Series<T>::atan, t * t);
    return y < zero ? -angle : angle;
  }
};

// Every element in a vector of the same length, padded at the end, so that its bits do not depend on where it lies.
template <template <class> class F, int arity, class T> void blocks(const Attributes& attributes, const T* const* in, T* out, Index n) {
  typedef T Loose __attribute__((vector_size(64), aligned(sizeof(T)), may_alias));
  constexpr Index step = 64 / static_cast<Index>(sizeof(T));
  const double* const number = std::get_if<double>(&attributes);
  const T c = number ? static_cast<T>(*number) : T(0);
  const T *const a = in[0], *const b = in[arity - 1];
  Index i = 0;
  for (; i + step <= n; i += step)
    *reinterpret_cast<Loose*>(out + i) = F<T>::of(*reinterpret_cast<const Loose*>(a + i), *reinterpret_cast<const Loose*>(b + i), c);
  if (i == n) return;
  alignas(64) T last[2][step] = {};
  std::copy_n(a + i, n - i, last[0]);
  std::copy_n(b + i, n - i, last[1]);
  const V<T> y = F<T>::of(*reinterpret_cast<const Loose*>(last[0]), *reinterpret_cast<const Loose*>(last[1]), c);
  for (Index k = 0; i + k < n; ++k) out[i + k] = y[k];
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
    .name = "angle_slope", .operands = {Operand::smooth}, .infer = one_shape, .map = {inverse_sine<float>, inverse_sine<double>}, .jvp = [](const Rule& r, int, Var t) { return t * (r.in[0] - 1.0) * r.out * r.out * r.out; }};
Var slope_of_angle(const Var& h) { return emit(slope_of_angle_p, std::array{h}); }

constexpr Primitive angle_p{
    .name = "angle", .operands = {Operand::smooth}, .infer = one_shape, .map = {blocks<Angle, 1, float>, blocks<Angle, 1, double>}, .jvp = [](const Rule& r, int, Var t) { return t * slope_of_angle(r.in[0]); }};
constexpr Primitive moment_p{
    .name = "angle_moment", .operands = {Operand::smooth}, .infer = one_shape, .map = {blocks<Moment, 1, float>, blocks<Moment, 1, double>}, .jvp = [](const Rule& r, int, Var t) { return t * angle(r.in[0]); }};
constexpr Primitive kink_gap_p{
    .name = "kink_gap", .operands = {Operand::smooth}, .infer = one_shape, .map = {blocks<KinkGap, 1, float>, blocks<KinkGap, 1, double>}, .jvp = [](const Rule& r, int, Var t) { return t * kink_slope(r.in[0], r.attribute<double>()); }};
constexpr Primitive kink_slope_p{
    .name = "kink_slope", .operands = {Operand::smooth}, .infer = one_shape, .map = {blocks<KinkSlope, 1, float>, blocks<KinkSlope, 1, double>}, .jvp = [](const Rule& r, int, Var t) { return -r.attribute<double>() * (t * slope_of_angle(r.in[0])); }};
constexpr Primitive relative_gap_p{
    .name = "relative_gap", .operands = {Operand::smooth, Operand::smooth}, .infer = one_shape, .map = {blocks<RelativeGap, 2, float>, blocks<RelativeGap, 2, double>}, .jvp = [](const Rule& r, int i, Var t) {
      const Var& both = r.in[1];
      const Var inverse = where(both, 1.0 / where(both, both, 1.0), 0.0);
      return i == 0 ? t * inverse : t * -(r.out * inverse);
    }};
constexpr Primitive positive_part_p{
    .name = "positive_part", .operands = {Operand::smooth}, .infer = one_shape, .map = {blocks<PositivePart, 1, float>, blocks<PositivePart, 1, double>}, .jvp = [](const Rule& r, int, Var t) { return t * step(r.in[0]); }};
constexpr Primitive versine_p{
    .name = "versine", .operands = {Operand::smooth}, .infer = one_shape, .map = {blocks<Versine, 1, float>, blocks<Versine, 1, double>}, .jvp = [](const Rule& r, int, Var t) { return t * sin(r.in[0]); }};
constexpr Primitive arctangent_p{
    .name = "arctangent", .operands = {Operand::smooth, Operand::smooth}, .infer = one_shape, .map = {blocks<Arctangent, 2, float>, blocks<Arctangent, 2, double>}, .jvp = [](const Rule& r, int i, Var t) {
      const Var &y = r.in[0], &x = r.in[1], norm = square(x) + square(y);
      return t * (i == 0 ? x : -y) / norm;
    }};

}  // namespace

Var angle(const Var& h) { return emit(angle_p, std::array{h}); }
Var angle_moment(const Var& h) { return emit(moment_p, std::array{h}); }
Var kink_gap(const Var& h, double ratio) { return emit(kink_gap_p, std::array{h}, ratio); }
Var kink_slope(const Var& h, double ratio) { return emit(kink_slope_p, std::array{h}, ratio); }
Var relative_gap(const Var& gap, const Var& both) { return emit(relative_gap_p, std::array{gap, both}); }
Var positive_part(const Var& x) { return emit(positive_part_p, std::array{x}); }
Var versine(const Var& x) { return emit(versine_p, std::array{x}); }
Var arctangent(const Var& y, const Var& x) { return emit(arctangent_p, std::array{y, x}); }

}  // namespace linnet::nn
