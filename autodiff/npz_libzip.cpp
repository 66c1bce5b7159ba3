// .npz archives by libzip. Every member is held against the archive's length and its own declared size before one of them is read.
#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/npy_format.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <memory>
#include <set>
#include <zip.h>

namespace linnet::autodiff::detail {
namespace {

constexpr Index most_compressed = 1100;  // deflate reaches 1032:1; more is no deflate
constexpr std::size_t longest_name = 60000;  // the format has 16 bits for it
constexpr std::string_view suffix = ".npy";

struct Discard {
  void operator()(zip_t* archive) const { zip_discard(archive); }
  void operator()(zip_file_t* member) const { zip_fclose(member); }
};
using Archive = std::unique_ptr<zip_t, Discard>;

std::string message(int code) {
  zip_error_t error;
  zip_error_init_with_code(&error, code);
  const std::string text = zip_error_strerror(&error);
  zip_error_fini(&error);
  return text;
}

bool has_control_character(std::string_view name) {
  return std::any_of(name.begin(), name.end(), [](char c) { return static_cast<unsigned char>(c) < 32 || c == 127; });
}

class Member : public ByteReader {
 public:
  Member(zip_t* archive, zip_uint64_t index, std::string name, Index length) : ByteReader(std::move(name), length), file_(zip_fopen_index(archive, index, 0)) {
    if (!file_) fail<StructureError>("npz: '{}' cannot be read: {}", this->name(), zip_strerror(archive));
  }
  void finish() override {  // one read beyond the end, which makes libzip compare the checksum
    char more = 0;
    if (some(&more, 1) != 0) fail<StructureError>("npz: '{}' has more bytes than the {} the archive declares", name(), length());
  }

 private:
  Index some(char* to, Index n) override {
    const zip_int64_t got = zip_fread(file_.get(), to, static_cast<zip_uint64_t>(n));
    if (got < 0) fail<StructureError>("npz: '{}': byte {}: {}", name(), position(), zip_file_strerror(file_.get()));
    return got;
  }
  std::unique_ptr<zip_file_t, Discard> file_;
};

struct Entry {
  std::string name;  // without the suffix
  Index size, stored;
};

Entry checked_entry(zip_t* archive, const std::string& file, zip_uint64_t index, Index length) {
  zip_stat_t status;
  constexpr zip_uint64_t needed = ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
  if (zip_stat_index(archive, index, ZIP_FL_ENC_RAW, &status) != 0 || (status.valid & needed) != needed) fail<StructureError>("npz: '{}': member {} cannot be read: {}", file, index, zip_strerror(archive));
  const std::string_view name = status.name;
  if (has_control_character(name)) fail<StructureError>("npz: '{}': the name of member {}, '{}', has a control character", file, index, shown(name));
  if (!name.ends_with(suffix)) fail<StructureError>("npz: '{}': member '{}' is no array: its name should end in .npy", file, shown(name));
  if (status.encryption_method != ZIP_EM_NONE) fail<StructureError>("npz: '{}': member '{}' is encrypted; save it without a password", file, shown(name));
  if (status.comp_method != ZIP_CM_STORE && status.comp_method != ZIP_CM_DEFLATE) fail<StructureError>("npz: '{}': member '{}' is compressed by method {}; stored and deflated members are read", file, shown(name), status.comp_method);
  const auto limit = static_cast<zip_uint64_t>(length);
  if (status.comp_size > limit) fail<StructureError>("npz: '{}': member '{}' would have {} bytes in the archive, which has {}", file, shown(name), status.comp_size, length);
  if (status.comp_method == ZIP_CM_STORE && status.size != status.comp_size) fail<StructureError>("npz: '{}': member '{}' is stored, but {} bytes are declared and {} are there", file, shown(name), status.size, status.comp_size);
  if (status.size > 0 && (status.comp_size == 0 || (status.size - 1) / status.comp_size >= static_cast<zip_uint64_t>(most_compressed)))
    fail<StructureError>("npz: '{}': member '{}' would grow from {} bytes to {}, more than {}:1, which deflate does not reach", file, shown(name), status.comp_size, status.size, most_compressed);
  return {std::string(name.substr(0, name.size() - suffix.size())), static_cast<Index>(status.size), static_cast<Index>(status.comp_size)};
}

void check_beginning(const std::filesystem::path& file) {
  std::array<char, 4> start{};
  std::ifstream(file, std::ios::binary).read(start.data(), start.size());
  const std::string_view came(start.data(), start.size());
  if (came != std::string_view("PK\3\4", 4) && came != std::string_view("PK\5\6", 4)) fail<StructureError>("npz: '{}': byte 0: this is no .npz file: an archive begins with 'PK'", file.string());
}

[[noreturn]] void refuse_twice(const std::string& file) { fail<StructureError>("npz: '{}': two members have one name; names must differ", file); }

std::vector<Entry> checked_entries(zip_t* archive, const std::string& file, Index length) {
  std::vector<Entry> entries;
  std::set<std::string> names;
  Index left = length;  // members that share bytes would make much of little
  const auto count = static_cast<zip_uint64_t>(std::max<zip_int64_t>(zip_get_num_entries(archive, 0), 0));
  for (zip_uint64_t i = 0; i < count; ++i) {
    entries.push_back(checked_entry(archive, file, i, length));
    if (!names.insert(entries.back().name).second) refuse_twice(file);
    if (entries.back().stored > left) fail<StructureError>("npz: '{}': the members overlap: together they have more bytes than the archive, which has {}", file, length);
    left -= entries.back().stored;
  }
  return entries;
}

// Adds a stored member of a header and values; false where libzip cannot, which then says why.
bool add(zip_t* archive, const std::string& name, std::string& header, const void* values, std::size_t bytes) {
  constexpr zip_uint16_t first_of_january_1980 = (1 << 5) | 1;
  zip_buffer_fragment_t parts[2] = {{reinterpret_cast<zip_uint8_t*>(header.data()), header.size()}, {static_cast<zip_uint8_t*>(const_cast<void*>(values)), bytes}};
  zip_source_t* const source = zip_source_buffer_fragment_create(parts, bytes > 0 ? 2 : 1, 0, zip_get_error(archive));
  if (!source) return false;
  const zip_int64_t index = zip_file_add(archive, name.c_str(), source, ZIP_FL_ENC_UTF_8);
  if (index < 0) {
    zip_source_free(source);
    return false;
  }
  const auto at = static_cast<zip_uint64_t>(index);
  return zip_set_file_compression(archive, at, ZIP_CM_STORE, 0) == 0 && zip_file_set_dostime(archive, at, 0, first_of_january_1980, 0) == 0;
}

}  // namespace

template <Scalar T> std::vector<std::pair<std::string, Array<T>>> read_archive(const std::filesystem::path& file) {
  const Index length = file_length(file);
  check_beginning(file);
  int code = 0;
  const Archive archive(zip_open(file.c_str(), ZIP_RDONLY | ZIP_CHECKCONS, &code));
  if (!archive && code == ZIP_ER_EXISTS) refuse_twice(file.string());
  if (!archive) fail<StructureError>("npz: '{}' cannot be read, {} bytes that should be an archive: {}", file.string(), length, message(code));
  const std::vector<Entry> entries = checked_entries(archive.get(), file.string(), length);
  std::vector<std::pair<std::string, Array<T>>> arrays;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    Member bytes(archive.get(), i, fmt::format("{}:{}.npy", file.string(), shown(entries[i].name)), entries[i].size);
    arrays.emplace_back(entries[i].name, read_npy<T>(bytes));
  }
  return arrays;
}

template <Scalar T> void write_archive(const std::filesystem::path& file, const std::vector<std::pair<std::string, const Array<T>*>>& members) {
  for (const auto& [name, array] : members) {
    if (name.size() > longest_name) fail<StructureError>("npz: '{}' cannot be written: the name '{}' has {} bytes, at most {} are possible", file.string(), shown(name), name.size(), longest_name);
    if (has_control_character(name)) fail<StructureError>("npz: '{}' cannot be written: the name '{}' has a control character", file.string(), shown(name));
  }
  Replacement replacement(file);
  if (members.empty()) {  // libzip writes no archive without members: the end record alone
    constexpr std::array<char, 22> end{'P', 'K', 5, 6};
    replacement.write(end.data(), end.size());
    return replacement.commit();
  }
  const auto cannot = [&](const std::string& why) { fail<StructureError>("npz: '{}' cannot be written: {}", file.string(), why); };
  int code = 0;
  Archive archive(zip_open(replacement.temporary().c_str(), ZIP_CREATE | ZIP_TRUNCATE, &code));
  if (!archive) cannot(message(code));
  std::vector<std::string> headers;
  headers.reserve(members.size());  // libzip borrows headers and values until it closes the archive
  for (const auto& [name, array] : members) {
    headers.push_back(npy_header<T>(array->shape()));
    if (!add(archive.get(), name + std::string(suffix), headers.back(), array->data(), static_cast<std::size_t>(array->size()) * sizeof(T))) cannot(zip_strerror(archive.get()));
  }
  if (zip_close(archive.get()) != 0) cannot(zip_strerror(archive.get()));
  (void)archive.release();  // zip_close freed it
  replacement.commit();
}

std::string archive_provider() { return fmt::format("libzip {}", zip_libzip_version()); }

template std::vector<std::pair<std::string, Array<float>>> read_archive(const std::filesystem::path&);
template std::vector<std::pair<std::string, Array<double>>> read_archive(const std::filesystem::path&);
template void write_archive(const std::filesystem::path&, const std::vector<std::pair<std::string, const Array<float>*>>&);
template void write_archive(const std::filesystem::path&, const std::vector<std::pair<std::string, const Array<double>*>>&);

}  // namespace linnet::autodiff::detail
