#include "l4/control/prefix_list.h"

#include <gtest/gtest.h>

#include "l4/control/config.h"
#include "l4/control/model_json.h"
#include "l4/control/units.h"

namespace weir::control {
namespace {

std::string many_prefixes(std::size_t count, std::string_view separator) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i)
    text += fmt::format("10.{}.{}.{}{}", i >> 16, (i >> 8) & 255, i & 255, separator);
  return text;
}

TEST(PrefixList, SkipsCommentsBlanksAndEmptyLines) {
  const auto list = parse_prefix_list(
      "# a list\n\n  192.0.2.0/24\t\r\n198.51.100.7 # one host\n\n#\n2001:db8::/32", "x");
  ASSERT_TRUE(list) << list.error().text();
  ASSERT_EQ(list->size(), 3U);
  EXPECT_EQ((*list)[0].text(), "192.0.2.0/24");
  EXPECT_EQ((*list)[1].text(), "198.51.100.7/32");
  EXPECT_EQ((*list)[2].text(), "2001:db8::/32");
  EXPECT_TRUE(parse_prefix_list("", "x")->empty());
}

TEST(PrefixList, NamesTheFirstWrongLineAndTheNumberOfThem) {
  const auto error_of = [](std::string_view text) {
    return parse_prefix_list(text, "/l").error().text();
  };
  EXPECT_EQ(error_of("10.0.0.0/8\n\nx # y\n"), "/l:3: 'x' is no address and no prefix");
  EXPECT_EQ(error_of("10.0.0.1/8\n"),
            "/l:1: 10.0.0.1/8, which has bits set beyond its length; use 10.0.0.0/8");
  EXPECT_EQ(error_of("10.0.0.0 10.0.0.1"), "/l:1: '10.0.0.0 10.0.0.1' is no address and no prefix");
  EXPECT_EQ(error_of("a\nb\n10.0.0.0/8\nc"),
            "/l:1: 'a' is no address and no prefix (3 lines are wrong)");
}

TEST(PrefixList, HasAnEnd) {
  EXPECT_EQ(parse_prefix_list(many_prefixes(kPrefixesPerListMax, "\n"), "x")->size(),
            kPrefixesPerListMax);
  const auto longer = parse_prefix_list(many_prefixes(kPrefixesPerListMax + 1, "\n"), "/l");
  ASSERT_FALSE(longer);
  EXPECT_EQ(longer.error().text(), "/l:200001: more than 200000 prefixes");
}

TEST(PrefixList, OfFullLengthSurvivesTheSavedModel) {
  Model model;
  Vip vip;
  vip.name = "v";
  vip.address = wire::IpAddress::v4(203, 0, 113, 1);
  vip.ports = PortRange::any();
  vip.sources.deny = *parse_prefix_list(many_prefixes(kPrefixesPerListMax, "\n"), "x");
  model.vips = {vip};
  const Result<Model> again = model_from_json(to_json(model));
  ASSERT_TRUE(again) << again.error().text();
  EXPECT_TRUE(*again == model);
}

TEST(ConfigWarnings, SayHowATableSizeWasTaken) {
  const ParseOutcome outcome =
      parse_config("version: 1\nnode:\n  l4: {flows: 1000k, natFlows: 1024}\n", "weir.yaml");
  ASSERT_TRUE(outcome.ok());
  EXPECT_EQ(outcome.model.node.l4.flows_max, 1U << 20);
  EXPECT_EQ(outcome.model.node.l4.nat_flows_max, 1024U);
  ASSERT_EQ(outcome.warnings.size(), 1U);
  EXPECT_EQ(outcome.warnings[0].text(),
            "weir.yaml:3:15: flows of node.l4 is '1000k', rounded up to 1Mi; expected a power of "
            "two from 1024 on");
}

TEST(ConfigWarnings, AreNoneForNoFlowTableAndForItsSmallest) {
  for (const char* flows : {"0", "1Ki", "1024", "64Mi"}) {
    const ParseOutcome outcome =
        parse_config(fmt::format("version: 1\nnode:\n  l4: {{flows: {}}}\n", flows), "weir.yaml");
    EXPECT_TRUE(outcome.ok()) << flows;
    EXPECT_TRUE(outcome.warnings.empty()) << flows;
  }
}

TEST(Rate, HasItsUnit) {
  EXPECT_EQ(*parse_rate("200/s"), 200U);
  EXPECT_EQ(*parse_rate("10k/s"), 10'000U);
  EXPECT_EQ(*parse_rate("4Ki/s"), 4096U);
  EXPECT_EQ(*parse_rate("100M/s"), kRateMax);
  for (const char* text : {"", "/s", "200", "0/s", "0", "200/m", "200 /s", "-1/s", "101M/s",
                           "100000001/s", "1.5k/s", "99999999999999999999/s"})
    EXPECT_FALSE(parse_rate(text)) << text;
}

TEST(AffinityTimeout, IsInWholeSeconds) {
  EXPECT_EQ(*parse_affinity_timeout("1s"), 1U);
  EXPECT_EQ(*parse_affinity_timeout("2000ms"), 2U);
  EXPECT_EQ(*parse_affinity_timeout("72h"), kAffinityTimeoutMaxS);
  for (const char* text : {"", "0", "0s", "999ms", "1500ms", "73h", "3", "3d"})
    EXPECT_FALSE(parse_affinity_timeout(text)) << text;
}

}  // namespace
}  // namespace weir::control
