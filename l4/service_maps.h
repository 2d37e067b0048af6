#pragma once

#include <cstdint>
#include <map>
#include <set>

#include "l4/tables.h"
#include "l4/vip_entries.h"

namespace weir::l4 {

/// All that packets to one address are recognised by.
struct AddressEntries {
  std::map<weir_vip_key, VipId, BytesLess> ports;
  std::map<weir_range_key, VipId, RangeLess> ranges;
  std::uint32_t flags = 0;               ///< WEIR_ADDRESS_*; 0: not in weir_addresses
  std::set<std::uint8_t> prefixes = {};  ///< lengths of prefixes that it stands for
};

/// The maps weir_services, weir_ranges, weir_addresses, weir_prefixes and weir_filter as they stand
/// in the kernel, and the way from there to what is wanted, in an order in which an address never
/// says more than its services can keep:
///
///   up    services → filter bit → address → prefix
///   down  prefix → address → filter bit → services
///
/// What is right already is not written.
class ServiceMaps {
 public:
  /// `tables` outlives this.
  static Result<ServiceMaps> read(Tables& tables);

  [[nodiscard]] const std::map<wire::IpAddress, AddressEntries>& present() const {
    return present_;
  }

  Result<void> settle(const wire::IpAddress& address, const AddressEntries& want);

  /// Sources whose packets are looked at wherever they go: backends of mode nat, for their replies.
  /// They have a bit in the filter's second half and no entry.
  Result<void> watch(const wire::IpAddress& source);
  Result<void> watch_only(std::set<wire::IpAddress> sources);

 private:
  explicit ServiceMaps(Tables& tables) : tables_{&tables} {}
  Result<void> raise_services(AddressEntries& have, const AddressEntries& want);
  Result<void> raise_address(const wire::IpAddress& address, AddressEntries& have,
                             const AddressEntries& want);
  Result<void> lower_address(const wire::IpAddress& address, AddressEntries& have,
                             const AddressEntries& want);
  Result<void> lower_services(AddressEntries& have, const AddressEntries& want);
  Result<void> write_filter(const AddressFilter& filter);
  [[nodiscard]] AddressFilter needed_filter() const;

  Tables* tables_;
  std::map<wire::IpAddress, AddressEntries> present_;
  std::set<wire::IpAddress> watched_;
  AddressFilter filter_{};
};

}  // namespace weir::l4
