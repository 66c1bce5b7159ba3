// What layers check before they compute, in one wording. Not installed: fail.h brings fmt.
#pragma once

#include "linnet/autodiff/fail.h"
#include "linnet/nn/layer.h"

#include <algorithm>
#include <cmath>

namespace linnet::nn {

using autodiff::fail;
using autodiff::ShapeError;
using autodiff::StructureError;

using autodiff::NumericalError;

// The tape a layer records on: the newest one among its operands, or null.
inline autodiff::Tape* tape_of(const Tree<Var>& params, const Value& x) {
  std::vector<Var> all;
  for (const auto* tree : {&params, &x})
    for (const Var* leaf : tree->leaves()) all.push_back(*leaf);
  return autodiff::newest(all);
}

// "serial/dense_2: ", as the tape prefixes its own errors; empty outside of any layer.
inline std::string place(const Tree<Var>& params, const Value& x) {
  const autodiff::Tape* const tape = tape_of(params, x);
  return tape && !tape->path().empty() ? tape->path() + ": " : std::string();
}

// The parameter of this name if it has this shape.
inline Var parameter(std::string_view layer, const Tree<Var>& params, std::string_view name, const Shape& shape, const Var& x) {
  if (!params.has(name)) fail<StructureError>("{}{}: parameter '{}' is missing among the parameters: {}", place(params, x), layer, name, params.names());
  const Tree<Var>& found = params[name];
  if (!found.is_leaf()) fail<StructureError>("{}{}: parameter '{}' should be one array, but {}", place(params, x), layer, name, found.names());
  if (found.leaf().shape() != shape) fail<ShapeError>("{}{}: parameter '{}' has shape {}, expected {} for an input {}", place(params, x), layer, name, found.leaf().shape(), shape, x.shape());
  return found.leaf();
}

// That there is no parameter but these.
inline void check_no_others(std::string_view layer, const Tree<Var>& params, const std::vector<std::string>& names, const Value& x) {
  const std::string expected = names.empty() ? "it has no parameters" : fmt::format("it has {}", fmt::join(names, ", "));
  if (params.is_leaf()) fail<StructureError>("{}{}: the parameters are one array without a name; {}", place(params, x), layer, expected);
  for (const auto& [name, child] : params.children())
    if (std::find(names.begin(), names.end(), name) == names.end()) fail<StructureError>("{}{}: there is a parameter '{}' that it does not know; {}", place(params, x), layer, name, expected);
}

inline void check_finite(std::string_view layer, std::string_view option, double value) {
  if (!std::isfinite(value)) fail<StructureError>("{}: {} must be a finite number, got {}", layer, option, value);
}
inline void check_not_negative(std::string_view layer, std::string_view option, double value) {
  if (!std::isfinite(value) || value < 0) fail<StructureError>("{}: {} must be finite and not negative, got {}", layer, option, value);
}

// The word of spec.h.
inline std::string word(Parameterization p) { return p == Parameterization::ntk ? "ntk" : "standard"; }

// The values side by side, of a combinator of n layers.
template <class Leaf> const std::vector<typename Tree<Leaf>::Child>& side_by_side(std::string_view layer, const Tree<Leaf>& x, std::size_t n, const std::string& place) {
  if (x.is_leaf()) fail<StructureError>("{}{}: {} layers need as many values, got one array; put fan_out({}) in front", place, layer, n, n);
  if (x.children().size() != n) fail<StructureError>("{}{}: {} layers need as many values, got {}", place, layer, n, x.children().size());
  return x.children();
}

// Values in a list, named by their places.
template <class Leaf> Tree<Leaf> listed(std::vector<Tree<Leaf>> values) {
  std::vector<typename Tree<Leaf>::Child> entries;
  for (std::size_t i = 0; i < values.size(); ++i) entries.emplace_back(fmt::format("{}", i), std::move(values[i]));
  return Tree<Leaf>(std::move(entries));
}

// The shape f answers for an input of this shape, found by tracing it: so init and apply have one rule, and one text of errors.
template <class F> Shape traced_shape(const Shape& input, F&& f) {
  autodiff::Tape tape;
  return f(tape.input(input)).shape();
}

// Runs f, an operation whose checks know no layer, and puts the layer in front of what it says.
template <class F> Var placed(const Tree<Var>& params, const Value& x, F&& f) {
  try {
    return f();
  } catch (const ShapeError& e) {
    const std::string here = place(params, x);
    if (here.empty() || std::string_view(e.what()).starts_with(here)) throw;
    fail<ShapeError>("{}{}", here, e.what());
  }
}

// An error of init with the layer path in front; apply's errors have it from the tape.
template <class Error> struct Located : Error {
  std::string path, text;
  Located(std::string at, std::string what) : Error(at + ": " + what), path(std::move(at)), text(std::move(what)) {}
};
template <class Error> [[noreturn]] void throw_in(const std::string& name, const Error& e) {
  if (const auto* inner = dynamic_cast<const Located<Error>*>(&e)) throw Located<Error>(name + "/" + inner->path, inner->text);
  throw Located<Error>(name, e.what());
}
template <class F> auto in_layer(const std::string& name, F f) {
  try {
    return f();
  } catch (const ShapeError& e) {
    throw_in(name, e);
  } catch (const StructureError& e) {
    throw_in(name, e);
  } catch (const NumericalError& e) {
    throw_in(name, e);
  }
}

}  // namespace linnet::nn
