// Compositions of primitives. One becomes a primitive with a rule of its own when a measurement or an extreme value asks for it.
#include "linnet/autodiff/ops.h"

#include "linnet/autodiff/fail.h"

#include <array>
#include <cmath>
#include <numbers>

namespace linnet::autodiff {

Var square(const Var& x) { return x * x; }
Var abs(const Var& x) { return abrelu(x, -1, 1); }
Var relu(const Var& x) { return abrelu(x, 0, 1); }

Var abrelu(const Var& x, double a, double b) {
  auto times = [&](double c) { return c == 0 ? zeros_like(x) : c * x; };  // 0 times infinity is never formed
  return where(step(x), times(b), where(step(-x), times(a), (a + b) / 2 * x));
}

// a where it leads, b where it does; of equal ones, and of a NaN, half of each.
static Var chosen(const Var& a_leads, const Var& b_leads, const Var& a, const Var& b) {
  const std::array both{a, b};
  Tape* const tape = newest(both);
  auto half = [&](const Var& v) -> Var {
    if (const auto c = v.number()) return *c / 2;
    return 0.5 * (v.is_constant() && tape ? tape->take_in(v) : v);
  };
  return where(a_leads, a, where(b_leads, b, half(a) + half(b)));
}
Var maximum(const Var& a, const Var& b) { return chosen(a > b, a < b, a, b); }
Var minimum(const Var& a, const Var& b) { return chosen(a < b, a > b, a, b); }
Var clip(const Var& x, const Var& low, const Var& high) {
  if (const auto l = low.number(), h = high.number(); l && h && !(*l <= *h))
    fail<NumericalError>("clip: the bounds are {} and {}; the lower one must not be above the upper one, and neither may be NaN", *l, *h);
  return minimum(maximum(x, low), high);
}
Var where(const Var& condition, const std::function<Var(Var)>& f, const std::function<Var(Var)>& g, const Var& x, double safe, std::optional<double> safe_g) {
  return where(condition, f(where(condition, x, safe)), g(where(condition, safe_g.value_or(safe), x)));
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

Var layer_norm(const Var& x, Index axis, double epsilon) { return layer_norm(x, std::vector{axis}, epsilon); }
Var layer_norm(const Var& x, std::vector<Index> axes, double epsilon) {
  if (!(epsilon > 0) || std::isinf(epsilon))
    fail<NumericalError>("layer_norm: epsilon is {}; it must be finite and above 0, so that a constant row has a derivative", epsilon);
  if (axes.empty()) fail<ShapeError>("layer_norm: no axes came for {}; name those to normalize over", x.shape());
  for (Index& axis : axes) axis = normalized_axis("layer_norm", axis, x.shape());
  if (x.shape().size() == 0) return x;
  const Var centred = x - mean(x, axes, true);
  return centred / sqrt(mean(square(centred), axes, true) + epsilon);
}

Var mean_squared_error(const Var& prediction, const Var& target) {
  if (prediction.shape() != target.shape()) fail<ShapeError>("mean_squared_error: prediction {} and target {} must have one shape", prediction.shape(), target.shape());
  return mean(square(prediction - target));
}

}  // namespace linnet::autodiff
