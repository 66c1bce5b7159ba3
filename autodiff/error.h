// The four ways in which a call can be wrong. Every message is a sentence: the operation, what came (with shapes), what was
// expected, and what to do where that is known. Nothing in Linnet aborts, and nothing answers NaN in silence.
#pragma once

#include <stdexcept>

namespace linnet::autodiff {

// Shapes that do not fit each other or the operation; also an index out of range.
struct ShapeError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

// Trees whose structure or names do not fit; also descriptions and files that are not what they should be.
struct StructureError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

// A traced value used where it cannot be: after its trace ended, from another thread, or in a function that must be independent.
struct TraceError : std::logic_error {
  using std::logic_error::logic_error;
};

// Numbers that are not finite, out of an operation's domain, or of a matrix that is not what the method needs.
struct NumericalError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace linnet::autodiff
