#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <vector>

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
  /// They have a bit in the filter's second half and no entry. Each watch() needs its unwatch().
  Result<void> watch(const wire::IpAddress& source);
  Result<void> unwatch(const wire::IpAddress& source);

  /// Takes away the bits that nobody needs, of a daemon that was killed, once all is watched and
  /// settled that shall be.
  Result<void> settle_filter();

 private:
  /// What an address needs of the filter.
  struct Marks {
    bool is_ours = false;    // its bit in the first half
    bool is_nat = false;     // its bit in the second half
    bool is_prefix = false;  // all bits, of the halves above
    friend bool operator==(const Marks&, const Marks&) = default;
  };
  static Marks marks_of(const AddressEntries& entries);

  explicit ServiceMaps(Tables& tables) : tables_{&tables} {}
  Result<void> raise_services(AddressEntries& have, const AddressEntries& want);
  Result<void> raise_address(const wire::IpAddress& address, AddressEntries& have,
                             const AddressEntries& want);
  Result<void> lower_address(const wire::IpAddress& address, AddressEntries& have,
                             const AddressEntries& want);
  Result<void> lower_services(AddressEntries& have, const AddressEntries& want);
  Result<void> mark(const wire::IpAddress& address, const Marks& marks);
  Result<void> unmark(const wire::IpAddress& address, const Marks& marks);
  void count(const wire::IpAddress& address, const Marks& marks, int change);
  Result<void> settle_bits(const wire::IpAddress& address, const Marks& marks);
  Result<void> settle_word(std::uint32_t index);

  Tables* tables_;
  std::map<wire::IpAddress, AddressEntries> present_;
  std::vector<std::uint32_t> needed_ = std::vector<std::uint32_t>(
      AddressFilter{}.size() * 64);                  // how many need each bit of the filter
  std::array<std::uint32_t, WEIR_FILTERS> whole_{};  // how many need all of a half
  AddressFilter filter_{};                           // as in the kernel
};

}  // namespace weir::l4
