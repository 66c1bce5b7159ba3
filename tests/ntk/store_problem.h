// The kernel that store.cpp computes into files, and store_child.cpp too, which is there to be killed.
#pragma once

#include "networks.h"

namespace store_problem {

// Tiles of 38 examples, 380 rows: six down.
inline networks::Network network() { return networks::mlp(20, {33, 17}, 10); }
inline networks::Array<double> examples() { return networks::examples(network(), 200, 1); }

}  // namespace store_problem
