#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

/// The PROXY protocol, versions 1 and 2 (haproxy.org, doc/proxy-protocol.txt of 2020-03-05): what a
/// proxy says in front of a connection's first byte about whose connection it is. Section numbers
/// below are that document's.
namespace weir::http {

/// An address in the form that all of Weir uses, 16 bytes with IPv4 as ::ffff:a.b.c.d, and a port.
struct ProxyEndpoint {
  std::array<std::uint8_t, 16> address{};
  std::uint16_t port = 0;
  friend bool operator==(const ProxyEndpoint&, const ProxyEndpoint&) = default;
};

struct ProxyAddresses {
  ProxyEndpoint source;
  ProxyEndpoint destination;
  friend bool operator==(const ProxyAddresses&, const ProxyAddresses&) = default;
};

/// A longer header is refused. Version 2 could say 64 KiB; what is added to addresses in practice
/// (a name, an id, facts about TLS) takes hundreds of bytes.
inline constexpr std::size_t kProxyHeaderBytesMax = 4000;

struct ProxyHeader {
  enum class Outcome : std::uint8_t {
    kIncomplete,  ///< call again with the same bytes and more behind them
    kComplete,    ///< the connection's own bytes start at `consumed`
    kMalformed,   ///< no such header, or a broken one: close without an answer (section 2)
  };
  Outcome outcome = Outcome::kIncomplete;
  std::size_t consumed = 0;
  /// With kComplete. None: the sender speaks for itself (LOCAL), does not know (UNKNOWN, UNSPEC) or
  /// names what no TCP connection has (datagrams, Unix sockets); the connection's own addresses
  /// hold.
  std::optional<ProxyAddresses> addresses{};
  std::string_view problem{};  ///< with kMalformed; a literal
};

/// Reads the header of either version at the front of what has arrived. It says kMalformed as soon
/// as no further byte could help. Type-length-values of version 2 must be well formed and are
/// skipped, but for the checksum, which must be right where there is one. Pure; allocates nothing.
[[nodiscard]] ProxyHeader read_proxy_header(std::span<const std::byte> input);

/// The most that either writer appends.
inline constexpr std::size_t kProxyHeaderWrittenMax = 107;

/// "PROXY TCP4 …" or "PROXY TCP6 …". Where one end has IPv4 and the other has not, both are written
/// as IPv6.
void append_proxy_v1(std::vector<std::byte>& out, const ProxyAddresses& addresses);
/// The same in version 2: command PROXY, a stream, no type-length-values.
void append_proxy_v2(std::vector<std::byte>& out, const ProxyAddresses& addresses);

/// CRC-32C (RFC 3309, appendix B.1) of some bytes, going on from `before`.
[[nodiscard]] std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t before = 0);

}  // namespace weir::http
