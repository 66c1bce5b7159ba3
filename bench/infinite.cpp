// bench/infinite: kernels of infinitely wide networks. Fully connected ones of 1,024 examples of 256 numbers with 2 and 20 hidden layers, and the convolutional one of 21 layers with a mean over
// places, 32 x 32 x 3 images, whose time is told for an entry.
#include "timing.h"

#include "linnet/infinite/kernel.h"

#include <fmt/format.h>

namespace linnet::bench {
namespace {

using namespace nn;

Layer connected(const Layer& activation, int hidden) {
  const DenseOptions options{.W_std = 1.5, .b_std = 0.3};
  std::vector<Layer> layers;
  for (int i = 0; i < hidden; ++i) layers.insert(layers.end(), {Dense(1, options), activation});
  layers.push_back(Dense(1, options));
  return serial(layers);
}
Layer convolutional(int hidden, const Layer& last) {
  ConvOptions options;
  options.padding = Padding::same;
  std::vector<Layer> layers;
  for (int i = 0; i < hidden; ++i) layers.insert(layers.end(), {Conv(1, {3, 3}, options), Relu()});
  layers.push_back(last);
  return serial(layers);
}

std::string rows;
void tell(const std::string& name, Seconds s, double entries) {
  fmt::print("{:34} {:9.2f} ms wall, {:9.2f} ms processor; {:9.5f} ms an entry\n", name, 1e3 * s.wall, 1e3 * s.processor, 1e3 * s.processor / entries);
  rows += fmt::format(R"({}{{"name":"{}","wall":{:.6f},"processor":{:.6f}}})", rows.empty() ? "" : ",", name, s.wall, s.processor);
}

template <Scalar T> void benchmark(const char* type, int threads) {
  autodiff::set_thread_count(threads);
  const Array<T> x = numbers<T>({1024, 256}, 3, 1);
  for (const auto& [name, activation] : {std::pair{"relu", Relu()}, {"erf", Erf()}})
    for (const int hidden : {2, 20}) {
      const auto k = infinite::kernel(connected(activation, hidden));
      tell(fmt::format("{} {} hidden {} threads {}", name, type, hidden, threads), fastest(5, [&] { k.both(x); }), 1024. * 1025 / 2);
    }
  const Array<T> images = numbers<T>({4, 32, 32, 3}, 4, 1);
  tell(fmt::format("conv mean {} threads {}", type, threads), fastest(1, [&] { infinite::kernel(convolutional(21, GlobalAvgPool())).both(images.rows(0, 2), images.rows(2, 2)); }), 4);
  tell(fmt::format("conv flatten {} threads {}", type, threads), fastest(1, [&] { infinite::kernel(convolutional(21, flatten())).both(images); }), 10);
}

}  // namespace
}  // namespace linnet::bench

int main(int argc, char**) {
  if (argc > 1) {
    fmt::print(stderr, "infinite: takes no options\n");
    return 2;
  }
  for (const int threads : {1, 2}) {
    linnet::bench::benchmark<float>("float", threads);
    linnet::bench::benchmark<double>("double", threads);
  }
  fmt::print(R"({{"bench":"infinite","rows":[{}]}})""\n", linnet::bench::rows);
}
