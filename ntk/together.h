// What fails on one rank fails on all, with its sentence: no rank waits for one that has thrown. Not installed.
#pragma once

#include "linnet/autodiff/kernels/parallel.h"
#include "linnet/ntk/ranks.h"

namespace linnet::ntk {

// f on every rank; then throws on all of them what it threw on any: "ntk::full_distributed: rank 1 of 3: x has nan at [3]; …", of the first rank that did, in its type (NumericalError
// if it is none of ours); what it threw on all alike is thrown as it is. Collective; f itself may be so too, if no rank leaves it early.
void together(Ranks& ranks, const char* operation, autodiff::FunctionRef<void()> f);

}  // namespace linnet::ntk
