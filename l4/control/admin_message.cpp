#include "l4/control/admin_message.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "l4/control/units.h"

namespace weir::control {
namespace {

std::optional<unsigned> hex_digit(char c) {
  if (is_digit(c)) return static_cast<unsigned>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a' + 10);
  if (c >= 'A' && c <= 'F') return static_cast<unsigned>(c - 'A' + 10);
  return std::nullopt;
}

/// RFC 9110, section 5.6.2.
bool is_token(std::string_view text) {
  constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  return !text.empty() && std::ranges::all_of(text, [&](char c) {
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           kMarks.find(c) != std::string_view::npos;
  });
}

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::ranges::equal(a, b, {}, lower, lower);
}

AdminReply bad_request(std::string message, std::string remedy = {}) {
  return http_problem_reply(400, Error{ErrorCode::kInvalid, std::move(message), std::move(remedy)});
}

AdminReply refused(int status, std::string message, std::string remedy = {}) {
  const bool is_missing = status == 501 || status == 505;
  return http_problem_reply(
      status, Error{is_missing ? ErrorCode::kUnsupported : ErrorCode::kInvalid, std::move(message),
                    std::move(remedy)});
}

/// RFC 3986, section 2.1. Nothing where an escape is none, or hides a NUL.
std::optional<std::string> percent_decoded(std::string_view text) {
  std::string decoded;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (text[at] != '%') {
      decoded += text[at];
      continue;
    }
    if (at + 2 >= text.size()) return std::nullopt;
    const auto high = hex_digit(text[at + 1]);
    const auto low = hex_digit(text[at + 2]);
    if (!high || !low || (*high == 0 && *low == 0)) return std::nullopt;
    decoded += static_cast<char>(*high * 16 + *low);
    at += 2;
  }
  return decoded;
}

/// "a=1&b=2". The names are the API's, so one that comes twice is a mistake, not a list.
std::optional<AdminReply> parse_query(std::string_view text, AdminRequest& request) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('&'), text.size());
    const std::string_view pair = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (pair.empty()) continue;
    const std::size_t equals = std::min(pair.find('='), pair.size());
    const auto name = percent_decoded(pair.substr(0, equals));
    const auto value = percent_decoded(pair.substr(std::min(equals + 1, pair.size())));
    if (!name || !value) return bad_request("the query has a wrong percent escape");
    if (request.query.size() == kQueryPairsMax) return bad_request("the query has too many parts");
    if (!request.query.emplace(*name, *value).second)
      return bad_request(fmt::format("the query has '{}' twice", *name));
  }
  return std::nullopt;
}

/// RFC 9112, section 3.2: what follows the method. The absolute form is for proxies, but every
/// server has to take it.
std::optional<AdminReply> parse_target(std::string_view target, AdminRequest& request) {
  if (target.size() > kTargetBytesMax)
    return refused(414, fmt::format("the target is longer than {} bytes", kTargetBytesMax));
  if (!std::ranges::all_of(target, [](char c) { return c > ' ' && c < 0x7f && c != '#'; }))
    return bad_request("the target has a character that must be percent-encoded");
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!target.starts_with(scheme)) continue;
    target.remove_prefix(scheme.size());
    target.remove_prefix(std::min(target.find('/'), target.size()));
  }
  if (!target.starts_with('/')) return bad_request("the target is no path");
  const std::size_t question = std::min(target.find('?'), target.size());
  auto path = percent_decoded(target.substr(0, question));
  if (!path) return bad_request("the path has a wrong percent escape");
  request.path = *std::move(path);
  return parse_query(target.substr(std::min(question + 1, target.size())), request);
}

std::optional<AdminReply> parse_request_line(std::string_view line, RequestHead& head) {
  constexpr std::array<std::string_view, 7> kMethods{"GET",   "HEAD",   "POST",   "PUT",
                                                     "PATCH", "DELETE", "OPTIONS"};
  const std::size_t first = line.find(' ');
  const std::size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last)
    return bad_request("the request line is not METHOD TARGET HTTP/1.1");
  const std::string_view method = line.substr(0, first);
  const std::string_view version = line.substr(last + 1);
  if (version.size() != 8 || !version.starts_with("HTTP/") || !is_digit(version[5]) ||
      version[6] != '.' || !is_digit(version[7]))
    return bad_request("the request line is not METHOD TARGET HTTP/1.1");
  if (version[5] != '1') return refused(505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
  if (!is_token(method)) return bad_request("the method is no word");
  if (std::ranges::find(kMethods, method) == kMethods.end())
    return refused(501, fmt::format("the method {} is unknown", method));
  head.is_http_1_0 = version[7] == '0';
  head.body_is_wanted = method != "HEAD";
  head.request.method = method == "HEAD" ? "GET" : std::string{method};
  return parse_target(line.substr(first + 1, last - first - 1), head.request);
}

/// The fields that mean something here. All others are read over.
struct Fields {
  std::optional<std::string_view> host;
  std::optional<std::string_view> content_length;
  std::optional<std::string_view> transfer_encoding;
  std::optional<std::string_view> content_type;
  std::optional<std::string_view> content_encoding;
  std::optional<std::string_view> expect;
  std::optional<std::string_view> origin;
};

std::optional<AdminReply> take_field(std::string_view name, std::string_view value,
                                     Fields& fields) {
  const std::array<std::pair<std::string_view, std::optional<std::string_view>*>, 7> known{
      {{"Host", &fields.host},
       {"Content-Length", &fields.content_length},
       {"Transfer-Encoding", &fields.transfer_encoding},
       {"Content-Type", &fields.content_type},
       {"Content-Encoding", &fields.content_encoding},
       {"Expect", &fields.expect},
       {"Origin", &fields.origin}}};
  for (const auto& [known_name, place] : known) {
    if (!equals_ignoring_case(name, known_name)) continue;
    if (*place) return bad_request(fmt::format("the field {} comes twice", known_name));
    *place = value;
  }
  return std::nullopt;
}

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = std::min(text.find_first_not_of(" \t"), text.size());
  text.remove_prefix(begin);
  return text.substr(0, text.find_last_not_of(" \t") + 1);
}

/// RFC 9112, section 5. Folded lines and blanks before the colon are refused, as it demands.
std::optional<AdminReply> parse_fields(std::string_view lines, Fields& fields) {
  for (std::size_t count = 0; !lines.empty(); ++count) {
    if (count == kFieldsMax) return refused(431, fmt::format("more than {} fields", kFieldsMax));
    const std::size_t end = lines.find("\r\n");
    const std::string_view line = lines.substr(0, end);
    lines.remove_prefix(end + 2);
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos || !is_token(line.substr(0, colon)))
      return bad_request("a header field is not NAME: VALUE");
    const std::string_view value = trimmed(line.substr(colon + 1));
    const bool is_clean = std::ranges::none_of(
        value, [](char c) { return (c >= 0 && c < ' ' && c != '\t') || c == 0x7f; });
    if (!is_clean) return bad_request("a header field has a control character");
    if (auto refusal = take_field(line.substr(0, colon), value, fields)) return refusal;
  }
  return std::nullopt;
}

/// RFC 9112, section 6.3: how long the body is. Two answers to that are how requests are smuggled.
std::optional<AdminReply> apply_framing(const Fields& fields, RequestHead& head) {
  if (fields.transfer_encoding && fields.content_length)
    return bad_request("Content-Length and Transfer-Encoding exclude each other");
  if (fields.transfer_encoding) {
    if (!equals_ignoring_case(*fields.transfer_encoding, "chunked"))
      return refused(501, "the only transfer coding is 'chunked'");
    if (head.is_http_1_0) return bad_request("HTTP/1.0 has no Transfer-Encoding");
    head.is_chunked = true;
  }
  if (!fields.content_length) return std::nullopt;
  const std::string_view text = *fields.content_length;
  if (text.empty() || !std::ranges::all_of(text, is_digit))
    return bad_request("Content-Length is no number");
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), head.content_length);
  if (parsed.ec != std::errc{} || head.content_length > kRequestBytesMax)
    return refused(413, fmt::format("the body is larger than {} bytes", kRequestBytesMax));
  return std::nullopt;
}

/// A body must be what it is taken for. That also keeps web pages out: a page elsewhere cannot make
/// a browser, which may hold a client certificate, send application/json without asking first, and
/// what browsers send for a page has an Origin.
std::optional<AdminReply> check_content(const Fields& fields, const RequestHead& head) {
  if (fields.origin) {
    return http_problem_reply(403, Error{ErrorCode::kDenied, "this API does not serve web pages",
                                         "send no Origin: ask from a program"});
  }
  if (!head.has_body()) return std::nullopt;
  if (fields.content_encoding && !equals_ignoring_case(*fields.content_encoding, "identity"))
    return refused(415, fmt::format("the body has the encoding '{}'", *fields.content_encoding),
                   "send it plain");
  const std::string_view type = fields.content_type.value_or("application/json");
  if (!equals_ignoring_case(trimmed(type.substr(0, type.find(';'))), "application/json"))
    return refused(415, fmt::format("the body has the type '{}'", type),
                   "send JSON, as 'Content-Type: application/json'");
  return std::nullopt;
}

}  // namespace

std::variant<RequestHead, AdminReply> parse_request_head(std::string_view text) {
  WEIR_ASSERT(text.ends_with("\r\n\r\n"));  // the reader looked for it
  text.remove_suffix(2);
  for (std::size_t at = 0; at < text.size(); ++at) {
    const bool is_lone_return = text[at] == '\r' && (at + 1 == text.size() || text[at + 1] != '\n');
    const bool is_lone_feed = text[at] == '\n' && (at == 0 || text[at - 1] != '\r');
    if (is_lone_return || is_lone_feed || text[at] == '\0')
      return bad_request("lines end with CR LF, and hold neither alone, nor NUL");
  }
  RequestHead head;
  Fields fields;
  const std::size_t line_end = text.find("\r\n");
  if (auto refusal = parse_request_line(text.substr(0, line_end), head)) return *std::move(refusal);
  if (auto refusal = parse_fields(text.substr(line_end + 2), fields)) return *std::move(refusal);
  if (!head.is_http_1_0 && !fields.host)
    return bad_request("the field Host is missing");  // RFC 9112, section 3.2
  if (auto refusal = apply_framing(fields, head)) return *std::move(refusal);
  if (auto refusal = check_content(fields, head)) return *std::move(refusal);
  if (fields.expect) {
    if (!equals_ignoring_case(*fields.expect, "100-continue"))
      return refused(417, "the only expectation is 100-continue");
    head.expects_continue = !head.is_http_1_0;
  }
  return head;
}

ChunkedBody::State ChunkedBody::take_size(char c) {
  constexpr std::size_t kDigitsMax = 8;
  if (const auto digit = hex_digit(c)) {
    if (++digits_ > kDigitsMax) return State::kTooLarge;
    left_ = left_ * 16 + *digit;
    return State::kMore;
  }
  if (digits_ == 0) return State::kBroken;
  if (c == '\r') {
    part_ = Part::kSizeEnd;
  } else if (c == ';' || c == ' ' || c == '\t') {
    part_ = Part::kExtension;
  } else {
    return State::kBroken;
  }
  return State::kMore;
}

ChunkedBody::State ChunkedBody::take_trailer(char c) {
  if (c == '\n') return State::kBroken;
  if (c == '\r') {
    part_ = Part::kTrailerLf;
  } else {
    ++line_bytes_;
  }
  return State::kMore;
}

// long: one case for each part of a chunk
ChunkedBody::State ChunkedBody::take(std::string_view bytes) {
  while (!bytes.empty()) {
    if (part_ == Part::kData) {
      const std::size_t size = std::min(left_, bytes.size());
      body_.append(bytes.substr(0, size));
      bytes.remove_prefix(size);
      left_ -= size;
      if (left_ == 0) part_ = Part::kDataEnd;
      continue;
    }
    const char c = bytes.front();
    bytes.remove_prefix(1);
    State state = State::kMore;
    switch (part_) {
      case Part::kSize:
        state = take_size(c);
        break;
      case Part::kExtension:
        if (++extra_bytes_ > kHeadBytesMax) return State::kTooLarge;
        if (c == '\n') return State::kBroken;
        if (c == '\r') part_ = Part::kSizeEnd;
        break;
      case Part::kSizeEnd:
        if (c != '\n') return State::kBroken;
        if (left_ > kRequestBytesMax - body_.size()) return State::kTooLarge;
        digits_ = 0;
        line_bytes_ = 0;
        part_ = left_ == 0 ? Part::kTrailer : Part::kData;
        break;
      case Part::kData:
        break;  // above
      case Part::kDataEnd:
        if (c != '\r') return State::kBroken;
        part_ = Part::kDataEndLf;
        break;
      case Part::kDataEndLf:
        if (c != '\n') return State::kBroken;
        part_ = Part::kSize;
        break;
      case Part::kTrailer:
        if (++extra_bytes_ > kHeadBytesMax) return State::kTooLarge;
        state = take_trailer(c);
        break;
      case Part::kTrailerLf:
        if (c != '\n') return State::kBroken;
        if (line_bytes_ == 0) return State::kDone;
        line_bytes_ = 0;
        part_ = Part::kTrailer;
        break;
    }
    if (state != State::kMore) return state;
  }
  return State::kMore;
}

bool is_nested_too_deep(std::string_view json) {
  std::size_t depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
    } else if (c == '[' || c == '{') {
      if (++depth > kBodyDepthMax) return true;
    } else if ((c == ']' || c == '}') && depth > 0) {
      --depth;
    } else {
      in_string = c == '"';
    }
  }
  return false;
}

std::string_view reason_phrase(int status) {
  struct Row {
    int status;
    std::string_view words;
  };
  constexpr std::array<Row, 22> kRows{{{100, "Continue"},
                                       {200, "OK"},
                                       {204, "No Content"},
                                       {400, "Bad Request"},
                                       {403, "Forbidden"},
                                       {404, "Not Found"},
                                       {405, "Method Not Allowed"},
                                       {408, "Request Timeout"},
                                       {409, "Conflict"},
                                       {413, "Content Too Large"},
                                       {414, "URI Too Long"},
                                       {415, "Unsupported Media Type"},
                                       {417, "Expectation Failed"},
                                       {422, "Unprocessable Content"},
                                       {431, "Request Header Fields Too Large"},
                                       {500, "Internal Server Error"},
                                       {501, "Not Implemented"},
                                       {503, "Service Unavailable"},
                                       {505, "HTTP Version Not Supported"},
                                       {201, "Created"},
                                       {202, "Accepted"},
                                       {507, "Insufficient Storage"}}};
  const auto* row = std::ranges::find(kRows, status, &Row::status);
  return row == kRows.end() ? "Unknown" : row->words;
}

std::string response_head(const AdminReply& reply, Framing framing) {
  std::string head = fmt::format("HTTP/1.1 {} {}\r\n", reply.status, reason_phrase(reply.status));
  const bool has_content = reply.status != 204;
  if (has_content) head += fmt::format("Content-Type: {}\r\n", reply.content_type);
  if (has_content && framing == Framing::kLength)
    head += fmt::format("Content-Length: {}\r\n", reply.body.size());
  if (has_content && framing == Framing::kChunks) head += "Transfer-Encoding: chunked\r\n";
  if (!reply.allow.empty()) head += fmt::format("Allow: {}\r\n", reply.allow);
  head += "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n";
  return head;
}

}  // namespace weir::control
