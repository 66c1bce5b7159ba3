// The promise that no number of threads changes a bit, for everything ntk computes.
#include "networks_by_hand.h"

#include "linnet/autodiff/config.h"
#include "linnet/tests/rounds.h"

#include <doctest/doctest.h>

using namespace networks;
using ntk::Method;

namespace {

// Runs f with 1 thread, then with several numbers of them, several times each: equal to the bit?
template <class F> void check_bits(F&& f, int repeats = 3) {
  const int before = linnet::autodiff::threads();
  linnet::autodiff::set_threads(1);
  const auto expected = f();
  for (const int n : rounds::thread_counts)
    for (int repeat = 0; repeat < rounds::repeats(repeats); ++repeat) {
      linnet::autodiff::set_threads(n);
      CAPTURE(n);
      CAPTURE(repeat);
      CHECK(f() == expected);
    }
  linnet::autodiff::set_threads(before);
}

template <class T> void check_kernels(const Network& net, Index n1, Index n2, Method method, int repeats = 3) {
  CAPTURE(net.name);
  CAPTURE(static_cast<int>(method));
  const Tree<Array<T>> params = as<T>(net.params);
  const Array<T> x1 = as<T>(examples(net, n1, 1)), x2 = as<T>(examples(net, n2, 2));
  const ntk::Options options{.method = method, .independent = true, .max_memory = 0, .progress = {}};
  check_bits([&] { return ntk::full(net.f, params, x1, options).matrix(); }, repeats);
  check_bits([&] { return ntk::full(net.f, params, x2, x1, options).matrix(); }, repeats);
  check_bits([&] { return ntk::traced(net.f, params, x1, options).matrix(); }, repeats);
  check_bits([&] { return ntk::traced(net.f, params, x2, x1, options).matrix(); }, repeats);
}

}  // namespace

TEST_CASE_TEMPLATE("kernels of every method have the same bits for any number of threads", T, float, double) {
  check_kernels<T>(mlp(20, {33, 17}, 1), 400, 130, Method::structured);
  check_kernels<T>(mlp(20, {33, 17}, 3), 200, 131, Method::structured);
  check_kernels<T>(mlp(20, {17}, 3), 131, 33, Method::jacobian_contraction);
  check_kernels<T>(mlp(5, {17}, 3), 17, 9, Method::vector_products);
  check_kernels<T>(mlp(5, {17}, 10), 50, 7, Method::automatic);
}

TEST_CASE_TEMPLATE("kernels have the same bits for any number of threads, however a parameter is used", T, float, double) {
  for (const Network& net : by_hand()) check_kernels<T>(net, 35, 9, Method::structured, 1);
}

TEST_CASE_TEMPLATE("positions beyond a chunk have the same bits for any number of threads", T, float, double) {
  const std::vector<Network> all = by_hand();
  for (const std::string name : {"wide dense over two positions", "W W v before x", "attention"})
    check_kernels<T>(*std::find_if(all.begin(), all.end(), [&](const Network& n) { return n.name == name; }), 140, 33, Method::structured);
}

TEST_CASE_TEMPLATE("the operator, the diagonal, the NNGP and expansions have the same bits for any number of threads", T, float, double) {
  const Network net = mlp(7, {33, 17}, 3);
  const Tree<Array<T>> params = as<T>(net.params);
  const Array<T> x = as<T>(examples(net, 300, 1)), v = as<T>(Draw(3).array({300, 3}));
  check_bits([&] { return ntk::Operator<T>(net.f, params, x).value(); });
  check_bits([&] { return ntk::Operator<T>(net.f, params, x)(v); });
  check_bits([&] { return ntk::Operator<T>(net.f, params, x).vjp(v); });
  check_bits([&] { return ntk::diagonal(net.f, params, x); });
  check_bits([&] { return ntk::nngp(net.f, params, x); });
  check_bits([&] { return ntk::traced(ntk::linearized(net.f, params), params, x).matrix(); });
  const ntk::Operator<T> kept(net.f, params, x);
  check_bits([&] { return kept(v); });
}

TEST_CASE_TEMPLATE("parts of kernels, mean kernels, eigenvalues and estimates have the same bits for any number of threads", T, float, double) {
  const Network net = mlp(7, {33, 17}, 3);
  const Tree<Array<T>> params = as<T>(net.params);
  const Array<T> x = as<T>(examples(net, 150, 1));
  check_bits([&] { return ntk::blocks(net.f, params, x); }, 1);
  check_bits([&] { return ntk::traced_diagonal(net.f, params, x); }, 1);
  check_bits([&] { return ntk::diagonal_over_outputs(net.f, params, x); }, 1);
  check_bits([&] { return ntk::full_by_layer(net.f, params, x)["dense_2"].leaf().matrix(); }, 1);
  check_bits([&] { return ntk::Pairs<T>(net.f, params, x)(std::vector<Index>{5, 140, 2}, std::vector<Index>{0, 1}).matrix(); }, 1);
  check_bits([&] { return ntk::monte_carlo_traced<T>(net.f, [&](Index) { return params; }, x, 2).mean(); }, 1);
  const Array<T> many = as<T>(examples(net, 520, 1));
  const ntk::Operator<T> kept(net.f, params, many);
  const ntk::Operator<T> streamed(net.f, params, many, {.max_memory = kept.bytes() - 1});
  const Array<T> v = as<T>(Draw(3).array({520, 3}));
  CHECK_FALSE(streamed.resident());
  check_bits([&] { return streamed(v); });
  check_bits([&] { return ntk::largest_eigenvalues(kept, 3, {.tolerance = 1e-3}).vectors; }, 1);
  check_bits([&] { return ntk::estimate_norms(kept, 3).trace.value; }, 1);
}

TEST_CASE_TEMPLATE("mixing examples has the same bits for any number of threads", T, float, double) {
  const Network net = network("mean subtracted", {3}, {{"W", {3, 2}}}, [](const Tree<Var>& p, const Var& x) { return tanh(dot(x - mean(x, {0}, true), p["W"])); });
  const Tree<Array<T>> params = as<T>(net.params);
  const Array<T> x = as<T>(examples(net, 40, 1));
  check_bits([&] { return ntk::full(net.f, params, x, {.independent = false}).matrix(); });
  check_bits([&] { return ntk::traced(net.f, params, x, {.independent = false}).matrix(); });
}
