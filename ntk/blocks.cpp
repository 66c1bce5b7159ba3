// What a division into blocks costs. blocks.h says what is weighed.
#include "linnet/ntk/blocks.h"

#include <algorithm>

namespace linnet::ntk {

std::vector<Index> panel_candidates(const TileLayout& l) {
  std::vector<Index> panels;
  const Index most = std::max(l.down(), l.across());
  for (Index parts = 1; parts <= most; parts = std::max(parts + 1, parts * 11 / 10)) {
    const Index panel = (most + parts - 1) / parts;
    if (panels.empty() || panels.back() != panel) panels.push_back(panel);
  }
  if (panels.empty() || panels.back() != 1) panels.push_back(1);
  return panels;
}

Division divide(const TileLayout& l, Index panel, int ranks, double pair, double sweep) {
  const auto count = [](Index n) { return static_cast<double>(n); };
  const double height = count(std::min(panel * l.tile, l.rows)), width = count(std::min(panel * l.tile, l.columns));
  const double down = count((l.down() + panel - 1) / panel), r = static_cast<double>(ranks);
  const double pairs = count(l.rows) * count(l.columns) / (l.symmetric ? 2 : 1), block = height * width * pair + (height + width) * sweep;
  Division d{panel, l.symmetric ? height * down * (down + 1) / 2 : count(l.rows) + down * count(l.columns), 0};
  d.duration = (pairs * pair + d.swept * sweep) / r + (1 - 1 / r) * block;
  return d;
}

}  // namespace linnet::ntk
