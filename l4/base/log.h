#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

namespace weir {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

/// Everything below is dropped. Set once at start-up.
void set_log_threshold(LogLevel level);

/// Writes one line to standard error: time in UTC, level, message. Control plane only: no packet or
/// request ever logs. Line breaks and control characters in the message are escaped, so that
/// nobody can forge a line.
void log_line(LogLevel level, std::string_view message);

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
