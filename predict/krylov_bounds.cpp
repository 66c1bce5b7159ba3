// The bounds follow from the residual of the Krylov answer, which is h |b| v_{m+1} times a number that never changes its sign: all entries of T beside the diagonal have
// one sign, and so have those of exp(-T s) and of powers of I - rate T / N. Its integral over time is then known, and no quadrature is needed.
#include "linnet/predict/krylov_bounds.h"

#include "linnet/autodiff/kernels/decompositions.h"
#include "linnet/predict/spectral.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace linnet::predict {

namespace {

constexpr double epsilon = std::numeric_limits<double>::epsilon(), infinity = std::numeric_limits<double>::infinity();

// Zero times infinity is zero here: a bound of nothing.
double times(double a, double b) { return a == 0 || b == 0 ? 0 : a * b; }

// T y nearest to |b| e_1 where T has one row more than columns: the last step's. Givens' rotations; the residual's length in `left`.
std::vector<double> least_squares(const Steps& s, double& left) {
  const auto m = s.diagonal.size();
  std::vector<double> r0(m), r1(m), r2(m), g(m + 1, 0), y(m, 0);
  g[0] = s.start;
  double c = 1, sine = 0, c_before = 1, s_before = 0;
  for (std::size_t k = 0; k < m; ++k) {
    const double above = k > 0 ? s.beside[k - 1] : 0;  // column k is (above, diagonal, beside)
    const double e = s_before * above, d = c_before * above;
    const double upper = c * d + sine * s.diagonal[k], middle = -sine * d + c * s.diagonal[k], below = s.beside[k];
    const double length = std::hypot(middle, below);
    if (k > 1) r2[k - 2] = e;
    if (k > 0) r1[k - 1] = upper;
    r0[k] = length;
    c_before = c, s_before = sine;
    c = length > 0 ? middle / length : 1;
    sine = length > 0 ? below / length : 0;
    g[k + 1] = -sine * g[k];
    g[k] *= c;
  }
  for (std::size_t k = m; k-- > 0;) {
    double sum = g[k];
    if (k + 1 < m) sum -= r1[k] * y[k + 1];
    if (k + 2 < m) sum -= r2[k] * y[k + 2];
    y[k] = r0[k] > 0 ? sum / r0[k] : 0;
  }
  left = std::abs(g[m]);
  return y;
}

}  // namespace

Ritz::Ritz(Steps steps, const Law& law, double rows, double null_tolerance, double noise)
    : steps_(std::move(steps)), law_(law), rows_(rows), shift_(law.shift(rows)), noise_(noise), null_tolerance_(null_tolerance) {
  const Index m = steps_.size();
  values_ = Array<double>({m});
  vectors_ = Array<double>({m, m});
  autodiff::tridiagonal_eigh(m, steps_.diagonal.data(), steps_.beside.data(), vectors_.data(), values_.data());
  if (m > 0) tolerance_ = null_tolerance * std::max(std::abs(smallest()), std::abs(largest()));
  for (Index i = 0; i < m; ++i) kept_.push_back(!drops(i));
}

// A pair counts as null only where both its value and its residual are zero to rounding: while the component of b in the null space is found, a value sinks towards zero, and
// leaving it out too early loses more than rounding.
bool Ritz::drops(Index i) const { return values_.data()[i] + shift_ <= tolerance_ && steps_.beside.back() * std::abs(last(i)) <= tolerance_; }

double Ritz::stiffness(Index i) const { return std::max(values_.data()[i], epsilon * epsilon * std::abs(largest())) + shift_; }

double Ritz::smallest_kept() const {
  for (Index i = 0; i < size(); ++i)
    if (kept_[static_cast<std::size_t>(i)]) return stiffness(i);
  return infinity;
}
Index Ritz::kept() const { return std::count(kept_.begin(), kept_.end(), true); }

Ritz::Factors Ritz::factors(Part part, double t) const {
  Factors f{std::vector<double>(kept_.size(), 0), std::vector<double>(kept_.size(), 0)};
  for (Index i = 0; i < size(); ++i) {
    if (!kept_[static_cast<std::size_t>(i)]) continue;
    const Response r = response(law_, stiffness(i) - shift_, rows_, t);
    f.coefficient[static_cast<std::size_t>(i)] = part == Part::residual ? r.coefficient : r.pull_coefficient;
    f.change[static_cast<std::size_t>(i)] = part == Part::residual ? r.change : r.pull_change;
  }
  return f;
}

Ritz::Answer Ritz::answer(Part part, double t) const {
  const Index m = size();
  const Factors f = factors(part, t);
  Answer a{std::vector<double>(static_cast<std::size_t>(m + 1), 0), std::vector<double>(static_cast<std::size_t>(m + 1), 0)};
  double beyond = 0;
  for (Index i = 0; i < m; ++i) {
    if (!kept_[static_cast<std::size_t>(i)]) continue;
    const double c = steps_.start * f.coefficient[static_cast<std::size_t>(i)] * first(i), k = steps_.start * f.change[static_cast<std::size_t>(i)] * first(i);
    for (Index j = 0; j < m; ++j) {
      a.coefficients[static_cast<std::size_t>(j)] += c * vectors_.data()[i * m + j];
      a.change[static_cast<std::size_t>(j)] += k * vectors_.data()[i * m + j];
    }
    beyond += c * last(i);
  }
  if (m > 0) a.change.back() = steps_.beside.back() * beyond;
  return a;
}

Ritz::Answer Ritz::least_residual(double& residual) const {
  const auto m = static_cast<std::size_t>(size());
  const std::vector<double> y = least_squares(steps_, residual);
  Answer a{std::vector<double>(m + 1, 0), std::vector<double>(m + 1, 0)};
  for (std::size_t k = 0; k < m; ++k) {
    a.coefficients[k] = -y[k];
    a.change[k] -= steps_.diagonal[k] * y[k];
    if (k > 0) a.change[k - 1] -= steps_.beside[k - 1] * y[k];
    a.change[k + 1] -= steps_.beside[k] * y[k];
  }
  return a;
}

// Flows without inertia, their limits, which are those of every law, and steps of at most 1 / largest eigenvalue, once that is found.
bool Ritz::one_sign() const {
  if (law_.motion == Motion::gradient_flow) return true;
  if (law_.motion != Motion::gradient_descent || size() == 0) return false;
  const double step = law_.rate / rows_;
  const double error = steps_.beside.back() * std::abs(last(size() - 1));
  if (error > .01 * largest()) return false;
  double most = largest() + error;
  for (const double d : steps_.diagonal) most = std::max(most, d);
  return step * (most + shift_) <= 1;
}

double Ritz::lag(double x, double tau, double inverse_steps, double phi) const {
  if (std::isinf(tau)) return infinity;
  if (x * tau < 1e-3) {
    const double a = 1 - inverse_steps, b = a * (1 - 2 * inverse_steps), c = b * (1 - 3 * inverse_steps);
    return tau * (a / 2 - b * x * tau / 6 + c * x * tau * x * tau / 24);
  }
  return (1 - phi / tau) / x;
}

// Every product is wrong by noise times the largest eigenvalue times |u(s)|; at least what that does to the outputs, summed over the time. |u| falls, so that
// values at the left of intervals are too large.
double Ritz::rounding(double tau) const {
  if (tau == 0 || largest() <= 0) return 0;
  const double smallest = std::max(smallest_kept(), tolerance_), end = std::min(tau, 40 / smallest), begin = std::min(end, .01 / largest());
  double sum = begin, at = begin;
  constexpr int points = 80;
  const double factor = std::pow(end / begin, 1.0 / points);
  for (int p = 0; p < points && factor > 1; ++p) {
    double square = 0;
    for (Index i = 0; i < size(); ++i)
      if (kept_[static_cast<std::size_t>(i)]) square += first(i) * first(i) * std::exp(-2 * at * stiffness(i));
    sum += at * (factor - 1) * std::sqrt(square);
    at *= factor;
  }
  return noise_ * largest() * steps_.start * sum;
}

// |K^(1/2) d| for |(K + shift) d| = 1 at most, where no eigenvalue is below the smallest Ritz value that is kept.
double Ritz::weights_per_output() const {
  const double mu = smallest_kept() - shift_;
  if (!(mu < infinity)) return 0;
  return mu < shift_ ? 1 / (2 * std::sqrt(shift_)) : std::sqrt(mu) / (mu + shift_);
}

void Ritz::bound(Part part, double t, const Factors& f, Errors& e) const {
  const double tau = t * law_.rate / rows_, inverse_steps = law_.steps() && std::isfinite(t) ? 1 / t : 0, h = steps_.beside.back() * steps_.start;
  double one = 0, one_size = 0, two = 0, two_size = 0;
  for (Index i = 0; i < size(); ++i) {
    if (!kept_[static_cast<std::size_t>(i)]) continue;
    const double g = first(i) * last(i), phi = -f.coefficient[static_cast<std::size_t>(i)];
    one += g * phi;
    one_size += std::abs(g * phi);
    if (part == Part::pull || std::isinf(tau)) continue;
    const double psi = lag(stiffness(i), tau, inverse_steps, phi);
    two += g * psi;
    two_size += std::abs(g * psi);
  }
  one = std::abs(one) + 4 * epsilon * one_size;
  two = part == Part::pull || !std::isfinite(two_size) || std::isinf(tau) ? infinity : std::abs(two) + 4 * epsilon * two_size;
  const double alpha = next(steps_.next_diagonal), kappa = std::hypot(steps_.beside.back(), alpha, steps_.next_beside);
  const double constant = law_.steps() && std::isfinite(t) ? 1 : .6382;  // the largest (1 - exp(-x)) / sqrt(x); of powers 1
  // two is over tau here, since squares of times need not be numbers
  e.outputs = times(h, std::min(one, times(times(kappa, two), tau)));
  e.weights = times(h, std::min(times(std::sqrt(std::max(alpha, 0.)), times(two, tau)), constant * times(std::sqrt(one), times(std::sqrt(two), std::sqrt(tau)))));
  if (shift_ > 0) e.weights = std::min(e.weights, e.outputs / (2 * std::sqrt(shift_)));
  if (h == 0) e.outputs = e.weights = 0;
}

// Of other laws the answer of five steps fewer tells how far that was from this one, which is nearer to the truth.
void Ritz::compare(Part part, double t, Errors& e) const {
  e.outputs_rigorous = e.weights_rigorous = false;
  const Index m = size();
  if (steps_.beside.back() == 0) return;
  if (m < 2) {
    e.outputs = e.change;
    e.weights = e.moved;
    return;
  }
  if (!before_) {
    const auto fewer = static_cast<std::size_t>(std::max<Index>(1, m - 5));
    Steps before = steps_;
    before.diagonal.resize(fewer);
    before.beside.resize(fewer);
    before_ = std::make_shared<const Ritz>(std::move(before), law_, rows_, null_tolerance_, noise_);
  }
  const Answer now = answer(part, t), then = before_->answer(part, t);
  double outputs = 0;
  std::vector<double> d = now.coefficients;
  for (std::size_t j = 0; j < now.change.size(); ++j) {
    const bool there = j < then.change.size();
    outputs += std::pow(now.change[j] - (there ? then.change[j] : 0), 2);
    d[j] -= there ? then.coefficients[j] : 0;
  }
  double weights = 0;  // d.T d
  for (std::size_t j = 0; j + 1 < d.size(); ++j) weights += d[j] * (steps_.diagonal[j] * d[j] + (j + 2 < d.size() ? 2 * steps_.beside[j] * d[j + 1] : 0));
  e.outputs = std::sqrt(outputs);
  e.weights = std::sqrt(std::max(weights, 0.));
}

Errors Ritz::errors(Part part, double t) const {
  Errors e;
  if (size() == 0 || t == 0) return e;
  const Factors f = factors(part, t);
  double change = 0, moved = 0;
  for (Index i = 0; i < size(); ++i) {
    change += std::pow(f.change[static_cast<std::size_t>(i)] * first(i), 2);
    moved += std::pow(std::sqrt(stiffness(i) - shift_) * f.coefficient[static_cast<std::size_t>(i)] * first(i), 2);
  }
  e.change = steps_.start * std::sqrt(change);
  e.moved = steps_.start * std::sqrt(moved);
  const bool limit = std::isinf(t * law_.rate);
  limit || one_sign() ? bound(part, t, f, e) : compare(part, t, e);
  const double tau = t * law_.rate / rows_, per_output = weights_per_output();
  e.weights_estimate = std::min(e.weights, times(e.outputs, per_output));
  e.outputs_rounding = rounding(tau);
  e.weights_rounding = std::isinf(tau) ? times(e.outputs_rounding, per_output) : e.outputs_rounding * .6382 * std::sqrt(tau);
  if (shift_ > 0) e.weights_rounding = std::min(e.weights_rounding, e.outputs_rounding / (2 * std::sqrt(shift_)));
  if (!std::isfinite(e.weights)) {
    e.weights = e.weights_estimate;
    e.weights_rigorous = false;
  }
  return e;
}

}  // namespace linnet::predict
