// The tiles of a kernel, shared out to ranks and brought to rank 0. A block, the tiles of two panels, is what a rank takes at a time, since all of it needs the sweeps of these panels
// alone; a batch of its tiles is what it sends at a time. Rank 0 deals blocks to whoever asks, so that a machine that is slower takes fewer, takes what comes, and computes between.
// Which rank computes a tile changes no bit of it. distributed.cpp asks for it. Not installed.
#pragma once

#include "linnet/ntk/distributed.h"
#include "linnet/ntk/ranks.h"
#include "linnet/ntk/record.h"

#include <optional>
#include <utility>
#include <vector>

namespace linnet::ntk {

// Which blocks are left, and who takes which. A rank goes along a row of blocks, whose panel of rows it has then.
class Dealer {
 public:
  Dealer(const TileLayout& layout, Index panel, std::vector<char> there, int ranks);  // there: by TileLayout::number, tiles that need not be computed
  std::optional<std::pair<Index, Index>> next(int rank);
  bool wanted(Index i, Index j) const { return !there_[static_cast<std::size_t>(layout_.number(i, j))]; }
  Index dealt() const { return dealt_; }

 private:
  struct Row {
    Index left = 0;   // blocks, those before in it
    int takers = 0;
  };
  bool any_wanted(Index bi, Index bj) const;
  bool take_row(int rank);
  TileLayout layout_;
  Index panel_, dealt_ = 0;
  std::vector<char> there_;
  std::vector<Row> rows_;
  std::vector<Index> row_of_;  // each rank's, or -1
};

// How ranks go about it, the same on all of them but for batch and alone.
struct Sharing {
  TileLayout layout;
  InFlight in_flight;
  Index batch = 1;             // tiles that this rank computes and sends at a time
  bool written = false;        // who computes a tile puts it in its place; rank 0 hears of it alone
  std::size_t record = 0;      // words of a tile in a message, at most
  std::size_t message = 0;     // words of a batch of any rank, at most
};
std::size_t message_words(Index batch, std::size_t record);
constexpr int most_arriving = 4;  // batches that rank 0 receives at once

// Puts tiles in their place, on any thread; answers bytes written to disk.
template <class T> using Take = autodiff::FunctionRef<std::size_t(Index i, Index j, const T* values, Index stride)>;

// On rank 0: all tiles that are not there. NumericalError if progress cancels; whatever `take` throws.
template <Scalar T> Assembly assemble(Ranks& ranks, const Question<T>& q, const GramPlan& plan, const Sharing& sharing, std::vector<char> there, Take<T> take);
// On the others: blocks, until there are none. `take` is for tiles that are written here.
template <Scalar T> Assembly work(Ranks& ranks, const Question<T>& q, const GramPlan& plan, const Sharing& sharing, Take<T> take);

}  // namespace linnet::ntk
