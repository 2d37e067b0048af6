#include "l4/control/config_partial.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace weir::control {
namespace {

std::vector<Diagnostic> nothing(const Model&, const SourceMap&) { return {}; }

std::vector<std::string> objects_of(const PartialOutcome& partial) {
  std::vector<std::string> objects;
  for (const LeftOut& object : partial.left_out)
    objects.push_back(object.object);
  return objects;
}

constexpr const char* kFile = R"(version: 1
node: {l7: {addresses: [10.0.0.5/24]}}
vips:
- {name: good, address: 203.0.113.1, port: 53, protocol: UDP, forward: {mode: ipip}, backends: []}
- name: wrong
  address: 203.0.113.2
  port: 0
  protocol: UDP
  forward: {mode: ipip}
  backends: []
- {name: twice, address: 203.0.113.1, port: 53, protocol: UDP, forward: {mode: ipip}, backends: []}
- {name: last, address: 203.0.113.3, port: 53, protocol: UDP, forward: {mode: ipip}, backends: []}
gateways:
- {name: edge, addresses: [203.0.113.10], listeners: [{name: http, port: 80, protocol: HTTP}]}
- {name: bent, addresses: [x], listeners: [{name: http, port: 80, protocol: HTTP}]}
services:
  cart: {endpoints: ["10.0.0.11:8080"]}
  void: {endpoints: ["10.0.0.11"]}
httpRoutes:
- {name: a, parentRefs: [{name: edge}], rules: [{backendRefs: [{name: cart}]}]}
- {name: b, parentRefs: [{name: edge}], rules: [{backendRefs: [{name: void}]}]}
- {name: c, parentRefs: [{name: bent}], rules: [{backendRefs: [{name: cart}]}]}
)";

TEST(PartialConfig, OfAFileWithoutMistakesNothingIsLeftOut) {
  const PartialOutcome partial = parse_config_partially(
      "version: 1\nnode: {l7: {addresses: [10.0.0.5/24]}}\n"
      "services: {cart: {endpoints: [\"10.0.0.11:8080\"]}}\n",
      "f", nothing);
  EXPECT_TRUE(partial.outcome.ok());
  EXPECT_TRUE(partial.left_out.empty());
  EXPECT_EQ(partial.outcome.model.services.size(), 1U);
}

TEST(PartialConfig, ObjectsWithMistakesGoAndThoseThatReferToThem) {
  const PartialOutcome partial = parse_config_partially(kFile, "f", nothing);
  for (const Diagnostic& diagnostic : partial.outcome.diagnostics)
    ADD_FAILURE() << diagnostic.text();
  EXPECT_EQ(objects_of(partial),
            (std::vector<std::string>{"vip 'wrong'", "vip 'twice'", "gateway 'bent'",
                                      "service 'void'", "httpRoute 'b'", "httpRoute 'c'"}));
  for (const LeftOut& object : partial.left_out) {
    ASSERT_FALSE(object.diagnostics.empty());
    EXPECT_NE(object.diagnostics.front().line, 0U) << object.object;
  }
  const Model& model = partial.outcome.model;
  ASSERT_EQ(model.vips.size(), 2U);
  EXPECT_EQ(model.vips[1].name, "last");
  EXPECT_EQ(model.gateways.size(), 1U);
  EXPECT_EQ(model.http_routes.size(), 1U);
}

TEST(PartialConfig, WhatIsLeftOutTakesNothingFromThoseThatShareItsAliases) {
  const PartialOutcome partial = parse_config_partially(
      "version: 1\nnode: {l7: {addresses: [10.0.0.5/24]}}\nvips:\n"
      "- {name: a, address: 203.0.113.1, port: 0, protocol: UDP, forward: &f {mode: ipip}, "
      "backends: &b [{address: 10.0.0.1}, {address: 10.0.0.2}]}\n"
      "- {name: b, address: 203.0.113.2, port: 53, protocol: UDP, forward: *f, backends: *b}\n"
      "- {name: c, address: 203.0.113.3, port: 0, protocol: UDP, forward: *f, backends: *b}\n",
      "f", nothing);
  EXPECT_TRUE(partial.outcome.ok());
  EXPECT_EQ(objects_of(partial), (std::vector<std::string>{"vip 'a'", "vip 'c'"}));
  ASSERT_EQ(partial.outcome.model.vips.size(), 1U);
  EXPECT_EQ(partial.outcome.model.vips[0].name, "b");
  EXPECT_EQ(partial.outcome.model.vips[0].backends.size(), 2U);
}

TEST(PartialConfig, TenThousandObjectsWithMistakesAreLeftOut) {
  constexpr std::size_t kMany = 5'000;
  std::string text =
      "version: 1\nnode: {l7: {addresses: [10.0.0.5/24]}}\n"
      "gateways: [{name: edge, addresses: [203.0.113.10], "
      "listeners: [{name: http, port: 80, protocol: HTTP}]}]\nservices:\n";
  for (std::size_t i = 0; i < kMany; ++i)
    text += fmt::format("  z{}: {{endpoints: [bad]}}\n", i);
  text += "httpRoutes:\n";
  for (std::size_t i = 0; i < kMany; ++i)
    text += fmt::format(
        "- {{name: r{0}, parentRefs: [{{name: edge}}], rules: [{{backendRefs: "
        "[{{name: z{0}}}]}}]}}\n",
        i);
  const PartialOutcome partial = parse_config_partially(text, "f", nothing);
  EXPECT_TRUE(partial.outcome.ok());
  EXPECT_EQ(partial.left_out.size(), 2 * kMany);
}

TEST(PartialConfig, WhatTheHostHasAgainstAnObjectLeavesItOut) {
  const auto objection = [](const Model& model, const SourceMap& source) {
    std::vector<Diagnostic> diagnostics;
    for (const Vip& vip : model.vips) {
      if (vip.name != "last") continue;
      const Position at = source.addresses.at(vip.address);
      diagnostics.push_back({"f", at.line, at.column, "is taken", "", ""});
    }
    return diagnostics;
  };
  const PartialOutcome partial = parse_config_partially(kFile, "f", objection);
  EXPECT_TRUE(partial.outcome.ok());
  EXPECT_EQ(objects_of(partial).back(), "vip 'last'");
  EXPECT_EQ(partial.outcome.model.vips.size(), 1U);
}

TEST(PartialConfig, WhatNoObjectIsToBlameForRefusesTheWholeFile) {
  for (const char* text :
       {"", "x", "version: 2\n", "vips: []\n", "version: 1\nnode: {interfaces: eth0}\n",
        "version: 1\nvips: 7\n", "version: 1\nvip: []\n", "version: 1\nvips: [{name: a", "- 1\n",
        "version: 1\nvips: []\nvips: []\n",
        "version: 1\nnode: {xdpMode: x}\nvips: [{name: wrong}]\n"}) {
    const PartialOutcome partial = parse_config_partially(text, "f", nothing);
    EXPECT_FALSE(partial.outcome.ok()) << text;
    EXPECT_TRUE(partial.left_out.empty()) << text;
  }
}

TEST(PartialConfig, InOneLineObjectsAreToldApartByTheirColumns) {
  const PartialOutcome partial =
      parse_config_partially(R"({"version": 1, "node": {"l7": {"addresses": ["10.0.0.5/24"]}},)"
                             R"( "services": {"a": {"endpoints": ["x"]},)"
                             R"( "b": {"endpoints": ["10.0.0.1:1"]}}})",
                             "f", nothing);
  EXPECT_TRUE(partial.outcome.ok());
  EXPECT_EQ(objects_of(partial), std::vector<std::string>{"service 'a'"});
}

TEST(PartialConfig, ThousandsOfMistakesAreLeftOutAtOnce) {
  std::string text = "version: 1\nservices:\n";
  for (int i = 0; i < 2000; ++i)
    text += fmt::format("  s{}: {{endpoints: [x]}}\n", i);
  const PartialOutcome partial = parse_config_partially(text, "f", nothing);
  EXPECT_TRUE(partial.outcome.ok());
  EXPECT_EQ(partial.left_out.size(), 2000U);
}

}  // namespace
}  // namespace weir::control
