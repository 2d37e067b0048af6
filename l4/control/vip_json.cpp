#include <algorithm>
#include <array>
#include <initializer_list>
#include <nlohmann/json.hpp>

#include "l4/control/health_json.h"
#include "l4/control/json_text.h"
#include "l4/control/model_json.h"
#include "l4/control/rules.h"

/// VIPs and backends in the admin API's words.
namespace weir::control {
namespace {

// Members in the order in which they are written: people read this.
using Json = nlohmann::ordered_json;
/// For what is read: its members are found in a tree, not one after the other. A body with millions
/// of members must not take hours.
using ReadJson = nlohmann::json;

// ---- writing ------------------------------------------------------------------------------------

Json json_of(const Backend& backend) {
  return {{"address", backend.address.text()},
          {"name", backend.name},
          {"port", backend.port ? Json(backend.port->value()) : Json(nullptr)},
          {"weight", backend.weight},
          {"state", text_of(backend.state)},
          {"server_id",
           backend.server_id.empty() ? Json(nullptr) : Json(server_id_text(backend.server_id))}};
}

Json json_of(const std::vector<wire::Prefix>& prefixes) {
  Json list = Json::array();
  for (const wire::Prefix& prefix : prefixes)
    list.push_back(prefix.text());
  return list;
}

Json json_of(const VipLimits& limits) {
  return {{"new_flows_per_source", limits.new_flows_per_source},
          {"packets_per_source", limits.packets_per_source},
          {"new_flows", limits.new_flows},
          {"packets", limits.packets}};
}

Json json_of(const QuicRouting& quic) {
  if (!quic.on()) return nullptr;
  return {{"server_id_length", quic.server_id_bytes}, {"config_rotation", quic.config_rotation}};
}

Json json_of(const Vip& vip) {
  Json backends = Json::array();
  for (const Backend& backend : vip.backends)
    backends.push_back(json_of(backend));
  const bool gue = vip.mode == ForwardMode::kGue;
  const bool nat = vip.mode == ForwardMode::kNat;
  return {{"vip", vip_text(vip.key())},
          {"name", vip.name},
          {"mode", text_of(vip.mode)},
          {"gue_port", gue ? Json(vip.gue_port.value()) : Json(nullptr)},
          {"snat", nat ? Json(text_of(vip.snat)) : Json(nullptr)},
          {"when_empty", text_of(vip.when_empty)},
          {"hash", text_of(vip.hash)},
          {"affinity_timeout_s",
           vip.affinity_timeout_s ? Json(*vip.affinity_timeout_s) : Json(nullptr)},
          {"table_size", vip.table_size != 0 ? Json(vip.table_size) : Json(nullptr)},
          {"sources", {{"allow", json_of(vip.sources.allow)}, {"deny", json_of(vip.sources.deny)}}},
          {"limits", json_of(vip.limits)},
          {"quic", json_of(vip.quic)},
          {"health", vip.health ? Json::parse(to_json(*vip.health)) : Json(nullptr)},
          {"backends", std::move(backends)}};
}

// ---- reading ------------------------------------------------------------------------------------

Result<void> check_members(const ReadJson& object, std::string_view where,
                           std::initializer_list<std::string_view> known) {
  if (!object.is_object()) return unfit(where, object, "a JSON object");
  for (const auto& [key, value] : object.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      return Error{ErrorCode::kInvalid, fmt::format("{} has an unknown member '{}'", where, key),
                   fmt::format("use {}", fmt::join(known, ", "))};
    }
  }
  return {};
}

Result<std::string> text_at(const ReadJson& object, const char* key, std::string_view where) {
  const auto found = object.find(key);
  if (found == object.end()) return std::string{};
  if (!found->is_string()) return unfit(fmt::format("{}.{}", where, key), *found, "a string");
  return found->get<std::string>();
}

Result<std::uint32_t> number_at(const ReadJson& object, const char* key, std::string_view where,
                                std::uint32_t fallback, std::uint32_t maximum) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return fallback;
  if (!found->is_number_unsigned() || found->get<std::uint64_t>() > maximum) {
    return unfit(fmt::format("{}.{}", where, key), *found,
                 fmt::format("a number from 0 to {}", maximum));
  }
  return found->get<std::uint32_t>();
}

/// The word of an enumeration; what is not there keeps `value`.
template <typename Enum>
Result<void> read_word(const ReadJson& object, const char* key, std::string_view where,
                       Result<Enum> (*parse)(std::string_view), Enum& value) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return {};
  const Result<std::string> text = text_at(object, key, where);
  if (!text) return text.error();
  if (text->empty()) return {};
  Result<Enum> parsed = parse(*text);
  if (!parsed) return std::move(parsed).error().while_doing(fmt::format("{}.{}", where, key));
  value = *parsed;
  return {};
}

Result<Backend> read_backend(const ReadJson& json, std::string_view where) {
  if (Result<void> known =
          check_members(json, where, {"address", "name", "port", "weight", "state", "server_id"});
      !known)
    return std::move(known).error();
  Backend backend;
  const Result<std::string> address = text_at(json, "address", where);
  if (!address) return address.error();
  Result<wire::IpAddress> parsed = wire::IpAddress::parse(*address);
  if (!parsed) return std::move(parsed).error().while_doing(fmt::format("{}.address", where));
  backend.address = *parsed;
  Result<std::string> name = text_at(json, "name", where);
  if (!name) return std::move(name).error();
  backend.name = std::move(*name);
  const Result<std::uint32_t> port = number_at(json, "port", where, 0, 65535);
  if (!port) return port.error();
  if (*port != 0) backend.port = wire::Port{static_cast<std::uint16_t>(*port)};
  const Result<std::uint32_t> weight = number_at(json, "weight", where, 1, kWeightMax);
  if (!weight) return weight.error();
  backend.weight = *weight;
  if (Result<void> read = read_word(json, "state", where, &parse_backend_state, backend.state);
      !read)
    return std::move(read).error();
  if (const auto id = json.find("server_id"); id == json.end() || id->is_null()) return backend;
  const Result<std::string> id_text = text_at(json, "server_id", where);
  if (!id_text) return id_text.error();
  Result<std::string> id = parse_server_id(*id_text);
  if (!id) return std::move(id).error().while_doing(fmt::format("{}.server_id", where));
  backend.server_id = *std::move(id);
  return backend;
}

Result<std::vector<wire::Prefix>> prefixes_at(const ReadJson& object, const char* key,
                                              std::string_view where) {
  std::vector<wire::Prefix> prefixes;
  const auto list = object.find(key);
  if (list == object.end() || list->is_null()) return prefixes;
  if (!list->is_array()) return unfit(fmt::format("{}.{}", where, key), *list, "a list");
  for (const ReadJson& item : *list) {
    if (!item.is_string())
      return unfit(fmt::format("a prefix in {}.{}", where, key), item, "a string");
    const Result<wire::Prefix> prefix = wire::Prefix::parse(item.get_ref<const std::string&>());
    if (!prefix) return Error{prefix.error()}.while_doing(fmt::format("{}.{}", where, key));
    prefixes.push_back(*prefix);
  }
  std::ranges::sort(prefixes);
  const auto repeated = std::ranges::unique(prefixes);
  prefixes.erase(repeated.begin(), repeated.end());
  return prefixes;
}

Result<void> read_sources(const ReadJson& vip, SourceRules& sources) {
  const auto json = vip.find("sources");
  if (json == vip.end() || json->is_null()) return {};
  if (Result<void> known = check_members(*json, "vip.sources", {"allow", "deny"}); !known)
    return known;
  Result<std::vector<wire::Prefix>> allow = prefixes_at(*json, "allow", "vip.sources");
  if (!allow) return std::move(allow).error();
  Result<std::vector<wire::Prefix>> deny = prefixes_at(*json, "deny", "vip.sources");
  if (!deny) return std::move(deny).error();
  sources = {*std::move(allow), *std::move(deny)};
  return {};
}

Result<void> read_limits(const ReadJson& vip, VipLimits& limits) {
  const auto json = vip.find("limits");
  if (json == vip.end() || json->is_null()) return {};
  const std::array<std::pair<const char*, std::uint32_t*>, 4> members{
      {{"new_flows_per_source", &limits.new_flows_per_source},
       {"packets_per_source", &limits.packets_per_source},
       {"new_flows", &limits.new_flows},
       {"packets", &limits.packets}}};
  if (Result<void> known =
          check_members(*json, "vip.limits",
                        {members[0].first, members[1].first, members[2].first, members[3].first});
      !known)
    return known;
  for (const auto& [key, value] : members) {
    const Result<std::uint32_t> rate = number_at(*json, key, "vip.limits", 0, kRateMax);
    if (!rate) return rate.error();
    *value = *rate;
  }
  return {};
}

Result<void> read_quic(const ReadJson& vip, QuicRouting& quic) {
  const auto json = vip.find("quic");
  if (json == vip.end() || json->is_null()) return {};
  if (Result<void> known =
          check_members(*json, "vip.quic", {"server_id_length", "config_rotation"});
      !known)
    return known;
  const auto length = number_at(*json, "server_id_length", "vip.quic", 0, kServerIdBytesMax);
  if (!length) return length.error();
  if (*length == 0)
    return Error{ErrorCode::kInvalid, "vip.quic has no server_id_length",
                 fmt::format("use 1 to {} bytes", kServerIdBytesMax)};
  const auto rotation = number_at(*json, "config_rotation", "vip.quic", 0, kConfigRotationMax);
  if (!rotation) return rotation.error();
  quic = {static_cast<std::uint8_t>(*length), static_cast<std::uint8_t>(*rotation)};
  return {};
}

/// How the VIP forwards and chooses: everything but its key, name, lists and backends.
Result<void> read_forwarding(const ReadJson& json, Vip& vip) {
  if (Result<void> read = read_word(json, "mode", "vip", &parse_forward_mode, vip.mode); !read)
    return read;
  if (Result<void> read = read_word(json, "snat", "vip", &parse_snat, vip.snat); !read) return read;
  if (Result<void> read = read_word(json, "when_empty", "vip", &parse_when_empty, vip.when_empty);
      !read)
    return read;
  const auto port = number_at(json, "gue_port", "vip", vip.gue_port.value(), 65535);
  if (!port) return port.error();
  vip.gue_port = wire::Port{static_cast<std::uint16_t>(*port)};
  const auto timeout = number_at(json, "affinity_timeout_s", "vip", 0, kAffinityTimeoutMaxS);
  if (!timeout) return timeout.error();
  if (*timeout != 0) {
    vip.affinity_timeout_s = *timeout;
    vip.hash = HashPolicy::kSourceIp;  // unless another was asked for, which check_vip() refuses
  }
  if (Result<void> read = read_word(json, "hash", "vip", &parse_hash_policy, vip.hash); !read)
    return read;
  const auto size = number_at(json, "table_size", "vip", 0, kTableSizeMax);
  if (!size) return size.error();
  vip.table_size = *size;
  return {};
}

Result<Vip> read_vip(const ReadJson& json) {
  if (Result<void> known = check_members(
          json, "vip",
          {"vip", "name", "mode", "gue_port", "snat", "when_empty", "hash", "affinity_timeout_s",
           "table_size", "sources", "limits", "quic", "health", "backends"});
      !known)
    return std::move(known).error();
  const Result<std::string> key_text = text_at(json, "vip", "vip");
  if (!key_text) return key_text.error();
  Result<VipKey> key = parse_vip_key(*key_text);
  if (!key) return std::move(key).error();
  Vip vip;
  vip.address = key->address;
  vip.prefix_length = key->prefix_length;
  vip.ports = key->ports;
  vip.protocol = key->protocol;
  Result<std::string> name = text_at(json, "name", "vip");
  if (!name) return std::move(name).error();
  vip.name = std::move(*name);
  if (Result<void> read = read_forwarding(json, vip); !read) return std::move(read).error();
  if (Result<void> read = read_sources(json, vip.sources); !read) return std::move(read).error();
  if (Result<void> read = read_limits(json, vip.limits); !read) return std::move(read).error();
  if (Result<void> read = read_quic(json, vip.quic); !read) return std::move(read).error();
  if (const auto health = json.find("health"); health != json.end() && !health->is_null()) {
    Result<HealthCheck> check = health_from_json(json_text(*health));
    if (!check) return std::move(check).error();
    vip.health = *std::move(check);
  }
  if (const auto backends = json.find("backends"); backends != json.end()) {
    if (!backends->is_array()) return unfit("vip.backends", *backends, "a list");
    for (std::size_t i = 0; i < backends->size(); ++i) {
      Result<Backend> backend = read_backend((*backends)[i], fmt::format("vip.backends[{}]", i));
      if (!backend) return std::move(backend).error();
      vip.backends.push_back(std::move(*backend));
    }
  }
  if (Result<void> valid = check_vip(vip); !valid) return std::move(valid).error();
  return vip;
}

Result<ReadJson> parse_json(std::string_view text) {
  ReadJson json = ReadJson::parse(text, nullptr, false);
  if (json.is_discarded()) return Error{ErrorCode::kInvalid, "the text is not valid JSON"};
  return json;
}

}  // namespace

std::string to_json(const Backend& backend) { return json_text(json_of(backend)); }
std::string to_json(const Vip& vip) { return json_text(json_of(vip)); }

Result<Backend> backend_from_json(std::string_view text) {
  const Result<ReadJson> json = parse_json(text);
  return json ? read_backend(*json, "backend") : Result<Backend>{json.error()};
}

Result<Vip> vip_from_json(std::string_view text) {
  const Result<ReadJson> json = parse_json(text);
  return json ? read_vip(*json) : Result<Vip>{json.error()};
}

}  // namespace weir::control
