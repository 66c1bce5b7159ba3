// Derivatives of C++ functions where forms and shapes are unusual: jacobians, results that do not depend, trees without leaves, linear functions and maps
// that are transposed, used again or copied. derivative.cpp has networks against hand-written loops.
#include "linnet/tests/autodiff/samples.h"

#include <doctest/doctest.h>

using namespace linnet::autodiff;
using samples::difference, samples::eps, samples::random;

namespace {

template <class T> using Params = Tree<Array<T>>;
template <class T> Array<T> lane(const Array<T>& all, Index l) {
  const Array<T> one = all.rows(l, 1);
  return one.reshaped(one.shape().erased(0, 1));
}
template <class T> Array<T> only(T value) { return Array<T>(Shape{}, {value}); }

}  // namespace

TEST_CASE_TEMPLATE("jacobians have the shape of the result before that of the argument, whichever is the larger", T, float, double) {
  const Array<T> x({2, 3}, {1, 2, 3, 4, 5, 6});
  const Array<T> rows = jacobian([](Var v) { return sum(v * v, {1}); }, x), all = jacobian([](Var v) { return broadcast(v * v, 0, {2}); }, x);
  CHECK(rows.shape() == Shape{2, 2, 3});
  CHECK(rows == Array<T>({2, 2, 3}, {2, 4, 6, 0, 0, 0, 0, 0, 0, 8, 10, 12}));
  CHECK(all.shape() == Shape{2, 2, 3, 2, 3});
  for (Index i = 0; i < 12; ++i)
    for (Index j = 0; j < 6; ++j) CHECK(all.data()[i * 6 + j] == (i % 6 == j ? 2 * x.data()[j] : 0));
  CHECK(jacobian([](Var v) { return v * v; }, only<T>(3)) == only<T>(6));
  CHECK(jacobian([](Var v) { return sum(v); }, x).shape() == Shape{2, 3});
  CHECK(jacobian([](Var v) { return v; }, Array<T>({0})).shape() == Shape{0, 0});
  CHECK(jacobian([](Var v) { return sum(v); }, Array<T>({0})).shape() == Shape{0});
  CHECK(jacobian([](Var v) { return slice(v, 0, 0, 0); }, Array<T>({2}, T(1))).shape() == Shape{0, 2});
  CHECK(jacobian([](Var v) { return Tree<Var>{{"a", sum(v)}, {"b", v}}; }, Array<T>({2}, T(1))) == Array<T>({3, 2}, {1, 1, 1, 0, 0, 1}));
}

TEST_CASE_TEMPLATE("a result that does not depend on the argument has a zero derivative in every lane", T, float, double) {
  const Array<T> x({2}, {1, 2});
  const auto map = linearize([](Var v) { return Tree<Var>{{"fixed", sign(v)}, {"linear", 3.0 * v}, {"number", fill(v.tape(), {4}, 5)}}; }, x);
  const auto out = map.jvp_lanes(Array<T>({3, 2}, T(1)));
  CHECK(out["fixed"].leaf() == Array<T>({3, 2}));
  CHECK(out["linear"].leaf() == Array<T>({3, 2}, T(3)));
  CHECK(out["number"].leaf() == Array<T>({3, 4}));
  CHECK(map.value()["number"].leaf() == Array<T>({4}, T(5)));
  CHECK(grad([](Var) { return Var(2.0); }, x) == Array<T>({2}));
  CHECK(grad([](Var v) { return sum(stop_gradient(v)); }, x) == Array<T>({2}));
  CHECK(linearize([](Var v) { return sign(v); }, x).vjp_lanes(Array<T>({3, 2}, T(1))) == Array<T>({3, 2}));
}

TEST_CASE_TEMPLATE("a function compiled once answers arrays or trees, and its inputs and constants as they are", T, float, double) {
  const Array<T> x({2}, {1, 2});
  const auto f = compile([](Var v, const Tree<Var>& d) { return Tree<Var>{{"sum", v + d["c"]}, {"same", v}, {"again", v + d["c"]}, {"deep", Tree<Var>{{"constant", constant(Array<double>({1}, {7}))}}}}; }, x, Params<T>{{"c", x}});
  for (const T scale : {T(1), T(3)}) {
    const auto y = f(scale * x, Params<T>{{"c", x}});
    CHECK(y["sum"].leaf() == (scale + 1) * x);
    CHECK(y["again"].leaf() == (scale + 1) * x);
    CHECK(y["same"].leaf() == scale * x);
    CHECK(y["deep"]["constant"].leaf().item() == 7);
  }
}

TEST_CASE_TEMPLATE("trees without leaves are arguments and results as any other", T, float, double) {
  const Array<T> x({2}, {1, 2});
  const Params<T> none;
  CHECK(compile([](const Tree<Var>&, Var v) { return v + v; }, none, x)(none, x) == 2 * x);
  const auto [value, gradient] = value_and_grad([](const Tree<Var>&, Var v) { return sum(v); }, none, x);
  CHECK(value == 3);
  CHECK(gradient == none);
  CHECK(jacobian([](const Tree<Var>&, Var v) { return v; }, none, x).shape() == Shape{2, 0});
  CHECK(linearize([](const Tree<Var>&, Var v) { return v; }, none, x).jvp(none) == Array<T>({2}));
  const Params<T> with_empty = {{"a", x}, {"none", Params<T>()}};
  CHECK(grad([](const Tree<Var>& q) { return sum(square(q["a"])); }, with_empty) == Params<T>{{"a", 2 * x}, {"none", Params<T>()}});
}
TEST_CASE("a function whose result has no leaves has a value and a derivative, both empty") {
  const Array<double> x({2}, {1, 2});
  const auto nothing = [](Var) { return Tree<Var>(); };
  CHECK(compile(nothing, x)(x) == Params<double>());
  CHECK(linearize(nothing, x).vjp(Params<double>()) == Array<double>({2}));
  CHECK(linearize(nothing, x).value() == Params<double>());
  CHECK(jvp(nothing, x, x).second == Params<double>());
}
TEST_CASE("the gradient of a constant by a tree without leaves is that tree") {
  CHECK(grad([](const Tree<Var>&) { return Var(1.0); }, Params<double>()) == Params<double>());
}

TEST_CASE_TEMPLATE("the transpose of a linear function is its adjoint, and transposing twice gives it back", T, float, double) {
  const Array<T> c = random<T>({4, 3}, 70), x = random<T>({2, 4}, 71), ct = random<T>({2, 3}, 72);
  const auto f = [&](Var v) { return dot(v, constant(c)); };
  const auto adjoint = linear_transpose(f, x);
  const Array<T> y = compile(f, x)(x), back = adjoint.jvp(ct);
  CHECK(back.shape() == Shape{2, 4});
  CHECK(std::abs(dot(y, ct) - dot(x, back)) <= 32 * eps<T>);
  CHECK(samples::same_bits(adjoint.transposed().jvp(x), y));
  CHECK(samples::same_bits(adjoint.vjp(x), y));
  CHECK(adjoint.jvp_lanes(Array<T>({5, 2, 3}, T(1))).shape() == Shape{5, 2, 4});
  const auto of_trees = linear_transpose([](const Tree<Var>& t) { return 2.0 * t["a"] + t["b"]; }, Params<T>{{"a", Array<T>({2})}, {"b", Array<T>({2})}});
  CHECK(of_trees.jvp(Array<T>({2}, {1, 3})) == Params<T>{{"a", Array<T>({2}, {2, 6})}, {"b", Array<T>({2}, {1, 3})}});
}

TEST_CASE_TEMPLATE("a transposed map exchanges jvp and vjp and has no value", T, float, double) {
  const Array<T> x({3}, {1, 2, 3}), one({3}, T(1));
  const auto map = linearize([](Var v) { return sum(v * v); }, x);
  const auto turned = map.transposed();
  CHECK(turned.jvp(only<T>(2)) == map.vjp(only<T>(2)));
  CHECK(turned.vjp(one) == map.jvp(one));
  CHECK(turned.transposed().vjp(only<T>(2)) == map.vjp(only<T>(2)));
  CHECK_THROWS_WITH_AS(turned.value(), "LinearMap: a transposed or linear map has no value; ask the map it was made of", TraceError);
}

TEST_CASE_TEMPLATE("a map may be used again and again, in any order of lanes", T, float, double) {
  const Array<T> x = random<T>({40}, 80), ct = random<T>({3, 40}, 81);
  const auto map = linearize([](Var v) { return exp(sin(v)) * v; }, x);
  const Array<T> first = map.vjp(lane(ct, 1)), three = map.vjp_lanes(ct), again = map.vjp(lane(ct, 1));
  CHECK(samples::same_bits(first, again));
  CHECK(samples::same_bits(lane(three, 1), first));
  CHECK(samples::same_bits(map.vjp_lanes(ct), three));
  const auto copy = map;
  CHECK(samples::same_bits(copy.vjp(lane(ct, 1)), first));
}
