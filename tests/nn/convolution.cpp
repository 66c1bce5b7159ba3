// Conv, pooling and what they refuse, against loops and the draws of neural-tangents.
#include "layers.h"

#include <algorithm>
#include <array>

using nn::Padding;

namespace {

// One axis of sliding windows: tap k of place p lies at `at`, or nowhere.
struct Axis {
  Index extent, taps, stride;
  Padding padding;
  Index places() const { return padding == Padding::valid ? (extent - taps) / stride + 1 : (extent + stride - 1) / stride; }
  Index at(Index p, Index k) const {
    const Index before = padding == Padding::valid ? 0 : std::max<Index>((places() - 1) * stride + taps - extent, 0) / 2;
    const Index i = p * stride + k - before;
    if (padding == Padding::circular) return ((i % extent) + extent) % extent;
    return i >= 0 && i < extent ? i : -1;
  }
};

// Images [n, h, w, c] as sequences are h = 1. W [kh, kw, c, f].
struct Slide {
  Index n, c;
  Axis h, w;
  template <class F> void each(F f) const {  // f(image, p, q, i, j, row, column) for every tap inside
    for (Index m = 0; m < n; ++m)
      for (Index p = 0; p < h.places(); ++p)
        for (Index q = 0; q < w.places(); ++q)
          for (Index i = 0; i < h.taps; ++i)
            for (Index j = 0; j < w.taps; ++j)
              if (const Index r = h.at(p, i), s = w.at(q, j); r >= 0 && s >= 0) f(m, p, q, i, j, r, s);
  }
};
Slide slide(const Shape& x, const std::vector<Index>& window, const std::vector<Index>& strides, Padding padding) {
  if (window.size() == 1) return {x[0], x[2], {1, 1, 1, Padding::valid}, {x[1], window[0], strides[0], padding}};
  return {x[0], x[3], {x[1], window[0], strides[0], padding}, {x[2], window[1], strides[1], padding}};
}

struct Geometry {
  Shape x;
  std::vector<Index> window, strides;
  Padding padding;
};
std::vector<Geometry> geometries() {
  std::vector<Geometry> all;
  for (const Padding p : {Padding::same, Padding::valid, Padding::circular}) {
    all.push_back({{3, 5, 4, 2}, {3, 2}, {1, 1}, p});
    all.push_back({{2, 5, 6, 1}, {2, 3}, {2, 3}, p});
    all.push_back({{1, 1, 1, 3}, {1, 1}, {1, 1}, p});
    all.push_back({{0, 4, 4, 2}, {2, 2}, {1, 1}, p});
    all.push_back({{2, 7, 3}, {3}, {2}, p});
    all.push_back({{1, 4, 1}, {4}, {1}, p});
  }
  all.push_back({{2, 2, 2, 1}, {5, 4}, {1, 1}, Padding::circular});  // windows beyond the image, once around and more
  all.push_back({{2, 2, 2, 1}, {5, 4}, {2, 1}, Padding::same});
  return all;
}

}  // namespace

TEST_CASE_TEMPLATE("conv is what loops give, for images and sequences, every padding, strides, biases and both parameterizations", T, float, double) {
  for (const Geometry& g : geometries())
    for (const bool ntk : {true, false})
      for (const bool bias : {true, false}) {
        CAPTURE(autodiff::str(g.x));
        CAPTURE(static_cast<int>(g.padding));
        CAPTURE(ntk);
        CAPTURE(bias);
        nn::ConvOptions options{.strides = g.strides, .padding = g.padding, .W_std = 1.5, .parameterization = ntk ? nn::Parameterization::ntk : nn::Parameterization::standard};
        if (bias) options.b_std = 0.25;
        const nn::Layer layer = nn::Conv(3, g.window, options);
        const auto made = layer.init(Key(1), g.x, sizeof(T) == 4 ? nn::Width::float32 : nn::Width::float64);
        const auto params = nn::initialize<T>(layer, Key(1), g.x);
        const auto x = nn::normal<T>(Key(2), g.x);
        const Slide s = slide(g.x, g.window, g.strides, g.padding);
        const double fan_in = static_cast<double>(s.h.taps * s.w.taps * s.c), w = ntk ? 1.5 / std::sqrt(fan_in) : 1, v = ntk ? 0.25 : 1;
        const Array<T>& W = params["W"].leaf();
        Array<double> y(made.shape.leaf());
        REQUIRE(y.size() == s.n * s.h.places() * s.w.places() * 3);
        if (bias)
          for (Index i = 0; i < y.size(); ++i) y.data()[i] = v * params["b"].leaf().data()[i % 3];
        s.each([&](Index m, Index p, Index q, Index i, Index j, Index row, Index column) {
          for (Index c = 0; c < s.c; ++c)
            for (Index f = 0; f < 3; ++f)
              y.data()[((m * s.h.places() + p) * s.w.places() + q) * 3 + f] +=
                  w * double(x.data()[((m * s.h.extent + row) * s.w.extent + column) * s.c + c]) * W.data()[((i * s.w.taps + j) * s.c + c) * 3 + f];
        });
        check_close(run(layer, params, x), y, 4 * tolerance<T>());
        // The draws of both parameterizations are the same normals.
        const auto plain = nn::initialize<T>(nn::Conv(3, g.window, {.strides = g.strides, .padding = g.padding, .b_std = 1}), Key(1), g.x);
        CHECK(W.data()[1] == doctest::Approx((ntk ? 1 : 1.5 / std::sqrt(fan_in)) * plain["W"].leaf().data()[1]).epsilon(1e-6));
        if (bias) CHECK(params["b"].leaf().data()[1] == doctest::Approx((ntk ? 1 : 0.25) * plain["b"].leaf().data()[1]).epsilon(1e-6));
      }
}

TEST_CASE_TEMPLATE("the draws and outputs of conv are those of neural-tangents", T, float, double) {
  const nn::Layer images = nn::Conv(2, {2, 1}, {{1, 2}, Padding::circular, 1.5, .3}), sequences = nn::Conv(1, {2}, {{2}, Padding::same, 1.5, .3, nn::Parameterization::standard});
  if (sizeof(T) == 4) {
    check_draws<T>(images, {2, 2, 3, 1}, {{0.21653588116168976, -0.44748610258102417, 1.1067218780517578, 0.8857253789901733}, {-0.23057113587856293, -0.048533111810684204}},
                   {0.09648317843675613, 0.11801575869321823, -0.9859709739685059, -1.3470053672790527, -0.036760181188583374, -0.0815398097038269, 0.7779755592346191, 1.294817566871643,
                    0.3504227101802826, 0.505225419998169, -1.0157887935638428, -1.4235841035842896, -0.3025131821632385, -0.4726618826389313, 0.8625237941741943, 1.3895220756530762});
    check_draws<T>(sequences, {2, 3, 2}, {{0.16240191459655762, -0.33561456203460693, 0.8300414085388184, 0.6642940044403076}, {0.31928467750549316}},
                   {0.8853744268417358, 0.5182074308395386, 1.1483889818191528, 0.5665459036827087});
  } else {
    check_draws<T>(images, {2, 2, 3, 1}, {{2.3031605681612293, 0.6184293090351036, 0.656740024187267, -0.42132738229899735}, {-0.9220990297396053, 0.8446667607609925}},
                   {-0.178328617800581, 0.190335588916064, 1.276700777177283, 1.278376657880057, 0.06810822167399361, 0.34596675725440623, -1.9857611364969467, -0.7819514990911682,
                    -0.6721329732875783, -0.11405034696906824, 1.4436733826239292, 1.349243775297616, 0.5354877717175361, 0.6485930461838281, -2.0303112929287934, -0.8446664168575138});
    check_draws<T>(sequences, {2, 3, 2}, {{1.727370426120922, 0.4638219817763277, 0.4925550181404502, -0.315995536724248}, {-0.06917128425540474}},
                   {0.7244071734012524, -1.8212196905125222, 0.10998524094919561, -1.4727147017504192});
  }
}

TEST_CASE_TEMPLATE("pooling is the mean, sum and maximum that loops give", T, float, double) {
  for (const Geometry& g : geometries()) {
    CAPTURE(autodiff::str(g.x));
    CAPTURE(static_cast<int>(g.padding));
    const auto x = nn::normal<T>(Key(3), g.x);
    const Slide s = slide(g.x, g.window, g.strides, g.padding);
    const nn::PoolOptions options{g.strides, g.padding};
    const Shape shape = nn::SumPool(g.window, options).init(Key(0), g.x, nn::Width::float64).shape.leaf();
    Array<double> total(shape), inside(shape), largest(shape, -INFINITY);
    s.each([&](Index m, Index p, Index q, Index, Index, Index row, Index column) {
      for (Index c = 0; c < s.c; ++c) {
        const Index to = ((m * s.h.places() + p) * s.w.places() + q) * s.c + c;
        const double v = x.data()[((m * s.h.extent + row) * s.w.extent + column) * s.c + c];
        total.data()[to] += v;
        inside.data()[to] += 1;
        largest.data()[to] = std::max(largest.data()[to], v);
      }
    });
    Array<double> within = total;
    for (Index i = 0; i < within.size(); ++i) within.data()[i] /= inside.data()[i];
    check_close(run(nn::SumPool(g.window, options), {}, x), total, tolerance<T>());
    check_close(run(nn::AvgPool(g.window, options), {}, x), 1.0 / static_cast<double>(s.h.taps * s.w.taps) * total, tolerance<T>());
    check_close(run(nn::AvgPool(g.window, {g.strides, g.padding, true}), {}, x), within, tolerance<T>());
    check_close(run(nn::MaxPool(g.window, options), {}, x), largest, 0);
  }
}

TEST_CASE_TEMPLATE("global pooling leaves examples and channels, whatever is between", T, float, double) {
  for (const Shape& shape : {Shape{3, 4, 5, 2}, Shape{2, 3, 1}, Shape{1, 1, 1, 1}, Shape{0, 2, 2, 3}, Shape{2, 3}, Shape{2, 3, 2, 2, 3}}) {
    CAPTURE(autodiff::str(shape));
    const auto x = nn::normal<T>(Key(4), shape);
    const Index places = shape.size(1, shape.rank() - 1), c = shape[-1];
    Array<double> total({shape[0], c});
    for (Index i = 0; i < x.size(); ++i) total.data()[i / (places * c) * c + i % c] += x.data()[i];
    check_close(run(nn::GlobalSumPool(), {}, x), total, tolerance<T>());
    check_close(run(nn::GlobalAvgPool(), {}, x), 1.0 / static_cast<double>(places) * total, tolerance<T>());
  }
  CHECK(run(nn::GlobalSumPool(), {}, Array<T>({2, 0, 3})) == Array<T>({2, 3}));
}

TEST_CASE("options of windows that are none are refused when the layer is made") {
  CHECK_THROWS_WITH_AS(nn::Conv(0, {3, 3}), "conv: the number of channels must be 1 or more, got 0", ShapeError);
  CHECK_THROWS_WITH_AS(nn::Conv(1, {}), "conv: the filter has 0 axes; two are for images, one is for sequences", ShapeError);
  CHECK_THROWS_WITH_AS(nn::Conv(1, {3, 3, 3}), "conv: the filter has 3 axes; two are for images, one is for sequences", ShapeError);
  CHECK_THROWS_WITH_AS(nn::Conv(1, {3, 3}, {.strides = {1}}), "conv: the filter has 2 axes and there are 1 strides; give one for each, or none", ShapeError);
  CHECK_THROWS_WITH_AS(nn::Conv(1, {3, 0}), "conv: the filter is [3,0] and the strides are [1,1]; every number must be 1 or more", ShapeError);
  CHECK_THROWS_WITH_AS(nn::Conv(1, {3}, {.strides = {-1}}), "conv: the filter is [3] and the strides are [-1]; every number must be 1 or more", ShapeError);
  CHECK_THROWS_WITH_AS(nn::Conv(1, {3}, {.W_std = -1}), "conv: W_std must be finite and not negative, got -1", StructureError);
  CHECK_THROWS_WITH_AS(nn::Conv(1, {3}, {.b_std = INFINITY}), "conv: b_std must be finite and not negative, got inf", StructureError);
  CHECK_THROWS_WITH_AS(nn::AvgPool({}), "avg_pool: the window has 0 axes; two are for images, one is for sequences", ShapeError);
  CHECK_THROWS_WITH_AS(nn::SumPool({2}, {.strides = {0}}), "sum_pool: the window is [2] and the strides are [0]; every number must be 1 or more", ShapeError);
  CHECK_THROWS_WITH_AS(nn::SumPool({2}, {.normalize_edges = true}), "sum_pool: normalize_edges is for avg_pool; there is nothing to divide here", StructureError);
  CHECK_THROWS_WITH_AS(nn::MaxPool({2}, {.normalize_edges = true}), "max_pool: normalize_edges is for avg_pool; there is nothing to divide here", StructureError);
}

TEST_CASE("conv and pooling say which layer an input does not fit, when they are initialized and when they are applied") {
  struct Wrong {
    nn::Layer layer;
    Shape x;
    const char* text;
  };
  const std::vector<Wrong> all{
      {nn::Conv(1, {3, 3}), {2, 5, 5}, "conv: a window of two axes needs an input [examples, height, width, channels], got [2,5,5]"},
      {nn::Conv(1, {3}), {2, 5, 5, 1}, "conv: a window of one axis needs an input [examples, length, channels], got [2,5,5,1]"},
      {nn::Conv(1, {3, 3}), {2, 5, 5, 0}, "conv: the input [2,5,5,0] has no channels, one at least is needed"},
      {nn::Conv(1, {3, 6}), {2, 5, 5, 1}, "conv: a window that reaches over 6 does not fit into axis 2 of [2,5,5,1]; use Padding::same, or a smaller window"},
      {nn::Conv(1, {Index(1) << 40, 1}, {.padding = Padding::same}), {2, 5, 5, 1}, "conv: a window of 1099511627776 taps with stride 1 and dilation 1 is beyond any image"},
      {nn::AvgPool({2, 2}), {2, 5, 5}, "avg_pool: a window of two axes needs an input [examples, height, width, channels], got [2,5,5]"},
      {nn::MaxPool({6, 2}), {2, 5, 5, 1}, "max_pool: a window that reaches over 6 does not fit into axis 1 of [2,5,5,1]; use Padding::same, or a smaller window"},
      {nn::GlobalAvgPool(), {2}, "global_avg_pool: the input [2] needs an axis of examples and one of channels at least"},
      {nn::GlobalSumPool(), {2}, "global_sum_pool: the input [2] needs an axis of examples and one of channels at least"},
      {nn::GlobalAvgPool(), {2, 0, 3}, "global_avg_pool: the input [2,0,3] has no places to take the mean of"},
  };
  for (const Wrong& w : all) {
    CAPTURE(w.text);
    const std::string expected = "serial/" + w.layer.name + "_1: " + w.text;
    CHECK(init_error_of<ShapeError>(nn::serial({nn::Relu(), w.layer}), w.x) == expected);
    if (w.layer.name != "conv") CHECK(error_of<ShapeError>(nn::serial({nn::Relu(), w.layer}), {}, w.x) == expected);
  }
  const auto with = [](Array<double> W) { return Params<double>{{"conv_0", Params<double>{{"W", std::move(W)}}}}; };
  CHECK(error_of<ShapeError>(nn::serial({nn::Conv(1, {3, 6})}), with(Array<double>({3, 6, 1, 1})), {2, 5, 5, 1}) ==
        "serial/conv_0: conv: a window that reaches over 6 does not fit into axis 2 of [2,5,5,1]; use Padding::same, or a smaller window");
  CHECK(error_of<ShapeError>(nn::serial({nn::Conv(1, {3, 3})}), with(Array<double>({3, 3, 1, 1})), {2, 5, 5}) ==
        "serial/conv_0: conv: a window of two axes needs an input [examples, height, width, channels], got [2,5,5]");
  CHECK(error_of<ShapeError>(nn::serial({nn::Conv(4, {3, 3})}), with(Array<double>({3, 3, 1, 4})), {2, 5, 5, 2}) ==
        "serial/conv_0: conv: parameter 'W' has shape [3,3,1,4], expected [3,3,2,4] for an input [2,5,5,2]");
  CHECK(error_of<StructureError>(nn::Conv(4, {3}), {{"W", Array<double>({3, 2, 4})}, {"b", Array<double>({1, 1, 4})}}, {2, 5, 2}) == "conv: conv: there is a parameter 'b' that it does not know; it has W");
  CHECK(error_of<StructureError>(nn::SumPool({3}), {{"W", Array<double>({3, 2, 4})}}, {2, 5, 2}) == "sum_pool: sum_pool: there is a parameter 'W' that it does not know; it has no parameters");
}
