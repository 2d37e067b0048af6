#include "tests/fuzz/tcp_liveness.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "l4/base/random.h"
#include "l7/port/heap_pool.h"
#include "l7/tcp/segment.h"
#include "l7/tcp/stack.h"

namespace weir::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using tcp::Seq;
using wire::TcpHeader;

const wire::IpAddress kLocal = wire::IpAddress::v4(192, 0, 2, 1);
const wire::IpAddress kRemote = wire::IpAddress::v4(192, 0, 2, 2);
constexpr std::uint16_t kLocalPort = 80;
constexpr std::uint16_t kRemotePort = 1000;
constexpr std::uint16_t kSegmentSize = 1480;
constexpr std::uint32_t kMss = 1000;
constexpr unsigned kStepsMax = 40;
/// RttEstimator::kMax, and the millisecond that a timer may be late.
constexpr Duration kSilenceMax = seconds{60} + milliseconds{1};
constexpr Duration kEnd = seconds{250};

class Peer final : public net::SegmentOutput {
 public:
  explicit Peer(std::uint64_t seed) : random_{seed} {}
  std::string run();

 private:
  port::Packet allocate() override { return pool_.allocate(kSegmentSize); }
  void send(port::Packet segment, const wire::IpAddress& source, const wire::IpAddress& destination,
            net::Ecn ecn, Instant now) override;
  [[nodiscard]] std::uint16_t segment_size(const wire::IpAddress&) const override {
    return kSegmentSize;
  }
  [[nodiscard]] std::uint16_t receive_segment_size(const wire::IpAddress&,
                                                   const wire::IpAddress&) const override {
    return kSegmentSize;
  }
  void lower_path_mtu(const wire::IpAddress&, std::uint16_t, Instant) override {}

  static tcp::StackOptions options_of(Random& random);
  void open();
  void step();
  void answer();
  /// Mostly where a segment ends, sometimes anywhere, of what is not acknowledged.
  [[nodiscard]] Seq place();
  [[nodiscard]] std::uint16_t draw_window();
  void inject(tcp::SegmentHeader header);
  void pass_time(Duration duration);
  [[nodiscard]] bool waits_for_us() const;

  Random random_;
  port::HeapPool pool_{10'000};
  Instant now_{seconds{1000}};
  Instant quiet_since_ = now_;  ///< the last segment of either side
  Seq stack_end_;
  Seq acknowledged_;
  bool sack_ = false;
  bool gone_ = false;
  std::string violation_;
  tcp::ConnectionId id_;
  tcp::Stack stack_{options_of(random_), *this, Random{7}, now_};
};

tcp::StackOptions Peer::options_of(Random& random) {
  tcp::StackOptions options;
  options.connections_max = 4;
  options.half_open_max = 4;
  options.time_wait_max = 4;
  options.accept_queue_max = 4;
  options.buffer_pool_bytes = 1 << 20;
  options.rack = random.chance(0.7);
  options.pacing = random.chance(0.5);
  return options;
}

void Peer::send(port::Packet segment, const wire::IpAddress&, const wire::IpAddress&, net::Ecn,
                Instant) {
  quiet_since_ = now_;
  const auto view = tcp::parse_segment(std::as_const(segment).bytes());
  if (!view) return;
  if (view->rst()) gone_ = true;
  stack_end_ = view->syn() ? view->end() : tcp::later_of(stack_end_, view->end());
  if (view->syn()) acknowledged_ = view->end();
}

void Peer::inject(tcp::SegmentHeader header) {
  header.source_port = kRemotePort;
  header.destination_port = kLocalPort;
  port::Packet packet = pool_.allocate(sizeof(TcpHeader) + 40);
  tcp::build_segment(packet, header, 0);
  quiet_since_ = now_;  // what is acknowledged starts the timer anew
  stack_.input({kRemote, kLocal, wire::IpProtocol::kTcp, {}, std::move(packet)}, now_);
  stack_.flush(now_);
}

void Peer::open() {
  stack_.listen({kLocal, wire::Port{kLocalPort}}, 0);
  tcp::SegmentHeader syn;
  syn.flags = TcpHeader::kSyn;
  syn.window = draw_window();
  syn.options.mss = kMss;
  syn.options.sack_permitted = sack_ = random_.chance(0.8);
  inject(syn);
  now_ += milliseconds{random_.below(100)};
  tcp::SegmentHeader ack;
  ack.flags = TcpHeader::kAck;
  ack.seq = Seq{1};
  ack.ack = acknowledged_;
  ack.window = draw_window();
  inject(ack);
  if (const auto news = stack_.poll()) id_ = news->connection;
}

std::uint16_t Peer::draw_window() {
  constexpr std::array<std::uint16_t, 8> kWindows = {0, 0, 0, 1, 500, 3'000, 20'000, 65'535};
  return kWindows[random_.below(kWindows.size())];
}

Seq Peer::place() {
  const std::uint32_t distance = acknowledged_.distance_to(stack_end_);
  if (random_.chance(0.2)) return acknowledged_ + random_.below(distance + 1);
  return acknowledged_ + std::min(distance, random_.below(distance / kMss + 2) * kMss);
}

void Peer::answer() {
  tcp::SegmentHeader header;
  header.flags = TcpHeader::kAck;
  header.seq = Seq{1};
  if (random_.chance(0.4)) acknowledged_ = place();
  header.ack = acknowledged_;
  header.window = draw_window();
  for (unsigned i = random_.below(4); sack_ && i > 0; --i) {
    const Seq one = place();
    const Seq other = place();
    if (one == other) continue;
    header.options.sack[header.options.sack_count++] = {tcp::earlier_of(one, other),
                                                        tcp::later_of(one, other)};
  }
  inject(header);
}

void Peer::step() {
  const std::uint32_t dice = random_.below(100);
  if (dice < 20) {
    stack_.write(id_, std::vector<std::byte>(1 + random_.below(20'000)));
    stack_.flush(now_);
  } else if (dice < 70) {
    answer();
  } else if (dice < 98) {
    pass_time(milliseconds{random_.below(random_.chance(0.1) ? 20'000 : 600)});
  } else {
    stack_.close_write(id_);
    stack_.flush(now_);
  }
}

bool Peer::waits_for_us() const {
  return !gone_ && stack_.exists(id_) &&
         (stack_.unacknowledged_bytes(id_) > 0 || acknowledged_ != stack_end_);
}

void Peer::pass_time(Duration duration) {
  const Instant end = now_ + duration;
  while (now_ < end && violation_.empty()) {
    now_ = std::min(end, std::max(now_ + std::chrono::microseconds{100}, stack_.next_deadline()));
    stack_.advance(now_);
    stack_.flush(now_);
    if (waits_for_us() && now_ - quiet_since_ > kSilenceMax)
      violation_ = fmt::format("silent for {} s with {} bytes that are not acknowledged",
                               std::chrono::duration<double>(now_ - quiet_since_).count(),
                               stack_.unacknowledged_bytes(id_));
  }
}

std::string Peer::run() {
  open();
  for (unsigned steps = random_.below(kStepsMax); steps > 0 && violation_.empty(); --steps) {
    // With nothing under way there was nothing to say.
    if (!waits_for_us()) quiet_since_ = now_;
    step();
  }
  const bool was_waiting = waits_for_us();
  if (!was_waiting) quiet_since_ = now_;
  pass_time(kEnd);
  if (violation_.empty() && was_waiting && waits_for_us())
    violation_ = "a silent peer is not given up";
  return violation_;
}

}  // namespace

std::string check_tcp_liveness(std::uint64_t seed) { return Peer{seed}.run(); }

}  // namespace weir::testing
