// How an executor runs a call: its body has an executor of its own, planned for the same lanes, so a loop's lanes go through every step together. The lanes of
// packed results, and of slices of an operand with lanes, do not lie together: they are copied.
#include "linnet/autodiff/executor.h"

#include <algorithm>

namespace linnet::autodiff {

template <Scalar T> void Executor<T>::make_body(Site& site, const Instruction& c, int value) {
  const Body& body = std::get<Body>(c.attributes);
  const Varies result = varies(value);
  const std::vector<Varies> inputs = inputs_of(body, site.varies);  // a state may come to vary over whatever any operand does
  site.body.reset(new Executor(body.program, inputs, lanes_, false));
  const std::size_t n = body.program->outputs.size();
  const bool copied = body.loop || lanes_.count(result) > 1;
  if (copied && (body.loop || n > 1 || site.body->varies(body.program->outputs[0]) != result))  // packed, or repeated for every lane
    for (std::size_t k = 0; k < n; ++k) site.results.push_back({site.body->output_size(k)});
  if (plan_.places[static_cast<std::size_t>(value)].kind == Place::parts) {
    site.parts.assign(n, -1);
    for (const Part& part : plan_.parts)
      if (part.call == value) site.parts[static_cast<std::size_t>(part.result)] = part.value;
    for (std::size_t k = 0; k < n; ++k) site.results.push_back({site.parts[k] < 0 ? site.body->output_size(k) : 0});  // nobody reads it
  }
  site.body_in.resize(inputs.size());
  site.body_out.resize(n);
  if (!body.loop) return;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Index size = body.program->inputs[i].size();
    const bool copied = body.loop->roles[i] == Role::sliced && inputs[i] != Varies::nothing;
    site.slices.push_back({copied ? size * lanes_.count(inputs[i]) : 0});
    if (body.loop->roles[i] != Role::state) continue;
    for (int side = 0; side < 2; ++side) site.states.push_back({size * lanes_.count(result)});
  }
}

constexpr Index whole_lines(Index n) { return (n + 15) / 16 * 16; }

template <Scalar T> Index Executor<T>::memory() const {
  Index most = 0;
  for (const Site& site : sites_) {
    Index all = site.body ? site.body->memory() : 0;
    for (const auto* pieces : {&site.results, &site.slices, &site.states})
      for (const Piece& piece : *pieces) all += whole_lines(piece.size);
    most = std::max(most, all);
  }
  return whole_lines(plan_.arena) + most;
}

template <Scalar T> void Executor<T>::place(T* memory) {
  arena_ = memory;
  for (Site& site : sites_) {
    T* next = memory + whole_lines(plan_.arena);
    for (auto* pieces : {&site.results, &site.slices, &site.states})
      for (Piece& piece : *pieces) {
        piece.data = next;
        next += whole_lines(piece.size);
      }
    if (site.body) site.body->place(next);
  }
}

// Results of one lane lie one after another, or where those who read them have them.
template <Scalar T> void Executor<T>::run_body(Site& site, const KernelCall<T>& c, std::span<const T* const> in, std::span<T* const> out) {
  const std::span<T*> to = site.body_out;
  const Program& body = site.body->program();
  Index at_result = 0;
  for (std::size_t k = 0; k < to.size(); ++k) {
    if (!site.parts.empty()) to[k] = site.parts[k] < 0 ? site.results[k].data : const_cast<T*>(at(site.parts[k], in, out));
    else to[k] = site.results.empty() ? c.out + at_result : site.results[k].data;
    at_result += body.shape(body.outputs[k]).size();
  }
  site.body->run(c.in, to);
  if (!site.parts.empty()) return;
  at_result = 0;
  for (std::size_t k = 0; k < site.results.size(); ++k) {
    const int v = body.outputs[k];
    const Index size = body.shape(v).size();
    for (Index l = 0; l < c.count(); ++l) std::copy_n(to[k] + lanes_.lane(site.body->varies(v), c.varies, l) * size, size, c.out + l * c.out_shape.size() + at_result);
    at_result += size;
  }
}

template <Scalar T> void Executor<T>::run_loop(Site& site, const KernelCall<T>& c) {
  const Loop& loop = *std::get<Body>(c.attributes).loop;
  const Program& body = site.body->program();
  const Index lanes = c.count(), packed = c.out_shape.size();
  const std::size_t n_states = site.states.size() / 2;
  const std::span<const T*> in = site.body_in;
  const std::span<T*> to = site.body_out;
  auto state = [&](std::size_t k, Index step) { return site.states[2 * k + static_cast<std::size_t>(step % 2)].data; };
  for (std::size_t k = 0; k < to.size(); ++k) to[k] = site.results[k].data;
  for (std::size_t i = 0, k = 0; i < loop.roles.size(); ++i)
    if (loop.roles[i] == Role::state) {
      const Index size = body.inputs[i].size();
      for (Index l = 0; l < lanes; ++l) std::copy_n(c.lane(i, l), size, state(k, 0) + l * size);
      ++k;
    }
  for (Index step = 0; step < loop.length; ++step) {
    const Index at = loop.reverse ? loop.length - 1 - step : step;
    for (std::size_t i = 0, k = 0; i < in.size(); ++i) {
      const Index size = body.inputs[i].size(), whole = c.in_shape[i]->size();
      if (loop.roles[i] == Role::state) in[i] = state(k++, step);
      else if (loop.roles[i] == Role::constant) in[i] = c.in[i];
      else if (site.slices[i].size == 0) in[i] = c.in[i] + at * size;
      else {
        for (Index l = 0, n = lanes_.count(c.in_varies[i]); l < n; ++l) std::copy_n(c.in[i] + l * whole + at * size, size, site.slices[i].data + l * size);
        in[i] = site.slices[i].data;
      }
    }
    for (std::size_t k = 0; k < n_states; ++k)  // straight into the next state, where it has all lanes
      to[k] = site.body->varies(body.outputs[k]) == c.varies ? state(k, step + 1) : site.results[k].data;
    site.body->run(in, to);
    Index offset = 0;
    for (std::size_t k = 0; k < to.size(); ++k) {
      const int v = body.outputs[k];
      const Index size = body.shape(v).size();
      for (Index l = 0; l < lanes; ++l) {
        const T* const from = to[k] + lanes_.lane(site.body->varies(v), c.varies, l) * size;
        if (k >= n_states) std::copy_n(from, size, c.out + l * packed + offset + at * size);
        else if (to[k] != state(k, step + 1)) std::copy_n(from, size, state(k, step + 1) + l * size);
        if (k < n_states && step + 1 == loop.length) std::copy_n(state(k, step + 1) + l * size, size, c.out + l * packed + offset);
      }
      offset += k < n_states ? size : loop.length * size;
    }
  }
}

template void Executor<float>::make_body(Site&, const Instruction&, int);
template void Executor<double>::make_body(Site&, const Instruction&, int);
template Index Executor<float>::memory() const;
template void Executor<float>::place(float*);
template void Executor<float>::run_body(Site&, const KernelCall<float>&, std::span<const float* const>, std::span<float* const>);
template Index Executor<double>::memory() const;
template void Executor<double>::place(double*);
template void Executor<double>::run_body(Site&, const KernelCall<double>&, std::span<const double* const>, std::span<double* const>);
template void Executor<float>::run_loop(Site&, const KernelCall<float>&);
template void Executor<double>::run_loop(Site&, const KernelCall<double>&);

}  // namespace linnet::autodiff
