// How a client's bytes are read: see bridging_messages.h.

#include <fmt/format.h>
#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <optional>

#include "l4/base/assert.h"
#include "l4/base/bytes.h"
#include "l7/http/h1.h"
#include "tests/fuzz/bridging_messages.h"
#include "tests/support/h2_frames.h"

namespace weir::testing {
namespace {

using http::ParseResult;

std::string lower(std::string_view text) {
  std::string result{text};
  std::ranges::transform(result, result.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
  });
  return result;
}

std::string field_line(std::string_view name, std::string_view value) {
  return fmt::format("{}: {}", lower(name), value);
}

/// Target and host in the one spelling in which the proxy forwards them.
void resolve(BridgedMessage& message, const http::RequestHead& head) {
  http::RequestUri uri;
  message.routable = !uri.resolve(head);
  if (!message.routable) return;
  message.target = uri.target();
  message.host = uri.authority();
}

// ---- HTTP/2 -------------------------------------------------------------------------------------

constexpr std::size_t kFrameHeader = 9;
constexpr std::size_t kFrameMax = 16384;
constexpr std::uint8_t kData = 0, kHeaders = 1, kRst = 3, kContinuation = 9;
constexpr unsigned kEnd = 1, kEndHeaders = 4, kPadded = 8, kPriority = 32;

class Inflater {
 public:
  Inflater() { WEIR_ASSERT(nghttp2_hd_inflate_new(&inflater_) == 0); }
  ~Inflater() { nghttp2_hd_inflate_del(inflater_); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  /// Nothing where it cannot be read.
  std::optional<std::vector<std::string>> inflate(std::string_view block) {
    std::vector<std::string> fields;
    // Octets are what nghttp2 reads, and a char may be looked at as one.
    const auto* at = reinterpret_cast<const std::uint8_t*>(block.data());
    std::size_t left = block.size();
    for (;;) {
      nghttp2_nv field{};
      int flags = 0;
      const ssize_t taken = nghttp2_hd_inflate_hd2(inflater_, &field, &flags, at, left, 1);
      if (taken < 0) return std::nullopt;
      at += taken;
      left -= static_cast<std::size_t>(taken);
      if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0)
        fields.push_back(field_line({reinterpret_cast<char*>(field.name), field.namelen},
                                    {reinterpret_cast<char*>(field.value), field.valuelen}));
      if ((flags & NGHTTP2_HD_INFLATE_FINAL) != 0) break;
      if (taken == 0 && (flags & NGHTTP2_HD_INFLATE_EMIT) == 0) return std::nullopt;
    }
    nghttp2_hd_inflate_end_headers(inflater_);
    return fields;
  }

 private:
  nghttp2_hd_inflater* inflater_ = nullptr;
};

class ClientFrames {
 public:
  std::vector<BridgedMessage> read(std::string_view bytes) {
    while (bytes.size() >= kFrameHeader) {
      const std::size_t size = number(bytes.substr(0, 3));
      if (size > kFrameMax) break;
      if (bytes.size() < kFrameHeader + size) {
        take_begun(bytes, size);
        break;
      }
      if (!take(byte(bytes, 3), byte(bytes, 4), number(bytes.substr(5, 4)) & 0x7fffffff,
                bytes.substr(kFrameHeader, size)))
        break;
      bytes.remove_prefix(kFrameHeader + size);
    }
    return std::move(messages_);
  }

 private:
  static unsigned byte(std::string_view bytes, std::size_t at) {
    return static_cast<unsigned char>(bytes[at]);
  }
  static std::uint32_t number(std::string_view bytes) {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < bytes.size(); ++i)
      value = value << 8 | byte(bytes, i);
    return value;
  }

  /// DATA of which the rest does not come: what there is of it is a part of the body.
  void take_begun(std::string_view bytes, std::size_t size) {
    const unsigned flags = byte(bytes, 4);
    BridgedMessage* const message = find(number(bytes.substr(5, 4)) & 0x7fffffff);
    if (byte(bytes, 3) != kData || block_stream_ != 0 || message == nullptr || message->complete)
      return;
    std::string_view payload = bytes.substr(kFrameHeader);
    std::size_t most = size;
    if ((flags & kPadded) != 0) {
      if (payload.empty() || byte(payload, 0) >= size) return;
      most -= 1 + byte(payload, 0);
      payload.remove_prefix(1);
    }
    message->body += payload.substr(0, most);
  }

  /// False where nothing behind it can mean anything.
  bool take(unsigned type, unsigned flags, std::uint32_t stream, std::string_view payload) {
    if (block_stream_ != 0 && (type != kContinuation || stream != block_stream_)) return false;
    if (type == kContinuation && block_stream_ == 0) return false;
    if (type == kHeaders) {
      if (stream % 2 == 0 || !strip(flags, payload)) return false;
      block_stream_ = stream;
      block_ends_stream_ = (flags & kEnd) != 0;
      block_.clear();
    }
    if (type == kHeaders || type == kContinuation) {
      block_ += payload;
      return (flags & kEndHeaders) == 0 || end_block();
    }
    BridgedMessage* const message = find(stream);
    if (type == kRst && message != nullptr) message->cancelled = true;
    if (type != kData) return true;
    // What is in a frame of no open stream need not be looked at (RFC 9113, section 5.1).
    if (message == nullptr || message->complete) return true;
    if (!strip(flags & ~kPriority, payload)) return false;
    message->body += payload;
    message->complete = (flags & kEnd) != 0;
    return true;
  }

  /// Takes padding and priority off.
  static bool strip(unsigned flags, std::string_view& payload) {
    std::size_t padding = 0;
    if ((flags & kPadded) != 0) {
      if (payload.empty()) return false;
      padding = byte(payload, 0);
      payload.remove_prefix(1);
    }
    const std::size_t priority = (flags & kPriority) != 0 ? 5 : 0;
    if (payload.size() < padding + priority) return false;
    payload.remove_prefix(priority);
    payload.remove_suffix(padding);
    return true;
  }

  BridgedMessage* find(std::uint32_t stream) {
    const auto found = std::ranges::find(messages_, stream, &BridgedMessage::stream);
    return found == messages_.end() ? nullptr : &*found;
  }

  bool end_block() {
    const std::uint32_t stream = block_stream_;
    block_stream_ = 0;
    auto fields = inflater_.inflate(block_);
    if (!fields) return false;
    if (BridgedMessage* const known = find(stream)) {
      if (known->complete) return true;
      known->trailers = std::move(*fields);
      known->complete = block_ends_stream_;
      return true;
    }
    BridgedMessage message{.fields = std::move(*fields), .stream = stream};
    message.complete = block_ends_stream_;
    http::RequestHead head;
    // A WebSocket becomes the GET that asks for one; its bytes are no body of that.
    const bool is_websocket = message.has(":protocol") && message.value(":method") == "CONNECT";
    message.method = is_websocket ? "GET" : message.value(":method");
    if (is_websocket) message.complete = true;
    head.method = message.method;
    head.target = message.value(":path");
    head.fields.add(
        "Host", message.has(":authority") ? message.value(":authority") : message.value("host"));
    resolve(message, head);
    messages_.push_back(std::move(message));
    return true;
  }

  std::vector<BridgedMessage> messages_;
  Inflater inflater_;
  std::uint32_t block_stream_ = 0;
  bool block_ends_stream_ = false;
  std::string block_;
};

/// Payload until the end of the body or of the bytes; the size of what was read, or nothing at an
/// error.
std::optional<std::size_t> read_body(BridgedMessage& message, http::BodyFraming framing,
                                     std::string_view bytes) {
  http::BodyDecoder decoder{framing};
  std::size_t at = 0;
  for (;;) {
    const auto step = decoder.decode(as_bytes(bytes.substr(at)));
    at += step.consumed;
    message.body += as_text(step.payload);
    if (step.state == http::BodyDecoder::State::kPayload) continue;
    message.complete = step.state == http::BodyDecoder::State::kDone;
    if (!message.complete) return std::nullopt;
    for (const http::Field field : decoder.trailers())
      message.trailers.push_back(field_line(field.name, field.value));
    return at;
  }
}

}  // namespace

bool BridgedMessage::has(std::string_view name) const {
  return std::ranges::any_of(fields, [&](const std::string& field) {
    return field.starts_with(name) && field.substr(name.size()).starts_with(": ");
  });
}

std::string_view BridgedMessage::value(std::string_view name) const {
  for (const std::string& field : fields)
    if (field.starts_with(name) && field.substr(name.size()).starts_with(": "))
      return std::string_view{field}.substr(name.size() + 2);
  return {};
}

std::vector<BridgedMessage> read_client_h1(std::string_view bytes) {
  std::vector<BridgedMessage> messages;
  while (!bytes.empty()) {
    http::RequestParser parser;
    const ParseResult result = parser.parse(as_bytes(bytes));
    if (result.outcome != ParseResult::Outcome::kComplete) break;
    bytes.remove_prefix(result.consumed);
    const http::RequestHead& head = parser.head();
    BridgedMessage message{.method = head.method, .last = !parser.framing().keep_alive};
    for (const http::Field field : head.fields)
      message.fields.push_back(field_line(field.name, field.value));
    resolve(message, head);
    const auto size = read_body(message, parser.framing().body, bytes);
    messages.push_back(std::move(message));
    if (!size) break;
    bytes.remove_prefix(*size);
  }
  return messages;
}

std::vector<BridgedMessage> read_client_h2(std::string_view bytes) {
  WEIR_ASSERT(bytes.starts_with(kH2ClientPreface));  // asked for such bytes only
  return ClientFrames{}.read(bytes.substr(kH2ClientPreface.size()));
}

}  // namespace weir::testing
