// Bounded memory: what there is, that no limit changes a bit, that plans say what they take, and that they take it.
#include "networks_of_layers.h"

#include "networks_by_hand.h"

#include "linnet/autodiff/table.h"
#include "linnet/ntk/memory.h"

#include <doctest/doctest.h>

#include <cstdio>
#include <fstream>
#include <unistd.h>

using namespace networks;
using linnet::autodiff::NumericalError;
using ntk::Method;
namespace fs = std::filesystem;

namespace {

// A tree of files in place of /proc and /sys.
class Root {
 public:
  Root() : path_(fs::temp_directory_path() / ("linnet_memory_" + std::to_string(getpid()))) { fs::remove_all(path_); }
  ~Root() { fs::remove_all(path_); }
  void write(const std::string& file, const std::string& text) const {
    fs::create_directories((path_ / file).parent_path());
    std::ofstream(path_ / file) << text;
  }
  std::size_t available() const { return ntk::available_memory(path_); }

 private:
  fs::path path_;
};

constexpr std::size_t no_limit = std::numeric_limits<std::size_t>::max();

// The least bytes that a computation names when it has one.
template <class F> std::size_t least(F&& run) {
  const std::string text = message<NumericalError>([&] { run(1); });
  const std::size_t at = text.find(": ");
  CAPTURE(text);
  REQUIRE(text.find(" bytes are needed") != std::string::npos);
  return std::stoul(text.substr(at + 2));
}

template <class T> void check_bits(const Network& net, Index n1, Index n2, Method method) {
  CAPTURE(net.name);
  CAPTURE(n1);
  CAPTURE(static_cast<int>(method));
  const auto params = as<T>(net.params);
  const Array<T> x1 = as<T>(examples(net, n1, 1)), x2 = as<T>(examples(net, n2, 2));
  const auto check = [&](auto&& run) {
    const std::size_t few = least(run);
    const auto all = run(no_limit);
    CHECK(run(few) == all);
    CHECK(run(few + few / 2) == all);
    CHECK(run(2 * few) == all);
  };
  const auto with = [&](std::size_t bytes) { return ntk::Options{.method = method, .max_memory = bytes}; };
  check([&](std::size_t bytes) { return ntk::full(net.f, params, x1, with(bytes)).matrix(); });
  check([&](std::size_t bytes) { return ntk::full(net.f, params, x2, x1, with(bytes)).matrix(); });
  check([&](std::size_t bytes) { return ntk::traced(net.f, params, x1, with(bytes)).matrix(); });
  check([&](std::size_t bytes) { return ntk::traced(net.f, params, x2, x1, with(bytes)).matrix(); });
}

}  // namespace

TEST_CASE("the memory there is is the least of the machine's and the control groups'") {
  const Root root;
  CHECK(root.available() == no_limit);  // nothing can be read
  root.write("proc/meminfo", "MemTotal:       1000000 kB\nMemFree: 5 kB\nMemAvailable:    2000 kB\n");
  CHECK(root.available() == 2048000);
  root.write("proc/self/cgroup", "0::/a/b\n");
  CHECK(root.available() == 2048000);
  root.write("sys/fs/cgroup/a/b/memory.max", "max\n");
  root.write("sys/fs/cgroup/a/b/memory.current", "500\n");
  CHECK(root.available() == 2048000);
  root.write("sys/fs/cgroup/a/memory.max", "1000000\n");  // of the group above
  root.write("sys/fs/cgroup/a/memory.current", "400000\n");
  CHECK(root.available() == 600000);
  root.write("sys/fs/cgroup/a/memory.stat", "anon 5\ninactive_file 100000\n");  // file cache that it would give back
  CHECK(root.available() == 700000);
  root.write("sys/fs/cgroup/a/b/memory.max", "1000\n");
  root.write("sys/fs/cgroup/a/b/memory.current", "3000\n");  // beyond its limit already
  CHECK(root.available() == 0);
}

TEST_CASE("control groups of version 1 count too, and paths of a host that are not in the container") {
  const Root root;
  root.write("proc/self/cgroup", "12:cpu,cpuacct:/x\n5:blkio,memory:/docker/abc\n1:name=systemd:/\n0::/\n");
  CHECK(root.available() == no_limit);
  root.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9000\n");
  root.write("sys/fs/cgroup/memory/memory.usage_in_bytes", "5000\n");
  CHECK(root.available() == 4000);
  root.write("sys/fs/cgroup/memory/memory.stat", "inactive_file 3\ntotal_inactive_file 500\n");
  CHECK(root.available() == 4500);
  root.write("proc/meminfo", "MemAvailable: 2 kB\n");
  CHECK(root.available() == 2048);
  root.write("proc/self/cgroup", "nonsense\n:\n");
  CHECK(root.available() == 2048);
}

TEST_CASE("the limit is what is asked for, or nine tenths of what there is") {
  CHECK(ntk::memory_limit({.max_memory = 12345}) == 12345);
  const std::size_t there = ntk::available_memory();
  CHECK(there > 0);
  const double limit = static_cast<double>(ntk::memory_limit({}));
  if (there != no_limit) CHECK(limit <= 0.95 * static_cast<double>(fs::exists("/proc/meminfo") ? std::size_t(1) << 45 : there));
  CHECK(linnet::autodiff::in_bytes(12) == "12 B");
  CHECK(linnet::autodiff::in_bytes(999) == "999 B");
  CHECK(linnet::autodiff::in_bytes(1234567) == "1.23 MB");
  CHECK(linnet::autodiff::in_bytes(45.6e9) == "45.6 GB");
}

TEST_CASE_TEMPLATE("a kernel has the same bits in the least memory and in any", T, float, double) {
  check_bits<T>(mlp(5, {6, 7}, 3), 300, 140, Method::structured);  // 128 examples a tile, 128 a chunk
  check_bits<T>(mlp(5, {6}, 10), 130, 77, Method::structured);     // 38 and 102: panels begin within chunks
  check_bits<T>(mlp(5, {6}, 1), 800, 390, Method::structured);
  check_bits<T>(mlp(5, {6}, 3), 300, 5, Method::jacobian_contraction);
}

// Of several tiles, where a parameter has positions, is used as it is and transposed, is a factor of parameters alone, or has its gradient.
TEST_CASE("a kernel has the same bits in the least memory, however a parameter is used") {
  for (const Network& net : by_hand()) {
    const auto params = as<float>(net.params);
    const Array<float> few = as<float>(examples(net, 2, 1));
    const Index n = 384 / ntk::full(net.f, params, few).outputs() + 10;
    if (n > 220) continue;  // pairs take long
    CAPTURE(net.name);
    const Array<float> x = as<float>(examples(net, n, 1));
    const auto run = [&](std::size_t bytes) { return ntk::full(net.f, params, x, {.max_memory = bytes}).matrix(); };
    CHECK(run(least(run)) == run(no_limit));
  }
}

TEST_CASE_TEMPLATE("what does not fit says what is needed, what there is and what would fit", T, float, double) {
  const Network net = mlp(5, {6}, 3);
  const auto params = as<T>(net.params);
  const Array<T> x = as<T>(examples(net, 400, 1)), x2 = as<T>(examples(net, 60, 1));
  const std::size_t few = least([&](std::size_t bytes) { return ntk::full(net.f, params, x, {.max_memory = bytes}); });
  const std::string text = message<NumericalError>([&] { ntk::full(net.f, params, x, {.max_memory = few / 2}); });
  CAPTURE(text);
  const std::string head = "ntk::full: " + std::to_string(few) + " bytes are needed (" + std::to_string(1200 * 1200 * sizeof(T)) + " of them the kernel), Options::max_memory is " + std::to_string(few / 2) +
                           "; use fewer examples, the traced kernel, or ntk::Operator (";
  REQUIRE(text.starts_with(head));
  CHECK(text.ends_with(" examples would fit)"));
  const Index fit = std::stol(text.substr(head.size()));
  CHECK(fit > 0);
  CHECK(fit < 400);
  CHECK(ntk::full(net.f, params, x.rows(0, fit), {.max_memory = few / 2}).rows() == fit);
  CHECK(message<NumericalError>([&] { ntk::full(net.f, params, x.rows(0, fit + 1), {.max_memory = few / 2}); }).starts_with("ntk::full: "));
  const std::size_t two = least([&](std::size_t bytes) { return ntk::full(net.f, params, x2, x, {.max_memory = bytes}); });
  CHECK(message<NumericalError>([&] { ntk::full(net.f, params, x2, x, {.max_memory = two - 1}); }).ends_with(" columns would fit)"));
}

TEST_CASE_TEMPLATE("the operator has the same bits with residuals kept and streamed", T, float, double) {
  std::vector<Network> nets{convolutional(), transformer(), branches()};
  for (const Network& net : {mlp(5, {6, 7}, 3), mlp(20, {30}, 1)}) nets.push_back(net);
  for (const Network& net : nets)
    for (const Index n : net.name.starts_with("mlp") ? std::vector<Index>{512, 600} : std::vector<Index>{512}) {
      CAPTURE(net.name);
      const auto params = as<T>(net.params);
      const Array<T> x = as<T>(examples(net, n, 1));
      const std::size_t few = least([&](std::size_t bytes) { return ntk::Operator<T>(net.f, params, x, {.max_memory = bytes}); });
      const ntk::Operator<T> kept(net.f, params, x), streamed(net.f, params, x, {.max_memory = few});
      CHECK(kept.resident());
      CHECK_FALSE(streamed.resident());
      CHECK(streamed.bytes() == few);
      CHECK(kept.bytes() > few);
      const ntk::Operator<T> exactly(net.f, params, x, {.max_memory = kept.bytes()});
      CHECK(exactly.resident());
      CHECK(kept.value() == streamed.value());
      const Array<T> v = as<T>(Draw(3).array(kept.value().shape()));
      CHECK(kept(v) == streamed(v));
      CHECK(kept.vjp(v) == streamed.vjp(v));
      CHECK(streamed(v) == streamed(v));
    }
  const Network net = mlp(5, {6}, 3);
  const Array<T> x = as<T>(examples(net, 300, 1));
  for (const Index n : {256, 257}) {  // one chunk, and one and a part: residuals are there anyway
    const auto run = [&](std::size_t bytes) { return ntk::Operator<T>(net.f, as<T>(net.params), x.rows(0, n), {.max_memory = bytes}); };
    CHECK(run(least(run)).resident());
  }
  const std::string text = message<NumericalError>([&] { ntk::Operator<T>(net.f, as<T>(net.params), x, {.max_memory = 1000}); });
  CHECK(text.starts_with("ntk::Operator: "));
  CHECK(text.ends_with(" bytes are needed to go over 300 examples 256 at a time, and there are 1000 (Options::max_memory); use fewer examples"));
}

TEST_CASE_TEMPLATE("a plan says the method, why every parameter is treated so, and the memory; and what it states is the limit to the byte", T, float, double) {
  const Network net = of_layers("mlp", nn::serial({nn::Dense(6, {1.5, 0.1}), nn::Erf(), nn::Dense(2, {1.5, 0.1})}), {4});
  const auto params = as<T>(net.params);
  const Array<T> x = as<T>(examples(net, 520, 1)), x2 = as<T>(examples(net, 50, 2));
  const ntk::KernelPlan all = ntk::plan_full(net.f, params, x, {.max_memory = 1000000000});
  CHECK(all.method == Method::structured);
  CHECK(all.result == 1040 * 1040 * sizeof(T));
  CHECK(all.tile == 192);
  CHECK(all.tiles == 3);
  CHECK(all.panel == 3);
  CHECK(all.fits());
  CHECK(all.available == 1000000000);
  CHECK(all.least < all.peak);
  CHECK(all.flops > 0);
  for (const char* part : {"ntk::full of 520 by 520 examples, 2 outputs, ", "structured ", "as Options::method says", "dense_0/W [4,6]", "factors: ", " times fewer operations", "factors: beside a weight they cost nothing",
                           "in flight: 3 tiles of 192 examples at a time, down and across, of 3 by 3", " at most, ", "1.00 GB are allowed"}) {
    CAPTURE(std::string(part));
    CAPTURE(all.table);
    CHECK(all.table.find(part) != std::string::npos);
  }
  const auto needed = [&](std::size_t bytes) { return ntk::plan_full(net.f, params, x, {.max_memory = bytes}); };
  CHECK(needed(all.peak).panel == 3);
  CHECK(needed(all.peak - 1).panel < 3);
  CHECK(needed(all.least).panel == 1);
  CHECK(needed(all.least).peak == all.least);
  CHECK_FALSE(needed(all.least - 1).fits());
  CHECK(least([&](std::size_t bytes) { return ntk::full(net.f, params, x, {.max_memory = bytes}); }) == all.least);
  CHECK(ntk::plan_traced(net.f, params, x).result == 520 * 520 * sizeof(T));
  CHECK(ntk::plan_full(net.f, params, x2, x).result == 100 * 1040 * sizeof(T));
  CHECK(ntk::plan_traced(net.f, params, x2, x).table.find("ntk::traced of 50 by 520 examples") == 0);
  CHECK(ntk::plan_full(net.f, params, x.rows(0, 0)).peak == 0);
  CHECK(ntk::plan_full(net.f, params, x2, {.method = Method::jacobian_contraction}).table.find("gradients: the method") != std::string::npos);
  CHECK(ntk::plan_full(net.f, params, x2, {.method = Method::automatic}).table.find("the fewest") != std::string::npos);
  CHECK(ntk::plan_full(net.f, params, x2, {.independent = false}).table.find("the only method where examples are mixed") != std::string::npos);
  const ntk::KernelPlan products = ntk::plan_full(net.f, params, x2, {.method = Method::vector_products});
  CHECK(products.method == Method::vector_products);
  CHECK(products.panel == 0);
  CHECK(products.peak > products.result);
}

TEST_CASE("where memory is short one chunk of examples at a time goes through the network, to the same bits") {
  const Network net = of_layers("large between small", nn::serial({nn::Conv(3, {3, 3}, {.padding = nn::Padding::same}), nn::Relu(), nn::AvgPool({3, 3}, {.padding = nn::Padding::same}), nn::GlobalAvgPool(), nn::Dense(1)}), {12, 12, 2});
  const auto params = as<float>(net.params);
  const Array<float> x = as<float>(examples(net, 400, 1));
  const int before = linnet::autodiff::threads();
  linnet::autodiff::set_threads(3);
  const auto plan = [&](std::size_t bytes) { return ntk::plan_full(net.f, params, x, {.max_memory = bytes}); };
  const ntk::KernelPlan all = plan(1000000000), alone = plan(all.least);
  CHECK(all.table.find("; one chunk of examples at a time") == std::string::npos);
  CHECK(alone.table.find("; one chunk of examples at a time") != std::string::npos);
  CHECK(alone.peak == all.least);
  CHECK(alone.peak < all.peak);
  CHECK(ntk::full(net.f, params, x, {.max_memory = alone.peak}).matrix() == ntk::full(net.f, params, x).matrix());
  linnet::autodiff::set_threads(before);
}

TEST_CASE("a plan says which parameters have no factors, and which are not used") {
  std::string text;
  for (const Network& net : by_hand()) text += ntk::plan_full(net.f, net.params, examples(net, 3, 1)).table;
  for (const char* part : {"not used", "gradients: it has no factors", "gradients: "}) CHECK(text.find(part) != std::string::npos);
}

TEST_CASE("the kernel of a table of 50,000 rows has no room for a gradient of it") {
  const Network net = network("large table", {12}, {{"E", {50000, 16}}, {"V", {16, 2}}}, [](const Tree<Var>& p, const Var& x) {
    const Index n = x.shape()[0];
    return dot(tanh(sum(reshape(gather(p["E"], reshape(x, {12 * n})), {n, 12, 16}), {1})), p["V"]);
  }, 50000);
  const auto params = as<float>(net.params);
  const Array<float> x = as<float>(examples(net, 100, 1));
  const std::size_t gradient = sizeof(float) * 50000 * 16, allowed = gradient;  // of one output of one example
  const ntk::KernelPlan plan = ntk::plan_full(net.f, params, x, {.max_memory = allowed});
  CHECK(plan.fits());
  CHECK(plan.least < gradient);
  CHECK(ntk::full(net.f, params, x, {.max_memory = allowed}).matrix() == ntk::full(net.f, params, x).matrix());
  CHECK_FALSE(ntk::plan_full(net.f, params, x, {.method = Method::jacobian_contraction, .max_memory = 10 * allowed}).fits());
}

#ifdef LINNET_MEMORY_CHILD
// Not where a sanitizer keeps memory of its own.
TEST_CASE("a process takes what the plan states, of 256 MB and more: never 15 % beyond it") {
  const auto measure = [](const std::string& what, std::size_t max_memory) {
    const std::string command = std::string("OMP_NUM_THREADS=2 ") + LINNET_MEMORY_CHILD + " " + what + " " + std::to_string(max_memory);
    std::size_t stated = 0, before = 0, most = 0;
    FILE* const out = popen(command.c_str(), "r");
    REQUIRE(out);
    const int read = std::fscanf(out, "%zu %zu %zu", &stated, &before, &most);
    CHECK(pclose(out) == 0);
    REQUIRE(read == 3);
    CAPTURE(what);
    CAPTURE(stated);
    CAPTURE(before);
    CAPTURE(most);
    CHECK(stated >= 256 * 1000 * 1000);
    CHECK(static_cast<double>(most - before) <= 1.15 * static_cast<double>(stated));
    CHECK(static_cast<double>(most - before) >= 0.7 * static_cast<double>(stated));  // nor does it state what it never takes
    return stated;
  };
  measure("full", 0);
  measure("traced", 0);
  const std::size_t all = measure("gradients", 0);
  CHECK(measure("gradients", all - all / 5) < all);
}

TEST_CASE("a process takes less for the kernel of a large table than one gradient of it for every example") {
  FILE* const out = popen((std::string("OMP_NUM_THREADS=2 ") + LINNET_MEMORY_CHILD + " gathered 0").c_str(), "r");
  REQUIRE(out);
  std::size_t stated = 0, before = 0, most = 0;
  const int read = std::fscanf(out, "%zu %zu %zu", &stated, &before, &most);
  CHECK(pclose(out) == 0);
  REQUIRE(read == 3);
  CAPTURE(stated);
  CAPTURE(before);
  CAPTURE(most);
  const double megabyte = 1e6, gradients = 300 * 50000 * 16 * sizeof(float);  // 960 MB
  CHECK(static_cast<double>(most - before) <= 1.15 * static_cast<double>(stated) + 16 * megabyte);
  CHECK(static_cast<double>(most - before) <= gradients / 20);
}
#endif
