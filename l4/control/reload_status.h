#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "l4/base/result.h"
#include "l4/control/exposition.h"

namespace weir::control {

/// What became of the file that a daemon applies without anybody waiting for the answer. One that
/// cannot be applied leaves what runs as it is.
struct ReloadStatus {
  std::string file;  ///< empty: none was read yet
  bool ok = true;    ///< false: the state is that of an earlier file
  std::int64_t at_unix_s = 0;
  std::int64_t last_ok_unix_s = 0;  ///< 0: never
  std::uint64_t revision = 0;       ///< that is in force since
  std::uint64_t ok_total = 0;
  std::uint64_t failures_total = 0;
  std::vector<std::string> diagnostics;  ///< why it failed, one line each

  void succeed(const std::string& applied, std::uint64_t in_force);
  /// Says so in the log as well.
  void fail(const std::string& refused, std::uint64_t in_force, std::vector<std::string> lines);
  /// Somebody has applied a file himself: an earlier failure with it is past.
  void note_applied(const std::string& applied, std::uint64_t in_force);
};

/// Why a daemon does not take other node.l7.addresses from a file by itself: weir-l4 sends to them
/// and weir-l7 listens on them, so that one alone would leave all requests unanswered.
Error other_l7_addresses(const std::string& file);

/// Nothing where no file was read. `prefix` begins the names: "weir", "weir_l7".
void add_reload(Exposition& out, std::string_view prefix, const ReloadStatus& status);

}  // namespace weir::control
