#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "l4/wire/address.h"

/// Frames as somebody reads them who knows nothing of l7/net.
namespace weir::testing {

/// The interface that is tried, and who else is there.
namespace net_world {
inline const wire::MacAddress kMac{{0x02, 0, 0, 0, 0, 0x0a}};
inline const wire::IpAddress kOwn = wire::IpAddress::v4(192, 0, 2, 10);
inline const wire::IpAddress kVip = wire::IpAddress::v4(203, 0, 113, 10);
inline const wire::IpAddress kRouter = wire::IpAddress::v4(192, 0, 2, 1);
inline const wire::IpAddress kBalancer = wire::IpAddress::v4(192, 0, 2, 77);
inline const wire::IpAddress kOwn6 = *wire::IpAddress::parse("2001:db8:1::10");
inline const wire::IpAddress kLocal6 = *wire::IpAddress::parse("fe80::ff:fe00:a");  // of kMac
inline const wire::IpAddress kVip6 = *wire::IpAddress::parse("2001:db8:ffff::10");
inline const wire::IpAddress kRouter6 = *wire::IpAddress::parse("2001:db8:1::1");
inline const wire::IpAddress kBalancer6 = *wire::IpAddress::parse("2001:db8:1::77");
inline const std::vector<wire::Prefix> kNetworks = {{kOwn, 24}, {kOwn6, 64}, {kLocal6, 64}};
inline const std::vector<wire::Prefix> kBalancers = {{kBalancer, 32}, {kBalancer6, 128}};
constexpr std::uint16_t kMtu = 1500;
constexpr std::size_t kFrameMax = 14 + kMtu;

[[nodiscard]] bool is_own(const wire::IpAddress& address);
[[nodiscard]] bool is_ours(const wire::IpAddress& address);  ///< or a VIP
/// One host that may be answered: no group, no broadcast address of ours, neither zero nor loopback
/// (RFC 1122, sections 3.2.1.3 and 3.2.2; RFC 4443, section 2.4e).
[[nodiscard]] bool is_one_host(const wire::IpAddress& address);
}  // namespace net_world

/// An IP packet in a frame; offsets count from the frame's first byte.
struct Datagram {
  bool is_v4 = true;
  wire::IpAddress source;
  wire::IpAddress destination;
  std::uint8_t protocol = 0;  ///< behind all extension headers
  std::uint8_t hops = 0;
  std::uint8_t ecn = 0;
  bool is_whole = true;  ///< no fragment
  std::size_t begin = 0;
  std::size_t payload = 0;
  std::size_t end = 0;
};

/// The frame's packet, and the one in it when it is a tunnel's: as far as they lie within each
/// other. Checksums are not looked at.
[[nodiscard]] std::vector<Datagram> read_datagrams(std::span<const std::byte> frame);

/// Whether the checksums of its IP header, if it has one, and of its TCP, UDP or ICMP are right.
[[nodiscard]] bool has_right_ip_checksum(std::span<const std::byte> frame,
                                         const Datagram& datagram);
[[nodiscard]] bool has_right_checksum(std::span<const std::byte> frame, const Datagram& datagram);

/// Makes all checksums right, so that what is damaged elsewhere is looked at.
void repair_checksums(std::span<std::byte> frame);

/// What a frame is that has left.
enum class SentKind : std::uint8_t {
  kArpReply,
  kArpQuestion,
  kArpAnnouncement,
  kSolicitation,
  kAdvertisement,
  kEchoReply,
  kUnreachable,
  kTcp,
  kFaulty,
};
struct SentFrame {
  SentKind kind = SentKind::kFaulty;
  std::string_view fault;  ///< why it may not leave
  /// What somebody must have sent us, byte for byte, for this to be an answer.
  std::span<const std::byte> quotes;
};
[[nodiscard]] SentFrame read_sent(std::span<const std::byte> frame);

}  // namespace weir::testing
