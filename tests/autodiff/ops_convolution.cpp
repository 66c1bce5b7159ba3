// The three maps of convolution against products of windows laid side by side, in sizes that leave a rest everywhere: channels, features, places and images; with
// lanes in every operand; what plans and derivatives make of them. What they are by definition is in ops_window.cpp and reference.cpp.
#include "linnet/autodiff/linear_map.h"
#include "linnet/autodiff/plan.h"
#include "linnet/tests/autodiff/rows.h"

#include <algorithm>

using namespace linnet::autodiff;
using samples::Arrays, samples::difference, samples::eps, samples::one, samples::random, samples::run, samples::run1, samples::Values;

namespace {

struct Case {
  Shape x;
  std::array<Index, 2> size;
  Index features;
  ConvOptions options;
};
std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Padding padding : {Padding::same, Padding::valid, Padding::circular})
    for (const auto& stride : {std::array<Index, 2>{1, 1}, {2, 1}, {3, 2}}) {
      all.push_back({{2, 11, 13, 17}, {3, 3}, 33, {stride, {1, 1}, padding}});
      all.push_back({{3, 9, 37, 4}, {2, 5}, 16, {stride, {1, 1}, padding}});
      all.push_back({{1, 10, 19, 32}, {3, 2}, 10, {stride, {2, 3}, padding}});
      all.push_back({{5, 40, 9, 3}, {5, 1}, 32, {stride, {1, 1}, padding}});
      all.push_back({{19, 5, 9, 8}, {1, 1}, 70, {stride, {1, 1}, padding}});  // more images than parts of a sum
    }
  return all;
}
std::string name(const Case& c) {
  return str(c.x) + " window " + str(Shape{c.size[0], c.size[1]}) + " stride " + str(Shape{c.options.stride[0], c.options.stride[1]}) + " padding " + std::to_string(static_cast<int>(c.options.padding));
}
Shape weights(const Case& c) { return {c.size[0], c.size[1], c.x[3], c.features}; }

Function sliding(const Case& c) { return one([c](Values v) { return conv(v[0], v[1], c.options); }); }
Function as_product(const Case& c) {
  return one([c](Values v) {
    const Var p = patches(v[0], c.size, c.options);
    return dot(p, reshape(v[1], {p.shape()[-1], c.features}));
  });
}
template <class T> double apart(const Arrays<T>& a, const Arrays<T>& b) {  // by the largest entry of each array
  double worst = 0;
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    double largest = std::numeric_limits<double>::min();
    for (const T v : b[i]) largest = std::max(largest, std::abs(static_cast<double>(v)));
    worst = std::max(worst, difference(a[i], b[i]) / largest);
  }
  return worst;
}
int uses(const Program& p, std::string_view name) {
  return static_cast<int>(std::count_if(p.code.begin(), p.code.end(), [&](const Instruction& c) { return c.primitive->name == name; }));
}

}  // namespace

TEST_CASE_TEMPLATE("values and derivatives of convolutions are those of a product of patches, where every size leaves a rest", T, float, double) {
  for (const Case& c : cases()) {
    CAPTURE(name(c));
    const Arrays<T> x{random<T>(c.x, 1), random<T>(weights(c), 2)}, tangents{random<T>(c.x, 3), random<T>(weights(c), 4)};
    const FlatLinearMap<T> ours(sliding(c), {x.begin(), x.end()}, {}), product(as_product(c), {x.begin(), x.end()}, {});
    CHECK(uses(ours.program(), "patches") == 0);
    const double bound = 64 * eps<T>;
    CHECK(apart(ours.value(), product.value()) <= bound);
    CHECK(apart(ours.jvp({tangents.begin(), tangents.end()}, -1), product.jvp({tangents.begin(), tangents.end()}, -1)) <= bound);
    const Array<T> g = random<T>(ours.value()[0].shape(), 5);
    CHECK(apart(ours.vjp({g}, -1), product.vjp({g}, -1)) <= bound);
  }
}

TEST_CASE_TEMPLATE("lanes of convolutions and of their derivatives are single runs, few of them and many", T, float, double) {
  for (const Index lanes : {1, 3, 9}) {
    CAPTURE(lanes);
    const Case c{{2, 6, 7, 3}, {3, 3}, 5, {}};
    const Arrays<T> x{random<T>(c.x, 1), random<T>(weights(c), 2)};
    const FlatLinearMap<T> map(sliding(c), {x.begin(), x.end()}, {});
    const Array<T> dx = random<T>(c.x.inserted(0, std::array{lanes}), 3), dw = random<T>(weights(c).inserted(0, std::array{lanes}), 4), g = random<T>(map.value()[0].shape().inserted(0, std::array{lanes}), 5);
    const Arrays<T> dy = map.jvp({dx, dw}, lanes), back = map.vjp({g}, lanes);
    const auto lane = [](const Array<T>& a, Index l) { return a.rows(l, 1).reshaped(a.shape().erased(0, 1)); };
    for (Index l = 0; l < lanes; ++l) {
      const Array<T> one_dx = lane(dx, l), one_dw = lane(dw, l), one_g = lane(g, l);
      CHECK(apart<T>({lane(dy[0], l)}, map.jvp({one_dx, one_dw}, -1)) <= 8 * eps<T>);
      CHECK(apart<T>({lane(back[0], l), lane(back[1], l)}, map.vjp({one_g}, -1)) <= 8 * eps<T>);
    }
  }
}

// Bits depend neither on how many images there are beside one, nor on threads.
TEST_CASE_TEMPLATE("an image is convolved to the same bits alone and among others, for any number of threads", T, float, double) {
  for (const Case& c : cases()) {
    CAPTURE(name(c));
    const Array<T> x = random<T>(c.x, 1), w = random<T>(weights(c), 2);
    const Array<T> all = run1<T>(sliding(c), {x, w});
    for (Index i = 0; i < c.x[0]; ++i) CHECK(samples::same_bits(run1<T>(sliding(c), {x.rows(i, 1), w}), all.rows(i, 1)));
    const Function gradients = [&](Values v) -> std::vector<Var> {
      return pull_back(linearize(sliding(c), v.first(2), {}), v.first(2), v.last(1));
    };
    CHECK(samples::same_for_any_threads<T>(gradients, {x, w, random<T>(all.shape(), 3)}));
  }
}

TEST_CASE("a residual of a convolution is its images, not the windows laid side by side") {
  const Arrays<float> x{random<float>({2, 8, 8, 4}, 1), random<float>({3, 3, 4, 6}, 2)};
  const FlatLinearMap<float> map(one([](Values v) { return conv(v[0], v[1]); }), {x.begin(), x.end()}, {});
  Index kept = 0;
  for (const Array<float>& r : map.residuals()) kept += r.size();
  CHECK(kept == x[0].size() + x[1].size());
  for (const Program* p : {&map.program(), &map.transpose_program()}) {
    CHECK(uses(*p, "patches") + uses(*p, "unpatches") + uses(*p, "dot") == 0);
    CHECK(uses(*p, "conv") + uses(*p, "conv_images") + uses(*p, "conv_weights") == 2);
  }
}

TEST_CASE("the maps after a convolution follow its rows, in the memory of its result") {
  const auto f = [](Values v) -> std::vector<Var> { return {erf(conv(v[0], v[1]) + v[2])}; };
  const std::vector<Shape> shapes{{3, 40, 9, 4}, {3, 3, 4, 6}, {6}};
  const Program p = trace(f, shapes);
  const Plan plan = make_plan(p, {}, {});
  CHECK(std::count_if(plan.steps.begin(), plan.steps.end(), [](const Step& s) { return s.kind == Step::product; }) == 1);
  CHECK(plan.steps.size() <= 2);  // and the weights as a matrix
  CHECK(plan.arena <= 3 * 3 * 4 * 6 + 16);
  const Arrays<double> x{random<double>(shapes[0], 1), random<double>(shapes[1], 2), random<double>(shapes[2], 3)};
  const auto apart_from_it = [](Values v) -> std::vector<Var> { return {erf(v[0] + v[1])}; };
  const Arrays<double> y = run<double>([](Values v) -> std::vector<Var> { return {conv(v[0], v[1])}; }, {x[0], x[1]});
  CHECK(samples::same_bits(run<double>(f, x), run<double>(apart_from_it, {y[0], x[2]})));
}

TEST_CASE_TEMPLATE("convolutions of no images, channels or features are empty or zero, in derivatives too", T, float, double) {
  for (const auto& [x, w] : {std::pair<Shape, Shape>{{0, 5, 6, 2}, {3, 3, 2, 4}}, {{2, 5, 6, 0}, {3, 3, 0, 4}}, {{2, 5, 6, 2}, {3, 3, 2, 0}}, {{2, 0, 6, 2}, {1, 3, 2, 4}}}) {
    CAPTURE(str(x) + str(w));
    const Arrays<T> in{random<T>(x, 1), random<T>(w, 2)};
    const FlatLinearMap<T> map(one([](Values v) { return conv(v[0], v[1]); }), {in.begin(), in.end()}, {});
    const Arrays<T> back = map.vjp({Array<T>(map.value()[0].shape(), T(1))}, -1);
    for (const Arrays<T>& all : {map.value(), back})
      for (const Array<T>& a : all) CHECK(std::all_of(a.begin(), a.end(), [](T v) { return v == 0; }));
    CHECK(back[0].shape() == x);
    CHECK(back[1].shape() == w);
  }
}
