// The decompositions of decompositions.h by LAPACK. OpenBLAS runs in one thread during a call: its products differ in the last bits with the
// number of threads.
#include "linnet/autodiff/kernels/decompositions.h"

#include "linnet/autodiff/array.h"
#include "linnet/autodiff/fail.h"

#include <cblas.h>
#include <lapacke.h>

#include <mutex>
#include <sstream>

namespace linnet::autodiff {
namespace {

constexpr Index most_rows = 32766;  // of which the workspace, 1 + 6n + 2n², is still counted by a 32-bit integer

// The number of OpenBLAS threads is a global of the process: one caller at a time changes it and puts it back.
class OneThread {
 public:
  OneThread() : lock_(mutex()), before_(openblas_get_num_threads()) { openblas_set_num_threads(1); }
  ~OneThread() { openblas_set_num_threads(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  static std::mutex& mutex() {
    static std::mutex one;
    return one;
  }
  std::lock_guard<std::mutex> lock_;
  int before_;
};

void check_finite(const char* what, Index n, const double* values, Index count) {
  const Index bad = first_not_finite(std::span(values, static_cast<std::size_t>(count)));
  if (bad >= 0) fail<NumericalError>("eigh: {} of a matrix of {} rows has {} at position {}; every value must be finite", what, n, values[bad], bad);
}

}  // namespace

void eigh(Index n, double* a, double* values) {
  if (n < 0 || n > most_rows) fail<ShapeError>("eigh: a matrix of {} rows; LAPACK's 32-bit integers count the workspace of at most {}", n, most_rows);
  if (n == 0) return;
  check_finite("the input", n, a, n * n);
  Buffer<double> work(static_cast<std::size_t>(1 + 6 * n + 2 * n * n));
  Buffer<lapack_int> whole(static_cast<std::size_t>(3 + 5 * n));
  const auto size = static_cast<lapack_int>(n);
  lapack_int info = 0;
  {
    const OneThread one;
    // Of a symmetric matrix columns are rows; the eigenvectors come as columns, which here are rows.
    info = LAPACKE_dsyevd_work(LAPACK_COL_MAJOR, 'V', 'L', size, a, size, values, work.data(), static_cast<lapack_int>(work.size()), whole.data(),
                               static_cast<lapack_int>(whole.size()));
  }
  if (info != 0) fail<NumericalError>("eigh: LAPACK's dsyevd did not decompose a matrix of {} rows (info = {}); scale it, or build with -Dlapack=disabled", n, info);
  check_finite("an eigenvalue", n, values, n);
  check_finite("an eigenvector", n, a, n * n);
}

std::string decompositions_provider() {
  std::istringstream words(openblas_get_config());  // "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH …"
  std::string name, version;
  words >> name >> version;
  return "LAPACK (" + name + " " + version + ", " + openblas_get_corename() + ")";
}

}  // namespace linnet::autodiff
