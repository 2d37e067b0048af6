#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "l4/base/clock.h"
#include "l4/base/random.h"
#include "l4/wire/address.h"
#include "l4/wire/neighbor_messages.h"
#include "l7/net/decap.h"
#include "l7/net/ip.h"
#include "l7/net/neighbor.h"
#include "l7/net/packet_queue.h"
#include "l7/net/path_mtu.h"
#include "l7/net/token_bucket.h"
#include "l7/net/transport.h"
#include "l7/port/port.h"

namespace weir::net {

struct InterfaceConfig {
  /// Our own addresses, each with the network that is reached without a router. They are announced,
  /// answered for in ARP and NDP, and the source of what we send on our own behalf.
  std::vector<wire::Prefix> addresses;
  std::optional<wire::IpAddress> gateway_v4 = std::nullopt;
  std::optional<wire::IpAddress> gateway_v6 = std::nullopt;
  /// Addresses that a balancer sends us packets for: accepted as destination, valid as source,
  /// never announced and never answered for in ARP or NDP, for they are not ours on the link.
  std::vector<wire::IpAddress> vips = {};
  /// Balancers on other hosts: from these, and to an own address, tunnel packets are taken apart,
  /// and what is in them may be for a VIP. Whoever is listed decides what source the inner packet
  /// appears to come from. None: tunnel packets are like any other protocol that nobody speaks.
  std::vector<wire::Prefix> tunnel_sources = {};
  /// Kernel peers on a veth leave TCP checksums for the hardware to finish: the field then holds
  /// the sum of the pseudo header only. Accept that too (checksums protect nothing on a veth).
  bool accept_partial_checksums = false;
  /// Announces own addresses and answers questions for them. One of several interfaces with the
  /// same addresses does; the others learn from the questions that they are shown.
  bool speaks = true;
};

/// One field per reason; all since start, written by the owner's core only.
struct InterfaceCounters {
  std::uint64_t frames_received = 0;
  std::uint64_t segments_delivered = 0;  ///< handed to the transport
  std::uint64_t partial_checksums = 0;   ///< of these, with an unfinished checksum
  std::uint64_t decapsulated_ipip = 0;   ///< came in a tunnel, and the inner packet was looked at
  std::uint64_t decapsulated_gue = 0;
  std::uint64_t frames_sent = 0;

  // Received and dropped.
  std::uint64_t dropped_link_broadcast = 0;  ///< to all stations, but not to all hosts
  std::uint64_t dropped_ether_type = 0;      ///< neither IPv4, IPv6 nor ARP
  std::uint64_t dropped_truncated = 0;       ///< shorter than its headers say
  std::uint64_t dropped_malformed_ip = 0;    ///< impossible version, length or header
  std::uint64_t dropped_ip_checksum = 0;     ///< IPv4 header checksum
  std::uint64_t dropped_ttl = 0;             ///< TTL or hop limit is zero
  std::uint64_t dropped_source = 0;          ///< a group, broadcast, loopback or our own address
  std::uint64_t dropped_destination = 0;     ///< neither an own address nor a VIP
  std::uint64_t dropped_fragment = 0;        ///< fragments are not reassembled
  std::uint64_t dropped_extension = 0;       ///< too many or unwanted IPv6 extension headers
  std::uint64_t dropped_protocol = 0;        ///< a protocol nobody here speaks
  std::uint64_t dropped_checksum = 0;        ///< TCP, UDP, ICMP or ICMPv6
  std::uint64_t dropped_malformed_arp = 0;
  std::uint64_t dropped_malformed_ndp = 0;  ///< fails the checks of RFC 4861, section 7.1
  std::uint64_t dropped_malformed_icmp = 0;
  std::uint64_t dropped_icmp_type = 0;           ///< a message without meaning for us
  std::uint64_t dropped_icmp_quote = 0;          ///< an error about something we did not send
  std::uint64_t dropped_error_queue = 0;         ///< more errors than the transport fetched
  std::uint64_t dropped_udp = 0;                 ///< no UDP service; answered with port unreachable
  std::uint64_t address_conflicts = 0;           ///< somebody else claims an own address
  std::uint64_t dropped_tunnel_source = 0;       ///< a tunnel packet of an unlisted source
  std::uint64_t dropped_tunnel_malformed = 0;    ///< a balancer's, but its headers make no sense
  std::uint64_t dropped_tunnel_destination = 0;  ///< the inner packet is for no VIP
  std::uint64_t dropped_tunnel_ecn = 0;          ///< congestion marked, but the inner is not ECT

  // Answered by the interface itself.
  std::uint64_t questions_left = 0;  ///< ARP and NDP, to the interface that speaks
  std::uint64_t arp_answered = 0;
  std::uint64_t ndp_answered = 0;
  std::uint64_t echo_answered = 0;
  std::uint64_t unreachable_sent = 0;
  std::uint64_t address_defended = 0;     ///< a conflict was answered by an announcement
  std::uint64_t limited_echo = 0;         ///< not answered because of the rate limit
  std::uint64_t limited_unreachable = 0;  ///< not sent because of the rate limit

  // To be sent and dropped.
  std::uint64_t dropped_no_buffer = 0;   ///< the pool was empty; for what we send ourselves
  std::uint64_t dropped_no_route = 0;    ///< off-link, and no gateway for that family
  std::uint64_t dropped_no_source = 0;   ///< we have no such address (any more)
  std::uint64_t dropped_too_big = 0;     ///< longer than the MTU
  std::uint64_t dropped_send_queue = 0;  ///< the port refused frames for too long

  // Path MTUs.
  std::uint64_t path_mtu_lowered = 0;
  std::uint64_t path_mtu_evicted = 0;  ///< made room for another destination

  NeighborCounters neighbor;
};

/// IPv4 and IPv6 on one port, for one core: checks what comes in, addresses what goes out, resolves
/// next hops, and answers ARP, NDP and echo by itself. Performs no I/O beyond its port and reads no
/// clock.
///
/// One turn of the owner's loop: receive from the port, input() for every frame (a returned segment
/// goes to the transport), poll_error() until empty, advance(now), and at the end of the turn
/// flush(now), which sends everything that was queued since the last one.
///
/// Frames are taken whatever unicast MAC address they carry: a balancer hands them over as they
/// came, addressed to its own device. Replies to VIP clients are routed like all else (on-link or
/// by the gateway) and nothing is learnt from their packets, for the same reason.
///
/// What a balancer on another host sends in a tunnel is taken out of it (decap.h), and is then as
/// if it had come by itself: replies go straight to the client, with the VIP as their source.
/// Tunnels end at own addresses and lead to VIPs, so there is never one in another.
///
/// Not done here: duplicate address detection (addresses are configured by the operator), multicast
/// listener reports, reassembly, and router discovery.
class Interface final : public SegmentOutput, private NeighborOutput {
 public:
  Interface(const InterfaceConfig& config, port::PacketPort& port, Random random, Instant start);
  ~Interface() override = default;
  Interface(const Interface&) = delete;
  Interface& operator=(const Interface&) = delete;

  /// Takes over a new configuration between two turns. Own addresses that are new get announced;
  /// what is known of neighbours stays.
  void configure(const InterfaceConfig& config);

  /// Handles one received frame. A verified TCP segment for us is returned; all else is answered,
  /// learnt from or dropped here.
  [[nodiscard]] std::optional<Segment> input(port::Packet frame, Instant now);

  /// The next validated ICMP error about a TCP segment of ours.
  [[nodiscard]] std::optional<TransportError> poll_error();

  // SegmentOutput
  [[nodiscard]] port::Packet allocate() override;
  void send(port::Packet segment, const wire::IpAddress& source, const wire::IpAddress& destination,
            Ecn ecn, Instant now) override;
  [[nodiscard]] std::uint16_t segment_size(const wire::IpAddress& destination) const override;
  [[nodiscard]] std::uint16_t receive_segment_size(const wire::IpAddress& local,
                                                   const wire::IpAddress& remote) const override;
  void lower_path_mtu(const wire::IpAddress& destination, std::uint16_t mtu, Instant now) override;

  // For another process on this host that our frames pass by: it is reached by addressing a frame
  // to its own source, which the balancer's end of the device looks for (bpf/l7_return.bpf.c).

  /// What was received as a segment.
  void hand_over(Segment segment);
  /// What was received as this frame.
  void hand_over(port::Packet frame);

  /// Hands queued frames to the port. Returns how many it did not take; they stay in order at the
  /// head for the next call, which should come soon.
  std::size_t flush(Instant now);

  /// Runs the timers that are due, of neighbours and announcements; path MTUs age by this time.
  void advance(Instant now);
  [[nodiscard]] Instant next_deadline() const;

  [[nodiscard]] InterfaceCounters counters() const;

 private:
  enum class Owned : std::uint8_t { kNo, kVip, kOwn };
  struct LocalAddress {
    wire::IpAddress address;
    Owned owned = Owned::kNo;
    Instant defend_after{};  // a conflict is answered from here on
  };
  /// An address that is to be announced again.
  struct Announcement {
    wire::IpAddress address;
    unsigned left = 0;
    Instant due = kNever;  // kNever: set by the next advance(), for configure() knows no time
  };

  // Addresses and routes.
  [[nodiscard]] Owned ownership(const wire::IpAddress& address) const;
  [[nodiscard]] bool is_on_link(const wire::IpAddress& address) const;
  [[nodiscard]] bool may_send(const wire::IpAddress& source) const;
  [[nodiscard]] bool is_neighbors(const wire::MacAddress& mac) const;
  [[nodiscard]] std::optional<wire::IpAddress> next_hop_to(
      const wire::IpAddress& destination) const;
  [[nodiscard]] std::optional<wire::IpAddress> source_towards(const wire::IpAddress& target) const;
  [[nodiscard]] LocalAddress* find_own(const wire::IpAddress& address);
  void announce(const wire::IpAddress& address);
  void repeat_announcements(Instant now);
  void defend(LocalAddress& own, Instant now);
  [[nodiscard]] std::size_t tunnel_overhead_max() const;

  // Input, by layer. A frame that is not handed on is freed where it is last looked at.
  void input_arp(std::span<const std::byte> bytes, Instant now);
  std::optional<Segment> input_ip(port::Packet packet, const wire::EthernetHeader& ethernet,
                                  const IpParse& parsed, Instant now);
  std::optional<Segment> input_tunnel(port::Packet packet, const wire::EthernetHeader& ethernet,
                                      const IpDatagram& outer, TunnelKind kind, Instant now);
  std::optional<Segment> input_transport(port::Packet packet, const wire::EthernetHeader& ethernet,
                                         const IpDatagram& datagram, Instant now);
  std::optional<Segment> input_tcp(port::Packet segment, const wire::EthernetHeader& ethernet,
                                   const IpDatagram& datagram, Instant now);
  void input_udp(port::Packet packet, const IpDatagram& datagram, Instant now);
  void input_icmp(port::Packet message, const IpDatagram& datagram, Instant now);
  void input_icmpv6(port::Packet message, const IpDatagram& datagram, Instant now);
  void input_neighbor(const wire::NeighborMessage& message, const IpDatagram& datagram,
                      Instant now);
  void input_error(const port::Packet& message, wire::Family family, TransportError::Kind kind,
                   std::uint16_t mtu);
  [[nodiscard]] bool is_for_us(const IpDatagram& datagram, bool link_multicast);
  void count_fault(IpFault fault);
  void confirm_neighbor(const IpDatagram& datagram, const wire::MacAddress& mac, Instant now);

  // Output.
  void answer_echo(port::Packet message, const IpDatagram& datagram, Instant now);
  void answer_unreachable(const port::Packet& packet, const IpDatagram& datagram, Instant now);
  [[nodiscard]] port::Packet make_neighbor_message(const wire::NeighborMessage& message,
                                                   const wire::IpAddress& source,
                                                   const wire::IpAddress& destination);
  void send_arp(const wire::ArpMessage& message, const wire::MacAddress& mac);
  void route(port::Packet packet, const wire::IpAddress& destination, Instant now);
  void enqueue(port::Packet packet, wire::EtherType type, const wire::MacAddress& mac);
  [[nodiscard]] port::Packet allocate_own();

  // NeighborOutput
  void solicit(const wire::IpAddress& target,
               const std::optional<wire::MacAddress>& known) override;
  void deliver(port::Packet packet, const wire::IpAddress& next_hop,
               const wire::MacAddress& mac) override;

  static constexpr std::size_t kSendQueueMax = 1024;  // a bit over what a send ring refuses at once
  static constexpr std::size_t kErrorsMax = 64;

  port::PacketPort& port_;
  wire::MacAddress mac_;
  std::uint16_t mtu_;
  InterfaceConfig config_;
  std::vector<LocalAddress> local_;          // sorted by address, each once
  std::vector<wire::IpAddress> broadcasts_;  // of our IPv4 networks
  std::vector<Announcement> announcements_;  // few, and soon none
  std::size_t tunnel_overhead_ = 0;          // see tunnel_overhead_max()
  PathMtuCache path_mtus_;
  NeighborCache neighbors_;
  PacketQueue send_queue_{kSendQueueMax};
  std::vector<TransportError> errors_;  // a ring would be more than this rare queue needs
  TokenBucket echo_limit_;
  TokenBucket unreachable_limit_;
  wire::IpAddress confirmed_;  // the neighbour confirmed last, and when: once a second is enough
  Instant confirmed_at_{};
  Instant now_;  // of the last advance()
  InterfaceCounters counters_;
};

}  // namespace weir::net
