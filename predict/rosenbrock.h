// One step of the exponential Rosenbrock method exprb43 for the stiff equations of integrate.h. Not installed.
#pragma once

#include "linnet/predict/integrate.h"

namespace linnet::predict {

struct ExponentialStep {
  Numbers values;      // y at the end
  double h = 0;        // of the step, which may be less than what was asked for
  double error = 0;    // as Equation::measure has it: below 1 it holds
  double largest = 0;  // rate at which the fastest of what moves decays
  Index products = 0;
  bool convex = true;  // false: the loss has no positive semidefinite Hessian here, or one that mixes examples, and there is no step
};

// From y, where the slope is given. Without friction.
ExponentialStep exponential_step(const Equation& equation, const Numbers& y, const Numbers& slope, double h);

}  // namespace linnet::predict
