// The main job: a network trained in closed form, in function space and in weight space, beside the real network. ./demo runs it; --help has the
// options. Read run() at the end first: it is the whole course.
#include "linnet/examples/support/data.h"
#include "linnet/examples/support/figure.h"
#include "linnet/examples/support/options.h"
#include "linnet/examples/support/progress.h"

#include "linnet/autodiff/derivative.h"
#include "linnet/autodiff/npy.h"
#include "linnet/autodiff/ops.h"
#include "linnet/nn/layer.h"
#include "linnet/predict/trained.h"

#include <fmt/format.h>

#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <fstream>
#include <limits>
#include <new>
#include <set>

namespace linnet::examples {

namespace {

using autodiff::Tree;
using autodiff::Var;
using Params = Tree<Array<double>>;
using Clock = std::chrono::steady_clock;

constexpr double infinity = std::numeric_limits<double>::infinity(), blank = std::numeric_limits<double>::quiet_NaN();
constexpr std::size_t ways = 4;
constexpr std::array<const char*, ways> way_names{"function space", "linearized at θ(t)", "network at θ(t)", "network trained"};
constexpr std::array<const char*, ways> way_columns{"function_space", "linearized", "network", "trained"};

struct Outputs {
  Array<double> train, test;
};

struct Score {
  double train_loss = blank, test_loss = blank, train_accuracy = blank, test_accuracy = blank;
};

// What is known of one time: the four ways, and how far apart their outputs are.
struct Moment {
  double t = 0;
  std::array<Score, ways> score;
  double largest = 0;                                      // |output| of (a)
  double b_from_a = 0, c_from_a = 0, d_from_c = blank;     // largest absolute differences
  Outputs network;                                         // of (c), until (d) is there to be compared
};

struct Job {
  Options options;
  Problem problem;
  nn::Layer network;
  ntk::Apply apply;
  Params params;
  Index rows() const { return problem.train.y.size(); }
  Index test_rows() const { return problem.test.y.size(); }
  bool classes() const { return problem.train.classes > 0; }
};

template <class... Args> void note(const Job& job, fmt::format_string<Args...> text, Args&&... args) {
  if (job.options.quiet) return;
  fmt::print(text, std::forward<Args>(args)...);
  std::fflush(stdout);
}

struct Interrupted : std::runtime_error {
  Interrupted() : std::runtime_error("interrupted") {}
};

// ---- scores

double loss(const Array<double>& f, const Array<double>& y) {
  const Array<double> residual = f - y;
  return dot(residual, residual) / (2 * static_cast<double>(y.size()));
}

double accuracy(const Array<double>& f, const Dataset& data) {
  if (data.classes == 0) return blank;
  Index right = 0;
  const Index n = f.shape()[0], k = data.classes;
  for (Index i = 0; i < n; ++i) {
    const double* row = f.data() + i * k;
    if (std::max_element(row, row + k) - row == data.labels[static_cast<std::size_t>(i)]) ++right;
  }
  return static_cast<double>(right) / static_cast<double>(n);
}

Score score(const Outputs& f, const Problem& problem) {
  return {loss(f.train, problem.train.y), loss(f.test, problem.test.y), accuracy(f.train, problem.train), accuracy(f.test, problem.test)};
}

double distance(const Outputs& f, const Outputs& g) { return std::max(max_abs(f.train - g.train), max_abs(f.test - g.test)); }

// ---- what is about to be done

Job prepare(const Options& options) {
  Job job{options, load_problem(options.data), {}, {}, {}};
  std::vector<nn::Layer> layers;
  const nn::DenseOptions scales{.W_std = options.W_std, .b_std = options.b_std};
  for (Index i = 0; i < options.depth; ++i) {
    layers.push_back(nn::Dense(options.width, scales));
    layers.push_back(nn::Erf());
  }
  layers.push_back(nn::Dense(job.problem.train.y.shape()[1], scales));
  job.network = nn::serial(layers);
  job.apply = nn::function_of(job.network);
  return job;
}

std::string bytes(double n) {
  for (const char* unit : {"B", "kB", "MB", "GB"}) {
    if (n < 1000) return fmt::format("{:.3g} {}", n, unit);
    n /= 1000;
  }
  return fmt::format("{:.4g} TB", n);
}

std::string duration(double seconds) {
  if (seconds < 0.1) return "a moment";
  if (seconds < 100) return fmt::format("{:.2g} s", seconds);
  return seconds < 6000 ? fmt::format("{:.0f} minutes", seconds / 60) : fmt::format("{:.1f} hours", seconds / 3600);
}

// What Linux says can be had without swapping; 0 if it does not say.
double available_memory() {
  std::ifstream info("/proc/meminfo");
  std::string name, unit;
  double kilobytes = 0;
  while (info >> name >> kilobytes) {
    if (name == "MemAvailable:") return kilobytes * 1024;
    std::getline(info, unit);
  }
  return 0;
}

void announce(const Job& job) {
  const double n = static_cast<double>(job.rows()), outputs = n / static_cast<double>(job.problem.train.x.shape()[0]);
  const double kernel = 8 * n * n, test_kernel = 8 * n * static_cast<double>(job.test_rows());
  const double need = 4 * kernel + test_kernel, have = available_memory();  // the kernel, its eigenvectors, and the workspace of finding them
  const double seconds = 2e-10 * n * n * n;  // what LAPACK takes on one thread of a machine of 2020
  const Problem& p = job.problem;
  note(job, "data      {}: {}\n", p.name, p.description);
  note(job, "          train x {} y {}, test x {} y {}{}\n\n", str(p.train.x.shape()), str(p.train.y.shape()), str(p.test.x.shape()), str(p.test.y.shape()),
       job.classes() ? fmt::format(", {} classes: y is one-hot minus 1/{}", p.train.classes, p.train.classes) : "");
  note(job, "{}\n", summary(job.network, p.train.x.shape()));
  note(job, "about to  assemble the kernel of {} rows (examples x outputs), {}, and of {} test rows, {}\n", job.rows(), bytes(kernel), job.test_rows(), bytes(test_kernel));
  note(job, "          decompose it: roughly {}, {} of memory in all\n", duration(seconds), bytes(need));
  if (have > 0 && need > 0.95 * have) {
    const double b = 8 * static_cast<double>(job.test_rows()), fits = (-b + std::sqrt(b * b + 4 * 32 * 0.9 * have)) / 64;  // of 32 n² + b n = .9 have
    throw DataError(fmt::format("the kernel of {} rows needs {} and {} are available; --n-train {:.0f} would fit", job.rows(), bytes(need), bytes(have), std::floor(fits / outputs)));
  }
}

// ---- the four ways

// 0, then whole numbers of steps even on a logarithmic axis, then infinity.
std::vector<double> times(const Options& options) {
  std::set<double> t{0, std::floor(options.t_max), infinity};
  for (int i = 0; std::pow(10, static_cast<double>(i) / options.per_decade) < options.t_max; ++i) t.insert(std::round(std::pow(10, static_cast<double>(i) / options.per_decade)));
  return {t.begin(), t.end()};
}

// (a), (b) and (c) at every time. The flow has rate 1, so steps of a rate are its time.
std::vector<Moment> closed_form(const Job& job, const predict::GradientFlow<double>& flow, const predict::Points& test_points, double rate, ProgressDisplay& display) {
  const Array<double>&x = job.problem.train.x, &x_test = job.problem.test.x;
  const auto f = autodiff::compile(job.apply, job.params, x), f_test = autodiff::compile(job.apply, job.params, x_test);
  const std::vector<double> at_times = times(job.options);
  const auto start = Clock::now();
  std::vector<Moment> moments;
  for (const double t : at_times) {
    const auto at = flow(rate * t);
    const Outputs a{at.train(), at.predict(test_points)}, b{at.linearized(x), at.linearized(x_test)};
    const Params theta = at.weights();
    Moment moment{.t = t, .score = {}, .largest = std::max(max_abs(a.train), max_abs(a.test)), .network = {f(theta, x), f_test(theta, x_test)}};
    moment.score = {score(a, job.problem), score(b, job.problem), score(moment.network, job.problem), Score{}};
    moment.b_from_a = distance(b, a);
    moment.c_from_a = distance(moment.network, a);
    moments.push_back(std::move(moment));
    display.show({"times", moments.size(), at_times.size(), std::chrono::duration<double>(Clock::now() - start).count()});
    if (ProgressDisplay::interrupted()) throw Interrupted();
  }
  return moments;
}

// (d): plain gradient descent of the real network on the same loss, up to --max-steps. Answers the number of steps after which it had diverged, or -1.
Index train(const Job& job, double rate, std::vector<Moment>& moments, ProgressDisplay& display) {
  const Dataset &data = job.problem.train, &test = job.problem.test;
  const auto step = autodiff::compile(
      [&job, rate](const Tree<Var>& params, const Var& x, const Var& y) {
        const auto objective = [&](const Tree<Var>& p) { return 0.5 * mean_squared_error(job.apply(p, x), y); };
        return map([rate](const Var& p, const Var& g) { return p - rate * g; }, params, grad(objective, params));
      },
      job.params, data.x, data.y);
  const auto f = autodiff::compile(job.apply, job.params, data.x), f_test = autodiff::compile(job.apply, job.params, test.x);
  const auto start = Clock::now();
  const std::size_t total = static_cast<std::size_t>(std::min(static_cast<double>(job.options.max_steps), std::floor(job.options.t_max)));
  Params params = job.params;
  std::size_t steps = 0;
  for (Moment& moment : moments) {
    if (moment.t > static_cast<double>(total)) break;
    for (; static_cast<double>(steps) < moment.t; ++steps) {
      params = step(params, data.x, data.y);
      display.show({"training steps", steps + 1, total, std::chrono::duration<double>(Clock::now() - start).count()});
      if (ProgressDisplay::interrupted()) throw Interrupted();
    }
    const Outputs d{f(params, data.x), f_test(params, test.x)};
    if (autodiff::first_not_finite(d.train.values()) >= 0 || autodiff::first_not_finite(d.test.values()) >= 0) return static_cast<Index>(steps);
    moment.score[3] = score(d, job.problem);
    moment.d_from_c = distance(d, moment.network);
  }
  return -1;
}

// ---- results

std::string cell(double value, const char* format) { return std::isnan(value) ? "" : fmt::format(fmt::runtime(format), value); }

void print_table(const Job& job, const std::vector<Moment>& moments) {
  const bool classes = job.classes();
  fmt::print("\n{:>9}   {:^35}   {:^35}   {:^26}\n", "t", "training loss", classes ? "test accuracy, %" : "test loss", "largest difference");
  fmt::print("{:>9}", "steps");
  for (int block = 0; block < 2; ++block) fmt::print("   {:>8} {:>8} {:>8} {:>8}", "(a)", "(b)", "(c)", "(d)");
  fmt::print("   {:>8} {:>8} {:>8}\n", "(b)-(a)", "(c)-(a)", "(d)-(c)");
  for (const Moment& m : moments) {
    const double decade = std::log10(m.t);
    if (m.t > 0 && m.t < infinity && decade != std::round(decade) && m.t != moments[moments.size() - 2].t) continue;  // the CSV has them all
    fmt::print("{:>9}", m.t < 1e6 ? fmt::format("{}", m.t) : m.t == infinity ? "inf" : fmt::format("{:.3g}", m.t));
    fmt::print("  ");
    for (const Score& s : m.score) fmt::print(" {:>8}", cell(s.train_loss, "{:.2e}"));
    fmt::print("  ");
    for (const Score& s : m.score) fmt::print(" {:>8}", classes ? cell(100 * s.test_accuracy, "{:.1f}") : cell(s.test_loss, "{:.2e}"));
    fmt::print("  ");
    for (const double difference : {m.b_from_a, m.c_from_a, m.d_from_c}) fmt::print(" {:>8}", cell(difference, "{:.1e}"));
    fmt::print("\n");
  }
  fmt::print("\n(a) function space   (b) linearized network at theta(t)   (c) real network at theta(t)   (d) real network trained, ");
  fmt::print("up to {} steps: beyond that its cells are blank\n", job.options.max_steps);
}

void print_differences(const Job& job, const std::vector<Moment>& moments, double condition, Index diverged) {
  const Moment *ab = &moments[0], *ac = &moments[0], *cd = nullptr;
  double largest = 0;
  for (const Moment& m : moments) {
    if (m.b_from_a > ab->b_from_a) ab = &m;
    if (m.c_from_a > ac->c_from_a) ac = &m;
    if (m.t > 0 && !std::isnan(m.d_from_c) && (cd == nullptr || m.d_from_c > cd->d_from_c)) cd = &m;
    largest = std::max(largest, m.largest);
  }
  const double bound = std::max(1e-12, 10 * std::numeric_limits<double>::epsilon() * condition);
  fmt::print("\n(a) and (b) differ by at most {:.2g} (at t = {:g}), {:.2g} of the largest output; {} the bound of {:.2g}\n", ab->b_from_a, ab->t, ab->b_from_a / largest,
             ab->b_from_a <= bound * largest ? "within" : "BEYOND", bound);
  fmt::print("(c) departs from (a) by at most {:.2g} (at t = {:g}), {:.2g} of the largest output\n", ac->c_from_a, ac->t, ac->c_from_a / largest);
  if (cd != nullptr) fmt::print("(d) departs from (c) by at most {:.2g} (at t = {:g}), {:.2g} of the largest output\n", cd->d_from_c, cd->t, cd->d_from_c / largest);
  if (diverged >= 0) fmt::print("(d) had diverged after {} steps; a smaller --rate would not\n", diverged);
  if (!job.options.quiet) fmt::print("Infinitely wide, all four would be one curve.\n");
}

Table table_of(const std::vector<Moment>& moments) {
  Table table{{"t"}, {}};
  for (const char* what : {"train_loss", "test_loss", "train_accuracy", "test_accuracy"}) {
    for (const char* way : way_columns) table.names.push_back(fmt::format("{}_{}", what, way));
  }
  for (const char* difference : {"linearized_minus_function_space", "network_minus_function_space", "trained_minus_network"}) table.names.push_back(fmt::format("max_abs_{}", difference));
  for (const Moment& m : moments) {
    std::vector<double> row{m.t};
    for (const double Score::*what : {&Score::train_loss, &Score::test_loss, &Score::train_accuracy, &Score::test_accuracy}) {
      for (const Score& s : m.score) row.push_back(s.*what);
    }
    for (const double difference : {m.b_from_a, m.c_from_a, m.d_from_c}) row.push_back(difference);
    table.rows.push_back(row);
  }
  return table;
}

Figure figure_of(const Job& job) {
  // Okabe and Ito's colours, told apart by all; (b) as marks upon (a), and (d) upon (c), since they should coincide.
  constexpr std::array<const char*, ways> solid{"lines lw 8 lc rgb '#99CCEE'", "points pt 7 ps 0.8 lc rgb '#0072B2'", "lines lw 2.5 lc rgb '#D55E00'", "points pt 6 ps 1.2 lw 2 lc rgb '#000000'"};
  constexpr std::array<const char*, ways> dashed{"lines dt 2 lw 5 lc rgb '#99CCEE'", "points pt 7 ps 0.5 lc rgb '#0072B2'", "lines dt 3 lw 2.5 lc rgb '#D55E00'", "points pt 6 ps 0.8 lw 1.5 lc rgb '#000000'"};
  const auto add = [](Panel& panel, std::size_t block, const std::array<const char*, ways>& styles, bool titled) {
    for (std::size_t way = 0; way < ways; ++way) panel.curves.push_back({1 + block * ways + way, titled ? fmt::format("({}) {}", "abcd"[way], way_names[way]) : "", styles[way]});
  };
  Panel loss{"loss: training, and test dashed", "loss", true, 1e-8, "bottom left", {}}, accuracy{"test accuracy", "share of the test examples", false, 0, "", {}};
  Panel test_loss{"test loss", "loss", true, 0, "", {}};
  add(loss, 0, solid, true);
  add(loss, 1, dashed, false);
  add(accuracy, 3, solid, false);
  add(test_loss, 1, solid, false);
  return {fmt::format("{}: {} rows, {} hidden layers of width {}", job.problem.name, job.rows(), job.options.depth, job.options.width), "t, steps of gradient descent", 1,
          std::max(10.0, job.options.t_max), {loss, job.classes() ? accuracy : test_loss}};
}

void write_results(const Job& job, const predict::GradientFlow<double>& flow, double rate, const std::vector<Moment>& moments) {
  const std::filesystem::path& out = job.options.out;
  std::error_code error;
  std::filesystem::create_directories(out, error);
  if (error) throw DataError(fmt::format("the folder {} cannot be made: {}", out.string(), error.message()));
  Drawn drawn = draw(figure_of(job), table_of(moments), out, "weight_space", job.options.plot);
  const std::filesystem::path theta = out / "theta.npz";
  autodiff::save_tree(theta, flow(rate * job.options.theta_at).weights());
  for (const std::filesystem::path& file : drawn.files) note(job, "wrote     {}\n", file.string());
  note(job, "wrote     {} (the weights at t = {:g})\n", theta.string(), job.options.theta_at);
  if (!drawn.note.empty()) fmt::print(stderr, "no figure: {}. The script beside the table draws it.\n", drawn.note);
}

// The whole course.
void run(const Options& options) {
  const auto start = Clock::now();
  if (options.threads > 0) autodiff::set_threads(options.threads);
  Job job = prepare(options);
  announce(job);
  job.params = nn::initialize<double>(job.network, nn::Key(options.data.seed), job.problem.train.x.shape());

  ProgressDisplay display(options.progress);
  bool assembling = true;  // the library's own progress is shown in the beginning; later it is part of a longer computation
  const auto progress = [&](const autodiff::Progress& p) {
    if (assembling) display.show(p);
    return !ProgressDisplay::interrupted();
  };
  const auto flow = predict::gradient_flow(job.apply, job.params, job.problem.train.x, job.problem.train.y, {.rate = 1, .ridge = options.ridge, .kernel = {.progress = progress}});
  const predict::Points test_points = flow.points(job.problem.test.x);
  display.finish();
  assembling = false;
  const auto now = flow(0);
  const double stable = 2 * static_cast<double>(job.rows()) / (now.lambda_max() + options.ridge), rate = options.rate > 0 ? options.rate : 0.1 * stable;
  note(job, "kernel    rank {} of {}, condition {:.2g}, largest eigenvalue {:.4g}\n", now.rank(), job.rows(), now.condition(), now.lambda_max());
  note(job, "rate      {:.4g}; gradient descent is stable below {:.4g}\n", rate, stable);

  std::vector<Moment> moments = closed_form(job, flow, test_points, rate, display);
  const Index diverged = train(job, rate, moments, display);
  display.finish();

  print_table(job, moments);
  print_differences(job, moments, now.condition(), diverged);
  note(job, "\n");
  write_results(job, flow, rate, moments);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  note(job, "took      {:.1f} s, {} of memory\n", std::chrono::duration<double>(Clock::now() - start).count(), bytes(1024.0 * static_cast<double>(usage.ru_maxrss)));
}

// Answers the program's exit code: 0 done, 1 data or numbers that will not do, 2 a mistake on the command line, 130 interrupted.
int run_command_line(const std::vector<std::string>& arguments) {
  const CommandLine line = parse_command_line(arguments);
  if (line.exit_code) {
    std::fputs(line.text.c_str(), *line.exit_code == 0 ? stdout : stderr);
    return *line.exit_code;
  }
  ProgressDisplay::catch_interrupts();
  try {
    run(line.options);
    return 0;
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "weight_space: out of memory; fewer training examples need less\n");
  } catch (const std::exception& error) {
    if (ProgressDisplay::interrupted()) {
      fmt::print(stderr, "weight_space: interrupted\n");
      return 130;
    }
    fmt::print(stderr, "weight_space: {}\n", error.what());
  }
  return 1;
}

}  // namespace

}  // namespace linnet::examples

int main(int argc, char** argv) { return linnet::examples::run_command_line({argv + std::min(argc, 1), argv + argc}); }
