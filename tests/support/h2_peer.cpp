#include "tests/support/h2_peer.h"

#include <fmt/format.h>

#include <algorithm>

namespace weir::testing {
namespace {

constexpr std::uint8_t kHeaders = 1;
constexpr std::uint8_t kSettings = 4;

std::size_t settings_in(const H2Reader& reader) {
  return static_cast<std::size_t>(std::count_if(
      reader.frames.begin(), reader.frames.end(),
      [](const H2Frame& frame) { return frame.type == kSettings && (frame.flags & 1) == 0; }));
}

}  // namespace

H2Client::H2Client(Peer& peer, std::string_view settings) : peer_{peer} {
  send("preface");
  send(fmt::format("settings {}", settings));
}

H2Reader& H2Client::read() {
  reader_.feed(std::string_view{peer_.received}.substr(peer_.handled));
  peer_.handled = peer_.received.size();
  for (; acknowledged_ < settings_in(reader_); ++acknowledged_)
    send("settings ack");
  return reader_;
}

std::string H2Client::status(std::uint32_t stream) {
  for (const H2Frame& frame : read().frames)
    if (frame.type == kHeaders && frame.stream == stream && !frame.field(":status").empty())
      if (frame.field(":status").front() != '1') return frame.field(":status");
  return {};
}

void H2Backend::serve(Peer& peer) {
  auto known = std::find(peers_.begin(), peers_.end(), &peer);
  const auto index = static_cast<std::size_t>(known - peers_.begin());
  if (known == peers_.end()) {
    peers_.push_back(&peer);
    readers_.push_back(std::make_unique<H2Reader>());
    readers_.back()->expect_preface();
    peer.send(h2_bytes(fmt::format("settings {}", settings_)));
    peer.send(h2_bytes("settings ack"));
  }
  H2Reader& reader = *readers_[index];
  const std::size_t before = reader.frames.size();
  reader.feed(std::string_view{peer.received}.substr(peer.handled));
  peer.handled = peer.received.size();
  for (std::size_t i = before; i < reader.frames.size(); ++i) {
    const H2Frame frame = reader.frames[i];
    if (frame.type > kHeaders) continue;
    std::size_t& calls = calls_[{index, frame.stream}];
    for (std::string line : answer_({reader, frame.stream, calls})) {
      if (const std::size_t at = line.find('#'); at != std::string::npos)
        line.replace(at, 1, std::to_string(frame.stream));
      peer.send(h2_bytes(line));
    }
    ++calls;
  }
}

H2Answer h2_answering(std::vector<std::string> frames) {
  return [frames = std::move(frames), done = std::map<std::uint32_t, bool>{}](
             const H2Request& request) mutable -> std::vector<std::string> {
    if (!request.ended() || std::exchange(done[request.stream], true)) return {};
    return frames;
  };
}

}  // namespace weir::testing
