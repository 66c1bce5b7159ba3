// check_derivatives: the one harness for derivatives, of the library's operations and of a user's own functions. Installed.
#pragma once

#include "linnet/autodiff/derivative.h"

#include <cstddef>
#include <string>
#include <vector>

namespace linnet::autodiff {

struct DerivativeCheck {
  int order = 2;                  // derivatives of derivatives, so many times
  double difference = 1e-10;      // jvp against six-point differences, in double, relative to the largest entry
  double adjoint = 4;             // |<v, Ju> - <J^T v, u>|, and |<v, J(au + bw) - aJu - bJw>|, in units of eps S, S the linear program run on absolute values
  Index lanes = 3;                // so many (co)tangents at once must equal a loop over them
  unsigned seed = 1;
  bool differences = true;        // false where f is not smooth at x
  std::size_t* checks = nullptr;  // where given, grows by the number of comparisons made
};

// What was found, a line for each failure; empty if everything holds. Inputs x in double; the float checks use their rounded values.
std::vector<std::string> check_derivatives(const Function& f, const std::vector<Array<double>>& x, const DerivativeCheck& options = {});
template <class F> requires Differentiable<F, Array<double>> std::vector<std::string> check_derivatives(const F& f, const Array<double>& x, const DerivativeCheck& options = {}) {
  return check_derivatives(detail::flat_of(f, std::make_shared<Form>(), x), std::vector{x}, options);
}

}  // namespace linnet::autodiff
