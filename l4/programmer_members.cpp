// Backends by number, and what tables say of them.

#include <algorithm>
#include <tuple>

#include "l4/programmer.h"

namespace weir::l4 {
namespace {

/// Room for some more, so that a VIP that grows moves seldom.
std::uint16_t room_for(std::size_t backends) {
  constexpr std::size_t kSpareMin = 4;
  return static_cast<std::uint16_t>(backends + std::max(backends / 4, kSpareMin));
}
static_assert(2 * control::kBackendsPerVipMax * 5 / 4 < 65536, "numbers fit in a slot");

}  // namespace

/// Those without a number, which a backend has from its installation to the first table, are in
/// none.
std::vector<MaglevMember> members_of(const InstalledVip& installed) {
  std::vector<MaglevMember> members;
  for (const InstalledBackend& entry : installed.backends) {
    if (entry.number == MemberNumber{}) continue;
    members.push_back(
        {.address = entry.backend.address,
         .port = entry.backend.port.value_or(wire::Port{}),
         .weight = entry.backend.state == control::BackendState::kActive ? entry.backend.weight : 0,
         .number = entry.number});
  }
  return members;
}

bool count_slots(InstalledVip& installed, std::span<const MemberNumber> table) {
  std::vector<std::uint32_t> counts(std::size_t{installed.member_room} + 1);
  for (const MemberNumber number : table) {
    if (number.value() >= counts.size()) return false;
    ++counts[number.value()];
  }
  counts[0] = 0;  // slots that lead nowhere are nobody's
  for (InstalledBackend& entry : installed.backends)
    entry.slots = counts[entry.number.value()];
  return true;
}

/// In the order of addresses, so that VIPs with the same backends give the same numbers.
Result<void> Programmer::number_backends(Change& change) {
  InstalledVip& installed = *change.installed;
  const std::size_t count = installed.backends.size() + change.gone.size();
  if (count > installed.member_room) {
    if (Result<void> moved = move_members(change, room_for(count)); !moved) return moved;
  }
  std::vector<bool> taken(std::size_t{installed.member_room} + 1);
  for (const InstalledBackend& gone : change.gone)
    taken[gone.number.value()] = true;
  std::vector<InstalledBackend*> fresh;
  for (InstalledBackend& entry : installed.backends) {
    taken[entry.number.value()] = true;
    if (entry.number == MemberNumber{}) fresh.push_back(&entry);
  }
  std::ranges::sort(fresh, {}, [](const InstalledBackend* entry) {
    return std::tie(entry->backend.address, entry->backend.port);
  });
  std::uint16_t number = 1;
  for (InstalledBackend* entry : fresh) {
    while (taken[number])
      ++number;  // ends: there is room for all
    entry->number = MemberNumber{number};
    ++number;
    const std::uint32_t index = installed.first_member + entry->number.value();
    if (Result<void> written = write_member(index, entry->id); !written) return written;
  }
  return {};
}

/// To a larger range, with the numbers that they have: the table that is in use goes on to mean the
/// same. All of it is written before the VIP says where it is.
Result<void> Programmer::move_members(Change& change, std::uint16_t room) {
  InstalledVip& installed = *change.installed;
  const std::optional<std::uint32_t> range = member_ranges_.take(room);
  if (!range)
    return Error{
        ErrorCode::kUnavailable,
        fmt::format("no range of {} is free for the backends of VIP {}, of {} for all VIPs", room,
                    control::vip_text(installed.vip.key()), WEIR_MEMBERS_MAX - 1)};
  change.old_range = std::exchange(installed.first_member, *range);
  change.old_room = std::exchange(installed.member_room, room);
  std::vector<BackendId> ids(std::size_t{room} + 1);
  for (const InstalledBackend& gone : change.gone)
    ids[gone.number.value()] = gone.id;
  for (const InstalledBackend& entry : installed.backends)
    ids[entry.number.value()] = entry.id;
  for (std::uint32_t number = 1; number <= room; ++number) {
    if (Result<void> written = write_member(*range + number, ids[number]); !written) return written;
  }
  if (installed.entry.id == 0) return {};  // not in the kernel yet
  weir_vip entry = installed.entry;
  entry.first_member = installed.first_member;
  entry.member_room = installed.member_room;
  if (Result<void> written = tables_->write_vip(installed.id, entry); !written) return written;
  installed.entry = entry;
  return {};
}

Result<void> Programmer::write_member(std::uint32_t index, BackendId backend) {
  if (members_[index] == backend) return {};
  if (Result<void> written = tables_->write_member(index, backend); !written) return written;
  members_[index] = backend;
  return {};
}

}  // namespace weir::l4
