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
#include "l4/next_hop.h"
#include "l4/service_maps.h"
#include "l4/tables.h"
#include "l4/vip_entries.h"

namespace weir::l4 {

/// A backend as it stands in the kernel.
struct InstalledBackend {
  control::Backend backend;
  BackendId id;
  std::uint32_t slots = 0;
  NextHop next_hop;
  weir_backend entry{};  ///< as last written
};

struct InstalledVip {
  control::Vip vip;
  VipId id;
  weir_vip entry{};  ///< as last written
  std::uint64_t table_digest = 0;
  std::vector<InstalledBackend> backends;  ///< in the order of vip.backends
  // What the VIP's own maps hold; empty, false: there is no such map.
  std::vector<ListEntry> list;
  std::vector<QuicEntry> quic;
  bool has_sources = false;
};

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
///   add      backends → table and maps of its own → VIP → services → address (service_maps.h)
///   update   new backends → table and maps swapped → VIP → maps and backends that go
///   remove   address → services → table and maps of its own → backends
///
/// The VIP's entry outlives its services and is overwritten when its id is given out again: once no
/// service and no backend leads to it, no packet does.
///
/// A backend id belongs to one backend of one VIP, also where two VIPs share the machine: so
/// counters are per VIP and backend, and draining in one VIP says nothing about another.
///
/// Ids are never written down anywhere but in the maps: adopt() reads them back, drops what a
/// crash left unfinished, and goes on. A flow entry may name an id long after its backend went;
/// such ids are given out again only when no fresh one is left and the flow entries, and slots of
/// tables before, that name them have been cleared.
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

  /// Stops at the first failure. The programmer is then of no further use: what was done stays in
  /// the maps, and a new adopt() reads it, whatever the step was.
  Result<void> apply(std::span<const control::Operation> operations);

  /// The same for what holds for all VIPs.
  Result<void> set_node(const NodeRules& rules);

  /// Resolves every backend's next hop again and writes those that changed. While the kernel is
  /// only asking again, a MAC address that worked stays: a neighbour that was forgotten while no
  /// daemon ran, or for want of room, is no reason to drop packets.
  Result<void> refresh_next_hops();

  /// Whether the kernel's tables can hold these VIPs, before anything is touched.
  static Result<void> check_capacity(const std::vector<control::Vip>& want);

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
  Result<void> adopt_tables();
  Result<void> adopt_own_maps();
  Result<void> adopt_node();
  Result<void> adopt_nat();
  Result<void> erase_strays();

  Result<void> add(const control::Vip& vip);
  Result<void> update(const control::Vip& vip);
  Result<void> replace(const control::Vip& vip);
  Result<void> remove(const control::VipKey& key);

  Result<InstalledVip> build(const control::Vip& vip);
  Result<void> tear_down(const InstalledVip& installed);

  // What a VIP has for itself: published before its entry says so, erased after.
  Result<void> publish_table(InstalledVip& installed);
  Result<void> publish_own_maps(InstalledVip& installed);
  Result<void> erase_unused_maps(InstalledVip& installed);

  Result<void> settle_vip(InstalledVip& installed);
  Result<void> settle_all_vips();
  Result<void> settle_address(const wire::IpAddress& address);
  Result<void> settle_all_addresses();
  [[nodiscard]] AddressEntries wanted_at(const wire::IpAddress& address) const;

  // programmer_nat.cpp: by what replies are recognised. Raised before a backend of mode nat is
  // written, lowered once none needs it.
  Result<void> raise_nat(const control::Vip& vip, const weir_backend& backend);
  Result<void> settle_nat();
  Result<void> rewrite_nat_backends();
  [[nodiscard]] std::set<wire::IpAddress> nat_backends() const;
  [[nodiscard]] std::set<wire::IpAddress> nat_sources() const;

  Result<InstalledBackend> install(const control::Vip& vip, VipId owner,
                                   const control::Backend& backend);
  Result<void> write_backend(const control::Vip& vip, VipId owner, InstalledBackend& installed);
  Result<void> free_backend(const InstalledBackend& installed);

  Result<VipId> allocate_vip();
  Result<BackendId> allocate_backend();
  Result<void> forget_freed_ids();
  [[nodiscard]] bool vip_id_in_use(VipId id) const;

  Tables* tables_;
  ProgrammerSettings settings_;
  Resolve resolve_;
  ServiceMaps services_;
  std::map<control::VipKey, InstalledVip> vips_;
  NodeRules node_;
  std::vector<ListEntry> block_list_;      // as it stands in weir_lists
  std::set<wire::IpAddress> nat_sources_;  // have WEIR_ADDRESS_SNAT
  VipId last_vip_id_;
  std::deque<BackendId> fresh_ids_;  // no flow names them
  std::vector<BackendId> freed_ids_;
  std::vector<InstalledBackend> strays_;  // in use by no VIP; while adopting
};

}  // namespace weir::l4
