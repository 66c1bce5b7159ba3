// Kernels of infinite width are the same bits for any number of threads. Runs under thread sanitizer too.
#include "networks.h"

#include "linnet/autodiff/config.h"

#include <doctest/doctest.h>

namespace linnet::infinite {
namespace {

using namespace nn;

template <Scalar T> void same_for_all_threads(const Layer& network, const Array<T>& x, const Array<T>& y) {
  const auto k = kernel(network);
  const int before = autodiff::threads();
  autodiff::set_threads(1);
  const auto one = k.both(x), two = k.both(y, x);
  for (const int n : {2, 3, 7}) {
    autodiff::set_threads(n);
    const auto some = k.both(x), others = k.both(y, x);
    CHECK(some.nngp == one.nngp);
    CHECK(some.ntk == one.ntk);
    CHECK(others.nngp == two.nngp);
    CHECK(others.ntk == two.ntk);
  }
  autodiff::set_threads(before);
}

TEST_CASE_TEMPLATE("kernels of infinite width are the same bits for any number of threads", T, float, double) {
  const Array<T> x = scattered<T>({300, 5}, 1), y = scattered<T>({140, 5}, 2);
  same_for_all_threads(serial({D(), Relu(), D(), Erf(), D()}), x, y);
  same_for_all_threads(serial({D(), Tanh(), D()}), x.rows(0, 150), y.rows(0, 20));
  const Array<T> images = scattered<T>({7, 4, 4, 2}, 3), others = scattered<T>({3, 4, 4, 2}, 4);
  const Layer conv = Conv(3, {3, 3}, {.padding = Padding::same, .W_std = 1.5, .b_std = .1});
  same_for_all_threads(serial({conv, Relu(), conv, Relu(), GlobalAvgPool(), D()}), images, others);
  same_for_all_threads(serial({conv, Relu(), AvgPool({2, 2}), conv, Erf(), flatten(), D()}), images, others);
}

}  // namespace
}  // namespace linnet::infinite
