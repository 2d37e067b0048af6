#include <algorithm>
#include <array>

#include "l4/control/config_files.h"
#include "l4/control/config_parser.h"

namespace weir::control {
namespace {

constexpr std::size_t kSeedBytesMax = 4096;
constexpr std::size_t kSeedBytesMin = 16;
constexpr std::uint32_t kWorkersMax = 64;  // WEIR_L7_WORKERS_MAX of bpf/abi.h

constexpr std::array<Choice<XdpMode>, 3> kXdpModes{
    {{"native", XdpMode::kNative}, {"generic", XdpMode::kGeneric}, {"auto", XdpMode::kAuto}}};
constexpr std::array<Choice<Protocol>, 2> kProtocols{
    {{"TCP", Protocol::kTcp}, {"UDP", Protocol::kUdp}}};
constexpr std::array<Choice<ForwardMode>, 3> kForwardModes{
    {{"ipip", ForwardMode::kIpip}, {"l2", ForwardMode::kL2}, {"l7", ForwardMode::kL7}}};
constexpr std::array<Choice<bool>, 2> kBackendStates{{{"active", false}, {"draining", true}}};
constexpr std::array<Choice<int>, 1> kCarriers{{{"veth", 0}}};

}  // namespace

// ---- node -----------------------------------------------------------------------------------

void ConfigParser::parse_node(const YamlNode& node) {
  Fields fields{reader_, node, "node", {{"interfaces", "xdpMode", "hashSeed", "l7"}}};
  parse_interfaces(fields);
  if (const YamlNode* mode = fields.find("xdpMode")) {
    model_.node.xdp_mode =
        reader_.choice<XdpMode>(*mode, fields.label("xdpMode"), kXdpModes).value_or(XdpMode::kAuto);
  }
  if (const YamlNode* seed = fields.find("hashSeed")) parse_seed(*seed);
  if (const YamlNode* l7 = fields.find("l7")) parse_l7(*l7);
}

void ConfigParser::parse_interfaces(const Fields& fields) {
  const YamlNode* list = fields.find("interfaces");
  if (list == nullptr) return;
  const std::string what = fields.label("interfaces");
  if (!reader_.is_list(*list, what, "a list of device names")) return;
  for (const YamlNode& item : list->children) {
    const auto name = reader_.text(item, "a device in " + what, "a device name");
    if (!name || !reader_.accept(item.at, "a device in " + what, object_to_interface(*name)))
      continue;
    const auto [first, inserted] = source_.interfaces.try_emplace(*name, item.at);
    if (!inserted) {
      reader_.report(item.at, fmt::format("{} has '{}' twice", what, *name), "each device once");
      continue;
    }
    model_.node.interfaces.push_back(*name);
  }
}

void ConfigParser::parse_seed(const YamlNode& node) {
  Fields fields{reader_, node, "hashSeed of node", {{"file", "text"}}};
  const YamlNode* file = fields.find("file");
  const YamlNode* text = fields.find("text");
  if ((file == nullptr) == (text == nullptr)) {
    reader_.report(node.at, "hashSeed of node must have one of file and text", "one of them");
    return;
  }
  const YamlNode& value = file != nullptr ? *file : *text;
  std::optional<std::string> seed = reader_.text(
      value, fields.label(file != nullptr ? "file" : "text"), "a file name or the seed itself");
  if (!seed) return;
  if (file != nullptr) {
    const std::string path = resolved(*seed);
    Result<std::string> content = read_regular_file(path, kSeedBytesMax);
    if (!content) {
      reader_.report(value.at,
                     fmt::format("the hash seed cannot be read: {}", content.error().text()),
                     "a file with the same secret on every node",
                     "make one: head -c 32 /dev/urandom | base64");
      return;
    }
    seed = std::move(*content);
    while (seed->ends_with('\n') || seed->ends_with('\r'))
      seed->pop_back();
  }
  if (seed->size() < kSeedBytesMin || seed->size() > kSeedBytesMax) {
    // The secret itself is never shown.
    reader_.report(value.at, fmt::format("the hash seed has {} bytes", seed->size()),
                   fmt::format("{} to {} bytes", kSeedBytesMin, kSeedBytesMax),
                   "make one: head -c 32 /dev/urandom | base64");
    return;
  }
  model_.node.hash_seed = std::move(*seed);
}

void ConfigParser::parse_l7(const YamlNode& node) {
  Fields fields{reader_, node, "node.l7", {{"workers", "carrier", "addresses", "gateways"}}};
  L7Settings& l7 = model_.node.l7;
  if (const YamlNode* workers = fields.find("workers")) {
    l7.workers = static_cast<std::uint32_t>(
        reader_.number(*workers, fields.label("workers"), 1, kWorkersMax).value_or(1));
  }
  if (const YamlNode* carrier = fields.find("carrier"))
    (void)reader_.choice<int>(*carrier, fields.label("carrier"), kCarriers, {"xsk", "encap", "vf"});
  const auto read_prefix = [&](const YamlNode& item, std::size_t) -> std::optional<wire::Prefix> {
    constexpr std::string_view kForm =
        "an address with the length of its network, such as 10.0.0.5/24";
    const std::string what = "an address of node.l7";
    const std::optional<std::string> text = reader_.text(item, what, kForm);
    if (!text) return std::nullopt;
    const Result<wire::Prefix> prefix = wire::Prefix::parse(*text);
    if (!prefix || text->find('/') == std::string::npos || prefix->length == 0) {
      reader_.report(item.at, fmt::format("{} is {}", what, found_text(item)), std::string{kForm});
      return std::nullopt;
    }
    if (!reader_.accept(item.at, what, object_to_address(prefix->address))) return std::nullopt;
    if (!source_.addresses.try_emplace(prefix->address, item.at).second) {
      reader_.report(item.at, fmt::format("{} is {} twice", what, prefix->address.text()),
                     "each address once");
      return std::nullopt;
    }
    return *prefix;
  };
  read_list(fields, "addresses", "addresses", kAddressesMax, read_prefix, l7.addresses);
  const auto read_gateway = [&](const YamlNode& item,
                                std::size_t) -> std::optional<wire::IpAddress> {
    const auto address = reader_.address(item, "a gateway of node.l7");
    if (!address) return std::nullopt;
    if (std::ranges::find(l7.gateways, address->family(), &wire::IpAddress::family) !=
        l7.gateways.end()) {
      reader_.report(item.at, fmt::format("{} is a second gateway of its family", address->text()),
                     "one gateway for IPv4 and one for IPv6");
      return std::nullopt;
    }
    const bool on_link = std::ranges::any_of(
        l7.addresses, [&](const wire::Prefix& prefix) { return prefix.contains(*address); });
    if (!on_link) {
      reader_.report(
          item.at, fmt::format("gateway {} is in no network of node.l7.addresses", address->text()),
          "an address within one of them");
      return std::nullopt;
    }
    return address;
  };
  read_list(fields, "gateways", "addresses", kAddressesMax, read_gateway, l7.gateways);
}

// ---- vips -----------------------------------------------------------------------------------

std::optional<Vip> ConfigParser::parse_vip(const YamlNode& node, std::size_t index) {
  Fields fields{reader_,
                node,
                owner_of("vip", node, index),
                {{"name", "address", "port", "protocol", "forward", "table", "backends"},
                 {"health", "affinity", "sources", "limits", "policyRefs"}}};
  Vip vip;
  if (const YamlNode* name = fields.need("name", "a name that is unique among the vips")) {
    vip.name = reader_.name(*name, fields.label("name")).value_or("");
    claim_name("vip", vip.name, fields);
  }
  const YamlNode* address_node = fields.need("address", "the address that clients connect to");
  const auto address = address_node != nullptr
                           ? reader_.address(*address_node, fields.label("address"))
                           : std::nullopt;
  const YamlNode* port_node = fields.need("port", "a number from 1 to 65535");
  const auto port =
      port_node != nullptr ? reader_.port(*port_node, fields.label("port")) : std::nullopt;
  const YamlNode* protocol_node = fields.need("protocol", "TCP or UDP");
  const auto protocol = protocol_node != nullptr
                            ? reader_.choice<Protocol>(*protocol_node, fields.label("protocol"),
                                                       kProtocols, {"SCTP", "QUIC"})
                            : std::nullopt;
  if (const YamlNode* table = fields.find("table")) {
    Fields size{reader_, *table, fields.label("table"), {{"size"}}};
    if (const YamlNode* value = size.find("size")) {
      const auto slots = reader_.number(*value, size.label("size"), 1, UINT32_MAX);
      if (slots && reader_.accept(value->at, size.label("size"), object_to_table_size(*slots)))
        vip.table_size = static_cast<std::uint32_t>(*slots);
    }
  }
  vip.address = address.value_or(wire::IpAddress{});
  vip.port = port.value_or(wire::Port{});
  vip.protocol = protocol.value_or(Protocol::kTcp);
  const bool has_key = address && port && protocol;
  if (has_key) claim_vip(vip.key(), fields.owner(), address_node->at);
  if (address) source_.addresses.try_emplace(vip.address, address_node->at);
  parse_vip_mode(fields, vip);
  parse_backends(fields, vip, has_key);
  return has_key ? std::optional{std::move(vip)} : std::nullopt;
}

void ConfigParser::parse_vip_mode(Fields& fields, Vip& vip) {
  const YamlNode* forward = fields.need("forward", "'forward: {mode: ipip}', or mode l2 or l7");
  if (forward == nullptr) return;
  Fields words{reader_, *forward, fields.label("forward"), {{"mode"}}};
  const YamlNode* node = words.need("mode", "ipip, l2 or l7");
  if (node == nullptr) return;
  const auto mode =
      reader_.choice<ForwardMode>(*node, words.label("mode"), kForwardModes, {"gue", "nat"});
  if (!mode) return;
  vip.mode = *mode;
  if (vip.mode == ForwardMode::kL7 && vip.protocol != Protocol::kTcp) {
    reader_.report(node->at,
                   fmt::format("{} is l7, which terminates TCP only", words.label("mode")),
                   "ipip or l2 for UDP");
  }
}

void ConfigParser::parse_backends(Fields& fields, Vip& vip, bool has_key) {
  const bool needs_backends = vip.mode != ForwardMode::kL7;
  const YamlNode* list =
      needs_backends ? fields.need("backends", "a list of backends; [] when there are none yet")
                     : fields.find("backends");
  if (list == nullptr) return;
  if (!needs_backends) {
    reader_.report(
        list->at,
        fmt::format("{} has backends, but mode l7 hands its packets to weir-l7", fields.owner()),
        "no backends, or mode ipip or l2");
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
  for (std::size_t i = 0; i < list->children.size(); ++i) {
    const YamlNode& node = list->children[i];
    const std::string owner = fmt::format("{} of {}", owner_of("backend", node, i), fields.owner());
    const std::optional<Backend> backend = parse_backend(node, owner);
    if (!backend) continue;
    if (has_key && !reader_.accept(node.at, owner, object_to_backend(vip, *backend))) continue;
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
    vip.backends.push_back(*backend);
  }
}

std::optional<Backend> ConfigParser::parse_backend(const YamlNode& node, const std::string& owner) {
  Fields fields{reader_, node, owner, {{"name", "address", "port", "weight", "state"}}};
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
    backend.draining =
        reader_.choice<bool>(*state, fields.label("state"), kBackendStates).value_or(false);
  const YamlNode* address_node = fields.need("address", "the backend's own address");
  if (address_node == nullptr) return std::nullopt;
  const auto address = reader_.address(*address_node, fields.label("address"));
  if (!address) return std::nullopt;
  backend.address = *address;
  return backend;
}

}  // namespace weir::control
