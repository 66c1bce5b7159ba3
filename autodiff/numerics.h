// Where a NaN or an infinity comes from: a program is run with every value kept, and the first that is not finite is named with its instruction,
// layer and position.
#pragma once

#include "linnet/autodiff/derivative.h"

#include <optional>
#include <string>

namespace linnet::autodiff {

struct NotFinite {
  int value;      // of the program: an input, a constant or an instruction's
  Index element;  // in it, row-major
  double number;
};

// The first value of the program that is not finite for these inputs, or nothing. Operands come before what is computed from them, so this is the cause.
template <Scalar T> std::optional<NotFinite> find_not_finite(const Program& program, const Views<T>& in);
std::string describe(const Program& program, const NotFinite& found);  // "serial/dense_2: log gives -inf at [1,2] of [4,3]"

namespace detail {
template <Scalar T> void check_numerics(const Function& f, const Views<T>& in);
}

// Runs f and throws a NumericalError that names what made the first NaN or infinity; does nothing if all is finite.
template <class F, class X, class... D> requires Differentiable<F, X, D...> void check_numerics(const F& f, const X& x, const D&... data) {
  detail::check_numerics<detail::scalar_t<X>>(detail::flat_of(f, std::make_shared<Form>(), x, data...), detail::views<detail::scalar_t<X>>(x, data...));
}

}  // namespace linnet::autodiff
