// Arrays and trees to and from NumPy: .npy, and .npz with members named by the paths of a tree ("dense_0/W"). The readers are strict: a file
// that is not exactly what it says is refused with its name, the byte, what was expected and what came, and nothing is allocated on its word.
// Equal arrays make equal bytes: time stamps are fixed.
#pragma once

#include "linnet/autodiff/array.h"
#include "linnet/autodiff/tree.h"

#include <filesystem>
#include <map>

namespace linnet::autodiff {

// Reads <f4, <f8, |b1 and little-endian integers of 1 to 8 bytes, C or Fortran order, versions 1.0 to 3.0, up to eight axes; never Python objects.
// Converts to T: a double is rounded to float; NaN and infinity stay what they are. StructureError: no such file, not a .npy file, another type,
// truncated or longer than it says, an integer T does not hold exactly, a double beyond float's range.
template <Scalar T> Array<T> load_npy(const std::filesystem::path& file);
// Written to a temporary beside it and renamed, so the file is whole or as it was before. StructureError if it cannot be written.
template <Scalar T> void save_npy(const std::filesystem::path& file, const Array<T>& array);

// Every member of an archive by its name without ".npy". Stored or deflated members. In a library built without -Dnpz these four throw StructureError.
template <Scalar T> std::map<std::string, Array<T>> load_npz(const std::filesystem::path& file);
// Members are stored. StructureError: a name with a control character or of more than 60,000 bytes, or the file cannot be written.
template <Scalar T> void save_npz(const std::filesystem::path& file, const std::map<std::string, Array<T>>& arrays);
// A tree by its paths; names match [A-Za-z0-9_]+ (StructureError otherwise). Loading keeps the order in which a tree was saved. A lone leaf, whose
// path is empty, is the member ".npy", which NumPy opens under the name "". A child without leaves has no member and is not there after loading;
// layers look for parameters by name and do not miss it.
template <Scalar T> Tree<Array<T>> load_tree(const std::filesystem::path& file);
template <Scalar T> void save_tree(const std::filesystem::path& file, const Tree<Array<T>>& tree);

}  // namespace linnet::autodiff
