// krylov.h: a chain of vectors for each right side, continued until the bounds of every time asked for are small enough.
#include "linnet/predict/krylov.h"

#include "linnet/autodiff/finite.h"
#include "linnet/autodiff/table.h"
#include "linnet/ntk/memory.h"
#include "linnet/ntk/progress.h"
#include "linnet/predict/krylov_basis.h"
#include "linnet/predict/krylov_bounds.h"
#include "linnet/predict/spectral.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <variant>

namespace linnet::predict {

using autodiff::check_finite;
using autodiff::fail;
using autodiff::NumericalError;
using autodiff::Shape;
using autodiff::ShapeError;

namespace {

// One right side: its basis, in either type, and what is known of it as far as it goes.
struct Chain {
  std::shared_ptr<std::variant<Basis<float>, Basis<double>>> basis;  // other ridges share it
  Part part;
  Index column;  // of the residual
  std::optional<Ritz> ritz = {};

  double start() const {
    return std::visit([](const auto& b) { return b.start(); }, *basis);
  }
  Index products() const {
    return std::visit([](const auto& b) { return b.products(); }, *basis);
  }
  bool complete() const {
    return std::visit([](const auto& b) { return b.complete(); }, *basis);
  }
  std::size_t bytes() const {
    return std::visit([](const auto& b) { return b.bytes(); }, *basis);
  }
  std::size_t bytes_of(Index vectors) const {
    return std::visit([&](const auto& b) { return b.bytes_of(vectors); }, *basis);
  }
  void extend() {
    std::visit([](auto& b) { b.extend(); }, *basis);
  }
  Array<double> combine(const Array<double>& weights) const {
    return std::visit([&](const auto& b) { return b.combine(weights); }, *basis);
  }

  // All but the last product, which tells the bounds of the others more than it would add.
  Steps steps(Index m) const {
    return std::visit(
        [&](const auto& b) {
          Steps s{{b.diagonal().begin(), b.diagonal().begin() + m}, {b.beside().begin(), b.beside().begin() + m}, b.start()};
          if (m < b.products()) s.next_diagonal = b.diagonal()[static_cast<std::size_t>(m)], s.next_beside = b.beside()[static_cast<std::size_t>(m)];
          return s;
        },
        *basis);
  }
  Index size() const { return complete() ? products() : std::max<Index>(products() - 1, 0); }
};

Array<double> column_of(const Array<double>& a, Index column, Index columns) {
  Array<double> v(Shape{a.size() / columns});
  for (Index i = 0; i < v.size(); ++i) v.data()[i] = a.data()[i * columns + column];
  return v;
}

}  // namespace

struct Krylov::State {
  Law law;
  Shape shape;  // of the residual
  Index n = 0, columns = 1;
  double null_tolerance = 0, noise = 0;
  KrylovOptions options;
  std::size_t most_bytes = 0;
  autodiff::ProgressFunction progress;
  std::vector<Chain> chains;

  double rows() const { return static_cast<double>(n * columns); }
  Index most_products() const { return options.max_products ? std::min(options.max_products, n) : n; }
  bool may_extend(const Chain& c) const { return !c.complete() && c.products() < most_products() && c.bytes_of(c.products() + 2) <= most_bytes; }

  Ritz ritz(const Chain& c, Index m) const { return Ritz(c.steps(m), law, rows(), null_tolerance, noise); }
  void solve(Chain& c) const {
    c.ritz.emplace(ritz(c, c.size()));
    if (c.ritz->size() > 0) check_semidefinite(law.name(), c.ritz->smallest(), c.ritz->largest(), n, c.ritz->tolerance(), law.ridge);
  }
  // Two products at least, or the whole space.
  void begin(Chain& c) const {
    while (c.products() < 2 && !c.complete()) c.extend();
    if (!c.ritz || c.ritz->size() != c.size()) solve(c);
  }
  // To the tolerance, or to a hundredth of what rounding may do: that bound is generous, and going below it costs a few products.
  bool enough(const Chain& c, double t) const {
    const Errors e = c.ritz->errors(c.part, t);
    const double change = std::isinf(t) ? std::min(e.change, c.start()) : e.change;
    return e.outputs <= std::max(options.tolerance * change, e.outputs_rounding / 100) && std::min(e.weights, e.weights_estimate) <= std::max(options.tolerance * e.moved, e.weights_rounding / 100);
  }
  bool enough(const Chain& c, std::span<const double> times) const {
    return c.complete() || std::all_of(times.begin(), times.end(), [&](double t) { return enough(c, t); });
  }

  // As far as these times need. Checks come after every eighth part of the products so far, since the small eigenproblem costs their cube.
  bool advance(Chain& c, std::span<const double> times, Index most) const {
    begin(c);
    if (enough(c, times)) return true;
    ntk::Reporter reporter(law.name(), progress, "products", static_cast<std::size_t>(most_products()));
    while (may_extend(c) && c.products() < most) {
      for (Index stop = std::min(most, c.products() + std::max<Index>(1, c.products() / 8)); c.products() < stop && may_extend(c);) {
        c.extend();
        reporter.done();
        reporter.check();
      }
      solve(c);
      if (enough(c, times)) return true;
    }
    return false;
  }
  bool advance(std::span<const double> times, Index most) {
    bool all = true;
    for (Chain& c : chains) all = advance(c, times, most) && all;
    return all;
  }
  void advance(std::span<const double> times) { advance(times, std::numeric_limits<Index>::max()); }

  // Known to many digits after twenty products, long before other eigenvalues are.
  double largest() {
    double most = 0;
    for (Chain& c : chains) {
      begin(c);
      if (c.products() < 20 && may_extend(c)) {
        while (c.products() < 20 && may_extend(c)) c.extend();
        solve(c);
      }
      most = std::max(most, c.ritz->largest());
    }
    return most;
  }
  void check_times(const char* operation, std::span<const double> times) {
    for (const double t : times) {
      law.check_time(operation, t);
      if (std::isinf(t) && law.steps()) law.check_limit(largest(), n * columns, t);
    }
  }

  // Where no number of products was enough Galerkin's answer at infinity may be larger than any right one; that of the least residual is not.
  bool wants_least_residual(const Chain& c, double t) const { return std::isinf(t * law.rate) && law.shift(rows()) == 0 && !c.complete() && !enough(c, t); }

  Array<double> answer(const char* operation, std::span<const double> times, std::vector<double> Ritz::Answer::*which) {
    check_times(operation, times);
    advance(times);
    const auto count = static_cast<Index>(times.size());
    Array<double> result(Shape{n, count, columns});
    for (const Chain& c : chains) {
      if (c.start() == 0) continue;
      const Index m = c.size(), vectors = m + (c.complete() ? 0 : 1);
      Array<double> weights(Shape{vectors, count});
      for (Index k = 0; k < count; ++k) {
        const double t = times[static_cast<std::size_t>(k)];
        double residual = 0;
        const Ritz::Answer a = t == 0                       ? Ritz::Answer{std::vector<double>(static_cast<std::size_t>(m + 1)), std::vector<double>(static_cast<std::size_t>(m + 1))}
                               : wants_least_residual(c, t) ? c.ritz->least_residual(residual)
                                                            : c.ritz->answer(c.part, t);
        for (Index j = 0; j < vectors; ++j) weights.data()[j * count + k] = (a.*which)[static_cast<std::size_t>(j)];
      }
      const Array<double> part = c.combine(weights);
      for (Index i = 0; i < n; ++i)
        for (Index k = 0; k < count; ++k) result.data()[(i * count + k) * columns + c.column] += part.data()[i * count + k];
    }
    if (const Index bad = autodiff::first_not_finite<double>(result.values()); bad >= 0)
      fail<NumericalError>("{}: the answer of {} at t = {:.6g} with lambda_max = {:.6g} and rate {:.6g} has {} at {}; every value must be finite", operation, law.name(),
                           times[static_cast<std::size_t>(bad / columns % count)], largest(), law.rate, result.data()[bad],
                           autodiff::position(bad / (count * columns) * columns + bad % columns, shape));
    return result;
  }
};

template <Scalar T>
Krylov::Krylov(ntk::Symmetric<T> kernel, const Array<double>& residual, const Law& law, const Array<double>& pull, const KrylovOptions& options, double null_tolerance, double noise,
               autodiff::ProgressFunction progress) {
  const char* name = law.name();
  law.check();
  if (!(options.tolerance > 0 && options.tolerance < 1)) fail<NumericalError>("{}: the tolerance of KrylovOptions must be between 0 and 1, got {}", name, options.tolerance);
  if (options.max_products < 0 || options.max_products == 1) fail<NumericalError>("{}: KrylovOptions::max_products must be 0 or at least 2, got {}", name, options.max_products);
  if (residual.size() == 0) fail<ShapeError>("{}: there is nothing to train on: f0 - y is {}", name, residual.shape());
  const Index n = kernel.shape.size();
  if (residual.size() % std::max<Index>(n, 1) != 0 || n == 0) fail<ShapeError>("{}: products are with vectors {}, f0 - y is {}", name, kernel.shape, residual.shape());
  check_finite(name, "f0 - y", residual);
  auto s = std::make_shared<State>();
  s->law = law;
  s->shape = residual.shape();
  s->n = n;
  s->columns = residual.size() / n;
  s->null_tolerance = null_tolerance > 0 ? null_tolerance : predict::null_tolerance(n, 1, static_cast<double>(std::numeric_limits<T>::epsilon()));
  s->noise = noise > 0 ? noise : std::numeric_limits<double>::epsilon();
  s->options = options;
  s->progress = std::move(progress);
  const auto basis_of = [&](const Array<double>& start) { return std::make_shared<std::variant<Basis<float>, Basis<double>>>(Basis<T>(name, kernel, start, noise)); };
  for (Index j = 0; j < s->columns; ++j) s->chains.push_back({basis_of(column_of(residual, j, s->columns)), Part::residual, j});
  if (law.weight_decay > 0) {
    if (pull.shape() != residual.shape()) fail<ShapeError>("{}: weights decay, so A theta0 must have the shape {} of f0 - y, got {}", name, residual.shape(), pull.shape());
    check_finite(name, "A theta0", pull);
    for (Index j = 0; j < s->columns; ++j) s->chains.push_back({basis_of(column_of(pull, j, s->columns)), Part::pull, j});
  }
  std::size_t limit = options.max_memory;
  if (limit == 0) {
    const std::size_t left = ntk::memory_limit({});
    limit = left / 2;
  }
  s->most_bytes = limit / s->chains.size();
  if (s->chains[0].bytes_of(3) > s->most_bytes)
    fail<NumericalError>("{}: a basis takes {} for its first vectors, and there are {} for it (KrylovOptions::max_memory); allow more", name, autodiff::in_bytes(static_cast<double>(s->chains[0].bytes_of(3))),
                         autodiff::in_bytes(static_cast<double>(s->most_bytes)));
  state_ = std::move(s);
}
template Krylov::Krylov(ntk::Symmetric<float>, const Array<double>&, const Law&, const Array<double>&, const KrylovOptions&, double, double, autodiff::ProgressFunction);
template Krylov::Krylov(ntk::Symmetric<double>, const Array<double>&, const Law&, const Array<double>&, const KrylovOptions&, double, double, autodiff::ProgressFunction);

Krylov Krylov::with_ridge(double ridge) const {
  Krylov other(*this);
  other.state_ = std::make_shared<State>(*state_);
  other.state_->law.ridge = ridge;
  other.state_->law.check();
  for (Chain& c : other.state_->chains) c.ritz.reset();
  return other;
}

Array<double> Krylov::coefficients(std::span<const double> times) { return state_->answer("coefficients", times, &Ritz::Answer::coefficients); }
Array<double> Krylov::change(std::span<const double> times) { return state_->answer("train", times, &Ritz::Answer::change); }

Bounds Krylov::bounds(double t) {
  State& s = *state_;
  s.check_times("bounds", std::span(&t, 1));
  s.advance(std::span(&t, 1));
  Bounds b{.products = products()};
  double squares[2][4] = {};  // columns do not touch each other; both parts may
  for (const Chain& c : s.chains) {
    if (c.start() == 0 || t == 0) continue;
    Errors e = c.ritz->errors(c.part, t);
    b.converged = b.converged && (c.complete() || s.enough(c, t));
    if (s.wants_least_residual(c, t)) {
      const double per_output = e.outputs > 0 ? e.weights_estimate / e.outputs : 0;
      c.ritz->least_residual(e.outputs);
      e.weights = e.weights_estimate = per_output * e.outputs;
      e.weights_rigorous = false;
    }
    b.outputs_rigorous = b.outputs_rigorous && e.outputs_rigorous;
    b.weights_rigorous = b.weights_rigorous && e.weights_rigorous;
    const double all[4] = {e.outputs_in_all(), e.weights_in_all(), e.weights_estimate + e.weights_rounding, e.outputs_rounding};
    for (int i = 0; i < 4; ++i) squares[c.part == Part::pull][i] += all[i] * all[i];
  }
  const auto total = [&](int i) { return std::sqrt(squares[0][i]) + std::sqrt(squares[1][i]); };
  b.outputs = total(0), b.weights = total(1), b.weights_estimate = total(2), b.rounding = total(3);
  return b;
}

Array<double> Bounds::points(const Array<double>& diagonal) const {
  Array<double> result = diagonal;
  for (double& v : result) {
    if (!(std::isfinite(v) && v >= 0)) fail<NumericalError>("bounds: an entry of the kernel's diagonal is {}; it must be finite and not negative", v);
    v = std::sqrt(v) * weights;
  }
  return result;
}

double Krylov::lambda_max() { return state_->largest(); }
double Krylov::condition() {
  double most = 0, least = std::numeric_limits<double>::infinity();
  for (Chain& c : state_->chains) {
    state_->begin(c);
    if (c.ritz->kept() == 0) continue;
    most = std::max(most, c.ritz->largest_kept());
    least = std::min(least, c.ritz->smallest_kept());
  }
  return most > 0 ? most / least : 1;
}

Index Krylov::products() const {
  Index sum = 0;
  for (const Chain& c : state_->chains) sum += c.products();
  return sum;
}
std::size_t Krylov::bytes() const {
  std::size_t sum = 0;
  for (const Chain& c : state_->chains) sum += c.bytes();
  return sum;
}

bool Krylov::advance(double t, Index most) {
  state_->check_times("advance", std::span(&t, 1));
  return state_->advance(std::span(&t, 1), most);
}

// From the bounds of half of the steps and of all; never more than Chebyshev's polynomials need, sqrt(t lambda_max log(2 / tolerance)).
double Krylov::products_predicted(double t) {
  State& s = *state_;
  double most = 0;
  for (Chain& c : s.chains) {
    s.begin(c);
    if (s.enough(c, std::span(&t, 1))) continue;
    const Index m = c.size();
    const auto ratio = [&](const Errors& e) { return e.outputs / (s.options.tolerance * std::max(e.change, std::numeric_limits<double>::min())); };
    const double now = ratio(c.ritz->errors(c.part, t)), half = ratio(s.ritz(c, std::max<Index>(1, m / 2)).errors(c.part, t));
    const double slope = std::log(half / now) / static_cast<double>(m - std::max<Index>(1, m / 2));
    const double steps = slope > 0 ? static_cast<double>(m) + std::log(now) / slope : std::numeric_limits<double>::infinity();
    most = std::max(most, std::min(steps, std::sqrt(t * s.law.rate / s.rows() * (c.ritz->largest() + s.law.shift(s.rows())) * std::log(2 / s.options.tolerance))));
  }
  return most;
}

}  // namespace linnet::predict
