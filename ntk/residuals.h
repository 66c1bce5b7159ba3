// Where the residuals of a derivative come from: the primal program computes those that are not parameters or examples themselves. Not installed.
#pragma once

#include "linnet/autodiff/transform.h"

#include <memory>
#include <vector>

namespace linnet::ntk {

struct Residual {
  int input, output;  // of the primal program; one of them is -1
  autodiff::Varies varies;
};
struct Primal {
  std::shared_ptr<const autodiff::Program> program;  // params, x -> outputs, then the residuals that are no inputs
  std::vector<Residual> residuals;
};
// Seals the tape of `n_params` parameters and the examples that `residuals` were recorded on.
Primal seal_primal(autodiff::Tape& tape, int n_params, std::vector<autodiff::Var> outputs, const std::vector<autodiff::Var>& residuals);

}  // namespace linnet::ntk
