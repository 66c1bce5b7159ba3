// What declarations are made with: kernels from expressions of Eigen arrays, and whole records for the common forms. Not installed.
//
// Bits must not depend on where values lie. Eigen computes what comes before an aligned address, and a remainder, with scalar functions that
// differ from its vector ones in the last bit; so every element takes the vector path here, ragged ends in a padded block.
#pragma once

#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/ops.h"
#include "linnet/autodiff/ops/families.h"
#include "linnet/autodiff/primitive.h"

#include <Eigen/Core>
#include <unsupported/Eigen/SpecialFunctions>

#include <algorithm>
#include <array>
#include <cstdint>

namespace linnet::autodiff {

template <class T> using Flat = Eigen::Map<Eigen::Array<T, Eigen::Dynamic, 1>>;
template <class T> using ConstFlat = Eigen::Map<const Eigen::Array<T, Eigen::Dynamic, 1>>;

// A function of whole packets in memory, as kernels/vector_math.h has them.
template <class T> using PacketFunction = void (*)(const T* x, T* y, Index n);

// y = F(x...) elementwise, F of `arity` array expressions, or F(c, x...) where the instruction has a scalar attribute; or a PacketFunction.
template <class T, auto F, int arity, bool scalar> void map_kernel(const Attributes& attributes, const T* const* in, T* out, Index n) {
  constexpr Index packet = 16, block = 256;
  [[maybe_unused]] T c = 0;
  if constexpr (scalar) c = static_cast<T>(std::get<double>(attributes));
  auto whole = [&](const T* const* from, T* to, Index m) {  // `to` aligned, m whole packets
    auto x = [&](int i) { return ConstFlat<T>(from[i], m); };
    Flat<T> y(to, m);
    if constexpr (std::is_pointer_v<decltype(F)>) F(from[0], to, m);
    else if constexpr (scalar) y = F(c, x(0));
    else if constexpr (arity == 1) y = F(x(0));
    else if constexpr (arity == 2) y = F(x(0), x(1));
    else y = F(x(0), x(1), x(2));
  };
  const Index direct = reinterpret_cast<std::uintptr_t>(out) % 64 ? 0 : n / packet * packet;
  if (direct) whole(in, out, direct);
  if (direct == n) return;
  alignas(64) T local[arity + 1][block];
  const T* from[arity];
  for (Index i = direct; i < n; i += block) {
    const Index m = std::min(block, n - i), padded = (m + packet - 1) / packet * packet;
    for (int k = 0; k < arity; ++k) {
      std::copy_n(in[k] + i, m, local[k]);
      std::fill(local[k] + m, local[k] + padded, in[k][i]);
      from[k] = local[k];
    }
    whole(from, local[arity], padded);
    std::copy_n(local[arity], m, out + i);
  }
}
template <auto F, int arity, bool scalar = false> constexpr Kernels<MapKernel> map_kernels{map_kernel<float, F, arity, scalar>, map_kernel<double, F, arity, scalar>};

Shape same_shapes(Shapes in, const Attributes&);  // of the operands, which must be equal

// A smooth function of one operand: its kernel, and its slope as a function of operand and result.
template <auto F, auto slope> constexpr Primitive unary(std::string_view name) {
  Primitive p;
  p.name = name;
  p.operands = {Operand::smooth};
  p.infer = same_shapes;
  p.map = map_kernels<F, 1>;
  p.jvp = [](const Rule& r, int, Var t) { return t * slope(r.in[0], r.out); };
  return p;
}

// The same with a function of packets in double.
template <auto F, PacketFunction<double> in_double, auto slope> constexpr Primitive unary(std::string_view name) {
  Primitive p = unary<F, slope>(name);
  p.map.f64 = map_kernel<double, in_double, 1, false>;
  return p;
}

// Operands of an operation that moves them before it uses them together: constants become values of the tape of the others.
template <std::size_t n> std::array<Var, n> on_one_tape(std::string_view operation, std::array<Var, n> in) {
  check_traced(operation, in);
  if (Tape* const tape = newest(in))
    for (Var& v : in)
      if (v.is_constant()) v = tape->take_in(v);
  return in;
}

// For Primitive::flops, of sums and whatever else takes every number of its operand once.
inline double one_an_operand(Shapes in, const Shape&, const Attributes&) { return static_cast<double>(in[0].size()); }

inline const Shape& shape_of(std::string_view operation, const Var& x) {  // TraceError in the operation's name if it has none
  check_traced(operation, std::span(&x, 1));
  return x.shape();
}

inline Var swapped(const Var& a) {  // the last two axes
  std::vector<Index> axes;
  for (Index i = 0; i < a.shape().rank(); ++i) axes.push_back(i);
  std::swap(axes[axes.size() - 1], axes[axes.size() - 2]);
  return transpose(a, axes);
}

// A shape as [outer, run, inner] around a run of axes.
struct Split {
  Index outer, run, inner;
};
inline Split split(const Shape& s, Index first, Index count) { return {s.size(0, first), s.size(first, first + count), s.size(first + count, s.rank())}; }

}  // namespace linnet::autodiff
