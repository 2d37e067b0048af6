#include "l4/control/model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "l4/control/host_facts.h"
#include "l4/control/model_json.h"
#include "l4/control/rules.h"

namespace weir::control {
namespace {

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
  plain.ports = PortRange::only(wire::Port{53});
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

/// Every word that one VIP can have beside the others.
Vip full_vip() {
  Vip vip;
  vip.name = "quic";
  vip.address = wire::IpAddress::v4(198, 51, 100, 0);
  vip.prefix_length = 96 + 28;
  vip.ports = {wire::Port{5000}, wire::Port{5999}};
  vip.protocol = Protocol::kUdp;
  vip.mode = ForwardMode::kGue;
  vip.gue_port = wire::Port{6081};
  vip.when_empty = WhenEmpty::kDrop;
  vip.hash = HashPolicy::kSourceIp;
  vip.affinity_timeout_s = 60;
  vip.sources.allow = {{wire::IpAddress::v4(10, 0, 0, 0), 8}, {wire::IpAddress{{0x20, 1}}, 16}};
  vip.sources.deny = {{wire::IpAddress::v4(10, 9, 0, 0), 16}};
  vip.limits = {1, 2, 3, kRateMax};
  vip.quic = {3, 6};
  Backend backend;
  backend.address = wire::IpAddress::v4(10, 0, 2, 11);
  backend.server_id = std::string{"\x0a\x00\xff", 3};
  vip.backends = {backend};
  return vip;
}

Vip nat_vip() {
  Vip vip;
  vip.address = wire::IpAddress::v4(203, 0, 113, 53);
  vip.ports = PortRange::any();
  vip.mode = ForwardMode::kNat;
  vip.snat = Snat::kNever;
  vip.hash = HashPolicy::kSourceIpPort;
  Backend backend;
  backend.address = wire::IpAddress::v4(10, 0, 2, 11);
  backend.port = wire::Port{8080};
  vip.backends = {backend};
  return vip;
}

Vip good_vip() {
  Vip vip;
  vip.name = "dns";
  vip.address = wire::IpAddress::v4(203, 0, 113, 53);
  vip.ports = PortRange::only(wire::Port{53});
  Backend backend;
  backend.name = "dns-a";
  backend.address = wire::IpAddress::v4(10, 0, 2, 11);
  backend.weight = 7;
  backend.state = BackendState::kDraining;
  vip.backends = {backend};
  return vip;
}

TEST(VipJson, IsReadBackAsItWas) {
  for (const Vip& vip : {good_vip(), full_vip(), nat_vip()}) {
    const Result<Vip> again = vip_from_json(to_json(vip));
    ASSERT_TRUE(again) << again.error().text();
    EXPECT_EQ(*again, vip);
  }
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

TEST(VipJson, TakesAffinityAsAWishForTheSourceAddressHash) {
  const Result<Vip> vip =
      vip_from_json(R"({"vip": "203.0.113.53:53/udp", "affinity_timeout_s": 60})");
  ASSERT_TRUE(vip) << vip.error().text();
  EXPECT_EQ(vip->hash, HashPolicy::kSourceIp);
}

TEST(VipJson, SortsSourcesAndKeepsEachOnce) {
  const Result<Vip> vip = vip_from_json(
      R"({"vip": "203.0.113.53:53/udp",
          "sources": {"deny": ["198.51.100.7", "10.0.0.0/8", "198.51.100.7/32"]}})");
  ASSERT_TRUE(vip) << vip.error().text();
  const std::vector<wire::Prefix> expected{{wire::IpAddress::v4(10, 0, 0, 0), 8},
                                           {wire::IpAddress::v4(198, 51, 100, 7), 32}};
  EXPECT_EQ(vip->sources.deny, expected);
}

TEST(VipJson, IsRefusedWithWhatIsWrong) {
  constexpr std::array<RefusedJson, 38> kCases{{
      {"", "not valid JSON"},
      {"[]", "use a JSON object"},
      {"{}", "names no protocol"},
      {R"({"vip": 53})", "vip.vip is 53; use a string"},
      {R"({"vip": "203.0.113.53:53/udp", "colour": "red"})", "unknown member 'colour'"},
      {R"({"vip": "203.0.113.53:53/udp", "mode": "dsr"})", "'dsr' is not a forwarding mode"},
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
      {R"({"vip": "203.0.113.53/28:53/udp"})", "its network is 203.0.113.48/28"},
      {R"({"vip": "203.0.113.53:90-80/udp"})", "'90-80' is not a port from 1 to 65535, a range"},
      {R"({"vip": "192.0.0.0/2:53/udp"})", "224.0.0.0/4; use a prefix of unicast addresses"},
      {R"({"vip": "203.0.113.53:53/udp", "gue_port": 6081})", "only mode gue has one"},
      {R"({"vip": "203.0.113.53:53/udp", "mode": "gue", "gue_port": 65536})", "vip.gue_port is"},
      {R"({"vip": "203.0.113.53:53/udp", "mode": "gue", "gue_port": 0})", "tunnel port is 0"},
      {R"({"vip": "203.0.113.53:53/udp", "snat": "always"})", "only mode nat rewrites addresses"},
      {R"({"vip": "203.0.113.53:53/udp", "mode": "nat", "snat": "no"})",
       "vip.snat: 'no' is not a way to use source NAT; expected one of auto, always, never"},
      {R"({"vip": "203.0.113.53:53/udp", "when_empty": 1})", "vip.when_empty is 1; use a string"},
      {R"({"vip": "203.0.113.53:53/udp", "hash": "fivetuple"})", "is not a hash policy"},
      {R"({"vip": "203.0.113.53:53/udp", "hash": "fiveTuple", "affinity_timeout_s": 60})",
       "affinity knows a client by its address alone"},
      {R"({"vip": "203.0.113.53:53/udp", "affinity_timeout_s": 259201})", "from 0 to 259200"},
      {R"({"vip": "203.0.113.53:53/udp", "sources": {"drop": []}})", "unknown member 'drop'"},
      {R"({"vip": "203.0.113.53:53/udp", "sources": {"deny": ["x"]}})", "vip.sources.deny: 'x'"},
      {R"({"vip": "203.0.113.53:53/udp", "sources": {"deny": [1]}})", "use a string"},
      {R"({"vip": "203.0.113.53:53/udp", "sources": {"deny": ["10.0.0.1/8"]}})",
       "bits set beyond its length; use 10.0.0.0/8"},
      {R"({"vip": "203.0.113.53:53/udp", "sources": {"allow": ["::/0"], "deny": ["::/0"]}})",
       "allow and deny ::/0"},
      {R"({"vip": "203.0.113.53:53/udp", "limits": {"packets": 100000001}})",
       "vip.limits.packets is 100000001"},
      {R"({"vip": "203.0.113.53:53/udp", "limits": {"packet": 1}})", "unknown member 'packet'"},
      {R"({"vip": "203.0.113.53:53/udp", "quic": {}})", "no server_id_length"},
      {R"({"vip": "203.0.113.53:53/udp", "quic": {"server_id_length": 16}})", "from 0 to 15"},
      {R"({"vip": "203.0.113.53:53/tcp", "quic": {"server_id_length": 4}})",
       "quic is set, but the protocol is TCP"},
      {R"({"vip": "203.0.113.53:53/udp", "quic": {"server_id_length": 1},
           "backends": [{"address": "10.0.0.1", "server_id": "0"}]})",
       "vip.backends[0].server_id: '0' is not a server id"},
      {R"({"vip": "203.0.113.53:53/udp", "quic": {"server_id_length": 1},
           "backends": [{"address": "10.0.0.1", "server_id": "0a"},
                        {"address": "10.0.0.2", "server_id": "0A"}]})",
       "server id 0a, which another backend has"},
      {R"({"vip": "203.0.113.53:53/udp", "backends": [{"address": "10.0.0.1", "port": 53}]})",
       "mode ipip delivers packets with the VIP's port"},
      {R"({"vip": "203.0.113.0/24:53/tcp", "mode": "l7"})", "gateways listen on single addresses"},
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

TEST(HostCheck, RefusesAPrefixThatHasAnAddressOfTheHost) {
  const ParseOutcome outcome = parse_config(
      "version: 1\n"
      "vips:\n"
      "- {name: a, address: 192.0.2.0/28, port: any, protocol: TCP, forward: {mode: ipip}, "
      "backends: []}\n",
      "weir.yaml");
  ASSERT_TRUE(outcome.ok());
  const HostFacts inside{{}, {{"eth0", wire::IpAddress::v4(192, 0, 2, 15)}}};
  const auto diagnostics = check_against_host(outcome.model, inside, outcome.source);
  ASSERT_EQ(diagnostics.size(), 1U);
  EXPECT_EQ(diagnostics[0].text(),
            "weir.yaml:3:22: address of vip 'a' is 192.0.2.0/28, which has 192.0.2.15, an address "
            "of this node (eth0); expected a prefix of which no device of this node has an "
            "address; choose another, or take it from eth0");
  const HostFacts outside{{}, {{"eth0", wire::IpAddress::v4(192, 0, 2, 16)}}};
  EXPECT_TRUE(check_against_host(outcome.model, outside, outcome.source).empty());
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
            "expected an address that no device of this node has; choose another, or take it from "
            "eth0");
}

}  // namespace
}  // namespace weir::control
