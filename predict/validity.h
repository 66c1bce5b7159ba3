// How far a network is from its linearization at the weights that linearized training predicts. Closed forms hold for f_lin = f0 + J delta, delta =
// theta - theta0; since theta(t) is known, the network itself can be asked there, and what separates the two is measured and told apart: the gap on
// training examples and on others, its second order, the change of the kernel, and the share of every layer. Read trained.h first.
//
//   const auto flow = predict::gradient_flow(f, params, x, y);
//   const auto meter = predict::validity(flow(1000), x_probe);
//   std::puts(meter.table().c_str());      // the numbers; meter.verdict() is one sentence of them
#pragma once

#include "linnet/ntk/lanczos.h"
#include "linnet/predict/trained.h"

#include <cstdint>
#include <string>
#include <vector>

namespace linnet::predict {

struct ValidityOptions {
  Index probes = 8;          // random vectors that the kernels are compared by, 2 or more
  std::uint64_t seed = 0;    // of them
  bool layers = true;        // whether shares of layers are computed
  ntk::Options kernel = {};  // of the operators: independent, max_memory, progress
};

// Of one set of examples. All are root mean squares over its rows (examples times outputs), in units of the outputs, but `largest`.
struct Departure {
  Index rows = 0;
  double change = 0;    // J delta: what training changed, linearized
  double gap = 0;       // f(theta) - f_lin(theta): what the network does besides
  double second = 0;    // D^2 f[delta, delta] / 2, by a jvp of a jvp: the leading term of the gap
  double higher = 0;    // the gap without it: orders of three and more
  double largest = 0;   // the largest |f - f_lin| of a row
  double rounding = 0;  // 64 epsilon of the largest output: what is below that cannot be seen

  // As multiples of the change. 0 where the part is within rounding; infinity where only the change is.
  double relative(double part) const;
  double relative_gap() const { return relative(gap); }
  double relative_second() const { return relative(second); }
  double relative_higher() const { return relative(higher); }
};

// A child of the parameters' root with all that is below it. The shares of all layers add up to 1, or all are 0 where nothing is to be shared.
struct LayerShare {
  std::string name;
  double weights = 0;  // |delta_l|^2 / |delta|^2
  double change = 0;   // <J_l delta_l, J delta> / |J delta|^2 on the training rows; negative if it works against the others
  double second = 0;   // <D^2 f[delta_l, delta], D^2 f[delta, delta]> / |D^2 f[delta, delta]|^2: of the leading term of the gap
};

enum class Regime {
  unmoved,       // the change is within rounding, and so is the gap
  linear,        // the gap is at most 0.05 of the change, and the drift at most 0.2: a kernel changes by about four times what separates the functions
  second_order,  // the gap is at most 0.5 of the change and higher orders are at most half of it, or the gap is at most 0.05
  nonlinear
};

struct Validity {
  double time = 0;   // of training; 0 where weights were given
  double moved = 0;  // |delta| / |theta0|; infinity if theta0 is zero
  Departure train, probe;
  // K(theta) and K(theta0) on the training rows, of the weights' rates: |K(theta) - K(theta0)|_F / |K(theta0)|_F, and their cosine <K, K0>_F / (|K|_F
  // |K0|_F), which a change of scale alone leaves at 1. By probes of signs, the same for both kernels, with the jackknife's standard error; no
  // kernel is formed. The drift is infinite where K(theta0) is zero and K(theta) is not.
  ntk::Estimate drift, alignment;
  std::vector<LayerShare> layers;
  // What it took: evaluations of f; jvps of f and of its jvp together, two to three jvps each; products with a kernel, a vjp and a jvp each. Over the
  // examples of either set, the products over those trained on.
  Index evaluations = 0, double_jvps = 0, products = 0;

  Regime regime() const;        // by the larger relative gap of both sets
  std::string verdict() const;  // one sentence: the regime, the numbers it follows from, and what to do
  std::string table() const;    // everything, a line each, and the verdict
};

// A network at one time of its training, by any law. In double whatever T. x_probe [n, …] are examples other than those trained on; none leave
// `probe` zero. Takes 2 x probes kernel products, and 1 + layers double jvps over the training examples. StructureError: the flow was made from a kernel;
// ShapeError: x_probe does not fit the examples, fewer than two probes; NumericalError: a value that is not finite, f(theta(t)) among them, or
// cancelled.
template <Scalar T> Validity validity(const Trained<T>& at, const Array<T>& x_probe, const ValidityOptions& options = {});

// Of any weights, however they were found: delta = theta - theta0 as the numbers stand. StructureError besides: parameters without a weight, trees of
// other names; ShapeError: weights of other shapes.
template <Scalar T>
Validity validity(const ntk::Apply& f, const Tree<Array<T>>& theta0, const Tree<Array<T>>& theta, const Array<T>& x, const Array<T>& x_probe,
                  const ValidityOptions& options = {});

}  // namespace linnet::predict
