// Networks as people use them, small: convolutional ones, a residual one and a transformer block. As the others, exact in float.
#pragma once

#include "networks.h"

namespace networks {

// Strides, every padding, both parameterizations, pooling and a dense head.
inline Network convolutional() {
  return of_layers("convolutional",
                   nn::serial({nn::Conv(4, {3, 3}, {.padding = nn::Padding::same, .W_std = 1.5, .b_std = 0.3}), nn::Relu(), nn::AvgPool({2, 2}, {.strides = {2, 1}}),
                               nn::Conv(3, {2, 3}, {.strides = {1, 2}, .padding = nn::Padding::circular, .W_std = 1.5, .parameterization = nn::Parameterization::standard}), nn::Erf(), nn::flatten(),
                               nn::Dense(2, {1.5, 0.3})}),
                   {5, 4, 2});
}

// Sequences, to one number at every place.
inline Network sequence() {
  return of_layers("sequence", nn::serial({nn::Conv(5, {3}, {.padding = nn::Padding::same, .b_std = 0.3}), nn::Gelu(), nn::MaxPool({2}), nn::Conv(1, {2}, {.strides = {2}, .b_std = 0.3})}), {7, 2});
}

// He et al. (arXiv 1512.03385): [convolution, activation] twice beside the identity, and a projection where the extents change.
inline Network residual() {
  const auto conv = [](Index channels, Index stride) { return nn::Conv(channels, {3, 3}, {.strides = {stride, stride}, .padding = nn::Padding::same, .W_std = 1.4, .b_std = 0.2}); };
  const auto block = [&](Index channels, Index stride, nn::Layer shortcut) {
    return nn::serial({nn::fan_out(2), nn::parallel({nn::serial({nn::Relu(), conv(channels, stride), nn::Relu(), conv(channels, 1)}), std::move(shortcut)}), nn::fan_in_sum()});
  };
  return of_layers("residual", nn::serial({conv(3, 1), nn::repeat(block(3, 1, nn::identity()), 2), block(4, 2, nn::Conv(4, {1, 1}, {.strides = {2, 2}})), nn::Relu(), nn::GlobalAvgPool(), nn::Dense(3, {1.5, 0.3})}), {4, 4, 2});
}

// Of Vaswani et al. (arXiv 1706.03762), normalized before each branch: words to vectors, attention and a perceptron beside the identity, and the mean over places.
inline Network transformer() {
  const auto beside = [](nn::Layer branch) { return nn::serial({nn::fan_out(2), nn::parallel({nn::identity(), nn::serial({nn::LayerNorm({-1}, 1e-3), std::move(branch)})}), nn::fan_in_sum()}); };
  Network net = of_layers("transformer",
                          nn::serial({nn::Embedding(5, 4), beside(nn::GlobalSelfAttention(4, 3, 2, 2, {.linear_scaling = false, .b_std = 0.3, .pos_emb = nn::PositionalEmbedding::sum})),
                                      beside(nn::serial({nn::Dense(6, {1.5, 0.3}), nn::Gelu(), nn::Dense(4, {1.5, 0.3})})), nn::LayerNorm({-1}, 1e-3), nn::GlobalAvgPool(), nn::Dense(2, {1.5, 0.3})}),
                          {3});
  net.vocabulary = 5;
  return net;
}

// Branches that are multiplied and put side by side.
inline Network branches() {
  return of_layers("branches",
                   nn::serial({nn::Conv(3, {2}, {.padding = nn::Padding::circular, .b_std = 0.3}), nn::fan_out(2), nn::parallel({nn::Erf(), nn::Conv(3, {1}, {.b_std = 0.3})}), nn::fan_in_prod(), nn::fan_out(2),
                               nn::parallel({nn::Tanh(), nn::serial({nn::Conv(2, {3}, {.padding = nn::Padding::same}), nn::Hermite(3)})}), nn::fan_in_concat(), nn::GlobalSumPool(), nn::Dense(1, {1.5, 0.3})}),
                   {4, 2});
}

inline std::vector<Network> of_every_kind() { return {convolutional(), sequence(), residual(), transformer(), branches()}; }

}  // namespace networks
