#pragma once

#include <cstdint>

#include "l4/base/clock.h"

namespace weir::tcp {

/// RFC 9293, section 3.3.2; what each means and who moves between them stands in connection.h.
enum class ConnectionState : std::uint8_t {
  kClosed,
  kSynSent,
  kSynReceived,
  kEstablished,
  kFinWait1,
  kFinWait2,
  kCloseWait,
  kClosing,
  kLastAck,
  kTimeWait,
};

/// Whether, and why, losses are being repaired (RFC 5681, RFC 6675). Ends when everything that had
/// been sent when it began is acknowledged.
enum class Repair : std::uint8_t {
  kNone,
  kRecovery,  ///< a loss was noticed by what arrived: PRR sets the window
  kTimeout,   ///< nothing arrived: slow start
};

/// The connection's view of its path, for people and tests.
struct ConnectionInfo {
  ConnectionState state = ConnectionState::kClosed;
  Repair repair = Repair::kNone;
  std::uint32_t congestion_window = 0;  ///< bytes, like all below
  std::uint32_t slow_start_threshold = 0;
  std::uint32_t in_flight = 0;
  std::uint32_t send_window = 0;
  std::uint32_t send_mss = 0;
  std::uint32_t unsent = 0;
  std::uint64_t bytes_written = 0;  ///< by the user, of this connection's life
  Duration smoothed_rtt{};
  Duration min_rtt{};
  Duration retransmission_timeout{};
};

}  // namespace weir::tcp
