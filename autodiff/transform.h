// The transformations: interpreters over programs. jvp and transpose are the two; everything else is built of them
// (vjp = transpose of linearize). What they record may be transformed again, so derivatives of any order need no code.
#pragma once

#include "linnet/autodiff/ops.h"
#include "linnet/autodiff/program.h"

#include <functional>

namespace linnet::autodiff {

// Traces f on inputs of these shapes. `captured` receives the outer values f mentions (TraceError without it if there are any).
Program trace(const Function& f, std::span<const Shape> inputs, const Tape* parent = nullptr, std::vector<Var>* captured = nullptr);

// Records the instructions of a program again, on other values.
std::vector<Var> inline_program(const Program&, std::span<const Var> in);

// Primals and tangents of the outputs. Tangents may live on a newer tape than primals: the derivative is then recorded there.
struct Dual {
  std::vector<Var> primal, tangent;
};
Dual jvp(const Program&, std::span<const Var> primals, std::span<const Var> tangents);

// Runs a linear program backwards. in[i] that is zero is a linear input, and the answer has its cotangent (zero where none arrives);
// the others are known values. `stop`, if given, is asked first and may take over an operand's cotangent: the cut transpose.
using Stop = std::function<bool(int instruction, int operand, const Rule&, const Var& cotangent)>;
std::vector<Var> transpose(const Program&, std::span<const Var> in, std::span<const Var> cotangents, const Stop& stop = {});

// The derivative of f at x as a program. Its inputs are the tangents of x, then the residuals.
struct Linear {
  std::vector<Var> out;
  std::vector<Var> residuals;
  std::shared_ptr<const Program> map;
};
Linear linearize(const Function& f, std::span<const Var> x, std::span<const Var> data = {});

// The cotangents of x, for cotangents of the outputs. Zeros are made explicit.
std::vector<Var> pull_back(const Linear&, std::span<const Var> x, std::span<const Var> cotangents);
// The tangents of the outputs, for tangents of x.
std::vector<Var> push_forward(const Linear&, std::span<const Var> tangents);

}  // namespace linnet::autodiff
