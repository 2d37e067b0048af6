#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "l4/base/clock.h"
#include "l4/base/random.h"
#include "l7/tcp/stack.h"
#include "tests/sim/tcp_conditions.h"
#include "tests/sim/tcp_host.h"

namespace weir::testing {

/// One end of one connection, and whoever uses it.
struct TcpUser {
  tcp::ConnectionId id;
  unsigned connection = 0;
  Side side = Side::kA;
  bool open = false;  ///< `id` is ours
  bool connected = false;
  bool finished = false;  ///< has let go of it, or never got it
  bool closed_write = false;
  bool saw_end = false;
  bool saw_closed = false;
  bool waits_for_closed = true;  ///< or lets go at the peer's end
  bool releases_early = false;   ///< lets go once everything is written
  bool aborts = false;           ///< leaves with RST, at leaves_at
  bool deaf = false;             ///< does not read any more
  std::uint64_t to_send = 0;
  std::uint64_t sent = 0;
  std::uint64_t to_receive = 0;
  std::uint64_t received = 0;
  Instant opens_at = kNever;  ///< the active side
  Instant next_action = kNever;
  Instant leaves_at = kNever;  ///< for no reason that TCP knows of
};

/// Everybody who uses two hosts' connections: opens, writes, reads and closes them in pieces and
/// with pauses, all from one random source, and checks what comes: each byte once and in order, the
/// end where the peer has ended, and no reset where nobody has a reason for one.
class TcpUsers {
 public:
  TcpUsers(const TcpConditions& conditions, std::array<TcpHost*, 2> hosts,
           std::array<wire::IpAddress, 2> addresses, Random random, Instant start);

  /// Everything that is due on one side between begin_turn() and end_turn().
  void turn(Side side, Instant now);
  [[nodiscard]] Instant next_action() const;
  [[nodiscard]] bool all_finished() const;
  [[nodiscard]] std::span<const TcpUser> all() const { return users_; }
  /// The user of the connection with these ports, if there is one.
  [[nodiscard]] const TcpUser* find(Side side, std::uint16_t local, std::uint16_t remote) const;
  /// How long users have waited although they had something to do, all together.
  [[nodiscard]] Duration paused() const { return paused_; }
  [[nodiscard]] const std::string& violation() const { return violation_; }
  [[nodiscard]] std::string unfinished() const;
  [[nodiscard]] unsigned completed() const { return completed_; }

  /// Told whenever somebody has read.
  std::function<void(const TcpUser&)> on_read;

  /// Nobody waits for longer where things may go wrong: an idle connection whose peer has vanished
  /// is its user's to give up.
  static constexpr Duration kPatience = std::chrono::seconds{25};

  static constexpr std::uint16_t kPort = 443;
  /// For a connection that both sides open: their ephemeral ports.
  static constexpr std::array<std::uint16_t, 2> kCrossingPorts = {40'000, 50'000};

 private:
  void open(TcpUser& user, Instant now);
  void on_news(Side side, const tcp::Readiness& news, Instant now);
  void act(TcpUser& user, Instant now);
  [[nodiscard]] bool read(TcpUser& user);
  [[nodiscard]] bool write(TcpUser& user);
  void settle(TcpUser& user);
  void leave(TcpUser& user, Instant now);
  void finish(TcpUser& user);
  void plan_departure(TcpUser& user, Instant start);
  [[nodiscard]] Duration pause();
  [[nodiscard]] TcpUser& peer_of(const TcpUser& user);
  [[nodiscard]] TcpHost& host(Side side) { return *hosts_[static_cast<std::size_t>(side)]; }
  void violate(const TcpUser& user, std::string_view what);

  const TcpConditions& conditions_;
  std::array<TcpHost*, 2> hosts_;
  std::array<wire::IpAddress, 2> addresses_;
  Random random_;
  std::vector<TcpUser> users_;                            // side A and side B of every connection
  std::map<std::uint16_t, unsigned> connection_of_port_;  // the active side's
  Duration paused_{};
  unsigned completed_ = 0;
  std::string violation_;
};

}  // namespace weir::testing
