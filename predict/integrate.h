// Training on any loss as a differential equation in N numbers: c' = -rate (g + ridge c), g = d L / d f at f0 + K c. What is integrated is y = (c, K c), so a step
// never multiplies by K what is known already, and the error is measured where it means something, on the outputs: along a null space of K coefficients drift.
// Not installed; loss_flow.h is the door.
#pragma once

#include "linnet/predict/loss_flow.h"

#include <array>
#include <functional>
#include <optional>
#include <vector>

namespace linnet::predict {

// v -> K v, of as many numbers as K has rows.
using Product = std::function<void(const double* v, double* kv)>;
using Numbers = std::vector<double>;

// The right side. With friction b it is momentum flow, c'' = -b c' - (g + ridge c) in the time sqrt(rate) t, and z = (c, c'); else z = c. y = (z, K z). Steps
// have z = (c, v) if they have momentum. Weight decay is one more row of K, that of theta0: its coefficient is s - 1, and the loss has the slope `decay` there
// (and the ridge has decay in it).
struct Equation {
  const char* operation;  // for messages
  LossOn loss;
  Array<double> f0;  // [outputs]
  Product kernel;
  double rate = 1, ridge = 0, decay = 0, momentum = 0;
  bool nesterov = false;
  std::optional<double> friction = {};
  double rtol = 1e-8, atol = 1e-8;
  double noise = 0;  // v.Kv below -noise |v|^2 shows that K is indefinite; infinity where it cannot be

  Index outputs() const { return f0.size(); }
  Index rows() const { return outputs() + (decay > 0); }
  Index blocks() const { return friction || momentum > 0 ? 2 : 1; }
  Index size() const { return 2 * blocks() * rows(); }
  const double* kz(const Numbers& y) const { return y.data() + blocks() * rows(); }

  Numbers outputs_at(const double* kc) const;              // f0 + K c
  void gradient(const double* f, double* g) const;         // d L / d f, and the slope of the decaying row
  void pull(const Numbers& y, double* g, double* kg) const;  // g + ridge c and its product with K
  void slope(const Numbers& y, Numbers& dy) const;         // one product, as has
  void step(Numbers& y) const;                             // a step of descent
  void multiply(const double* v, double* kv) const;        // NumericalError where K is indefinite
  // Root mean square of changes of K z, each relative to atol + rtol |f|: 1 is what a step may be wrong by.
  double measure(const double* change, const Numbers& y0, const Numbers& y1) const;
};

// The solution, step by step. The steps depend on the equation alone and not on the times that are asked for, and what is between two of them on these two: so an
// answer has the same bits whatever was asked before. A few steps are kept, from which earlier times are found again.
class Path {
 public:
  Path(Equation equation, Integration start, Index max_products);
  Numbers at(double t);  // y(t). NumericalError: t is before the start, products are used up, or the steps came to nothing
  const Equation& equation() const { return equation_; }
  const Integration& from() const { return from_; }  // where the step begins that the last answer is in

 private:
  void advance();  // to_ and what is between, from from_
  void advance_explicit();
  void advance_exponential();
  void stages(double h);  // k_[1..6], stage_ and to_.values
  void restart(double t);
  void remember();
  double first_step();
  double stiffness(double h) const;
  void note_stiffness(bool stiff);
  Numbers between(double t);
  Numbers exponential_between(double left);
  void spend(Index products);
  void check_step(double h) const;
  const char* operation_;
  Equation equation_;
  Integration from_, to_;
  bool has_to_ = false;
  Index max_products_;
  std::array<Numbers, 7> k_;      // slopes of the stages
  bool has_slope_ = false;        // k_[0] is that of from_
  Numbers stage_;                 // the argument of the sixth of them
  std::vector<Integration> kept_;
  Index stride_ = 1;
};

}  // namespace linnet::predict
