#include "linnet/ntk/parts.h"

#include "linnet/autodiff/fail.h"
#include "linnet/ntk/check.h"
#include "linnet/ntk/memory.h"
#include "linnet/ntk/question.h"

#include <optional>

namespace linnet::ntk {

using namespace autodiff;

namespace {

// ---- by output

template <class T> Array<T> over_outputs(const Apply& f, const Tree<Array<T>>& params, const Array<T>* x2, const Array<T>& x1, const Options& options) {
  Question<T> q{"ntk::diagonal_over_outputs", f, params, x1, x2, options, false};
  check(q);
  Array<T> all = Array<T>::uninitialized({q.n2, q.n1, q.outputs});
  for (Index o = 0; o < q.outputs && all.size() > 0; ++o) {
    const Apply one = [&f, o, outputs = q.outputs](const Tree<Var>& p, const Var& x) {
      const Index n = x.shape()[0];
      return slice(reshape(f(p, x), {n, outputs}), 1, o, 1);
    };
    const FullKernel<T> k = x2 ? full(one, params, *x2, x1, options) : full(one, params, x1, options);
    for (Index i = 0; i < q.n2 * q.n1; ++i) all.data()[i * q.outputs + o] = k.matrix().data()[i];
  }
  return all;
}

// ---- by parameter

// f with every derivative but those of the parameters [first, last).
Apply of_some(const Apply& f, std::size_t first, std::size_t last) {
  return [&f, first, last](const Tree<Var>& params, const Var& x) {
    std::size_t i = 0;
    return f(map([&](const Var& p) { return i >= first && i < last ? (++i, p) : (++i, stop_gradient(p)); }, params), x);
  };
}

template <class T> FullKernel<T> kernel_of(std::type_identity<FullKernel<T>>, const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options) { return full(f, params, x, options); }
template <class T> TracedKernel<T> kernel_of(std::type_identity<TracedKernel<T>>, const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options) {
  return traced(f, params, x, options);
}

template <class Kernel, class T> Tree<Kernel> by_parameter(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options) {
  std::size_t i = 0;
  return map([&](const Array<T>&) {
    const std::size_t at = i++;
    return kernel_of<T>(std::type_identity<Kernel>(), of_some(f, at, at + 1), params, x, options);
  }, params);
}

template <class Kernel, class T> Tree<Kernel> by_layer(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options) {
  if (params.is_leaf()) return by_parameter<Kernel>(f, params, x, options);
  std::vector<typename Tree<Kernel>::Child> layers;
  std::size_t first = 0;
  for (const auto& [name, child] : params.children()) {
    const std::size_t last = first + child.leaves().size();
    if (last > first) layers.emplace_back(name, kernel_of<T>(std::type_identity<Kernel>(), of_some(f, first, last), params, x, options));  // not those without parameters
    first = last;
  }
  return Tree<Kernel>(std::move(layers));
}

}  // namespace

template <Scalar T> Array<T> diagonal_over_outputs(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options) {
  return over_outputs(f, params, static_cast<const Array<T>*>(nullptr), x, options);
}
template <Scalar T> Array<T> diagonal_over_outputs(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x2, const Array<T>& x1, const Options& options) { return over_outputs(f, params, &x2, x1, options); }

template <Scalar T> Tree<FullKernel<T>> full_by_parameter(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options) { return by_parameter<FullKernel<T>>(f, params, x, options); }
template <Scalar T> Tree<TracedKernel<T>> traced_by_parameter(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options) { return by_parameter<TracedKernel<T>>(f, params, x, options); }
template <Scalar T> Tree<FullKernel<T>> full_by_layer(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options) { return by_layer<FullKernel<T>>(f, params, x, options); }
template <Scalar T> Tree<TracedKernel<T>> traced_by_layer(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options) { return by_layer<TracedKernel<T>>(f, params, x, options); }

// ---- on demand

template <Scalar T> struct Pairs<T>::State {
  Apply f;
  Tree<Array<T>> params;
  Array<T> x;
  Options options;
  Index outputs = 0;
  std::optional<GramPlan> full, traced;

  Question<T> question(const Array<T>& x1, const Array<T>* x2, bool is_traced) const {
    return {"ntk::Pairs", f, params, x1, x2, options, is_traced, x1.shape()[0], x2 ? x2->shape()[0] : x1.shape()[0], outputs, memory_limit(options)};
  }
  Array<T> chosen(std::span<const Index> list) const {
    const Index n = x.shape()[0], width = x.shape().size(1, x.shape().rank());
    Array<T> some = Array<T>::uninitialized(x.shape().with(0, static_cast<Index>(list.size())));
    T* to = some.data();
    for (const Index i : list) {
      if (i < 0 || i >= n) fail<ShapeError>("ntk::Pairs: there is no example {}; x has {}, counted from 0", i, n);
      to = std::copy_n(x.data() + i * width, width, to);
    }
    return some;
  }
  Array<T> kernel(const Array<T>& x1, const Array<T>* x2, bool is_traced) const {
    const Question<T> q = question(x1, x2, is_traced);
    Array<T> k = Array<T>::uninitialized({q.n2 * q.R(), q.n1 * q.R()});
    if (k.size() == 0) return k;
    if (!run(q, is_traced ? traced : full, k.data())) fail_not_finite(q);
    return k;
  }
  Array<T> kernel(std::span<const Index> rows, std::span<const Index> columns, bool is_traced) const {
    const Array<T> x2 = chosen(rows);
    return kernel(chosen(columns), &x2, is_traced);
  }
};

template <Scalar T> Pairs<T>::Pairs(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options) {
  if (!options.independent) fail<TraceError>("ntk::Pairs: f must treat examples independently; take ntk::full of the examples that are wanted together");
  Question<T> q{"ntk::Pairs", f, params, x, nullptr, options, false};
  check(q);
  auto s = std::make_shared<State>(State{f, params, x, options, q.outputs, {}, {}});
  const Question<T> all = s->question(s->x, nullptr, false), sum = s->question(s->x, nullptr, true);
  s->full = plan_of(all);
  s->traced = plan_of(sum);
  state_ = std::move(s);
}

template <Scalar T> FullKernel<T> Pairs<T>::operator()(std::span<const Index> rows, std::span<const Index> columns) const {
  return {state_->kernel(rows, columns, false), static_cast<Index>(rows.size()), static_cast<Index>(columns.size()), state_->outputs};
}
template <Scalar T> FullKernel<T> Pairs<T>::operator()(std::span<const Index> examples) const {
  const Index n = static_cast<Index>(examples.size());
  return {state_->kernel(state_->chosen(examples), nullptr, false), n, n, state_->outputs};
}
template <Scalar T> TracedKernel<T> Pairs<T>::traced(std::span<const Index> rows, std::span<const Index> columns) const { return {state_->kernel(rows, columns, true), state_->outputs}; }
template <Scalar T> TracedKernel<T> Pairs<T>::traced(std::span<const Index> examples) const { return {state_->kernel(state_->chosen(examples), nullptr, true), state_->outputs}; }
template <Scalar T> Index Pairs<T>::examples() const { return state_->x.shape()[0]; }
template <Scalar T> Index Pairs<T>::outputs() const { return state_->outputs; }

#define LINNET_INSTANTIATE(T)                                                                                                                       \
  template Array<T> diagonal_over_outputs(const Apply&, const Tree<Array<T>>&, const Array<T>&, const Options&);                                    \
  template Array<T> diagonal_over_outputs(const Apply&, const Tree<Array<T>>&, const Array<T>&, const Array<T>&, const Options&);                   \
  template Tree<FullKernel<T>> full_by_parameter(const Apply&, const Tree<Array<T>>&, const Array<T>&, const Options&);                             \
  template Tree<TracedKernel<T>> traced_by_parameter(const Apply&, const Tree<Array<T>>&, const Array<T>&, const Options&);                         \
  template Tree<FullKernel<T>> full_by_layer(const Apply&, const Tree<Array<T>>&, const Array<T>&, const Options&);                                 \
  template Tree<TracedKernel<T>> traced_by_layer(const Apply&, const Tree<Array<T>>&, const Array<T>&, const Options&);                             \
  template class Pairs<T>;
LINNET_INSTANTIATE(float)
LINNET_INSTANTIATE(double)

}  // namespace linnet::ntk
