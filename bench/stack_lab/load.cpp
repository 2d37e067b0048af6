#include "bench/stack_lab/load.h"

#include <fmt/format.h>
#include <time.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

namespace weir::bench {
namespace {

constexpr std::array<std::pair<Role, std::string_view>, 9> kRoles = {{
    {Role::kEcho, "echo"},
    {Role::kSink, "sink"},
    {Role::kSource, "source"},
    {Role::kHttp, "http"},
    {Role::kRelay, "relay"},
    {Role::kRequests, "rr"},
    {Role::kConnects, "crr"},
    {Role::kBulk, "bulk"},
    {Role::kIdle, "idle"},
}};

double seconds_of(Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

Result<Role> parse_role(std::string_view text) {
  for (const auto& [role, name] : kRoles)
    if (name == text) return role;
  return Error{ErrorCode::kInvalid, fmt::format("'{}' is no role", text),
               "expected echo, sink, source, http, relay, rr, crr, bulk or idle"};
}

std::string_view text_of(Role role) {
  for (const auto& [known, name] : kRoles)
    if (known == role) return name;
  return "";
}

bool is_client(Role role) { return role >= Role::kRequests; }

// ---- histogram ----------------------------------------------------------------------------------

std::size_t LatencyHistogram::bucket_of(std::uint64_t value) {
  if (value < kSub) return static_cast<std::size_t>(value);
  const unsigned shift = static_cast<unsigned>(std::bit_width(value)) - kSubBits - 1;
  const std::size_t bucket = (shift + 1) * kSub + ((value >> shift) & (kSub - 1));
  return std::min(bucket, kBuckets - 1);
}

std::uint64_t LatencyHistogram::value_of(std::size_t bucket) {
  if (bucket < kSub) return bucket;
  const std::size_t shift = bucket / kSub - 1;
  const std::uint64_t low = (kSub + bucket % kSub) << shift;
  return low + ((std::uint64_t{1} << shift) >> 1);
}

void LatencyHistogram::add(Duration value) {
  ++counts_[bucket_of(static_cast<std::uint64_t>(std::max<Duration::rep>(value.count(), 0)))];
  ++count_;
}

Duration LatencyHistogram::quantile(double quantile) const {
  const auto wanted = static_cast<std::uint64_t>(std::ceil(static_cast<double>(count_) * quantile));
  std::uint64_t seen = 0;
  for (std::size_t bucket = 0; bucket < kBuckets; ++bucket) {
    seen += counts_[bucket];
    if (seen > 0 && seen >= wanted) return Duration{static_cast<Duration::rep>(value_of(bucket))};
  }
  return Duration{0};
}

void LatencyHistogram::clear() {
  counts_.fill(0);
  count_ = 0;
}

// ---- measurement --------------------------------------------------------------------------------

void Measurement::begin(Instant now) {
  phase_ = Phase::kWarmingUp;
  next_ = now + options_.warm_up;
  if (!options_.announce) return;
  print_event("open", {{"connections", options_.connections}, {"idle", options_.idle}});
}

void Measurement::step(Instant now) {
  if (phase_ == Phase::kWarmingUp) {
    phase_ = Phase::kCounting;
    began_ = now;
    next_ = now + options_.duration;
    processor_began_ = thread_processor_time();
  } else if (phase_ == Phase::kCounting) {
    phase_ = Phase::kOver;
    next_ = kNever;
    elapsed_ = now - began_;
    processor_ = thread_processor_time() - processor_began_;
  }
}

void Measurement::end(Instant now) {
  if (phase_ == Phase::kWarmingUp) step(now);
  if (phase_ == Phase::kCounting) step(now);
}

nlohmann::ordered_json Measurement::report() const {
  const double elapsed = std::max(seconds_of(elapsed_), 1e-9);
  const auto microseconds = [&](double quantile) {
    return std::round(1e-2 * static_cast<double>(latencies_.quantile(quantile).count())) / 10;
  };
  return {{"role", text_of(options_.role)},
          {"connections", options_.connections},
          {"seconds", seconds_of(elapsed_)},
          {"operations", latencies_.count()},
          {"failures", failures_},
          {"rate_per_s", static_cast<double>(latencies_.count()) / elapsed},
          {"p50_us", microseconds(0.5)},
          {"p99_us", microseconds(0.99)},
          {"p999_us", microseconds(0.999)},
          {"bytes", bytes_},
          {"gbit_per_s", static_cast<double>(bytes_) * 8e-9 / elapsed},
          {"processor", seconds_of(processor_) / elapsed}};
}

// ---- the process --------------------------------------------------------------------------------

void print_event(std::string_view name, nlohmann::ordered_json fields) {
  nlohmann::ordered_json event{{"event", name}};
  event.update(fields);
  fmt::print("{}\n", event.dump());
  std::fflush(stdout);
}

Duration thread_processor_time() {
  timespec used{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  return std::chrono::seconds{used.tv_sec} + Duration{used.tv_nsec};
}

std::uint64_t resident_kb() {
  std::ifstream statm{"/proc/self/statm"};
  std::uint64_t size = 0;
  std::uint64_t resident = 0;
  statm >> size >> resident;
  return resident * static_cast<std::uint64_t>(::getpagesize()) / 1024;
}

std::string http_reply(std::uint32_t body_bytes) {
  std::string reply = fmt::format(
      "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", body_bytes);
  reply.append(body_bytes, 'w');
  return reply;
}

std::string http_request() { return "GET / HTTP/1.1\r\nHost: bench.example\r\n\r\n"; }

std::string websocket_request() {
  return "GET /ws HTTP/1.1\r\nHost: bench.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
}

std::string websocket_reply() {
  return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
         "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
}

std::string websocket_frame(std::uint32_t bytes, bool is_masked) {
  constexpr char kBinary = '\x82';
  constexpr std::uint32_t kMaskBytes = 4;
  constexpr std::uint32_t kShortMax = 125;
  const std::uint32_t mask_bytes = is_masked ? kMaskBytes : 0;
  const auto mask_bit = static_cast<std::uint8_t>(is_masked ? 0x80 : 0);
  const std::uint32_t payload = bytes - 2 - mask_bytes;
  std::string frame{kBinary};
  if (payload <= kShortMax) {
    frame.push_back(static_cast<char>(mask_bit | payload));
  } else {
    const std::uint32_t length = payload - 2;
    frame.push_back(static_cast<char>(mask_bit | 126));
    frame.push_back(static_cast<char>(length >> 8));
    frame.push_back(static_cast<char>(length));
  }
  frame.append(mask_bytes, '\0');
  frame.resize(bytes, 'w');
  return frame;
}

std::uint32_t HeadEnds::count(std::span<const std::byte> bytes) {
  std::uint32_t ends = 0;
  for (const std::byte byte : bytes) {
    const char wanted = matched_ % 2 == 0 ? '\r' : '\n';
    if (byte == std::byte(wanted)) {
      if (++matched_ == 4) {
        matched_ = 0;
        ++ends;
      }
    } else {
      matched_ = byte == std::byte{'\r'} ? 1 : 0;
    }
  }
  return ends;
}

}  // namespace weir::bench
