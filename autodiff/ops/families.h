// The families of primitives, one file each, and the few primitives that transformations and plans know by identity. Not installed.
#pragma once

#include "linnet/autodiff/program.h"

#include <span>
#include <utility>
#include <vector>

namespace linnet::autodiff {

std::span<const Primitive* const> elementwise_primitives();
std::span<const Primitive* const> contraction_primitives();
std::span<const Primitive* const> reduction_primitives();
std::span<const Primitive* const> structure_primitives();
std::span<const Primitive* const> window_primitives();
std::span<const Primitive* const> convolution_primitives();
std::span<const Primitive* const> linear_algebra_primitives();
std::span<const Primitive* const> call_primitives();

const Primitive& add_primitive();        // interpreters sum with it
const Primitive& scale_primitive();      // the kernel's uses of a parameter look through these three (ntk/gram.h)
const Primitive& reshape_primitive();
const Primitive& transpose_primitive();
const Primitive& broadcast_primitive();  // strips read through one of leading axes (plan.h)
const Primitive& call_primitive();       // holds a program

// A call's derivative, all operands at once: value and tangent; and the cotangents of its operands (in[i] zero where it is linear).
std::pair<Var, Var> call_jvp(const Instruction&, std::span<const Var> in, std::span<const Var> tangents, Tape* into);
std::vector<Var> call_transpose(const Instruction&, std::span<const Var> in, const Var& cotangent);


// Of a call that is a loop (scan.cpp), and what both share.
std::pair<Var, Var> loop_jvp(const Instruction&, std::span<const Var> in, std::span<const Var> tangents, Tape* into);
std::vector<Var> loop_transpose(const Instruction&, std::span<const Var> in, const Var& cotangent);
std::vector<Var> unpack(const Var& packed, const Body&);  // the results of a call

}  // namespace linnet::autodiff
