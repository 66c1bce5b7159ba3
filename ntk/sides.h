// The first loop of contract.cpp: examples go through the programs of a plan, chunk by chunk, and what comes out is laid ready for the products of pairs. With what that
// takes of memory. Not installed; read gram.h first.
#pragma once

#include "linnet/autodiff/executor.h"
#include "linnet/autodiff/kernels/parallel.h"
#include "linnet/ntk/gathered.h"
#include "linnet/ntk/gram.h"
#include "linnet/ntk/tile.h"

#include <map>

namespace linnet::ntk {

using autodiff::ArrayView, autodiff::Executor, autodiff::Lanes, autodiff::Varies, autodiff::Views, autodiff::parallel_for, autodiff::thread_count, autodiff::thread_index;

constexpr Index light_tile = 192;  // examples of a tile of the lefts' products

// Every value of the plan for one set of examples.
template <class T> struct Side {
  Index n = 0;
  std::vector<Buffer<T>> memory, joined_memory;  // of each value
  std::vector<const T*> value, joined;  // joined: [n, s, o, w], for a traced contraction over several positions
  std::map<int, Packed<T>> tiles;       // of what meets in products of one position
  std::vector<GatheredRows<T>> gathered;  // of each of the plan's
};

// Bytes of one side of so many examples, `total` in all: what stays, and while it is evaluated.
struct SideBytes {
  double kept = 0, evaluating = 0;
};

template <class T> struct Sides {
  const GramPlan& plan;
  const Views<T>& params;
  Index tile;                                            // examples of a tile
  bool alone = false;                                    // one chunk at a time
  Index O = plan.outputs;
  Index R = plan.traced ? 1 : plan.outputs;              // rows of the kernel for an example
  const GramPlan::Value& value(int v) const { return plan.values[static_cast<std::size_t>(v)]; }
  Index lanes(Varies v, Index n) const { return Lanes{n, O}.count(v); }

  Index tiles(Index n) const { return (n + tile - 1) / tile; }
  const T* of(const Side<T>& side, int v) const { return side.value[static_cast<std::size_t>(v)]; }
  Index first_row(int v, Index n0) const { return value(v).varies == Varies::nothing ? 0 : lanes(value(v).varies, n0) * value(v).rows; }

  // Of examples: rows enough for products; but where values are large, as those of images are, so few that the cotangents of one value, which are as large as a
  // residual, stay near the processor, and that threads have several chunks.
  Index chunk_size(Index n) const {
    Index largest = 1;
    for (std::size_t i = 0; i < plan.residuals.size(); ++i)
      if (over(plan.residuals[i].varies, Varies::examples)) largest = std::max(largest, plan.cut->shape(static_cast<int>(i) + 1).size());
    const Index rows = std::clamp<Index>(1024 / O, 32, 128);
    const Index wished = std::clamp<Index>((1 << 20) / (O * largest), 4, rows), pairs = (n + wished) / (2 * wished);
    if (n <= wished || n > 8 * wished) return std::min(n, wished);
    return (n + 2 * pairs - 1) / (2 * pairs);  // few chunks are of one size and even in number: threads have the same to do
  }

  // Residuals that are themselves wanted are written to their place at once.
  struct Targets {
    std::vector<T*> value, residual;
  };
  Targets allocate(Side<T>& side, const T* x) const {
    Targets to{std::vector<T*>(plan.values.size(), nullptr), std::vector<T*>(plan.residuals.size(), nullptr)};
    side.value.resize(plan.values.size());
    side.memory.resize(plan.values.size());
    for (std::size_t i = 0; i < plan.values.size(); ++i) {
      const int source = plan.cut->outputs[i], residual = source - 1;  // inputs of the cut program: the cotangent, then the residuals
      const bool is_residual = source < plan.cut->n_inputs() && residual >= 0;
      if (is_residual && plan.residuals[static_cast<std::size_t>(residual)].input >= 0) {
        const int input = plan.residuals[static_cast<std::size_t>(residual)].input;
        side.value[i] = input == plan.n_params ? x : params[static_cast<std::size_t>(input)].data;
        continue;
      }
      side.memory[i].resize(static_cast<std::size_t>(lanes(plan.values[i].varies, side.n) * plan.values[i].rows * plan.values[i].width));
      T* const at = side.memory[i].data();
      side.value[i] = at;
      if (is_residual && !to.residual[static_cast<std::size_t>(residual)]) to.residual[static_cast<std::size_t>(residual)] = at;
      else to.value[i] = at;
    }
    return to;
  }

  struct Worker {
    Executor<T> primal, cut;
    std::vector<Buffer<T>> residuals;
  };
  std::unique_ptr<Worker> worker(Index m, const Targets& to) const {
    std::vector<Varies> primal(static_cast<std::size_t>(plan.n_params), Varies::nothing), cut{Varies::both};
    primal.push_back(Varies::examples);
    for (const auto& r : plan.residuals) cut.push_back(r.varies);
    auto w = std::make_unique<Worker>(Worker{Executor<T>(plan.primal, primal, {m, O}), Executor<T>(plan.cut, cut, {m, O}), {}});
    for (std::size_t i = 0; i < plan.residuals.size(); ++i) {
      const bool elsewhere = plan.residuals[i].input >= 0 || to.residual[i];
      w->residuals.emplace_back(static_cast<std::size_t>(elsewhere ? 0 : plan.cut->shape(static_cast<int>(i) + 1).size() * lanes(plan.residuals[i].varies, m)));
    }
    return w;
  }

  void run_chunk(Worker& w, Index first, const T* x, const T* unit, const Side<T>& side, const Targets& to) const {
    std::vector<const T*> in, cut_in{unit};
    for (const ArrayView<T>& p : params) in.push_back(p.data);
    in.push_back(x + first * plan.primal->shape(plan.n_params).size());
    std::vector<T*> out(plan.primal->outputs.size()), cut_out(plan.values.size());
    for (std::size_t i = 0; i < plan.residuals.size(); ++i) {
      const auto& r = plan.residuals[i];
      if (r.input >= 0) {
        cut_in.push_back(in[static_cast<std::size_t>(r.input)]);
        continue;
      }
      const Index offset = r.varies == Varies::nothing ? 0 : lanes(r.varies, first) * plan.cut->shape(static_cast<int>(i) + 1).size();
      T* const at = to.residual[i] ? to.residual[i] + offset : w.residuals[i].data();
      out[static_cast<std::size_t>(r.output)] = at;
      cut_in.push_back(at);
    }
    w.primal.run(in, out);
    for (std::size_t i = 0; i < plan.values.size(); ++i) {
      const auto& v = plan.values[i];
      const Index offset = v.varies == Varies::nothing ? 0 : lanes(v.varies, first) * v.rows * v.width;
      const bool given = plan.cut->outputs[i] < plan.cut->n_inputs();  // in its place already: the same pointer comes in and goes out
      cut_out[i] = to.value[i] ? to.value[i] + offset : const_cast<T*>(given ? cut_in[static_cast<std::size_t>(plan.cut->outputs[i])] : side.value[i] + offset);
    }
    w.cut.run(cut_in, cut_out);
  }

  // Examples [first, last) of `total`, in the chunks that they are in when all are evaluated: their bits depend on no panel.
  Side<T> evaluate(const T* x, Index total, Index first, Index last) const {
    const Index chunk = chunk_size(total), from = first / chunk * chunk, n = std::min(total, (last + chunk - 1) / chunk * chunk) - from, chunks = (n + chunk - 1) / chunk;
    if (from > 0) x += from * plan.primal->shape(plan.n_params).size();
    Side<T> side;
    side.n = n;
    const Targets to = allocate(side, x);
    Buffer<T> unit(static_cast<std::size_t>(chunk * O * O), T(0));
    for (Index i = 0; i < chunk * O; ++i) unit[static_cast<std::size_t>(i * O + i % O)] = 1;
    std::vector<std::map<Index, std::unique_ptr<Worker>>> pool(static_cast<std::size_t>(thread_count()));
    bool constant = true;  // what varies over nothing is the same from every chunk: the first writes it
    for (const auto& v : plan.values) constant &= v.varies != Varies::nothing;
    for (std::size_t i = 0; i < plan.residuals.size(); ++i) constant &= !(to.residual[i] && plan.residuals[i].varies == Varies::nothing);
    auto item = [&](Index k) {
      const Index first = k * chunk, m = std::min(chunk, n - first);
      auto& w = pool[static_cast<std::size_t>(thread_index())][m];
      if (!w) w = worker(m, to);
      run_chunk(*w, first, x, unit.data(), side, to);
    };
    parallel_for(chunks, item, constant && !alone ? 1 : chunks);
    pool.clear();
    for (std::size_t i = 0; i < side.value.size(); ++i) side.value[i] += first_row(static_cast<int>(i), first - from) * plan.values[i].width;
    side.n = last - first;
    join_positions(side);
    gather(side);
    pack(side);
    return side;
  }

  // Whether the outputs of a value are one contraction: of several positions, traced, in plain lanes.
  bool joins(int v) const {
    return plan.traced && value(v).rows > 1 && std::any_of(plan.terms.begin(), plan.terms.end(), [&](const GramPlan::Term& t) { return t.plain && !t.packed && (t.a == v || t.b == v); });
  }
  void join_positions(Side<T>& side) const {
    side.joined = side.value;
    if (!plan.traced) return;
    for (std::size_t i = 0; i < plan.values.size(); ++i) {
      const Index S = plan.values[i].rows, W = plan.values[i].width;
      if (!joins(static_cast<int>(i))) continue;
      side.joined_memory.emplace_back(static_cast<std::size_t>(side.n * O * S * W));
      T* const y = side.joined_memory.back().data();
      const T* const v = side.value[i];
      side.joined[i] = y;
      parallel_for(side.n, [&](Index e) {
        for (Index o = 0; o < O; ++o)
          for (Index s = 0; s < S; ++s) std::copy_n(v + ((e * O + o) * S + s) * W, W, y + ((e * S + s) * O + o) * W);
      }, 64);
    }
  }

  // Whether a value is read by its packed tiles alone, so that it is let go once it is packed.
  bool only_packed(int v) const {
    if (std::count(plan.materialized.begin(), plan.materialized.end(), v)) return false;
    for (const auto& g : plan.gathered)
      for (const auto& use : g.uses)
        if (use[0] == v || use[1] == v) return false;
    for (const auto& t : plan.terms)
      if (!t.packed && (t.a == v || t.b == v || std::any_of(t.left.begin(), t.left.end(), [&](const auto& pair) { return pair[0] == v || pair[1] == v; }))) return false;
    return true;
  }

  // A value at a time: no more than one is there twice over.
  void pack(Side<T>& side) const {
    auto add = [&](int v, Index outputs, Index height) {  // so many outputs of an example are rows of their own
      if (v < 0 || side.tiles.count(v)) return;
      auto& p = side.tiles[v] = Packed<T>(side.n * outputs, value(v).width * (value(v).varies == Varies::both ? O / outputs : 1), height);
      parallel_for(p.tiles(), [&](Index i) { p.pack(of(side, v), i); });
      if (only_packed(v)) Buffer<T>().swap(side.memory[static_cast<std::size_t>(v)]);
    };
    for (const auto& t : plan.terms) {
      if (!t.packed) continue;
      for (const int v : {t.a, t.b}) add(v, R, tile * R);
      for (const auto& pair : t.left)
        for (const int v : pair) add(v, 1, R > 1 ? light_tile : tile);
    }
  }

  void gather(Side<T>& side) const {
    for (const auto& g : plan.gathered) {
      std::vector<typename GatheredRows<T>::Use> uses;
      for (std::size_t k = 0; k < g.uses.size(); ++k) {
        const auto [index, cotangent] = g.uses[k];
        uses.push_back({of(side, index), of(side, cotangent), value(index).varies == Varies::examples, value(index).rows, static_cast<T>(g.scale[k])});
      }
      side.gathered.emplace_back(std::move(uses), side.n, O, g.width, tile);
    }
    const Index each = tiles(side.n);
    parallel_for(static_cast<Index>(side.gathered.size()) * each, [&](Index k) { side.gathered[static_cast<std::size_t>(k / each)].gather(k % each); });
  }

  // ---- memory
  SideBytes side_bytes(Index n, Index total) const {
    SideBytes b;
    const Index chunk = chunk_size(total), most = std::min(total, padded(n + (n < total && n % chunk ? chunk : 0), chunk));  // a panel may begin and end within a chunk
    std::vector<double> size(plan.values.size(), 0);
    for (std::size_t i = 0; i < plan.values.size(); ++i) {
      const auto [varies, S, W, one_hot] = plan.values[i];
      const int source = plan.cut->outputs[i];
      const bool given = source > 0 && source < plan.cut->n_inputs() && plan.residuals[static_cast<std::size_t>(source - 1)].input >= 0;
      if (!given) b.evaluating += size[i] = static_cast<double>(lanes(varies, most) * S * W);
      if (joins(static_cast<int>(i))) b.kept += static_cast<double>(n * O * S * W);
    }
    for (const auto& g : plan.gathered) {
      Index positions = 0;
      for (const auto& use : g.uses) positions += value(use[0]).rows;
      b.kept += static_cast<double>(n * std::min(positions, g.table) * O * g.width);  // where no example names a row twice
    }
    b.kept += b.evaluating;
    const Index workers = alone ? 1 : std::min<Index>(thread_count(), (most + chunk - 1) / chunk);
    b.evaluating += static_cast<double>(chunk * O * O) + static_cast<double>(workers) * worker_size(chunk);
    add_packing(b, n, std::move(size));
    b.kept *= sizeof(T);
    b.evaluating *= sizeof(T);
    return b;
  }
  void add_packing(SideBytes& b, Index n, std::vector<double> size) const {  // as pack() goes, a value at a time
    std::vector<char> done(plan.values.size(), 0);
    const auto pack = [&](int v, Index outputs, Index height) {
      if (v < 0 || std::exchange(done[static_cast<std::size_t>(v)], 1)) return;
      const Packed<T> p = Packed<T>::planned(n * outputs, value(v).width * (value(v).varies == Varies::both ? O / outputs : 1), height);
      b.kept += static_cast<double>(p.tiles() * (padded(p.tile, Block<T>::high) + padded(p.tile, Block<T>::wide)) * p.depth);
      b.evaluating = std::max(b.evaluating, b.kept);
      if (only_packed(v)) b.kept -= size[static_cast<std::size_t>(v)];
    };
    for (const auto& t : plan.terms) {
      if (!t.packed) continue;
      for (const int v : {t.a, t.b}) pack(v, R, tile * R);
      for (const auto& pair : t.left)
        for (const int v : pair) pack(v, 1, R > 1 ? light_tile : tile);
    }
  }
  double worker_size(Index m) const {
    std::vector<Varies> primal(static_cast<std::size_t>(plan.n_params), Varies::nothing), cut{Varies::both};
    primal.push_back(Varies::examples);
    for (const auto& r : plan.residuals) cut.push_back(r.varies);
    double size = static_cast<double>(make_plan(*plan.primal, primal, {m, O}).arena + make_plan(*plan.cut, cut, {m, O}).arena);
    for (std::size_t i = 0; i < plan.residuals.size(); ++i) {
      const int source = static_cast<int>(i) + 1;
      const bool elsewhere = plan.residuals[i].input >= 0 || std::find(plan.cut->outputs.begin(), plan.cut->outputs.end(), source) != plan.cut->outputs.end();
      if (!elsewhere) size += static_cast<double>(plan.cut->shape(source).size() * lanes(plan.residuals[i].varies, m));
    }
    return size;
  }
};

}  // namespace linnet::ntk
