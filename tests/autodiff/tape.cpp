// The tape: what it captures, shares, drops and refuses; values that escape; and derivatives within derivatives, whose perturbations must not be confused.
#include "linnet/autodiff/derivative.h"
#include "linnet/tests/autodiff/samples.h"

#include <doctest/doctest.h>

#include <thread>
#include <type_traits>

using namespace linnet::autodiff;
using samples::difference;

// A traced value has no truth and no order that C++ could branch on.
static_assert(!std::is_convertible_v<Var, bool>);
static_assert(!std::is_constructible_v<bool, Var>);
static_assert(!std::is_same_v<bool, decltype(std::declval<Var>() < std::declval<Var>())>);
template <class T> concept comparable = requires(T a, T b) { a == b; };
static_assert(!comparable<Var>);

namespace {

using Values = std::span<const Var>;
template <class F> Program record(F f, std::vector<Shape> inputs = {{3}}) {
  return trace([&](Values v) -> std::vector<Var> { return {f(v)}; }, inputs);
}
std::size_t count(const Program& p, std::string_view name) {
  return static_cast<std::size_t>(std::count_if(p.code.begin(), p.code.end(), [&](const Instruction& c) { return c.primitive->name == name; }));
}
Array<double> one(double value) { return Array<double>({1}, {value}); }

}  // namespace

TEST_CASE("equal instructions are one, whatever order they are asked for") {
  const Program p = record([](Values v) { return exp(-v[0]) * exp(-v[0]) + sin(exp(-v[0])); });
  CHECK(count(p, "exp") == 1);
  CHECK(count(p, "neg") == 1);
  CHECK(count(p, "mul") == 1);
  CHECK(count(record([](Values v) { return exp(v[0]) + exp(v[1]); }, {{3}, {3}}), "exp") == 2);
  CHECK(count(record([](Values v) { return sum(v[0], {0}) * sum(v[0], {1}); }, {{2, 2}}), "sum") == 2);
  CHECK(count(record([](Values v) { return sum(v[0], {-1}) * sum(v[0], {1}); }, {{2, 2}}), "sum") == 1);
  CHECK(count(record([](Values v) { return dot(v[0], v[0]) + dot(v[0], v[0], {true, false}); }, {{2, 2}}), "dot") == 2);
}

TEST_CASE("fills are compared by bits: a negative zero is another value, a NaN is itself") {
  auto fills = [](double a, double b) { return count(record([=](Values v) { return where(v[0], fill(v[0].tape(), {3}, a), fill(v[0].tape(), {3}, b)); }), "fill"); };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(fills(0.0, 0.0) == 1);
  CHECK(fills(-0.0, 0.0) == 2);
  CHECK(fills(nan, nan) == 1);
  CHECK(fills(1, 2) == 2);
  const Array<double> x({3}, {1, 1, 1});
  const Array<double> y = compile([](Var v) { return 1.0 / where(v, fill(v.tape(), {3}, -0.0), fill(v.tape(), {3}, 0.0)); }, x)(x);
  CHECK(y.data()[0] == -samples::infinity);
}

TEST_CASE("numbers as factors are shared by bits too") {
  CHECK(count(record([](Values v) { return 2.0 * v[0] + sin(v[0] * 2.0); }), "scale") == 1);
  CHECK(count(record([](Values v) { return 2.0 * v[0] + sin(v[0] * 3.0); }), "scale") == 2);
  CHECK(count(record([](Values v) { return 0.0 * v[0] + sin(v[0] * -0.0); }), "scale") == 2);
}

TEST_CASE("attributes of every kind are equal to themselves, and have the same hash") {
  const Attributes all[] = {std::monostate(), 1.5, -0.0, 0.0, Shape{2, 3}, Shape{2}, DotFlags{true, false}, DotFlags{false, true}, Axes{0, {2}}, Axes{1, {2}}, Axes{0, {3}}, Cut{0, 1, 2, 3}, Cut{0, 1, 2, 4},
                            Fill{{2}, 0}, Fill{{2}, -0.0}, Fill{{3}, 0}, Permutation{{1, 0}}, Permutation{{0, 1}}, Along{0}, Along{1}, Rows{3}, Rows{4}, Body{std::make_shared<const Program>()}, Body{std::make_shared<const Program>()}};
  for (const Attributes& a : all)
    for (const Attributes& b : all) {
      CHECK(same(a, b) == (&a == &b));
      if (&a == &b) CHECK(hash(a) == hash(Attributes(b)));
    }
  CHECK(str(Attributes(DotFlags{true, true})) == "a^T b^T");
  CHECK(str(Attributes(Cut{1, 2, 3, 9})) == "axis 1: 2 to 5 of 9");
  CHECK(str(Attributes()) == "");
}

TEST_CASE("what no output needs is dropped, inputs stay") {
  const Program p = record([](Values v) {
    const Var unused = exp(v[1]) + constant(Array<double>({3}));
    (void)unused;
    return sin(v[0]);
  }, {{3}, {3}, {2}});
  CHECK(p.n_inputs() == 3);
  CHECK(p.constants.empty());
  CHECK(p.code.size() == 1);
}

TEST_CASE("a constant is shared by its buffer, not by its values") {
  const auto a = std::make_shared<const Array<double>>(Array<double>({3}, {1, 2, 3})), b = std::make_shared<const Array<double>>(*a);
  const Program p = record([&](Values v) { return v[0] * constant(a) + sin(v[0] * constant(a)); });
  CHECK(p.constants.size() == 1);
  CHECK(count(p, "mul") == 1);
  CHECK(std::get<1>(p.constants[0]->values) == a);
  CHECK(record([&](Values v) { return v[0] * constant(a) + v[0] * constant(b); }).constants.size() == 2);
  const Var c = constant(Array<float>({2}, {1, 2}));
  CHECK(c.is_constant());
  CHECK(c.shape() == Shape{2});
  CHECK_FALSE(c.number());
  CHECK(Var(2.5).number() == 2.5);
  CHECK(constant(Array<float>(Shape{}, {2.5f})).number() == 2.5);
}

TEST_CASE("constants of either width are used in that of the run") {
  const Array<float> x({2}, {1, 2});
  const Array<double> c({2}, {1.0 / 3, 2});
  CHECK(compile([&](Var v) { return v * constant(c); }, x)(x).data()[0] == 1.0f / 3);
  const Array<double> y({2}, {1, 2});
  CHECK(compile([&](Var v) { return v * constant(cast<float>(c)); }, y)(y).data()[0] == 1.0f / 3);
}

TEST_CASE("an operation is recorded on the newest tape among its operands, and captures from older ones") {
  Tape outer, inner;
  const Var x = outer.input({3}), t = inner.input({3});
  const Var residual = exp(-square(x)), product = t * residual;
  CHECK(residual.tape() == &outer);
  CHECK(product.tape() == &inner);
  CHECK((t * residual).same_as(product));
  std::vector<Var> captured;
  const Program map = inner.seal(std::array{product}, &captured);
  CHECK(map.captures == 1);
  REQUIRE(captured.size() == 1);
  CHECK(captured[0].same_as(residual));
  CHECK(map.code.size() == 1);
  CHECK(map.n_inputs() == 2);
  check_linear(map, 1);
  CHECK(outer.seal(captured).code.size() == 3);
}

TEST_CASE("a checkpoint is not shared with what it would be without one") {
  const Function plain = [](Values v) -> std::vector<Var> { return {sin(v[0])}; };
  const Program p = record([&](Values v) { return sin(v[0]) + checkpoint(plain)(v)[0]; });
  CHECK(count(p, "call") == 1);
  CHECK(count(p, "sin") == 1);
  auto residuals = [&](const Function& f) { return FlatLinearMap<double>(f, {Array<double>({3}, {1, 2, 3})}, {}).residuals(); };
  const Function deep = [](Values v) -> std::vector<Var> { return {sin(exp(sin(exp(v[0]))))}; };
  CHECK(residuals(deep).size() > 1);
  CHECK(residuals(checkpoint(deep)).size() == 1);  // the operand alone
}

TEST_CASE("a value that escapes its trace is refused") {
  Var leaked;
  record([&](Values v) { return leaked = exp(v[0]); });
  const char* const text = "a traced value was used after its trace ended; pass it to the function as an argument, or compute with arrays";
  CHECK_THROWS_WITH_AS(leaked.shape(), text, TraceError);
  CHECK_THROWS_WITH_AS(leaked.tape(), text, TraceError);
  CHECK_THROWS_WITH_AS(exp(leaked), (std::string("exp: ") + text).c_str(), TraceError);
  CHECK_THROWS_WITH_AS(record([&](Values v) { return v[0] + leaked; }), (std::string("add: ") + text).c_str(), TraceError);
  CHECK_THROWS_WITH_AS(record([&](Values v) { (void)v; return leaked; }), (std::string("trace: ") + text).c_str(), TraceError);
  Var abandoned;
  {
    Tape tape;
    abandoned = tape.input({2});
  }
  CHECK_THROWS_AS(abandoned.shape(), TraceError);
  CHECK_FALSE(leaked.is_zero());
}

TEST_CASE("a Var that holds nothing is refused") {
  const Var nothing;
  CHECK(nothing.is_zero());
  CHECK(nothing.tape() == nullptr);
  CHECK_THROWS_WITH_AS(nothing.shape(), "a Var that holds nothing was used; a default-constructed Var is a zero tangent, not a value", TraceError);
  CHECK_THROWS_WITH_AS(record([&](Values v) { return v[0] + nothing; }), "add: an operand holds nothing; a default-constructed Var is a zero tangent, not a value", TraceError);
  CHECK_THROWS_WITH_AS(record([&](Values) { return nothing; }), "trace: an operand holds nothing; a default-constructed Var is a zero tangent, not a value", TraceError);
  CHECK_THROWS_WITH_AS(record([&](Values v) { return dot(v[0], nothing); }), "dot: an operand holds nothing; a default-constructed Var is a zero tangent, not a value", TraceError);
}

TEST_CASE("nothing is recorded outside of a trace") {
  CHECK_THROWS_WITH_AS(exp(Var(2.0)), "exp: none of the operands is traced; use it inside a function that is differentiated or compiled, or compute with arrays", TraceError);
  CHECK_THROWS_WITH_AS(Var(2.0) + Var(3.0), doctest::Contains("add: none of the operands is traced"), TraceError);
  CHECK_THROWS_WITH_AS(fill(nullptr, {2}, 1), "fill: there is no trace to record it in; use it inside a function that is differentiated or compiled", TraceError);
}

TEST_CASE("a value of an inner function is refused by the outer one") {
  Tape outer;
  const Var x = outer.input({2});
  Tape inner(&outer);
  const Var y = exp(inner.input({2}));
  CHECK_THROWS_WITH_AS(outer.take_in(y), "trace: an operand belongs to an inner function that is still being traced; answer it from that function instead", TraceError);
  CHECK(outer.take_in(x).same_as(x));
}

TEST_CASE("a value of another thread is refused") {
  const auto refused = [](const auto& use) {
    std::string text;
    record([&](Values v) {
      std::thread([&] {
        try {
          use(v[0]);
        } catch (const TraceError& e) {
          text = e.what();
        }
      }).join();
      return v[0];
    });
    return text;
  };
  CHECK(refused([](Var x) { record([&](Values v) { return v[0] + x; }); }) == "add: an operand was recorded by another thread; trace it in this one");
  CHECK(refused([](Var x) { record([&](Values) { return x; }); }) == "trace: an operand was recorded by another thread; trace it in this one");
  CHECK(refused([](Var x) { exp(x); }) == "exp: an operand was recorded by another thread; trace it in this one");
}

TEST_CASE("threads may each trace and differentiate their own functions at once") {
  std::array<double, 4> results{};
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < results.size(); ++t)
    threads.emplace_back([&, t] {
      for (int repeat = 0; repeat < 20; ++repeat) results[t] = grad([](Var x) { return sum(x * x * x); }, one(static_cast<double>(t))).item();
    });
  for (std::thread& t : threads) t.join();
  for (std::size_t t = 0; t < results.size(); ++t) CHECK(results[t] == 3.0 * static_cast<double>(t * t));
}

TEST_CASE("perturbations of nested derivatives are not confused") {
  // d/dx [x d/dy (x + y)] = 1
  CHECK(grad([](Var x) { return sum(x * grad([&](Var y) { return sum(x + y); }, x)); }, one(3)).item() == 1);
  // d/dx [x d/dy (x y)] at y = 2: d/dx x^2
  CHECK(grad([](Var x) { return sum(x * grad([&](Var y) { return sum(x * y); }, 0.0 * x + 2.0)); }, one(3)).item() == 6);
  // forward within reverse within forward
  const auto [value, tangent] = jvp([](Var x) {
    return grad([&](Var y) { return sum(jvp([&](Var z) { return x * y * z * z; }, y, x).second); }, x);
  }, one(2), one(1));
  // jvp: 2 x y z x at z = y: 2 x^2 y^2; its gradient in y: 4 x^2 y at y = x: 4 x^3; derivative 12 x^2
  CHECK(value.item() == 32);
  CHECK(tangent.item() == 48);
}

TEST_CASE("an inner function of constants captures outer values") {
  // d/dx [x d/dy (x y^2) at y = 3] = d/dx 6 x^2 = 12 x
  CHECK(grad([](Var x) { return x * grad([&](Var y) { return x * y * y; }, Var(3.0)); }, Array<double>(Shape{}, {2})).item() == 24);
  // one that captures nothing has no trace to be recorded in
  CHECK_THROWS_WITH_AS(grad([](Var x) { return sum(x * grad([](Var y) { return sum(y * y); }, constant(one(3)))); }, one(2)), "mul: nothing here is traced; use the derivative functions on arrays", TraceError);
}

TEST_CASE("derivatives nest to any order") {
  const Array<double> x = one(0.7);
  auto second = [](Var v) { return grad([](Var u) { return sum(grad([](Var w) { return sum(sin(w)); }, u)); }, v); };
  CHECK(compile(second, x)(x).item() == doctest::Approx(-std::sin(0.7)));
  CHECK(grad([&](Var v) { return sum(second(v)); }, x).item() == doctest::Approx(-std::cos(0.7)));
  const auto nested = hvp([](Var v) { return sum(hvp([](Var u) { return sum(exp(u * u)); }, v, v)); }, x, one(1));
  // g = x f''(x), f = exp(x^2); g'' = 2 f''' + x f''''
  const double t = 0.7, f = std::exp(t * t), third = f * (12 * t + 8 * t * t * t), fourth = f * (12 + 48 * t * t + 16 * t * t * t * t);
  CHECK(nested.item() == doctest::Approx(2 * third + t * fourth));
  const auto [y, pull] = vjp([](Var v) {
    const auto [inner, back] = vjp([](Var u) { return u * u; }, v);
    return back(inner);
  }, x);
  CHECK(y.item() == doctest::Approx(2 * t * t * t));
  CHECK(pull(one(1)).item() == doctest::Approx(6 * t * t));
}

TEST_CASE("the forms on arrays refuse a traced value of an enclosing function") {
  const Array<double> a = one(2);
  const auto inside = [&](const auto& use) { record([&](Values v) { use(v[0]); return v[0]; }, {{1}}); };
  const auto text = doctest::Contains("trace: the function mentions a value [1] of an enclosing traced function; pass it as an argument, or use the derivative functions on Var there");
  CHECK_THROWS_WITH_AS(inside([&](Var x) { grad([&](Var y) { return sum(x * y); }, a); }), text, TraceError);
  CHECK_THROWS_WITH_AS(inside([&](Var x) { linearize([&](Var y) { return x * y; }, a); }), text, TraceError);
  CHECK_THROWS_WITH_AS(inside([&](Var x) { compile([&](Var y) { return x * y; }, a); }), text, TraceError);
  CHECK_THROWS_WITH_AS(inside([&](Var x) { hvp([&](Var y) { return sum(x * y * y); }, a, a); }), text, TraceError);
  CHECK_THROWS_WITH_AS(inside([&](Var x) { linear_transpose([&](Var y) { return x * y; }, a); }), text, TraceError);
  CHECK_NOTHROW(inside([&](Var) { grad([](Var y) { return sum(y * y); }, a); }));
}

TEST_CASE("errors and instructions carry the path of the layer they are recorded in") {
  Tape tape;
  const Var x = tape.input({2, 3});
  {
    const Tape::Scope serial(&tape, "serial");
    const Tape::Scope layer(&tape, "dense_2");
    CHECK(tape.path() == "serial/dense_2");
    CHECK_THROWS_WITH_AS(dot(x, x), "serial/dense_2: dot: cannot contract [2,3] with [2,3]; the inner extents and the leading axes must agree", ShapeError);
    CHECK(Tape(&tape).path() == "serial/dense_2");
    CHECK_THROWS_WITH_AS(tape.take_in(Var()), doctest::Contains("trace: an operand holds nothing"), TraceError);
    const Tape::Scope ignored(nullptr, "nowhere");
    (void)exp(x);
  }
  CHECK(tape.path() == "");
  CHECK_THROWS_WITH_AS(dot(x, x), "dot: cannot contract [2,3] with [2,3]; the inner extents and the leading axes must agree", ShapeError);
  const Program p = tape.seal(std::array{exp(x), sin(x)});
  CHECK(*p.code[0].path == "serial/dense_2");
  CHECK(*p.code[1].path == "");
}

TEST_CASE("derivatives of an instruction keep the path of its layer") {
  const FlatLinearMap<double> map([](Values v) -> std::vector<Var> {
    const Tape::Scope layer(v[0].tape(), "erf_1");
    return {erf(v[0])};
  }, {Array<double>({2}, {1, 2})}, {});
  REQUIRE(!map.program().code.empty());
  for (const Program* p : {&map.program(), &map.transpose_program()})
    for (const Instruction& c : p->code) CHECK(*c.path == "erf_1");
}

TEST_CASE("shapes of recorded values stay where they are while recording goes on") {
  Tape tape;
  const Var x = tape.input({3});
  const Shape& shape = x.shape();
  Var y = x;
  for (int i = 0; i < 5000; ++i) y = sin(y) + x;
  CHECK(&shape == &x.shape());
  CHECK(tape.seal(std::array{y}).code.size() == 10000);
}
