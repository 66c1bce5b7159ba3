// The derivatives of a network written by hand with Eigen: what bench/derivatives compares with. Four dense layers with an Erf between them.
// Compiled as any user of Eigen would: Eigen's own namespace, cache sizes and products.
#pragma once

#include <array>
#include <cstdint>

namespace linnet::bench {

constexpr int layers = 4, hidden = layers - 1;
constexpr std::array<std::int64_t, layers + 1> widths{784, 512, 512, 512, 10};

struct Parameters {  // W[l] is widths[l] x widths[l + 1], row-major; of several gradients or tangents one follows another
  std::array<const float*, layers> W, b;
};
struct Gradients {
  std::array<float*, layers> W, b;
};
struct Residuals {
  const float* x;                            // n x widths[0]
  std::array<const float*, hidden> h, slope;  // of every Erf its result and its derivative, n x widths[l + 1]
};

class HandWritten {
 public:
  HandWritten(std::int64_t n, std::int64_t lanes, std::int64_t panel);  // examples; the most (co)tangents at once; rows that one thread takes
  ~HandWritten();

  // y = f(x), and what the derivatives need.
  void forward(const Parameters& p, const float* x, float* y, const std::array<float*, hidden>& h, const std::array<float*, hidden>& slope);
  // k cotangents of y, k gradients. Folded: products with a weight take all cotangents as rows of one matrix; otherwise one sweep for each.
  void vjp(const Parameters& p, const Residuals& r, std::int64_t k, const float* cotangents, const Gradients& to, bool folded);
  // k tangents of the parameters, k tangents of y.
  void jvp(const Parameters& p, const Residuals& r, std::int64_t k, const Parameters& tangents, float* to, bool folded);
  // The same where those who call keep tangents of W side by side, widths[l] x k x widths[l + 1]: all products are folded, x [dW1 dW2 ...] too. The
  // result is n x k x widths[layers].
  void jvp_side_by_side(const Parameters& p, const Residuals& r, std::int64_t k, const Parameters& tangents, float* to);

 private:
  void vjp_once(const Parameters&, const Residuals&, std::int64_t k, const float* cotangents, const Gradients& to);
  void jvp_once(const Parameters&, const Residuals&, std::int64_t k, const Parameters& tangents, float* to);
  std::int64_t n_, panel_;
  std::array<float*, hidden> work_;  // lanes x n x the hidden width
};

}  // namespace linnet::bench
