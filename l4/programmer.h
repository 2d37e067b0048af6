#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <vector>

#include "l4/control/diff.h"
#include "l4/control/model.h"
#include "l4/member_ranges.h"
#include "l4/next_hop.h"
#include "l4/service_maps.h"
#include "l4/tables.h"
#include "l4/vip_entries.h"

namespace weir::l4 {

/// A backend as it stands in the kernel.
struct InstalledBackend {
  control::Backend backend;
  BackendId id;
  MemberNumber number = {};  ///< within its VIP; 0: not yet given one
  std::uint32_t slots = 0;
  NextHop next_hop;
  weir_backend entry{};  ///< as last written
  // Mode nat: by what its replies are recognised.
  bool is_watched = false;
  std::optional<wire::IpAddress> nat_source = {};
  std::optional<wire::IpAddress> old_nat_source = {};  ///< until its entry was written
};

struct InstalledVip {
  control::Vip vip;
  VipId id;
  weir_vip entry{};  ///< as last written
  // Its range of weir_members.
  std::uint32_t first_member = 0;
  std::uint16_t member_room = 0;
  std::uint64_t table_digest = 0;
  std::vector<InstalledBackend> backends;  ///< in the order of vip.backends
  // What the VIP's own maps hold; empty, false: there is no such map.
  std::vector<ListEntry> list;
  std::vector<QuicEntry> quic;
  bool has_sources = false;
};

/// The backends of a VIP that have a number, as its table is built of them.
std::vector<MaglevMember> members_of(const InstalledVip& installed);

/// Sets what each backend has of the table's slots. False: a slot has a number beyond the VIP's
/// room.
bool count_slots(InstalledVip& installed, std::span<const MemberNumber> table);

/// What holds for all VIPs of a node.
struct NodeRules {
  bool answers_echo = true;
  std::vector<wire::Prefix> block_list = {};
  std::vector<wire::IpAddress> l7_addresses = {};    ///< L7's own
  std::vector<wire::IpAddress> snat_addresses = {};  ///< of full NAT; none: the node's own
  friend bool operator==(const NodeRules&, const NodeRules&) = default;
};

/// What tables and entries are computed with. Fixed for the life of a programmer.
struct ProgrammerSettings {
  SipKey seed;
  Ticks ticks;
};

/// Brings VIPs into the kernel's tables and back out, in an order in which no packet meets a
/// half-finished VIP:
///
///   add      backends → their numbers → table and maps of its own → VIP → services → address
///            (service_maps.h)
///   update   new backends → their numbers → table and maps swapped → VIP → maps, numbers and
///            backends that go
///   remove   address → services → table and maps of its own → numbers, backends
///
/// All VIPs of one change go through these steps together: tables and maps are swapped by one call.
///
/// A backend has an id on the node and a number within its VIP. Slots hold numbers, and new VIPs
/// number their backends by address: so the tables of VIPs with the same backends are the same, and
/// the kernel holds one of them. A number that the table names is given to no other backend until a
/// table was published without it.
///
/// The VIP's entry outlives its services and is overwritten when its id is given out again: once no
/// service and no backend leads to it, no packet does.
///
/// A backend id belongs to one backend of one VIP, also where two VIPs share the machine: so
/// counters are per VIP and backend, and draining in one VIP says nothing about another.
///
/// Ids are never written down anywhere but in the maps: adopt() reads them back, drops what a
/// crash left unfinished, and goes on. A flow entry may name an id long after its backend went;
/// such ids are given out again only when no fresh one is left and the flow entries that name them
/// have been cleared.
class Programmer {
 public:
  using Resolve = std::function<Result<NextHop>(const wire::IpAddress&, control::ForwardMode)>;

  /// `tables` outlives the programmer.
  static Result<Programmer> adopt(Tables& tables, const ProgrammerSettings& settings,
                                  Resolve resolve);

  /// The VIPs in the kernel. After adopt(), names are unknown and a weight is 1 or 0.
  [[nodiscard]] std::vector<control::Vip> installed() const;
  [[nodiscard]] const std::map<control::VipKey, InstalledVip>& vips() const { return vips_; }
  [[nodiscard]] const NodeRules& node() const { return node_; }

  /// `operations` name each VIP at most once, as those of diff_vips() do. Stops at the first
  /// failure. The programmer is then of no further use: what was done stays in
  /// the maps, and a new adopt() reads it, whatever the step was.
  Result<void> apply(std::span<const control::Operation> operations);

  /// The same for what holds for all VIPs.
  Result<void> set_node(const NodeRules& rules);

  /// Resolves every backend's next hop again and writes those that changed. While the kernel is
  /// only asking again, a MAC address that worked stays: a neighbour that was forgotten while no
  /// daemon ran, or for want of room, is no reason to drop packets.
  Result<void> refresh_next_hops();

  /// Whether the kernel's tables can hold these VIPs, before anything is touched.
  static Result<void> check_capacity(std::span<const control::Vip* const> want);

 private:
  Programmer(Tables& tables, const ProgrammerSettings& settings, Resolve resolve,
             ServiceMaps services)
      : tables_{&tables},
        settings_{settings},
        resolve_{std::move(resolve)},
        services_{std::move(services)} {}

  // programmer_adopt.cpp
  Result<void> adopt_vips();
  Result<void> adopt_vip(const control::VipKey& key, VipId id, const weir_vip& entry);
  Result<void> adopt_backends();
  Result<void> adopt_members();
  Result<void> adopt_tables();
  Result<void> adopt_own_maps();
  Result<void> adopt_node();
  Result<void> adopt_nat();
  Result<void> erase_strays();

  /// A VIP in the middle of a change.
  struct Change {
    InstalledVip* installed;  // in vips_; null while it is only `built`
    std::optional<InstalledVip> built = {};
    std::vector<InstalledBackend> gone = {};  // backends that it had
    std::optional<InstalledVip> before = {};  // what it replaces
    std::uint32_t old_range = 0;              // of weir_members, that it moved out of
    std::uint16_t old_room = 0;
  };

  // The steps until its table and maps are published; until those that go are; and the rest.
  Result<Change> begin(const control::Operation& operation);
  Result<void> begin_update(const control::Vip& vip, Change& change);
  Result<void> settle_change(Change& change);
  Result<void> finish(Change& change);
  Result<void> remove(const control::VipKey& key, std::vector<InstalledVip>& gone);

  Result<InstalledVip> build(const control::Vip& vip);
  Result<void> tear_down(std::vector<InstalledVip>& gone);

  // What a VIP has for itself: published before its entry says so, erased after.
  Result<void> stage_table(InstalledVip& installed);
  Result<void> stage_own_maps(InstalledVip& installed);
  Result<void> stage_unused_maps(InstalledVip& installed);

  // programmer_members.cpp
  Result<void> number_backends(Change& change);
  Result<void> move_members(Change& change, std::uint16_t room);
  Result<void> write_member(std::uint32_t index, BackendId backend);

  Result<void> settle_vip(InstalledVip& installed);
  Result<void> settle_all_vips();
  Result<void> settle_address(const wire::IpAddress& address);
  Result<void> settle_all_addresses();
  [[nodiscard]] AddressEntries wanted_at(const wire::IpAddress& address) const;

  // programmer_nat.cpp: by what replies are recognised. Raised before a backend of mode nat is
  // written, lowered once none needs it.
  Result<void> raise_nat(const control::Vip& vip, const weir_backend& entry,
                         InstalledBackend& backend);
  Result<void> lower_nat(InstalledBackend& backend);
  Result<void> lower_old_source(InstalledBackend& backend);
  Result<void> rewrite_nat_backends();

  Result<InstalledBackend> install(const control::Vip& vip, VipId owner,
                                   const control::Backend& backend);
  Result<void> write_backend(const control::Vip& vip, VipId owner, InstalledBackend& installed);
  Result<void> free_backend(InstalledBackend& installed);

  Result<VipId> allocate_vip();
  Result<BackendId> allocate_backend();
  Result<void> forget_freed_ids();

  Tables* tables_;
  ProgrammerSettings settings_;
  Resolve resolve_;
  ServiceMaps services_;
  std::map<control::VipKey, InstalledVip> vips_;
  NodeRules node_;
  std::vector<ListEntry> block_list_;  // as it stands in weir_lists
  // Have WEIR_ADDRESS_SNAT; how many backends are spoken to from there.
  std::map<wire::IpAddress, std::uint32_t> nat_sources_;
  MemberRanges member_ranges_{WEIR_MEMBERS_MAX};
  std::vector<BackendId> members_ = std::vector<BackendId>(WEIR_MEMBERS_MAX);  // as in the kernel
  std::vector<bool> vip_ids_ = std::vector<bool>(WEIR_VIPS_MAX);               // in use
  VipId last_vip_id_;
  std::deque<BackendId> fresh_ids_;  // no flow names them
  std::vector<BackendId> freed_ids_;
  std::vector<InstalledBackend> strays_;  // in use by no VIP; while adopting
};

}  // namespace weir::l4
