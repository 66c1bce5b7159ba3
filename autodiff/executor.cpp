#include "linnet/autodiff/executor.h"

#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/kernels/parallel.h"
#include "linnet/autodiff/ops/families.h"

#include <algorithm>

namespace linnet::autodiff {
namespace {

constexpr Index strip = 2048;    // elements: a few operands of it fit the first-level cache
constexpr Index max_operands = 3;  // of a map

template <class T> Array<T> in_width(const Constant& c) {
  return std::visit([](const auto& values) { return cast<T>(*values); }, c.values);
}

// f(); what a kernel throws has the layer of its instruction in front.
template <class F> void in_layer_of(const Instruction& c, F&& f) {
  static const std::string none;
  const auto text = [&](const std::exception& e) { return in_layer(c.path ? *c.path : none, e.what()); };
  try {
    f();
  } catch (const NumericalError& e) {
    throw NumericalError(text(e));
  } catch (const ShapeError& e) {
    throw ShapeError(text(e));
  }
}

}  // namespace

template <Scalar T> Executor<T>::Executor(std::shared_ptr<const Program> program, std::vector<Varies> inputs, Lanes lanes) : Executor(std::move(program), std::move(inputs), lanes, true) {}
template <Scalar T> Executor<T>::Executor(std::shared_ptr<const Program> program, std::vector<Varies> inputs, Lanes lanes, bool has_memory)
    : program_(std::move(program)), lanes_(lanes), plan_(make_plan(*program_, std::move(inputs), lanes)) {
#ifndef NDEBUG
  verify(plan_, *program_, lanes_);
#endif
  for (const auto& c : program_->constants) constants_.push_back(in_width<T>(*c));
  for (const Array<T>& c : constants_) constant_at_.push_back(c.data());
  for (const double value : plan_.uniforms) uniform_.insert(uniform_.end(), strip, static_cast<T>(value));
  sites_.resize(plan_.steps.size());
  for (std::size_t s = 0; s < plan_.steps.size(); ++s) {
    if (plan_.steps[s].kind == Step::strips) continue;
    const Instruction& c = program_->code[static_cast<std::size_t>(plan_.steps[s].first)];
    Site& site = sites_[s];
    site.in.resize(c.in.size());
    for (const int u : c.in) {
      site.shapes.push_back(&program_->shape(u));
      site.varies.push_back(varies(u));
    }
    if (c.primitive == &call_primitive()) make_body(site, c, program_->first_instruction() + plan_.steps[s].first);
  }
  if (!has_memory) return;
  own_memory_.resize(static_cast<std::size_t>(memory()));
  place(own_memory_.data());
}
template <Scalar T> Executor<T>::~Executor() = default;
template <Scalar T> Executor<T>::Executor(Executor&&) noexcept = default;
template <Scalar T> Executor<T>& Executor<T>::operator=(Executor&&) noexcept = default;

template <Scalar T> Index Executor<T>::output_size(std::size_t k) const {
  const int v = program_->outputs[k];
  return program_->shape(v).size() * lanes_.count(varies(v));
}

template <Scalar T> std::size_t Executor<T>::arena_bytes() const { return static_cast<std::size_t>(memory()) * sizeof(T); }

template <Scalar T> const T* Executor<T>::at(int value, std::span<const T* const> in, std::span<T* const> out) const {
  const Place& p = plan_.places[static_cast<std::size_t>(value)];
  const auto i = static_cast<std::size_t>(p.at);
  switch (p.kind) {
    case Place::input: return in[i];
    case Place::constant: return constant_at_[i];
    case Place::output: return out[i];
    default: return arena_ + p.at;
  }
}

// Elements [first, first + n) of a run's flat span, as an operand that may vary over fewer lanes, or repeat along leading axes: read where it lies
// if the strip stays within one period of it, else gathered into `spare`.
template <Scalar T>
const T* Executor<T>::strip_operand(int value, int head, Index first, Index n, T* spare, std::span<const T* const> in, std::span<T* const> out) const {
  const bool spread = plan_.places[static_cast<std::size_t>(value)].kind == Place::spread;
  const int source = spread ? program_->instruction(value).in[0] : value;
  const T* const base = at(source, in, out);
  const Varies run = varies(head), mine = varies(source);
  if (!spread && mine == run) return base + first;
  const Index size = program_->shape(head).size(), period = program_->shape(source).size();
  auto address = [&](Index i) { return base + lanes_.lane(mine, run, i / size) * period + i % size % period; };
  auto left = [&](Index i) { return std::min(size - i % size, period - i % size % period); };  // until the period ends
  if (left(first) >= n) return address(first);
  for (Index i = first, end = first + n; i < end;) {  // of every lane: one period from where it lies, the others from it, twice as many every time
    const Index begin = i, lane = std::min(end, i + size - i % size), once = std::min(lane, begin + period);
    if (period == 1) {
      std::fill_n(spare + (i - first), lane - i, *address(i));
      i = lane;
    }
    while (i < once) {
      const Index piece = std::min(left(i), once - i);
      std::copy_n(address(i), piece, spare + (i - first));
      i += piece;
    }
    while (i < lane) {
      const Index piece = std::min(i - begin, lane - i);
      std::copy_n(spare + (begin - first), piece, spare + (i - first));
      i += piece;
    }
  }
  return spare;
}

// Elements [from, from + total) of a step's run.
template <Scalar T> void Executor<T>::run_strips(const Step& step, Index from, Index total, std::span<const T* const> in, std::span<T* const> out) {
  const int zero = program_->first_instruction(), head = zero + step.first;
  parallel_for((total + strip - 1) / strip, [&](Index b) {
    T* const blocks_at = scratch<T>(Scratch::strips, (plan_.scratch_blocks + max_operands) * strip);
    T* const spare = blocks_at + plan_.scratch_blocks * strip;
    const Index first = from + b * strip, n = std::min(strip, from + total - first);
    for (int v = zero + step.maps(); v < head + step.count; ++v) {
      const Place& place = plan_.places[static_cast<std::size_t>(v)];
      const Instruction& c = program_->instruction(v);
      if (place.kind == Place::uniform || place.kind == Place::spread || !c.primitive->map.exists()) continue;  // of another step, or of none
      const T* operands[max_operands];
      for (std::size_t i = 0; i < c.in.size(); ++i) {
        const Place& p = plan_.places[static_cast<std::size_t>(c.in[i])];
        if (p.kind == Place::scratch) operands[i] = blocks_at + p.at * strip;
        else if (p.kind == Place::uniform) operands[i] = uniform_.data() + p.at * strip;
        else operands[i] = strip_operand(c.in[i], head, first, n, spare + static_cast<Index>(i) * strip, in, out);
      }
      T* const to = place.kind == Place::scratch ? blocks_at + place.at * strip : const_cast<T*>(at(v, in, out)) + first;
      in_layer_of(c, [&] { c.primitive->map.get<T>()(c.attributes, operands, to, n); });
    }
  }, 8);
}

template <Scalar T> void Executor<T>::run_site(const Step& step, std::span<const T* const> in, std::span<T* const> out) {
  Site& site = sites_[static_cast<std::size_t>(&step - plan_.steps.data())];
  const int v = program_->first_instruction() + step.first;
  const Instruction& c = program_->instruction(v);
  for (std::size_t i = 0; i < c.in.size(); ++i) site.in[i] = at(c.in[i], in, out);
  const Index width = c.shape.rank() > 0 ? c.shape[-1] : 1;
  auto strips_of = [&](Index first, Index rows) { run_strips(step, first * width, rows * width, in, out); };
  const FunctionRef<void(Index, Index)> done(strips_of);
  const KernelCall<T> call{c.attributes, site.in, site.shapes, site.varies, plan_.places[static_cast<std::size_t>(v)].kind == Place::parts ? nullptr : const_cast<T*>(at(v, in, out)),
                           c.shape, varies(v), lanes_, step.kind == Step::product ? &done : nullptr};
  in_layer_of(c, [&] {
    if (site.body) std::get<Body>(c.attributes).loop ? run_loop(site, call) : run_body(site, call, in, out);
    else c.primitive->eval.get<T>()(call);
  });
}

template <Scalar T> void Executor<T>::run(std::span<const T* const> in, std::span<T* const> out) {
  for (const Step& step : plan_.steps) {
    const int head = program_->first_instruction() + step.first;
    if (step.kind == Step::strips) run_strips(step, 0, program_->shape(head).size() * lanes_.count(varies(head)), in, out);
    else run_site(step, in, out);
  }
  for (std::size_t k = 0; k < program_->outputs.size(); ++k) {  // an input, a constant, or a value that is output twice
    const T* const from = at(program_->outputs[k], in, out);
    if (from != out[k]) std::copy_n(from, output_size(k), out[k]);
  }
}

template class Executor<float>;
template class Executor<double>;

}  // namespace linnet::autodiff
