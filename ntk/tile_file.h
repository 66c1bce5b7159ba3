// A kernel file: its header, where its tiles are, and how they are read and written. docs/kernel_file.md has the format. store.cpp says what goes in. Not
// installed.
#pragma once

#include "linnet/autodiff/shape.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace linnet::ntk {

using autodiff::Index;

// A kernel of `rows` by `columns` examples in tiles of `tile` examples, of R numbers each.
struct TileLayout {
  Index rows = 0, columns = 0, outputs = 1, tile = 1;
  bool traced = false, symmetric = false;  // symmetric: tiles (i, j) with j <= i
  Index width = 8;                         // bytes of a number
  Index header = 0;                        // bytes

  Index R() const { return traced ? 1 : outputs; }
  Index down() const { return (rows + tile - 1) / tile; }
  Index across() const { return (columns + tile - 1) / tile; }
  Index tiles() const { return rows == 0 || columns == 0 ? 0 : symmetric ? down() * (down() + 1) / 2 : down() * across(); }
  Index number(Index i, Index j) const { return symmetric ? i * (i + 1) / 2 + j : i * across() + j; }
  std::pair<Index, Index> at(Index number) const;  // (i, j)
  Index height(Index i) const { return std::min(tile, rows - i * tile) * R(); }      // numbers
  Index breadth(Index j) const { return std::min(tile, columns - j * tile) * R(); }
  Index record(Index height, Index breadth) const { return 64 + (height * breadth * width + 63) / 64 * 64; }  // bytes of a tile
  Index offset(Index i, Index j) const;
  Index length() const;  // of the file
  bool sound() const;    // that numbers read from a file are such as an Index holds what is computed of them
};

// What a file says of itself: lines of a key and a value, in order.
using Fields = std::vector<std::pair<std::string, std::string>>;
constexpr Index version = 1;

class TileFile {
 public:
  // Opens a whole file to read. StructureError: none, no kernel file, a damaged header, or not as long as it says.
  static TileFile open(const char* operation, const std::filesystem::path& file);
  // Begins a file, or takes up the one that is there, to write to; no other process can while it is open. StructureError: one made from something else, with
  // what differs; no kernel file; another process has it; no place for it.
  static TileFile take_up(const char* operation, const std::filesystem::path& file, const Fields& fields);
  // What another rank of this program has taken up, to write to beside it. StructureError: none, or not that one.
  static TileFile join(const char* operation, const std::filesystem::path& file, const Fields& fields);
  ~TileFile();
  TileFile(TileFile&&) noexcept;
  TileFile& operator=(TileFile&&) = delete;

  const TileLayout& layout() const { return layout_; }
  const Fields& fields() const { return fields_; }
  std::string_view field(std::string_view key) const;  // StructureError if there is none
  const std::filesystem::path& path() const { return path_; }
  bool current() const;  // that the file of this name is still the one that was opened

  // A record: `head` words, then the values of the tile, row after row, then zeros to a multiple of 64 bytes. From any thread.
  static constexpr std::size_t head = 8;
  std::size_t write(Index i, Index j, std::uint64_t* record) const;  // fills in its head; the bytes written
  bool read(Index i, Index j, std::uint64_t* record) const;          // whether it is there and undamaged
  void flush() const;                                                // to the disk
  void finish(const std::filesystem::path& to);                      // to the disk, and to its name

 private:
  TileFile(const char* operation, std::filesystem::path path, int descriptor) : operation_(operation), path_(std::move(path)), descriptor_(descriptor) {}
  [[noreturn]] void refuse(const std::string& what) const;
  [[noreturn]] void cannot(const std::string& what, int error) const;
  Index size() const;
  bool read_header();  // whether it is a kernel file's; StructureError if that is damaged
  void reserve(Index there) const;
  std::array<std::uint64_t, head - 1> words(Index i, Index j) const;
  static std::uint64_t checksum(const std::uint64_t* record, Index bytes);
  void write_at(const void* from, std::size_t n, Index at) const;
  Index read_at(void* to, std::size_t n, Index at) const;  // bytes read
  std::string operation_;
  std::filesystem::path path_;
  int descriptor_ = -1;
  TileLayout layout_;
  Fields fields_;
  std::uint64_t identity_ = 0;  // the header's checksum, which is in every tile
};

// What differs between two headers: "was made from something else: x (00ab…, here 12cd…), rows (100, here 90); …", and what to do.
std::string made_from_something_else(const Fields& there, const Fields& here);

}  // namespace linnet::ntk
