// The processes that share a kernel, and what distributed.cpp needs of them: messages and two collective calls. ranks_mpi.cpp has it by MPI, ranks_none.cpp says that there is
// none. From the main thread alone. Not installed.
#pragma once

#include "linnet/autodiff/shape.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace linnet::ntk {

// A message on its way. Its words must stay where they are until it is done; the destructor waits for that.
class Transfer {
 public:
  struct Request;
  Transfer();
  explicit Transfer(std::unique_ptr<Request> request);
  Transfer(Transfer&&) noexcept;
  Transfer& operator=(Transfer&&) noexcept;  // waits for the one that is replaced
  ~Transfer();
  bool done();  // never waits; true where there is none
  void wait();  // asleep, mostly: a rank that waits leaves the processor to those that share it

 private:
  std::unique_ptr<Request> request_;
};

class Ranks {
 public:
  enum class Tag { control, reply, tiles };
  // All processes of the program. StructureError: a library without MPI; MPI is finalized, or is not for the main thread of several; another thread.
  static Ranks& world(const char* operation);

  int rank() const { return rank_; }
  int count() const { return count_; }
  int here() const { return here_; }  // on this machine

  // Collective: every rank makes the same calls in the same order.
  std::vector<std::uint64_t> gather(std::span<const std::uint64_t> mine);  // equally many of every rank, one after another
  void broadcast(void* data, std::size_t bytes, int from);

  Transfer send(int to, Tag tag, std::span<const std::uint64_t> words);
  Transfer receive(int from, Tag tag, std::span<std::uint64_t> most);  // so many words or fewer
  struct Arrival {
    int from = 0;
    std::size_t words = 0;
    std::shared_ptr<Transfer::Request> message;
  };
  std::optional<Arrival> arrived(Tag tag);  // one that is there, from any rank; receive it, no other call will
  Transfer receive(const Arrival& arrival, std::span<std::uint64_t> words);

 private:
  friend struct World;
  int rank_ = 0, count_ = 1, here_ = 1;
};

}  // namespace linnet::ntk
