// integrate.h: the right side, Dormand and Prince's pair, and the bookkeeping of a path. rosenbrock.h has the steps for stiff equations.
#include "linnet/predict/integrate.h"

#include "linnet/autodiff/fail.h"
#include "linnet/predict/rosenbrock.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace linnet::predict {

using autodiff::fail;
using autodiff::NumericalError;

// ---- the right side

Numbers Equation::outputs_at(const double* kc) const {
  Numbers f(f0.begin(), f0.end());
  for (std::size_t i = 0; i < f.size(); ++i) f[i] += kc[i];
  return f;
}

void Equation::gradient(const double* f, double* g) const {
  loss(f, g);
  if (decay > 0) g[outputs()] = decay;
}

void Equation::multiply(const double* v, double* kv) const {
  kernel(v, kv);
  if (std::isinf(noise)) return;
  Numbers inner(static_cast<std::size_t>(rows())), square = inner;
  for (std::size_t i = 0; i < inner.size(); ++i) {
    inner[i] = v[i] * kv[i];
    square[i] = v[i] * v[i];
  }
  const double vkv = autodiff::fixed_sum(inner.data(), rows()), vv = autodiff::fixed_sum(square.data(), rows());
  if (vkv < -noise * vv)
    fail<NumericalError>("{}: the kernel is indefinite: there is a vector with v.Kv = {:.6g} |v|^2, beyond rounding ({:.3g}); kernels of networks have no negative eigenvalue, so compute this one in double, or mend it", operation, vkv / vv, noise);
}

void Equation::pull(const Numbers& y, double* g, double* kg) const {
  const double *c = y.data(), *kc = kz(y);
  gradient(outputs_at(kc).data(), g);
  multiply(g, kg);
  for (Index i = 0; ridge > 0 && i < rows(); ++i) {
    g[i] += ridge * c[i];
    kg[i] += ridge * kc[i];
  }
}

void Equation::slope(const Numbers& y, Numbers& dy) const {
  const Index n = rows();
  dy.resize(y.size());
  double *const last = dy.data() + (blocks() - 1) * n, *const k_last = last + blocks() * n;
  pull(y, last, k_last);
  if (!friction) {
    for (Index i = 0; i < n; ++i) last[i] *= -rate, k_last[i] *= -rate;
    return;
  }
  const double speed = std::sqrt(rate);  // times t is the time of the law
  for (const Index half : {Index{0}, 2 * n}) {
    const double* const velocity = y.data() + half + n;
    double *const change = dy.data() + half, *const force = change + n;
    for (Index i = 0; i < n; ++i) {
      change[i] = speed * velocity[i];
      force[i] = -speed * (*friction * velocity[i] + force[i]);
    }
  }
}

void Equation::step(Numbers& y) const {
  const Index n = rows();
  Numbers g(static_cast<std::size_t>(2 * n));
  pull(y, g.data(), g.data() + n);
  for (const Index half : {Index{0}, Index{1}}) {
    double* const z = y.data() + half * blocks() * n;
    const double* const slope = g.data() + half * n;
    for (Index i = 0; i < n; ++i) {
      double direction = slope[i];
      if (momentum > 0) {
        z[n + i] = momentum * z[n + i] + slope[i];
        direction = nesterov ? slope[i] + momentum * z[n + i] : z[n + i];
      }
      z[i] -= rate * direction;
    }
  }
}

double Equation::measure(const double* change, const Numbers& y0, const Numbers& y1) const {
  const Index n = rows();
  const double *const a = kz(y0), *const b = kz(y1);
  Numbers squares;
  for (Index block = 0; block < blocks(); ++block)
    for (Index i = 0; i < outputs(); ++i) {
      const Index at = block * n + i;
      const double start = block == 0 ? f0.data()[i] : 0;
      const double relative = change[at] / (atol + rtol * std::max(std::abs(start + a[at]), std::abs(start + b[at])));
      squares.push_back(relative * relative);
    }
  return std::sqrt(autodiff::fixed_sum(squares.data(), static_cast<Index>(squares.size())) / static_cast<double>(squares.size()));
}

// ---- the path

namespace {

constexpr std::size_t kept_at_most = 32;
constexpr std::uint32_t window = (1u << 20) - 1;  // of steps that are looked at for stiffness
constexpr int stiff_of_window = 15;

void add(double scale, const Numbers& what, Numbers& to) {
  for (std::size_t i = 0; i < to.size(); ++i) to[i] += scale * what[i];
}

double length(const double* v, Index n) {
  Numbers squares(static_cast<std::size_t>(n));
  for (Index i = 0; i < n; ++i) squares[static_cast<std::size_t>(i)] = v[i] * v[i];
  return std::sqrt(autodiff::fixed_sum(squares.data(), n));
}

// The pair's tableau, and its continuous extension of order 4 (Hairer, Norsett & Wanner, II.5 and II.6).
constexpr double a_[7][6] = {{},
                             {1. / 5},
                             {3. / 40, 9. / 40},
                             {44. / 45, -56. / 15, 32. / 9},
                             {19372. / 6561, -25360. / 2187, 64448. / 6561, -212. / 729},
                             {9017. / 3168, -355. / 33, 46732. / 5247, 49. / 176, -5103. / 18656},
                             {35. / 384, 0, 500. / 1113, 125. / 192, -2187. / 6784, 11. / 84}};
constexpr double error_[7] = {71. / 57600, 0, -71. / 16695, 71. / 1920, -17253. / 339200, 22. / 525, -1. / 40};
constexpr double dense_[7] = {-12715105075. / 11282082432., 0, 87487479700. / 32700410799., -10690763975. / 1880347072., 701980252875. / 199316789632., -1453857185. / 822651844., 69997945. / 29380423.};

}  // namespace

Path::Path(Equation equation, Integration start, Index max_products)
    : operation_(equation.operation), equation_(std::move(equation)), from_(std::move(start)), max_products_(max_products) {
  if (from_.values.empty()) from_.values.assign(static_cast<std::size_t>(equation_.size()), 0);
  kept_.push_back(from_);
}

void Path::spend(Index products) {
  to_.products += products;
  if (to_.products > max_products_)
    fail<NumericalError>("{}: stopped at t = {:.6g} by max_products = {}, after {} steps with the next of h = {:.3g}; allow more products, a larger tolerance, or ask for an earlier time", operation_, from_.t, max_products_,
                         from_.steps, to_.h);
}

void Path::check_step(double h) const {
  if (!(h > 256 * std::numeric_limits<double>::epsilon() * from_.t) || !std::isfinite(from_.t + h))
    fail<NumericalError>("{}: no step from t = {:.6g} is short enough (h = {:.3g}): the loss or its gradient is not finite or not smooth there; lower the rate, or give a loss that is finite for all outputs", operation_, from_.t, h);
}

Numbers Path::at(double t) {
  if (t < kept_.front().t) fail<NumericalError>("{}: t = {:.6g} is before the state that was continued from, at t = {:.6g}; ask the training that made it", operation_, t, kept_.front().t);
  if (t < from_.t) restart(t);
  if (t == from_.t) return from_.values;
  if (!has_to_) advance();
  while (to_.t < t) {
    has_slope_ = from_.method == Stepping::dopri5;
    if (has_slope_) std::swap(k_[0], k_[6]);  // the last slope of a step is the first of the next
    from_ = to_;
    has_to_ = false;
    remember();
    advance();
  }
  return t == to_.t ? to_.values : between(t);
}

void Path::restart(double t) {
  const auto later = std::upper_bound(kept_.begin(), kept_.end(), t, [](double at, const Integration& i) { return at < i.t; });
  from_ = *std::prev(later);
  has_to_ = has_slope_ = false;
}

void Path::remember() {
  if (from_.t <= kept_.back().t || (from_.steps - kept_.front().steps) % stride_ != 0) return;
  kept_.push_back(from_);
  if (kept_.size() < kept_at_most) return;
  stride_ *= 2;
  std::erase_if(kept_, [&](const Integration& i) { return (i.steps - kept_.front().steps) % stride_ != 0; });
}

void Path::advance() {
  to_ = from_;
  if (from_.method == Stepping::descent) {
    spend(1);
    equation_.step(to_.values);
    if (!std::all_of(to_.values.begin(), to_.values.end(), [](double v) { return std::isfinite(v); }))
      fail<NumericalError>("{}: after {} steps with rate {:.6g} the answer overflows; lower the rate, or ask for fewer steps", operation_, from_.t + 1, equation_.rate);
    to_.t += 1;
    ++to_.steps;
  } else {
    if (!has_slope_) {
      if (from_.h == 0) spend(1);  // of steps that follow, it is known from the one before
      equation_.slope(from_.values, k_[0]);
      has_slope_ = true;
    }
    if (from_.h == 0) to_.h = first_step();
    if (from_.method == Stepping::dopri5) advance_explicit();
    else advance_exponential();
  }
  has_to_ = true;
}

// A trial step of a thousandth of what is there tells how fast the slope changes.
double Path::first_step() {
  const Index half = equation_.size() / 2;
  const Numbers f = equation_.outputs_at(equation_.kz(from_.values));
  const double speed = length(k_[0].data() + half, half);
  if (!std::isfinite(speed)) fail<NumericalError>("{}: the gradient of the loss is not finite at t = {:.6g}; give a loss that is finite at f(params, x), or scale the inputs", operation_, from_.t);
  if (speed == 0) return 1;  // nothing moves
  const double h = 1e-3 * (length(f.data(), equation_.outputs()) + std::sqrt(static_cast<double>(equation_.outputs()))) / speed;
  Numbers moved = from_.values;
  add(h, k_[0], moved);
  spend(1);
  equation_.slope(moved, k_[1]);
  add(-1, k_[0], k_[1]);
  const double change = length(k_[1].data() + half, half);
  return std::isfinite(change) ? std::min(100 * h, 0.1 * h * speed / std::max(change, 1e-300)) : 1e-3 * h;
}

// ---- Dormand and Prince

void Path::stages(double h) {
  for (std::size_t s = 1; s < 7; ++s) {
    to_.values = from_.values;
    for (std::size_t j = 0; j < s; ++j)
      if (a_[s][j] != 0) add(h * a_[s][j], k_[j], to_.values);
    if (s == 5) stage_ = to_.values;
    equation_.slope(to_.values, k_[s]);
  }
}

// h times the rate at which the slope of the outputs answers their change, between the two stages at the end of the step (Hairer & Wanner, Solving Ordinary
// Differential Equations II, IV.2).
double Path::stiffness(double h) const {
  const Index half = equation_.size() / 2;
  Numbers slope = k_[6], change = to_.values;
  add(-1, k_[5], slope);
  add(-1, stage_, change);
  const double moved = length(change.data() + half, half);
  return moved > 0 ? h * length(slope.data() + half, half) / moved : 0;
}

void Path::note_stiffness(bool stiff) {
  to_.stiff = ((to_.stiff << 1) | static_cast<std::uint32_t>(stiff)) & window;
  if (std::popcount(to_.stiff) < stiff_of_window) return;
  to_.method = to_.method == Stepping::dopri5 ? Stepping::exprb43 : Stepping::dopri5;
  to_.stiff = 0;
  to_.error = 1e-4;
  ++to_.switches;
}

void Path::advance_explicit() {
  for (bool again = false;; again = true) {
    const double h = to_.h;
    check_step(h);
    spend(6);
    stages(h);
    Numbers wrong(to_.values.size(), 0);
    for (std::size_t s = 0; s < 7; ++s)
      if (error_[s] != 0) add(h * error_[s], k_[s], wrong);
    const double error = equation_.measure(wrong.data() + equation_.size() / 2, from_.values, to_.values);
    if (!std::isfinite(error)) {
      to_.h *= 0.1;
      ++to_.rejected;
      continue;
    }
    const double plain = std::pow(std::max(error, 1e-12), 0.17) / 0.9;
    if (error > 1) {
      to_.h /= std::min(5.0, plain);
      ++to_.rejected;
      continue;
    }
    to_.h = h / std::clamp(plain / std::pow(to_.error, 0.04), again ? 1.0 : 0.1, 5.0);
    to_.error = std::max(error, 1e-4);
    to_.t = from_.t + h;
    ++to_.steps;
    if (!equation_.friction && from_.convex) note_stiffness(stiffness(h) > 2.5);
    return;
  }
}

Numbers Path::between(double t) {
  const double h = to_.t - from_.t, part = (t - from_.t) / h, rest = 1 - part;
  if (from_.method == Stepping::exprb43) return exponential_between(t - from_.t);
  Numbers answer = from_.values;
  for (std::size_t i = 0; i < answer.size(); ++i) {
    const double change = to_.values[i] - from_.values[i], bend = h * k_[0][i] - change;
    double last = 0;
    for (std::size_t s = 0; s < 7; ++s) last += dense_[s] * k_[s][i];
    answer[i] += part * (change + rest * (bend + part * (change - h * k_[6][i] - bend + rest * h * last)));
  }
  return answer;
}

// ---- exprb43

// A shorter step; in parts where its Krylov spaces cannot answer it at once, which those of the longer one could.
Numbers Path::exponential_between(double left) {
  Numbers y = from_.values, slope = k_[0];
  for (double h = left;;) {
    ExponentialStep step = exponential_step(equation_, y, slope, h);
    if (step.values.empty()) {
      check_step(h /= 2);
      continue;
    }
    y = std::move(step.values);
    if (!(left > step.h)) return y;
    h = left -= step.h;
    equation_.slope(y, slope);
  }
}

void Path::advance_exponential() {
  for (bool again = false;; again = true) {
    check_step(to_.h);
    ExponentialStep step = exponential_step(equation_, from_.values, k_[0], to_.h);
    if (!step.convex) {
      from_.method = to_.method = Stepping::dopri5;
      from_.convex = to_.convex = false;
      return advance_explicit();
    }
    spend(step.products);
    const double h = step.h;  // what its Krylov spaces could answer
    if (!std::isfinite(step.error) || step.error > 1) {
      to_.h = h * (std::isfinite(step.error) ? std::max(0.2, 0.9 * std::pow(step.error, -0.25)) : 0.1);
      ++to_.rejected;
      continue;
    }
    to_.values = std::move(step.values);
    const double growth = std::clamp(0.9 * std::pow(std::max(step.error, 1e-12), -0.25), 0.2, again ? 1.0 : 5.0);
    to_.h = h * (h < to_.h ? std::min(growth, 1.5) : growth);
    to_.t = from_.t + h;
    ++to_.steps;
    spend(1);  // the slope at its end
    note_stiffness(h * step.largest < 1);
    return;
  }
}

}  // namespace linnet::predict
