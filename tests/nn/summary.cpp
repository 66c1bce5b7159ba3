// The table of a network, to the letter.
#include "linnet/nn/nn.h"

#include <doctest/doctest.h>

using namespace linnet;
using autodiff::ShapeError;
using autodiff::StructureError;

TEST_CASE("the summary of a perceptron names layers, shapes, parameters and bytes") {
  const nn::Layer net = nn::serial({nn::flatten(), nn::Dense(512, {.b_std = 0.1}), nn::Erf(), nn::Dense(10)});
  CHECK(nn::summary(net, {1, 28, 28}) ==
        "layer        output       parameters           bytes\n"
        "----------------------------------------------------\n"
        "input        [1,28,28]\n"
        "serial       [1,10]          407,040       3,256,320\n"
        "  flatten_0  [1,784]\n"
        "  dense_1    [1,512]         401,920       3,215,360\n"
        "  erf_2      [1,512]\n"
        "  dense_3    [1,10]            5,120          40,960\n"
        "----------------------------------------------------\n"
        "total                        407,040       3,256,320\n");
}

TEST_CASE("the summary of branches shows every value, in the width asked for") {
  const nn::Layer net = nn::serial({nn::fan_out(2), nn::parallel({nn::serial({nn::Dense(3), nn::Relu()}), nn::identity()}), nn::fan_in_sum()});
  CHECK(nn::summary(net, {32, 3}, nn::Width::float32) ==
        "layer           output           parameters           bytes\n"
        "-----------------------------------------------------------\n"
        "input           [32,3]\n"
        "serial          [32,3]                    9              36\n"
        "  fan_out_0     [32,3] [32,3]\n"
        "  parallel_1    [32,3] [32,3]             9              36\n"
        "    serial_0    [32,3]                    9              36\n"
        "      dense_0   [32,3]                    9              36\n"
        "      relu_1    [32,3]\n"
        "    identity_1  [32,3]\n"
        "  fan_in_sum_2  [32,3]\n"
        "-----------------------------------------------------------\n"
        "total                                     9              36\n");
}

TEST_CASE("the summary of a convolutional network has every repetition in a row of its own") {
  const nn::Layer block = nn::serial({nn::Conv(4, {3, 3}, {.padding = nn::Padding::same, .b_std = 0.1}), nn::Relu()});
  const nn::Layer net = nn::serial({nn::Conv(4, {3, 3}, {.strides = {2, 2}}), nn::repeat(block, 2), nn::AvgPool({2, 2}), nn::GlobalAvgPool(), nn::LayerNorm(), nn::Dense(10)});
  CHECK(nn::summary(net, {1, 9, 9, 3}) ==
        "layer                output       parameters           bytes\n"
        "------------------------------------------------------------\n"
        "input                [1,9,9,3]\n"
        "serial               [1,10]              444           3,552\n"
        "  conv_0             [1,4,4,4]           108             864\n"
        "  repeat_1           [1,4,4,4]           296           2,368\n"
        "    serial_0         [1,4,4,4]           148           1,184\n"
        "      conv_0         [1,4,4,4]           148           1,184\n"
        "      relu_1         [1,4,4,4]\n"
        "    serial_1         [1,4,4,4]           148           1,184\n"
        "      conv_0         [1,4,4,4]           148           1,184\n"
        "      relu_1         [1,4,4,4]\n"
        "  avg_pool_2         [1,3,3,4]\n"
        "  global_avg_pool_3  [1,4]\n"
        "  layer_norm_4       [1,4]\n"
        "  dense_5            [1,10]               40             320\n"
        "------------------------------------------------------------\n"
        "total                                    444           3,552\n");
}

TEST_CASE("a summary of one layer without parameters has a total of nothing") {
  CHECK(nn::summary(nn::Relu(), {0, 4}) ==
        "layer  output    parameters           bytes\n"
        "-------------------------------------------\n"
        "input  [0,4]\n"
        "relu   [0,4]\n"
        "-------------------------------------------\n"
        "total                     0               0\n");
}

TEST_CASE("a summary of what does not fit says where") {
  CHECK_THROWS_WITH_AS(nn::summary(nn::Relu(), {}), "summary: the shape of the input is that of a scalar; expected is [examples, …]", ShapeError);
  CHECK_THROWS_WITH_AS(nn::summary(nn::Layer{.name = "mine"}, {1}), "summary: layer 'mine' has no init function", StructureError);
  const nn::Layer net = nn::serial({nn::Relu(), nn::serial({nn::parallel({nn::Relu(), nn::Relu()})})});
  CHECK_THROWS_WITH_AS(nn::summary(net, {1, 2}), "serial/serial_1/parallel_0: parallel: 2 layers need as many values, got one array; put fan_out(2) in front", StructureError);
}
