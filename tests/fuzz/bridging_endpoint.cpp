// How an endpoint's bytes are read: see bridging_messages.h. Nothing of l7/http is used here.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <map>
#include <optional>

#include "tests/fuzz/bridging_messages.h"
#include "tests/support/h2_frames.h"

namespace weir::testing {
namespace {

bool is_token_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view{"!#$%&'*+-.^_`|~"}.find(c) != std::string_view::npos;
}
bool is_token(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, is_token_char);
}
/// No control characters but tabs, and no white space around it.
bool is_value(std::string_view text) {
  const auto is_blank = [](char c) { return c == ' ' || c == '\t'; };
  if (!text.empty() && (is_blank(text.front()) || is_blank(text.back()))) return false;
  return std::ranges::none_of(text, [](char c) {
    return c == 0x7f || (static_cast<unsigned char>(c) < 0x20 && c != '\t');
  });
}
bool is_target(std::string_view text) {
  return !text.empty() && std::ranges::none_of(text, [](char c) {
    return c == 0x7f || static_cast<unsigned char>(c) <= 0x20;
  });
}
bool is_lower(std::string_view text) {
  return std::ranges::none_of(text, [](char c) { return c >= 'A' && c <= 'Z'; });
}
std::string lower(std::string_view text) {
  std::string result{text};
  for (char& c : result)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c | 0x20);
  return result;
}

std::optional<std::uint64_t> read_number(std::string_view text, int base) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::size_t count(const BridgedMessage& message, std::string_view name) {
  return static_cast<std::size_t>(
      std::ranges::count_if(message.fields, [&](const std::string& field) {
        return field.starts_with(name) && field.substr(name.size()).starts_with(": ");
      }));
}

constexpr auto kOfTheConnection =
    std::to_array<std::string_view>({"keep-alive", "proxy-connection", "proxy-authorization",
                                     "proxy-authenticate", "proxy-authentication-info"});

void check_fields(const BridgedMessage& message, std::string_view bytes) {
  for (const std::string_view name : kOfTheConnection)
    if (message.has(name)) bridging_failure("a field of the client's connection", bytes);
  if (message.has("te") && message.value("te") != "trailers")
    bridging_failure("TE says more than trailers", bytes);
}

// ---- HTTP/1 -------------------------------------------------------------------------------------

class H1Reader final : public EndpointReader {
 public:
  void feed(std::string_view bytes) override {
    pending_.append(bytes);
    while (step()) {
    }
  }

 private:
  enum class At : std::uint8_t { kHead, kLength, kChunkSize, kChunk, kTrailers };

  /// True if something was taken.
  bool step() {
    switch (at_) {
      case At::kHead:
        return take_head();
      case At::kLength:
        return take_length();
      case At::kChunkSize:
        return take_chunk_size();
      case At::kChunk:
        return take_chunk();
      case At::kTrailers:
        return take_trailers();
    }
    std::abort();
  }

  [[nodiscard]] std::optional<std::string> take_line() {
    const std::size_t end = pending_.find("\r\n");
    if (end == std::string::npos) return std::nullopt;
    std::string line = pending_.substr(0, end);
    pending_.erase(0, end + 2);
    return line;
  }
  std::string take_field(std::string_view line) {
    const std::size_t colon = line.find(": ");
    if (colon == std::string_view::npos || !is_token(line.substr(0, colon)) ||
        !is_value(line.substr(colon + 2)))
      bridging_failure("no field", line);
    return fmt::format("{}: {}", lower(line.substr(0, colon)), line.substr(colon + 2));
  }

  bool take_head() {
    const std::size_t end = pending_.find("\r\n\r\n");
    if (end == std::string::npos) return false;
    head_ = pending_.substr(0, end + 4);
    BridgedMessage message;
    take_request_line(message, *take_line());
    for (std::string line = *take_line(); !line.empty(); line = *take_line())
      message.fields.push_back(take_field(line));
    if (count(message, "host") != 1) bridging_failure("not one Host", head_);
    message.host = message.value("host");
    check_fields(message, head_);
    begin_body(message);
    messages_.push_back(std::move(message));
    return true;
  }
  void take_request_line(BridgedMessage& message, std::string_view line) {
    const std::size_t first = line.find(' ');
    const std::size_t last = line.rfind(' ');
    if (first == std::string_view::npos || last <= first || line.substr(last) != " HTTP/1.1")
      bridging_failure("no request line", line);
    message.method = line.substr(0, first);
    message.target = line.substr(first + 1, last - first - 1);
    if (!is_token(message.method) || !is_target(message.target))
      bridging_failure("no request line", line);
  }
  void begin_body(BridgedMessage& message) {
    const std::size_t lengths = count(message, "content-length");
    const std::size_t codings = count(message, "transfer-encoding");
    if (lengths + codings > 1) bridging_failure("two framings", head_);
    if (codings == 1 && message.value("transfer-encoding") != "chunked")
      bridging_failure("a coding", head_);
    left_ = 0;
    if (lengths == 1) {
      const auto length = read_number(message.value("content-length"), 10);
      if (!length) bridging_failure("no length", head_);
      left_ = *length;
    }
    at_ = codings == 1 ? At::kChunkSize : At::kLength;
    if (codings == 0 && left_ == 0) {
      at_ = At::kHead;
      message.complete = true;
    }
  }

  /// Bytes of the body, at most left_.
  bool take_payload() {
    const std::size_t size = std::min<std::uint64_t>(pending_.size(), left_);
    messages_.back().body.append(pending_, 0, size);
    pending_.erase(0, size);
    left_ -= size;
    return size > 0;
  }
  bool take_length() {
    if (!take_payload()) return false;
    if (left_ == 0) end_message();
    return true;
  }
  bool take_chunk_size() {
    const auto line = take_line();
    if (!line) return false;
    const auto size = read_number(*line, 16);
    if (!size) bridging_failure("no size of a chunk", *line);
    left_ = *size;
    at_ = left_ == 0 ? At::kTrailers : At::kChunk;
    return true;
  }
  bool take_chunk() {
    if (left_ > 0) return take_payload();
    if (pending_.size() < 2) return false;
    if (!pending_.starts_with("\r\n")) bridging_failure("no end of a chunk", pending_);
    pending_.erase(0, 2);
    at_ = At::kChunkSize;
    return true;
  }
  bool take_trailers() {
    const auto line = take_line();
    if (!line) return false;
    if (line->empty())
      end_message();
    else
      messages_.back().trailers.push_back(take_field(*line));
    return true;
  }
  void end_message() {
    messages_.back().complete = true;
    at_ = At::kHead;
  }

  At at_ = At::kHead;
  std::string pending_;
  std::string head_;
  std::uint64_t left_ = 0;
};

// ---- HTTP/2 -------------------------------------------------------------------------------------

class H2EndpointReader final : public EndpointReader {
 public:
  H2EndpointReader() { reader_.expect_preface(); }
  void feed(std::string_view bytes) override {
    reader_.feed(bytes);  // ends the program at what is no frame
    for (const H2Frame& frame : reader_.frames)
      take(frame);
    reader_.frames.clear();
  }

 private:
  void take(const H2Frame& frame) {
    constexpr std::uint8_t kData = 0, kHeaders = 1, kRst = 3, kContinuation = 9;
    if (frame.payload.size() > 16384 || frame.type > kContinuation)
      bridging_failure("a frame that nobody asked for", frame.text());
    BridgedMessage* const message = find(frame.stream);
    if (frame.type == kData) {
      if (message == nullptr || message->complete)
        bridging_failure("DATA of no body", frame.text());
      message->body += frame.payload;
      if (frame.ends_stream()) end(*message);
    } else if (frame.type == kRst) {
      if (message == nullptr) bridging_failure("a reset of no stream", frame.text());
      message->cancelled = true;
    } else if (frame.type == kHeaders || frame.type == kContinuation) {
      if (frame.type == kHeaders) ends_stream_ = frame.ends_stream();
      if ((frame.flags & 4) != 0) take_block(frame, message);
    }
  }

  BridgedMessage* find(std::uint32_t stream) {
    const auto found = std::ranges::find(messages_, stream, &BridgedMessage::stream);
    return found == messages_.end() ? nullptr : &*found;
  }

  void take_block(const H2Frame& frame, BridgedMessage* known) {
    for (const std::string& field : frame.fields)
      check_field(field);
    if (known != nullptr) {
      if (known->complete || !ends_stream_) bridging_failure("no trailers", frame.text());
      known->trailers = frame.fields;
      end(*known);
      return;
    }
    BridgedMessage message{.fields = frame.fields, .stream = frame.stream};
    check_pseudo_fields(message, frame.text());
    check_fields(message, frame.text());
    for (const std::string_view name : {"connection", "upgrade", "transfer-encoding", "host"})
      if (message.has(name)) bridging_failure("a field of HTTP/1", frame.text());
    message.method = message.value(":method");
    message.target = message.value(":path");
    message.host = message.value(":authority");
    if (!is_token(message.method) || !is_target(message.target))
      bridging_failure("no method or path", frame.text());
    messages_.push_back(std::move(message));
    if (ends_stream_) end(messages_.back());
  }

  static void check_field(std::string_view field) {
    const std::size_t colon = field.find(": ", 1);
    if (colon == std::string_view::npos) bridging_failure("no field", field);
    const std::string_view name =
        field.substr(field.starts_with(':') ? 1 : 0, colon - (field.starts_with(':') ? 1 : 0));
    if (!is_token(name) || !is_lower(name) || !is_value(field.substr(colon + 2)))
      bridging_failure("no field", field);
  }
  static void check_pseudo_fields(const BridgedMessage& message, const std::string& text) {
    for (const std::string_view name : {":method", ":scheme", ":path"})
      if (count(message, name) != 1) bridging_failure("not one of a pseudo field", text);
    // A client of HTTP/1.0 need not name a host, and none is made up (RFC 9113, section 8.3.1).
    const std::size_t authorities = count(message, ":authority");
    if (authorities > 1) bridging_failure("two authorities", text);
    const auto is_pseudo = [](const std::string& field) { return field.starts_with(':'); };
    if (std::ranges::count_if(message.fields, is_pseudo) !=
            3 + static_cast<std::ptrdiff_t>(authorities) ||
        !std::ranges::is_partitioned(message.fields, is_pseudo))
      bridging_failure("pseudo fields elsewhere", text);
  }
  /// RFC 9113, section 8.1.1.
  static void end(BridgedMessage& message) {
    message.complete = true;
    const std::size_t lengths = count(message, "content-length");
    if (lengths == 0) return;
    if (lengths > 1 || read_number(message.value("content-length"), 10) != message.body.size())
      bridging_failure("a length that is not the body's", message.body);
  }

  H2Reader reader_;
  bool ends_stream_ = false;
};

}  // namespace

std::unique_ptr<EndpointReader> endpoint_reader_h1() { return std::make_unique<H1Reader>(); }
std::unique_ptr<EndpointReader> endpoint_reader_h2() {
  return std::make_unique<H2EndpointReader>();
}

void bridging_failure(std::string_view what, std::string_view bytes) {
  fmt::print(stderr, "bridging: {}:\n", what);
  for (const char c : bytes) {
    if (c == '\n' || (c >= ' ' && c < 0x7f))
      std::fputc(c, stderr);
    else
      fmt::print(stderr, "\\x{:02x}", static_cast<unsigned char>(c));
  }
  fmt::print(stderr, "\n");
  std::abort();
}

}  // namespace weir::testing
