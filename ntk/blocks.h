// How large the blocks of a kernel are that ranks share: large ones need fewer sweeps, small ones end evenly. Not installed.
#pragma once

#include "linnet/ntk/tile_file.h"

#include <vector>

namespace linnet::ntk {

// Tiles of a panel, from all there are down to one: finely where panels are few, by tenths where they are many.
std::vector<Index> panel_candidates(const TileLayout& layout);

struct Division {
  Index panel = 1;
  double swept = 0;     // examples, of all ranks: a row of blocks needs its panel of rows once, and a panel of columns for each
  double duration = 0;  // at most, until the last rank is done, if all are equally fast: an even share of all, and one block behind it (Graham 1966, theorem 1)
};
// In units of what a pair of examples and the sweep of an example cost: operations, or seconds.
Division divide(const TileLayout& layout, Index panel, int ranks, double pair, double sweep);

}  // namespace linnet::ntk
