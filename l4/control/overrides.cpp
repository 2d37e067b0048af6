#include "l4/control/overrides.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

namespace weir::control {
namespace {

using Json = nlohmann::ordered_json;

Result<std::string> text_at(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found != object.end() && found->is_string()) return found->get<std::string>();
  return Error{ErrorCode::kInvalid, fmt::format("an override lacks the text '{}'", key)};
}

bool is_about(const BackendOverride& item, const VipKey& vip, const wire::IpAddress& address) {
  return item.vip == vip && item.address == address;
}

}  // namespace

void set_override(std::vector<BackendOverride>& overrides, const BackendOverride& item) {
  drop_override(overrides, item.vip, item.address);
  overrides.insert(std::ranges::upper_bound(overrides, item), item);
}

bool drop_override(std::vector<BackendOverride>& overrides, const VipKey& vip,
                   const wire::IpAddress& address) {
  return std::erase_if(overrides, [&](const BackendOverride& item) {
           return is_about(item, vip, address);
         }) > 0;
}

const BackendOverride* find_override(const std::vector<BackendOverride>& overrides,
                                     const VipKey& vip, const wire::IpAddress& address) {
  const auto found = std::ranges::find_if(
      overrides, [&](const BackendOverride& item) { return is_about(item, vip, address); });
  return found == overrides.end() ? nullptr : &*found;
}

void apply_overrides(std::vector<Vip>& vips, const std::vector<BackendOverride>& overrides) {
  if (overrides.empty()) return;
  std::multimap<VipKey, const BackendOverride*> by_vip;
  for (const BackendOverride& item : overrides)
    by_vip.emplace(item.vip, &item);
  for (Vip& vip : vips) {
    const auto [first, last] = by_vip.equal_range(vip.key());
    for (auto item = first; item != last; ++item) {
      const auto backend =
          std::ranges::find(vip.backends, item->second->address, &Backend::address);
      if (backend != vip.backends.end()) backend->state = item->second->state;
    }
  }
}

void drop_stale_overrides(std::vector<BackendOverride>& overrides, const std::vector<Vip>& vips) {
  if (overrides.empty()) return;
  std::map<VipKey, const Vip*> by_key;
  for (const Vip& vip : vips)
    by_key.emplace(vip.key(), &vip);
  std::erase_if(overrides, [&](const BackendOverride& item) {
    const auto vip = by_key.find(item.vip);
    return vip == by_key.end() ||
           std::ranges::find(vip->second->backends, item.address, &Backend::address) ==
               vip->second->backends.end();
  });
}

std::string to_json(const BackendOverride& item) {
  return Json{
      {"vip", vip_text(item.vip)}, {"address", item.address.text()}, {"state", text_of(item.state)}}
      .dump();
}

Result<BackendOverride> override_from_json(std::string_view text) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return Error{ErrorCode::kInvalid, "an override is no JSON object"};
  const Result<std::string> vip = text_at(json, "vip");
  if (!vip) return vip.error();
  const Result<std::string> address = text_at(json, "address");
  if (!address) return address.error();
  const Result<std::string> state = text_at(json, "state");
  if (!state) return state.error();
  Result<VipKey> key = parse_vip_key(*vip);
  if (!key) return std::move(key).error();
  Result<wire::IpAddress> parsed = wire::IpAddress::parse(*address);
  if (!parsed) return std::move(parsed).error();
  Result<BackendState> wanted = parse_backend_state(*state);
  if (!wanted) return std::move(wanted).error();
  return BackendOverride{*key, *parsed, *wanted};
}

}  // namespace weir::control
