// trained.h: checks at the door, then one State for both sources and every law. Of a network there is its linearization (network.h); from a kernel it
// is absent.
#include "linnet/predict/trained.h"

#include "linnet/autodiff/kernels/gemm.h"
#include "linnet/autodiff/finite.h"
#include "linnet/ntk/memory.h"
#include "linnet/predict/network.h"
#include "linnet/predict/spectral.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace linnet::predict {

using autodiff::cast;
using autodiff::check_finite;
using autodiff::fail;
using autodiff::NumericalError;
using autodiff::Shape;
using autodiff::ShapeError;
using autodiff::StructureError;

namespace {

template <Scalar T> Tree<Array<double>> widened(const Tree<Array<T>>& tree) {
  return map([](const Array<T>& leaf) { return cast<double>(leaf); }, tree);
}

// The answer in the user's type, where a value may overflow that did not in double.
template <Scalar T> Array<T> answer(const char* operation, const std::string& when, const Array<double>& values) {
  Array<T> result = cast<T>(values);
  check_finite(operation, "the answer at " + when, result);
  return result;
}
template <Scalar T> Array<T> answer(const char* operation, double t, const Array<double>& values) { return answer<T>(operation, fmt::format("t = {:.6g}", t), values); }

template <Scalar T> void check_same_rows(const char* operation, const Array<T>& f0, const Array<T>& y) {
  if (f0.shape() != y.shape()) fail<ShapeError>("{}: y is {}, the outputs f0 it is the target of are {}; reshape y to that", operation, y.shape(), f0.shape());
  check_finite(operation, "f0", f0);
  check_finite(operation, "y", y);
}

template <Scalar T> void check_examples(const char* operation, const char* what, const Array<T>& values) {
  if (values.shape().rank() == 0 || values.size() == 0) fail<ShapeError>("{}: {} is {}; there must be at least one example and one output", operation, what, values.shape());
}

// [n, times, k] as [times, n, k], which is the answer's order.
Array<double> times_first(const Array<double>& values) {
  const Index n = values.shape()[0], times = values.shape()[1], width = values.shape()[2];
  Array<double> result = Array<double>::uninitialized(Shape{times, n, width});
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < times; ++j) std::copy_n(values.data() + (i * times + j) * width, width, result.data() + (j * n + i) * width);
  return result;
}

void add(double scale, const Array<double>& what, double* to) {
  for (Index i = 0; i < what.size(); ++i) to[i] += scale * what.data()[i];
}

}  // namespace

template <Scalar T> struct Training<T>::State {
  Array<double> f0;  // [n, …]
  Dynamics dynamics;
  bool traced = false;  // the kernel acts on examples, and on outputs alike
  std::shared_ptr<const Network> network;

  Shape outputs_of(Index examples) const { return f0.shape().with(0, examples); }
  Index outputs() const { return f0.size() / f0.shape()[0]; }
  bool decays() const { return dynamics.law().weight_decay > 0; }

  const Network& need_network(const char* operation) const {
    if (!network)
      fail<StructureError>(
          "{0}: this flow was made from a kernel and has no network; make it by {1}(f, params, x, y), "
          "or give predict the kernel and f0 of the test examples",
          operation, dynamics.law().name());
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
    return {network->kernel(x), network->value(x), decays() ? network->pull(x) : Array<double>()};
  }

  void check(const Points& at) const {
    const Index n = dynamics.size(), rows = at.kernel.shape().rank() > 0 ? at.kernel.shape()[0] : 0;
    if (at.kernel.shape().rank() != 2 || at.kernel.shape()[1] != n)
      fail<ShapeError>("predict: the kernel of test and training examples is {}, its columns must be the {} rows of the kernel trained on", at.kernel.shape(), n);
    if (at.f0.shape().rank() != f0.shape().rank() || at.f0.shape() != outputs_of(at.f0.shape()[0]) || at.f0.size() != rows * (f0.size() / n))
      fail<ShapeError>("predict: f0 of the test examples is {} beside a kernel of {}; with training outputs of {} it must be {}", at.f0.shape(), at.kernel.shape(), f0.shape(),
                       outputs_of(traced ? rows : rows / outputs()));
    if (decays() && at.pull.shape() != at.f0.shape())
      fail<StructureError>("predict: weights decay here, and predictions need A theta0 of the new examples besides their kernel and f0; give predict the examples, or their points()");
    check_finite("predict", "the kernel of test and training examples", at.kernel);
    check_finite("predict", "f0 of the test examples", at.f0);
    check_finite("predict", "A theta0 of the test examples", at.pull);
  }

  // f0(x_new) + K(x_new, x) c + (s - 1) A(x_new) theta0, [times, …].
  Array<double> predict(const Points& at, std::span<const double> times) const {
    check(at);
    const Array<double> c = dynamics.coefficients(times);
    const Index rows = at.kernel.shape()[0], n = c.shape()[0], count = c.shape()[1], width = c.shape()[2];
    Array<double> moved(Shape{rows, count, width});
    if (moved.size() > 0) autodiff::gemm(false, false, rows, count * width, n, at.kernel.data(), c.data(), moved.data());
    Array<double> result = times_first(moved);
    for (Index k = 0; k < count; ++k) {
      add(1, at.f0, result.data() + k * at.f0.size());
      if (decays()) add(dynamics.shrink(times[static_cast<std::size_t>(k)]), at.pull, result.data() + k * at.f0.size());
    }
    return std::move(result).reshaped(at.f0.shape().inserted(0, std::array{count}));
  }
  Array<double> predict(const Points& at, double t) const { return predict(at, std::span(&t, 1)).reshaped(at.f0.shape()); }
  // Chunks of new examples bound the memory of their kernel to about a gigabyte; the size follows from the shapes alone.
  Array<double> predict(const Array<double>& x, double t) const {
    const Index examples = x.shape()[0], chunk = std::max<Index>(32, (Index(1) << 27) / (f0.size() * outputs() + 1));
    Array<double> result = Array<double>::uninitialized(outputs_of(examples));
    for (Index first = 0; first < examples; first += chunk) {
      const Array<double> f = predict(points(x.rows(first, std::min(chunk, examples - first))), t);
      std::copy(f.begin(), f.end(), result.data() + first * outputs());
    }
    return result;
  }
  Points points(const TraceApproximation<T>& kernel, const Array<T>& f0_test) const {
    if (!traced) fail<StructureError>("predict: this flow was made from a full kernel; give it the full kernel of test and training examples");
    return {cast<double>(kernel.kernel), cast<double>(f0_test)};
  }
  void refuse_traced() const {
    if (traced) fail<StructureError>("predict: this flow was made from a traced kernel; give it the traced kernel of test and training examples by approximate_by_trace");
  }
};

// ---- making it

namespace {

// What the options say, of either kind.
struct Setup {
  Law law;
  double relative_ridge;
  const Rates& rates;
  const ntk::Options& kernel;
  Solver solver;
  const KrylovOptions& krylov;
};

Setup setup(Motion motion, const FlowOptions& o) {
  return {{.motion = motion, .rate = o.rate, .ridge = o.ridge, .weight_decay = o.weight_decay}, o.relative_ridge, o.rates, o.kernel, o.solver, o.krylov};
}
Setup setup(Motion motion, const MomentumOptions& o) {
  if (motion == Motion::momentum_flow && o.nesterov) fail<StructureError>("momentum_flow: Nesterov's steps have no flow of their own; for small rates they become the heavy ball's, without nesterov");
  return {{.motion = motion, .rate = o.rate, .ridge = o.ridge, .weight_decay = o.weight_decay, .momentum = o.momentum, .nesterov = o.nesterov}, o.relative_ridge, o.rates, o.kernel, o.solver, o.krylov};
}

void check_law(Setup& s) {
  s.law.check();
  if (!(std::isfinite(s.relative_ridge) && s.relative_ridge >= 0))
    fail<NumericalError>("{}: the relative ridge must be finite and not negative, got {}", s.law.name(), s.relative_ridge);
}

// f0 - y in the shape the kernel acts on: [N], or [n, outputs] where it is traced.
Array<double> residual(const Array<double>& f0, const Array<double>& y, bool traced) {
  const Index n = f0.shape()[0];
  return (f0 - y).reshaped(traced ? Shape{n, f0.size() / n} : Shape{f0.size()});
}

// Up to so many rows a decomposition takes a fraction of a second, and knows the rank besides; up to so many the kernel is worth having where nobody gave it.
constexpr Index decomposed_rows = 1000, assembled_rows = 5000;

Dynamics dynamics_of(Setup& s, Spectrum spectrum, const Array<double>& f0, const Array<double>& y, bool traced, const Array<double>& pull = {}) {
  s.law.ridge += s.relative_ridge * spectrum.mean_diagonal();
  return Dynamics(std::move(spectrum), residual(f0, y, traced), s.law, pull);
}

std::size_t basis_memory(const Setup& s) { return s.krylov.max_memory ? s.krylov.max_memory : ntk::memory_limit(s.kernel) / 2; }

// Of a kernel in memory: by a decomposition or by products, or by products until they are too many.
template <Scalar T> Dynamics dynamics_of(Setup& s, const Array<T>& kernel, const Array<double>& f0, const Array<double>& y, bool traced, const Array<double>& pull = {}) {
  const Index n = kernel.shape().rank() > 0 ? kernel.shape()[0] : 0;
  if (s.solver == Solver::decomposition || (s.solver == Solver::automatic && n <= decomposed_rows)) return dynamics_of(s, Spectrum(kernel), f0, y, traced, pull);
  const auto matrix = std::make_shared<const Array<double>>(checked_kernel(s.law.name(), kernel));
  double trace = 0;
  for (Index i = 0; i < n; ++i) trace += matrix->data()[i * n + i];
  s.law.ridge += s.relative_ridge * trace / static_cast<double>(n);
  const ntk::Symmetric<double> products(Shape{n}, [matrix, n](const Array<double>& v) {
    Array<double> z = Array<double>::uninitialized(Shape{n});
    autodiff::gemm(false, false, n, 1, n, matrix->data(), v.data(), z.data());
    return z;
  });
  KrylovOptions options = s.krylov;
  options.max_memory = basis_memory(s);
  const Array<double> e = residual(f0, y, traced);
  Krylov krylov(products, e, s.law, pull, options, null_tolerance(n, 1, static_cast<double>(std::numeric_limits<T>::epsilon())), 0, s.kernel.progress);
  Dynamics::Sources sources{.n = n, .automatic = s.solver == Solver::automatic};
  sources.why = sources.automatic ? fmt::format("a decomposition is taken at once up to {} rows, and beyond where more than N / 4 products would be needed", decomposed_rows) : "Solver::krylov";
  if (sources.automatic) {  // of float kernels as they came, since their epsilon decides what is zero
    if constexpr (std::is_same_v<T, double>) sources.decompose = [matrix] { return Spectrum(*matrix); };
    else sources.decompose = [kept = std::make_shared<const Array<T>>(kernel)] { return Spectrum(*kept); };
  }
  if (sources.automatic && n <= assembled_rows) sources.kernel = matrix;
  return Dynamics(std::move(krylov), e, s.law, pull, std::move(sources));
}

// How wrong a product in float is, relative to the largest eigenvalue: one of a vector that is mostly its eigenvector's, in both widths.
double noise_of(const Network& network, const ntk::Operator<float>& narrow, const Array<double>& e) {
  const double length = norm(e);
  if (length == 0) return 0;
  const Array<double> first = network.product((1 / length) * e);
  if (norm(first) == 0) return 0;
  const Array<double> v = (1 / norm(first)) * first, exact = network.product(v);
  const Array<double> wrong = cast<double>(narrow(cast<float>(v))) - exact;
  return 4 * norm(wrong) / norm(exact);
}

// Of a network without its kernel. Products are in the type the network was given in, if the tolerance can be had so: in float 1e-5 and more.
template <Scalar T> Dynamics products_of(Setup& s, const std::shared_ptr<const Network>& network, const Array<double>& f0, const Array<double>& y, const Array<double>& pull) {
  const Index n = f0.size();
  if (s.relative_ridge > 0) s.law.ridge += s.relative_ridge * autodiff::fixed_sum(network->diagonal(network->x()).data(), n) / static_cast<double>(n);
  KrylovOptions options = s.krylov;
  options.max_memory = basis_memory(s);
  const Array<double> e = residual(f0, y, false);
  Dynamics::Sources sources{.n = n, .automatic = s.solver == Solver::automatic};
  sources.why = sources.automatic ? fmt::format("a kernel is assembled up to {} rows", assembled_rows) : "Solver::krylov";
  sources.decompose = [network] { return Spectrum(network->kernel()); };
  if (std::is_same_v<T, float> && options.tolerance >= 1e-5) {
    const ntk::Operator<float> narrow = network->narrow();
    const double noise = noise_of(*network, narrow, f0 - y);
    const double null = std::max(10 * noise, null_tolerance(n, 1, std::numeric_limits<double>::epsilon()));
    const Shape shape = f0.shape();
    const ntk::Symmetric<float> products(Shape{n}, [narrow, shape, n](const Array<float>& v) { return narrow(v.reshaped(shape)).reshaped(Shape{n}); });
    sources.why += fmt::format(", in float, since the tolerance is {:.3g}", options.tolerance);
    return Dynamics(Krylov(products, e, s.law, pull, options, null, noise, s.kernel.progress), e, s.law, pull, std::move(sources));
  }
  const ntk::Symmetric<double> products(Shape{n}, [network, n](const Array<double>& v) { return network->product(v).reshaped(Shape{n}); });
  return Dynamics(Krylov(products, e, s.law, pull, options, 0, 0, s.kernel.progress), e, s.law, pull, std::move(sources));
}

template <Scalar T> Training<T> trained(std::type_identity_t<typename Training<T>::State> state) {
  return Training<T>(std::make_shared<const typename Training<T>::State>(std::move(state)));
}

template <Scalar T> Training<T> train(Setup s, const ntk::Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Array<T>& y) {
  const char* name = s.law.name();
  check_law(s);
  check_examples(name, "x", x);
  check_finite(name, "params", params);
  check_finite(name, "x", x);
  const bool decays = s.law.weight_decay > 0;
  const auto network = std::make_shared<const Network>(name, f, widened(params), cast<double>(x), s.rates, s.kernel, decays);
  const Array<double> f0 = network->f0(), target = cast<double>(y);
  check_same_rows(name, f0, target);
  check_examples(name, "f(params, x)", f0);
  const Array<double> pull = decays ? network->pull().reshaped(Shape{f0.size()}) : Array<double>();
  const bool matrix = s.solver == Solver::decomposition || (s.solver == Solver::automatic && f0.size() <= assembled_rows);
  Dynamics dynamics = matrix ? dynamics_of(s, network->kernel(), f0, target, false, pull) : products_of<T>(s, network, f0, target, pull);
  return trained<T>({f0, std::move(dynamics), false, network});
}

template <Scalar T> void check_kernel_only(Setup& s, const Array<T>& f0, const Array<T>& y) {
  const char* name = s.law.name();
  check_law(s);
  if (s.law.weight_decay > 0) fail<StructureError>("{0}: weight decay moves the outputs by A theta0, which a kernel does not know; make it by {0}(f, params, x, y)", name);
  if (s.rates.is_leaf() || !s.rates.children().empty()) fail<StructureError>("{0}: a kernel has no weights for rates to belong to; make it by {0}(f, params, x, y)", name);
  check_same_rows(name, f0, y);
  check_examples(name, "f0", f0);
}

template <Scalar T> Training<T> train(Setup s, const ntk::FullKernel<T>& kernel, const Array<T>& f0, const Array<T>& y) {
  check_kernel_only(s, f0, y);
  if (kernel.rows() != kernel.columns())
    fail<ShapeError>("{}: the kernel is of {} examples with {} others; it must be of the training examples with themselves", s.law.name(), kernel.rows(), kernel.columns());
  if (f0.shape()[0] != kernel.rows() || f0.size() != kernel.rows() * kernel.outputs())
    fail<ShapeError>("{}: f0 and y are {}, the kernel is of {} examples with {} outputs each", s.law.name(), f0.shape(), kernel.rows(), kernel.outputs());
  const Array<double> start = cast<double>(f0);
  return trained<T>({start, dynamics_of(s, kernel.matrix(), start, cast<double>(y), false), false, nullptr});
}

template <Scalar T> Training<T> train(Setup s, const TraceApproximation<T>& kernel, const Array<T>& f0, const Array<T>& y) {
  check_kernel_only(s, f0, y);
  const Shape& shape = kernel.kernel.shape();
  if (shape.rank() != 2 || shape[0] != shape[1] || shape[0] != f0.shape()[0] || f0.size() != shape[0] * kernel.outputs)
    fail<ShapeError>("{}: f0 and y are {}, the traced kernel is {} with {} outputs for each example; it must be of the training examples with themselves", s.law.name(),
                     f0.shape(), shape, kernel.outputs);
  const Array<double> start = cast<double>(f0);
  return trained<T>({start, dynamics_of(s, kernel.kernel, start, cast<double>(y), true), true, nullptr});
}

}  // namespace

template <Scalar T> TraceApproximation<T> approximate_by_trace(const ntk::TracedKernel<T>& kernel) { return {kernel.mean(), kernel.outputs()}; }

template <Scalar T> double max_learning_rate(const ntk::FullKernel<T>& kernel, double momentum, bool nesterov) {
  return max_learning_rate(Spectrum(kernel.matrix()).lambda_max(), kernel.rows() * kernel.outputs(), momentum, nesterov);
}
template <Scalar T> double max_learning_rate(const TraceApproximation<T>& kernel, double momentum, bool nesterov) {
  const Spectrum spectrum(kernel.kernel);
  return max_learning_rate(spectrum.lambda_max(), spectrum.size() * kernel.outputs, momentum, nesterov);
}

// ---- using it

template <Scalar T> Trained<T> Training<T>::operator()(double t) const {
  state_->dynamics.law().check_time(state_->dynamics.law().name(), t);
  return Trained<T>(state_, t);
}

template <Scalar T> Training<T> Training<T>::with_ridge(double ridge) const {
  State other = *state_;
  other.dynamics = state_->dynamics.with_ridge(ridge);
  return Training<T>(std::make_shared<const State>(std::move(other)));
}
template <Scalar T> Points Training<T>::points(const Array<T>& x_new) const { return state_->points(state_->checked("points", x_new)); }
template <Scalar T> Index Training<T>::rows() const { return state_->f0.size(); }
template <Scalar T> double Training<T>::max_rate() const { return state_->dynamics.max_rate(); }
template <Scalar T> const Dynamics& Training<T>::dynamics() const { return state_->dynamics; }
template <Scalar T> std::string Training<T>::explain() const { return state_->dynamics.explain(); }

template <Scalar T> Array<double> Training<T>::coefficients(std::span<const double> times) const {
  return times_first(state_->dynamics.coefficients(times)).reshaped(state_->f0.shape().inserted(0, std::array{static_cast<Index>(times.size())}));
}
template <Scalar T> std::vector<Tree<Array<T>>> Training<T>::weights(std::span<const double> times) const {
  state_->need_network("weights");
  std::vector<Tree<Array<T>>> all;
  for (const double t : times) all.push_back((*this)(t).weights());
  return all;
}

template <Scalar T> Array<T> Training<T>::train(std::span<const double> times) const {
  const Array<double>& f0 = state_->f0;
  Array<double> f = times_first(state_->dynamics.change(times));
  for (std::size_t k = 0; k < times.size(); ++k) add(1, f0, f.data() + static_cast<Index>(k) * f0.size());
  return answer<T>("train", "one of the times", std::move(f).reshaped(f0.shape().inserted(0, std::array{static_cast<Index>(times.size())})));
}

template <Scalar T> Array<T> Training<T>::predict(const Points& points, std::span<const double> times) const {
  state_->refuse_traced();
  return answer<T>("predict", "one of the times", state_->predict(points, times));
}
template <Scalar T> Array<T> Training<T>::predict(const ntk::FullKernel<T>& kernel_test_train, const Array<T>& f0_test, std::span<const double> times) const {
  return predict(Points{cast<double>(kernel_test_train.matrix()), cast<double>(f0_test)}, times);
}
template <Scalar T> Array<T> Training<T>::predict(const TraceApproximation<T>& kernel_test_train, const Array<T>& f0_test, std::span<const double> times) const {
  return answer<T>("predict", "one of the times", state_->predict(state_->points(kernel_test_train, f0_test), times));
}

template <Scalar T> Array<T> Trained<T>::train() const {
  return answer<T>("train", t_, state_->f0 + state_->dynamics.change(t_).reshaped(state_->f0.shape()));
}

template <Scalar T> Array<T> Trained<T>::predict(const Array<T>& x_new) const {
  const Array<double> x = state_->checked("predict", x_new);
  if (state_->dynamics.matrixless() && x.size() > 0)  // a kernel of new examples would be the largest array there is; the same by one vjp and one jvp
    return answer<T>("predict", t_, state_->network->linearized(x, state_->dynamics.coefficients(t_), state_->dynamics.shrink(t_)));
  return answer<T>("predict", t_, state_->predict(x, t_));
}

template <Scalar T> Array<T> Trained<T>::predict(const Points& points) const {
  state_->refuse_traced();
  return answer<T>("predict", t_, state_->predict(points, t_));
}

template <Scalar T> Array<T> Trained<T>::predict(const ntk::FullKernel<T>& kernel_test_train, const Array<T>& f0_test) const {
  return predict(Points{cast<double>(kernel_test_train.matrix()), cast<double>(f0_test)});
}

template <Scalar T> Array<T> Trained<T>::predict(const TraceApproximation<T>& kernel_test_train, const Array<T>& f0_test) const {
  return answer<T>("predict", t_, state_->predict(state_->points(kernel_test_train, f0_test), t_));
}

template <Scalar T> Tree<Array<T>> Trained<T>::weights() const {
  const Network& network = state_->need_network("weights");
  const Array<double> c = state_->dynamics.coefficients(t_);
  return map([&](const Array<double>& leaf) { return answer<T>("weights", t_, leaf); }, network.weights(c, state_->dynamics.shrink(t_)));
}

template <Scalar T> Array<T> Trained<T>::linearized(const Array<T>& x_new) const {
  const Array<double> x = state_->checked("linearized", x_new);
  if (x.size() == 0) return Array<T>(state_->outputs_of(x.shape()[0]));
  const Array<double> c = state_->dynamics.coefficients(t_);
  return answer<T>("linearized", t_, state_->network->linearized(x, c, state_->dynamics.shrink(t_)));
}

template <Scalar T> Bounds Trained<T>::bounds() const { return state_->dynamics.bounds(t_); }
template <Scalar T> Array<double> Trained<T>::bounds(const Array<T>& x_new) const {
  const Array<double> x = state_->checked("bounds", x_new);
  if (x.size() == 0) return Array<double>(state_->outputs_of(x.shape()[0]));
  return bounds().points(state_->network->diagonal(x)).reshaped(state_->outputs_of(x.shape()[0]));
}
template <Scalar T> double Trained<T>::loss() const { return state_->dynamics.loss(t_); }
template <Scalar T> Array<double> Trained<T>::coefficients() const { return state_->dynamics.coefficients(t_).reshaped(state_->f0.shape()); }
template <Scalar T> Index Trained<T>::rank() const { return state_->dynamics.rank(); }
template <Scalar T> double Trained<T>::condition() const { return state_->dynamics.condition(); }
template <Scalar T> double Trained<T>::lambda_max() const { return state_->dynamics.lambda_max(); }
template <Scalar T> double Trained<T>::shrink() const { return state_->dynamics.shrink(t_); }
template <Scalar T> const Network& Trained<T>::network(const char* operation) const { return state_->need_network(operation); }

// Every door: three sources each.
#define LINNET_DOOR(NAME, OPTIONS)                                                                                                                                 \
  template <Scalar T> Training<T> NAME(const ntk::Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Array<T>& y, const OPTIONS& options) {          \
    return train(setup(Motion::NAME, options), f, params, x, y);                                                                                                   \
  }                                                                                                                                                                \
  template <Scalar T> Training<T> NAME(const ntk::FullKernel<T>& kernel, const Array<T>& f0, const Array<T>& y, const OPTIONS& options) {                          \
    return train(setup(Motion::NAME, options), kernel, f0, y);                                                                                                     \
  }                                                                                                                                                                \
  template <Scalar T> Training<T> NAME(const TraceApproximation<T>& kernel, const Array<T>& f0, const Array<T>& y, const OPTIONS& options) {                       \
    return train(setup(Motion::NAME, options), kernel, f0, y);                                                                                                     \
  }
LINNET_DOOR(gradient_flow, FlowOptions)
LINNET_DOOR(gradient_descent, DescentOptions)
LINNET_DOOR(momentum, MomentumOptions)
LINNET_DOOR(momentum_flow, MomentumOptions)

#define LINNET_INSTANTIATE_DOOR(NAME, OPTIONS, T)                                                                         \
  template Training<T> NAME(const ntk::Apply&, const Tree<Array<T>>&, const Array<T>&, const Array<T>&, const OPTIONS&);  \
  template Training<T> NAME(const ntk::FullKernel<T>&, const Array<T>&, const Array<T>&, const OPTIONS&);                 \
  template Training<T> NAME(const TraceApproximation<T>&, const Array<T>&, const Array<T>&, const OPTIONS&);
#define LINNET_INSTANTIATE(T)                                                                \
  template class Training<T>;                                                                \
  template class Trained<T>;                                                                 \
  LINNET_INSTANTIATE_DOOR(gradient_flow, FlowOptions, T)                                     \
  LINNET_INSTANTIATE_DOOR(gradient_descent, DescentOptions, T)                               \
  LINNET_INSTANTIATE_DOOR(momentum, MomentumOptions, T)                                      \
  LINNET_INSTANTIATE_DOOR(momentum_flow, MomentumOptions, T)                                 \
  template double max_learning_rate(const ntk::FullKernel<T>&, double, bool);                \
  template double max_learning_rate(const TraceApproximation<T>&, double, bool);             \
  template TraceApproximation<T> approximate_by_trace(const ntk::TracedKernel<T>&);
LINNET_INSTANTIATE(float)
LINNET_INSTANTIATE(double)

}  // namespace linnet::predict
