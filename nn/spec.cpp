// layer_from_json: one function for each type of layer. Every key is read through Reader, which knows what is left over and where it stands.
#include "linnet/nn/spec.h"

#include "linnet/nn/check.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <limits>
#include <map>
#include <set>

namespace linnet::nn {
namespace {

using Json = nlohmann::json;

constexpr int deepest = 100;  // layers inside layers, so that no description exhausts the stack

Layer read(const Json& object, std::string place, int depth);

// The members of one layer's object.
class Reader {
 public:
  Reader(const Json& object, std::string place, int depth) : object_(object), place_(std::move(place)), depth_(depth) {
    if (!object.is_object()) fail<StructureError>("spec: {}: a layer is an object, got {}", where(), kind(object));
    type_ = text("type");
  }
  const std::string& type() const { return type_; }
  const std::string& place() const { return place_; }
  std::string where() const { return place_.empty() ? "at the top" : "at " + place_; }
  bool has(const char* key) const { return object_.contains(key); }
  bool is_list(const char* key) const { return object_.at(key).is_array(); }

  double number(const char* key) { return checked(key, "a number", &Json::is_number).get<double>(); }
  double number(const char* key, double otherwise) { return has(key) ? number(key) : otherwise; }
  std::string text(const char* key) { return checked(key, "a string", &Json::is_string).get<std::string>(); }
  Index integer(const char* key) {
    return whole(key, checked(key, "an integer", &Json::is_number_integer));
  }
  Index integer(const char* key, Index otherwise) { return has(key) ? integer(key) : otherwise; }
  bool flag(const char* key, bool otherwise) { return has(key) ? checked(key, "true or false", &Json::is_boolean).get<bool>() : otherwise; }
  // A list of numbers of the kind that `read` reads: integer or number.
  template <class T, class Read> std::vector<T> list(const char* key, const char* expected, bool (Json::*is)() const noexcept, Read read) {
    const Json& all = checked(key, expected, &Json::is_array);
    std::vector<T> values;
    for (const Json& value : all) {
      if (!(value.*is)()) fail<StructureError>("spec: {}: '{}' should be {}, got {} in it", where(), key, expected, kind(value));
      values.push_back(read(value));
    }
    return values;
  }
  std::vector<Index> integers(const char* key) {
    return list<Index>(key, "a list of integers", &Json::is_number_integer, [&](const Json& v) { return whole(key, v); });
  }
  std::vector<Index> integers(const char* key, const std::vector<Index>& otherwise) { return has(key) ? integers(key) : otherwise; }
  std::vector<double> numbers(const char* key) {
    return list<double>(key, "a list of numbers", &Json::is_number, [](const Json& v) { return v.get<double>(); });
  }
  // One of these words, in capitals or not.
  template <class Enum> Enum one_of(const char* key, Enum otherwise, std::initializer_list<std::pair<const char*, Enum>> words) {
    allow({key});
    if (!has(key)) return otherwise;
    const std::string given = text(key);
    std::string list;
    for (const auto& [word, value] : words) {
      const auto same = [](char a, char b) { return std::toupper(static_cast<unsigned char>(a)) == std::toupper(static_cast<unsigned char>(b)); };
      if (std::equal(given.begin(), given.end(), word, word + std::strlen(word), same)) return value;
      list += fmt::format("{}\"{}\"", list.empty() ? "" : word == (words.end() - 1)->first ? " or " : ", ", word);
    }
    fail<StructureError>("spec: {}: '{}' should be {}, got \"{}\"", where(), key, list, given);
  }
  std::vector<Layer> layers();
  Layer layer();
  void finish() const {  // that every key was read
    for (const auto& [key, value] : object_.items())
      if (!read_.contains(key)) fail<StructureError>("spec: {}: {} does not know the key '{}'; it has {}", where(), type_, key, fmt::join(read_, ", "));
  }
  void allow(std::initializer_list<const char*> keys) { read_.insert(keys.begin(), keys.end()); }

 private:
  Index whole(const char* key, const Json& value) const {
    if (value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<Index>::max())) fail<StructureError>("spec: {}: '{}' is too large: {}", where(), key, value.dump());
    return value.get<Index>();
  }
  static std::string kind(const Json& value) {
    if (value.is_null() || value.is_structured()) return value.type_name();
    return fmt::format("the {} {}", value.type_name(), value.dump());
  }
  const Json& checked(const char* key, const char* expected, bool (Json::*is)() const noexcept) {
    read_.insert(key);
    const auto at = object_.find(key);
    if (at == object_.end()) fail<StructureError>("spec: {}: {} needs the key '{}', {}", where(), type_.empty() ? "a layer" : type_, key, expected);
    if (!((*at).*is)()) fail<StructureError>("spec: {}: '{}' should be {}, got {}", where(), key, expected, kind(*at));
    return *at;
  }
  Layer inner(const Json& object, const std::string& name);
  const Json& object_;
  std::string place_, type_;
  int depth_;
  std::set<std::string> read_;
};

Parameterization parameterization(Reader& r) { return r.one_of("parameterization", Parameterization::ntk, {{"ntk", Parameterization::ntk}, {"standard", Parameterization::standard}}); }
Padding padding(Reader& r) { return r.one_of("padding", Padding::valid, {{"SAME", Padding::same}, {"VALID", Padding::valid}, {"CIRCULAR", Padding::circular}}); }
std::optional<double> bias(Reader& r) {
  r.allow({"b_std"});
  return r.has("b_std") ? std::optional(r.number("b_std")) : std::nullopt;
}

Layer dense(Reader& r) {
  r.allow({"W_std"});
  const Index out = r.integer("out");
  const double W_std = r.number("W_std", 1);
  return Dense(out, {W_std, bias(r), parameterization(r)});
}
Layer convolution(Reader& r) {
  r.allow({"strides", "W_std"});
  const Index out = r.integer("out");
  const std::vector<Index> filter = r.integers("filter"), strides = r.integers("strides", {});
  const double W_std = r.number("W_std", 1);
  return Conv(out, filter, {strides, padding(r), W_std, bias(r), parameterization(r)});
}
template <Layer (*F)(std::vector<Index>, PoolOptions)> Layer pool(Reader& r) {
  r.allow({"strides"});
  const std::vector<Index> window = r.integers("window"), strides = r.integers("strides", {});
  if (F == AvgPool) r.allow({"normalize_edges"});
  const bool normalize_edges = F == AvgPool && r.flag("normalize_edges", false);
  return F(window, {strides, padding(r), normalize_edges});
}
Layer normalization(Reader& r) {
  r.allow({"axis", "eps"});
  return LayerNorm(r.has("axis") && r.is_list("axis") ? r.integers("axis") : std::vector{r.integer("axis", -1)}, r.number("eps", 1e-12));
}
Layer attention(Reader& r) {
  r.allow({"linear_scaling", "W_key_std", "W_value_std", "W_query_std", "W_out_std", "pos_emb_channels", "W_pos_emb_std", "val_pos_emb"});
  const Index out = r.integer("out"), key = r.integer("key"), value = r.integer("value"), heads = r.integer("heads");
  AttentionOptions o;
  o.linear_scaling = r.flag("linear_scaling", o.linear_scaling);
  o.W_key_std = r.number("W_key_std", o.W_key_std);
  o.W_value_std = r.number("W_value_std", o.W_value_std);
  o.W_query_std = r.number("W_query_std", o.W_query_std);
  o.W_out_std = r.number("W_out_std", o.W_out_std);
  o.b_std = bias(r);
  o.mechanism = r.one_of("mechanism", o.mechanism, {{"SOFTMAX", Mechanism::softmax}, {"IDENTITY", Mechanism::identity}, {"ABS", Mechanism::abs}, {"RELU", Mechanism::relu}});
  o.pos_emb = r.one_of("pos_emb", o.pos_emb, {{"NONE", PositionalEmbedding::none}, {"SUM", PositionalEmbedding::sum}, {"CONCAT", PositionalEmbedding::concat}});
  if (r.has("pos_emb_channels")) o.pos_emb_channels = r.integer("pos_emb_channels");
  o.W_pos_emb_std = r.number("W_pos_emb_std", o.W_pos_emb_std);
  o.val_pos_emb = r.flag("val_pos_emb", o.val_pos_emb);
  return GlobalSelfAttention(out, key, value, heads, o);
}
Layer embedding(Reader& r) {
  r.allow({"W_std"});
  const Index vocabulary = r.integer("vocabulary"), out = r.integer("out");
  const double W_std = r.number("W_std", 1);
  return Embedding(vocabulary, out, {W_std, parameterization(r)});
}

// An activation a f(b x + c) with these defaults; the last is 0 where there is no c.
template <Layer (*F)(double, double, double)> Layer scaled(Reader& r) {
  r.allow({"a", "b", "c"});
  return F(r.number("a", 1), r.number("b", 1), r.number("c", 0));
}

const std::map<std::string, Layer (*)(Reader&), std::less<>>& types() {
  static const std::map<std::string, Layer (*)(Reader&), std::less<>> all{
      {"serial", [](Reader& r) { return serial(r.layers()); }},
      {"parallel", [](Reader& r) { return parallel(r.layers()); }},
      {"fan_out", [](Reader& r) { return fan_out(r.integer("n")); }},
      {"repeat", [](Reader& r) { const Index n = r.integer("n"); return repeat(r.layer(), n); }},
      {"fan_in_sum", [](Reader&) { return fan_in_sum(); }},
      {"fan_in_prod", [](Reader&) { return fan_in_prod(); }},
      {"fan_in_concat", [](Reader& r) { r.allow({"axis"}); return fan_in_concat(r.integer("axis", -1)); }},
      {"identity", [](Reader&) { return identity(); }},
      {"flatten", [](Reader&) { return flatten(); }},
      {"dense", dense},
      {"conv", convolution},
      {"avg_pool", pool<AvgPool>},
      {"sum_pool", pool<SumPool>},
      {"max_pool", pool<MaxPool>},
      {"global_avg_pool", [](Reader&) { return GlobalAvgPool(); }},
      {"global_sum_pool", [](Reader&) { return GlobalSumPool(); }},
      {"layer_norm", normalization},
      {"dropout", [](Reader& r) { return Dropout(r.number("keep")); }},
      {"attention", attention},
      {"embedding", embedding},
      {"erf", scaled<Erf>},
      {"sin", scaled<Sin>},
      {"cos", scaled<Cos>},
      {"exp", [](Reader& r) { r.allow({"a", "b"}); return Exp(r.number("a", 1), r.number("b", 1)); }},
      {"gaussian", [](Reader& r) { r.allow({"a", "b"}); return Gaussian(r.number("a", 1), r.number("b", -1)); }},
      {"rbf", [](Reader& r) { r.allow({"gamma"}); return Rbf(r.number("gamma", 1)); }},
      {"gabor", [](Reader&) { return Gabor(); }},
      {"monomial", [](Reader& r) { return Monomial(r.integer("degree")); }},
      {"rectified_monomial", [](Reader& r) { return RectifiedMonomial(r.integer("degree")); }},
      {"polynomial", [](Reader& r) { return Polynomial(r.numbers("coefficients")); }},
      {"hermite", [](Reader& r) { return Hermite(r.integer("degree")); }},
      {"ab_relu", [](Reader& r) { const double a = r.number("a"), b = r.number("b"); return ABRelu(a, b); }},
      {"leaky_relu", [](Reader& r) { return LeakyRelu(r.number("alpha")); }},
      {"relu", [](Reader&) { return Relu(); }},
      {"abs", [](Reader&) { return Abs(); }},
      {"gelu", [](Reader& r) { r.allow({"approximate"}); return Gelu(r.flag("approximate", false)); }},
      {"tanh", [](Reader&) { return Tanh(); }},
      {"sign", [](Reader&) { return Sign(); }},
      {"sigmoid_like", [](Reader&) { return Sigmoid_like(); }},
  };
  return all;
}

Layer read(const Json& object, std::string place, int depth) {
  Reader reader(object, std::move(place), depth);
  const auto at = types().find(reader.type());
  if (at == types().end()) {
    std::vector<std::string_view> names;
    for (const auto& [name, make] : types()) names.push_back(name);
    fail<StructureError>("spec: layer type '{}' is not available ({}); there are {}", reader.type(), reader.where(), fmt::join(names, ", "));
  }
  try {
    Layer layer = at->second(reader);
    reader.finish();
    return layer;
  } catch (const std::invalid_argument& e) {  // of the layer's own checks; what Reader throws has its place already
    if (std::string_view(e.what()).starts_with("spec: ")) throw;
    fail<StructureError>("spec: {}: {}", reader.where(), e.what());
  }
}

std::vector<Layer> Reader::layers() {
  const Json& list = checked("layers", "a list of layers", &Json::is_array);
  std::vector<Layer> made;
  for (std::size_t i = 0; i < list.size(); ++i) made.push_back(inner(list[i], fmt::format("layers[{}]", i)));
  return made;
}

Layer Reader::layer() { return inner(checked("layer", "a layer", &Json::is_object), "layer"); }

Layer Reader::inner(const Json& object, const std::string& name) {
  if (depth_ >= deepest) fail<StructureError>("spec: {}: layers are nested deeper than {}", where(), deepest);
  return read(object, (place_.empty() ? "" : place_ + ".") + name, depth_ + 1);
}

// Refuses a key that an object has twice, of which JSON readers keep the last.
class NoDuplicates {
 public:
  bool operator()(int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) keys_.emplace_back();
    if (event == Json::parse_event_t::object_end) keys_.pop_back();
    if (event == Json::parse_event_t::key && !keys_.back().insert(parsed.get<std::string>()).second) fail<StructureError>("spec: an object has the key '{}' twice", parsed.get<std::string>());
    return true;
  }

 private:
  std::vector<std::set<std::string>> keys_;
};

// A layer as it is read: its type, its options, and what it is made of.
Json written(const Layer& layer, int depth) {
  if (depth > deepest) fail<StructureError>("spec: layers are nested deeper than {}", deepest);
  if (!layer.options) fail<StructureError>("spec: a layer '{}' has no description; only the library's own have", layer.name);
  Json object{{"type", layer.name}};
  for (const Option& option : *layer.options)
    std::visit([&](const auto& value) { object[option.name] = value; }, option.value);
  if (!layer.children) return object;
  if (layer.name == "repeat") {
    object["layer"] = written(layer.children->at(0), depth + 1);
  } else {
    object["layers"] = Json::array();
    for (const Layer& child : *layer.children) object["layers"].push_back(written(child, depth + 1));
  }
  return object;
}

}  // namespace

std::string layer_to_json(const Layer& layer) { return written(layer, 0).dump(); }

Layer layer_from_json(std::string_view json) {
  Json description;
  try {
    description = Json::parse(json, NoDuplicates());
  } catch (const Json::exception& e) {
    const std::string_view text = e.what();  // "[json.exception.parse_error.101] parse error at line 1, column 2: …"
    fail<StructureError>("spec: this is not JSON: {}", text.substr(text.starts_with('[') ? text.find(']') + 2 : 0));
  }
  return read(description, "", 0);
}

}  // namespace linnet::nn
