// relinearize.h. Ridge and weight decay become one decay towards a centre: (r/N)(theta - theta0) + w theta = a (theta - centre) with a = r/N + w
// and centre = (r/N) theta0 / a, so a piece from anywhere is the law of weight decay for the offset theta - centre.
#include "linnet/predict/relinearize.h"

#include "linnet/autodiff/finite.h"
#include "linnet/predict/batches.h"
#include "linnet/predict/network.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

namespace linnet::predict {

using autodiff::cast;
using autodiff::check_finite;
using autodiff::fail;
using autodiff::NumericalError;
using autodiff::Shape;
using autodiff::ShapeError;
using autodiff::StructureError;

namespace {

constexpr const char* operation = "relinearize";
using Weights = Tree<Array<double>>;

// a + s b.
Weights plus(const Weights& a, double s, const Weights& b) {
  return map([s](const Array<double>& u, const Array<double>& v) { return u + s * v; }, a, b);
}
double root_mean_square(const Array<double>& v) { return norm(v) / std::sqrt(static_cast<double>(v.size())); }
bool finite(const Array<double>& v) { return autodiff::first_not_finite<double>(v.values()) < 0; }

// The network linearized at some weights, with its spectrum.
struct Linearization {
  Network network;
  Spectrum spectrum;
  Linearization(const ntk::Apply& f, const Weights& at, const Array<double>& x, const FlowOptions& o)
      : network(operation, f, at, x, o.rates, o.kernel, false), spectrum(network.kernel()) {}
};

// Where a piece leads.
struct Step {
  Weights theta;
  Array<double> change;                  // of the linearized outputs
  Array<double> outputs;                 // of the network
  double gap = 0, length = 0, next = 0;  // how long the next piece may be where they adapt
  Index rank = 0;
};

class Path {
 public:
  Path(const ntk::Apply& f, Weights params, Array<double> x, Array<double> y, const RelinearizeOptions& options)
      : f_(f), x_(x), y_(std::move(y)), options_(options), theta_(params), start_(std::move(params)), values_(f, std::move(x), options.training.kernel.independent) {
    law_ = {.motion = options.motion, .rate = options.training.rate, .ridge = options.training.ridge, .weight_decay = options.training.weight_decay};
    check_options();
    linearize(theta_);
    outputs_ = last_->network.f0();
    if (outputs_.shape() != y_.shape()) fail<ShapeError>("{}: y is {}, the outputs f(params, x) it is the target of are {}; reshape y to that", operation, y_.shape(), outputs_.shape());
    if (outputs_.size() == 0) fail<ShapeError>("{}: f(params, x) is {}; there must be at least one example and one output", operation, outputs_.shape());
    const double rows = static_cast<double>(y_.size()), ridge = (law_.ridge + options.training.relative_ridge * last_->spectrum.mean_diagonal()) / rows;
    const double decay = ridge + law_.weight_decay;
    pulled_ = decay > 0 ? ridge / decay : 0;
    law_.ridge = 0;
    law_.weight_decay = decay;
  }

  // Goes on from t for dt, or for less where pieces adapt.
  Step next(double t, double dt) {
    const double left = options_.t_end - t;
    if (left < dt * (1 + 1e-9)) dt = left;
    while (true) {
      Step step = attempt(dt);
      const double residual = root_mean_square(outputs_ - y_), rounding = 64 * std::numeric_limits<double>::epsilon() * max_abs(outputs_);
      const double allowed = options_.tolerance * std::max(residual, root_mean_square(step.change)) + rounding;
      const double fits = step.gap > 0 ? 0.9 * std::pow(allowed / step.gap, 1.0 / (options_.order + 1)) : 4;  // the gap is of the order of a piece's error
      step.next = law_.steps() ? std::max(1.0, std::floor(dt * std::clamp(fits, 0.3, 4.0))) : dt * std::clamp(fits, 0.3, 4.0);
      if (options_.tolerance == 0 || step.gap <= allowed || (law_.steps() && dt <= 1)) return accept(std::move(step));
      const double shorter = std::clamp(fits, 0.1, 0.7);
      dt = law_.steps() ? std::max(1.0, std::floor(dt * shorter)) : dt * shorter;
      if (dt < 1e-15 * t || dt < 1e-30 * options_.t_end)
        fail<NumericalError>("{}: a piece of {:.3g} still departs by more than the tolerance {} allows; raise the tolerance, "
                             "or see with validity where the network is not smooth",
                             operation, dt, options_.tolerance);
      if (options_.order == 2) linearize(theta_);  // the middle that was tried may be far off
    }
  }

  const Weights& theta() const { return theta_; }
  const Array<double>& outputs() const { return outputs_; }
  double loss() const {
    const Array<double> residual = outputs_ - y_;
    return dot(residual, residual) / (2 * static_cast<double>(y_.size()));
  }

 private:
  void check_options() {
    const RelinearizeOptions& o = options_;
    if (o.motion != Motion::gradient_flow && o.motion != Motion::gradient_descent)
      fail<StructureError>("{}: {} has a velocity, which no linearization at the weights alone knows; take gradient_flow or gradient_descent", operation, law_.name());
    if (o.order != 1 && o.order != 2) fail<ShapeError>("{}: pieces are of order 1 or 2, got {}", operation, o.order);
    if (o.order == 2 && law_.steps()) fail<StructureError>("{}: whole steps have no middle; order 2 is of gradient_flow alone", operation);
    for (const auto& [name, value, least] : {std::tuple("t_end", o.t_end, true), {"dt", o.dt, false}, {"the tolerance", o.tolerance, false}})
      if (!(std::isfinite(value) && (value > 0 || (value == 0 && !least))))
        fail<NumericalError>("{}: {} must be finite and {}, got {}", operation, name, least ? "positive" : "not negative", value);
    law_.check();
    law_.check_time(operation, o.t_end);
    law_.check_time(operation, o.dt);
    if (!(std::isfinite(o.training.relative_ridge) && o.training.relative_ridge >= 0))
      fail<NumericalError>("{}: the relative ridge must be finite and not negative, got {}", operation, o.training.relative_ridge);
  }

  void linearize(const Weights& at) {
    last_.reset();  // before the new one takes its memory
    last_.emplace(f_, at, x_, options_.training);
    here_ = true;
  }

  // Solves for dt from theta_ and the network's outputs there, with the Jacobian of the last linearization, which may be from elsewhere.
  Step advance(double dt) const {
    const Network& network = last_->network;
    const Array<double> residual = outputs_ - y_;
    const Shape flat{residual.size()};
    const Weights offset = network.trained(plus(theta_, -pulled_, start_));
    const Array<double> pull = law_.weight_decay > 0 ? network.derivative().jvp(offset).reshaped(flat) : Array<double>();
    const Dynamics dynamics(last_->spectrum, residual.reshaped(flat), law_, pull);
    Weights moved = network.derivative().vjp(dynamics.coefficients(dt).reshaped(residual.shape()));
    if (law_.weight_decay > 0) moved = plus(moved, dynamics.shrink(dt), offset);
    return {plus(theta_, 1, network.moved(moved)), dynamics.change(dt).reshaped(residual.shape()), {}, 0, dt, 0, dynamics.rank()};
  }

  Step attempt(double dt) {
    Step step;
    if (options_.order == 1) {
      if (!here_) linearize(theta_);
      step = advance(dt);
    } else {
      const Weights middle = advance(dt / 2).theta;
      linearize(middle);
      here_ = false;
      step = advance(dt);
    }
    step.outputs = values_(step.theta);
    step.gap = finite(step.outputs) ? root_mean_square(step.outputs - outputs_ - step.change) : std::numeric_limits<double>::infinity();
    return step;
  }

  Step accept(Step step) {
    theta_ = step.theta;
    outputs_ = step.outputs;
    here_ = false;
    return step;
  }

  const ntk::Apply& f_;
  Array<double> x_, y_;
  const RelinearizeOptions& options_;
  Weights theta_, start_;
  Values values_;
  Law law_;
  double pulled_ = 0;  // the centre as a multiple of the first weights
  Array<double> outputs_;
  std::optional<Linearization> last_;
  bool here_ = false;  // whether it is at theta_
};

template <Scalar T> Tree<Array<T>> narrowed(const Weights& tree) {
  return map([](const Array<double>& leaf) { return cast<T>(leaf); }, tree);
}

}  // namespace

template <Scalar T>
std::vector<Piece<T>> relinearize(const ntk::Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Array<T>& y, const RelinearizeOptions& options) {
  check_finite(operation, "params", params);
  check_finite(operation, "x", x);
  check_finite(operation, "y", y);
  if (x.size() == 0) fail<ShapeError>("{}: x is {}; there must be at least one example", operation, x.shape());
  Path path(f, map([](const Array<T>& leaf) { return cast<double>(leaf); }, params), cast<double>(x), cast<double>(y), options);
  std::vector<Piece<T>> pieces{{0, params, cast<T>(path.outputs()), path.loss(), 0, 0, 0}};
  double t = 0, dt = options.dt > 0 ? options.dt : options.t_end;
  const bool adapts = options.tolerance > 0;
  for (Index k = 1; t < options.t_end; ++k) {
    if (k > options.max_pieces)
      fail<NumericalError>("{}: {} pieces lead to t = {:.6g} of {:.6g}; allow more pieces (max_pieces), or make them longer", operation, options.max_pieces, t, options.t_end);
    const Step step = path.next(t, dt);
    t = step.length == options.t_end - t ? options.t_end : adapts ? t + step.length
                                                                  : static_cast<double>(k) * dt;
    const std::string what = fmt::format("f(theta, x) at t = {:.6g}", t);
    check_finite(operation, what, step.outputs);
    const double change = root_mean_square(step.change);
    if (!options.keep_weights && k > 1) pieces.back().weights = Tree<Array<T>>(std::vector<typename Tree<Array<T>>::Child>{});
    pieces.push_back({t, narrowed<T>(path.theta()), cast<T>(step.outputs), path.loss(), change, step.gap, step.rank});
    check_finite(operation, what, pieces.back().outputs);
    if (adapts) dt = step.next;
  }
  return pieces;
}

#define LINNET_INSTANTIATE(T) \
  template std::vector<Piece<T>> relinearize(const ntk::Apply&, const Tree<Array<T>>&, const Array<T>&, const Array<T>&, const RelinearizeOptions&);
LINNET_INSTANTIATE(float)
LINNET_INSTANTIATE(double)

}  // namespace linnet::predict
