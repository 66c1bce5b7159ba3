#include "linnet/autodiff/transform.h"

#include "linnet/autodiff/derivative.h"
#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/ops/families.h"

namespace linnet::autodiff {
namespace {

// An instruction again, on other values; one without a traced operand goes to the tape `into`.
Var replay(const Instruction& c, std::span<const Var> in, Tape* into) {
  Tape* const tape = newest(in);
  if (!tape && !into) fail<TraceError>("{}: nothing here is traced; use the derivative functions on arrays", c.primitive->name);
  return (tape ? tape : into)->emit(*c.primitive, in, c.attributes);
}

std::vector<Var> operands(const Instruction& c, const std::vector<Var>& values) {
  std::vector<Var> in;
  in.reserve(c.in.size());
  for (const int u : c.in) in.push_back(values[static_cast<std::size_t>(u)]);
  return in;
}

// The values a program starts from. Constants are taken in by a tape, if there is one: a rule may compute with them alone.
std::vector<Var> with_constants(const Program& p, std::span<const Var> in, Tape* into) {
  std::vector<Var> values(in.begin(), in.end());
  for (const auto& c : p.constants) values.push_back(std::visit([](const auto& array) { return constant(array); }, c->values));
  if (into)
    for (Var& v : values)
      if (v.is_constant()) v = into->take_in(v);
  return values;
}

Tape* newest_of(std::span<const Var> a, std::span<const Var> b) {
  Tape *const s = newest(a), *const t = newest(b);
  return !s || (t && t->newer_than(*s)) ? t : s;
}

// The tangent of one instruction: the sum over its operands, one at a time or all at once.
Var tangent_of(const Instruction& c, const Rule& rule, const std::vector<Var>& din, Tape* deep) {
  const Primitive& primitive = *c.primitive;
  Var sum;
  auto add = [&](const Var& t) {
    if (!t.is_zero()) sum = sum.is_zero() ? t : sum + t;
  };
  if (&primitive == &add_primitive()) {
    for (const Var& t : din) add(t);
    return sum;
  }
  std::vector<Var> all(rule.in.begin(), rule.in.end());  // of a joint instruction: every linear operand replaced
  bool any = false;
  for (std::size_t i = 0; i < din.size(); ++i) {
    const Operand kind = primitive.operands[i];
    if (kind == Operand::smooth && !din[i].is_zero()) add(primitive.jvp(rule, static_cast<int>(i), din[i]));
    if (kind != Operand::linear) continue;
    if (primitive.joint) {
      any |= !din[i].is_zero();
      all[i] = din[i].is_zero() ? fill(deep, rule.shape[i], 0) : din[i];
    } else if (!din[i].is_zero()) {
      std::vector<Var> mixed(rule.in.begin(), rule.in.end());
      mixed[i] = din[i];
      add(emit(primitive, mixed, c.attributes));
    }
  }
  if (any) add(emit(primitive, all, c.attributes));
  return sum;
}

}  // namespace

Program trace(const Function& f, std::span<const Shape> inputs, const Tape* parent, std::vector<Var>* captured) {
  Tape tape(parent);
  std::vector<Var> x;
  x.reserve(inputs.size());
  for (const Shape& s : inputs) x.push_back(tape.input(s));
  return tape.seal(f(x), captured);
}

std::vector<Var> inline_program(const Program& p, std::span<const Var> in) {
  Tape* const into = newest(in);
  std::vector<Var> x = with_constants(p, in, into);
  for (const Instruction& c : p.code) {
    const Tape::Scope layer(into, c.path);
    x.push_back(replay(c, operands(c, x), into));
  }
  std::vector<Var> out;
  for (const int v : p.outputs) out.push_back(x[static_cast<std::size_t>(v)]);
  return out;
}

Dual jvp(const Program& p, std::span<const Var> primals, std::span<const Var> tangents) {
  Tape* const into = newest(primals);
  std::vector<Var> x = with_constants(p, primals, into);
  std::vector<Var> dx(tangents.begin(), tangents.end());
  dx.resize(x.size());
  for (Var& v : dx)
    if (v.is_constant() && into) v = into->take_in(v);
  for (const Instruction& c : p.code) {
    const std::vector<Var> in = operands(c, x), din = operands(c, dx);
    Tape* const deep = newest(din);
    const Tape::Scope primal_layer(newest(in) ? newest(in) : into, c.path), tangent_layer(deep, c.path);
    if (deep && c.primitive == &call_primitive()) {
      auto [y, dy] = call_jvp(c, in, din, into);
      x.push_back(y);
      dx.push_back(dy);
      continue;
    }
    const Var out = replay(c, in, into);
    const std::vector<Shape> shapes = p.operand_shapes(c);
    x.push_back(out);
    dx.push_back(deep ? tangent_of(c, Rule{in, shapes, out, c.attributes}, din, deep) : Var());
  }
  Dual d;
  for (const int v : p.outputs) {
    d.primal.push_back(x[static_cast<std::size_t>(v)]);
    d.tangent.push_back(dx[static_cast<std::size_t>(v)]);
  }
  return d;
}

std::vector<Var> transpose(const Program& p, std::span<const Var> in, std::span<const Var> cotangents, const Stop& stop) {
  Tape* const into = newest_of(in, cotangents);
  std::vector<Var> x = with_constants(p, in, into), ct(static_cast<std::size_t>(p.n_values()));
  std::vector<char> linear;
  for (const Var& v : x) linear.push_back(v.is_zero());
  for (const Instruction& c : p.code) {  // what depends on no linear input is evaluated
    bool depends = false;
    for (const int u : c.in) depends |= linear[static_cast<std::size_t>(u)] != 0;
    linear.push_back(depends);
    const Tape::Scope layer(into, c.path);
    x.push_back(depends ? Var() : replay(c, operands(c, x), into));
  }
  auto accumulate = [&](int value, const Var& t) {
    const auto v = static_cast<std::size_t>(value);
    if (!t.is_zero() && linear[v]) ct[v] = ct[v].is_zero() ? t : ct[v] + t;
  };
  for (std::size_t k = 0; k < p.outputs.size(); ++k) accumulate(p.outputs[k], cotangents[k].is_constant() && into ? into->take_in(cotangents[k]) : cotangents[k]);
  for (int k = static_cast<int>(p.code.size()) - 1; k >= 0; --k) {
    const Instruction& c = p.code[static_cast<std::size_t>(k)];
    const Var t = ct[static_cast<std::size_t>(p.first_instruction() + k)];
    if (t.is_zero()) continue;
    const Tape::Scope layer(into, c.path);
    const std::vector<Var> known = operands(c, x);
    if (c.primitive == &call_primitive()) {
      const std::vector<Var> back = call_transpose(c, known, t);
      for (std::size_t i = 0; i < back.size(); ++i) accumulate(c.in[i], back[i]);
      continue;
    }
    const std::vector<Shape> shapes = p.operand_shapes(c);
    const Rule rule{known, shapes, {}, c.attributes};
    for (int i = 0; i < static_cast<int>(c.in.size()); ++i) {
      const int u = c.in[static_cast<std::size_t>(i)];
      if (linear[static_cast<std::size_t>(u)] && !(stop && stop(k, i, rule, t))) accumulate(u, c.primitive->transpose(rule, i, t));
    }
  }
  ct.resize(static_cast<std::size_t>(p.n_inputs()));
  return ct;
}

Linear linearize(const Function& f, std::span<const Var> x, std::span<const Var> data) {
  std::vector<Var> primals(x.begin(), x.end());
  primals.insert(primals.end(), data.begin(), data.end());
  Tape* const outer = newest(primals);
  std::vector<Shape> shapes;
  for (const Var& v : primals) shapes.push_back(v.shape());
  const Program p = trace(f, shapes, outer, &primals);
  Tape deeper(outer);
  std::vector<Var> tangents;
  for (const Var& v : x) tangents.push_back(deeper.input(v.shape()));
  tangents.resize(primals.size());
  Dual d = jvp(p, primals, tangents);
  for (std::size_t k = 0; k < d.tangent.size(); ++k)
    if (d.tangent[k].is_zero()) d.tangent[k] = fill(&deeper, d.primal[k].shape(), 0);
  Linear l{std::move(d.primal), {}, nullptr};
  l.map = std::make_shared<const Program>(deeper.seal(d.tangent, &l.residuals));
  check_linear(*l.map, static_cast<int>(x.size()));
  return l;
}

std::vector<Var> pull_back(const Linear& l, std::span<const Var> x, std::span<const Var> cotangents) {
  std::vector<Var> in(x.size()), ct(cotangents.begin(), cotangents.end());
  in.insert(in.end(), l.residuals.begin(), l.residuals.end());
  Tape* const into = newest_of(ct, in) ? newest_of(ct, in) : newest(x);
  for (Var& v : ct)
    if (v.is_constant() && into) v = into->take_in(v);
  std::vector<Var> g = transpose(*l.map, in, ct);
  g.resize(x.size());
  for (std::size_t i = 0; i < x.size(); ++i)
    if (g[i].is_zero()) g[i] = fill(into, x[i].shape(), 0);
  return g;
}

std::vector<Var> push_forward(const Linear& l, std::span<const Var> tangents) {
  std::vector<Var> in(tangents.begin(), tangents.end());
  in.insert(in.end(), l.residuals.begin(), l.residuals.end());
  Tape* const into = newest_of(in, l.out);
  for (Var& v : in)
    if (v.is_constant() && into) v = into->take_in(v);
  return inline_program(*l.map, in);
}

// ---- what derivative.h is built of

namespace detail {

void check_same_form(const char* operation, const Form& expected, const Form& came) {
  const std::vector<std::string> names = expected.paths();
  if (names != came.paths()) fail<StructureError>("{}: the tree has leaves [{}], expected [{}]", operation, fmt::join(came.paths(), ", "), fmt::join(names, ", "));
  const auto want = expected.leaves(), have = came.leaves();
  for (std::size_t i = 0; i < want.size(); ++i)
    if (*want[i] != *have[i]) fail<ShapeError>("{}: {}shape {} came, expected {}", operation, names[i].empty() ? "" : names[i] + ": ", *have[i], *want[i]);
}

void check_scalar(const char* operation, std::span<const Var> value) {
  if (value.size() != 1 || value[0].shape().size() != 1)
    fail<ShapeError>("{}: the function must answer one scalar, it answers {}; sum it, or use vjp with a cotangent", operation, value.size() == 1 ? str(value[0].shape()) : fmt::format("{} arrays", value.size()));
}

Function value_and_grad(const Function& f, std::size_t n) {
  return [f, n](std::span<const Var> in) {
    const Linear l = linearize(f, in.first(n), in.subspan(n));
    check_scalar("grad", l.out);
    Tape* const tape = newest(in) ? newest(in) : newest(l.out);
    if (!tape && n == 0) return l.out;  // a constant, differentiated by nothing
    if (!tape) fail<TraceError>("grad: nothing here is traced; use grad on arrays");
    std::vector<Var> out = pull_back(l, in.first(n), std::array{fill(tape, l.out[0].shape(), 1)});
    out.insert(out.begin(), l.out[0]);
    return out;
  };
}

Function hessian_product(const Function& f, std::size_t n) {
  return [f, n](std::span<const Var> in) {
    const Function gradient = [&](std::span<const Var> x) {
      std::vector<Var> g = value_and_grad(f, n)(x);
      g.erase(g.begin());
      return g;
    };
    return push_forward(linearize(gradient, in.first(n), in.subspan(2 * n)), in.subspan(n, n));
  };
}

Form with_lanes(const Form& form, Index lanes) {
  return map([&](const Shape& s) { return s.inserted(0, std::array{lanes}); }, form);
}

Index leading(const char* operation, const Form& form) {
  const auto all = form.leaves();
  if (all.empty()) return 0;
  if (all[0]->rank() == 0) fail<ShapeError>("{}: a leading axis of lanes is needed, a scalar came", operation);
  return (*all[0])[0];
}

}  // namespace detail
}  // namespace linnet::autodiff
