#include "linnet/autodiff/primitive.h"

#include "linnet/autodiff/ops/families.h"

#include <vector>

namespace linnet::autodiff {

std::span<const Primitive* const> primitives() {
  static const std::vector<const Primitive*> all = [] {
    std::vector<const Primitive*> list;
    for (const auto family : {elementwise_primitives(), contraction_primitives(), reduction_primitives(), structure_primitives(), window_primitives(),
                              convolution_primitives(), linear_algebra_primitives(), call_primitives()})
      list.insert(list.end(), family.begin(), family.end());
    return list;
  }();
  return all;
}

}  // namespace linnet::autodiff
