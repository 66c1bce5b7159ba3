// The three bilinear maps of convolution: conv of images and weights, and its transposes, conv_images and conv_weights. The transposes of each are the other two,
// so derivatives of every order are among them, and a residual is an image, never the windows laid side by side. Weights are a matrix [taps of h * taps of w * c, f].
// Read kernels/strided_tile.h first.
#include "linnet/autodiff/ops/declare.h"
#include "linnet/autodiff/ops/window.h"

#include "linnet/autodiff/kernels/gemm.h"
#include "linnet/autodiff/kernels/parallel.h"
#include "linnet/autodiff/kernels/strided_tile.h"

namespace linnet::autodiff {
namespace {

using enum Operand;

Index taps(const Window& w) { return w.height.size * w.width.size; }

Shape conv_shape(Shapes in, const Attributes& attributes) {
  const Window& w = std::get<Window>(attributes);
  check_images("conv", in[0], w);
  if (in[1].rank() != 2 || in[1][0] != taps(w) * in[0][3]) fail<ShapeError>("conv: weights [{},f] are needed for images {}, got {}", taps(w) * in[0][3], in[0], in[1]);
  return {in[0][0], w.height.places, w.width.places, in[1][1]};
}
void check_cotangent(const char* operation, const Shape& g, const Window& w) {
  if (g.rank() != 4 || g[1] != w.height.places || g[2] != w.width.places)
    fail<ShapeError>("{}: results of conv [n,{},{},f] are needed, got {}", operation, w.height.places, w.width.places, g);
}
Shape conv_images_shape(Shapes in, const Attributes& attributes) {
  const Window& w = std::get<Window>(attributes);
  check_cotangent("conv_images", in[0], w);
  if (in[1].rank() != 2 || in[1][1] != in[0][3] || in[1][0] % taps(w) != 0) fail<ShapeError>("conv_images: weights [{} c,{}] are needed for {}, got {}", taps(w), in[0][3], in[0], in[1]);
  return {in[0][0], w.height.extent, w.width.extent, in[1][0] / taps(w)};
}
Shape conv_weights_shape(Shapes in, const Attributes& attributes) {
  const Window& w = std::get<Window>(attributes);
  check_images("conv_weights", in[0], w);
  check_cotangent("conv_weights", in[1], w);
  if (in[0][0] != in[1][0]) fail<ShapeError>("conv_weights: as many images as results are needed, got {} and {}", in[0], in[1]);
  return {taps(w) * in[0][3], in[1][3]};
}

struct Sizes {
  Index images, channels, features;
};

// ---- images with what is around them

// Images whose windows reach outside are copied, some rows of places at a time, with zeros or the other end around; those of others are read where they lie.
template <class T> struct Band {
  const T* data;
  Index line;  // numbers from one row to the next
};
Index reach(const WindowAxis& a, Index places) { return (places - 1) * a.stride + (a.size - 1) * a.dilation + 1; }
bool inside(const WindowAxis& a) { return a.before == 0 && reach(a, a.places) <= a.extent; }

template <class T> void copy_line(const WindowAxis& a, bool circular, Index c, const T* line, T* to) {
  const Index n = reach(a, a.places);
  if (circular) {
    for (Index u = 0; u < n; ++u) std::copy_n(line + ((u - a.before) % a.extent + a.extent) % a.extent * c, c, to + u * c);
    return;
  }
  const Index first = std::clamp<Index>(a.before, 0, n), end = std::clamp<Index>(a.before + a.extent, first, n);
  std::fill_n(to, first * c, T(0));
  std::copy_n(line + (first - a.before) * c, (end - first) * c, to + first * c);
  std::fill_n(to + end * c, (n - end) * c, T(0));
}
// What rows [first, first + rows) of places see.
template <class T> Band<T> band(const Window& w, Index c, const T* image, Index first, Index rows) {
  const Index line = w.width.extent * c;
  if (inside(w.height) && inside(w.width)) return {image + first * w.height.stride * line, line};
  const Index n = reach(w.height, rows), wide = reach(w.width, w.width.places) * c;
  T* const all = scratch<T>(Scratch::windows, n * wide);
  for (Index u = 0; u < n; ++u) {
    const Index r = position({.extent = w.height.extent, .before = w.height.before}, w.circular, first * w.height.stride + u, 0);
    if (r < 0) std::fill_n(all + u * wide, wide, T(0));
    else copy_line(w.width, w.circular, c, image + r * line, all + u * wide);
  }
  return {all, wide};
}
Index rows_of_band(const Window& w, Index places) { return std::clamp<Index>(places / w.width.places, 1, w.height.places); }

// Panels of `wide` columns of a right factor [rows, columns]: as they lie, where there is one of whole vectors.
template <class T> struct Panels {
  static constexpr Index wide = Registers<T>::wide;
  const T* data = nullptr;
  Index rows = 0, columns = 0;
  Index count() const { return (columns + wide - 1) / wide; }
  Index columns_of(Index panel) const { return std::min(wide, columns - panel * wide); }
  const T* operator[](Index panel) const { return data + panel * rows * wide; }
};
template <class T> bool lies_well(Index columns) { return columns == Registers<T>::wide; }
template <class T> Panels<T> packed(Scratch where, const T* x, Index rows, Index columns) {
  Panels<T> p{x, rows, columns};
  if (lies_well<T>(columns)) return p;
  T* const to = scratch<T>(where, p.count() * rows * p.wide);
  parallel_for(p.count(), [&](Index i) { pack_panel(x, rows, columns, i * p.wide, to + i * rows * p.wide); }, 262144 / (rows * p.wide + 1));
  p.data = to;
  return p;
}

constexpr double little = 64. * 64 * 64;  // multiply-adds for which no thread is woken

// ---- the kernels: of one lane

// An item is a few rows of places of one image.
template <class T> void convolve(const Window& w, Sizes s, const T* x, const T* weights, T* y, const RowsDone* done) {
  const Index c = s.channels, f = s.features, P = w.height.places, Q = w.width.places, row = w.width.size * c;
  if (s.images * P * Q * f == 0) return;
  const Panels<T> right = packed(Scratch::weights, weights, w.height.size * row, f);
  const Index high = rows_of_band(w, 256), bands = (P + high - 1) / high, items = s.images * bands;
  const bool together = w.width.dilation == 1;  // the taps of a row
  const double work = static_cast<double>(s.images * P * Q) * static_cast<double>(f * right.rows);
  parallel_for(items, [&](Index item) {
    const Index image = item / bands, first = item % bands * high, rows = std::min(high, P - first);
    const Band<T> a = band(w, c, x + image * w.height.extent * w.width.extent * c, first, rows);
    const Runs runs{w.height.size, w.height.dilation * a.line, together ? 1 : w.width.size, w.width.dilation * c, together ? row : c, 1};
    T* const to = y + (image * P + first) * Q * f;
    for (Index panel = 0; panel < right.count(); ++panel)
      for (Index p = 0; p < rows; ++p)
        StridedTile<T>{runs, a.data + p * w.height.stride * a.line, w.width.stride * c, right[panel], right.wide, to + p * Q * f + panel * right.wide, f, right.columns_of(panel), false}.run(Q);
    if (done) (*done)((image * P + first) * Q, rows * Q);
  }, work <= little ? items : 1);
}

// w[tap, c, f] as [tap, f, c], taps from the last to the first.
template <class T> const T* turned(const T* weights, Index taps, Index c, Index f) {
  T* const to = scratch<T>(Scratch::parts, taps * c * f);
  for (Index t = 0; t < taps; ++t)
    for (Index i = 0; i < c; ++i)
      for (Index j = 0; j < f; ++j) to[((taps - 1 - t) * f + j) * c + i] = weights[(t * c + i) * f + j];
  return to;
}
WindowAxis turned(const WindowAxis& a) { return {a.places, a.extent, a.size, 1, a.dilation, (a.size - 1) * a.dilation - a.before}; }

// Without strides it is a convolution with the weights turned round. Otherwise, or where whole vectors of channels would be mostly empty: what every window
// gets, some places at a time, added to the image; then an item is an image, whose windows overlap.
template <class T> void convolve_images(const Window& w, Sizes s, const T* g, const T* weights, T* x, const RowsDone* done) {
  const Index c = s.channels, f = s.features, image = w.height.extent * w.width.extent * c, patch = taps(w) * c, places = w.height.places * w.width.places;
  if (s.images * image == 0) return;
  const bool whole = w.circular ? w.height.places == w.height.extent && w.width.places == w.width.extent : true;
  // Zeros around the results would make NaN of weights that are not finite, where no window is.
  const auto finite = [&] { return first_not_finite(std::span<const T>(weights, static_cast<std::size_t>(patch * f))) < 0; };
  if (w.height.stride == 1 && w.width.stride == 1 && whole && 2 * c >= Registers<T>::lanes && finite())
    return convolve<T>({turned(w.height), turned(w.width), w.circular}, {s.images, f, c}, g, turned(weights, taps(w), c, f), x, done);
  T* const transposed = scratch<T>(Scratch::parts, patch * f);
  for (Index k = 0; k < patch; ++k)
    for (Index j = 0; j < f; ++j) transposed[j * patch + k] = weights[k * f + j];
  const Panels<T> right = packed<T>(Scratch::weights, transposed, f, patch);
  constexpr Index chunk = 48;
  const double work = static_cast<double>(s.images * places) * static_cast<double>(f * patch);
  parallel_for(s.images, [&](Index item) {
    T* const windows = scratch<T>(Scratch::windows, chunk * patch);
    T* const to = x + item * image;
    std::fill_n(to, image, T(0));
    for (Index first = 0; first < places; first += chunk) {
      const Index n = std::min(chunk, places - first);
      for (Index panel = 0; panel < right.count(); ++panel)
        StridedTile<T>{{1, 0, 1, 0, f, 1}, g + (item * places + first) * f, f, right[panel], right.wide, windows + panel * right.wide, patch, right.columns_of(panel), false}.run(n);
      for (Index k = 0; k < n; ++k) add_window(w, c, (first + k) / w.width.places, (first + k) % w.width.places, windows + k * patch, to);
    }
    if (done) (*done)(item * (w.height.extent * w.width.extent), w.height.extent * w.width.extent);
  }, work <= little ? s.images : 1);
}

// How the sum over images is cut: into parts that are summed apart, by the shape alone.
Index images_of_part(Sizes s, Index results) {
  const Index parts = std::clamp<Index>((1 << 20) / results, 1, 16);
  return (s.images + parts - 1) / parts;
}

// An item is a part of the images, a panel of features and, where that makes few items, a row of taps.
template <class T> void convolve_weights(const Window& w, Sizes s, const T* x, const T* g, T* result) {
  constexpr Index wide = Registers<T>::wide;
  const Index c = s.channels, f = s.features, P = w.height.places, Q = w.width.places, row = w.width.size * c, size = w.height.size * row * f;
  if (size == 0) return;
  if (s.images * P * Q == 0) return void(std::fill_n(result, size, T(0)));
  const Index per = images_of_part(s, size), n_parts = (s.images + per - 1) / per, panels = (f + wide - 1) / wide, high = rows_of_band(w, 128);
  const Index apart = n_parts * panels < 8 ? w.height.size : 1, items = n_parts * panels * apart;
  T* const parts = n_parts == 1 ? result : scratch<T>(Scratch::parts, n_parts * size);
  const double work = static_cast<double>(s.images * P * Q) * static_cast<double>(size);
  parallel_for(items, [&](Index item) {
    const Index part = item / (panels * apart), panel = item / apart % panels, tap = item % apart, columns = std::min(wide, f - panel * wide);
    for (Index image = part * per; image < std::min(s.images, (part + 1) * per); ++image)
      for (Index first = 0; first < P; first += high) {
        const Index rows = std::min(high, P - first);
        const Band<T> a = band(w, c, x + image * w.height.extent * w.width.extent * c, first, rows);
        const T* right = g + (image * P + first) * Q * f;
        if (!lies_well<T>(f)) {
          T* const to = scratch<T>(Scratch::weights, rows * Q * wide);
          pack_panel(right, rows * Q, f, panel * wide, to);
          right = to;
        }
        const Runs runs{rows, w.height.stride * a.line, 1, 0, Q, w.width.stride * c};
        const bool add = image > part * per || first > 0, together = w.width.dilation == 1;
        for (Index i = apart == 1 ? 0 : tap; i < (apart == 1 ? w.height.size : tap + 1); ++i)
          for (Index j = 0; j < (together ? 1 : w.width.size); ++j)
            StridedTile<T>{runs, a.data + i * w.height.dilation * a.line + j * w.width.dilation * c, 1, right, wide, parts + part * size + (i * row + j * c) * f + panel * wide, f, columns, add}.run(together ? row : c);
      }
  }, work <= little ? items : 1);
  if (n_parts == 1) return;
  constexpr Index strip = 4096;
  parallel_for((size + strip - 1) / strip, [&](Index b) {
    T* const to = result + b * strip;
    const Index n = std::min(strip, size - b * strip);
    std::copy_n(parts + b * strip, n, to);
    for (Index part = 1; part < n_parts; ++part)
      for (Index k = 0; k < n; ++k) to[k] += parts[part * size + b * strip + k];
  }, 4);
}

// ---- lanes

// f(first lane, lanes that are more images of one problem, images of each) for all lanes. Where only the images vary, they are more of them.
template <class T, class F> void each_problem(const KernelCall<T>& call, F&& f) {
  const Index count = call.count();
  if (call.in_varies[1] == Varies::nothing) return f(Index{0}, count);
  const Index together = call.in_varies[0] == Varies::both && call.in_varies[1] == Varies::examples ? call.lanes.directions : 1;
  const Index problems = count / together;
  if (problems >= 8) parallel_for(problems, [&](Index i) { f(i * together, together); });
  else for (Index i = 0; i < problems; ++i) f(i * together, together);
}
// The same with the call of done, whose rows are counted from the first lane: f(images of all its lanes, operands, result, done or null).
template <class T, class F> void each_problem_in_rows(const KernelCall<T>& call, F&& f) {
  const Index rows = call.out_shape.size(0, 3);
  each_problem(call, [&](Index lane, Index lanes) {
    const auto here = [&](Index first, Index n) { (*call.done)(lane * rows + first, n); };
    const RowsDone done(here);
    f(lanes * call.out_shape[0], call.lane(0, lane), call.lane(1, lane), call.out + lane * call.out_shape.size(), call.done ? &done : nullptr);
  });
}
template <class T> void conv_eval(const KernelCall<T>& call) {
  each_problem_in_rows(call, [&](Index images, const T* x, const T* weights, T* y, const RowsDone* done) {
    convolve(std::get<Window>(call.attributes), {images, (*call.in_shape[0])[3], call.out_shape[3]}, x, weights, y, done);
  });
}
template <class T> void conv_images_eval(const KernelCall<T>& call) {
  each_problem_in_rows(call, [&](Index images, const T* g, const T* weights, T* x, const RowsDone* done) {
    convolve_images(std::get<Window>(call.attributes), {images, call.out_shape[3], (*call.in_shape[0])[3]}, g, weights, x, done);
  });
}
template <class T> void conv_weights_eval(const KernelCall<T>& call) {
  const Shape &images = *call.in_shape[0], &g = *call.in_shape[1];
  const auto one = [&](Index lane) { convolve_weights(std::get<Window>(call.attributes), {images[0], images[3], g[3]}, call.lane(0, lane), call.lane(1, lane), call.out + lane * call.out_shape.size()); };
  if (call.count() >= 8) parallel_for(call.count(), one);
  else for (Index lane = 0; lane < call.count(); ++lane) one(lane);
}

// Every place takes all weights once, whichever of the three.
double conv_flops(Shapes in, const Shape& out, const Attributes&) { return 2 * static_cast<double>(out.size(0, 3)) * static_cast<double>(in[1].size()); }
double conv_images_flops(Shapes in, const Shape&, const Attributes&) { return 2 * static_cast<double>(in[0].size(0, 3)) * static_cast<double>(in[1].size()); }
double conv_weights_flops(Shapes in, const Shape& out, const Attributes&) { return 2 * static_cast<double>(in[1].size(0, 3)) * static_cast<double>(out.size()); }

extern const Primitive conv_p, conv_images_p, conv_weights_p;
Var emit_of(const Primitive& p, const Var& a, const Var& b, const Rule& r) { return emit(p, std::array{a, b}, r.attributes); }

constinit const Primitive conv_p{
    .name = "conv", .operands = {linear, linear}, .panels = true, .infer = conv_shape, .eval = {conv_eval<float>, conv_eval<double>},
    .transpose = [](const Rule& r, int i, Var ct) { return i == 0 ? emit_of(conv_images_p, ct, r.in[1], r) : emit_of(conv_weights_p, r.in[0], ct, r); },
    // Positions are places, the weights' rows what their windows see.
    .factor = [](const Rule& r, int i, Var ct) {
      if (i != 1) return Factors{};
      const Var seen = windows_of(r.in[0], r.attribute<Window>());
      return Factors{reshape(seen, {seen.shape().size(0, 3), seen.shape()[3]}), reshape(ct, {ct.shape().size(0, 3), ct.shape()[3]})};
    },
    .flops = conv_flops};
constinit const Primitive conv_images_p{
    .name = "conv_images", .operands = {linear, linear}, .panels = true, .infer = conv_images_shape, .eval = {conv_images_eval<float>, conv_images_eval<double>},
    .transpose = [](const Rule& r, int i, Var ct) { return i == 0 ? emit_of(conv_p, ct, r.in[1], r) : emit_of(conv_weights_p, ct, r.in[0], r); },
    .flops = conv_images_flops};
constinit const Primitive conv_weights_p{
    .name = "conv_weights", .operands = {linear, linear}, .infer = conv_weights_shape, .eval = {conv_weights_eval<float>, conv_weights_eval<double>},
    .transpose = [](const Rule& r, int i, Var ct) { return i == 0 ? emit_of(conv_images_p, r.in[1], ct, r) : emit_of(conv_p, r.in[0], ct, r); },
    .flops = conv_weights_flops};

const Primitive* const family[] = {&conv_p, &conv_images_p, &conv_weights_p};

}  // namespace

std::span<const Primitive* const> convolution_primitives() { return family; }
Var convolution(const Var& images, const Var& weights, const Window& window) { return emit(conv_p, std::array{images, weights}, window); }

}  // namespace linnet::autodiff
