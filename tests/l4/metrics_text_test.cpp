#include "l4/metrics_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <sstream>

namespace weir::l4 {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

MetricsReading loaded_reading() {
  MetricsReading reading{.version = "1.2.3", .revision = 7, .vips = 2, .backends = 3};
  MetricsReading::Loaded& loaded = reading.loaded.emplace(MetricsReading::Loaded{});
  loaded.verdicts = {{"tx_ipip", "tx", {.packets = 10, .bytes = 1000}},
                     {"drop_no_backend", "drop", {}}};
  loaded.returned = {{"redirect", {}, {.packets = 1, .bytes = 64}}};
  loaded.flow_events = {{"added", 5}};
  loaded.flows = 4;
  loaded.flows_max = 262144;
  loaded.vips = {{"203.0.113.1:80/tcp",
                  "we\"b",
                  {.packets = 9, .bytes = 900, .new_flows = 2},
                  {{"10.0.0.1", "b1", {.packets = 6, .bytes = 600, .new_flows = 1}},
                   {"10.0.0.2", "", {.packets = 3, .bytes = 300, .new_flows = 1}}}},
                 {"203.0.113.2:53/udp", "dns", {}, {{"10.0.0.3", "b3", {}}}}};
  loaded.devices = {{"eth0", "native", true, 1500}};
  return reading;
}

std::size_t lines_with(const std::string& text, std::string_view prefix) {
  std::istringstream lines{text};
  std::size_t count = 0;
  for (std::string line; std::getline(lines, line);)
    count += line.starts_with(prefix) ? 1U : 0U;
  return count;
}

TEST(MetricsText, NamesEveryPacketByItsVerdict) {
  const std::string text = metrics_text(loaded_reading(), kSeriesMaxDefault);
  EXPECT_THAT(text, HasSubstr("weir_packets_total{verdict=\"tx_ipip\",action=\"tx\"} 10\n"));
  EXPECT_THAT(text, HasSubstr("weir_bytes_total{verdict=\"drop_no_backend\",action=\"drop\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("weir_return_bytes_total{verdict=\"redirect\"} 64\n"));
}

TEST(MetricsText, NamesVipsAndBackends) {
  const std::string text = metrics_text(loaded_reading(), kSeriesMaxDefault);
  EXPECT_THAT(text, HasSubstr("weir_vip_packets_total{vip=\"203.0.113.1:80/tcp\","
                              "name=\"we\\\"b\"} 9\n"));
  EXPECT_THAT(text, HasSubstr("weir_backend_new_flows_total{vip=\"203.0.113.1:80/tcp\","
                              "backend=\"10.0.0.2\",name=\"\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("weir_metrics_series_left_out 0\n"));
}

TEST(MetricsText, OfADaemonThatIsNotLoadedHasNoCountersOfPackets) {
  const std::string text = metrics_text({.version = "1", .in_desired_state = false}, 10);
  EXPECT_THAT(text, HasSubstr("weir_loaded 0\n"));
  EXPECT_THAT(text, HasSubstr("weir_in_desired_state 0\n"));
  EXPECT_THAT(text, Not(HasSubstr("weir_packets_total")));
}

TEST(MetricsText, OfANatTableIsThereOnlyWithTheTable) {
  MetricsReading reading = loaded_reading();
  EXPECT_THAT(metrics_text(reading, 0), Not(HasSubstr("weir_nat")));
  reading.loaded->nat_flows_max = 65536;
  reading.loaded->nat_flows = {{"established", 3}};
  EXPECT_THAT(metrics_text(reading, 0), HasSubstr("weir_nat_flows{state=\"established\"} 3\n"));
}

TEST(MetricsText, SaysWhichBackendsAreDownAndWhatBecameOfTheFile) {
  MetricsReading reading = loaded_reading();
  EXPECT_THAT(metrics_text(reading, kSeriesMaxDefault), Not(HasSubstr("weir_config_reload")));
  reading.backends_down = 1;
  reading.reload = {.file = "/etc/weir.yaml",
                    .ok = false,
                    .last_ok_unix_s = 1764061200,
                    .ok_total = 4,
                    .failures_total = 2};
  reading.loaded->vips[0].backends[0].up = true;
  reading.loaded->vips[0].backends[1].up = false;
  const std::string text = metrics_text(reading, kSeriesMaxDefault);
  EXPECT_THAT(text, HasSubstr("weir_backend_up{vip=\"203.0.113.1:80/tcp\",backend=\"10.0.0.1\","
                              "name=\"b1\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("backend=\"10.0.0.2\",name=\"\"} 0\n"));
  EXPECT_EQ(lines_with(text, "weir_backend_up{"), 2U);
  EXPECT_THAT(text, HasSubstr("weir_health_backends_down 1\n"));
  EXPECT_THAT(text, HasSubstr("weir_config_reload_success 0\n"));
  EXPECT_THAT(text, HasSubstr("weir_config_reloads_total{result=\"failed\"} 2\n"));
  // Six of VIPs, four and four of the two whose health is known, three of the other.
  EXPECT_THAT(metrics_text(reading, 13), HasSubstr("weir_metrics_series_left_out 7\n"));
}

struct LimitCase {
  std::size_t series_max;
  std::size_t vips;
  std::size_t backends;
  std::size_t left_out;
};

TEST(MetricsText, HasNoMoreSeriesOfServicesThanAllowedAndCountsTheRest) {
  for (const LimitCase& limit :
       {LimitCase{0, 0, 0, 15}, LimitCase{2, 0, 0, 15}, LimitCase{3, 1, 0, 12},
        LimitCase{6, 2, 0, 9}, LimitCase{9, 2, 1, 6}, LimitCase{15, 2, 3, 0}}) {
    const std::string text = metrics_text(loaded_reading(), limit.series_max);
    EXPECT_EQ(lines_with(text, "weir_vip_bytes_total{"), limit.vips) << limit.series_max;
    EXPECT_EQ(lines_with(text, "weir_backend_bytes_total{"), limit.backends) << limit.series_max;
    EXPECT_THAT(text,
                HasSubstr("weir_metrics_series_left_out " + std::to_string(limit.left_out) + "\n"));
  }
}

TEST(MetricsText, HasEveryFamilyOnceWithHelpAndItsSamplesTogether) {
  std::istringstream lines{metrics_text(loaded_reading(), kSeriesMaxDefault)};
  std::set<std::string> families;
  std::string family;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("# HELP ")) {
      family = line.substr(7, line.find(' ', 7) - 7);
      EXPECT_TRUE(families.insert(family).second) << family;
    } else if (!line.starts_with("# TYPE ")) {
      EXPECT_EQ(line.substr(0, line.find_first_of("{ ")), family);
    }
  }
  EXPECT_GT(families.size(), 20U);
}

}  // namespace
}  // namespace weir::l4
