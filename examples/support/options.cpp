// The options' names, ranges and help, by CLI11.
#include "linnet/examples/support/options.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <limits>
#include <map>

namespace linnet::examples {

namespace {

constexpr const char* description =
    "Trains the linearization of a network in closed form and the network itself, and compares, over time t in steps of gradient descent:\n"
    "  (a) the function-space solution     (b) the linearized network at theta(t)\n"
    "  (c) the real network at theta(t)    (d) the real network after t steps of training\n";

constexpr const char* footer =
    "\nExamples:\n"
    "  weight_space --width 16                            a narrow network: (a) and (b) agree, (c) departs\n"
    "  weight_space --data fashion-mnist --n-train 300    3,000 rows\n"
    "  weight_space --data mine.npz --classes             members x [n, ...] and y [n], the classes\n";

const std::map<std::string, ProgressMode> progress_modes{{"auto", ProgressMode::automatic}, {"on", ProgressMode::on}, {"off", ProgressMode::off}};

// Checks run on the text before it is converted, so that a mistake is answered in one form. T is the type of the option.
template <class T> auto between(T low, T high) {
  return [=](const std::string& text) -> std::string {
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool good = error == std::errc() && end == text.data() + text.size() && value >= low && value <= high;
    return good ? "" : fmt::format("'{}' will not do; a {} from {} to {:g} was expected", text, std::is_integral_v<T> ? "whole number" : "number", low, static_cast<double>(high));
  };
}

// An option of a group with its range; what it is when not given belongs to the help.
template <class T> void add(CLI::App& app, const char* group, const char* name, T& value, T low, T high, const std::string& help, const std::string& unless = "") {
  app.add_option(name, value, fmt::format("{} ({})", help, unless.empty() ? fmt::format("default {}", value) : unless))->check(between<T>(low, high))->type_name(std::is_integral_v<T> ? "N" : "X")->group(group);
}

std::string check_data(const std::string& name) {
  const bool known = name == "digits" || name == "fashion-mnist" || name == "sine" || name.ends_with(".npz");
  return known ? "" : fmt::format("'{}' is no data set; choose digits, fashion-mnist, sine, or the name of a .npz file", name);
}

std::string check_mode(const std::string& mode) { return progress_modes.contains(mode) ? "" : fmt::format("'{}' is none of auto, on, off", mode); }

std::string check_time(const std::string& text) { return text == "inf" ? "" : between(0.0, 1e300)(text).empty() ? "" : fmt::format("'{}' is no time; a number from 0, or inf, was expected", text); }

void add_options(CLI::App& app, Options& o, std::string& theta_at, std::string& progress) {
  app.add_option("--data", o.data.data, "digits, fashion-mnist, sine, or a .npz file with members x and y (default digits)")->check(check_data)->type_name("NAME")->group("Data");
  add<Index>(app, "Data", "--n-train", o.data.n_train, 1, 100000000, "training examples", "default 100, of sine 10");
  add<Index>(app, "Data", "--n-test", o.data.n_test, 1, 100000000, "test examples", "default up to 500, of sine 50");
  app.add_flag("--classes", o.data.classes, "y of the .npz file is the class of every example, from 0")->group("Data");

  add<Index>(app, "Network", "--width", o.width, 1, 1000000, "width of the hidden layers");
  add<Index>(app, "Network", "--depth", o.depth, 0, 100, "number of hidden layers, each Dense and Erf");
  add(app, "Network", "--w-std", o.W_std, 1e-6, 1e6, "standard deviation of the weights, before 1/sqrt(fan_in)");
  add(app, "Network", "--b-std", o.b_std, 0.0, 1e6, "standard deviation of the biases");
  add<std::uint64_t>(app, "Network", "--seed", o.data.seed, 0, std::numeric_limits<std::uint64_t>::max(), "of the parameters, and of the noise of sine");

  add(app, "Training", "--rate", o.rate, 1e-300, 1e300, "learning rate", "default: a tenth of the largest stable one");
  add(app, "Training", "--ridge", o.ridge, 0.0, 1e300, "pull towards the initial weights, added to every eigenvalue");
  add(app, "Training", "--t-max", o.t_max, 1.0, 1e15, "last time of the logarithmic axis, before infinity");
  add(app, "Training", "--per-decade", o.per_decade, 1, 50, "times a decade");
  add<Index>(app, "Training", "--max-steps", o.max_steps, 0, 1000000000, "steps the real network is trained for");
  app.add_option("--theta-at", theta_at, "the time whose weights are saved, or inf (default inf)")->check(check_time)->type_name("X")->group("Training");

  app.add_option("--out", o.out, "folder for figure, table and weights (default weight_space)")->type_name("FOLDER")->group("Output");
  app.add_flag_callback("--no-plot", [&o] { o.plot = false; }, "write the figure's data and script, but do not run gnuplot")->group("Output");
  app.add_option("--progress", progress, "auto, on or off: a bar in a terminal and lines in a log, always a bar, nothing (default auto)")->check(check_mode)->type_name("WHEN")->group("Output");
  app.add_flag("--quiet", o.quiet, "results only: no notes, no progress")->group("Output");
  app.add_option("--threads", o.threads, "threads; results do not depend on it (default: all)")->check(between(1, 4096))->type_name("N")->group("Output");
}

void check_together(const Options& o) {
  if (o.data.classes && !o.data.data.ends_with(".npz")) throw CLI::ValidationError("--classes", "it is for .npz files; " + o.data.data + " knows what its targets are");
  if (o.out.empty()) throw CLI::ValidationError("--out", "the name of a folder was expected, and it is empty");
}

// CLI11 separates groups by two blank lines.
std::string one_blank_line(std::string text) {
  for (std::size_t at = 0; (at = text.find("\n\n\n", at)) != std::string::npos;) text.erase(at, 1);
  return text;
}

}  // namespace

CommandLine parse_command_line(const std::vector<std::string>& arguments) {
  CommandLine line;
  Options& o = line.options;
  std::string theta_at = "inf", progress = "auto";
  CLI::App app(description, "weight_space");
  app.footer(footer);
  app.get_formatter()->column_width(26);
  app.set_help_flag("-h,--help", "this text");
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  add_options(app, o, theta_at, progress);
  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));  // CLI11 takes them from the back
    check_together(o);
    o.theta_at = theta_at == "inf" ? std::numeric_limits<double>::infinity() : std::stod(theta_at);
    o.progress = o.quiet ? ProgressMode::off : progress_modes.at(progress);
  } catch (const CLI::CallForHelp&) {
    line.exit_code = 0;
    line.text = one_blank_line(app.help());
  } catch (const CLI::ParseError& error) {
    line.exit_code = 2;
    line.text = fmt::format("weight_space: {}. See weight_space --help.\n", error.what());
  }
  return line;
}

}  // namespace linnet::examples
