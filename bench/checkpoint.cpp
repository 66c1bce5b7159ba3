// bench/checkpoint: memory and time of the gradient of a deep network with checkpoints against without: 64 layers of 256 with tanh, 128 examples, a
// checkpoint around every 8 layers, float. Memory is what the executor holds beside inputs and outputs, and is known before anything runs.
#include "program.h"
#include "timing.h"

#include "linnet/autodiff/derivative.h"

#include <fmt/format.h>

#include <cmath>

namespace linnet::bench {
namespace {

using autodiff::FlatFunction;
using autodiff::Function;
using autodiff::Var;
using Values = std::span<const Var>;

struct Options {
  Index layers = 64, every = 8, width = 256, examples = 128;
  int repeat = 10, threads = 1;
};

// x, then W and b of every layer.
std::vector<Var> block(Values v) {
  Var x = v[0];
  for (std::size_t i = 1; i + 1 < v.size(); i += 2) x = tanh(dot(x, v[i]) + v[i + 1]);
  return {x};
}

// The mean of the squares of the outputs: of parameters, then x.
Function loss(const Options& o, bool checkpoints) {
  return [=](Values v) -> std::vector<Var> {
    Var x = v.back();
    const auto step = static_cast<std::size_t>(2 * o.every);
    for (std::size_t at = 0; at + 1 < v.size(); at += step) {
      const Values mine = v.subspan(at, std::min(step, v.size() - 1 - at));
      std::vector<Var> in{x};
      in.insert(in.end(), mine.begin(), mine.end());
      x = (checkpoints ? autodiff::checkpoint(block) : Function(block))(in)[0];
    }
    return {mean(square(x))};
  };
}

void benchmark(const Options& o) {
  autodiff::set_thread_count(o.threads);
  std::vector<Shape> shapes;
  std::vector<Array<float>> in;
  for (Index l = 0; l < o.layers; ++l) {
    shapes.push_back({o.width, o.width});
    shapes.push_back({o.width});
  }
  const std::size_t n = shapes.size();
  shapes.push_back({o.examples, o.width});
  autodiff::Views<float> views;
  for (const Shape& s : shapes) in.push_back(numbers<float>(s, static_cast<unsigned>(in.size()), 1.5 / std::sqrt(static_cast<double>(o.width))));
  for (const Array<float>& a : in) views.emplace_back(a);
  const FlatFunction<float> plain(autodiff::detail::value_and_grad(loss(o, false), n), shapes), with(autodiff::detail::value_and_grad(loss(o, true), n), shapes);
  const double bytes = static_cast<double>(plain.arena_bytes()), fewer = static_cast<double>(with.arena_bytes());
  const auto expected = plain(views), came = with(views);
  double difference = 0;
  for (std::size_t k = 0; k < expected.size(); ++k) difference = std::max(difference, static_cast<double>(max_abs(expected[k] - came[k]) / max_abs(expected[k])));
  if (!(difference < 1e-5)) throw std::runtime_error(fmt::format("the gradients differ by {:.2e} of the largest entry", difference));
  const std::vector<Seconds> s = in_turns(o.repeat, 2, [&](int i) { (i == 0 ? plain : with)(views); });
  fmt::print("{} layers of {}, {} examples, a checkpoint every {}, {} thread{}: {:.2f} MB and {:.2f} ms without, {:.2f} MB and {:.2f} ms with; {:.3f} of the memory, {:.3f} times the time\n", o.layers, o.width,
             o.examples, o.every, o.threads, o.threads == 1 ? "" : "s", bytes / 1e6, 1e3 * s[0].wall, fewer / 1e6, 1e3 * s[1].wall, fewer / bytes, s[1].wall / s[0].wall);
  fmt::print(R"({{"bench":"checkpoint","layers":{},"every":{},"width":{},"examples":{},"threads":{},"bytes":{:.0f},"checkpoint_bytes":{:.0f},"memory_ratio":{:.4f},"wall_ms":{:.4f},"checkpoint_wall_ms":{:.4f},"wall_ratio":{:.4f},"cpu_ratio":{:.4f},"difference":{:.1e}}})""\n",
             o.layers, o.every, o.width, o.examples, o.threads, bytes, fewer, fewer / bytes, 1e3 * s[0].wall, 1e3 * s[1].wall, s[1].wall / s[0].wall, s[1].processor / s[0].processor, difference);
}

}  // namespace
}  // namespace linnet::bench

int main(int argc, char** argv) {
  linnet::bench::Options o;
  CLI::App app("Memory and time of a gradient with checkpoints against without");
  app.add_option("--layers", o.layers, "layers")->check(CLI::Range(1, 10000))->capture_default_str();
  app.add_option("--every", o.every, "layers in a checkpoint")->check(CLI::Range(1, 10000))->capture_default_str();
  app.add_option("--width", o.width, "width")->check(CLI::Range(1, 65536))->capture_default_str();
  app.add_option("--examples", o.examples, "examples in the batch")->check(CLI::Range(1, 65536))->capture_default_str();
  app.add_option("--repeat", o.repeat, "runs, of which the fastest counts")->check(CLI::Range(1, 10000))->capture_default_str();
  app.add_option("--threads", o.threads, "threads")->check(CLI::Range(1, 1024))->capture_default_str();
  return linnet::bench::program("checkpoint", app, argc, argv, [&] { linnet::bench::benchmark(o); });
}
