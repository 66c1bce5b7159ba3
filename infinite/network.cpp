#include "linnet/infinite/network.h"

#include "linnet/nn/check.h"
#include "linnet/nn/kernel_places.h"

#include <map>
#include <span>

namespace linnet::infinite {

using namespace autodiff;
using nn::KernelRule, nn::Law, nn::Layer;

namespace {

struct Known {
  Law law;
  int id;
};

template <class F> auto in_path(std::span<const std::string> path, const F& f) -> decltype(f()) {
  if (path.empty()) return f();
  return nn::in_layer(path[0], [&] { return in_path(path.subspan(1), f); });
}

class Reader {
 public:
  explicit Reader(Network& network) : network_(network) {}

  Tree<Known> visit(const Layer& layer, const std::string& name, const Tree<Known>& in) {
    path_.push_back(name);
    Tree<Known> out = layer.children ? through(layer, in) : of_rule(layer, in);
    path_.pop_back();
    return out;
  }

 private:
  Tree<Known> through(const Layer& layer, const Tree<Known>& in) {
    const std::vector<Layer>& children = *layer.children;
    const auto name = [&](std::size_t i) { return fmt::format("{}_{}", children[i].name, i); };
    if (!layer.side_by_side) {
      Tree<Known> value = in;
      for (std::size_t i = 0; i < children.size(); ++i) value = visit(children[i], name(i), value);
      return value;
    }
    const auto& inputs = *in_path(path_, [&] { return &nn::side_by_side(layer.name, in, children.size(), ""); });
    std::vector<Tree<Known>> values;
    for (std::size_t i = 0; i < children.size(); ++i) values.push_back(visit(children[i], name(i), inputs[i].second));
    return nn::listed(std::move(values));
  }

  Tree<Known> of_rule(const Layer& layer, const Tree<Known>& in) {
    return in_path(path_, [&]() -> Tree<Known> {
      if (!layer.kernel) fail<StructureError>("{}: the layer has no rule for kernels of infinite width; give it one by nn::with_kernel", layer.name);
      if (!layer.kernel->refusal.empty()) fail<StructureError>("{}: it has no kernel of infinite width: {}", layer.name, layer.kernel->refusal);
      const Tree<Law> laws = layer.kernel->law(map([](const Known& k) { return k.law; }, in), draws_);
      const Tree<Known> out = map([&](const Law& law) { return Known{law, network_.values++}; }, laws);
      const auto ids = [](const Tree<Known>& tree) { return map([](const Known& k) { return k.id; }, tree); };
      if (network_.steps.empty()) network_.flattens_first = layer.name == "flatten" && layer.options.has_value();
      network_.steps.push_back({layer.kernel.get(), ids(in), ids(out), path_, layer.name, layer.options});
      return out;
    });
  }

  Network& network_;
  std::vector<std::string> path_;
  int draws_ = 0;
};

const nn::Scale as_made = [](std::string_view, double value) { return Var(value); };

}  // namespace

Network read(const Layer& layer) {
  Network network{.layer = layer};
  const Tree<Known> out = Reader(network).visit(network.layer, layer.name, Known{Law{}, 0});
  if (!out.is_leaf()) fail<StructureError>("{}: it answers {} values, one array is expected; end it with fan_in_sum()", layer.name, out.children().size());
  network.output = out.leaf().id;
  network.all_places.assign(static_cast<std::size_t>(network.values), false);
  for (std::size_t i = network.steps.size(); i-- > 0;) {
    const Network::Step& step = network.steps[i];
    bool asked = step.rule->places == nn::Places::all;
    if (step.rule->places == nn::Places::as_asked)
      for (const int* id : step.out.leaves()) asked |= network.all_places[static_cast<std::size_t>(*id)];
    if (asked)
      for (const int* id : step.in.leaves()) network.all_places[static_cast<std::size_t>(*id)] = true;
  }
  return network;
}

Network rest_of(const Network& network, std::size_t steps) {
  Network rest = network;
  rest.input = network.steps[steps - 1].out.leaf();
  rest.input_has_ntk = true;
  rest.flattens_first = false;
  rest.steps.erase(rest.steps.begin(), rest.steps.begin() + static_cast<std::ptrdiff_t>(steps));
  return rest;
}

namespace {

// A number of single examples as a side of a pair. Where all pairs of places are told apart it is spread over the places of the other side.
nn::Sides spread(const nn::Sides& s, const Shape& places, bool all_places) {
  if (!all_places || places.rank() == 0) return s;
  const auto row = [&](const Var& v) { return v.is_zero() ? v : broadcast(v, places.rank(), places); };
  const auto column = [&](const Var& v) { return v.is_zero() ? v : broadcast(v, 1, places); };
  return {row(s.row), column(s.column), row(s.row_low), column(s.column_low)};
}

// What a step is given: where it asks for equal places alone and there are all pairs, those of them.
struct Given {
  bool all;   // of what the rule computes with
  bool keep;  // of what is kept of its answer
};
Given given(const Network& network, const Network::Step& step) {
  bool keep = false;
  for (const int* id : step.out.leaves()) keep |= network.all_places[static_cast<std::size_t>(*id)];
  return {step.rule->places == nn::Places::all || (step.rule->places == nn::Places::as_asked && keep), keep};
}

class Tracer {
 public:
  Tracer(const Network& network, const std::vector<Shape>& shapes, bool self = false) : network_(network), shapes_(shapes), self_(self) {}

  // The pair value of id with equal places only, or all.
  nn::PairValue value(int id, bool all) const {
    const nn::PairValue& v = values_.at(static_cast<std::size_t>(id));
    if (all || !v.all_places) return v;
    nn::PairValue equal = v;
    equal.deviation = plain_.at(static_cast<std::size_t>(id));
    equal.gap = nn::equal_places(v.gap);
    if (!v.ntk.is_zero()) equal.ntk = nn::equal_places(v.ntk);
    equal.all_places = false;
    return equal;
  }
  // deviation: not spread.
  void know(int id, const nn::Sides& deviation, const Var& gap, const Var& ntk, bool all) {
    const auto i = static_cast<std::size_t>(id);
    values_.resize(std::max(values_.size(), i + 1));
    plain_.resize(values_.size());
    const Shape places = nn::places_of(shapes_[i]);
    plain_[i] = deviation;
    const bool pairs = all && places.rank() > 0;
    values_[i] = {shapes_[i], spread(deviation, places, all), self_ ? nothing_at_equal_places(gap, places, pairs) : gap, ntk, pairs};
    if (all && !network_.all_places[i]) values_[i] = value(id, false);
  }
  // Runs the rule of a step. Statistics as they are for every side, not spread.
  void run(const Network::Step& step, const std::vector<nn::Sides>& statistics, const std::vector<bool>& whole, const std::function<nn::Sides(int)>& deviation, const nn::Scale& scale) {
    const Given g = given(network_, step);
    const auto places = [&](int id) { return nn::places_of(shapes_[static_cast<std::size_t>(id)]); };
    const Shape first = places(*step.in.leaves().front());
    std::vector<nn::Sides> mine;
    for (std::size_t k = 0; k < statistics.size(); ++k) mine.push_back(whole[k] ? statistics[k] : spread(statistics[k], first, g.all));
    const auto in = map([&](int id) { return value(id, g.all); }, step.in);
    const auto after = map([&](int id) { return spread(deviation(id), places(id), g.all); }, step.out);
    const auto out = step.rule->pair(in, after, mine, scale);
    map([&](int id, const nn::PairValue& v) { return know(id, deviation(id), v.gap, v.ntk, g.all), 0; }, step.out, out);
  }

 private:
  // Of an example with itself the gap of equal places is 0, and not what rounding left of it.
  Var nothing_at_equal_places(const Var& gap, const Shape& places, bool pairs) {
    if (!pairs) return zeros_like(gap);
    const Index n = places.size();
    Var& other = others_[n];
    if (other.is_zero()) {
      Array<double> mask({n, n}, 1.0);
      for (Index p = 0; p < n; ++p) mask.data()[p * n + p] = 0;
      other = constant(std::move(mask));
    }
    return reshape(where(other, reshape(gap, {n, n}), 0.0), gap.shape());
  }

  const Network& network_;
  const std::vector<Shape>& shapes_;
  bool self_;
  std::vector<nn::PairValue> values_;
  std::vector<nn::Sides> plain_;
  std::map<Index, Var> others_;  // 1 at places that are not equal, by their number
};

}  // namespace

ExampleProgram trace_examples(const Network& network, const Shape& input) {
  ExampleProgram made;
  Tape tape;
  const int first = network.input;
  made.with_ntk = network.all_places[static_cast<std::size_t>(first)];
  const Shape places = nn::places_of(input);
  made.shapes.resize(static_cast<std::size_t>(network.values));
  Tracer self(network, made.shapes, true);  // the example with itself, as one column
  std::vector<nn::ExampleValue> values(static_cast<std::size_t>(network.values));
  std::vector<Var> outputs;
  std::map<int, int> there;  // by the number of the traced value
  std::string layer = "the input";
  const auto keep = [&](const nn::Statistic& s) {
    const Var v = s.value.is_constant() ? tape.take_in(s.value) : s.value;
    const auto [at, is_new] = there.emplace(v.id(), static_cast<int>(outputs.size()));
    if (is_new) {
      outputs.push_back(v);
      made.statistics.push_back({v.shape(), s.split, s.whole, layer, s.error});
    } else {
      made.statistics[static_cast<std::size_t>(at->second)].split |= s.split;
    }
    return at->second;
  };
  const auto sides = [&](int statistic) -> nn::Sides {
    const Var& v = outputs[static_cast<std::size_t>(statistic)];
    return {v, reshape(v, v.shape().inserted(0, std::array<Index, 1>{1})), {}, {}};
  };
  made.deviation.resize(values.size());
  const auto deviation = [&](int id) { return sides(made.deviation[static_cast<std::size_t>(id)]); };
  const auto know = [&](int id, const nn::ExampleValue& v) {
    values[static_cast<std::size_t>(id)] = v;
    made.shapes[static_cast<std::size_t>(id)] = v.shape;
    made.deviation[static_cast<std::size_t>(id)] = keep({sqrt(v.variance), true});
  };
  const auto with_self = [&](int id) {
    nn::ExampleValue v = values[static_cast<std::size_t>(id)];
    if (network.all_places[static_cast<std::size_t>(id)]) v.self = std::make_shared<const nn::PairValue>(self.value(id, true));
    return v;
  };
  know(first, {input, tape.input(places)});
  if (made.with_ntk) {
    const Var gap = tape.input(places.inserted(0, std::span(places.begin(), places.end())));
    self.know(first, deviation(first), reshape(gap, gap.shape().inserted(0, std::array<Index, 1>{1})), {}, true);
  }
  for (const Network::Step& step : network.steps)
    in_path(step.path, [&] {
      layer = fmt::format("{}", fmt::join(step.path, "/"));
      std::vector<nn::Statistic> statistics;
      const auto out = step.rule->example(map(with_self, step.in), statistics, as_made);
      std::vector<int> mine;
      for (const nn::Statistic& s : statistics)
        if (const int at = keep(s); !s.error) mine.push_back(at);
      map([&](int id, const nn::ExampleValue& v) { return know(id, v), 0; }, step.out, out);
      if (made.with_ntk) {
        std::vector<nn::Sides> of_self;
        std::vector<bool> whole;
        for (const int s : mine) of_self.push_back(sides(s)), whole.push_back(made.statistics[static_cast<std::size_t>(s)].whole);
        self.run(step, of_self, whole, deviation, as_made);
      }
      made.of_step.push_back(std::move(mine));
    });
  outputs.push_back(values[static_cast<std::size_t>(network.output)].variance);
  if (made.with_ntk) {
    const nn::PairValue last = self.value(network.output, false);
    outputs.push_back(last.ntk.is_zero() ? zeros_like(outputs.back()) : reshape(last.ntk, outputs.back().shape()));
  }
  made.program = std::make_shared<const Program>(tape.seal(outputs));
  return made;
}

std::shared_ptr<const Program> trace_pairs(const Network& network, const ExampleProgram& examples, Index columns, bool in_float, Wanted wanted) {
  Tape tape;
  Tracer pairs(network, examples.shapes);
  const auto of_columns = [&](const Shape& shape) { return shape.inserted(0, std::array{columns}); };
  const int first = network.input;
  const bool all = network.all_places[static_cast<std::size_t>(first)];
  const Shape places = nn::places_of(examples.shapes[static_cast<std::size_t>(first)]);
  const Var gap = tape.input(of_columns(all ? places.inserted(0, std::span(places.begin(), places.end())) : places));
  const Var ntk = network.input_has_ntk ? tape.input(gap.shape()) : Var();
  std::vector<nn::Sides> statistics;
  for (const auto& s : examples.statistics) {
    if (s.error) {
      statistics.emplace_back();  // no input
      continue;
    }
    nn::Sides sides{tape.input(s.shape), tape.input(of_columns(s.shape)), {}, {}};
    if (s.split && in_float) sides.row_low = tape.input(s.shape), sides.column_low = tape.input(of_columns(s.shape));
    statistics.push_back(std::move(sides));
  }
  const auto deviation = [&](int id) { return statistics[static_cast<std::size_t>(examples.deviation[static_cast<std::size_t>(id)])]; };
  pairs.know(first, deviation(first), gap, ntk, all);
  for (std::size_t i = 0; i < network.steps.size(); ++i) {
    const Network::Step& step = network.steps[i];
    in_path(step.path, [&] {
      const Tape::Scope scope(&tape, fmt::format("{}", fmt::join(step.path, "/")));
      std::vector<nn::Sides> mine;
      std::vector<bool> whole;
      for (const int s : examples.of_step[i]) mine.push_back(statistics[static_cast<std::size_t>(s)]), whole.push_back(examples.statistics[static_cast<std::size_t>(s)].whole);
      pairs.run(step, mine, whole, deviation, as_made);
    });
  }
  const nn::PairValue last = pairs.value(network.output, false);
  std::vector<Var> outputs;
  if (wanted != Wanted::ntk) outputs.push_back(last.nngp());
  if (wanted != Wanted::nngp) outputs.push_back(last.ntk.is_zero() ? zeros_like(last.gap) : last.ntk);
  return std::make_shared<const Program>(tape.seal(outputs));
}

TracedKernels trace_kernels(const Network& network, Index channels, const Var& row_variances, const Var& column_variances, const Var& relative_gap, const StepScale& scale) {
  const auto all = static_cast<std::size_t>(network.values);
  std::vector<Shape> shapes(all);
  std::vector<std::vector<nn::Sides>> statistics(network.steps.size());
  std::vector<nn::Sides> deviations(all);
  // Both sets go through the rules of single examples; a number of one is a row of the pairs, of the other a column.
  for (const bool row : {true, false}) {
    const Index n = (row ? row_variances : column_variances).shape()[0];
    const auto put = [&](nn::Sides& to, const Var& v) { (row ? to.row : to.column) = reshape(v, row ? Shape{n, 1} : Shape{1, n}); };
    std::vector<nn::ExampleValue> values(all);
    const auto know = [&](int id, const nn::ExampleValue& v) {
      const auto i = static_cast<std::size_t>(id);
      values[i] = v;
      shapes[i] = v.shape;
      put(deviations[i], sqrt(v.variance));
    };
    know(0, {{1, channels}, row ? row_variances : column_variances});
    for (std::size_t i = 0; i < network.steps.size(); ++i) {
      const Network::Step& step = network.steps[i];
      in_path(step.path, [&] {
        if (step.rule->places == nn::Places::all) fail<StructureError>("{}: kernels of traced examples have no places; use infinite::Kernel", step.name);
        std::vector<nn::Statistic> mine;
        const auto in = map([&](int id) { return values[static_cast<std::size_t>(id)]; }, step.in);
        const auto out = step.rule->example(in, mine, [&](std::string_view option, double value) { return scale(step, option, value); });
        std::erase_if(mine, [](const nn::Statistic& s) { return s.error; });
        statistics[i].resize(mine.size());
        for (std::size_t k = 0; k < mine.size(); ++k) put(statistics[i][k], mine[k].value);
        map([&](int id, const nn::ExampleValue& v) { return know(id, v), 0; }, step.out, out);
      });
    }
  }
  Tracer pairs(network, shapes);
  const auto deviation = [&](int id) { return deviations[static_cast<std::size_t>(id)]; };
  pairs.know(0, deviation(0), product(deviation(0)) * relative_gap, {}, false);
  for (std::size_t i = 0; i < network.steps.size(); ++i) {
    const Network::Step& step = network.steps[i];
    const nn::Scale of_step = [&](std::string_view option, double value) { return scale(step, option, value); };
    in_path(step.path, [&] { pairs.run(step, statistics[i], std::vector<bool>(statistics[i].size(), false), deviation, of_step); });
  }
  const nn::PairValue last = pairs.value(network.output, false);
  return {last.nngp(), last.ntk.is_zero() ? zeros_like(last.gap) : last.ntk};
}

}  // namespace linnet::infinite
