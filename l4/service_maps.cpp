#include "l4/service_maps.h"

#include <algorithm>
#include <utility>

namespace weir::l4 {
namespace {

constexpr std::uint64_t kAllBits = ~std::uint64_t{0};
constexpr std::uint32_t kNatFlags = WEIR_ADDRESS_NAT | WEIR_ADDRESS_SNAT;
constexpr std::uint32_t kWordBits = 64;
constexpr std::uint32_t kHalfBits = WEIR_FILTER_WORDS * kWordBits;

std::uint32_t bit_of(const wire::IpAddress& address) {
  const weir_address bytes = abi_address(address);
  return weir_filter_bit(&bytes);
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
  for (const auto& [address, entries] : maps.present_)
    maps.count(address, marks_of(entries), 1);
  return maps;
}

Result<void> ServiceMaps::settle(const wire::IpAddress& address, const AddressEntries& want) {
  AddressEntries& have = present_[address];
  if (Result<void> step = raise_services(have, want); !step) return step;
  if (Result<void> step = raise_address(address, have, want); !step) return step;
  if (Result<void> step = lower_address(address, have, want); !step) return step;
  if (Result<void> step = lower_services(have, want); !step) return step;
  if (have.flags == 0) present_.erase(address);
  return {};
}

Result<void> ServiceMaps::watch(const wire::IpAddress& source) {
  return mark(source, {.is_nat = true});
}

Result<void> ServiceMaps::unwatch(const wire::IpAddress& source) {
  return unmark(source, {.is_nat = true});
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
  // Counted with what it has until now, so that no bit goes before lower_address().
  if (Result<void> marked = mark(address, marks_of(want)); !marked) return marked;
  if (have.flags != want.flags) {
    Result<void> written = tables_->write_address(abi_address(address), want.flags);
    if (!written) return written;
  }
  for (const std::uint8_t length : want.prefixes) {
    if (have.prefixes.contains(length)) continue;
    Result<void> written = tables_->write_prefix(abi_prefix(address, length), abi_address(address));
    if (!written) return written;
  }
  return {};
}

Result<void> ServiceMaps::lower_address(const wire::IpAddress& address, AddressEntries& have,
                                        const AddressEntries& want) {
  for (const std::uint8_t length : have.prefixes) {
    if (want.prefixes.contains(length)) continue;
    if (Result<void> erased = tables_->erase_prefix(abi_prefix(address, length)); !erased)
      return erased;
  }
  if (want.flags == 0 && have.flags != 0) {
    if (Result<void> erased = tables_->erase_address(abi_address(address)); !erased) return erased;
  }
  const Marks old = marks_of(have);
  have.flags = want.flags;
  have.prefixes = want.prefixes;
  // Before the services go: what is for none of our addresses is the host's, not refused.
  return unmark(address, old);
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

ServiceMaps::Marks ServiceMaps::marks_of(const AddressEntries& entries) {
  return {.is_ours = entries.flags != 0,
          .is_nat = (entries.flags & kNatFlags) != 0,
          .is_prefix = !entries.prefixes.empty()};
}

Result<void> ServiceMaps::mark(const wire::IpAddress& address, const Marks& marks) {
  count(address, marks, 1);
  return settle_bits(address, marks);
}

Result<void> ServiceMaps::unmark(const wire::IpAddress& address, const Marks& marks) {
  count(address, marks, -1);
  return settle_bits(address, marks);
}

void ServiceMaps::count(const wire::IpAddress& address, const Marks& marks, int change) {
  const std::uint32_t bit = bit_of(address);
  const auto add = [change](std::uint32_t& count) { count += static_cast<std::uint32_t>(change); };
  if (marks.is_ours) add(marks.is_prefix ? whole_[0] : needed_[bit]);
  if (marks.is_nat) add(marks.is_prefix ? whole_[1] : needed_[kHalfBits + bit]);
}

Result<void> ServiceMaps::settle_bits(const wire::IpAddress& address, const Marks& marks) {
  if (marks.is_prefix) {
    const bool is_first_or_last =
        std::ranges::any_of(whole_, [](auto count) { return count <= 1; });
    return is_first_or_last ? settle_filter() : Result<void>{};
  }
  const std::uint32_t word = bit_of(address) / kWordBits;
  if (marks.is_ours) {
    if (Result<void> settled = settle_word(word); !settled) return settled;
  }
  return marks.is_nat ? settle_word(WEIR_FILTER_WORDS + word) : Result<void>{};
}

Result<void> ServiceMaps::settle_word(std::uint32_t index) {
  std::uint64_t word = 0;
  for (std::uint32_t bit = 0; bit < kWordBits; ++bit)
    word |= std::uint64_t{needed_[index * kWordBits + bit] != 0 ? 1U : 0U} << bit;
  if (whole_[index / WEIR_FILTER_WORDS] != 0) word = kAllBits;
  if (word == filter_[index]) return {};
  if (Result<void> written = tables_->write_filter_word(index, word); !written) return written;
  filter_[index] = word;
  return {};
}

Result<void> ServiceMaps::settle_filter() {
  for (std::uint32_t index = 0; index < filter_.size(); ++index) {
    if (Result<void> settled = settle_word(index); !settled) return settled;
  }
  return {};
}

}  // namespace weir::l4
