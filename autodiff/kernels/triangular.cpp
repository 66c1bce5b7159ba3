// Triangular factors and solves of decompositions.h in blocks: nearly all work is products (gemm.h), what is left are updates of whole rows. Blocks and their
// order are decided by the shape alone, and no sum is split by where a value lies.
#include "linnet/autodiff/kernels/decompositions.h"

#include "linnet/autodiff/kernels/gemm.h"
#include "linnet/autodiff/kernels/parallel.h"

#include <algorithm>
#include <cmath>

namespace linnet::autodiff {
namespace {

constexpr Index block = 64;     // rows and columns of a tile
constexpr Index columns = 256;  // of the right side: an item

// Memory to compute in, of this thread and kept: a replay allocates nothing. What is larger (a factor of some 2,000 rows) is given back, and its allocation is nothing beside its work.
constexpr Index most_kept = Index(16) << 20;  // bytes
template <class T> class Workspace {
 public:
  explicit Workspace(Index n) : own_(n * sizeof(T) > most_kept ? static_cast<std::size_t>(n) : 0), data_(own_.empty() ? scratch<T>(Scratch::triangle, n) : own_.data()) {}
  T* data() { return data_; }

 private:
  Buffer<T> own_;
  T* data_;
};

// The lower triangle of a matrix as tiles (i, j), i >= j, each contiguous.
template <class T> struct Tiles {
  Index n, count;
  T* values;  // of size() numbers
  Tiles(Index rows_of_all, T* memory) : n(rows_of_all), count(tiles(n)), values(memory) { std::fill_n(values, size(n), T(0)); }
  static Index tiles(Index n) { return (n + block - 1) / block; }
  static Index size(Index n) { return tiles(n) * (tiles(n) + 1) / 2 * block * block; }
  Index rows(Index i) const { return std::min(block, n - i * block); }
  T* at(Index i, Index j) { return values + (i * (i + 1) / 2 + j) * block * block; }
  void read(const T* a) {
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j <= i / block; ++j)  // beyond the diagonal its tile is not read
        std::copy_n(a + i * n + j * block, std::min(rows(j), i + 1 - j * block), at(i / block, j) + i % block * rows(j));
  }
  void write(T* l) {
    for (Index i = 0; i < n; ++i) {
      for (Index j = 0; j <= i / block; ++j) std::copy_n(at(i / block, j) + i % block * rows(j), std::min(rows(j), i + 1 - j * block), l + i * n + j * block);
      std::fill(l + i * n + i + 1, l + (i + 1) * n, T(0));
    }
  }
};

// A tile [n, n] becomes its lower factor, and `upper` that factor transposed. Answers the first bad pivot, or n.
template <class T> Index factor_tile(Index n, T* a, T* upper) {
  for (Index p = 0; p < n; ++p) {
    const T pivot = a[p * n + p];
    if (!(pivot > 0) || std::isinf(pivot)) return p;
    const T root = std::sqrt(pivot);
    T* const u = upper + p * n;
    u[p] = a[p * n + p] = root;
    for (Index i = p + 1; i < n; ++i) u[i] = a[i * n + p] /= root;
    for (Index i = p + 1; i < n; ++i)
      for (Index j = p + 1; j <= i; ++j) a[i * n + j] -= a[i * n + p] * u[j];
  }
  return n;
}

// Each row x of [m, n] becomes the solution of y l^T = x; `upper` is l^T.
template <class T> void solve_rows(Index m, Index n, const T* upper, T* x) {
  for (Index i = 0; i < m; ++i, x += n)
    for (Index p = 0; p < n; ++p) {
      const T* const u = upper + p * n;
      const T y = x[p] /= u[p];
      for (Index j = p + 1; j < n; ++j) x[j] -= y * u[j];
    }
}

// The rows of a diagonal block of op(l), x [rows, k].
template <class T> void solve_block(bool transpose, Index rows, Index n, Index k, const T* l, T* x) {
  for (Index s = 0; s < rows; ++s) {
    const Index i = transpose ? rows - 1 - s : s;
    T* const y = x + i * k;
    for (Index c = 0; c < k; ++c) y[c] /= l[i * n + i];
    for (Index r = transpose ? 0 : i + 1, end = transpose ? i : rows; r < end; ++r) {
      const T weight = transpose ? l[i * n + r] : l[r * n + i];
      for (Index c = 0; c < k; ++c) x[r * k + c] -= weight * y[c];
    }
  }
}

// x [n, k] in place; `negative` has room for [block, n].
template <class T> void solve_columns(bool transpose, Index n, Index k, const T* l, T* x, T* negative) {
  const Index blocks = (n + block - 1) / block;
  for (Index s = 0; s < blocks; ++s) {
    const Index i = transpose ? blocks - 1 - s : s, first = i * block, rows = std::min(block, n - first), end = first + rows;
    T* const y = x + first * k;
    if (!transpose && first > 0) {
      for (Index r = 0; r < rows; ++r)
        for (Index j = 0; j < first; ++j) negative[r * first + j] = -l[(first + r) * n + j];
      gemm(false, false, rows, k, first, negative, x, y, true);
    }
    if (transpose && end < n) {
      for (Index r = end; r < n; ++r)
        for (Index j = 0; j < rows; ++j) negative[(r - end) * rows + j] = -l[r * n + first + j];
      gemm(true, false, rows, k, n - end, negative, x + end * k, y, true);
    }
    solve_block(transpose, rows, n, k, l + first * n + first, y);
  }
}

}  // namespace

template <Scalar T> Index cholesky(Index n, const T* a, T* l) {
  const Index all = Tiles<T>::size(n), band = Tiles<T>::tiles(n) * block * block;
  Workspace<T> memory(all + band + block * block);
  Tiles<T> tiles(n, memory.data());
  T *const negative = memory.data() + all, *const upper = negative + band;
  tiles.read(a);
  for (Index j = 0; j < tiles.count; ++j) {
    const Index width = tiles.rows(j);
    for (Index p = 0; p < j; ++p) std::transform(tiles.at(j, p), tiles.at(j, p) + width * block, negative + p * block * block, [](T v) { return -v; });
    auto update = [&](Index i) {
      for (Index p = 0; p < j; ++p) gemm(false, true, tiles.rows(i), width, block, tiles.at(i, p), negative + p * block * block, tiles.at(i, j), true);
    };
    update(j);
    if (const Index bad = factor_tile(width, tiles.at(j, j), upper); bad < width) {
      const Index row = j * block + bad;
      l[row * n + row] = tiles.at(j, j)[bad * width + bad];
      return row;
    }
    parallel_for(tiles.count - j - 1, [&](Index item) {
      const Index i = j + 1 + item;
      update(i);
      solve_rows(tiles.rows(i), width, upper, tiles.at(i, j));
    }, 16 / (j + 1));
  }
  tiles.write(l);
  return n;
}

template <Scalar T> void triangular_solve(bool transpose, Index n, Index k, const T* l, const T* b, T* x) {
  if (x != b) std::copy_n(b, n * k, x);
  if (k <= columns) return solve_columns(transpose, n, k, l, x, Workspace<T>(block * n).data());
  parallel_for((k + columns - 1) / columns, [&](Index item) {
    const Index first = item * columns, width = std::min(columns, k - first);
    Workspace<T> memory(n * width + block * n);
    T* const mine = memory.data();
    for (Index i = 0; i < n; ++i) std::copy_n(x + i * k + first, width, mine + i * width);
    solve_columns(transpose, n, width, l, mine, mine + n * width);
    for (Index i = 0; i < n; ++i) std::copy_n(mine + i * width, width, x + i * k + first);
  });
}

template Index cholesky(Index, const float*, float*);
template Index cholesky(Index, const double*, double*);
template void triangular_solve(bool, Index, Index, const float*, const float*, float*);
template void triangular_solve(bool, Index, Index, const double*, const double*, double*);

}  // namespace linnet::autodiff
