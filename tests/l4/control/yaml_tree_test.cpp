#include "l4/control/yaml_tree.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "l4/control/config.h"

namespace weir::control {
namespace {

/// In one line: {a: 1, b: [x, ~]}.
std::string text_of(const YamlNode& node) {
  std::string inside;
  const bool is_map = node.kind == YamlKind::kMap;
  for (std::size_t i = 0; i < node.children.size(); ++i) {
    if (i > 0) inside += is_map && i % 2 == 1 ? ": " : ", ";
    inside += text_of(node.children[i]);
  }
  switch (node.kind) {
    case YamlKind::kNull:
      return "~";
    case YamlKind::kScalar:
      return std::string{node.text};
    case YamlKind::kList:
      return "[" + inside + "]";
    case YamlKind::kMap:
      return "{" + inside + "}";
  }
  return {};
}

std::string read(std::string_view text) {
  const auto parsed = parse_yaml(text);
  if (const auto* problem = std::get_if<YamlProblem>(&parsed))
    return fmt::format("{}:{} {}", problem->at.line, problem->at.column, problem->message);
  return text_of(std::get<YamlTree>(parsed).root);
}

TEST(YamlTree, AnAliasIsReadAsACopyOfItsAnchor) {
  EXPECT_EQ(read("a: &a {x: [1, 2], y: ~}\nb: *a\nc: [*a, *a]\n"),
            "{a: {x: [1, 2], y: ~}, b: {x: [1, 2], y: ~}, "
            "c: [{x: [1, 2], y: ~}, {x: [1, 2], y: ~}]}");
  EXPECT_EQ(read("a: &a [1]\nb: &b [*a, *a]\nc: *b\n"), "{a: [1], b: [[1], [1]], c: [[1], [1]]}");
}

TEST(YamlTree, AnAnchorThatIsSetAgainLeavesEarlierAliasesAsTheyAre) {
  EXPECT_EQ(read("a: &x [1]\nb: *x\nc: &x [2]\nd: *x\n"), "{a: [1], b: [1], c: [2], d: [2]}");
}

TEST(YamlTree, NothingStandsWhereItsKeyDoes) {
  const auto parsed = parse_yaml("a: &n\nb: *n\nc: 1\n");
  const YamlNode& root = std::get<YamlTree>(parsed).root;
  ASSERT_EQ(text_of(root), "{a: ~, b: ~, c: 1}");
  EXPECT_EQ(root.children[1].at.line, 1U);
  EXPECT_EQ(root.children[3].at.line, 2U);
}

TEST(YamlTree, OutlivesTheTextThatItWasReadFrom) {
  auto text = std::make_unique<std::string>("list: [\"a text that is longer than a few bytes\"]\n");
  const auto parsed = parse_yaml(*text);
  text.reset();
  EXPECT_EQ(text_of(std::get<YamlTree>(parsed).root),
            "{list: [a text that is longer than a few bytes]}");
}

TEST(YamlTree, AliasesDoNotGoDeeperThanOtherValues) {
  std::string deep = "1";
  for (std::size_t i = 0; i + 3 < kYamlDepthMax; ++i)
    deep = "[" + deep + "]";
  EXPECT_EQ(read(fmt::format("a: &a {}\nb: [*a]\n", deep)).substr(0, 4), "{a: ");
  EXPECT_EQ(read(fmt::format("a: &a {}\nb: [[*a]]\n", deep)), "2:6 nested deeper than 32 levels");
}

TEST(YamlTree, TextCountsAsOftenAsItIsAliased) {
  const std::string megabyte(1U << 20U, 'x');
  const auto aliased = [&](std::size_t times) {
    std::string text = fmt::format("a: &a {}\nb: [", megabyte);
    for (std::size_t i = 0; i < times; ++i)
      text += "*a, ";
    return read(text + "]\n");
  };
  constexpr std::size_t kTimes = kYamlTextBytesMax >> 20U;
  EXPECT_TRUE(aliased(kTimes - 2).starts_with("{a: x"));
  EXPECT_TRUE(aliased(kTimes - 1).starts_with("2:")) << "the keys take two bytes";
}

TEST(YamlTree, AMapOfManyRepeatedKeysIsReadInTheTimeOfItsLength) {
  std::string text = "version: 1\nservices: {";
  for (int i = 0; i < 200'000; ++i)
    text += fmt::format("a: ~, u{}: ~, ", i);
  const ParseOutcome outcome = parse_config(text + "}\n", "many.yaml");
  ASSERT_FALSE(outcome.ok());
  EXPECT_EQ(outcome.diagnostics[0].line, 2U);
}

}  // namespace
}  // namespace weir::control
