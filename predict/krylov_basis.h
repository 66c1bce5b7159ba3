// Lanczos' method from one starting vector with full reorthogonalization, its basis kept: K V = V T + h v e^T, with T tridiagonal and v the next vector. Not
// installed; krylov.cpp uses it. Golub & Van Loan, Matrix Computations, 4th ed., 10.3.
#pragma once

#include "linnet/ntk/lanczos.h"

#include <algorithm>
#include <vector>

namespace linnet::predict {

using autodiff::Array;
using autodiff::Buffer;
using autodiff::Index;
using autodiff::Scalar;

// Products and the basis are in T, T's entries in double. Vectors lie in tiles of so many of them times so many rows, which are the items for threads; sums over
// rows are made tile by tile in a fixed order, and so the bits do not depend on threads.
template <Scalar T> class Basis {
 public:
  // noise: of a product, relative to the largest eigenvalue. operation is named in errors.
  Basis(const char* operation, ntk::Symmetric<T> kernel, const Array<double>& start, double noise);

  double start() const { return start_; }  // |start|; of 0 there is no basis
  Index products() const { return static_cast<Index>(diagonal_.size()); }
  bool complete() const { return complete_; }                        // nothing is left: the space is mapped to itself, to rounding
  const std::vector<double>& diagonal() const { return diagonal_; }  // v_i.K v_i of every product
  const std::vector<double>& beside() const { return beside_; }      // |what was new of a product|; 0 of the last one where it is complete
  std::size_t bytes() const { return tiles_.size() * tile_bytes(); }
  std::size_t bytes_of(Index vectors) const { return static_cast<std::size_t>((vectors + high - 1) / high) * tile_bytes(); }

  // Multiplies the last vector, and appends what is new. NumericalError: a product that is not finite, or not of a symmetric matrix; ShapeError: of another shape.
  void extend();
  // The vectors times weights [vectors, columns], of as many vectors as there are weights: [rows, columns].
  Array<double> combine(const Array<double>& weights) const;

 private:
  static constexpr Index high = 32, wide = 4096;  // of a tile: constants of the build
  std::size_t tile_bytes() const { return static_cast<std::size_t>(high * n_) * sizeof(T); }
  Index pieces() const { return (n_ + wide - 1) / wide; }
  Index width(Index piece) const { return std::min(wide, n_ - piece * wide); }
  const T* tile(Index block, Index piece) const { return tiles_[static_cast<std::size_t>(block)].data() + high * piece * wide; }
  Array<T> vector(Index i) const;
  void append(const Array<T>& z, double norm);
  std::vector<double> project(const Array<T>& z) const;            // V^T z
  void subtract(const std::vector<double>& h, Array<T>& z) const;  // z -= V h
  static double dot(const Array<T>& a, const Array<T>& b);
  static double norm(const Array<T>& z);
  static void add(double scale, const Array<T>& what, Array<T>& to);
  double negligible() const;

  const char* operation_;
  ntk::Symmetric<T> kernel_;
  Index n_, size_ = 0;
  double noise_, start_ = 0, scale_ = 0;  // the longest product
  bool complete_ = false;
  std::vector<Buffer<T>> tiles_;
  std::vector<double> diagonal_, beside_;
};

}  // namespace linnet::predict
