// Runs a plan of gram.h, in two parallel loops: over chunks of examples (forward and cut transpose), then over tile pairs of the kernel. Chunks and tiles
// are constants of the shape, and every sum has a fixed order, so the bits depend on no thread. The first loop is in sides.h.
#include "linnet/autodiff/kernels/gemm.h"
#include "linnet/ntk/progress.h"
#include "linnet/ntk/sides.h"

#include <atomic>
#include <limits>
#include <map>
#include <optional>

namespace linnet::ntk {
namespace {

using namespace autodiff;

template <class T> struct Contractor : Sides<T> {
  using Base = Sides<T>;
  using Base::plan, Base::params, Base::tile, Base::alone, Base::O, Base::R;
  using Base::value, Base::lanes, Base::first_row, Base::evaluate, Base::of, Base::side_bytes, Base::tiles;

  // The product of a term's lefts for a tile pair of examples: the sum of scale L L^T, and the ones of biases.
  void add_lefts(const GramPlan::Term& t, const Side<T>& x, const Side<T>& y, Index i, Index j, Index rows, T* to, Index ld) const {
    T ones = 0;
    for (std::size_t k = 0; k < t.left.size(); ++k)
      if (t.left[k][0] < 0) ones += static_cast<T>(t.scale[k]);
    std::fill_n(to, padded(rows, Block<T>::high) * ld, ones);
    for (std::size_t k = 0; k < t.left.size(); ++k) {
      if (t.left[k][0] < 0) continue;
      const T scale = static_cast<T>(t.scale[k]);
      Packed<T>::product(x.tiles.at(t.left[k][0]), i, y.tiles.at(t.left[k][1]), j, &x == &y && i == j, [&](Index r, Index c, const Block<T>& s) {
        for (Index e = 0; e < Block<T>::high; ++e)
          for (int h = 0; h < 2; ++h) Block<T>::at(to + (r + e) * ld + c + h * Block<T>::lanes) += scale * s.sum[e][h];
      });
    }
  }

  // With several outputs the lefts of a tile pair would be few rows: they are multiplied beforehand, in tiles of their own.
  std::vector<Buffer<T>> all_lefts(const Side<T>& x, const Side<T>& y) const {
    std::vector<Buffer<T>> light(plan.terms.size());
    if (R == 1) return light;
    const Index down = (x.n + light_tile - 1) / light_tile, across = (y.n + light_tile - 1) / light_tile;
    const Index ld = padded(light_tile, Block<T>::wide);
    for (std::size_t k = 0; k < plan.terms.size(); ++k) {
      if (!plan.terms[k].packed) continue;
      light[k].resize(static_cast<std::size_t>(x.n * y.n));
      parallel_for(down * across, [&](Index g) {
        const Index i = g / across, j = g % across, rows = std::min(light_tile, x.n - i * light_tile), columns = std::min(light_tile, y.n - j * light_tile);
        if (&x == &y && j > i) return;  // only the lower half is read
        thread_local Buffer<T> part;
        part.resize(static_cast<std::size_t>(padded(light_tile, Block<T>::high) * ld));
        add_lefts(plan.terms[k], x, y, i, j, rows, part.data(), ld);
        for (Index e = 0; e < rows; ++e) std::copy_n(part.data() + e * ld, columns, light[k].data() + (i * light_tile + e) * y.n + j * light_tile);
      });
    }
    return light;
  }

  struct Tile {
    Index i, j, i0, i1, j0, j1;  // tile numbers, and their examples
    Index rows(Index R) const { return (i1 - i0) * R; }
    Index columns(Index R) const { return (j1 - j0) * R; }
  };

  void add_packed(const GramPlan::Term& t, const Buffer<T>& light, const Side<T>& x, const Side<T>& y, const Tile& at, T* acc, Index ld) const {
    using V = typename Block<T>::V;
    thread_local Buffer<T> lefts;  // one row an example, an entry for every column
    lefts.resize(static_cast<std::size_t>((padded(at.rows(R), Block<T>::high) / R + 1) * ld));
    if (R == 1) add_lefts(t, x, y, at.i, at.j, at.rows(R), lefts.data(), ld);
    else
      for (Index e = 0; e < at.i1 - at.i0; ++e)
        for (Index m = 0; m < at.j1 - at.j0; ++m) std::fill_n(lefts.data() + e * ld + m * R, R, light[static_cast<std::size_t>((at.i0 + e) * y.n + at.j0 + m)]);
    Packed<T>::product(x.tiles.at(t.a), at.i, y.tiles.at(t.b), at.j, &x == &y && at.i == at.j, [&](Index r, Index c, const Block<T>& s) {
      for (Index e = 0; e < Block<T>::high; ++e) {
        T *const to = acc + (r + e) * ld + c, *const left = lefts.data() + (r + e) / R * ld + c;
        for (int h = 0; h < 2; ++h) Block<T>::at(to + h * Block<T>::lanes) += V(Block<T>::at(left + h * Block<T>::lanes)) * s.sum[e][h];
      }
    });
  }


  // All rows of value p for n examples from n0 with all rows of q for m examples from m0; `joined` outputs are one contraction.
  Index rows_product(int p, int q, const T* l, const T* r, Index n0, Index n, Index m0, Index m, Index joined, Buffer<T>& c) const {
    const Index lp = lanes(value(p).varies, n) * value(p).rows / joined, lq = lanes(value(q).varies, m) * value(q).rows / joined, w = value(p).width * joined;
    c.resize(static_cast<std::size_t>(lp * lq));
    const T *const a = l + first_row(p, n0) * value(p).width, *const b = r + first_row(q, m0) * value(q).width;
    if (value(p).one_hot || value(q).one_hot) {  // with a unit vector: the number at its place (two such never come here)
      for (Index i = 0; i < lp; ++i)
        for (Index j = 0; j < lq; ++j) c[static_cast<std::size_t>(i * lq + j)] = value(p).one_hot ? b[j * value(q).width + static_cast<Index>(a[i])] : a[i * w + static_cast<Index>(b[j])];
    } else {
      gemm(false, true, lp, lq, w, a, b, c.data());
    }
    return lq;
  }

  // Several positions, plain lanes: products in blocks that stay in cache, then the Hadamard sum over positions.
  void add_positions(const GramPlan::Term& t, const Side<T>& x, const Side<T>& y, const Tile& at, T* acc, Index ld) const {
    thread_local Buffer<T> A, B, C;
    const Index S = value(t.a).rows, U = value(t.b).rows, block = std::max<Index>(1, 512 / (R * std::max(S, U))), joined = plan.traced ? O : 1;
    const auto a = static_cast<std::size_t>(t.a), b = static_cast<std::size_t>(t.b);
    for (Index n0 = at.i0; n0 < at.i1; n0 += block)
      for (Index m0 = at.j0; m0 < at.j1; m0 += block) {
        const Index n = std::min(block, at.i1 - n0), m = std::min(block, at.j1 - m0);
        rows_product(t.a, t.b, x.joined[a], y.joined[b], n0, n, m0, m, joined, B);
        A.assign(static_cast<std::size_t>(n * S * m * U), T(0));
        for (std::size_t k = 0; k < t.left.size(); ++k) {
          const auto [p, q] = t.left[k];
          const T scale = static_cast<T>(t.scale[k]);
          if (p < 0) {
            for (T& v : A) v += scale;
            continue;
          }
          rows_product(p, q, of(x, p), of(y, q), n0, n, m0, m, 1, C);
          for (std::size_t i = 0; i < A.size(); ++i) A[i] += scale * C[i];
        }
        hadamard(A.data(), B.data(), acc + (n0 - at.i0) * R * ld + (m0 - at.j0) * R, ld, n, S, m, U);
      }
  }

  // acc[(n, o), (m, q)] += sum over s, u of A[(n, s), (m, u)] B[(n, o, s), (m, q, u)]
  void hadamard(const T* A, const T* B, T* acc, Index ld, Index n, Index S, Index m, Index U) const {
    for (Index e = 0; e < n; ++e)
      for (Index o = 0; o < R; ++o)
        for (Index g = 0; g < m; ++g)
          for (Index q = 0; q < R; ++q) {
            T sum = 0;
            for (Index s = 0; s < S; ++s) {
              const T *const a = A + ((e * S + s) * m + g) * U, *const b = B + (((e * R + o) * S + s) * m * R + g * R + q) * U;
              for (Index u = 0; u < U; ++u) sum += a[u] * b[u];
            }
            acc[(e * R + o) * ld + g * R + q] += sum;
          }
  }

  // A weight used both as itself and transposed, or a factor of parameters alone: any lanes on any side.
  void add_general(const GramPlan::Term& t, const Side<T>& x, const Side<T>& y, const Tile& at, T* acc, Index ld) const {
    thread_local Buffer<T> A, B;
    const Index n = at.i1 - at.i0, m = at.j1 - at.j0, S = value(t.a).rows, U = value(t.b).rows;
    const Index ldb = rows_product(t.a, t.b, of(x, t.a), of(y, t.b), at.i0, n, at.j0, m, 1, B);
    auto lane = [&](int v, Index e, Index o) { return Lanes{n, O}.lane(value(v).varies, Varies::both, e * O + o); };
    for (std::size_t k = 0; k < t.left.size(); ++k) {
      const auto [p, q] = t.left[k];
      const Index lda = p < 0 ? 0 : rows_product(p, q, of(x, p), of(y, q), at.i0, n, at.j0, m, 1, A);
      for (Index e = 0; e < n; ++e)
        for (Index o = 0; o < O; ++o)
          for (Index g = 0; g < m; ++g)
            for (Index r = plan.traced ? o : 0; r < (plan.traced ? o + 1 : O); ++r) {
              T sum = 0;
              for (Index s = 0; s < S; ++s)
                for (Index u = 0; u < U; ++u) {
                  const T left = p < 0 ? T(1) : A[static_cast<std::size_t>((lane(p, e, o) * S + s) * lda + lane(q, g, r) * U + u)];
                  sum += left * B[static_cast<std::size_t>((lane(t.a, e, o) * S + s) * ldb + lane(t.b, g, r) * U + u)];
                }
              acc[(e * R + o % R) * ld + g * R + r % R] += static_cast<T>(t.scale[k]) * sum;
            }
    }
  }

  void add_materialized(int v, const Side<T>& x, const Side<T>& y, const Tile& at, T* acc, Index ld) const {
    thread_local Buffer<T> B;
    const Index w = value(v).width * (plan.traced ? O : 1), r = at.rows(R), c = at.columns(R);
    B.resize(static_cast<std::size_t>(r * c));
    gemm(false, true, r, c, w, of(x, v) + at.i0 * R * w, of(y, v) + at.j0 * R * w, B.data());
    for (Index e = 0; e < r; ++e)
      for (Index f = 0; f < c; ++f) acc[e * ld + f] += B[static_cast<std::size_t>(e * c + f)];
  }

  void contract(const Side<T>& x, const Side<T>& y, const std::vector<Buffer<T>>& light, const Tile& at, T* acc, Index ld) const {
    std::fill_n(acc, padded(at.rows(R), Block<T>::high) * ld, T(0));
    for (const int v : plan.materialized) add_materialized(v, x, y, at, acc, ld);
    for (std::size_t k = 0; k < plan.gathered.size(); ++k) GatheredRows<T>::product(x.gathered[k], at.i, y.gathered[k], at.j, plan.traced, acc, ld);
    for (std::size_t k = 0; k < plan.terms.size(); ++k) {
      const auto& t = plan.terms[k];
      if (t.packed) add_packed(t, light[k], x, y, at, acc, ld);
      else if (t.plain) add_positions(t, x, y, at, acc, ld);
      else add_general(t, x, y, at, acc, ld);
    }
  }

  // Without x1 (n1 is 0; where there are no features there is no pointer) of x2 with itself. By pairs of panels, of so many tiles.
  bool run(const T* x2, Index n2, const T* x1, Index n1, Index panel, T* out, const TileSink<T>* sink, const ProgressFunction& progress) const {
    const bool symmetric = n1 == 0;
    const Index columns = symmetric ? n2 : n1, down = tiles(n2), across = tiles(columns), width = panel * tile;
    Reporter reporter("ntk", progress, "kernel tiles", static_cast<std::size_t>(symmetric ? down * (down + 1) / 2 : down * across));
    std::atomic<bool> finite{true};
    for (Index i = (down - 1) / panel; i >= 0 && !reporter.cancelled(); --i) {
      const Side<T> x = evaluate(x2, n2, i * width, std::min(n2, (i + 1) * width));
      for (Index j = symmetric ? i : (across - 1) / panel; j >= 0 && !reporter.cancelled(); --j) {
        std::optional<Side<T>> other;
        if (!symmetric || j != i) other = evaluate(symmetric ? x2 : x1, columns, j * width, std::min(columns, (j + 1) * width));
        if (!run_panels(x, i * panel, other ? *other : x, j * panel, symmetric, out, columns * R, sink, reporter)) finite = false;
      }
    }
    reporter.finish();
    return finite;
  }

  // Two panels, the tiles they begin with, and their tile pairs.
  struct Panels {
    const Side<T>*rows, *columns;
    Index tile0, tile1;
    std::vector<Buffer<T>> light;
    std::vector<std::array<Index, 2>> pairs;
  };
  Panels panels(const Side<T>& rows, Index tile0, const Side<T>& columns, Index tile1) const {
    Panels p{&rows, &columns, tile0, tile1, all_lefts(rows, columns), {}};
    for (Index i = tiles(rows.n) - 1; i >= 0; --i)
      for (Index j = 0; j < (&rows == &columns ? i + 1 : tiles(columns.n)); ++j) p.pairs.push_back({i, j});
    return p;
  }
  // Tile pair k, from memory of this thread, and whether it is finite: take(tile, its values, their stride, whether they are).
  template <class Take> void run_pair(const Panels& p, Index k, Take&& take) const {
    const auto [i, j] = p.pairs[static_cast<std::size_t>(k)];
    const Tile at{i, j, i * tile, std::min(p.rows->n, (i + 1) * tile), j * tile, std::min(p.columns->n, (j + 1) * tile)};
    thread_local Buffer<T> acc;
    const Index la = padded(at.columns(R), Block<T>::wide);
    acc.resize(static_cast<std::size_t>(padded(at.rows(R), Block<T>::high) * la));
    contract(*p.rows, *p.columns, p.light, at, acc.data(), la);
    bool whole = true;
    for (Index e = 0; e < at.rows(R); ++e)  // of a diagonal tile the stored half
      if (first_not_finite(std::span<const T>(acc.data() + e * la, static_cast<std::size_t>(p.rows == p.columns && i == j ? e + 1 : at.columns(R)))) >= 0) whole = false;
    take(at, acc.data(), la, whole);
  }

  bool run_panels(const Side<T>& rows, Index tile0, const Side<T>& columns, Index tile1, bool symmetric, T* out, Index ld, const TileSink<T>* sink, Reporter& reporter) const {
    const Panels p = panels(rows, tile0, columns, tile1);
    std::atomic<bool> finite{true};
    parallel_for(static_cast<Index>(p.pairs.size()), [&](Index k) {
      if (reporter.cancelled()) return;
      const auto [i, j] = p.pairs[static_cast<std::size_t>(k)];
      if (sink && !sink->wanted(tile0 + i, tile1 + j)) return reporter.done();
      run_pair(p, k, [&](const Tile& at, const T* values, Index stride, bool whole) {
        if (!whole) finite = false;
        if (out) store(at, (tile0 * tile + at.i0) * R, (tile1 * tile + at.j0) * R, symmetric, &rows == &columns && at.i == at.j, values, stride, out, ld);
        reporter.done(sink && whole ? sink->take(tile0 + at.i, tile1 + at.j, values, stride) : 0);
      });
    });
    return finite;
  }

  // The other triangle is a copy, made while the tile is hot: symmetric in bits.
  void store(const Tile& at, Index row0, Index column0, bool symmetric, bool diagonal, const T* acc, Index la, T* out, Index ld) const {
    const Index r = at.rows(R), c = at.columns(R);
    for (Index e = 0; e < r; ++e) std::copy_n(acc + e * la, diagonal ? e + 1 : c, out + (row0 + e) * ld + column0);
    if (!symmetric) return;
    constexpr Index block = 16;
    for (Index f0 = 0; f0 < c; f0 += block)
      for (Index e0 = 0; e0 < r; e0 += block)
        for (Index f = f0; f < std::min(c, f0 + block); ++f)
          for (Index e = std::max(e0, diagonal ? f + 1 : 0); e < std::min(r, e0 + block); ++e) out[(column0 + f) * ld + row0 + e] = acc[e * la + f];
  }

  // ---- memory
  // What a thread has while it contracts a tile pair.
  double tile_size(Index n, Index m) const {
    const double r = static_cast<double>(std::min(n, tile) * R), c = static_cast<double>(std::min(m, tile) * R);
    double most = 0;
    for (const auto& t : plan.terms) {
      const double S = static_cast<double>(value(t.a).rows), U = static_cast<double>(value(t.b).rows);
      double size = r * c;
      if (t.plain && !t.packed) {
        const double block = static_cast<double>(std::max<Index>(1, 512 / (R * std::max(value(t.a).rows, value(t.b).rows)))), o = static_cast<double>(R);
        size = block * S * block * U * (2 + o * o);
      } else if (!t.plain) {
        size = r * S * c * U * (plan.traced ? static_cast<double>(O * O) : 1) * 2;
      }
      most = std::max(most, size);
    }
    return sizeof(T) * (r * c + std::max(most, plan.materialized.empty() ? 0 : r * c));
  }
  double light_bytes(Index n, Index m) const {
    double size = 0;
    for (const auto& t : plan.terms)
      if (t.packed && R > 1) size += static_cast<double>(n) * static_cast<double>(m);
    return sizeof(T) * size;
  }
  std::size_t bytes(Index n1, Index n2, Index panel) const {  // of panels of so many tiles
    const Index rows = n2 ? n2 : n1, n = std::min(rows, panel * tile), m = std::min(n1, panel * tile);
    const bool one = n2 == 0 && n == rows;  // a single side
    const SideBytes x = side_bytes(n, rows), y = one ? SideBytes() : side_bytes(m, n1);
    const double contracting = x.kept + y.kept + light_bytes(n, m) + static_cast<double>(thread_count()) * tile_size(n, m);
    return static_cast<std::size_t>(std::max({x.evaluating, one ? 0 : x.kept + y.evaluating, contracting}));
  }
};

}  // namespace

Index tile_examples(const GramPlan& plan, Index n1, Index n2) {
  const Index R = plan.traced ? 1 : plan.outputs, rows = std::max(n1, n2) * R < 1024 ? 192 : 384;  // small kernels are many tiles too, for all threads
  return std::max<Index>(1, rows / R);
}

template <Scalar T> bool run_gram(const GramPlan& plan, const Views<T>& params, const T* x1, Index n1, const T* x2, Index n2, InFlight in_flight, T* out, const Options& options) {
  const Contractor<T> c{{plan, params, tile_examples(plan, n1, n2), in_flight.alone}};
  const Index panel = in_flight.panel;
  return n2 ? c.run(x2, n2, x1, n1, panel, out, nullptr, options.progress) : c.run(x1, n1, nullptr, 0, panel, out, nullptr, options.progress);
}
template <Scalar T> bool run_gram(const GramPlan& plan, const Views<T>& params, const T* x1, Index n1, const T* x2, Index n2, InFlight in_flight, const TileSink<T>& sink, const Options& options) {
  const Contractor<T> c{{plan, params, tile_examples(plan, n1, n2), in_flight.alone}};
  const Index panel = in_flight.panel;
  return n2 ? c.run(x2, n2, x1, n1, panel, nullptr, &sink, options.progress) : c.run(x1, n1, nullptr, 0, panel, nullptr, &sink, options.progress);
}
template <Scalar T> std::size_t gram_bytes(const GramPlan& plan, Index n1, Index n2, InFlight in_flight) { return n1 == 0 ? 0 : Contractor<T>{{plan, {}, tile_examples(plan, n1, n2), in_flight.alone}}.bytes(n1, n2, in_flight.panel); }

// Smaller panels are not always less: of one set with itself, the largest panel is one side and not two.
template <Scalar T> InFlight most_in_flight(const GramPlan& plan, Index n1, Index n2, std::size_t room) {
  if (n1 == 0) return {};
  InFlight least;
  std::size_t least_bytes = std::numeric_limits<std::size_t>::max();
  for (const bool alone : {false, true}) {
    const Contractor<T> c{{plan, {}, tile_examples(plan, n1, n2), alone}};
    const Index all = c.tiles(std::max(n1, n2));
    for (Index panels = 1;; ++panels) {
      const Index panel = (all + panels - 1) / panels;
      const std::size_t bytes = c.bytes(n1, n2, panel);
      if (bytes <= room) return {panel, alone};
      if (bytes < least_bytes) least_bytes = bytes, least = {panel, alone};
      if (panel == 1) break;
      panels = std::max(panels, (all + panel - 2) / (panel - 1) - 1);  // on to the next smaller panel
    }
  }
  return least;
}

template <Scalar T> struct GramBlocks<T>::State {
  Contractor<T> c;
  const T *x1, *x2;
  Index n1, n2, panel;
  struct Evaluated {
    Index panel = -1;
    std::optional<Side<T>> side;
  };
  Evaluated rows = {}, columns = {};
  std::optional<typename Contractor<T>::Panels> open = {};
  Index swept = 0;

  const Side<T>& evaluated(Evaluated& e, Index k, const T* x, Index n) {
    if (e.panel == k) return *e.side;
    const Index first = k * panel * c.tile, last = std::min(n, first + panel * c.tile);
    e.panel = -1;
    e.side.reset();  // never both the old and the new
    e.side = c.evaluate(x, n, first, last);
    e.panel = k;
    const Index chunk = c.chunk_size(n);
    swept += std::min(n, padded(last, chunk)) - first / chunk * chunk;
    return *e.side;
  }
};

template <Scalar T> GramBlocks<T>::GramBlocks(const GramPlan& plan, const Views<T>& params, const T* x1, Index n1, const T* x2, Index n2, InFlight in_flight)
    : state_(new State{Contractor<T>{{plan, params, tile_examples(plan, n1, n2), in_flight.alone}}, x1, x2, n1, n2, in_flight.panel}) {}
template <Scalar T> GramBlocks<T>::~GramBlocks() = default;

template <Scalar T> Index GramBlocks<T>::open(Index i, Index j, FunctionRef<bool(Index, Index)> wanted) {
  State& s = *state_;
  s.open.reset();
  const bool symmetric = s.n2 == 0;
  if (symmetric && i == j) s.columns = {};  // one side does for both, and is all that is counted for
  const Side<T>& rows = s.evaluated(s.rows, i, symmetric ? s.x1 : s.x2, symmetric ? s.n1 : s.n2);
  const Side<T>& columns = symmetric && i == j ? rows : s.evaluated(s.columns, j, s.x1, s.n1);
  s.open = s.c.panels(rows, i * s.panel, columns, j * s.panel);
  std::erase_if(s.open->pairs, [&](const auto& pair) { return !wanted(i * s.panel + pair[0], j * s.panel + pair[1]); });
  return static_cast<Index>(s.open->pairs.size());
}

template <Scalar T> bool GramBlocks<T>::run(Index first, Index last, FunctionRef<void(Index, Index, Index, const T*, Index)> take) const {
  const auto& p = *state_->open;
  std::atomic<bool> finite{true};
  parallel_for(last - first, [&](Index k) {
    state_->c.run_pair(p, first + k, [&](const auto& at, const T* values, Index stride, bool whole) {
      if (whole) take(k, p.tile0 + at.i, p.tile1 + at.j, values, stride);
      else finite = false;
    });
  });
  return finite;
}
template <Scalar T> Index GramBlocks<T>::swept() const { return state_->swept; }

#define LINNET_INSTANTIATE(T)                                                                                                                                     \
  template bool run_gram(const GramPlan&, const Views<T>&, const T*, Index, const T*, Index, InFlight, T*, const Options&);                                                 \
  template bool run_gram(const GramPlan&, const Views<T>&, const T*, Index, const T*, Index, InFlight, const TileSink<T>&, const Options&);                                 \
  template class GramBlocks<T>;                                                                                                                                             \
  template std::size_t gram_bytes<T>(const GramPlan&, Index, Index, InFlight);                                                                                       \
  template InFlight most_in_flight<T>(const GramPlan&, Index, Index, std::size_t);
LINNET_INSTANTIATE(float)
LINNET_INSTANTIATE(double)

}  // namespace linnet::ntk
