#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string_view>

#include "bpf/abi.h"
#include "l4/base/siphash.h"
#include "l4/tables.h"

/// What the words of the flow table and the records of the NAT table say, for people; pure. Ages
/// are in the stamp's unit, about a second (vip_entries.h has Ticks::seconds_of()).
namespace weir::l4 {

struct FlowEntry {
  std::uint64_t tag = 0;
  BackendId backend;  ///< 0: the entry is free
  weir_flow_state state = WEIR_FLOW_NEW;
  std::uint32_t stamp = 0;

  /// Of an entry of weir_flows, as abi.h lays it out. Here, because tables have millions.
  static FlowEntry of(std::uint64_t word) {
    constexpr std::uint64_t kStateMask =
        (1ULL << (WEIR_FLOW_BACKEND_SHIFT - WEIR_FLOW_STATE_SHIFT)) - 1;
    static_assert(kStateMask == 3, "text_of() and FlowTally know four states");
    return {.tag = word >> WEIR_FLOW_TAG_SHIFT,
            .backend = BackendId{static_cast<std::uint32_t>(word >> WEIR_FLOW_BACKEND_SHIFT &
                                                            WEIR_FLOW_BACKEND_MASK)},
            .state = static_cast<weir_flow_state>(word >> WEIR_FLOW_STATE_SHIFT & kStateMask),
            .stamp = static_cast<std::uint32_t>(word & WEIR_FLOW_STAMP_MASK)};
  }
  /// Since its last packet; comes round after three days.
  [[nodiscard]] std::uint32_t age(std::uint32_t now) const {
    return (now - stamp) & WEIR_FLOW_STAMP_MASK;
  }
};

std::string_view text_of(weir_flow_state state);

/// Where in the table a flow stands, or would.
struct FlowPlace {
  std::uint64_t hash = 0;
  std::uint32_t set = 0;

  /// As the program does it: `secret` is DatapathConstants::flow_secret.
  static FlowPlace of(const weir_flow_key& flow, const SipKey& secret, std::uint32_t sets);
  /// The flow's entry among those of its set.
  [[nodiscard]] std::optional<FlowEntry> find(
      std::span<const std::uint64_t, WEIR_FLOW_WAYS> entries) const;
};

/// Upper ends of the ranges that ages are counted in; one more is for what is older.
inline constexpr std::array<std::uint32_t, 3> kIdleSteps{10, 60, 600};

/// The flows of one backend.
struct FlowTally {
  std::array<std::uint64_t, 4> by_state{};  ///< by weir_flow_state
  std::array<std::uint64_t, kIdleSteps.size() + 1> by_idle{};
};

/// Sums entries up as they are read, one after the other.
class FlowTallies {
 public:
  explicit FlowTallies(std::uint32_t now) : now_{now} {}

  /// A word of weir_flows.
  void add(std::uint64_t word);
  /// A record of weir_nat_flows; one whose time is up is none.
  void add(const weir_nat_flow& record);
  /// Where only one in `share` was read.
  void scale(std::uint64_t share);

  [[nodiscard]] const std::map<BackendId, FlowTally>& by_backend() const { return tallies_; }

 private:
  void add(BackendId backend, weir_flow_state state, std::uint32_t age);

  std::uint32_t now_;
  std::map<BackendId, FlowTally> tallies_;
};

/// Since the last packet; nothing where the record holds no flow, or one whose time is up.
std::optional<std::uint32_t> nat_age(const weir_nat_flow& record, std::uint32_t now);
std::optional<std::uint32_t> nat_age(std::uint64_t owner, std::uint32_t stamp,
                                     std::uint8_t protocol, std::uint32_t now);
/// The state that an entry of the flow table would have; of a record that holds a flow.
weir_flow_state flow_state_of(std::uint64_t owner);
/// "unanswered", "answered", "established" or "closing", as NatCount has them.
std::string_view nat_state_text(std::uint64_t owner);

/// What of the flow chooses the backend of a new one: bpf/select.h, hash_of().
std::uint64_t choice_hash(const weir_flow_key& flow, std::uint8_t policy, const SipKey& seed);

/// The key that a client has in the flow table: its VIP stands in the place of the destination.
weir_flow_key client_key(const weir_address& source, VipId vip);

}  // namespace weir::l4
