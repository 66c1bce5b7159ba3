#include "linnet/ntk/empirical.h"

#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/kernels/gemm.h"
#include "linnet/ntk/check.h"
#include "linnet/ntk/gram.h"

#include <algorithm>

namespace linnet::ntk {

using namespace autodiff;

template <Scalar T> FullKernel<T>::FullKernel(Array<T> values, Index rows, Index columns, Index outputs) : values_(std::move(values)), rows_(rows), columns_(columns), outputs_(outputs) {
  if (outputs < 1 || values_.shape() != Shape{rows * outputs, columns * outputs})
    fail<ShapeError>("FullKernel: {} rows and {} columns of examples with {} outputs need values [{},{}], got {}", rows, columns, outputs, rows * outputs, columns * outputs, values_.shape());
}

template <Scalar T> Array<T> FullKernel<T>::to_peer_layout() const {
  Array<T> peer = Array<T>::uninitialized({rows_, columns_, outputs_, outputs_});
  T* to = peer.data();
  for (Index n = 0; n < rows_; ++n)
    for (Index m = 0; m < columns_; ++m)
      for (Index o = 0; o < outputs_; ++o, to += outputs_) std::copy_n(values_.data() + (n * outputs_ + o) * columns_ * outputs_ + m * outputs_, outputs_, to);
  return peer;
}

template <Scalar T> TracedKernel<T>::TracedKernel(Array<T> values, Index outputs) : values_(std::move(values)), outputs_(outputs) {
  if (values_.shape().rank() != 2 || outputs < 1) fail<ShapeError>("TracedKernel: a matrix over examples and at least one output are needed, got {} and {} outputs", values_.shape(), outputs);
}
template <Scalar T> Array<T> TracedKernel<T>::mean() const {
  Array<T> m = values_;
  for (T& v : m) v /= static_cast<T>(outputs_);
  return m;
}

namespace {

// One set of examples, or two: rows of x2, columns of x1.
template <class T> struct Question {
  const char* operation;
  const Apply& f;
  const Tree<Array<T>>& params;
  const Array<T>& x1;
  const Array<T>* x2;
  const Options& options;
  bool traced;
  Index n1 = 0, n2 = 0, outputs = 0;
  Index R() const { return traced ? 1 : outputs; }
  const Array<T>& rows() const { return x2 ? *x2 : x1; }
};

template <class T> void check(Question<T>& q) {
  check_finite(q.operation, "params", q.params);
  check_finite(q.operation, q.x2 ? "x1" : "x", q.x1);
  if (q.x2) check_finite(q.operation, "x2", *q.x2);
  const Tree<Shape> shapes = shapes_of(q.params);
  const Shape out = output_shape(q.operation, q.f, shapes, q.x1.shape());
  q.n1 = q.x1.shape()[0];
  q.n2 = q.rows().shape().rank() ? q.rows().shape()[0] : 0;
  q.outputs = out.size(1, out.rank());
  if (q.outputs == 0) fail<ShapeError>("{}: f has no outputs: it takes {} to {}", q.operation, q.x1.shape(), out);
  if (q.x2) {
    if (q.x2->shape().rank() != q.x1.shape().rank() || q.x2->shape().with(0, 0) != q.x1.shape().with(0, 0))
      fail<ShapeError>("{}: x2 {} and x1 {} must agree in all axes but the leading one", q.operation, q.x2->shape(), q.x1.shape());
    output_shape(q.operation, q.f, shapes, q.x2->shape());
  }
  if (!q.options.independent) return;
  check_independent(q.operation, q.f, q.params, q.x1);
  if (q.x2) check_independent(q.operation, q.f, q.params, *q.x2);
}

template <class T> void check_memory(const Question<T>& q, std::size_t bytes) {
  const std::size_t result = sizeof(T) * static_cast<std::size_t>(q.n2 * q.R() * q.n1 * q.R());
  if (q.options.max_memory && bytes + result > q.options.max_memory)
    fail<NumericalError>("{}: {} bytes are needed ({} of them the kernel), Options::max_memory is {}; use fewer examples, the traced kernel, or ntk::Operator", q.operation, bytes + result, result, q.options.max_memory);
}

Shape one_example(const Shape& x) { return x.with(0, 1); }

// Columns of J(x2) J(x1)^T: the cotangents of a group of rows of x1, pulled back and pushed forward. Independent examples are groups of their own, and the
// pull back sees no other; otherwise the whole batch is inside.
template <class T> void by_vector_products(const Question<T>& q, T* out) {
  const auto f = [&](const Tree<Var>& p, const Var& x) { return q.f(p, x); };
  const auto onto = linearize(f, q.params, q.rows());
  const Index O = q.outputs, R = q.R(), ld = q.n1 * R, group = q.options.independent ? 1 : q.n1, columns = std::min<Index>(group * O, 32);
  for (Index first = 0; first < q.n1; first += group) {
    const auto from = linearize(f, q.params, q.options.independent ? q.x1.rows(first, group) : q.x1);
    const Shape cotangent = from.value().shape();
    for (Index c = 0; c < group * O; c += columns) {
      const Index lanes = std::min(columns, group * O - c);
      Array<T> unit(cotangent.inserted(0, std::array{lanes}));
      for (Index l = 0; l < lanes; ++l) unit.data()[l * group * O + c + l] = 1;
      const Array<T> product = onto.jvp_lanes(from.vjp_lanes(unit));  // [lanes, n2, O]
      for (Index l = 0; l < lanes; ++l)
        for (Index n = 0; n < q.n2; ++n) {
          const Index column = first * O + c + l;
          const T* const row = product.data() + (l * q.n2 + n) * O;
          if (q.traced) out[n * ld + column / O] = (column % O ? out[n * ld + column / O] : T(0)) + row[column % O];
          else for (Index o = 0; o < O; ++o) out[(n * O + o) * ld + column] = row[o];
        }
    }
    if (q.options.progress && !q.options.progress({"kernel columns", static_cast<std::size_t>(first + group), static_cast<std::size_t>(q.n1), 0}))
      fail<NumericalError>("{}: cancelled by the progress function after {} of {} examples", q.operation, first + group, q.n1);
  }
  if (!q.x2)
    for (Index i = 0; i < ld; ++i)
      for (Index j = 0; j < i; ++j) out[j * ld + i] = out[i * ld + j];
}

// Floating-point operations of one example's forward pass, of a pull back of one cotangent, and of a push forward of one tangent.
struct Sweeps {
  double forward, backward, tangent;
};
Sweeps sweeps(const Apply& f, const Tree<Shape>& params, const Shape& example) {
  std::vector<Shape> shapes = autodiff::detail::shapes(params);
  Tape outer;
  std::vector<Var> p;
  for (const Shape& s : shapes) p.push_back(outer.input(s));
  const Var x = outer.input(example);
  const Linear l = linearize([&](std::span<const Var> in) { return std::vector{f(unflatten(params, std::vector<Var>(in.begin(), in.end() - 1)), in.back())}; }, p, std::array{x});
  Tape tape;
  std::vector<Var> in(p.size());
  for (const Var& r : l.residuals) in.push_back(tape.input(r.shape()));
  const Var ct = tape.input(l.out[0].shape());
  std::vector<Var> g = transpose(*l.map, in, std::array{ct});
  std::erase_if(g, [](const Var& v) { return v.is_zero(); });
  const Program backward = tape.seal(g);
  std::vector<Var> kept = l.residuals;
  kept.push_back(l.out[0]);
  return {cost(outer.seal(kept)).flops, cost(backward).flops, cost(*l.map).flops};
}

double flops_of(Method method, const GramPlan& structured, const GramPlan& jacobian, const Sweeps& s, double n1, double n2) {
  const double o = static_cast<double>(structured.outputs);
  const auto gram = [&](const GramPlan& p) { return (n1 + n2) * p.sweep_flops + n1 * n2 * p.pair_flops; };
  if (method == Method::structured) return gram(structured);
  if (method == Method::jacobian_contraction) return gram(jacobian);
  return n1 * (s.forward + o * s.backward) + n2 * s.forward + n1 * o * n2 * s.tangent;
}

template <class T> Method chosen(const Question<T>& q) {
  if (!q.options.independent) return Method::vector_products;
  if (q.options.method != Method::automatic) return q.options.method;
  const Tree<Shape> shapes = shapes_of(q.params);
  const Shape example = one_example(q.x1.shape());
  const GramPlan structured = plan_gram(q.f, shapes, example, q.n1, q.n2, q.traced, Contraction::automatic), jacobian = plan_gram(q.f, shapes, example, q.n1, q.n2, q.traced, Contraction::materialized);
  const Sweeps s = sweeps(q.f, shapes, example);
  Method best = Method::structured;
  for (const Method m : {Method::jacobian_contraction, Method::vector_products})
    if (flops_of(m, structured, jacobian, s, static_cast<double>(q.n1), static_cast<double>(q.n2)) < flops_of(best, structured, jacobian, s, static_cast<double>(q.n1), static_cast<double>(q.n2))) best = m;
  return best;
}

template <class T> Array<T> answer(Question<T> q) {
  check(q);
  Array<T> kernel = Array<T>::uninitialized({q.n2 * q.R(), q.n1 * q.R()});
  if (kernel.size() == 0) return kernel;
  const Method method = chosen(q);
  bool finite = false;
  if (method == Method::vector_products) {
    check_memory(q, 0);
    by_vector_products(q, kernel.data());
    finite = first_not_finite(std::span<const T>(kernel.values())) < 0;
  } else {
    const GramPlan plan = plan_gram(q.f, shapes_of(q.params), one_example(q.x1.shape()), q.n1, q.n2, q.traced, method == Method::structured ? Contraction::automatic : Contraction::materialized);
    check_memory(q, gram_bytes<T>(plan, q.n1, q.x2 ? q.n2 : 0));
    const Views<T> params = autodiff::detail::views<T>(q.params);
    finite = run_gram(plan, params, q.x1.data(), q.n1, q.x2 ? q.x2->data() : nullptr, q.n2, kernel.data(), q.options);
  }
  if (!finite) fail_not_finite(q.operation, q.f, q.params, q.x2 ? *q.x2 : q.x1);
  return kernel;
}

template <class T> Index outputs_of(const char* operation, const Apply& f, const Tree<Array<T>>& params, const Array<T>& x) {
  const Shape out = output_shape(operation, f, shapes_of(params), x.shape());
  return out.size(1, out.rank());
}

template <class T> FullKernel<T> full_kernel(const Apply& f, const Tree<Array<T>>& params, const Array<T>* x2, const Array<T>& x1, const Options& options) {
  Array<T> k = answer(Question<T>{"ntk::full", f, params, x1, x2, options, false});
  return {std::move(k), (x2 ? *x2 : x1).shape()[0], x1.shape()[0], outputs_of("ntk::full", f, params, x1)};
}

template <class T> Array<T> nngp_of(const Apply& f, const Tree<Array<T>>& params, const Array<T>* x2, const Array<T>& x1) {
  const char* const operation = "ntk::nngp";
  auto outputs = [&](const char* name, const Array<T>& x) {
    check_finite(operation, "params", params);
    check_finite(operation, name, x);
    output_shape(operation, f, shapes_of(params), x.shape());
    Array<T> y = compile([&](const Tree<Var>& p, const Var& v) { return f(p, v); }, params, x)(params, x);
    if (first_not_finite(std::span<const T>(y.values())) >= 0) fail_not_finite(operation, f, params, x);
    return y;
  };
  const Array<T> y1 = outputs(x2 ? "x1" : "x", x1), y2 = x2 ? outputs("x2", *x2) : y1;
  const Index n1 = y1.shape()[0], n2 = y2.shape()[0], o = y1.shape().size(1, y1.shape().rank());
  if (y2.shape().size(1, y2.shape().rank()) != o) fail<ShapeError>("{}: f takes x2 to {} and x1 to {}; the outputs must agree", operation, y2.shape(), y1.shape());
  Array<T> k = Array<T>::uninitialized({n2, n1});
  gemm(false, true, n2, n1, o, y2.data(), y1.data(), k.data());
  for (T& v : k) v /= static_cast<T>(o);
  if (!x2)
    for (Index i = 0; i < n1; ++i)
      for (Index j = 0; j < i; ++j) k.data()[j * n1 + i] = k.data()[i * n1 + j];
  return k;
}

}  // namespace

template <Scalar T> FullKernel<T> full(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options) { return full_kernel(f, params, static_cast<const Array<T>*>(nullptr), x, options); }
template <Scalar T> FullKernel<T> full(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x2, const Array<T>& x1, const Options& options) { return full_kernel(f, params, &x2, x1, options); }
template <Scalar T> TracedKernel<T> traced(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options) {
  Array<T> k = answer(Question<T>{"ntk::traced", f, params, x, nullptr, options, true});
  return {std::move(k), outputs_of("ntk::traced", f, params, x)};
}
template <Scalar T> TracedKernel<T> traced(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x2, const Array<T>& x1, const Options& options) {
  Array<T> k = answer(Question<T>{"ntk::traced", f, params, x1, &x2, options, true});
  return {std::move(k), outputs_of("ntk::traced", f, params, x1)};
}

template <Scalar T> Array<T> diagonal(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options) {
  constexpr Index block = 8;  // examples whose kernel is computed at once; only its diagonal is kept
  Question<T> q{"ntk::diagonal", f, params, x, nullptr, options, false};
  check(q);
  if (!options.independent) fail<TraceError>("ntk::diagonal: f must treat examples independently; take the diagonal of ntk::full instead");
  Array<T> d({q.n1, q.outputs});
  for (Index first = 0; first < q.n1; first += block) {
    const Index n = std::min(block, q.n1 - first);
    const Array<T> k = answer(Question<T>{"ntk::diagonal", f, params, x.rows(first, n), nullptr, options, false});
    for (Index i = 0; i < n * q.outputs; ++i) d.data()[first * q.outputs + i] = k.data()[i * (n * q.outputs + 1)];
  }
  return d;
}

template <Scalar T> Array<T> nngp(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x) { return nngp_of(f, params, static_cast<const Array<T>*>(nullptr), x); }
template <Scalar T> Array<T> nngp(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x2, const Array<T>& x1) { return nngp_of(f, params, &x2, x1); }

std::string explain(const Apply& f, const Tree<Shape>& params, const Shape& x, Index n1, Index n2, bool traced) {
  output_shape("ntk::explain", f, params, x);
  const Shape example = one_example(x);
  const GramPlan structured = plan_gram(f, params, example, n1, n2, traced, Contraction::automatic), jacobian = plan_gram(f, params, example, n1, n2, traced, Contraction::materialized);
  const Sweeps s = sweeps(f, params, example);
  std::string text = fmt::format("{} by {} examples, {} outputs{}\n", n2, n1, structured.outputs, traced ? ", traced" : "");
  for (const auto& [method, name] : {std::pair{Method::structured, "structured"}, {Method::jacobian_contraction, "jacobian_contraction"}, {Method::vector_products, "vector_products"}})
    text += fmt::format("  {:<21}{:9.3g} GFLOP\n", name, flops_of(method, structured, jacobian, s, static_cast<double>(n1), static_cast<double>(n2)) / 1e9);
  for (const auto& c : structured.choices) {
    text += fmt::format("  {} {}: ", c.parameter, c.shape);
    if (c.uses == 0) text += c.materialized > 0 || !c.factored ? "gradient materialized\n" : "not used\n";
    else text += fmt::format("{} ({} use{}, {} position{}; multiply-adds {:.3g} by factors, {:.3g} materialized)\n", c.factored ? "factors" : "gradient materialized", c.uses, c.uses > 1 ? "s" : "", c.positions, c.positions == 1 ? "" : "s", c.factors, c.materialized);
  }
  return text;
}

#define LINNET_INSTANTIATE(T)                                                                                                   \
  template class FullKernel<T>;                                                                                                 \
  template class TracedKernel<T>;                                                                                               \
  template FullKernel<T> full(const Apply&, const Tree<Array<T>>&, const Array<T>&, const Options&);                            \
  template FullKernel<T> full(const Apply&, const Tree<Array<T>>&, const Array<T>&, const Array<T>&, const Options&);           \
  template TracedKernel<T> traced(const Apply&, const Tree<Array<T>>&, const Array<T>&, const Options&);                        \
  template TracedKernel<T> traced(const Apply&, const Tree<Array<T>>&, const Array<T>&, const Array<T>&, const Options&);       \
  template Array<T> diagonal(const Apply&, const Tree<Array<T>>&, const Array<T>&, const Options&);                             \
  template Array<T> nngp(const Apply&, const Tree<Array<T>>&, const Array<T>&);                                                 \
  template Array<T> nngp(const Apply&, const Tree<Array<T>>&, const Array<T>&, const Array<T>&);
LINNET_INSTANTIATE(float)
LINNET_INSTANTIATE(double)

}  // namespace linnet::ntk
