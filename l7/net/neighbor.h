#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <unordered_map>

#include "l4/base/clock.h"
#include "l4/base/random.h"
#include "l4/base/slab.h"
#include "l4/base/timer_wheel.h"
#include "l4/wire/address.h"
#include "l7/port/packet.h"

namespace weir::net {

struct NeighborCounters {
  std::uint64_t solicitations_sent = 0;
  std::uint64_t resolved = 0;
  std::uint64_t failed = 0;               ///< no answer to any solicitation
  std::uint64_t lost = 0;                 ///< was known and stopped to answer
  std::uint64_t pending_dropped = 0;      ///< waited for an address and had to make room
  std::uint64_t unreachable_dropped = 0;  ///< for a neighbour that does not answer
  std::uint64_t table_full = 0;           ///< no entry could be made
  std::uint64_t evicted = 0;              ///< made room for another entry
};

/// What the cache asks of the interface. Called from within the cache's functions; the callee
/// queues frames and does not come back into the cache.
class NeighborOutput {
 public:
  virtual ~NeighborOutput() = default;
  /// Ask who has `target`: the one station that had it, or all when `known` is empty.
  virtual void solicit(const wire::IpAddress& target,
                       const std::optional<wire::MacAddress>& known) = 0;
  /// `packet` waited for this address.
  virtual void deliver(port::Packet packet, const wire::IpAddress& next_hop,
                       const wire::MacAddress& mac) = 0;
};

/// Which link address belongs to an IP address on this link, for ARP and NDP alike: the states and
/// rules are those of RFC 4861, section 7.3, with DELAY and PROBE folded into STALE.
///
///                hold()                   answer
///     (absent) ─────────► kIncomplete ─────────────► kReachable ◄───────────┐
///        ▲                    │ 3 asked                 │ time is up        │ answer, confirm()
///        │ hold-down is over  ▼                         ▼                   │
///        ├──────────────── kFailed                    kStale ───────────────┘
///        └──────────────────────────────────────────────┘ 3 asked, or not used for 10 minutes
///
///   kIncomplete  no address yet; packets wait, a broadcast question goes out every second
///   kReachable   address known, and it worked within the last half minute
///   kStale       address known and used, and from its first use on asked about, by unicast
///   kFailed      nobody answered: packets are dropped without asking until the hold-down is over
///
/// Entries are made by our own need to send and by questions for our addresses, never by an
/// unsolicited answer, so that a stranger cannot fill the table. One core owns a cache.
class NeighborCache {
 public:
  static constexpr std::uint32_t kEntriesMax = 1024;
  /// A gateway has one neighbour, its router, and starts under load: every SYN-ACK that is dropped
  /// while the router is being asked costs a client a second (fifty of fifty, with 4 places).
  static constexpr std::size_t kPendingPerEntry = 64;
  static constexpr std::size_t kPendingMax = 256;
  static constexpr unsigned kAttempts = 3;
  static constexpr Duration kRetry = std::chrono::seconds{1};
  static constexpr Duration kHoldDown = std::chrono::seconds{3};
  static constexpr Duration kReachableTime = std::chrono::seconds{30};
  static constexpr Duration kIdleTime = std::chrono::minutes{10};

  enum class State : std::uint8_t { kIncomplete, kReachable, kStale, kFailed };

  NeighborCache(NeighborOutput& output, Random random, Instant start);
  NeighborCache(const NeighborCache&) = delete;
  NeighborCache& operator=(const NeighborCache&) = delete;

  /// The address to send to, when one is known; this may start to ask whether it still holds.
  [[nodiscard]] std::optional<wire::MacAddress> lookup(const wire::IpAddress& next_hop,
                                                       Instant now);
  /// Keeps a packet for which lookup() knew no address, and asks for it.
  void hold(const wire::IpAddress& next_hop, port::Packet packet, Instant now);

  /// Somebody with this address asked for us: they are there, and will want an answer.
  void learn(const wire::IpAddress& address, const wire::MacAddress& mac, Instant now);

  /// An answer, solicited or not (RFC 4861, section 7.2.5; an ARP reply overrides).
  struct Answer {
    wire::IpAddress address;
    std::optional<wire::MacAddress> mac;
    bool solicited = false;
    bool overrides = false;
  };
  void answer(const Answer& answer, Instant now);

  /// Traffic proves that what we send to this station arrives (RFC 4861, section 7.3.1).
  void confirm(const wire::IpAddress& address, const wire::MacAddress& mac, Instant now);

  void advance(Instant now);
  [[nodiscard]] Instant next_deadline() const { return wheel_.next_deadline(); }

  [[nodiscard]] std::optional<State> state(const wire::IpAddress& address, Instant now);
  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  [[nodiscard]] std::size_t pending() const { return pending_; }
  [[nodiscard]] const NeighborCounters& counters() const { return counters_; }

 private:
  struct Entry {
    wire::IpAddress address;
    wire::MacAddress mac;
    State state = State::kIncomplete;  // never kStale by time alone: see settle()
    unsigned asked = 0;                // questions without an answer
    Instant reachable_until{};
    Instant last_used{};
    std::array<port::Packet, kPendingPerEntry> waiting;  // oldest first
    std::size_t waiting_count = 0;
    Timer timer;  // the next question, the end of the hold-down, or the end by disuse
  };
  using EntryId = Slab<Entry>::Id;

  Entry* find(const wire::IpAddress& address);
  Entry* create(const wire::IpAddress& address, Instant now);
  bool evict_one();
  void erase(EntryId id);
  static void settle(Entry& entry, Instant now);
  void ask(Entry& entry, Instant now);
  void become_reachable(Entry& entry, Instant now);
  void become_stale(Entry& entry, Instant now);
  void deliver_waiting(Entry& entry);
  void drop_waiting(Entry& entry, std::uint64_t& counter);
  void on_timer(EntryId id, Instant now);

  NeighborOutput& output_;
  Random random_;
  TimerWheel wheel_;
  Slab<Entry> entries_{kEntriesMax};
  std::unordered_map<wire::IpAddress, EntryId> index_;
  std::size_t pending_ = 0;
  NeighborCounters counters_;
};

}  // namespace weir::net
