#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "l4/base/clock.h"
#include "l4/base/fd.h"
#include "l4/base/result.h"
#include "l4/wire/address.h"

namespace weir::proxy {

/// Why an exchange ended as it did; one per line of the log.
enum class Reason : std::uint8_t {
  kOk,
  kRedirect,
  kFixed,  ///< the route has an answer of its own
  kFault,  ///< that the route injects
  kBadRequest,
  kHeaderTimeout,
  kHeaderTooLarge,
  kBodyTooLarge,
  kBodyTooSlow,
  kNoRoute,
  kMisdirected,
  kNoEndpoint,
  kNoHealthyEndpoint,
  kOverloaded,
  kConnectFailed,
  kUpstreamReset,
  kUpstreamProtocol,
  kUpstreamTls,
  kUpstreamTimeout,
  kRequestTimeout,
  kClientReset,
  kClientTimeout,
  kNotSupported,
};
inline constexpr std::size_t kReasonCount = static_cast<std::size_t>(Reason::kNotSupported) + 1;
std::string_view text_of(Reason reason);
/// No endpoint has answered, or not to the end, and neither the client nor the rule wanted that.
bool is_failure(Reason reason);

/// One finished exchange. Views need to live only during the call that takes the record.
struct AccessRecord {
  std::string_view time{};  ///< of the end, RFC 3339 in UTC; empty: nobody knows what time it is
  wire::Endpoint client{};
  std::optional<wire::Endpoint> proxy{};  ///< who has connected, when it named the client
  std::optional<wire::IpAddress>
      forwarded_for{};  ///< whom trusted proxies have named, when they have
  wire::Endpoint vip{};
  std::string_view tls_version{};
  std::string_view tls_cipher{};
  std::string_view server_name{};
  std::string_view certificate{};
  std::string_view listener{};
  std::string_view protocol{};  ///< "HTTP/1.1"
  std::string_view method{};
  std::string_view host{};
  std::string_view target{};
  std::string_view route{};
  std::string_view rule{};
  std::string_view service{};
  std::optional<wire::Endpoint> endpoint{};  ///< the one that was tried last
  int status = 0;
  Reason reason = Reason::kOk;
  std::string_view detail{};         ///< what exactly, where the reason alone does not say
  std::uint32_t attempts = 0;        ///< endpoints tried
  std::uint64_t request_bytes = 0;   ///< of body
  std::uint64_t response_bytes = 0;  ///< of body
  Duration duration{};               ///< first byte of the request to the last of the response
  Duration upstream_duration{};      ///< request sent to response head
  Duration tls_duration{};           ///< the client's handshake, with its first request
  Duration wait_duration{};          ///< in queues and between attempts
  Duration connect_duration{};       ///< to the endpoint that was tried last
  std::string_view trace_id{};
  std::string_view request_id{};  ///< where somebody was told
};

/// One line of JSON in `out`; returns its length, 0 when it does not fit.
/// Everything a client controls is escaped, so that it can neither break the line nor the JSON.
std::size_t format_record(const AccessRecord& record, std::span<char> out);

/// The log of one worker: a byte ring that the worker fills and the log thread empties. Recording
/// formats in place: no allocation, no lock, no system call. A full ring drops the record and
/// counts.
class AccessLog {
 public:
  explicit AccessLog(std::size_t ring_bytes = kRingBytes);

  /// A fast core writes 15 MB in a second, and whoever empties it may have to wait for a processor.
  static constexpr std::size_t kRingBytes = 4 << 20;

  /// Worker side.
  void record(const AccessRecord& record);
  /// A line with its end; an empty one is dropped.
  void append(std::string_view line);
  [[nodiscard]] std::uint64_t dropped() const {
    return dropped_ + lost_.load(std::memory_order_relaxed);
  }
  /// Lines that drain() has given and that found no way into the file. For who drains.
  void count_lost(std::uint64_t lines) { lost_.fetch_add(lines, std::memory_order_relaxed); }

  /// Log thread side: appends everything that has been recorded to `out`.
  void drain(std::string& out);

 private:
  std::vector<char> ring_;  // size is a power of two
  std::atomic<std::size_t> head_{0};
  std::atomic<std::size_t> tail_{0};
  std::uint64_t dropped_ = 0;
  std::atomic<std::uint64_t> lost_{0};
};

}  // namespace weir::proxy
