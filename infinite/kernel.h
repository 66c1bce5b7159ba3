// The kernels of the infinitely wide network, from the same layers that build the finite one: the covariance of its outputs before training (NNGP, arXiv 1711.00165)
// and its neural tangent kernel (arXiv 1806.07572), of one output; outputs are independent and have the same.
//
//   const auto k = infinite::kernel(network);                                       // refuses layers and orders of layers that have no such limit, and says why
//   const auto train = k.both(x);                                                   // train.nngp, train.ntk [n, n], symmetric in bits; of two sets k.both(x_new, x): [n_new, n]
//   auto flow = predict::gradient_flow(predict::TraceApproximation<double>{train.ntk, outputs}, f0, y);    // exact of these kernels
//   auto ensemble = predict::gradient_flow_ensemble(predict::EnsembleKernels<double>{train.nngp, train.ntk}, y);
//
// docs/infinite.md has the layers with their formulas. Dropout counts as outside of training, where it does nothing.
#pragma once

#include "linnet/autodiff/config.h"
#include "linnet/nn/layer.h"

#include <cstddef>
#include <memory>

namespace linnet::infinite {

using autodiff::Array;
using autodiff::Scalar;

struct Options {
  std::size_t max_memory = 0;             // bytes that may be taken; 0: nine tenths of what the machine and the limits of this process have left
  autodiff::ProgressFunction progress{};  // tiles of the kernel; false cancels with a NumericalError that says so
};

// [n, n] of one set of examples, or [rows, columns] of two.
template <Scalar T> struct Kernels {
  Array<T> nngp, ntk;
  // Activations without a closed form are followed by a series, which is the kernel of a function near them: this part of a variance it lacks, at most, of any example
  // behind any of them. 0 where there is a closed form everywhere. A kink anywhere but at 0, or variances of many units, make it large: compare it with what you need.
  double lacking = 0;
};

class Kernel {
 public:
  // StructureError: a layer without a rule (nn/kernel_rule.h), or where its rule does not hold.
  explicit Kernel(const nn::Layer& network);

  // x [n, …, channels]. The same bits for any number of threads; one set of examples is symmetric in bits. Examples that are nearly the same keep their accuracy, in float too.
  // ShapeError: examples that do not fit the layers or each other; StructureError: the network answers values at several places; NumericalError: NaN or infinity in x or in the result, or not enough memory for it.
  template <Scalar T> Array<T> nngp(const Array<T>& x, const Options& options = {}) const;
  template <Scalar T> Array<T> nngp(const Array<T>& rows, const Array<T>& columns, const Options& options = {}) const;
  template <Scalar T> Array<T> ntk(const Array<T>& x, const Options& options = {}) const;
  template <Scalar T> Array<T> ntk(const Array<T>& rows, const Array<T>& columns, const Options& options = {}) const;
  template <Scalar T> Kernels<T> both(const Array<T>& x, const Options& options = {}) const;  // in one pass
  template <Scalar T> Kernels<T> both(const Array<T>& rows, const Array<T>& columns, const Options& options = {}) const;
  template <Scalar T> Array<T> variances(const Array<T>& x) const;  // [n]: the diagonal of the nngp

  struct State;

 private:
  std::shared_ptr<const State> state_;
};

inline Kernel kernel(const nn::Layer& network) { return Kernel(network); }

}  // namespace linnet::infinite
