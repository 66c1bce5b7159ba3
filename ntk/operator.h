// v -> J J^T v without a kernel: one vjp and one jvp over the examples, chunk by chunk. Nothing of size n^2, and no Jacobian. lanczos.h has its spectrum.
#pragma once

#include "linnet/ntk/empirical.h"

#include <memory>

namespace linnet::ntk {

template <Scalar T> class Operator {
 public:
  // The points are x. Where memory allows (Options::max_memory) residuals of every chunk are kept, and applying it costs two linear sweeps; otherwise every
  // sweep computes those of a chunk again, and needs memory for one. The bits are the same. NumericalError says how much is needed where not even that is there.
  Operator(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options = {});

  Array<T> operator()(const Array<T>& v) const;          // v and the answer have the shape of f(params, x); ShapeError otherwise
  Tree<Array<T>> vjp(const Array<T>& v) const;           // J^T v, of the form of params; chunks are added in their order
  Array<T> jvp(const Tree<Array<T>>& tangent) const;     // J u
  const Array<T>& value() const;                         // f(params, x)
  Index rows() const;                                    // examples times outputs
  Index outputs() const;                                 // of an example
  bool resident() const;                                 // whether residuals are kept
  std::size_t bytes() const;                             // of memory in all, while it is applied

 private:
  struct Chunks;
  std::shared_ptr<Chunks> chunks_;  // copies share their workspace: one thread at a time
};

}  // namespace linnet::ntk
