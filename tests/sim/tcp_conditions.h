#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "l4/base/random.h"
#include "l4/base/result.h"
#include "l7/tcp/stack.h"
#include "tests/support/sim_link.h"

namespace weir::testing {

/// What a run is about. The first three are survived by every transfer.
enum class Plot : std::uint8_t {
  kTransfer,   ///< bad links, restless users
  kPathMtu,    ///< and packets that turn out to be too big on the way
  kCrossing,   ///< and both sides open the same connection at once
  kTrouble,    ///< users abort, let go early, and stop to listen
  kVanish,     ///< the link goes down for good
  kBlackHole,  ///< packets that are too big vanish in silence
};
inline constexpr unsigned kPlots = 6;
[[nodiscard]] std::string_view name_of(Plot plot);

/// Makes a run go wrong, to prove that its oracles see it.
enum class Sabotage : std::uint8_t {
  kNone,
  kWrongByte,       ///< one byte is not what it should be
  kMissingByte,     ///< one is skipped
  kDeafUser,        ///< one stops to read without a reason
  kKeptConnection,  ///< one is never released
  kKeptPacket,      ///< a packet buffer is not given back
  kAckStorm,        ///< an ACK comes fifty times
  kSelfishSender,   ///< text beyond the window
};
inline constexpr unsigned kSabotages = 8;

/// What the seed decides about a run before it begins.
struct TcpConditions {
  Plot plot = Plot::kTransfer;
  bool ipv6 = false;
  unsigned connections = 1;
  std::uint32_t bytes_max = 60'000;  ///< of each direction of each connection
  std::array<LinkOptions, 2> link;   ///< by the side where it begins
  std::uint16_t path_mtu = 1500;     ///< kPathMtu, kBlackHole: what really fits
  std::array<Duration, 2> tick{};
  std::array<std::uint32_t, 2> buffers{};  ///< packet buffers of each port
  std::array<tcp::StackOptions, 2> stack;
  Duration completion_delay{};
  double refuse = 0;      ///< per turn: how often the port refuses some frames
  double icmp_noise = 0;  ///< per segment: ICMP errors that must not harm
  double fickle = 0;      ///< per segment: its sender closes its window and drops text
  /// Who does that. Both would face each other's ACKs, sent from a closed window's edge, as old
  /// ones for ever; our stack never takes its window back (RFC 9293, section 3.8.6), so one of two
  /// does not.
  Side fickle_side = Side::kA;
  unsigned stalls = 0;    ///< of the link
  Duration stall{};       ///< each
  bool forgets = false;   ///< goes on until TIME-WAIT and what is known of neighbours are over
  Duration pause_max{};   ///< of the users, between what they do
  double long_pause = 0;  ///< how often one takes long_pause_max
  Duration long_pause_max{};
  Sabotage sabotage = Sabotage::kNone;  ///< never the seed's idea

  explicit TcpConditions(Random& random);

  [[nodiscard]] bool must_complete() const {
    return plot == Plot::kTransfer || plot == Plot::kPathMtu || plot == Plot::kCrossing;
  }
  /// There and back, with full queues and coarse clocks, without stalls.
  [[nodiscard]] Duration round_trip_max() const;
};

/// One thing about a run that is set by hand, whatever the seed says: "loss=0.05". Durations are in
/// microseconds, both directions and sides are treated alike.
struct TcpSetting {
  std::string_view name;
  std::string_view help;
  void (*apply)(TcpConditions&, double);
};
[[nodiscard]] std::span<const TcpSetting> tcp_settings();

struct AppliedSetting {
  const TcpSetting* setting = nullptr;
  double value = 0;
};
/// Understands "name=value"; says what is wrong otherwise, and which names there are.
[[nodiscard]] Result<AppliedSetting> parse_tcp_setting(std::string_view text);
/// As it was written on the command line.
[[nodiscard]] std::string text_of(const AppliedSetting& applied);

}  // namespace weir::testing
