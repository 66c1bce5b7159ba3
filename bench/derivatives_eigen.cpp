#include "derivatives_eigen.h"

#include "linnet/autodiff/kernels/parallel.h"

#include <Eigen/Core>
#include <unsupported/Eigen/SpecialFunctions>

#include <numbers>

namespace linnet::bench {
namespace {

using autodiff::parallel_for;
using Eigen::Index;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Map = Eigen::Map<Matrix, Eigen::Aligned64>;
using In = Eigen::Map<const Matrix, Eigen::Aligned16>;
using Row = Eigen::Map<const Eigen::RowVectorXf, Eigen::Aligned16>;

// f(first, rows) for panels of rows, in threads.
template <class F> void panels(Index rows, Index panel, F f) {
  const Index count = (rows + panel - 1) / panel;
  parallel_for(count, [&](Index i) { f(i * panel, std::min(panel, rows - i * panel)); });
}

}  // namespace

HandWritten::HandWritten(std::int64_t n, std::int64_t lanes, std::int64_t panel) : n_(n), panel_(panel) {
  for (std::size_t l = 0; l < hidden; ++l) work_[l] = static_cast<float*>(::operator new(static_cast<std::size_t>(lanes * n * widths[l + 1]) * sizeof(float), std::align_val_t(64)));
}
HandWritten::~HandWritten() {
  for (float* w : work_) ::operator delete(w, std::align_val_t(64));
}

void HandWritten::forward(const Parameters& p, const float* x, float* y, const std::array<float*, hidden>& h, const std::array<float*, hidden>& slope) {
  constexpr float c = 2 * std::numbers::inv_sqrtpi_v<float>;
  for (std::size_t l = 0; l < layers; ++l) {
    const In from(l ? h[l - 1] : x, n_, widths[l]), W(p.W[l], widths[l], widths[l + 1]);
    const Row b(p.b[l], widths[l + 1]);
    const bool last = l + 1 == layers;
    Eigen::Map<Matrix> z(last ? y : h[l], n_, widths[l + 1]), s(last ? y : slope[l], n_, widths[l + 1]);
    panels(n_, panel_, [&](Index first, Index rows) {
      z.middleRows(first, rows).noalias() = from.middleRows(first, rows) * W;
      for (Index i = first; i < first + rows; ++i) {
        z.row(i) += b;
        if (last) continue;
        s.row(i) = c * (-z.row(i).array().square()).exp();
        z.row(i) = z.row(i).array().erf();
      }
    });
  }
}

// All k cotangents side by side as rows: one product with every weight; gradients one by one.
void HandWritten::vjp_once(const Parameters& p, const Residuals& r, std::int64_t k, const float* cotangents, const Gradients& to) {
  const float* ct = cotangents;
  for (std::size_t l = layers; l-- > 0;) {
    const Index in = widths[l], out = widths[l + 1];
    const In x(l ? r.h[l - 1] : r.x, n_, in);
    const Index pieces = (in + panel_ - 1) / panel_;
    parallel_for(k * pieces, [&](Index item) {
      const Index lane = item / pieces, first = item % pieces * panel_, rows = std::min(panel_, in - first);
      const In g(ct + lane * n_ * out, n_, out);
      Eigen::Map<Matrix>(to.W[l] + lane * in * out, in, out).middleRows(first, rows).noalias() = x.middleCols(first, rows).transpose() * g;
      if (first == 0) Eigen::Map<Eigen::RowVectorXf>(to.b[l] + lane * out, out) = g.colwise().sum();
    });
    if (l == 0) return;
    const In g(ct, k * n_, out), W(p.W[l], in, out), s(r.slope[l - 1], n_, in);
    Map next(work_[l - 1], k * n_, in);
    panels(k * n_, panel_, [&](Index first, Index rows) {
      next.middleRows(first, rows).noalias() = g.middleRows(first, rows) * W.transpose();
      for (Index i = first; i < first + rows; ++i) next.row(i).array() *= s.row(i % n_).array();
    });
    ct = work_[l - 1];
  }
}

void HandWritten::vjp(const Parameters& p, const Residuals& r, std::int64_t k, const float* cotangents, const Gradients& to, bool folded) {
  if (folded) return vjp_once(p, r, k, cotangents, to);
  for (std::int64_t i = 0; i < k; ++i) {
    Gradients mine = to;
    for (std::size_t l = 0; l < layers; ++l) {
      mine.W[l] += i * widths[l] * widths[l + 1];
      mine.b[l] += i * widths[l + 1];
    }
    vjp_once(p, r, 1, cotangents + i * n_ * widths[layers], mine);
  }
}

void HandWritten::jvp_once(const Parameters& p, const Residuals& r, std::int64_t k, const Parameters& tangents, float* to) {
  for (std::size_t l = 0; l < layers; ++l) {
    const Index in = widths[l], out = widths[l + 1];
    const bool last = l + 1 == layers;
    const In x(l ? r.h[l - 1] : r.x, n_, in), W(p.W[l], in, out), s(last ? r.x : r.slope[l], last ? 0 : n_, out);
    Eigen::Map<Matrix> next(last ? to : work_[l], k * n_, out);
    panels(k * n_, panel_, [&](Index first, Index rows) {
      auto rows_to = next.middleRows(first, rows);
      if (l) rows_to.noalias() = In(work_[l - 1], k * n_, in).middleRows(first, rows) * W;
      for (Index i = first; i < first + rows;) {  // the rows of one lane
        const Index lane = i / n_, at = i % n_, m = std::min(n_ - at, first + rows - i);
        const In dW(tangents.W[l] + lane * in * out, in, out);
        if (l) next.middleRows(i, m).noalias() += x.middleRows(at, m) * dW;
        else next.middleRows(i, m).noalias() = x.middleRows(at, m) * dW;
        const Row db(tangents.b[l] + lane * out, out);
        for (Index j = 0; j < m; ++j) {
          if (last) next.row(i + j) += db;
          else next.row(i + j) = (next.row(i + j) + db).cwiseProduct(s.row(at + j));
        }
        i += m;
      }
    });
  }
}

void HandWritten::jvp(const Parameters& p, const Residuals& r, std::int64_t k, const Parameters& tangents, float* to, bool folded) {
  if (folded) return jvp_once(p, r, k, tangents, to);
  for (std::int64_t i = 0; i < k; ++i) {
    Parameters mine = tangents;
    for (std::size_t l = 0; l < layers; ++l) {
      mine.W[l] += i * widths[l] * widths[l + 1];
      mine.b[l] += i * widths[l + 1];
    }
    jvp_once(p, r, 1, mine, to + i * n_ * widths[layers]);
  }
}

void HandWritten::jvp_side_by_side(const Parameters& p, const Residuals& r, std::int64_t k, const Parameters& tangents, float* to) {
  for (std::size_t l = 0; l < layers; ++l) {
    const Index in = widths[l], out = widths[l + 1];
    const bool last = l + 1 == layers;
    const In x(l ? r.h[l - 1] : r.x, n_, in), W(p.W[l], in, out), dW(tangents.W[l], in, k * out), s(last ? r.x : r.slope[l], last ? 0 : n_, out);
    const Eigen::Map<const Matrix> db(tangents.b[l], k, out);
    float* const next_at = last ? to : work_[l];
    Eigen::Map<Matrix> wide(next_at, n_, k * out), next(next_at, n_ * k, out);
    panels(n_, panel_, [&](Index first, Index rows) {
      wide.middleRows(first, rows).noalias() = x.middleRows(first, rows) * dW;
      if (l) next.middleRows(first * k, rows * k).noalias() += In(work_[l - 1], n_ * k, in).middleRows(first * k, rows * k) * W;
      for (Index i = first; i < first + rows; ++i)
        for (Index lane = 0; lane < k; ++lane) {
          if (last) next.row(i * k + lane) += db.row(lane);
          else next.row(i * k + lane) = (next.row(i * k + lane) + db.row(lane)).cwiseProduct(s.row(i));
        }
    });
  }
}

}  // namespace linnet::bench
