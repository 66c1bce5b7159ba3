// Dynamics: the law's response of each eigenvalue, put together.
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
using autodiff::Shape;
using autodiff::ShapeError;

Dynamics::Dynamics(Spectrum spectrum, const Array<double>& residual, const Law& law, const Array<double>& pull) : spectrum_(std::move(spectrum)), law_(law) {
  const char* name = law.name();
  law.check();
  if (residual.size() == 0) fail<ShapeError>("{}: there is nothing to train on: f0 - y is {}", name, residual.shape());
  check_finite(name, "f0 - y", residual);
  check_semidefinite(name, spectrum_.lambda_min(), spectrum_.lambda_max(), spectrum_.size(), spectrum_.tolerance(), law.ridge);
  modes_ = spectrum_.to_modes(residual);
  shift_ = law.shift(rows());
  if (law.weight_decay == 0) return;
  if (pull.shape() != residual.shape()) fail<ShapeError>("{}: weights decay, so A theta0 must have the shape {} of f0 - y, got {}", name, residual.shape(), pull.shape());
  check_finite(name, "A theta0", pull);
  pull_ = spectrum_.to_modes(pull);
}

bool Dynamics::keeps(Index i) const { return std::abs(spectrum_.values().data()[i] + shift_) > spectrum_.tolerance(); }

double Dynamics::eigenvalue(Index i) const {
  const double lambda = spectrum_.values().data()[i];
  return lambda < 0 && -lambda <= spectrum_.tolerance() ? 0 : lambda;
}

Index Dynamics::rank() const {
  Index kept = 0;
  for (Index i = 0; i < spectrum_.size(); ++i) kept += keeps(i);
  return kept * columns();
}

double Dynamics::condition() const {
  double smallest = std::numeric_limits<double>::infinity(), largest = 0;
  for (Index i = 0; i < spectrum_.size(); ++i)
    if (keeps(i)) {
      const double size = std::abs(spectrum_.values().data()[i] + shift_);
      smallest = std::min(smallest, size);
      largest = std::max(largest, size);
    }
  return largest == 0 ? 1 : largest / smallest;
}

double Dynamics::max_rate() const {
  const double largest = spectrum_.lambda_max() + shift_;
  return largest > 0 ? law_.edge() * rows() / largest : std::numeric_limits<double>::infinity();
}

void Dynamics::check_times(const char* operation, std::span<const double> times) const {
  for (const double t : times) {
    law_.check_time(operation, t);
    if (std::isinf(t) && law_.rate >= max_rate())
      fail<NumericalError>("{}: the steps do not converge, so there is no t = infinity: the rate is {:.6g}, and steps converge below {:.6g}, the largest rate for "
                           "lambda_max = {:.6g} and N = {}; lower the rate, or ask for a finite number of steps",
                           law_.name(), law_.rate, max_rate(), spectrum_.lambda_max(), modes_.size());
  }
}

// factors(lambda, t) gives two numbers, which multiply the modes of the residual and of the pull; of the modes that are kept. [n, times, columns].
template <class F> Array<double> Dynamics::in_modes(std::span<const double> times, F&& factors) const {
  const Index n = spectrum_.size(), width = columns(), count = static_cast<Index>(times.size());
  Array<double> result(Shape{n, count * width});
  for (Index i = 0; i < n; ++i) {
    if (!keeps(i)) continue;
    for (Index k = 0; k < count; ++k) {
      const auto [own, pulled] = factors(response(law_, eigenvalue(i), rows(), times[static_cast<std::size_t>(k)]));
      double* to = result.data() + (i * count + k) * width;
      for (Index j = 0; j < width; ++j) {  // where a mode is zero it stays so, whatever grows
        const double mode = modes_.data()[i * width + j], pull = pull_.size() > 0 ? pull_.data()[i * width + j] : 0;
        to[j] = (mode == 0 ? 0 : own * mode) + (pull == 0 ? 0 : pulled * pull);
      }
    }
  }
  return result;
}

Array<double> Dynamics::checked(const char* operation, std::span<const double> times, Array<double> answer) const {
  const Index n = spectrum_.size(), count = static_cast<Index>(times.size());
  if (count > 0) answer = spectrum_.from_modes(answer);
  answer = std::move(answer).reshaped(Shape{n, count, columns()});
  const Index bad = autodiff::first_not_finite<double>(answer.values());
  if (bad < 0) return answer;
  const double t = times[static_cast<std::size_t>(bad / columns() % count)];
  if (law_.rate > max_rate())
    fail<NumericalError>("{}: after {:.6g} steps of {} with rate {:.6g} the answer overflows: steps converge below {:.6g}, the largest rate for lambda_max = {:.6g} and N = {}; "
                         "lower the rate, or ask for fewer steps",
                         operation, t, law_.name(), law_.rate, max_rate(), spectrum_.lambda_max(), modes_.size());
  const Index row = bad / (count * columns()), column = bad % columns();
  fail<NumericalError>("{}: the answer at t = {:.6g} with lambda_max = {:.6g} has {} at {}; every value must be finite", operation, t, spectrum_.lambda_max(), answer.data()[bad],
                       autodiff::position(row * columns() + column, modes_.shape()));
}

Array<double> Dynamics::coefficients(std::span<const double> times) const {
  check_times("coefficients", times);
  return checked("coefficients", times, in_modes(times, [](const Response& r) { return std::pair(r.coefficient, r.pull_coefficient); }));
}

Array<double> Dynamics::change(std::span<const double> times) const {
  check_times("train", times);
  return checked("train", times, in_modes(times, [](const Response& r) { return std::pair(r.change, r.pull_change); }));
}

Array<double> Dynamics::coefficients(double t) const { return coefficients(std::span(&t, 1)).reshaped(modes_.shape()); }
Array<double> Dynamics::change(double t) const { return change(std::span(&t, 1)).reshaped(modes_.shape()); }

double Dynamics::shrink(double t) const {
  check_times("weights", std::span(&t, 1));
  const double answer = predict::shrink(law_, rows(), t);
  if (!std::isfinite(answer)) fail<NumericalError>("{}: the weights decay by more than all of them at each step and overflow after {:.6g} steps; lower the rate or the weight decay", law_.name(), t);
  return answer;
}

double Dynamics::loss(double t) const {
  check_times("loss", std::span(&t, 1));
  const Index width = columns();
  Array<double> squares = modes_;
  for (Index i = 0; i < spectrum_.size(); ++i) {
    const Response r = keeps(i) ? response(law_, eigenvalue(i), rows(), t) : Response{};
    for (Index j = i * width; j < (i + 1) * width; ++j) {
      const double mode = modes_.data()[j], pull = pull_.size() > 0 ? pull_.data()[j] : 0;
      if (pull == 0) squares.data()[j] *= r.left * r.left * mode;  // rounded as a product it never grows where left does not
      else squares.data()[j] = std::pow(r.left * mode + r.pull_change * pull, 2);
    }
  }
  const double loss = autodiff::fixed_sum(squares.data(), squares.size()) / (2 * rows());
  if (!std::isfinite(loss)) fail<NumericalError>("loss: the squares of {} overflow; the largest entry in the eigenbasis is {:.3g}", t == 0 ? "f0 - y" : fmt::format("f - y after t = {:.6g} of {} with rate {:.6g}", t, law_.name(), law_.rate), max_abs(modes_));
  return loss;
}

double max_learning_rate(double lambda_max, Index rows, double momentum, bool nesterov) {
  if (!(lambda_max >= 0)) fail<NumericalError>("max_learning_rate: lambda_max is {}; the largest eigenvalue of a kernel is not negative", lambda_max);
  if (rows < 1) fail<NumericalError>("max_learning_rate: there are {} rows; N counts examples times outputs and is at least 1", rows);
  const Law law{.motion = Motion::momentum, .momentum = momentum, .nesterov = nesterov};
  if (!(momentum >= 0 && momentum < 1)) fail<NumericalError>("max_learning_rate: the momentum must be in [0, 1), got {}", momentum);
  return lambda_max > 0 ? law.edge() * static_cast<double>(rows) / lambda_max : std::numeric_limits<double>::infinity();
}

}  // namespace linnet::predict
