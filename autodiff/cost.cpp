// The rows and columns of cost.h.
#include "linnet/autodiff/cost.h"

#include "linnet/autodiff/executor.h"
#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/table.h"

#include <algorithm>
#include <cstdio>

namespace linnet::autodiff {
namespace {

using Row = std::vector<std::string>;  // operation, shape, lanes, FLOP, bytes, layer

bool guessed(const Program& p);

// Whether its operations are not known but guessed from what it reads and writes.
bool guessed(const Instruction& c) {
  if (const Body* body = std::get_if<Body>(&c.attributes)) return guessed(*body->program);
  return !c.primitive->flops && c.primitive->eval.exists();
}
bool guessed(const Program& p) { return std::any_of(p.code.begin(), p.code.end(), [](const Instruction& c) { return guessed(c); }); }

Row row(const std::string& name, const std::string& shape, Index lanes, const Cost& cost, bool guess, double width, const std::string& layer) {
  return {name, shape, lanes == 1 ? "" : fmt::format("{}", lanes), fmt::format("{}{}", guess ? "~" : "", human(cost.flops, "FLOP")), in_bytes(width * cost.numbers), layer};
}

void add_rows(const Program& p, const std::vector<Varies>& inputs, Lanes lanes, double times, double width, std::size_t depth, std::vector<Row>& rows) {
  const std::vector<Varies> all = varies(p, inputs);
  const std::vector<Cost> each = costs(p, inputs, lanes);
  for (std::size_t k = 0; k < p.code.size(); ++k) {
    const Instruction& c = p.code[k];
    const int v = p.first_instruction() + static_cast<int>(k);
    const Body* const body = std::get_if<Body>(&c.attributes);
    const std::string name = fmt::format("{}%{} = {}", std::string(2 * depth, ' '), v, str(c));
    rows.push_back(row(name, str(c.shape), lanes.count(all[static_cast<std::size_t>(v)]),
                       {times * each[k].flops, times * each[k].numbers}, guessed(c), width, c.path ? *c.path : ""));
    if (!body) continue;
    std::vector<Varies> operands;
    for (const int u : c.in) operands.push_back(all[static_cast<std::size_t>(u)]);
    add_rows(*body->program, inputs_of(*body, std::move(operands)), lanes, body->loop ? times * static_cast<double>(body->loop->length) : times, width, depth + 1, rows);
  }
}

}  // namespace

template <Scalar T> std::string cost_table(const Program& p, const std::vector<Varies>& inputs, Lanes lanes) {
  if (inputs.size() > p.inputs.size()) fail<ShapeError>("cost_table: {} inputs were said to vary, the program has {}", inputs.size(), p.inputs.size());
  if (lanes.examples < 1 || lanes.directions < 1) fail<ShapeError>("cost_table: there must be at least one lane, got {} examples and {} directions", lanes.examples, lanes.directions);
  std::vector<Row> rows{{"instruction", "shape", "lanes", "operations", "read and written", "layer"}};
  constexpr double width = sizeof(T);
  add_rows(p, inputs, lanes, 1, width, 0, rows);
  rows.push_back(row("total", "", 1, cost(p, inputs, lanes), guessed(p), width, ""));
  const Executor<T> planned(std::make_shared<const Program>(p), inputs, lanes);
  return aligned(rows, "", {2, 3, 4}) + fmt::format("planned in {}: {} for values between instructions\n", std::same_as<T, float> ? "float" : "double", in_bytes(static_cast<double>(planned.arena_bytes())));
}

template <Scalar T> void print_cost(const Program& p, const std::vector<Varies>& inputs, Lanes lanes) { std::fputs(cost_table<T>(p, inputs, lanes).c_str(), stdout); }

template std::string cost_table<float>(const Program&, const std::vector<Varies>&, Lanes);
template std::string cost_table<double>(const Program&, const std::vector<Varies>&, Lanes);
template void print_cost<float>(const Program&, const std::vector<Varies>&, Lanes);
template void print_cost<double>(const Program&, const std::vector<Varies>&, Lanes);

}  // namespace linnet::autodiff
