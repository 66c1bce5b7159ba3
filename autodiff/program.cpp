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

std::string str(const Program& p) {
  std::string text = "{ lambda";
  for (int i = 0; i < p.n_inputs(); ++i) text += fmt::format(" %{}:{}{}", i, p.shape(i), i + p.captures >= p.n_inputs() ? "*" : "");
  for (int v = p.n_inputs(); v < p.first_instruction(); ++v) text += fmt::format("\n  const %{}:{}", v, p.shape(v));
  for (int v = p.first_instruction(); v < p.n_values(); ++v) {
    const Instruction& c = p.instruction(v);
    text += fmt::format("\n  {} %{}:{} = {}", v == p.first_instruction() ? "let" : "   ", v, c.shape, c.primitive->name);
    for (const int u : c.in) text += fmt::format(" %{}", u);
    if (const std::string a = str(c.attributes); !a.empty()) text += fmt::format(" ({})", a);
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

Cost cost(const Program& p) {
  Cost total;
  for (const Instruction& c : p.code) {
    const Cost one = cost_of(*c.primitive, p.operand_shapes(c), c.shape, c.attributes);
    total.flops += one.flops;
    total.bytes += one.bytes;
  }
  return total;
}

}  // namespace linnet::autodiff
