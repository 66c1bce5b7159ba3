// What is trained and how, as coefficients: weights are theta(t) = theta0 + A^T c(t), with A = d f(theta0, x) / d theta over all N = examples times
// outputs rows, so the linearized network f0 + A (theta - theta0) answers f0 + K c(t) on the training rows, K = A A^T. Everything about a time is in
// c, which has N numbers. Formulas only; trained.h puts networks and kernels to it.
#pragma once

#include "linnet/ntk/empirical.h"
#include "linnet/predict/spectrum.h"

namespace linnet::predict {

struct FlowOptions {
  double rate = 1;           // learning rate: t steps of it are the time rate t
  double ridge = 0;          // r: the loss has r |theta - theta0|^2 / (2 N) besides
  ntk::Options kernel = {};  // how the kernel is computed where it is: method, memory, progress
};

// Gradient flow on the loss |f - y|^2 / (2 N): per eigenvalue lambda of K,  c(t) = -phi(lambda + r, rate t / N) (f0 - y). Eigenvalues with lambda + r
// within the spectrum's tolerance of zero are projected out: neither weights nor outputs of a positive semidefinite kernel have a component there, and
// so the answer is finite and continuous for every t up to infinity, where it is the pseudo-inverse.
class Dynamics {
 public:
  // residual: f0 - y, [N], or [n, k] where the kernel of n rows acts on k columns alike (then N = n k). NumericalError: rate is not positive and
  // finite, ridge is negative or not finite, or K + r is indefinite.
  Dynamics(Spectrum spectrum, const Array<double>& residual, const FlowOptions& options);

  // All of them NumericalError unless t >= 0 (infinity allowed), and where the answer overflows.
  Array<double> coefficients(double t) const;  // c(t), of the shape of residual
  Array<double> change(double t) const;        // K c(t): of the outputs on the training rows
  double loss(double t) const;                 // |f0 + K c(t) - y|^2 / (2 N), which never grows with t

  const Spectrum& spectrum() const { return spectrum_; }
  bool keeps(Index i) const;  // whether eigenvalue i takes part
  Index rank() const;         // of the N rows, those that take part
  double condition() const;   // largest over smallest lambda + r that takes part; answers hold to max(1e-12, 10 eps condition)

 private:
  double eigenvalue(Index i) const;  // rounding below zero taken as zero
  double time_per_row(const char* operation, double t) const;
  template <class F> Array<double> in_modes(F&& factor) const;  // factor(lambda) times the modes of the residual, where kept
  Spectrum spectrum_;
  Array<double> modes_;
  double rate_per_row_, ridge_;
};

}  // namespace linnet::predict
