// The method in its banded form: every vector of the basis is multiplied in turn, what is new of the product is orthogonalized against the whole basis, twice, and
// appended. All coefficients are kept, so residuals are known exactly, and a product with nothing new needs no case of its own but a fresh vector.
#include "linnet/ntk/lanczos.h"

#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/kernels/decompositions.h"
#include "linnet/autodiff/kernels/gemm.h"
#include "linnet/autodiff/kernels/threefry.h"
#include "linnet/ntk/progress.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace linnet::ntk {

using namespace autodiff;

namespace {

// Signs of sample number `sample`, each with probability one half.
template <class T> Array<T> signs(const Shape& shape, std::uint64_t seed, Index sample) {
  Array<T> z = Array<T>::uninitialized(shape);
  const std::array key{static_cast<std::uint32_t>(seed >> 32), static_cast<std::uint32_t>(seed)};
  for (Index i = 0; i < z.size(); i += 64) {
    const auto [a, b] = threefry(key, static_cast<std::uint32_t>(sample), static_cast<std::uint32_t>(i / 64));
    const std::uint64_t bits = static_cast<std::uint64_t>(a) << 32 | b;
    for (Index j = i; j < std::min(z.size(), i + 64); ++j) z.data()[j] = bits >> (j - i) & 1 ? T(1) : T(-1);
  }
  return z;
}

template <class T> double squared_norm(const T* v, Index n) {
  Array<double> squares = Array<double>::uninitialized({n});
  for (Index i = 0; i < n; ++i) squares.data()[i] = static_cast<double>(v[i]) * static_cast<double>(v[i]);
  return fixed_sum(squares.data(), n);
}

template <Scalar T> Array<T> multiply(const char* operation, const Symmetric<T>& kernel, const Array<T>& v) {
  Array<T> product = kernel.product(v);
  if (product.shape() != kernel.shape) fail<ShapeError>("{}: a product with {} came as {}; a symmetric matrix answers what it is given", operation, kernel.shape, product.shape());
  if (first_not_finite(std::span<const T>(product.values())) >= 0) fail<NumericalError>("{}: a product is not finite; scale the inputs or parameters, or compute in double", operation);
  return product;
}

template <Scalar T> class Lanczos {
 public:
  static constexpr const char* operation = "ntk::largest_eigenvalues";

  Lanczos(const Symmetric<T>& kernel, Index k, const LanczosOptions& options)
      : kernel_(kernel), options_(options), k_(k), n_(kernel.shape.size()), most_(options.max_products ? std::min(options.max_products, n_) : n_) {
    if (k < 1 || k > n_) fail<ShapeError>("{}: {} eigenvalues were asked for of a matrix of {} rows; from 1 to all of them there are", operation, k, n_);
    if (options.max_products < 0 || options.block < 0 || !(options.tolerance >= 0))
      fail<ShapeError>("{}: products, block and tolerance must not be negative, got {}, {} and {}", operation, options.max_products, options.block, options.tolerance);
    if (most_ < k) fail<ShapeError>("{}: {} eigenvalues need as many products, LanczosOptions::max_products is {}", operation, k, options.max_products);
  }

  LargestEigenvalues<T> run() {
    const Index block = std::min(options_.block ? options_.block : kernel_.outputs, n_);
    for (Index i = 0; i < block; ++i) append_drawn();
    Reporter reporter(operation, options_.progress, "products", static_cast<std::size_t>(most_));
    for (Index next = k_;;) {
      extend();
      reporter.done();
      reporter.check();
      if (done_ < next && done_ < most_) continue;
      next = done_ + std::max(block, done_ / 8);
      solve();
      if (converged()) break;
      if (done_ == most_) fail_not_converged();
    }
    reporter.finish();
    return answer();
  }

 private:
  const T* row(Index i) const { return basis_.data() + i * n_; }

  // Takes out of w what the basis has of it, twice: once leaves rounding of the size of what was there. `column` gets the coefficients, if it is wanted.
  void orthogonalize(Array<T>& w, std::vector<double>* column) const {
    const Index m = size_;
    Buffer<T> h(static_cast<std::size_t>(m));
    if (column) column->assign(static_cast<std::size_t>(m), 0);
    for (int pass = 0; pass < 2 && m > 0; ++pass) {
      gemm(false, false, m, 1, n_, basis_.data(), w.data(), h.data());
      for (Index i = 0; column && i < m; ++i) (*column)[static_cast<std::size_t>(i)] += static_cast<double>(h[static_cast<std::size_t>(i)]);
      for (T& c : h) c = -c;
      gemm(true, false, n_, 1, m, basis_.data(), h.data(), w.data(), true);
    }
  }
  void append(const Array<T>& w, double norm) {
    for (const T v : w) basis_.push_back(static_cast<T>(static_cast<double>(v) / norm));
    ++size_;
  }
  void append_drawn() {  // a direction that is not in the basis; what is drawn is in it only by chance
    while (true) {
      Array<T> w = signs<T>(kernel_.shape, options_.seed, drawn_++);
      orthogonalize(w, nullptr);
      const double norm = std::sqrt(squared_norm(w.data(), n_));
      if (norm > 1e-3) return append(w, norm);  // of sqrt(n)
    }
  }

  // Multiplies the next vector of the basis.
  void extend() {
    if (done_ == size_) append_drawn();
    const Array<T> q(kernel_.shape, std::span<const T>(row(done_), static_cast<std::size_t>(n_)));
    Array<T> w = multiply(operation, kernel_, q);
    scale_ = std::max(scale_, std::sqrt(squared_norm(w.data(), n_)));
    std::vector<double> column;
    orthogonalize(w, &column);
    const double norm = std::sqrt(squared_norm(w.data(), n_));
    if (size_ < n_ && norm > 10 * std::numeric_limits<T>::epsilon() * scale_) {
      append(w, norm);
      column.push_back(norm);
    }
    columns_.push_back(std::move(column));
    ++done_;
  }

  double coefficient(Index i, Index j) const {
    const auto& c = columns_[static_cast<std::size_t>(j)];
    return i < static_cast<Index>(c.size()) ? c[static_cast<std::size_t>(i)] : 0;
  }

  // Eigenvalues within the basis as far as it is multiplied, and how far the largest are from being the matrix's.
  void solve() {
    const Index m = done_;
    ritz_ = Array<double>({m, m});
    values_ = Array<double>({m});
    for (Index i = 0; i < m; ++i)
      for (Index j = 0; j <= i; ++j) {
        const double a = coefficient(i, j), b = coefficient(j, i);
        if (std::abs(a - b) > std::sqrt(static_cast<double>(std::numeric_limits<T>::epsilon())) * scale_)
          fail<NumericalError>("{}: the product is not that of a symmetric matrix: u.Kv is {} and v.Ku is {}", operation, a, b);
        ritz_[{i, j}] = ritz_[{j, i}] = (a + b) / 2;
      }
    eigh(m, ritz_.data(), values_.data());
    residuals_ = Array<double>({k_});
    for (Index e = 0; e < k_; ++e) {
      double sum = 0;
      for (Index i = m; i < size_; ++i) {
        double beyond = 0;
        for (Index j = 0; j < m; ++j) beyond += coefficient(i, j) * ritz_[{m - 1 - e, j}];
        sum += beyond * beyond;
      }
      residuals_.data()[e] = std::sqrt(sum);
    }
  }
  double largest() const { return std::max(std::abs(values_.data()[0]), std::abs(values_.data()[done_ - 1])); }
  bool converged() const {
    const double bound = std::max(options_.tolerance, 4 * static_cast<double>(std::numeric_limits<T>::epsilon())) * largest();
    return std::all_of(residuals_.begin(), residuals_.end(), [&](double r) { return r <= bound; });
  }
  [[noreturn]] void fail_not_converged() const {
    const double worst = *std::max_element(residuals_.begin(), residuals_.end());
    fail<NumericalError>("{}: {} products leave a residual of {:.3g} of the largest eigenvalue, the tolerance is {:.3g}; allow more products, or a larger tolerance", operation, done_, worst / largest(),
                         options_.tolerance);
  }

  LargestEigenvalues<T> answer() const {
    const Index m = done_;
    LargestEigenvalues<T> found{Array<double>({k_}), Array<T>({k_, n_}), residuals_, m};
    Array<T> weights({k_, m});
    for (Index e = 0; e < k_; ++e) {
      found.values.data()[e] = values_.data()[m - 1 - e];
      for (Index j = 0; j < m; ++j) weights[{e, j}] = static_cast<T>(ritz_[{m - 1 - e, j}]);
    }
    gemm(false, false, k_, n_, m, weights.data(), basis_.data(), found.vectors.data());
    return found;
  }

  const Symmetric<T>& kernel_;
  const LanczosOptions& options_;
  Index k_, n_, most_, size_ = 0, done_ = 0, drawn_ = 0;  // of the basis, and of that multiplied
  double scale_ = 0;                                      // the longest product with a unit vector
  Buffer<T> basis_;                                       // [size, n]
  std::vector<std::vector<double>> columns_;              // of Q^T K Q
  Array<double> ritz_, values_, residuals_;
};

Estimate mean_of(const std::vector<double>& samples) {
  const double n = static_cast<double>(samples.size());
  const double mean = fixed_sum(samples.data(), static_cast<Index>(samples.size())) / n;
  std::vector<double> squares;
  for (const double s : samples) squares.push_back((s - mean) * (s - mean));
  return {mean, std::sqrt(fixed_sum(squares.data(), static_cast<Index>(squares.size())) / (n - 1) / n), static_cast<Index>(samples.size())};
}

}  // namespace

template <Scalar T> LargestEigenvalues<T> largest_eigenvalues(const Symmetric<T>& kernel, Index k, const LanczosOptions& options) { return Lanczos<T>(kernel, k, options).run(); }

template <Scalar T> NormEstimates estimate_norms(const Symmetric<T>& kernel, Index samples, std::uint64_t seed) {
  const char* const operation = "ntk::estimate_norms";
  if (samples < 2) fail<ShapeError>("{}: an error needs two samples or more, got {}", operation, samples);
  std::vector<double> traces, squares;
  for (Index s = 0; s < samples; ++s) {
    const Array<T> z = signs<T>(kernel.shape, seed, s), kz = multiply(operation, kernel, z);
    traces.push_back(dot(cast<double>(z), cast<double>(kz)));
    squares.push_back(squared_norm(kz.data(), kz.size()));
  }
  NormEstimates e{mean_of(traces), mean_of(squares)};
  e.frobenius.value = std::sqrt(e.frobenius.value);
  if (e.frobenius.value > 0) e.frobenius.error /= 2 * e.frobenius.value;  // of a root, to first order
  return e;
}

#define LINNET_INSTANTIATE(T)                                                                                     \
  template LargestEigenvalues<T> largest_eigenvalues(const Symmetric<T>&, Index, const LanczosOptions&);          \
  template NormEstimates estimate_norms(const Symmetric<T>&, Index, std::uint64_t);
LINNET_INSTANTIATE(float)
LINNET_INSTANTIATE(double)

}  // namespace linnet::ntk
