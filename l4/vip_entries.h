#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "bpf/abi.h"
#include "l4/control/model.h"
#include "l4/tables.h"

/// Model to kernel entries and back; pure.
namespace weir::l4 {

/// How the packet path counts time: kernel ticks, and units of about a second.
struct Ticks {
  std::uint32_t per_s = 1000;

  /// Ticks shifted so far are units of 0.7 to 1.4 seconds.
  [[nodiscard]] std::uint8_t second_shift() const;
  [[nodiscard]] std::uint32_t units_of(std::uint32_t seconds) const;
  [[nodiscard]] std::uint32_t seconds_of(std::uint32_t units) const;
  friend bool operator==(const Ticks&, const Ticks&) = default;
};

weir_address abi_address(const wire::IpAddress& address);
wire::IpAddress address_of(const weir_address& address);
/// Of a VIP of one port.
weir_vip_key abi_key(const control::VipKey& key);
weir_prefix_key abi_prefix(const wire::IpAddress& address, std::uint8_t length_in_16_bytes);

/// The entries of weir_ranges that together are the ports of a VIP, in ascending order: the fewest
/// prefixes of a port's 16 bits.
std::vector<weir_range_key> range_keys(const control::VipKey& key);

/// Full NAT. Auto means it too: which way a backend's replies take is up to the routes on the
/// backend, which this node cannot ask for, and a reply that misses it is a broken connection. Who
/// knows that replies come back says never.
bool rewrites_source(const control::Vip& vip);

/// `has_block_list`: the node's is not empty.
weir_vip vip_entry(const control::Vip& vip, VipId id, const Ticks& ticks, bool has_block_list);
/// What the entry says of a VIP, which is all but names, backends, sources and server ids. Nothing
/// where it has a mode that we do not know.
std::optional<control::Vip> vip_of(const control::VipKey& key, const weir_vip& entry,
                                   const Ticks& ticks);
bool has_limits_per_source(const control::VipLimits& limits);

/// Rules as a list of longest prefixes, sorted. A list is for both families in one form, where
/// "::/0" contains IPv4 too: rules that treat all of one family alike get an entry for the other.
std::vector<ListEntry> list_entries(const control::SourceRules& rules);
std::vector<ListEntry> list_entries(const std::vector<wire::Prefix>& denied);
/// Rules of the same meaning.
control::SourceRules source_rules(std::span<const ListEntry> entries);

weir_quic_key quic_key(const std::string& server_id);

/// Kernel structures have no padding, so that their bytes are their value.
template <typename T>
bool same_bytes(const T& left, const T& right) {
  static_assert(std::has_unique_object_representations_v<T>);
  return std::memcmp(&left, &right, sizeof(T)) == 0;
}

template <typename T>
bool same_bytes(const std::vector<T>& left, const std::vector<T>& right) {
  static_assert(std::has_unique_object_representations_v<T>);
  return left.size() == right.size() &&
         (left.empty() || std::memcmp(left.data(), right.data(), left.size() * sizeof(T)) == 0);
}

struct BytesLess {
  template <typename T>
  bool operator()(const T& left, const T& right) const {
    static_assert(std::has_unique_object_representations_v<T>);
    return std::memcmp(&left, &right, sizeof(T)) < 0;
  }
};

/// By address, protocol and port; of one port the wider first.
struct RangeLess {
  bool operator()(const weir_range_key& left, const weir_range_key& right) const;
};

}  // namespace weir::l4
