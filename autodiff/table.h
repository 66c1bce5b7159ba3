// Text that people read: numbers with a unit, and columns as wide as what is in them. Not installed.
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

namespace linnet::autodiff {

// As it is below a thousand, then three digits and a decimal prefix: "720 FLOP", "1.61 GFLOP", "3.14 MB".
std::string human(double x, const char* unit);
inline std::string in_bytes(double bytes) { return human(bytes, "B"); }

// One line a row, two spaces between columns; `numbers` are columns that end together, and a column with nothing below its heading is left out.
std::string aligned(const std::vector<std::vector<std::string>>& rows, const char* indent = "", std::initializer_list<std::size_t> numbers = {});

}  // namespace linnet::autodiff
