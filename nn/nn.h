// All of linnet::nn: layers, random numbers, networks from JSON.
#pragma once

#include "linnet/nn/layer.h"
#include "linnet/nn/random.h"
#include "linnet/nn/spec.h"
