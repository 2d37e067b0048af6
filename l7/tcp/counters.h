#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace weir::tcp {

/// What one stack counts, since it was made; written by its core only.
struct StackCounters {
  std::uint64_t segments_received = 0;
  std::uint64_t segments_sent = 0;
  std::uint64_t bytes_received = 0;  ///< payload, in order, once
  std::uint64_t bytes_sent = 0;      ///< payload, without retransmissions
  std::uint64_t retransmitted_segments = 0;
  std::uint64_t fast_retransmits = 0;   ///< recoveries begun by what arrived
  std::uint64_t tail_probes = 0;        ///< RFC 8985, section 7
  std::uint64_t spurious_repairs = 0;   ///< nothing had been lost; taken back
  std::uint64_t reneged = 0;            ///< a peer threw away what it had SACKed
  std::uint64_t congestion_marks = 0;   ///< segments received with the ECN mark
  std::uint64_t congestion_echoes = 0;  ///< windows reduced because a peer reported a mark
  std::uint64_t black_holes = 0;        ///< paths that swallow large segments
  std::uint64_t old_duplicates = 0;     ///< dropped by time stamp (PAWS)
  std::uint64_t window_probes = 0;
  std::uint64_t keepalive_probes = 0;
  std::uint64_t retransmission_timeouts = 0;
  std::uint64_t duplicate_segments = 0;
  std::uint64_t out_of_order_segments = 0;
  std::uint64_t early_text_dropped =
      0;  ///< out-of-order text given up, for what it waits for or for others
  std::uint64_t dropped_malformed = 0;
  std::uint64_t dropped_no_memory = 0;       ///< a limit of this stack was reached
  std::uint64_t writes_short_of_memory = 0;  ///< cut by the pool of buffers, not by the own buffer
  std::uint64_t evicted_stalled = 0;  ///< reset: behind a closed window while the pool was empty
  std::uint64_t dropped_backlog = 0;  ///< accept_queue_max was reached, or a SYN had no place
  std::uint64_t cookies_sent = 0;     ///< SYNs answered without remembering them (RFC 4987)
  std::uint64_t cookies_accepted = 0;
  std::uint64_t half_open_expired = 0;  ///< SYN-ACKs that nobody answered
  std::uint64_t time_wait_reused = 0;   ///< pairs opened again before their time (RFC 6191)
  std::uint64_t resets_sent = 0;
  std::uint64_t resets_received = 0;
  std::uint64_t challenge_acks = 0;
  std::uint64_t acks_held_back = 0;  ///< not sent again so soon, for bare segments out of place
  std::uint64_t accepted = 0;
  std::uint64_t connected = 0;
  std::uint64_t failed_connects = 0;
  std::uint64_t time_wait_evicted = 0;
  std::uint32_t connections = 0;           ///< now
  std::uint32_t half_open = 0;             ///< now
  std::uint32_t time_wait = 0;             ///< now
  std::uint32_t segments_outstanding = 0;  ///< now, sent and not acknowledged
  std::uint32_t buffer_chunks = 0;         ///< now, 4 KiB each, of buffer_pool_bytes
};

/// Every counter by the name that people see, in the order in which they see it.
struct EventCounter {
  std::string_view name;
  std::uint64_t StackCounters::*value;
};
struct LevelCounter {
  std::string_view name;
  std::uint32_t StackCounters::*value;
};
inline constexpr std::array kStackEvents = {
    EventCounter{"segments_received", &StackCounters::segments_received},
    EventCounter{"segments_sent", &StackCounters::segments_sent},
    EventCounter{"bytes_received", &StackCounters::bytes_received},
    EventCounter{"bytes_sent", &StackCounters::bytes_sent},
    EventCounter{"retransmitted_segments", &StackCounters::retransmitted_segments},
    EventCounter{"fast_retransmits", &StackCounters::fast_retransmits},
    EventCounter{"tail_probes", &StackCounters::tail_probes},
    EventCounter{"spurious_repairs", &StackCounters::spurious_repairs},
    EventCounter{"reneged", &StackCounters::reneged},
    EventCounter{"congestion_marks", &StackCounters::congestion_marks},
    EventCounter{"congestion_echoes", &StackCounters::congestion_echoes},
    EventCounter{"black_holes", &StackCounters::black_holes},
    EventCounter{"old_duplicates", &StackCounters::old_duplicates},
    EventCounter{"window_probes", &StackCounters::window_probes},
    EventCounter{"keepalive_probes", &StackCounters::keepalive_probes},
    EventCounter{"retransmission_timeouts", &StackCounters::retransmission_timeouts},
    EventCounter{"duplicate_segments", &StackCounters::duplicate_segments},
    EventCounter{"out_of_order_segments", &StackCounters::out_of_order_segments},
    EventCounter{"early_text_dropped", &StackCounters::early_text_dropped},
    EventCounter{"dropped_malformed", &StackCounters::dropped_malformed},
    EventCounter{"dropped_no_memory", &StackCounters::dropped_no_memory},
    EventCounter{"writes_short_of_memory", &StackCounters::writes_short_of_memory},
    EventCounter{"evicted_stalled", &StackCounters::evicted_stalled},
    EventCounter{"dropped_backlog", &StackCounters::dropped_backlog},
    EventCounter{"cookies_sent", &StackCounters::cookies_sent},
    EventCounter{"cookies_accepted", &StackCounters::cookies_accepted},
    EventCounter{"half_open_expired", &StackCounters::half_open_expired},
    EventCounter{"time_wait_reused", &StackCounters::time_wait_reused},
    EventCounter{"resets_sent", &StackCounters::resets_sent},
    EventCounter{"resets_received", &StackCounters::resets_received},
    EventCounter{"challenge_acks", &StackCounters::challenge_acks},
    EventCounter{"acks_held_back", &StackCounters::acks_held_back},
    EventCounter{"accepted", &StackCounters::accepted},
    EventCounter{"connected", &StackCounters::connected},
    EventCounter{"failed_connects", &StackCounters::failed_connects},
    EventCounter{"time_wait_evicted", &StackCounters::time_wait_evicted},
};
inline constexpr std::array kStackLevels = {
    LevelCounter{"connections", &StackCounters::connections},
    LevelCounter{"half_open", &StackCounters::half_open},
    LevelCounter{"time_wait", &StackCounters::time_wait},
    LevelCounter{"segments_outstanding", &StackCounters::segments_outstanding},
    LevelCounter{"buffer_chunks", &StackCounters::buffer_chunks},
};
static_assert(sizeof(StackCounters) ==
                  (kStackEvents.size() * 8 + kStackLevels.size() * 4 + 7) / 8 * 8,
              "a counter is not in the tables");

}  // namespace weir::tcp
