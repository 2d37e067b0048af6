#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>

#include "l4/base/clock.h"
#include "l4/base/result.h"
#include "l4/wire/address.h"

/// What `stack_host` (our stack) and `kernel_peer` (the kernel's) do alike, so that the two are
/// compared under the same load: roles, options, and how a rate and a latency are measured.
namespace weir::bench {

/// Servers first. Each client has a server that it is made for.
enum class Role : std::uint8_t {
  kEcho,      ///< a reply of reply_bytes for every request_bytes
  kSink,      ///< reads and throws away
  kSource,    ///< writes as long as somebody reads, or `bytes`
  kHttp,      ///< a 200 with reply_bytes for every head that ends, kept alive
  kRelay,     ///< every accepted connection is spliced to one to `peer`
  kRequests,  ///< "rr": each connection in a closed loop of request and reply
  kConnects,  ///< "crr": connect, request, reply, close
  kBulk,      ///< writes (to a sink), or with `receive` reads (from a source)
  kIdle,      ///< opens, holds, and asks each one question at the end
};

[[nodiscard]] Result<Role> parse_role(std::string_view text);
[[nodiscard]] std::string_view text_of(Role role);
[[nodiscard]] bool is_client(Role role);

struct LoadOptions {
  Role role = Role::kEcho;
  wire::IpAddress local;      ///< own address: where servers listen and clients come from
  wire::Endpoint peer;        ///< clients and relay: the server, by its first port
  std::uint16_t port = 9000;  ///< servers: the first port to listen on
  std::uint16_t ports = 1;    ///< so many in a row; clients go round
  std::uint32_t connections = 64;
  std::uint32_t idle = 0;  ///< of further connections that are opened first and only held
  std::uint32_t request_bytes = 64;
  std::uint32_t reply_bytes = 256;
  std::uint64_t bytes = 0;       ///< source: then the end; 0: as long as somebody reads
  std::uint32_t rate_per_s = 0;  ///< rr, crr: so many a second, whatever happens to others
  std::uint64_t count = 0;       ///< crr: so many and then the end, whatever `duration` says
  bool receive = false;          ///< bulk: read instead of write
  bool http = false;       ///< rr: requests of HTTP; replies are as long as the first one of all
  bool websocket = false;  ///< rr and echo: a handshake first, then frames of those sizes
  bool announce = false;   ///< clients: say on standard output when everything is open
  Duration warm_up = std::chrono::milliseconds{200};
  Duration duration = std::chrono::seconds{3};
  Duration patience = std::chrono::seconds{3};  ///< crr: later than that has failed
};

/// Durations in buckets whose width is about 3 % of their value, from 1 ns to 18 minutes. Adding
/// one is a few instructions and allocates nothing.
class LatencyHistogram {
 public:
  void add(Duration value);
  /// The value that the share `quantile` of all lies below; zero when there are none.
  [[nodiscard]] Duration quantile(double quantile) const;
  [[nodiscard]] std::uint64_t count() const { return count_; }
  void clear();

 private:
  static constexpr unsigned kSubBits = 5;
  static constexpr std::size_t kSub = 1U << kSubBits;
  static constexpr std::size_t kBuckets = (41 - kSubBits) * kSub;
  static std::size_t bucket_of(std::uint64_t value);
  static std::uint64_t value_of(std::size_t bucket);

  std::array<std::uint64_t, kBuckets> counts_{};
  std::uint64_t count_ = 0;
};

/// One client's measurement: nothing counts before everything is open and the warm-up is over, and
/// nothing after the end. The caller tells the time and asks is_over().
class Measurement {
 public:
  explicit Measurement(const LoadOptions& options) : options_{options} {}

  /// Everything is open: the warm-up begins.
  void begin(Instant now);
  /// Ends before its time, for who counts something else.
  void end(Instant now);
  /// Once per turn.
  void advance(Instant now) {
    if (phase_ != Phase::kOpening && now >= next_) step(now);
  }
  [[nodiscard]] bool has_begun() const { return phase_ != Phase::kOpening; }
  [[nodiscard]] bool is_counting() const { return phase_ == Phase::kCounting; }
  [[nodiscard]] bool is_over() const { return phase_ == Phase::kOver; }
  [[nodiscard]] Instant next_deadline() const { return has_begun() ? next_ : kNever; }

  void add_operation(Duration latency) {
    if (is_counting()) latencies_.add(latency);
  }
  void add_bytes(std::uint64_t count) {
    if (is_counting()) bytes_ += count;
  }
  void add_failure() { ++failures_; }
  [[nodiscard]] std::uint64_t failures() const { return failures_; }
  [[nodiscard]] std::uint64_t operations() const { return latencies_.count(); }
  [[nodiscard]] Duration latency(double quantile) const { return latencies_.quantile(quantile); }

  /// Rates, latencies in microseconds, and the processor time of this thread.
  [[nodiscard]] nlohmann::ordered_json report() const;

 private:
  enum class Phase : std::uint8_t { kOpening, kWarmingUp, kCounting, kOver };
  void step(Instant now);

  const LoadOptions& options_;
  Phase phase_ = Phase::kOpening;
  Instant next_ = kNever;
  Instant began_;
  Duration elapsed_{};
  Duration processor_began_{};
  Duration processor_{};
  LatencyHistogram latencies_;
  std::uint64_t bytes_ = 0;
  std::uint64_t failures_ = 0;
};

/// One line of JSON on standard output, at once: {"event": name, …}.
void print_event(std::string_view name, nlohmann::ordered_json fields);

/// Processor time of the calling thread.
[[nodiscard]] Duration thread_processor_time();

/// Resident memory of this process, kB.
[[nodiscard]] std::uint64_t resident_kb();

/// The head and body that answers every request of the role http.
[[nodiscard]] std::string http_reply(std::uint32_t body_bytes);

/// A head without a body, for bench.example.
[[nodiscard]] std::string http_request();

/// What opens a WebSocket, and the answer to it (RFC 6455, section 1.3: key and accept are its
/// own).
[[nodiscard]] std::string websocket_request();
[[nodiscard]] std::string websocket_reply();

/// A binary frame of `bytes` bytes, head included, from 8 to 65,536: masked, as clients send them,
/// with a mask of zeros.
[[nodiscard]] std::string websocket_frame(std::uint32_t bytes, bool is_masked);

/// Finds the ends of heads, "\r\n\r\n", in a stream that comes in pieces.
class HeadEnds {
 public:
  explicit HeadEnds(std::uint8_t matched = 0) : matched_{matched} {}
  /// How many heads end in these bytes.
  [[nodiscard]] std::uint32_t count(std::span<const std::byte> bytes);
  /// How much of an end the last piece ended with, 0 to 3: all that there is to keep.
  [[nodiscard]] std::uint8_t matched() const { return matched_; }

 private:
  std::uint8_t matched_;
};

}  // namespace weir::bench
