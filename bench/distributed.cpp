// bench/distributed: the kernel of 784-512-512-… with Erf by several processes, and what that comes to on more machines than there are. Under mpirun it times one process and all of them;
// with --project it measures what a pair of examples and the sweep of one cost here, and works out kernels of any size from that (docs/scaling.md). JSON lines.
#include "program.h"
#include "timing.h"

#include "linnet/nn/layer.h"
#include "linnet/ntk/blocks.h"
#include "linnet/ntk/distributed.h"
#include "linnet/ntk/gram.h"

#include <fmt/format.h>

#include <algorithm>

namespace linnet::bench {
namespace {

struct Options {
  Index n = 1024, outputs = 10;
  std::string layout = "full";
  int repeat = 3;
  double memory_gb = 64;
  std::vector<double> rates;  // ns of a pair, us of a sweep; empty: measured
  std::vector<Index> examples;
  std::vector<int> machines{1, 10, 100, 1000};
};

struct Problem {
  nn::Layer layer;
  autodiff::Tree<Array<float>> params;
  ntk::Apply f;
  bool traced;
};
Problem problem(const Options& o) {
  const auto dense = [](Index width) { return nn::Dense(width, {.W_std = 1.5, .b_std = .05}); };
  const nn::Layer layer = nn::serial({dense(512), nn::Erf(), dense(512), nn::Erf(), dense(o.outputs)});
  return {layer, nn::initialize<float>(layer, nn::Key(0), Shape{1, 784}), nn::function_of(layer), o.layout == "trace"};
}

// One process, then all of them, in turns.
void measure(const Options& o) {
  const Problem p = problem(o);
  const Array<float> x = numbers<float>({o.n, 784}, 7, 1.7);
  const ntk::Place place = ntk::place();
  double one = 1e300, all = 1e300;
  ntk::Assembly best, assembly;
  const auto kernel_of_one = [&] { return p.traced ? ntk::traced(p.f, p.params, x).matrix() : ntk::full(p.f, p.params, x).matrix(); };
  bool same = true;
  for (int r = 0; r < o.repeat; ++r) {
    Array<float> expected({0, 0});
    if (place.rank == 0) one = std::min(one, once([&] { expected = kernel_of_one(); }).wall);
    const auto compare = [&](const auto& kernel) {
      if (kernel) same &= kernel->matrix() == expected;
    };
    const ntk::Distribution told{.everywhere = false, .assembly = &assembly};
    // Both wait for each other before, so the clock of the work is the one in Assembly.
    if (p.traced) compare(ntk::traced_distributed(p.f, p.params, x, {}, told));
    else compare(ntk::full_distributed(p.f, p.params, x, {}, told));
    if (assembly.seconds < all) all = assembly.seconds, best = assembly;
  }
  if (place.rank > 0) return;
  std::string computing;
  for (const double s : best.computing) computing += fmt::format("{}{:.4f}", computing.empty() ? "" : ",", s);
  fmt::print(R"({{"bench":"distributed","ranks":{},"threads":{},"n":{},"outputs":{},"layout":"{}","one_s":{:.4f},"all_s":{:.4f},"computing_s":[{}],"panel":{},"blocks":{},"tiles":{},"swept":{},"sent_mb":{:.1f},"same_bits":{},"peak_mb":{:.0f}}})""\n",
             place.ranks, autodiff::thread_count(), o.n, o.outputs, o.layout, one, all, computing, best.panel, best.blocks, best.tiles, best.swept, static_cast<double>(best.sent) / 1e6, same, peak_memory_mb());
}

// Seconds of the sweep of an example, and of a pair of examples. The first by a block of many columns and one tile of rows, which has hardly any pairs to prepare; the second by all
// whole tiles of a block of n examples with themselves, and what of opening that is not sweeps.
struct Costs {
  double sweep = 1e300, pair = 1e300;
};
Costs costs(const Options& o, const Problem& p, const ntk::GramPlan& plan, Index n) {
  const Array<float> x = numbers<float>({n, 784}, 7, 1.7);
  const autodiff::Views<float> params = autodiff::detail::views<float>(p.params);
  const Index tile = ntk::tile_examples(plan, n, 0), panel = (n + tile - 1) / tile;
  Costs c;
  double open = 1e300;
  for (int r = 0; r < o.repeat + 1; ++r) {
    ntk::GramBlocks<float> wide(plan, params, x.data(), n, x.data(), tile, {panel, false}), whole(plan, params, x.data(), n, nullptr, 0, {panel, false});
    c.sweep = std::min(c.sweep, once([&] { wide.open(0, 0, [](Index, Index) { return true; }); }).wall / static_cast<double>(wide.swept()));
    Index tiles = 0;
    open = std::min(open, once([&] { tiles = whole.open(0, 0, [](Index i, Index j) { return i > j; }); }).wall);
    c.pair = std::min(c.pair, once([&] { whole.run(0, tiles, [](Index, Index, Index, const float*, Index) {}); }).wall / (static_cast<double>(tiles) * static_cast<double>(tile * tile)));
  }
  const double size = static_cast<double>(n);
  c.pair += std::max(0., open - size * c.sweep) * 2 / (size * size);
  return c;
}

void project(const Options& o) {
  const Problem p = problem(o);
  const autodiff::Tree<Shape> shapes = autodiff::detail::form(p.params);
  const ntk::GramPlan plan = ntk::plan_gram(p.f, shapes, Shape{1, 784}, 50000, 50000, p.traced, ntk::Contraction::automatic);
  const Index tile = ntk::tile_examples(plan, 50000, 0), n = std::max<Index>(o.n / tile, 2) * tile;
  const auto [sweep, pair] = o.rates.empty() ? costs(o, p, plan, n) : Costs{1e-6 * o.rates[1], 1e-9 * o.rates[0]};
  fmt::print(R"({{"bench":"distributed rates","outputs":{},"layout":"{}","threads":{},"tile":{},"n":{},"pair_ns":{:.2f},"sweep_us":{:.2f},"pair_gflop_per_s":{:.0f},"sweep_gflop_per_s":{:.0f}}})""\n", o.outputs, o.layout,
             autodiff::thread_count(), tile, n, 1e9 * pair, 1e6 * sweep, plan.pair_flops / pair / 1e9, sweep > 0 ? plan.sweep_flops / sweep / 1e9 : 0);
  for (const Index examples : o.examples) {
    const double rows = static_cast<double>(examples), side = p.traced ? 1 : static_cast<double>(o.outputs), bytes = rows * rows / 2 * side * side * sizeof(float);
    ntk::TileLayout l;
    l.rows = l.columns = examples, l.outputs = o.outputs, l.tile = tile, l.traced = p.traced, l.symmetric = true, l.width = sizeof(float);
    const Index most = ntk::most_in_flight<float>(plan, examples, 0, static_cast<std::size_t>(o.memory_gb * 1e9)).panel;
    for (const int machines : o.machines) {
      ntk::Division best;
      best.duration = 1e300;
      for (const Index panel : ntk::panel_candidates(l))
        if (const ntk::Division d = ntk::divide(l, panel, machines, pair, sweep); panel <= most && d.duration < best.duration) best = d;
      const double sent = bytes * (1 - 1. / machines), swept = best.swept * sweep / (best.swept * sweep + rows * rows / 2 * pair);
      fmt::print(R"({{"bench":"distributed projection","n":{},"outputs":{},"layout":"{}","machines":{},"panel_examples":{},"result_gb":{:.4g},"compute_s":{:.4g},"efficiency":{:.3f},"sweeps_each":{:.1f},"sweeps_share":{:.4f},"sent_gb":{:.4g},"sent_s_10":{:.4g},"sent_s_100":{:.4g}}})""\n",
                 examples, o.outputs, o.layout, machines, std::min(best.panel * tile, examples), bytes / 1e9, best.duration, (rows * rows / 2 * pair + rows * sweep) / machines / best.duration, best.swept / rows, swept,
                 sent / 1e9, sent / 1.25e9, sent / 12.5e9);
    }
  }
}

}  // namespace
}  // namespace linnet::bench

int main(int argc, char** argv) {
  linnet::bench::Options o;
  CLI::App app("The kernel of 784-512-512-outputs by several processes, timed or worked out");
  const auto positive = CLI::Range(1, 1 << 24);
  app.add_option("--n", o.n, "examples that are measured")->check(positive)->capture_default_str();
  app.add_option("--outputs", o.outputs, "of the network")->check(positive)->capture_default_str();
  app.add_option("--layout", o.layout, "rows of examples and outputs, or the sum over outputs")->check(CLI::IsMember({"full", "trace"}))->capture_default_str();
  app.add_option("--repeat", o.repeat, "runs, of which the fastest counts")->check(CLI::Range(1, 10000))->capture_default_str();
  app.add_option("--project", o.examples, "so many examples on --machines, worked out from what is measured here, without mpirun")->check(positive);
  app.add_option("--rates", o.rates, "of --project: pair_ns and sweep_us of an earlier run, instead of measuring")->check(CLI::PositiveNumber)->expected(2);
  app.add_option("--machines", o.machines, "each like this one")->check(CLI::Range(1, 1000000))->capture_default_str();
  app.add_option("--memory", o.memory_gb, "GB of each machine for panels")->check(CLI::PositiveNumber)->capture_default_str();
  return linnet::bench::program("distributed", app, argc, argv, [&] {
    if (o.examples.empty()) linnet::bench::measure(o);
    else linnet::bench::project(o);
  });
}
