#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "bpf/abi.h"
#include "bpf/hash.h"
#include "l4/base/result.h"
#include "l4/control/maglev.h"
#include "l4/control/model.h"

namespace weir::l4 {

using control::MaglevMember;
using control::MemberNumber;

/// Index of the maps weir_backends and weir_backend_counters; 0 is "none".
using BackendId = Strong<std::uint32_t, struct BackendIdTag>;

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

/// A Maglev table as it stands in the kernel: the slots of now, and those of the table that it took
/// the place of.
struct Table {
  std::vector<MemberNumber> current;
  std::vector<MemberNumber> previous;  ///< of its own size; empty: there was none
  friend bool operator==(const Table&, const Table&) = default;
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
  virtual Result<void> write_filter_word(std::uint32_t index, std::uint64_t word) = 0;

  /// The ids that have such a map.
  virtual Result<std::vector<VipId>> list(PerVip kind) = 0;

  // Maps are made by stage_*() and swapped in, or taken away, by publish(): all that were staged,
  // one after the other. When it returns, no packet is at work with an old one, and that waiting
  // for packets, 15 to 30 ms on a busy machine, is what there should be one of and not thousands.

  /// Without slots if it has none.
  virtual Result<Table> read_table(VipId vip) = 0;
  virtual Result<void> stage_table(VipId vip, const Table& table) = 0;

  /// In no order; empty if it has none.
  virtual Result<std::vector<ListEntry>> read_list(VipId vip) = 0;
  virtual Result<void> stage_list(VipId vip, std::span<const ListEntry> entries) = 0;

  virtual Result<std::vector<QuicEntry>> read_quic(VipId vip) = 0;
  virtual Result<void> stage_quic(VipId vip, std::span<const QuicEntry> entries) = 0;

  /// Empty: every source has all of its rates.
  virtual Result<void> stage_sources(VipId vip) = 0;

  virtual Result<void> stage_erasure(PerVip kind, VipId id) = 0;

  virtual Result<void> publish() = 0;

  /// Backends by number, of all VIPs; 0 is none.
  virtual Result<std::vector<BackendId>> read_members() = 0;
  virtual Result<void> write_member(std::uint32_t index, BackendId backend) = 0;

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
