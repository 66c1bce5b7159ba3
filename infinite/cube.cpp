#include "linnet/infinite/cube.h"

#include "linnet/nn/angle.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace linnet::infinite {

using namespace autodiff;
using nn::V;

namespace {

template <class T> struct Unaligned {
  typedef T type __attribute__((vector_size(64), aligned(sizeof(T)), may_alias));
};
template <class T> V<T> load_at(const T* p) { return *reinterpret_cast<const typename Unaligned<T>::type*>(p); }
template <class T> void store_at(T* p, V<T> v) { *reinterpret_cast<typename Unaligned<T>::type*>(p) = v; }

template <class X> const X* find(const nn::LayerOptions& options, std::string_view name) {
  for (const nn::Option& o : options)
    if (o.name == name) return std::get_if<X>(&o.value);
  return nullptr;
}

// Of a convolution without strides that keeps the places.
bool read_convolution(const Network::Step& step, CubePlan::Layer& layer, Index& channels) {
  if (step.name != "conv" || !step.options) return false;
  const auto* filter = find<std::vector<Index>>(*step.options, "filter");
  const auto* strides = find<std::vector<Index>>(*step.options, "strides");
  const auto* padding = find<std::string>(*step.options, "padding");
  const auto* parameterization = find<std::string>(*step.options, "parameterization");
  const auto* W = find<double>(*step.options, "W_std");
  const auto* b = find<double>(*step.options, "b_std");
  const auto* out = find<Index>(*step.options, "out");
  if (!filter || !strides || !padding || !parameterization || !W || !out || filter->size() != 2 || *padding != "SAME" || *parameterization != "ntk") return false;
  for (std::size_t i = 0; i < 2; ++i)
    if ((*strides)[i] != 1 || (*filter)[i] % 2 == 0 || (*filter)[i] > 15) return false;
  layer.height = (*filter)[0], layer.width = (*filter)[1];
  channels = *out;
  layer.W = *W * *W, layer.b = b ? *b * *b : 0;
  return true;
}
bool read_kink(const Network::Step& step, CubePlan::Layer& layer) {
  if (!step.options) return false;
  double a = 0, b = 1;
  if (step.name == "leaky_relu" && find<double>(*step.options, "alpha")) a = *find<double>(*step.options, "alpha");
  else if (step.name == "ab_relu" && find<double>(*step.options, "a") && find<double>(*step.options, "b")) a = *find<double>(*step.options, "a"), b = *find<double>(*step.options, "b");
  else if (step.name != "relu") return false;  // Abs wants more care where examples are opposite
  layer.A = (a * a + b * b) / 2;
  if (layer.A == 0 || std::abs(a + b) < std::max(std::abs(a), std::abs(b)) / 2) return false;
  layer.ratio = (a - b) * (a - b) / (2 * std::numbers::pi) / layer.A;
  return true;
}

}  // namespace

std::optional<CubePlan> cube_plan(const Network& network, const Shape& input) {
  if (input.rank() != 4) return {};
  CubePlan plan;
  int value = 0;
  const auto next = [&](std::size_t i) {  // whether step i takes the value and is the only one that does
    if (i >= network.steps.size() || !network.steps[i].in.is_leaf() || network.steps[i].in.leaf() != value || !network.steps[i].out.is_leaf()) return false;
    value = network.steps[i].out.leaf();
    return true;
  };
  for (std::size_t i = 0; next(i); ++i) {
    const Network::Step& step = network.steps[i];
    if (i % 2 == 0 && !plan.layers.empty() && step.options && (step.name == "global_avg_pool" || step.name == "global_sum_pool")) {
      plan.average = step.name == "global_avg_pool";
      plan.steps = i + 1;
      return plan;
    }
    if (i % 2 == 0) plan.layers.emplace_back();
    if (!(i % 2 == 0 ? read_convolution(step, plan.layers.back(), plan.channels) : read_kink(step, plan.layers.back()))) return {};
  }
  return {};
}

template <Scalar T> Cube<T>::Cube(const CubePlan& plan, Index height, Index width, Index channels) : plan_(plan), height_(height), width_(width), channels_(channels), lanes_(64 / static_cast<Index>(sizeof(T))) {
  padded_ = (height + lanes_ - 1) / lanes_ * lanes_;
  reach_ = 0;
  for (const auto& l : plan.layers) reach_ = std::max(reach_, l.height / 2);
  stride_ = padded_ + 2 * lanes_;  // of a plane's rows, which begin a vector late
  const auto cube = static_cast<std::size_t>(width * height * padded_), plane = static_cast<std::size_t>((height + 2 * reach_) * stride_);
  for (Buffer<T>* b : {&distance_, &ntk_, &next_distance_, &next_ntk_}) b->assign(cube, T(0));
  for (Buffer<T>* b : {&d_, &t_}) b->assign(plane, T(0));
}

template <Scalar T> CubeImage<T> Cube<T>::image(const T* x) const {
  const Index H = height_, W = width_, map = W * padded_;
  CubeImage<T> m;
  m.x.assign(static_cast<std::size_t>(W * channels_ * padded_), T(0));
  for (Buffer<T>* b : {&m.deviation, &m.low, &m.inverse, &m.seen, &m.beside}) b->assign(static_cast<std::size_t>(map) * plan_.layers.size(), T(0));
  std::vector<double> q(static_cast<std::size_t>(W * H)), across(q.size());
  for (Index h = 0; h < H; ++h)
    for (Index w = 0; w < W; ++w) {
      double square = 0;
      for (Index c = 0; c < channels_; ++c) {
        const T v = x[(h * W + w) * channels_ + c];
        m.x[static_cast<std::size_t>((w * channels_ + c) * padded_ + h)] = v;
        square += static_cast<double>(v) * static_cast<double>(v);
      }
      q[static_cast<std::size_t>(w * H + h)] = square / static_cast<double>(channels_);
    }
  for (std::size_t l = 0; l < plan_.layers.size(); ++l) {
    const auto& layer = plan_.layers[l];
    for (Index w = 0; w < W; ++w)
      for (Index h = 0; h < H; ++h) {
        double sum = 0;
        for (Index u = std::max<Index>(0, w - layer.width / 2); u <= std::min(W - 1, w + layer.width / 2); ++u) sum += q[static_cast<std::size_t>(u * H + h)];
        across[static_cast<std::size_t>(w * H + h)] = sum;
        const auto at = l * static_cast<std::size_t>(map) + static_cast<std::size_t>(w * padded_ + h);
        m.seen[at] = static_cast<T>(q[static_cast<std::size_t>(w * H + h)]);
        m.beside[at] = static_cast<T>(sum);
      }
    for (Index w = 0; w < W; ++w)
      for (Index h = 0; h < H; ++h) {
        double sum = 0;
        for (Index u = std::max<Index>(0, h - layer.height / 2); u <= std::min(H - 1, h + layer.height / 2); ++u) sum += across[static_cast<std::size_t>(w * H + u)];
        const double p = layer.W / static_cast<double>(layer.height * layer.width) * sum + layer.b, s = std::sqrt(p);
        const auto at = l * static_cast<std::size_t>(map) + static_cast<std::size_t>(w * padded_ + h);
        m.deviation[at] = static_cast<T>(s);
        m.low[at] = static_cast<T>(s - static_cast<double>(m.deviation[at]));
        m.inverse[at] = s > 0 ? static_cast<T>(1 / s) : T(0);
        q[static_cast<std::size_t>(w * H + h)] = layer.A * p;
      }
  }
  return m;
}

// Distances of the input at the places of one offset.
template <Scalar T> void Cube<T>::load(const CubeImage<T>& a, const CubeImage<T>& b, Index w1, Index w2, Index planes) {
  const T scale = T(1) / static_cast<T>(channels_);
  for (Index w = 0; w < planes; ++w)
    for (Index h = 0; h < height_; ++h)
      for (Index k = 0; k < padded_; k += lanes_) {
        V<T> sum{};
        for (Index c = 0; c < channels_; ++c) {
          const V<T> d = load_at(b.x.data() + ((w2 + w) * channels_ + c) * padded_ + k) - a.x[static_cast<std::size_t>(((w1 + w) * channels_ + c) * padded_ + h)];
          sum += d * d;
        }
        store_at<T>(distance_.data() + (w * height_ + h) * padded_ + k, sum * scale);
      }
  std::fill_n(ntk_.data(), planes * height_ * padded_, T(0));
}

// The planes beside plane w, summed, with what lies around them: where one place is outside of its image the distance is the variance of the other, and the ntk 0.
template <Scalar T> void Cube<T>::sum_across(const CubeImage<T>& a, const CubeImage<T>& b, std::size_t l, Index w, Index w1, Index w2, Index planes) {
  const Index H = height_, reach = plan_.layers[l].width / 2, map = width_ * padded_, plane = H * padded_;
  const T *const q1 = a.seen.data() + static_cast<Index>(l) * map, *const q2 = b.seen.data() + static_cast<Index>(l) * map;
  const T *const r1 = a.beside.data() + static_cast<Index>(l) * map + (w1 + w) * padded_, *const r2 = b.beside.data() + static_cast<Index>(l) * map + (w2 + w) * padded_;
  const Index first = std::max<Index>(0, w - reach), last = std::min(planes - 1, w + reach);
  for (Index h = 0; h < H; ++h) {
    T *const d = d_.data() + (h + reach_) * stride_ + lanes_, *const t = t_.data() + (h + reach_) * stride_ + lanes_;
    for (Index k = 0; k < padded_; k += lanes_) {
      const Index at = h * padded_ + k;
      V<T> sum = load_at(distance_.data() + first * plane + at), ntk = load_at(ntk_.data() + first * plane + at);
      for (Index u = first + 1; u <= last; ++u) {
        sum += load_at(distance_.data() + u * plane + at);
        ntk += load_at(ntk_.data() + u * plane + at);
      }
      store_at<T>(d + k, sum);
      store_at<T>(t + k, ntk);
    }
    for (Index u = w - reach; u <= w + reach; ++u) {
      if (u >= first && u <= last) continue;
      const bool row = w1 + u >= 0 && w1 + u < width_, column = w2 + u >= 0 && w2 + u < width_;
      for (Index k = 0; k < padded_; k += lanes_) {
        V<T> sum = load_at(d + k);
        if (row) sum += q1[(w1 + u) * padded_ + h];
        if (column) sum += load_at(q2 + (w2 + u) * padded_ + k);
        store_at<T>(d + k, sum);
      }
    }
    for (Index k = 1; k <= reach_; ++k) {
      d[-k] = d[H + k - 1] = r1[h];
      t[-k] = t[H + k - 1] = T(0);
    }
  }
  for (Index k = 1; k <= reach_; ++k)
    for (const Index h : {reach_ - k, H + reach_ + k - 1}) {
      T* const d = d_.data() + h * stride_ + lanes_;
      std::copy_n(r2, padded_, d);
      for (Index e = 1; e <= reach_; ++e) d[-e] = d[H + e - 1] = T(0);
      std::fill_n(t_.data() + h * stride_, stride_, T(0));
    }
}

// Plane w of the next cube; of the last layer its sums.
template <Scalar T> template <bool last> void Cube<T>::layer(const CubeImage<T>& a, const CubeImage<T>& b, std::size_t l, Index w, Index w1, Index w2) {
  const auto& of = plan_.layers[l];
  const Index H = height_, reach = of.height / 2, map = width_ * padded_, at1 = static_cast<Index>(l) * map + (w1 + w) * padded_, at2 = static_cast<Index>(l) * map + (w2 + w) * padded_;
  const T scale = static_cast<T>(of.W / static_cast<double>(of.height * of.width)), A = static_cast<T>(of.A), ratio = static_cast<T>(of.ratio);
  const V<T> zero{};
  V<T> sum_k{}, sum_t{};
  for (Index h = 0; h < H; ++h) {
    const T s1 = a.deviation[static_cast<std::size_t>(at1 + h)], low1 = a.low[static_cast<std::size_t>(at1 + h)], i1 = a.inverse[static_cast<std::size_t>(at1 + h)];
    const T *const d = d_.data() + (h + reach_) * stride_ + lanes_, *const t = t_.data() + (h + reach_) * stride_ + lanes_;
    for (Index k = 0; k < padded_; k += lanes_) {
      V<T> distance = load_at(d + k), ntk = load_at(t + k);
      for (Index e = 1; e <= reach; ++e) {
        distance += load_at(d + k - e * stride_ - e) + load_at(d + k + e * stride_ + e);
        ntk += load_at(t + k - e * stride_ - e) + load_at(t + k + e * stride_ + e);
      }
      const V<T> s2 = load_at(b.deviation.data() + at2 + k), both = s1 * s2, apart = (s1 - s2) + (low1 - load_at(b.low.data() + at2 + k)), square = apart * apart;
      const V<T> twice = scale * distance - square, gap = (twice < zero ? zero : twice) * T(0.5), inverse = i1 * load_at(b.inverse.data() + at2 + k);
      const V<T> relative = gap * inverse, h_ = inverse == zero ? zero + 1 : relative;
      V<T> angle, moment;
      nn::angle_and_moment<T>(h_, angle, moment);
      const V<T> left = both * (h_ - ratio * moment), theta = (both - gap + scale * ntk) * (A - A * ratio * angle);
      if constexpr (last) {
        const V<T> K = A * (both - left);
        if (k + lanes_ <= H) {
          sum_k += K;
          sum_t += theta;
        } else {
          for (Index e = 0; k + e < H; ++e) {
            sum_k[e] += K[e];
            sum_t[e] += theta[e];
          }
        }
      } else {
        const Index to = (w * H + h) * padded_ + k;
        store_at<T>(next_distance_.data() + to, A * (square + 2 * left));
        store_at<T>(next_ntk_.data() + to, theta);
      }
    }
  }
  if constexpr (last)
    for (Index e = 0; e < lanes_; ++e) {
      sum_k_ += weight_ * static_cast<double>(sum_k[e]);
      sum_t_ += weight_ * static_cast<double>(sum_t[e]);
    }
}

template <Scalar T> std::pair<double, double> Cube<T>::pair(const CubeImage<T>& row, const CubeImage<T>& column) {
  sum_k_ = sum_t_ = 0;
  const bool self = &row == &column;
  for (Index dw = self ? 0 : 1 - width_; dw < width_; ++dw) {
    weight_ = self && dw > 0 ? 2 : 1;
    const Index planes = width_ - std::abs(dw), w1 = std::max<Index>(0, -dw), w2 = std::max<Index>(0, dw);
    load(row, column, w1, w2, planes);
    for (std::size_t l = 0; l < plan_.layers.size(); ++l) {
      for (Index w = 0; w < planes; ++w) {
        sum_across(row, column, l, w, w1, w2, planes);
        if (l + 1 < plan_.layers.size()) layer<false>(row, column, l, w, w1, w2);
        else layer<true>(row, column, l, w, w1, w2);
      }
      std::swap(distance_, next_distance_);
      std::swap(ntk_, next_ntk_);
    }
  }
  const double places = static_cast<double>(height_) * static_cast<double>(width_), scale = plan_.average ? 1 / (places * places) : 1;
  return {scale * sum_k_, scale * sum_t_};
}

template struct CubeImage<float>;
template struct CubeImage<double>;
template class Cube<float>;
template class Cube<double>;

}  // namespace linnet::infinite
