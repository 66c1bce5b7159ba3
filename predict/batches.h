// Functions of many examples, a batch at a time where examples are independent. Not installed; validity.cpp and relinearize.cpp use it.
#pragma once

#include "linnet/ntk/empirical.h"

#include <algorithm>
#include <map>

namespace linnet::predict {

using autodiff::Array;
using autodiff::Index;
using autodiff::Tree;

constexpr Index batch_size = 256;  // a constant of the build

// does(first, count) for every batch of n examples, in their order.
template <class F> void in_batches(Index n, bool independent, F&& does) {
  const Index size = independent ? batch_size : std::max<Index>(n, 1);
  for (Index first = 0; first < n; first += size) does(first, std::min(size, n - first));
}

// Batches that were computed one after another, as one array.
class Gathered {
 public:
  explicit Gathered(Index n) : n_(n) {}
  void add(Index first, Index count, const Array<double>& part) {
    if (part.shape().rank() == 0 || part.shape()[0] != count)
      throw autodiff::ShapeError("predict: f of " + std::to_string(count) + " examples answered " + str(part.shape()) + "; the leading axis must count the examples");
    if (first == 0) all_ = Array<double>::uninitialized(part.shape().with(0, n_));
    std::copy(part.begin(), part.end(), all_.data() + first * (part.size() / count));
  }
  Array<double> take() { return std::move(all_); }

 private:
  Index n_;
  Array<double> all_;
};

// f(params, x) for x [n, …] and any params, traced once for each size of a batch.
class Values {
 public:
  Values(ntk::Apply f, Array<double> x, bool independent) : f_(std::move(f)), x_(std::move(x)), independent_(independent) {}
  Array<double> operator()(const Tree<Array<double>>& params) {
    Gathered all(x_.shape()[0]);
    in_batches(x_.shape()[0], independent_, [&](Index first, Index count) {
      const Array<double> part = x_.rows(first, count);
      auto it = compiled_.find(count);
      if (it == compiled_.end()) it = compiled_.emplace(count, autodiff::compile(f_, params, part)).first;
      all.add(first, count, it->second(params, part));
    });
    return all.take();
  }

 private:
  ntk::Apply f_;
  Array<double> x_;
  bool independent_;
  std::map<Index, autodiff::Compiled<Array<double>, Tree<Array<double>>, Array<double>>> compiled_;
};

}  // namespace linnet::predict
