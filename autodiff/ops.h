// The operations users write functions with. Operands of arithmetic broadcast by NumPy's rule; a double may stand for a Var. Axes may be
// counted from the end. At a kink the slope is the mean of both sides (relu .5, abs 0); a maximum over an axis shares its slope
// equally among ties. All throw ShapeError, at the user's line, never when the program runs.
#pragma once

#include "linnet/autodiff/tape.h"

#include <functional>
#include <span>
#include <vector>

namespace linnet::autodiff {

// ---- elementwise
Var operator+(const Var& a, const Var& b);
Var operator-(const Var& a, const Var& b);
Var operator*(const Var& a, const Var& b);
Var operator/(const Var& a, const Var& b);
Var operator-(const Var& a);
Var operator>(const Var& a, const Var& b);  // 1 where it holds, 0 elsewhere; a mask for where
Var operator<(const Var& a, const Var& b);
Var exp(const Var& x);
Var log(const Var& x);
Var sqrt(const Var& x);
Var sin(const Var& x);
Var cos(const Var& x);
Var erf(const Var& x);
Var tanh(const Var& x);
Var pow(const Var& x, const Var& exponent);  // x^exponent; the derivative in the exponent is taken as 0 where x is 0
Var step(const Var& x);                      // 1 where x > 0, else 0; no derivative
Var sign(const Var& x);                      // -1, 0 or 1; no derivative
Var stop_gradient(const Var& x);             // x, as a constant to every derivative
Var where(const Var& condition, const Var& a, const Var& b);  // a where the condition is not 0, else b

// ---- products
Var dot(const Var& a, const Var& b, DotFlags flags = {});  // op(a) op(b) over the last two axes; equal leading axes are separate products;
                                                           // vectors contract as in NumPy
// ---- reductions and broadcasting
Var sum(const Var& x);
Var sum(const Var& x, std::vector<Index> axes, bool keep = false);
Var max(const Var& x);
Var max(const Var& x, std::vector<Index> axes, bool keep = false);
Var mean(const Var& x);
Var mean(const Var& x, std::vector<Index> axes, bool keep = false);
Var broadcast(const Var& x, Index at, const Shape& extents);  // new axes in front of axis `at`, repeating x along them
Var broadcast_to(const Var& x, const Shape& shape);           // NumPy's rule

// ---- structure
Var reshape(const Var& x, const Shape& shape);
Var transpose(const Var& x);                          // of a matrix
Var transpose(const Var& x, std::vector<Index> axes); // axis i of the result is axis axes[i] of x
Var slice(const Var& x, Index axis, Index start, Index size);
Var pad(const Var& x, Index axis, Index before, Index after);  // with zeros
Var concatenate(std::vector<Var> parts, Index axis);
Var gather(const Var& table, const Var& index);       // rows of table [n, …] at index [k] -> [k, …]; NumericalError at run time for an index outside
Var scatter_add(const Var& rows, const Var& index, Index n);  // rows [k, …] added into n rows of zeros at index [k]
Var fill(Tape* tape, const Shape& shape, double value);
Var zeros_like(const Var& x);

// ---- compositions
Var abs(const Var& x);
Var abrelu(const Var& x, double a, double b);  // a x below 0, b x above
Var relu(const Var& x);
Var square(const Var& x);
Var sigmoid(const Var& x);                     // 1/(1 + exp(-x)), without overflow
Var gelu(const Var& x);                        // x Phi(x), Phi the normal distribution function
Var logsumexp(const Var& x, Index axis = -1, bool keep = false);
Var softmax(const Var& x, Index axis = -1);
Var mean_squared_error(const Var& prediction, const Var& target);  // mean of the squared differences

// ---- functions of functions
using Function = std::function<std::vector<Var>(std::span<const Var>)>;

// A function whose intermediate values are recomputed in reverse mode instead of stored.
Function checkpoint(Function f);

// f with a derivative of your own: jvp(primals, tangents) answers the tangents of the results, linear in the tangents, in the operations of this header.
// TraceError if it is not linear. f and jvp may mention no traced value but their arguments.
Function custom_jvp(Function f, CustomJvp jvp);

// A loop of `length` steps, traced once: body(state..., one slice of each xs...) -> (new state..., outputs...). Answers the last states, then the outputs
// stacked along a new leading axis, whose extent xs have in front. What else the body mentions is the same in every step. Derivatives of any order are loops.
std::vector<Var> scan(const Function& body, std::vector<Var> state, std::vector<Var> xs, Index length);

}  // namespace linnet::autodiff
