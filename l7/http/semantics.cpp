#include "l7/http/semantics.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <iterator>

#include "l7/http/character_blocks.h"
#include "l7/http/characters.h"

namespace weir::http {

namespace {

/// More options in Connection are refused: each is looked up among all fields.
constexpr std::size_t kConnectionOptionsMax = 32;
/// A DNS name has at most 253 characters and may end in a dot.
constexpr std::size_t kHostBytesMax = 254;

constexpr Refusal bad_request(std::string_view reason) { return {Status::kBadRequest, reason}; }

/// The fields that framing depends on, and Host, gathered in one pass over the list.
struct FramingFields {
  std::size_t hosts = 0;
  std::string_view host;  // the last one
  std::size_t content_lengths = 0;
  std::size_t transfer_encodings = 0;
  std::size_t codings = 0;  // list elements of all Transfer-Encoding fields
  std::size_t chunked_codings = 0;
  std::size_t connection_options = 0;
  bool exactly_chunked = false;  // the last Transfer-Encoding field is just this word
  bool last_coding_is_chunked = false;
  bool close = false;
  bool keep_alive = false;
  bool upgrade_option = false;
  std::size_t upgrades = 0;
  bool websocket = false;  // the last Upgrade field is just this word
  bool expect = false;
  bool expect_continue = false;
  std::string_view content_length;
};

void note_transfer_encoding(FramingFields& found, std::string_view value) {
  ++found.transfer_encodings;
  found.exactly_chunked = equals_ignoring_case(value, "chunked");
  for_each_list_element(value, [&](std::string_view coding) {
    ++found.codings;
    found.last_coding_is_chunked = equals_ignoring_case(coding, "chunked");
    if (found.last_coding_is_chunked) ++found.chunked_codings;
  });
}

void note_connection(FramingFields& found, std::string_view value) {
  for_each_list_element(value, [&](std::string_view option) {
    ++found.connection_options;
    if (equals_ignoring_case(option, "close")) found.close = true;
    if (equals_ignoring_case(option, "keep-alive")) found.keep_alive = true;
    if (equals_ignoring_case(option, "upgrade")) found.upgrade_option = true;
  });
}

void note_expect(FramingFields& found, std::string_view value) {
  const bool is_continue = equals_ignoring_case(value, "100-continue");
  found.expect_continue = is_continue && (!found.expect || found.expect_continue);
  found.expect = true;
}

/// Tells nearly all names apart without a comparison. No parser takes an empty one.
constexpr unsigned length_and_letter(std::string_view name) {
  constexpr unsigned kCaseBit = 0x20;
  return static_cast<unsigned>(name.size()) << 8 |
         static_cast<unsigned char>(name.front() | kCaseBit);
}

FramingFields framing_fields(const HeaderList& fields) {
  FramingFields found;
  for (const auto [name, value] : fields) {
    const auto is_name = [name = name](std::string_view other) {
      return equals_ignoring_case(name, other);
    };
    switch (length_and_letter(name)) {
      case length_and_letter("Host"):
        if (!is_name("Host")) break;
        ++found.hosts;
        found.host = value;
        break;
      case length_and_letter("Expect"):
        if (is_name("Expect")) note_expect(found, value);
        break;
      case length_and_letter("Upgrade"):
        if (!is_name("Upgrade")) break;
        ++found.upgrades;
        found.websocket = equals_ignoring_case(value, "websocket");
        break;
      case length_and_letter("Connection"):
        if (is_name("Connection")) note_connection(found, value);
        break;
      case length_and_letter("Content-Length"):
        if (!is_name("Content-Length")) break;
        ++found.content_lengths;
        found.content_length = value;
        break;
      case length_and_letter("Transfer-Encoding"):
        if (is_name("Transfer-Encoding")) note_transfer_encoding(found, value);
        break;
      default:
        break;
    }
  }
  return found;
}

/// RFC 9112, section 3.2.
std::optional<Refusal> check_host(const FramingFields& found, int minor_version) {
  if (found.hosts > 1) return bad_request("more than one Host");
  if (found.hosts == 0 && minor_version == 0) return std::nullopt;
  if (found.hosts == 0) return bad_request("no Host in an HTTP/1.1 request");
  const auto authority = parse_authority(found.host);
  if (!authority) return authority.refusal();
  return std::nullopt;
}

/// RFC 9112, section 6.1. An unknown coding before a final "chunked" is well formed, so it gets
/// 501; anything else leaves the length open to interpretation.
std::optional<Refusal> check_transfer_encoding(const FramingFields& found, int minor_version) {
  if (minor_version == 0) return bad_request("Transfer-Encoding in HTTP/1.0");
  if (found.content_lengths > 0) return bad_request("both Content-Length and Transfer-Encoding");
  if (found.transfer_encodings == 1 && found.exactly_chunked) return std::nullopt;
  if (found.codings > 1 && found.chunked_codings == 1 && found.last_coding_is_chunked)
    return Refusal{Status::kNotImplemented, "a transfer coding other than chunked"};
  return bad_request("Transfer-Encoding is not exactly \"chunked\"");
}

/// What the fields say about the body, whatever kind of message it is; `otherwise` when nothing.
Checked<BodyFraming> declared_body(const FramingFields& found, int minor_version,
                                   BodyKind otherwise) {
  if (found.connection_options > kConnectionOptionsMax)
    return bad_request("too many options in Connection");
  if (found.transfer_encodings > 0) {
    if (const auto refusal = check_transfer_encoding(found, minor_version)) return *refusal;
    return BodyFraming{BodyKind::kChunked, 0};
  }
  if (found.content_lengths == 0) return BodyFraming{otherwise, 0};
  if (found.content_lengths > 1) return bad_request("more than one Content-Length");
  const auto length = parse_content_length(found.content_length);
  if (!length) return bad_request("Content-Length is not a plain decimal number");
  return BodyFraming{BodyKind::kLength, *length};
}

/// Only one protocol is gone over to, and only where nothing can be read differently.
bool names_websocket(const FramingFields& found, int minor_version) {
  return minor_version >= 1 && found.upgrade_option && found.upgrades == 1 && found.websocket;
}

bool persists(const FramingFields& found, int minor_version) {
  return !found.close && (minor_version >= 1 || found.keep_alive);
}

bool is_without_body(Status status) {
  return number_of(status) < 200 || status == Status::kNoContent || status == Status::kNotModified;
}

/// Fields that carry the meaning of a message, or whose it is. RFC 9110, section 7.6.1 forbids
/// senders to name such fields in Connection; a sender who does so anyway wants them gone.
bool is_end_to_end(std::string_view name) {
  static constexpr auto kNames = std::to_array<std::string_view>({"host",
                                                                  "content-length",
                                                                  "content-type",
                                                                  "content-encoding",
                                                                  "content-range",
                                                                  "authorization",
                                                                  "www-authenticate",
                                                                  "cookie",
                                                                  "set-cookie",
                                                                  "cache-control",
                                                                  "date",
                                                                  "expect",
                                                                  "forwarded",
                                                                  "location",
                                                                  "origin",
                                                                  "range",
                                                                  "vary",
                                                                  "x-forwarded-for",
                                                                  "x-forwarded-host",
                                                                  "x-forwarded-proto"});
  return std::any_of(kNames.begin(), kNames.end(),
                     [&](std::string_view kept) { return equals_ignoring_case(name, kept); });
}

std::optional<std::uint16_t> parse_port(std::string_view digits) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
  return port;
}

bool is_ipv6(std::string_view text) {
  std::array<char, INET6_ADDRSTRLEN> terminated{};
  if (text.size() >= terminated.size()) return false;
  std::copy(text.begin(), text.end(), terminated.begin());
  in6_addr address;
  return inet_pton(AF_INET6, terminated.data(), &address) == 1;
}

/// The first position that is in no label, nor the dot behind one: there are no empty labels,
/// "a..b" is no name, and ".." would become "." without its last dot.
std::size_t skip_labels(std::string_view text) {
  Members after_dot = 1;
  for (std::size_t at = 0; at < text.size(); at += kBlock) {
    const std::size_t end = std::min(text.size(), at + kBlock);
    const Members dots = members_of_rest<Dot>(text, at, end);
    const Members good =
        members_of_rest<HostText>(text, at, end) & ~(dots & (dots << 1 | after_dot));
    if (good != kAllMembers) return at + static_cast<std::size_t>(std::countr_one(good));
    after_dot = dots >> (kBlock - 1);
  }
  return text.size();
}

/// The size of the host at the front of an authority, or why there is none.
Checked<std::size_t> host_size(std::string_view text) {
  if (text.starts_with('[')) {
    const std::size_t bracket = text.find(']');
    if (bracket == std::string_view::npos || !is_ipv6(text.substr(1, bracket - 1)))
      return bad_request("the host is not an IPv6 address in brackets");
    return bracket + 1;
  }
  const std::size_t size = skip_labels(text);
  const bool ends_well = size == text.size() || text[size] == ':';
  if (size == 0 || size > kHostBytesMax || !ends_well)
    return bad_request("the host is not a name or an address");
  return size;
}

Checked<Target> parse_absolute_target(std::string_view method, std::string_view target) {
  const std::size_t colon = target.find(':');
  if (colon == std::string_view::npos || target.substr(colon, 3) != "://")
    return bad_request("the request target is neither a path nor an http URI");
  Target parts{.form = TargetForm::kAbsolute, .scheme = target.substr(0, colon)};
  if (!equals_ignoring_case(parts.scheme, "http") && !equals_ignoring_case(parts.scheme, "https"))
    return bad_request("the scheme of the request target is neither http nor https");
  std::string_view rest = target.substr(colon + 3);
  const std::size_t authority_size = std::min(rest.find_first_of("/?"), rest.size());
  parts.authority = rest.substr(0, authority_size);
  rest.remove_prefix(authority_size);
  if (parts.authority.empty()) return bad_request("the request target names no host");
  const std::size_t path_size = std::min(rest.find('?'), rest.size());
  parts.path = rest.substr(0, path_size);
  parts.query = rest.substr(path_size);
  // RFC 9112, section 3.2.4: OPTIONS for a whole server, as a proxy receives it.
  if (parts.path.empty()) parts.path = method == "OPTIONS" && parts.query.empty() ? "*" : "/";
  return parts;
}

/// One byte of a path segment and how many characters spell it.
struct PathByte {
  char byte;
  std::size_t spelled;
  bool escaped;
};
Checked<PathByte> read_path_byte(std::string_view rest) {
  if (rest.front() == '\\') return bad_request("a backslash in the path");
  if (rest.front() != '%') return PathByte{rest.front(), 1, false};
  const int high = rest.size() > 2 ? hex_value(rest[1]) : -1;
  const int low = rest.size() > 2 ? hex_value(rest[2]) : -1;
  if (high < 0 || low < 0) return bad_request("a broken escape in the path");
  const char byte = static_cast<char>(high * 16 + low);
  if (byte == '\0') return bad_request("an escaped NUL in the path");
  if (byte == '/' || byte == '\\') return bad_request("an escaped slash in the path");
  return PathByte{byte, 3, !is_in(byte, kUnreserved)};
}

constexpr std::string_view kHexDigits = "0123456789ABCDEF";

/// Where writing goes on after the segment path[begin, end), whose slash stands at `begin`.
std::size_t resolve_segment(std::string& path, std::size_t begin, std::size_t end, bool is_last) {
  const std::string_view segment = std::string_view{path}.substr(begin + 1, end - begin - 1);
  std::size_t write = end;
  if (segment == "..") {
    write = begin == 0 ? 0 : path.rfind('/', begin - 1);
  } else if (segment.empty() || segment == ".") {
    write = begin;
  } else {
    return end;
  }
  if (is_last) path[write++] = '/';  // "/a/.." names the directory: "/"
  return write;
}

}  // namespace

Checked<std::optional<std::uint32_t>> max_forwards(const RequestHead& head) {
  if (head.method != "OPTIONS" && head.method != "TRACE") return std::optional<std::uint32_t>{};
  const std::optional<std::string_view> text = head.fields.find("Max-Forwards");
  if (!text) return std::optional<std::uint32_t>{};
  const char* const text_end = text->data() + text->size();
  std::uint32_t left = 0;
  const auto [end, error] = std::from_chars(text->data(), text_end, left);
  if (error == std::errc::result_out_of_range) left = std::numeric_limits<std::uint32_t>::max();
  const bool is_number = error != std::errc::invalid_argument && end == text_end;
  if (!is_number || head.fields.count("Max-Forwards") > 1)
    return bad_request("Max-Forwards is not one number");
  if (left == 0) return Refusal{Status::kNotImplemented, "Max-Forwards: 0"};
  return std::optional{left - 1};
}

Checked<RequestFraming> request_framing(const RequestHead& head) {
  const FramingFields found = framing_fields(head.fields);
  if (const auto refusal = check_host(found, head.minor_version)) return *refusal;
  const auto body = declared_body(found, head.minor_version, BodyKind::kNone);
  if (!body) return body.refusal();
  const bool is_1_1 = head.minor_version >= 1;
  // RFC 9110, section 10.1.1: HTTP/1.0 knows no expectations.
  if (is_1_1 && found.expect && !found.expect_continue)
    return Refusal{Status::kExpectationFailed, "an expectation other than 100-continue"};
  return RequestFraming{.body = *body,
                        .keep_alive = persists(found, head.minor_version),
                        .expects_continue = is_1_1 && found.expect_continue,
                        .upgrade = names_websocket(found, head.minor_version) &&
                                   head.method == "GET" && body->kind == BodyKind::kNone};
}

Checked<ResponseFraming> response_framing(const ResponseHead& head,
                                          std::string_view request_method) {
  const FramingFields found = framing_fields(head.fields);
  const auto declared = declared_body(found, head.minor_version, BodyKind::kUntilClose);
  // Whatever is wrong with a backend's answer, the client hears 502.
  if (!declared) return Refusal{Status::kBadGateway, declared.refusal().reason};
  ResponseFraming framing{.body = *declared, .keep_alive = persists(found, head.minor_version)};
  if (is_without_body(head.status) || request_method == "HEAD") framing.body = {};
  if (framing.body.kind == BodyKind::kUntilClose) framing.keep_alive = false;
  const bool switches = head.status == Status::kSwitchingProtocols;
  framing.interim = number_of(head.status) < 200 && !switches;
  framing.upgrade = switches && names_websocket(found, head.minor_version);
  return framing;
}

BodyFraming reframed_for_client(BodyFraming from_backend, int client_minor_version) {
  switch (from_backend.kind) {
    case BodyKind::kNone:
    case BodyKind::kLength:
      return from_backend;
    case BodyKind::kChunked:
    case BodyKind::kUntilClose:
      return {client_minor_version >= 1 ? BodyKind::kChunked : BodyKind::kUntilClose, 0};
  }
  return from_backend;
}

bool is_token(std::string_view text) { return !text.empty() && all_in(text, kTokenCharacter); }

bool is_field_value(std::string_view text) {
  return std::none_of(text.begin(), text.end(),
                      [](char c) { return is_in(c, kControlCharacter); }) &&
         trim_white_space(text).size() == text.size();
}

std::string_view trim_white_space(std::string_view text) {
  const auto is_white = [](char c) { return c == ' ' || c == '\t'; };
  while (!text.empty() && is_white(text.front()))
    text.remove_prefix(1);
  while (!text.empty() && is_white(text.back()))
    text.remove_suffix(1);
  return text;
}

std::optional<std::uint64_t> parse_content_length(std::string_view text) {
  // from_chars would take a minus sign for signed types only, and never a plus sign or a space.
  std::uint64_t length = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), length);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  if (length > static_cast<std::uint64_t>(INT64_MAX)) return std::nullopt;
  return length;
}

bool lists(const HeaderList& fields, std::string_view name, std::string_view option) {
  const HeaderList::Matches matches = fields.find_all(name);
  return std::any_of(matches.begin(), matches.end(),
                     [&](Field field) { return list_contains(field.value, option); });
}

bool list_contains(std::string_view list, std::string_view wanted) {
  bool found = false;
  for_each_list_element(list, [&](std::string_view element) {
    if (equals_ignoring_case(element, wanted)) found = true;
  });
  return found;
}

Checked<Target> parse_target(std::string_view method, std::string_view target) {
  if (target.empty()) return bad_request("the request target is empty");
  if (method == "CONNECT") return Target{.form = TargetForm::kAuthority, .authority = target};
  if (target.front() == '/') {
    const std::size_t path_size = std::min(target.find('?'), target.size());
    return Target{.form = TargetForm::kOrigin,
                  .path = target.substr(0, path_size),
                  .query = target.substr(path_size)};
  }
  if (target == "*") {
    if (method != "OPTIONS") return bad_request("the request target * belongs to OPTIONS alone");
    return Target{.form = TargetForm::kAsterisk, .path = target};
  }
  return parse_absolute_target(method, target);
}

Checked<Authority> parse_authority(std::string_view text) {
  const auto refuse = [text](Refusal refusal) -> Checked<Authority> {
    // RFC 9110, section 4.2.4. Its colon looks like that of a port.
    if (text.find('@') == std::string_view::npos) return refusal;
    return bad_request("user information in front of the host");
  };
  const auto size = host_size(text);
  if (!size) return refuse(size.refusal());
  Authority authority{.host = text.substr(0, *size), .port = std::nullopt};
  std::string_view rest = text.substr(*size);
  if (rest.empty()) return authority;
  if (rest.front() != ':') return refuse(bad_request("text between host and port"));
  rest.remove_prefix(1);
  if (rest.empty()) return authority;
  authority.port = parse_port(rest);
  if (!authority.port)
    return refuse(bad_request("the port of the host is not a number up to 65535"));
  return authority;
}

std::optional<Refusal> normalize_path(std::string& path) {
  if (!path.starts_with('/')) return bad_request("the path does not start with a slash");
  std::size_t read = 0;
  std::size_t write = 0;  // never ahead of `read`: nothing below grows
  while (read < path.size()) {
    const std::size_t begin = write;
    path[write++] = path[read++];  // the slash
    bool in_parameters = false;
    while (read < path.size() && path[read] != '/') {
      const auto next = read_path_byte(std::string_view{path}.substr(read));
      if (!next) return next.refusal();
      in_parameters = in_parameters || path[read] == ';';
      read += next->spelled;
      if (in_parameters) continue;
      if (next->escaped) {
        const auto byte = static_cast<unsigned char>(next->byte);
        path[write++] = '%';
        path[write++] = kHexDigits[byte >> 4];
        path[write++] = kHexDigits[byte & 15];
      } else {
        path[write++] = next->byte;
      }
    }
    write = resolve_segment(path, begin, write, read == path.size());
  }
  path.resize(write);
  return std::nullopt;
}

std::optional<Refusal> RequestUri::resolve(const RequestHead& head) {
  // What is refused leaves nothing of the request before it.
  host_.clear();
  authority_.clear();
  target_.clear();
  path_size_ = 0;
  port_.reset();
  const auto target = parse_target(head.method, head.target);
  if (!target) return target.refusal();
  if (target->form == TargetForm::kAuthority) {
    const auto authority = parse_authority(target->authority);
    if (!authority) return authority.refusal();
    // RFC 9110, section 9.3.6.
    if (authority->port.value_or(0) == 0) return bad_request("CONNECT to a host without a port");
    set_authority(*authority);
    return std::nullopt;
  }
  const auto host_field = head.fields.find("Host");
  if (target->form == TargetForm::kAbsolute || host_field) {
    const auto authority =
        parse_authority(target->form == TargetForm::kAbsolute ? target->authority : *host_field);
    if (!authority) return authority.refusal();
    set_authority(*authority);
  }
  target_.assign(target->path);
  if (target->path != "*")
    if (const auto refusal = normalize_path(target_)) return refusal;
  path_size_ = target_.size();
  target_.append(target->query);
  return std::nullopt;
}

void RequestUri::set_authority(const Authority& authority) {
  host_.assign(authority.host);
  if (host_.size() > 1 && host_.back() == '.') host_.pop_back();
  for (char& c : host_)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  port_ = authority.port;
  authority_.assign(host_);
  if (port_) fmt::format_to(std::back_inserter(authority_), ":{}", *port_);
}

void remove_hop_by_hop(HeaderList& fields) {
  // Collected first, since removing shifts what is being walked. remove() moves no bytes, so the
  // views stay good. request_framing() and response_framing() refuse longer lists of options.
  std::array<std::string_view, kConnectionOptionsMax> options;
  std::size_t count = 0;
  for (const Field field : fields.find_all("Connection"))
    for_each_list_element(field.value, [&](std::string_view option) {
      if (count < options.size() && !is_end_to_end(option)) options[count++] = option;
    });
  for (std::size_t i = 0; i < count; ++i)
    fields.remove(options[i]);
  static constexpr auto kAlways = std::to_array<std::string_view>(
      {"Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Transfer-Encoding",
       "Upgrade", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Authentication-Info"});
  for (const std::string_view name : kAlways)
    fields.remove(name);
}

bool may_be_trailer(std::string_view name) {
  static constexpr auto kNever = std::to_array<std::string_view>({"connection",
                                                                  "keep-alive",
                                                                  "te",
                                                                  "trailer",
                                                                  "upgrade",
                                                                  "via",
                                                                  "age",
                                                                  "cookie",
                                                                  "set-cookie",
                                                                  "date",
                                                                  "expect",
                                                                  "expires",
                                                                  "host",
                                                                  "if-match",
                                                                  "if-modified-since",
                                                                  "if-none-match",
                                                                  "if-range",
                                                                  "if-unmodified-since",
                                                                  "location",
                                                                  "max-forwards",
                                                                  "pragma",
                                                                  "range",
                                                                  "retry-after",
                                                                  "vary",
                                                                  "warning",
                                                                  "www-authenticate",
                                                                  "authorization",
                                                                  "cache-control",
                                                                  "forwarded",
                                                                  "origin",
                                                                  "referer",
                                                                  "sec-websocket-accept",
                                                                  "sec-websocket-key",
                                                                  "traceparent",
                                                                  "tracestate"});
  // Whole families: framing, content, credentials for proxies, and what we say about the client.
  static constexpr auto kFamilies =
      std::to_array<std::string_view>({"content-", "transfer-", "proxy-", "x-forwarded-", "x-real-",
                                       "x-original-", "x-rewrite-", "access-control-"});
  // CGI would take X_User for X-User, in a trailer as in a head.
  if (!all_in(name, kRequestNameCharacter)) return false;
  const auto is_name = [&](std::string_view never) { return equals_ignoring_case(name, never); };
  const auto begins = [&](std::string_view family) {
    return equals_ignoring_case(name.substr(0, family.size()), family);
  };
  return std::none_of(kNever.begin(), kNever.end(), is_name) &&
         std::none_of(kFamilies.begin(), kFamilies.end(), begins) && !tells_client_identity(name);
}

bool tells_client_identity(std::string_view name) {
  static constexpr auto kFamilies = std::to_array<std::string_view>(
      {"client-cert", "x-client-cert", "x-client-verify", "ssl-client-", "x-ssl-client-",
       "x-ssl-cert", "x-forwarded-client-cert", "x-forwarded-tls-client-cert", "x-amzn-mtls-",
       "x-arr-clientcert"});
  return std::any_of(kFamilies.begin(), kFamilies.end(), [&](std::string_view family) {
    return equals_ignoring_case(name.substr(0, family.size()), family);
  });
}

void announced_trailers(const HeaderList& fields, std::string& names) {
  std::size_t count = 0;
  for (const Field field : fields.find_all("Trailer"))
    for_each_list_element(field.value, [&](std::string_view name) {
      const bool may = count < kAnnouncedTrailersMax && is_token(name) && may_be_trailer(name) &&
                       !lists(fields, "Connection", name);
      if (!may) return;
      ++count;
      if (!names.empty()) names.append(", ");
      names.append(name);
    });
}

void set_forwarded(HeaderList& fields, const ForwardedFor& forwarded) {
  static constexpr auto kRelatives = std::to_array<std::string_view>(
      {"X-Real-IP", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Server",
       "X-Forwarded-Client-Cert", "X-Forwarded-Scheme", "X-Original-URL", "X-Rewrite-URL"});
  for (const std::string_view name : kRelatives)
    fields.remove(name);
  fmt::basic_memory_buffer<char, 1024> value;  // on the stack; host and addresses are shorter
  const auto put = [&](std::string_view text) { value.append(text.begin(), text.end()); };
  put(forwarded.client);
  for_each_list_element(forwarded.hops, [&](std::string_view hop) {
    put(", ");
    put(hop);
  });
  fields.set("X-Forwarded-For", {value.data(), value.size()});
  fields.set("X-Forwarded-Proto", forwarded.scheme);
  // HTTP/1.0 may name no host; then there is nothing to say about it.
  if (forwarded.host.empty())
    fields.remove("X-Forwarded-Host");
  else
    fields.set("X-Forwarded-Host", forwarded.host);
  // RFC 7239, section 4: values with ':' or brackets are quoted, IPv6 is bracketed. Addresses and
  // host hold no quotes or backslashes: the host has passed parse_authority().
  value.clear();
  const auto put_node = [&](std::string_view address) {
    const bool is_v6 = address.find(':') != std::string_view::npos;
    put(is_v6 ? "for=\"[" : "for=");
    put(address);
    put(is_v6 ? "]\"" : "");
  };
  put_node(forwarded.client);
  if (!forwarded.host.empty()) {
    put(";host=\"");
    put(forwarded.host);
    put("\"");
  }
  put(";proto=");
  put(forwarded.scheme);
  for_each_list_element(forwarded.hops, [&](std::string_view hop) {
    put(", ");
    put_node(hop);
  });
  fields.set("Forwarded", {value.data(), value.size()});
}

}  // namespace weir::http
