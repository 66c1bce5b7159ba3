// A recurrent network of a thousand steps whose weights are tied: scan traces one step, its gradient is that of the steps written one after another, and its
// neural tangent kernel is the same by every method. Nothing is trained.
#include "linnet/autodiff/ops.h"
#include "linnet/autodiff/transform.h"
#include "linnet/ntk/empirical.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

using namespace linnet::autodiff;
using linnet::ntk::Method;
using Params = Tree<Array<double>>;

constexpr Index features = 3, width = 16, outputs = 2;

Var step(const Tree<Var>& p, const Var& state, const Var& x) { return tanh(dot(x, p["W"].leaf()) + dot(state, p["U"].leaf()) + p["b"].leaf()); }
Var start(const Var& x) { return fill(x.tape(), {x.shape()[0], width}, 0); }

// Sequences [n, steps, features] -> [n, outputs], by a loop and by as many copies of a step.
Var looped(const Tree<Var>& p, Var x) {
  const Function body = [&](std::span<const Var> v) -> std::vector<Var> { return {step(p, v[0], v[1])}; };
  return dot(scan(body, {start(x)}, {transpose(x, {1, 0, 2})}, x.shape()[1])[0], p["V"].leaf());
}
Var unrolled(const Tree<Var>& p, Var x) {
  Var state = start(x);
  for (Index t = 0; t < x.shape()[1]; ++t) state = step(p, state, reshape(slice(x, 1, t, 1), {x.shape()[0], features}));
  return dot(state, p["V"].leaf());
}

Array<double> wave(const Shape& shape, double size, double phase) {
  Array<double> a(shape);
  for (Index i = 0; i < a.size(); ++i) a.data()[i] = size * std::sin(phase + 1.7 * static_cast<double>(i));
  return a;
}
Params weights() {
  return Params({{"W", wave({features, width}, 0.8, 0.1)}, {"U", wave({width, width}, 0.3, 0.2)}, {"b", wave({width}, 0.2, 0.3)}, {"V", wave({width, outputs}, 0.5, 0.4)}});
}
Array<double> sequences(Index n, Index steps) { return wave({n, steps, features}, 1, 0.5); }

// The instructions of a gradient, those within loops included.
std::size_t count(const Program& p) {
  std::size_t n = p.code.size();
  for (const Instruction& c : p.code)
    if (const Body* body = std::get_if<Body>(&c.attributes)) n += count(*body->program);
  return n;
}
std::size_t instructions(Var (*f)(const Tree<Var>&, Var), Index steps) {
  return count(linearize([&](const Tree<Var>& p, const Var& x) { return sum(square(f(p, x))); }, weights(), sequences(2, steps)).flat().transpose_program());
}

double apart(const Array<double>& a, const Array<double>& b) { return max_abs(a - b) / max_abs(b); }

int main() {
  const Params params = weights();
  std::printf("instructions of the gradient    loop  unrolled\n");
  for (const Index steps : {1, 10, 100, 1000}) std::printf("%6d steps %25zu %9zu\n", static_cast<int>(steps), instructions(looped, steps), instructions(unrolled, steps));

  const Array<double> few = sequences(4, 8);
  auto loss = [](auto f) { return [f](const Tree<Var>& p, const Var& x) { return mean(square(f(p, x))); }; };
  const Params by_loop = grad(loss(looped), params, few), by_steps = grad(loss(unrolled), params, few);
  double gradient = 0;
  for (std::size_t i = 0; i < by_loop.leaves().size(); ++i) gradient = std::max(gradient, apart(*by_loop.leaves()[i], *by_steps.leaves()[i]));
  std::printf("\ngradients over 8 steps, loop and unrolled, differ by %s\n", gradient <= 1e-13 ? "at most 1e-13" : "more than 1e-13");

  std::printf("\nkernel of 1000 steps, 4 sequences, 2 outputs\n%-22s %12s %12s  %s\n", "method", "first entry", "last entry", "differs from the first by");
  const Array<double> long_ones = sequences(4, 1000);
  double kernel = 0;
  Array<double> first;
  for (const auto& [name, method] : {std::pair{"structured", Method::structured}, {"jacobian_contraction", Method::jacobian_contraction}, {"vector_products", Method::vector_products}, {"automatic", Method::automatic}}) {
    const Array<double> k = linnet::ntk::full(looped, params, long_ones, {.method = method}).matrix();
    if (first.size() == 0) first = k;
    const double off = apart(k, first);
    kernel = std::max(kernel, off);
    std::printf("%-22s %12.6f %12.6f  %s\n", name, k.data()[0], k.data()[k.size() - 1], off <= 1e-12 ? "at most 1e-12" : "more than 1e-12");
  }
  return gradient <= 1e-13 && kernel <= 1e-12 ? EXIT_SUCCESS : EXIT_FAILURE;
}
