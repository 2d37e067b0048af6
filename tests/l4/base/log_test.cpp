#include "l4/base/log.h"

#include <gtest/gtest.h>

#include <string_view>
#include <vector>

#include "l4/base/json_text.h"

namespace weir {
namespace {

using namespace std::string_view_literals;

// 2026-01-05T12:00:00.250Z
constexpr std::chrono::system_clock::time_point kTime{std::chrono::milliseconds{1767614400250}};
const LogStyle kJson{.format = LogFormat::kJson, .program = "weir-l4", .pid = 812};

std::string json_text_of(std::string_view text) {
  std::string out;
  append_json_text(out, text);
  return out;
}

TEST(LogText, IsTimeLevelMessageAndFieldsForPeople) {
  const std::vector<LogField> fields{{"socket", "/run/weir/l4.sock"}, {"revision", "7"}};
  EXPECT_EQ(log_text({}, kTime, LogLevel::kInfo, "it is up", fields),
            "2026-01-05T12:00:00.250Z info it is up socket=/run/weir/l4.sock revision=7\n");
}

TEST(LogText, InAMessageOrAFieldCannotBeginALineOfItsOwn) {
  const std::vector<LogField> fields{{"name", "a\nb"}};
  EXPECT_EQ(log_text({}, kTime, LogLevel::kWarning, "x\n2026 error y\r\x1b[31m", fields),
            "2026-01-05T12:00:00.250Z warning x\\x0a2026 error y\\x0d\\x1b[31m name=a\\x0ab\n");
}

TEST(LogText, InJsonIsOneObjectALine) {
  const std::vector<LogField> fields{{"socket", "/run/weir/l4.sock"}};
  EXPECT_EQ(log_text(kJson, kTime, LogLevel::kError, "it \"failed\"", fields),
            R"({"time":"2026-01-05T12:00:00.250Z","level":"error","program":"weir-l4","pid":812,)"
            R"("message":"it \"failed\"","socket":"/run/weir/l4.sock"})"
            "\n");
}

TEST(LogText, InJsonCannotForgeMembersOrLines) {
  EXPECT_EQ(log_text(kJson, kTime, LogLevel::kInfo, "a\n{\"level\":\"error\"}\xff", {}),
            R"({"time":"2026-01-05T12:00:00.250Z","level":"info","program":"weir-l4","pid":812,)"
            R"("message":"a\n{\"level\":\"error\"}\\xff"})"
            "\n");
}

TEST(LogFormats, AreTextAndJsonAndNothingElse) {
  EXPECT_EQ(*parse_log_format("text"), LogFormat::kText);
  EXPECT_EQ(*parse_log_format("json"), LogFormat::kJson);
  for (const std::string_view wrong : {"", "JSON", "yaml", "json "})
    EXPECT_FALSE(parse_log_format(wrong)) << wrong;
}

struct JsonCase {
  std::string_view name;
  std::string_view text;
  std::string_view json;
};

class JsonText : public ::testing::TestWithParam<JsonCase> {};

TEST_P(JsonText, IsValidWhateverTheBytesAre) {
  EXPECT_EQ(json_text_of(GetParam().text), GetParam().json);
}

INSTANTIATE_TEST_SUITE_P(
    , JsonText,
    ::testing::Values(JsonCase{"Nothing", "", R"("")"},
                      JsonCase{"PlainText", "web-1", R"("web-1")"},
                      JsonCase{"QuotesAndBackslashes", "a\"b\\c", R"("a\"b\\c")"},
                      JsonCase{"ControlCharacters", "\0\t\x1f\x7f"sv,
                               R"("\u0000\u0009\u001f\u007f")"},
                      JsonCase{"LineBreaks", "a\r\nb", R"("a\u000d\nb")"},
                      JsonCase{"TwoThreeAndFourBytes", "ä€𝄞", R"("ä€𝄞")"},
                      JsonCase{"AByteThatContinuesNothing", "\x80z", R"("\\x80z")"},
                      JsonCase{"ACharacterThatIsCut", "\xe2\x82", R"("\\xe2\\x82")"},
                      JsonCase{"ALongFormOfASlash", "\xc0\xaf", R"("\\xc0\\xaf")"},
                      JsonCase{"ALongFormOfThreeBytes", "\xe0\x80\xaf", R"("\\xe0\\x80\\xaf")"},
                      JsonCase{"ASurrogate", "\xed\xa0\x80", R"("\\xed\\xa0\\x80")"},
                      JsonCase{"AboveUnicode", "\xf4\x90\x80\x80", R"("\\xf4\\x90\\x80\\x80")"},
                      JsonCase{"AFirstByteOfFive", "\xf8\x88", R"("\\xf8\\x88")"}),
    [](const auto& test) { return std::string{test.param.name}; });

}  // namespace
}  // namespace weir
