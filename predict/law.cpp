// The formulas of law.h. Gradient flow is written out; of the others the maps are, and affine.h has their powers.
#include "linnet/predict/law.h"

#include "linnet/autodiff/fail.h"
#include "linnet/predict/affine.h"
#include "linnet/predict/spectral.h"

#include <cmath>
#include <limits>

namespace linnet::predict {

using autodiff::fail;
using autodiff::NumericalError;

const char* Law::name() const {
  switch (motion) {
    case Motion::gradient_flow: return "gradient_flow";
    case Motion::gradient_descent: return "gradient_descent";
    case Motion::momentum: return "momentum";
    case Motion::momentum_flow: return "momentum_flow";
  }
  return "";
}

void Law::check() const {
  if (!(std::isfinite(rate) && rate > 0)) fail<NumericalError>("{}: the rate must be positive and finite, got {}", name(), rate);
  if (!(std::isfinite(ridge) && ridge >= 0)) fail<NumericalError>("{}: the ridge must be finite and not negative, got {}", name(), ridge);
  if (!(std::isfinite(weight_decay) && weight_decay >= 0)) fail<NumericalError>("{}: the weight decay must be finite and not negative, got {}", name(), weight_decay);
  if (!(momentum >= 0 && momentum < 1)) fail<NumericalError>("{}: the momentum must be in [0, 1), got {}", name(), momentum);
}

void Law::check_time(const char* operation, double t) const {
  if (!(t >= 0))
    fail<NumericalError>("{}: t must be a number from 0 to infinity, got {}{}", operation, t, motion == Motion::gradient_flow ? "; expm1_dot runs backwards, where that is wanted" : "");
  if (steps() && std::isfinite(t) && (t != std::floor(t) || t > 0x1p53))
    fail<NumericalError>("{}: t counts steps here and must be a whole number up to 2^53, or infinity, got {}; gradient_flow has a time", operation, t);
}

double Law::edge() const {
  if (!steps()) return std::numeric_limits<double>::infinity();
  return 2 * (1 + momentum) / (nesterov ? 1 + 2 * momentum : 1);
}

double Law::max_rate(double lambda_max, double rows) const {
  const double largest = lambda_max + shift(rows);
  return largest > 0 ? edge() * rows / largest : std::numeric_limits<double>::infinity();
}

void Law::check_limit(double lambda_max, Index rows, double t) const {
  const double most = max_rate(lambda_max, static_cast<double>(rows));
  if (std::isinf(t) && rate >= most)
    fail<NumericalError>("{}: the steps do not converge, so there is no t = infinity: the rate is {:.6g}, and steps converge below {:.6g}, the largest rate for "
                         "lambda_max = {:.6g} and N = {}; lower the rate, or ask for a finite number of steps",
                         name(), rate, most, lambda_max, rows);
}

namespace {

// Of gradient flow, in the time tau = rate t / N of the gradient A^T (f - y):  c' = -(lambda + k) c - (f0 - y) - (s - 1) A theta0,  s' = -k (s - 1) - N w.
Response flow(const Law& law, double lambda, double rows, double tau) {
  const double k = law.shift(rows), w = rows * law.weight_decay, kept = decay(k, tau);
  Response answer;
  answer.coefficient = -phi(lambda + k, tau);
  answer.change = lambda / (lambda + k) * (tau == 0 ? 0 : std::expm1(-(lambda + k) * tau));  // without a product of numbers that could overflow
  answer.left = (k + lambda * decay(lambda + k, tau)) / (lambda + k);  // falls with tau, rounded too
  if (w > 0) {
    answer.pull_coefficient = w / (lambda + k) * (phi(k, tau) - (kept > 0 ? kept * phi(lambda, tau) : 0));
    answer.pull_change = -w * phi(lambda + k, tau);
  }
  return answer;
}

// The components of the state: z, which is c but for a unit, its velocity v, and 1; where weights decay also s - 1 and its velocity. A unit residual drives
// z by 1, a unit component of A theta0 by s - 1. x is the eigenvalue, k the shift, w the weight decay, in the units of the step or of the time.
struct Units {
  Wide x, k, w;
};

// v <- m v + g, z <- z - v or z - (g + m v), with g = (x + k) z + drive.
void step_rows(const Law& law, Wide stiffness, int at, int drive, Wide driven, auto& d) {
  const Wide m = law.momentum, p = law.nesterov ? 1 + m : 1, q = law.nesterov ? m * m : m;
  d[at][at] = -p * stiffness, d[at][at + 1] = -q, d[at][drive] = -p * driven;
  d[at + 1][at] = stiffness, d[at + 1][at + 1] = m - 1, d[at + 1][drive] = driven;
}

Wide friction(const Law& law) { return (1 - static_cast<Wide>(law.momentum)) / std::sqrt(static_cast<Wide>(law.rate)); }

// z' = v, v' = -b v - ((x + k) z + drive).
void flow_rows(const Law& law, Wide stiffness, int at, int drive, Wide driven, auto& d) {
  d[at][at + 1] = 1;
  d[at + 1][at] = -stiffness, d[at + 1][at + 1] = -friction(law), d[at + 1][drive] = -driven;
}

template <int n> Affine<n> moved(const Law& law, const Units& u, double t) {
  Affine<n> map;
  const auto rows = [&](Wide stiffness, int at, int drive, Wide driven) {
    law.steps() ? step_rows(law, stiffness, at, drive, driven, map.d) : flow_rows(law, stiffness, at, drive, driven, map.d);
  };
  rows(u.x + u.k, 0, 2, 1);
  if constexpr (n == 5) rows(u.k, 2, 4, u.w);
  if (law.steps()) return power(map, static_cast<std::uint64_t>(t));
  return exponential(map, friction(law) + std::sqrt(u.x + u.k), std::sqrt(static_cast<Wide>(law.rate)) * t);
}

Units units(const Law& law, double lambda, double rows) {
  const Wide unit = law.steps() ? law.rate : 1, w = law.weight_decay;
  return {unit * lambda / static_cast<Wide>(rows), unit * (law.ridge / static_cast<Wide>(rows) + w), unit * w};
}

// The limits of every motion are those of the flow.
bool is_flow(const Law& law, double t) { return law.motion == Motion::gradient_flow || std::isinf(t) || std::isinf(std::sqrt(law.rate) * t); }

}  // namespace

Response response(const Law& law, double lambda, double rows, double t) {
  if (t == 0) return {};
  if (is_flow(law, t)) return flow(law, lambda, rows, t * law.rate / rows);
  const Units u = units(law, lambda, rows);
  const Wide unit = (law.steps() ? law.rate : 1) / static_cast<Wide>(rows), z = moved<3>(law, u, t).d[0][2];
  Response answer;
  answer.coefficient = static_cast<double>(unit * z);
  answer.change = static_cast<double>(u.x * z);
  answer.left = static_cast<double>(1 + u.x * z);
  if (u.w > 0) {
    const Affine<5> pulled = moved<5>(law, u, t);
    answer.pull_coefficient = static_cast<double>(unit * pulled.d[0][4]);
    answer.pull_change = static_cast<double>(u.x * pulled.d[0][4] + pulled.d[2][4]);
  }
  return answer;
}

double shrink(const Law& law, double rows, double t) {
  if (law.weight_decay == 0 || t == 0) return 0;
  if (is_flow(law, t)) return -rows * law.weight_decay * phi(law.shift(rows), t * law.rate / rows);
  return static_cast<double>(moved<5>(law, units(law, 0, rows), t).d[2][4]);
}

}  // namespace linnet::predict
