// Start here. A Tape records what a function does to its Vars; sealing it gives a Program (program.h), which is data: transformed by
// transform.h, run by executor.h. Three rules make the rest of the library short:
//   * An operation is recorded on the newest tape among its operands. An operand of an older tape is captured: it becomes one more
//     input. That gives closures, and residuals: linearize runs the jvp rules with tangents on a newer tape, so what a rule computes
//     from primals alone is recorded outside, and what the linear program mentions of it is a residual.
//   * One instruction is one value: equal instructions are shared as they are emitted, dead ones are dropped by seal.
//   * A zero tangent is a Var with nothing behind it. Rules never see one.
// A tape lives while its function is traced. Live tapes of a thread nest, so "newer" is the order in which they were made.
#pragma once

#include "linnet/autodiff/array.h"

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

namespace linnet::autodiff {

class Tape;
class Var;
struct Primitive;
struct Program;

// ---- attributes: what an instruction knows besides its operands. Plain data, compared by bits. An operation and its transpose
// share one: sum and broadcast, slice and pad, gather and scatter_add.

struct DotFlags { bool transpose_a = false, transpose_b = false; };
struct Axes { Index first = 0; Shape extents; };                        // a run of axes, removed or inserted
struct Cut { Index axis = 0, start = 0, size = 0, full = 0; };          // [start, start + size) of an axis of `full`
struct Fill { Shape shape; double value = 0; };
struct Permutation { Shape axes; };                                     // axis i of the result is axis axes[i] of the operand
struct Along { Index axis = 0; };
struct Rows { Index count = 0; };                                       // of the table that gather reads and scatter_add makes
struct Cumulative { Index axis = 0; bool reverse = false; };            // sums from the front of an axis, or from its end
struct WindowAxis { Index extent = 0, places = 0, size = 1, stride = 1, dilation = 1, before = 0; };  // tap k of place p lies at p stride + k dilation - before
struct Window { WindowAxis height, width; bool circular = false; };     // over images [n, height, width, c]; outside lie zeros, or the other end
struct Triangular { bool transpose = false; };                          // the lower factor solves, or its transpose
struct Loop;
using CustomJvp = std::function<std::vector<Var>(std::span<const Var> primals, std::span<const Var> tangents)>;
struct Body {                                                           // of call; its identity is that of the pointers
  std::shared_ptr<const Program> program;
  std::shared_ptr<const Loop> loop;      // of scan (program.h)
  std::shared_ptr<const CustomJvp> jvp;  // of custom_jvp
};
using Attributes = std::variant<std::monostate, double, Shape, DotFlags, Axes, Cut, Fill, Permutation, Along, Rows, Cumulative, Window, Triangular, Body>;
bool same(const Attributes&, const Attributes&);
std::size_t hash(const Attributes&);
std::string str(const Attributes&);  // "" where there is nothing to say

// A captured array keeps its own width and is shared, not copied, by the programs that mention it.
struct Constant {
  Shape shape;
  std::variant<std::shared_ptr<const Array<float>>, std::shared_ptr<const Array<double>>> values;
};

// ---- Var: a traced value. Copies refer to the same value.

class Var {
 public:
  Var() = default;        // nothing: a zero tangent, or an absent value
  Var(double value);      // a scalar constant; an operation recorded with it takes it in
  const Shape& shape() const;  // TraceError after its trace has ended, or if there is nothing
  bool is_zero() const { return !recorder_ && !constant_; }
  bool is_constant() const { return constant_ != nullptr; }
  std::optional<double> number() const;  // of a scalar constant
  Tape* tape() const;     // null for nothing and for a constant; TraceError after the trace has ended
  int id() const { return id_; }
  bool same_as(const Var& other) const { return recorder_ == other.recorder_ && constant_ == other.constant_ && id_ == other.id_; }
  explicit operator bool() const = delete;  // values are not known while tracing: use where(condition, a, b)

 private:
  friend class Tape;
  template <Scalar T> friend Var constant(std::shared_ptr<const Array<T>>);
  friend void check_traced(std::string_view operation, std::span<const Var> in);
  std::shared_ptr<Tape*> recorder_;  // holds null once the tape is sealed or gone
  std::shared_ptr<const Constant> constant_;
  int id_ = -1;
};
template <Scalar T> Var constant(std::shared_ptr<const Array<T>> values);  // shared, not copied
template <Scalar T> Var constant(Array<T> values) { return constant(std::make_shared<const Array<T>>(std::move(values))); }

// ---- Tape

class Tape {
 public:
  struct Node {  // an instruction; an input, a capture or a constant where there is no primitive
    const Primitive* primitive = nullptr;
    Attributes attributes;
    std::vector<int> in;
    Shape shape;
    Var source;  // what was captured, or a constant
    std::shared_ptr<const std::string> path;
  };

  explicit Tape(const Tape* parent = nullptr);  // inherits the parent's layer path
  ~Tape();
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  Var input(const Shape& shape);
  Var take_in(const Var& v);  // v as a value of this tape: itself, or what captures it
  // Records an instruction and answers its value; an equal one that is already there is shared. Errors of the shape rule are prefixed
  // with the layer path. TraceError: an operand whose trace has ended, or of another thread.
  Var emit(const Primitive&, std::span<const Var> in, Attributes = {});
  // The program that computes these outputs. `captured` receives the values of older tapes it mentions, in the order of the inputs
  // that stand for them; without it a capture is a TraceError.
  Program seal(std::span<const Var> outputs, std::vector<Var>* captured = nullptr);

  const Node& node(const Var& v) const { return nodes_[static_cast<std::size_t>(v.id())]; }
  Var operand(const Var& v, std::size_t i) const;  // operand i of the instruction that made v
  bool newer_than(const Tape& other) const { return serial_ > other.serial_; }
  const std::string& path() const { return *path_; }

  // Names the layer whose instructions are recorded while it lives. Every error of this thread has it in front meanwhile.
  class Scope {
   public:
    Scope(Tape* tape, std::string_view layer);                     // joins to the path there is; a null tape is left alone
    Scope(Tape* tape, std::shared_ptr<const std::string> path);    // replaces it: an interpreter repeating an instruction
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Tape* tape_;
    std::shared_ptr<const std::string> before_, outer_;  // of the tape; of the thread, whose errors have the layer in front
  };

 private:
  int own(const Var& v, const char* operation);  // the id here: v's own, or that of its capture
  std::shared_ptr<Tape*> self_;
  std::deque<Node> nodes_;  // stable addresses: Var::shape() answers a reference
  std::unordered_multimap<std::size_t, int> shared_;
  std::map<std::pair<const void*, int>, int> captured_;
  std::shared_ptr<const std::string> path_;
  unsigned long serial_;
  const void* thread_;  // a place of the thread it was made in
};

// TraceError in the operation's name unless every operand is a constant or a value of a trace that goes on.
void check_traced(std::string_view operation, std::span<const Var> in);
Tape* newest(std::span<const Var> values);                                       // null if none is recorded
Var emit(const Primitive&, std::span<const Var> in, Attributes attributes = {});  // on the newest tape; TraceError if no operand has one

}  // namespace linnet::autodiff
