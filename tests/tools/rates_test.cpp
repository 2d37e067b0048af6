#include "tools/weir/rates.h"

#include <gtest/gtest.h>

#include <limits>

#include "tools/weir/numbers.h"
#include "tools/weir/top_subject.h"

namespace weir::cli {
namespace {

Json counters(std::int64_t packets) {
  return {{"packets", packets}, {"bytes", packets * 100}, {"new_flows", packets / 2}};
}

Json stats_at(std::int64_t seconds, std::int64_t packets, std::int64_t sent) {
  Json backend = counters(sent);
  backend["address"] = "10.0.0.1";
  backend["name"] = "b1";
  Json vip = counters(packets);
  vip["vip"] = "203.0.113.1:80/tcp";
  vip["name"] = "web";
  vip["sent_packets"] = sent;
  vip["backends"] = Json::array({backend});
  return {{"read_at_ns", seconds * 1'000'000'000},
          {"verdicts",
           Json::array({{{"verdict", "tx_ipip"}, {"action", "tx"}, {"packets", sent}, {"bytes", 0}},
                        {{"verdict", "drop_rate"},
                         {"action", "drop"},
                         {"packets", packets - sent},
                         {"bytes", 0}}})},
          {"total", counters(packets)},
          {"vips", Json::array({vip})}};
}

TEST(Rates, AreWhatCountersGainedInASecond) {
  const Json json = with_rates(stats_at(10, 1000, 900), stats_at(12, 1500, 1300));
  EXPECT_EQ(json["total"]["packets_per_s"], 250.0);
  EXPECT_EQ(json["total"]["bits_per_s"], 200000.0);
  const Json& vip = json["vips"][0];
  EXPECT_EQ(vip["packets"], 1500);
  EXPECT_EQ(vip["packets_per_s"], 250.0);
  EXPECT_EQ(vip["new_flows_per_s"], 125.0);
  EXPECT_EQ(vip["drops_per_s"], 50.0);
  EXPECT_EQ(vip["backends"][0]["packets_per_s"], 200.0);
  EXPECT_EQ(json["verdicts"][1]["packets_per_s"], 50.0);
}

TEST(Rates, OfACounterThatBeganAnewAreNotKnown) {
  const Json json = with_rates(stats_at(10, 1000, 900), stats_at(11, 5, 5));
  EXPECT_TRUE(json["total"]["packets_per_s"].is_null());
  EXPECT_TRUE(json["vips"][0]["drops_per_s"].is_null());
  EXPECT_EQ(json["vips"][0]["packets"], 5);
}

TEST(Rates, OfAVipThatCameInBetweenAreNotKnown) {
  Json before = stats_at(10, 1000, 900);
  before["vips"] = Json::array();
  const Json json = with_rates(before, stats_at(11, 1100, 1000));
  EXPECT_TRUE(json["vips"][0]["packets_per_s"].is_null());
  EXPECT_TRUE(json["vips"][0]["backends"][0]["bits_per_s"].is_null());
  EXPECT_EQ(json["total"]["packets_per_s"], 100.0);
}

TEST(Rates, NeedTwoReadingsOfOneClockInOrder) {
  const Json stats = stats_at(10, 1, 1);
  EXPECT_EQ(with_rates(nullptr, stats), stats);
  EXPECT_EQ(with_rates(stats, stats), stats);
  EXPECT_EQ(with_rates(stats_at(11, 1, 1), stats), stats);
  EXPECT_EQ(with_rates(Json::object(), stats), stats);
  EXPECT_EQ(with_rates(stats, Json::array()), Json::array());
}

TEST(Rates, OfDropsAreNeverBelowZeroAndNotKnownOfL7) {
  Json before = stats_at(10, 100, 100);
  Json after = stats_at(11, 200, 201);
  EXPECT_EQ(with_rates(before, after)["vips"][0]["drops_per_s"], 0.0);
  before["vips"][0]["sent_packets"] = nullptr;
  after["vips"][0]["sent_packets"] = nullptr;
  EXPECT_TRUE(with_rates(before, after)["vips"][0]["drops_per_s"].is_null());
}

constexpr std::size_t kPackets = 0;  // among the values of a row
constexpr std::size_t kDrops = 3;

TEST(TopReadings, AreOfVipsOrOfTheBackendsOfOne) {
  const Json before = stats_at(10, 1000, 900);
  const Json after = stats_at(11, 1200, 1000);
  const auto top_reading = top_of_l4().reading;
  const TopReading vips = top_reading(before, after, "");
  ASSERT_EQ(vips.rows.size(), 1U);
  EXPECT_EQ(vips.rows[0].label, "203.0.113.1:80/tcp");
  EXPECT_EQ(vips.rows[0].values[kDrops], 100.0);
  EXPECT_EQ(vips.summary, "received 200 packets/s, 160k bits/s; dropped 100 packets/s");
  EXPECT_TRUE(vips.has_rates);
  const TopReading backends = top_reading(before, after, "203.0.113.1:80/tcp");
  ASSERT_EQ(backends.rows.size(), 1U);
  EXPECT_EQ(backends.rows[0].name, "b1");
  EXPECT_EQ(backends.rows[0].values[kPackets], 100.0);
  EXPECT_FALSE(backends.rows[0].values[kDrops]);
  EXPECT_FALSE(top_reading(nullptr, after, "").rows[0].values[kPackets]);
  EXPECT_FALSE(top_reading(nullptr, after, "").has_rates);
  EXPECT_TRUE(top_reading(nullptr, Json{}, "").rows.empty());
}

TEST(ShortNumbers, HaveThreeDigits) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  constexpr double kNotANumber = std::numeric_limits<double>::quiet_NaN();
  for (const auto& [value, text] :
       std::initializer_list<std::pair<double, const char*>>{{0, "0"},
                                                             {0.25, "0.25"},
                                                             {7, "7"},
                                                             {7.456, "7.46"},
                                                             {9.999, "10.0"},
                                                             {812, "812"},
                                                             {99.96, "100"},
                                                             {999.4, "999"},
                                                             {999.6, "1.00k"},
                                                             {1234, "1.23k"},
                                                             {40e6, "40.0M"},
                                                             {999.9e6, "1.00G"},
                                                             {1e30, "1000000000000E"},
                                                             {-1, "-"},
                                                             {kInfinity, "-"},
                                                             {kNotANumber, "-"}})
    EXPECT_EQ(short_number(value), text) << value;
}

TEST(BytesAndDurations, AreInUnitsOfPeople) {
  EXPECT_EQ(bytes_text(0), "0 B");
  EXPECT_EQ(bytes_text(1023), "1023 B");
  EXPECT_EQ(bytes_text(1024), "1.0 KiB");
  EXPECT_EQ(bytes_text(26'529'792), "25.3 MiB");
  EXPECT_EQ(bytes_text(1'048'575), "1.0 MiB");
  EXPECT_EQ(duration_text(59), "59 s");
  EXPECT_EQ(duration_text(60), "1 min 0 s");
  EXPECT_EQ(duration_text(8040), "2 h 14 min");
  EXPECT_EQ(duration_text(442'800), "5 d 3 h");
}

}  // namespace
}  // namespace weir::cli
