// network.h: the change of variables that gives every weight its rate, and the linear operator at the initial weights.
#include "linnet/predict/network.h"

#include "linnet/autodiff/finite.h"
#include "linnet/autodiff/ops.h"

#include <algorithm>
#include <cmath>

namespace linnet::predict {

using autodiff::fail;
using autodiff::NumericalError;
using autodiff::ShapeError;
using autodiff::StructureError;
using autodiff::Var;

namespace {

struct Rates {
  const char* operation;
  bool any = false;  // whether a weight is trained

  // The square roots of the rates of one weight, [] or of its shape.
  Array<double> root(const std::string& path, const Array<double>& weight, const Array<double>* rate) {
    if (rate == nullptr) return any = true, Array<double>(Shape{}, 1.0);
    if (rate->shape().rank() != 0 && rate->shape() != weight.shape())
      fail<ShapeError>("{}: the rates of '{}' are {}, the weight is {}; give one number, of shape [], or one for each of the weight", operation, path, rate->shape(), weight.shape());
    Array<double> roots = *rate;
    for (double& r : roots) {
      if (!(std::isfinite(r) && r >= 0)) fail<NumericalError>("{}: a rate of '{}' is {}; rates must be finite and not negative, 0 freezes", operation, path, r);
      any = any || r > 0;
      r = std::sqrt(r);
    }
    return roots;
  }

  // `rates` is the part of the tree that belongs here, or null where it names nothing.
  Tree<Array<double>> roots(const std::string& path, const Tree<Array<double>>& weights, const Tree<Array<double>>* rates) {
    if (weights.is_leaf()) {
      if (rates != nullptr && !rates->is_leaf()) fail<StructureError>("{}: the rates have children at '{}', which is one weight; give a number or an array there", operation, path);
      return root(path, weights.leaf(), rates ? &rates->leaf() : nullptr);
    }
    if (rates != nullptr && !rates->is_leaf())
      for (const auto& [name, below] : rates->children())
        if (!weights.has(name)) fail<StructureError>("{}: the rates name '{}', which the parameters do not have{}; {}", operation, name, path.empty() ? "" : " in '" + path + "'", weights.names());
    std::vector<Tree<Array<double>>::Child> children;
    for (const auto& [name, below] : weights.children()) {
      const Tree<Array<double>>* own = rates == nullptr || rates->is_leaf() ? rates : rates->has(name) ? &(*rates)[name] : nullptr;
      children.emplace_back(name, roots(path.empty() ? name : path + "/" + name, below, own));
    }
    return Tree<Array<double>>(std::move(children));
  }
};

double entry(const Array<double>& root, Index i) { return root.data()[root.size() == 1 ? 0 : i]; }

Array<double> times_root(const Array<double>& root, Array<double> values) {
  for (Index i = 0; i < values.size(); ++i) values.data()[i] *= entry(root, i);
  return values;
}
Array<double> over_root(const Array<double>& root, Array<double> values) {
  for (Index i = 0; i < values.size(); ++i) values.data()[i] = entry(root, i) == 0 ? 0 : values.data()[i] / entry(root, i);
  return values;
}

// f of xi: a weight of one rate is a multiple of xi, which kernels look through; a frozen one has no derivative, but is traced as others are.
ntk::Apply in_variables(const ntk::Apply& f, const Tree<Array<double>>& theta0, const Tree<Array<double>>& roots) {
  using Values = std::shared_ptr<const Array<double>>;
  const auto shared = [](const Array<double>& a) { return std::make_shared<const Array<double>>(a); };
  const Tree<Values> start = map(shared, theta0), factor = map(shared, roots);
  return [f, start, factor](const Tree<Var>& xi, Var x) {
    const auto weight = [](const Var& moved, const Values& start, const Values& factor) {
      const Var theta0 = autodiff::constant(start);
      if (std::all_of(factor->begin(), factor->end(), [](double r) { return r == 0; })) return theta0 + stop_gradient(moved);
      return theta0 + (factor->shape().rank() == 0 ? factor->item() * moved : autodiff::constant(factor) * moved);
    };
    return f(map(weight, xi, start, factor), std::move(x));
  };
}

}  // namespace

Network::Network(const char* operation, ntk::Apply f, Tree<Array<double>> theta0, Array<double> x, const Tree<Array<double>>& rates, const ntk::Options& options, bool decays)
    : apply_(std::move(f)), theta0_(std::move(theta0)), point_(theta0_), x_(std::move(x)), options_(options), derivative_([&] {
        if (rates.is_leaf() || !rates.children().empty()) {
          Rates read{operation};
          roots_ = read.roots("", theta0_, &rates);
          if (!read.any) fail<StructureError>("{}: every rate is 0, so no weight is trained; leave a layer out of the rates, or give it a positive one", operation);
          apply_ = in_variables(apply_, theta0_, *roots_);
          point_ = map([](const Array<double>& a) { return Array<double>(a.shape()); }, theta0_);
        }
        if (decays) decaying_ = trained(theta0_);
        return ntk::Operator<double>(apply_, point_, x_, options_);
      }()) {}

Array<double> Network::kernel() const { return ntk::full(apply_, point_, x_, options_).matrix(); }
Array<double> Network::kernel(const Array<double>& x_new) const { return ntk::full(apply_, point_, x_new, x_, options_).matrix(); }
Array<double> Network::diagonal(const Array<double>& x_new) const { return ntk::diagonal(apply_, point_, x_new, options_); }
ntk::Operator<double> Network::derivative(const Array<double>& x_new) const { return {apply_, point_, x_new, options_}; }

ntk::Operator<float> Network::narrow() const {
  return ntk::Operator<float>(apply_, map([](const Array<double>& a) { return autodiff::cast<float>(a); }, point_), autodiff::cast<float>(x_), options_);
}

Array<double> Network::value(const Array<double>& x_new) const {
  const Index n = x_new.shape()[0], chunk = options_.independent ? 256 : std::max<Index>(n, 1);  // the number is a constant of the build
  std::optional<Array<double>> result;
  for (Index first = 0; first < n; first += chunk) {
    const Index count = std::min(chunk, n - first);
    const Array<double> part = x_new.rows(first, count);
    const Array<double> f = autodiff::compile(apply_, point_, part)(point_, part);
    if (f.shape().rank() == 0 || f.shape()[0] != count)
      fail<ShapeError>("predict: f of {} examples answered {}; the leading axis must count the examples", count, f.shape());
    if (!result) result = Array<double>::uninitialized(f.shape().with(0, n));
    std::copy(f.begin(), f.end(), result->data() + first * (f.size() / count));
  }
  return std::move(*result);
}

Array<double> Network::pull() const { return derivative_.jvp(decaying_.value()); }
Array<double> Network::pull(const Array<double>& x_new) const { return derivative(x_new).jvp(decaying_.value()); }

double Network::decaying_square() const {
  double sum = 0;
  for (const Array<double>* leaf : decaying_.value().leaves()) sum += dot(*leaf, *leaf);
  return sum;
}

Tree<Array<double>> Network::change(const Array<double>& c, double shrink) const {
  const Tree<Array<double>> moved = derivative_.vjp(c.reshaped(f0().shape()));
  if (!decaying_) return moved;
  return map([&](const Array<double>& a, const Array<double>& b) { return a + shrink * b; }, moved, *decaying_);
}

Tree<Array<double>> Network::moved(Tree<Array<double>> xi) const { return roots_ ? map(times_root, *roots_, xi) : xi; }
Tree<Array<double>> Network::trained(Tree<Array<double>> theta) const { return roots_ ? map(over_root, *roots_, theta) : theta; }

Tree<Array<double>> Network::weights(const Array<double>& c, double shrink) const {
  return map([](const Array<double>& a, const Array<double>& b) { return a + b; }, theta0_, moved(change(c, shrink)));
}

Array<double> Network::linearized(const Array<double>& x_new, const Array<double>& c, double shrink) const {
  const ntk::Operator<double> there = derivative(x_new);
  return there.value() + there.jvp(change(c, shrink));
}

}  // namespace linnet::predict
