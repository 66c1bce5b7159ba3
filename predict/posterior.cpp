// posterior.h. Everything happens in the variables xi of network.h, whose prior is N(0, I), and in the eigenbasis of K = A A^T there.
#include "linnet/predict/posterior.h"

#include "linnet/autodiff/finite.h"
#include "linnet/autodiff/kernels/gemm.h"
#include "linnet/autodiff/kernels/threefry.h"
#include "linnet/predict/network.h"
#include "linnet/predict/spectral.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

namespace linnet::predict {

using autodiff::cast;
using autodiff::check_finite;
using autodiff::fail;
using autodiff::NumericalError;
using autodiff::Shape;
using autodiff::ShapeError;
using autodiff::StructureError;

namespace {

constexpr const char* operation = "posterior";
using Weights = Tree<Array<double>>;

// Standard normal numbers by Box and Muller's method, of a key and a stream: every pair for itself, so no order matters. `at` is where the stream goes on.
class Normals {
 public:
  Normals(std::uint64_t seed, std::uint64_t number, std::uint32_t stream) {
    // The number of the draw makes a key of its own, so that all 64 bits of both count.
    const auto high = autodiff::threefry({static_cast<std::uint32_t>(seed >> 32), static_cast<std::uint32_t>(seed)},
                                         static_cast<std::uint32_t>(number >> 32), static_cast<std::uint32_t>(number));
    key_ = {high[0], high[1] ^ stream};
  }
  Array<double> draw(const Shape& shape) {
    Array<double> values = Array<double>::uninitialized(shape);
    for (Index i = 0; i < values.size(); i += 2, ++at_) {
      const double radius = std::sqrt(-2 * std::log(uniform(0))), angle = 2 * std::numbers::pi * uniform(1);
      values.data()[i] = radius * std::cos(angle);
      if (i + 1 < values.size()) values.data()[i + 1] = radius * std::sin(angle);
    }
    return values;
  }

 private:
  double uniform(std::uint64_t which) const {  // in (0, 1)
    const std::uint64_t counter = 2 * at_ + which;
    const auto [a, b] = autodiff::threefry(key_, static_cast<std::uint32_t>(counter >> 32), static_cast<std::uint32_t>(counter));
    return (static_cast<double>((static_cast<std::uint64_t>(a) << 32 | b) >> 12) + 0.5) * 0x1p-52;
  }
  std::array<std::uint32_t, 2> key_{};
  std::uint64_t at_ = 0;
};

Weights sum(const Weights& a, const Weights& b) {
  return map([](const Array<double>& u, const Array<double>& v) { return u + v; }, a, b);
}
Weights difference(const Weights& a, const Weights& b) {
  return map([](const Array<double>& u, const Array<double>& v) { return u - v; }, a, b);
}
template <Scalar T> Weights widened(const Tree<Array<T>>& tree) {
  return map([](const Array<T>& leaf) { return cast<double>(leaf); }, tree);
}
template <Scalar T> Tree<Array<T>> answer(const char* what, const Weights& weights) {
  const Tree<Array<T>> narrow = map([](const Array<double>& leaf) { return cast<T>(leaf); }, weights);
  check_finite(operation, what, narrow);
  return narrow;
}

}  // namespace

template <Scalar T> struct Posterior<T>::State {
  Network network;
  Array<double> y;
  Spectrum spectrum;  // of K
  double noise;       // s^2

  Shape rows() const { return {y.size()}; }
  double eigenvalue(Index i) const { return std::max(spectrum.values().data()[i], 0.0); }  // below zero by rounding alone: that was checked
  bool keeps(Index i) const { return eigenvalue(i) + noise > spectrum.tolerance(); }

  // A^T of minus g(lambda) times the residual, as a change of the weights.
  template <class G> Weights moved(const Array<double>& residual, G&& g) const {
    Array<double> modes = spectrum.to_modes(residual.reshaped(rows()));
    for (Index i = 0; i < modes.size(); ++i) modes.data()[i] *= keeps(i) ? -g(eigenvalue(i)) : 0;
    return network.moved(network.derivative().vjp(spectrum.from_modes(modes).reshaped(y.shape())));
  }
  double inverse(double lambda) const { return 1 / (lambda + noise); }

  Array<double> examples(const Array<T>& x_new) const {
    const Shape &x = network.x().shape(), &came = x_new.shape();
    if (came.rank() != x.rank() || came.with(0, x[0]) != x)
      fail<ShapeError>("{}: x_new is {}, the examples trained on are {}; they may differ in the leading axis only", operation, came, x);
    check_finite(operation, "x_new", x_new);
    return cast<double>(x_new);
  }
  // weights - params as xi.
  Weights offset(const char* what, const Tree<Array<T>>& weights) const {
    autodiff::detail::check_same_form(operation, autodiff::detail::form(network.start()), autodiff::detail::form(weights));
    check_finite(operation, what, weights);
    const Weights theta = difference(widened(weights), network.start()), xi = network.trained(theta), back = network.moved(xi);
    const auto there = theta.leaves(), again = back.leaves();
    const std::vector<std::string> names = theta.paths();
    for (std::size_t l = 0; l < there.size(); ++l)
      for (Index i = 0; i < there[l]->size(); ++i)
        if (there[l]->data()[i] != 0 && again[l]->data()[i] == 0)
          fail<StructureError>("{}: '{}' of {} differs from params at {}, where its variance is 0; leave it as it is, or give it a variance", operation, names[l], what,
                               autodiff::position(i, there[l]->shape()));
    return xi;
  }
  void variances(const Array<double>& kernel, const Array<double>& diagonal, double* to) const;
};

// Of rows with the kernel [rows, N] and the diagonal K** [rows].
template <Scalar T> void Posterior<T>::State::variances(const Array<double>& kernel, const Array<double>& diagonal, double* to) const {
  const Index n = spectrum.size(), count = diagonal.size();
  Array<double> modes(Shape{count, n});
  if (modes.size() > 0) autodiff::gemm(false, true, count, n, n, kernel.data(), spectrum.vectors().data(), modes.data());
  Array<double> reached(Shape{n}), left(Shape{n});
  for (Index r = 0; r < count; ++r) {
    for (Index i = 0; i < n; ++i) {
      const double lambda = eigenvalue(i), b = modes.data()[r * n + i];
      const bool spans = lambda > spectrum.tolerance();  // beyond, b is rounding
      reached.data()[i] = spans ? b * b / lambda : 0;
      left.data()[i] = spans ? b * b / lambda * (noise / (lambda + noise)) : 0;
    }
    to[r] = std::max(0.0, diagonal.data()[r] - autodiff::fixed_sum(reached.data(), n)) + autodiff::fixed_sum(left.data(), n);
  }
}

template <Scalar T> Marginals<T> Posterior<T>::predict(const Array<T>& x_new) const {
  const State& s = *state_;
  const Array<double> x = s.examples(x_new), &f0 = s.network.f0();
  const Index n = s.y.size(), outputs = n / s.y.shape()[0], examples = x.shape()[0], chunk = std::max<Index>(32, (Index(1) << 27) / (n * outputs + 1));
  Array<double> modes = s.spectrum.to_modes((s.y - f0).reshaped(s.rows()));
  for (Index i = 0; i < n; ++i) modes.data()[i] *= s.keeps(i) ? s.inverse(s.eigenvalue(i)) : 0;
  const Array<double> c = s.spectrum.from_modes(modes);
  Array<double> mean = Array<double>::uninitialized(f0.shape().with(0, examples)), variance = mean;
  for (Index first = 0; first < examples; first += chunk) {
    const Array<double> part = x.rows(first, std::min(chunk, examples - first)), kernel = s.network.kernel(part), value = s.network.value(part);
    double* const to = mean.data() + first * outputs;
    std::copy(value.begin(), value.end(), to);
    autodiff::gemm(false, false, value.size(), 1, n, kernel.data(), c.data(), to, true);
    s.variances(kernel, s.network.diagonal(part), variance.data() + first * outputs);
  }
  Marginals<T> all{cast<T>(mean), cast<T>(variance)};
  check_finite(operation, "the mean", all.mean);
  check_finite(operation, "the variance", all.variance);
  return all;
}

template <Scalar T> Tree<Array<T>> Posterior<T>::mean() const {
  const State& s = *state_;
  return answer<T>("the mean", sum(s.network.start(), s.moved(s.network.f0() - s.y, [&](double lambda) { return s.inverse(lambda); })));
}

template <Scalar T> Tree<Array<T>> Posterior<T>::sample(std::uint64_t number, std::uint64_t seed) const {
  const State& s = *state_;
  Normals of_weights(seed, number, 0), of_targets(seed, number, 1);
  const Weights xi = map([&](const Array<double>& leaf) { return of_weights.draw(leaf.shape()); }, s.network.start());
  const Array<double> targets = s.y + std::sqrt(s.noise) * of_targets.draw(s.y.shape());
  const Array<double> residual = s.network.f0() + s.network.derivative().jvp(xi) - targets;
  const Weights start = sum(s.network.start(), s.network.moved(xi));
  return answer<T>("a sample", sum(start, s.moved(residual, [&](double lambda) { return s.inverse(lambda); })));
}

template <Scalar T> Tree<Array<T>> Posterior<T>::trained(const Tree<Array<T>>& start, const Array<T>& targets, double t) const {
  const State& s = *state_;
  if (!(t >= 0)) fail<NumericalError>("{}: the time must not be negative, got {}", operation, t);
  if (targets.shape() != s.y.shape()) fail<ShapeError>("{}: the targets are {}, y is {}; reshape them to that", operation, targets.shape(), s.y.shape());
  check_finite(operation, "the targets", targets);
  const Array<double> residual = s.network.f0() + s.network.derivative().jvp(s.offset("start", start)) - cast<double>(targets);
  const double time = t / static_cast<double>(s.y.size());
  return answer<T>("the weights", sum(widened(start), s.moved(residual, [&](double lambda) { return phi(lambda + s.noise, time); })));
}

template <Scalar T> Array<T> Posterior<T>::linearized(const Tree<Array<T>>& weights, const Array<T>& x_new) const {
  const State& s = *state_;
  const Array<double> x = s.examples(x_new);
  const Weights xi = s.offset("the weights", weights);
  if (x.size() == 0) return Array<T>(s.y.shape().with(0, x.shape()[0]));
  const ntk::Operator<double> there = s.network.derivative(x);
  const Array<T> f = cast<T>(there.value() + there.jvp(xi));
  check_finite(operation, "the linearized network", f);
  return f;
}

template <Scalar T> double Posterior<T>::log_evidence() const {
  const State& s = *state_;
  const Array<double> modes = s.spectrum.to_modes((s.y - s.network.f0()).reshaped(s.rows()));
  Array<double> terms(s.rows());
  for (Index i = 0; i < modes.size(); ++i) {
    const double lambda = s.eigenvalue(i) + s.noise, b = modes.data()[i];
    if (!s.keeps(i))
      fail<NumericalError>("{}: K + noise^2 is singular to rounding ({} of {} eigenvalues are above {:.3g}), so y has no density; raise the noise",
                           operation, rank(), modes.size(), s.spectrum.tolerance());
    terms.data()[i] = -0.5 * (b * b / lambda + std::log(lambda) + std::log(2 * std::numbers::pi));
  }
  return autodiff::fixed_sum(terms.data(), terms.size());
}

template <Scalar T> Index Posterior<T>::rank() const {
  Index kept = 0;
  for (Index i = 0; i < state_->spectrum.size(); ++i) kept += state_->keeps(i);
  return kept;
}

template <Scalar T> Posterior<T> posterior(const ntk::Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Array<T>& y, const PosteriorOptions& options) {
  if (!(std::isfinite(options.noise) && options.noise >= 0)) fail<NumericalError>("{}: the noise must be finite and not negative, got {}", operation, options.noise);
  if (x.shape().rank() == 0 || x.size() == 0) fail<ShapeError>("{}: x is {}; there must be at least one example", operation, x.shape());
  check_finite(operation, "params", params);
  check_finite(operation, "x", x);
  check_finite(operation, "y", y);
  Network network(operation, f, widened(params), cast<double>(x), options.variances, options.kernel, false);
  const Shape& outputs = network.f0().shape();
  if (y.shape() != outputs) fail<ShapeError>("{}: y is {}, the outputs f(params, x) it is the target of are {}; reshape y to that", operation, y.shape(), outputs);
  if (y.size() == 0) fail<ShapeError>("{}: f(params, x) is {}; there must be at least one example and one output", operation, outputs);
  Spectrum spectrum(network.kernel());
  check_semidefinite(operation, spectrum.lambda_min(), spectrum.lambda_max(), spectrum.size(), spectrum.tolerance());
  using State = typename Posterior<T>::State;
  return Posterior<T>(std::make_shared<const State>(State{std::move(network), cast<double>(y), std::move(spectrum), options.noise * options.noise}));
}

#define LINNET_INSTANTIATE(T)  \
  template class Posterior<T>; \
  template Posterior<T> posterior(const ntk::Apply&, const Tree<Array<T>>&, const Array<T>&, const Array<T>&, const PosteriorOptions&);
LINNET_INSTANTIATE(float)
LINNET_INSTANTIATE(double)

}  // namespace linnet::predict
