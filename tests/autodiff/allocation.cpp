// A replay allocates nothing: after the first run of a program an Executor runs it without asking for memory, in one thread and in two. This executable counts
// every way to ask: operator new asks malloc or its aligned forms too. Read autodiff/executor.h first.
#include "linnet/autodiff/derivative.h"
#include "linnet/autodiff/kernels/parallel.h"
#include "linnet/tests/autodiff/sized.h"

#include <doctest/doctest.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>

// The C library's own, under the names it keeps for those who replace the others.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
}

static std::atomic<long> allocations{0};

extern "C" {
void* malloc(std::size_t n) noexcept {
  ++allocations;
  return __libc_malloc(n);
}
void* calloc(std::size_t n, std::size_t size) noexcept {
  ++allocations;
  return __libc_calloc(n, size);
}
void* realloc(void* p, std::size_t n) noexcept {
  ++allocations;
  return __libc_realloc(p, n);
}
void* memalign(std::size_t alignment, std::size_t n) noexcept {
  ++allocations;
  return __libc_memalign(alignment, n);
}
void* aligned_alloc(std::size_t alignment, std::size_t n) noexcept { return memalign(alignment, n); }
int posix_memalign(void** p, std::size_t alignment, std::size_t n) noexcept {
  *p = memalign(alignment, n);
  return *p ? 0 : ENOMEM;
}
}

using namespace linnet::autodiff;
using samples::random;

namespace {

using Values = std::span<const Var>;

// The allocations of the second run, and of the third.
template <class T> long allocations_of_runs(Executor<T>& executor, std::span<const T* const> from, std::span<T* const> to) {
  executor.run(from, to);
  const long before = allocations;
  for (int i = 0; i < 2; ++i) executor.run(from, to);
  return allocations - before;
}
template <class T> long allocations_of_replays(Program program, std::vector<Varies> varies = {}, Lanes lanes = {}) {
  Executor<T> executor(std::make_shared<const Program>(std::move(program)), varies, lanes);
  const Program& p = executor.program();
  varies.resize(p.inputs.size(), Varies::nothing);
  samples::Arrays<T> in, out;
  std::vector<const T*> from;
  std::vector<T*> to;
  for (std::size_t i = 0; i < p.inputs.size(); ++i) in.push_back(random<T>({lanes.count(varies[i]) * p.inputs[i].size()}, i));
  for (std::size_t k = 0; k < p.outputs.size(); ++k) out.emplace_back(Shape{executor.output_size(k)});
  for (const auto& a : in) from.push_back(a.data());
  for (auto& a : out) to.push_back(a.data());
  return allocations_of_runs<T>(executor, from, to);
}

// Of a program on inputs of its own; those that lanes come with have them repeated.
template <class T> long allocations_on(const Program& program, const samples::Arrays<T>& x, std::size_t with_lanes, Index directions) {
  std::vector<Varies> varies(with_lanes, Varies::directions);
  Executor<T> executor(std::make_shared<const Program>(program), varies, {1, directions});
  samples::Arrays<T> in, out;
  std::vector<const T*> from;
  std::vector<T*> to;
  for (std::size_t i = 0; i < x.size(); ++i) {
    in.emplace_back(Shape{(i < with_lanes ? directions : 1) * x[i].size()});
    for (Index l = 0; l < in[i].size(); ++l) in[i].data()[l] = x[i].data()[l % x[i].size()];
  }
  for (std::size_t k = 0; k < program.outputs.size(); ++k) out.emplace_back(Shape{executor.output_size(k)});
  for (const auto& a : in) from.push_back(a.data());
  for (auto& a : out) to.push_back(a.data());
  return allocations_of_runs<T>(executor, from, to);
}

// The value, the derivative and its transpose; of one direction and of three.
template <class T> void replays_of(const samples::Row& row) {
  const samples::Arrays<T> x = samples::cast_all<T>(row.x);
  const FlatLinearMap<T> map(row.f, {x.begin(), x.end()}, {});
  samples::Arrays<T> tangents, cotangents;
  for (const Array<T>& a : x) tangents.push_back(random<T>(a.shape(), 91));
  for (const Array<T>& a : map.value()) cotangents.push_back(random<T>(a.shape(), 92));
  for (samples::Arrays<T>* in : {&tangents, &cotangents}) in->insert(in->end(), map.residuals().begin(), map.residuals().end());
  for (const Index directions : {1, 3}) {
    CAPTURE(directions);
    CHECK(allocations_on<T>(trace(row.f, samples::shapes(x)), x, x.size(), directions) == 0);
    CHECK(allocations_on<T>(map.program(), tangents, x.size(), directions) == 0);
    CHECK(allocations_on<T>(map.transpose_program(), cotangents, map.value().size(), directions) == 0);
  }
}

// 300 examples of 70-90-80-10: more rows than a panel has, and sizes that nothing divides; then 64 examples and one.
std::vector<Shape> shapes(Index examples) { return {{70, 90}, {90}, {90, 80}, {80}, {80, 10}, {10}, {examples, 70}}; }
Var network(Values v) {
  Var x = v.back();
  for (std::size_t l = 0; l < 3; ++l) x = dot(l ? erf(x) : x, v[2 * l]) + v[2 * l + 1];
  return x;
}
std::vector<Var> softmax_network(Values v) {
  const Var p = softmax(network(v));
  return {sum(square(p - mean(p))), max(p, {0})};
}
std::vector<Var> with_checkpoint(Values v) {
  return {sum(square(checkpoint([](Values w) -> std::vector<Var> { return {network(w), sum(w[0])}; })(v)[0]))};
}
std::vector<Var> recurrent(Values v) {  // W, state, xs, a constant
  return scan([&](Values s) -> std::vector<Var> { return {tanh(dot(s[0], v[0]) + s[1]), sum(s[0], {0})}; }, {v[1]}, {v[2]}, 5);
}
const std::vector<Shape> recurrent_shapes{{40, 40}, {70, 40}, {5, 70, 40}};

Program gradient(const Function& f, const std::vector<Shape>& s, std::size_t of) { return trace(detail::value_and_grad(f, of), s); }

template <class T> void replays(int threads) {
  set_thread_count(threads);
  CAPTURE(threads);
  const std::vector<Varies> directions{Varies::directions, Varies::directions, Varies::directions, Varies::directions, Varies::directions, Varies::directions};
  for (const Index n : {300, 64, 1}) {
    CAPTURE(n);
    const auto s = shapes(n);
    const auto f = [](Values v) -> std::vector<Var> { return {network(v)}; };
    CHECK(allocations_of_replays<T>(trace(f, s)) == 0);
    CHECK(allocations_of_replays<T>(trace(f, s), directions, {1, 3}) == 0);
    Tape outer, tape;
    std::vector<Var> params;
    for (std::size_t i = 0; i < 6; ++i) params.push_back(outer.input(s[i]));
    const Linear l = linearize(f, params, std::array{outer.input(s[6])});
    std::vector<Var> known(6);
    const std::vector<Var> cotangent{tape.input({n, 10})};
    for (const Var& r : l.residuals) known.push_back(tape.input(r.shape()));
    std::vector<Var> gradients = transpose(*l.map, known, cotangent);
    gradients.resize(6);
    const Program backward = tape.seal(gradients);
    CHECK(allocations_of_replays<T>(backward) == 0);
    CHECK(allocations_of_replays<T>(backward, {Varies::directions}, {1, 7}) == 0);
    CHECK(allocations_of_replays<T>(*l.map, directions, {1, 7}) == 0);
    CHECK(allocations_of_replays<T>(trace(softmax_network, s)) == 0);
    CHECK(allocations_of_replays<T>(gradient([](Values v) -> std::vector<Var> { return {softmax_network(v)[0]}; }, s, 6)) == 0);
    CHECK(allocations_of_replays<T>(gradient(with_checkpoint, s, 6)) == 0);
    CHECK(allocations_of_replays<T>(gradient(with_checkpoint, s, 6), {Varies::examples}, {3, 1}) == 0);
  }
  CHECK(allocations_of_replays<T>(trace(recurrent, recurrent_shapes)) == 0);
  CHECK(allocations_of_replays<T>(trace(recurrent, recurrent_shapes), {Varies::directions, Varies::nothing, Varies::examples}, {2, 3}) == 0);
  const auto loss = [](Values v) -> std::vector<Var> {
    const auto r = recurrent(v);
    return {sum(square(r[0])) + sum(r[1])};
  };
  CHECK(allocations_of_replays<T>(gradient(loss, recurrent_shapes, 3)) == 0);
  set_thread_count(1);
}

}  // namespace

TEST_CASE("the counter counts") {
  const long before = allocations;
  ::operator delete(::operator new(1));
  CHECK(allocations == before + 1);
  Buffer<float> b(3);
  CHECK(allocations == before + 2);
}

TEST_CASE_TEMPLATE("replays allocate nothing, in one thread and in two", T, float, double) {
  replays<T>(1);
  replays<T>(2);
}

TEST_CASE_TEMPLATE("replays of every primitive, of its derivative and of the transpose of that allocate nothing, in one thread and in three", T, float, double) {
  for (const int threads : {1, 3}) {
    set_thread_count(threads);
    CAPTURE(threads);
    for (const Primitive* p : primitives()) {
      CAPTURE(std::string(p->name));
      for (const Index n : {1, 17, 3'001}) replays_of<T>(samples::sized(p->name, n));
      for (const samples::Row& row : samples::further(p->name)) {
        CAPTURE(row.what);
        replays_of<T>(row);
      }
    }
  }
  set_thread_count(1);
}
