// How weights move: the rows of closed-form dynamics, each as its answer for one eigenvalue. All of them minimize
//   L(theta) = |f - y|^2 / (2 N) + r |theta - theta0|^2 / (2 N) + w |theta|^2 / 2
// for the f that is linear in theta, over N rows, and all of their solutions are theta(t) = s(t) theta0 + A^T c(t), A = d f / d theta, with s = 1 where w = 0.
// In the basis of eigenvectors of K = A A^T a coefficient is a number for each eigenvalue times the component of the residual f0 - y there, and
// another times that of A theta0. dynamics.h applies them to whole kernels.
#pragma once

#include "linnet/autodiff/shape.h"

namespace linnet::predict {

using autodiff::Index;

enum class Motion {
  gradient_flow,     // theta' = -rate grad L;  t is a time
  gradient_descent,  // theta <- theta - rate grad L;  t counts steps
  momentum,          // v <- m v + grad L, theta <- theta - rate v (heavy ball), or theta - rate (grad L + m v) (Nesterov), as in PyTorch's SGD
  momentum_flow      // theta'' = -b theta' - grad L in the time sqrt(rate) t, b = (1 - m) / sqrt(rate): heavy ball of small rates
};

struct Law {
  Motion motion = Motion::gradient_flow;
  double rate = 1, ridge = 0, weight_decay = 0;  // r and w above
  double momentum = 0;
  bool nesterov = false;

  const char* name() const;  // of the motion, for messages
  // NumericalError: the rate is not positive and finite, ridge or weight decay is negative or not finite, the momentum is not in [0, 1).
  void check() const;
  // NumericalError unless t >= 0, infinity allowed, and a whole number up to 2^53 where it counts steps.
  void check_time(const char* operation, double t) const;

  // NumericalError where t is infinite and steps do not converge.
  void check_limit(double lambda_max, Index rows, double t) const;

  double shift(double rows) const { return ridge + rows * weight_decay; }  // added to every eigenvalue
  bool steps() const { return motion == Motion::gradient_descent || motion == Motion::momentum; }
  // Steps converge where rate (lambda + shift) / N is below this, and diverge above it: 2 (1 + m), of Nesterov 2 (1 + m) / (1 + 2 m). Infinity of flows.
  double edge() const;
  // The rate below which they do, where lambda_max is the largest eigenvalue; infinity of flows, and where there is nothing to train.
  double max_rate(double lambda_max, double rows) const;
};

// What becomes of one mode: of a component 1 of the residual, and of a component 1 of A theta0, which matters where weights decay.
struct Response {
  double coefficient = 0, change = 0, left = 1;  // c; lambda c, of the outputs; what is left of the residual, 1 + change
  double pull_coefficient = 0, pull_change = 0;  // c; lambda c + s - 1
};

// For lambda >= 0 of N rows, and lambda + shift > 0. t is infinite only where there is a limit.
Response response(const Law& law, double lambda, double rows, double t);

// s(t) - 1.
double shrink(const Law& law, double rows, double t);

}  // namespace linnet::predict
