// Values of every primitive against its reference in long double (reference.h): every instruction of the programs of the table and of their derivatives, at points drawn anew; sizes
// around those of vectors, of every primitive; every edge of the numbers; and where a NaN goes, as a table.
#include "linnet/tests/autodiff/reference.h"
#include "linnet/tests/autodiff/sized.h"

#include <set>

using namespace linnet::autodiff;
using samples::Arrays, samples::Expected, samples::infinity, samples::Numbers, samples::Row, samples::same_bits, samples::Values;

namespace {

const double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr unsigned seeds = 5;
constexpr Index largest = 64;  // values of an array that is drawn anew

bool small(const Row& row) { return std::all_of(row.x.begin(), row.x.end(), [](const Array<double>& a) { return a.size() <= largest; }); }

template <class T> Arrays<T> run(const Program& p, const Arrays<T>& in) {
  Executor<T> executor(std::make_shared<const Program>(p));
  Arrays<T> out;
  std::vector<const T*> from;
  std::vector<T*> to;
  for (const int v : p.outputs) out.emplace_back(p.shape(v));
  for (const Array<T>& a : in) from.push_back(a.data());
  for (Array<T>& a : out) to.push_back(a.data());
  executor.run(from, to);
  return out;
}

template <class T> Array<T> packed(const Arrays<T>& parts, const Shape& shape) {
  Array<T> all(shape);
  auto to = all.begin();
  for (const Array<T>& a : parts) to = std::copy(a.begin(), a.end(), to);
  return all;
}
// A call by its definition: its body, once or step by step.
template <class T> Array<T> called(const Instruction& c, const Arrays<T>& in) {
  const Body& body = std::get<Body>(c.attributes);
  if (!body.loop) return packed(run<T>(*body.program, in), c.shape);
  const Loop& loop = *body.loop;
  Arrays<T> step = in, stacked;
  std::vector<std::size_t> states;
  for (std::size_t i = 0; i < in.size(); ++i)
    if (loop.roles[i] == Role::state) states.push_back(i);
  const std::vector<Shape> results = results_of(body);
  for (std::size_t k = states.size(); k < results.size(); ++k) stacked.emplace_back(results[k]);
  for (Index s = 0; s < loop.length; ++s) {
    const Index at = loop.reverse ? loop.length - 1 - s : s;
    for (std::size_t i = 0; i < in.size(); ++i)
      if (loop.roles[i] == Role::sliced) step[i] = in[i].rows(at, 1).reshaped(body.program->inputs[i]);
    const Arrays<T> out = run<T>(*body.program, step);
    for (std::size_t k = 0; k < out.size(); ++k)
      if (k < states.size()) step[states[k]] = out[k];
      else std::copy(out[k].begin(), out[k].end(), stacked[k - states.size()].begin() + at * out[k].size());
  }
  Arrays<T> all;
  for (const std::size_t i : states) all.push_back(step[i]);
  all.insert(all.end(), stacked.begin(), stacked.end());
  return packed(all, c.shape);
}

// How far a value is from what was expected, in units of what is allowed: above 1 it is wrong.
template <class T> double excess(T came, const Expected& e, std::size_t i, double ulps) {
  const long double exact = e.value[i];
  const T nearest = static_cast<T>(exact);
  if (!std::isfinite(nearest) || !std::isfinite(came)) return std::isnan(came) == std::isnan(nearest) && (std::isnan(came) || came == nearest) ? 0 : infinity;
  const auto error = static_cast<double>(std::abs(static_cast<long double>(came) - exact));
  constexpr double normal = std::numeric_limits<T>::min();  // below it some functions answer 0
  if (!e.sum.empty()) return error / (samples::eps<T> * e.terms * static_cast<double>(e.sum[i]) + normal);
  if (std::abs(nearest) < std::numeric_limits<T>::min()) return ulps == 0 || ulps == .5 ? (error <= normal * samples::eps<T> / 2 ? 0 : infinity) : error / normal;
  return came == nearest ? 0 : samples::ulps(came, exact) / ulps;
}

struct Tally {
  std::set<std::string_view> primitives;
  std::size_t values = 0;
};

// Every instruction of the program, on the values its operands had in the run.
template <class T> void check_values(const Program& program, const Arrays<T>& in, Tally& tally) {
  Program p = program;
  p.outputs.clear();
  for (int v = p.n_inputs(); v < p.n_values(); ++v) p.outputs.push_back(v);
  Arrays<T> values = in, rest = run<T>(p, in);
  values.insert(values.end(), rest.begin(), rest.end());
  for (int v = p.first_instruction(); v < p.n_values(); ++v) {
    const Instruction& c = p.instruction(v);
    const Array<T>& came = values[static_cast<std::size_t>(v)];
    CAPTURE(std::string(c.primitive->name));
    Arrays<T> operands;
    for (const int u : c.in) operands.push_back(values[static_cast<std::size_t>(u)]);
    tally.primitives.insert(c.primitive->name);
    tally.values += static_cast<std::size_t>(came.size());
    if (c.primitive->name == "call") {
      CHECK_MESSAGE(same_bits(came, called<T>(c, operands)), "a call is not its body");
      if (!std::get<Body>(c.attributes).loop) check_values<T>(*std::get<Body>(c.attributes).program, operands, tally);
      continue;
    }
    std::vector<Numbers> numbers;
    for (const Array<T>& a : operands) numbers.emplace_back(a.begin(), a.end());
    const Expected e = samples::expected(c, p.operand_shapes(c), numbers, std::same_as<T, double>);
    const double ulps = samples::ulps_allowed(c.primitive->name, std::same_as<T, double>);
    REQUIRE(e.value.size() == static_cast<std::size_t>(came.size()));
    double worst = 0;
    for (std::size_t i = 0; i < e.value.size(); ++i) worst = std::max(worst, excess(came.data()[i], e, i, ulps));
    CHECK_MESSAGE(worst <= 1, std::string(c.primitive->name), " of ", str(c.shape), " is wrong by ", worst, " times what is allowed");
  }
}

// The value, the derivative and its transpose.
template <class T> void check_row(const Row& row, Tally& tally) {
  const Arrays<T> x = samples::cast_all<T>(row.x);
  const FlatLinearMap<T> map(row.f, {x.begin(), x.end()}, {});
  check_values<T>(trace(row.f, samples::shapes(x)), x, tally);
  Arrays<T> tangents, cotangents;
  for (const Array<T>& a : x) tangents.push_back(samples::random<T>(a.shape(), 91));
  for (const Array<T>& a : map.value()) cotangents.push_back(samples::random<T>(a.shape(), 92));
  for (Arrays<T>* in : {&tangents, &cotangents}) in->insert(in->end(), map.residuals().begin(), map.residuals().end());
  check_values<T>(map.program(), tangents, tally);
  check_values<T>(map.transpose_program(), cotangents, tally);
}

std::set<std::string_view> names() {
  std::set<std::string_view> all;
  for (const Primitive* p : primitives()) all.insert(p->name);
  return all;
}

template <class T> std::vector<T> edges() {
  using Limits = std::numeric_limits<T>;
  std::vector<T> all{T(0), T(.5), T(.49), T(.99), T(1), T(1.01), T(1.3), T(2), T(3), T(30), T(1000), Limits::epsilon(), Limits::denorm_min(), Limits::min(), Limits::max(), Limits::infinity()};
  for (std::size_t i = 0, n = all.size(); i < n; ++i) all.push_back(-all[i]);
  all.push_back(Limits::quiet_NaN());
  return all;
}

// Every combination of the edges, as operands of one primitive.
template <class T> Arrays<T> combinations(std::size_t operands) {
  const std::vector<T> e = edges<T>();
  Index n = 1;
  for (std::size_t k = 0; k < operands; ++k) n *= static_cast<Index>(e.size());
  Arrays<T> all;
  for (Index stride = 1; all.size() < operands; stride *= static_cast<Index>(e.size())) {
    all.emplace_back(Shape{n});
    for (Index i = 0; i < n; ++i) all.back().data()[i] = e[static_cast<std::size_t>(i / stride) % e.size()];
  }
  return all;
}

}  // namespace

TEST_CASE_TEMPLATE("every instruction of the table and of its derivatives has the value of its reference, at points drawn anew", T, float, double) {
  Tally tally;
  for (unsigned seed = 0; seed < seeds; ++seed) {
    samples::stream = seed;
    const samples::Table table = samples::all_rows();
    samples::stream = 0;
    for (const auto& [name, rows] : table)
      for (const Row& row : rows) {
        if (seed > 0 && !small(row)) continue;
        INFO("seed ", seed);
        CAPTURE(std::string(name));
        CAPTURE(row.what);
        check_row<T>(row, tally);
      }
  }
  CHECK(tally.primitives == names());
  MESSAGE("seeds 0 to ", seeds - 1, ": ", tally.values, " values");
}

TEST_CASE_TEMPLATE("every primitive has the value of its reference at sizes around those of vectors, of nothing and of a scalar", T, float, double) {
  for (const std::string_view name : names()) {
    CAPTURE(std::string(name));
    Tally tally;
    for (const Index n : {-1, 0, 1, 7, 8, 9, 15, 16, 17, 257}) {
      CAPTURE(n);
      check_row<T>(samples::sized(name, n), tally);
    }
    for (const Row& row : samples::further(name)) {
      CAPTURE(row.what);
      check_row<T>(row, tally);
    }
    CHECK(tally.primitives.contains(name));
  }
}

TEST_CASE_TEMPLATE("every elementwise primitive has the value of the mathematics at every combination of zeros, infinities, NaN and the smallest and largest numbers", T, float, double) {
  int checked = 0;
  for (const Primitive* p : primitives()) {
    if (!p->map.exists() || p->name == "fill") continue;
    ++checked;
    CAPTURE(std::string(p->name));
    const Row row = samples::sized(p->name, 3);
    Arrays<T> x = combinations<T>(row.x.size());
    if (p->name == "sin" || p->name == "cos")  // one period is less than the spacing of the numbers
      for (T& v : x[0])
        if (std::isfinite(v) && std::abs(v) > 1e5) v = 0;
    const Array<T> came = samples::run<T>(row.f, x)[0];
    const Program program = trace(row.f, samples::shapes(x));
    const Instruction& c = program.code.back();
    REQUIRE(c.primitive == p);
    std::vector<Numbers> numbers;
    for (const Array<T>& a : x) numbers.emplace_back(a.begin(), a.end());
    const Expected e = samples::expected(c, samples::shapes(x), numbers, std::same_as<T, double>);
    const double ulps = samples::ulps_allowed(p->name, std::same_as<T, double>);
    for (Index i = 0; i < came.size(); ++i)
      if (const double worst = excess(came.data()[i], e, static_cast<std::size_t>(i), ulps); worst > 1) {
        std::string at;
        for (const Array<T>& a : x) at += std::to_string(a.data()[i]) + " (" + std::to_string(std::ilogb(a.data()[i])) + ") ";
        FAIL_CHECK(std::string(p->name), " at ", at, "is ", came.data()[i], ", expected ", static_cast<double>(e.value[static_cast<std::size_t>(i)]));
      }
  }
  CHECK(checked == 21);
}

// Where a NaN in an operand goes, a letter for each: c, it is carried from everywhere into the result; s, what is selected of it is; n, the result does not know it; r, it is refused
// with a NumericalError; f, of a factor: refused, or carried from below the diagonal, and above not read. Infinities are carried as the reference does.
const std::map<std::string_view, std::string> nan_policy = {
    {"add", "cc"}, {"sub", "cc"}, {"mul", "cc"}, {"div", "cc"}, {"pow", "cc"}, {"neg", "c"}, {"scale", "c"}, {"exp", "c"}, {"log", "c"}, {"sqrt", "c"}, {"sin", "c"}, {"cos", "c"},
    {"erf", "c"}, {"erfc", "c"}, {"expm1", "c"}, {"log1p", "c"}, {"tanh", "c"}, {"step", "n"}, {"sign", "c"}, {"stop_gradient", "c"}, {"fill", "n"}, {"where", "nss"}, {"dot", "cc"},
    {"sum", "c"}, {"max", "c"}, {"cumsum", "c"}, {"broadcast", "c"}, {"reshape", "c"}, {"transpose", "c"}, {"slice", "s"}, {"pad", "c"}, {"concatenate", "cc"}, {"gather", "cr"},
    {"scatter_add", "cr"}, {"patches", "c"}, {"unpatches", "s"}, {"conv", "cc"}, {"conv_images", "cc"}, {"conv_weights", "cc"}, {"lower_triangle", "s"}, {"cholesky", "f"}, {"triangular_solve", "fc"}, {"call", "cc"}};

TEST_CASE_TEMPLATE("a NaN or an infinity in an operand goes where the table of every primitive says, and is nowhere lost", T, float, double) {
  for (const std::string_view name : names()) {
    CAPTURE(std::string(name));
    REQUIRE_MESSAGE(nan_policy.contains(name), std::string(name), " has no line in the table of NaN");
    const std::string& policy = nan_policy.at(name);
    const Row row = samples::sized(name, 9);
    REQUIRE(policy.size() == row.x.size());
    const Arrays<T> x = samples::cast_all<T>(row.x);
    const Program program = trace(row.f, samples::shapes(x));
    for (std::size_t k = 0; k < x.size(); ++k)
      for (const T bad : {static_cast<T>(not_a_number), std::numeric_limits<T>::infinity(), -std::numeric_limits<T>::infinity()}) {
        Index carried = 0, refused = 0;
        for (Index i = 0; i < x[k].size(); ++i) {
          CAPTURE(i);
          Arrays<T> with = x;
          with[k].data()[i] = bad;
          try {
            const Array<T> y = run<T>(program, with)[0];
            carried += std::any_of(y.begin(), y.end(), [](T v) { return std::isnan(v); });
            Tally tally;
            if (name != "triangular_solve" || std::isnan(bad)) check_values<T>(program, with, tally);
          } catch (const NumericalError& e) {
            ++refused;
            CHECK(std::string(e.what()).find(std::isnan(bad) ? "nan" : name == "cholesky" ? "" : "inf") != std::string::npos);
          }
        }
        if (!std::isnan(bad)) continue;
        const Index n = x[k].size();
        switch (policy[k]) {
          case 'c': CHECK(carried == n); CHECK(refused == 0); break;
          case 's': CHECK(carried > 0); CHECK(carried < n); CHECK(refused == 0); break;
          case 'n': CHECK(carried == 0); CHECK(refused == 0); break;
          case 'r': CHECK(refused == n); break;
          default: CHECK(refused > 0); CHECK(refused + carried == 9 * 6);  // of nine matrices of three rows, what is not above the diagonal
        }
      }
  }
}

TEST_CASE_TEMPLATE("a where of two functions keeps what an elementwise primitive has at an edge out of the first and the second derivative", T, float, double) {
  Array<T> x({12}, {0, T(-0.0), T(not_a_number), T(infinity), T(-infinity), -1, std::numeric_limits<T>::max(), std::numeric_limits<T>::denorm_min(), std::numeric_limits<T>::lowest(), T(.5), 1, T(1.5)});
  Array<T> taken({12}, {0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1});
  for (const Primitive* p : primitives()) {
    if (!p->map.exists()) continue;
    CAPTURE(std::string(p->name));
    const Row row = samples::sized(p->name, 12);
    const auto f = [&](Var u) { return row.f(std::vector<Var>(row.x.size(), u))[0]; };
    const auto masked = [&](Var v) { return sum(where(constant(taken), f, zeros_like, v, 1)); };
    const auto [value, gradient] = value_and_grad(masked, x);
    const Array<T> second = hvp(masked, x, Array<T>({12}, T(1)));
    CHECK(std::isfinite(value));
    for (Index i = 0; i < 12; ++i) {
      CAPTURE(i);
      CHECK(std::isfinite(gradient.data()[i]));
      CHECK(std::isfinite(second.data()[i]));
      if (i < 9) CHECK(gradient.data()[i] == 0);
      if (i < 9) CHECK(second.data()[i] == 0);
    }
  }
}
