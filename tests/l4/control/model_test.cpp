#include "l4/control/model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "l4/control/host_facts.h"
#include "l4/control/model_json.h"
#include "l4/control/rules.h"

namespace weir::control {
namespace {

TEST(VipKey, IsReadBackFromItsText) {
  for (const std::string text : {"203.0.113.53:53/udp", "[2001:db8::25]:25/tcp"}) {
    const Result<VipKey> key = parse_vip_key(text);
    ASSERT_TRUE(key) << key.error().text();
    EXPECT_EQ(vip_text(*key), text);
  }
}

TEST(VipKey, IsRefusedWithTheFormToWrite) {
  for (const std::string text :
       {"", "203.0.113.53", "203.0.113.53:53", "203.0.113.53:53/", "203.0.113.53:53/sctp",
        "203.0.113.53:0/udp", "203.0.113.53/udp", "2001:db8::25:25/tcp", "a:1/tcp",
        "203.0.113.53:53/udp/tcp", "203.0.113.53:53/UDP"}) {
    const Result<VipKey> key = parse_vip_key(text);
    ASSERT_FALSE(key) << text;
    EXPECT_NE(key.error().remedy().find("ADDRESS:PORT/PROTOCOL"), std::string::npos) << text;
  }
}

TEST(TableSize, IsAPrimeInItsRange) {
  for (const std::uint32_t size :
       {251U, 509U, 1021U, 2039U, 4093U, 8191U, 16381U, 32749U, 65521U, 65537U, 131071U, 1048573U})
    EXPECT_TRUE(is_table_size(size)) << size;
  for (const std::uint32_t size :
       {0U, 1U, 2U, 241U, 250U, 255U, 65536U, 65539U * 3, 1048575U, 1048583U})
    EXPECT_FALSE(is_table_size(size)) << size;
  EXPECT_EQ(nearest_table_size(0), 251U);
  EXPECT_EQ(nearest_table_size(65536), 65537U);
  EXPECT_EQ(nearest_table_size(~std::uint64_t{0}), 1048573U);
}

Gateway two_port_gateway() {
  Gateway gateway;
  gateway.name = "edge";
  gateway.addresses = {wire::IpAddress::v4(203, 0, 113, 10), wire::IpAddress::v4(203, 0, 113, 11)};
  for (const auto& [name, port] : {std::pair{"http", 80}, {"shop", 443}, {"api", 443}}) {
    Listener listener;
    listener.name = name;
    listener.port = wire::Port{static_cast<std::uint16_t>(port)};
    gateway.listeners.push_back(listener);
  }
  return gateway;
}

TEST(L4Services, HaveOneL7VipPerGatewayAddressAndDistinctPort) {
  Model model;
  Vip plain;
  plain.address = wire::IpAddress::v4(203, 0, 113, 53);
  plain.port = wire::Port{53};
  plain.protocol = Protocol::kUdp;
  model.vips = {plain};
  model.gateways = {two_port_gateway()};
  std::vector<std::string> texts;
  for (const Vip& vip : l4_services(model))
    texts.push_back(vip_text(vip.key()) + " " + std::string{text_of(vip.mode)} + " " + vip.name);
  const std::vector<std::string> expected{
      "203.0.113.53:53/udp ipip ", "203.0.113.10:80/tcp l7 edge/http",
      "203.0.113.10:443/tcp l7 edge/shop", "203.0.113.11:80/tcp l7 edge/http",
      "203.0.113.11:443/tcp l7 edge/shop"};
  EXPECT_EQ(texts, expected);
}

Vip good_vip() {
  Vip vip;
  vip.name = "dns";
  vip.address = wire::IpAddress::v4(203, 0, 113, 53);
  vip.port = wire::Port{53};
  Backend backend;
  backend.name = "dns-a";
  backend.address = wire::IpAddress::v4(10, 0, 2, 11);
  backend.weight = 7;
  backend.draining = true;
  vip.backends = {backend};
  return vip;
}

TEST(VipJson, IsReadBackAsItWas) {
  const Result<Vip> again = vip_from_json(to_json(good_vip()));
  ASSERT_TRUE(again) << again.error().text();
  EXPECT_EQ(*again, good_vip());
  Model model;
  model.gateways = {two_port_gateway()};
  for (const Vip& vip : l4_services(model)) {
    const Result<Vip> gateway_vip = vip_from_json(to_json(vip));
    ASSERT_TRUE(gateway_vip) << gateway_vip.error().text();
    EXPECT_EQ(*gateway_vip, vip);
  }
}

struct RefusedJson {
  std::string_view json;
  std::string_view says;
};

TEST(VipJson, IsRefusedWithWhatIsWrong) {
  constexpr std::array<RefusedJson, 12> kCases{{
      {"", "not valid JSON"},
      {"[]", "use a JSON object"},
      {"{}", "names no protocol"},
      {R"({"vip": 53})", "vip.vip is 53; use a string"},
      {R"({"vip": "203.0.113.53:53/udp", "colour": "red"})", "unknown member 'colour'"},
      {R"({"vip": "203.0.113.53:53/udp", "mode": "nat"})", "'nat' is not a forwarding mode"},
      {R"({"vip": "203.0.113.53:53/udp", "table_size": 65536})", "table size is 65536"},
      {R"({"vip": "203.0.113.53:53/udp", "table_size": -1})", "vip.table_size is -1"},
      {R"({"vip": "224.0.0.1:53/udp"})", "multicast"},
      {R"({"vip": "203.0.113.53:53/udp", "backends": [{"address": "x"}]})",
       "vip.backends[0].address: 'x' is not"},
      {R"({"vip": "203.0.113.53:53/udp", "mode": "l2", "backends": [{"address": "::2"}]})",
       "another family"},
      {R"({"vip": "203.0.113.53:53/udp",
           "backends": [{"address": "10.0.0.1"}, {"address": "10.0.0.1"}]})",
       "listed twice"},
  }};
  for (const RefusedJson& refused : kCases) {
    const Result<Vip> vip = vip_from_json(refused.json);
    ASSERT_FALSE(vip) << refused.json;
    EXPECT_NE(vip.error().text().find(refused.says), std::string::npos) << vip.error().text();
  }
}

TEST(HostFacts, OfThisHostIncludeTheLoopbackDevice) {
  const Result<HostFacts> facts = read_host_facts();
  ASSERT_TRUE(facts) << facts.error().text();
  EXPECT_NE(std::ranges::find(facts->interfaces, "lo"), facts->interfaces.end());
}

TEST(HostCheck, NamesTheDevicesThatExistAndTheOwnAddressWithItsPlace) {
  const ParseOutcome outcome = parse_config(
      "version: 1\n"
      "node: {interfaces: [eth0, eth9]}\n"
      "vips:\n"
      "- {name: a, address: 192.0.2.1, port: 80, protocol: TCP, forward: {mode: ipip}, "
      "backends: []}\n"
      "- {name: b, address: 192.0.2.1, port: 81, protocol: TCP, forward: {mode: ipip}, "
      "backends: []}\n",
      "weir.yaml");
  ASSERT_TRUE(outcome.ok());
  const HostFacts facts{{"eth0", "lo"}, {{"eth0", wire::IpAddress::v4(192, 0, 2, 1)}}};
  const auto diagnostics = check_against_host(outcome.model, facts, outcome.source);
  ASSERT_EQ(diagnostics.size(), 2U);
  EXPECT_EQ(diagnostics[0].text(),
            "weir.yaml:2:27: node.interfaces: there is no device 'eth9'; expected one of eth0, lo");
  EXPECT_EQ(diagnostics[1].text(),
            "weir.yaml:4:22: address of vip 'a' is 192.0.2.1, an address of this node (eth0); "
            "expected an address that no device of this node has; choose another, or remove it: "
            "ip address del 192.0.2.1/32 dev eth0");
}

}  // namespace
}  // namespace weir::control
