// The progress display: what a bar says, and that a log gets lines without control characters.
#include "linnet/examples/support/progress.h"
#include "linnet/tests/examples/files.h"

#include <doctest/doctest.h>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>

using linnet::autodiff::Progress;
using linnet::examples::bar;
using linnet::examples::ProgressDisplay;
using linnet::examples::ProgressMode;
using linnet::tests::contains;

namespace {

// What comes to standard error meanwhile, which is a file then.
template <class F> std::string on_standard_error(F&& f) {
  const linnet::tests::Folder folder;
  const auto file = folder.path() / "stderr";
  std::fflush(stderr);
  const int kept = dup(STDERR_FILENO), into = open(file.c_str(), O_CREAT | O_WRONLY, 0600);
  dup2(into, STDERR_FILENO);
  f();
  std::fflush(stderr);
  dup2(kept, STDERR_FILENO);
  close(kept);
  close(into);
  return linnet::tests::read_text(file);
}

}  // namespace

TEST_CASE("a bar says what is done, of how much, and how long it will take") {
  CHECK(bar({"kernel tiles", 29, 50, 12.4}) == "kernel tiles  [#############-----------]  57%  29/50  12.4 s  eta 9.0 s");
  CHECK(bar({"kernel tiles", 50, 50, 20}) == "kernel tiles  [########################] 100%  50/50  20.0 s");
  CHECK(bar({"kernel tiles", 0, 50, 0}) == "kernel tiles  [------------------------]   0%  0/50  0.0 s");
  CHECK(contains(bar({"nothing", 0, 0, 0}), "100%"));
}

TEST_CASE("a log gets a line every tenth, and no control character") {
  const std::string log = on_standard_error([] {
    ProgressDisplay display(ProgressMode::automatic);
    for (std::size_t i = 0; i <= 1000; ++i) display.show({"steps", i, 1000, 0.1 * static_cast<double>(i)});
  });
  CHECK(std::count(log.begin(), log.end(), '\n') == 10);
  for (const char c : log) CHECK((c == '\n' || (c >= ' ' && c <= '~')));
  CHECK(contains(log, "steps  [#####"));
}

TEST_CASE("what takes less than a second leaves a log as it is, and so does a display that is off") {
  CHECK(on_standard_error([] {
          ProgressDisplay display(ProgressMode::automatic);
          for (std::size_t i = 0; i <= 100; ++i) display.show({"steps", i, 100, 0.001 * static_cast<double>(i)});
        }).empty());
  CHECK(on_standard_error([] {
          ProgressDisplay display(ProgressMode::off);
          for (std::size_t i = 0; i <= 100; ++i) display.show({"steps", i, 100, static_cast<double>(i)});
        }).empty());
}

TEST_CASE("a bar is one line that ends, and another computation has another") {
  const std::string text = on_standard_error([] {
    ProgressDisplay display(ProgressMode::on);
    display.show({"first", 0, 2, 0});
    display.show({"first", 1, 2, 1});
    display.show({"second", 0, 1, 0});
    display.show({"second", 1, 1, 1});
  });
  CHECK(std::count(text.begin(), text.end(), '\n') == 2);
  CHECK(text.back() == '\n');
  CHECK(contains(text, "\rfirst  ["));
  CHECK(contains(text, "\rsecond  [########################] 100%  1/1  1.0 s\x1b[K\n"));
}

TEST_CASE("the first interrupt asks computations to stop") {
  CHECK(!ProgressDisplay::interrupted());
  ProgressDisplay::catch_interrupts();
  std::raise(SIGINT);
  CHECK(ProgressDisplay::interrupted());
}
