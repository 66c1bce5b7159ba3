// The neural tangent kernel of a finite network, Theta = J J^T with J = d f(params, x) / d params (arXiv 1806.07572), without ever forming J,
// and its NNGP f f^T. f is any function of a tree of parameters and a batch of examples; it must treat examples independently, which is
// checked. gram.h has the machinery.
#pragma once

#include "linnet/autodiff/config.h"
#include "linnet/autodiff/derivative.h"

#include <cstddef>
#include <functional>
#include <string>

namespace linnet::ntk {

using autodiff::Array;
using autodiff::Index;
using autodiff::Scalar;
using autodiff::Shape;
using autodiff::Tree;
using autodiff::Var;

using Apply = std::function<Var(const Tree<Var>& params, Var x)>;  // x [n, …] -> [n, …]

enum class Method {
  automatic,             // of the three the one of fewest operations, counted from the program. Choose it unless you compare.
  jacobian_contraction,  // per-example gradients of every output, then their products. Cheapest when outputs are few and parameters fewer than work.
  vector_products,       // columns of J J^T by vjp and jvp. Needs no gradient in memory and no independence of examples; slow for many rows.
  structured             // gradients of a weight are products of what enters and what comes back: contracts these factors, never the gradients.
};

struct Options {
  Method method = Method::structured;
  bool independent = true;     // false: f may mix examples; then vector_products with the whole batch inside
  std::size_t max_memory = 0;  // bytes that may be taken; 0: nine tenths of what the machine and the limits of this process have left. Never changes a bit of the result.
  autodiff::ProgressFunction progress{};  // false cancels with a NumericalError that says so
};

// Theta over rows (n, o): example-major, as f(x) flattens. Symmetric in bits where one set of examples was given.
template <Scalar T> class FullKernel {
 public:
  FullKernel(Array<T> values, Index rows, Index columns, Index outputs);  // values [rows outputs, columns outputs]; ShapeError otherwise
  const Array<T>& matrix() const { return values_; }
  Index rows() const { return rows_; }        // examples
  Index columns() const { return columns_; }
  Index outputs() const { return outputs_; }
  Array<T> to_peer_layout() const;            // [rows, columns, outputs, outputs]

 private:
  Array<T> values_;
  Index rows_, columns_, outputs_;
};

// The sum over outputs of Theta's diagonal blocks [n1, n2], which knows how many outputs there are: a type of its own, since it is no kernel of
// finite-width dynamics of several outputs.
template <Scalar T> class TracedKernel {
 public:
  TracedKernel(Array<T> values, Index outputs);
  const Array<T>& matrix() const { return values_; }  // the sum, not divided by the outputs
  Index outputs() const { return outputs_; }
  Array<T> mean() const;                              // divided by the outputs: the peer's convention

 private:
  Array<T> values_;
  Index outputs_;
};

// One set of examples with itself (symmetric in bits), or two: rows of x2, columns of x1. NumericalError: NaN or infinity in params, x or the
// result; TraceError: f mixes examples.
template <Scalar T> FullKernel<T> full(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options = {});
template <Scalar T> FullKernel<T> full(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x2, const Array<T>& x1, const Options& options = {});
template <Scalar T> TracedKernel<T> traced(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options = {});
template <Scalar T> TracedKernel<T> traced(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x2, const Array<T>& x1, const Options& options = {});
// The diagonal of the full kernel [n, outputs]: squared norms of the per-example gradients.
template <Scalar T> Array<T> diagonal(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options = {});

// f(x2) f(x1)^T / outputs [n2, n1]: the empirical NNGP.
template <Scalar T> Array<T> nngp(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x);
template <Scalar T> Array<T> nngp(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x2, const Array<T>& x1);

// What Method::automatic would take for n1 by n2 examples, and how structured treats every parameter, in words.
std::string explain(const Apply& f, const Tree<Shape>& params, const Shape& x, Index n1, Index n2, bool traced = false);

}  // namespace linnet::ntk
