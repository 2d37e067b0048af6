#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace weir::tls {

/// What the first bytes of a TLS connection say about where it wants to go.
struct HelloResult {
  enum class Outcome : std::uint8_t {
    kIncomplete,  ///< so far it is a ClientHello; more must come
    kComplete,
    kMalformed,  ///< not TLS, or broken, or larger than kHelloBytesMax
  };
  Outcome outcome = Outcome::kMalformed;
  /// The host name that is asked for, as it was sent: 1 to 255 characters of host names; empty
  /// without one.
  std::string_view server_name{};
  std::string_view problem{};  ///< of kMalformed
};

/// Records of one ClientHello with a large list of keys stay far below it.
inline constexpr std::size_t kHelloBytesMax = 16 * 1024;

/// Reads a ClientHello (RFC 8446, section 4.1.2) that nobody here answers, for passing a connection
/// through by its name (RFC 6066, section 3). Strict: every length must fit its parent exactly. It
/// looks at everything from the start each time, which kHelloBytesMax bounds; keeps nothing.
/// `scratch` takes the message where records cut it in pieces; the result points into either.
HelloResult read_client_hello(std::span<const std::byte> bytes,
                              std::span<std::byte, kHelloBytesMax> scratch);

}  // namespace weir::tls
