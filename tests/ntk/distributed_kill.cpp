// Kernels on disk by several processes of which one is killed at any moment: what is finished stays, and another number of processes takes it up to the same bits. Starts mpirun itself.
#include "store_problem.h"

#include <doctest/doctest.h>

#include <chrono>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace networks;
namespace fs = std::filesystem;

extern char** environ;

namespace {

std::string bytes_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// The program beside the tests as so many processes; whether all of them ended well.
bool run(int ranks, const fs::path& file, bool shared, std::vector<std::string> kill = {}) {
  std::vector<std::string> words{LINNET_MPIRUN, "-n", std::to_string(ranks), LINNET_DISTRIBUTED_CHILD, file.string(), shared ? "shared" : "sent"};
  words.insert(words.end(), kill.begin(), kill.end());
  std::vector<char*> argv;
  for (std::string& w : words) argv.push_back(w.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t quiet;  // mpirun says at length what died
  posix_spawn_file_actions_init(&quiet);
  if (!kill.empty()) posix_spawn_file_actions_addopen(&quiet, 2, "/dev/null", O_WRONLY, 0);
  pid_t child = 0;
  REQUIRE(::posix_spawn(&child, argv[0], &quiet, nullptr, argv.data(), environ) == 0);
  posix_spawn_file_actions_destroy(&quiet);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

TEST_CASE("12 of 12 runs of which a process was killed at any moment are taken up by another number of processes to the same bits") {
  const fs::path folder = fs::temp_directory_path() / ("linnet_distributed_kill_" + std::to_string(::getpid()));
  fs::create_directory(folder);
  const Network net = store_problem::network();
  ntk::full_on_disk(folder / "one", net.f, net.params, store_problem::examples());
  const std::string expected = bytes_of(folder / "one");
  const auto start = std::chrono::steady_clock::now();
  REQUIRE(run(3, folder / "whole", false));
  const double whole = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();  // only to draw moments from
  CHECK(bytes_of(folder / "whole") == expected);
  Draw draw(12);
  int equal = 0, cut = 0;
  for (int round = 0; round < 12; ++round) {
    const fs::path file = folder / "k", partial = folder / "k.partial";
    fs::remove(file);
    fs::remove(partial);
    const double moment = (draw() + 1) / 6 * whole;  // behind the start of the processes, which is most of it
    run(3, file, round % 2 == 0, {std::to_string(round % 3), std::to_string(static_cast<long>(moment))});
    cut += !fs::exists(file) && fs::exists(partial);
    REQUIRE(run(1 + round % 3, file, round % 4 < 2));
    equal += bytes_of(file) == expected;
  }
  CHECK(equal == 12);
  MESSAGE(cut << " of 12 were cut in the middle");
  fs::remove_all(folder);
}
