#include "tests/fuzz/sent_frames.h"

#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>

namespace weir::testing {
namespace {

constexpr std::size_t kUdpHeader = 8;
constexpr std::size_t kIcmpHeader = 8;
constexpr std::size_t kRst = 0x04;
constexpr std::uint8_t kAnswerHops = 64;
constexpr std::uint16_t kGuePort = 6080;
constexpr std::uint16_t kDynamicPort = 0xc000;

/// Bytes of a packet that may be others afterwards, by offset in the IP packet.
class Freedom {
 public:
  Freedom& at(std::size_t offset, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i)
      free_.push_back(offset + i);
    return *this;
  }
  /// Nothing, or the first byte that differs and may not.
  [[nodiscard]] std::string compare(FrameView before, FrameView after) const {
    if (before.size() != after.size())
      return fmt::format("{} bytes became {}", before.size(), after.size());
    for (std::size_t i = 0; i < before.size(); ++i)
      if (before[i] != after[i] && std::ranges::find(free_, i) == free_.end())
        return fmt::format("byte {} of the IP packet was changed", i);
    return {};
  }

 private:
  std::vector<std::size_t> free_;
};

/// Hop limit, and the checksum over it.
Freedom hop_freedom(bool is_v4) {
  Freedom freedom;
  if (is_v4)
    freedom.at(8, 1).at(10, 2);
  else
    freedom.at(7, 1);
  return freedom;
}

Freedom address_freedom(bool is_v4) {
  return hop_freedom(is_v4).at(is_v4 ? 12 : 8, is_v4 ? 8 : 32);
}

FrameView packet_of(FrameView frame, const Decoded& packet) {
  return frame.subspan(packet.ip_at, packet.ip_bytes);
}

std::string check_ipv4_sum(const Passage& passage) {
  if (!passage.before.is_v4) return {};
  if (sum_of_ipv4_header(passage.in, passage.before) ==
      sum_of_ipv4_header(passage.out, passage.after))
    return {};
  return "the IPv4 header checksum does not follow the header";
}

std::string check_hop(const Passage& passage) {
  if (passage.after.hop_limit + 1 == passage.before.hop_limit) return {};
  return fmt::format("hop limit {} became {}", passage.before.hop_limit, passage.after.hop_limit);
}

/// The first that is not empty.
template <typename... Rest>
std::string first_of(std::string found, Rest... rest) {
  if constexpr (sizeof...(rest) == 0)
    return found;
  else
    return found.empty() ? first_of(std::move(rest)...) : found;
}

/// The sum that a receiver finds in an outer datagram: it is 0 if the checksums inside are right,
/// or if there is none to go by, because then every byte was read.
std::uint32_t expected_outer_sum(const Passage& passage) {
  const Decoded& packet = passage.before;
  const FrameView frame = passage.in;
  if (packet.is_first_fragment || packet.is_later_fragment || packet.has_extensions) return 0;
  if (packet.protocol == IPPROTO_UDP &&
      (word_at(frame, packet.l4_at + 6) == 0 ||
       word_at(frame, packet.l4_at + 4) != packet.ip_end() - packet.l4_at))
    return 0;
  const std::uint32_t header = packet.is_v4 ? sum_of_ipv4_header(frame, packet) : 0;
  return (header + sum_of_segment(frame, packet)) % 0xffff;
}

std::string check_gue(const Passage& passage) {
  const std::size_t at = passage.after.l4_at;
  if (at + kUdpHeader > passage.out.size()) return "no room for an outer UDP header";
  if (word_at(passage.out, at + 2) != kGuePort) return "another port than GUE's";
  if (word_at(passage.out, at) < kDynamicPort) return "the outer source port is no dynamic one";
  if (word_at(passage.out, at + 4) != passage.out.size() - at) return "a wrong outer UDP length";
  if (word_at(passage.out, at + 6) == 0) return "no outer UDP checksum";
  const std::uint32_t sum = sum_of_segment(passage.out, passage.after);
  const std::uint32_t expected = expected_outer_sum(passage);
  if (sum == expected) return {};
  return fmt::format("the outer UDP checksum is off by {:#x}, and {:#x} inside", sum, expected);
}

std::string check_outer(const Passage& passage, std::uint8_t protocol) {
  const Decoded& outer = passage.after;
  if (!outer.is_whole || outer.ip_end() != passage.out.size()) return "a wrong outer length";
  if (outer.protocol != protocol) return fmt::format("outer protocol {}", outer.protocol);
  if (outer.hop_limit != 64) return "another outer hop limit than 64";
  if (!outer.is_v4) return {};
  if (outer.l4_at != outer.ip_at + 20) return "outer IPv4 options";
  if (word_at(passage.out, outer.ip_at + 6) != 0x4000) return "the outer packet may be fragmented";
  if (sum_of_ipv4_header(passage.out, outer) != 0) return "a wrong outer IPv4 checksum";
  return {};
}

/// The part of an IP packet that NAT may rewrite beyond addresses.
std::string check_translated_segment(const Passage& passage) {
  const Decoded& before = passage.before;
  const auto offset = checksum_offset(before.protocol);
  if (before.is_later_fragment || !offset) return {};
  if (before.l4_at + *offset + 2 > before.ip_end()) return "a segment without a checksum was sent";
  const bool had_none =
      before.protocol == IPPROTO_UDP && word_at(passage.in, before.l4_at + 6) == 0;
  if (had_none)
    return word_at(passage.out, passage.after.l4_at + 6) == 0 ? "" : "a UDP checksum appeared";
  if (before.protocol == IPPROTO_UDP && word_at(passage.out, passage.after.l4_at + 6) == 0)
    return "the UDP checksum disappeared";
  const std::uint32_t sum = sum_of_segment(passage.in, before);
  if (sum_of_segment(passage.out, passage.after) == sum) return {};
  return fmt::format("the transport checksum does not follow; it was off by {:#x}", sum);
}

}  // namespace

std::string check_tunnel(const Passage& passage, bool is_gue) {
  const std::uint8_t plain = passage.before.is_v4 ? IPPROTO_IPIP : IPPROTO_IPV6;
  std::string found = check_outer(passage, is_gue ? std::uint8_t{IPPROTO_UDP} : plain);
  if (found.empty() && is_gue) found = check_gue(passage);
  if (!found.empty()) return found;
  const std::size_t inner_at = passage.after.l4_at + (is_gue ? kUdpHeader : 0);
  auto inner = decode_ip(passage.out, inner_at, passage.before.is_v4);
  if (!inner || inner->ip_end() != passage.out.size()) return "no whole packet inside";
  const Passage inside{passage.in, passage.out, passage.before, *inner};
  return first_of(
      hop_freedom(passage.before.is_v4)
          .compare(packet_of(passage.in, passage.before), packet_of(passage.out, *inner)),
      check_hop(inside), check_ipv4_sum(inside));
}

std::string check_rewritten_macs(const Passage& passage) {
  return first_of(hop_freedom(passage.before.is_v4)
                      .compare(passage.in.subspan(passage.before.ip_at),
                               passage.out.subspan(passage.after.ip_at)),
                  check_hop(passage), check_ipv4_sum(passage));
}

std::string check_translated(const Passage& passage) {
  const Decoded& before = passage.before;
  if (!passage.after.is_whole) return "what was translated is broken";
  Freedom freedom = address_freedom(before.is_v4);
  const std::size_t l4 = before.l4_at - before.ip_at;
  if (!before.is_later_fragment) {
    if (is_icmp_error(passage.in, before))
      freedom.at(l4 + 2, 2).at(l4 + kIcmpHeader, before.ip_bytes - l4 - kIcmpHeader);
    else if (const auto offset = checksum_offset(before.protocol))
      freedom.at(l4, 4).at(l4 + *offset, 2);
  }
  return first_of(
      freedom.compare(passage.in.subspan(before.ip_at), passage.out.subspan(passage.after.ip_at)),
      check_hop(passage), check_ipv4_sum(passage), check_translated_segment(passage));
}

std::string check_echo_reply(const Passage& passage) {
  const Decoded& before = passage.before;
  const std::size_t l4 = before.l4_at - before.ip_at;
  if (passage.after.source != before.destination || passage.after.destination != before.source)
    return "an echo reply to somebody else";
  if (passage.after.hop_limit != kAnswerHops) return "another hop limit than 64";
  if (word_at(passage.out, passage.after.l4_at) != (before.is_v4 ? 0 : 129 << 8))
    return "no echo reply";
  // Addresses change sides, which no sum notices, and the checksum follows type and hop limit.
  return first_of(
      address_freedom(before.is_v4)
          .at(l4, 4)
          .compare(passage.in.subspan(before.ip_at), passage.out.subspan(passage.after.ip_at)),
      check_ipv4_sum(passage), check_translated_segment(passage));
}

std::string check_answer_packet(const Passage& passage) {
  const Decoded& after = passage.after;
  if (!after.is_whole || after.ip_end() != passage.out.size()) return "an answer of a wrong length";
  if (after.source != passage.before.destination || after.destination != passage.before.source)
    return "an answer to somebody else";
  if (after.is_v4 && sum_of_ipv4_header(passage.out, after) != 0)
    return "an answer with a wrong IPv4 checksum";
  if (sum_of_segment(passage.out, after) != 0) return "an answer with a wrong checksum";
  return {};
}

std::string check_icmp_error(const Passage& passage, std::uint8_t type4, std::uint8_t type6) {
  const Decoded& after = passage.after;
  if (auto found = check_answer_packet(passage); !found.empty()) return found;
  if (!is_icmp_error(passage.out, after)) return "no ICMP error";
  if (word_at(passage.out, after.l4_at) >> 8 != (after.is_v4 ? type4 : type6))
    return "an ICMP error of another type";
  const FrameView quote = passage.out.subspan(after.l4_at + kIcmpHeader);
  const FrameView quoted = packet_of(passage.in, passage.before);
  const std::size_t least = std::min<std::size_t>(quoted.size() & ~std::size_t{3}, 548);
  if (quote.size() < least || quote.size() > quoted.size()) return "a quote of a wrong length";
  if (!std::ranges::equal(quote, quoted.first(quote.size()))) return "a quote that is none";
  return {};
}

std::string check_refusal(const Passage& passage) {
  if (passage.before.protocol != IPPROTO_TCP) return check_icmp_error(passage, 3, 1);
  if (auto found = check_answer_packet(passage); !found.empty()) return found;
  const std::size_t at = passage.after.l4_at;
  if (passage.after.protocol != IPPROTO_TCP || passage.after.ip_end() - at != 20)
    return "no RST of 20 bytes";
  if ((word_at(passage.out, at + 12) & kRst) == 0) return "no RST";
  const auto asked = ports_of(passage.in, passage.before);
  if (!asked || word_at(passage.out, at) != asked->destination ||
      word_at(passage.out, at + 2) != asked->source)
    return "an RST of another connection";
  return {};
}

std::string check_way_back(const Passage& passage) {
  const FrameView in = passage.in, out = passage.out;
  if (!std::ranges::equal(out.first(6), in.subspan(6, 6)) ||
      !std::ranges::equal(out.subspan(6, 6), in.first(6)))
    return "MAC addresses that are not exchanged";
  const std::size_t tags = passage.before.tag_bytes;
  if (passage.after.tag_bytes != tags ||
      !std::ranges::equal(out.subspan(12, tags), in.subspan(12, tags)))
    return "other tags";
  return {};
}

std::string check_way_to_backend(const Passage& passage) {
  const auto next_hop = std::as_bytes(std::span{kWorldNextHop.bytes});
  const auto own = std::as_bytes(std::span{kWorldOwnMac.bytes});
  if (!std::ranges::equal(passage.out.first(6), next_hop) ||
      !std::ranges::equal(passage.out.subspan(6, 6), own))
    return "other MAC addresses than the backend's next hop has";
  return {};
}

}  // namespace weir::testing
