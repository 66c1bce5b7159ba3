// What the library was built with and runs on. Each line is one fact; the file that knows a fact is asked for it.
#include "linnet/autodiff/config.h"

#include "linnet/autodiff/kernels/decompositions.h"
#include "linnet/autodiff/kernels/parallel.h"
#include "linnet/autodiff/kernels/vector_math.h"
#include "linnet/autodiff/npy_format.h"

#include <Eigen/Core>
#include <fmt/format.h>

#include <string_view>

#ifndef LINNET_VERSION
#define LINNET_VERSION "unversioned"
#endif

namespace linnet::autodiff {
namespace {

// The widest the compiler was allowed to use, which is what results depend on; not what this machine has.
std::string instruction_set() {
  std::string names;
  const auto add = [&](std::string_view name) { names.append(names.empty() ? "" : " ").append(name); };
#if defined(__AVX512F__)
  add("AVX-512F");
#endif
#if defined(__AVX512DQ__)
  add("AVX-512DQ");
#endif
#if defined(__AVX2__)
  add("AVX2");
#elif defined(__AVX__)
  add("AVX");
#endif
#if defined(__FMA__)
  add("FMA");
#endif
#if defined(__SSE4_2__)
  add("SSE4.2");
#elif defined(__SSE2__)
  add("SSE2");
#endif
#if defined(__ARM_FEATURE_SVE)
  add("SVE");
#endif
#if defined(__ARM_NEON)
  add("NEON");
#endif
  return names.empty() ? "scalar" : names;
}

std::string compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "g++ " __VERSION__;
#endif
}

}  // namespace

std::string config() {
  std::string text;
  const auto line = [&](std::string_view what, const std::string& fact) { text += fmt::format("{:<16}{}\n", what, fact); };
  line("linnet", LINNET_VERSION);
  line("instructions", instruction_set());
  line("compiler", compiler());
  line("eigen", fmt::format("{}.{}.{}", EIGEN_WORLD_VERSION, EIGEN_MAJOR_VERSION, EIGEN_MINOR_VERSION));
  line("decompositions", decompositions_provider());
  line("vector math", vector_math_provider());
  line("archives", detail::archive_provider());
  line("threads", fmt::format("{}", threads()));
  line("blocks", "strips of 2048 elements; products in blocks of 256 terms; caches taken as 32 KiB, 1 MiB, 8 MiB");
  return text;
}

void print_config() { fmt::print("{}", config()); }

void set_threads(int n) { set_thread_count(n); }
int threads() { return thread_count(); }

}  // namespace linnet::autodiff
