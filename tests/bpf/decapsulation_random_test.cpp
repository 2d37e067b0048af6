// The decapsulation programs and random packets: what comes out is the inner packet, byte for byte,
// but for the congestion mark that RFC 6040 carries inside.

#include <netinet/in.h>

#include <array>
#include <random>

#include "l4/wire/checksum.h"
#include "tests/bpf/decapsulation_fixture.h"

namespace weir::testing {
namespace {

constexpr int kPackets = 400;
constexpr std::size_t kPayloadMax = 1400;

/// RFC 6040, figure 4, by inner then outer mark; nothing: the packet is dropped.
constexpr std::array<std::array<std::optional<Ecn>, 4>, 4> kCombined{{
    // outer: Not-ECT, ECT(1), ECT(0), CE
    {{kNotEct, kNotEct, kNotEct, std::nullopt}},
    {{kEct1, kEct1, kEct1, kCe}},
    {{kEct0, kEct1, kEct0, kCe}},
    {{kCe, kCe, kCe, kCe}},
}};

using Random = std::mt19937;

std::size_t below(Random& random, std::size_t limit) { return random() % limit; }

Frame random_bytes(Random& random, std::size_t count) {
  Frame bytes(count);
  for (std::byte& byte : bytes)
    byte = static_cast<std::byte>(random());
  return bytes;
}

PacketBuilder random_inner(Random& random, bool is_v4) {
  const wire::Endpoint from = at(is_v4 ? kClient : kClient6, 1 + below(random, 65535));
  const wire::Endpoint to = at(is_v4 ? kVip : kVip6, 1 + below(random, 65535));
  PacketBuilder packet = below(random, 2) == 0 ? tcp(from, to) : udp(from, to);
  packet.payload(random_bytes(random, below(random, kPayloadMax)))
      .time_to_live(static_cast<std::uint8_t>(1 + below(random, 255)))
      .identification(static_cast<std::uint16_t>(random()));
  if (is_v4) packet.ip_options(below(random, 11));
  if (!is_v4 && below(random, 3) == 0) packet.extension(IPPROTO_DSTOPTS, below(random, 4));
  return packet;
}

PacketBuilder random_outer(Random& random, const TunnelKind& kind, const PacketBuilder& inner) {
  PacketBuilder outer;
  if (kind.gue) {
    outer = kind.outer_is_v4 ? in_gue4(inner.ip_bytes(), *kind.gue)
                             : in_gue6(inner.ip_bytes(), *kind.gue);
  } else {
    outer = kind.outer_is_v4 ? inner.inside(kOuterSource, kBackend)
                             : inner.inside(kOuterSource6, kBackend6);
  }
  if (kind.outer_is_v4) outer.ip_options(below(random, 4) == 0 ? below(random, 11) : 0);
  return outer.time_to_live(static_cast<std::uint8_t>(random()));
}

INSTANTIATE_TEST_SUITE_P(Xdp, RandomTunnels,
                         ::testing::Combine(::testing::Values(BpfProgram::kDecapsulator),
                                            ::testing::ValuesIn(tunnel_kinds())),
                         tunnel_kind_name);

}  // namespace

TEST_P(RandomTunnels, GiveTheInnerPacketWithTheCongestionMarkOfTheOuterOne) {
  const auto& [program, kind] = GetParam();
  start_decapsulation(program);
  if (!is_ready()) return;
  constexpr unsigned kSeed = 20261125;
  RecordProperty("seed", kSeed);
  Random random{kSeed};
  for (int i = 0; i < kPackets && !HasFailure(); ++i) {
    SCOPED_TRACE(i);
    const std::size_t inner_ecn = below(random, 4);
    const std::size_t outer_ecn = below(random, 4);
    const auto dscp = static_cast<std::uint8_t>(random() & 0xfc);
    PacketBuilder inner = random_inner(random, kind.inner_is_v4);
    inner.type_of_service(static_cast<std::uint8_t>(dscp | inner_ecn));
    PacketBuilder outer = random_outer(random, kind, inner);
    outer.type_of_service(static_cast<std::uint8_t>((random() & 0xfc) | outer_ecn));
    const std::optional<Ecn> combined = kCombined[inner_ecn][outer_ecn];
    if (!combined) {
      expect(outer.bytes(), "drop_ecn");
      continue;
    }
    inner.type_of_service(static_cast<std::uint8_t>(dscp | *combined));
    expect(outer.bytes(), "pass_inner", inner.bytes());
  }
}

TEST_P(RandomTunnels, AreDroppedWithAnyBitOfGueDamaged) {
  const auto& [program, kind] = GetParam();
  if (!kind.gue) return;  // nothing but the inner packet's own checksums guards it
  start_decapsulation(program);
  if (!is_ready()) return;
  Random random{7};
  for (int i = 0; i < kPackets / 4 && !HasFailure(); ++i) {
    const PacketBuilder inner = random_inner(random, kind.inner_is_v4);
    Frame frame = random_outer(random, kind, inner).ip_options(0).bytes();
    // Any bit behind the inner header: what stands before decides more than the checksum.
    const std::size_t first = frame.size() - inner.ip_bytes().size() + 60;
    if (first >= frame.size()) continue;
    frame[first + below(random, frame.size() - first)] ^= std::byte(1U << below(random, 8));
    expect(frame, "drop_checksum");
  }
}

TEST_P(RandomTunnels, KeepAnInnerChecksumWrongThatWas) {
  const auto& [program, kind] = GetParam();
  if (!kind.inner_is_v4) return;  // IPv6 headers have none
  start_decapsulation(program);
  if (!is_ready()) return;
  Random random{8};
  const PacketBuilder inner = random_inner(random, true).wrong_ip_checksum().type_of_service(kEct0);
  const RunResult result = run(random_outer(random, kind, inner).type_of_service(kCe).bytes());
  ASSERT_GE(result.output.size(), kEthernetBytes + sizeof(wire::Ipv4Header));
  const auto remainder = [](std::span<const std::byte> ip) {
    const std::size_t words = std::to_integer<std::size_t>(ip[0]) & 0x0f;
    return wire::ChecksumSum{}.add(ip.first(4 * words)).finish();
  };
  EXPECT_EQ(std::to_integer<unsigned>(result.output[kEthernetBytes + 1]) & 3, kCe);
  EXPECT_EQ(remainder(std::span{result.output}.subspan(kEthernetBytes)),
            remainder(inner.ip_bytes()));
}

TEST_P(RandomTunnels, HaveAResultWhateverIsChangedInTheirHeaders) {
  const auto& [program, kind] = GetParam();
  start_decapsulation(program);
  if (!is_ready()) return;
  constexpr std::size_t kHeaders = 100;
  Random random{9};
  for (int i = 0; i < kPackets && !HasFailure(); ++i) {
    SCOPED_TRACE(i);
    Frame frame = random_outer(random, kind, random_inner(random, kind.inner_is_v4)).bytes();
    const std::size_t changes = 1 + below(random, 3);
    for (std::size_t change = 0; change < changes; ++change) {
      const std::size_t at = kEthernetBytes + below(random, kHeaders - kEthernetBytes);
      if (at < frame.size()) frame[at] = static_cast<std::byte>(random());
    }
    const RunResult result =
        run(frame);  // the engines have to agree, and the host's has a sanitizer
    EXPECT_EQ(result.moved.size(), 1U) << describe(result);
  }
}

}  // namespace weir::testing
