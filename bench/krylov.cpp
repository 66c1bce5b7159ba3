// bench/krylov: training dynamics of Fashion-MNIST by products with the kernel, without the kernel. --part large: weights of 784-512-512-10 at five times up to t lambda_max / N = 1e4,
// and at infinity with a ridge of 1e-4 lambda_max, in float and double, with their bounds and how far both widths are apart; --part small: one output of --n examples by products and
// by a decomposition. One JSON line for each answer.
#include "timing.h"

#include "linnet/examples/support/data.h"
#include "linnet/nn/nn.h"
#include "linnet/ntk/ntk.h"
#include "linnet/predict/predict.h"

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <cmath>
#include <limits>
#include <map>

namespace linnet::bench {
namespace {

using autodiff::cast;
using autodiff::Tree;
using predict::Solver;

struct Options {
  std::string part = "large", data = "fashion-mnist", types = "float,double";
  Index n = 20000, width = 512;
  double furthest = 1e4, ridge = 1e-4;
  double tolerance = 0;  // 0: 1e-5 in float, 1e-8 in double
};

constexpr double infinity = std::numeric_limits<double>::infinity();

nn::Layer network(const Options& o, Index outputs) {
  return nn::serial({nn::Dense(o.width, {.W_std = 1.5, .b_std = .05}), nn::Relu(), nn::Dense(o.width, {.W_std = 1.5, .b_std = .05}), nn::Relu(), nn::Dense(outputs, {.W_std = 1.5, .b_std = .05})});
}
template <Scalar T> Tree<Array<T>> as(const Tree<Array<float>>& tree) {
  return map([](const Array<float>& a) { return cast<T>(a); }, tree);
}

double length(const Tree<Array<double>>& a, const Tree<Array<double>>& b) {
  double sum = 0;
  map([&](const Array<double>& x, const Array<double>& y) { return sum += dot(x - y, x - y); }, a, b);
  return std::sqrt(sum);
}

// Times as multiples of N / lambda_max; the last is infinity with a ridge.
std::vector<double> multiples(const Options& o) {
  std::vector<double> all;
  for (int i = 4; i >= 0; --i) all.push_back(o.furthest * std::pow(10., -i));
  all.push_back(infinity);
  return all;
}

struct Answer {
  Array<double> f;
  Tree<Array<double>> theta;
};

template <Scalar T> std::map<double, Answer> large(const Options& o, const Array<double>& x, const Array<double>& y) {
  const nn::Layer layer = network(o, y.shape()[1]);
  const auto params = as<T>(nn::initialize<float>(layer, nn::Key(0), Shape{1, x.shape()[1]}));
  const double tolerance = o.tolerance > 0 ? o.tolerance : std::is_same_v<T, float> ? 1e-5
                                                                                    : 1e-8;
  predict::FlowOptions options{.solver = Solver::krylov, .krylov = {.tolerance = tolerance}};
  std::optional<predict::Training<T>> flow, ridged;
  const Array<T> inputs = cast<T>(cast<float>(x)), targets = cast<T>(cast<float>(y));
  double seconds = once([&] { flow.emplace(predict::gradient_flow(nn::function_of(layer), params, inputs, targets, options)); }).wall;
  double lambda = 0;
  seconds += once([&] { lambda = flow->dynamics().lambda_max(); }).wall;
  std::map<double, Answer> answers;
  for (const double s : multiples(o)) {
    const bool last = std::isinf(s);
    if (last) ridged.emplace(flow->with_ridge(o.ridge * lambda));
    const auto at = (last ? *ridged : *flow)(last ? infinity : s * static_cast<double>(y.size()) / lambda);
    std::optional<Tree<Array<T>>> theta;
    seconds += once([&] { theta.emplace(at.weights()); }).wall;
    const predict::Bounds b = at.bounds();
    const Array<double> change = (last ? *ridged : *flow).dynamics().change(at.time());
    const auto start = map([](const Array<T>&a) { return cast<double>(a); }, params), there = map([](const Array<T>&a) { return cast<double>(a); }, *theta);
    const double size = norm(change), moved = length(there, start);
    fmt::print(R"({{"bench":"krylov","part":"large","type":"{}","rows":{},"t_lambda_over_n":{},"ridge_over_lambda":{},"tolerance":{},"products":{},"seconds_so_far":{:.2f},"converged":{},"outputs_bound":{:.2e},)"
               R"("weights_bound":{:.2e},"weights_estimate":{:.2e},"rigorous":[{},{}],"peak_mb":{:.0f}}})"
               "\n",
               std::is_same_v<T, float> ? "float" : "double", y.size(), last ? "null" : fmt::format("{:g}", s), last ? o.ridge : 0, tolerance, b.products, seconds, b.converged, b.outputs / size, b.weights / moved,
               b.weights_estimate / moved, b.outputs_rigorous, b.weights_rigorous, peak_memory_mb());
    std::fflush(stdout);
    answers[s] = {change, there};
  }
  fmt::print("# {}\n", flow->explain());
  return answers;
}

void run_large(const Options& o, const Array<double>& x, const Array<double>& y) {
  std::map<double, Answer> narrow, wide;
  if (o.types.find("float") != std::string::npos) narrow = large<float>(o, x, y);
  if (o.types.find("double") != std::string::npos) wide = large<double>(o, x, y);
  if (narrow.empty() || wide.empty()) return;
  const auto start = as<double>(nn::initialize<float>(network(o, y.shape()[1]), nn::Key(0), Shape{1, x.shape()[1]}));
  for (const auto& [s, a] : wide)
    fmt::print(R"({{"bench":"krylov","part":"float against double","t_lambda_over_n":{},"outputs":{:.2e},"weights":{:.2e}}})"
               "\n",
               std::isinf(s) ? "null" : fmt::format("{:g}", s),
               norm(narrow[s].f - a.f) / norm(a.f), length(narrow[s].theta, a.theta) / length(a.theta, start));
}

void run_small(const Options& o, const Array<double>& x, const Array<double>& y) {
  const nn::Layer layer = network(o, 1);
  const auto params = as<double>(nn::initialize<float>(layer, nn::Key(0), Shape{1, x.shape()[1]}));
  Array<double> target(Shape{y.shape()[0], 1});
  for (Index i = 0; i < target.size(); ++i) target.data()[i] = y.data()[i * y.shape()[1]];
  const auto f = nn::function_of(layer);
  const auto kernel = ntk::full(f, params, x);
  const Array<double> f0 = autodiff::compile(f, params, x)(params, x);
  std::optional<predict::Training<double>> spectral;
  const auto with = [&](Solver solver) { return predict::gradient_flow(kernel, f0, target, {.solver = solver}); };
  const double decomposition = once([&] { spectral.emplace(with(Solver::decomposition)); }).wall;
  const double lambda = spectral->dynamics().lambda_max();
  for (const double s : {1e2, 1e3, 1e4, 1e5, 1e6, infinity}) {
    const double t = s * static_cast<double>(target.size()) / lambda;
    Array<double> exact, came;
    std::optional<predict::Training<double>> flow;
    const double first = decomposition + once([&] { exact = (*spectral)(t).train(); }).wall;
    const double products = once([&] {
                              flow.emplace(with(Solver::krylov));
                              came = (*flow)(t).train();
                            }).wall;
    const double further = once([&] { static_cast<void>((*flow)(t / 3 > 0 && std::isfinite(t) ? t / 3 : 1).train()); }).wall;
    const predict::Bounds b = (*flow)(t).bounds();
    fmt::print(R"({{"bench":"krylov","part":"small","rows":{},"condition":{:.2e},"t_lambda_over_n":{},"decomposition_s":{:.4f},"krylov_s":{:.4f},"ratio":{:.1f},"further_t_s":{:.5f},"products":{},"difference":{:.2e},"bound":{:.2e}}})"
               "\n",
               target.size(), spectral->dynamics().condition(), std::isinf(s) ? "null" : fmt::format("{:g}", s), first, products, first / products, further, b.products, norm(came - exact) / norm(exact - f0),
               b.outputs / norm(exact - f0));
  }
}

}  // namespace
}  // namespace linnet::bench

int main(int argc, char** argv) {
  linnet::bench::Options o;
  CLI::App app("Training dynamics by products with the kernel, timed");
  app.add_option("--part", o.part, "large or small")->check(CLI::IsMember({"large", "small"}))->capture_default_str();
  app.add_option("--data", o.data, "fashion-mnist, or digits")->check(CLI::IsMember({"fashion-mnist", "digits"}))->capture_default_str();
  app.add_option("--types", o.types, "float, double, or both with a comma")->capture_default_str();
  app.add_option("--n", o.n, "examples")->check(CLI::Range(1, 60000))->capture_default_str();
  app.add_option("--width", o.width, "of both hidden layers")->check(CLI::Range(1, 1 << 16))->capture_default_str();
  app.add_option("--furthest", o.furthest, "the last of five times, of which each is ten times the one before, times lambda_max / N")->check(CLI::Range(1e-6, 1e12))->capture_default_str();
  app.add_option("--ridge", o.ridge, "at infinity, as a part of lambda_max")->check(CLI::Range(1e-12, 1e6))->capture_default_str();
  app.add_option("--tolerance", o.tolerance, "0: 1e-5 in float, 1e-8 in double")->check(CLI::Range(0., .9))->capture_default_str();
  try {
    app.parse(argc, argv);
    const auto problem = linnet::examples::load_problem({.data = o.data, .n_train = o.n, .n_test = 1});
    o.part == "large" ? linnet::bench::run_large(o, problem.train.x, problem.train.y) : linnet::bench::run_small(o, problem.train.x, problem.train.y);
  } catch (const CLI::CallForHelp& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    fmt::print(stderr, "krylov: {}; see --help\n", e.what());
    return 2;
  } catch (const std::exception& e) {
    fmt::print(stderr, "krylov: {}\n", e.what());
    return 1;
  }
}
