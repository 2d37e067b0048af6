#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "bpf/abi.h"
#include "bpf/hash.h"
#include "l4/base/result.h"
#include "l4/control/model.h"
#include "l4/maglev.h"

namespace weir::l4 {

/// Index of the maps that are kept by VIP; 0 is "none", and names the node in weir_lists.
using VipId = Strong<std::uint32_t, struct VipIdTag>;
inline constexpr VipId kNode{0};

/// The maps that some VIPs have for themselves, inside of outer maps by VIP id.
enum class PerVip : std::uint8_t {
  kTable,    ///< weir_tables
  kList,     ///< weir_lists
  kSources,  ///< weir_source_limits
  kQuic,     ///< weir_quic
};
inline constexpr std::array kPerVip{PerVip::kTable, PerVip::kList, PerVip::kSources, PerVip::kQuic};

/// Where an address may stand in weir_addresses, one bit per hash, and behind that the same for
/// what mode nat has to do with.
using AddressFilter = std::array<std::uint64_t, WEIR_FILTERS * WEIR_FILTER_WORDS>;

/// A slot of a Maglev table: the backend now, and the one of the table before this one.
struct TableSlot {
  std::uint16_t current = 0;
  std::uint16_t previous = 0;  ///< 0: there was none
};

struct ListEntry {
  weir_prefix_key prefix;
  std::uint32_t answer;  ///< enum weir_list_answer
};

struct QuicEntry {
  weir_quic_key server_id;
  std::uint32_t backend;
};

/// What the programmer reads and writes, one kernel operation per call, so that a test can stop
/// after any of them. Implemented over pinned maps by KernelTables and over plain memory by tests.
class Tables {
 public:
  template <typename Key, typename Value>
  using Entries = std::vector<std::pair<Key, Value>>;

  virtual ~Tables() = default;

  /// All VIPs, the index is the id. Which of them are in use the services say.
  virtual Result<std::vector<weir_vip>> read_vips() = 0;
  virtual Result<void> write_vip(VipId id, const weir_vip& vip) = 0;

  /// What each VIP id was given out for, the index is the id. Only user space reads it, after a
  /// restart: the entries of a range of ports do not say where the range ends.
  virtual Result<std::vector<control::VipKey>> read_keys() = 0;
  virtual Result<void> write_key(VipId id, const control::VipKey& key) = 0;

  virtual Result<Entries<weir_vip_key, VipId>> read_services() = 0;
  virtual Result<void> write_service(const weir_vip_key& key, VipId id) = 0;
  virtual Result<void> erase_service(const weir_vip_key& key) = 0;

  virtual Result<Entries<weir_range_key, VipId>> read_ranges() = 0;
  virtual Result<void> write_range(const weir_range_key& key, VipId id) = 0;
  virtual Result<void> erase_range(const weir_range_key& key) = 0;

  virtual Result<Entries<weir_address, std::uint32_t>> read_addresses() = 0;
  virtual Result<void> write_address(const weir_address& address, std::uint32_t flags) = 0;
  virtual Result<void> erase_address(const weir_address& address) = 0;

  virtual Result<Entries<weir_prefix_key, weir_address>> read_prefixes() = 0;
  virtual Result<void> write_prefix(const weir_prefix_key& key, const weir_address& first) = 0;
  virtual Result<void> erase_prefix(const weir_prefix_key& key) = 0;

  virtual Result<AddressFilter> read_filter() = 0;
  /// Word by word. Stopped in between it has set or cleared some of the bits, which is harmless
  /// either way: bits are set early and cleared late.
  virtual Result<void> write_filter(const AddressFilter& filter) = 0;

  /// The ids that have such a map.
  virtual Result<std::vector<VipId>> list(PerVip kind) = 0;
  virtual Result<void> erase(PerVip kind, VipId id) = 0;

  /// The slots of a VIP's table; empty if it has none.
  virtual Result<std::vector<TableSlot>> read_table(VipId vip, std::uint32_t size) = 0;
  /// Swaps the whole table. When it returns, no packet is at work with the old one.
  virtual Result<void> publish_table(VipId vip, std::span<const TableSlot> slots) = 0;

  /// In no order; empty if it has none.
  virtual Result<std::vector<ListEntry>> read_list(VipId vip) = 0;
  virtual Result<void> publish_list(VipId vip, std::span<const ListEntry> entries) = 0;

  virtual Result<std::vector<QuicEntry>> read_quic(VipId vip) = 0;
  virtual Result<void> publish_quic(VipId vip, std::span<const QuicEntry> entries) = 0;

  /// Empty: every source has all of its rates.
  virtual Result<void> create_sources(VipId vip) = 0;

  /// All backends, the index is the id.
  virtual Result<std::vector<weir_backend>> read_backends() = 0;
  virtual Result<void> write_backend(BackendId id, const weir_backend& backend) = 0;

  virtual Result<void> clear_vip_counters(VipId id) = 0;
  virtual Result<void> clear_backend_counters(BackendId id) = 0;

  /// Removes the flow entries that name a backend which is not in use, so that its id may be
  /// given out again.
  virtual Result<void> forget_void_flows() = 0;

  /// Lets the program send frames out of the device.
  virtual Result<void> allow_device(std::uint32_t ifindex) = 0;
};

}  // namespace weir::l4
