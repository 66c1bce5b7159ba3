// Networks as JSON: {"type": "serial", "layers": [{"type": "dense", "out": 512, "W_std": 1.5, "b_std": 0.05}, {"type": "erf"}, …]}.
#pragma once

#include "linnet/nn/layer.h"

#include <string>
#include <string_view>

namespace linnet::nn {

// Types and their keys, those with a default in brackets; b_std left out is no bias. Words may be written in small letters too.
//   serial, parallel {layers}; repeat {layer, n}; fan_out {n}; fan_in_concat {[axis -1]}; fan_in_sum, fan_in_prod, identity, flatten {}
//   dense {out, [W_std 1], [b_std], [parameterization "ntk" or "standard"]}
//   conv {out, filter, [strides 1 each], [padding "VALID", "SAME" or "CIRCULAR"], [W_std 1], [b_std], [parameterization "ntk"]}
//   avg_pool {window, [strides], [padding "VALID"], [normalize_edges false]}; sum_pool, max_pool {window, [strides], [padding]}; global_avg_pool, global_sum_pool {}
//   layer_norm {[axis -1, or a list], [eps 1e-12]}; dropout {keep}; embedding {vocabulary, out, [W_std 1], [parameterization "ntk"]}
//   attention {out, key, value, heads, [linear_scaling true], [W_key_std 1], [W_value_std 1], [W_query_std 1], [W_out_std 1], [b_std], [mechanism "SOFTMAX",
//     "IDENTITY", "ABS" or "RELU"], [pos_emb "NONE", "SUM" or "CONCAT"], [pos_emb_channels those of the input], [W_pos_emb_std 1], [val_pos_emb false]}
//   erf, sin, cos {[a 1], [b 1], [c 0]}; exp {[a 1], [b 1]}; gaussian {[a 1], [b -1]}; ab_relu {a, b}; leaky_relu {alpha}; rbf {[gamma 1]}; gelu {[approximate false]};
//   monomial, rectified_monomial, hermite {degree}; polynomial {coefficients}; relu, abs, sigmoid_like, tanh, gabor, sign {}
// StructureError says what is wrong and where.
Layer layer_from_json(std::string_view json);
// The description of a layer, with every option it has: reading it answers the same layer. StructureError for a layer of your own.
std::string layer_to_json(const Layer& layer);

}  // namespace linnet::nn
