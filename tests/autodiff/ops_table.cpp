// The table of primitives: a row each, with functions and inputs of awkward shapes. Derivatives to the third order, completeness of the records
// and memory plans are checked for every row; a primitive without a row fails the suite. Values are checked in ops_values.cpp.
#include "linnet/autodiff/plan.h"
#include "linnet/autodiff/testing.h"
#include "linnet/tests/autodiff/rows.h"

#include <doctest/doctest.h>

#include <map>
#include <set>

using namespace linnet::autodiff;
using samples::Arrays;

namespace {

using Sample = samples::Row;
using samples::first, samples::kinked, samples::one, samples::second, samples::Table, samples::third, samples::Values;

std::vector<Shape> awkward_shapes() { return {Shape{}, {1}, {7}, {17}, {0}, {2, 0, 3}, {3, 1, 2}, {2100}}; }

DerivativeCheck checks(Index size, bool differences = true) { return {.order = size > 1000 ? 1 : size > 10 || size == 0 ? 2 : 3, .differences = differences}; }

std::vector<Sample> unary(Var (*f)(const Var&), double low, double high, bool differences = true) {
  std::vector<Sample> row;
  for (const Shape& s : awkward_shapes()) row.push_back({str(s), one([f](Values v) { return f(v[0]); }), {samples::random<double>(s, 3, low, high)}, checks(s.size(), differences)});
  return row;
}

// Of equal shapes, of shapes that broadcast, and of one value twice.
template <class F> std::vector<Sample> binary(F f, double low, double high) {
  std::vector<Sample> row;
  auto both = [f](Values v) { return f(v[0], v[1]); };
  for (const Shape& s : awkward_shapes()) row.push_back({str(s), one(both), {samples::random<double>(s, 4, low, high), samples::random<double>(s, 5, low, high)}, checks(s.size())});
  const std::pair<Shape, Shape> pairs[] = {{{}, {5}}, {{5}, {}}, {{3, 1}, {1, 4}}, {{3}, {2, 3}}, {{2, 3}, {2, 1}}, {{1}, {1, 1}}, {{0, 3}, {1, 3}}, {{2, 1, 3}, {4, 1}}, {{700}, {3, 700}}};
  for (const auto& [a, b] : pairs) row.push_back({str(a) + str(b), one(both), {samples::random<double>(a, 6, low, high), samples::random<double>(b, 7, low, high)}, checks(a.size() + b.size())});
  row.push_back({"one value twice", one([f](Values v) { return f(v[0], v[0]) * exp(v[0]); }), {samples::random<double>({7}, 8, low, high)}, {.order = 3}});
  return row;
}

Array<double> random(Shape s, int seed = 11, double low = -1, double high = 1) { return samples::random<double>(s, static_cast<std::uint64_t>(seed), low, high); }
Var index(std::initializer_list<double> at) { return constant(Array<double>({static_cast<Index>(at.size())}, at)); }
// No value near 0: a sign stays what it is in the reach of differences.
Array<double> away(Shape s) {
  Array<double> a = random(s);
  for (double& v : a) v += v < 0 ? -0.125 : 0.125;
  return a;
}
// Values no two of which are near each other: a maximum stays where it is in the reach of differences.
Array<double> apart(Shape s) {
  Array<double> a(s);
  for (Index i = 0; i < a.size(); ++i) a.data()[i] = static_cast<double>((i * 7919) % 1009) / 64;
  return a;
}

std::vector<Sample> powers() {
  std::vector<Sample> row = binary([](Var x, Var y) { return pow(x, y); }, 0.3, 1.8);
  for (const double e : {2.0, 3.0, -1.0, 0.5, 1.0, 0.0}) row.push_back({"exponent " + std::to_string(e), one([e](Values v) { return pow(v[0], e); }), {random({7}, 9, .3, 1.8)}, third});
  row.push_back({"negative base, whole exponent", one([](Values v) { return pow(v[0], 3.0); }), {random({7}, 9, -1.8, -.3)}, third});
  return row;
}
std::vector<Sample> wheres() {
  const Function by_sign = one([](Values v) { return where(v[0] > 0.0, v[1], v[2]); });
  const Var mask = constant(Array<double>({3, 2}, {1, 0, -2, 0, 0.5, 1}));
  return {{"equal shapes", by_sign, {away({17}), random({17}, 12), random({17}, 13)}, second},
          {"broadcast", by_sign, {away({4, 1}), random({1, 2}, 12), random({}, 13)}, third},
          {"empty", by_sign, {random({0}), random({0}, 12), random({0}, 13)}, second},
          {"beyond one strip", by_sign, {random({2100}), random({2100}, 12), random({}, 13)}, {.order = 1, .differences = false}},
          {"a mask of data", one([mask](Values v) { return where(mask, v[0] * v[0], sin(v[0])); }), {random({3, 2})}, third},
          {"a number beside a value", one([mask](Values v) { return where(mask, 1.5, v[0] * v[0]); }), {random({2})}, third}};
}
std::vector<Sample> dots() {
  std::vector<Sample> row;
  for (const bool ta : {false, true})
    for (const bool tb : {false, true}) {
      const Function f = one([=](Values v) { return dot(v[0], v[1], {ta, tb}); });
      for (const auto& [m, k, n] : {std::array<Index, 3>{3, 4, 2}, {1, 7, 1}, {1, 1, 1}, {2, 0, 3}, {0, 2, 3}, {33, 5, 17}})
        row.push_back({"dot", f, {random(ta ? Shape{k, m} : Shape{m, k}), random(tb ? Shape{n, k} : Shape{k, n}, 12)}, {.order = m * k * n > 30 ? 2 : 3}});
      row.push_back({"dot of a batch", f, {random(ta ? Shape{2, 3, 4, 2} : Shape{2, 3, 2, 4}), random(tb ? Shape{2, 3, 3, 4} : Shape{2, 3, 4, 3}, 12)}, second});
      row.push_back({"dot with itself", one([=](Values v) { return dot(v[0], v[0], {ta, tb}); }), {random({3, 3})}, third});
    }
  const Function plain = one([](Values v) { return dot(v[0], v[1]); });
  row.push_back({"vectors", plain, {random({5}), random({5}, 12)}, third});
  row.push_back({"matrix and vector", plain, {random({3, 5}), random({5}, 12)}, third});
  row.push_back({"vector and matrix", plain, {random({5}), random({5, 3}, 12)}, third});
  row.push_back({"more rows", plain, {random({2, 3, 4}), random({4, 2}, 12)}, third});
  row.push_back({"a constant", one([c = constant(random({4, 2}, 12))](Values v) { return dot(v[0], c); }), {random({3, 4})}, second});
  return row;
}

std::vector<Sample> axes_rows(bool maximum) {
  std::vector<Sample> row;
  auto reduce = [maximum](const Var& x, std::vector<Index> axes, bool keep) { return maximum ? max(x, axes, keep) : sum(x, axes, keep); };
  for (const bool keep : {false, true})
    for (const std::vector<Index>& axes : std::vector<std::vector<Index>>{{0}, {1}, {2}, {-1, 0}, {0, 1}, {2, 0, 1}, {-2}})
      row.push_back({"axes", one([=](Values v) { return square(reduce(v[0], axes, keep)); }), {apart({3, 4, 2})}, {.order = 2}});
  for (const Shape& s : {Shape{1}, {7}, {17}, {1, 1}, {2100}}) row.push_back({"all of " + str(s), one([=](Values v) { return maximum ? max(v[0]) : sum(v[0]); }), {apart(s)}, checks(s.size())});
  row.push_back({"many rows", one([=](Values v) { return reduce(v[0], {0}, false); }), {apart({300, 5})}, first});
  if (!maximum) {
    row.push_back({"nothing", one([](Values v) { return sum(v[0], {1}); }), {Array<double>({3, 0, 2})}, second});
    row.push_back({"a scalar", one([](Values v) { return sum(v[0], {}); }), {random({})}, third});
  }
  return row;
}
std::vector<Sample> maxima() {
  std::vector<Sample> row = axes_rows(true);
  row.push_back({"ties", one([](Values v) { return max(v[0], {1}); }), {Array<double>({2, 3}, {1, 1, 0, 2, 2, 2})}, kinked});
  row.push_back({"no rows", one([](Values v) { return max(v[0], {1}); }), {Array<double>({0, 3})}, second});
  return row;
}
std::vector<Sample> broadcasts() {
  std::vector<Sample> row;
  for (const Index at : {0, 1, 2})
    for (const Shape& extents : {Shape{3}, {1}, {2, 2}, {0}}) row.push_back({"at " + std::to_string(at) + " " + str(extents), one([=](Values v) { return square(broadcast(v[0], at, extents)); }), {random({2, 3})}, second});
  row.push_back({"a scalar", one([](Values v) { return broadcast(v[0], 0, {2100}); }), {random({})}, first});
  for (const Shape& to : {Shape{4, 3, 2}, {1, 3, 2}, {2, 4, 3, 2}}) row.push_back({"to " + str(to), one([=](Values v) { return broadcast_to(v[0], to) * v[0]; }), {random({3, 1})}, third});
  return row;
}

std::vector<Sample> transposes() {
  std::vector<Sample> row;
  for (const std::vector<Index>& axes : std::vector<std::vector<Index>>{{1, 0, 2}, {2, 1, 0}, {0, 2, 1}, {1, 2, 0}, {-1, 0, 1}})
    for (const Shape& s : {Shape{2, 3, 4}, {1, 3, 1}, {0, 2, 3}}) row.push_back({str(s), one([=](Values v) { return transpose(v[0], axes); }), {random(s)}, {.order = s.size() > 10 ? 1 : 2}});
  row.push_back({"a matrix", one([](Values v) { return transpose(v[0]) * transpose(v[0]); }), {random({17, 3})}, second});
  row.push_back({"beyond a block", one([](Values v) { return transpose(v[0]); }), {random({37, 61})}, first});
  return row;
}
std::vector<Sample> slices(bool pads) {
  std::vector<Sample> row;
  for (const Index axis : {0, 1, -1})
    for (const auto& [start, size] : {std::pair<Index, Index>{0, 1}, {1, 2}, {2, 0}, {1, 1}})
      row.push_back({"axis " + std::to_string(axis), one([=, start = start, size = size](Values v) { return pads ? square(pad(v[0], axis, start, size)) : square(slice(v[0], axis, start, size)); }), {random({3, 4, 3})}, second});
  row.push_back({"long", one([=](Values v) { return pads ? pad(v[0], 0, 5, 7) : slice(v[0], 0, 5, 2090); }), {random({2100})}, first});
  row.push_back({"empty", one([=](Values v) { return pads ? pad(v[0], 0, 2, 1) : slice(v[0], 0, 0, 0); }), {pads ? Array<double>({0}) : random({2})}, second});
  return row;
}
std::vector<Sample> concatenations() {
  const Function twice = one([](Values v) { return concatenate({v[0], v[1], square(v[0])}, 1); });
  return {{"an inner axis", twice, {random({2, 3, 2}), random({2, 1, 2}, 12)}, second},
          {"a part is empty", twice, {random({2, 1}), random({2, 0}, 12)}, third},
          {"all parts are empty", twice, {random({0, 3}), random({0, 4}, 12)}, second},
          {"one value in three parts", one([](Values v) { return square(concatenate({v[0], v[0], v[0]}, 0)); }), {random({5})}, third},
          {"only one part depends", one([](Values v) { return concatenate({constant(random({3}, 15)), v[0]}, -1); }), {random({4})}, second},
          {"long", one([](Values v) { return concatenate({v[0], v[1]}, 0); }), {random({2049}), random({7}, 12)}, first}};
}
std::vector<Sample> gathers(bool scatter) {
  std::vector<Sample> row;
  const Var some = index({2, 0, 2, 1, 2}), none = index({}), lone = index({0});
  auto add = [&](const char* what, Var at, Shape rows) {
    const Shape table = scatter ? rows.with(0, at.shape()[0]) : rows;
    row.push_back({what, one([=](Values v) { return square(scatter ? scatter_add(v[0], at, 3) : gather(v[0], at)); }), {random(table)}, second});
  };
  add("some rows more than once", some, {3, 4});
  add("no row", none, {3, 4});
  add("one row", lone, {3, 1});
  add("numbers", some, {3});
  add("rows of two axes", some, {3, 2, 2});
  add("rows of nothing", some, {3, 0});
  return row;
}
std::vector<Sample> calls() {
  const Function body = [](Values v) -> std::vector<Var> { return {tanh(dot(v[0], v[1])), sin(v[0]), sum(square(v[1]))}; };
  const Function single = one([](Values v) { return sin(v[0]) * v[0]; });
  const Function captures = one([](Values v) { return checkpoint(one([w = square(v[1])](Values u) { return u[0] * w; }))(v)[0]; });
  const Function some = one([](Values v) { return checkpoint([](Values u) -> std::vector<Var> { return {fill(u[0].tape(), {2}, 3), u[0]}; })(v)[1]; });
  return {{"several outputs", checkpoint(body), {random({3, 4}), random({4, 2}, 12)}, third},
          {"one output", checkpoint(single), {random({2, 3})}, third},
          {"within another", checkpoint(one([single](Values v) { return exp(checkpoint(single)(v)[0]); })), {random({5})}, third},
          {"beside what it would be without", one([single](Values v) { return single(v)[0] * checkpoint(single)(v)[0]; }), {random({5})}, third},
          {"a captured value", captures, {random({4}), random({4}, 12)}, third},
          {"an output that does not depend", some, {random({2})}, second},
          {"a scalar", checkpoint(one([](Values v) { return sum(sin(v[0])); })), {random({3})}, third},
          {"beyond one strip", checkpoint(single), {random({2100})}, first},
          {"empty", checkpoint(single), {random({0})}, second}};
}

Table make_table() {
  Table t;
  t["add"] = binary([](Var x, Var y) { return x + y; }, -1, 1);
  t["sub"] = binary([](Var x, Var y) { return x - y; }, -1, 1);
  t["mul"] = binary([](Var x, Var y) { return x * y; }, -1, 1);
  t["div"] = binary([](Var x, Var y) { return x / y; }, 0.5, 2);
  t["pow"] = powers();
  t["neg"] = unary([](const Var& x) { return -x; }, -1, 1);
  t["scale"] = unary([](const Var& x) { return 2.5 * x; }, -1, 1);
  t["exp"] = unary([](const Var& x) { return exp(x); }, -2, 2);
  t["log"] = unary([](const Var& x) { return log(x); }, 0.5, 3);
  t["sqrt"] = unary([](const Var& x) { return sqrt(x); }, 0.5, 3);
  t["sin"] = unary([](const Var& x) { return sin(x); }, -4, 4);
  t["cos"] = unary([](const Var& x) { return cos(x); }, -4, 4);
  t["erf"] = unary([](const Var& x) { return erf(x); }, -2, 2);
  t["tanh"] = unary([](const Var& x) { return tanh(x); }, -2, 2);
  t["step"] = unary([](const Var& x) { return step(x) * x; }, 0.1, 2);
  t["sign"] = unary([](const Var& x) { return sign(x) * x; }, -2, -0.1);
  t["stop_gradient"] = unary([](const Var& x) { return stop_gradient(x) * x; }, -1, 1, false);
  t["fill"] = unary([](const Var& x) { return fill(x.tape(), x.shape(), 1.5) - x; }, -1, 1);
  t["where"] = wheres();
  t["dot"] = dots();
  t["sum"] = axes_rows(false);
  t["max"] = maxima();
  t["broadcast"] = broadcasts();
  t["reshape"] = {{"in and out", one([](Values v) { return reshape(sin(reshape(v[0], {3, 4})), {2, 6}); }), {random({12})}, second},
                  {"a scalar", one([](Values v) { return reshape(v[0], {}); }), {random({1, 1})}, third},
                  {"empty", one([](Values v) { return reshape(v[0], {0, 7}); }), {random({3, 0})}, second}};
  t["transpose"] = transposes();
  t["slice"] = slices(false);
  t["pad"] = slices(true);
  t["concatenate"] = concatenations();
  t["gather"] = gathers(false);
  t["scatter_add"] = gathers(true);
  t["call"] = calls();
  for (const Table& beside : {samples::more_rows(), samples::window_rows(), samples::linear_algebra_rows()}) t.insert(beside.begin(), beside.end());  // whose derivatives are checked there
  return t;
}
const Table& table() {
  static const Table t = make_table();
  return t;
}

void check_row(std::string_view name) {
  for (const Sample& s : table().at(name)) {
    CAPTURE(std::string(name));
    CAPTURE(s.what);
    try {
      for (const std::string& failure : check_derivatives(s.f, s.x, s.check)) FAIL_CHECK(failure);
    } catch (const std::exception& e) {
      FAIL_CHECK(std::string(e.what()));
    }
  }
}

// A plan for every assignment of lane axes to inputs, up to the first three inputs.
int verify_plans(const Program& p) {
  const int n = std::min(p.n_inputs(), 3);
  int made = 0;
  for (int choice = 0; choice < 1 << 2 * n; ++choice) {
    std::vector<Varies> varies;
    for (int i = 0; i < n; ++i) varies.push_back(static_cast<Varies>(choice >> 2 * i & 3));
    const Lanes lanes{3, 2};
    verify(make_plan(p, varies, lanes), p, lanes);
    ++made;
  }
  return made;
}

}  // namespace

Table samples::all_rows() { return make_table(); }

TEST_CASE("the primitives are those of the design") {
  const std::set<std::string_view> expected = {"call",  "add",  "sub",  "neg",           "mul", "div", "scale",     "exp",     "log",       "sqrt",  "sin", "cos",         "erf",    "tanh",        "pow", "max",
                                               "where", "step", "sign", "stop_gradient", "dot", "sum", "broadcast", "reshape", "transpose", "slice", "pad", "concatenate", "gather", "scatter_add", "fill", "erfc", "expm1", "log1p", "cumsum", "patches", "unpatches", "conv", "conv_images", "conv_weights", "lower_triangle", "cholesky", "triangular_solve"};
  REQUIRE(expected.size() == 43);
  std::set<std::string_view> came;
  for (const Primitive* p : primitives()) CHECK_MESSAGE(came.insert(p->name).second, std::string(p->name), " is listed twice");
  CHECK(came == expected);
}

TEST_CASE("every primitive has what its operands ask for, and nothing else") {
  for (const Primitive* p : primitives()) {
    CAPTURE(std::string(p->name));
    const bool is_call = p->name == "call";
    bool smooth = false, linear = false;
    for (const Operand kind : p->operands.kind) {
      smooth |= kind == Operand::smooth;
      linear |= kind == Operand::linear;
    }
    CHECK((p->infer != nullptr));
    CHECK(p->map.exists() + p->eval.exists() == (is_call ? 0 : 1));
    CHECK((p->map.f32 == nullptr) == (p->map.f64 == nullptr));
    CHECK((p->eval.f32 == nullptr) == (p->eval.f64 == nullptr));
    CHECK((p->jvp != nullptr) == (smooth && !is_call));  // the interpreters differentiate the program of a call
    CHECK((p->transpose != nullptr) == linear);
    CHECK((p->joint ? linear : true));
    CHECK((p->factor ? linear : true));
  }
}

TEST_CASE("every primitive has a row in the table, every row has a primitive and uses it") {
  std::set<std::string_view> names;
  for (const Primitive* p : primitives()) {
    names.insert(p->name);
    CHECK_MESSAGE(table().contains(p->name), std::string(p->name), " has no row in tests/autodiff/ops_table.cpp");
  }
  for (const auto& [name, row] : table()) {
    CAPTURE(std::string(name));
    CHECK(names.contains(name));
    int uses = 0;
    for (const Sample& s : row)
      for (const Instruction& c : trace(s.f, samples::shapes(s.x)).code) uses += c.primitive->name == name;
    CHECK(uses >= static_cast<int>(row.size()) - 2);  // an operation that changes nothing is no instruction
  }
}

TEST_CASE("derivatives of the arithmetic primitives hold to the third order") {
  for (const auto name : {"add", "sub", "mul", "div", "neg", "scale", "pow"}) check_row(name);
}
TEST_CASE("derivatives of the smooth functions hold to the third order") {
  for (const auto name : {"exp", "log", "sqrt", "sin", "cos", "erf", "tanh"}) check_row(name);
}
TEST_CASE("derivatives of the primitives that choose or stop hold to the third order") {
  for (const auto name : {"step", "sign", "stop_gradient", "fill", "where", "max"}) check_row(name);
}
TEST_CASE("derivatives of products, sums and broadcasts hold to the third order") {
  for (const auto name : {"dot", "sum", "broadcast"}) check_row(name);
}
TEST_CASE("derivatives of the primitives that move values hold to the third order") {
  for (const auto name : {"reshape", "transpose", "slice", "pad", "concatenate", "gather", "scatter_add"}) check_row(name);
}
TEST_CASE("derivatives of checkpointed functions hold to the third order") { check_row("call"); }

TEST_CASE("every program of the table and its derivatives are well formed, and their plans share no memory that is in use") {
  int made = 0;
  for (const auto& [name, row] : table())
    for (const Sample& s : row) {
      CAPTURE(std::string(name));
      CAPTURE(s.what);
      const FlatLinearMap<double> map(s.f, {s.x.begin(), s.x.end()}, {});
      const Program value = trace(s.f, samples::shapes(s.x));
      for (const Program* p : {&value, &map.program(), &map.transpose_program()}) {
        CHECK_NOTHROW(check(*p));
        CHECK_NOTHROW(made += verify_plans(*p));
      }
      CHECK_NOTHROW(check_linear(map.program(), static_cast<int>(s.x.size())));
    }
  CHECK(made > 5000);
}
