// call: one instruction that holds a program. What is built on it: checkpoint, whose derivative keeps the operands and no residual; custom_jvp, whose derivative
// is given; scan (scan.cpp), which runs its program over a leading axis. The result is that of the body, or, of several, their values one after another. A call is
// never shared with the same code inlined: its program is an attribute.
#include "linnet/autodiff/ops/families.h"

#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/transform.h"

namespace linnet::autodiff {
namespace {

Shape call_shape(Shapes in, const Attributes& attributes) {
  const Body& body = std::get<Body>(attributes);
  if (const std::size_t n = body.program->inputs.size(); in.size() != n || (body.loop && body.loop->roles.size() != n)) fail<ShapeError>("call: {} operands came, the function takes {}", in.size(), n);
  for (std::size_t i = 0; i < in.size(); ++i) {
    const bool sliced = body.loop && body.loop->roles[i] == Role::sliced;
    if (const Shape s = sliced ? stacked(body.program->inputs[i], body.loop->length) : body.program->inputs[i]; in[i] != s) fail<ShapeError>("call: operand {} is {}, the function takes {}", i, in[i], s);
  }
  const std::vector<Shape> results = results_of(body);
  if (results.size() == 1) return results[0];
  Index n = 0;
  for (const Shape& s : results) n += s.size();
  return {n};
}

constinit const Primitive call_p{.name = "call", .operands = {Operand::smooth}, .infer = call_shape};
const Primitive* const family[] = {&call_p};

Body share(Program p) { return {std::make_shared<const Program>(std::move(p)), nullptr, nullptr}; }

// The tangent by the rule the user gave, on the tangents' tape. Traced by itself first, so that what is wrong with it is said of the rule.
Var custom_tangent(const Body& body, std::span<const Var> in, std::span<const Var> tangents) {
  Tape* const deep = newest(tangents);
  std::vector<Var> operands;
  for (std::size_t i = 0; i < in.size(); ++i) operands.push_back(tangents[i].is_zero() ? fill(deep, body.program->inputs[i], 0) : tangents[i]);
  operands.insert(operands.end(), in.begin(), in.end());
  std::vector<Shape> shapes;
  for (const Var& v : operands) shapes.push_back(v.shape());
  const std::size_t n = in.size();
  const Program rule = trace([&](std::span<const Var> v) { return (*body.jvp)(v.subspan(n), v.first(n)); }, shapes, deep);
  const std::vector<Shape> results = results_of(body);
  if (rule.outputs.size() != results.size()) fail<ShapeError>("custom_jvp: the function has {} results, its jvp answers {} tangents", results.size(), rule.outputs.size());
  for (std::size_t k = 0; k < results.size(); ++k)
    if (rule.shape(rule.outputs[k]) != results[k]) fail<ShapeError>("custom_jvp: result {} is {}, its tangent {}", k, results[k], rule.shape(rule.outputs[k]));
  try {
    check_linear(rule, static_cast<int>(n));
  } catch (const TraceError& e) {
    fail<TraceError>("custom_jvp: the jvp is not linear in the tangents: {}", e.what());
  }
  // Written as a program of tangents and primals, it is inlined with tangents on their tape and primals on theirs, so that residuals are found.
  std::vector<Var> out = inline_program(rule, operands);
  if (out.size() == 1) return out[0];
  for (Var& v : out) v = reshape(v, {v.shape().size()});
  return concatenate(out, 0);
}

}  // namespace

std::span<const Primitive* const> call_primitives() { return family; }
const Primitive& call_primitive() { return call_p; }

std::vector<Var> unpack(const Var& packed, const Body& body) {
  const std::vector<Shape> shapes = results_of(body);
  if (shapes.size() == 1) return {packed};
  std::vector<Var> parts;
  Index at = 0;
  for (const Shape& s : shapes) {
    parts.push_back(reshape(slice(packed, 0, at, s.size()), s));
    at += s.size();
  }
  return parts;
}

std::pair<Var, Var> call_jvp(const Instruction& c, std::span<const Var> in, std::span<const Var> tangents, Tape* into) {
  const Body& body = std::get<Body>(c.attributes);
  if (body.loop) return loop_jvp(c, in, tangents, into);
  Tape* const tape = newest(in) ? newest(in) : into;
  const Var out = tape->emit(call_p, in, c.attributes);
  if (body.jvp) return {out, custom_tangent(body, in, tangents)};
  Tape one(tape);  // the whole derivative, primal values included, is one program: first the tangents, then the primals
  std::vector<Var> operands, x, dx(in.size());
  for (std::size_t i = 0; i < in.size(); ++i)
    if (!tangents[i].is_zero()) {
      dx[i] = one.input(body.program->inputs[i]);
      operands.push_back(tangents[i]);
    }
  const int n_linear = static_cast<int>(operands.size());
  for (std::size_t i = 0; i < in.size(); ++i) {
    x.push_back(one.input(body.program->inputs[i]));
    operands.push_back(in[i]);
  }
  Dual d = jvp(*body.program, x, dx);
  for (std::size_t k = 0; k < d.tangent.size(); ++k)
    if (d.tangent[k].is_zero()) d.tangent[k] = fill(&one, d.primal[k].shape(), 0);
  const Body derivative = share(one.seal(d.tangent));
  check_linear(*derivative.program, n_linear);
  return {out, emit(call_p, operands, derivative)};
}

std::vector<Var> call_transpose(const Instruction& c, std::span<const Var> in, const Var& cotangent) {
  const Body& body = std::get<Body>(c.attributes);
  if (body.loop) return loop_transpose(c, in, cotangent);
  Tape tape(cotangent.tape());
  std::vector<Var> operands, x(in.size());
  for (std::size_t i = 0; i < in.size(); ++i)
    if (!in[i].is_zero()) {
      x[i] = tape.input(body.program->inputs[i]);
      operands.push_back(in[i]);
    }
  operands.push_back(cotangent);
  const std::vector<Var> cotangents = unpack(tape.input(cotangent.shape()), body);
  std::vector<Var> g = transpose(*body.program, x, cotangents), outputs, result(in.size());
  std::vector<std::size_t> of;  // the operand an output is the cotangent of
  for (std::size_t i = 0; i < in.size(); ++i)
    if (in[i].is_zero() && !g[i].is_zero()) {
      of.push_back(i);
      outputs.push_back(g[i]);
    }
  if (outputs.empty()) return result;
  const Body back = share(tape.seal(outputs));
  const std::vector<Var> parts = unpack(emit(call_p, operands, back), back);
  for (std::size_t k = 0; k < of.size(); ++k) result[of[k]] = parts[k];
  return result;
}

Function checkpoint(Function f) {
  return [f = std::move(f)](std::span<const Var> x) {
    std::vector<Var> operands(x.begin(), x.end());
    std::vector<Shape> shapes;
    for (const Var& v : x) shapes.push_back(v.shape());
    const Body body = share(trace(f, shapes, newest(x), &operands));
    return unpack(emit(call_p, operands, body), body);
  };
}

Function custom_jvp(Function f, CustomJvp rule) {
  const auto shared = std::make_shared<const CustomJvp>(std::move(rule));
  return [f = std::move(f), shared](std::span<const Var> x) {
    std::vector<Shape> shapes;
    for (const Var& v : x) shapes.push_back(v.shape());
    Body body = share(trace(f, shapes, newest(x)));
    body.jvp = shared;
    return unpack(emit(call_p, x, body), body);
  };
}

}  // namespace linnet::autodiff
