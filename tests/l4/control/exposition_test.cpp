#include "l4/control/exposition.h"

#include <gtest/gtest.h>

#include <array>

#include "l4/control/admin_flags.h"

namespace weir::control {
namespace {

TEST(Exposition, HasHelpTypeAndSamplesOfEachFamily) {
  Exposition out;
  out.family("weir_packets_total", MetricType::kCounter, "Packets by how they ended");
  out.sample(std::array{MetricLabel{"verdict", "tx_ipip"}, MetricLabel{"action", "tx"}},
             std::uint64_t{18446744073709551615U});
  out.sample(std::array{MetricLabel{"verdict", "pass"}}, std::uint64_t{0});
  out.family("weir_load_seconds", MetricType::kGauge, "A time");
  out.sample(0.25);
  EXPECT_EQ(out.text(), R"(# HELP weir_packets_total Packets by how they ended
# TYPE weir_packets_total counter
weir_packets_total{verdict="tx_ipip",action="tx"} 18446744073709551615
weir_packets_total{verdict="pass"} 0
# HELP weir_load_seconds A time
# TYPE weir_load_seconds gauge
weir_load_seconds 0.25
)");
}

TEST(Exposition, EscapesHelp) {
  Exposition out;
  out.family("weir_x", MetricType::kGauge, "a\\b\nc");
  EXPECT_EQ(out.text(), "# HELP weir_x a\\\\b\\nc\n# TYPE weir_x gauge\n");
}

struct LabelCase {
  std::string_view name;
  std::string_view value;
  std::string_view text;
};

class MetricLabels : public ::testing::TestWithParam<LabelCase> {};

TEST_P(MetricLabels, CannotEndEarly) {
  EXPECT_EQ(metric_label_text(GetParam().value), GetParam().text);
}

INSTANTIATE_TEST_SUITE_P(, MetricLabels,
                         ::testing::Values(LabelCase{"Plain", "[2001:db8::1]:80/tcp",
                                                     "[2001:db8::1]:80/tcp"},
                                           LabelCase{"AQuote", "a\"} 1", "a\\\"} 1"},
                                           LabelCase{"ABackslash", "a\\", "a\\\\"},
                                           LabelCase{"ALineBreak", "a\nweir_up 1", "a\\nweir_up 1"},
                                           LabelCase{"NoUtf8", "a\xff z", "a\\\\xff z"},
                                           LabelCase{"Utf8", "größe", "größe"}),
                         [](const auto& test) { return std::string{test.param.name}; });

TEST(MetricsAddresses, OfAPortAloneAreOnLoopback) {
  EXPECT_EQ(parse_metrics_address("9177")->text(), "127.0.0.1:9177");
  EXPECT_EQ(parse_metrics_address("0.0.0.0:9177")->text(), "0.0.0.0:9177");
  EXPECT_EQ(parse_metrics_address("[2001:db8::5]:9177")->text(), "[2001:db8::5]:9177");
}

TEST(MetricsAddresses, ThatAreNoneAreRefusedWithWhatToWrite) {
  for (const std::string_view wrong :
       {"", "0", "65536", "-1", "9177 ", ":9177", "localhost:9177", "127.0.0.1", "127.0.0.1:0",
        "127.0.0.1:65536", "2001:db8::5:9177", "09177", "0x10"}) {
    const auto parsed = parse_metrics_address(wrong);
    ASSERT_FALSE(parsed) << wrong;
    EXPECT_EQ(parsed.error().code(), ErrorCode::kInvalid);
    EXPECT_FALSE(parsed.error().remedy().empty());
  }
}

}  // namespace
}  // namespace weir::control
