// A convolution and its derivatives written by hand with Eigen, as im2col and a product: what bench/convolution compares with. Compiled as any user of Eigen
// would: Eigen's own namespace, cache sizes and products.
#pragma once

#include <cstdint>

namespace linnet::bench {

// Images [n, size, size, c], weights [taps, taps, c, f], results [n, places, places, f]; places = ceil(size / stride), zeros around.
struct Convolution {
  std::int64_t images, size, channels, features, taps, stride;
  std::int64_t places() const { return (size + stride - 1) / stride; }
  std::int64_t before() const { return std::int64_t(((places() - 1) * stride + taps - size > 0 ? (places() - 1) * stride + taps - size : 0) / 2); }
  std::int64_t window() const { return taps * taps * channels; }
  std::int64_t places_of_image() const { return places() * places(); }
};

class ConvolutionByHand {
 public:
  // Windows are laid side by side for this many rows of places at a time, in a piece of memory of each thread: 0 is the whole batch, before one product.
  ConvolutionByHand(Convolution c, std::int64_t rows);
  ~ConvolutionByHand();

  void value(const float* x, const float* w, float* y);
  void tangent(const float* x, const float* w, const float* dx, const float* dw, float* dy);
  void gradient_of_weights(const float* x, const float* g, float* dw);
  void gradient_of_images(const float* g, const float* w, float* dx);

 private:
  template <class F> void blocks(F f);  // f(first place, places, memory of this block)
  Convolution c_;
  std::int64_t rows_, block_;  // places of a block
  float *windows_, *parts_;    // and parts of the sum over places, one for each group of blocks
};

}  // namespace linnet::bench
