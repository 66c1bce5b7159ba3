// Tiles as records, as they lie in a kernel file and as they are sent (distributed.cpp); and what a kernel was made from, in lines. store.cpp has the latter. Not installed.
#pragma once

#include "linnet/ntk/question.h"
#include "linnet/ntk/tile_file.h"

#include <cstdint>

namespace linnet::ntk {

// All that the bits of a kernel depend on, and its layout: checksums of network, parameters and examples, method, build.
template <Scalar T> Fields fields_of(const Question<T>& q, const GramPlan& plan, Method method);

using Record = autodiff::Buffer<std::uint64_t>;

inline std::size_t record_words(const TileLayout& l, Index i, Index j) { return static_cast<std::size_t>(l.record(l.height(i), l.breadth(j))) / sizeof(std::uint64_t); }

template <class T> T* values_of(std::uint64_t* record) { return reinterpret_cast<T*>(record + TileFile::head); }
template <class T> T* values_of(Record& record, const TileLayout& l, Index i, Index j) {
  record.resize(record_words(l, i, j));
  return values_of<T>(record.data());
}

// A tile of a kernel, `stride` apart, as a record; of a diagonal tile with one half the other is that one.
template <class T> void fill_record(std::uint64_t* record, const TileLayout& l, Index i, Index j, const T* values, Index stride) {
  const Index h = l.height(i), b = l.breadth(j);
  T* const to = values_of<T>(record);
  const bool half = l.symmetric && i == j;
  for (Index r = 0; r < h; ++r) {
    std::copy_n(values + r * stride, half ? r + 1 : b, to + r * b);
    for (Index c = r + 1; half && c < b; ++c) to[r * b + c] = values[c * stride + r];
  }
  std::fill(to + h * b, reinterpret_cast<T*>(record + record_words(l, i, j)), T(0));
}
template <class T> void fill_record(Record& record, const TileLayout& l, Index i, Index j, const T* values, Index stride) {
  values_of<T>(record, l, i, j);
  fill_record(record.data(), l, i, j, values, stride);
}

}  // namespace linnet::ntk
