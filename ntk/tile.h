// Products a b^T of packed row tiles, with what is done to a finished block given by the caller: a Hadamard product costs nothing there. Vector
// extensions of GCC and Clang. Every sum runs over k in order in one accumulator, so a block's bits depend neither on where it lies nor on the tile nor
// on threads, and a b^T is symmetric in bits where a is b. Not installed.
#pragma once

#include "linnet/autodiff/array.h"

#include <algorithm>
#include <utility>

namespace linnet::ntk {

using autodiff::Buffer;
using autodiff::Index;

template <class T> struct Block {
#ifdef __AVX512F__
  static constexpr Index bytes = 64, high = 12;  // 12 rows of two vectors: 24 sums in 32 registers
#else
  static constexpr Index bytes = 32, high = 6;   // 12 sums in 16 registers
#endif
  static constexpr Index lanes = bytes / static_cast<Index>(sizeof(T)), wide = 2 * lanes, deep = 512;  // 12 x 512 floats stay in the first-level cache
  typedef T V __attribute__((vector_size(bytes), aligned(sizeof(T)), may_alias));
  V sum[high][2];
  static V& at(T* p) { return *reinterpret_cast<V*>(p); }

  void multiply(Index depth, const T* __restrict a, const T* __restrict b) {
    V s[high][2] = {};
    for (Index k = 0; k < depth; ++k, a += high, b += wide) {
      const V b0 = *reinterpret_cast<const V*>(b), b1 = *reinterpret_cast<const V*>(b + lanes);
#pragma GCC unroll 12
      for (int i = 0; i < high; ++i) {
        s[i][0] += a[i] * b0;
        s[i][1] += a[i] * b1;
      }
    }
    for (int i = 0; i < high; ++i) {
      sum[i][0] = s[i][0];
      sum[i][1] = s[i][1];
    }
  }
};

inline Index padded(Index n, Index step) { return (n + step - 1) / step * step; }

// Rows in tiles, each packed for either side of a product: groups of `high` or `wide` rows, depth outermost within a group. pack() must have been called
// for every tile.
template <class T> struct Packed {
  using B = Block<T>;
  Index rows = 0, depth = 0, tile = 0;
  Buffer<T> high, wide;
  Packed() = default;
  static Packed planned(Index rows, Index depth, Index tile) {  // without memory: how much it would be
    Packed p;
    p.rows = rows, p.depth = depth, p.tile = tile;
    return p;
  }
  Packed(Index rows_, Index depth_, Index tile_) : rows(rows_), depth(depth_), tile(tile_) {
    high.resize(static_cast<std::size_t>(tiles() * padded(tile, B::high) * depth));
    wide.resize(static_cast<std::size_t>(tiles() * padded(tile, B::wide) * depth));
  }
  Index tiles() const { return (rows + tile - 1) / tile; }
  Index size(Index i) const { return std::min(tile, rows - i * tile); }
  void pack(const T* x, Index i) {  // x: all rows
    pack(x + i * tile * depth, size(i), B::high, high.data() + i * padded(tile, B::high) * depth);
    pack(x + i * tile * depth, size(i), B::wide, wide.data() + i * padded(tile, B::wide) * depth);
  }

  // done(row, column, block), once for every `deep` of the depth: it adds. `lower`: only blocks that reach the lower triangle.
  template <class F> static void product(const Packed& a, Index i, const Packed& b, Index j, bool lower, F&& done) {
    const Index ra = padded(a.tile, B::high), rb = padded(b.tile, B::wide);
    for (Index k = 0; k < a.depth; k += B::deep) {
      const Index d = std::min(B::deep, a.depth - k);
      const T *const x = a.high.data() + i * ra * a.depth + k * ra, *const y = b.wide.data() + j * rb * b.depth + k * rb;
      for (Index r = 0; r < a.size(i); r += B::high)
        for (Index q = 0; q < (lower ? std::min(b.size(j), r + B::high) : b.size(j)); q += B::wide) {
          B block;
          block.multiply(d, x + r * d, y + q * d);
          done(r, q, block);
        }
    }
  }

 private:
  using V = typename B::V;
  static constexpr Index lanes = B::lanes;

  // Of a square of vectors, by exchanging blocks of S, for S = 1, 2, ...
  template <int S, std::size_t... I> static void exchange(V (&x)[lanes], std::index_sequence<I...>) {
    for (Index i = 0; i < lanes; ++i) {
      if (i & S) continue;
      const V a = x[i], b = x[i + S];
      x[i] = __builtin_shufflevector(a, b, ((I & S) ? lanes + I - S : I)...);
      x[i + S] = __builtin_shufflevector(a, b, ((I & S) ? lanes + I : I + S)...);
    }
  }
  template <int S = 1> static void transpose(V (&x)[lanes]) {
    exchange<S>(x, std::make_index_sequence<static_cast<std::size_t>(lanes)>());
    if constexpr (2 * S < lanes) transpose<2 * S>(x);
  }

  // `count` rows, `lanes` numbers of each, to columns of `step` numbers.
  void pack_square(const T* x, Index count, Index step, T* to) const {
    for (Index part = 0; part < step; part += lanes) {
      V v[lanes];
      for (Index i = 0; i < lanes; ++i) v[i] = part + i < count ? *reinterpret_cast<const V*>(x + (part + i) * depth) : V{};
      transpose(v);
      for (Index k = 0; k < lanes; ++k) {
        T* const y = to + k * step + part;
        const Index fits = step - part;
        if (fits >= lanes) B::at(y) = v[k];
        else for (Index i = 0; i < fits; ++i) y[i] = v[k][i];
      }
    }
  }

  void pack(const T* x, Index n, Index step, T* to) const {
    for (Index k0 = 0; k0 < depth; k0 += B::deep) {
      const Index d = std::min(B::deep, depth - k0);
      T* y = to + k0 * padded(tile, step);
      for (Index r = 0; r < n; r += step, y += step * d) {
        const T* const rows = x + r * depth + k0;
        Index k = 0;
        for (; k + lanes <= d; k += lanes) pack_square(rows + k, std::min(step, n - r), step, y + k * step);
        for (; k < d; ++k)
          for (Index i = 0; i < step; ++i) y[k * step + i] = r + i < n ? rows[i * depth + k] : T(0);
      }
    }
  }
};

}  // namespace linnet::ntk
