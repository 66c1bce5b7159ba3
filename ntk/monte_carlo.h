// The mean kernel over initializations, by drawing them: what a wide network's kernel tends to (arXiv 1806.07572, 1902.06720), with a standard error that says how far to
// trust it, and a running estimate.
#pragma once

#include "linnet/ntk/empirical.h"

#include <functional>

namespace linnet::ntk {

// Mean and standard error of samples of one shape, in double, one sample at a time (Welford, Technometrics 4, 1962). Of symmetric samples both are symmetric in bits.
template <Scalar T> class RunningMean {
 public:
  void add(const Array<T>& sample);  // ShapeError unless it has the shape of those before
  Index samples() const { return samples_; }
  const Array<double>& mean() const { return mean_; }
  Array<double> error() const;       // of the mean, entry by entry; ShapeError unless there are two samples or more

 private:
  Array<double> mean_, squares_;     // squares of differences from the mean
  Index samples_ = 0;
};

template <Scalar T> using Initialize = std::function<Tree<Array<T>>(Index sample)>;            // the parameters of sample 0, 1, …
template <Scalar T> using EachSample = std::function<bool(const RunningMean<T>& so_far)>;  // after every sample; false: that is enough

// The mean of full(f, init(i), x), its rows and columns as there, and of traced(f, init(i), x), summed over outputs as there. ShapeError: no samples.
template <Scalar T> RunningMean<T> monte_carlo_full(const Apply& f, const Initialize<T>& init, const Array<T>& x, Index samples, const Options& options = {}, const EachSample<T>& each = {});
template <Scalar T> RunningMean<T> monte_carlo_traced(const Apply& f, const Initialize<T>& init, const Array<T>& x, Index samples, const Options& options = {}, const EachSample<T>& each = {});

}  // namespace linnet::ntk
