// Kernels of infinite width as functions of traced values: derivatives by the examples, and by the scales W_std and b_std of layers, to any order. For what is fitted to data, as a
// marginal likelihood is; kernel.h is for assembling them. Examples have no places here: dense layers, activations, branches.
//
//   const auto k = infinite::kernel_function(network);
//   const auto loss = [&](const Tree<Var>& scales, const Var& x) { return sum(k(scales, x, x)["nngp"].leaf()); };
//   const auto slope = autodiff::grad(loss, infinite::scales(network), x);      // slope["dense_0"]["W_std"]
#pragma once

#include "linnet/nn/layer.h"

#include <functional>

namespace linnet::infinite {

// W_std and b_std of every dense layer that has them, as scalars, under the names of the layer in the tree of parameters.
autodiff::Tree<autodiff::Array<double>> scales(const nn::Layer& network);

// (scales, rows [n, channels], columns [m, channels]) -> {"nngp": [n, m], "ntk": [n, m]}, of one output. Slopes of kinks are taken as 0 where two examples point in one direction. A
// zero example has no derivative. StructureError as Kernel has it, and for scales that are not there; ShapeError for examples that do not fit.
std::function<autodiff::Tree<autodiff::Var>(const autodiff::Tree<autodiff::Var>& scales, const autodiff::Var& rows, const autodiff::Var& columns)> kernel_function(const nn::Layer& network);

}  // namespace linnet::infinite
