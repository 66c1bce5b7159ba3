#include "linnet/autodiff/kernels/gemm.h"

#include "linnet/autodiff/kernels/parallel.h"

#include <Eigen/Core>

namespace linnet::autodiff {
namespace {

// Rows of a panel: a multiple of 32, decided by the shape alone; a tail of fewer than 32 rows joins the last panel. (Measured: then the bits are
// those of the whole product.)
Index panel_rows(Index m) { return m >= 1024 ? 256 : 128; }

// Eigen reads the machine's caches at run time and blocks by them, which would put the machine into the bits.
[[maybe_unused]] const bool blocking_is_fixed = [] {
  Eigen::setCpuCacheSizes(32768, 1 << 20, 8 << 20);
  return true;
}();

}  // namespace

template <Scalar T> void gemm(bool ta, bool tb, Index m, Index n, Index k, const T* a, const T* b, T* c, bool accumulate) {
  using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using Map = Eigen::Map<const Matrix>;
  if (m == 0 || n == 0) return;
  const Map A(a, ta ? k : m, ta ? m : k), B(b, tb ? n : k, tb ? k : n);
  Eigen::Map<Matrix> C(c, m, n);
  if (k == 0) {
    if (!accumulate) C.setZero();
    return;
  }
  auto product = [&](Index first, Index rows) {
    auto store = [&](auto&& p) {
      if (accumulate) C.middleRows(first, rows).noalias() += p;
      else C.middleRows(first, rows).noalias() = p;
    };
    if (ta && tb) store(A.middleCols(first, rows).transpose() * B.transpose());
    else if (ta) store(A.middleCols(first, rows).transpose() * B);
    else if (tb) store(A.middleRows(first, rows) * B.transpose());
    else store(A.middleRows(first, rows) * B);
  };
  const Index panel = panel_rows(m);
  if (inside_item() || m < panel + 32) return product(0, m);
  const Index panels = (m - 32) / panel + 1;  // of the last one at least 32 rows remain
  const bool small = m * n * k <= 64 * 64 * 64;
  parallel_for(panels, [&](Index p) { product(p * panel, p + 1 == panels ? m - p * panel : panel); }, small ? panels : 1);
}
template void gemm(bool, bool, Index, Index, Index, const float*, const float*, float*, bool);
template void gemm(bool, bool, Index, Index, Index, const double*, const double*, double*, bool);

}  // namespace linnet::autodiff
