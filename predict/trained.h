// The door of predict: a network, or a kernel of one, trained by gradient flow on the mean squared error, at any time, in closed form.
//
//   auto flow = predict::gradient_flow(apply, params, x, y, {.rate = 0.1});   // assembles and decomposes the kernel, once
//   auto at = flow(1000);                                                     // any t >= 0, infinity included
//   at.train();  at.predict(x_new);                                           // in function space:  f0 + K(., x) c(t)
//   at.weights();  at.linearized(x_new);                                      // in weight space:    theta0 + A^T c(t), and the network linearized there
//
// What is trained is the linearization at params, for which this is exact: the loss is |f - y|^2 / (2 N) over all N = examples times outputs, t counts
// steps of the learning rate. Both spaces agree to max(1e-12, 10 eps condition()). Computed in double whatever T; dynamics.h has the formula and what
// becomes of a singular kernel. An object and its copies share a workspace: one thread at a time.
#pragma once

#include "linnet/ntk/operator.h"
#include "linnet/predict/dynamics.h"

#include <memory>

namespace linnet::predict {

using autodiff::Tree;

// The traced kernel in place of the full one: every output is trained alike and alone, with the mean over outputs. Of several outputs of a finite
// network it is an approximation, wrong by order one at small width; exact for one output, and in the limit of infinite width.
template <Scalar T> struct TraceApproximation {
  Array<T> kernel;  // [n2, n1], the mean over outputs
  Index outputs;
};
template <Scalar T> TraceApproximation<T> approximate_by_trace(const ntk::TracedKernel<T>& kernel);

// New examples, as function space knows them. Made once by GradientFlow::points, and good for every t.
struct Points {
  Array<double> kernel;  // K(x_new, x)
  Array<double> f0;      // f(params, x_new)
};

template <Scalar T> class GradientFlow;

// A network at one time of its training. ShapeError: examples or a kernel that do not fit those trained on; NumericalError: a value that is not
// finite; StructureError: what only a flow from a network has.
template <Scalar T> class Trained {
 public:
  double time() const { return t_; }
  Array<T> train() const;                         // outputs on the training examples
  Array<T> predict(const Array<T>& x_new) const;  // outputs elsewhere; assembles K(x_new, x) at every call
  Array<T> predict(const Points& points) const;   // the same without assembling
  Array<T> predict(const ntk::FullKernel<T>& kernel_test_train, const Array<T>& f0_test) const;
  Array<T> predict(const TraceApproximation<T>& kernel_test_train, const Array<T>& f0_test) const;

  Tree<Array<T>> weights() const;                    // one vjp
  Array<T> linearized(const Array<T>& x_new) const;  // f(theta0, x_new) + A(x_new) (theta(t) - theta0): one jvp

  double loss() const;                 // |train() - y|^2 / (2 N): without the ridge's part; never grows with t
  Array<double> coefficients() const;  // c(t), of the shape of y
  Index rank() const;                  // of the N rows, those that are trained: eigenvalues that are not zero
  double condition() const;
  double lambda_max() const;

 private:
  friend class GradientFlow<T>;
  using State = typename GradientFlow<T>::State;
  Trained(std::shared_ptr<const State> state, double t) : state_(std::move(state)), t_(t) {}
  std::shared_ptr<const State> state_;
  double t_;
};

template <Scalar T> class GradientFlow {
 public:
  struct State;
  explicit GradientFlow(std::shared_ptr<const State> state) : state_(std::move(state)) {}

  Trained<T> operator()(double t) const;       // NumericalError unless t >= 0
  Points points(const Array<T>& x_new) const;  // as Trained::predict needs them; only of a flow from a network
  Index rows() const;                          // N
  const Dynamics& dynamics() const;            // its spectrum, rank and condition

 private:
  std::shared_ptr<const State> state_;
};

// From a network. The kernel is assembled in double. y has the shape of f(params, x). NumericalError: NaN or infinity in params, x, y or f(params, x).
template <Scalar T> GradientFlow<T> gradient_flow(const ntk::Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Array<T>& y, const FlowOptions& options = {});

// From a kernel of the training examples with themselves, f0 = f(params, x) and y of one shape [n, …]. Of float kernels eigenvalues below float's
// rounding count as zero: prefer kernels computed in double. No weights().
template <Scalar T> GradientFlow<T> gradient_flow(const ntk::FullKernel<T>& kernel, const Array<T>& f0, const Array<T>& y, const FlowOptions& options = {});
template <Scalar T> GradientFlow<T> gradient_flow(const TraceApproximation<T>& kernel, const Array<T>& f0, const Array<T>& y, const FlowOptions& options = {});

}  // namespace linnet::predict
