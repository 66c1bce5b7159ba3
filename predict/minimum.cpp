// minimum.h: Newton's method in the coordinates u of weights that the training rows reach.
#include "linnet/predict/minimum.h"

#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/kernels/decompositions.h"
#include "linnet/autodiff/kernels/gemm.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace linnet::predict {

using autodiff::fail;
using autodiff::gemm;
using autodiff::NumericalError;

namespace {

constexpr Index most_rows = 4000;
constexpr int most_steps = 60;

class Newton {
 public:
  explicit Newton(const Equation& e) : e_(e), n_(e.rows()) {
    if (n_ > most_rows)
      fail<NumericalError>("{}: t = infinity takes a decomposition of the kernel, and with {} rows it has more than {}; ask for a finite time", e.operation, n_, most_rows);
    Numbers kernel(size(n_, n_)), unit(size(n_, 1), 0), values(size(n_, 1));
    for (Index i = 0; i < n_; ++i) {
      unit[size(i, 1)] = 1;
      e.multiply(unit.data(), kernel.data() + i * n_);
      unit[size(i, 1)] = 0;
    }
    for (Index i = 0; i < n_; ++i)
      for (Index j = 0; j < i; ++j) kernel[size(i, n_) + size(j, 1)] = kernel[size(j, n_) + size(i, 1)] = (kernel[size(i, n_) + size(j, 1)] + kernel[size(j, n_) + size(i, 1)]) / 2;
    const bool centred = is_blind_to_shifts();
    Numbers vectors = kernel;
    for (Index i = 0; centred && i < 2 * n_; ++i) centre(i < n_ ? vectors.data() + i * n_ : vectors.data() + i - n_, i < n_ ? 1 : n_);
    for (Index i = 0; centred && i < n_; ++i)
      for (Index j = 0; j < i; ++j) vectors[size(j, n_) + size(i, 1)] = vectors[size(i, n_) + size(j, 1)];
    autodiff::eigh(n_, vectors.data(), values.data());
    const double zero = std::max(static_cast<double>(n_), 10.0) * std::numeric_limits<double>::epsilon() * values.back();
    for (Index i = 0; i < n_; ++i)
      if (values[size(i, 1)] > zero) {
        lambda_.push_back(values[size(i, 1)]);
        vectors_.insert(vectors_.end(), vectors.begin() + i * n_, vectors.begin() + (i + 1) * n_);
      }
    r_ = static_cast<Index>(lambda_.size());
    roots_.resize(vectors_.size());
    gemm(false, false, r_, n_, n_, vectors_.data(), kernel.data(), roots_.data());
    for (Index i = 0; i < r_; ++i)
      for (Index j = 0; j < n_; ++j) roots_[size(i, n_) + size(j, 1)] /= std::sqrt(lambda_[size(i, 1)]);
  }

  Numbers run() {
    Numbers u(size(r_, 1), 0);  // S^T c, what A^T c is there
    for (int step = 0;; ++step) {
      const Numbers f = outputs(u), slope = gradient(f, u), direction = solve(f, slope);
      double falls = 0;
      for (std::size_t i = 0; i < u.size(); ++i) falls -= slope[i] * direction[i];
      const double length = along(u, direction, falls);
      Numbers change = direction;
      for (std::size_t i = 0; i < u.size(); ++i) u[i] += change[i] *= length;
      Numbers moved = spread(change);
      moved.resize(size(e_.blocks(), n_), 0);
      if (length == 1 && e_.measure(moved.data(), at(u), at(u)) < .1) return at(u);
      if (step == most_steps)
        fail<NumericalError>("{}: there is no t = infinity: after {} steps of Newton's method the loss is {:.3g} and still falls, with outputs up to {:.3g}; where examples can be separated, cross-entropy has no minimum. Ask for a finite time, or give a ridge",
                             e_.operation, step, value(outputs(u), Numbers(u.size(), 0)), largest(outputs(u)));
    }
  }

 private:
  static std::size_t size(Index a, Index b) { return static_cast<std::size_t>(a * b); }
  static double largest(const Numbers& v) {
    double most = 0;
    for (const double x : v) most = std::max(most, std::abs(x));
    return most;
  }
  // Whether the loss is the same where a number is added to all outputs of an example, as softmax makes it: then c sums to 0 over them, and rounding must not move
  // along what no curvature holds.
  bool is_blind_to_shifts() const {
    const Index width = e_.outputs() / e_.loss.examples();
    if (width < 2) return false;
    Numbers f(e_.f0.begin(), e_.f0.end()), g(f.size());
    for (int other = 0; other < 2; ++other) {
      e_.loss(f.data(), g.data());
      for (Index i = 0; i < e_.outputs(); i += width) {
        double sum = 0, sizes = 0;
        for (Index k = i; k < i + width; ++k) sum += g[size(k, 1)], sizes += std::abs(g[size(k, 1)]);
        if (!(std::abs(sum) <= 1e-12 * sizes)) return false;
      }
      for (Index i = 0; i < e_.outputs(); ++i) f[size(i, 1)] += std::remainder(0.6180339887498949 * static_cast<double>(i + 1), 1.0);
    }
    return true;
  }
  void centre(double* v, Index stride) const {  // takes the mean over its outputs out of every example
    const Index width = e_.outputs() / e_.loss.examples();
    for (Index i = 0; i < e_.outputs(); i += width) {
      double sum = 0;
      for (Index k = i; k < i + width; ++k) sum += v[k * stride];
      for (Index k = i; k < i + width; ++k) v[k * stride] -= sum / static_cast<double>(width);
    }
  }
  Numbers spread(const Numbers& u) const {  // S u
    Numbers kc(size(n_, 1), 0);
    if (r_ > 0) gemm(true, false, n_, 1, r_, roots_.data(), u.data(), kc.data());
    return kc;
  }
  Numbers outputs(const Numbers& u) const {  // f, and the row of theta0 if weights decay
    const Numbers kc = spread(u);
    Numbers f = e_.outputs_at(kc.data());
    if (n_ > e_.outputs()) f.push_back(kc.back());
    return f;
  }
  Numbers at(const Numbers& u) const {  // y
    Numbers scaled = u, y(static_cast<std::size_t>(e_.size()), 0);
    for (std::size_t i = 0; i < u.size(); ++i) scaled[i] /= std::sqrt(lambda_[i]);
    const Numbers kc = spread(u);
    if (r_ > 0) gemm(true, false, n_, 1, r_, vectors_.data(), scaled.data(), y.data());
    std::copy(kc.begin(), kc.end(), y.begin() + e_.blocks() * n_);
    return y;
  }

  double value(const Numbers& f, const Numbers& u) const {
    double squares = 0;
    for (const double v : u) squares += v * v;
    return e_.loss(f.data()) + (n_ > e_.outputs() ? e_.decay * f.back() : 0) + e_.ridge / 2 * squares;
  }
  Numbers gradient(const Numbers& f, const Numbers& u) const {
    Numbers g(size(n_, 1)), slope(u.size());
    e_.gradient(f.data(), g.data());
    if (r_ > 0) gemm(false, false, r_, 1, n_, roots_.data(), g.data(), slope.data());
    for (std::size_t i = 0; i < u.size(); ++i) slope[i] += e_.ridge * u[i];
    return slope;
  }

  // -(S^T H S + ridge)^-1 slope. What is flat is held by as little as makes the matrix positive.
  Numbers solve(const Numbers& f, const Numbers& slope) const {
    Numbers curved(size(r_, n_), 0), matrix(size(r_, r_)), factor(size(r_, r_)), direction = slope;
    for (Index i = 0; i < r_; ++i) e_.loss.hessian_product(f.data(), roots_.data() + i * n_, curved.data() + i * n_);
    if (r_ > 0) gemm(false, true, r_, r_, n_, roots_.data(), curved.data(), matrix.data());
    double trace = 0;
    for (Index i = 0; i < r_; ++i) trace += std::max(0.0, matrix[size(i, r_ + 1)] += e_.ridge);
    for (double hold = 1e-14;; hold *= 100) {
      if (hold > 1e-7) fail<NumericalError>("{}: there is no t = infinity that is known: the loss is not convex on the way; ask for a finite time", e_.operation);
      Numbers held = matrix;
      for (Index i = 0; i < r_; ++i) held[size(i, r_ + 1)] += hold * trace + std::numeric_limits<double>::min();
      if (autodiff::cholesky(r_, held.data(), factor.data()) == r_) break;
    }
    if (r_ > 0) {
      autodiff::triangular_solve(false, r_, 1, factor.data(), slope.data(), direction.data());
      autodiff::triangular_solve(true, r_, 1, factor.data(), direction.data(), direction.data());
    }
    for (double& v : direction) v = -v;
    return direction;
  }

  // How far to go: halved until the loss falls by a part of what its slope promises.
  double along(const Numbers& u, const Numbers& direction, double falls) const {
    const double before = value(outputs(u), u);
    if (!(falls > 1e-13 * std::abs(before))) return 1;  // rounding
    for (double length = 1; length > 1e-12; length /= 2) {
      Numbers there = u;
      for (std::size_t i = 0; i < u.size(); ++i) there[i] += length * direction[i];
      if (value(outputs(there), there) <= before - 1e-4 * length * falls) return length;
    }
    fail<NumericalError>("{}: there is no t = infinity that is known: the loss falls along its gradient by less than it should; ask for a finite time", e_.operation);
  }

  const Equation& e_;
  Index n_, r_ = 0;
  Numbers lambda_, vectors_, roots_;  // eigenvalues that are not zero; their vectors, and S^T = lambda^(-1/2) V^T K, [r, rows]
};

}  // namespace

Numbers minimum(const Equation& equation) { return Newton(equation).run(); }

}  // namespace linnet::predict
