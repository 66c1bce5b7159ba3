// Errors, told to all ranks. together.h says what for.
#include "linnet/ntk/together.h"

#include "linnet/autodiff/fail.h"
#include "linnet/ntk/checksum.h"

#include <algorithm>
#include <array>
#include <string>

namespace linnet::ntk {

using namespace autodiff;

namespace {

enum Kind : std::uint64_t { none, shape, structure, trace, numerical };
struct Failure {
  Kind kind = none;
  std::string text;
};

Failure failure_of(FunctionRef<void()> f) {
  try {
    f();
    return {};
  } catch (const ShapeError& e) {
    return {shape, e.what()};
  } catch (const StructureError& e) {
    return {structure, e.what()};
  } catch (const TraceError& e) {
    return {trace, e.what()};
  } catch (const std::exception& e) {
    return {numerical, e.what()};
  } catch (...) {
    return {numerical, "an exception of an unknown type"};
  }
}

[[noreturn]] void throw_as(Kind kind, const std::string& text) {
  switch (kind) {
    case shape: throw ShapeError(text);
    case structure: throw StructureError(text);
    case trace: throw TraceError(text);
    default: throw NumericalError(text);
  }
}

}  // namespace

void together(Ranks& ranks, const char* operation, FunctionRef<void()> f) {
  Failure mine = failure_of(f);
  Checksum sum;
  sum.add(mine.text);
  constexpr std::size_t said = 3;
  const std::array<std::uint64_t, said> words{mine.kind, sum.value(), mine.text.size()};
  const std::vector<std::uint64_t> all = ranks.gather(words);
  const auto count = static_cast<std::size_t>(ranks.count());
  std::size_t first = 0;
  while (first < count && all[said * first] == none) ++first;
  if (first == count) return;
  bool alike = true;
  for (std::size_t r = 0; r < count; ++r) alike &= std::equal(all.begin(), all.begin() + said, all.begin() + static_cast<std::ptrdiff_t>(said * r));
  if (alike) throw_as(mine.kind, mine.text);
  std::string text = mine.text;
  text.resize(all[said * first + 2]);
  ranks.broadcast(text.data(), text.size(), static_cast<int>(first));
  if (const std::string own = fmt::format("{}: ", operation); text.starts_with(own)) text.erase(0, own.size());
  throw_as(static_cast<Kind>(all[said * first]), fmt::format("{}: rank {} of {}: {}", operation, first, count, text));
}

}  // namespace linnet::ntk
