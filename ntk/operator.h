// v -> J J^T v without a kernel: one vjp and one jvp over the examples, chunk by chunk. Nothing of size n^2, and no Jacobian.
#pragma once

#include "linnet/ntk/empirical.h"

#include <memory>

namespace linnet::ntk {

template <Scalar T> class Operator {
 public:
  // The points are x; residuals of every chunk are kept, so that applying it again costs two sweeps and no forward pass.
  Operator(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options = {});

  Array<T> operator()(const Array<T>& v) const;          // v and the answer have the shape of f(params, x); ShapeError otherwise
  Tree<Array<T>> vjp(const Array<T>& v) const;           // J^T v, of the form of params; chunks are added in their order
  Array<T> jvp(const Tree<Array<T>>& tangent) const;     // J u
  const Array<T>& value() const;                         // f(params, x)
  Index rows() const;                                    // examples times outputs

 private:
  struct Chunks;
  std::shared_ptr<const Chunks> chunks_;
};

}  // namespace linnet::ntk
