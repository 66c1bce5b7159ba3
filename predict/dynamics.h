// What is trained and how, as coefficients: weights are theta(t) = s(t) theta0 + A^T c(t), with A = d f(theta0, x) / d theta over all N = examples times
// outputs rows, so the linearized network f0 + A (theta - theta0) answers f0 + K c(t) + (s(t) - 1) A theta0 on the training rows, K = A A^T. Everything
// about a time is in c, which has N numbers, and s. law.h has the rows of the table, one for each way to train; trained.h puts networks and kernels to it.
#pragma once

#include "linnet/predict/krylov.h"
#include "linnet/predict/spectrum.h"

#include <optional>
#include <span>
#include <string>

namespace linnet::predict {

// Eigenvalues with lambda + shift within the spectrum's tolerance of zero are projected out: neither weights nor outputs of a positive semidefinite kernel
// have a component there, and so the answer is finite and continuous for every t up to infinity, where it is the pseudo-inverse.
class Dynamics {
 public:
  // residual: f0 - y, [N], or [n, k] where the kernel of n rows acts on k columns alike (then N = n k). pull: A theta0 in the same shape, where weights
  // decay. NumericalError: what the law refuses, or K + ridge is indefinite; ShapeError: no pull where weights decay.
  Dynamics(Spectrum spectrum, const Array<double>& residual, const Law& law, const Array<double>& pull = {});

  // The same without a decomposition: from products with the kernel of n rows, which krylov has. An empty `decompose`, or `automatic` false: never one.
  struct Sources {
    Index n;
    std::function<Spectrum()> decompose = {};                // where a spectrum is wanted, or too many products would be
    std::shared_ptr<const Array<double>> kernel = {};        // where it is in memory
    bool automatic = false;
    std::string why = {};                                    // a sentence for explain()
  };
  Dynamics(Krylov krylov, const Array<double>& residual, const Law& law, const Array<double>& pull, Sources sources);

  // The same with another ridge: the decomposition, or the basis of products, serves both. NumericalError as above.
  Dynamics with_ridge(double ridge) const;

  // All of them NumericalError unless t >= 0 (infinity allowed where the motion converges), and where the answer overflows.
  Array<double> coefficients(double t) const;  // c(t), of the shape of residual
  Array<double> change(double t) const;        // K c(t) + (s(t) - 1) A theta0: of the outputs on the training rows
  double shrink(double t) const;               // s(t) - 1
  double loss(double t) const;                 // |f(t) - y|^2 / (2 N); of gradient flow without weight decay it never grows with t
  // Of many times in one product, [rows of the kernel, times, k].
  Array<double> coefficients(std::span<const double> times) const;
  Array<double> change(std::span<const double> times) const;

  const Law& law() const { return law_; }
  // How far answers at t may be from the truth; of a decomposition by its rounding alone.
  Bounds bounds(double t) const;
  std::string explain() const;  // how answers are computed, and why

  // Solver::automatic decomposes for these three; StructureError where there are products alone.
  const Spectrum& spectrum() const;
  bool keeps(Index i) const;  // whether eigenvalue i takes part
  Index rank() const;         // of the N rows, those that take part
  // Largest over smallest lambda + shift that takes part; answers hold to max(1e-12, 10 eps condition). Of products alone by Ritz values, from below.
  double condition() const;
  double lambda_max() const;
  Index size() const { return n_; }  // rows of the kernel
  bool matrixless() const;           // whether there is neither a kernel nor a spectrum
  // The rate below which steps converge, and above which they diverge; infinity of flows, and where there is nothing to train.
  double max_rate() const;

 private:
  struct Products;
  Index columns() const { return modes_.size() / n_; }
  double rows() const { return static_cast<double>(modes_.size()); }
  double eigenvalue(Index i) const;  // rounding below zero taken as zero
  void check_times(const char* operation, std::span<const double> times) const;
  template <class F> Array<double> in_modes(std::span<const double> times, F&& factors) const;
  Array<double> checked(const char* operation, std::span<const double> times, Array<double> answer) const;
  const Dynamics* by_spectrum(std::span<const double> times) const;  // where products are not used, or no longer
  const Dynamics& need_spectrum(const char* operation) const;
  Index n_;
  std::optional<Spectrum> spectrum_;
  Array<double> modes_, pull_;  // in the eigenbasis where there is one
  Law law_;
  double shift_ = 0;
  std::shared_ptr<Products> products_;
};

// The largest rate at which steps on N rows converge where lambda_max is the kernel's largest eigenvalue: 2 (1 + m) N / lambda_max, of Nesterov's momentum
// 2 (1 + m) N / ((1 + 2 m) lambda_max). A kernel traced over outputs has fewer rows than N. NumericalError: lambda_max < 0 or NaN, N < 1, m not in [0, 1).
double max_learning_rate(double lambda_max, Index rows, double momentum = 0, bool nesterov = false);

}  // namespace linnet::predict
