#include <algorithm>
#include <charconv>
#include <utility>

#include "l4/base/hex.h"
#include "l4/control/model.h"

/// The spelling of what tells one VIP from another: address or prefix, ports, protocol.
namespace weir::control {
namespace {

constexpr std::string_view kVipForm =
    "write ADDRESS:PORT/PROTOCOL, such as 203.0.113.53:53/udp or [2001:db8::25]:25/tcp; a prefix "
    "and a range of ports stand in the same places: 203.0.113.0/28:any/tcp, "
    "[2001:db8::/64]:5000-5999/udp";

/// Decimal digits only; no sign and no leading zero.
std::optional<std::uint16_t> port_number(std::string_view text) {
  std::uint16_t value = 0;
  const char* last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value);
  if (error != std::errc{} || end != last || text.front() == '0') return std::nullopt;
  return value;
}

Error invalid(std::string_view text, std::string_view expectation) {
  return Error{ErrorCode::kInvalid, fmt::format("'{}' is not {}", text, expectation)};
}

}  // namespace

std::uint8_t length_in_16_bytes(const wire::Prefix& prefix) {
  return static_cast<std::uint8_t>(prefix.length + (prefix.address.is_v4() ? 96 : 0));
}

wire::Prefix network_of(const wire::Prefix& prefix) {
  wire::Prefix network = prefix;
  const unsigned kept = length_in_16_bytes(prefix);
  for (unsigned i = 0; i < network.address.bytes.size(); ++i) {
    const unsigned here = std::clamp(kept, i * 8, i * 8 + 8) - i * 8;
    network.address.bytes[i] &= static_cast<std::uint8_t>(0xff00U >> here);
  }
  return network;
}

bool is_network(const wire::Prefix& prefix) { return network_of(prefix) == prefix; }

bool overlap(const wire::Prefix& one, const wire::Prefix& other) {
  return one.length <= other.length ? one.contains(other.address) : other.contains(one.address);
}

wire::Prefix VipKey::prefix() const {
  return {address, static_cast<std::uint8_t>(prefix_length - (address.is_v4() ? 96 : 0))};
}

std::string ports_text(const PortRange& ports) {
  if (ports.is_any()) return "any";
  if (ports.is_exact()) return fmt::format("{}", ports.first.value());
  return fmt::format("{}-{}", ports.first.value(), ports.last.value());
}

Result<PortRange> parse_ports(std::string_view text) {
  constexpr std::string_view kForm =
      "a port from 1 to 65535, a range such as 5000-5999, or the word any";
  if (text == "any") return PortRange::any();
  const std::size_t dash = std::min(text.find('-'), text.size());
  const auto first = port_number(text.substr(0, dash));
  const auto last = dash == text.size() ? first : port_number(text.substr(dash + 1));
  if (!first || !last || *first > *last) return invalid(text, kForm);
  // Nothing is sent to port 0, so that this is the same; one meaning has one value.
  if (*first == 1 && *last == 65535) return PortRange::any();
  return PortRange{wire::Port{*first}, wire::Port{*last}};
}

std::string vip_text(const VipKey& key) {
  const std::string host = key.is_single_address() ? key.address.text() : key.prefix().text();
  const bool bracketed = !key.address.is_v4();
  return fmt::format("{}{}{}:{}/{}", bracketed ? "[" : "", host, bracketed ? "]" : "",
                     ports_text(key.ports), text_of(key.protocol));
}

Result<VipKey> parse_vip_key(std::string_view text) {
  const auto refuse = [](Error error) {
    return std::move(error).with_remedy(std::string{kVipForm});
  };
  const std::size_t slash = text.rfind('/');
  const std::string_view place = text.substr(0, slash);
  const std::size_t colon = place.rfind(':');
  if (slash == std::string_view::npos || colon == std::string_view::npos)
    return refuse(Error{ErrorCode::kInvalid,
                        fmt::format("'{}' names no {}", text,
                                    slash == std::string_view::npos ? "protocol" : "port")});
  std::string_view host = place.substr(0, colon);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  const Result<wire::Prefix> prefix = wire::Prefix::parse(host);
  // Without brackets an IPv6 address would swallow or lend a group to the port.
  if (!prefix || bracketed == prefix->address.is_v4())
    return refuse(invalid(place, "an address or prefix with a port"));
  if (!is_network(*prefix))
    return refuse(Error{ErrorCode::kInvalid,
                        fmt::format("prefix {} has bits beyond its length; its network is {}",
                                    prefix->text(), network_of(*prefix).text())});
  Result<PortRange> ports = parse_ports(place.substr(colon + 1));
  if (!ports) return refuse(std::move(ports).error());
  Result<Protocol> protocol = parse_protocol(text.substr(slash + 1));
  if (!protocol) return refuse(std::move(protocol).error());
  return VipKey{prefix->address, *ports, *protocol, length_in_16_bytes(*prefix)};
}

std::string server_id_text(std::string_view bytes) {
  std::string text;
  for (const char c : bytes)
    text += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return text;
}

Result<std::string> parse_server_id(std::string_view text) {
  const auto refuse = [&] {
    return invalid(text, fmt::format("a server id of 1 to {} bytes in hexadecimal, such as 0a0b0c",
                                     kServerIdBytesMax));
  };
  if (text.empty() || text.size() / 2 > kServerIdBytesMax) return refuse();
  std::optional<std::string> bytes = bytes_of_hex(text);
  return bytes ? Result<std::string>{*std::move(bytes)} : refuse();
}

}  // namespace weir::control
