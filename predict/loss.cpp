// The losses of loss.h. Of those with exponentials the derivative is given beside the value, as a sum of terms of one sign: 1 - p is never formed by subtraction.
#include "linnet/predict/loss.h"

#include "linnet/autodiff/derivative.h"
#include "linnet/autodiff/finite.h"
#include "linnet/autodiff/ops.h"

#include <algorithm>
#include <cmath>

namespace linnet::predict {

using autodiff::fail;
using autodiff::NumericalError;
using autodiff::ShapeError;

namespace {

void check_same_shape(const char* operation, const Shape& f, const Array<double>& y) {
  if (y.shape() != f) fail<ShapeError>("{}: y is {}, the outputs it is the target of are {}; reshape y to that", operation, y.shape(), f);
}

void check_probabilities(const char* operation, const Shape& f, const Array<double>& y) {
  check_same_shape(operation, f, y);
  for (Index i = 0; i < y.size(); ++i)
    if (!(y.data()[i] >= 0 && y.data()[i] <= 1))
      fail<NumericalError>("{}: y is {} at {}; the logistic loss takes the probability of the positive class, in [0, 1] (labels -1 and 1 become 0 and 1)", operation, y.data()[i],
                           autodiff::position(i, y.shape()));
}

void check_distributions(const char* operation, const Shape& f, const Array<double>& y) {
  check_same_shape(operation, f, y);
  const Index classes = f.rank() > 0 ? f[-1] : 0;
  if (f.rank() < 2 || classes < 2)
    fail<ShapeError>("{}: softmax needs two classes or more in the last axis, the outputs are {}; for one output of two classes take Loss::logistic()", operation, f);
  for (Index i = 0; i < y.size(); i += classes) {
    double sum = 0;
    for (Index k = i; k < i + classes; ++k) {
      if (!(y.data()[k] >= 0)) fail<NumericalError>("{}: y is {} at {}; softmax cross-entropy takes one-hot rows or probabilities", operation, y.data()[k], autodiff::position(k, y.shape()));
      sum += y.data()[k];
    }
    if (!(std::abs(sum - 1) < 1e-4))
      fail<NumericalError>("{}: the row of y at {} sums to {:.6g}; softmax cross-entropy takes one-hot rows or probabilities, which sum to 1", operation, autodiff::position(i, y.shape()), sum);
  }
}

// log(1 + exp x), and its slope 1 / (1 + exp -x) as exp(-log(1 + exp -x)).
Var softplus(const Var& x) {
  const autodiff::Function value = [](std::span<const Var> in) -> std::vector<Var> { return {maximum(in[0], 0.0) + log1p(exp(-abs(in[0])))}; };
  const autodiff::CustomJvp slope = [](std::span<const Var> in, std::span<const Var> tangent) -> std::vector<Var> { return {tangent[0] * exp(-softplus(-in[0]))}; };
  return custom_jvp(value, slope)(std::array{x})[0];
}

// Of every entry, the sum of the others along the last axis.
Var sum_of_others(const Var& x) {
  const Index last = x.shape().rank() - 1, n = x.shape()[last];
  const Var before = pad(slice(cumsum(x, last), last, 0, n - 1), last, 1, 0), after = pad(slice(cumsum(x, last, true), last, 1, n - 1), last, 0, 1);
  return before + after;
}

// -log softmax(f): -log(1 - rest) where the others have little, else by the sum of exponentials.
Var surprise(const Var& f) {
  const Var rest = sum_of_others(softmax(f));
  return where(rest < 0.5, -log1p(-minimum(rest, 0.5)), logsumexp(f, -1, true) - f);
}

// sum_k y_k surprise_k of every example, whose slope is p_k sum_(j != k) y_j - y_k sum_(j != k) p_j, which is p - y for rows y that sum to 1. y is data: there is no derivative
// by it.
Var cross_entropy(const Var& f, const Var& y) {
  const autodiff::Function value = [](std::span<const Var> in) -> std::vector<Var> { return {sum(in[1] * surprise(in[0]), {-1})}; };
  const autodiff::CustomJvp slope = [](std::span<const Var> in, std::span<const Var> tangent) -> std::vector<Var> {
    const Var p = softmax(in[0]), g = p * sum_of_others(in[1]) - in[1] * sum_of_others(p);
    return {sum(g * tangent[0], {-1})};
  };
  return custom_jvp(value, slope)(std::array{f, y})[0];
}

}  // namespace

Loss::Loss(Value value, std::string name) : Loss(std::move(value), std::move(name), nullptr) {}

Loss Loss::squared() {
  return Loss([](const Var& f, const Var& y) { return 0.5 * mean(square(f - y)); }, "squared", check_same_shape);
}

Loss Loss::softmax_cross_entropy() {
  return Loss([](const Var& f, const Var& y) { return mean(cross_entropy(f, y)); }, "softmax_cross_entropy", check_distributions);
}

Loss Loss::logistic() {
  return Loss(
      [](const Var& f, const Var& y) {
        const Var p = y + zeros_like(f);  // so that y may be a constant
        return mean(p * softplus(-f) + (1.0 - p) * softplus(f));
      },
      "logistic", check_probabilities);
}

Loss Loss::huber(double delta) {
  if (!(delta > 0 && std::isfinite(delta))) fail<NumericalError>("Loss::huber: delta must be positive and finite, got {}", delta);
  return Loss(
      [delta](const Var& f, const Var& y) {
        const Var r = f - y, inside = clip(r, -delta, delta);
        return mean(inside * (r - 0.5 * inside));
      },
      "huber", check_same_shape);
}

void Loss::check(const char* operation, const Shape& f, const Array<double>& y) const {
  if (check_) check_(operation, f, y);
  autodiff::check_finite(operation, "y", y);
}

// ---- on arrays

namespace {

// f, then `between` inputs of its shape, then y.
std::vector<Shape> shapes(const Shape& f, int between, const Shape& y) {
  std::vector<Shape> all(static_cast<std::size_t>(1 + between), f);
  all.push_back(y);
  return all;
}

autodiff::Function flat(const char* operation, const Loss& loss) {
  return [operation, loss](std::span<const Var> in) -> std::vector<Var> {
    const Var value = loss(in[0], in[1]);
    if (value.shape().rank() != 0) fail<ShapeError>("{}: {} answered {}; a loss is one number, the mean over all examples", operation, loss.name(), value.shape());
    return {value};
  };
}

}  // namespace

LossOn::LossOn(const char* operation, const Loss& loss, const Shape& f, Array<double> y)
    : f_(f),
      y_([&] {
        loss.check(operation, f, y);
        return std::move(y);
      }()),
      gradient_(autodiff::detail::value_and_grad(flat(operation, loss), 1), shapes(f, 0, y_.shape())),
      hessian_(autodiff::detail::hessian_product(flat(operation, loss), 1), shapes(f, 1, y_.shape())) {}

double LossOn::operator()(const double* f, double* gradient) const {
  const std::vector<Array<double>> out = gradient_({{f_, f}, y_});
  if (gradient) std::copy(out[1].begin(), out[1].end(), gradient);
  return out[0].item();
}

double LossOn::operator()(const double* f) const { return (*this)(f, nullptr); }

void LossOn::hessian_product(const double* f, const double* v, double* product) const {
  const Array<double> out = std::move(hessian_({{f_, f}, {f_, v}, y_})[0]);
  std::copy(out.begin(), out.end(), product);
}

}  // namespace linnet::predict
