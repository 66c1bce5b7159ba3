// loss_flow.h: checks at the door, then one State for both sources: an equation (integrate.h) whose products are those of a stored kernel, or of the network.
#include "linnet/predict/loss_flow.h"

#include "linnet/autodiff/finite.h"
#include "linnet/autodiff/kernels/gemm.h"
#include "linnet/predict/integrate.h"
#include "linnet/predict/minimum.h"
#include "linnet/predict/network.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace linnet::predict {

using autodiff::cast;
using autodiff::check_finite;
using autodiff::fail;
using autodiff::NumericalError;
using autodiff::ShapeError;
using autodiff::StructureError;

template <Scalar T> struct LossTraining<T>::State {
  Law law;
  Array<double> f0;  // [n, …]
  bool traced = false;
  std::optional<Network> network;
  Path path;
  Numbers limit = {};  // y at t = infinity, once it has been asked for

  const Numbers& at_infinity() {
    if (law.steps()) fail<StructureError>("{0}: steps are carried out one by one; where they converge, t = infinity is that of {1}", name(), law.motion == Motion::momentum ? "momentum_flow" : "gradient_flow");
    if (limit.empty()) limit = minimum(path.equation());
    return limit;
  }

  const char* name() const { return law.name(); }
  Index kernel_columns() const { return traced ? f0.shape()[0] : f0.size(); }
  Shape outputs_of(Index examples) const { return f0.shape().with(0, examples); }
  Array<double> of_rows(const double* values) const { return Array<double>(f0.shape(), std::span(values, static_cast<std::size_t>(f0.size()))); }
  Array<double> coefficients(const Numbers& y) const { return of_rows(y.data()); }
  double shrink(const Numbers& y) const { return law.weight_decay > 0 ? y[static_cast<std::size_t>(f0.size())] : 0; }  // s - 1
  Array<double> train(const Numbers& y) const { return f0 + of_rows(path.equation().kz(y)); }

  const Network& need_network(const char* operation) const {
    if (!network)
      fail<StructureError>("{0}: this training was made from a kernel and has no network; make it by {1}(f, params, x, y, loss), or give predict the kernel and f0 of the test examples", operation, name());
    return *network;
  }
  Array<double> checked(const char* operation, const Array<T>& x_new) const {
    const Shape& x = need_network(operation).x().shape();
    if (x_new.shape().rank() != x.rank() || x_new.shape().with(0, x[0]) != x)
      fail<ShapeError>("{}: x_new is {}, the examples trained on are {}; they may differ in the leading axis only", operation, x_new.shape(), x);
    check_finite(operation, "x_new", x_new);
    return cast<double>(x_new);
  }
  Points points(const Array<double>& x) const {
    if (x.size() == 0) return {Array<double>(Shape{0, f0.size()}), Array<double>(outputs_of(x.shape()[0])), Array<double>(outputs_of(x.shape()[0]))};
    return {network->kernel(x), network->value(x), law.weight_decay > 0 ? network->pull(x) : Array<double>()};
  }
  // f0(x_new) + K(x_new, x) c + (s - 1) A(x_new) theta0.
  Array<double> predict(const Points& at, const Numbers& y) const {
    const Index n = kernel_columns(), rows = at.kernel.shape().rank() > 0 ? at.kernel.shape()[0] : 0, width = f0.size() / n;
    if (at.kernel.shape().rank() != 2 || at.kernel.shape()[1] != n)
      fail<ShapeError>("predict: the kernel of test and training examples is {}, its columns must be the {} rows of the kernel trained on", at.kernel.shape(), n);
    if (at.f0.shape().rank() != f0.shape().rank() || at.f0.shape() != outputs_of(at.f0.shape()[0]) || at.f0.size() != rows * width)
      fail<ShapeError>("predict: f0 of the test examples is {} beside a kernel of {}; training outputs are {}, and it must have a row for each of the kernel's", at.f0.shape(), at.kernel.shape(), f0.shape());
    if (law.weight_decay > 0 && at.pull.shape() != at.f0.shape())
      fail<StructureError>("predict: weights decay here, and predictions need A theta0 of the new examples besides their kernel and f0; give predict the examples, or their points()");
    check_finite("predict", "the kernel of test and training examples", at.kernel);
    check_finite("predict", "f0 of the test examples", at.f0);
    Array<double> f = at.f0;
    if (rows > 0) autodiff::gemm(false, false, rows, width, n, at.kernel.data(), y.data(), f.data(), true);
    return law.weight_decay > 0 ? f + shrink(y) * at.pull : f;
  }
};

namespace {

template <Scalar T> Array<T> answer(const char* operation, double t, const Array<double>& values) {
  Array<T> result = cast<T>(values);
  check_finite(operation, fmt::format("the answer at t = {:.6g}", t), result);
  return result;
}

// ---- making it

Law law_of(Motion motion, const LossOptions& o) {
  Law law{.motion = motion, .rate = o.rate, .ridge = o.ridge, .weight_decay = o.weight_decay};
  if (motion == Motion::momentum || motion == Motion::momentum_flow) {
    law.momentum = o.momentum;
    law.nesterov = o.nesterov;
  }
  if (motion == Motion::momentum_flow && o.nesterov) fail<StructureError>("momentum_flow: Nesterov's steps have no flow of their own; for small rates they become the heavy ball's, without nesterov");
  law.check();
  if (!(std::isfinite(o.relative_ridge) && o.relative_ridge >= 0)) fail<NumericalError>("{}: the relative ridge must be finite and not negative, got {}", law.name(), o.relative_ridge);
  if (o.relative_ridge > 0 && o.matrix_free) fail<StructureError>("{}: a relative ridge is one of the kernel's diagonal, which is not there with matrix_free; give the ridge itself", law.name());
  for (const double tolerance : {o.rtol, o.atol})
    if (!(tolerance >= 1e-13 && tolerance < 1)) fail<NumericalError>("{}: rtol and atol must be from 1e-13 to 1, got {} and {}; below that it is rounding that decides", law.name(), o.rtol, o.atol);
  if (o.max_products < 1) fail<NumericalError>("{}: max_products must be positive, got {}", law.name(), o.max_products);
  return law;
}

Integration start_of(const Law& law, const LossOptions& o, Index size) {
  const Stepping stepping = law.steps() ? Stepping::descent : Stepping::dopri5;
  if (!o.start) return {.method = stepping};
  const Index came = static_cast<Index>(o.start->values.size());
  if ((o.start->method == Stepping::descent) != law.steps() || (came != 0 && came != size) || (came == 0 && o.start->t != 0))
    fail<StructureError>("{}: the state to start from has {} numbers and {}; this training has {} and {}; go on by what made it, with the same options", law.name(), came,
                         o.start->method == Stepping::descent ? "counts steps" : "is of a flow", size, law.steps() ? "counts steps" : "is a flow");
  if (o.start->method == Stepping::exprb43 && law.motion == Motion::momentum_flow) fail<StructureError>("{}: the state to start from takes steps of exprb43, which are not for momentum; go on by what made it", law.name());
  for (const double v : o.start->values)
    if (!std::isfinite(v)) fail<NumericalError>("{}: the state to start from has {}; every value must be finite", law.name(), v);
  if (!(o.start->t >= 0 && o.start->h >= 0 && std::isfinite(o.start->t) && std::isfinite(o.start->h)))
    fail<NumericalError>("{}: the state to start from is at t = {} with h = {}; both must be finite and not negative", law.name(), o.start->t, o.start->h);
  return *o.start;
}

double trace(const Array<double>& kernel) {
  double sum = 0;
  for (Index i = 0; i < kernel.shape()[0]; ++i) sum += kernel.data()[i * kernel.shape()[0] + i];
  return sum;
}
void add_relative_ridge(Law& law, const LossOptions& o, const Array<double>& kernel) {
  if (o.relative_ridge > 0) law.ridge += o.relative_ridge * trace(kernel) / static_cast<double>(kernel.shape()[0]);
}

// [n, n] with `columns` columns alike.
Product stored(Array<double> kernel, Index columns) {
  return [kernel = std::make_shared<const Array<double>>(std::move(kernel)), columns](const double* v, double* kv) {
    const Index n = kernel->shape()[0];
    autodiff::gemm(false, false, n, columns, n, kernel->data(), v, kv);
  };
}

// One more row and column: A theta0, and theta0 with itself.
Product decaying(Product inner, Array<double> pull, double square) {
  return [inner = std::move(inner), pull = std::move(pull), square](const double* v, double* kv) {
    const Index n = pull.size();
    inner(v, kv);
    kv[n] = dot(pull, Array<double>(pull.shape(), std::span(v, static_cast<std::size_t>(n)))) + square * v[n];
    for (Index i = 0; i < n; ++i) kv[i] += v[n] * pull.data()[i];
  };
}

Equation equation_of(const Law& law, const Loss& loss, const LossOptions& o, const Array<double>& f0, const Array<double>& y, Product product) {
  const double rows = static_cast<double>(f0.size());
  Equation e{.operation = law.name(), .loss = LossOn(law.name(), loss, f0.shape(), y), .f0 = f0.reshaped(Shape{f0.size()}), .kernel = std::move(product)};
  e.rate = law.rate;
  e.ridge = law.ridge / rows + law.weight_decay;
  e.decay = law.weight_decay;
  e.rtol = o.rtol;
  e.atol = o.atol;
  e.noise = std::numeric_limits<double>::infinity();
  if (law.motion == Motion::momentum_flow) e.friction = (1 - law.momentum) / std::sqrt(law.rate);
  if (law.motion == Motion::momentum) e.momentum = law.momentum, e.nesterov = law.nesterov;
  return e;
}

template <Scalar T> void check_examples(const char* operation, const char* what, const Array<T>& values) {
  if (values.shape().rank() == 0 || values.size() == 0) fail<ShapeError>("{}: {} is {}; there must be at least one example and one output", operation, what, values.shape());
}

template <Scalar T> LossTraining<T> training(const Law& law, const LossOptions& o, Array<double> f0, bool traced, std::optional<Network> network, Equation e) {
  Integration start = start_of(law, o, e.size());
  using State = typename LossTraining<T>::State;
  return LossTraining<T>(std::make_shared<State>(State{law, std::move(f0), traced, std::move(network), Path(std::move(e), std::move(start), o.max_products)}));
}

template <Scalar T> LossTraining<T> train(Motion motion, const ntk::Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Array<T>& y, const Loss& loss, const LossOptions& o) {
  Law law = law_of(motion, o);
  const char* name = law.name();
  check_examples(name, "x", x);
  check_finite(name, "params", params);
  check_finite(name, "x", x);
  const bool decays = law.weight_decay > 0;
  Network network(name, f, map([](const Array<T>& leaf) { return cast<double>(leaf); }, params), cast<double>(x), o.rates, o.kernel, decays);
  const Array<double> f0 = network.f0();
  check_examples(name, "f(params, x)", f0);
  Product product;
  if (o.matrix_free) {
    product = [network, shape = f0.shape()](const double* v, double* kv) {
      const Array<double> kept = network.product(Array<double>(shape, std::span(v, static_cast<std::size_t>(shape.size()))));
      std::copy(kept.begin(), kept.end(), kv);
    };
  } else {
    Array<double> kernel = network.kernel();
    add_relative_ridge(law, o, kernel);
    product = stored(std::move(kernel), 1);
  }
  if (decays) product = decaying(std::move(product), network.pull().reshaped(Shape{f0.size()}), network.decaying_square());
  return training<T>(law, o, f0, false, std::move(network), equation_of(law, loss, o, f0, cast<double>(y), std::move(product)));
}

// matrix [n, n], which acts on `columns` columns alike.
template <Scalar T> LossTraining<T> train(Motion motion, const Array<T>& matrix, Index columns, bool traced, const Array<T>& f0, const Array<T>& y, const Loss& loss, const LossOptions& o) {
  Law law = law_of(motion, o);
  const char* name = law.name();
  if (law.weight_decay > 0) fail<StructureError>("{0}: weight decay moves the outputs by A theta0, which a kernel does not know; make it by {0}(f, params, x, y, loss)", name);
  if (o.rates.is_leaf() || !o.rates.children().empty()) fail<StructureError>("{0}: a kernel has no weights for rates to belong to; make it by {0}(f, params, x, y, loss)", name);
  if (o.matrix_free) fail<StructureError>("{0}: a kernel that is there is multiplied with; products without one are those of {0}(f, params, x, y, loss)", name);
  check_examples(name, "f0", f0);
  check_finite(name, "f0", f0);
  Array<double> kernel = checked_kernel(name, matrix);
  const Index n = kernel.shape()[0];
  if (f0.size() != n * columns || (traced && f0.shape()[0] != n))
    fail<ShapeError>("{}: f0 is {}, the kernel is {}{}; it must be of the training examples with themselves", name, f0.shape(), kernel.shape(), traced ? fmt::format(" for each of {} outputs", columns) : "");
  add_relative_ridge(law, o, kernel);
  const double no_eigenvalue_above = trace(kernel);
  Equation e = equation_of(law, loss, o, cast<double>(f0), cast<double>(y), stored(std::move(kernel), columns));
  e.noise = std::max(static_cast<double>(n), 10.0) * static_cast<double>(std::numeric_limits<T>::epsilon()) * std::abs(no_eigenvalue_above);
  return training<T>(law, o, cast<double>(f0), traced, std::nullopt, std::move(e));
}

template <Scalar T> LossTraining<T> train(Motion motion, const ntk::FullKernel<T>& kernel, const Array<T>& f0, const Array<T>& y, const Loss& loss, const LossOptions& o) {
  return train(motion, kernel.matrix(), 1, false, f0, y, loss, o);
}
template <Scalar T> LossTraining<T> train(Motion motion, const TraceApproximation<T>& kernel, const Array<T>& f0, const Array<T>& y, const Loss& loss, const LossOptions& o) {
  return train(motion, kernel.kernel, kernel.outputs, true, f0, y, loss, o);
}

}  // namespace

// ---- using it

template <Scalar T> LossTrained<T> LossTraining<T>::operator()(double t) const {
  State& s = *state_;
  s.law.check_time(s.name(), t);
  return LossTrained<T>(state_, t, std::isinf(t) ? s.at_infinity() : s.path.at(t));
}

template <Scalar T> Points LossTraining<T>::points(const Array<T>& x_new) const { return state_->points(state_->checked("points", x_new)); }
template <Scalar T> Index LossTraining<T>::rows() const { return state_->f0.size(); }
template <Scalar T> const Integration& LossTraining<T>::state() const { return state_->path.from(); }

namespace {

// f of each time, one behind the other: asked in order, so that no step is repeated.
template <class F> auto in_order(std::span<const double> times, F&& f) {
  std::vector<std::size_t> order(times.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return times[a] < times[b]; });
  std::vector<decltype(f(0.0))> all(times.size());
  for (const std::size_t k : order) all[k] = f(times[k]);
  return all;
}

template <Scalar T> Array<T> stacked(const std::vector<Array<T>>& all, const Shape& one) {
  Array<T> result = Array<T>::uninitialized(one.inserted(0, std::array{static_cast<Index>(all.size())}));
  T* to = result.data();
  for (const Array<T>& a : all) to = std::copy(a.begin(), a.end(), to);
  return result;
}

}  // namespace

template <Scalar T> Array<double> LossTraining<T>::coefficients(std::span<const double> times) const {
  return stacked(in_order(times, [&](double t) { return (*this)(t).coefficients(); }), state_->f0.shape());
}
template <Scalar T> std::vector<Tree<Array<T>>> LossTraining<T>::weights(std::span<const double> times) const {
  state_->need_network("weights");
  return in_order(times, [&](double t) { return (*this)(t).weights(); });
}
template <Scalar T> Array<T> LossTraining<T>::train(std::span<const double> times) const {
  return stacked(in_order(times, [&](double t) { return (*this)(t).train(); }), state_->f0.shape());
}
template <Scalar T> Array<T> LossTraining<T>::predict(const Points& points, std::span<const double> times) const {
  return stacked(in_order(times, [&](double t) { return (*this)(t).predict(points); }), points.f0.shape());
}

template <Scalar T> Array<T> LossTrained<T>::train() const { return answer<T>("train", t_, state_->train(y_)); }
template <Scalar T> Array<T> LossTrained<T>::predict(const Points& points) const {
  if (state_->traced) fail<StructureError>("predict: this training was made from a traced kernel; give it the traced kernel of test and training examples by approximate_by_trace");
  return answer<T>("predict", t_, state_->predict(points, y_));
}
template <Scalar T> Array<T> LossTrained<T>::predict(const ntk::FullKernel<T>& kernel_test_train, const Array<T>& f0_test) const {
  return predict(Points{cast<double>(kernel_test_train.matrix()), cast<double>(f0_test)});
}
template <Scalar T> Array<T> LossTrained<T>::predict(const TraceApproximation<T>& kernel_test_train, const Array<T>& f0_test) const {
  if (!state_->traced) fail<StructureError>("predict: this training was made from a full kernel; give it the full kernel of test and training examples");
  const Index n = state_->kernel_columns();
  const Points at{cast<double>(kernel_test_train.kernel), cast<double>(f0_test)};
  if (kernel_test_train.outputs != state_->f0.size() / n)
    fail<ShapeError>("predict: the traced kernel is of {} outputs, the one trained on of {}", kernel_test_train.outputs, state_->f0.size() / n);
  return answer<T>("predict", t_, state_->predict(at, y_));
}
template <Scalar T> Tree<Array<T>> LossTrained<T>::weights() const {
  const Network& network = state_->need_network("weights");
  return map([&](const Array<double>& leaf) { return answer<T>("weights", t_, leaf); }, network.weights(state_->coefficients(y_), state_->shrink(y_)));
}
template <Scalar T> Array<T> LossTrained<T>::linearized(const Array<T>& x_new) const {
  const Array<double> x = state_->checked("linearized", x_new);
  if (x.size() == 0) return Array<T>(state_->outputs_of(x.shape()[0]));
  return answer<T>("linearized", t_, state_->network->linearized(x, state_->coefficients(y_), state_->shrink(y_)));
}
template <Scalar T> double LossTrained<T>::loss() const {
  const double loss = state_->path.equation().loss(state_->train(y_).data());
  if (!std::isfinite(loss)) fail<NumericalError>("loss: the loss of the outputs at t = {:.6g} is {}; its gradient is finite there, and trains on", t_, loss);
  return loss;
}
template <Scalar T> Array<double> LossTrained<T>::coefficients() const { return state_->coefficients(y_); }

// Every door: three sources each.
#define LINNET_DOOR(NAME)                                                                                                                                                                        \
  template <Scalar T> LossTraining<T> NAME(const ntk::Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Array<T>& y, const Loss& loss, const LossOptions& options) {             \
    return train(Motion::NAME, f, params, x, y, loss, options);                                                                                                                                  \
  }                                                                                                                                                                                              \
  template <Scalar T> LossTraining<T> NAME(const ntk::FullKernel<T>& kernel, const Array<T>& f0, const Array<T>& y, const Loss& loss, const LossOptions& options) {                              \
    return train(Motion::NAME, kernel, f0, y, loss, options);                                                                                                                                    \
  }                                                                                                                                                                                              \
  template <Scalar T> LossTraining<T> NAME(const TraceApproximation<T>& kernel, const Array<T>& f0, const Array<T>& y, const Loss& loss, const LossOptions& options) {                           \
    return train(Motion::NAME, kernel, f0, y, loss, options);                                                                                                                                    \
  }
LINNET_DOOR(gradient_flow)
LINNET_DOOR(gradient_descent)
LINNET_DOOR(momentum)
LINNET_DOOR(momentum_flow)

#define LINNET_INSTANTIATE_DOOR(NAME, T)                                                                                                                           \
  template LossTraining<T> NAME(const ntk::Apply&, const Tree<Array<T>>&, const Array<T>&, const Array<T>&, const Loss&, const LossOptions&);                      \
  template LossTraining<T> NAME(const ntk::FullKernel<T>&, const Array<T>&, const Array<T>&, const Loss&, const LossOptions&);                                     \
  template LossTraining<T> NAME(const TraceApproximation<T>&, const Array<T>&, const Array<T>&, const Loss&, const LossOptions&);
#define LINNET_INSTANTIATE(T)                   \
  template class LossTraining<T>;               \
  template class LossTrained<T>;                \
  LINNET_INSTANTIATE_DOOR(gradient_flow, T)     \
  LINNET_INSTANTIATE_DOOR(gradient_descent, T)  \
  LINNET_INSTANTIATE_DOOR(momentum, T)          \
  LINNET_INSTANTIATE_DOOR(momentum_flow, T)
LINNET_INSTANTIATE(float)
LINNET_INSTANTIATE(double)

}  // namespace linnet::predict
