// What the tests of .npy and .npz share: a folder, files made byte by byte, and the sentence of a refusal.
#pragma once

#include "linnet/autodiff/npy.h"

#include <doctest/doctest.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdlib.h>
#include <string>
#include <sys/resource.h>
#include <vector>

namespace npy_files {

using namespace linnet::autodiff;

// A folder that is gone when the test is over.
struct Folder {
  std::filesystem::path path;
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "linnet_npy_XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~Folder() { std::filesystem::remove_all(path); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::filesystem::path operator/(const char* name) const { return path / name; }
  std::size_t files() const { return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(path), {})); }
};

inline std::string bytes_of(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline std::filesystem::path put(const std::filesystem::path& file, const std::string& bytes) {
  std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
  return file;
}

// The sentence of the StructureError that f throws; anything else fails the test.
template <class F> std::string refusal(F&& f) {
  try {
    f();
  } catch (const StructureError& e) {
    return e.what();
  } catch (const std::exception& e) {
    FAIL_CHECK("another exception: " << e.what());
    return "";
  }
  FAIL_CHECK("nothing was thrown");
  return "";
}

// The refusal where no file may grow beyond 100,000 bytes, which fails as a full disk does.
template <class F> std::string refusal_on_a_full_disk(F&& f) {
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small{100000, before.rlim_max};
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &small);
  const std::string text = refusal(f);
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  return text;
}

inline bool has(const std::string& text, const std::string& part) {
  const bool found = text.find(part) != text.npos;
  if (!found) MESSAGE("'" << part << "' is not in: " << text);
  return found;
}

inline std::string little(std::uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(i < 8 ? value >> (8 * i) : 0);
  return text;
}

template <class T> std::string raw(std::vector<T> values) { return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)}; }

// A .npy file of this description; the version decides how its length is written.
inline std::string npy(const std::string& description, const std::string& values, int major = 1) {
  return std::string("\x93NUMPY") + static_cast<char>(major) + '\0' + little(description.size(), major == 1 ? 2 : 4) + description + values;
}
inline std::string described(const std::string& descr, const std::string& shape, const std::string& values, const std::string& fortran = "False") {
  return npy("{'descr': '" + descr + "', 'fortran_order': " + fortran + ", 'shape': " + shape + ", }\n", values);
}

template <class T> bool same_bits(const Array<T>& a, const Array<T>& b) {
  return a.shape() == b.shape() && (a.size() == 0 || std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(T)) == 0);
}

}  // namespace npy_files
