#include "tests/sim/tcp_goodput.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <string>

#include "tests/support/golden.h"

namespace weir::testing {
namespace {

using std::chrono::microseconds;

constexpr double kLosses[] = {0, 0.001, 0.01, 0.03, 0.1};
constexpr int kRoundTripsUs[] = {100, 1'000, 20'000, 100'000};
constexpr std::uint32_t kBuffers[] = {64 << 10, 256 << 10, 1 << 20};

constexpr std::size_t kTransfers = 3;  // of which the middle one counts

std::string megabits(GoodputCase conditions) {
  std::array<double, kTransfers> values;
  for (double& value : values) {
    const auto time = transfer_time(conditions);
    if (!time) return "stalled";
    const double seconds = std::chrono::duration<double>(*time).count();
    value = static_cast<double>(conditions.bytes) * 8 / 1e6 / seconds;
    ++conditions.seed;
  }
  std::ranges::sort(values);
  // Three digits: what moves less is no news.
  return fmt::format("{:.3g}", values[kTransfers / 2]);
}

std::string table(bool rack) {
  std::string text = fmt::format("{:>10} {:>10}", "buffer", "RTT");
  for (const double loss : kLosses)
    text += fmt::format(" {:>8}", fmt::format("{:g} %", loss * 100));
  text += '\n';
  std::uint64_t seed = 0;
  for (const std::uint32_t buffer : kBuffers)
    for (const int round_trip_us : kRoundTripsUs) {
      text += fmt::format("{:>7} KB {:>7} ms", buffer >> 10, round_trip_us / 1000.0);
      for (const double loss : kLosses)
        text += fmt::format(" {:>8}", megabits({.loss = loss,
                                                .round_trip = microseconds{round_trip_us},
                                                .buffer_bytes = buffer,
                                                .seed = seed += kTransfers,
                                                .rack = rack}));
      text += '\n';
    }
  return text;
}

// Whoever changes what is sent when changes this table; look at it before taking it over with
//     WEIR_UPDATE_GOLDEN=1 build/release/tests/sim/weir_tcp_goodput_test
TEST(TcpGoodput, IsAsTheTableSays) {
  std::string text =
      "Goodput in Mbit/s of a transfer of 4 MB over 1 Gbit/s, by loss in each direction; the "
      "median of three.\n\n" +
      table(true);
  text += "\nWithout RACK:\n\n" + table(false);
  EXPECT_TRUE(matches_golden(golden_directory() / "goodput.txt", text));
}

TEST(TcpGoodput, ALinkThatLosesNothingIsFilledWhereTheBufferAllows) {
  const auto time = transfer_time(
      {.loss = 0, .round_trip = microseconds{1'000}, .buffer_bytes = 1 << 20, .bytes = 8'000'000});
  ASSERT_TRUE(time);
  const double share = 8e6 * 8 / 1e9 / std::chrono::duration<double>(*time).count();
  EXPECT_GT(share, 0.8);
  EXPECT_LT(share, 1460.0 / 1514);
}

}  // namespace
}  // namespace weir::testing
