// Kernels by several processes: the bits of one, errors on all, nobody left waiting. Runs by mpirun with 1, 2 and 3 processes; every test is run by all of them together.
#include "linnet/ntk/distributed.h"
#include "linnet/autodiff/config.h"
#include "linnet/autodiff/kernels/parallel.h"
#include "linnet/autodiff/primitive.h"
#include "store_problem.h"

#include <doctest/doctest.h>

#include <atomic>
#include <ctime>
#include <fstream>
#include <unistd.h>

using namespace networks;
using linnet::autodiff::NumericalError;
using linnet::autodiff::Progress;
using linnet::autodiff::ShapeError;
using linnet::autodiff::StructureError;
using ntk::Assembly;
using ntk::Distribution;
namespace ad = linnet::autodiff;
namespace fs = std::filesystem;

namespace {

const int rank = ntk::place().rank, ranks = ntk::place().ranks;

// What an error that rank r alone met says on all of them.
std::string from(int r, const std::string& operation, const std::string& text) {
  return ranks == 1 ? operation + ": " + text : operation + ": rank " + std::to_string(r) + " of " + std::to_string(ranks) + ": " + text;
}
const int last = ranks - 1;

template <class K> void check_kernel(const std::optional<K>& came, const K& expected, bool everywhere) {
  REQUIRE(came.has_value() == (everywhere || rank == 0));
  if (came) CHECK(came->matrix() == expected.matrix());
}

// Room for a kernel of these examples in panels of few tiles, and for messages.
Network wide() { return mlp(20, {300, 200}, 10); }
std::size_t little(const Network& net, const Array<double>& x) {
  const auto plan = ntk::plan_full(net.f, net.params, x);
  return plan.least + (plan.peak - plan.least) / 4 + (ranks > 1 ? 5000000 : 0);
}

// A folder that all processes of one mpirun know, made by rank 0 and gone with the test.
struct Folder {
  fs::path path = fs::temp_directory_path() / ("linnet_distributed_" + std::to_string(::getppid()));
  Folder() {
    if (rank == 0) fs::create_directory(path);
  }
  ~Folder() {
    if (rank == 0) fs::remove_all(path);
  }
  fs::path operator/(const char* name) const { return path / name; }
};
std::string bytes_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void a_kernel_works() {
  const Network net = store_problem::network();
  const Array<double> x = examples(net, 80, 3);
  check_kernel(ntk::full_distributed(net.f, net.params, x), ntk::full(net.f, net.params, x), false);
}

}  // namespace

TEST_CASE_TEMPLATE("a full kernel has the bits of one process, of one set of examples and of two", T, float, double) {
  const Network net = store_problem::network();  // tiles of 38 examples
  const auto params = as<T>(net.params);
  for (const Index n : {0, 1, 37, 38, 39, 77, 200}) {
    CAPTURE(n);
    const Array<T> x = as<T>(examples(net, n, 1));
    for (const bool everywhere : {false, true}) check_kernel(ntk::full_distributed(net.f, params, x, {}, {.everywhere = everywhere}), ntk::full(net.f, params, x), everywhere);
    for (const Index m : {0, 1, 100}) {
      CAPTURE(m);
      const Array<T> x2 = as<T>(examples(net, m, 2));
      check_kernel(ntk::full_distributed(net.f, params, x2, x), ntk::full(net.f, params, x2, x), false);
      check_kernel(ntk::full_distributed(net.f, params, x, x2, {.method = ntk::Method::jacobian_contraction}, {.everywhere = true}), ntk::full(net.f, params, x, x2, {.method = ntk::Method::jacobian_contraction}), true);
    }
  }
}

TEST_CASE_TEMPLATE("a traced kernel has the bits of one process, and so has one of a single output", T, float, double) {
  for (const Index outputs : {1, 3}) {
    const Network net = mlp(5, {8}, outputs);  // tiles of 384 examples
    const auto params = as<T>(net.params);
    for (const Index n : {1, 383, 1000}) {
      CAPTURE(n);
      const Array<T> x = as<T>(examples(net, n, 1)), x2 = as<T>(examples(net, 400, 2));
      for (const bool everywhere : {false, true}) check_kernel(ntk::traced_distributed(net.f, params, x, {}, {.everywhere = everywhere}), ntk::traced(net.f, params, x), everywhere);
      check_kernel(ntk::traced_distributed(net.f, params, x2, x), ntk::traced(net.f, params, x2, x), false);
    }
  }
}

TEST_CASE("every tile is computed once, by whoever it is, and little memory makes blocks smaller and changes no bit") {
  const Network net = wide();
  const Array<double> x = examples(net, 300, 1);  // 8 tiles down
  const ntk::FullKernel<double> expected = ntk::full(net.f, net.params, x);
  Assembly assembly;
  check_kernel(ntk::full_distributed(net.f, net.params, x, {}, {.everywhere = false, .assembly = &assembly}), expected, false);
  Assembly small;
  const ntk::Options options{.max_memory = little(net, x)};
  check_kernel(ntk::full_distributed(net.f, net.params, x, options, {.everywhere = false, .assembly = &small}), expected, false);
  if (rank > 0) return;
  for (const Assembly& a : {assembly, small}) {
    CHECK(a.ranks == ranks);
    CHECK(a.tiles == 8 * 9 / 2);
    CHECK(a.computing.size() == static_cast<std::size_t>(ranks));
    CHECK(a.swept >= 300);
    CHECK((ranks > 1 || a.sent == 0));
  }
  if (ranks == 1) CHECK(assembly.swept == 300);
  if (ranks == 1) CHECK(assembly.blocks == 1);
  if (ranks > 1) CHECK(assembly.blocks >= ranks);
  CHECK(small.panel < 8);
  CHECK(small.swept > 300);
  MESSAGE("panels of " << assembly.panel << " and of " << small.panel << " tiles; " << assembly.swept << " and " << small.swept << " examples swept; " << assembly.sent << " bytes sent");
}

TEST_CASE("arguments that differ between ranks are refused on all, with what differs and where") {
  if (ranks == 1) return;
  const Network net = store_problem::network();
  const Array<double> x = examples(net, 80, 3);
  const bool other = rank == last;
  const std::string start = from(last, "ntk::full_distributed", "the arguments are not those of rank 0: ");
  const auto refusal = [&](auto f) {
    const std::string text = message<StructureError>(f);
    CHECK(text.starts_with(start));
    CHECK(text.ends_with("; every rank makes the same call, with the same build of the library"));
    return text;
  };
  Array<double> changed = x;
  if (other) changed.data()[7] += 1e-9;
  std::string text = refusal([&] { ntk::full_distributed(net.f, net.params, changed); });
  CHECK(text.find(" x (") != text.npos);
  CHECK(text.find("params (") == text.npos);
  text = refusal([&] { ntk::full_distributed(net.f, net.params, x.rows(0, other ? 79 : 80)); });
  CHECK(text.find("rows (79, there 80)") != text.npos);
  const auto params = map([&](const Array<double>& a) {
    Array<double> b = a;
    if (other) b.data()[0] += 1;
    return b;
  }, net.params);
  text = refusal([&] { ntk::full_distributed(net.f, params, x); });
  CHECK(text.find("params (") != text.npos);
  text = refusal([&] { ntk::full_distributed([&](const Tree<Var>& p, const Var& v) { return other ? net.f(p, 2. * v) : net.f(p, v); }, net.params, x); });
  CHECK(text.find("network (") != text.npos);
  text = refusal([&] { ntk::full_distributed(net.f, net.params, x, {}, {.everywhere = other}); });
  CHECK(text.find("everywhere (yes, there no)") != text.npos);
  if (rank == 0) CHECK(message<StructureError>([&] { ntk::full_distributed(net.f, net.params, x); }).find("call (ntk::traced_distributed, there ntk::full_distributed)") != text.npos);
  else CHECK_THROWS_AS(rank == last ? (void)ntk::traced_distributed(net.f, net.params, x) : (void)ntk::full_distributed(net.f, net.params, x), StructureError);
  a_kernel_works();
}

TEST_CASE("what one rank throws all throw, with its rank, and what all throw alike as it is") {
  const Network net = store_problem::network();
  const Array<double> x = examples(net, 80, 3);
  const ntk::Apply f = [&](const Tree<Var>& p, const Var& v) {
    if (rank == last) throw std::runtime_error("no such file");
    return net.f(p, v);
  };
  CHECK(message<NumericalError>([&] { ntk::full_distributed(f, net.params, x); }) == (ranks == 1 ? "no such file" : from(last, "ntk::full_distributed", "no such file")));
  Array<double> nan = x;
  if (rank == last) nan.data()[5] = NAN;
  CHECK(message<NumericalError>([&] { ntk::full_distributed(net.f, net.params, nan); }) == from(last, "ntk::full_distributed", "x has nan at [0,5]; every value must be finite"));
  nan.data()[5] = NAN;
  CHECK(message<NumericalError>([&] { ntk::full_distributed(net.f, net.params, nan); }) == "ntk::full_distributed: x has nan at [0,5]; every value must be finite");
  CHECK(message<StructureError>([&] { ntk::full_distributed(net.f, net.params, x, {.method = ntk::Method::vector_products}); }).starts_with("ntk::full_distributed: Method::vector_products has no tiles"));
  CHECK_THROWS_AS(ntk::full_distributed(net.f, net.params, x, examples(mlp(3, {2}, 10), 4, 1)), ShapeError);
  a_kernel_works();
}

namespace {

// x, computed by a kernel that the tests direct: where it is armed it throws on the last rank, behind so many calls, and is slow on the others, so that this rank has its turn.
std::atomic<int> calls_left{-1};
template <class T> void directed_kernel(const ad::KernelCall<T>& call) {
  const bool armed = calls_left >= 0;
  if (armed && rank == last && calls_left-- == 0) throw std::runtime_error("the kernel of an operation failed");
  if (armed && rank != last) {
    const timespec moment{0, 20000000};
    ::nanosleep(&moment, nullptr);
  }
  std::copy_n(call.in[0], call.count() * call.out_shape.size(), call.out);
}
Var directed(const Var& x);
constexpr ad::Primitive directed_primitive{.name = "directed",
                                           .operands = {ad::Operand::linear},
                                           .joint = true,
                                           .infer = [](ad::Shapes in, const ad::Attributes&) { return in[0]; },
                                           .eval = {directed_kernel<float>, directed_kernel<double>},
                                           .transpose = [](const ad::Rule&, int, Var cotangent) { return directed(cotangent); },
                                           .flops = ad::no_flops};
Var directed(const Var& x) { return ad::emit(directed_primitive, std::array{x}); }

}  // namespace

TEST_CASE("a rank that fails in the middle of its work leaves nobody waiting") {
  const Network net = wide();
  const Array<double> x = examples(net, 300, 3);
  const ntk::Apply f = [&](const Tree<Var>& p, const Var& v) { return directed(net.f(p, v)); };
  const ntk::FullKernel<double> expected = ntk::full(f, net.params, x);
  const ntk::Options options{.max_memory = little(net, x)};
  calls_left = 4;  // three of them are checks; the last rank is in its first or second block
  const std::string text = message<NumericalError>([&] { ntk::full_distributed(f, net.params, x, options); });
  CHECK((calls_left < 0) == (rank == last));
  calls_left = -1;
  CHECK(text == (ranks == 1 ? "the kernel of an operation failed" : from(last, "ntk::full_distributed", "the kernel of an operation failed")));
  check_kernel(ntk::full_distributed(f, net.params, x, options), expected, false);

  ntk::Options directing = options;
  directing.progress = [](const Progress&) -> bool { throw std::runtime_error("the progress function failed"); };
  CHECK(message<NumericalError>([&] { ntk::full_distributed(f, net.params, x, directing); }) ==
        (ranks == 1 ? "the progress function failed" : from(0, "ntk::full_distributed", "the progress function failed")));
  check_kernel(ntk::full_distributed(f, net.params, x, options), expected, false);
}

TEST_CASE("a kernel that is not finite is refused on all ranks, with what made it so") {
  const Network net = network("linear", {3}, {{"W", {3, 10}}}, [](const Tree<Var>& p, const Var& x) { return dot(x, p["W"]); });
  Array<double> x = examples(net, 200, 1);
  for (double& v : x) v *= 1e200;
  const std::string one = message<NumericalError>([&] { ntk::full(net.f, net.params, x); }), text = message<NumericalError>([&] { ntk::full_distributed(net.f, net.params, x); });
  REQUIRE(one.starts_with("ntk::full: "));
  CHECK(text.starts_with("ntk::full_distributed: "));
  CHECK(text.ends_with(one.substr(10)));
  a_kernel_works();
}

TEST_CASE("progress is asked on rank 0 alone, counts all tiles, and cancels all ranks") {
  const Network net = store_problem::network();
  const Array<double> x = examples(net, 200, 1);
  std::size_t done = 0, total = 0, calls = 0;
  ntk::full_distributed(net.f, net.params, x, {.progress = [&](const Progress& p) {
    done = p.done, total = p.total, ++calls;
    return true;
  }});
  CHECK((calls > 0) == (rank == 0));
  if (rank == 0) CHECK((done == 21 && total == 21));
  const std::string text = message<NumericalError>([&] { ntk::full_distributed(net.f, net.params, x, {.progress = [](const Progress&) { return false; }}); });
  CHECK(text.starts_with(ranks == 1 ? "ntk: cancelled by the progress function after " : from(0, "ntk::full_distributed", "ntk: cancelled by the progress function after ")));
  CHECK(text.ends_with(" of 21 kernel tiles"));
  a_kernel_works();
}

TEST_CASE("a rank with too little memory is named on all") {
  const Network net = store_problem::network();
  const Array<double> x = examples(net, 200, 1);
  const std::string text = message<NumericalError>([&] { ntk::full_distributed(net.f, net.params, x, {.max_memory = rank == last ? std::size_t{1000} : std::size_t{1} << 30}); });
  CHECK(text.starts_with(ranks == 1 ? "ntk::full_distributed: " : from(last, "ntk::full_distributed", "")));
  CHECK(text.find(" bytes are needed (") != text.npos);
  CHECK(text.find("1000 are allowed by Options::max_memory; use fewer examples, the traced kernel, or one on disk") != text.npos);
  a_kernel_works();
}

TEST_CASE("another thread than the main one is refused") {
  const Network net = store_problem::network();
  const Array<double> x = examples(net, 5, 1);
  CHECK(message<StructureError>([&] { ad::parallel_for(1, [&](Index) { ntk::full_distributed(net.f, net.params, x); }); }) ==
        "ntk::full_distributed: called from another thread than the one that initialized MPI; call it from that one");
}

TEST_CASE_TEMPLATE("a kernel on disk is the file of one process, and one that was cut short is taken up", T, float, double) {
  const Folder folder;
  const Network net = store_problem::network();
  const auto params = as<T>(net.params);
  const Array<T> x = as<T>(examples(net, 200, 1)), x2 = as<T>(examples(net, 90, 2));
  const auto same = [&](const char* a, const char* b) {
    if (rank == 0) CHECK(bytes_of(folder / a) == bytes_of(folder / b));
  };
  if (rank == 0) {
    ntk::full_on_disk(folder / "one", net.f, params, x);
    ntk::traced_on_disk(folder / "two", net.f, params, x2, x);
    ntk::full_on_disk(folder / "none", net.f, params, x.rows(0, 0));
  }
  const auto k = ntk::full_on_disk_distributed(folder / "a", net.f, params, x);
  CHECK(k.has_value() == (rank == 0));
  same("a", "one");
  ntk::traced_on_disk_distributed(folder / "b", net.f, params, x2, x);
  same("b", "two");
  ntk::full_on_disk_distributed(folder / "c", net.f, params, x.rows(0, 0));
  same("c", "none");

  ntk::Options cancel{.progress = [](const Progress&) { return false; }};
  CHECK_THROWS_AS(ntk::full_on_disk_distributed(folder / "d", net.f, params, x, cancel), NumericalError);
  if (rank == 0) {
    CHECK_FALSE(fs::exists(folder / "d"));
    CHECK(fs::exists(folder / "d.partial"));
  }
  std::size_t computed = 0;
  Assembly assembly;
  ntk::full_on_disk_distributed(folder / "d", net.f, params, x, {.progress = [&](const Progress& p) { return computed = p.done, true; }}, {.everywhere = false, .assembly = &assembly});
  same("d", "one");
  if (rank == 0) CHECK(computed == 21);
  if (rank == 0) CHECK(assembly.tiles < 21);
  const auto again = ntk::full_on_disk_distributed(folder / "d", net.f, params, x);  // nothing to do
  if (rank == 0) CHECK(again->matrix() == ntk::full(net.f, params, x).matrix());

  const std::string text = message<StructureError>([&] { ntk::full_on_disk_distributed(folder / "d", net.f, params, x.rows(0, 100)); });
  CHECK(text.starts_with(from(0, "ntk::full_on_disk_distributed", "'")));
  CHECK(text.find("was made from something else: rows (200, here 100)") != text.npos);
  const std::string nowhere = message<StructureError>([&] { ntk::full_on_disk_distributed("/nowhere/k", net.f, params, x); });
  CHECK(nowhere == from(0, "ntk::full_on_disk_distributed", "'/nowhere/k.partial' cannot be written: No such file or directory"));
}

TEST_CASE("in a folder that all see every rank writes its tiles itself, and none goes over rank 0") {
  const Folder folder;
  const Network net = store_problem::network();
  const Array<double> x = examples(net, 200, 1), x2 = examples(net, 90, 2);
  if (rank == 0) {
    ntk::full_on_disk(folder / "one", net.f, net.params, x);
    ntk::full_on_disk(folder / "two", net.f, net.params, x2, x);
  }
  Assembly assembly;
  const Distribution shared{.everywhere = false, .shared_folder = true, .assembly = &assembly};
  const auto k = ntk::full_on_disk_distributed(folder / "a", net.f, net.params, x, {}, shared);
  CHECK(k.has_value() == (rank == 0));
  if (rank == 0) CHECK(bytes_of(folder / "a") == bytes_of(folder / "one"));
  if (rank == 0) CHECK(assembly.tiles == 21);
  if (rank == 0) CHECK(assembly.sent < 10000);
  ntk::full_on_disk_distributed(folder / "b", net.f, net.params, x2, x, {}, shared);
  if (rank == 0) CHECK(bytes_of(folder / "b") == bytes_of(folder / "two"));
  CHECK_THROWS_AS(ntk::full_on_disk_distributed(folder / "c", net.f, net.params, x, {.progress = [](const Progress&) { return false; }}, shared), NumericalError);
  std::size_t bytes = 0;
  ntk::full_on_disk_distributed(folder / "c", net.f, net.params, x, {.progress = [&](const Progress& p) { return bytes = p.bytes, true; }}, shared);
  if (rank == 0) CHECK(bytes_of(folder / "c") == bytes_of(folder / "one"));
  if (rank == 0) CHECK((bytes > 0 && bytes < bytes_of(folder / "one").size()));
}

TEST_CASE("of a file that is there in part only the tiles that are missing or damaged are computed, whoever does it") {
  const Folder folder;
  const Network net = wide();
  const Array<double> x = examples(net, 300, 1);
  constexpr Index tile = 380, rows = 3000;
  const auto record = [](Index h, Index b) { return 64 + (h * b * 8 + 63) / 64 * 64; };  // as docs/kernel_file.md has it
  for (const bool shared : {false, true}) {
    std::string expected;
    Index damaged = 0;
    if (rank == 0) {
      ntk::full_on_disk(folder / "k", net.f, net.params, x);
      std::string file = expected = bytes_of(folder / "k");
      for (Index i = 0; i < 8; ++i)
        for (Index j = (i + 1) % 2; j <= i; j += 2) {
          const Index at = 4096 + i * (i + 1) / 2 * record(tile, tile) + j * record(std::min(tile, rows - i * tile), tile) + 64;
          file[static_cast<std::size_t>(at)] = static_cast<char>(file[static_cast<std::size_t>(at)] ^ 1);
          ++damaged;
        }
      fs::remove(folder / "k");
      std::ofstream(folder / "k.partial", std::ios::binary) << file;
    }
    Assembly assembly;
    ntk::full_on_disk_distributed(folder / "k", net.f, net.params, x, {}, {.everywhere = false, .shared_folder = shared, .assembly = &assembly});
    if (rank == 0) CHECK(bytes_of(folder / "k") == expected);
    if (rank == 0) CHECK(damaged == 16);
    if (rank == 0) CHECK(assembly.tiles == damaged);
    if (ranks == 2 && rank == 0) CHECK(assembly.panel == 2);  // some tiles of a block, and not all
    if (rank == 0) fs::remove(folder / "k");
  }
}

TEST_CASE("a rank that does not see the file, or sees another one, is named on all") {
  if (ranks == 1) return;
  const Folder folder;
  const Network net = store_problem::network();
  const Array<double> x = examples(net, 200, 1);
  const auto refusal = [&](const std::string& name) {
    return message<StructureError>([&] { ntk::full_on_disk_distributed(folder / (rank == last ? name : "k").c_str(), net.f, net.params, x, {}, {.everywhere = false, .shared_folder = true}); });
  };
  const auto partial = [&](const char* name) { return "'" + (folder / name).string() + ".partial' "; };
  const std::string operation = "ntk::full_on_disk_distributed";
  if (rank == 0) {
    std::ofstream(folder / "other.partial") << "something";
  }
  CHECK(refusal("none") == from(last, operation, partial("none") + "of rank 0 cannot be written: No such file or directory; it must be in a folder that all ranks see"));
  CHECK(refusal("other") == from(last, operation, partial("other") + "is no kernel file; it must be in a folder that all ranks see"));
  CHECK_THROWS_AS(ntk::full_on_disk_distributed(folder / "of_other", net.f, net.params, x.rows(0, 100), {.progress = [](const Progress&) { return false; }}), NumericalError);
  const std::string text = refusal("of_other");
  CHECK(text.starts_with(from(last, operation, partial("of_other") + "was made from something else: ")));
  CHECK(text.find("rows (100, here 200)") != text.npos);
  ntk::full_on_disk_distributed(folder / "k", net.f, net.params, x, {}, {.everywhere = false, .shared_folder = true});
  if (rank == 0) CHECK(ntk::StoredKernel<double>(folder / "k").matrix() == ntk::full(net.f, net.params, x).matrix());
}
