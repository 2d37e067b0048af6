#include "l4/wire/address.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace weir::wire {
namespace {

constexpr std::array<std::uint8_t, 12> kMappedPrefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

template <typename Number>
std::optional<Number> parse_number(std::string_view text, Number maximum) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value > maximum)
    return std::nullopt;
  return value;
}

Error invalid(std::string_view text, std::string_view expectation) {
  return Error{ErrorCode::kInvalid, fmt::format("'{}' is not {}", text, expectation)};
}

}  // namespace

std::string MacAddress::text() const {
  return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", bytes[0], bytes[1], bytes[2],
                     bytes[3], bytes[4], bytes[5]);
}

Result<MacAddress> MacAddress::parse(std::string_view text) {
  MacAddress mac;
  if (text.size() != 17) return invalid(text, "a MAC address such as 02:00:00:00:00:01");
  for (std::size_t i = 0; i < 6; ++i) {
    const char* digits = text.data() + 3 * i;
    const auto [end, error] = std::from_chars(digits, digits + 2, mac.bytes[i], 16);
    if (error != std::errc{} || end != digits + 2 || (i < 5 && digits[2] != ':'))
      return invalid(text, "a MAC address such as 02:00:00:00:00:01");
  }
  return mac;
}

IpAddress IpAddress::v4(std::span<const std::uint8_t, 4> octets) {
  IpAddress address;
  std::copy(kMappedPrefix.begin(), kMappedPrefix.end(), address.bytes.begin());
  std::copy(octets.begin(), octets.end(), address.bytes.begin() + 12);
  return address;
}

IpAddress IpAddress::v4(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d) {
  return v4(std::array<std::uint8_t, 4>{a, b, c, d});
}

IpAddress IpAddress::v6(std::span<const std::uint8_t, 16> octets) {
  IpAddress address;
  std::copy(octets.begin(), octets.end(), address.bytes.begin());
  return address;
}

Family IpAddress::family() const {
  return std::equal(kMappedPrefix.begin(), kMappedPrefix.end(), bytes.begin()) ? Family::kIpv4
                                                                               : Family::kIpv6;
}

std::span<const std::uint8_t, 4> IpAddress::v4_octets() const {
  WEIR_ASSERT(is_v4());
  return std::span{bytes}.subspan<12, 4>();
}

bool IpAddress::is_unspecified() const {
  return is_v4() ? bytes[12] == 0 && bytes[13] == 0 && bytes[14] == 0 && bytes[15] == 0
                 : bytes == std::array<std::uint8_t, 16>{};
}

bool IpAddress::is_loopback() const {
  if (is_v4()) return bytes[12] == 127;
  return std::all_of(bytes.begin(), bytes.begin() + 15, [](auto b) { return b == 0; }) &&
         bytes[15] == 1;
}

bool IpAddress::is_multicast() const {
  if (!is_v4()) return bytes[0] == 0xff;
  const bool broadcast =
      std::all_of(bytes.begin() + 12, bytes.end(), [](auto b) { return b == 0xff; });
  return (bytes[12] & 0xf0) == 0xe0 || broadcast;
}

bool IpAddress::is_link_local() const {
  if (is_v4()) return bytes[12] == 169 && bytes[13] == 254;
  return bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80;
}

std::string IpAddress::text() const {
  char buffer[INET6_ADDRSTRLEN];
  const bool four = is_v4();
  const char* printed =
      inet_ntop(four ? AF_INET : AF_INET6, bytes.data() + (four ? 12 : 0), buffer, sizeof(buffer));
  WEIR_ASSERT(printed != nullptr);  // the family is known and the buffer is large enough
  return printed;
}

Result<IpAddress> IpAddress::parse(std::string_view text) {
  const std::string terminated{text};
  IpAddress address;
  std::array<std::uint8_t, 4> octets{};
  // A NUL inside the text would end it early for inet_pton.
  if (text.find('\0') == std::string_view::npos) {
    if (inet_pton(AF_INET, terminated.c_str(), octets.data()) == 1) return v4(octets);
    if (inet_pton(AF_INET6, terminated.c_str(), address.bytes.data()) == 1) return address;
  }
  return invalid(text, "an IPv4 or IPv6 address");
}

bool Prefix::contains(const IpAddress& other) const {
  if (address.family() != other.family()) return false;
  unsigned bits = length + (address.is_v4() ? 96U : 0U);
  for (std::size_t i = 0; i < 16 && bits > 0; ++i) {
    const unsigned here = std::min(bits, 8U);
    const auto mask = static_cast<std::uint8_t>(0xff00U >> here);
    if (((address.bytes[i] ^ other.bytes[i]) & mask) != 0) return false;
    bits -= here;
  }
  return true;
}

std::string Prefix::text() const { return fmt::format("{}/{}", address.text(), length); }

Result<Prefix> Prefix::parse(std::string_view text) {
  const std::size_t slash = text.find('/');
  Result<IpAddress> address = IpAddress::parse(text.substr(0, slash));
  if (!address) return invalid(text, "a prefix such as 192.0.2.0/24 or 2001:db8::/32");
  const std::uint8_t longest = address->is_v4() ? 32 : 128;
  if (slash == std::string_view::npos) return Prefix{*address, longest};
  const auto length = parse_number<std::uint8_t>(text.substr(slash + 1), longest);
  if (!length) return invalid(text, fmt::format("a prefix with a length of 0 to {}", longest));
  return Prefix{*address, *length};
}

std::string Endpoint::text() const {
  return address.is_v4() ? fmt::format("{}:{}", address.text(), port.value())
                         : fmt::format("[{}]:{}", address.text(), port.value());
}

Result<Endpoint> Endpoint::parse(std::string_view text) {
  constexpr std::string_view kExpectation =
      "ADDRESS:PORT, such as 192.0.2.1:80 or [2001:db8::1]:80";
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return invalid(text, kExpectation);
  std::string_view host = text.substr(0, colon);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  Result<IpAddress> address = IpAddress::parse(host);
  // Without brackets an IPv6 address would swallow or lend a group to the port.
  if (!address || bracketed == address->is_v4()) return invalid(text, kExpectation);
  const auto port = parse_number<std::uint16_t>(text.substr(colon + 1), 65535);
  if (!port || *port == 0) return invalid(text, "ADDRESS:PORT with a port of 1 to 65535");
  return Endpoint{*address, Port{*port}};
}

}  // namespace weir::wire
