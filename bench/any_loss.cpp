// bench/any_loss: softmax cross-entropy of a dense network with Erf, linearized, integrated to s = t lambda_max / (2 n), in double: products with the kernel, steps and time, and
// the error of the outputs beside a run at a hundredth of the tolerance; one JSON line for every decade of s. --conflicting gives every other example twice, with another label.
#include "timing.h"

#include "linnet/nn/nn.h"
#include "linnet/ntk/lanczos.h"
#include "linnet/predict/predict.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace linnet::bench {
namespace {

struct Options {
  Index n = 60, inputs = 784, width = 512, outputs = 10;
  double tolerance = 1e-7, to = 1e6;
  bool conflicting = false, matrix_free = false, error = true;
  int threads = 0;
};

void run(const Options& o) {
  if (o.threads > 0) autodiff::set_thread_count(o.threads);
  const nn::Layer layer = nn::serial({nn::Dense(o.width, {.W_std = 1.5, .b_std = .05}), nn::Erf(), nn::Dense(o.width, {.W_std = 1.5, .b_std = .05}), nn::Erf(), nn::Dense(o.outputs, {.W_std = 1.5, .b_std = .05})});
  const auto params = nn::initialize<double>(layer, nn::Key(0), Shape{1, o.inputs});
  const auto f = nn::function_of(layer);
  Array<double> x = numbers<double>({o.n, o.inputs}, 7, 1.7), y(Shape{o.n, o.outputs});
  const Array<double> labels = numbers<double>({o.n}, 8, 1);
  const auto label = [&](Index i) { return std::min(o.outputs - 1, static_cast<Index>((labels.data()[i] + 1) / 2 * static_cast<double>(o.outputs))); };
  for (Index i = 0; i < o.n; ++i) {
    const bool again = o.conflicting && i % 2 == 1;
    if (again) std::copy_n(x.data() + (i - 1) * o.inputs, o.inputs, x.data() + i * o.inputs);
    y[{i, again ? (label(i - 1) + 1) % o.outputs : label(i)}] = 1;
  }
  const double lambda = ntk::largest_eigenvalues(ntk::Operator<double>(f, params, x), 1).values.data()[0];
  const auto made = [&](double tolerance) {
    return predict::gradient_flow(f, params, x, y, predict::Loss::softmax_cross_entropy(), {.rtol = tolerance, .atol = tolerance, .max_products = 10'000'000, .matrix_free = o.matrix_free});
  };
  const auto flow = made(o.tolerance), fine = made(std::max(1e-13, o.tolerance / 100));
  double seconds = 0;
  for (double s = 1; s <= o.to * 1.001; s *= 10) {
    const double t = s * 2 * static_cast<double>(o.n) / lambda;
    Array<double> came;
    double loss = 0;
    seconds += once([&] {
                 const auto at = flow(t);
                 came = at.train();
                 loss = at.loss();
               }).wall;
    const predict::Integration& state = flow.state();
    const double error = o.error ? max_abs(came - fine(t).train()) : NAN;
    fmt::print(R"({{"bench":"any_loss","n":{},"outputs":{},"conflicting":{},"matrix_free":{},"tolerance":{:g},"s":{:g},"products":{},"steps":{},"rejected":{},"method":"{}","seconds":{:.3f},"loss":{:.6g},"error":{}}})""\n", o.n,
               o.outputs, o.conflicting, o.matrix_free, o.tolerance, s, state.products, state.steps, state.rejected, state.method == predict::Stepping::dopri5 ? "dopri5" : "exprb43", seconds, loss,
               o.error ? fmt::format("{:.3g}", error) : "null");
  }
}

}  // namespace
}  // namespace linnet::bench

int main(int argc, char** argv) {
  linnet::bench::Options o;
  CLI::App app("Training of a linearized network on softmax cross-entropy, integrated");
  const auto positive = CLI::Range(1, 1 << 24);
  app.add_option("--n", o.n, "examples")->check(positive)->capture_default_str();
  app.add_option("--inputs", o.inputs, "values of an example")->check(positive)->capture_default_str();
  app.add_option("--width", o.width, "of a hidden layer")->check(positive)->capture_default_str();
  app.add_option("--outputs", o.outputs, "classes")->check(CLI::Range(2, 1 << 20))->capture_default_str();
  app.add_option("--tolerance", o.tolerance, "rtol and atol")->check(CLI::Range(1e-13, 0.1))->capture_default_str();
  app.add_option("--to", o.to, "the largest s")->check(CLI::Range(1., 1e12))->capture_default_str();
  app.add_flag("--conflicting", o.conflicting, "every other example again, with another label");
  app.add_flag("--matrix-free", o.matrix_free, "products by vjp and jvp");
  app.add_flag("!--no-error", o.error, "without the run at a smaller tolerance");
  app.add_option("--threads", o.threads, "0: as OMP_NUM_THREADS says, or all")->check(CLI::Range(0, 1024))->capture_default_str();
  try {
    app.parse(argc, argv);
    linnet::bench::run(o);
  } catch (const CLI::CallForHelp& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    fmt::print(stderr, "any_loss: {}; see --help\n", e.what());
    return 2;
  } catch (const std::exception& e) {
    fmt::print(stderr, "any_loss: {}\n", e.what());
    return 1;
  }
}
