#include "linnet/nn/kernel_places.h"
#include "linnet/nn/kernel_maps.h"

#include "linnet/autodiff/ops/window.h"
#include "linnet/autodiff/primitive.h"

namespace linnet::nn {

using namespace autodiff;

namespace {

// ---- sums along diagonals: [n, h, w, h', w'] -> [n, places of h, of w, of h', of w'], the sum over taps of x at the same tap of both windows; and its transpose

Shape all_pairs(const Window& w, bool of_places) {
  const auto n = [&](const WindowAxis& a) { return of_places ? a.places : a.extent; };
  return {n(w.height), n(w.width), n(w.height), n(w.width)};
}
Shape diagonal_shape(Shapes in, const Attributes& attributes, bool forward) {
  const Shape expected = all_pairs(std::get<Window>(attributes), !forward);
  if (in[0].rank() != 5 || in[0].part(1, 5) != expected) fail<ShapeError>("covariances of all pairs of places [n, {}] are needed, got {}", expected, in[0]);
  return all_pairs(std::get<Window>(attributes), forward).inserted(0, std::array{in[0][0]});
}

// f(place, place', from, count): where a run of places q' reads, one stride apart, for tap j of place q.
template <class T, bool forward> void diagonal_eval(const KernelCall<T>& call) {
  const auto& [height, width, circular] = std::get<Window>(call.attributes);
  const Index in_size = call.in_shape[0]->size(1, 5), out_size = call.out_shape.size(1, 5), lanes = call.count() * call.out_shape[0];
  const Index w = width.extent, wide = width.places;
  std::fill_n(call.out, lanes * out_size, T(0));
  for (Index lane = 0; lane < lanes; ++lane) {
    const T* const in = call.in[0] + lane * in_size;
    T* const out = call.out + lane * out_size;
    for (Index p = 0; p < height.places; ++p)
      for (Index i = 0; i < height.size; ++i) {
        const Index h = position(height, circular, p, i);
        if (h < 0) continue;
        for (Index q = 0; q < wide; ++q)
          for (Index j = 0; j < width.size; ++j) {
            const Index x = position(width, circular, q, j);
            if (x < 0) continue;
            for (Index p2 = 0; p2 < height.places; ++p2) {
              const Index h2 = position(height, circular, p2, i);
              if (h2 < 0) continue;
              const Index image = ((h * w + x) * height.extent + h2) * w, window = ((p * wide + q) * height.places + p2) * wide;
              const auto add = [&](Index q2, Index x2) {
                if constexpr (forward) out[window + q2] += in[image + x2];
                else out[image + x2] += in[window + q2];
              };
              if (width.stride == 1 && !circular) {
                const Index first = std::max<Index>(0, width.before - j), end = std::min(wide, w + width.before - j);
                for (Index q2 = first; q2 < end; ++q2) add(q2, q2 + j - width.before);
              } else {
                for (Index q2 = 0; q2 < wide; ++q2)
                  if (const Index x2 = position(width, circular, q2, j); x2 >= 0) add(q2, x2);
              }
            }
          }
      }
  }
}
double diagonal_flops(Shapes, const Shape& out, const Attributes& attributes) {
  const Window& w = std::get<Window>(attributes);
  return static_cast<double>(out.size() * w.height.size * w.width.size);
}
extern const Primitive diagonal_spread_p;
constinit const Primitive diagonal_sum_p{
    .name = "diagonal_sum", .operands = {Operand::linear}, .joint = true, .infer = [](Shapes in, const Attributes& a) { return diagonal_shape(in, a, true); }, .eval = {diagonal_eval<float, true>, diagonal_eval<double, true>}, .transpose = [](const autodiff::Rule& r, int, Var ct) { return emit(diagonal_spread_p, std::array{ct}, r.attributes); }, .flops = diagonal_flops};
constinit const Primitive diagonal_spread_p{
    .name = "diagonal_spread", .operands = {Operand::linear}, .joint = true, .infer = [](Shapes in, const Attributes& a) { return diagonal_shape(in, a, false); }, .eval = {diagonal_eval<float, false>, diagonal_eval<double, false>}, .transpose = [](const autodiff::Rule& r, int, Var ct) { return emit(diagonal_sum_p, std::array{ct}, r.attributes); }, .flops = diagonal_flops};

// ---- sums over taps: [n, h, w] -> [n, places of h, of w]; and its transpose

Shape taps_shape(Shapes in, const Attributes& attributes, bool forward) {
  const Shape expected = all_pairs(std::get<Window>(attributes), !forward).part(0, 2);
  if (in[0].rank() != 3 || in[0].part(1, 3) != expected) fail<ShapeError>("values [n, {}] of places are needed, got {}", expected, in[0]);
  return all_pairs(std::get<Window>(attributes), forward).part(0, 2).inserted(0, std::array{in[0][0]});
}
template <class T, bool forward> void taps_eval(const KernelCall<T>& call) {
  const auto& [height, width, circular] = std::get<Window>(call.attributes);
  const Index in_size = call.in_shape[0]->size(1, 3), out_size = call.out_shape.size(1, 3), lanes = call.count() * call.out_shape[0], w = width.extent, wide = width.places;
  std::fill_n(call.out, lanes * out_size, T(0));
  for (Index lane = 0; lane < lanes; ++lane)
    for (Index p = 0; p < height.places; ++p)
      for (Index i = 0; i < height.size; ++i) {
        const Index h = position(height, circular, p, i);
        if (h < 0) continue;
        const T* const in = call.in[0] + lane * in_size + (forward ? h * w : p * wide);
        T* const out = call.out + lane * out_size + (forward ? p * wide : h * w);
        for (Index j = 0; j < width.size; ++j) {
          if (width.stride == 1 && !circular) {
            const Index first = std::max<Index>(0, width.before - j), end = std::min(wide, w + width.before - j), shift = j - width.before;
            for (Index q = first; q < end; ++q) {
              if constexpr (forward) out[q] += in[q + shift];
              else out[q + shift] += in[q];
            }
          } else {
            for (Index q = 0; q < wide; ++q)
              if (const Index x = position(width, circular, q, j); x >= 0) {
                if constexpr (forward) out[q] += in[x];
                else out[x] += in[q];
              }
          }
        }
      }
}
extern const Primitive taps_spread_p;
constinit const Primitive taps_sum_p{
    .name = "taps_sum", .operands = {Operand::linear}, .joint = true, .infer = [](Shapes in, const Attributes& a) { return taps_shape(in, a, true); }, .eval = {taps_eval<float, true>, taps_eval<double, true>}, .transpose = [](const autodiff::Rule& r, int, Var ct) { return emit(taps_spread_p, std::array{ct}, r.attributes); }, .flops = diagonal_flops};
constinit const Primitive taps_spread_p{
    .name = "taps_spread", .operands = {Operand::linear}, .joint = true, .infer = [](Shapes in, const Attributes& a) { return taps_shape(in, a, false); }, .eval = {taps_eval<float, false>, taps_eval<double, false>}, .transpose = [](const autodiff::Rule& r, int, Var ct) { return emit(taps_sum_p, std::array{ct}, r.attributes); }, .flops = diagonal_flops};

WindowAxis axis_of(const Windowed& s, std::size_t i, Index extent) {
  const Index size = s.size[i], stride = s.strides[i];
  if (s.padding == Padding::valid) return {extent, (extent - size) / stride + 1, size, stride, 1, 0};
  const Index places = (extent + stride - 1) / stride;
  return {extent, places, size, stride, 1, std::max<Index>((places - 1) * stride + size - extent, 0) / 2};
}
Window window_of(const Windowed& s, const Shape& places) {  // that fits: a value of this shape was traced
  const bool circular = s.padding == Padding::circular;
  if (places.rank() == 1) return {{1, 1, 1, 1, 1, 0}, axis_of(s, 0, places[0]), circular};
  return {axis_of(s, 0, places[0]), axis_of(s, 1, places[1]), circular};
}
Shape answered(const Window& w, Index rank) { return rank == 1 ? Shape{w.width.places} : Shape{w.height.places, w.width.places}; }
Index taps_of(const Windowed& s) {
  Index taps = 1;
  for (const Index n : s.size) taps *= n;
  return taps;
}

Shape joined(std::initializer_list<Shape> parts) {
  std::vector<Index> all;
  for (const Shape& s : parts) all.insert(all.end(), s.begin(), s.end());
  return Shape(all);
}
Shape row_places(const Shape& covariance) { return covariance.part(1, 1 + (covariance.rank() - 1) / 2); }

}  // namespace

Shape places_of(const Shape& value) { return value.part(1, value.rank() - 1); }

Shape joined_places(const Shape& places, Index channels) { return joined({{1}, places, {channels}}); }

// [n, places…] of this many lanes in front.
static Var mean_of(const Windowed& s, const Var& values, const Shape& places) {
  const Shape shape = values.shape(), front = shape.part(0, shape.rank() - places.rank());
  const Window w = window_of(s, places);
  const Var sum = emit(taps_sum_p, std::array{reshape(values, joined({{front.size()}, all_pairs(w, false).part(0, 2)}))}, w);
  return (1 / static_cast<double>(taps_of(s))) * reshape(sum, joined({front, answered(w, places.rank())}));
}
Var mean_of_taps(const Windowed& s, const Var& variance) { return mean_of(s, variance, variance.shape()); }
Var mean_of_taps(const Windowed& s, const Var& covariance, bool all_places) {
  const Shape shape = covariance.shape();
  if (!all_places) return mean_of(s, covariance, shape.part(1, shape.rank()));
  const Shape places = row_places(shape);
  const Window w = window_of(s, places);
  const Var sum = emit(diagonal_sum_p, std::array{reshape(covariance, joined({{shape[0]}, all_pairs(w, false)}))}, w);
  const Shape out = answered(w, places.rank());
  return (1 / static_cast<double>(taps_of(s))) * reshape(sum, joined({{shape[0]}, out, out}));
}

Var where_same_taps(const Windowed& s, const Shape& places, const Var& a, const Var& b) {
  const Window w = window_of(s, places);
  if (w.circular || s.padding == Padding::valid) return a;
  const Index down = w.height.places, across = w.width.places, n = a.shape()[0];
  // Of one axis, with an axis of 1 wherever the other has its places.
  const auto same = [&](const WindowAxis& axis, const Shape& shape) {
    const auto inside = [&](Index p, Index k) { return position(axis, false, p, k) >= 0; };
    Array<double> mask(shape, 1.0);
    for (Index p = 0; p < axis.places; ++p)
      for (Index q = 0; q < axis.places; ++q)
        for (Index k = 0; k < axis.size; ++k)
          if (inside(p, k) != inside(q, k)) mask.data()[p * axis.places + q] = 0;
    return constant(std::move(mask));
  };
  const Shape all{n, down, across, down, across};
  const Var x = reshape(a, all), y = reshape(b, all);
  return reshape(where(same(w.height, {1, down, 1, down, 1}), where(same(w.width, {1, 1, across, 1, across}), x, y), y), a.shape());
}

Var both_sides(const std::function<Var(const Var&)>& f, const Var& covariance) {
  const Shape shape = covariance.shape(), places = row_places(shape);
  const Var of_column = f(reshape(covariance, joined({{shape[0] * places.size()}, places, {1}})));
  const Shape out = places_of(of_column.shape());
  const Var of_row = f(reshape(of_column, joined({{shape[0]}, places, {out.size()}})));
  return reshape(of_row, joined({{shape[0]}, out, out}));
}

Var equal_places(const Var& covariance) {
  const Shape shape = covariance.shape(), places = row_places(shape);
  if (places.rank() == 0) return covariance;
  return reshape(diagonal(reshape(covariance, {shape[0], places.size(), places.size()})), joined({{shape[0]}, places}));
}

Rule linear_rule(std::string name, std::function<Shape(const Shape&)> shape, std::function<Var(const Var&, const Shape&)> f) {
  OneValue rule;
  rule.places = Places::all;
  rule.law = [name](const Law& in, int&) -> Law { return {in.gaussian, name, in.weights}; };
  rule.example = [=](const ExampleValue& in, Statistics&, const Scale&) -> ExampleValue {
    const Shape out = shape(in.shape);
    return {out, reshape(equal_places(f(in.self->nngp(), in.shape)), places_of(out))};
  };
  rule.pair = [=](const PairValue& in, const Sides& after, std::span<const Sides>, const Scale&) {
    PairValue out;
    out.gap = positive_part(product(after) - f(in.nngp(), in.shape));
    if (!in.ntk.is_zero()) out.ntk = f(in.ntk, in.shape);
    return out;
  };
  return one_value_rule(std::move(name), std::move(rule));
}

}  // namespace linnet::nn
