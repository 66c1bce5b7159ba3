// Runs reference cases: NAME.json says what a network is and what was computed of it, NAME.npz has the arrays. tests/reference/README.md describes
// both. Usage: reference_cases --cases DIR [--float | --double]. A line for every family of arrays that is compared, one for every kind that is
// skipped, with the reason; exit code 1 if anything failed.
#include "linnet/autodiff/npy.h"
#include "linnet/infinite/kernel.h"
#include "linnet/nn/spec.h"
#include "linnet/ntk/linearized.h"
#include "linnet/predict/predict.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <set>

namespace {

using namespace linnet;
using autodiff::Array;
using autodiff::Index;
using autodiff::Scalar;
using autodiff::Shape;
using autodiff::StructureError;
using autodiff::Tree;
using autodiff::Var;
using Json = nlohmann::json;

std::string numbered(const std::string& name, std::size_t i) { return name + (i < 10 ? "_0" : "_") + std::to_string(i); }

// ---- a case

class Case {
 public:
  Case(const std::filesystem::path& description, const std::filesystem::path& values) : name(description.stem().string()), arrays_(autodiff::load_npz<double>(values)) {
    std::ifstream in(description, std::ios::binary);
    if (!in) throw StructureError("'" + description.string() + "' cannot be read");
    about = Json::parse(std::string(std::istreambuf_iterator<char>(in), {}));
    while (arrays_.contains(numbered("param", count_))) ++count_;
    check();
  }

  bool has(const std::string& array) const { return arrays_.contains(array); }
  bool has_numbered(const std::string& family) const {
    for (std::size_t i = 0; i < count_; ++i)
      if (has(numbered(family, i))) return true;
    return false;
  }
  const Array<double>& operator[](const std::string& array) const {
    const auto at = arrays_.find(array);
    if (at == arrays_.end()) throw StructureError("there is no array '" + array + "'");
    used_.insert(array);
    return at->second;
  }
  std::vector<Array<double>> list(const std::string& family) const {  // one for every parameter array
    std::vector<Array<double>> all;
    for (std::size_t i = 0; i < count_; ++i) all.push_back((*this)[numbered(family, i)]);
    return all;
  }
  void use(const std::string& family) const {
    for (std::size_t i = 0; i < count_; ++i) used_.insert(numbered(family, i));
  }
  std::vector<std::string> unused() const {
    std::vector<std::string> names;
    for (const auto& [array, values] : arrays_)
      if (!used_.contains(array)) names.push_back(array);
    return names;
  }

  std::string name;
  Json about;

 private:
  // What the description counts must be what is there; and a number that is not finite would make every comparison meaningless.
  void check() const {
    const auto agree = [&](const char* key, Index there) {
      if (about.contains(key) && about.at(key).get<Index>() != there) throw StructureError(std::string("'") + key + "' is " + about.at(key).dump() + ", but the arrays have " + std::to_string(there));
    };
    agree("params", static_cast<Index>(count_));
    agree("n1", (*this)["x1"].shape()[0]);
    if (has("x2")) agree("n2", (*this)["x2"].shape()[0]);
    if (has("f1")) agree("outputs", arrays_.at("f1").shape()[-1]);
    for (const auto& [array, values] : arrays_)
      if (autodiff::first_not_finite<double>(values.values()) >= 0) throw StructureError("the array '" + array + "' has a value that is not finite");
    for (const char* input : {"x2", "y1", "x1_tangent", "cotangent"})
      if (has(input)) used_.insert(input);
    for (std::size_t i = 0; i < count_; ++i) used_.insert({numbered("param", i), numbered("tangent", i)});
  }

  std::map<std::string, Array<double>> arrays_;
  mutable std::set<std::string> used_;
  std::size_t count_ = 0;
};

// ---- what came of it

class Report {
 public:
  void compared(const std::string& where, const std::string& what, double error, double bound) {
    const bool fine = error <= bound;  // false of a NaN
    ++(fine ? passed_ : failed_);
    std::printf("%-22s %-40s %9.2e <= %8.2e  %s\n", where.c_str(), what.c_str(), error, bound, fine ? "ok" : "FAILED");
  }
  void failed(const std::string& where, const std::string& what, const std::string& why) {
    ++failed_;
    std::printf("%-22s %-40s FAILED: %s\n", where.c_str(), what.c_str(), why.c_str());
    std::fflush(stdout);
    std::fprintf(stderr, "reference_cases: %s: %s: %s\n", where.c_str(), what.c_str(), why.c_str());
  }
  void skipped(const std::string& where, const std::string& what, std::size_t families, const std::string& why) {
    skipped_ += families;
    std::printf("%-22s %-40s skipped: %s\n", where.c_str(), what.c_str(), why.c_str());
  }
  int finish() const {
    std::printf("%zu passed, %zu failed, %zu skipped\n", passed_, failed_, skipped_);
    return failed_ > 0;
  }

 private:
  std::size_t passed_ = 0, failed_ = 0, skipped_ = 0;
};

// The largest difference relative to the largest expected entry; absolute where that is 0. Of a NaN, NaN.
template <Scalar T> double error(const Array<T>& got, const Array<double>& expected) {
  if (got.shape() != expected.shape()) throw autodiff::ShapeError("the shape is " + str(got.shape()) + ", expected is " + str(expected.shape()));
  const double scale = autodiff::max_abs(expected);
  const double largest = autodiff::max_abs(autodiff::cast<double>(got) - expected);
  return scale > 0 ? largest / scale : largest;
}
template <Scalar T> double error(const Tree<Array<T>>& got, const std::vector<Array<double>>& expected) {
  double largest = 0;
  const auto leaves = got.leaves();
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    const double e = error(*leaves[i], expected[i]);
    if (!(e <= largest)) largest = e;
    if (std::isnan(e)) break;
  }
  return largest;
}

// ---- the checks of one case in one number type

constexpr std::size_t loose_from = 4;  // of t0 … t5, those at which an answer has the error of the kernel's condition

template <Scalar T> class Checks {
 public:
  Checks(const Case& with, const nn::Layer& layer, Report& report) : case_(with), report_(report), where_(with.name + (std::is_same_v<T, float> ? " float" : " double")), f_(nn::function_of(layer)), layer_(layer) {
    form_ = layer.init(nn::Key(0), case_["x1"].shape(), nn::Width::float64).params;
    params_ = tree("param");
    x1_ = array("x1");
  }

  void run() {
    values();
    derivatives();
    for (const auto& [method, name] : {std::pair{ntk::Method::jacobian_contraction, "jacobian_contraction"}, {ntk::Method::vector_products, "vector_products"}, {ntk::Method::structured, "structured"}}) kernels(method, name);
    compare("nngp_11", "", [&] { return ntk::nngp<T>(f_, params_, x1_); });
    compare("nngp_21", "", [&] { return ntk::nngp<T>(f_, params_, array("x2"), x1_); });
    infinite_width();
    if constexpr (std::is_same_v<T, double>) {
      training();
      training_by_steps();
      training_by_trace();
      training_by_momentum();
      training_at_infinite_width();
      ensembles();
      inference();
    }
  }

 private:
  static constexpr double bound = std::is_same_v<T, float> ? 1e-5 : 1e-11;

  Array<T> array(const std::string& name) const { return autodiff::cast<T>(case_[name]); }
  // A family of arrays, one for every parameter, in the shapes of the parameters. The cases give a bias as many axes as its layer's input, leading ones that
  // a Dense layer over positions does not have.
  std::vector<Array<double>> fitted(const std::string& family) const {
    std::vector<Array<double>> leaves = case_.list(family);
    const auto paths = form_.paths();
    const auto shapes = form_.leaves();
    if (shapes.size() != leaves.size()) throw StructureError("the network has " + std::to_string(shapes.size()) + " parameter arrays, the case " + std::to_string(leaves.size()));
    for (std::size_t i = 0; i < leaves.size(); ++i) {
      const Shape &came = leaves[i].shape(), &wanted = shapes[i]->shape();
      const Index more = came.rank() - wanted.rank();
      if (came != wanted && (more <= 0 || came.part(more, came.rank()) != wanted || came.size() != wanted.size()))
        throw autodiff::ShapeError(numbered(family, i) + " is " + str(came) + ", but '" + paths[i] + "' of the network is " + str(wanted));
      leaves[i] = std::move(leaves[i]).reshaped(wanted);
    }
    return leaves;
  }
  Tree<Array<T>> tree(const std::string& family) const {
    std::vector<Array<T>> leaves;
    for (const Array<double>& leaf : fitted(family)) leaves.push_back(autodiff::cast<T>(leaf));
    return autodiff::unflatten(form_, std::move(leaves));
  }

  // Compares what `compute` answers, an array or a tree, with the family of that name, if the case has it.
  template <class F> void compare(const std::string& family, const std::string& how, F&& compute, double within = bound) {
    using Answer = std::invoke_result_t<F&>;
    constexpr bool is_array = std::is_same_v<Answer, Array<T>>;
    if (!(is_array ? case_.has(family) : case_.has_numbered(family))) return;
    const std::string what = how.empty() ? family : family + " " + how;
    try {
      const Answer answer = compute();
      double e = 0;
      if constexpr (is_array) e = error(answer, case_[family]);
      else e = error(answer, fitted(family));
      report_.compared(where_, what, e, within);
    } catch (const std::exception& wrong) {
      if constexpr (is_array) (void)case_[family];
      else case_.use(family);
      report_.failed(where_, what, wrong.what());
    }
  }

  Array<T> evaluate(const ntk::Apply& f, const Tree<Array<T>>& params, const Array<T>& x) const { return autodiff::compile(f, params, x)(params, x); }

  // params + c tangent, as the description's "moved" says.
  Tree<Array<T>> moved() const {
    const std::string text = case_.about.at("moved").template get<std::string>();
    double c = 0;
    int end = 0;
    if (std::sscanf(text.c_str(), "params + %lf * tangent%n", &c, &end) != 1 || static_cast<std::size_t>(end) != text.size()) throw StructureError("'moved' should be \"params + NUMBER * tangent\", got \"" + text + "\"");
    return autodiff::map([&](const Array<T>& p, const Array<T>& v) { return p + static_cast<T>(c) * v; }, params_, tree("tangent"));
  }

  void values() {
    compare("f1", "", [&] { return evaluate(f_, params_, x1_); });
    compare("f2", "", [&] { return evaluate(f_, params_, array("x2")); });
    compare("linearize_f2", "", [&] { return evaluate(ntk::linearized<T>(f_, params_), moved(), array("x2")); });
    compare("taylor2_f2", "", [&] { return evaluate(ntk::taylor_expand<T>(f_, params_, 2), moved(), array("x2")); });
  }

  void derivatives() {
    const ntk::Apply& f = f_;
    const auto of_inputs = [f](const Var& x, const Tree<Var>& params) { return f(params, x); };
    const auto loss = [f, n = static_cast<double>(x1_.shape()[0])](const Tree<Var>& params, const Var& x) { return autodiff::sum(autodiff::square(f(params, x))) / (2 * n); };
    compare("jvp_params", "", [&] { return autodiff::jvp(f, params_, tree("tangent"), x1_).second; });
    compare("jvp_inputs", "", [&] { return autodiff::jvp(of_inputs, x1_, array("x1_tangent"), params_).second; });
    compare("vjp_params", "", [&] { return autodiff::vjp(f, params_, x1_).second(array("cotangent")); });
    compare("vjp_inputs", "", [&] { return autodiff::vjp(of_inputs, x1_, params_).second(array("cotangent")); });
    compare("loss", "", [&] { return Array<T>(Shape{1}, autodiff::value_and_grad(loss, params_, x1_).first); });
    compare("grad", "", [&] { return autodiff::grad(loss, params_, x1_); });
    compare("hvp", "", [&] { return autodiff::hvp(loss, params_, tree("tangent"), x1_); });
  }

  void kernels(ntk::Method method, const std::string& name) {
    const ntk::Options options{.method = method};
    compare("ntk_11", name, [&] { return ntk::full<T>(f_, params_, x1_, options).to_peer_layout(); });
    compare("ntk_21", name, [&] { return ntk::full<T>(f_, params_, array("x2"), x1_, options).to_peer_layout(); });
    if (case_.has("ntk_11")) diagonal(options, "ntk_11 diagonal " + name);
    compare("ntk_trace_11", name, [&] { return ntk::traced<T>(f_, params_, x1_, options).mean(); });
    compare("ntk_trace_21", name, [&] { return ntk::traced<T>(f_, params_, array("x2"), x1_, options).mean(); });
  }

  // Kernels of the infinitely wide network, from the same layers. Behind activations with a kink those of neural-tangents have the root of a rounding where an example meets itself.
  void infinite_width() {
    if (!case_.has("inf_ntk_11")) return;
    attempt("inf_*", [&] {
      const infinite::Kernel k(layer_);
      const Array<T> x2 = array("x2");
      constexpr double within = std::is_same_v<T, float> ? 1e-5 : 1e-13;
      for (const auto& [part, rows, columns] : {std::tuple<const char*, const Array<T>*, const Array<T>*>{"11", &x1_, &x1_}, {"21", &x2, &x1_}, {"22", &x2, &x2}}) {
        const infinite::Kernels<T> got = rows == columns ? k.both(*rows) : k.both(*rows, *columns);
        const std::string nngp = std::string("inf_nngp_") + part, ntk = std::string("inf_ntk_") + part;
        report_.compared(where_, nngp, error(got.nngp, case_[nngp]), within);
        const Array<double>& expected = case_[ntk];
        if (got.ntk.shape() != expected.shape()) throw autodiff::ShapeError(ntk + ": the shape is " + str(got.ntk.shape()) + ", expected is " + str(expected.shape()));
        double apart = 0, diagonal = 0;
        for (Index i = 0; i < expected.shape()[0]; ++i)
          for (Index j = 0; j < expected.shape()[1]; ++j) {
            double& worst = rows == columns && i == j ? diagonal : apart;
            worst = std::max(worst, std::abs(static_cast<double>(got.ntk[{i, j}]) - expected[{i, j}]) / autodiff::max_abs(expected));
          }
        report_.compared(where_, ntk, apart, within);
        if (rows == columns) report_.compared(where_, ntk + " diagonal", diagonal, std::max(within, 5e-8));
      }
    });
  }

  // Of ntk_11 [n, n, O, O], the entries of an example and an output with themselves.
  void diagonal(const ntk::Options& options, const std::string& what) {
    attempt(what, [&] {
      const Array<double>& full = case_["ntk_11"];
      const Index n = full.shape()[0], outputs = full.shape()[2];
      Array<double> expected({n, outputs});
      for (Index i = 0; i < n; ++i)
        for (Index o = 0; o < outputs; ++o) expected[{i, o}] = full[{i, i, o, o}];
      report_.compared(where_, what, error(ntk::diagonal<T>(f_, params_, x1_, options), expected), bound);
    });
  }

  struct Time {
    std::string suffix;  // "_t3"
    double t;
    std::size_t number;
  };
  // Those of the description at which the case has one of these arrays.
  std::vector<Time> times(std::initializer_list<const char*> families) const {
    std::vector<Time> all;
    for (const Json& t : case_.about.value("times", Json::array())) {
      const std::string suffix = "_t" + std::to_string(all.size());
      if (t.is_string() && t.template get<std::string>() != "inf") throw StructureError("a time should be a number or \"inf\", got " + t.dump());
      all.push_back({suffix, t.is_string() ? std::numeric_limits<double>::infinity() : t.template get<double>(), all.size()});
    }
    std::erase_if(all, [&](const Time& time) {
      return std::none_of(families.begin(), families.end(), [&](const char* family) { return case_.has(family + time.suffix) || case_.has_numbered(family + time.suffix); });
    });
    return all;
  }
  static double bound_at(const Time& time, double condition) { return time.number < loose_from ? bound : std::max(1e-10, 10 * std::numeric_limits<double>::epsilon() * condition); }
  double rate() const { return case_.about.at("learning_rate").template get<double>(); }

  // The linearized network under gradient flow, in function space and in weight space.
  void training() {
    attempt("training", [&] {
      const auto at_times = times({"params", "flin_train", "flin_test", "f_test"});
      if (at_times.empty()) return;
      const auto flow = predict::gradient_flow<T>(f_, params_, x1_, array("y1"), {.rate = rate()});
      for (const Time& time : at_times) {
        const auto at = flow(time.t);
        const double within = bound_at(time, flow.dynamics().condition());
        compare("params" + time.suffix, "", [&] { return at.weights(); }, within);
        compare("flin_train" + time.suffix, "", [&] { return at.train(); }, within);
        compare("flin_train" + time.suffix, "by weights", [&] { return at.linearized(x1_); }, within);
        compare("flin_test" + time.suffix, "", [&] { return at.predict(array("x2")); }, within);
        compare("flin_test" + time.suffix, "by weights", [&] { return at.linearized(array("x2")); }, within);
        compare("f_test" + time.suffix, "", [&] { return evaluate(f_, at.weights(), array("x2")); }, within);
      }
    });
  }

  // The same by steps of plain gradient descent.
  void training_by_steps() {
    attempt("training by steps", [&] {
      if (!case_.about.contains("discrete")) return;
      const Json& discrete = case_.about.at("discrete");
      const auto descent = predict::gradient_descent<T>(f_, params_, x1_, array("y1"), {.rate = discrete.at("learning_rate").template get<double>()});
      std::size_t number = 0;
      for (const Json& steps : discrete.at("steps")) {
        const auto at = descent(steps.template get<double>());
        const std::string suffix = "_gd" + std::to_string(number++);
        compare("params" + suffix, "", [&] { return at.weights(); });
        compare("flin_train" + suffix, "", [&] { return at.train(); });
        compare("flin_train" + suffix, "by weights", [&] { return at.linearized(x1_); });
      }
    });
  }

  // The kernel the description names for this kind of prediction, of one output, as `part`: 11, 21 or 22.
  Array<T> kernel(const Json& options, const std::string& part) const {
    const std::string kernel = options.at("kernel");
    if (kernel == "inf_ntk") return array("inf_ntk_" + part);
    if (kernel != "ntk_trace") throw StructureError("the kernel should be \"ntk_trace\" or \"inf_ntk\", got \"" + kernel + "\"");
    return (part == "11" ? ntk::traced<T>(f_, params_, x1_) : ntk::traced<T>(f_, params_, array("x2"), x1_)).mean();
  }
  predict::TraceApproximation<T> alike(Array<T> kernel) const { return {std::move(kernel), case_["f1"].size() / case_["f1"].shape()[0]}; }

  // Every output trained alike, K + r mean(diag K) in place of K on the training examples: at the test examples that is the flow of the regularized loss
  // too, and at the training examples the flow of a regularized kernel.
  void training_alike(const std::string& family) {
    attempt(family, [&] {
      const auto at_times = times({(family + "_train").c_str(), (family + "_test").c_str()});
      if (at_times.empty()) return;
      const Json& options = case_.about.at("cases").at(family);
      const double r = options.at("diag_reg");
      Array<T> K = kernel(options, "11");
      const auto test = alike(kernel(options, "21"));
      const auto ridge = predict::gradient_flow<T>(alike(K), array("f1"), array("y1"), {.rate = rate(), .relative_ridge = r});
      const double added = ridge.dynamics().law().ridge;
      for (Index i = 0; i < K.shape()[0]; ++i) K[{i, i}] += added;
      const auto flow = predict::gradient_flow<T>(alike(K), array("f1"), array("y1"), {.rate = rate()});
      for (const Time& time : at_times) {
        const double within = bound_at(time, flow.dynamics().condition());
        compare(family + "_train" + time.suffix, "", [&] { return flow(time.t).train(); }, within);
        compare(family + "_test" + time.suffix, "", [&] { return flow(time.t).predict(test, array("f2")); }, within);
        compare(family + "_test" + time.suffix, "by ridge", [&] { return ridge(time.t).predict(test, array("f2")); }, within);
      }
    });
  }
  void training_by_trace() { training_alike("mse_emp_trace"); }

  // Heavy ball in the limit of small rates. The arrays are an ODE solver's.
  void training_by_momentum() {
    attempt("momentum", [&] {
      if (!case_.has("momentum_train") && !case_.has("momentum_test")) return;
      const Json& options = case_.about.at("cases").at("momentum");
      const auto flow = predict::momentum_flow<T>(alike(kernel(options, "11")), array("f1"), array("y1"), {.rate = rate(), .momentum = options.at("momentum").template get<double>()});
      const auto at = flow(options.at("time").template get<double>());
      compare("momentum_train", "", [&] { return at.train(); }, 1e-6);
      compare("momentum_test", "", [&] { return at.predict(alike(kernel(options, "21")), array("f2")); }, 1e-6);
    });
  }

  // From the stored kernels of infinite width.
  void training_at_infinite_width() {
    training_alike("mse_inf");
    compare("max_lr_inf", "", [&] { return Array<T>(Shape{1}, static_cast<T>(predict::max_learning_rate(alike(array("inf_ntk_11"))))); });
  }

  // Kernels of ensembles trained in the last layer ("nngp") or in all, of the training examples or of the test examples with them.
  predict::EnsembleKernels<T> kernels_of(const std::string& which, const std::string& part) const {
    return {array("inf_nngp_" + part), which == "ntk" ? array("inf_ntk_" + part) : Array<T>()};
  }
  // Means are compared as arrays are; covariances are differences, and relative to what they are differences of.
  void gaussian(const std::string& family, const std::string& suffix, const std::string& how, const predict::Gaussian& got, double within) {
    compare(family + "_mean" + suffix, how, [&] { return autodiff::cast<T>(got.mean); }, within);
    const std::string covariance = family + "_cov" + suffix;
    attempt(covariance, [&] {
      if (!case_.has(covariance)) return;
      const Array<double>& expected = case_[covariance];
      if (got.covariance.shape() != expected.shape()) throw autodiff::ShapeError("the shape is " + str(got.covariance.shape()) + ", expected is " + str(expected.shape()));
      report_.compared(where_, covariance + (how.empty() ? "" : " " + how), autodiff::max_abs(got.covariance - expected) / autodiff::max_abs(case_["inf_nngp_22"]), bound);
    });
  }
  void ensembles() {
    for (const std::string which : {"nngp", "ntk"})
      attempt("ens_" + which, [&] {
        const std::string family = "ens_" + which, mean = family + "_mean", covariance = family + "_cov";
        const auto at_times = times({mean.c_str(), covariance.c_str()});
        if (at_times.empty()) return;
        const double r = case_.about.at("cases").at("ensemble").at("diag_reg");
        const auto ensemble = predict::gradient_flow_ensemble<T>(kernels_of(which, "11"), array("y1"), {.rate = rate(), .relative_ridge = r});
        for (const Time& time : at_times) gaussian(family, time.suffix, "", ensemble.predict(kernels_of(which, "21"), array("inf_nngp_22"), time.t), bound_at(time, ensemble.condition()));
      });
  }
  void inference() {
    for (const std::string which : {"nngp", "ntk"})
      attempt("gp_" + which, [&] {
        const std::string family = "gp_" + which;
        if (!case_.has(family + "_mean")) return;
        const double r = case_.about.at("cases").at("gp_inference").at("diag_reg");
        const auto kernels = kernels_of(which, "11"), test = kernels_of(which, "21");
        gaussian(family, "", "", predict::gp_inference<T>(kernels, array("y1"), {.relative_ridge = r}).predict(test, array("inf_nngp_22")), bound);
        gaussian(family, "", "by eigenvalues", predict::gradient_flow_ensemble<T>(kernels, array("y1"), {.relative_ridge = r}).predict(test, array("inf_nngp_22"), std::numeric_limits<double>::infinity()), bound);
      });
  }

  template <class F> void attempt(const std::string& what, F&& f) {
    try {
      f();
    } catch (const std::exception& wrong) {
      report_.failed(where_, what, wrong.what());
    }
  }

  const Case& case_;
  Report& report_;
  std::string where_;
  ntk::Apply f_;
  const nn::Layer& layer_;
  Tree<Array<double>> form_;
  Tree<Array<T>> params_;
  Array<T> x1_;
};

// ---- all cases

// Arrays that nothing was compared with, by the beginning of their names, and why. The first that fits.
struct Reason {
  std::string_view prefix, why;
  bool in_double = true;  // false: where double is checked they are compared, and one that was not is a failure
};
constexpr Reason reasons[] = {
    {"ens_", "dynamics are computed in double", false},
    {"gp_", "dynamics are computed in double", false},
    {"max_lr_inf", "dynamics are computed in double", false},
    {"momentum_", "dynamics are computed in double", false},
    {"params_gd", "dynamics are computed in double", false},
    {"flin_train_gd", "dynamics are computed in double", false},
    {"mse_inf_", "dynamics are computed in double", false},
    {"params_t", "dynamics are computed in double", false},
    {"flin_t", "dynamics are computed in double", false},
    {"f_test_t", "dynamics are computed in double", false},
    {"mse_emp_trace_t", "dynamics are computed in double", false},
};

void skip_unused(const Case& with, bool in_double, Report& report) {
  std::map<const Reason*, std::set<std::string>> families;
  for (const std::string& array : with.unused()) {
    const Reason* const reason = std::find_if(std::begin(reasons), std::end(reasons), [&](const Reason& r) { return array.starts_with(r.prefix); });
    if (reason == std::end(reasons)) report.skipped(with.name, array, 1, "nothing is known of this array");
    else families[reason].insert(array.starts_with("params_") ? array.substr(0, array.rfind('_')) : array);
  }
  for (const auto& [reason, names] : families) {
    const std::string what = std::string(reason->prefix) + "* (" + std::to_string(names.size()) + ")";
    if (in_double && !reason->in_double) report.failed(with.name, what, "not compared: 'times' has no entry for " + *names.begin() + ", or an error came before");
    else report.skipped(with.name, what, names.size(), std::string(reason->why));
  }
}

void run(const std::filesystem::path& description, bool in_double, bool in_float, Report& report) {
  const std::string name = description.stem().string();
  try {
    const Case with(description, std::filesystem::path(description).replace_extension(".npz"));
    const nn::Layer layer = [&] {
      try {
        return nn::layer_from_json(with.about.at("spec").dump());
      } catch (const StructureError& e) {
        if (!std::string_view(e.what()).starts_with("spec: layer type '") || std::string_view(e.what()).find("is not available") == std::string_view::npos) throw;
        report.skipped(name, "the whole case", 1, e.what());
        return nn::Layer();
      }
    }();
    if (!layer.apply) return;
    if (in_double) Checks<double>(with, layer, report).run();
    if (in_float) Checks<float>(with, layer, report).run();
    skip_unused(with, in_double, report);
  } catch (const Json::exception& e) {
    const std::string text = e.what();  // "[json.exception.out_of_range.403] key 'spec' not found"
    report.failed(name, "the description", text.substr(std::min(text.find(']') + 2, text.size())));
  } catch (const std::exception& e) {
    report.failed(name, "the case", e.what());
  }
}

std::vector<std::filesystem::path> cases_in(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder)) throw StructureError("'" + folder.string() + "' is no folder; --cases takes the folder of the NAME.json and NAME.npz files");
  std::set<std::filesystem::path> found;  // in the order of their names; an archive alone is a case that cannot be read
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (const auto ending = entry.path().extension(); ending == ".json" || ending == ".npz") found.insert(std::filesystem::path(entry.path()).replace_extension(".json"));
  if (found.empty()) throw StructureError("'" + folder.string() + "' has no case: no NAME.json and NAME.npz");
  return {found.begin(), found.end()};
}

int usage(const std::string& wrong) {
  std::fprintf(stderr, "reference_cases: %s\nusage: reference_cases --cases DIR [--float | --double]\n", wrong.c_str());
  return 1;
}

}  // namespace

int main(int count, char** words) {
  std::string folder;
  bool in_double = true, in_float = true;
  for (int i = 1; i < count; ++i) {
    const std::string_view word = words[i];
    if (word == "--cases" && i + 1 < count) folder = words[++i];
    else if (word == "--float" && in_float) in_double = false;
    else if (word == "--double" && in_double) in_float = false;
    else return usage("cannot use '" + std::string(word) + "' here");
  }
  if (folder.empty()) return usage("--cases DIR is needed");
  Report report;
  try {
    for (const auto& description : cases_in(folder)) run(description, in_double, in_float, report);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "reference_cases: %s\n", e.what());
    return 1;
  }
  return report.finish();
}
