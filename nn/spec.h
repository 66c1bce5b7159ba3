// Networks as JSON: {"type": "serial", "layers": [{"type": "dense", "out": 512, "W_std": 1.5, "b_std": 0.05}, {"type": "erf"}, …]}.
#pragma once

#include "linnet/nn/layer.h"

#include <string_view>

namespace linnet::nn {

// Types and their keys, those with a default in brackets: serial, parallel {layers}; dense {out, [W_std 1], [b_std none], [parameterization "ntk" or
// "standard"]}; erf, sin, cos {[a 1], [b 1], [c 0]}; exp {[a 1], [b 1]}; gaussian {[a 1], [b -1]}; leaky_relu {alpha}; rbf {[gamma 1]}; fan_out {n}; relu, gelu,
// abs, sigmoid_like, tanh, sign, identity, flatten and fan_in_sum {}. StructureError says what is wrong and where.
Layer layer_from_json(std::string_view json);

}  // namespace linnet::nn
