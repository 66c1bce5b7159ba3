// How an operation is declared: everything about it is one record of type Primitive, in one file below ops/. Read tape.h first.
// A user may declare one in his own program: this header needs neither Eigen nor fmt.
#pragma once

#include "linnet/autodiff/tape.h"

#include <algorithm>
#include <array>
#include <concepts>
#include <span>
#include <string_view>

namespace linnet::autodiff {

enum class Operand : char { linear, smooth, fixed };  // has a transpose; has a jvp; has no derivative (a condition, an index)

struct Operands {  // the kinds of the operands; the last one repeats
  std::array<Operand, 3> kind{};
  constexpr Operands() = default;
  constexpr Operands(std::initializer_list<Operand> kinds) {
    for (std::size_t i = 0; i < 3; ++i) kind[i] = *(kinds.begin() + std::min(i, kinds.size() - 1));
  }
  constexpr Operand operator[](std::size_t i) const { return kind[std::min<std::size_t>(i, 2)]; }
};

// What a rule sees of its instruction. In transpose and factor, `in` has a zero Var for an operand that is itself linear.
struct Rule {
  std::span<const Var> in;
  std::span<const Shape> shape;  // of the operands
  Var out;                       // jvp only
  const Attributes& attributes;
  template <class A> const A& attribute() const { return std::get<A>(attributes); }
};

// A parameter's gradient for one example as a sum over positions s, the parameter read as a matrix [p, q]:
// sum_s left[s, :] (x) right[s, :]. An empty left is a column of ones (a bias); an empty right: this use has no such form.
// Rows of left that are unit vectors are not written out: with one_hot = p left is [S], the place of each one, checked to be a whole number of 0 to p - 1.
struct Factors {
  Var left, right;
  Index one_hot = 0;
};

// Which lane axes a value varies over. A lane is an independent problem run by the same program; there are two axes of them:
// examples (slow) and directions (tangents or cotangents, fast).
enum class Varies : unsigned char { nothing = 0, examples = 1, directions = 2, both = 3 };
constexpr Varies operator|(Varies a, Varies b) { return static_cast<Varies>(static_cast<unsigned>(a) | static_cast<unsigned>(b)); }
constexpr bool over(Varies v, Varies axis) { return (static_cast<unsigned>(v) & static_cast<unsigned>(axis)) != 0; }

struct Lanes {
  Index examples = 1, directions = 1;
  Index count(Varies v) const { return (over(v, Varies::examples) ? examples : 1) * (over(v, Varies::directions) ? directions : 1); }
  // The lane of an operand that varies over `of` which belongs to lane l of a result that varies over `result`.
  Index lane(Varies of, Varies result, Index l) const {
    if (of == result) return l;
    if (of == Varies::nothing) return 0;
    return of == Varies::examples ? l / directions : l % directions;  // the result varies over both
  }
  bool operator==(const Lanes&) const = default;
};

template <class Signature> class FunctionRef;  // kernels/parallel.h

// A kernel that runs all lanes at once. Operands and result are contiguous, lanes outermost.
template <class T> struct KernelCall {
  const Attributes& attributes;
  std::span<const T* const> in;
  std::span<const Shape* const> in_shape;
  std::span<const Varies> in_varies;
  T* out;
  const Shape& out_shape;
  Varies varies;
  Lanes lanes;
  const FunctionRef<void(Index first, Index rows)>* done = nullptr;  // of `panels`: to be called once for all rows of the result, in pieces, from any thread
  Index count() const { return lanes.count(varies); }
  const T* lane(std::size_t i, Index l) const { return in[i] + lanes.lane(in_varies[i], varies, l) * in_shape[i]->size(); }
};

// An elementwise kernel on flat spans: the executor cuts them into strips, fuses and threads them. `out` may be one of `in`: element i is read before it is
// written.
template <class T> using MapKernel = void (*)(const Attributes&, const T* const* in, T* out, Index n);
template <class T> using EvalKernel = void (*)(const KernelCall<T>&);
template <template <class> class Kernel> struct Kernels {
  Kernel<float> f32 = nullptr;
  Kernel<double> f64 = nullptr;
  template <class T> constexpr Kernel<T> get() const {
    if constexpr (std::same_as<T, float>) return f32; else return f64;
  }
  constexpr bool exists() const { return f32 != nullptr && f64 != nullptr; }
};

using Shapes = std::span<const Shape>;
inline double no_flops(Shapes, const Shape&, const Attributes&) { return 0; }  // for Primitive::flops, of what only moves numbers

struct Primitive {
  std::string_view name;
  Operands operands;
  bool joint = false;  // linear in its linear operands all at once (add, where), not one at a time (mul, dot)
  bool panels = false; // eval calls KernelCall::done for rows of the result as they are finished: maps that begin with it follow them
  Shape (*infer)(Shapes, const Attributes&) = nullptr;  // the shape of the result, or ShapeError
  Kernels<MapKernel> map{};  // one of the two; `call` has neither: the executor runs its program
  Kernels<EvalKernel> eval{};
  Var (*jvp)(const Rule&, int i, Var tangent) = nullptr;            // smooth operand i: d out / d in[i] times the tangent
  Var (*transpose)(const Rule&, int i, Var cotangent) = nullptr;    // linear operand i: its cotangent
  Factors (*factor)(const Rule&, int i, Var cotangent) = nullptr;   // a parameter's per-example gradient in factored form
  double (*flops)(Shapes in, const Shape& out, const Attributes&) = nullptr;  // floating-point operations of one lane; null: one an element of the result
};

// Every primitive of the library, in the order of the files that declare them.
std::span<const Primitive* const> primitives();

}  // namespace linnet::autodiff
