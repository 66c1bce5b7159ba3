// Progress of long computations on standard error: a bar of one line in a terminal, timestamped lines elsewhere, so that a log stays readable.
// The library knows nothing of it but autodiff::ProgressFunction.
#pragma once

#include "linnet/autodiff/config.h"

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

namespace linnet::examples {

enum class ProgressMode { automatic, on, off };  // automatic: a bar if standard error is a terminal, else a line every 10 % or 30 s; on: a bar always

class ProgressDisplay {
 public:
  explicit ProgressDisplay(ProgressMode mode);
  ~ProgressDisplay();
  ProgressDisplay(const ProgressDisplay&) = delete;
  ProgressDisplay& operator=(const ProgressDisplay&) = delete;

  void show(const autodiff::Progress& progress);
  void finish();                   // ends the bar's line, if one stands

  static void catch_interrupts();  // the first Ctrl-C asks computations to stop, the second ends the program
  static bool interrupted();

 private:
  using Clock = std::chrono::steady_clock;
  ProgressMode mode_;
  bool terminal_;
  std::string what_;               // what is being shown
  bool bar_stands_ = false;
  std::size_t last_tenth_ = 0;
  Clock::time_point last_ = {};
};

// The text of a bar: "kernel tiles  [#######-----] 58%  29/50  12.4 s  eta 9.0 s".
std::string bar(const autodiff::Progress& progress);

}  // namespace linnet::examples
