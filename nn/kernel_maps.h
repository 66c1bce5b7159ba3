// Functions of the angle between two Gaussian variables, as maps of the executor: what closed-form kernels of activations are made of, where a composition would lose
// digits or time. Not installed.
#pragma once

#include "linnet/autodiff/ops.h"

namespace linnet::nn {

using autodiff::Var;

// With h = 1 - cos(theta) in [0, 2], to which it is cut: both to full relative accuracy near theta = 0, which a function of the cosine cannot have.
Var angle(const Var& h);         // theta. Its slope 1 / sin(theta) is taken as 0 at both ends, so that kernels of an example with itself have derivatives
Var angle_moment(const Var& h);  // sin(theta) - theta cos(theta); its slope is theta

// Of a kink, f(x) = a x below 0 and b x above, with ratio = g / A of abrelu_rule: the gap of what it answers over s1' s2', h - ratio angle_moment(h), and its slope over A,
// 1 - ratio angle(h). Each is one map.
Var kink_gap(const Var& h, double ratio);
Var kink_slope(const Var& h, double ratio);

Var relative_gap(const Var& gap, const Var& both);  // gap / both, at most 2; 1 where both is 0
Var positive_part(const Var& x);                    // 0 below 0
Var versine(const Var& x);                          // 1 - cos(x) for |x| <= pi/2, to full relative accuracy near 0

Var arctangent(const Var& y, const Var& x);  // of y / x for x >= 0, in [-pi/2, pi/2]; 0 where both are 0

}  // namespace linnet::nn
