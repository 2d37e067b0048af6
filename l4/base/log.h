#pragma once

#include <fmt/format.h>

#include <chrono>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "l4/base/result.h"

namespace weir {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

/// How a line is written: for people, or one JSON object for programs.
///
///   2026-01-05T12:00:00.250Z info weir-l4 is up socket=/run/weir/l4.sock
///   {"time":"2026-01-05T12:00:00.250Z","level":"info","program":"weir-l4","pid":812,
///    "message":"weir-l4 is up","socket":"/run/weir/l4.sock"}
enum class LogFormat { kText, kJson };

/// "text" or "json"; anything else is kInvalid.
Result<LogFormat> parse_log_format(std::string_view word);

/// What a line says besides its message. A name is a lower-case word, and none of time, level,
/// program, pid and message.
struct LogField {
  std::string_view name;
  std::string value;
};

/// Everything below is dropped. Set once at start-up.
void set_log_threshold(LogLevel level);

/// Set once at start-up, before other threads are there. `program` stands in every JSON line.
void set_log_format(LogFormat format, std::string program);

/// Writes one line to standard error: time in UTC (RFC 3339), level, message, fields. Control plane
/// only: no packet or request ever logs. Line breaks, control characters and, in JSON, what is no
/// UTF-8 are escaped, so that nobody can forge a line or break a reader.
void log_line(LogLevel level, std::string_view message, std::span<const LogField> fields = {});

/// What log_line() writes, line break included.
struct LogStyle {
  LogFormat format = LogFormat::kText;
  std::string program = {};
  int pid = 0;
};
std::string log_text(const LogStyle& style, std::chrono::system_clock::time_point time,
                     LogLevel level, std::string_view message, std::span<const LogField> fields);

template <typename... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::kInfo, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::kWarning, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::kError, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace weir
