#include "l4/vip_entries.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace weir::l4 {
namespace {

control::VipKey ports(std::uint16_t first, std::uint16_t last) {
  return {.address = wire::IpAddress::v4(203, 0, 113, 1),
          .ports = {wire::Port{first}, wire::Port{last}}};
}

TEST(RangeKeys, CoverEveryPortOfTheRangeOnceAndNoOther) {
  const std::vector<control::VipKey> ranges{
      ports(0, 65535), ports(1, 65534),    ports(5000, 5999),   ports(5000, 5007),
      ports(80, 81),   ports(1024, 65535), ports(65534, 65535), ports(1, 2)};
  for (const control::VipKey& key : ranges) {
    std::vector<int> covered(65536);
    const auto keys = range_keys(key);
    EXPECT_LE(keys.size(), 30U);
    for (const weir_range_key& block : keys) {
      const std::uint32_t size = 1U << (WEIR_RANGE_PREFIX_BITS + 16 - block.prefix_length);
      for (std::uint32_t port = 0; port < size; ++port)
        ++covered.at(ntohs(block.port_be) + port);
    }
    for (std::uint32_t port = 0; port < covered.size(); ++port) {
      const bool inside = key.ports.contains(wire::Port{static_cast<std::uint16_t>(port)});
      ASSERT_EQ(covered[port], inside ? 1 : 0) << control::vip_text(key) << " port " << port;
    }
  }
  EXPECT_EQ(range_keys(ports(0, 65535)).size(), 1U) << "all ports are one entry";
}

/// What the program says of a source: the longest prefix that contains it.
std::uint32_t answer_of(const std::vector<ListEntry>& list, const wire::IpAddress& source) {
  std::uint32_t answer = WEIR_LIST_ALLOW;
  int longest = -1;
  for (const ListEntry& entry : list) {
    const wire::Prefix prefix{address_of(entry.prefix.address),
                              static_cast<std::uint8_t>(entry.prefix.prefix_length)};
    const auto bits = static_cast<int>(prefix.length);
    bool contains = true;
    for (int bit = 0; bit < bits && contains; ++bit) {
      const auto byte = static_cast<std::size_t>(bit / 8);
      contains = ((prefix.address.bytes[byte] ^ source.bytes[byte]) >> (7 - bit % 8) & 1) == 0;
    }
    if (!contains || bits <= longest) continue;
    longest = bits;
    answer = entry.answer;
  }
  return answer;
}

struct ListCase {
  const char* name;
  std::vector<const char*> allow;
  std::vector<const char*> deny;
  std::vector<const char*> allowed_sources;
  std::vector<const char*> denied_sources;
};

class SourceLists : public ::testing::TestWithParam<ListCase> {};

TEST_P(SourceLists, SayWhatTheRulesMean) {
  const ListCase& param = GetParam();
  control::SourceRules rules;
  for (const char* text : param.allow)
    rules.allow.push_back(*wire::Prefix::parse(text));
  for (const char* text : param.deny)
    rules.deny.push_back(*wire::Prefix::parse(text));
  const std::vector<ListEntry> list = list_entries(rules);
  const std::vector<ListEntry> again = list_entries(source_rules(list));
  EXPECT_TRUE(same_bytes(again, list)) << "what is read back from the kernel means something else";
  for (const char* text : param.allowed_sources)
    EXPECT_EQ(answer_of(list, *wire::IpAddress::parse(text)), WEIR_LIST_ALLOW) << text;
  for (const char* text : param.denied_sources)
    EXPECT_EQ(answer_of(list, *wire::IpAddress::parse(text)), WEIR_LIST_DENY) << text;
}

INSTANTIATE_TEST_SUITE_P(
    , SourceLists,
    ::testing::Values(
        ListCase{"DenyAlone", {}, {"198.51.100.0/24"}, {"192.0.2.1", "::1"}, {"198.51.100.9"}},
        ListCase{"AllowDeniesTheRest",
                 {"192.0.2.0/24"},
                 {},
                 {"192.0.2.1"},
                 {"198.51.100.9", "2001:db8::1"}},
        ListCase{"TheLongestPrefixDecides",
                 {"192.0.2.0/24", "192.0.2.7"},
                 {"192.0.2.0/29"},
                 {"192.0.2.7", "192.0.2.9"},
                 {"192.0.2.1"}},
        ListCase{"AllowingAllOfIpv6AllowsNoIpv4", {"::/0"}, {}, {"2001:db8::1"}, {"192.0.2.1"}},
        ListCase{"DenyingAllOfIpv6DeniesNoIpv4", {}, {"::/0"}, {"192.0.2.1"}, {"2001:db8::1"}},
        ListCase{"DenyingAllOfIpv4DeniesNoIpv6", {}, {"0.0.0.0/0"}, {"2001:db8::1"}, {"192.0.2.1"}},
        ListCase{"AllowingBothFamilies", {"::/0", "0.0.0.0/0"}, {}, {"::1", "192.0.2.1"}, {}}),
    [](const auto& param_info) { return param_info.param.name; });

TEST(VipEntry, SaysAllOfAVipThatPacketsNeed) {
  control::Vip vip;
  vip.address = wire::IpAddress::v4(203, 0, 113, 1);
  vip.ports = control::PortRange::only(wire::Port{443});
  vip.protocol = control::Protocol::kUdp;
  vip.mode = control::ForwardMode::kGue;
  vip.gue_port = wire::Port{6081};
  vip.when_empty = control::WhenEmpty::kDrop;
  vip.hash = control::HashPolicy::kSourceIp;
  vip.affinity_timeout_s = 3 * 3600;
  vip.limits = {1, 2, 3, 4};
  vip.quic = {.server_id_bytes = 8, .config_rotation = 3};
  const Ticks ticks{.per_s = 250};
  const weir_vip entry = vip_entry(vip, VipId{7}, ticks, true);
  EXPECT_EQ(entry.id, 7U);
  EXPECT_EQ(entry.mode, WEIR_MODE_GUE);
  EXPECT_EQ(entry.protocol, IPPROTO_UDP);
  EXPECT_EQ(ntohs(entry.port_be), 443);
  EXPECT_EQ(ntohs(entry.gue_port_be), 6081);
  EXPECT_EQ(entry.flags, WEIR_VIP_BLOCK_LIST | WEIR_VIP_LIMITS);
  EXPECT_EQ(vip_of(vip.key(), entry, ticks), vip) << "a lost state directory loses something";
}

TEST(VipEntry, AnUnknownModeIsNone) {
  weir_vip entry{};
  entry.mode = 99;
  EXPECT_FALSE(vip_of(ports(80, 80), entry, Ticks{}));
}

TEST(Ticks, AreCountedInUnitsOfAboutASecond) {
  for (const auto& [per_s, shift] : {std::pair{1000U, 10}, {250U, 8}, {100U, 7}, {300U, 8}})
    EXPECT_EQ(Ticks{per_s}.second_shift(), shift) << per_s;
  EXPECT_EQ(Ticks{1000}.units_of(3600), 3516U);
  EXPECT_EQ(Ticks{1000}.units_of(1), 1U) << "no affinity is 0";
  EXPECT_EQ(Ticks{300}.units_of(72 * 3600), WEIR_FLOW_STAMP_MASK) << "stamps come round";
}

}  // namespace
}  // namespace weir::l4
