#include "tests/fuzz/balancer_input.h"

#include <algorithm>
#include <array>

namespace weir::testing {
namespace {

constexpr std::size_t kFrameHeader = 3;

constexpr std::uint8_t kOptionPrefixes = 1;
constexpr std::uint8_t kOptionStateless = 2;

}  // namespace

std::uint64_t InputFrame::advance_ticks() const {
  constexpr std::array<std::uint64_t, 4> kAdvances{0, 1, 2'000, 100'000};
  return kAdvances[control & 3];
}

std::uint32_t InputFrame::ingress() const {
  return (control & 4) != 0 ? kWorldOtherDevice : kWorldDevice;
}

WorldOptions BalancerInput::world_options() const {
  return {.has_prefixes = (options & kOptionPrefixes) != 0,
          .is_stateless = (options & kOptionStateless) != 0};
}

BalancerInput read_input(std::span<const std::uint8_t> bytes) {
  BalancerInput input;
  if (bytes.empty()) return input;
  input.options = bytes[0];
  bytes = bytes.subspan(1);
  while (bytes.size() >= kFrameHeader && input.frames.size() < kInputFramesMax) {
    std::size_t size = bytes[0] | std::size_t{bytes[1]} << 8;
    InputFrame frame;
    frame.control = bytes[2];
    bytes = bytes.subspan(kFrameHeader);
    size = std::min({size, bytes.size(), kInputFrameBytesMax});
    const auto content = std::as_bytes(bytes.first(size));
    frame.bytes.assign(content.begin(), content.end());
    input.frames.push_back(std::move(frame));
    bytes = bytes.subspan(size);
  }
  return input;
}

std::vector<std::uint8_t> write_input(const BalancerInput& input) {
  std::vector<std::uint8_t> bytes{input.options};
  for (const InputFrame& frame : input.frames) {
    bytes.push_back(static_cast<std::uint8_t>(frame.bytes.size() & 0xff));
    bytes.push_back(static_cast<std::uint8_t>(frame.bytes.size() >> 8));
    bytes.push_back(frame.control);
    const auto* content = reinterpret_cast<const std::uint8_t*>(frame.bytes.data());
    bytes.insert(bytes.end(), content, content + frame.bytes.size());
  }
  return bytes;
}

}  // namespace weir::testing
