// Gradients of a table of which rows are gathered, an embedding's: in the gradient of an example only the rows are not zero that it names. They alone are kept,
// each once, by tiles of examples; of two examples only the rows meet that both name. Read gram.h first. Not installed.
#pragma once

#include "linnet/autodiff/kernels/gemm.h"

#include <algorithm>
#include <span>
#include <vector>

namespace linnet::ntk {

using autodiff::Buffer;
using autodiff::Index;

template <class T> class GatheredRows {
 public:
  struct Use {
    const T *index, *cotangent;  // [examples or 1, positions], [examples, outputs, positions, width]
    bool varies;                 // the index, over examples
    Index positions;
    T scale;
  };

  GatheredRows(std::vector<Use> uses, Index examples, Index outputs, Index width, Index tile)
      : uses_(std::move(uses)), examples_(examples), outputs_(outputs), width_(width), tile_(tile), tiles_(static_cast<std::size_t>((examples + tile - 1) / tile)) {}
  Index tiles() const { return static_cast<Index>(tiles_.size()); }

  // To be called for every tile, before it is multiplied. Sums over uses and positions run in their order.
  void gather(Index t) {
    const Index first = t * tile_, last = std::min(examples_, first + tile_);
    std::vector<Place> places;
    for (Index e = first; e < last; ++e)
      for (const Use& use : uses_)
        for (Index s = 0; s < use.positions; ++s) places.push_back({static_cast<Index>(use.index[(use.varies ? e * use.positions : 0) + s]), e, &use, s});
    std::stable_sort(places.begin(), places.end(), [](const Place& a, const Place& b) { return a.row < b.row; });
    const auto same = [&](std::size_t a, std::size_t b) { return places[a].row == places[b].row && places[a].example == places[b].example; };
    std::size_t distinct = 0;
    for (std::size_t i = 0; i < places.size(); ++i) distinct += i == 0 || !same(i - 1, i);
    Tile& tile = tiles_[static_cast<std::size_t>(t)];
    tile.gradient.resize(distinct * static_cast<std::size_t>(outputs_ * width_));
    T* to = tile.gradient.data();
    for (std::size_t i = 0, end = 0; i < places.size(); i = end, to += outputs_ * width_) {
      for (end = i + 1; end < places.size() && same(i, end);) ++end;
      if (tile.row.empty() || tile.row.back() != places[i].row) {
        tile.row.push_back(places[i].row);
        tile.begin.push_back(static_cast<Index>(tile.example.size()));
      }
      tile.example.push_back(places[i].example - first);
      add_up({places.begin() + static_cast<std::ptrdiff_t>(i), end - i}, to);
    }
    tile.begin.push_back(static_cast<Index>(tile.example.size()));
  }

  // acc[(e, o), (f, p)] += the products of tile i of a with tile j of b; traced: acc[e, f], summed over outputs. In the order of rows.
  static void product(const GatheredRows& a, Index i, const GatheredRows& b, Index j, bool traced, T* acc, Index ld) {
    const Tile &x = a.tiles_[static_cast<std::size_t>(i)], &y = b.tiles_[static_cast<std::size_t>(j)];
    const Index R = traced ? 1 : a.outputs_, depth = a.outputs_ * a.width_;
    if (depth == 0) return;
    thread_local Buffer<T> c;
    for (std::size_t p = 0, q = 0; p < x.row.size() && q < y.row.size();) {
      if (x.row[p] != y.row[q]) {
        ++(x.row[p] < y.row[q] ? p : q);
        continue;
      }
      const Index e = x.begin[p], m = x.begin[p + 1] - e, f = y.begin[q], n = y.begin[q + 1] - f;
      c.resize(static_cast<std::size_t>(m * R * n * R));
      autodiff::gemm(false, true, m * R, n * R, depth / R, x.gradient.data() + e * depth, y.gradient.data() + f * depth, c.data());
      const T* from = c.data();
      for (Index k = 0; k < m * R; ++k)
        for (Index l = 0; l < n; ++l, from += R) {
          T* const to = acc + (x.example[static_cast<std::size_t>(e + k / R)] * R + k % R) * ld + y.example[static_cast<std::size_t>(f + l)] * R;
          for (Index o = 0; o < R; ++o) to[o] += from[o];
        }
      ++p, ++q;
    }
  }

 private:
  struct Tile {
    std::vector<Index> row, begin, example;  // distinct rows in order; where each one's examples begin; the examples, of this tile
    Buffer<T> gradient;                      // [examples of rows, outputs, width]
  };

  struct Place {
    Index row, example;
    const Use* use;
    Index position;
  };

  void add_up(std::span<const Place> places, T* to) const {
    for (Index o = 0; o < outputs_; ++o, to += width_) {
      std::fill_n(to, width_, T(0));
      for (const auto& [row, e, use, s] : places) {
        const T* const from = use->cotangent + ((e * outputs_ + o) * use->positions + s) * width_;
        for (Index i = 0; i < width_; ++i) to[i] += use->scale * from[i];
      }
    }
  }

  std::vector<Use> uses_;
  Index examples_, outputs_, width_, tile_;
  std::vector<Tile> tiles_;
};

}  // namespace linnet::ntk
