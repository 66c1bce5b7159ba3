// The harness for derivatives must find what is wrong: primitives with a false rule, a false kernel or a NaN, each of which one check is there for.
#include "linnet/autodiff/testing.h"
#include "linnet/autodiff/primitive.h"
#include "linnet/tests/autodiff/samples.h"

#include <doctest/doctest.h>

using namespace linnet::autodiff;
using samples::Arrays, samples::random;

namespace {

using Values = std::span<const Var>;

template <class T, int factor> void times_kernel(const Attributes&, const T* const* in, T* out, Index n) {
  for (Index i = 0; i < n; ++i) out[i] = T(factor) * in[0][i];
}
template <class T> void square_kernel(const Attributes&, const T* const* in, T* out, Index n) {
  for (Index i = 0; i < n; ++i) out[i] = in[0][i] * in[0][i];
}
template <class T> void first_lane_kernel(const KernelCall<T>& c) {
  std::fill_n(c.out, c.count() * c.out_shape.size(), T(0));
  std::copy_n(c.in[0], c.out_shape.size(), c.out);
}
template <class T> void bent_kernel(const Attributes&, const T* const* in, T* out, Index n) {  // claims to be linear, and is on either side of 0
  for (Index i = 0; i < n; ++i) out[i] = in[0][i] > 0 ? T(1.5) * in[0][i] : in[0][i];
}
template <class T> void drifting_kernel(const Attributes&, const T* const* in, T* out, Index n) {
  static T drift = 0;
  drift += std::numeric_limits<T>::epsilon() / 64;
  for (Index i = 0; i < n; ++i) out[i] = (1 + 64 * drift) * in[0][i];
}
Shape same_shape(Shapes in, const Attributes&) { return in[0]; }
Var unchanged(const Rule&, int, Var ct) { return ct; }

// One wrong thing each; otherwise linear or a square.
constexpr Primitive slope{.name = "slope", .operands = {Operand::smooth}, .infer = same_shape, .map = {square_kernel<float>, square_kernel<double>}, .eval = {},
                          .jvp = [](const Rule& r, int, Var t) { return t * (2.001 * r.in[0]); }};
constexpr Primitive second_slope{.name = "second", .operands = {Operand::smooth}, .infer = same_shape, .map = {square_kernel<float>, square_kernel<double>}, .eval = {},
                                 .jvp = [](const Rule& r, int, Var t) { return t * (2.0 * stop_gradient(r.in[0])); }};
constexpr Primitive adjoint{.name = "adjoint", .operands = {Operand::linear}, .joint = true, .infer = same_shape, .map = {times_kernel<float, 2>, times_kernel<double, 2>}, .eval = {},
                            .transpose = [](const Rule&, int, Var ct) { return 2.001 * ct; }};
constexpr Primitive affine{.name = "affine", .operands = {Operand::linear}, .joint = true, .infer = same_shape, .map = {times_kernel<float, 1>, times_kernel<double, 1>}, .eval = {},
                           .transpose = [](const Rule&, int, Var ct) { return ct + 1e-3; }};
constexpr Primitive widths{.name = "widths", .operands = {Operand::linear}, .joint = true, .infer = same_shape, .map = {times_kernel<float, 3>, times_kernel<double, 2>}, .eval = {},
                           .transpose = [](const Rule&, int, Var ct) { return 2.0 * ct; }};
constexpr Primitive lanes{.name = "lanes", .operands = {Operand::linear}, .joint = true, .infer = same_shape, .map = {}, .eval = {first_lane_kernel<float>, first_lane_kernel<double>}, .transpose = unchanged};
constexpr Primitive drifting{.name = "drifting", .operands = {Operand::linear}, .joint = true, .infer = same_shape, .map = {drifting_kernel<float>, drifting_kernel<double>}, .eval = {}, .transpose = unchanged};
constexpr Primitive bent{.name = "bent", .operands = {Operand::linear}, .joint = true, .infer = same_shape, .map = {bent_kernel<float>, bent_kernel<double>}, .eval = {}, .transpose = unchanged};

std::vector<std::string> check(const Primitive& p, DerivativeCheck options = {}) {
  return check_derivatives([&](Var v) { return emit(p, std::array{v}); }, random<double>({5}, 2), options);
}
bool found(const std::vector<std::string>& failures, std::string_view text) {
  return std::any_of(failures.begin(), failures.end(), [&](const std::string& f) { return f.starts_with(text); });
}

}  // namespace

TEST_CASE("nothing is found in right functions, of any shape and of several arguments and results") {
  const Function f = [](Values v) -> std::vector<Var> { return {dot(sin(v[0]), v[1]) + sum(v[2]), exp(v[2]), v[0]}; };
  for (const unsigned seed : {1u, 2u, 3u}) CHECK(check_derivatives(f, {random<double>({3, 2}, 1), random<double>({2, 4}, 2), random<double>({}, 3)}, {.order = 3, .seed = seed}).empty());
  CHECK(check_derivatives([](Var v) { return tanh(v); }, Array<double>({0, 3})).empty());
  CHECK(check_derivatives([](Var v) { return Tree<Var>{{"a", tanh(v)}, {"b", sum(v)}}; }, random<double>({4}, 1)).empty());
}

TEST_CASE("nothing is found in a function without results") {
  CHECK(check_derivatives([](Values) -> std::vector<Var> { return {}; }, Arrays<double>{random<double>({2}, 1)}).empty());
}

TEST_CASE("a false slope is found by differences") {
  const auto failures = check(slope, {.order = 1});
  REQUIRE(failures.size() == 1);
  CHECK(found(failures, "jvp against differences: 0.00"));
  CHECK(failures[0].ends_with("(seed 1)"));
  CHECK(check(slope, {.order = 1, .differences = false}).empty());
}

TEST_CASE("a slope that is right but whose own derivative is not is found at the second order") {
  CHECK(check(second_slope, {.order = 1}).empty());
  const auto failures = check(second_slope);
  CHECK_FALSE(found(failures, "jvp"));
  CHECK(found(failures, "of jvp: jvp against differences"));
  CHECK(found(failures, "of vjp: jvp against differences"));
}

TEST_CASE("a false transpose is found by the adjoint identity in both widths") {
  const auto failures = check(adjoint, {.order = 1});
  CHECK(found(failures, "adjoint identity in double"));
  CHECK(found(failures, "adjoint identity in float"));
  CHECK_FALSE(found(failures, "jvp"));
}

TEST_CASE("a transpose that adds a constant is found by the cotangent zero") { CHECK(found(check(affine, {.order = 1}), "vjp of zero in double")); }

TEST_CASE("a derivative that is not linear in the tangent is found") {
  const auto failures = check(bent, {.order = 1});
  CHECK(found(failures, "linearity of jvp in double"));
  CHECK(found(failures, "linearity of jvp in float"));
  CHECK_FALSE(found(failures, "linearity of vjp"));
}

TEST_CASE("a kernel that is wrong in one width is found") {
  const auto failures = check(widths, {.order = 1});
  CHECK(found(failures, "float against double"));
  CHECK_FALSE(found(failures, "adjoint identity in double"));
}

TEST_CASE("a kernel that forgets its lanes is found") {
  const auto failures = check(lanes, {.order = 1});
  CHECK(found(failures, "lane 1 of jvp in double against a single one"));
  CHECK_FALSE(found(failures, "lane 0"));
  CHECK(check(lanes, {.order = 1, .lanes = 1}).empty());
}

TEST_CASE("a kernel that gives other bits when it runs again is found") { CHECK(found(check(drifting, {.order = 1}), "a second replay in double has other bits")); }

TEST_CASE("a kink near the point is found by differences, and only by them") {
  const Array<double> x({3}, {1e-4, 1, -1});  // differences straddle the kink
  auto f = [](Var v) { return relu(v); };
  CHECK(found(check_derivatives(f, x, {.order = 1}), "jvp against differences"));
  CHECK(check_derivatives(f, x, {.order = 3, .differences = false}).empty());
}

TEST_CASE("a NaN in a derivative is found, whichever result has it") {
  const Array<double> x({2}, {-1, 1});
  CHECK_FALSE(check_derivatives([](Var v) { return sqrt(v); }, x, {.order = 1}).empty());
  CHECK(found(check_derivatives([](Values v) -> std::vector<Var> { return {v[0], sqrt(v[0])}; }, Arrays<double>{x}, {.order = 1}), "jvp against differences"));
  CHECK(found(check_derivatives([](Values v) -> std::vector<Var> { return {sqrt(v[0]), v[0]}; }, Arrays<double>{x}, {.order = 1}), "jvp against differences"));
}
