// Training in closed-form pieces: the network is linearized anew on the way, and every piece is solved as trained.h solves the whole. As the pieces
// get shorter this is the training of the network itself, not of its linearization. Read trained.h first; validity.h says whether it is needed.
//
//   auto path = predict::relinearize(f, params, x, y, {.training = {.rate = 0.1}, .t_end = 1000, .dt = 50});
//   path.back().weights;  path.back().outputs;      // of the network; every piece's gap says how well its linearization held
//
// Theory. The flow is theta' = G(theta) = -(J^T (f - y) / N + pulls). A piece that is linearized where it begins, at theta_k, has the slope G and
// its own derivative -J^T J / N instead of G's -(J^T J + sum_i (f - y)_i H_i) / N, H_i the Hessian of row i: it is off by (dt^2 / 2) |sum_i (f -
// y)_i H_i G| / N + O(dt^3). So order 1 is of first order in dt over all pieces, and exact where the network is linear. Order 2 takes the Jacobian
// where a piece is half way, found to O(dt^2) with that of the piece before it: the slope is then G's in the middle but for O(dt^2), a piece is off
// by O(dt^3), and the whole is of second order for the same number of kernels and decompositions. Neither has a step that is too long to be stable
// for the linearized part. (Exponential integrators: Hochbruck & Ostermann, Acta Numerica 19, 2010; the Hessians are left out, as Gauss and
// Newton's method does.)
#pragma once

#include "linnet/predict/trained.h"

#include <vector>

namespace linnet::predict {

struct RelinearizeOptions {
  // rate, ridge, relative_ridge (of the first kernel), weight_decay, rates, kernel. In every piece the ridge pulls to the very first weights.
  FlowOptions training = {};
  Motion motion = Motion::gradient_flow;  // or gradient_descent, whose times count steps: pieces of one step are gradient descent of the network itself
  double t_end = 0;                       // > 0, finite
  double dt = 0;                          // of a piece, the last may be shorter; the first where they adapt. 0: a piece as long as all
  int order = 1;                          // 2 of flows alone
  // > 0: pieces adapt, so that the gap of each is at most so much of the residual f - y it began with, or of what it changes if that is more.
  double tolerance = 0;
  Index max_pieces = 100000;              // an error beyond
  bool keep_weights = true;               // of every piece; otherwise of the last alone
};

// The network at a time where a piece ended, or at the beginning.
template <Scalar T> struct Piece {
  double time = 0;
  Tree<Array<T>> weights;  // without children where they were not kept
  Array<T> outputs;        // f(weights, x) of the network itself
  double loss = 0;         // |outputs - y|^2 / (2 N), without the parts of ridge and weight decay
  double change = 0;       // root mean square over the rows of what the piece's linearization changed in the outputs; 0 at the beginning
  double gap = 0;          // and of what the network changed besides
  Index rank = 0;          // of the piece's kernel; 0 at the beginning
};

// The beginning, then the end of every piece. Memory: the weights of all pieces, and what a decomposition of N rows takes. In double whatever T.
// Errors of gradient_flow. NumericalError besides: t_end, dt or tolerance out of their range, times that do not count steps, more than max_pieces,
// pieces that shrink to nothing, and outputs that are not finite (which adapting pieces avoid); StructureError: a motion with momentum, or order 2
// of steps; ShapeError: another order.
template <Scalar T>
std::vector<Piece<T>> relinearize(const ntk::Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Array<T>& y,
                                  const RelinearizeOptions& options);

}  // namespace linnet::predict
