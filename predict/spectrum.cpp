// A Spectrum is made in three steps: the kernel is checked and symmetrized, decomposed, and the decomposition is tried on a vector, since no
// solver's report of success is trusted alone. Products are gemm()'s, so the bits do not depend on threads.
#include "linnet/predict/spectrum.h"

#include "linnet/autodiff/kernels/decompositions.h"
#include "linnet/autodiff/kernels/gemm.h"
#include "linnet/autodiff/finite.h"
#include "linnet/predict/spectral.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace linnet::predict {

using autodiff::check_finite;
using autodiff::fail;
using autodiff::gemm;
using autodiff::NumericalError;
using autodiff::Shape;
using autodiff::ShapeError;

// Blocks keep an entry and its mirror image in cache.
template <Scalar T> Array<double> checked_kernel(const char* operation, const Array<T>& kernel) {
  if (kernel.shape().rank() != 2 || kernel.shape()[0] != kernel.shape()[1])
    fail<ShapeError>("{}: a kernel must be a square matrix, got {}", operation, kernel.shape());
  check_finite(operation, "the kernel", kernel);
  const Index n = kernel.shape()[0];
  const T* k = kernel.data();
  const double largest = max_abs(kernel), allowed = 10 * static_cast<double>(std::numeric_limits<T>::epsilon()) * largest;
  Array<double> result = Array<double>::uninitialized(kernel.shape());
  double* s = result.data();
  constexpr Index block = 64;
  for (Index first = 0; first < n; first += block)
    for (Index second = 0; second <= first; second += block)
      for (Index i = first; i < std::min(first + block, n); ++i)
        for (Index j = second; j < std::min(second + block, i + 1); ++j) {
          const double a = k[i * n + j], b = k[j * n + i];
          if (!(std::abs(a - b) <= allowed))
            fail<NumericalError>("{}: the kernel is not symmetric: entry [{},{}] is {}, entry [{},{}] is {}; they may differ by {:.3g}, 10 epsilon of the largest entry",
                                 operation, i, j, k[i * n + j], j, i, k[j * n + i], allowed);
          s[i * n + j] = s[j * n + i] = a / 2 + b / 2;
        }
  return result;
}
template Array<double> checked_kernel(const char*, const Array<float>&);
template Array<double> checked_kernel(const char*, const Array<double>&);

namespace {

// A vector without structure, whose product tells two matrices apart.
Array<double> probe(Index n) {
  Array<double> v(Shape{n});
  for (Index i = 0; i < n; ++i) v.data()[i] = 1 + std::fmod(0.6180339887498949 * static_cast<double>(i + 1), 1.0);
  return v;
}

Array<double> product(bool transpose, const Array<double>& matrix, const Array<double>& v) {
  Array<double> result = Array<double>::uninitialized(v.shape());
  const Index n = matrix.shape()[0];
  gemm(transpose, false, n, v.shape().size(1, v.shape().rank()), n, matrix.data(), v.data(), result.data());
  return result;
}

// Row i of a [N, k] times g(lambda_i), for the kept eigenvalues; zero elsewhere, and where a is zero whatever g is.
void scale_modes(const Spectrum& spectrum, const std::function<double(double)>& g, Array<double>& a) {
  const Index n = spectrum.size(), columns = n ? a.size() / n : 0;
  for (Index i = 0; i < n; ++i) {
    const double factor = spectrum.keeps(i) ? g(spectrum.values().data()[i]) : 0;
    for (Index j = i * columns; j < (i + 1) * columns; ++j) a.data()[j] = a.data()[j] == 0 ? 0 : factor * a.data()[j];
  }
}

Array<double> raw(const char* operation, const Spectrum& spectrum, double dt, const Array<double>& v, const std::function<double(double)>& g) {
  if (std::isnan(dt)) fail<NumericalError>("{}: dt is NaN; it must be a number, infinity allowed", operation);
  check_finite(operation, "v", v);
  check_semidefinite(operation, spectrum.lambda_min(), spectrum.lambda_max(), spectrum.size(), spectrum.tolerance());
  Array<double> result = spectrum.apply(g, v);
  if (autodiff::first_not_finite<double>(result.values()) >= 0)
    fail<NumericalError>("{}: the result overflows at dt = {:.6g} with lambda_max = {:.6g}; exp(-lambda_max dt) is finite for dt above {:.3g}", operation, dt,
                         spectrum.lambda_max(), -700 / spectrum.lambda_max());
  return result;
}

}  // namespace

template <Scalar T> Spectrum::Spectrum(const Array<T>& kernel) {
  Array<double> matrix = checked_kernel("spectrum", kernel);
  const Index n = matrix.shape()[0];
  if (const double largest = max_abs(matrix); !std::isfinite(largest * static_cast<double>(16 * n * n)))
    fail<NumericalError>("spectrum: the largest entry of a kernel of {} rows is {:.3g}, and products with its eigenvectors overflow; scale the kernel", n, largest);
  for (Index i = 0; i < n; ++i) mean_diagonal_ += matrix.data()[i * n + i] / static_cast<double>(n);
  const Array<double> v = probe(n), expected = product(false, matrix, v);
  values_ = Array<double>(Shape{n});
  autodiff::eigh(n, matrix.data(), values_.data());
  vectors_ = std::make_shared<const Array<double>>(std::move(matrix));

  const double radius = std::max(std::abs(lambda_min()), std::abs(lambda_max()));
  const double noise = null_tolerance(n, 1, 100 * std::numeric_limits<double>::epsilon()) * norm(v);
  tolerance_ = null_tolerance(n, radius, static_cast<double>(std::numeric_limits<T>::epsilon()));
  Array<double> modes = to_modes(v);
  const double loss_of_v = norm(from_modes(modes) - v);
  for (Index i = 0; i < n; ++i) modes.data()[i] *= values_.data()[i];
  const double loss_of_product = norm(from_modes(modes) - expected);
  const double underflow = static_cast<double>(n) * std::numeric_limits<double>::min();  // of kernels next to the smallest numbers
  if (!std::is_sorted(values_.begin(), values_.end()) || !(loss_of_v <= noise) || !(loss_of_product <= noise * radius + underflow))
    fail<NumericalError>(
        "spectrum: the decomposition of a kernel of {} rows by {} is wrong: V V^T v misses v by {:.3g} and V diag(lambda) V^T v misses K v by {:.3g}; "
        "this is a defect of the provider",
        n, autodiff::decompositions_provider(), loss_of_v, loss_of_product);
}
template Spectrum::Spectrum(const Array<float>&);
template Spectrum::Spectrum(const Array<double>&);

bool Spectrum::keeps(Index i) const { return std::abs(values_.data()[i]) > tolerance_; }

Index Spectrum::rank() const {
  Index kept = 0;
  for (Index i = 0; i < size(); ++i) kept += keeps(i);
  return kept;
}

double Spectrum::condition() const {
  double smallest = std::numeric_limits<double>::infinity(), largest = 0;
  for (Index i = 0; i < size(); ++i)
    if (keeps(i)) {
      smallest = std::min(smallest, std::abs(values_.data()[i]));
      largest = std::max(largest, std::abs(values_.data()[i]));
    }
  return largest == 0 ? 1 : largest / smallest;
}

Spectrum Spectrum::shifted(double r) const {
  if (!std::isfinite(r)) fail<NumericalError>("spectrum: a shift must be finite, got {}", r);
  Spectrum result = *this;
  for (double& value : result.values_) value += r;
  result.mean_diagonal_ += r;
  return result;
}

Array<double> Spectrum::to_modes(const Array<double>& v) const {
  if (v.shape().rank() < 1 || v.shape().rank() > 2 || v.shape()[0] != size())
    fail<ShapeError>("spectrum: a kernel of {0} rows acts on vectors [{0}] or [{0},k], got {1}", size(), v.shape());
  return product(false, *vectors_, v);
}

Array<double> Spectrum::from_modes(const Array<double>& a) const {
  if (a.shape().rank() < 1 || a.shape().rank() > 2 || a.shape()[0] != size())
    fail<ShapeError>("spectrum: a kernel of {0} rows has modes [{0}] or [{0},k], got {1}", size(), a.shape());
  return product(true, *vectors_, a);
}

Array<double> Spectrum::apply(const std::function<double(double)>& g, const Array<double>& v) const {
  Array<double> modes = to_modes(v);
  scale_modes(*this, g, modes);
  return from_modes(modes);
}

Array<double> expm1_dot(const Spectrum& spectrum, double dt, const Array<double>& v) {
  return raw("expm1_dot", spectrum, dt, v, [dt](double lambda) { return std::expm1(-lambda * dt); });
}
Array<double> inv_expm1_dot(const Spectrum& spectrum, double dt, const Array<double>& v) {
  return raw("inv_expm1_dot", spectrum, dt, v, [dt](double lambda) { return -phi(lambda, dt); });
}

}  // namespace linnet::predict
