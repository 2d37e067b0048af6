#include "tests/fuzz/tcp_properties.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "l4/base/random.h"
#include "l7/port/heap_pool.h"
#include "l7/tcp/connection.h"
#include "l7/tcp/segment.h"
#include "l7/tcp/stack.h"

namespace weir::testing {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;
using tcp::Seq;
using wire::TcpHeader;

const wire::IpAddress kLocal = wire::IpAddress::v4(192, 0, 2, 1);
const wire::IpAddress kRemote = wire::IpAddress::v4(192, 0, 2, 2);
constexpr std::uint16_t kListening = 80;
constexpr std::uint16_t kPeerPorts = 4;
constexpr std::uint16_t kFirstPeerPort = 1000;
constexpr std::uint16_t kSegmentSize = 1480;
constexpr std::size_t kOperationsMax = 400;
constexpr std::uint64_t kSegmentsOfATurnMax = 1024 * 16 + 64;  // the stack's own bound on a flush

/// Bytes of the input, zero behind its end.
class Input {
 public:
  explicit Input(std::span<const std::uint8_t> bytes) : bytes_{bytes} {}
  [[nodiscard]] bool empty() const { return bytes_.empty(); }
  std::uint8_t byte() {
    if (bytes_.empty()) return 0;
    const std::uint8_t value = bytes_.front();
    bytes_ = bytes_.subspan(1);
    return value;
  }
  std::uint16_t word() {
    const std::uint16_t high = byte();
    return static_cast<std::uint16_t>(high << 8 | byte());
  }
  /// Mostly nothing, sometimes small, rarely anything: what is near a limit is worth trying.
  std::int32_t offset() {
    const std::uint8_t kind = byte();
    if (kind < 160) return 0;
    if (kind < 200) return std::int32_t{kind} - 180;
    if (kind < 240) return static_cast<std::int16_t>(word());
    const std::uint32_t high = word();
    return static_cast<std::int32_t>(high << 16 | word());
  }
  /// Mostly flags that mean something.
  std::uint8_t flags() {
    constexpr std::array<std::uint8_t, 16> kUsual = {
        TcpHeader::kAck,
        TcpHeader::kAck,
        TcpHeader::kAck,
        TcpHeader::kAck,
        TcpHeader::kAck,
        TcpHeader::kAck | TcpHeader::kPsh,
        TcpHeader::kSyn,
        TcpHeader::kSyn,
        TcpHeader::kSyn | TcpHeader::kAck,
        TcpHeader::kSyn | TcpHeader::kEce | TcpHeader::kCwr,
        TcpHeader::kFin | TcpHeader::kAck,
        TcpHeader::kAck | TcpHeader::kEce,
        TcpHeader::kAck | TcpHeader::kCwr,
        TcpHeader::kRst,
        TcpHeader::kRst | TcpHeader::kAck,
        0};
    const std::uint8_t choice = byte();
    return choice < 240 ? kUsual[choice % kUsual.size()] : byte();
  }

 private:
  std::span<const std::uint8_t> bytes_;
};

std::byte text_at(Seq initial, Seq at) {
  const std::uint32_t offset = initial.distance_to(at);
  return static_cast<std::byte>(offset * 13 + (offset >> 8) + 5);
}

/// One flow as the peer sees it: what the stack has told it, and what it has told the stack.
struct Flow {
  bool known = false;       ///< the stack has sent a SYN or an answer to one
  Seq stack_initial;        ///< number of the stack's SYN
  Seq stack_end;            ///< one past the highest that the stack has sent
  Seq peer_next;            ///< what the stack expects of us: its last ACK
  std::optional<Seq> edge;  ///< right edge of what we have offered, the furthest ever
  std::uint32_t shift = 0;  ///< the scale that we have told
  bool scaling = false;     ///< and that the stack has confirmed
  std::uint32_t mss = 88;   ///< the largest that any of our SYNs has told
  std::uint32_t stamp = 0;  ///< the last that we have seen
  bool reset_sent = false;  ///< by the stack
};

class World final : public net::SegmentOutput {
 public:
  explicit World(Input& input);
  std::string run();

 private:
  port::Packet allocate() override {
    return buffers_ ? pool_.allocate(kSegmentSize) : port::Packet{};
  }
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

  static tcp::StackOptions options_of(Input& input);
  void operate();
  void inject();
  void inject_garbage();
  void report_error();
  void pass_time(Duration duration);
  void use(tcp::ConnectionId id);
  void take_news();
  void check_sent(Flow& flow, const tcp::SegmentView& view);
  void check_counts();
  void end();
  void violate(std::string text) {
    if (violation_.empty()) violation_ = std::move(text);
  }
  Flow& flow_of(std::uint16_t peer_port, std::uint16_t local_port);
  void write_text(tcp::ConnectionId id, std::size_t count);

  Input& input_;
  port::HeapPool pool_{10'000};
  Instant now_{seconds{1'000'000}};
  std::string violation_;
  bool buffers_ = true;
  std::uint64_t sent_in_turn_ = 0;
  std::array<Flow, kPeerPorts> passive_;  // from our port kFirstPeerPort + i to kListening
  std::vector<std::pair<std::uint16_t, Flow>> active_;  // opened by the stack, by its port
  std::vector<tcp::ConnectionId> open_;
  tcp::StackOptions options_;
  tcp::Stack stack_;
};

tcp::StackOptions World::options_of(Input& input) {
  tcp::StackOptions options;
  const std::uint8_t bits = input.byte();
  options.rack = (bits & 1) != 0;
  options.timestamps = (bits & 2) != 0;
  options.ecn_active = (bits & 4) != 0;
  options.congestion =
      (bits & 8) != 0 ? tcp::CongestionAlgorithm::kCubic : tcp::CongestionAlgorithm::kNewReno;
  options.keepalive_idle = (bits & 16) != 0 ? seconds{10} : seconds{0};
  options.half_open_max = (bits & 32) != 0 ? 1 : 8;
  options.connections_max = 8;
  options.accept_queue_max = 4;
  options.time_wait_max = 4;
  const std::array<std::uint32_t, 4> sizes = {1'000, 9'000, 64'000, 256'000};
  options.receive_buffer_bytes = sizes[input.byte() % sizes.size()];
  options.send_buffer_bytes = sizes[input.byte() % sizes.size()];
  options.buffer_pool_bytes = (bits & 64) != 0 ? 64 * 4096 : 512 * 4096;
  return options;
}

World::World(Input& input)
    : input_{input}, options_{options_of(input)}, stack_{options_, *this, Random{7}, now_} {
  stack_.listen({kLocal, wire::Port{kListening}}, 0);
}

Flow& World::flow_of(std::uint16_t peer_port, std::uint16_t local_port) {
  if (local_port == kListening) return passive_[(peer_port - kFirstPeerPort) % kPeerPorts];
  for (auto& [port, flow] : active_)
    if (port == local_port) return flow;
  return active_.emplace_back(local_port, Flow{}).second;
}

void World::send(port::Packet segment, const wire::IpAddress& source,
                 const wire::IpAddress& destination, net::Ecn, Instant) {
  ++sent_in_turn_;
  if (source != kLocal || destination != kRemote) violate("a segment between other addresses");
  const auto view = tcp::parse_segment(std::as_const(segment).bytes());
  if (!view) return violate("a segment that nobody can parse");
  check_sent(flow_of(view->destination_port, view->source_port), *view);
}

void World::check_sent(Flow& flow, const tcp::SegmentView& view) {
  if (view.rst()) return;
  if (view.has_ack()) flow.peer_next = view.ack;
  if (view.options.timestamps) flow.stamp = view.options.timestamps->value;
  if (view.syn()) {
    if (!flow.known || flow.stack_initial != view.seq) {
      flow.known = true;
      flow.stack_initial = view.seq;
      flow.stack_end = view.end();
    }
    return;
  }
  if (!flow.known || view.payload.empty()) return;
  if (view.payload.size() > flow.mss + 0U)
    violate(fmt::format("text of {} bytes with an MSS of {}", view.payload.size(), flow.mss));
  for (std::size_t i = 0; i < view.payload.size(); ++i)
    if (view.payload[i] !=
        text_at(flow.stack_initial + 1, view.seq + static_cast<std::uint32_t>(i)))
      return violate(
          fmt::format("a wrong byte at {}", flow.stack_initial.distance_to(view.seq) + i));
  const Seq text_end = view.seq + static_cast<std::uint32_t>(view.payload.size());
  if (flow.edge && text_end > *flow.edge + 1) {
    violate(fmt::format("text up to {}, the window ends at {}",
                        flow.stack_initial.distance_to(text_end),
                        flow.stack_initial.distance_to(*flow.edge)));
  }
  flow.stack_end = tcp::later_of(flow.stack_end, view.end());
}

/// A segment that is right, or wrong by a little, or by much.
void World::inject() {
  const std::uint8_t choice = input_.byte();
  const bool to_active = (choice & 0x80) != 0 && !active_.empty();
  tcp::SegmentHeader header;
  header.source_port = static_cast<std::uint16_t>(kFirstPeerPort + (choice & 3U) % kPeerPorts);
  header.destination_port = kListening;
  Flow* flow = &passive_[header.source_port - kFirstPeerPort];
  if (to_active) {
    auto& [port, active] = active_[choice % active_.size()];
    header.source_port = kListening;
    header.destination_port = port;
    flow = &active;
  }
  header.flags = input_.flags();
  header.seq = flow->peer_next + static_cast<std::uint32_t>(input_.offset());
  header.ack = flow->stack_end + static_cast<std::uint32_t>(input_.offset());
  header.window = input_.word();
  const std::uint8_t options = input_.byte();
  const bool syn = (header.flags & TcpHeader::kSyn) != 0;
  if (syn) {
    if ((options & 1) != 0) header.options.mss = input_.word();
    if ((options & 2) != 0) header.options.window_scale = input_.byte() % 16;
    header.options.sack_permitted = (options & 4) != 0;
  }
  if ((options & 8) != 0)
    header.options.timestamps =
        tcp::Timestamps{static_cast<std::uint32_t>(input_.offset()),
                        flow->stamp + static_cast<std::uint32_t>(input_.offset())};
  if (!syn && (options & 16) != 0) {
    header.options.sack_count = 1 + (options >> 5) % 3;
    for (std::size_t i = 0; i < header.options.sack_count; ++i) {
      const Seq start = header.ack + static_cast<std::uint32_t>(input_.offset());
      header.options.sack[i] = {start, start + static_cast<std::uint32_t>(input_.offset())};
    }
  }
  const std::size_t length = syn ? 0 : std::min<std::size_t>(input_.byte() * 8U, 1400);
  const bool ends = (header.flags & TcpHeader::kRst) != 0;
  if (syn && !ends) {
    // Which of several SYNs the stack has gone by is not followed up here: the largest counts.
    flow->mss = std::max<std::uint32_t>(flow->mss, header.options.mss.value_or(536));
    flow->shift =
        std::max(flow->shift, std::min<std::uint32_t>(header.options.window_scale.value_or(0), 14));
  }
  // The furthest edge that any reading of this segment offers: scaled whether or not both agreed.
  const Seq edge = header.ack + (std::uint32_t{header.window} << (syn ? 0 : flow->shift));
  // An ACK of what was never sent offers nothing; so far away its order would mean nothing either.
  constexpr std::uint32_t kNear = 1U << 24;
  const bool near = (header.ack - kNear).distance_to(flow->stack_end) < 2 * kNear;
  if (near && (!flow->edge || edge > *flow->edge)) flow->edge = edge;
  if (syn) flow->edge.reset();  // before the handshake is over nothing is known of our numbers
  port::Packet packet = pool_.allocate(sizeof(TcpHeader) + 40 + length);
  const auto text = tcp::build_segment(packet, header, length);
  std::ranges::fill(text, std::byte{0x55});
  const auto ecn = static_cast<net::Ecn>(choice >> 4 & 3U);
  stack_.input({kRemote, kLocal, wire::IpProtocol::kTcp, ecn, std::move(packet)}, now_);
}

void World::inject_garbage() {
  const std::size_t length = input_.byte() % 80;
  std::vector<std::byte> bytes(length);
  for (std::byte& byte : bytes)
    byte = std::byte{input_.byte()};
  // Half of them reach a flow: the ports lie in front.
  if (length > 4 && (bytes[0] & std::byte{1}) != std::byte{0}) {
    bytes[0] = std::byte{kFirstPeerPort >> 8};
    bytes[1] = std::byte{kFirstPeerPort & 0xff};
    bytes[2] = std::byte{0};
    bytes[3] = std::byte{kListening};
    passive_[0].edge.reset();  // whatever it offered
    passive_[0].mss = UINT16_MAX;
  }
  stack_.input(
      {kRemote, kLocal, wire::IpProtocol::kTcp, net::Ecn::kNotCapable, pool_.copy_of(bytes)}, now_);
  // What it has changed the model does not know: the flow is no longer judged.
  passive_[0].known = false;
}

void World::report_error() {
  const std::uint8_t choice = input_.byte();
  Flow& flow = passive_[choice & 3U];
  net::TransportError error;
  error.kind = static_cast<net::TransportError::Kind>((choice >> 2) % 3);
  error.local = {kLocal, wire::Port{kListening}};
  error.remote = {kRemote, wire::Port{static_cast<std::uint16_t>(kFirstPeerPort + (choice & 3U))}};
  error.sequence = (flow.stack_end + static_cast<std::uint32_t>(input_.offset())).value();
  error.mtu = input_.word();
  stack_.error(error, now_);
}

void World::pass_time(Duration duration) {
  const Instant end = now_ + duration;
  // Timers fire where they are due, at most so many: an armed timer that never moves would hang.
  for (int i = 0; i < 200 && now_ < end; ++i) {
    now_ = std::min(end, std::max(now_ + microseconds{100}, stack_.next_deadline()));
    sent_in_turn_ = 0;
    stack_.advance(now_);
    take_news();
    stack_.flush(now_);
    if (sent_in_turn_ > kSegmentsOfATurnMax) violate("a storm in one turn");
  }
  now_ = end;
}

void World::take_news() {
  for (int i = 0; i < 64; ++i) {
    const auto news = stack_.poll();
    if (!news) return;
    if (news->accepted) open_.push_back(news->connection);
    if (news->reset) {
      stack_.release(news->connection);
      std::erase(open_, news->connection);
    }
  }
}

void World::write_text(tcp::ConnectionId id, std::size_t count) {
  // The place in the stream follows from the connection's own count, so that the byte at each
  // number is known without asking the stack.
  std::vector<std::byte> bytes(count);
  const auto info = stack_.info(id);
  if (!info) return;
  const std::uint64_t written = info->bytes_written;
  for (std::size_t i = 0; i < count; ++i) {
    const auto offset = static_cast<std::uint32_t>(written + i);
    bytes[i] = static_cast<std::byte>(offset * 13 + (offset >> 8) + 5);
  }
  stack_.write(id, bytes);
}

void World::use(tcp::ConnectionId id) {
  switch (input_.byte() % 6) {
    case 0:
    case 1:
      return write_text(id, std::size_t{input_.byte()} * 64);
    case 2:
      return stack_.consume(id, input_.word());
    case 3:
      return stack_.close_write(id);
    case 4:
      stack_.release(id);
      std::erase(open_, id);
      return;
    case 5:
      stack_.abort(id, now_);
      std::erase(open_, id);
      return;
  }
}

void World::operate() {
  sent_in_turn_ = 0;
  switch (input_.byte() % 16) {
    case 0:
      inject_garbage();
      break;
    case 1:
      report_error();
      break;
    case 2:
      if (const auto id = stack_.connect(kLocal, {kRemote, wire::Port{kListening}}, 1, now_)) {
        open_.push_back(*id);
        flow_of(kListening, stack_.local(*id).port.value()) = Flow{};
      }
      break;
    case 3:
      buffers_ = (input_.byte() & 7U) != 0;
      break;
    case 4:
      return pass_time(milliseconds{input_.word()});
    case 5:
    case 6:
      return pass_time(microseconds{input_.word()});
    case 7:
    case 8:
    case 9:
      if (!open_.empty()) use(open_[input_.byte() % open_.size()]);
      break;
    default:
      inject();
      break;
  }
  take_news();
  stack_.flush(now_);
  if (sent_in_turn_ > kSegmentsOfATurnMax) violate("a storm in one turn");
}

void World::check_counts() {
  const tcp::StackCounters& counters = stack_.counters();
  if (counters.connections > options_.connections_max + options_.half_open_max ||
      counters.half_open > options_.half_open_max + options_.connections_max ||
      counters.time_wait > options_.time_wait_max ||
      std::size_t{counters.buffer_chunks} * 4096 > options_.buffer_pool_bytes)
    violate("a count beyond its limit");
  if (pool_.in_use() != 0) violate("the stack has kept a packet");
}

/// Everybody lets go and the peer is silent: time takes everything away.
void World::end() {
  buffers_ = true;
  take_news();
  for (const tcp::ConnectionId id : open_)
    stack_.release(id);
  open_.clear();
  for (int i = 0; i < 2000 && violation_.empty(); ++i) {
    const Instant next = stack_.next_deadline();
    if (next == kNever) break;
    pass_time(std::max<Duration>(next - now_, milliseconds{1}));
    for (const tcp::ConnectionId id : open_)
      stack_.release(id);
    open_.clear();
  }
  const tcp::StackCounters& counters = stack_.counters();
  if (counters.connections != 0 || counters.half_open != 0 || counters.time_wait != 0 ||
      counters.segments_outstanding != 0 || counters.buffer_chunks != 0)
    violate(
        fmt::format("left over: {} connections, {} half open, {} in TIME-WAIT, {} segments, {} "
                    "chunks",
                    counters.connections, counters.half_open, counters.time_wait,
                    counters.segments_outstanding, counters.buffer_chunks));
  if (stack_.next_deadline() != kNever) violate("a timer is left");
}

std::string World::run() {
  for (std::size_t i = 0; i < kOperationsMax && !input_.empty() && violation_.empty(); ++i) {
    operate();
    check_counts();
  }
  if (violation_.empty()) end();
  return violation_;
}

}  // namespace

std::string check_tcp_properties(std::span<const std::uint8_t> bytes) {
  Input input{bytes};
  World world{input};
  return world.run();
}

}  // namespace weir::testing
