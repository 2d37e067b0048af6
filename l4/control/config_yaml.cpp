#include "l4/control/config_yaml.h"

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "l4/control/json_text.h"
#include "l4/control/model_json.h"
#include "l4/control/rules.h"

namespace weir::control {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kColumnsMax = 98;

// ---- what is not said ---------------------------------------------------------------------------

/// Members that stand there whatever they are: required, or clearer so.
bool is_always_written(std::string_view name) {
  constexpr std::array<std::string_view, 16> kNames{
      "name", "address", "port",      "protocol", "mode",     "prefix",    "endpoints", "file",
      "key",  "version", "addresses", "forward",  "backends", "listeners", "rules",     "matches"};
  return std::ranges::find(kNames, name) != kNames.end();
}

/// Takes away what is as it would be without being written. Lists of objects have one sample.
void leave_out_defaults(Json& value, const Json& defaults) {
  if (value.is_array() && defaults.is_array() && !defaults.empty() && defaults[0].is_object()) {
    for (Json& item : value)
      leave_out_defaults(item, defaults[0]);
    return;
  }
  if (!value.is_object() || !defaults.is_object()) return;
  for (auto member = value.begin(); member != value.end();) {
    const auto other = defaults.find(member.key());
    if (other != defaults.end()) {
      const bool is_default = member.value() == *other;
      leave_out_defaults(member.value(), *other);
      const bool says_nothing = member.value().is_structured() && member.value().empty();
      if ((is_default || says_nothing) && !is_always_written(member.key())) {
        member = value.erase(member);
        continue;
      }
    }
    ++member;
  }
}

/// Everything at its default, one of each kind, in the words of the file.
Model sample() {
  Model model;
  model.gateways.push_back({.name = {}, .addresses = {}, .listeners = {Listener{}}, .limits = {}});
  model.gateways[0].listeners[0].protocol = ListenerProtocol::kHttps;
  model.services.emplace_back();
  RouteRule rule;
  rule.backends.emplace_back();
  model.http_routes.push_back({.name = {}, .parents = {}, .hostnames = {}, .rules = {rule}});
  return model;
}

Json defaults_of(const Vip& vip) {
  Model model;
  Vip& blank = model.vips.emplace_back();
  blank.mode = vip.mode;
  blank.protocol = vip.protocol;
  // An affinity implies its hash; what is implied may be said all the same.
  blank.backends.emplace_back();
  Json defaults = Json::parse(to_json(model)).at("vips").at(0);
  return defaults;
}

void leave_out_defaults(Json& file, const Model& model) {
  const Json defaults = Json::parse(to_json(sample()));
  leave_out_defaults(file["node"], defaults["node"]);
  leave_out_defaults(file["gateways"], defaults["gateways"]);
  for (auto& [name, service] : file["services"].items())
    leave_out_defaults(service, defaults["services"].front());
  leave_out_defaults(file["httpRoutes"], defaults["httpRoutes"]);
  std::map<std::pair<ForwardMode, Protocol>, Json> of_vips;
  for (std::size_t i = 0; i < model.vips.size(); ++i) {
    const Vip& vip = model.vips[i];
    auto [found, is_new] = of_vips.try_emplace({vip.mode, vip.protocol});
    if (is_new) found->second = defaults_of(vip);
    leave_out_defaults(file["vips"][i], found->second);
  }
}

// ---- names --------------------------------------------------------------------------------------

/// "203.0.113.53-53-udp": what vip_text() says, in the letters that a name may have.
std::string name_of(const VipKey& key) {
  std::string name;
  for (const char c : vip_text(key)) {
    const bool fits = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == '.';
    if (fits || (!name.empty() && name.back() != '-')) name += fits ? c : '-';
  }
  return name.substr(0, kNameLengthMax);
}

/// The file wants names, each once.
void give_names(std::vector<Vip>& vips) {
  std::set<std::string> taken;
  for (Vip& vip : vips) {
    const std::string wanted = vip.name.empty() ? name_of(vip.key()) : vip.name;
    vip.name = wanted;
    for (int number = 2; !taken.insert(vip.name).second; ++number) {  // as many as there are VIPs
      const std::string suffix = fmt::format("-{}", number);
      vip.name = wanted.substr(0, kNameLengthMax - suffix.size()) + suffix;
    }
  }
}

// ---- YAML ---------------------------------------------------------------------------------------

/// Whether the text means itself without quotes, for every reader of YAML.
bool is_plain(const std::string& text) {
  constexpr std::array<std::string_view, 10> kWords{"true", "false", "yes", "no", "on",
                                                    "off",  "null",  "y",   "n",  "nan"};
  const auto fits = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' ||
           c == '_' || c == '/' || c == '-';
  };
  if (text.empty() || !std::ranges::all_of(text, fits) || text.front() == '-') return false;
  const bool starts_with_letter = text.front() == '/' || (text.front() | 0x20) >= 'a';
  // An address, a prefix, a rate or a range is no number to anybody.
  const bool looks_like_a_number = !starts_with_letter && std::ranges::count(text, '.') < 2 &&
                                   text.find('/') == std::string::npos;
  return !looks_like_a_number && std::ranges::find(kWords, lower_case(text)) == kWords.end();
}

std::string scalar_text(const Json& value) {
  if (value.is_string() && is_plain(value.get<std::string>())) return value.get<std::string>();
  return json_text(value);  // JSON is YAML
}

std::string flow_text(const Json& value) {
  if (!value.is_structured()) return scalar_text(value);
  std::string inside;
  for (const auto& [name, member] : value.items()) {
    if (!inside.empty()) inside += ", ";
    if (value.is_object()) inside += scalar_text(name) + ": ";
    inside += flow_text(member);
  }
  return value.is_object() ? "{" + inside + "}" : "[" + inside + "]";
}

/// One line is enough for what has no list of objects in it and is short.
bool fits_one_line(const Json& value, std::size_t indent) {
  if (!value.is_structured() || value.empty()) return true;
  const auto has_objects = [](const Json& list) {
    return list.is_array() && !list.empty() && list.front().is_object();
  };
  if (has_objects(value)) return false;
  if (value.is_object() && std::any_of(value.begin(), value.end(), has_objects)) return false;
  return indent + flow_text(value).size() <= kColumnsMax;
}

void write_block(const Json& value, std::size_t indent, std::string& out);

/// Behind "key:" or "-", which is written already.
void write_item(const Json& value, std::size_t indent, std::size_t used, std::string& out) {
  if (fits_one_line(value, used)) {
    out += " " + flow_text(value) + "\n";
    return;
  }
  out += "\n";
  write_block(value, indent, out);
}

void write_block(const Json& value, std::size_t indent, std::string& out) {
  const std::string margin(indent, ' ');
  if (value.is_object()) {
    for (const auto& [name, member] : value.items()) {
      const std::string key = margin + scalar_text(name) + ":";
      out += key;
      // A list may stand at its key's own margin.
      write_item(member, member.is_array() ? indent : indent + 2, key.size() + 1, out);
    }
    return;
  }
  for (const Json& item : value) {
    if (!item.is_object() || fits_one_line(item, indent + 2)) {
      out += margin + "- " + flow_text(item) + "\n";
      continue;
    }
    std::string block;
    write_block(item, indent + 2, block);
    block.replace(0, indent + 2, margin + "- ");
    out += block;
  }
}

}  // namespace

std::string to_yaml(const Model& model, const std::vector<Vip>& manual) {
  Model all = model;
  all.vips.insert(all.vips.end(), manual.begin(), manual.end());
  std::sort(all.vips.begin() + static_cast<std::ptrdiff_t>(model.vips.size()), all.vips.end(),
            [](const Vip& left, const Vip& right) { return left.key() < right.key(); });
  give_names(all.vips);
  Json file = Json::parse(to_json(all));
  leave_out_defaults(file, all);
  const NodeSettings& node = all.node;
  file["node"].erase("hashSeed");
  if (!node.hash_seed_file.empty()) file["node"]["hashSeed"] = {{"file", node.hash_seed_file}};

  std::string out = "# What runs, as a configuration file. Applied here it changes no traffic.\n";
  if (!node.hash_seed.empty() && node.hash_seed_file.empty())
    out +=
        "# The hash seed stood in the configuration itself and is not shown: "
        "add it to node before\n"
        "# applying this, as hashSeed: {file: …}, or clients are spread anew.\n";
  const Json vips = std::move(file["vips"]);
  file.erase("vips");
  for (const char* section : {"node", "gateways", "services", "httpRoutes", "tlsRoutes"}) {
    if (file[section].empty()) file.erase(section);
  }
  for (const auto& [section, value] : file.items()) {  // each on lines of its own
    out += section + ":" + (value.is_structured() ? "\n" : " " + scalar_text(value) + "\n");
    if (value.is_structured()) write_block(value, value.is_array() ? 0 : 2, out);
  }
  if (vips.empty()) return out;
  out += "vips:\n";
  for (std::size_t i = 0; i < vips.size(); ++i) {
    if (i == model.vips.size()) out += "# Added by hand; the file's from when it is applied.\n";
    write_block(Json::array({vips[i]}), 0, out);
  }
  return out;
}

}  // namespace weir::control
