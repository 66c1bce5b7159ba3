// The same bits for any number of threads, on three models and every kind of run; and how parallel_for hands on exceptions.
#include "linnet/autodiff/config.h"
#include "linnet/autodiff/kernels/gemm.h"
#include "linnet/autodiff/kernels/parallel.h"
#include "linnet/tests/autodiff/samples.h"
#include "linnet/tests/rounds.h"

#include <doctest/doctest.h>

#include <atomic>
#include <stdexcept>
#include <thread>

using namespace linnet::autodiff;
using samples::Arrays, samples::random, samples::same_bits;

namespace {

using Values = std::span<const Var>;

struct Threads {  // so many while it lives
  explicit Threads(int n) : before_(threads()) { set_threads(n); }
  ~Threads() { set_threads(before_); }
  int before_;
};

struct Model {
  const char* name;
  Function f;
  std::vector<Shape> shapes;
};
// Small, but in several panels of products and in more strips than one thread is given.
std::vector<Model> models() {
  return {{"dense layers of erf", [](Values v) -> std::vector<Var> { return {dot(erf(dot(erf(dot(v[0], v[1]) + v[2]), v[3])), v[4])}; }, {{300, 33}, {33, 40}, {40}, {40, 24}, {24, 10}}},
          {"a softmax classifier", [](Values v) -> std::vector<Var> {
             const Var logits = dot(tanh(dot(v[0], v[1])), v[2]);
             return {softmax(logits), logsumexp(logits), sum(square(logits), {0}), mean(logits)};
           }, {{1100, 17}, {17, 20}, {20, 10}}},
          {"odd sizes", [](Values v) -> std::vector<Var> {
             const Var index = constant(Array<double>({5}, {2, 0, 1, 2, 2}));
             const Var rows = gather(v[0], index), scores = dot(rows, v[1], {false, true});
             return {transpose(max(sin(scores), {1})), scatter_add(rows * exp(-rows), index, 3), dot(v[1], v[1], {true, false}), sum(cos(v[1]))};
           }, {{3, 17, 33}, {5, 311, 33}}}};
}

// Everything a model is run for: value, jvp, vjp, lanes of both, and a Hessian product.
template <class T> std::vector<Arrays<T>> everything(const Model& m) {
  Arrays<T> x, tangent, tangents;
  for (std::size_t i = 0; i < m.shapes.size(); ++i) {
    x.push_back(random<T>(m.shapes[i], i));
    tangent.push_back(random<T>(m.shapes[i], i + 10));
    tangents.push_back(random<T>(m.shapes[i].inserted(0, std::array<Index, 1>{2}), i + 20));
  }
  const FlatLinearMap<T> map(m.f, {x.begin(), x.end()}, {});
  Arrays<T> ct, cts;
  for (const auto& y : map.value()) {
    ct.push_back(random<T>(y.shape(), 30));
    cts.push_back(random<T>(y.shape().inserted(0, std::array<Index, 1>{2}), 31));
  }
  auto views = [](const Arrays<T>& a) { return Views<T>(a.begin(), a.end()); };
  return {map.value(), map.jvp(views(tangent), -1), map.vjp(views(ct), -1), map.jvp(views(tangents), 2), map.vjp(views(cts), 2)};
}

}  // namespace

TEST_CASE_TEMPLATE("values, jvp, vjp and their lanes have the same bits for any number of threads, every time", T, float, double) {
  for (const Model& m : models()) {
    CAPTURE(std::string(m.name));
    std::vector<Arrays<T>> expected;
    {
      const Threads alone(1);
      expected = everything<T>(m);
    }
    for (const Arrays<T>& part : expected)
      for (const Array<T>& a : part) REQUIRE(first_not_finite<T>(a.values()) == -1);
    for (const int n : rounds::thread_counts) {
      CAPTURE(n);
      const Threads now(n);
      for (int repeat = 0; repeat < rounds::repeats(20); ++repeat) {
        const std::vector<Arrays<T>> came = everything<T>(m);
        for (std::size_t k = 0; k < expected.size(); ++k) {
          CAPTURE(k);
          CHECK(same_bits(came[k], expected[k]));
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("a product has the bits of one panel, alone or inside an item, for any number of threads", T, float, double) {
  for (const auto& [m, n, k] : {std::array<Index, 3>{1, 1, 1}, {31, 5, 7}, {159, 20, 64}, {160, 20, 64}, {161, 33, 300}, {1055, 17, 50}, {2111, 10, 300}})
    for (const bool ta : {false, true})
      for (const bool tb : {false, true}) {
        CAPTURE(m);
        const Array<T> a = random<T>({m * k}, 1), b = random<T>({n * k}, 2);
        Array<T> expected({m * n});
        parallel_for(1, [&](Index) { gemm(ta, tb, m, n, k, a.data(), b.data(), expected.data()); });
        for (const int count : {1, 2, 3, 8}) {
          const Threads now(count);
          Array<T> c({m * n});
          gemm(ta, tb, m, n, k, a.data(), b.data(), c.data());
          CHECK(same_bits(c, expected));
        }
      }
}

TEST_CASE_TEMPLATE("a product may add to what is there, and one over nothing is zero", T, float, double) {
  const Array<T> a = random<T>({6}, 1), b = random<T>({6}, 2);
  Array<T> product({4}), sum({4}, T(1));
  gemm(false, false, 2, 2, 3, a.data(), b.data(), product.data());
  gemm(false, false, 2, 2, 3, a.data(), b.data(), sum.data(), true);
  for (Index i = 0; i < 4; ++i) CHECK(std::abs(sum.data()[i] - product.data()[i] - 1) <= 4 * samples::eps<T>);
  Array<T> nothing({4}, T(5));
  gemm(false, false, 2, 2, 0, a.data(), b.data(), nothing.data(), true);
  CHECK(nothing == Array<T>({4}, T(5)));
  gemm(false, false, 2, 2, 0, a.data(), b.data(), nothing.data());
  CHECK(nothing == Array<T>({4}));
}

TEST_CASE("parallel_for runs every item once, in items that know where they are") {
  for (const int n : {1, 2, 4}) {
    const Threads now(n);
    std::array<std::atomic<int>, 100> runs{};
    std::atomic<bool> right = true;
    CHECK_FALSE(inside_item());
    parallel_for(100, [&](Index i) {
      ++runs[static_cast<std::size_t>(i)];
      if (!inside_item() || thread_index() < 0 || thread_index() >= thread_count()) right = false;
    });
    CHECK(right);
    CHECK_FALSE(inside_item());
    for (const auto& r : runs) CHECK(r == 1);
    parallel_for(0, [&](Index) { right = false; });
    CHECK(right);
  }
}

TEST_CASE("parallel_for throws the exception of the lowest index again, after every item has run") {
  for (const int n : {1, 2, 4})
    for (Index k = 0; k < 16; ++k)
      for (const Index serial : {Index(1), Index(16)}) {
        CAPTURE(n);
        CAPTURE(k);
        const Threads now(n);
        std::atomic<int> runs = 0;
        const auto failing = [&](Index i) {
          ++runs;
          if (i >= k && (i - k) % 3 == 0) throw std::runtime_error("item " + std::to_string(i));
        };
        CHECK_THROWS_WITH_AS(parallel_for(16, failing, serial), ("item " + std::to_string(k)).c_str(), std::runtime_error);
        CHECK(runs == 16);
        CHECK_FALSE(inside_item());
      }
}

TEST_CASE("parallel_for inside an item runs there, one after another, and hands on exceptions too") {
  const Threads now(2);
  std::atomic<bool> ordered = true;
  parallel_for(4, [&](Index) {
    Index next = 0;
    const std::thread::id here = std::this_thread::get_id();
    parallel_for(10, [&](Index i) {
      if (i != next++ || std::this_thread::get_id() != here) ordered = false;
    });
    if (!inside_item()) ordered = false;
  });
  CHECK(ordered);
  CHECK_THROWS_WITH_AS(parallel_for(4, [](Index i) { parallel_for(4, [i](Index j) { if (i + j >= 2) throw std::runtime_error(std::to_string(i) + std::to_string(j)); }); }), "02", std::runtime_error);
}

TEST_CASE("an error of a kernel reaches the caller, from lanes in threads too") {
  const Threads now(4);
  const Array<double> table({3, 2}, 1.0);
  const auto f = compile([](Var t, Var i) { return dot(gather(t, i), transpose(t)); }, table, Array<double>({2}));
  CHECK_THROWS_WITH_AS(f(table, Array<double>({2}, {0, 9})), "gather: index 9 at position 1 is no row of 0 to 2", NumericalError);
  CHECK(f(table, Array<double>({2}, {0, 2})).shape() == Shape{2, 3});  // and the executor is as it was
}
