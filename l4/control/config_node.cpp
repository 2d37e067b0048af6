#include <algorithm>
#include <array>
#include <bit>

#include "l4/control/config_files.h"
#include "l4/control/config_parser.h"
#include "l4/control/units.h"

/// The section `node`: what holds for the machine, whatever it serves.
namespace weir::control {
namespace {

constexpr std::size_t kSeedBytesMax = 4096;
constexpr std::size_t kSeedBytesMin = 16;
constexpr std::uint32_t kWorkersMax = 64;  // WEIR_L7_WORKERS_MAX of bpf/abi.h
constexpr std::uint32_t kIcmpRateMax = 1'000'000;
constexpr std::size_t kSnatAddressesMax = 64;
constexpr std::size_t kTunnelSourcesMax = 64;  // weir-l7 looks at all of them for a packet
constexpr std::uint16_t kSnatPortMin = 1024;

constexpr std::array<Choice<XdpMode>, 3> kXdpModes{
    {{"native", XdpMode::kNative}, {"generic", XdpMode::kGeneric}, {"auto", XdpMode::kAuto}}};
constexpr std::array<Choice<int>, 1> kCarriers{{{"veth", 0}}};
constexpr std::array<Choice<bool>, 2> kYesNo{{{"true", true}, {"false", false}}};

}  // namespace

void ConfigParser::parse_node(const YamlNode& node) {
  Fields fields{reader_,
                node,
                "node",
                {{"interfaces", "xdpMode", "hashSeed", "l7", "sources", "icmp", "l4", "zone"}}};
  parse_interfaces(fields);
  if (const YamlNode* mode = fields.find("xdpMode")) {
    model_.node.xdp_mode =
        reader_.choice<XdpMode>(*mode, fields.label("xdpMode"), kXdpModes).value_or(XdpMode::kAuto);
  }
  if (const YamlNode* seed = fields.find("hashSeed")) parse_seed(*seed);
  if (const YamlNode* l7 = fields.find("l7")) parse_l7(*l7);
  if (const YamlNode* sources = fields.find("sources")) parse_block_list(*sources);
  if (const YamlNode* icmp = fields.find("icmp")) parse_icmp(*icmp);
  if (const YamlNode* l4 = fields.find("l4")) parse_l4(*l4);
  if (const YamlNode* zone = fields.find("zone"))
    model_.node.zone = parse_zone(*zone, fields.label("zone"));
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
    model_.node.hash_seed_file = path;
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
  Fields fields{
      reader_, node, "node.l7", {{"workers", "carrier", "addresses", "gateways", "tunnelSources"}}};
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
  parse_tunnel_sources(fields, l7);
}

void ConfigParser::parse_tunnel_sources(const Fields& fields, L7Settings& l7) {
  const auto read_source = [&](const YamlNode& item, std::size_t) -> std::optional<wire::Prefix> {
    const std::string what = "a tunnelSource of node.l7";
    const std::optional<wire::Prefix> source = reader_.network(item, what);
    if (!source) return std::nullopt;
    if (source->length == 0) {
      reader_.report(item.at, fmt::format("{} is {}, which is everybody", what, source->text()),
                     "the balancers alone: a tunnel's source can send under any client's address");
      return std::nullopt;
    }
    if (std::ranges::find(l7.tunnel_sources, *source) != l7.tunnel_sources.end()) {
      reader_.report(item.at, fmt::format("{} is {} twice", what, source->text()),
                     "each source once");
      return std::nullopt;
    }
    const wire::Family family = source->address.family();
    const bool has_end = std::ranges::any_of(l7.addresses, [&](const wire::Prefix& prefix) {
      return prefix.address.family() == family;
    });
    if (!has_end) {
      const bool v4 = family == wire::Family::kIpv4;
      reader_.report(item.at,
                     fmt::format("{} is {}, but node.l7.addresses has no {} address", what,
                                 source->text(), v4 ? "IPv4" : "IPv6"),
                     fmt::format("an address for its tunnel to end at, such as {}",
                                 v4 ? "10.0.0.5/24" : "2001:db8::5/64"));
      return std::nullopt;
    }
    return source;
  };
  read_list(fields, "tunnelSources", "prefixes", kTunnelSourcesMax, read_source, l7.tunnel_sources);
}

void ConfigParser::parse_icmp(const YamlNode& node) {
  Fields fields{reader_, node, "node.icmp", {{"echo", "rate"}}};
  IcmpSettings& icmp = model_.node.icmp;
  if (const YamlNode* echo = fields.find("echo"))
    icmp.echo = reader_.choice<bool>(*echo, fields.label("echo"), kYesNo).value_or(true);
  if (const YamlNode* rate = fields.find("rate")) {
    icmp.rate_per_s =
        reader_.rate(*rate, fields.label("rate"), kIcmpRateMax).value_or(icmp.rate_per_s);
  }
}

void ConfigParser::parse_l4(const YamlNode& node) {
  Fields fields{reader_, node, "node.l4", {{"flows", "natFlows", "snatPorts", "snatAddresses"}}};
  L4Settings& l4 = model_.node.l4;
  l4.flows_max = read_table_size(fields, "flows", 0, l4.flows_max);
  l4.nat_flows_max = read_table_size(fields, "natFlows", kFlowsMin, l4.nat_flows_max);
  if (const YamlNode* ports = fields.find("snatPorts")) {
    const std::string what = fields.label("snatPorts");
    const std::optional<PortRange> range = reader_.ports(*ports, what);
    if (range && range->first.value() < kSnatPortMin) {
      reader_.report(ports->at, fmt::format("{} is {}", what, found_text(*ports)),
                     fmt::format("ports from {} on, such as 10000-29999: those below belong to "
                                 "services",
                                 kSnatPortMin));
    } else if (range) {
      l4.snat_ports = *range;
    }
  }
  const auto read_address = [&](const YamlNode& item,
                                std::size_t) -> std::optional<wire::IpAddress> {
    const std::string what = "a snatAddress of node.l4";
    const auto address = reader_.address(item, what);
    if (!address) return std::nullopt;
    if (!snat_addresses_.try_emplace(*address, item.at).second) {
      reader_.report(item.at, fmt::format("{} is {} twice", what, address->text()),
                     "each address once");
      return std::nullopt;
    }
    return address;
  };
  read_list(fields, "snatAddresses", "addresses", kSnatAddressesMax, read_address,
            l4.snat_addresses);
}

std::uint32_t ConfigParser::read_table_size(const Fields& fields, std::string_view key,
                                            std::uint32_t minimum, std::uint32_t fallback) {
  const YamlNode* node = fields.find(key);
  if (node == nullptr) return fallback;
  const std::optional<std::uint32_t> wanted =
      reader_.count(*node, fields.label(key), minimum, kFlowsMax);
  if (!wanted) return fallback;
  if (*wanted == 0) return 0;
  const std::uint32_t size = std::max(std::bit_ceil(*wanted), kFlowsMin);
  if (size != *wanted) {
    reader_.warn(node->at,
                 fmt::format("{} is {}, rounded up to {}", fields.label(key), found_text(*node),
                             in_units(size, count_units())),
                 fmt::format("a power of two from {} on", kFlowsMin));
  }
  return size;
}

}  // namespace weir::control
