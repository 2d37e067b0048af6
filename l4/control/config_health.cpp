#include <algorithm>
#include <array>

#include "l4/base/hex.h"
#include "l4/control/config_parser.h"
#include "l4/control/health_json.h"
#include "l4/control/units.h"

/// The section `health` of a VIP.
namespace weir::control {
namespace {

constexpr std::array<ProbeKind, 6> kKinds{ProbeKind::kTcp, ProbeKind::kHttp, ProbeKind::kHttps,
                                          ProbeKind::kUdp, ProbeKind::kGrpc, ProbeKind::kIcmp};
constexpr std::string_view kKindsExpected =
    "one of tcp, http, https, udp, grpc and icmp, such as 'tcp: {}'";
constexpr std::array<Choice<bool>, 2> kYesOrNo{{{"true", true}, {"false", false}}};

Fields::Words words_of(ProbeKind kind) {
  switch (kind) {
    case ProbeKind::kTcp:
      return {{"port"}, {"send", "expect"}};
    case ProbeKind::kHttp:
      return {{"port", "path", "host", "statuses"}, {"method", "headers"}};
    case ProbeKind::kHttps:
      return {{"port", "path", "host", "statuses", "verify", "ca"}, {"method", "headers"}};
    case ProbeKind::kUdp:
      return {{"port", "send", "expect"}};
    case ProbeKind::kGrpc:
      return {{"port", "service"}, {"tls"}};
    case ProbeKind::kIcmp:
      return {{}, {}, {{"port", "cannot be used: ICMP has no ports"}}};
  }
  return {};
}

/// Text, or {hex: "0a0b"} for bytes that YAML has no escapes for.
std::optional<std::string> read_bytes(ConfigReader& reader, const YamlNode& node,
                                      const std::string& what) {
  std::optional<std::string> bytes;
  if (node.kind == YamlKind::kMap) {
    Fields fields{reader, node, what, {{"hex"}}};
    const YamlNode* hex = fields.need("hex", "bytes in hexadecimal");
    if (hex == nullptr) return std::nullopt;
    const auto text = reader.text(*hex, fields.label("hex"), "bytes in hexadecimal");
    if (!text) return std::nullopt;
    bytes = bytes_of_hex(*text);
    if (!bytes) {
      reader.report(hex->at, fmt::format("{} is {}", fields.label("hex"), found_text(*hex)),
                    "two hexadecimal digits a byte, such as 0a0b");
      return std::nullopt;
    }
  } else {
    bytes = reader.text(node, what, "text, or {hex: \"0a0b\"}");
  }
  if (bytes && bytes->size() > kProbeTextMax) {
    reader.report(node.at, fmt::format("{} has {} bytes", what, bytes->size()),
                  fmt::format("at most {}", kProbeTextMax));
    return std::nullopt;
  }
  return bytes;
}

std::optional<std::uint32_t> read_percent(ConfigReader& reader, const YamlNode& node,
                                          const std::string& what) {
  if (node.kind == YamlKind::kScalar && node.text.ends_with('%')) {
    const auto value = decimal(std::string_view{node.text}.substr(0, node.text.size() - 1));
    if (value && *value <= 100) return static_cast<std::uint32_t>(*value);
  }
  reader.report(node.at, fmt::format("{} is {}", what, found_text(node)),
                "a share from 0% to 100%");
  return std::nullopt;
}

}  // namespace

void ConfigParser::parse_health(const YamlNode& node, const std::string& owner, Vip& vip,
                                bool fits_known) {
  const std::string label = fmt::format("health of {}", owner);
  vip.health = parse_health_check(node, label, kKinds, false);
  if (vip.health && (vip.mode == ForwardMode::kL7 || fits_known))
    (void)reader_.accept(
        node.at, label,
        vip.mode == ForwardMode::kL7 ? object_to_health(vip) : object_to_health_port(vip));
}

std::optional<HealthCheck> ConfigParser::parse_health_check(const YamlNode& node,
                                                            const std::string& owner,
                                                            std::span<const ProbeKind> kinds,
                                                            bool short_path) {
  std::vector<std::string_view> words;
  for (const ProbeKind kind : kinds)
    words.push_back(text_of(kind));
  if (short_path) words.emplace_back("path");
  for (const std::string_view word :
       {"interval", "timeout", "rise", "fall", "flaps", "grace", "failOpen", "slowStart"})
    words.push_back(word);
  const Fields fields{reader_, node, owner, {std::move(words)}};
  HealthCheck check;
  const YamlNode* probe = nullptr;
  for (const ProbeKind kind : kinds) {
    const YamlNode* found = fields.find(text_of(kind));
    if (found == nullptr) continue;
    if (probe != nullptr) {
      reader_.report(found->at,
                     fmt::format("{} asks by {} and by {}", fields.owner(), text_of(check.kind),
                                 text_of(kind)),
                     "one way to ask");
      return std::nullopt;
    }
    probe = found;
    check.kind = kind;
  }
  const YamlNode* path = short_path ? fields.find("path") : nullptr;
  if (path != nullptr && probe != nullptr) {
    reader_.report(path->at, fmt::format("{} asks by {} and by path", owner, text_of(check.kind)),
                   "one way to ask");
    return std::nullopt;
  }
  if (path != nullptr) {
    check.kind = ProbeKind::kHttp;
    parse_http_probe(fields, check);
  } else if (probe != nullptr) {
    parse_probe(*probe, owner, check);
  } else {
    if (node.kind == YamlKind::kMap)  // anything else has had its complaint
      reader_.report(node.at, fmt::format("{} does not say what to ask", owner),
                     short_path ? std::string{"one of path, tcp, http, https and grpc, such as "
                                              "'path: /healthz'"}
                                : std::string{kKindsExpected});
    return std::nullopt;
  }
  parse_health_times(fields, check);
  return check;
}

void ConfigParser::parse_probe(const YamlNode& node, const std::string& owner, HealthCheck& check) {
  const Fields fields{reader_, node, fmt::format("{} in {}", text_of(check.kind), owner),
                      words_of(check.kind)};
  if (check.kind != ProbeKind::kIcmp) {
    if (const YamlNode* port = fields.find("port"))
      check.port = reader_.port(*port, fields.label("port"));
  }
  if (check.kind == ProbeKind::kHttp || check.kind == ProbeKind::kHttps)
    parse_http_probe(fields, check);
  if (check.kind == ProbeKind::kUdp) {
    if (const YamlNode* send = fields.find("send"))
      check.send = read_bytes(reader_, *send, fields.label("send")).value_or("");
    if (const YamlNode* expect = fields.find("expect"))
      check.expect = read_bytes(reader_, *expect, fields.label("expect")).value_or("");
  }
  if (check.kind != ProbeKind::kGrpc) return;
  if (const YamlNode* service = fields.find("service")) {
    const auto name = reader_.text(*service, fields.label("service"), "a service's name");
    if (name && reader_.accept(service->at, fields.label("service"), object_to_grpc_service(*name)))
      check.grpc_service = *name;
  }
}

void ConfigParser::parse_http_probe(const Fields& fields, HealthCheck& check) {
  if (const YamlNode* path = fields.find("path")) {
    const auto text = reader_.text(*path, fields.label("path"), "a path such as /healthz");
    if (text && reader_.accept(path->at, fields.label("path"), object_to_probe_path(*text)))
      check.path = *text;
  }
  if (const YamlNode* host = fields.find("host")) {
    auto text = reader_.text(*host, fields.label("host"), "a DNS name or an address");
    if (text) text = lower_case(*text);
    if (text && reader_.accept(host->at, fields.label("host"), object_to_probe_host(*text)))
      check.host = *text;
  }
  if (fields.find("statuses") != nullptr) {
    check.statuses.clear();
    read_list(
        fields, "statuses", "statuses such as 200-299", kHealthStatusesMax,
        [&](const YamlNode& item, std::size_t) -> std::optional<StatusRange> {
          const Result<StatusRange> range = parse_status(item.text);
          if (item.kind == YamlKind::kScalar && range) return *range;
          reader_.report(item.at,
                         fmt::format("a status in {} is {}", fields.owner(), found_text(item)),
                         "a number from 100 to 599, or a range such as 200-299");
          return std::nullopt;
        },
        check.statuses);
    if (fields.find("statuses")->kind == YamlKind::kList &&
        fields.find("statuses")->children.empty())
      reader_.report(fields.find("statuses")->at,
                     fmt::format("{} is empty", fields.label("statuses")),
                     "a list such as [200-299, 404]");
    if (check.statuses.empty()) check.statuses = HealthCheck{}.statuses;
  }
  if (const YamlNode* verify = fields.find("verify"))
    check.verify = reader_.choice<bool>(*verify, fields.label("verify"), kYesOrNo).value_or(true);
  const YamlNode* ca = fields.find("ca");
  if (ca == nullptr) return;
  Fields words{reader_, *ca, fields.label("ca"), {{"file"}}};
  const YamlNode* file = words.need("file", "a PEM file of certificates");
  if (file == nullptr) return;
  check.ca_file = readable_file(*file, words.label("file")).value_or("");
  if (!check.verify)
    reader_.report(ca->at, fmt::format("{} is given, but verify is false", fields.label("ca")),
                   "verify: true, or no ca");
}

void ConfigParser::parse_health_times(const Fields& fields, HealthCheck& check) {
  const auto time = [&](std::string_view key, std::uint32_t minimum, std::uint32_t maximum,
                        std::uint32_t& into) {
    if (const YamlNode* node = fields.find(key))
      into = reader_.duration_ms(*node, fields.label(key), minimum, maximum).value_or(into);
  };
  const auto number = [&](std::string_view key, std::uint32_t minimum, std::uint32_t maximum,
                          std::uint32_t& into) {
    if (const YamlNode* node = fields.find(key))
      into = static_cast<std::uint32_t>(
          reader_.number(*node, fields.label(key), minimum, maximum).value_or(into));
  };
  time("interval", kHealthIntervalMinMs, kHealthIntervalMaxMs, check.interval_ms);
  // A shorter interval without a word about the timeout means a shorter one too.
  check.timeout_ms = std::min(check.timeout_ms, check.interval_ms);
  time("timeout", kHealthTimeoutMinMs, check.interval_ms, check.timeout_ms);
  number("rise", 1, kHealthCountMax, check.rise);
  number("fall", 1, kHealthCountMax, check.fall);
  number("flaps", 0, kHealthFlapsMax, check.flaps_max);
  time("grace", 0, kHealthGraceMaxMs, check.grace_ms);
  time("slowStart", 0, kSlowStartMaxMs, check.slow_start_ms);
  if (const YamlNode* share = fields.find("failOpen"))
    check.fail_open_percent =
        read_percent(reader_, *share, fields.label("failOpen")).value_or(check.fail_open_percent);
}

}  // namespace weir::control
