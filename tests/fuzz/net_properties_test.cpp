#include "tests/fuzz/net_properties.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "l4/base/bytes.h"
#include "l4/base/random.h"
#include "l4/wire/neighbor_messages.h"
#include "tests/fuzz/net_frames.h"
#include "tests/support/packet_builder.h"

/// What the fuzzer holds, on every run of the unit tests: for the corpus, for frames of every kind,
/// and for damaged ones.
namespace weir::testing {
namespace {

using namespace net_world;
using wire::IpAddress;
using Input = std::vector<std::uint8_t>;
using Frame = std::vector<std::byte>;

constexpr std::uint64_t kSeed = 23;
constexpr int kDamagedInputs = 300;  // of 20 frames, mostly

// Bits of the first byte, and of a control byte.
constexpr std::uint8_t kWaits = 16;
constexpr std::uint8_t kSecond = 4;
constexpr std::uint8_t kTunnels = 8;
constexpr std::uint8_t kAnswers = 16;

const IpAddress kClient = IpAddress::v4(198, 51, 100, 7);
const IpAddress kClient6 = *IpAddress::parse("2001:db8:2::7");
const wire::MacAddress kPeerMac{{0x02, 0, 0, 0, 0, 0x01}};  // the packet builder's source

wire::Endpoint at(const IpAddress& address, std::uint16_t port) {
  return {address, wire::Port{port}};
}

void append(Input& input, std::uint8_t control, const Frame& frame) {
  input.push_back(control);
  input.push_back(static_cast<std::uint8_t>(frame.size() >> 8));
  input.push_back(static_cast<std::uint8_t>(frame.size()));
  for (const std::byte byte : frame)
    input.push_back(std::to_integer<std::uint8_t>(byte));
}

/// A neighbour message with the link address of who says it.
PacketBuilder neighbor(const IpAddress& source, const IpAddress& destination,
                       wire::NeighborMessage message) {
  if (!message.link_address) message.link_address = kPeerMac;
  std::array<std::byte, wire::NeighborMessage::kSizeMax> bytes{};
  message.write(bytes);
  return icmp(source, destination, static_cast<std::uint8_t>(message.kind))
      .time_to_live(255)
      .icmp_rest(std::to_integer<std::uint32_t>(bytes[4]) << 24)
      .payload({bytes.begin() + 8, bytes.end()});
}

PacketBuilder gue(const IpAddress& source, const IpAddress& destination, const PacketBuilder& inner,
                  bool with_header) {
  Frame content;
  if (with_header)
    content = {std::byte{0}, std::byte{inner.is_v4() ? std::uint8_t{4} : std::uint8_t{41}},
               std::byte{0}, std::byte{0}};
  const Frame packet = inner.ip_bytes();
  content.insert(content.end(), packet.begin(), packet.end());
  return udp(at(source, 51234), at(destination, 6080)).payload(content);
}

struct Named {
  std::string_view name;
  Frame frame;
};

void add_plain(std::vector<Named>& all) {
  const auto to_vip = tcp(at(kClient, 4000), at(kVip, 80)).payload("hello");
  const auto to_vip6 = tcp(at(kClient6, 4000), at(kVip6, 80)).payload("hello");
  all.push_back({"tcp", to_vip.bytes()});
  all.push_back({"tcp_options_padding", PacketBuilder{to_vip}.ip_options(3).padding(6).bytes()});
  all.push_back({"tcp_own", tcp(at(kRouter, 4000), at(kOwn, 80)).ack().bytes()});
  all.push_back({"tcp_fragment", PacketBuilder{to_vip}.more_fragments().bytes()});
  all.push_back({"tcp6", to_vip6.bytes()});
  all.push_back(
      {"tcp6_extensions",
       PacketBuilder{to_vip6}.extension(0, 0).extension(60, 1).fragment_header().bytes()});
  all.push_back({"tcp6_routing", PacketBuilder{to_vip6}.extension(43, 0).bytes()});
  all.push_back({"tcp6_own", tcp(at(kRouter6, 4000), at(kOwn6, 80)).ack().bytes()});
  all.push_back({"udp", udp(at(kClient, 1000), at(kVip, 53)).payload("who?").bytes()});
  all.push_back({"udp6", udp(at(kClient6, 1000), at(kVip6, 53)).payload("who?").bytes()});
  all.push_back({"echo", echo_request(kClient, kVip).payload("ping").bytes()});
  all.push_back({"echo_neighbor", echo_request(kRouter, kOwn).payload("ping").bytes()});
  all.push_back({"echo6", echo_request(kClient6, kVip6).payload("ping").bytes()});
  all.push_back({"echo6_neighbor", echo_request(kRouter6, kOwn6).payload("ping").bytes()});
}

void add_neighbors(std::vector<Named>& all) {
  using Kind = wire::NeighborMessage::Kind;
  const IpAddress group = wire::solicited_node_group(kOwn6);
  const IpAddress nobody = *IpAddress::parse("::");
  all.push_back({"arp_request", arp_request(kRouter, kOwn).bytes()});
  all.push_back({"arp_probe", arp_request(IpAddress::v4(0, 0, 0, 0), kOwn).bytes()});
  all.push_back({"arp_conflict", arp_request(kOwn, kOwn).bytes()});
  Frame reply(wire::ArpMessage::kSize);
  wire::ArpMessage{wire::ArpMessage::Operation::kReply, kPeerMac, kRouter, kMac, kOwn}.write(
      std::span{reply}.first<wire::ArpMessage::kSize>());
  all.push_back({"arp_reply", PacketBuilder::raw(0x0806, reply).bytes()});
  all.push_back(
      {"ndp_question",
       neighbor(kRouter6, group, {.kind = Kind::kSolicitation, .target = kOwn6}).bytes()});
  all.push_back({"ndp_question_bare", neighbor_solicitation(kRouter6, kOwn6).bytes()});
  all.push_back({"ndp_probe", neighbor_solicitation(nobody, kOwn6).bytes()});
  all.push_back(
      {"ndp_answer",
       neighbor(
           kRouter6, kOwn6,
           {.kind = Kind::kAdvertisement, .target = kRouter6, .solicited = true, .overrides = true})
           .bytes()});
  all.push_back(
      {"ndp_conflict",
       neighbor(kRouter6, kOwn6, {.kind = Kind::kAdvertisement, .target = kOwn6}).bytes()});
}

void add_errors(std::vector<Named>& all) {
  const Frame ours = tcp(at(kVip, 80), at(kClient, 4000)).sequence(77).ip_bytes();
  const Frame ours6 = tcp(at(kVip6, 80), at(kClient6, 4000)).sequence(77).ip_bytes();
  const auto too_big = icmp(kRouter, kVip, 3, 4).icmp_rest(1400).payload(ours);
  all.push_back({"too_big", too_big.bytes()});
  all.push_back({"too_big_of_no_size", icmp(kRouter, kVip, 3, 4).payload(ours).bytes()});
  all.push_back({"too_big6", icmp(kRouter6, kVip6, 2).icmp_rest(1300).payload(ours6).bytes()});
  all.push_back({"unreachable", icmp(kRouter, kVip, 3, 1).payload(ours).bytes()});
  all.push_back({"unreachable6", icmp(kRouter6, kVip6, 1).payload(ours6).bytes()});
  all.push_back({"expired", icmp(kRouter, kVip, 11).payload(ours).bytes()});
  all.push_back({"too_big_in_tunnel", too_big.inside(kBalancer, kOwn).bytes()});
}

void add_tunnels(std::vector<Named>& all) {
  const auto to_vip = tcp(at(kClient, 4000), at(kVip, 80)).type_of_service(2).payload("hello");
  const auto to_vip6 = tcp(at(kClient6, 4000), at(kVip6, 80)).payload("hello");
  all.push_back({"ipip_4_in_4", to_vip.inside(kBalancer, kOwn).bytes()});
  all.push_back({"ipip_6_in_4", to_vip6.inside(kBalancer, kOwn).bytes()});
  all.push_back({"ipip_4_in_6", to_vip.inside(kBalancer6, kOwn6).bytes()});
  all.push_back({"ipip_6_in_6", to_vip6.inside(kBalancer6, kOwn6).bytes()});
  all.push_back({"ipip_marked", to_vip.inside(kBalancer, kOwn).type_of_service(3).bytes()});
  all.push_back({"gue_4_in_4", gue(kBalancer, kOwn, to_vip, false).bytes()});
  all.push_back({"gue_6_in_6", gue(kBalancer6, kOwn6, to_vip6, false).bytes()});
  all.push_back({"gue_header_4_in_6", gue(kBalancer6, kOwn6, to_vip, true).bytes()});
  all.push_back({"gue_header_6_in_4", gue(kBalancer, kOwn, to_vip6, true).bytes()});
  const auto datagram = udp(at(kClient, 1000), at(kVip, 53)).payload("who?");
  all.push_back({"udp_in_ipip", datagram.inside(kBalancer, kOwn).bytes()});
  all.push_back({"echo_in_gue", gue(kBalancer, kOwn, echo_request(kClient, kVip), true).bytes()});
}

/// Frames that once were taken for something else; under names that say what was wrong.
void add_found(std::vector<Named>& all) {
  using Kind = wire::NeighborMessage::Kind;
  const IpAddress group = wire::solicited_node_group(kOwn6);
  const wire::MacAddress all_nodes = wire::multicast_mac(*IpAddress::parse("ff02::1"));
  const IpAddress broadcast = IpAddress::v4(192, 0, 2, 255);
  const auto target = std::as_bytes(std::span{kOwn6.bytes});
  all.push_back({"an_echo_request_from_the_broadcast_address_was_answered",
                 echo_request(broadcast, kOwn).bytes()});
  all.push_back({"an_arp_request_of_the_broadcast_address_was_answered",
                 arp_request(broadcast, kOwn).bytes()});
  PacketBuilder from_our_station = arp_request(kRouter, kOwn);
  for (std::size_t i = 0; i < kMac.bytes.size(); ++i)
    from_our_station.octet(14 + 8 + i, kMac.bytes[i]);
  all.push_back({"a_neighbour_with_our_link_address_was_learnt", from_our_station.bytes()});
  all.push_back({"an_answer_went_to_a_groups_link_address",
                 neighbor(kRouter6, group,
                          {.kind = Kind::kSolicitation, .target = kOwn6, .link_address = all_nodes})
                     .bytes()});
  all.push_back({"a_probe_to_all_nodes_was_answered",
                 icmp(*IpAddress::parse("::"), *IpAddress::parse("ff02::1"), 135)
                     .time_to_live(255)
                     .payload({target.begin(), target.end()})
                     .bytes()});
  const Frame ours = tcp(at(kVip, 80), at(kClient, 4000)).ip_bytes();
  Frame ours6 = tcp(at(kVip6, 80), at(kClient6, 4000)).ip_bytes();
  all.push_back({"an_error_of_the_other_family_was_handed_on",
                 icmp(kRouter, kVip, 3, 4).icmp_rest(100).payload(ours6).bytes()});
  std::ranges::copy(std::as_bytes(std::span{kVip.bytes}), ours6.begin() + 8);
  all.push_back({"an_error_between_two_families_was_handed_on",
                 icmp(kRouter6, kVip6, 2).icmp_rest(1300).payload(ours6).bytes()});
}

std::vector<Named> all_frames() {
  std::vector<Named> all;
  add_plain(all);
  add_neighbors(all);
  add_errors(all);
  add_tunnels(all);
  add_found(all);
  return all;
}

Input input_of(const Named& named) {
  Input input{0};
  append(input, kTunnels | kAnswers, named.frame);
  append(input, kTunnels | kAnswers | kSecond, named.frame);
  return input;
}

TEST(NetProperties, HoldForTheCorpus) {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator{WEIR_NET_CORPUS}) {
    std::ifstream file{entry.path(), std::ios::binary};
    const std::string bytes{std::istreambuf_iterator<char>{file}, {}};
    EXPECT_EQ(check_net_properties(Input{bytes.begin(), bytes.end()}).violation, "")
        << entry.path();
    ++count;
  }
  EXPECT_GT(count, 10U);
}

TEST(NetProperties, HoldForFramesOfEveryKind) {
  Input together{0};
  for (const Named& named : all_frames()) {
    EXPECT_EQ(check_net_properties(input_of(named)).violation, "") << named.name;
    append(together, kTunnels | kAnswers, named.frame);
  }
  const NetOutcome outcome = check_net_properties(together);
  EXPECT_EQ(outcome.violation, "");
  // They are what they are meant to be, or nothing has been tried.
  const auto& counters = outcome.counters;
  EXPECT_EQ(counters.segments_delivered, 6U + 9U);
  EXPECT_EQ(counters.decapsulated_ipip, 5U + 2U);
  EXPECT_EQ(counters.decapsulated_gue, 4U + 1U);
  EXPECT_EQ(counters.echo_answered, 4U + 1U);
  EXPECT_EQ(counters.unreachable_sent, 2U + 1U);
  EXPECT_EQ(counters.arp_answered, 2U);
  EXPECT_EQ(counters.ndp_answered, 3U);
  EXPECT_EQ(counters.address_defended, 2U);
  EXPECT_EQ(counters.path_mtu_lowered, 3U);
  EXPECT_EQ(counters.dropped_checksum, 0U);
}

TEST(NetProperties, HoldForDamagedFrames) {
  const std::vector<Named> frames = all_frames();
  Random random{kSeed};
  const auto byte = [&] { return static_cast<std::uint8_t>(random.below(256)); };
  for (int i = 0; i < kDamagedInputs; ++i) {
    Input input{random.below(2) == 0 ? std::uint8_t{0} : byte()};
    for (std::uint32_t left = 1 + random.below(40); left > 0; --left) {
      Frame frame = frames[random.below(static_cast<std::uint32_t>(frames.size()))].frame;
      for (std::uint32_t k = random.below(5); k > 0; --k)
        frame[random.below(static_cast<std::uint32_t>(frame.size()))] = std::byte{byte()};
      if (random.below(8) == 0) frame.resize(random.below(1'600));
      append(input, byte(), frame);
    }
    ASSERT_EQ(check_net_properties(input).violation, "") << "input " << i << " of seed " << kSeed;
  }
}

TEST(NetProperties, HoldWhenMoreNeighboursAskThanTheTableHolds) {
  constexpr std::uint16_t kNeighbors = 1'500;
  Input input{kWaits};
  for (std::uint16_t i = 1; i <= kNeighbors; ++i) {
    IpAddress source = kRouter6;
    source.bytes[13] = static_cast<std::uint8_t>(i >> 8);
    source.bytes[14] = static_cast<std::uint8_t>(i);
    append(input, 0,
           neighbor(source, wire::solicited_node_group(kOwn6),
                    {.kind = wire::NeighborMessage::Kind::kSolicitation, .target = kOwn6})
               .bytes());
  }
  const NetOutcome outcome = check_net_properties(input);
  EXPECT_EQ(outcome.violation, "");
  EXPECT_EQ(outcome.counters.ndp_answered, kNeighbors);
  EXPECT_EQ(outcome.counters.neighbor.evicted, kNeighbors - net::NeighborCache::kEntriesMax);
}

// What the reader of frames is there to find, so that it cannot be blind.
TEST(NetFrames, AFrameThatMayNotLeaveIsFaulty) {
  const auto reply = icmp(kVip, kClient, 0).payload("ping").do_not_fragment().macs(kMac, kPeerMac);
  EXPECT_EQ(read_sent(reply.bytes()).kind, SentKind::kEchoReply);
  const auto fault = [](const PacketBuilder& frame) { return read_sent(frame.bytes()).fault; };
  EXPECT_EQ(fault(PacketBuilder{reply}.macs(kPeerMac, kPeerMac)), "from another station");
  EXPECT_EQ(fault(PacketBuilder{reply}.macs(kMac, kMac)), "to no station");
  EXPECT_EQ(fault(PacketBuilder{reply}.padding(1)), "bytes behind the packet");
  EXPECT_EQ(fault(PacketBuilder{reply}.wrong_ip_checksum()), "a wrong checksum of the header");
  EXPECT_EQ(fault(PacketBuilder{reply}.octet(14 + 20 + 8, 'P')), "a wrong checksum");
  EXPECT_EQ(fault(PacketBuilder{reply}.time_to_live(1)), "a message with other hops");
  for (const char* nobody : {"0.0.0.0", "127.0.0.1", "240.0.0.1", "192.0.2.255", "192.0.2.10"})
    EXPECT_EQ(fault(PacketBuilder{reply}.destination(*IpAddress::parse(nobody))), "to no host")
        << nobody;
  EXPECT_EQ(fault(PacketBuilder{reply}.destination(IpAddress::v4(224, 0, 0, 1))), "to a group");
  EXPECT_EQ(fault(icmp(kClient, kRouter, 0).do_not_fragment().macs(kMac, kPeerMac)), "not from us");
  const auto about_tcp = tcp(at(kClient, 1), at(kVip, 2)).ip_bytes();
  EXPECT_EQ(
      fault(icmp(kVip, kClient, 3, 3).payload(about_tcp).do_not_fragment().macs(kMac, kPeerMac)),
      "an error about no UDP datagram");
}

/// WEIR_WRITE_CORPUS=DIR writes frames of every kind as inputs for the fuzzer there.
TEST(NetProperties, FramesAreInputsOfTheFuzzer) {
  const char* const directory = std::getenv("WEIR_WRITE_CORPUS");
  for (const Named& named : all_frames()) {
    const Input input = input_of(named);
    ASSERT_GT(input.size(), 2 * named.frame.size());
    if (directory == nullptr) continue;
    std::ofstream file{std::filesystem::path{directory} / named.name, std::ios::binary};
    file << std::string(input.begin(), input.end());
  }
}

}  // namespace
}  // namespace weir::testing
