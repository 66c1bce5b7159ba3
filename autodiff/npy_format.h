// Between npy.cpp, which knows the .npy format, and npz_libzip.cpp or npz_none.cpp, which know archives. Not installed.
#pragma once

#include "linnet/autodiff/array.h"

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace linnet::autodiff::detail {

// Text of a file for a message: its first 60 bytes, and nothing that a terminal obeys.
std::string shown(std::string_view text);

// Bytes in order, of a known number: a file, or a member of an archive.
class ByteReader {
 public:
  ByteReader(std::string name, Index length) : name_(std::move(name)), length_(length) {}
  virtual ~ByteReader() = default;
  ByteReader(const ByteReader&) = delete;
  ByteReader& operator=(const ByteReader&) = delete;

  const std::string& name() const { return name_; }  // for messages
  Index length() const { return length_; }
  Index position() const { return position_; }
  void read(void* to, Index n);                      // the next n bytes; StructureError if they are not there
  virtual void finish() {}                           // after the last byte: what the source itself has to check

 protected:
  virtual Index some(char* to, Index n) = 0;         // reads up to n bytes; 0 at the end

 private:
  std::string name_;
  Index length_, position_ = 0;
};

// The one array the bytes are. Nothing is allocated that the length does not account for.
template <Scalar T> Array<T> read_npy(ByteReader& bytes);
// Magic, version 1.0 and the description; padded so that the values begin on a multiple of 64 bytes.
template <Scalar T> std::string npy_header(const Shape& shape);

// The length of a regular file; StructureError if there is none.
Index file_length(const std::filesystem::path& file);

// A file that replaces another one in a moment: written beside it, removed unless committed.
class Replacement {
 public:
  explicit Replacement(const std::filesystem::path& file);  // makes the temporary; StructureError if it cannot be
  ~Replacement();
  Replacement(const Replacement&) = delete;
  Replacement& operator=(const Replacement&) = delete;

  const std::filesystem::path& temporary() const { return temporary_; }
  void write(const void* from, std::size_t n);
  void commit();  // to the disk, and to its name

 private:
  [[noreturn]] void cannot(const char* what, int error) const;
  std::filesystem::path shown_, target_, temporary_;
  int descriptor_ = -1;
};

// Members by their names without ".npy", in the order of the archive. Implemented by the provider; StructureError without one.
template <Scalar T> std::vector<std::pair<std::string, Array<T>>> read_archive(const std::filesystem::path& file);
template <Scalar T> void write_archive(const std::filesystem::path& file, const std::vector<std::pair<std::string, const Array<T>*>>& members);
std::string archive_provider();  // "libzip 1.7.3", or "none"

}  // namespace linnet::autodiff::detail
