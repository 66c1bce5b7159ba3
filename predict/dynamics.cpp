// Dynamics: the law's response of each eigenvalue, put together.
#include "linnet/predict/dynamics.h"

#include "linnet/autodiff/finite.h"
#include "linnet/autodiff/kernels/decompositions.h"
#include "linnet/autodiff/kernels/gemm.h"
#include "linnet/autodiff/table.h"
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
using autodiff::StructureError;

// What there is instead of a spectrum, until there is one.
struct Dynamics::Products {
  std::optional<Krylov> krylov;  // until there is
  Array<double> residual, pull;
  Sources sources;
  std::optional<Dynamics> spectral = {};
  // The kernel and the basis are given back: the spectrum is as large.
  void decompose(const Law& law, std::string why) {
    spectral.emplace(sources.decompose(), residual, law, pull);
    krylov.reset();
    sources = {.n = sources.n, .why = std::move(why)};
  }
  struct Limit {
    Array<double> coefficients, change;  // [n, 1, k]
    Bounds bounds;
  };
  std::optional<Limit> limit = {};  // t = infinity by Cholesky's factor
  bool limit_tried = false;

  const Limit* at_infinity(const Law& law, std::span<const double> times);
  Array<double> coefficients(const Law& law, std::span<const double> times) {
    const Limit* known = at_infinity(law, times);
    return known ? known->coefficients : krylov->coefficients(times);
  }
  Array<double> change(const Law& law, std::span<const double> times) {
    const Limit* known = at_infinity(law, times);
    return known ? known->change : krylov->change(times);
  }
};

// (K + k) c = -(f0 - y) - (s - 1) A theta0, once, where the kernel is in memory and not singular.
const Dynamics::Products::Limit* Dynamics::Products::at_infinity(const Law& law, std::span<const double> times) {
  if (!sources.automatic || !sources.kernel || times.size() != 1 || !std::isinf(times[0])) return nullptr;
  if (limit_tried) return limit ? &*limit : nullptr;
  limit_tried = true;
  const Index n = sources.n, k = residual.size() / n;
  const double rows = static_cast<double>(residual.size()), shift = law.shift(rows);
  Array<double> factor = *sources.kernel;
  for (Index i = 0; i < n; ++i) factor.data()[i * n + i] += shift;
  const double largest = max_abs(factor);
  if (autodiff::cholesky(n, factor.data(), factor.data()) != n) return nullptr;
  double pivot = largest;
  for (Index i = 0; i < n; ++i) pivot = std::min(pivot, std::pow(factor.data()[i * n + i], 2));
  if (pivot <= 1e3 * null_tolerance(n, largest, std::numeric_limits<double>::epsilon())) return nullptr;
  Array<double> drive = residual;
  if (law.weight_decay > 0) drive = drive + predict::shrink(law, rows, times[0]) * pull;
  Array<double> c = -1.0 * drive;
  autodiff::triangular_solve(false, n, k, factor.data(), c.data(), c.data());
  autodiff::triangular_solve(true, n, k, factor.data(), c.data(), c.data());
  Array<double> left = drive + shift * c;
  autodiff::gemm(false, false, n, k, n, sources.kernel->data(), c.data(), left.data(), true);
  const Array<double> change = -1.0 * (residual + shift * c);  // K c + (s - 1) A theta0
  Limit found{c.reshaped(Shape{n, 1, k}), change.reshaped(Shape{n, 1, k}), {.outputs = norm(left)}};
  if (!(found.bounds.outputs <= 1e-10 * norm(drive))) return nullptr;
  found.bounds.weights_rigorous = shift > 0;
  found.bounds.weights = found.bounds.weights_estimate = found.bounds.outputs / (shift > 0 ? 2 * std::sqrt(shift) : std::sqrt(pivot));
  found.bounds.rounding = found.bounds.outputs;
  limit.emplace(std::move(found));
  return &*limit;
}

Dynamics::Dynamics(Spectrum spectrum, const Array<double>& residual, const Law& law, const Array<double>& pull) : n_(spectrum.size()), spectrum_(std::move(spectrum)), law_(law) {
  const char* name = law.name();
  law.check();
  if (residual.size() == 0) fail<ShapeError>("{}: there is nothing to train on: f0 - y is {}", name, residual.shape());
  check_finite(name, "f0 - y", residual);
  check_semidefinite(name, spectrum_->lambda_min(), spectrum_->lambda_max(), spectrum_->size(), spectrum_->tolerance(), law.ridge);
  modes_ = spectrum_->to_modes(residual);
  shift_ = law.shift(rows());
  if (law.weight_decay == 0) return;
  if (pull.shape() != residual.shape()) fail<ShapeError>("{}: weights decay, so A theta0 must have the shape {} of f0 - y, got {}", name, residual.shape(), pull.shape());
  check_finite(name, "A theta0", pull);
  pull_ = spectrum_->to_modes(pull);
}

Dynamics::Dynamics(Krylov krylov, const Array<double>& residual, const Law& law, const Array<double>& pull, Sources sources)
    : n_(sources.n), modes_(residual), pull_(pull), law_(law), products_(std::make_shared<Products>(Products{std::move(krylov), residual, pull, std::move(sources)})) {
  shift_ = law.shift(rows());
}

Dynamics Dynamics::with_ridge(double ridge) const {
  Dynamics other(*this);
  other.law_.ridge = ridge;
  other.law_.check();
  other.shift_ = other.law_.shift(rows());
  if (!products_) check_semidefinite(law_.name(), spectrum_->lambda_min(), spectrum_->lambda_max(), n_, spectrum_->tolerance(), ridge);
  else {
    other.products_ = std::make_shared<Products>(Products{products_->krylov, products_->residual, products_->pull, products_->sources});
    if (products_->krylov) other.products_->krylov = products_->krylov->with_ridge(ridge);
    if (products_->spectral) other.products_->spectral.emplace(products_->spectral->with_ridge(ridge));
  }
  return other;
}

const Dynamics& Dynamics::need_spectrum(const char* operation) const {
  Products& p = *products_;
  if (!p.spectral) {
    if (!p.sources.decompose || !p.sources.automatic)
      fail<StructureError>("{}: these dynamics know the kernel by products alone; take Solver::decomposition, where N = {} rows are not too many, or ntk::largest_eigenvalues",
                           operation, modes_.size());
    p.decompose(law_, fmt::format("{} wants the spectrum", operation));
  }
  return *p.spectral;
}

// After 20, 40, 80, … products there is a prediction of how many a time needs: of more than N / 4 a decomposition is the shorter way.
const Dynamics* Dynamics::by_spectrum(std::span<const double> times) const {
  if (!products_) return nullptr;
  Products& p = *products_;
  if (p.spectral) return &*p.spectral;
  if (!p.sources.automatic || !p.sources.kernel || p.at_infinity(law_, times)) return nullptr;
  for (const double t : times) {
    for (Index most = 20; !p.krylov->advance(t, most); most *= 2) {
      const double predicted = p.krylov->products_predicted(t);
      if (4 * predicted <= static_cast<double>(n_) && 4 * most <= n_) continue;
      p.decompose(law_, fmt::format("t = {:.6g} would need some {:.0f} products, and the kernel has {} rows", t, predicted, n_));
      return &*p.spectral;
    }
  }
  return nullptr;
}

Bounds Dynamics::bounds(double t) const {
  check_times("bounds", std::span(&t, 1));
  if (const Dynamics* other = by_spectrum(std::span(&t, 1))) return other->bounds(t);
  if (products_) {
    const Products::Limit* known = products_->at_infinity(law_, std::span(&t, 1));
    return known ? known->bounds : products_->krylov->bounds(t);
  }
  // A decomposition is that of a kernel that differs by rounding, which is at most the tolerance; measured answers differ by less than ten epsilon times the condition.
  const double reach = law_.motion == Motion::gradient_flow ? law_.rate * t / rows() * spectrum_->lambda_max() : condition();
  Bounds b;
  const Array<double> answer = change(t);
  b.rounding = b.outputs = 10 * std::numeric_limits<double>::epsilon() * std::max(1.0, std::min(reach, condition())) * norm(answer);
  double least = std::numeric_limits<double>::infinity();
  for (Index i = 0; i < spectrum_->size(); ++i)
    if (keeps(i)) least = std::min(least, std::abs(spectrum_->values().data()[i] + shift_));
  b.weights = b.weights_estimate = std::isfinite(least) ? b.outputs / std::sqrt(least) : 0;
  b.outputs_rigorous = b.weights_rigorous = false;
  return b;
}

std::string Dynamics::explain() const {
  if (!products_) return fmt::format("decomposition of a kernel of {} rows", n_);
  const Products& p = *products_;
  if (p.spectral) return fmt::format("decomposition of a kernel of {} rows: {}", n_, p.sources.why);
  return fmt::format("products with a kernel of {} rows: {}; {} so far, a basis of {}{}", n_, p.sources.why, p.krylov->products(), autodiff::in_bytes(static_cast<double>(p.krylov->bytes())),
                     p.limit ? "; t = infinity by Cholesky's factor" : "");
}

bool Dynamics::keeps(Index i) const {
  if (products_) return need_spectrum("keeps").keeps(i);
  return std::abs(spectrum_->values().data()[i] + shift_) > spectrum_->tolerance();
}

double Dynamics::eigenvalue(Index i) const {
  const double lambda = spectrum_->values().data()[i];
  return lambda < 0 && -lambda <= spectrum_->tolerance() ? 0 : lambda;
}

const Spectrum& Dynamics::spectrum() const { return products_ ? *need_spectrum("spectrum").spectrum_ : *spectrum_; }

Index Dynamics::rank() const {
  if (products_) return need_spectrum("rank").rank();
  Index kept = 0;
  for (Index i = 0; i < spectrum_->size(); ++i) kept += keeps(i);
  return kept * columns();
}

double Dynamics::condition() const {
  if (products_) return products_->sources.automatic || products_->spectral ? need_spectrum("condition").condition() : products_->krylov->condition();
  double smallest = std::numeric_limits<double>::infinity(), largest = 0;
  for (Index i = 0; i < spectrum_->size(); ++i)
    if (keeps(i)) {
      const double size = std::abs(spectrum_->values().data()[i] + shift_);
      smallest = std::min(smallest, size);
      largest = std::max(largest, size);
    }
  return largest == 0 ? 1 : largest / smallest;
}

double Dynamics::lambda_max() const {
  if (!products_) return spectrum_->lambda_max();
  return products_->spectral ? products_->spectral->lambda_max() : products_->krylov->lambda_max();
}

bool Dynamics::matrixless() const { return products_ && !products_->spectral && !products_->sources.kernel; }

double Dynamics::max_rate() const { return law_.max_rate(lambda_max(), rows()); }

void Dynamics::check_times(const char* operation, std::span<const double> times) const {
  for (const double t : times) {
    law_.check_time(operation, t);
    if (std::isinf(t) && law_.steps()) law_.check_limit(lambda_max(), modes_.size(), t);
  }
}

// factors(lambda, t) gives two numbers, which multiply the modes of the residual and of the pull; of the modes that are kept. [n, times, columns].
template <class F> Array<double> Dynamics::in_modes(std::span<const double> times, F&& factors) const {
  const Index n = spectrum_->size(), width = columns(), count = static_cast<Index>(times.size());
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
  const Index n = spectrum_->size(), count = static_cast<Index>(times.size());
  if (count > 0) answer = spectrum_->from_modes(answer);
  answer = std::move(answer).reshaped(Shape{n, count, columns()});
  const Index bad = autodiff::first_not_finite<double>(answer.values());
  if (bad < 0) return answer;
  const double t = times[static_cast<std::size_t>(bad / columns() % count)];
  if (law_.rate > max_rate())
    fail<NumericalError>("{}: after {:.6g} steps of {} with rate {:.6g} the answer overflows: steps converge below {:.6g}, the largest rate for lambda_max = {:.6g} and N = {}; "
                         "lower the rate, or ask for fewer steps",
                         operation, t, law_.name(), law_.rate, max_rate(), spectrum_->lambda_max(), modes_.size());
  const Index row = bad / (count * columns()), column = bad % columns();
  fail<NumericalError>("{}: the answer at t = {:.6g} with lambda_max = {:.6g} has {} at {}; every value must be finite", operation, t, spectrum_->lambda_max(), answer.data()[bad],
                       autodiff::position(row * columns() + column, modes_.shape()));
}

Array<double> Dynamics::coefficients(std::span<const double> times) const {
  if (const Dynamics* other = by_spectrum(times)) return other->coefficients(times);
  if (products_) return products_->coefficients(law_, times);
  check_times("coefficients", times);
  return checked("coefficients", times, in_modes(times, [](const Response& r) { return std::pair(r.coefficient, r.pull_coefficient); }));
}

Array<double> Dynamics::change(std::span<const double> times) const {
  if (const Dynamics* other = by_spectrum(times)) return other->change(times);
  if (products_) return products_->change(law_, times);
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
  if (const Dynamics* other = by_spectrum(std::span(&t, 1))) return other->loss(t);
  if (products_) {
    const Array<double> left = change(t) + products_->residual;
    return dot(left, left) / (2 * rows());
  }
  const Index width = columns();
  Array<double> squares = modes_;
  for (Index i = 0; i < spectrum_->size(); ++i) {
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
