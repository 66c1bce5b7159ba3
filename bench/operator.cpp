// bench/operator: one product J (J^T v) over many examples of a dense network with Erf, float, with residuals kept and streamed, beside a plain forward and backward
// pass over the same data in the same chunks; one JSON line. With --limit-gib the process takes no more address space than that.
#include "program.h"
#include "timing.h"

#include "linnet/autodiff/derivative.h"
#include "linnet/nn/layer.h"
#include "linnet/ntk/operator.h"

#include <fmt/format.h>

#include <optional>
#include <sys/resource.h>

namespace linnet::bench {
namespace {

using autodiff::FlatFunction;
using autodiff::Tree;
using autodiff::Var;

struct Options {
  Index n = 50000, inputs = 784, width = 512, depth = 2, outputs = 10;
  double limit_gib = 0;
  int threads = 0, repeat = 3;
};

nn::Layer network(const Options& o) {
  std::vector<nn::Layer> layers;
  for (Index l = 0; l < o.depth; ++l) {
    layers.push_back(nn::Dense(o.width, {.W_std = 1.5, .b_std = .05}));
    layers.push_back(nn::Erf());
  }
  layers.push_back(nn::Dense(o.outputs, {.W_std = 1.5, .b_std = .05}));
  return nn::serial(std::move(layers));
}

// Value and gradient of the sum of squares over the data, chunk by chunk; what training would do for one step of gradient descent.
class Plain {
 public:
  Plain(const ntk::Apply& f, const Tree<Array<float>>& params, const Array<float>& x) : params_(params), x_(x) {
    for (const auto* leaf : params.leaves()) sum_.emplace_back(leaf->shape());
    const auto loss = [f](const Tree<Var>& p, const Var& v) { return sum(square(f(p, v))); };
    const Array<float> some = x.rows(0, std::min(chunk, x.shape()[0]));
    full_.emplace(loss, params, some);
    if (const Index rest = x.shape()[0] % chunk) last_.emplace(loss, params, x.rows(0, rest));
  }
  double operator()() {
    double value = 0;
    const Index n = x_.shape()[0], d = x_.shape()[1];
    for (auto& s : sum_) std::fill(s.begin(), s.end(), 0.f);
    for (Index first = 0; first < n; first += chunk) {
      const Index m = std::min(chunk, n - first);
      autodiff::Views<float> in = autodiff::detail::views<float>(params_);
      in.push_back({Shape{m, d}, x_.data() + first * d});
      const auto out = (m == chunk ? *full_ : *last_).f(in);
      value += static_cast<double>(out[0].item());
      for (std::size_t i = 0; i < sum_.size(); ++i) add(out[i + 1], sum_[i]);
    }
    return value;
  }

 private:
  static constexpr Index chunk = 256;
  struct Compiled {
    template <class F> Compiled(const F& loss, const Tree<Array<float>>& params, const Array<float>& x)
        : f(autodiff::detail::value_and_grad(autodiff::detail::flat_of(loss, std::make_shared<autodiff::Form>(), params, x), params.leaves().size()), shapes(params, x)) {}
    static std::vector<Shape> shapes(const Tree<Array<float>>& params, const Array<float>& x) {
      std::vector<Shape> all;
      for (const auto* leaf : params.leaves()) all.push_back(leaf->shape());
      all.push_back(x.shape());
      return all;
    }
    FlatFunction<float> f;
  };
  static void add(const Array<float>& from, Array<float>& to) {
    constexpr Index block = 1 << 14;
    autodiff::parallel_for((to.size() + block - 1) / block, [&](Index b) {
      for (Index i = b * block; i < std::min(to.size(), (b + 1) * block); ++i) to.data()[i] += from.data()[i];
    });
  }
  const Tree<Array<float>>& params_;
  const Array<float>& x_;
  std::vector<Array<float>> sum_;
  std::optional<Compiled> full_, last_;
};

void run(const Options& o) {
  if (o.limit_gib > 0) {
    const auto bytes = static_cast<rlim_t>(o.limit_gib * (1 << 30));
    const rlimit limit{bytes, bytes};
    if (setrlimit(RLIMIT_AS, &limit) != 0) throw std::runtime_error("the limit of the address space cannot be set");
  }
  if (o.threads > 0) autodiff::set_thread_count(o.threads);
  const nn::Layer layer = network(o);
  const auto params = nn::initialize<float>(layer, nn::Key(0), Shape{1, o.inputs});
  const auto f = nn::function_of(layer);
  const Array<float> x = numbers<float>({o.n, o.inputs}, 7, 1.7), v = numbers<float>({o.n, o.outputs}, 8, 1);
  double some = 0;
  ntk::Options options;
  std::optional<ntk::Operator<float>> kept(std::in_place, f, params, x, options);
  options.max_memory = kept->bytes() - 1;
  if (!kept->resident()) kept.reset();
  const ntk::Operator<float> streamed(f, params, x, kept ? options : ntk::Options{});
  Plain plain(f, params, x);
  Array<float> a, b;
  const std::vector<Seconds> times = in_turns(o.repeat, 3, [&](int k) {
    if (k == 0) some += plain();
    if (k == 1) a = streamed(v);
    if (k == 2 && kept) b = (*kept)(v);
  });
  fmt::print(R"({{"bench":"operator","n":{},"inputs":{},"width":{},"depth":{},"outputs":{},"limit_gib":{},"threads":{},"plain_s":{:.4f},"streamed_s":{:.4f},"streamed_ratio":{:.3f},"streamed_mb":{:.0f},)", o.n,
             o.inputs, o.width, o.depth, o.outputs, o.limit_gib, autodiff::thread_count(), times[0].wall, times[1].wall, times[1].wall / times[0].wall, static_cast<double>(streamed.bytes()) / 1e6);
  if (kept)
    fmt::print(R"("resident_s":{:.4f},"resident_ratio":{:.3f},"resident_cpu_ratio":{:.3f},"resident_mb":{:.0f},"equal_bits":{},)", times[2].wall, times[2].wall / times[0].wall,
               times[2].processor / times[0].processor, static_cast<double>(kept->bytes()) / 1e6, a == b);
  fmt::print(R"("streamed_cpu_ratio":{:.3f},"peak_mb":{:.0f},"value":{:.6g}}})""\n", times[1].processor / times[0].processor, peak_memory_mb(), some / (o.repeat + 1));
}

}  // namespace
}  // namespace linnet::bench

int main(int argc, char** argv) {
  linnet::bench::Options o;
  CLI::App app("A product with the tangent kernel of a dense network without a matrix, timed");
  const auto positive = CLI::Range(1, 1 << 24);
  app.add_option("--n", o.n, "examples")->check(positive)->capture_default_str();
  app.add_option("--inputs", o.inputs, "values of an example")->check(positive)->capture_default_str();
  app.add_option("--width", o.width, "of a hidden layer")->check(positive)->capture_default_str();
  app.add_option("--depth", o.depth, "hidden layers")->check(CLI::Range(0, 1000))->capture_default_str();
  app.add_option("--outputs", o.outputs, "of the network")->check(positive)->capture_default_str();
  app.add_option("--limit-gib", o.limit_gib, "address space of the process; 0: no limit")->check(CLI::Range(0., 1e6))->capture_default_str();
  app.add_option("--threads", o.threads, "0: as OMP_NUM_THREADS says, or all")->check(CLI::Range(0, 1024))->capture_default_str();
  app.add_option("--repeat", o.repeat, "runs after the first, of which the fastest counts")->check(CLI::Range(1, 10000))->capture_default_str();
  return linnet::bench::program("operator", app, argc, argv, [&] { linnet::bench::run(o); });
}
