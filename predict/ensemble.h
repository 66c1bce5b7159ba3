// Ensembles of infinitely wide networks, and Gaussian process regression. Before training outputs of such networks, drawn at random, are Gaussian with mean 0
// and covariance NNGP; gradient flow on |f - y|^2 / (2 N) keeps them Gaussian (arXiv 1902.06720, Eqs. 13 to 16). Kernels are arrays of one output, whoever computed
// them; every output has the same and is independent of the others. In double whatever they were computed in. Of one network, with its weights: trained.h.
#pragma once

#include "linnet/predict/dynamics.h"

#include <limits>
#include <memory>
#include <vector>

namespace linnet::predict {

struct Gaussian {
  Array<double> mean;        // [n2, …] as y has
  Array<double> covariance;  // [n2, n2], symmetric in bits, of every output; no variance is negative
};
Array<double> deviations(const Gaussian& gaussian);  // [n2]: the square roots of the variances

// Kernels of some examples (rows) with the training examples (columns), of one output. ntk stays empty where the last layer alone is trained, for which the nngp
// is the kernel of training too. The posterior with the NTK as covariance ("ntkgp") is had by giving it as nngp.
template <Scalar T> struct EnsembleKernels {
  Array<T> nngp;
  Array<T> ntk = {};
};

struct EnsembleOptions {
  double rate = 1;            // t steps of it are the time rate t
  double ridge = 0;           // r: added to the diagonal of the kernel of training, which is the ntk where there is one
  double relative_ridge = 0;  // r as a multiple of the mean of that diagonal; added to ridge
};

// K of nngp, D of the kernel of training, * of test with training examples, E(t) = exp(-(D + r) rate t / N), N = size of y. With A = D* (D + r)^-1 (I - E(t)) the
// mean is A y and the covariance K** + A K A^T - A K*^T - K* A^T; where the last layer alone is trained, r is also the variance of noise of the targets and
// it is K** - K* (K + r)^-1 (I - E(2 t)) K*^T. The same at training examples: the flow of the regularized loss, not of a regularized kernel.
// Singular kernels are projected as in dynamics.h, so that every t up to infinity has an answer.
class Ensemble {
 public:
  Gaussian train(double t) const;  // at the training examples
  // At others; nngp_test_test [n2, n2] is K**. ShapeError: kernels that do not fit; NumericalError: t < 0 or NaN, a value that is not finite, a variance that is
  // negative by more than rounding, which kernels that belong together never have.
  template <Scalar T> Gaussian predict(const EnsembleKernels<T>& kernels, const Array<T>& nngp_test_test, double t) const;
  template <Scalar T> std::vector<Gaussian> predict(const EnsembleKernels<T>& kernels, const Array<T>& nngp_test_test, std::span<const double> times) const;
  template <Scalar T> Array<double> mean(const EnsembleKernels<T>& kernels, double t) const;  // the mean alone; of the kernels that of training alone is read

  Index rank() const;
  double condition() const;  // answers hold to max(1e-12, 10 eps condition)

  struct State;
  explicit Ensemble(std::shared_ptr<const State> state) : state_(std::move(state)) {}

 private:
  std::shared_ptr<const State> state_;
};

// By the eigenvalues of the kernel of training, once. y [n, …]. ShapeError: kernels that are not square or do not fit y; NumericalError: what a Spectrum refuses, an
// indefinite kernel, an option out of its range.
template <Scalar T> Ensemble gradient_flow_ensemble(const EnsembleKernels<T>& kernels, const Array<T>& y, const EnsembleOptions& options = {});

// The same at t = infinity by Cholesky's factor, several times faster: Gaussian process regression where there is no ntk. NumericalError besides: a kernel that is
// singular to rounding; the message says what to do.
class GaussianProcess {
 public:
  template <Scalar T> Gaussian predict(const EnsembleKernels<T>& kernels, const Array<T>& nngp_test_test) const;
  template <Scalar T> Array<double> mean(const EnsembleKernels<T>& kernels) const;

  struct State;
  explicit GaussianProcess(std::shared_ptr<const State> state) : state_(std::move(state)) {}

 private:
  std::shared_ptr<const State> state_;
};
template <Scalar T> GaussianProcess gp_inference(const EnsembleKernels<T>& kernels, const Array<T>& y, const EnsembleOptions& options = {});

}  // namespace linnet::predict
