#include "linnet/ntk/monte_carlo.h"

#include "linnet/autodiff/fail.h"
#include "linnet/ntk/progress.h"

#include <cmath>

namespace linnet::ntk {

using namespace autodiff;

template <Scalar T> void RunningMean<T>::add(const Array<T>& sample) {
  if (samples_ == 0) mean_ = squares_ = Array<double>(sample.shape());
  else if (sample.shape() != mean_.shape()) fail<ShapeError>("RunningMean: a sample {} came after samples {}", sample.shape(), mean_.shape());
  ++samples_;
  const double n = static_cast<double>(samples_);
  for (Index i = 0; i < sample.size(); ++i) {
    const double from = static_cast<double>(sample.data()[i]) - mean_.data()[i];
    mean_.data()[i] += from / n;
    squares_.data()[i] += from * (static_cast<double>(sample.data()[i]) - mean_.data()[i]);
  }
}

template <Scalar T> Array<double> RunningMean<T>::error() const {
  if (samples_ < 2) fail<ShapeError>("RunningMean: an error needs two samples or more, there are {}", samples_);
  Array<double> e(squares_.shape());
  const double n = static_cast<double>(samples_);
  for (Index i = 0; i < e.size(); ++i) e.data()[i] = std::sqrt(squares_.data()[i] / (n - 1) / n);
  return e;
}

namespace {

template <class T, class Kernel> RunningMean<T> mean_of(const char* operation, const Initialize<T>& init, Index samples, const Options& options, const EachSample<T>& each, Kernel&& kernel) {
  if (samples < 1) fail<ShapeError>("{}: at least one sample is needed, got {}", operation, samples);
  RunningMean<T> mean;
  Options quiet = options;  // samples are what is told
  quiet.progress = nullptr;
  Reporter reporter(operation, options.progress, "samples", static_cast<std::size_t>(samples));
  for (Index i = 0; i < samples; ++i) {
    mean.add(kernel(init(i), quiet).matrix());
    reporter.done();
    reporter.check();
    if (each && !each(mean)) return mean;
  }
  reporter.finish();
  return mean;
}

}  // namespace

template <Scalar T> RunningMean<T> monte_carlo_full(const Apply& f, const Initialize<T>& init, const Array<T>& x, Index samples, const Options& options, const EachSample<T>& each) {
  return mean_of<T>("ntk::monte_carlo_full", init, samples, options, each, [&](const Tree<Array<T>>& params, const Options& o) { return full(f, params, x, o); });
}
template <Scalar T> RunningMean<T> monte_carlo_traced(const Apply& f, const Initialize<T>& init, const Array<T>& x, Index samples, const Options& options, const EachSample<T>& each) {
  return mean_of<T>("ntk::monte_carlo_traced", init, samples, options, each, [&](const Tree<Array<T>>& params, const Options& o) { return traced(f, params, x, o); });
}

#define LINNET_INSTANTIATE(T)                                                                                                                         \
  template class RunningMean<T>;                                                                                                                      \
  template RunningMean<T> monte_carlo_full(const Apply&, const Initialize<T>&, const Array<T>&, Index, const Options&, const EachSample<T>&);         \
  template RunningMean<T> monte_carlo_traced(const Apply&, const Initialize<T>&, const Array<T>&, Index, const Options&, const EachSample<T>&);
LINNET_INSTANTIATE(float)
LINNET_INSTANTIATE(double)

}  // namespace linnet::ntk
