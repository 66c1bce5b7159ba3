#include "convolution_eigen.h"

#include "linnet/autodiff/kernels/parallel.h"

#include <Eigen/Core>

#include <algorithm>
#include <new>

namespace linnet::bench {
namespace {

using autodiff::parallel_for;
using Eigen::Index;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Map = Eigen::Map<Matrix, Eigen::Aligned16>;
using In = Eigen::Map<const Matrix, Eigen::Aligned16>;

constexpr Index groups = 16;        // parts of the gradient of the weights
constexpr Index panel = 256;        // rows that one thread takes of a product of the whole batch

float* memory(Index n) { return static_cast<float*>(::operator new(static_cast<std::size_t>(n) * sizeof(float), std::align_val_t(64))); }
void release(float* p) { ::operator delete(p, std::align_val_t(64)); }

// f(tap row, column of the image, columns, place in the window) for what of the window of a place lies inside.
template <class F> void each_row(const Convolution& c, Index place, F f) {
  const Index p = place / c.places() * c.stride - c.before(), q = place % c.places() * c.stride - c.before();
  const Index first = std::max<Index>(0, -q), end = std::min(c.taps, c.size - q);
  for (Index i = 0; i < c.taps; ++i)
    if (p + i >= 0 && p + i < c.size) f(((p + i) * c.size + q + first) * c.channels, (end - first) * c.channels, (i * c.taps + first) * c.channels);
}
void im2col(const Convolution& c, const float* x, Index first, Index n, float* to) {
  const Index image = c.size * c.size * c.channels, k = c.window(), row = c.taps * c.channels;
  for (Index place = first; place < first + n; ++place, to += k) {
    const float* const from = x + place / c.places_of_image() * image;
    Index done = 0;
    each_row(c, place % c.places_of_image(), [&](Index at, Index count, Index in_window) {
      std::fill(to + done, to + in_window, 0.f);
      std::copy_n(from + at, count, to + in_window);
      done = in_window + count;
    });
    std::fill(to + done, to + c.taps * row, 0.f);
  }
}
void col2im(const Convolution& c, const float* windows, Index first, Index n, float* image) {
  for (Index place = first; place < first + n; ++place, windows += c.window())
    each_row(c, place, [&](Index at, Index count, Index in_window) {
      for (Index k = 0; k < count; ++k) image[at + k] += windows[in_window + k];
    });
}

}  // namespace

ConvolutionByHand::ConvolutionByHand(Convolution c, std::int64_t rows)
    : c_(c), rows_(rows), block_((rows == 0 ? c.images * c.places() : rows) * c.places()), windows_(memory((rows == 0 ? 1 : 64) * block_ * c.window())),
      parts_(memory(groups * c.window() * c.features)) {}
ConvolutionByHand::~ConvolutionByHand() {
  release(windows_);
  release(parts_);
}

template <class F> void ConvolutionByHand::blocks(F f) {
  const Index all = c_.images * c_.places_of_image();
  parallel_for((all + block_ - 1) / block_, [&](Index b) { f(b * block_, std::min<Index>(block_, all - b * block_), windows_ + autodiff::thread_index() * block_ * c_.window()); });
}

void ConvolutionByHand::value(const float* x, const float* w, float* y) {
  const Index k = c_.window(), f = c_.features;
  const In W(w, k, f);
  if (rows_ > 0)
    return blocks([&](Index first, Index n, float* windows) {
      im2col(c_, x, first, n, windows);
      Eigen::Map<Matrix>(y + first * f, n, f).noalias() = In(windows, n, k) * W;
    });
  const Index all = c_.images * c_.places_of_image(), count = (all + panel - 1) / panel;
  parallel_for(count, [&](Index i) { im2col(c_, x, i * panel, std::min(panel, all - i * panel), windows_ + i * panel * k); });
  parallel_for(count, [&](Index i) {
    const Index n = std::min(panel, all - i * panel);
    Eigen::Map<Matrix>(y + i * panel * f, n, f).noalias() = In(windows_ + i * panel * k, n, k) * W;
  });
}

void ConvolutionByHand::tangent(const float* x, const float* w, const float* dx, const float* dw, float* dy) {
  const Index k = c_.window(), f = c_.features;
  const In W(w, k, f), dW(dw, k, f);
  const Index all = c_.images * c_.places_of_image(), step = rows_ > 0 ? block_ : panel;
  parallel_for((all + step - 1) / step, [&](Index i) {
    const Index first = i * step, n = std::min(step, all - first);
    float* const windows = windows_ + (rows_ > 0 ? autodiff::thread_index() * block_ : first) * k;
    Eigen::Map<Matrix> to(dy + first * f, n, f);
    im2col(c_, dx, first, n, windows);
    to.noalias() = In(windows, n, k) * W;
    im2col(c_, x, first, n, windows);
    to.noalias() += In(windows, n, k) * dW;
  });
}

void ConvolutionByHand::gradient_of_weights(const float* x, const float* g, float* dw) {
  const Index k = c_.window(), f = c_.features, all = c_.images * c_.places_of_image(), step = rows_ > 0 ? block_ : panel;
  const Index count = (all + step - 1) / step, n_groups = std::min(groups, count), per = (count + n_groups - 1) / n_groups;
  parallel_for(n_groups, [&](Index group) {
    Eigen::Map<Matrix> to(parts_ + group * k * f, k, f);
    to.setZero();
    for (Index b = group * per; b < std::min(count, (group + 1) * per); ++b) {
      const Index first = b * step, n = std::min(step, all - first);
      float* const windows = windows_ + (rows_ > 0 ? autodiff::thread_index() * block_ : first) * k;
      im2col(c_, x, first, n, windows);
      to.noalias() += In(windows, n, k).transpose() * In(g + first * f, n, f);
    }
  });
  Eigen::Map<Eigen::VectorXf> sum(dw, k * f);
  sum = Eigen::Map<Eigen::VectorXf>(parts_, k * f);
  for (Index i = 1; i < n_groups; ++i) sum += Eigen::Map<Eigen::VectorXf>(parts_ + i * k * f, k * f);
}

void ConvolutionByHand::gradient_of_images(const float* g, const float* w, float* dx) {
  const Index k = c_.window(), f = c_.features, image = c_.size * c_.size * c_.channels, places = c_.places_of_image();
  const In W(w, k, f);
  parallel_for(c_.images, [&](Index i) {  // windows overlap within an image
    std::fill_n(dx + i * image, image, 0.f);
    const Index step = rows_ > 0 ? std::min<Index>(block_, places) : places;
    for (Index first = 0; first < places; first += step) {
      const Index n = std::min(step, places - first);
      float* const windows = windows_ + (rows_ > 0 ? autodiff::thread_index() * block_ : i * places) * k;
      Map(windows, n, k).noalias() = In(g + (i * places + first) * f, n, f) * W.transpose();
      col2im(c_, windows, first, n, dx + i * image);
    }
  });
}

}  // namespace linnet::bench
