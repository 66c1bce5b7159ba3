// bench/convolution: the time of a convolution, of its derivative and of both gradients, beside im2col and a product written by hand with Eigen
// (convolution_eigen.h) in the same run, by the fastest of several ways: windows of the whole batch, of an image, of some rows. 3 x 3 windows, zeros around, float.
// With several threads set OMP_PROC_BIND=true and OMP_WAIT_POLICY=passive.
#include "convolution_eigen.h"
#include "program.h"
#include "timing.h"

#include "linnet/autodiff/executor.h"
#include "linnet/autodiff/ops.h"
#include "linnet/autodiff/transform.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

namespace linnet::bench {
namespace {

using autodiff::Executor;
using autodiff::Function;
using autodiff::Linear;
using autodiff::Program;
using autodiff::Tape;
using autodiff::Var;

struct Options {
  Index images = 64, size = 32;
  int repeat = 15;
  std::vector<int> threads;
  std::string only;
};
struct Case {
  const char* name;
  Convolution sizes;
};

std::shared_ptr<const Program> record(const Function& f, const std::vector<Shape>& inputs) { return std::make_shared<const Program>(autodiff::trace(f, inputs)); }

struct Result {
  Seconds ours, by_hand;
  double difference = 0;
};

class Comparison {
 public:
  Comparison(const Convolution& c, int repeat)
      : c_(c), repeat_(repeat), image_{c.images, c.size, c.size, c.channels}, weight_{c.taps, c.taps, c.channels, c.features}, result_{c.images, c.places(), c.places(), c.features},
        x_(numbers<float>(image_, 1, 1)), w_(numbers<float>(weight_, 2, .1)), g_(numbers<float>(result_, 3, 1)), dx_(numbers<float>(image_, 4, 1)), dw_(numbers<float>(weight_, 5, .1)) {
    for (const Index rows : {Index(0), c.places(), Index(8), Index(4)}) by_hand_.push_back(std::make_unique<ConvolutionByHand>(c, rows));
  }
  Result value() {
    return against(record(convolution(), {image_, weight_}), {&x_, &w_}, result_, [&](ConvolutionByHand& e, float* to) { e.value(x_.data(), w_.data(), to); });
  }
  Result jvp() {
    const Function f = [&](std::span<const Var> v) { return autodiff::push_forward(autodiff::linearize(convolution(), v.first(2), {}), v.last(2)); };
    return against(record(f, {image_, weight_, image_, weight_}), {&x_, &w_, &dx_, &dw_}, result_, [&](ConvolutionByHand& e, float* to) { e.tangent(x_.data(), w_.data(), dx_.data(), dw_.data(), to); });
  }
  Result vjp_weights() {
    return against(gradient(1), {&x_, &w_, &g_}, weight_, [&](ConvolutionByHand& e, float* to) { e.gradient_of_weights(x_.data(), g_.data(), to); });
  }
  Result vjp_images() {
    return against(gradient(0), {&x_, &w_, &g_}, image_, [&](ConvolutionByHand& e, float* to) { e.gradient_of_images(g_.data(), w_.data(), to); });
  }

 private:
  Function convolution() const {
    return [stride = c_.stride](std::span<const Var> v) -> std::vector<Var> { return {conv(v[0], v[1], {.stride = {stride, stride}})}; };
  }
  std::shared_ptr<const Program> gradient(std::size_t k) const {
    return record([&, k](std::span<const Var> v) -> std::vector<Var> {
      return {autodiff::pull_back(autodiff::linearize(convolution(), v.first(2), {}), v.first(2), v.last(1))[k]};
    }, {image_, weight_, result_});
  }
  Result against(std::shared_ptr<const Program> program, const std::vector<const Array<float>*>& in, const Shape& shape, const std::function<void(ConvolutionByHand&, float*)>& by_hand) {
    Executor<float> executor(std::move(program));
    std::vector<const float*> from;
    for (const Array<float>* a : in) from.push_back(a->data());
    Array<float> ours(shape), theirs(shape);
    float* const to[] = {ours.data()};
    executor.run(from, to);
    Result r;
    auto hand = [&](int i) { by_hand(*by_hand_[static_cast<std::size_t>(i)], theirs.data()); };
    for (int i = 0; i < static_cast<int>(by_hand_.size()); ++i) {
      std::fill(theirs.begin(), theirs.end(), std::nanf(""));
      hand(i);
      double apart = 0, largest = 0;
      for (Index k = 0; k < ours.size(); ++k) {
        const double d = std::abs(static_cast<double>(ours.data()[k]) - static_cast<double>(theirs.data()[k]));
        if (!(d <= apart)) apart = d;  // a NaN stays
        largest = std::max(largest, std::abs(static_cast<double>(theirs.data()[k])));
      }
      if (!(apart / largest <= r.difference)) r.difference = apart / largest;
    }
    const std::vector<Seconds> all = in_turns(1 + repeat_ / 3, static_cast<int>(by_hand_.size()), hand);
    const auto best = static_cast<int>(std::min_element(all.begin(), all.end(), [](const Seconds& a, const Seconds& b) { return a.wall < b.wall; }) - all.begin());
    const std::vector<Seconds> both = in_turns(repeat_, 2, [&](int which) { which == 0 ? executor.run(from, to) : hand(best); });
    r.ours = both[0];
    r.by_hand = both[1];
    return r;
  }
  Convolution c_;
  int repeat_;
  Shape image_, weight_, result_;
  Array<float> x_, w_, g_, dx_, dw_;
  std::vector<std::unique_ptr<ConvolutionByHand>> by_hand_;
};

std::string run(const Options& o, int threads) {
  autodiff::set_thread_count(threads);
  const Case cases[] = {{"plain", {o.images, o.size, 32, 32, 3, 1}}, {"first", {o.images, o.size, 3, 32, 3, 1}}, {"strided", {o.images, o.size, 32, 32, 3, 2}}};
  fmt::print("{} thread{}         wall ms:  Linnet  by hand   ratio    processor ms:  Linnet  by hand   ratio    difference\n", threads, threads == 1 ? " " : "s");
  std::string json;
  for (const Case& c : cases) {
    Comparison comparison(c.sizes, o.repeat);
    auto row = [&](const char* what, auto measure) {
      const std::string name = fmt::format("{}_{}", c.name, what);
      if (!o.only.empty() && name.find(o.only) == std::string::npos) return;
      const Result r = measure();
      const double wall = r.ours.wall / r.by_hand.wall, processor = r.ours.processor / r.by_hand.processor;
      fmt::print("{:20}          {:8.3f} {:8.3f}  {:6.3f}                 {:8.3f} {:8.3f}  {:6.3f}    {:.1e}\n", name, 1e3 * r.ours.wall, 1e3 * r.by_hand.wall, wall, 1e3 * r.ours.processor,
                 1e3 * r.by_hand.processor, processor, r.difference);
      json += fmt::format(R"({}"{}":{{"wall_ms":{:.4f},"by_hand_wall_ms":{:.4f},"wall_ratio":{:.4f},"cpu_ms":{:.4f},"by_hand_cpu_ms":{:.4f},"cpu_ratio":{:.4f}}})", json.empty() ? "" : ",", name,
                          1e3 * r.ours.wall, 1e3 * r.by_hand.wall, wall, 1e3 * r.ours.processor, 1e3 * r.by_hand.processor, processor);
      if (!(r.difference < 1e-4)) throw std::runtime_error(fmt::format("{} differs from the code by hand by {:.2e} of the largest entry", name, r.difference));
    };
    row("value", [&] { return comparison.value(); });
    row("vjp_weights", [&] { return comparison.vjp_weights(); });
    row("vjp_images", [&] { return comparison.vjp_images(); });
    row("jvp", [&] { return comparison.jvp(); });
  }
  return fmt::format(R"({{"threads":{}{}{}}})", threads, json.empty() ? "" : ",", json);
}

void benchmark(Options o) {
  if (o.threads.empty()) {
    o.threads = {1};
    if (autodiff::thread_count() > 1) o.threads.push_back(autodiff::thread_count());
  }
  fmt::print("{} images {} x {}, 3 x 3 windows: 32 channels to 32 (plain), 3 to 32 (first), 32 to 32 with stride 2 (strided); float; fastest of {}\n", o.images, o.size, o.size, o.repeat);
  std::string json;
  for (const int threads : o.threads) json += (json.empty() ? "" : ",") + run(o, threads);
  fmt::print(R"({{"bench":"convolution","images":{},"size":{},"runs":[{}]}})""\n", o.images, o.size, json);
}

}  // namespace
}  // namespace linnet::bench

int main(int argc, char** argv) {
  linnet::bench::Options o;
  CLI::App app("Convolutions and their derivatives beside im2col and products written by hand with Eigen");
  app.add_option("--images", o.images, "images in the batch")->check(CLI::Range(1, 65536))->capture_default_str();
  app.add_option("--size", o.size, "height and width of an image")->check(CLI::Range(4, 4096))->capture_default_str();
  app.add_option("--repeat", o.repeat, "runs, of which the fastest counts")->check(CLI::Range(1, 10000))->capture_default_str();
  app.add_option("--threads", o.threads, "numbers of threads; default: 1 and all")->check(CLI::Range(1, 64));
  app.add_option("--only", o.only, "rows whose name has this in it: plain, first, strided; value, vjp_weights, vjp_images, jvp");
  return linnet::bench::program("convolution", app, argc, argv, [&] { benchmark(o); });
}
