// The bar, the lines, and Ctrl-C.
#include "linnet/examples/support/progress.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <ctime>

namespace linnet::examples {

namespace {

volatile std::sig_atomic_t interrupts = 0;

void on_interrupt(int) {
  interrupts = 1;
  std::signal(SIGINT, SIG_DFL);
}

double share(const autodiff::Progress& p) { return p.total == 0 ? 1 : std::min(1.0, static_cast<double>(p.done) / static_cast<double>(p.total)); }

}  // namespace

std::string bar(const autodiff::Progress& p) {
  constexpr std::size_t width = 24;
  const double part = share(p);
  const std::size_t full = static_cast<std::size_t>(part * width);
  std::string text = fmt::format("{}  [{:#<{}}{:-<{}}] {:3.0f}%  {}/{}  {:.1f} s", p.what, "", full, "", width - full, std::floor(100 * part), p.done, p.total, p.seconds);
  if (p.done > 0 && p.done < p.total && p.seconds > 0) text += fmt::format("  eta {:.1f} s", p.seconds * (1 - part) / part);
  return text;
}

ProgressDisplay::ProgressDisplay(ProgressMode mode) : mode_(mode), terminal_(mode == ProgressMode::on || (mode == ProgressMode::automatic && isatty(STDERR_FILENO) == 1)) {}

ProgressDisplay::~ProgressDisplay() { finish(); }

void ProgressDisplay::show(const autodiff::Progress& p) {
  if (mode_ == ProgressMode::off) return;
  const auto now = Clock::now();
  const std::size_t tenth = static_cast<std::size_t>(10 * share(p));
  const bool fresh = p.what != what_ || p.done == 0, last = p.done >= p.total;
  if (fresh) {
    finish();
    what_ = p.what;
    last_tenth_ = 0;
    last_ = terminal_ ? Clock::time_point() : now;
  }
  if (terminal_) {
    if (!bar_stands_ && p.seconds < 0.2) return;  // what is done at once needs no bar
    if (!last && now - last_ < std::chrono::milliseconds(100)) return;
    fmt::print(stderr, "\r{}\x1b[K", bar(p));
    std::fflush(stderr);
    bar_stands_ = true;
    if (last) finish();
  } else {
    // What takes less than a second needs no line in a log.
    if (p.seconds < 1 || (tenth == last_tenth_ && now - last_ < std::chrono::seconds(30))) return;
    fmt::print(stderr, "{:%H:%M:%S}  {}\n", fmt::localtime(std::time(nullptr)), bar(p));
  }
  last_tenth_ = tenth;
  last_ = now;
}

void ProgressDisplay::finish() {
  if (bar_stands_) std::fputc('\n', stderr);
  bar_stands_ = false;
}

void ProgressDisplay::catch_interrupts() { std::signal(SIGINT, on_interrupt); }
bool ProgressDisplay::interrupted() { return interrupts != 0; }

}  // namespace linnet::examples
