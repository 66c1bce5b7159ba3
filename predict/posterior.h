// Uncertainty of a linearized network, as numbers and as weights. The weights are normal about params with variances of their own, targets have
// normal noise: then f_lin is a Gaussian process whose covariance is the kernel, and its posterior is linear algebra of N rows. A sample of it is a
// network: drawn from the prior and trained on noisy targets ("sample then optimize", Matthews et al., NIPS workshop 2017; of the tangent kernel He
// et al., arXiv 2007.05864). One decomposition serves all. Read trained.h first.
//
//   const auto model = predict::posterior(f, params, x, y, {.noise = 0.1});
//   const auto at = model.predict(x_new);                       // at.mean, at.variance
//   const auto theta = model.sample(0);                         // weights; model.sample(1), …: independent of each other
#pragma once

#include "linnet/predict/trained.h"

#include <cstdint>
#include <limits>
#include <memory>

namespace linnet::predict {

struct PosteriorOptions {
  double noise = 0.1;        // standard deviation s of the targets; 0: none, and what training rows determine is certain
  Rates variances = {};      // of the weights before training; 1 of what is not named. Given, and named in errors, as rates are: P of trained.h
  ntk::Options kernel = {};  // how the kernel is computed
};

template <Scalar T> struct Marginals {
  Array<T> mean, variance;  // of f_lin (without the targets' noise), [n, …] as f(params, x_new) is. No variance is negative
};

// theta ~ N(params, P), y = f_lin(theta, x) + s e, A = d f / d theta at params, K = A P A^T. All but the samples' noise is exact to rounding, in double whatever T.
template <Scalar T> class Posterior {
 public:
  // Mean f0 + k (K + s^2)^-1 (y - f0), variance k** - k (K + s^2)^-1 k^T, k = K(x_new, x). The variance is the sum of what no training row reaches,
  // |a|^2 - |its projection on the rows|^2, which rounding may take no lower than 0, and of s^2 times a sum of squares. ShapeError: x_new does
  // not fit x.
  Marginals<T> predict(const Array<T>& x_new) const;
  Tree<Array<T>> mean() const;  // the posterior's mean weights: those of gradient_flow at infinity with ridge s^2 and rates P

  // A draw from the posterior: theta' + P A^T (K + s^2)^-1 (y + s e - f_lin(theta')), theta' from the prior. The same for the same seed and number,
  // whatever else was drawn, and on any number of threads. Two products with A.
  Tree<Array<T>> sample(std::uint64_t number, std::uint64_t seed = 0) const;

  // The weights that gradient flow of rate 1 has at time t when it begins at `start` in the same linearization, with ridge s^2 towards start, on
  // these targets. Over starts drawn as networks are initialized this is an ensemble at t (ensemble.h), with P as rates of training. ShapeError,
  // StructureError: trees or targets that do not fit, or start differs from params in a weight of variance 0; NumericalError: what is not finite,
  // or t < 0.
  Tree<Array<T>> trained(const Tree<Array<T>>& start, const Array<T>& targets, double t = std::numeric_limits<double>::infinity()) const;
  Array<T> linearized(const Tree<Array<T>>& weights, const Array<T>& x_new) const;  // f_lin(weights, x_new): one jvp. Errors of trained and predict

  // log N(y; f0, K + s^2): of hyperparameters the larger the better (Rasmussen & Williams, Gaussian Processes, Eq. 2.30). NumericalError: K + s^2
  // is singular to rounding.
  double log_evidence() const;
  Index rank() const;  // of the N rows, those that are not within rounding of what others say: of K + s^2

  struct State;
  explicit Posterior(std::shared_ptr<const State> state) : state_(std::move(state)) {}

 private:
  std::shared_ptr<const State> state_;
};

// Assembles and decomposes the kernel of the N rows. Errors of gradient_flow; NumericalError: the noise is negative or not finite.
template <Scalar T>
Posterior<T> posterior(const ntk::Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Array<T>& y, const PosteriorOptions& options = {});

}  // namespace linnet::predict
