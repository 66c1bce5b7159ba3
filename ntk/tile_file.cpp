// Kernel files by the calls of POSIX. Everything that is read is held against a checksum, and against the length of the file before anything is computed from it.
#include "linnet/ntk/tile_file.h"

#include "linnet/autodiff/fail.h"
#include "linnet/ntk/checksum.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <fcntl.h>
#include <map>
#include <sys/file.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace linnet::ntk {

using namespace autodiff;

namespace {

constexpr Index page = 4096;  // a header has whole ones
constexpr std::size_t checksum_digits = 16;
constexpr std::uint64_t tile_mark = 0x454C49544B544E4C;  // "LNTKTILE"

std::uint64_t checksum_of(std::string_view text) {
  Checksum sum;
  sum.add(text);
  return sum.value();
}

// First line "linnet kernel 1 4096", then the fields, then blanks up to a checksum of all before it.
std::string header_text(const Fields& fields) {
  std::string lines;
  for (const auto& [key, value] : fields) lines += fmt::format("{} {}\n", key, value);
  const Index first = 22, whole = (first + static_cast<Index>(lines.size() + checksum_digits) + 2 + page - 1) / page * page;
  std::string text = fmt::format("linnet kernel {} {}\n", version, whole);
  text += lines;
  text.resize(static_cast<std::size_t>(whole) - checksum_digits - 1, ' ');
  return text + fmt::format("{:016x}\n", checksum_of(text));
}

std::string reason(int error) { return std::generic_category().message(error); }

template <class T> bool number_of(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

// ---- where tiles are. All rows of tiles but the last have full height, all columns but the last full breadth.

std::pair<Index, Index> TileLayout::at(Index number) const {
  if (!symmetric) return {number / across(), number % across()};
  Index i = static_cast<Index>((std::sqrt(8 * static_cast<double>(number) + 1) - 1) / 2);
  while (i * (i + 1) / 2 > number) --i;
  while ((i + 1) * (i + 2) / 2 <= number) ++i;
  return {i, number - i * (i + 1) / 2};
}
Index TileLayout::offset(Index i, Index j) const {
  const Index full = tile * R(), above = symmetric ? i * (i + 1) / 2 * record(full, full) : i * ((across() - 1) * record(full, full) + record(full, breadth(across() - 1)));
  return header + above + j * record(height(i), full);
}
Index TileLayout::length() const {
  if (tiles() == 0) return header;
  const Index i = down() - 1, j = symmetric ? i : across() - 1;
  return offset(i, j) + record(height(i), breadth(j));
}
bool TileLayout::sound() const {
  for (const Index n : {rows, columns, outputs, tile})
    if (n < 0 || n > Index{1} << 40) return false;
  if (outputs < 1 || tile < 1 || (symmetric && rows != columns)) return false;
  const double r = static_cast<double>(R()), down = static_cast<double>(rows) * r, across = static_cast<double>(columns) * r, side = static_cast<double>(tile) * r;
  return (down + side) * (across + side) * 8 + 1e4 * (down + side) * (across + side) / (side * side) < 1e18;
}

// ---- fields

std::string made_from_something_else(const Fields& there, const Fields& here) {
  std::map<std::string, std::string> now(here.begin(), here.end());
  std::vector<std::string> all;
  for (const auto& [key, value] : there) {
    const auto mine = now.find(key);
    if (mine == now.end()) all.push_back(fmt::format("{} ({}, here none)", key, value));
    else if (mine->second != value) all.push_back(fmt::format("{} ({}, here {})", key, value, mine->second));
    if (mine != now.end()) now.erase(mine);
  }
  for (const auto& [key, value] : here)
    if (now.contains(key)) all.push_back(fmt::format("{} (none, here {})", key, value));
  return fmt::format("was made from something else: {}; remove it, or take another name", fmt::join(all, ", "));
}

std::string_view TileFile::field(std::string_view key) const {
  for (const auto& [k, v] : fields_)
    if (k == key) return v;
  refuse(fmt::format("is damaged: its header has no line '{}'", key));
}

// ---- opening

TileFile::~TileFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}
TileFile::TileFile(TileFile&& other) noexcept
    : operation_(std::move(other.operation_)),
      path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      layout_(other.layout_),
      fields_(std::move(other.fields_)),
      identity_(other.identity_) {}

void TileFile::refuse(const std::string& what) const { fail<StructureError>("{}: '{}' {}", operation_, path_.string(), what); }
void TileFile::cannot(const std::string& what, int error) const { fail<StructureError>("{}: '{}' cannot be {}: {}", operation_, path_.string(), what, reason(error)); }

Index TileFile::read_at(void* to, std::size_t n, Index at) const {
  Index done = 0;
  while (static_cast<std::size_t>(done) < n) {
    const ssize_t got = ::pread(descriptor_, static_cast<char*>(to) + done, n - static_cast<std::size_t>(done), at + done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) cannot("read", errno);
    if (got == 0) break;
    done += got;
  }
  return done;
}

void TileFile::write_at(const void* from, std::size_t n, Index at) const {
  const char* next = static_cast<const char*>(from);
  while (n > 0) {
    const ssize_t done = ::pwrite(descriptor_, next, n, at);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) cannot("written", errno);
    next += done;
    at += done;
    n -= static_cast<std::size_t>(done);
  }
}

bool TileFile::read_header() {
  std::array<char, 64> start{};
  const Index came = read_at(start.data(), start.size(), 0);
  std::string_view first(start.data(), static_cast<std::size_t>(came));
  first = first.substr(0, first.find('\n'));
  constexpr std::string_view name = "linnet kernel ";
  if (!first.starts_with(name)) return false;
  const std::string_view numbers = first.substr(name.size());
  const std::size_t blank = numbers.find(' ');
  Index of_version = 0, length = 0;
  if (!number_of(numbers.substr(0, blank), of_version)) refuse("is damaged: its first line is no kernel file's");
  if (of_version != version) refuse(fmt::format("is of version {} of the format, this library reads version {}", of_version, version));
  if (blank == numbers.npos || !number_of(numbers.substr(blank + 1), length) || length < page || length % page || length > 64 * page)
    refuse("is damaged: its first line does not say how long the header is");
  std::string text(static_cast<std::size_t>(length), '\0');
  if (read_at(text.data(), text.size(), 0) != length) return false;
  const std::size_t end = text.size() - checksum_digits - 1;
  if (text.substr(end) != fmt::format("{:016x}\n", checksum_of(std::string_view(text).substr(0, end)))) refuse("is damaged: its header is not the one that was written");
  identity_ = checksum_of(text);
  layout_.header = length;
  fields_.clear();
  for (std::size_t at = text.find('\n') + 1; at < end && text[at] != ' ';) {
    const std::size_t stop = std::min(text.find('\n', at), end), middle = std::min(text.find(' ', at), stop);
    fields_.emplace_back(text.substr(at, middle - at), middle < stop ? text.substr(middle + 1, stop - middle - 1) : "");
    at = stop + 1;
  }
  const auto number = [&](std::string_view key) {
    Index value = 0;
    if (!number_of(field(key), value)) refuse(fmt::format("is damaged: '{} {}' in its header is no number", key, field(key)));
    return value;
  };
  layout_.rows = number("rows");
  layout_.columns = number("columns");
  layout_.outputs = number("outputs");
  layout_.tile = number("tile");
  const auto first_of = [&](std::string_view key, std::string_view first, std::string_view second) {
    if (field(key) != first && field(key) != second) refuse(fmt::format("is damaged: '{} {}' in its header is neither {} nor {}", key, field(key), first, second));
    return field(key) == first;
  };
  layout_.traced = first_of("layout", "traced", "full");
  layout_.symmetric = first_of("sets", "one", "two");
  layout_.width = first_of("type", "<f4", "<f8") ? 4 : 8;
  if (!layout_.sound()) refuse("is damaged: there is no kernel of the extents in its header");
  return true;
}

TileFile TileFile::open(const char* operation, const std::filesystem::path& path) {
  TileFile file(operation, path, ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.descriptor_ < 0) file.cannot("read", errno);
  const Index there = file.size();
  if (!file.read_header()) file.refuse("is no kernel file");
  if (there != file.layout_.length()) file.refuse(fmt::format("is damaged: it has {} bytes, by its header it should have {}", there, file.layout_.length()));
  return file;
}

// All of the file's place at once, so that a full disk is told of before anything is computed.
void TileFile::reserve(Index there) const {
  const Index length = layout_.length();
  if (there >= length) return;
  const int error = ::posix_fallocate(descriptor_, 0, length);
  if (error == 0) return;
  const bool unknown = error == EINVAL || error == EOPNOTSUPP;  // to this file system
  if (::ftruncate(descriptor_, unknown ? length : std::max(there, layout_.header)) == 0 && unknown) return;
  fail<StructureError>("{}: '{}' cannot be written: there is no place for its {} bytes: {}", operation_, path_.string(), length, reason(error));
}

TileFile TileFile::take_up(const char* operation, const std::filesystem::path& path, const Fields& fields) {
  TileFile file(operation, path, ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
  if (file.descriptor_ < 0) file.cannot("written", errno);
  if (::flock(file.descriptor_, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) file.refuse("is being written by another process");
    if (errno != ENOLCK && errno != EOPNOTSUPP && errno != ENOSYS) file.cannot("locked", errno);  // not every file system can
  }
  const Index there = file.size();
  const std::string header = header_text(fields);
  std::string found(header.size(), '\0');
  found.resize(static_cast<std::size_t>(file.read_at(found.data(), found.size(), 0)));
  // Nothing, or the beginning of this header, or zeros that a failed power supply left of it: tiles are written only after the header is on the disk.
  const bool begin = there <= static_cast<Index>(header.size()) && std::equal(found.begin(), found.end(), header.begin(), [](char a, char b) { return a == b || a == '\0'; });
  if (begin) {
    file.write_at(header.data(), header.size(), 0);
    if (::fsync(file.descriptor_) != 0) file.cannot("written", errno);
  }
  if (!file.read_header()) file.refuse("is no kernel file, and is not written over; remove it, or take another name");
  if (file.fields_ != fields) file.refuse(made_from_something_else(file.fields_, fields));
  file.reserve(there);
  return file;
}

TileFile TileFile::join(const char* operation, const std::filesystem::path& path, const Fields& fields) {
  TileFile file(operation, path, ::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (file.descriptor_ < 0) fail<StructureError>("{}: '{}' of rank 0 cannot be written: {}; it must be in a folder that all ranks see", operation, path.string(), reason(errno));
  if (!file.read_header()) file.refuse("is no kernel file; it must be in a folder that all ranks see");
  if (file.fields_ != fields) file.refuse(made_from_something_else(file.fields_, fields));
  return file;
}

Index TileFile::size() const {
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) cannot("read", errno);
  if (!S_ISREG(status.st_mode)) refuse("is no regular file");
  return status.st_size;
}

bool TileFile::current() const {
  struct stat mine {}, named {};
  return ::fstat(descriptor_, &mine) == 0 && ::stat(path_.c_str(), &named) == 0 && mine.st_ino == named.st_ino && mine.st_dev == named.st_dev;
}

// ---- tiles

// Behind its checksum a record has these words, then the values.
std::array<std::uint64_t, TileFile::head - 1> TileFile::words(Index i, Index j) const {
  const auto word = [](Index n) { return static_cast<std::uint64_t>(n); };
  return {tile_mark, identity_, word(i), word(j), word(layout_.height(i)), word(layout_.breadth(j)), 0};
}
std::uint64_t TileFile::checksum(const std::uint64_t* record, Index bytes) {
  Checksum sum;
  sum.add(record + 1, static_cast<std::size_t>(bytes) - sizeof(std::uint64_t));
  return sum.value();
}

std::size_t TileFile::write(Index i, Index j, std::uint64_t* record) const {
  const Index bytes = layout_.record(layout_.height(i), layout_.breadth(j));
  const auto mine = words(i, j);
  std::copy(mine.begin(), mine.end(), record + 1);
  record[0] = checksum(record, bytes);
  write_at(record, static_cast<std::size_t>(bytes), layout_.offset(i, j));
  return static_cast<std::size_t>(bytes);
}

bool TileFile::read(Index i, Index j, std::uint64_t* record) const {
  const Index bytes = layout_.record(layout_.height(i), layout_.breadth(j)), at = layout_.offset(i, j), first = head * sizeof(std::uint64_t);
  const auto mine = words(i, j);
  if (read_at(record, static_cast<std::size_t>(first), at) != first || !std::equal(mine.begin(), mine.end(), record + 1)) return false;  // at once where nothing was written
  const Index rest = bytes - first;
  return read_at(record + head, static_cast<std::size_t>(rest), at + first) == rest && checksum(record, bytes) == record[0];
}

void TileFile::flush() const {
  if (::fsync(descriptor_) != 0) cannot("written", errno);
}
void TileFile::finish(const std::filesystem::path& to) {
  flush();
  if (::rename(path_.c_str(), to.c_str()) != 0) cannot(fmt::format("renamed to '{}'", to.string()), errno);
  const std::filesystem::path folder = to.has_parent_path() ? to.parent_path() : std::filesystem::path(".");
  if (const int directory = ::open(folder.c_str(), O_RDONLY | O_CLOEXEC); directory >= 0) {  // the name too; not every file system can
    ::fsync(directory);
    ::close(directory);
  }
  path_ = to;
}

}  // namespace linnet::ntk
