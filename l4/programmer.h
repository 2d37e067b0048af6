#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <span>
#include <vector>

#include "l4/control/diff.h"
#include "l4/control/model.h"
#include "l4/next_hop.h"
#include "l4/tables.h"

namespace weir::l4 {

/// A backend as it stands in the kernel.
struct InstalledBackend {
  control::Backend backend;
  BackendId id;
  std::uint32_t slots = 0;
  NextHop next_hop;
};

struct InstalledVip {
  control::Vip vip;
  VipId id;
  std::uint64_t table_digest = 0;
  std::vector<InstalledBackend> backends;  ///< in the order of vip.backends
};

/// Brings VIPs into the kernel's tables and back out, in an order in which no packet meets a
/// half-finished VIP:
///
///   add      backends → table → VIP entry → address entry
///   update   new backends → table swapped → backends that went
///   remove   address entry → VIP entry → table → backends
///
/// A backend id belongs to one backend of one VIP, also where two VIPs share the machine: so
/// counters are per VIP and backend, and draining in one VIP says nothing about another.
///
/// Ids are never written down anywhere but in the maps: adopt() reads them back, drops what a
/// crash left unfinished, and goes on. A flow entry may name an id long after its backend went;
/// such ids are given out again only when no fresh one is left and the flow entries that name
/// them have been removed.
class Programmer {
 public:
  using Resolve = std::function<Result<NextHop>(const wire::IpAddress&, control::ForwardMode)>;

  /// `tables` outlives the programmer.
  static Result<Programmer> adopt(Tables& tables, const SipKey& seed, Resolve resolve);

  /// The VIPs in the kernel. After adopt(), names are unknown and a weight is 1 or 0.
  [[nodiscard]] std::vector<control::Vip> installed() const;
  [[nodiscard]] const std::map<control::VipKey, InstalledVip>& vips() const { return vips_; }

  /// Stops at the first failure. The programmer is then of no further use: what was done stays in
  /// the maps, and a new adopt() reads it, whatever the step was.
  Result<void> apply(std::span<const control::Operation> operations);

  /// Resolves every backend's next hop again and writes those that changed. While the kernel is
  /// only asking again, a MAC address that worked stays: a neighbour that was forgotten while no
  /// daemon ran, or for want of room, is no reason to drop packets.
  Result<void> refresh_next_hops();

  /// Whether the kernel's tables are large enough, before anything is touched.
  static Result<void> check_capacity(const std::vector<control::Vip>& want);

 private:
  Programmer(Tables& tables, const SipKey& seed, Resolve resolve)
      : tables_{&tables}, seed_{seed}, resolve_{std::move(resolve)} {}

  Result<void> adopt_vips();
  Result<void> adopt_backends();
  Result<void> adopt_tables();
  Result<void> repair_address_entries();

  Result<void> add(const control::Vip& vip);
  Result<void> update(const control::Vip& vip);
  Result<void> replace(const control::Vip& vip);
  Result<void> remove(const control::VipKey& key);

  Result<InstalledVip> build(const control::Vip& vip);
  Result<void> tear_down(const InstalledVip& installed);
  Result<void> publish_vip_entry(const InstalledVip& installed);
  Result<void> settle_address_entry(const wire::IpAddress& address);
  Result<void> publish_table(InstalledVip& installed);

  Result<InstalledBackend> install(const control::Vip& vip, VipId owner,
                                   const control::Backend& backend);
  Result<void> write_next_hop(InstalledBackend& installed, NextHop hop);
  Result<void> free_backend(const InstalledBackend& installed);

  Result<VipId> allocate_vip();
  Result<BackendId> allocate_backend();
  [[nodiscard]] bool vip_id_in_use(VipId id) const;

  Tables* tables_;
  SipKey seed_;
  Resolve resolve_;
  std::map<control::VipKey, InstalledVip> vips_;
  VipId last_vip_id_;
  std::deque<BackendId> fresh_ids_;  // no flow names them
  std::vector<BackendId> freed_ids_;
};

weir_address abi_address(const wire::IpAddress& address);
wire::IpAddress address_of(const weir_address& address);
weir_vip_key abi_key(const control::VipKey& key);

}  // namespace weir::l4
