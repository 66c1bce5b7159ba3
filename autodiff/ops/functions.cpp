// Compositions of primitives. One becomes a primitive with a rule of its own when a measurement or an extreme value asks for it.
#include "linnet/autodiff/ops.h"

#include "linnet/autodiff/fail.h"

#include <numbers>

namespace linnet::autodiff {

Var square(const Var& x) { return x * x; }
Var abs(const Var& x) { return abrelu(x, -1, 1); }
Var relu(const Var& x) { return abrelu(x, 0, 1); }

Var abrelu(const Var& x, double a, double b) {
  auto times = [&](double c) { return c == 0 ? zeros_like(x) : c * x; };  // 0 times infinity is never formed
  return where(step(x), times(b), where(step(-x), times(a), (a + b) / 2 * x));
}

Var sigmoid(const Var& x) { return 0.5 * (1.0 + tanh(0.5 * x)); }
Var gelu(const Var& x) { return x * (0.5 * (1.0 + erf(std::numbers::sqrt2 / 2 * x))); }

Var logsumexp(const Var& x, Index axis, bool keep) {
  const Var largest = stop_gradient(max(x, {axis}, true));  // a shift that cancels: no derivative
  const Var shift = where(largest - largest, 0.0, largest);  // of infinite entries: their own sum decides
  const Var result = log(sum(exp(x - shift), {axis}, true)) + shift;
  return keep ? result : reshape(result, x.shape().erased(normalized_axis("logsumexp", axis, x.shape()), 1));
}
Var softmax(const Var& x, Index axis) {
  const Var e = exp(x - stop_gradient(max(x, {axis}, true)));
  return e / sum(e, {axis}, true);
}

Var mean_squared_error(const Var& prediction, const Var& target) {
  if (prediction.shape() != target.shape()) fail<ShapeError>("mean_squared_error: prediction {} and target {} must have one shape", prediction.shape(), target.shape());
  return mean(square(prediction - target));
}

}  // namespace linnet::autodiff
