// The operator v -> J J^T v against the explicit Jacobian, below, at and above a chunk of 256 examples.
#include "networks_by_hand.h"

#include <doctest/doctest.h>

using namespace networks;
using linnet::autodiff::NumericalError;
using linnet::autodiff::Progress;
using linnet::autodiff::ShapeError;
using linnet::autodiff::StructureError;
using linnet::autodiff::TraceError;

namespace {

// J u and J^T v by loops.
Array<double> times(const Array<double>& J, const Array<double>& u) {
  Array<double> y({J.shape()[0]});
  for (Index i = 0; i < J.shape()[0]; ++i)
    for (Index j = 0; j < J.shape()[1]; ++j) y.data()[i] += J[{i, j}] * u.data()[j];
  return y;
}
Array<double> transposed_times(const Array<double>& J, const Array<double>& v) {
  Array<double> y({J.shape()[1]});
  for (Index i = 0; i < J.shape()[0]; ++i)
    for (Index j = 0; j < J.shape()[1]; ++j) y.data()[j] += J[{i, j}] * v.data()[i];
  return y;
}
template <class T> Array<T> flat(const Tree<Array<T>>& tree) {
  Index size = 0;
  for (const auto* leaf : tree.leaves()) size += leaf->size();
  Array<T> all({size});
  auto to = all.begin();
  for (const auto* leaf : tree.leaves()) to = std::copy(leaf->begin(), leaf->end(), to);
  return all;
}
template <class T> Array<T> flat(const Array<T>& a) { return a.reshaped({a.size()}); }
Tree<Array<double>> drawn_like(const Tree<Array<double>>& params) {
  Draw draw(9);
  return map([&](const Array<double>& a) { return draw.array(a.shape()); }, params);
}

template <class T> void check_operator(const Network& net, Index n) {
  CAPTURE(net.name);
  CAPTURE(n);
  const Array<double> x = examples(net, n, 1), J = jacobian(net, x);
  const ntk::Operator<T> op(net.f, as<T>(net.params), as<T>(x));
  const Array<double> value = compile([&](const Tree<Var>& p, const Var& v) { return net.f(p, v); }, net.params, x)(net.params, x);
  CHECK(difference(op.value(), value) <= tolerance<T>());
  CHECK(op.rows() == value.size());
  const Array<double> v = Draw(3).array(value.shape());
  const Tree<Array<double>> u = drawn_like(net.params);
  const Array<T> kv = op(as<T>(v)), ju = op.jvp(as<T>(u));
  const Tree<Array<T>> jtv = op.vjp(as<T>(v));
  CHECK(kv.shape() == value.shape());
  CHECK(ju.shape() == value.shape());
  CHECK(difference(flat(ju), times(J, flat(u))) <= tolerance<T>());
  CHECK(difference(flat(jtv), transposed_times(J, flat(v))) <= tolerance<T>());
  CHECK(difference(flat(kv), times(J, transposed_times(J, flat(v)))) <= tolerance<T>());
  CHECK(op(as<T>(v)) == kv);  // again, from the residuals that were kept
  double vju = 0, jtvu = 0, scale = 0;
  for (Index i = 0; i < v.size(); ++i) {
    vju += v.data()[i] * static_cast<double>(ju.data()[i]);
    scale += std::abs(v.data()[i] * static_cast<double>(ju.data()[i]));
  }
  const Array<T> a = flat(jtv);
  const Array<double> b = flat(u);
  for (Index i = 0; i < b.size(); ++i) jtvu += static_cast<double>(a.data()[i]) * b.data()[i];
  CHECK(std::abs(vju - jtvu) <= tolerance<T>() * std::max(scale, 1e-300));
}

const ntk::Apply without_mean = [](const Tree<Var>& p, const Var& x) { return tanh(dot(x - mean(x, {0}, true), p["W"])); };

}  // namespace

TEST_CASE_TEMPLATE("the operator is J J^T for any number of examples", T, float, double) {
  for (const Index n : {0, 1, 7, 255, 256, 257, 512, 600}) {
    check_operator<T>(mlp(3, {4}, 1), n);
    check_operator<T>(mlp(3, {4, 5}, 3), n);
  }
}

TEST_CASE_TEMPLATE("the operator is J J^T for every use of a parameter", T, float, double) {
  for (const Network& net : by_hand()) check_operator<T>(net, 5);
}

TEST_CASE_TEMPLATE("the operator is the full kernel times a vector", T, float, double) {
  const Network net = mlp(3, {4}, 2);
  const Array<double> x = examples(net, 300, 1), v = Draw(3).array({300, 2});
  const Array<double> k = linnet::autodiff::cast<double>(ntk::full(net.f, as<T>(net.params), as<T>(x)).matrix());
  CHECK(difference(flat(ntk::Operator<T>(net.f, as<T>(net.params), as<T>(x))(as<T>(v))), times(k, flat(v))) <= tolerance<T>());
}

TEST_CASE_TEMPLATE("with examples that mix, the operator is J J^T of the whole batch", T, float, double) {
  const Network net = network("mean subtracted", {3}, {{"W", {3, 2}}}, without_mean);
  for (const Index n : {2, 7, 300}) {
    const Array<double> x = examples(net, n, 1), J = jacobian(net, x), v = Draw(3).array({n, 2});
    const ntk::Operator<T> op(net.f, as<T>(net.params), as<T>(x), {.independent = false});
    CHECK(difference(flat(op(as<T>(v))), times(J, transposed_times(J, flat(v)))) <= tolerance<T>());
  }
  CHECK(message<TraceError>([&] { ntk::Operator<T>(net.f, as<T>(net.params), as<T>(examples(net, 4, 1))); }).starts_with("ntk::Operator: f mixes examples (output 0 of example 0 changes by "));
}

TEST_CASE("copies of an operator are one operator") {
  const Network net = mlp(3, {4}, 2);
  const Array<double> v = Draw(3).array({5, 2});
  const auto op = std::make_unique<ntk::Operator<double>>(net.f, net.params, examples(net, 5, 1));
  const ntk::Operator<double> copy = *op;
  CHECK((*op)(v) == copy(v));
}

TEST_CASE_TEMPLATE("the operator refuses what does not fit, and what is not finite", T, float, double) {
  const Network net = mlp(3, {4}, 2);
  const auto params = as<T>(net.params);
  const Array<T> x = as<T>(examples(net, 5, 1));
  const ntk::Operator<T> op(net.f, params, x);
  CHECK(message<ShapeError>([&] { op(Array<T>({5, 3})); }) == "ntk::Operator: a cotangent [5,3] came, f(params, x) is [5,2]");
  CHECK(message<ShapeError>([&] { op.vjp(Array<T>({10})); }) == "ntk::Operator: a cotangent [10] came, f(params, x) is [5,2]");
  Array<T> v({5, 2});
  v[{3, 1}] = std::numeric_limits<T>::quiet_NaN();
  CHECK(message<NumericalError>([&] { op(v); }) == "ntk::Operator: the cotangent has nan at [3,1]; every value must be finite");
  Tree<Array<T>> u = params;
  u["dense_2"]["b"].leaf()[{0, 1}] = std::numeric_limits<T>::infinity();
  CHECK(message<NumericalError>([&] { op.jvp(u); }) == "ntk::Operator: the tangent 'dense_2/b' has inf at [0,1]; every value must be finite");
  CHECK(message<StructureError>([&] { op.jvp(Tree<Array<T>>{{"W", Array<T>({3, 4})}}); }).find("ntk::Operator") != std::string::npos);
  u = params;
  u["dense_2"]["b"] = Array<T>({2});
  CHECK(message<ShapeError>([&] { op.jvp(u); }).find("ntk::Operator") != std::string::npos);
  u = params;
  u["dense_0"]["W"].leaf()[{2, 3}] = -std::numeric_limits<T>::infinity();
  CHECK(message<NumericalError>([&] { ntk::Operator<T>(net.f, u, x); }) == "ntk::Operator: params 'dense_0/W' has -inf at [2,3]; every value must be finite");
  Array<T> bad = x;
  bad[{4, 2}] = std::numeric_limits<T>::quiet_NaN();
  CHECK(message<NumericalError>([&] { ntk::Operator<T>(net.f, params, bad); }) == "ntk::Operator: x has nan at [4,2]; every value must be finite");
  const ntk::Apply large = [](const Tree<Var>& p, const Var& x) { return exp(1e3 * dot(x, p["W"])); };
  CHECK(message<NumericalError>([&] { ntk::Operator<T>(large, Tree<Array<T>>{{"W", Array<T>({1, 1}, T(1))}}, Array<T>({300, 1}, T(1))); }) ==
        "ntk::Operator: the result is not finite: exp gives inf at [0,0] of [1,1] for example 0; scale the inputs or parameters, or compute in double");
}

TEST_CASE("the operator tells its chunks and can be cancelled") {
  const Network net = mlp(3, {4}, 1);
  const Array<double> x = examples(net, 600, 1);
  std::vector<Progress> told;
  ntk::Options options;
  options.progress = [&](const Progress& p) { told.push_back(p); return true; };
  ntk::Operator<double>(net.f, net.params, x, options);
  REQUIRE(!told.empty());
  CHECK(told.back().what == "operator chunks");
  CHECK(told.back().done == 3);
  CHECK(told.back().total == 3);
  options.progress = [](const Progress&) { return false; };
  CHECK(message<NumericalError>([&] { ntk::Operator<double>(net.f, net.params, x, options); }) == "ntk::Operator: cancelled by the progress function after 1 of 3 operator chunks");
}
