// The structured kernel. A parameter enters a network as an operand of some instruction (a use), and its gradient there is a sum over positions of
// left (x) right, one side from what enters with it, the other from the cotangent that comes back: Primitive::factor. So the kernel is
//   Theta[(n,o),(n',o')] = sum over pairs of uses of one parameter, over positions s, s', of (left . left') (right . right')
// and no gradient is formed. plan_gram traces the network on one example, linearizes it in its parameters and transposes that up to the uses (the cut
// transpose); a parameter whose uses do not factor, or cost more so, is materialized: its per-example gradient is an output of the cut program.
// contract.cpp runs the plan: examples are lanes, cotangents are directions, tile pairs of the kernel are items.
#pragma once

#include "linnet/autodiff/kernels/parallel.h"
#include "linnet/ntk/empirical.h"
#include "linnet/ntk/residuals.h"

#include <array>
#include <limits>
#include <memory>
#include <vector>

namespace linnet::ntk {

enum class Contraction { automatic, materialized };

struct GramPlan {
  // An output of the cut program: for every lane `rows` positions of `width` numbers.
  struct Value {
    autodiff::Varies varies;
    Index rows, width;
    Index one_hot = 0;  // not 0: a number is the place of the one in a row of so many zeros, and the width is 1
  };
  // Pairs of uses that share their pair of cotangents a, b: the products of their lefts are added first. A left of -1 is a column of ones.
  struct Term {
    std::vector<std::array<int, 2>> left;
    std::vector<double> scale;  // of each pair
    int a, b;
    bool plain;                 // lefts of examples, rights of examples and cotangents: one Hadamard product
    bool packed;                // and one position: packed tiles
  };
  // A parameter of which rows are gathered: uses with an index on one side, which meet in equal indices alone (gathered.h).
  struct Gathered {
    std::vector<std::array<int, 2>> uses;  // the index, and the cotangent [positions, width]
    std::vector<double> scale;
    Index table, width;
  };
  // What the choice of every parameter was made by.
  struct Choice {
    std::string parameter;
    Shape shape;
    int uses = 0;
    Index positions = 0;
    bool factored = false, gathered = false;  // gathered: some factor is an index
    double factors = std::numeric_limits<double>::infinity(), materialized = 0;  // multiply-adds of all pairs; infinite: it has no factors
    double factor_numbers = 0, gradient_numbers = 0;  // in memory, for all examples
  };

  bool traced;
  Index outputs = 0;
  int n_params = 0;
  std::shared_ptr<const autodiff::Program> primal, cut;  // params, x -> residuals;  cotangent, residuals -> values
  std::vector<Residual> residuals;
  std::vector<Value> values;
  std::vector<int> materialized;  // values that are whole gradients
  std::vector<Term> terms;
  std::vector<Gathered> gathered;
  std::vector<Choice> choices;
  double sweep_flops = 0, pair_flops = 0;  // of an example, and of a pair of them
};

// `example`: the shape of one example, with its leading axis of 1. n1, n2: what the costs are counted for.
GramPlan plan_gram(const Apply& f, const Tree<Shape>& params, const Shape& example, Index n1, Index n2, bool traced, Contraction contraction);

// Examples of a tile of the kernel of so many (n2 of 0: of n1 with themselves), down and across: tile (i, j) has those from i and j times that on.
Index tile_examples(const GramPlan& plan, Index n1, Index n2);

// What is in memory at a time; it changes no bit.
struct InFlight {
  Index panel = 1;    // tiles of examples of which there is what the cut program answers, for rows and for columns
  bool alone = false; // one chunk of examples goes through the programs at a time, not one for every thread
};

// Runs it, into `out` [n2 R, n1 R], R the outputs (1 if traced); with n2 of 0 [n1 R, n1 R] of x1 with itself, symmetric in bits. Whether
// all of it is finite.
template <Scalar T> bool run_gram(const GramPlan& plan, const autodiff::Views<T>& params, const T* x1, Index n1, const T* x2, Index n2, InFlight in_flight, T* out, const Options& options);

// Takes the tiles of a kernel as they are finished, on any thread, where there is no array for all of it (store.h).
template <class T> struct TileSink {
  autodiff::FunctionRef<bool(Index i, Index j)> wanted;  // whether tile (i, j) is to be computed; asked right before it is
  // j <= i where there is one set. Its rows, `stride` apart, all of them finite; of a diagonal tile of one set with itself the lower half. Answers the bytes written.
  autodiff::FunctionRef<std::size_t(Index i, Index j, const T* values, Index stride)> take;
};
template <Scalar T> bool run_gram(const GramPlan& plan, const autodiff::Views<T>& params, const T* x1, Index n1, const T* x2, Index n2, InFlight in_flight, const TileSink<T>& sink, const Options& options);

// The same tiles by blocks, in any order: block (i, j) has the tiles of the panels i and j, of InFlight::panel tiles each. For who shares them out (distributed.cpp). Keeps the
// panels of the last block, so that the next one beside it costs the sweep of its columns alone.
template <Scalar T> class GramBlocks {
 public:
  GramBlocks(const GramPlan& plan, const autodiff::Views<T>& params, const T* x1, Index n1, const T* x2, Index n2, InFlight in_flight);  // all of it borrowed
  ~GramBlocks();
  Index open(Index i, Index j, autodiff::FunctionRef<bool(Index i, Index j)> wanted);  // its panels; how many tiles of it are wanted
  // These of them: take(which, i, j, values, stride) as above, of tiles that are finite; whether all are.
  bool run(Index first, Index last, autodiff::FunctionRef<void(Index k, Index i, Index j, const T* values, Index stride)> take) const;
  Index swept() const;  // examples that went through the programs so far

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Bytes in flight besides the result, at most, with this number of threads; n2 of 0 as above.
template <Scalar T> std::size_t gram_bytes(const GramPlan& plan, Index n1, Index n2, InFlight in_flight);
// The largest panels, all of one size, that need no more bytes than there is room for; else what needs the least.
template <Scalar T> InFlight most_in_flight(const GramPlan& plan, Index n1, Index n2, std::size_t room);

}  // namespace linnet::ntk
