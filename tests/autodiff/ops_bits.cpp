// Bits of every primitive: equal for any number of threads, for every replay, and, but for products, for lanes and a loop over them.
#include "linnet/tests/autodiff/sized.h"

using namespace linnet::autodiff;
using samples::Arrays, samples::Row, samples::same_bits;

namespace {

constexpr Index beyond_serial = 17'001;  // more items than one thread is given of any primitive, and divisible by nothing
constexpr std::array thread_counts{1, 2, 3, 4, 8};
constexpr std::array<Index, 4> lane_counts{1, 2, 7, 32};

template <class T> Arrays<T> like(const Arrays<T>& x, std::uint64_t seed, Index lanes = -1) {
  Arrays<T> all;
  for (const Array<T>& a : x) all.push_back(samples::random<T>(lanes < 0 ? a.shape() : a.shape().inserted(0, std::array{lanes}), seed++));
  return all;
}
template <class T> Views<T> views(const Arrays<T>& x) { return {x.begin(), x.end()}; }

// The value, the jvp and the vjp.
template <class T> std::vector<Arrays<T>> everything(const FlatFunction<T>& f, const FlatLinearMap<T>& map, const Arrays<T>& x) {
  return {f(views(x)), map.jvp(views(like(x, 81)), -1), map.vjp(views(like(map.value(), 82)), -1)};
}

template <class T> void same_for_all_threads(const Row& row) {
  const Arrays<T> x = samples::cast_all<T>(row.x);
  const FlatFunction<T> f(row.f, samples::shapes(x));
  const int before = thread_count();
  set_thread_count(1);
  const FlatLinearMap<T> map(row.f, views(x), {});
  const std::vector<Arrays<T>> expected = everything<T>(f, map, x);
  for (const int n : thread_counts) {
    CAPTURE(n);
    set_thread_count(n);
    for (int replay = 0; replay < 2; ++replay) {
      const std::vector<Arrays<T>> came = everything<T>(f, map, x);
      for (std::size_t k = 0; k < came.size(); ++k) {
        CAPTURE(k);
        CHECK(same_bits(came[k], expected[k]));
      }
    }
  }
  set_thread_count(before);
}

template <class T> void lanes_as_a_loop(const Row& row, bool products) {
  const Arrays<T> x = samples::cast_all<T>(row.x);
  const FlatLinearMap<T> map(row.f, views(x), {});
  for (const Index k : lane_counts)
    for (const bool forward : {true, false}) {
      CAPTURE(k);
      CAPTURE(forward);
      const Arrays<T> of = forward ? x : map.value(), many = like(of, 83, k);
      const Arrays<T> swept = forward ? map.jvp(views(many), k) : map.vjp(views(many), k);
      for (Index l = 0; l < k; ++l) {
        Arrays<T> one;
        for (std::size_t i = 0; i < of.size(); ++i) one.push_back(many[i].rows(l, 1).reshaped(of[i].shape()));
        const Arrays<T> single = forward ? map.jvp(views(one), -1) : map.vjp(views(one), -1);
        for (std::size_t i = 0; i < single.size(); ++i) {
          const Array<T> part = swept[i].rows(l, 1).reshaped(single[i].shape());
          if (products) CHECK(samples::difference(part, single[i]) <= 32 * samples::eps<T> * std::max(T(1), max_abs(single[i])));
          else CHECK(same_bits(part, single[i]));
        }
      }
    }
}

}  // namespace

TEST_CASE_TEMPLATE("every primitive and its derivatives have the same bits for any number of threads and in a replay", T, float, double) {
  for (const Primitive* p : primitives()) {
    CAPTURE(std::string(p->name));
    same_for_all_threads<T>(samples::sized(p->name, beyond_serial));
    for (const Row& row : samples::further(p->name)) {
      CAPTURE(row.what);
      same_for_all_threads<T>(row);
    }
  }
}

TEST_CASE_TEMPLATE("lanes of the derivatives of every primitive are a loop over them, in every bit but for products", T, float, double) {
  for (const Primitive* p : primitives()) {
    CAPTURE(std::string(p->name));
    const bool products = p->name == "dot" || p->name.starts_with("conv") || p->name == "cholesky" || p->name == "triangular_solve";
    for (const Index n : {0, 1, 9}) lanes_as_a_loop<T>(samples::sized(p->name, n), products);
  }
}
