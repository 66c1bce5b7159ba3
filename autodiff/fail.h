// How Linnet throws: fail<ShapeError>("dot: cannot contract {} with {}", a, b). Not installed; the only place where fmt meets errors.
#pragma once

#include "linnet/autodiff/error.h"
#include "linnet/autodiff/shape.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string>

template <> struct fmt::formatter<linnet::autodiff::Shape> : fmt::formatter<std::string> {
  auto format(const linnet::autodiff::Shape& shape, fmt::format_context& context) const {
    return fmt::formatter<std::string>::format(str(shape), context);
  }
};

namespace linnet::autodiff {

// `text` with a layer in front, "serial/dense_2: …", unless it is there already: that of `path`, or the one being traced in this thread (tape.cpp).
std::string in_layer(const std::string& path, std::string text);
std::string in_traced_layer(std::string text);

template <class Error, class... Args> [[noreturn]] void fail(fmt::format_string<Args...> text, Args&&... args) {
  throw Error(in_traced_layer(fmt::format(text, std::forward<Args>(args)...)));
}

}  // namespace linnet::autodiff
