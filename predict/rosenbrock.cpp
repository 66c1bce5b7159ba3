// rosenbrock.h. The Jacobian in coefficients is -rate (H K + ridge), H the Hessian of the loss, of which the root of each example's block is taken: then all that is
// needed are functions of a symmetric matrix. (H K itself is self-adjoint in u.Kv, and needs no root; but where K is singular that product is rounding.)
#include "linnet/predict/rosenbrock.h"

#include "linnet/autodiff/kernels/decompositions.h"
#include "linnet/autodiff/kernels/gemm.h"
#include "linnet/autodiff/kernels/parallel.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

namespace linnet::predict {

namespace {

constexpr Index longest = 80;        // vectors of a basis: a step that needs more is made shorter
constexpr double part_of_error = .2;  // that a Krylov space may have of the step's

// phi_j(z) = sum_k z^k / (k + j)!.
double phi(int j, double z) {
  double factorial = 1;
  for (int k = 2; k <= j; ++k) factorial *= k;
  if (std::abs(z) < 1) {
    double term = 1 / factorial, sum = term;
    for (int k = 1; k < 20; ++k) sum += term *= z / (k + j);
    return sum;
  }
  double value = std::expm1(z) / z;
  factorial = 1;
  for (int k = 1; k < j; ++k) value = (value - 1 / (factorial *= k)) / z;
  return value;
}

// (phi_j(a + d) - phi_j(a)) / d; by Gauss's rule for the mean of phi_j' = phi_j - j phi_(j+1) where the difference would cancel.
double divided(int j, double a, double d) {
  if (a == 0) return phi(j + 1, d);
  if (std::abs(d) > .5) return (phi(j, a + d) - phi(j, a)) / d;
  constexpr double nodes[] = {0, .5384693101056831, -.5384693101056831, .9061798459386640, -.9061798459386640};
  constexpr double weights[] = {.5688888888888889, .4786286704993665, .4786286704993665, .2369268850561891, .2369268850561891};
  double sum = 0;
  for (int k = 0; k < 5; ++k) {
    const double z = a + d * (1 + nodes[k]) / 2;
    sum += weights[k] / 2 * (phi(j, z) - j * phi(j + 1, z));
  }
  return sum;
}

double inner(const double* a, const double* b, Index n) {
  Numbers products(static_cast<std::size_t>(n));
  for (Index i = 0; i < n; ++i) products[static_cast<std::size_t>(i)] = a[i] * b[i];
  return autodiff::fixed_sum(products.data(), n);
}

// The symmetric roots R of the Hessian's blocks, one for each example: H = R R.
class Root {
 public:
  // False where H is not made of such blocks, or one of them is not positive semidefinite.
  bool of(const Equation& e, const Numbers& f) {
    n_ = e.outputs();
    width_ = n_ / e.loss.examples();
    Numbers unit(f.size()), column(f.size());
    blocks_.resize(f.size() * static_cast<std::size_t>(width_));
    for (Index o = 0; o < width_; ++o) {
      for (Index i = 0; i < n_; ++i) unit[static_cast<std::size_t>(i)] = i % width_ == o;
      e.loss.hessian_product(f.data(), unit.data(), column.data());
      for (Index i = 0; i < n_; ++i) blocks_[static_cast<std::size_t>(i * width_ + o)] = column[static_cast<std::size_t>(i)];
    }
    if (!std::all_of(blocks_.begin(), blocks_.end(), [](double v) { return std::isfinite(v); }) || !is_all_of(e, f)) return false;
    double largest = 0;
    for (const double v : blocks_) largest = std::max(largest, std::abs(v));
    constexpr Index together = 32;  // examples of an item
    const Index examples = e.loss.examples(), items = (examples + together - 1) / together;
    std::vector<char> good(static_cast<std::size_t>(items), 1);
    autodiff::parallel_for(items, [&](Index item) {
      for (Index i = item * together; i < std::min(examples, (item + 1) * together); ++i)
        if (!take_root(blocks_.data() + i * width_ * width_, 1e-10 * largest)) good[static_cast<std::size_t>(item)] = 0;
    });
    return std::all_of(good.begin(), good.end(), [](char g) { return g; });
  }

  // R v, of all rows: 0 in that of theta0.
  Numbers operator()(const double* v, Index rows) const {
    Numbers w(static_cast<std::size_t>(rows), 0);
    for (Index i = 0; i < n_; ++i) {
      const double *const block = blocks_.data() + i * width_, *const of = v + i / width_ * width_;
      double sum = 0;
      for (Index o = 0; o < width_; ++o) sum += block[o] * of[o];
      w[static_cast<std::size_t>(i)] = sum;
    }
    return w;
  }

 private:
  // Whether the blocks answer what H does to a vector without a pattern.
  bool is_all_of(const Equation& e, const Numbers& f) const {
    Numbers v(f.size()), product(f.size());
    for (std::size_t i = 0; i < v.size(); ++i) v[i] = std::remainder(0.6180339887498949 * static_cast<double>(i + 1), 1.0);
    e.loss.hessian_product(f.data(), v.data(), product.data());
    const Numbers blocks = (*this)(v.data(), n_);
    double apart = 0, size = 0;
    for (std::size_t i = 0; i < v.size(); ++i) {
      apart = std::max(apart, std::abs(blocks[i] - product[i]));
      size = std::max(size, std::abs(product[i]));
    }
    return apart <= 1e-9 * size;
  }
  bool take_root(double* block, double noise) const {
    const std::size_t w = static_cast<std::size_t>(width_);
    if (w == 1) {
      const double value = block[0];
      block[0] = std::sqrt(std::max(value, 0.0));
      return value >= -noise;
    }
    Numbers vectors(w * w), values(w);
    for (std::size_t i = 0; i < w; ++i)
      for (std::size_t j = 0; j < w; ++j) vectors[i * w + j] = (block[i * w + j] + block[j * w + i]) / 2;
    autodiff::eigh(width_, vectors.data(), values.data());
    std::fill_n(block, w * w, 0);
    for (std::size_t k = 0; k < w; ++k)
      for (std::size_t i = 0; i < w; ++i)
        for (std::size_t j = 0; j < w; ++j) block[i * w + j] += std::sqrt(std::max(values[k], 0.0)) * vectors[k * w + i] * vectors[k * w + j];
    return values[0] >= -noise;
  }
  Index n_ = 0, width_ = 1;
  Numbers blocks_;  // [examples, width, width]
};

// The functions F_j(H K) v = phi_j(-h rate (H K + ridge)) v of one vector v = (v, K v), as F(0) v + R D(R K R) R K v with the divided difference D(x) = (F(x) - F(0)) / x:
// R K R is symmetric, and Lanczos' method for it needs one product with K a vector. What K does to R times each vector is kept, so that outputs cost nothing.
class Subspace {
 public:
  Subspace(const Equation& e, const Root& root, const Numbers& y, Numbers v) : e_(e), root_(root), y_(y), n_(e.rows()), start_(std::move(v)) {
    next_ = root_(start_.data() + n_, n_);
    first_ = std::sqrt(inner(next_.data(), next_.data(), n_));
    append(first_);
  }

  Index products() const { return size(); }
  Index size() const { return static_cast<Index>(diagonal_.size()); }
  double largest() const { return size() > 0 ? std::max(0.0, values_.back()) : 0; }

  // Extends the basis until `wrong()` is below what a step may have; whether it came to that.
  template <class F> bool until(F&& wrong) {
    for (Index next = 2;;) {
      if (done()) return true;
      extend();
      if (size() < next && !done() && size() < longest) continue;
      next = size() + std::max<Index>(2, size() / 8);
      decompose();
      if (done() || wrong() < part_of_error) return true;
      if (size() >= longest) return false;
    }
  }

  // Of phi_j for a step of h: the first term of the error of the Krylov space, as Equation::measure has it (Saad, SIAM J. Numer. Anal. 29, 1992).
  double wrong(int j, double h) const {
    if (done()) return 0;
    const double speed = h * e_.rate;
    double last = 0;
    for (Index i = 0; i < size(); ++i) last += vector(i)[0] * phi(j + 2, -speed * (values_[static_cast<std::size_t>(i)] + e_.ridge)) * vector(i)[size() - 1];
    return std::abs(h * speed * speed * first_ * below_.back() * last) * e_.measure(products_of_.data() + (size() - 1) * n_, y_, y_);
  }

  // to += scale phi_j v, and K times that.
  void add(double scale, int j, double h, Numbers& to) const {
    const double speed = h * e_.rate, rest = scale * phi(j, -speed * e_.ridge);
    for (std::size_t i = 0; i < to.size(); ++i) to[i] += rest * start_[i];
    if (size() == 0) return;
    Numbers weights(static_cast<std::size_t>(size()), 0), sum(static_cast<std::size_t>(n_));
    for (Index i = 0; i < size(); ++i) {
      const double factor = -speed * scale * first_ * vector(i)[0] * divided(j, -speed * e_.ridge, -speed * std::max(values_[static_cast<std::size_t>(i)], 0.0));
      for (Index k = 0; k < size(); ++k) weights[static_cast<std::size_t>(k)] += factor * vector(i)[k];
    }
    autodiff::gemm(true, false, n_, 1, size(), basis_.data(), weights.data(), sum.data());
    const Numbers change = root_(sum.data(), n_);
    for (Index i = 0; i < n_; ++i) to[static_cast<std::size_t>(i)] += change[static_cast<std::size_t>(i)];
    autodiff::gemm(true, false, n_, 1, size(), products_of_.data(), weights.data(), to.data() + n_, true);
  }

 private:
  bool done() const { return size() > 0 ? below_.back() == 0 : first_ == 0; }  // the space has all of it
  const double* vector(Index i) const { return vectors_.data() + i * size(); }
  void append(double length) {
    if (length > 0)
      for (const double v : next_) basis_.push_back(v / length);
  }

  void extend() {
    const Index m = size() + 1;
    Numbers h(static_cast<std::size_t>(m));
    const Numbers moved = root_(basis_.data() + (m - 1) * n_, n_);
    products_of_.resize(static_cast<std::size_t>(m * n_));
    e_.multiply(moved.data(), products_of_.data() + (m - 1) * n_);
    next_ = root_(products_of_.data() + (m - 1) * n_, n_);
    scale_ = std::max(scale_, std::sqrt(inner(next_.data(), next_.data(), n_)));
    double alpha = 0;
    for (int pass = 0; pass < 2; ++pass) {
      autodiff::gemm(false, false, m, 1, n_, basis_.data(), next_.data(), h.data());
      alpha += h.back();
      for (double& c : h) c = -c;
      autodiff::gemm(true, false, n_, 1, m, basis_.data(), h.data(), next_.data(), true);
    }
    const double length = std::sqrt(inner(next_.data(), next_.data(), n_));
    diagonal_.push_back(alpha);
    below_.push_back(m < n_ && length > 8 * std::numeric_limits<double>::epsilon() * scale_ ? length : 0);
    append(below_.back());
  }

  void decompose() {
    const Index m = size();
    vectors_.assign(static_cast<std::size_t>(m * m), 0);
    values_.assign(static_cast<std::size_t>(m), 0);
    for (Index i = 0; i < m; ++i) {
      vectors_[static_cast<std::size_t>(i * m + i)] = diagonal_[static_cast<std::size_t>(i)];
      if (i + 1 < m) vectors_[static_cast<std::size_t>(i * m + i + 1)] = vectors_[static_cast<std::size_t>((i + 1) * m + i)] = below_[static_cast<std::size_t>(i)];
    }
    autodiff::eigh(m, vectors_.data(), values_.data());
  }

  const Equation& e_;
  const Root& root_;
  const Numbers& y_;
  Index n_;
  Numbers start_, next_;
  double first_ = 0, scale_ = 0;
  Numbers basis_, products_of_;  // [size + 1, rows], orthonormal; K R times the first `size`
  Numbers diagonal_, below_;     // of R K R in the basis
  Numbers vectors_, values_;     // its eigenvectors, as rows, and eigenvalues
};

// What the slope at u is besides its linear part at y: -rate (g(u) - g(y) - H (f(u) - f(y))), and K times that.
Numbers remainder(const Equation& e, const Numbers& f, const Numbers& g, const Numbers& y, const Numbers& u) {
  const Index n = e.rows();
  Numbers change(static_cast<std::size_t>(n)), there(static_cast<std::size_t>(n)), result(static_cast<std::size_t>(2 * n));
  for (Index i = 0; i < n; ++i) change[static_cast<std::size_t>(i)] = e.kz(u)[i] - e.kz(y)[i];
  Numbers linear(static_cast<std::size_t>(n), 0);
  e.loss.hessian_product(f.data(), change.data(), linear.data());
  e.gradient(e.outputs_at(e.kz(u)).data(), there.data());
  for (std::size_t i = 0; i < there.size(); ++i) result[i] = -e.rate * (there[i] - g[i] - linear[i]);
  if (std::all_of(result.begin(), result.end(), [](double v) { return std::isfinite(v); })) e.multiply(result.data(), result.data() + n);
  else result.assign(result.size(), std::numeric_limits<double>::infinity());
  return result;
}

ExponentialStep failed(double h, double error, double largest, Index products) { return {{}, h, error, largest, products, true}; }
bool is_finite(const Numbers& v) { return std::all_of(v.begin(), v.end(), [](double x) { return std::isfinite(x); }); }

}  // namespace

ExponentialStep exponential_step(const Equation& e, const Numbers& y, const Numbers& slope, double h) {
  const Numbers f = e.outputs_at(e.kz(y));
  Numbers g(static_cast<std::size_t>(e.rows()));
  e.gradient(f.data(), g.data());
  Root root;
  if (!root.of(e, f)) return {.h = h, .convex = false};

  std::optional<Subspace> basis(std::in_place, e, root, y, slope);  // one at a time in memory
  if (!basis->until([&] { return basis->wrong(1, h); }))
    while (h > 0 && basis->wrong(1, h) >= part_of_error) h *= .75;
  const double largest = e.rate * (basis->largest() + e.ridge);
  Numbers second = y, third = y;
  basis->add(h / 2, 1, h / 2, second);
  basis->add(h, 1, h, third);
  Index products = basis->products() + 1;
  Numbers end = third, wrong(y.size(), 0);

  const Numbers v2 = remainder(e, f, g, y, second);
  if (!is_finite(v2)) return failed(h, std::numeric_limits<double>::infinity(), largest, products);
  basis.emplace(e, root, y, v2);
  const bool held = basis->until([&] { return std::max({basis->wrong(1, h), 16 * basis->wrong(3, h), 48 * basis->wrong(4, h)}); });
  products += basis->products() + 1;
  if (!held) return failed(h, 1e4, largest, products);
  basis->add(h, 1, h, third);
  basis->add(16 * h, 3, h, end);
  basis->add(-48 * h, 4, h, wrong);

  const Numbers v3 = remainder(e, f, g, y, third);
  if (!is_finite(v3)) return failed(h, std::numeric_limits<double>::infinity(), largest, products);
  basis.emplace(e, root, y, v3);
  const bool held_again = basis->until([&] { return std::max(2 * basis->wrong(3, h), 12 * basis->wrong(4, h)); });
  products += basis->products();
  if (!held_again) return failed(h, 1e4, largest, products);
  basis->add(-2 * h, 3, h, end);
  basis->add(12 * h, 4, h, wrong);
  for (std::size_t i = 0; i < end.size(); ++i) end[i] += wrong[i];
  const double error = e.measure(wrong.data() + e.rows(), y, end);
  return {std::move(end), h, error, largest, products, true};
}

}  // namespace linnet::predict
