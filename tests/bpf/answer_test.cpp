// ICMP errors that the balancer makes: what they quote, and their checksums, for packets of every
// length.

#include <linux/bpf.h>
#include <netinet/in.h>

#include <random>

#include "l4/wire/checksum.h"
#include "tests/bpf/balancer_fixture.h"

namespace weir::testing {
namespace {

constexpr std::size_t kEthernet = 14;
constexpr std::size_t kIcmpHeader = 8;
constexpr std::size_t kQuoteV4 = 576 - 28;   // RFC 1812, section 4.3.2.3
constexpr std::size_t kQuoteV6 = 1280 - 48;  // RFC 4443, section 2.4 (c)

using Bytes = std::span<const std::byte>;

std::vector<std::byte> random_bytes(std::mt19937& random, std::size_t count) {
  std::vector<std::byte> bytes(count);
  for (std::byte& byte : bytes)
    byte = static_cast<std::byte>(random());
  return bytes;
}

class IcmpError : public ::testing::Test, protected BalancerFixture {
 protected:
  void SetUp() override { start_standard_world(); }

  /// Runs the packet, which has to be answered, and holds the answer against it.
  void expect_answer(const PacketBuilder& packet, bool is_v4, const std::string& verdict) {
    const std::vector<std::byte> sent = packet.ip_bytes();
    const RunResult result = run(packet);
    ASSERT_EQ(result.moved.count(verdict), 1u) << describe(result);
    const std::size_t header = is_v4 ? 20 : 40;
    const std::size_t quoted = std::min(is_v4 ? kQuoteV4 : kQuoteV6, sent.size() & ~std::size_t{3});
    ASSERT_EQ(result.output.size(), kEthernet + header + kIcmpHeader + quoted);
    const Bytes message = Bytes{result.output}.subspan(kEthernet + header);
    const Bytes quote = message.subspan(kIcmpHeader);
    EXPECT_TRUE(std::equal(quote.begin(), quote.end(), sent.begin())) << describe(result);

    wire::ChecksumSum sum;
    if (is_v4) {
      const Bytes ip = Bytes{result.output}.subspan(kEthernet, header);
      EXPECT_EQ(wire::ChecksumSum{}.add(ip).finish(), 0);
    } else {
      sum = wire::pseudo_header_sum(kVip6, kClient6, wire::IpProtocol::kIcmpv6, message.size());
    }
    EXPECT_EQ(sum.add(message).finish(), 0) << sent.size() << " bytes";
  }
};

TEST_F(IcmpError, TimeExceededIsRightForEveryLength) {
  std::mt19937 random{3};
  for (std::size_t size = 0; size <= 1440; size += 5) {
    const std::vector<std::byte> payload = random_bytes(random, size);
    expect_answer(tcp(at(kClient, 40000), at(kVip, 80)).payload(payload).time_to_live(1), true,
                  "tx_ttl_exceeded");
    if (size <= 1400)  // what fits into 1,500 bytes after encapsulation in IPv6
      expect_answer(tcp(at(kClient6, 40000), at(kVip6, 80)).payload(payload).time_to_live(1), false,
                    "tx_ttl_exceeded");
  }
}

TEST_F(IcmpError, TooBigIsRightForEveryLength) {
  std::mt19937 random{4};
  for (std::size_t size = 1441; size <= 1900; size += 3) {
    const std::vector<std::byte> payload = random_bytes(random, size);
    expect_answer(tcp(at(kClient, 40000), at(kVip, 80)).payload(payload).do_not_fragment(), true,
                  "tx_too_big");
    expect_answer(tcp(at(kClient6, 40000), at(kVip6, 80)).payload(payload), false, "tx_too_big");
  }
}

}  // namespace
}  // namespace weir::testing
