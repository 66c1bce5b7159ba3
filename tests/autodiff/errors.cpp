// The table of bad inputs to operations, derivatives and executors: each must throw the type and say the text written here, while tracing wherever
// it can. Shapes, arrays, trees, programs and plans have theirs in the files of those names, as has what needs a tape or threads of its own.
#include "linnet/autodiff/config.h"
#include "linnet/autodiff/kernels/parallel.h"
#include "linnet/autodiff/primitive.h"
#include "linnet/tests/autodiff/samples.h"

#include <doctest/doctest.h>

#include <functional>
#include <typeindex>

using namespace linnet::autodiff;

namespace {

using Values = std::span<const Var>;
using Params = Tree<Array<double>>;

struct Case {
  const char* what;
  std::function<void()> call;
  std::type_index type;
  std::string text;
};
const std::type_index shape = typeid(ShapeError), structure = typeid(StructureError), trace_error = typeid(TraceError);

// Traces f on inputs of these shapes; nothing runs.
template <class F> std::function<void()> tracing(std::vector<Shape> inputs, F f) {
  return [=] { trace([&](Values v) -> std::vector<Var> { return {f(v)}; }, inputs); };
}
const Primitive& primitive(std::string_view name) {
  for (const Primitive* p : primitives())
    if (p->name == name) return *p;
  throw std::logic_error("no such primitive");
}
constexpr Index most = std::numeric_limits<Index>::max(), least = std::numeric_limits<Index>::min();

std::vector<Case> arithmetic() {
  std::vector<Case> all;
  const std::pair<const char*, Var (*)(const Var&, const Var&)> operations[] = {{"add", [](const Var& a, const Var& b) { return a + b; }}, {"sub", [](const Var& a, const Var& b) { return a - b; }},
                                                                                {"mul", [](const Var& a, const Var& b) { return a * b; }}, {"div", [](const Var& a, const Var& b) { return a / b; }},
                                                                                {"pow", pow}};
  for (const auto& [name, f] : operations) {
    const auto with = [f = f](Values v) { return f(v[0], v[1]); };
    all.push_back({name, tracing({{2, 3}, {4}}, with), shape, std::string(name) + ": shapes [2,3] and [4] do not broadcast: axis -1 is 3 and 4; equal extents or 1 are needed"});
    all.push_back({name, tracing({{2, 3}, {3, 3}}, with), shape, std::string(name) + ": shapes [2,3] and [3,3] do not broadcast: axis -2 is 2 and 3; equal extents or 1 are needed"});
    all.push_back({name, tracing({{0}, {2}}, with), shape, std::string(name) + ": shapes [0] and [2] do not broadcast: axis -1 is 0 and 2; equal extents or 1 are needed"});
  }
  all.push_back({"where", tracing({{2}, {3}}, [](Values v) { return where(v[0], v[1], 0.0); }), shape, "where: shapes [2] and [3] do not broadcast: axis -1 is 2 and 3; equal extents or 1 are needed"});
  all.push_back({"where", tracing({{3}, {4}}, [](Values v) { return where(v[0], 1.0, v[1]); }), shape, "where: shapes [3] and [4] do not broadcast: axis -1 is 3 and 4; equal extents or 1 are needed"});
  all.push_back({"> of shapes", tracing({{3}, {4}}, [](Values v) { return v[0] > v[1]; }), shape, "sub: shapes [3] and [4] do not broadcast"});
  all.push_back({"a primitive itself", tracing({{2}, {3}}, [](Values v) { return emit(primitive("add"), v); }), shape, "add: operands must have one shape, got [2] and [3]"});
  all.push_back({"mean_squared_error", tracing({{2, 1}, {2}}, [](Values v) { return mean_squared_error(v[0], v[1]); }), shape, "mean_squared_error: prediction [2,1] and target [2] must have one shape"});
  return all;
}

std::vector<Case> products_and_reductions() {
  const auto product = [](Values v) { return dot(v[0], v[1]); };
  return {
      {"inner extents", tracing({{2, 3}, {4, 5}}, product), shape, "dot: cannot contract [2,3] with [4,5]; the inner extents and the leading axes must agree"},
      {"transposed", tracing({{2, 3}, {2, 5}}, [](Values v) { return dot(v[0], v[1], {false, true}); }), shape, "dot: cannot contract [2,3] with [2,5]^T; the inner extents and the leading axes must agree"},
      {"both transposed", tracing({{2, 3}, {5, 3}}, [](Values v) { return dot(v[0], v[1], {true, true}); }), shape, "dot: cannot contract [2,3]^T with [5,3]^T"},
      {"batches", tracing({{2, 3, 4}, {3, 4, 5}}, product), shape, "dot: cannot contract [2,3,4] with [3,4,5]"},
      {"ranks", tracing({{2, 3}, {1, 3, 5}}, product), shape, "dot: cannot contract [2,3] with [1,3,5]"},
      {"a scalar", tracing({{2, 3}, {}}, product), shape, "dot: operands need at least one axis, got [2,3] and []; use * with scalars"},
      {"a transposed vector", tracing({{3}, {3, 2}}, [](Values v) { return dot(v[0], v[1], {true, false}); }), shape, "dot: a vector cannot be transposed, got [3] and [3,2]"},
      {"vectors", tracing({{3}, {4}}, product), shape, "dot: cannot contract [1,3] with [4,1]"},
      {"sum", tracing({{2, 3}}, [](Values v) { return sum(v[0], {2}); }), shape, "sum: there is no axis 2 in [2,3], which has rank 2"},
      {"sum", tracing({{2, 3}}, [](Values v) { return sum(v[0], {0, -2}); }), shape, "sum: axis 0 of [2,3] is named twice"},
      {"sum", tracing({{}}, [](Values v) { return sum(v[0], {0}); }), shape, "sum: there is no axis 0 in [], which has rank 0"},
      {"max", tracing({{2, 3}}, [](Values v) { return max(v[0], {-3}); }), shape, "max: there is no axis -3 in [2,3], which has rank 2"},
      {"max", tracing({{2, 0}}, [](Values v) { return max(v[0], {1}); }), shape, "max: axes 1 to 2 of [2,0] are empty, and nothing has no maximum"},
      {"max", tracing({{0}}, [](Values v) { return max(v[0]); }), shape, "max: axes 0 to 1 of [0] are empty, and nothing has no maximum"},
      {"mean", tracing({{2, 0}}, [](Values v) { return mean(v[0], {1}); }), shape, "mean: [2,0] has no values, and nothing has no mean"},
      {"mean", tracing({{2}}, [](Values v) { return mean(v[0], {1}); }), shape, "sum: there is no axis 1 in [2], which has rank 1"},
      {"softmax", tracing({{2, 0}}, [](Values v) { return softmax(v[0]); }), shape, "max: axes 1 to 2 of [2,0] are empty"},
      {"logsumexp", tracing({{2}}, [](Values v) { return logsumexp(v[0], 1); }), shape, "there is no axis 1 in [2], which has rank 1"},
      {"softmax of a scalar", tracing({{}}, [](Values v) { return softmax(v[0]); }), shape, "there is no axis -1 in [], which has rank 0"},
      {"broadcast", tracing({{2}}, [](Values v) { return broadcast(v[0], 2, {3}); }), shape, "broadcast: no place 2 for new axes in [2], which has rank 1"},
      {"broadcast", tracing({{2}}, [](Values v) { return broadcast(v[0], -1, {3}); }), shape, "broadcast: no place -1 for new axes in [2], which has rank 1"},
      {"broadcast", tracing({{1, 1, 1, 1, 1, 1, 1}}, [](Values v) { return broadcast(v[0], 0, {2, 2}); }), shape, "shape: [1,1,1,1,1,1,1] with [2,2] inserted has more than 8 axes"},
      {"broadcast_to", tracing({{2}}, [](Values v) { return broadcast_to(v[0], {3}); }), shape, "broadcast_to: shapes [2] and [3] do not broadcast: axis -1 is 2 and 3"},
      {"broadcast_to", tracing({{2, 3}}, [](Values v) { return broadcast_to(v[0], {3}); }), shape, "broadcast_to: [2,3] does not broadcast to [3]"},
      {"broadcast_to", tracing({{3}}, [](Values v) { return broadcast_to(v[0], {1}); }), shape, "broadcast_to: [3] does not broadcast to [1]"},
      {"too many elements", tracing({{Index(1) << 40}}, [](Values v) { return broadcast(v[0], 0, {Index(1) << 40}); }), shape, "has more elements than a 64-bit index counts"},
  };
}

std::vector<Case> structure_operations() {
  return {
      {"reshape", tracing({{2, 3}}, [](Values v) { return reshape(v[0], {4}); }), shape, "reshape: [2,3] has 6 values, [4] has 4"},
      {"transpose", tracing({{2, 3, 4}}, [](Values v) { return transpose(v[0]); }), shape, "transpose: a matrix is needed, got [2,3,4]; give the order of the axes"},
      {"transpose", tracing({{2}}, [](Values v) { return transpose(v[0]); }), shape, "transpose: a matrix is needed, got [2]; give the order of the axes"},
      {"transpose", tracing({{2, 3}}, [](Values v) { return transpose(v[0], {0}); }), shape, "transpose: 1 axes were given for [2,3]"},
      {"transpose", tracing({{2, 3}}, [](Values v) { return transpose(v[0], {1, -1}); }), shape, "transpose: axis 1 is named twice for [2,3]"},
      {"transpose", tracing({{2, 3}}, [](Values v) { return transpose(v[0], {0, 2}); }), shape, "transpose: there is no axis 2 in [2,3], which has rank 2"},
      {"slice", tracing({{2, 3}}, [](Values v) { return slice(v[0], 1, 2, 2); }), shape, "slice: 2 to 4 is outside of axis 1 of [2,3]"},
      {"slice", tracing({{2, 3}}, [](Values v) { return slice(v[0], -1, -1, 2); }), shape, "slice: -1 to 1 is outside of axis 1 of [2,3]"},
      {"slice", tracing({{2, 3}}, [](Values v) { return slice(v[0], 0, 1, -1); }), shape, "slice: 1 to 0 is outside of axis 0 of [2,3]"},
      {"slice", tracing({{2, 3}}, [](Values v) { return slice(v[0], 2, 0, 1); }), shape, "slice: there is no axis 2 in [2,3], which has rank 2"},
      {"slice", tracing({{2}}, [](Values v) { return slice(v[0], 0, most, most); }), shape, "is outside of axis 0 of [2]"},
      {"slice", tracing({{2}}, [](Values v) { return slice(v[0], 0, 0, least); }), shape, "is outside of axis 0 of [2]"},
      {"pad", tracing({{2}}, [](Values v) { return pad(v[0], 0, -1, 3); }), shape, "pad: -1 in front and 3 behind axis 0 of [2]; neither may be negative"},
      {"pad", tracing({{2}}, [](Values v) { return pad(v[0], 0, 1, -1); }), shape, "pad: 1 in front and -1 behind axis 0 of [2]; neither may be negative"},
      {"pad", tracing({{2}}, [](Values v) { return pad(v[0], 1, 1, 1); }), shape, "pad: there is no axis 1 in [2], which has rank 1"},
      {"concatenate", tracing({{2, 3}, {2, 4}}, [](Values v) { return concatenate({v[0], v[1]}, 0); }), shape, "concatenate: [2,3] and [2,4] differ in an axis other than 0"},
      {"concatenate", tracing({{2, 3}, {2}}, [](Values v) { return concatenate({v[0], v[1]}, 0); }), shape, "concatenate: [2,3] and [2] differ in an axis other than 0"},
      {"concatenate", tracing({{2}, {2}}, [](Values v) { return concatenate({v[0], v[1]}, 1); }), shape, "concatenate: there is no axis 1 in [2], which has rank 1"},
      {"concatenate", tracing({{}, {}}, [](Values v) { return concatenate({v[0], v[1]}, 0); }), shape, "concatenate: there is no axis 0 in [], which has rank 0"},
      {"concatenate", tracing({{2}}, [](Values) { return concatenate({}, 0); }), shape, "concatenate: no arrays came; at least one is needed"},
      {"gather", tracing({{3, 2}, {2, 2}}, [](Values v) { return gather(v[0], v[1]); }), shape, "gather: rows [n, …] and a vector of indices are needed, got [3,2] and [2,2]"},
      {"gather", tracing({{}, {2}}, [](Values v) { return gather(v[0], v[1]); }), shape, "gather: rows [n, …] and a vector of indices are needed, got [] and [2]"},
      {"gather itself", tracing({{3, 2}, {2}}, [](Values v) { return emit(primitive("gather"), v, Rows{4}); }), shape, "gather: the table [3,2] must have 4 rows"},
      {"scatter_add", tracing({{3, 2}, {2}}, [](Values v) { return scatter_add(v[0], v[1], 4); }), shape, "scatter_add: 3 rows came with 2 indices"},
      {"scatter_add", tracing({{3, 2}, {}}, [](Values v) { return scatter_add(v[0], v[1], 4); }), shape, "scatter_add: rows [n, …] and a vector of indices are needed, got [3,2] and []"},
      {"scatter_add", tracing({{2}, {2}}, [](Values v) { return scatter_add(v[0], v[1], -1); }), shape, "scatter_add: the number of rows must not be negative, got -1"},
      {"within a checkpoint", tracing({{2, 3}, {2, 3}}, [](Values v) { return checkpoint([](Values u) -> std::vector<Var> { return {dot(u[0], u[1])}; })(v)[0]; }), shape, "dot: cannot contract [2,3] with [2,3]"},
      {"call itself", tracing({{2}}, [](Values v) {
         const auto body = std::make_shared<const Program>(trace([](Values u) -> std::vector<Var> { return {exp(u[0])}; }, std::vector<Shape>{{3}}));
         return emit(primitive("call"), v, Body{body});
       }), shape, "call: operand 0 is [2], the function takes [3]"},
  };
}

std::vector<Case> derivatives() {
  static const Array<double> x({2, 3}), v({3}), empty({0});
  static const Params p = {{"W", Array<double>({3, 2})}, {"b", Array<double>({2})}}, q = {{"W", Array<double>({3, 2})}, {"c", Array<double>({2})}}, r = {{"W", Array<double>({2, 3})}, {"b", Array<double>({2})}};
  static const auto f = [](const Tree<Var>& t, Var a) { return dot(a, t["W"]) + t["b"]; };
  static const auto two = [](Var a) { return 2.0 * a; };
  static const auto map = linearize(f, p, x);
  static const auto run = compile(f, p, x);
  return {
      {"grad", [] { grad([](Var a) { return a; }, x); }, shape, "grad: the function must answer one scalar, it answers [2,3]; sum it, or use vjp with a cotangent"},
      {"grad", [] { grad([](Var a) { return Tree<Var>{{"a", sum(a)}, {"b", a}}; }, x); }, shape, "grad: the function must answer one scalar, it answers 2 arrays; sum it, or use vjp with a cotangent"},
      {"grad", [] { grad([](Var a) { return a; }, empty); }, shape, "grad: the function must answer one scalar, it answers [0]"},
      {"hvp", [] { hvp([](Var a) { return a; }, x, x); }, shape, "grad: the function must answer one scalar, it answers [2,3]"},
      {"hvp", [] { hvp([](Var a) { return sum(a); }, x, v); }, shape, "hvp: shape [3] came, expected [2,3]"},
      {"hvp", [] { hvp([](const Tree<Var>& t) { return sum(t["W"]); }, p, q); }, structure, "hvp: the tree has leaves [W, c], expected [W, b]"},
      {"a child that is not there", [] { grad([](const Tree<Var>& t) { return sum(t["V"]); }, p); }, structure, "tree: there is no child 'V'; its children are W, b"},
      {"jvp", [] { jvp(two, x, v); }, shape, "jvp: shape [3] came, expected [2,3]"},
      {"jvp", [] { jvp(f, p, r, x); }, shape, "jvp: W: shape [2,3] came, expected [3,2]"},
      {"vjp", [] { vjp(two, x).second(v); }, shape, "vjp: shape [3] came, expected [2,3]"},
      {"jvp of a map", [] { map.jvp(q); }, structure, "jvp: the tree has leaves [W, c], expected [W, b]"},
      {"jvp_lanes", [] { map.jvp_lanes(p); }, shape, "jvp_lanes: W: shape [3,2] came, expected [3,3,2]"},
      {"jvp_lanes", [] { map.jvp_lanes({{"W", Array<double>({4, 3, 2})}, {"b", Array<double>({5, 2})}}); }, shape, "jvp_lanes: b: shape [5,2] came, expected [4,2]"},
      {"vjp_lanes", [] { map.vjp_lanes(Array<double>({4, 2, 3})); }, shape, "vjp_lanes: shape [4,2,3] came, expected [4,2,2]"},
      {"vjp_lanes", [] { map.vjp_lanes(Array<double>(Shape{})); }, shape, "vjp_lanes: a leading axis of lanes is needed, a scalar came"},
      {"lanes beyond eight axes", [] { linearize(two, Array<double>({1, 1, 1, 1, 1, 1, 1, 1})).jvp_lanes(Array<double>({1, 1, 1, 1, 1, 1, 1, 1})); }, shape, "shape: [1,1,1,1,1,1,1,1] with [1] inserted has more than 8 axes"},
      {"compile", [] { run(p, v); }, shape, "compiled function: shape [3] came, expected [2,3]"},
      {"compile", [] { run(q, x); }, structure, "compiled function: the tree has leaves [W, c], expected [W, b]"},
      {"an error of the function", [] { linearize(f, p, v.reshaped({1, 3}).rows(0, 1).reshaped({3, 1})); }, shape, "dot: cannot contract [3,1] with [3,2]"},
      {"linear_transpose", [] { linear_transpose([](Var a) { return a * a; }, x); }, trace_error, "%1 = mul multiplies two linear values"},
      {"linear_transpose", [] { linear_transpose([](Var a) { return a + 1.0; }, x); }, trace_error, "%2 = add adds a value that is not linear: operand 1"},
      {"linear_transpose", [] { linear_transpose([](Var a) { return exp(a); }, x); }, trace_error, "%1 = exp is not linear in operand 0"},
      {"linear_transpose", [] { linear_transpose([](Var a) { return fill(a.tape(), {2}, 1); }, x); }, trace_error, "output %1 does not depend on a linear input"},
      {"a linear map has no value", [] { linear_transpose(two, x).value(); }, trace_error, "LinearMap: a transposed or linear map has no value; ask the map it was made of"},
      {"traced jvp", tracing({{2}, {3}}, [](Values t) { return jvp(two, t[0], t[1]).second; }), shape, "jvp: shape [3] came, expected [2]"},
      {"traced vjp", tracing({{2}, {3}}, [](Values t) { return vjp(two, t[0]).second(t[1]); }), shape, "vjp: shape [3] came, expected [2]"},
      {"traced hvp", tracing({{2}, {3}}, [](Values t) { return hvp([](Var a) { return sum(a * a); }, t[0], t[1]); }), shape, "hvp: shape [3] came, expected [2]"},
      {"traced grad", tracing({{2}}, [](Values t) { return grad(two, t[0]); }), shape, "grad: the function must answer one scalar, it answers [2]"},
      {"grad without a trace", [] { grad([](Var) { return Var(1.0); }, Var(2.0)); }, trace_error, "grad: nothing here is traced; use grad on arrays"},
      {"a flat function", [] { FlatFunction<double>([](Values t) -> std::vector<Var> { return {t[0]}; }, std::vector<Shape>{{2, 3}})({x, x}); }, structure, "compiled function: 2 arrays came, expected 1"},
      {"a flat function", [] { FlatFunction<double>([](Values t) -> std::vector<Var> { return {t[0]}; }, std::vector<Shape>{{2}})({v}); }, shape, "compiled function: array 0 is [3], expected [2]"},
      {"a flat map", [] { FlatLinearMap<double>([](Values t) -> std::vector<Var> { return {t[0]}; }, {x}, {}).jvp({v}, -1); }, shape, "jvp: array 0 is [3], expected [2,3]"},
      {"a flat map", [] { FlatLinearMap<double>([](Values t) -> std::vector<Var> { return {t[0]}; }, {x}, {}).vjp({x}, 2); }, shape, "vjp: array 0 is [2,3], expected [2,2,3]"},
  };
}

std::vector<Case> others() {
  return {
      {"threads", [] { set_threads(0); }, shape, "threads: the number of threads must be at least 1, got 0"},
      {"threads", [] { set_thread_count(-3); }, shape, "threads: the number of threads must be at least 1, got -3"},
  };
}

int run(const std::vector<Case>& table) {
  for (const Case& c : table) {
    CAPTURE(std::string(c.what));
    CAPTURE(c.text);
    try {
      c.call();
      FAIL_CHECK("nothing was thrown");
    } catch (const std::exception& e) {
      const std::string came = e.what();
      CAPTURE(came);
      CHECK_MESSAGE(std::type_index(typeid(e)) == c.type, "another type came: ", std::string(typeid(e).name()));
      CHECK(came.find(c.text) != std::string::npos);
    }
  }
  return static_cast<int>(table.size());
}

}  // namespace

TEST_CASE("operands of arithmetic that do not fit are refused with both shapes") { CHECK(run(arithmetic()) >= 20); }
TEST_CASE("products and reductions of the wrong shape or axis are refused") { CHECK(run(products_and_reductions()) >= 25); }
TEST_CASE("moves to where nothing is are refused") { CHECK(run(structure_operations()) >= 25); }
TEST_CASE("derivatives refuse arguments that do not fit the function or each other") { CHECK(run(derivatives()) >= 30); }
TEST_CASE("no threads are refused") { CHECK(run(others()) == 2); }

TEST_CASE("an error leaves the thread as it was: the next function is traced, and settings stay") {
  const Array<double> x({2}, {1, 2});
  CHECK_THROWS_AS(grad([](Var a) { return sum(grad([&](Var b) { return sum(dot(a * b, reshape(a, {2, 1}))) + slice(b, 0, 5, 1); }, a)); }, x), ShapeError);
  CHECK(grad([](Var a) { return sum(a * a); }, x) == Array<double>({2}, {2, 4}));
  const int before = threads();
  CHECK_THROWS_AS(set_threads(0), ShapeError);
  CHECK(threads() == before);
}

TEST_CASE("an error within a layer names the layer, in derivatives too") {
  const auto f = [](Var a) {
    const Tape::Scope outer(a.tape(), "serial"), inner(a.tape(), "dense_2");
    return sum(dot(a, a));
  };
  const Array<double> x({2, 3});
  CHECK_THROWS_WITH_AS(grad(f, x), "serial/dense_2: dot: cannot contract [2,3] with [2,3]; the inner extents and the leading axes must agree", ShapeError);
  CHECK_THROWS_WITH_AS(hvp(f, x, x), doctest::Contains("serial/dense_2: dot: cannot contract"), ShapeError);
  CHECK_THROWS_WITH_AS(compile([&](Var a) { return grad(f, a); }, x), doctest::Contains("serial/dense_2: dot: cannot contract"), ShapeError);
}
