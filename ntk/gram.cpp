#include "linnet/ntk/gram.h"

#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/ops/families.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

namespace linnet::ntk {
namespace {

using namespace autodiff;

// How a value of the linear program relates to one parameter's tangent: that itself, scaled, reshaped, or transposed as a matrix of `rows` rows.
struct View {
  int param = -1;
  double scale = 1;
  Index rows = 0;
};
struct Use {
  int instruction, operand;
  View view;
};
// One use's share of the gradient of a parameter: scale * sum_s left[s] (x) right[s].
struct Piece {
  int param;
  double scale;
  Var left, right;
  Index rows;
  std::array<Index, 2> one_hot{};  // of left and right, where it is an index
  Index positions() const { return right.shape()[0]; }
  Index height() const { return one_hot[0] ? one_hot[0] : left.shape()[1]; }
  Index width() const { return one_hot[1] ? one_hot[1] : right.shape()[1]; }
  bool indexed() const { return one_hot[0] || one_hot[1]; }
};
// Whether two pieces meet in equal indices alone.
bool gathered(const Piece& a, const Piece& b) { return (a.one_hot[0] && b.one_hot[0]) || (a.one_hot[1] && b.one_hot[1]); }

// The view behind an instruction that only scales, reshapes or transposes; nothing where the parameter is used.
std::optional<View> through(const Instruction& c, const Shape& in, View v) {
  if (c.primitive == &scale_primitive()) {
    v.scale *= std::get<double>(c.attributes);
    return v;
  }
  if (c.primitive == &reshape_primitive()) return v;
  if (c.primitive != &transpose_primitive()) return {};
  const Shape& axes = std::get<Permutation>(c.attributes).axes;
  const Index turn = axes[0];
  for (Index i = 0; i < axes.rank(); ++i)
    if (axes[i] != (i + turn) % axes.rank()) return {};
  const Index rows = in.size(0, turn);  // a rotation of the axes is the transpose of a matrix
  if (v.rows && rows * v.rows != in.size()) return {};
  v.rows = v.rows ? 0 : rows;
  return v;
}

std::vector<Use> uses_of(const Program& p, int n_params) {
  std::vector<View> view(static_cast<std::size_t>(p.first_instruction()));
  for (int i = 0; i < n_params; ++i) view[static_cast<std::size_t>(i)].param = i;
  std::vector<Use> uses;
  for (int k = 0; k < static_cast<int>(p.code.size()); ++k) {
    const Instruction& c = p.code[static_cast<std::size_t>(k)];
    View out;
    for (int i = 0; i < static_cast<int>(c.in.size()); ++i) {
      const int u = c.in[static_cast<std::size_t>(i)];
      const View v = view[static_cast<std::size_t>(u)];
      if (v.param < 0) continue;
      if (const auto next = through(c, p.shape(u), v)) out = *next;
      else uses.push_back({k, i, v});
    }
    view.push_back(out);
  }
  for (const int v : p.outputs)  // a parameter that is an output itself: nothing to factor there
    if (const View& seen = view[static_cast<std::size_t>(v)]; seen.param >= 0) uses.push_back({-1, 0, seen});
  return uses;
}

// The same value without the scalars it was multiplied with.
Var unscaled(Var v, double& scale) {
  while (true) {
    const Tape::Node& n = v.tape()->node(v);
    if (n.primitive != &scale_primitive()) return v;
    scale *= std::get<double>(n.attributes);
    v = v.tape()->operand(v, 0);
  }
}

struct Cut {
  std::vector<Piece> pieces;
  std::vector<Var> gradients;  // of what is not factored
};

// Transposes the derivative, stopping at the uses of parameters that are to be factored.
Cut cut_transpose(Tape& tape, const Program& map, int n_params, const std::vector<Use>& uses, const std::vector<char>& factored, const Shape& out) {
  Cut cut;
  const Var cotangent = tape.input(out);
  std::vector<Var> in(static_cast<std::size_t>(n_params));
  for (int i = n_params; i < map.n_inputs(); ++i) in.push_back(tape.input(map.shape(i)));
  const Stop stop = [&](int k, int i, const Rule& rule, const Var& ct) {
    const auto use = std::find_if(uses.begin(), uses.end(), [&](const Use& u) { return u.instruction == k && u.operand == i; });
    if (use == uses.end() || !factored[static_cast<std::size_t>(use->view.param)]) return false;
    Piece piece{use->view.param, use->view.scale, {}, {}, use->view.rows};
    if (const auto factor = map.code[static_cast<std::size_t>(k)].primitive->factor) {
      auto [left, right, one_hot] = factor(rule, i, ct);
      if (!right.is_zero()) piece.right = unscaled(right, piece.scale);
      if (!left.is_zero()) piece.left = one_hot ? left : unscaled(left, piece.scale);
      piece.one_hot[0] = one_hot;
      if (piece.rows && !left.is_zero()) std::swap(piece.left, piece.right), std::swap(piece.one_hot[0], piece.one_hot[1]);
    }
    cut.pieces.push_back(piece);
    return true;
  };
  cut.gradients = transpose(map, in, std::array{cotangent}, stop);
  cut.gradients.resize(static_cast<std::size_t>(n_params));
  return cut;
}

// Decides for every parameter by a trial cut of all of them: its pieces must fit each other, and cost less than gradients would. In multiply-adds.
struct Decision {
  double n1, n2, outputs;
  bool traced;
  std::set<int> shared;  // cotangents of weights that stay factored: a bias beside one costs nothing more

  // Pieces with an index on this side: an example has no more rows that are not zero than positions, nor than the table has, and at most all of them meet another's.
  double of_gathered(const std::vector<const Piece*>& pieces, std::size_t side) const {
    double positions = 0, table = 0, width = 0;
    for (const Piece* p : pieces)
      if (p->one_hot[side]) positions += static_cast<double>(p->positions()), table = static_cast<double>(p->one_hot[side]), width = static_cast<double>(side ? p->height() : p->width());
    const double blocks = traced ? outputs : outputs * outputs;
    return (n1 + n2) * outputs * positions * width + n1 * n2 * std::min(positions, table) * (blocks * width + (traced ? 1 : blocks));
  }

  bool decide(const std::vector<const Piece*>& pieces, bool bias, GramPlan::Choice& choice) {
    const double pairs = n1 * n2, o = outputs, blocks = traced ? o : o * o;
    double gradients = 0, factors = 0;
    bool fit = true, free = true;
    for (const Piece* a : pieces) {
      fit &= !a->right.is_zero() && a->left.is_zero() == bias;
      if (!fit) return false;
      if (bias) fit &= a->rows == pieces[0]->rows;  // a gradient is kept as it lies, and must lie as the others do
      else fit &= a->height() == pieces[0]->height() && (a->rows == 0 || a->height() == a->rows);
      if (!fit) return false;
      const double s = static_cast<double>(a->positions()), width = static_cast<double>(a->width()), height = bias ? 0 : static_cast<double>(a->height());
      gradients += (n1 + n2) * o * s * (a->one_hot[0] ? 1 : height) * (a->one_hot[1] ? 1 : width);
      choice.factor_numbers += (n1 + n2) * s * ((a->one_hot[0] ? 1 : height) + (bias && shared.count(a->right.id()) > 0 ? 0 : o * (a->one_hot[1] ? 1 : width)));
      free &= shared.count(a->right.id()) > 0 || s == 1;
      choice.gathered |= a->indexed();
      for (const Piece* b : pieces) {
        if (!b->right.is_zero() && gathered(*a, *b)) continue;
        const double left = a->one_hot[0] || b->one_hot[0] ? 1 : height, right = a->one_hot[1] || b->one_hot[1] ? 1 : width;  // of a row with a unit vector there is one number to read
        factors += pairs * s * (b->right.is_zero() ? 1 : static_cast<double>(b->positions())) * (left + blocks * right + (traced ? 1 : blocks));
      }
    }
    for (const std::size_t side : {0, 1}) factors += of_gathered(pieces, side);
    choice.positions = pieces[0]->positions();
    choice.materialized += gradients;
    choice.factors = bias && free ? 0 : factors;
    return choice.factors <= choice.materialized;
  }
};

std::vector<char> choose(GramPlan& plan, const Program& map, const std::vector<Use>& uses, const Tree<Shape>& params, const Shape& out, Index n1, Index n2) {
  const auto shapes = params.leaves();
  const std::vector<std::string> names = params.paths();
  std::vector<char> factored(shapes.size(), 1);
  for (const Use& u : uses)
    if (u.instruction < 0) factored[static_cast<std::size_t>(u.view.param)] = 0;
  Tape tape;
  const Cut trial = cut_transpose(tape, map, plan.n_params, uses, factored, out);
  for (std::size_t q = 0; q < shapes.size(); ++q)
    if (!trial.gradients[q].is_zero()) factored[q] = 0;  // a use within a call has no factors, and its share would be lost beside those of other uses
  Decision decision{static_cast<double>(n1), static_cast<double>(n2), static_cast<double>(plan.outputs), plan.traced, {}};
  plan.choices.resize(shapes.size());
  for (const Use& u : uses) {
    GramPlan::Choice& choice = plan.choices[static_cast<std::size_t>(u.view.param)];
    ++choice.uses;
    choice.gradient_numbers = (decision.n1 + decision.n2) * decision.outputs * static_cast<double>(shapes[static_cast<std::size_t>(u.view.param)]->size());
    choice.materialized = decision.n1 * decision.n2 * static_cast<double>(shapes[static_cast<std::size_t>(u.view.param)]->size()) * decision.outputs * (plan.traced ? 1 : decision.outputs);
  }
  for (const bool bias : {false, true})  // weights first
    for (std::size_t q = 0; q < shapes.size(); ++q) {
      std::vector<const Piece*> mine;
      for (const Piece& p : trial.pieces)
        if (p.param == static_cast<int>(q)) mine.push_back(&p);
      if (mine.empty() || mine[0]->left.is_zero() != bias) continue;
      GramPlan::Choice& choice = plan.choices[q];
      choice.factored = factored[q] && decision.decide(mine, bias, choice);
      if (choice.factored)
        for (const Piece* p : mine)
          if (!p->indexed()) decision.shared.insert(p->right.id());
    }
  for (std::size_t q = 0; q < shapes.size(); ++q) {
    plan.choices[q].parameter = names[q];
    plan.choices[q].shape = *shapes[q];
    factored[q] = plan.choices[q].factored;
  }
  return factored;
}

// Uses with an index on one side, by parameter and side.
void find_gathered(GramPlan& plan, const std::vector<Piece>& pieces, const std::vector<std::array<int, 2>>& sides) {
  std::map<std::pair<int, std::size_t>, GramPlan::Gathered> found;
  for (std::size_t a = 0; a < pieces.size(); ++a)
    for (const std::size_t side : {0, 1}) {
      const Piece& p = pieces[a];
      if (!p.one_hot[side]) continue;
      GramPlan::Gathered& g = found[{p.param, side}];
      g.uses.push_back({sides[a][side], sides[a][1 - side]});
      g.scale.push_back(p.scale);
      g.table = p.one_hot[side];
      g.width = plan.values[static_cast<std::size_t>(sides[a][1 - side])].width;
    }
  for (auto& [key, g] : found) plan.gathered.push_back(std::move(g));
}

// Ordered pairs of uses of one parameter; those with the same pair of cotangents share its product.
void find_terms(GramPlan& plan, const std::vector<Piece>& pieces, const std::vector<std::array<int, 2>>& sides) {
  auto varies = [&](int v) { return plan.values[static_cast<std::size_t>(v)].varies; };
  auto heavy = [&](int v) { return v >= 0 && varies(v) == Varies::both; };
  auto light = [&](int v) { return v < 0 || varies(v) == Varies::examples; };
  auto one_row = [&](int v) { return plan.values[static_cast<std::size_t>(v)].rows == 1; };
  for (std::size_t a = 0; a < pieces.size(); ++a)
    for (std::size_t b = 0; b < pieces.size(); ++b) {
      if (pieces[a].param != pieces[b].param || gathered(pieces[a], pieces[b])) continue;
      std::array left{sides[a][0], sides[b][0]}, right{sides[a][1], sides[b][1]};
      if (heavy(left[0]) && heavy(left[1])) std::swap(left, right);
      const bool plain = light(left[0]) && light(left[1]) && heavy(right[0]) && heavy(right[1]) && !pieces[a].indexed() && !pieces[b].indexed();
      auto term = std::find_if(plan.terms.begin(), plan.terms.end(), [&](const GramPlan::Term& t) { return t.a == right[0] && t.b == right[1] && t.plain == plain; });
      if (term == plan.terms.end()) term = plan.terms.insert(term, {{}, {}, right[0], right[1], plain, plain && one_row(right[0]) && one_row(right[1])});
      term->left.push_back(left);
      term->scale.push_back(pieces[a].scale * pieces[b].scale);
    }
}

}  // namespace

GramPlan plan_gram(const Apply& f, const Tree<Shape>& params, const Shape& example, Index n1, Index n2, bool traced, Contraction contraction) {
  GramPlan plan;
  plan.traced = traced;
  plan.n_params = static_cast<int>(params.leaves().size());
  Tape outer;
  std::vector<Var> p;
  for (const Shape* s : params.leaves()) p.push_back(outer.input(*s));
  const Var data = outer.input(example);
  const Linear l = linearize([&](std::span<const Var> q) { return std::vector{f(unflatten(params, std::vector<Var>(q.begin(), q.begin() + plan.n_params)), q.back())}; }, p, std::array{data});
  const Shape out = l.out[0].shape();
  plan.outputs = out.size();
  const std::vector<Use> uses = uses_of(*l.map, plan.n_params);
  std::vector<char> factored = choose(plan, *l.map, uses, params, out, n1, n2);
  if (contraction == Contraction::materialized) {
    std::fill(factored.begin(), factored.end(), 0);
    for (auto& c : plan.choices) c.factored = false;
  }

  Tape tape;
  const Cut cut = cut_transpose(tape, *l.map, plan.n_params, uses, factored, out);
  std::vector<Var> outputs;
  auto value = [&](const Var& v, Index rows, Index width, Index one_hot = 0) {
    for (std::size_t i = 0; i < outputs.size(); ++i)
      if (outputs[i].same_as(v) && plan.values[i].rows == rows && plan.values[i].one_hot == one_hot) return static_cast<int>(i);
    outputs.push_back(v);
    plan.values.push_back({Varies::nothing, rows, width, one_hot});
    return static_cast<int>(outputs.size()) - 1;
  };
  std::vector<std::array<int, 2>> sides;  // of each piece
  const auto side = [&](const Var& v, Index one_hot) { return v.is_zero() ? -1 : value(v, v.shape()[0], one_hot ? 1 : v.shape()[1], one_hot); };
  for (const Piece& a : cut.pieces) {
    const int left = side(a.left, a.one_hot[0]);
    sides.push_back({left, side(a.right, a.one_hot[1])});
  }
  for (std::size_t q = 0; q < factored.size(); ++q)
    if (!factored[q] && !cut.gradients[q].is_zero()) plan.materialized.push_back(value(cut.gradients[q], 1, p[q].shape().size()));
  plan.cut = std::make_shared<const Program>(tape.seal(outputs));

  Primal primal = seal_primal(outer, plan.n_params, {}, l.residuals);
  plan.primal = std::move(primal.program);
  plan.residuals = std::move(primal.residuals);
  std::vector<Varies> in_cut{Varies::both};
  for (const Residual& r : plan.residuals) in_cut.push_back(r.varies);
  in_cut = varies(*plan.cut, in_cut);
  for (std::size_t i = 0; i < plan.values.size(); ++i) plan.values[i].varies = in_cut[static_cast<std::size_t>(plan.cut->outputs[i])];
  find_gathered(plan, cut.pieces, sides);
  find_terms(plan, cut.pieces, sides);

  plan.sweep_flops = cost(*plan.primal).flops + static_cast<double>(plan.outputs) * cost(*plan.cut).flops;
  for (const auto& c : plan.choices) plan.pair_flops += 2 * (c.factored ? c.factors : c.materialized) / std::max(1.0, static_cast<double>(n1) * static_cast<double>(n2));
  return plan;
}

}  // namespace linnet::ntk
