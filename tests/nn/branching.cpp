// Products and concatenation of values, repeat, activations of powers, and what they refuse.
#include "layers.h"

TEST_CASE_TEMPLATE("values are multiplied and concatenated", T, float, double) {
  const auto x = nn::normal<T>(Key(1), {2, 3, 2});
  const nn::Layer cubes = nn::serial({nn::fan_out(3), nn::fan_in_prod()});
  Array<double> cube(x.shape());
  for (Index i = 0; i < x.size(); ++i) cube.data()[i] = std::pow(double(x.data()[i]), 3);
  check_close(run(cubes, {}, x), cube, tolerance<T>());
  CHECK(run(nn::serial({nn::fan_out(1), nn::fan_in_prod()}), {}, x) == x);
  CHECK(run(nn::serial({nn::fan_out(1), nn::fan_in_concat()}), {}, x) == x);
  CHECK(run(nn::serial({nn::fan_out(2), nn::fan_in_concat(2)}), {}, Array<T>({0, 3, 2})).shape() == Shape{0, 3, 4});
  for (const Index axis : {1, 2, -1, -2}) {
    const auto y = run(nn::serial({nn::fan_out(2), nn::parallel({nn::identity(), nn::Exp()}), nn::fan_in_concat(axis)}), {}, x);
    const Index at = axis < 0 ? axis + 3 : axis, extent = x.shape()[at];
    REQUIRE(y.shape() == x.shape().with(at, 2 * extent));
    for (Index i = 0; i < 2; ++i)
      for (Index j = 0; j < y.shape()[1]; ++j)
        for (Index k = 0; k < y.shape()[2]; ++k) {
          const bool second = (at == 1 ? j : k) >= extent;
          const double from = x[{i, at == 1 ? j % extent : j, at == 2 ? k % extent : k}];
          CHECK(y[{i, j, k}] == doctest::Approx(second ? std::exp(from) : from).epsilon(1e-6));
        }
  }
}

TEST_CASE("values that do not go together are refused where they stand") {
  const auto joined = [](nn::Layer a, nn::Layer b, nn::Layer join) { return nn::serial({nn::fan_out(2), nn::parallel({std::move(a), std::move(b)}), std::move(join)}); };
  const nn::Layer flat = nn::flatten(), same = nn::identity();
  const std::vector<std::pair<nn::Layer, std::string>> shapes{
      {joined(flat, same, nn::fan_in_prod()), "serial/fan_in_prod_2: fan_in_prod: the values must have one shape, value 1 has [2,3,4] and the first has [2,12]"},
      {joined(flat, same, nn::fan_in_concat()), "serial/fan_in_concat_2: fan_in_concat: the values must agree in every axis but 1, value 1 has [2,3,4] and the first has [2,12]"},
      {joined(same, nn::AvgPool({2}), nn::fan_in_concat(2)), "serial/fan_in_concat_2: fan_in_concat: the values must agree in every axis but 2, value 1 has [2,2,4] and the first has [2,3,4]"},
      {joined(same, same, nn::fan_in_concat(3)), "serial/fan_in_concat_2: fan_in_concat: there is no axis 3 in [2,3,4]"},
      {joined(same, same, nn::fan_in_concat(-3)), "serial/fan_in_concat_2: fan_in_concat: axis -3 of [2,3,4] counts the examples; values are concatenated along another one"},
  };
  for (const auto& [layer, text] : shapes) {
    CHECK(init_error_of<ShapeError>(layer, {2, 3, 4}) == text);
    CHECK(error_of<ShapeError>(layer, {}, {2, 3, 4}) == text);
  }
  const std::vector<std::pair<nn::Layer, std::string>> structures{
      {nn::serial({nn::fan_in_prod()}), "serial/fan_in_prod_0: fan_in_prod: several values are multiplied, got one array [2,3]"},
      {nn::serial({nn::fan_in_concat()}), "serial/fan_in_concat_0: fan_in_concat: several values are concatenated, got one array [2,3]"},
      {nn::serial({nn::fan_out(1), nn::fan_out(2), nn::fan_in_concat()}), "serial/fan_in_concat_2: fan_in_concat: value 0 should be one array, but its children are 0"},
  };
  for (const auto& [layer, text] : structures) {
    CHECK(init_error_of<StructureError>(layer, {2, 3}) == text);
    CHECK(error_of<StructureError>(layer, {}, {2, 3}) == text);
  }
  const nn::Layer wide = nn::serial({nn::fan_out(3), nn::fan_in_concat()});
  CHECK(init_error_of<ShapeError>(wide, {1, Index(1) << 62}) == "serial/fan_in_concat_1: fan_in_concat: together the values have more entries along axis 1 than an index counts");
  CHECK_THROWS_WITH_AS(nn::fan_out(Index(1) << 60), "fan_out: 1152921504606846976 copies are more than the 100000 there may be", ShapeError);
  CHECK_THROWS_WITH_AS(nn::fan_in_prod().init(Key(0), Tree<Shape>(), nn::Width::float32), "fan_in_prod: there is nothing to multiply", StructureError);
  CHECK_THROWS_WITH_AS(nn::fan_in_concat().init(Key(0), Tree<Shape>(), nn::Width::float32), "fan_in_concat: there is nothing to concatenate", StructureError);
}

TEST_CASE_TEMPLATE("a layer repeated is serial of copies, with the draws of neural-tangents", T, float, double) {
  const nn::Layer dense = nn::Dense(2, {1.5, .3}), twice = nn::repeat(dense, 2);
  if (sizeof(T) == 4)
    check_draws<T>(twice, {2, 2}, {{-0.7203094363212585, -0.19156698882579803, -0.7139387130737305, -0.7757726907730103}, {-0.021220551803708076, 0.17252156138420105},
                                   {0.44528305530548096, -1.6565355062484741, 1.6001547574996948, 0.1968255639076233}, {0.14726956188678741, 1.6184951066970825}},
                   {-1.3470656871795654, 1.4825676679611206, -0.7602124214172363, 1.8531001806259155});
  else
    check_draws<T>(twice, {2, 2}, {{0.7292685822607485, -0.6200543853780491, 0.5289278215536586, -0.9946534052624402}, {0.8060940461694469, -0.11578868432067504},
                                   {-0.22181406112764143, 0.8940015018520178, 0.09256392455011689, 2.418217808989483}, {0.02508648250477755, -0.5093565159596986}},
                   {-0.251001790333301, -1.8419346839845878, -0.3102108436815786, -1.1863026288960292});
  const nn::Layer block = nn::serial({dense, nn::Erf()});
  const auto params = nn::initialize<T>(nn::repeat(block, 3), Key(1), {1, 2});
  CHECK(params.paths() == std::vector<std::string>{"serial_0/dense_0/W", "serial_0/dense_0/b", "serial_1/dense_0/W", "serial_1/dense_0/b", "serial_2/dense_0/W", "serial_2/dense_0/b"});
  CHECK(params == nn::initialize<T>(nn::serial({block, block, block}), Key(1), {1, 2}));
  const auto x = nn::normal<T>(Key(2), {3, 2});
  CHECK(run(nn::repeat(block, 3), params, x) == run(nn::serial({block, block, block}), params, x));
  CHECK(run(nn::repeat(nn::Relu(), 1), {}, x) == run(nn::Relu(), {}, x));
}

TEST_CASE("what is repeated must keep the shape, and a number of times that is none is refused") {
  CHECK_THROWS_WITH_AS(nn::repeat(nn::Relu(), 0), "repeat: the number of layers must be from 1 to 100000, got 0", ShapeError);
  CHECK_THROWS_WITH_AS(nn::repeat(nn::Relu(), Index(1) << 60), "repeat: the number of layers must be from 1 to 100000, got 1152921504606846976", ShapeError);
  CHECK_THROWS_WITH_AS(nn::repeat(nn::Layer{.name = "x"}, 1), "repeat: layer 'x' has no init function", StructureError);
  CHECK(init_error_of<ShapeError>(nn::repeat(nn::Dense(3), 2), {4, 2}) == "repeat/dense_0: repeat: 'dense' takes [4,2] to [4,3], but what is repeated must keep the shape; use serial for layers that differ");
  CHECK(init_error_of<ShapeError>(nn::repeat(nn::fan_out(2), 2), {4, 2}) == "repeat/fan_out_0: repeat: 'fan_out' takes [4,2] to [4,2] [4,2], but what is repeated must keep the shape; use serial for layers that differ");
  CHECK(error_of<StructureError>(nn::repeat(nn::Dense(2), 2), {{"dense_2", Array<double>()}}, {4, 2}) == "repeat: repeat: there are parameters 'dense_2', but no such layer; its layers are dense_0, dense_1");
}

TEST_CASE_TEMPLATE("powers, polynomials, the Gabor function and both forms of gelu compute their functions and slopes", T, float, double) {
  struct Case {
    nn::Layer layer;
    std::function<double(double)> f;
  };
  std::vector<Case> cases{
      {nn::ABRelu(-0.3, 1.7), [](double x) { return x > 0 ? 1.7 * x : -0.3 * x; }},
      {nn::Gabor(), [](double x) { return std::exp(-x * x) * std::sin(x); }},
      {nn::Gelu(true), [](double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::acos(-1.)) * (x + 0.044715 * x * x * x))); }},
      {nn::Polynomial({3}), [](double) { return 3.; }},
      {nn::Polynomial({0, 2}), [](double x) { return 2 * x; }},
      {nn::Polynomial({1, 0, -0.5, 0.25}), [](double x) { return 1 - 0.5 * x * x + 0.25 * x * x * x; }},
      {nn::Hermite(0), [](double) { return 1.; }},
      {nn::Hermite(1), [](double x) { return x; }},
      {nn::Hermite(2), [](double x) { return (x * x - 1) / std::sqrt(2.); }},
      {nn::Hermite(3), [](double x) { return (x * x * x - 3 * x) / std::sqrt(6.); }},
      {nn::Hermite(6), [](double x) { return (std::pow(x, 6) - 15 * std::pow(x, 4) + 45 * x * x - 15) / std::sqrt(720.); }},
      {nn::Elementwise("mine", [](const Var& x) { return x * tanh(x); }), [](double x) { return x * std::tanh(x); }},
  };
  for (const Index d : {0, 1, 2, 3, 5, 8}) {
    cases.push_back({nn::Monomial(d), [d](double x) { return std::pow(x, static_cast<double>(d)); }});
    cases.push_back({nn::RectifiedMonomial(d), [d](double x) { return x > 0 ? std::pow(x, static_cast<double>(d)) : 0; }});
  }
  const Array<T> x({2, 4}, {T(-1.75), T(-1), T(-0.625), T(-0.25), T(0.125), T(0.5), T(1.25), T(1.5)});
  for (const Case& c : cases) check_elementwise(c.layer, c.f, x);
}

TEST_CASE("at 0 a rectified power of degree 0 is 1, and that of degree 1 has half a slope") {
  const auto at_zero = [](const nn::Layer& layer) { return autodiff::jvp([&](const Var& v) { return layer.apply({}, v, {}).leaf(); }, Array<double>({1, 1}), Array<double>({1, 1}, 1.)); };
  CHECK(at_zero(nn::RectifiedMonomial(0)).first.item() == 1);
  CHECK(at_zero(nn::RectifiedMonomial(0)).second.item() == 0);
  CHECK(at_zero(nn::RectifiedMonomial(1)).second.item() == 0.5);
  CHECK(at_zero(nn::ABRelu(-1, 2)).second.item() == 0.5);
}

TEST_CASE("Hermite polynomials of a high degree have norm 1 under a standard normal") {
  // By the trapezoidal rule, which is exact to rounding for a function that decays so fast.
  const Index n = 4001;
  Array<double> x({n, 1});
  for (Index i = 0; i < n; ++i) x.data()[i] = 0.01 * static_cast<double>(i - n / 2);
  for (const Index degree : {4, 20, 60}) {
    const auto y = run(nn::Hermite(degree), {}, x);
    double norm = 0;
    for (Index i = 0; i < n; ++i) norm += 0.01 * y.data()[i] * y.data()[i] * std::exp(-x.data()[i] * x.data()[i] / 2) / std::sqrt(2 * std::acos(-1.));
    CHECK(norm == doctest::Approx(1).epsilon(1e-10));
  }
}

TEST_CASE("activations refuse degrees and coefficients that are none, and a function that changes the shape") {
  for (const auto& [make, name] : std::vector<std::pair<nn::Layer (*)(Index), std::string>>{{nn::Monomial, "monomial"}, {nn::RectifiedMonomial, "rectified_monomial"}, {nn::Hermite, "hermite"}}) {
    CHECK_THROWS_WITH_AS(make(-1), (name + ": the degree must be from 0 to 1000, got -1").c_str(), StructureError);
    CHECK_THROWS_WITH_AS(make(1001), (name + ": the degree must be from 0 to 1000, got 1001").c_str(), StructureError);
  }
  CHECK_THROWS_WITH_AS(nn::Polynomial({}), "polynomial: there are no coefficients; give one at least, that of 1 first", StructureError);
  CHECK_THROWS_WITH_AS(nn::Polynomial({1, NAN}), "polynomial: a coefficient must be a finite number, got nan", StructureError);
  CHECK_THROWS_WITH_AS(nn::ABRelu(NAN, 1), "ab_relu: a must be a finite number, got nan", StructureError);
  CHECK_THROWS_WITH_AS(nn::ABRelu(1, INFINITY), "ab_relu: b must be a finite number, got inf", StructureError);
  CHECK_THROWS_WITH_AS(nn::Elementwise("mine", nullptr), "elementwise: there is no function", StructureError);
  CHECK(error_of<ShapeError>(nn::serial({nn::Elementwise("total", [](const Var& x) { return sum(x); })}), {}, {2, 3}) ==
        "serial/total_0: total: the function takes [2,3] to [], but an elementwise one keeps the shape");
}
