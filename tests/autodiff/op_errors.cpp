// Bad operands of every primitive, as a table that a new primitive must join: shapes, ranks and axes that do not fit; and for each operand nothing, a value whose trace has ended, one of an
// inner function, one of another thread. Every message has the operation's name in front, and the layer in front of that. Read errors.cpp for the rest of the library.
#include "linnet/tests/autodiff/sized.h"

#include <thread>

using namespace linnet::autodiff;
using samples::Row, samples::Values;

namespace {

using F = Var (*)(Values);
struct Bad {
  std::vector<Shape> in;
  F f;
  std::string text;
};
using Table = std::map<std::string_view, std::vector<Bad>>;

const Primitive& primitive(std::string_view name) {
  for (const Primitive* p : primitives())
    if (p->name == name) return *p;
  throw std::logic_error("no such primitive");
}
Body body_of(Shape s) { return {std::make_shared<const Program>(trace([](Values u) -> std::vector<Var> { return {exp(u[0])}; }, std::vector{s})), nullptr, nullptr}; }
const Window window{{3, 3, 1, 1, 1, 0}, {4, 4, 3, 1, 1, 1}, false};

// Of operands that broadcast.
std::vector<Bad> pairs(const std::string& name, F f, F itself) {
  const std::string rule = "; equal extents or 1 are needed";
  return {{{{2, 3}, {4}}, f, name + ": shapes [2,3] and [4] do not broadcast: axis -1 is 3 and 4" + rule},
          {{{2, 3}, {3, 3}}, f, name + ": shapes [2,3] and [3,3] do not broadcast: axis -2 is 2 and 3" + rule},
          {{{0}, {2}}, f, name + ": shapes [0] and [2] do not broadcast: axis -1 is 0 and 2" + rule},
          {{{2}, {3}}, itself, name + ": operands must have one shape, got [2] and [3]"}};
}
// A reduction or a cumulative sum over an axis.
std::vector<Bad> axes(const std::string& name, F second, F third_from_last, F first) {
  return {{{{2, 3}}, second, name + ": there is no axis 2 in [2,3], which has rank 2"},
          {{{2, 3}}, third_from_last, name + ": there is no axis -3 in [2,3], which has rank 2"},
          {{{}}, first, name + ": there is no axis 0 in [], which has rank 0"}};
}
std::vector<Bad> squares(const std::string& name, F f) {
  const std::string rule = name + ": square matrices [..,n,n] are needed, got ";
  return {{{{2, 3}}, f, rule + "[2,3]"}, {{{3}}, f, rule + "[3]"}, {{{}}, f, rule + "[]"}};
}

Table arithmetic() {
  Table t;
  t["add"] = pairs("add", [](Values v) { return v[0] + v[1]; }, [](Values v) { return emit(primitive("add"), v); });
  t["sub"] = pairs("sub", [](Values v) { return v[0] - v[1]; }, [](Values v) { return emit(primitive("sub"), v); });
  t["mul"] = pairs("mul", [](Values v) { return v[0] * v[1]; }, [](Values v) { return emit(primitive("mul"), v); });
  t["div"] = pairs("div", [](Values v) { return v[0] / v[1]; }, [](Values v) { return emit(primitive("div"), v); });
  t["pow"] = pairs("pow", [](Values v) { return pow(v[0], v[1]); }, [](Values v) { return emit(primitive("pow"), v); });
  t["where"] = pairs("where", [](Values v) { return where(v[0], v[1], 0.0); }, [](Values v) { return emit(primitive("where"), std::array{v[0], v[0], v[1]}); });
  t["fill"] = {{{{2}}, [](Values) { return fill(nullptr, {2}, 1); }, "fill: there is no trace to record it in; use it inside a function that is differentiated or compiled"},
               {{{2}}, [](Values) { return zeros_like(1.0); }, "fill: there is no trace to record it in"},
               {{{2}}, [](Values) { return zeros_like(Var()); }, "zeros_like: an operand holds nothing"}};
  return t;
}

Table reductions() {
  Table t;
  t["sum"] = axes("sum", [](Values v) { return sum(v[0], {2}); }, [](Values v) { return sum(v[0], {-3}); }, [](Values v) { return sum(v[0], {0}); });
  t["max"] = axes("max", [](Values v) { return max(v[0], {2}); }, [](Values v) { return max(v[0], {-3}); }, [](Values v) { return max(v[0], {0}); });
  t["cumsum"] = axes("cumsum", [](Values v) { return cumsum(v[0], 2); }, [](Values v) { return cumsum(v[0], -3); }, [](Values v) { return cumsum(v[0], 0); });
  t["sum"].push_back({{{2, 3}}, [](Values v) { return sum(v[0], {0, -2}); }, "sum: axis 0 of [2,3] is named twice"});
  t["max"].push_back({{{2, 0}}, [](Values v) { return max(v[0], {1}); }, "max: axes 1 to 2 of [2,0] are empty, and nothing has no maximum"});
  t["dot"] = {{{{2, 3}, {4, 5}}, [](Values v) { return dot(v[0], v[1]); }, "dot: cannot contract [2,3] with [4,5]; the inner extents and the leading axes must agree"},
              {{{2, 3, 4}, {3, 4, 5}}, [](Values v) { return dot(v[0], v[1]); }, "dot: cannot contract [2,3,4] with [3,4,5]; the inner extents and the leading axes must agree"},
              {{{2, 3}, {}}, [](Values v) { return dot(v[0], v[1]); }, "dot: operands need at least one axis, got [2,3] and []; use * with scalars"},
              {{{3}, {3, 2}}, [](Values v) { return dot(v[0], v[1], {true, false}); }, "dot: a vector cannot be transposed, got [3] and [3,2]"}};
  t["broadcast"] = {{{{2}}, [](Values v) { return broadcast(v[0], 2, {3}); }, "broadcast: no place 2 for new axes in [2], which has rank 1"},
                    {{{2}}, [](Values v) { return broadcast(v[0], -1, {3}); }, "broadcast: no place -1 for new axes in [2], which has rank 1"},
                    {{{1, 1, 1, 1, 1, 1, 1}}, [](Values v) { return broadcast(v[0], 0, {2, 2}); }, "broadcast: shape: [1,1,1,1,1,1,1] with [2,2] inserted has more than 8 axes"}};
  return t;
}

Table moves() {
  Table t;
  t["reshape"] = {{{{2, 3}}, [](Values v) { return reshape(v[0], {4}); }, "reshape: [2,3] has 6 values, [4] has 4"},
                  {{{2, 3}}, [](Values v) { return reshape(v[0], {}); }, "reshape: [2,3] has 6 values, [] has 1"},
                  {{{}}, [](Values v) { return reshape(v[0], {0}); }, "reshape: [] has 1 values, [0] has 0"}};
  t["transpose"] = {{{{2, 3, 4}}, [](Values v) { return transpose(v[0]); }, "transpose: a matrix is needed, got [2,3,4]; give the order of the axes"},
                    {{{2, 3}}, [](Values v) { return transpose(v[0], {0}); }, "transpose: 1 axes were given for [2,3]"},
                    {{{2, 3}}, [](Values v) { return transpose(v[0], {1, -1}); }, "transpose: axis 1 is named twice for [2,3]"}};
  t["slice"] = {{{{2, 3}}, [](Values v) { return slice(v[0], 1, 2, 2); }, "slice: 2 to 4 is outside of axis 1 of [2,3]"},
                {{{2, 3}}, [](Values v) { return slice(v[0], 0, 1, -1); }, "slice: 1 to 0 is outside of axis 0 of [2,3]"},
                {{{}}, [](Values v) { return slice(v[0], 0, 0, 1); }, "slice: there is no axis 0 in [], which has rank 0"}};
  t["pad"] = {{{{2}}, [](Values v) { return pad(v[0], 0, -1, 3); }, "pad: -1 in front and 3 behind axis 0 of [2]; neither may be negative"},
              {{{2}}, [](Values v) { return pad(v[0], 0, 1, -1); }, "pad: 1 in front and -1 behind axis 0 of [2]; neither may be negative"},
              {{{2}}, [](Values v) { return pad(v[0], 1, 1, 1); }, "pad: there is no axis 1 in [2], which has rank 1"}};
  t["concatenate"] = {{{{2, 3}, {2, 4}}, [](Values v) { return concatenate({v[0], v[1]}, 0); }, "concatenate: [2,3] and [2,4] differ in an axis other than 0"},
                      {{{2, 3}, {2}}, [](Values v) { return concatenate({v[0], v[1]}, 0); }, "concatenate: [2,3] and [2] differ in an axis other than 0"},
                      {{{2}, {2}}, [](Values v) { return concatenate({v[0], v[1]}, 1); }, "concatenate: there is no axis 1 in [2], which has rank 1"},
                      {{{2}}, [](Values) { return concatenate({}, 0); }, "concatenate: no arrays came; at least one is needed"}};
  t["gather"] = {{{{3, 2}, {2, 2}}, [](Values v) { return gather(v[0], v[1]); }, "gather: rows [n, …] and a vector of indices are needed, got [3,2] and [2,2]"},
                 {{{}, {2}}, [](Values v) { return gather(v[0], v[1]); }, "gather: rows [n, …] and a vector of indices are needed, got [] and [2]"},
                 {{{3, 2}, {2}}, [](Values v) { return emit(primitive("gather"), v, Rows{4}); }, "gather: the table [3,2] must have 4 rows"}};
  t["scatter_add"] = {{{{3, 2}, {2}}, [](Values v) { return scatter_add(v[0], v[1], 4); }, "scatter_add: 3 rows came with 2 indices"},
                      {{{3, 2}, {}}, [](Values v) { return scatter_add(v[0], v[1], 4); }, "scatter_add: rows [n, …] and a vector of indices are needed, got [3,2] and []"},
                      {{{2}, {2}}, [](Values v) { return scatter_add(v[0], v[1], -1); }, "scatter_add: the number of rows must not be negative, got -1"}};
  return t;
}

Table the_rest() {
  Table t;
  t["patches"] = {{{{2, 3}}, [](Values v) { return patches(v[0], {1, 1}); }, "patches: images [n,height,width,channels] or sequences [n,length,channels] are needed, got [2,3]"},
                  {{{1, 2, 2, 1}}, [](Values v) { return patches(v[0], {0, 1}); }, "patches: a window of 0 taps with stride 1 and dilation 1; each must be at least 1"},
                  {{{1, 3, 5, 1}}, [](Values v) { return emit(primitive("patches"), v, window); }, "patches: images [n,3,4,c] are needed, got [1,3,5,1]"}};
  t["unpatches"] = {{{{1, 3, 4, 4}}, [](Values v) { return emit(primitive("unpatches"), v, window); }, "unpatches: patches [n,3,4,3 c] are needed, got [1,3,4,4]"},
                    {{{1, 3, 3, 3}}, [](Values v) { return emit(primitive("unpatches"), v, window); }, "unpatches: patches [n,3,4,3 c] are needed, got [1,3,3,3]"},
                    {{{3, 4, 3}}, [](Values v) { return emit(primitive("unpatches"), v, window); }, "unpatches: patches [n,3,4,3 c] are needed, got [3,4,3]"}};
  t["conv"] = {{{{1, 3, 5, 1}, {3, 2}}, [](Values v) { return emit(primitive("conv"), v, window); }, "conv: images [n,3,4,c] are needed, got [1,3,5,1]"},
               {{{1, 3, 4, 2}, {3, 2}}, [](Values v) { return emit(primitive("conv"), v, window); }, "conv: weights [6,f] are needed for images [1,3,4,2], got [3,2]"},
               {{{1, 3, 4, 2}, {6}}, [](Values v) { return emit(primitive("conv"), v, window); }, "conv: weights [6,f] are needed for images [1,3,4,2], got [6]"}};
  t["conv_images"] = {{{{1, 3, 5, 2}, {3, 2}}, [](Values v) { return emit(primitive("conv_images"), v, window); }, "conv_images: results of conv [n,3,4,f] are needed, got [1,3,5,2]"},
                      {{{1, 3, 4, 2}, {3, 3}}, [](Values v) { return emit(primitive("conv_images"), v, window); }, "conv_images: weights [3 c,2] are needed for [1,3,4,2], got [3,3]"},
                      {{{1, 3, 4, 2}, {4, 2}}, [](Values v) { return emit(primitive("conv_images"), v, window); }, "conv_images: weights [3 c,2] are needed for [1,3,4,2], got [4,2]"}};
  t["conv_weights"] = {{{{1, 3, 4}, {1, 3, 4, 2}}, [](Values v) { return emit(primitive("conv_weights"), v, window); }, "conv_weights: images [n,3,4,c] are needed, got [1,3,4]"},
                       {{{1, 3, 4, 2}, {1, 2, 4, 2}}, [](Values v) { return emit(primitive("conv_weights"), v, window); }, "conv_weights: results of conv [n,3,4,f] are needed, got [1,2,4,2]"},
                       {{{1, 3, 4, 2}, {2, 3, 4, 2}}, [](Values v) { return emit(primitive("conv_weights"), v, window); }, "conv_weights: as many images as results are needed, got [1,3,4,2] and [2,3,4,2]"}};
  t["lower_triangle"] = squares("lower_triangle", [](Values v) { return lower_triangle(v[0]); });
  t["cholesky"] = squares("cholesky", [](Values v) { return cholesky(v[0]); });
  const std::string rule = "triangular_solve: a factor [..,n,n] and right sides [..,n,k] or [..,n] are needed, with equal leading axes; got ";
  t["triangular_solve"] = {{{{2, 3}, {2, 3}}, [](Values v) { return triangular_solve(v[0], v[1]); }, "triangular_solve: square matrices [..,n,n] are needed, got [2,3]"},
                           {{{2, 2}, {3, 2}}, [](Values v) { return triangular_solve(v[0], v[1]); }, rule + "[2,2] and [3,2]"},
                           {{{4, 2, 2}, {3, 2, 2}}, [](Values v) { return triangular_solve(v[0], v[1]); }, rule + "[4,2,2] and [3,2,2]"}};
  t["call"] = {{{{2}}, [](Values v) { return emit(primitive("call"), v, body_of({3})); }, "call: operand 0 is [2], the function takes [3]"},
               {{{}}, [](Values v) { return emit(primitive("call"), v, body_of({1})); }, "call: operand 0 is [], the function takes [1]"},
               {{{3}, {3}}, [](Values v) { return emit(primitive("call"), v, body_of({3})); }, "call: 2 operands came, the function takes 1"}};
  return t;
}

const Table& table() {
  static const Table all = [] {
    Table t;
    for (const Table& part : {arithmetic(), reductions(), moves(), the_rest()}) t.insert(part.begin(), part.end());
    return t;
  }();
  return all;
}

// What f throws, or nothing.
template <class G> std::string thrown(G&& f) {
  try {
    f();
  } catch (const ShapeError& e) {
    return e.what();
  } catch (const TraceError& e) {
    return e.what();
  }
  return "";
}
std::string thrown_in(const char* layer, const Bad& bad) {
  return thrown([&] {
    trace([&](Values v) -> std::vector<Var> {
      const Tape::Scope outer(layer ? v[0].tape() : nullptr, "serial"), inner(layer ? v[0].tape() : nullptr, layer ? layer : "");
      return {bad.f(v)};
    }, bad.in);
  });
}
bool has(const std::string& came, const std::string& expected) { return !expected.empty() && came.starts_with(expected); }

Var ended() {
  Tape tape;
  const Var x = tape.input({3});
  tape.seal(std::array{x});
  return x;
}

// The instruction of a primitive on two values, again on a tape of its own with one operand exchanged: by what `bad` answers.
template <class G> std::string with_operand(const Primitive& p, std::size_t k, G&& bad) {
  const Row row = samples::sized(p.name, 2);
  const Program program = trace(row.f, samples::shapes(row.x));
  const Instruction& c = program.code.back();
  REQUIRE(c.primitive == &p);
  return thrown([&] {
    Tape tape;
    const Tape::Scope layer(&tape, "dense_0");
    std::vector<Var> in;
    for (const Shape& s : program.operand_shapes(c)) in.push_back(tape.input(s));
    bad(tape, in[k], [&] { tape.emit(p, in, c.attributes); });
  });
}

}  // namespace

TEST_CASE("every primitive that has a rule for its operands refuses three that break it, in its name and with what came") {
  for (const Primitive* p : primitives()) {
    CAPTURE(std::string(p->name));
    const Row row = samples::sized(p->name, 3);
    const bool takes_any = p->map.exists() && row.x.size() == 1 && p->name != "fill";  // one operand of any shape: only the tests below can break it
    CHECK((table().contains(p->name) ? table().at(p->name).size() : 0) >= (takes_any ? 0 : 3));
  }
  for (const auto& [name, rows] : table())
    for (const Bad& bad : rows) {
      CAPTURE(std::string(name));
      CAPTURE(bad.text);
      const std::string came = thrown_in(nullptr, bad);
      CAPTURE(came);
      CHECK(has(came, bad.text));
    }
}

TEST_CASE("every error of an operation within a layer has the layer in front, once") {
  for (const auto& [name, rows] : table())
    for (const Bad& bad : rows) {
      CAPTURE(std::string(name));
      const std::string came = thrown_in("dense_2", bad);
      CAPTURE(came);
      CHECK(has(came, "serial/dense_2: " + bad.text));
    }
}

TEST_CASE("every primitive refuses, operand by operand, nothing, a value whose trace ended, one of an inner function and one of another thread, in its name and layer") {
  for (const Primitive* p : primitives()) {
    if (p->name == "fill") continue;  // it has no operand
    CAPTURE(std::string(p->name));
    int refused = 0;
    const std::string front = "dense_0: " + std::string(p->name) + ": ";
    const std::size_t operands = trace(samples::sized(p->name, 2).f, samples::shapes(samples::sized(p->name, 2).x)).code.back().in.size();
    REQUIRE(operands > 0);
    for (std::size_t k = 0; k < operands; ++k) {
      CAPTURE(k);
      const auto expect = [&](const std::string& came, const char* text) {
        CAPTURE(came);
        CHECK(has(came, front + text));
        refused += has(came, front);
      };
      expect(with_operand(*p, k, [](Tape&, Var& v, auto go) { v = Var(); go(); }), "an operand holds nothing");
      expect(with_operand(*p, k, [](Tape&, Var& v, auto go) { v = ended(); go(); }), "a traced value was used after its trace ended");
      expect(with_operand(*p, k, [](Tape&, Var& v, auto go) {
        Tape inner;
        v = inner.input(v.shape());
        go();
      }), "an operand belongs to an inner function that is still being traced");
      expect(with_operand(*p, k, [](Tape&, Var& v, auto go) {
        std::unique_ptr<Tape> there;
        std::thread([&] { v = (there = std::make_unique<Tape>())->input(v.shape()); }).join();
        go();
      }), "an operand was recorded by another thread");
    }
    CHECK(refused >= 3);
  }
}

TEST_CASE("operations name themselves where a value is used after its trace ended") {
  const Var x = ended();
  const std::pair<const char*, std::function<void()>> uses[] = {
      {"add", [&] { x + 1.0; }}, {"sub", [&] { 1.0 - x; }}, {"scale", [&] { 2.0 * x; }}, {"neg", [&] { -x; }}, {"pow", [&] { pow(x, 2.0); }}, {"where", [&] { where(x, x, x); }},
      {"dot", [&] { dot(x, x); }}, {"contract", [&] { contract(x, {0}, x, {0}); }}, {"sum", [&] { sum(x); }}, {"max", [&] { max(x); }}, {"min", [&] { min(x, {0}); }}, {"mean", [&] { mean(x); }},
      {"variance", [&] { variance(x, {0}); }}, {"cumsum", [&] { cumsum(x, 0); }}, {"broadcast", [&] { broadcast(x, 0, {2}); }}, {"broadcast_to", [&] { broadcast_to(x, {2, 3}); }},
      {"reshape", [&] { reshape(x, {3, 1}); }}, {"transpose", [&] { transpose(x); }}, {"transpose", [&] { transpose(x, {0}); }}, {"slice", [&] { slice(x, 0, 0, 1); }}, {"pad", [&] { pad(x, 0, 1, 1); }},
      {"concatenate", [&] { concatenate({x, x}, 0); }}, {"gather", [&] { gather(x, x); }}, {"scatter_add", [&] { scatter_add(x, x, 3); }}, {"zeros_like", [&] { zeros_like(x); }},
      {"patches", [&] { patches(x, {1, 1}); }}, {"conv", [&] { conv(x, x); }}, {"sum_pool", [&] { sum_pool(x, {1, 1}); }}, {"cholesky", [&] { cholesky(x); }},
      {"triangular_solve", [&] { triangular_solve(x, x); }}, {"solve_positive", [&] { solve_positive(x, x); }}, {"lower_triangle", [&] { lower_triangle(x); }}, {"diagonal", [&] { diagonal(x); }}};
  for (const auto& [name, use] : uses) {
    CAPTURE(std::string(name));
    const std::string came = thrown(use);
    CAPTURE(came);
    CHECK(has(came, std::string(name) + ": a traced value was used after its trace ended"));
  }
}

TEST_CASE("an error of a run has the layer of its instruction in front, once, in derivatives, checkpoints, loops and lanes too") {
  const Array<double> table({3, 2}, 1.0), outside({2}, {0, 9}), no_factor({2, 2}, {1, 0, 2, 0}), indefinite({2, 2}, {1, 2, 2, 1});
  const auto within = [](auto f) {
    return [f](Var a, auto... more) {
      const Tape::Scope outer(a.tape(), "serial"), inner(a.tape(), "dense_2");
      return sum(f(a, more...));
    };
  };
  const char* const index = "serial/dense_2: gather: index 9 at position 1 is no row of 0 to 2";
  const auto rows = within([](Var t, Var i) { return gather(t, i); });
  CHECK_THROWS_WITH_AS(compile(rows, table, outside)(table, outside), index, NumericalError);
  CHECK_THROWS_WITH_AS(grad(within([](Var t, Var i) { return gather(t * t, i); }), table, outside), index, NumericalError);
  const Array<double> two({2, 2}, 1.0);
  CHECK_THROWS_WITH_AS(compile(within([](Var r, Var i) { return scatter_add(r, i, 3); }), two, outside)(two, outside), "serial/dense_2: scatter_add: index 9 at position 1 is no row of 0 to 2", NumericalError);
  CHECK_THROWS_WITH_AS(compile(within([](Var a) { return cholesky(a); }), indefinite)(indefinite), doctest::Contains("serial/dense_2: cholesky: pivot 1 of 2 rows is -3"), NumericalError);
  CHECK_THROWS_WITH_AS(compile(within([](Var a) { return triangular_solve(a, a); }), no_factor)(no_factor), doctest::Contains("serial/dense_2: triangular_solve: entry 1 on the diagonal"), NumericalError);
  const auto kept = within([](Var t, Var i) { return checkpoint([](Values v) -> std::vector<Var> { return {gather(v[0], v[1])}; })(std::array{t, i})[0]; });
  CHECK_THROWS_WITH_AS(compile(kept, table, outside)(table, outside), index, NumericalError);
  const auto loop = within([](Var t, Var i) { return scan([&](Values s) -> std::vector<Var> { return {s[0] + sum(gather(t, i))}; }, {sum(t)}, {}, 2)[0]; });
  CHECK_THROWS_WITH_AS(compile(loop, table, outside)(table, outside), index, NumericalError);
  CHECK_THROWS_WITH_AS(compile([](Var t, Var i) { return gather(t, i); }, table, outside)(table, outside), "gather: index 9 at position 1 is no row of 0 to 2", NumericalError);
}

TEST_CASE("an error within a layer that is thrown by no operation has the layer in front, and one after it has not") {
  Tape tape;
  const Var x = tape.input({2, 3});
  {
    const Tape::Scope layer(&tape, "dense_2");
    CHECK_THROWS_WITH_AS(Array<double>({2}).rows(1, 4), doctest::Contains("dense_2: array: "), ShapeError);
    CHECK_THROWS_WITH_AS(clip(x, 2, 1), doctest::Contains("dense_2: clip: the bounds are 2 and 1"), NumericalError);
    CHECK_THROWS_WITH_AS(layer_norm(x, 0, -1), doctest::Contains("dense_2: layer_norm: epsilon is -1"), NumericalError);
    CHECK_THROWS_WITH_AS(scan([](Values) { return std::vector<Var>(); }, {x}, {}, 0), "dense_2: scan: the length must be at least 1, got 0", ShapeError);
    CHECK_THROWS_WITH_AS(custom_jvp([](Values v) -> std::vector<Var> { return {dot(v[0], v[0])}; }, {})(std::array{x}), doctest::Contains("dense_2: dot: cannot contract [2,3] with [2,3]"), ShapeError);
    std::string elsewhere;
    std::thread([&] { elsewhere = thrown([] { Array<double>({2}).rows(1, 4); }); }).join();
    CHECK(elsewhere.starts_with("array: "));
  }
  CHECK_THROWS_WITH_AS(reshape(x, {4}), "reshape: [2,3] has 6 values, [4] has 4", ShapeError);
}
