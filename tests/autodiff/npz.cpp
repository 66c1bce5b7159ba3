// .npz archives and trees in them. Archives that are wrong on purpose are put together here, field by field.
#include "npy_files.h"

#include "linnet/autodiff/npy_format.h"

#include <algorithm>

using namespace npy_files;

namespace {

using Arrays = std::map<std::string, Array<double>>;
using Params = Tree<Array<double>>;

std::uint32_t crc32(const std::string& bytes) {
  std::uint32_t crc = ~0u;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0u);
  }
  return ~crc;
}

struct Member {
  std::string name, data;        // data as it is in the archive
  std::uint16_t method = 0, flags = 0;
  std::uint64_t size = 0;        // declared, decompressed
  std::uint32_t crc = 0;
  bool zip64 = false;            // sizes of the local header in an extra field, as NumPy writes them
};
Member stored(std::string name, const std::string& data) { return {std::move(name), data, 0, 0, data.size(), crc32(data)}; }
Member deflated(std::string name, const std::string& data) {  // one block of deflate that is not compressed
  return {std::move(name), "\1" + little(data.size(), 2) + little(~data.size(), 2) + data, 8, 0, data.size(), crc32(data)};
}

std::string zip(const std::vector<Member>& members) {
  std::string file, directory;
  for (const Member& m : members) {
    const std::string extra = m.zip64 ? little(1, 2) + little(16, 2) + little(m.size, 8) + little(m.data.size(), 8) : "";
    const std::string begin = little(m.zip64 ? 45 : 20, 2) + little(m.flags, 2) + little(m.method, 2) + little(0, 2) + little(33, 2) + little(m.crc, 4);
    const std::string names = little(m.name.size(), 2), sizes = little(m.data.size(), 4) + little(m.size, 4);
    directory += "PK\1\2" + little(20, 2) + begin + sizes + names + little(0, 12) + little(file.size(), 4) + m.name;
    file += "PK\3\4" + begin + (m.zip64 ? little(~0ull, 8) : sizes) + names + little(extra.size(), 2) + m.name + extra + m.data;
  }
  return file + directory + "PK\5\6" + little(0, 4) + little(members.size(), 2) + little(members.size(), 2) + little(directory.size(), 4) + little(file.size(), 4) + little(0, 2);
}

std::string array_bytes(double value) { return described("<f8", "(1,)", raw<double>({value})); }

std::string npz_refusal(const Folder& folder, const std::string& bytes) {
  put(folder / "x.npz", bytes);
  const std::string text = refusal([&] { load_npz<double>(folder / "x.npz"); });
  CHECK(has(text, (folder / "x.npz").string()));
  return text;
}

// Archives are an option of the build; what is left without it is tested last.
bool no_archives() { return detail::archive_provider() == "none"; }
#define NEEDS_ARCHIVES if (no_archives()) return

}  // namespace

TEST_CASE_TEMPLATE("arrays read from the .npz file they were written to have the same names, shapes and bits", T, float, double) {
  NEEDS_ARCHIVES;
  const Folder folder;
  const std::map<std::string, Array<T>> arrays{{"", Array<T>(Shape{1}, T(1))}, {"a", Array<T>(Shape{}, T(0.1))}, {"conv.weight", Array<T>(Shape{0, 3})}, {"x/y", Array<T>(Shape{3, 2}, {1, 2, 3, 4, 5, 6})}, {"long", Array<T>(Shape{30000}, T(7))}, {"\u00fc", Array<T>(Shape{1})}};
  save_npz(folder / "x.npz", arrays);
  const auto read = load_npz<T>(folder / "x.npz");
  REQUIRE(read.size() == arrays.size());
  for (const auto& [name, array] : arrays) CHECK(same_bits(read.at(name), array));
  save_npz(folder / "y.npz", arrays);
  CHECK(bytes_of(folder / "x.npz") == bytes_of(folder / "y.npz"));
  save_npz<T>(folder / "y.npz", {});
  CHECK(load_npz<T>(folder / "y.npz").empty());
  CHECK(folder.files() == 2);
}

TEST_CASE("stored, deflated and zip64 members are read") {
  NEEDS_ARCHIVES;
  const Folder folder;
  Member numpy = stored("c.npy", array_bytes(3));
  numpy.zip64 = true;
  put(folder / "x.npz", zip({stored("a.npy", array_bytes(1)), deflated("b.npy", array_bytes(2)), numpy}));
  const Arrays read = load_npz<double>(folder / "x.npz");
  REQUIRE(read.size() == 3);
  CHECK(read.at("a").item() == 1);
  CHECK(read.at("b").item() == 2);
  CHECK(read.at("c").item() == 3);
}

TEST_CASE("a .npz file cut at any byte is refused, and one with a wrong byte is refused or reads the same values") {
  NEEDS_ARCHIVES;
  const Folder folder;
  const Arrays arrays{{"a", Array<double>(Shape{2}, {1, 2})}, {"b", Array<double>(Shape{}, 3.0)}};
  save_npz(folder / "whole.npz", arrays);
  const std::string whole = bytes_of(folder / "whole.npz");
  for (std::size_t n = 0; n < whole.size(); ++n) {
    CAPTURE(n);
    CHECK(npz_refusal(folder, whole.substr(0, n)).starts_with("npz: '"));
  }
  std::size_t refused = 0, read = 0;
  for (std::size_t at = 0; at < whole.size(); ++at)
    for (const int flip : {1, 0x20, 0xff}) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(bytes[at] ^ flip);
      CAPTURE(at);
      CAPTURE(flip);
      try {
        const Arrays got = load_npz<double>(put(folder / "x.npz", bytes));
        CHECK(got.size() == 2);
        for (const auto& [name, array] : got) CHECK((array == arrays.at("a") || array == arrays.at("b")));
        ++read;
      } catch (const StructureError& e) {
        CHECK(std::strlen(e.what()) > 20);
        ++refused;
      }
    }
  CHECK(refused > 5 * read);
}

TEST_CASE("archives that are none, or hold what is no array, are refused") {
  NEEDS_ARCHIVES;
  const Folder folder;
  CHECK(has(npz_refusal(folder, ""), "byte 0: this is no .npz file: an archive begins with 'PK'"));
  CHECK(has(npz_refusal(folder, "garbage of some length"), "byte 0: this is no .npz file"));
  CHECK(has(npz_refusal(folder, "PK\3\4garbage of some length that ends without a directory"), "cannot be read, 56 bytes that should be an archive: Not a zip archive"));
  CHECK(has(npz_refusal(folder, zip({stored("a.txt", array_bytes(1))})), "member 'a.txt' is no array: its name should end in .npy"));
  CHECK(has(npz_refusal(folder, zip({stored("folder/", "")})), "member 'folder/' is no array"));
  CHECK(has(npz_refusal(folder, zip({stored("a\n.npy", array_bytes(1))})), "the name of member 0, 'a\\x0a.npy', has a control character"));
  CHECK(has(npz_refusal(folder, zip({stored("a.npy", "ten bytes.")})), "npy: '" + (folder / "x.npz").string() + ":a.npy': byte 0: this is no .npy file: it begins with 'ten by'"));
  CHECK(has(npz_refusal(folder, zip({stored("a.npy", "")})), "byte 0: this is no .npy file: it has 0 bytes"));
  CHECK(has(npz_refusal(folder, zip({stored("a.npy", array_bytes(1)), stored("a.npy", array_bytes(2))})), "two members have one name; names must differ"));
}

TEST_CASE("members that are encrypted, compressed otherwise or not of their declared size are refused") {
  NEEDS_ARCHIVES;
  const Folder folder;
  const std::string data = array_bytes(1);
  Member m = stored("a.npy", data);
  m.flags = 1;
  CHECK(has(npz_refusal(folder, zip({m})), "member 'a.npy' is encrypted; save it without a password"));
  m = stored("a.npy", data);
  m.method = 12;
  CHECK(has(npz_refusal(folder, zip({m})), "member 'a.npy' is compressed by method 12; stored and deflated members are read"));
  m = stored("a.npy", data);
  m.size += 1;
  CHECK(has(npz_refusal(folder, zip({m})), "member 'a.npy' is stored, but"));
  m = deflated("a.npy", data);
  m.size = 1100 * m.data.size() + 1;
  CHECK(has(npz_refusal(folder, zip({m})), "more than 1100:1, which deflate does not reach"));
  m = deflated("a.npy", data);
  m.size -= 1;  // the stream goes on
  CHECK(has(npz_refusal(folder, zip({m})), "a.npy"));
  m = deflated("a.npy", data + "x");
  m.size -= 1;
  CHECK(has(npz_refusal(folder, zip({m})), "a.npy' has more bytes than the "));
  m = deflated("a.npy", data);
  m.size += 8;  // it ends before
  CHECK(has(npz_refusal(folder, zip({m})), "a.npy"));
  m = stored("a.npy", data);
  m.crc ^= 1;
  CHECK(has(npz_refusal(folder, zip({m})), "CRC error"));
  m = deflated("a.npy", data);
  m.data[0] = 7;  // a kind of block that there is not
  CHECK(has(npz_refusal(folder, zip({m})), "Zlib error"));
}

TEST_CASE("names that an archive cannot have are refused when it is written") {
  NEEDS_ARCHIVES;
  const Folder folder;
  const Array<double> array(Shape{1});
  CHECK(has(refusal([&] { save_npz<double>(folder / "x.npz", {{"a\nb", array}}); }), "cannot be written: the name 'a\\x0ab' has a control character"));
  CHECK(has(refusal([&] { save_npz<double>(folder / "x.npz", {{std::string(60001, 'a'), array}}); }), "has 60001 bytes, at most 60000 are possible"));
  CHECK(has(refusal([&] { save_npz<double>(folder / "x.npz", {{"\xff\xfe", array}}); }), "cannot be written: Invalid argument"));
  CHECK(folder.files() == 0);
}

TEST_CASE("archives that are not there, or cannot be written, are refused by name") {
  NEEDS_ARCHIVES;
  const Folder folder;
  const Arrays arrays{{"a", Array<double>(Shape{1})}};
  CHECK(has(refusal([&] { load_npz<float>(folder / "none.npz"); }), "none.npz' cannot be read: No such file or directory"));
  CHECK(has(refusal([&] { load_tree<float>(folder.path); }), "cannot be read: it is a folder, a regular file is expected"));
  CHECK(has(refusal([&] { save_npz(folder / "no/x.npz", arrays); }), "no/x.npz' cannot be written: no file can be made beside it: No such file or directory"));
  save_npz(folder / "x.npz", arrays);
  CHECK(has(refusal_on_a_full_disk([&] { save_npz<double>(folder / "x.npz", {{"a", Array<double>(Shape{100000})}}); }), "x.npz' cannot be written: Write error: File too large"));
  CHECK(load_npz<double>(folder / "x.npz") == arrays);
  CHECK(folder.files() == 1);
}

TEST_CASE_TEMPLATE("a tree read from its file has the same form, order and values", T, float, double) {
  NEEDS_ARCHIVES;
  const Folder folder;
  using Leaves = Tree<Array<T>>;
  const Array<T> W(Shape{2, 3}, {1, 2, 3, 4, 5, 6}), b(Shape{1, 3}, T(0.1));
  const Leaves tree{{"z_2", Leaves{{"W", W}, {"b", b}}}, {"a_10", Leaves{{"x", Leaves{{"W", b}}}}}, {"m", W}};
  save_tree(folder / "x.npz", tree);
  CHECK(load_tree<T>(folder / "x.npz") == tree);
  CHECK(load_tree<T>(folder / "x.npz").paths() == std::vector<std::string>{"z_2/W", "z_2/b", "a_10/x/W", "m"});
  save_tree(folder / "x.npz", Leaves(W));
  CHECK(load_tree<T>(folder / "x.npz") == Leaves(W));
  CHECK(load_npz<T>(folder / "x.npz").at("") == W);
  save_tree(folder / "x.npz", Leaves());
  CHECK(load_tree<T>(folder / "x.npz") == Leaves());
  save_tree(folder / "x.npz", Leaves{{"a", W}, {"nothing", Leaves()}});
  CHECK(load_tree<T>(folder / "x.npz") == Leaves{{"a", W}});
}

TEST_CASE("members of one child need not stand together") {
  NEEDS_ARCHIVES;
  const Folder folder;
  put(folder / "x.npz", zip({stored("b/W.npy", array_bytes(1)), stored("a.npy", array_bytes(2)), stored("b/b.npy", array_bytes(3))}));
  CHECK(load_tree<double>(folder / "x.npz").paths() == std::vector<std::string>{"b/W", "b/b", "a"});
}

TEST_CASE("paths that are no tree are refused") {
  NEEDS_ARCHIVES;
  const Folder folder;
  const auto text = [&](std::vector<std::string> names) {
    std::vector<Member> members;
    for (const std::string& name : names) members.push_back(stored(name + ".npy", array_bytes(1)));
    put(folder / "x.npz", zip(members));
    return refusal([&] { load_tree<double>(folder / "x.npz"); });
  };
  CHECK(has(text({"a/b", "a"}), "'a' is an array and also has children; no tree is so"));
  CHECK(has(text({"a", "a/b"}), "'a' is an array and also has children"));
  CHECK(has(text({"", "a"}), "'' is an array and also has children"));
  for (const char* name : {"a//b", "/a", "a/", "a b", "..", "a\\b", "\xc3\xbc"}) {
    CAPTURE(name);
    CHECK(has(text({name}), "the names of a tree are of letters, digits and '_'"));
  }
  std::string deep = "a";
  for (int i = 0; i < 100; ++i) deep += "/a";
  CHECK(has(text({deep}), "the tree is deeper than 100 names, which is the most"));
  const Array<double> array(Shape{1});
  CHECK(has(refusal([&] { save_tree(folder / "y.npz", Params{{"a/b", array}}); }), "y.npz': a child is named 'a/b'; the names of a tree are of letters, digits and '_'"));
  CHECK(has(refusal([&] { save_tree(folder / "y.npz", Params{{"", array}}); }), "a child is named ''"));
  Params nested(array);
  for (int i = 0; i < 101; ++i) nested = Params{{"a", nested}};
  CHECK(has(refusal([&] { save_tree(folder / "y.npz", nested); }), "the tree is deeper than 100 names"));
  CHECK(folder.files() == 1);
}

TEST_CASE("a library without archives says so") {
  if (!no_archives()) return;
  const Folder folder;
  CHECK(has(refusal([&] { load_npz<double>(folder / "x.npz"); }), "x.npz' cannot be read: the library was built without -Dnpz; build it with libzip, or use .npy files"));
  CHECK(has(refusal([&] { load_tree<float>(folder / "x.npz"); }), "cannot be read: the library was built without -Dnpz"));
  CHECK(has(refusal([&] { save_npz<float>(folder / "x.npz", {}); }), "x.npz' cannot be written: the library was built without -Dnpz; build it with libzip, or use .npy files"));
  CHECK(has(refusal([&] { save_tree(folder / "x.npz", Params()); }), "cannot be written: the library was built without -Dnpz"));
}
