// Dealing, working and collecting. assembly.h says how they go together.
#include "linnet/ntk/assembly.h"

#include "linnet/ntk/progress.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <ctime>
#include <exception>
#include <list>

namespace linnet::ntk {

using namespace autodiff;

namespace {

// Words of control messages to rank 0: what, and how many batches were sent.
enum Said : std::uint64_t { wants_block, has_ended, has_failed };
// Of replies: whether there is a block, which, whether a mask of its tiles that are wanted follows.
constexpr std::size_t reply_head = 4;

std::size_t mask_words(Index panel) { return static_cast<std::size_t>((panel * panel + 63) / 64); }

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Adds the time of its life.
class Clock {
 public:
  explicit Clock(double& sum) : sum_(sum) {}
  ~Clock() { sum_ += now() - start_; }

 private:
  double& sum_;
  double start_ = now();
};

template <class T> GramBlocks<T> blocks_of(const Question<T>& q, const GramPlan& plan, const Views<T>& params, InFlight in_flight) {
  return {plan, params, q.x1.data(), q.n1, q.x2 ? q.x2->data() : nullptr, q.x2 ? q.n2 : 0, in_flight};
}

}  // namespace

std::size_t message_words(Index batch, std::size_t record) { return (1 + 2 * static_cast<std::size_t>(batch) + 7) / 8 * 8 + static_cast<std::size_t>(batch) * record; }

// ---- dealing

Dealer::Dealer(const TileLayout& layout, Index panel, std::vector<char> there, int ranks)
    : layout_(layout), panel_(panel), there_(std::move(there)), row_of_(static_cast<std::size_t>(ranks), -1) {
  const Index down = (layout.down() + panel - 1) / panel, across = (layout.across() + panel - 1) / panel;
  for (Index i = 0; i < down; ++i) rows_.push_back({layout.symmetric ? i + 1 : across, 0});
}

bool Dealer::any_wanted(Index bi, Index bj) const {
  const Index rows = std::min(layout_.down(), (bi + 1) * panel_), columns = std::min(layout_.across(), (bj + 1) * panel_);
  for (Index i = bi * panel_; i < rows; ++i)
    for (Index j = bj * panel_; j < (layout_.symmetric ? std::min(columns, i + 1) : columns); ++j)
      if (wanted(i, j)) return true;
  return false;
}

// The row with most left for each of those who take from it; the last of several, where rows are longest.
bool Dealer::take_row(int rank) {
  Index& mine = row_of_[static_cast<std::size_t>(rank)];
  if (mine >= 0) --rows_[static_cast<std::size_t>(mine)].takers;
  mine = -1;
  double most = 0;
  for (std::size_t i = rows_.size(); i-- > 0;)
    if (const double share = static_cast<double>(rows_[i].left) / (1 + rows_[i].takers); share > most) most = share, mine = static_cast<Index>(i);
  if (mine >= 0) ++rows_[static_cast<std::size_t>(mine)].takers;
  return mine >= 0;
}

std::optional<std::pair<Index, Index>> Dealer::next(int rank) {
  const Index& mine = row_of_[static_cast<std::size_t>(rank)];
  while (true) {
    while (mine >= 0 && rows_[static_cast<std::size_t>(mine)].left > 0) {
      const Index j = --rows_[static_cast<std::size_t>(mine)].left;
      if (!any_wanted(mine, j)) continue;
      ++dealt_;
      return std::pair{mine, j};
    }
    if (!take_row(rank)) return {};
  }
}

// ---- working

namespace {

template <class T> class Worker {
 public:
  Worker(Ranks& ranks, const Question<T>& q, const GramPlan& plan, const Sharing& sharing, Take<T> take)
      : ranks_(ranks), q_(q), s_(sharing), take_(take), params_(autodiff::detail::views<T>(q.params)), blocks_(blocks_of(q, plan, params_, sharing.in_flight)) {
    reply_.resize(reply_head + mask_words(sharing.in_flight.panel));
    for (Record& r : message_) r.resize(sharing.message);
  }

  // Whatever happens rank 0 hears of the end, and every message of ours has arrived.
  Assembly run() {
    std::exception_ptr error;
    try {
      ask();
      answer_.wait();
      while (reply_[0]) {
        block();
        answer_.wait();
      }
    } catch (...) {
      error = std::current_exception();
    }
    answer_.wait();
    for (Transfer& t : sending_) t.wait();
    tell(error ? has_failed : has_ended);
    if (error) std::rethrow_exception(error);
    done_.swept = blocks_.swept();
    return done_;
  }

 private:
  void tell(Said what) { ranks_.send(0, Ranks::Tag::control, std::array<std::uint64_t, 2>{what, batches_}).wait(); }
  void ask() {
    answer_ = ranks_.receive(0, Ranks::Tag::reply, reply_);
    tell(wants_block);
  }

  // The next block is asked for when most of this one is done: soon enough that nobody waits, and so late that it is not kept from one who is free before.
  void block() {
    Clock clock(done_.seconds);
    const Record reply = reply_;
    const Index panel = s_.in_flight.panel, i0 = static_cast<Index>(reply[1]), j0 = static_cast<Index>(reply[2]);
    const bool masked = reply[3] != 0;
    const Index n = blocks_.open(i0, j0, [&](Index i, Index j) {
      const auto bit = static_cast<std::size_t>((i - i0 * panel) * panel + j - j0 * panel);
      return !masked || (reply[reply_head + bit / 64] >> bit % 64 & 1) != 0;
    });
    bool asked = false;
    for (Index first = 0; first < n; first += s_.batch) {
      if (!asked && 4 * (first + s_.batch) >= 3 * n) ask(), asked = true;
      batch(first, std::min(n, first + s_.batch));
    }
    if (!asked) ask();
  }

  void batch(Index first, Index last) {
    Record& to = message_[batches_ % 2];
    Transfer& sending = sending_[batches_ % 2];
    sending.wait();
    const auto count = static_cast<std::size_t>(last - first), head = message_words(last - first, 0);
    to[0] = count;
    if (!blocks_.run(first, last, [&](Index k, Index i, Index j, const T* values, Index stride) {
          const auto at = static_cast<std::size_t>(k);
          to[1 + 2 * at] = static_cast<std::uint64_t>(i);
          to[2 + 2 * at] = static_cast<std::uint64_t>(j);
          if (s_.written) take_(i, j, values, stride);
          else fill_record(to.data() + head + at * s_.record, s_.layout, i, j, values, stride);
          if (thread_index() == 0) for (Transfer& t : sending_) t.done();  // messages of many parts go on only in calls of MPI
        }))
      fail_not_finite(q_);
    sending = ranks_.send(0, Ranks::Tag::tiles, std::span<const std::uint64_t>(to.data(), message_words(last - first, s_.record)));
    ++batches_;
    done_.tiles += last - first;
  }

  Ranks& ranks_;
  const Question<T>& q_;
  const Sharing& s_;
  Take<T> take_;
  Views<T> params_;
  GramBlocks<T> blocks_;
  Record reply_;  // words before their transfers, which end first
  std::array<Record, 2> message_;
  std::array<Transfer, 2> sending_;
  Transfer answer_;
  std::size_t batches_ = 0;
  Assembly done_;
};

// ---- collecting

template <class T> class Collector {
 public:
  Collector(Ranks& ranks, const Question<T>& q, const GramPlan& plan, const Sharing& sharing, std::vector<char> there, Take<T> take)
      : ranks_(ranks),
        q_(q),
        s_(sharing),
        take_(take),
        params_(autodiff::detail::views<T>(q.params)),
        blocks_(blocks_of(q, plan, params_, sharing.in_flight)),
        working_(ranks.count() - 1),
        reporter_("ntk", q.options.progress, "kernel tiles", there.size()),
        arriving_(static_cast<std::size_t>(std::min(most_arriving, working_))),
        dealer_(sharing.layout, sharing.in_flight.panel, there, ranks.count()) {
    for (Arriving& a : arriving_) a.words.resize(sharing.message);
    for (const char c : there)
      if (c) reporter_.done();
  }

  // To the end of all ranks, even if this one fails.
  Assembly run() {
    const double start = now();
    while (working_ > 0 || received_ < sent_ || busy() || (!stopped() && (open_ || !dealt_out_))) {
      bool moved = false;
      try {
        moved = control();
        moved |= tiles();
        if (!moved && !stopped()) moved = compute();  // with many ranks this one merely receives
      } catch (...) {
        if (!error_) error_ = std::current_exception();
      }
      if (moved) continue;
      const timespec moment{0, 50000};
      ::nanosleep(&moment, nullptr);
    }
    if (error_) std::rethrow_exception(error_);
    if (!failed_) reporter_.finish();
    done_.seconds = now() - start;
    done_.computing = {computing_};
    done_.swept = blocks_.swept();
    done_.blocks = dealer_.dealt();
    return done_;
  }

 private:
  struct Arriving {
    Record words;
    Transfer transfer;
    bool busy = false;
  };
  bool stopped() const { return error_ || failed_ || reporter_.cancelled(); }
  bool busy() const {
    return std::any_of(arriving_.begin(), arriving_.end(), [](const Arriving& a) { return a.busy; });
  }

  bool control() {
    bool moved = false;
    std::erase_if(replies_, [](auto& r) { return r.second.done(); });
    while (const auto a = ranks_.arrived(Ranks::Tag::control)) {
      moved = true;
      std::array<std::uint64_t, 2> said{};
      ranks_.receive(*a, said).wait();
      if (said[0] == wants_block) {
        reply(a->from);
        continue;
      }
      --working_;
      sent_ += said[1];
      if (said[0] == has_failed) failed_ = true;
    }
    return moved;
  }

  void reply(int to) {
    const auto block = stopped() ? std::nullopt : dealer_.next(to);
    Record words(reply_head, 0);
    if (block) {
      const auto [bi, bj] = *block;
      words = {1, static_cast<std::uint64_t>(bi), static_cast<std::uint64_t>(bj), 0};
      add_mask(words, bi, bj);
    }
    replies_.emplace_back(std::move(words), Transfer());
    replies_.back().second = ranks_.send(to, Ranks::Tag::reply, replies_.back().first);
  }

  // Only where some tile of the block is not wanted.
  void add_mask(Record& words, Index bi, Index bj) const {
    const Index panel = s_.in_flight.panel;
    const TileLayout& l = s_.layout;
    Record mask(mask_words(panel), 0);
    bool all = true;
    for (Index i = bi * panel; i < std::min(l.down(), (bi + 1) * panel); ++i)
      for (Index j = bj * panel; j < std::min(l.symmetric ? i + 1 : l.across(), (bj + 1) * panel); ++j) {
        const auto bit = static_cast<std::size_t>((i - bi * panel) * panel + j - bj * panel);
        if (dealer_.wanted(i, j)) mask[bit / 64] |= std::uint64_t{1} << bit % 64;
        else all = false;
      }
    if (all) return;
    words[3] = 1;
    words.insert(words.end(), mask.begin(), mask.end());
  }

  bool tiles() {
    bool moved = false;
    for (Arriving& a : arriving_) {
      if (a.busy && !a.transfer.done()) continue;
      if (a.busy) {
        a.busy = false;
        ++received_;
        moved = true;
        if (!stopped()) store(a.words);
      }
      if (const auto next = ranks_.arrived(Ranks::Tag::tiles)) {
        a.busy = moved = true;
        done_.sent += next->words * sizeof(std::uint64_t);
        a.transfer = ranks_.receive(*next, std::span<std::uint64_t>(a.words.data(), next->words));
      }
    }
    return moved;
  }

  void store(const Record& words) {
    const auto count = static_cast<Index>(words[0]);
    const std::size_t head = message_words(count, 0);
    parallel_for(count, [&](Index k) {
      const auto at = static_cast<std::size_t>(k);
      const Index i = static_cast<Index>(words[1 + 2 * at]), j = static_cast<Index>(words[2 + 2 * at]);
      if (s_.written) reporter_.done(sizeof(std::uint64_t) * record_words(s_.layout, i, j));
      else reporter_.done(take_(i, j, values_of<T>(const_cast<std::uint64_t*>(words.data()) + head + at * s_.record), s_.layout.breadth(j)));
    });
    done_.tiles += count;
  }

  // A batch of an own block.
  bool compute() {
    if (!open_ && dealt_out_) return false;
    Clock clock(computing_);
    if (!open_) {
      const auto block = dealer_.next(0);
      dealt_out_ = !block;
      if (!block) return false;
      next_ = 0;
      n_ = blocks_.open(block->first, block->second, [&](Index i, Index j) { return dealer_.wanted(i, j); });
      open_ = true;
      return true;
    }
    const Index last = std::min(n_, next_ + std::min<Index>(s_.batch, 2 * thread_count()));  // others wait for an answer meanwhile
    if (!blocks_.run(next_, last, [&](Index, Index i, Index j, const T* values, Index stride) {
          reporter_.done(take_(i, j, values, stride));
          if (thread_index() == 0) for (Arriving& a : arriving_) a.transfer.done();  // see above
        }))
      fail_not_finite(q_);
    done_.tiles += last - next_;
    next_ = last;
    open_ = next_ < n_;
    return true;
  }

  Ranks& ranks_;
  const Question<T>& q_;
  const Sharing& s_;
  Take<T> take_;
  Views<T> params_;
  GramBlocks<T> blocks_;
  int working_;
  Reporter reporter_;
  std::vector<Arriving> arriving_;
  std::list<std::pair<Record, Transfer>> replies_;
  Dealer dealer_;
  std::exception_ptr error_;
  bool failed_ = false, open_ = false, dealt_out_ = false;
  Index next_ = 0, n_ = 0;
  std::uint64_t sent_ = 0, received_ = 0;
  double computing_ = 0;
  Assembly done_;
};

}  // namespace

template <Scalar T> Assembly assemble(Ranks& ranks, const Question<T>& q, const GramPlan& plan, const Sharing& sharing, std::vector<char> there, Take<T> take) {
  return Collector<T>(ranks, q, plan, sharing, std::move(there), take).run();
}
template <Scalar T> Assembly work(Ranks& ranks, const Question<T>& q, const GramPlan& plan, const Sharing& sharing, Take<T> take) {
  return Worker<T>(ranks, q, plan, sharing, take).run();
}

#define LINNET_INSTANTIATE(T)                                                                                                            \
  template Assembly assemble(Ranks&, const Question<T>&, const GramPlan&, const Sharing&, std::vector<char>, Take<T>);                   \
  template Assembly work(Ranks&, const Question<T>&, const GramPlan&, const Sharing&, Take<T>);
LINNET_INSTANTIATE(float)
LINNET_INSTANTIATE(double)

}  // namespace linnet::ntk
