// The program of the README, which shows it and what it prints; tests/examples/programs.cpp holds it to that.
#include "linnet/linnet.h"

#include <cmath>
#include <cstdio>

int main() {
  using namespace linnet;
  using Array = autodiff::Array<double>;
  const nn::Layer network = nn::serial({nn::Dense(256, {.W_std = 1.5, .b_std = 0.05}), nn::Erf(), nn::Dense(1, {.W_std = 1.5, .b_std = 0.05})});
  const auto params = nn::initialize<double>(network, nn::Key(1), {4, 1});
  const auto f = nn::function_of(network);
  const Array x({4, 1}, {-2, -1, 1, 2}), y({4, 1}, {-0.9, -0.8, 0.8, 0.9}), x_new({1, 1}, {0.5});

  const auto flow = predict::gradient_flow(f, params, x, y, {.rate = 0.1});
  std::printf("    t     loss   at x = 0.5: function space   weight space   real network\n");
  for (const double t : {0.0, 10.0, 100.0, 1000.0, double(INFINITY)}) {
    const auto at = flow(t);
    const auto theta = at.weights();
    std::printf("%5g %8.5f %28.6f %14.6f %14.6f\n", t, at.loss(), at.predict(x_new).item(), at.linearized(x_new).item(),
                autodiff::compile(f, params, x_new)(theta, x_new).item());
  }
}
