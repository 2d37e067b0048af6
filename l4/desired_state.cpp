#include "l4/desired_state.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "l4/control/json_text.h"
#include "l4/control/model_json.h"

namespace weir::l4 {
namespace {

using control::json_text;
using nlohmann::json;

constexpr int kFormatBeforeRevisions = 1;  // one state, VIPs of the file within the model
constexpr int kFormat = 2;

json load_json(const LoadSettings& load) {
  return {{"devices", load.devices}, {"mode", control::text_of(load.mode)}, {"chain", load.chain}};
}

Result<LoadSettings> load_from_json(const json& value) {
  LoadSettings load;
  load.devices = value.at("devices").get<std::vector<std::string>>();
  load.chain = value.at("chain").get<bool>();
  Result<control::XdpMode> mode = control::parse_xdp_mode(value.at("mode").get<std::string>());
  if (!mode) return std::move(mode).error();
  load.mode = *mode;
  return load;
}

/// A list, spliced together of what is JSON already: reading each VIP again to write it once more
/// would be most of the work.
std::string vips_json(const std::vector<control::Vip>& vips) {
  std::string list = "[";
  for (const control::Vip& vip : vips)
    list.append(list.size() > 1 ? ",\n" : "").append(control::to_json(vip));
  return list + "]";
}

Result<std::vector<control::Vip>> vips_from_json(const json& list) {
  std::vector<control::Vip> vips;
  vips.reserve(list.size());
  for (const json& item : list) {
    Result<control::Vip> vip = control::vip_from_json(item.dump());
    if (!vip) return std::move(vip).error();
    vips.push_back(*std::move(vip));
  }
  return vips;
}

std::string overrides_json(const std::vector<control::BackendOverride>& overrides) {
  std::string list = "[";
  for (const control::BackendOverride& item : overrides)
    list.append(list.size() > 1 ? ",\n" : "").append(control::to_json(item));
  return list + "]";
}

Result<std::vector<control::BackendOverride>> overrides_from_json(const json& list) {
  std::vector<control::BackendOverride> overrides;
  for (const json& item : list) {
    Result<control::BackendOverride> read = control::override_from_json(item.dump());
    if (!read) return std::move(read).error();
    overrides.push_back(*read);
  }
  return overrides;
}

Error other_format(int format) {
  return Error{
      ErrorCode::kUnsupported,
      fmt::format("format {} was written by another version; this one knows {}", format, kFormat)};
}

/// May throw nlohmann's exceptions; desired_state_from_json() turns them into an Error.
Result<DesiredState> state_of(const json& document) {
  const int format = document.at("format").get<int>();
  if (format != kFormat && format != kFormatBeforeRevisions) return other_format(format);
  DesiredState state;
  state.file = document.at("file").get<std::string>();
  Result<control::Model> model = control::model_from_json(document.at("model").dump());
  if (!model) return std::move(model).error().while_doing("model");
  state.model = *std::move(model);
  Result<std::vector<control::Vip>> manual = vips_from_json(document.at("manual_vips"));
  if (!manual) return std::move(manual).error().while_doing("manual_vips");
  state.manual_vips = *std::move(manual);
  Result<LoadSettings> load = load_from_json(document.at("load"));
  if (!load) return std::move(load).error().while_doing("load");
  state.load = *std::move(load);
  if (document.contains("overrides")) {  // not with versions before health checks
    Result<std::vector<control::BackendOverride>> read =
        overrides_from_json(document.at("overrides"));
    if (!read) return std::move(read).error().while_doing("overrides");
    state.overrides = *std::move(read);
  }
  if (format == kFormatBeforeRevisions) {
    state.revision = document.at("revision").get<std::uint64_t>();
    return state;
  }
  state.text = document.at("text").get<std::string>();
  state.partial = document.at("partial").get<bool>();
  state.model.node.hash_seed_file = document.at("hash_seed_file").get<std::string>();
  Result<std::vector<control::Vip>> vips = vips_from_json(document.at("vips"));
  if (!vips) return std::move(vips).error().while_doing("vips");
  state.model.vips = *std::move(vips);
  return state;
}

Result<StateChange> change_of(const json& document) {
  StateChange change;
  Result<std::vector<control::Vip>> set = vips_from_json(document.at("set"));
  if (!set) return std::move(set).error().while_doing("set");
  change.set = *std::move(set);
  for (const json& item : document.at("removed")) {
    Result<control::VipKey> key = control::parse_vip_key(item.get<std::string>());
    if (!key) return std::move(key).error().while_doing("removed");
    change.removed.push_back(*key);
  }
  if (const json& value = document.at("load"); !value.is_null()) {
    Result<LoadSettings> load = load_from_json(value);
    if (!load) return std::move(load).error().while_doing("load");
    change.load = *std::move(load);
  }
  if (const json& value = document.at("overrides"); !value.is_null()) {
    Result<std::vector<control::BackendOverride>> read = overrides_from_json(value);
    if (!read) return std::move(read).error().while_doing("overrides");
    change.overrides = *std::move(read);
  }
  return change;
}

}  // namespace

std::vector<control::Vip> services_of(const DesiredState& state) {
  std::vector<control::Vip> services = control::l4_services(state.model);
  services.insert(services.end(), state.manual_vips.begin(), state.manual_vips.end());
  control::apply_overrides(services, state.overrides);
  return services;
}

ServiceView::ServiceView(const DesiredState& state)
    : of_gateways_{control::gateway_services(state.model.gateways)} {
  all_.reserve(state.model.vips.size() + of_gateways_.size() + state.manual_vips.size());
  const auto add = [this](const std::vector<control::Vip>& vips) {
    for (const control::Vip& vip : vips)
      all_.push_back(&vip);
  };
  add(state.model.vips);
  add(of_gateways_);
  of_file_ = all_.size();
  add(state.manual_vips);
}

std::optional<control::Vip> service_of(const DesiredState& state, const control::VipKey& key) {
  const ServiceView services{state};
  const auto found = std::ranges::find(services.all(), key, &control::Vip::key);
  if (found == services.all().end()) return std::nullopt;
  std::vector<control::Vip> one{**found};
  control::apply_overrides(one, state.overrides);
  return std::move(one.front());
}

const control::Vip* find_manual(const DesiredState& state, const control::VipKey& key) {
  const auto found = std::ranges::find(state.manual_vips, key, &control::Vip::key);
  return found == state.manual_vips.end() ? nullptr : &*found;
}

bool file_owns(const DesiredState& state, const control::VipKey& key) {
  const ServiceView services{state};
  return std::ranges::find(services.of_file(), key, &control::Vip::key) != services.of_file().end();
}

void apply_to(DesiredState& state, StateChange change) {
  for (const control::VipKey& key : change.removed)
    std::erase_if(state.manual_vips, [&](const control::Vip& vip) { return vip.key() == key; });
  for (control::Vip& vip : change.set) {
    const auto known = std::ranges::find(state.manual_vips, vip.key(), &control::Vip::key);
    if (known == state.manual_vips.end()) {
      state.manual_vips.push_back(std::move(vip));
    } else {
      *known = std::move(vip);
    }
  }
  if (change.load) state.load = *std::move(change.load);
  if (change.overrides) state.overrides = *std::move(change.overrides);
}

std::string to_json(const DesiredState& state) {
  control::Model rest{.node = state.model.node,
                      .vips = {},
                      .gateways = state.model.gateways,
                      .services = state.model.services,
                      .http_routes = state.model.http_routes,
                      .tls_routes = state.model.tls_routes};
  // VIPs stand apart, in the API's words, because there may be many: those are read much faster
  // than the file's.
  return fmt::format(
      R"({{"format": {}, "file": {}, "partial": {}, "load": {}, "hash_seed_file": {},)"
      "\n\"model\": {},\n\"vips\": {},\n\"manual_vips\": {},\n\"overrides\": {},\n\"text\": {}}}",
      kFormat, json_text(json(state.file)), state.partial, json_text(load_json(state.load)),
      json_text(json(state.model.node.hash_seed_file)), control::to_json(rest),
      vips_json(state.model.vips), vips_json(state.manual_vips), overrides_json(state.overrides),
      json_text(json(state.text)));
}

Result<DesiredState> desired_state_from_json(std::string_view text) {
  try {
    return state_of(json::parse(text));
  } catch (const json::exception& error) {
    return Error{ErrorCode::kInvalid, error.what()};
  }
}

std::string to_json(const StateChange& change) {
  json removed = json::array();
  for (const control::VipKey& key : change.removed)
    removed.push_back(control::vip_text(key));
  return fmt::format(R"({{"set": {}, "removed": {}, "load": {}, "overrides": {}}})",
                     vips_json(change.set), json_text(removed),
                     change.load ? json_text(load_json(*change.load)) : "null",
                     change.overrides ? overrides_json(*change.overrides) : "null");
}

Result<StateChange> state_change_from_json(std::string_view text) {
  try {
    return change_of(json::parse(text));
  } catch (const json::exception& error) {
    return Error{ErrorCode::kInvalid, error.what()};
  }
}

}  // namespace weir::l4
