#include "linnet/autodiff/kernels/gemm.h"

#include "linnet/autodiff/kernels/parallel.h"

#include <Eigen/Core>

#include <algorithm>

namespace linnet::autodiff {
namespace {

// Rows of a panel: a multiple of 32, and a tail of fewer than 32 rows joins the last one. Then the bits are those of the whole product (a test holds this), so
// the height may follow what there is to do for the threads: a high panel packs the right factor more rarely.
Index panel_rows(Index m) { return m >= 256 * thread_count() ? 256 : 128; }

// Eigen reads the machine's caches at run time and blocks by them, which would put the machine into the bits.
[[maybe_unused]] const bool blocking_is_fixed = [] {
  Eigen::setCpuCacheSizes(32768, 1 << 20, 8 << 20);
  return true;
}();

// What a product packs into, by Eigen's own rules of blocking; of this thread, and kept.
template <class T> class Blocking : public Eigen::internal::level3_blocking<T, T> {
 public:
  Blocking(Index m, Index n, Index k) {
    this->m_mc = n;  // a row-major product is the column-major one of the transposed matrices
    this->m_nc = m;
    this->m_kc = k;
    Eigen::internal::computeProductBlockingSizes<T, T, 1>(this->m_kc, this->m_mc, this->m_nc, Index{1});
    this->m_blockA = scratch<T>(Scratch::packed_a, this->m_mc * this->m_kc);
    this->m_blockB = scratch<T>(Scratch::packed_b, this->m_kc * this->m_nc);
  }
};

template <class T> using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T> using Rows = Eigen::Map<const Matrix<T>, 0, Eigen::OuterStride<>>;

// f(op(x)), [rows, columns], where x has its rows `stride` apart.
template <class T, class F> void with_op(bool transpose, const T* x, Index rows, Index columns, Index stride, F&& f) {
  if (transpose) f(Rows<T>(x, columns, rows, Eigen::OuterStride<>(stride)).transpose());
  else f(Rows<T>(x, rows, columns, Eigen::OuterStride<>(stride)));
}

// [m, n], of matrices whose rows are these strides apart. One row, one column and small products are left to Eigen's own functions for them, which need no memory.
template <class T> void product(bool ta, bool tb, Index m, Index n, Index k, const T* a, Index a_stride, const T* b, Index b_stride, T* c, bool accumulate) {
  using Eigen::ColMajor, Eigen::RowMajor;
  auto store = [&](auto C, const auto& p) {
    if (accumulate) C.noalias() += p;
    else C.noalias() = p;
  };
  if (m + n + k < 20) {
    with_op(ta, a, m, k, a_stride, [&](const auto& A) { with_op(tb, b, k, n, b_stride, [&](const auto& B) { store(Eigen::Map<Matrix<T>>(c, m, n), A * B); }); });
  } else if (n == 1) {
    using Column = Eigen::Matrix<T, Eigen::Dynamic, 1>;
    with_op(ta, a, m, k, a_stride, [&](const auto& A) { store(Eigen::Map<Column>(c, m), A * Eigen::Map<const Column>(b, k)); });
  } else if (m == 1 && (!ta || a_stride == 1)) {
    using Row = Eigen::Matrix<T, 1, Eigen::Dynamic>;
    with_op(tb, b, k, n, b_stride, [&](const auto& B) { store(Eigen::Map<Row>(c, n), Eigen::Map<const Row>(a, k) * B); });
  } else {
    if (!accumulate) std::fill_n(c, m * n, T(0));
    Blocking<T> blocking(m, n, k);
    auto run = [&]<int order_a, int order_b>() {
      Eigen::internal::general_matrix_matrix_product<Index, T, order_a, false, T, order_b, false, RowMajor, 1>::run(m, n, k, a, a_stride, b, b_stride, c, 1, n, T(1), blocking, nullptr);
    };
    if (ta && tb) run.template operator()<ColMajor, ColMajor>();
    else if (ta) run.template operator()<ColMajor, RowMajor>();
    else if (tb) run.template operator()<RowMajor, ColMajor>();
    else run.template operator()<RowMajor, RowMajor>();
  }
}

}  // namespace

template <Scalar T> void gemm(bool ta, bool tb, Index m, Index n, Index k, const T* a, const T* b, T* c, bool accumulate, const RowsDone* done) {
  if (m == 0 || n == 0) return;
  auto rows_of = [&](Index first, Index rows) {
    if (k > 0) product(ta, tb, rows, n, k, ta ? a + first : a + first * k, ta ? m : k, b, tb ? k : n, c + first * n, accumulate);
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
