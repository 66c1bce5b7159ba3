// Training on a loss beside CVODE's BDF method with Krylov solves (Hindmarsh et al., ACM Trans. Math. Softw. 31, 2005), an integrator by others, with the products of our
// Jacobian. Built where SUNDIALS is installed (Debian: libsundials-dev).
#include "linnet/autodiff/ops.h"
#include "linnet/predict/predict.h"
#include "linnet/tests/predict/problem.h"

#include <cvode/cvode.h>
#include <nvector/nvector_serial.h>
#include <sunlinsol/sunlinsol_spgmr.h>

#include <doctest/doctest.h>

using namespace linnet::predict;
using linnet::ntk::FullKernel;
using problem::difference, problem::Draw, problem::product, problem::transposed;

namespace {

// f' = -K g(f).
struct Outputs {
  LossOn loss;
  Array<double> kernel;
  Array<double> times(const Array<double>& v) const { return product(kernel, v); }
};

int slope(realtype, N_Vector f, N_Vector answer, void* user) {
  const Outputs& o = *static_cast<const Outputs*>(user);
  Array<double> g(Shape{o.loss.size()});
  o.loss(N_VGetArrayPointer(f), g.data());
  const Array<double> kg = o.times(g);
  for (Index i = 0; i < g.size(); ++i) N_VGetArrayPointer(answer)[i] = -kg.data()[i];
  return 0;
}

int jacobian_times(N_Vector v, N_Vector answer, realtype, N_Vector f, N_Vector, void* user, N_Vector) {
  const Outputs& o = *static_cast<const Outputs*>(user);
  Array<double> hv(Shape{o.loss.size()});
  o.loss.hessian_product(N_VGetArrayPointer(f), N_VGetArrayPointer(v), hv.data());
  const Array<double> khv = o.times(hv);
  for (Index i = 0; i < hv.size(); ++i) N_VGetArrayPointer(answer)[i] = -khv.data()[i];
  return 0;
}

Array<double> by_cvode(Outputs& o, const Array<double>& f0, double t) {
  SUNContext context = nullptr;
  REQUIRE(SUNContext_Create(nullptr, &context) == 0);
  N_Vector f = N_VNew_Serial(f0.size(), context);
  std::copy(f0.begin(), f0.end(), N_VGetArrayPointer(f));
  void* solver = CVodeCreate(CV_BDF, context);
  SUNLinearSolver linear = SUNLinSol_SPGMR(f, SUN_PREC_NONE, 30, context);
  REQUIRE(CVodeInit(solver, slope, 0, f) == CV_SUCCESS);
  REQUIRE(CVodeSStolerances(solver, 1e-10, 1e-10) == CV_SUCCESS);
  REQUIRE(CVodeSetUserData(solver, &o) == CV_SUCCESS);
  REQUIRE(CVodeSetLinearSolver(solver, linear, nullptr) == CV_SUCCESS);
  REQUIRE(CVodeSetJacTimes(solver, nullptr, jacobian_times) == CV_SUCCESS);
  REQUIRE(CVodeSetMaxNumSteps(solver, 1000000) == CV_SUCCESS);
  realtype reached = 0;
  REQUIRE(CVode(solver, t, f, &reached, CV_NORMAL) == CV_SUCCESS);
  const Array<double> answer(f0.shape(), std::span<const double>(N_VGetArrayPointer(f), static_cast<std::size_t>(f0.size())));
  N_VDestroy(f);
  CVodeFree(&solver);
  SUNLinSolFree(linear);
  SUNContext_Free(&context);
  return answer;
}

}  // namespace

TEST_CASE("CVODE comes to the same outputs, of examples that can be separated and of labels that conflict") {
  for (const bool conflicting : {false, true}) {
    const Index n = 10, k = 3;
    Draw draw(51);
    Array<double> features = draw.array(Shape{n * k, 40}), y(Shape{n, k});
    for (Index i = 0; i < n; ++i) y[{i, (i * i + i / 2) % k}] = 1;
    if (conflicting)
      for (Index i = 0; i < n; i += 2) {
        std::copy_n(features.data() + i * k * 40, k * 40, features.data() + (i + 1) * k * 40);
        for (Index j = 0; j < k; ++j) y[{i + 1, j}] = y[{i, (j + 1) % k}];
      }
    const Array<double> kernel = product(features, transposed(features)), f0 = conflicting ? Array<double>(Shape{n, k}) : draw.array(Shape{n, k});
    for (const Loss& loss : {Loss::softmax_cross_entropy(), Loss::logistic()}) {
      Outputs outputs{LossOn("test", loss, Shape{n, k}, y), kernel};
      const auto flow = gradient_flow(FullKernel<double>(kernel, n, n, k), f0, y, loss);
      for (const double t : {1.0, 1e2, 1e4}) {
        CAPTURE(conflicting);
        CAPTURE(loss.name());
        CAPTURE(t);
        CHECK(difference(flow(t).train(), by_cvode(outputs, f0, t)) < 1e-6);
      }
    }
  }
}
