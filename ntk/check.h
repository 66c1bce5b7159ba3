// What every entry point of ntk asks of its arguments. Not installed.
#pragma once

#include "linnet/autodiff/finite.h"
#include "linnet/ntk/empirical.h"

#include <vector>

namespace linnet::ntk {

// The shape of f for a batch of this shape, with f traced once. ShapeError unless f keeps the leading axis; then its rest are the outputs.
Shape output_shape(const char* operation, const Apply& f, const Tree<Shape>& params, const Shape& x);

// TraceError unless f treats the first and last example of x as it treats each alone, to 64 eps.
template <Scalar T> void check_independent(const char* operation, const Apply& f, const Tree<Array<T>>& params, const Array<T>& x);

// NumericalError for a result that is not finite: the first instruction of f that makes it so for one of these sets of examples, with its layer.
template <Scalar T> [[noreturn]] void fail_not_finite(const char* operation, const Apply& f, const Tree<Array<T>>& params, std::vector<const Array<T>*> sets, bool independent);

template <class T> Tree<Shape> shapes_of(const Tree<Array<T>>& tree) { return autodiff::detail::form(tree); }

}  // namespace linnet::ntk
