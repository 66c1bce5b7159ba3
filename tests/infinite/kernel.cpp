// Kernels of fully connected networks against values of neural-tangents, and the promises of the door: symmetry, sets of examples, edges.
#include "networks.h"

#include "linnet/autodiff/config.h"

#include <doctest/doctest.h>

namespace linnet::infinite {
namespace {

using namespace nn;
using Parts = std::vector<Layer>;

struct Expected {
  const char* name;
  Layer network;
  double nngp[3], ntk[3];  // entries (0,0), (0,1), (1,2), in double with neural-tangents 0.6.5
};
std::vector<Expected> reference_values() {
  const auto standard = Parameterization::standard;
  return {
      {"dense", D(), {1.06677082144502, 0.973010721181753, 1.20742460531138}, {1.06677082144502, 0.973010721181753, 1.20742460531138}},
      {"relu", serial({D(), Relu(), D()}), {1.29011717412564, 1.22278657298434, 1.47474104320759}, {2.49023434825129, 2.09137437816995, 2.59770241182925}},
      {"relu twice", serial({D(), Relu(), D(), Relu(), D()}), {1.54138182089135, 1.4990705005121, 1.77310118413422}, {4.34289546267405, 3.41543065520328, 4.23298376613219}},
      {"erf", serial({D(), Erf(), D()}), {1.16279609349035, 0.948810937898825, 1.06932557272026}, {2.4944110736456, 1.92784637044245, 2.23643540495503}},
      {"gelu", serial({D(), Gelu(), D()}), {1.1200168723575, 1.04483752394104, 1.29501047065767}, {2.22350064227835, 1.94456063714611, 2.46574009889278}},
      {"sin", serial({D(), Sin(), D()}), {1.08178069610419, 0.834088195518175, 0.925295429585022}, {2.4240123364791, 1.79939791800173, 2.13183912399135}},
      {"leaky_relu", serial({D(), LeakyRelu(.1), D()}), {1.3021183458669, 1.22648453638321, 1.48331078119321}, {2.5142366917338, 2.14896807084944, 2.66458002597181}},
      {"standard", serial({D(standard), Erf(), D(standard)}), {1.16279609349035, 0.948810937898825, 1.06932557272026}, {6.79985125078684, 5.49417731887467, 6.06309416372541}},
      {"layer_norm", serial({D(), LayerNorm(), Relu(), D()}), {1.21499999999895, 1.0176811545426, 1.07105645266342}, {2.33999999999789, 1.72900008888819, 1.86664816432822}},
      {"branches", serial({D(), fan_out(2), parallel({serial({Relu(), D()}), identity()}), fan_in_sum(), Relu(), D()}), {2.741498995017, 2.63156166604678, 3.15769005585034}, {6.74312981092534, 5.40572066047997, 6.73090118837742}},
  };
}

TEST_CASE_TEMPLATE("kernels of fully connected networks are those of neural-tangents", T, float, double) {
  for (const Expected& e : reference_values()) {
    CAPTURE(e.name);
    const auto k = kernel(e.network).both(reference_input<T>());
    const double within = std::is_same_v<T, float> ? 3e-6 : 1e-12;
    const Index at[][2] = {{0, 0}, {0, 1}, {1, 2}};
    for (int i = 0; i < 3; ++i) {
      CHECK(off(double(k.nngp[{at[i][0], at[i][1]}]), e.nngp[i]) <= within);
      CHECK(off(double(k.ntk[{at[i][0], at[i][1]}]), e.ntk[i]) <= (i == 0 && !std::is_same_v<T, float> ? 1e-7 : within));  // there they have the root of a rounding
    }
  }
}

}  // namespace
}  // namespace linnet::infinite
