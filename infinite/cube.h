// The fastest way to [convolution, kink] again and again with a mean over all places at the end (arXiv 1904.11955), in which almost all time of convolutional kernels goes.
//
// A convolution without strides keeps the offset between two places. So the covariances of one offset across, dw, are a program of their own: a cube [w][h][h'] with the place (h, w) of one image and
// (h', w + dw) of the other goes through all layers in the second-level cache. What is summed over taps is the distance D = q1 + q2 - 2K (docs/infinite.md) and the ntk; where one of the two
// places is outside of its image D is the variance of the other. Everything else, and what follows the mean, goes the general way. Not installed.
#pragma once

#include "linnet/infinite/network.h"

#include <optional>
#include <vector>

namespace linnet::infinite {

using autodiff::Array;
using autodiff::Buffer;
using autodiff::Scalar;

struct CubePlan {
  struct Layer {
    Index height, width;  // of the filter, odd
    double W, b;          // squares
    double A, ratio;      // of the kink: (a^2 + b^2) / 2, and g / A with g = (a - b)^2 / (2 pi)
  };
  std::vector<Layer> layers;
  Index channels = 0;     // of the last convolution
  bool average = true;    // the mean over places, or their sum
  std::size_t steps = 0;  // of the network that it does
};
// None unless the network begins so.
std::optional<CubePlan> cube_plan(const Network& network, const Shape& input);

// What one image has by itself.
template <class T> struct CubeImage {
  Buffer<T> x;                                      // [w][channel][h], h up to whole vectors
  Buffer<T> deviation, low, inverse, seen, beside;  // [layer][w][h]: s, what rounding left of it, 1/s or 0; the variance that the convolution sees, and its sum over the taps across
};

template <Scalar T> class Cube {
 public:
  Cube(const CubePlan& plan, Index height, Index width, Index channels);
  CubeImage<T> image(const T* x) const;  // [height, width, channels]
  // K and the ntk behind the mean. One thread at a time. Of an image with itself an offset and its opposite have the same.
  std::pair<double, double> pair(const CubeImage<T>& row, const CubeImage<T>& column);

 private:
  void load(const CubeImage<T>& a, const CubeImage<T>& b, Index w1, Index w2, Index planes);
  void sum_across(const CubeImage<T>& a, const CubeImage<T>& b, std::size_t l, Index w, Index w1, Index w2, Index planes);
  template <bool last> void layer(const CubeImage<T>& a, const CubeImage<T>& b, std::size_t l, Index w, Index w1, Index w2);
  const CubePlan& plan_;
  Index height_, width_, channels_, lanes_, padded_, reach_, stride_;
  Buffer<T> distance_, ntk_, next_distance_, next_ntk_;  // cubes
  Buffer<T> d_, t_;                                      // a plane with its surroundings, summed across
  double weight_ = 1, sum_k_ = 0, sum_t_ = 0;
};

}  // namespace linnet::infinite
