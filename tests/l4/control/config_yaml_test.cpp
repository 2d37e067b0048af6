#include "l4/control/config_yaml.h"

#include <gtest/gtest.h>

#include <set>

#include "l4/control/config.h"
#include "tests/support/golden.h"

namespace weir::control {
namespace {

using weir::testing::file_text;
using weir::testing::golden_directory;
using weir::testing::golden_inputs;

class ExportedConfig : public ::testing::TestWithParam<std::filesystem::path> {};

TEST_P(ExportedConfig, GivesTheModelAgain) {
  const ParseOutcome first =
      parse_config(file_text(GetParam()), GetParam().lexically_normal().string());
  ASSERT_TRUE(first.ok());
  const std::string text = to_yaml(first.model);
  const ParseOutcome again = parse_config(text, "/elsewhere/export.yaml");
  for (const Diagnostic& diagnostic : again.diagnostics)
    ADD_FAILURE() << diagnostic.text() << "\n" << text;
  Model expected = first.model;
  for (Vip& vip : expected.vips)
    EXPECT_FALSE(vip.name.empty());
  EXPECT_EQ(again.model, expected) << text;
  EXPECT_EQ(to_yaml(again.model), text);
}

std::string test_name_of(const std::filesystem::path& path) {
  std::string name = path.stem().string();
  for (char& c : name)
    if (c == '-') c = '_';
  return name;
}

INSTANTIATE_TEST_SUITE_P(, ExportedConfig,
                         ::testing::ValuesIn(golden_inputs(golden_directory() / "good", ".yaml")),
                         [](const auto& test) { return test_name_of(test.param); });

Vip vip_of(std::uint8_t last) {
  Vip vip;
  vip.address = wire::IpAddress::v4(203, 0, 113, last);
  vip.ports = PortRange::only(wire::Port{53});
  vip.protocol = Protocol::kUdp;
  vip.backends = {{.name = {}, .address = wire::IpAddress::v4(10, 0, 2, 11), .port = {}}};
  return vip;
}

TEST(ConfigExport, ReadsAsAPersonWouldWriteIt) {
  Model model;
  Vip vip = vip_of(53);
  vip.name = "dns";
  vip.backends[0].name = "dns-a";
  vip.backends[0].weight = 100;
  model.vips = {vip};
  model.node.interfaces = {"eth0"};
  EXPECT_EQ(to_yaml(model, {vip_of(9)}),
            "# What runs, as a configuration file. Applied here it changes no traffic.\n"
            "version: 1\n"
            "node:\n"
            "  interfaces: [eth0]\n"
            "vips:\n"
            "- name: dns\n"
            "  address: 203.0.113.53\n"
            "  port: 53\n"
            "  protocol: UDP\n"
            "  forward: {mode: ipip}\n"
            "  backends:\n"
            "  - {name: dns-a, address: 10.0.2.11, weight: 100}\n"
            "# Added by hand; the file's from when it is applied.\n"
            "- name: 203.0.113.9-53-udp\n"
            "  address: 203.0.113.9\n"
            "  port: 53\n"
            "  protocol: UDP\n"
            "  forward: {mode: ipip}\n"
            "  backends:\n"
            "  - {address: 10.0.2.11}\n");
}

TEST(ConfigExport, VipsByHandAreSortedAndGetNamesOfTheirOwn) {
  Model model;
  model.vips = {vip_of(1)};
  model.vips[0].name = "dns";
  std::vector<Vip> manual{vip_of(3), vip_of(2)};
  manual[0].name = manual[1].name = "dns";
  Vip six = vip_of(0);
  six.address = *wire::IpAddress::parse("2001:db8::");
  six.prefix_length = 64;
  six.ports = PortRange::any();
  manual.push_back(six);
  const ParseOutcome outcome = parse_config(to_yaml(model, manual), "/x.yaml");
  ASSERT_TRUE(outcome.ok()) << outcome.diagnostics.front().text();
  ASSERT_EQ(outcome.model.vips.size(), 4U);
  std::set<std::string> names;
  for (const Vip& vip : outcome.model.vips)
    names.insert(vip.name);
  EXPECT_TRUE(names.contains("dns") && names.contains("dns-2") && names.contains("dns-3"));
  const std::string text = to_yaml(model, manual);
  EXPECT_LT(text.find("address: 203.0.113.2\n"), text.find("address: 203.0.113.3\n"));
}

TEST(ConfigExport, NeverShowsTheHashSeed) {
  Model model;
  model.node.hash_seed = "a secret of enough bytes";
  EXPECT_EQ(to_yaml(model).find("secret of"), std::string::npos);
  EXPECT_NE(to_yaml(model).find("# The hash seed stood in"), std::string::npos);
  model.node.hash_seed_file = "/etc/weir/seed";
  EXPECT_EQ(to_yaml(model).find("secret of"), std::string::npos);
  EXPECT_NE(to_yaml(model).find("file: /etc/weir/seed"), std::string::npos);
}

TEST(ConfigExport, WordsThatYamlTakesForSomethingElseAreQuoted) {
  Model model;
  for (const char* name : {"true", "No", "null", "1.5", "0x10", "1e3", "on"}) {
    Vip vip = vip_of(static_cast<std::uint8_t>(model.vips.size() + 1));
    vip.name = name;
    model.vips.push_back(vip);
  }
  const std::string text = to_yaml(model);
  const ParseOutcome outcome = parse_config(text, "/x.yaml");
  ASSERT_TRUE(outcome.ok()) << outcome.diagnostics.front().text();
  EXPECT_EQ(outcome.model, model);
  EXPECT_NE(text.find("name: \"true\""), std::string::npos);
}

}  // namespace
}  // namespace weir::control
