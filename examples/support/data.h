// Data sets for the examples: the committed digits, Fashion-MNIST, a noisy sine, and a user's own .npz. The readers are strict: a file that is not
// exactly what it says is refused in a sentence that names it, and nothing large is allocated on its word.
#pragma once

#include "linnet/autodiff/array.h"

#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace linnet::examples {

using autodiff::Array;
using autodiff::Index;

// Data that cannot be used; the message is for the person who chose it.
struct DataError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Examples as rows. With classes, y is one-hot minus 1/classes; otherwise it holds the targets themselves.
struct Dataset {
  Array<double> x{autodiff::Shape{0, 0}};  // [n, d]
  Array<double> y{autodiff::Shape{0, 0}};  // [n, k]
  std::vector<int> labels;                 // n of them, or none
  Index classes = 0;                       // 0: regression
};

struct Problem {
  std::string name;         // "digits"
  std::string description;  // what the numbers are and where they came from, for people
  Dataset train, test;
};

// 0 for a count: as many as suit the data set. DataError if there are not as many as asked for.
Problem load_digits(const std::filesystem::path& file, Index n_train, Index n_test);
Problem load_fashion_mnist(const std::filesystem::path& folder, Index n_train, Index n_test);
Problem make_sine(Index n_train, Index n_test, std::uint64_t seed);
// Members x [n, …] and y [n] or [n, k], optionally x_test and y_test; without these, examples after the first n_train are the test examples.
// With classes, y holds the class of every example: whole numbers from 0.
Problem load_npz_problem(const std::filesystem::path& file, Index n_train, Index n_test, bool classes);
// "digits", "fashion-mnist", "sine", or the name of a .npz file.
struct DataChoice {
  std::string data = "digits";
  Index n_train = 0, n_test = 0;
  bool classes = false;
  std::uint64_t seed = 0;
};
Problem load_problem(const DataChoice& choice);

// ---- the parts, for other programs and for tests

// Decompresses a .gz file (or reads a plain one). DataError: it cannot be read, is damaged, ends early, or holds more than max_bytes.
std::string read_gz(const std::filesystem::path& file, std::size_t max_bytes);
// A table of numbers separated by commas, without a header, every row as long as the first: [rows, columns]. `name` is for messages.
Array<double> parse_csv(std::string_view text, const std::string& name);
// IDX, the format of MNIST: a magic number, extents, unsigned bytes. `rank` axes are expected; answers the extents and leaves the values in `bytes`.
std::vector<Index> parse_idx(const std::string& bytes, std::size_t rank, const std::string& name);
// One-hot minus 1/classes. DataError: a label outside of [0, classes).
Array<double> centered_one_hot(const std::vector<int>& labels, Index classes);

}  // namespace linnet::examples
