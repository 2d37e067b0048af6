#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <variant>
#include <vector>

#include "l4/base/mailbox.h"
#include "l7/net/transport.h"

namespace weir::proxy {

/// A verified TCP segment, which is the bytes of the letter, for a worker that may know its flow.
struct SegmentLetter {
  wire::IpAddress source;
  wire::IpAddress destination;
  net::Ecn ecn = net::Ecn::kNotCapable;
  /// Workers that have looked for the flow in vain. All of them: the addressee owns it, known or
  /// not, and nobody else need be asked.
  std::uint32_t seen = 0;
};
/// A frame of ARP or NDP, which is the bytes of the letter: what one worker learns from it, all do.
struct NeighborLetter {};
/// An ICMP error about a flow of the addressee's.
using ErrorLetter = net::TransportError;

using Letter = std::variant<SegmentLetter, NeighborLetter, ErrorLetter>;

/// Letters from one worker to one other. Bounded in number and size; what does not fit is refused.
/// Bytes are copied in and out, because a packet belongs to its port's pool and that to one core.
class Postbox {
 public:
  static constexpr std::size_t kLetters = 256;

  explicit Postbox(std::size_t bytes_max);

  /// The sender's. False when the box is full or the letter too long.
  [[nodiscard]] bool post(Letter letter, std::span<const std::byte> bytes);

  // The addressee's.
  [[nodiscard]] bool empty() { return letters_.front() == nullptr; }
  /// The oldest letter, valid until drop_front(); nullptr when there is none.
  [[nodiscard]] const Letter* front();
  [[nodiscard]] std::span<const std::byte> front_bytes();
  void drop_front();

 private:
  struct Slot {
    Letter letter;
    std::size_t size = 0;
  };
  [[nodiscard]] std::byte* room_of(std::uint64_t number) const {
    return room_.get() + number % letters_.capacity() * bytes_max_;
  }

  std::size_t bytes_max_;
  Mailbox<Slot> letters_{kLetters};
  // Letter n has its bytes at place n modulo the capacity. Written before the letter is pushed and
  // read before it is dropped, so the ring's own order of memory covers them. Not touched before
  // it is used: boxes that stay empty cost address space only.
  std::unique_ptr<std::byte[]> room_;
  alignas(64) std::uint64_t posted_ = 0;   // the sender's
  alignas(64) std::uint64_t dropped_ = 0;  // the addressee's
};

/// The postboxes of all pairs of workers, and their alarm clocks. Made before the workers, and
/// outlives them; a worker's thread ends before the first worker is destroyed.
///
/// Sleeping. A worker that posts a letter must wake an addressee that sleeps, and the addressee
/// must not fall asleep on a letter. Both sides do one read-modify-write on the addressee's flag:
///
///   addressee: flag.exchange(true); look into all boxes; sleep only if they are empty
///   sender:    post;  flag.exchange(false); if it was true: write the eventfd
///
/// The two exchanges have an order. If the sender's is first, the addressee's reads what it wrote
/// (or what a later one wrote, which continues its release sequence), so it synchronizes with it
/// and sees the letter. If the addressee's is first, the sender finds true, or another sender has
/// found it and wakes. The flag is only ever changed by exchange, for a plain store would end the
/// release sequence. An eventfd that is written too early is still readable when the addressee
/// polls. The price for the sender is one locked instruction per addressee and turn, and a system
/// call only for one that sleeps.
class MailRoom {
 public:
  /// `bytes_max`: the longest frame.
  MailRoom(std::uint32_t workers, std::size_t bytes_max);

  [[nodiscard]] std::uint32_t workers() const { return workers_; }
  [[nodiscard]] Postbox& box(std::uint32_t from, std::uint32_t to) {
    return *boxes_[std::size_t{from} * workers_ + to];
  }

  /// What wakes this worker, before any of them runs.
  void attach(std::uint32_t worker, int wake_fd) { clocks_[worker].wake_fd = wake_fd; }

  /// The sender's, after it has posted.
  void ring(std::uint32_t worker);
  /// The addressee's: false when there is mail, and then it is not to sleep.
  [[nodiscard]] bool may_sleep(std::uint32_t worker);
  void woke(std::uint32_t worker);

 private:
  struct alignas(64) AlarmClock {
    std::atomic<bool> asleep{false};
    int wake_fd = -1;
  };
  std::uint32_t workers_;
  std::vector<std::unique_ptr<Postbox>> boxes_;  // by sender, then addressee; none to oneself
  std::vector<AlarmClock> clocks_;
};

/// Counted by each worker.
struct MailCounters {
  std::uint64_t misrouted_out = 0;      ///< another's by its port, handed over
  std::uint64_t misrouted_in = 0;       ///< came by another worker, and its flow is ours
  std::uint64_t misrouted_dropped = 0;  ///< the box was full, or no buffer was left for it
  std::uint64_t unknown_shown = 0;      ///< for a VIP, of no flow here: shown to the next worker
  std::uint64_t to_predecessor = 0;     ///< of no flow here, or of all: handed to the old weir-l7
  std::uint64_t errors_out = 0;         ///< ICMP errors about another's flow, handed over
  std::uint64_t neighbors_out = 0;      ///< copies of ARP and NDP frames
  std::uint64_t neighbors_in = 0;
};

}  // namespace weir::proxy
