// The command line: what it takes, and one sentence for everything it does not.
#include "linnet/examples/support/options.h"
#include "linnet/tests/examples/files.h"

#include <doctest/doctest.h>

#include <cmath>
#include <utility>

using linnet::examples::CommandLine;
using linnet::examples::parse_command_line;
using linnet::examples::ProgressMode;
using linnet::tests::contains;

TEST_CASE("without arguments the options are their defaults") {
  const CommandLine line = parse_command_line({});
  CHECK(!line.exit_code);
  CHECK(line.options.data.data == "digits");
  CHECK(line.options.data.n_train == 0);
  CHECK(line.options.width == 512);
  CHECK(line.options.depth == 2);
  CHECK(line.options.max_steps == 1000);
  CHECK(line.options.plot);
  CHECK(std::isinf(line.options.theta_at));
}

TEST_CASE("every option arrives where it belongs") {
  const CommandLine line = parse_command_line({"--data", "mine.npz", "--classes", "--n-train", "20", "--n-test=30", "--width", "16", "--depth", "0", "--w-std", "1.25", "--b-std", "0",
                                               "--seed", "18446744073709551615", "--rate", "0.5", "--ridge", "1e-3", "--t-max", "1e4", "--per-decade", "2", "--max-steps", "0",
                                               "--theta-at", "12.5", "--out", "a b", "--no-plot", "--progress", "on", "--threads", "2"});
  REQUIRE(!line.exit_code);
  const auto& o = line.options;
  CHECK(o.data.data == "mine.npz");
  CHECK(o.data.classes);
  CHECK(o.data.n_train == 20);
  CHECK(o.data.n_test == 30);
  CHECK(o.width == 16);
  CHECK(o.depth == 0);
  CHECK(o.W_std == 1.25);
  CHECK(o.b_std == 0);
  CHECK(o.data.seed == 18446744073709551615u);
  CHECK(o.rate == 0.5);
  CHECK(o.ridge == 1e-3);
  CHECK(o.t_max == 1e4);
  CHECK(o.per_decade == 2);
  CHECK(o.max_steps == 0);
  CHECK(o.theta_at == 12.5);
  CHECK(o.out == "a b");
  CHECK(!o.plot);
  CHECK(o.progress == ProgressMode::on);
  CHECK(o.threads == 2);
}

TEST_CASE("of an option given twice the later counts, and quiet shows no progress") {
  const CommandLine line = parse_command_line({"--out", "first", "--quiet", "--progress", "on", "--out", "second"});
  REQUIRE(!line.exit_code);
  CHECK(line.options.out == "second");
  CHECK(line.options.progress == ProgressMode::off);
}

TEST_CASE("help is for people and no mistake") {
  const CommandLine line = parse_command_line({"--help"});
  CHECK(line.exit_code == 0);
  for (const std::string part : {"(a) the function-space solution", "--data NAME", "fashion-mnist", "--max-steps N", "default 1000", "Examples:"}) {
    CAPTURE(part);
    CHECK(contains(line.text, part));
  }
}

TEST_CASE("every mistake is answered by one line that names the option and what was expected") {
  using Case = std::pair<std::vector<std::string>, const char*>;
  const std::vector<Case> mistakes{
      {{"--width", "0"}, "--width: '0' will not do; a whole number from 1 to 1e+06 was expected"},
      {{"--width", "1e3"}, "--width: '1e3' will not do"},
      {{"--width", "5x"}, "--width: '5x' will not do"},
      {{"--width"}, "--width: 1 required N missing"},
      {{"--width="}, "--width"},
      {{"--depth", "-1"}, "--depth: '-1' will not do; a whole number from 0"},
      {{"--n-train", "3.7"}, "--n-train: '3.7' will not do"},
      {{"--n-train", "99999999999999999999"}, "--n-train: '99999999999999999999' will not do"},
      {{"--n-test", "0"}, "--n-test: '0' will not do"},
      {{"--seed", "-1"}, "--seed: '-1' will not do"},
      {{"--rate", "nan"}, "--rate: 'nan' will not do; a number from"},
      {{"--rate", "0"}, "--rate: '0' will not do"},
      {{"--ridge", "inf"}, "--ridge: 'inf' will not do"},
      {{"--b-std", "-0.1"}, "--b-std: '-0.1' will not do"},
      {{"--w-std", ""}, "--w-std: '' will not do"},
      {{"--t-max", "0"}, "--t-max: '0' will not do"},
      {{"--theta-at", "soon"}, "--theta-at: 'soon' is no time; a number from 0, or inf, was expected"},
      {{"--theta-at", "nan"}, "--theta-at: 'nan' is no time"},
      {{"--progress", "maybe"}, "--progress: 'maybe' is none of auto, on, off"},
      {{"--threads", "0"}, "--threads: '0' will not do; a whole number from 1 to 4096"},
      {{"--data", "cifar"}, "--data: 'cifar' is no data set; choose digits, fashion-mnist, sine, or the name of a .npz file"},
      {{"--data", ""}, "--data: '' is no data set"},
      {{"--classes"}, "--classes: it is for .npz files; digits knows what its targets are"},
      {{"--out", ""}, "--out: the name of a folder was expected"},
      {{"--learning-rate", "1"}, "The following arguments were not expected"},
      {{"digits"}, "The following argument was not expected: digits"}};
  for (const auto& [arguments, expected] : mistakes) {
    CAPTURE(std::string(expected));
    const CommandLine line = parse_command_line(arguments);
    CAPTURE(line.text);
    CHECK(line.exit_code == 2);
    CHECK(contains(line.text, expected));
    CHECK(line.text.find('\n') == line.text.size() - 1);
  }
}
