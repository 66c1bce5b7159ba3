// The formulas of dynamics.h, one eigenvalue at a time.
#include "linnet/predict/dynamics.h"

#include "linnet/autodiff/finite.h"
#include "linnet/predict/spectral.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace linnet::predict {

using autodiff::check_finite;
using autodiff::fail;
using autodiff::NumericalError;
using autodiff::ShapeError;

Dynamics::Dynamics(Spectrum spectrum, const Array<double>& residual, const FlowOptions& options) : spectrum_(std::move(spectrum)), rate_per_row_(options.rate), ridge_(options.ridge) {
  if (!(std::isfinite(options.rate) && options.rate > 0)) fail<NumericalError>("gradient_flow: the rate must be positive and finite, got {}", options.rate);
  if (!(std::isfinite(options.ridge) && options.ridge >= 0)) fail<NumericalError>("gradient_flow: the ridge must be finite and not negative, got {}", options.ridge);
  if (residual.size() == 0) fail<ShapeError>("gradient_flow: there is nothing to train on: f0 - y is {}", residual.shape());
  check_finite("gradient_flow", "f0 - y", residual);
  check_semidefinite("gradient_flow", spectrum_.lambda_min(), spectrum_.lambda_max(), spectrum_.size(), spectrum_.tolerance(), ridge_);
  modes_ = spectrum_.to_modes(residual);
  rate_per_row_ /= static_cast<double>(residual.size());
}

double Dynamics::time_per_row(const char* operation, double t) const {
  if (!(t >= 0)) fail<NumericalError>("{}: t must be a number from 0 to infinity, got {}", operation, t);
  return t * rate_per_row_;
}

bool Dynamics::keeps(Index i) const { return std::abs(spectrum_.values().data()[i] + ridge_) > spectrum_.tolerance(); }

double Dynamics::eigenvalue(Index i) const {
  const double lambda = spectrum_.values().data()[i];
  return lambda < 0 && -lambda <= spectrum_.tolerance() ? 0 : lambda;
}

Index Dynamics::rank() const {
  Index kept = 0;
  for (Index i = 0; i < spectrum_.size(); ++i) kept += keeps(i);
  return kept * (modes_.size() / spectrum_.size());
}

double Dynamics::condition() const {
  double smallest = std::numeric_limits<double>::infinity(), largest = 0;
  for (Index i = 0; i < spectrum_.size(); ++i)
    if (keeps(i)) {
      const double size = std::abs(spectrum_.values().data()[i] + ridge_);
      smallest = std::min(smallest, size);
      largest = std::max(largest, size);
    }
  return largest == 0 ? 1 : largest / smallest;
}

template <class F> Array<double> Dynamics::in_modes(F&& factor) const {
  Array<double> result(modes_.shape());
  const Index columns = modes_.size() / spectrum_.size();
  for (Index i = 0; i < spectrum_.size(); ++i) {
    if (!keeps(i)) continue;
    const double f = factor(eigenvalue(i));
    for (Index j = i * columns; j < (i + 1) * columns; ++j) result.data()[j] = modes_.data()[j] == 0 ? 0 : f * modes_.data()[j];
  }
  return result;
}

Array<double> Dynamics::coefficients(double t) const {
  const double s = time_per_row("coefficients", t);
  Array<double> c = spectrum_.from_modes(in_modes([&](double lambda) { return -phi(lambda + ridge_, s); }));
  check_finite("coefficients", fmt::format("the answer at t = {:.6g} with lambda_max = {:.6g}", t, spectrum_.lambda_max()), c);
  return c;
}

// lambda (1 - exp(-(lambda + r) s)) / (lambda + r), without a product of numbers that could overflow.
Array<double> Dynamics::change(double t) const {
  const double s = time_per_row("train", t);
  Array<double> change = spectrum_.from_modes(in_modes([&](double lambda) { return lambda / (lambda + ridge_) * (s == 0 ? 0 : std::expm1(-(lambda + ridge_) * s)); }));
  check_finite("train", fmt::format("the answer at t = {:.6g} with lambda_max = {:.6g}", t, spectrum_.lambda_max()), change);
  return change;
}

// Every mode's residual (r + lambda exp(-(lambda + r) s)) / (lambda + r) falls with s, and so do its rounded square and their rounded sum.
double Dynamics::loss(double t) const {
  const double s = time_per_row("loss", t);
  const Index columns = modes_.size() / spectrum_.size();
  Array<double> squares = modes_;
  for (Index i = 0; i < spectrum_.size(); ++i) {
    const double lambda = eigenvalue(i);
    const double left = keeps(i) ? (ridge_ + lambda * decay(lambda + ridge_, s)) / (lambda + ridge_) : 1;
    for (Index j = i * columns; j < (i + 1) * columns; ++j) squares.data()[j] *= left * left * squares.data()[j];
  }
  const double loss = autodiff::fixed_sum(squares.data(), squares.size()) / (2 * static_cast<double>(squares.size()));
  if (!std::isfinite(loss)) fail<NumericalError>("loss: the squares of f0 - y overflow; the largest entry in the eigenbasis is {:.3g}", max_abs(modes_));
  return loss;
}

}  // namespace linnet::predict
