#include "linnet/autodiff/plan.h"

#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/ops/families.h"

#include <algorithm>
#include <map>

namespace linnet::autodiff {
namespace {

struct Planner {
  const Program& program;
  Lanes lanes;
  Plan plan;
  std::vector<int> step_of;                    // of every value: its step, or -1
  std::vector<std::vector<int>> users;         // of every value: the instructions' values that read it
  std::vector<char> is_output;
  std::vector<char> is_part;
  std::vector<int> heir, before;               // of every value: the one that takes over its memory, the one whose memory it takes over; or -1

  std::size_t at(int v) const { return static_cast<std::size_t>(v); }
  bool is_map(int v) const { return program.instruction(v).primitive->map.exists(); }
  Index size(int v) const { return program.shape(v).size() * lanes.count(plan.varies[at(v)]); }

  void find_varies(std::vector<Varies> inputs) {
    plan.varies = varies(program, std::move(inputs));
    users.resize(at(program.n_values()));
    is_output.resize(at(program.n_values()), 0);
    for (const int v : program.outputs) is_output[at(v)] = 1;
    for (int v = program.first_instruction(); v < program.n_values(); ++v)
      for (const int u : program.instruction(v).in) users[at(u)].push_back(v);
  }

  bool only_read_by_maps(int v) const {
    return !is_output[at(v)] && std::all_of(users[at(v)].begin(), users[at(v)].end(), [&](int user) { return is_map(user); });
  }

  // Values without memory: fills, and broadcasts of new leading axes (or behind axes of 1), that only strips read.
  void inline_values() {
    plan.places.resize(at(program.n_values()));
    for (int v = 0; v < program.n_values(); ++v) {
      if (v < program.n_inputs()) { plan.places[at(v)] = {Place::input, v}; continue; }
      if (v < program.first_instruction()) { plan.places[at(v)] = {Place::constant, v - program.n_inputs()}; continue; }
      const Instruction& c = program.instruction(v);
      if (!only_read_by_maps(v)) continue;
      if (is_map(v) && std::holds_alternative<Fill>(c.attributes)) {
        plan.places[at(v)] = {Place::uniform, static_cast<Index>(plan.uniforms.size())};
        plan.uniforms.push_back(std::get<Fill>(c.attributes).value);
      } else if (c.primitive == &broadcast_primitive() && program.shape(v).size(0, std::get<Axes>(c.attributes).first) == 1 && program.shape(v).size() > 0) {
        plan.places[at(v)] = {Place::spread, 0};
      }
    }
  }
  bool inlined(int v) const {
    const Place::Kind kind = plan.places[at(v)].kind;
    return kind == Place::uniform || kind == Place::spread;
  }

  // Calls of one lane whose results are read apart: nothing is packed and taken apart again.
  void find_parts() {
    is_part.assign(at(program.n_values()), 0);
    for (int v = program.first_instruction(); v < program.n_values(); ++v)
      if (program.instruction(v).primitive == &call_primitive()) find_parts(v);
  }
  void find_parts(int call) {
    const Body& body = std::get<Body>(program.instruction(call).attributes);
    const std::size_t n = body.program->outputs.size();
    if (body.loop || n < 2 || is_output[at(call)] || lanes.count(plan.varies[at(call)]) != 1) return;
    std::vector<int> slices(n, -1);
    for (const int user : users[at(call)]) {
      const Cut* const cut = std::get_if<Cut>(&program.instruction(user).attributes);
      if (!cut || program.shape(user).size() != cut->size || cut->size == 0) return;  // a pad is larger
      Index first = 0;
      std::size_t k = 0;
      for (; k < n && first < cut->start; ++k) first += body.program->shape(body.program->outputs[k]).size();
      while (k < n && body.program->shape(body.program->outputs[k]).size() == 0) ++k;
      if (k == n || first != cut->start || body.program->shape(body.program->outputs[k]).size() != cut->size || slices[k] >= 0) return;
      slices[k] = user;
    }
    plan.places[at(call)] = {Place::parts};
    for (std::size_t k = 0; k < n; ++k) {
      int v = slices[k];
      if (v < 0) continue;
      if (users[at(v)].size() == 1 && !is_output[at(v)] && program.instruction(users[at(v)][0]).primitive == &reshape_primitive()) {
        plan.places[at(v)] = {Place::parts};
        is_part[at(v)] = 1;
        v = users[at(v)][0];
      }
      is_part[at(v)] = 1;
      plan.parts.push_back({call, static_cast<int>(k), v});
    }
  }

  // Whether a map joins the last step. A product's first one must read it.
  bool extends(Step& last, int v) {
    const int head = program.first_instruction() + last.first;
    if (program.shape(head).size() != program.shape(v).size() || plan.varies[at(head)] != plan.varies[at(v)]) return false;
    const std::vector<int>& in = program.instruction(v).in;
    if (last.kind == Step::other && program.instruction(head).primitive->panels && std::find(in.begin(), in.end(), head) != in.end()) last.kind = Step::product;
    return last.kind != Step::other;
  }
  void find_steps() {
    step_of.assign(at(program.n_values()), -1);
    const int first = program.first_instruction();
    for (int k = 0; k < static_cast<int>(program.code.size()); ++k) {
      const int v = first + k;
      if (inlined(v) || is_part[at(v)]) continue;
      if (!plan.steps.empty() && is_map(v) && extends(plan.steps.back(), v)) plan.steps.back().count = k - plan.steps.back().first + 1;
      else plan.steps.push_back({is_map(v) ? Step::strips : Step::other, k, 1});
      step_of[at(v)] = static_cast<int>(plan.steps.size()) - 1;
    }
    for (const Part& part : plan.parts) step_of[at(part.value)] = step_of[at(part.call)];
  }

  // The last step that reads a value, through broadcasts that are read through.
  int last_use(int v) const {
    int last = -1;
    for (const int user : users[at(v)]) last = std::max(last, plan.places[at(user)].kind == Place::spread ? last_use(user) : step_of[at(user)]);
    return last;
  }

  // Values used only inside their own run live in strip-sized blocks, which are used again.
  void place_scratch() {
    const int first = program.first_instruction();
    for (std::size_t s = 0; s < plan.steps.size(); ++s) {
      if (plan.steps[s].kind == Step::other) continue;
      std::vector<Index> free;
      std::map<int, std::vector<Index>> released;  // by the value after whose computation they are free
      Index used = 0;
      for (int v = first + plan.steps[s].maps(); v < first + plan.steps[s].first + plan.steps[s].count; ++v) {
        if (step_of[at(v)] != static_cast<int>(s)) continue;
        const bool local = !is_output[at(v)] && !users[at(v)].empty() && std::all_of(users[at(v)].begin(), users[at(v)].end(), [&](int user) { return step_of[at(user)] == static_cast<int>(s); });
        if (local) {
          Index block = used;
          if (free.empty()) ++used;
          else { block = free.back(); free.pop_back(); }
          plan.places[at(v)] = {Place::scratch, block};
          released[*std::max_element(users[at(v)].begin(), users[at(v)].end())].push_back(block);
        }
        if (const auto done = released.find(v); done != released.end()) free.insert(free.end(), done->second.begin(), done->second.end());
      }
      plan.scratch_blocks = std::max(plan.scratch_blocks, static_cast<int>(used));
    }
  }

  // A result of a run takes over the memory of an operand from before it, of its size, which the run has read for the last time: strips go through
  // a run one by one, so what is overwritten has been read. That saves memory, and bringing another array through the caches. The product before a run
  // is an operand like others, but what is multiplied is read by all its panels.
  void hand_over() {
    heir.assign(at(program.n_values()), -1);
    before.assign(at(program.n_values()), -1);
    const int first = program.first_instruction();
    for (const Step& step : plan.steps) {
      std::vector<int> read;
      if (step.kind == Step::other) {
        if (const int v = first + step.first; stays(v)) {
          before[at(v)] = program.instruction(v).in[0];
          heir[at(before[at(v)])] = v;
        }
        continue;
      }
      const int head = first + step.first;
      for (int v = first + step.maps(); v < head + step.count; ++v) {
        if (inlined(v) || is_part[at(v)]) continue;
        for (const int u : program.instruction(v).in) {
          const bool from_before = step_of[at(u)] != step_of[at(v)] || (step.kind == Step::product && u == head);
          const bool alike = step_of[at(u)] >= 0 && from_before && !is_output[at(u)] && plan.varies[at(u)] == plan.varies[at(v)];
          if (alike && !multiplied(step, u) && read_up_to(u, v) && std::find(read.begin(), read.end(), u) == read.end()) read.push_back(u);
        }
        if (read.empty() || plan.places[at(v)].kind == Place::scratch) continue;
        heir[at(read.back())] = v;
        before[at(v)] = read.back();
        read.pop_back();
      }
    }
  }
  // A reshape of what nobody else reads later has nothing to do.
  bool stays(int v) const {
    if (program.instruction(v).primitive != &reshape_primitive() || is_part[at(v)]) return false;
    const int u = program.instruction(v).in[0];
    return step_of[at(u)] >= 0 && plan.places[at(u)].kind == Place::unused && !is_output[at(u)] && read_up_to(u, v);
  }
  bool multiplied(const Step& step, int u) const {
    const std::vector<int>& in = program.instruction(program.first_instruction() + step.first).in;
    return step.kind == Step::product && std::find(in.begin(), in.end(), u) != in.end();
  }
  bool read_up_to(int u, int v) const {  // that v or an earlier instruction reads u last, and none through a broadcast
    return std::all_of(users[at(u)].begin(), users[at(u)].end(), [&](int user) { return user <= v && !inlined(user); });
  }

  // Linear scan: a block is free after its last use; the best fitting free one is taken, and free neighbours are joined.
  void place_memory() {
    for (std::size_t k = 0; k < program.outputs.size(); ++k)
      for (int v = program.outputs[k]; v >= 0 && plan.places[at(v)].kind == Place::unused; v = before[at(v)]) plan.places[at(v)] = {Place::output, static_cast<Index>(k)};
    std::vector<std::vector<int>> dies(plan.steps.size());
    std::map<Index, Index> free;  // offset -> size
    const int first = program.first_instruction();
    for (std::size_t s = 0; s < plan.steps.size(); ++s) {
      std::vector<int> values;
      for (int v = first + plan.steps[s].first; v < first + plan.steps[s].first + plan.steps[s].count; ++v)
        if (!is_part[at(v)]) values.push_back(v);
      for (const Part& part : plan.parts)
        if (step_of[at(part.value)] == static_cast<int>(s)) values.push_back(part.value);
      for (const int v : values) {
        if (step_of[at(v)] != static_cast<int>(s) || plan.places[at(v)].kind != Place::unused) continue;
        plan.places[at(v)] = before[at(v)] >= 0 ? plan.places[at(before[at(v)])] : Place{Place::arena, take(free, block(v))};
        dies[static_cast<std::size_t>(std::max(last_use(v), static_cast<int>(s)))].push_back(v);
      }
      for (const int v : dies[s])
        if (heir[at(v)] < 0) release(free, plan.places[at(v)].at, block(v));
    }
  }
  Index block(int v) const { return (size(v) + 15) / 16 * 16; }
  Index take(std::map<Index, Index>& free, Index want) {
    auto best = free.end();
    for (auto it = free.begin(); it != free.end(); ++it)
      if (it->second >= want && (best == free.end() || it->second < best->second)) best = it;
    if (best == free.end()) {
      Index offset = plan.arena;
      if (!free.empty() && std::prev(free.end())->first + std::prev(free.end())->second == plan.arena) {  // the last block grows
        offset = std::prev(free.end())->first;
        free.erase(std::prev(free.end()));
      }
      plan.arena = offset + want;
      return offset;
    }
    const auto [offset, size] = *best;
    free.erase(best);
    if (size > want) free.emplace(offset + want, size - want);
    return offset;
  }
  void release(std::map<Index, Index>& free, Index offset, Index size) {
    if (size == 0) return;
    auto next = free.lower_bound(offset);
    if (next != free.end() && offset + size == next->first) { size += next->second; next = free.erase(next); }
    if (next != free.begin() && std::prev(next)->first + std::prev(next)->second == offset) { std::prev(next)->second += size; return; }
    free.emplace(offset, size);
  }
};

}  // namespace

Plan make_plan(const Program& program, std::vector<Varies> inputs, Lanes lanes) {
  Planner p{program, lanes, {}, {}, {}, {}, {}, {}, {}};
  p.find_varies(std::move(inputs));
  p.inline_values();
  p.find_parts();
  p.find_steps();
  p.place_scratch();
  p.hand_over();
  p.place_memory();
  return std::move(p.plan);
}

void verify(const Plan& plan, const Program& program, Lanes lanes) {
  Planner p{program, lanes, plan, {}, {}, {}, {}, {}, {}};
  p.find_varies({plan.varies.begin(), plan.varies.begin() + program.n_inputs()});
  p.plan = plan;
  p.step_of.assign(p.at(program.n_values()), -1);
  std::vector<char> is_part(p.at(program.n_values()), 0);
  for (const Part& part : plan.parts) is_part[p.at(part.value)] = 1;
  for (std::size_t s = 0; s < plan.steps.size(); ++s)
    for (int k = plan.steps[s].first; k < plan.steps[s].first + plan.steps[s].count; ++k)
      if (const int v = program.first_instruction() + k; !p.inlined(v) && !is_part[p.at(v)]) p.step_of[p.at(v)] = static_cast<int>(s);
  for (const Part& part : plan.parts) p.step_of[p.at(part.value)] = p.step_of[p.at(part.call)];
  const int end = static_cast<int>(plan.steps.size());
  struct Live { int value, from, to; Index output, first, end; };  // output -1: the arena
  std::vector<Live> all;
  for (int v = program.first_instruction(); v < program.n_values(); ++v) {
    const Place& place = plan.places[p.at(v)];
    const int from = p.step_of[p.at(v)], to = p.is_output[p.at(v)] ? end : std::max(p.last_use(v), from);
    if (place.kind == Place::arena) all.push_back({v, from, to, -1, place.at, place.at + p.block(v)});
    if (place.kind == Place::output) all.push_back({v, from, to, place.at, 0, p.block(v)});
  }
  for (std::size_t i = 0; i < all.size(); ++i)
    for (std::size_t j = 0; j < i; ++j) {
      const Live &a = all[j], &b = all[i];  // a is computed first
      const bool share = a.output == b.output && a.first < b.end && b.first < a.end;
      const Step& step = plan.steps[static_cast<std::size_t>(b.from)];
      const bool before = a.from < b.from || (step.kind == Step::product && a.value == program.first_instruction() + step.first);
      const bool in_place = step.kind != Step::other || program.instruction(b.value).primitive == &reshape_primitive();
      const bool takes_over = before && in_place && !p.multiplied(step, a.value) && a.first == b.first && a.end == b.end && a.to < end && p.read_up_to(a.value, b.value);
      if (share && b.from <= a.to && !takes_over) fail<TraceError>("plan: %{} and %{} are needed at the same time and share memory", a.value, b.value);
    }
}

}  // namespace linnet::autodiff
