// The plan of a program, made once for its lanes: which instructions run together in strips, and where every value lives. Run by executor.h.
#pragma once

#include "linnet/autodiff/program.h"

#include <vector>

namespace linnet::autodiff {

// A run of elementwise instructions of one size and one kind of lanes, executed strip by strip so that values used only inside it
// stay in the first-level cache; or one other instruction; or a product and the run that begins with its result, executed panel by panel of the product.
struct Step {
  enum Kind : char { strips, other, product } kind;
  int first, count;  // indices into Program::code; those marked `inlined` are skipped
  int maps() const { return first + (kind == product ? 1 : 0); }  // the first that may be of the run
};

// Where a value is; a block, or an output, may serve several values one after another. Offsets count elements of the executor's arena; every block starts on a multiple of 16 elements.
struct Place {
  enum Kind : char { input, constant, output, arena, scratch, uniform, spread, parts, unused } kind = unused;
  Index at = 0;  // number of the input, constant, output, scratch block or uniform value; offset in the arena
  // parts: has no memory; the parts of a call have.
};

// A result of a call of several, where each is read by a slice of its own: the call writes it where that slice, or the reshape of it, has its memory.
struct Part {
  int call, result, value;
};

struct Plan {
  std::vector<Varies> varies;     // of every value
  std::vector<Step> steps;
  std::vector<Place> places;      // of every value
  std::vector<Part> parts;
  std::vector<double> uniforms;   // values that fills of strips have everywhere
  int scratch_blocks = 0;         // strip-sized, for each thread
  Index arena = 0;                // elements
};

// `inputs`: what each input varies over. A `fill` used by strips alone is a constant block; a broadcast of leading axes used by strips alone is
// read through its operand. Neither has memory.
Plan make_plan(const Program&, std::vector<Varies> inputs, Lanes lanes);

// That no two values which live at the same time share memory; TraceError names them. Quadratic: for tests and debug builds.
void verify(const Plan&, const Program&, Lanes lanes);

}  // namespace linnet::autodiff
