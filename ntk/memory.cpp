#include "linnet/ntk/memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <sys/resource.h>
#include <unistd.h>

namespace linnet::ntk {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t no_limit = std::numeric_limits<std::size_t>::max();

// The number a file begins with; nothing if there is none, as for "max".
std::optional<std::size_t> number(const fs::path& file) {
  std::ifstream in(file);
  std::size_t value = 0;
  if (in >> value) return value;
  return {};
}

// The number behind a name in a file of names and numbers.
std::optional<std::size_t> number(const fs::path& file, const std::string& name) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    std::istringstream fields(line);
    std::string key;
    std::size_t value = 0;
    if (fields >> key >> value && key == name) return value;
  }
  return {};
}

struct GroupFiles {
  const char *limit, *used, *cache;
};

std::size_t left_in(const fs::path& group, const GroupFiles& files) {
  const auto limit = number(group / files.limit), used = number(group / files.used);
  if (!limit || !used) return no_limit;
  const std::size_t kept = *used - std::min(*used, number(group / "memory.stat", files.cache).value_or(0));
  return *limit - std::min(*limit, kept);
}

// Of a group and of those above it. In a container the path is the host's and may not be there: then of what is.
std::size_t left_in_groups(const fs::path& top, const fs::path& path, const GroupFiles& files) {
  std::size_t left = left_in(top, files);
  fs::path group = top;
  for (const fs::path& part : path.relative_path()) left = std::min(left, left_in(group /= part, files));
  return left;
}

}  // namespace

std::size_t available_memory(const fs::path& root) {
  std::size_t left = no_limit;
  if (const auto kilobytes = number(root / "proc/meminfo", "MemAvailable:")) left = *kilobytes * 1024;
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // "0::/a/b" of version 2, "7:cpu,memory:/a/b" of version 1
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == line.npos || second == line.npos) continue;
    const std::string kinds = fmt::format(",{},", line.substr(first + 1, second - first - 1)), path = line.substr(second + 1);
    if (kinds == ",,") left = std::min(left, left_in_groups(root / "sys/fs/cgroup", path, {"memory.max", "memory.current", "inactive_file"}));
    if (kinds.find(",memory,") != kinds.npos)
      left = std::min(left, left_in_groups(root / "sys/fs/cgroup/memory", path, {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"}));
  }
  return left;
}

std::size_t available_memory() {
  std::size_t left = available_memory(fs::path("/"));
  rlimit space{};
  if (getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY) {
    const std::size_t limit = space.rlim_cur, mapped = number("/proc/self/statm").value_or(0) * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    left = std::min(left, limit - std::min(limit, mapped));
  }
  return left;
}

std::size_t memory_limit(const Options& options) {
  if (options.max_memory) return options.max_memory;
  const std::size_t left = available_memory();
  return left == no_limit ? left : left / 10 * 9;
}

}  // namespace linnet::ntk
