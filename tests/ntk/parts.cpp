// Parts of the kernel, and the mean kernel over initializations, against the whole.
#include "networks_of_layers.h"

#include "networks_by_hand.h"

#include <doctest/doctest.h>

using namespace networks;
using linnet::autodiff::NumericalError;
using linnet::autodiff::Progress;
using linnet::autodiff::ShapeError;
using linnet::autodiff::TraceError;
using ntk::Method;

namespace {

constexpr Method methods[] = {Method::structured, Method::jacobian_contraction, Method::vector_products, Method::automatic};

std::vector<Network> some() { return {mlp(4, {6, 5}, 3), mlp(3, {}, 1), convolutional(), transformer(), sequence()}; }

// Every (n, o), (n', o) of a kernel as [n2, n1, o].
Array<double> same_outputs(const Array<double>& k, Index outputs) {
  const Index n2 = k.shape()[0] / outputs, n1 = k.shape()[1] / outputs;
  Array<double> d({n2, n1, outputs});
  for (Index i = 0; i < n2; ++i)
    for (Index j = 0; j < n1; ++j)
      for (Index o = 0; o < outputs; ++o) d[{i, j, o}] = k[{i * outputs + o, j * outputs + o}];
  return d;
}

// The columns of a Jacobian of the parameters [first, last) of a network.
Array<double> columns(const Array<double>& J, const Tree<Array<double>>& params, std::size_t first, std::size_t last) {
  Index from = 0, to = 0;
  for (std::size_t i = 0; i < last; ++i) (i < first ? from : to) += params.leaves()[i]->size();
  return block(J, 0, J.shape()[0], from, to);
}

template <class T> void check_parts(const Network& net, Method method) {
  CAPTURE(net.name);
  CAPTURE(static_cast<int>(method));
  const Array<double> x = examples(net, 10, 1), J = jacobian(net, x), k = outer(J, J);
  const Index O = J.shape()[0] / 10;
  const auto params = as<T>(net.params);
  const Array<T> all = as<T>(x), first = as<T>(x.rows(0, 7)), last = as<T>(x.rows(7, 3));
  const ntk::Options options{.method = method};
  Array<double> diagonal({10, O}), sums({10}), squares({10, O, O});
  for (Index n = 0; n < 10; ++n)
    for (Index o = 0; o < O; ++o) {
      diagonal[{n, o}] = k[{n * O + o, n * O + o}];
      sums[{n}] += diagonal[{n, o}];
      for (Index q = 0; q < O; ++q) squares[{n, o, q}] = k[{n * O + o, n * O + q}];
    }
  CHECK(difference(ntk::diagonal(net.f, params, all, options), diagonal) <= tolerance<T>());
  CHECK(difference(ntk::traced_diagonal(net.f, params, all, options), sums) <= tolerance<T>());
  const Array<T> blocks = ntk::blocks(net.f, params, all, options);
  CHECK(difference(blocks, squares) <= tolerance<T>());
  for (Index n = 0; n < 10; ++n) CHECK(symmetric(blocks.rows(n, 1).reshaped({O, O})));
  CHECK(difference(ntk::diagonal_over_outputs(net.f, params, all, options), same_outputs(k, O)) <= tolerance<T>());
  CHECK(difference(ntk::diagonal_over_outputs(net.f, params, last, first, options), same_outputs(block(k, 7 * O, 3 * O, 0, 7 * O), O)) <= tolerance<T>());
  const ntk::Pairs<T> pairs(net.f, params, all, options);
  const std::vector<Index> rows{9, 0, 4, 4}, columns{2, 9, 3};
  Array<double> expected({4 * O, 3 * O}), square({4 * O, 4 * O});
  for (Index i = 0; i < 4 * O; ++i) {
    const Index row = rows[static_cast<std::size_t>(i / O)] * O + i % O;
    for (Index j = 0; j < 3 * O; ++j) expected[{i, j}] = k[{row, columns[static_cast<std::size_t>(j / O)] * O + j % O}];
    for (Index j = 0; j < 4 * O; ++j) square[{i, j}] = k[{row, rows[static_cast<std::size_t>(j / O)] * O + j % O}];
  }
  CHECK(difference(pairs(rows, columns).matrix(), expected) <= tolerance<T>());
  CHECK(difference(pairs.traced(rows, columns).matrix(), networks::traced(expected, O)) <= tolerance<T>());
  CHECK(difference(pairs(rows).matrix(), square) <= tolerance<T>());
  CHECK(difference(pairs.traced(rows).matrix(), networks::traced(square, O)) <= tolerance<T>());
  CHECK(symmetric(pairs(rows).matrix()));
  CHECK(pairs.outputs() == O);
  CHECK(pairs.examples() == 10);
  CHECK(pairs(std::vector<Index>(), columns).matrix().shape() == Shape{0, 3 * O});
}

}  // namespace

TEST_CASE_TEMPLATE("diagonals, blocks, outputs and pairs of examples are those of the kernel, by every method", T, float, double) {
  for (const Network& net : some())
    for (const Method method : methods) check_parts<T>(net, method);
}

TEST_CASE_TEMPLATE("kernels by parameter and by layer are those of their columns of the Jacobian, and sum to the whole", T, float, double) {
  std::vector<Network> nets = some();
  for (const Network& net : by_hand())
    if (net.name == "W and its transpose" || net.name == "one parameter unused" || net.name == "through exp and a norm") nets.push_back(net);
  for (const Network& net : nets) {
    CAPTURE(net.name);
    const Array<double> x = examples(net, 6, 1), J = jacobian(net, x), k = outer(J, J);
    const Index O = J.shape()[0] / 6;
    const auto params = as<T>(net.params);
    const double scale = max_abs(k);
    const auto near = [&](const Array<T>& came, const Array<double>& expected) {  // relative to the whole: some share is zero
      double largest = 0;
      for (Index i = 0; i < came.size(); ++i) largest = std::max(largest, std::abs(static_cast<double>(came.data()[i]) - expected.data()[i]));
      return came.shape() == expected.shape() && largest <= tolerance<T>() * scale;
    };
    const auto check = [&](const auto& full, const auto& traced, const std::vector<std::size_t>& ends) {
      REQUIRE(full.leaves().size() == ends.size());
      Array<double> sum(k.shape());
      std::size_t from = 0;
      for (std::size_t i = 0; i < ends.size(); from = ends[i++]) {
        const Array<double> some = columns(J, net.params, from, ends[i]), expected = outer(some, some);
        CHECK(near(full.leaves()[i]->matrix(), expected));
        CHECK(near(traced.leaves()[i]->matrix(), networks::traced(expected, O)));
        CHECK(symmetric(full.leaves()[i]->matrix()));
        sum = sum + linnet::autodiff::cast<double>(full.leaves()[i]->matrix());
      }
      CHECK(difference(linnet::autodiff::cast<T>(sum), k) <= tolerance<T>());
    };
    std::vector<std::size_t> each, layers;
    for (std::size_t i = 0; i < params.leaves().size(); ++i) each.push_back(i + 1);
    for (const auto& [name, child] : params.children())
      if (!child.leaves().empty()) layers.push_back((layers.empty() ? 0 : layers.back()) + child.leaves().size());
    const Array<T> at = as<T>(x);
    const auto by_parameter = ntk::full_by_parameter(net.f, params, at);
    CHECK(by_parameter.paths() == params.paths());
    check(by_parameter, ntk::traced_by_parameter(net.f, params, at), each);
    check(ntk::full_by_layer(net.f, params, at), ntk::traced_by_layer(net.f, params, at), layers);
    check(ntk::full_by_parameter(net.f, params, at, {.method = Method::vector_products}), ntk::traced_by_parameter(net.f, params, at, {.independent = false}), each);
  }
}

TEST_CASE_TEMPLATE("parts of no examples are empty", T, float, double) {
  const Network net = mlp(3, {4}, 2);
  const auto params = as<T>(net.params);
  const Array<T> none = as<T>(examples(net, 0, 1));
  CHECK(ntk::blocks(net.f, params, none).shape() == Shape{0, 2, 2});
  CHECK(ntk::diagonal(net.f, params, none).shape() == Shape{0, 2});
  CHECK(ntk::traced_diagonal(net.f, params, none).shape() == Shape{0});
  CHECK(ntk::diagonal_over_outputs(net.f, params, none).shape() == Shape{0, 0, 2});
  CHECK(ntk::full_by_parameter(net.f, params, none)["dense_0"]["W"].leaf().matrix().shape() == Shape{0, 0});
}

TEST_CASE_TEMPLATE("parts that cannot be had are refused", T, float, double) {
  const Network net = mlp(3, {4}, 2);
  const auto params = as<T>(net.params);
  const Array<T> x = as<T>(examples(net, 5, 1));
  const std::string whole = ": f must treat examples independently; take ";
  CHECK(message<TraceError>([&] { ntk::blocks(net.f, params, x, {.independent = false}); }) == "ntk::blocks" + whole + "the diagonal of ntk::full instead");
  CHECK(message<TraceError>([&] { ntk::traced_diagonal(net.f, params, x, {.independent = false}); }) == "ntk::traced_diagonal" + whole + "the diagonal of ntk::full instead");
  CHECK(message<TraceError>([&] { ntk::Pairs<T>(net.f, params, x, {.independent = false}); }) == "ntk::Pairs" + whole + "ntk::full of the examples that are wanted together");
  const ntk::Pairs<T> pairs(net.f, params, x);
  const std::vector<Index> beyond{0, 5}, before{-1};
  CHECK(message<ShapeError>([&] { pairs(beyond); }) == "ntk::Pairs: there is no example 5; x has 5, counted from 0");
  CHECK(message<ShapeError>([&] { pairs.traced(beyond, before); }) == "ntk::Pairs: there is no example 5; x has 5, counted from 0");
  CHECK(message<ShapeError>([&] { pairs(before); }) == "ntk::Pairs: there is no example -1; x has 5, counted from 0");
  Array<T> bad = x;
  bad[{1, 2}] = std::numeric_limits<T>::infinity();
  CHECK(message<NumericalError>([&] { ntk::diagonal_over_outputs(net.f, params, bad); }) == "ntk::diagonal_over_outputs: x has inf at [1,2]; every value must be finite");
  CHECK(message<NumericalError>([&] { ntk::Pairs<T>(net.f, params, bad); }) == "ntk::Pairs: x has inf at [1,2]; every value must be finite");
}

TEST_CASE_TEMPLATE("the mean kernel is the mean, and its error that of the mean, at every step", T, float, double) {
  const Network net = mlp(3, {8}, 2);
  const Array<T> x = as<T>(examples(net, 4, 1));
  const nn::Layer layer = nn::serial({nn::Dense(8, {1.5, 0.3}), nn::Erf(), nn::Dense(2, {1.5, 0.3})});
  const ntk::Initialize<T> init = [&](Index i) { return nn::initialize<T>(layer, nn::Key(static_cast<std::uint64_t>(i)), Shape{1, 3}); };
  std::vector<Array<double>> kernels;
  Index told = 0;
  const auto each = [&](const ntk::RunningMean<T>& so_far) {
    const Index n = so_far.samples();
    CHECK(n == ++told);
    kernels.push_back(linnet::autodiff::cast<double>(ntk::full(net.f, init(n - 1), x).matrix()));
    Array<double> mean(kernels[0].shape()), error = mean;
    for (const auto& k : kernels) mean = mean + (1. / static_cast<double>(n)) * k;
    CHECK(difference(so_far.mean(), mean) <= 1e-14);
    if (n < 2) return true;
    for (const auto& k : kernels)
      for (Index i = 0; i < k.size(); ++i) error.data()[i] += (k.data()[i] - mean.data()[i]) * (k.data()[i] - mean.data()[i]);
    for (double& e : error) e = std::sqrt(e / static_cast<double>((n - 1) * n));
    CHECK(difference(so_far.error(), error) <= 1e-12);
    CHECK(symmetric(so_far.mean()));
    CHECK(symmetric(so_far.error()));
    return n < 7;
  };
  CHECK(ntk::monte_carlo_full<T>(net.f, init, x, 20, {}, each).samples() == 7);  // enough
  CHECK(told == 7);
  const auto traced = ntk::monte_carlo_traced<T>(net.f, init, x, 3);
  Array<double> sum({4, 4});
  for (Index i = 0; i < 3; ++i) sum = sum + linnet::autodiff::cast<double>(ntk::traced(net.f, init(i), x).matrix());
  CHECK(difference(traced.mean(), (1. / 3) * sum) <= 1e-14);
  std::vector<Progress> progress;
  ntk::Options options;
  options.progress = [&](const Progress& p) { progress.push_back(p); return true; };
  ntk::monte_carlo_traced<T>(net.f, init, x, 3, options);
  CHECK(progress.back().what == "samples");
  CHECK(progress.back().done == 3);
}

TEST_CASE_TEMPLATE("means of nothing, of one or of samples that differ in shape are refused", T, float, double) {
  ntk::RunningMean<T> mean;
  CHECK(message<ShapeError>([&] { mean.error(); }) == "RunningMean: an error needs two samples or more, there are 0");
  mean.add(Array<T>({2}, T(1)));
  CHECK(message<ShapeError>([&] { mean.error(); }) == "RunningMean: an error needs two samples or more, there are 1");
  CHECK(message<ShapeError>([&] { mean.add(Array<T>({3})); }) == "RunningMean: a sample [3] came after samples [2]");
  mean.add(Array<T>({2}, T(3)));
  CHECK(mean.mean() == Array<double>({2}, 2.));
  CHECK(mean.error() == Array<double>({2}, 1.));
  const Network net = mlp(3, {4}, 2);
  const ntk::Initialize<T> init = [&](Index) { return as<T>(net.params); };
  CHECK(message<ShapeError>([&] { ntk::monte_carlo_full<T>(net.f, init, as<T>(examples(net, 2, 1)), 0); }) == "ntk::monte_carlo_full: at least one sample is needed, got 0");
  CHECK(message<ShapeError>([&] { ntk::monte_carlo_traced<T>(net.f, init, as<T>(examples(net, 2, 1)), -1); }) == "ntk::monte_carlo_traced: at least one sample is needed, got -1");
}
