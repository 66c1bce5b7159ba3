// bench/derivatives: the time of replaying derivatives of a network, beside the same written by hand with Eigen (derivatives_eigen.h) in the same
// run: the forward pass with residuals, vjp and jvp with one and several (co)tangents at once, of all parameters. 784-512-512-512-10, Erf, float.
// With several threads set OMP_PROC_BIND=true, or the system may keep short runs on one processor.
#include "derivatives_eigen.h"
#include "program.h"
#include "timing.h"

#include "linnet/autodiff/executor.h"
#include "linnet/autodiff/transform.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

namespace linnet::bench {
namespace {

using autodiff::Executor;
using autodiff::Function;
using autodiff::Lanes;
using autodiff::Linear;
using autodiff::Program;
using autodiff::Tape;
using autodiff::Var;
using autodiff::Varies;

struct Options {
  Index examples = 256, lanes = 10;
  int repeat = 15;
  std::vector<int> threads;
  std::string only;
};

using Arrays = std::vector<Array<float>>;
std::vector<const float*> in(std::initializer_list<const Arrays*> lists) {
  std::vector<const float*> all;
  for (const Arrays* list : lists)
    for (const Array<float>& a : *list) all.push_back(a.data());
  return all;
}
std::vector<float*> out(Arrays& list) {
  std::vector<float*> all;
  for (Array<float>& a : list) all.push_back(a.data());
  return all;
}

std::vector<Var> network(std::span<const Var> v) {  // W, b of every layer; then x
  Var x = v.back();
  for (std::size_t l = 0; l < layers; ++l) {
    x = dot(x, v[2 * l]) + v[2 * l + 1];
    if (l + 1 < layers) x = erf(x);
  }
  return {x};
}
std::vector<Shape> parameter_shapes() {
  std::vector<Shape> all;
  for (std::size_t l = 0; l < layers; ++l) {
    all.push_back({widths[l], widths[l + 1]});
    all.push_back({widths[l + 1]});
  }
  return all;
}

// The three programs. Residuals that are parameters or x themselves are not copied, as the code by hand does not.
struct Programs {
  std::shared_ptr<const Program> primal, forward, backward;
  std::vector<int> residual;  // of each: the input of `primal` it is, or -1 - k for its output k
};
Programs record(Index examples) {
  Programs p;
  Tape outer;
  std::vector<Var> params, results, x{outer.input({examples, widths[0]})};
  for (const Shape& s : parameter_shapes()) params.push_back(outer.input(s));
  const Linear l = linearize(network, params, x);
  results = l.out;
  for (const Var& r : l.residuals) {
    int from = 0;
    if (r.same_as(x[0])) from = 0;
    else if (const auto at = std::find_if(params.begin(), params.end(), [&](const Var& v) { return v.same_as(r); }); at != params.end()) from = 1 + static_cast<int>(at - params.begin());
    else {
      from = -1 - static_cast<int>(results.size());
      results.push_back(r);
    }
    p.residual.push_back(from);
  }
  p.forward = l.map;
  Tape tape;
  const std::vector<Var> cotangent{tape.input({examples, widths[layers]})};
  std::vector<Var> known(params.size());
  for (const Var& r : l.residuals) known.push_back(tape.input(r.shape()));
  std::vector<Var> gradients = transpose(*l.map, known, cotangent);
  gradients.resize(params.size());
  p.backward = std::make_shared<const Program>(tape.seal(gradients));
  p.primal = std::make_shared<const Program>(outer.seal(results));
  return p;
}

Arrays arrays(const std::vector<Shape>& shapes, Index lanes, unsigned seed, double size) {
  Arrays all;
  for (const Shape& s : shapes) all.push_back(numbers<float>(s.inserted(0, std::array{lanes}), seed++, size));
  return all;
}
Parameters view(const Arrays& a) {
  Parameters p;
  for (std::size_t l = 0; l < layers; ++l) p.W[l] = a[2 * l].data(), p.b[l] = a[2 * l + 1].data();
  return p;
}
Gradients into(Arrays& a) {
  Gradients p;
  for (std::size_t l = 0; l < layers; ++l) p.W[l] = a[2 * l].data(), p.b[l] = a[2 * l + 1].data();
  return p;
}
double difference(const Arrays& a, const Arrays& b) {  // relative to the largest entry of each array
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    double apart = 0, largest = 0;
    for (Index j = 0; j < a[i].size(); ++j) {
      const double d = std::abs(static_cast<double>(a[i].data()[j]) - static_cast<double>(b[i].data()[j]));
      if (!(d <= apart)) apart = d;
      largest = std::max(largest, std::abs(static_cast<double>(b[i].data()[j])));
    }
    if (!(apart / largest <= worst)) worst = apart / largest;  // a NaN stays
  }
  return worst;
}

Array<float> exchanged(const Array<float>& a, Index m, Index n) {  // [m, n, …] -> [n, m, …]
  Array<float> b(Shape{a.size()});
  const Index inner = a.size() / (m * n);
  for (Index i = 0; i < m; ++i)
    for (Index j = 0; j < n; ++j) std::copy_n(a.data() + (i * n + j) * inner, inner, b.data() + (j * m + i) * inner);
  return b;
}

struct Result {
  Seconds ours, by_hand;
  double difference = 0;
};

class Comparison {
 public:
  Comparison(const Options& o) : options_(o), programs_(record(o.examples)), primal_(programs_.primal) {
    const Index n = o.examples;
    for (const Shape& s : parameter_shapes()) params_.push_back(numbers<float>(s, static_cast<unsigned>(params_.size()), 1 / std::sqrt(static_cast<double>(s[0]))));
    x_.push_back(numbers<float>({n, widths[0]}, 91, 1));
    for (const int v : programs_.primal->outputs) results_.emplace_back(programs_.primal->shape(v));
    by_hand_.emplace_back(Shape{n, widths[layers]});
    for (std::size_t i = 0; i < 2 * hidden; ++i) by_hand_.emplace_back(Shape{n, widths[i % hidden + 1]});  // h, then slopes
    residuals_.x = x_[0].data();
    for (std::size_t l = 0; l < hidden; ++l) residuals_.h[l] = by_hand_[1 + l].data(), residuals_.slope[l] = by_hand_[1 + hidden + l].data();
    for (const Index panel : {128, 256, 1024}) eigen_.emplace_back(std::make_unique<HandWritten>(n, o.lanes, panel));
    Options once = o;
    once.repeat = 1;
    std::swap(options_, once);
    forward();  // for the residuals
    std::swap(options_, once);
  }

  Result forward() {
    const auto from = in({&x_, &params_});
    const auto to = out(results_);
    std::array<float*, hidden> h, slope;
    for (std::size_t l = 0; l < hidden; ++l) h[l] = by_hand_[1 + l].data(), slope[l] = by_hand_[1 + hidden + l].data();
    return against({{[&](HandWritten& e) { e.forward(view(params_), x_[0].data(), by_hand_[0].data(), h, slope); }, by_hand_, [&] { return difference({results_[0]}, {by_hand_[0]}); }}},
                   [&] { primal_.run(from, to); });
  }
  Result vjp(Index k) {
    Executor<float> executor(programs_.backward, {Varies::directions}, Lanes{1, k});
    const Arrays cotangents = arrays({Shape{options_.examples, widths[layers]}}, k, 17, 1);
    Arrays ours = arrays(parameter_shapes(), k, 1, 0), theirs = ours;
    const auto from = with_residuals(in({&cotangents}));
    const auto to = out(ours);
    std::vector<Way> ways;
    for (const bool folded : {true, false})
      ways.push_back({[&, folded](HandWritten& e) { e.vjp(view(params_), residuals_, k, cotangents[0].data(), into(theirs), folded); }, theirs, [&] { return difference(ours, theirs); }});
    if (k == 1) ways.pop_back();
    return against(ways, [&] { executor.run(from, to); });
  }
  Result jvp(Index k) {
    Executor<float> executor(programs_.forward, std::vector<Varies>(2 * layers, Varies::directions), Lanes{1, k});
    const Arrays tangents = arrays(parameter_shapes(), k, 29, .05);
    Arrays ours = arrays({Shape{options_.examples, widths[layers]}}, k, 1, 0), theirs = ours, side_by_side = tangents;
    for (std::size_t l = 0; l < layers; ++l) side_by_side[2 * l] = exchanged(tangents[2 * l], k, widths[l]);
    const auto from = with_residuals(in({&tangents}));
    const auto to = out(ours);
    std::vector<Way> ways;
    for (const bool folded : {true, false})
      ways.push_back({[&, folded](HandWritten& e) { e.jvp(view(params_), residuals_, k, view(tangents), theirs[0].data(), folded); }, theirs, [&] { return difference(ours, theirs); }});
    if (k == 1) ways.pop_back();
    else ways.push_back({[&](HandWritten& e) { e.jvp_side_by_side(view(params_), residuals_, k, view(side_by_side), theirs[0].data()); }, theirs,
                         [&] { return difference(ours, {exchanged(theirs[0], options_.examples, k)}); }});
    return against(ways, [&] { executor.run(from, to); });
  }

 private:
  std::vector<const float*> with_residuals(std::vector<const float*> all) const {
    const auto inputs = in({&x_, &params_});
    for (const int r : programs_.residual) all.push_back(r >= 0 ? inputs[static_cast<std::size_t>(r)] : results_[static_cast<std::size_t>(-1 - r)].data());
    return all;
  }
  struct Way {  // to write it by hand
    std::function<void(HandWritten&)> run;
    Arrays& results;
    std::function<double()> difference;  // of them from ours
  };
  // Against the fastest of the ways and heights of panels; then the two in turns, so that each finds its own memory as far from the processor as
  // the other does.
  Result against(const std::vector<Way>& ways, FunctionRef<void()> ours) {
    const std::size_t heights = eigen_.size();
    auto by_hand = [&](std::size_t i) { ways[i / heights].run(*eigen_[i % heights]); };
    Result result;
    ours();
    for (std::size_t i = 0; i < ways.size() * heights; ++i) {
      for (Array<float>& a : ways[i / heights].results) std::fill(a.begin(), a.end(), std::nanf(""));
      by_hand(i);
      if (const double d = ways[i / heights].difference(); !(d <= result.difference)) result.difference = d;
    }
    const std::vector<Seconds> all = in_turns(1 + options_.repeat / 3, static_cast<int>(ways.size() * heights), [&](int i) { by_hand(static_cast<std::size_t>(i)); });
    const auto best = std::min_element(all.begin(), all.end(), [](const Seconds& a, const Seconds& b) { return a.wall < b.wall; });
    const std::vector<Seconds> both = in_turns(options_.repeat, 2, [&](int which) { which == 0 ? ours() : by_hand(static_cast<std::size_t>(best - all.begin())); });
    result.ours = both[0];
    result.by_hand = both[1];
    return result;
  }
  Options options_;
  Programs programs_;
  Executor<float> primal_;
  Arrays params_, x_, results_, by_hand_;
  Residuals residuals_;
  std::vector<std::unique_ptr<HandWritten>> eigen_;
};

std::string run(const Options& o, int threads) {
  autodiff::set_thread_count(threads);
  Comparison c(o);
  struct Row {
    std::string name;
    Result result;
  };
  std::vector<Row> rows;
  auto add = [&](const std::string& name, auto measure) {
    if (o.only.empty() || o.only == name) rows.push_back({name, measure()});
  };
  add("forward", [&] { return c.forward(); });
  for (const Index k : {Index(1), o.lanes}) add(fmt::format("vjp_{}", k), [&] { return c.vjp(k); });
  for (const Index k : {Index(1), o.lanes}) add(fmt::format("jvp_{}", k), [&] { return c.jvp(k); });
  fmt::print("{} thread{}      wall ms:  Linnet  by hand   ratio    processor ms:  Linnet  by hand   ratio    difference\n", threads, threads == 1 ? " " : "s");
  std::string json;
  for (const auto& [name, r] : rows) {
    const double wall = r.ours.wall / r.by_hand.wall, processor = r.ours.processor / r.by_hand.processor;
    fmt::print("{:12}               {:8.3f} {:8.3f}  {:6.3f}                 {:8.3f} {:8.3f}  {:6.3f}    {:.1e}\n", name, 1e3 * r.ours.wall, 1e3 * r.by_hand.wall, wall,
               1e3 * r.ours.processor, 1e3 * r.by_hand.processor, processor, r.difference);
    json += fmt::format(R"({}"{}":{{"wall_ms":{:.4f},"by_hand_wall_ms":{:.4f},"wall_ratio":{:.4f},"cpu_ms":{:.4f},"by_hand_cpu_ms":{:.4f},"cpu_ratio":{:.4f}}})", json.empty() ? "" : ",", name,
                        1e3 * r.ours.wall, 1e3 * r.by_hand.wall, wall, 1e3 * r.ours.processor, 1e3 * r.by_hand.processor, processor);
    if (!(r.difference < 1e-4)) throw std::runtime_error(fmt::format("{} differs from the code by hand by {:.2e} of the largest entry", name, r.difference));
  }
  return fmt::format(R"({{"threads":{},{}}})", threads, json);
}

void benchmark(Options o) {
  if (o.threads.empty()) {
    o.threads = {1};
    if (autodiff::thread_count() > 1) o.threads.push_back(autodiff::thread_count());
  }
  const Seconds traced = fastest(20, [&] { record(o.examples); });
  const Programs p = record(o.examples);
  const Seconds planned = once([&] { Executor<float>{p.backward, {Varies::directions}, Lanes{1, o.lanes}}; });
  fmt::print("784-512-512-512-10 Erf, {} examples, float; trace, linearize and transpose {:.3f} ms, plan {:.3f} ms; fastest of {}\n", o.examples, 1e3 * traced.wall, 1e3 * planned.wall, o.repeat);
  std::string json;
  for (const int threads : o.threads) json += (json.empty() ? "" : ",") + run(o, threads);
  fmt::print(R"({{"bench":"derivatives","examples":{},"lanes":{},"trace_ms":{:.4f},"runs":[{}]}})""\n", o.examples, o.lanes, 1e3 * traced.wall, json);
}

}  // namespace
}  // namespace linnet::bench

int main(int argc, char** argv) {
  linnet::bench::Options o;
  CLI::App app("Derivatives of a network beside the same written by hand with Eigen");
  app.add_option("--examples", o.examples, "examples in the batch")->check(CLI::Range(1, 65536))->capture_default_str();
  app.add_option("--lanes", o.lanes, "(co)tangents at once")->check(CLI::Range(2, 1000))->capture_default_str();
  app.add_option("--repeat", o.repeat, "runs, of which the fastest counts")->check(CLI::Range(1, 10000))->capture_default_str();
  app.add_option("--threads", o.threads, "numbers of threads; default: 1 and all")->check(CLI::Range(1, 1024));
  app.add_option("--only", o.only, "one of forward, vjp_1, vjp_<lanes>, jvp_1, jvp_<lanes>");
  return linnet::bench::program("derivatives", app, argc, argv, [&] { benchmark(o); });
}
