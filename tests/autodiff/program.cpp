// Programs as data: how they print, what check and check_linear find in malformed ones, what they cost, and primitives of a user's own.
#include "linnet/tests/autodiff/samples.h"

#include <doctest/doctest.h>

using namespace linnet::autodiff;
using samples::run1;

namespace {

using Values = std::span<const Var>;
template <class F> Program record(F f, std::vector<Shape> inputs) {
  return trace([&](Values v) -> std::vector<Var> { return {f(v)}; }, inputs);
}
// A user's own operation: x^3, smooth, with scalar code and no Eigen.
template <class T> void cube_kernel(const Attributes&, const T* const* in, T* out, Index n) {
  for (Index i = 0; i < n; ++i) out[i] = in[0][i] * in[0][i] * in[0][i];
}
constexpr Primitive cube_primitive{.name = "cube", .operands = {Operand::smooth}, .infer = [](Shapes in, const Attributes&) { return in[0]; }, .map = {cube_kernel<float>, cube_kernel<double>}, .eval = {},
                                   .jvp = [](const Rule& r, int, Var t) { return t * (3.0 * square(r.in[0])); }};
Var cube(const Var& x) { return emit(cube_primitive, std::array{x}); }

}  // namespace

TEST_CASE("a program prints as it is, with shapes, attributes, constants and layers") {
  const Program p = record([](Values v) {
    const Tape::Scope layer(v[0].tape(), "dense_0");
    const Var h = dot(v[0], v[1], {false, true}) + constant(Array<double>({3}, {1, 2, 3}));
    return sum(tanh(h) * 2.0, {1});
  }, {{4, 2}, {3, 2}});
  CHECK(str(p) ==
        "{ lambda %0:[4,2] %1:[3,2]\n"
        "  const %2:[3]\n"
        "  let %3:[4,3] = dot %0 %1 (a b^T)  # dense_0\n"
        "      %4:[4,3] = broadcast %2 (axes 0 of [4])  # dense_0\n"
        "      %5:[4,3] = add %3 %4  # dense_0\n"
        "      %6:[4,3] = tanh %5  # dense_0\n"
        "      %7:[4,3] = scale %6 (2)  # dense_0\n"
        "      %8:[4] = sum %7 (axes 1 of [3])  # dense_0\n"
        "  in %8 }");
  CHECK(str(record([](Values v) { return v[0]; }, {Shape{}})) == "{ lambda %0:[]\n  in %0 }");
}

TEST_CASE("captures are marked in print") {
  Tape outer, inner(&outer);
  const Var x = outer.input({2}), y = inner.input({2});
  std::vector<Var> captured;
  CHECK(str(inner.seal(std::array{x * y}, &captured)) == "{ lambda %0:[2] %1:[2]*\n  let %2:[2] = mul %1 %0\n  in %2 }");
}

TEST_CASE("check accepts what was traced and names what is wrong with a program") {
  const Program good = record([](Values v) { return sum(exp(v[0]) * v[0]); }, {{3}});
  CHECK_NOTHROW(check(good));
  Program p = good;
  p.code[0].in[0] = 5;
  CHECK_THROWS_WITH_AS(check(p), "check: %1 = exp uses %5 before it is defined", TraceError);
  p = good;
  p.code[0].in[0] = -1;
  CHECK_THROWS_WITH_AS(check(p), "check: %1 = exp uses %-1 before it is defined", TraceError);
  p = good;
  p.code[0].shape = {4};
  CHECK_THROWS_WITH_AS(check(p), "check: %1 = exp has shape [4], its rule gives [3]", TraceError);
  p = good;
  p.outputs[0] = 9;
  CHECK_THROWS_WITH_AS(check(p), "check: output %9 is not defined", TraceError);
}

TEST_CASE("check_linear accepts linear programs and names the instruction that is not") {
  const auto linear = [](auto f, int n = 1) { check_linear(record(f, {{2, 2}, {2, 2}}), n); };
  CHECK_NOTHROW(linear([](Values v) { return 2.0 * transpose(v[0]) - v[0]; }));
  CHECK_NOTHROW(linear([](Values v) { return v[0] * sin(v[1]) + dot(v[0], v[1]) / v[1]; }));
  CHECK_NOTHROW(linear([](Values v) { return v[0] + v[1]; }, 2));
  CHECK_NOTHROW(linear([](Values v) { return where(v[1], v[0], 0.0); }));
  CHECK_NOTHROW(linear([](Values v) { return zeros_like(v[0]); }));
  CHECK_NOTHROW(linear([](Values v) { return concatenate({v[0], zeros_like(v[1])}, 0); }));
  CHECK_THROWS_WITH_AS(linear([](Values v) { return v[0] * v[0]; }), "%2 = mul multiplies two linear values", TraceError);
  CHECK_THROWS_WITH_AS(linear([](Values v) { return dot(v[0], v[1]); }, 2), "%2 = dot multiplies two linear values", TraceError);
  CHECK_THROWS_WITH_AS(linear([](Values v) { return v[0] + 1.0; }), "%3 = add adds a value that is not linear: operand 1", TraceError);
  CHECK_THROWS_WITH_AS(linear([](Values v) { return v[1] - v[0]; }), "%2 = sub adds a value that is not linear: operand 0", TraceError);
  CHECK_THROWS_WITH_AS(linear([](Values v) { return where(v[1], v[0], v[1]); }), "%2 = where adds a value that is not linear: operand 2", TraceError);
  CHECK_THROWS_WITH_AS(linear([](Values v) { return exp(v[0]); }), "%2 = exp is not linear in operand 0", TraceError);
  CHECK_THROWS_WITH_AS(linear([](Values v) { return v[1] / v[0]; }), "%2 = div is not linear in operand 1", TraceError);
  CHECK_THROWS_WITH_AS(linear([](Values v) { return where(v[0], v[0], 0.0); }), "%3 = where is not linear in operand 0", TraceError);
  CHECK_THROWS_WITH_AS(linear([](Values v) { return sin(v[1]); }), "output %2 does not depend on a linear input", TraceError);
  CHECK_THROWS_WITH_AS(linear([](Values v) {
    const Tape::Scope layer(v[0].tape(), "erf_1");
    return erf(v[0]);
  }), "erf_1: %2 = erf is not linear in operand 0", TraceError);
}

TEST_CASE("the cost of a product is two operations for each multiplication and addition") {
  CHECK(cost(record([](Values v) { return dot(v[0], v[1]); }, {{3, 4}, {4, 5}})).flops == 2 * 3 * 4 * 5);
  CHECK(cost(record([](Values v) { return dot(v[0], v[1], {true, true}); }, {{4, 3}, {5, 4}})).flops == 2 * 3 * 4 * 5);
  CHECK(cost(record([](Values v) { return dot(v[0], v[1]); }, {{7, 3, 4}, {7, 4, 5}})).flops == 7 * 2 * 3 * 4 * 5);
  CHECK(cost(record([](Values v) { return dot(v[0], v[1]); }, {{3, 4}, {4, 5}})).numbers == 12 + 20 + 15);
}

TEST_CASE("the cost of an elementwise operation is its size, and moving costs nothing but bytes") {
  CHECK(cost(record([](Values v) { return exp(v[0]) + v[0]; }, {{3, 4}})).flops == 24);
  CHECK(cost(record([](Values v) { return exp(v[0]) + v[0]; }, {{3, 4}})).numbers == 24 + 36);
  CHECK(cost(record([](Values v) { return sum(v[0]); }, {{3, 4}})).flops == 12);
  const Function body = [](Values v) -> std::vector<Var> { return {dot(v[0], v[0])}; };
  CHECK(cost(trace(checkpoint(body), std::vector{Shape{3, 3}})).flops == 54);
  CHECK(cost(Program()).flops == 0);
}

TEST_CASE_TEMPLATE("a primitive of a user's own is traced, run and differentiated to any order", T, float, double) {
  const Array<T> x = samples::random<T>({2100}, 7);
  const Array<T> y = compile([](Var v) { return cube(v) + 1.0; }, x)(x);
  for (Index i = 0; i < x.size(); ++i) REQUIRE(y.data()[i] == doctest::Approx(x.data()[i] * x.data()[i] * x.data()[i] + 1));
  CHECK(grad([](Var v) { return sum(cube(v)); }, Array<T>({1}, {2})).item() == 12);
  CHECK(hvp([](Var v) { return sum(cube(v)); }, Array<T>({1}, {2}), Array<T>({1}, {1})).item() == 12);
}

TEST_CASE("a rule that multiplies two tangents is refused when the derivative is sealed") {
  static constexpr Primitive wrong{.name = "wrong", .operands = {Operand::smooth}, .infer = [](Shapes in, const Attributes&) { return in[0]; }, .map = {cube_kernel<float>, cube_kernel<double>}, .eval = {},
                                   .jvp = [](const Rule&, int, Var t) { return t * t; }};
  CHECK_THROWS_WITH_AS(grad([](Var v) { return sum(emit(wrong, std::array{v})); }, Array<double>({1}, {2})), "%1 = mul multiplies two linear values", TraceError);
}
