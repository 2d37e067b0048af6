#include "tests/sim/tcp_conditions.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace weir::testing {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint64_t kFrameBits = 1514 * 8;
constexpr std::uint32_t kChunkBytes = 4096;

Plot draw_plot(Random& random) {
  const std::uint32_t dice = random.below(100);
  if (dice < 60) return Plot::kTransfer;
  if (dice < 68) return Plot::kPathMtu;
  if (dice < 74) return Plot::kCrossing;
  if (dice < 89) return Plot::kTrouble;
  if (dice < 96) return Plot::kVanish;
  return Plot::kBlackHole;
}

LinkOptions draw_link(Random& random) {
  LinkOptions link;
  const std::array<int, 5> delays_us = {5, 50, 500, 5'000, 50'000};
  link.delay = microseconds{delays_us[random.below(5)]};
  if (random.chance(0.7)) link.loss = random.below(100) / 1000.0;
  if (random.chance(0.2)) {
    link.burst.begin = random.below(20) / 1000.0;
    // Short: who sends one frame a minute would sit through a long one for hours.
    link.burst.end = 0.5 + random.below(40) / 100.0;
  }
  if (random.chance(0.5)) link.duplicate = random.below(50) / 1000.0;
  if (random.chance(0.5)) link.reorder = random.below(200) / 1000.0;
  if (random.chance(0.3)) link.corrupt = random.below(30) / 1000.0;
  link.reorder_delay = link.delay * random.below(4) + microseconds{10};
  if (random.chance(0.5)) {
    const std::array<std::uint64_t, 4> rates = {1, 10, 100, 1000};
    link.rate_bits_per_s = rates[random.below(4)] * 1'000'000;
    const std::array<std::size_t, 4> queues = {10, 30, 100, 1000};
    link.queue_frames_max = queues[random.below(4)];
  }
  return link;
}

tcp::StackOptions draw_stack(Random& random) {
  const std::array<std::uint32_t, 5> sizes = {2'000, 5'000, 20'000, 64'000, 256'000};
  tcp::StackOptions options;
  options.connections_max = 64;
  options.time_wait_max = 64;
  options.receive_buffer_bytes = sizes[random.below(sizes.size())];
  options.send_buffer_bytes = sizes[random.below(sizes.size())];
  // Sometimes far less memory than the buffers of all connections promise.
  options.buffer_pool_bytes = (random.chance(0.3) ? 32 : 1024) * kChunkBytes;
  return options;
}

/// Where things fail for good, the sooner they are given up the better: idle time is not free, for
/// a timer wheel counts every tick of it.
void be_brief(tcp::StackOptions& options) {
  options.user_timeout = seconds{10};
  options.linger_timeout = seconds{15};
  options.fin_timeout = seconds{10};
  options.last_ack_timeout = seconds{10};
}

/// Where every transfer has to complete, nothing may give up: with every tenth segment lost, some
/// handshakes take long.
void be_patient(tcp::StackOptions& options) {
  options.connect_timeout = seconds{200};
  options.user_timeout = seconds{1800};
  options.linger_timeout = seconds{1800};
  options.fin_timeout = seconds{1800};
  options.last_ack_timeout = seconds{1800};
  // A FIN may come again as late as a retransmission can.
  options.time_wait = seconds{130};
}

}  // namespace

std::string_view name_of(Plot plot) {
  switch (plot) {
    case Plot::kTransfer:
      return "transfer";
    case Plot::kPathMtu:
      return "path-mtu";
    case Plot::kCrossing:
      return "crossing";
    case Plot::kTrouble:
      return "trouble";
    case Plot::kVanish:
      return "vanish";
    case Plot::kBlackHole:
      return "black-hole";
  }
  return "";
}

TcpConditions::TcpConditions(Random& random) {
  plot = draw_plot(random);
  ipv6 = random.chance(0.5);
  connections = plot == Plot::kCrossing ? 1 : 1 + random.below(4);
  if (random.chance(0.05)) bytes_max = 400'000;
  link[0] = draw_link(random);
  link[1] = random.chance(0.7) ? link[0] : draw_link(random);
  const std::uint32_t path_mtu_min = ipv6 ? 1280 : 576;
  path_mtu = static_cast<std::uint16_t>(path_mtu_min + random.below(1500 - path_mtu_min));
  const std::uint16_t port_mtu = random.chance(0.3) ? path_mtu : std::uint16_t{1500};
  const std::array<int, 5> ticks_us = {1, 1, 100, 1'000, 10'000};
  for (std::size_t side = 0; side < 2; ++side) {
    if (plot != Plot::kPathMtu && plot != Plot::kBlackHole) link[side].mtu = port_mtu;
    tick[side] = microseconds{ticks_us[random.below(5)]};
    // Below a dozen, a handful of segments that wait for an address keep everything else out.
    buffers[side] = random.chance(0.2) ? 16 + random.below(48) : 16'384;
    stack[side] = draw_stack(random);
    must_complete() ? be_patient(stack[side]) : be_brief(stack[side]);
  }
  if (random.chance(0.2)) completion_delay = microseconds{1 + random.below(5'000)};
  if (random.chance(0.2)) refuse = random.below(300) / 1000.0;
  if (random.chance(0.2)) icmp_noise = random.below(100) / 1000.0;
  if (random.chance(0.15)) {
    stalls = 1 + random.below(3);
    stall = milliseconds{1'000 + random.below(4'000)};
  }
  forgets = random.chance(0.003);
  pause_max = milliseconds{random.chance(0.5) ? 0 : random.below(200)};
  if (random.chance(0.1)) {
    long_pause = 0.05;
    long_pause_max = seconds{1 + random.below(20)};
  }
  if (random.chance(0.2)) fickle = random.below(100) / 1000.0;
  fickle_side = random.chance(0.5) ? Side::kA : Side::kB;
}

Duration TcpConditions::round_trip_max() const {
  Duration sum = tick[0] + tick[1] + completion_delay * 2;
  for (const LinkOptions& one : link) {
    sum += one.delay + (one.reorder > 0 ? one.reorder_delay : Duration{});
    if (one.rate_bits_per_s > 0) {
      const auto frame =
          Duration{static_cast<Duration::rep>(kFrameBits * 1'000'000'000 / one.rate_bits_per_s)};
      // No more can wait than the windows let out.
      const std::size_t windows =
          connections *
              std::size_t{std::max(stack[0].receive_buffer_bytes, stack[1].receive_buffer_bytes)} /
              500 +
          10;
      sum += frame * static_cast<Duration::rep>(std::min(one.queue_frames_max, windows));
    }
  }
  return sum;
}

// ---- settings -----------------------------------------------------------------------------------

namespace {

Duration from_us(double us) { return Duration{static_cast<Duration::rep>(us * 1000)}; }

template <typename Apply>
void both(TcpConditions& conditions, Apply&& apply) {
  for (LinkOptions& link : conditions.link)
    apply(link);
}

void set_plot(TcpConditions& c, double v) {
  c.plot = Plot{static_cast<std::uint8_t>(std::clamp(v, 0.0, kPlots - 1.0))};
  if (c.plot == Plot::kCrossing) c.connections = 1;
  for (tcp::StackOptions& options : c.stack)
    c.must_complete() ? be_patient(options) : be_brief(options);
}

constexpr TcpSetting kSettings[] = {
    {"plot", "0 transfer, 1 path-mtu, 2 crossing, 3 trouble, 4 vanish, 5 black-hole", set_plot},
    {"ipv6", "0 or 1", [](TcpConditions& c, double v) { c.ipv6 = v != 0; }},
    {"connections", "how many",
     [](TcpConditions& c, double v) {
       c.connections = std::clamp(static_cast<unsigned>(v), 1U, 64U);
       if (c.plot == Plot::kCrossing) c.connections = 1;
     }},
    {"bytes", "at most, of each direction of each connection",
     [](TcpConditions& c, double v) { c.bytes_max = static_cast<std::uint32_t>(v); }},
    {"loss", "probability per frame",
     [](TcpConditions& c, double v) { both(c, [&](LinkOptions& l) { l.loss = v; }); }},
    {"burst", "probability per frame that losses in a row begin",
     [](TcpConditions& c, double v) { both(c, [&](LinkOptions& l) { l.burst.begin = v; }); }},
    {"reorder", "probability per frame",
     [](TcpConditions& c, double v) { both(c, [&](LinkOptions& l) { l.reorder = v; }); }},
    {"duplicate", "probability per frame",
     [](TcpConditions& c, double v) { both(c, [&](LinkOptions& l) { l.duplicate = v; }); }},
    {"corrupt", "probability per frame",
     [](TcpConditions& c, double v) { both(c, [&](LinkOptions& l) { l.corrupt = v; }); }},
    {"delay", "one way, in microseconds",
     [](TcpConditions& c, double v) { both(c, [&](LinkOptions& l) { l.delay = from_us(v); }); }},
    {"rate", "in Mbit/s; 0: no limit",
     [](TcpConditions& c, double v) {
       both(c, [&](LinkOptions& l) { l.rate_bits_per_s = static_cast<std::uint64_t>(v * 1e6); });
     }},
    {"queue", "frames",
     [](TcpConditions& c, double v) {
       both(c, [&](LinkOptions& l) { l.queue_frames_max = static_cast<std::size_t>(v); });
     }},
    {"tick", "of both clocks, in microseconds",
     [](TcpConditions& c, double v) { c.tick.fill(from_us(std::max(v, 0.001))); }},
    {"buffers", "packet buffers of each port",
     [](TcpConditions& c, double v) { c.buffers.fill(static_cast<std::uint32_t>(v)); }},
    {"pause", "of users at most, in microseconds",
     [](TcpConditions& c, double v) { c.pause_max = from_us(v); }},
    {"stalls", "of the link, how many",
     [](TcpConditions& c, double v) { c.stalls = static_cast<unsigned>(v); }},
    {"refuse", "probability per turn that the port refuses frames",
     [](TcpConditions& c, double v) { c.refuse = v; }},
    {"icmp", "probability per segment of a harmless ICMP error",
     [](TcpConditions& c, double v) { c.icmp_noise = v; }},
    {"fickle",
     "probability per segment that the peer takes back what it has SACKed, and its window",
     [](TcpConditions& c, double v) { c.fickle = v; }},
    {"receive_buffer", "bytes",
     [](TcpConditions& c, double v) {
       for (tcp::StackOptions& options : c.stack)
         options.receive_buffer_bytes = static_cast<std::uint32_t>(v);
     }},
    {"send_buffer", "bytes",
     [](TcpConditions& c, double v) {
       for (tcp::StackOptions& options : c.stack)
         options.send_buffer_bytes = static_cast<std::uint32_t>(v);
     }},
    {"pool", "bytes of the buffers of all connections of a stack",
     [](TcpConditions& c, double v) {
       for (tcp::StackOptions& options : c.stack)
         options.buffer_pool_bytes = static_cast<std::uint32_t>(v);
     }},
    {"rack", "0 or 1: loss detection by time, where the stack has it",
     [](TcpConditions& c, double v) {
       for (tcp::StackOptions& options : c.stack)
         options.rack = v != 0;
     }},
    {"sabotage", "makes the run fail: 1 wrong byte … 7 selfish sender; see tcp_conditions.h",
     [](TcpConditions& c, double v) {
       c.sabotage = Sabotage{static_cast<std::uint8_t>(std::clamp(v, 0.0, kSabotages - 1.0))};
     }},
};

}  // namespace

std::span<const TcpSetting> tcp_settings() { return kSettings; }

Result<AppliedSetting> parse_tcp_setting(std::string_view text) {
  const std::size_t equals = text.find('=');
  const std::string_view name = text.substr(0, equals);
  const auto* const found = std::ranges::find(kSettings, name, &TcpSetting::name);
  if (equals == std::string_view::npos || found == std::end(kSettings)) {
    std::string names;
    for (const TcpSetting& setting : kSettings)
      names += fmt::format("{}{}", names.empty() ? "" : ", ", setting.name);
    return Error{ErrorCode::kInvalid, fmt::format("'{}' is no setting", text),
                 fmt::format("write name=value, with one of {}", names)};
  }
  AppliedSetting applied{found, 0};
  const std::string_view digits = text.substr(equals + 1);
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), applied.value);
  const bool whole = end == digits.data() + digits.size();
  if (error != std::errc{} || !whole || !std::isfinite(applied.value) || applied.value < 0)
    return Error{ErrorCode::kInvalid, fmt::format("'{}' is no value for {}", digits, found->name),
                 "write a number that is not negative"};
  return applied;
}

std::string text_of(const AppliedSetting& applied) {
  return fmt::format("{}={}", applied.setting->name, applied.value);
}

}  // namespace weir::testing
