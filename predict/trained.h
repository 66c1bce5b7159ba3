// The door of predict: a network, or a kernel of one, trained on the mean squared error in one of four ways, at any time, in closed form.
//
//   auto flow = predict::gradient_flow(apply, params, x, y, {.rate = 0.1});   // assembles and decomposes the kernel, once
//   auto at = flow(1000);                                                     // any t >= 0, infinity included
//   at.train();  at.predict(x_new);                                           // in function space:  f0 + K(., x) c(t)
//   at.weights();  at.linearized(x_new);                                      // in weight space:    theta0 + A^T c(t), and the network linearized there
//   at.bounds();                                                              // how wrong they may be, where products took the place of a decomposition
//   auto sgd = predict::gradient_descent(apply, params, x, y, {.rate = 0.1, .rates = {{"dense", predict::rate(0)}}});   // steps; a layer frozen
//
// What is trained is the linearization at params, for which this is exact: the loss is |f - y|^2 / (2 N) over all N = examples times outputs, t counts
// steps of the learning rate. Both spaces agree to max(1e-12, 10 eps condition()). In double whatever T, but where products in float are asked
// for by their tolerance; law.h has the formulas and dynamics.h what becomes of a singular kernel. An object and its copies share a workspace: one thread at a time.
#pragma once

#include "linnet/ntk/operator.h"
#include "linnet/predict/dynamics.h"

#include <memory>
#include <span>
#include <vector>

namespace linnet::predict {

using autodiff::Tree;

// Rates of single weights, as multiples of the rate: a tree of the parameters' names, where a leaf at a layer holds for all below, and what is not named has
// 1. With rates P the ridge is r (theta - theta0)^T P^-1 (theta - theta0) / (2 N), and weights of rate 0 neither move nor decay; others decay alike.
using Rates = Tree<Array<double>>;
inline Rates rate(double r) { return Array<double>(autodiff::Shape{}, r); }

struct FlowOptions {
  double rate = 1;            // learning rate: t steps of it are the time rate t
  double ridge = 0;           // r: the loss has r |theta - theta0|^2 / (2 N) besides
  double relative_ridge = 0;  // r as a multiple of the mean of the kernel's diagonal; added to ridge
  double weight_decay = 0;    // w: the loss has w |theta|^2 / 2 besides. Only of a network
  Rates rates = {};           // only of a network
  ntk::Options kernel = {};   // how the kernel is computed where it is: method, memory, progress
  Solver solver = Solver::automatic;
  KrylovOptions krylov = {};  // where products with the kernel are the solver
};
using DescentOptions = FlowOptions;  // the rate is that of a step

struct MomentumOptions {
  double rate = 1;
  double momentum = 0.9;  // in [0, 1): what is left of the velocity after a step
  bool nesterov = false;
  double ridge = 0, relative_ridge = 0, weight_decay = 0;  // as above, in the gradient that drives the velocity
  Rates rates = {};
  ntk::Options kernel = {};
  Solver solver = Solver::automatic;
  KrylovOptions krylov = {};
};

// One kernel for every output, which are trained alike and alone. The mean over outputs of the traced kernel: of several outputs of a finite network an
// approximation, wrong by order one at small width. Exact for one output, and for kernels of infinite width.
template <Scalar T> struct TraceApproximation {
  Array<T> kernel;  // [n2, n1], of one output
  Index outputs;
};
template <Scalar T> TraceApproximation<T> approximate_by_trace(const ntk::TracedKernel<T>& kernel);

// New examples, as function space knows them. Made once by Training::points, and good for every t.
struct Points {
  Array<double> kernel;     // K(x_new, x)
  Array<double> f0;         // f(params, x_new)
  Array<double> pull = {};  // A(x_new) theta0, where weights decay
};

template <Scalar T> class Training;
class Network;  // network.h, which is not installed

// A network at one time of its training. ShapeError: examples or a kernel that do not fit those trained on; NumericalError: a value that is not
// finite; StructureError: what only a network has.
template <Scalar T> class Trained {
 public:
  double time() const { return t_; }
  Array<T> train() const;                         // outputs on the training examples
  Array<T> predict(const Array<T>& x_new) const;  // outputs elsewhere; assembles K(x_new, x) at every call, where the solver has a kernel; otherwise as linearized() does
  Array<T> predict(const Points& points) const;   // the same without assembling
  Array<T> predict(const ntk::FullKernel<T>& kernel_test_train, const Array<T>& f0_test) const;
  Array<T> predict(const TraceApproximation<T>& kernel_test_train, const Array<T>& f0_test) const;

  Tree<Array<T>> weights() const;                    // one vjp
  Array<T> linearized(const Array<T>& x_new) const;  // f(theta0, x_new) + A(x_new) (theta(t) - theta0): one jvp

  // How wrong train() and weights() may be, as lengths; and, of a network, every output at x_new: [n2, outputs], by its kernel's diagonal there.
  Bounds bounds() const;
  Array<double> bounds(const Array<T>& x_new) const;
  double loss() const;                 // |train() - y|^2 / (2 N): without the parts of ridge and weight decay
  Array<double> coefficients() const;  // c(t), of the shape of y
  Index rank() const;                  // of the N rows, those that are trained: eigenvalues that are not zero. StructureError of Solver::krylov
  double condition() const;
  double lambda_max() const;
  double shrink() const;                              // s(t) - 1
  const Network& network(const char* operation) const;  // for validity.h; StructureError in the operation's name without one

 private:
  friend class Training<T>;
  using State = typename Training<T>::State;
  Trained(std::shared_ptr<const State> state, double t) : state_(std::move(state)), t_(t) {}
  std::shared_ptr<const State> state_;
  double t_;
};

template <Scalar T> class Training {
 public:
  struct State;
  explicit Training(std::shared_ptr<const State> state) : state_(std::move(state)) {}

  // NumericalError unless t >= 0, and a whole number where it counts steps; infinity where steps diverge. Finite numbers of steps that diverge are answered
  // as they are, until they overflow: max_rate() says beforehand.
  Trained<T> operator()(double t) const;
  Training with_ridge(double ridge) const;     // the same with this ridge: no second kernel, decomposition or basis
  Points points(const Array<T>& x_new) const;  // as Trained::predict needs them; only of a network
  Index rows() const;                          // N
  double max_rate() const;                     // the rate below which steps converge; infinity of flows
  const Dynamics& dynamics() const;            // its law, spectrum, rank and condition
  std::string explain() const;                 // which solver, and why

  // Many times in one product, [times, …]; and weights at each.
  Array<double> coefficients(std::span<const double> times) const;
  std::vector<Tree<Array<T>>> weights(std::span<const double> times) const;
  Array<T> train(std::span<const double> times) const;
  Array<T> predict(const Points& points, std::span<const double> times) const;
  Array<T> predict(const ntk::FullKernel<T>& kernel_test_train, const Array<T>& f0_test, std::span<const double> times) const;
  Array<T> predict(const TraceApproximation<T>& kernel_test_train, const Array<T>& f0_test, std::span<const double> times) const;

 private:
  std::shared_ptr<const State> state_;
};
template <Scalar T> using GradientFlow = Training<T>;

// From a network. The kernel is assembled in double. y has the shape of f(params, x). NumericalError: NaN or infinity in params, x, y or f(params, x), or an
// option out of its range; StructureError: rates that do not fit the parameters.
template <Scalar T> Training<T> gradient_flow(const ntk::Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Array<T>& y, const FlowOptions& options = {});
template <Scalar T> Training<T> gradient_descent(const ntk::Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Array<T>& y, const DescentOptions& options = {});
template <Scalar T> Training<T> momentum(const ntk::Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Array<T>& y, const MomentumOptions& options = {});
template <Scalar T> Training<T> momentum_flow(const ntk::Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Array<T>& y, const MomentumOptions& options = {});

// From a kernel of the training examples with themselves, f0 = f(params, x) and y of one shape [n, …]. Of float kernels eigenvalues below float's
// rounding count as zero: prefer kernels computed in double. No weights(), weight decay or rates: StructureError.
template <Scalar T> Training<T> gradient_flow(const ntk::FullKernel<T>& kernel, const Array<T>& f0, const Array<T>& y, const FlowOptions& options = {});
template <Scalar T> Training<T> gradient_flow(const TraceApproximation<T>& kernel, const Array<T>& f0, const Array<T>& y, const FlowOptions& options = {});
template <Scalar T> Training<T> gradient_descent(const ntk::FullKernel<T>& kernel, const Array<T>& f0, const Array<T>& y, const DescentOptions& options = {});
template <Scalar T> Training<T> gradient_descent(const TraceApproximation<T>& kernel, const Array<T>& f0, const Array<T>& y, const DescentOptions& options = {});
template <Scalar T> Training<T> momentum(const ntk::FullKernel<T>& kernel, const Array<T>& f0, const Array<T>& y, const MomentumOptions& options = {});
template <Scalar T> Training<T> momentum(const TraceApproximation<T>& kernel, const Array<T>& f0, const Array<T>& y, const MomentumOptions& options = {});
template <Scalar T> Training<T> momentum_flow(const ntk::FullKernel<T>& kernel, const Array<T>& f0, const Array<T>& y, const MomentumOptions& options = {});
template <Scalar T> Training<T> momentum_flow(const TraceApproximation<T>& kernel, const Array<T>& f0, const Array<T>& y, const MomentumOptions& options = {});

// The largest rate of steps (dynamics.h) from the kernel of the training examples with themselves; N is right of both kinds of kernels.
template <Scalar T> double max_learning_rate(const ntk::FullKernel<T>& kernel, double momentum = 0, bool nesterov = false);
template <Scalar T> double max_learning_rate(const TraceApproximation<T>& kernel, double momentum = 0, bool nesterov = false);

}  // namespace linnet::predict
