// The meter against networks whose departure from linearity is known: none, second order alone, third order alone; its estimates against explicit kernels.
#include "linnet/predict/validity.h"

#include "linnet/autodiff/config.h"
#include "linnet/autodiff/ops.h"
#include "linnet/nn/nn.h"
#include "linnet/ntk/parts.h"
#include "linnet/predict/predict.h"
#include "linnet/tests/predict/problem.h"

#include <doctest/doctest.h>

#include <cstring>

using namespace linnet::predict;
using linnet::autodiff::cast;
using linnet::autodiff::NumericalError;
using linnet::autodiff::Scalar;
using linnet::autodiff::ShapeError;
using linnet::autodiff::StructureError;
using linnet::autodiff::Var;
using problem::Array, problem::Draw, problem::Index, problem::infinity, problem::product, problem::Shape;
using Weights = Tree<Array<double>>;

namespace {

Var linear(const Tree<Var>& p, const Var& x) { return dot(x, p["W"].leaf()) + p["b"].leaf(); }
Var quadratic(const Tree<Var>& p, const Var& x) { return dot(dot(x, p["U"].leaf()), p["V"].leaf()); }
Var cubic(const Tree<Var>& p, const Var& x) { return dot(dot(dot(x, p["U"].leaf()), p["V"].leaf()), p["W"].leaf()); }
Var network(const Tree<Var>& p, const Var& x) { return dot(erf(dot(x, p["in"]["W"].leaf()) + p["in"]["b"].leaf()), p["out"].leaf()); }

struct Case {
  Weights params;
  Array<double> x, y, probe;
};
Case network_case(Index n, Index width, Index outputs, std::uint64_t seed) {
  Draw draw(seed);
  const Array<double> W = draw.array({3, width}), b = draw.array({1, width}), out = draw.array({width, outputs});
  return {{{"in", {{"W", W}, {"b", b}}}, {"out", out}}, draw.array({n, 3}), draw.array({n, outputs}), draw.array({5, 3})};
}
Weights moved(const Weights& from, double size, std::uint64_t seed) {
  Draw draw(seed);
  return map([&](const Array<double>& a) { return a + size * draw.array(a.shape()); }, from);
}
double root_mean_square(const Array<double>& v) { return norm(v) / std::sqrt(static_cast<double>(v.size())); }
template <Scalar T> Tree<Array<T>> narrowed(const Weights& tree) {
  return map([](const Array<double>& a) { return cast<T>(a); }, tree);
}
Array<double> wholes(const Shape& shape, int seed) {  // small whole numbers, with which linear algebra is exact
  Array<double> a(shape);
  for (Index i = 0; i < a.size(); ++i) a.data()[i] = static_cast<double>((i * 7 + seed) % 5 - 2);
  return a;
}
Array<double> kernel(const linnet::ntk::Apply& f, const Weights& p, const Array<double>& x) { return linnet::ntk::full(f, p, x).matrix(); }

}  // namespace

TEST_CASE_TEMPLATE("a network that is linear in its weights has no gap and no drift, exactly", T, float, double) {
  const auto at = [](int seed) { return narrowed<T>(Weights({{"W", wholes({3, 2}, seed)}, {"b", wholes({1, 2}, seed + 1)}})); };
  const Validity m = validity<T>(linear, at(0), at(3), cast<T>(wholes({6, 3}, 1)), cast<T>(wholes({4, 3}, 2)));
  for (const Departure& d : {m.train, m.probe}) {
    CHECK(d.change > 0);
    CHECK(d.gap == 0);
    CHECK(d.second == 0);
    CHECK(d.higher == 0);
    CHECK(d.largest == 0);
  }
  CHECK(m.train.rows == 12);
  CHECK(m.probe.rows == 8);
  CHECK(m.drift.value == 0);
  CHECK(m.drift.error == 0);
  CHECK(m.alignment.value == 1);
  CHECK(m.regime() == Regime::linear);
  CHECK(m.verdict() == "Linear: the network departs from its linearization by 0 % of what training changed (0 % of it beyond second order), and its kernel has moved by 0 %; the closed form may stand for the network.");
}

TEST_CASE("a linear network that was trained has no gap beyond rounding and no drift") {
  Draw draw(1);
  const Array<double> W = draw.array({4, 3}), b = draw.array({1, 3}), x = draw.array({9, 4}), y = draw.array({9, 3});
  const auto flow = gradient_flow(linear, Weights({{"W", W}, {"b", b}}), x, y);
  for (const double t : {1e-3, 1.0, 100.0, infinity}) {
    const Validity m = validity(flow(t), draw.array({5, 4}));
    CHECK(m.time == t);
    CHECK(m.train.relative_gap() == 0);
    CHECK(m.probe.relative_gap() == 0);
    CHECK(m.train.second == 0);
    CHECK(m.drift.value == 0);
    CHECK(m.regime() == Regime::linear);
  }
}

TEST_CASE("the gap of a product of two weights is its second-order term, on the training examples and on others") {
  Draw draw(2);
  const Array<double> U = draw.array({3, 4}), V = draw.array({4, 2}), x = draw.array({7, 3}), y = draw.array({7, 2}), probe = draw.array({5, 3});
  const Weights params{{"U", U}, {"V", V}};
  const auto at = gradient_flow(quadratic, params, x, y)(3);
  const Validity m = validity(at, probe);
  const Weights theta = at.weights();
  const auto term = [&](const Array<double>& of) { return product(of, product(theta["U"].leaf() - U, theta["V"].leaf() - V)); };
  for (const auto& [d, of] : {std::pair(m.train, x), std::pair(m.probe, probe)}) {
    CHECK(d.gap > 1e-2);
    CHECK(d.gap == doctest::Approx(root_mean_square(term(of))).epsilon(1e-12));
    CHECK(d.second == doctest::Approx(d.gap).epsilon(1e-12));
    CHECK(d.largest == doctest::Approx(max_abs(term(of))).epsilon(1e-12));
    CHECK(d.higher <= d.rounding);
    CHECK(d.relative_gap() == doctest::Approx(d.gap / d.change));
  }
  const Array<double> linear_change = at.train() - product(x, product(U, V));
  CHECK(m.train.change == doctest::Approx(root_mean_square(linear_change)).epsilon(1e-10));
  for (const LayerShare& l : m.layers) CHECK(l.second == doctest::Approx(0.5));  // the term is bilinear: half is each one's
}

TEST_CASE("what is left of a product of three weights beyond second order is its third-order term") {
  Draw draw(3);
  const Weights params{{"U", draw.array({3, 4})}, {"V", draw.array({4, 5})}, {"W", draw.array({5, 2})}}, to = moved(params, 0.5, 4);
  const Array<double> x = draw.array({6, 3});
  const Validity m = validity<double>(cubic, params, to, x, x);
  const auto d = [&](const char* name) { return to[name].leaf() - params[name].leaf(); };
  CHECK(m.train.higher == doctest::Approx(root_mean_square(product(x, product(product(d("U"), d("V")), d("W"))))).epsilon(1e-11));
  CHECK(m.train.second > m.train.rounding);
  CHECK(m.probe.higher == m.train.higher);
}

TEST_CASE("half the change of weights leaves a quarter of the gap and an eighth of what is of higher order") {
  const Case c = network_case(8, 6, 2, 5);
  const auto at = [&](double size) { return validity<double>(network, c.params, moved(c.params, size, 6), c.x, c.probe); };
  const Validity once = at(2e-3), half = at(1e-3);
  CHECK(once.train.change / half.train.change == doctest::Approx(2).epsilon(1e-9));
  CHECK(once.train.second / half.train.second == doctest::Approx(4).epsilon(1e-9));
  CHECK(once.probe.gap / half.probe.gap == doctest::Approx(4).epsilon(5e-3));
  CHECK(once.probe.higher / half.probe.higher == doctest::Approx(8).epsilon(1e-2));
}

TEST_CASE("estimates of drift and alignment lie about those of explicit kernels as their errors say") {
  const Case c = network_case(9, 7, 2, 7);
  const Weights to = moved(c.params, 0.4, 8);
  const Array<double> start = kernel(network, c.params, c.x), end = kernel(network, to, c.x);
  const double drift = norm(end - start) / norm(start), alignment = dot(start, end) / (norm(start) * norm(end));
  int within = 0, aligned = 0;
  double drifts = 0, errors = 0;
  constexpr int seeds = 40;
  for (int seed = 0; seed < seeds; ++seed) {
    const Validity m = validity<double>(network, c.params, to, c.x, c.probe, {.probes = 32, .seed = static_cast<std::uint64_t>(seed), .layers = false});
    within += std::abs(m.drift.value - drift) <= 2 * m.drift.error;
    aligned += std::abs(m.alignment.value - alignment) <= 2 * m.alignment.error;
    drifts += m.drift.value / seeds;
    errors += m.drift.error / seeds;
    CHECK(m.drift.error > 0);
    CHECK(m.drift.samples == 32);
    CHECK(m.layers.empty());
  }
  CHECK(within >= 32);
  CHECK(aligned >= 32);
  CHECK(std::abs(drifts - drift) <= 3 * errors / std::sqrt(seeds));
  CHECK(errors < 0.2 * drift);
}

TEST_CASE("the shares of the layers add up to one, and are those of the layers moved alone") {
  const Case c = network_case(8, 6, 3, 9);
  const auto at = gradient_flow(network, c.params, c.x, c.y, {.rate = 2})(10);
  const Validity m = validity(at, c.probe);
  REQUIRE(m.layers.size() == 2);
  CHECK(m.layers[0].name == "in");
  CHECK(m.layers[1].name == "out");
  CHECK(m.layers[0].weights + m.layers[1].weights == doctest::Approx(1).epsilon(1e-13));
  CHECK(m.layers[0].change + m.layers[1].change == doctest::Approx(1).epsilon(1e-13));
  CHECK(m.layers[0].second + m.layers[1].second == doctest::Approx(1).epsilon(1e-13));
  const Weights theta = at.weights();
  const auto change = map([](const Array<double>& a, const Array<double>& b) { return a - b; }, theta, c.params);
  const Weights out_alone{{"in", map([](const Array<double>& a) { return Array<double>(a.shape()); }, change["in"])}, {"out", change["out"]}};
  const Array<double> whole = linnet::autodiff::jvp(network, c.params, change, c.x).second, part = linnet::autodiff::jvp(network, c.params, out_alone, c.x).second;
  CHECK(m.layers[1].change == doctest::Approx(dot(part, whole) / dot(whole, whole)).epsilon(1e-10));
  const double out = dot(change["out"].leaf(), change["out"].leaf()), in = dot(change["in"]["W"].leaf(), change["in"]["W"].leaf()) + dot(change["in"]["b"].leaf(), change["in"]["b"].leaf());
  CHECK(m.layers[1].weights == doctest::Approx(out / (in + out)).epsilon(1e-10));
  CHECK(m.moved == doctest::Approx(std::sqrt((in + out) / (dot(c.params["out"].leaf(), c.params["out"].leaf()) + dot(c.params["in"]["W"].leaf(), c.params["in"]["W"].leaf()) +
                                                           dot(c.params["in"]["b"].leaf(), c.params["in"]["b"].leaf()))))
                       .epsilon(1e-10));
}

TEST_CASE("of rates the kernel is that of training, and a frozen layer has no share") {
  const Case c = network_case(8, 6, 2, 10);
  const auto at = gradient_flow(network, c.params, c.x, c.y, {.rate = 2, .weight_decay = 1e-2, .rates = {{"in", {{"W", rate(3)}, {"b", rate(0.5)}}}}})(5);
  const Validity m = validity(at, c.probe, {.probes = 200});
  const Weights theta = at.weights();
  CHECK(m.train.gap == doctest::Approx(validity<double>(network, c.params, theta, c.x, c.probe).train.gap).epsilon(1e-9));
  const auto squares = [&](const char* layer) {
    double total = 0;
    const auto change = map([](const Array<double>& a, const Array<double>& b) { return dot(a - b, a - b); }, theta[layer], c.params[layer]);
    for (const double* leaf : change.leaves()) total += *leaf;
    return total;
  };
  CHECK(m.layers[0].weights == doctest::Approx(squares("in") / (squares("in") + squares("out"))).epsilon(1e-9));
  const auto training_kernel = [&](const Weights& p) {
    const auto parts = linnet::ntk::full_by_parameter<double>(network, p, c.x);
    return 3 * parts["in"]["W"].leaf().matrix() + 0.5 * parts["in"]["b"].leaf().matrix() + parts["out"].leaf().matrix();
  };
  const Array<double> start = training_kernel(c.params), end = training_kernel(theta);
  CHECK(std::abs(m.drift.value - norm(end - start) / norm(start)) <= 3 * m.drift.error);
  CHECK(m.drift.error < 0.1 * m.drift.value);

  const Validity frozen = validity(gradient_flow(network, c.params, c.x, c.y, {.rates = {{"in", rate(0)}}})(50), c.probe);
  CHECK(frozen.layers[0].weights == 0);
  CHECK(frozen.layers[0].change == 0);
  CHECK(frozen.layers[1].change == doctest::Approx(1));
  CHECK(frozen.train.relative_gap() == 0);  // the last layer alone is linear
  CHECK(frozen.drift.value == 0);
}

TEST_CASE("examples in several batches, and mixed ones in one, are measured alike") {
  const Case c = network_case(300, 4, 2, 11);
  const Weights to = moved(c.params, 0.3, 12);
  const Validity m = validity<double>(network, c.params, to, c.x, c.x), whole = validity<double>(network, c.params, to, c.x, c.x, {.kernel = {.independent = false}});
  CHECK(m.train.rows == 600);
  CHECK(m.train.gap == m.probe.gap);
  CHECK(m.train.gap == doctest::Approx(whole.train.gap).epsilon(1e-13));
  CHECK(m.drift.value == doctest::Approx(whole.drift.value).epsilon(1e-12));
  const auto change = map([](const Array<double>& a, const Array<double>& b) { return a - b; }, to, c.params);
  const auto [value, first] = linnet::autodiff::jvp(network, c.params, change, c.x);
  const Array<double> gap = linnet::autodiff::compile(network, to, c.x)(to, c.x) - value - first;
  CHECK(m.train.gap == doctest::Approx(root_mean_square(gap)).epsilon(1e-12));
  CHECK(m.evaluations == 2);
  CHECK(m.double_jvps == 4);
  CHECK(m.products == 16);
}

TEST_CASE("nothing moved is said, and so are linear, curved and wild changes") {
  const Case c = network_case(6, 5, 1, 13);
  const auto flow = gradient_flow(network, c.params, c.x, c.y);
  const Validity still = validity(flow(0), c.probe);
  CHECK(still.regime() == Regime::unmoved);
  CHECK(still.verdict() == "Unmoved: what training changed is within rounding of the outputs, so there is nothing to judge.");
  CHECK(still.drift.value == 0);
  CHECK(still.moved == 0);
  CHECK(still.layers[0].weights == 0);
  CHECK(validity(flow(1e-18), c.probe).regime() == Regime::unmoved);
  const auto at = [&](double size) { return validity<double>(network, c.params, moved(c.params, size, 14), c.x, c.probe); };
  CHECK(at(1e-3).regime() == Regime::linear);
  CHECK(at(0.2).regime() == Regime::second_order);
  CHECK(at(3).regime() == Regime::nonlinear);
  CHECK(at(3).verdict().starts_with("Nonlinear: the network departs"));
  CHECK(at(0.2).verdict().find("widen the network, or relinearize on the way.") != std::string::npos);
  const std::string table = at(0.2).table();
  for (const char* part : {"validity at t = 0: weights moved by", "training          6", "probe             5", "kernel     drift", "(8 probes)", "in  ", "took       2 evaluations, 4 double jvps, 16 kernel products", "Second order: "}) {
    CAPTURE(table);
    CHECK(table.find(part) != std::string::npos);
  }
}

TEST_CASE("from a saddle without a slope everything is of second order, and the kernel is new") {
  const Weights zero{{"U", Array<double>({2, 3})}, {"V", Array<double>({3, 1})}}, to{{"U", Array<double>({2, 3}, 1.0)}, {"V", Array<double>({3, 1}, 1.0)}};
  const Array<double> x({2, 2}, {1, 2, 3, 4});
  const Validity m = validity<double>(quadratic, zero, to, x, Array<double>(Shape{0, 2}));
  CHECK(m.train.change == 0);
  CHECK(m.train.relative_gap() == infinity);
  CHECK(m.train.higher == 0);
  CHECK(m.drift.value == infinity);
  CHECK(m.alignment.value == 0);
  CHECK(m.moved == infinity);
  CHECK(m.probe.rows == 0);
  CHECK(m.regime() == Regime::nonlinear);
  CHECK(m.verdict().find("infinitely much of what training changed") != std::string::npos);
  CHECK(m.layers[0].change == 0);
  CHECK(m.layers[0].second == doctest::Approx(0.5));
}

TEST_CASE("one leaf as parameters is one layer") {
  const auto f = [](const Tree<Var>& p, const Var& x) { return tanh(dot(x, p.leaf())); };
  const Validity m = validity<double>(f, Array<double>({2, 1}, 0.1), Array<double>({2, 1}, 0.2), Array<double>({1, 2}, 1.0), Array<double>({1, 2}, 1.0));
  REQUIRE(m.layers.size() == 1);
  CHECK(m.layers[0].name == "params");
  CHECK(m.layers[0].change == doctest::Approx(1));
  CHECK(m.train.gap == doctest::Approx(std::abs(std::tanh(0.4) - std::tanh(0.2) - 0.2 * (1 - std::tanh(0.2) * std::tanh(0.2)))).epsilon(1e-12));
}

TEST_CASE("of a convolutional network with normalization the second-order term is that of differences") {
  namespace nn = linnet::nn;
  const nn::Layer layers = nn::serial({nn::Conv(4, {3, 3}, {.padding = nn::Padding::same}), nn::Gelu(), nn::LayerNorm(), nn::Conv(3, {2, 2}), nn::Tanh(), nn::GlobalAvgPool(), nn::Dense(2)});
  const linnet::ntk::Apply f = nn::function_of(layers);
  const Array<double> x = nn::normal<double>(nn::Key(1), {5, 4, 4, 2}), y = nn::normal<double>(nn::Key(2), {5, 2}), probe = nn::normal<double>(nn::Key(3), {3, 4, 4, 2});
  const Weights params = nn::initialize<double>(layers, nn::Key(4), x.shape());
  const auto at = gradient_flow(f, params, x, y, {.rates = {{"dense_6", rate(0.5)}}})(5);
  const Validity m = validity(at, probe);
  const Weights theta = at.weights();
  const auto outputs = linnet::autodiff::compile(f, params, probe);
  const auto along = [&](double s) {
    return outputs(map([&](const Array<double>& a, const Array<double>& b) { return a + s * (b - a); }, params, theta), probe);
  };
  const double h = 1e-3;
  const Array<double> first = 1 / (2 * h) * (along(h) - along(-h)), second = 0.5 / (h * h) * (along(h) + along(-h) - 2 * along(0));
  CHECK(m.probe.change == doctest::Approx(root_mean_square(first)).epsilon(1e-5));
  CHECK(m.probe.second == doctest::Approx(root_mean_square(second)).epsilon(1e-5));
  CHECK(m.probe.gap == doctest::Approx(root_mean_square(along(1) - along(0) - first)).epsilon(1e-4));
  REQUIRE(m.layers.size() == 3);  // those that have weights
  CHECK(m.layers[2].name == "dense_6");
  double total = 0;
  for (const LayerShare& l : m.layers) total += l.second;
  CHECK(total == doctest::Approx(1).epsilon(1e-12));
}

TEST_CASE("float and double networks are measured alike") {
  const Case c = network_case(8, 6, 2, 15);
  const auto wide = validity(gradient_flow(network, c.params, c.x, c.y)(5), c.probe);
  const auto narrow = validity(gradient_flow<float>(network, narrowed<float>(c.params), cast<float>(c.x), cast<float>(c.y))(5), cast<float>(c.probe));
  CHECK(narrow.train.gap == doctest::Approx(wide.train.gap).epsilon(1e-5));
  CHECK(narrow.probe.higher == doctest::Approx(wide.probe.higher).epsilon(1e-4));
  CHECK(narrow.drift.value == doctest::Approx(wide.drift.value).epsilon(1e-5));
}

TEST_CASE("what the meter refuses is said in sentences") {
  const Case c = network_case(6, 5, 2, 16);
  const auto flow = gradient_flow(network, c.params, c.x, c.y);
  CHECK_THROWS_WITH_AS(validity(flow(1), Array<double>(Shape{4, 2})), "validity: x_probe is [4,2], the examples trained on are [6,3]; they may differ in the leading axis only", ShapeError);
  CHECK_THROWS_WITH_AS(validity(flow(1), c.probe, {.probes = 1}), "validity: an error needs two probes or more, got 1", ShapeError);
  CHECK_THROWS_WITH_AS(validity(flow(1), Array<double>({1, 3}, infinity)), "validity: x_probe has inf at [0,0]; every value must be finite", NumericalError);
  const auto from_kernel = gradient_flow(linnet::ntk::full<double>(network, c.params, c.x), Array<double>({6, 2}), c.y);
  CHECK_THROWS_WITH_AS(validity(from_kernel(1), c.probe),
                       "validity: this flow was made from a kernel and has no network; make it by gradient_flow(f, params, x, y), or give predict the kernel and f0 of the test examples", StructureError);
  CHECK_THROWS_WITH_AS(validity<double>(network, c.params, c.params, Array<double>(Shape{0, 3}), c.probe), "validity: x is [0,3]; there must be at least one example", ShapeError);
  CHECK_THROWS_WITH_AS(validity<double>([](const Tree<Var>&, const Var& x) { return x; }, Weights(std::vector<Weights::Child>{}), Weights(std::vector<Weights::Child>{}), c.x, c.probe),
                       "validity: the parameters have no weight; there is nothing to differentiate by", StructureError);
  CHECK_THROWS_WITH_AS(validity<double>(network, c.params, Weights({{"out", c.params["out"]}}), c.x, c.probe), "validity: the tree has leaves [out], expected [in/W, in/b, out]", StructureError);
  Weights broken = c.params;
  broken["out"].leaf().data()[3] = infinity;
  CHECK_THROWS_WITH_AS(validity<double>(network, c.params, broken, c.x, c.probe), "validity: theta 'out' has inf at [1,1]; every value must be finite", NumericalError);
  const auto steep = [](const Tree<Var>& p, const Var& x) { return exp(dot(x, p.leaf())); };
  CHECK_THROWS_WITH_AS(validity<double>(steep, Array<double>({1, 1}, 0.0), Array<double>({1, 1}, 1e3), Array<double>({1, 1}, 1.0), Array<double>({0, 1})),
                       "validity: f(theta) has inf at [0,0]; every value must be finite", NumericalError);
  const auto summed = [](const Tree<Var>& p, const Var& x) { return sum(dot(x, p.leaf())); };
  CHECK_THROWS_AS(validity<double>(summed, Array<double>({1, 1}, 0.0), Array<double>({1, 1}, 1.0), Array<double>({1, 1}, 1.0), Array<double>({0, 1})), ShapeError);
  CHECK_THROWS_WITH_AS(validity(flow(1), c.probe, {.kernel = {.progress = [](const linnet::autodiff::Progress&) { return false; }}}), doctest::Contains("cancelled"), NumericalError);
}

TEST_CASE_TEMPLATE("the meter has the same bits for any number of threads", T, float, double) {
  const Case c = network_case(300, 70, 3, 17);
  const auto flow = gradient_flow<T>(network, narrowed<T>(c.params), cast<T>(c.x), cast<T>(c.y));
  const auto numbers = [&] {
    const Validity m = validity(flow(10), cast<T>(c.probe), {.probes = 4});
    std::vector<double> all{m.moved, m.drift.value, m.drift.error, m.alignment.value, m.alignment.error};
    for (const Departure& d : {m.train, m.probe}) all.insert(all.end(), {d.change, d.gap, d.second, d.higher, d.largest, d.rounding});
    for (const LayerShare& l : m.layers) all.insert(all.end(), {l.weights, l.change, l.second});
    return all;
  };
  const int before = linnet::autodiff::threads();
  linnet::autodiff::set_threads(1);
  const std::vector<double> expected = numbers();
  for (const int threads : {2, 3}) {
    linnet::autodiff::set_threads(threads);
    const std::vector<double> came = numbers();
    CHECK(std::memcmp(came.data(), expected.data(), expected.size() * sizeof(double)) == 0);
  }
  linnet::autodiff::set_threads(before);
}
