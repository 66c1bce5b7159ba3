// sum, broadcast and max over a run of neighbouring axes: [outer, run, inner]. sum and broadcast are each other's transposes; cumsum is its own, from the
// other end.
#include "linnet/autodiff/ops/declare.h"

#include "linnet/autodiff/kernels/parallel.h"

#include <bit>
#include <cmath>

namespace linnet::autodiff {
namespace {

using enum Operand;

Shape without_axes(Shapes in, const Attributes& attributes) {
  const Axes& a = std::get<Axes>(attributes);
  return in[0].erased(a.first, a.extents.rank());
}
Shape with_axes(Shapes in, const Attributes& attributes) {
  const Axes& a = std::get<Axes>(attributes);
  if (a.first < 0 || a.first > in[0].rank()) fail<ShapeError>("broadcast: no place {} for new axes in {}, which has rank {}", a.first, in[0], in[0].rank());
  return in[0].inserted(a.first, std::span(a.extents.begin(), a.extents.end()));
}

// y[0, width) = the sum of n rows of x, `stride` apart. Blocks of rows are summed in order and combined in a tree: n alone decides its form. `spare`
// holds `width` values for each level of the tree.
constexpr Index sum_block = 256;
Index levels(Index n) { return std::bit_width(static_cast<std::uint64_t>(n / sum_block)) + 1; }
template <class T> void sum_rows(const T* x, Index n, Index stride, Index width, T* y, T* spare) {
  if (n <= sum_block) {
    std::fill_n(y, width, T(0));
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < width; ++j) y[j] += x[i * stride + j];
    return;
  }
  const Index half = (n / sum_block + 1) / 2 * sum_block;
  sum_rows(x, half, stride, width, y, spare);
  sum_rows(x + half * stride, n - half, stride, width, spare, spare + width);
  for (Index j = 0; j < width; ++j) y[j] += spare[j];
}

template <class T> void sum_eval(const KernelCall<T>& c) {
  const Axes& a = std::get<Axes>(c.attributes);
  const auto [outer, run, inner] = split(*c.in_shape[0], a.first, a.extents.rank());
  const Index n = outer * c.count(), work = run * inner;
  const Index columns = inner > 1 && n == 1 ? 64 : inner;  // a lone sum over rows: items are columns, which do not meet
  const Index parts = inner == 0 ? 0 : (inner + columns - 1) / columns, group = std::max<Index>(1, 8192 / (work / std::max<Index>(parts, 1) + 1));
  const Index items = (n * parts + group - 1) / group;
  parallel_for(items, [&, run = run, inner = inner](Index item) {
    T* const spare = scratch<T>(Scratch::sums, levels(run) * columns);
    for (Index i = item * group; i < std::min((item + 1) * group, n * parts); ++i) {
      const T* x = c.in[0] + i / parts * work;
      if (inner == 1) { c.out[i] = fixed_sum(x, run); continue; }
      const Index first = i % parts * columns;
      sum_rows(x + first, run, inner, std::min(columns, inner - first), c.out + i / parts * inner + first, spare);
    }
  }, n * work <= 65536 ? items : 1);
}

template <class T> void max_eval(const KernelCall<T>& c) {
  const Axes& a = std::get<Axes>(c.attributes);
  const auto [outer, run, inner] = split(*c.in_shape[0], a.first, a.extents.rank());
  parallel_for(outer * c.count(), [&, run = run, inner = inner](Index o) {
    for (Index j = 0; j < inner; ++j) {
      const T* x = c.in[0] + o * run * inner + j;
      T best = *x;
      for (Index r = 1; r < run; ++r)
        if (x[r * inner] > best || std::isnan(x[r * inner])) best = x[r * inner];  // a NaN stays: nothing is greater
      c.out[o * inner + j] = best;
    }
  }, 65536 / (run * inner + 1));
}

template <class T> void broadcast_eval(const KernelCall<T>& c) {
  const Axes& a = std::get<Axes>(c.attributes);
  const auto [outer, run, inner] = split(c.out_shape, a.first, a.extents.rank());
  parallel_for(outer * c.count(), [&, run = run, inner = inner](Index o) {
    for (Index r = 0; r < run; ++r) std::copy_n(c.in[0] + o * inner, inner, c.out + (o * run + r) * inner);
  }, 65536 / (run * inner + 1));
}

// An item is one of the outer blocks, or 64 columns of it where they are many: columns do not meet.
template <class T> void cumsum_eval(const KernelCall<T>& c) {
  const auto [axis, reverse] = std::get<Cumulative>(c.attributes);
  const auto [outer, run, inner] = split(c.out_shape, axis, 1);
  if (c.out_shape.size() == 0) return;
  constexpr Index columns = 64;
  const Index parts = (inner + columns - 1) / columns, step = reverse ? -inner : inner;
  parallel_for(outer * c.count() * parts, [&, run = run, inner = inner, reverse = reverse](Index item) {
    const Index first = item % parts * columns, width = std::min(columns, inner - first);
    const Index at = (item / parts * run + (reverse ? run - 1 : 0)) * inner + first;
    const T* x = c.in[0] + at;
    T* y = c.out + at;
    std::copy_n(x, width, y);
    for (Index r = 1; r < run; ++r, y += step) {
      x += step;
      for (Index j = 0; j < width; ++j) y[step + j] = y[j] + x[j];
    }
  }, 65536 / (run * std::min(columns, inner) + 1));
}
Shape cumsum_shape(Shapes in, const Attributes& attributes) {
  normalized_axis("cumsum", std::get<Cumulative>(attributes).axis, in[0]);
  return in[0];
}

Shape max_shape(Shapes in, const Attributes& attributes) {
  const Axes& a = std::get<Axes>(attributes);
  if (a.extents.size() == 0) fail<ShapeError>("max: axes {} to {} of {} are empty, and nothing has no maximum", a.first, a.first + a.extents.rank(), in[0]);
  return without_axes(in, attributes);
}

constinit const Primitive broadcast_p{
    .name = "broadcast", .operands = {linear}, .joint = true, .infer = with_axes, .eval = {broadcast_eval<float>, broadcast_eval<double>},
    .transpose = [](const Rule& r, int, Var ct) {
      const Axes& a = r.attribute<Axes>();
      std::vector<Index> axes;
      for (Index i = 0; i < a.extents.rank(); ++i) axes.push_back(a.first + i);
      return sum(ct, axes);
    },
    .factor = [](const Rule& r, int, Var ct) {  // a bias: ones times the cotangent; only for new leading axes
      const Axes& a = r.attribute<Axes>();
      return a.first == 0 ? Factors{{}, reshape(ct, {a.extents.size(), r.shape[0].size()})} : Factors{};
    },
    .flops = no_flops};
constexpr Primitive sum_p{
    .name = "sum", .operands = {linear}, .joint = true, .infer = without_axes, .eval = {sum_eval<float>, sum_eval<double>},
    .transpose = [](const Rule& r, int, Var ct) { return broadcast(ct, r.attribute<Axes>().first, r.attribute<Axes>().extents); },
    .flops = one_an_operand};
constexpr Primitive max_p{
    .name = "max", .operands = {smooth}, .infer = max_shape, .eval = {max_eval<float>, max_eval<double>},
    .jvp = [](const Rule& r, int, Var t) {  // the mean over those that reach the maximum
      const Axes& a = r.attribute<Axes>();
      std::vector<Index> axes;
      for (Index i = 0; i < a.extents.rank(); ++i) axes.push_back(a.first + i);
      const Var reached = where(broadcast(r.out, a.first, a.extents) > r.in[0], 0.0, fill(r.in[0].tape(), r.in[0].shape(), 1));
      return sum(t * (reached / broadcast(sum(reached, axes), a.first, a.extents)), axes);
    },
    .flops = one_an_operand};

constexpr Primitive cumsum_p{
    .name = "cumsum", .operands = {linear}, .joint = true, .infer = cumsum_shape, .eval = {cumsum_eval<float>, cumsum_eval<double>},
    .transpose = [](const Rule& r, int, Var ct) { return cumsum(ct, r.attribute<Cumulative>().axis, !r.attribute<Cumulative>().reverse); },
    .flops = one_an_operand};

const Primitive* const family[] = {&sum_p, &max_p, &broadcast_p, &cumsum_p};

// The axes, counted from the front and in order, each once.
std::vector<Index> checked_axes(const std::string& operation, std::vector<Index> axes, const Shape& s) {
  for (Index& axis : axes) axis = normalized_axis(operation.c_str(), axis, s);
  std::sort(axes.begin(), axes.end());
  if (const auto twice = std::adjacent_find(axes.begin(), axes.end()); twice != axes.end()) fail<ShapeError>("{}: axis {} of {} is named twice", operation, *twice, s);
  return axes;
}

// Reduces the chosen axes, last first, run by run.
Var reduce(const Primitive& p, Var x, std::vector<Index> axes, bool keep) {
  const Shape s = shape_of(p.name, x);
  axes = checked_axes(std::string(p.name), std::move(axes), s);
  Shape kept = s;
  for (const Index axis : axes) kept = kept.with(axis, 1);
  for (std::size_t last = axes.size(); last > 0;) {
    std::size_t first = last - 1;
    while (first > 0 && axes[first - 1] + 1 == axes[first]) --first;
    x = emit(p, std::array{x}, Axes{axes[first], s.part(axes[first], axes[last - 1] + 1)});
    last = first;
  }
  return keep ? reshape(x, kept) : x;
}

std::vector<Index> all_axes(std::string_view operation, const Var& x) {
  std::vector<Index> axes;
  for (Index i = 0; i < shape_of(operation, x).rank(); ++i) axes.push_back(i);
  return axes;
}

}  // namespace

std::span<const Primitive* const> reduction_primitives() { return family; }
const Primitive& broadcast_primitive() { return broadcast_p; }

Var sum(const Var& x) { return sum(x, all_axes("sum", x)); }
Var sum(const Var& x, std::vector<Index> axes, bool keep) { return reduce(sum_p, x, std::move(axes), keep); }
Var max(const Var& x) { return max(x, all_axes("max", x)); }
Var max(const Var& x, std::vector<Index> axes, bool keep) { return reduce(max_p, x, std::move(axes), keep); }
Var min(const Var& x) { return min(x, all_axes("min", x)); }
Var min(const Var& x, std::vector<Index> axes, bool keep) {
  const Shape s = shape_of("min", x);
  axes = checked_axes("min", std::move(axes), s);
  for (const Index axis : axes)
    if (s[axis] == 0) fail<ShapeError>("min: axis {} of {} is empty, and nothing has no minimum", axis, s);
  return -max(-x, axes, keep);
}
Var mean(const Var& x) { return mean(x, all_axes("mean", x)); }
Var mean(const Var& x, std::vector<Index> axes, bool keep) {
  const Var total = sum(x, std::move(axes), keep);
  if (x.shape().size() == 0) fail<ShapeError>("mean: {} has no values, and nothing has no mean", x.shape());
  return (static_cast<double>(total.shape().size()) / static_cast<double>(x.shape().size())) * total;
}
Var variance(const Var& x) { return variance(x, all_axes("variance", x)); }
Var variance(const Var& x, std::vector<Index> axes, bool keep) {
  axes = checked_axes("variance", std::move(axes), shape_of("variance", x));
  if (x.shape().size() == 0) fail<ShapeError>("variance: {} has no values, and nothing has no mean", x.shape());
  return mean(square(x - mean(x, axes, true)), axes, keep);
}
Var cumsum(const Var& x, Index axis, bool reverse) { return emit(cumsum_p, std::array{x}, Cumulative{normalized_axis("cumsum", axis, shape_of("cumsum", x)), reverse}); }
Var broadcast(const Var& x, Index at, const Shape& extents) { return extents.rank() ? emit(broadcast_p, std::array{x}, Axes{at, extents}) : x; }

Var broadcast_to(const Var& x, const Shape& shape) {
  const Shape s = shape_of("broadcast_to", x);
  if (s == shape) return x;
  if (broadcast_shapes("broadcast_to", s, shape) != shape) fail<ShapeError>("broadcast_to: {} does not broadcast to {}", s, shape);
  // Drop the axes that stretch, then insert them anew, run by run from the front.
  const Index lead = shape.rank() - s.rank();
  auto stretched = [&](Index axis) { return axis < lead || s[axis - lead] != shape[axis]; };
  std::vector<Index> left;
  for (Index i = lead; i < shape.rank(); ++i) if (!stretched(i)) left.push_back(shape[i]);
  Var v = reshape(x, Shape(std::span<const Index>(left)));
  for (Index i = 0; i < shape.rank(); ++i) {
    Index end = i;
    while (end < shape.rank() && stretched(end)) ++end;
    if (end > i) v = broadcast(v, i, shape.part(i, end));
    i = end;
  }
  return v;
}

}  // namespace linnet::autodiff
