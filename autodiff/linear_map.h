// The derivative of a function at a point, recorded once and applied as often as wanted; and a function traced once and run as often as
// wanted. Both here on lists of arrays: derivative.h gives them the arrays and trees of the user's function.
#pragma once

#include "linnet/autodiff/executor.h"
#include "linnet/autodiff/transform.h"

#include <memory>
#include <vector>

namespace linnet::autodiff {

template <Scalar T> using Views = std::vector<ArrayView<T>>;

// f traced and planned for inputs of these shapes.
template <Scalar T> class FlatFunction {
 public:
  FlatFunction(const Function& f, std::span<const Shape> inputs);
  std::vector<Array<T>> operator()(const Views<T>& in) const;  // ShapeError unless the shapes are those it was traced for
  const Program& program() const { return *program_; }
  std::size_t arena_bytes() const { return executor_->arena_bytes(); }

 private:
  std::shared_ptr<const Program> program_;
  std::shared_ptr<Executor<T>> executor_;
};

template <Scalar T> class FlatLinearMap {
 public:
  // The derivative with respect to x; f also takes `data` after x.
  FlatLinearMap(const Function& f, const Views<T>& x, const Views<T>& data);
  // A function that is linear itself, TraceError if it is not; it has no value.
  FlatLinearMap(const Function& f, std::span<const Shape> x);

  const std::vector<Array<T>>& value() const { return state_->value; }
  bool has_value() const { return state_->has_value; }
  // lanes: the number of them as a leading axis, or -1 for one (co)tangent without such an axis. Of a transposed map the two are exchanged.
  std::vector<Array<T>> jvp(const Views<T>& tangents, Index lanes) const { return transposed_ ? backward(tangents, lanes) : forward(tangents, lanes); }
  std::vector<Array<T>> vjp(const Views<T>& cotangents, Index lanes) const { return transposed_ ? forward(cotangents, lanes) : backward(cotangents, lanes); }
  FlatLinearMap transposed() const;
  const std::vector<Array<T>>& residuals() const { return state_->residuals; }
  const Program& program() const { return *state_->forward; }             // tangents, then residuals -> tangents
  const Program& transpose_program() const { return *state_->backward; }  // cotangents, then residuals -> cotangents

 private:
  struct State {
    std::vector<Array<T>> value, residuals;
    bool has_value = false;                                   // a value may have no arrays
    std::vector<Shape> in, out;
    std::shared_ptr<const Program> forward, backward;
    Index forward_lanes = 0, backward_lanes = 0;              // what the executors are planned for
    std::unique_ptr<Executor<T>> forward_run, backward_run;   // made when first used
  };
  std::vector<Array<T>> forward(const Views<T>& tangents, Index lanes) const;
  std::vector<Array<T>> backward(const Views<T>& cotangents, Index lanes) const;
  std::shared_ptr<State> state_ = std::make_shared<State>();  // shared by copies, which one thread uses at a time
  bool transposed_ = false;
};

extern template class FlatFunction<float>;
extern template class FlatFunction<double>;
extern template class FlatLinearMap<float>;
extern template class FlatLinearMap<double>;

}  // namespace linnet::autodiff
