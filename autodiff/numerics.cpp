#include "linnet/autodiff/numerics.h"

#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/finite.h"

namespace linnet::autodiff {

template <Scalar T> std::optional<NotFinite> find_not_finite(const Program& program, const Views<T>& in) {
  auto all = std::make_shared<Program>(program);
  all->outputs.clear();
  for (int v = 0; v < all->n_values(); ++v) all->outputs.push_back(v);
  std::vector<Array<T>> out;
  std::vector<const T*> from;
  std::vector<T*> to;
  for (const ArrayView<T>& v : in) from.push_back(v.data);
  for (int v = 0; v < all->n_values(); ++v) out.push_back(Array<T>::uninitialized(all->shape(v)));
  for (Array<T>& a : out) to.push_back(a.data());
  Executor<T>(all).run(from, to);
  for (int v = 0; v < all->n_values(); ++v) {
    const Array<T>& a = out[static_cast<std::size_t>(v)];
    if (const Index at = first_not_finite(a.values()); at >= 0) return NotFinite{v, at, static_cast<double>(a.data()[at])};
  }
  return {};
}

std::string describe(const Program& p, const NotFinite& found) {
  const std::string at = position(found.element, p.shape(found.value));
  if (found.value < p.n_inputs()) return fmt::format("input {} {} is {} at {}", found.value, p.shape(found.value), found.number, at);
  if (found.value < p.first_instruction()) return fmt::format("a constant {} is {} at {}", p.shape(found.value), found.number, at);
  const Instruction& c = p.instruction(found.value);
  return fmt::format("{}{} gives {} at {} of {}", c.path && !c.path->empty() ? *c.path + ": " : "", c.primitive->name, found.number, at, c.shape);
}

namespace detail {
template <Scalar T> void check_numerics(const Function& f, const Views<T>& in) {
  std::vector<Shape> shapes;
  for (const ArrayView<T>& v : in) shapes.push_back(v.shape);
  const Program p = trace(f, shapes);
  if (const auto found = find_not_finite(p, in)) fail<NumericalError>("check_numerics: {}", describe(p, *found));
}
template void check_numerics(const Function&, const Views<float>&);
template void check_numerics(const Function&, const Views<double>&);
}  // namespace detail

template std::optional<NotFinite> find_not_finite(const Program&, const Views<float>&);
template std::optional<NotFinite> find_not_finite(const Program&, const Views<double>&);

}  // namespace linnet::autodiff
