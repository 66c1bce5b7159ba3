// dot: op(a) op(b), each operand transposed or not. Leading axes are separate products, as lanes are.
#include "linnet/autodiff/ops/declare.h"

#include "linnet/autodiff/kernels/gemm.h"
#include "linnet/autodiff/kernels/parallel.h"

namespace linnet::autodiff {
namespace {

using enum Operand;

Shape dot_shape(Shapes in, const Attributes& attributes) {
  const auto [ta, tb] = std::get<DotFlags>(attributes);
  const Index r = in[0].rank();
  if (r < 2 || in[1].rank() != r || in[0][ta ? -2 : -1] != in[1][tb ? -1 : -2] || in[0].part(0, r - 2) != in[1].part(0, r - 2))
    fail<ShapeError>("dot: cannot contract {}{} with {}{}; the inner extents and the leading axes must agree", in[0], ta ? "^T" : "", in[1], tb ? "^T" : "");
  return in[0].with(-2, in[0][ta ? -1 : -2]).with(-1, in[1][tb ? -2 : -1]);
}

template <class T> void dot_eval(const KernelCall<T>& c) {
  const auto [ta, tb] = std::get<DotFlags>(c.attributes);
  const Index m = c.out_shape[-2], n = c.out_shape[-1], k = (*c.in_shape[0])[ta ? -2 : -1];
  const Index products = c.out_shape.size(0, c.out_shape.rank() - 2);  // of one lane
  const Index count = c.count();
  if (products == 1 && !ta && c.in_varies[1] == Varies::nothing) return gemm(false, tb, count * m, n, k, c.in[0], c.in[1], c.out, false, c.done);  // lanes are more rows
  if (count * products == 1) return gemm(ta, tb, m, n, k, c.in[0], c.in[1], c.out, false, c.done);
  const bool fold = products == 1 && !ta && c.in_varies[0] == Varies::both && c.in_varies[1] == Varies::examples;
  const Index together = fold ? c.lanes.directions : 1;  // the directions of one example lie together: rows of one product
  parallel_for(count * products / together, [&, ta = ta, tb = tb](Index i) {
    const Index lane = i * together / products, p = i % products;
    const auto here = [&](Index first, Index rows) { (*c.done)(i * together * m + first, rows); };
    const RowsDone done(here);
    gemm(ta, tb, together * m, n, k, c.lane(0, lane) + p * m * k, c.lane(1, lane) + p * k * n, c.out + i * together * m * n, false, c.done ? &done : nullptr);
  });
}

double dot_flops(Shapes in, const Shape& out, const Attributes& attributes) {
  return 2 * static_cast<double>(in[0][std::get<DotFlags>(attributes).transpose_a ? -2 : -1]) * static_cast<double>(out.size());
}

constexpr Primitive dot_p{
    .name = "dot", .operands = {linear, linear}, .panels = true, .infer = dot_shape, .eval = {dot_eval<float>, dot_eval<double>},
    .transpose = [](const Rule& r, int i, Var ct) {
      const auto [ta, tb] = r.attribute<DotFlags>();
      if (i == 0) return ta ? dot(r.in[1], ct, {tb, true}) : dot(ct, r.in[1], {false, !tb});
      return tb ? dot(ct, r.in[0], {true, ta}) : dot(r.in[0], ct, {!ta, false});
    },
    // Positions are the rows of the product for b, its columns for a. Either side may hold the cotangent.
    .factor = [](const Rule& r, int i, Var ct) {
      if (ct.shape().rank() != 2) return Factors{};
      const auto [ta, tb] = r.attribute<DotFlags>();
      if (i == 1) {
        const Var x = ta ? swapped(r.in[0]) : r.in[0];
        return tb ? Factors{ct, x} : Factors{x, ct};
      }
      const Var y = tb ? r.in[1] : swapped(r.in[1]), g = swapped(ct);
      return ta ? Factors{y, g} : Factors{g, y};
    },
    .flops = dot_flops};

const Primitive* const family[] = {&dot_p};

// The axes of one operand of contract, by what becomes of them.
struct Roles {
  std::vector<Index> batch, contracted, free;
};
Roles roles(const Shape& s, std::vector<Index> batch, std::vector<Index> contracted) {
  std::array<bool, Shape::max_rank> used{};
  for (std::vector<Index>* axes : {&batch, &contracted})
    for (Index& axis : *axes) {
      axis = normalized_axis("contract", axis, s);
      if (std::exchange(used[static_cast<std::size_t>(axis)], true)) fail<ShapeError>("contract: axis {} of {} is named twice", axis, s);
    }
  std::vector<Index> free;
  for (Index i = 0; i < s.rank(); ++i)
    if (!used[static_cast<std::size_t>(i)]) free.push_back(i);
  return {std::move(batch), std::move(contracted), std::move(free)};
}
std::vector<Index> joined(std::initializer_list<std::vector<Index>> lists) {
  std::vector<Index> all;
  for (const std::vector<Index>& list : lists) all.insert(all.end(), list.begin(), list.end());
  return all;
}
std::vector<Index> extents(const Shape& s, const std::vector<Index>& axes) {
  std::vector<Index> all;
  for (const Index axis : axes) all.push_back(s[axis]);
  return all;
}
Index product(const Shape& s, const std::vector<Index>& axes) { return Shape(std::span<const Index>(extents(s, axes))).size(); }

// x as matrices [batch, free, contracted], or [batch, contracted, free] if its axes lie so already; without batch axes as one matrix.
struct Matrices {
  Var x;
  bool contracted_first;
};
Matrices matrices(const Var& x, const Roles& r) {
  const Shape s = x.shape();
  const std::vector<Index> turned = joined({r.batch, r.contracted, r.free});
  const bool first = std::is_sorted(turned.begin(), turned.end()) && !r.contracted.empty();
  std::vector<Index> to;
  if (!r.batch.empty()) to.push_back(product(s, r.batch));
  to.push_back(product(s, first ? r.contracted : r.free));
  to.push_back(product(s, first ? r.free : r.contracted));
  return {reshape(transpose(x, first ? turned : joined({r.batch, r.free, r.contracted})), Shape(std::span<const Index>(to))), first};
}

}  // namespace

std::span<const Primitive* const> contraction_primitives() { return family; }

Var dot(const Var& left, const Var& right, DotFlags flags) {
  const auto [a, b] = on_one_tape("dot", std::array{left, right});
  const Shape x = a.shape(), y = b.shape();
  const auto [ta, tb] = flags;
  if (x.rank() == 0 || y.rank() == 0) fail<ShapeError>("dot: operands need at least one axis, got {} and {}; use * with scalars", x, y);
  if (x.rank() == 1 || y.rank() == 1) {  // vectors, as in NumPy
    if ((x.rank() == 1 && ta) || (y.rank() == 1 && tb)) fail<ShapeError>("dot: a vector cannot be transposed, got {} and {}", x, y);
    const Var m = dot(x.rank() == 1 ? reshape(a, {1, x[0]}) : a, y.rank() == 1 ? reshape(b, {y[0], 1}) : b, flags);
    Shape s = m.shape();
    if (y.rank() == 1) s = s.erased(s.rank() - 1, 1);
    if (x.rank() == 1) s = s.erased(s.rank() - (y.rank() == 1 ? 1 : 2), 1);
    return reshape(m, s);
  }
  if (x.rank() > 2 && y.rank() == 2 && !ta) {  // leading axes of a are more rows
    const Index rows = x.size(0, x.rank() - 1);
    return reshape(dot(reshape(a, {rows, x[-1]}), b, flags), x.with(-1, tb ? y[0] : y[1]));
  }
  return emit(dot_p, std::array{a, b}, flags);
}

Var contract(const Var& left, std::vector<Index> axes_a, const Var& right, std::vector<Index> axes_b, std::vector<Index> batch_a, std::vector<Index> batch_b) {
  const auto [a, b] = on_one_tape("contract", std::array{left, right});
  const Shape x = a.shape(), y = b.shape();
  const Roles p = roles(x, std::move(batch_a), std::move(axes_a)), q = roles(y, std::move(batch_b), std::move(axes_b));
  if (extents(x, p.contracted) != extents(y, q.contracted) || extents(x, p.batch) != extents(y, q.batch))
    fail<ShapeError>("contract: axes [{}] of {} with [{}] of {}, batch axes [{}] with [{}]; as many on either side are needed, of equal extents",
                     fmt::join(p.contracted, ","), x, fmt::join(q.contracted, ","), y, fmt::join(p.batch, ","), fmt::join(q.batch, ","));
  const Matrices m = matrices(a, p), n = matrices(b, q);
  const std::vector<Index> shape = joined({extents(x, p.batch), extents(x, p.free), extents(y, q.free)});
  return reshape(dot(m.x, n.x, {m.contracted_first, !n.contracted_first}), Shape(std::span<const Index>(shape)));
}

}  // namespace linnet::autodiff
