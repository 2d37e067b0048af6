#include <fmt/format.h>

#include <algorithm>

#include "l4/base/bytes.h"
#include "l4/base/hex.h"
#include "l4/control/config_files.h"
#include "l4/control/json_text.h"
#include "tools/weir/answers.h"
#include "tools/weir/capture_file.h"
#include "tools/weir/packet_text.h"

namespace weir::cli {
namespace {

constexpr std::size_t kPacketsMax = 100;
constexpr std::size_t kCaptureBytesMax = 64U << 20;

using Frames = std::vector<std::vector<std::byte>>;

Result<Frames> frames_of(const TraceOptions& options) {
  if (options.capture.empty()) return Frames{options.frame};
  Result<std::string> file = control::read_regular_file(options.capture, kCaptureBytesMax);
  if (!file) return std::move(file).error().while_doing("reading the capture");
  Result<Frames> frames = read_capture(as_bytes(*file), options.capture, kPacketsMax);
  if (frames && frames->empty())
    return Error{ErrorCode::kInvalid, fmt::format("{} holds no packets", options.capture)};
  return frames;
}

std::string line(const std::string& step, const std::string& text) {
  return fmt::format("  {:<9} {}\n", step, text);
}

/// The frame as it leaves, or that none does.
std::string end_of(const Json& packet) {
  const std::string action = text_at(packet, "action");
  if (action == "drop") return line("out", "nothing");
  const std::string hex = text_at(packet, "frame");
  const auto frame = bytes_of_hex(hex).value_or(std::vector<std::byte>{});
  return line("out", fmt::format("{} ({} bytes{})", packet_text(frame), frame.size(),
                                 action == "pass" ? ", to the host" : "")) +
         line("bytes", hex);
}

std::string as_text(const Frames& frames, const Json& answer) {
  std::string text;
  std::size_t number = 0;
  for (const Json& packet : list_at(answer, "packets")) {
    if (number == frames.size()) break;  // the daemon answers with as many as were asked about
    const std::vector<std::byte>& frame = frames[number++];
    if (number > 1) text += "\n";
    text += fmt::format("packet {}, in by {}: {} ({} bytes)\n", number, text_at(answer, "device"),
                        packet_text(frame), frame.size());
    for (const Json& step : list_at(packet, "steps"))
      text += line(text_at(step, "step"), text_at(step, "text"));
    text += end_of(packet);
  }
  for (const Json& note : list_at(answer, "notes"))
    text += fmt::format("note: {}\n", note.is_string() ? note.get<std::string>() : note.dump());
  return text;
}

/// The daemon's answer, and what the packets are.
std::string as_json(const Frames& frames, Json answer) {
  for (std::size_t i = 0; i < frames.size() && i < answer["packets"].size(); ++i) {
    Json& packet = answer["packets"][i];
    const auto out = bytes_of_hex(text_at(packet, "frame")).value_or(std::vector<std::byte>{});
    packet["in"] = packet_text(frames[i]);
    packet["out"] = text_at(packet, "action") == "drop" ? Json{} : Json(packet_text(out));
  }
  return control::json_text(answer, 2) + "\n";
}

}  // namespace

Outcome trace(const Daemons& daemons, const TraceOptions& options, OutputFormat format) {
  const Result<Frames> frames = frames_of(options);
  if (!frames) return failure_of(frames.error());
  Json packets = Json::array();
  for (const std::vector<std::byte>& frame : *frames)
    packets.push_back(hex_of(frame));
  Answer answer = ask(
      daemons.l4, "POST", "/v1/trace",
      {{"packets", packets}, {"device", options.device.empty() ? Json{} : Json(options.device)}});
  if (auto* failure = std::get_if<Failure>(&answer)) return std::move(*failure);
  std::string text = format == OutputFormat::kJson
                         ? as_json(*frames, std::get<Json>(std::move(answer)))
                         : as_text(*frames, std::get<Json>(answer));
  if (text.ends_with('\n')) text.pop_back();
  return Report{{}, {std::move(text)}};
}

}  // namespace weir::cli
