// Kernels of layers that have places (images, sequences), over pairs of them. A value of a pair is [columns, places…] where only equal places of the two examples are asked
// for, and [columns, places of the row…, places of the column…] where all pairs of places are. Not installed.
#pragma once

#include "linnet/nn/kernel_layers.h"
#include "linnet/nn/sliding.h"

namespace linnet::nn {

// What slides, complete, as Conv and the pools have it.
struct Windowed {
  std::vector<Index> size, strides;
  Padding padding = Padding::valid;
  bool normalize_edges = false;
};

Shape places_of(const Shape& value);  // [1, places…, channels] -> [places…]
Shape joined_places(const Shape& places, Index channels);  // and back

// For variances [places…] and for covariances: the mean over the taps of a window, which are the same for both examples; outside lie zeros. As a convolution has it.
Var mean_of_taps(const Windowed& window, const Var& variance);
Var mean_of_taps(const Windowed& window, const Var& covariance, bool all_places);
// `a` where the windows of two places have the same taps inside, else b; both [columns, places of the row…, places of the column…], and the input's places are these.
Var where_same_taps(const Windowed& window, const Shape& places, const Var& a, const Var& b);

// A linear function of images, which `f` is on [n, places…, channels], of either side of covariances of all pairs of places.
Var both_sides(const std::function<Var(const Var&)>& f, const Var& covariance);
Var equal_places(const Var& covariance);  // of all pairs of places

// The rule of a layer that takes covariances K of all pairs of places to f(K), linear, and answers values at places of this shape.
Rule linear_rule(std::string name, std::function<Shape(const Shape&)> shape, std::function<Var(const Var& covariance, const Shape& in)> f);

}  // namespace linnet::nn
