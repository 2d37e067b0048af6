#include "l4/api_bodies.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "l4/control/route_json.h"
#include "l4/control/rules.h"

namespace weir::l4 {
namespace {

using nlohmann::json;

/// No host has more; looking each one up among the others must stay short.
constexpr std::size_t kLoadedDevicesMax = 1024;

/// Two lower case digits a byte; nothing where it is something else.
std::optional<std::vector<std::byte>> bytes_of(std::string_view hex) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  if (hex.size() % 2 != 0) return std::nullopt;
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    const std::size_t high = kDigits.find(hex[i]);
    const std::size_t low = kDigits.find(hex[i + 1]);
    if (high == std::string_view::npos || low == std::string_view::npos) return std::nullopt;
    bytes.push_back(static_cast<std::byte>(high << 4 | low));
  }
  return bytes;
}

Result<std::vector<std::byte>> frame_of(const json& text, std::size_t number) {
  const auto bytes = text.is_string() ? bytes_of(text.get<std::string>()) : std::nullopt;
  if (!bytes)
    return Error{ErrorCode::kInvalid,
                 fmt::format("packet {} is not written in hexadecimal digits", number),
                 "give two lower case digits a byte, and nothing else"};
  if (bytes->size() < kTracedBytesMin || bytes->size() > kTracedBytesMax)
    return Error{ErrorCode::kInvalid, fmt::format("packet {} has {} bytes", number, bytes->size()),
                 fmt::format("a frame to trace has {} to {}, its Ethernet header included",
                             kTracedBytesMin, kTracedBytesMax)};
  return *bytes;
}

Result<std::vector<std::vector<std::byte>>> frames_of(const json& body) {
  const auto packets = body.find("packets");
  if (packets == body.end() || !packets->is_array() || packets->empty() ||
      packets->size() > kTracedPacketsMax)
    return Error{
        ErrorCode::kInvalid,
        fmt::format("the body lacks 'packets', a list of 1 to {} frames", kTracedPacketsMax)};
  std::vector<std::vector<std::byte>> frames;
  for (const json& text : *packets) {
    Result<std::vector<std::byte>> frame = frame_of(text, frames.size() + 1);
    if (!frame) return std::move(frame).error();
    frames.push_back(*std::move(frame));
  }
  return frames;
}

}  // namespace

Result<LoadSettings> load_settings_from_json(const LoadSettings& present, std::string_view text) {
  const Result<json> object = control::object_of(text);
  if (!object) return object.error();
  const json& body = *object;
  if (Result<void> known = control::only_members(body, {"devices", "mode", "chain"}); !known)
    return std::move(known).error();
  LoadSettings load = present;
  const auto devices = body.find("devices");
  if (devices == body.end() || !devices->is_array() || devices->empty())
    return Error{ErrorCode::kInvalid, "the body lacks 'devices', a list of device names"};
  for (const json& device : *devices) {
    if (!device.is_string())
      return Error{ErrorCode::kInvalid, "'devices' holds something that is no text"};
    const auto name = device.get<std::string>();
    if (const auto o = control::object_to_interface(name))
      return Error{ErrorCode::kInvalid, fmt::format("'devices' has {}", o->problem),
                   o->expectation};
    if (std::ranges::find(load.devices, name) != load.devices.end()) continue;
    if (load.devices.size() == kLoadedDevicesMax)
      return Error{ErrorCode::kInvalid,
                   fmt::format("'devices' holds more than {} devices", kLoadedDevicesMax)};
    load.devices.push_back(name);
  }
  if (const auto mode = body.find("mode"); mode != body.end()) {
    if (!mode->is_string()) return Error{ErrorCode::kInvalid, "'mode' is no text"};
    Result<control::XdpMode> parsed = control::parse_xdp_mode(mode->get<std::string>());
    if (!parsed) return std::move(parsed).error();
    load.mode = *parsed;
  }
  if (const auto chain = body.find("chain"); chain != body.end()) {
    if (!chain->is_boolean())
      return Error{ErrorCode::kInvalid, "'chain' is neither true nor false"};
    load.chain = chain->get<bool>();
  }
  return load;
}

Result<TraceWish> trace_wish_from_json(std::string_view text) {
  const Result<json> object = control::object_of(text);
  if (!object) return object.error();
  const json& body = *object;
  if (Result<void> known = control::only_members(body, {"packets", "device"}); !known)
    return std::move(known).error();
  TraceWish wish;
  Result<std::vector<std::vector<std::byte>>> frames = frames_of(body);
  if (!frames) return std::move(frames).error();
  wish.frames = *std::move(frames);
  const auto device = body.find("device");
  if (device == body.end() || device->is_null()) return wish;
  if (!device->is_string()) return Error{ErrorCode::kInvalid, "'device' is no text"};
  wish.device = device->get<std::string>();
  return wish;
}

}  // namespace weir::l4
