// Tells the caller of a long computation how far it is: from the calling thread, at most ten times a second and at the end, as
// autodiff/config.h promises. Not installed.
#pragma once

#include "linnet/autodiff/config.h"
#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/kernels/parallel.h"

#include <atomic>
#include <chrono>
#include <string>

namespace linnet::ntk {

class Reporter {
 public:
  // what: "kernel tiles".
  Reporter(const char* operation, const autodiff::ProgressFunction& f, const char* what, std::size_t total) : operation_(operation), f_(f), what_(what), total_(total) {}
  bool cancelled() const { return cancelled_; }
  void done(std::size_t bytes = 0) {  // one more, on any thread, and so many bytes of it went to disk
    bytes_ += bytes;
    const std::size_t n = ++done_;
    if (!f_ || autodiff::thread_index() != 0 || cancelled_ || n == total_) return;
    const double now = seconds();
    if (now - last_ >= 0.1) tell(n, now);
  }
  void finish() {  // on the calling thread; NumericalError if it was cancelled
    if (f_ && !cancelled_) tell(done_, seconds());
    check();
  }
  void check() const {
    if (cancelled_) autodiff::fail<autodiff::NumericalError>("{}: cancelled by the progress function after {} of {} {}", operation_, done_.load(), total_, what_);
  }

 private:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }
  void tell(std::size_t n, double now) {
    last_ = now;
    if (!f_({what_, n, total_, now, bytes_})) cancelled_ = true;
  }
  const char* operation_;
  const autodiff::ProgressFunction& f_;
  const char* what_;
  std::size_t total_;
  std::atomic<std::size_t> done_{0}, bytes_{0};
  std::atomic<bool> cancelled_{false};
  double last_ = -1;  // the first is told at once
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace linnet::ntk
