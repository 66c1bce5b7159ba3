// Positive matrices: the Cholesky factor, triangular solves, and what is composed of them. The derivative of the factor L of A is L Phi(L^-1 dA L^-T), Phi the lower
// triangle with half the diagonal; all rules are in these operations, so any order follows.
#include "linnet/autodiff/ops/declare.h"

#include "linnet/autodiff/kernels/decompositions.h"
#include "linnet/autodiff/kernels/parallel.h"

#include <cmath>

namespace linnet::autodiff {
namespace {

using enum Operand;

Index matrices(const Shape& s) { return s.size(0, s.rank() - 2); }
Shape square_shape(const char* operation, const Shape& s) {
  if (s.rank() < 2 || s[-1] != s[-2]) fail<ShapeError>("{}: square matrices [..,n,n] are needed, got {}", operation, s);
  return s;
}
// " of matrix 2", where there are several.
std::string which(Index matrix, Index of) { return of > 1 ? fmt::format(" of matrix {}", matrix) : ""; }

// ---- lower_triangle: the diagonal times a number, zeros above
template <class T> void lower_eval(const KernelCall<T>& c) {
  const T diagonal = static_cast<T>(std::get<double>(c.attributes));
  const Index n = c.out_shape[-1];
  parallel_for(c.count() * matrices(c.out_shape), [&](Index m) {
    for (Index i = 0; i < n; ++i) {
      const T* const x = c.in[0] + (m * n + i) * n;
      T* const y = c.out + (m * n + i) * n;
      std::copy_n(x, i, y);
      y[i] = diagonal * x[i];
      std::fill(y + i + 1, y + n, T(0));
    }
  }, 65536 / (n * n + 1));
}
constexpr Primitive lower_p{
    .name = "lower_triangle", .operands = {linear}, .joint = true, .infer = [](Shapes in, const Attributes&) { return square_shape("lower_triangle", in[0]); },
    .eval = {lower_eval<float>, lower_eval<double>},
    .transpose = [](const Rule& r, int, Var ct) { return lower_triangle(ct, r.attribute<double>()); },
    .flops = [](Shapes, const Shape& out, const Attributes&) { return static_cast<double>(matrices(out) * out[-1]); }};  // of the diagonal

// ---- cholesky: of a symmetric matrix
template <class T> void cholesky_eval(const KernelCall<T>& c) {
  const Index n = c.out_shape[-1], count = matrices(c.out_shape);
  auto factor = [&](Index m) {
    T* const l = c.out + m * n * n;
    if (const Index row = cholesky(n, c.in[0] + m * n * n, l); row < n)
      fail<NumericalError>("cholesky: pivot {}{} of {} rows is {}, and must be positive and finite; the matrix is not positive definite, or a multiple of the "
                           "identity must be added to it", row, which(m % count, count), n, l[row * n + row]);
  };
  if (c.count() * count == 1) return factor(0);  // its tiles are the items
  parallel_for(c.count() * count, factor, 65536 / (n * n * n + 1));
}
double cholesky_flops(Shapes, const Shape& out, const Attributes&) {
  const double n = static_cast<double>(out[-1]);
  return n * n * n / 3 * static_cast<double>(matrices(out));
}
constexpr Primitive cholesky_p{
    .name = "cholesky", .operands = {smooth}, .infer = [](Shapes in, const Attributes&) { return square_shape("cholesky", in[0]); },
    .eval = {cholesky_eval<float>, cholesky_eval<double>},
    .jvp = [](const Rule& r, int, Var t) {  // t is symmetric, as the operand is
      const Var s = triangular_solve(r.out, swapped(triangular_solve(r.out, t)));
      return dot(r.out, lower_triangle(s, 0.5));
    },
    .flops = cholesky_flops};

// ---- triangular_solve: op(l) x = b
Shape solve_shape(Shapes in, const Attributes&) {
  square_shape("triangular_solve", in[0]);
  const Index r = in[0].rank();
  if (in[1].rank() != r || in[1].part(0, r - 1) != in[0].part(0, r - 1))
    fail<ShapeError>("triangular_solve: a factor [..,n,n] and right sides [..,n,k] or [..,n] are needed, with equal leading axes; got {} and {}", in[0], in[1]);
  return in[1];
}
template <class T> void solve_eval(const KernelCall<T>& c) {
  const Index n = c.out_shape[-2], k = c.out_shape[-1], count = matrices(c.out_shape);
  auto solve = [&](Index item) {
    const Index lane = item / count, m = item % count;
    const T* const l = c.lane(0, lane) + m * n * n;
    for (Index i = 0; i < n; ++i)
      if (const T d = l[i * n + i]; d == 0 || !std::isfinite(d))
        fail<NumericalError>("triangular_solve: entry {} on the diagonal{} of {} rows is {}; it must be finite and not 0", i, which(m, count), n, d);
    triangular_solve(std::get<Triangular>(c.attributes).transpose, n, k, l, c.lane(1, lane) + m * n * k, c.out + item * n * k);
  };
  if (c.count() * count == 1) return solve(0);  // columns are the items
  parallel_for(c.count() * count, solve, 65536 / (n * n * k + 1));
}
double solve_flops(Shapes in, const Shape& out, const Attributes&) { return static_cast<double>(out.size()) * static_cast<double>(in[0][-1]); }
constexpr Primitive solve_p{
    .name = "triangular_solve", .operands = {smooth, linear}, .infer = solve_shape, .eval = {solve_eval<float>, solve_eval<double>},
    .jvp = [](const Rule& r, int, Var t) {
      const bool transposed = r.attribute<Triangular>().transpose;
      return triangular_solve(r.in[0], -dot(lower_triangle(t), r.out, {transposed, false}), transposed);
    },
    .transpose = [](const Rule& r, int, Var ct) { return triangular_solve(r.in[0], ct, !r.attribute<Triangular>().transpose); },
    .flops = solve_flops};

const Primitive* const family[] = {&lower_p, &cholesky_p, &solve_p};

}  // namespace

std::span<const Primitive* const> linear_algebra_primitives() { return family; }

Var lower_triangle(const Var& x, double diagonal) { return emit(lower_p, std::array{x}, diagonal); }
Var diagonal(const Var& x) {
  const Shape s = square_shape("diagonal", shape_of("diagonal", x));
  const Index n = s[-1], r = s.rank() - 2;
  const Shape front = s.part(0, r);
  const auto with = [&](std::initializer_list<Index> last) { return front.inserted(r, std::span(last.begin(), last.size())); };
  if (n == 0) return reshape(x, with({0}));
  // In rows of n + 1 the diagonal is the first column.
  return reshape(slice(reshape(pad(reshape(x, with({n * n})), r, 0, n), with({n, n + 1})), r + 1, 0, 1), with({n}));
}
Var cholesky(const Var& a) {
  square_shape("cholesky", shape_of("cholesky", a));
  return emit(cholesky_p, std::array{0.5 * (a + swapped(a))});
}
Var triangular_solve(const Var& factor, const Var& right, bool transposed) {
  const auto [l, b] = on_one_tape("triangular_solve", std::array{factor, right});
  const Shape s = b.shape();
  const bool vectors = s.rank() + 1 == l.shape().rank();
  return reshape(emit(solve_p, std::array{l, vectors ? reshape(b, s.inserted(s.rank(), std::array<Index, 1>{1})) : b}, Triangular{transposed}), s);
}
Var solve_positive(const Var& a, const Var& b) {
  const Var l = cholesky(on_one_tape("solve_positive", std::array{a, b})[0]);
  return triangular_solve(l, triangular_solve(l, b), true);
}
Var logdet_positive(const Var& a) { return 2.0 * sum(log(diagonal(cholesky(a))), {-1}); }

}  // namespace linnet::autodiff
