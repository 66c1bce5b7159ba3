// Arrays and trees to and from NumPy: .npy, and .npz with members named by the paths of a tree ("dense_0/W"). The readers are strict: a file
// that is not exactly what it says is refused with its name, the byte, what was expected and what came, and nothing is allocated on its word.
#pragma once

#include "linnet/autodiff/array.h"
#include "linnet/autodiff/tree.h"

#include <filesystem>
#include <map>

namespace linnet::autodiff {

// Reads <f4, <f8, |b1 and little-endian integers of 1 to 8 bytes, C or Fortran order, versions 1.0 to 3.0; converts to T.
// StructureError: no such file, not a .npy file, another type, truncated or longer than it says, an integer T does not hold exactly.
template <Scalar T> Array<T> load_npy(const std::filesystem::path& file);
// Written to a temporary beside it and renamed, so the file is whole or absent. StructureError if it cannot be written.
template <Scalar T> void save_npy(const std::filesystem::path& file, const Array<T>& array);

// Every member of an archive by its name without ".npy". Stored or deflated members.
template <Scalar T> std::map<std::string, Array<T>> load_npz(const std::filesystem::path& file);
template <Scalar T> void save_npz(const std::filesystem::path& file, const std::map<std::string, Array<T>>& arrays);
// A tree by its paths; names match [A-Za-z0-9_]+ (StructureError otherwise). Loading keeps the order in which a tree was saved.
template <Scalar T> Tree<Array<T>> load_tree(const std::filesystem::path& file);
template <Scalar T> void save_tree(const std::filesystem::path& file, const Tree<Array<T>>& tree);

}  // namespace linnet::autodiff
