#include "l7/proxy/access_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>

#include "l7/proxy/address_text.h"

namespace weir::proxy {
namespace {

/// Longest text of a member; a longer one loses its tail, visibly.
constexpr std::size_t kTextMax = 1024;
/// A line always fits: of what a client controls, the target and the method can be kTextMax long,
/// host and server name 255, and a byte takes six when it is escaped; our own names are shorter.
constexpr std::size_t kLineMax = 24 * 1024;
static_assert(kLineMax > 6 * (2 * kTextMax + 2 * 256) + 4096);

/// Writes JSON members into a fixed buffer and remembers whether they fitted.
class LineWriter {
 public:
  explicit LineWriter(std::span<char> out) : out_{out} {}

  void text(std::string_view name, std::string_view value) {
    begin(name);
    put('"');
    // Runs of what needs no escape, which is nearly always all of it.
    for (std::string_view rest = value.substr(0, kTextMax); !rest.empty();) {
      const auto special = std::find_if_not(rest.begin(), rest.end(), is_plain);
      const auto size = static_cast<std::size_t>(special - rest.begin());
      append(rest.substr(0, size));
      if (special != rest.end()) escape(*special);
      rest.remove_prefix(std::min(size + 1, rest.size()));
    }
    if (value.size() > kTextMax) append("…");
    put('"');
  }

  template <typename Number>
  void number(std::string_view name, Number value) {
    begin(name);
    std::array<char, 24> digits;  // of 64 bits and a sign
    const auto end = std::to_chars(digits.begin(), digits.end(), value).ptr;
    append({digits.data(), static_cast<std::size_t>(end - digits.begin())});
  }

  void put(char c) {
    if (length_ < out_.size())
      out_[length_++] = c;
    else
      overflow_ = true;
  }

  [[nodiscard]] std::size_t length() const { return overflow_ ? 0 : length_; }

 private:
  void begin(std::string_view name) {
    put(length_ == 0 ? '{' : ',');
    put('"');
    append(name);
    append("\":");
  }

  static bool is_plain(char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte >= 0x20 && byte < 0x7f && c != '"' && c != '\\';
  }

  void append(std::string_view text) {
    if (text.size() > out_.size() - length_) {
      overflow_ = true;
      return;
    }
    std::memcpy(out_.data() + length_, text.data(), text.size());
    length_ += text.size();
  }

  void escape(char c) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      put('\\');
      put(c);
    } else if (byte < 0x20 || byte >= 0x7f) {
      // Bytes that need not be UTF-8 are written as the code point of the same number.
      char digits[8];
      const auto end = fmt::format_to_n(digits, sizeof(digits), "\\u{:04x}", byte).out;
      append({digits, static_cast<std::size_t>(end - digits)});
    } else {
      put(c);
    }
  }

  std::span<char> out_;
  std::size_t length_ = 0;
  bool overflow_ = false;
};

}  // namespace

std::string_view text_of(Reason reason) {
  switch (reason) {
    case Reason::kOk:
      return "ok";
    case Reason::kRedirect:
      return "redirect";
    case Reason::kFixed:
      return "fixed_response";
    case Reason::kFault:
      return "fault";
    case Reason::kBadRequest:
      return "bad_request";
    case Reason::kHeaderTimeout:
      return "header_timeout";
    case Reason::kHeaderTooLarge:
      return "header_too_large";
    case Reason::kBodyTooLarge:
      return "body_too_large";
    case Reason::kBodyTooSlow:
      return "body_too_slow";
    case Reason::kNoRoute:
      return "no_route";
    case Reason::kMisdirected:
      return "misdirected";
    case Reason::kNoEndpoint:
      return "no_endpoint";
    case Reason::kNoHealthyEndpoint:
      return "no_healthy_endpoint";
    case Reason::kOverloaded:
      return "overloaded";
    case Reason::kConnectFailed:
      return "connect_failed";
    case Reason::kUpstreamReset:
      return "upstream_reset";
    case Reason::kUpstreamProtocol:
      return "upstream_protocol";
    case Reason::kUpstreamTls:
      return "upstream_tls";
    case Reason::kUpstreamTimeout:
      return "upstream_timeout";
    case Reason::kRequestTimeout:
      return "request_timeout";
    case Reason::kClientReset:
      return "client_reset";
    case Reason::kClientTimeout:
      return "client_timeout";
    case Reason::kNotSupported:
      return "not_supported";
  }
  return "unknown";
}

bool is_failure(Reason reason) {
  switch (reason) {
    case Reason::kNoEndpoint:
    case Reason::kNoHealthyEndpoint:
    case Reason::kOverloaded:
    case Reason::kConnectFailed:
    case Reason::kUpstreamReset:
    case Reason::kUpstreamProtocol:
    case Reason::kUpstreamTls:
    case Reason::kUpstreamTimeout:
    case Reason::kRequestTimeout:
      return true;
    case Reason::kOk:
    case Reason::kRedirect:
    case Reason::kFixed:
    case Reason::kFault:
    case Reason::kBadRequest:
    case Reason::kHeaderTimeout:
    case Reason::kHeaderTooLarge:
    case Reason::kBodyTooLarge:
    case Reason::kBodyTooSlow:
    case Reason::kNoRoute:
    case Reason::kMisdirected:
    case Reason::kClientReset:
    case Reason::kClientTimeout:
    case Reason::kNotSupported:
      return false;
  }
  return false;
}

std::size_t format_record(const AccessRecord& record, std::span<char> out) {
  const auto microseconds = [](Duration duration) {
    return std::chrono::duration_cast<std::chrono::microseconds>(duration).count();
  };
  LineWriter line{out};
  if (!record.time.empty()) line.text("time", record.time);
  line.text("client", AddressText{record.client}.view());
  if (record.proxy) line.text("proxy", AddressText{*record.proxy}.view());
  if (record.forwarded_for) line.text("forwarded_for", AddressText{*record.forwarded_for}.view());
  line.text("vip", AddressText{record.vip}.view());
  line.text("tls", record.tls_version);
  line.text("cipher", record.tls_cipher);
  line.text("sni", record.server_name);
  line.text("certificate", record.certificate);
  line.text("listener", record.listener);
  line.text("protocol", record.protocol);
  line.text("method", record.method);
  line.text("host", record.host);
  line.text("target", record.target);
  line.text("route", record.route);
  line.text("rule", record.rule);
  line.text("service", record.service);
  line.text("endpoint", record.endpoint ? AddressText{*record.endpoint}.view() : "");
  line.number("status", record.status);
  line.text("reason", text_of(record.reason));
  line.text("detail", record.detail);
  line.number("attempts", record.attempts);
  line.number("request_bytes", record.request_bytes);
  line.number("response_bytes", record.response_bytes);
  line.number("duration_us", microseconds(record.duration));
  line.number("upstream_us", microseconds(record.upstream_duration));
  const auto phase = [&](std::string_view name, Duration duration) {
    if (duration > Duration{}) line.number(name, microseconds(duration));
  };
  phase("tls_us", record.tls_duration);
  phase("wait_us", record.wait_duration);
  phase("connect_us", record.connect_duration);
  if (!record.trace_id.empty()) line.text("trace", record.trace_id);
  if (!record.request_id.empty()) line.text("request_id", record.request_id);
  line.put('}');
  line.put('\n');
  return line.length();
}

AccessLog::AccessLog(std::size_t ring_bytes) : ring_(std::bit_ceil(ring_bytes)) {}

void AccessLog::record(const AccessRecord& record) {
  std::array<char, kLineMax> line;
  append({line.data(), format_record(record, line)});
}

void AccessLog::append(std::string_view line) {
  const std::size_t length = line.size();
  const std::size_t tail = tail_.load(std::memory_order_relaxed);  // only the worker writes it
  const std::size_t used = tail - head_.load(std::memory_order_acquire);
  if (length == 0 || ring_.size() - used < length) {
    ++dropped_;
    return;
  }
  const std::size_t at = tail & (ring_.size() - 1);
  const std::size_t first = std::min(length, ring_.size() - at);
  std::memcpy(ring_.data() + at, line.data(), first);
  std::memcpy(ring_.data(), line.data() + first, length - first);
  // Release: the log thread that sees the new tail sees the bytes.
  tail_.store(tail + length, std::memory_order_release);
}

void AccessLog::drain(std::string& out) {
  const std::size_t head = head_.load(std::memory_order_relaxed);  // only the log thread writes it
  const std::size_t used = tail_.load(std::memory_order_acquire) - head;
  const std::size_t at = head & (ring_.size() - 1);
  const std::size_t first = std::min(used, ring_.size() - at);
  out.append(ring_.data() + at, first);
  out.append(ring_.data(), used - first);
  // Release: the worker that sees the new head may overwrite the bytes.
  head_.store(head + used, std::memory_order_release);
}

}  // namespace weir::proxy
