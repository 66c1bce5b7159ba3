#include "linnet/ntk/check.h"

#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/numerics.h"

#include <cmath>
#include <limits>

namespace linnet::ntk {

using namespace autodiff;

namespace {

Function flat(const Apply& f, const Tree<Shape>& params) {
  return [&f, &params](std::span<const Var> in) { return std::vector{f(unflatten(params, std::vector<Var>(in.begin(), in.end() - 1)), in.back())}; };
}

template <Scalar T> Array<T> evaluate(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x) {
  const Tree<Shape> shapes = shapes_of(params);
  std::vector<Shape> all = detail::shapes(shapes);
  all.push_back(x.shape());
  return FlatFunction<T>(flat(f, shapes), all)(detail::views<T>(params, x))[0];
}

}  // namespace

Shape output_shape(const char* operation, const Apply& f, const Tree<Shape>& params, const Shape& x) {
  if (x.rank() == 0) fail<ShapeError>("{}: x must have a leading axis that counts examples, a scalar came", operation);
  std::vector<Shape> all = detail::shapes(params);
  all.push_back(x);
  const Program p = trace(flat(f, params), all);
  const Shape& out = p.shape(p.outputs[0]);
  if (out.rank() == 0 || out[0] != x[0]) fail<ShapeError>("{}: f must keep the leading axis of x, which counts examples; it takes {} to {}", operation, x, out);
  return out;
}

// Where every example is the same, values cannot tell: a mean over them is each of them. Then the derivative of the first output in the second example.
template <Scalar T> void check_independent_of_copies(const char* operation, const Apply& f, const Tree<Array<T>>& params, const Array<T>& both) {
  const auto map = linearize([&](const Var& x, const Tree<Var>& p) { return f(p, x); }, both, params);
  Array<T> tangent(both.shape());
  for (Index i = both.size() / 2; i < both.size(); ++i) tangent.data()[i] = static_cast<T>(1.0 / static_cast<double>(1 + i));
  const Array<T> out = map.jvp(tangent);
  const T bound = 64 * std::numeric_limits<T>::epsilon() * max_abs(out);
  for (Index i = 0; i < out.size() / 2; ++i)
    if (std::abs(out.data()[i]) > bound) fail<TraceError>("{}: f mixes examples (output {} of example 0 changes with a change of example 1); pass Options{{.independent = false}}", operation, i);
}

template <Scalar T> void check_independent(const char* operation, const Apply& f, const Tree<Array<T>>& params, const Array<T>& x) {
  const Index n = x.shape()[0];
  if (n < 2 || x.size() == 0) return;
  const Array<T> first = x.rows(0, 1);
  Index with = n - 1;  // the last that differs from the first
  while (with > 0 && std::equal(first.begin(), first.end(), x.data() + with * first.size())) --with;
  const bool copies = with == 0;
  if (copies) with = 1;
  const Array<T> last = x.rows(with, 1);
  Array<T> both(x.shape().with(0, 2));
  std::copy(last.begin(), last.end(), std::copy(first.begin(), first.end(), both.begin()));
  const Array<T> together = evaluate(f, params, both), a = evaluate(f, params, first), b = evaluate(f, params, last);
  if (together.size() != 2 * a.size()) fail<ShapeError>("{}: f takes two examples to {} and one to {}; it must keep the leading axis and nothing else may depend on it", operation, together.shape(), a.shape());
  const double scale = std::max(static_cast<double>(max_abs(together)), static_cast<double>(max_abs(a))), bound = 64 * std::numeric_limits<T>::epsilon() * scale;
  for (Index i = 0; i < together.size(); ++i) {
    const double change = std::abs(static_cast<double>(together.data()[i]) - static_cast<double>(i < a.size() ? a.data()[i] : b.data()[i - a.size()]));
    if (change > bound)
      fail<TraceError>("{}: f mixes examples (output {} of example {} changes by {:.3g} when example {} is present); pass Options{{.independent = false}}", operation, i % a.size(), i < a.size() ? 0 : with, change, i < a.size() ? with : 0);
  }
  if (copies) check_independent_of_copies(operation, f, params, both);
}

namespace {

// The first value of f that is not finite, for x in parts of so many examples.
template <Scalar T> void check_instructions(const char* operation, const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, Index part) {
  const Tree<Shape> shapes = shapes_of(params);
  std::vector<Shape> all = detail::shapes(shapes);
  all.push_back(x.shape().with(0, part));
  const Program p = trace(flat(f, shapes), all);
  for (Index n = 0; n < x.shape()[0]; n += part) {
    const Array<T> some = x.rows(n, part);
    if (const auto found = find_not_finite(p, detail::views<T>(params, some)))
      fail<NumericalError>("{}: the result is not finite: {}{}; scale the inputs or parameters, or compute in double", operation, describe(p, *found), part == x.shape()[0] ? "" : fmt::format(" for example {}", n));
  }
}

}  // namespace

template <Scalar T> void fail_not_finite(const char* operation, const Apply& f, const Tree<Array<T>>& params, std::vector<const Array<T>*> sets, bool independent) {
  for (const Array<T>* x : sets)
    if (const Index n = x->shape()[0]; n > 0) check_instructions(operation, f, params, *x, independent ? 1 : n);
  fail<NumericalError>("{}: the result is not finite although f is: a derivative of f is infinite, or a product overflows; scale the inputs or parameters, or compute in double", operation);
}

#define LINNET_INSTANTIATE(T)                                                                                          \
  template void check_independent(const char*, const Apply&, const Tree<Array<T>>&, const Array<T>&);                  \
  template void fail_not_finite(const char*, const Apply&, const Tree<Array<T>>&, std::vector<const Array<T>*>, bool);
LINNET_INSTANTIATE(float)
LINNET_INSTANTIATE(double)

}  // namespace linnet::ntk
