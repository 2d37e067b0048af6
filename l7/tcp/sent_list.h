#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "l4/base/clock.h"
#include "l7/tcp/seq.h"

namespace weir::tcp {

struct SentSegment;

/// A place in one of the two orders that a SentList keeps.
struct SentLinks {
  SentSegment* next = nullptr;
  SentSegment* previous = nullptr;
};

/// One segment that was sent and is not acknowledged: what the scoreboard knows of it. The bytes
/// themselves lie in the send queue, so a record may be cut where a smaller segment must leave.
struct SentSegment {
  enum class State : std::uint8_t {
    kInFlight,  ///< on its way, or lost without our knowing
    kLost,      ///< thought lost, to be sent again
    kSacked,    ///< the peer has it (RFC 2018); it may still change its mind until it acknowledges
  };

  SentLinks by_sequence;
  SentLinks by_time;  ///< of the last sending; only while kInFlight
  Instant sent_at;    ///< the last time
  Seq start;
  std::uint32_t length = 0;  ///< a FIN counts
  State state = State::kInFlight;
  bool repeated = false;    ///< sent more than once: an ACK does not say which time (Karn)
  bool path_probe = false;  ///< larger than what the path is known to carry

  [[nodiscard]] Seq end() const { return start + length; }
};
static_assert(sizeof(SentSegment) <= 64);

/// All records of one stack, with a hard limit. Memory is taken as the pool first grows and kept.
/// The last sixth is for lists that have none: many small segments that peers do not acknowledge
/// cannot keep the others from sending, a segment at a time.
class SentPool {
 public:
  explicit SentPool(std::size_t segments_max)
      : capacity_{segments_max}, reserve_{segments_max / 6} {}

  /// nullptr when the limit is reached: the caller waits for acknowledgments.
  [[nodiscard]] SentSegment* take(bool is_first);
  void give_back(SentSegment* segment);
  [[nodiscard]] std::size_t used() const { return used_; }
  /// Not even a first one can be had.
  [[nodiscard]] bool is_exhausted() const { return used_ == capacity_; }
  /// Or soon: less than an eighth of the reserve is left.
  [[nodiscard]] bool is_nearly_exhausted() const { return used_ + reserve_ / 8 >= capacity_; }

 private:
  static constexpr std::size_t kPageSegments = 1024;
  bool grow();

  std::size_t capacity_;
  std::size_t reserve_;
  std::size_t grown_ = 0;
  std::size_t used_ = 0;
  SentSegment* free_ = nullptr;
  std::vector<std::unique_ptr<SentSegment[]>> pages_;
};

/// The scoreboard of one connection (RFC 6675, section 3): everything between SND.UNA and SND.NXT,
/// in the order of sequence numbers, and what is in flight also in the order of sending, which is
/// what RACK goes by (RFC 8985, section 5.1). Decides nothing. An idle connection holds no record.
class SentList {
 public:
  explicit SentList(SentPool& pool) : pool_{pool} {}
  SentList(const SentList&) = delete;
  SentList& operator=(const SentList&) = delete;
  ~SentList() { clear(); }

  [[nodiscard]] bool empty() const { return first_ == nullptr; }
  [[nodiscard]] bool is_pool_nearly_empty() const { return pool_.is_nearly_exhausted(); }
  [[nodiscard]] SentSegment* first() const { return first_; }
  [[nodiscard]] SentSegment* last() const { return last_; }
  /// The one in flight that was sent the longest ago; its successors by `by_time.next`.
  [[nodiscard]] SentSegment* oldest_sent() const { return oldest_; }

  [[nodiscard]] std::uint32_t bytes_in_flight() const { return in_flight_; }
  [[nodiscard]] std::uint32_t bytes_lost() const { return lost_; }
  [[nodiscard]] std::uint32_t bytes_sacked() const { return sacked_; }
  [[nodiscard]] std::uint32_t segments() const { return segments_; }
  [[nodiscard]] std::uint32_t segments_sacked() const { return segments_sacked_; }
  /// One past the highest byte that the peer is known to have; only while segments_sacked() > 0.
  [[nodiscard]] Seq sacked_end() const { return highest_sacked_->end(); }

  /// A segment leaves for the first time, at the end. nullptr when there is no record for it.
  SentSegment* push(Seq start, std::uint32_t length, Instant now);

  /// It did not leave after all. Only right after push().
  void drop_last();

  /// Calls delivered(segment) for each one that `una` covers and that was not SACKed before, as it
  /// was, and forgets all that it covers. A segment that is covered in part is cut.
  template <typename Delivered>
  void acknowledge(Seq una, Delivered&& delivered) {
    while (first_ != nullptr && first_->end() <= una) {
      if (first_->state != SentSegment::State::kSacked) delivered(*first_);
      remove_first();
    }
    if (first_ != nullptr && first_->start < una) trim_first(una);
  }

  /// Marks what lies wholly in [start, end) as arrived; delivered(segment) for each that is news,
  /// as it was before. A segment covered in part stays as it is: a block that ends inside a segment
  /// of ours comes from a peer that has cut it, and grows.
  template <typename Delivered>
  void sack(Seq start, Seq end, Delivered&& delivered) {
    for (SentSegment* at = first_not_before(start); at != nullptr && at->end() <= end;
         at = at->by_sequence.next) {
      if (at->state == SentSegment::State::kSacked) continue;
      delivered(*at);
      mark_sacked(*at);
    }
  }

  void mark_lost(SentSegment& segment);
  void mark_all_lost();
  /// The lowest segment to be sent again; nullptr when there is none.
  [[nodiscard]] SentSegment* first_lost();
  /// It was sent again.
  void sent_again(SentSegment& segment, Instant now);
  /// Cuts a segment after `length` bytes. False when there is no record for the rest.
  bool split(SentSegment& segment, std::uint32_t length);

  /// What was thought lost, and not sent again, is in flight after all.
  void forget_losses();
  /// The peer has thrown away what it had SACKed (RFC 2018, section 8): all of it is lost.
  void forget_sacks();
  void clear();

 private:
  [[nodiscard]] SentSegment* first_not_before(Seq start) const;
  void mark_sacked(SentSegment& segment);
  void remove_first();
  void trim_first(Seq una);
  void leave_state(SentSegment& segment);
  void link_by_time(SentSegment& segment);
  void unlink_by_time(SentSegment& segment);

  SentPool& pool_;
  SentSegment* first_ = nullptr;
  SentSegment* last_ = nullptr;
  SentSegment* oldest_ = nullptr;
  SentSegment* newest_ = nullptr;
  SentSegment* highest_sacked_ = nullptr;
  SentSegment* lost_hint_ = nullptr;  ///< nothing before it is lost; nullptr: look from the front
  std::uint32_t in_flight_ = 0;
  std::uint32_t lost_ = 0;
  std::uint32_t sacked_ = 0;
  std::uint32_t segments_ = 0;
  std::uint32_t segments_sacked_ = 0;
};

}  // namespace weir::tcp
