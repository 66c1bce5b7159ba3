#include "linnet/autodiff/testing.h"

#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/ops/families.h"

#include <cmath>
#include <limits>
#include <random>

namespace linnet::autodiff {
namespace {

using Arrays = std::vector<Array<double>>;

template <class T> std::vector<Array<T>> in_width(const Arrays& x) {
  std::vector<Array<T>> y;
  for (const Array<double>& a : x) y.push_back(cast<T>(a));
  return y;
}
template <class T> Views<T> views(const std::vector<Array<T>>& x) { return {x.begin(), x.end()}; }
std::vector<Shape> shapes(const Arrays& x) {
  std::vector<Shape> s;
  for (const auto& a : x) s.push_back(a.shape());
  return s;
}

double uniform(std::mt19937_64& random) { return static_cast<double>(random() >> 11) * 0x1p-52 - 1; }  // in [-1, 1), the same everywhere
Arrays directions(std::span<const Shape> like, std::mt19937_64& random, Index lanes = -1) {
  Arrays d;
  for (const Shape& s : like) {
    d.emplace_back(lanes < 0 ? s : s.inserted(0, std::array{lanes}));
    for (double& v : d.back()) v = static_cast<float>(uniform(random));  // exact in both widths
  }
  return d;
}

template <class T> double inner(const std::vector<Array<T>>& a, const std::vector<Array<T>>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += dot(cast<double>(a[i]), cast<double>(b[i]));
  return sum;
}
template <class T> double largest(const std::vector<Array<T>>& a) {
  double m = 0;
  for (const auto& x : a) {
    const double v = max_abs(x);
    if (v > m || std::isnan(v)) m = v;  // a NaN stays
  }
  return m;
}
template <class A, class B> double difference(const std::vector<Array<A>>& a, const std::vector<Array<B>>& b) {
  double m = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (const double d = max_abs(cast<double>(a[i]) - cast<double>(b[i])); d > m || std::isnan(d)) m = d;
  return m;
}
template <class T> std::vector<Array<T>> magnitudes(std::vector<Array<T>> a) {
  for (auto& x : a) for (T& v : x) v = std::abs(v);
  return a;
}

// A linear program on absolute values: its result bounds the sum of the absolute values of everything that is added up.
std::vector<Var> absolute(const Program& p, std::span<const Var> in, const std::vector<char>& is_linear) {
  std::vector<Var> x(in.begin(), in.end());
  std::vector<char> linear = is_linear;
  for (const auto& c : p.constants) x.push_back(std::visit([](const auto& array) { return constant(array); }, c->values));
  linear.resize(x.size(), 0);
  Tape* const tape = newest(in);
  for (const Instruction& c : p.code) {
    std::vector<Var> operands;
    std::vector<char> which;
    bool depends = false;
    for (const int u : c.in) {
      const auto i = static_cast<std::size_t>(u);
      depends |= linear[i] != 0;
      which.push_back(linear[i]);
      operands.push_back(x[i]);
    }
    linear.push_back(depends);
    if (depends && c.primitive == &call_primitive()) {
      const Body& call = std::get<Body>(c.attributes);
      const Program& body = *call.program;
      if (call.loop) {  // a loop of absolute steps; its states are linear even where they start from zero
        for (std::size_t i = 0; i < which.size(); ++i) which[i] |= call.loop->roles[i] == Role::state;
        const auto steps = std::make_shared<const Program>(trace([&](std::span<const Var> v) { return absolute(body, v, which); }, body.inputs));
        x.push_back(emit(call_primitive(), operands, Body{steps, call.loop, nullptr}));
        continue;
      }
      std::vector<Var> parts = absolute(body, operands, which);
      for (Var& part : parts) part = parts.size() > 1 ? reshape(part, {part.shape().size()}) : part;
      x.push_back(parts.size() > 1 ? concatenate(parts, 0) : parts[0]);
      continue;
    }
    if (depends)
      for (std::size_t i = 0; i < operands.size(); ++i)
        if (!which[i] && c.primitive->operands[i] != Operand::fixed) operands[i] = abs(operands[i]);
    // The inverse of absolute values is no bound of the inverse; that of the comparison matrix, |diagonal| - |the rest|, is.
    if (depends && c.primitive->name == "triangular_solve" && !which[0]) operands[0] = -lower_triangle(operands[0], -1);
    if (!depends) x.push_back(tape->emit(*c.primitive, operands, c.attributes));
    else if (c.primitive->name == "sub") x.push_back(operands[0] + operands[1]);
    else if (c.primitive->name == "neg") x.push_back(operands[0]);
    else if (c.primitive == &scale_primitive()) x.push_back(std::abs(std::get<double>(c.attributes)) * operands[0]);
    else x.push_back(emit(*c.primitive, operands, c.attributes));
  }
  std::vector<Var> out;
  for (const int v : p.outputs) out.push_back(x[static_cast<std::size_t>(v)]);
  return out;
}

struct Checker {
  const Function& f;
  const Arrays& x;
  const DerivativeCheck& options;
  std::string prefix;
  std::vector<std::string>& found;
  std::mt19937_64 random;

  void count() const {
    if (options.checks) ++*options.checks;
  }
  void expect(double error, double bound, std::string what) {
    count();
    if (!(error <= bound)) found.push_back(fmt::format("{}{}: {:.3g} came, at most {:.3g} was expected (seed {})", prefix, what, error, bound, options.seed));
  }

  void differences() {
    const Arrays u = directions(shapes(x), random);
    const FlatFunction<double> value(f, shapes(x));
    const FlatLinearMap<double> map(f, views(x), {});
    const Arrays tangent = map.jvp(views(u), -1);
    const double h = 1e-3 * std::max(1.0, largest(x) / 8);
    auto at = [&](double k) {
      Arrays moved = x;
      for (std::size_t i = 0; i < x.size(); ++i)
        for (Index j = 0; j < x[i].size(); ++j) moved[i].data()[j] += k * h * u[i].data()[j];
      return value(views(moved));
    };
    Arrays sum;
    double magnitude = 0;
    for (const auto& [k, weight] : {std::pair{1., 45.}, {2., -9.}, {3., 1.}}) {
      const Arrays ahead = at(k), behind = at(-k);
      magnitude = std::max({magnitude, largest(ahead), largest(behind)});
      for (std::size_t i = 0; i < ahead.size(); ++i) {
        const Array<double> step = (weight / (60 * h)) * (ahead[i] - behind[i]);
        if (sum.size() <= i) sum.push_back(step); else sum[i] = sum[i] + step;
      }
    }
    const double noise = 64 * std::numeric_limits<double>::epsilon() * magnitude / h;  // of the differences themselves
    expect(difference(sum, tangent), options.difference * largest(tangent) + noise, "jvp against differences");
  }

  // The absolute program of a derivative at x, applied to magnitudes of a direction.
  template <class T> std::vector<Array<T>> bound(const Program& program, std::size_t n_linear, const std::vector<Array<T>>& direction, const std::vector<Array<T>>& residuals) {
    std::vector<Array<T>> in = magnitudes(direction);
    in.insert(in.end(), residuals.begin(), residuals.end());
    std::vector<Shape> s;
    for (const auto& a : in) s.push_back(a.shape());
    std::vector<char> linear(in.size(), 0);
    std::fill_n(linear.begin(), n_linear, 1);
    return FlatFunction<T>([&](std::span<const Var> v) { return absolute(program, v, linear); }, s)(views(in));
  }

  template <class T> void adjoint(const char* width) {
    const double eps = std::numeric_limits<T>::epsilon();
    const std::vector<Array<T>> point = in_width<T>(x);
    const FlatLinearMap<T> map(f, views(point), {});
    std::vector<Shape> out;
    for (const auto& y : map.value()) out.push_back(y.shape());
    const Arrays u64 = directions(shapes(x), random), v64 = directions(out, random);
    const std::vector<Array<T>> u = in_width<T>(u64), v = in_width<T>(v64);
    const std::vector<Array<T>> ju = map.jvp(views(u), -1), jtv = map.vjp(views(v), -1);
    const std::vector<Array<T>> forward = bound(map.program(), u.size(), u, map.residuals());
    const double S = inner(magnitudes(v), forward);
    expect(std::abs(inner(v, ju) - inner(jtv, u)), options.adjoint * eps * S, fmt::format("adjoint identity in {}", width));

    const std::vector<Array<T>> again = map.jvp(views(u), -1), back = map.vjp(views(v), -1);
    bool equal = again.size() == ju.size();
    for (std::size_t i = 0; i < ju.size(); ++i) equal &= std::equal(ju[i].begin(), ju[i].end(), again[i].begin(), [](T a, T b) { return a == b || (std::isnan(a) && std::isnan(b)); });
    for (std::size_t i = 0; i < jtv.size(); ++i) equal &= std::equal(jtv[i].begin(), jtv[i].end(), back[i].begin(), [](T a, T b) { return a == b || (std::isnan(a) && std::isnan(b)); });
    count();
    if (!equal) found.push_back(fmt::format("{}a second replay in {} has other bits", prefix, width));

    std::vector<Array<T>> zero = v;
    for (auto& z : zero) std::fill(z.begin(), z.end(), T(0));
    expect(largest(map.vjp(views(zero), -1)), 0, fmt::format("vjp of zero in {}", width));
    if constexpr (std::same_as<T, float>) {  // the double derivative at the same point
      const Arrays same = [&] { Arrays p; for (const auto& a : point) p.push_back(cast<double>(a)); return p; }();
      const Arrays exact = FlatLinearMap<double>(f, views(same), {}).jvp(views(u64), -1);
      expect(difference(ju, exact), 10 * std::sqrt(eps) * std::max(largest(exact), largest(forward)), "float against double");
    }
    linearity<T>(map, out, width);
    lanes<T>(map, out, width);
  }

  // Of u / 2 - 2 w against those of u and w.
  template <class T> void linearity(const FlatLinearMap<T>& map, std::span<const Shape> out, const char* width) {
    const double eps = std::numeric_limits<T>::epsilon();
    for (const bool forward : {true, false}) {
      const std::vector<Shape> in = forward ? shapes(x) : std::vector<Shape>(out.begin(), out.end());
      const std::vector<Array<T>> u = in_width<T>(directions(in, random)), w = in_width<T>(directions(in, random));
      std::vector<Array<T>> both, size;
      for (std::size_t i = 0; i < u.size(); ++i) {
        both.push_back(T(0.5) * u[i] - T(2) * w[i]);
        size.push_back(T(0.5) * magnitudes(u)[i] + T(2) * magnitudes(w)[i]);
      }
      const auto apply = [&](const std::vector<Array<T>>& t) { return forward ? map.jvp(views(t), -1) : map.vjp(views(t), -1); };
      const std::vector<Array<T>> y = apply(both), v = in_width<T>(directions(forward ? std::vector<Shape>(out.begin(), out.end()) : shapes(x), random));
      const double S = inner(magnitudes(v), bound(forward ? map.program() : map.transpose_program(), in.size(), size, map.residuals()));
      expect(std::abs(inner(v, y) - (0.5 * inner(v, apply(u)) - 2 * inner(v, apply(w)))), options.adjoint * eps * S, fmt::format("linearity of {} in {}", forward ? "jvp" : "vjp", width));
    }
  }

  template <class T> void lanes(const FlatLinearMap<T>& map, std::span<const Shape> out, const char* width) {
    const double eps = std::numeric_limits<T>::epsilon();
    const Index k = options.lanes;
    for (const bool forward : {true, false}) {
      const std::vector<Shape> in = forward ? shapes(x) : std::vector<Shape>(out.begin(), out.end());
      const std::vector<Array<T>> many = in_width<T>(directions(in, random, k));
      const std::vector<Array<T>> swept = forward ? map.jvp(views(many), k) : map.vjp(views(many), k);
      for (Index l = 0; l < k; ++l) {
        std::vector<Array<T>> one, part;
        for (std::size_t i = 0; i < in.size(); ++i) one.push_back(many[i].rows(l, 1).reshaped(in[i]));
        const std::vector<Array<T>> single = forward ? map.jvp(views(one), -1) : map.vjp(views(one), -1);
        for (std::size_t i = 0; i < single.size(); ++i) part.push_back(swept[i].rows(l, 1).reshaped(single[i].shape()));
        const std::vector<Array<T>> scale = bound(forward ? map.program() : map.transpose_program(), in.size(), one, map.residuals());
        expect(difference(part, single), 8 * eps * largest(scale), fmt::format("lane {} of {} in {} against a single one", l, forward ? "jvp" : "vjp", width));
      }
    }
  }

  void run() {
    if (options.differences) differences();
    adjoint<double>("double");
    adjoint<float>("float");
  }
};

void check(const Function& f, const Arrays& x, const DerivativeCheck& options, const std::string& prefix, std::vector<std::string>& found) {
  if (trace(f, shapes(x)).outputs.empty()) return;
  Checker checker{f, x, options, prefix, found, std::mt19937_64(options.seed)};
  checker.run();
  if (options.order <= 1) return;
  std::mt19937_64 random(options.seed + 1);
  const FlatFunction<double> value(f, shapes(x));
  std::vector<Shape> out;
  for (const int v : value.program().outputs) out.push_back(value.program().shape(v));
  DerivativeCheck less = options;
  less.order = options.order - 1;
  auto constants = [](const Arrays& a) {
    std::vector<Var> c;
    for (const auto& array : a) c.push_back(constant(array));
    return c;
  };
  const std::vector<Var> u = constants(directions(shapes(x), random)), v = constants(directions(out, random));
  check([&](std::span<const Var> in) { return push_forward(linearize(f, in), u); }, x, less, prefix + "of jvp: ", found);
  check([&](std::span<const Var> in) { return pull_back(linearize(f, in), in, v); }, x, less, prefix + "of vjp: ", found);
}

}  // namespace

std::vector<std::string> check_derivatives(const Function& f, const std::vector<Array<double>>& x, const DerivativeCheck& options) {
  std::vector<std::string> found;
  check(f, x, options, "", found);
  return found;
}

}  // namespace linnet::autodiff
