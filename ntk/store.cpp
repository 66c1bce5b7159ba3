// What goes into a kernel file, and what is read from it. tile_file.h is the file itself.
#include "linnet/ntk/store.h"

#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/finite.h"
#include "linnet/autodiff/kernels/gemm.h"
#include "linnet/autodiff/kernels/parallel.h"
#include "linnet/autodiff/npy_format.h"
#include "linnet/ntk/check.h"
#include "linnet/ntk/checksum.h"
#include "linnet/ntk/question.h"
#include "linnet/ntk/record.h"
#include "linnet/ntk/tile_file.h"

#include <atomic>
#include <sstream>

namespace linnet::ntk {

using namespace autodiff;

namespace {

constexpr Index batch = 16;  // tiles that are read at once

std::string hex(const Checksum& sum) { return fmt::format("{:016x}", sum.value()); }

// ---- what a kernel was made from

void add(Checksum& sum, const Shape& shape) {
  sum.add(static_cast<std::uint64_t>(shape.rank()));
  for (const Index n : shape) sum.add(static_cast<std::uint64_t>(n));
}
template <class T> void add(Checksum& sum, const Array<T>& array) {
  add(sum, array.shape());
  sum.add(array.data(), static_cast<std::size_t>(array.size()) * sizeof(T));
}
// As it prints, with what that leaves out: the values of constants, and the bodies of calls.
void add(Checksum& sum, const Program& p) {
  sum.add(str(p));
  for (const auto& c : p.constants) std::visit([&](const auto& values) { add(sum, *values); }, c->values);
  for (const Instruction& c : p.code)
    if (const Body* body = std::get_if<Body>(&c.attributes)) {
      if (body->loop) {
        for (const Role role : body->loop->roles) sum.add(static_cast<std::uint64_t>(role));
        sum.add(static_cast<std::uint64_t>(body->loop->reverse));
      }
      add(sum, *body->program);
    }
}
std::string network(const GramPlan& plan) {
  Checksum sum;
  add(sum, *plan.primal);
  add(sum, *plan.cut);
  return hex(sum);
}
template <class T> std::string parameters(const Tree<Array<T>>& params) {
  Checksum sum;
  params.visit([&](const std::string& path, const Array<T>& leaf) {
    sum.add(path);
    add(sum, leaf);
  });
  return hex(sum);
}
template <class T> std::string examples(const Array<T>& x) {
  Checksum sum;
  add(sum, x);
  return hex(sum);
}

// The lines of config() that bits depend on: not the number of threads, and not who reads archives.
void add_build(Fields& fields) {
  std::istringstream lines(config());
  for (std::string line; std::getline(lines, line);) {
    const std::size_t end = line.find("  ");
    std::string key = "build." + line.substr(0, end);
    std::replace(key.begin(), key.end(), ' ', '_');
    if (end != line.npos && key != "build.threads" && key != "build.archives") fields.emplace_back(key, line.substr(line.find_first_not_of(' ', end)));
  }
}

template <class T> const char* type_name() { return std::same_as<T, float> ? "<f4" : "<f8"; }

}  // namespace

template <Scalar T> Fields fields_of(const Question<T>& q, const GramPlan& plan, Method method) {
  const auto number = [](Index n) { return fmt::format("{}", n); };
  Fields fields{{"type", type_name<T>()},
                {"layout", q.traced ? "traced" : "full"},
                {"sets", q.x2 ? "two" : "one"},
                {"rows", number(q.n2)},
                {"columns", number(q.n1)},
                {"outputs", number(q.outputs)},
                {"tile", number(tile_examples(plan, q.n1, q.x2 ? q.n2 : 0))},
                {"method", method == Method::structured ? "structured" : "jacobian_contraction"},
                {"network", network(plan)},
                {"params", parameters(q.params)}};
  if (q.x2) fields.emplace_back("x2", examples(*q.x2));
  fields.emplace_back(q.x2 ? "x1" : "x", examples(q.x1));
  add_build(fields);
  return fields;
}

namespace {

// ---- writing

// Computes what is not there yet.
template <class T> void write_tiles(const Question<T>& q, const GramPlan& plan, InFlight in_flight, const TileFile& file) {
  const TileLayout& l = file.layout();
  std::vector<char> there(static_cast<std::size_t>(l.tiles()), 0);
  parallel_for(l.tiles(), [&](Index k) {
    thread_local Record record;
    const auto [i, j] = l.at(k);
    values_of<T>(record, l, i, j);
    there[static_cast<std::size_t>(k)] = file.read(i, j, record.data());
  });
  std::atomic<bool> failed{false};
  const auto wanted = [&](Index i, Index j) { return !failed && !there[static_cast<std::size_t>(l.number(i, j))]; };
  const auto take = [&](Index i, Index j, const T* values, Index stride) {
    thread_local Record record;
    fill_record(record, l, i, j, values, stride);
    try {
      return file.write(i, j, record.data());
    } catch (...) {
      failed = true;
      throw;
    }
  };
  if (!run_gram(plan, autodiff::detail::views<T>(q.params), q.x1.data(), q.n1, q.x2 ? q.x2->data() : nullptr, q.x2 ? q.n2 : 0, in_flight, TileSink<T>{wanted, take}, q.options)) fail_not_finite(q);
}

template <class T> StoredKernel<T> on_disk(const std::filesystem::path& path, Question<T> q) {
  check(q);
  Method method;
  const GramPlan plan = plan_tiles(q, method);
  const InFlight in_flight = in_flight_of<T>(q, plan, false);
  const Fields fields = fields_of(q, plan, method);
  const std::filesystem::path partial = path.string() + ".partial";
  while (true) {
    if (std::error_code unknown; std::filesystem::exists(path, unknown)) {
      const TileFile whole = TileFile::open(q.operation, path);
      if (whole.fields() != fields) fail<StructureError>("{}: '{}' {}", q.operation, path.string(), made_from_something_else(whole.fields(), fields));
      return StoredKernel<T>(path);
    }
    TileFile file = TileFile::take_up(q.operation, partial, fields);
    if (!file.current()) continue;  // another process finished it meanwhile
    if (file.layout().tiles() > 0) write_tiles(q, plan, in_flight, file);
    file.finish(path);
  }
}

// ---- reading

// The values of a tile, or StructureError.
template <class T> const T* read_tile(const TileFile& file, Index i, Index j, Record& record) {
  const T* const values = values_of<T>(record, file.layout(), i, j);
  if (!file.read(i, j, record.data()))
    fail<StructureError>("StoredKernel: '{}' is damaged: the checksum of tile ({}, {}) is not that of its bytes; remove the file, and compute it again",
                         file.path().string(), i, j);
  return values;
}

// [h, b] with rows `from` apart to [b, h].
template <class T> void transpose_into(const T* x, Index h, Index b, T* y, Index stride) {
  constexpr Index block = 16;
  for (Index c0 = 0; c0 < b; c0 += block)
    for (Index r0 = 0; r0 < h; r0 += block)
      for (Index c = c0; c < std::min(b, c0 + block); ++c)
        for (Index r = r0; r < std::min(h, r0 + block); ++r) y[c * stride + r] = x[r * b + c];
}

// Tile (i, j) of the whole kernel, from the half that is there, with rows `stride` apart.
template <class T> void place_tile(const TileFile& file, Index i, Index j, T* to, Index stride) {
  thread_local Record record;
  const TileLayout& l = file.layout();
  const bool mirrored = l.symmetric && j > i;
  const T* const from = mirrored ? read_tile<T>(file, j, i, record) : read_tile<T>(file, i, j, record);
  const Index h = l.height(i), b = l.breadth(j);
  if (mirrored) return transpose_into(from, b, h, to, stride);
  for (Index r = 0; r < h; ++r) std::copy_n(from + r * b, b, to + r * stride);
}

}  // namespace

template <Scalar T> StoredKernel<T>::StoredKernel(const std::filesystem::path& path) : file_(std::make_shared<const TileFile>(TileFile::open("StoredKernel", path))) {
  for (const auto& [key, value] : file_->fields()) made_from_ += key + " " + value + "\n";
  if (const std::string_view type = file_->field("type"); type != type_name<T>())
    fail<StructureError>("StoredKernel: '{}' holds numbers of type '{}', asked for are '{}'; open it as StoredKernel<{}>", path.string(), type, type_name<T>(),
                         type == "<f4" ? "float" : "double");
}

template <Scalar T> Index StoredKernel<T>::rows() const { return file_->layout().rows; }
template <Scalar T> Index StoredKernel<T>::columns() const { return file_->layout().columns; }
template <Scalar T> Index StoredKernel<T>::outputs() const { return file_->layout().outputs; }
template <Scalar T> bool StoredKernel<T>::is_traced() const { return file_->layout().traced; }
template <Scalar T> bool StoredKernel<T>::is_symmetric() const { return file_->layout().symmetric; }
template <Scalar T> const std::string& StoredKernel<T>::made_from() const { return made_from_; }
template <Scalar T> Index StoredKernel<T>::tile_rows() const { return file_->layout().down(); }
template <Scalar T> Index StoredKernel<T>::tile_columns() const { return file_->layout().across(); }

template <Scalar T> Array<T> StoredKernel<T>::tile(Index i, Index j) const {
  const TileLayout& l = file_->layout();
  if (i < 0 || j < 0 || i >= l.down() || j >= l.across()) fail<ShapeError>("StoredKernel: there is no tile ({}, {}); there are {} by {}", i, j, l.down(), l.across());
  Array<T> values = Array<T>::uninitialized({l.height(i), l.breadth(j)});
  place_tile(*file_, i, j, values.data(), l.breadth(j));
  return values;
}

template <Scalar T> Array<T> StoredKernel<T>::matrix() const {
  const TileLayout& l = file_->layout();
  const Index side = l.tile * l.R(), ld = l.columns * l.R();
  Array<T> all = Array<T>::uninitialized({l.rows * l.R(), ld});
  parallel_for(l.tiles(), [&](Index k) {
    thread_local Record record;
    const auto [i, j] = l.at(k);
    const T* const from = read_tile<T>(*file_, i, j, record);
    const Index h = l.height(i), b = l.breadth(j);
    for (Index r = 0; r < h; ++r) std::copy_n(from + r * b, b, all.data() + (i * side + r) * ld + j * side);
    if (l.symmetric && i != j) transpose_into(from, h, b, all.data() + j * side * ld + i * side, ld);
  });
  return all;
}

template <Scalar T> FullKernel<T> StoredKernel<T>::full() const {
  if (is_traced()) fail<StructureError>("StoredKernel: '{}' holds a traced kernel; ask for traced()", file_->path().string());
  return {matrix(), rows(), columns(), outputs()};
}
template <Scalar T> TracedKernel<T> StoredKernel<T>::traced() const {
  if (!is_traced()) fail<StructureError>("StoredKernel: '{}' holds a full kernel; ask for full()", file_->path().string());
  return {matrix(), outputs()};
}

// Products of a batch of tiles are computed side by side, and added in the order of the tiles.
template <Scalar T> Array<T> StoredKernel<T>::operator()(const Array<T>& v) const {
  const TileLayout& l = file_->layout();
  const Index side = l.tile * l.R(), n = l.columns * l.R(), k = v.shape().rank() == 2 ? v.shape()[1] : 1;
  if (v.shape() != Shape{n} && v.shape() != Shape{n, k})
    fail<ShapeError>("StoredKernel: a kernel [{},{}] cannot be multiplied with {}; [{}] or [{},k] is needed", l.rows * l.R(), n, v.shape(), n, n);
  check_finite("StoredKernel", "v", v);
  Array<T> sum(v.shape().with(0, l.rows * l.R()));
  if (sum.size() == 0) return sum;
  std::vector<Buffer<T>> down(batch), up(batch);  // K_ij v_j, and K_ij^T v_i where the other half is not there
  for (Index first = 0; first < l.tiles(); first += batch) {
    const Index count = std::min(batch, l.tiles() - first);
    parallel_for(count, [&](Index b) {
      thread_local Record record;
      const auto [i, j] = l.at(first + b);
      const Index h = l.height(i), w = l.breadth(j);
      const T* const values = read_tile<T>(*file_, i, j, record);
      down[static_cast<std::size_t>(b)].resize(static_cast<std::size_t>(h * k));
      gemm(false, false, h, k, w, values, v.data() + j * side * k, down[static_cast<std::size_t>(b)].data());
      if (!l.symmetric || i == j) return;
      up[static_cast<std::size_t>(b)].resize(static_cast<std::size_t>(w * k));
      gemm(true, false, w, k, h, values, v.data() + i * side * k, up[static_cast<std::size_t>(b)].data());
    });
    const auto add_to = [&](Index tile, Index rows, const Buffer<T>& part) {
      T* const to = sum.data() + tile * side * k;
      for (Index e = 0; e < rows * k; ++e) to[e] += part[static_cast<std::size_t>(e)];
    };
    for (Index b = 0; b < count; ++b) {
      const auto [i, j] = l.at(first + b);
      add_to(i, l.height(i), down[static_cast<std::size_t>(b)]);
      if (l.symmetric && i != j) add_to(j, l.breadth(j), up[static_cast<std::size_t>(b)]);
    }
  }
  return sum;
}

template <Scalar T> void StoredKernel<T>::save_npy(const std::filesystem::path& path) const {
  const TileLayout& l = file_->layout();
  const Index ld = l.columns * l.R();
  autodiff::detail::Replacement to(path);
  const std::string header = autodiff::detail::npy_header<T>(Shape{l.rows * l.R(), ld});
  to.write(header.data(), header.size());
  Buffer<T> rows;
  for (Index i = 0; i < l.down(); ++i) {
    rows.resize(static_cast<std::size_t>(l.height(i) * ld));
    parallel_for(l.across(), [&](Index j) { place_tile(*file_, i, j, rows.data() + j * l.tile * l.R(), ld); });
    to.write(rows.data(), rows.size() * sizeof(T));
  }
  to.commit();
}

template <Scalar T> void StoredKernel<T>::verify() const {
  parallel_for(file_->layout().tiles(), [&](Index k) {
    thread_local Record record;
    const auto [i, j] = file_->layout().at(k);
    read_tile<T>(*file_, i, j, record);
  });
}

template <Scalar T> StoredKernel<T> full_on_disk(const std::filesystem::path& file, const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options) {
  return on_disk(file, Question<T>{"ntk::full_on_disk", f, params, x, nullptr, options, false});
}
template <Scalar T> StoredKernel<T> full_on_disk(const std::filesystem::path& file, const Apply& f, const Tree<Array<T>>& params, const Array<T>& x2, const Array<T>& x1, const Options& options) {
  return on_disk(file, Question<T>{"ntk::full_on_disk", f, params, x1, &x2, options, false});
}
template <Scalar T> StoredKernel<T> traced_on_disk(const std::filesystem::path& file, const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options) {
  return on_disk(file, Question<T>{"ntk::traced_on_disk", f, params, x, nullptr, options, true});
}
template <Scalar T> StoredKernel<T> traced_on_disk(const std::filesystem::path& file, const Apply& f, const Tree<Array<T>>& params, const Array<T>& x2, const Array<T>& x1, const Options& options) {
  return on_disk(file, Question<T>{"ntk::traced_on_disk", f, params, x1, &x2, options, true});
}

#define LINNET_INSTANTIATE(T)                                                                                                                                                       \
  template Fields fields_of(const Question<T>&, const GramPlan&, Method);                                                                                                           \
  template class StoredKernel<T>;                                                                                                                                                   \
  template StoredKernel<T> full_on_disk(const std::filesystem::path&, const Apply&, const Tree<Array<T>>&, const Array<T>&, const Options&);                                        \
  template StoredKernel<T> full_on_disk(const std::filesystem::path&, const Apply&, const Tree<Array<T>>&, const Array<T>&, const Array<T>&, const Options&);                       \
  template StoredKernel<T> traced_on_disk(const std::filesystem::path&, const Apply&, const Tree<Array<T>>&, const Array<T>&, const Options&);                                      \
  template StoredKernel<T> traced_on_disk(const std::filesystem::path&, const Apply&, const Tree<Array<T>>&, const Array<T>&, const Array<T>&, const Options&);
LINNET_INSTANTIATE(float)
LINNET_INSTANTIATE(double)

}  // namespace linnet::ntk
