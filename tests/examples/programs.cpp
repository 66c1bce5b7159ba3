// The programs themselves, run as a user runs them; and that the README shows what they are and print.
#include "linnet/autodiff/derivative.h"
#include "linnet/autodiff/npy.h"
#include "linnet/autodiff/ops.h"
#include "linnet/tests/examples/files.h"

#include <doctest/doctest.h>

#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <sstream>

using linnet::tests::contains;
using linnet::tests::Folder;
using linnet::tests::read_text;

namespace {

struct Ended {
  int code = -1;     // of the exit; -1 after a signal
  std::string text;  // standard output and standard error
};

Ended run(const std::string& command) {
  Ended ended;
  FILE* out = popen(("'" LINNET_PROGRAMS "'/" + command + " 2>&1").c_str(), "r");
  REQUIRE(out != nullptr);
  char block[4096];
  while (const std::size_t n = std::fread(block, 1, sizeof block, out)) ended.text.append(block, n);
  const int status = pclose(out);
  if (WIFEXITED(status)) ended.code = WEXITSTATUS(status);
  return ended;
}

// What stands in the README between a line and the next ```.
std::string readme_block(const std::string& opening) {
  const std::string text = read_text(LINNET_SOURCE "/README.md");
  const std::size_t at = text.find("\n" + opening + "\n");
  REQUIRE(at != std::string::npos);
  const std::size_t from = at + opening.size() + 2;
  return text.substr(from, text.find("```", from) - from);
}

const std::string small = "weight_space --data sine --n-train 4 --n-test 5 --width 8 --depth 1 --t-max 100 --max-steps 10 ";

}  // namespace

TEST_CASE("the README's program is examples/readme.cpp, and prints what the README says") {
  const std::string source = read_text(LINNET_SOURCE "/examples/readme.cpp");
  CHECK(readme_block("```cpp") == source.substr(source.find("#include")));
  const Ended ended = run("readme");
  CHECK(ended.code == 0);
  CHECK(readme_block("```text") == ended.text);
}

TEST_CASE("the README's function can be differentiated as it says") {
  const linnet::autodiff::Array<double> x({2}, {0.5, -1}), v({2}, {1, 2});
  auto f = [](linnet::autodiff::Var x) { return sum(tanh(x) * x); };
  linnet::autodiff::Array<double> g = linnet::autodiff::grad(f, x), hv = linnet::autodiff::hvp(f, x, v);
  for (linnet::autodiff::Index i = 0; i < 2; ++i) {
    const double t = std::tanh(x[{i}]), slope = 1 - t * t;
    CHECK(g[{i}] == doctest::Approx(t + x[{i}] * slope).epsilon(1e-14));
    CHECK(hv[{i}] == doctest::Approx(v[{i}] * (2 * slope - 2 * x[{i}] * t * slope)).epsilon(1e-14));
  }
}

TEST_CASE("every part of docs/extending.md is examples/own_primitive.cpp, which prints what the page says") {
  const std::string page = read_text(LINNET_SOURCE "/docs/extending.md"), source = read_text(LINNET_SOURCE "/examples/own_primitive.cpp");
  std::string blocks, parts;
  for (std::size_t at = 0; (at = page.find("```cpp\n", at)) != std::string::npos;) {
    const std::size_t from = at + 7;
    at = page.find("```\n", from);
    REQUIRE(at != std::string::npos);
    blocks += page.substr(from, at - from);
  }
  for (std::size_t at = 0; (at = source.find("]\n", at)) != std::string::npos; ++at) {  // from a line "// [name]" to the next "// [end]"
    const std::size_t line = source.rfind('\n', at) + 1;
    if (source.compare(line, 4, "// [") != 0 || source.compare(line, 9, "// [end]\n") == 0) continue;
    const std::size_t end = source.find("// [end]\n", at);
    REQUIRE(end != std::string::npos);
    parts += source.substr(at + 2, end - at - 2);
  }
  CHECK(parts.size() > 2500);
  CHECK(blocks == parts);
  const Ended ended = run("own_primitive");
  CHECK(ended.code == 0);
  const std::size_t from = page.find("```text\n") + 8;
  CHECK(page.substr(from, page.find("```", from) - from) == ended.text);
}

TEST_CASE("the recurrent example traces one step, and its gradients and kernels agree") {
  const Ended ended = run("recurrent");
  CAPTURE(ended.text);
  CHECK(ended.code == 0);
  for (const std::string part : {"gradients over 8 steps, loop and unrolled, differ by at most 1e-13", "structured ", "jacobian_contraction ", "vector_products ", "automatic "}) {
    CAPTURE(part);
    CHECK(contains(ended.text, part));
  }
  CHECK(!contains(ended.text, "more than"));
  // The rows "steps loop unrolled": the loop's instructions are always as many, the unrolled ones grow.
  int steps = 0, loop = 0, unrolled = 0, first = 0, before = 0, rows = 0;
  std::istringstream lines(ended.text);
  for (std::string line; std::getline(lines, line);) {
    if (std::sscanf(line.c_str(), "%d steps %d %d", &steps, &loop, &unrolled) != 3) continue;
    if (rows++ == 0) first = loop;
    CHECK(loop == first);
    CHECK(unrolled > before);
    before = unrolled;
  }
  CHECK(rows == 4);
  CHECK(steps == 1000);
  CHECK(unrolled > 1000 * 5);
}

TEST_CASE("the infinite-width example shows finite kernels going to their limit") {
  const Ended ended = run("infinite_width");
  CAPTURE(ended.text);
  CHECK(ended.code == 0);
  double before_one = 1e9, one = 0, mean = 0;
  int width = 0, rows = 0;
  std::istringstream lines(ended.text);
  for (std::string line; std::getline(lines, line);) {
    if (std::sscanf(line.c_str(), "%d %lf %lf", &width, &one, &mean) != 3) continue;
    CHECK(one < before_one / 1.5);
    CHECK(mean < one);
    before_one = one;
    ++rows;
  }
  CHECK(rows == 4);
  CHECK(mean < 0.02);
}

TEST_CASE("weight_space writes the figure's data, its script, and weights that are a tree") {
  const Folder folder;
  const Ended ended = run(small + "--no-plot --theta-at 10 --out '" + folder.path().string() + "/a/b'");
  CAPTURE(ended.text);
  CHECK(ended.code == 0);
  for (const std::string part : {"data      sine", "about to  assemble the kernel of 4 rows", "kernel    rank 4 of 4", "(a) and (b) differ by at most", "within the bound", "(c) departs from (a)", "took"}) {
    CAPTURE(part);
    CHECK(contains(ended.text, part));
  }
  CHECK(!contains(ended.text, "nan"));
  const std::string csv = read_text(folder.path() / "a/b/weight_space.csv");
  CHECK(csv.substr(0, 28) == "t,train_loss_function_space,");
  CHECK(contains(csv, "\ninf,"));
  CHECK(std::filesystem::exists(folder.path() / "a/b/weight_space.gp"));
  const auto theta = linnet::autodiff::load_tree<double>(folder.path() / "a/b/theta.npz");
  CHECK(theta.paths() == std::vector<std::string>{"dense_0/W", "dense_0/b", "dense_2/W", "dense_2/b"});
}

TEST_CASE("the table of weight_space has the same bits for one thread and for three") {
  const Folder folder;
  const std::string data = "weight_space --n-train 12 --n-test 7 --width 33 --t-max 1000 --max-steps 20 --no-plot --quiet --out '" + folder.path().string();
  CHECK(run(data + "/1' --threads 1").code == 0);
  CHECK(run(data + "/3' --threads 3").code == 0);
  const std::string csv = read_text(folder.path() / "1/weight_space.csv");
  CHECK(csv.size() > 1000);
  CHECK(csv == read_text(folder.path() / "3/weight_space.csv"));
  CHECK(read_text(folder.path() / "1/theta.npz") == read_text(folder.path() / "3/theta.npz"));
}

TEST_CASE("weight_space ends with 2 after a mistake on the command line and with 1 after one in the data") {
  const Folder folder;
  Ended ended = run("weight_space --width none");
  CHECK(ended.code == 2);
  CHECK(contains(ended.text, "--width: 'none' will not do"));
  ended = run("weight_space --data '" + folder.path().string() + "/absent.npz'");
  CHECK(ended.code == 1);
  CHECK(contains(ended.text, "weight_space: there is no file"));
  ended = run("weight_space --n-train 5000");
  CHECK(ended.code == 1);
  CHECK(contains(ended.text, "digits: 5000 training examples were asked for"));
  ended = run("weight_space --data '" + folder.write("text.npz", "PK no archive").string() + "'");
  CHECK(ended.code == 1);
  CHECK(contains(ended.text, "text.npz"));
  ended = run(small + "--no-plot --out /dev/null/folder");
  CHECK(ended.code == 1);
  CHECK(contains(ended.text, "the folder /dev/null/folder cannot be made"));
}

TEST_CASE("a rate that is too large is told, and leaves blanks") {
  const Folder folder;
  const Ended ended = run(small + "--max-steps 100 --rate 1e200 --no-plot --out '" + folder.path().string() + "'");
  CAPTURE(ended.text);
  CHECK(ended.code == 0);
  CHECK(contains(ended.text, "(d) had diverged after"));
}

TEST_CASE("weight_space answers --help") {
  const Ended ended = run("weight_space --help");
  CHECK(ended.code == 0);
  CHECK(contains(ended.text, "Usage: weight_space [OPTIONS]"));
}

TEST_CASE("the validity example shows the gap closing with the width, and the meter beside it") {
  const Folder folder;
  const Ended ended = run("validity --n-train 6 --n-test 9 --min-width 8 --max-width 128 --seeds 3 --steps 60 --no-plot --out '" + folder.path().string() + "/a'");
  CAPTURE(ended.text);
  CHECK(ended.code == 0);
  for (const std::string part : {"digits: 60 rows; width 8 to 128, 3 initializations of each, 60 steps", "slope of each with the width, from 32 on", "wrote "}) {
    CAPTURE(part);
    CHECK(contains(ended.text, part));
  }
  CHECK(!contains(ended.text, "nan"));
  CHECK(std::filesystem::exists(folder.path() / "a/validity.gp"));
  std::istringstream csv(read_text(folder.path() / "a/validity.csv"));
  std::string line;
  std::getline(csv, line);
  CHECK(line == "width,gap_short,gap_medium,gap_long,gap_feature_learning,meter_gap,meter_second,meter_higher,meter_drift,drift_feature_learning,slope_half,slope_one");
  std::vector<std::array<double, 10>> rows;
  while (std::getline(csv, line)) {
    std::replace(line.begin(), line.end(), ',', ' ');
    std::istringstream cells(line);
    for (double& value : rows.emplace_back()) cells >> value;
  }
  REQUIRE(rows.size() == 5);
  for (const std::size_t column : {3, 5, 8}) {
    CAPTURE(column);
    CHECK(rows[4][column] < rows[0][column] / 3);  // sixteen times as wide
  }
  CHECK(rows[4][4] > 2 * rows[4][3]);  // where features are learned it stays
  CHECK(rows[4][9] > rows[4][8]);
  CHECK(rows[0][4] == rows[0][3]);  // the narrowest networks are the same
  CHECK(run("validity --max-width 8 --no-plot").code == 1);
  CHECK(contains(run("validity --n-train 0").text, "--n-train"));
  CHECK(run("validity --help").code == 0);
}
