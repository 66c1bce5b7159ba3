// Primitives that move values without computing: reshape, transpose, slice and pad, concatenate, gather and scatter_add. All are linear, and
// pairs that are each other's transposes share their attribute.
#include "linnet/autodiff/ops/declare.h"

#include "linnet/autodiff/kernels/parallel.h"

#include <cmath>
#include <numeric>

namespace linnet::autodiff {
namespace {

using enum Operand;

// ---- reshape
Shape reshape_shape(Shapes in, const Attributes& attributes) {
  const Shape& to = std::get<Shape>(attributes);
  if (in[0].size() != to.size()) fail<ShapeError>("reshape: {} has {} values, {} has {}", in[0], in[0].size(), to, to.size());
  return to;
}
template <class T> void reshape_eval(const KernelCall<T>& c) {
  if (c.in[0] != c.out) std::copy_n(c.in[0], c.count() * c.out_shape.size(), c.out);  // a plan may leave the values where they are
}
constinit const Primitive reshape_p{
    .name = "reshape", .operands = {linear}, .joint = true, .infer = reshape_shape, .eval = {reshape_eval<float>, reshape_eval<double>},
    .transpose = [](const Rule& r, int, Var ct) { return reshape(ct, r.shape[0]); }, .flops = no_flops};

// ---- transpose
Shape transpose_shape(Shapes in, const Attributes& attributes) {
  const Shape& axes = std::get<Permutation>(attributes).axes;
  Shape s = in[0];
  for (Index i = 0; i < axes.rank(); ++i) s = s.with(i, in[0][axes[i]]);
  return s;
}
// [rows, columns] to [columns, rows] of chunks, in blocks that stay in the first-level cache.
template <class T> void transpose_matrix(const T* x, Index rows, Index columns, Index chunk, T* y) {
  constexpr Index block = 16;
  for (Index r0 = 0; r0 < rows; r0 += block)
    for (Index c0 = 0; c0 < columns; c0 += block)
      for (Index c = c0; c < std::min(columns, c0 + block); ++c)
        for (Index r = r0; r < std::min(rows, r0 + block); ++r) {
          if (chunk == 1) y[c * rows + r] = x[r * columns + c];
          else std::copy_n(x + (r * columns + c) * chunk, chunk, y + (c * rows + r) * chunk);
        }
}
template <class T> void transpose_any(const T* x, const Shape& from, const Shape& axes, const Shape& to, T* y) {
  std::array<Index, Shape::max_rank> stride{}, at{};
  const auto axis = [](Index i) { return static_cast<std::size_t>(i); };
  for (Index i = 0; i < to.rank(); ++i) stride[axis(i)] = from.size(axes[i] + 1, from.rank());
  for (Index k = 0, n = to.size(); k < n; ++k) {
    y[k] = *x;
    for (Index i = to.rank() - 1; i >= 0; --i) {
      x += stride[axis(i)];
      if (++at[axis(i)] < to[i]) break;
      x -= stride[axis(i)] * to[i];
      at[axis(i)] = 0;
    }
  }
}
template <class T> void transpose_eval(const KernelCall<T>& c) {
  const Shape &axes = std::get<Permutation>(c.attributes).axes, &from = *c.in_shape[0];
  const Index n = c.out_shape.size(), r = axes.rank();
  Index fixed_front = 0, fixed_back = 0;
  while (fixed_front < r && axes[fixed_front] == fixed_front) ++fixed_front;
  while (fixed_back < r - fixed_front && axes[r - 1 - fixed_back] == r - 1 - fixed_back) ++fixed_back;
  const Index middle = r - fixed_front - fixed_back, turn = middle > 0 ? axes[fixed_front] - fixed_front : 0;
  bool rotation = middle > 0;  // of the axes in the middle: a matrix transpose
  for (Index i = 0; i < middle; ++i) rotation &= axes[fixed_front + i] - fixed_front == (i + turn) % middle;
  parallel_for(c.count(), [&](Index l) {
    const T* const x = c.in[0] + l * n;
    T* const y = c.out + l * n;
    if (!rotation) return transpose_any(x, from, axes, c.out_shape, y);
    const Index rows = from.size(fixed_front, fixed_front + turn), columns = from.size(fixed_front + turn, r - fixed_back), chunk = from.size(r - fixed_back, r);
    for (Index o = 0, outer = from.size(0, fixed_front), step = rows * columns * chunk; o < outer; ++o) transpose_matrix(x + o * step, rows, columns, chunk, y + o * step);
  }, 65536 / (n + 1));
}
constinit const Primitive transpose_p{
    .name = "transpose", .operands = {linear}, .joint = true, .infer = transpose_shape, .eval = {transpose_eval<float>, transpose_eval<double>},
    .transpose = [](const Rule& r, int, Var ct) {
      const Shape& axes = r.attribute<Permutation>().axes;
      std::vector<Index> inverse(static_cast<std::size_t>(axes.rank()));
      for (Index i = 0; i < axes.rank(); ++i) inverse[static_cast<std::size_t>(axes[i])] = i;
      return transpose(ct, inverse);
    }, .flops = no_flops};

// ---- slice and pad
Shape slice_shape(Shapes in, const Attributes& a) {
  const Cut& cut = std::get<Cut>(a);
  if (cut.start < 0 || cut.size < 0 || cut.start > cut.full - cut.size || in[0][cut.axis] != cut.full) {
    const Index end = static_cast<Index>(static_cast<std::size_t>(cut.start) + static_cast<std::size_t>(cut.size));  // absurd ones may wrap
    fail<ShapeError>("slice: {} to {} is outside of axis {} of {}", cut.start, end, cut.axis, in[0]);
  }
  return in[0].with(cut.axis, cut.size);
}
Shape pad_shape(Shapes in, const Attributes& a) {
  const Cut& cut = std::get<Cut>(a);
  if (cut.start < 0 || cut.start > cut.full - cut.size || in[0][cut.axis] != cut.size) fail<ShapeError>("pad: {} in front and {} behind axis {} of {}; neither may be negative", cut.start, cut.full - cut.size - cut.start, cut.axis, in[0]);
  return in[0].with(cut.axis, cut.full);
}
template <class T> void slice_eval(const KernelCall<T>& c) {
  const Cut& a = std::get<Cut>(c.attributes);
  const auto [outer, run, inner] = split(c.out_shape, a.axis, 1);
  for (Index o = 0; o < outer * c.count(); ++o) std::copy_n(c.in[0] + (o * a.full + a.start) * inner, run * inner, c.out + o * run * inner);
}
template <class T> void pad_eval(const KernelCall<T>& c) {
  const Cut& a = std::get<Cut>(c.attributes);
  const auto [outer, run, inner] = split(*c.in_shape[0], a.axis, 1);
  std::fill_n(c.out, c.count() * c.out_shape.size(), T(0));
  for (Index o = 0; o < outer * c.count(); ++o) std::copy_n(c.in[0] + o * run * inner, run * inner, c.out + (o * a.full + a.start) * inner);
}
constexpr Primitive slice_p{
    .name = "slice", .operands = {linear}, .joint = true, .infer = slice_shape, .eval = {slice_eval<float>, slice_eval<double>},
    .transpose = [](const Rule& r, int, Var ct) {
      const Cut& a = r.attribute<Cut>();
      return pad(ct, a.axis, a.start, a.full - a.size - a.start);
    }, .flops = no_flops};
constexpr Primitive pad_p{
    .name = "pad", .operands = {linear}, .joint = true, .infer = pad_shape, .eval = {pad_eval<float>, pad_eval<double>},
    .transpose = [](const Rule& r, int, Var ct) { return slice(ct, r.attribute<Cut>().axis, r.attribute<Cut>().start, r.attribute<Cut>().size); }, .flops = no_flops};

// ---- concatenate
Shape concatenate_shape(Shapes in, const Attributes& a) {
  const Index axis = std::get<Along>(a).axis;
  Shape s = in[0];
  for (const Shape& part : in.subspan(1)) {
    if (part.rank() != s.rank() || part.with(axis, 0) != in[0].with(axis, 0)) fail<ShapeError>("concatenate: {} and {} differ in an axis other than {}", in[0], part, axis);
    s = s.with(axis, s[axis] + part[axis]);
  }
  return s;
}
template <class T> void concatenate_eval(const KernelCall<T>& c) {
  const Index axis = std::get<Along>(c.attributes).axis, r = c.out_shape.rank(), outer = c.out_shape.size(0, axis), row = c.out_shape.size(axis, r);
  for (Index l = 0; l < c.count(); ++l) {
    Index at = 0;  // in a row; a pointer would leave an array of no rows
    for (std::size_t i = 0; i < c.in.size(); ++i) {
      const Index n = c.in_shape[i]->size(axis, r);
      for (Index o = 0; o < outer; ++o) std::copy_n(c.lane(i, l) + o * n, n, c.out + (l * outer + o) * row + at);
      at += n;
    }
  }
}
constexpr Primitive concatenate_p{
    .name = "concatenate", .operands = {linear}, .joint = true, .infer = concatenate_shape, .eval = {concatenate_eval<float>, concatenate_eval<double>},
    .transpose = [](const Rule& r, int i, Var ct) {
      const Index axis = r.attribute<Along>().axis;
      Index at = 0;
      for (int j = 0; j < i; ++j) at += r.shape[static_cast<std::size_t>(j)][axis];
      return slice(ct, axis, at, r.shape[static_cast<std::size_t>(i)][axis]);
    }, .flops = no_flops};

// ---- gather and scatter_add: rows of a table by index. The index is data, so its values are checked when the program runs.
void check_table(const char* operation, const Shape& table, const Shape& index) {
  if (table.rank() < 1 || index.rank() != 1) fail<ShapeError>("{}: rows [n, …] and a vector of indices are needed, got {} and {}", operation, table, index);
}
Shape gather_shape(Shapes in, const Attributes& a) {
  check_table("gather", in[0], in[1]);
  if (in[0][0] != std::get<Rows>(a).count) fail<ShapeError>("gather: the table {} must have {} rows", in[0], std::get<Rows>(a).count);
  return in[0].with(0, in[1][0]);
}
Shape scatter_shape(Shapes in, const Attributes& a) {
  check_table("scatter_add", in[0], in[1]);
  if (in[0][0] != in[1][0]) fail<ShapeError>("scatter_add: {} rows came with {} indices", in[0][0], in[1][0]);
  return in[0].with(0, std::get<Rows>(a).count);
}
template <class T> Index row_of(const char* operation, const T* index, Index at, Index n) {
  const T v = index[at];
  if (!(v >= 0) || v >= static_cast<T>(n) || v != std::floor(v)) fail<NumericalError>("{}: index {} at position {} is no row of 0 to {}", operation, v, at, n - 1);
  return static_cast<Index>(v);
}
template <class T> void gather_eval(const KernelCall<T>& c) {
  const Index n = std::get<Rows>(c.attributes).count, k = c.out_shape[0], row = c.out_shape.size(1, c.out_shape.rank());
  for (Index l = 0; l < c.count(); ++l)
    for (Index i = 0; i < k; ++i) std::copy_n(c.lane(0, l) + row_of("gather", c.lane(1, l), i, n) * row, row, c.out + (l * k + i) * row);
}
template <class T> void scatter_eval(const KernelCall<T>& c) {
  const Index n = std::get<Rows>(c.attributes).count, k = (*c.in_shape[0])[0], row = c.out_shape.size(1, c.out_shape.rank());
  std::fill_n(c.out, c.count() * n * row, T(0));
  for (Index l = 0; l < c.count(); ++l)
    for (Index i = 0; i < k; ++i) {
      T* const to = c.out + (l * n + row_of("scatter_add", c.lane(1, l), i, n)) * row;
      for (Index j = 0; j < row; ++j) to[j] += c.lane(0, l)[i * row + j];
    }
}
constexpr Primitive gather_p{
    .name = "gather", .operands = {linear, fixed}, .joint = true, .infer = gather_shape, .eval = {gather_eval<float>, gather_eval<double>},
    .transpose = [](const Rule& r, int, Var ct) { return scatter_add(ct, r.in[1], r.attribute<Rows>().count); },
    // Positions are the indices. Looked up in a table of row numbers they are checked where the gather itself is not run, and in its name.
    .factor = [](const Rule& r, int, Var ct) {
      const Index n = r.attribute<Rows>().count;
      if (n == 0) return Factors{};
      Array<double> numbers({n});
      std::iota(numbers.begin(), numbers.end(), 0.0);
      return Factors{gather(ct.tape()->take_in(constant(std::move(numbers))), r.in[1]), reshape(ct, {ct.shape()[0], r.shape[0].size(1, r.shape[0].rank())}), n};
    },
    .flops = no_flops};
constexpr Primitive scatter_p{
    .name = "scatter_add", .operands = {linear, fixed}, .joint = true, .infer = scatter_shape, .eval = {scatter_eval<float>, scatter_eval<double>},
    .transpose = [](const Rule& r, int, Var ct) { return gather(ct, r.in[1]); }, .flops = one_an_operand};

const Primitive* const family[] = {&reshape_p, &transpose_p, &slice_p, &pad_p, &concatenate_p, &gather_p, &scatter_p};

}  // namespace

std::span<const Primitive* const> structure_primitives() { return family; }
const Primitive& reshape_primitive() { return reshape_p; }
const Primitive& transpose_primitive() { return transpose_p; }

Var reshape(const Var& x, const Shape& shape) { return shape == shape_of("reshape", x) ? x : emit(reshape_p, std::array{x}, shape); }
Var transpose(const Var& x) {
  if (shape_of("transpose", x).rank() != 2) fail<ShapeError>("transpose: a matrix is needed, got {}; give the order of the axes", x.shape());
  return transpose(x, {1, 0});
}
Var transpose(const Var& x, std::vector<Index> axes) {
  const Shape s = shape_of("transpose", x);
  std::array<bool, Shape::max_rank> seen{};
  bool ordered = true;
  if (static_cast<Index>(axes.size()) != s.rank()) fail<ShapeError>("transpose: {} axes were given for {}", axes.size(), s);
  for (std::size_t i = 0; i < axes.size(); ++i) {
    axes[i] = normalized_axis("transpose", axes[i], s);
    if (std::exchange(seen[static_cast<std::size_t>(axes[i])], true)) fail<ShapeError>("transpose: axis {} is named twice for {}", axes[i], s);
    ordered &= axes[i] == static_cast<Index>(i);
  }
  return ordered ? x : emit(transpose_p, std::array{x}, Permutation{Shape(std::span<const Index>(axes))});
}
Var slice(const Var& x, Index axis, Index start, Index size) {
  const Shape s = shape_of("slice", x);
  axis = normalized_axis("slice", axis, s);
  return start == 0 && size == s[axis] ? x : emit(slice_p, std::array{x}, Cut{axis, start, size, s[axis]});
}
Var pad(const Var& x, Index axis, Index before, Index after) {
  const Shape s = shape_of("pad", x);
  axis = normalized_axis("pad", axis, s);
  return before == 0 && after == 0 ? x : emit(pad_p, std::array{x}, Cut{axis, before, s[axis], before + s[axis] + after});
}
Var concatenate(std::vector<Var> parts, Index axis) {
  if (parts.empty()) fail<ShapeError>("concatenate: no arrays came; at least one is needed");
  axis = normalized_axis("concatenate", axis, shape_of("concatenate", parts[0]));
  return parts.size() == 1 ? parts[0] : emit(concatenate_p, parts, Along{axis});
}
Var gather(const Var& table, const Var& index) {
  check_table("gather", shape_of("gather", table), shape_of("gather", index));
  return emit(gather_p, std::array{table, index}, Rows{table.shape()[0]});
}
Var scatter_add(const Var& rows, const Var& index, Index n) {
  if (n < 0) fail<ShapeError>("scatter_add: the number of rows must not be negative, got {}", n);
  return emit(scatter_p, std::array{rows, index}, Rows{n});
}

}  // namespace linnet::autodiff
