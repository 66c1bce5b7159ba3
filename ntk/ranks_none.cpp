// Ranks of a library built without -Dmpi: there are none. ranks_mpi.cpp has them.
#include "linnet/ntk/ranks.h"

#include "linnet/autodiff/fail.h"

namespace linnet::ntk {

struct Transfer::Request {};
Transfer::Transfer() = default;
Transfer::Transfer(std::unique_ptr<Request>) {}
Transfer::Transfer(Transfer&&) noexcept = default;
Transfer& Transfer::operator=(Transfer&&) noexcept = default;
Transfer::~Transfer() = default;
bool Transfer::done() { return true; }
void Transfer::wait() {}

Ranks& Ranks::world(const char* operation) {
  autodiff::fail<autodiff::StructureError>("{}: the library was built without -Dmpi; build it with MPI, or call the function of one process", operation);
}
// Nobody comes here: there is no object.
std::vector<std::uint64_t> Ranks::gather(std::span<const std::uint64_t> mine) { return {mine.begin(), mine.end()}; }
void Ranks::broadcast(void*, std::size_t, int) {}
Transfer Ranks::send(int, Tag, std::span<const std::uint64_t>) { return {}; }
Transfer Ranks::receive(int, Tag, std::span<std::uint64_t>) { return {}; }
std::optional<Ranks::Arrival> Ranks::arrived(Tag) { return {}; }
Transfer Ranks::receive(const Arrival&, std::span<std::uint64_t>) { return {}; }

}  // namespace linnet::ntk
