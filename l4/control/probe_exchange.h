#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

/// What is said over a probe's connection, and what is made of the answer: bytes out, bytes in.
/// Nothing here knows sockets or clocks.
namespace weir::control {

struct ProbeVerdict {
  bool is_success = false;
  std::string reason;  ///< for a person, in one line

  friend bool operator==(const ProbeVerdict&, const ProbeVerdict&) = default;
};
inline ProbeVerdict failure(std::string reason) { return {false, std::move(reason)}; }

/// The most that is read of an answer, whatever the kind: more is a failure.
inline constexpr std::size_t kAnswerBytesMax = std::size_t{256} * 1024;

class ProbeExchange {
 public:
  virtual ~ProbeExchange() = default;
  /// What is to be sent now. Asked for when the connection stands and after each on_bytes().
  virtual std::string take_output() = 0;
  /// Bytes of the answer, however they are cut. Nothing: more is needed. Not called again after a
  /// verdict.
  virtual std::optional<ProbeVerdict> on_bytes(std::span<const std::byte> bytes) = 0;
  /// The backend has ended the connection before there was a verdict.
  virtual ProbeVerdict on_end() = 0;
};

/// What a backend sent, for a reason: its beginning, in quotes, with what does not print escaped.
std::string quoted_start(std::string_view answer);

}  // namespace weir::control
