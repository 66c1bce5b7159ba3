// The plan of the structured kernel: which parameters it factors, that the tests of empirical.cpp reach every way of contracting, what it costs, and what is
// told of it.
#include "networks_by_hand.h"

#include "linnet/ntk/gram.h"

#include <doctest/doctest.h>

#include <array>

using namespace networks;
using linnet::autodiff::Varies;
using ntk::Contraction;
using ntk::GramPlan;
using ntk::Method;

namespace {

Network named(const std::string& name) {
  for (const Network& net : by_hand())
    if (net.name == name) return net;
  FAIL("no network is named " << name);
  return {};
}

GramPlan plan_of(const Network& net, Index n, bool traced = false, Contraction contraction = Contraction::automatic) {
  return ntk::plan_gram(net.f, map([](const Array<double>& a) { return a.shape(); }, net.params), net.example.inserted(0, std::array{Index(1)}), n, n, traced, contraction);
}

const GramPlan::Choice& choice(const GramPlan& plan, const std::string& parameter) {
  const auto found = std::find_if(plan.choices.begin(), plan.choices.end(), [&](const auto& c) { return c.parameter == parameter; });
  REQUIRE(found != plan.choices.end());
  return *found;
}

Tree<Shape> shapes(const Network& net) { return map([](const Array<double>& a) { return a.shape(); }, net.params); }

}  // namespace

TEST_CASE("the networks by hand reach every way of contracting, full and traced") {
  for (const bool traced : {false, true}) {
    int packed = 0, positions = 0, general = 0, ones = 0, several = 0, materialized = 0, nothing = 0, mixed = 0;
    for (const Network& net : by_hand()) {
      const GramPlan plan = plan_of(net, 5, traced);
      materialized += !plan.materialized.empty();
      for (const int v : plan.materialized) CHECK(plan.values[static_cast<std::size_t>(v)].varies == Varies::both);
      for (const auto& t : plan.terms) {
        CHECK(t.left.size() == t.scale.size());
        packed += t.packed;
        positions += t.plain && !t.packed;
        general += !t.plain;
        several += t.left.size() > 1;
        for (const auto& pair : t.left) {
          ones += pair[0] < 0;
          if (t.plain || pair[0] < 0) continue;
          const auto varies = [&](int v) { return plan.values[static_cast<std::size_t>(v)].varies; };
          nothing += varies(pair[0]) == Varies::nothing || varies(t.a) == Varies::nothing;
          mixed += varies(pair[0]) != varies(pair[1]);
        }
      }
    }
    CHECK(packed > 0);
    CHECK(positions > 0);
    CHECK(general > 0);
    CHECK(ones > 0);
    CHECK(several > 0);
    CHECK(materialized > 0);
    CHECK(nothing > 0);
    CHECK(mixed > 0);
  }
}

TEST_CASE("weights and biases of a network of layers factor, and a bias beside its weight costs nothing") {
  const GramPlan plan = plan_of(mlp(7, {6, 5}, 3), 100);
  REQUIRE(plan.choices.size() == 6);
  for (const auto& c : plan.choices) {
    CAPTURE(c.parameter);
    CHECK(c.factored);
    CHECK(c.uses == 1);
    CHECK(c.positions == 1);
    CHECK(c.materialized >= 100 * 100 * 9 * static_cast<double>(c.shape.size()));
    if (c.parameter.ends_with("b")) CHECK(c.factors == 0);
  }
  CHECK(choice(plan, "dense_0/W").factors == 100 * 100 * (7 + 9 * 6 + 9));
  CHECK(plan.terms.size() == 3);  // a bias shares its weight's
  CHECK(plan.materialized.empty());
}

TEST_CASE("a tied weight has pairs of all its uses, transposed or not") {
  const GramPlan twice = plan_of(mlp(3, {4}, 2), 10);
  CHECK(twice.terms.size() == 2);
  const GramPlan tied = plan_of(named("W and its transpose"), 10);
  CHECK(choice(tied, "W").factored);
  CHECK(choice(tied, "W").uses == 2);
  CHECK(tied.terms.size() == 4);
}

TEST_CASE("what does not factor, or would cost more by factors, is materialized") {
  CHECK_FALSE(choice(plan_of(named("through exp and a norm"), 10), "g").factored);
  CHECK_FALSE(choice(plan_of(named("a bias and its transpose"), 10), "B").factored);
  CHECK_FALSE(choice(plan_of(named("a parameter itself"), 10), "b").factored);
  CHECK_FALSE(choice(plan_of(named("slices of one matrix"), 10), "W").factored);
  const GramPlan many = plan_of(named("many positions of few weights"), 10);
  CHECK(choice(many, "W").positions == 20);
  CHECK(choice(many, "W").factors > choice(many, "W").materialized);
  CHECK_FALSE(choice(many, "W").factored);
  CHECK(choice(many, "V").factored == (choice(many, "V").factors <= choice(many, "V").materialized));
  CHECK(choice(plan_of(named("wide dense over two positions"), 10), "W").factored);
  const GramPlan unused = plan_of(named("one parameter unused"), 10);
  CHECK(choice(unused, "unused").uses == 0);
  for (const auto& c : plan_of(mlp(7, {6, 5}, 3), 100, false, Contraction::materialized).choices) CHECK_FALSE(c.factored);
}

TEST_CASE("a table of which rows are gathered is factored by index, whatever else it is used for") {
  const auto gathered = [](const std::string& name) { return plan_of(named(name), 10); };
  const GramPlan large = gathered("rows of a large table");
  CHECK(choice(large, "E").factored);
  CHECK(choice(large, "E").gathered);
  CHECK_FALSE(choice(large, "V").gathered);
  CHECK(choice(large, "E").positions == 4);
  CHECK(choice(large, "E").factors == 20 * 2 * 4 * 3 + 100 * 4 * (4 * 3 + 4));  // added up, then four rows of three numbers at most meet, for two outputs with two
  CHECK(choice(large, "E").factor_numbers == 20 * 4 * (1 + 2 * 3));
  CHECK(choice(large, "b").factors > 0);  // a row of the table is no product of all of it, beside which a bias would cost nothing
  REQUIRE(large.gathered.size() == 1);
  CHECK(large.gathered[0].table == 60);
  CHECK(large.gathered[0].width == 3);
  CHECK(plan_of(named("rows of a large table"), 10, false, Contraction::materialized).gathered.empty());
  CHECK_FALSE(choice(gathered("sum over embeddings"), "E").gathered == choice(gathered("sum over embeddings"), "V").gathered);
  const GramPlan columns = gathered("columns"), both = gathered("rows and columns"), twice = gathered("gathered twice, scaled"), one = gathered("one cotangent, two indices"), tied = gathered("a large table to embed and to read out");
  CHECK(columns.gathered.size() == 1);
  CHECK(columns.gathered[0].table == 50);
  CHECK(both.gathered.size() == 2);  // rows among themselves, columns among themselves, and one with the other
  CHECK(both.terms.size() >= 1);
  CHECK(twice.gathered.size() == 1);
  CHECK(twice.gathered[0].uses.size() >= 2);
  CHECK(one.gathered[0].uses.size() == 2);
  CHECK(one.gathered[0].uses[0][1] == one.gathered[0].uses[1][1]);
  CHECK(choice(tied, "E").factored);
  CHECK(choice(tied, "E").uses == 2);
  CHECK(tied.gathered.size() == 1);
  const auto crosses = [&](const GramPlan::Term& t) { return !t.plain && tied.values[static_cast<std::size_t>(t.left[0][0])].one_hot + tied.values[static_cast<std::size_t>(t.left[0][1])].one_hot == 23; };
  CHECK(std::count_if(tied.terms.begin(), tied.terms.end(), crosses) == 2);
  CHECK(choice(gathered("no positions"), "E").factored);
  const Network net = named("rows of a large table");
  const std::string text = ntk::explain(net.f, shapes(net), {1, 4}, 10, 10);
  CAPTURE(text);
  CHECK(text.find("  E [60,3]: factors (1 use, 4 positions, rows by index; multiply-adds 6.88e+03 by factors, 7.25e+04 materialized)\n") != std::string::npos);
  CHECK(ntk::plan_full(net.f, net.params, examples(net, 10, 1)).table.find("factors by index: 10.5 times fewer operations") != std::string::npos);
}

TEST_CASE_TEMPLATE("an index that is no row is an error where only the derivative looks it up", T, float, double) {
  const ntk::Apply linear = [](const Tree<Var>& p, const Var& x) { return reshape(gather(p["E"], reshape(x, {x.shape().size()})), {x.shape()[0], 6}); };
  const Tree<Array<T>> params{{"E", Array<T>({30, 3})}};
  for (const double wrong : {30., -1., 0.5}) {
    Array<T> x({5, 2}, T(3));
    x.data()[5] = static_cast<T>(wrong);  // of the third example
    x.data()[9] = 4;                      // the first and the last that differs from it are looked at before
    const std::string text = message<linnet::autodiff::NumericalError>([&] { ntk::full(linear, params, x); });
    CAPTURE(text);
    CHECK(text.find("gather: index " + std::string(wrong == 0.5 ? "0.5" : wrong < 0 ? "-1" : "30") + " at position 1 is no row of 0 to 29") != std::string::npos);
  }
}

TEST_CASE_TEMPLATE("two large sets share rows by chance: every pair of examples meets in its own", T, float, double) {
  for (const char* const name : {"rows that repeat", "one row, one output", "a large table to embed and to read out", "one cotangent, two indices"})
    for (const bool traced : {false, true}) {
      const Network net = named(name);
      CAPTURE(net.name);
      const auto params = as<T>(net.params);
      const Array<double> x = examples(net, 150, 1), J = jacobian(net, x), kernel = outer(J, J);
      const Index outputs = J.shape()[0] / 150;
      const auto rows = as<T>(x.rows(0, 131)), columns = as<T>(x.rows(17, 133));
      const Array<double> one = block(kernel, 0, 131 * outputs, 0, 131 * outputs), two = block(kernel, 0, 131 * outputs, 17 * outputs, 133 * outputs);
      if (traced) {
        CHECK(difference(ntk::traced(net.f, params, rows).matrix(), networks::traced(one, outputs)) <= tolerance<T>());
        CHECK(difference(ntk::traced(net.f, params, rows, columns).matrix(), networks::traced(two, outputs)) <= tolerance<T>());
        continue;
      }
      const Array<T> k = ntk::full(net.f, params, rows).matrix();
      CHECK(difference(k, one) <= tolerance<T>());
      CHECK(symmetric(k));
      CHECK(difference(ntk::full(net.f, params, rows, columns).matrix(), two) <= tolerance<T>());
    }
}

// 5,000 pairs; by factors in + O^2 out + O^2 each (traced O), materialized O^2 in out each and 2 in out for every example.
TEST_CASE("explain tells what every method costs and how every parameter is treated") {
  const nn::Layer layer = nn::serial({nn::Dense(6, {1.5, 0.1}), nn::Erf(), nn::Dense(2, {1.5, 0.1})});
  const Network net = of_layers("mlp", layer, {4});
  CHECK(ntk::explain(net.f, shapes(net), {1, 4}, 100, 50) == R"(50 by 100 examples, 2 outputs
  structured            0.000524 GFLOP
  jacobian_contraction   0.00183 GFLOP
  vector_products        0.00132 GFLOP
  dense_0/W [4,6]: factors (1 use, 1 position; multiply-adds 1.6e+05 by factors, 4.87e+05 materialized)
  dense_0/b [1,6]: factors (1 use, 1 position; multiply-adds 0 by factors, 1.2e+05 materialized)
  dense_2/W [6,2]: factors (1 use, 1 position; multiply-adds 9e+04 by factors, 2.44e+05 materialized)
  dense_2/b [1,2]: factors (1 use, 1 position; multiply-adds 0 by factors, 4e+04 materialized)
)");
  CHECK(ntk::explain(net.f, shapes(net), {1, 4}, 100, 50, true) == R"(50 by 100 examples, 2 outputs, traced
  structured            0.000304 GFLOP
  jacobian_contraction  0.000951 GFLOP
  vector_products        0.00132 GFLOP
  dense_0/W [4,6]: factors (1 use, 1 position; multiply-adds 8.5e+04 by factors, 2.47e+05 materialized)
  dense_0/b [1,6]: factors (1 use, 1 position; multiply-adds 0 by factors, 6e+04 materialized)
  dense_2/W [6,2]: factors (1 use, 1 position; multiply-adds 5.5e+04 by factors, 1.24e+05 materialized)
  dense_2/b [1,2]: factors (1 use, 1 position; multiply-adds 0 by factors, 2e+04 materialized)
)");
}

TEST_CASE("explain says which parameters have no factors and which are not used") {
  const auto line = [](const std::string& name, const std::string& parameter) {
    const Network net = named(name);
    const std::string text = ntk::explain(net.f, shapes(net), net.example.inserted(0, std::array{Index(3)}), 10, 10);
    const auto from = text.find("  " + parameter + " [");
    REQUIRE(from != std::string::npos);
    return text.substr(from, text.find('\n', from) - from);
  };
  CHECK(line("one parameter unused", "unused") == "  unused [4,4]: not used");
  CHECK(line("a parameter itself", "b") == "  b [1,2]: gradient materialized (it has no factors; multiply-adds 800)");
  CHECK(line("a bias and its transpose", "B") == "  B [3,3]: gradient materialized (it has no factors; multiply-adds 7.29e+04)");
  CHECK(line("W and its transpose", "W") == "  W [12,4]: factors (2 uses, 1 position; multiply-adds 2.93e+05 by factors, 7.14e+05 materialized)");
  CHECK(line("many positions of few weights", "W") == "  W [2,2]: gradient materialized (1 use, 20 positions; multiply-adds 2e+05 by factors, 2e+03 materialized)");
}

TEST_CASE_TEMPLATE("automatic takes the method explain finds cheapest, to the bit", T, float, double) {
  const std::pair<std::string, Method> names[] = {{"structured", Method::structured}, {"jacobian_contraction", Method::jacobian_contraction}, {"vector_products", Method::vector_products}};
  std::vector<int> taken(3, 0);
  for (const Network& net : {mlp(20, {30}, 10), named("many positions of few weights"), named("through exp and a norm"), named("W W v before x"), mlp(1, {1}, 1)})
    for (const Index n : {1, 9}) {
      CAPTURE(net.name);
      const Array<T> x = as<T>(examples(net, n, 1));
      const std::string text = ntk::explain(net.f, shapes(net), x.shape(), n, n);
      CAPTURE(text);
      std::array<double, 3> flops{};
      for (std::size_t i = 0; i < 3; ++i) flops[i] = std::stod(text.substr(text.find("  " + names[i].first) + 2 + names[i].first.size()));
      const auto best = static_cast<std::size_t>(std::min_element(flops.begin(), flops.end()) - flops.begin());
      ++taken[best];
      const auto params = as<T>(net.params);
      CHECK(ntk::full(net.f, params, x, {.method = Method::automatic}).matrix() == ntk::full(net.f, params, x, {.method = names[best].second}).matrix());
    }
  CHECK(taken[0] > 0);
  CHECK(taken[1] + taken[2] > 0);
}

TEST_CASE_TEMPLATE("a limit of memory is kept to the byte and changes no bit", T, float, double) {
  const Network net = mlp(5, {6}, 3);
  const auto params = as<T>(net.params);
  const Array<T> x = as<T>(examples(net, 20, 1)), x2 = as<T>(examples(net, 4, 2));
  for (const Method method : {Method::structured, Method::jacobian_contraction, Method::vector_products}) {
    const auto limited = [&](std::size_t bytes) { return ntk::Options{.method = method, .independent = true, .max_memory = bytes, .progress = {}}; };
    const auto run = [&](bool two, std::size_t bytes) { return two ? ntk::full(net.f, params, x2, x, limited(bytes)).matrix() : ntk::full(net.f, params, x, limited(bytes)).matrix(); };
    for (const bool two : {false, true}) {
      const std::string text = message<linnet::autodiff::NumericalError>([&] { run(two, 1); });
      CAPTURE(text);
      const std::size_t result = sizeof(T) * 9 * 20 * (two ? 4 : 20), needed = std::stoul(text.substr(text.find(": ") + 2));
      CHECK(text == "ntk::full: " + std::to_string(needed) + " bytes are needed (" + std::to_string(result) +
                      " of them the kernel), Options::max_memory is 1; use fewer examples, the traced kernel, or ntk::Operator");
      CHECK(needed >= result);
      CHECK(run(two, needed) == run(two, 0));
      CHECK(message<linnet::autodiff::NumericalError>([&] { run(two, needed - 1); }).starts_with("ntk::full: " + std::to_string(needed) + " bytes are needed"));
    }
  }
}
