// bench/ntk: the empirical tangent kernel of a dense network with Erf, or of a convolutional one, timed; one JSON line. The same options as peers/neural_tangents.py.
// GFLOP/s counts the operations a method performs, and stands beside that of a plain product in the same run. With --fit the time of the traced kernel of 128 to
// 4096 examples against its operations.
#include "program.h"
#include "timing.h"

#include "linnet/nn/layer.h"
#include "linnet/ntk/empirical.h"
#include "linnet/ntk/plan.h"

#include <fmt/format.h>

#include <limits>
#include <malloc.h>

namespace linnet::bench {
namespace {

using ntk::Method;

struct Options {
  Index n = 1024, inputs = 784, width = 512, depth = 2, outputs = 10;
  std::string network = "dense", layout = "full", method = "structured", dtype = "f32";
  int threads = 0, repeat = 5;
  bool fit = false, once = false;
};

const std::map<std::string, Method> methods{
    {"structured", Method::structured}, {"jacobian_contraction", Method::jacobian_contraction}, {"vector_products", Method::vector_products}, {"automatic", Method::automatic}};

// Operations of the kernel of one set of examples, its lower half computed; 0 where the method is not known beforehand or has no simple count.
// The sweep is the forward pass and the cotangents of all outputs; then the pairs of examples.
struct Operations {
  double sweep = 0, pairs = 0;
  double all() const { return sweep + pairs; }
};
Operations operations(const Options& o) {
  const double n = static_cast<double>(o.n), d = static_cast<double>(o.inputs), w = static_cast<double>(o.width), l = static_cast<double>(o.depth), k = static_cast<double>(o.outputs);
  const bool traced = o.layout == "trace";
  if (o.network != "dense") return {};
  const double inner = o.depth == 0 ? 0 : (l - 1) * w * w + w * k, first = o.depth == 0 ? d * k : d * w;
  const double sweep = 2 * n * (first + inner) + 2 * n * k * inner;
  if (o.method == "structured") return {sweep, n * n * (d + l * w) + (traced ? n * n : n * n * k) * k * l * w};
  if (o.method != "jacobian_contraction") return {};
  const double parameters = first + inner + l * w + k;
  return {sweep, n * k * parameters + (traced ? n * n : n * n * k) * k * parameters};  // outer products, then pairs
}

// Images inputs x inputs of three channels: `depth` convolutions 3 x 3 of `width` channels, their average over all places, a dense layer.
nn::Layer convolutional(const Options& o) {
  std::vector<nn::Layer> layers;
  for (Index l = 0; l < o.depth; ++l) {
    layers.push_back(nn::Conv(o.width, {3, 3}, {.strides = {}, .padding = nn::Padding::same, .W_std = 1.5, .b_std = .05}));
    layers.push_back(nn::Erf());
  }
  layers.push_back(nn::GlobalAvgPool());
  layers.push_back(nn::Dense(o.outputs, {.W_std = 1.5, .b_std = .05}));
  return nn::serial(std::move(layers));
}

nn::Layer network(const Options& o) {
  if (o.network == "conv") return convolutional(o);
  std::vector<nn::Layer> layers;
  for (Index l = 0; l < o.depth; ++l) {
    layers.push_back(nn::Dense(o.width, {.W_std = 1.5, .b_std = .05}));
    layers.push_back(nn::Erf());
  }
  layers.push_back(nn::Dense(o.outputs, {.W_std = 1.5, .b_std = .05}));
  return nn::serial(std::move(layers));
}

template <Scalar T> void benchmark(const Options& o) {
  const nn::Layer layer = network(o);
  const bool images = o.network == "conv";
  const auto params = nn::initialize<T>(layer, nn::Key(0), images ? Shape{1, o.inputs, o.inputs, 3} : Shape{1, o.inputs});
  const auto f = nn::function_of(layer);
  const Array<T> x = numbers<T>(images ? Shape{o.n, o.inputs, o.inputs, 3} : Shape{o.n, o.inputs}, 7, 1.7);
  ntk::Options options;
  options.method = methods.at(o.method);
  double some = 0;  // of the result, so that it is wanted
  auto kernel = [&] { some += static_cast<double>(o.layout == "full" ? ntk::full(f, params, x, options).matrix()[{0, 0}] : ntk::traced(f, params, x, options).matrix()[{0, 0}]); };
  const Seconds cold = once(kernel);
  if (o.once) {
    fmt::print(R"({{"bench":"ntk","network":"{}","n":{},"layout":"{}","cold_s":{:.5f},"peak_mb":{:.0f},"theta_00":{:.6g}}})""\n", o.network, o.n, o.layout, cold.wall, peak_memory_mb(), some);
    return;
  }
  const Seconds best = fastest(o.repeat, kernel), plain = plain_product<T>(5);
  const double gflop = operations(o).all() / 1e9, peak = peak_memory_mb();
  const ntk::KernelPlan plan = o.layout == "full" ? ntk::plan_full(f, params, x, options) : ntk::plan_traced(f, params, x, options);
  auto rate = [](double flop, double seconds) { return flop > 0 ? fmt::format("{:.1f}", flop / seconds / 1e9) : std::string("null"); };
  const int threads = autodiff::thread_count();
  fmt::print(R"({{"bench":"ntk","network":"{}","n":{},"inputs":{},"width":{},"depth":{},"outputs":{},"layout":"{}","method":"{}","dtype":"{}","threads":{},)", o.network, o.n, o.inputs, o.width, o.depth, o.outputs, o.layout,
             o.method, o.dtype, threads);
  fmt::print(R"("cold_s":{:.5f},"best_s":{:.5f},"cpu_s":{:.5f},"gflop":{},"gflop_per_s":{},"gflop_per_cpu_s":{},"product_gflop_per_s":{},"product_gflop_per_cpu_s":{},"peak_mb":{:.0f},"planned_mb":{:.0f},"result_mb":{:.0f},"theta_00":{:.6g}}})""\n",
             cold.wall, best.wall, best.processor, gflop > 0 ? fmt::format("{:.3f}", gflop) : "null", rate(1e9 * gflop, best.wall), rate(1e9 * gflop, best.processor), rate(plain_product_flop, plain.wall),
             rate(plain_product_flop, plain.processor), peak, static_cast<double>(plan.peak) / (1 << 20), static_cast<double>(plan.result) / (1 << 20), some / (o.repeat + 2));
}

// Seconds of the traced kernel for 128, 256, ... 4096 examples as those of its two parts, the sweep over examples and the pairs of them, each at one rate: the
// rates that fit best, relative errors squared, and how far each measured time is from them.
template <Scalar T> void fit(Options o) {
  struct Row {
    Operations flop;
    double seconds;
  };
  o.layout = "trace", o.method = "structured", o.network = "dense";
  const nn::Layer layer = network(o);
  const auto params = nn::initialize<T>(layer, nn::Key(0), Shape{1, o.inputs});
  const auto f = nn::function_of(layer);
  std::vector<Row> rows;
  double ss = 0, sp = 0, pp = 0, s1 = 0, p1 = 0;
  for (o.n = 128; o.n <= 4096; o.n *= 2) {
    const Array<T> x = numbers<T>(Shape{o.n, o.inputs}, 7, 1.7);
    double some = 0;
    const auto kernel = [&] { some += static_cast<double>(ntk::traced(f, params, x).matrix()[{0, 0}]); };
    once(kernel);
    const double seconds = fastest(o.repeat * static_cast<int>(4096 / o.n > 8 ? 8 : 4096 / o.n), kernel).wall;
    const Operations flop = operations(o);
    const double s = flop.sweep / seconds, p = flop.pairs / seconds;
    ss += s * s, sp += s * p, pp += p * p, s1 += s, p1 += p;
    rows.push_back({flop, seconds});
  }
  const double det = ss * pp - sp * sp, of_sweep = (s1 * pp - p1 * sp) / det, of_pairs = (p1 * ss - s1 * sp) / det;
  double worst = 0;
  fmt::print(R"({{"bench":"ntk_fit","dtype":"{}","threads":{},"sweep_gflop_per_s":{:.1f},"pairs_gflop_per_s":{:.1f},"rows":[)", o.dtype, autodiff::thread_count(), 1e-9 / of_sweep, 1e-9 / of_pairs);
  Index n = 128;
  for (const Row& r : rows) {
    const double predicted = of_sweep * r.flop.sweep + of_pairs * r.flop.pairs, off = r.seconds / predicted - 1;
    worst = std::max(worst, std::abs(off));
    fmt::print(R"({}{{"n":{},"gflop":{:.3f},"best_s":{:.5f},"predicted_s":{:.5f},"off":{:.3f}}})", n == 128 ? "" : ",", n, r.flop.all() / 1e9, r.seconds, predicted, off);
    n *= 2;
  }
  fmt::print(R"(],"worst":{:.3f}}})""\n", worst);
}

void run(const Options& o) {
  // Freed memory stays with the process: a kernel of hundreds of megabytes would otherwise be mapped, zeroed page by page and given back in every
  // run. A program that computes many kernels does the same, and the peer's allocator does.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  if (o.threads > 0) autodiff::set_thread_count(o.threads);
  if (o.fit) o.dtype == "f32" ? fit<float>(o) : fit<double>(o);
  else o.dtype == "f32" ? benchmark<float>(o) : benchmark<double>(o);
}

}  // namespace
}  // namespace linnet::bench

int main(int argc, char** argv) {
  linnet::bench::Options o;
  CLI::App app("The empirical tangent kernel of a network, timed");
  const auto positive = CLI::Range(1, 1 << 24);
  app.add_option("--n", o.n, "examples")->check(positive)->capture_default_str();
  app.add_option("--inputs", o.inputs, "values of an example; conv: height and width of its images of 3 channels")->check(positive)->capture_default_str();
  app.add_option("--width", o.width, "of a hidden layer; conv: channels")->check(positive)->capture_default_str();
  app.add_option("--depth", o.depth, "hidden layers")->check(CLI::Range(0, 1000))->capture_default_str();
  app.add_option("--outputs", o.outputs, "of the network")->check(positive)->capture_default_str();
  app.add_option("--network", o.network, "dense, or convolutions and an average over all places")->check(CLI::IsMember({"dense", "conv"}))->capture_default_str();
  app.add_option("--layout", o.layout, "rows of examples and outputs, or the sum over outputs")->check(CLI::IsMember({"full", "trace"}))->capture_default_str();
  app.add_option("--method", o.method, "of the kernel")->check(CLI::IsMember({"structured", "jacobian_contraction", "vector_products", "automatic"}))->capture_default_str();
  app.add_option("--dtype", o.dtype, "number type")->check(CLI::IsMember({"f32", "f64"}))->capture_default_str();
  app.add_option("--threads", o.threads, "0: as OMP_NUM_THREADS says, or all")->check(CLI::Range(0, 1024))->capture_default_str();
  app.add_option("--repeat", o.repeat, "runs after the first, of which the fastest counts")->check(CLI::Range(1, 10000))->capture_default_str();
  app.add_flag("--once", o.once, "the first kernel alone: for the time of a whole process");
  app.add_flag("--fit", o.fit, "the traced kernel for 128 to 4096 examples instead, and how well its operations predict the time");
  return linnet::bench::program("ntk", app, argc, argv, [&] { linnet::bench::run(o); });
}
