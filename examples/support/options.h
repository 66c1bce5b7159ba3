// The command line of weight_space: one option for each thing a person would want to vary.
#pragma once

#include "linnet/examples/support/data.h"
#include "linnet/examples/support/progress.h"

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace linnet::examples {

struct Options {
  DataChoice data;
  Index width = 512, depth = 2;
  double W_std = 1.5, b_std = 0.05;
  double rate = 0;              // 0: a tenth of the largest stable one
  double ridge = 0;
  double t_max = 1e6;
  int per_decade = 4;
  Index max_steps = 1000;
  double theta_at;              // the time whose weights are saved
  std::filesystem::path out = "weight_space";
  bool plot = true;
  bool quiet = false;
  ProgressMode progress = ProgressMode::automatic;
  int threads = 0;              // 0: as the machine has
};

// What the program is to do: go on with these options, or print this text and end with this code (0 after --help, 2 after a mistake).
struct CommandLine {
  Options options;
  std::optional<int> exit_code;
  std::string text;
};
CommandLine parse_command_line(const std::vector<std::string>& arguments);  // without the program's name

}  // namespace linnet::examples
