#include <fmt/format.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "l4/base/clock.h"
#include "l4/base/fd.h"
#include "l4/base/result.h"
#include "l4/base/signals.h"
#include "l7/port/impair.h"

// weir_impair_relay: a bad link on the real clock. Joins two netdevs of one network namespace,
// frame by frame, and treats what passes as l7/port/impair.h says, the same engine that the
// simulated link has. One thread, one packet socket for each device.
//
// The devices' other ends must finish their packets themselves: `ethtool -K DEV tx off` (which
// takes TSO and GSO with it). A frame with an unfinished checksum is passed on as it is and
// counted; one longer than the MTU is lost to the MTU, as on any link. VLAN tags, which the kernel
// takes off, are not put back.

namespace weir {
namespace {

/// Per direction; with frames of 1514 bytes, 96 MiB when all is in use. 1 Gbit/s of full frames is
/// 82,000 a second.
constexpr std::size_t kFramesMax = 65'536;
constexpr std::size_t kBurst = 64;
constexpr int kBurstsPerTurn = 4;
constexpr int kSocketBufferBytes = 16 * 1024 * 1024;
constexpr std::size_t kEthernetBytes = 14;
constexpr Duration kDelayMax = std::chrono::seconds{60};

/// Bursts of frames as they are read, with room for one byte more than fits: longer ones show.
class ReceiveRing {
 public:
  explicit ReceiveRing(std::size_t frame_bytes_max);
  /// How many frames were there; at most kBurst.
  std::size_t fill(int fd);
  /// Its beginning, if it is longer than fits; length() is always the whole.
  [[nodiscard]] std::span<const std::byte> bytes(std::size_t i) const;
  [[nodiscard]] std::size_t length(std::size_t i) const { return messages_[i].msg_len; }
  [[nodiscard]] bool unfinished_checksum(std::size_t i);

 private:
  struct Control {
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(tpacket_auxdata))> bytes;
  };
  std::size_t room_;
  std::vector<std::byte> store_;
  std::array<iovec, kBurst> vectors_{};
  std::array<Control, kBurst> controls_{};
  std::array<mmsghdr, kBurst> messages_{};
};

ReceiveRing::ReceiveRing(std::size_t frame_bytes_max)
    : room_{frame_bytes_max + 1}, store_(kBurst * room_) {
  for (std::size_t i = 0; i < kBurst; ++i)
    vectors_[i] = {store_.data() + i * room_, room_};
}

std::size_t ReceiveRing::fill(int fd) {
  for (std::size_t i = 0; i < kBurst; ++i) {
    messages_[i] = {};
    messages_[i].msg_hdr.msg_iov = &vectors_[i];
    messages_[i].msg_hdr.msg_iovlen = 1;
    messages_[i].msg_hdr.msg_control = controls_[i].bytes.data();
    messages_[i].msg_hdr.msg_controllen = controls_[i].bytes.size();
  }
  // MSG_TRUNC asks for the true length of what does not fit.
  const int count = ::recvmmsg(fd, messages_.data(), kBurst, MSG_DONTWAIT | MSG_TRUNC, nullptr);
  return count < 0 ? 0 : static_cast<std::size_t>(count);
}

std::span<const std::byte> ReceiveRing::bytes(std::size_t i) const {
  return std::span{store_}.subspan(i * room_, std::min(length(i), room_));
}

bool ReceiveRing::unfinished_checksum(std::size_t i) {
  msghdr& header = messages_[i].msg_hdr;
  for (cmsghdr* at = CMSG_FIRSTHDR(&header); at != nullptr; at = CMSG_NXTHDR(&header, at)) {
    if (at->cmsg_level != SOL_PACKET || at->cmsg_type != PACKET_AUXDATA) continue;
    tpacket_auxdata data;
    std::memcpy(&data, CMSG_DATA(at), sizeof(data));
    return (data.tp_status & TP_STATUS_CSUMNOTREADY) != 0;
  }
  return false;
}

/// One device, and the direction that begins at it.
struct End {
  std::string name;
  UniqueFd fd;
  port::ImpairOptions options;
  std::uint64_t sent = 0;
  std::uint64_t send_failed = 0;
  std::uint64_t unfinished_checksums = 0;
  std::uint64_t lost_kernel = 0;  ///< its socket buffer was full: the relay did not keep up
};

struct Arguments {
  std::array<std::string, 2> devices;
  std::array<port::ImpairOptions, 2> options;  ///< by the device where the direction begins
  std::uint64_t seed = 1;
  bool help = false;
};

class Relay {
 public:
  static Result<Relay> open(const Arguments& arguments);
  Result<void> run(int signal_fd);
  [[nodiscard]] std::string report();

 private:
  explicit Relay(const Arguments& arguments, std::array<End, 2> ends);
  void receive(std::size_t from);
  void answer_too_big(std::size_t from, std::span<const std::byte> frame, Instant now);
  void send_due(std::size_t from);
  [[nodiscard]] Instant next_release() const;

  std::array<End, 2> ends_;
  std::array<port::Impairment, 2> impairments_;
  ReceiveRing ring_;
};

std::size_t frame_bytes_max(const Arguments& arguments) {
  return kEthernetBytes + std::max(arguments.options[0].mtu, arguments.options[1].mtu);
}

Result<UniqueFd> open_device(const std::string& name) {
  const unsigned index = ::if_nametoindex(name.c_str());
  if (index == 0)
    return Error{ErrorCode::kNotFound, fmt::format("there is no device {}", name),
                 "`ip link` in this network namespace shows them"};
  UniqueFd fd{::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!fd) return Error::from_errno("opening a packet socket").with_remedy("be root");
  const auto set = [&](int level, int option, const auto& value) {
    return ::setsockopt(fd.get(), level, option, &value, sizeof(value)) == 0;
  };
  const int on = 1;
  packet_mreq promiscuous{};
  promiscuous.mr_ifindex = static_cast<int>(index);
  promiscuous.mr_type = PACKET_MR_PROMISC;
  if (!set(SOL_PACKET, PACKET_IGNORE_OUTGOING, on) || !set(SOL_PACKET, PACKET_AUXDATA, on) ||
      !set(SOL_PACKET, PACKET_ADD_MEMBERSHIP, promiscuous))
    return Error::from_errno(fmt::format("listening on {}", name));
  if (!set(SOL_SOCKET, SO_RCVBUFFORCE, kSocketBufferBytes))
    static_cast<void>(set(SOL_SOCKET, SO_RCVBUF, kSocketBufferBytes));  // what one may have
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(0x0003);  // ETH_P_ALL; from here on frames come in
  address.sll_ifindex = static_cast<int>(index);
  // A C interface: it takes every kind of address as this one.
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
    return Error::from_errno(fmt::format("listening on {}", name));
  return fd;
}

Relay::Relay(const Arguments& arguments, std::array<End, 2> ends)
    : ends_{std::move(ends)},
      impairments_{port::Impairment{{kFramesMax, frame_bytes_max(arguments)}, arguments.seed},
                   port::Impairment{{kFramesMax, frame_bytes_max(arguments)}, ~arguments.seed}},
      ring_{frame_bytes_max(arguments)} {}

Result<Relay> Relay::open(const Arguments& arguments) {
  std::array<End, 2> ends;
  for (std::size_t i = 0; i < 2; ++i) {
    auto fd = open_device(arguments.devices[i]);
    if (!fd) return fd.error();
    ends[i].name = arguments.devices[i];
    ends[i].fd = std::move(*fd);
    ends[i].options = arguments.options[i];
  }
  return Relay{arguments, std::move(ends)};
}

// ---- frames -------------------------------------------------------------------------------------

void Relay::receive(std::size_t from) {
  for (int burst = 0; burst < kBurstsPerTurn; ++burst) {
    const std::size_t count = ring_.fill(ends_[from].fd.get());
    const Instant now = monotonic_now();
    for (std::size_t i = 0; i < count; ++i) {
      if (ring_.unfinished_checksum(i)) ++ends_[from].unfinished_checksums;
      const auto fate = impairments_[from].offer(ends_[from].options, ring_.bytes(i), now);
      if (fate == port::Fate::kTooBig && ends_[from].options.answer_too_big)
        answer_too_big(from, ring_.bytes(i), now);
    }
    if (count < kBurst) return;
  }
}

void Relay::answer_too_big(std::size_t from, std::span<const std::byte> frame, Instant now) {
  std::array<std::byte, port::kTooBigBytesMax> answer;
  const std::size_t length = port::write_too_big(frame, ends_[from].options.mtu, answer);
  if (length == 0) return;
  impairments_[from].count_too_big_answer();
  const Duration delay = ends_[1 - from].options.delay;
  static_cast<void>(impairments_[1 - from].insert(std::span{answer}.first(length), now + delay));
}

void Relay::send_due(std::size_t from) {
  End& out = ends_[1 - from];
  while (const auto frame = impairments_[from].release(monotonic_now())) {
    const auto sent = ::send(out.fd.get(), frame->bytes.data(), frame->bytes.size(), MSG_DONTWAIT);
    ++(sent < 0 ? out.send_failed : out.sent);
  }
}

Instant Relay::next_release() const {
  return std::min(impairments_[0].next_release(), impairments_[1].next_release());
}

Result<void> Relay::run(int signal_fd) {
  // Timers of this thread end when they say, not 50 µs later together with others.
  ::prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
  std::array<pollfd, 3> waiting = {pollfd{ends_[0].fd.get(), POLLIN, 0},
                                   pollfd{ends_[1].fd.get(), POLLIN, 0},
                                   pollfd{signal_fd, POLLIN, 0}};
  while (true) {
    timespec timeout{3600, 0};
    if (const Instant next = next_release(); next != kNever) {
      const Duration left = std::max(Duration{}, next - monotonic_now());
      timeout.tv_sec = std::chrono::duration_cast<std::chrono::seconds>(left).count();
      timeout.tv_nsec = (left % std::chrono::seconds{1}).count();
    }
    if (::ppoll(waiting.data(), waiting.size(), &timeout, nullptr) < 0 && errno != EINTR)
      return Error::from_errno("waiting for frames");
    if (waiting[2].revents != 0) return {};
    for (std::size_t side = 0; side < 2; ++side) {
      if (waiting[side].revents != 0) receive(side);
      send_due(0);
      send_due(1);
    }
  }
}

std::string Relay::report() {
  std::string text;
  for (std::size_t from = 0; from < 2; ++from) {
    End& in = ends_[from];
    tpacket_stats statistics{};
    socklen_t size = sizeof(statistics);
    if (::getsockopt(in.fd.get(), SOL_PACKET, PACKET_STATISTICS, &statistics, &size) == 0)
      in.lost_kernel += statistics.tp_drops;
    const port::ImpairCounters& counters = impairments_[from].counters();
    text += fmt::format(
        R"({{"from": "{}", "to": "{}", "offered": {}, "released": {}, "sent": {}, )"
        R"("under_way": {}, "lost_by_chance": {}, "lost_in_burst": {}, "lost_queue": {}, )"
        R"("lost_mtu": {}, "lost_in_flight_max": {}, "lost_kernel": {}, "send_failed": {}, )"
        R"("reordered": {}, "duplicated": {}, "corrupted": {}, "too_big_answers": {}, )"
        R"("unfinished_checksums": {}}})"
        "\n",
        in.name, ends_[1 - from].name, counters.offered, counters.released, ends_[1 - from].sent,
        impairments_[from].under_way(), counters.lost_by_chance, counters.lost_in_burst,
        counters.lost_queue, counters.lost_mtu, counters.lost_in_flight_max, in.lost_kernel,
        ends_[1 - from].send_failed, counters.reordered, counters.duplicated, counters.corrupted,
        counters.too_big_answers, in.unfinished_checksums);
  }
  return text;
}

// ---- arguments ----------------------------------------------------------------------------------

constexpr std::string_view kHelp =
    R"(weir_impair_relay [options] LEFT RIGHT: a bad link between two devices

  --delay TIME             propagation: 20ms, 500us, 1s (0)
  --rate BITS              per second: 100Mbit, 1Gbit; none: as fast as it goes
  --queue FRAMES           that may wait to leave (1000)
  --mtu BYTES              longer packets are lost (1500)
  --too-big                and answered with ICMP
  --loss P                 probability per frame: 0.01 or 1%
  --burst-loss BEGIN,END   probabilities per frame that losses in a row begin and end
  --reorder P[,TIME]       delayed by so much more (1ms)
  --duplicate P
  --corrupt P              one bit behind the Ethernet header
  --seed N                 (1)
  --to left|right|both     what stands behind it is for this direction alone (both)
  --help

Prints "ready" when frames pass, and on SIGTERM or SIGINT one line of JSON for each direction. The
other ends of the devices need `ethtool -K DEV tx off`.
)";

struct Unit {
  std::string_view name;
  double factor;
};
constexpr Unit kTimeUnits[] = {{"", 1e-3}, {"us", 1e-6}, {"ms", 1e-3}, {"s", 1}};
constexpr Unit kRateUnits[] = {{"", 1}, {"kbit", 1e3}, {"Mbit", 1e6}, {"Gbit", 1e9}};
constexpr Unit kShareUnits[] = {{"", 1}, {"%", 0.01}};
constexpr Unit kPlain[] = {{"", 1}};

std::optional<double> number(std::string_view text, std::span<const Unit> units, double most) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || !std::isfinite(value) || value < 0) return std::nullopt;
  const std::string_view rest{end, text.data() + text.size()};
  for (const Unit& unit : units)
    if (unit.name == rest && value * unit.factor <= most) return value * unit.factor;
  return std::nullopt;
}

Duration from_seconds(double value) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(value));
}

using Setter = bool (*)(port::ImpairOptions&, std::string_view, std::string_view);

/// An option with a value: what it sets out of one or two parts that a comma separates.
struct Option {
  std::string_view name;
  Setter set;
  std::string_view expected;
};

bool set_share(double& target, std::string_view text) {
  const auto value = number(text, kShareUnits, 1);
  target = value.value_or(0);
  return value.has_value();
}

bool set_time(Duration& target, std::string_view text) {
  const auto value = number(text, kTimeUnits, std::chrono::duration<double>(kDelayMax).count());
  target = from_seconds(value.value_or(0));
  return value.has_value();
}

constexpr Option kOptions[] = {
    {"--delay", [](auto& o, auto a, auto b) { return b.empty() && set_time(o.delay, a); },
     "a time up to 60s, as in 20ms"},
    {"--rate",
     [](auto& o, auto a, auto b) {
       const auto value = number(a, kRateUnits, 1e12);
       o.rate_bits_per_s = static_cast<std::uint64_t>(value.value_or(0));
       return b.empty() && value.has_value();
     },
     "bits per second, as in 100Mbit"},
    {"--queue",
     [](auto& o, auto a, auto b) {
       const auto value = number(a, kPlain, kFramesMax);
       o.queue_frames_max = static_cast<std::size_t>(value.value_or(0));
       return b.empty() && value.has_value();
     },
     "a number of frames up to 65536"},
    {"--mtu",
     [](auto& o, auto a, auto b) {
       const auto value = number(a, kPlain, 9000);
       o.mtu = static_cast<std::uint16_t>(value.value_or(0));
       return b.empty() && value.has_value();
     },
     "bytes up to 9000"},
    {"--loss", [](auto& o, auto a, auto b) { return b.empty() && set_share(o.loss, a); },
     "a probability, as in 1%"},
    {"--burst-loss",
     [](auto& o, auto a, auto b) {
       return set_share(o.burst.begin, a) && set_share(o.burst.end, b);
     },
     "two probabilities, as in 0.5%,30%"},
    {"--reorder",
     [](auto& o, auto a, auto b) {
       return set_share(o.reorder, a) && (b.empty() || set_time(o.reorder_delay, b));
     },
     "a probability, and perhaps a time, as in 5%,2ms"},
    {"--duplicate", [](auto& o, auto a, auto b) { return b.empty() && set_share(o.duplicate, a); },
     "a probability, as in 1%"},
    {"--corrupt", [](auto& o, auto a, auto b) { return b.empty() && set_share(o.corrupt, a); },
     "a probability, as in 1%"},
};

Error wrong(std::string_view name, std::string_view value, std::string_view expected) {
  return Error{ErrorCode::kInvalid, fmt::format("{}: '{}' is not {}", name, value, expected),
               "weir_impair_relay --help shows all options"};
}

Result<void> take_option(std::string_view name, std::string_view value,
                         std::span<port::ImpairOptions> directions) {
  for (const Option& option : kOptions) {
    if (option.name != name) continue;
    const std::size_t comma = value.find(',');
    const std::string_view second =
        comma == std::string_view::npos ? std::string_view{} : value.substr(comma + 1);
    for (port::ImpairOptions& direction : directions)
      if (!option.set(direction, value.substr(0, comma), second))
        return wrong(name, value, option.expected);
    return {};
  }
  return Error{ErrorCode::kInvalid, fmt::format("there is no option {}", name),
               "weir_impair_relay --help shows all options"};
}

Result<Arguments> parse_arguments(std::span<char* const> words) {
  Arguments arguments;
  std::span<port::ImpairOptions> directions{arguments.options};
  std::vector<std::string> devices;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string_view name = words[i];
    if (!name.starts_with('-')) {
      devices.emplace_back(name);
    } else if (name == "--help") {
      arguments.help = true;
      return arguments;
    } else if (name == "--too-big") {
      for (port::ImpairOptions& direction : directions)
        direction.answer_too_big = true;
    } else if (i + 1 == words.size()) {
      return Error{ErrorCode::kInvalid, fmt::format("{} needs a value", name),
                   "weir_impair_relay --help shows all options"};
    } else if (const std::string_view value = words[++i]; name == "--to") {
      // What goes to the right begins at the left.
      if (value != "left" && value != "right" && value != "both")
        return wrong(name, value, "left, right or both");
      directions = value == "both"   ? std::span<port::ImpairOptions>{arguments.options}
                   : value == "left" ? std::span{arguments.options}.subspan(1, 1)
                                     : std::span{arguments.options}.subspan(0, 1);
    } else if (name == "--seed") {
      const auto seed = number(value, kPlain, 1e15);
      if (!seed) return wrong(name, value, "a number");
      arguments.seed = static_cast<std::uint64_t>(*seed);
    } else if (const auto taken = take_option(name, value, directions); !taken) {
      return Error{taken.error().code(), taken.error().message(), taken.error().remedy()};
    }
  }
  if (devices.size() != 2)
    return Error{ErrorCode::kInvalid, fmt::format("{} devices were named", devices.size()),
                 "name two: weir_impair_relay [options] LEFT RIGHT"};
  arguments.devices = {devices[0], devices[1]};
  return arguments;
}

int fail(const Error& error, int status) {
  fmt::print(stderr, "weir_impair_relay: {}\n", error.text());
  return status;
}

int run(std::span<char* const> words) {
  const auto arguments = parse_arguments(words);
  if (!arguments) return fail(arguments.error(), 2);
  if (arguments->help) {
    fmt::print("{}", kHelp);
    return 0;
  }
  const auto signals = take_signals({SIGTERM, SIGINT});
  if (!signals) return fail(signals.error(), 1);
  auto relay = Relay::open(*arguments);
  if (!relay) return fail(relay.error(), 1);
  fmt::print("ready\n");
  std::fflush(stdout);
  const auto ran = relay->run(signals->get());
  fmt::print("{}", relay->report());
  return ran ? 0 : fail(ran.error(), 1);
}

}  // namespace
}  // namespace weir

int main(int argc, char** argv) {
  return weir::run(std::span{argv, static_cast<std::size_t>(argc)}.subspan(1));
}
