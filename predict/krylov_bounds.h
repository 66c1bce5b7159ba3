// What the small matrix of Lanczos' method knows: a law's answer in the basis, and how far it can be from the truth. Not installed; krylov.cpp uses it. Read
// krylov_basis.h first; the proofs are in docs/dynamics.md.
#pragma once

#include "linnet/autodiff/array.h"
#include "linnet/predict/law.h"

#include <memory>
#include <vector>

namespace linnet::predict {

using autodiff::Array;

// T of m steps and the next row of T, which belongs to one product more.
struct Steps {
  std::vector<double> diagonal, beside;  // [m]; beside.back() is h = |K v_m| of what is new, 0 where the space is mapped to itself
  double start = 0;                      // |b| of the vector it began with
  double next_diagonal = 0, next_beside = 0;
  Index size() const { return static_cast<Index>(diagonal.size()); }
};

// Which part of the response: that of the residual f0 - y, or that of A theta0, where weights decay.
enum class Part { residual,
                  pull };

// Errors as lengths: of the outputs on the training rows, |K (c_m - c)|, and of the weights, |A^T (c_m - c)|.
struct Errors {
  double outputs = 0, weights = 0;                    // of what the basis leaves out
  double weights_estimate = 0;                        // the same with the smallest Ritz value in place of the smallest eigenvalue
  double outputs_rounding = 0, weights_rounding = 0;  // of products that are rounded
  double change = 0, moved = 0;                       // |K c|, |A^T c|: what tolerances are relative to
  bool outputs_rigorous = true, weights_rigorous = true;
  double outputs_in_all() const { return outputs + outputs_rounding; }
  double weights_in_all() const { return weights + weights_rounding; }
};

class Ritz {
 public:
  // rows: N of the law; null_tolerance: eigenvalues not above it are zero to rounding, relative to the largest; noise: of a product, relative to the same.
  Ritz(Steps steps, const Law& law, double rows, double null_tolerance, double noise);

  Index size() const { return steps_.size(); }
  const Steps& steps() const { return steps_; }
  double largest() const { return size() ? values_.data()[size() - 1] : 0; }
  double smallest() const { return size() ? values_.data()[0] : 0; }
  double smallest_kept() const;  // with the shift; infinity where nothing is kept
  double largest_kept() const { return largest() + shift_; }
  double tolerance() const { return tolerance_; }
  Index kept() const;

  // In the basis, of one vector more than there are steps: c_m, and K c_m + (s - 1) A theta0 without a product.
  struct Answer {
    std::vector<double> coefficients, change;
  };
  Answer answer(Part part, double t) const;
  // At t = infinity without a shift, where the least of residuals is wanted: Galerkin's answer may be any size.
  Answer least_residual(double& residual) const;
  Errors errors(Part part, double t) const;

 private:
  struct Factors {
    std::vector<double> coefficient, change;  // of every kept pair, 0 of others
  };
  Factors factors(Part part, double t) const;
  double first(Index i) const { return vectors_.data()[i * size()]; }
  double last(Index i) const { return vectors_.data()[i * size() + size() - 1]; }
  double stiffness(Index i) const;  // Ritz value and shift
  double next(double value) const { return value + shift_; }
  bool drops(Index i) const;
  bool one_sign() const;                                                     // whether the residual of the answer never changes its sign, which makes bounds of it theorems
  double lag(double x, double tau, double inverse_steps, double phi) const;  // (tau - phi) / (x tau)
  double rounding(double tau) const;
  double weights_per_output() const;
  void bound(Part part, double t, const Factors& f, Errors& e) const;
  void compare(Part part, double t, Errors& e) const;

  Steps steps_;
  Law law_;
  double rows_, shift_, noise_, tolerance_ = 0, null_tolerance_;
  Array<double> values_, vectors_;
  std::vector<bool> kept_;
  mutable std::shared_ptr<const Ritz> before_;  // of five steps fewer, where it was asked for
};

}  // namespace linnet::predict
