#include "l7/http/proxy_protocol.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>

#include "l4/base/assert.h"
#include "l4/base/bytes.h"

namespace weir::http {
namespace {

using Outcome = ProxyHeader::Outcome;

constexpr std::string_view kV1Start = "PROXY ";
/// Section 2.1: "the longest line" with its CRLF.
constexpr std::size_t kV1BytesMax = 107;

/// Section 2.2. A NUL within, so its size is said.
constexpr std::string_view kV2Signature{"\r\n\r\n\0\r\nQUIT\n", 12};
/// Signature, version and command, family and transport, length.
constexpr std::size_t kV2FixedBytes = 16;
constexpr std::size_t kV2Ipv4Bytes = 12;
constexpr std::size_t kV2Ipv6Bytes = 36;
constexpr std::size_t kV2UnixBytes = 216;
constexpr std::uint8_t kV2StreamOverIpv4 = 0x11;
constexpr std::uint8_t kV2StreamOverIpv6 = 0x21;
/// PP2_TYPE_CRC32C, section 2.2.1.
constexpr std::uint8_t kV2ChecksumType = 0x03;
constexpr std::size_t kV2ChecksumBytes = 4;
constexpr std::size_t kV2TlvHeadBytes = 3;

ProxyHeader malformed(std::string_view problem) {
  return {.outcome = Outcome::kMalformed, .problem = problem};
}

ProxyHeader complete(std::size_t consumed, std::optional<ProxyAddresses> addresses) {
  return {.outcome = Outcome::kComplete, .consumed = consumed, .addresses = addresses};
}

using Address = std::array<std::uint8_t, 16>;

bool is_ipv4(const Address& address) {
  constexpr std::array<std::uint8_t, 12> kMapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return std::equal(kMapped.begin(), kMapped.end(), address.begin());
}

Address mapped(std::span<const std::uint8_t, 4> octets) {
  Address address{};
  address[10] = address[11] = 0xff;
  std::copy(octets.begin(), octets.end(), address.begin() + 12);
  return address;
}

// ---- version 1 ---------------------------------------------------------------------------------

std::optional<Address> parse_address(std::string_view text, int family) {
  std::array<char, INET6_ADDRSTRLEN> terminated{};
  if (text.size() >= terminated.size() || text.find('\0') != std::string_view::npos)
    return std::nullopt;
  std::copy(text.begin(), text.end(), terminated.begin());
  Address address{};
  std::array<std::uint8_t, 4> octets{};
  const bool four = family == AF_INET;
  if (inet_pton(family, terminated.data(), four ? octets.data() : address.data()) != 1)
    return std::nullopt;
  return four ? mapped(octets) : address;
}

/// Decimal and without leading zeros (section 2.1).
std::optional<std::uint16_t> parse_port(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  const bool padded = text.size() > 1 && text.front() == '0';
  if (error != std::errc{} || end != text.data() + text.size() || padded) return std::nullopt;
  return port;
}

/// The text up to the next single space, which is taken too; of the last part, all of it.
std::string_view take_part(std::string_view& rest) {
  const std::size_t space = std::min(rest.find(' '), rest.size());
  const std::string_view part = rest.substr(0, space);
  rest.remove_prefix(std::min(space + 1, rest.size()));
  return part;
}

/// The line without "PROXY " and CRLF.
ProxyHeader read_v1_line(std::string_view rest, std::size_t consumed) {
  const std::string_view protocol = take_part(rest);
  // What stands behind UNKNOWN means nothing (section 2.1).
  if (protocol == "UNKNOWN") return complete(consumed, std::nullopt);
  if (protocol != "TCP4" && protocol != "TCP6")
    return malformed("a PROXY line for neither TCP4, TCP6 nor UNKNOWN");
  const int family = protocol == "TCP4" ? AF_INET : AF_INET6;
  const bool has_four_parts = std::count(rest.begin(), rest.end(), ' ') == 3;
  const auto source = parse_address(take_part(rest), family);
  const auto destination = parse_address(take_part(rest), family);
  if (!source || !destination) return malformed("a PROXY line with what is no address");
  const auto source_port = parse_port(take_part(rest));
  const auto destination_port = parse_port(take_part(rest));
  if (!has_four_parts || !source_port || !destination_port)
    return malformed("a PROXY line with what is no port");
  return complete(consumed,
                  ProxyAddresses{{*source, *source_port}, {*destination, *destination_port}});
}

ProxyHeader read_v1(std::string_view text) {
  const std::string_view line = text.substr(0, kV1BytesMax);
  // The first control byte is the CR, and LF stands behind it: nothing else may end the line, so
  // that it has one end for every reader.
  const auto* const stop = std::find_if(line.begin(), line.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
  });
  const auto size = static_cast<std::size_t>(stop - line.begin());
  if (size == line.size() || size + 1 == line.size()) {
    if (line.size() == kV1BytesMax) return malformed("a PROXY line of more than 107 bytes");
    if (size < line.size() && line[size] != '\r')
      return malformed("a control byte in a PROXY line");
    return {};
  }
  if (line[size] != '\r' || line[size + 1] != '\n')
    return malformed("a control byte in a PROXY line");
  return read_v1_line(line.substr(kV1Start.size(), size - kV1Start.size()), size + 2);
}

// ---- version 2 ---------------------------------------------------------------------------------

std::uint8_t octet(std::byte value) { return std::to_integer<std::uint8_t>(value); }

std::uint16_t read_be16(std::span<const std::byte, 2> bytes) {
  return static_cast<std::uint16_t>(octet(bytes[0]) << 8 | octet(bytes[1]));
}

std::uint32_t read_be32(std::span<const std::byte, 4> bytes) {
  return std::uint32_t{read_be16(bytes.first<2>())} << 16 | read_be16(bytes.last<2>());
}

/// `size` bytes of address twice, and two ports.
ProxyAddresses read_v2_addresses(std::span<const std::byte> block, std::size_t size) {
  const auto address = [&](std::size_t at) {
    std::array<std::uint8_t, 16> octets{};
    std::transform(block.begin() + static_cast<std::ptrdiff_t>(at),
                   block.begin() + static_cast<std::ptrdiff_t>(at + size), octets.begin(), octet);
    return size == 4 ? mapped(std::span{octets}.first<4>()) : octets;
  };
  const auto port = [&](std::size_t at) { return read_be16(block.subspan(at).first<2>()); };
  return {{address(0), port(2 * size)}, {address(size), port(2 * size + 2)}};
}

/// Section 2.2.1: of the whole header, with zeros in place of the sum.
bool checksum_is_right(std::span<const std::byte> header, std::size_t sum_at) {
  constexpr std::array<std::byte, kV2ChecksumBytes> kZeros{};
  std::uint32_t sum = crc32c(header.first(sum_at));
  sum = crc32c(kZeros, sum);
  sum = crc32c(header.subspan(sum_at + kV2ChecksumBytes), sum);
  return sum == read_be32(header.subspan(sum_at).first<kV2ChecksumBytes>());
}

/// What stands behind the addresses, from header[at] on; empty: nothing is wrong with it.
std::string_view check_v2_tlvs(std::span<const std::byte> header, std::size_t at) {
  bool has_sum = false;
  while (at < header.size()) {
    if (header.size() - at < kV2TlvHeadBytes) return "a PROXY header that ends within a TLV";
    const std::uint8_t type = octet(header[at]);
    const std::size_t length = read_be16(header.subspan(at + 1).first<2>());
    at += kV2TlvHeadBytes;
    if (length > header.size() - at) return "a PROXY header with a TLV beyond its end";
    if (type == kV2ChecksumType) {
      if (has_sum || length != kV2ChecksumBytes) return "a PROXY header with a broken checksum TLV";
      has_sum = true;
      if (!checksum_is_right(header, at)) return "a PROXY header whose checksum is wrong";
    }
    at += length;
  }
  return {};
}

/// The address block's size by family, or nothing for one that must be refused.
std::optional<std::size_t> v2_address_bytes(std::uint8_t family) {
  switch (family) {
    case 0:
      return 0;
    case 1:
      return kV2Ipv4Bytes;
    case 2:
      return kV2Ipv6Bytes;
    case 3:
      return kV2UnixBytes;
    default:
      return std::nullopt;
  }
}

ProxyHeader read_v2(std::span<const std::byte> input) {
  if (input.size() < kV2FixedBytes) return {};
  const std::uint8_t version = octet(input[12]) >> 4;
  const std::uint8_t command = octet(input[12]) & 15;
  const std::uint8_t kind = octet(input[13]);
  const std::size_t size = kV2FixedBytes + read_be16(input.subspan(14).first<2>());
  if (version != 2) return malformed("a PROXY header of an unknown version");
  if (command > 1) return malformed("a PROXY header with an unknown command");
  if (size > kProxyHeaderBytesMax) return malformed("a PROXY header that is too long");
  if (command == 1) {
    const auto address_bytes = v2_address_bytes(kind >> 4);
    if (!address_bytes || (kind & 15) > 2)
      return malformed("a PROXY header with an unknown kind of address");
    if (size < kV2FixedBytes + *address_bytes)
      return malformed("a PROXY header too short for its addresses");
  }
  if (input.size() < size) return {};
  // LOCAL: whatever follows is discarded, its kind of address too (section 2.2).
  if (command == 0) return complete(size, std::nullopt);
  const bool is_ipv4 = kind == kV2StreamOverIpv4;
  // Of what no TCP connection has, and of UNSPEC, nothing is read; not even where its TLVs begin.
  if (!is_ipv4 && kind != kV2StreamOverIpv6) return complete(size, std::nullopt);
  const auto header = input.first(size);
  const std::size_t tlvs_at = kV2FixedBytes + (is_ipv4 ? kV2Ipv4Bytes : kV2Ipv6Bytes);
  if (const std::string_view problem = check_v2_tlvs(header, tlvs_at); !problem.empty())
    return malformed(problem);
  return complete(size, read_v2_addresses(header.subspan(kV2FixedBytes), is_ipv4 ? 4 : 16));
}

// ---- writing -----------------------------------------------------------------------------------

void append_be16(std::vector<std::byte>& out, std::size_t value) {
  out.push_back(static_cast<std::byte>(value >> 8));
  out.push_back(static_cast<std::byte>(value & 0xff));
}

bool is_both_ipv4(const ProxyAddresses& addresses) {
  return is_ipv4(addresses.source.address) && is_ipv4(addresses.destination.address);
}

std::string_view address_text(std::span<char, INET6_ADDRSTRLEN> out, const Address& address,
                              bool as_ipv4) {
  const char* const text =
      inet_ntop(as_ipv4 ? AF_INET : AF_INET6, address.data() + (as_ipv4 ? 12 : 0), out.data(),
                static_cast<socklen_t>(out.size()));
  WEIR_ASSERT(text != nullptr);  // the family is known and the buffer is large enough
  return text;
}

constexpr std::array<std::uint32_t, 256> make_crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < table.size(); ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit)
      value = (value >> 1) ^ ((value & 1) != 0 ? 0x82f63b78U : 0U);
    table[i] = value;
  }
  return table;
}

constexpr std::array<std::uint32_t, 256> kCrcTable = make_crc_table();

}  // namespace

ProxyHeader read_proxy_header(std::span<const std::byte> input) {
  const std::string_view text = as_text(input);
  const auto begins_with = [&](std::string_view start) {
    const std::size_t size = std::min(start.size(), text.size());
    return text.substr(0, size) == start.substr(0, size);
  };
  if (begins_with(kV2Signature))
    return text.size() < kV2Signature.size() ? ProxyHeader{} : read_v2(input);
  if (begins_with(kV1Start)) return text.size() < kV1Start.size() ? ProxyHeader{} : read_v1(text);
  return malformed("no PROXY header in front of the connection");
}

void append_proxy_v1(std::vector<std::byte>& out, const ProxyAddresses& addresses) {
  const bool four = is_both_ipv4(addresses);
  std::array<char, INET6_ADDRSTRLEN> source{};
  std::array<char, INET6_ADDRSTRLEN> destination{};
  std::array<char, kProxyHeaderWrittenMax> line{};
  const auto end =
      fmt::format_to_n(line.begin(), line.size(), "PROXY {} {} {} {} {}\r\n",
                       four ? "TCP4" : "TCP6", address_text(source, addresses.source.address, four),
                       address_text(destination, addresses.destination.address, four),
                       addresses.source.port, addresses.destination.port);
  WEIR_ASSERT(end.size <= line.size());  // two addresses of 45 characters and two ports fit
  const auto bytes = as_bytes(std::string_view{line.data(), end.size});
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void append_proxy_v2(std::vector<std::byte>& out, const ProxyAddresses& addresses) {
  const bool four = is_both_ipv4(addresses);
  const auto signature = as_bytes(kV2Signature);
  out.insert(out.end(), signature.begin(), signature.end());
  out.push_back(std::byte{0x21});  // version 2, command PROXY
  out.push_back(std::byte{four ? kV2StreamOverIpv4 : kV2StreamOverIpv6});
  append_be16(out, four ? kV2Ipv4Bytes : kV2Ipv6Bytes);
  for (const ProxyEndpoint* const end : {&addresses.source, &addresses.destination}) {
    const auto bytes = std::as_bytes(std::span{end->address}).subspan(four ? 12 : 0);
    out.insert(out.end(), bytes.begin(), bytes.end());
  }
  append_be16(out, addresses.source.port);
  append_be16(out, addresses.destination.port);
}

std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t before) {
  std::uint32_t crc = ~before;
  for (const std::byte byte : bytes)
    crc = (crc >> 8) ^ kCrcTable[(crc ^ octet(byte)) & 0xff];
  return ~crc;
}

}  // namespace weir::http
