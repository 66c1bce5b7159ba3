// What every rank checks before the first tile, how large the blocks are, and where the tiles go. assembly.cpp shares them out.
#include "linnet/ntk/distributed.h"

#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/kernels/parallel.h"
#include "linnet/ntk/assembly.h"
#include "linnet/ntk/blocks.h"
#include "linnet/ntk/memory.h"
#include "linnet/ntk/together.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>

namespace linnet::ntk {

using namespace autodiff;

namespace {

// ---- equal arguments

std::string differences(const Fields& root, const Fields& here) {
  std::vector<std::string> all;
  for (std::size_t i = 0; i < std::max(root.size(), here.size()); ++i) {
    const auto [key, there] = i < root.size() ? root[i] : std::pair{here[i].first, std::string("none")};
    const auto mine = std::find_if(here.begin(), here.end(), [&, k = key](const auto& field) { return field.first == k; });
    const std::string value = mine == here.end() ? "none" : mine->second;
    if (value != there) all.push_back(fmt::format("{} ({}, there {})", key, value, there));
  }
  return fmt::format("{}", fmt::join(all, ", "));
}

// StructureError on all ranks where one has other fields than rank 0.
void check_equal(Ranks& ranks, const char* operation, const Fields& fields) {
  std::string text;
  for (const auto& [key, value] : fields) text += fmt::format("{} {}\n", key, value);
  const std::vector<std::uint64_t> lengths = ranks.gather(std::array<std::uint64_t, 1>{text.size()});
  std::string root = text;
  root.resize(lengths[0]);
  ranks.broadcast(root.data(), root.size(), 0);
  together(ranks, operation, [&] {
    if (root == text) return;
    Fields there;
    for (std::size_t at = 0; at < root.size();) {
      const std::size_t end = root.find('\n', at), middle = root.find(' ', at);
      there.emplace_back(root.substr(at, middle - at), root.substr(middle + 1, end - middle - 1));
      at = end + 1;
    }
    fail<StructureError>("{}: the arguments are not those of rank 0: {}; every rank makes the same call, with the same build of the library", operation, differences(there, fields));
  });
}

TileLayout layout_of(Index n2, Index n1, Index outputs, bool traced, bool symmetric, Index tile, Index width) {
  TileLayout l;
  l.rows = n2, l.columns = n1, l.outputs = outputs, l.tile = tile;
  l.traced = traced, l.symmetric = symmetric, l.width = width;
  return l;
}

// ---- how large blocks are

template <class T> class Planner {
 public:
  Planner(Ranks& ranks, const Question<T>& q, const GramPlan& plan, const TileLayout& layout, bool result_here)
      : ranks_(ranks), q_(q), plan_(plan), l_(layout), result_(result_here ? sizeof(T) * static_cast<std::size_t>(q.n2 * q.R()) * static_cast<std::size_t>(q.n1 * q.R()) : 0) {
    memory_ = q.options.max_memory ? q.memory : q.memory / static_cast<std::size_t>(ranks.here());
  }

  Sharing sharing(bool written) {
    Sharing s{l_, {}, 1, written, record_words(l_, 0, 0), 0};
    set_messages(s);
    const std::vector<Index> panels = panel_candidates(l_);
    std::vector<std::uint64_t> fits;
    together(ranks_, q_.operation, [&] {
      for (const Index panel : panels) fits.push_back(alone_if(panel).has_value());
      if (std::find(fits.begin(), fits.end(), 1u) == fits.end()) fail_too_large(panels);
    });
    const std::vector<std::uint64_t> of_all = ranks_.gather(fits);
    double best = std::numeric_limits<double>::infinity();
    for (std::size_t c = 0; c < panels.size(); ++c) {
      bool everywhere = true;
      for (std::size_t r = 0; r < static_cast<std::size_t>(ranks_.count()); ++r) everywhere &= of_all[r * panels.size() + c] != 0;
      if (const double d = divide(l_, panels[c], ranks_.count(), plan_.pair_flops, plan_.sweep_flops).duration; everywhere && d < best) best = d, s.in_flight.panel = panels[c];
    }
    together(ranks_, q_.operation, [&] {
      if (best == std::numeric_limits<double>::infinity()) fail<NumericalError>("{}: no division into blocks fits into the memory of every rank; allow more by Options::max_memory", q_.operation);
    });
    s.in_flight.alone = *alone_if(s.in_flight.panel);
    return s;
  }

 private:
  // Batches of tiles for all threads, within a sixteenth of what the rank with the least has.
  void set_messages(Sharing& s) {
    const std::size_t room = memory_ - std::min(memory_, result_), bytes = s.record * sizeof(std::uint64_t);
    const std::vector<std::uint64_t> rooms = ranks_.gather(std::array<std::uint64_t, 1>{room});
    const std::size_t most = std::min<std::size_t>(std::size_t{64} << 20, *std::min_element(rooms.begin(), rooms.end()) / 16);
    s.batch = std::clamp<Index>(static_cast<Index>(most / bytes), 1, 8 * thread_count());
    if (s.written) s.record = 0;
    const std::vector<std::uint64_t> batches = ranks_.gather(std::array<std::uint64_t, 1>{static_cast<std::uint64_t>(s.batch)});
    s.message = message_words(static_cast<Index>(*std::max_element(batches.begin(), batches.end())), s.record);
    together(ranks_, q_.operation, [&] {
      if (s.message > static_cast<std::size_t>(std::numeric_limits<int>::max())) fail<ShapeError>("{}: a tile of {} outputs is too large for a message; take ntk::full", q_.operation, q_.outputs);
    });
    messages_ = ranks_.count() == 1 ? 0 : s.message * sizeof(std::uint64_t) * static_cast<std::size_t>(ranks_.rank() == 0 ? std::min(most_arriving, ranks_.count() - 1) : 2);
  }
  std::size_t needed(Index panel, bool alone) const { return result_ + messages_ + gram_bytes<T>(plan_, q_.n1, q_.x2 ? q_.n2 : 0, {panel, alone}); }
  // Whether panels of so many tiles fit, with one chunk of examples at a time or without that.
  std::optional<bool> alone_if(Index panel) const {
    for (const bool alone : {false, true})
      if (needed(panel, alone) <= memory_) return alone;
    return {};
  }
  [[noreturn]] void fail_too_large(const std::vector<Index>& panels) const {
    std::size_t least = std::numeric_limits<std::size_t>::max();
    for (const Index panel : panels) least = std::min(least, needed(panel, true));
    fail<NumericalError>("{}: {} bytes are needed ({} of them the kernel, {} for messages), {} {}; use fewer examples, the traced kernel, or one on disk", q_.operation, least, result_, messages_, memory_,
                         q_.options.max_memory ? "are allowed by Options::max_memory" : "are left on this machine for each of its ranks");
  }

  Ranks& ranks_;
  const Question<T>& q_;
  const GramPlan& plan_;
  TileLayout l_;
  std::size_t result_, memory_ = 0, messages_ = 0;
};

// ---- all of it

// What is asked, checked by all ranks together.
template <class T> struct Shared {
  Ranks& ranks;
  Question<T>& q;
  const Distribution& distribution;
  GramPlan plan = {};
  Fields fields = {};
  TileLayout layout = {};

  void check_together() {
    together(ranks, q.operation, [&] {
      check(q);
      Method method;
      plan = plan_tiles(q, method);
      fields = fields_of(q, plan, method);
    });
    Fields all{{"call", q.operation}, {"everywhere", distribution.everywhere ? "yes" : "no"}, {"shared_folder", distribution.shared_folder ? "yes" : "no"}};
    all.insert(all.end(), fields.begin(), fields.end());
    check_equal(ranks, q.operation, all);
    layout = layout_of(q.n2, q.n1, q.outputs, q.traced, q.x2 == nullptr, tile_examples(plan, q.n1, q.x2 ? q.n2 : 0), sizeof(T));
  }

  void compute(const Sharing& sharing, const std::vector<char>& there, Take<T> take) {
    Assembly mine;
    together(ranks, q.operation, [&] { mine = ranks.rank() == 0 ? assemble<T>(ranks, q, plan, sharing, there, take) : work<T>(ranks, q, plan, sharing, take); });
    const double seconds = ranks.rank() == 0 ? mine.computing[0] : mine.seconds;
    const std::vector<std::uint64_t> all = ranks.gather(std::array<std::uint64_t, 2>{static_cast<std::uint64_t>(mine.swept), std::bit_cast<std::uint64_t>(seconds)});
    if (ranks.rank() != 0 || !distribution.assembly) return;
    mine.ranks = ranks.count();
    mine.panel = sharing.in_flight.panel;
    mine.swept = 0;
    mine.computing.clear();
    for (std::size_t r = 0; r < static_cast<std::size_t>(ranks.count()); ++r) {
      mine.swept += static_cast<Index>(all[2 * r]);
      mine.computing.push_back(std::bit_cast<double>(all[2 * r + 1]));
    }
    *distribution.assembly = mine;
  }
};

// A tile of the kernel to its place, and its mirror image.
template <class T> void place_tile(const TileLayout& l, Index i, Index j, const T* values, Index stride, T* out) {
  const Index side = l.tile * l.R(), ld = l.columns * l.R(), h = l.height(i), b = l.breadth(j);
  const bool half = l.symmetric && i == j;
  for (Index r = 0; r < h; ++r) std::copy_n(values + r * stride, half ? r + 1 : b, out + (i * side + r) * ld + j * side);
  if (!l.symmetric) return;
  constexpr Index block = 16;
  for (Index c0 = 0; c0 < b; c0 += block)
    for (Index r0 = 0; r0 < h; r0 += block)
      for (Index c = c0; c < std::min(b, c0 + block); ++c)
        for (Index r = std::max(r0, half ? c + 1 : 0); r < std::min(h, r0 + block); ++r) out[(j * side + c) * ld + i * side + r] = values[r * stride + c];
}

template <class T> std::optional<Array<T>> in_memory(Question<T>& q, const Distribution& distribution) {
  Ranks& ranks = Ranks::world(q.operation);
  Shared<T> s{ranks, q, distribution};
  s.check_together();
  const bool here = ranks.rank() == 0 || distribution.everywhere;
  Array<T> kernel({0, 0});
  if (s.layout.tiles() == 0) {
    if (distribution.assembly) *distribution.assembly = Assembly{ranks.count(), 0, 0, 0, 0, 0, 0, std::vector<double>(static_cast<std::size_t>(ranks.count()), 0)};
    if (here) kernel = Array<T>({q.n2 * q.R(), q.n1 * q.R()});
  } else {
    const Sharing sharing = Planner<T>(ranks, q, s.plan, s.layout, here).sharing(false);
    together(ranks, q.operation, [&] {
      if (here) kernel = Array<T>::uninitialized({q.n2 * q.R(), q.n1 * q.R()});
    });
    s.compute(sharing, std::vector<char>(static_cast<std::size_t>(s.layout.tiles()), 0), [&](Index i, Index j, const T* values, Index stride) {
      place_tile(s.layout, i, j, values, stride, kernel.data());
      return std::size_t{0};
    });
    if (distribution.everywhere) ranks.broadcast(kernel.data(), static_cast<std::size_t>(kernel.size()) * sizeof(T), 0);
  }
  if (!here) return {};
  return kernel;
}

// Which tiles a file has already, whole.
template <class T> std::vector<char> tiles_there(const TileFile& file) {
  const TileLayout& l = file.layout();
  std::vector<char> there(static_cast<std::size_t>(l.tiles()), 0);
  parallel_for(l.tiles(), [&](Index k) {
    thread_local Record record;
    const auto [i, j] = l.at(k);
    values_of<T>(record, l, i, j);
    there[static_cast<std::size_t>(k)] = file.read(i, j, record.data());
  });
  return there;
}

template <class T> std::optional<StoredKernel<T>> on_disk(const std::filesystem::path& path, Question<T> q, const Distribution& distribution) {
  Ranks& ranks = Ranks::world(q.operation);
  Shared<T> s{ranks, q, distribution};
  s.check_together();
  const bool root = ranks.rank() == 0;
  const Sharing sharing = s.layout.tiles() == 0 ? Sharing{} : Planner<T>(ranks, q, s.plan, s.layout, false).sharing(distribution.shared_folder);
  const std::filesystem::path partial = path.string() + ".partial";
  std::optional<TileFile> file;
  std::vector<char> there;
  std::array<std::uint64_t, 1> wanted{0};  // tiles
  together(ranks, q.operation, [&] {
    while (root && !file) {
      if (std::error_code unknown; std::filesystem::exists(path, unknown)) {
        const TileFile whole = TileFile::open(q.operation, path);
        if (whole.fields() != s.fields) fail<StructureError>("{}: '{}' {}", q.operation, path.string(), made_from_something_else(whole.fields(), s.fields));
        return;
      }
      file.emplace(TileFile::take_up(q.operation, partial, s.fields));
      if (!file->current()) {  // another process finished it meanwhile
        file.reset();
        continue;
      }
      there = tiles_there<T>(*file);
      wanted[0] = static_cast<std::uint64_t>(std::count(there.begin(), there.end(), 0));
    }
  });
  if (ranks.gather(wanted)[0] > 0) {
    together(ranks, q.operation, [&] {
      if (distribution.shared_folder && !root) file.emplace(TileFile::join(q.operation, partial, s.fields));
    });
    s.compute(sharing, there, [&](Index i, Index j, const T* values, Index stride) {
      thread_local Record record;
      fill_record(record, file->layout(), i, j, values, stride);
      return file->write(i, j, record.data());
    });
    together(ranks, q.operation, [&] {
      if (file && !root) file->flush();
    });
  }
  std::optional<StoredKernel<T>> kernel;
  together(ranks, q.operation, [&] {
    if (!root) return;
    if (file) file->finish(path);
    kernel.emplace(path);
  });
  return kernel;
}

template <class T> std::optional<FullKernel<T>> full_kernel(Question<T> q, const Distribution& distribution) {
  auto k = in_memory(q, distribution);
  if (!k) return {};
  return FullKernel<T>(std::move(*k), q.n2, q.n1, q.outputs);
}
template <class T> std::optional<TracedKernel<T>> traced_kernel(Question<T> q, const Distribution& distribution) {
  auto k = in_memory(q, distribution);
  if (!k) return {};
  return TracedKernel<T>(std::move(*k), q.outputs);
}

}  // namespace

Place place() {
  const Ranks& ranks = Ranks::world("ntk::place");
  return {ranks.rank(), ranks.count()};
}

template <Scalar T> std::optional<FullKernel<T>> full_distributed(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options, const Distribution& distribution) {
  return full_kernel(Question<T>{"ntk::full_distributed", f, params, x, nullptr, options, false}, distribution);
}
template <Scalar T>
std::optional<FullKernel<T>> full_distributed(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x2, const Array<T>& x1, const Options& options, const Distribution& distribution) {
  return full_kernel(Question<T>{"ntk::full_distributed", f, params, x1, &x2, options, false}, distribution);
}
template <Scalar T> std::optional<TracedKernel<T>> traced_distributed(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options, const Distribution& distribution) {
  return traced_kernel(Question<T>{"ntk::traced_distributed", f, params, x, nullptr, options, true}, distribution);
}
template <Scalar T>
std::optional<TracedKernel<T>> traced_distributed(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x2, const Array<T>& x1, const Options& options, const Distribution& distribution) {
  return traced_kernel(Question<T>{"ntk::traced_distributed", f, params, x1, &x2, options, true}, distribution);
}

template <Scalar T>
std::optional<StoredKernel<T>> full_on_disk_distributed(const std::filesystem::path& file, const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options, const Distribution& distribution) {
  return on_disk(file, Question<T>{"ntk::full_on_disk_distributed", f, params, x, nullptr, options, false}, distribution);
}
template <Scalar T>
std::optional<StoredKernel<T>> full_on_disk_distributed(const std::filesystem::path& file, const Apply& f, const Tree<Array<T>>& params, const Array<T>& x2, const Array<T>& x1, const Options& options,
                                                        const Distribution& distribution) {
  return on_disk(file, Question<T>{"ntk::full_on_disk_distributed", f, params, x1, &x2, options, false}, distribution);
}
template <Scalar T>
std::optional<StoredKernel<T>> traced_on_disk_distributed(const std::filesystem::path& file, const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options, const Distribution& distribution) {
  return on_disk(file, Question<T>{"ntk::traced_on_disk_distributed", f, params, x, nullptr, options, true}, distribution);
}
template <Scalar T>
std::optional<StoredKernel<T>> traced_on_disk_distributed(const std::filesystem::path& file, const Apply& f, const Tree<Array<T>>& params, const Array<T>& x2, const Array<T>& x1, const Options& options,
                                                          const Distribution& distribution) {
  return on_disk(file, Question<T>{"ntk::traced_on_disk_distributed", f, params, x1, &x2, options, true}, distribution);
}

#define LINNET_ONE_SET(T) const Apply &, const Tree<Array<T>>&, const Array<T>&, const Options&, const Distribution&
#define LINNET_TWO_SETS(T) const Apply &, const Tree<Array<T>>&, const Array<T>&, const Array<T>&, const Options&, const Distribution&
#define LINNET_INSTANTIATE(T)                                                                                             \
  template std::optional<FullKernel<T>> full_distributed(LINNET_ONE_SET(T));                                              \
  template std::optional<FullKernel<T>> full_distributed(LINNET_TWO_SETS(T));                                             \
  template std::optional<TracedKernel<T>> traced_distributed(LINNET_ONE_SET(T));                                          \
  template std::optional<TracedKernel<T>> traced_distributed(LINNET_TWO_SETS(T));                                         \
  template std::optional<StoredKernel<T>> full_on_disk_distributed(const std::filesystem::path&, LINNET_ONE_SET(T));      \
  template std::optional<StoredKernel<T>> full_on_disk_distributed(const std::filesystem::path&, LINNET_TWO_SETS(T));     \
  template std::optional<StoredKernel<T>> traced_on_disk_distributed(const std::filesystem::path&, LINNET_ONE_SET(T));    \
  template std::optional<StoredKernel<T>> traced_on_disk_distributed(const std::filesystem::path&, LINNET_TWO_SETS(T));
LINNET_INSTANTIATE(float)
LINNET_INSTANTIATE(double)

}  // namespace linnet::ntk
