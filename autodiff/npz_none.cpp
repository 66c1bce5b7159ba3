// Archives in a library built without -Dnpz: there are none. npz_libzip.cpp has them.
#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/npy_format.h"

namespace linnet::autodiff::detail {

template <Scalar T> std::vector<std::pair<std::string, Array<T>>> read_archive(const std::filesystem::path& file) {
  fail<StructureError>("npz: '{}' cannot be read: the library was built without -Dnpz; build it with libzip, or use .npy files", file.string());
}
template <Scalar T> void write_archive(const std::filesystem::path& file, const std::vector<std::pair<std::string, const Array<T>*>>&) {
  fail<StructureError>("npz: '{}' cannot be written: the library was built without -Dnpz; build it with libzip, or use .npy files", file.string());
}
std::string archive_provider() { return "none"; }

template std::vector<std::pair<std::string, Array<float>>> read_archive(const std::filesystem::path&);
template std::vector<std::pair<std::string, Array<double>>> read_archive(const std::filesystem::path&);
template void write_archive(const std::filesystem::path&, const std::vector<std::pair<std::string, const Array<float>*>>&);
template void write_archive(const std::filesystem::path&, const std::vector<std::pair<std::string, const Array<double>*>>&);

}  // namespace linnet::autodiff::detail
