// Of a library built with -Djson=disabled.
#include "linnet/nn/spec.h"

#include "linnet/autodiff/error.h"

namespace linnet::nn {

Layer layer_from_json(std::string_view) { throw autodiff::StructureError("spec: this library was built without JSON; configure it with -Djson=enabled"); }

std::string layer_to_json(const Layer&) { throw autodiff::StructureError("spec: this library was built without JSON; configure it with -Djson=enabled"); }

}  // namespace linnet::nn
