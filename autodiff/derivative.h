// Derivatives of ordinary C++ functions. f takes Var or Tree<Var> and answers Var or Tree<Var>; the arrays go in and come out in the
// same form. Arguments after the first are data: inputs of the program that nothing is differentiated by. Inside a traced function the same names
// take Var and Tree<Var>, and may be nested to any order.
//
// All throw TraceError when f mentions a traced value of an enclosing function (use the forms on Var there), ShapeError and StructureError for
// arguments that do not fit f or each other.
#pragma once

#include "linnet/autodiff/linear_map.h"
#include "linnet/autodiff/tree.h"

#include <optional>
#include <tuple>

namespace linnet::autodiff {

using Form = Tree<Shape>;  // what a list of arrays is to be put together to

namespace detail {

template <class X> struct Traits {};
template <Scalar T> struct Traits<Array<T>> {
  using scalar = T;
  using traced = Var;
  static constexpr bool is_tree = false;
};
template <Scalar T> struct Traits<Tree<Array<T>>> {
  using scalar = T;
  using traced = Tree<Var>;
  static constexpr bool is_tree = true;
};
template <class X> using scalar_t = typename Traits<X>::scalar;
template <class X> using traced_t = typename Traits<X>::traced;

// The array form of what f answers: Var -> Array<T>, Tree<Var> -> Tree<Array<T>>.
template <class T, class R> struct Made { using type = Array<T>; };
template <class T> struct Made<T, Tree<Var>> { using type = Tree<Array<T>>; };
template <class F, class X, class... D> using result_t = typename Made<scalar_t<X>, std::remove_cvref_t<std::invoke_result_t<F&, traced_t<X>, traced_t<D>...>>>::type;

template <class T> Form form(const Array<T>& x) { return x.shape(); }
template <class T> Form form(const Tree<Array<T>>& x) { return map([](const Array<T>& a) { return a.shape(); }, x); }
inline Form form(const Var& x) { return x.shape(); }
inline Form form(const Tree<Var>& x) { return map([](const Var& v) { return v.shape(); }, x); }

template <class T> void flatten(const Array<T>& x, Views<T>& to) { to.emplace_back(x); }
template <class T> void flatten(const Tree<Array<T>>& x, Views<T>& to) { for (const Array<T>* leaf : x.leaves()) to.emplace_back(*leaf); }
template <class T, class... X> Views<T> views(const X&... x) {
  Views<T> all;
  (flatten(x, all), ...);
  return all;
}
inline void flatten(const Var& x, std::vector<Var>& to) { to.push_back(x); }
inline void flatten(const Tree<Var>& x, std::vector<Var>& to) { for (const Var* leaf : x.leaves()) to.push_back(*leaf); }
template <class X> std::vector<Var> vars(const X& x) {
  std::vector<Var> all;
  flatten(x, all);
  return all;
}
inline std::vector<Shape> shapes(const Form& form) {
  std::vector<Shape> all;
  for (const Shape* s : form.leaves()) all.push_back(*s);
  return all;
}

template <class X, class Leaf> X assemble(const Form& form, std::vector<Leaf> leaves) {
  if constexpr (std::is_same_v<X, Leaf>) return std::move(leaves[0]);
  else return unflatten(form, std::move(leaves));
}
// Takes as many values as the form has leaves from the front.
template <class Traced> Traced take_front(const Form& form, std::span<const Var>& values) {
  const std::size_t n = form.leaves().size();
  std::vector<Var> mine(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(n));
  values = values.subspan(n);
  return assemble<Traced>(form, std::move(mine));
}

// f on flat lists. `result` receives the form of what it answers when it is traced.
template <class X, class... D, class F> Function flat(F f, std::shared_ptr<Form> result, Form x, std::tuple<std::conditional_t<true, Form, D>...> data) {
  return [f, result, x, data](std::span<const Var> values) mutable {
    auto y = [&] {
      traced_t<X> first = take_front<traced_t<X>>(x, values);
      return std::apply([&](const auto&... form) {
        std::tuple<traced_t<X>, traced_t<D>...> all{std::move(first), take_front<traced_t<D>>(form, values)...};  // braces: in order
        return std::apply(f, std::move(all));
      }, data);
    }();
    std::remove_cvref_t<decltype(y)> answer = std::move(y);
    *result = form(answer);
    return vars(answer);
  };
}
template <class X, class... D, class F> Function flat_of(const F& f, const std::shared_ptr<Form>& result, const X& x, const D&... data) {
  return flat<X, D...>(f, result, form(x), std::tuple{form(data)...});
}

void check_same_form(const char* operation, const Form& expected, const Form& came);
void check_scalar(const char* operation, std::span<const Var> value);
// The gradient of a scalar function with its value in front; of the first n inputs.
Function value_and_grad(const Function& f, std::size_t n);
Function hessian_product(const Function& f, std::size_t n);  // of the first n inputs, times the next n; then the data
Form with_lanes(const Form& form, Index lanes);
Index leading(const char* operation, const Form& form);      // the extent of the leading axis they share

}  // namespace detail

template <class F, class X, class... D> concept Differentiable = std::invocable<F&, detail::traced_t<X>, detail::traced_t<D>...>;

// The derivative of a function at a point: recorded once, applied as often as wanted. Copies share their workspace: one thread at a time.
template <class X, class Y> class LinearMap {
 public:
  using T = detail::scalar_t<X>;
  LinearMap(FlatLinearMap<T> flat, Form x, Form y) : flat_(std::move(flat)), x_(std::move(x)), y_(std::move(y)) {
    if (flat_.has_value()) value_ = detail::assemble<Y>(y_, flat_.value());
  }
  const Y& value() const {  // f at the point; TraceError of a transposed map or one made by linear_transpose
    if (!value_) throw TraceError("LinearMap: a transposed or linear map has no value; ask the map it was made of");
    return *value_;
  }
  Y jvp(const X& tangent) const { return apply<Y>("jvp", x_, y_, tangent, -1, true); }
  X vjp(const Y& cotangent) const { return apply<X>("vjp", y_, x_, cotangent, -1, false); }
  // Several at once, as a leading axis, in one sweep.
  Y jvp_lanes(const X& tangents) const { return apply<Y>("jvp_lanes", x_, y_, tangents, detail::leading("jvp_lanes", detail::form(tangents)), true); }
  X vjp_lanes(const Y& cotangents) const { return apply<X>("vjp_lanes", y_, x_, cotangents, detail::leading("vjp_lanes", detail::form(cotangents)), false); }
  LinearMap<Y, X> transposed() const { return {flat_.transposed(), y_, x_}; }
  const FlatLinearMap<T>& flat() const { return flat_; }
  const Form& input_form() const { return x_; }
  const Form& output_form() const { return y_; }

 private:
  template <class Out, class In> Out apply(const char* operation, const Form& from, const Form& to, const In& v, Index lanes, bool forward) const {
    detail::check_same_form(operation, lanes < 0 ? from : detail::with_lanes(from, lanes), detail::form(v));
    const Views<T> in = detail::views<T>(v);
    return detail::assemble<Out>(to, forward ? flat_.jvp(in, lanes) : flat_.vjp(in, lanes));
  }
  FlatLinearMap<T> flat_;
  Form x_, y_;
  std::optional<Y> value_;
};

// A function traced and planned once.
template <class Y, class X, class... D> class Compiled {
 public:
  using T = detail::scalar_t<X>;
  template <class F> Compiled(const F& f, const X& x, const D&... data)
      : forms_{detail::form(x), detail::form(data)...}, result_(std::make_shared<Form>()), flat_(detail::flat_of(f, result_, x, data...), all_shapes()) {}
  Y operator()(const X& x, const D&... data) const {
    std::size_t i = 0;
    (detail::check_same_form("compiled function", forms_[i++], detail::form(x)), ..., detail::check_same_form("compiled function", forms_[i++], detail::form(data)));
    return detail::assemble<Y>(*result_, flat_(detail::views<T>(x, data...)));
  }
  const Program& program() const { return flat_.program(); }

 private:
  std::vector<Shape> all_shapes() const {
    std::vector<Shape> all;
    for (const Form& f : forms_) for (const Shape* s : f.leaves()) all.push_back(*s);
    return all;
  }
  std::vector<Form> forms_;
  std::shared_ptr<Form> result_;
  FlatFunction<T> flat_;
};

// ---- on arrays and trees of arrays

template <class F, class X, class... D> requires Differentiable<F, X, D...> auto compile(const F& f, const X& x, const D&... data) {
  return Compiled<detail::result_t<F, X, D...>, X, D...>(f, x, data...);
}

template <class F, class X, class... D> requires Differentiable<F, X, D...> auto linearize(const F& f, const X& x, const D&... data) {
  using T = detail::scalar_t<X>;
  auto result = std::make_shared<Form>();
  FlatLinearMap<T> flat(detail::flat_of(f, result, x, data...), detail::views<T>(x), detail::views<T>(data...));
  return LinearMap<X, detail::result_t<F, X, D...>>(std::move(flat), detail::form(x), *result);
}

// f(x), and its derivative there times the tangent.
template <class F, class X, class... D> requires Differentiable<F, X, D...> auto jvp(const F& f, const X& x, const X& tangent, const D&... data) {
  const auto map = linearize(f, x, data...);
  return std::pair(map.value(), map.jvp(tangent));
}

// f(x), and the function that takes a cotangent of it to the cotangent of x.
template <class F, class X, class... D> requires Differentiable<F, X, D...> auto vjp(const F& f, const X& x, const D&... data) {
  auto map = linearize(f, x, data...);
  auto value = map.value();
  return std::pair(std::move(value), [map = std::move(map)](const detail::result_t<F, X, D...>& cotangent) { return map.vjp(cotangent); });
}

// f must answer a scalar (ShapeError otherwise).
template <class F, class X, class... D> requires Differentiable<F, X, D...> std::pair<detail::scalar_t<X>, X> value_and_grad(const F& f, const X& x, const D&... data) {
  using T = detail::scalar_t<X>;
  auto result = std::make_shared<Form>();
  const Views<T> in = detail::views<T>(x, data...);
  std::vector<Shape> shapes;
  for (const ArrayView<T>& v : in) shapes.push_back(v.shape);
  auto out = FlatFunction<T>(detail::value_and_grad(detail::flat_of(f, result, x, data...), detail::shapes(detail::form(x)).size()), shapes)(in);
  const T value = out[0].item();
  out.erase(out.begin());
  return {value, detail::assemble<X>(detail::form(x), std::move(out))};
}
template <class F, class X, class... D> requires Differentiable<F, X, D...> X grad(const F& f, const X& x, const D&... data) { return value_and_grad(f, x, data...).second; }

// The Hessian of a scalar function times v: forward over reverse.
template <class F, class X, class... D> requires Differentiable<F, X, D...> X hvp(const F& f, const X& x, const X& v, const D&... data) {
  using T = detail::scalar_t<X>;
  detail::check_same_form("hvp", detail::form(x), detail::form(v));
  auto result = std::make_shared<Form>();
  const Views<T> in = detail::views<T>(x, v, data...);
  std::vector<Shape> shapes;
  for (const ArrayView<T>& view : in) shapes.push_back(view.shape);
  return detail::assemble<X>(detail::form(x), FlatFunction<T>(detail::hessian_product(detail::flat_of(f, result, x, data...), detail::shapes(detail::form(x)).size()), shapes)(in));
}

// Every derivative: of an array by an array [shape of f(x)…, shape of x…]; where either is a tree [outputs, inputs], flattened in order.
template <class F, class X, class... D> requires Differentiable<F, X, D...> Array<detail::scalar_t<X>> jacobian(const F& f, const X& x, const D&... data) {
  using T = detail::scalar_t<X>;
  using Y = detail::result_t<F, X, D...>;
  const auto map = linearize(f, x, data...);
  const std::vector<Shape> in = detail::shapes(map.input_form()), out = detail::shapes(map.output_form());
  Index rows = 0, columns = 0;
  for (const Shape& s : out) rows += s.size();
  for (const Shape& s : in) columns += s.size();
  const bool forward = columns < rows;
  const std::vector<Shape>& driving = forward ? in : out;
  const Index lanes = forward ? columns : rows;
  std::vector<Array<T>> unit;
  Index at = 0;
  for (const Shape& s : driving) {
    Array<T> one(s.inserted(0, std::array{lanes}));
    for (Index i = 0; i < s.size(); ++i) one.data()[(at + i) * s.size() + i] = 1;
    at += s.size();
    unit.push_back(std::move(one));
  }
  const Views<T> seeds(unit.begin(), unit.end());
  const std::vector<Array<T>> swept = lanes == 0 ? std::vector<Array<T>>() : forward ? map.flat().jvp(seeds, lanes) : map.flat().vjp(seeds, lanes);
  Array<T> jacobian(Shape{rows, columns});
  at = 0;
  for (const Array<T>& part : swept) {
    const Index size = part.size() / lanes;
    for (Index l = 0; l < lanes; ++l)
      for (Index i = 0; i < size; ++i) jacobian.data()[forward ? (at + i) * columns + l : l * columns + at + i] = part.data()[l * size + i];
    at += size;
  }
  if constexpr (!detail::Traits<X>::is_tree && !detail::Traits<Y>::is_tree) return std::move(jacobian).reshaped(out[0].inserted(out[0].rank(), std::span(in[0].begin(), in[0].end())));
  else return jacobian;
}

// The transpose of a function that is linear in its argument (TraceError if it is not): a map from cotangents of f(x) to those of x.
template <class F, class X> requires Differentiable<F, X> auto linear_transpose(const F& f, const X& like) {
  using T = detail::scalar_t<X>;
  using Y = detail::result_t<F, X>;
  auto result = std::make_shared<Form>();
  const Form x = detail::form(like);
  FlatLinearMap<T> flat(detail::flat_of(f, result, like), detail::shapes(x));
  return LinearMap<X, Y>(std::move(flat), x, *result).transposed();
}

// ---- inside traced functions: X is Var or Tree<Var>

template <class X> concept Traced = std::same_as<X, Var> || std::same_as<X, Tree<Var>>;

namespace detail {
template <Traced X> struct Traits<X> {
  using traced = X;
  static constexpr bool is_tree = std::same_as<X, Tree<Var>>;
};
template <class F, class X> using traced_result_t = std::remove_cvref_t<std::invoke_result_t<F&, const X&>>;
template <Traced X, class F> Function flat_traced(const F& f, const std::shared_ptr<Form>& result, const X& x) { return flat<X>(f, result, form(x), std::tuple<>()); }
}  // namespace detail

template <class F, Traced X> std::pair<Var, X> value_and_grad(const F& f, const X& x) {
  auto result = std::make_shared<Form>();
  const std::vector<Var> in = detail::vars(x);
  std::vector<Var> out = detail::value_and_grad(detail::flat_traced(f, result, x), in.size())(in);
  const Var value = out[0];
  out.erase(out.begin());
  return {value, detail::assemble<X>(detail::form(x), std::move(out))};
}
template <class F, Traced X> X grad(const F& f, const X& x) { return value_and_grad(f, x).second; }

template <class F, Traced X> auto jvp(const F& f, const X& x, const X& tangent) {
  using Y = detail::traced_result_t<F, X>;
  auto result = std::make_shared<Form>();
  detail::check_same_form("jvp", detail::form(x), detail::form(tangent));
  const Linear l = linearize(detail::flat_traced(f, result, x), detail::vars(x));
  std::vector<Var> tangents = push_forward(l, detail::vars(tangent));
  return std::pair(detail::assemble<Y>(*result, l.out), detail::assemble<Y>(*result, std::move(tangents)));
}

template <class F, Traced X> auto vjp(const F& f, const X& x) {
  using Y = detail::traced_result_t<F, X>;
  auto result = std::make_shared<Form>();
  const Linear l = linearize(detail::flat_traced(f, result, x), detail::vars(x));
  return std::pair(detail::assemble<Y>(*result, l.out), [l, x, y = *result](const Y& cotangent) {
    detail::check_same_form("vjp", y, detail::form(cotangent));
    return detail::assemble<X>(detail::form(x), pull_back(l, detail::vars(x), detail::vars(cotangent)));
  });
}

template <class F, Traced X> X hvp(const F& f, const X& x, const X& v) {
  auto result = std::make_shared<Form>();
  detail::check_same_form("hvp", detail::form(x), detail::form(v));
  std::vector<Var> in = detail::vars(x);
  const std::size_t n = in.size();
  detail::flatten(v, in);
  return detail::assemble<X>(detail::form(x), detail::hessian_product(detail::flat_traced(f, result, x), n)(in));
}

}  // namespace linnet::autodiff
