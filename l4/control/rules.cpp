#include "l4/control/rules.h"

#include <algorithm>

#include "l4/control/units.h"

namespace weir::control {
namespace {

constexpr std::size_t kInterfaceNameMax = 15;  // IFNAMSIZ with its final zero
constexpr std::size_t kHostnameMax = 253;
constexpr std::size_t kLabelMax = 63;
constexpr std::size_t kPathMax = 1024;
constexpr std::size_t kMethodMax = 32;
constexpr std::size_t kHeaderNameMax = 256;
constexpr std::size_t kHeaderValueMax = 4096;

// Not <cctype>: that asks the locale.
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_alphanumeric(char c) { return is_letter(c) || is_digit(c); }
bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
bool is_visible(char c) { return c > ' ' && c < 0x7f; }

/// RFC 9110, section 5.6.2.
bool is_token_char(char c) {
  return is_alphanumeric(c) ||
         std::string_view{"!#$%&'*+-.^_`|~"}.find(c) != std::string_view::npos;
}

bool is_label(std::string_view label) {
  return !label.empty() && label.size() <= kLabelMax && label.front() != '-' &&
         label.back() != '-' && std::ranges::all_of(label, [](char c) {
           return (is_alphanumeric(c) && !is_upper(c)) || c == '-';
         });
}

bool has_dot_segment(std::string_view path) {
  const std::string closed = std::string{path} + "/";
  return closed.find("/./") != std::string::npos || closed.find("/../") != std::string::npos;
}

}  // namespace

std::string lower_case(std::string_view text) {
  std::string lower{text};
  for (char& c : lower) {
    if (is_upper(c)) c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

MaybeObjection object_to_name(std::string_view name) {
  const bool fits = !name.empty() && name.size() <= kNameLengthMax && is_alphanumeric(name[0]) &&
                    std::ranges::all_of(name, [](char c) {
                      return is_alphanumeric(c) || c == '-' || c == '_' || c == '.';
                    });
  if (fits) return std::nullopt;
  constexpr std::size_t kShownMax = 80;
  return Objection{
      fmt::format("'{}{}'", name.substr(0, kShownMax), name.size() > kShownMax ? "…" : ""),
      fmt::format("a name of 1 to {} letters, digits, '-', '_' or '.', which begins "
                  "with a letter or digit",
                  kNameLengthMax)};
}

MaybeObjection object_to_address(const wire::IpAddress& address) {
  const char* kind = nullptr;
  if (address.is_unspecified()) kind = "the unspecified address";
  if (address.is_loopback()) kind = "a loopback address";
  if (address.is_multicast()) kind = "a multicast or broadcast address";
  if (!address.is_v4() && address.is_link_local()) kind = "a link-local address";
  if (kind == nullptr) return std::nullopt;
  return Objection{fmt::format("{}, {}", address.text(), kind), "a unicast address"};
}

MaybeObjection object_to_table_size(std::uint64_t size) {
  if (size <= kTableSizeMax && is_table_size(static_cast<std::uint32_t>(size))) return std::nullopt;
  return Objection{fmt::format("{}", size),
                   fmt::format("a prime from {} to {}, such as {}", kTableSizeMin, kTableSizeMax,
                               nearest_table_size(size))};
}

MaybeObjection object_to_interface(std::string_view name) {
  const bool fits =
      !name.empty() && name.size() <= kInterfaceNameMax && name != "." && name != ".." &&
      std::ranges::all_of(name, [](char c) { return is_visible(c) && c != '/' && c != ':'; });
  if (fits) return std::nullopt;
  return Objection{fmt::format("'{}'", name),
                   fmt::format("a device name of 1 to {} characters", kInterfaceNameMax)};
}

MaybeObjection object_to_hostname(std::string_view hostname) {
  const Objection objection{fmt::format("'{}'", hostname),
                            "a DNS name such as shop.example or *.shop.example"};
  std::string_view rest = hostname;
  if (rest.starts_with("*.")) rest.remove_prefix(2);
  if (rest.empty() || hostname.size() > kHostnameMax) return objection;
  if (wire::IpAddress::parse(rest)) return objection;
  for (std::size_t begin = 0; begin <= rest.size();) {
    const std::size_t dot = std::min(rest.find('.', begin), rest.size());
    if (!is_label(rest.substr(begin, dot - begin))) return objection;
    begin = dot + 1;
  }
  return std::nullopt;
}

MaybeObjection object_to_endpoint_name(std::string_view name) {
  if (name.starts_with("*.") || object_to_hostname(name))
    return Objection{fmt::format("'{}'", name), "a DNS name such as orders.internal"};
  if (name == "localhost" || name.ends_with(".localhost"))  // RFC 6761, section 6.3
    return Objection{fmt::format("'{}', which is this host", name),
                     "a name that leads to addresses of the network: L7 has a stack of its own"};
  const std::string_view last = name.substr(name.rfind('.') + 1);
  const std::string_view before = name.substr(0, name.size() - last.size());
  const bool dotted_numbers =
      std::ranges::count(before, '.') == 3 &&
      std::ranges::all_of(before, [](char c) { return is_digit(c) || c == '.'; });
  if (is_letter(last.front()) && !dotted_numbers) return std::nullopt;
  return Objection{fmt::format("'{}', which looks like an address and is none", name),
                   "an address, or a DNS name such as orders.internal"};
}

MaybeObjection object_to_path(std::string_view path) {
  const bool fits =
      path.starts_with('/') && path.size() <= kPathMax &&
      path.find("//") == std::string_view::npos && !has_dot_segment(path) &&
      std::ranges::all_of(path, [](char c) { return is_visible(c) && c != '?' && c != '#'; });
  if (fits) return std::nullopt;
  return Objection{fmt::format("'{}'", path),
                   "an absolute path such as /cart, without query, '//', '.' and '..' segments"};
}

MaybeObjection object_to_method(std::string_view method) {
  if (!method.empty() && method.size() <= kMethodMax && std::ranges::all_of(method, is_upper))
    return std::nullopt;
  return Objection{fmt::format("'{}'", method), "a method in capitals, such as GET"};
}

MaybeObjection object_to_header_name(std::string_view name) {
  if (!name.empty() && name.size() <= kHeaderNameMax && std::ranges::all_of(name, is_token_char))
    return std::nullopt;
  return Objection{fmt::format("'{}'", name), "a header name such as x-canary"};
}

MaybeObjection object_to_edited_header(std::string_view name) {
  if (auto objection = object_to_header_name(name)) return objection;
  static constexpr auto kFixed = std::to_array<std::string_view>(
      {"host", "content-length", "transfer-encoding", "connection", "keep-alive",
       "proxy-connection", "te", "trailer", "upgrade"});
  if (std::ranges::find(kFixed, lower_case(name)) == kFixed.end()) return std::nullopt;
  return Objection{fmt::format("'{}', which is not a route's to change", name),
                   "another header; 'rewrite: {hostname: …}' for the host"};
}

MaybeObjection object_to_value_template(std::string_view text, TemplateUse use) {
  ParsedTemplate parsed = parse_template(text, use);
  if (parsed.ok()) return std::nullopt;
  return Objection{std::move(parsed.problem), std::move(parsed.expectation)};
}

MaybeObjection object_to_grpc_name(std::string_view name) {
  const bool fits =
      !name.empty() && name.size() <= kNameLengthMax && std::ranges::all_of(name, [](char c) {
        return is_token_char(c) && c != '*' && c != '\'' && c != '`';
      });
  if (fits) return std::nullopt;
  return Objection{fmt::format("'{}'", name), "a name such as shop.v1.Cart or Get"};
}

MaybeObjection object_to_header_value(std::string_view value) {
  const bool fits = value.size() <= kHeaderValueMax && !value.starts_with(' ') &&
                    !value.ends_with(' ') &&
                    std::ranges::all_of(value, [](char c) { return is_visible(c) || c == ' '; });
  if (fits) return std::nullopt;
  return Objection{fmt::format("'{}'", value),
                   "visible ASCII characters, blanks only between them"};
}

}  // namespace weir::control
