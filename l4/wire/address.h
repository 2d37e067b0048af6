#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "l4/base/result.h"
#include "l4/base/strong.h"

namespace weir::wire {

/// Port number in host order. Port 0 is a value that configuration refuses.
using Port = Strong<std::uint16_t, struct PortTag>;

struct MacAddress {
  std::array<std::uint8_t, 6> bytes{};

  static constexpr MacAddress broadcast() { return {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}; }
  [[nodiscard]] bool is_zero() const { return bytes == std::array<std::uint8_t, 6>{}; }
  [[nodiscard]] bool is_multicast() const { return (bytes[0] & 1) != 0; }
  [[nodiscard]] std::string text() const;
  static Result<MacAddress> parse(std::string_view text);
  friend auto operator<=>(const MacAddress&, const MacAddress&) = default;
};

enum class Family : std::uint8_t { kIpv4, kIpv6 };

/// IPv4 or IPv6 address in one form: 16 bytes, IPv4 as ::ffff:a.b.c.d (RFC 4291, section 2.5.5.2).
/// The same form is used in bpf/abi.h.
struct IpAddress {
  std::array<std::uint8_t, 16> bytes{};

  static IpAddress v4(std::span<const std::uint8_t, 4> octets);
  static IpAddress v4(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d);
  static IpAddress v6(std::span<const std::uint8_t, 16> octets);

  [[nodiscard]] Family family() const;
  [[nodiscard]] bool is_v4() const { return family() == Family::kIpv4; }
  [[nodiscard]] std::span<const std::uint8_t, 4> v4_octets() const;  ///< only when is_v4()

  [[nodiscard]] bool is_unspecified() const;
  [[nodiscard]] bool is_loopback() const;
  [[nodiscard]] bool is_multicast() const;   ///< includes the IPv4 limited broadcast address
  [[nodiscard]] bool is_link_local() const;  ///< fe80::/10 or 169.254.0.0/16

  [[nodiscard]] std::string text() const;
  static Result<IpAddress> parse(std::string_view text);
  friend auto operator<=>(const IpAddress&, const IpAddress&) = default;
};

/// An address with a prefix length: a network, or a host's address within its network.
struct Prefix {
  IpAddress address;
  std::uint8_t length = 0;  ///< 0…32 for IPv4, 0…128 for IPv6

  [[nodiscard]] bool contains(const IpAddress& other) const;
  [[nodiscard]] std::string text() const;
  /// Accepts "10.0.0.0/8" and a bare address, which stands for its full length.
  static Result<Prefix> parse(std::string_view text);
  friend auto operator<=>(const Prefix&, const Prefix&) = default;
};

/// Address and port: "192.0.2.1:80", "[2001:db8::1]:80".
struct Endpoint {
  IpAddress address;
  Port port;

  [[nodiscard]] std::string text() const;
  static Result<Endpoint> parse(std::string_view text);
  friend auto operator<=>(const Endpoint&, const Endpoint&) = default;
};

}  // namespace weir::wire

template <>
struct std::hash<weir::wire::IpAddress> {
  std::size_t operator()(const weir::wire::IpAddress& address) const noexcept {
    return std::hash<std::string_view>{}(
        {reinterpret_cast<const char*>(address.bytes.data()), address.bytes.size()});
  }
};
template <>
struct std::hash<weir::wire::Endpoint> {
  std::size_t operator()(const weir::wire::Endpoint& endpoint) const noexcept {
    return std::hash<weir::wire::IpAddress>{}(endpoint.address) ^
           (std::size_t{endpoint.port.value()} * 0x9e3779b97f4a7c15);
  }
};
