// Writes what the balancer makes of random packets into a capture, for a decoder that has nothing
// of ours to verify (checksums_test.py): a pcap file, and beside it for each frame a line that says
// what kind it is and which checksums must be found right in it.
//
//     checksum_capture DIRECTORY [packets of each kind]

#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "l4/base/random.h"
#include "tests/fuzz/balancer_world.h"
#include "tests/fuzz/decoded.h"
#include "tests/support/packet_builder.h"
#include "tests/support/replay_engine.h"

namespace weir::testing {
namespace {

using Frame = std::vector<std::byte>;

constexpr auto kTcp = wire::IpProtocol::kTcp;
constexpr auto kUdp = wire::IpProtocol::kUdp;
constexpr std::uint32_t kSeed = 20261125;
constexpr std::uint32_t kPayloadMax = 1300;
constexpr std::uint64_t kTick = 1'000'000;
const AddressPair kClient = address_pair("203.0.113.7", "2001:db8:7::7");
const AddressPair kRouter = address_pair("192.0.2.254", "2001:db8::fe");

/// Checksums that must be in a frame, by where they stand.
struct Expected {
  int ipv4 = 0;
  int tcp = 0;
  int udp = 0;
  int icmp = 0;
  int icmpv6 = 0;
  int absent = 0;      ///< UDP datagrams over IPv4 that have none
  int unverified = 0;  ///< segments of which a fragment has only a part
  int cut = 0;         ///< segments that an error quotes in part: nothing can be said of them
};

/// Classic pcap (draft-ietf-opsawg-pcap), and the lines beside it.
class Capture {
 public:
  explicit Capture(const std::string& directory)
      : pcap_{directory + "/frames.pcap", std::ios::binary}, lines_{directory + "/expected.txt"} {
    constexpr std::array<std::uint32_t, 6> kHeader{0xa1b2c3d4, 2 | 4 << 16, 0, 0, 65535, 1};
    put(kHeader);
  }

  void add(std::string_view kind, FrameView frame, const Expected& expected) {
    const auto size = static_cast<std::uint32_t>(frame.size());
    put(std::array<std::uint32_t, 4>{1, 0, size, size});
    pcap_.write(reinterpret_cast<const char*>(frame.data()), size);
    const auto packet = decode(frame);
    WEIR_ASSERT(packet && packet->is_whole);  // what is sent is
    lines_ << fmt::format("{} end={} ip={} tcp={} udp={} icmp={} icmpv6={}", kind, packet->ip_end(),
                          expected.ipv4, expected.tcp, expected.udp, expected.icmp, expected.icmpv6)
           << fmt::format(" absent={} unverified={} cut={}\n", expected.absent, expected.unverified,
                          expected.cut);
  }

  [[nodiscard]] bool is_good() { return pcap_.flush() && lines_.flush(); }

 private:
  template <std::size_t N>
  void put(const std::array<std::uint32_t, N>& words) {
    pcap_.write(reinterpret_cast<const char*>(words.data()), sizeof(words));
  }

  std::ofstream pcap_;
  std::ofstream lines_;
};

/// A packet and the checksums that are in it.
struct Sample {
  Frame frame;
  Expected expected;
};

class Recorder {
 public:
  Recorder(const std::string& directory, int count)
      : capture_{directory}, count_{count}, world_{make_world({})}, engine_{settings_of(world_)} {
    fill(engine_, world_);
    engine_.seal();
    engine_.set_ticks(kTick);
  }

  bool record_all() {
    for (const bool is_v4 : {true, false}) {
      record_tunnels(is_v4);
      record_l2(is_v4);
      record_nat(is_v4);
      record_answers(is_v4);
    }
    return capture_.is_good();
  }

 private:
  static std::string_view family(bool is_v4) { return is_v4 ? "ipv4" : "ipv6"; }
  static wire::Endpoint client(bool is_v4, std::uint16_t port = 40000) {
    return {kClient.of(is_v4), wire::Port{port}};
  }
  static wire::Endpoint vip(bool is_v4, std::uint16_t port) {
    return {kWorldVip.of(is_v4), wire::Port{port}};
  }

  void times(const std::function<void()>& record) const {
    for (int i = 0; i < count_; ++i)
      record();
  }

  /// The frame's fate, from empty tables. It ends the run if it is not the one that is meant.
  Frame pass(const Frame& frame, std::initializer_list<weir_verdict> verdicts) {
    const ReplayResult result = engine_.run(frame, kWorldDevice);
    const bool is_meant =
        std::ranges::find(verdicts, static_cast<weir_verdict>(result.verdict)) != verdicts.end();
    if (!is_meant) fmt::print(stderr, "verdict {} of\n{}", result.verdict, hexdump(frame));
    WEIR_ASSERT(is_meant);  // the world and the packet are ours
    return {result.output.begin(), result.output.end()};
  }

  static Expected of_packet(bool is_v4, wire::IpProtocol protocol) {
    Expected expected;
    expected.ipv4 = is_v4 ? 1 : 0;
    (protocol == kTcp ? expected.tcp : expected.udp) = 1;
    return expected;
  }

  void shape(PacketBuilder& packet, bool is_v4, bool has_extension = true) {
    std::vector<std::byte> payload(random_.below(kPayloadMax));
    for (std::byte& byte : payload)
      byte = static_cast<std::byte>(random_.next());
    packet.payload(payload).time_to_live(static_cast<std::uint8_t>(2 + random_.below(254)));
    packet.type_of_service(static_cast<std::uint8_t>(random_.next()));
    packet.identification(static_cast<std::uint16_t>(random_.next()));
    packet.sequence(static_cast<std::uint32_t>(random_.next()));
    if (is_v4 && random_.below(3) == 0) packet.ip_options(random_.below(11));
    if (!is_v4 && has_extension && random_.below(3) == 0)
      packet.extension(IPPROTO_DSTOPTS, random_.below(3));
    if (random_.below(4) == 0) packet.padding(random_.below(20));
  }

  void put_tags(Frame& frame) {
    static const Frame kTag{std::byte{0x81}, std::byte{0}, std::byte{0}, std::byte{42}};
    for (std::uint32_t tags = random_.below(8) == 0   ? 2
                              : random_.below(4) == 0 ? 1
                                                      : 0;
         tags > 0; --tags)
      frame.insert(frame.begin() + 12, kTag.begin(), kTag.end());
  }

  /// A datagram over IPv4 may come without a checksum.
  void take_checksum(Sample& sample) {
    const auto packet = decode(sample.frame);
    if (!packet->is_v4 || packet->protocol != IPPROTO_UDP || random_.below(6) != 0) return;
    sample.frame[packet->l4_at + 6] = sample.frame[packet->l4_at + 7] = std::byte{0};
    sample.expected.udp -= 1;
    sample.expected.absent += 1;
  }

  Sample segment(const wire::Endpoint& from, const wire::Endpoint& to, wire::IpProtocol protocol,
                 bool has_extension = true) {
    const bool is_v4 = to.address.is_v4();
    PacketBuilder packet = PacketBuilder::transport(from, to, protocol);
    shape(packet, is_v4, has_extension);
    Sample sample{packet.bytes(), of_packet(is_v4, protocol)};
    take_checksum(sample);
    put_tags(sample.frame);
    return sample;
  }

  wire::Endpoint any_client(bool is_v4) {
    return client(is_v4, static_cast<std::uint16_t>(1024 + random_.below(60000)));
  }
  wire::IpProtocol any_protocol() { return random_.below(2) == 0 ? kTcp : kUdp; }

  void record_tunnels(bool is_v4) {
    for (const bool is_gue : {false, true})
      for (const bool is_outer_v4 : {true, false}) {
        const auto kind =
            fmt::format("{}-{}-in-{}", is_gue ? "gue" : "ipip", family(is_v4), family(is_outer_v4));
        const int port = (is_gue ? 1100 : 1000) + (is_v4 == is_outer_v4 ? 0 : 1);
        times([&] {
          engine_.reset();
          Sample sample = segment(any_client(is_v4), vip(is_v4, static_cast<std::uint16_t>(port)),
                                  any_protocol());
          sample.expected.ipv4 += is_outer_v4 ? 1 : 0;
          sample.expected.udp += is_gue ? 1 : 0;
          const Frame sent = pass(sample.frame, {is_gue ? WEIR_TX_GUE : WEIR_TX_IPIP});
          capture_.add(kind, sent, sample.expected);
        });
      }
    record_fragments(is_v4);
  }

  /// Of these GUE's checksum is made by reading everything.
  void record_fragments(bool is_v4) {
    times([&] {
      engine_.reset();
      PacketBuilder packet = udp(any_client(is_v4), vip(is_v4, 1100));
      shape(packet, is_v4);
      const Frame sent = pass(packet.more_fragments().bytes(), {WEIR_TX_GUE});
      Expected expected{.ipv4 = is_v4 ? 2 : 0, .udp = 1, .unverified = 1};
      capture_.add(fmt::format("gue-fragment-{}", family(is_v4)), sent, expected);
    });
  }

  void record_l2(bool is_v4) {
    times([&] {
      engine_.reset();
      const Sample sample = segment(any_client(is_v4), vip(is_v4, 1200), any_protocol());
      const Frame sent = pass(sample.frame, {WEIR_TX_L2, WEIR_REDIRECT_L2});
      capture_.add(fmt::format("l2-{}", family(is_v4)), sent, sample.expected);
    });
  }

  void record_nat(bool is_v4) {
    for (const bool is_full : {false, true})
      times([&] {
        engine_.reset();
        record_flow(is_v4, is_full, any_client(is_v4), any_protocol());
      });
  }

  void record_flow(bool is_v4, bool is_full, const wire::Endpoint& from,
                   wire::IpProtocol protocol) {
    const auto name = [&](std::string_view what) {
      return fmt::format("{}-{}-{}", is_full ? "fullnat" : "nat", what, family(is_v4));
    };
    const wire::Endpoint to = vip(is_v4, is_full ? 1301 : 1300);
    const Sample there = segment(from, to, protocol);
    const Frame forward = pass(there.frame, {WEIR_TX_NAT});
    capture_.add(name("forward"), forward, there.expected);
    const Decoded seen = *decode(forward);
    const PortPair ports = *ports_of(forward, seen);
    const wire::Endpoint backend{seen.destination, wire::Port{ports.destination}};
    const wire::Endpoint source{seen.source, wire::Port{ports.source}};
    const Sample back = segment(backend, source, protocol);
    const Frame reply = pass(back.frame, {WEIR_TX_NAT_REPLY});
    capture_.add(name("reply"), reply, back.expected);
    // Extension headers of quoted packets are not stepped over.
    const Frame quotable = pass(segment(from, to, protocol, false).frame, {WEIR_TX_NAT});
    record_error(name("error-to-client"), quotable, WEIR_TX_NAT_REPLY);
    const Frame answer = pass(segment(backend, source, protocol, false).frame, {WEIR_TX_NAT_REPLY});
    record_error(name("error-to-backend"), answer, WEIR_TX_NAT);
  }

  /// What must be right in a message that quotes a packet, or in one that quotes none: its own
  /// checksums and the quoted ones.
  static Expected of_icmp(FrameView frame) {
    const Decoded packet = *decode(frame);
    Expected expected;
    (packet.is_v4 ? expected.icmp : expected.icmpv6) = 1;
    expected.ipv4 = packet.is_v4 ? 1 : 0;
    if (!is_icmp_error(frame, packet)) return expected;
    const Decoded quoted = *decode_ip(frame.first(packet.ip_end()), packet.l4_at + 8, packet.is_v4);
    expected.ipv4 += packet.is_v4 ? 1 : 0;
    if (!quoted.is_whole)
      expected.cut = 1;
    else if (quoted.protocol == IPPROTO_UDP && word_at(frame, quoted.l4_at + 6) == 0)
      expected.absent = 1;
    else
      (quoted.protocol == IPPROTO_TCP ? expected.tcp : expected.udp) = 1;
    return expected;
  }

  /// A router's error about a packet that was sent, translated.
  void record_error(const std::string& kind, const Frame& about, weir_verdict verdict) {
    const Decoded packet = *decode(about);
    const auto quoted = about.begin() + static_cast<std::ptrdiff_t>(packet.ip_at);
    const Frame quote{quoted, quoted + static_cast<std::ptrdiff_t>(packet.ip_bytes)};
    PacketBuilder error = icmp(kRouter.of(packet.is_v4), packet.source, packet.is_v4 ? 3 : 1, 1);
    const Frame sent = pass(error.payload(quote).bytes(), {verdict});
    capture_.add(kind, sent, of_icmp(sent));
  }

  void record_answer(std::string_view name, const PacketBuilder& packet, weir_verdict verdict,
                     bool is_v4) {
    engine_.reset();
    Frame frame = packet.bytes();
    put_tags(frame);
    const Frame sent = pass(frame, {verdict});
    const Expected expected =
        is_icmp(*decode(sent)) ? of_icmp(sent) : of_packet(is_v4, wire::IpProtocol::kTcp);
    capture_.add(fmt::format("{}-{}", name, family(is_v4)), sent, expected);
  }

  void record_answers(bool is_v4) {
    const wire::IpAddress from = kClient.of(is_v4);
    times([&] {
      PacketBuilder echo = echo_request(from, kWorldVip.of(is_v4));
      shape(echo, is_v4);
      record_answer("echo-reply", echo, WEIR_TX_ECHO_REPLY, is_v4);
      PacketBuilder datagram = udp(any_client(is_v4), vip(is_v4, 9));
      shape(datagram, is_v4);
      record_answer("unreachable", datagram, WEIR_TX_REFUSED, is_v4);
      PacketBuilder segment = tcp(any_client(is_v4), vip(is_v4, 9));
      shape(segment, is_v4);
      record_answer("rst", segment, WEIR_TX_REFUSED, is_v4);
      PacketBuilder last = tcp(any_client(is_v4), vip(is_v4, 1000));
      shape(last, is_v4);
      record_answer("time-exceeded", last.time_to_live(1), WEIR_TX_TTL_EXCEEDED, is_v4);
      PacketBuilder big = tcp(any_client(is_v4), vip(is_v4, 1000));
      shape(big, is_v4);
      big.payload(Frame(1450 + random_.below(40), static_cast<std::byte>(random_.next())));
      record_answer("too-big", big.do_not_fragment(), WEIR_TX_TOO_BIG, is_v4);
    });
  }

  Capture capture_;
  int count_;
  World world_;
  ReplayEngine engine_;
  Random random_{kSeed};
};

}  // namespace
}  // namespace weir::testing

int main(int argc, char** argv) {
  int count = 1000;
  if (argc < 2) {
    fmt::print(stderr,
               "checksum_capture: expected a directory, and how many packets of each kind\n");
    return 2;
  }
  if (argc > 2) std::from_chars(argv[2], argv[2] + std::string_view{argv[2]}.size(), count);
  weir::testing::Recorder recorder{argv[1], count};
  if (recorder.record_all()) return 0;
  fmt::print(stderr, "checksum_capture: could not write to {}\n", argv[1]);
  return 1;
}
