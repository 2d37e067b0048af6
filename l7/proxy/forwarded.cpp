#include "l7/proxy/forwarded.h"

#include <algorithm>
#include <optional>
#include <span>

#include "l7/http/characters.h"
#include "l7/proxy/address_text.h"

namespace weir::proxy {
namespace {

constexpr std::size_t kHopsMax = control::kForwardedHopsMax;

/// The last elements of all fields of a name, that of the nearest proxy first.
class LastElements {
 public:
  /// Commas divide, even within quotes: a client could open a quote that swallows what a proxy
  /// appends. No address and no host has a comma, so nothing that is believed is torn apart.
  LastElements(const http::HeaderList& fields, std::string_view name) {
    for (const http::Field field : fields.find_all(name))
      http::for_each_list_element(field.value, [&](std::string_view element) {
        ring_[total_ % kHopsMax] = element;
        ++total_;
      });
  }
  [[nodiscard]] std::size_t size() const { return std::min(total_, kHopsMax); }
  [[nodiscard]] std::size_t total() const { return total_; }
  /// index < size().
  [[nodiscard]] std::string_view operator[](std::size_t index) const {
    return ring_[(total_ - 1 - index) % kHopsMax];
  }

 private:
  std::array<std::string_view, kHopsMax> ring_{};
  std::size_t total_ = 0;
};

std::optional<wire::IpAddress> parse_address(std::string_view text, int family) {
  std::array<char, INET6_ADDRSTRLEN> terminated{};
  if (text.size() >= terminated.size()) return std::nullopt;
  std::copy(text.begin(), text.end(), terminated.begin());
  wire::IpAddress address;
  std::array<std::uint8_t, 4> octets{};
  const bool four = family == AF_INET;
  if (inet_pton(family, terminated.data(), four ? octets.data() : address.bytes.data()) != 1)
    return std::nullopt;
  return four ? wire::IpAddress::v4(octets) : address;
}

bool is_port(std::string_view text) {
  return !text.empty() && text.size() <= 5 && std::all_of(text.begin(), text.end(), http::is_digit);
}

/// An address, with or without a port: 192.0.2.7, 192.0.2.7:80, [2001:db8::7], [2001:db8::7]:80,
/// and 2001:db8::7 as X-Forwarded-For has it.
std::optional<wire::IpAddress> parse_node(std::string_view text) {
  if (text.starts_with('[')) {
    const std::size_t bracket = text.find(']');
    if (bracket == std::string_view::npos) return std::nullopt;
    const std::string_view rest = text.substr(bracket + 1);
    if (!rest.empty() && (rest.front() != ':' || !is_port(rest.substr(1)))) return std::nullopt;
    return parse_address(text.substr(1, bracket - 1), AF_INET6);
  }
  const std::size_t colon = text.find(':');
  if (colon != std::string_view::npos && text.find(':', colon + 1) != std::string_view::npos)
    return parse_address(text, AF_INET6);
  if (colon != std::string_view::npos && !is_port(text.substr(colon + 1))) return std::nullopt;
  return parse_address(text.substr(0, colon), AF_INET);
}

std::string_view known_scheme(std::string_view text) {
  if (http::equals_ignoring_case(text, "https")) return "https";
  if (http::equals_ignoring_case(text, "http")) return "http";
  return {};
}

std::string_view known_host(std::string_view text) {
  return http::parse_authority(text) ? text : std::string_view{};
}

/// What one proxy says.
struct Statement {
  std::optional<wire::IpAddress> from;
  std::string_view scheme{};
  std::string_view host{};
};

struct Pair {
  std::string_view name;
  std::string_view value;
};

/// The next `name=value` of an element, taken off it; nothing when it is none. Escapes in quotes
/// are refused: what they could spell here needs none.
std::optional<Pair> take_pair(std::string_view& rest) {
  const std::size_t equals = std::min(rest.find('='), rest.size());
  Pair pair{rest.substr(0, equals), {}};
  if (!http::is_token(pair.name) || equals == rest.size()) return std::nullopt;
  rest.remove_prefix(equals + 1);
  if (rest.starts_with('"')) {
    const std::size_t end = rest.find('"', 1);
    if (end == std::string_view::npos) return std::nullopt;
    pair.value = rest.substr(1, end - 1);
    if (pair.value.find('\\') != std::string_view::npos) return std::nullopt;
    rest.remove_prefix(end + 1);
  } else {
    const std::size_t end = std::min(rest.find_first_of("; \t"), rest.size());
    pair.value = rest.substr(0, end);
    if (!http::is_token(pair.value)) return std::nullopt;
    rest.remove_prefix(end);
  }
  rest = http::trim_white_space(rest);
  if (!rest.empty() && rest.front() != ';') return std::nullopt;
  if (!rest.empty()) rest.remove_prefix(1);
  rest = http::trim_white_space(rest);
  return pair;
}

/// One element of Forwarded (RFC 7239, section 4). A broken one says nothing.
Statement read_forwarded(std::string_view rest) {
  Statement statement;
  bool has_for = false;
  while (!rest.empty()) {
    const std::optional<Pair> pair = take_pair(rest);
    if (!pair) return {};
    if (http::equals_ignoring_case(pair->name, "for")) {
      if (has_for) return {};  // each parameter at most once
      has_for = true;
      // IPv6 stands in brackets here; without them it would be another reader's host and port.
      const bool bare_ipv6 = !pair->value.starts_with('[') &&
                             std::count(pair->value.begin(), pair->value.end(), ':') > 1;
      if (!bare_ipv6) statement.from = parse_node(pair->value);
    } else if (http::equals_ignoring_case(pair->name, "proto")) {
      statement.scheme = known_scheme(pair->value);
    } else if (http::equals_ignoring_case(pair->name, "host")) {
      statement.host = known_host(pair->value);
    }
  }
  return statement;
}

/// Of a field beside X-Forwarded-For: the element of the proxy that has named the client, where
/// each proxy has appended one; the only one, where the first has set it; nothing otherwise.
std::string_view beside(const http::HeaderList& fields, std::string_view name, std::size_t place) {
  const LastElements elements{fields, name};
  if (elements.total() == 1) return elements[0];
  return place < elements.size() ? elements[place] : std::string_view{};
}

bool is_trusted(const control::ForwardedTrust& trust, const wire::IpAddress& address) {
  return std::any_of(trust.proxies.begin(), trust.proxies.end(),
                     [&](const wire::Prefix& prefix) { return prefix.contains(address); });
}

/// Whether whoever has the address, `place` proxies away from us, is believed about its own client.
bool speaks_for_others(const control::ForwardedTrust& trust, const wire::IpAddress& address,
                       std::size_t place) {
  return trust.hops > 0 ? place < trust.hops : is_trusted(trust, address);
}

}  // namespace

ClientClaim read_claim(const http::HeaderList& fields, const wire::IpAddress& peer,
                       const control::ForwardedTrust& trust) {
  ClientClaim claim{.client = peer};
  if (!speaks_for_others(trust, peer, 0)) return claim;
  const bool is_x = trust.field == control::ForwardedField::kXForwardedFor;
  const LastElements elements{fields, is_x ? "X-Forwarded-For" : "Forwarded"};
  std::size_t place = 0;  // how many proxies have been believed
  while (place < elements.size() && speaks_for_others(trust, claim.client, place)) {
    const Statement statement =
        is_x ? Statement{parse_node(elements[place])} : read_forwarded(elements[place]);
    if (!statement.from) break;  // whatever stands further left has no author that we know
    if (place > 0) claim.hops[claim.hop_count++] = claim.client;
    claim.client = *statement.from;
    claim.scheme = statement.scheme;
    claim.host = statement.host;
    ++place;
  }
  std::reverse(claim.hops.begin(),
               claim.hops.begin() + static_cast<std::ptrdiff_t>(claim.hop_count));
  claim.by_proxy = place > 0;
  if (!is_x || !claim.by_proxy) return claim;
  claim.scheme = known_scheme(beside(fields, "X-Forwarded-Proto", place - 1));
  claim.host = known_host(beside(fields, "X-Forwarded-Host", place - 1));
  return claim;
}

void describe_client(http::HeaderList& fields, const ClientClaim& claim,
                     const http::ForwardedFor& seen, std::string& scratch) {
  if (!claim.by_proxy) {
    http::set_forwarded(fields, seen);
    return;
  }
  // Copied before anything is set: views into the fields live no longer than that.
  scratch.clear();
  scratch.append(AddressText{claim.client}.view());
  const std::size_t hops_at = scratch.size();
  for (const wire::IpAddress& hop : std::span{claim.hops}.first(claim.hop_count)) {
    scratch.append(AddressText{hop}.view());
    scratch.append(", ");
  }
  scratch.append(seen.client);
  const std::size_t host_at = scratch.size();
  scratch.append(claim.host.empty() ? seen.host : claim.host);
  const std::string_view text = scratch;
  http::set_forwarded(fields, {.client = text.substr(0, hops_at),
                               .scheme = claim.scheme.empty() ? seen.scheme : claim.scheme,
                               .host = text.substr(host_at),
                               .hops = text.substr(hops_at, host_at - hops_at)});
}

}  // namespace weir::proxy
