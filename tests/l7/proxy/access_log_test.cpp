#include "l7/proxy/access_log.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace weir::proxy {
namespace {

AccessRecord plain_record() {
  return {.client = *wire::Endpoint::parse("198.51.100.7:40000"),
          .vip = *wire::Endpoint::parse("[2001:db8::10]:443"),
          .tls_version = "TLSv1.3",
          .method = "GET",
          .host = "api.shop.example",
          .target = "/cart?x=1",
          .endpoint = *wire::Endpoint::parse("10.0.0.1:8080"),
          .status = 200,
          .attempts = 1,
          .duration = std::chrono::microseconds{1500}};
}

std::string formatted(const AccessRecord& record, std::size_t room = 4096) {
  std::string out(room, '\0');
  out.resize(format_record(record, out));
  return out;
}

TEST(AccessLog, WritesOneJsonObjectPerLine) {
  const std::string line = formatted(plain_record());
  ASSERT_TRUE(line.ends_with("}\n"));
  const auto json = nlohmann::json::parse(line);
  EXPECT_EQ(json["client"], "198.51.100.7:40000");
  EXPECT_EQ(json["vip"], "[2001:db8::10]:443");
  EXPECT_EQ(json["endpoint"], "10.0.0.1:8080");
  EXPECT_EQ(json["tls"], "TLSv1.3");
  EXPECT_EQ(json["status"], 200);
  EXPECT_EQ(json["reason"], "ok");
  EXPECT_EQ(json["duration_us"], 1500);
}

TEST(AccessLog, EscapesWhateverAClientSends) {
  AccessRecord record = plain_record();
  const std::string hostile = "/\"\\\n\r\x01\x7f\xff{}";
  record.target = hostile;
  const std::string line = formatted(record);
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
  const auto json = nlohmann::json::parse(line);
  EXPECT_EQ(json["target"].get<std::string>(), "/\"\\\n\r\x01\x7f\xc3\xbf{}");
}

TEST(AccessLog, CutsALongTargetVisibly) {
  AccessRecord record = plain_record();
  const std::string target(8000, 'a');
  record.target = target;
  const auto json = nlohmann::json::parse(formatted(record));
  const auto logged = json["target"].get<std::string>();
  EXPECT_LT(logged.size(), 1100U);
  EXPECT_TRUE(logged.ends_with("…"));
}

TEST(AccessLog, ARecordThatDoesNotFitIsNotWrittenInPart) {
  EXPECT_EQ(formatted(plain_record(), 50), "");
}

TEST(AccessLog, KeepsLinesWholeAcrossTheEndOfTheRing) {
  AccessLog log{4096};
  std::string drained;
  for (int i = 0; i < 200; ++i) {
    AccessRecord record = plain_record();
    record.status = 200 + i;
    log.record(record);
    log.drain(drained);
  }
  EXPECT_EQ(log.dropped(), 0U);
  std::size_t lines = 0;
  for (std::size_t at = 0; at < drained.size(); ++lines) {
    const std::size_t end = drained.find('\n', at);
    ASSERT_EQ(nlohmann::json::parse(drained.substr(at, end - at))["status"], 200 + lines);
    at = end + 1;
  }
  EXPECT_EQ(lines, 200U);
}

TEST(AccessLog, DropsAndCountsWhenNobodyReads) {
  AccessLog log{4096};
  for (int i = 0; i < 100; ++i)
    log.record(plain_record());
  EXPECT_GT(log.dropped(), 0U);
  std::string drained;
  log.drain(drained);
  const auto lines = static_cast<std::size_t>(std::count(drained.begin(), drained.end(), '\n'));
  EXPECT_EQ(lines + log.dropped(), 100U);
}

TEST(AccessLog, EveryReasonHasItsOwnName) {
  std::vector<std::string_view> names;
  for (std::size_t i = 0; i < kReasonCount; ++i)
    names.push_back(text_of(static_cast<Reason>(i)));
  EXPECT_EQ(names.size(), kReasonCount);
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::unique(names.begin(), names.end()), names.end());
  EXPECT_EQ(std::count(names.begin(), names.end(), "unknown"), 0);
}

}  // namespace
}  // namespace weir::proxy
