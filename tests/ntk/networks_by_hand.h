// Every way a parameter can be used that the kernel must get right, a small network each. Read networks.h first.
#pragma once

#include "networks.h"

namespace networks {

// A parameter on either side of a product, either operand transposed.
inline std::vector<Network> products() {
  using linnet::autodiff::dot;
  using linnet::autodiff::tanh;
  using linnet::autodiff::transpose;
  std::vector<Network> all;
  for (const bool ta : {false, true})
    for (const bool tb : {false, true}) {
      const std::string flags = std::string(ta ? ", left transposed" : "") + (tb ? ", right transposed" : "");
      all.push_back(network("W on the right" + flags, {4}, {{"W", tb ? Shape{3, 4} : Shape{4, 3}}},
                            [=](const Tree<Var>& p, const Var& x) { return tanh(dot(ta ? transpose(x) : x, p["W"], {ta, tb})); }));
      all.push_back(network("W on the left" + flags, {4}, {{"W", ta ? Shape{4, 3} : Shape{3, 4}}},
                            [=](const Tree<Var>& p, const Var& x) { return tanh(transpose(dot(p["W"], tb ? x : transpose(x), {ta, tb}))); }));
    }
  return all;
}

// One parameter used several times.
inline std::vector<Network> tied() {
  using namespace linnet::autodiff;
  using P = const Tree<Var>&;
  return {
      network("W twice", {4}, {{"W", {4, 4}}}, [](P p, Var x) { return dot(tanh(dot(x, p["W"])), p["W"]); }),
      network("W and its transpose", {12}, {{"W", {12, 4}}}, [](P p, Var x) { const Var W = p["W"]; return dot(tanh(dot(x, W)), transpose(W)); }),
      network("square W, transposed twice, and its transpose", {6}, {{"W", {6, 6}}},
              [](P p, Var x) { const Var W = p["W"]; return dot(tanh(dot(x, transpose(2 * transpose(W)))), 0.5 * transpose(W)); }),
      network("square W and its transpose, in a row", {4}, {{"W", {4, 4}}},
              [](P p, Var x) { const Var W = p["W"]; return dot(tanh(dot(tanh(dot(x, transpose(W))), W)), transpose(W)); }),
      network("W times W before x", {3}, {{"W", {3, 3}}}, [](P p, Var x) { const Var W = p["W"]; return dot(x, dot(W, W)); }),
      network("W times its transpose before x", {3}, {{"W", {3, 5}}}, [](P p, Var x) { const Var W = p["W"]; return tanh(dot(x, dot(W, W, {false, true}))); }),
      network("W W v before x", {20}, {{"W", {20, 20}}, {"v", {20, 1}}}, [](P p, Var x) { const Var W = p["W"]; return tanh(dot(x, dot(W, tanh(dot(W, p["v"]))))); }),
      network("W V before x", {3}, {{"W", {3, 5}}, {"V", {5, 2}}}, [](P p, Var x) { return tanh(dot(x, dot(p["W"], p["V"]))); }),
      network("bias twice", {3}, {{"W", {3, 3}}, {"b", {3}}}, [](P p, Var x) { const Var b = p["b"]; return dot(tanh(dot(x, p["W"]) + b), p["W"]) - 0.5 * b; }),
      network("bias and gain", {3}, {{"W", {3, 3}}, {"b", {3}}}, [](P p, Var x) { const Var b = p["b"]; return tanh(dot(x, p["W"]) + b) * b; }),
      network("a bias and its transpose", {3, 3}, {{"B", {3, 3}}}, [](P p, Var x) { const Var B = p["B"]; return tanh(x + B) * tanh(2 * x - transpose(B)); }),
      network("a bias of [1,d] and its transpose as a row", {3}, {{"b", {1, 3}}, {"c", {3, 1}}}, [](P p, Var x) { return tanh(x + p["b"]) * tanh(x + transpose(p["c"])) + transpose(p["c"]); }),
      network("a bias that is also a weight", {4}, {{"W", {1, 4}}}, [](P p, Var x) { const Var W = p["W"]; return tanh(x + W) * dot(x, W, {false, true}); }),
      network("table to embed and to read out", {}, {{"E", {7, 3}}, {"W", {3, 3}}}, [](P p, Var x) { return dot(tanh(dot(gather(p["E"], x), p["W"])), p["E"], {false, true}); }, 7),
      network("W added to itself", {3}, {{"W", {3, 2}}}, [](P p, Var x) { const Var W = p["W"]; return tanh(dot(x, W + W)); }),
      network("W + V and W - V", {3}, {{"W", {3, 3}}, {"V", {3, 3}}}, [](P p, Var x) { const Var W = p["W"], V = p["V"]; return dot(tanh(dot(x, W + V)), W - V); }),
      network("W of one and of several positions", {4, 3}, {{"W", {3, 3}}, {"b", {3}}},
              [](P p, Var x) { const Var W = p["W"]; return dot(mean(tanh(dot(x, W) + p["b"]), {1}), W) + p["b"]; }),
      network("W at positions, transposed there", {4, 3}, {{"W", {3, 3}}, {"b", {3}}},
              [](P p, Var x) { const Var W = p["W"]; return dot(tanh(dot(x, W) + p["b"]), W, {false, true}) + p["b"]; }),
      network("wide W at two positions, transposed there", {2, 24}, {{"W", {24, 20}}, {"b", {20}}},
              [](P p, Var x) { const Var W = p["W"]; return dot(tanh(dot(x, W) + p["b"]), W, {false, true}); }),
  };
}

// A parameter that reaches its use through operations.
inline std::vector<Network> views() {
  using namespace linnet::autodiff;
  using P = const Tree<Var>&;
  return {
      network("reshaped vector", {4}, {{"w", {24}}}, [](P p, Var x) { return tanh(dot(x, reshape(p["w"], {4, 6}))); }),
      network("reshaped two ways", {4}, {{"w", {24}}}, [](P p, Var x) { return dot(tanh(dot(x, reshape(p["w"], {4, 6}))), reshape(p["w"], {6, 4})); }),
      network("reshaped, transposed, reshaped", {3}, {{"w", {4, 6}}}, [](P p, Var x) { return tanh(dot(x, reshape(transpose(p["w"]), {3, 8}))); }),
      network("reshaped and rotated both ways", {12}, {{"w", {2, 3, 4}}},
              [](P p, Var x) { const Var w = p["w"]; return dot(tanh(dot(x, reshape(transpose(w, {1, 2, 0}), {12, 2}))), reshape(w, {2, 12})); }),
      network("rotated to another matrix", {4}, {{"w", {2, 3, 4}}},
              [](P p, Var x) { const Var w = p["w"]; return dot(tanh(dot(x, reshape(transpose(w, {2, 0, 1}), {4, 6}))), transpose(reshape(transpose(w, {1, 2, 0}), {4, 6}))); }),
      network("axes exchanged", {4}, {{"w", {2, 3, 4}}}, [](P p, Var x) { return tanh(dot(x, reshape(transpose(p["w"], {0, 2, 1}), {4, 6}))); }),
      network("scaled and negated", {4}, {{"W", {4, 4}}, {"b", {4}}}, [](P p, Var x) { const Var W = p["W"]; return dot(tanh(dot(x, -0.5 * W) - 3 * (Var)p["b"]), -W) + 2 * (Var)p["b"]; }),
      network("divided", {4}, {{"W", {4, 4}}, {"b", {4}}}, [](P p, Var x) { const Var W = p["W"]; return tanh(dot(x, W / 2) + p["b"] / -4); }),
      network("slices of one matrix", {4}, {{"W", {4, 8}}}, [](P p, Var x) { const Var W = p["W"]; return dot(tanh(dot(x, slice(W, 1, 0, 4))), slice(W, 1, 3, 5)); }),
      network("concatenated", {4}, {{"W", {4, 2}}, {"V", {4, 3}}}, [](P p, Var x) { return tanh(dot(x, concatenate({p["W"], p["V"], p["W"]}, 1))); }),
      network("padded", {4}, {{"W", {4, 2}}}, [](P p, Var x) { return tanh(dot(x, pad(p["W"], 1, 1, 2)) + 0.5); }),
      network("chosen by a mask", {2}, {{"W", {2, 3}}, {"V", {2, 3}}},
              [](P p, Var x) { const Var mask = constant(Array<double>({2, 3}, {1, 0, 1, 0, 0, 1})); return tanh(dot(x, where(mask, p["W"], p["V"]))) + dot(x, p["W"]); }),
      network("chosen by the example", {3}, {{"b", {3}}, {"c", {3}}}, [](P p, Var x) { return where(x > 0.0, x * p["b"], tanh(x + p["c"])); }),
      network("through exp and a norm", {3}, {{"W", {3, 4}}, {"g", {4}}},
              [](P p, Var x) { const Var W = p["W"]; return tanh(dot(x, W / sqrt(sum(square(W), {0}, true))) * exp(p["g"])); }),
      network("a symmetric part", {3}, {{"W", {3, 3}}}, [](P p, Var x) { const Var W = p["W"]; return tanh(dot(x, 0.5 * (W + transpose(W)))); }),
      network("an axis in front", {2, 3}, {{"W", {4, 2}}}, [](P p, Var x) { return tanh(dot(broadcast(p["W"], 0, {x.shape()[0]}), x)); }),
      network("broadcast along the last axis", {3}, {{"b", {1}}, {"c", {}}}, [](P p, Var x) { return tanh(x * p["c"] + p["b"]) + p["c"]; }),
      network("stop_gradient beside a use", {3}, {{"W", {3, 3}}}, [](P p, Var x) { const Var W = p["W"]; return dot(tanh(dot(x, W)), stop_gradient(W)); }),
      network("half of a parameter stopped", {3}, {{"W", {3, 3}}, {"V", {3, 3}}}, [](P p, Var x) { return dot(x, p["W"]) + dot(x, stop_gradient(p["V"])); }),
  };
}

// Several positions, and what is no dense layer.
inline std::vector<Network> positions() {
  using namespace linnet::autodiff;
  using P = const Tree<Var>&;
  return {
      network("wide dense over two positions", {2, 16}, {{"W", {16, 12}}, {"b", {12}}, {"V", {12, 2}}, {"c", {2}}}, [](P p, Var x) { return dot(tanh(dot(x, p["W"]) + p["b"]), p["V"]) + p["c"]; }),
      network("dense over positions", {5, 3}, {{"W", {3, 4}}, {"b", {4}}, {"V", {4, 2}}, {"c", {2}}}, [](P p, Var x) { return dot(tanh(dot(x, p["W"]) + p["b"]), p["V"]) + p["c"]; }),
      network("positions, then one", {5, 3}, {{"W", {3, 4}}, {"b", {4}}, {"V", {4, 1}}, {"c", {1}}}, [](P p, Var x) { return dot(mean(tanh(dot(x, p["W"]) + p["b"]), {1}), p["V"]) + p["c"]; }),
      network("many positions of few weights", {20, 2}, {{"W", {2, 2}}, {"V", {2, 1}}}, [](P p, Var x) { return dot(mean(tanh(dot(x, p["W"])), {1}), p["V"]); }),
      network("attention", {4, 3}, {{"Q", {3, 3}}, {"K", {3, 3}}, {"V", {3, 2}}},
              [](P p, Var x) { return dot(softmax(dot(dot(x, p["Q"]), dot(x, p["K"]), {false, true})), dot(x, p["V"])); }),
      network("convolution of three", {6, 2}, {{"W", {6, 3}}, {"b", {3}}, {"V", {3, 2}}},
              [](P p, Var x) { return dot(mean(relu(dot(concatenate({slice(x, 1, 0, 4), slice(x, 1, 1, 4), slice(x, 1, 2, 4)}, 2), p["W"]) + p["b"]), {1}), p["V"]); }),
      network("recurrent", {4, 2}, {{"W", {2, 3}}, {"U", {3, 3}}, {"b", {3}}, {"V", {3, 2}}},
              [](P p, Var x) {
                Var h = tanh(dot(reshape(slice(x, 1, 0, 1), {x.shape()[0], 2}), p["W"]) + p["b"]);
                for (Index t = 1; t < 4; ++t) h = tanh(dot(h, p["U"]) + dot(reshape(slice(x, 1, t, 1), {x.shape()[0], 2}), p["W"]) + p["b"]);
                return dot(h, p["V"]);
              }),
      network("sum over embeddings", {4}, {{"E", {7, 3}}, {"V", {3, 2}}},
              [](P p, Var x) { const Index n = x.shape()[0]; return dot(tanh(sum(reshape(gather(p["E"], reshape(x, {n * 4})), {n, 4, 3}), {1})), p["V"]); }, 7),
      network("embedding, then dense", {}, {{"E", {7, 3}}, {"V", {3, 2}}, {"b", {2}}}, [](P p, Var x) { return dot(gather(p["E"], x), p["V"]) + p["b"]; }, 7),
      network("maximum over features", {4}, {{"W", {4, 6}}, {"V", {2, 3}}}, [](P p, Var x) { const Index n = x.shape()[0]; return dot(max(reshape(dot(x, p["W"]), {n, 2, 3}), {2}), p["V"]); }),
      network("normalized by its own mean", {4}, {{"W", {4, 5}}, {"g", {5}}, {"b", {5}}},
              [](P p, Var x) { const Var h = dot(x, p["W"]), c = h - mean(h, {1}, true); return c / sqrt(mean(square(c), {1}, true) + 0.1) * p["g"] + p["b"]; }),
      network("images of rank 4 in, rank 3 out", {2, 2, 3}, {{"W", {3, 4}}}, [](P p, Var x) { return reshape(sum(tanh(dot(x, p["W"])), {2}), {x.shape()[0], 2, 4}); }),
  };
}

// A table of which rows are gathered: its gradient is factored by index, where it has more rows than an example names.
inline std::vector<Network> gathered() {
  using namespace linnet::autodiff;
  using P = const Tree<Var>&;
  const auto flat = [](const Var& x) { return reshape(x, {x.shape().size()}); };
  const auto rows = [=](const Var& table, const Var& x, Index width) { return reshape(gather(table, flat(x)), {x.shape()[0], x.shape().size(1, x.shape().rank()), width}); };
  const auto most_the_same = [](const Var& x) { return where(x > 9.0, 7.0 + zeros_like(x), x); };  // as where padding has a row of its own
  const auto fixed_rows = [](const Var& table, std::initializer_list<double> index, const Var& x) {
    return broadcast(gather(table, constant(Array<double>({static_cast<Index>(index.size())}, index))), 0, {x.shape()[0]});
  };
  return {
      network("rows of a large table", {4}, {{"E", {60, 3}}, {"V", {3, 2}}, {"b", {3}}}, [=](P p, Var x) { return dot(mean(tanh(rows(p["E"], x, 3) + p["b"]), {1}), p["V"]); }, 60),
      network("rows that repeat", {9}, {{"E", {30, 4}}, {"V", {4, 3}}}, [=](P p, Var x) { return dot(tanh(sum(rows(p["E"], most_the_same(x), 4), {1})), p["V"]); }, 30),
      network("one row, one output", {}, {{"E", {40, 5}}, {"V", {5, 1}}}, [](P p, Var x) { return dot(tanh(gather(p["E"], x)), p["V"]); }, 40),
      network("rows of numbers, of matrices", {3}, {{"e", {50}}, {"M", {40, 2, 3}}}, [=](P p, Var x) { return sum(tanh(rows(p["e"], x, 1)), {1}) * sum(tanh(reshape(gather(p["M"], flat(x)), {x.shape()[0], 3, 6})), {1}); }, 40),
      network("no positions", {0}, {{"E", {40, 3}}, {"b", {3}}}, [=](P p, Var x) { return tanh(sum(rows(p["E"], x, 3), {1}) + p["b"]); }, 40),
      network("a large table to embed and to read out", {3}, {{"E", {23, 4}}, {"W", {4, 4}}},
              [=](P p, Var x) { return slice(dot(tanh(dot(mean(rows(p["E"], x, 4), {1}), p["W"])), p["E"], {false, true}), 1, 5, 3); }, 23),
      network("a large table read out at positions", {3}, {{"E", {23, 4}}}, [=](P p, Var x) { return mean(tanh(dot(tanh(rows(p["E"], x, 4)), p["E"], {false, true})), {1, 2}, true); }, 23),
      network("gathered twice, scaled", {3}, {{"E", {40, 3}}, {"V", {3, 2}}},
              [=](P p, Var x) { return dot(sum(tanh(rows(p["E"], x, 3)) + rows(-2 * (Var)p["E"], most_the_same(x), 3) * rows(p["E"], x, 3), {1}), p["V"]); }, 40),
      network("one cotangent, two indices", {3}, {{"E", {40, 3}}, {"V", {3, 2}}}, [=](P p, Var x) { return dot(tanh(sum(rows(p["E"], x, 3) + rows(p["E"], most_the_same(x), 3), {1})), p["V"]); }, 40),
      network("rows by a constant index", {2}, {{"E", {40, 2}}, {"V", {2, 2}}},
              [=](P p, Var x) { return dot(tanh(dot(x, dot(p["E"], p["E"], {true, false})) + sum(fixed_rows(p["E"], {3, 39, 3}, x), {1})), p["V"]); }),
      network("rows by a constant and by the example", {2}, {{"E", {40, 2}}, {"V", {2, 2}}},
              [=](P p, Var x) { return dot(tanh(sum(fixed_rows(p["E"], {3, 17, 3}, x), {1}) + sum(tanh(rows(p["E"], x, 2)), {1})), p["V"]); }, 40),
      network("columns", {3}, {{"E", {3, 50}}, {"V", {3, 2}}}, [=](P p, Var x) { return dot(tanh(sum(rows(transpose(p["E"]), x, 3), {1})), p["V"]); }, 50),
      network("rows and columns", {2}, {{"E", {20, 30}}}, [=](P p, Var x) { return dot(sum(tanh(rows(p["E"], x, 30)), {1}), constant(Array<double>({30, 1}, 0.3))) + mean(sum(tanh(rows(transpose(p["E"]), x, 20)), {1}), {1}, true); }, 20),
      network("rows, and the table as it is", {4}, {{"E", {40, 3}}, {"V", {3, 2}}}, [=](P p, Var x) { return dot(tanh(dot(tanh(x), slice(p["E"], 0, 0, 4)) + sum(rows(p["E"], x, 3), {1})), p["V"]); }, 40),
      network("rows, and a product with the table", {40}, {{"E", {40, 3}}, {"V", {3, 2}}},
              [=](P p, Var x) { return dot(tanh(dot(0.01 * x, p["E"]) + sum(rows(p["E"], slice(x, 1, 0, 2), 3), {1})), p["V"]); }, 40),
  };
}

// The edges.
inline std::vector<Network> edges() {
  using namespace linnet::autodiff;
  using P = const Tree<Var>&;
  return {
      network("x and outputs of rank 1", {}, {{"a", {}}, {"b", {}}}, [](P p, Var x) { return tanh(x * p["a"] + p["b"]); }),
      network("outputs of rank 1", {3}, {{"w", {3}}, {"b", {}}}, [](P p, Var x) { return tanh(dot(x, p["w"]) + p["b"]); }),
      network("linear", {3}, {{"W", {3, 2}}, {"b", {2}}}, [](P p, Var x) { return dot(x, p["W"]) + p["b"]; }),
      network("one parameter unused", {3}, {{"W", {3, 2}}, {"unused", {4, 4}}}, [](P p, Var x) { return tanh(dot(x, p["W"])); }),
      network("parameters that change nothing", {3}, {{"W", {3, 2}}}, [](P, Var x) { return tanh(x); }),
      network("no parameters", {3}, {}, [](P, Var x) { return tanh(x); }),
      network("of parameters alone", {3}, {{"b", {2}}, {"W", {2, 2}}}, [](P p, Var x) { return broadcast(dot(tanh(p["b"]), p["W"]), 0, {x.shape()[0]}); }),
      network("a parameter itself", {3}, {{"b", {1, 2}}}, [](P p, Var x) { return broadcast_to(p["b"], {x.shape()[0], 2}); }),
      network("a scaled parameter itself, and a use", {2}, {{"b", {1, 2}}}, [](P p, Var x) { return broadcast_to(-2 * (Var)p["b"], {x.shape()[0], 2}) + tanh(x + p["b"]); }),
      network("the mean of a parameter added", {3}, {{"W", {3, 2}}}, [](P p, Var x) { return tanh(dot(x, p["W"])) + mean(p["W"]); }),
      network("constants inside", {3}, {{"W", {3, 2}}, {"b", {2}}},
              [](P p, Var x) { return dot(tanh(dot(x, constant(Array<double>({3, 3}, {1, 2, 0, -1, .5, 0, 0, 1, 1})))), p["W"]) * constant(Array<float>({2}, {2, -1})) + p["b"]; }),
      network("checkpointed", {3}, {{"W", {3, 4}}, {"V", {4, 2}}, {"b", {4}}},
              [](P p, Var x) {
                const Function inner = checkpoint([](std::span<const Var> in) { return std::vector{dot(tanh(dot(in[0], in[1]) + in[3]), in[2])}; });
                return inner(std::array<Var, 4>{x, p["W"], p["V"], p["b"]})[0];
              }),
      network("a gradient in x", {3}, {{"W", {3, 4}}, {"b", {4}}},
              [](P p, Var x) { return grad([&](const Var& v) { return sum(tanh(dot(v, p["W"]) + p["b"])); }, x); }),
      network("no features", {0}, {{"W", {0, 2}}, {"b", {2}}}, [](P p, Var x) { return tanh(dot(x, p["W"]) + p["b"]); }),
      network("an empty parameter", {3}, {{"W", {3, 2}}, {"none", {0, 2}}}, [](P p, Var x) { return tanh(dot(x, p["W"])) + sum(p["none"], {0}); }),
      network("a lone array of parameters", {3}, {}, [](P p, Var x) { return tanh(dot(x, p.leaf())); }),
      network("outputs side by side", {3}, {{"W", {3, 2}}, {"b", {3}}}, [](P p, Var x) { return concatenate({dot(x, p["W"]), tanh(x + p["b"]), x}, 1); }),
  };
}

inline std::vector<Network> by_hand() {
  std::vector<Network> all;
  for (auto&& group : {products(), tied(), views(), positions(), gathered(), edges()})
    for (const Network& net : group) all.push_back(net);
  for (Network& net : all)
    if (net.name == "a lone array of parameters") net.params = Draw(5).array({3, 2});
  return all;
}

}  // namespace networks
