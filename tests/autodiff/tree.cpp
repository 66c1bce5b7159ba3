// Trees: named children in order, leaves and paths, mapping, and the errors that name what there is.
#include "linnet/autodiff/tree.h"

#include <doctest/doctest.h>

using linnet::autodiff::StructureError;
using Tree = linnet::autodiff::Tree<std::string>;

namespace {

const Tree net{{"dense_0", Tree{{"W", Tree("1")}, {"b", Tree("2")}}}, {"erf_1", Tree()}, {"dense_2", Tree{{"W", Tree("3")}}}};

}  // namespace

TEST_CASE("a tree is a leaf or has named children in order") {
  CHECK(Tree("5").is_leaf());
  CHECK(Tree("5").leaf() == "5");
  CHECK_FALSE(Tree().is_leaf());
  CHECK(Tree().children().empty());
  CHECK(net["dense_0"]["b"].leaf() == "2");
  CHECK(static_cast<const std::string&>(net["dense_2"]["W"]) == "3");
  CHECK(net.has("erf_1"));
  CHECK_FALSE(net.has("W"));
  CHECK_FALSE(Tree("1").has("W"));
  CHECK(net.children()[2].first == "dense_2");
}

TEST_CASE("leaves are visited depth first in the order of the children") {
  CHECK(net.paths() == std::vector<std::string>{"dense_0/W", "dense_0/b", "dense_2/W"});
  std::vector<std::string> values;
  for (const std::string* leaf : net.leaves()) values.push_back(*leaf);
  CHECK(values == std::vector<std::string>{"1", "2", "3"});
  CHECK(Tree("7").paths() == std::vector<std::string>{""});
  CHECK(Tree().leaves().empty());
  CHECK(Tree().paths().empty());
}

TEST_CASE("leaves can be changed, and copies are their own") {
  Tree copy = net;
  copy["dense_0"]["W"].leaf() = "10";
  *copy.leaves()[2] = "30";
  CHECK(copy["dense_2"]["W"].leaf() == "30");
  CHECK(net["dense_0"]["W"].leaf() == "1");
  CHECK(copy != net);
  CHECK(net == Tree(net));
}

TEST_CASE("map goes over corresponding leaves and keeps the form") {
  const auto sums = map([](const std::string& a, const std::string& b) { return std::pair(a.size(), a + b); }, net, net);
  CHECK((sums["dense_0"]["b"].leaf() == std::pair<std::size_t, std::string>(1, "22")));
  CHECK(sums.paths() == net.paths());
  CHECK(sums.has("erf_1"));
  CHECK(map([](const std::string& a) { return a; }, Tree()) == Tree());
  CHECK(unflatten(net, std::vector<std::string>{"7", "8", "9"})["dense_2"]["W"].leaf() == "9");
  CHECK(unflatten(Tree(), std::vector<std::string>()) == Tree());
}

TEST_CASE("what is not there is refused with the names there are") {
  CHECK_THROWS_WITH_AS(net["dense_1"], "tree: there is no child 'dense_1'; its children are dense_0, erf_1, dense_2", StructureError);
  CHECK_THROWS_WITH_AS(Tree()["W"], "tree: there is no child 'W'; it has no children", StructureError);
  CHECK_THROWS_WITH_AS(Tree("1")["W"], "tree: children were expected, but it is a leaf", StructureError);
  CHECK_THROWS_WITH_AS(Tree("1").children(), "tree: children were expected, but it is a leaf", StructureError);
  CHECK_THROWS_WITH_AS(net["dense_0"].leaf(), "tree: one leaf was expected, but its children are W, b", StructureError);
  CHECK_THROWS_WITH_AS(Tree().leaf(), "tree: one leaf was expected, but it has no children", StructureError);
  CHECK_THROWS_WITH_AS((Tree{{"W", Tree("1")}, {"b", Tree("2")}, {"W", Tree("3")}}), "tree: two children are named 'W'; names must differ", StructureError);
}

TEST_CASE("trees that differ are not mapped together") {
  auto both = [](const Tree& a, const Tree& b) { return map([](const std::string& x, const std::string& y) { return x + y; }, a, b); };
  CHECK_THROWS_WITH_AS(both(net, Tree("1")), "tree map: the trees differ: a leaf in one has children in another", StructureError);
  CHECK_THROWS_WITH_AS(both(net["dense_0"], net["dense_2"]), "tree map: the trees differ in the number of children; of the first, its children are W, b", StructureError);
  CHECK_THROWS_WITH_AS(both(net["dense_2"], Tree{{"V", Tree("1")}}), "tree map: child 0 is 'W' in one tree and has another name in another", StructureError);
  CHECK_THROWS_WITH_AS(unflatten(net, std::vector<std::string>{"1", "2"}), "tree unflatten: the tree has 3 leaves, got 2", StructureError);
}
