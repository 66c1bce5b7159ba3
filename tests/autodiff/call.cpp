// Calls of several results: written where they are read, packed where that cannot be, and the memory their bodies share.
#include "linnet/autodiff/executor.h"
#include "linnet/autodiff/transform.h"
#include "linnet/tests/autodiff/samples.h"

#include <doctest/doctest.h>

using namespace linnet::autodiff;
using samples::Arrays, samples::random, samples::same_bits;

namespace {

using Values = std::span<const Var>;

std::vector<Var> three(Values v) { return {dot(v[0], v[1]), sum(v[0], {0}), tanh(v[1])}; }

// The outputs with all lanes: what a call answers may vary over more of them than it would inlined.
template <class T> Arrays<T> run(const Program& p, std::vector<Varies> varies, Lanes lanes) {
  verify(make_plan(p, varies, lanes), p, lanes);
  Executor<T> executor(std::make_shared<const Program>(p), varies, lanes);
  Arrays<T> in, out;
  std::vector<const T*> from;
  std::vector<T*> to;
  for (std::size_t i = 0; i < p.inputs.size(); ++i) in.push_back(random<T>({lanes.count(varies[i]) * p.inputs[i].size()}, i + 1));
  for (std::size_t k = 0; k < p.outputs.size(); ++k) out.emplace_back(Shape{executor.output_size(k)}, T(777));
  for (const auto& a : in) from.push_back(a.data());
  for (auto& a : out) to.push_back(a.data());
  executor.run(from, to);
  Arrays<T> all;
  for (std::size_t k = 0; k < out.size(); ++k) {
    const Index size = p.shape(p.outputs[k]).size(), count = lanes.count(Varies::both);
    all.emplace_back(Shape{count * size});
    for (Index l = 0; l < count; ++l) std::copy_n(to[k] + lanes.lane(executor.varies(p.outputs[k]), Varies::both, l) * size, size, all[k].data() + l * size);
  }
  return all;
}

// The same function of the results of `three`, called and inlined: the same bits, but where lanes are folded into one product here and not there.
template <class T> void called_as_inlined(const Function& use) {
  const auto with = [&](bool call) {
    return trace([&](Values v) {
      std::vector<Var> r = call ? checkpoint(three)(v) : three(v);
      r.insert(r.end(), v.begin(), v.end());
      return use(r);
    }, std::vector<Shape>{{5, 7}, {7, 6}});
  };
  const Program call = with(true), inlined = with(false);
  for (const auto& varies : {std::vector<Varies>{Varies::nothing, Varies::nothing}, {Varies::examples, Varies::nothing}, {Varies::examples, Varies::directions}})
    for (const Lanes lanes : {Lanes{1, 1}, Lanes{2, 3}}) {
      const auto came = run<T>(call, varies, lanes), expected = run<T>(inlined, varies, lanes);
      REQUIRE(came.size() == expected.size());
      for (std::size_t k = 0; k < came.size(); ++k) {
        REQUIRE(came[k].size() == expected[k].size());
        for (Index i = 0; i < came[k].size(); ++i)
          if (lanes.examples == 1) CHECK(same_bits(came[k].data()[i], expected[k].data()[i]));
          else if (!same_bits(came[k].data()[i], expected[k].data()[i])) CHECK(came[k].data()[i] == doctest::Approx(expected[k].data()[i]).epsilon(1e-5));
      }
    }
}

std::size_t arena(const Function& f, const std::vector<Shape>& s) { return Executor<float>(std::make_shared<const Program>(trace(f, s))).arena_bytes(); }

}  // namespace

TEST_CASE_TEMPLATE("results of a call are those of its function inlined, however they are read", T, float, double) {
  called_as_inlined<T>([](Values r) -> std::vector<Var> { return {r[0], r[1], r[2]}; });                              // outputs
  called_as_inlined<T>([](Values r) -> std::vector<Var> { return {r[0], r[0], r[2]}; });                              // twice, and one that nobody reads
  called_as_inlined<T>([](Values r) -> std::vector<Var> { return {exp(r[2])}; });                                     // strips take its memory over
  called_as_inlined<T>([](Values r) -> std::vector<Var> { return {r[2] + sin(r[2]), r[2]}; });
  called_as_inlined<T>([](Values r) -> std::vector<Var> { return {r[1] * r[1], dot(r[3], r[2]), sum(r[0])}; });
  called_as_inlined<T>([](Values r) -> std::vector<Var> { return {dot(r[0], transpose(r[2])), sum(r[1])}; });
  called_as_inlined<T>([](Values r) -> std::vector<Var> {                                                              // calls between, and of what calls made
    const auto again = checkpoint(three)(std::array{r[3], r[2]});
    return {again[0] + r[0], again[2], again[1] - r[1]};
  });
  called_as_inlined<T>([](Values r) -> std::vector<Var> { return checkpoint([](Values v) { return checkpoint(three)(std::array{v[3], v[2]}); })(r); });
}

TEST_CASE("bodies of calls that run one after another share their memory") {
  const auto chain = [](int n) {
    return [n](Values v) -> std::vector<Var> {
      Var x = v[0];
      for (int i = 0; i < n; ++i) x = checkpoint([](Values w) -> std::vector<Var> { return {dot(tanh(dot(w[0], w[0])), w[0])}; })(std::array{x})[0];
      return {x};
    };
  };
  const std::vector<Shape> s{{64, 64}};
  CHECK(arena(chain(8), s) == arena(chain(3), s));
}
