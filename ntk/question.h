// What every way to a kernel begins with: its arguments, checked, and a plan for them. empirical.cpp has it, store.cpp begins with it too. Not installed.
#pragma once

#include "linnet/ntk/empirical.h"
#include "linnet/ntk/gram.h"

#include <optional>

namespace linnet::ntk {

// One set of examples, or two: rows of x2, columns of x1.
template <class T> struct Question {
  const char* operation;
  const Apply& f;
  const Tree<Array<T>>& params;
  const Array<T>& x1;
  const Array<T>* x2;
  const Options& options;
  bool traced;
  Index n1 = 0, n2 = 0, outputs = 0;
  std::size_t memory = 0;  // bytes that there are
  Index R() const { return traced ? 1 : outputs; }
  const Array<T>& rows() const { return x2 ? *x2 : x1; }
};

template <Scalar T> void check(Question<T>& q);  // and fills in its numbers

// For arguments that were checked: the plan of the method to be taken, none for vector products.
template <Scalar T> std::optional<GramPlan> plan_of(const Question<T>& q);
// What of it is in memory at a time; NumericalError if there is not room for the least. in_memory: the kernel itself counts.
template <Scalar T> InFlight in_flight_of(const Question<T>& q, const std::optional<GramPlan>& plan, bool in_memory = true);
// The kernel, and whether it is finite. A plan serves questions of any number of examples.
template <Scalar T> bool run(const Question<T>& q, const std::optional<GramPlan>& plan, T* out);

// Of a kernel by tiles, for arguments that were checked, and the method it takes. StructureError if there are none: Method::vector_products, and examples that are mixed.
template <Scalar T> GramPlan plan_tiles(const Question<T>& q, Method& method);

template <Scalar T> [[noreturn]] void fail_not_finite(const Question<T>& q);

}  // namespace linnet::ntk
