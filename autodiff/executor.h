// Executor<T>: runs a program as often as wanted, in one number type, over lanes. Plans once; a run only moves through the steps.
#pragma once

#include "linnet/autodiff/plan.h"

#include <memory>
#include <span>
#include <vector>

namespace linnet::autodiff {

template <Scalar T> class Executor {
 public:
  // inputs[i]: which lane axes input i varies over (none where the list ends). An input or output that varies has its lanes as leading axes,
  // examples before directions.
  explicit Executor(std::shared_ptr<const Program> program, std::vector<Varies> inputs = {}, Lanes lanes = {});
  ~Executor();
  Executor(Executor&&) noexcept;
  Executor& operator=(Executor&&) noexcept;

  // Pointers to as many contiguous values as inputs and outputs have. Outputs must not overlap inputs or each other. One thread at a time.
  void run(std::span<const T* const> in, std::span<T* const> out);

  const Program& program() const { return *program_; }
  Varies varies(int value) const { return plan_.varies[static_cast<std::size_t>(value)]; }
  Index output_size(std::size_t k) const;      // elements, all lanes
  std::size_t arena_bytes() const;

 private:
  explicit Executor(std::shared_ptr<const Program> program, std::vector<Varies> inputs, Lanes lanes, bool has_memory);
  struct Piece {  // of the memory
    Index size = 0;
    T* data = nullptr;
  };
  struct Site {  // of an instruction that is no map: its operands, and the executor of its body if it is a call
    std::vector<const T*> in;
    std::vector<const Shape*> shapes;
    std::vector<Varies> varies;
    std::unique_ptr<Executor> body;
    std::vector<int> parts;        // of a body's results: the value each one is, where they are not packed; or -1
    std::vector<Piece> results;    // of a body, before they are packed
    std::vector<Piece> slices;     // of a loop: what its operands with lanes are in this step
    std::vector<Piece> states;     // and the states, twice: from which, and to which, a step goes
    std::vector<const T*> body_in; // what a run of the body is given
    std::vector<T*> body_out;
  };
  Index memory() const;            // elements; sites are run one after another, and have theirs in one place, behind the arena
  void place(T* memory);
  void run_strips(const Step&, Index first, Index n, std::span<const T* const> in, std::span<T* const> out);
  void run_site(const Step&, std::span<const T* const> in, std::span<T* const> out);
  void make_body(Site&, const Instruction&, int value);
  void run_body(Site&, const KernelCall<T>&, std::span<const T* const> in, std::span<T* const> out);
  void run_loop(Site&, const KernelCall<T>&);
  const T* strip_operand(int value, int head, Index first, Index n, T* spare, std::span<const T* const> in, std::span<T* const> out) const;
  const T* at(int value, std::span<const T* const> in, std::span<T* const> out) const;
  std::shared_ptr<const Program> program_;
  Lanes lanes_;
  Plan plan_;
  std::vector<Array<T>> constants_;            // in this width
  std::vector<const T*> constant_at_;
  Buffer<T> uniform_;                          // a strip of each
  std::vector<Site> sites_;                    // by step; empty where it is a run of maps
  Buffer<T> own_memory_;                       // not of a body
  T* arena_ = nullptr;
};
extern template class Executor<float>;
extern template class Executor<double>;

}  // namespace linnet::autodiff
