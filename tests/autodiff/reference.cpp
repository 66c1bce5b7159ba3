// reference.h: a case for every primitive.
#include "linnet/tests/autodiff/reference.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <stdexcept>

using namespace linnet::autodiff;

namespace samples {
namespace {

using Index = linnet::autodiff::Index;
using Shapes = std::span<const Shape>;
using In = std::span<const Numbers>;
using Case = std::function<Expected(const Instruction&, Shapes, In)>;
std::size_t at(Index i) { return static_cast<std::size_t>(i); }

Case elementwise(std::function<long double(const long double*)> f) {
  return [f](const Instruction& c, Shapes, In in) {
    Expected e;
    for (Index i = 0; i < c.shape.size(); ++i) {
      long double x[3] = {};
      for (std::size_t k = 0; k < in.size(); ++k) x[k] = in[k][at(i)];
      e.value.push_back(f(x));
    }
    return e;
  };
}
Case unary(long double (*f)(long double)) {
  return elementwise([f](const long double* x) { return f(x[0]); });
}

// Results that are zeros to which terms are added: add(result, term) as often as a case wants.
struct Sums {
  Expected e;
  explicit Sums(const Shape& s) { e.value.resize(at(s.size())), e.sum.resize(at(s.size())); }
  void add(Index to, long double term) {
    e.value[at(to)] += term;
    e.sum[at(to)] += std::abs(term);
  }
  Expected done(Index terms) {
    e.terms = static_cast<double>(std::max<Index>(terms, 1));
    return e;
  }
};

// [outer, run, inner] around axes.
struct Around {
  Index outer, run, inner;
  Around(const Shape& s, Index first, Index count) : outer(s.size(0, first)), run(s.size(first, first + count)), inner(s.size(first + count, s.rank())) {}
};

Expected sum(const Instruction& c, Shapes s, In in) {
  const Axes& a = std::get<Axes>(c.attributes);
  const Around r(s[0], a.first, a.extents.rank());
  Sums y(c.shape);
  for (Index i = 0; i < s[0].size(); ++i) y.add(i / (r.run * r.inner) * r.inner + i % r.inner, in[0][at(i)]);
  return y.done(r.run);
}
Expected cumsum(const Instruction& c, Shapes s, In in) {
  const Cumulative& a = std::get<Cumulative>(c.attributes);
  const Around r(s[0], a.axis, 1);
  Sums y(c.shape);
  for (Index i = 0; i < s[0].size(); ++i) {
    const Index here = i / r.inner % r.run;
    for (Index k = a.reverse ? here : 0; k <= (a.reverse ? r.run - 1 : here); ++k) y.add(i, in[0][at(i + (k - here) * r.inner)]);
  }
  return y.done(r.run);
}
Expected max(const Instruction& c, Shapes s, In in) {
  const Axes& a = std::get<Axes>(c.attributes);
  const Around r(s[0], a.first, a.extents.rank());
  Expected e;
  for (Index i = 0; i < c.shape.size(); ++i) {
    long double best = -INFINITY;
    for (Index k = 0; k < r.run; ++k) {
      const long double x = in[0][at((i / r.inner * r.run + k) * r.inner + i % r.inner)];
      if (std::isnan(x) || std::isnan(best)) best = NAN;
      else best = std::max(best, x);
    }
    e.value.push_back(best);
  }
  return e;
}
Expected broadcast(const Instruction& c, Shapes, In in) {
  const Axes& a = std::get<Axes>(c.attributes);
  const Around r(c.shape, a.first, a.extents.rank());
  Expected e;
  for (Index i = 0; i < c.shape.size(); ++i) e.value.push_back(in[0][at(i / (r.run * r.inner) * r.inner + i % r.inner)]);
  return e;
}
Expected transpose(const Instruction& c, Shapes s, In in) {
  const Shape& axes = std::get<Permutation>(c.attributes).axes;
  Expected e;
  for (Index i = 0; i < c.shape.size(); ++i) {
    Index from = 0;
    for (Index k = 0; k < axes.rank(); ++k) from += i / c.shape.size(k + 1, axes.rank()) % c.shape[k] * s[0].size(axes[k] + 1, axes.rank());
    e.value.push_back(in[0][at(from)]);
  }
  return e;
}
Expected cut(const Instruction& c, Shapes, In in, bool pads) {
  const Cut& a = std::get<Cut>(c.attributes);
  const Around r(c.shape, a.axis, 1);
  Expected e;
  for (Index i = 0; i < c.shape.size(); ++i) {
    const Index outer = i / (r.run * r.inner), k = i / r.inner % r.run + (pads ? -a.start : a.start), extent = pads ? a.size : a.full;
    e.value.push_back(pads && (k < 0 || k >= a.size) ? 0 : in[0][at((outer * extent + k) * r.inner + i % r.inner)]);
  }
  return e;
}
Expected concatenate(const Instruction& c, Shapes s, In in) {
  const Index axis = std::get<Along>(c.attributes).axis;
  const Around r(c.shape, axis, 1);
  Expected e;
  for (Index i = 0; i < c.shape.size(); ++i) {
    Index k = i / r.inner % r.run;
    std::size_t part = 0;
    while (k >= s[part][axis]) k -= s[part++][axis];
    e.value.push_back(in[part][at((i / (r.run * r.inner) * s[part][axis] + k) * r.inner + i % r.inner)]);
  }
  return e;
}
Expected gather(const Instruction& c, Shapes s, In in) {
  const Index row = s[0].size(1, s[0].rank());
  Expected e;
  for (Index i = 0; i < c.shape.size(); ++i) e.value.push_back(in[0][at(static_cast<Index>(in[1][at(i / row)]) * row + i % row)]);
  return e;
}
Expected scatter_add(const Instruction& c, Shapes s, In in) {
  const Index row = s[0].size(1, s[0].rank());
  Sums y(c.shape);
  for (Index i = 0; i < s[0].size(); ++i) y.add(static_cast<Index>(in[1][at(i / row)]) * row + i % row, in[0][at(i)]);
  return y.done(s[0][0]);
}
Expected dot(const Instruction& c, Shapes s, In in) {
  const auto [ta, tb] = std::get<DotFlags>(c.attributes);
  const Index m = c.shape[-2], n = c.shape[-1], k = s[0][ta ? -2 : -1];
  Sums y(c.shape);
  for (Index i = 0; i < c.shape.size(); ++i)
    for (Index p = 0, l = i / (m * n), r = i / n % m, q = i % n; p < k; ++p) y.add(i, in[0][at(l * m * k + (ta ? p * m + r : r * k + p))] * in[1][at(l * k * n + (tb ? q * k + p : p * n + q))]);
  return y.done(k + 1);
}

// f(an element of the image, an element of the patches) for every tap inside of its image.
template <class F> void each_tap(const Window& w, Index n, Index channels, F f) {
  auto place = [&](const WindowAxis& a, Index p, Index k) {
    Index i = p * a.stride + k * a.dilation - a.before;
    if (w.circular) i = (i % a.extent + a.extent) % a.extent;
    return i < 0 || i >= a.extent ? Index(-1) : i;
  };
  Index to = 0;
  for (Index i = 0; i < n; ++i)
    for (Index p = 0; p < w.height.places; ++p)
      for (Index q = 0; q < w.width.places; ++q)
        for (Index u = 0; u < w.height.size; ++u)
          for (Index v = 0; v < w.width.size; ++v)
            for (Index c = 0; c < channels; ++c, ++to)
              if (const Index r = place(w.height, p, u), s = place(w.width, q, v); r >= 0 && s >= 0) f(((i * w.height.extent + r) * w.width.extent + s) * channels + c, to);
}
Expected patches(const Instruction& c, Shapes s, In in) {
  Expected e;
  e.value.resize(at(c.shape.size()));
  each_tap(std::get<Window>(c.attributes), s[0][0], s[0][3], [&](Index image, Index patch) { e.value[at(patch)] = in[0][at(image)]; });
  return e;
}
Expected unpatches(const Instruction& c, Shapes s, In in) {
  const Window& w = std::get<Window>(c.attributes);
  Sums y(c.shape);
  each_tap(w, s[0][0], c.shape[3], [&](Index image, Index patch) { y.add(image, in[0][at(patch)]); });
  return y.done(w.height.size * w.width.size * w.height.places * w.width.places);
}

// As products of what windows see, zeros where that is padding.
Expected conv(const Instruction& c, Shapes s, In in) {
  const Index f = c.shape[3], k = s[1][0];
  Instruction seen = c;
  seen.shape = c.shape.with(3, k);
  const Numbers x = patches(seen, s, in).value;
  Sums y(c.shape);
  for (Index i = 0; i < c.shape.size(); ++i)
    for (Index p = 0; p < k; ++p) y.add(i, x[at(i / f * k + p)] * in[1][at(p * f + i % f)]);
  return y.done(k + 1);
}
Expected conv_images(const Instruction& c, Shapes s, In in) {
  const Window& w = std::get<Window>(c.attributes);
  const Index f = s[0][3], k = s[1][0];
  Sums y(c.shape);
  each_tap(w, s[0][0], c.shape[3], [&](Index image, Index patch) {
    for (Index j = 0; j < f; ++j) y.add(image, in[0][at(patch / k * f + j)] * in[1][at(patch % k * f + j)]);
  });
  return y.done((w.height.size * w.width.size * w.height.places * w.width.places + 1) * (f + 1));
}
Expected conv_weights(const Instruction& c, Shapes s, In in) {
  const Index f = c.shape[1], k = c.shape[0], places = s[1].size(0, 3);
  Instruction seen = c;
  seen.shape = s[1].with(3, k);
  const Numbers x = patches(seen, s, in).value;
  Sums y(c.shape);
  for (Index i = 0; i < c.shape.size(); ++i)
    for (Index p = 0; p < places; ++p) y.add(i, x[at(p * k + i / f)] * in[1][at(p * f + i % f)]);
  return y.done(places + 1);
}

Expected lower_triangle(const Instruction& c, Shapes, In in) {
  const long double d = std::get<double>(c.attributes);
  const Index n = c.shape[-1];
  Expected e;
  for (Index i = 0; i < c.shape.size(); ++i) {
    const Index row = i / n % n, column = i % n;
    e.value.push_back(column > row ? 0 : column == row ? d * in[0][at(i)] : in[0][at(i)]);
  }
  return e;
}
// The factor by its definition. Its error is bounded where the matrices are: their diagonals are above 1 and what is off them is small.
Expected cholesky(const Instruction& c, Shapes, In in) {
  const Index n = c.shape[-1];
  Sums y(c.shape);
  for (Index first = 0; first < c.shape.size(); first += n * n) {
    auto l = [&](Index i, Index j) -> long double& { return y.e.value[at(first + i * n + j)]; };
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j <= i; ++j) {
        long double s = in[0][at(first + i * n + j)], all = std::abs(s);
        for (Index k = 0; k < j; ++k) s -= l(i, k) * l(j, k), all += std::abs(l(i, k) * l(j, k));
        l(i, j) = i == j ? std::sqrt(s) : s / l(j, j);
        y.e.sum[at(first + i * n + j)] = all / l(j, j) * (1 + all / (l(j, j) * l(j, j)));
      }
  }
  return y.done(4 * n);
}
// Beside the solution that of the comparison matrix, |diagonal| - |the rest|, for absolute right sides: it bounds the error componentwise (Higham, Accuracy and Stability
// of Numerical Algorithms, theorem 8.10).
Expected triangular_solve(const Instruction& c, Shapes, In in) {
  const bool transposed = std::get<Triangular>(c.attributes).transpose;
  const Index n = c.shape[-2], k = c.shape[-1];
  Sums y(c.shape);
  for (Index m = 0, count = c.shape.size(0, c.shape.rank() - 2); m < count; ++m)
    for (Index column = 0; column < k; ++column)
      for (Index step = 0; step < n; ++step) {
        const Index i = transposed ? n - 1 - step : step;
        long double s = in[1][at((m * n + i) * k + column)], all = std::abs(s);
        for (Index before = 0; before < step; ++before) {
          const Index j = transposed ? n - 1 - before : before, from = (m * n + j) * k + column;
          const long double l = in[0][at(m * n * n + (transposed ? j * n + i : i * n + j))];
          s -= l * y.e.value[at(from)];
          all += std::abs(l) * y.e.sum[at(from)];
        }
        const long double d = in[0][at(m * n * n + i * n + i)];
        y.e.value[at((m * n + i) * k + column)] = s / d;
        y.e.sum[at((m * n + i) * k + column)] = all / std::abs(d);
      }
  return y.done(2 * (n + 1));
}

const std::map<std::string_view, Case>& cases() {
  static const std::map<std::string_view, Case> all = {
      {"add", elementwise([](const long double* x) { return x[0] + x[1]; })},
      {"sub", elementwise([](const long double* x) { return x[0] - x[1]; })},
      {"mul", elementwise([](const long double* x) { return x[0] * x[1]; })},
      {"div", elementwise([](const long double* x) { return x[0] / x[1]; })},
      {"pow", elementwise([](const long double* x) { return std::pow(x[0], x[1]); })},
      {"where", elementwise([](const long double* x) { return x[0] != 0 ? x[1] : x[2]; })},
      {"neg", unary([](long double x) { return -x; })},
      {"step", unary([](long double x) { return x > 0 ? 1.0l : 0.0l; })},
      {"sign", unary([](long double x) { return std::isnan(x) ? x : x > 0 ? 1.0l : x < 0 ? -1.0l : 0.0l; })},
      {"stop_gradient", unary([](long double x) { return x; })},
      {"exp", unary(std::exp)}, {"log", unary(std::log)}, {"sqrt", unary(std::sqrt)}, {"sin", unary(std::sin)}, {"cos", unary(std::cos)}, {"erf", unary(std::erf)},
      {"erfc", unary(std::erfc)}, {"expm1", unary(std::expm1)}, {"log1p", unary(std::log1p)}, {"tanh", unary(std::tanh)},
      {"scale", [](const Instruction& c, Shapes s, In in) { return elementwise([k = static_cast<long double>(std::get<double>(c.attributes))](const long double* x) { return k * x[0]; })(c, s, in); }},
      {"reshape", [](const Instruction&, Shapes, In in) { return Expected{in[0], {}, 0}; }},
      {"fill", [](const Instruction& c, Shapes, In) { return Expected{Numbers(at(c.shape.size()), std::get<Fill>(c.attributes).value), {}, 0}; }},
      {"slice", [](const Instruction& c, Shapes s, In in) { return cut(c, s, in, false); }},
      {"pad", [](const Instruction& c, Shapes s, In in) { return cut(c, s, in, true); }},
      {"sum", sum}, {"max", max}, {"cumsum", cumsum}, {"broadcast", broadcast}, {"transpose", transpose}, {"concatenate", concatenate}, {"gather", gather},
      {"scatter_add", scatter_add}, {"dot", dot}, {"patches", patches}, {"unpatches", unpatches}, {"conv", conv}, {"conv_images", conv_images}, {"conv_weights", conv_weights}, {"lower_triangle", lower_triangle}, {"cholesky", cholesky},
      {"triangular_solve", triangular_solve},
  };
  return all;
}

}  // namespace

Expected expected(const Instruction& given, std::span<const Shape> shapes, std::span<const Numbers> in, bool in_double) {
  Instruction c = given;
  if (double* const number = std::get_if<double>(&c.attributes); number && !in_double) *number = static_cast<float>(*number);
  if (Fill* const fill = std::get_if<Fill>(&c.attributes); fill && !in_double) fill->value = static_cast<float>(fill->value);
  const auto found = cases().find(c.primitive->name);
  if (found == cases().end()) throw std::logic_error(std::string(c.primitive->name) + " has no reference in tests/autodiff/reference.cpp");
  return found->second(c, shapes, in);
}

// In units in the last place. What is not listed is exact.
double ulps_allowed(std::string_view primitive, bool in_double) {
  static const std::map<std::string_view, std::pair<double, double>> table = {  // in double, in float
      {"add", {.5, .5}}, {"sub", {.5, .5}}, {"mul", {.5, .5}}, {"div", {.5, .5}}, {"scale", {.5, .5}}, {"sqrt", {.5, .5}}, {"lower_triangle", {.5, .5}}, {"pow", {1, 1}}, {"exp", {2, 6}},
      {"log", {1.5, 6}}, {"log1p", {1.5, 6}}, {"expm1", {1.5, 6}}, {"erf", {1.5, 6}}, {"erfc", {1.5, 6}}, {"sin", {1.5, 6}}, {"cos", {1.5, 6}}, {"tanh", {2.5, 6}}};
  const auto found = table.find(primitive);
  return found == table.end() ? 0 : in_double ? found->second.first : found->second.second;
}

}  // namespace samples
