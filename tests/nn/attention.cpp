// Attention against loops and the draws of neural-tangents, lookup in tables, and what both refuse.
#include "layers.h"

#include <algorithm>

using nn::Mechanism;
using nn::PositionalEmbedding;

namespace {

// [heads][position][k] of one example seen [positions, c] and W [heads, c, k].
using Heads = std::vector<std::vector<std::vector<double>>>;
template <class T> Heads projected(const std::vector<std::vector<double>>& seen, const Array<T>& W) {
  const Index heads = W.shape()[0], c = W.shape()[1], k = W.shape()[2];
  Heads all(static_cast<std::size_t>(heads), std::vector(seen.size(), std::vector<double>(static_cast<std::size_t>(k))));
  for (Index h = 0; h < heads; ++h)
    for (std::size_t p = 0; p < seen.size(); ++p)
      for (Index j = 0; j < k; ++j)
        for (Index i = 0; i < c; ++i) all[static_cast<std::size_t>(h)][p][static_cast<std::size_t>(j)] += seen[p][static_cast<std::size_t>(i)] * double(W[{h, i, j}]);
  return all;
}

void weigh(Mechanism m, std::vector<double>& row) {
  double total = 0;
  for (double& g : row) {
    if (m == Mechanism::softmax) g = std::exp(g), total += g;
    if (m == Mechanism::abs) g = std::abs(g);
    if (m == Mechanism::relu) g = std::max(g, 0.);
  }
  if (m == Mechanism::softmax)
    for (double& g : row) g /= total;
}

// The layer by its formula, one example and one head after another.
template <class T> Array<double> by_loops(const Array<T>& x, const Params<T>& params, Index channels, Index key_channels, Index value_channels, Index heads, const nn::AttentionOptions& o) {
  const Index c = x.shape()[-1], positions = x.shape().size(1, x.shape().rank() - 1), e = o.pos_emb_channels.value_or(c);
  Array<double> y(x.shape().with(-1, channels));
  for (Index n = 0; n < x.shape()[0]; ++n) {
    std::vector<std::vector<double>> plain(static_cast<std::size_t>(positions)), both(static_cast<std::size_t>(positions));
    for (Index p = 0; p < positions; ++p) {
      auto &a = plain[static_cast<std::size_t>(p)], &b = both[static_cast<std::size_t>(p)];
      for (Index i = 0; i < c; ++i) a.push_back(x.data()[(n * positions + p) * c + i]);
      b = a;
      const auto embedding = [&](Index i) { return o.W_pos_emb_std * double(params["pos_emb"].leaf().data()[p * e + i]); };
      if (o.pos_emb == PositionalEmbedding::sum)
        for (Index i = 0; i < c; ++i) b[static_cast<std::size_t>(i)] += embedding(i);
      if (o.pos_emb == PositionalEmbedding::concat)
        for (Index i = 0; i < e; ++i) b.push_back(embedding(i));
    }
    const auto& seen = o.val_pos_emb ? both : plain;
    const Heads K = projected(both, params["W_key"].leaf()), Q = o.linear_scaling ? K : projected(both, params["W_query"].leaf()), V = projected(seen, params["W_value"].leaf());
    const double k = static_cast<double>(key_channels), G_scale = o.W_query_std * o.W_key_std / (static_cast<double>(both[0].size()) * (o.linear_scaling ? k : std::sqrt(k)));
    const double scale = o.W_out_std * o.W_value_std / std::sqrt(static_cast<double>(value_channels * heads) * static_cast<double>(seen[0].size()));
    for (Index p = 0; p < positions; ++p) {
      double* const to = y.data() + (n * positions + p) * channels;
      for (Index j = 0; o.b_std && j < channels; ++j) to[j] += *o.b_std * params["b"].leaf().data()[j];
      for (std::size_t h = 0; h < K.size(); ++h) {
        std::vector<double> row;
        for (std::size_t q = 0; q < plain.size(); ++q) {
          double g = 0;
          for (std::size_t i = 0; i < static_cast<std::size_t>(key_channels); ++i) g += Q[h][static_cast<std::size_t>(p)][i] * K[h][q][i];
          row.push_back(G_scale * g);
        }
        weigh(o.mechanism, row);
        for (std::size_t q = 0; q < plain.size(); ++q)
          for (Index v = 0; v < value_channels; ++v)
            for (Index j = 0; j < channels; ++j) to[j] += scale * row[q] * V[h][q][static_cast<std::size_t>(v)] * double(params["W_out"].leaf()[{v * heads + static_cast<Index>(h), j}]);
      }
    }
  }
  return y;
}

std::vector<nn::AttentionOptions> variants() {
  std::vector<nn::AttentionOptions> all(1);
  for (const Mechanism m : {Mechanism::softmax, Mechanism::identity, Mechanism::abs, Mechanism::relu})
    for (const bool linear : {true, false}) all.push_back({.linear_scaling = linear, .W_key_std = 0.9, .W_value_std = 1.1, .W_query_std = 1.3, .W_out_std = 1.2, .b_std = 0.3, .mechanism = m});
  for (const PositionalEmbedding p : {PositionalEmbedding::sum, PositionalEmbedding::concat})
    for (const bool val : {true, false}) all.push_back({.pos_emb = p, .W_pos_emb_std = 0.7, .val_pos_emb = val});
  all.push_back({.linear_scaling = false, .pos_emb = PositionalEmbedding::concat, .pos_emb_channels = 5, .val_pos_emb = true});
  return all;
}

}  // namespace

TEST_CASE_TEMPLATE("attention is what loops give, by every mechanism, scaling and embedding of positions", T, float, double) {
  for (const nn::AttentionOptions& o : variants())
    for (const Shape& shape : {Shape{2, 3, 4}, Shape{2, 2, 3, 2}, Shape{1, 1, 1}, Shape{0, 3, 2}}) {
      CAPTURE(autodiff::str(shape));
      CAPTURE(static_cast<int>(o.mechanism));
      CAPTURE(static_cast<int>(o.pos_emb));
      const nn::Layer layer = nn::GlobalSelfAttention(3, 2, 4, 2, o);
      const auto params = nn::initialize<T>(layer, Key(1), shape);
      const auto x = nn::normal<T>(Key(2), shape);
      check_close(run(layer, params, x), by_loops(x, params, 3, 2, 4, 2, o), 10 * tolerance<T>());
    }
}

TEST_CASE("attention has the parameters that its options ask for, in the order of neural-tangents") {
  const auto paths = [](const nn::AttentionOptions& o) { return nn::initialize<double>(nn::GlobalSelfAttention(2, 2, 2, 1, o), Key(0), {1, 3, 2}).paths(); };
  CHECK(paths({}) == std::vector<std::string>{"W_key", "W_value", "W_out"});
  CHECK(paths({.linear_scaling = false, .b_std = 1, .pos_emb = PositionalEmbedding::sum}) == std::vector<std::string>{"W_query", "W_key", "W_value", "W_out", "b", "pos_emb"});
}

TEST_CASE_TEMPLATE("the draws and outputs of attention are those of neural-tangents", T, float, double) {
  const nn::Layer layer = nn::GlobalSelfAttention(2, 1, 2, 2, {.linear_scaling = false, .W_key_std = 1.1, .W_value_std = 1.2, .W_query_std = 1.3, .W_out_std = 1.4, .b_std = .3, .mechanism = Mechanism::abs,
                                                               .pos_emb = PositionalEmbedding::sum, .W_pos_emb_std = .7, .val_pos_emb = true});
  if (sizeof(T) == 4)
    check_draws<T>(layer, {2, 2, 2, 1}, {{-0.7673445343971252, -0.10902842879295349},
                                         {-1.2297351360321045, -0.11758865416049957},
                                         {0.24567553400993347, -1.0534545183181763, 0.7873138189315796, 0.5635573267936707},
                                         {0.6027788519859314, -0.2618441879749298, -1.711124300956726, -1.8300226926803589, 0.4779435992240906, -0.6860734820365906, 0.5905522704124451, -1.3532923460006714},
                                         {-0.5938754677772522, -1.6032071113586426},
                                         {0.7948548793792725, -0.4745389521121979, -0.33717232942581177, -0.7953014373779297}},
                   {-0.37596628069877625, -0.14423203468322754, -0.3592202067375183, -0.17273959517478943, -0.41751742362976074, -0.07349765300750732, -0.32590824365615845, -0.22944805026054382,
                    -0.013563364744186401, -0.761167049407959, 0.8822667002677917, -2.286179542541504, 0.24518407881259918, -1.2016446590423584, -0.09580262750387192, -0.6211674213409424});
  else
    check_draws<T>(layer, {2, 2, 2, 1}, {{1.7339081608804578, 0.480197050004031},
                                         {1.8291673132911184, 0.18222303511743532},
                                         {-3.2779388951943305, 0.4654588061731791, -1.145934908876112, -0.35468611267918826},
                                         {0.03904690476941148, -1.3741509100894342, 0.5983888657241263, -0.9021782297721307, -0.9234710534320312, 0.9550577643534305, 0.6276354976777101, -0.27048522205085895},
                                         {-0.016145280871201383, -1.4737642508611197},
                                         {1.1671770270765993, -0.6236446569002029, -0.4835483602409881, -0.793017123443371}},
                   {-1.7936442631486373, 14.840980474396755, -0.8913790480733746, 7.132229875157775, -1.2545887706351033, 10.235411866068945, -0.9112419341110017, 7.301933895757086, 0.3047642823685647,
                    -3.087349092597135, 7.16951691758691, -61.738248081263784, 3.1718747342040703, -27.583294458093324, 0.5189099152595733, -4.916961104997804});
}

TEST_CASE("attention of large products is finite: softmax subtracts the largest") {
  const nn::Layer layer = nn::GlobalSelfAttention(1, 1, 1, 1, {.W_key_std = 1e3});
  const auto params = nn::initialize<float>(layer, Key(0), {1, 3, 1});
  CHECK(autodiff::first_not_finite<float>(run(layer, params, Array<float>({1, 3, 1}, {1e3f, -1e3f, 2})).values()) < 0);
}

TEST_CASE("attention refuses numbers that are none and inputs that do not fit") {
  CHECK_THROWS_WITH_AS(nn::GlobalSelfAttention(0, 1, 1, 1), "attention: the number of channels must be from 1 to 2147483647, got 0", ShapeError);
  CHECK_THROWS_WITH_AS(nn::GlobalSelfAttention(1, 0, 1, 1), "attention: the number of key channels must be from 1 to 2147483647, got 0", ShapeError);
  CHECK_THROWS_WITH_AS(nn::GlobalSelfAttention(1, 1, -1, 1), "attention: the number of value channels must be from 1 to 2147483647, got -1", ShapeError);
  CHECK_THROWS_WITH_AS(nn::GlobalSelfAttention(1, 1, 1, 0), "attention: the number of heads must be from 1 to 2147483647, got 0", ShapeError);
  CHECK_THROWS_WITH_AS(nn::GlobalSelfAttention(1, 1, 1, 1, {.pos_emb_channels = 0}), "attention: the number of pos_emb_channels must be from 1 to 2147483647, got 0", ShapeError);
  CHECK_THROWS_WITH_AS(nn::GlobalSelfAttention(1, 1, 1, 1, {.pos_emb_channels = std::numeric_limits<Index>::max()}), "attention: the number of pos_emb_channels must be from 1 to 2147483647, got 9223372036854775807", ShapeError);
  CHECK_THROWS_WITH_AS(nn::GlobalSelfAttention(1, 1, 1, 1, {.W_key_std = NAN}), "attention: W_key_std must be finite and not negative, got nan", StructureError);
  CHECK_THROWS_WITH_AS(nn::GlobalSelfAttention(1, 1, 1, 1, {.b_std = -1}), "attention: b_std must be finite and not negative, got -1", StructureError);
  const nn::Layer net = nn::serial({nn::GlobalSelfAttention(1, 1, 1, 1, {.pos_emb = PositionalEmbedding::sum, .pos_emb_channels = 3})});
  const std::string in = "serial/attention_0: attention: ";
  for (const auto& [shape, text] : std::vector<std::pair<Shape, std::string>>{
           {{2, 3}, "the input [2,3] needs axes of examples, of positions (one at least) and of channels"},
           {{2, 0, 3}, "the input [2,0,3] has no positions or no channels, one at least is needed"},
           {{2, 3, 0}, "the input [2,3,0] has no positions or no channels, one at least is needed"},
           {{2, 3, 4}, "positional embeddings of 3 channels cannot be added to the input [2,3,4]; concatenate them, or leave pos_emb_channels open"}}) {
    CHECK(init_error_of<ShapeError>(net, shape) == in + text);
    CHECK(error_of<ShapeError>(net, {}, shape) == in + text);
  }
  CHECK(error_of<StructureError>(net, {}, {2, 4, 3}) == in + "parameter 'W_key' is missing among the parameters: it has no children");
  CHECK(error_of<StructureError>(net, Params<double>{{"attention_0", Params<double>{{"W_query", Array<double>()}}}}, {2, 4, 3}) ==
        in + "there is a parameter 'W_query' that it does not know; it has W_key, W_value, W_out, pos_emb");
  auto params = nn::initialize<double>(net, Key(0), {2, 4, 3});  // embeddings of positions count them
  CHECK(error_of<ShapeError>(net, params, {2, 5, 3}) == in + "parameter 'pos_emb' has shape [1,4,3], expected [1,5,3] for an input [2,5,3]");
}

TEST_CASE_TEMPLATE("an embedding answers the rows of its table, and only they have a derivative", T, float, double) {
  for (const auto p : {nn::Parameterization::ntk, nn::Parameterization::standard}) {
    const nn::Layer layer = nn::Embedding(5, 3, {1.5, p});
    const auto params = nn::initialize<T>(layer, Key(1), {1, 2});
    const Array<T>& W = params["W"].leaf();
    CHECK(W.shape() == Shape{5, 3});
    const Array<T> normals = nn::normal<T>(Key(1), {5, 3});
    const bool ntk = p == nn::Parameterization::ntk;
    CHECK(W == (ntk ? normals : T(1.5) * normals));
    const Array<T> x({2, 2}, {4, 0, 2, 4});
    Array<double> y({2, 2, 3});
    for (Index i = 0; i < 12; ++i) y.data()[i] = (ntk ? 1.5 : 1) * double(W[{static_cast<Index>(x.data()[i / 3]), i % 3}]);
    check_close(run(layer, params, x), y, tolerance<T>());
    CHECK(run(layer, params, Array<T>({0, 2})).shape() == Shape{0, 2, 3});
    check_close(run(layer, params, Array<T>({2}, {4, 0})), Array<double>({2, 3}, std::span<const double>(y.data(), 6)), tolerance<T>());
    const auto total = [&](const Tree<Var>& t, const Var& v) { return sum(nn::function_of(layer)(t, v)); };
    const auto slope = autodiff::grad(total, params, x);
    Array<double> counts({5, 3});
    for (const T token : x)
      for (Index j = 0; j < 3; ++j) counts[{static_cast<Index>(token), j}] += ntk ? 1.5 : 1;
    check_close(slope["W"].leaf(), counts, tolerance<T>());
    CHECK(autodiff::grad([&](const Var& v, const Tree<Var>& t) { return total(t, v); }, x, params) == Array<T>({2, 2}));
  }
}

TEST_CASE("an embedding refuses options that are none, a scalar, and numbers that are no row") {
  CHECK_THROWS_WITH_AS(nn::Embedding(0, 1), "embedding: the vocabulary must be 1 or more, got 0", ShapeError);
  CHECK_THROWS_WITH_AS(nn::Embedding(1, 0), "embedding: the width must be 1 or more, got 0", ShapeError);
  CHECK_THROWS_WITH_AS(nn::Embedding(1, 1, {.W_std = -1}), "embedding: W_std must be finite and not negative, got -1", StructureError);
  CHECK_THROWS_WITH_AS(nn::Embedding(1, 1).init(Key(0), Shape(), nn::Width::float32), "embedding: a scalar has no axis of examples; expected is [examples, …]", ShapeError);
  CHECK(init_error_of<ShapeError>(nn::Embedding(2, 3), {1, 1, 1, 1, 1, 1, 1, 1}) == "embedding: embedding: the input [1,1,1,1,1,1,1,1] has 8 axes, and the result would have one more than arrays have");
  CHECK(error_of<ShapeError>(nn::serial({nn::Embedding(2, 3)}), {{"embedding_0", Params<double>{{"W", Array<double>({3, 3})}}}}, {4}) ==
        "serial/embedding_0: embedding: parameter 'W' has shape [3,3], expected [2,3] for an input [4]");
  const auto params = nn::initialize<double>(nn::Embedding(2, 3), Key(0), {1});
  for (const double wrong : {2., -1., 0.5, double(NAN)}) CHECK_THROWS_AS(run(nn::Embedding(2, 3), params, Array<double>({1}, {wrong})), NumericalError);
}
