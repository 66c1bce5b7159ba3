// Assembly: tiles of pairs are items for the threads. The gaps of the input come from products of the examples; then one run of the program of pairs takes a tile through all
// layers, its rows being lanes; what it answers is written, and mirrored where there is one set of examples.
#include "linnet/infinite/kernel.h"

#include "linnet/autodiff/executor.h"
#include "linnet/autodiff/finite.h"
#include "linnet/autodiff/table.h"
#include "linnet/infinite/cube.h"
#include "linnet/infinite/examples.h"
#include "linnet/infinite/network.h"
#include "linnet/ntk/memory.h"
#include "linnet/ntk/progress.h"

#include <atomic>
#include <cmath>
#include <optional>
#include <tuple>

namespace linnet::infinite {

using namespace autodiff;

struct Kernel::State {
  Network network;
};

Kernel::Kernel(const nn::Layer& network) : state_(std::make_shared<const State>(State{read(network)})) {}

namespace {

constexpr Index whole_tile = 128;       // examples down and across
constexpr Index tile_values = 1 << 14;  // of a tile, about: its intermediate values stay near the processor

Index tile_of(Index places) {
  Index tile = whole_tile;
  while (tile > 1 && tile * tile * places > tile_values) tile /= 2;
  return tile;
}

template <class T> struct Question {
  const char* operation;
  const Network& network;
  const Array<T>& rows;
  const Array<T>* columns;  // null: one set
  bool symmetric() const { return columns == nullptr; }
  Wanted wanted;
  const Options& options;
};

template <Scalar T> void check_examples(const char* operation, const char* what, const Array<T>& x) {
  if (x.shape().rank() < 2) fail<ShapeError>("{}: {} {} must be [examples, channels], or have places between them", operation, what, x.shape());
  if (x.shape().size(1, x.shape().rank()) == 0) fail<ShapeError>("{}: {} {} has no values in an example, one at least is needed", operation, what, x.shape());
  check_finite(operation, what, x);
}

// What comes to a network of which the first layers were done another way: [rows, columns] of either.
template <class T> struct Come {
  Array<T> gap, ntk;
};

// What one thread computes in.
template <class T> struct Workspace {
  Executor<T> executor;
  Buffer<T> products, gaps, ntk;
  std::vector<Buffer<T>> out;
};

template <Scalar T> class Assembly {
 public:
  Assembly(const Question<T>& q, const Network& network, const ExampleProgram& program, const Examples<T>& rows, const Examples<T>& columns, const Come<T>* come = nullptr)
      : q_(q), network_(network), program_(program), rows_(rows), columns_(columns), come_(come), tile_(rows.tile), pairs_(trace_pairs(network, program, tile_, std::is_same_v<T, float>, q.wanted)) {
    varies_ = {Varies::examples};
    if (come) varies_.push_back(Varies::examples);
    for (const auto& s : program.statistics) {
      if (s.error) continue;
      varies_.insert(varies_.end(), {Varies::examples, Varies::nothing});
      if (s.split && std::is_same_v<T, float>) varies_.insert(varies_.end(), {Varies::examples, Varies::nothing});
    }
  }

  std::vector<Array<T>> run() {
    const Index down = (rows_.n + tile_ - 1) / tile_, across = (columns_.n + tile_ - 1) / tile_, tiles = q_.columns ? down * across : down * (down + 1) / 2;
    std::vector<Array<T>> results;
    for (std::size_t k = 0; k < pairs_->outputs.size(); ++k) results.push_back(Array<T>::uninitialized({rows_.n, columns_.n}));
    workspaces_.resize(static_cast<std::size_t>(thread_count()));
    std::atomic<bool> finite = true;
    ntk::Reporter reporter(q_.operation, q_.options.progress, "kernel tiles", static_cast<std::size_t>(tiles));
    parallel_for(tiles, [&](Index t) {
      if (reporter.cancelled() || !finite) return;
      Index i = t / std::max<Index>(across, 1), j = t % std::max<Index>(across, 1);
      if (!q_.columns) {
        i = 0;
        while ((i + 1) * (i + 2) / 2 <= t) ++i;
        j = t - i * (i + 1) / 2;
      }
      if (!tile(i, j, results)) finite = false;
      reporter.done();
    });
    reporter.finish();
    if (!finite)
      fail<NumericalError>("{}: the result is not finite: a variance or a covariance behind the network is too large for {}; scale the inputs or the layers", q_.operation,
                           std::is_same_v<T, float> ? "float, compute in double" : "double");
    return results;
  }

 private:
  // Whether it is finite.
  bool tile(Index i, Index j, std::vector<Array<T>>& results) {
    Workspace<T>& w = workspace();
    const auto deviation = static_cast<std::size_t>(program_.deviation[static_cast<std::size_t>(network_.input)]);
    std::vector<const T*> in{w.gaps.data()};
    if (come_) {
      take(come_->gap, i, j, w.gaps.data());
      take(come_->ntk, i, j, w.ntk.data());
      in.push_back(w.ntk.data());
    } else {
      input_gaps(rows_, i, columns_, j, q_.symmetric(), rows_.statistics[deviation], columns_.statistics[deviation], w.products, w.gaps.data());
    }
    for (std::size_t k = 0; k < program_.statistics.size(); ++k) {
      if (program_.statistics[k].error) continue;
      const Column<T>&r = rows_.statistics[k], &c = columns_.statistics[k];
      in.insert(in.end(), {r.at(i * tile_), c.at(j * tile_)});
      if (!r.low.empty()) in.insert(in.end(), {r.low.data() + i * tile_ * r.size, c.low.data() + j * tile_ * c.size});
    }
    std::vector<T*> out;
    for (Buffer<T>& buffer : w.out) out.push_back(buffer.data());
    w.executor.run(in, out);
    const Index rows = std::min(tile_, rows_.n - i * tile_), columns = std::min(tile_, columns_.n - j * tile_);
    bool finite = true;
    for (std::size_t k = 0; k < out.size(); ++k) {
      if (!over(w.executor.varies(pairs_->outputs[k]), Varies::examples))
        for (Index r = 1; r < tile_; ++r) std::copy_n(out[k], tile_, out[k] + r * tile_);
      if (!q_.columns && i == j && !rows_.ntk.empty()) {  // what an example has by itself is known in double
        const std::vector<double>& own = k == 0 && q_.wanted != Wanted::ntk ? rows_.variance : rows_.ntk;
        for (Index r = 0; r < rows; ++r) out[k][r * tile_ + r] = static_cast<T>(own[static_cast<std::size_t>(i * tile_ + r)]);
      }
      for (Index r = 0; r < rows && finite; ++r) finite = first_not_finite<T>(std::span<const T>(out[k] + r * tile_, static_cast<std::size_t>(columns))) < 0;
      write(i, j, rows, columns, out[k], results[k].data());
    }
    return finite;
  }

  // A tile of a matrix; beyond it 0.
  void take(const Array<T>& from, Index i, Index j, T* to) const {
    const Index rows = std::min(tile_, rows_.n - i * tile_), columns = std::min(tile_, columns_.n - j * tile_);
    std::fill_n(to, tile_ * tile_, T(0));
    for (Index r = 0; r < rows; ++r) std::copy_n(from.data() + (i * tile_ + r) * columns_.n + j * tile_, columns, to + r * tile_);
  }

  void write(Index i, Index j, Index rows, Index columns, const T* from, T* to) const {
    const Index ld = columns_.n;
    T* const here = to + i * tile_ * ld + j * tile_;
    const bool diagonal = !q_.columns && i == j;
    for (Index r = 0; r < rows; ++r) std::copy_n(from + r * tile_, diagonal ? r + 1 : columns, here + r * ld);
    if (q_.columns) return;
    T* const mirror = to + j * tile_ * ld + i * tile_;
    constexpr Index block = 16;
    for (Index c0 = 0; c0 < columns; c0 += block)
      for (Index r0 = diagonal ? c0 : 0; r0 < rows; r0 += block)
        for (Index c = c0; c < std::min(columns, c0 + block); ++c)
          for (Index r = diagonal ? std::max(r0, c + 1) : r0; r < std::min(rows, r0 + block); ++r) mirror[c * ld + r] = from[r * tile_ + c];
  }

  Workspace<T>& workspace() {
    auto& mine = workspaces_[static_cast<std::size_t>(thread_index())];
    if (!mine) {
      const Index places = rows_.places * (rows_.all_places ? rows_.places : 1);
      mine.emplace(Workspace<T>{Executor<T>(pairs_, varies_, {.examples = tile_}), {}, Buffer<T>(static_cast<std::size_t>(tile_ * tile_ * places)), {}, {}});
      if (come_) mine->ntk.resize(mine->gaps.size());
      mine->out.resize(pairs_->outputs.size(), Buffer<T>(static_cast<std::size_t>(tile_ * tile_)));
    }
    return *mine;
  }

  const Question<T>& q_;
  const Network& network_;
  const ExampleProgram& program_;
  const Examples<T>&rows_, &columns_;
  const Come<T>* come_;
  Index tile_;
  std::shared_ptr<const Program> pairs_;
  std::vector<Varies> varies_;
  std::vector<std::optional<Workspace<T>>> workspaces_;
};

// The examples as the network's first layer wants them: where that flattens, without places.
template <Scalar T> Array<T> arranged(const Network& network, const Array<T>& x) {
  const bool flat = !network.steps.empty() && network.flattens_first && x.shape().rank() > 2;
  return flat ? x.reshaped({x.shape()[0], x.shape().size(1, x.shape().rank())}) : x;
}

ExampleProgram program_of(const char* operation, const Network& network, const Shape& input, const Shape& x) {
  ExampleProgram program = trace_examples(network, input);
  if (const Shape& out = program.shapes[static_cast<std::size_t>(network.output)]; out.rank() != 2)
    fail<StructureError>("{}: the network takes {} to {}, values at several places; end it with flatten() or GlobalAvgPool()", operation, x, out.with(0, x[0]));
  return program;
}

template <Scalar T> Kernels<T> collected(const Question<T>& q, double lacking, std::vector<Array<T>> kernels) {
  Kernels<T> answer;
  answer.lacking = lacking;
  if (q.wanted != Wanted::ntk) answer.nngp = std::move(kernels.front());
  if (q.wanted != Wanted::nngp) answer.ntk = std::move(kernels.back());
  return answer;
}

// A set of images behind the layers that a cube does: each with itself, in double.
template <class T> struct CubeSet {
  std::vector<CubeImage<T>> images;
  std::vector<double> variance, ntk;
};
template <Scalar T> CubeSet<T> cube_set(const CubePlan& plan, const Array<T>& x) {
  const Index n = x.shape()[0], size = x.shape().size(1, 4);
  CubeSet<T> set{std::vector<CubeImage<T>>(static_cast<std::size_t>(n)), std::vector<double>(static_cast<std::size_t>(n)), std::vector<double>(static_cast<std::size_t>(n))};
  std::vector<std::optional<Cube<double>>> cubes(static_cast<std::size_t>(thread_count()));
  const Cube<T> of(plan, x.shape()[1], x.shape()[2], x.shape()[3]);
  parallel_for(n, [&](Index i) {
    auto& cube = cubes[static_cast<std::size_t>(thread_index())];
    if (!cube) cube.emplace(plan, x.shape()[1], x.shape()[2], x.shape()[3]);
    const std::vector<double> in_double(x.data() + i * size, x.data() + (i + 1) * size);
    const auto at = static_cast<std::size_t>(i);
    set.images[at] = of.image(x.data() + i * size);
    const CubeImage<double> image = cube->image(in_double.data());
    std::tie(set.variance[at], set.ntk[at]) = cube->pair(image, image);
  });
  return set;
}

// K and the ntk of all pairs behind those layers; then the rest of the network.
template <Scalar T> Kernels<T> assemble_by_cube(const Question<T>& q, const CubePlan& plan) {
  const Shape shape = q.rows.shape();
  const CubeSet<T> rows = cube_set(plan, q.rows), others = q.symmetric() ? CubeSet<T>{} : cube_set(plan, *q.columns);
  const CubeSet<T>& columns = q.symmetric() ? rows : others;
  const auto n = static_cast<Index>(rows.images.size()), m = static_cast<Index>(columns.images.size()), pairs = q.symmetric() ? n * (n + 1) / 2 : n * m;
  Come<T> come{Array<T>({n, m}), Array<T>({n, m})};
  std::vector<std::optional<Cube<T>>> cubes(static_cast<std::size_t>(thread_count()));
  ntk::Reporter reporter(q.operation, q.options.progress, "pairs of images", static_cast<std::size_t>(pairs));
  parallel_for(pairs, [&](Index t) {
    if (reporter.cancelled()) return;
    Index i = q.symmetric() ? static_cast<Index>((std::sqrt(8 * static_cast<double>(t) + 1) - 1) / 2) : t / m, j = q.symmetric() ? 0 : t % m;
    if (q.symmetric()) {
      while ((i + 1) * (i + 2) / 2 <= t) ++i;
      while (i * (i + 1) / 2 > t) --i;
      j = t - i * (i + 1) / 2;
    }
    const auto r = static_cast<std::size_t>(i), c = static_cast<std::size_t>(j);
    double K = rows.variance[r], ntk = rows.ntk[r];
    if (!q.symmetric() || i != j) {
      auto& cube = cubes[static_cast<std::size_t>(thread_index())];
      if (!cube) cube.emplace(plan, shape[1], shape[2], shape[3]);
      std::tie(K, ntk) = cube->pair(rows.images[r], columns.images[c]);
    }
    const T gap = static_cast<T>(std::max(0.0, std::sqrt(rows.variance[r] * columns.variance[c]) - K));
    come.gap.data()[i * m + j] = gap;
    come.ntk.data()[i * m + j] = static_cast<T>(ntk);
    if (q.symmetric()) {
      come.gap.data()[j * m + i] = gap;
      come.ntk.data()[j * m + i] = static_cast<T>(ntk);
    }
    reporter.done();
  });
  reporter.finish();
  const Network rest = rest_of(q.network, plan.steps);
  const ExampleProgram program = program_of(q.operation, rest, Shape{1, plan.channels}, q.rows.shape());
  const Examples<T> of_rows = prepare_variances<T>(program, rows.variance, q.symmetric() ? "x" : "rows", whole_tile);
  const Options quiet;
  const Question<T> of_rest{q.operation, rest, q.rows, q.columns, q.wanted, quiet};
  if (q.symmetric()) return collected(q, of_rows.error, Assembly<T>(of_rest, rest, program, of_rows, of_rows, &come).run());
  const Examples<T> of_columns = prepare_variances<T>(program, columns.variance, "columns", whole_tile);
  return collected(q, std::max(of_rows.error, of_columns.error), Assembly<T>(of_rest, rest, program, of_rows, of_columns, &come).run());
}

// NumericalError unless there is room for the kernels, and for examples prepared; what threads compute in is little beside them.
template <Scalar T> void check_room(const Question<T>& q, const ExampleProgram* program) {
  const auto n = static_cast<double>(q.rows.shape()[0]), m = q.columns ? static_cast<double>(q.columns->shape()[0]) : n;
  double numbers = (q.wanted == Wanted::both ? 2 : 1) * n * m + 2 * static_cast<double>(q.rows.size() + (q.columns ? q.columns->size() : 0));
  if (program)
    for (const auto& s : program->statistics) numbers += static_cast<double>(s.shape.size()) * (n + (q.columns ? m : 0)) * (1 + sizeof(double) / sizeof(T));
  else numbers += 2 * n * m;  // what comes behind the cube
  const double bytes = numbers * sizeof(T);
  const std::size_t limit = ntk::memory_limit({.max_memory = q.options.max_memory});
  if (bytes > static_cast<double>(limit))
    fail<NumericalError>("{}: some {} are needed for {} and {} examples, {}; ask for some rows at a time", q.operation, autodiff::in_bytes(bytes), n, m,
                         fmt::format(fmt::runtime(q.options.max_memory ? "Options::max_memory is {}" : "{} are left on this machine and within the limits of this process"), autodiff::in_bytes(static_cast<double>(limit))));
}

template <Scalar T> Kernels<T> assemble(const Question<T>& q) {
  check_examples(q.operation, q.columns ? "rows" : "x", q.rows);
  if (q.columns) {
    check_examples(q.operation, "columns", *q.columns);
    if (q.rows.shape().with(0, 0) != q.columns->shape().with(0, 0)) fail<ShapeError>("{}: rows {} and columns {} must agree in all axes but the leading one", q.operation, q.rows.shape(), q.columns->shape());
  }
  if (const auto plan = cube_plan(q.network, q.rows.shape().with(0, 1))) {
    check_room(q, nullptr);
    return assemble_by_cube(q, *plan);
  }
  const Array<T> x = arranged(q.network, q.rows);
  const ExampleProgram program = program_of(q.operation, q.network, x.shape().with(0, 1), x.shape());
  check_room(q, &program);
  const bool all = q.network.all_places[0];
  const Index places = x.shape().size(1, x.shape().rank() - 1), tile = tile_of(all ? places * places : places);
  const Examples<T> rows = prepare(program, all, x, q.symmetric() ? "x" : "rows", tile);
  if (q.symmetric()) return collected(q, rows.error, Assembly<T>(q, q.network, program, rows, rows).run());
  const Array<T> y = arranged(q.network, *q.columns);
  const Examples<T> columns = prepare(program, all, y, "columns", tile);
  return collected(q, std::max(rows.error, columns.error), Assembly<T>(q, q.network, program, rows, columns).run());
}

}  // namespace

template <Scalar T> Array<T> Kernel::nngp(const Array<T>& x, const Options& options) const {
  return assemble<T>({"infinite::nngp", state_->network, x, nullptr, Wanted::nngp, options}).nngp;
}
template <Scalar T> Array<T> Kernel::nngp(const Array<T>& rows, const Array<T>& columns, const Options& options) const {
  return assemble<T>({"infinite::nngp", state_->network, rows, &columns, Wanted::nngp, options}).nngp;
}
template <Scalar T> Array<T> Kernel::ntk(const Array<T>& x, const Options& options) const {
  return assemble<T>({"infinite::ntk", state_->network, x, nullptr, Wanted::ntk, options}).ntk;
}
template <Scalar T> Array<T> Kernel::ntk(const Array<T>& rows, const Array<T>& columns, const Options& options) const {
  return assemble<T>({"infinite::ntk", state_->network, rows, &columns, Wanted::ntk, options}).ntk;
}
template <Scalar T> Kernels<T> Kernel::both(const Array<T>& x, const Options& options) const {
  return assemble<T>({"infinite::both", state_->network, x, nullptr, Wanted::both, options});
}
template <Scalar T> Kernels<T> Kernel::both(const Array<T>& rows, const Array<T>& columns, const Options& options) const {
  return assemble<T>({"infinite::both", state_->network, rows, &columns, Wanted::both, options});
}
template <Scalar T> Array<T> Kernel::variances(const Array<T>& x) const {
  check_examples("infinite::variances", "x", x);
  const Array<T> arranged_x = arranged(state_->network, x);
  const Examples<T> examples = prepare(program_of("infinite::variances", state_->network, arranged_x.shape().with(0, 1), arranged_x.shape()), state_->network.all_places[0], arranged_x, "x", 1);
  Array<T> q({examples.n});
  std::copy(examples.variance.begin(), examples.variance.end(), q.begin());
  return q;
}

#define LINNET_INSTANTIATE(T)                                                               \
  template Array<T> Kernel::nngp(const Array<T>&, const Options&) const;                    \
  template Array<T> Kernel::nngp(const Array<T>&, const Array<T>&, const Options&) const;   \
  template Array<T> Kernel::ntk(const Array<T>&, const Options&) const;                     \
  template Array<T> Kernel::ntk(const Array<T>&, const Array<T>&, const Options&) const;    \
  template Kernels<T> Kernel::both(const Array<T>&, const Options&) const;                  \
  template Kernels<T> Kernel::both(const Array<T>&, const Array<T>&, const Options&) const; \
  template Array<T> Kernel::variances(const Array<T>&) const;
LINNET_INSTANTIATE(float)
LINNET_INSTANTIATE(double)

}  // namespace linnet::infinite
