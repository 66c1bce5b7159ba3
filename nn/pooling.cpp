// Pooling: windows of images and sequences to their mean, sum or maximum, and all places to one. No parameters; the windows are autodiff's.
#include "linnet/nn/kernel_places.h"

namespace linnet::nn {
namespace {

// A layer of this function of an array, without parameters, that keeps the examples; `check` looks at the shape that comes.
template <class Check, class F> Layer pooling(std::string name, LayerOptions options, Check check, F f) {
  return plain(
      name,
      [=](Key, const Shape& input, Width) {
        check(input, std::string());
        return std::pair(traced_shape(input, f), Tree<Array<double>>());
      },
      [=](const Tree<Var>& params, const Var& x) {
        check_no_others(name, params, {}, x);
        check(x.shape(), place(params, x));
        return placed(params, x, [&] { return f(x); });
      },
      std::move(options));
}

template <class F> Layer windowed(std::string name, std::vector<Index> window, PoolOptions options, bool averages, F f) {
  check_window(name, "window", window, options.strides);
  if (options.normalize_edges && !averages) fail<StructureError>("{}: normalize_edges is for avg_pool; there is nothing to divide here", name);
  LayerOptions made{{"window", window}, {"strides", options.strides}, {"padding", word(options.padding)}};
  if (averages) made.push_back({"normalize_edges", options.normalize_edges});
  const autodiff::PoolOptions how{two(options.strides), options.padding, options.normalize_edges};
  const auto slide = [f, how, size = two(window)](const Var& x) { return f(x, size, how); };
  Rule rule = linear_rule(name, [slide](const Shape& in) { return traced_shape(in, slide); }, [slide](const Var& K, const Shape&) { return both_sides(slide, K); });
  return with_kernel(pooling(
      name, std::move(made), [name, axes = window.size()](const Shape& x, const std::string& place) { check_images(name, axes, x, place); },
      slide), std::move(rule));
}

// The mean over all pairs of places, or the sum.
Rule global_rule(const char* name, bool average) {
  return linear_rule(name, [](const Shape& in) { return Shape{1, in[-1]}; },
                     [average](const Var& K, const Shape&) {
                       if (K.shape().rank() == 1) return K;
                       const Var all = reshape(K, {K.shape()[0], K.shape().size(1, K.shape().rank())});
                       return average ? mean(all, {1}) : sum(all, {1});
                     });
}

std::vector<Index> place_axes(const Shape& x) {
  std::vector<Index> axes;
  for (Index a = 1; a < x.rank() - 1; ++a) axes.push_back(a);
  return axes;
}
void check_channels(std::string_view name, const Shape& x, const std::string& place) {
  if (x.rank() < 2) fail<ShapeError>("{}{}: the input {} needs an axis of examples and one of channels at least", place, name, x);
}

}  // namespace

Layer AvgPool(std::vector<Index> window, PoolOptions options) {
  return windowed("avg_pool", std::move(window), std::move(options), true, [](const Var& x, std::array<Index, 2> size, const autodiff::PoolOptions& how) { return avg_pool(x, size, how); });
}
Layer SumPool(std::vector<Index> window, PoolOptions options) {
  return windowed("sum_pool", std::move(window), std::move(options), false, [](const Var& x, std::array<Index, 2> size, const autodiff::PoolOptions& how) { return sum_pool(x, size, how); });
}
Layer MaxPool(std::vector<Index> window, PoolOptions options) {
  return with_kernel(windowed("max_pool", std::move(window), std::move(options), false, [](const Var& x, std::array<Index, 2> size, const autodiff::PoolOptions& how) { return max_pool(x, size, how); }),
                     no_rule("a maximum over places has no closed form; use AvgPool or SumPool"));
}

Layer GlobalAvgPool() {
  return with_kernel(pooling(
      "global_avg_pool", {},
      [](const Shape& x, const std::string& place) {
        check_channels("global_avg_pool", x, place);
        if (x.size(1, x.rank() - 1) == 0) fail<ShapeError>("{}global_avg_pool: the input {} has no places to take the mean of", place, x);
      },
      [](const Var& x) { return x.shape().rank() == 2 ? x : 1 / static_cast<double>(x.shape().size(1, x.shape().rank() - 1)) * sum(x, place_axes(x.shape())); }), global_rule("global_avg_pool", true));  // of no examples too
}
Layer GlobalSumPool() {
  return with_kernel(pooling(
      "global_sum_pool", {}, [](const Shape& x, const std::string& place) { check_channels("global_sum_pool", x, place); },
      [](const Var& x) { return x.shape().rank() == 2 ? x : sum(x, place_axes(x.shape())); }), global_rule("global_sum_pool", false));
}

}  // namespace linnet::nn
