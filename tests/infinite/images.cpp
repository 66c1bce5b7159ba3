// Kernels of networks over images and sequences: values of neural-tangents, covariances of pairs of places written out, and edges.
#include "networks.h"

#include "linnet/autodiff/config.h"
#include "linnet/autodiff/error.h"
#include "linnet/predict/spectrum.h"

#include <doctest/doctest.h>

#include <functional>
#include <limits>

namespace linnet::infinite {
namespace {

using namespace nn;

Layer C(Padding padding, std::vector<Index> strides = {}) { return Conv(5, {3, 3}, {.strides = strides, .padding = padding, .W_std = 1.5, .b_std = .3}); }

struct Expected {
  const char* name;
  Layer network;
  double nngp[3], ntk[3];  // entries (0,0), (0,1), (1,2), in double with neural-tangents 0.6.5
};

TEST_CASE_TEMPLATE("kernels over images are those of neural-tangents", T, float, double) {
  const Expected all[] = {
      {"same, flatten", serial({C(Padding::same), Relu(), flatten(), D()}), {1.0698854384778, 0.89141214327021, 0.891481816286847}, {2.04977087557281, 1.50201378352036, 1.50215168191478}},
      {"same, mean", serial({C(Padding::same), Relu(), GlobalAvgPool(), D()}), {0.512892851428153, 0.510247895474099, 0.509787144745968}, {0.681970902726711, 0.671052088970613, 0.670095692342891}},
      {"valid, mean", serial({C(Padding::valid), Relu(), GlobalAvgPool(), D()}), {1.0204846438381, 0.926848037483256, 0.928112411359927}, {1.69696215863621, 1.47588985691256, 1.47846491044182}},
      {"circular, pool", serial({C(Padding::circular), Relu(), AvgPool({2, 2}, {.strides = {2, 2}}), flatten(), D()}), {0.817105681365513, 0.778701959507299, 0.777068029246839}, {1.22647668461386, 1.09553570825724, 1.09270079374848}},
      {"strides", serial({C(Padding::same, {2, 2}), Erf(), C(Padding::same), Erf(), GlobalAvgPool(), D()}), {0.347553661093799, 0.3194490278449, 0.313899386508639}, {0.809578629291676, 0.684668388368368, 0.664944425502303}},
  };
  const double within = std::is_same_v<T, float> ? 3e-6 : 1e-12;
  const auto check = [&](const Expected& e, const Array<T>& x) {
    CAPTURE(e.name);
    const auto k = kernel(e.network).both(x);
    const Index at[][2] = {{0, 0}, {0, 1}, {1, 2}};
    for (int i = 0; i < 3; ++i) {
      CHECK(off(double(k.nngp[{at[i][0], at[i][1]}]), e.nngp[i]) <= within);
      CHECK(off(double(k.ntk[{at[i][0], at[i][1]}]), e.ntk[i]) <= (i == 0 ? std::max(within, 1e-7) : within));
    }
  };
  for (const Expected& e : all) check(e, reference_images<T>());
  check({"attention", serial({D(), GlobalSelfAttention(5, 4, 3, 2, {.b_std = .3}), flatten(), D()}), {2.07135340895473, 1.8746549476147, 2.28433953918358}, {7.61041363581893, 6.8236197904588, 8.46235815673431}}, reference_sequences<T>());
}

// ---- covariances of all pairs of places of one pair of sequences, in plain loops

struct Pairs {
  Index n;
  std::vector<double> K, T;
  double& k(Index a, Index b) { return K[static_cast<std::size_t>(a * n + b)]; }
};
// The sum over taps that lie at the same tap of both windows, of width 3 and stride s, zeros outside.
Pairs convolved(Pairs in, Index stride, double W2, double b2) {
  const Index places = (in.n + stride - 1) / stride, before = std::max<Index>((places - 1) * stride + 3 - in.n, 0) / 2;
  Pairs out{places, std::vector<double>(static_cast<std::size_t>(places * places), b2), {}};
  out.T = out.K;
  for (Index a = 0; a < places; ++a)
    for (Index b = 0; b < places; ++b)
      for (Index t = 0; t < 3; ++t) {
        const Index i = a * stride + t - before, j = b * stride + t - before;
        if (i < 0 || j < 0 || i >= in.n || j >= in.n) continue;
        const auto to = static_cast<std::size_t>(a * places + b), from = static_cast<std::size_t>(i * in.n + j);
        out.K[to] += W2 / 3 * in.K[from];
        out.T[to] += W2 / 3 * (in.K[from] + in.T[from]);
      }
  return out;
}
void rectify(Pairs& p, const std::vector<double>& q1, const std::vector<double>& q2) {
  for (Index a = 0; a < p.n; ++a)
    for (Index b = 0; b < p.n; ++b) {
      const auto at = static_cast<std::size_t>(a * p.n + b);
      const double both = std::sqrt(q1[static_cast<std::size_t>(a)] * q2[static_cast<std::size_t>(b)]), c = std::clamp(p.K[at] / both, -1., 1.), theta = std::acos(c);
      p.K[at] = both * (std::sin(theta) + (M_PI - theta) * c) / (2 * M_PI);
      p.T[at] *= (M_PI - theta) / (2 * M_PI);
    }
}
std::vector<double> diagonal_of(const Pairs& p) {
  std::vector<double> q;
  for (Index a = 0; a < p.n; ++a) q.push_back(p.K[static_cast<std::size_t>(a * p.n + a)]);
  return q;
}

TEST_CASE("convolutions with strides and pools follow all pairs of places as plain loops do") {
  const Array<double> x = scattered<double>({2, 7, 2}, 3), y = scattered<double>({3, 7, 2}, 4);
  const ConvOptions first{.padding = Padding::same, .W_std = 1.4, .b_std = .2}, second{.strides = {2}, .padding = Padding::same, .W_std = 1.1};
  const auto k = kernel(serial({Conv(3, {3}, first), Relu(), Conv(4, {3}, second), Relu(), GlobalAvgPool(), Dense(2)})).both(x, y);
  const auto covariance = [](const Array<double>& a, Index i, const Array<double>& b, Index j) {
    Pairs p{7, std::vector<double>(49), std::vector<double>(49)};
    for (Index s = 0; s < 7; ++s)
      for (Index t = 0; t < 7; ++t)
        for (Index c = 0; c < 2; ++c) p.k(s, t) += a[{i, s, c}] * b[{j, t, c}] / 2;
    return p;
  };
  // Variances at every activation, of an example with itself.
  const auto variances = [&](const Array<double>& a, Index i) {
    Pairs p = convolved(covariance(a, i, a, i), 1, 1.96, .04);
    const std::vector<double> q = diagonal_of(p);
    rectify(p, q, q);
    return std::pair(q, diagonal_of(convolved(p, 2, 1.21, 0)));
  };
  for (Index i = 0; i < 2; ++i)
    for (Index j = 0; j < 3; ++j) {
      const auto [p1, q1] = variances(x, i);
      const auto [p2, q2] = variances(y, j);
      Pairs p = convolved(covariance(x, i, y, j), 1, 1.96, .04);
      rectify(p, p1, p2);
      p = convolved(p, 2, 1.21, 0);
      rectify(p, q1, q2);
      double nngp = 0, ntk = 0;
      for (const double v : p.K) nngp += v / double(p.K.size());
      for (const double v : p.T) ntk += v / double(p.T.size());
      CHECK(off(k.nngp[{i, j}], nngp) <= 1e-13);
      CHECK(off(k.ntk[{i, j}], nngp + ntk) <= 1e-13);
    }
}

TEST_CASE("sums are means times places, and what is one beside another is the mean of parts") {
  const Array<double> x = reference_images<double>();
  const auto k = [&](const Layer& network) { return kernel(network).both(x); };
  const auto mean = k(serial({C(Padding::same), Erf(), GlobalAvgPool()})), sum = k(serial({C(Padding::same), Erf(), GlobalSumPool()}));
  CHECK(largest_difference(sum.nngp, 256. * mean.nngp) <= 1e-11);
  CHECK(largest_difference(sum.ntk, 256. * mean.ntk) <= 1e-11);
  const auto pooled = k(serial({C(Padding::same), Erf(), AvgPool({2, 2}, {.strides = {2, 2}}), GlobalAvgPool()}));
  CHECK(largest_difference(pooled.ntk, mean.ntk) <= 1e-14);
  const auto summed = k(serial({C(Padding::same), Erf(), SumPool({2, 2}, {.strides = {2, 2}}), GlobalAvgPool()}));
  CHECK(largest_difference(summed.ntk, 16. * mean.ntk) <= 1e-13);
  // A kernel of one tap is a dense layer over places.
  const DenseOptions options{.W_std = 1.2, .b_std = .1};
  const auto dense = k(serial({Dense(3, options), Relu(), Dense(3, options), Relu(), GlobalAvgPool()}));
  const ConvOptions one{.W_std = 1.2, .b_std = .1};
  const auto conv = k(serial({Conv(3, {1, 1}, one), Relu(), Conv(3, {1, 1}, one), Relu(), GlobalAvgPool()}));
  CHECK(largest_difference(conv.nngp, dense.nngp) <= 1e-13);
  CHECK(largest_difference(conv.ntk, dense.ntk) <= 1e-13);
  // Over the channels and all places a LayerNorm divides by one number.
  const auto normed = k(serial({C(Padding::valid), LayerNorm({1, 2, 3}), flatten()}));
  for (Index i = 0; i < 3; ++i) CHECK(off(normed.nngp[{i, i}], 1) <= 1e-10);
}

TEST_CASE_TEMPLATE("kernels over images: sets, copies, threads, black images and symmetry", T, float, double) {
  Array<T> x = scattered<T>({9, 4, 4, 2}, 5);
  std::copy_n(x.data() + 32, 32, x.data() + 7 * 32);
  std::fill_n(x.data() + 8 * 32, 32, T(0));
  constexpr double eps = std::numeric_limits<T>::epsilon();
  for (const Layer& network : {serial({C(Padding::same), Relu(), C(Padding::same, {2, 1}), Relu(), flatten(), D()}), serial({Conv(3, {3, 3}, {.padding = Padding::same}), Relu(), GlobalAvgPool(), Dense(1)}),
                               serial({C(Padding::circular), Erf(), AvgPool({2, 2}), C(Padding::valid), Gelu(), GlobalAvgPool(), D()})}) {
    const auto k = kernel(network);
    const auto one = k.both(x), two = k.both(x, x);
    const int before = autodiff::threads();
    autodiff::set_threads(before == 1 ? 2 : 1);
    CHECK(k.both(x).ntk == one.ntk);
    autodiff::set_threads(before);
    for (Index i = 0; i < 9; ++i)
      for (Index j = 0; j < 9; ++j) {
        REQUIRE(one.ntk[{i, j}] == one.ntk[{j, i}]);
        REQUIRE(off(double(two.ntk[{i, j}]), double(one.ntk[{i, j}])) <= 100 * eps);
        REQUIRE(off(double(two.nngp[{i, j}]), double(one.nngp[{i, j}])) <= 100 * eps);
      }
    for (Index j = 0; j < 9; ++j) CHECK(off(double(one.ntk[{1, j}]), double(one.ntk[{7, j}])) <= 100 * eps);
    CHECK(off(double(k.variances(x)[{3}]), double(one.nngp[{3, 3}])) <= 20 * eps);
  }
  // Without a bias a black image has no kernel.
  CHECK(kernel(serial({Conv(3, {3, 3}), Relu(), GlobalAvgPool(), Dense(1)})).ntk(x)[{8, 1}] == 0);
  CHECK(kernel(serial({Conv(3, {3, 3}), Relu(), GlobalAvgPool(), Dense(1)})).ntk(x.rows(0, 0)).shape() == Shape{0, 0});
}

TEST_CASE_TEMPLATE("the cube of convolutions and kinks answers what the general way does", T, float, double) {
  constexpr double within = std::is_same_v<T, float> ? 2e-6 : 1e-13;
  const auto same = [](std::vector<Index> filter, double W, std::optional<double> b) { return Conv(4, filter, {.padding = Padding::same, .W_std = W, .b_std = b}); };
  const std::vector<Layer> networks[] = {{same({3, 3}, 1.5, .3), Relu(), GlobalAvgPool()},
                                         {same({3, 3}, 1, {}), Relu(), same({1, 5}, 1.2, .1), LeakyRelu(.2), same({5, 3}, 1.4, {}), ABRelu(.3, 1.2), GlobalAvgPool(), D(Parameterization::standard), Relu(), D()},
                                         {same({3, 3}, 1.5, .3), Relu(), same({3, 1}, 1.5, .3), Relu(), GlobalSumPool(), D()}};
  for (const auto& [height, width] : {std::pair<Index, Index>{5, 4}, {17, 3}, {1, 6}, {16, 1}, {1, 1}}) {
    const Array<T> x = scattered<T>({4, height, width, 3}, 3), y = scattered<T>({3, height, width, 3}, 4);
    for (const std::vector<Layer>& layers : networks) {
      CAPTURE(height);
      CAPTURE(width);
      std::vector<Layer> general = layers;
      general.insert(general.begin() + 1, identity());
      const auto fast = kernel(serial(layers)), slow = kernel(serial(general));
      for (const bool two : {false, true}) {
        const auto a = two ? fast.both(y, x) : fast.both(x), b = two ? slow.both(y, x) : slow.both(x);
        CHECK(largest_difference(a.nngp, autodiff::cast<double>(b.nngp)) <= within * autodiff::max_abs(b.nngp));
        CHECK(largest_difference(a.ntk, autodiff::cast<double>(b.ntk)) <= within * autodiff::max_abs(b.ntk));
        CHECK((two ? fast.ntk(y, x) : fast.ntk(x)) == a.ntk);
        CHECK((two ? fast.nngp(y, x) : fast.nngp(x)) == a.nngp);
      }
      CHECK(fast.both(x.rows(0, 0)).ntk.shape() == Shape{0, 0});
    }
  }
}

TEST_CASE("convolutional kernels in float of near images have the smallest eigenvalue of those in double") {
  Array<float> x = scattered<float>({40, 5, 5, 2}, 5);
  const Array<float> move = scattered<float>({40, 5, 5, 2}, 6, 1e-4);
  for (Index i = 20 * 50; i < x.size(); ++i) x.data()[i] = x.data()[i - 20 * 50] + move.data()[i];
  for (const Layer& last : {flatten(), GlobalAvgPool()}) {
    const ConvOptions options{.padding = Padding::same, .W_std = 1.5, .b_std = .1};
    const auto k = kernel(serial({Conv(3, {3, 3}, options), Relu(), Conv(3, {3, 3}, options), Relu(), Conv(3, {3, 3}, options), Relu(), last, D()}));
    const predict::Spectrum of_float(autodiff::cast<double>(k.ntk(x))), of_double(k.ntk(autodiff::cast<double>(x)));
    CHECK(of_double.lambda_min() > 0);
    CHECK(off(of_float.lambda_min(), of_double.lambda_min()) <= 0.05);
  }
}

TEST_CASE_TEMPLATE("an image and a brighter one differ by their lengths alone", T, float, double) {
  for (const unsigned seed : {1u, 2u, 3u, 4u, 5u, 6u}) {
    Array<T> x = scattered<T>({2, 5, 5, 2}, seed);
    for (T& v : x) v = static_cast<T>(std::round(double(v) * 256) / 256);
    for (Index i = 0; i < 50; ++i) x.data()[50 + i] = x.data()[i] * T(1.0078125);  // exact
    const ConvOptions options{.padding = Padding::same, .W_std = 1.5};
    const Layer c = Conv(3, {3, 3}, options);
    for (const Layer& network : {serial({c, Relu(), c, Relu(), flatten()}), serial({c, Relu(), c, Relu(), GlobalAvgPool()}), serial({c, identity(), Relu(), c, Relu(), GlobalAvgPool()})}) {  // homogeneous: without a bias
      for (const Array<T>& images : {x, Array<T>(x).reshaped({2, 1, 1, 50})}) {  // with one place no others hide it
        const auto k = kernel(network).both(images);
        const double within = std::is_same_v<T, float> ? 2e-6 : 1e-9;
        CHECK(std::abs(double(k.nngp[{0, 1}]) / (1.0078125 * double(k.nngp[{0, 0}])) - 1) <= within);
        CHECK(std::abs(double(k.ntk[{0, 1}]) / (1.0078125 * double(k.ntk[{0, 0}])) - 1) <= within);
      }
    }
  }
}

TEST_CASE("attention that has no limit in closed form is refused, and images that do not fit") {
  const auto message = [](const std::function<void()>& f) {
    try {
      f();
    } catch (const std::invalid_argument& e) {
      return std::string(e.what());
    }
    return std::string("nothing was thrown");
  };
  const auto attention = [](AttentionOptions options) { return serial({D(), GlobalSelfAttention(5, 4, 3, 2, options), flatten(), D()}); };
  CHECK(message([&] { kernel(attention({.pos_emb = PositionalEmbedding::sum})); }) ==
        "serial/attention_1: attention: it has no kernel of infinite width: positional embeddings are not followed; use PositionalEmbedding::none");
  CHECK(message([&] { kernel(attention({.linear_scaling = false})); }) ==
        "serial/attention_1: attention: it has no kernel of infinite width: with the scaling by the root only Mechanism::identity has a closed form; use linear_scaling");
  CHECK(message([&] { kernel(serial({C(Padding::valid), flatten()})).ntk(Array<double>({2, 2, 5, 1}, 1.0)); }).find("serial/conv_0: conv: a window that reaches over 3 does not fit into axis 1 of [1,2,5,1]") == 0);
  CHECK(message([&] { kernel(serial({C(Padding::valid), flatten()})).ntk(Array<double>({2, 5}, 1.0)); }) == "serial/conv_0: conv: a window of two axes needs an input [examples, height, width, channels], got [1,5]");
  CHECK(message([&] { kernel(serial({AvgPool({2, 2}), flatten()})).ntk(Array<double>({2, 5}, 1.0)); }).find("serial/avg_pool_0: ") == 0);
}

}  // namespace
}  // namespace linnet::infinite
