// Networks for the tests of ntk: drawn ones of layers, and ones by hand for every way a parameter can be used. All numbers are exact in float, so that
// both widths are held against one explicit Jacobian in double, contracted by plain loops.
#pragma once

#include "linnet/autodiff/ops.h"
#include "linnet/nn/layer.h"
#include "linnet/ntk/ntk.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace networks {

using linnet::autodiff::Array;
using linnet::autodiff::Index;
using linnet::autodiff::Scalar;
using linnet::autodiff::Shape;
using linnet::autodiff::Tree;
using linnet::autodiff::Var;
namespace nn = linnet::nn;
namespace ntk = linnet::ntk;

// ---- numbers

// In [-1, 1), the same everywhere.
class Draw {
 public:
  explicit Draw(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15u + 1) {}
  double operator()() { return static_cast<double>(bits() >> 40) * 0x1p-23 - 1; }
  Index below(Index n) { return static_cast<Index>(bits() % static_cast<std::uint64_t>(n)); }
  Array<double> array(const Shape& shape) {
    Array<double> a(shape);
    for (double& v : a) v = (*this)();
    return a;
  }

 private:
  std::uint64_t bits() {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  std::uint64_t state_;
};

struct Network {
  std::string name;
  ntk::Apply f;
  Tree<Array<double>> params;
  Shape example;         // of one, without the leading axis
  Index vocabulary = 0;  // not 0: x holds whole numbers below it
};

inline Network network(std::string name, const Shape& example, std::vector<std::pair<std::string, Shape>> params, ntk::Apply f, Index vocabulary = 0) {
  std::uint64_t seed = 0;
  for (const char c : name) seed = 31 * seed + static_cast<unsigned char>(c);
  Draw draw(seed);
  std::vector<Tree<Array<double>>::Child> children;
  for (auto& [child, shape] : params) children.emplace_back(child, draw.array(shape));
  return {std::move(name), std::move(f), Tree<Array<double>>(std::move(children)), example, vocabulary};
}

inline Array<double> examples(const Network& net, Index n, std::uint64_t seed) {
  Draw draw(seed);
  Array<double> x(net.example.inserted(0, std::array{n}));
  for (double& v : x) v = net.vocabulary ? static_cast<double>(draw.below(net.vocabulary)) : draw();
  return x;
}

template <Scalar T> Tree<Array<T>> as(const Tree<Array<double>>& tree) {
  return map([](const Array<double>& a) { return linnet::autodiff::cast<T>(a); }, tree);
}
template <Scalar T> Array<T> as(const Array<double>& a) { return linnet::autodiff::cast<T>(a); }

// One set of examples behind the other.
template <Scalar T> Array<T> joined(const Array<T>& a, const Array<T>& b) {
  Array<T> all(a.shape().with(0, a.shape()[0] + b.shape()[0]));
  std::copy(b.begin(), b.end(), std::copy(a.begin(), a.end(), all.begin()));
  return all;
}

// ---- the reference

// d f(params, x) / d params, [examples times outputs, parameters].
inline Array<double> jacobian(const Network& net, const Array<double>& x) {
  return linnet::autodiff::jacobian([&](const Tree<Var>& p, const Var& v) { return net.f(p, v); }, net.params, x);
}

// a b^T.
inline Array<double> outer(const Array<double>& a, const Array<double>& b) {
  const Index m = a.shape()[0], n = b.shape()[0], k = a.shape()[1];
  Array<double> c({m, n}), columns({k, n});
  for (Index j = 0; j < n; ++j)
    for (Index l = 0; l < k; ++l) columns.data()[l * n + j] = b.data()[j * k + l];
  for (Index i = 0; i < m; ++i) {
    double* const row = c.data() + i * n;
    for (Index l = 0; l < k; ++l) {
      const double v = a.data()[i * k + l];
      const double* const with = columns.data() + l * n;
      for (Index j = 0; j < n; ++j) row[j] += v * with[j];
    }
  }
  return c;
}

// Rows [i, i + m) and columns [j, j + n).
inline Array<double> block(const Array<double>& a, Index i, Index m, Index j, Index n) {
  Array<double> c({m, n});
  for (Index r = 0; r < m; ++r) std::copy_n(a.data() + (i + r) * a.shape()[1] + j, n, c.data() + r * n);
  return c;
}

// The trace of every block of outputs.
inline Array<double> traced(const Array<double>& a, Index outputs) {
  const Index m = a.shape()[0] / outputs, n = a.shape()[1] / outputs;
  Array<double> c({m, n});
  for (Index i = 0; i < m; ++i)
    for (Index j = 0; j < n; ++j)
      for (Index o = 0; o < outputs; ++o) c.data()[i * n + j] += a.data()[(i * outputs + o) * n * outputs + j * outputs + o];
  return c;
}

// The largest difference relative to the largest entry; infinite if the shapes differ or anything is NaN.
template <Scalar T> double difference(const Array<T>& came, const Array<double>& expected) {
  if (came.shape() != expected.shape()) return INFINITY;
  double largest = 0, scale = 0;
  for (Index i = 0; i < came.size(); ++i) {
    const double d = std::abs(static_cast<double>(came.data()[i]) - expected.data()[i]);
    if (!(d <= largest)) largest = std::isnan(d) ? INFINITY : d;
    scale = std::max(scale, std::abs(expected.data()[i]));
  }
  return largest == 0 ? 0 : largest / scale;
}
template <Scalar T> constexpr double tolerance() { return sizeof(T) == 8 ? 1e-12 : 1e-5; }

template <Scalar T> bool symmetric(const Array<T>& k) {
  for (Index i = 0; i < k.shape()[0]; ++i)
    for (Index j = 0; j < i; ++j)
      if (k[{i, j}] != k[{j, i}]) return false;
  return true;
}

// What f throws: the text, or that it threw nothing or something else.
template <class Error, class F> std::string message(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  } catch (const std::exception& e) {
    return std::string("another error: ") + e.what();
  }
  return "no error";
}

// ---- networks of layers

inline Network of_layers(std::string name, const nn::Layer& layer, const Shape& example, std::uint64_t seed = 0) {
  const Tree<Array<float>> params = nn::initialize<float>(layer, nn::Key(seed), example.inserted(0, std::array{Index(1)}));
  return {std::move(name), nn::function_of(layer), map([](const Array<float>& a) { return linnet::autodiff::cast<double>(a); }, params), example};
}

// Hidden layers of these widths.
inline Network mlp(Index in, const std::vector<Index>& widths, Index outputs) {
  std::vector<nn::Layer> layers;
  for (const Index w : widths) {
    layers.push_back(nn::Dense(w, {1.5, 0.3}));
    layers.push_back(nn::Erf());
  }
  layers.push_back(nn::Dense(outputs, {1.5, 0.3}));
  return of_layers("mlp with " + std::to_string(outputs) + " outputs", nn::serial(std::move(layers)), {in});
}

inline nn::Layer drawn_activation(Draw& draw) {
  switch (draw.below(12)) {
    case 0: return nn::Erf();
    case 1: return nn::Relu();
    case 2: return nn::Tanh();
    case 3: return nn::Gelu();
    case 4: return nn::Sin(0.7, 1.3, 0.1);
    case 5: return nn::Cos();
    case 6: return nn::LeakyRelu(0.1);
    case 7: return nn::Abs();
    case 8: return nn::Rbf(0.5);
    case 9: return nn::Gaussian();
    case 10: return nn::Sigmoid_like();
    default: return nn::identity();
  }
}

inline nn::Layer drawn_dense(Draw& draw, Index width) {
  nn::DenseOptions options{0.8 + 0.5 * draw(), std::nullopt, draw.below(2) ? nn::Parameterization::ntk : nn::Parameterization::standard};
  if (draw.below(3)) options.b_std = 0.5;
  return nn::Dense(width, options);
}

inline nn::Layer drawn_branches(Draw& draw, Index width) {
  const Index n = 2 + draw.below(2);
  std::vector<nn::Layer> branches;
  for (Index i = 0; i < n; ++i) branches.push_back(i == 0 ? nn::identity() : nn::serial({drawn_activation(draw), drawn_dense(draw, width)}));
  return nn::serial({nn::fan_out(n), nn::parallel(std::move(branches)), nn::fan_in_sum()});
}

// Depth, widths, activations, branches, biases, parameterization, positions and outputs drawn by the seed.
inline Network drawn(std::uint64_t seed) {
  Draw draw(seed + 100);
  const Index depth = draw.below(4), positions = draw.below(3) == 0 ? 1 + draw.below(4) : 0, in = 1 + draw.below(6);
  constexpr Index outputs[] = {1, 2, 3, 5, 10};
  std::vector<nn::Layer> layers;
  for (Index l = 0; l < depth; ++l) {
    const Index width = 1 + draw.below(9);
    layers.push_back(drawn_dense(draw, width));
    if (draw.below(3) == 0) layers.push_back(drawn_branches(draw, width));
    layers.push_back(drawn_activation(draw));
  }
  const bool flat = positions && draw.below(2);
  if (flat) layers.push_back(nn::flatten());
  layers.push_back(drawn_dense(draw, positions && !flat ? 1 + draw.below(3) : outputs[draw.below(5)]));
  return of_layers("drawn " + std::to_string(seed), nn::serial(std::move(layers)), positions ? Shape{positions, in} : Shape{in}, seed);
}

}  // namespace networks
