#include <algorithm>
#include <array>

#include "l4/control/config_parser.h"

/// The section `vips`: services that the XDP program forwards by itself.
namespace weir::control {
namespace {

constexpr std::array<Choice<Protocol>, 2> kProtocols{
    {{"TCP", Protocol::kTcp}, {"UDP", Protocol::kUdp}}};
constexpr std::array<Choice<ForwardMode>, 5> kForwardModes{{{"ipip", ForwardMode::kIpip},
                                                            {"gue", ForwardMode::kGue},
                                                            {"l2", ForwardMode::kL2},
                                                            {"nat", ForwardMode::kNat},
                                                            {"l7", ForwardMode::kL7}}};
constexpr std::array<Choice<Snat>, 3> kSnat{
    {{"auto", Snat::kAuto}, {"always", Snat::kAlways}, {"never", Snat::kNever}}};
constexpr std::array<Choice<WhenEmpty>, 2> kWhenEmpty{
    {{"refuse", WhenEmpty::kRefuse}, {"drop", WhenEmpty::kDrop}}};
constexpr std::array<Choice<HashPolicy>, 3> kHashPolicies{
    {{"fiveTuple", HashPolicy::kFiveTuple},
     {"sourceIPPort", HashPolicy::kSourceIpPort},
     {"sourceIP", HashPolicy::kSourceIp}}};
constexpr std::array<Choice<BackendState>, 3> kBackendStates{
    {{"active", BackendState::kActive},
     {"draining", BackendState::kDraining},
     {"maintenance", BackendState::kMaintenance}}};

}  // namespace

std::optional<Vip> ConfigParser::parse_vip(const YamlNode& node, std::size_t index) {
  Fields fields{reader_,
                node,
                owner_of("vip", node, index),
                {{"name", "address", "port", "protocol", "forward", "whenEmpty", "hash", "affinity",
                  "table", "sources", "limits", "quic", "health", "backends"},
                 {"policyRefs"}}};
  Vip vip;
  if (const YamlNode* name = fields.need("name", "a name that is unique among the vips")) {
    vip.name = reader_.name(*name, fields.label("name")).value_or("");
    claim_name("vip", vip.name, fields);
  }
  const bool has_key = parse_vip_key(fields, vip);
  const bool has_mode = parse_forward(fields, vip);
  parse_selection(fields, vip, has_mode);
  if (const YamlNode* sources = fields.find("sources"))
    parse_sources(*sources, fields.owner(), vip.sources);
  if (const YamlNode* limits = fields.find("limits"))
    parse_vip_limits(*limits, fields.owner(), vip.limits);
  parse_backends(fields, vip, has_key && has_mode);
  if (const YamlNode* health = fields.find("health"))
    parse_health(*health, fields.owner(), vip, has_key && has_mode);
  return has_key ? std::optional{std::move(vip)} : std::nullopt;
}

bool ConfigParser::parse_vip_key(Fields& fields, Vip& vip) {
  const YamlNode* address_node = fields.need("address", "the address that clients connect to");
  const auto prefix = address_node != nullptr
                          ? read_vip_prefix(*address_node, fields.label("address"))
                          : std::nullopt;
  const YamlNode* port_node = fields.need("port", "a number from 1 to 65535, a range or any");
  const auto ports =
      port_node != nullptr ? reader_.ports(*port_node, fields.label("port")) : std::nullopt;
  const YamlNode* protocol_node = fields.need("protocol", "TCP or UDP");
  const auto protocol = protocol_node != nullptr
                            ? reader_.choice<Protocol>(*protocol_node, fields.label("protocol"),
                                                       kProtocols, {"SCTP", "QUIC"})
                            : std::nullopt;
  if (prefix) {
    vip.address = prefix->address;
    vip.prefix_length = length_in_16_bytes(*prefix);
    source_.addresses.try_emplace(vip.address, address_node->at);
  }
  vip.ports = ports.value_or(PortRange{});
  vip.protocol = protocol.value_or(Protocol::kTcp);
  if (!prefix || !ports || !protocol) return false;
  claim_vip(vip.key(), fields.owner(), address_node->at);
  return true;
}

std::optional<wire::Prefix> ConfigParser::read_vip_prefix(const YamlNode& node,
                                                          std::string_view what) {
  if (node.kind == YamlKind::kScalar) {
    if (const Result<wire::Prefix> prefix = wire::Prefix::parse(node.text)) {
      const bool usable = reader_.accept(node.at, what, object_to_vip_prefix(*prefix));
      return usable ? std::optional{*prefix} : std::nullopt;
    }
  }
  reader_.report(node.at, fmt::format("{} is {}", what, found_text(node)),
                 "an IPv4 or IPv6 address, or a prefix such as 198.51.100.0/28");
  return std::nullopt;
}

bool ConfigParser::parse_forward(Fields& fields, Vip& vip) {
  const YamlNode* forward =
      fields.need("forward", "'forward: {mode: ipip}', or mode gue, l2, nat or l7");
  if (forward == nullptr) return false;
  Fields words{reader_, *forward, fields.label("forward"), {{"mode", "port", "snat"}}};
  const YamlNode* node = words.need("mode", "ipip, gue, l2, nat or l7");
  const auto mode = node != nullptr
                        ? reader_.choice<ForwardMode>(*node, words.label("mode"), kForwardModes)
                        : std::nullopt;
  vip.mode = mode.value_or(ForwardMode::kIpip);
  if (mode) (void)reader_.accept(node->at, words.label("mode"), object_to_mode(vip));
  const auto belongs = [&](const YamlNode& value, std::string_view key, ForwardMode to,
                           std::string_view why) {
    if (!mode || *mode == to) return true;
    reader_.report(value.at, fmt::format("{} is given, but {}", words.label(key), why),
                   fmt::format("no {}, or mode {}", key, text_of(to)));
    return false;
  };
  if (const YamlNode* port = words.find("port");
      port != nullptr && belongs(*port, "port", ForwardMode::kGue,
                                 "it is the UDP port of a tunnel, which only mode gue has"))
    vip.gue_port = reader_.port(*port, words.label("port")).value_or(kGuePortDefault);
  if (const YamlNode* snat = words.find("snat");
      snat != nullptr &&
      belongs(*snat, "snat", ForwardMode::kNat, "only mode nat rewrites addresses"))
    vip.snat = reader_.choice<Snat>(*snat, words.label("snat"), kSnat).value_or(Snat::kAuto);
  return mode.has_value();
}

void ConfigParser::parse_selection(Fields& fields, Vip& vip, bool has_mode) {
  // A gateway has no table of backends, and its listeners know better what belongs together.
  const bool l7 = has_mode && vip.mode == ForwardMode::kL7;
  const auto find = [&](std::string_view key) -> const YamlNode* {
    const YamlNode* node = fields.find(key);
    if (node == nullptr || !l7) return node;
    reader_.report(node->at,
                   fmt::format("{} is given, but mode l7 hands packets to weir-l7, which chooses "
                               "by itself",
                               fields.label(key)),
                   fmt::format("no {}, or mode ipip, gue, l2 or nat", key));
    return nullptr;
  };
  if (const YamlNode* table = fields.find("table")) {
    Fields size{reader_, *table, fields.label("table"), {{"size"}}};
    if (const YamlNode* value = size.find("size")) {
      const auto slots = reader_.number(*value, size.label("size"), 1, UINT32_MAX);
      if (slots && reader_.accept(value->at, size.label("size"), object_to_table_size(*slots)))
        vip.table_size = static_cast<std::uint32_t>(*slots);
    }
  }
  if (const YamlNode* empty = find("whenEmpty")) {
    vip.when_empty = reader_.choice<WhenEmpty>(*empty, fields.label("whenEmpty"), kWhenEmpty)
                         .value_or(WhenEmpty::kRefuse);
  }
  const YamlNode* hash = find("hash");
  if (hash != nullptr) {
    vip.hash = reader_.choice<HashPolicy>(*hash, fields.label("hash"), kHashPolicies)
                   .value_or(HashPolicy::kFiveTuple);
  }
  if (const YamlNode* affinity = find("affinity")) {
    parse_affinity(*affinity, fields.label("affinity"), vip);
    if (hash != nullptr) (void)reader_.accept(hash->at, fields.label("hash"), object_to_hash(vip));
    vip.hash = HashPolicy::kSourceIp;
  }
  if (const YamlNode* quic = find("quic")) parse_quic(*quic, fields.owner(), vip);
}

void ConfigParser::parse_affinity(const YamlNode& node, const std::string& owner, Vip& vip) {
  Fields fields{reader_, node, owner, {{"clientIP"}, {"cookie"}}};
  // A map with other words has had its complaint.
  const YamlNode* client = node.children.empty()
                               ? fields.need("clientIP", "'clientIP: {}', or with a timeout")
                               : fields.find("clientIP");
  vip.affinity_timeout_s = kAffinityTimeoutDefaultS;
  if (client == nullptr) return;
  Fields words{reader_, *client, fields.label("clientIP"), {{"timeout"}}};
  const YamlNode* timeout = words.find("timeout");
  if (timeout == nullptr) return;
  const auto time_ms =
      reader_.duration_ms(*timeout, words.label("timeout"), 1000, kAffinityTimeoutMaxS * 1000);
  if (!time_ms) return;
  if (*time_ms % 1000 != 0) {
    reader_.report(timeout->at,
                   fmt::format("{} is {}", words.label("timeout"), found_text(*timeout)),
                   "whole seconds");
    return;
  }
  vip.affinity_timeout_s = *time_ms / 1000;
}

void ConfigParser::parse_quic(const YamlNode& node, const std::string& owner, Vip& vip) {
  constexpr std::string_view kPlaintext =
      "cannot be used: server ids are read in plain text, because the XDP program has no AES";
  Fields fields{reader_,
                node,
                fmt::format("quic of {}", owner),
                {{"serverIDLength", "configRotation"},
                 {},
                 {{"key", kPlaintext}, {"encryptionKey", kPlaintext}}}};
  if (vip.protocol != Protocol::kUdp) {
    reader_.report(node.at, fmt::format("{} is given, but its protocol is TCP", fields.owner()),
                   "no quic, or protocol UDP");
    return;
  }
  if (const YamlNode* length =
          fields.need("serverIDLength", fmt::format("a number from 1 to {}", kServerIdBytesMax))) {
    vip.quic.server_id_bytes = static_cast<std::uint8_t>(
        reader_.number(*length, fields.label("serverIDLength"), 1, kServerIdBytesMax).value_or(0));
  }
  if (const YamlNode* rotation = fields.find("configRotation")) {
    vip.quic.config_rotation = static_cast<std::uint8_t>(
        reader_.number(*rotation, fields.label("configRotation"), 0, kConfigRotationMax)
            .value_or(0));
  }
}

void ConfigParser::parse_backends(Fields& fields, Vip& vip, bool fits_known) {
  const bool needs_backends = vip.mode != ForwardMode::kL7;
  const YamlNode* list =
      needs_backends ? fields.need("backends", "a list of backends; [] when there are none yet")
                     : fields.find("backends");
  if (list == nullptr) return;
  if (!needs_backends) {
    reader_.report(
        list->at,
        fmt::format("{} has backends, but mode l7 hands its packets to weir-l7", fields.owner()),
        "no backends, or mode ipip, gue, l2 or nat");
    return;
  }
  if (!reader_.is_list(*list, fields.label("backends"), "a list of backends")) return;
  if (list->children.size() > kBackendsPerVipMax) {
    reader_.report(list->at,
                   fmt::format("{} has {} backends", fields.owner(), list->children.size()),
                   fmt::format("at most {}", kBackendsPerVipMax));
    return;
  }
  std::map<wire::IpAddress, Position> addresses;
  std::map<std::string, Position> names;
  std::map<std::string, Position> server_ids;
  for (std::size_t i = 0; i < list->children.size(); ++i) {
    const YamlNode& node = list->children[i];
    const std::string owner = fmt::format("{} of {}", owner_of("backend", node, i), fields.owner());
    const std::optional<Backend> backend = parse_backend(node, owner);
    if (!backend) continue;
    if (fits_known && !reader_.accept(node.at, owner, object_to_backend(vip, *backend))) continue;
    const auto [address, new_address] = addresses.try_emplace(backend->address, node.at);
    if (!new_address) {
      reader_.report(node.at,
                     fmt::format("{} is {}, as the backend in line {} is", owner,
                                 backend->address.text(), address->second.line),
                     "each address once");
    }
    if (!backend->name.empty() && !names.try_emplace(backend->name, node.at).second) {
      reader_.report(
          node.at,
          fmt::format("{} has the name of another in line {}", owner, names[backend->name].line),
          "names that differ");
    }
    if (!backend->server_id.empty() &&
        !server_ids.try_emplace(backend->server_id, node.at).second) {
      reader_.report(node.at,
                     fmt::format("{} has the serverID of the backend in line {}", owner,
                                 server_ids[backend->server_id].line),
                     "server ids that differ");
    }
    vip.backends.push_back(*backend);
  }
}

std::optional<Backend> ConfigParser::parse_backend(const YamlNode& node, const std::string& owner) {
  Fields fields{reader_, node, owner, {{"name", "address", "port", "weight", "state", "serverID"}}};
  Backend backend;
  if (const YamlNode* name = fields.find("name"))
    backend.name = reader_.name(*name, fields.label("name")).value_or("");
  if (const YamlNode* port = fields.find("port"))
    backend.port = reader_.port(*port, fields.label("port"));
  if (const YamlNode* weight = fields.find("weight")) {
    backend.weight = static_cast<std::uint32_t>(
        reader_.number(*weight, fields.label("weight"), 0, kWeightMax).value_or(1));
  }
  if (const YamlNode* state = fields.find("state"))
    backend.state = reader_.choice<BackendState>(*state, fields.label("state"), kBackendStates)
                        .value_or(BackendState::kActive);
  if (const YamlNode* id = fields.find("serverID")) {
    const auto text = reader_.text(*id, fields.label("serverID"), "bytes in hexadecimal");
    Result<std::string> bytes = text ? parse_server_id(*text) : std::string{};
    if (text && !bytes) {
      reader_.report(
          id->at, fmt::format("{} is {}", fields.label("serverID"), found_text(*id)),
          fmt::format("1 to {} bytes in hexadecimal, such as 0a0b0c", kServerIdBytesMax));
      return std::nullopt;
    }
    backend.server_id = *std::move(bytes);
  }
  const YamlNode* address_node = fields.need("address", "the backend's own address");
  if (address_node == nullptr) return std::nullopt;
  const auto address = reader_.address(*address_node, fields.label("address"));
  if (!address) return std::nullopt;
  backend.address = *address;
  return backend;
}

}  // namespace weir::control
