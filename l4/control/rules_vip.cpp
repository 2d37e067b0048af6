#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "l4/control/rules.h"

/// What must hold for VIPs and their backends.
namespace weir::control {
namespace {

/// Where no service can be: this host, link-local, multicast, and what stands for "no address".
const std::array<wire::Prefix, 7>& never_unicast() {
  using wire::IpAddress;
  static const std::array<wire::Prefix, 7> kPrefixes{{
      {IpAddress::v4(0, 0, 0, 0), 8},
      {IpAddress::v4(127, 0, 0, 0), 8},
      {IpAddress::v4(224, 0, 0, 0), 4},
      {IpAddress::v4(255, 255, 255, 255), 32},
      {IpAddress{}, 127},  // :: and ::1
      {IpAddress{{0xfe, 0x80}}, 10},
      {IpAddress{{0xff}}, 8},
  }};
  return kPrefixes;
}

Error invalid(const Vip& vip, std::string_view what, const Objection& objection) {
  return Error{ErrorCode::kInvalid, fmt::format("{} {}", what, objection.problem),
               fmt::format("use {}", objection.expectation)}
      .while_doing(fmt::format("vip {}", vip_text(vip.key())));
}

MaybeObjection object_to_server_id(const Vip& vip, const Backend& backend) {
  const std::size_t wanted = vip.quic.server_id_bytes;
  if (backend.server_id.size() == wanted) return std::nullopt;
  if (!vip.quic.on()) {
    return Objection{
        fmt::format("of server id {}, but the VIP does not route by QUIC connection id",
                    server_id_text(backend.server_id)),
        "no server id, or quic with the length of server ids on the VIP"};
  }
  const std::string expectation =
      fmt::format("a server id of {} bytes, {} digits in hexadecimal", wanted, wanted * 2);
  if (backend.server_id.empty())
    return Objection{"without a server id, which the VIP's QUIC routing needs", expectation};
  return Objection{fmt::format("of server id {}, which has {} bytes",
                               server_id_text(backend.server_id), backend.server_id.size()),
                   expectation};
}

/// Words that say something about backends and flows, where weir-l7 decides about both.
Result<void> check_l7_words(const Vip& vip) {
  const Vip plain;
  if (vip.mode != ForwardMode::kL7) return {};
  const bool fits = vip.hash == plain.hash && vip.when_empty == plain.when_empty && !vip.quic.on();
  if (fits) return {};
  return invalid(vip, "hash, affinity, what happens when it is empty, or quic is",
                 {"set, but mode l7 hands packets to weir-l7", "none of them"});
}

Result<void> check_name(const Vip& vip) {
  if (vip.name.empty()) return {};
  // The VIPs of a gateway are named "<gateway>/<listener>".
  const std::size_t slash = std::min(vip.name.find('/'), vip.name.size());
  if (const auto o = object_to_name(std::string_view{vip.name}.substr(0, slash)))
    return invalid(vip, "name is", *o);
  if (slash == vip.name.size()) return {};
  if (const auto o = object_to_name(std::string_view{vip.name}.substr(slash + 1)))
    return invalid(vip, "name is", *o);
  return {};
}

Result<void> check_forwarding(const Vip& vip) {
  const Vip plain;
  if (const auto o = object_to_mode(vip)) return invalid(vip, "mode is", *o);
  if (vip.gue_port.value() == 0) return invalid(vip, "tunnel port is", {"0", "1 to 65535"});
  if (vip.mode != ForwardMode::kGue && vip.gue_port != plain.gue_port)
    return invalid(vip, "tunnel port is", {"set, but only mode gue has one", "mode gue"});
  if (vip.mode != ForwardMode::kNat && vip.snat != plain.snat)
    return invalid(vip, "snat is", {"set, but only mode nat rewrites addresses", "mode nat"});
  if (const auto o = object_to_hash(vip)) return invalid(vip, "hash is", *o);
  if (const auto timeout = vip.affinity_timeout_s;
      timeout && (*timeout == 0 || *timeout > kAffinityTimeoutMaxS)) {
    return invalid(vip, "affinity timeout is",
                   {fmt::format("{} seconds", *timeout),
                    fmt::format("1 to {} seconds", kAffinityTimeoutMaxS)});
  }
  if (!vip.quic.on()) return {};
  if (vip.protocol != Protocol::kUdp)
    return invalid(vip, "quic is", {"set, but the protocol is TCP", "protocol UDP"});
  if (vip.quic.server_id_bytes > kServerIdBytesMax ||
      vip.quic.config_rotation > kConfigRotationMax) {
    return invalid(vip, "quic has",
                   {fmt::format("server ids of {} bytes and configuration {}",
                                vip.quic.server_id_bytes, vip.quic.config_rotation),
                    fmt::format("1 to {} bytes and configuration 0 to {}", kServerIdBytesMax,
                                kConfigRotationMax)});
  }
  return {};
}

Result<void> check_sources(const Vip& vip) {
  for (const auto* list : {&vip.sources.allow, &vip.sources.deny}) {
    if (list->size() > kPrefixesPerListMax)
      return invalid(vip, "sources are",
                     {fmt::format("{} prefixes", list->size()),
                      fmt::format("at most {}", kPrefixesPerListMax)});
    for (const wire::Prefix& prefix : *list) {
      if (const auto o = object_to_network(prefix)) return invalid(vip, "a source is", *o);
    }
  }
  std::vector<wire::Prefix> both;
  std::ranges::set_intersection(vip.sources.allow, vip.sources.deny, std::back_inserter(both));
  if (both.empty()) return {};
  return invalid(
      vip, "sources",
      {fmt::format("allow and deny {}", both.front().text()), "each prefix in one of the two"});
}

Result<void> check_limits(const Vip& vip) {
  const VipLimits& limits = vip.limits;
  const std::uint32_t highest = std::max(
      {limits.new_flows_per_source, limits.packets_per_source, limits.new_flows, limits.packets});
  if (highest <= kRateMax) return {};
  return invalid(
      vip, "a limit is",
      {fmt::format("{} per second", highest), fmt::format("at most {} per second", kRateMax)});
}

Result<void> check_backends(const Vip& vip) {
  if (vip.backends.size() > kBackendsPerVipMax) {
    return invalid(vip, "has",
                   {fmt::format("{} backends", vip.backends.size()),
                    fmt::format("at most {}", kBackendsPerVipMax)});
  }
  std::set<wire::IpAddress> addresses;
  std::set<std::string> names;
  std::set<std::string> server_ids;
  for (const Backend& backend : vip.backends) {
    const std::string what = fmt::format("backend {} is", backend.address.text());
    if (!backend.name.empty()) {
      if (const auto o = object_to_name(backend.name)) return invalid(vip, "backend's name is", *o);
      if (!names.insert(backend.name).second)
        return invalid(vip, "backend's name is", {backend.name + " twice", "names that differ"});
    }
    if (const auto o = object_to_address(backend.address)) return invalid(vip, "backend is", *o);
    if (const auto o = object_to_backend(vip, backend)) return invalid(vip, "backend is", *o);
    if (backend.weight > kWeightMax) {
      return invalid(vip, what,
                     {fmt::format("of weight {}", backend.weight),
                      fmt::format("a weight from 0 to {}", kWeightMax)});
    }
    if (!addresses.insert(backend.address).second)
      return invalid(vip, what, {"listed twice", "each address once"});
    if (vip.quic.on() && !server_ids.insert(backend.server_id).second) {
      return invalid(vip, what,
                     {fmt::format("of server id {}, which another backend has",
                                  server_id_text(backend.server_id)),
                      "server ids that differ"});
    }
  }
  return {};
}

}  // namespace

MaybeObjection object_to_network(const wire::Prefix& prefix) {
  const wire::Prefix network = network_of(prefix);
  if (network == prefix) return std::nullopt;
  return Objection{fmt::format("{}, which has bits set beyond its length", prefix.text()),
                   fmt::format("{}, or {} alone", network.text(), prefix.address.text())};
}

MaybeObjection object_to_vip_prefix(const wire::Prefix& prefix) {
  const bool single = length_in_16_bytes(prefix) == kSingleAddress;
  if (single) return object_to_address(prefix.address);
  if (const auto objection = object_to_network(prefix)) return objection;
  for (const wire::Prefix& special : never_unicast()) {
    if (!overlap(prefix, special)) continue;
    return Objection{fmt::format("{}, which has addresses of {}", prefix.text(), special.text()),
                     "a prefix of unicast addresses only"};
  }
  return std::nullopt;
}

MaybeObjection object_to_mode(const Vip& vip) {
  if (vip.mode != ForwardMode::kL7) return std::nullopt;
  if (vip.protocol != Protocol::kTcp)
    return Objection{"l7, which terminates TCP only", "ipip, gue, l2 or nat for UDP"};
  if (vip.prefix_length == kSingleAddress && vip.ports.is_exact()) return std::nullopt;
  return Objection{"l7, whose gateways listen on single addresses and ports",
                   "one address and one port, or ipip, gue, l2 or nat"};
}

MaybeObjection object_to_hash(const Vip& vip) {
  if (!vip.affinity_timeout_s || vip.hash == HashPolicy::kSourceIp) return std::nullopt;
  return Objection{
      fmt::format("{}, but affinity knows a client by its address alone", text_of(vip.hash)),
      "sourceIP or no hash beside affinity"};
}

MaybeObjection object_to_backend(const Vip& vip, const Backend& backend) {
  if (vip.mode == ForwardMode::kL7) {
    return Objection{"given, but mode l7 hands packets to weir-l7 and has no backends",
                     "no backends, or mode ipip, gue, l2 or nat"};
  }
  const VipKey key = vip.key();
  if (key.prefix().contains(backend.address)) {
    return Objection{key.is_single_address()
                         ? fmt::format("{}, the VIP's own address", backend.address.text())
                         : fmt::format("{}, within the VIP's own prefix {}", backend.address.text(),
                                       key.prefix().text()),
                     "the backend's own address"};
  }
  const bool keeps_ip_version = vip.mode == ForwardMode::kL2 || vip.mode == ForwardMode::kNat;
  if (keeps_ip_version && backend.address.family() != vip.address.family()) {
    return Objection{
        fmt::format("{}, of another family than {}", backend.address.text(), vip.address.text()),
        fmt::format("the VIP's family in mode {}, which does not translate between IP versions, or "
                    "mode ipip or gue, which carry either in either",
                    text_of(vip.mode))};
  }
  if (backend.port && vip.mode != ForwardMode::kNat) {
    return Objection{fmt::format("port {}, but mode {} delivers packets with the VIP's port",
                                 backend.port->value(), text_of(vip.mode)),
                     "no port, or mode nat, which rewrites it"};
  }
  return object_to_server_id(vip, backend);
}

Result<void> check_vip(const Vip& vip) {
  if (Result<void> named = check_name(vip); !named) return named;
  const bool has_ports =
      vip.ports.first <= vip.ports.last && (vip.ports.first.value() != 0 || vip.ports.is_any());
  if (!has_ports) return invalid(vip, "port is", {ports_text(vip.ports), "1 to 65535"});
  if (const auto o = object_to_vip_prefix(vip.key().prefix()))
    return invalid(vip, "address is", *o);
  if (vip.table_size != 0) {
    if (const auto o = object_to_table_size(vip.table_size))
      return invalid(vip, "table size is", *o);
  }
  if (Result<void> forwarding = check_forwarding(vip); !forwarding) return forwarding;
  if (Result<void> l7 = check_l7_words(vip); !l7) return l7;
  if (Result<void> sources = check_sources(vip); !sources) return sources;
  if (Result<void> limits = check_limits(vip); !limits) return limits;
  if (const auto o = object_to_health(vip)) return invalid(vip, "health is", *o);
  return check_backends(vip);
}

std::vector<CrossingRanges> crossing_ranges(std::span<const VipKey> vips) {
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < vips.size(); ++i)
    if (!vips[i].ports.is_exact()) order.push_back(i);
  const auto shared = [&](std::size_t i) { return std::pair{vips[i].prefix(), vips[i].protocol}; };
  // Wider ranges before those within them.
  std::ranges::sort(order, {}, [&](std::size_t i) {
    return std::tuple{shared(i), vips[i].ports.first.value(), -int{vips[i].ports.last.value()}};
  });
  std::vector<CrossingRanges> crossing;
  std::vector<std::size_t> around;  // what the next one may lie in, the widest first
  for (const std::size_t i : order) {
    while (!around.empty() && (shared(around.back()) != shared(i) ||
                               vips[around.back()].ports.last < vips[i].ports.first))
      around.pop_back();
    if (!around.empty() && vips[around.back()].ports.crosses(vips[i].ports))
      crossing.push_back({around.back(), i});
    around.push_back(i);
  }
  return crossing;
}

Result<void> check_vips_together(std::span<const Vip> vips) {
  std::vector<VipKey> keys;
  for (const Vip& vip : vips)
    keys.push_back(vip.key());
  const std::vector<CrossingRanges> crossing = crossing_ranges(keys);
  if (crossing.empty()) return {};
  const auto [first, later] = std::minmax({crossing.front().one, crossing.front().other});
  return invalid(vips[later], "ports",
                 {fmt::format("overlap {} of another VIP, and neither range contains the other",
                              ports_text(vips[first].ports)),
                  "ranges that are apart or one within the other"});
}

}  // namespace weir::control
