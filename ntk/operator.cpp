#include "linnet/ntk/operator.h"

#include "linnet/autodiff/executor.h"
#include "linnet/autodiff/fail.h"
#include "linnet/ntk/check.h"
#include "linnet/ntk/memory.h"
#include "linnet/ntk/progress.h"
#include "linnet/ntk/residuals.h"

#include <vector>

namespace linnet::ntk {

using namespace autodiff;

namespace {

constexpr Index chunk_size = 256;     // examples of one sweep: a constant, so that sums over chunks have one order
constexpr Index block_size = 1 << 14;  // numbers that a thread adds at once

// The three programs of chunks of so many examples, and the residuals between them.
template <class T> class Sweep {
 public:
  using Residuals = std::vector<Buffer<T>>;  // of a chunk: those that it does not share with others

  Sweep(const Apply& f, const Tree<Shape>& params, const Shape& x) : n_params_(params.leaves().size()) {
    Tape outer;
    std::vector<Var> p;
    for (const Shape* s : params.leaves()) p.push_back(outer.input(*s));
    const Var data = outer.input(x);
    const Linear l = linearize([&](std::span<const Var> in) { return std::vector{f(unflatten(params, std::vector<Var>(in.begin(), in.end() - 1)), in.back())}; }, p, std::array{data});
    Tape tape;
    const Var cotangent = tape.input(l.out[0].shape());
    std::vector<Var> in(n_params_);
    for (const Var& r : l.residuals) in.push_back(tape.input(r.shape()));
    std::vector<Var> gradients = transpose(*l.map, in, std::array{cotangent});
    gradients.resize(n_params_);
    for (std::size_t i = 0; i < n_params_; ++i)
      if (gradients[i].is_zero()) gradients[i] = fill(&tape, *params.leaves()[i], 0);
    for (const Var& r : l.residuals) sizes_.push_back(r.shape().size());
    Primal primal = seal_primal(outer, static_cast<int>(n_params_), l.out, l.residuals);
    sources_ = std::move(primal.residuals);
    primal_.emplace(std::move(primal.program));
    forward_.emplace(l.map);
    backward_.emplace(std::make_shared<const Program>(tape.seal(gradients)));
    for (std::size_t i = 0; i < sources_.size(); ++i) shared_.emplace_back(static_cast<std::size_t>(shared(i) ? sizes_[i] : 0));
  }

  Residuals residuals() const {
    Residuals all;
    for (std::size_t i = 0; i < sources_.size(); ++i) all.emplace_back(static_cast<std::size_t>(own(i) ? sizes_[i] : 0));
    return all;
  }
  std::size_t residual_bytes() const {
    std::size_t n = 0;
    for (std::size_t i = 0; i < sources_.size(); ++i) n += static_cast<std::size_t>(own(i) ? sizes_[i] : 0);
    return n * sizeof(T);
  }
  std::size_t bytes() const {  // of everything else
    std::size_t n = primal_->arena_bytes() + forward_->arena_bytes() + backward_->arena_bytes();
    for (const Buffer<T>& b : shared_) n += sizeof(T) * b.size();
    return n;
  }

  // f of the chunk at x, and its residuals.
  void primal(const std::vector<const T*>& params, const T* x, T* out, Residuals& kept) {
    std::vector<const T*> in = params;
    in.push_back(x);
    std::vector<T*> to{out};
    for (std::size_t i = 0; i < sources_.size(); ++i)
      if (sources_[i].output >= 0) to.push_back((shared(i) ? shared_ : kept)[i].data());
    primal_->run(in, to);
  }
  void forward(const std::vector<const T*>& tangents, const std::vector<const T*>& params, const T* x, const Residuals& kept, T* out) { forward_->run(with(tangents, params, x, kept), std::array{out}); }
  void backward(const T* cotangent, const std::vector<const T*>& params, const T* x, const Residuals& kept, std::vector<T*>& gradients) { backward_->run(with({cotangent}, params, x, kept), gradients); }

 private:
  bool shared(std::size_t i) const { return sources_[i].output >= 0 && sources_[i].varies == Varies::nothing; }  // of parameters alone: the same for every chunk
  bool own(std::size_t i) const { return sources_[i].output >= 0 && !shared(i); }
  std::vector<const T*> with(std::vector<const T*> in, const std::vector<const T*>& params, const T* x, const Residuals& kept) const {
    for (std::size_t i = 0; i < sources_.size(); ++i) {
      const Residual& s = sources_[i];
      if (s.input >= 0) in.push_back(static_cast<std::size_t>(s.input) == n_params_ ? x : params[static_cast<std::size_t>(s.input)]);
      else in.push_back((shared(i) ? shared_ : kept)[i].data());
    }
    return in;
  }
  std::size_t n_params_;
  std::vector<Residual> sources_;
  std::vector<Index> sizes_;
  std::optional<Executor<T>> primal_, forward_, backward_;
  Residuals shared_;
};

template <class T> std::vector<const T*> pointers(const Tree<Array<T>>& tree) {
  std::vector<const T*> all;
  for (const Array<T>* leaf : tree.leaves()) all.push_back(leaf->data());
  return all;
}
template <class T> Tree<Array<T>> uninitialized_like(const Tree<Array<T>>& tree) {
  return map([](const Array<T>& a) { return Array<T>::uninitialized(a.shape()); }, tree);
}

// to += from; every number by itself, so the blocks decide nothing.
template <class T> void add(const Array<T>& from, Array<T>& to) {
  const Index n = to.size();
  parallel_for((n + block_size - 1) / block_size, [&](Index b) {
    const T* __restrict const x = from.data();
    T* __restrict const y = to.data();
    for (Index i = b * block_size, end = std::min(n, i + block_size); i < end; ++i) y[i] += x[i];
  });
}

}  // namespace

template <Scalar T> struct Operator<T>::Chunks {
  Tree<Array<T>> params;
  Array<T> x, value;
  Shape like;                                       // of value
  Index n = 0, chunk = 0, row = 0, example = 0;     // examples, of a chunk; numbers of an output, and of an input
  std::optional<Sweep<T>> full, last;               // of whole chunks, and of the ragged last
  std::vector<typename Sweep<T>::Residuals> kept;   // of every chunk; or one for each sweep, written again and again
  bool resident = true;
  std::size_t bytes = 0;
  Array<T> unwanted;                                // f once more

  Index count() const { return (n + chunk - 1) / chunk; }
  Index size(Index k) const { return std::min(chunk, n - k * chunk); }
  Sweep<T>& sweep(Index k) { return size(k) == chunk ? *full : *last; }
  const T* input(Index k) const { return x.data() + k * chunk * example; }
  typename Sweep<T>::Residuals& residuals(Index k) { return kept[static_cast<std::size_t>(resident ? k : size(k) == chunk ? 0 : 1)]; }
  void primal(Index k, T* out) { sweep(k).primal(pointers(params), input(k), out, residuals(k)); }
  void again(Index k) {
    if (!resident) primal(k, unwanted.data());
  }
  void plan(const char* operation, const Apply& f, const Options& options);
};

// Whether residuals are kept.
template <Scalar T> void Operator<T>::Chunks::plan(const char* operation, const Apply& f, const Options& options) {
  const Tree<Shape> shapes = shapes_of(params);
  if (n >= chunk) full.emplace(f, shapes, x.shape().with(0, chunk));
  if (n % chunk) last.emplace(f, shapes, x.shape().with(0, n % chunk));
  std::size_t numbers = static_cast<std::size_t>(x.size() + value.size());
  for (const Array<T>* leaf : params.leaves()) numbers += 3 * static_cast<std::size_t>(leaf->size());  // themselves, the sum of chunks, and a chunk's share
  std::size_t base = numbers * sizeof(T), one = 0, all = 0;
  for (const auto* s : {&full, &last}) {
    if (!*s) continue;
    base += (*s)->bytes();
    one += (*s)->residual_bytes();
    all += (*s)->residual_bytes() * static_cast<std::size_t>(s == &full ? n / chunk : 1);
  }
  const std::size_t limit = memory_limit(options);
  one += static_cast<std::size_t>(chunk * row) * sizeof(T);
  resident = base + all <= limit || all <= one;  // what saves nothing is not streamed
  bytes = base + (resident ? all : one);
  if (bytes > limit)
    fail<NumericalError>("{}: {} bytes are needed to go over {} examples {} at a time, and there are {} ({}); use fewer examples{}", operation, bytes, n, std::min(n, chunk), limit,
                         options.max_memory ? "Options::max_memory" : "what this machine and the limits of this process have left", options.independent ? "" : ", or a function that treats them independently");
}

template <Scalar T> Operator<T>::Operator(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options) {
  const char* const operation = "ntk::Operator";
  check_finite(operation, "params", params);
  check_finite(operation, "x", x);
  const Shape out = output_shape(operation, f, shapes_of(params), x.shape());
  if (options.independent) check_independent(operation, f, params, x);
  auto c = std::make_shared<Chunks>();
  c->n = x.shape()[0];
  c->row = out.size(1, out.rank());
  c->example = x.shape().size(1, x.shape().rank());
  c->chunk = options.independent ? chunk_size : std::max<Index>(1, c->n);
  c->like = out;
  c->params = params;
  c->x = x;
  c->value = Array<T>::uninitialized(out);
  c->plan(operation, f, options);
  if (c->resident)
    for (Index k = 0; k < c->count(); ++k) c->kept.push_back(c->sweep(k).residuals());
  else {
    for (const auto* s : {&c->full, &c->last}) c->kept.push_back(*s ? (*s)->residuals() : typename Sweep<T>::Residuals());
    c->unwanted = Array<T>::uninitialized({c->chunk, c->row});
  }
  Reporter reporter(operation, options.progress, "operator chunks", static_cast<std::size_t>(c->count()));
  for (Index k = 0; k < c->count(); ++k) {
    c->primal(k, c->value.data() + k * c->chunk * c->row);
    reporter.done();
    reporter.check();
  }
  if (c->n > 0) reporter.finish();
  if (first_not_finite(std::span<const T>(c->value.values())) >= 0) fail_not_finite(operation, f, params, {&x}, options.independent);
  chunks_ = std::move(c);
}

template <Scalar T> Tree<Array<T>> Operator<T>::vjp(const Array<T>& v) const {
  Chunks& c = *chunks_;
  if (v.shape() != c.like) fail<ShapeError>("ntk::Operator: a cotangent {} came, f(params, x) is {}", v.shape(), c.like);
  check_finite("ntk::Operator", "the cotangent", v);
  if (c.n == 0) return map([](const Array<T>& a) { return Array<T>(a.shape()); }, c.params);
  const std::vector<const T*> params = pointers(c.params);
  Tree<Array<T>> sum = uninitialized_like(c.params), part = c.count() > 1 ? uninitialized_like(c.params) : Tree<Array<T>>();
  const auto to = sum.leaves(), from = part.leaves();
  for (Index k = 0; k < c.count(); ++k) {
    std::vector<T*> out;
    for (Array<T>* leaf : k ? from : to) out.push_back(leaf->data());
    c.again(k);
    c.sweep(k).backward(v.data() + k * c.chunk * c.row, params, c.input(k), c.residuals(k), out);
    for (std::size_t i = 0; k && i < to.size(); ++i) add(*from[i], *to[i]);
  }
  return sum;
}

template <Scalar T> Array<T> Operator<T>::jvp(const Tree<Array<T>>& tangent) const {
  Chunks& c = *chunks_;
  autodiff::detail::check_same_form("ntk::Operator", shapes_of(c.params), shapes_of(tangent));
  check_finite("ntk::Operator", "the tangent", tangent);
  const std::vector<const T*> params = pointers(c.params), tangents = pointers(tangent);
  Array<T> out = Array<T>::uninitialized(c.like);
  for (Index k = 0; k < c.count(); ++k) {
    c.again(k);
    c.sweep(k).forward(tangents, params, c.input(k), c.residuals(k), out.data() + k * c.chunk * c.row);
  }
  return out;
}

template <Scalar T> Array<T> Operator<T>::operator()(const Array<T>& v) const { return jvp(vjp(v)); }
template <Scalar T> const Array<T>& Operator<T>::value() const { return chunks_->value; }
template <Scalar T> Index Operator<T>::rows() const { return chunks_->like.size(); }
template <Scalar T> Index Operator<T>::outputs() const { return chunks_->row; }
template <Scalar T> bool Operator<T>::resident() const { return chunks_->resident; }
template <Scalar T> std::size_t Operator<T>::bytes() const { return chunks_->bytes; }

template class Operator<float>;
template class Operator<double>;

}  // namespace linnet::ntk
