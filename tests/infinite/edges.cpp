// The edges of kernels of fully connected networks: near and equal examples, zeros, lengths that differ, ragged tiles, threads, and everything that is refused.
#include "networks.h"

#include "linnet/autodiff/config.h"
#include "linnet/autodiff/error.h"
#include "linnet/predict/predict.h"

#include <doctest/doctest.h>

#include <limits>

namespace linnet::infinite {
namespace {

using namespace nn;
using autodiff::NumericalError;
using autodiff::ShapeError;
using autodiff::StructureError;

Layer deep(const Layer& activation, int hidden, DenseOptions options = {.W_std = 1.5, .b_std = .3}) {
  std::vector<Layer> layers;
  for (int i = 0; i < hidden; ++i) layers.insert(layers.end(), {Dense(7, options), activation});
  layers.push_back(Dense(3, options));
  return serial(layers);
}

// n examples, of which the second half are the first ones, a little moved.
template <Scalar T> Array<T> with_near_examples(Index n, Index d, double apart) {
  Array<T> x = scattered<T>({n, d}, 5);
  const Array<T> move = scattered<T>({n, d}, 6, apart);
  for (Index i = n / 2 * d; i < n * d; ++i) x.data()[i] = x.data()[i - n / 2 * d] + move.data()[i];
  return x;
}

TEST_CASE("kernels in float of near examples have the smallest eigenvalue of those in double, and none below zero") {
  for (const Layer& activation : {Relu(), LeakyRelu(.2), Abs()})
    for (const int hidden : {1, 3, 10}) {
      CAPTURE(activation.name);
      CAPTURE(hidden);
      const Array<float> x = with_near_examples<float>(120, 10, 1e-4);
      const auto k = kernel(deep(activation, hidden));
      const Array<float> in_float = k.ntk(x);
      const Array<double> in_double = k.ntk(autodiff::cast<double>(x));
      CHECK(largest_difference(in_float, in_double) <= 2e-6 * autodiff::max_abs(in_double));
      const predict::Spectrum of_float(autodiff::cast<double>(in_float)), of_double(in_double);
      CHECK(of_double.lambda_min() > 0);
      CHECK(off(of_float.lambda_min(), of_double.lambda_min()) <= 0.02);
    }
}

TEST_CASE_TEMPLATE("an example and its copy have one row, and kernels of two sets are parts of that of one", T, float, double) {
  Array<T> x = scattered<T>({140, 6}, 3);
  std::copy_n(x.data() + 2 * 6, 6, x.data() + 133 * 6);  // in another tile
  for (const Layer& activation : {Relu(), Erf(), Gelu(), Sin(), Sign(), Exp(.5, .5), RectifiedMonomial(2)}) {
    CAPTURE(activation.name);
    const auto k = kernel(deep(activation, 3));
    const auto [nngp, ntk, lacking] = k.both(x);
    CHECK(lacking == 0);
    const auto apart = k.both(x.rows(0, 135), x.rows(130, 10));
    const Array<T> q = k.variances(x);
    constexpr double eps = std::numeric_limits<T>::epsilon();
    for (Index i = 0; i < 140; ++i) {
      CHECK(off(double(nngp[{i, 2}]), double(nngp[{i, 133}])) <= 4 * eps);
      CHECK(off(double(ntk[{i, 2}]), double(ntk[{i, 133}])) <= 4 * eps);
      CHECK(off(double(q[{i}]), double(nngp[{i, i}])) <= 20 * eps);
      for (Index j = 0; j < i; ++j) {
        REQUIRE(nngp[{i, j}] == nngp[{j, i}]);
        REQUIRE(ntk[{i, j}] == ntk[{j, i}]);
      }
    }
    for (Index i = 0; i < 135; ++i)
      for (Index j = 0; j < 10; ++j) {
        REQUIRE(std::abs(double(apart.nngp[{i, j}] - nngp[{i, 130 + j}])) <= 50 * eps * autodiff::max_abs(nngp));
        REQUIRE(std::abs(double(apart.ntk[{i, j}] - ntk[{i, 130 + j}])) <= 50 * eps * autodiff::max_abs(ntk));
      }
    CHECK(k.nngp(x) == nngp);  // whatever else is computed
    CHECK(k.ntk(x) == ntk);
  }
}

TEST_CASE("entries do not depend on how many examples there are") {
  const Array<double> x = scattered<double>({260, 3}, 9);
  const auto k = kernel(deep(Relu(), 2));
  const auto all = k.both(x);
  for (const Index n : {0, 1, 2, 127, 128, 129, 257}) {
    const auto some = k.both(x.rows(0, n));
    REQUIRE(some.ntk.shape() == Shape{n, n});
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < n; ++j) {
        REQUIRE(some.nngp[{i, j}] == all.nngp[{i, j}]);
        REQUIRE(some.ntk[{i, j}] == all.ntk[{i, j}]);
      }
  }
  CHECK(k.both(x.rows(0, 0), x.rows(0, 4)).ntk.shape() == Shape{0, 4});
  CHECK(k.both(x.rows(0, 4), x.rows(0, 0)).ntk.shape() == Shape{4, 0});
  CHECK(k.variances(x.rows(0, 0)).shape() == Shape{0});
}

TEST_CASE_TEMPLATE("examples of very different lengths and the zero example have the kernels they should", T, float, double) {
  Array<T> x({4, 3}, {1, 2, -1, 1024, 2048, -1024, 0, 0, 0, T(0x1p-20), T(0x1p-19), -T(0x1p-20)});  // one direction, and no direction
  const auto all = kernel(serial({Dense(1), Relu(), Dense(1), LeakyRelu(.3), Dense(1)})).both(x);  // without a bias it is homogeneous
  const double lengths[] = {1, 1024, 0, 0x1p-20};
  constexpr double eps = std::numeric_limits<T>::epsilon();
  for (Index i = 0; i < 4; ++i)
    for (Index j = 0; j < 4; ++j) {
      CHECK(off(double(all.nngp[{i, j}]), lengths[i] * lengths[j] * double(all.nngp[{0, 0}])) <= 20 * eps);
      CHECK(off(double(all.ntk[{i, j}]), lengths[i] * lengths[j] * double(all.ntk[{0, 0}])) <= 20 * eps);
    }
  // With a bias the zero example has a kernel of its own: the finite network's slope at 0 is 1/2.
  const auto of_bias = kernel(serial({Dense(1), Relu(), Dense(1, {.W_std = 1, .b_std = .5})})).both(x);
  CHECK(double(of_bias.nngp[{2, 0}]) == doctest::Approx(.25));
  CHECK(double(of_bias.ntk[{2, 0}]) == doctest::Approx(.25));  // no weight of the first layer moves it
  CHECK(double(kernel(serial({Dense(1), Sign(), Dense(1)})).nngp(x)[{2, 2}]) == 0);
  CHECK(double(kernel(serial({Dense(1), RectifiedMonomial(0), Dense(1)})).nngp(x)[{2, 2}]) == 1);
  CHECK(double(kernel(serial({Dense(1), RectifiedMonomial(0), Dense(1)})).nngp(x)[{2, 0}]) == .5);
}

TEST_CASE("layers that branch, join and repeat have the kernels of what they are made of") {
  const Array<double> x = scattered<double>({5, 4}, 2), y = scattered<double>({3, 4}, 8);
  const Layer d = Dense(6, {.W_std = 1.2, .b_std = .1});
  const auto k = [&](const Layer& network) { return kernel(network).both(y, x); };
  const auto equal = [](const Kernels<double>& a, const Kernels<double>& b) {
    CHECK(largest_difference(a.nngp, b.nngp) <= 1e-14);
    CHECK(largest_difference(a.ntk, b.ntk) <= 1e-14);
  };
  equal(k(repeat(d, 3)), k(serial({d, d, d})));
  equal(k(serial({d, Erf(), Dropout(.5), identity(), d})), k(serial({d, Erf(), d})));
  const auto one = k(serial({d, Relu()})), other = k(serial({d, Erf()}));
  // A sum, a product and a concatenation of two, written out.
  const auto sum = k(serial({fan_out(2), parallel({serial({d, Relu()}), serial({d, identity()})}), fan_in_sum()}));
  const auto plain = k(d);
  CHECK(largest_difference(sum.nngp, one.nngp + plain.nngp) <= 1e-14);
  CHECK(largest_difference(sum.ntk, one.ntk + plain.ntk) <= 1e-14);
  const auto product = k(serial({fan_out(2), parallel({serial({d, Relu()}), serial({d, Erf()})}), fan_in_prod()}));
  const auto joined = k(serial({fan_out(2), parallel({serial({d, Relu()}), serial({Dense(18, {.W_std = 1.2, .b_std = .1}), Erf()})}), fan_in_concat()}));
  for (Index i = 0; i < y.shape()[0]; ++i)
    for (Index j = 0; j < x.shape()[0]; ++j) {
      const double a = one.nngp[{i, j}], b = other.nngp[{i, j}], ta = one.ntk[{i, j}], tb = other.ntk[{i, j}];
      CHECK(off(product.nngp[{i, j}], a * b) <= 1e-13);
      CHECK(off(product.ntk[{i, j}], ta * b + a * tb) <= 1e-13);
      CHECK(off(joined.nngp[{i, j}], a / 4 + b * 3 / 4) <= 1e-13);
      CHECK(off(joined.ntk[{i, j}], ta / 4 + tb * 3 / 4) <= 1e-13);
    }
  // The covariance of two activations of one layer is not zero, but their concatenation needs no more than either.
  CHECK_NOTHROW(k(serial({d, fan_out(2), parallel({Relu(), Erf()}), fan_in_concat(), d})));
  // An input that flattens, and one without places.
  CHECK(kernel(serial({flatten(), d, Relu(), d})).ntk(Array<double>(x).reshaped({5, 2, 2})) == kernel(serial({d, Relu(), d})).ntk(x));
  // Without weights nothing is trained.
  CHECK(autodiff::max_abs(kernel(identity()).ntk(x)) == 0);
}

template <class Error, class F> std::string message(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "nothing was thrown";
}

TEST_CASE("networks without a limit are refused when they are asked for their kernel, with the reason") {
  const Layer d = Dense(4);
  const auto refused = [](const Layer& network) { return message<StructureError>([&] { kernel(network); }); };
  CHECK(refused(serial({d, Relu(), Relu(), d})) == "serial/relu_2: relu: in infinite width it needs a Gaussian value of mean zero, as dense, conv and attention answer, but it stands behind relu; put a layer with weights between them");
  CHECK(refused(serial({Relu(), d})) == "serial/relu_0: relu: in infinite width it needs a Gaussian value of mean zero, as dense, conv and attention answer, but it stands behind the input; put a layer with weights between them");
  CHECK(refused(serial({d, Relu(), LayerNorm(), d})) == "serial/layer_norm_2: layer_norm: in infinite width it needs a Gaussian value of mean zero, as dense, conv and attention answer, but it stands behind relu; put a layer with weights between them");
  CHECK(refused(serial({d, fan_out(2), parallel({identity(), Relu()}), fan_in_sum()})) ==
        "serial/fan_in_sum_3: fan_in_sum: in infinite width the values must be independent, but value 1 (of relu) and one before it come from the same layer with weights; put a layer with weights into one of the branches");
  CHECK(refused(serial({d, fan_out(2), parallel({identity(), identity()}), fan_in_prod()})) ==
        "serial/fan_in_prod_3: fan_in_prod: in infinite width the values must be independent, but value 1 (of dense) and one before it come from the same layer with weights; put a layer with weights into one of the branches");
  CHECK(refused(serial({fan_out(2), parallel({serial({d, Relu()}), serial({d, Erf()})}), fan_in_sum()})) ==
        "serial/fan_in_sum_2: fan_in_sum: in infinite width at most one value may have a mean other than zero, 2 have (they are not what dense, conv or attention answer); put a layer with weights at the end of the branches");
  CHECK(refused(serial({d, fan_in_sum()})) == "serial/fan_in_sum_1: fan_in_sum: several values are summed, got one array");
  CHECK(refused(serial({fan_out(2), fan_out(2), fan_in_sum()})) == "serial/fan_in_sum_2: fan_in_sum: value 0 should be one array, but its children are 0, 1");
  CHECK(refused(serial({d, fan_out(2), Relu()})) == "serial/relu_2: relu: one array is expected, got 2 values");
  CHECK(refused(serial({d, parallel({d, d})})) == "serial/parallel_1: parallel: 2 layers need as many values, got one array; put fan_out(2) in front");
  CHECK(refused(serial({d, fan_out(2)})) == "serial: it answers 2 values, one array is expected; end it with fan_in_sum()");
  CHECK(refused(serial({MaxPool({2, 2}), d})) == "serial/max_pool_0: max_pool: it has no kernel of infinite width: a maximum over places has no closed form; use AvgPool or SumPool");
  CHECK(refused(serial({Embedding(4, 5), d})) ==
        "serial/embedding_0: embedding: it has no kernel of infinite width: rows of a table follow from the tokens and not from a kernel of them; give the network one-hot vectors and a Dense layer");
  CHECK(refused(serial({d, Monomial(600), d})) == "serial/monomial_1: monomial: it has no kernel of infinite width: of degree 600 coefficients of its kernel are beyond the numbers of double");
  CHECK(refused(serial({d, RectifiedMonomial(200), d})) == "serial/rectified_monomial_1: rectified_monomial: it has no kernel of infinite width: of degree 200 coefficients of its kernel are beyond the numbers of double");
  const Layer own = plain("own", [](Key, const Shape& s, Width) { return std::pair(s, Tree<Array<double>>()); }, [](const Tree<Var>&, const Var& x) { return x; });
  CHECK(refused(serial({d, own})) == "serial/own_1: own: the layer has no rule for kernels of infinite width; give it one by nn::with_kernel");
  CHECK(message<StructureError>([&] { kernel(serial({d, LayerNorm({1})})).nngp(Array<double>({2, 3, 4})); }) == "serial/layer_norm_1: layer_norm: in infinite width it must be over the channels (axis -1), with or without other axes");
  CHECK(message<StructureError>([&] { kernel(serial({fan_out(2), parallel({d, d}), fan_in_concat(1)})).nngp(Array<double>({2, 3, 4})); }) ==
        "serial/fan_in_concat_2: fan_in_concat: in infinite width values are concatenated along the channels (axis -1), not along axis 1");
}

TEST_CASE("examples that do not fit, and numbers that are not finite, are refused") {
  const auto k = kernel(deep(Relu(), 1));
  CHECK(message<ShapeError>([&] { k.nngp(Array<double>({3})); }) == "infinite::nngp: x [3] must be [examples, channels], or have places between them");
  CHECK(message<ShapeError>([&] { k.ntk(Array<double>({3, 0})); }) == "infinite::ntk: x [3,0] has no values in an example, one at least is needed");
  CHECK(message<ShapeError>([&] { k.both(Array<double>({3, 2}), Array<double>({3, 4})); }) == "infinite::both: rows [3,2] and columns [3,4] must agree in all axes but the leading one");
  CHECK(message<ShapeError>([&] { k.variances(Array<float>({3, 0})); }) == "infinite::variances: x [3,0] has no values in an example, one at least is needed");
  CHECK(message<ShapeError>([&] { kernel(serial({D(), fan_out(2), parallel({Dense(3), Dense(4)}), fan_in_sum()})).nngp(Array<double>({2, 2}, 1.0)); }) ==
        "serial/fan_in_sum_3: fan_in_sum: the values must have one shape, value 1 has [1,4] and the first has [1,3]");
  Array<double> bad({2, 2}, {1, 2, std::nan(""), 4});
  CHECK(message<NumericalError>([&] { k.nngp(bad); }) == "infinite::nngp: x has nan at [1,0]; every value must be finite");
  CHECK(message<NumericalError>([&] { k.nngp(Array<double>({2, 2}, 1.0), bad); }) == "infinite::nngp: columns has nan at [1,0]; every value must be finite");
  CHECK(message<StructureError>([&] { k.nngp(Array<double>({2, 3, 4}, 1.0)); }) == "infinite::nngp: the network takes [2,3,4] to [2,3,3], values at several places; end it with flatten() or GlobalAvgPool()");
  CHECK(message<NumericalError>([&] { kernel(deep(Gaussian(1, .5), 1)).nngp(Array<double>({1, 1}, 1.0)); }) == "infinite: a variance of example 0 of x is not a number behind serial/gaussian_1; scale the inputs or the layers");
  CHECK(message<NumericalError>([&] { kernel(deep(Exp(), 2)).nngp(Array<double>({1, 1}, 9.0)); }) == "infinite: a variance of example 0 of x is infinite behind serial/exp_3; scale the inputs or the layers");
  CHECK(message<NumericalError>([&] { kernel(deep(Exp(), 1)).nngp(Array<float>({1, 1}, 6.3f)); }) == "infinite: a variance of example 0 of x is beyond the numbers of float behind serial/exp_1; compute in double");
  CHECK(message<NumericalError>([&] { kernel(serial({Dense(1), Sin(1, 1e15), Dense(1)})).ntk(Array<float>({2, 1}, {1e5f, 2e5f})); }) ==
        "infinite::ntk: the result is not finite: a variance or a covariance behind the network is too large for float, compute in double; scale the inputs or the layers");
  CHECK(message<NumericalError>([&] { k.ntk(Array<double>({1000, 2}, 1.0), Options{.max_memory = 1000000}); }) ==
        "infinite::ntk: some 8.13 MB are needed for 1000 and 1000 examples, Options::max_memory is 1.00 MB; ask for some rows at a time");
  CHECK(message<NumericalError>([&] { kernel(serial({Conv(2, {3, 3}, {.padding = Padding::same}), Relu(), GlobalAvgPool()})).both(Array<float>({100, 2, 2, 1}, 1.0f), Options{.max_memory = 100000}); }) ==
        "infinite::both: some 163 kB are needed for 100 and 100 examples, Options::max_memory is 100 kB; ask for some rows at a time");
  int calls = 0;
  const auto cancel = [&](const autodiff::Progress& p) {
    CHECK(p.what == "kernel tiles");
    CHECK(p.total == 6);
    ++calls;
    return false;
  };
  CHECK(message<NumericalError>([&] { k.nngp(scattered<double>({300, 2}, 1), Options{.progress = cancel}); }).starts_with("infinite::nngp: cancelled by the progress function after "));
  CHECK(calls == 1);
}

TEST_CASE("a layer of your own has the kernel its rule says") {
  // y = 3 x, and a rule for it.
  Layer tripled = plain("tripled", [](Key, const Shape& s, Width) { return std::pair(s, Tree<Array<double>>()); }, [](const Tree<Var>&, const Var& x) { return 3.0 * x; });
  KernelRule rule;
  rule.law = [](const Tree<Law>& in, int&) { return in; };
  rule.example = [](const Tree<ExampleValue>& in, std::vector<Statistic>&, const Scale&) -> Tree<ExampleValue> { return ExampleValue{in.leaf().shape, 9.0 * in.leaf().variance, {}}; };
  rule.pair = [](const Tree<PairValue>& in, const Tree<Sides>&, std::span<const Sides>, const Scale&) -> Tree<PairValue> {
    PairValue out;
    out.gap = 9.0 * in.leaf().gap;
    if (!in.leaf().ntk.is_zero()) out.ntk = 9.0 * in.leaf().ntk;
    return out;
  };
  tripled = with_kernel(std::move(tripled), std::make_shared<const KernelRule>(rule));
  const Array<double> x = scattered<double>({5, 4}, 2);
  const auto by_rule = kernel(serial({Dense(3), tripled, Relu(), Dense(2)})).both(x), by_scale = kernel(serial({Dense(3, {.W_std = 3}), Relu(), Dense(2)})).both(x);
  CHECK(largest_difference(by_rule.nngp, by_scale.nngp) <= 1e-14);
  CHECK(largest_difference(by_rule.ntk, by_scale.ntk) <= 1e-14);
}

TEST_CASE("predictions take the kernels as they are") {
  const Array<double> x = scattered<double>({6, 3}, 1), y = scattered<double>({6, 2}, 2), x_new = scattered<double>({2, 3}, 3);
  const auto k = kernel(deep(Erf(), 1));
  const auto train = k.both(x), test = k.both(x_new, x);
  const Array<double> f0({6, 2}), f0_new({2, 2});
  const auto flow = predict::gradient_flow(predict::TraceApproximation<double>{train.ntk, 2}, f0, y);
  const predict::EnsembleKernels<double> kernels{train.nngp, train.ntk}, of_test{test.nngp, test.ntk};
  const auto ensemble = predict::gradient_flow_ensemble(kernels, y);
  for (const double t : {0., 3., 1e3, double(INFINITY)})
    CHECK(largest_difference(flow(t).predict(predict::TraceApproximation<double>{test.ntk, 2}, f0_new), ensemble.mean(of_test, t)) <= 1e-10);
  const auto posterior = predict::gp_inference(kernels, y).predict(of_test, k.nngp(x_new));
  CHECK(posterior.mean.shape() == Shape{2, 2});
  CHECK(posterior.covariance[{0, 0}] > 0);
}

}  // namespace
}  // namespace linnet::infinite
