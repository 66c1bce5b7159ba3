// GlobalSelfAttention: every position of an example sees every other one. Positions are brought to one axis, heads in front of them, so that two
// products over leading axes do it all. autodiff's softmax and dot are what it is made of.
#include "linnet/nn/kernel_maps.h"
#include "linnet/nn/kernel_places.h"

#include <limits>

namespace linnet::nn {
namespace {

struct Attention {
  Index channels, key_channels, value_channels, heads;
  AttentionOptions options;

  bool concat() const { return options.pos_emb == PositionalEmbedding::concat; }
  bool positional() const { return options.pos_emb != PositionalEmbedding::none; }
  Index pos_emb_channels(Index c) const { return options.pos_emb_channels.value_or(c); }
  Index seen_by_keys(Index c) const { return concat() ? c + pos_emb_channels(c) : c; }
  Index seen_by_values(Index c) const { return concat() && options.val_pos_emb ? c + pos_emb_channels(c) : c; }
};

// A parameter, and which of six keys draws it: those of stax, in the order of the tree.
struct Parameter {
  const char* name;
  Shape shape;
  std::size_t key;
};
std::vector<Parameter> parameters(const Attention& a, const Shape& x) {
  const Index c = x[-1], keys = a.seen_by_keys(c);
  std::vector<Parameter> all;
  if (!a.options.linear_scaling) all.push_back({"W_query", {a.heads, keys, a.key_channels}, 0});
  all.push_back({"W_key", {a.heads, keys, a.key_channels}, 1});
  all.push_back({"W_value", {a.heads, a.seen_by_values(c), a.value_channels}, 2});
  all.push_back({"W_out", {a.value_channels * a.heads, a.channels}, 3});
  const std::vector<Index> ones(static_cast<std::size_t>(x.rank()), 1);
  if (a.options.b_std) all.push_back({"b", Shape(ones).with(-1, a.channels), 4});
  if (a.positional()) all.push_back(Parameter{"pos_emb", x.with(0, 1).with(-1, a.pos_emb_channels(c)), 5});
  return all;
}

void check_input(const Attention& a, const Shape& x, const std::string& place) {
  if (x.rank() < 3) fail<ShapeError>("{}attention: the input {} needs axes of examples, of positions (one at least) and of channels", place, x);
  if (x.size(1, x.rank()) == 0) fail<ShapeError>("{}attention: the input {} has no positions or no channels, one at least is needed", place, x);
  if (a.options.pos_emb == PositionalEmbedding::sum && a.pos_emb_channels(x[-1]) != x[-1])
    fail<ShapeError>("{}attention: positional embeddings of {} channels cannot be added to the input {}; concatenate them, or leave pos_emb_channels open", place, *a.options.pos_emb_channels, x);
}

// x [n, positions, c] times each head's W [heads, c, k]: [n, heads, positions, k].
Var project(const Var& x, const Var& W) {
  const Index n = x.shape()[0], positions = x.shape()[1], heads = W.shape()[0], c = W.shape()[1], k = W.shape()[2];
  const Var all = dot(reshape(x, {n * positions, c}), reshape(transpose(W, {1, 0, 2}), {c, heads * k}));
  return transpose(reshape(all, {n, positions, heads, k}), {0, 2, 1, 3});
}

Var weigh(Mechanism mechanism, const Var& G) {
  switch (mechanism) {
    case Mechanism::softmax: return softmax(G);
    case Mechanism::abs: return abs(G);
    case Mechanism::relu: return relu(G);
    default: return G;
  }
}

// What keys see, and what values see: x with and without the embedding of its positions.
std::pair<Var, Var> seen(const Attention& a, const Tree<Var>& params, const Var& x) {
  if (!a.positional()) return {x, x};
  const Var embedding = a.options.W_pos_emb_std * params["pos_emb"].leaf();
  const Shape with = x.shape().with(-1, a.pos_emb_channels(x.shape()[-1]));
  const Var both = a.concat() ? autodiff::concatenate({x, broadcast_to(embedding, with)}, x.shape().rank() - 1) : x + embedding;
  return {both, a.options.val_pos_emb ? both : x};
}

Var apply_attention(const Attention& a, const Tree<Var>& params, const Var& x) {
  const Shape shape = x.shape();
  check_input(a, shape, place(params, x));
  std::vector<std::string> names;
  for (const Parameter& p : parameters(a, shape)) names.push_back(p.name);
  check_no_others("attention", params, names, x);
  for (const Parameter& p : parameters(a, shape)) parameter("attention", params, p.name, p.shape, x);

  const AttentionOptions& o = a.options;
  const Index n = shape[0], positions = shape.size(1, shape.rank() - 1);
  const auto [for_keys, for_values] = seen(a, params, x);
  const auto flat = [&](const Var& v) { return reshape(v, {n, positions, v.shape()[-1]}); };
  const Var keys = project(flat(for_keys), params["W_key"].leaf()), values = project(flat(for_values), params["W_value"].leaf());
  const Var queries = o.linear_scaling ? keys : project(flat(for_keys), params["W_query"].leaf());
  const double k = static_cast<double>(a.key_channels), norm = static_cast<double>(for_keys.shape()[-1]) * (o.linear_scaling ? k : std::sqrt(k));
  const Var G = weigh(o.mechanism, o.W_query_std * o.W_key_std / norm * dot(queries, keys, {false, true}));
  const Var heads = transpose(dot(G, values), {0, 2, 3, 1});  // [n, positions, value_channels, heads]
  const Index width = a.value_channels * a.heads;
  const double scale = o.W_out_std * o.W_value_std / std::sqrt(static_cast<double>(width) * static_cast<double>(for_values.shape()[-1]));
  const Var y = reshape(scale * dot(reshape(heads, {n * positions, width}), params["W_out"].leaf()), shape.with(-1, a.channels));
  return o.b_std ? y + *o.b_std * params["b"].leaf() : y;
}

const char* word(Mechanism m) {
  constexpr const char* words[] = {"SOFTMAX", "IDENTITY", "ABS", "RELU"};
  return words[static_cast<std::size_t>(m)];
}
const char* word(PositionalEmbedding p) {
  constexpr const char* words[] = {"NONE", "SUM", "CONCAT"};
  return words[static_cast<std::size_t>(p)];
}

void check_options(const Attention& a) {
  constexpr Index most = std::numeric_limits<std::int32_t>::max();  // so that sums of them are numbers too
  const AttentionOptions& o = a.options;
  for (const auto& [name, n] : {std::pair("channels", a.channels), {"key channels", a.key_channels}, {"value channels", a.value_channels}, {"heads", a.heads}, {"pos_emb_channels", a.pos_emb_channels(1)}})
    if (n < 1 || n > most) fail<ShapeError>("attention: the number of {} must be from 1 to {}, got {}", name, most, n);
  for (const auto& [name, value] : {std::pair("W_key_std", o.W_key_std), {"W_value_std", o.W_value_std}, {"W_query_std", o.W_query_std}, {"W_out_std", o.W_out_std}, {"b_std", o.b_std.value_or(0)}, {"W_pos_emb_std", o.W_pos_emb_std}})
    check_not_negative("attention", name, value);
}

LayerOptions options_of(const Attention& a) {
  const AttentionOptions& o = a.options;
  LayerOptions made{{"out", a.channels}, {"key", a.key_channels}, {"value", a.value_channels}, {"heads", a.heads}, {"linear_scaling", o.linear_scaling},
                           {"W_key_std", o.W_key_std}, {"W_value_std", o.W_value_std}, {"W_query_std", o.W_query_std}, {"W_out_std", o.W_out_std}};
  if (o.b_std) made.push_back({"b_std", *o.b_std});
  made.push_back({"mechanism", std::string(word(o.mechanism))});
  made.push_back({"pos_emb", std::string(word(o.pos_emb))});
  if (o.pos_emb_channels) made.push_back({"pos_emb_channels", *o.pos_emb_channels});
  made.push_back({"W_pos_emb_std", o.W_pos_emb_std});
  made.push_back({"val_pos_emb", o.val_pos_emb});
  return made;
}

// arXiv 2006.10540. With linear scaling the attention of an example is that of its covariance, G = zeta(W_query_std W_key_std K_xx), and with W(M) = (W_out_std W_value_std)^2 G1 M G2^T
// K' = W(K) + b_std^2 and ntk' = W(ntk) + 2 W(K) + b_std^2. With the root it is random, and without a mechanism, s the product of the four scales, d = sum K^2 over places:
// K' = s^2 d K + b_std^2, ntk' = s^2 (2 K sum(K ntk) + d (ntk + 4 K)) + b_std^2.
Rule attention_rule(const Attention& a) {
  const AttentionOptions o = a.options;
  if (a.positional()) return no_rule("positional embeddings are not followed; use PositionalEmbedding::none");
  if (!o.linear_scaling && o.mechanism != Mechanism::identity) return no_rule("with the scaling by the root only Mechanism::identity has a closed form; use linear_scaling");
  const double value = o.W_out_std * o.W_value_std, key = o.W_query_std * o.W_key_std, b = o.b_std.value_or(0) * o.b_std.value_or(0);
  const auto matrix = [](const Var& K, const Shape& in) { return reshape(K, {K.shape()[0], places_of(in).size(), places_of(in).size()}); };
  // What K becomes without the bias; M the other covariance of the pair, or K itself.
  const auto weighed = [=](const Var& M, const Var& G1, const Var& G2) {
    return value * value * dot(dot(broadcast_to(G1, M.shape()), M), broadcast_to(G2, M.shape()), {false, true});
  };
  const auto squares = [](const Var& K, const Var& M) { return sum(K * M, {1, 2}, true); };
  OneValue rule;
  rule.places = Places::all;
  rule.law = [](const Law&, int& draws) { return with_weights("attention", draws); };
  rule.example = [=](const ExampleValue& in, Statistics& statistics, const Scale&) -> ExampleValue {
    check_input(a, in.shape, "");
    const Var K = matrix(in.self->nngp(), in.shape);
    Var out;
    if (o.linear_scaling) {
      const Var G = reshape(weigh(o.mechanism, key * K), K.shape().part(1, 3));
      statistics.push_back({G, false, true});
      out = weighed(K, G, G);
    } else {
      out = value * value * key * key * squares(K, K) * K;
    }
    return {in.shape.with(-1, a.channels), reshape(diagonal(out) + b, places_of(in.shape))};
  };
  rule.pair = [=](const PairValue& in, const Sides& after, std::span<const Sides> statistics, const Scale&) {
    const Shape shape = in.gap.shape();
    const Var K = matrix(in.nngp(), in.shape), T = in.ntk.is_zero() ? zeros_like(K) : matrix(in.ntk, in.shape);
    Var nngp, ntk;
    if (o.linear_scaling) {
      const Var &G1 = statistics[0].row, &G2 = statistics[0].column;
      nngp = weighed(K, G1, G2);
      ntk = weighed(T, G1, G2) + 2.0 * nngp;
    } else {
      const double s = value * value * key * key;
      const Var d = squares(K, K);
      nngp = s * d * K;
      ntk = s * (2.0 * squares(K, T) * K + d * (T + 4.0 * K));
    }
    PairValue out;
    out.gap = positive_part(product(after) - reshape(nngp + b, shape));
    out.ntk = reshape(ntk + b, shape);
    return out;
  };
  return one_value_rule("attention", std::move(rule));
}

}  // namespace

Layer GlobalSelfAttention(Index channels, Index key_channels, Index value_channels, Index heads, AttentionOptions options) {
  const Attention a{channels, key_channels, value_channels, heads, options};
  check_options(a);
  return with_kernel(plain(
      "attention",
      [a](Key key, const Shape& input, Width number) {
        check_input(a, input, "");
        const std::vector<Key> keys = split(key, 6);
        std::vector<Tree<Array<double>>::Child> params;
        for (const Parameter& p : parameters(a, input)) params.emplace_back(p.name, scaled_normal(keys[p.key], p.shape, number));
        return std::pair(input.with(-1, a.channels), Tree<Array<double>>(std::move(params)));
      },
      [a](const Tree<Var>& params, const Var& x) { return apply_attention(a, params, x); }, options_of(a)), attention_rule(a));
}

}  // namespace linnet::nn
