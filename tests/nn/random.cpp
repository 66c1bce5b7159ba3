// Random numbers against JAX's; the numbers were made by tests/reference/make_random.py.
#include "linnet/autodiff/config.h"
#include "linnet/autodiff/error.h"
#include "linnet/nn/random.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

using namespace linnet;
using autodiff::NumericalError;
using autodiff::ShapeError;
using nn::Key;

namespace {

using Words32 = std::vector<std::uint32_t>;
using Words64 = std::vector<std::uint64_t>;
const Key seed(0), wide((std::uint64_t(1) << 40) + 5);

Words32 flat(const std::vector<Key>& keys) {
  Words32 all;
  for (const Key& k : keys) all.insert(all.end(), k.words.begin(), k.words.end());
  return all;
}

template <class T> void check_values(const nn::Array<T>& came, const std::vector<T>& expected, double tolerance) {
  REQUIRE(came.size() == static_cast<nn::Index>(expected.size()));
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CAPTURE(i);
    CHECK(std::abs(came.data()[i] - expected[i]) <= tolerance * std::abs(expected[i]));
  }
}

}  // namespace

TEST_CASE("keys and their splits are JAX's") {
  CHECK(wide.words == std::array<std::uint32_t, 2>{256, 5});
  CHECK(flat(nn::split(seed)) == Words32{4146024105, 967050713, 2718843009, 1272950319});
  CHECK(flat(nn::split(wide, 3)) == Words32{1070028816, 3116542653, 3600761423, 1908725145, 1447120341, 1212153964});
  CHECK(nn::split(seed, 0).empty());
  Words32 sum{0, 0};
  const std::vector<Key> many = nn::split(seed, 1000001);
  for (std::size_t i = 0; i < many.size(); ++i)
    for (std::size_t j = 0; j < 2; ++j) sum[j] ^= many[i].words[j] * static_cast<std::uint32_t>(i + 1);
  CHECK(sum == Words32{277512607, 1715558899});
}

TEST_CASE("random bits of both widths are JAX's, odd numbers of them included") {
  CHECK(nn::random_bits32(wide, 1) == Words32{841998169});
  CHECK(nn::random_bits32(wide, 2) == Words32{316930262, 1451589314});
  CHECK(nn::random_bits32(wide, 5) == Words32{1070028816, 3116542653, 3334968215, 1908725145, 1447120341});
  CHECK(nn::random_bits64(wide, 1) == Words64{1361205111854300866u});
  CHECK(nn::random_bits64(wide, 2) == Words64{11117226332990103283u, 7184304798459492547u});
  CHECK(nn::random_bits64(wide, 5) == Words64{1867978521708816995u, 6172369211897183373u, 695546300875951889u, 16723729218438012625u, 3325434119892411059u});
  CHECK(nn::random_bits32(wide, 0).empty());
  CHECK(nn::random_bits64(wide, 0).empty());
  std::uint32_t all32 = 0;
  for (const auto b : nn::random_bits32(seed, 1000001)) all32 ^= b;
  CHECK(all32 == 308039811u);
  std::uint64_t all64 = 0;
  for (const auto b : nn::random_bits64(seed, 1000001)) all64 ^= b;
  CHECK(all64 == 287764233162040078u);
}

TEST_CASE("uniforms are JAX's to the bit") {
  check_values<float>(nn::uniform<float>(wide, {5}), {0.24913549423217773f, 0.7256265878677368f, 0.7764827013015747f, 0.4444096088409424f, 0.33693385124206543f}, 0);
  check_values<double>(nn::uniform<double>(wide, {5}), {0.10126331856964788, 0.3346048054460782, 0.03770564052369796, 0.9065951775344898, 0.18027214486223864}, 0);
  const auto f = nn::uniform<float>(wide, {2, 3}, -3.3f, 1.7f);
  CHECK(f.shape() == nn::Shape{2, 3});
  check_values<float>(f, {-2.0543224811553955f, 0.3281329870223999f, 0.8918379545211792f, -1.0779519081115723f, -1.615330696105957f, -1.8888671398162842f}, 0);
  check_values<double>(nn::uniform<double>(wide, {2, 3}, -3.3, 1.7), {1.2840261638717396, -3.0253410395847906, 0.1387492487933093, -2.1646578626129456, -1.231233927936546, -2.094437038935565}, 0);
  CHECK(nn::uniform<float>(wide, {0, 3}).size() == 0);
  CHECK(nn::uniform<float>(wide, {}).size() == 1);
}

TEST_CASE("normals are JAX's to 1e-5 in float and 1e-11 in double") {
  check_values<float>(nn::normal<float>(seed, {4}), {1.8160863f, -0.75488514f, 0.33988908f, -0.53483534f}, 1e-5);
  check_values<float>(nn::normal<float>(wide, {7}), {-0.044889889657497406f, 0.06712717562913895f, 0.3681580722332001f, -1.5252602100372314f, -0.8190106153488159f, 1.3398504257202148f, -0.8493732810020447f}, 1e-5);
  check_values<double>(nn::normal<double>(wide, {7}), {0.04297812632762027, -0.9206265196587455, 0.8717393349960371, 0.8118787408375551, 0.1286181742826435, -1.6550690607886078, 0.44251690310038155}, 1e-11);
}

TEST_CASE("normals are JAX's in the tails and next to zero") {
  const auto f = nn::normal<float>(seed, {1000001});
  CHECK(f[{720693}] == doctest::Approx(-4.812556743621826).epsilon(1e-5));
  CHECK(f[{431918}] == doctest::Approx(5.060922145843506).epsilon(1e-5));
  CHECK(std::abs(f[{579960}] / -1.4193633433023933e-06 - 1) < 1e-5);
  const auto d = nn::normal<double>(seed, {1000001});
  CHECK(d[{155425}] == doctest::Approx(-4.710849305858616).epsilon(1e-11));
  CHECK(d[{557429}] == doctest::Approx(4.708639312048937).epsilon(1e-11));
  CHECK(std::abs(d[{227170}] / 1.877836062172195e-06 - 1) < 1e-11);
}

TEST_CASE_TEMPLATE("a million normals are finite and have the moments JAX's have", T, float, double) {
  const auto z = nn::normal<T>(seed, {1000001});
  double mean = 0, square = 0;
  for (const T v : z) mean += v, square += double(v) * v;
  CHECK(mean / 1000001 == doctest::Approx(sizeof(T) == 4 ? 0.0005702159912705553 : 0.0027741354806209784).epsilon(1e-4));
  CHECK(square / 1000001 == doctest::Approx(sizeof(T) == 4 ? 1.0005710655090476 : 1.0005904185339463).epsilon(1e-6));
}

TEST_CASE("a normal of double inverts erf to the last digits") {
  const nn::Index n = 20001;
  const auto u = nn::uniform<double>(wide, {n}, std::nextafter(-1., 0.), 1.), z = nn::normal<double>(wide, {n});
  double worst = 0;
  for (nn::Index i = 0; i < n; ++i) {
    const double x = u.data()[i], y = z.data()[i] / std::sqrt(2.);
    const double residual = std::abs(x) < 0.5 ? std::erf(y) / x - 1 : std::erfc(std::abs(y)) / (1 - std::abs(x)) - 1;
    worst = std::max(worst, std::abs(residual) / (1 + 2 * y * y));  // erfc's own condition
  }
  CHECK(worst < 1e-15);
}

TEST_CASE_TEMPLATE("random numbers have the same bits for any number of threads", T, float, double) {
  const int before = autodiff::threads();
  autodiff::set_threads(1);
  const auto one = nn::normal<T>(wide, {100003});
  for (const int n : {2, 3, 8}) {
    autodiff::set_threads(n);
    CAPTURE(n);
    CHECK(nn::normal<T>(wide, {100003}) == one);
  }
  autodiff::set_threads(before);
}

TEST_CASE("what a key cannot give is refused before there is memory for it") {
  CHECK_THROWS_WITH_AS(nn::split(seed, -1), "split: the number of values must not be negative, got -1", ShapeError);
  CHECK_THROWS_WITH_AS(nn::random_bits32(seed, -2), "random_bits32: the number of values must not be negative, got -2", ShapeError);
  CHECK_THROWS_WITH_AS(nn::random_bits64(seed, -3), "random_bits64: the number of values must not be negative, got -3", ShapeError);
  const nn::Index huge = nn::Index(1) << 32;
  CHECK_THROWS_WITH_AS(nn::random_bits32(seed, huge), "random_bits32: 4294967296 values are more than the 4294967295 that one key gives; split the key", ShapeError);
  CHECK_THROWS_WITH_AS(nn::random_bits64(seed, huge / 2), "random_bits64: 2147483648 values are more than the 2147483647 that one key gives; split the key", ShapeError);
  CHECK_THROWS_WITH_AS(nn::split(seed, std::numeric_limits<nn::Index>::max()), "split: 9223372036854775807 values are more than the 2147483647 that one key gives; split the key", ShapeError);
  CHECK_THROWS_WITH_AS(nn::normal<double>(seed, {1 << 16, 1 << 15}), "normal: 2147483648 values are more than the 2147483647 that one key gives; split the key", ShapeError);
  CHECK_THROWS_WITH_AS(nn::uniform<float>(seed, {1 << 16, 1 << 16}), "uniform: 4294967296 values are more than the 4294967295 that one key gives; split the key", ShapeError);
}

TEST_CASE("a uniform of bounds that are none is refused") {
  const char* const text = "uniform: the bounds must be finite, low below high, and so must their difference; got [{}, {})";
  const auto message = [&](const std::string& low, const std::string& high) {
    std::string m = text;
    m.replace(m.find("{}"), 2, low);
    m.replace(m.find("{}"), 2, high);
    return m;
  };
  CHECK_THROWS_WITH_AS(nn::uniform<double>(seed, {2}, 1, 1), message("1", "1").c_str(), NumericalError);
  CHECK_THROWS_WITH_AS(nn::uniform<double>(seed, {2}, 0, NAN), message("0", "nan").c_str(), NumericalError);
  CHECK_THROWS_WITH_AS(nn::uniform<float>(seed, {2}, 0, INFINITY), message("0", "inf").c_str(), NumericalError);
  CHECK_THROWS_WITH_AS(nn::uniform<double>(seed, {2}, -1e308, 1e308), message("-1e+308", "1e+308").c_str(), NumericalError);
}

TEST_CASE("the keys of a large split differ") {
  std::set<std::array<std::uint32_t, 2>> seen;
  for (const Key& k : nn::split(wide, 10000)) seen.insert(k.words);
  CHECK(seen.size() == 10000);
}
