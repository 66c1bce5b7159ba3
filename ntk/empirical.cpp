#include "linnet/ntk/empirical.h"

#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/kernels/gemm.h"
#include "linnet/autodiff/plan.h"
#include "linnet/autodiff/table.h"
#include "linnet/ntk/check.h"
#include "linnet/ntk/gram.h"
#include "linnet/ntk/memory.h"
#include "linnet/ntk/parts.h"
#include "linnet/ntk/plan.h"
#include "linnet/ntk/progress.h"
#include "linnet/ntk/question.h"

#include <algorithm>
#include <cmath>
#include <optional>

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

// ShapeError if there are none.
Index outputs_of(const char* operation, const Apply& f, const Tree<Shape>& params, const Shape& x) {
  const Shape out = output_shape(operation, f, params, x);
  const Index outputs = out.size(1, out.rank());
  if (outputs == 0) fail<ShapeError>("{}: f has no outputs: it takes {} to {}", operation, x, out);
  return outputs;
}

}  // namespace

template <Scalar T> void check(Question<T>& q) {
  check_finite(q.operation, "params", q.params);
  check_finite(q.operation, q.x2 ? "x1" : "x", q.x1);
  if (q.x2) check_finite(q.operation, "x2", *q.x2);
  const Tree<Shape> shapes = shapes_of(q.params);
  q.outputs = outputs_of(q.operation, q.f, shapes, q.x1.shape());
  q.n1 = q.x1.shape()[0];
  q.n2 = q.rows().shape().rank() ? q.rows().shape()[0] : 0;
  if (q.x2) {
    if (q.x2->shape().rank() != q.x1.shape().rank() || q.x2->shape().with(0, 0) != q.x1.shape().with(0, 0))
      fail<ShapeError>("{}: x2 {} and x1 {} must agree in all axes but the leading one", q.operation, q.x2->shape(), q.x1.shape());
    output_shape(q.operation, q.f, shapes, q.x2->shape());
  }
  q.memory = memory_limit(q.options);
  if (!q.options.independent) return;
  check_independent(q.operation, q.f, q.params, q.x1);
  if (q.x2) check_independent(q.operation, q.f, q.params, *q.x2);
}

namespace {

constexpr Index vector_lanes = 32;  // cotangents that are pulled back at once
constexpr std::pair<Method, const char*> method_names[] = {{Method::structured, "structured"}, {Method::jacobian_contraction, "jacobian_contraction"}, {Method::vector_products, "vector_products"}};

Shape one_example(const Shape& x) { return x.with(0, 1); }

// Columns of J(x2) J(x1)^T: the cotangents of a group of rows of x1, pulled back and pushed forward. Independent examples are groups of their own, and the
// pull back sees no other; otherwise the whole batch is inside.
template <class T> void by_vector_products(const Question<T>& q, T* out) {
  if (q.params.leaves().empty()) {  // no tangents to push forward
    std::fill_n(out, q.n2 * q.R() * q.n1 * q.R(), T(0));
    return;
  }
  const auto f = [&](const Tree<Var>& p, const Var& x) { return q.f(p, x); };
  const auto onto = linearize(f, q.params, q.rows());
  const Index O = q.outputs, R = q.R(), ld = q.n1 * R, group = q.options.independent ? 1 : q.n1, columns = std::min<Index>(group * O, vector_lanes);
  Reporter reporter(q.operation, q.options.progress, "kernel columns", static_cast<std::size_t>(q.n1 / group));
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
    reporter.done();
    reporter.check();
  }
  reporter.finish();
  if (!q.x2)
    for (Index i = 0; i < ld; ++i)
      for (Index j = 0; j < i; ++j) out[j * ld + i] = out[i * ld + j];
}

// Floating-point operations of one example's forward pass, of a pull back of one cotangent, and of a push forward of one tangent; and numbers in memory: residuals, and
// what executors of several lanes plan.
struct Sweeps {
  double forward, backward, tangent, residuals = 0, backward_arena = 0, tangent_arena = 0;
};
Sweeps sweeps(const Apply& f, const Tree<Shape>& params, const Shape& example, Index lanes = 0) {
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
  Sweeps s{0, cost(backward).flops, cost(*l.map).flops};
  for (const Var& r : kept) s.residuals += static_cast<double>(r.shape().size());
  s.forward = cost(outer.seal(kept)).flops;
  if (lanes == 0) return s;
  std::vector<Varies> of_cotangent(l.residuals.size(), Varies::nothing);
  of_cotangent.push_back(Varies::directions);
  s.backward_arena = static_cast<double>(make_plan(backward, of_cotangent, {1, lanes}).arena);
  s.tangent_arena = static_cast<double>(make_plan(*l.map, std::vector<Varies>(p.size(), Varies::directions), {1, lanes}).arena);
  return s;
}

// Numbers in flight of vector products besides the kernel.
template <class T> double vector_product_numbers(const Question<T>& q) {
  const Tree<Shape> shapes = shapes_of(q.params);
  if (shapes.leaves().empty()) return 0;
  const Index group = q.options.independent ? 1 : q.n1, lanes = std::min(group * q.outputs, vector_lanes);
  const Sweeps onto = sweeps(q.f, shapes, q.rows().shape(), lanes), from = sweeps(q.f, shapes, q.x1.shape().with(0, group), lanes);
  double of_params = 0;
  for (const Shape* s : shapes.leaves()) of_params += static_cast<double>(s->size());
  return onto.residuals + onto.tangent_arena + from.residuals + from.backward_arena + static_cast<double>(lanes) * (of_params + static_cast<double>((q.n2 + group) * q.outputs));
}

double flops_of(Method method, const GramPlan& structured, const GramPlan& jacobian, const Sweeps& s, double n1, double n2) {
  const double o = static_cast<double>(structured.outputs);
  const auto gram = [&](const GramPlan& p) { return (n1 + n2) * p.sweep_flops + n1 * n2 * p.pair_flops; };
  if (method == Method::structured) return gram(structured);
  if (method == Method::jacobian_contraction) return gram(jacobian);
  return n1 * (s.forward + o * s.backward) + n2 * s.forward + n1 * o * n2 * s.tangent;
}

template <class T> Method chosen(const Question<T>& q, std::initializer_list<Method> others = {Method::jacobian_contraction, Method::vector_products}) {
  if (!q.options.independent) return Method::vector_products;
  if (q.options.method != Method::automatic) return q.options.method;
  const Tree<Shape> shapes = shapes_of(q.params);
  const Shape example = one_example(q.x1.shape());
  const GramPlan structured = plan_gram(q.f, shapes, example, q.n1, q.n2, q.traced, Contraction::automatic), jacobian = plan_gram(q.f, shapes, example, q.n1, q.n2, q.traced, Contraction::materialized);
  const Sweeps s = sweeps(q.f, shapes, example);
  Method best = Method::structured;
  for (const Method m : others)
    if (flops_of(m, structured, jacobian, s, static_cast<double>(q.n1), static_cast<double>(q.n2)) < flops_of(best, structured, jacobian, s, static_cast<double>(q.n1), static_cast<double>(q.n2))) best = m;
  return best;
}

template <class T> GramPlan plan_of(const Question<T>& q, Method method) {
  return plan_gram(q.f, shapes_of(q.params), one_example(q.x1.shape()), q.n1, q.n2, q.traced, method == Method::structured ? Contraction::automatic : Contraction::materialized);
}

template <class T> std::size_t result_bytes(const Question<T>& q, Index n2, Index n1) { return sizeof(T) * static_cast<std::size_t>(n2 * q.R() * n1 * q.R()); }

// The least there must be for so many examples, of one set with itself or against the rows there are.
template <class T> std::size_t least_bytes(const Question<T>& q, const std::optional<GramPlan>& plan, Index n1, bool in_memory) {
  const Index n2 = q.x2 ? q.n2 : n1;
  return (in_memory ? result_bytes(q, n2, n1) : 0) + (plan ? gram_bytes<T>(*plan, n1, q.x2 ? q.n2 : 0, most_in_flight<T>(*plan, n1, q.x2 ? q.n2 : 0, 0)) : sizeof(T) * static_cast<std::size_t>(vector_product_numbers(q)));
}

template <class T> [[noreturn]] void fail_too_large(const Question<T>& q, const std::optional<GramPlan>& plan, bool in_memory) {
  Index fits = 0;
  for (Index above = plan ? q.n1 : 0; above - fits > 1;) {  // examples fit, above do not
    const Index middle = fits + (above - fits) / 2;
    (least_bytes(q, plan, middle, in_memory) <= q.memory ? fits : above) = middle;
  }
  const std::string kernel = in_memory ? fmt::format(" ({} of them the kernel)", result_bytes(q, q.n2, q.n1)) : "";
  const std::string limit = q.options.max_memory ? fmt::format("Options::max_memory is {}", q.memory) : fmt::format("{} are left on this machine and within the limits of this process", q.memory);
  fail<NumericalError>("{}: {} bytes are needed{}, {}; use fewer examples, the traced kernel, or ntk::Operator{}", q.operation, least_bytes(q, plan, q.n1, in_memory), kernel, limit,
                       fits ? fmt::format(" ({} {} would fit)", fits, q.x2 ? "columns" : "examples") : "");
}

}  // namespace

template <Scalar T> InFlight in_flight_of(const Question<T>& q, const std::optional<GramPlan>& plan, bool in_memory) {
  const std::size_t result = in_memory ? result_bytes(q, q.n2, q.n1) : 0;
  const InFlight most = plan ? most_in_flight<T>(*plan, q.n1, q.x2 ? q.n2 : 0, q.memory - std::min(q.memory, result)) : InFlight{0};
  const std::size_t needed = plan ? result + gram_bytes<T>(*plan, q.n1, q.x2 ? q.n2 : 0, most) : least_bytes(q, plan, q.n1, in_memory);
  if (needed > q.memory) fail_too_large(q, plan, in_memory);
  return most;
}

template <Scalar T> std::optional<GramPlan> plan_of(const Question<T>& q) {
  const Method method = chosen(q);
  if (method == Method::vector_products) return {};
  return plan_of(q, method);
}

template <Scalar T> bool run(const Question<T>& q, const std::optional<GramPlan>& plan, T* out) {
  const InFlight in_flight = in_flight_of(q, plan);
  if (plan) return run_gram(*plan, autodiff::detail::views<T>(q.params), q.x1.data(), q.n1, q.x2 ? q.x2->data() : nullptr, q.x2 ? q.n2 : 0, in_flight, out, q.options);
  by_vector_products(q, out);
  return first_not_finite(std::span<const T>(out, static_cast<std::size_t>(q.n2 * q.R() * q.n1 * q.R()))) < 0;
}

template <Scalar T> GramPlan plan_tiles(const Question<T>& q, Method& method) {
  method = chosen(q, {Method::jacobian_contraction});
  if (method == Method::vector_products)
    fail<StructureError>("{}: {} has no tiles to store; take Method::structured or Method::jacobian_contraction{}", q.operation, q.options.independent ? "Method::vector_products" : "a function that mixes examples",
                         q.options.independent ? "" : ", and a function that treats examples independently");
  return plan_of(q, method);
}

template <Scalar T> void fail_not_finite(const Question<T>& q) {
  ntk::fail_not_finite(q.operation, q.f, q.params, q.x2 ? std::vector{q.x2, &q.x1} : std::vector{&q.x1}, q.options.independent);
}

namespace {

template <class T> Array<T> answer(Question<T>& q) {
  check(q);
  if (q.n1 == 0 || q.n2 == 0) return Array<T>({q.n2 * q.R(), q.n1 * q.R()});
  const std::optional<GramPlan> plan = plan_of(q);
  in_flight_of(q, plan);  // before there is memory for the kernel
  Array<T> kernel = Array<T>::uninitialized({q.n2 * q.R(), q.n1 * q.R()});
  if (!run(q, plan, kernel.data())) fail_not_finite(q);
  return kernel;
}

template <class T> FullKernel<T> full_kernel(const Apply& f, const Tree<Array<T>>& params, const Array<T>* x2, const Array<T>& x1, const Options& options) {
  Question<T> q{"ntk::full", f, params, x1, x2, options, false};
  Array<T> k = answer(q);
  return {std::move(k), q.n2, q.n1, q.outputs};
}

template <class T> Array<T> nngp_of(const Apply& f, const Tree<Array<T>>& params, const Array<T>* x2, const Array<T>& x1) {
  const char* const operation = "ntk::nngp";
  auto outputs = [&](const char* name, const Array<T>& x) {
    check_finite(operation, "params", params);
    check_finite(operation, name, x);
    outputs_of(operation, f, shapes_of(params), x.shape());
    Array<T> y = compile([&](const Tree<Var>& p, const Var& v) { return f(p, v); }, params, x)(params, x);
    if (first_not_finite(std::span<const T>(y.values())) >= 0) ntk::fail_not_finite(operation, f, params, std::vector{&x}, false);
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
  Question<T> q{"ntk::traced", f, params, x, nullptr, options, true};
  Array<T> k = answer(q);
  return {std::move(k), q.outputs};
}
template <Scalar T> TracedKernel<T> traced(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x2, const Array<T>& x1, const Options& options) {
  Question<T> q{"ntk::traced", f, params, x1, &x2, options, true};
  Array<T> k = answer(q);
  return {std::move(k), q.outputs};
}

namespace {

// take(example, its block of the kernel, the distance of rows): for every example, with the kernels of a few at a time.
template <class T, class Take> void for_blocks(Question<T>& q, Take&& take) {
  constexpr Index block = 8;  // examples whose kernel is computed at once
  if (!q.options.independent) fail<TraceError>("{}: f must treat examples independently; take the diagonal of ntk::full instead", q.operation);
  check(q);
  if (q.n1 == 0) return;
  Options quiet = q.options;  // the blocks are what is told
  quiet.progress = nullptr;
  const auto some = [&](const Array<T>& part) { return Question<T>{q.operation, q.f, q.params, part, nullptr, quiet, q.traced, part.shape()[0], part.shape()[0], q.outputs, q.memory}; };
  const Array<T> first = q.x1.rows(0, std::min(block, q.n1));
  const std::optional<GramPlan> plan = plan_of(some(first));
  Reporter reporter(q.operation, q.options.progress, "diagonal blocks", static_cast<std::size_t>((q.n1 + block - 1) / block));
  Array<T> k({first.shape()[0] * q.R(), first.shape()[0] * q.R()});
  for (Index i = 0; i < q.n1; i += block) {
    const Array<T> part = q.x1.rows(i, std::min(block, q.n1 - i));
    const Index n = part.shape()[0], ld = n * q.R();
    if (!run(some(part), plan, k.data())) fail_not_finite(q);
    for (Index e = 0; e < n; ++e) take(i + e, k.data() + e * q.R() * (ld + 1), ld);
    reporter.done();
    reporter.check();
  }
  reporter.finish();
}

}  // namespace

template <Scalar T> Array<T> diagonal(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options) {
  Question<T> q{"ntk::diagonal", f, params, x, nullptr, options, false};
  std::vector<T> d;
  for_blocks(q, [&](Index, const T* k, Index ld) {
    for (Index o = 0; o < q.outputs; ++o) d.push_back(k[o * (ld + 1)]);
  });
  return {Shape{q.n1, q.outputs}, std::span<const T>(d)};
}
template <Scalar T> Array<T> traced_diagonal(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options) {
  Question<T> q{"ntk::traced_diagonal", f, params, x, nullptr, options, true};
  std::vector<T> d;
  for_blocks(q, [&](Index, const T* k, Index) { d.push_back(*k); });
  return {Shape{q.n1}, std::span<const T>(d)};
}
template <Scalar T> Array<T> blocks(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options) {
  Question<T> q{"ntk::blocks", f, params, x, nullptr, options, false};
  std::vector<T> b;
  for_blocks(q, [&](Index, const T* k, Index ld) {
    for (Index o = 0; o < q.outputs; ++o) b.insert(b.end(), k + o * ld, k + o * ld + q.outputs);
  });
  return {Shape{q.n1, q.outputs, q.outputs}, std::span<const T>(b)};
}

template <Scalar T> Array<T> nngp(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x) { return nngp_of(f, params, static_cast<const Array<T>*>(nullptr), x); }
template <Scalar T> Array<T> nngp(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x2, const Array<T>& x1) { return nngp_of(f, params, &x2, x1); }

std::string explain(const Apply& f, const Tree<Shape>& params, const Shape& x, Index n1, Index n2, bool traced) {
  outputs_of("ntk::explain", f, params, x);
  const Shape example = one_example(x);
  const GramPlan structured = plan_gram(f, params, example, n1, n2, traced, Contraction::automatic), jacobian = plan_gram(f, params, example, n1, n2, traced, Contraction::materialized);
  const Sweeps s = sweeps(f, params, example);
  std::string text = fmt::format("{} by {} examples, {} outputs{}\n", n2, n1, structured.outputs, traced ? ", traced" : "");
  for (const auto& [method, name] : method_names)
    text += fmt::format("  {:<21}{:9.3g} GFLOP\n", name, flops_of(method, structured, jacobian, s, static_cast<double>(n1), static_cast<double>(n2)) / 1e9);
  for (const auto& c : structured.choices) {
    text += fmt::format("  {} {}: ", c.parameter, c.shape);
    const std::string uses = fmt::format("{} use{}, {} position{}{}", c.uses, c.uses > 1 ? "s" : "", c.positions, c.positions == 1 ? "" : "s", c.gathered ? ", rows by index" : "");
    if (c.uses == 0) text += "not used\n";
    else if (std::isinf(c.factors)) text += fmt::format("gradient materialized (it has no factors; multiply-adds {:.3g})\n", c.materialized);
    else text += fmt::format("{} ({}; multiply-adds {:.3g} by factors, {:.3g} materialized)\n", c.factored ? "factors" : "gradient materialized", uses, c.factors, c.materialized);
  }
  return text;
}

namespace {

// Why a parameter is treated as it is.
std::string reason(const GramPlan::Choice& c, bool materialized) {
  if (c.uses == 0) return "not used";
  if (materialized) return "gradients: the method";
  if (std::isinf(c.factors)) return "gradients: it has no factors";
  if (c.factored && c.gathered) return fmt::format("factors by index: {:.3g} times fewer operations", c.materialized / c.factors);
  if (c.factors == 0) return "factors: beside a weight they cost nothing";
  return c.factored ? fmt::format("factors: {:.3g} times fewer operations", c.materialized / c.factors) : fmt::format("gradients: {:.3g} times fewer operations", c.factors / c.materialized);
}

template <class T> std::string parameters_table(const GramPlan& plan, bool materialized) {
  std::vector<std::vector<std::string>> rows{{"parameter", "uses", "positions", "by factors", "", "by gradients", "", "taken"}};
  for (const auto& c : plan.choices) {
    const bool factors = c.uses > 0 && !std::isinf(c.factors);
    rows.push_back({fmt::format("{} {}", c.parameter, c.shape), fmt::format("{}", c.uses), factors ? fmt::format("{}", c.positions) : "", factors ? fmt::format("{:.3g} FLOP", 2 * c.factors) : "",
                    factors ? in_bytes(sizeof(T) * c.factor_numbers) : "", c.uses ? fmt::format("{:.3g} FLOP", 2 * c.materialized) : "", c.uses ? in_bytes(sizeof(T) * c.gradient_numbers) : "", reason(c, materialized)});
  }
  return aligned(rows, "  ");
}

template <class T> KernelPlan planned(Question<T> q) {
  check(q);
  KernelPlan k;
  k.available = q.memory;
  k.result = result_bytes(q, q.n2, q.n1);
  k.table = fmt::format("{} of {} by {} examples, {} output{}, {}, {} thread{}\n", q.operation, q.n2, q.n1, q.outputs, q.outputs == 1 ? "" : "s", sizeof(T) == 4 ? "float" : "double", thread_count(), thread_count() == 1 ? "" : "s");
  if (q.n1 == 0 || q.n2 == 0) return k;
  k.method = chosen(q);
  const Tree<Shape> shapes = shapes_of(q.params);
  const Shape example = one_example(q.x1.shape());
  if (q.options.independent) {
    const GramPlan structured = plan_of(q, Method::structured), jacobian = plan_of(q, Method::jacobian_contraction);
    const Sweeps s = sweeps(q.f, shapes, example);
    std::vector<std::vector<std::string>> rows{{"method", "operations", "taken"}};
    for (const auto& [method, name] : method_names) {
      const double flops = flops_of(method, structured, jacobian, s, static_cast<double>(q.n1), static_cast<double>(q.n2));
      if (method == k.method) k.flops = flops;
      rows.push_back({name, fmt::format("{:.3g} FLOP", flops), method != k.method ? "" : q.options.method == Method::automatic ? "the fewest" : "as Options::method says"});
    }
    k.table += aligned(rows, "  ") + (k.method == Method::vector_products ? "" : parameters_table<T>(structured, k.method != Method::structured));
  } else {
    const Sweeps s = sweeps(q.f, shapes, q.x1.shape());
    k.flops = s.forward + static_cast<double>(q.n1 * q.outputs) * (s.backward + s.tangent);
    k.table += fmt::format("  vector_products, {:.3g} FLOP: the only method where examples are mixed\n", k.flops);
  }
  const std::optional<GramPlan> plan = plan_of(q);
  k.peak = k.least = least_bytes(q, plan, q.n1, true);
  if (plan) {
    k.tile = tile_examples(*plan, q.n1, q.x2 ? q.n2 : 0);
    k.tiles = (q.n2 + k.tile - 1) / k.tile;
    const InFlight in_flight = k.fits() ? in_flight_of(q, plan) : most_in_flight<T>(*plan, q.n1, q.x2 ? q.n2 : 0, 0);
    k.panel = in_flight.panel;
    k.peak = k.result + gram_bytes<T>(*plan, q.n1, q.x2 ? q.n2 : 0, in_flight);
    k.table += fmt::format("  in flight: {} tile{} of {} examples at a time, down and across, of {} by {}{}\n", k.panel, k.panel == 1 ? "" : "s", k.tile, k.tiles, (q.n1 + k.tile - 1) / k.tile, in_flight.alone ? "; one chunk of examples at a time" : "");
  }
  k.table += fmt::format("  memory: {} at most, {} of them the kernel; {} at least; {} {}\n", in_bytes(static_cast<double>(k.peak)), in_bytes(static_cast<double>(k.result)), in_bytes(static_cast<double>(k.least)),
                         in_bytes(static_cast<double>(k.available)), q.options.max_memory ? "are allowed" : "are left on this machine and within the limits of this process");
  return k;
}

}  // namespace

template <Scalar T> KernelPlan plan_full(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options) { return planned(Question<T>{"ntk::full", f, params, x, nullptr, options, false}); }
template <Scalar T> KernelPlan plan_full(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x2, const Array<T>& x1, const Options& options) {
  return planned(Question<T>{"ntk::full", f, params, x1, &x2, options, false});
}
template <Scalar T> KernelPlan plan_traced(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options) { return planned(Question<T>{"ntk::traced", f, params, x, nullptr, options, true}); }
template <Scalar T> KernelPlan plan_traced(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x2, const Array<T>& x1, const Options& options) {
  return planned(Question<T>{"ntk::traced", f, params, x1, &x2, options, true});
}

#define LINNET_INSTANTIATE(T)                                                                                                   \
  template void check(Question<T>&);                                                                                            \
  template GramPlan plan_tiles(const Question<T>&, Method&);                                                                    \
  template void fail_not_finite(const Question<T>&);                                                                            \
  template class FullKernel<T>;                                                                                                 \
  template class TracedKernel<T>;                                                                                               \
  template FullKernel<T> full(const Apply&, const Tree<Array<T>>&, const Array<T>&, const Options&);                            \
  template FullKernel<T> full(const Apply&, const Tree<Array<T>>&, const Array<T>&, const Array<T>&, const Options&);           \
  template TracedKernel<T> traced(const Apply&, const Tree<Array<T>>&, const Array<T>&, const Options&);                        \
  template TracedKernel<T> traced(const Apply&, const Tree<Array<T>>&, const Array<T>&, const Array<T>&, const Options&);       \
  template Array<T> diagonal(const Apply&, const Tree<Array<T>>&, const Array<T>&, const Options&);                             \
  template Array<T> traced_diagonal(const Apply&, const Tree<Array<T>>&, const Array<T>&, const Options&);                      \
  template Array<T> blocks(const Apply&, const Tree<Array<T>>&, const Array<T>&, const Options&);                               \
  template KernelPlan plan_full(const Apply&, const Tree<Array<T>>&, const Array<T>&, const Options&);                          \
  template KernelPlan plan_full(const Apply&, const Tree<Array<T>>&, const Array<T>&, const Array<T>&, const Options&);         \
  template KernelPlan plan_traced(const Apply&, const Tree<Array<T>>&, const Array<T>&, const Options&);                        \
  template KernelPlan plan_traced(const Apply&, const Tree<Array<T>>&, const Array<T>&, const Array<T>&, const Options&);       \
  template std::optional<GramPlan> plan_of(const Question<T>&);                                                                 \
  template InFlight in_flight_of(const Question<T>&, const std::optional<GramPlan>&, bool);                                     \
  template bool run(const Question<T>&, const std::optional<GramPlan>&, T*);                                                    \
  template Array<T> nngp(const Apply&, const Tree<Array<T>>&, const Array<T>&);                                                 \
  template Array<T> nngp(const Apply&, const Tree<Array<T>>&, const Array<T>&, const Array<T>&);
LINNET_INSTANTIATE(float)
LINNET_INSTANTIATE(double)

}  // namespace linnet::ntk
