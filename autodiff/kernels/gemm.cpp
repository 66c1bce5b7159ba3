// gemm: how a product is cut is decided here; packing and the innermost kernel are Eigen's. A panel of rows is an item for the threads, and packs for itself
// (measured: reading what another core has packed costs more than packing again). Eigen's own product would fill the result of a panel with zeros long before it
// adds to it, which is a tenth of the time at a few hundred terms.
#include "linnet/autodiff/kernels/gemm.h"

#include <Eigen/Core>

#include <algorithm>

namespace linnet::autodiff {
namespace {

namespace internal = Eigen::internal;
using Eigen::ColMajor, Eigen::RowMajor;

// Eigen reads the machine's caches at run time and blocks what is left to it by them, which would put the machine into the bits.
[[maybe_unused]] const bool blocking_is_fixed = [] {
  Eigen::setCpuCacheSizes(32768, 1 << 20, 8 << 20);
  return true;
}();

Index pieces(Index n, Index step) { return (n + step - 1) / step; }

// Rows of a panel: as many for every thread, at most 256. A high panel packs the right factor more rarely. A multiple of 4, which the innermost kernel takes at a
// time, and a tail of fewer than 32 rows joins the last one: then the bits do not depend on it.
Index panel_rows(Index m) {
  const Index threads = thread_count(), panels = threads * pieces(m, 256 * threads);
  return std::max<Index>(64, pieces(m, 4 * panels) * 4);
}

// One product, by one thread. Row-major results are column-major ones of the transposed factors, so what Eigen calls left is b. Where a row, a column or a term
// lies in its block follows from n and k and from the row's place in fours: nothing else decides bits.
template <class T> struct Product {
  bool ta, tb;
  Index m, n, k;
  const T* a;
  Index a_stride;  // of its rows as they lie
  const T* b;
  T* c;
  bool accumulate;

  using Traits = internal::gebp_traits<T, T>;
  static constexpr Index high = 128;              // rows that are packed at a time
  static constexpr Index deepest = 256;           // terms of a block
  static constexpr Index chunk = 8 * Traits::mr;  // columns that are multiplied at a time
  static constexpr Index together = (Index{1} << 20) / deepest / chunk * chunk;  // columns that are packed at a time

  void run() const {
    const Index deep = pieces(pieces(k, pieces(k, deepest)), 8) * 8;
    for (Index q = 0; q < n; q += together)
      for (Index k0 = 0; k0 < k; k0 += deep) columns(q, std::min(together, n - q), k0, std::min(deep, k - k0));
  }

 private:
  // The terms [k0, k0 + depth) of the columns [q, q + width).
  void columns(Index q, Index width, Index k0, Index depth) const {
    T* const left = scratch<T>(Scratch::packed_b, std::min(n, together) * deepest);
    T* const right = scratch<T>(Scratch::packed_a, high * deepest);
    for (Index i = 0; i < width; i += chunk) pack_b(q + i, std::min(chunk, width - i), k0, depth, left + i * depth);
    for (Index row = 0; row < m; row += high) {
      const Index rows = std::min(high, m - row);
      T* const to = c + row * n + q;
      pack_a(row, rows, k0, depth, right);
      if (k0 == 0 && !accumulate)
        for (Index r = 0; r < rows; ++r) std::fill_n(to + r * n, width, T(0));
      using Result = internal::blas_data_mapper<T, Index, ColMajor, Eigen::Unaligned, 1>;
      internal::gebp_kernel<T, T, Index, Result, Traits::mr, Traits::nr, false, false> multiply;
      for (Index i = 0; i < width; i += chunk) multiply(Result(to + i, n), left + i * depth, right, std::min(chunk, width - i), depth, rows, T(1));
    }
  }

  void pack_a(Index row, Index rows, Index k0, Index depth, T* to) const {
    auto pack = [&]<int order>(Index stride) {
      using Source = internal::const_blas_data_mapper<T, Index, order>;
      internal::gemm_pack_rhs<T, Index, Source, Traits::nr, order>()(to, Source(a, stride).getSubMapper(k0, row), depth, rows);
    };
    if (ta) pack.template operator()<RowMajor>(a_stride);
    else pack.template operator()<ColMajor>(a_stride);
  }
  void pack_b(Index column, Index width, Index k0, Index depth, T* to) const {
    auto pack = [&]<int order>(Index stride) {
      using Source = internal::const_blas_data_mapper<T, Index, order>;
      internal::gemm_pack_lhs<T, Index, Source, Traits::mr, Traits::LhsProgress, typename Traits::LhsPacket4Packing, order>()(to, Source(b, stride).getSubMapper(column, k0), depth, width);
    };
    if (tb) pack.template operator()<RowMajor>(k);
    else pack.template operator()<ColMajor>(n);
  }
};

template <class T> using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T> using Rows = Eigen::Map<const Matrix<T>, 0, Eigen::OuterStride<>>;

// f(op(x)), [rows, columns], where x has its rows `stride` apart.
template <class T, class F> void with_op(bool transpose, const T* x, Index rows, Index columns, Index stride, F&& f) {
  if (transpose) f(Rows<T>(x, columns, rows, Eigen::OuterStride<>(stride)).transpose());
  else f(Rows<T>(x, rows, columns, Eigen::OuterStride<>(stride)));
}

// One row, one column and the smallest products are Eigen's functions for them, which need no memory.
template <class T> void multiply(const Product<T>& p) {
  auto store = [&](auto c, const auto& product) {
    if (p.accumulate) c.noalias() += product;
    else c.noalias() = product;
  };
  const Index b_stride = p.tb ? p.k : p.n;
  if (p.m + p.n + p.k < 20) {
    with_op(p.ta, p.a, p.m, p.k, p.a_stride,
            [&](const auto& a) { with_op(p.tb, p.b, p.k, p.n, b_stride, [&](const auto& b) { store(Eigen::Map<Matrix<T>>(p.c, p.m, p.n), a * b); }); });
  } else if (p.n == 1) {
    using Column = Eigen::Matrix<T, Eigen::Dynamic, 1>;
    with_op(p.ta, p.a, p.m, p.k, p.a_stride, [&](const auto& a) { store(Eigen::Map<Column>(p.c, p.m), a * Eigen::Map<const Column>(p.b, p.k)); });
  } else if (p.m == 1 && (!p.ta || p.a_stride == 1)) {
    using Row = Eigen::Matrix<T, 1, Eigen::Dynamic>;
    with_op(p.tb, p.b, p.k, p.n, b_stride, [&](const auto& b) { store(Eigen::Map<Row>(p.c, p.n), Eigen::Map<const Row>(p.a, p.k) * b); });
  } else {
    p.run();
  }
}

}  // namespace

template <Scalar T> void gemm(bool ta, bool tb, Index m, Index n, Index k, const T* a, const T* b, T* c, bool accumulate, const RowsDone* done) {
  if (m == 0 || n == 0) return;
  auto rows_of = [&](Index first, Index rows) {
    if (k > 0) multiply(Product<T>{ta, tb, rows, n, k, ta ? a + first : a + first * k, ta ? m : k, b, c + first * n, accumulate});
    else if (!accumulate) std::fill_n(c + first * n, rows * n, T(0));
    if (done) (*done)(first, rows);
  };
  const Index panel = panel_rows(m);
  if (inside_item() || m < panel + 32) return rows_of(0, m);
  const Index panels = (m - 32) / panel + 1;  // of the last one at least 32 rows remain
  const bool small = m * n * k <= 64 * 64 * 64;
  parallel_for(panels, [&](Index p) { rows_of(p * panel, p + 1 == panels ? m - p * panel : panel); }, small ? panels : 1);
}
template void gemm(bool, bool, Index, Index, Index, const float*, const float*, float*, bool, const RowsDone*);
template void gemm(bool, bool, Index, Index, Index, const double*, const double*, double*, bool, const RowsDone*);

}  // namespace linnet::autodiff
