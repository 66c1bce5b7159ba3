// config() says what a report needs, and threads are set and told.
#include "linnet/autodiff/config.h"

#include "linnet/autodiff/error.h"

#include <doctest/doctest.h>

using namespace linnet::autodiff;

TEST_CASE("the configuration has a line for every fact") {
  const std::string text = config();
  std::size_t at = 0;
  for (const char* what : {"linnet ", "instructions ", "compiler ", "eigen ", "decompositions ", "vector math ", "archives ", "threads ", "blocks "}) {
    CAPTURE(what);
    CHECK(text.substr(at, std::string_view(what).size()) == what);
    const std::size_t end = text.find('\n', at);
    REQUIRE(end != text.npos);
    CHECK(end - at > 16);  // there is a fact
    at = end + 1;
  }
  CHECK(at == text.size());
}

TEST_CASE("the number of threads is what was set, and shows in the configuration") {
  const int before = threads();
  for (const int n : {1, 3}) {
    set_threads(n);
    CHECK(threads() == n);
    CHECK(config().find("threads         " + std::to_string(n) + "\n") != std::string::npos);
  }
  set_threads(before);
}

TEST_CASE("less than one thread is refused") {
  for (const int n : {0, -2}) {
    try {
      set_threads(n);
      FAIL("nothing was thrown");
    } catch (const ShapeError& e) {
      CHECK(std::string(e.what()) == "threads: the number of threads must be at least 1, got " + std::to_string(n));
    }
  }
}
