// Linear least-squares problems whose Jacobian is explicit, for the tests of predict: the eight kinds of kernels the dynamics must be right for, and
// plain loops to check against.
#pragma once

#include "linnet/autodiff/array.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace problem {

using linnet::autodiff::Array;
using linnet::autodiff::Index;
using linnet::autodiff::Shape;

constexpr double infinity = std::numeric_limits<double>::infinity();

// 17 times over 38 decades.
inline const std::vector<double> times = {1e-12, 1e-9, 1e-6, 1e-4, 1e-2, 1e-1, 1, 10, 1e2, 1e3, 1e4, 1e6, 1e8, 1e12, 1e16, 1e20, 1e26};

// Numbers in [-1, 1), the same everywhere.
class Draw {
 public:
  explicit Draw(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15u + 1) {}
  double operator()() {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-52 - 1;
  }
  Array<double> array(Shape shape) {
    Array<double> a(shape);
    for (double& v : a) v = (*this)();
    return a;
  }

 private:
  std::uint64_t state_;
};

inline Array<double> transposed(const Array<double>& a) {
  Array<double> t(Shape{a.shape()[1], a.shape()[0]});
  for (Index i = 0; i < a.shape()[0]; ++i)
    for (Index j = 0; j < a.shape()[1]; ++j) t[{j, i}] = a[{i, j}];
  return t;
}

// a b, b a vector or a matrix, summed in long double.
inline Array<double> product(const Array<double>& a, const Array<double>& b) {
  const Index m = a.shape()[0], k = a.shape()[1], n = b.shape().size(1, b.shape().rank());
  Array<double> c(b.shape().with(0, m));
  for (Index i = 0; i < m; ++i)
    for (Index j = 0; j < n; ++j) {
      long double sum = 0;
      for (Index l = 0; l < k; ++l) sum += static_cast<long double>(a.data()[i * k + l]) * b.data()[l * n + j];
      c.data()[i * n + j] = static_cast<double>(sum);
    }
  return c;
}

// [rows, columns] with orthonormal columns.
inline Array<double> orthonormal(Index rows, Index columns, Draw& draw) {
  Array<double> q = draw.array(Shape{columns, rows});  // as rows first
  for (Index i = 0; i < columns; ++i) {
    double* v = q.data() + i * rows;
    for (int pass = 0; pass < 3; ++pass) {
      for (Index j = 0; j < i; ++j) {
        const double* w = q.data() + j * rows;
        long double inner = 0;
        for (Index l = 0; l < rows; ++l) inner += static_cast<long double>(v[l]) * w[l];
        for (Index l = 0; l < rows; ++l) v[l] -= static_cast<double>(inner) * w[l];
      }
      long double square = 0;
      for (Index l = 0; l < rows; ++l) square += static_cast<long double>(v[l]) * v[l];
      for (Index l = 0; l < rows; ++l) v[l] = static_cast<double>(v[l] / std::sqrt(square));
    }
  }
  return transposed(q);
}

struct Problem {
  std::string name;
  Array<double> a, a_test = {};                 // Jacobians [N, P] and [M, P]
  Array<double> f0 = {}, f0_test = {}, y = {};  // [N], [M], [N]
  Array<double> theta0 = {};                    // [P]; f0 = a theta0
  Array<double> u = {}, s = {}, v = {};         // a = u diag(s) v^T where it was made so
  Index n() const { return a.shape()[0]; }
  Index p() const { return a.shape()[1]; }
  Array<double> kernel() const { return product(a, transposed(a)); }
  Array<double> kernel_test() const { return product(a_test, transposed(a)); }
};

inline Problem of(std::string name, Array<double> a, Draw& draw) {
  Problem p{.name = std::move(name), .a = std::move(a)};
  p.theta0 = draw.array(Shape{p.p()});
  p.a_test = draw.array(Shape{7, p.p()});
  p.y = draw.array(Shape{p.n()});
  p.f0 = product(p.a, p.theta0);
  p.f0_test = product(p.a_test, p.theta0);
  return p;
}

// The singular values fall geometrically from 1, so that the kernel's condition is `condition`.
inline Problem conditioned(std::string name, Index n, Index p, Index rank, double condition, Draw& draw) {
  const Array<double> u = orthonormal(n, rank, draw), v = orthonormal(p, rank, draw);
  Array<double> s(Shape{rank}), us = u;
  for (Index i = 0; i < rank; ++i) s.data()[i] = std::pow(condition, -0.5 * static_cast<double>(i) / static_cast<double>(rank - 1));
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < rank; ++j) us[{i, j}] *= s.data()[j];
  Problem made = of(std::move(name), product(us, transposed(v)), draw);
  made.u = u;
  made.s = s;
  made.v = v;
  return made;
}

inline std::vector<Problem> eight(std::uint64_t seed = 1) {
  Draw draw(seed);
  std::vector<Problem> all;
  all.push_back(conditioned("well conditioned", 24, 40, 24, 10, draw));
  all.push_back(conditioned("condition 1e4", 24, 40, 24, 1e4, draw));
  all.push_back(conditioned("condition 1e8", 24, 40, 24, 1e8, draw));
  all.push_back(conditioned("condition 1e12", 24, 40, 24, 1e12, draw));
  Array<double> a = draw.array(Shape{24, 40});
  for (Index j = 0; j < 40; ++j) {
    a[{3, j}] = a[{10, j}];
    a[{5, j}] = a[{17, j}];
  }
  all.push_back(of("duplicated rows", std::move(a), draw));
  a = draw.array(Shape{24, 40});
  for (Index j = 0; j < 40; ++j) a[{6, j}] = 0;
  all.push_back(of("a zero row", std::move(a), draw));
  all.push_back(conditioned("rank N/2", 24, 40, 12, 100, draw));
  all.push_back(of("more rows than parameters", draw.array(Shape{24, 9}), draw));
  return all;
}

inline double bound(double condition) { return std::max(1e-12, 10 * std::numeric_limits<double>::epsilon() * condition); }

// The largest difference, relative to the largest entry of b or 1.
inline double difference(const Array<double>& a, const Array<double>& b) { return max_abs(a - b) / std::max(1.0, max_abs(b)); }

}  // namespace problem
