// Functions of one primitive at any size. Read rows.h first.
#pragma once

#include "linnet/autodiff/primitive.h"
#include "linnet/tests/autodiff/rows.h"

namespace samples {

// The primitive on about n values, an operand's leading axis being n; -1 is a scalar where the primitive takes one. std::logic_error for a primitive without such a function.
Row sized(std::string_view primitive, Index n);
// Functions of fixed, larger sizes, that run in another way: in panels, tiles, columns, loops.
std::vector<Row> further(std::string_view primitive);

}  // namespace samples
