// Elementwise primitives: one record each. Operands have one shape; broadcasting is an instruction of its own, so no rule undoes it.
#include "linnet/autodiff/ops/declare.h"

#include "linnet/autodiff/kernels/vector_math.h"

#include <cmath>
#include <limits>
#include <numbers>

namespace linnet::autodiff {
namespace {

// Eigen's vector exp is not 0 below the normal numbers, but 5.6e-309 in double down to -infinity.
template <class T> struct ExpToZero {
  static constexpr T smallest = std::is_same_v<T, float> ? T(-87.3365) : T(-708.3964185322641);
  T operator()(T x) const { return x < smallest ? T(0) : std::exp(x); }
  template <class P> P packetOp(const P& x) const { return Eigen::internal::pandnot(Eigen::internal::pexp(x), Eigen::internal::pcmp_lt(x, Eigen::internal::pset1<P>(smallest))); }
};
// Eigen's vector sqrt is an approximation in Newton's steps, wrong by up to three units in the last place and at infinity; the processor's is rounded correctly.
template <class P> P root(const P& x) { return Eigen::internal::psqrt(x); }
#if defined(__AVX512F__)
inline Eigen::internal::Packet16f root(const Eigen::internal::Packet16f& x) { return _mm512_sqrt_ps(x); }
inline Eigen::internal::Packet8d root(const Eigen::internal::Packet8d& x) { return _mm512_sqrt_pd(x); }
#endif
#if defined(__AVX__)
inline Eigen::internal::Packet8f root(const Eigen::internal::Packet8f& x) { return _mm256_sqrt_ps(x); }
inline Eigen::internal::Packet4d root(const Eigen::internal::Packet4d& x) { return _mm256_sqrt_pd(x); }
#endif
#if defined(__SSE2__)
inline Eigen::internal::Packet4f root(const Eigen::internal::Packet4f& x) { return _mm_sqrt_ps(x); }
inline Eigen::internal::Packet2d root(const Eigen::internal::Packet2d& x) { return _mm_sqrt_pd(x); }
#endif
template <class T> struct Root {
  T operator()(T x) const { return std::sqrt(x); }
  template <class P> P packetOp(const P& x) const { return root(x); }
};

// Eigen's vector log takes what is below the normal numbers for the smallest of them: here it is scaled by 2^64 first.
template <class T> struct Log {
  static constexpr T smallest = std::numeric_limits<T>::min(), scale = T(0x1p64), shift = T(64 * std::numbers::ln2_v<double>);
  T operator()(T x) const { return std::log(x); }
  template <class P> P packetOp(const P& x) const {
    using namespace Eigen::internal;
    const P below = pcmp_lt(x, pset1<P>(smallest));
    return psub(plog(pselect(below, pmul(x, pset1<P>(scale)), x)), pand(below, pset1<P>(shift)));
  }
};
// Eigen's vector erf loses digits near the smallest normal number; below 1e-4 the first term of the series is all there is in float.
struct Erf {
  float operator()(float x) const { return std::erf(x); }
  template <class P> P packetOp(const P& x) const {
    using namespace Eigen::internal;
    return pselect(pcmp_lt(pabs(x), pset1<P>(1e-4f)), pmul(x, pset1<P>(2 * std::numbers::inv_sqrtpi_v<float>)), perf(x));
  }
};

}  // namespace
}  // namespace linnet::autodiff

template <class T> struct Eigen::internal::functor_traits<linnet::autodiff::ExpToZero<T>> : functor_traits<scalar_exp_op<T>> {};
template <class T> struct Eigen::internal::functor_traits<linnet::autodiff::Root<T>> : functor_traits<scalar_sqrt_op<T>> {};
template <class T> struct Eigen::internal::functor_traits<linnet::autodiff::Log<T>> : functor_traits<scalar_log_op<T>> {};
template <> struct Eigen::internal::functor_traits<linnet::autodiff::Erf> : functor_traits<scalar_erf_op<float>> {};

namespace linnet::autodiff {

Shape same_shapes(Shapes in, const Attributes&) {
  for (const Shape& s : in)
    if (s != in[0]) fail<ShapeError>("operands must have one shape, got {} and {}", in[0], s);
  return in[0];
}

namespace {

using enum Operand;

Factors unchanged(const Rule&, int, Var ct) { return {{}, reshape(ct, {1, ct.shape().size()})}; }  // the gradient is the cotangent itself

constinit const Primitive add_p{
    .name = "add", .operands = {linear}, .joint = true, .infer = same_shapes, .map = map_kernels<[](auto x, auto y) { return x + y; }, 2>,
    .transpose = [](const Rule&, int, Var ct) { return ct; },
    .factor = unchanged};
constexpr Primitive sub_p{
    .name = "sub", .operands = {linear}, .joint = true, .infer = same_shapes, .map = map_kernels<[](auto x, auto y) { return x - y; }, 2>,
    .transpose = [](const Rule&, int i, Var ct) { return i == 0 ? ct : -ct; },
    .factor = [](const Rule& r, int i, Var ct) { return unchanged(r, i, i == 0 ? ct : -1.0 * ct); }};
constexpr Primitive neg_p{
    .name = "neg", .operands = {linear}, .joint = true, .infer = same_shapes, .map = map_kernels<[](auto x) { return -x; }, 1>,
    .transpose = [](const Rule&, int, Var ct) { return -ct; }};
constexpr Primitive mul_p{
    .name = "mul", .operands = {linear, linear}, .infer = same_shapes, .map = map_kernels<[](auto x, auto y) { return x * y; }, 2>,
    .transpose = [](const Rule& r, int i, Var ct) { return ct * r.in[static_cast<std::size_t>(1 - i)]; }};
constexpr Primitive div_p{
    .name = "div", .operands = {linear, smooth}, .infer = same_shapes, .map = map_kernels<[](auto x, auto y) { return x / y; }, 2>,
    .jvp = [](const Rule& r, int, Var t) { return t * -(r.out / r.in[1]); },
    .transpose = [](const Rule& r, int, Var ct) { return ct / r.in[1]; }};
constinit const Primitive scale_p{
    .name = "scale", .operands = {linear}, .joint = true, .infer = same_shapes, .map = map_kernels<[](auto c, auto x) { return c * x; }, 1, true>,
    .transpose = [](const Rule& r, int, Var ct) { return r.attribute<double>() * ct; }};

// In float; double has erf_packets.
constexpr auto error_function = []<class X>(X x) {
  if constexpr (std::same_as<typename X::Scalar, float>) return x.unaryExpr(Erf());
  else return x.erf();
};
constexpr Primitive exp_p = unary<[]<class X>(X x) { return x.unaryExpr(ExpToZero<typename X::Scalar>()); }, [](Var, Var y) { return y; }>("exp");
constexpr Primitive log_p = unary<[]<class X>(X x) { return x.unaryExpr(Log<typename X::Scalar>()); }, [](Var x, Var) { return 1.0 / x; }>("log");
constexpr Primitive sqrt_p = unary<[]<class X>(X x) { return x.unaryExpr(Root<typename X::Scalar>()); }, [](Var, Var y) { return 0.5 / y; }>("sqrt");
constexpr Primitive sin_p = unary<[](auto x) { return x.sin(); }, [](Var x, Var) { return cos(x); }>("sin");
constexpr Primitive cos_p = unary<[](auto x) { return x.cos(); }, [](Var x, Var) { return -sin(x); }>("cos");
constexpr Primitive erf_p = unary<error_function, erf_packets, [](Var x, Var) { return 2 * std::numbers::inv_sqrtpi * exp(-square(x)); }>("erf");
// Scalar: in the tail the usual erfc of doubles is wrong by up to four units in the last place, and that of long doubles is not.
constexpr auto complement = [](auto x) {
  return x.unaryExpr([](auto v) {
    using T = decltype(v);
    if constexpr (std::same_as<T, double>) return v > 0.5 ? static_cast<T>(std::erfc(static_cast<long double>(v))) : std::erfc(v);
    else return std::erfc(v);
  });
};
constexpr Primitive erfc_p = unary<complement, [](Var x, Var) { return -2 * std::numbers::inv_sqrtpi * exp(-square(x)); }>("erfc");
constexpr Primitive expm1_p = unary<[](auto x) { return x.expm1(); }, [](Var x, Var) { return exp(x); }>("expm1");
constexpr Primitive log1p_p = unary<[](auto x) { return x.log1p(); }, [](Var x, Var) { return 1.0 / (1.0 + x); }>("log1p");
constexpr Primitive tanh_p = unary<[](auto x) { return x.tanh(); }, tanh_packets, [](Var, Var y) { return 1.0 - square(y); }>("tanh");

// Scalar: Eigen's own power loses digits for large exponents.
constexpr auto power = [](auto x, auto y) { return x.binaryExpr(y, [](auto a, auto b) { return std::pow(a, b); }); };
constexpr Primitive pow_p{
    .name = "pow", .operands = {smooth, smooth}, .infer = same_shapes, .map = map_kernels<power, 2>,
    .jvp = [](const Rule& r, int i, Var t) {
      if (i == 0) {  // of the exponent 0 it is 0, at 0 too
        const Var& y = r.in[1];
        return t * where(y, y * pow(r.in[0], where(y, y - 1.0, 0.0)), 0.0);
      }
      const Var positive = step(r.in[0]);  // below and at 0 the power is no smooth function of its exponent
      return t * where(positive, r.out * log(where(positive, r.in[0], 1.0)), 0.0);
    }};

constexpr Primitive where_p{
    .name = "where", .operands = {fixed, linear, linear}, .joint = true, .infer = same_shapes,
    .map = map_kernels<[](auto c, auto x, auto y) { return (c != 0).select(x, y); }, 3>,
    .transpose = [](const Rule& r, int i, Var ct) { return i == 1 ? where(r.in[0], ct, 0.0) : where(r.in[0], 0.0, ct); }};
constexpr Primitive step_p{
    .name = "step", .operands = {fixed}, .infer = same_shapes,
    .map = map_kernels<[]<class X>(X x) { return (x > 0).template cast<typename X::Scalar>(); }, 1>};
constexpr Primitive sign_p{
    .name = "sign", .operands = {fixed}, .infer = same_shapes,
    .map = map_kernels<[]<class X>(X x) { using T = typename X::Scalar; return x.isNaN().select(x, (x > 0).template cast<T>() - (x < 0).template cast<T>()); }, 1>};
constexpr Primitive stop_gradient_p{
    .name = "stop_gradient", .operands = {fixed}, .infer = same_shapes, .map = map_kernels<[](auto x) { return x; }, 1>, .flops = no_flops};

Shape fill_shape(Shapes, const Attributes& a) { return std::get<Fill>(a).shape; }
template <class T> void fill_map(const Attributes& a, const T* const*, T* out, Index n) { std::fill_n(out, n, static_cast<T>(std::get<Fill>(a).value)); }
constexpr Primitive fill_p{.name = "fill", .operands = {fixed}, .infer = fill_shape, .map = {fill_map<float>, fill_map<double>}, .flops = no_flops};

const Primitive* const family[] = {&add_p, &sub_p, &neg_p, &mul_p, &div_p, &scale_p, &exp_p, &log_p, &sqrt_p, &sin_p, &cos_p, &erf_p, &erfc_p, &expm1_p, &log1p_p,
                                   &tanh_p, &pow_p, &where_p, &step_p, &sign_p, &stop_gradient_p, &fill_p};

// Records a primitive on operands broadcast to one shape. Numbers become fills.
template <std::size_t n> Var broadcasting(const Primitive& p, std::array<Var, n> in) {
  const std::string name(p.name);
  check_traced(name, in);
  Shape shape = in[0].shape();
  for (const Var& v : in) shape = broadcast_shapes(name.c_str(), shape, v.shape());
  Tape* const tape = newest(in);
  for (Var& v : in)
    if (const auto c = v.number(); c && tape) v = fill(tape, shape, *c);
    else v = broadcast_to(v.is_constant() && tape ? tape->take_in(v) : v, shape);
  return emit(p, in);
}

}  // namespace

std::span<const Primitive* const> elementwise_primitives() { return family; }
const Primitive& add_primitive() { return add_p; }
const Primitive& scale_primitive() { return scale_p; }

static Var scaled(double c, const Var& x) { return c == 1 ? x : emit(scale_p, std::array{x}, c); }

Var operator+(const Var& a, const Var& b) { return broadcasting(add_p, std::array{a, b}); }
Var operator-(const Var& a, const Var& b) { return broadcasting(sub_p, std::array{a, b}); }
Var operator*(const Var& a, const Var& b) {
  if (const auto c = a.number(); c && !b.number()) return scaled(*c, b);
  if (const auto c = b.number(); c && !a.number()) return scaled(*c, a);
  return broadcasting(mul_p, std::array{a, b});
}
Var operator/(const Var& a, const Var& b) { return broadcasting(div_p, std::array{a, b}); }
Var operator-(const Var& a) { return emit(neg_p, std::array{a}); }
Var operator>(const Var& a, const Var& b) { return step(a - b); }
Var operator<(const Var& a, const Var& b) { return step(b - a); }
Var exp(const Var& x) { return emit(exp_p, std::array{x}); }
Var log(const Var& x) { return emit(log_p, std::array{x}); }
Var sqrt(const Var& x) { return emit(sqrt_p, std::array{x}); }
Var sin(const Var& x) { return emit(sin_p, std::array{x}); }
Var cos(const Var& x) { return emit(cos_p, std::array{x}); }
Var erf(const Var& x) { return emit(erf_p, std::array{x}); }
Var erfc(const Var& x) { return emit(erfc_p, std::array{x}); }
Var expm1(const Var& x) { return emit(expm1_p, std::array{x}); }
Var log1p(const Var& x) { return emit(log1p_p, std::array{x}); }
Var tanh(const Var& x) { return emit(tanh_p, std::array{x}); }
Var pow(const Var& x, const Var& exponent) { return broadcasting(pow_p, std::array{x, exponent}); }
Var step(const Var& x) { return emit(step_p, std::array{x}); }
Var sign(const Var& x) { return emit(sign_p, std::array{x}); }
Var stop_gradient(const Var& x) { return emit(stop_gradient_p, std::array{x}); }
Var where(const Var& condition, const Var& a, const Var& b) { return broadcasting(where_p, std::array{condition, a, b}); }
Var fill(Tape* tape, const Shape& shape, double value) {
  if (!tape) fail<TraceError>("fill: there is no trace to record it in; use it inside a function that is differentiated or compiled");
  return tape->emit(fill_p, {}, Fill{shape, value});
}
Var zeros_like(const Var& x) {
  check_traced("zeros_like", std::span(&x, 1));
  return fill(x.tape(), x.shape(), 0);
}

}  // namespace linnet::autodiff
