// The bounds that derivatives are held to, at many points: every row of the table of primitives (rows.h) with numbers drawn anew, and every comparison counted.
// LINNET_SEED=n draws those of seed n alone: what a failure prints.
#include "linnet/tests/autodiff/rows.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>

using namespace linnet::autodiff;
using samples::Row;

namespace {

constexpr Index largest = 64;  // values of an array: what is larger is tested once, by the table's own tests
constexpr std::size_t wanted = 30'000;

std::vector<unsigned> seeds() {
  const char* const given = std::getenv("LINNET_SEED");
  if (!given || !*given) return {1, 2, 3};
  unsigned seed = 0;
  const auto [end, error] = std::from_chars(given, given + std::strlen(given), seed);
  REQUIRE_MESSAGE((error == std::errc() && *end == 0), "LINNET_SEED must be a whole number, got '", std::string(given), "'");
  return {seed};
}

bool small(const Row& row) { return std::all_of(row.x.begin(), row.x.end(), [](const Array<double>& a) { return a.size() <= largest; }); }

// How many comparisons were made.
std::size_t check_seed(unsigned seed) {
  samples::stream = seed;
  const samples::Table table = samples::all_rows();
  samples::stream = 0;
  std::size_t checks = 0;
  for (const auto& [name, rows] : table)
    for (const Row& row : rows) {
      if (!small(row)) continue;
      INFO("again by: LINNET_SEED=", seed, " ./check --suite autodiff -tc='*at points drawn anew*'");
      CAPTURE(std::string(name));
      CAPTURE(row.what);
      DerivativeCheck check = row.check;
      check.seed = seed;
      check.checks = &checks;
      try {
        for (const std::string& failure : check_derivatives(row.f, row.x, check)) FAIL_CHECK(failure);
      } catch (const std::exception& e) {
        FAIL_CHECK(std::string(e.what()));
      }
    }
  return checks;
}

}  // namespace

TEST_CASE("derivatives of every primitive hold at points drawn anew, in thirty thousand comparisons") {
  std::size_t checks = 0;
  const std::vector<unsigned> drawn = seeds();
  for (const unsigned seed : drawn) checks += check_seed(seed);
  MESSAGE(checks, " comparisons of derivatives");
  CHECK(checks >= (drawn.size() == 1 ? wanted / 3 : wanted));
}

TEST_CASE("another seed draws other numbers, the same seed the same") {
  auto drawn = [](std::uint64_t stream) {
    samples::stream = stream;
    const Array<double> x = samples::random<double>({9}, 3);
    samples::stream = 0;
    return x;
  };
  CHECK(drawn(1) == drawn(1));
  CHECK(!(drawn(1) == drawn(2)));
  CHECK(!(drawn(1) == drawn(0)));
}

TEST_CASE("the harness counts what it compares") {
  auto count = [](int order, bool differences, Index lanes) {
    std::size_t checks = 0;
    check_derivatives([](Var v) { return tanh(v); }, samples::random<double>({3}, 1), {.order = order, .lanes = lanes, .differences = differences, .checks = &checks});
    return checks;
  };
  // In either width the adjoint identity, bits, the cotangent zero, linearity and lanes in both directions; once differences, and float against double.
  CHECK(count(1, true, 3) == 2 * (3 + 2 + 2 * 3) + 2);
  CHECK(count(1, false, 1) == 2 * (3 + 2 + 2) + 1);
  CHECK(count(2, true, 3) == 3 * count(1, true, 3));
  CHECK(count(3, true, 3) == 7 * count(1, true, 3));
}
