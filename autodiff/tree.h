// Tree<Leaf>: a leaf, or children that have names and an order. Parameters are trees of arrays; a tree of no children is a layer
// without parameters. Leaves are visited depth first in the order of the children, everywhere.
#pragma once

#include "linnet/autodiff/error.h"

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace linnet::autodiff {

template <class Leaf> class Tree {
 public:
  using Child = std::pair<std::string, Tree>;

  Tree() : node_(std::vector<Child>()) {}  // no children
  Tree(Leaf leaf) : node_(std::move(leaf)) {}
  Tree(std::initializer_list<Child> children) : Tree(std::vector<Child>(children)) {}
  explicit Tree(std::vector<Child> children) : node_(std::move(children)) {  // StructureError: two children of one name
    const auto& all = std::get<1>(node_);
    for (std::size_t i = 0; i < all.size(); ++i)
      for (std::size_t j = 0; j < i; ++j)
        if (all[i].first == all[j].first) throw StructureError("tree: two children are named '" + all[i].first + "'; names must differ");
  }

  bool is_leaf() const { return node_.index() == 0; }
  const Leaf& leaf() const& { return const_cast<Tree*>(this)->own_leaf(); }  // StructureError if it has children
  Leaf& leaf() & { return own_leaf(); }
  Leaf leaf() && { return std::move(own_leaf()); }
  const std::vector<Child>& children() const { return const_cast<Tree*>(this)->own_children(); }  // StructureError if it is a leaf
  operator const Leaf&() const { return leaf(); }

  const Tree& operator[](std::string_view name) const {  // StructureError lists the names there are
    for (const Child& child : children())
      if (child.first == name) return child.second;
    throw StructureError("tree: there is no child '" + std::string(name) + "'; " + names());
  }
  const Tree& operator[](const char* name) const { return (*this)[std::string_view(name)]; }  // a literal is no subscript of a converted leaf
  Tree& operator[](const char* name) { return (*this)[std::string_view(name)]; }
  Tree& operator[](std::string_view name) { return const_cast<Tree&>(std::as_const(*this)[name]); }
  bool has(std::string_view name) const {
    if (!is_leaf())
      for (const Child& child : children())
        if (child.first == name) return true;
    return false;
  }

  std::vector<const Leaf*> leaves() const {
    std::vector<const Leaf*> found;
    visit([&](const std::string&, const Leaf& leaf) { found.push_back(&leaf); });
    return found;
  }
  std::vector<Leaf*> leaves() {
    std::vector<Leaf*> found;
    visit([&](const std::string&, const Leaf& leaf) { found.push_back(const_cast<Leaf*>(&leaf)); });
    return found;
  }
  std::vector<std::string> paths() const {  // names joined by '/'; the path of a lone leaf is empty
    std::vector<std::string> found;
    visit([&](const std::string& path, const Leaf&) { found.push_back(path); });
    return found;
  }
  template <class F> void visit(F&& f, const std::string& prefix = {}) const {  // f(path, leaf)
    if (is_leaf()) return f(prefix, std::get<0>(node_));
    for (const Child& child : children()) child.second.visit(f, prefix.empty() ? child.first : prefix + "/" + child.first);
  }
  std::string names() const {  // for messages
    if (is_leaf()) return "it is a leaf";
    std::string text = children().empty() ? "it has no children" : "its children are";
    for (const Child& child : children()) text += (&child == &children().front() ? " " : ", ") + child.first;
    return text;
  }
  bool operator==(const Tree&) const = default;

 private:
  Leaf& own_leaf() {
    if (!is_leaf()) throw StructureError("tree: one leaf was expected, but " + names());
    return std::get<0>(node_);
  }
  std::vector<Child>& own_children() {
    if (is_leaf()) throw StructureError("tree: children were expected, but it is a leaf");
    return std::get<1>(node_);
  }
  std::variant<Leaf, std::vector<Child>> node_;
};

// f of corresponding leaves, in a tree of the same form. StructureError where the trees differ.
template <class F, class L, class... Ls> auto map(F&& f, const Tree<L>& tree, const Tree<Ls>&... others) -> Tree<std::invoke_result_t<F&, const L&, const Ls&...>> {
  using Result = Tree<std::invoke_result_t<F&, const L&, const Ls&...>>;
  if (((others.is_leaf() != tree.is_leaf()) || ...)) throw StructureError("tree map: the trees differ: a leaf in one has children in another");
  if (tree.is_leaf()) return Result(f(tree.leaf(), others.leaf()...));
  if (((others.children().size() != tree.children().size()) || ...)) throw StructureError("tree map: the trees differ in the number of children; of the first, " + tree.names());
  std::vector<typename Result::Child> children;
  for (std::size_t i = 0; i < tree.children().size(); ++i) {
    const std::string& name = tree.children()[i].first;
    if (((others.children()[i].first != name) || ...)) throw StructureError("tree map: child " + std::to_string(i) + " is '" + name + "' in one tree and has another name in another");
    children.emplace_back(name, map(f, tree.children()[i].second, others.children()[i].second...));
  }
  return Result(std::move(children));
}

// A tree of the form of `like` with these leaves, in order. StructureError if their number differs.
template <class Leaf, class L> Tree<Leaf> unflatten(const Tree<L>& like, std::vector<Leaf> leaves) {
  std::size_t next = 0;
  const std::size_t wanted = like.leaves().size();
  if (leaves.size() != wanted) throw StructureError("tree unflatten: the tree has " + std::to_string(wanted) + " leaves, got " + std::to_string(leaves.size()));
  return map([&](const L&) { return std::move(leaves[next++]); }, like);
}

}  // namespace linnet::autodiff
