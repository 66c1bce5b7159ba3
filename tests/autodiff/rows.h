// Table of the table of primitives (ops_table.cpp) that lie beside the tests of their values: a function and inputs of awkward shapes each.
#pragma once

#include "linnet/autodiff/kernels/parallel.h"
#include "linnet/autodiff/testing.h"
#include "linnet/tests/autodiff/samples.h"

#include <doctest/doctest.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace samples {

using linnet::autodiff::DerivativeCheck;
using Values = std::span<const Var>;

struct Row {
  std::string what;
  Function f;
  Arrays<double> x;
  DerivativeCheck check = {};
};
using Table = std::map<std::string_view, std::vector<Row>>;  // by the primitive they use

Table all_rows();             // ops_table.cpp: of every primitive, those below among them
Table more_rows();            // ops_more.cpp
Table window_rows();          // ops_window.cpp
Table linear_algebra_rows();  // ops_linear_algebra.cpp

const DerivativeCheck first{.order = 1}, second{.order = 2}, third{.order = 3}, kinked{.order = 3, .differences = false};

template <class F> Function one(F f) { return [f](Values v) -> std::vector<Var> { return {f(v)}; }; }

inline void check_rows(const std::vector<Row>& rows) {
  for (const Row& r : rows) {
    CAPTURE(r.what);
    try {
      for (const std::string& failure : check_derivatives(r.f, r.x, r.check)) FAIL_CHECK(failure);
    } catch (const std::exception& e) {
      FAIL_CHECK(std::string(e.what()));
    }
  }
}

// Whether one thread and three answer the same bits.
template <Scalar T> bool same_for_any_threads(const Function& f, const Arrays<T>& x) {
  const int before = linnet::autodiff::thread_count();
  linnet::autodiff::set_thread_count(1);
  const Arrays<T> alone = run<T>(f, x);
  linnet::autodiff::set_thread_count(3);
  const Arrays<T> together = run<T>(f, x);
  linnet::autodiff::set_thread_count(before);
  return same_bits(alone, together);
}

}  // namespace samples
