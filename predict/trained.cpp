// trained.h: checks at the door, then one State for both sources. Of the network there are a linear operator at params and the function itself;
// from a kernel these are absent.
#include "linnet/predict/trained.h"

#include "linnet/autodiff/kernels/gemm.h"
#include "linnet/autodiff/finite.h"

#include <algorithm>
#include <cmath>
#include <optional>

namespace linnet::predict {

using autodiff::cast;
using autodiff::check_finite;
using autodiff::fail;
using autodiff::NumericalError;
using autodiff::Shape;
using autodiff::ShapeError;
using autodiff::StructureError;

namespace {

// The network at its initial weights, in double.
struct Network {
  ntk::Apply apply;
  Tree<Array<double>> params;
  Array<double> x;
  ntk::Options options;
  ntk::Operator<double> derivative;
};

template <Scalar T> Tree<Array<double>> widened(const Tree<Array<T>>& tree) {
  return map([](const Array<T>& leaf) { return cast<double>(leaf); }, tree);
}

// The answer in the user's type, where a value may overflow that did not in double.
template <Scalar T> Array<T> answer(const char* operation, double t, const Array<double>& values) {
  Array<T> result = cast<T>(values);
  check_finite(operation, fmt::format("the answer at t = {:.6g}", t), result);
  return result;
}

template <Scalar T> void check_same_rows(const Array<T>& f0, const Array<T>& y) {
  if (f0.shape() != y.shape()) fail<ShapeError>("gradient_flow: y is {}, the outputs f0 it is the target of are {}; reshape y to that", y.shape(), f0.shape());
  check_finite("gradient_flow", "f0", f0);
  check_finite("gradient_flow", "y", y);
}

// f(params, x), a few examples at a time where they are independent. The number is a constant of the build.
Array<double> evaluate(const Network& network, const Array<double>& x) {
  const Index n = x.shape()[0], chunk = network.options.independent ? 256 : std::max<Index>(n, 1);
  std::optional<Array<double>> result;
  for (Index first = 0; first < n; first += chunk) {
    const Index count = std::min(chunk, n - first);
    const Array<double> part = x.rows(first, count);
    const Array<double> f = autodiff::compile(network.apply, network.params, part)(network.params, part);
    if (f.shape().rank() == 0 || f.shape()[0] != count)
      fail<ShapeError>("predict: f of {} examples answered {}; the leading axis must count the examples", count, f.shape());
    if (!result) result = Array<double>::uninitialized(f.shape().with(0, n));
    std::copy(f.begin(), f.end(), result->data() + first * (f.size() / count));
  }
  return std::move(*result);
}

}  // namespace

template <Scalar T> struct GradientFlow<T>::State {
  Array<double> f0;  // [n, …]
  Dynamics dynamics;
  bool traced = false;  // the kernel acts on examples, and on outputs alike
  std::optional<Network> network;

  Shape outputs_of(Index examples) const { return f0.shape().with(0, examples); }
  Index outputs() const { return f0.size() / f0.shape()[0]; }

  const Network& need_network(const char* operation) const {
    if (!network)
      fail<StructureError>(
          "{}: this flow was made from a kernel and has no network; make it by gradient_flow(f, params, x, y), "
          "or give predict the kernel and f0 of the test examples",
          operation);
    return *network;
  }
  Array<double> checked(const char* operation, const Array<T>& x_new) const {
    const Shape& x = need_network(operation).x.shape();
    if (x_new.shape().rank() != x.rank() || x_new.shape().with(0, x[0]) != x)
      fail<ShapeError>("{}: x_new is {}, the examples trained on are {}; they may differ in the leading axis only", operation, x_new.shape(), x);
    check_finite(operation, "x_new", x_new);
    return cast<double>(x_new);
  }
  Points points(const Array<double>& x) const {
    return {ntk::full(network->apply, network->params, x, network->x, network->options).matrix(), evaluate(*network, x)};
  }

  // K(x_new, x) c + f0(x_new).
  Array<double> predict(const Array<double>& kernel, const Array<double>& f0_test, double t) const {
    const Index n = dynamics.spectrum().size(), rows = kernel.shape()[0];
    if (kernel.shape().rank() != 2 || kernel.shape()[1] != n)
      fail<ShapeError>("predict: the kernel of test and training examples is {}, its columns must be the {} rows of the kernel trained on", kernel.shape(), n);
    const Index columns = f0.size() / n;
    if (f0_test.shape().rank() != f0.shape().rank() || f0_test.shape() != outputs_of(f0_test.shape()[0]) || f0_test.size() != rows * columns)
      fail<ShapeError>("predict: f0 of the test examples is {} beside a kernel of {}; with training outputs of {} it must be {}", f0_test.shape(), kernel.shape(), f0.shape(),
                       outputs_of(traced ? rows : rows / outputs()));
    check_finite("predict", "the kernel of test and training examples", kernel);
    check_finite("predict", "f0 of the test examples", f0_test);
    Array<double> result = f0_test;
    const Array<double> c = dynamics.coefficients(t);
    autodiff::gemm(false, false, rows, columns, n, kernel.data(), c.data(), result.data(), true);
    return result;
  }

  // Chunks of new examples bound the memory of their kernel to about a gigabyte; the size follows from the shapes alone.
  Array<double> predict(const Array<double>& x, double t) const {
    const Index examples = x.shape()[0], chunk = std::max<Index>(32, (Index(1) << 27) / (f0.size() * outputs() + 1));
    Array<double> result = Array<double>::uninitialized(outputs_of(examples));
    for (Index first = 0; first < examples; first += chunk) {
      const Points part = points(x.rows(first, std::min(chunk, examples - first)));
      const Array<double> f = predict(part.kernel, part.f0, t);
      std::copy(f.begin(), f.end(), result.data() + first * outputs());
    }
    return result;
  }

  Tree<Array<double>> weight_change(double t) const { return network->derivative.vjp(dynamics.coefficients(t).reshaped(f0.shape())); }
};

// ---- making a flow

namespace {

// f0 - y in the shape the kernel acts on: [N], or [n, outputs] where it is traced.
Array<double> residual(const Array<double>& f0, const Array<double>& y, bool traced) {
  const Index n = f0.shape()[0];
  return (f0 - y).reshaped(traced ? Shape{n, f0.size() / n} : Shape{f0.size()});
}

template <Scalar T> void check_examples(const char* what, const Array<T>& values) {
  if (values.shape().rank() == 0 || values.size() == 0) fail<ShapeError>("gradient_flow: {} is {}; there must be at least one example and one output", what, values.shape());
}

}  // namespace

template <Scalar T> GradientFlow<T> gradient_flow(const ntk::Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Array<T>& y, const FlowOptions& options) {
  check_examples("x", x);
  check_finite("gradient_flow", "params", params);
  check_finite("gradient_flow", "x", x);
  const Tree<Array<double>> at = widened(params);
  Network network{f, at, cast<double>(x), options.kernel, ntk::Operator<double>(f, at, cast<double>(x), options.kernel)};
  const Array<double> f0 = network.derivative.value(), target = cast<double>(y);
  check_same_rows(f0, target);
  check_examples("f(params, x)", f0);
  Dynamics dynamics(Spectrum(ntk::full(f, at, network.x, options.kernel).matrix()), residual(f0, target, false), options);
  return GradientFlow<T>(std::make_shared<const typename GradientFlow<T>::State>(typename GradientFlow<T>::State{f0, std::move(dynamics), false, std::move(network)}));
}

template <Scalar T> GradientFlow<T> gradient_flow(const ntk::FullKernel<T>& kernel, const Array<T>& f0, const Array<T>& y, const FlowOptions& options) {
  check_same_rows(f0, y);
  check_examples("f0", f0);
  if (kernel.rows() != kernel.columns())
    fail<ShapeError>("gradient_flow: the kernel is of {} examples with {} others; it must be of the training examples with themselves", kernel.rows(), kernel.columns());
  if (f0.shape()[0] != kernel.rows() || f0.size() != kernel.rows() * kernel.outputs())
    fail<ShapeError>("gradient_flow: f0 and y are {}, the kernel is of {} examples with {} outputs each", f0.shape(), kernel.rows(), kernel.outputs());
  const Array<double> start = cast<double>(f0);
  return GradientFlow<T>(std::make_shared<const typename GradientFlow<T>::State>(
      typename GradientFlow<T>::State{start, Dynamics(Spectrum(kernel.matrix()), residual(start, cast<double>(y), false), options), false, std::nullopt}));
}

template <Scalar T> GradientFlow<T> gradient_flow(const TraceApproximation<T>& kernel, const Array<T>& f0, const Array<T>& y, const FlowOptions& options) {
  check_same_rows(f0, y);
  check_examples("f0", f0);
  const Shape& shape = kernel.kernel.shape();
  if (shape.rank() != 2 || shape[0] != shape[1] || shape[0] != f0.shape()[0] || f0.size() != shape[0] * kernel.outputs)
    fail<ShapeError>("gradient_flow: f0 and y are {}, the traced kernel is {} with {} outputs for each example; it must be of the training examples with themselves",
                     f0.shape(), shape, kernel.outputs);
  const Array<double> start = cast<double>(f0);
  return GradientFlow<T>(std::make_shared<const typename GradientFlow<T>::State>(
      typename GradientFlow<T>::State{start, Dynamics(Spectrum(kernel.kernel), residual(start, cast<double>(y), true), options), true, std::nullopt}));
}

template <Scalar T> TraceApproximation<T> approximate_by_trace(const ntk::TracedKernel<T>& kernel) { return {kernel.mean(), kernel.outputs()}; }

// ---- using it

template <Scalar T> Trained<T> GradientFlow<T>::operator()(double t) const {
  if (!(t >= 0)) fail<NumericalError>("gradient_flow: t must be a number from 0 to infinity, got {}; expm1_dot runs backwards, where that is wanted", t);
  return Trained<T>(state_, t);
}

template <Scalar T> Points GradientFlow<T>::points(const Array<T>& x_new) const {
  const Array<double> x = state_->checked("points", x_new);
  if (x.size() == 0) return {Array<double>(Shape{0, rows()}), Array<double>(state_->outputs_of(x.shape()[0]))};
  return state_->points(x);
}

template <Scalar T> Index GradientFlow<T>::rows() const { return state_->f0.size(); }
template <Scalar T> const Dynamics& GradientFlow<T>::dynamics() const { return state_->dynamics; }

template <Scalar T> Array<T> Trained<T>::train() const {
  return answer<T>("train", t_, state_->f0 + state_->dynamics.change(t_).reshaped(state_->f0.shape()));
}

template <Scalar T> Array<T> Trained<T>::predict(const Array<T>& x_new) const {
  return answer<T>("predict", t_, state_->predict(state_->checked("predict", x_new), t_));
}

template <Scalar T> Array<T> Trained<T>::predict(const Points& points) const {
  if (state_->traced)
    fail<StructureError>("predict: this flow was made from a traced kernel; give it the traced kernel of test and training examples by approximate_by_trace");
  return answer<T>("predict", t_, state_->predict(points.kernel, points.f0, t_));
}

template <Scalar T> Array<T> Trained<T>::predict(const ntk::FullKernel<T>& kernel_test_train, const Array<T>& f0_test) const {
  return predict(Points{cast<double>(kernel_test_train.matrix()), cast<double>(f0_test)});
}

template <Scalar T> Array<T> Trained<T>::predict(const TraceApproximation<T>& kernel_test_train, const Array<T>& f0_test) const {
  if (!state_->traced) fail<StructureError>("predict: this flow was made from a full kernel; give it the full kernel of test and training examples");
  return answer<T>("predict", t_, state_->predict(cast<double>(kernel_test_train.kernel), cast<double>(f0_test), t_));
}

template <Scalar T> Tree<Array<T>> Trained<T>::weights() const {
  const Network& network = state_->need_network("weights");
  return map([&](const Array<double>& start, const Array<double>& change) { return answer<T>("weights", t_, start + change); }, network.params, state_->weight_change(t_));
}

template <Scalar T> Array<T> Trained<T>::linearized(const Array<T>& x_new) const {
  const Array<double> x = state_->checked("linearized", x_new);
  if (x.size() == 0) return Array<T>(state_->outputs_of(x.shape()[0]));
  const Network& network = *state_->network;
  const ntk::Operator<double> there(network.apply, network.params, x, network.options);
  return answer<T>("linearized", t_, there.value() + there.jvp(state_->weight_change(t_)));
}

template <Scalar T> double Trained<T>::loss() const { return state_->dynamics.loss(t_); }
template <Scalar T> Array<double> Trained<T>::coefficients() const { return state_->dynamics.coefficients(t_).reshaped(state_->f0.shape()); }
template <Scalar T> Index Trained<T>::rank() const { return state_->dynamics.rank(); }
template <Scalar T> double Trained<T>::condition() const { return state_->dynamics.condition(); }
template <Scalar T> double Trained<T>::lambda_max() const { return state_->dynamics.spectrum().lambda_max(); }

#define LINNET_INSTANTIATE(T)                                                                                                             \
  template class GradientFlow<T>;                                                                                                         \
  template class Trained<T>;                                                                                                              \
  template GradientFlow<T> gradient_flow(const ntk::Apply&, const Tree<Array<T>>&, const Array<T>&, const Array<T>&, const FlowOptions&); \
  template GradientFlow<T> gradient_flow(const ntk::FullKernel<T>&, const Array<T>&, const Array<T>&, const FlowOptions&);                \
  template GradientFlow<T> gradient_flow(const TraceApproximation<T>&, const Array<T>&, const Array<T>&, const FlowOptions&);             \
  template TraceApproximation<T> approximate_by_trace(const ntk::TracedKernel<T>&);
LINNET_INSTANTIATE(float)
LINNET_INSTANTIATE(double)

}  // namespace linnet::predict
