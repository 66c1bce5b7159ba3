// The .npy format, files that replace others whole, and trees by their paths. Archives are in npz_libzip.cpp; npy_format.h is what they share.
#include "linnet/autodiff/npy.h"

#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/npy_format.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <fcntl.h>
#include <optional>
#include <set>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <unordered_map>

namespace linnet::autodiff {
namespace detail {

static_assert(std::endian::native == std::endian::little, "the readers take the bytes of a little-endian file as they are");

namespace {

constexpr Index header_limit = 10000;  // NumPy's own
constexpr std::string_view magic("\x93NUMPY", 6);

struct Type {
  std::string_view descr;
  char kind;  // f, i, u or b
  Index bytes;
};
constexpr std::array types{Type{"<f4", 'f', 4}, Type{"<f8", 'f', 8}, Type{"|b1", 'b', 1}, Type{"|i1", 'i', 1}, Type{"<i2", 'i', 2}, Type{"<i4", 'i', 4},
                           Type{"<i8", 'i', 8}, Type{"|u1", 'u', 1}, Type{"<u2", 'u', 2}, Type{"<u4", 'u', 4}, Type{"<u8", 'u', 8}};

struct Header {
  Type type{};
  bool fortran = false;
  std::vector<Index> extents;
};

template <class... Args> [[noreturn]] void refuse(const ByteReader& bytes, Index at, fmt::format_string<Args...> text, Args&&... args) {
  fail<StructureError>("npy: '{}': byte {}: {}", bytes.name(), at, fmt::format(text, std::forward<Args>(args)...));
}

// The description of an array, a Python dictionary of exactly three keys. Reads that and no other Python.
class HeaderText {
 public:
  HeaderText(const ByteReader& bytes, std::string_view text, Index first) : bytes_(bytes), text_(text), first_(first) {}

  Header parse() {
    Header header;
    std::set<std::string> seen;
    expect('{', "'{' of a dictionary");
    while (!accept('}')) {
      const std::size_t at = next();
      const std::string key(quoted("a key in quotes"));
      if (!seen.insert(key).second) stop(at, "the key '{}' is there twice", shown(key));
      expect(':', "':' after the key '" + shown(key) + "'");
      if (key == "descr") header.type = type();
      else if (key == "fortran_order") header.fortran = boolean();
      else if (key == "shape") header.extents = extents();
      else stop(at, "unknown key '{}'; the keys must be 'descr', 'fortran_order' and 'shape'", shown(key));
      if (!accept(',') && peek() != '}') stop(at_, "expected ',' or '}}' after the value of '{}', got {}", key, came());
    }
    for (const char* key : {"descr", "fortran_order", "shape"})
      if (!seen.contains(key)) stop(at_, "the description has no key '{}'", key);
    if (const std::size_t end = next(); end != text_.size()) stop(end, "expected nothing but blanks after the description, got {}", came());
    if (text_.back() != '\n') stop(text_.size() - 1, "the header must end with a newline");
    return header;
  }

 private:
  template <class... Args> [[noreturn]] void stop(std::size_t at, fmt::format_string<Args...> text, Args&&... args) const {
    refuse(bytes_, first_ + static_cast<Index>(at), text, std::forward<Args>(args)...);
  }
  std::size_t next() {  // past blanks
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
    return at_;
  }
  char peek() { return next() < text_.size() ? text_[at_] : '\0'; }
  std::string came() { return next() < text_.size() ? fmt::format("'{}'", shown(text_.substr(at_, 1))) : "the end of the header"; }
  bool accept(char c) {
    if (next() == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c, const std::string& what) {
    if (!accept(c)) stop(at_, "expected {}, got {}", what, came());
  }
  std::string_view quoted(const char* what) {
    const char quote = peek();
    if (quote != '\'' && quote != '"') stop(at_, "expected {}, got {}", what, came());
    const std::size_t end = text_.find(quote, at_ + 1);
    if (end == text_.npos) stop(at_, "the quote is not closed");
    const std::string_view inside = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return inside;
  }

  Type type() {
    const std::size_t at = next();
    if (peek() == '[') stop(at, "a structured type ('descr' is a list); one number type is expected");
    const std::string_view descr = quoted("a type in quotes for 'descr'");
    for (const Type& t : types)
      if (t.descr == descr || (t.bytes == 1 && descr.size() == 3 && descr[0] == '<' && descr.substr(1) == t.descr.substr(1))) return t;
    if (descr.find('O') != descr.npos) stop(at, "type '{}' holds Python objects, which are never read; save numbers", shown(descr));
    if (descr.starts_with('>')) stop(at, "type '{}' is big-endian, little-endian is expected; convert it before saving", shown(descr));
    std::vector<std::string_view> names;
    for (const Type& t : types) names.push_back(t.descr);
    stop(at, "type '{}' is not read; there are {}", shown(descr), fmt::join(names, ", "));
  }

  bool boolean() {
    const std::size_t at = next();
    for (const auto& [word, value] : {std::pair<std::string_view, bool>{"True", true}, {"False", false}})
      if (text_.substr(at).starts_with(word)) {
        at_ += word.size();
        return value;
      }
    stop(at, "'fortran_order' must be True or False, got {}", came());
  }

  std::vector<Index> extents() {
    std::vector<Index> all;
    const std::size_t first = next();
    expect('(', "'(' of a tuple for 'shape'");
    bool comma = true;
    while (!accept(')')) {
      if (!comma) stop(at_, "expected ',' or ')' in 'shape', got {}", came());
      all.push_back(extent());
      comma = accept(',');
    }
    if (all.size() == 1 && !comma) stop(first, "'shape' is a number in brackets; a tuple of one has a comma: ({},)", all[0]);
    if (static_cast<Index>(all.size()) > Shape::max_rank) stop(first, "'shape' has {} axes, at most {} are possible", all.size(), Shape::max_rank);
    return all;
  }

  Index extent() {
    const std::size_t at = next();
    Index value = 0;
    const char* const begin = text_.data() + at;
    const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), value);
    const std::string digits(begin, end);
    if (error == std::errc::result_out_of_range) stop(at, "the extent {} of 'shape' is more than a 64-bit index counts", shown(digits));
    if (error != std::errc()) stop(at, "expected an extent of 'shape', got {}", came());
    if (value < 0) stop(at, "'shape' has the negative extent {}", value);
    if (digits.size() > 1 && (digits[0] == '0' || digits[0] == '-')) stop(at, "'{}' is not how an extent of 'shape' is written", shown(digits));
    at_ += digits.size();
    return value;
  }

  const ByteReader& bytes_;
  std::string_view text_;
  Index first_;
  std::size_t at_ = 0;
};

Header read_header(ByteReader& bytes) {
  std::array<unsigned char, 12> start{};
  if (bytes.length() < 10) refuse(bytes, bytes.length(), "this is no .npy file: it has {} bytes, the shortest beginning has 10", bytes.length());
  bytes.read(start.data(), 8);
  if (std::memcmp(start.data(), magic.data(), magic.size()) != 0) refuse(bytes, 0, "this is no .npy file: it begins with '{}', expected is '\\x93NUMPY'", shown({reinterpret_cast<const char*>(start.data()), magic.size()}));
  const int major = start[6], minor = start[7];
  if (major < 1 || major > 3 || minor != 0) refuse(bytes, 6, "version {}.{} of the format is not known; there are 1.0, 2.0 and 3.0", major, minor);
  const Index field = major == 1 ? 2 : 4;
  if (bytes.length() < 8 + field) refuse(bytes, bytes.length(), "the file ends inside of the length of its header");
  bytes.read(start.data() + 8, field);
  Index length = 0;
  for (Index i = field; i-- > 0;) length = length * 256 + start[static_cast<std::size_t>(8 + i)];
  if (length > header_limit) refuse(bytes, 8, "the header would have {} bytes, at most {} are read", length, header_limit);
  if (length == 0) refuse(bytes, 8, "the header is empty");
  if (length > bytes.length() - bytes.position()) refuse(bytes, 8, "the header has {} bytes, but {} remain in the file", length, bytes.length() - bytes.position());
  const Index first = bytes.position();
  std::string text(static_cast<std::size_t>(length), '\0');
  bytes.read(text.data(), length);
  return HeaderText(bytes, text, first).parse();
}

// The shape, after the length of the file has been held against it.
Shape checked_shape(const ByteReader& bytes, const Header& header) {
  Index count = 1, bound = 1;  // bound: with zeros left out, so that no partial product overflows either
  for (const Index n : header.extents) {
    if (__builtin_mul_overflow(bound, std::max<Index>(n, 1), &bound)) refuse(bytes, bytes.position(), "the shape ({}) has more elements than a 64-bit index counts", fmt::join(header.extents, ", "));
    count *= n;
  }
  const Index remain = bytes.length() - bytes.position();
  Index wanted = 0;
  if (__builtin_mul_overflow(count, header.type.bytes, &wanted) || wanted > remain)
    refuse(bytes, bytes.length(), "the file ends too early: shape ({}) of '{}' needs {} values of {} bytes, but {} bytes remain after the header", fmt::join(header.extents, ", "), header.type.descr, count, header.type.bytes, remain);
  if (wanted < remain) refuse(bytes, bytes.position() + wanted, "{} bytes follow the last value; shape ({}) of '{}' has {} bytes", remain - wanted, fmt::join(header.extents, ", "), header.type.descr, wanted);
  return Shape(std::span<const Index>(header.extents));
}

// One value as T; nothing where T does not hold it.
template <Scalar T, class From> std::optional<T> converted(From v) {
  const T value = static_cast<T>(v);
  if constexpr (std::is_floating_point_v<From>) {
    if (std::isinf(value) && !std::isinf(v)) return std::nullopt;
  } else {
    constexpr T limit = static_cast<T>(std::uint64_t{1} << 63) * (std::is_signed_v<From> ? 1 : 2);  // beyond it the way back is undefined
    if (value >= limit || static_cast<From>(value) != v) return std::nullopt;
  }
  return value;
}

// Where the elements of a Fortran-ordered file belong: counts through the indices with the first axis fastest.
class FortranOrder {
 public:
  explicit FortranOrder(const Shape& shape) : extents_(shape.begin(), shape.end()), strides_(extents_.size(), 1), at_(extents_.size(), 0) {
    for (std::size_t i = extents_.size(); i-- > 1;) strides_[i - 1] = strides_[i] * extents_[i];
  }
  Index next() {
    const Index here = offset_;
    for (std::size_t i = 0; i < extents_.size(); ++i) {
      offset_ += strides_[i];
      if (++at_[i] < extents_[i]) return here;
      offset_ -= extents_[i] * strides_[i];
      at_[i] = 0;
    }
    return here;
  }

 private:
  std::vector<Index> extents_, strides_, at_;
  Index offset_ = 0;
};

template <Scalar T, class From> void read_values(ByteReader& bytes, const Header& header, Array<T>& to) {
  if constexpr (std::is_same_v<T, From>) {
    if (!header.fortran || to.shape().rank() < 2) return bytes.read(to.data(), to.size() * static_cast<Index>(sizeof(T)));
  }
  constexpr Index block = 8192;
  std::array<From, block> values;
  FortranOrder fortran(to.shape());
  for (Index done = 0; done < to.size(); done += block) {
    const Index n = std::min(block, to.size() - done), first = bytes.position();
    bytes.read(values.data(), n * static_cast<Index>(sizeof(From)));
    for (Index i = 0; i < n; ++i) {
      const From v = values[static_cast<std::size_t>(i)];
      const std::optional<T> value = converted<T>(v);
      const Index byte = first + i * static_cast<Index>(sizeof(From));
      if (!value) refuse(bytes, byte, "the value {} of '{}' is not a {}; load it as a wider type", v, header.type.descr, std::is_same_v<T, float> ? "float" : "double");
      if (header.type.kind == 'b' && v != 0 && v != 1) refuse(bytes, byte, "the value {} of '|b1' is neither 0 nor 1", v);
      to.data()[header.fortran ? fortran.next() : done + i] = *value;
    }
  }
}

template <Scalar T> void read_values(ByteReader& bytes, const Header& header, Array<T>& to) {
  const bool is_signed = header.type.kind == 'i';
  if (header.type.kind == 'f') return header.type.bytes == 4 ? read_values<T, float>(bytes, header, to) : read_values<T, double>(bytes, header, to);
  switch (header.type.bytes) {
    case 1: return is_signed ? read_values<T, std::int8_t>(bytes, header, to) : read_values<T, std::uint8_t>(bytes, header, to);
    case 2: return is_signed ? read_values<T, std::int16_t>(bytes, header, to) : read_values<T, std::uint16_t>(bytes, header, to);
    case 4: return is_signed ? read_values<T, std::int32_t>(bytes, header, to) : read_values<T, std::uint32_t>(bytes, header, to);
    default: return is_signed ? read_values<T, std::int64_t>(bytes, header, to) : read_values<T, std::uint64_t>(bytes, header, to);
  }
}

std::string reason(int error) { return std::generic_category().message(error); }

class FileReader : public ByteReader {
 public:
  explicit FileReader(const std::filesystem::path& file) : ByteReader(file.string(), file_length(file)), descriptor_(::open(file.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (descriptor_ < 0) fail<StructureError>("npy: '{}' cannot be opened: {}", name(), reason(errno));
  }
  ~FileReader() override { ::close(descriptor_); }

 private:
  Index some(char* to, Index n) override {
    while (true) {
      const ssize_t got = ::read(descriptor_, to, static_cast<std::size_t>(n));
      if (got >= 0) return got;
      if (errno != EINTR) refuse(*this, position(), "it cannot be read: {}", reason(errno));
    }
  }
  int descriptor_;
};

}  // namespace

std::string shown(std::string_view text) {
  std::string result;
  for (const char c : text.substr(0, 60)) result += c >= ' ' && c <= '~' ? std::string(1, c) : fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  return text.size() > 60 ? result + "…" : result;
}

void ByteReader::read(void* to, Index n) {
  char* at = static_cast<char*>(to);
  while (n > 0) {
    const Index got = some(at, n);
    if (got == 0) refuse(*this, position_, "it ended while it was read; {} bytes were to come", n);
    position_ += got;
    at += got;
    n -= got;
  }
}

template <Scalar T> Array<T> read_npy(ByteReader& bytes) {
  const Header header = read_header(bytes);
  const Shape shape = checked_shape(bytes, header);
  Array<T> array = Array<T>::uninitialized(shape);
  read_values(bytes, header, array);
  bytes.finish();
  return array;
}

template <Scalar T> std::string npy_header(const Shape& shape) {
  const std::string tuple = fmt::format("({}{})", fmt::join(shape.begin(), shape.end(), ", "), shape.rank() == 1 ? "," : "");
  std::string text = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}", std::is_same_v<T, float> ? "<f4" : "<f8", tuple);
  text.resize((10 + text.size() + 1 + 63) / 64 * 64 - 10 - 1, ' ');
  text += '\n';
  std::string header(magic);
  for (const std::size_t byte : {std::size_t{1}, std::size_t{0}, text.size() % 256, text.size() / 256}) header += static_cast<char>(byte);
  return header + text;
}

Index file_length(const std::filesystem::path& file) {
  struct stat status {};
  if (::stat(file.c_str(), &status) != 0) fail<StructureError>("npy: '{}' cannot be read: {}", file.string(), reason(errno));
  if (!S_ISREG(status.st_mode)) fail<StructureError>("npy: '{}' cannot be read: it is {}, a regular file is expected", file.string(), S_ISDIR(status.st_mode) ? "a folder" : "a device or a pipe");
  return status.st_size;
}

void Replacement::cannot(const char* what, int error) const { fail<StructureError>("npy: '{}' cannot be written: {}: {}", shown_.string(), what, reason(error)); }

Replacement::Replacement(const std::filesystem::path& file) : shown_(file), target_(file) {
  if (struct stat status {}; ::stat(file.c_str(), &status) == 0) {
    if (!S_ISREG(status.st_mode)) fail<StructureError>("npy: '{}' cannot be written: it is there and is no regular file", file.string());
    target_ = std::filesystem::canonical(file);  // what a link names is replaced, not the link
  }
  static std::atomic<unsigned> count = 0;
  temporary_ = target_.parent_path() / fmt::format(".linnet_{}_{}.tmp", ::getpid(), count++);
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor_ < 0) cannot("no file can be made beside it", errno);
}

Replacement::~Replacement() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void Replacement::write(const void* from, std::size_t n) {
  const char* at = static_cast<const char*>(from);
  while (n > 0) {
    const ssize_t done = ::write(descriptor_, at, n);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) cannot("writing failed", errno);
    at += done;
    n -= static_cast<std::size_t>(done);
  }
}

void Replacement::commit() {
  // Opened anew: an archive's writer puts another file of this name in its place.
  const int now = ::open(temporary_.c_str(), O_RDONLY | O_CLOEXEC);
  const int synced = now < 0 ? -1 : ::fsync(now);
  const int error = errno;
  if (now >= 0) ::close(now);
  if (synced != 0) cannot("it does not reach the disk", error);
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) cannot("it cannot be renamed to its name", errno);
  ::close(descriptor_);
  descriptor_ = -1;
  const std::filesystem::path folder = target_.has_parent_path() ? target_.parent_path() : std::filesystem::path(".");
  if (const int directory = ::open(folder.c_str(), O_RDONLY | O_CLOEXEC); directory >= 0) {  // the name too; not every file system can
    ::fsync(directory);
    ::close(directory);
  }
}

template Array<float> read_npy(ByteReader&);
template Array<double> read_npy(ByteReader&);
template std::string npy_header<float>(const Shape&);
template std::string npy_header<double>(const Shape&);

}  // namespace detail

namespace {

constexpr std::size_t deepest = 100;  // names in a path, so that no file exhausts the stack

template <Scalar T> struct Entry {
  std::vector<std::string> names;
  Array<T>* array;
};

void check_name(const std::string& file, const std::string& name) {
  const auto allowed = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; };
  if (name.empty() || !std::all_of(name.begin(), name.end(), allowed)) fail<StructureError>("npy: '{}': a child is named '{}'; the names of a tree are of letters, digits and '_'", file, detail::shown(name));
}

void check_depth(const std::string& file, std::size_t names) {
  if (names > deepest) fail<StructureError>("npy: '{}': the tree is deeper than {} names, which is the most", file, deepest);
}

template <Scalar T> void check_names(const std::string& file, const Tree<Array<T>>& tree, std::size_t depth) {
  check_depth(file, depth);
  if (tree.is_leaf()) return;
  for (const auto& [name, child] : tree.children()) {
    check_name(file, name);
    check_names(file, child, depth + 1);
  }
}

std::vector<std::string> split_path(const std::string& file, const std::string& path) {
  std::vector<std::string> names;
  for (std::size_t at = 0; !path.empty() && at <= path.size();) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    names.push_back(path.substr(at, end - at));
    check_name(file, names.back());
    at = end + 1;
  }
  check_depth(file, names.size());
  return names;
}

// The tree of these entries, whose paths agree in their first `level` names.
template <Scalar T> Tree<Array<T>> grown(const std::string& file, const std::vector<Entry<T>>& entries, std::size_t level) {
  std::vector<std::pair<std::string, std::vector<Entry<T>>>> groups;
  std::unordered_map<std::string, std::size_t> where;
  for (const Entry<T>& entry : entries) {
    if (entry.names.size() == level) {
      if (entries.size() == 1) return Tree<Array<T>>(std::move(*entry.array));
      fail<StructureError>("npy: '{}': '{}' is an array and also has children; no tree is so", file, fmt::join(entry.names, "/"));
    }
    const auto [at, added] = where.try_emplace(entry.names[level], groups.size());
    if (added) groups.emplace_back(entry.names[level], std::vector<Entry<T>>());
    groups[at->second].second.push_back(entry);
  }
  std::vector<typename Tree<Array<T>>::Child> children;
  for (const auto& [name, group] : groups) children.emplace_back(name, grown(file, group, level + 1));
  return Tree<Array<T>>(std::move(children));
}

}  // namespace

template <Scalar T> Array<T> load_npy(const std::filesystem::path& file) {
  detail::FileReader bytes(file);
  return detail::read_npy<T>(bytes);
}

template <Scalar T> void save_npy(const std::filesystem::path& file, const Array<T>& array) {
  detail::Replacement replacement(file);
  const std::string header = detail::npy_header<T>(array.shape());
  replacement.write(header.data(), header.size());
  replacement.write(array.data(), static_cast<std::size_t>(array.size()) * sizeof(T));
  replacement.commit();
}

template <Scalar T> std::map<std::string, Array<T>> load_npz(const std::filesystem::path& file) {
  std::map<std::string, Array<T>> arrays;
  for (auto& [name, array] : detail::read_archive<T>(file)) arrays.emplace(std::move(name), std::move(array));
  return arrays;
}

template <Scalar T> void save_npz(const std::filesystem::path& file, const std::map<std::string, Array<T>>& arrays) {
  std::vector<std::pair<std::string, const Array<T>*>> members;
  for (const auto& [name, array] : arrays) members.emplace_back(name, &array);
  detail::write_archive<T>(file, members);
}

template <Scalar T> Tree<Array<T>> load_tree(const std::filesystem::path& file) {
  auto members = detail::read_archive<T>(file);
  std::vector<Entry<T>> entries;
  for (auto& [path, array] : members) entries.push_back({split_path(file.string(), path), &array});
  return grown(file.string(), entries, 0);
}

template <Scalar T> void save_tree(const std::filesystem::path& file, const Tree<Array<T>>& tree) {
  std::vector<std::pair<std::string, const Array<T>*>> members;
  check_names(file.string(), tree, 0);
  tree.visit([&](const std::string& path, const Array<T>& array) { members.emplace_back(path, &array); });
  detail::write_archive<T>(file, members);
}

#define LINNET_INSTANTIATE(T)                                                                                     \
  template Array<T> load_npy(const std::filesystem::path&);                                                       \
  template void save_npy(const std::filesystem::path&, const Array<T>&);                                          \
  template std::map<std::string, Array<T>> load_npz(const std::filesystem::path&);                                \
  template void save_npz(const std::filesystem::path&, const std::map<std::string, Array<T>>&);                   \
  template Tree<Array<T>> load_tree(const std::filesystem::path&);                                                \
  template void save_tree(const std::filesystem::path&, const Tree<Array<T>>&);
LINNET_INSTANTIATE(float)
LINNET_INSTANTIATE(double)

}  // namespace linnet::autodiff
