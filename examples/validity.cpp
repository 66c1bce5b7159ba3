// How good is the linearization of a network of some width, and when is it not? Networks from 16 to 4096 wide are trained on digits by gradient
// descent, and their linearizations by the same steps in closed form; then the meter (predict/validity.h) says the same without training anything.
// Read run() at the end first.
#include "linnet/examples/support/data.h"
#include "linnet/examples/support/figure.h"

#include "linnet/autodiff/derivative.h"
#include "linnet/autodiff/ops.h"
#include "linnet/nn/layer.h"
#include "linnet/predict/validity.h"

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

namespace linnet::examples {

namespace {

using autodiff::Tree;
using autodiff::Var;
using Params = Tree<Array<double>>;

struct Settings {
  Index n_train = 32, n_test = 100, min_width = 16, max_width = 4096, depth = 1, seeds = 5;
  double steps = 1000;  // of the longest training; a tenth and a hundredth of it besides
  double rate = 0.25;   // as a share of the largest at which the linearized network's steps converge
  std::filesystem::path out = "validity";
  bool plot = true;
};

// One quantity at every width: its logarithms, a number for each seed.
struct Series {
  std::string name, title;
  std::map<Index, std::vector<double>> logs = {};
  void add(Index width, double value) { logs[width].push_back(std::log(value)); }
  double mean(Index width) const {
    double sum = 0;
    for (const double v : logs.at(width)) sum += v;
    return std::exp(sum / static_cast<double>(logs.at(width).size()));
  }
};

// The slope of logarithms over those of widths, from `least` on, by least squares over all seeds, and its standard error.
struct Slope {
  double value, error;
};
std::optional<Slope> slope(const Series& series, Index least) {
  std::vector<std::pair<double, double>> points;
  for (const auto& [width, logs] : series.logs)
    for (const double y : logs)
      if (width >= least && std::isfinite(y)) points.emplace_back(std::log(static_cast<double>(width)), y);
  const double n = static_cast<double>(points.size());
  double x_mean = 0, y_mean = 0, xx = 0, xy = 0, left = 0;
  for (const auto& [x, y] : points) x_mean += x / n, y_mean += y / n;
  for (const auto& [x, y] : points) xx += (x - x_mean) * (x - x_mean), xy += (x - x_mean) * (y - y_mean);
  if (n < 3 || xx == 0) return std::nullopt;
  for (const auto& [x, y] : points) left += std::pow(y - y_mean - xy / xx * (x - x_mean), 2);
  return Slope{xy / xx, std::sqrt(left / (n - 2) / xx)};
}

// ---- one network

// Where `feature_learning`, the last layer is scaled as 1/width instead of 1/sqrt(width), and equals the others at the smallest width.
nn::Layer network_of(const Settings& s, Index width, Index outputs, bool feature_learning) {
  std::vector<nn::Layer> layers;
  for (Index i = 0; i < s.depth; ++i) {
    layers.push_back(nn::Dense(width, {.W_std = 1.5, .b_std = 0.05}));
    layers.push_back(nn::Erf());
  }
  const double scale = feature_learning ? std::sqrt(static_cast<double>(s.min_width) / static_cast<double>(width)) : 1;
  layers.push_back(nn::Dense(outputs, {.W_std = 1.5 * scale, .b_std = 0.05 * scale}));
  return nn::serial(layers);
}

double root_mean_square(const Array<double>& v) { return norm(v) / std::sqrt(static_cast<double>(v.size())); }

// The test outputs of the network itself after so many steps each.
std::vector<Array<double>> trained(const ntk::Apply& f, Params params, const Problem& problem, double rate, const std::vector<double>& steps) {
  const auto step = autodiff::compile(
      [&](const Tree<Var>& at, const Var& x, const Var& y) {
        const auto objective = [&](const Tree<Var>& p) { return 0.5 * mean_squared_error(f(p, x), y); };
        return map([rate](const Var& p, const Var& g) { return p - rate * g; }, at, grad(objective, at));
      },
      params, problem.train.x, problem.train.y);
  const auto outputs = autodiff::compile(f, params, problem.test.x);
  std::vector<Array<double>> all;
  double done = 0;
  for (const double until : steps) {
    for (; done < until; ++done) params = step(params, problem.train.x, problem.train.y);
    all.push_back(outputs(params, problem.test.x));
  }
  return all;
}

std::vector<double> times(const Settings& s) { return {std::max(1.0, std::round(s.steps / 100)), std::max(1.0, std::round(s.steps / 10)), s.steps}; }

struct Measured {
  std::array<Series, 3> gap{Series{"gap_short", ""}, {"gap_medium", ""}, {"gap_long", ""}};
  Series features{"gap_feature_learning", ""}, features_drift{"drift_feature_learning", "kernel drift, features learned"};
  Series meter{"meter_gap", "gap at the predicted weights"}, second{"meter_second", "second order"}, higher{"meter_higher", "higher orders"}, drift{"meter_drift", "kernel drift"};
  std::vector<const Series*> all() const { return {&gap[0], &gap[1], &gap[2], &features, &meter, &second, &higher, &drift, &features_drift}; }
};

void measure(const Settings& s, const Problem& problem, Index width, std::uint64_t seed, Measured& to) {
  for (const bool feature_learning : {false, true}) {
    const nn::Layer network = network_of(s, width, problem.train.classes, feature_learning);
    const ntk::Apply f = nn::function_of(network);
    const Params params = nn::initialize<double>(network, nn::Key(seed), problem.train.x.shape());
    const double most = predict::max_learning_rate(ntk::full(f, params, problem.train.x)), rate = s.rate * most;
    const auto linear = predict::gradient_descent(f, params, problem.train.x, problem.train.y, {.rate = rate});
    const predict::Points points = linear.points(problem.test.x);
    const std::vector<double> at = times(s);
    const std::vector<Array<double>> real = trained(f, params, problem, rate, at);
    const std::size_t last = at.size() - 1;
    for (std::size_t i = 0; i < at.size(); ++i) {
      const Array<double> predicted = linear(at[i]).predict(points);
      const double gap = root_mean_square(real[i] - predicted) / root_mean_square(predicted - points.f0);
      if (!feature_learning) to.gap[i].add(width, gap);
      else if (i == last) to.features.add(width, gap);
    }
    const predict::Validity meter = predict::validity(linear(at[last]), problem.test.x, {.probes = 16, .seed = seed, .layers = false});
    if (feature_learning) {
      to.features_drift.add(width, meter.drift.value);
      continue;
    }
    to.meter.add(width, meter.probe.relative_gap());
    to.second.add(width, meter.probe.relative_second());
    to.higher.add(width, meter.probe.relative_higher());
    to.drift.add(width, meter.drift.value);
  }
}

// ---- results

Table table_of(const Measured& m) {
  Table table{{"width"}, {}};
  for (const Series* series : m.all()) table.names.push_back(series->name);
  for (const char* guide : {"slope_half", "slope_one"}) table.names.emplace_back(guide);
  const auto first = m.gap[2].logs.begin()->first;
  for (const auto& [width, logs] : m.gap[0].logs) {
    std::vector<double> row{static_cast<double>(width)};
    for (const Series* series : m.all()) row.push_back(series->mean(width));
    const double wider = static_cast<double>(width) / static_cast<double>(first);
    row.push_back(2 * m.gap[2].mean(first) / std::sqrt(wider));
    row.push_back(0.5 * m.gap[0].mean(first) / wider);
    table.rows.push_back(row);
  }
  return table;
}

Figure figure_of(const Settings& s, const Measured& m) {
  // Okabe and Ito's colours.
  constexpr std::array<const char*, 3> styles{"linespoints pt 7 ps 0.7 lw 2.5 lc rgb '#56B4E9'", "linespoints pt 7 ps 0.7 lw 2.5 lc rgb '#0072B2'", "linespoints pt 7 ps 0.7 lw 2.5 lc rgb '#000000'"};
  Panel training{"trained network and its linearization", "gap / change, test outputs", true, 0, "bottom left", {}}, meter{"the meter, nothing trained", "of change; of kernel", true, 0, "bottom left", {}};
  const std::vector<double> at = times(s);
  for (std::size_t i = 0; i < 3; ++i) training.curves.push_back({1 + i, fmt::format("{:g} steps", at[i]), styles[i]});
  training.curves.push_back({4, fmt::format("{:g} steps, features learned", at[2]), "linespoints pt 5 ps 0.8 lw 2.5 lc rgb '#D55E00'"});
  training.curves.push_back({10, "slope -1/2", "lines dt 2 lw 1.5 lc rgb '#888888'"});
  training.curves.push_back({11, "slope -1", "lines dt 3 lw 1.5 lc rgb '#888888'"});
  const std::array<const char*, 5> meter_styles{styles[2], "linespoints pt 6 ps 1 lw 2 lc rgb '#CC79A7'", "linespoints pt 4 ps 0.8 lw 2 lc rgb '#009E73'", "linespoints pt 7 ps 0.7 lw 2.5 lc rgb '#E69F00'",
                                                "linespoints pt 5 ps 0.8 lw 2.5 lc rgb '#D55E00'"};
  for (std::size_t i = 0; i < 5; ++i) meter.curves.push_back({5 + i, m.all()[4 + i]->title, meter_styles[i]});
  return {fmt::format("digits, {} examples: {} hidden layer{}, {} initializations", s.n_train, s.depth, s.depth == 1 ? "" : "s", s.seeds), "width", 0.9 * static_cast<double>(s.min_width), 1.1 * static_cast<double>(std::max(s.max_width, s.min_width + 1)), {training, meter}};
}

void print(const Settings& s, const Measured& m) {
  const std::vector<double> at = times(s);
  const std::array<std::string, 9> names{fmt::format("t={:g}", at[0]), fmt::format("t={:g}", at[1]), fmt::format("t={:g}", at[2]), "features", "meter", "2nd order", "higher", "drift", "features"};
  fmt::print("\n{:>9}  {:-^43}  {:-^43} {:-^10}\n{:>9} ", "", " gap of trained networks / change ", fmt::format(" the meter at t={:g} ", at[2]), " drift ", "width");
  for (const std::string& name : names) fmt::print(" {:>10}", name);
  fmt::print("\n");
  for (const auto& [width, logs] : m.gap[0].logs) {
    fmt::print("{:>9} ", width);
    for (const Series* series : m.all()) fmt::print(" {:>10.3e}", series->mean(width));
    fmt::print("\n");
  }
  const Index least = 4 * s.min_width;
  fmt::print("\nslope of each with the width, from {} on, least squares over all initializations:\n{:>9} ", least, "");
  for (const Series* series : m.all()) {
    const auto fit = slope(*series, least);
    fmt::print(" {:>10}", fit ? fmt::format("{:.2f}({:.0f})", fit->value, std::ceil(100 * fit->error)) : "");
  }
  fmt::print("\n{:>9}  in brackets its standard error, in units of the last digit\n", "");
}

void run(const Settings& s) {
  const Problem problem = load_digits(LINNET_DIGITS, s.n_train, s.n_test);
  fmt::print("{}: {} rows; width {} to {}, {} initializations of each, {:g} steps at {:g} of the largest stable rate\n", problem.name, problem.train.y.size(), s.min_width, s.max_width, s.seeds, s.steps, s.rate);
  fmt::print("features: the last layer scaled as 1/width instead of 1/sqrt(width), so that hidden units go on learning however wide\n");
  Measured measured;
  for (Index width = s.min_width; width <= s.max_width; width *= 2)
    for (Index seed = 0; seed < s.seeds; ++seed) measure(s, problem, width, static_cast<std::uint64_t>(seed), measured);
  print(s, measured);
  std::filesystem::create_directories(s.out);
  const Drawn drawn = draw(figure_of(s, measured), table_of(measured), s.out, "validity", s.plot);
  fmt::print("\nwrote");
  for (const auto& file : drawn.files) fmt::print(" {}", file.string());
  fmt::print("\n");
  if (!drawn.note.empty()) fmt::print(stderr, "no figure: {}. The script beside the table draws it.\n", drawn.note);
}

}  // namespace

}  // namespace linnet::examples

int main(int argc, char** argv) {
  linnet::examples::Settings s;
  CLI::App app("The gap between trained networks and their linearizations, from narrow to wide, and what the validity meter says of it.");
  app.add_option("--n-train", s.n_train, "training examples")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--n-test", s.n_test, "test examples")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--min-width", s.min_width, "the first width; each next is twice as wide")->check(CLI::Range(1, 1 << 16))->capture_default_str();
  app.add_option("--max-width", s.max_width, "the last")->check(CLI::Range(1, 1 << 16))->capture_default_str();
  app.add_option("--depth", s.depth, "hidden layers")->check(CLI::Range(1, 20))->capture_default_str();
  app.add_option("--seeds", s.seeds, "initializations of each width")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--steps", s.steps, "of gradient descent")->check(CLI::Range(1, 10'000'000))->capture_default_str();
  app.add_option("--rate", s.rate, "learning rate, as a share of the largest stable one of the linearized network")->check(CLI::Range(1e-6, 0.999))->capture_default_str();
  app.add_option("--out", s.out, "folder for the figure and its data")->capture_default_str();
  app.add_flag("!--no-plot", s.plot, "write the data and the script, and do not run gnuplot");
  CLI11_PARSE(app, argc, argv);
  try {
    if (s.max_width < s.min_width) throw linnet::examples::DataError("--max-width is less than --min-width");
    s.steps = std::floor(s.steps);
    linnet::examples::run(s);
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "validity: {}\n", error.what());
  }
  return 1;
}
