// How kernels of finite networks go to those of the infinitely wide one as they get wider: the mean over draws of the weights goes as 1/width, and what a single draw is off by as
// 1/sqrt(width). The same layers make the finite network and its limit.
#include "linnet/infinite/kernel.h"
#include "linnet/ntk/monte_carlo.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>

using namespace linnet;
using Array = autodiff::Array<double>;
using autodiff::Index;

nn::Layer network(Index width) {
  const nn::DenseOptions options{.W_std = 1.5, .b_std = 0.1};
  return nn::serial({nn::Dense(width, options), nn::Relu(), nn::Dense(width, options), nn::Erf(), nn::Dense(1, options)});
}

int main() {
  Array x({6, 3});
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = std::sin(1.3 * static_cast<double>(i * i));
  const auto limit = infinite::kernel(network(1)).both(x);  // widths do not count
  const double scale = autodiff::max_abs(limit.ntk);
  constexpr Index draws = 64;

  std::printf("width   of one draw, typically   of the mean of %d draws\n", static_cast<int>(draws));
  double first = 0, last = 0;
  for (const Index width : {8, 32, 128, 512}) {
    const nn::Layer finite = network(width);
    const auto f = nn::function_of(finite);
    double squares = 0;
    const auto mean = ntk::monte_carlo_traced<double>(f, [&](Index i) { return nn::initialize<double>(finite, nn::Key(static_cast<std::uint64_t>(100 + i)), {6, 3}); }, x, draws, {}, [&](const ntk::RunningMean<double>&) { return true; });
    const Array error = mean.error();
    for (const double e : error) squares += e * e * static_cast<double>(draws);
    const double one = std::sqrt(squares / static_cast<double>(error.size())) / scale;
    std::printf("%5d   %.4f                   %.4f\n", static_cast<int>(width), one, autodiff::max_abs(mean.mean() - limit.ntk) / scale);
    if (first == 0) first = one;
    last = one;
  }
  std::printf("64 times as wide, a draw is %.1f times as near; it should be 8\n", first / last);
  return std::abs(first / last - 8) < 3 ? EXIT_SUCCESS : EXIT_FAILURE;
}
