#include "tests/support/h2_frames.h"

#include <fmt/format.h>
#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <iostream>

#include "l4/base/assert.h"

namespace weir::testing {
namespace {

constexpr std::uint8_t kEndStream = 1;  // and ACK
constexpr std::uint8_t kEndHeaders = 4;
constexpr std::uint8_t kPadded = 8;
constexpr std::uint8_t kPriority = 0x20;

enum Type : std::uint8_t {
  kData,
  kHeaders,
  kPriorityFrame,
  kRst,
  kSettings,
  kPush,
  kPing,
  kGoaway,
  kWindow,
  kContinuation
};

[[noreturn]] void give_up(std::string_view what, std::string_view where) {
  std::cerr << fmt::format("HTTP/2 frames: {}: {}\n", what, where);
  std::abort();
}

std::uint64_t number(std::string_view digits) {
  std::uint64_t value = 0;
  const bool hex = digits.starts_with("0x");
  if (hex) digits.remove_prefix(2);
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, hex ? 16 : 10);
  if (error != std::errc{} || end != digits.data() + digits.size()) give_up("no number", digits);
  return value;
}

std::string big_endian(std::uint64_t value, std::size_t size) {
  std::string bytes;
  for (std::size_t i = size; i > 0; --i)
    bytes.push_back(static_cast<char>(value >> (8 * (i - 1))));
  return bytes;
}

std::uint32_t read_number(std::string_view bytes) {
  std::uint32_t value = 0;
  for (const char c : bytes)
    value = value << 8 | static_cast<unsigned char>(c);
  return value;
}

std::string unescape(std::string_view text) {
  std::string bytes;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (text[at] != '\\') {
      bytes.push_back(text[at]);
      continue;
    }
    if (++at == text.size()) give_up("a backslash at the end", text);
    constexpr std::string_view kLetters = "rnt0s\\";
    constexpr std::string_view kMeanings{"\r\n\t\0 \\", 6};
    const char kind = text[at];
    if (const std::size_t letter = kLetters.find(kind); letter != std::string_view::npos) {
      bytes.push_back(kMeanings[letter]);
    } else if (kind == 'x') {
      bytes.push_back(static_cast<char>(number(fmt::format("0x{}", text.substr(at + 1, 2)))));
      at += 2;
    } else if (kind == '{') {
      const std::size_t star = text.find('*', at);
      const std::size_t close = text.find('}', at);
      const std::uint64_t times = number(text.substr(at + 1, star - at - 1));
      const std::string piece = unescape(text.substr(star + 1, close - star - 1));
      for (std::uint64_t i = 0; i < times; ++i)
        bytes += piece;
      at = close;
    } else {
      give_up("an unknown escape", text);
    }
  }
  return bytes;
}

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(' ');
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(' ') - begin + 1);
}

/// An integer of RFC 7541, section 5.1, with a prefix of seven bits and no flag.
std::string hpack_integer(std::size_t value) {
  if (value < 127) return {static_cast<char>(value)};
  std::string bytes{static_cast<char>(127)};
  for (value -= 127; value >= 128; value >>= 7)
    bytes.push_back(static_cast<char>(0x80 | (value & 0x7f)));
  bytes.push_back(static_cast<char>(value));
  return bytes;
}

/// A line in its words, and what stands behind each '|'.
struct Line {
  std::vector<std::string_view> words;
  std::vector<std::string> parts;

  explicit Line(std::string_view line) {
    std::size_t bar = std::min(line.find('|'), line.size());
    for (std::string_view rest = trimmed(line.substr(0, bar)); !rest.empty();) {
      const std::size_t space = std::min(rest.find(' '), rest.size());
      words.push_back(rest.substr(0, space));
      rest = trimmed(rest.substr(space));
    }
    while (bar < line.size()) {
      const std::size_t next = std::min(line.find('|', bar + 1), line.size());
      parts.emplace_back(trimmed(line.substr(bar + 1, next - bar - 1)));
      bar = next;
    }
  }
  [[nodiscard]] bool has(std::string_view word) const {
    return std::find(words.begin(), words.end(), word) != words.end();
  }
  [[nodiscard]] std::uint64_t at(std::size_t index) const {
    if (index >= words.size()) give_up("a word is missing behind", words.front());
    return number(words[index]);
  }
  /// The number behind a word.
  [[nodiscard]] std::uint64_t behind(std::string_view word) const {
    const auto found = std::find(words.begin(), words.end(), word);
    return at(static_cast<std::size_t>(found - words.begin()) + 1);
  }
  [[nodiscard]] std::string text() const {
    std::string all;
    for (const std::string& part : parts)
      all += unescape(part);
    return all;
  }
};

std::string fields_of(const Line& line) {
  std::vector<std::string> fields;
  for (const std::string& part : line.parts) {
    if (part == "get")
      fields.insert(fields.end(),
                    {":method: GET", ":scheme: https", ":authority: a.example", ":path: /"});
    else if (part == "post")
      fields.insert(fields.end(),
                    {":method: POST", ":scheme: https", ":authority: a.example", ":path: /p"});
    else if (!part.empty())
      fields.push_back(unescape(part));
  }
  return h2_fields(fields);
}

/// HEADERS, CONTINUATION, PUSH_PROMISE and DATA share their options.
H2Frame payload_frame(const Line& line, std::uint8_t type, std::string payload) {
  H2Frame frame{type, 0, static_cast<std::uint32_t>(line.at(1)), std::move(payload)};
  if (line.has("end")) frame.flags |= kEndStream;
  if (type != kData && !line.has("more")) frame.flags |= kEndHeaders;
  if (line.has("priority")) {
    frame.flags |= kPriority;
    frame.payload.insert(0, big_endian(0, 4) + '\x10');
  }
  if (line.has("pad")) {
    frame.flags |= kPadded;
    const std::size_t padding = line.behind("pad");
    frame.payload.insert(0, 1, static_cast<char>(padding));
    if (!line.has("without")) frame.payload.append(padding, '\0');
  }
  return frame;
}

H2Frame settings_frame(const Line& line) {
  H2Frame frame{kSettings, line.has("ack") ? kEndStream : std::uint8_t{0}, 0, {}};
  for (const std::string_view word : line.words) {
    const std::size_t equals = word.find('=');
    if (equals == std::string_view::npos) continue;
    frame.payload += big_endian(number(word.substr(0, equals)), 2);
    frame.payload += big_endian(number(word.substr(equals + 1)), 4);
  }
  return frame;
}

H2Frame frame_of(const Line& line) {
  const std::string_view word = line.words.front();
  const auto stream = [&] { return static_cast<std::uint32_t>(line.at(1)); };
  if (word == "settings") return settings_frame(line);
  if (word == "headers") return payload_frame(line, kHeaders, fields_of(line));
  if (word == "continuation") return payload_frame(line, kContinuation, fields_of(line));
  if (word == "data") return payload_frame(line, kData, line.text());
  if (word == "push")
    return payload_frame(line, kPush, big_endian(line.at(2), 4) + fields_of(line));
  if (word == "rst") return {kRst, 0, stream(), big_endian(line.at(2), 4)};
  if (word == "ping") return {kPing, line.has("ack") ? kEndStream : std::uint8_t{0}, 0, "12345678"};
  if (word == "goaway")
    return {kGoaway, 0, 0, big_endian(line.at(1), 4) + big_endian(line.at(2), 4)};
  if (word == "window") return {kWindow, 0, stream(), big_endian(line.at(2), 4)};
  if (word == "priority") return {kPriorityFrame, 0, stream(), big_endian(0, 4) + '\x10'};
  if (word == "frame")
    return {static_cast<std::uint8_t>(line.at(1)), static_cast<std::uint8_t>(line.at(2)),
            static_cast<std::uint32_t>(line.at(3)), line.text()};
  give_up("an unknown word", word);
}

constexpr auto kTypes = std::to_array<std::string_view>(
    {"DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY",
     "WINDOW_UPDATE", "CONTINUATION"});

}  // namespace

std::string_view h2_code_name(std::uint32_t code) {
  static constexpr auto kCodes = std::to_array<std::string_view>(
      {"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT",
       "STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR",
       "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"});
  return code < kCodes.size() ? kCodes[code] : "another code";
}

std::string H2Frame::field(std::string_view name) const {
  for (const std::string& line : fields)
    if (line.starts_with(name) && line.substr(name.size()).starts_with(": "))
      return line.substr(name.size() + 2);
  return {};
}

std::string H2Frame::text() const {
  std::string line = type < kTypes.size() ? std::string{kTypes[type]} : fmt::format("{:#x}", type);
  line += fmt::format(" {}", stream);
  if (ends_stream()) line += " end";
  if ((type == kSettings || type == kPing) && (flags & 1) != 0) line += " ack";
  if (type == kData) line += fmt::format(" {} bytes", payload.size());
  if (type == kRst && payload.size() == 4)
    line += fmt::format(" {}", h2_code_name(read_number(payload)));
  if (type == kGoaway && payload.size() >= 8)
    line += fmt::format(" {} {}", read_number(payload.substr(0, 4)),
                        h2_code_name(read_number(payload.substr(4, 4))));
  if (type == kWindow) line += fmt::format(" {}", read_number(payload));
  for (std::size_t i = 0; i < fields.size(); ++i)
    line += fmt::format("{} {}", i == 0 ? "" : ",", fields[i]);
  return line;
}

std::string h2_frame(std::uint8_t type, std::uint8_t flags, std::uint32_t stream,
                     std::string_view payload) {
  std::string bytes = big_endian(payload.size(), 3);
  bytes += static_cast<char>(type);
  bytes += static_cast<char>(flags);
  bytes += big_endian(stream, 4);
  bytes += payload;
  return bytes;
}

std::string h2_fields(const std::vector<std::string>& fields) {
  std::string block;
  for (const std::string& field : fields) {
    // The colon of a pseudo field stands in front.
    const std::size_t colon = field.find(": ", 1);
    const std::string name = field.substr(0, colon);
    const std::string value = colon == std::string::npos ? "" : field.substr(colon + 2);
    block += '\0';  // a literal without indexing, RFC 7541, section 6.2.2
    block += hpack_integer(name.size()) + name + hpack_integer(value.size()) + value;
  }
  return block;
}

std::string h2_bytes(std::string_view text) {
  const Line line{text};
  if (line.words.empty()) give_up("an empty line", text);
  if (line.words.front() == "preface") return std::string{kH2ClientPreface};
  if (line.words.front() == "bytes") return line.text();
  const H2Frame frame = frame_of(line);
  std::string bytes = h2_frame(frame.type, frame.flags, frame.stream, frame.payload);
  if (line.has("length")) bytes.replace(0, 3, big_endian(line.behind("length"), 3));
  return bytes;
}

// ---- reading -----------------------------------------------------------------------------------

struct H2Reader::Inflater {
  Inflater() { WEIR_ASSERT(nghttp2_hd_inflate_new(&inflater) == 0); }
  ~Inflater() { nghttp2_hd_inflate_del(inflater); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  std::vector<std::string> inflate(std::string_view block) {
    std::vector<std::string> fields;
    // Octets are what nghttp2 reads, and a char may be looked at as one.
    const auto* at = reinterpret_cast<const std::uint8_t*>(block.data());
    std::size_t left = block.size();
    for (;;) {
      nghttp2_nv field{};
      int flags = 0;
      const ssize_t taken = nghttp2_hd_inflate_hd2(inflater, &field, &flags, at, left, 1);
      if (taken < 0) give_up("a head that cannot be read", std::to_string(taken));
      at += taken;
      left -= static_cast<std::size_t>(taken);
      if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0)
        fields.push_back(fmt::format(
            "{}: {}", std::string_view{reinterpret_cast<char*>(field.name), field.namelen},
            std::string_view{reinterpret_cast<char*>(field.value), field.valuelen}));
      if ((flags & NGHTTP2_HD_INFLATE_FINAL) != 0) break;
    }
    nghttp2_hd_inflate_end_headers(inflater);
    return fields;
  }

  nghttp2_hd_inflater* inflater = nullptr;
};

H2Reader::H2Reader() : inflater_{std::make_unique<Inflater>()} {}
H2Reader::~H2Reader() = default;

void H2Reader::feed(std::string_view bytes) {
  const std::size_t skipped = std::min(skip_, bytes.size());
  skip_ -= skipped;
  pending_.append(bytes.substr(skipped));
  constexpr std::size_t kHeader = 9;
  std::size_t at = 0;
  while (pending_.size() - at >= kHeader) {
    const std::string_view rest = std::string_view{pending_}.substr(at);
    const std::size_t size = read_number(rest.substr(0, 3));
    if (rest.size() < kHeader + size) break;
    H2Frame frame{static_cast<std::uint8_t>(rest[3]), static_cast<std::uint8_t>(rest[4]),
                  read_number(rest.substr(5, 4)), std::string{rest.substr(kHeader, size)}};
    if (frame.type == kHeaders || frame.type == kContinuation) {
      block_ += frame.payload;  // we pad nothing and send no priorities
      if ((frame.flags & kEndHeaders) != 0) frame.fields = inflater_->inflate(block_);
      if ((frame.flags & kEndHeaders) != 0) block_.clear();
    }
    frames.push_back(std::move(frame));
    at += kHeader + size;
  }
  pending_.erase(0, at);
}

std::string H2Reader::body(std::uint32_t stream) const {
  std::string all;
  for (const H2Frame& frame : frames)
    if (frame.type == kData && frame.stream == stream) all += frame.payload;
  return all;
}

std::string H2Reader::heads(std::uint32_t stream) const {
  std::string all;
  for (const H2Frame& frame : frames) {
    if (frame.type != kHeaders || frame.stream != stream) continue;
    for (const std::string& field : frame.fields)
      all += field + "\n";
  }
  return all;
}

bool H2Reader::ended(std::uint32_t stream) const {
  return std::any_of(frames.begin(), frames.end(), [&](const H2Frame& frame) {
    return frame.stream == stream && frame.ends_stream();
  });
}

std::string H2Reader::first(std::uint8_t type, std::uint32_t stream) const {
  for (const H2Frame& frame : frames)
    if (frame.type == type && frame.stream == stream) return frame.text();
  return {};
}

}  // namespace weir::testing
