// A process that store.cpp kills: computes one kernel into the file of its argument.
#include "store_problem.h"

#include <cstdio>

int main(int argc, char** argv) try {
  if (argc != 2) return 2;
  const networks::Network net = store_problem::network();
  networks::ntk::full_on_disk(argv[1], net.f, net.params, store_problem::examples());
  return 0;
} catch (const std::exception& e) {
  std::fprintf(stderr, "store_child: %s\n", e.what());
  return 1;
}
