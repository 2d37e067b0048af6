#include "l4/control/value_template.h"

#include <gtest/gtest.h>

#include "l4/control/units.h"

namespace weir::control {
namespace {

TEST(ValueTemplate, IsTextAndVariablesInTurn) {
  const ParsedTemplate parsed = parse_template(
      "a ${client.address}:${client.port} $5 $${b} ${request.header.X-Y}", TemplateUse::kRequest);
  ASSERT_TRUE(parsed.ok()) << parsed.problem;
  const std::vector<TemplatePart> wanted{
      {std::nullopt, "a "},        {Variable::kClientAddress, ""},
      {std::nullopt, ":"},         {Variable::kClientPort, ""},
      {std::nullopt, " $5 ${b} "}, {Variable::kRequestHeader, "X-Y"}};
  EXPECT_EQ(parsed.parts, wanted);
}

TEST(ValueTemplate, OfNothingHasNoParts) {
  EXPECT_TRUE(parse_template("", TemplateUse::kLog).parts.empty());
}

TEST(ValueTemplate, EveryListedVariableCanBeWrittenAndNoOther) {
  for (const TemplateUse use : {TemplateUse::kRequest, TemplateUse::kResponse, TemplateUse::kLog}) {
    std::string names = variable_names(use) + ", ";
    std::size_t count = 0;
    for (std::size_t at = 0; at < names.size(); at = names.find(", ", at) + 2, ++count) {
      std::string name = names.substr(at, names.find(", ", at) - at);
      if (name == "request.header.NAME") name = "request.header.accept";
      EXPECT_TRUE(parse_template("${" + name + "}", use).ok()) << name;
      EXPECT_FALSE(parse_template("${" + name + "x y}", use).ok()) << name;
    }
    EXPECT_GT(count, 15U);
  }
}

TEST(ValueTemplate, WhatIsNotKnownYetIsNoVariable) {
  EXPECT_FALSE(parse_template("${endpoint}", TemplateUse::kRequest).ok());
  EXPECT_TRUE(parse_template("${endpoint}", TemplateUse::kResponse).ok());
  EXPECT_FALSE(parse_template("${reason}", TemplateUse::kResponse).ok());
  EXPECT_TRUE(parse_template("${reason}", TemplateUse::kLog).ok());
}

TEST(ValueTemplate, AnUnknownNameIsAnsweredWithTheKnownOnes) {
  const ParsedTemplate parsed = parse_template("${client.adress}", TemplateUse::kRequest);
  EXPECT_EQ(parsed.problem, "'${client.adress}', in which 'client.adress' is no variable");
  EXPECT_NE(parsed.expectation.find("client.address, client.port"), std::string::npos);
  EXPECT_EQ(parsed.expectation.find("reason"), std::string::npos);
}

TEST(Share, IsReadAndWrittenAlike) {
  for (const auto& [text, share] :
       std::vector<std::pair<std::string, std::uint32_t>>{{"0%", 0},
                                                          {"100%", 100'000},
                                                          {"10%", 10'000},
                                                          {"0.5%", 500},
                                                          {"12.125%", 12'125},
                                                          {"0.001%", 1},
                                                          {"99.999%", 99'999}}) {
    EXPECT_EQ(parse_share(text), share) << text;
    EXPECT_EQ(share_text(share), text);
  }
}

TEST(Share, IsNothingElse) {
  for (const char* text : {"", "%", "10", "101%", "100.001%", "-1%", "0.0001%", "1.%", ".5%",
                           "1,5%", "01%", "1 %", "1e1%", "10%%"})
    EXPECT_EQ(parse_share(text), std::nullopt) << text;
}

}  // namespace
}  // namespace weir::control
