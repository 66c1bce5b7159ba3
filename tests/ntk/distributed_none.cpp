// Kernels by several processes in a library without MPI: a sentence.
#include "linnet/ntk/distributed.h"
#include "store_problem.h"

#include <doctest/doctest.h>

using namespace networks;

TEST_CASE("a library without MPI says so, and what to do") {
  const Network net = store_problem::network();
  const Array<double> x = store_problem::examples();
  const auto text = [](const std::string& operation) { return operation + ": the library was built without -Dmpi; build it with MPI, or call the function of one process"; };
  CHECK(message<linnet::autodiff::StructureError>([&] { ntk::full_distributed(net.f, net.params, x); }) == text("ntk::full_distributed"));
  CHECK(message<linnet::autodiff::StructureError>([&] { ntk::traced_on_disk_distributed("k", net.f, net.params, x); }) == text("ntk::traced_on_disk_distributed"));
  CHECK(message<linnet::autodiff::StructureError>([&] { ntk::place(); }) == text("ntk::place"));
}
