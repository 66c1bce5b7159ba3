#include "linnet/infinite/examples.h"

#include "linnet/autodiff/executor.h"
#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/kernels/parallel.h"

#include <cmath>

namespace linnet::infinite {

using namespace autodiff;

namespace {

constexpr Index chunk = 1024;  // examples that are computed at a time
constexpr Index sums = 8;      // running sums of a loop over channels: a fixed order that vectors can take

template <class F> double sum_over(Index n, F&& term) {
  double s[sums] = {};
  Index k = 0;
  for (; k + sums <= n; k += sums)
    for (Index l = 0; l < sums; ++l) s[l] += term(k + l);
  for (; k < n; ++k) s[k % sums] += term(k);
  return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

// (1 - cos) of the angle between x and y. Two sums that are exact in different cases: of differences of unit vectors, and, for examples of nearly one length, of plain differences, of which
// the part along the examples is taken away. The one with the smaller bound is taken.
template <class T> double one_minus_cosine(const T* x, const T* y, Index n, double inverse_x, double inverse_y) {
  if (inverse_x == 0 || inverse_y == 0) return 0;
  if (inverse_x < inverse_y) return one_minus_cosine(y, x, n, inverse_y, inverse_x);
  const double shorter = inverse_y / inverse_x;  // y is the longer one. Fused or not, the difference of equal numbers is 0
  const double by_units = 0.5 * sum_over(n, [&](Index k) {
                            const double d = (static_cast<double>(x[k]) - static_cast<double>(y[k]) * shorter) * inverse_x;
                            return d * d;
                          });
  if constexpr (std::is_same_v<T, float>) return by_units;
  const double scale = inverse_x * inverse_y;
  const double distance = scale * sum_over(n, [&](Index k) {
                            const double d = static_cast<double>(x[k]) - static_cast<double>(y[k]);
                            return d * d;
                          });
  if (!(distance * distance < by_units)) return by_units;
  const double along = sum_over(n, [&](Index k) {
                         const double a = static_cast<double>(x[k]), b = static_cast<double>(y[k]);
                         return (a - b) * (a + b);
                       }) /
                       (1 / inverse_x + 1 / inverse_y);  // |x| - |y|
  return std::max(0.0, 0.5 * (distance - along * along * scale));
}

// Of two examples with places: of equal places, or of all pairs.
template <class T, class U, class F, class G> void pair_gaps(const Examples<T>& a, Index row, const Examples<T>& b, Index column, F&& deviation_a, G&& deviation_b, U* gap) {
  const Index n = a.places;
  const auto at = [&](Index p, Index q) {
    const Index i = row * n + p, j = column * n + q;
    return static_cast<U>(static_cast<double>(deviation_a(p)) * static_cast<double>(deviation_b(q)) *
                          one_minus_cosine(a.x + i * a.channels, b.x + j * b.channels, a.channels, a.inverse_norm[static_cast<std::size_t>(i)], b.inverse_norm[static_cast<std::size_t>(j)]));
  };
  for (Index p = 0; p < n; ++p)
    if (!a.all_places) gap[p] = at(p, p);
    else
      for (Index q = 0; q < n; ++q) gap[p * n + q] = at(p, q);
}

template <class T> void split(const std::vector<double>& from, bool with_low, Column<T>& to) {
  for (std::size_t k = 0; k < from.size(); ++k) to.high[k] = static_cast<T>(from[k]);
  if constexpr (std::is_same_v<T, float>)
    if (with_low)
      for (std::size_t k = 0; k < from.size(); ++k) to.low[k] = static_cast<float>(from[k] - static_cast<double>(to.high[k]));
}

}  // namespace

// The statistics of examples whose input has these variances.
template <Scalar T> static void run_examples(Examples<T>& e, const ExampleProgram& program, const std::vector<double>& q, const std::string& what);

template <Scalar T> Examples<T> prepare_variances(const ExampleProgram& program, const std::vector<double>& variances, const std::string& what, Index tile) {
  Examples<T> e;
  e.n = static_cast<Index>(variances.size()), e.tile = tile;
  run_examples(e, program, variances, what);
  return e;
}

template <Scalar T> Examples<T> prepare(const ExampleProgram& program, bool all_places, const Array<T>& x, const std::string& what, Index tile) {
  Examples<T> e;
  e.n = x.shape()[0], e.places = x.shape().size(1, x.shape().rank() - 1), e.channels = x.shape()[-1], e.tile = tile, e.x = x.data(), e.all_places = all_places;
  std::vector<double> q(static_cast<std::size_t>(e.n * e.places));
  e.inverse_norm.resize(q.size());
  const Index groups = (e.n * e.places + chunk - 1) / chunk;
  parallel_for(groups, [&](Index g) {
    for (Index k = g * chunk; k < std::min((g + 1) * chunk, e.n * e.places); ++k) {
      const T* const at = e.x + k * e.channels;
      const double square = sum_over(e.channels, [&](Index c) { return static_cast<double>(at[c]) * static_cast<double>(at[c]); });
      q[static_cast<std::size_t>(k)] = square / static_cast<double>(e.channels);
      e.inverse_norm[static_cast<std::size_t>(k)] = square > 0 ? 1 / std::sqrt(square) : 0;
    }
  });

  run_examples(e, program, q, what);
  if (e.places == 1 && !all_places) {
    e.packed = ntk::Packed<T>(e.n, e.channels, tile);
    parallel_for(e.packed.tiles(), [&](Index i) { e.packed.pack(e.x, i); });
  }
  return e;
}

template <Scalar T> static void run_examples(Examples<T>& e, const ExampleProgram& program, const std::vector<double>& q, const std::string& what) {
  const bool all_places = e.all_places;
  const Index padded = (e.n + e.tile - 1) / e.tile * e.tile;
  std::vector<std::vector<double>> values;
  std::vector<Index> sizes;
  for (const auto& s : program.statistics) sizes.push_back(s.shape.size());
  for (std::size_t k = sizes.size(); k < program.program->outputs.size(); ++k) sizes.push_back(program.program->shape(program.program->outputs[k]).size());
  for (const Index size : sizes) values.emplace_back(static_cast<std::size_t>(e.n * size));
  const Index at_a_time = std::max<Index>(1, chunk / (all_places ? e.places * e.places : 1));
  for (Index first = 0; first < e.n; first += at_a_time) {
    const Index count = std::min(at_a_time, e.n - first);
    Executor<double> run(program.program, {Varies::examples, Varies::examples}, {.examples = count});
    std::vector<double> gaps;
    if (all_places) {
      gaps.resize(static_cast<std::size_t>(count * e.places * e.places));
      for (Index i = 0; i < count; ++i) {
        const auto deviation = [&](Index p) { return std::sqrt(q[static_cast<std::size_t>((first + i) * e.places + p)]); };
        pair_gaps(e, first + i, e, first + i, deviation, deviation, gaps.data() + i * e.places * e.places);
      }
    }
    std::vector<double*> out;
    for (std::size_t k = 0; k < sizes.size(); ++k) out.push_back(values[k].data() + first * sizes[k]);
    std::vector<const double*> in{q.data() + first * e.places};
    if (all_places) in.push_back(gaps.data());
    run.run(in, out);
    for (std::size_t k = 0; k < sizes.size(); ++k)  // the same for all
      if (!over(run.varies(program.program->outputs[k]), Varies::examples))
        for (Index i = 1; i < count; ++i) std::copy_n(out[k], sizes[k], out[k] + i * sizes[k]);
  }
  for (std::size_t k = 0; k < program.statistics.size(); ++k)
    if (const Index at = first_not_finite<double>(values[k]); at >= 0)
      fail<NumericalError>("infinite: a variance of example {} of {} is {} behind {}; scale the inputs or the layers", at / sizes[k], what,
                           std::isnan(values[k][static_cast<std::size_t>(at)]) ? "not a number" : "infinite", program.statistics[k].of);
  e.variance = std::move(values[program.statistics.size()]);
  if (program.with_ntk) e.ntk = std::move(values.back());
  for (std::size_t k = 0; k < program.statistics.size(); ++k) {
    if (program.statistics[k].error) {
      for (const double v : values[k]) e.error = std::max(e.error, v);
      e.statistics.emplace_back();
      continue;
    }
    Column<T> c{sizes[k], Buffer<T>(static_cast<std::size_t>(padded * sizes[k]), T(0)), {}};
    if (std::is_same_v<T, float> && program.statistics[k].split) c.low = c.high;
    split(values[k], program.statistics[k].split, c);
    if (const Index at = first_not_finite<T>(c.high); at >= 0)
      fail<NumericalError>("infinite: a variance of example {} of {} is beyond the numbers of float behind {}; compute in double", at / sizes[k], what, program.statistics[k].of);
    e.statistics.push_back(std::move(c));
  }
}

namespace {

// Of examples without places: products by packed tiles, and differences for those that are near.
template <class T> void vector_gaps(const Examples<T>& a, Index i, const Examples<T>& b, Index j, bool same, const Column<T>& sa, const Column<T>& sb, Buffer<T>& products, T* out) {
  using B = ntk::Block<T>;
  constexpr T near = T(1) / 32;  // of 1 - cos
  const Index ld = ntk::padded(b.tile, B::wide), rows = a.packed.size(i), columns = b.packed.size(j);
  products.resize(static_cast<std::size_t>(ntk::padded(a.tile, B::high) * ld));
  T* const to = products.data();
  ntk::Packed<T>::product(a.packed, i, b.packed, j, false, [&, first = Index{0}](Index r, Index c, const B& block) mutable {
    if (r == 0 && c == 0) ++first;  // of the parts of the depth
    for (Index k = 0; k < B::high; ++k)
      for (int h = 0; h < 2; ++h) {
        auto& sum = B::at(to + (r + k) * ld + c + h * B::lanes);
        sum = first == 1 ? block.sum[k][h] : sum + block.sum[k][h];
      }
  });
  const T scale = T(1) / static_cast<T>(a.channels);
  const T* const s2 = sb.at(j * b.tile);
  for (Index r = 0; r < a.tile; ++r) {
    T* const gap = out + r * b.tile;
    if (r >= rows) {
      std::fill_n(gap, b.tile, T(0));
      continue;
    }
    const T s1 = *sa.at(i * a.tile + r);
    Index n_near = 0;
    for (Index c = 0; c < columns; ++c) {
      const T both = s1 * s2[c];
      gap[c] = both - scale * to[r * ld + c];
      n_near += gap[c] <= near * both;
    }
    std::fill(gap + columns, gap + b.tile, T(0));
    const Index row = i * a.tile + r;
    for (Index c = 0; n_near > 0 && c < columns; ++c) {
      const T both = s1 * s2[c];
      const Index column = j * b.tile + c;
      if (gap[c] > near * both) continue;
      --n_near;
      const double ix = a.inverse_norm[static_cast<std::size_t>(row)], iy = b.inverse_norm[static_cast<std::size_t>(column)];
      const bool itself = same && row == column;
      gap[c] = itself ? T(0) : static_cast<T>(static_cast<double>(both) * one_minus_cosine(a.x + row * a.channels, b.x + column * b.channels, a.channels, ix, iy));
    }
  }
}

}  // namespace

template <Scalar T> void input_gaps(const Examples<T>& a, Index i, const Examples<T>& b, Index j, bool same, const Column<T>& deviation_a, const Column<T>& deviation_b,
                                    Buffer<T>& products, T* out) {
  if (a.places == 1 && !a.all_places) return vector_gaps(a, i, b, j, same, deviation_a, deviation_b, products, out);
  const Index size = a.all_places ? a.places * a.places : a.places;
  for (Index r = 0; r < a.tile; ++r)
    for (Index c = 0; c < b.tile; ++c) {
      const Index row = i * a.tile + r, column = j * b.tile + c;
      T* const gap = out + (r * b.tile + c) * size;
      if (row >= a.n || column >= b.n) std::fill_n(gap, size, T(0));
      else pair_gaps(
          a, row, b, column, [&](Index p) { return deviation_a.at(row)[p]; }, [&](Index p) { return deviation_b.at(column)[p]; }, gap);
    }
}

#define LINNET_INSTANTIATE(T)                                                                                           \
  template Examples<T> prepare(const ExampleProgram&, bool, const Array<T>&, const std::string&, Index);                \
  template Examples<T> prepare_variances(const ExampleProgram&, const std::vector<double>&, const std::string&, Index); \
  template void input_gaps(const Examples<T>&, Index, const Examples<T>&, Index, bool, const Column<T>&, const Column<T>&, Buffer<T>&, T*);
LINNET_INSTANTIATE(float)
LINNET_INSTANTIATE(double)

}  // namespace linnet::infinite
