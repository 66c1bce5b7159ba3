// evidence.h. One program answers the value, its gradient, and what says whether the factor can be trusted: the factor is shared by all of them, since equal
// instructions are one.
#include "linnet/predict/evidence.h"

#include "linnet/autodiff/finite.h"
#include "linnet/autodiff/ops.h"
#include "linnet/ntk/parts.h"
#include "linnet/predict/spectral.h"
#include "linnet/predict/spectrum.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <optional>

namespace linnet::predict {

using autodiff::ArrayView;
using autodiff::cast;
using autodiff::check_finite;
using autodiff::fail;
using autodiff::FlatFunction;
using autodiff::FlatLinearMap;
using autodiff::NumericalError;
using autodiff::Shape;
using autodiff::ShapeError;
using autodiff::StructureError;
using autodiff::Views;

namespace {

constexpr const char* operation = "evidence";

// Inputs of all programs here: logs, kernels, residual.
std::vector<Var> value(std::span<const Var> in) { return {log_evidence(layered_covariance(in[1], in[0]), in[2])}; }
std::pair<Var, Var> derived(std::span<const Var> in) {
  return autodiff::value_and_grad([&](const Var& logs) { return value(std::array{logs, in[1], in[2]})[0]; }, in[0]);
}
// What a factor of C is judged by: the diagonals of C and of the factor.
void add_diagonals(std::span<const Var> in, std::vector<Var>& out) {
  const Var covariance = layered_covariance(in[1], in[0]);
  out.push_back(diagonal(covariance));
  out.push_back(diagonal(cholesky(covariance)));
}

}  // namespace

Var layered_covariance(const Var& kernels, const Var& logs) {
  const Shape k = kernels.shape(), s = logs.shape();
  if (k.rank() != 3 || k[1] != k[2] || s != Shape{k[0] + 1})
    fail<ShapeError>("layered_covariance: kernels [L,N,N] and logs [L + 1], one for each of them and one for the noise, are needed, got {} and {}", k, s);
  const Var variances = exp(2.0 * logs);
  const Index layers = k[0], n = k[1];
  const Var kernel = contract(slice(variances, 0, 0, layers), {0}, kernels, {0});
  // n numbers on a diagonal: in rows of n + 1 it is the first column.
  const Var column = broadcast(slice(variances, 0, layers, 1), 0, Shape{n});
  return kernel + reshape(slice(reshape(pad(column, 1, 0, n), Shape{n * (n + 1)}), 0, 0, n * n), Shape{n, n});
}

Var log_evidence(const Var& covariance, const Var& residual) {
  const Shape c = covariance.shape(), r = residual.shape();
  if (c.rank() != 2 || c[0] != c[1] || r.rank() < 1 || r.rank() > 2 || r[0] != c[0])
    fail<ShapeError>("log_evidence: a covariance [N,N] and a residual [N] or [N,k] are needed, got {} and {}", c, r);
  const double rows = static_cast<double>(c[0]), columns = r.rank() == 2 ? static_cast<double>(r[1]) : 1;
  const Var factor = cholesky(covariance), whitened = triangular_solve(factor, residual);
  return -0.5 * sum(square(whitened)) - columns * sum(log(diagonal(factor))) - 0.5 * rows * columns * std::log(2 * std::numbers::pi);
}

struct Evidence::State {
  std::vector<std::string> names;
  Array<double> kernels, residual;  // [L, N, N], [N, k]
  double epsilon;                   // of the type the kernels came in
  std::optional<FlatFunction<double>> value_only = {}, with_gradient = {};  // planned when first asked for

  Index layers() const { return kernels.shape()[0]; }
  Index rows() const { return kernels.shape()[1]; }
  std::vector<Shape> shapes() const { return {Shape{layers() + 1}, kernels.shape(), residual.shape()}; }
  const FlatFunction<double>& plain() {
    if (!value_only)
      value_only.emplace([](std::span<const Var> in) {
        std::vector<Var> out = value(in);
        add_diagonals(in, out);
        return out;
      }, shapes());
    return *value_only;
  }
  const FlatFunction<double>& gradient() {
    if (!with_gradient)
      with_gradient.emplace([](std::span<const Var> in) {
        const auto [value, gradient] = derived(in);
        std::vector<Var> out{value, gradient};
        add_diagonals(in, out);
        return out;
      }, shapes());
    return *with_gradient;
  }
  void check(const Array<double>& logs) const;
  std::vector<Array<double>> run(const FlatFunction<double>& function, const Array<double>& logs) const;
};

void Evidence::State::check(const Array<double>& logs) const {
  if (logs.shape() != Shape{layers() + 1})
    fail<ShapeError>("{}: the logs are {}, there are {} layers and the noise; give {}", operation, logs.shape(), layers(), Shape{layers() + 1});
  for (Index i = 0; i <= layers(); ++i)
    if (!std::isfinite(logs.data()[i]) || !std::isfinite(std::exp(2 * logs.data()[i])))
      fail<NumericalError>("{}: the log of '{}' is {}; it must be finite, and exp(2 log) too", operation, names[static_cast<std::size_t>(i)], logs.data()[i]);
}

// Answers what the function does, without the diagonals.
std::vector<Array<double>> Evidence::State::run(const FlatFunction<double>& function, const Array<double>& logs) const {
  check(logs);
  const double noise = std::exp(logs.data()[layers()]);
  std::vector<Array<double>> out;
  try {
    out = function(Views<double>{logs, kernels, residual});
  } catch (const NumericalError& error) {
    fail<NumericalError>("{}: sum s_l^2 K_l + s^2 of {} rows is not positive definite with noise s = {:.6g} ({}); raise the noise, or correct the kernels", operation, rows(), noise, error.what());
  }
  const Array<double> factor = std::move(out.back());
  out.pop_back();
  const double rounding = null_tolerance(rows(), max_abs(out.back()), epsilon);
  out.pop_back();
  for (Index i = 0; i < rows(); ++i)
    if (const double pivot = factor.data()[i] * factor.data()[i]; !(pivot > rounding))
      fail<NumericalError>("{}: sum s_l^2 K_l + s^2 of {} rows is singular to rounding with noise s = {:.6g}: pivot {} is {:.3g}, where rounding explains {:.3g}, so the targets have no density; "
                           "raise the noise, or leave out that row, which follows from those before it",
                           operation, rows(), noise, i, pivot, rounding);
  check_finite(operation, "the value", out[0]);
  if (out.size() > 1) check_finite(operation, "the gradient", out[1]);
  return out;
}

Array<double> Evidence::logs(std::span<const double> scales, double noise) const {
  const Index layers = state_->layers();
  if (static_cast<Index>(scales.size()) != layers) fail<ShapeError>("{}: {} scales came, there are {} layers; give one for each", operation, scales.size(), layers);
  Array<double> logs(Shape{layers + 1});
  for (Index i = 0; i <= layers; ++i) {
    const double s = i < layers ? scales[static_cast<std::size_t>(i)] : noise;
    if (!(s > 0 && std::isfinite(s)))
      fail<NumericalError>("{}: the standard deviation of '{}' must be positive and finite, got {}{}", operation, state_->names[static_cast<std::size_t>(i)], s,
                           s == 0 && i < layers ? "; leave out a layer that is not trained" : "");
    logs.data()[i] = std::log(s);
  }
  return logs;
}
const std::vector<std::string>& Evidence::names() const { return state_->names; }
Index Evidence::rows() const { return state_->rows(); }
const autodiff::Program& Evidence::program() const { return state_->gradient().program(); }

double Evidence::operator()(const Array<double>& logs) const { return state_->run(state_->plain(), logs)[0].item(); }

std::pair<double, Array<double>> Evidence::value_and_grad(const Array<double>& logs) const {
  std::vector<Array<double>> out = state_->run(state_->gradient(), logs);
  return {out[0].item(), std::move(out[1])};
}

Array<double> Evidence::hessian(const Array<double>& logs) const {
  const State& s = *state_;
  s.run(state_->plain(), logs);  // refuses what it must
  const Index n = logs.size();
  const FlatLinearMap<double> gradient([](std::span<const Var> in) { return std::vector<Var>{derived(in).second}; }, Views<double>{logs}, Views<double>{s.kernels, s.residual});
  Array<double> all(Shape{n, n});
  for (Index i = 0; i < n; ++i) {
    Array<double> unit(Shape{n});
    unit.data()[i] = 1;
    const Array<double> row = std::move(gradient.jvp(Views<double>{unit}, -1)[0]);
    std::copy(row.begin(), row.end(), all.data() + i * n);
  }
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < i; ++j) all.data()[i * n + j] = all.data()[j * n + i] = all.data()[i * n + j] / 2 + all.data()[j * n + i] / 2;
  check_finite(operation, "the Hessian", all);
  return all;
}

// ---- what it is made of

namespace {

// `columns`: those of the residual that have one kernel.
template <class Kernel, Scalar T> Evidence made(const Tree<Kernel>& tree, const Array<T>& (*matrix)(const Kernel&), const Array<double>& residual, Index columns, double epsilon) {
  const std::vector<const Kernel*> all = tree.leaves();
  if (all.empty()) fail<StructureError>("{}: there are no kernels; give at least one", operation);
  std::vector<std::string> names = tree.paths();
  if (names[0].empty()) names[0] = "kernel";
  const Index n = columns > 0 ? residual.size() / columns : 0;
  if (n == 0) fail<ShapeError>("{}: y is {}; there must be at least one example and one output", operation, residual.shape());
  Array<double> kernels = Array<double>::uninitialized(Shape{static_cast<Index>(all.size()), n, n});
  for (std::size_t l = 0; l < all.size(); ++l) {
    const Array<T>& kernel = matrix(*all[l]);
    if (kernel.shape() != Shape{n, n}) fail<ShapeError>("{}: the kernel of '{}' is {}, beside y {} it must be {}", operation, names[l], kernel.shape(), residual.shape(), Shape{n, n});
    const Array<double> checked = checked_kernel(fmt::format("{}: '{}'", operation, names[l]).c_str(), kernel);
    std::copy(checked.begin(), checked.end(), kernels.data() + static_cast<Index>(l) * n * n);
  }
  names.emplace_back("noise");
  return Evidence(std::make_shared<Evidence::State>(Evidence::State{std::move(names), std::move(kernels), residual.reshaped(Shape{n, columns}), epsilon}));
}

template <Scalar T> Array<double> residual_of(const Array<T>& f0, const Array<T>& y) {
  if (f0.shape() != y.shape()) fail<ShapeError>("{}: f0 is {} and y is {}; they must be of one shape", operation, f0.shape(), y.shape());
  check_finite(operation, "f0", f0);
  check_finite(operation, "y", y);
  return cast<double>(y) - cast<double>(f0);
}
template <Scalar T> Index columns_of(const Array<T>& y) { return y.shape().rank() > 0 && y.shape()[0] > 0 ? y.size() / y.shape()[0] : 0; }
template <Scalar T> constexpr double epsilon_of = static_cast<double>(std::numeric_limits<T>::epsilon());

}  // namespace

template <Scalar T> Evidence evidence(const Tree<ntk::FullKernel<T>>& kernels, const Array<T>& f0, const Array<T>& y) {
  return made<ntk::FullKernel<T>, T>(kernels, [](const ntk::FullKernel<T>& k) -> const Array<T>& { return k.matrix(); }, residual_of(f0, y), 1, epsilon_of<T>);
}

template <Scalar T> Evidence evidence(const Tree<TraceApproximation<T>>& kernels, const Array<T>& f0, const Array<T>& y) {
  const Array<double> residual = residual_of(f0, y);
  const Index columns = columns_of(y);
  kernels.visit([&](const std::string& path, const TraceApproximation<T>& k) {
    if (k.outputs != columns) fail<ShapeError>("{}: the kernel of '{}' is of {} outputs, y {} has {}", operation, path.empty() ? "kernel" : path, k.outputs, y.shape(), columns);
  });
  return made<TraceApproximation<T>, T>(kernels, [](const TraceApproximation<T>& k) -> const Array<T>& { return k.kernel; }, residual, columns, epsilon_of<T>);
}

template <Scalar T> Evidence evidence(const Tree<Array<T>>& kernels, const Array<T>& y) {
  check_finite(operation, "y", y);
  return made<Array<T>, T>(kernels, [](const Array<T>& k) -> const Array<T>& { return k; }, cast<double>(y), columns_of(y), epsilon_of<T>);
}

template <Scalar T> Evidence evidence(const ntk::Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Array<T>& y, const ntk::Options& options) {
  const Tree<Array<double>> start = map([](const Array<T>& leaf) { return cast<double>(leaf); }, params);
  const Array<double> wide = cast<double>(x);
  if (x.shape().rank() == 0 || x.size() == 0) fail<ShapeError>("{}: x is {}; there must be at least one example", operation, x.shape());
  const Array<double> f0 = autodiff::compile(f, start, wide)(start, wide);
  if (y.shape() != f0.shape()) fail<ShapeError>("{}: y is {}, the outputs f(params, x) it is the target of are {}; reshape y to that", operation, y.shape(), f0.shape());
  return evidence(ntk::full_by_layer(f, start, wide, options), f0, cast<double>(y));
}

#define LINNET_INSTANTIATE(T)                                                                                                         \
  template Evidence evidence(const Tree<ntk::FullKernel<T>>&, const Array<T>&, const Array<T>&);                                      \
  template Evidence evidence(const Tree<TraceApproximation<T>>&, const Array<T>&, const Array<T>&);                                   \
  template Evidence evidence(const Tree<Array<T>>&, const Array<T>&);                                                                 \
  template Evidence evidence(const ntk::Apply&, const Tree<Array<T>>&, const Array<T>&, const Array<T>&, const ntk::Options&);
LINNET_INSTANTIATE(float)
LINNET_INSTANTIATE(double)

}  // namespace linnet::predict
