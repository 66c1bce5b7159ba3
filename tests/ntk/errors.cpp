// What ntk refuses and what it says: functions that mix examples, shapes that do not fit, numbers that are not finite, limits and cancellation.
#include "networks_by_hand.h"

#include <doctest/doctest.h>

#include <limits>

using namespace networks;
using linnet::autodiff::NumericalError;
using linnet::autodiff::Progress;
using linnet::autodiff::ShapeError;
using linnet::autodiff::TraceError;
using ntk::Method;

namespace {

constexpr Method methods[] = {Method::structured, Method::jacobian_contraction, Method::vector_products, Method::automatic};
constexpr double infinity = std::numeric_limits<double>::infinity(), not_a_number = std::numeric_limits<double>::quiet_NaN();

// Functions whose examples see each other.
std::vector<Network> mixing() {
  using namespace linnet::autodiff;
  using P = const Tree<Var>&;
  return {
      network("batch mean subtracted", {3}, {{"W", {3, 2}}, {"b", {2}}}, [](P p, Var x) { return dot(x - mean(x, {0}, true), p["W"]) + p["b"]; }),
      network("softmax over the batch", {3}, {{"W", {3, 2}}}, [](P p, Var x) { return softmax(dot(x, p["W"]), 0); }),
      network("batch normalization", {3}, {{"W", {3, 2}}},
              [](P p, Var x) { const Var h = dot(x, p["W"]), c = h - mean(h, {0}, true); return c / sqrt(mean(square(c), {0}, true) + 0.1); }),
      network("divided by the number of examples", {3}, {{"W", {3, 2}}}, [](P p, Var x) { return 1.0 / static_cast<double>(x.shape()[0]) * dot(x, p["W"]); }),
      network("the example before", {3}, {{"W", {3, 2}}},
              [](P p, Var x) { const Index n = x.shape()[0]; const Var h = dot(x, p["W"]); return h + (n > 1 ? tanh(concatenate({slice(h, 0, n - 1, 1), slice(h, 0, 0, n - 1)}, 0)) : h); }),
      network("of one output", {}, {{"a", {}}}, [](P p, Var x) { return x * p["a"] - mean(x * p["a"]); }),
  };
}

template <class T> struct Case {
  Network net = mlp(3, {4}, 2);
  Tree<Array<T>> params = as<T>(net.params);
  Array<T> x = as<T>(examples(net, 5, 1)), x2 = as<T>(examples(net, 3, 2));
};

// What each entry point says of these arguments, with its own name left out.
template <class Error, class T> std::vector<std::string> all_messages(const ntk::Apply& f, const Tree<Array<T>>& params, const Array<T>& x, bool with_nngp = true) {
  std::vector<std::string> all = {message<Error>([&] { ntk::full(f, params, x); }), message<Error>([&] { ntk::traced(f, params, x); }), message<Error>([&] { ntk::diagonal(f, params, x); }),
                                  message<Error>([&] { ntk::Operator<T>(f, params, x); })};
  if (with_nngp) all.push_back(message<Error>([&] { ntk::nngp(f, params, x); }));
  const std::string names[] = {"ntk::full", "ntk::traced", "ntk::diagonal", "ntk::Operator", "ntk::nngp"};
  for (std::size_t i = 0; i < all.size(); ++i)
    if (all[i].starts_with(names[i] + ": ")) all[i].erase(0, names[i].size() + 2);
  return all;
}

}  // namespace

TEST_CASE_TEMPLATE("a function that mixes examples is refused, by every entry point and method", T, float, double) {
  for (const Network& net : mixing()) {
    CAPTURE(net.name);
    const auto params = as<T>(net.params);
    const Array<T> x = as<T>(examples(net, 5, 1));
    for (const std::string& text : all_messages<TraceError>(net.f, params, x, false)) {
      CAPTURE(text);
      CHECK(text.starts_with("f mixes examples (output 0 of example 0 changes by "));
      CHECK(text.ends_with(" when example 4 is present); pass Options{.independent = false}"));
    }
    for (const Method method : methods) CHECK(message<TraceError>([&] { ntk::full(net.f, params, x, {.method = method}); }).starts_with("ntk::full: f mixes examples"));
    CHECK(message<TraceError>([&] { ntk::full(net.f, params, x, x.rows(0, 1)); }).starts_with("ntk::full: f mixes examples"));
    CHECK(message<TraceError>([&] { ntk::traced(net.f, params, x.rows(0, 1), x); }).starts_with("ntk::traced: f mixes examples"));
  }
}

TEST_CASE_TEMPLATE("with independent = false the kernel is that of the whole batch", T, float, double) {
  for (const Network& net : mixing()) {
    CAPTURE(net.name);
    for (const Index n : {1, 2, 7, 40}) {
      CAPTURE(n);
      const Array<double> x = examples(net, n, 1), x2 = examples(net, 3, 2), J = jacobian(net, x), J2 = jacobian(net, x2);
      const Array<double> expected = outer(J, J), expected2 = outer(J2, J);
      const Index outputs = J.shape()[0] / n;
      const double scale = max_abs(expected) == 0 ? 1 : max_abs(expected);  // one example less its own mean has no kernel but rounding
      for (const Method method : methods) {
        const ntk::Options options{.method = method, .independent = false, .max_memory = 0, .progress = {}};
        const Array<double> k = linnet::autodiff::cast<double>(ntk::full(net.f, as<T>(net.params), as<T>(x), options).matrix());
        CHECK(max_abs(k - expected) <= tolerance<T>() * scale);
        CHECK(symmetric(k));
        const Array<double> k2 = linnet::autodiff::cast<double>(ntk::full(net.f, as<T>(net.params), as<T>(x2), as<T>(x), options).matrix());
        CHECK(max_abs(k2 - expected2) <= tolerance<T>() * std::max(scale, max_abs(expected2)));
        const Array<double> t = linnet::autodiff::cast<double>(ntk::traced(net.f, as<T>(net.params), as<T>(x), options).matrix());
        CHECK(max_abs(t - networks::traced(expected, outputs)) <= tolerance<T>() * static_cast<double>(outputs) * scale);
        const Array<double> t2 = linnet::autodiff::cast<double>(ntk::traced(net.f, as<T>(net.params), as<T>(x2), as<T>(x), options).matrix());
        CHECK(max_abs(t2 - networks::traced(expected2, outputs)) <= tolerance<T>() * static_cast<double>(outputs) * std::max(scale, max_abs(expected2)));
      }
    }
  }
  const Network net = mixing()[0];
  CHECK(message<TraceError>([&] { ntk::diagonal(net.f, net.params, examples(net, 3, 1), {.independent = false}); }) ==
        "ntk::diagonal: f must treat examples independently; take the diagonal of ntk::full instead");
}

TEST_CASE_TEMPLATE("mixing is found where examples are copies of each other", T, float, double) {
  const Network net = mixing()[0];
  const auto params = as<T>(net.params);
  Array<T> x = as<T>(examples(net, 4, 1));
  std::copy_n(x.begin(), 3, x.data() + 9);  // the last is the first
  CHECK(message<TraceError>([&] { ntk::full(net.f, params, x); }).ends_with("when example 2 is present); pass Options{.independent = false}"));
  std::copy_n(x.begin(), 3, x.data() + 3);
  std::copy_n(x.begin(), 3, x.data() + 6);
  CHECK(message<TraceError>([&] { ntk::full(net.f, params, x); }) == "ntk::full: f mixes examples (output 0 of example 0 changes with a change of example 1); pass Options{.independent = false}");
  const Network fine = mlp(3, {4}, 2);
  CHECK(ntk::full(fine.f, as<T>(fine.params), x).rows() == 4);
  const Array<T> zeros({3, 3});
  CHECK(ntk::full(fine.f, as<T>(fine.params), zeros).rows() == 3);
  CHECK(message<TraceError>([&] { ntk::full(net.f, params, zeros); }).starts_with("ntk::full: f mixes examples"));
}

TEST_CASE_TEMPLATE("rounding is not taken for mixing", T, float, double) {
  const ntk::Apply cancels = [](const Tree<Var>& p, const Var& x) { return dot(tanh(1e3 * dot(x, p["W"])), p["V"]); };  // long sums of both signs
  Draw draw(1);
  const Tree<Array<T>> params{{"W", as<T>(draw.array({50, 700}))}, {"V", as<T>(draw.array({700, 3}))}};
  CHECK(ntk::traced(cancels, params, as<T>(draw.array({3, 50}))).outputs() == 3);
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const Network net = drawn(seed);
    CHECK(ntk::diagonal(net.f, as<T>(net.params), as<T>(examples(net, 2, seed))).shape()[0] == 2);
  }
}

TEST_CASE_TEMPLATE("f must keep the leading axis and have outputs", T, float, double) {
  const Case<T> c;
  const auto check = [&](const ntk::Apply& f, const Array<T>& x, const std::string& text, bool with_operator = true) {
    const auto all = all_messages<ShapeError>(f, c.params, x);
    for (std::size_t i = 0; i < all.size(); ++i)
      if (i != 3 || with_operator) CHECK(all[i] == text);
    CHECK(message<ShapeError>([&] { ntk::explain(f, map([](const Array<T>& a) { return a.shape(); }, c.params), x.shape(), 5, 5); }) == "ntk::explain: " + text);
  };
  check([](const Tree<Var>&, const Var& x) { return sum(x, {0}); }, c.x, "f must keep the leading axis of x, which counts examples; it takes [5,3] to [3]");
  check([](const Tree<Var>&, const Var& x) { return sum(x); }, c.x, "f must keep the leading axis of x, which counts examples; it takes [5,3] to []");
  check([](const Tree<Var>&, const Var& x) { return transpose(x); }, c.x, "f must keep the leading axis of x, which counts examples; it takes [5,3] to [3,5]");
  check([](const Tree<Var>&, const Var& x) { return linnet::autodiff::concatenate({x, x}, 0); }, c.x, "f must keep the leading axis of x, which counts examples; it takes [5,3] to [10,3]");
  check([](const Tree<Var>&, const Var& x) { return x; }, Array<T>(Shape{}), "x must have a leading axis that counts examples, a scalar came");
  check([](const Tree<Var>&, const Var& x) { return slice(x, 1, 0, 0); }, c.x, "f has no outputs: it takes [5,3] to [5,0]", false);
  const ntk::Apply gram = [](const Tree<Var>&, const Var& x) { return dot(x, x, {false, true}); };
  for (const std::string& text : all_messages<ShapeError>(gram, c.params, c.x, false))
    CHECK(text == "f takes two examples to [2,2] and one to [1,1]; it must keep the leading axis and nothing else may depend on it");
}

TEST_CASE_TEMPLATE("two sets of examples must fit each other", T, float, double) {
  const Case<T> c;
  const auto pairs = [&](const Array<T>& x2, const std::string& text) {
    CHECK(message<ShapeError>([&] { ntk::full(c.net.f, c.params, x2, c.x); }) == "ntk::full: " + text);
    CHECK(message<ShapeError>([&] { ntk::traced(c.net.f, c.params, x2, c.x); }) == "ntk::traced: " + text);
  };
  pairs(Array<T>({4, 2}), "x2 [4,2] and x1 [5,3] must agree in all axes but the leading one");
  pairs(Array<T>({4, 1, 3}), "x2 [4,1,3] and x1 [5,3] must agree in all axes but the leading one");
  pairs(Array<T>({4}), "x2 [4] and x1 [5,3] must agree in all axes but the leading one");
  pairs(Array<T>(Shape{}), "x2 [] and x1 [5,3] must agree in all axes but the leading one");
  const ntk::Apply wide = [](const Tree<Var>&, const Var& x) { return x; };
  CHECK(message<ShapeError>([&] { ntk::nngp(wide, c.params, Array<T>({4, 2}), c.x); }) == "ntk::nngp: f takes x2 to [4,2] and x1 to [5,3]; the outputs must agree");
}

TEST_CASE_TEMPLATE("what f itself refuses comes through with the layer's path", T, float, double) {
  const Case<T> c;
  const std::string text = message<ShapeError>([&] { ntk::full(c.net.f, c.params, Array<T>({5, 4})); });
  CAPTURE(text);
  CHECK(text.find("dense_0") != std::string::npos);
}

TEST_CASE_TEMPLATE("numbers that are not finite are refused by name and position", T, float, double) {
  const Case<T> c;
  for (const double bad : {not_a_number, infinity, -infinity}) {
    const std::string value = bad != bad ? "nan" : bad > 0 ? "inf" : "-inf";
    Tree<Array<T>> params = c.params;
    params["dense_2"]["W"].leaf()[{3, 1}] = static_cast<T>(bad);
    for (const std::string& text : all_messages<NumericalError>(c.net.f, params, c.x)) CHECK(text == "params 'dense_2/W' has " + value + " at [3,1]; every value must be finite");
    Array<T> x = c.x;
    x[{4, 2}] = static_cast<T>(bad);
    for (const std::string& text : all_messages<NumericalError>(c.net.f, c.params, x)) CHECK(text == "x has " + value + " at [4,2]; every value must be finite");
    CHECK(message<NumericalError>([&] { ntk::full(c.net.f, c.params, c.x2, x); }) == "ntk::full: x1 has " + value + " at [4,2]; every value must be finite");
    CHECK(message<NumericalError>([&] { ntk::full(c.net.f, c.params, x, c.x2); }) == "ntk::full: x2 has " + value + " at [4,2]; every value must be finite");
    CHECK(message<NumericalError>([&] { ntk::traced(c.net.f, c.params, x, c.x2); }) == "ntk::traced: x2 has " + value + " at [4,2]; every value must be finite");
    CHECK(message<NumericalError>([&] { ntk::nngp(c.net.f, c.params, c.x2, x); }) == "ntk::nngp: x1 has " + value + " at [4,2]; every value must be finite");
  }
}

TEST_CASE_TEMPLATE("a result that is not finite names the first instruction, its layer and the example", T, float, double) {
  const nn::Layer layer = nn::serial({nn::Dense(4, {1.5, 0.1}), nn::Exp(1, 1), nn::Dense(2, {1.5, 0.1})});
  const Network net = of_layers("exp", layer, {3});
  const auto params = as<T>(net.params);
  Array<T> x = as<T>(examples(net, 5, 1));
  const Array<T> fine = x;
  for (Index i = 0; i < 3; ++i) x[{3, i}] = static_cast<T>(i % 2 ? 1e5 : -3e5);
  const auto names = [&](const std::string& text, const std::string& operation) {
    CAPTURE(text);
    CHECK(text.starts_with(operation + ": the result is not finite: serial/exp_1: exp gives inf at [0,"));
    CHECK(text.ends_with("] of [1,4] for example 3; scale the inputs or parameters, or compute in double"));
  };
  for (const Method method : methods) names(message<NumericalError>([&] { ntk::full(net.f, params, x, {.method = method}); }), "ntk::full");
  names(message<NumericalError>([&] { ntk::traced(net.f, params, x); }), "ntk::traced");
  names(message<NumericalError>([&] { ntk::diagonal(net.f, params, x); }), "ntk::diagonal");
  names(message<NumericalError>([&] { ntk::Operator<T>(net.f, params, x); }), "ntk::Operator");
  names(message<NumericalError>([&] { ntk::full(net.f, params, x, fine); }), "ntk::full");
  names(message<NumericalError>([&] { ntk::full(net.f, params, fine, x); }), "ntk::full");
  const std::string text = message<NumericalError>([&] { ntk::nngp(net.f, params, x); });
  CAPTURE(text);
  CHECK(text.starts_with("ntk::nngp: the result is not finite: serial/exp_1: exp gives inf at [3,"));
  CHECK(text.ends_with("] of [5,4]; scale the inputs or parameters, or compute in double"));
  const ntk::Apply mixed = [](const Tree<Var>& p, const Var& x) { return reshape(exp(1e4 * dot(x - mean(x, {0}, true), p["W"])), {5, 2}); };  // not of one example
  CHECK(message<NumericalError>([&] { ntk::full(mixed, Tree<Array<T>>{{"W", Array<T>({3, 2}, T(1))}}, fine, {.independent = false}); })
            .starts_with("ntk::full: the result is not finite: exp gives inf at ["));
}

TEST_CASE_TEMPLATE("where f is finite but its derivative or the kernel is not, the text says so", T, float, double) {
  const std::string text = ": the result is not finite although f is: a derivative of f is infinite, or a product overflows; scale the inputs or parameters, or compute in double";
  const ntk::Apply root = [](const Tree<Var>& p, const Var& x) { return sqrt(x * p["a"]); };
  const Tree<Array<T>> zero{{"a", Array<T>({1})}};
  for (const Method method : methods) CHECK(message<NumericalError>([&] { ntk::full(root, zero, Array<T>({3, 1}, T(1)), {.method = method}); }) == "ntk::full" + text);
  CHECK(message<NumericalError>([&] { ntk::diagonal(root, zero, Array<T>({3, 1}, T(1))); }) == "ntk::diagonal" + text);
  const ntk::Apply linear = [](const Tree<Var>& p, const Var& x) { return dot(x, p["W"]); };
  const T large = std::sqrt(std::numeric_limits<T>::max());
  for (const Method method : methods)
    CHECK(message<NumericalError>([&] { ntk::traced(linear, Tree<Array<T>>{{"W", Array<T>({2, 1})}}, Array<T>({3, 2}, large), {.method = method}); }) == "ntk::traced" + text);
}

TEST_CASE_TEMPLATE("an index outside a table is refused", T, float, double) {
  const ntk::Apply f = [](const Tree<Var>& p, const Var& x) { return gather(p["E"], x); };
  CHECK(message<NumericalError>([&] { ntk::full(f, Tree<Array<T>>{{"E", Array<T>({4, 2}, T(1))}}, Array<T>({3}, {0, 1, 4})); }).find("gather") != std::string::npos);
}

TEST_CASE_TEMPLATE("kernels are made of values that fit", T, float, double) {
  CHECK(message<ShapeError>([] { ntk::FullKernel<T>(Array<T>({4, 6}), 2, 3, 3); }) == "FullKernel: 2 rows and 3 columns of examples with 3 outputs need values [6,9], got [4,6]");
  CHECK(message<ShapeError>([] { ntk::FullKernel<T>(Array<T>({0, 0}), 2, 3, 0); }) == "FullKernel: 2 rows and 3 columns of examples with 0 outputs need values [0,0], got [0,0]");
  CHECK(message<ShapeError>([] { ntk::TracedKernel<T>(Array<T>({4}), 1); }) == "TracedKernel: a matrix over examples and at least one output are needed, got [4] and 1 outputs");
  CHECK(message<ShapeError>([] { ntk::TracedKernel<T>(Array<T>({4, 4}), 0); }) == "TracedKernel: a matrix over examples and at least one output are needed, got [4,4] and 0 outputs");
  CHECK(ntk::FullKernel<T>(Array<T>({4, 6}), 2, 3, 2).columns() == 3);
  CHECK(ntk::TracedKernel<T>(Array<T>({4, 6}), 2).outputs() == 2);
}

TEST_CASE_TEMPLATE("progress is told up to the end, and can cancel", T, float, double) {
  const Network net = mlp(3, {4}, 3);
  const auto params = as<T>(net.params);
  const Array<T> x = as<T>(examples(net, 300, 1)), few = x.rows(0, 20);
  const auto check = [](const std::string& what, const std::string& operation, std::size_t total, auto&& run) {
    CAPTURE(operation);
    std::vector<Progress> told;
    ntk::Options options;
    options.progress = [&](const Progress& p) { told.push_back(p); return true; };
    run(options);
    REQUIRE(!told.empty());
    for (std::size_t i = 0; i < told.size(); ++i) {
      CHECK(told[i].what == what);
      CHECK(told[i].total == total);
      CHECK(told[i].seconds >= 0);
      if (i > 0) CHECK(told[i].done > told[i - 1].done);
    }
    CHECK(told.back().done == total);
    options.progress = [](const Progress&) { return false; };
    const std::string text = message<NumericalError>([&] { run(options); });
    CAPTURE(text);
    CHECK(text.starts_with(operation + ": cancelled by the progress function after "));
    CHECK(text.ends_with(" of " + std::to_string(total) + " " + what));
  };
  const auto with = [](ntk::Options options, Method method) { options.method = method; return options; };
  check("kernel tiles", "ntk", 15, [&](const ntk::Options& o) { ntk::full(net.f, params, x, o); });  // 64 examples of 3 outputs a tile: 5 by 5, half of them
  check("kernel tiles", "ntk", 5, [&](const ntk::Options& o) { ntk::full(net.f, params, few, x, o); });
  check("kernel tiles", "ntk", 3, [&](const ntk::Options& o) { ntk::traced(net.f, params, x, with(o, Method::jacobian_contraction)); });
  check("kernel columns", "ntk::full", 20, [&](const ntk::Options& o) { ntk::full(net.f, params, few, with(o, Method::vector_products)); });
  check("kernel columns", "ntk::traced", 1, [&](ntk::Options o) { o.independent = false; ntk::traced(net.f, params, few, o); });
  check("diagonal blocks", "ntk::diagonal", 38, [&](const ntk::Options& o) { ntk::diagonal(net.f, params, x, o); });
}
