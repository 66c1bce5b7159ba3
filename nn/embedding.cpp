// Embedding: rows of a table by whole numbers. It is a Dense layer of one-hot vectors, whose length is 1 whatever the vocabulary: so W_std is not divided.
#include "linnet/nn/kernel_layers.h"

namespace linnet::nn {
namespace {

void check_tokens(const Shape& x, const std::string& place) {
  if (x.rank() == 0) fail<ShapeError>("{}embedding: a scalar has no axis of examples; expected is [examples, …]", place);
  if (x.rank() == Shape::max_rank) fail<ShapeError>("{}embedding: the input {} has {} axes, and the result would have one more than arrays have", place, x, x.rank());
}

}  // namespace

Layer Embedding(Index vocabulary, Index width, EmbeddingOptions options) {
  if (vocabulary < 1) fail<ShapeError>("embedding: the vocabulary must be 1 or more, got {}", vocabulary);
  if (width < 1) fail<ShapeError>("embedding: the width must be 1 or more, got {}", width);
  check_not_negative("embedding", "W_std", options.W_std);
  const bool ntk = options.parameterization == Parameterization::ntk;
  return with_kernel(plain(
      "embedding",
      [=](Key key, const Shape& input, Width number) {
        check_tokens(input, "");
        Tree<Array<double>> params{{"W", scaled_normal(key, {vocabulary, width}, number, ntk ? 1 : options.W_std)}};
        return std::pair(input.inserted(input.rank(), std::array{width}), std::move(params));
      },
      [=](const Tree<Var>& params, const Var& x) {
        const Shape shape = x.shape();
        check_tokens(shape, place(params, x));
        check_no_others("embedding", params, {"W"}, x);
        const Var W = parameter("embedding", params, "W", {vocabulary, width}, x);
        const Var rows = gather(W, shape.rank() == 1 ? x : reshape(x, {shape.size()}));
        const Var y = shape.rank() == 1 ? rows : reshape(rows, shape.inserted(shape.rank(), std::array{width}));
        return ntk ? options.W_std * y : y;
      },
      LayerOptions{{"vocabulary", vocabulary}, {"out", width}, {"W_std", options.W_std}, {"parameterization", word(options.parameterization)}}),
                     no_rule("rows of a table follow from the tokens and not from a kernel of them; give the network one-hot vectors and a Dense layer"));
}

}  // namespace linnet::nn
