// The same bits for any number of threads, from the network to its weights and predictions.
#include "linnet/nn/nn.h"
#include "linnet/predict/predict.h"
#include "linnet/tests/rounds.h"

#include <doctest/doctest.h>

#include <cstring>
#include <limits>

using namespace linnet;
using autodiff::Array;

namespace {

template <class T> bool same_bits(const Array<T>& a, const Array<T>& b) {
  return a.shape() == b.shape() && std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(T)) == 0;
}

}  // namespace

TEST_CASE_TEMPLATE("weights and predictions have the same bits for any number of threads", T, float, double) {
  const nn::Layer network = nn::serial({nn::Dense(37, {.W_std = 1.5, .b_std = 0.1}), nn::Erf(), nn::Dense(29, {.W_std = 1.5, .b_std = 0.1}), nn::Relu(), nn::Dense(3)});
  const Array<T> x = nn::normal<T>(nn::Key(1), {131, 9}), y = nn::normal<T>(nn::Key(2), {131, 3}), x_new = nn::normal<T>(nn::Key(3), {45, 9});
  const auto params = nn::initialize<T>(network, nn::Key(4), x.shape());
  const auto f = nn::function_of(network);
  const auto answers = [&] {
    std::vector<Array<T>> all;
    const auto flow = predict::gradient_flow(f, params, x, y, {.rate = 0.5, .ridge = 1e-3});
    const auto steps = predict::momentum(f, params, x, y, {.rate = 0.5, .weight_decay = 1e-3, .rates = {{"dense_0", predict::rate(0.25)}, {"dense_2", predict::rate(0)}}});
    all.push_back(steps.predict(steps.points(x_new), std::vector<double>{1, 1000}));
    const auto products = predict::gradient_flow(f, params, x, y, {.rate = 0.5, .ridge = 1e-3, .solver = predict::Solver::krylov, .krylov = {.tolerance = 1e-5}});
    all.push_back(products(1e4).train());
    all.push_back(products(1e4).predict(x_new));
    const auto moved = steps(1000).weights();
    for (const Array<T>* leaf : moved.leaves()) all.push_back(*leaf);
    const auto any_loss = predict::gradient_flow(f, params, x, y, predict::Loss::huber(0.5), {.rtol = 1e-5, .atol = 1e-5});
    all.push_back(any_loss(2e4).train());
    CHECK(any_loss.state().method == predict::Stepping::exprb43);
    for (const double t : {1.0, 1e4, std::numeric_limits<double>::infinity()}) {
      const auto at = flow(t);
      all.push_back(at.train());
      all.push_back(at.predict(x_new));
      all.push_back(at.linearized(x_new));
      const auto theta = at.weights();
      for (const Array<T>* leaf : theta.leaves()) all.push_back(*leaf);
    }
    return all;
  };
  const int before = autodiff::threads();
  autodiff::set_threads(1);
  const auto expected = answers();
  for (const int threads : rounds::thread_counts) {
    CAPTURE(threads);
    autodiff::set_threads(threads);
    for (int repeat = 0; repeat < rounds::repeats(2); ++repeat) {
      const auto came = answers();
      REQUIRE(came.size() == expected.size());
      for (std::size_t i = 0; i < came.size(); ++i) CHECK(same_bits(came[i], expected[i]));
    }
  }
  autodiff::set_threads(before);
}
