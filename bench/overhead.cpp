// bench/overhead: what is paid beside the arithmetic: replaying an instruction (a 4-wide network, whose arithmetic is next to nothing), and tracing a gradient, of
// 4 layers and of more, up to 1,000, where the time a layer should stay the same.
#include "timing.h"

#include "linnet/autodiff/derivative.h"

#include <fmt/format.h>

namespace linnet::bench {
namespace {

using autodiff::Function;
using autodiff::Program;
using autodiff::Var;

std::vector<Var> loss(std::span<const Var> v) {  // x, then W and b of every layer
  Var x = v[0];
  for (std::size_t i = 1; i < v.size(); i += 2) x = tanh(dot(x, v[i]) + v[i + 1]);
  return {sum(x)};
}

std::vector<Shape> shapes(Index layers) {
  std::vector<Shape> all{{4, 4}};
  for (Index l = 0; l < layers; ++l) {
    all.push_back({4, 4});
    all.push_back({4});
  }
  return all;
}

void benchmark() {
  autodiff::set_thread_count(1);
  const Function gradient = autodiff::detail::value_and_grad(loss, 1);  // of x alone: every instruction is small, and none is an output of its own
  std::string rows;
  for (const Index layers : {4, 10, 100, 1000}) {
    const auto s = shapes(layers);
    const auto program = std::make_shared<const Program>(trace(gradient, s));
    autodiff::Executor<float> executor(program);
    std::vector<Array<float>> in, out;
    std::vector<const float*> from;
    std::vector<float*> to;
    for (const Shape& shape : s) in.push_back(numbers<float>(shape, static_cast<unsigned>(in.size()), .5));
    for (std::size_t k = 0; k < program->outputs.size(); ++k) out.emplace_back(Shape{executor.output_size(k)});
    for (const auto& a : in) from.push_back(a.data());
    for (auto& a : out) to.push_back(a.data());
    const int times = static_cast<int>(4000 / layers);
    const int repeat = 7;
    const double replay = fastest(repeat, [&] { for (int i = 0; i < times; ++i) executor.run(from, to); }).wall / times;
    const double traced = fastest(repeat, [&] { for (int i = 0; i < std::max(1, times / 20); ++i) trace(gradient, s); }).wall / std::max(1, times / 20);
    const double planned = fastest(repeat, [&] { autodiff::Executor<float>{program}; }).wall;
    const double n = static_cast<double>(program->code.size());
    fmt::print("{:4} layers, {:5} instructions: replay {:7.1f} ns an instruction, trace of the gradient {:9.1f} us ({:.2f} a layer), plan {:9.1f} us\n", layers, program->code.size(), 1e9 * replay / n, 1e6 * traced,
               1e6 * traced / static_cast<double>(layers), 1e6 * planned);
    rows += fmt::format(R"({}{{"layers":{},"instructions":{},"replay_ns":{:.2f},"trace_us":{:.3f},"plan_us":{:.3f}}})", rows.empty() ? "" : ",", layers, program->code.size(), 1e9 * replay / n, 1e6 * traced, 1e6 * planned);
  }
  fmt::print(R"({{"bench":"overhead","rows":[{}]}})""\n", rows);
}

}  // namespace
}  // namespace linnet::bench

int main(int argc, char**) {
  if (argc > 1) {
    fmt::print(stderr, "overhead: takes no options\n");
    return 2;
  }
  linnet::bench::benchmark();
}
