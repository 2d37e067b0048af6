#include "l4/service_maps.h"

#include <algorithm>
#include <utility>

namespace weir::l4 {
namespace {

constexpr std::uint64_t kAllBits = ~std::uint64_t{0};
constexpr std::uint32_t kNatFlags = WEIR_ADDRESS_NAT | WEIR_ADDRESS_SNAT;

/// In the first half of the filter, of all addresses, or in the second, of mode nat.
void set_bit(AddressFilter& filter, std::size_t half, const wire::IpAddress& address) {
  const weir_address bytes = abi_address(address);
  const std::uint32_t bit = weir_filter_bit(&bytes);
  filter[half * WEIR_FILTER_WORDS + bit / 64] |= std::uint64_t{1} << (bit % 64);
}

void set_all(AddressFilter& filter, std::size_t half) {
  std::fill_n(filter.begin() + static_cast<std::ptrdiff_t>(half * WEIR_FILTER_WORDS),
              WEIR_FILTER_WORDS, kAllBits);
}

void add(AddressFilter& filter, const wire::IpAddress& address, const AddressEntries& entries) {
  const bool has_nat = (entries.flags & kNatFlags) != 0;
  if (entries.flags != 0) set_bit(filter, 0, address);
  if (has_nat) set_bit(filter, 1, address);
  if (entries.prefixes.empty()) return;
  set_all(filter, 0);
  if (has_nat) set_all(filter, 1);
}

}  // namespace

Result<ServiceMaps> ServiceMaps::read(Tables& tables) {
  ServiceMaps maps{tables};
  auto services = tables.read_services();
  if (!services) return std::move(services).error();
  for (const auto& [key, id] : *services)
    maps.present_[address_of(key.address)].ports[key] = id;
  auto ranges = tables.read_ranges();
  if (!ranges) return std::move(ranges).error();
  for (const auto& [key, id] : *ranges)
    maps.present_[address_of(key.address)].ranges[key] = id;
  auto addresses = tables.read_addresses();
  if (!addresses) return std::move(addresses).error();
  for (const auto& [address, flags] : *addresses)
    maps.present_[address_of(address)].flags = flags;
  auto prefixes = tables.read_prefixes();
  if (!prefixes) return std::move(prefixes).error();
  for (const auto& [key, first] : *prefixes)
    maps.present_[address_of(first)].prefixes.insert(static_cast<std::uint8_t>(key.prefix_length));
  Result<AddressFilter> filter = tables.read_filter();
  if (!filter) return std::move(filter).error();
  maps.filter_ = *filter;
  return maps;
}

Result<void> ServiceMaps::settle(const wire::IpAddress& address, const AddressEntries& want) {
  AddressEntries& have = present_[address];
  if (Result<void> step = raise_services(have, want); !step) return step;
  if (Result<void> step = raise_address(address, have, want); !step) return step;
  if (Result<void> step = lower_address(address, have, want); !step) return step;
  if (Result<void> step = lower_services(have, want); !step) return step;
  if (have.flags == 0) present_.erase(address);
  return write_filter(needed_filter());
}

Result<void> ServiceMaps::watch(const wire::IpAddress& source) {
  if (!watched_.insert(source).second) return {};
  AddressFilter filter = filter_;
  set_bit(filter, 1, source);
  return write_filter(filter);
}

Result<void> ServiceMaps::watch_only(std::set<wire::IpAddress> sources) {
  watched_ = std::move(sources);
  return write_filter(needed_filter());
}

Result<void> ServiceMaps::raise_services(AddressEntries& have, const AddressEntries& want) {
  for (const auto& [key, id] : want.ports) {
    const auto found = have.ports.find(key);
    if (found != have.ports.end() && found->second == id) continue;
    if (Result<void> written = tables_->write_service(key, id); !written) return written;
    have.ports[key] = id;
  }
  // In the order of RangeLess, on which adoption relies: where a range was rewritten in part, its
  // first entry is the newest.
  for (const auto& [key, id] : want.ranges) {
    const auto found = have.ranges.find(key);
    if (found != have.ranges.end() && found->second == id) continue;
    if (Result<void> written = tables_->write_range(key, id); !written) return written;
    have.ranges[key] = id;
  }
  return {};
}

Result<void> ServiceMaps::raise_address(const wire::IpAddress& address, AddressEntries& have,
                                        const AddressEntries& want) {
  if (want.flags == 0) return {};
  AddressFilter filter = filter_;
  add(filter, address, want);
  if (Result<void> written = write_filter(filter); !written) return written;
  if (have.flags != want.flags) {
    Result<void> written = tables_->write_address(abi_address(address), want.flags);
    if (!written) return written;
    have.flags = want.flags;
  }
  for (const std::uint8_t length : want.prefixes) {
    if (have.prefixes.contains(length)) continue;
    Result<void> written = tables_->write_prefix(abi_prefix(address, length), abi_address(address));
    if (!written) return written;
    have.prefixes.insert(length);
  }
  return {};
}

Result<void> ServiceMaps::lower_address(const wire::IpAddress& address, AddressEntries& have,
                                        const AddressEntries& want) {
  const std::set<std::uint8_t> lengths = have.prefixes;
  for (const std::uint8_t length : lengths) {
    if (want.prefixes.contains(length)) continue;
    if (Result<void> erased = tables_->erase_prefix(abi_prefix(address, length)); !erased)
      return erased;
    have.prefixes.erase(length);
  }
  if (want.flags != 0 || have.flags == 0) return {};
  if (Result<void> erased = tables_->erase_address(abi_address(address)); !erased) return erased;
  have.flags = 0;
  // Before the services go: what is for none of our addresses is the host's, not refused.
  return write_filter(needed_filter());
}

Result<void> ServiceMaps::lower_services(AddressEntries& have, const AddressEntries& want) {
  for (auto entry = have.ports.begin(); entry != have.ports.end();) {
    if (want.ports.contains(entry->first)) {
      ++entry;
      continue;
    }
    if (Result<void> erased = tables_->erase_service(entry->first); !erased) return erased;
    entry = have.ports.erase(entry);
  }
  for (auto entry = have.ranges.begin(); entry != have.ranges.end();) {
    if (want.ranges.contains(entry->first)) {
      ++entry;
      continue;
    }
    if (Result<void> erased = tables_->erase_range(entry->first); !erased) return erased;
    entry = have.ranges.erase(entry);
  }
  return {};
}

Result<void> ServiceMaps::write_filter(const AddressFilter& filter) {
  if (filter == filter_) return {};
  if (Result<void> written = tables_->write_filter(filter); !written) return written;
  filter_ = filter;
  return {};
}

AddressFilter ServiceMaps::needed_filter() const {
  AddressFilter filter{};
  for (const wire::IpAddress& source : watched_)
    set_bit(filter, 1, source);
  for (const auto& [address, entries] : present_)
    add(filter, address, entries);
  return filter;
}

}  // namespace weir::l4
