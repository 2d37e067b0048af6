#include "l4/control/probe_http.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "l4/base/bytes.h"
#include "l4/control/health_json.h"
#include "l4/control/units.h"

namespace weir::control {
namespace {

constexpr std::size_t kHeadBytesMax = std::size_t{16} * 1024;
/// Interim answers (RFC 9110, section 15.2) before the final one; we ask for none.
constexpr unsigned kInterimMax = 8;
constexpr std::string_view kVersion = "HTTP/1.";

/// RFC 9110, section 5.6.2.
bool is_token(std::string_view text) {
  constexpr std::string_view kSymbols = "!#$%&'*+-.^_`|~";
  return !text.empty() && std::ranges::all_of(text, [&](char character) {
    return is_digit(character) || (character >= 'a' && character <= 'z') ||
           (character >= 'A' && character <= 'Z') || kSymbols.find(character) != kSymbols.npos;
  });
}

bool has_control_characters(std::string_view text) {
  return std::ranges::any_of(text, [](char character) {
    const auto byte = static_cast<unsigned char>(character);
    return (byte < 0x20 && character != '\t') || byte == 0x7f;
  });
}

/// HTTP-version SP 3DIGIT SP [ reason-phrase ] (RFC 9112, section 4). The space after the status is
/// often left out where there is no reason, which is taken. Nothing: it is no status line.
std::optional<std::uint16_t> status_of(std::string_view line) {
  constexpr std::size_t kStatusAt = kVersion.size() + 2;
  constexpr std::size_t kStatusEnd = kStatusAt + 3;
  if (line.size() < kStatusEnd || !line.starts_with(kVersion)) return std::nullopt;
  if (!is_digit(line[kVersion.size()]) || line[kVersion.size() + 1] != ' ') return std::nullopt;
  std::uint16_t status = 0;
  for (const char digit : line.substr(kStatusAt, 3)) {
    if (!is_digit(digit)) return std::nullopt;
    status = static_cast<std::uint16_t>(status * 10 + (digit - '0'));
  }
  if (line.size() > kStatusEnd && line[kStatusEnd] != ' ') return std::nullopt;
  if (status < 100 || has_control_characters(line)) return std::nullopt;
  return status;
}

/// field-name ":" OWS field-value OWS (RFC 9112, section 5); folded lines (5.2) are refused.
bool is_field(std::string_view line) {
  const std::size_t colon = line.find(':');
  return colon != line.npos && is_token(line.substr(0, colon)) &&
         !has_control_characters(line.substr(colon + 1));
}

class HttpExchange final : public ProbeExchange {
 public:
  HttpExchange(const HealthCheck& check, std::string_view authority)
      : output_{fmt::format("GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: weir-health\r\n"
                            "Accept: */*\r\nConnection: close\r\n\r\n",
                            check.path, authority)},
        statuses_{check.statuses} {}

  std::string take_output() override { return std::exchange(output_, {}); }

  std::optional<ProbeVerdict> on_bytes(std::span<const std::byte> bytes) override {
    head_ += as_text(bytes.first(std::min(bytes.size(), kHeadBytesMax + 1 - head_bytes_)));
    head_bytes_ += bytes.size();
    std::size_t start = 0;
    for (;;) {
      const std::string_view rest = std::string_view{head_}.substr(start);
      // A server of another protocol is told at its first bytes, not after the timeout.
      if (status_ == 0 && rest.substr(0, kVersion.size()) != kVersion.substr(0, rest.size()))
        return failure(fmt::format("the answer is not HTTP/1.1: {}", quoted_start(rest)));
      const std::size_t end = rest.find('\n');
      if (end == rest.npos) break;
      if (auto verdict = on_line(rest.substr(0, end))) return verdict;
      start += end + 1;
    }
    head_.erase(0, start);
    if (head_bytes_ > kHeadBytesMax)
      return failure(
          fmt::format("the header of the answer is longer than {} bytes", kHeadBytesMax));
    return std::nullopt;
  }

  ProbeVerdict on_end() override {
    if (head_bytes_ == 0) return failure("the connection was closed without an answer");
    return failure("the connection was closed within the header of the answer");
  }

 private:
  std::optional<ProbeVerdict> on_line(std::string_view line) {
    if (!line.ends_with('\r'))
      return failure(
          fmt::format("a line of the answer does not end in CR LF: {}", quoted_start(line)));
    line.remove_suffix(1);
    if (status_ == 0) {
      const auto status = status_of(line);
      if (!status)
        return failure(
            fmt::format("the answer has no HTTP/1.1 status line: {}", quoted_start(line)));
      status_ = *status;
      return std::nullopt;
    }
    if (!line.empty()) {
      if (is_field(line)) return std::nullopt;
      return failure(fmt::format("malformed header field in the answer: {}", quoted_start(line)));
    }
    // 101 is final: the connection would speak another protocol from here on.
    constexpr std::uint16_t kSwitching = 101;
    if (status_ >= 200 || status_ == kSwitching) return judged();
    if (++interim_ > kInterimMax)
      return failure(fmt::format("more than {} interim answers", kInterimMax));
    status_ = 0;
    return std::nullopt;
  }

  [[nodiscard]] ProbeVerdict judged() const {
    const bool is_expected = std::ranges::any_of(statuses_, [&](const StatusRange& range) {
      return status_ >= range.first && status_ <= range.last;
    });
    if (is_expected) return {true, fmt::format("status {}", status_)};
    return failure(fmt::format("status {}, expected {}", status_, status_ranges_text(statuses_)));
  }

  std::string output_;
  std::vector<StatusRange> statuses_;
  std::string head_;            // what is not a whole line yet
  std::size_t head_bytes_ = 0;  // of all the lines so far
  std::uint16_t status_ = 0;    // 0: the status line is still to come
  unsigned interim_ = 0;
};

}  // namespace

std::string status_ranges_text(const std::vector<StatusRange>& ranges) {
  std::vector<std::string> texts;
  for (const StatusRange& range : ranges)
    texts.push_back(status_text(range));
  return fmt::format("{}", fmt::join(texts, ", "));
}

std::unique_ptr<ProbeExchange> make_http_exchange(const HealthCheck& check, std::string authority) {
  return std::make_unique<HttpExchange>(check, authority);
}

}  // namespace weir::control
