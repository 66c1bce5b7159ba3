#include "linnet/autodiff/linear_map.h"

#include "linnet/autodiff/fail.h"

namespace linnet::autodiff {
namespace {

template <class T> std::vector<const T*> pointers(const Views<T>& in) {
  std::vector<const T*> p;
  for (const ArrayView<T>& v : in) p.push_back(v.data);
  return p;
}

// Runs, with outputs in arrays of their own; those that vary over directions have them as leading axis, and lanes >= 0 asks for it in all.
template <Scalar T> std::vector<Array<T>> run(Executor<T>& executor, std::span<const T* const> in, Index lanes) {
  const Program& p = executor.program();
  std::vector<Array<T>> out;
  std::vector<T*> to;
  for (std::size_t k = 0; k < p.outputs.size(); ++k) {
    const Shape& s = p.shape(p.outputs[k]);
    out.push_back(Array<T>::uninitialized(lanes >= 0 ? s.inserted(0, std::array{lanes}) : s));
    to.push_back(out.back().data());
  }
  executor.run(in, to);
  for (std::size_t k = 0; k < out.size(); ++k)  // the same in every lane
    for (Index size = executor.output_size(k), l = 1; lanes > 1 && size < out[k].size() && l < lanes; ++l) std::copy_n(to[k], size, to[k] + l * size);
  return out;
}

template <class T> void check_shapes(const char* operation, std::span<const Shape> expected, const Views<T>& came, Index lanes) {
  if (came.size() != expected.size()) fail<StructureError>("{}: {} arrays came, expected {}", operation, came.size(), expected.size());
  for (std::size_t i = 0; i < came.size(); ++i)
    if (const Shape s = lanes < 0 ? expected[i] : expected[i].inserted(0, std::array{lanes}); came[i].shape != s) fail<ShapeError>("{}: array {} is {}, expected {}", operation, i, came[i].shape, s);
}

}  // namespace

template <Scalar T> FlatFunction<T>::FlatFunction(const Function& f, std::span<const Shape> inputs)
    : program_(std::make_shared<const Program>(trace(f, inputs))), executor_(std::make_shared<Executor<T>>(program_)) {}

template <Scalar T> std::vector<Array<T>> FlatFunction<T>::operator()(const Views<T>& in) const {
  check_shapes<T>("compiled function", program_->inputs, in, -1);
  return run<T>(*executor_, pointers(in), -1);
}

template <Scalar T> FlatLinearMap<T>::FlatLinearMap(const Function& f, const Views<T>& x, const Views<T>& data) {
  State& s = *state_;
  s.has_value = true;
  Tape outer;
  std::vector<Var> primals, rest;
  for (const ArrayView<T>& v : x) {
    primals.push_back(outer.input(v.shape));
    s.in.push_back(v.shape);
  }
  for (const ArrayView<T>& v : data) rest.push_back(outer.input(v.shape));
  const Linear l = linearize(f, primals, rest);
  std::vector<Var> out = l.out;
  for (const Var& v : l.out) s.out.push_back(v.shape());
  out.insert(out.end(), l.residuals.begin(), l.residuals.end());
  s.forward = l.map;

  Tape tape;
  std::vector<Var> cotangents, in(x.size());
  for (const Shape& shape : s.out) cotangents.push_back(tape.input(shape));
  for (const Var& r : l.residuals) in.push_back(tape.input(r.shape()));
  std::vector<Var> g = transpose(*l.map, in, cotangents);
  g.resize(x.size());
  for (std::size_t i = 0; i < g.size(); ++i)
    if (g[i].is_zero()) g[i] = fill(&tape, s.in[i], 0);
  s.backward = std::make_shared<const Program>(tape.seal(g));

  Executor<T> primal(std::make_shared<const Program>(outer.seal(out)));
  Views<T> inputs = x;
  inputs.insert(inputs.end(), data.begin(), data.end());
  s.residuals = run<T>(primal, pointers(inputs), -1);
  s.value.assign(std::make_move_iterator(s.residuals.begin()), std::make_move_iterator(s.residuals.begin() + static_cast<std::ptrdiff_t>(s.out.size())));
  s.residuals.erase(s.residuals.begin(), s.residuals.begin() + static_cast<std::ptrdiff_t>(s.out.size()));
}

template <Scalar T> FlatLinearMap<T>::FlatLinearMap(const Function& f, std::span<const Shape> x) {
  State& s = *state_;
  Program p = trace(f, x);
  check_linear(p, static_cast<int>(x.size()));
  s.in.assign(x.begin(), x.end());
  for (const int v : p.outputs) s.out.push_back(p.shape(v));
  Tape tape;
  std::vector<Var> cotangents;
  for (const Shape& shape : s.out) cotangents.push_back(tape.input(shape));
  std::vector<Var> g = transpose(p, std::vector<Var>(x.size()), cotangents);
  for (std::size_t i = 0; i < g.size(); ++i)
    if (g[i].is_zero()) g[i] = fill(&tape, s.in[i], 0);
  s.backward = std::make_shared<const Program>(tape.seal(g));
  s.forward = std::make_shared<const Program>(std::move(p));
}

template <Scalar T> FlatLinearMap<T> FlatLinearMap<T>::transposed() const {
  FlatLinearMap other = *this;
  other.transposed_ = !transposed_;
  other.state_ = std::make_shared<State>();
  State& s = *other.state_;  // no value: that of this map belongs to another space
  s.residuals = state_->residuals;
  s.in = state_->in;
  s.out = state_->out;
  s.forward = state_->forward;
  s.backward = state_->backward;
  return other;
}

// One sweep of a program whose first `expected` inputs vary over the lanes, and whose others are the residuals.
template <Scalar T> static std::vector<Array<T>> sweep(const char* operation, const std::shared_ptr<const Program>& program, std::span<const Shape> expected, const Views<T>& in, Index lanes,
                                                       const std::vector<Array<T>>& residuals, Index& planned, std::unique_ptr<Executor<T>>& executor) {
  check_shapes<T>(operation, expected, in, lanes);
  const Index count = lanes < 0 ? 1 : lanes;
  if (count == 0) {  // no lanes: nothing to run
    std::vector<Array<T>> none;
    for (const int v : program->outputs) none.emplace_back(program->shape(v).inserted(0, std::array<Index, 1>{0}));
    return none;
  }
  if (!executor || planned != count) {
    executor = std::make_unique<Executor<T>>(program, std::vector<Varies>(expected.size(), Varies::directions), Lanes{1, count});
    planned = count;
  }
  std::vector<const T*> all = pointers(in);
  for (const Array<T>& r : residuals) all.push_back(r.data());
  return run<T>(*executor, all, lanes);
}

template <Scalar T> std::vector<Array<T>> FlatLinearMap<T>::forward(const Views<T>& tangents, Index lanes) const {
  State& s = *state_;
  return sweep<T>("jvp", s.forward, s.in, tangents, lanes, s.residuals, s.forward_lanes, s.forward_run);
}
template <Scalar T> std::vector<Array<T>> FlatLinearMap<T>::backward(const Views<T>& cotangents, Index lanes) const {
  State& s = *state_;
  return sweep<T>("vjp", s.backward, s.out, cotangents, lanes, s.residuals, s.backward_lanes, s.backward_run);
}

template class FlatFunction<float>;
template class FlatFunction<double>;
template class FlatLinearMap<float>;
template class FlatLinearMap<double>;

}  // namespace linnet::autodiff
