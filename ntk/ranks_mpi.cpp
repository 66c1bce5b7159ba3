// Ranks by MPI: the processes of MPI_COMM_WORLD, through a communicator of our own, so that no message of the program's is ours. An error of MPI itself (a machine is gone) ends
// all processes, as MPI does by default: no rank waits for one that cannot answer.
#include "linnet/ntk/ranks.h"

#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/kernels/parallel.h"

#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

#include <algorithm>
#include <ctime>

namespace linnet::ntk {

using autodiff::fail;
using autodiff::StructureError;

struct Transfer::Request {
  MPI_Request request = MPI_REQUEST_NULL;
  MPI_Message message = MPI_MESSAGE_NULL;
};

namespace {

int tag_of(Ranks::Tag tag) { return static_cast<int>(tag); }
int size_of(std::size_t words) { return static_cast<int>(words); }  // distributed.cpp sends fewer than 2^31

void wait_for(MPI_Request& request) {
  for (int done = 0;; ) {
    MPI_Test(&request, &done, MPI_STATUS_IGNORE);
    if (done) return;
    const timespec moment{0, 100000};
    ::nanosleep(&moment, nullptr);
  }
}

}  // namespace

// Begun at the first call, ended with the process.
struct World {
  Ranks ranks;
  MPI_Comm all = MPI_COMM_NULL;
  bool ours = false;  // we initialized MPI, and finalize it

  explicit World(const char* operation) {
    int initialized = 0, level = 0;
    MPI_Initialized(&initialized);
    if (!initialized) MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &level);
    ours = !initialized;
    MPI_Query_thread(&level);
    if (level < MPI_THREAD_FUNNELED)
      fail<StructureError>("{}: MPI was initialized for processes of one thread; call MPI_Init_thread with MPI_THREAD_FUNNELED, or leave it to this function", operation);
    MPI_Comm_dup(MPI_COMM_WORLD, &all);
    MPI_Comm_set_errhandler(all, MPI_ERRORS_ARE_FATAL);
    MPI_Comm_rank(all, &ranks.rank_);
    MPI_Comm_size(all, &ranks.count_);
    MPI_Comm machine;
    MPI_Comm_split_type(all, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine);
    MPI_Comm_size(machine, &ranks.here_);
    MPI_Comm_free(&machine);
  }
  ~World() {
    int finalized = 0;
    MPI_Finalized(&finalized);
    if (finalized || !ours) return;
    MPI_Comm_free(&all);
    MPI_Finalize();
  }
  static World& get(const char* operation) {
    static World world(operation);
    return world;
  }
  static MPI_Comm communicator() { return get("").all; }
};

Ranks& Ranks::world(const char* operation) {
  int initialized = 0, finalized = 0, main = 1;
  MPI_Finalized(&finalized);
  if (finalized) fail<StructureError>("{}: MPI is finalized, and cannot be initialized again; call MPI_Finalize after the last kernel", operation);
  MPI_Initialized(&initialized);
  if (initialized) MPI_Is_thread_main(&main);
  if (!main || autodiff::inside_item()) fail<StructureError>("{}: called from another thread than the one that initialized MPI; call it from that one", operation);
  return World::get(operation).ranks;
}

std::vector<std::uint64_t> Ranks::gather(std::span<const std::uint64_t> mine) {
  std::vector<std::uint64_t> all(mine.size() * static_cast<std::size_t>(count_));
  MPI_Request request;
  MPI_Iallgather(mine.data(), size_of(mine.size()), MPI_UINT64_T, all.data(), size_of(mine.size()), MPI_UINT64_T, World::communicator(), &request);
  wait_for(request);
  return all;
}

void Ranks::broadcast(void* data, std::size_t bytes, int from) {
  constexpr std::size_t part = std::size_t{1} << 28;
  for (std::size_t at = 0; at < bytes; at += part) {
    MPI_Request request;
    MPI_Ibcast(static_cast<char*>(data) + at, size_of(std::min(part, bytes - at)), MPI_BYTE, from, World::communicator(), &request);
    wait_for(request);
  }
}

Transfer Ranks::send(int to, Tag tag, std::span<const std::uint64_t> words) {
  auto r = std::make_unique<Transfer::Request>();
  MPI_Isend(words.data(), size_of(words.size()), MPI_UINT64_T, to, tag_of(tag), World::communicator(), &r->request);
  return Transfer(std::move(r));
}
Transfer Ranks::receive(int from, Tag tag, std::span<std::uint64_t> most) {
  auto r = std::make_unique<Transfer::Request>();
  MPI_Irecv(most.data(), size_of(most.size()), MPI_UINT64_T, from, tag_of(tag), World::communicator(), &r->request);
  return Transfer(std::move(r));
}
std::optional<Ranks::Arrival> Ranks::arrived(Tag tag) {
  int there = 0, words = 0;
  MPI_Message message;
  MPI_Status status;
  MPI_Improbe(MPI_ANY_SOURCE, tag_of(tag), World::communicator(), &there, &message, &status);
  if (!there) return {};
  MPI_Get_count(&status, MPI_UINT64_T, &words);
  Arrival a{status.MPI_SOURCE, static_cast<std::size_t>(words), std::make_shared<Transfer::Request>()};
  a.message->message = message;
  return a;
}
Transfer Ranks::receive(const Arrival& arrival, std::span<std::uint64_t> words) {
  auto r = std::make_unique<Transfer::Request>();
  MPI_Imrecv(words.data(), size_of(words.size()), MPI_UINT64_T, &arrival.message->message, &r->request);
  return Transfer(std::move(r));
}

Transfer::Transfer() = default;
Transfer::Transfer(std::unique_ptr<Request> request) : request_(std::move(request)) {}
Transfer::Transfer(Transfer&&) noexcept = default;
Transfer& Transfer::operator=(Transfer&& other) noexcept {
  wait();
  request_ = std::move(other.request_);
  return *this;
}
Transfer::~Transfer() { wait(); }
bool Transfer::done() {
  if (!request_) return true;
  int done = 0;
  MPI_Test(&request_->request, &done, MPI_STATUS_IGNORE);
  if (done) request_.reset();
  return done != 0;
}
void Transfer::wait() {
  if (request_) wait_for(request_->request);
  request_.reset();
}

}  // namespace linnet::ntk
