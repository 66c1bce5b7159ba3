// The transformations on programs: jvp, transpose, linearize, the cut transpose and a parameter's gradient in factored form.
#include "linnet/autodiff/derivative.h"
#include "linnet/tests/autodiff/samples.h"

#include <doctest/doctest.h>

#include <set>

using namespace linnet::autodiff;
using samples::Arrays, samples::difference, samples::eps, samples::random, samples::run;

namespace {

using Values = std::span<const Var>;
template <class F> Program record(F f, std::vector<Shape> inputs) {
  return trace([&](Values v) -> std::vector<Var> { return {f(v)}; }, inputs);
}

}  // namespace

TEST_CASE_TEMPLATE("inlining a program repeats it on other values", T, float, double) {
  const Program p = record([](Values v) { return sin(v[0]) * v[1] + constant(Array<double>({3}, {1, 2, 3})); }, {{3}, {3}});
  const Arrays<T> x = {random<T>({3}, 1), random<T>({3}, 2)};
  const auto twice = run<T>([&](Values v) { return inline_program(p, std::array{inline_program(p, v)[0], v[1]}); }, x)[0];
  const auto by_hand = run<T>([&](Values v) -> std::vector<Var> {
    const Var c = constant(Array<T>({3}, {1, 2, 3})), once = sin(v[0]) * v[1] + c;
    return {sin(once) * v[1] + c};
  }, x)[0];
  CHECK(samples::same_bits(twice, by_hand));
}

TEST_CASE("jvp gives primals and tangents, and no tangent where none arrives") {
  const Program p = trace([](Values v) -> std::vector<Var> { return {v[0] * v[1], sin(v[1]), v[0], sign(v[0])}; }, std::vector<Shape>{{2}, {2}});
  Tape tape;
  const Var x = tape.input({2}), y = tape.input({2}), t = tape.input({2});
  const Dual d = jvp(p, std::array{x, y}, std::array{t, Var()});
  REQUIRE(d.primal.size() == 4);
  CHECK(d.tangent[0].same_as(t * y));
  CHECK(d.tangent[1].is_zero());
  CHECK(d.tangent[2].same_as(t));
  CHECK(d.tangent[3].is_zero());
  CHECK(d.primal[2].same_as(x));
}

TEST_CASE("linearize divides a function into what is known at the point and a linear program") {
  Tape tape;
  const Var x = tape.input({3});
  const Linear l = linearize([](Values v) -> std::vector<Var> { return {exp(-square(v[0]))}; }, std::array{x});
  CHECK(l.map->n_inputs() == 1 + static_cast<int>(l.residuals.size()));
  check_linear(*l.map, 1);
  for (const Var& r : l.residuals) CHECK(r.tape() == &tape);
  for (const Instruction& c : l.map->code) CHECK(c.primitive->name != "exp");
  CHECK(l.out[0].tape() == &tape);
}

TEST_CASE_TEMPLATE("transpose is the adjoint of a linear program in every linear input at once", T, float, double) {
  const Function f = [](Values v) -> std::vector<Var> {  // linear in the first two of three
    return {dot(v[0], v[2]) + transpose(slice(v[1], 0, 1, 2)), sum(v[0] * v[2]) - sum(v[1])};
  };
  const std::vector<Shape> s = {{2, 2}, {3, 2}, {2, 2}};
  const Program p = trace(f, s);
  check_linear(p, 2);
  const Arrays<T> x = {random<T>(s[0], 1), random<T>(s[1], 2), random<T>(s[2], 3)}, ct = {random<T>({2, 2}, 4), random<T>({}, 5)};
  const Arrays<T> y = run<T>(f, x);
  const Arrays<T> back = run<T>([&](Values v) {
    std::vector<Var> g = transpose(p, std::array{Var(), Var(), v[0]}, v.subspan(1));
    CHECK(g.size() == 3);
    CHECK(g[2].is_zero());
    g.resize(2);
    return g;
  }, {x[2], ct[0], ct[1]});
  CHECK(dot(y[0], ct[0]) + dot(y[1], ct[1]) == doctest::Approx(dot(back[0], x[0]) + dot(back[1], x[1])).epsilon(32 * eps<T>));
}

TEST_CASE("no cotangent arrives where an output does not depend") {
  const Program p = trace([](Values v) -> std::vector<Var> { return {2.0 * v[0]}; }, std::vector<Shape>{{2}, {2}});
  Tape tape;
  const std::vector<Var> g = transpose(p, std::array{Var(), Var()}, std::array{tape.input({2})});
  CHECK_FALSE(g[0].is_zero());
  CHECK(g[1].is_zero());
  CHECK(transpose(p, std::array{Var(), Var()}, std::array{Var()})[0].is_zero());
}

TEST_CASE("what an output is twice, and an input that is an output, are counted") {
  const Array<double> x({2}, {3, 4});
  const FlatLinearMap<double> map([](Values v) -> std::vector<Var> { return {v[0], v[0], 2.0 * v[0], 2.0 * v[0]}; }, {x}, {});
  const Array<double> one({2}, 1.0);
  CHECK(map.vjp({one, one, one, one}, -1)[0] == Array<double>({2}, 6.0));
  CHECK(map.value()[1] == x);
}

TEST_CASE("the cut transpose takes over cotangents where it is told to") {
  const Program p = record([](Values v) { return dot(v[1], v[0]) + broadcast(sum(v[0], {0}), 0, {4}); }, {{3, 2}, {4, 3}});
  Tape tape;
  const Var x = tape.input({4, 3}), ct = tape.input({4, 2});
  std::vector<std::string> seen;
  const std::vector<Var> g = transpose(p, std::array{Var(), x}, std::array{ct}, [&](int instruction, int operand, const Rule& rule, const Var& cotangent) {
    const Instruction& c = p.code[static_cast<std::size_t>(instruction)];
    if (c.in[static_cast<std::size_t>(operand)] != 0) return false;
    seen.push_back(std::string(c.primitive->name) + str(cotangent.shape()));
    CHECK(rule.in[static_cast<std::size_t>(operand)].is_zero());
    return true;
  });
  CHECK(g[0].is_zero());
  CHECK(std::multiset<std::string>(seen.begin(), seen.end()) == std::multiset<std::string>{"dot[4,2]", "sum[2]"});
}

TEST_CASE_TEMPLATE("factors of a product give its gradient in each operand and for all flags", T, float, double) {
  for (const bool ta : {false, true})
    for (const bool tb : {false, true})
      for (const int i : {0, 1}) {
        const Shape a = ta ? Shape{4, 3} : Shape{3, 4}, b = tb ? Shape{5, 4} : Shape{4, 5};
        const Arrays<T> in = {random<T>(a, 1), random<T>(b, 2), random<T>({3, 5}, 3)};
        const Primitive& p = *record([&](Values v) { return dot(v[0], v[1], {ta, tb}); }, {a, b}).code[0].primitive;
        const Attributes flags = DotFlags{ta, tb};
        const Arrays<T> both = run<T>([&](Values v) -> std::vector<Var> {
          std::array<Var, 2> known = {v[0], v[1]};
          known[static_cast<std::size_t>(i)] = Var();
          const std::array shapes = {a, b};
          const Rule rule{known, shapes, {}, flags};
          const Factors f = p.factor(rule, i, v[2]);
          return {dot(f.left, f.right, {true, false}), p.transpose(rule, i, v[2])};
        }, in);
        CAPTURE(ta);
        CAPTURE(tb);
        CAPTURE(i);
        CHECK(difference(both[0], both[1]) <= 8 * eps<T>);
      }
}

TEST_CASE("a broadcast of leading axes factors as ones times the cotangent, one of others not at all") {
  const auto factor = [](Index at) {
    const Program p = record([&](Values v) { return broadcast(v[0], at, {4}); }, {{3}});
    Tape tape;
    const std::array<Var, 1> known{};
    const std::array shapes = {Shape{3}};
    const Factors f = p.code[0].primitive->factor(Rule{known, shapes, {}, p.code[0].attributes}, 0, tape.input(p.code[0].shape));
    return std::pair(f.left.is_zero(), f.right.is_zero() ? Shape{} : f.right.shape());
  };
  CHECK(factor(0) == std::pair(true, Shape{4, 3}));
  CHECK(factor(1) == std::pair(true, Shape{}));
}

TEST_CASE_TEMPLATE("a checkpoint has the derivatives of its function, in bits, and keeps its operands alone", T, float, double) {
  const Function f = [](Values v) -> std::vector<Var> { return {tanh(dot(v[0], v[1])), sum(square(v[1]))}; };
  const Arrays<T> x = {random<T>({5, 4}, 1), random<T>({4, 3}, 2)};
  const FlatLinearMap<T> plain(f, {x.begin(), x.end()}, {}), saved(checkpoint(f), {x.begin(), x.end()}, {});
  const Arrays<T> ct = {random<T>({2, 5, 3}, 3), random<T>({2}, 4)}, tangent = {random<T>({5, 4}, 5), random<T>({4, 3}, 6)};
  CHECK(samples::same_bits(plain.value(), saved.value()));
  CHECK(samples::same_bits(plain.jvp({tangent.begin(), tangent.end()}, -1), saved.jvp({tangent.begin(), tangent.end()}, -1)));
  const Arrays<T> a = plain.vjp({ct.begin(), ct.end()}, 2), b = saved.vjp({ct.begin(), ct.end()}, 2);
  for (std::size_t i = 0; i < 2; ++i) CHECK(difference(a[i], b[i]) <= 32 * eps<T>);
  CHECK(saved.residuals().size() == 2);
}
