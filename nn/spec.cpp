// layer_from_json: one function for each type of layer. Every key is read through Reader, which knows what is left over and where it stands.
#include "linnet/nn/spec.h"

#include "linnet/nn/check.h"

#include <nlohmann/json.hpp>

#include <limits>
#include <map>
#include <set>

namespace linnet::nn {
namespace {

using Json = nlohmann::json;

constexpr int deepest = 100;  // layers inside layers, so that no description exhausts the stack

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

  double number(const char* key) { return checked(key, "a number", &Json::is_number).get<double>(); }
  double number(const char* key, double otherwise) { return has(key) ? number(key) : otherwise; }
  std::string text(const char* key) { return checked(key, "a string", &Json::is_string).get<std::string>(); }
  Index integer(const char* key) {
    const Json& value = checked(key, "an integer", &Json::is_number_integer);
    if (value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<Index>::max())) fail<StructureError>("spec: {}: '{}' is too large: {}", where(), key, value.dump());
    return value.get<Index>();
  }
  std::vector<Layer> layers();
  void finish() const {  // that every key was read
    for (const auto& [key, value] : object_.items())
      if (!read_.contains(key)) fail<StructureError>("spec: {}: {} does not know the key '{}'; it has {}", where(), type_, key, fmt::join(read_, ", "));
  }
  void allow(std::initializer_list<const char*> keys) { read_.insert(keys.begin(), keys.end()); }

 private:
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
  const Json& object_;
  std::string place_, type_;
  int depth_;
  std::set<std::string> read_;
};

Layer dense(Reader& r) {
  r.allow({"W_std", "b_std", "parameterization"});
  DenseOptions options;
  const Index out = r.integer("out");
  options.W_std = r.number("W_std", options.W_std);
  if (r.has("b_std")) options.b_std = r.number("b_std");
  if (r.has("parameterization")) {
    const std::string name = r.text("parameterization");
    if (name != "ntk" && name != "standard") fail<StructureError>("spec: {}: 'parameterization' should be \"ntk\" or \"standard\", got \"{}\"", r.where(), name);
    if (name == "standard") options.parameterization = Parameterization::standard;
  }
  return Dense(out, options);
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
      {"fan_in_sum", [](Reader&) { return fan_in_sum(); }},
      {"identity", [](Reader&) { return identity(); }},
      {"flatten", [](Reader&) { return flatten(); }},
      {"dense", dense},
      {"erf", scaled<Erf>},
      {"sin", scaled<Sin>},
      {"cos", scaled<Cos>},
      {"exp", [](Reader& r) { r.allow({"a", "b"}); return Exp(r.number("a", 1), r.number("b", 1)); }},
      {"gaussian", [](Reader& r) { r.allow({"a", "b"}); return Gaussian(r.number("a", 1), r.number("b", -1)); }},
      {"rbf", [](Reader& r) { r.allow({"gamma"}); return Rbf(r.number("gamma", 1)); }},
      {"leaky_relu", [](Reader& r) { return LeakyRelu(r.number("alpha")); }},
      {"relu", [](Reader&) { return Relu(); }},
      {"abs", [](Reader&) { return Abs(); }},
      {"gelu", [](Reader&) { return Gelu(); }},
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
  if (depth_ >= deepest) fail<StructureError>("spec: {}: layers are nested deeper than {}", where(), deepest);
  const Json& list = checked("layers", "a list of layers", &Json::is_array);
  std::vector<Layer> made;
  for (std::size_t i = 0; i < list.size(); ++i) made.push_back(read(list[i], fmt::format("{}layers[{}]", place_.empty() ? "" : place_ + ".", i), depth_ + 1));
  return made;
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

}  // namespace

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
