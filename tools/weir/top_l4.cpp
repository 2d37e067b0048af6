#include <fmt/format.h>

#include <array>

#include "tools/weir/members.h"
#include "tools/weir/rates.h"
#include "tools/weir/top_subject.h"

/// `weir top l4`. Drops are not known of VIPs of mode l7 and of backends.
namespace weir::cli {
namespace {

constexpr std::size_t kWidth = 11;
constexpr std::array<TopColumn, 5> columns_behind(std::string_view label) {
  return {{{.key = 'a', .word = "address", .heading = label},
           {.key = 'k', .word = "packets", .heading = "PACKETS/S", .width = kWidth},
           {.key = 'b', .word = "bits", .heading = "BITS/S", .width = kWidth},
           {.key = 'f', .word = "flows", .heading = "FLOWS/S", .width = kWidth},
           {.key = 'd',
            .word = "drops",
            .heading = "DROPS/S",
            .width = kWidth,
            .alarm = TopAlarm::kAboveZero}}};
}
constexpr auto kVips = columns_behind("VIP");
constexpr auto kBackends = columns_behind("BACKEND");

TopRow row_of(const Json& json, const char* label) {
  return {.label = text_at(json, label),
          .name = text_at(json, "name"),
          .values = {number_at(json, "packets_per_s"), number_at(json, "bits_per_s"),
                     number_at(json, "new_flows_per_s"), number_at(json, "drops_per_s")}};
}

TopReading reading_of_vips(const Json& before, const Json& after, const std::string& open) {
  const Json json = with_rates(before, after);
  const Json& total = at(json, "total");
  const auto packets = number_at(total, "packets_per_s");
  std::optional<double> drops;
  for (const Json& verdict : at(json, "verdicts")) {
    const auto rate = number_at(verdict, "packets_per_s");
    if (!rate) continue;
    drops = drops.value_or(0) + (text_at(verdict, "action") == "drop" ? *rate : 0);
  }
  TopReading reading{
      .summary =
          fmt::format("received {} packets/s, {} bits/s; dropped {} packets/s", rate_text(packets),
                      rate_text(number_at(total, "bits_per_s")), rate_text(drops)),
      .has_rates = packets.has_value()};
  for (const Json& vip : at(json, "vips")) {
    if (open.empty()) {
      reading.rows.push_back(row_of(vip, "vip"));
    } else if (text_at(vip, "vip") == open) {
      for (const Json& backend : at(vip, "backends"))
        reading.rows.push_back(row_of(backend, "address"));
    }
  }
  return reading;
}

}  // namespace

const TopSubject& top_of_l4() {
  static constexpr TopSubject kSubject{.title = "weir top",
                                       .row = "VIP",
                                       .details = "backends",
                                       .list = {.columns = kVips, .name = "NAME"},
                                       .opened = {.columns = kBackends, .name = "NAME"},
                                       // Of 10,000 VIPs, with their backends the answer would be
                                       // ten times as long.
                                       .list_path = "/v1/stats?backends=false",
                                       .opened_path = "/v1/stats?vip=",
                                       .reading = reading_of_vips};
  return kSubject;
}

}  // namespace weir::cli
