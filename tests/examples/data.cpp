// The data sets and their readers, with files that are not what they say.
#include "linnet/examples/support/data.h"

#include "linnet/autodiff/npy.h"
#include "linnet/tests/examples/files.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <map>
#include <utility>

using linnet::autodiff::Array;
using linnet::autodiff::Index;
using linnet::autodiff::Shape;
using linnet::tests::contains;
using linnet::tests::Folder;
using linnet::tests::message_of;
namespace examples = linnet::examples;

namespace {

const char* const digits_file = LINNET_DIGITS;

std::string idx(std::uint32_t magic, std::initializer_list<std::uint32_t> extents, std::size_t values) {
  std::string bytes;
  const auto put = [&](std::uint32_t word) { for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(word >> shift & 255); };
  put(magic);
  for (const std::uint32_t extent : extents) put(extent);
  for (std::size_t i = 0; i < values; ++i) bytes += static_cast<char>(i % 251);
  return bytes;
}

}  // namespace

TEST_CASE("the digits are 1,797 images whose first rows are known") {
  const auto problem = examples::load_digits(digits_file, 1500, 297);
  CHECK(problem.train.x.shape() == Shape{1500, 64});
  CHECK(problem.test.x.shape() == Shape{297, 64});
  CHECK(problem.train.y.shape() == Shape{1500, 10});
  CHECK(problem.train.labels[0] == 0);
  CHECK(problem.train.labels[3] == 3);
  CHECK(problem.train.x[{0, 2}] == 5.0 / 16);
  CHECK(problem.train.x[{0, 3}] == 13.0 / 16);
  CHECK(problem.train.y[{3, 3}] == doctest::Approx(0.9));
  CHECK(problem.train.y[{3, 4}] == doctest::Approx(-0.1));
  CHECK(problem.test.labels.size() == 297);
}

TEST_CASE("counts that were not given suit the data, and test examples are none of the training") {
  const auto problem = examples::load_digits(digits_file, 0, 0);
  CHECK(problem.train.x.shape()[0] == 100);
  CHECK(problem.test.x.shape()[0] == 500);
  const auto longer = examples::load_digits(digits_file, 101, 1);
  CHECK(longer.train.x.rows(100, 1) == problem.test.x.rows(0, 1));
}

TEST_CASE("more examples than there are cannot be had") {
  CHECK(contains(message_of([] { examples::load_digits(digits_file, 1797, 0); }), "digits: 1797 training examples were asked for, which leaves none of the 1797"));
  CHECK(contains(message_of([] { examples::load_digits(digits_file, 1000, 798); }), "digits: 798 test examples were asked for, and there are 797"));
  CHECK(contains(message_of([] { examples::make_sine(200000, 0, 1); }), "sine: 200000 training examples were asked for"));
}

TEST_CASE("the sine is the same for a seed and another for another") {
  const auto a = examples::make_sine(20, 9, 7), b = examples::make_sine(20, 9, 7), c = examples::make_sine(20, 9, 8);
  CHECK(a.train.x == b.train.x);
  CHECK(a.train.y == b.train.y);
  CHECK(!(a.train.x == c.train.x));
  CHECK(a.test.y[{2, 0}] == doctest::Approx(std::sin(a.test.x[{2, 0}])));
  for (Index i = 0; i < 20; ++i) CHECK(std::abs(a.train.y[{i, 0}] - std::sin(a.train.x[{i, 0}])) < 0.6);
}

TEST_CASE("a table that is no table of numbers is refused with its line and column") {
  const std::vector<std::pair<std::string, const char*>> cases{
      {"", "t.csv is empty"},
      {"1,2\n3\n", "t.csv:2: 1 columns; the lines before have 2"},
      {"1,2\n3,4,5\n", "t.csv:2: 3 columns; the lines before have 2"},
      {"1,2\n3,x\n", "t.csv:2: column 2 is not a number"},
      {"1,,2\n", "t.csv:1: column 2 is not a number"},
      {"1,2,\n", "t.csv:1: column 3 is not a number"},
      {"a,b\n1,2\n", "t.csv:1: column 1 is not a number"},
      {"\"1\",2\n", "t.csv:1: column 1 is not a number"},
      {"\xEF\xBB\xBF" "1,2\n", "t.csv:1: column 1 is not a number"},
      {"1,nan\n", "t.csv:1: column 2 is nan; every value must be finite"},
      {"1,-inf\n", "t.csv:1: column 2 is -inf"},
      {"1,1e999\n", "t.csv:1: column 2 is not a number"},
      {"1 2\n", "t.csv:1: column 1 is not a number"},
      {"1,2\n\n3,4\n", "t.csv:2: column 1 is not a number"},
      {std::string(100000, ','), "t.csv:1: column 1 is not a number"},
      {std::string(2 << 20, '1'), "the line has 2097152 bytes"}};
  for (const auto& [text, expected] : cases) {
    CAPTURE(std::string(expected));
    const std::string message = message_of([&] { examples::parse_csv(text, "t.csv"); });
    CAPTURE(message);
    CHECK(contains(message, expected));
  }
  std::string wide = "1";
  for (int i = 0; i < 65536; ++i) wide += ",1";
  CHECK(contains(message_of([&] { examples::parse_csv(wide, "t.csv"); }), "t.csv:1: more than 65536 columns"));
}

TEST_CASE("a table may end with or without a line break, of either kind") {
  for (const char* text : {"1,2\n3,-4.5e1\n", "1,2\n3,-4.5e1", "1,2\r\n3,-4.5e1\r\n"}) {
    const Array<double> table = examples::parse_csv(text, "t.csv");
    CHECK(table.shape() == Shape{2, 2});
    CHECK(table[{1, 1}] == -45);
  }
}

TEST_CASE("a compressed file cut anywhere is refused") {
  const Folder folder;
  std::string text;
  for (int i = 0; i < 400; ++i) text += std::to_string(i * i % 97) + ",1\n";
  const std::string whole = linnet::tests::read_text(folder.write_gz("t.gz", text));
  CHECK(examples::read_gz(folder.path() / "t.gz", 1 << 20) == text);
  for (std::size_t n = 11; n < whole.size(); n += 7) {
    CAPTURE(n);
    const auto file = folder.write("cut.gz", whole.substr(0, n));
    CHECK(contains(message_of([&] { examples::read_gz(file, 1 << 20); }), "cut.gz is damaged or cut short"));
  }
  std::string flipped = whole;
  flipped[whole.size() / 2] = static_cast<char>(flipped[whole.size() / 2] ^ 0x55);
  CHECK(contains(message_of([&] { examples::read_gz(folder.write("bad.gz", flipped), 1 << 20); }), "bad.gz is damaged or cut short"));
}

TEST_CASE("a compressed file cannot fill the memory") {
  const Folder folder;
  const auto file = folder.write_gz("bomb.gz", std::string(10 << 20, 'a'));
  CHECK(contains(message_of([&] { examples::read_gz(file, 1 << 20); }), "bomb.gz holds more than 1048576 bytes"));
  CHECK(contains(message_of([&] { examples::read_gz(folder.path() / "absent.gz", 100); }), "there is no file"));
  CHECK(contains(message_of([&] { examples::read_gz(folder.path(), 100); }), "is not a regular file"));
}

TEST_CASE("an IDX file is read only if it is exactly what its header says") {
  CHECK(examples::parse_idx(idx(0x803, {2, 3, 4}, 24), 3, "f") == std::vector<Index>{2, 3, 4});
  const std::vector<std::pair<std::string, const char*>> cases{
      {"", "f: 0 bytes; an IDX file of 3 axes has at least 16"},
      {idx(0x803, {2, 3, 4}, 24).substr(0, 15), "f: 15 bytes"},
      {idx(0x801, {2, 3, 4}, 24), "f: byte 0: the magic number is 00000801; 00000803 was expected"},
      {idx(0xD03, {2, 3, 4}, 24), "f: byte 0: the magic number is 00000d03"},
      {idx(0x803, {2, 3, 4}, 23), "f: 39 bytes; its header says 40"},
      {idx(0x803, {2, 3, 4}, 25), "f: 41 bytes; its header says 40"},
      {idx(0x803, {0, 3, 4}, 0), "f: byte 4: axis 0 has extent 0"},
      {idx(0x803, {0xffffffff, 0xffffffff, 0xffffffff}, 0), "axis 0 has extent 4294967295, so the file cannot be what it says"},
      {idx(0x803, {65536, 65536, 1}, 0), "axis 1 has extent 65536, so the file cannot be what it says"}};
  for (const auto& [bytes, expected] : cases) {
    CAPTURE(std::string(expected));
    CHECK(contains(message_of([&] { examples::parse_idx(bytes, 3, "f"); }), expected));
  }
}

TEST_CASE("Fashion-MNIST is read from a folder of four files that must fit each other") {
  const Folder folder;
  CHECK(contains(message_of([&] { examples::load_fashion_mnist(folder.path() / "none", 1, 1); }), "the Debian package dataset-fashion-mnist brings it"));
  CHECK(contains(message_of([&] { examples::load_fashion_mnist(folder.path(), 1, 1); }), "there is no file"));
  const auto labels = [](std::size_t n) { return idx(0x801, {static_cast<std::uint32_t>(n)}, n); };
  folder.write_gz("train-images-idx3-ubyte.gz", idx(0x803, {6, 2, 2}, 24));
  folder.write_gz("train-labels-idx1-ubyte.gz", labels(5));
  folder.write_gz("t10k-images-idx3-ubyte.gz", idx(0x803, {4, 2, 2}, 16));
  folder.write_gz("t10k-labels-idx1-ubyte.gz", labels(4));
  CHECK(contains(message_of([&] { examples::load_fashion_mnist(folder.path(), 2, 2); }), "5 labels for the 6 images"));
  folder.write_gz("train-labels-idx1-ubyte.gz", labels(6));
  const auto problem = examples::load_fashion_mnist(folder.path(), 3, 2);
  CHECK(problem.train.x.shape() == Shape{3, 4});
  CHECK(problem.train.x[{1, 0}] == 4 / 255.0);
  CHECK(problem.train.labels == std::vector<int>{0, 1, 2});
  CHECK(problem.test.x.shape() == Shape{2, 4});
  CHECK(contains(message_of([&] { examples::load_fashion_mnist(folder.path(), 7, 2); }), "fashion-mnist (training): 7 training examples were asked for, and there are 6"));
}

TEST_CASE("one-hot targets are centered, and labels outside are refused") {
  const Array<double> y = examples::centered_one_hot({2, 0}, 4);
  CHECK(y == Array<double>({2, 4}, {-0.25, -0.25, 0.75, -0.25, 0.75, -0.25, -0.25, -0.25}));
  CHECK(contains(message_of([] { examples::centered_one_hot({0, 4}, 4); }), "example 1 is of class 4; there are 4 classes"));
  CHECK(contains(message_of([] { examples::centered_one_hot({0, -1}, 4); }), "example 1 is of class -1"));
  CHECK(contains(message_of([] { examples::centered_one_hot({0, 0}, 1); }), "at least 2 classes"));
}

TEST_CASE("a .npz file of one's own is regression, or classes on request") {
  const Folder folder;
  const auto file = folder.path() / "mine.npz";
  const auto save = [&](std::map<std::string, Array<double>> members) { linnet::autodiff::save_npz<double>(file, members); };
  const auto load = [&](Index train, Index test, bool classes) { return examples::load_npz_problem(file, train, test, classes); };
  const Array<double> x({4, 2, 1}, {1, 2, 3, 4, 5, 6, 7, 8}), y({4}, {0, 1, 2, 1});
  save({{"x", x}, {"y", y}});
  auto problem = load(3, 1, false);
  CHECK(problem.name == "mine");
  CHECK(problem.train.x == Array<double>({3, 2}, {1, 2, 3, 4, 5, 6}));
  CHECK(problem.train.y == Array<double>({3, 1}, {0, 1, 2}));
  CHECK(problem.test.y == Array<double>({1, 1}, {1}));
  CHECK(problem.train.classes == 0);
  problem = load(0, 0, true);
  CHECK(problem.train.x.shape() == Shape{3, 2});
  CHECK(problem.train.classes == 3);
  CHECK(problem.train.y.shape() == Shape{3, 3});
  CHECK(problem.test.labels == std::vector<int>{1});
  save({{"x", x}, {"y", y}, {"x_test", Array<double>({1, 2}, {9, 10})}, {"y_test", Array<double>({1}, {4})}});
  problem = load(0, 0, true);
  CHECK(problem.train.x.shape() == Shape{4, 2});
  CHECK(problem.test.x == Array<double>({1, 2}, {9, 10}));
  CHECK(problem.train.classes == 5);
}

TEST_CASE("a .npz file that does not hold examples and targets is refused in a sentence") {
  const Folder folder;
  const auto file = folder.path() / "mine.npz";
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Array<double> x({3, 2}, {1, 2, 3, 4, 5, 6}), y({3}, {0, 1, 0});
  const auto message = [&](std::map<std::string, Array<double>> members, bool classes = false) {
    linnet::autodiff::save_npz<double>(file, members);
    return message_of([&] { examples::load_npz_problem(file, 0, 0, classes); });
  };
  CHECK(contains(message({{"x", x}, {"target", y}}), "there is no member 'y'; its members are: target, x"));
  CHECK(contains(message({{"x", x}, {"y", Array<double>({2}, {0, 1})}}), "x is [3,2] and y is [2]: 3 examples and 2 targets"));
  CHECK(contains(message({{"x", x}, {"y", Array<double>({1, 1, 3}, {0, 1, 0})}}), "y [examples] or [examples, outputs] were expected"));
  CHECK(contains(message({{"x", Array<double>(Shape{}, {1})}, {"y", y}}), "were expected"));
  CHECK(contains(message({{"x", Array<double>(Shape{3, 0})}, {"y", y}}), "there is nothing to learn from"));
  CHECK(contains(message({{"x", Array<double>({3, 2}, {1, 2, 3, nan, 5, 6})}, {"y", y}}), "x: value 3 is nan; every value must be finite"));
  CHECK(contains(message({{"x", x}, {"y", Array<double>({3}, {0, 0.5, 1})}}, true), "the class of example 1 is 0.5; classes are whole numbers from 0"));
  CHECK(contains(message({{"x", x}, {"y", Array<double>({3}, {0, -1, 1})}}, true), "the class of example 1 is -1"));
  CHECK(contains(message({{"x", x}, {"y", Array<double>(Shape{3, 2})}}, true), "with --classes it is the class of every example, [3]"));
  CHECK(contains(message({{"x", x}, {"y", Array<double>(Shape{3})}}, true), "at least 2 classes"));
  CHECK(contains(message({{"x", Array<double>({1, 2}, {1, 2})}, {"y", Array<double>({1}, {0})}}), "training and test need at least 2"));
  CHECK(contains(message({{"x", x}, {"y", y}, {"x_test", x}}), "there is no member 'y_test'"));
  CHECK(contains(message({{"x", x}, {"y", y}, {"x_test", Array<double>(Shape{3, 3}, 1)}, {"y_test", y}}), "x_test [3,3] and y_test [3,1] do not go with x [3,2]"));
  CHECK(contains(message_of([&] { examples::load_npz_problem(folder.path() / "absent.npz", 0, 0, false); }), "there is no file"));
  const auto text = folder.write("text.npz", "no archive at all");
  CHECK(contains(message_of([&] { examples::load_npz_problem(text, 0, 0, false); }), "text.npz"));
  CHECK(contains(message_of([] { examples::load_problem({.data = "cifar"}); }), "'cifar' is no data set"));
}
