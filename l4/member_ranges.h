#pragma once

#include <cstdint>
#include <map>
#include <optional>

namespace weir::l4 {

/// Entries of weir_members, given out to VIPs in ranges. A range is named by the entry before its
/// first, so that number n of a VIP is entry `range + n` and entry 0 is nobody's.
class MemberRanges {
 public:
  explicit MemberRanges(std::uint32_t entries);

  /// The first place that is large enough; nothing where there is none.
  std::optional<std::uint32_t> take(std::uint32_t length);
  /// One that is in use already. False: some of it is somebody else's.
  bool take_at(std::uint32_t range, std::uint32_t length);
  void give_back(std::uint32_t range, std::uint32_t length);

 private:
  std::map<std::uint32_t, std::uint32_t> free_;  // first entry → length; neighbours are merged
};

}  // namespace weir::l4
