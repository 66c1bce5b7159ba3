#include "linnet/autodiff/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace linnet::autodiff {

std::string human(double x, const char* unit) {
  constexpr std::array prefixes{"", "k", "M", "G", "T", "P", "E"};
  std::size_t k = 0;
  while (x >= 999.5 && k + 1 < prefixes.size()) {
    x /= 1000;
    ++k;
  }
  const int digits = k == 0 && x == std::floor(x) ? 0 : x < 9.995 ? 2 : x < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f} {}{}", x, digits, prefixes[k], unit);
}

std::string aligned(const std::vector<std::vector<std::string>>& rows, const char* indent, std::initializer_list<std::size_t> numbers) {
  const std::size_t columns = rows.at(0).size();
  std::vector<std::size_t> wide(columns, 0);
  for (std::size_t i = 0; i < columns; ++i) {
    if (rows.size() > 1 && std::all_of(rows.begin() + 1, rows.end(), [&](const auto& row) { return row[i].empty(); })) continue;
    for (const auto& row : rows) wide[i] = std::max(wide[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < columns; ++i) {
      if (wide[i] == 0) continue;
      const bool number = std::find(numbers.begin(), numbers.end(), i) != numbers.end();
      line += (line.empty() ? indent : "  ") + (number ? fmt::format("{:>{}}", row[i], wide[i]) : fmt::format("{:<{}}", row[i], wide[i]));
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

}  // namespace linnet::autodiff
