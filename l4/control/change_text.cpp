#include "l4/control/change_text.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "l4/control/json_text.h"
#include "l4/control/model_json.h"

namespace weir::control {
namespace {

using Json = nlohmann::ordered_json;

std::string value_text(const Json& value) {
  if (value.is_null()) return "none";
  if (value.is_string()) {
    const auto text = value.get<std::string>();
    return text.empty() ? "none" : text;
  }
  return json_text(value);
}

const Json& member_of(const Json& object, const std::string& name) {
  static const Json kNone;
  const auto found = object.find(name);
  return found == object.end() ? kNone : *found;
}

/// "hash fiveTuple → sourceIP", "limits.packets 0 → 5", for every value that differs. The words of
/// a VIP are two levels deep; whatever is deeper is shown whole.
void add_differences(const Json& before, const Json& after, const std::string& prefix,
                     std::vector<std::string>& lines) {
  std::set<std::string> names;
  for (const Json* side : {&before, &after}) {
    for (const auto& [name, value] : side->items())
      names.insert(name);
  }
  for (const std::string& name : names) {
    const Json& old_value = member_of(before, name);
    const Json& new_value = member_of(after, name);
    if (old_value == new_value) continue;
    if (old_value.is_object() && new_value.is_object()) {
      for (const auto& [inner, value] : new_value.items()) {
        if (const Json& old_inner = member_of(old_value, inner); old_inner != value)
          lines.push_back(fmt::format("{}{}.{} {} → {}", prefix, name, inner, value_text(old_inner),
                                      value_text(value)));
      }
      for (const auto& [inner, value] : old_value.items()) {
        if (!new_value.contains(inner))
          lines.push_back(fmt::format("{}{}.{} {} → none", prefix, name, inner, value_text(value)));
      }
      continue;
    }
    lines.push_back(
        fmt::format("{}{} {} → {}", prefix, name, value_text(old_value), value_text(new_value)));
  }
}

Json json_of(const Backend& backend) { return Json::parse(to_json(backend)); }

void add_backends(const Vip& before, const Vip& after, std::vector<std::string>& lines) {
  std::map<wire::IpAddress, const Backend*> old_backends;
  for (const Backend& backend : before.backends)
    old_backends.emplace(backend.address, &backend);
  const std::size_t lines_before = lines.size();
  for (const Backend& backend : after.backends) {
    const auto old = old_backends.find(backend.address);
    const std::string name = fmt::format("backend {}", backend.address.text());
    if (old == old_backends.end()) {
      lines.push_back(fmt::format("{} added, weight {}{}", name, backend.weight,
                                  backend.state == BackendState::kActive
                                      ? std::string{}
                                      : fmt::format(", {}", text_of(backend.state))));
      continue;
    }
    if (*old->second != backend)
      add_differences(json_of(*old->second), json_of(backend), name + " ", lines);
    old_backends.erase(old);
  }
  for (const auto& [address, backend] : old_backends)
    lines.push_back(fmt::format("backend {} removed", address.text()));
  if (lines.size() == lines_before && before.backends != after.backends)
    lines.emplace_back("backends in another order");
}

void add_sources(const std::vector<wire::Prefix>& before, const std::vector<wire::Prefix>& after,
                 std::string_view name, std::vector<std::string>& lines) {
  if (before == after) return;
  std::vector<wire::Prefix> more;
  std::vector<wire::Prefix> fewer;
  std::ranges::set_difference(after, before, std::back_inserter(more));
  std::ranges::set_difference(before, after, std::back_inserter(fewer));
  lines.push_back(
      fmt::format("sources.{}: {} prefixes more, {} fewer", name, more.size(), fewer.size()));
}

/// Without what has lines of its own.
Json words_of(Vip vip) {
  vip.backends.clear();
  vip.sources = {};
  Json words = Json::parse(to_json(vip));
  words.erase("backends");
  words.erase("sources");
  return words;
}

std::string backends_text(const Vip& vip) {
  if (vip.mode == ForwardMode::kL7) return {};
  const std::size_t count = vip.backends.size();
  return fmt::format(", {} backend{}", count, count == 1 ? "" : "s");
}

}  // namespace

std::vector<std::string> change_lines(const Operation& operation) {
  const std::string vip = fmt::format("vip {}", vip_text(operation.key()));
  if (operation.kind == OperationKind::kRemoveVip) return {"remove " + vip};
  const Vip& after = operation.after;
  if (operation.kind == OperationKind::kAddVip)
    return {fmt::format("add {} ({}{})", vip, text_of(after.mode), backends_text(after))};
  const Vip& before = operation.before;
  std::vector<std::string> lines;
  add_differences(words_of(before), words_of(after), "", lines);
  add_sources(before.sources.allow, after.sources.allow, "allow", lines);
  add_sources(before.sources.deny, after.sources.deny, "deny", lines);
  add_backends(before, after, lines);
  if (operation.kind == OperationKind::kReplaceVip)
    lines.emplace_back("built anew: what is known of its flows holds no longer");
  for (std::string& line : lines)
    line.insert(0, vip + ": ");
  return lines;
}

}  // namespace weir::control
