// Computes one kernel and prints what its plan states, and what the process took: bytes stated, resident before, and at most. memory.cpp starts it.
//   memory_child full|traced|gradients|gathered MAX_MEMORY
#include "linnet/autodiff/ops.h"
#include "linnet/ntk/ntk.h"

#include <cstdio>
#include <fstream>
#include <string>

using namespace linnet;
using autodiff::Array;
using autodiff::Index;
using autodiff::Tree;
using autodiff::Var;

namespace {

std::size_t of_status(const std::string& name) {
  std::ifstream in("/proc/self/status");
  std::string key;
  for (std::size_t value; in >> key;) {
    if (key == name && in >> value) return value * 1024;
    in.clear();
  }
  return 0;
}

Array<float> numbers(autodiff::Shape shape) {
  Array<float> a(shape);
  for (Index i = 0; i < a.size(); ++i) a.data()[i] = static_cast<float>((i * 7919) % 1000) / 1000 - 0.5f;
  return a;
}

Var network(const Tree<Var>& p, const Var& x) { return dot(tanh(dot(x, p["W"])), p["V"]); }

Var embedding(const Tree<Var>& p, const Var& x) {
  const Index n = x.shape()[0], s = x.shape()[1];
  return dot(tanh(sum(reshape(gather(p["E"], reshape(x, {n * s})), {n, s, 16}), {1})), p["V"]);
}

void report(std::size_t stated, std::size_t before) { std::printf("%zu %zu %zu\n", stated, before, of_status("VmHWM:")); }

// 300 examples of 20 rows of a table of 50,000.
void of_table(const ntk::Options& options) {
  const Tree<Array<float>> params{{"E", numbers({50000, 16})}, {"V", numbers({16, 2})}};
  Array<float> x({300, 20});
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(i * 7919 % 50000);
  const std::size_t stated = ntk::plan_full(embedding, params, x, options).peak, before = of_status("VmRSS:");
  ntk::full(embedding, params, x, options);
  report(stated, before);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const std::string what = argv[1];
  ntk::Options options;
  options.max_memory = std::stoul(argv[2]);
  const bool gradients = what == "gradients", traced = what == "traced";
  const Index n = traced ? 5000 : gradients ? 1200 : 1000, in = gradients ? 300 : 20, hidden = traced ? 400 : gradients ? 300 : 200, out = gradients ? 1 : 8;
  if (gradients) options.method = ntk::Method::jacobian_contraction;
  const Tree<Array<float>> params{{"W", numbers({in, hidden})}, {"V", numbers({hidden, out})}};
  const Array<float> x = numbers({n, in});
  try {
    if (what == "gathered") {
      of_table(options);
      return 0;
    }
    const std::size_t stated = traced ? ntk::plan_traced(network, params, x, options).peak : ntk::plan_full(network, params, x, options).peak, before = of_status("VmRSS:");
    if (traced) ntk::traced(network, params, x, options);
    else ntk::full(network, params, x, options);
    report(stated, before);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
