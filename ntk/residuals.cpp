#include "linnet/ntk/residuals.h"

namespace linnet::ntk {

using namespace autodiff;

Primal seal_primal(Tape& tape, int n_params, std::vector<Var> outputs, const std::vector<Var>& residuals) {
  Primal primal;
  for (const Var& r : residuals) {
    const bool input = !tape.node(r).primitive && r.id() <= n_params;
    primal.residuals.push_back({input ? r.id() : -1, input ? -1 : static_cast<int>(outputs.size()), Varies::nothing});
    if (!input) outputs.push_back(r);
  }
  primal.program = std::make_shared<const Program>(tape.seal(outputs));
  std::vector<Varies> inputs(static_cast<std::size_t>(n_params), Varies::nothing);
  inputs.push_back(Varies::examples);
  const std::vector<Varies> all = varies(*primal.program, inputs);
  for (Residual& r : primal.residuals) r.varies = all[static_cast<std::size_t>(r.input >= 0 ? r.input : primal.program->outputs[static_cast<std::size_t>(r.output)])];
  return primal;
}

}  // namespace linnet::ntk
