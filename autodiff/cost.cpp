// The rows and columns of cost.h.
#include "linnet/autodiff/cost.h"

#include "linnet/autodiff/executor.h"
#include "linnet/autodiff/fail.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <string_view>

namespace linnet::autodiff {
namespace {

// As it is below a thousand, then three digits and a prefix: "720 FLOP", "1.61 GFLOP".
std::string human(double x, const char* unit) {
  constexpr std::array prefixes{"", "k", "M", "G", "T", "P", "E"};
  std::size_t k = 0;
  while (x >= 999.5 && k + 1 < prefixes.size()) {
    x /= 1000;
    ++k;
  }
  const int digits = k == 0 && x == static_cast<double>(static_cast<Index>(x)) ? 0 : x < 9.995 ? 2 : x < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f} {}{}", x, digits, prefixes[k], unit);
}

using Row = std::array<std::string, 6>;  // operation, shape, lanes, FLOP, bytes, layer

bool guessed(const Program& p) {
  return std::any_of(p.code.begin(), p.code.end(), [](const Instruction& c) {
    if (const Body* body = std::get_if<Body>(&c.attributes)) return guessed(*body->program);
    return !c.primitive->flops && c.primitive->eval.exists();
  });
}

Row row(const std::string& name, const std::string& shape, Index lanes, const Cost& cost, bool guess, double width, const std::string& layer) {
  return {name, shape, lanes == 1 ? "" : fmt::format("{}", lanes), (guess ? "~" : "") + human(cost.flops, "FLOP"), human(width * cost.numbers, "B"), layer};
}

void add_rows(const Program& p, const std::vector<Varies>& inputs, Lanes lanes, double times, double width, std::size_t depth, std::vector<Row>& rows) {
  const std::vector<Varies> all = varies(p, inputs);
  const std::vector<Cost> each = costs(p, inputs, lanes);
  for (std::size_t k = 0; k < p.code.size(); ++k) {
    const Instruction& c = p.code[k];
    const int v = p.first_instruction() + static_cast<int>(k);
    const Body* const body = std::get_if<Body>(&c.attributes);
    const bool guess = body ? guessed(*body->program) : !c.primitive->flops && c.primitive->eval.exists();
    const std::string name = fmt::format("{}%{} = {}", std::string(2 * depth, ' '), v, str(c));
    rows.push_back(row(name, str(c.shape), lanes.count(all[static_cast<std::size_t>(v)]),
                       {times * each[k].flops, times * each[k].numbers}, guess, width, c.path ? *c.path : ""));
    if (!body) continue;
    std::vector<Varies> operands;
    for (const int u : c.in) operands.push_back(all[static_cast<std::size_t>(u)]);
    add_rows(*body->program, inputs_of(*body, std::move(operands)), lanes, body->loop ? times * static_cast<double>(body->loop->length) : times, width, depth + 1, rows);
  }
}

// Columns as wide as what is in them; those without a number are left out, numbers end together.
std::string aligned(const std::vector<Row>& rows) {
  std::array<std::size_t, 6> wide{};
  for (const Row& r : rows)
    for (std::size_t i = 0; i < r.size(); ++i) wide[i] = std::max(wide[i], r[i].size());
  for (const std::size_t i : {std::size_t{2}, std::size_t{5}})
    if (std::all_of(rows.begin() + 1, rows.end(), [&](const Row& r) { return r[i].empty(); })) wide[i] = 0;
  std::string text;
  for (const Row& r : rows) {
    std::string line;
    for (std::size_t i = 0; i < r.size(); ++i) {
      if (wide[i] == 0) continue;
      const bool number = i >= 2 && i <= 4;
      line += fmt::format("{}{}", i ? "  " : "", number ? fmt::format("{:>{}}", r[i], wide[i]) : fmt::format("{:<{}}", r[i], wide[i]));
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
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
  return aligned(rows) + fmt::format("planned in {}: {} for values between instructions\n", std::same_as<T, float> ? "float" : "double", human(static_cast<double>(planned.arena_bytes()), "B"));
}

template <Scalar T> void print_cost(const Program& p, const std::vector<Varies>& inputs, Lanes lanes) { std::fputs(cost_table<T>(p, inputs, lanes).c_str(), stdout); }

template std::string cost_table<float>(const Program&, const std::vector<Varies>&, Lanes);
template std::string cost_table<double>(const Program&, const std::vector<Varies>&, Lanes);
template void print_cost<float>(const Program&, const std::vector<Varies>&, Lanes);
template void print_cost<double>(const Program&, const std::vector<Varies>&, Lanes);

}  // namespace linnet::autodiff
