#include "l7/http/h1.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>

#include "l4/base/assert.h"
#include "l4/base/bytes.h"
#include "l7/http/character_blocks.h"
#include "l7/http/characters.h"

namespace weir::http {

namespace {

/// RFC 9112, section 3: a method longer than any that is known gets 501. No registered method is
/// longer than 17 characters.
constexpr std::size_t kMethodBytesMax = 32;
constexpr Refusal kLongMethod{Status::kNotImplemented, "the method is longer than any known one"};
constexpr std::string_view kVersionText = "HTTP/1.1";
/// What a request line holds besides its target.
constexpr std::size_t kRequestLineOverhead = kMethodBytesMax + 2 + kVersionText.size() + 2;

constexpr Refusal bad_request(std::string_view reason) { return {Status::kBadRequest, reason}; }

/// Classifies 64 bytes at once and keeps what was found: short lines share the cost.
[[gnu::always_inline]] inline void look_ahead(LineScanner& scanner, std::string_view text,
                                              std::size_t end) {
  constexpr std::size_t kLook = 64;
  const auto plain = [&](std::size_t offset) {
    return std::uint64_t{members_of_block<PlainText>(text, scanner.stops_at + offset)} << offset;
  };
  while (scanner.stops == 0 && scanner.scanned < end) {
    scanner.stops_at = scanner.scanned;
    if (end - scanner.scanned >= kLook) {
      scanner.stops = ~(plain(0) | plain(kBlock) | plain(2 * kBlock) | plain(3 * kBlock));
      scanner.scanned += kLook;
    } else {
      const std::size_t size = std::min(kBlock, end - scanner.scanned);
      scanner.scanned += size;
      scanner.stops = members_of_rest<PlainText>(text, scanner.stops_at, scanner.scanned) ^
                      ((std::uint64_t{1} << size) - 1);
    }
  }
}

LineScanner::Outcome why_no_line(std::string_view text, std::size_t at, std::size_t limit) {
  if (at + 1 >= limit) return LineScanner::Outcome::kTooLong;
  if (at == text.size()) return LineScanner::Outcome::kIncomplete;
  if (text[at] == '\n') return LineScanner::Outcome::kBareLf;
  if (text[at] != '\r') return LineScanner::Outcome::kControl;
  return at + 1 == text.size() ? LineScanner::Outcome::kIncomplete : LineScanner::Outcome::kBareCr;
}

struct Line {
  LineScanner::Outcome outcome = LineScanner::Outcome::kIncomplete;
  std::size_t begin = 0;  ///< with kLine: the line without its CRLF
  std::size_t end = 0;
};

/// The next line; all its bytes, CRLF included, lie before `limit`.
[[gnu::always_inline]] inline Line next_line(LineScanner& scanner, std::string_view text,
                                             std::size_t limit) {
  const std::size_t end = std::min(text.size(), limit);
  for (;;) {  // each turn drops a stop, or returns
    if (scanner.stops == 0) look_ahead(scanner, text, end);
    const std::size_t at =
        scanner.stops == 0
            ? end
            : scanner.stops_at + static_cast<std::size_t>(std::countr_zero(scanner.stops));
    if (at + 1 < end && text[at] == '\r' && text[at + 1] == '\n') {
      const Line line{LineScanner::Outcome::kLine, scanner.line_begin, at};
      scanner.line_begin = at + 2;
      // CR and LF are two stops, the latter only if it has been looked at.
      scanner.stops &= scanner.stops - 1;
      scanner.stops &= scanner.stops - 1;
      scanner.scanned = std::max(scanner.scanned, scanner.line_begin);
      return line;
    }
    if (at == end || is_in(text[at], kControlCharacter))
      return {.outcome = why_no_line(text, at, limit)};
    scanner.stops &= scanner.stops - 1;
  }
}

/// "HTTP/1.0" and "HTTP/1.1" to 0 and 1; another version of HTTP is 505, anything else 400.
Checked<int> parse_version(std::string_view text) {
  const bool well_formed = text.size() == kVersionText.size() && text.starts_with("HTTP/") &&
                           is_digit(text[5]) && text[6] == '.' && is_digit(text[7]);
  if (!well_formed) return bad_request("the HTTP version is malformed");
  if (text[5] != '1' || text[7] > '1')
    return Refusal{Status::kVersionNotSupported, "a version other than HTTP/1.0 and HTTP/1.1"};
  return text[7] - '0';
}

/// Why a line is no field of that class of names.
Refusal field_refusal(std::string_view line, std::uint8_t name_class) {
  std::size_t at = 0;
  while (at < line.size() && is_in(line[at], name_class))
    ++at;
  const char c = at < line.size() ? line[at] : '\0';
  const bool is_white = c == ' ' || c == '\t';
  if (is_white && at == 0) return bad_request("a folded header line");  // RFC 9112, section 5.2
  if (is_white) return bad_request("white space in or after a field name");
  if (c == ':') return bad_request("an empty field name");
  // Only where the class excludes it: CGI turns '-' and '_' both into '_', so that behind us
  // X_User would be taken for X-User.
  if (c == '_') return bad_request("an underscore in a field name");
  return bad_request("a header line that is not \"name: value\"");
}

/// Notes the field of a line; false when it is none.
bool note_field(HeaderList& fields, std::string_view text, Line line, std::uint8_t name_class) {
  // The line's CR is a stop, so that this never leaves the line.
  std::size_t at = skip<CommonName>(text, line.begin);
  if (text[at] != ':')
    while (is_in(text[at], name_class))
      ++at;
  if (at == line.begin || text[at] != ':') return false;
  std::size_t value_begin = at + 1;
  std::size_t value_end = line.end;
  // Of bytes up to this one, a line holds spaces and tabs only.
  const auto is_white = [&](std::size_t i) { return static_cast<unsigned char>(text[i]) <= ' '; };
  while (value_begin < value_end && is_white(value_begin))
    ++value_begin;
  while (value_begin < value_end && is_white(value_end - 1))
    --value_end;
  fields.add_position(line.begin, at - line.begin, value_begin, value_end - value_begin);
  return true;
}

/// What became of the lines between the first one and the empty one that ends the head.
struct FieldLines {
  LineScanner::Outcome outcome = LineScanner::Outcome::kLine;  ///< why there is no further line
  std::optional<Refusal> refusal{};
};
FieldLines take_fields(LineScanner& kept, HeaderList& fields, std::string_view text,
                       HeadLimits limits, std::uint8_t name_class) {
  LineScanner scanner = kept;  // a copy of our own can live in registers
  std::optional<Refusal> refusal;
  Line line;
  for (;;) {  // each turn consumes a line of at least two bytes, and the head is limited
    line = next_line(scanner, text, limits.header_bytes);
    if (line.outcome != LineScanner::Outcome::kLine || line.begin == line.end) break;
    if (fields.size() >= limits.fields_max) {
      refusal = Refusal{Status::kHeaderFieldsTooLarge, "too many header fields"};
      break;
    }
    if (!note_field(fields, text, line, name_class)) {
      refusal = field_refusal(text.substr(line.begin, line.end - line.begin), name_class);
      break;
    }
  }
  kept = scanner;
  return {line.outcome, refusal};
}

void append(std::vector<std::byte>& out, std::string_view text) {
  const auto bytes = as_bytes(text);
  out.insert(out.end(), bytes.begin(), bytes.end());
}

bool is_framing_field(std::string_view name) {
  return equals_ignoring_case(name, "content-length") ||
         equals_ignoring_case(name, "transfer-encoding");
}

void append_field(std::vector<std::byte>& out, Field field) {
  append(out, field.name);
  append(out, ": ");
  append(out, field.value);
  append(out, "\r\n");
}

void append_framing(std::vector<std::byte>& out, BodyFraming body) {
  switch (body.kind) {
    case BodyKind::kNone:
    case BodyKind::kUntilClose:
      return;
    case BodyKind::kLength: {
      const fmt::format_int digits{body.length};
      append_field(out, {"Content-Length", {digits.data(), digits.size()}});
      return;
    }
    case BodyKind::kChunked:
      append(out, "Transfer-Encoding: chunked\r\n");
      return;
  }
}

}  // namespace

/// Whether the line that the scanner is at is too long without having come to its target.
bool RequestParser::has_long_method(std::string_view text) const {
  const std::string_view method = text.substr(scanner_.line_begin, kMethodBytesMax + 1);
  return std::ranges::all_of(method, [](char c) { return is_in(c, kTokenCharacter); });
}

ParseResult RequestParser::parse(std::span<const std::byte> buffer) {
  const std::string_view text = as_text(buffer);
  const auto refuse = [](const Refusal& refusal) {
    return ParseResult{.outcome = ParseResult::Outcome::kError, .refusal = refusal};
  };
  while (!have_request_line_) {
    const Line line = next_line(scanner_, text, line_limit());
    if (line.outcome == LineScanner::Outcome::kIncomplete) return {};
    if (line.outcome == LineScanner::Outcome::kTooLong && has_long_method(text))
      return refuse(kLongMethod);
    const auto refusal = line.outcome == LineScanner::Outcome::kLine
                             ? take_first_line(text.substr(line.begin, line.end - line.begin))
                             : refusal_of(line.outcome);
    if (refusal) return refuse(*refusal);
  }
  const FieldLines lines =
      take_fields(scanner_, head_.fields, text, limits_, kRequestNameCharacter);
  if (lines.refusal) return refuse(*lines.refusal);
  if (lines.outcome == LineScanner::Outcome::kIncomplete) return {};
  const auto refusal = lines.outcome == LineScanner::Outcome::kLine
                           ? finish(text.substr(0, scanner_.line_begin))
                           : refusal_of(lines.outcome);
  if (refusal) return refuse(*refusal);
  return {.outcome = ParseResult::Outcome::kComplete, .consumed = scanner_.line_begin};
}

void RequestParser::reset() {
  scanner_ = {};
  leading_line_skipped_ = false;
  have_request_line_ = false;
  head_.clear();
  framing_ = {};
}

std::size_t RequestParser::request_line_limit() const {
  return std::min<std::size_t>(limits_.header_bytes,
                               scanner_.line_begin + limits_.target_bytes + kRequestLineOverhead);
}

std::optional<Refusal> RequestParser::refusal_of(LineScanner::Outcome outcome) const {
  switch (outcome) {
    case LineScanner::Outcome::kLine:
    case LineScanner::Outcome::kIncomplete:
      return std::nullopt;
    case LineScanner::Outcome::kTooLong:
      if (line_limit() < limits_.header_bytes)
        return Refusal{Status::kUriTooLong, "the request line is too long"};
      return Refusal{Status::kHeaderFieldsTooLarge, "the request head is too long"};
    case LineScanner::Outcome::kBareCr:
      return bad_request("a CR without LF in the head");
    case LineScanner::Outcome::kBareLf:
      return bad_request("an LF without CR in the head");
    case LineScanner::Outcome::kControl:
      return bad_request("a control byte in the head");
  }
  return std::nullopt;
}

std::optional<Refusal> RequestParser::take_first_line(std::string_view line) {
  if (!line.empty()) {
    have_request_line_ = true;
    return take_request_line(line);
  }
  if (leading_line_skipped_) return bad_request("more than one empty line before the request");
  leading_line_skipped_ = true;
  return std::nullopt;
}

std::optional<Refusal> RequestParser::take_request_line(std::string_view line) {
  std::size_t method_size = 0;
  while (method_size < line.size() && is_in(line[method_size], kTokenCharacter))
    ++method_size;
  if (method_size == 0 || (method_size < line.size() && line[method_size] != ' '))
    return bad_request("the method is not a token");
  if (method_size > kMethodBytesMax) return kLongMethod;
  const std::size_t target_at = std::min(method_size + 1, line.size());
  const std::size_t target_end = skip<TargetText>(line, target_at);
  const bool ends_well = target_end < line.size() && line[target_end] == ' ';
  const std::size_t space = ends_well ? target_end : line.find(' ', target_end);
  if (space == std::string_view::npos)
    return bad_request("the request line is not \"method target version\"");
  if (space - target_at > limits_.target_bytes)
    return Refusal{Status::kUriTooLong, "the request target is too long"};
  if (space == target_at || space != target_end)
    return bad_request("the request target is empty or has a character that must be escaped");
  const auto minor_version = parse_version(line.substr(space + 1));
  if (!minor_version) return minor_version.refusal();
  head_.method.assign(line.substr(0, method_size));
  head_.target.assign(line.substr(target_at, target_end - target_at));
  head_.minor_version = *minor_version;
  return std::nullopt;
}

std::optional<Refusal> RequestParser::finish(std::string_view head_text) {
  head_.fields.assign_text(head_text);
  const auto framing = request_framing(head_);
  if (!framing) return framing.refusal();
  framing_ = *framing;
  // RFC 9110, section 10.1.1: ignored. Forwarded as HTTP/1.1 it would no longer be.
  if (head_.minor_version == 0) head_.fields.remove("Expect");
  return std::nullopt;
}

ParseResult ResponseParser::parse(std::span<const std::byte> buffer,
                                  std::string_view request_method) {
  const auto refuse = [](std::string_view reason) {
    return ParseResult{.outcome = ParseResult::Outcome::kError,
                       .refusal = {Status::kBadGateway, reason}};
  };
  const std::string_view text = as_text(buffer);
  LineScanner::Outcome outcome = LineScanner::Outcome::kLine;
  if (!have_status_line_) {
    const Line line = next_line(scanner_, text, limits_.header_bytes);
    have_status_line_ = line.outcome == LineScanner::Outcome::kLine;
    outcome = line.outcome;
    if (have_status_line_)
      if (const auto refusal = take_status_line(text.substr(line.begin, line.end - line.begin)))
        return refuse(refusal->reason);
  }
  if (have_status_line_) {
    const FieldLines lines = take_fields(scanner_, head_.fields, text, limits_, kTokenCharacter);
    if (lines.refusal) return refuse(lines.refusal->reason);
    outcome = lines.outcome;
  }
  if (outcome == LineScanner::Outcome::kIncomplete) return {};
  if (outcome == LineScanner::Outcome::kTooLong) return refuse("the answer's head is too long");
  if (outcome != LineScanner::Outcome::kLine)
    return refuse("a control byte or a broken line end in the answer's head");
  head_.fields.assign_text(text.substr(0, scanner_.line_begin));
  const auto framing = response_framing(head_, request_method);
  if (!framing) return refuse(framing.refusal().reason);
  framing_ = *framing;
  return {.outcome = ParseResult::Outcome::kComplete, .consumed = scanner_.line_begin};
}

void ResponseParser::reset() {
  scanner_ = {};
  have_status_line_ = false;
  head_.clear();
  framing_ = {};
}

std::optional<Refusal> ResponseParser::take_status_line(std::string_view line) {
  const auto minor_version = parse_version(line.substr(0, kVersionText.size()));
  if (!minor_version) return minor_version.refusal();
  line.remove_prefix(kVersionText.size());
  const bool has_code = line.size() >= 4 && line[0] == ' ' && is_digit(line[1]) &&
                        is_digit(line[2]) && is_digit(line[3]);
  // RFC 9112, section 4 asks for a space even before an empty reason; servers forget it, and
  // nothing can be read into its absence.
  if (!has_code || (line.size() > 4 && line[4] != ' '))
    return bad_request("the status line is malformed");
  const int code = (line[1] - '0') * 100 + (line[2] - '0') * 10 + (line[3] - '0');
  if (code < 100 || code > 599) return bad_request("the status code is not within 100 to 599");
  head_.status = Status{static_cast<std::uint16_t>(code)};
  head_.reason.assign(line.substr(std::min<std::size_t>(5, line.size())));
  head_.minor_version = *minor_version;
  return std::nullopt;
}

void BodyDecoder::begin(BodyFraming framing) {
  digits_ = 0;
  line_bytes_ = 0;
  remaining_ = 0;
  trailer_line_.clear();
  trailers_.clear();
  switch (framing.kind) {
    case BodyKind::kNone:
      phase_ = Phase::kDone;
      return;
    case BodyKind::kLength:
      phase_ = framing.length == 0 ? Phase::kDone : Phase::kLength;
      remaining_ = framing.length;
      return;
    case BodyKind::kChunked:
      phase_ = Phase::kSize;
      return;
    case BodyKind::kUntilClose:
      phase_ = Phase::kUntilClose;
      return;
  }
}

BodyDecoder::Step BodyDecoder::decode(std::span<const std::byte> input) {
  if (phase_ == Phase::kLength || phase_ == Phase::kUntilClose) return take_payload(input, 0);
  std::size_t at = 0;
  while (phase_ != Phase::kDone && at < input.size()) {
    if (phase_ == Phase::kChunk) return take_payload(input, at);
    const std::string_view reason = advance(static_cast<char>(input[at]));
    if (!reason.empty()) {
      phase_ = Phase::kError;
      return {.state = State::kError, .reason = reason};
    }
    ++at;
  }
  return {.state = phase_ == Phase::kDone ? State::kDone : State::kNeedMore, .consumed = at};
}

BodyDecoder::Step BodyDecoder::take_payload(std::span<const std::byte> input,
                                            std::size_t framing_bytes) {
  auto payload = input.subspan(framing_bytes);
  if (phase_ != Phase::kUntilClose) {
    payload = payload.first(std::min<std::uint64_t>(payload.size(), remaining_));
    remaining_ -= payload.size();
    if (remaining_ == 0) phase_ = phase_ == Phase::kLength ? Phase::kDone : Phase::kChunkCr;
  }
  if (payload.empty()) return {.state = State::kNeedMore, .consumed = framing_bytes};
  return {.state = State::kPayload, .consumed = framing_bytes + payload.size(), .payload = payload};
}

/// One byte of framing. An empty answer means that it fits.
std::string_view BodyDecoder::advance(char c) {
  switch (phase_) {
    case Phase::kSize:
      return advance_size(c);
    case Phase::kExtension:
      if (c == '\r') {
        phase_ = Phase::kSizeLf;
        return {};
      }
      if (is_in(c, kControlCharacter)) return "a control byte in a chunk extension";
      if (++line_bytes_ > kChunkExtensionBytesMax) return "a chunk extension is too long";
      return {};
    case Phase::kSizeLf:
      if (c != '\n') return "a chunk size does not end in CRLF";
      phase_ = remaining_ == 0 ? Phase::kTrailerStart : Phase::kChunk;
      line_bytes_ = 0;
      return {};
    case Phase::kChunkCr:
      if (c != '\r') return "a chunk is longer than its size or does not end in CRLF";
      phase_ = Phase::kChunkLf;
      return {};
    case Phase::kChunkLf:
      if (c != '\n') return "a chunk does not end in CRLF";
      phase_ = Phase::kSize;
      digits_ = 0;
      return {};
    case Phase::kTrailerStart:
    case Phase::kTrailerName:
    case Phase::kTrailerValue:
    case Phase::kTrailerLf:
    case Phase::kLastLf:
      if (++line_bytes_ > kTrailerBytesMax) return "the trailers are too long";
      return advance_trailer(c);
    case Phase::kDone:
    case Phase::kLength:
    case Phase::kUntilClose:
    case Phase::kChunk:
    case Phase::kError:
      break;
  }
  return "the body was refused before";
}

std::string_view BodyDecoder::advance_size(char c) {
  constexpr std::uint8_t kDigitsMax = 16;
  const int value = hex_value(c);
  if (value >= 0) {
    if (digits_ == kDigitsMax) return "a chunk size has more than 16 digits";
    ++digits_;
    remaining_ = remaining_ << 4 | static_cast<std::uint64_t>(value);
    // Half of what the digits could say, so that nobody's signed arithmetic overflows.
    return remaining_ > static_cast<std::uint64_t>(INT64_MAX) ? "a chunk size is too large" : "";
  }
  if (digits_ == 0) return "a chunk size has no digits";
  if (c != '\r' && c != ';') return "a chunk size is not a plain hexadecimal number";
  phase_ = c == '\r' ? Phase::kSizeLf : Phase::kExtension;
  return {};
}

std::string_view BodyDecoder::advance_trailer(char c) {
  if (phase_ == Phase::kTrailerLf || phase_ == Phase::kLastLf) {
    if (c != '\n') return "a trailer line does not end in CRLF";
    phase_ = phase_ == Phase::kLastLf ? Phase::kDone : Phase::kTrailerStart;
    return {};
  }
  if (phase_ == Phase::kTrailerValue) {
    if (c == '\r') {
      phase_ = Phase::kTrailerLf;
      return take_trailer();
    }
    if (is_in(c, kControlCharacter)) return "a control byte in a trailer";
    trailer_line_.push_back(c);
    return {};
  }
  if (phase_ == Phase::kTrailerStart && c == '\r') {
    phase_ = Phase::kLastLf;
    return {};
  }
  trailer_line_.push_back(c);
  if (phase_ == Phase::kTrailerName && c == ':') {
    phase_ = Phase::kTrailerValue;
    return {};
  }
  phase_ = Phase::kTrailerName;
  return is_in(c, kTokenCharacter) ? "" : "a trailer line that is not \"name: value\"";
}

std::string_view BodyDecoder::take_trailer() {
  if (trailers_.size() == kTrailerFieldsMax) return "too many trailers";
  const std::string_view line = trailer_line_;
  const std::size_t colon = line.find(':');  // what is behind a name, or this would be no value
  trailers_.add(line.substr(0, colon), trim_white_space(line.substr(colon + 1)));
  trailer_line_.clear();
  return {};
}

void append_request_head(std::vector<std::byte>& out, const RequestHead& head, BodyFraming body) {
  WEIR_ASSERT(body.kind != BodyKind::kUntilClose);  // closing would also refuse the answer
  append(out, head.method);
  append(out, " ");
  append(out, head.target);
  append(out, " HTTP/1.1\r\n");
  for (const Field field : head.fields)
    if (!is_framing_field(field.name)) append_field(out, field);
  append_framing(out, body);
  append(out, "\r\n");
}

void append_response_head(std::vector<std::byte>& out, const ResponseHead& head, BodyFraming body) {
  append(out, "HTTP/1.1 ");
  const fmt::format_int code{number_of(head.status)};
  append(out, {code.data(), code.size()});
  append(out, " ");
  append(out, head.reason);
  append(out, "\r\n");
  // RFC 9110, section 8.6: neither may say how long the body is that they cannot have.
  const bool has_no_framing = number_of(head.status) < 200 || head.status == Status::kNoContent;
  const bool describes_absent_body = body.kind == BodyKind::kNone && !has_no_framing;
  for (const Field field : head.fields) {
    const bool is_length = equals_ignoring_case(field.name, "content-length");
    if (!is_framing_field(field.name) || (is_length && describes_absent_body))
      append_field(out, field);
  }
  if (!has_no_framing) append_framing(out, body);
  append(out, "\r\n");
}

void append_chunk_header(std::vector<std::byte>& out, std::size_t size) {
  WEIR_ASSERT(size > 0);  // 0 would end the body
  std::array<char, 2 * sizeof(size) + 2> line;
  char* const end = fmt::format_to(line.data(), "{:x}\r\n", size);
  append(out, {line.data(), static_cast<std::size_t>(end - line.data())});
}

void append_chunk_end(std::vector<std::byte>& out) { append(out, "\r\n"); }

void append_last_chunk(std::vector<std::byte>& out, const HeaderList& trailers,
                       std::string_view announced) {
  append(out, "0\r\n");
  for (const Field field : trailers)
    if (list_contains(announced, field.name)) append_field(out, field);
  append(out, "\r\n");
}

}  // namespace weir::http
