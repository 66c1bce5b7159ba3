#include "linnet/autodiff/tape.h"

#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/program.h"

#include <array>
#include <atomic>
#include <bit>
#include <functional>
#include <utility>

namespace linnet::autodiff {
namespace {

std::atomic<unsigned long> next_serial{0};

const void* this_thread() {
  static thread_local const char place = 0;
  return &place;
}

void mix(std::size_t& h, std::size_t v) { h = (h ^ v) * 0x9E3779B97F4A7C15ull + (h >> 29); }
void mix(std::size_t& h, const Shape& s) {
  mix(h, static_cast<std::size_t>(s.rank()));
  for (const Index n : s) mix(h, static_cast<std::size_t>(n));
}
std::array<Index, 6> numbers(const WindowAxis& a) { return {a.extent, a.places, a.size, a.stride, a.dilation, a.before}; }
bool same_bits(double a, double b) { return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b); }

// What a Var of no tape is known by: the buffer of its values, so that a constant mentioned twice is one.
const void* buffer(const Constant& c) {
  return std::visit([](const auto& values) { return static_cast<const void*>(values.get()); }, c.values);
}

constexpr const char* trace_ended = "a traced value was used after its trace ended; pass it to the function as an argument, or compute with arrays";

using Path = std::shared_ptr<const std::string>;
Path& traced_layer() {  // of the innermost scope of this thread
  static thread_local Path path;
  return path;
}

// `text`, which may have the layer in front, in the operation's name.
std::string in_operation(const std::string& operation, const std::string& path, std::string text) {
  if (!path.empty() && text.starts_with(path + ": ")) text.erase(0, path.size() + 2);
  return text.starts_with(operation + ":") ? text : operation + ": " + text;
}

}  // namespace

std::string in_layer(const std::string& path, std::string text) {
  const std::string_view rest = std::string_view(text).starts_with(path) ? std::string_view(text).substr(path.size()) : std::string_view();
  return path.empty() || rest.starts_with(": ") || rest.starts_with("/") ? text : path + ": " + text;
}
std::string in_traced_layer(std::string text) { return traced_layer() ? in_layer(*traced_layer(), std::move(text)) : text; }

// ---- attributes

bool same(const Attributes& a, const Attributes& b) {
  if (a.index() != b.index()) return false;
  return std::visit([&](const auto& x) {
    using A = std::remove_cvref_t<decltype(x)>;
    const A& y = std::get<A>(b);
    if constexpr (std::same_as<A, std::monostate>) return true;
    else if constexpr (std::same_as<A, double>) return same_bits(x, y);
    else if constexpr (std::same_as<A, Shape>) return x == y;
    else if constexpr (std::same_as<A, DotFlags>) return x.transpose_a == y.transpose_a && x.transpose_b == y.transpose_b;
    else if constexpr (std::same_as<A, Axes>) return x.first == y.first && x.extents == y.extents;
    else if constexpr (std::same_as<A, Cut>) return x.axis == y.axis && x.start == y.start && x.size == y.size && x.full == y.full;
    else if constexpr (std::same_as<A, Fill>) return x.shape == y.shape && same_bits(x.value, y.value);
    else if constexpr (std::same_as<A, Permutation>) return x.axes == y.axes;
    else if constexpr (std::same_as<A, Along>) return x.axis == y.axis;
    else if constexpr (std::same_as<A, Rows>) return x.count == y.count;
    else if constexpr (std::same_as<A, Cumulative>) return x.axis == y.axis && x.reverse == y.reverse;
    else if constexpr (std::same_as<A, Window>) return numbers(x.height) == numbers(y.height) && numbers(x.width) == numbers(y.width) && x.circular == y.circular;
    else if constexpr (std::same_as<A, Triangular>) return x.transpose == y.transpose;
    else return x.program == y.program && x.loop == y.loop && x.jvp == y.jvp;
  }, a);
}

std::size_t hash(const Attributes& a) {
  std::size_t h = a.index();
  std::visit([&](const auto& x) {
    using A = std::remove_cvref_t<decltype(x)>;
    if constexpr (std::same_as<A, double>) mix(h, std::bit_cast<std::uint64_t>(x));
    else if constexpr (std::same_as<A, Shape>) mix(h, x);
    else if constexpr (std::same_as<A, DotFlags>) mix(h, static_cast<std::size_t>(x.transpose_a) * 2 + x.transpose_b);
    else if constexpr (std::same_as<A, Axes>) { mix(h, static_cast<std::size_t>(x.first)); mix(h, x.extents); }
    else if constexpr (std::same_as<A, Cut>) for (const Index i : {x.axis, x.start, x.size, x.full}) mix(h, static_cast<std::size_t>(i));
    else if constexpr (std::same_as<A, Fill>) { mix(h, x.shape); mix(h, std::bit_cast<std::uint64_t>(x.value)); }
    else if constexpr (std::same_as<A, Permutation>) mix(h, x.axes);
    else if constexpr (std::same_as<A, Along>) mix(h, static_cast<std::size_t>(x.axis));
    else if constexpr (std::same_as<A, Rows>) mix(h, static_cast<std::size_t>(x.count));
    else if constexpr (std::same_as<A, Cumulative>) mix(h, static_cast<std::size_t>(x.axis) * 2 + x.reverse);
    else if constexpr (std::same_as<A, Window>) {
      for (const WindowAxis& axis : {x.height, x.width}) for (const Index i : numbers(axis)) mix(h, static_cast<std::size_t>(i));
      mix(h, x.circular);
    } else if constexpr (std::same_as<A, Triangular>) mix(h, x.transpose);
    else if constexpr (std::same_as<A, Body>) mix(h, std::hash<const void*>{}(x.program.get()));
  }, a);
  return h;
}

std::string str(const Attributes& a) {
  return std::visit([](const auto& x) -> std::string {
    using A = std::remove_cvref_t<decltype(x)>;
    if constexpr (std::same_as<A, double>) return fmt::format("{}", x);
    else if constexpr (std::same_as<A, Shape>) return str(x);
    else if constexpr (std::same_as<A, DotFlags>) return x.transpose_a ? (x.transpose_b ? "a^T b^T" : "a^T b") : (x.transpose_b ? "a b^T" : "");
    else if constexpr (std::same_as<A, Axes>) return fmt::format("axes {} of {}", x.first, x.extents);
    else if constexpr (std::same_as<A, Cut>) return fmt::format("axis {}: {} to {} of {}", x.axis, x.start, x.start + x.size, x.full);
    else if constexpr (std::same_as<A, Fill>) return fmt::format("{}", x.value);
    else if constexpr (std::same_as<A, Permutation>) return fmt::format("axes {}", x.axes);
    else if constexpr (std::same_as<A, Along>) return fmt::format("axis {}", x.axis);
    else if constexpr (std::same_as<A, Rows>) return fmt::format("{} rows", x.count);
    else if constexpr (std::same_as<A, Cumulative>) return fmt::format("axis {}{}", x.axis, x.reverse ? " from its end" : "");
    else if constexpr (std::same_as<A, Window>) {
      auto part = [](const WindowAxis& a) { return fmt::format("{} of {} by {}, dilation {}, {} in front, {} places", a.size, a.extent, a.stride, a.dilation, a.before, a.places); };
      return fmt::format("[{}; {}{}]", part(x.height), part(x.width), x.circular ? "; circular" : "");
    } else if constexpr (std::same_as<A, Triangular>) return x.transpose ? "a^T" : "";
    else if constexpr (std::same_as<A, Body>) return fmt::format("{}{} instructions", x.loop ? fmt::format("{} steps of ", x.loop->length) : "", x.program->code.size());
    else return "";
  }, a);
}

// ---- Var

template <Scalar T> Var constant(std::shared_ptr<const Array<T>> values) {
  Var v;
  const Shape shape = values->shape();
  v.constant_ = std::make_shared<const Constant>(Constant{shape, std::move(values)});
  return v;
}
template Var constant(std::shared_ptr<const Array<float>>);
template Var constant(std::shared_ptr<const Array<double>>);

Var::Var(double value) : Var(constant(Array<double>(Shape{}, {value}))) {}

std::optional<double> Var::number() const {
  if (!constant_ || constant_->shape.rank() != 0) return {};
  return std::visit([](const auto& values) { return static_cast<double>(values->item()); }, constant_->values);
}
Tape* Var::tape() const {
  if (!recorder_) return nullptr;
  if (!*recorder_) fail<TraceError>("{}", trace_ended);
  return *recorder_;
}
const Shape& Var::shape() const {
  if (constant_) return constant_->shape;
  if (!recorder_) fail<TraceError>("a Var that holds nothing was used; a default-constructed Var is a zero tangent, not a value");
  return tape()->node(*this).shape;
}

// ---- Tape

Tape::Tape(const Tape* parent) : self_(std::make_shared<Tape*>(this)), serial_(next_serial++), thread_(this_thread()) {
  static const auto root = std::make_shared<const std::string>();
  path_ = parent ? parent->path_ : root;
}
Tape::~Tape() { *self_ = nullptr; }

Var Tape::input(const Shape& shape) {
  nodes_.push_back({nullptr, {}, {}, shape, {}, path_});
  Var v;
  v.recorder_ = self_;
  v.id_ = static_cast<int>(nodes_.size()) - 1;
  return v;
}

Var Tape::take_in(const Var& v) {
  Var mine;
  mine.id_ = own(v, "trace");
  mine.recorder_ = self_;
  return mine;
}

Var Tape::operand(const Var& v, std::size_t i) const {
  Var u = v;
  u.id_ = node(v).in[i];
  return u;
}

void check_traced(std::string_view operation, std::span<const Var> in) {
  for (const Var& v : in) {
    if (v.is_zero()) fail<TraceError>("{}: an operand holds nothing; a default-constructed Var is a zero tangent, not a value", operation);
    if (v.recorder_ && !*v.recorder_) fail<TraceError>("{}: {}", operation, trace_ended);
  }
}

int Tape::own(const Var& v, const char* operation) {
  if (v.recorder_ == self_) return v.id_;
  check_traced(operation, std::span(&v, 1));
  Tape* const from = v.tape();
  if ((from && from->thread_ != thread_) || thread_ != this_thread()) fail<TraceError>("{}: an operand was recorded by another thread; trace it in this one", operation);
  if (from && from->newer_than(*this)) fail<TraceError>("{}: an operand belongs to an inner function that is still being traced; answer it from that function instead", operation);
  const std::pair<const void*, int> key = from ? std::pair<const void*, int>(from, v.id_) : std::pair<const void*, int>(buffer(*v.constant_), -1);
  const auto [at, fresh] = captured_.try_emplace(key, static_cast<int>(nodes_.size()));
  if (fresh) nodes_.push_back({nullptr, {}, {}, v.shape(), v, path_});
  return at->second;
}

Var Tape::emit(const Primitive& primitive, std::span<const Var> in, Attributes attributes) {
  try {
    if (thread_ != this_thread()) fail<TraceError>("{}: an operand was recorded by another thread; trace it in this one", primitive.name);
    std::vector<int> ids;
    std::vector<Shape> shapes;
    ids.reserve(in.size());
    shapes.reserve(in.size());
    std::size_t key = std::hash<const void*>{}(&primitive);
    mix(key, hash(attributes));
    const std::string name(primitive.name);
    for (const Var& v : in) {
      ids.push_back(own(v, name.c_str()));
      shapes.push_back(v.shape());
      mix(key, static_cast<std::size_t>(ids.back()));
    }
    Var value;
    value.recorder_ = self_;
    for (auto [at, end] = shared_.equal_range(key); at != end; ++at) {
      const Node& n = nodes_[static_cast<std::size_t>(at->second)];
      if (n.primitive != &primitive || n.in != ids || !same(n.attributes, attributes)) continue;
      value.id_ = at->second;
      return value;
    }
    const Shape shape = [&] {
      try {
        return primitive.infer(shapes, attributes);
      } catch (const ShapeError& e) {
        throw ShapeError(in_operation(name, *path_, e.what()));
      }
    }();
    nodes_.push_back({&primitive, std::move(attributes), std::move(ids), shape, {}, path_});
    value.id_ = static_cast<int>(nodes_.size()) - 1;
    shared_.emplace(key, value.id_);
    return value;
  } catch (const ShapeError& e) {
    throw ShapeError(in_layer(*path_, e.what()));
  } catch (const TraceError& e) {
    throw TraceError(in_layer(*path_, e.what()));
  }
}

Program Tape::seal(std::span<const Var> outputs, std::vector<Var>* captured) {
  std::vector<int> roots;
  for (const Var& v : outputs) roots.push_back(own(v, "trace"));
  std::vector<char> live(nodes_.size(), 0);
  for (const int v : roots) live[static_cast<std::size_t>(v)] = 1;
  for (std::size_t v = nodes_.size(); v-- > 0;)
    if (live[v]) for (const int u : nodes_[v].in) live[static_cast<std::size_t>(u)] = 1;

  Program p;
  std::vector<int> number(nodes_.size(), -1);
  for (const bool captures : {false, true})
    for (std::size_t v = 0; v < nodes_.size(); ++v) {
      const Node& n = nodes_[v];
      const bool is_capture = !n.source.is_zero() && !n.source.is_constant();
      if (n.primitive || n.source.is_constant() || is_capture != captures || (captures && !live[v])) continue;
      number[v] = p.n_inputs();
      p.inputs.push_back(n.shape);
      if (!captures) continue;
      if (!captured) fail<TraceError>("trace: the function mentions a value {} of an enclosing traced function; pass it as an argument, or use the derivative functions on Var there", n.shape);
      ++p.captures;
      captured->push_back(n.source);
    }
  for (std::size_t v = 0; v < nodes_.size(); ++v)
    if (live[v] && nodes_[v].source.is_constant()) {
      number[v] = p.first_instruction();
      p.constants.push_back(nodes_[v].source.constant_);
    }
  for (std::size_t v = 0; v < nodes_.size(); ++v) {
    const Node& n = nodes_[v];
    if (!n.primitive || !live[v]) continue;
    Instruction c{n.primitive, n.attributes, {}, n.shape, n.path};
    for (const int u : n.in) c.in.push_back(number[static_cast<std::size_t>(u)]);
    number[v] = p.n_values();
    p.code.push_back(std::move(c));
  }
  for (const int v : roots) p.outputs.push_back(number[static_cast<std::size_t>(v)]);
  *self_ = nullptr;  // a Var that escapes is noticed
  return p;
}

Tape::Scope::Scope(Tape* tape, std::string_view layer) : Scope(tape, tape ? std::make_shared<const std::string>(tape->path_->empty() ? std::string(layer) : *tape->path_ + "/" + std::string(layer)) : nullptr) {}
Tape::Scope::Scope(Tape* tape, std::shared_ptr<const std::string> path) : tape_(path ? tape : nullptr) {
  if (!tape_) return;
  before_ = tape_->path_;
  if (!path->empty()) tape_->path_ = std::move(path);
  outer_ = std::exchange(traced_layer(), tape_->path_);
}
Tape::Scope::~Scope() {
  if (!tape_) return;
  tape_->path_ = std::move(before_);
  traced_layer() = std::move(outer_);
}

Tape* newest(std::span<const Var> values) {
  Tape* found = nullptr;
  for (const Var& v : values)
    if (Tape* const t = v.tape(); t && (!found || t->newer_than(*found))) found = t;
  return found;
}

Var emit(const Primitive& primitive, std::span<const Var> in, Attributes attributes) {
  check_traced(primitive.name, in);
  Tape* const tape = newest(in);
  if (!tape) fail<TraceError>("{}: none of the operands is traced; use it inside a function that is differentiated or compiled, or compute with arrays", primitive.name);
  return tape->emit(primitive, in, std::move(attributes));
}

}  // namespace linnet::autodiff
