#include "tests/bpf/sent_frame.h"

#include <fmt/format.h>
#include <linux/bpf.h>
#include <netinet/in.h>

#include <algorithm>

namespace weir::testing {
namespace {

using Bytes = std::vector<std::byte>;

constexpr std::size_t kMacBytes = 12;
constexpr unsigned kTypeIpv4 = 0x0800;
constexpr std::size_t kIpv4HopLimit = 8;
constexpr std::size_t kIpv6HopLimit = 7;
constexpr std::size_t kIpv4Checksum = 10;
constexpr unsigned kAnswerHopLimit = 64;
constexpr unsigned kRightSum = 0xffff;

unsigned byte_at(const Bytes& bytes, std::size_t offset) {
  return std::to_integer<unsigned>(bytes.at(offset));
}
unsigned word_at(const Bytes& bytes, std::size_t offset) {
  return byte_at(bytes, offset) << 8 | byte_at(bytes, offset + 1);
}
Bytes slice(const Bytes& bytes, std::size_t offset, std::size_t count) {
  const auto start = bytes.begin() + static_cast<std::ptrdiff_t>(offset);
  return {start, start + static_cast<std::ptrdiff_t>(count)};
}
Bytes from(const Bytes& bytes, std::size_t offset) {
  return slice(bytes, offset, bytes.size() - offset);
}
Bytes of_macs(const wire::MacAddress& destination, const wire::MacAddress& source) {
  Bytes out;
  for (const wire::MacAddress* mac : {&destination, &source})
    for (const std::uint8_t octet : mac->bytes)
      out.push_back(std::byte{octet});
  return out;
}

/// A frame taken apart.
struct Parts {
  Bytes macs;
  std::vector<std::uint16_t> tags;
  unsigned type = 0;
  Bytes rest;

  [[nodiscard]] bool is_v4() const { return type == kTypeIpv4; }
};

Parts parts_of(const Bytes& frame) {
  Parts parts;
  parts.macs = slice(frame, 0, kMacBytes);
  std::size_t at = kMacBytes;
  for (; word_at(frame, at) == kTagQ || word_at(frame, at) == kTagAd; at += 4)
    for (const std::size_t half : {at, at + 2})
      parts.tags.push_back(static_cast<std::uint16_t>(word_at(frame, half)));
  parts.type = word_at(frame, at);
  parts.rest = from(frame, at + 2);
  return parts;
}

std::size_t header_bytes(const Bytes& ip, bool is_v4) {
  return is_v4 ? 4 * (byte_at(ip, 0) & 0x0f) : 40;
}

/// As its own header says.
std::size_t ip_bytes(const Bytes& ip, bool is_v4) {
  return is_v4 ? word_at(ip, 2) : 40 + word_at(ip, 4);
}

/// RFC 1071 over an IPv4 header as it lies there.
unsigned header_sum(const Bytes& ip) {
  unsigned sum = 0;
  for (std::size_t i = 0; i < header_bytes(ip, true); i += 2)
    sum += word_at(ip, i);
  while (sum > 0xffff)
    sum = (sum & 0xffff) + (sum >> 16);
  return sum;
}

/// `after` is `before` with its hop limit lowered by one; a checksum that was wrong is as wrong.
void expect_one_hop_further(const Bytes& after, Bytes before, bool is_v4) {
  ASSERT_EQ(after.size(), before.size());
  const std::size_t hop_limit = is_v4 ? kIpv4HopLimit : kIpv6HopLimit;
  before[hop_limit] = static_cast<std::byte>(byte_at(before, hop_limit) - 1);
  if (is_v4) {
    const unsigned sum_before = (header_sum(before) + 0x100) % 0xffff;  // before it was lowered
    EXPECT_EQ(header_sum(after) % 0xffff, sum_before) << "the header's checksum";
    std::copy_n(after.begin() + kIpv4Checksum, 2, before.begin() + kIpv4Checksum);
  }
  EXPECT_EQ(after, before) << hexdump(after) << "\nexpected\n" << hexdump(before);
}

void expect_way_out(const VerdictCase& expected, const Parts& in, const Parts& out) {
  EXPECT_EQ(out.macs, of_macs(kNextHopMac, kOwnMac));
  const bool is_same_device = action_of(expected.verdict) == XDP_TX;
  const auto natural = is_same_device ? in.tags : std::vector<std::uint16_t>{};
  EXPECT_EQ(out.tags, expected.sent_tags.value_or(natural));
}

/// Behind an outer header, and under GUE one of UDP, stands the packet alone.
void expect_encapsulated(const Parts& in, const Parts& out, bool is_gue) {
  const std::size_t outer = header_bytes(out.rest, out.is_v4());
  EXPECT_EQ(ip_bytes(out.rest, out.is_v4()), out.rest.size());
  const unsigned protocol = byte_at(out.rest, out.is_v4() ? 9 : 6);
  const unsigned inner_protocol = in.is_v4() ? IPPROTO_IPIP : IPPROTO_IPV6;
  EXPECT_EQ(protocol, is_gue ? unsigned{IPPROTO_UDP} : inner_protocol);
  EXPECT_EQ(byte_at(out.rest, out.is_v4() ? kIpv4HopLimit : kIpv6HopLimit), 64u);
  if (out.is_v4()) {
    EXPECT_EQ(header_sum(out.rest), kRightSum);
  }
  std::size_t inner = outer;
  if (is_gue) {
    EXPECT_EQ(word_at(out.rest, outer + 2), unsigned{WEIR_GUE_PORT_DEFAULT});
    EXPECT_EQ(word_at(out.rest, outer + 4), out.rest.size() - outer);
    EXPECT_NE(word_at(out.rest, outer + 6), 0u) << "GUE has a checksum";
    inner += 8;
  }
  expect_one_hop_further(from(out.rest, inner), slice(in.rest, 0, ip_bytes(in.rest, in.is_v4())),
                         in.is_v4());
}

void expect_answer(const Parts& in, const Parts& out) {
  EXPECT_EQ(out.macs, [&in] {
    Bytes exchanged = in.macs;
    std::rotate(exchanged.begin(), exchanged.begin() + kMacBytes / 2, exchanged.end());
    return exchanged;
  }());
  EXPECT_EQ(out.tags, in.tags);
  ASSERT_EQ(out.type, in.type);
  const std::size_t source = in.is_v4() ? 12 : 8;
  const std::size_t length = in.is_v4() ? 4 : 16;
  EXPECT_EQ(slice(out.rest, source, length), slice(in.rest, source + length, length));
  EXPECT_EQ(slice(out.rest, source + length, length), slice(in.rest, source, length));
  EXPECT_EQ(byte_at(out.rest, in.is_v4() ? kIpv4HopLimit : kIpv6HopLimit), kAnswerHopLimit);
  if (in.is_v4()) {
    EXPECT_EQ(header_sum(out.rest), kRightSum);
  }
}

/// Addresses, ports and checksums are in nat_test.cpp.
void expect_translated(const Parts& in, const Parts& out) {
  ASSERT_EQ(out.type, in.type);
  ASSERT_EQ(out.rest.size(), in.rest.size());
  const std::size_t hop_limit = in.is_v4() ? kIpv4HopLimit : kIpv6HopLimit;
  EXPECT_EQ(byte_at(out.rest, hop_limit) + 1, byte_at(in.rest, hop_limit));
  if (in.is_v4()) {
    EXPECT_EQ(header_sum(out.rest), header_sum(in.rest));
  }
}

}  // namespace

void expect_sent_frame(const VerdictCase& expected, const std::vector<std::byte>& frame,
                       const RunResult& result) {
  if (result.action == XDP_DROP) return;
  if (result.action == XDP_PASS || expected.verdict == WEIR_REDIRECT_L7 ||
      expected.verdict == WEIR_REDIRECT_L7_LOCAL) {
    EXPECT_EQ(result.output, frame) << "what is passed is passed untouched";
    return;
  }
  SCOPED_TRACE(fmt::format("frame\n{}\nsent\n{}", hexdump(frame), hexdump(result.output)));
  const Parts in = parts_of(frame), out = parts_of(result.output);
  switch (expected.verdict) {
    case WEIR_TX_IPIP:
    case WEIR_REDIRECT_IPIP:
      expect_way_out(expected, in, out);
      return expect_encapsulated(in, out, false);
    case WEIR_TX_GUE:
    case WEIR_REDIRECT_GUE:
      expect_way_out(expected, in, out);
      return expect_encapsulated(in, out, true);
    case WEIR_TX_L2:
    case WEIR_REDIRECT_L2:
      expect_way_out(expected, in, out);
      EXPECT_EQ(out.type, in.type);
      return expect_one_hop_further(out.rest, in.rest, in.is_v4());
    case WEIR_TX_NAT:
    case WEIR_REDIRECT_NAT:
      expect_way_out(expected, in, out);
      return expect_translated(in, out);
    case WEIR_TX_NAT_REPLY:
      EXPECT_EQ(out.tags, expected.sent_tags.value_or(std::vector<std::uint16_t>{}));
      return expect_translated(in, out);
    default:
      return expect_answer(in, out);
  }
}

}  // namespace weir::testing
