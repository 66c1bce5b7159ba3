// The data sets, each as a function from names and counts to a Problem. Read data.h first.
#include "linnet/examples/support/data.h"

#include "linnet/autodiff/npy.h"
#include "linnet/nn/random.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <charconv>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <numbers>

namespace linnet::examples {

namespace fs = std::filesystem;
using autodiff::Shape;

namespace {

constexpr std::size_t max_csv_bytes = std::size_t(256) << 20, max_csv_columns = 65536, max_csv_line = std::size_t(1) << 20;
constexpr std::size_t max_idx_bytes = std::size_t(1) << 30;
constexpr double max_gz_ratio = 1100;  // deflate cannot do better than 1032 to 1

template <class... Args> [[noreturn]] void refuse(fmt::format_string<Args...> text, Args&&... args) {
  throw DataError(fmt::format(text, std::forward<Args>(args)...));
}

std::size_t regular_file_size(const fs::path& file) {
  std::error_code error;
  if (!fs::exists(file, error)) refuse("there is no file {}", file.string());
  if (!fs::is_regular_file(file, error)) refuse("{} is not a regular file", file.string());
  const std::uintmax_t size = fs::file_size(file, error);
  if (error) refuse("{} cannot be read: {}", file.string(), error.message());
  return static_cast<std::size_t>(size);
}

Array<double> columns(const Array<double>& table, Index first, Index count) {
  const Index rows = table.shape()[0], all = table.shape()[1];
  Array<double> part(Shape{rows, count});
  for (Index i = 0; i < rows; ++i) std::copy_n(table.data() + i * all + first, count, part.data() + i * count);
  return part;
}

// Whole numbers from 0, as labels.
std::vector<int> as_labels(const Array<double>& values, const std::string& name) {
  std::vector<int> labels;
  for (Index i = 0; i < values.size(); ++i) {
    const double value = values.data()[i];
    if (!(value >= 0 && value < 65536 && value == std::floor(value))) refuse("{}: the class of example {} is {}; classes are whole numbers from 0", name, i, value);
    labels.push_back(static_cast<int>(value));
  }
  return labels;
}

void check_finite(const Array<double>& values, const std::string& name) {
  const Index at = autodiff::first_not_finite(values.values());
  if (at >= 0) refuse("{}: value {} is {}; every value must be finite", name, at, values.data()[at]);
}

// Examples [first, first + count).
Dataset part_of(const Dataset& all, Index first, Index count) {
  Dataset part{all.x.rows(first, count), all.y.rows(first, count), {}, all.classes};
  if (!all.labels.empty()) part.labels.assign(all.labels.begin() + first, all.labels.begin() + first + count);
  return part;
}

void check_counts(const std::string& name, Index n_train, Index n_test, Index have_train, Index have_test) {
  if (n_train < 1 || n_test < 1) refuse("{}: {} training and {} test examples were asked for; at least one of each is needed", name, n_train, n_test);
  if (n_train > have_train) refuse("{}: {} training examples were asked for, and there are {}", name, n_train, have_train);
  if (n_test > have_test) refuse("{}: {} test examples were asked for, and there are {}", name, n_test, have_test);
}

// The first n_train examples, and the n_test after them; a count of 0 takes a share of what there is.
void split(Problem& problem, const Dataset& all, Index n_train, Index n_test) {
  const Index n = all.x.shape()[0];
  if (n < 2) refuse("{}: there is 1 example; training and test need at least 2", problem.name);
  if (n_train == 0) n_train = std::min<Index>(100, n_test > 0 && n_test < n ? n - n_test : std::max<Index>(1, n * 4 / 5));
  if (n_train >= n) refuse("{}: {} training examples were asked for, which leaves none of the {} for the test", problem.name, n_train, n);
  if (n_test == 0) n_test = std::min<Index>(500, n - n_train);
  check_counts(problem.name, n_train, n_test, n, n - n_train);
  problem.train = part_of(all, 0, n_train);
  problem.test = part_of(all, n_train, n_test);
}

}  // namespace

std::string read_gz(const fs::path& file, std::size_t max_bytes) {
  const double stored = static_cast<double>(regular_file_size(file));
  const std::size_t cap = std::min(max_bytes, static_cast<std::size_t>(stored * max_gz_ratio) + 4096);
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> in(gzopen(file.c_str(), "rb"), gzclose);
  if (!in) refuse("{} cannot be opened: {}", file.string(), std::strerror(errno));
  std::string text;
  std::vector<char> block(1 << 18);
  for (;;) {
    const int n = gzread(in.get(), block.data(), static_cast<unsigned>(block.size()));
    if (n > 0) text.append(block.data(), static_cast<std::size_t>(n));
    if (text.size() > cap) refuse("{} holds more than {} bytes, which is not what was expected of it", file.string(), cap);
    int code = Z_OK;
    const char* message = gzerror(in.get(), &code);
    if (n < 0 || (code != Z_OK && code != Z_STREAM_END)) refuse("{} is damaged or cut short after {} decompressed bytes: {}", file.string(), text.size(), message);
    if (n == 0) return text;
  }
}

Array<double> parse_csv(std::string_view text, const std::string& name) {
  std::vector<double> values;
  std::size_t width = 0, line = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view row = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++line;
    if (!row.empty() && row.back() == '\r') row.remove_suffix(1);
    if (row.size() > max_csv_line) refuse("{}:{}: the line has {} bytes; at most {} are read", name, line, row.size(), max_csv_line);
    if (row.empty() && text.empty()) break;
    std::size_t column = 0;
    for (const char *at = row.data(), *stop = at + row.size();;) {
      double value = 0;
      const auto [next, error] = std::from_chars(at, stop, value);
      if (error != std::errc() || (next != stop && *next != ',')) refuse("{}:{}: column {} is not a number", name, line, column + 1);
      if (!std::isfinite(value)) refuse("{}:{}: column {} is {}; every value must be finite", name, line, column + 1, value);
      values.push_back(value);
      if (++column > max_csv_columns) refuse("{}:{}: more than {} columns", name, line, max_csv_columns);
      if (next == stop) break;
      at = next + 1;
    }
    if (line == 1) width = column;
    if (column != width) refuse("{}:{}: {} columns; the lines before have {}", name, line, column, width);
  }
  if (values.empty()) refuse("{} is empty; rows of numbers were expected", name);
  return Array<double>(Shape{static_cast<Index>(values.size() / width), static_cast<Index>(width)}, values);
}

std::vector<Index> parse_idx(const std::string& bytes, std::size_t rank, const std::string& name) {
  const auto word = [&](std::size_t at) {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
    return value;
  };
  const std::size_t header = 4 * (rank + 1);
  if (bytes.size() < header) refuse("{}: {} bytes; an IDX file of {} axes has at least {}", name, bytes.size(), rank, header);
  const std::uint32_t magic = 0x800u + static_cast<std::uint32_t>(rank);
  if (word(0) != magic) refuse("{}: byte 0: the magic number is {:08x}; {:08x} was expected (unsigned bytes, {} axes)", name, word(0), magic, rank);
  std::vector<Index> extents;
  std::size_t size = 1;
  for (std::size_t axis = 0; axis < rank; ++axis) {
    const std::size_t extent = word(4 * (axis + 1));
    if (extent == 0 || size > max_idx_bytes / extent) refuse("{}: byte {}: axis {} has extent {}, so the file cannot be what it says", name, 4 * (axis + 1), axis, extent);
    size *= extent;
    extents.push_back(static_cast<Index>(extent));
  }
  if (bytes.size() != header + size) refuse("{}: {} bytes; its header says {}", name, bytes.size(), header + size);
  return extents;
}

Array<double> centered_one_hot(const std::vector<int>& labels, Index classes) {
  if (classes < 2) refuse("one-hot targets need at least 2 classes, there are {}", classes);
  const Index n = static_cast<Index>(labels.size());
  Array<double> y(Shape{n, classes}, -1.0 / static_cast<double>(classes));
  for (Index i = 0; i < n; ++i) {
    const int label = labels[static_cast<std::size_t>(i)];
    if (label < 0 || label >= classes) refuse("example {} is of class {}; there are {} classes, from 0", i, label, classes);
    y.data()[i * classes + label] += 1;
  }
  return y;
}

Problem load_digits(const fs::path& file, Index n_train, Index n_test) {
  const Array<double> table = parse_csv(read_gz(file, max_csv_bytes), file.string());
  if (table.shape()[1] != 65) refuse("{}: {} columns; 64 pixels and a digit were expected", file.string(), table.shape()[1]);
  Dataset all;
  all.x = (1.0 / 16) * columns(table, 0, 64);
  all.labels = as_labels(columns(table, 64, 1), file.string());
  all.classes = 10;
  all.y = centered_one_hot(all.labels, all.classes);
  Problem problem{"digits", "handwritten digits, 8 x 8 pixels from 0 to 1 (UCI, CC BY 4.0), " + file.string(), {}, {}};
  split(problem, all, n_train, n_test);
  return problem;
}

namespace {

// The first n images and labels of one pair of files.
Dataset read_fashion_mnist(const fs::path& folder, const std::string& prefix, Index n) {
  const fs::path images_file = folder / (prefix + "-images-idx3-ubyte.gz"), labels_file = folder / (prefix + "-labels-idx1-ubyte.gz");
  const std::string images = read_gz(images_file, max_idx_bytes), labels = read_gz(labels_file, max_idx_bytes);
  const std::vector<Index> extents = parse_idx(images, 3, images_file.string()), count = parse_idx(labels, 1, labels_file.string());
  if (count[0] != extents[0]) refuse("{}: {} labels for the {} images of {}", labels_file.string(), count[0], extents[0], images_file.string());
  check_counts(prefix == "train" ? "fashion-mnist (training)" : "fashion-mnist (test)", n, n, extents[0], extents[0]);
  const Index d = extents[1] * extents[2];
  Dataset set;
  set.x = Array<double>(Shape{n, d});
  for (Index i = 0; i < n * d; ++i) set.x.data()[i] = static_cast<unsigned char>(images[static_cast<std::size_t>(16 + i)]) / 255.0;
  for (Index i = 0; i < n; ++i) set.labels.push_back(static_cast<unsigned char>(labels[static_cast<std::size_t>(8 + i)]));
  set.classes = 10;
  set.y = centered_one_hot(set.labels, set.classes);
  return set;
}

}  // namespace

Problem load_fashion_mnist(const fs::path& folder, Index n_train, Index n_test) {
  if (!fs::is_directory(folder)) refuse("there is no folder {}; the Debian package dataset-fashion-mnist brings it", folder.string());
  Problem problem{"fashion-mnist", "articles of clothing, 28 x 28 pixels from 0 to 1 (Zalando, MIT), " + folder.string(), {}, {}};
  problem.train = read_fashion_mnist(folder, "train", n_train == 0 ? 100 : n_train);
  problem.test = read_fashion_mnist(folder, "t10k", n_test == 0 ? 500 : n_test);
  return problem;
}

Problem make_sine(Index n_train, Index n_test, std::uint64_t seed) {
  n_train = n_train == 0 ? 10 : n_train;
  n_test = n_test == 0 ? 50 : n_test;
  check_counts("sine", n_train, n_test, 100000, 100000);
  const double pi = std::numbers::pi;
  const std::vector<nn::Key> keys = nn::split(nn::Key(seed));
  Problem problem{"sine", "y = sin(x) + .1 noise at random x in [-pi, pi); tested without noise on an even grid", {}, {}};
  problem.train.x = nn::uniform<double>(keys[0], Shape{n_train, 1}, -pi, pi);
  problem.train.y = 0.1 * nn::normal<double>(keys[1], Shape{n_train, 1});
  for (Index i = 0; i < n_train; ++i) problem.train.y.data()[i] += std::sin(problem.train.x.data()[i]);
  problem.test.x = problem.test.y = Array<double>(Shape{n_test, 1});
  for (Index i = 0; i < n_test; ++i) {
    const double x = n_test == 1 ? 0 : -pi + 2 * pi * static_cast<double>(i) / static_cast<double>(n_test - 1);
    problem.test.x.data()[i] = x;
    problem.test.y.data()[i] = std::sin(x);
  }
  return problem;
}

namespace {

// x as rows [n, d], y as rows [n, k] or as classes.
Dataset rows_of(const Array<double>& x, const Array<double>& y, bool classes, const std::string& name) {
  if (x.shape().rank() < 1 || y.shape().rank() < 1 || y.shape().rank() > 2) {
    refuse("{}: x is {} and y is {}; x [examples, …] and y [examples] or [examples, outputs] were expected", name, str(x.shape()), str(y.shape()));
  }
  const Index n = x.shape()[0];
  if (y.shape()[0] != n) refuse("{}: x is {} and y is {}: {} examples and {} targets", name, str(x.shape()), str(y.shape()), n, y.shape()[0]);
  if (x.size() == 0 || y.size() == 0) refuse("{}: x is {} and y is {}: there is nothing to learn from", name, str(x.shape()), str(y.shape()));
  check_finite(x, name + ": x");
  check_finite(y, name + ": y");
  Dataset set;
  set.x = x.reshaped(Shape{n, x.size() / n});
  if (!classes) {
    set.y = y.reshaped(Shape{n, y.size() / n});
    return set;
  }
  if (y.size() != n) refuse("{}: y is {}; with --classes it is the class of every example, [{}]", name, str(y.shape()), n);
  set.labels = as_labels(y, name);
  return set;
}

void encode(Dataset& set, Index classes) {
  set.classes = classes;
  set.y = centered_one_hot(set.labels, classes);
}

Index classes_in(const Dataset& set) { return set.labels.empty() ? 0 : *std::max_element(set.labels.begin(), set.labels.end()) + 1; }

}  // namespace

Problem load_npz_problem(const fs::path& file, Index n_train, Index n_test, bool classes) {
  regular_file_size(file);
  const std::map<std::string, Array<double>> members = autodiff::load_npz<double>(file);
  const std::string name = file.string();
  const auto member = [&](const std::string& key) -> const Array<double>& {
    if (const auto found = members.find(key); found != members.end()) return found->second;
    std::string names;
    for (const auto& [other, array] : members) names += (names.empty() ? "" : ", ") + other;
    refuse("{}: there is no member '{}'; its members are: {}", name, key, names.empty() ? "none" : names);
  };
  Dataset all = rows_of(member("x"), member("y"), classes, name);
  Problem problem{file.stem().string(), "x and y of " + name, {}, {}};
  if (!members.contains("x_test") && !members.contains("y_test")) {
    if (classes) encode(all, classes_in(all));
    split(problem, all, n_train, n_test);
    return problem;
  }
  Dataset test = rows_of(member("x_test"), member("y_test"), classes, name + ": test");
  if (classes) {
    const Index count = std::max(classes_in(all), classes_in(test));
    encode(all, count);
    encode(test, count);
  }
  if (test.x.shape()[1] != all.x.shape()[1] || test.y.shape()[1] != all.y.shape()[1]) {
    refuse("{}: x_test {} and y_test {} do not go with x {} and y {}", name, str(test.x.shape()), str(test.y.shape()), str(all.x.shape()), str(all.y.shape()));
  }
  const Index have_train = all.x.shape()[0], have_test = test.x.shape()[0];
  n_train = n_train == 0 ? std::min<Index>(100, have_train) : n_train;
  n_test = n_test == 0 ? std::min<Index>(500, have_test) : n_test;
  check_counts(name, n_train, n_test, have_train, have_test);
  problem.train = part_of(all, 0, n_train);
  problem.test = part_of(test, 0, n_test);
  return problem;
}

Problem load_problem(const DataChoice& choice) {
  if (choice.data == "digits") return load_digits(LINNET_DIGITS, choice.n_train, choice.n_test);
  if (choice.data == "fashion-mnist") return load_fashion_mnist("/usr/share/datasets/fashion-mnist", choice.n_train, choice.n_test);
  if (choice.data == "sine") return make_sine(choice.n_train, choice.n_test, choice.seed);
  if (choice.data.ends_with(".npz")) return load_npz_problem(choice.data, choice.n_train, choice.n_test, choice.classes);
  refuse("'{}' is no data set; choose digits, fashion-mnist, sine, or the name of a .npz file", choice.data);
}

}  // namespace linnet::examples
