// validity.h: Taylor's terms along the weights' change, batch by batch; then the kernels' difference by random probes.
#include "linnet/predict/validity.h"

#include "linnet/autodiff/finite.h"
#include "linnet/predict/batches.h"
#include "linnet/predict/network.h"

#include <array>
#include <cmath>
#include <limits>

namespace linnet::predict {

using autodiff::cast;
using autodiff::check_finite;
using autodiff::fail;
using autodiff::Shape;
using autodiff::ShapeError;
using autodiff::StructureError;
using autodiff::Var;

namespace {

constexpr const char* operation = "validity";
constexpr double epsilon = std::numeric_limits<double>::epsilon(), infinity = std::numeric_limits<double>::infinity();
using Weights = Tree<Array<double>>;

double root_mean_square(const Array<double>& v) {
  const double most = max_abs(v);
  if (most == 0) return 0;
  const Array<double> scaled = 1 / most * v;
  return std::isfinite(1 / most) ? most * std::sqrt(dot(scaled, scaled) / static_cast<double>(v.size())) : most;
}
double norm_of(const Weights& tree) {
  double squares = 0;
  for (const Array<double>* leaf : tree.leaves()) squares += dot(*leaf, *leaf);
  return std::sqrt(squares);
}
double share(double part, double whole) { return whole > 0 ? part / whole : 0; }

Weights sum(const Weights& a, const Weights& b) {
  return map([](const Array<double>& u, const Array<double>& v) { return u + v; }, a, b);
}

// ---- along the change

// The network's weights as derivatives know them (network.h), from `origin` by `step`; what that is in the weights themselves.
struct Line {
  const ntk::Apply& f;
  const Weights &origin, &step;
  Weights end;
  const Weights& change;  // of theta
  bool independent;
};

// A layer's part of the step; zero elsewhere.
struct Layer {
  std::string name;
  std::size_t first, last;  // its leaves
};
std::vector<Layer> layers_of(const Weights& tree) {
  if (tree.is_leaf()) return {{"params", 0, 1}};
  std::vector<Layer> all;
  std::size_t first = 0;
  for (const auto& [name, child] : tree.children()) {
    const std::size_t last = first + child.leaves().size();
    if (last > first) all.push_back({name, first, last});
    first = last;
  }
  return all;
}
Weights part_of(const Weights& step, const Layer& layer) {
  std::size_t i = 0;
  return map([&](const Array<double>& leaf) {
    const bool inside = i >= layer.first && i < layer.last;
    return ++i, inside ? leaf : Array<double>(leaf.shape());
  },
             step);
}

struct Terms {
  Array<double> start, end, first, second;               // f0, f, J delta, D^2 f[delta, delta]
  std::vector<Array<double>> layer_first, layer_second;  // of delta_l
};

Terms terms(const Line& line, const Array<double>& x, const std::vector<Layer>& layers, Validity& meter) {
  const Index n = x.shape()[0];
  const auto both = [&line](const Tree<Var>& params, const Tree<Var>& step, const Var& batch) -> Tree<Var> {
    const auto [value, first] = jvp([&](const Tree<Var>& p) { return line.f(p, batch); }, params, step);
    return {{"value", value}, {"first", first}};
  };
  Gathered start(n), first(n), second(n);
  std::vector<Gathered> layer_first(layers.size(), Gathered(n)), layer_second(layers.size(), Gathered(n));
  in_batches(n, line.independent, [&](Index at, Index count) {
    const auto derivative = autodiff::linearize(both, line.origin, line.step, x.rows(at, count));
    start.add(at, count, derivative.value()["value"].leaf());
    first.add(at, count, derivative.value()["first"].leaf());
    second.add(at, count, derivative.jvp(line.step)["first"].leaf());
    for (std::size_t l = 0; l < layers.size(); ++l) {
      const auto part = derivative.jvp(part_of(line.step, layers[l]));
      layer_first[l].add(at, count, part["value"].leaf());
      layer_second[l].add(at, count, part["first"].leaf());
    }
  });
  Terms all{start.take(), Values(line.f, x, line.independent)(line.end), first.take(), second.take(), {}, {}};
  for (Gathered& part : layer_first) all.layer_first.push_back(part.take());
  for (Gathered& part : layer_second) all.layer_second.push_back(part.take());
  check_finite(operation, "f(theta0)", all.start);
  check_finite(operation, "f(theta)", all.end);
  check_finite(operation, "the linear change of f", all.first);
  check_finite(operation, "the second-order change of f", all.second);
  ++meter.evaluations;
  meter.double_jvps += 1 + static_cast<Index>(layers.size());
  return all;
}

Departure departure(const Terms& t) {
  const Array<double> gap = t.end - t.start - t.first, second = .5 * t.second;
  return {t.end.size(), root_mean_square(t.first), root_mean_square(gap), root_mean_square(second), root_mean_square(gap - second), max_abs(gap),
          64 * epsilon * std::max({max_abs(t.start), max_abs(t.end), max_abs(t.first)})};
}

std::vector<LayerShare> shares(const Line& line, const std::vector<Layer>& layers, const Terms& t) {
  std::vector<LayerShare> all;
  const auto leaves = line.change.leaves();
  const double squares = norm_of(line.change) * norm_of(line.change), first = dot(t.first, t.first), second = dot(t.second, t.second);
  for (std::size_t l = 0; l < layers.size(); ++l) {
    double own = 0;
    for (std::size_t i = layers[l].first; i < layers[l].last; ++i) own += dot(*leaves[i], *leaves[i]);
    all.push_back({layers[l].name, share(own, squares), share(dot(t.layer_first[l], t.first), first), share(dot(t.layer_second[l], t.second), second)});
  }
  return all;
}

// ---- the kernels

// Of one probe z, with K0 = K(theta0) and K = K(theta).
struct Sample {
  double difference = 0, start = 0, end = 0, product = 0;  // |(K - K0) z|^2, |K0 z|^2, |K z|^2, <K0 z, K z>
};

// A function of the samples' sums with the jackknife's standard error (Efron & Stein, Ann. Stat. 9, 1981).
template <class F> ntk::Estimate jackknife(const std::vector<Sample>& samples, F&& of) {
  const auto without = [&](std::size_t left_out) {
    Sample sum;
    for (std::size_t i = 0; i < samples.size(); ++i) {
      if (i == left_out) continue;
      sum.difference += samples[i].difference;
      sum.start += samples[i].start;
      sum.end += samples[i].end;
      sum.product += samples[i].product;
    }
    return of(sum);
  };
  const double n = static_cast<double>(samples.size()), value = without(samples.size());
  double mean = 0, squares = 0;
  for (std::size_t i = 0; i < samples.size(); ++i) mean += without(i) / n;
  for (std::size_t i = 0; i < samples.size(); ++i) squares += (without(i) - mean) * (without(i) - mean);
  return {value, std::isfinite(mean) ? std::sqrt((n - 1) / n * squares) : 0, static_cast<Index>(samples.size())};
}

void compare_kernels(const ntk::Operator<double>& start, const ntk::Operator<double>& end, const ValidityOptions& options, Validity& meter) {
  std::vector<Sample> samples;
  const auto difference = [&](const Array<double>& z) {
    const Array<double> k0 = start(z), k = end(z), d = k - k0;
    samples.push_back({dot(d, d), dot(k0, k0), dot(k, k), dot(k0, k)});
    return d;
  };
  ntk::estimate_norms(ntk::Symmetric<double>(start.value().shape(), difference), options.probes, options.seed);
  meter.products += 2 * options.probes;
  meter.drift = jackknife(samples, [](const Sample& s) { return s.difference == 0 ? 0 : s.start > 0 ? std::sqrt(s.difference / s.start)
                                                                                                    : infinity; });
  meter.alignment = jackknife(samples, [](const Sample& s) { return s.difference == 0 ? 1 : s.start > 0 && s.end > 0 ? s.product / (std::sqrt(s.start) * std::sqrt(s.end))
                                                                                                                     : 0; });
}

// ---- both

void check(const Array<double>& x, const Array<double>& x_probe, const ValidityOptions& options) {
  const Shape &of = x.shape(), &came = x_probe.shape();
  if (of.rank() == 0 || x.size() == 0) fail<ShapeError>("{}: x is {}; there must be at least one example", operation, of);
  if (came.rank() != of.rank() || came.with(0, of[0]) != of)
    fail<ShapeError>("{}: x_probe is {}, the examples trained on are {}; they may differ in the leading axis only", operation, came, of);
  if (options.probes < 2) fail<ShapeError>("{}: an error needs two probes or more, got {}", operation, options.probes);
  check_finite(operation, "x_probe", x_probe);
}

Validity measure(const Line& line, const ntk::Operator<double>& start, const Array<double>& x, const Array<double>& x_probe, const ValidityOptions& options) {
  Validity meter;
  const std::vector<Layer> layers = options.layers ? layers_of(line.step) : std::vector<Layer>();
  const Terms train = terms(line, x, layers, meter);
  meter.train = departure(train);
  meter.layers = shares(line, layers, train);
  if (x_probe.size() > 0) meter.probe = departure(terms(line, x_probe, {}, meter));
  compare_kernels(start, ntk::Operator<double>(line.f, line.end, x, options.kernel), options, meter);
  return meter;
}

double ratio(double part, double whole) { return part == 0 ? 0 : whole > 0 ? part / whole
                                                                           : infinity; }

std::string percent(double ratio) { return std::isinf(ratio) ? "infinitely much" : fmt::format("{:.2g} %", 100 * ratio); }

}  // namespace

double Departure::relative(double part) const { return part <= rounding ? 0 : change > rounding ? part / change
                                                                                                : infinity; }

Regime Validity::regime() const {
  const auto still = [](const Departure& d) { return d.change <= d.rounding && d.gap <= d.rounding; };
  if (still(train) && still(probe)) return Regime::unmoved;
  const Departure& worse = probe.relative_gap() > train.relative_gap() ? probe : train;
  const double gap = worse.relative_gap();
  if (gap <= 0.05 && drift.value <= 0.2) return Regime::linear;
  if (gap <= 0.05 || (gap <= 0.5 && worse.higher <= 0.5 * worse.gap)) return Regime::second_order;
  return Regime::nonlinear;
}

std::string Validity::verdict() const {
  const Regime r = regime();
  if (r == Regime::unmoved) return "Unmoved: what training changed is within rounding of the outputs, so there is nothing to judge.";
  const Departure& worse = probe.relative_gap() > train.relative_gap() ? probe : train;
  const std::string numbers = fmt::format("the network departs from its linearization by {} of what training changed ({} of it beyond second order), "
                                          "and its kernel has moved by {}",
                                          percent(worse.relative_gap()), percent(worse.relative_higher()), percent(drift.value));
  switch (r) {
    case Regime::linear: return fmt::format("Linear: {}; the closed form may stand for the network.", numbers);
    case Regime::second_order: return fmt::format("Second order: {}; take the closed form as a first approximation, widen the network, or relinearize on the way.", numbers);
    default: return fmt::format("Nonlinear: {}; the closed form describes the linearized network alone: "
                                   "relinearize in small steps, train for less time, or widen the network.", numbers);
  }
}

std::string Validity::table() const {
  std::string text = fmt::format("validity at t = {:g}: weights moved by {}\n", time, percent(moved));
  text += fmt::format("{:<10} {:>8} {:>11} {:>11} {:>11} {:>11} {:>11}\n", "examples", "rows", "change", "gap", "of change", "2nd order", "higher");
  for (const auto& [name, d] : {std::pair<const char*, const Departure&>{"training", train}, {"probe", probe}}) {
    if (d.rows == 0) continue;
    text += fmt::format("{:<10} {:>8} {:>11.3e} {:>11.3e} {:>11.3e} {:>11.3e} {:>11.3e}\n", name, d.rows, d.change, d.gap, d.relative_gap(), d.relative_second(), d.relative_higher());
  }
  text += fmt::format("kernel     drift {:.3g} +- {:.1g}, alignment {:.4g} +- {:.1g} ({} probes)\n", drift.value, drift.error, alignment.value, alignment.error, drift.samples);
  if (!layers.empty()) text += fmt::format("{:<20} {:>10} {:>10} {:>10}\n", "share of layer", "weights", "change", "2nd order");
  for (const LayerShare& l : layers) text += fmt::format("{:<20} {:>10.3f} {:>10.3f} {:>10.3f}\n", l.name, l.weights, l.change, l.second);
  text += fmt::format("took       {} evaluations, {} double jvps, {} kernel products\n", evaluations, double_jvps, products);
  return text + verdict() + "\n";
}

template <Scalar T> Validity validity(const Trained<T>& at, const Array<T>& x_probe, const ValidityOptions& options) {
  const Network& network = at.network(operation);
  const Array<double> probe = cast<double>(x_probe);
  check(network.x(), probe, options);
  const Weights step = network.change(at.coefficients().reshaped(network.f0().shape()), at.shrink()), change = network.moved(step);
  const Line line{network.apply(), network.point(), step, sum(network.point(), step), change, options.kernel.independent};
  Validity meter = measure(line, network.derivative(), network.x(), probe, options);
  meter.time = at.time();
  meter.moved = ratio(norm_of(change), norm_of(network.start()));
  return meter;
}

template <Scalar T>
Validity validity(const ntk::Apply& f, const Tree<Array<T>>& theta0, const Tree<Array<T>>& theta, const Array<T>& x, const Array<T>& x_probe,
                  const ValidityOptions& options) {
  autodiff::detail::check_same_form(operation, autodiff::detail::form(theta0), autodiff::detail::form(theta));
  if (theta0.leaves().empty()) fail<StructureError>("{}: the parameters have no weight; there is nothing to differentiate by", operation);
  check_finite(operation, "theta0", theta0);
  check_finite(operation, "theta", theta);
  check_finite(operation, "x", x);
  const auto wide = [](const Array<T>& leaf) { return cast<double>(leaf); };
  const Weights origin = map(wide, theta0), end = map(wide, theta);
  const Weights step = map([](const Array<double>& a, const Array<double>& b) { return a - b; }, end, origin);
  const Array<double> examples = cast<double>(x), probe = cast<double>(x_probe);
  check(examples, probe, options);
  const Line line{f, origin, step, end, step, options.kernel.independent};
  Validity meter = measure(line, ntk::Operator<double>(f, origin, examples, options.kernel), examples, probe, options);
  meter.moved = ratio(norm_of(step), norm_of(origin));
  return meter;
}

#define LINNET_INSTANTIATE(T)                                                             \
  template Validity validity(const Trained<T>&, const Array<T>&, const ValidityOptions&); \
  template Validity validity(const ntk::Apply&, const Tree<Array<T>>&, const Tree<Array<T>>&, const Array<T>&, const Array<T>&, const ValidityOptions&);
LINNET_INSTANTIATE(float)
LINNET_INSTANTIATE(double)

}  // namespace linnet::predict
