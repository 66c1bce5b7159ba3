// Where the taps of windows lie in an image: shared by windows laid side by side (window.cpp) and convolutions (convolution.cpp). Not installed.
#pragma once

#include "linnet/autodiff/tape.h"

#include <algorithm>

namespace linnet::autodiff {

// Where tap k of place p lies: -1 outside.
inline Index position(const WindowAxis& a, bool circular, Index p, Index k) {
  const Index at = p * a.stride + k * a.dilation - a.before;
  if (at >= 0 && at < a.extent) return at;
  return circular ? (at % a.extent + a.extent) % a.extent : -1;
}

// The taps of one row of a window as runs: f(first, column, taps), which lie together in the image from `column` on, or outside of it where that is -1.
template <class F> void each_run(const WindowAxis& a, bool circular, Index place, F&& f) {
  if (a.dilation == 1 && !circular) {
    const Index at = place * a.stride - a.before, inside = std::clamp<Index>(-at, 0, a.size), end = std::clamp<Index>(a.extent - at, inside, a.size);
    if (inside > 0) f(Index{0}, Index{-1}, inside);
    if (end > inside) f(inside, at + inside, end - inside);
    if (a.size > end) f(end, Index{-1}, a.size - end);
    return;
  }
  for (Index k = 0; k < a.size; ++k) f(k, position(a, circular, place, k), Index{1});
}

// What the window of place (p, q) saw, [taps of h, taps of w, c], is added to the image.
template <class T> void add_window(const Window& w, Index c, Index p, Index q, const T* x, T* image) {
  for (Index i = 0; i < w.height.size; ++i, x += w.width.size * c) {
    const Index r = position(w.height, w.circular, p, i);
    if (r < 0) continue;
    each_run(w.width, w.circular, q, [&](Index first, Index column, Index taps) {
      if (column < 0) return;
      T* const to = image + (r * w.width.extent + column) * c;
      const T* const from = x + first * c;
      for (Index k = 0; k < taps * c; ++k) to[k] += from[k];
    });
  }
}

void check_images(const char* operation, const Shape& images, const Window& window);  // ShapeError in the operation's name unless they are those of the window
Var windows_of(const Var& images, const Window& window);                              // patches
Var convolution(const Var& images, const Var& weights, const Window& window);         // the primitive of conv: weights [taps c, f]

}  // namespace linnet::autodiff
