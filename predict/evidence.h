// The evidence of a Gaussian process as a function of its hyperparameters, with its gradient and Hessian: log N(y; f0, C) with
// C = sum_l s_l^2 K_l + s^2 I. Of a network K_l is the kernel of layer l (ntk/parts.h) and s_l the standard deviation of that layer's weights before training, which
// posterior.h takes as variances s_l^2; s is the standard deviation of the targets' noise. Derivatives are those of the traced functions below, which compose with others.
//
//   const auto evidence = predict::evidence(f, params, x, y);
//   Array<double> at = evidence.logs(scales, 0.1);                 // [layers + 1]: what an optimizer may move freely
//   const auto [value, gradient] = evidence.value_and_grad(at);    // one Cholesky factor
#pragma once

#include "linnet/autodiff/program.h"
#include "linnet/predict/trained.h"

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace linnet::predict {

using autodiff::Var;

// ---- traced functions, of which Evidence is made. ShapeError at the caller's line; what is not positive definite is a NumericalError of the run.
// sum_l exp(2 logs_l) K_l + exp(2 logs_L) I, [N, N]: kernels [L, N, N], and L + 1 logs of standard deviations [L + 1], that of the noise last.
Var layered_covariance(const Var& kernels, const Var& logs);
// log N(residual; 0, C), a scalar, of C [N, N] and a residual [N] or [N, k], whose columns are independent and of the same C:
// -(tr(R^T C^-1 R) + k log det C + N k log 2 pi) / 2 (Rasmussen & Williams, Gaussian Processes, Eq. 2.30).
Var log_evidence(const Var& covariance, const Var& residual);

// ---- for kernels and targets that stay. In double whatever those were computed in. Copies share their workspace: one thread at a time.
class Evidence {
 public:
  // The logs [L + 1] of the standard deviations of L layers and of the noise. ShapeError: not L scales; NumericalError: one that is not positive and finite.
  Array<double> logs(std::span<const double> scales, double noise) const;
  const std::vector<std::string>& names() const;  // of the logs, in order: paths of the layers, then "noise"
  Index rows() const;                             // N, of the kernels

  // At logs [L + 1]. A gradient entry is (Eq. 5.9) s_l^2 (tr(A^T K_l A) - k tr(C^-1 K_l)) with A = C^-1 (y - f0), for the noise with I for K_l; by s_l itself it is that
  // divided by s_l. ShapeError: logs of another shape; NumericalError: logs that are not finite or whose squares overflow, and a C that is singular to the rounding of the type
  // the kernels came in, or not positive definite.
  double operator()(const Array<double>& logs) const;
  std::pair<double, Array<double>> value_and_grad(const Array<double>& logs) const;  // the same factor, and solves of N right sides besides
  Array<double> hessian(const Array<double>& logs) const;                            // [L + 1, L + 1], symmetric in bits: a derivative of the gradient for every log
  const autodiff::Program& program() const;                                          // of value_and_grad

  struct State;
  explicit Evidence(std::shared_ptr<State> state) : state_(std::move(state)) {}

 private:
  std::shared_ptr<State> state_;
};

// By layer from a network, assembled in double; y has the shape of f(params, x), which is the mean. Errors of ntk::full_by_layer, and those below.
template <Scalar T> Evidence evidence(const ntk::Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Array<T>& y, const ntk::Options& options = {});
// From kernels of any tree, f0 and y of one shape [n, …] with n outputs rows. Float kernels have float's rounding, which noise must exceed: prefer double.
// StructureError: no kernels; ShapeError: kernels that do not fit each other or y, no rows, f0 and y of two shapes; NumericalError: NaN or infinity, a kernel that is not symmetric.
template <Scalar T> Evidence evidence(const Tree<ntk::FullKernel<T>>& kernels, const Array<T>& f0, const Array<T>& y);
// One kernel for every output, which are columns: y [n, …], of as many outputs as the kernels say. map(approximate_by_trace<T>, ntk::traced_by_layer(…)) is an approximation.
template <Scalar T> Evidence evidence(const Tree<TraceApproximation<T>>& kernels, const Array<T>& f0, const Array<T>& y);
// The same of mean zero, for kernels of one output from wherever: [n, n], y [n, …].
template <Scalar T> Evidence evidence(const Tree<Array<T>>& kernels, const Array<T>& y);

}  // namespace linnet::predict
