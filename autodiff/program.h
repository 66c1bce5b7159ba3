// Program: a computation as data. Immutable once sealed, without a number type: the same program runs in float and in double.
#pragma once

#include "linnet/autodiff/primitive.h"

#include <memory>
#include <string>
#include <vector>

namespace linnet::autodiff {

struct Instruction {
  const Primitive* primitive;
  Attributes attributes;
  std::vector<int> in;
  Shape shape;
  std::shared_ptr<const std::string> path;  // the layer it was recorded in
};

// Values are numbered: first the inputs, then the constants, then one value for each instruction.
struct Program {
  std::vector<Shape> inputs;
  std::vector<std::shared_ptr<const Constant>> constants;
  std::vector<Instruction> code;
  std::vector<int> outputs;
  int captures = 0;  // the last `captures` inputs stand for values captured from older tapes

  int n_inputs() const { return static_cast<int>(inputs.size()); }
  int first_instruction() const { return static_cast<int>(inputs.size() + constants.size()); }
  int n_values() const { return first_instruction() + static_cast<int>(code.size()); }
  const Shape& shape(int value) const;
  const Instruction& instruction(int value) const { return code[static_cast<std::size_t>(value - first_instruction())]; }
  std::vector<Shape> operand_shapes(const Instruction&) const;
};

// What an input of a loop's body is: the same in every step, carried from one to the next, or one slice of a leading axis.
enum class Role : char { constant, state, sliced };

// A call that runs its body over a leading axis. Its results are the last states, then the other outputs, stacked; reverse: from the last slice to the first.
struct Loop {
  Index length = 1;
  std::vector<Role> roles;  // of the body's inputs
  bool reverse = false;
};
Shape stacked(const Shape&, Index length);
std::vector<Shape> results_of(const Body&);  // the shapes of a call's results, before they are packed into one value

std::string str(const Instruction&);  // dot %0 %1 (a b^T)
std::string str(const Program&);  // { lambda %0:[1,784] … let … in … }, shapes and layer paths included
void print(const Program&);       // to standard output
void check(const Program&);       // operands defined before use, shapes as the rules infer them; TraceError names what is not
// That the outputs are linear in the first n inputs jointly: every instruction has one linear operand, or several and is joint, and then
// nothing else of linear kind but zeros. TraceError names the instruction that is not.
void check_linear(const Program&, int n_linear);

// Which lane axes every value varies over, for inputs that vary so (over none where the list ends): an instruction's over the union of its operands'.
std::vector<Varies> varies(const Program&, std::vector<Varies> inputs);
std::vector<Varies> inputs_of(const Body&, std::vector<Varies> operands);  // of a call's body, for operands that vary so; states of a loop over all they do

// What an instruction, or a program, costs. A multiply-add is two operations, a function of a number one (its kernel may take twenty), and what only moves
// numbers none. Every value that is an operand is read once and the result written once, each in the lanes it varies over; what only moves numbers reads no more of an
// operand than it writes. A call costs what its body does, times the steps of a loop. What an executor saves by strips is not known here.
struct Cost {
  double flops = 0;
  double numbers = 0;  // read and written
  template <Scalar T> double bytes() const { return numbers * static_cast<double>(sizeof(T)); }
  Cost& operator+=(const Cost& c);
  bool operator==(const Cost&) const = default;
};
std::vector<Cost> costs(const Program&, const std::vector<Varies>& inputs = {}, Lanes lanes = {});  // of every instruction, in all its lanes
Cost cost(const Program&, const std::vector<Varies>& inputs = {}, Lanes lanes = {});                // of all of them

}  // namespace linnet::autodiff
