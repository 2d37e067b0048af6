// Every way to a backend, and what all of them have in common. Names are a sentence and the way.

#include <netinet/in.h>

#include "tests/bpf/verdict_worlds.h"

namespace weir::testing {
namespace {

struct Way {
  std::string name;
  World world;
  wire::Endpoint from;
  wire::Endpoint to;
  wire::IpProtocol protocol;
  weir_verdict sent;
  std::uint32_t vip;
  std::uint32_t backend;    ///< 0: mode l7, which has none, and is no hop
  std::size_t outer_bytes;  ///< what is put before the packet
  bool is_same_device = true;

  [[nodiscard]] bool is_v4() const { return to.address.is_v4(); }
  [[nodiscard]] bool is_hop() const { return backend != 0; }
  [[nodiscard]] PacketBuilder packet() const {
    return PacketBuilder::transport(from, to, protocol).payload("twenty-four bytes of it.");
  }
  [[nodiscard]] PacketBuilder first_packet() const {
    return protocol == wire::IpProtocol::kTcp ? packet().payload("").syn() : packet();
  }
  [[nodiscard]] PacketBuilder first_fragment() const {
    return packet().identification(7).more_fragments();
  }
  [[nodiscard]] PacketBuilder later_fragment() const {
    return packet().identification(7).fragment_offset(4);
  }
  /// One whose IP packet has so many bytes.
  [[nodiscard]] PacketBuilder packet_of(std::size_t ip_bytes) const {
    const std::size_t transport = protocol == wire::IpProtocol::kTcp ? 20 : 8;
    return packet().payload(text(ip_bytes - (is_v4() ? 20 : 40) - transport));
  }
};

Way way_of_mode(std::string_view name, ModeId id, bool is_v4, wire::IpProtocol protocol,
                weir_verdict sent, std::size_t outer_bytes) {
  const bool is_same_device = sent == WEIR_TX_IPIP || sent == WEIR_TX_GUE || sent == WEIR_TX_L2;
  return {std::string{name},
          World::kModes,
          is_v4 ? kFrom : kFrom6,
          mode_port(id, is_v4),
          protocol,
          sent,
          id,
          id,
          outer_bytes,
          is_same_device};
}

std::vector<Way> ways() {
  constexpr auto kTcp = wire::IpProtocol::kTcp;
  constexpr auto kUdp = wire::IpProtocol::kUdp;
  std::vector<Way> all{
      way_of_mode("Ipip4", kIpip4, true, kTcp, WEIR_TX_IPIP, 20),
      way_of_mode("Ipip6", kIpip6, false, kTcp, WEIR_TX_IPIP, 40),
      way_of_mode("Ipip4Over6", kIpip4Over6, true, kUdp, WEIR_TX_IPIP, 40),
      way_of_mode("Ipip6Over4", kIpip6Over4, false, kUdp, WEIR_TX_IPIP, 20),
      way_of_mode("Ipip4ToAnotherDevice", kIpip4Other, true, kTcp, WEIR_REDIRECT_IPIP, 20),
      way_of_mode("Ipip6ToAnotherDevice", kIpip6Other, false, kTcp, WEIR_REDIRECT_IPIP, 40),
      way_of_mode("Gue4", kGue4, true, kTcp, WEIR_TX_GUE, 28),
      way_of_mode("Gue6", kGue6, false, kTcp, WEIR_TX_GUE, 48),
      way_of_mode("Gue4Over6", kGue4Over6, true, kUdp, WEIR_TX_GUE, 48),
      way_of_mode("Gue6Over4", kGue6Over4, false, kUdp, WEIR_TX_GUE, 28),
      way_of_mode("Gue4ToAnotherDevice", kGue4Other, true, kTcp, WEIR_REDIRECT_GUE, 28),
      way_of_mode("Gue6ToAnotherDevice", kGue6Other, false, kUdp, WEIR_REDIRECT_GUE, 48),
      way_of_mode("L2v4", kL2v4, true, kTcp, WEIR_TX_L2, 0),
      way_of_mode("L2v6", kL2v6, false, kUdp, WEIR_TX_L2, 0),
      way_of_mode("L2v4ToAnotherDevice", kL2v4Other, true, kUdp, WEIR_REDIRECT_L2, 0),
      {"L7v4", World::kL7, kFrom, at(kVipL7, 80), kTcp, WEIR_REDIRECT_L7, kVipHandOff, 0, 0},
      {"L7v6", World::kL7, kFrom6, at(kVipL7v6, 80), kTcp, WEIR_REDIRECT_L7, kVipHandOff6, 0, 0},
  };
  for (const NatFlow& flow : nat_flows())
    all.push_back({flow.name, World::kNat, flow.client, flow.vip, flow.protocol, WEIR_TX_NAT,
                   flow.id, flow.id, 0});
  return all;
}

/// The cases of one way. `new_flows` is what a packet that begins a flow counts.
class WayCases {
 public:
  explicit WayCases(const Way& way) : way_{way}, cases_{way.world} {}

  void add_packets() {
    sent("ASynOrDatagramIsSentIn", way_.first_packet(), 1);
    sent("AnotherPacketOfTheFlowIsSentIn", way_.packet(), 0).after(way_.first_packet());
    sent("APaddedFrameIsSentIn", way_.packet().padding(11), 1);
    PacketBuilder with_options = way_.packet();
    way_.is_v4() ? with_options.ip_options(3) : with_options.extension(IPPROTO_HOPOPTS, 1);
    sent("OptionsAreSteppedOverIn", with_options, 1);
  }

  void add_hop_limits() {
    sent("AHopLimitOfTwoIsEnoughIn", way_.packet().time_to_live(2), 1);
    for (const std::uint8_t hops : {1, 0}) {
      const std::string name = hops == 1 ? "AHopLimitOfOneIs" : "AHopLimitOfZeroIs";
      const PacketBuilder packet = way_.packet().time_to_live(hops);
      if (way_.is_hop()) {
        counted(name + "AnsweredIn", packet, WEIR_TX_TTL_EXCEEDED, 1);
      } else {
        sent(name + "EnoughForTheDestinationIn", packet, 0);
      }
    }
  }

  void add_sizes() {
    const std::size_t most = kMtu - way_.outer_bytes;
    sent("APacketThatJustFitsIsSentIn", way_.packet_of(most), 1);
    if (!way_.is_hop()) {
      sent("APacketBeyondTheMtuIsSentIn", way_.packet_of(most + 1), 0);
      return;
    }
    counted("OneByteTooManyThatMayNotBeFragmentedIsAnsweredIn",
            way_.packet_of(most + 1).do_not_fragment(), WEIR_TX_TOO_BIG, 1);
    if (way_.is_v4())
      counted("OneByteTooManyIsDroppedIn", way_.packet_of(most + 1), WEIR_DROP_TOO_BIG, 1);
  }

  void add_fragments() {
    sent("AFirstFragmentIsSentIn", way_.first_fragment(), 1);
    sent("ALaterFragmentFollowsItsFirstIn", way_.later_fragment(), 0).after(way_.first_fragment());
  }

  void add_icmp_error() {
    const PacketBuilder about = PacketBuilder::transport(way_.to, way_.from, way_.protocol);
    const PacketBuilder error = way_.is_v4() ? icmp_error(kRouter, way_.to.address, 3, 4, about)
                                             : icmp_error(kRouter6, way_.to.address, 2, 0, about);
    sent("AnErrorAboutTheFlowFollowsItIn", error, 0).after(way_.first_packet());
  }

  void add_tags() {
    const auto with_tags = [this](std::string_view name, std::vector<std::uint16_t> tags) {
      PacketBuilder packet = way_.packet();
      for (std::size_t i = 0; i < tags.size(); i += 2)
        packet.tag(tags[i], tags[i + 1]);
      if (!way_.is_hop())
        return void(
            counted(std::string{name} + "IsLeftToTheHostIn", packet, WEIR_PASS_VIP_TAGGED, 0));
      sent(std::string{name} + "IsSentIn", packet, 1)
          .sent_with_tags(way_.is_same_device ? tags : std::vector<std::uint16_t>{});
    };
    with_tags("ATaggedFrame", {kTagQ, 100});
    with_tags("AFrameOfACustomersVlan", {kTagAd, 200, kTagQ, 100});
    with_tags("AFrameWithTwoPlainTags", {kTagQ, 200, kTagQ, 100});
  }

  [[nodiscard]] std::vector<VerdictCase> list() const { return cases_.list(); }

 private:
  VerdictCase& sent(const std::string& name, const PacketBuilder& packet, std::uint64_t new_flows) {
    return cases_.add(name + way_.name, packet, way_.sent, way_.vip, way_.backend,
                      way_.is_hop() ? new_flows : 0);
  }
  VerdictCase& counted(const std::string& name, const PacketBuilder& packet, weir_verdict verdict,
                       std::uint64_t new_flows) {
    return cases_.add(name + way_.name, packet, verdict, way_.vip, 0, new_flows);
  }

  const Way& way_;
  VerdictCases cases_;
};

}  // namespace

std::vector<VerdictCase> way_cases() {
  std::vector<VerdictCase> all;
  for (const Way& way : ways()) {
    WayCases cases{way};
    cases.add_packets();
    if (way.is_same_device) {  // what these ask comes before the device does
      cases.add_hop_limits();
      cases.add_sizes();
    }
    cases.add_fragments();
    cases.add_icmp_error();
    cases.add_tags();
    std::ranges::move(cases.list(), std::back_inserter(all));
  }
  return all;
}

}  // namespace weir::testing
