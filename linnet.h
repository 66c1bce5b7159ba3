// All of Linnet: autodiff, nn on it, ntk and predict on any function of a tree of parameters, infinite for the kernels of infinitely wide networks.
#pragma once

#include "linnet/autodiff/autodiff.h"
#include "linnet/infinite/function.h"
#include "linnet/infinite/kernel.h"
#include "linnet/nn/nn.h"
#include "linnet/ntk/ntk.h"
#include "linnet/predict/predict.h"
