#include "linnet/infinite/network.h"

#include "linnet/nn/check.h"

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
      network_.steps.push_back({layer.kernel.get(), ids(in), ids(out), path_});
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
  return network;
}

ExampleProgram trace_examples(const Network& network, const Shape& input) {
  ExampleProgram made;
  Tape tape;
  const Shape places = input.part(1, input.rank() - 1);
  std::vector<nn::ExampleValue> values(static_cast<std::size_t>(network.values));
  std::vector<Var> outputs;
  std::map<int, int> there;  // by the number of the traced value
  std::string layer = "the input";
  const auto keep = [&](const nn::Statistic& s) {
    const Var v = s.value.is_constant() ? tape.take_in(s.value) : s.value;
    const auto [at, is_new] = there.emplace(v.id(), static_cast<int>(outputs.size()));
    if (is_new) {
      outputs.push_back(v);
      made.statistics.push_back({v.shape(), s.split, layer});
    } else {
      made.statistics[static_cast<std::size_t>(at->second)].split |= s.split;
    }
    return at->second;
  };
  made.deviation.resize(values.size());
  const auto know = [&](int id, const nn::ExampleValue& v) {
    values[static_cast<std::size_t>(id)] = v;
    made.deviation[static_cast<std::size_t>(id)] = keep({sqrt(v.variance), true});
  };
  know(0, {input, tape.input(places)});
  for (const Network::Step& step : network.steps)
    in_path(step.path, [&] {
      layer = fmt::format("{}", fmt::join(step.path, "/"));
      std::vector<nn::Statistic> statistics;
      const auto out = step.rule->example(map([&](int id) { return values[static_cast<std::size_t>(id)]; }, step.in), statistics, as_made);
      std::vector<int> mine;
      for (const nn::Statistic& s : statistics) mine.push_back(keep(s));
      made.of_step.push_back(std::move(mine));
      map([&](int id, const nn::ExampleValue& v) { return know(id, v), 0; }, step.out, out);
    });
  for (const nn::ExampleValue& v : values) made.shapes.push_back(v.shape);
  outputs.push_back(values[static_cast<std::size_t>(network.output)].variance);
  made.program = std::make_shared<const Program>(tape.seal(outputs));
  return made;
}

std::shared_ptr<const Program> trace_pairs(const Network& network, const ExampleProgram& examples, Index columns, bool in_float, Wanted wanted) {
  Tape tape;
  std::vector<nn::PairValue> values(static_cast<std::size_t>(network.values));
  const auto of_columns = [&](const Shape& shape) { return shape.inserted(0, std::array{columns}); };
  const Var gap = tape.input(of_columns(examples.statistics[static_cast<std::size_t>(examples.deviation[0])].shape));
  std::vector<nn::Sides> statistics;
  for (const auto& s : examples.statistics) {
    nn::Sides sides{tape.input(s.shape), tape.input(of_columns(s.shape)), {}, {}};
    if (s.split && in_float) sides.row_low = tape.input(s.shape), sides.column_low = tape.input(of_columns(s.shape));
    statistics.push_back(std::move(sides));
  }
  const auto deviation = [&](int id) -> nn::Sides { return statistics[static_cast<std::size_t>(examples.deviation[static_cast<std::size_t>(id)])]; };
  values[0] = {examples.shapes[0], deviation(0), gap, {}};
  for (std::size_t i = 0; i < network.steps.size(); ++i) {
    const Network::Step& step = network.steps[i];
    in_path(step.path, [&] {
      const Tape::Scope scope(&tape, fmt::format("{}", fmt::join(step.path, "/")));
      std::vector<nn::Sides> mine;
      for (const int s : examples.of_step[i]) mine.push_back(statistics[static_cast<std::size_t>(s)]);
      const auto out = step.rule->pair(map([&](int id) { return values[static_cast<std::size_t>(id)]; }, step.in), map(deviation, step.out), mine, as_made);
      map([&](int id, const nn::PairValue& v) { return values[static_cast<std::size_t>(id)] = {examples.shapes[static_cast<std::size_t>(id)], deviation(id), v.gap, v.ntk}, 0; }, step.out, out);
    });
  }
  const nn::PairValue& last = values[static_cast<std::size_t>(network.output)];
  std::vector<Var> outputs;
  if (wanted != Wanted::ntk) outputs.push_back(last.nngp());
  if (wanted != Wanted::nngp) outputs.push_back(last.ntk.is_zero() ? zeros_like(last.gap) : last.ntk);
  return std::make_shared<const Program>(tape.seal(outputs));
}

}  // namespace linnet::infinite
