// The main of tests that run as several processes: rank 0 reports; another one that fails says so on standard error, and by its exit code.
#define DOCTEST_CONFIG_IMPLEMENT
#include "linnet/ntk/distributed.h"

#include <doctest/doctest.h>

#include <cstdio>
#include <sstream>

int main(int argc, char** argv) {
  doctest::Context context(argc, argv);
  const linnet::ntk::Place place = linnet::ntk::place();
  std::ostringstream quiet;
  if (place.rank > 0) context.setCout(&quiet);
  const int failed = context.run();
  if (place.rank > 0 && failed) std::fprintf(stderr, "on rank %d of %d:\n%s\n", place.rank, place.ranks, quiet.str().c_str());
  return failed;
}
