// How much memory a computation may take: Options::max_memory, or what the machine and the limits of this process have left. Linux; elsewhere there is
// nothing to read, and no limit. Not installed.
#pragma once

#include "linnet/ntk/empirical.h"

#include <cstddef>
#include <filesystem>
#include <string>

namespace linnet::ntk {

// The least of: what /proc/meminfo calls available; what each control group of this process (versions 2 and 1), up to the root, has left below its limit, with
// the file cache it would give back; and the limit of the address space (RLIMIT_AS) less what is mapped. The largest number where nothing is said.
std::size_t available_memory();
// Of files below another root, without the limit of the address space.
std::size_t available_memory(const std::filesystem::path& root);

// Options::max_memory; where that is 0 nine tenths of what is available, since others take some meanwhile.
std::size_t memory_limit(const Options& options);

}  // namespace linnet::ntk
