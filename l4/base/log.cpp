#include "l4/base/log.h"

#include <fmt/chrono.h>
#include <unistd.h>

#include <atomic>
#include <iterator>

#include "l4/base/json_text.h"

namespace weir {
namespace {

std::atomic<LogLevel> threshold{LogLevel::kInfo};

/// Written at start-up alone, see set_log_format().
LogStyle& style() {
  static LogStyle the_style;
  return the_style;
}

std::string_view name_of(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      return "error";
  }
  return "unknown";
}

std::string escaped(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
      fmt::format_to(std::back_inserter(out), "\\x{:02x}", static_cast<unsigned char>(c));
    else
      out.push_back(c);
  }
  return out;
}

std::string time_text(std::chrono::system_clock::time_point time) {
  const auto milliseconds =
      std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count() % 1000;
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03d}Z",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(time)), milliseconds);
}

void append_member(std::string& line, std::string_view name, std::string_view value) {
  line += ',';
  append_json_text(line, name);
  line += ':';
  append_json_text(line, value);
}

}  // namespace

Result<LogFormat> parse_log_format(std::string_view word) {
  if (word == "text") return LogFormat::kText;
  if (word == "json") return LogFormat::kJson;
  return Error{ErrorCode::kInvalid, fmt::format("the log format is '{}'", word),
               "it may be text or json"};
}

void set_log_threshold(LogLevel level) { threshold.store(level, std::memory_order_relaxed); }

void set_log_format(LogFormat format, std::string program) {
  style() = {.format = format, .program = std::move(program), .pid = ::getpid()};
}

std::string log_text(const LogStyle& style, std::chrono::system_clock::time_point time,
                     LogLevel level, std::string_view message, std::span<const LogField> fields) {
  if (style.format == LogFormat::kText) {
    std::string line = fmt::format("{} {} {}", time_text(time), name_of(level), escaped(message));
    for (const LogField& field : fields)
      line += fmt::format(" {}={}", field.name, escaped(field.value));
    return line + "\n";
  }
  std::string line = fmt::format(R"({{"time":"{}","level":"{}")", time_text(time), name_of(level));
  append_member(line, "program", style.program);
  line += fmt::format(R"(,"pid":{})", style.pid);
  append_member(line, "message", message);
  for (const LogField& field : fields)
    append_member(line, field.name, field.value);
  return line + "}\n";
}

void log_line(LogLevel level, std::string_view message, std::span<const LogField> fields) {
  if (level < threshold.load(std::memory_order_relaxed)) return;
  const std::string line =
      log_text(style(), std::chrono::system_clock::now(), level, message, fields);
  // One write per line, so that lines of several threads do not mix. A log that cannot be written
  // has nobody left to tell.
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace weir
