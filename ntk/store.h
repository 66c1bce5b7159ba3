// Kernels on disk: for kernels beyond memory, and for those that take hours. Tiles are written as they are finished; what was interrupted by anything is
// taken up again, to the same bits. docs/kernel_file.md has the format.
#pragma once

#include "linnet/ntk/empirical.h"

#include <filesystem>
#include <memory>
#include <string>

namespace linnet::ntk {

class TileFile;

// A kernel in a file, which stays open and is never changed. Of one set of examples with itself only one half is there. Every tile that is read is held against its
// checksum: StructureError names the one that is damaged. From any thread.
template <Scalar T> class StoredKernel {
 public:
  // StructureError: no such file, no kernel file, another number type, a damaged header, not as long as it says.
  explicit StoredKernel(const std::filesystem::path& file);

  Index rows() const;     // examples
  Index columns() const;
  Index outputs() const;
  bool is_traced() const;
  bool is_symmetric() const;  // one set of examples
  const std::string& made_from() const;  // lines of what it was made from and with: checksums of network, parameters and examples, method, build

  Index tile_rows() const;     // tiles down
  Index tile_columns() const;  // and across
  Array<T> tile(Index i, Index j) const;  // as the whole has it; ShapeError if there is none
  Array<T> matrix() const;                // all of it [rows outputs, columns outputs], or traced [rows, columns]
  FullKernel<T> full() const;             // StructureError if it is traced
  TracedKernel<T> traced() const;         // StructureError if it is not

  // K v, for v [columns outputs] or [columns outputs, k] (traced [columns] or [columns, k]), with sixteen tiles in memory at a time, each read once.
  // ShapeError, NumericalError: v that does not fit, or is not finite.
  Array<T> operator()(const Array<T>& v) const;
  // Row by row of tiles; NumPy maps it: numpy.load(file, mmap_mode="r"). StructureError if it cannot be written.
  void save_npy(const std::filesystem::path& file) const;
  void verify() const;  // reads every tile

 private:
  std::shared_ptr<const TileFile> file_;
  std::string made_from_;
};

// ntk::full and ntk::traced into a file. Until it is whole it is `file`.partial, which a later call of the same question takes up, and no other: StructureError
// names what differs. A file that is whole and of this question is opened, and nothing computed. False from Options::progress, which is told of bytes written,
// cancels with a NumericalError, and what is finished stays. Method::structured or jacobian_contraction (automatic: the one of fewer operations);
// StructureError for others, for a full disk, and whatever else keeps the file from being written. Options::max_memory counts what is in flight, not the file.
template <Scalar T>
StoredKernel<T> full_on_disk(const std::filesystem::path& file, const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options = {});
template <Scalar T>
StoredKernel<T> full_on_disk(const std::filesystem::path& file, const Apply& f, const Tree<Array<T>>& params, const Array<T>& x2, const Array<T>& x1,
                             const Options& options = {});
template <Scalar T>
StoredKernel<T> traced_on_disk(const std::filesystem::path& file, const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options = {});
template <Scalar T>
StoredKernel<T> traced_on_disk(const std::filesystem::path& file, const Apply& f, const Tree<Array<T>>& params, const Array<T>& x2, const Array<T>& x1,
                               const Options& options = {});

}  // namespace linnet::ntk
