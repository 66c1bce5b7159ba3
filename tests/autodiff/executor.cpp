// Plans and executors: lanes against loops over single runs, strips at their borders, values without memory, outputs of every kind, and memory used again.
#include "linnet/autodiff/plan.h"
#include "linnet/tests/autodiff/samples.h"

#include <doctest/doctest.h>

using namespace linnet::autodiff;
using samples::Arrays, samples::eps, samples::random, samples::same_bits;

namespace {

using Values = std::span<const Var>;
using Shared = std::shared_ptr<const Program>;

Shared record(const Function& f, const std::vector<Shape>& inputs) { return std::make_shared<const Program>(trace(f, inputs)); }
template <class F> Function one(F f) { return [f](Values v) -> std::vector<Var> { return {f(v)}; }; }

template <class T> std::vector<Buffer<T>> execute(Executor<T>& executor, const std::vector<const T*>& in) {
  std::vector<Buffer<T>> out;
  std::vector<T*> to;
  for (std::size_t k = 0; k < executor.program().outputs.size(); ++k) out.emplace_back(static_cast<std::size_t>(executor.output_size(k)), T(777));
  for (Buffer<T>& b : out) to.push_back(b.data());
  executor.run(in, to);
  return out;
}

// Every assignment of the lane axes to the inputs: the lanes of a run against single runs. Answers the worst difference; 0 means equal bits.
template <class T> double lanes_against_loop(const Function& f, const std::vector<Shape>& shapes, Lanes lanes) {
  const Shared p = record(f, shapes);
  Executor<T> single(p);
  double worst = 0;
  for (int choice = 0; choice < 1 << 2 * shapes.size(); ++choice) {
    std::vector<Varies> varies;
    Arrays<T> x;
    std::vector<const T*> in;
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      varies.push_back(static_cast<Varies>(choice >> 2 * i & 3));
      x.push_back(random<T>({lanes.count(varies[i]) * shapes[i].size()}, i + 3));
    }
    for (const auto& a : x) in.push_back(a.data());
    Executor<T> executor(p, varies, lanes);
    verify(make_plan(*p, varies, lanes), *p, lanes);
    const auto all = execute(executor, in);
    if (const auto again = execute(executor, in); !std::equal(all.begin(), all.end(), again.begin(), [](const auto& a, const auto& b) { return std::equal(a.begin(), a.end(), b.begin(), [](T x, T y) { return same_bits(x, y); }); })) return samples::infinity;
    for (Index l = 0; l < lanes.examples * lanes.directions; ++l) {
      std::vector<const T*> here;
      for (std::size_t i = 0; i < shapes.size(); ++i) here.push_back(in[i] + lanes.lane(varies[i], Varies::both, l) * shapes[i].size());
      const auto expected = execute(single, here);
      for (std::size_t k = 0; k < expected.size(); ++k) {
        const Index size = static_cast<Index>(expected[k].size());
        const T* const came = all[k].data() + lanes.lane(executor.varies(p->outputs[k]), Varies::both, l) * size;
        for (Index i = 0; i < size; ++i) {
          if (same_bits(came[i], expected[k][static_cast<std::size_t>(i)])) continue;
          const double d = std::abs(static_cast<double>(came[i]) - expected[k][static_cast<std::size_t>(i)]);
          worst = std::max({worst, std::isnan(d) ? samples::infinity : d, std::numeric_limits<double>::min()});
        }
      }
    }
  }
  return worst;
}
template <class T> void same_as_loop(const std::string& what, const Function& f, const std::vector<Shape>& shapes, double tolerance = 0) {
  CAPTURE(what);
  for (const Lanes lanes : {Lanes{3, 2}, {1, 4}, {5, 1}, {1, 1}}) CHECK(lanes_against_loop<T>(f, shapes, lanes) <= tolerance);
}

int steps_of(const Function& f, const std::vector<Shape>& shapes) { return static_cast<int>(make_plan(*record(f, shapes), {}, {}).steps.size()); }

}  // namespace

TEST_CASE_TEMPLATE("elementwise functions over lanes are single runs in bits, at the borders of strips too", T, float, double) {
  const Function f = one([](Values v) { return tanh(v[0] * v[1] + 0.5) / (2.0 + exp(v[0])) - where(v[1], v[0], 3.0); });
  for (const Index n : {0, 1, 5, 16, 341, 700, 2047, 2048, 2049}) {
    CAPTURE(n);
    same_as_loop<T>("equal shapes", f, {{n}, {n}});
  }
  same_as_loop<T>("scalars", f, {{}, {}});
}

TEST_CASE_TEMPLATE("broadcasts read through their operand are right with lanes and across strips", T, float, double) {
  const Function f = one([](Values v) { return sin(v[0] + v[1]) * v[1] + exp(v[1]); });
  for (const auto& [a, b] : {std::pair<Shape, Shape>{{3, 5}, {5}}, {{7, 300}, {300}}, {{7, 700}, {700}}, {{2, 3, 683}, {3, 683}}, {{1, 4}, {4}}, {{3, 1}, {1}}, {{9, 7}, {}}, {{4, 5}, {4, 1}}, {{0, 5}, {5}}, {{2, 2050}, {2050}}}) {
    CAPTURE(str(a) + str(b));
    same_as_loop<T>("broadcast", f, {a, b});
  }
  const Function inner = one([](Values v) { return (exp(v[0]) + v[1]) * sin(v[0] * 2.0); });  // the operand is computed in the same run of maps
  same_as_loop<T>("of a value of the same run", inner, {{3}, {1, 3}});
  same_as_loop<T>("of a value of another run", inner, {{3}, {50, 3}});
}

TEST_CASE_TEMPLATE("reductions and moves over lanes are single runs in bits", T, float, double) {
  same_as_loop<T>("sum", one([](Values v) { return sum(v[0], {0}) + sum(v[0], {1}) * sum(v[0]); }), {{6, 6}});
  same_as_loop<T>("sum of many rows", one([](Values v) { return sum(v[0], {0}); }), {{600, 3}});
  same_as_loop<T>("sum of one long row", one([](Values v) { return sum(v[0]); }), {{9000}});
  same_as_loop<T>("sum over many columns", one([](Values v) { return sum(v[0], {0}); }), {{4, 300}});
  same_as_loop<T>("max", one([](Values v) { return max(v[0], {1}) - max(v[0]); }), {{3, 7}});
  same_as_loop<T>("broadcast", one([](Values v) { return transpose(broadcast(v[0], 1, {3}), {2, 1, 0}); }), {{2, 4}});
  same_as_loop<T>("transpose", one([](Values v) { return transpose(v[0], {1, 2, 0}); }), {{2, 3, 4}});
  same_as_loop<T>("transpose, no rotation", one([](Values v) { return transpose(v[0], {2, 1, 0}); }), {{2, 3, 4}});
  same_as_loop<T>("slice and pad", one([](Values v) { return pad(slice(v[0], 1, 1, 2), 0, 1, 2); }), {{2, 4}});
  same_as_loop<T>("concatenate", one([](Values v) { return concatenate({v[0], v[1], v[0]}, 1); }), {{2, 4}, {2, 1}});
  same_as_loop<T>("reshape", one([](Values v) { return reshape(v[0], {4, 2}) + reshape(v[1], {2}); }), {{2, 4}, {1, 2}});
  same_as_loop<T>("gather", one([](Values v) { return gather(v[0], step(v[1])); }), {{2, 3}, {5}});
  same_as_loop<T>("scatter_add", one([](Values v) { return scatter_add(v[0], step(v[1]), 2); }), {{5, 3}, {5}});
  same_as_loop<T>("softmax", one([](Values v) { return softmax(v[0]); }), {{5, 3}});
}

TEST_CASE_TEMPLATE("products over lanes are single runs to a few eps, however lanes meet in the operands", T, float, double) {
  for (const bool ta : {false, true})
    for (const bool tb : {false, true}) {
      const Function f = one([=](Values v) { return dot(v[0], v[1], {ta, tb}); });
      for (const auto& [m, k, n] : {std::array<Index, 3>{3, 4, 2}, {1, 9, 1}, {40, 17, 5}, {2, 0, 3}}) {
        CAPTURE(m);
        same_as_loop<T>("a matrix", f, {ta ? Shape{k, m} : Shape{m, k}, tb ? Shape{n, k} : Shape{k, n}}, 8 * eps<T>);
      }
      same_as_loop<T>("a batch", f, {ta ? Shape{3, 4, 2} : Shape{3, 2, 4}, tb ? Shape{3, 3, 4} : Shape{3, 4, 3}}, 4 * eps<T>);
    }
  same_as_loop<T>("layers", one([](Values v) { return dot(tanh(dot(v[0], v[1]) + v[2]), v[1]); }), {{3, 4}, {4, 4}, {4}}, 32 * eps<T>);
}

TEST_CASE_TEMPLATE("calls over lanes are single runs, of one output and of several, which depend on all lanes or on few", T, float, double) {
  same_as_loop<T>("one output", checkpoint(one([](Values v) { return sin(v[0]) * v[1]; })), {{3}, {3}});
  same_as_loop<T>("several outputs", checkpoint([](Values v) -> std::vector<Var> { return {sin(v[0]), sum(v[1]), v[0] * v[1]}; }), {{3}, {3}});
  same_as_loop<T>("an output of each input", checkpoint([](Values v) -> std::vector<Var> { return {exp(v[0]), exp(v[1]), fill(v[0].tape(), {2}, 3)}; }), {{3}, {2}});
  same_as_loop<T>("one output that depends on one of two operands", checkpoint(one([](Values v) { return exp(v[1]); })), {{3}, {2}});
  same_as_loop<T>("one output that depends on nothing", checkpoint(one([](Values v) { return fill(v[0].tape(), {2}, 3); })), {{3}});
  same_as_loop<T>("an output that is an input", checkpoint(one([](Values v) { return v[1]; })), {{3}, {2}});
  same_as_loop<T>("within another", checkpoint([](Values v) -> std::vector<Var> { return {checkpoint(one([](Values u) { return cos(u[0]); }))(v)[0] + v[1], v[0]}; }), {{3}, {3}});
}

TEST_CASE_TEMPLATE("outputs may be inputs, constants, one value several times, and fills", T, float, double) {
  const Function f = [](Values v) -> std::vector<Var> {
    const Var y = exp(v[0]);
    return {v[0], y, y, constant(Array<double>({2}, {5, 6})), fill(v[0].tape(), {3}, 7), v[1], v[0], sin(y)};
  };
  same_as_loop<T>("outputs of every kind", f, {{3}, {2}});
  Executor<T> run(record(f, {{3}, {2}}));
  const T x[] = {1, 2, 3}, y[] = {4, 5};
  const auto out = execute(run, {x, y});
  CHECK(std::equal(out[0].begin(), out[0].end(), x));
  CHECK(std::equal(out[1].begin(), out[1].end(), out[2].begin()));
  CHECK(out[3][1] == 6);
  CHECK(out[4] == Buffer<T>(3, T(7)));
  CHECK(std::equal(out[5].begin(), out[5].end(), y));
}

TEST_CASE_TEMPLATE("a program without instructions, inputs or outputs runs", T, float, double) {
  CHECK(execute(*std::make_unique<Executor<T>>(record([](Values) { return std::vector<Var>(); }, {})), {}).empty());
  CHECK(execute(*std::make_unique<Executor<T>>(record([](Values) -> std::vector<Var> { return {constant(Array<double>({1}, {3}))}; }, {})), {})[0][0] == 3);
  const T x[] = {1};
  CHECK(execute(*std::make_unique<Executor<T>>(record([](Values) { return std::vector<Var>(); }, {{1}})), {x}).empty());
}

TEST_CASE_TEMPLATE("an executor gives the same bits again, after other inputs and after it was moved", T, float, double) {
  const Shared p = record(one([](Values v) { return softmax(dot(erf(v[0]), v[1])); }), {{33, 20}, {20, 7}});
  const Array<T> x = random<T>({33, 20}, 1), other = random<T>({33, 20}, 2), w = random<T>({20, 7}, 3);
  Executor<T> a(p);
  const auto first = execute(a, {x.data(), w.data()});
  CHECK(execute(a, {other.data(), w.data()})[0] != first[0]);
  CHECK(execute(a, {x.data(), w.data()})[0] == first[0]);
  Executor<T> b = std::move(a);
  CHECK(execute(b, {x.data(), w.data()})[0] == first[0]);
  b = Executor<T>(p);
  CHECK(execute(b, {x.data(), w.data()})[0] == first[0]);
}

TEST_CASE_TEMPLATE("bits do not depend on where inputs and outputs lie", T, float, double) {
  for (const Index n : {7, 100, 2049, 5000}) {
    Executor<T> run(record(one([](Values v) { return exp(sin(v[0])) * erf(v[0]) + tanh(v[0]) / sqrt(1.0 + v[0] * v[0]) + sum(v[0]); }), {{n}}));
    const Array<T> x = random<T>({n}, 4);
    const auto expected = execute(run, {x.data()})[0];
    for (const Index by : {1, 3, 15}) {
      Buffer<T> in(static_cast<std::size_t>(n + by)), out(static_cast<std::size_t>(n + by));
      std::copy(x.begin(), x.end(), in.begin() + by);
      const T* const from[] = {in.data() + by};
      T* const to[] = {out.data() + by};
      run.run(from, to);
      CHECK(std::equal(expected.begin(), expected.end(), out.begin() + by, [](T a, T b) { return same_bits(a, b); }));
    }
  }
}

TEST_CASE("consecutive maps of one size are one step, with a few blocks of scratch and no memory") {
  const Function f = one([](Values v) { return exp(-square(v[0] + v[1])) * 3.0 - tanh(v[0]); });
  const Plan plan = make_plan(*record(f, {{1000}, {1000}}), {}, {});
  CHECK(plan.steps.size() == 1);
  CHECK(plan.steps[0].kind == Step::strips);
  CHECK(plan.arena == 0);
  CHECK(plan.scratch_blocks <= 3);
  CHECK(steps_of(one([](Values v) { return exp(sum(exp(v[0]), {0})); }), {{3, 4}}) == 3);
  CHECK(steps_of(one([](Values v) { return exp(v[0]) + sin(v[0]); }), {{0}}) == 1);
}

TEST_CASE("a product and the maps of its size that begin with it are one step, in the memory of the product") {
  const auto of = [](const Function& f) { return make_plan(*record(f, {{200, 200}, {200, 200}, {200}}), {}, {}); };
  const Plan layer = of([](Values v) -> std::vector<Var> {
    const Var z = dot(v[0], v[1]) + v[2];
    return {erf(z), exp(-1.0 * z * z)};
  });
  CHECK(layer.steps.size() == 1);
  CHECK(layer.steps[0].kind == Step::product);
  CHECK(layer.arena == 0);
  CHECK(of([](Values v) -> std::vector<Var> { return {dot(v[0], v[1]), exp(v[0])}; }).steps.size() == 2);   // does not read it
  CHECK(of([](Values v) -> std::vector<Var> { return {exp(sum(dot(v[0], v[1]), {0}))}; }).steps.size() == 3);  // another size
  CHECK(of([](Values v) -> std::vector<Var> { return {dot(v[0], v[1]) * v[0], v[0] + v[1]}; }).steps.size() == 1);
}

// All panels read what is multiplied: maps must not write there, though they read it last.
TEST_CASE_TEMPLATE("what is multiplied is not overwritten by the maps after the product", T, float, double) {
  const Index n = 200;
  const std::vector<Shape> shapes{{n, n}, {n, n}};
  for (const bool ta : {false, true})
    for (const bool tb : {false, true}) {
      const DotFlags flags{ta, tb};
      const Arrays<T> x{random<T>({n, n}, 1), random<T>({n, n}, 2)};
      const Function maps = [&](Values v) -> std::vector<Var> { return {exp(v[0]), sin(v[1])}; };
      const Function after = [&](Values v) -> std::vector<Var> { return {v[2] * v[1] - v[0], v[2] + v[1]}; };
      const auto factors = execute(*std::make_unique<Executor<T>>(record(maps, shapes)), {x[0].data(), x[1].data()});
      const auto product = execute(*std::make_unique<Executor<T>>(record(one([&](Values v) { return dot(v[0], v[1], flags); }), shapes)), {factors[0].data(), factors[1].data()});
      const auto expected = execute(*std::make_unique<Executor<T>>(record(after, {{n, n}, {n, n}, {n, n}})), {factors[0].data(), factors[1].data(), product[0].data()});
      Executor<T> all(record([&](Values v) {
        const auto m = maps(v);
        return after(std::vector<Var>{m[0], m[1], dot(m[0], m[1], flags)});
      }, shapes));
      const auto came = execute(all, {x[0].data(), x[1].data()});
      for (std::size_t k = 0; k < 2; ++k) CHECK(std::equal(came[k].begin(), came[k].end(), expected[k].begin(), [](T a, T b) { return same_bits(a, b); }));
    }
}

TEST_CASE("fills and leading broadcasts that only maps read have no memory, those others read have") {
  const Function maps = one([](Values v) { return (v[0] + v[1]) * 2.5 + where(v[0], 1.0, 0.25); });
  const Shared p = record(maps, {{50, 20}, {20}});
  const Plan plan = make_plan(*p, {}, {});
  CHECK(plan.arena == 0);
  int uniform = 0, spread = 0;
  for (const Place& place : plan.places) {
    uniform += place.kind == Place::uniform;
    spread += place.kind == Place::spread;
  }
  CHECK(uniform >= 2);
  CHECK(spread == 1);
  const Function product = one([](Values v) { return dot(v[0], broadcast(v[1], 0, {20})); });
  CHECK(make_plan(*record(product, {{50, 20}, {20}}), {}, {}).arena >= 400);
}

TEST_CASE("a broadcast behind axes of 1 is read through its operand as one of leading axes is") {
  const auto spread = [](const Shape& x, Index at) {
    const Shared p = record(one([at](Values v) { return exp(broadcast(v[0], at, {7, 5}) * v[1]); }), {x, x.inserted(at, std::array<Index, 2>{7, 5})});
    const Plan plan = make_plan(*p, {}, {});
    return std::any_of(plan.places.begin(), plan.places.end(), [](const Place& place) { return place.kind == Place::spread; });
  };
  CHECK(spread({1, 3}, 1));
  CHECK(spread({1, 1, 3}, 2));
  CHECK_FALSE(spread({2, 3}, 1));
  CHECK_FALSE(spread({1, 3}, 2));
}

// Periods that end within strips, in their middle and at their border, in one lane and in several.
TEST_CASE_TEMPLATE("what is repeated in a strip is right for every period and lane", T, float, double) {
  for (const Index period : {1, 2, 3, 10, 32, 1000, 2047, 2048, 2049}) {
    CAPTURE(period);
    const Index times = 5000 / period + 3;
    same_as_loop<T>("behind an axis of 1", one([=](Values v) { return broadcast(v[0], 1, {times}) * v[1] + 1.0; }), {{1, period}, {1, times, period}});
  }
}

TEST_CASE("a reshape of what nobody reads later leaves it where it is, any other copies it") {
  const std::vector<Shape> shapes{{6, 8}, {8, 4}};
  const auto places = [&](const Function& f) {
    const Shared p = record(f, shapes);
    const Plan plan = make_plan(*p, {}, {});
    CHECK_NOTHROW(verify(plan, *p, {}));
    for (int v = p->first_instruction(); v < p->n_values(); ++v)
      if (const Instruction& c = p->instruction(v); c.primitive->name == "reshape") return std::pair{plan.places[static_cast<std::size_t>(c.in[0])], plan.places[static_cast<std::size_t>(v)]};
    return std::pair<Place, Place>{};
  };
  const auto same = [](const std::pair<Place, Place>& p) { return p.first.kind == p.second.kind && p.first.at == p.second.at; };
  CHECK(same(places(one([](Values v) { return reshape(dot(v[0], v[1]), {24}); }))));
  CHECK(same(places(one([](Values v) { return sum(reshape(dot(v[0], v[1]), {4, 6}), {0}); }))));
  CHECK_FALSE(same(places([](Values v) -> std::vector<Var> { const Var y = dot(v[0], v[1]); return {reshape(y, {24}), y}; })));
  CHECK_FALSE(same(places([](Values v) -> std::vector<Var> { const Var y = dot(v[0], v[1]); return {reshape(y, {24}), sum(y, {0})}; })));
  CHECK_FALSE(same(places(one([](Values v) { return reshape(v[0], {48}); }))));
  same_as_loop<float>("reshapes", [](Values v) -> std::vector<Var> {
    const Var y = dot(v[0], v[1]), z = reshape(y, {24});
    return {z, sum(reshape(y, {4, 6}), {1}), reshape(exp(reshape(sin(z), {2, 12})), {24}) + z};
  }, shapes, 32 * eps<float>);
}

TEST_CASE("what an input varies over is what a value varies over that needs it") {
  const Shared p = record([](Values v) -> std::vector<Var> { return {v[0] + v[1], exp(v[1]), fill(v[0].tape(), {2}, 1), v[0] * v[2]}; }, {{2}, {2}, {2}});
  const Plan plan = make_plan(*p, {Varies::examples, Varies::directions}, {3, 5});
  auto of = [&](std::size_t k) { return plan.varies[static_cast<std::size_t>(p->outputs[k])]; };
  CHECK(of(0) == Varies::both);
  CHECK(of(1) == Varies::directions);
  CHECK(of(2) == Varies::nothing);
  CHECK(of(3) == Varies::examples);
  const Lanes lanes{3, 5};
  CHECK(lanes.count(Varies::both) == 15);
  CHECK(lanes.lane(Varies::examples, Varies::both, 7) == 1);
  CHECK(lanes.lane(Varies::directions, Varies::both, 7) == 2);
  CHECK(lanes.lane(Varies::nothing, Varies::both, 7) == 0);
}

TEST_CASE("a chain of values uses its memory again") {
  const Function f = one([](Values v) {
    Var x = v[0];
    for (int i = 0; i < 50; ++i) x = dot(x, v[1]);
    return x;
  });
  const Plan plan = make_plan(*record(f, {{64, 64}, {64, 64}}), {}, {});
  CHECK(plan.steps.size() == 50);
  CHECK(plan.arena <= 3 * 64 * 64);
}

TEST_CASE("the backward sweep of ten cotangents needs a fraction of the memory of its values") {
  const std::vector<Shape> shapes = {{64, 100}, {100, 128}, {128, 128}, {128, 128}, {128, 10}};
  const Function f = one([](Values v) {
    Var x = v[0];
    for (std::size_t i = 1; i < v.size(); ++i) x = i + 1 < v.size() ? erf(dot(x, v[i])) : dot(x, v[i]);
    return x;
  });
  Arrays<float> x;
  for (const Shape& s : shapes) x.push_back(random<float>(s, 1));
  const FlatLinearMap<float> map(f, {x.begin(), x.end()}, {});
  const Program& p = map.transpose_program();
  const Lanes lanes{1, 10};
  const Plan plan = make_plan(p, {Varies::directions}, lanes);
  Index all = 0;
  for (int v = p.first_instruction(); v < p.n_values(); ++v) all += p.shape(v).size() * lanes.count(plan.varies[static_cast<std::size_t>(v)]);
  for (const int v : p.outputs) all -= p.shape(v).size() * lanes.count(plan.varies[static_cast<std::size_t>(v)]);
  CHECK(plan.arena * 3 <= all * 2);
  CHECK(plan.arena <= 3 * 10 * 64 * 128);  // two or three values of one layer, however many layers there are
  const Executor<float> executor(std::make_shared<const Program>(p), {Varies::directions}, lanes);
  CHECK(executor.arena_bytes() == static_cast<std::size_t>(plan.arena) * sizeof(float));
}

TEST_CASE("a plan whose values share memory while both are needed is found") {
  const Shared p = record(one([](Values v) { return dot(dot(v[0], v[1]), dot(v[1], v[0])); }), {{4, 4}, {4, 4}});
  Plan plan = make_plan(*p, {}, {});
  CHECK_NOTHROW(verify(plan, *p, {}));
  REQUIRE(plan.places[2].kind == Place::arena);
  REQUIRE(plan.places[3].kind == Place::arena);
  plan.places[3].at = plan.places[2].at;
  CHECK_THROWS_WITH_AS(verify(plan, *p, {}), "plan: %2 and %3 are needed at the same time and share memory", TraceError);
}
