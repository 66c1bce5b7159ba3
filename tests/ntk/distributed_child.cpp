// A program that distributed_kill.cpp starts by mpirun: the kernel of store_problem.h into a file; "shared": by all ranks; one rank kills itself after so many microseconds, if any are given.
#include "linnet/ntk/distributed.h"
#include "store_problem.h"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <sys/time.h>

int main(int argc, char** argv) try {
  if (argc != 3 && argc != 5) return 2;
  const networks::Network net = store_problem::network();
  const auto rank = networks::ntk::place().rank;
  if (argc == 5 && std::atoi(argv[3]) == rank) {
    std::signal(SIGALRM, [](int) { std::raise(SIGKILL); });
    const long microseconds = std::atol(argv[4]);
    const itimerval timer{{0, 0}, {microseconds / 1000000, microseconds % 1000000 + 1}};
    ::setitimer(ITIMER_REAL, &timer, nullptr);
  }
  networks::ntk::full_on_disk_distributed(argv[1], net.f, net.params, store_problem::examples(), {}, {.everywhere = false, .shared_folder = std::string(argv[2]) == "shared"});
  return 0;
} catch (const std::exception& e) {
  std::fprintf(stderr, "distributed_child: %s\n", e.what());
  return 1;
}
