// Twenty networks drawn by a seed, of every concept: depth, widths, activations, branches, convolutions, weights used twice. Every method against every other, symmetry
// in bits, and no eigenvalue below what rounding explains.
#include "networks.h"

#include "linnet/autodiff/kernels/decompositions.h"

#include <doctest/doctest.h>

using namespace networks;
using ntk::Method;

namespace {

constexpr Method methods[] = {Method::structured, Method::jacobian_contraction, Method::vector_products, Method::automatic};

nn::Layer drawn_conv(Draw& draw, bool keeps) {
  nn::ConvOptions options{.padding = keeps || draw.below(2) ? nn::Padding::same : nn::Padding::circular, .W_std = 1.3};
  if (!keeps && draw.below(2)) options.strides = {1 + draw.below(2), 1};
  if (draw.below(2)) options.b_std = 0.3;
  if (draw.below(2)) options.parameterization = nn::Parameterization::standard;
  return nn::Conv(1 + draw.below(4), {1 + draw.below(3), 1 + draw.below(3)}, options);
}

// Images: convolutions, a branch beside the identity perhaps, and one number or several at the end.
Network drawn_convolutional(std::uint64_t seed) {
  Draw draw(seed + 300);
  std::vector<nn::Layer> layers;
  for (Index l = 0, depth = 1 + draw.below(3); l < depth; ++l) {
    layers.push_back(drawn_conv(draw, false));
    layers.push_back(drawn_activation(draw));
    if (draw.below(2)) layers.push_back(nn::serial({nn::fan_out(2), nn::parallel({nn::identity(), drawn_activation(draw)}), nn::fan_in_sum()}));
  }
  if (draw.below(2)) layers.push_back(nn::AvgPool({2, 1}, {.strides = {1, 1}}));
  layers.push_back(draw.below(2) ? nn::flatten() : nn::GlobalAvgPool());
  layers.push_back(drawn_dense(draw, 1 + draw.below(3)));
  return of_layers("convolutional " + std::to_string(seed), nn::serial(std::move(layers)), {4 + draw.below(2), 3, 1 + draw.below(2)}, seed);
}

// The middle is used several times: once behind the other, and beside itself on something else.
Network drawn_tied(std::uint64_t seed) {
  Draw draw(seed + 500);
  const Index width = 2 + draw.below(6), times = 2 + draw.below(2), in = 1 + draw.below(5);
  const nn::Layer first = drawn_dense(draw, width), middle = nn::serial({drawn_activation(draw), drawn_dense(draw, width)}), last = nn::serial({drawn_activation(draw), drawn_dense(draw, 1 + draw.below(4))});
  const Network a = of_layers("first", first, {in}, seed), b = of_layers("middle", middle, {width}, seed + 1), c = of_layers("last", last, {width}, seed + 2);
  const ntk::Apply f = [=](const Tree<Var>& p, const Var& x) {
    Var h = a.f(p["first"], x);
    for (Index i = 0; i < times; ++i) h = b.f(p["middle"], h);
    return c.f(p["last"], h) * c.f(p["last"], b.f(p["middle"], a.f(p["first"], 0.5 * x)));
  };
  return {"tied " + std::to_string(seed), f, Tree<Array<double>>{{"first", a.params}, {"middle", b.params}, {"last", c.params}}, {in}};
}

Network architecture(std::uint64_t seed) { return seed % 3 == 0 ? drawn_convolutional(seed) : seed % 3 == 1 ? drawn_tied(seed) : drawn(seed + 1000); }

double least_over_largest(const Array<double>& kernel) {
  Array<double> k = kernel, values({kernel.shape()[0]});
  linnet::autodiff::eigh(k.shape()[0], k.data(), values.data());
  const double largest = values.data()[values.size() - 1];
  return largest > 0 ? values.data()[0] / largest : 0;
}

}  // namespace

TEST_CASE_TEMPLATE("of twenty drawn architectures every method agrees with every other, in bits symmetric, and no eigenvalue is below rounding", T, float, double) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const Network net = architecture(seed);
    CAPTURE(net.name);
    const auto params = as<T>(net.params);
    const Array<T> x = as<T>(examples(net, 9, seed)), x2 = as<T>(examples(net, 4, seed + 1));
    std::vector<Array<double>> full, traced, rows;
    for (const Method method : methods) {
      CAPTURE(static_cast<int>(method));
      const Array<T> k = ntk::full(net.f, params, x, {.method = method}).matrix(), sum = ntk::traced(net.f, params, x, {.method = method}).matrix();
      CHECK(symmetric(k));
      CHECK(symmetric(sum));
      full.push_back(linnet::autodiff::cast<double>(k));
      traced.push_back(linnet::autodiff::cast<double>(sum));
      rows.push_back(linnet::autodiff::cast<double>(ntk::full(net.f, params, x2, x, {.method = method}).matrix()));
      const double n = static_cast<double>(k.shape()[0]), eps = std::numeric_limits<T>::epsilon();
      CHECK(least_over_largest(full.back()) >= -10 * n * eps);
      CHECK(least_over_largest(traced.back()) >= -10 * n * eps);
    }
    CHECK(max_abs(full[0]) > 0);
    for (std::size_t i = 0; i < full.size(); ++i)
      for (std::size_t j = 0; j < i; ++j) {
        CAPTURE(i);
        CAPTURE(j);
        CHECK(difference(full[i], full[j]) <= tolerance<T>());
        CHECK(difference(traced[i], traced[j]) <= tolerance<T>());
        CHECK(difference(rows[i], rows[j]) <= tolerance<T>());
      }
  }
}
