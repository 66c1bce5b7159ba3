// call: one instruction that holds a program; here that of checkpoint, whose derivative keeps the operands and no residual. Its result is that of
// the body, or, of several outputs, their values one after another. It is never shared with the same code inlined: its program is an attribute.
#include "linnet/autodiff/ops/families.h"

#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/transform.h"

namespace linnet::autodiff {
namespace {

Shape call_shape(Shapes in, const Attributes& attributes) {
  const Program& body = *std::get<Body>(attributes).program;
  for (std::size_t i = 0; i < in.size(); ++i)
    if (in[i] != body.inputs[i]) fail<ShapeError>("call: operand {} is {}, the function takes {}", i, in[i], body.inputs[i]);
  if (body.outputs.size() == 1) return body.shape(body.outputs[0]);
  Index n = 0;
  for (const int v : body.outputs) n += body.shape(v).size();
  return {n};
}

Cost call_cost(Shapes, const Shape&, const Attributes& attributes) { return cost(*std::get<Body>(attributes).program); }

constinit const Primitive call_p{.name = "call", .operands = {Operand::smooth}, .infer = call_shape, .cost = call_cost};
const Primitive* const family[] = {&call_p};

Body share(Program p) { return {std::make_shared<const Program>(std::move(p))}; }

std::vector<Var> unpack(const Var& packed, const Program& body) {
  if (body.outputs.size() == 1) return {packed};
  std::vector<Var> parts;
  Index at = 0;
  for (const int v : body.outputs) {
    const Shape& s = body.shape(v);
    parts.push_back(reshape(slice(packed, 0, at, s.size()), s));
    at += s.size();
  }
  return parts;
}

}  // namespace

std::span<const Primitive* const> call_primitives() { return family; }
const Primitive& call_primitive() { return call_p; }

std::pair<Var, Var> call_jvp(const Instruction& c, std::span<const Var> in, std::span<const Var> tangents, Tape* into) {
  const Program& body = *std::get<Body>(c.attributes).program;
  Tape* const tape = newest(in) ? newest(in) : into;
  const Var out = tape->emit(call_p, in, c.attributes);
  Tape one(tape);  // the whole derivative, primal values included, is one program: first the tangents, then the primals
  std::vector<Var> operands, x, dx(in.size());
  for (std::size_t i = 0; i < in.size(); ++i)
    if (!tangents[i].is_zero()) {
      dx[i] = one.input(body.inputs[i]);
      operands.push_back(tangents[i]);
    }
  const int n_linear = static_cast<int>(operands.size());
  for (std::size_t i = 0; i < in.size(); ++i) {
    x.push_back(one.input(body.inputs[i]));
    operands.push_back(in[i]);
  }
  Dual d = jvp(body, x, dx);
  for (std::size_t k = 0; k < d.tangent.size(); ++k)
    if (d.tangent[k].is_zero()) d.tangent[k] = fill(&one, d.primal[k].shape(), 0);
  const Body derivative = share(one.seal(d.tangent));
  check_linear(*derivative.program, n_linear);
  return {out, emit(call_p, operands, derivative)};
}

std::vector<Var> call_transpose(const Instruction& c, std::span<const Var> in, const Var& cotangent) {
  const Program& body = *std::get<Body>(c.attributes).program;
  Tape tape(cotangent.tape());
  std::vector<Var> operands, x(in.size());
  for (std::size_t i = 0; i < in.size(); ++i)
    if (!in[i].is_zero()) {
      x[i] = tape.input(body.inputs[i]);
      operands.push_back(in[i]);
    }
  operands.push_back(cotangent);
  const std::vector<Var> cotangents = unpack(tape.input(cotangent.shape()), body);
  std::vector<Var> g = transpose(body, x, cotangents), outputs, result(in.size());
  std::vector<std::size_t> of;  // the operand an output is the cotangent of
  for (std::size_t i = 0; i < in.size(); ++i)
    if (in[i].is_zero() && !g[i].is_zero()) {
      of.push_back(i);
      outputs.push_back(g[i]);
    }
  if (outputs.empty()) return result;
  const Body back = share(tape.seal(outputs));
  const std::vector<Var> parts = unpack(emit(call_p, operands, back), *back.program);
  for (std::size_t k = 0; k < of.size(); ++k) result[of[k]] = parts[k];
  return result;
}

Function checkpoint(Function f) {
  return [f = std::move(f)](std::span<const Var> x) {
    std::vector<Var> operands(x.begin(), x.end());
    std::vector<Shape> shapes;
    for (const Var& v : x) shapes.push_back(v.shape());
    const Body body = share(trace(f, shapes, newest(x), &operands));
    return unpack(emit(call_p, operands, body), *body.program);
  };
}

}  // namespace linnet::autodiff
