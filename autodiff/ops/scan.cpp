// scan: a call that runs its body over a leading axis, with carried states. Its derivative is a loop too: what the tangents' body needs of the primal one is an operand that is
// there already, or is stacked by the primal loop as one more output; its transpose runs from the other end, with the cotangents of states as states.
#include "linnet/autodiff/ops/families.h"

#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/transform.h"

#include <algorithm>

namespace linnet::autodiff {
namespace {

std::size_t states(const Loop& l) { return static_cast<std::size_t>(std::count(l.roles.begin(), l.roles.end(), Role::state)); }

Body make_body(Program p, Loop l) { return {std::make_shared<const Program>(std::move(p)), std::make_shared<const Loop>(std::move(l)), nullptr}; }

void zeros_made_explicit(Dual& d, Tape& tape) {
  for (std::size_t k = 0; k < d.tangent.size(); ++k)
    if (d.tangent[k].is_zero()) d.tangent[k] = fill(&tape, d.primal[k].shape(), 0);
}

bool is_zero_fill(const Var& v) {
  if (v.is_constant()) return false;
  const auto* f = std::get_if<Fill>(&v.tape()->node(v).attributes);
  return f && f->value == 0;
}

}  // namespace

std::pair<Var, Var> loop_jvp(const Instruction& c, std::span<const Var> in, std::span<const Var> tangents, Tape* into) {
  const Body& body = std::get<Body>(c.attributes);
  const Loop& l = *body.loop;
  Tape* const tape = newest(in) ? newest(in) : into;
  Tape primal(tape), deeper(&primal);
  std::vector<Var> x, dx, operands;
  Loop tangent{l.length, {}, l.reverse};
  for (std::size_t i = 0; i < in.size(); ++i) {  // every state has a tangent: it may come from another operand's in a later step
    x.push_back(primal.input(body.program->inputs[i]));
    const bool active = !tangents[i].is_zero() || l.roles[i] == Role::state;
    dx.push_back(active ? deeper.input(body.program->inputs[i]) : Var());
    if (!active) continue;
    operands.push_back(tangents[i].is_zero() ? fill(newest(tangents), in[i].shape(), 0) : tangents[i]);
    tangent.roles.push_back(l.roles[i]);
  }
  const int n_linear = static_cast<int>(operands.size());
  Dual d = jvp(*body.program, x, dx);
  zeros_made_explicit(d, deeper);
  std::vector<Var> residuals, outputs = d.primal;
  Program linear = deeper.seal(d.tangent, &residuals);
  check_linear(linear, n_linear);
  std::vector<std::size_t> stacked_as(residuals.size(), 0);  // the output of the extended loop, for those that are not there already
  std::vector<Var> there(residuals.size());
  for (std::size_t r = 0; r < residuals.size(); ++r) {
    const auto own = std::find_if(x.begin(), x.end(), [&](const Var& v) { return v.same_as(residuals[r]); });
    const auto i = static_cast<std::size_t>(own - x.begin());
    const Var& source = primal.node(residuals[r]).source;
    if (own != x.end() && l.roles[i] != Role::state) {
      there[r] = in[i];
      tangent.roles.push_back(l.roles[i]);
    } else if (source.is_constant()) {
      there[r] = source;
      tangent.roles.push_back(Role::constant);
    } else {
      stacked_as[r] = outputs.size();
      outputs.push_back(residuals[r]);
      tangent.roles.push_back(Role::sliced);
    }
  }
  const bool extended = outputs.size() > d.primal.size();
  const Body forward = extended ? make_body(primal.seal(outputs), l) : body;
  const Var out = tape->emit(call_primitive(), in, forward);
  const std::vector<Var> parts = unpack(out, forward);
  for (std::size_t r = 0; r < residuals.size(); ++r) operands.push_back(there[r].is_zero() ? parts[stacked_as[r]] : there[r]);
  const Var value = extended ? reshape(slice(out, 0, 0, c.shape.size()), c.shape) : out;
  return {value, emit(call_primitive(), operands, make_body(std::move(linear), std::move(tangent)))};
}

std::vector<Var> loop_transpose(const Instruction& c, std::span<const Var> in, const Var& cotangent) {
  const Body& body = std::get<Body>(c.attributes);
  const Loop& l = *body.loop;
  const std::vector<Var> ct = unpack(cotangent, body);
  const std::size_t n_states = states(l);
  Tape tape(cotangent.tape());
  Loop back{l.length, {}, !l.reverse};
  std::vector<Var> operands, x(in.size()), sums(in.size()), cotangents, outputs;
  auto input = [&](const Var& operand, const Shape& s, Role r) {
    operands.push_back(operand);
    back.roles.push_back(r);
    return tape.input(s);
  };
  for (std::size_t i = 0; i < in.size(); ++i) {  // a state is linear even where it starts from a known zero
    if (in[i].is_zero()) continue;
    if (l.roles[i] != Role::state) x[i] = input(in[i], body.program->inputs[i], l.roles[i]);
    else if (!is_zero_fill(in[i])) fail<TraceError>("scan: state {} is no linear value, but the loop is to be transposed; only linear functions have a transpose", i);
  }
  for (std::size_t k = 0; k < ct.size(); ++k) cotangents.push_back(input(ct[k], body.program->shape(body.program->outputs[k]), k < n_states ? Role::state : Role::sliced));
  for (std::size_t i = 0; i < in.size(); ++i)  // a constant's cotangent is summed over the steps, as a state
    if (in[i].is_zero() && l.roles[i] == Role::constant) sums[i] = input(fill(cotangent.tape(), body.program->inputs[i], 0), body.program->inputs[i], Role::state);
  const std::vector<Var> g = transpose(*body.program, x, cotangents);
  std::vector<std::size_t> of;  // which operand an output is the cotangent of
  auto output = [&](std::size_t i, const Var& v) {
    of.push_back(i);
    outputs.push_back(v);
  };
  auto or_zero = [&](std::size_t i) { return g[i].is_zero() ? fill(&tape, body.program->inputs[i], 0) : g[i]; };
  for (std::size_t i = 0; i < in.size(); ++i)
    if (l.roles[i] == Role::state) output(i, or_zero(i));
  for (std::size_t i = 0; i < in.size(); ++i)
    if (!sums[i].is_zero()) output(i, g[i].is_zero() ? sums[i] : sums[i] + g[i]);
  for (std::size_t i = 0; i < in.size(); ++i)
    if (in[i].is_zero() && l.roles[i] == Role::sliced) output(i, or_zero(i));
  const Body reversed = make_body(tape.seal(outputs), std::move(back));
  const std::vector<Var> parts = unpack(emit(call_primitive(), operands, reversed), reversed);
  std::vector<Var> result(in.size());
  for (std::size_t k = 0; k < of.size(); ++k) result[of[k]] = parts[k];
  return result;
}

std::vector<Var> scan(const Function& f, std::vector<Var> state, std::vector<Var> xs, Index length) {
  if (length < 1) fail<ShapeError>("scan: the length must be at least 1, got {}", length);
  std::vector<Var> operands = state;
  std::vector<Shape> shapes;
  for (const Var& v : state) shapes.push_back(v.shape());
  for (const Var& v : xs) {
    const Shape s = v.shape();
    if (s.rank() == 0 || s[0] != length) fail<ShapeError>("scan: an array {} came to be run over {} steps; its leading axis must have that extent", s, length);
    shapes.push_back(s.erased(0, 1));
    operands.push_back(v);
  }
  Loop l{length, std::vector<Role>(state.size(), Role::state), false};
  l.roles.resize(operands.size(), Role::sliced);
  Program body = trace(f, shapes, newest(operands), &operands);
  l.roles.resize(operands.size(), Role::constant);
  if (body.outputs.size() < state.size()) fail<ShapeError>("scan: the body answers {} values, but carries {} states", body.outputs.size(), state.size());
  for (std::size_t k = 0; k < state.size(); ++k)
    if (const Shape& s = body.shape(body.outputs[k]); s != shapes[k]) fail<ShapeError>("scan: state {} is {}, the body answers {} for it", k, shapes[k], s);
  const Body loop = make_body(std::move(body), std::move(l));
  return unpack(emit(call_primitive(), operands, loop), loop);
}

}  // namespace linnet::autodiff
