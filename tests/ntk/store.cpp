// Kernels on disk: the same bits as in memory, taken up again after whatever happened, and nothing that is foreign or damaged is taken.
#include "store_problem.h"

#include "linnet/autodiff/config.h"
#include "linnet/autodiff/npy.h"
#include "linnet/tests/rounds.h"

#include <doctest/doctest.h>

#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <optional>
#include <fstream>
#include <spawn.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace networks;
using linnet::autodiff::NumericalError;
using linnet::autodiff::Progress;
using linnet::autodiff::ShapeError;
using linnet::autodiff::StructureError;
using ntk::StoredKernel;
namespace fs = std::filesystem;

extern char** environ;

namespace {

// A folder that is gone with the test.
struct Folder {
  fs::path path = fs::temp_directory_path() / ("linnet_store_" + std::to_string(::getpid()));
  Folder() {
    fs::remove_all(path);
    fs::create_directory(path);
  }
  ~Folder() { fs::remove_all(path); }
  fs::path operator/(const char* name) const { return path / name; }
};

std::string bytes_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}
void write_bytes(const fs::path& file, const std::string& bytes) { std::ofstream(file, std::ios::binary) << bytes; }
fs::path partial(const fs::path& file) { return file.string() + ".partial"; }

// What docs/kernel_file.md says, written anew.
std::uint64_t word_of(const std::string& bytes, std::size_t at) {
  std::uint64_t w;
  std::memcpy(&w, bytes.data() + at, 8);
  return w;
}
std::uint64_t checksum_of(const std::string& bytes, std::size_t first, std::size_t n) {
  std::uint64_t h = 0x6C696E6E65740001;
  const std::string padded = bytes.substr(first, n) + std::string(7, '\0');
  for (std::size_t i = 0; i < n + 8; i += 8) {
    constexpr std::uint64_t odd = 0x9E3779B97F4A7C15;
    std::uint64_t w = (i == 0 ? n : word_of(padded, i - 8)) * odd;
    w = (w ^ (w >> 32)) * odd;
    h = (h ^ w ^ (w >> 29)) * odd;
    h ^= h >> 32;
  }
  return h;
}
// The file with another text for a part of its header, which has its checksum again.
std::string with_header(std::string file, const std::string& part, const std::string& instead) {
  std::string text = file.substr(0, 4096 - 17);
  const std::size_t at = text.find(part);
  REQUIRE(at != text.npos);
  text.replace(at, part.size(), instead);
  text.resize(4096 - 17, ' ');
  char sum[18];
  std::snprintf(sum, sizeof sum, "%016llx\n", static_cast<unsigned long long>(checksum_of(text, 0, text.size())));
  return text + sum + file.substr(4096);
}

// A file cut short by cancelling after the first tile: its .partial is left.
void cancel(const fs::path& file, const Network& net, const Array<double>& x) {
  const ntk::Options options{.progress = [](const Progress&) { return false; }};
  const int before = linnet::autodiff::threads();
  linnet::autodiff::set_threads(1);
  const std::string text = message<NumericalError>([&] { ntk::full_on_disk(file, net.f, net.params, x, options); });
  linnet::autodiff::set_threads(before);
  CHECK(text.starts_with("ntk: cancelled by the progress function after 1 of "));
  CHECK_FALSE(fs::exists(file));
  CHECK(fs::exists(partial(file)));
}

template <class T> void check_store(const StoredKernel<T>& store, const Array<T>& kernel, const fs::path& npy) {
  CHECK(store.matrix() == kernel);
  Array<T> tiles(kernel.shape());
  const Index ld = kernel.shape()[1];
  Index row = 0;
  for (Index i = 0; i < store.tile_rows(); ++i) {
    Index column = 0, height = 0;
    for (Index j = 0; j < store.tile_columns(); ++j) {
      const Array<T> tile = store.tile(i, j);
      height = tile.shape()[0];
      for (Index r = 0; r < height; ++r) std::copy_n(tile.data() + r * tile.shape()[1], tile.shape()[1], tiles.data() + (row + r) * ld + column);
      column += tile.shape()[1];
    }
    row += height;
  }
  CHECK(tiles == kernel);
  store.save_npy(npy);
  CHECK(linnet::autodiff::load_npy<T>(npy) == kernel);
  store.verify();
  const Array<T> v = as<T>(Draw(4).array({ld, 3}));
  const Array<double> product = outer(as<double>(linnet::autodiff::cast<double>(kernel)), [&] {  // K (v^T)^T
    Array<double> t({3, ld});
    for (Index i = 0; i < ld; ++i)
      for (Index k = 0; k < 3; ++k) t.data()[k * ld + i] = static_cast<double>(v.data()[i * 3 + k]);
    return t;
  }());
  CHECK(difference(store(v), product) < tolerance<T>());
  Array<T> one({ld});
  for (Index i = 0; i < ld; ++i) one.data()[i] = v.data()[i * 3];
  Array<double> first({kernel.shape()[0]});
  for (Index i = 0; i < first.size(); ++i) first.data()[i] = product.data()[i * 3];
  CHECK(difference(store(one), first) < tolerance<T>());
}

template <class T> void check_kernels(const Network& net, Index n1, Index n2, ntk::Method method) {
  CAPTURE(net.name);
  CAPTURE(n1);
  CAPTURE(n2);
  const Folder folder;
  const Tree<Array<T>> params = as<T>(net.params);
  const Array<T> x1 = as<T>(examples(net, n1, 1)), x2 = as<T>(examples(net, n2, 2));
  const ntk::Options options{.method = method};
  check_store(ntk::full_on_disk(folder / "a", net.f, params, x1, options), ntk::full(net.f, params, x1, options).matrix(), folder / "a.npy");
  check_store(ntk::full_on_disk(folder / "b", net.f, params, x2, x1, options), ntk::full(net.f, params, x2, x1, options).matrix(), folder / "b.npy");
  check_store(ntk::traced_on_disk(folder / "c", net.f, params, x1, options), ntk::traced(net.f, params, x1, options).matrix(), folder / "c.npy");
  check_store(ntk::traced_on_disk(folder / "d", net.f, params, x2, x1, options), ntk::traced(net.f, params, x2, x1, options).matrix(), folder / "d.npy");
  CHECK(StoredKernel<T>(folder / "a").full().matrix() == StoredKernel<T>(folder / "a").matrix());
  CHECK(StoredKernel<T>(folder / "d").traced().outputs() == StoredKernel<T>(folder / "b").full().outputs());
}

// The program beside the tests, killed after so many microseconds unless it has ended; or left to end.
void run_child(const fs::path& file, std::optional<long> microseconds) {
  const std::string name = file.string();
  std::string program = LINNET_STORE_CHILD;
  char* argv[] = {program.data(), const_cast<char*>(name.c_str()), nullptr};
  pid_t child = 0;
  REQUIRE(::posix_spawn(&child, program.c_str(), nullptr, nullptr, argv, environ) == 0);
  if (microseconds) {
    std::this_thread::sleep_for(std::chrono::microseconds(*microseconds));
    ::kill(child, SIGKILL);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
}

// Files of this process end at so many bytes while it lives, with an error instead of a signal.
class SizeLimit {
 public:
  SizeLimit() { ::getrlimit(RLIMIT_FSIZE, &before_); }
  ~SizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  void set(rlim_t bytes) const {
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }

 private:
  rlimit before_{};
  void (*handler_)(int) = std::signal(SIGXFSZ, SIG_IGN);
};

}  // namespace

TEST_CASE_TEMPLATE("a kernel on disk has the bits of that in memory, whole, by tiles, as .npy, and its products are right", T, float, double) {
  check_kernels<T>(mlp(5, {7}, 10), 120, 39, ntk::Method::structured);   // 38 examples a tile
  check_kernels<T>(mlp(5, {7}, 1), 1100, 384, ntk::Method::structured);   // 384
  check_kernels<T>(mlp(5, {7}, 3), 128, 1, ntk::Method::jacobian_contraction);
  check_kernels<T>(mlp(5, {7}, 3), 1, 257, ntk::Method::automatic);
}

TEST_CASE_TEMPLATE("a kernel of no examples is a file too", T, float, double) {
  const Folder folder;
  const Network net = mlp(5, {7}, 2);
  const Tree<Array<T>> params = as<T>(net.params);
  const Array<T> none({0, 5}), x = as<T>(examples(net, 3, 1));
  CHECK(ntk::full_on_disk(folder / "a", net.f, params, none).matrix().shape() == Shape{0, 0});
  const StoredKernel<T> store = ntk::full_on_disk(folder / "b", net.f, params, none, x);
  CHECK(store.matrix().shape() == Shape{0, 6});
  CHECK(store(Array<T>({6})).shape() == Shape{0});
  const StoredKernel<T> other = ntk::full_on_disk(folder / "c", net.f, params, x, none);
  CHECK(other(Array<T>({0, 2})) == Array<T>({6, 2}));
  other.save_npy(folder / "c.npy");
  CHECK(linnet::autodiff::load_npy<T>(folder / "c.npy").shape() == Shape{6, 0});
}

TEST_CASE("what the file knows of itself") {
  const Folder folder;
  const Network net = store_problem::network();
  const Array<double> x = store_problem::examples();
  const StoredKernel<double> store = ntk::full_on_disk(folder / "k", net.f, net.params, x);
  CHECK(store.rows() == 200);
  CHECK(store.columns() == 200);
  CHECK(store.outputs() == 10);
  CHECK_FALSE(store.is_traced());
  CHECK(store.is_symmetric());
  CHECK(store.tile_rows() == 6);
  CHECK(store.tile_columns() == 6);
  CHECK(store.made_from().starts_with("type <f8\nlayout full\nsets one\nrows 200\ncolumns 200\noutputs 10\ntile 38\nmethod structured\nnetwork "));
  for (const char* key : {"\nparams ", "\nx ", "\nbuild.linnet ", "\nbuild.instructions ", "\nbuild.vector_math ", "\nbuild.blocks "}) {
    CAPTURE(key);
    CHECK(store.made_from().find(key) != std::string::npos);
  }
  CHECK(store.made_from().find("threads") == std::string::npos);
  // 21 tiles of one half: 15 of 380 x 380, five of 100 x 380 below them and one of 100 x 100 in the corner.
  const auto record = [](Index numbers) { return 64 + (numbers * 8 + 63) / 64 * 64; };
  CHECK(fs::file_size(folder / "k") == static_cast<std::uintmax_t>(4096 + 15 * record(380 * 380) + 5 * record(100 * 380) + record(100 * 100)));
  const std::string name = "StoredKernel: '" + (folder / "k").string() + "' ";
  CHECK(message<StructureError>([&] { store.traced(); }) == name + "holds a full kernel; ask for full()");
  CHECK(message<StructureError>([&] { ntk::traced_on_disk(folder / "t", net.f, net.params, x.rows(0, 2)).full(); }) == "StoredKernel: '" + (folder / "t").string() + "' holds a traced kernel; ask for traced()");
  CHECK(message<ShapeError>([&] { store.tile(6, 0); }) == "StoredKernel: there is no tile (6, 0); there are 6 by 6");
  CHECK(message<ShapeError>([&] { store(Array<double>({2001})); }) == "StoredKernel: a kernel [2000,2000] cannot be multiplied with [2001]; [2000] or [2000,k] is needed");
  Array<double> nan({2000});
  nan.data()[7] = NAN;
  CHECK(message<NumericalError>([&] { store(nan); }) == "StoredKernel: v has nan at [7]; every value must be finite");
}

TEST_CASE("the bytes are those that docs/kernel_file.md describes") {
  const Folder folder;
  const Network net = mlp(3, {4}, 1);
  const Array<float> x = as<float>(examples(net, 2, 1));
  const Array<float> kernel = ntk::full_on_disk(folder / "k", net.f, as<float>(net.params), x).matrix();
  const std::string file = bytes_of(folder / "k");
  const auto word = [&](std::size_t at) { return word_of(file, at); };
  const auto checksum = [&](std::size_t first, std::size_t n) { return checksum_of(file, first, n); };
  REQUIRE(file.size() == 4096 + 64 + 64);
  CHECK(file.starts_with("linnet kernel 1 4096\ntype <f4\n"));
  CHECK(std::stoull(file.substr(4096 - 17, 16), nullptr, 16) == checksum(0, 4096 - 17));
  CHECK(file[4095] == '\n');
  CHECK(word(4096) == checksum(4104, 128 - 8));
  CHECK(file.substr(4104, 8) == "LNTKTILE");
  CHECK(word(4112) == checksum(0, 4096));
  CHECK(word(4120) == 0);
  CHECK(word(4128) == 0);
  CHECK(word(4136) == 2);
  CHECK(word(4144) == 2);
  CHECK(word(4152) == 0);
  CHECK(std::memcmp(file.data() + 4160, kernel.data(), 16) == 0);
  CHECK(file.substr(4176) == std::string(48, '\0'));
}

TEST_CASE("products with a kernel on disk have the same bits for any number of threads") {
  const Folder folder;
  const Network net = mlp(5, {7}, 10);
  const StoredKernel<double> store = ntk::full_on_disk(folder / "k", net.f, net.params, examples(net, 300, 1));  // 36 tiles: three batches
  const Array<double> v = Draw(9).array({3000, 2});
  const int before = linnet::autodiff::threads();
  linnet::autodiff::set_threads(1);
  const Array<double> expected = store(v), all = store.matrix();
  for (const int n : {2, 3, 4, 8}) {
    CAPTURE(n);
    linnet::autodiff::set_threads(n);
    CHECK(store(v) == expected);
    CHECK(store.matrix() == all);
    CHECK(ntk::full_on_disk(folder / ("k" + std::to_string(n)).c_str(), net.f, net.params, examples(net, 300, 1)).matrix() == all);
  }
  linnet::autodiff::set_threads(before);
  CHECK(bytes_of(folder / "k") == bytes_of(folder / "k8"));
}

TEST_CASE("progress has bytes, a file that is whole is not computed again, and one that was cancelled is taken up") {
  const Folder folder;
  const Network net = store_problem::network();
  const Array<double> x = store_problem::examples();
  std::vector<Progress> told;
  const ntk::Options options{.progress = [&](const Progress& p) {
    told.push_back(p);
    return true;
  }};
  ntk::full_on_disk(folder / "a", net.f, net.params, x, options);
  REQUIRE(!told.empty());
  CHECK(told.back().what == "kernel tiles");
  CHECK(told.back().done == 21);
  CHECK(told.back().total == 21);
  CHECK(told.back().bytes == fs::file_size(folder / "a") - 4096);
  CHECK_FALSE(fs::exists(partial(folder / "a")));
  told.clear();
  ntk::full_on_disk(folder / "a", net.f, net.params, x, options);
  CHECK(told.empty());
  cancel(folder / "b", net, x);
  ntk::full_on_disk(folder / "b", net.f, net.params, x, options);
  CHECK(told.back().done == 21);
  CHECK(told.back().bytes < fs::file_size(folder / "a") - 4096);  // one tile was there
  CHECK(bytes_of(folder / "b") == bytes_of(folder / "a"));
}

TEST_CASE("50 of 50 processes killed at any moment are taken up to the same bits") {
  const Folder folder;
  const Network net = store_problem::network();
  const Array<double> x = store_problem::examples();
  run_child(folder / "first", {});
  const auto start = std::chrono::steady_clock::now();
  run_child(folder / "whole", {});
  const double whole = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();  // only to draw moments from
  REQUIRE(fs::exists(folder / "whole"));
  const std::string expected = bytes_of(folder / "whole");
  REQUIRE(bytes_of(folder / "first") == expected);
  Draw draw(50);
  const int n = rounds::repeats(50);
  int equal = 0, cut = 0;
  for (int round = 0; round < n; ++round) {
    const fs::path file = folder / "k";
    fs::remove(file);
    fs::remove(partial(file));
    for (int kill = 0; kill <= round % 3; ++kill) run_child(file, static_cast<long>((draw() + 1) / 2 * whole));
    cut += !fs::exists(file) && fs::exists(partial(file));
    ntk::full_on_disk(file, net.f, net.params, x);
    equal += bytes_of(file) == expected;
  }
  CHECK(equal == n);
  if (n == 50) CHECK(cut > 0);
  MESSAGE(cut << " of " << n << " were cut in the middle");
}

TEST_CASE("20 of 20 flipped bits are found, and mended where the file is not whole yet") {
  const Folder folder;
  const Network net = store_problem::network();
  const Array<double> x = store_problem::examples();
  ntk::full_on_disk(folder / "k", net.f, net.params, x);
  const std::string expected = bytes_of(folder / "k");
  Draw draw(20);
  for (int i = 0; i < 20; ++i) {
    const Index at = i < 4 ? draw.below(4096) : i < 8 ? 4096 + draw.below(64) : draw.below(static_cast<Index>(expected.size()));
    const int bit = static_cast<int>(draw.below(8));
    CAPTURE(at);
    CAPTURE(bit);
    std::string damaged = expected;
    damaged[static_cast<std::size_t>(at)] = static_cast<char>(damaged[static_cast<std::size_t>(at)] ^ (1 << bit));
    write_bytes(folder / "d", damaged);
    const std::string text = message<StructureError>([&] { StoredKernel<double>(folder / "d").verify(); });
    CHECK(text.starts_with("StoredKernel: '" + (folder / "d").string() + "' is "));
    if (at < 4096) continue;
    CHECK(text.find("is damaged: the checksum of tile (") != std::string::npos);
    CHECK(text.ends_with(") is not that of its bytes; remove the file, and compute it again"));
    CHECK_THROWS_AS(StoredKernel<double>(folder / "d").matrix(), StructureError);
    CHECK_THROWS_AS(StoredKernel<double>(folder / "d")(Array<double>({2000})), StructureError);
    CHECK_THROWS_AS(StoredKernel<double>(folder / "d").save_npy(folder / "d.npy"), StructureError);
    CHECK_FALSE(fs::exists(folder / "d.npy"));
    write_bytes(partial(folder / "e"), damaged);
    fs::remove(folder / "e");
    ntk::full_on_disk(folder / "e", net.f, net.params, x);
    CHECK(bytes_of(folder / "e") == expected);
  }
}

TEST_CASE("a file that was made from something else is refused by what differs") {
  const Folder folder;
  const Network net = store_problem::network();
  const Array<double> x = store_problem::examples().rows(0, 40);
  const auto refusal = [&](auto&& f) {
    std::string text = message<StructureError>(f);
    const std::string in_front = "' was made from something else: ";
    const auto at = text.find(in_front), end = text.find("; remove it, or take another name");
    if (at == text.npos || end == text.npos) return text;
    text = text.substr(at + in_front.size(), end - at - in_front.size());
    for (std::size_t open = text.find('('); open != text.npos; open = text.find('(', open + 1)) text.erase(open - 1, text.find(')', open) - open + 2), open = std::min(open, text.size()) - 1;
    return text;
  };
  Tree<Array<double>> params = map([](const Array<double>& a) { return a; }, net.params);
  params.leaves()[0]->data()[3] += 1e-9;
  Array<double> other = x;
  other.data()[5] = -other.data()[5];
  const Network wider = mlp(20, {33, 18}, 10);
  const ntk::Apply scaled = [&](const Tree<Var>& p, const Var& v) { return 2.0 * net.f(p, v); };
  const auto shifted = [&](double by) -> ntk::Apply { return [&net, by](const Tree<Var>& p, const Var& v) { return net.f(p, v) * linnet::autodiff::constant(Array<double>({10}, std::vector<double>(10, by))); }; };
  for (const bool whole : {true, false}) {
    CAPTURE(whole);
    const fs::path file = folder / (whole ? "whole" : "cut");
    if (whole) ntk::full_on_disk(file, net.f, net.params, x);
    else cancel(file, net, x);
    const std::string before = bytes_of(whole ? file : partial(file));
    CHECK(refusal([&] { ntk::full_on_disk(file, net.f, params, x); }) == "params");
    CHECK(refusal([&] { ntk::full_on_disk(file, net.f, net.params, other); }) == "x");
    CHECK(refusal([&] { ntk::full_on_disk(file, scaled, net.params, x); }) == "network");
    CHECK(refusal([&] { ntk::full_on_disk(file, wider.f, wider.params, x); }) == "network, params");
    CHECK(refusal([&] { ntk::full_on_disk(file, net.f, net.params, x, {.method = ntk::Method::jacobian_contraction}); }) == "method, network");
    CHECK(refusal([&] { ntk::full_on_disk(file, net.f, net.params, x.rows(0, 30)); }) == "rows, columns, x");
    CHECK(refusal([&] { ntk::full_on_disk(file, net.f, net.params, x, x); }) == "sets, x, x2, x1");
    CHECK(refusal([&] { ntk::traced_on_disk(file, net.f, net.params, x); }) == "layout, tile");
    CHECK(refusal([&] { ntk::full_on_disk(file, net.f, as<float>(net.params), as<float>(x)); }) == "type, params, x");
    CHECK(bytes_of(whole ? file : partial(file)) == before);
    CHECK_NOTHROW(ntk::full_on_disk(file, net.f, net.params, x));
  }
  // What a program prints leaves the values of constants out.
  ntk::full_on_disk(folder / "two", shifted(2), net.params, x);
  CHECK(refusal([&] { ntk::full_on_disk(folder / "two", shifted(3), net.params, x); }) == "network");
  const std::string text = message<StructureError>([&] { ntk::full_on_disk(folder / "whole", net.f, net.params, x.rows(0, 30)); });
  CHECK(text.starts_with("ntk::full_on_disk: '" + (folder / "whole").string() + "' was made from something else: rows (40, here 30), columns (40, here 30), x ("));
}

TEST_CASE("what is no kernel file, or not a whole one, is refused and not written over") {
  const Folder folder;
  const Network net = store_problem::network();
  const Array<double> x = store_problem::examples().rows(0, 40);
  const fs::path file = folder / "k";
  const auto opened = [&] { return message<StructureError>([&] { StoredKernel<double> store(file); }); };
  const auto computed = [&] { return message<StructureError>([&] { ntk::full_on_disk(file, net.f, net.params, x); }); };
  const std::string open = "StoredKernel: '" + file.string() + "' ", compute = "ntk::full_on_disk: '" + file.string() + "' ", begun = "ntk::full_on_disk: '" + partial(file).string() + "' ";
  CHECK(opened() == open + "cannot be read: No such file or directory");
  CHECK(message<StructureError>([&] { StoredKernel<double>(folder.path); }) == "StoredKernel: '" + folder.path.string() + "' is no regular file");
  CHECK(message<StructureError>([&] { ntk::full_on_disk(folder / "none/k", net.f, net.params, x); }) == "ntk::full_on_disk: '" + (folder / "none/k.partial").string() + "' cannot be written: No such file or directory");
  for (const std::string text : {"", "notes", "linnet kernels are fine\n"}) {
    CAPTURE(text);
    write_bytes(file, text);
    CHECK(opened() == open + "is no kernel file");
    CHECK(computed() == compute + "is no kernel file");
    CHECK(bytes_of(file) == text);
  }
  fs::remove(file);
  write_bytes(partial(file), "notes of mine");
  CHECK(computed() == begun + "is no kernel file, and is not written over; remove it, or take another name");
  CHECK(bytes_of(partial(file)) == "notes of mine");
  fs::remove(partial(file));
  ntk::full_on_disk(file, net.f, net.params, x);
  const std::string whole = bytes_of(file);
  for (const std::size_t length : {std::size_t{30}, std::size_t{4095}}) {
    write_bytes(file, whole.substr(0, length));
    CHECK(opened() == open + "is no kernel file");
  }
  write_bytes(file, whole.substr(0, whole.size() - 1));
  CHECK(opened() == open + "is damaged: it has " + std::to_string(whole.size() - 1) + " bytes, by its header it should have " + std::to_string(whole.size()));
  write_bytes(file, "linnet kernel 2 4096\n" + whole.substr(21));
  CHECK(opened() == open + "is of version 2 of the format, this library reads version 1");
  write_bytes(file, "linnet kernel x 4096\n" + whole.substr(21));
  CHECK(opened() == open + "is damaged: its first line is no kernel file's");
  write_bytes(file, "linnet kernel 1 4097\n" + whole.substr(21));
  CHECK(opened() == open + "is damaged: its first line does not say how long the header is");
  write_bytes(file, whole.substr(0, 100) + "?" + whole.substr(101));
  CHECK(opened() == open + "is damaged: its header is not the one that was written");
  const auto altered = [&](const std::string& part, const std::string& instead) {
    write_bytes(file, with_header(whole, part, instead));
    return opened();
  };
  CHECK(altered("rows 40\n", "rows 40\n") == "no error");
  CHECK(altered("rows 40\n", "") == open + "is damaged: its header has no line 'rows'");
  CHECK(altered("rows 40\n", "rows 4x\n") == open + "is damaged: 'rows 4x' in its header is no number");
  CHECK(altered("rows 40\n", "rows 30\n") == open + "is damaged: there is no kernel of the extents in its header");
  CHECK(altered("sets one\nrows 40\ncolumns 40\n", "sets two\nrows 1000000000000\ncolumns 1000000000000\n") == open + "is damaged: there is no kernel of the extents in its header");
  for (const char* wrong : {"tile 0\n", "tile -1\n", "tile 9223372036854775807\n"}) CHECK(altered("tile 19\n", wrong) == open + "is damaged: there is no kernel of the extents in its header");
  CHECK(altered("rows 40\n", "rows 99999999999999999999\n") == open + "is damaged: 'rows 99999999999999999999' in its header is no number");
  CHECK(altered("type <f8", "type <i8") == open + "is damaged: 'type <i8' in its header is neither <f4 nor <f8");
  CHECK(altered("sets one", "sets none") == open + "is damaged: 'sets none' in its header is neither one nor two");
  CHECK(altered("layout full", "layout flat") == open + "is damaged: 'layout flat' in its header is neither traced nor full");
  CHECK(altered("tile 19", "tile 18").starts_with(open + "is damaged: it has "));
  write_bytes(file, with_header(whole, "x ", "y "));  // tiles of another file
  CHECK(message<StructureError>([&] { StoredKernel<double>(file).tile(0, 0); }) == open + "is damaged: the checksum of tile (0, 0) is not that of its bytes; remove the file, and compute it again");
  write_bytes(file, whole);
  CHECK(message<StructureError>([&] { StoredKernel<float> store(file); }) == open + "holds numbers of type '<f8', asked for are '<f4'; open it as StoredKernel<double>");
}

TEST_CASE("a beginning that a failed power supply left is begun anew") {
  const Folder folder;
  const Network net = store_problem::network();
  const Array<double> x = store_problem::examples().rows(0, 40);
  ntk::full_on_disk(folder / "whole", net.f, net.params, x);
  const std::string expected = bytes_of(folder / "whole");
  for (const std::string& left : {std::string(), std::string(4096, '\0'), expected.substr(0, 512), expected.substr(0, 512) + std::string(3584, '\0'), expected.substr(0, 4096), expected.substr(0, 6000),
                                  expected.substr(0, 4096) + std::string(expected.size() - 4096, '\0')}) {
    CAPTURE(left.size());
    fs::remove(folder / "k");
    write_bytes(partial(folder / "k"), left);
    ntk::full_on_disk(folder / "k", net.f, net.params, x);
    CHECK(bytes_of(folder / "k") == expected);
  }
}

TEST_CASE("a file that another process writes is left to it") {
  const Folder folder;
  const Network net = store_problem::network();
  const Array<double> x = store_problem::examples().rows(0, 40);
  cancel(folder / "k", net, x);
  const int other = ::open(partial(folder / "k").c_str(), O_RDWR | O_CLOEXEC);
  REQUIRE(::flock(other, LOCK_EX | LOCK_NB) == 0);
  CHECK(message<StructureError>([&] { ntk::full_on_disk(folder / "k", net.f, net.params, x); }) == "ntk::full_on_disk: '" + partial(folder / "k").string() + "' is being written by another process");
  ::close(other);
  CHECK_NOTHROW(ntk::full_on_disk(folder / "k", net.f, net.params, x));
}

TEST_CASE("a full disk is told of, leaves no file under the final name, and what is finished") {
  const Folder folder;
  const Network net = store_problem::network();
  const Array<double> x = store_problem::examples();
  const std::string begun = "ntk::full_on_disk: '" + partial(folder / "k").string() + "' cannot be written: ";
  ntk::full_on_disk(folder / "whole", net.f, net.params, x);
  const std::string expected = bytes_of(folder / "whole");
  {
    const SizeLimit limit;
    limit.set(1'000'000);  // of 20 million: before anything is computed
    CHECK(message<StructureError>([&] { ntk::full_on_disk(folder / "k", net.f, net.params, x); }) == begun + "there is no place for its " + std::to_string(expected.size()) + " bytes: File too large");
    CHECK_FALSE(fs::exists(folder / "k"));
    CHECK(fs::file_size(partial(folder / "k")) == 4096);
    limit.set(1000);
    fs::remove(partial(folder / "k"));
    CHECK(message<StructureError>([&] { ntk::full_on_disk(folder / "k", net.f, net.params, x); }) == begun + "File too large");
    CHECK_FALSE(fs::exists(folder / "k"));
  }
  {
    const SizeLimit limit;
    std::size_t tiles = 0;
    const ntk::Options options{.progress = [&](const Progress& p) {  // after some of the tiles
      tiles = p.done;
      limit.set(10'000'000);
      return true;
    }};
    CHECK(message<StructureError>([&] { ntk::full_on_disk(folder / "k", net.f, net.params, x, options); }) == begun + "File too large");
    CHECK(tiles >= 1);
    CHECK_FALSE(fs::exists(folder / "k"));
    CHECK(fs::exists(partial(folder / "k")));
    CHECK_THROWS_AS(StoredKernel<double>(folder / "whole").save_npy(folder / "k.npy"), StructureError);
    CHECK_FALSE(fs::exists(folder / "k.npy"));
  }
  const ntk::Options options{.progress = [&](const Progress&) {  // what is in the way of the name
    fs::create_directory(folder / "k");
    return true;
  }};
  CHECK(message<StructureError>([&] { ntk::full_on_disk(folder / "k", net.f, net.params, x, options); }) ==
        "ntk::full_on_disk: '" + partial(folder / "k").string() + "' cannot be renamed to '" + (folder / "k").string() + "': Is a directory");
  fs::remove(folder / "k");
  ntk::full_on_disk(folder / "k", net.f, net.params, x);
  CHECK(bytes_of(folder / "k") == expected);
}

TEST_CASE("a kernel that is not finite, has no tiles or no memory, or mixes examples is refused, and no file has its name") {
  const Folder folder;
  const Network net = mlp(5, {7}, 2);
  const Array<double> x = examples(net, 9, 1);
  const auto text = [&]<class Error>(std::type_identity<Error>, const ntk::Apply& f, const ntk::Options& options) { return message<Error>([&] { ntk::full_on_disk(folder / "k", f, net.params, x, options); }); };
  CHECK(text(std::type_identity<StructureError>(), net.f, {.method = ntk::Method::vector_products}) == "ntk::full_on_disk: Method::vector_products has no tiles to store; take Method::structured or Method::jacobian_contraction");
  CHECK(text(std::type_identity<StructureError>(), net.f, {.independent = false}) ==
        "ntk::full_on_disk: a function that mixes examples has no tiles to store; take Method::structured or Method::jacobian_contraction, and a function that treats examples independently");
  CHECK(text(std::type_identity<NumericalError>(), net.f, {.max_memory = 1000}).find(" bytes are needed, Options::max_memory is 1000; use fewer examples, the traced kernel, or ntk::Operator") != std::string::npos);
  CHECK_FALSE(fs::exists(partial(folder / "k")));
  const ntk::Apply large = [&](const Tree<Var>& p, const Var& v) { return net.f(p, v) * 1e200; };
  CHECK(text(std::type_identity<NumericalError>(), large, {}) ==
        "ntk::full_on_disk: the result is not finite although f is: a derivative of f is infinite, or a product overflows; scale the inputs or parameters, or compute in double");
  CHECK_FALSE(fs::exists(folder / "k"));
}
