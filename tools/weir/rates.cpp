#include "tools/weir/rates.h"

#include <algorithm>
#include <map>

#include "tools/weir/members.h"

namespace weir::cli {
namespace {

constexpr double kNanosecondsPerSecond = 1e9;
constexpr int kBitsPerByte = 8;

void add_row_rates(const Json& before, Json& row, double seconds) {
  row["packets_per_s"] = rate_of(at(before, "packets"), at(row, "packets"), seconds);
  Json bytes = rate_of(at(before, "bytes"), at(row, "bytes"), seconds);
  row["bits_per_s"] = bytes.is_null() ? Json{} : Json(bytes.get<double>() * kBitsPerByte);
  if (row.contains("new_flows"))
    row["new_flows_per_s"] = rate_of(at(before, "new_flows"), at(row, "new_flows"), seconds);
}

/// Packets for the VIP less those that were sent. The counters are read a moment apart, so that a
/// few packets of difference mean nothing: never below zero.
Json drops_of(const Json& before, const Json& row, double seconds) {
  const Json received = rate_of(at(before, "packets"), at(row, "packets"), seconds);
  const Json sent = rate_of(at(before, "sent_packets"), at(row, "sent_packets"), seconds);
  if (received.is_null() || sent.is_null()) return nullptr;
  return std::max(0.0, received.get<double>() - sent.get<double>());
}

/// The rows of a list by what names them.
std::map<std::string, const Json*> rows_by(const Json& rows, const std::string& name) {
  std::map<std::string, const Json*> found;
  if (!rows.is_array()) return found;
  for (const Json& row : rows) {
    if (at(row, name).is_string()) found[at(row, name).get<std::string>()] = &row;
  }
  return found;
}

/// Calls add(row before, or null; row) for every row.
template <typename Add>
void for_each_row(const Json& before, Json& after, const std::string& name, const Add& add) {
  static const Json kNull;
  if (!after.is_array()) return;
  const std::map<std::string, const Json*> earlier = rows_by(before, name);
  for (Json& row : after) {
    if (!at(row, name).is_string()) continue;
    const auto found = earlier.find(at(row, name).get<std::string>());
    add(found == earlier.end() ? kNull : *found->second, row);
  }
}

}  // namespace

std::optional<double> seconds_between(const Json& before, const Json& after) {
  const Json& from = at(before, "read_at_ns");
  const Json& to = at(after, "read_at_ns");
  if (!from.is_number_integer() || !to.is_number_integer()) return std::nullopt;
  const double seconds = (to.get<double>() - from.get<double>()) / kNanosecondsPerSecond;
  if (seconds <= 0) return std::nullopt;
  return seconds;
}

Json rate_of(const Json& before, const Json& after, double seconds) {
  if (!before.is_number() || !after.is_number()) return nullptr;
  const double gained = after.get<double>() - before.get<double>();
  if (gained < 0) return nullptr;
  return gained / seconds;
}

Json with_rates(const Json& before, const Json& after) {
  Json out = after;
  const std::optional<double> seconds = seconds_between(before, after);
  if (!seconds) return out;
  const auto add = [&](const Json& earlier, Json& row) { add_row_rates(earlier, row, *seconds); };
  for (const std::string list : {"verdicts", "return"}) {
    if (out.contains(list)) for_each_row(at(before, list), out[list], "verdict", add);
  }
  if (out.contains("total") && out["total"].is_object()) add(at(before, "total"), out["total"]);
  if (!out.contains("vips")) return out;
  for_each_row(at(before, "vips"), out["vips"], "vip", [&](const Json& earlier, Json& row) {
    add(earlier, row);
    row["drops_per_s"] = drops_of(earlier, row, *seconds);
    if (row.contains("backends"))
      for_each_row(at(earlier, "backends"), row["backends"], "address", add);
  });
  return out;
}

}  // namespace weir::cli
