#include "l4/control/reload_status.h"

#include <fmt/format.h>

#include <array>
#include <utility>

#include "l4/base/clock.h"
#include "l4/base/log.h"

namespace weir::control {

void ReloadStatus::succeed(const std::string& applied, std::uint64_t in_force) {
  file = applied;
  ok = true;
  at_unix_s = last_ok_unix_s = unix_now_s();
  revision = in_force;
  diagnostics.clear();
  ++ok_total;
}

void ReloadStatus::fail(const std::string& refused, std::uint64_t in_force,
                        std::vector<std::string> lines) {
  for (const std::string& line : lines)
    log_error("{}", line);
  log_error("{} was not applied: revision {} stays in force", refused, in_force);
  file = refused;
  ok = false;
  at_unix_s = unix_now_s();
  revision = in_force;
  diagnostics = std::move(lines);
  ++failures_total;
}

void ReloadStatus::note_applied(const std::string& applied, std::uint64_t in_force) {
  if (!ok && file == applied) succeed(applied, in_force);
}

Error other_l7_addresses(const std::string& file) {
  return Error{
      ErrorCode::kConflict,
      fmt::format("{} has other node.l7.addresses than are in use, and both daemons have to "
                  "change them at once",
                  file),
      fmt::format("weir apply -f {}", file)};
}

void add_reload(Exposition& out, std::string_view prefix, const ReloadStatus& status) {
  if (status.file.empty()) return;
  const std::string name = fmt::format("{}_config_reload", prefix);
  out.family(name + "_success", MetricType::kGauge,
             "Whether the file that is read without being asked to was applied the last time");
  out.sample(std::uint64_t{status.ok ? 1U : 0U});
  out.family(name + "_success_timestamp_seconds", MetricType::kGauge,
             "When that file was last applied, since 1970; 0 is never");
  out.sample(static_cast<std::uint64_t>(status.last_ok_unix_s));
  out.family(name + "s_total", MetricType::kCounter, "Readings of that file, by what became of it");
  out.sample(std::array{MetricLabel{"result", "ok"}}, status.ok_total);
  out.sample(std::array{MetricLabel{"result", "failed"}}, status.failures_total);
}

}  // namespace weir::control
