#include "l4/control/config.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "l4/control/model_json.h"
#include "tests/support/golden.h"

namespace weir::control {
namespace {

using weir::testing::file_text;
using weir::testing::golden_directory;
using weir::testing::golden_inputs;
using weir::testing::matches_golden;
using weir::testing::test_name_of;

/// Expectations must not depend on where the source tree lies.
std::string without_tree(std::string text) {
  const std::string tree = golden_directory().lexically_normal().string();
  for (std::size_t at = text.find(tree); at != std::string::npos; at = text.find(tree, at))
    text.replace(at, tree.size(), "<golden>");
  return text;
}

ParseOutcome parse_file(const std::filesystem::path& path) {
  ParseOutcome outcome = parse_config(file_text(path), path.lexically_normal().string());
  for (Diagnostic& diagnostic : outcome.diagnostics)
    diagnostic.file = path.filename().string();
  return outcome;
}

std::filesystem::path expectation_of(std::filesystem::path path) {
  return path.replace_extension(".expect");
}

class RefusedConfig : public ::testing::TestWithParam<std::filesystem::path> {};

TEST_P(RefusedConfig, HasExactlyTheseDiagnostics) {
  const ParseOutcome outcome = parse_file(GetParam());
  ASSERT_FALSE(outcome.ok());
  std::string actual;
  for (const Diagnostic& diagnostic : outcome.diagnostics) {
    EXPECT_EQ(diagnostic.text().find('\n'), std::string::npos) << diagnostic.text();
    actual += diagnostic.text() + "\n";
  }
  if (outcome.left_out > 0) actual += fmt::format("and {} more\n", outcome.left_out);
  EXPECT_TRUE(matches_golden(expectation_of(GetParam()), without_tree(actual)));
}

INSTANTIATE_TEST_SUITE_P(, RefusedConfig,
                         ::testing::ValuesIn(golden_inputs(golden_directory() / "bad", ".yaml")),
                         [](const auto& test) { return test_name_of(test.param); });

class AcceptedConfig : public ::testing::TestWithParam<std::filesystem::path> {};

TEST_P(AcceptedConfig, HasThisNormalForm) {
  const ParseOutcome outcome = parse_file(GetParam());
  for (const Diagnostic& diagnostic : outcome.diagnostics)
    ADD_FAILURE() << diagnostic.text();
  const std::string normal_form =
      nlohmann::ordered_json::parse(to_json(outcome.model)).dump(2) + "\n";
  EXPECT_TRUE(matches_golden(expectation_of(GetParam()), without_tree(normal_form)));
}

TEST_P(AcceptedConfig, IsTheSameAfterItsNormalForm) {
  ParseOutcome outcome = parse_file(GetParam());
  outcome.model.node.hash_seed_file.clear();  // the normal form has the seed itself
  const Result<Model> again = model_from_json(to_json(outcome.model));
  ASSERT_TRUE(again) << again.error().text();
  EXPECT_EQ(*again, outcome.model);
}

INSTANTIATE_TEST_SUITE_P(, AcceptedConfig,
                         ::testing::ValuesIn(golden_inputs(golden_directory() / "good", ".yaml")),
                         [](const auto& test) { return test_name_of(test.param); });

}  // namespace
}  // namespace weir::control
