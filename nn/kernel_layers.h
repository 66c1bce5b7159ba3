// What the rules of kernel_rule.h are made with, and those of activations. Not installed.
#pragma once

#include "linnet/nn/check.h"
#include "linnet/nn/kernel_rule.h"

#include <memory>

namespace linnet::nn {

using Rule = std::shared_ptr<const KernelRule>;
using Statistics = std::vector<Statistic>;

Rule no_rule(std::string reason);
Rule same_rule();  // what comes is answered

// Of a layer of one array in and one out.
struct OneValue {
  Places places = Places::as_asked;
  std::function<Law(const Law&, int& draws)> law;
  std::function<ExampleValue(const ExampleValue&, Statistics&, const Scale&)> example;
  std::function<PairValue(const PairValue&, const Sides& after, std::span<const Sides>, const Scale&)> pair;  // gap and ntk of what it answers
};
Rule one_value_rule(std::string name, OneValue rule);

// Laws: what comes, and what is answered.
Law with_weights(const std::string& name, int& draws);                        // Gaussian, of weights of its own
Law only_of_gaussian(const std::string& name, const Law& in, bool gaussian);  // StructureError unless it is
Law not_gaussian(const std::string& name, const Law& in);

Var scaled_by(const Var& factor, const Var& x);  // of which x may be nothing
Var squared(const Var& x);                       // of a number too
Var inverse_root(const Var& q);                  // 1 / sqrt(q), 0 of 0

// Values one beside another, as fan_in_sum and fan_in_concat have them: q = sum of weight[i] q_i, and the same of covariances.
ExampleValue mixed(const std::vector<ExampleValue>& values, std::span<const double> weights, const Shape& shape, Statistics& statistics);
PairValue mixed(const std::vector<PairValue>& values, std::span<const double> weights, const Sides& after, std::span<const Sides> statistics);

// ---- activations. A rule for what an activation answers: the gap, and the slope dK'/dK = E f'(u1) f'(u2) by which the ntk is multiplied; no value where that is 0.
struct Response {
  Var gap, slope;
};
struct Activation {
  std::function<Var(const Var& q, Statistics&)> variance;
  std::function<Response(const PairValue&, const Sides& after, std::span<const Sides>)> pair;
};
Rule activation_rule(std::string name, Activation activation);

Rule abrelu_rule(std::string name, double a, double b);                     // arXiv 1711.00165 (ReLU: Cho and Saul, NIPS 2009)
Rule erf_rule(std::string name, double a, double b, double c);              // Williams, NIPS 1996
Rule gelu_rule();                                                           // arXiv 2002.08517
Rule sine_rule(std::string name, double a, double b, double cos2c);         // a sin(b x + c)
Rule rbf_rule(double gamma);
Rule exp_rule(double a, double b);
Rule gaussian_rule(double a, double b);
Rule gabor_rule();
Rule sign_rule();
Rule polynomial_rule(std::string name, const std::vector<double>& coefficients);
Rule rectified_monomial_rule(Index degree);

// Of any function, by a series, with what that lacks (kernel_series.cpp). odd: f(-x) = -f(x).
Rule series_rule(std::string name, std::function<Var(const Var&)> f, bool odd = false);

}  // namespace linnet::nn
