// Losses as traced functions L(f, y) of the outputs and their targets. Their gradients and Hessians are derivatives of these functions, traced once and replayed.
// loss_flow.h trains linearized networks on them.
#pragma once

#include "linnet/autodiff/linear_map.h"

#include <functional>
#include <string>

namespace linnet::predict {

using autodiff::Array;
using autodiff::Index;
using autodiff::Shape;
using autodiff::Var;

// Means as PyTorch takes them: over examples where classes compete, else over all N = examples times outputs numbers. Each of them keeps its relative accuracy where
// it is small: gradients of 1e-30 are not rounded to 0.
class Loss {
 public:
  using Value = std::function<Var(const Var& f, const Var& y)>;

  static Loss squared();                // mean (f - y)^2 / 2: that of gradient_flow in closed form (trained.h)
  static Loss softmax_cross_entropy();  // mean over examples of -sum_k y_k log softmax(f)_k; y [.., k] one-hot or probabilities, k >= 2 classes in the last axis
  static Loss logistic();               // mean of log(1 + exp f) - y f; y in [0, 1], the probability of the positive class
  static Loss huber(double delta = 1);  // mean of (f - y)^2 / 2 within delta of y, delta (|f - y| - delta / 2) beyond; NumericalError unless delta > 0

  // One of your own, in the operations of autodiff/ops.h: a scalar of f [n, …] and y, which has the shape you gave it. `name` is for messages.
  explicit Loss(Value value, std::string name = "the loss");

  const std::string& name() const { return name_; }
  Var operator()(const Var& f, const Var& y) const { return value_(f, y); }
  // ShapeError or NumericalError, in the operation's name, for targets that are none of this loss.
  void check(const char* operation, const Shape& f, const Array<double>& y) const;

 private:
  using Check = void (*)(const char* operation, const Shape& f, const Array<double>& y);
  Loss(Value value, std::string name, Check check) : value_(std::move(value)), name_(std::move(name)), check_(check) {}
  Value value_;
  std::string name_;
  Check check_ = nullptr;
};

// A loss of outputs of one shape with its targets. ShapeError: the loss is no scalar, or does not take these shapes; errors of Loss::check.
// Arrays are those of f, by pointer. One thread at a time.
class LossOn {
 public:
  LossOn(const char* operation, const Loss& loss, const Shape& f, Array<double> y);
  Index size() const { return f_.size(); }
  Index examples() const { return f_.rank() > 0 ? f_[0] : 1; }
  double operator()(const double* f, double* gradient) const;                    // the value, and d L / d f
  double operator()(const double* f) const;
  void hessian_product(const double* f, const double* v, double* product) const;  // d^2 L / d f^2 times v

 private:
  Shape f_;
  Array<double> y_;
  autodiff::FlatFunction<double> gradient_, hessian_;
};

}  // namespace linnet::predict
