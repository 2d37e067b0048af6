#include "l4/control/health_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "l4/base/hex.h"
#include "l4/control/json_text.h"
#include "l4/control/model.h"
#include "l4/control/units.h"

namespace weir::control {
namespace {

// Members in the order in which they are written: people read this.
using Json = nlohmann::ordered_json;
/// For what is read, as in vip_json.cpp: found in a tree, however many members there are.
using ReadJson = nlohmann::json;

bool is_http(ProbeKind kind) { return kind == ProbeKind::kHttp || kind == ProbeKind::kHttps; }

/// JSON has no bytes, and YAML's "\x80" is a character of two.
Json bytes_json(const std::string& bytes) {
  const bool is_text = std::ranges::all_of(bytes, [](char c) { return c >= 0x20 && c < 0x7f; });
  return is_text ? Json(bytes) : Json{{"hex", hex_of(std::as_bytes(std::span{bytes}))}};
}

Json port_json(const HealthCheck& check) {
  return check.port ? Json(check.port->value()) : Json(nullptr);
}

Json statuses_json(const HealthCheck& check) {
  Json list = Json::array();
  for (const StatusRange& range : check.statuses)
    list.push_back(status_text(range));
  return list;
}

std::string time_text(std::uint32_t time_ms) { return in_units(time_ms, time_units()); }

/// What the probe of this kind has, under the file's words.
Json probe_file_json(const HealthCheck& check) {
  Json json = Json::object();
  if (check.port) json["port"] = check.port->value();
  if (is_http(check.kind)) {
    json["path"] = check.path;
    if (!check.host.empty()) json["host"] = check.host;
    json["statuses"] = statuses_json(check);
  }
  if (check.kind == ProbeKind::kHttps) {
    json["verify"] = check.verify;
    if (!check.ca_file.empty()) json["ca"] = {{"file", check.ca_file}};
  }
  if (check.kind == ProbeKind::kUdp) {
    if (!check.send.empty()) json["send"] = bytes_json(check.send);
    if (!check.expect.empty()) json["expect"] = bytes_json(check.expect);
  }
  if (check.kind == ProbeKind::kGrpc && !check.grpc_service.empty())
    json["service"] = check.grpc_service;
  return json;
}

Error unfit_member(std::string_view member, const ReadJson& found, std::string_view expectation) {
  return unfit(fmt::format("health.{}", member), found, expectation);
}

struct NumberMember {
  std::string_view name;
  std::uint32_t HealthCheck::*field;
};
constexpr std::array<NumberMember, 8> kNumbers{
    {{"interval_ms", &HealthCheck::interval_ms},
     {"timeout_ms", &HealthCheck::timeout_ms},
     {"rise", &HealthCheck::rise},
     {"fall", &HealthCheck::fall},
     {"flaps", &HealthCheck::flaps_max},
     {"grace_ms", &HealthCheck::grace_ms},
     {"fail_open_percent", &HealthCheck::fail_open_percent},
     {"slow_start_ms", &HealthCheck::slow_start_ms}}};

struct TextMember {
  std::string_view name;
  std::string HealthCheck::*field;
  std::span<const ProbeKind> kinds;
};
constexpr std::array kHttpKinds{ProbeKind::kHttp, ProbeKind::kHttps};
constexpr std::array kHttpsKind{ProbeKind::kHttps};
constexpr std::array kGrpcKind{ProbeKind::kGrpc};
constexpr std::array kUdpKind{ProbeKind::kUdp};
constexpr std::array<TextMember, 4> kTexts{
    {{"path", &HealthCheck::path, kHttpKinds},
     {"host", &HealthCheck::host, kHttpKinds},
     {"ca_file", &HealthCheck::ca_file, kHttpsKind},
     {"grpc_service", &HealthCheck::grpc_service, kGrpcKind}}};
constexpr std::array<TextMember, 2> kBytes{
    {{"send", &HealthCheck::send, kUdpKind}, {"expect", &HealthCheck::expect, kUdpKind}}};

bool belongs(const TextMember& member, ProbeKind kind) {
  return std::ranges::find(member.kinds, kind) != member.kinds.end();
}

/// The members that a check of this kind may have.
std::vector<std::string_view> members_of(ProbeKind kind) {
  std::vector<std::string_view> names{"kind"};
  if (kind != ProbeKind::kIcmp) names.push_back("port");
  for (const NumberMember& number : kNumbers)
    names.push_back(number.name);
  for (const TextMember& text : kTexts)
    if (belongs(text, kind)) names.push_back(text.name);
  for (const TextMember& bytes : kBytes)
    if (belongs(bytes, kind)) names.push_back(bytes.name);
  if (is_http(kind)) names.push_back("statuses");
  if (kind == ProbeKind::kHttps) names.push_back("verify");
  return names;
}

Result<void> read_number(const ReadJson& value, const NumberMember& number, HealthCheck& check) {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > UINT32_MAX)
    return unfit_member(number.name, value, "a whole number");
  check.*number.field = value.get<std::uint32_t>();
  return {};
}

Result<std::string> read_bytes(const ReadJson& value, std::string_view name) {
  if (value.is_string()) return value.get<std::string>();
  const bool is_hex =
      value.is_object() && value.size() == 1 && value.contains("hex") && value["hex"].is_string();
  if (!is_hex) return unfit_member(name, value, R"(a text, or {"hex": "0a0b"})");
  std::optional<std::string> bytes = bytes_of_hex(value["hex"].get<std::string>());
  if (!bytes) return unfit_member(name, value, "two hexadecimal digits a byte");
  return *std::move(bytes);
}

Result<void> read_statuses(const ReadJson& value, HealthCheck& check) {
  if (!value.is_array())
    return unfit_member("statuses", value, R"(a list such as ["200-299", "404"])");
  check.statuses.clear();
  for (const ReadJson& item : value) {
    if (!item.is_string()) return unfit_member("statuses", value, "texts such as 200-299");
    Result<StatusRange> range = parse_status(item.get<std::string>());
    if (!range) return std::move(range).error().while_doing("health.statuses");
    check.statuses.push_back(*range);
  }
  return {};
}

Result<void> read_member(const std::string& name, const ReadJson& value, HealthCheck& check) {
  if (value.is_null() || name == "kind") return {};
  if (name == "port") {
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() - 1 >= 65535)
      return unfit_member("port", value, "a number from 1 to 65535");
    check.port = wire::Port{value.get<std::uint16_t>()};
    return {};
  }
  if (name == "statuses") return read_statuses(value, check);
  if (name == "verify") {
    if (!value.is_boolean()) return unfit_member("verify", value, "true or false");
    check.verify = value.get<bool>();
    return {};
  }
  for (const NumberMember& number : kNumbers)
    if (name == number.name) return read_number(value, number, check);
  for (const TextMember& text : kTexts) {
    if (name != text.name) continue;
    if (!value.is_string()) return unfit_member(name, value, "a text");
    check.*text.field = value.get<std::string>();
  }
  for (const TextMember& bytes : kBytes) {
    if (name != bytes.name) continue;
    Result<std::string> read = read_bytes(value, name);
    if (!read) return std::move(read).error();
    check.*bytes.field = *std::move(read);
  }
  return {};
}

}  // namespace

std::string status_text(const StatusRange& range) {
  return range.first == range.last ? fmt::format("{}", range.first)
                                   : fmt::format("{}-{}", range.first, range.last);
}

Result<StatusRange> parse_status(std::string_view text) {
  const std::size_t dash = std::min(text.find('-'), text.size());
  const auto first = decimal(text.substr(0, dash));
  const auto last = dash == text.size() ? first : decimal(text.substr(dash + 1));
  if (first && last && *first >= 100 && *first <= *last && *last <= 599)
    return StatusRange{static_cast<std::uint16_t>(*first), static_cast<std::uint16_t>(*last)};
  return Error{
      ErrorCode::kInvalid,
      fmt::format("'{}' is not a status from 100 to 599, or a range such as 200-299", text)};
}

std::string to_json(const HealthCheck& check) {
  Json json{{"kind", text_of(check.kind)}};
  if (check.kind != ProbeKind::kIcmp) json["port"] = port_json(check);
  for (const NumberMember& number : kNumbers)
    json[std::string{number.name}] = check.*number.field;
  for (const TextMember& text : kTexts)
    if (belongs(text, check.kind)) json[std::string{text.name}] = check.*text.field;
  for (const TextMember& bytes : kBytes)
    if (belongs(bytes, check.kind)) json[std::string{bytes.name}] = bytes_json(check.*bytes.field);
  if (is_http(check.kind)) json["statuses"] = statuses_json(check);
  if (check.kind == ProbeKind::kHttps) json["verify"] = check.verify;
  return json_text(json);
}

Result<HealthCheck> health_from_json(std::string_view text) {
  const ReadJson json = ReadJson::parse(text, nullptr, false);
  if (!json.is_object()) return Error{ErrorCode::kInvalid, "health is no JSON object"};
  const auto kind = json.find("kind");
  if (kind == json.end() || !kind->is_string())
    return Error{ErrorCode::kInvalid, "health lacks the text 'kind'",
                 "use tcp, http, https, udp, grpc or icmp"};
  Result<ProbeKind> parsed = parse_probe_kind(kind->get<std::string>());
  if (!parsed) return std::move(parsed).error().while_doing("health.kind");
  HealthCheck check;
  check.kind = *parsed;
  const std::vector<std::string_view> known = members_of(check.kind);
  for (const auto& [name, value] : json.items()) {
    if (std::ranges::find(known, name) == known.end()) {
      return Error{
          ErrorCode::kInvalid,
          fmt::format("health of kind {} has an unknown member '{}'", text_of(check.kind), name),
          fmt::format("use {}", fmt::join(known, ", "))};
    }
    if (Result<void> read = read_member(name, value, check); !read) return std::move(read).error();
  }
  if (!json.contains("timeout_ms"))
    check.timeout_ms = std::min(check.timeout_ms, check.interval_ms);
  return check;
}

std::string health_file_json(const HealthCheck& check) {
  Json json = Json::object();
  json[std::string{text_of(check.kind)}] = probe_file_json(check);
  json["interval"] = time_text(check.interval_ms);
  json["timeout"] = time_text(check.timeout_ms);
  json["rise"] = check.rise;
  json["fall"] = check.fall;
  json["flaps"] = check.flaps_max;
  json["grace"] = time_text(check.grace_ms);
  json["failOpen"] = fmt::format("{}%", check.fail_open_percent);
  json["slowStart"] = time_text(check.slow_start_ms);
  return json_text(json);
}

std::string health_text(const HealthCheck& check) {
  return fmt::format("{}{}{} every {}", text_of(check.kind),
                     check.port ? fmt::format(" :{}", check.port->value()) : "",
                     is_http(check.kind) ? fmt::format(" {}", check.path) : "",
                     time_text(check.interval_ms));
}

}  // namespace weir::control
