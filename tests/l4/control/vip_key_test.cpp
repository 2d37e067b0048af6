#include <gtest/gtest.h>

#include <array>

#include "l4/control/model.h"
#include "l4/control/rules.h"

namespace weir::control {
namespace {

TEST(VipKey, IsReadBackFromItsText) {
  for (const std::string text :
       {"203.0.113.53:53/udp", "[2001:db8::25]:25/tcp", "203.0.113.0/28:any/tcp",
        "203.0.113.53:any/udp", "[2001:db8::/64]:5000-5999/udp", "[2001:db8::1]:1-1024/tcp",
        "203.0.113.0/24:65534-65535/tcp"}) {
    const Result<VipKey> key = parse_vip_key(text);
    ASSERT_TRUE(key) << key.error().text();
    EXPECT_EQ(vip_text(*key), text);
    const Result<VipKey> again = parse_vip_key(vip_text(*key));
    ASSERT_TRUE(again);
    EXPECT_EQ(*again, *key);
  }
}

TEST(VipKey, HasOneValueForEachMeaning) {
  const std::array<std::pair<std::string, std::string>, 6> kSame{
      {{"203.0.113.53/32:53/udp", "203.0.113.53:53/udp"},
       {"[2001:db8::25/128]:25/tcp", "[2001:db8::25]:25/tcp"},
       {"203.0.113.53:53-53/udp", "203.0.113.53:53/udp"},
       {"203.0.113.53:1-65535/udp", "203.0.113.53:any/udp"},
       {"[2001:0db8:0::]:80/tcp", "[2001:db8::]:80/tcp"},
       {"[2001:db8:0::/48]:80/tcp", "[2001:db8::/48]:80/tcp"}}};
  for (const auto& [written, shown] : kSame) {
    const Result<VipKey> key = parse_vip_key(written);
    ASSERT_TRUE(key) << key.error().text();
    EXPECT_EQ(vip_text(*key), shown);
  }
}

TEST(VipKey, CountsPrefixLengthsInSixteenBytes) {
  EXPECT_EQ(parse_vip_key("203.0.113.0/28:any/tcp")->prefix_length, 124);
  EXPECT_EQ(parse_vip_key("203.0.113.1:80/tcp")->prefix_length, kSingleAddress);
  EXPECT_EQ(parse_vip_key("[2001:db8::/64]:80/tcp")->prefix_length, 64);
  EXPECT_EQ(parse_vip_key("203.0.113.0/28:any/tcp")->prefix().length, 28);
  EXPECT_EQ(parse_vip_key("[2001:db8::/64]:80/tcp")->prefix().length, 64);
}

TEST(VipKey, IsRefusedWithTheFormToWrite) {
  for (const std::string text : {"",
                                 "/",
                                 ":/",
                                 "203.0.113.53",
                                 "203.0.113.53:53",
                                 "203.0.113.53:53/",
                                 "203.0.113.53:/udp",
                                 "203.0.113.53:53/sctp",
                                 "203.0.113.53:0/udp",
                                 "203.0.113.53/udp",
                                 "2001:db8::25:25/tcp",
                                 "a:1/tcp",
                                 "203.0.113.53:53/udp/tcp",
                                 "203.0.113.53:53/UDP",
                                 "203.0.113.53:Any/udp",
                                 "203.0.113.53:053/udp",
                                 "203.0.113.53:65536/udp",
                                 "203.0.113.53:80-/udp",
                                 "203.0.113.53:-80/udp",
                                 "203.0.113.53:80-79/udp",
                                 "203.0.113.53:0-80/udp",
                                 "203.0.113.53:80-90-95/udp",
                                 "203.0.113.53/28:80/tcp",
                                 "203.0.113.0/33:80/tcp",
                                 "203.0.113.0/:80/tcp",
                                 "2001:db8::/64:80/tcp",
                                 "[2001:db8::]/64:80/tcp",
                                 "[203.0.113.53]:53/udp",
                                 "[2001:db8::1/64]:80/tcp"}) {
    const Result<VipKey> key = parse_vip_key(text);
    ASSERT_FALSE(key) << text;
    EXPECT_NE(key.error().remedy().find("ADDRESS:PORT/PROTOCOL"), std::string::npos) << text;
  }
}

TEST(PortRange, CrossesAnotherOnlyWhenNeitherContainsTheOther) {
  struct Case {
    const char* one;
    const char* other;
    bool crosses;
  };
  constexpr std::array<Case, 9> kCases{{{"10-20", "15-25", true},
                                        {"10-20", "20-25", true},
                                        {"10-20", "21-25", false},
                                        {"10-20", "10-25", false},
                                        {"10-20", "15-20", false},
                                        {"10-20", "10-20", false},
                                        {"10-20", "20", false},
                                        {"any", "60000-65535", false},
                                        {"any", "1-2", false}}};
  for (const Case& c : kCases) {
    const PortRange one = *parse_ports(c.one);
    const PortRange other = *parse_ports(c.other);
    EXPECT_EQ(one.crosses(other), c.crosses) << c.one << " and " << c.other;
    EXPECT_EQ(other.crosses(one), c.crosses) << c.other << " and " << c.one;
  }
}

Vip vip_at(const char* key) {
  const VipKey parsed = *parse_vip_key(key);
  Vip vip;
  vip.address = parsed.address;
  vip.prefix_length = parsed.prefix_length;
  vip.ports = parsed.ports;
  vip.protocol = parsed.protocol;
  return vip;
}

TEST(VipsTogether, MayNotHaveRangesThatCross) {
  const std::array<Vip, 2> crossing{vip_at("203.0.113.1:80-90/tcp"),
                                    vip_at("203.0.113.1:85-95/tcp")};
  const Result<void> refused = check_vips_together(crossing);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text().find("overlap 80-90"), std::string::npos)
      << refused.error().text();
  const std::array<Vip, 6> apart{
      vip_at("203.0.113.1:80-90/tcp"),    vip_at("203.0.113.1:85-95/udp"),
      vip_at("203.0.113.0/24:85-95/tcp"), vip_at("203.0.113.2:85-95/tcp"),
      vip_at("203.0.113.1:82-84/tcp"),    vip_at("203.0.113.1:any/tcp")};
  EXPECT_TRUE(check_vips_together(apart));
}

TEST(Network, HasNoBitBeyondItsLength) {
  const std::array<std::pair<const char*, const char*>, 6> kNetworks{
      {{"10.1.2.3/8", "10.0.0.0/8"},
       {"10.1.2.3/0", "0.0.0.0/0"},
       {"10.1.2.255/31", "10.1.2.254/31"},
       {"10.1.2.3/32", "10.1.2.3/32"},
       {"2001:db8:ffff::1/33", "2001:db8:8000::/33"},
       {"2001:db8::1/0", "::/0"}}};
  for (const auto& [prefix, network] : kNetworks) {
    EXPECT_EQ(network_of(*wire::Prefix::parse(prefix)).text(), network);
    EXPECT_EQ(is_network(*wire::Prefix::parse(prefix)), std::string_view{prefix} == network);
  }
}

TEST(ServerId, IsReadBackFromItsText) {
  EXPECT_EQ(*parse_server_id("0A00fF"), (std::string{"\x0a\x00\xff", 3}));
  EXPECT_EQ(server_id_text(*parse_server_id("0A00fF")), "0a00ff");
  for (const char* text :
       {"", "0", "0g", "0x0a", "-1", "+1", " 1", "0a 0b", "000102030405060708090a0b0c0d0e0f"})
    EXPECT_FALSE(parse_server_id(text)) << text;
}

}  // namespace
}  // namespace weir::control
