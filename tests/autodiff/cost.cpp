// What instructions and programs cost: every primitive counted by hand, lanes, bodies of calls, and the table as text.
#include "linnet/autodiff/cost.h"
#include "linnet/autodiff/executor.h"
#include "linnet/nn/layer.h"
#include "linnet/tests/autodiff/samples.h"

#include <doctest/doctest.h>

#include <map>
#include <set>

using namespace linnet::autodiff;

namespace {

using Values = std::span<const Var>;
using Written = std::function<Var(Values)>;

Program record(const Written& f, const std::vector<Shape>& inputs) {
  return trace([&](Values v) -> std::vector<Var> { return {f(v)}; }, inputs);
}

// The cost of the one instruction of this name.
Cost of(const Program& p, std::string_view name) {
  const std::vector<Cost> all = costs(p);
  Cost found;
  int n = 0;
  for (std::size_t k = 0; k < p.code.size(); ++k)
    if (p.code[k].primitive->name == name) {
      found = all[k];
      ++n;
    }
  CHECK(n == 1);
  return found;
}

struct Row {
  const char* name;
  Written f;
  std::vector<Shape> inputs;
  double flops, numbers;
};

std::vector<Row> rows() {
  const Shape a{3, 4};
  const auto unary = [&](const char* name, Var (*f)(const Var&)) { return Row{name, [f](Values v) { return f(v[0]); }, {a}, 12, 24}; };
  std::vector<Row> all{unary("neg", [](const Var& x) { return -x; }), unary("exp", exp), unary("log", log), unary("sqrt", sqrt), unary("sin", sin), unary("cos", cos), unary("erf", erf),
                       unary("erfc", erfc), unary("expm1", expm1), unary("log1p", log1p), unary("tanh", tanh), unary("step", step), unary("sign", sign)};
  const auto add = [&](const char* name, std::vector<Shape> inputs, double flops, double numbers, Written f) { all.push_back({name, std::move(f), std::move(inputs), flops, numbers}); };
  add("add", {a, a}, 12, 36, [](Values v) { return v[0] + v[1]; });
  add("sub", {a, a}, 12, 36, [](Values v) { return v[0] - v[1]; });
  add("mul", {a, a}, 12, 36, [](Values v) { return v[0] * v[1]; });
  add("div", {a, a}, 12, 36, [](Values v) { return v[0] / v[1]; });
  add("pow", {a, a}, 12, 36, [](Values v) { return pow(v[0], v[1]); });
  add("scale", {a}, 12, 24, [](Values v) { return 3.0 * v[0]; });
  add("where", {a, a, a}, 12, 48, [](Values v) { return where(v[0], v[1], v[2]); });
  add("stop_gradient", {a}, 0, 24, [](Values v) { return stop_gradient(v[0]); });
  add("fill", {a}, 0, 12, [](Values v) { return zeros_like(v[0]); });
  add("dot", {{3, 4}, {4, 5}}, 2 * 3 * 4 * 5, 12 + 20 + 15, [](Values v) { return dot(v[0], v[1]); });
  add("sum", {a}, 12, 12 + 3, [](Values v) { return sum(v[0], {1}); });
  add("max", {a}, 12, 12 + 3, [](Values v) { return max(v[0], {1}); });
  add("cumsum", {a}, 12, 24, [](Values v) { return cumsum(v[0], 0); });
  add("broadcast", {a}, 0, 12 + 24, [](Values v) { return broadcast(v[0], 0, {2}); });
  add("reshape", {a}, 0, 24, [](Values v) { return reshape(v[0], {12}); });
  add("transpose", {a}, 0, 24, [](Values v) { return transpose(v[0]); });
  add("slice", {a}, 0, 6 + 6, [](Values v) { return slice(v[0], 1, 1, 2); });  // reads what it takes
  add("pad", {a}, 0, 12 + 21, [](Values v) { return pad(v[0], 1, 1, 2); });
  add("concatenate", {a, {3, 2}}, 0, 12 + 6 + 18, [](Values v) { return concatenate({v[0], v[1]}, 1); });
  add("gather", {{100, 4}, {3}}, 0, 12 + 3 + 12, [](Values v) { return gather(v[0], v[1]); });
  add("scatter_add", {{3, 4}, {3}}, 12, 12 + 3 + 40, [](Values v) { return scatter_add(v[0], v[1], 10); });
  add("patches", {{2, 5, 5, 3}}, 0, 150 + 2 * 9 * 27, [](Values v) { return patches(v[0], {3, 3}, {.padding = Padding::valid}); });
  add("unpatches", {{2, 5, 5, 3}}, 486, 486 + 150, [](Values v) {  // the cotangent of patches
    const Linear l = linearize([](Values x) { return std::vector{patches(x[0], {3, 3}, {.padding = Padding::valid})}; }, v);
    return pull_back(l, v, l.out)[0];
  });
  const auto slide = [](Values v) { return std::vector{conv(v[0], v[1], {.padding = Padding::valid})}; };  // 2 x 4 x 5 places of 27 numbers, 7 features
  const auto cotangent = [=](std::size_t i) { return [=](Values v) { return pull_back(linearize(slide, v.first(2), {}), v.first(2), v.last(1))[i]; }; };
  add("conv", {{2, 6, 7, 3}, {3, 3, 3, 7}}, 2 * 40 * 27 * 7, 252 + 189 + 280, [=](Values v) { return slide(v)[0]; });
  add("conv_images", {{2, 6, 7, 3}, {3, 3, 3, 7}, {2, 4, 5, 7}}, 2 * 40 * 27 * 7, 252 + 189 + 280, cotangent(0));
  add("conv_weights", {{2, 6, 7, 3}, {3, 3, 3, 7}, {2, 4, 5, 7}}, 2 * 40 * 27 * 7, 252 + 189 + 280, cotangent(1));
  add("lower_triangle", {{2, 4, 4}}, 8, 64, [](Values v) { return lower_triangle(v[0], 0.5); });
  add("cholesky", {{2, 6, 6}}, 2 * 72, 144, [](Values v) { return cholesky(v[0]); });
  add("triangular_solve", {{2, 6, 6}, {2, 6, 3}}, 2 * 36 * 3, 72 + 36 + 36, [](Values v) { return triangular_solve(v[0], v[1]); });
  add("call", {{3, 3}}, 54 + 9, 18 + 18, [](Values v) { return checkpoint([](Values x) { return std::vector{exp(dot(x[0], x[0]))}; })(v)[0]; });
  return all;
}

// Kernels of a user's own that are no elementwise ones: what they do is not known unless it is said.
template <class T> void total_kernel(const KernelCall<T>& c) {
  for (Index l = 0; l < c.count(); ++l) c.out[l] = fixed_sum(c.lane(0, l), c.in_shape[0]->size());
}
constexpr Primitive silent{.name = "silent", .operands = {Operand::fixed}, .infer = [](Shapes, const Attributes&) { return Shape{}; }, .eval = {total_kernel<float>, total_kernel<double>}};
constexpr Primitive declared{.name = "declared", .operands = {Operand::fixed}, .infer = [](Shapes, const Attributes&) { return Shape{}; }, .eval = {total_kernel<float>, total_kernel<double>},
                             .flops = [](Shapes in, const Shape&, const Attributes&) { return static_cast<double>(in[0].size()); }};
template <class T> void twice_kernel(const Attributes&, const T* const* in, T* out, Index n) {
  for (Index i = 0; i < n; ++i) out[i] = 2 * in[0][i];
}
constexpr Primitive twice{.name = "twice", .operands = {Operand::fixed}, .infer = [](Shapes in, const Attributes&) { return in[0]; }, .map = {twice_kernel<float>, twice_kernel<double>}};

}  // namespace

TEST_CASE("every primitive costs what is counted by hand") {
  for (const Row& row : rows()) {
    CAPTURE(row.name);
    const Cost c = of(record(row.f, row.inputs), row.name);
    CHECK(c.flops == row.flops);
    CHECK(c.numbers == row.numbers);
    CHECK(c.bytes<float>() == 4 * row.numbers);
    CHECK(c.bytes<double>() == 8 * row.numbers);
  }
}

TEST_CASE("no primitive is left out, and only those that move numbers cost no operation") {
  const std::set<std::string> movers{"fill", "stop_gradient", "broadcast", "reshape", "transpose", "slice", "pad", "concatenate", "gather", "patches"};
  std::map<std::string, double> counted;
  for (const Row& row : rows()) counted[row.name] = row.flops;
  for (const Primitive* p : primitives()) {
    const std::string name(p->name);
    CAPTURE(name);
    REQUIRE_MESSAGE(counted.contains(name), "every primitive has a row above");
    CHECK((counted[name] == 0) == movers.contains(name));
    CHECK((p->flops == no_flops) == movers.contains(name));
    if (p->eval.exists()) CHECK_MESSAGE((p->flops != nullptr), "a kernel that is no elementwise one says what it costs");
  }
}

TEST_CASE("transposed operands and leading axes of a product are counted") {
  CHECK(cost(record([](Values v) { return dot(v[0], v[1], {true, true}); }, {{4, 3}, {5, 4}})) == Cost{120, 47});
  CHECK(cost(record([](Values v) { return dot(v[0], v[1]); }, {{7, 3, 4}, {7, 4, 5}})) == Cost{7 * 120, 7 * 47});
  CHECK(cost(record([](Values v) { return dot(v[0], v[1]); }, {{0, 4}, {4, 5}})).flops == 0);
  CHECK(cost(record([](Values v) { return sum(v[0], {1}); }, {{3, 0}})) == Cost{0, 3});
  CHECK(cost(record([](Values v) { return v[0] * v[0]; }, {{5}})) == Cost{5, 10});  // x is read once
  CHECK(cost(Program()) == Cost{});
}

TEST_CASE("every value is counted in the lanes it varies over") {
  const Program p = record([](Values v) { return dot(v[0], v[1]) + v[2]; }, {{1, 4}, {4, 5}, {1, 5}});
  const std::vector<Varies> inputs{Varies::examples, Varies::nothing, Varies::directions};
  const std::vector<Cost> each = costs(p, inputs, {10, 3});
  REQUIRE(each.size() == 2);
  CHECK(each[0] == Cost{10 * 40, 10 * 4 + 20 + 10 * 5});  // the weights are read once
  CHECK(each[1] == Cost{30 * 5, 10 * 5 + 3 * 5 + 30 * 5});
  CHECK(cost(p, inputs, {10, 3}) == Cost{400 + 150, 110 + 215});
  CHECK(cost(p, {}, {10, 3}) == cost(p));  // nothing varies, nothing is repeated
  // A table is read by every lane, but no more of it than the rows that are taken.
  CHECK(cost(record([](Values v) { return gather(v[0], v[1]); }, {{100, 4}, {3}}), {Varies::nothing, Varies::examples}, {10, 1}) == Cost{0, 10 * (12 + 3 + 12)});
}

TEST_CASE("a loop costs its body times its length, and a body its lanes") {
  const Program p = trace([](Values v) {
    return scan([&](Values s) -> std::vector<Var> { return {tanh(dot(s[0], v[1])), 2.0 * s[1]}; }, {v[0]}, {v[2]}, 50);
  }, std::vector<Shape>{{1, 4}, {4, 4}, {50, 3}});
  const Cost step{2 * 16 + 4 + 3, (4 + 16 + 4) + 8 + 6};
  CHECK(of(p, "call") == Cost{50 * step.flops, 50 * step.numbers});
  // The state of a loop varies as soon as one operand does: here the slices.
  const std::vector<Cost> lanes = costs(p, {Varies::nothing, Varies::nothing, Varies::examples}, {10, 1});
  CHECK(lanes[0] == Cost{50 * 10 * step.flops, 50 * (10 * step.numbers - 9 * 16)});
  const Function inner = checkpoint([](Values x) { return std::vector{exp(x[0])}; });
  const Function outer = checkpoint([&](Values x) { return std::vector{inner(x)[0] * x[0]}; });
  CHECK(cost(trace(outer, std::vector<Shape>{{5}})) == Cost{10, 10 + 15});
  const Function own = custom_jvp([](Values x) { return std::vector{sin(x[0])}; }, [](Values x, Values t) { return std::vector{t[0] * cos(x[0])}; });
  CHECK(cost(trace(own, std::vector<Shape>{{5}})) == Cost{5, 10});
}

TEST_CASE("the table has every instruction, the bodies of calls, totals and the planned memory") {
  const Program p = trace([](Values v) {
    Var h;
    {
      const Tape::Scope layer(v[0].tape(), "dense_0");
      h = dot(v[0], v[1]) + constant(Array<double>({128}));
    }
    const Tape::Scope layer(v[0].tape(), "recurrent_1");
    return scan([](Values s) -> std::vector<Var> { return {tanh(s[0] + s[1])}; }, {h}, {v[2]}, 7);
  }, std::vector<Shape>{{64, 784}, {784, 128}, {7, 64, 128}});
  CHECK(cost_table<float>(p) ==
        "instruction                                  shape     operations  read and written  layer\n"
        "%4 = dot %0 %1                               [64,128]  12.8 MFLOP            635 kB  dense_0\n"
        "%5 = broadcast %3 (axes 0 of [64])           [64,128]      0 FLOP           33.3 kB  dense_0\n"
        "%6 = add %4 %5                               [64,128]  8.19 kFLOP           98.3 kB  dense_0\n"
        "%7 = call %6 %2 (7 steps of 2 instructions)  [64,128]   115 kFLOP           1.15 MB  recurrent_1\n"
        "  %2 = add %0 %1                             [64,128]  57.3 kFLOP            688 kB  recurrent_1\n"
        "  %3 = tanh %2                               [64,128]  57.3 kFLOP            459 kB  recurrent_1\n"
        "total                                                  13.0 MFLOP           1.91 MB\n"
        "planned in float: 131 kB for values between instructions\n");
}

TEST_CASE("lanes have a column, and memory is that of the executor") {
  const Program p = record([](Values v) { return sum(square(dot(v[0], v[1]))); }, {{1, 3}, {3, 2}});
  const std::vector<Varies> inputs{Varies::examples};
  const std::string table = cost_table<double>(p, inputs, {1000, 1});
  const std::string rows =
      "instruction                    shape  lanes  operations  read and written\n"
      "%2 = dot %0 %1                 [1,2]   1000  12.0 kFLOP           40.0 kB\n"
      "%3 = mul %2 %2                 [1,2]   1000  2.00 kFLOP           32.0 kB\n"
      "%4 = sum %3 (axes 0 of [1,2])  []      1000  2.00 kFLOP           24.0 kB\n"
      "total                                        16.0 kFLOP           96.0 kB\n";
  CHECK(table == rows + "planned in double: 16.0 kB for values between instructions\n");
  CHECK(Executor<double>(std::make_shared<const Program>(p), inputs, {1000, 1}).arena_bytes() == 16000);
  CHECK(cost_table<float>(p, inputs, {1000, 1}).find("planned in float: 8.00 kB") != std::string::npos);
}

TEST_CASE("kernels of a user's own count an element as one operation, and a guess is marked") {
  const auto line = [](const Primitive& own) {
    const std::string table = cost_table<float>(record([&](Values v) { return emit(own, std::array{v[0]}); }, {{30}}));
    return table.substr(table.find('\n') + 1);
  };
  const std::string planned = "planned in float: 0 B for values between instructions\n";
  CHECK(line(twice) ==
        "%1 = twice %0  [30]      30 FLOP             240 B\n"
        "total                    30 FLOP             240 B\n" + planned);
  CHECK(line(silent) ==
        "%1 = silent %0  []        ~1 FLOP             124 B\n"
        "total                     ~1 FLOP             124 B\n" + planned);
  CHECK(line(declared) ==
        "%1 = declared %0  []        30 FLOP             124 B\n"
        "total                       30 FLOP             124 B\n" + planned);
}

TEST_CASE("the example of docs/cost.md prints what the page says") {
  namespace nn = linnet::nn;
  const nn::Layer network = nn::serial({nn::Dense(512, {.b_std = 0.05}), nn::Erf(), nn::Dense(10)});
  const auto params = nn::initialize<float>(network, nn::Key(0), {1, 784});
  const auto f = nn::function_of(network);
  const auto gradient = [&](const Tree<Var>& p, const Var& x, const Var& y) { return grad([&](const Tree<Var>& q) { return mean_squared_error(f(q, x), y); }, p); };
  const std::string table = cost_table<float>(compile(gradient, params, Array<float>({256, 784}), Array<float>({256, 10})).program());
  CHECK(table == R"(instruction                               shape      operations  read and written  layer
%5 = dot %3 %0                            [256,512]   206 MFLOP           2.93 MB  serial/dense_0
%6 = scale %5 (0.03571428571428571)       [256,512]   131 kFLOP           1.05 MB  serial/dense_0
%7 = scale %1 (0.05)                      [1,512]      512 FLOP           4.10 kB  serial/dense_0
%8 = reshape %7 ([512])                   [512]          0 FLOP           4.10 kB  serial/dense_0
%9 = broadcast %8 (axes 0 of [256])       [256,512]      0 FLOP            526 kB  serial/dense_0
%10 = add %6 %9                           [256,512]   131 kFLOP           1.57 MB  serial/dense_0
%11 = erf %10                             [256,512]   131 kFLOP           1.05 MB  serial/erf_1
%12 = mul %10 %10                         [256,512]   131 kFLOP           1.05 MB  serial/erf_1
%13 = neg %12                             [256,512]   131 kFLOP           1.05 MB  serial/erf_1
%14 = exp %13                             [256,512]   131 kFLOP           1.05 MB  serial/erf_1
%15 = scale %14 (1.1283791670955126)      [256,512]   131 kFLOP           1.05 MB  serial/erf_1
%16 = dot %11 %2                          [256,10]   2.62 MFLOP            555 kB  serial/dense_2
%17 = scale %16 (0.044194173824159216)    [256,10]   2.56 kFLOP           20.5 kB  serial/dense_2
%18 = sub %17 %4                          [256,10]   2.56 kFLOP           30.7 kB
%19 = fill (1)                            []             0 FLOP               4 B
%20 = scale %19 (0.000390625)             []             1 FLOP               8 B
%21 = broadcast %20 (axes 0 of [256,10])  [256,10]       0 FLOP           10.2 kB
%22 = mul %21 %18                         [256,10]   2.56 kFLOP           30.7 kB
%23 = add %22 %22                         [256,10]   2.56 kFLOP           20.5 kB
%24 = scale %23 (0.044194173824159216)    [256,10]   2.56 kFLOP           20.5 kB  serial/dense_2
%25 = dot %11 %24 (a^T b)                 [512,10]   2.62 MFLOP            555 kB  serial/dense_2
%26 = dot %24 %2 (a b^T)                  [256,512]  2.62 MFLOP            555 kB  serial/dense_2
%27 = mul %26 %15                         [256,512]   131 kFLOP           1.57 MB  serial/erf_1
%28 = sum %27 (axes 0 of [256])           [512]       131 kFLOP            526 kB  serial/dense_0
%29 = reshape %28 ([1,512])               [1,512]        0 FLOP           4.10 kB  serial/dense_0
%30 = scale %29 (0.05)                    [1,512]      512 FLOP           4.10 kB  serial/dense_0
%31 = scale %27 (0.03571428571428571)     [256,512]   131 kFLOP           1.05 MB  serial/dense_0
%32 = dot %3 %31 (a^T b)                  [784,512]   206 MFLOP           2.93 MB  serial/dense_0
total                                                 420 MFLOP           19.2 MB
planned in float: 1.06 MB for values between instructions
)");
}

TEST_CASE("the table refuses lanes that are not there") {
  const Program p = record([](Values v) { return exp(v[0]); }, {{3}});
  CHECK_THROWS_WITH_AS(cost_table<float>(p, {Varies::examples, Varies::both}), "cost_table: 2 inputs were said to vary, the program has 1", ShapeError);
  CHECK_THROWS_WITH_AS(cost_table<float>(p, {}, {0, 1}), "cost_table: there must be at least one lane, got 0 examples and 1 directions", ShapeError);
}
