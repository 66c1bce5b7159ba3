// Training of the linearized network on any loss: softmax cross-entropy, logistic, Huber, or a traced function of your own (loss.h). trained.h has the squared loss in
// closed form; here the N coefficients of theta(t) = s(t) theta0 + A^T c(t) are integrated, c' = -rate (d L / d f (f0 + K c) + …), with the error controlled on f.
//
//   auto flow = predict::gradient_flow(apply, params, x, y, predict::Loss::softmax_cross_entropy(), {.rate = 0.1});
//   auto at = flow(1000);                            // any t >= 0; t = infinity where the loss has a minimum
//   at.train();  at.weights();  at.linearized(x_new);  at.loss();
//
// Integrated by Dormand and Prince's pair of orders 5 and 4 with PI control (J. Comput. Appl. Math. 6, 1980; Hairer, Norsett & Wanner, Solving Ordinary
// Differential Equations I, II.4-II.6), and, where that is held back by stability, by the exponential Rosenbrock method exprb43 (Hochbruck, Ostermann & Schweitzer,
// SIAM J. Numer. Anal. 47, 2009). In double whatever T. An object and its copies share a workspace: one thread at a time.
#pragma once

#include "linnet/predict/loss.h"
#include "linnet/predict/trained.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace linnet::predict {

enum class Stepping { dopri5, exprb43, descent };

// Where an integration is: all that what follows depends on. Plain data, to be kept or written to disk.
struct Integration {
  double t = 0;
  std::vector<double> values = {};  // c and K c (and the same of the velocity)
  double h = 0;                     // of the next step; 0: it has not begun
  double error = 1e-4;              // of the last step
  Stepping method = Stepping::dopri5;
  std::uint32_t stiff = 0;          // a bit for each of the last 20 steps
  bool convex = true;               // false: exprb43 has been tried and is no method for this loss
  Index steps = 0, rejected = 0, products = 0, switches = 0;
};

struct LossOptions {
  double rate = 1;            // as in FlowOptions
  double ridge = 0;           // r: the loss has r |theta - theta0|^2 / (2 N) besides
  double relative_ridge = 0;  // r as a multiple of the mean of the kernel's diagonal; added to ridge. Not with matrix_free
  double weight_decay = 0;    // w: the loss has w |theta|^2 / 2 besides. Only of a network
  double momentum = 0.9;      // of momentum and momentum_flow alone, as is nesterov
  bool nesterov = false;
  double rtol = 1e-8, atol = 1e-8;  // of the outputs; ask for ten times less than you need
  Index max_products = 200'000;     // with the kernel, from t = 0; then it is an error that says where it stopped
  bool matrix_free = false;         // products by vjp and jvp; otherwise the kernel [N, N] is computed once. Only of a network
  std::optional<Integration> start = {};  // LossTraining::state() of one that was made alike
  Rates rates = {};
  ntk::Options kernel = {};
};

template <Scalar T> class LossTraining;

// A network at one time of its training. Errors are those of Trained.
template <Scalar T> class LossTrained {
 public:
  double time() const { return t_; }
  Array<T> train() const;                                            // outputs on the training examples
  Array<T> predict(const Array<T>& x_new) const { return linearized(x_new); }
  Array<T> predict(const Points& points) const;                      // by the kernel with new examples
  Array<T> predict(const ntk::FullKernel<T>& kernel_test_train, const Array<T>& f0_test) const;
  Array<T> predict(const TraceApproximation<T>& kernel_test_train, const Array<T>& f0_test) const;
  Tree<Array<T>> weights() const;                                    // s theta0 + A^T c: one vjp
  Array<T> linearized(const Array<T>& x_new) const;                  // f(theta0, x_new) + A(x_new) (theta - theta0): one vjp and one jvp
  double loss() const;                                               // L(train(), y): without the parts of ridge and weight decay
  Array<double> coefficients() const;                                // c, of the shape of f(params, x)

 private:
  friend class LossTraining<T>;
  using State = typename LossTraining<T>::State;
  LossTrained(std::shared_ptr<State> state, double t, std::vector<double> y) : state_(std::move(state)), t_(t), y_(std::move(y)) {}
  std::shared_ptr<State> state_;
  double t_;
  std::vector<double> y_;  // c and K c
};

template <Scalar T> class LossTraining {
 public:
  struct State;
  explicit LossTraining(std::shared_ptr<State> state) : state_(std::move(state)) {}

  // Integrates as far as t, or finds the step that t is in; the same bits in any order of times. NumericalError unless t >= 0 (and a whole number where it counts
  // steps); where max_products are used up. t = infinity is the minimum, by Newton's method (one of them, if there are several); NumericalError where the loss has
  // none that is reached, is not convex, or the kernel has more than 4,000 rows, StructureError of steps.
  LossTrained<T> operator()(double t) const;
  Points points(const Array<T>& x_new) const;  // as LossTrained::predict needs them; only of a network
  Index rows() const;                          // N
  const Integration& state() const;            // where the step begins that the last answer is in: LossOptions::start of a training that goes on from there

  // Many times, [times, …].
  Array<double> coefficients(std::span<const double> times) const;
  std::vector<Tree<Array<T>>> weights(std::span<const double> times) const;
  Array<T> train(std::span<const double> times) const;
  Array<T> predict(const Points& points, std::span<const double> times) const;

 private:
  std::shared_ptr<State> state_;
};

// From a network. y is what the loss takes: of the losses of loss.h, of the shape of f(params, x). Errors of gradient_flow in trained.h, and of the loss.
template <Scalar T> LossTraining<T> gradient_flow(const ntk::Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Array<T>& y, const Loss& loss, const LossOptions& options = {});
template <Scalar T> LossTraining<T> gradient_descent(const ntk::Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Array<T>& y, const Loss& loss, const LossOptions& options = {});
template <Scalar T> LossTraining<T> momentum(const ntk::Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Array<T>& y, const Loss& loss, const LossOptions& options = {});
template <Scalar T> LossTraining<T> momentum_flow(const ntk::Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Array<T>& y, const Loss& loss, const LossOptions& options = {});

// From a kernel of the training examples with themselves, and f0 = f(params, x). No weights(), weight decay, rates or products without a kernel: StructureError.
template <Scalar T> LossTraining<T> gradient_flow(const ntk::FullKernel<T>& kernel, const Array<T>& f0, const Array<T>& y, const Loss& loss, const LossOptions& options = {});
template <Scalar T> LossTraining<T> gradient_flow(const TraceApproximation<T>& kernel, const Array<T>& f0, const Array<T>& y, const Loss& loss, const LossOptions& options = {});
template <Scalar T> LossTraining<T> gradient_descent(const ntk::FullKernel<T>& kernel, const Array<T>& f0, const Array<T>& y, const Loss& loss, const LossOptions& options = {});
template <Scalar T> LossTraining<T> gradient_descent(const TraceApproximation<T>& kernel, const Array<T>& f0, const Array<T>& y, const Loss& loss, const LossOptions& options = {});
template <Scalar T> LossTraining<T> momentum(const ntk::FullKernel<T>& kernel, const Array<T>& f0, const Array<T>& y, const Loss& loss, const LossOptions& options = {});
template <Scalar T> LossTraining<T> momentum(const TraceApproximation<T>& kernel, const Array<T>& f0, const Array<T>& y, const Loss& loss, const LossOptions& options = {});
template <Scalar T> LossTraining<T> momentum_flow(const ntk::FullKernel<T>& kernel, const Array<T>& f0, const Array<T>& y, const Loss& loss, const LossOptions& options = {});
template <Scalar T> LossTraining<T> momentum_flow(const TraceApproximation<T>& kernel, const Array<T>& f0, const Array<T>& y, const Loss& loss, const LossOptions& options = {});

}  // namespace linnet::predict
