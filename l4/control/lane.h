#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace weir::control {

/// The carrier between the two planes has two lanes, each with a device for every L7 worker, so
/// that a weir-l7 can start beside the one that it takes over from. Packets go into one of them.
enum class Lane : std::uint8_t { kBlue, kGreen };

inline constexpr std::array kLanes{Lane::kBlue, Lane::kGreen};

constexpr std::string_view text_of(Lane lane) { return lane == Lane::kBlue ? "blue" : "green"; }

constexpr std::optional<Lane> parse_lane(std::string_view text) {
  for (const Lane lane : kLanes)
    if (text == text_of(lane)) return lane;
  return std::nullopt;
}

constexpr Lane other(Lane lane) { return lane == Lane::kBlue ? Lane::kGreen : Lane::kBlue; }

/// What stands in front of the number in names of devices: "weir-w0" and "weir-wg0".
constexpr std::string_view mark_of(Lane lane) { return lane == Lane::kBlue ? "" : "g"; }

}  // namespace weir::control
