// Windows that slide over images: patches lays what each window sees side by side, so that pooling is a reduction over one axis; unpatches, its transpose, adds
// everything back. Pooling is a composition: lanes and all derivatives are those of sum and max. Convolution has kernels of its own (convolution.cpp).
#include "linnet/autodiff/ops/declare.h"
#include "linnet/autodiff/ops/window.h"

#include "linnet/autodiff/kernels/parallel.h"

#include <limits>

namespace linnet::autodiff {
namespace {

using enum Operand;

// ---- patches and unpatches: [n, h, w, c] and [n, places of h, places of w, taps of h * taps of w * c]

Shape patches_shape(Shapes in, const Attributes& attributes) {
  const Window& w = std::get<Window>(attributes);
  check_images("patches", in[0], w);
  return {in[0][0], w.height.places, w.width.places, w.height.size * w.width.size * in[0][3]};
}
Shape unpatches_shape(Shapes in, const Attributes& attributes) {
  const Window& w = std::get<Window>(attributes);
  const Index taps = w.height.size * w.width.size;
  if (in[0].rank() != 4 || in[0][1] != w.height.places || in[0][2] != w.width.places || in[0][3] % taps != 0)
    fail<ShapeError>("unpatches: patches [n,{},{},{} c] are needed, got {}", w.height.places, w.width.places, taps, in[0]);
  return {in[0][0], w.height.extent, w.width.extent, in[0][3] / taps};
}

// An item is a row of places of one image.
template <class T> void patches_eval(const KernelCall<T>& call) {
  const auto& [height, width, circular] = std::get<Window>(call.attributes);
  const Index c = (*call.in_shape[0])[3], image = (*call.in_shape[0]).size(1, 4), row = width.size * c, patch = height.size * row;
  const Index items = call.count() * call.out_shape[0] * height.places;
  parallel_for(items, [&, &height = height, &width = width, circular = circular](Index item) {
    const T* const x = call.in[0] + item / height.places * image;
    T* y = call.out + item * width.places * patch;
    for (Index q = 0; q < width.places; ++q)
      for (Index i = 0; i < height.size; ++i, y += row) {
        const Index r = position(height, circular, item % height.places, i);
        if (r < 0) { std::fill_n(y, row, T(0)); continue; }
        each_run(width, circular, q, [&](Index first, Index column, Index taps) {
          if (column < 0) std::fill_n(y + first * c, taps * c, T(0));
          else std::copy_n(x + (r * width.extent + column) * c, taps * c, y + first * c);
        });
      }
  }, 65536 / (width.places * patch + 1));
}

// An item is an image: windows overlap, and are added place by place.
template <class T> void unpatches_eval(const KernelCall<T>& call) {
  const Window& window = std::get<Window>(call.attributes);
  const auto& [height, width, circular] = window;
  const Index c = call.out_shape[3], image = call.out_shape.size(1, 4), row = width.size * c, patches = height.places * width.places * height.size * row;
  parallel_for(call.count() * call.out_shape[0], [&, &height = height, &width = width](Index item) {
    const T* x = call.in[0] + item * patches;
    T* const y = call.out + item * image;
    std::fill_n(y, image, T(0));
    for (Index p = 0; p < height.places; ++p)
      for (Index q = 0; q < width.places; ++q, x += height.size * row) add_window(window, c, p, q, x, y);
  }, 65536 / (patches + image + 1));
}

extern const Primitive unpatches_p;
constinit const Primitive patches_p{
    .name = "patches", .operands = {linear}, .joint = true, .infer = patches_shape, .eval = {patches_eval<float>, patches_eval<double>},
    .transpose = [](const Rule& r, int, Var ct) { return emit(unpatches_p, std::array{ct}, r.attributes); }, .flops = no_flops};
constinit const Primitive unpatches_p{
    .name = "unpatches", .operands = {linear}, .joint = true, .infer = unpatches_shape, .eval = {unpatches_eval<float>, unpatches_eval<double>},
    .transpose = [](const Rule& r, int, Var ct) { return emit(patches_p, std::array{ct}, r.attributes); }, .flops = one_an_operand};

const Primitive* const family[] = {&patches_p, &unpatches_p};

// ---- how windows are placed

struct Sliding {
  const char* operation;
  std::array<Index, 2> size, stride, dilation;
  Padding padding;
};

WindowAxis place_axis(const Sliding& s, const Shape& images, std::size_t i) {
  const Index n = images[static_cast<Index>(i) + 1], size = s.size[i], stride = s.stride[i], dilation = s.dilation[i];
  if (size < 1 || stride < 1 || dilation < 1)
    fail<ShapeError>("{}: a window of {} taps with stride {} and dilation {}; each must be at least 1", s.operation, size, stride, dilation);
  if (size - 1 > (std::numeric_limits<std::int32_t>::max() - 1) / dilation || stride > std::numeric_limits<std::int32_t>::max())
    fail<ShapeError>("{}: a window of {} taps with stride {} and dilation {} is beyond any image", s.operation, size, stride, dilation);
  const Index reach = (size - 1) * dilation + 1;
  if (s.padding == Padding::valid) {
    if (reach > n)
      fail<ShapeError>("{}: a window that reaches over {} does not fit into axis {} of {}; use Padding::same, or a smaller window", s.operation, reach, i + 1, images);
    return {n, (n - reach) / stride + 1, size, stride, dilation, 0};
  }
  const Index places = (n + stride - 1) / stride;
  return {n, places, size, stride, dilation, std::max<Index>((places - 1) * stride + reach - n, 0) / 2};
}
Window place(const Sliding& s, const Shape& images) { return {place_axis(s, images, 0), place_axis(s, images, 1), s.padding == Padding::circular}; }

// A sequence [n, l, c] is an image of height 1, whose windows have height 1.
struct Images {
  Var x;
  bool sequence;
};
Images as_images(const char* operation, const Var& x) {
  const Shape s = shape_of(operation, x);
  if (s.rank() == 3) return {reshape(x, {s[0], 1, s[1], s[2]}), true};
  if (s.rank() != 4) fail<ShapeError>("{}: images [n,height,width,channels] or sequences [n,length,channels] are needed, got {}", operation, s);
  return {x, false};
}
std::array<Index, 2> spread(const char* operation, const char* what, bool sequence, std::array<Index, 2> given) {
  if (sequence && given[1] != 1)
    fail<ShapeError>("{}: the {} of a sequence is its first number, and the second must be 1; {} and {} came", operation, what, given[0], given[1]);
  return sequence ? std::array<Index, 2>{1, given[0]} : given;
}
Var back(const Images& images, const Var& y) { return images.sequence ? reshape(y, y.shape().erased(1, 1)) : y; }

// Whether a tap is inside its image: [places of h, places of w, taps, 1].
Array<double> inside(const Window& w) {
  Array<double> mask({w.height.places, w.width.places, w.height.size * w.width.size, 1});
  double* to = mask.data();
  for (Index p = 0; p < w.height.places; ++p)
    for (Index q = 0; q < w.width.places; ++q)
      for (Index i = 0; i < w.height.size; ++i)
        for (Index j = 0; j < w.width.size; ++j) *to++ = position(w.height, w.circular, p, i) >= 0 && position(w.width, w.circular, q, j) >= 0;
  return mask;
}

// What the windows of pooling see: [n, places of h, places of w, taps, c].
struct Pooled {
  Images images;
  Window window;
  Var taps;
};
Pooled pooled(const char* operation, const Var& x, std::array<Index, 2> size, const PoolOptions& options) {
  const Images images = as_images(operation, x);
  auto both = [&](const char* what, std::array<Index, 2> given) { return spread(operation, what, images.sequence, given); };
  const Window w = place({operation, both("window", size), both("stride", options.stride), {1, 1}, options.padding}, images.x.shape());
  const Var p = emit(patches_p, std::array{images.x}, w);
  const Shape s = p.shape();
  return {images, w, reshape(p, {s[0], s[1], s[2], w.height.size * w.width.size, images.x.shape()[3]})};
}

}  // namespace

std::span<const Primitive* const> window_primitives() { return family; }
Var windows_of(const Var& images, const Window& window) { return emit(patches_p, std::array{images}, window); }
void check_images(const char* operation, const Shape& images, const Window& w) {
  if (images.rank() != 4 || images[1] != w.height.extent || images[2] != w.width.extent)
    fail<ShapeError>("{}: images [n,{},{},c] are needed, got {}", operation, w.height.extent, w.width.extent, images);
}

Var patches(const Var& x, std::array<Index, 2> size, const ConvOptions& options) {
  const Images images = as_images("patches", x);
  auto both = [&](const char* what, std::array<Index, 2> given) { return spread("patches", what, images.sequence, given); };
  const Sliding s{"patches", both("window", size), both("stride", options.stride), both("dilation", options.dilation), options.padding};
  return back(images, emit(patches_p, std::array{images.x}, place(s, images.x.shape())));
}

Var conv(const Var& input, const Var& weights, const ConvOptions& options) {
  const auto [x, w] = on_one_tape("conv", std::array{input, weights});
  const Shape image = x.shape(), kernel = w.shape();
  if ((image.rank() != 3 && image.rank() != 4) || kernel.rank() != image.rank() || image[-1] != kernel[-2])
    fail<ShapeError>("conv: images [n,height,width,c] with weights [height,width,c,f], or sequences [n,length,c] with weights [length,c,f], are needed; got {} and {}",
                     image, kernel);
  const bool sequence = image.rank() == 3;
  auto both = [&](const char* what, std::array<Index, 2> given) { return spread("conv", what, sequence, given); };
  const Images images = as_images("conv", x);
  const Sliding sliding{"conv", both("window", {kernel[0], sequence ? 1 : kernel[1]}), both("stride", options.stride), both("dilation", options.dilation), options.padding};
  const Window window = place(sliding, images.x.shape());
  const Var matrix = reshape(w, {kernel.size(0, kernel.rank() - 1), kernel[-1]});
  if (window.width.places >= 4) return back(images, convolution(images.x, matrix, window));
  return back(images, dot(windows_of(images.x, window), matrix));  // its kernels go along rows of places: short ones are better rows of one product
}

Var sum_pool(const Var& x, std::array<Index, 2> size, const PoolOptions& options) {
  if (options.normalize_edges) fail<ShapeError>("sum_pool: normalize_edges is for averages; a sum has nothing to divide");
  const Pooled p = pooled("sum_pool", x, size, options);
  return back(p.images, sum(p.taps, {3}));
}

Var avg_pool(const Var& x, std::array<Index, 2> size, const PoolOptions& options) {
  const Pooled p = pooled("avg_pool", x, size, options);
  const Var total = sum(p.taps, {3});
  if (!options.normalize_edges || options.padding != Padding::same) return back(p.images, 1.0 / static_cast<double>(p.taps.shape()[3]) * total);
  const Array<double> mask = inside(p.window);
  Array<double> share({p.window.height.places, p.window.width.places, 1});
  const Index taps = mask.shape()[2];
  for (Index i = 0; i < share.size(); ++i) share.data()[i] = 1 / fixed_sum(mask.data() + i * taps, taps);
  return back(p.images, total * p.taps.tape()->take_in(constant(share)));
}

Var max_pool(const Var& x, std::array<Index, 2> size, const PoolOptions& options) {
  const Pooled p = pooled("max_pool", x, size, options);
  if (options.normalize_edges) fail<ShapeError>("max_pool: normalize_edges is for averages; a maximum has nothing to divide");
  if (options.padding != Padding::same) return back(p.images, max(p.taps, {3}));
  const Var mask = p.taps.tape()->take_in(constant(inside(p.window)));
  return back(p.images, max(where(mask, p.taps, -std::numeric_limits<double>::infinity()), {3}));
}

}  // namespace linnet::autodiff
