// .npy and .npz: what is written is read again; what is not exactly what it says is refused in a sentence. Every file is made here, byte by byte.
#include "npy_files.h"

#include <cmath>
#include <limits>

using namespace npy_files;

namespace {

template <class T> Array<T> loaded(const Folder& folder, const std::string& bytes) { return load_npy<T>(put(folder / "x.npy", bytes)); }
std::string npy_refusal(const Folder& folder, const std::string& bytes) {
  const std::string text = refusal([&] { loaded<double>(folder, bytes); });
  CHECK(has(text, "npy: '" + (folder / "x.npy").string() + "': byte "));
  return text;
}

template <class T> std::vector<Array<T>> examples() {
  return {Array<T>(Shape{}, T(2.5)), Array<T>(Shape{0}), Array<T>(Shape{0, 3}), Array<T>(Shape{2, 0, 4}), Array<T>(Shape{1}, T(-1)),
          Array<T>(Shape{2, 3}, {T(1), T(0.1), T(-0.0), std::numeric_limits<T>::infinity(), std::numeric_limits<T>::denorm_min(), std::numeric_limits<T>::max()}),
          Array<T>(Shape{1, 1, 1, 1, 1, 1, 1, 2}, {T(3), T(4)}), Array<T>(Shape{20001}, T(7))};
}

}  // namespace

TEST_CASE_TEMPLATE("an array read from the .npy file it was written to has the same shape and bits", T, float, double) {
  const Folder folder;
  for (const Array<T>& array : examples<T>()) {
    CAPTURE(str(array.shape()));
    save_npy(folder / "x.npy", array);
    CHECK(same_bits(load_npy<T>(folder / "x.npy"), array));
    const std::string bytes = bytes_of(folder / "x.npy");
    CHECK((bytes.size() - static_cast<std::size_t>(array.size()) * sizeof(T)) % 64 == 0);
    save_npy(folder / "y.npy", array);
    CHECK(bytes_of(folder / "y.npy") == bytes);
  }
  CHECK(folder.files() == 2);  // no temporary is left
}

TEST_CASE("a .npy file has the bytes NumPy writes") {
  const Folder folder;
  save_npy(folder / "x.npy", Array<float>(Shape{3}, {1, 2, 3}));
  std::string description = "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }";
  description.resize(117, ' ');
  CHECK(bytes_of(folder / "x.npy") == npy(description + "\n", raw<float>({1, 2, 3})));
}

TEST_CASE("versions 2.0 and 3.0, other key orders, quotes and spacing are read") {
  const Folder folder;
  const Array<double> expected(Shape{2, 1}, {1, 2});
  const std::string values = raw<double>({1, 2});
  for (const int version : {1, 2, 3}) {
    CHECK(loaded<double>(folder, npy("{\"shape\":(2,1),'fortran_order' :False, 'descr': '<f8'}  \n", values, version)) == expected);
    CHECK(loaded<double>(folder, npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2, 1,), }\n", values, version)) == expected);
  }
}

TEST_CASE_TEMPLATE("Fortran order is turned into C order", T, float, double) {
  const Folder folder;
  CHECK(loaded<T>(folder, described("<f8", "(2, 3)", raw<double>({1, 4, 2, 5, 3, 6}), "True")) == Array<T>(Shape{2, 3}, {1, 2, 3, 4, 5, 6}));
  CHECK(loaded<T>(folder, described("<i2", "(2, 1, 2)", raw<std::int16_t>({1, 3, 2, 4}), "True")) == Array<T>(Shape{2, 1, 2}, {1, 2, 3, 4}));
  CHECK(loaded<T>(folder, described("<f8", "()", raw<double>({3}), "True")) == Array<T>(Shape{}, T(3)));
  CHECK(loaded<T>(folder, described("<f8", "(0, 3)", "", "True")) == Array<T>(Shape{0, 3}));
  std::vector<float> values(150 * 200);  // over more than one block of the reader
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 150 * 200 + i / 150);
  const Array<T> wide = loaded<T>(folder, described("<f4", "(150, 200)", raw(values), "True"));
  for (Index i = 0; i < wide.size(); ++i) REQUIRE(wide.data()[i] == T(i));
}

TEST_CASE_TEMPLATE("integers and booleans are read as numbers", T, float, double) {
  const Folder folder;
  CHECK(loaded<T>(folder, described("|i1", "(2,)", raw<std::int8_t>({-128, 127}))) == Array<T>(Shape{2}, {-128, 127}));
  CHECK(loaded<T>(folder, described("|u1", "(2,)", raw<std::uint8_t>({0, 255}))) == Array<T>(Shape{2}, {0, 255}));
  CHECK(loaded<T>(folder, described("<i1", "(1,)", raw<std::int8_t>({-3}))) == Array<T>(Shape{1}, {-3}));
  CHECK(loaded<T>(folder, described("<i2", "(2,)", raw<std::int16_t>({-32768, 32767}))) == Array<T>(Shape{2}, {-32768, 32767}));
  CHECK(loaded<T>(folder, described("<u2", "(1,)", raw<std::uint16_t>({65535}))) == Array<T>(Shape{1}, {65535}));
  CHECK(loaded<T>(folder, described("<i4", "(2,)", raw<std::int32_t>({-(1 << 24), 1 << 24}))) == Array<T>(Shape{2}, {-T(1 << 24), T(1 << 24)}));
  CHECK(loaded<T>(folder, described("<u4", "(1,)", raw<std::uint32_t>({1u << 31}))) == Array<T>(Shape{1}, {T(1u << 31)}));
  CHECK(loaded<T>(folder, described("<i8", "(2,)", raw<std::int64_t>({std::numeric_limits<std::int64_t>::min(), 5}))) == Array<T>(Shape{2}, {-std::ldexp(T(1), 63), T(5)}));
  CHECK(loaded<T>(folder, described("<u8", "(1,)", raw<std::uint64_t>({std::uint64_t{1} << 63}))) == Array<T>(Shape{1}, {std::ldexp(T(1), 63)}));
  CHECK(loaded<T>(folder, described("|b1", "(3,)", std::string("\0\1\0", 3))) == Array<T>(Shape{3}, {0, 1, 0}));
}

TEST_CASE("numbers that the wanted type does not hold are refused with their byte") {
  const Folder folder;
  const std::string big = described("<i4", "(2,)", raw<std::int32_t>({1, (1 << 24) + 1}));
  CHECK(loaded<double>(folder, big).data()[1] == (1 << 24) + 1);
  CHECK(has(refusal([&] { loaded<float>(folder, big); }), "byte " + std::to_string(big.size() - 4) + ": the value 16777217 of '<i4' is not a float; load it as a wider type"));
  CHECK(has(npy_refusal(folder, described("<i8", "(1,)", raw<std::int64_t>({(std::int64_t{1} << 53) + 1}))), "the value 9007199254740993 of '<i8' is not a double"));
  CHECK(has(npy_refusal(folder, described("<i8", "(1,)", raw<std::int64_t>({std::numeric_limits<std::int64_t>::max()}))), "the value 9223372036854775807 of '<i8'"));
  CHECK(has(npy_refusal(folder, described("<u8", "(1,)", raw<std::uint64_t>({~std::uint64_t{0}}))), "the value 18446744073709551615 of '<u8'"));
  CHECK(has(npy_refusal(folder, described("|b1", "(2,)", "\1\2")), "the value 2 of '|b1' is neither 0 nor 1"));
  CHECK(has(refusal([&] { loaded<float>(folder, described("<f8", "(1,)", raw<double>({1e300}))); }), "the value 1e+300 of '<f8' is not a float; load it as a wider type"));
  const double inf = std::numeric_limits<double>::infinity();
  CHECK(loaded<float>(folder, described("<f8", "(2,)", raw<double>({0.1, -inf}))) == Array<float>(Shape{2}, {0.1f, -static_cast<float>(inf)}));
  CHECK(std::isnan(loaded<float>(folder, described("<f8", "(1,)", raw<double>({std::nan("")}))).item()));
}

TEST_CASE("a .npy file cut at any byte, or longer by one, is refused") {
  const Folder folder;
  save_npy(folder / "whole.npy", Array<double>(Shape{3, 2}, {1, 2, 3, 4, 5, 6}));
  const std::string whole = bytes_of(folder / "whole.npy");
  for (std::size_t n = 0; n < whole.size(); ++n) {
    CAPTURE(n);
    const std::string text = npy_refusal(folder, whole.substr(0, n));
    CHECK(has(text, n < 10 ? "this is no .npy file: it has " + std::to_string(n) + " bytes, the shortest beginning has 10" : n == 10 ? "byte 8: the header has 118 bytes, but 0 remain in the file" :
                    n < 128 ? "byte 8: the header has 118 bytes, but " : "byte " + std::to_string(n) + ": the file ends too early: shape (3, 2) of '<f8' needs 6 values of 8 bytes, but " + std::to_string(n - 128)));
  }
  CHECK(has(npy_refusal(folder, whole + "x"), "byte 176: 1 bytes follow the last value; shape (3, 2) of '<f8' has 48 bytes"));
  CHECK(has(npy_refusal(folder, std::string("\x93NUMPY\2\0\1\0", 10)), "byte 10: the file ends inside of the length of its header"));
}

TEST_CASE("any byte of a .npy header may be wrong without a crash") {
  const Folder folder;
  save_npy(folder / "whole.npy", Array<double>(Shape{3, 2}, {1, 2, 3, 4, 5, 6}));
  const std::string whole = bytes_of(folder / "whole.npy");
  std::size_t refused = 0, read = 0;
  for (std::size_t at = 0; at < 128; ++at)
    for (const char with : {'\0', ' ', '1', '9', '-', 'x', '\'', ',', '(', '}', '\x80', '\xff'}) {
      std::string bytes = whole;
      bytes[at] = with;
      CAPTURE(at);
      CAPTURE(static_cast<int>(with));
      try {
        const Array<double> array = loaded<double>(folder, bytes);
        CHECK(array.size() == 6);
        ++read;
      } catch (const StructureError& e) {
        CHECK(std::strlen(e.what()) > 20);
        ++refused;
      }
    }
  CHECK(refused > 10 * read);
}

TEST_CASE("each field of the beginning of a .npy file is checked") {
  const Folder folder;
  const std::string good = described("<f8", "(1,)", raw<double>({1}));
  CHECK(loaded<double>(folder, good).item() == 1);
  CHECK(has(npy_refusal(folder, "PK" + good.substr(2)), "byte 0: this is no .npy file: it begins with 'PKUMPY', expected is '\\x93NUMPY'"));
  CHECK(has(npy_refusal(folder, "\xef\xbb\xbf" + good), "byte 0: this is no .npy file: it begins with '\\xef\\xbb\\xbf\\x93NU'"));
  std::string version = good;
  version[6] = 4;
  CHECK(has(npy_refusal(folder, version), "byte 6: version 4.0 of the format is not known; there are 1.0, 2.0 and 3.0"));
  version[6] = 1, version[7] = 1;
  CHECK(has(npy_refusal(folder, version), "version 1.1 of the format is not known"));
  CHECK(has(npy_refusal(folder, npy(std::string(10001, ' '), "")), "byte 8: the header would have 10001 bytes, at most 10000 are read"));
  CHECK(has(npy_refusal(folder, std::string("\x93NUMPY\2\0\xff\xff\xff\xff{}\n", 15)), "byte 8: the header would have 4294967295 bytes, at most 10000 are read"));
  CHECK(has(npy_refusal(folder, npy("", "")), "byte 8: the header is empty"));
}

TEST_CASE("the description of a .npy file is a dictionary of exactly three keys") {
  const Folder folder;
  const auto text = [&](const std::string& description) { return npy_refusal(folder, npy(description, raw<double>({1}))); };
  CHECK(has(text("  ['descr']\n"), "byte 12: expected '{' of a dictionary, got '['"));
  CHECK(has(text("{}\n"), "byte 12: the description has no key 'descr'"));
  CHECK(has(text("{'descr': '<f8', 'shape': (1,)}\n"), "the description has no key 'fortran_order'"));
  CHECK(has(text("{'descr': '<f8', 'fortran_order': False}\n"), "the description has no key 'shape'"));
  CHECK(has(text("{'descr': '<f8', 'descr': '<f8'}\n"), "byte 27: the key 'descr' is there twice"));
  CHECK(has(text("{'kind': 1}\n"), "byte 11: unknown key 'kind'; the keys must be 'descr', 'fortran_order' and 'shape'"));
  CHECK(has(text("{descr: '<f8'}\n"), "byte 11: expected a key in quotes, got 'd'"));
  CHECK(has(text("{'descr}\n"), "byte 11: the quote is not closed"));
  CHECK(has(text("{'descr' '<f8'}\n"), "expected ':' after the key 'descr', got '''"));
  CHECK(has(text("{'descr': '<f8' 'shape': (1,)}\n"), "expected ',' or '}' after the value of 'descr', got '''"));
  CHECK(has(text("{'descr': '<f8', 'fortran_order': False, 'shape': (1,)"), "expected ',' or '}' after the value of 'shape', got the end of the header"));
  CHECK(has(text("{'descr': '<f8', 'fortran_order': False, 'shape': (1,)} x\n"), "byte 66: expected nothing but blanks after the description, got 'x'"));
  CHECK(has(text("{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}"), "the header must end with a newline"));
  CHECK(has(text("{'descr': 1}\n"), "byte 20: expected a type in quotes for 'descr', got '1'"));
  CHECK(has(text("{'fortran_order': 0}\n"), "byte 28: 'fortran_order' must be True or False, got '0'"));
  CHECK(has(text("{'shape': [1]}\n"), "byte 20: expected '(' of a tuple for 'shape', got '['"));
}

TEST_CASE("types that are no plain little-endian numbers are refused") {
  const Folder folder;
  const auto text = [&](const std::string& descr) { return npy_refusal(folder, described(descr, "(1,)", raw<double>({1}))); };
  CHECK(has(text("|O"), "byte 20: type '|O' holds Python objects, which are never read; save numbers"));
  CHECK(has(text(">f8"), "byte 20: type '>f8' is big-endian, little-endian is expected; convert it before saving"));
  CHECK(has(text(">i2"), "big-endian"));
  for (const char* descr : {"<f2", "<c16", "|S8", "<U2", "<M8[ns]", "|V8", "f8", "=f8", "<b1x", "", "<f16", "|f8", "\x1b[2J"}) {
    CAPTURE(descr);
    CHECK(has(text(descr), "is not read; there are <f4, <f8, |b1, |i1, <i2, <i4, <i8, |u1, <u2, <u4, <u8"));
  }
  CHECK(has(text("\x1b[2J"), "type '\\x1b[2J' is not read"));
  CHECK(has(text(std::string(200, 'y')), std::string(60, 'y') + "…' is not read"));
  CHECK(has(npy_refusal(folder, npy("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,)}\n", raw<double>({1}))), "byte 20: a structured type ('descr' is a list); one number type is expected"));
}

TEST_CASE("shapes that no file can have are refused before anything is allocated") {
  const Folder folder;
  const auto text = [&](const std::string& shape) { return npy_refusal(folder, described("<f8", shape, raw<double>({1}))); };
  CHECK(has(text("(4294967296, 4294967296)"), "the shape (4294967296, 4294967296) has more elements than a 64-bit index counts"));
  CHECK(has(text("(0, 4294967296, 4294967296)"), "the shape (0, 4294967296, 4294967296) has more elements than a 64-bit index counts"));
  CHECK(has(text("(2147483648, 4294967295)"), "the file ends too early: shape (2147483648, 4294967295) of '<f8' needs 9223372034707292160 values of 8 bytes, but 8 bytes remain after the header"));
  CHECK(has(text("(1000000000000,)"), "needs 1000000000000 values of 8 bytes"));
  CHECK(has(text("(9223372036854775808,)"), "the extent 9223372036854775808 of 'shape' is more than a 64-bit index counts"));
  CHECK(has(text("(-1,)"), "'shape' has the negative extent -1"));
  CHECK(has(text("(-0,)"), "'-0' is not how an extent of 'shape' is written"));
  CHECK(has(text("(01,)"), "'01' is not how an extent of 'shape' is written"));
  CHECK(has(text("(1)"), "'shape' is a number in brackets; a tuple of one has a comma: (1,)"));
  CHECK(has(text("(,)"), "expected an extent of 'shape', got ','"));
  CHECK(has(text("(1 1)"), "expected ',' or ')' in 'shape', got '1'"));
  CHECK(has(text("(1L,)"), "expected ',' or ')' in 'shape', got 'L'"));
  CHECK(has(text("(1.0,)"), "expected ',' or ')' in 'shape', got '.'"));
  CHECK(has(text("(x,)"), "expected an extent of 'shape', got 'x'"));
  CHECK(has(text("(1, 1, 1, 1, 1, 1, 1, 1, 1)"), "'shape' has 9 axes, at most 8 are possible"));
}

TEST_CASE("files that are not there, or are no files, are refused by name") {
  const Folder folder;
  CHECK(refusal([&] { load_npy<float>(folder / "none.npy"); }) == "npy: '" + (folder / "none.npy").string() + "' cannot be read: No such file or directory");
  CHECK(has(refusal([&] { load_npy<float>(folder.path); }), "cannot be read: it is a folder, a regular file is expected"));
  CHECK(has(refusal([&] { load_npy<float>("/dev/null"); }), "cannot be read: it is a device or a pipe, a regular file is expected"));
}

TEST_CASE("what cannot be written is refused, and what was there stays") {
  const Folder folder;
  const Array<double> array(Shape{2}, {1, 2});
  CHECK(has(refusal([&] { save_npy(folder / "no/x.npy", array); }), "no/x.npy' cannot be written: no file can be made beside it: No such file or directory"));
  CHECK(has(refusal([&] { save_npy(folder.path, array); }), "cannot be written: it is there and is no regular file"));
  save_npy(folder / "x.npy", array);
  CHECK(has(refusal_on_a_full_disk([&] { save_npy(folder / "x.npy", Array<double>(Shape{100000})); }), "x.npy' cannot be written: writing failed: File too large"));
  CHECK(load_npy<double>(folder / "x.npy") == array);
  CHECK(folder.files() == 1);
}

TEST_CASE("writing through a link replaces what the link names") {
  const Folder folder;
  save_npy(folder / "x.npy", Array<double>(Shape{1}, 1.0));
  std::filesystem::create_symlink("x.npy", folder / "link.npy");
  save_npy(folder / "link.npy", Array<double>(Shape{1}, 2.0));
  CHECK(std::filesystem::is_symlink(folder / "link.npy"));
  CHECK(load_npy<double>(folder / "x.npy").item() == 2);
}
