// How an executor runs a call: its body has an executor of its own, planned for the same lanes, so a loop's lanes go through every step together. The lanes of
// packed results, and of slices of an operand with lanes, do not lie together: they are copied.
#include "linnet/autodiff/executor.h"

#include <algorithm>

namespace linnet::autodiff {

template <Scalar T> void Executor<T>::make_body(Site& site, const Instruction& c, Varies result) {
  const Body& body = std::get<Body>(c.attributes);
  std::vector<Varies> inputs = site.varies;
  if (body.loop)
    for (std::size_t i = 0; i < inputs.size(); ++i)
      if (body.loop->roles[i] == Role::state) inputs[i] = result;  // a state may come to vary over whatever any operand does
  site.body = std::make_unique<Executor>(body.program, inputs, lanes_);
  const std::size_t n = body.program->outputs.size();
  if (body.loop || n > 1 || site.body->varies(body.program->outputs[0]) != result)  // packed, or repeated for every lane
    for (std::size_t k = 0; k < n; ++k) site.results.emplace_back(static_cast<std::size_t>(site.body->output_size(k)));
  site.body_in.resize(inputs.size());
  for (Buffer<T>& b : site.results) site.body_out.push_back(b.data());
  if (!body.loop) return;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Index size = body.program->inputs[i].size();
    const bool copied = body.loop->roles[i] == Role::sliced && inputs[i] != Varies::nothing;
    site.slices.emplace_back(static_cast<std::size_t>(copied ? size * lanes_.count(inputs[i]) : 0));
    if (body.loop->roles[i] != Role::state) continue;
    for (int side = 0; side < 2; ++side) site.states.emplace_back(static_cast<std::size_t>(size * lanes_.count(result)));
  }
}

// Results of one lane lie one after another.
template <Scalar T> void Executor<T>::run_body(Site& site, const KernelCall<T>& c) {
  if (site.results.empty()) {
    T* const to[] = {c.out};
    return site.body->run(c.in, to);
  }
  const std::span<T* const> to = site.body_out;
  site.body->run(c.in, to);
  Index at = 0;
  for (std::size_t k = 0; k < to.size(); ++k) {
    const int v = site.body->program().outputs[k];
    const Index size = site.body->program().shape(v).size();
    for (Index l = 0; l < c.count(); ++l) std::copy_n(to[k] + lanes_.lane(site.body->varies(v), c.varies, l) * size, size, c.out + l * c.out_shape.size() + at);
    at += size;
  }
}

template <Scalar T> void Executor<T>::run_loop(Site& site, const KernelCall<T>& c) {
  const Loop& loop = *std::get<Body>(c.attributes).loop;
  const Program& body = site.body->program();
  const Index lanes = c.count(), packed = c.out_shape.size();
  const std::size_t n_states = site.states.size() / 2;
  const std::span<const T*> in = site.body_in;
  const std::span<T*> to = site.body_out;
  auto state = [&](std::size_t k, Index step) { return site.states[2 * k + static_cast<std::size_t>(step % 2)].data(); };
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
      else if (site.slices[i].empty()) in[i] = c.in[i] + at * size;
      else {
        for (Index l = 0, n = lanes_.count(c.in_varies[i]); l < n; ++l) std::copy_n(c.in[i] + l * whole + at * size, size, site.slices[i].data() + l * size);
        in[i] = site.slices[i].data();
      }
    }
    for (std::size_t k = 0; k < n_states; ++k)  // straight into the next state, where it has all lanes
      to[k] = site.body->varies(body.outputs[k]) == c.varies ? state(k, step + 1) : site.results[k].data();
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

template void Executor<float>::make_body(Site&, const Instruction&, Varies);
template void Executor<double>::make_body(Site&, const Instruction&, Varies);
template void Executor<float>::run_body(Site&, const KernelCall<float>&);
template void Executor<double>::run_body(Site&, const KernelCall<double>&);
template void Executor<float>::run_loop(Site&, const KernelCall<float>&);
template void Executor<double>::run_loop(Site&, const KernelCall<double>&);

}  // namespace linnet::autodiff
