// What convolution and pooling check alike: windows and strides of images (two numbers) and of sequences (one). Not installed.
#pragma once

#include "linnet/nn/check.h"

namespace linnet::nn {

inline std::string word(Padding p) { return p == Padding::same ? "SAME" : p == Padding::valid ? "VALID" : "CIRCULAR"; }

// As autodiff's windows take it: the second number of a sequence is 1.
inline std::array<Index, 2> two(const std::vector<Index>& given) { return {given[0], given.size() == 2 ? given[1] : 1}; }

// One or two numbers from 1 on, and as many strides, which become 1 each where none are given.
inline void check_window(std::string_view layer, std::string_view name, const std::vector<Index>& window, std::vector<Index>& strides) {
  if (window.empty() || window.size() > 2) fail<ShapeError>("{}: the {} has {} axes; two are for images, one is for sequences", layer, name, window.size());
  if (strides.empty()) strides.assign(window.size(), 1);
  if (strides.size() != window.size()) fail<ShapeError>("{}: the {} has {} axes and there are {} strides; give one for each, or none", layer, name, window.size(), strides.size());
  for (std::size_t i = 0; i < window.size(); ++i)
    if (window[i] < 1 || strides[i] < 1) fail<ShapeError>("{}: the {} is {} and the strides are {}; every number must be 1 or more", layer, name, fmt::format("[{}]", fmt::join(window, ",")), fmt::format("[{}]", fmt::join(strides, ",")));
}

// ShapeError unless x has an axis of examples, those of the window, and channels.
inline void check_images(std::string_view layer, std::size_t axes, const Shape& x, const std::string& place) {
  if (x.rank() != static_cast<Index>(axes) + 2)
    fail<ShapeError>("{}{}: a window of {} needs an input {}, got {}", place, layer, axes == 2 ? "two axes" : "one axis", axes == 2 ? "[examples, height, width, channels]" : "[examples, length, channels]", x);
}

}  // namespace linnet::nn
