#include "bench/stack_lab/load.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string_view>

namespace weir::bench {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span{text.data(), text.size()});
}

TEST(LatencyHistogram, AQuantileIsWithinThreePercentOfTheValue) {
  for (const std::int64_t value : {1L, 31L, 32L, 1000L, 4'711L, 65'536L, 9'999'999L}) {
    LatencyHistogram histogram;
    histogram.add(Duration{value});
    EXPECT_NEAR(static_cast<double>(histogram.quantile(0.5).count()), static_cast<double>(value),
                0.03 * static_cast<double>(value));
  }
}

TEST(LatencyHistogram, QuantilesDivideTheValuesByTheirShare) {
  LatencyHistogram histogram;
  for (int i = 1; i <= 1000; ++i)
    histogram.add(microseconds{i});
  EXPECT_NEAR(static_cast<double>(histogram.quantile(0.5).count()), 500e3, 16e3);
  EXPECT_NEAR(static_cast<double>(histogram.quantile(0.99).count()), 990e3, 31e3);
  EXPECT_EQ(histogram.count(), 1000U);
}

TEST(LatencyHistogram, ValuesBeyondItsRangeAreKeptInTheLastBucket) {
  LatencyHistogram histogram;
  histogram.add(std::chrono::hours{24});
  histogram.add(Duration{-5});
  EXPECT_EQ(histogram.quantile(0.1).count(), 0);
  EXPECT_GT(histogram.quantile(1.0), std::chrono::minutes{10});
}

TEST(HeadEnds, AreFoundWhereverTheStreamIsCut) {
  constexpr std::string_view kStream =
      "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /\r\r\n\r\nX: \n\r\n\r\r\n\r\n";
  for (std::size_t cut = 0; cut <= kStream.size(); ++cut) {
    HeadEnds first;
    const std::uint32_t before = first.count(bytes_of(kStream.substr(0, cut)));
    HeadEnds second{first.matched()};
    EXPECT_EQ(before + second.count(bytes_of(kStream.substr(cut))), 3U) << cut;
  }
}

TEST(Measurement, CountsNeitherTheWarmUpNorWhatComesAfterTheEnd) {
  LoadOptions options;
  options.warm_up = milliseconds{100};
  options.duration = seconds{2};
  Measurement measurement{options};
  const Instant start{seconds{1000}};
  measurement.add_operation(microseconds{1});
  measurement.begin(start);
  measurement.add_operation(microseconds{1});
  measurement.advance(start + milliseconds{100});
  EXPECT_TRUE(measurement.is_counting());
  measurement.add_operation(microseconds{10});
  measurement.add_bytes(1000);
  measurement.advance(start + milliseconds{2100});
  EXPECT_TRUE(measurement.is_over());
  measurement.add_operation(microseconds{1});
  const auto report = measurement.report();
  EXPECT_EQ(report["operations"], 1);
  EXPECT_EQ(report["bytes"], 1000);
  EXPECT_DOUBLE_EQ(report["rate_per_s"].get<double>(), 0.5);
  EXPECT_NEAR(report["p50_us"].get<double>(), 10.0, 0.3);
}

TEST(RoleNames, AreReadAndWrittenByTheSameNames) {
  for (const std::string_view name :
       {"echo", "sink", "source", "http", "relay", "rr", "crr", "bulk", "idle"}) {
    const auto role = parse_role(name);
    ASSERT_TRUE(role) << name;
    EXPECT_EQ(text_of(*role), name);
  }
  EXPECT_FALSE(parse_role("proxy"));
  EXPECT_FALSE(parse_role(""));
}

}  // namespace
}  // namespace weir::bench
