#include "linnet/ntk/linearized.h"

#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/finite.h"

namespace linnet::ntk {

using namespace autodiff;

namespace {

// One derivative further along a fixed direction: p -> D g(p)[direction].
using OfParams = std::function<Var(const Tree<Var>&)>;
OfParams along(OfParams g, Tree<Var> direction) {
  return [g = std::move(g), direction = std::move(direction)](const Tree<Var>& p) { return jvp(g, p, direction).second; };
}

template <Scalar T> Apply expansion(const char* operation, const Apply& f, const Tree<Array<T>>& at, int order) {
  check_finite(operation, "at", at);
  const Tree<Var> centre = map([](const Array<T>& a) { return constant(a); }, at);
  return [operation, f, centre, order](const Tree<Var>& params, Var x) {
    autodiff::detail::check_same_form(operation, autodiff::detail::form(centre), autodiff::detail::form(params));
    std::vector<Var> in = autodiff::detail::vars(params);
    in.push_back(x);
    Tape* const tape = newest(in);
    if (!tape) fail<TraceError>("{}: neither params nor x is traced; use it inside a function that is differentiated or compiled", operation);
    const Tree<Var> origin = map([&](const Var& v) { return tape->take_in(v); }, centre);
    const Tree<Var> step = map([&](const Var& p, const Var& o) { return p - o; }, params, origin);
    OfParams term = [&](const Tree<Var>& p) { return f(p, x); };
    Var sum = term(origin);
    if (step.leaves().empty()) return sum;  // nothing to go along
    double factorial = 1;
    for (int k = 1; k <= order; ++k) {
      term = along(term, step);
      factorial *= k;
      sum = sum + 1 / factorial * term(origin);
    }
    return sum;
  };
}

}  // namespace

template <Scalar T> Apply taylor_expand(const Apply& f, const Tree<Array<T>>& at, int order) {
  if (order < 0) fail<ShapeError>("ntk::taylor_expand: the order must not be negative, got {}", order);
  return expansion("ntk::taylor_expand", f, at, order);
}
template <Scalar T> Apply linearized(const Apply& f, const Tree<Array<T>>& at) { return expansion("ntk::linearized", f, at, 1); }

template Apply linearized(const Apply&, const Tree<Array<float>>&);
template Apply linearized(const Apply&, const Tree<Array<double>>&);
template Apply taylor_expand(const Apply&, const Tree<Array<float>>&, int);
template Apply taylor_expand(const Apply&, const Tree<Array<double>>&, int);

}  // namespace linnet::ntk
