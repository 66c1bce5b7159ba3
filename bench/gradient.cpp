// bench/gradient: value and gradient of the mean squared error of 784-512-512-512-10, Erf, with respect to all parameters, float: warm, and from the start of
// the process to the first gradient. The peer with the same options: bench/peers/jax_gradient.py.
#include "program.h"
#include "timing.h"

#include "linnet/autodiff/derivative.h"

#include <fmt/format.h>

#include <cmath>
#include <ctime>
#include <fstream>
#include <sstream>
#include <unistd.h>

namespace linnet::bench {
namespace {

using autodiff::FlatFunction;
using autodiff::Var;

constexpr Index widths[] = {784, 512, 512, 512, 10};
constexpr std::size_t layers = 4;

std::vector<Var> loss(std::span<const Var> v) {  // W, b of every layer; x, y
  Var x = v[2 * layers];
  for (std::size_t l = 0; l < layers; ++l) x = dot(l ? erf(x) : x, v[2 * l]) + v[2 * l + 1];
  return {mean(square(x - v[2 * layers + 1]))};
}

// Seconds since this process was started, to a hundredth: the system counts ticks.
double age() {
  std::ifstream file("/proc/self/stat");
  std::string text((std::istreambuf_iterator<char>(file)), {});
  std::istringstream fields(text.substr(text.rfind(')') + 2));
  std::string field;
  for (int i = 3; i <= 22; ++i) fields >> field;  // the 22nd: when it started, since the system did
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec) - std::stod(field) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

void benchmark(Index examples, int threads, int repeat) {
  autodiff::set_thread_count(threads);
  std::vector<Shape> shapes;
  for (std::size_t l = 0; l < layers; ++l) {
    shapes.push_back({widths[l], widths[l + 1]});
    shapes.push_back({widths[l + 1]});
  }
  shapes.push_back({examples, widths[0]});
  shapes.push_back({examples, widths[layers]});
  std::vector<Array<float>> in;
  for (const Shape& s : shapes) in.push_back(numbers<float>(s, static_cast<unsigned>(in.size()), in.size() < 2 * layers ? 1 / std::sqrt(static_cast<double>(s[0])) : 1));
  autodiff::Views<float> views(in.begin(), in.end());
  const FlatFunction<float> f(autodiff::detail::value_and_grad(loss, 2 * layers), shapes);
  const double value = f(views)[0].item(), first = age();
  const Seconds warm = fastest(repeat, [&] { f(views); });
  fmt::print(R"({{"bench":"gradient","examples":{},"threads":{},"value":{:.6f},"first_s":{:.4f},"best_ms":{:.4f},"cpu_ms":{:.4f},"arena_mb":{:.3f}}})""\n", examples, threads, value, first, 1e3 * warm.wall,
             1e3 * warm.processor, static_cast<double>(f.arena_bytes()) / 1e6);
}

}  // namespace
}  // namespace linnet::bench

int main(int argc, char** argv) {
  std::int64_t examples = 256;
  int threads = 1, repeat = 50;
  CLI::App app("Value and gradient of a network");
  app.add_option("--examples", examples, "examples in the batch")->check(CLI::Range(1, 65536))->capture_default_str();
  app.add_option("--threads", threads, "threads")->check(CLI::Range(1, 1024))->capture_default_str();
  app.add_option("--repeat", repeat, "runs, of which the fastest counts")->check(CLI::Range(1, 10000))->capture_default_str();
  return linnet::bench::program("gradient", app, argc, argv, [&] { linnet::bench::benchmark(examples, threads, repeat); });
}
