// patches and unpatches, convolution and pooling: values against the definitions as plain loops in long double, for every padding, strides, dilations, odd and even windows, images that
// are not square, and sequences; derivatives to the third order; errors.
#include "linnet/autodiff/primitive.h"
#include "linnet/tests/autodiff/rows.h"

#include <algorithm>

using namespace linnet::autodiff;
using samples::Arrays, samples::difference, samples::eps, samples::first, samples::infinity, samples::kinked, samples::one, samples::random, samples::run1, samples::second, samples::Table,
    samples::third, samples::Values;

namespace {

using Pair = std::array<Index, 2>;

struct Case {
  Shape x;
  Pair size;
  ConvOptions options;
};
std::string name(const Case& c) {
  const char* padding[] = {"same", "valid", "circular"};
  return str(c.x) + " window " + str(Shape{c.size[0], c.size[1]}) + " stride " + str(Shape{c.options.stride[0], c.options.stride[1]}) + " dilation " +
         str(Shape{c.options.dilation[0], c.options.dilation[1]}) + " " + padding[static_cast<int>(c.options.padding)];
}
// Every combination that fits.
std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Padding padding : {Padding::same, Padding::valid, Padding::circular})
    for (const Shape& x : {Shape{2, 5, 7, 3}, {1, 4, 4, 1}, {3, 1, 6, 2}, {1, 3, 2, 2}})
      for (const Pair& size : {Pair{3, 3}, {1, 1}, {2, 4}, {5, 2}})
        for (const Pair& stride : {Pair{1, 1}, {2, 3}, {7, 1}})
          for (const Pair& dilation : {Pair{1, 1}, {2, 1}, {1, 3}})
            if (padding != Padding::valid || ((size[0] - 1) * dilation[0] < x[1] && (size[1] - 1) * dilation[1] < x[2])) all.push_back({x, size, {stride, dilation, padding}});
  return all;
}

// One axis of a window by its definition: the places, and where tap k of place p lies, -1 where that is padding.
struct Axis {
  Index n, size, stride, dilation;
  Padding padding;
  Index reach() const { return (size - 1) * dilation + 1; }
  Index places() const { return padding == Padding::valid ? (n - reach() + stride) / stride : (n + stride - 1) / stride; }
  Index at(Index p, Index k) const {
    const Index total = padding == Padding::valid ? 0 : std::max<Index>((places() - 1) * stride + reach() - n, 0);
    Index i = p * stride + k * dilation - total / 2;
    if (padding == Padding::circular) {
      while (i < 0) i += n;
      while (i >= n) i -= n;
    }
    return i < 0 || i >= n ? -1 : i;
  }
};
Axis axis(const Case& c, std::size_t i) { return {c.x[static_cast<Index>(i) + 1], c.size[i], c.options.stride[i], c.options.dilation[i], c.options.padding}; }

template <class T> T pixel(const Array<T>& x, Index n, Index r, Index q, Index c) { return x.data()[((n * x.shape()[1] + r) * x.shape()[2] + q) * x.shape()[3] + c]; }

// f(image, place, place, tap, tap, position or -1, position or -1)
template <class F> void each_tap(const Case& c, F f) {
  const Axis h = axis(c, 0), w = axis(c, 1);
  for (Index n = 0; n < c.x[0]; ++n)
    for (Index p = 0; p < h.places(); ++p)
      for (Index q = 0; q < w.places(); ++q)
        for (Index i = 0; i < c.size[0]; ++i)
          for (Index j = 0; j < c.size[1]; ++j) {
            const Index r = h.at(p, i), s = w.at(q, j);
            f(n, p, q, i, j, s < 0 ? -1 : r, r < 0 ? -1 : s);
          }
}
Shape placed(const Case& c, Index channels) { return {c.x[0], axis(c, 0).places(), axis(c, 1).places(), channels}; }

template <class T> Array<T> convolved(const Array<T>& x, const Array<T>& w, const Case& c) {
  const Index f = w.shape()[3], channels = c.x[3];
  Array<double> y(placed(c, f));
  std::vector<long double> sums(static_cast<std::size_t>(y.size()), 0);
  each_tap(c, [&](Index n, Index p, Index q, Index i, Index j, Index r, Index s) {
    if (r < 0) return;
    for (Index k = 0; k < channels; ++k)
      for (Index o = 0; o < f; ++o)
        sums[static_cast<std::size_t>(((n * y.shape()[1] + p) * y.shape()[2] + q) * f + o)] += static_cast<long double>(pixel(x, n, r, s, k)) * w.data()[((i * c.size[1] + j) * channels + k) * f + o];
  });
  std::transform(sums.begin(), sums.end(), y.begin(), [](long double v) { return static_cast<double>(v); });
  return cast<T>(y);
}

enum class Pool { sum, mean, mean_of_inside, max };
template <class T> Array<T> pooled(const Array<T>& x, const Case& c, Pool kind) {
  const Index channels = c.x[3];
  Array<double> y(placed(c, channels), kind == Pool::max ? -infinity : 0), count(placed(c, 1));
  each_tap(c, [&](Index n, Index p, Index q, Index, Index, Index r, Index s) {
    const Index at = (n * y.shape()[1] + p) * y.shape()[2] + q;
    if (r < 0) return;
    ++count.data()[at];
    for (Index k = 0; k < channels; ++k) {
      double& to = y.data()[at * channels + k];
      const double v = pixel(x, n, r, s, k);
      to = kind == Pool::max ? std::max(to, v) : to + v;
    }
  });
  for (Index i = 0; i < y.size(); ++i)
    if (kind == Pool::mean || kind == Pool::mean_of_inside) y.data()[i] /= kind == Pool::mean ? static_cast<double>(c.size[0] * c.size[1]) : count.data()[i / channels];
  return cast<T>(y);
}

// Values no two of which are near each other: a maximum stays where it is in the reach of differences.
Array<double> apart(Shape s) {
  Array<double> a(s);
  for (Index i = 0; i < a.size(); ++i) a.data()[i] = static_cast<double>((i * 7919) % 1009) / 64 - 8;
  return a;
}

}  // namespace

Table samples::window_rows() {
  Table t;
  std::size_t number = 0;
  for (const Case& c : cases()) {
    if (number++ % 5 != 0 && c.size[0] != 2) continue;
    const auto windows = [c](const Var& x) { return patches(x, c.size, c.options); };
    const auto back = [=](const Var& x) { return grad([&](Var v) { return sum(square(windows(v)) * windows(v)); }, x); };  // unpatches of squares
    if (number % 3 == 0) t["patches"].push_back({name(c), one([=](Values v) { return square(windows(v[0])); }), {random<double>(c.x, 5)}, {.order = c.x.size() > 100 ? 1 : 2}});
    if (number % 3 == 1) t["unpatches"].push_back({name(c), one([=](Values v) { return back(v[0]); }), {random<double>(c.x, 5)}, {.order = c.x.size() > 12 ? 1 : 2}});
  }
  for (const Padding padding : {Padding::same, Padding::valid, Padding::circular}) {  // at least four places in a row
    const ConvOptions o{{2, 1}, {1, padding == Padding::valid ? 1 : 2}, padding};
    const auto slide = [o](const Var& x, const Var& w) { return conv(x, w, o); };
    const Arrays<double> in{random<double>({1, 3, 6, 2}, 7), random<double>({2, 2, 2, 3}, 8)};
    t["conv"].push_back({"images and weights", one([=](Values v) { return slide(v[0], v[1]); }), in, second});
    t["conv_images"].push_back({"of squares", one([=](Values v) { return grad([&](Var x) { return 0.5 * sum(square(slide(x, v[1]))); }, v[0]); }), in, first});
    t["conv_weights"].push_back({"of squares", one([=](Values v) { return grad([&](Var w) { return 0.5 * sum(square(slide(v[0], w))); }, v[1]); }), in, first});
  }
  for (const Shape& x : {Shape{0, 3, 3, 2}, {2, 3, 3, 0}, {1, 0, 3, 1}, {1, 1, 1, 1}})
    t["patches"].push_back({"of " + str(x), one([](Values v) { return square(patches(v[0], {2, 2})); }), {random<double>(x, 6)}, x.size() ? third : second});
  return t;
}

TEST_CASE("derivatives of patches and unpatches hold for every padding, stride and dilation") {
  for (const auto& row : samples::window_rows()) {
    CAPTURE(std::string(row.first));
    samples::check_rows(row.second);
  }
}

TEST_CASE_TEMPLATE("patches lay what a window sees side by side, zeros where it sees padding", T, float, double) {
  int came = 0;
  for (const Case& c : cases()) {
    CAPTURE(name(c));
    const Array<T> x = random<T>(c.x, 11), y = run1<T>([&](Values v) { return patches(v[0], c.size, c.options); }, {x});
    const Index channels = c.x[3];
    Array<T> expected(placed(c, c.size[0] * c.size[1] * channels));
    T* to = expected.data();
    each_tap(c, [&](Index n, Index, Index, Index, Index, Index r, Index s) {
      for (Index k = 0; k < channels; ++k) *to++ = r < 0 ? T(0) : pixel(x, n, r, s, k);
    });
    CHECK(y == expected);
    ++came;
  }
  CHECK(came > 200);
}

TEST_CASE_TEMPLATE("a convolution is that of plain loops for every padding, stride and dilation", T, float, double) {
  for (const Case& c : cases()) {
    CAPTURE(name(c));
    for (const Index f : {1, 4}) {
      const Array<T> x = random<T>(c.x, 12), w = random<T>({c.size[0], c.size[1], c.x[3], f}, 13);
      const Array<T> y = run1<T>([&](Values v) { return conv(v[0], v[1], c.options); }, {x, w});
      REQUIRE(y.shape() == placed(c, f));
      CHECK(difference(y, convolved(x, w, c)) <= eps<T> * static_cast<double>(2 * w.size() / f + 2));
      if (f == 1) CHECK(samples::same_bits(y, run1<T>([&](Values v) { return conv(constant(x), v[0], c.options); }, {w})));
      if (f == 1) CHECK(samples::same_bits(y, run1<T>([&](Values v) { return conv(v[0], constant(w), c.options); }, {x})));
    }
  }
}

TEST_CASE_TEMPLATE("the convolution of a sequence is that of an image of height one", T, float, double) {
  for (const Padding padding : {Padding::same, Padding::valid, Padding::circular})
    for (const Index stride : {1, 2, 5})
      for (const Index dilation : {1, 3}) {
        CAPTURE(static_cast<int>(padding));
        const Case c{{2, 1, 9, 3}, {1, 3}, {{1, stride}, {1, dilation}, padding}};
        const Array<T> x = random<T>({2, 9, 3}, 14), w = random<T>({3, 3, 2}, 15);
        const Array<T> y = run1<T>([&](Values v) { return conv(v[0], v[1], {{stride, 1}, {dilation, 1}, padding}); }, {x, w});
        const Array<T> expected = convolved(x.reshaped(c.x), w.reshaped({1, 3, 3, 2}), c);
        REQUIRE(y.shape() == expected.shape().erased(1, 1));
        CHECK(difference(y, expected.reshaped(y.shape())) <= 32 * eps<T>);
        if (dilation > 1) continue;
        const PoolOptions pool{{stride, 1}, padding};
        CHECK(difference(run1<T>([&](Values v) { return avg_pool(v[0], {3, 1}, pool); }, {x}).reshaped(placed(c, 3)), pooled(x.reshaped(c.x), c, Pool::mean)) <= 8 * eps<T>);
        CHECK(difference(run1<T>([&](Values v) { return max_pool(v[0], {3, 1}, pool); }, {x}).reshaped(placed(c, 3)), pooled(x.reshaped(c.x), c, Pool::max)) == 0);
        CHECK(run1<T>([&](Values v) { return patches(v[0], {3, 1}, {{stride, 1}, {1, 1}, padding}); }, {x}).shape() == placed(c, 9).erased(1, 1));
      }
}

TEST_CASE_TEMPLATE("pooling adds, averages or chooses within each window", T, float, double) {
  for (const Case& c : cases()) {
    if (c.options.dilation != Pair{1, 1}) continue;
    CAPTURE(name(c));
    const Array<T> x = random<T>(c.x, 16, -3, -1);  // padding would win a maximum
    PoolOptions o{c.options.stride, c.options.padding};
    CHECK(difference(run1<T>([&](Values v) { return sum_pool(v[0], c.size, o); }, {x}), pooled(x, c, Pool::sum)) <= 64 * eps<T>);
    CHECK(difference(run1<T>([&](Values v) { return avg_pool(v[0], c.size, o); }, {x}), pooled(x, c, Pool::mean)) <= 8 * eps<T>);
    CHECK(difference(run1<T>([&](Values v) { return max_pool(v[0], c.size, o); }, {x}), pooled(x, c, Pool::max)) == 0);
    o.normalize_edges = true;
    CHECK(difference(run1<T>([&](Values v) { return avg_pool(v[0], c.size, o); }, {x}), pooled(x, c, Pool::mean_of_inside)) <= 8 * eps<T>);
  }
}

TEST_CASE_TEMPLATE("a maximum over a window shares its slope among ties, none of it with padding, and a NaN is the maximum", T, float, double) {
  const Array<T> x({1, 2, 2, 1}, {-1, -1, -2, -1});
  auto slope = [&](const PoolOptions& o) { return grad([&](Var v) { return sum(max_pool(v, {2, 2}, o)); }, x); };
  const T third_ = T(1) / 3;
  CHECK(difference(slope({}), Array<T>({1, 2, 2, 1}, {third_, third_, 0, third_})) <= eps<T>);
  // windows {-1 -1 / -2 -1}, {-1 / -1}, {-2 -1}, {-1}
  CHECK(difference(slope({.padding = Padding::same}), Array<T>({1, 2, 2, 1}, {third_, third_ + T(.5), 0, third_ + T(2.5)})) <= 4 * eps<T>);
  const Array<T> with_nan({1, 1, 3, 1}, {std::numeric_limits<T>::quiet_NaN(), 1, 2}), infinite({1, 1, 3, 1}, -std::numeric_limits<T>::infinity());
  const Array<T> y = run1<T>([](Values v) { return max_pool(v[0], {1, 2}, {.padding = Padding::same}); }, {with_nan});
  CHECK(std::isnan(y.data()[0]));
  CHECK(y.data()[1] == 2);
  CHECK(run1<T>([](Values v) { return max_pool(v[0], {1, 2}, {.padding = Padding::same}); }, {infinite}) == infinite);
}

TEST_CASE("derivatives of convolutions and pooling hold to the third order") {
  const auto expect = [](auto f, const Arrays<double>& x, DerivativeCheck check) {
    for (const std::string& failure : check_derivatives(one(f), x, check)) FAIL_CHECK(failure);
  };
  for (const Padding padding : {Padding::same, Padding::valid, Padding::circular})
    for (const Pair& stride : {Pair{1, 1}, {2, 1}})
      for (const Pair& dilation : {Pair{1, 1}, {1, 2}}) {
        CAPTURE(static_cast<int>(padding));
        const ConvOptions o{stride, dilation, padding};
        expect([=](Values v) { return conv(v[0], v[1], o); }, {random<double>({2, 3, 4, 2}, 17), random<double>({2, 2, 2, 3}, 18)}, second);
        expect([=](Values v) { return tanh(conv(v[0], v[1], o)); }, {random<double>({1, 2, 3, 1}, 17), random<double>({2, 2, 1, 1}, 18)}, third);
        if (dilation != Pair{1, 1}) continue;
        for (const bool inside : {false, true}) expect([=](Values v) { return square(avg_pool(v[0], {2, 2}, {stride, padding, inside})); }, {random<double>({1, 3, 4, 2}, 19)}, second);
        expect([=](Values v) { return square(sum_pool(v[0], {2, 3}, {stride, padding})); }, {random<double>({1, 3, 4, 1}, 19)}, third);
        expect([=](Values v) { return square(max_pool(v[0], {2, 2}, {stride, padding})); }, {apart({1, 3, 4, 2})}, second);
        expect([=](Values v) { return max_pool(v[0], {2, 2}, {stride, padding}); }, {Array<double>({1, 3, 3, 1}, 2.0)}, kinked);
      }
  expect([](Values v) { return conv(v[0], v[1]); }, {random<double>({2, 5, 2}, 17), random<double>({3, 2, 2}, 18)}, third);
  for (const Shape& x : {Shape{0, 3, 3, 2}, {2, 0, 3, 2}, {2, 3, 3, 0}}) expect([](Values v) { return conv(v[0], v[1]); }, {random<double>(x, 17), random<double>({2, 2, x[3], 2}, 18)}, second);
  expect([](Values v) { return conv(v[0], v[1]); }, {random<double>({1, 3, 3, 2}, 17), random<double>({2, 2, 2, 0}, 18)}, second);
}

TEST_CASE_TEMPLATE("convolutions of nothing have no values, of no channels they are zero", T, float, double) {
  auto on = [](Shape x, Shape w, ConvOptions o = {}) { return run1<T>([&](Values v) { return conv(v[0], v[1], o); }, {Array<T>(x, T(1)), Array<T>(w, T(1))}); };
  CHECK(on({0, 3, 3, 1}, {2, 2, 1, 5}).shape() == Shape{0, 3, 3, 5});
  CHECK(on({2, 3, 0, 1}, {2, 2, 1, 5}).shape() == Shape{2, 3, 0, 5});
  CHECK(on({2, 0, 3, 1}, {2, 2, 1, 5}, {.padding = Padding::circular}).shape() == Shape{2, 0, 3, 5});
  CHECK(on({1, 2, 2, 0}, {2, 2, 0, 3}) == Array<T>({1, 2, 2, 3}));
  CHECK(on({1, 2, 2, 1}, {2, 2, 1, 0}).shape() == Shape{1, 2, 2, 0});
  CHECK(on({1, 1, 1, 1}, {1, 1, 1, 1}) == Array<T>({1, 1, 1, 1}, T(1)));
}

TEST_CASE_TEMPLATE("convolutions, their gradients and pooling have the same bits for any number of threads", T, float, double) {
  const Function f = [](Values v) -> std::vector<Var> {
    const auto [value, gradient] = value_and_grad([&](Var x) { return sum(square(max_pool(conv(x, v[1]), {2, 2}, {.stride = {2, 2}}))); }, v[0]);
    return {value, gradient, grad([&](Var w) { return sum(square(avg_pool(conv(v[0], w, {.padding = Padding::circular}), {2, 2}))); }, v[1])};
  };
  CHECK(samples::same_for_any_threads<T>(f, {random<T>({9, 14, 13, 4}, 20), random<T>({3, 3, 4, 8}, 21)}));
}

TEST_CASE("windows that do not fit are errors that say why") {
  auto on = [](auto f, Shape x, Shape w = {}) { return run1<double>([&](Values v) { return f(v[0], v[1]); }, {Array<double>(x), Array<double>(w)}); };
  auto plain = [](Var x, Var w) { return conv(x, w); };
  CHECK_THROWS_WITH_AS(on(plain, {2, 5, 5, 3}, {3, 3, 2, 4}), "conv: images [n,height,width,c] with weights [height,width,c,f], or sequences [n,length,c] with weights [length,c,f], are needed; got [2,5,5,3] and [3,3,2,4]", ShapeError);
  CHECK_THROWS_WITH_AS(on(plain, {2, 5, 3}, {3, 3, 3, 4}), doctest::Contains("got [2,5,3] and [3,3,3,4]"), ShapeError);
  CHECK_THROWS_WITH_AS(on(plain, {5, 3}, {3, 4}), doctest::Contains("got [5,3] and [3,4]"), ShapeError);
  CHECK_THROWS_WITH_AS(on(plain, {2, 5, 5, 3}, {0, 3, 3, 4}), "conv: a window of 0 taps with stride 1 and dilation 1; each must be at least 1", ShapeError);
  auto with = [](ConvOptions o) { return [o](Var x, Var w) { return conv(x, w, o); }; };
  CHECK_THROWS_WITH_AS(on(with({.stride = {1, 0}}), {2, 5, 5, 3}, {3, 3, 3, 4}), "conv: a window of 3 taps with stride 0 and dilation 1; each must be at least 1", ShapeError);
  CHECK_THROWS_WITH_AS(on(with({.dilation = {-1, 1}}), {2, 5, 5, 3}, {3, 3, 3, 4}), doctest::Contains("dilation -1; each must be at least 1"), ShapeError);
  CHECK_THROWS_WITH_AS(on(with({.dilation = {Index{1} << 61, 1}}), {2, 5, 5, 3}, {3, 3, 3, 4}), doctest::Contains("is beyond any image"), ShapeError);
  CHECK_THROWS_WITH_AS(on(with({.dilation = {1, 3}, .padding = Padding::valid}), {2, 5, 6, 3}, {3, 3, 3, 4}),
                       "conv: a window that reaches over 7 does not fit into axis 2 of [2,5,6,3]; use Padding::same, or a smaller window", ShapeError);
  CHECK_THROWS_WITH_AS(on(with({.stride = {1, 2}}), {2, 5, 3}, {3, 3, 4}), "conv: the stride of a sequence is its first number, and the second must be 1; 1 and 2 came", ShapeError);
  auto pool = [](Var x, Var) { return avg_pool(x, {2, 2}); };
  CHECK_THROWS_WITH_AS(on(pool, {2, 5, 3}), "avg_pool: the window of a sequence is its first number, and the second must be 1; 2 and 2 came", ShapeError);
  CHECK_THROWS_WITH_AS(on(pool, {5, 3}), "avg_pool: images [n,height,width,channels] or sequences [n,length,channels] are needed, got [5,3]", ShapeError);
  CHECK_THROWS_WITH_AS(on(pool, {2, 1, 5, 3}), doctest::Contains("avg_pool: a window that reaches over 2 does not fit into axis 1 of [2,1,5,3]"), ShapeError);
  CHECK_THROWS_WITH_AS(on([](Var x, Var) { return max_pool(x, {2, 2}, {.normalize_edges = true}); }, {2, 5, 5, 3}), "max_pool: normalize_edges is for averages; a maximum has nothing to divide", ShapeError);
  CHECK_THROWS_WITH_AS(on([](Var x, Var) { return sum_pool(x, {2, 2}, {.normalize_edges = true}); }, {2, 5, 5, 3}), "sum_pool: normalize_edges is for averages; a sum has nothing to divide", ShapeError);
  const Window w{{5, 3, 3, 2, 1, 1}, {6, 4, 3, 1, 1, 0}, false};
  const auto primitive = [](std::string_view name) { return **std::find_if(primitives().begin(), primitives().end(), [&](const Primitive* p) { return p->name == name; }); };
  const std::vector<Shape> wrong{{2, 5, 5, 3}}, odd{{2, 3, 4, 10}};
  CHECK_THROWS_WITH_AS(primitive("patches").infer(wrong, w), "patches: images [n,5,6,c] are needed, got [2,5,5,3]", ShapeError);
  CHECK_THROWS_WITH_AS(primitive("unpatches").infer(odd, w), "unpatches: patches [n,3,4,9 c] are needed, got [2,3,4,10]", ShapeError);
}
