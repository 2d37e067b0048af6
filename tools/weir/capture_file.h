#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "l4/base/result.h"

/// Capture files: pcapng written (draft-ietf-opsawg-pcapng), pcapng and pcap read.
namespace weir::cli {

/// Makes the blocks of one pcapng section, Ethernet and nanoseconds. The caller writes them.
class CaptureWriter {
 public:
  explicit CaptureWriter(std::string_view application);

  /// What a file begins with.
  [[nodiscard]] std::string head() const;

  struct Packet {
    std::uint64_t time_ns = 0;  ///< since 1970
    std::string_view device;
    std::span<const std::byte> kept;
    std::uint32_t frame_bytes = 0;  ///< of the whole frame
    std::string_view comment;
  };
  /// Preceded by what describes the device, where it is a new one.
  std::string packet(const Packet& packet);

  /// What a file ends with: per device, how many packets are missing. The events of all devices
  /// share one ring, so that the loss stands with the first.
  [[nodiscard]] std::string tail(std::uint64_t lost, std::uint64_t now_ns) const;

 private:
  std::string application_;
  std::map<std::string, std::uint32_t, std::less<>> devices_;
};

/// The frames of a capture file. Refuses what is cut, what is not Ethernet, and more than
/// `frames_max` frames; `name` is the file's, for errors.
Result<std::vector<std::vector<std::byte>>> read_capture(std::span<const std::byte> file,
                                                         const std::string& name,
                                                         std::size_t frames_max);

}  // namespace weir::cli
