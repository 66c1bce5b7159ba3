// ensemble.h: both classes apply A = D* (D + r)^-1 (I - E) to the targets and to kernels; one has it by eigenvectors, the other by a factor.
#include "linnet/predict/ensemble.h"

#include "linnet/autodiff/finite.h"
#include "linnet/autodiff/kernels/decompositions.h"
#include "linnet/autodiff/kernels/gemm.h"
#include "linnet/predict/spectral.h"

#include <algorithm>
#include <cmath>

namespace linnet::predict {

using autodiff::cast;
using autodiff::check_finite;
using autodiff::fail;
using autodiff::gemm;
using autodiff::NumericalError;
using autodiff::Shape;
using autodiff::ShapeError;

namespace {

Array<double> product(bool transpose_a, bool transpose_b, const Array<double>& a, const Array<double>& b) {
  const Index m = a.shape()[transpose_a], k = a.shape()[!transpose_a], n = b.shape()[!transpose_b];
  Array<double> c(Shape{m, n});
  if (m > 0 && n > 0 && k > 0) gemm(transpose_a, transpose_b, m, n, k, a.data(), b.data(), c.data());
  return c;
}

Array<double> transposed(const Array<double>& a) {
  const Index m = a.shape()[0], n = a.shape()[1];
  Array<double> t = Array<double>::uninitialized(Shape{n, m});
  for (Index i = 0; i < m; ++i)
    for (Index j = 0; j < n; ++j) t.data()[j * m + i] = a.data()[i * n + j];
  return t;
}

// What both kinds know: the targets, and what the prior's covariance is on the training examples where another kernel trains.
struct Known {
  const char* operation;
  Array<double> y, nngp;  // [n, …]; [n, n], or empty where it trains itself
  double allowed = 1e-12;  // rounding of a variance, relative to the largest of K**

  Index n() const { return y.shape()[0]; }
  bool all_layers() const { return nngp.size() > 0; }
  Array<double> targets() const { return y.reshaped(Shape{n(), y.size() / n()}); }
  Array<double> mean(const Array<double>& a) const {  // A^T [n, n2] -> A y
    Array<double> result = product(true, false, a, targets()).reshaped(y.shape().with(0, a.shape()[1]));
    check_finite(operation, "the mean", result);
    return result;
  }
};

// Checked kernels of some examples with those of training.
struct Cross {
  Array<double> training, nngp, test;  // D* and K* [n2, n]; K** [n2, n2]. nngp is empty where it is the kernel of training
};

void check_cross(const char* operation, const char* what, const Array<double>& kernel, Index n) {
  if (kernel.shape().rank() != 2 || kernel.shape()[1] != n)
    fail<ShapeError>("{}: the {} of test and training examples is {}, it must have {} columns, the training examples", operation, what, kernel.shape(), n);
  check_finite(operation, fmt::format("the {} of test and training examples", what), kernel);
}

template <Scalar T> Cross cross(const Known& known, const EnsembleKernels<T>& kernels, const Array<T>* nngp_test_test) {
  const char* operation = known.operation;
  if (known.all_layers() != (kernels.ntk.size() > 0) && kernels.nngp.size() > 0)
    fail<ShapeError>("{}: {}", operation,
                     known.all_layers() ? "training had an ntk, so the test examples need theirs beside the nngp" : "training had no ntk, so the test examples have none; give it with both or neither");
  Cross all{cast<double>(known.all_layers() ? kernels.ntk : kernels.nngp), {}, {}};
  check_cross(operation, known.all_layers() ? "ntk" : "nngp", all.training, known.n());
  if (nngp_test_test == nullptr) return all;
  const Index rows = all.training.shape()[0];
  if (known.all_layers()) {
    all.nngp = cast<double>(kernels.nngp);
    check_cross(operation, "nngp", all.nngp, known.n());
    if (all.nngp.shape() != all.training.shape()) fail<ShapeError>("{}: the nngp of test and training examples is {}, their ntk {}; they must be of the same examples", operation, all.nngp.shape(), all.training.shape());
  }
  if (nngp_test_test->shape() != Shape{rows, rows})
    fail<ShapeError>("{}: the nngp of the test examples with themselves is {}, beside {} test examples it must be {}", operation, nngp_test_test->shape(), rows, Shape{rows, rows});
  all.test = checked_kernel(operation, *nngp_test_test);
  return all;
}

// K** - sum, with what is below zero by rounding taken as zero, and in bits symmetric.
Array<double> covariance(const Known& known, const Array<double>& test, const Array<double>& subtracted) {
  const Index n = test.shape()[0];
  const double scale = max_abs(test) + max_abs(known.nngp);
  Array<double> result = test - subtracted;
  check_finite(known.operation, "the covariance", result);
  for (Index i = 0; i < n; ++i) {
    double& variance = result.data()[i * n + i];
    if (!(variance >= -known.allowed * scale))
      fail<NumericalError>("{}: the variance of test example {} is {:.6g}, where that of its prior is {:.6g}; the kernels are not of one covariance of both; give those of the same network, or pass a ridge",
                           known.operation, i, variance, test.data()[i * n + i]);
    variance = std::max(variance, 0.0);
    for (Index j = 0; j < i; ++j) result.data()[i * n + j] = result.data()[j * n + i] = result.data()[i * n + j] / 2 + result.data()[j * n + i] / 2;
  }
  return result;
}

// A K*^T + K* A^T - A K A^T, of A^T [n, n2].
Array<double> exchanged(const Known& known, const Array<double>& a, const Array<double>& nngp_cross) {
  const Array<double> crossed = product(true, true, a, nngp_cross);
  return crossed + transposed(crossed) - product(true, false, a, product(false, false, known.nngp, a));
}

template <Scalar T> Known known_of(const char* operation, const EnsembleKernels<T>& kernels, const Array<T>& y) {
  Known known{operation, cast<double>(y), {}};
  if (y.shape().rank() == 0 || y.size() == 0) fail<ShapeError>("{}: y is {}; there must be at least one example and one output", operation, y.shape());
  const Shape wanted{known.n(), known.n()};
  if (kernels.nngp.shape() != wanted) fail<ShapeError>("{}: y is {}, the nngp is {}; of the training examples with themselves it must be {}", operation, y.shape(), kernels.nngp.shape(), wanted);
  if (kernels.ntk.size() > 0 && kernels.ntk.shape() != wanted) fail<ShapeError>("{}: y is {}, the ntk is {}; of the training examples with themselves it must be {}", operation, y.shape(), kernels.ntk.shape(), wanted);
  check_finite(operation, "y", y);
  if (kernels.ntk.size() > 0) known.nngp = checked_kernel(operation, kernels.nngp);
  return known;
}

// The ridge in numbers, of the kernel whose diagonal has this mean.
double ridge_of(const char* operation, const EnsembleOptions& options, double mean_diagonal) {
  if (!(std::isfinite(options.rate) && options.rate > 0)) fail<NumericalError>("{}: the rate must be positive and finite, got {}", operation, options.rate);
  if (!(std::isfinite(options.ridge) && options.ridge >= 0)) fail<NumericalError>("{}: the ridge must be finite and not negative, got {}", operation, options.ridge);
  if (!(std::isfinite(options.relative_ridge) && options.relative_ridge >= 0))
    fail<NumericalError>("{}: the relative ridge must be finite and not negative, got {}", operation, options.relative_ridge);
  return options.ridge + options.relative_ridge * mean_diagonal;
}

}  // namespace

// ---- by eigenvalues

struct Ensemble::State {
  Known known;
  Spectrum spectrum;
  Array<double> training;  // D on the training examples, for answers there
  double rate_per_row, ridge;

  bool keeps(Index i) const { return spectrum.values().data()[i] + ridge > spectrum.tolerance(); }
  Index rank() const {
    Index kept = 0;
    for (Index i = 0; i < spectrum.size(); ++i) kept += keeps(i);
    return kept;
  }
  double condition() const {  // eigenvalues ascend, and those that are kept are the last
    const Index left_out = spectrum.size() - rank();
    return rank() == 0 ? 1 : (spectrum.lambda_max() + ridge) / (spectrum.values().data()[left_out] + ridge);
  }
  double time(const char* operation, double t) const {
    if (!(t >= 0)) fail<NumericalError>("{}: t must be a number from 0 to infinity, got {}", operation, t);
    return t * rate_per_row;
  }
  // phi(D + r, s) in modes, times rows.
  Array<double> answered(const Array<double>& modes, double s, double power = 1) const {
    Array<double> result(modes.shape());
    const Index width = modes.shape()[1];
    for (Index i = 0; i < spectrum.size(); ++i) {
      if (!keeps(i)) continue;
      const double factor = std::pow(phi(std::max(0.0, spectrum.values().data()[i]) + ridge, s), power);
      for (Index j = i * width; j < (i + 1) * width; ++j) result.data()[j] = factor * modes.data()[j];
    }
    return result;
  }
  Array<double> a(const Array<double>& modes, double t) const { return spectrum.from_modes(answered(modes, time("mean", t))); }  // A^T

  std::vector<Gaussian> at(const Cross& cross, std::span<const double> times) const {
    const Array<double> modes = spectrum.to_modes(transposed(cross.training));
    std::vector<Gaussian> all;
    for (const double t : times) {
      const double s = time("predict", t);
      const Array<double> a = spectrum.from_modes(answered(modes, s));
      Gaussian g{known.mean(a), {}};
      if (known.all_layers()) {
        g.covariance = covariance(known, cross.test, exchanged(known, a, cross.nngp));
      } else {
        const Array<double> half = answered(modes, 2 * s, .5);
        g.covariance = covariance(known, cross.test, product(true, false, half, half));
      }
      all.push_back(std::move(g));
    }
    return all;
  }
};

template <Scalar T> Ensemble gradient_flow_ensemble(const EnsembleKernels<T>& kernels, const Array<T>& y, const EnsembleOptions& options) {
  const char* name = "gradient_flow_ensemble";
  Known known = known_of(name, kernels, y);
  const Array<T>& training = known.all_layers() ? kernels.ntk : kernels.nngp;
  Spectrum spectrum(training);
  const double ridge = ridge_of(name, options, spectrum.mean_diagonal());
  check_semidefinite(name, spectrum.lambda_min(), spectrum.lambda_max(), spectrum.size(), spectrum.tolerance(), ridge);
  Ensemble::State state{std::move(known), std::move(spectrum), checked_kernel(name, training), options.rate / static_cast<double>(y.size()), ridge};
  state.known.allowed = std::max(1e-12, 10 * static_cast<double>(std::numeric_limits<T>::epsilon()) * state.condition());
  return Ensemble(std::make_shared<const Ensemble::State>(std::move(state)));
}

Index Ensemble::rank() const { return state_->rank(); }
double Ensemble::condition() const { return state_->condition(); }

Gaussian Ensemble::train(double t) const {
  const Array<double>& nngp = state_->known.nngp;
  return std::move(state_->at({state_->training, nngp, nngp.size() > 0 ? nngp : state_->training}, std::span(&t, 1))[0]);
}
template <Scalar T> std::vector<Gaussian> Ensemble::predict(const EnsembleKernels<T>& kernels, const Array<T>& nngp_test_test, std::span<const double> times) const {
  return state_->at(cross(state_->known, kernels, &nngp_test_test), times);
}
template <Scalar T> Gaussian Ensemble::predict(const EnsembleKernels<T>& kernels, const Array<T>& nngp_test_test, double t) const {
  return std::move(predict(kernels, nngp_test_test, std::span(&t, 1))[0]);
}
template <Scalar T> Array<double> Ensemble::mean(const EnsembleKernels<T>& kernels, double t) const {
  const Cross given = cross<T>(state_->known, kernels, nullptr);
  return state_->known.mean(state_->a(state_->spectrum.to_modes(transposed(given.training)), t));
}

// ---- by a factor

struct GaussianProcess::State {
  Known known;
  Array<double> factor;  // lower, of D + r

  Array<double> solved(bool transpose, const Array<double>& b) const {
    Array<double> x = b;
    autodiff::triangular_solve(transpose, factor.shape()[0], b.shape()[1], factor.data(), x.data(), x.data());
    return x;
  }
};

template <Scalar T> GaussianProcess gp_inference(const EnsembleKernels<T>& kernels, const Array<T>& y, const EnsembleOptions& options) {
  const char* name = "gp_inference";
  Known known = known_of(name, kernels, y);
  Array<double> factor = checked_kernel(name, known.all_layers() ? kernels.ntk : kernels.nngp);
  const Index n = known.n();
  double mean = 0, largest = 0;
  for (Index i = 0; i < n; ++i) mean += factor.data()[i * (n + 1)] / static_cast<double>(n);
  const double ridge = ridge_of(name, options, mean);
  for (Index i = 0; i < n; ++i) largest = std::max(largest, factor.data()[i * (n + 1)] += ridge);
  const double noise = null_tolerance(n, largest, static_cast<double>(std::numeric_limits<T>::epsilon()));

  Index bad = autodiff::cholesky(n, factor.data(), factor.data());
  double pivot = bad < n ? factor.data()[bad * (n + 1)] : 0, smallest = largest;
  for (Index i = 0; i < n && bad == n; ++i) {
    pivot = factor.data()[i * (n + 1)] * factor.data()[i * (n + 1)];
    smallest = std::min(smallest, pivot);
    if (!(pivot > noise)) bad = i;
  }
  if (bad < n)
    fail<NumericalError>("{}: the kernel of {} examples is singular to rounding: pivot {} is {:.3g}, where rounding explains {:.3g}; example {} follows from those before it. Leave it out, "
                         "pass a ridge well above that (relative_ridge = 1e-6, say), or take gradient_flow_ensemble at t = infinity, which leaves out what is singular",
                         name, n, bad, pivot, noise, bad);
  known.allowed = std::max(1e-12, 10 * static_cast<double>(std::numeric_limits<T>::epsilon()) * largest * static_cast<double>(n) / smallest);
  return GaussianProcess(std::make_shared<const GaussianProcess::State>(GaussianProcess::State{std::move(known), std::move(factor)}));
}

template <Scalar T> Gaussian GaussianProcess::predict(const EnsembleKernels<T>& kernels, const Array<T>& nngp_test_test) const {
  const Cross given = cross(state_->known, kernels, &nngp_test_test);
  const Array<double> half = state_->solved(false, transposed(given.training)), a = state_->solved(true, half);
  return {state_->known.mean(a), covariance(state_->known, given.test, state_->known.all_layers() ? exchanged(state_->known, a, given.nngp) : product(true, false, half, half))};
}
template <Scalar T> Array<double> GaussianProcess::mean(const EnsembleKernels<T>& kernels) const {
  const Cross given = cross<T>(state_->known, kernels, nullptr);
  return state_->known.mean(state_->solved(true, state_->solved(false, transposed(given.training))));
}

Array<double> deviations(const Gaussian& gaussian) {
  const Index n = gaussian.mean.shape()[0];
  if (gaussian.covariance.shape() != Shape{n, n}) fail<ShapeError>("deviations: the covariance is {}, beside a mean of {} it must be {}", gaussian.covariance.shape(), gaussian.mean.shape(), Shape{n, n});
  Array<double> result(Shape{n});
  for (Index i = 0; i < n; ++i) result.data()[i] = std::sqrt(gaussian.covariance.data()[i * (n + 1)]);
  return result;
}

#define LINNET_INSTANTIATE(T)                                                                                                             \
  template Ensemble gradient_flow_ensemble(const EnsembleKernels<T>&, const Array<T>&, const EnsembleOptions&);                           \
  template Gaussian Ensemble::predict(const EnsembleKernels<T>&, const Array<T>&, double) const;                                          \
  template std::vector<Gaussian> Ensemble::predict(const EnsembleKernels<T>&, const Array<T>&, std::span<const double>) const;            \
  template Array<double> Ensemble::mean(const EnsembleKernels<T>&, double) const;                                                         \
  template GaussianProcess gp_inference(const EnsembleKernels<T>&, const Array<T>&, const EnsembleOptions&);                              \
  template Gaussian GaussianProcess::predict(const EnsembleKernels<T>&, const Array<T>&) const;                                           \
  template Array<double> GaussianProcess::mean(const EnsembleKernels<T>&) const;
LINNET_INSTANTIATE(float)
LINNET_INSTANTIATE(double)

}  // namespace linnet::predict
