// The operations users write functions with. Operands of arithmetic broadcast by NumPy's rule; a double may stand for a Var. Axes may be
// counted from the end. At a kink the slope is the mean of both sides (relu .5, abs 0); a maximum over an axis shares its slope
// equally among ties. All throw ShapeError, at the user's line, never when the program runs. What depends on values is a NumericalError of the run.
#pragma once

#include "linnet/autodiff/tape.h"

#include <array>
#include <functional>
#include <optional>
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
Var erfc(const Var& x);   // 1 - erf(x), to full relative accuracy in the tail
Var expm1(const Var& x);  // exp(x) - 1, near 0 too
Var log1p(const Var& x);  // log(1 + x), near 0 too
Var tanh(const Var& x);
Var pow(const Var& x, const Var& exponent);  // x^exponent; the derivative in the exponent is taken as 0 where x is 0
Var step(const Var& x);                      // 1 where x > 0, else 0; no derivative
Var sign(const Var& x);                      // -1, 0 or 1; no derivative
Var stop_gradient(const Var& x);             // x, as a constant to every derivative
Var where(const Var& condition, const Var& a, const Var& b);  // a where the condition is not 0, else b

Var maximum(const Var& a, const Var& b);     // of two values; half a slope each where they are equal; a NaN stays
Var minimum(const Var& a, const Var& b);
Var clip(const Var& x, const Var& low, const Var& high);      // minimum(maximum(x, low), high); numbers low > high are a NumericalError
// f(x) where the condition is not 0, else g(x), and no NaN of the branch that is not taken gets into a derivative: f sees `safe` where the condition is 0, and
// g sees safe_g (`safe` unless given) where it is not. where(x > 0, [](Var u) { return sqrt(u); }, zeros_like, x, 1).
Var where(const Var& condition, const std::function<Var(Var)>& f, const std::function<Var(Var)>& g, const Var& x, double safe, std::optional<double> safe_g = {});

// ---- products
Var dot(const Var& a, const Var& b, DotFlags flags = {});  // op(a) op(b) over the last two axes; equal leading axes are separate products;
                                                           // vectors contract as in NumPy
// Sums of products over axes_a of a and axes_b of b, pairwise; batch axes go along. [batch…, other axes of a…, other axes of b…].
Var contract(const Var& a, std::vector<Index> axes_a, const Var& b, std::vector<Index> axes_b, std::vector<Index> batch_a = {}, std::vector<Index> batch_b = {});

// ---- reductions and broadcasting
Var sum(const Var& x);
Var sum(const Var& x, std::vector<Index> axes, bool keep = false);
Var max(const Var& x);
Var max(const Var& x, std::vector<Index> axes, bool keep = false);
Var min(const Var& x);
Var min(const Var& x, std::vector<Index> axes, bool keep = false);
Var mean(const Var& x);
Var mean(const Var& x, std::vector<Index> axes, bool keep = false);
Var variance(const Var& x);                           // mean (x - mean x)^2: of the whole population
Var variance(const Var& x, std::vector<Index> axes, bool keep = false);
Var cumsum(const Var& x, Index axis, bool reverse = false);   // y[i] = x[0] + … + x[i] along the axis; reverse: x[i] + … + x[last]
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

// ---- windows: images [n,height,width,c], or sequences [n,length,c], of which only the first of two numbers counts and the second must be 1
// same: ceil(extent / stride) places, zeros around, the smaller half in front; circular: the other end instead of zeros.
enum class Padding { same, valid, circular };
struct ConvOptions { std::array<Index, 2> stride{1, 1}, dilation{1, 1}; Padding padding = Padding::same; };
struct PoolOptions {
  std::array<Index, 2> stride{1, 1};
  Padding padding = Padding::valid;
  bool normalize_edges = false;  // avg_pool: divide by the number of values inside the image, not by the whole window
};
// w [height,width,c,f]: y[n,p,q,f] = sum over i, j, c of x[n, p stride + i dilation - before, …, c] w[i,j,c,f]. As in all of machine learning, w is not flipped.
Var conv(const Var& x, const Var& w, const ConvOptions& options = {});
Var patches(const Var& x, std::array<Index, 2> size, const ConvOptions& options = {});  // what each window sees: [n, places…, height width c]
Var sum_pool(const Var& x, std::array<Index, 2> size, const PoolOptions& options = {});
Var avg_pool(const Var& x, std::array<Index, 2> size, const PoolOptions& options = {});
Var max_pool(const Var& x, std::array<Index, 2> size, const PoolOptions& options = {});  // padding never wins

// ---- positive matrices [..,n,n]; right sides [..,n,k] or [..,n]
Var cholesky(const Var& a);      // L lower, L L^T = (a + a^T) / 2; NumericalError names the pivot if that is not positive definite
Var triangular_solve(const Var& l, const Var& b, bool transposed = false);  // l^-1 b, or l^-T b; above its diagonal l is not read
Var solve_positive(const Var& a, const Var& b);   // a^-1 b
Var logdet_positive(const Var& a);                // log det a = 2 sum log diag L; its gradient is a^-1
Var lower_triangle(const Var& x, double diagonal = 1);  // zeros above the diagonal, the diagonal times a number
Var diagonal(const Var& x);

// ---- compositions
Var abs(const Var& x);
Var abrelu(const Var& x, double a, double b);  // a x below 0, b x above
Var relu(const Var& x);
Var square(const Var& x);
Var sigmoid(const Var& x);                     // 1/(1 + exp(-x)), without overflow
Var gelu(const Var& x);                        // x Phi(x), Phi the normal distribution function
Var logsumexp(const Var& x, Index axis = -1, bool keep = false);
Var softmax(const Var& x, Index axis = -1);
Var layer_norm(const Var& x, Index axis = -1, double epsilon = 1e-12);  // (x - mean) / sqrt(variance + epsilon), both over the axes, of the whole population
Var layer_norm(const Var& x, std::vector<Index> axes, double epsilon = 1e-12);
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
