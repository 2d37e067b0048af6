#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "l4/base/result.h"
#include "l4/desired_state.h"

/// Bodies of the admin API that are neither a VIP nor a backend. Pure.
namespace weir::l4 {

inline constexpr std::size_t kTracedPacketsMax = 100;
/// A page less the room before a frame and behind it, on every architecture.
inline constexpr std::size_t kTracedBytesMax = 3400;
inline constexpr std::size_t kTracedBytesMin = 14;  // an Ethernet header

/// POST /v1/load: what is loaded at present, and the devices added to it.
Result<LoadSettings> load_settings_from_json(const LoadSettings& present, std::string_view text);

/// POST /v1/trace.
struct TraceWish {
  std::optional<std::string> device;  ///< that the frames come in by; the first one if not named
  std::vector<std::vector<std::byte>> frames;
};
Result<TraceWish> trace_wish_from_json(std::string_view text);

}  // namespace weir::l4
