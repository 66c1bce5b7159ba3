// Kernels by several processes, on one machine or many, over MPI (-Dmpi): each computes tiles, the first has the result. The same bits as by one process, whatever their number. Every
// process makes the same call with equal arguments:
//   mpirun -n 4 ./program        if (auto k = ntk::full_distributed(f, params, x)) …  // on rank 0
// docs/scaling.md says what to expect. All processes of MPI_COMM_WORLD take part; MPI is initialized and finalized here unless the program does that, with MPI_THREAD_FUNNELED.
#pragma once

#include "linnet/ntk/empirical.h"
#include "linnet/ntk/store.h"

#include <filesystem>
#include <optional>
#include <vector>

namespace linnet::ntk {

// How a kernel was assembled, for benchmarks and for who plans a long run.
struct Assembly {
  int ranks = 1;
  Index panel = 0;               // tiles of a panel; a block of two panels is what a rank takes at a time
  Index blocks = 0, tiles = 0;   // that were computed
  Index swept = 0;               // examples that went through the network, of all ranks; at one rank and in memory enough every example goes once
  std::size_t sent = 0;          // bytes that came to rank 0
  double seconds = 0;            // from the first block to the last tile
  std::vector<double> computing; // seconds of each rank, of these
};

struct Distribution {
  bool everywhere = false;       // every rank gets the kernel, not rank 0 alone; not of a kernel on disk
  bool shared_folder = false;    // a kernel on disk is in a folder that all ranks see: each writes its tiles there itself, and none goes over rank 0
  Assembly* assembly = nullptr;  // filled in on rank 0
};

struct Place {
  int rank = 0, ranks = 1;
};
Place place();  // of this process. StructureError as below

// The kernel on rank 0, or on all of them; nothing on the others. Errors as of ntk::full, on all ranks alike, with the rank that met it in front; StructureError: arguments that differ
// from those of rank 0, with what differs, so that different builds are refused too; Method::vector_products, which has no tiles; a library without MPI; a call from another thread.
// Options::max_memory is each rank's; where it is 0, ranks of one machine share what is left there evenly. Options::progress is asked on rank 0 alone.
// What a rank takes at a time, hence how evenly all of it ends, and how often an example is swept, follows from operations and from what memory there is (Assembly::swept).
template <Scalar T>
std::optional<FullKernel<T>> full_distributed(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options = {}, const Distribution& distribution = {});
template <Scalar T>
std::optional<FullKernel<T>> full_distributed(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x2, const Array<T>& x1, const Options& options = {},
                                              const Distribution& distribution = {});
template <Scalar T>
std::optional<TracedKernel<T>> traced_distributed(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options = {}, const Distribution& distribution = {});
template <Scalar T>
std::optional<TracedKernel<T>> traced_distributed(const Apply& f, const Tree<Array<T>>& params, const Array<T>& x2, const Array<T>& x1, const Options& options = {},
                                                  const Distribution& distribution = {});

// Into a file of rank 0, which is that of ntk::full_on_disk: one taken up by another number of processes, or by one, is the same file. StructureError with
// Distribution::shared_folder where a rank does not see it; what the file system loses is found by the checksums of StoredKernel.
template <Scalar T>
std::optional<StoredKernel<T>> full_on_disk_distributed(const std::filesystem::path& file, const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options = {},
                                                        const Distribution& distribution = {});
template <Scalar T>
std::optional<StoredKernel<T>> full_on_disk_distributed(const std::filesystem::path& file, const Apply& f, const Tree<Array<T>>& params, const Array<T>& x2, const Array<T>& x1,
                                                        const Options& options = {}, const Distribution& distribution = {});
template <Scalar T>
std::optional<StoredKernel<T>> traced_on_disk_distributed(const std::filesystem::path& file, const Apply& f, const Tree<Array<T>>& params, const Array<T>& x, const Options& options = {},
                                                          const Distribution& distribution = {});
template <Scalar T>
std::optional<StoredKernel<T>> traced_on_disk_distributed(const std::filesystem::path& file, const Apply& f, const Tree<Array<T>>& params, const Array<T>& x2, const Array<T>& x1,
                                                          const Options& options = {}, const Distribution& distribution = {});

}  // namespace linnet::ntk
