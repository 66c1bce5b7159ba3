#include "linnet/autodiff/program.h"

#include "linnet/autodiff/fail.h"

#include <algorithm>
#include <cstdio>

namespace linnet::autodiff {
namespace {

bool is_zero_fill(const Program& p, int value) {
  if (value < p.first_instruction()) return false;
  const auto* fill = std::get_if<Fill>(&p.instruction(value).attributes);
  return fill && fill->value == 0;
}

// The layer an instruction belongs to, in front of what is wrong with it.
std::string layer(const Instruction& c) { return c.path && !c.path->empty() ? *c.path + ": " : ""; }

}  // namespace

const Shape& Program::shape(int value) const {
  if (value < n_inputs()) return inputs[static_cast<std::size_t>(value)];
  if (value < first_instruction()) return constants[static_cast<std::size_t>(value - n_inputs())]->shape;
  return instruction(value).shape;
}

std::vector<Shape> Program::operand_shapes(const Instruction& c) const {
  std::vector<Shape> shapes;
  shapes.reserve(c.in.size());
  for (const int u : c.in) shapes.push_back(shape(u));
  return shapes;
}

Shape stacked(const Shape& s, Index length) { return s.inserted(0, std::array{length}); }

std::vector<Shape> results_of(const Body& body) {
  const auto states = body.loop ? std::count(body.loop->roles.begin(), body.loop->roles.end(), Role::state) : 0;
  std::vector<Shape> shapes;
  for (std::size_t k = 0; k < body.program->outputs.size(); ++k) {
    const Shape& s = body.program->shape(body.program->outputs[k]);
    shapes.push_back(body.loop && static_cast<std::ptrdiff_t>(k) >= states ? stacked(s, body.loop->length) : s);
  }
  return shapes;
}

std::string str(const Instruction& c) {
  std::string text(c.primitive->name);
  for (const int u : c.in) text += fmt::format(" %{}", u);
  if (const std::string a = str(c.attributes); !a.empty()) text += fmt::format(" ({})", a);
  return text;
}

std::string str(const Program& p) {
  std::string text = "{ lambda";
  for (int i = 0; i < p.n_inputs(); ++i) text += fmt::format(" %{}:{}{}", i, p.shape(i), i + p.captures >= p.n_inputs() ? "*" : "");
  for (int v = p.n_inputs(); v < p.first_instruction(); ++v) text += fmt::format("\n  const %{}:{}", v, p.shape(v));
  for (int v = p.first_instruction(); v < p.n_values(); ++v) {
    const Instruction& c = p.instruction(v);
    text += fmt::format("\n  {} %{}:{} = {}", v == p.first_instruction() ? "let" : "   ", v, c.shape, str(c));
    if (c.path && !c.path->empty()) text += fmt::format("  # {}", *c.path);
  }
  text += "\n  in";
  for (const int v : p.outputs) text += fmt::format(" %{}", v);
  return text + " }";
}

void print(const Program& p) { std::puts(str(p).c_str()); }

void check(const Program& p) {
  for (int v = p.first_instruction(); v < p.n_values(); ++v) {
    const Instruction& c = p.instruction(v);
    for (const int u : c.in)
      if (u < 0 || u >= v) fail<TraceError>("check: %{} = {} uses %{} before it is defined", v, c.primitive->name, u);
    if (const Shape s = c.primitive->infer(p.operand_shapes(c), c.attributes); s != c.shape) fail<TraceError>("check: %{} = {} has shape {}, its rule gives {}", v, c.primitive->name, c.shape, s);
  }
  for (const int v : p.outputs)
    if (v < 0 || v >= p.n_values()) fail<TraceError>("check: output %{} is not defined", v);
}

void check_linear(const Program& p, int n_linear) {
  std::vector<char> linear(static_cast<std::size_t>(p.first_instruction()), 0);
  for (int i = 0; i < n_linear; ++i) linear[static_cast<std::size_t>(i)] = 1;
  for (int v = p.first_instruction(); v < p.n_values(); ++v) {
    const Instruction& c = p.instruction(v);
    const bool is_call = std::holds_alternative<Body>(c.attributes);  // its body was checked when it was made
    int n = 0;
    for (std::size_t i = 0; i < c.in.size(); ++i) {
      if (!linear[static_cast<std::size_t>(c.in[i])]) continue;
      ++n;
      if (!is_call && c.primitive->operands[i] != Operand::linear) fail<TraceError>("{}%{} = {} is not linear in operand {}", layer(c), v, c.primitive->name, i);
    }
    if (n > 1 && !c.primitive->joint && !is_call) fail<TraceError>("{}%{} = {} multiplies two linear values", layer(c), v, c.primitive->name);
    if (n > 0 && c.primitive->joint)
      for (std::size_t i = 0; i < c.in.size(); ++i)
        if (c.primitive->operands[i] == Operand::linear && !linear[static_cast<std::size_t>(c.in[i])] && !is_zero_fill(p, c.in[i]))
          fail<TraceError>("{}%{} = {} adds a value that is not linear: operand {}", layer(c), v, c.primitive->name, i);
    linear.push_back(n > 0);
  }
  for (const int v : p.outputs)
    if (!linear[static_cast<std::size_t>(v)] && !is_zero_fill(p, v)) fail<TraceError>("output %{} does not depend on a linear input", v);
}

std::vector<Varies> varies(const Program& p, std::vector<Varies> inputs) {
  inputs.resize(p.inputs.size(), Varies::nothing);
  inputs.resize(static_cast<std::size_t>(p.first_instruction()), Varies::nothing);
  for (const Instruction& c : p.code) {
    Varies all = Varies::nothing;
    for (const int u : c.in) all = all | inputs[static_cast<std::size_t>(u)];
    inputs.push_back(all);
  }
  return inputs;
}

std::vector<Varies> inputs_of(const Body& body, std::vector<Varies> operands) {
  if (!body.loop) return operands;
  Varies all = Varies::nothing;
  for (const Varies v : operands) all = all | v;
  for (std::size_t i = 0; i < operands.size(); ++i)
    if (body.loop->roles[i] == Role::state) operands[i] = all;
  return operands;
}

Cost& Cost::operator+=(const Cost& c) {
  flops += c.flops;
  numbers += c.numbers;
  return *this;
}

namespace {

Cost cost_of_call(const Body& body, std::vector<Varies> operands, Lanes lanes) {
  const Cost once = cost(*body.program, inputs_of(body, std::move(operands)), lanes);
  const double times = body.loop ? static_cast<double>(body.loop->length) : 1;
  return {times * once.flops, times * once.numbers};
}

}  // namespace

std::vector<Cost> costs(const Program& p, const std::vector<Varies>& inputs, Lanes lanes) {
  const std::vector<Varies> all = varies(p, inputs);
  std::vector<Cost> result;
  for (int v = p.first_instruction(); v < p.n_values(); ++v) {
    const Instruction& c = p.instruction(v);
    std::vector<Varies> operands;
    for (const int u : c.in) operands.push_back(all[static_cast<std::size_t>(u)]);
    if (const Body* body = std::get_if<Body>(&c.attributes)) {
      result.push_back(cost_of_call(*body, std::move(operands), lanes));
      continue;
    }
    const double size = static_cast<double>(c.shape.size()), times = static_cast<double>(lanes.count(all[static_cast<std::size_t>(v)]));
    Cost one{times * (c.primitive->flops ? c.primitive->flops(p.operand_shapes(c), c.shape, c.attributes) : size), times * size};
    for (std::size_t i = 0; i < c.in.size(); ++i) {
      if (std::find(c.in.begin(), c.in.begin() + static_cast<std::ptrdiff_t>(i), c.in[i]) != c.in.begin() + static_cast<std::ptrdiff_t>(i)) continue;  // x x reads x once
      const double read = static_cast<double>(p.shape(c.in[i]).size()) * static_cast<double>(lanes.count(operands[i]));
      one.numbers += one.flops == 0 ? std::min(read, times * size) : read;
    }
    result.push_back(one);
  }
  return result;
}

Cost cost(const Program& p, const std::vector<Varies>& inputs, Lanes lanes) {
  Cost total;
  for (const Cost& c : costs(p, inputs, lanes)) total += c;
  return total;
}

}  // namespace linnet::autodiff
