// What the tests of layers share: running one, comparing arrays, and the text of what it throws.
#pragma once

#include "linnet/autodiff/derivative.h"
#include "linnet/nn/nn.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

using namespace linnet;
using autodiff::Array;
using autodiff::Index;
using autodiff::NumericalError;
using autodiff::Shape;
using autodiff::ShapeError;
using autodiff::StructureError;
using autodiff::Tree;
using autodiff::Var;
using nn::Key;

template <class T> using Params = Tree<Array<T>>;

template <class T> Array<T> run(const nn::Layer& layer, const Params<T>& params, const Array<T>& x, const nn::Context& context = {}) {
  const auto f = nn::function_of(layer, context);
  return compile(f, params, x)(params, x);
}

template <class T> double tolerance() { return 20 * std::numeric_limits<T>::epsilon(); }

template <class T> void check_close(const Array<T>& came, const Array<double>& expected, double tolerance) {
  REQUIRE(came.shape() == expected.shape());
  const double scale = std::max(1., max_abs(expected));
  for (Index i = 0; i < came.size(); ++i) {
    CAPTURE(i);
    CHECK(std::abs(came.data()[i] - expected.data()[i]) <= tolerance * scale);
  }
}

// An elementwise layer against its function, and its slope against differences of that; at element `flat` the slope is 0.
template <class T, class F> void check_elementwise(const nn::Layer& layer, const F& f, const Array<T>& x, Index flat = -1) {
  CAPTURE(layer.name);
  const auto map = autodiff::linearize([&](const Var& v) { return layer.apply({}, v, {}).leaf(); }, x);
  Array<double> y(x.shape()), slope(x.shape());
  for (Index i = 0; i < x.size(); ++i) {
    const double at = x.data()[i], h = 1e-3;
    y.data()[i] = f(at);
    slope.data()[i] = i == flat ? 0 : (8 * (f(at + h) - f(at - h)) - (f(at + 2 * h) - f(at - 2 * h))) / (12 * h);
  }
  check_close(map.value(), y, tolerance<T>());
  check_close(map.jvp(Array<T>(x.shape(), T(1))), slope, sizeof(T) == 4 ? 1e-5 : 1e-9);
}

// What apply throws when it is traced with parameters and inputs of these shapes, and what initialize throws.
template <class Error> std::string error_of(const nn::Layer& layer, const Params<double>& params, const Shape& x, const nn::Context& context = {}) {
  try {
    compile(nn::function_of(layer, context), params, Array<double>(x));
  } catch (const Error& e) {
    return e.what();
  }
  return "nothing was thrown";
}
template <class Error> std::string init_error_of(const nn::Layer& layer, const Shape& x) {
  try {
    nn::initialize<double>(layer, Key(0), x);
  } catch (const Error& e) {
    return e.what();
  }
  return "nothing was thrown";
}

// That equal keys give the parameters and, on the sine of 0, 1, 2, …, the outputs of neural-tangents, as make_random.py prints them.
template <class T> void check_draws(const nn::Layer& layer, const Shape& x, const std::vector<std::vector<double>>& expected, const std::vector<double>& output) {
  const auto params = nn::initialize<T>(layer, Key(5), x);
  const auto leaves = params.leaves();
  const double bar = sizeof(T) == 4 ? 2e-5 : 1e-11;
  REQUIRE(leaves.size() == expected.size());
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    CAPTURE(i);
    REQUIRE(leaves[i]->size() == static_cast<Index>(expected[i].size()));
    for (std::size_t j = 0; j < expected[i].size(); ++j) CHECK(std::abs(leaves[i]->data()[j] - expected[i][j]) <= bar * std::abs(expected[i][j]));
  }
  Array<T> in(x);
  for (Index i = 0; i < in.size(); ++i) in.data()[i] = static_cast<T>(std::sin(static_cast<double>(i)));
  const Array<T> y = run(layer, params, in);
  REQUIRE(y.size() == static_cast<Index>(output.size()));
  check_close(y, Array<double>(y.shape(), output), bar);
}
