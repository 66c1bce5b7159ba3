// The Taylor expansion of a network in its parameters: Eq. 5 of arXiv 1902.06720 is its first order.
#pragma once

#include "linnet/ntk/empirical.h"

namespace linnet::ntk {

// f_lin(params, x) = f(at, x) + J(x) (params - at). An Apply as f is: differentiate it, take its kernel, train it.
template <Scalar T> Apply linearized(const Apply& f, const Tree<Array<T>>& at);
// sum over k <= order of D^k f(at, x)[(params - at)^k] / k!. ShapeError if the order is negative.
template <Scalar T> Apply taylor_expand(const Apply& f, const Tree<Array<T>>& at, int order);

}  // namespace linnet::ntk
