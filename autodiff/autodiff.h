// Everything of autodiff but the opt-in eigen.h. To understand it, read tape.h, program.h, transform.h, derivative.h, in this order.
#pragma once

#include "linnet/autodiff/config.h"
#include "linnet/autodiff/cost.h"
#include "linnet/autodiff/derivative.h"
#include "linnet/autodiff/error.h"
#include "linnet/autodiff/npy.h"
#include "linnet/autodiff/numerics.h"
#include "linnet/autodiff/ops.h"
#include "linnet/autodiff/primitive.h"
#include "linnet/autodiff/program.h"
#include "linnet/autodiff/tape.h"
#include "linnet/autodiff/transform.h"
#include "linnet/autodiff/tree.h"
