// The main function of a benchmark: options, then the run, and errors as sentences.
#pragma once

#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace linnet::bench {

// 0, or 2 for options that are wrong, 1 for a run that failed.
template <class Run> int program(const char* name, CLI::App& app, int argc, char** argv, Run&& run) {
  try {
    app.parse(argc, argv);
    run();
  } catch (const CLI::CallForHelp& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    fmt::print(stderr, "{}: {}; see --help\n", name, e.what());
    return 2;
  } catch (const std::exception& e) {
    fmt::print(stderr, "{}: {}\n", name, e.what());
    return 1;
  }
  return 0;
}

}  // namespace linnet::bench
