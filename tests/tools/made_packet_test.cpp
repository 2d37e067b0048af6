#include "tools/weir/made_packet.h"

#include <gtest/gtest.h>

#include "tests/support/packet_builder.h"

namespace weir::cli {
namespace {

wire::Endpoint at(std::string_view text) { return *wire::Endpoint::parse(text); }

std::vector<std::byte> made(const wire::Endpoint& source, const wire::Endpoint& destination,
                            wire::IpProtocol protocol) {
  return frame_of({.source = source, .destination = destination, .protocol = protocol});
}

/// The builder of tests is written apart from this one; what they agree on is right.
TEST(MadePacket, IsWhatTheBuilderOfTestsMakes) {
  const std::pair<wire::Endpoint, wire::Endpoint> ends[] = {
      {at("192.0.2.7:4711"), at("203.0.113.80:80")},
      {at("[2001:db8::7]:4711"), at("[2001:db8::80]:80")}};
  for (const auto& [source, destination] : ends) {
    EXPECT_EQ(made(source, destination, wire::IpProtocol::kTcp),
              testing::tcp(source, destination)
                  .syn()
                  .sequence(0)
                  .acknowledgment(0)
                  .do_not_fragment()
                  .macs({{0x02, 0, 0, 0, 0, 0x01}}, {{0x02, 0, 0, 0, 0, 0x02}})
                  .bytes());
    EXPECT_EQ(made(source, destination, wire::IpProtocol::kUdp),
              testing::udp(source, destination)
                  .do_not_fragment()
                  .macs({{0x02, 0, 0, 0, 0, 0x01}}, {{0x02, 0, 0, 0, 0, 0x02}})
                  .bytes());
  }
}

}  // namespace
}  // namespace weir::cli
