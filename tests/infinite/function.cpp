// Kernels of infinite width as functions of traced values: the same numbers, and derivatives against differences.
#include "linnet/infinite/function.h"

#include "linnet/autodiff/derivative.h"
#include "linnet/autodiff/error.h"
#include "networks.h"

#include <doctest/doctest.h>

namespace linnet::infinite {
namespace {

using namespace autodiff;
using namespace nn;

Layer tried(const Layer& activation) {
  const DenseOptions one{.W_std = 1.3, .b_std = .2}, two{.W_std = 1.1};
  return serial({Dense(4, one), activation, serial({Dense(5, two), fan_out(2), parallel({serial({activation, Dense(5, two)}), identity()}), fan_in_sum(), LayerNorm()}), activation, Dense(2, one)});
}

Array<double> value_of(const Layer& network, const char* which, const Tree<Array<double>>& s, const Array<double>& x, const Array<double>& y) {
  const auto k = kernel_function(network);
  return compile([&](const Tree<Var>& scale, const Var& a, const Var& b) { return k(scale, a, b)[which].leaf(); }, s, x, y)(s, x, y);
}

TEST_CASE("kernels of traced examples are those of the door") {
  const Array<double> x = scattered<double>({5, 3}, 1), y = scattered<double>({4, 3}, 2);
  for (const Layer& activation : {Relu(), Erf(), Gelu(), Tanh(), Sin(), Gabor(), Polynomial({.1, .5, -.2})}) {
    CAPTURE(activation.name);
    const Layer network = tried(activation);
    const auto k = kernel(network).both(x, y);
    CHECK(largest_difference(value_of(network, "nngp", scales(network), x, y), k.nngp) <= 1e-13 * max_abs(k.nngp));
    CHECK(largest_difference(value_of(network, "ntk", scales(network), x, y), k.ntk) <= 1e-12 * max_abs(k.ntk));
    const auto own = kernel(network).both(x);
    CHECK(largest_difference(value_of(network, "ntk", scales(network), x, x), own.ntk) <= 1e-12 * max_abs(own.ntk));
  }
}

TEST_CASE("derivatives by scales and by examples are those of differences") {
  const Array<double> x = scattered<double>({4, 3}, 1), y = scattered<double>({3, 3}, 2), weights = scattered<double>({4, 3}, 3), own_weights = scattered<double>({4, 4}, 4);
  for (const Layer& activation : {Relu(), LeakyRelu(.3), Erf(), Gelu(), Cos(), Rbf(.5), Exp(.4, .6), Gaussian(1, -.3), Sign(), Hermite(3), RectifiedMonomial(2)}) {
    CAPTURE(activation.name);
    const Layer network = tried(activation);
    const auto k = kernel_function(network);
    const Tree<Array<double>> s = scales(network);
    for (const char* which : {"nngp", "ntk"}) {
      CAPTURE(which);
      const auto value = [&](const Tree<Var>& scale, const Var& a, const Var& b) { return sum(k(scale, a, b)[which].leaf() * constant(weights)); };
      const auto at = [&](const Tree<Array<double>>& scale, const Array<double>& a) { return compile(value, scale, a, y)(scale, a, y).item(); };
      const auto by_scales = grad(value, s, x, y);
      const double step = 1e-5;
      for (std::size_t leaf = 0; leaf < s.leaves().size(); ++leaf) {
        Tree<Array<double>> up = s, down = s;
        up.leaves()[leaf]->data()[0] += step;
        down.leaves()[leaf]->data()[0] -= step;
        CHECK(by_scales.leaves()[leaf]->item() == doctest::Approx((at(up, x) - at(down, x)) / (2 * step)).epsilon(1e-5));
      }
      const Array<double> by_examples = grad([&](const Var& a, const Tree<Var>& scale, const Var& b) { return value(scale, a, b); }, x, s, y);
      for (Index i = 0; i < x.size(); ++i) {
        Array<double> up = x, down = x;
        up.data()[i] += step;
        down.data()[i] -= step;
        CHECK(by_examples.data()[i] == doctest::Approx((at(s, up) - at(s, down)) / (2 * step)).epsilon(1e-5));
      }
      // One set with itself: where an example meets itself the slope of a kink is cut, and everything is finite.
      const Array<double> own = grad([&](const Var& a, const Tree<Var>& scale) { return sum(k(scale, a, a)[which].leaf() * constant(own_weights)); }, x, s);
      CHECK(first_not_finite<double>(own.values()) < 0);
    }
  }
}

TEST_CASE("scales stand under the names of their layers, and what does not fit is refused") {
  const Tree<Array<double>> s = scales(tried(Relu()));
  CHECK(s.paths() == std::vector<std::string>{"dense_0/W_std", "dense_0/b_std", "serial_2/dense_0/W_std", "serial_2/parallel_2/serial_0/dense_1/W_std", "dense_4/W_std", "dense_4/b_std"});
  CHECK(s["dense_0"]["b_std"].leaf().item() == .2);
  CHECK(scales(Dense(3)).paths() == std::vector<std::string>{"W_std"});
  const auto message = [](const auto& f) {
    try {
      f();
    } catch (const std::exception& e) {
      return std::string(e.what());
    }
    return std::string("nothing was thrown");
  };
  const Array<double> x({2, 3}, 1.0);
  const Layer network = serial({Dense(3), Relu(), Dense(2)});
  CHECK(message([&] { value_of(network, "ntk", scales(network), x, Array<double>({2, 4}, 1.0)); }) == "infinite::kernel_function: rows [2,3] and columns [2,4] must agree in all axes but the leading one");
  CHECK(message([&] { value_of(network, "ntk", scales(network), x, Array<double>({2, 2, 2}, 1.0)); }) == "infinite::kernel_function: columns [2,2,2] must be [examples, channels]; flatten what has more axes");
  CHECK(message([&] { value_of(network, "ntk", Tree<Array<double>>({{"dense_0", Tree<Array<double>>({{"W_std", Array<double>({2})}})}}), x, x); }) == "serial/dense_0: infinite::kernel_function: the scale W_std is [2], a scalar is expected");
  CHECK(message([&] { value_of(network, "ntk", Tree<Array<double>>({{"dense_0", scales(Dense(1))}}), x, x); }).find("tree: there is no child 'dense_2'") != std::string::npos);
  CHECK(message([&] { value_of(serial({Dense(3), GlobalAvgPool()}), "ntk", scales(network), x, x); }) == "serial/global_avg_pool_1: global_avg_pool: kernels of traced examples have no places; use infinite::Kernel");
}

}  // namespace
}  // namespace linnet::infinite
