#include "linnet/ntk/operator.h"

#include "linnet/autodiff/fail.h"
#include "linnet/ntk/check.h"
#include "linnet/ntk/progress.h"

#include <vector>

namespace linnet::ntk {

using namespace autodiff;

namespace {
constexpr Index chunk_size = 256;  // examples of one sweep: a constant, so that sums over chunks have one order
}

template <Scalar T> struct Operator<T>::Chunks {
  std::vector<LinearMap<Tree<Array<T>>, Array<T>>> maps;  // of full chunks, then of the ragged last
  Array<T> value;
  Shape like;                                             // of value
  Tree<Shape> params;
  Index chunk = 0;
};

template <Scalar T> Operator<T>::Operator(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options) {
  const char* const operation = "ntk::Operator";
  check_finite(operation, "params", params);
  check_finite(operation, "x", x);
  const Shape out = output_shape(operation, f, shapes_of(params), x.shape());
  if (options.independent) check_independent(operation, f, params, x);
  auto c = std::make_shared<Chunks>();
  const Index n = x.shape()[0], row = out.size(1, out.rank());
  c->chunk = options.independent ? chunk_size : std::max<Index>(1, n);
  c->like = out;
  c->params = shapes_of(params);
  c->value = Array<T>::uninitialized(out);
  Reporter reporter(operation, options.progress, "operator chunks", static_cast<std::size_t>((n + c->chunk - 1) / c->chunk));
  for (Index first = 0; first < n; first += c->chunk) {
    c->maps.push_back(linearize([&](const Tree<Var>& p, const Var& v) { return f(p, v); }, params, x.rows(first, std::min(c->chunk, n - first))));
    const Array<T>& y = c->maps.back().value();
    std::copy(y.begin(), y.end(), c->value.data() + first * row);
    reporter.done();
    reporter.check();
  }
  if (n > 0) reporter.finish();
  if (first_not_finite(std::span<const T>(c->value.values())) >= 0) fail_not_finite(operation, f, params, {&x}, options.independent);
  chunks_ = std::move(c);
}

template <Scalar T> Tree<Array<T>> Operator<T>::vjp(const Array<T>& v) const {
  if (v.shape() != chunks_->like) fail<ShapeError>("ntk::Operator: a cotangent {} came, f(params, x) is {}", v.shape(), chunks_->like);
  check_finite("ntk::Operator", "the cotangent", v);
  Tree<Array<T>> sum = map([](const Shape& s) { return Array<T>(s); }, chunks_->params);
  const auto to = sum.leaves();
  for (std::size_t k = 0; k < chunks_->maps.size(); ++k) {
    const Tree<Array<T>> part = chunks_->maps[k].vjp(v.rows(static_cast<Index>(k) * chunks_->chunk, chunks_->maps[k].value().shape()[0]));
    const auto from = part.leaves();
    for (std::size_t i = 0; i < to.size(); ++i)
      for (Index j = 0; j < to[i]->size(); ++j) to[i]->data()[j] += from[i]->data()[j];
  }
  return sum;
}

template <Scalar T> Array<T> Operator<T>::jvp(const Tree<Array<T>>& tangent) const {
  autodiff::detail::check_same_form("ntk::Operator", chunks_->params, shapes_of(tangent));
  check_finite("ntk::Operator", "the tangent", tangent);
  Array<T> out = Array<T>::uninitialized(chunks_->like);
  T* to = out.data();
  for (const auto& map : chunks_->maps) {
    const Array<T> part = map.jvp(tangent);
    to = std::copy(part.begin(), part.end(), to);
  }
  return out;
}

template <Scalar T> Array<T> Operator<T>::operator()(const Array<T>& v) const { return jvp(vjp(v)); }
template <Scalar T> const Array<T>& Operator<T>::value() const { return chunks_->value; }
template <Scalar T> Index Operator<T>::rows() const { return chunks_->like.size(); }

template class Operator<float>;
template class Operator<double>;

}  // namespace linnet::ntk
