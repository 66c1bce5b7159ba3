// What every primitive means, in plain loops and long double: the reference that ops_reference.cpp holds programs to. Shares no code with the library's kernels.
#pragma once

#include "linnet/autodiff/program.h"

#include <span>
#include <vector>

namespace samples {

using Numbers = std::vector<long double>;
struct Expected {
  Numbers value;
  Numbers sum;  // where a value is a sum: of the absolute values of what is added up. Its error may be `terms` eps times that. Empty where `ulps` says all
  double terms = 0;
};

// Of an instruction on operands of these values; its numbers are as that width holds them. std::logic_error for a primitive without a reference.
Expected expected(const linnet::autodiff::Instruction&, std::span<const linnet::autodiff::Shape> shapes, std::span<const Numbers> in, bool in_double);

// The largest error of a primitive in units in the last place, where it is no sum.
double ulps_allowed(std::string_view primitive, bool in_double);

}  // namespace samples
