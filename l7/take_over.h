#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "l4/base/clock.h"
#include "l4/base/result.h"
#include "l4/control/admin.h"
#include "l4/control/lane.h"
#include "l4/wire/address.h"
#include "l7/tcp/stack.h"
#include "l7/watched_process.h"

/// How one weir-l7 takes over from another without a connection lost:
///
///   new → old: hold: what is applied from now on would be lost, so the old one refuses it
///   new: reads the configuration, whose own addresses must be the old one's
///   new: opens the lane that is not in use, and is ready to serve
///   new → weir-l4: packets go into my lane now
///   new → old: retire
///   old: stops serving its API, and leaves the socket's file
///   old: ends connections as it answers their requests
///   new: serves the API; hands what belongs to no connection of its own to the old one
///   old: ends with its last connection, or when the time is up
namespace weir::l7 {

using control::Lane;

/// "weir-w0", "weir-wg0".
std::string device_of(const std::string& prefix, Lane lane, std::uint32_t worker);

/// Connections to endpoints are opened from ports that say whose they are, so that the two
/// processes cannot open the same one.
tcp::StackOptions stack_options(Lane lane);

/// The lane in use: what weir-l4 says, or, while it does not answer, the file says, or blue.
Lane find_lane(const control::AdminClient& balancer, const std::filesystem::path& file);
/// Has weir-l4 send everything into this lane.
Result<void> use_lane(const control::AdminClient& balancer, Lane lane);
/// For find_lane().
Result<void> remember_lane(const std::filesystem::path& file, Lane lane);

/// The weir-l7 that is to be taken over from.
class Predecessor {
 public:
  /// Whoever serves this socket; nothing if nobody does.
  static Result<std::optional<Predecessor>> find(const std::string& socket);

  [[nodiscard]] Lane lane() const { return lane_; }
  [[nodiscard]] pid_t pid() const { return process_.pid(); }
  /// Nothing is to be changed there any more, unless this process ends before it has taken over.
  [[nodiscard]] Result<void> hold() const;
  /// What this process would speak from must be what that one does: weir-l4 sends packets there.
  /// After hold(), so that it stays so.
  [[nodiscard]] Result<void> check_addresses(const std::vector<wire::Prefix>& ours) const;
  /// Its connections may last so long. One that does not answer is told by SIGTERM.
  void retire(Duration longest) const;
  [[nodiscard]] bool has_ended() const { return process_.has_ended(); }

 private:
  Predecessor(control::AdminClient client, Lane lane, WatchedProcess process)
      : client_{std::move(client)}, lane_{lane}, process_{std::move(process)} {}

  control::AdminClient client_;
  Lane lane_;
  WatchedProcess process_;
};

}  // namespace weir::l7
