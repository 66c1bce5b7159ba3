// What a program costs as a table: floating-point operations and bytes of every instruction, with its shape and layer. The numbers are costs() of program.h,
// which says what is counted; the closing line has the memory an executor plans.
#pragma once

#include "linnet/autodiff/program.h"

#include <string>
#include <vector>

namespace linnet::autodiff {

// In float or double, for inputs that vary so over these lanes (executor.h). A call's row has all of it, and the rows below, set in, what its body has of that. A
// number with ~ in front is a guess: of a kernel that is no elementwise one and does not say what it costs (Primitive::flops).
template <Scalar T> std::string cost_table(const Program&, const std::vector<Varies>& inputs = {}, Lanes lanes = {});
template <Scalar T> void print_cost(const Program&, const std::vector<Varies>& inputs = {}, Lanes lanes = {});  // to standard output

}  // namespace linnet::autodiff
