#include "l4/control/probe_grpc.h"

#include <fmt/format.h>
#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "l4/base/assert.h"
#include "l4/base/bytes.h"

namespace weir::control {
namespace {

constexpr std::size_t kFrameHeadBytes = 5;                       // flag of compression, length
constexpr std::size_t kMessageBytesMax = std::size_t{4} * 1024;  // an answer has two bytes
constexpr std::size_t kServing = 1;
constexpr std::array<std::string_view, 4> kStatuses{"UNKNOWN", "SERVING", "NOT_SERVING",
                                                    "SERVICE_UNKNOWN"};
/// Of gRPC's codes those that a health check meets.
constexpr std::array<std::pair<unsigned, std::string_view>, 7> kCodes{{
    {4, "DEADLINE_EXCEEDED"},
    {5, "NOT_FOUND: the service is not known there"},
    {7, "PERMISSION_DENIED"},
    {12, "UNIMPLEMENTED: there is no health service"},
    {13, "INTERNAL"},
    {14, "UNAVAILABLE"},
    {16, "UNAUTHENTICATED"},
}};

/// Base 128, least significant first, at most ten bytes (protobuf's encoding).
std::optional<std::uint64_t> take_varint(ByteReader& reader) {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    const auto byte = reader.take<std::uint8_t>();
    if (!byte) return std::nullopt;
    value |= std::uint64_t{*byte & 0x7fU} << shift;
    if ((*byte & 0x80) == 0) return value;
  }
  return std::nullopt;
}

std::string varint(std::uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7)
    out += static_cast<char>(value | 0x80);
  return out + static_cast<char>(value);
}

/// Skips a field's value by its wire type; groups (3, 4) are of another age.
bool skip_value(ByteReader& reader, std::uint64_t wire_type) {
  switch (wire_type) {
    case 0:
      return take_varint(reader).has_value();
    case 1:
      return reader.take_bytes(8).has_value();
    case 2: {
      const auto length = take_varint(reader);
      return length && *length <= reader.remaining() && reader.take_bytes(*length).has_value();
    }
    case 5:
      return reader.take_bytes(4).has_value();
    default:
      return false;
  }
}

std::string_view view_of(const std::uint8_t* bytes, std::size_t size) {
  return as_text(std::as_bytes(std::span{bytes, size}));
}

class GrpcExchange final : public ProbeExchange {
 public:
  GrpcExchange(const HealthCheck& check, std::string authority)
      : authority_{std::move(authority)}, request_{grpc_health_request(check.grpc_service)} {
    start_session();
    submit();
  }
  GrpcExchange(const GrpcExchange&) = delete;
  GrpcExchange& operator=(const GrpcExchange&) = delete;
  ~GrpcExchange() override { nghttp2_session_del(session_); }

  std::string take_output() override {
    std::string out;
    for (;;) {
      const std::uint8_t* data = nullptr;
      const ssize_t size = nghttp2_session_mem_send(session_, &data);
      if (size <= 0) return out;
      out += view_of(data, static_cast<std::size_t>(size));
    }
  }

  std::optional<ProbeVerdict> on_bytes(std::span<const std::byte> bytes) override {
    // nghttp2 takes unsigned char, which may alias std::byte.
    const auto* data = reinterpret_cast<const std::uint8_t*>(bytes.data());
    const ssize_t taken = nghttp2_session_mem_recv(session_, data, bytes.size());
    if (!verdict_ && taken < 0)
      verdict_ = {false, fmt::format("the answer is not HTTP/2: {}",
                                     nghttp2_strerror(static_cast<int>(taken)))};
    return verdict_;
  }

  ProbeVerdict on_end() override {
    return {false, "the connection was closed without a complete answer"};
  }

 private:
  void start_session() {
    nghttp2_session_callbacks* callbacks = nullptr;
    WEIR_ASSERT(nghttp2_session_callbacks_new(&callbacks) == 0);  // fails without memory alone
    nghttp2_session_callbacks_set_on_header_callback(
        callbacks, [](nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name,
                      std::size_t name_size, const std::uint8_t* value, std::size_t value_size,
                      std::uint8_t, void* self) {
          static_cast<GrpcExchange*>(self)->on_header(frame->hd.stream_id, view_of(name, name_size),
                                                      view_of(value, value_size));
          return 0;
        });
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(
        callbacks, [](nghttp2_session*, std::uint8_t, std::int32_t stream, const std::uint8_t* data,
                      std::size_t size, void* self) {
          static_cast<GrpcExchange*>(self)->on_data(stream, view_of(data, size));
          return 0;
        });
    nghttp2_session_callbacks_set_on_stream_close_callback(
        callbacks, [](nghttp2_session*, std::int32_t stream, std::uint32_t error, void* self) {
          static_cast<GrpcExchange*>(self)->on_close(stream, error);
          return 0;
        });
    nghttp2_session_callbacks_set_on_frame_recv_callback(
        callbacks, [](nghttp2_session*, const nghttp2_frame* frame, void* self) {
          if (frame->hd.type == NGHTTP2_GOAWAY)
            static_cast<GrpcExchange*>(self)->on_goaway(frame->goaway);
          return 0;
        });
    const int error = nghttp2_session_client_new(&session_, callbacks, this);
    nghttp2_session_callbacks_del(callbacks);
    WEIR_ASSERT(error == 0);  // fails without memory alone
  }

  static nghttp2_nv field(std::string_view name, std::string_view value) {
    // nghttp2 copies both and writes to neither.
    const auto bytes = [](std::string_view text) {
      return reinterpret_cast<std::uint8_t*>(const_cast<char*>(text.data()));
    };
    return {bytes(name), bytes(value), name.size(), value.size(), NGHTTP2_NV_FLAG_NONE};
  }

  void submit() {
    const nghttp2_settings_entry no_push{NGHTTP2_SETTINGS_ENABLE_PUSH, 0};
    WEIR_ASSERT(nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, &no_push, 1) == 0);
    const std::array fields{
        field(":method", "POST"),
        field(":scheme", "http"),
        field(":path", "/grpc.health.v1.Health/Check"),
        field(":authority", authority_),
        field("content-type", "application/grpc"),
        field("te", "trailers"),
        field("user-agent", "weir-health"),
    };
    nghttp2_data_provider body{};
    body.source.ptr = this;
    body.read_callback = [](nghttp2_session*, std::int32_t, std::uint8_t* out, std::size_t size,
                            std::uint32_t* flags, nghttp2_data_source* source, void*) {
      std::string& rest = static_cast<GrpcExchange*>(source->ptr)->request_;
      const std::size_t count = std::min(size, rest.size());
      std::copy_n(rest.begin(), count, out);
      rest.erase(0, count);
      if (rest.empty()) *flags |= NGHTTP2_DATA_FLAG_EOF;
      return static_cast<ssize_t>(count);
    };
    stream_ =
        nghttp2_submit_request(session_, nullptr, fields.data(), fields.size(), &body, nullptr);
    WEIR_ASSERT(stream_ > 0);  // the first of a session
  }

  void on_header(std::int32_t stream, std::string_view name, std::string_view value) {
    if (stream != stream_) return;
    if (name == ":status") http_status_ = value;
    if (name == "content-type") content_type_ = value;
    if (name == "grpc-status") grpc_status_ = value;
    if (name == "grpc-message") grpc_message_ = value;
  }

  void on_data(std::int32_t stream, std::string_view data) {
    if (stream != stream_) return;
    answer_ += data.substr(0, kMessageBytesMax + 1 - std::min(answer_.size(), kMessageBytesMax));
    if (answer_.size() > kMessageBytesMax && !verdict_)
      verdict_ = {false, fmt::format("the answer is longer than {} bytes", kMessageBytesMax)};
  }

  void on_goaway(const nghttp2_goaway& goaway) {
    if (verdict_ || goaway.last_stream_id >= stream_) return;
    verdict_ = {false, fmt::format("the connection was refused: GOAWAY, {}",
                                   nghttp2_http2_strerror(goaway.error_code))};
  }

  void on_close(std::int32_t stream, std::uint32_t error) {
    if (stream != stream_ || verdict_) return;
    verdict_ = judge(error);
  }

  [[nodiscard]] ProbeVerdict judge(std::uint32_t error) const {
    if (http_status_.empty())
      return {false, fmt::format("the request was reset: {}", nghttp2_http2_strerror(error))};
    if (http_status_ != "200")
      return {false, fmt::format("HTTP status {}, expected 200", http_status_)};
    if (!content_type_.starts_with("application/grpc"))
      return {false, fmt::format("the answer is not gRPC, but {}", quoted_start(content_type_))};
    if (grpc_status_ != "0") return {false, grpc_failure()};
    const auto status = grpc_health_status(as_bytes(answer_));
    if (!status)
      return {false, fmt::format("malformed HealthCheckResponse: {}", quoted_start(answer_))};
    const std::string text =
        *status < kStatuses.size() ? std::string{kStatuses[*status]} : fmt::format("{}", *status);
    if (*status == kServing) return {true, text};
    return {false, fmt::format("status {}, expected SERVING", text)};
  }

  [[nodiscard]] std::string grpc_failure() const {
    unsigned code = 0;
    const char* end = grpc_status_.data() + grpc_status_.size();
    const auto parsed = std::from_chars(grpc_status_.data(), end, code);
    if (grpc_status_.empty() || parsed.ec != std::errc{} || parsed.ptr != end)
      return fmt::format("the answer has no sound grpc-status: {}", quoted_start(grpc_status_));
    std::string text = fmt::format("grpc-status {}", code);
    for (const auto& [known, name] : kCodes) {
      if (known == code) text += fmt::format(" ({})", name);
    }
    return grpc_message_.empty() ? text : fmt::format("{}, {}", text, quoted_start(grpc_message_));
  }

  std::string authority_;
  std::string request_;  // what is not sent yet
  nghttp2_session* session_ = nullptr;
  std::int32_t stream_ = 0;
  std::string http_status_, content_type_, grpc_status_, grpc_message_;
  std::string answer_;
  std::optional<ProbeVerdict> verdict_;
};

}  // namespace

std::string grpc_health_request(std::string_view service) {
  constexpr char kServiceField = 0x0a;  // field 1, wire type 2
  std::string message;
  if (!service.empty()) {
    message += kServiceField;
    message += varint(service.size());
    message += service;
  }
  std::string framed(1, '\0');
  for (int shift = 24; shift >= 0; shift -= 8)
    framed += static_cast<char>(message.size() >> static_cast<unsigned>(shift) & 0xff);
  return framed + message;
}

std::optional<std::uint64_t> grpc_health_status(std::span<const std::byte> framed) {
  if (framed.size() < kFrameHeadBytes || framed[0] != std::byte{0}) return std::nullopt;
  std::size_t length = 0;
  for (const std::byte byte : framed.subspan(1, 4))
    length = length << 8 | std::to_integer<std::size_t>(byte);
  ByteReader reader{framed.subspan(kFrameHeadBytes)};
  if (reader.remaining() != length) return std::nullopt;
  std::uint64_t status = 0;
  while (reader.remaining() > 0) {
    const auto tag = take_varint(reader);
    if (!tag || *tag >> 3 == 0) return std::nullopt;
    constexpr std::uint64_t kStatusTag = 1 << 3;  // field 1, wire type 0
    if (*tag != kStatusTag) {
      if (!skip_value(reader, *tag & 7)) return std::nullopt;
      continue;
    }
    const auto value = take_varint(reader);
    if (!value) return std::nullopt;
    status = *value;
  }
  return status;
}

std::unique_ptr<ProbeExchange> make_grpc_exchange(const HealthCheck& check, std::string authority) {
  return std::make_unique<GrpcExchange>(check, std::move(authority));
}

}  // namespace weir::control
