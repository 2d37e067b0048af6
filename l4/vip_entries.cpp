#include "l4/vip_entries.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <tuple>

namespace weir::l4 {
namespace {

using control::ForwardMode;
using control::HashPolicy;

constexpr std::uint8_t kFamilyBits = 96;  // ::ffff:0:0/96 is all of IPv4

std::uint8_t ip_protocol(control::Protocol protocol) {
  switch (protocol) {
    case control::Protocol::kTcp:
      return IPPROTO_TCP;
    case control::Protocol::kUdp:
      return IPPROTO_UDP;
  }
  return 0;
}

std::uint8_t abi_mode(ForwardMode mode) {
  switch (mode) {
    case ForwardMode::kIpip:
      return WEIR_MODE_IPIP;
    case ForwardMode::kGue:
      return WEIR_MODE_GUE;
    case ForwardMode::kL2:
      return WEIR_MODE_L2;
    case ForwardMode::kNat:
      return WEIR_MODE_NAT;
    case ForwardMode::kL7:
      return WEIR_MODE_L7;
  }
  return WEIR_MODE_NONE;
}

std::optional<ForwardMode> mode_of(std::uint8_t mode) {
  switch (mode) {
    case WEIR_MODE_IPIP:
      return ForwardMode::kIpip;
    case WEIR_MODE_GUE:
      return ForwardMode::kGue;
    case WEIR_MODE_L2:
      return ForwardMode::kL2;
    case WEIR_MODE_NAT:
      return ForwardMode::kNat;
    case WEIR_MODE_L7:
      return ForwardMode::kL7;
    default:
      return std::nullopt;
  }
}

std::uint8_t abi_hash(HashPolicy hash) {
  switch (hash) {
    case HashPolicy::kFiveTuple:
      return WEIR_HASH_FIVE_TUPLE;
    case HashPolicy::kSourceIpPort:
      return WEIR_HASH_SOURCE_PORT;
    case HashPolicy::kSourceIp:
      return WEIR_HASH_SOURCE;
  }
  return WEIR_HASH_FIVE_TUPLE;
}

HashPolicy hash_of(std::uint8_t hash) {
  switch (hash) {
    case WEIR_HASH_SOURCE_PORT:
      return HashPolicy::kSourceIpPort;
    case WEIR_HASH_SOURCE:
      return HashPolicy::kSourceIp;
    default:
      return HashPolicy::kFiveTuple;
  }
}

weir_limits abi_limits(const control::VipLimits& limits) {
  return {.new_flows_per_source = limits.new_flows_per_source,
          .packets_per_source = limits.packets_per_source,
          .new_flows = limits.new_flows,
          .packets = limits.packets};
}

weir_range_key range_key(const control::VipKey& key, std::uint32_t first, std::uint32_t bits) {
  weir_range_key out{};
  out.prefix_length = WEIR_RANGE_PREFIX_BITS + bits;
  out.address = abi_address(key.address);
  out.protocol = ip_protocol(key.protocol);
  out.port_be = htons(static_cast<std::uint16_t>(first));
  return out;
}

ListEntry list_entry(const wire::Prefix& prefix, weir_list_answer answer) {
  return {abi_prefix(prefix.address, control::length_in_16_bytes(prefix)), answer};
}

/// Adds what covers `length` bits of the unspecified address of a family, unless that is there.
void add_default(std::vector<ListEntry>& entries, const weir_prefix_key& prefix,
                 weir_list_answer answer) {
  const bool written = std::ranges::any_of(
      entries, [&](const ListEntry& entry) { return same_bytes(entry.prefix, prefix); });
  if (!written) entries.push_back({prefix, answer});
}

}  // namespace

std::uint8_t Ticks::second_shift() const {
  // The nearest power of two: 1,000 ticks a second make units of 1.024 s, 100 make 1.28 s.
  return static_cast<std::uint8_t>(std::lround(std::log2(std::max(per_s, 1U))));
}

std::uint32_t Ticks::units_of(std::uint32_t seconds) const {
  const std::uint64_t half = (std::uint64_t{1} << second_shift()) / 2;
  const std::uint64_t units = (std::uint64_t{seconds} * per_s + half) >> second_shift();
  return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(units, 1, WEIR_FLOW_STAMP_MASK));
}

std::uint32_t Ticks::seconds_of(std::uint32_t units) const {
  return static_cast<std::uint32_t>(((std::uint64_t{units} << second_shift()) + per_s / 2) / per_s);
}

weir_address abi_address(const wire::IpAddress& address) {
  weir_address out{};
  std::memcpy(out.bytes, address.bytes.data(), sizeof(out.bytes));
  return out;
}

wire::IpAddress address_of(const weir_address& address) {
  wire::IpAddress out;
  std::memcpy(out.bytes.data(), address.bytes, sizeof(address.bytes));
  return out;
}

weir_vip_key abi_key(const control::VipKey& key) {
  weir_vip_key out{};
  out.address = abi_address(key.address);
  out.port_be = htons(key.port().value());
  out.protocol = ip_protocol(key.protocol);
  return out;
}

weir_prefix_key abi_prefix(const wire::IpAddress& address, std::uint8_t length_in_16_bytes) {
  return {.prefix_length = length_in_16_bytes, .address = abi_address(address)};
}

std::vector<weir_range_key> range_keys(const control::VipKey& key) {
  std::vector<weir_range_key> keys;
  std::uint32_t first = key.ports.first.value();
  const std::uint32_t end = std::uint32_t{key.ports.last.value()} + 1;
  while (first < end) {  // at most 30 times: a block doubles, then halves
    std::uint32_t size =
        first == 0 ? 1U << 16 : first & (~first + 1);  // what `first` is aligned to
    while (size > end - first)
      size /= 2;
    keys.push_back(range_key(key, first, 16U - static_cast<std::uint32_t>(std::countr_zero(size))));
    first += size;
  }
  return keys;
}

bool has_limits_per_source(const control::VipLimits& limits) {
  return limits.new_flows_per_source != 0 || limits.packets_per_source != 0;
}

bool rewrites_source(const control::Vip& vip) {
  return vip.mode == ForwardMode::kNat && vip.snat != control::Snat::kNever;
}

weir_vip vip_entry(const control::Vip& vip, VipId id, const Ticks& ticks, bool has_block_list) {
  weir_vip entry{};
  entry.id = id.value();
  entry.address = abi_address(vip.address);
  if (vip.key().is_single_address() && vip.ports.is_exact()) {
    entry.port_be = htons(vip.ports.first.value());
    entry.protocol = ip_protocol(vip.protocol);
  }
  if (vip.affinity_timeout_s) entry.affinity_s = ticks.units_of(*vip.affinity_timeout_s);
  entry.limits = abi_limits(vip.limits);
  entry.mode = abi_mode(vip.mode);
  entry.hash = abi_hash(vip.hash);
  entry.quic_id_bytes = vip.quic.server_id_bytes;
  entry.quic_rotation = vip.quic.config_rotation;
  entry.gue_port_be = htons(vip.gue_port.value());
  const auto flag = [&entry](bool is_set, std::uint32_t bit) {
    if (is_set) entry.flags |= bit;
  };
  flag(!vip.sources.empty(), WEIR_VIP_SOURCE_LIST);
  flag(has_block_list, WEIR_VIP_BLOCK_LIST);
  flag(vip.limits != control::VipLimits{}, WEIR_VIP_LIMITS);
  flag(vip.when_empty == control::WhenEmpty::kRefuse, WEIR_VIP_REFUSE);
  flag(rewrites_source(vip), WEIR_VIP_SNAT);
  return entry;
}

std::optional<control::Vip> vip_of(const control::VipKey& key, const weir_vip& entry,
                                   const Ticks& ticks) {
  const auto mode = mode_of(entry.mode);
  if (!mode) return std::nullopt;
  control::Vip vip;
  vip.address = key.address;
  vip.prefix_length = key.prefix_length;
  vip.ports = key.ports;
  vip.protocol = key.protocol;
  vip.mode = *mode;
  vip.gue_port = wire::Port{ntohs(entry.gue_port_be)};
  if (*mode == ForwardMode::kNat && (entry.flags & WEIR_VIP_SNAT) == 0)
    vip.snat = control::Snat::kNever;
  if ((entry.flags & WEIR_VIP_REFUSE) == 0) vip.when_empty = control::WhenEmpty::kDrop;
  vip.hash = hash_of(entry.hash);
  if (entry.affinity_s != 0) vip.affinity_timeout_s = ticks.seconds_of(entry.affinity_s);
  vip.limits = {.new_flows_per_source = entry.limits.new_flows_per_source,
                .packets_per_source = entry.limits.packets_per_source,
                .new_flows = entry.limits.new_flows,
                .packets = entry.limits.packets};
  vip.quic = {.server_id_bytes = entry.quic_id_bytes, .config_rotation = entry.quic_rotation};
  return vip;
}

std::vector<ListEntry> list_entries(const control::SourceRules& rules) {
  std::vector<ListEntry> entries;
  for (const wire::Prefix& prefix : rules.allow)
    entries.push_back(list_entry(prefix, WEIR_LIST_ALLOW));
  for (const wire::Prefix& prefix : rules.deny)
    entries.push_back(list_entry(prefix, WEIR_LIST_DENY));
  if (entries.empty()) return entries;
  const weir_list_answer otherwise = rules.allow.empty() ? WEIR_LIST_ALLOW : WEIR_LIST_DENY;
  const weir_prefix_key everything = abi_prefix(wire::IpAddress{}, 0);
  const bool covers_ipv6 = std::ranges::any_of(
      entries, [&](const ListEntry& entry) { return same_bytes(entry.prefix, everything); });
  if (covers_ipv6)
    add_default(entries, abi_prefix(wire::IpAddress::v4(0, 0, 0, 0), kFamilyBits), otherwise);
  if (otherwise == WEIR_LIST_DENY) add_default(entries, everything, otherwise);
  std::ranges::sort(entries, BytesLess{});
  return entries;
}

std::vector<ListEntry> list_entries(const std::vector<wire::Prefix>& denied) {
  return list_entries(control::SourceRules{.allow = {}, .deny = denied});
}

control::SourceRules source_rules(std::span<const ListEntry> entries) {
  control::SourceRules rules;
  const bool allows = std::ranges::any_of(
      entries, [](const ListEntry& entry) { return entry.answer == WEIR_LIST_ALLOW; });
  for (const ListEntry& entry : entries) {
    const bool allowed = entry.answer == WEIR_LIST_ALLOW;
    if (!allowed && allows && entry.prefix.prefix_length == 0) continue;  // what allowing implies
    wire::Prefix prefix{.address = address_of(entry.prefix.address),
                        .length = static_cast<std::uint8_t>(entry.prefix.prefix_length)};
    if (prefix.address.is_v4() && prefix.length >= kFamilyBits) prefix.length -= kFamilyBits;
    (allowed ? rules.allow : rules.deny).push_back(prefix);
  }
  std::ranges::sort(rules.allow);
  std::ranges::sort(rules.deny);
  return rules;
}

weir_quic_key quic_key(const std::string& server_id) {
  weir_quic_key key{};
  std::memcpy(key.server_id, server_id.data(), std::min(server_id.size(), sizeof(key.server_id)));
  return key;
}

bool RangeLess::operator()(const weir_range_key& left, const weir_range_key& right) const {
  const int addresses = std::memcmp(&left.address, &right.address, sizeof(left.address));
  if (addresses != 0) return addresses < 0;
  return std::tuple{left.protocol, ntohs(left.port_be), left.prefix_length} <
         std::tuple{right.protocol, ntohs(right.port_be), right.prefix_length};
}

}  // namespace weir::l4
