// One function for every primitive that can be had at any size: what the generic tests of values, bits, NaN and memory run (ops_reference.cpp, ops_bits.cpp, allocation.cpp).
#include "linnet/tests/autodiff/sized.h"

#include <stdexcept>

using namespace linnet::autodiff;

namespace samples {
namespace {

using Make = Row (*)(Index n);
Shape flat(Index n) { return n < 0 ? Shape{} : Shape{n}; }  // n < 0: a scalar

template <auto f> Row unary(Index n, double low, double high) {
  return {str(flat(n)), one([](Values v) { return f(v[0]); }), {random<double>(flat(n), 1, low, high)}};
}
template <class F> Row binary(Index n, F f, double low, double high) {
  return {str(flat(n)), one([f](Values v) { return f(v[0], v[1]); }), {random<double>(flat(n), 1, low, high), random<double>(flat(n), 2, low, high)}};
}
// Of the shape [n, more...]; a scalar is as many as 1.
Array<double> block(Index n, std::initializer_list<Index> more, std::uint64_t seed) { return random<double>(Shape(more).inserted(0, std::array{n < 0 ? Index(1) : n}), seed); }

// n positive matrices of 3 rows, n lower factors with a diagonal from 1 to 2, an index into n rows.
Array<double> positive(Index n) {
  Array<double> a = block(n, {3, 3}, 1);
  for (Index m = 0; m < a.shape()[0]; ++m)
    for (Index i = 0; i < 3; ++i)
      for (Index j = 0; j <= i; ++j) a.data()[m * 9 + j * 3 + i] = a.data()[m * 9 + i * 3 + j] = i == j ? 2 + 0.25 * a.data()[m * 9 + i * 4] : 0.5 * a.data()[m * 9 + i * 3 + j];
  return a;
}
Array<double> lower(Index n) {
  Array<double> a = block(n, {3, 3}, 1);
  for (Index m = 0; m < a.shape()[0]; ++m)
    for (Index i = 0; i < 3; ++i) a.data()[m * 9 + i * 4] = 1.5 + 0.5 * a.data()[m * 9 + i * 4];
  return a;
}
Array<double> index(Index n) {
  Array<double> a = block(n, {}, 1);
  for (Index i = 0; i < a.size(); ++i) a.data()[i] = static_cast<double>(i * 7919 % a.size());
  return a;
}
const Window window{{2, 2, 2, 1, 1, 0}, {2, 2, 2, 1, 1, 0}, false};
const Primitive& primitive(std::string_view name) {
  for (const Primitive* p : primitives())
    if (p->name == name) return *p;
  throw std::logic_error("no such primitive");
}

const std::map<std::string_view, Make> elementwise = {
    {"add", [](Index n) { return binary(n, [](Var a, Var b) { return a + b; }, -1, 1); }},
    {"sub", [](Index n) { return binary(n, [](Var a, Var b) { return a - b; }, -1, 1); }},
    {"mul", [](Index n) { return binary(n, [](Var a, Var b) { return a * b; }, -1, 1); }},
    {"div", [](Index n) { return binary(n, [](Var a, Var b) { return a / b; }, .5, 2); }},
    {"pow", [](Index n) { return binary(n, [](Var a, Var b) { return pow(a, b); }, .3, 2); }},
    {"neg", [](Index n) { return unary<[](const Var& x) { return -x; }>(n, -1, 1); }},
    {"scale", [](Index n) { return unary<[](const Var& x) { return -0.7 * x; }>(n, -1, 1); }},
    {"exp", [](Index n) { return unary<[](const Var& x) { return exp(x); }>(n, -3, 3); }},
    {"log", [](Index n) { return unary<[](const Var& x) { return log(x); }>(n, .1, 9); }},
    {"sqrt", [](Index n) { return unary<[](const Var& x) { return sqrt(x); }>(n, .1, 9); }},
    {"sin", [](Index n) { return unary<[](const Var& x) { return sin(x); }>(n, -9, 9); }},
    {"cos", [](Index n) { return unary<[](const Var& x) { return cos(x); }>(n, -9, 9); }},
    {"erf", [](Index n) { return unary<[](const Var& x) { return erf(x); }>(n, -3, 3); }},
    {"erfc", [](Index n) { return unary<[](const Var& x) { return erfc(x); }>(n, -3, 5); }},
    {"expm1", [](Index n) { return unary<[](const Var& x) { return expm1(x); }>(n, -3, 3); }},
    {"log1p", [](Index n) { return unary<[](const Var& x) { return log1p(x); }>(n, -.9, 9); }},
    {"tanh", [](Index n) { return unary<[](const Var& x) { return tanh(x); }>(n, -3, 3); }},
    {"step", [](Index n) { return unary<[](const Var& x) { return step(x); }>(n, -1, 1); }},
    {"sign", [](Index n) { return unary<[](const Var& x) { return sign(x); }>(n, -1, 1); }},
    {"stop_gradient", [](Index n) { return unary<[](const Var& x) { return stop_gradient(x); }>(n, -1, 1); }},
    {"fill", [](Index n) { return Row{str(flat(n)), one([n](Values v) { return fill(v[0].tape(), flat(n), 1.25); }), {random<double>(flat(n), 1)}}; }},
    {"where", [](Index n) {
       Array<double> mask = random<double>(flat(n), 3);
       for (double& m : mask) m = m > 0;
       return Row{str(flat(n)), one([](Values v) { return where(v[0], v[1], v[2]); }), {mask, random<double>(flat(n), 1), random<double>(flat(n), 2)}};
     }},
};
const std::map<std::string_view, Make> others = {
    {"dot", [](Index n) { return Row{"[n,5] [5,7]", one([](Values v) { return dot(v[0], v[1]); }), {block(n, {5}, 1), random<double>({5, 7}, 2)}}; }},
    {"sum", [](Index n) { return Row{"[n,5]", one([](Values v) { return sum(v[0], {1}); }), {block(n, {5}, 1)}}; }},
    {"max", [](Index n) { return Row{"[n,5]", one([](Values v) { return max(v[0], {1}); }), {block(n, {5}, 1)}}; }},
    {"cumsum", [](Index n) { return Row{"[n,5]", one([](Values v) { return cumsum(v[0], 1); }), {block(n, {5}, 1)}}; }},
    {"broadcast", [](Index n) { return Row{"[n] to [n,5]", one([](Values v) { return broadcast(v[0], 1, {5}); }), {block(n, {}, 1)}}; }},
    {"reshape", [](Index n) { return Row{"[n,3] to [3,n]", one([](Values v) { return reshape(v[0], {3, v[0].shape()[0]}); }), {block(n, {3}, 1)}}; }},
    {"transpose", [](Index n) { return Row{"[n,3]", one([](Values v) { return transpose(v[0]); }), {block(n, {3}, 1)}}; }},
    {"slice", [](Index n) { return Row{"[n,3]", one([](Values v) { return slice(v[0], 1, 1, 2); }), {block(n, {3}, 1)}}; }},
    {"pad", [](Index n) { return Row{"[n,3]", one([](Values v) { return pad(v[0], 1, 1, 2); }), {block(n, {3}, 1)}}; }},
    {"concatenate", [](Index n) { return Row{"[n,2] [n,3]", one([](Values v) { return concatenate({v[0], v[1]}, 1); }), {block(n, {2}, 1), block(n, {3}, 2)}}; }},
    {"gather", [](Index n) { return Row{"[n,3]", one([](Values v) { return gather(v[0], v[1]); }), {block(n, {3}, 1), index(n)}}; }},
    {"scatter_add", [](Index n) { return Row{"[n,3]", one([](Values v) { return scatter_add(v[0], v[1], v[0].shape()[0]); }), {block(n, {3}, 1), index(n)}}; }},
    {"patches", [](Index n) { return Row{"[n,2,2,1]", one([](Values v) { return emit(primitive("patches"), v, window); }), {block(n, {2, 2, 1}, 1)}}; }},
    {"unpatches", [](Index n) { return Row{"[n,2,2,4]", one([](Values v) { return emit(primitive("unpatches"), v, window); }), {block(n, {2, 2, 4}, 1)}}; }},
    {"conv", [](Index n) { return Row{"[n,2,2,3] [12,5]", one([](Values v) { return emit(primitive("conv"), v, window); }), {block(n, {2, 2, 3}, 1), random<double>({12, 5}, 2)}}; }},
    {"conv_images", [](Index n) { return Row{"[n,2,2,5] [12,5]", one([](Values v) { return emit(primitive("conv_images"), v, window); }), {block(n, {2, 2, 5}, 1), random<double>({12, 5}, 2)}}; }},
    {"conv_weights", [](Index n) { return Row{"[n,2,2,3] [n,2,2,5]", one([](Values v) { return emit(primitive("conv_weights"), v, window); }), {block(n, {2, 2, 3}, 1), block(n, {2, 2, 5}, 2)}}; }},
    {"lower_triangle", [](Index n) { return Row{"[n,3,3]", one([](Values v) { return lower_triangle(v[0], 0.7); }), {block(n, {3, 3}, 1)}}; }},
    {"cholesky", [](Index n) { return Row{"[n,3,3]", one([](Values v) { return emit(primitive("cholesky"), v); }), {positive(n)}}; }},
    {"triangular_solve", [](Index n) { return Row{"[n,3,3] [n,3,2]", one([](Values v) { return triangular_solve(v[0], v[1]); }), {lower(n), block(n, {3, 2}, 2)}}; }},
    {"call", [](Index n) { return Row{"[n]", checkpoint(one([](Values v) { return sin(v[0]) * v[1]; })), {block(n, {}, 1), block(n, {}, 2)}}; }},
};

}  // namespace

Row sized(std::string_view name, Index n) {
  for (const auto* family : {&elementwise, &others})
    if (const auto at = family->find(name); at != family->end()) return at->second(n);
  throw std::logic_error(std::string(name) + " has no line in tests/autodiff/sized.cpp");
}

std::vector<Row> further(std::string_view name) {
  const auto scanned = [](Values v) { return scan([&](Values s) -> std::vector<Var> { return {tanh(s[0] + s[1]) * s[0], sin(s[0])}; }, {v[0]}, {v[1]}, 3); };
  if (name == "call") return {{"a loop", scanned, {random<double>({7}, 1), random<double>({3, 7}, 2)}}};
  auto diagonal = [](Index n) {
    Array<double> a({n, n});
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < n; ++j) a.data()[i * n + j] = i == j ? 2 : 0.0625 / static_cast<double>(1 + (i > j ? i - j : j - i));
    return a;
  };
  if (name == "cholesky") return {{"tiles", one([](Values v) { return emit(primitive("cholesky"), v); }), {diagonal(150)}}};
  if (name == "triangular_solve")
    return {{"blocks", one([](Values v) { return triangular_solve(v[0], v[1]); }), {diagonal(70), random<double>({70, 300}, 2)}},
            {"blocks from the end", one([](Values v) { return triangular_solve(v[0], v[1], true); }), {diagonal(70), random<double>({70, 3}, 2)}}};
  if (name.starts_with("conv")) {  // more than a vector of channels and of features, several bands of an image, tiles of every height; with strides too
    std::vector<Row> rows;
    for (const Index stride : {Index(1), Index(2)}) {
      const Window w{{37, 36 / stride + 1, 3, stride, 1, 1}, {19, 18 / stride + 1, 2, stride, 3, 1}, stride == 1};
      const Shape x{3, 37, 19, 18}, g{3, w.height.places, w.width.places, 35}, weights{6 * 18, 35};
      const Shape& left = name == "conv_images" ? g : x;
      const Shape& right = name == "conv_weights" ? g : weights;
      rows.push_back({"stride " + std::to_string(stride), one([=](Values v) { return emit(primitive(name), v, w); }), {random<double>(left, 1), random<double>(right, 2)}});
    }
    return rows;
  }
  if (name == "dot") return {{"panels", one([](Values v) { return dot(v[0], v[1], {true, true}); }), {random<double>({40, 300}, 1), random<double>({33, 40}, 2)}},
                             {"a batch", one([](Values v) { return dot(v[0], v[1]); }), {random<double>({5, 20, 7}, 1), random<double>({5, 7, 9}, 2)}}};
  if (name == "sum") return {{"rows", one([](Values v) { return sum(v[0], {0}); }), {random<double>({700, 130}, 1)}}, {"everything", one([](Values v) { return sum(v[0]); }), {random<double>({9001}, 1)}}};
  if (name == "cumsum") return {{"rows", one([](Values v) { return cumsum(v[0], 0, true); }), {random<double>({600, 200}, 1)}}};
  if (name == "transpose") return {{"no rotation", one([](Values v) { return transpose(v[0], {2, 1, 0}); }), {random<double>({3, 5, 7}, 1)}}};
  return {};
}

}  // namespace samples
