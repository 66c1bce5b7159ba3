// The inner loop of convolutions: products whose left factor is read where it lies, through strides, so that windows over an image are never laid side by
// side. Vector extensions of GCC and Clang. Every sum runs in order in one accumulator, so its bits depend neither on the tile it lies in nor on threads.
// Not installed.
#pragma once

#include "linnet/autodiff/shape.h"

#include <algorithm>
#include <array>
#include <utility>

namespace linnet::autodiff {

template <class T> struct Registers {
#if defined(__AVX512F__)
  static constexpr Index bytes = 64, high = 12;  // 12 rows of two vectors: 24 sums in 32 registers
#elif defined(__AVX__)
  static constexpr Index bytes = 32, high = 6;   // 12 sums in 16 registers
#else
  static constexpr Index bytes = 16, high = 6;
#endif
  static constexpr Index lanes = bytes / static_cast<Index>(sizeof(T)), wide = 2 * lanes;
  typedef T V __attribute__((vector_size(bytes), aligned(sizeof(T)), may_alias));
};

// Where what is summed over lies in the left factor: outer x inner runs of `length` numbers, `step` apart.
struct Runs {
  Index outer, outer_stride, inner, inner_stride, length, step;
};

// c[i, j] = sum over s of a(i, s) b[s, j], or c += it: rows of a are a_row apart, of b and c b_row and c_row; `columns` of at most `wide`. Rows of b
// hold whole vectors: what is behind the last column is read, and used for nothing.
template <class T> struct StridedTile {
  Runs runs;
  const T* a;
  Index a_row;
  const T* b;
  Index b_row;
  T* c;
  Index c_row, columns;
  bool add;

  void run(Index rows) const {  // any number of rows, in tiles of much the same height
    constexpr Index high = Registers<T>::high;
    StridedTile t = *this;
    const auto& of_height = columns > Registers<T>::lanes ? two : one;
    for (Index tiles = (rows + high - 1) / high; tiles > 0; --tiles) {
      const Index n = (rows + tiles - 1) / tiles;
      of_height[static_cast<std::size_t>(n - 1)](t);
      t.a += n * a_row;
      t.c += n * c_row;
      rows -= n;
    }
  }

 private:
  using R = Registers<T>;
  using V = typename R::V;
  using Kernel = void (*)(const StridedTile&);

  template <int rows, int vectors> static void tile(const StridedTile& t) {
    V sum[rows][vectors] = {};
    const T* b = t.b;
    const Index row = t.a_row, step = t.runs.step, b_row = t.b_row;
    for (Index o = 0; o < t.runs.outer; ++o)
      for (Index r = 0; r < t.runs.inner; ++r) {
        constexpr int groups = (rows + 2) / 3;  // addresses of three rows follow from one register
        const T* a[groups];
#pragma GCC unroll 4
        for (int g = 0; g < groups; ++g) a[g] = t.a + o * t.runs.outer_stride + r * t.runs.inner_stride + 3 * g * row;
        for (Index k = 0; k < t.runs.length; ++k, b += b_row) {
          V right[vectors];
#pragma GCC unroll 2
          for (int v = 0; v < vectors; ++v) right[v] = *reinterpret_cast<const V*>(b + v * R::lanes);
#pragma GCC unroll 12
          for (int i = 0; i < rows; ++i) {
            const T left = a[i / 3][i % 3 * row];
#pragma GCC unroll 2
            for (int v = 0; v < vectors; ++v) sum[i][v] += left * right[v];
          }
#pragma GCC unroll 4
          for (int g = 0; g < groups; ++g) a[g] += step;
        }
      }
    if (t.columns == vectors * R::lanes) {
#pragma GCC unroll 12
      for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) {
          V* const to = reinterpret_cast<V*>(t.c + i * t.c_row + v * R::lanes);
          *to = t.add ? *to + sum[i][v] : sum[i][v];
        }
      return;
    }
    T spare[rows][vectors * R::lanes];
#pragma GCC unroll 12
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) *reinterpret_cast<V*>(spare[i] + v * R::lanes) = sum[i][v];
    for (int i = 0; i < rows; ++i)
      for (Index j = 0; j < t.columns; ++j) t.c[i * t.c_row + j] = t.add ? t.c[i * t.c_row + j] + spare[i][j] : spare[i][j];
  }
  template <int vectors, std::size_t... i> static constexpr std::array<Kernel, sizeof...(i)> kernels(std::index_sequence<i...>) { return {tile<static_cast<int>(i) + 1, vectors>...}; }
  static constexpr std::array<Kernel, static_cast<std::size_t>(R::high)> one = kernels<1>(std::make_index_sequence<static_cast<std::size_t>(R::high)>()),
                                                                         two = kernels<2>(std::make_index_sequence<static_cast<std::size_t>(R::high)>());
};

// `wide` columns of a matrix [rows, columns] from first_column on, as a matrix of their own; zeros behind the last column.
template <class T> void pack_panel(const T* x, Index rows, Index columns, Index first_column, T* to) {
  constexpr Index wide = Registers<T>::wide;
  const Index n = std::min(wide, columns - first_column);
  for (Index r = 0; r < rows; ++r, to += wide) {
    std::copy_n(x + r * columns + first_column, n, to);
    std::fill(to + n, to + wide, T(0));
  }
}

}  // namespace linnet::autodiff
