// A network as dynamics see it: linearized at its initial weights, with a rate for each of them. Not installed; trained.cpp uses it.
#pragma once

#include "linnet/ntk/operator.h"

#include <optional>

namespace linnet::predict {

using autodiff::Array;
using autodiff::Index;
using autodiff::Shape;
using autodiff::Tree;

// Weights with rates P are theta = theta0 + P^(1/2) xi, and xi moves with rate 1: A becomes A P^(1/2) everywhere, and a rate of 0 leaves a weight out.
// Without rates xi is theta itself. All in double.
class Network {
 public:
  // rates: a tree that names the weights that have other rates than 1; a leaf is one number, or an array of its weight's shape, and at a layer holds for
  // all below. operation is named in errors. StructureError: a name the parameters do not have, or every weight is frozen; ShapeError: a rate that does not
  // fit; NumericalError: a rate that is negative or not finite.
  Network(const char* operation, ntk::Apply f, Tree<Array<double>> theta0, Array<double> x, const Tree<Array<double>>& rates, const ntk::Options& options, bool decays);

  const Array<double>& x() const { return x_; }
  const Tree<Array<double>>& start() const { return theta0_; }
  const Array<double>& f0() const { return derivative_.value(); }
  const ntk::Apply& apply() const { return apply_; }                      // of xi
  const Tree<Array<double>>& point() const { return point_; }             // xi at the beginning
  const ntk::Operator<double>& derivative() const { return derivative_; }  // of xi, at x
  Array<double> kernel() const;                          // A P A^T of x with itself, [N, N]
  Array<double> kernel(const Array<double>& x_new) const;  // of x_new with x
  Array<double> diagonal(const Array<double>& x_new) const;  // of the kernel of x_new with itself, [n, outputs]
  ntk::Operator<double> derivative(const Array<double>& x_new) const;
  Array<double> value(const Array<double>& x_new) const;   // f(theta0, x_new), a few examples at a time where they are independent
  Array<double> product(const Array<double>& v) const { return derivative_(v.reshaped(f0().shape())); }  // A P A^T v
  ntk::Operator<float> narrow() const;                     // the same products in float
  Array<double> pull() const;                             // A theta0, of the shape of f0: of the weights that are trained, where weights decay
  Array<double> pull(const Array<double>& x_new) const;

  double decaying_square() const;                         // of the norm of what decays: |theta0|^2 without rates

  // theta - theta0 = P A^T c + shrink theta0, and what f0 + A (theta - theta0) answers at x_new.
  Tree<Array<double>> weights(const Array<double>& c, double shrink) const;
  Array<double> linearized(const Array<double>& x_new, const Array<double>& c, double shrink) const;
  Tree<Array<double>> change(const Array<double>& c, double shrink) const;  // of xi
  Tree<Array<double>> moved(Tree<Array<double>> xi) const;                  // P^(1/2) xi: a change of xi as one of theta
  Tree<Array<double>> trained(Tree<Array<double>> theta) const;             // P^(-1/2) theta, 0 where P is: a change of theta as one of xi

 private:
  ntk::Apply apply_;                                                        // of xi
  Tree<Array<double>> theta0_, point_;                                      // xi at the beginning
  std::optional<Tree<Array<double>>> roots_;                                // P^(1/2)
  std::optional<Tree<Array<double>>> decaying_;                             // P^(-1/2) theta0, 0 where P is
  Array<double> x_;
  ntk::Options options_;
  ntk::Operator<double> derivative_;
};

}  // namespace linnet::predict
