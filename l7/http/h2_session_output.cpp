#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "l4/base/assert.h"
#include "l7/http/h2_session_state.h"

/// What leaves a session: heads, bodies, and the frames that nghttp2 makes of them.
namespace weir::http {
namespace {

constexpr char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; }

/// What HTTP/2 says otherwise, or not at all (RFC 9113, section 8.2.2).
bool is_sent(std::string_view name) {
  static constexpr auto kNever =
      std::to_array<std::string_view>({"connection", "keep-alive", "proxy-connection",
                                       "transfer-encoding", "upgrade", "host", "content-length"});
  return std::none_of(kNever.begin(), kNever.end(),
                      [&](std::string_view never) { return equals_ignoring_case(name, never); });
}

/// nghttp2 takes text that it does not change as if it might.
std::uint8_t* mutable_bytes(std::string_view text) {
  // Only read: nghttp2_nv says so for what is not given away.
  return reinterpret_cast<std::uint8_t*>(const_cast<char*>(text.data()));
}

}  // namespace

// ---- output ------------------------------------------------------------------------------------

std::span<const std::byte> H2Session::output(Instant now) {
  State& s = *state_;
  s.now = now;
  if (s.broken) return {};
  const std::uint8_t* piece = nullptr;
  const ssize_t size = nghttp2_session_mem_send(s.session, &piece);
  if (size < 0) {
    // It cannot even say goodbye.
    s.fail(static_cast<int>(size));
    s.broken = true;
    return {};
  }
  if (s.abuse || s.escalation) s.fail(NGHTTP2_ERR_CALLBACK_FAILURE);
  return std::as_bytes(std::span{piece, static_cast<std::size_t>(size)});
}

bool H2Session::wants_output() const {
  return !state_->broken && nghttp2_session_want_write(state_->session) != 0;
}

void H2Session::State::set_output_callbacks(nghttp2_session_callbacks* callbacks) {
  nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_sent);
  nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_not_sent);
}

int H2Session::State::on_sent(nghttp2_session*, const nghttp2_frame* frame, void* self) {
  State& s = *static_cast<State*>(self);
  H2Stream* const stream = s.find(frame->hd.stream_id);
  switch (frame->hd.type) {
    case NGHTTP2_DATA:
      s.window_updates.refund(2);
      s.pings.refund(1);
      if (stream != nullptr && frame->hd.length < kCrumbBytes && !stream->out.empty() &&
          !s.crumbs.spend(s.now))
        s.abuse = H2Abuse::kTinyWindow;  // dealt with by output()
      break;
    case NGHTTP2_RST_STREAM: {
      // Those that our owner asks for carry other codes.
      const std::uint32_t code = frame->rst_stream.error_code;
      s.reset_id = frame->hd.stream_id;
      if (stream != nullptr && code == NGHTTP2_PROTOCOL_ERROR && !stream->malformed) {
        stream->malformed = true;
        ++s.shared.counters_.streams_malformed;
      }
      // Windows that overflow or are not kept are no accident (RFC 9113, sections 5.4.1 and 6.9.2).
      if (code == NGHTTP2_FLOW_CONTROL_ERROR) s.escalation = H2Code::kFlowControlError;
      const bool provoked = code == NGHTTP2_PROTOCOL_ERROR || code == NGHTTP2_STREAM_CLOSED ||
                            code == NGHTTP2_FLOW_CONTROL_ERROR || code == NGHTTP2_REFUSED_STREAM ||
                            code == NGHTTP2_FRAME_SIZE_ERROR;
      if (provoked && s.is_server() && !s.resets.spend(s.now)) s.abuse = H2Abuse::kMadeReset;
      break;
    }
    case NGHTTP2_GOAWAY:
      if (frame->goaway.error_code != NGHTTP2_NO_ERROR && !s.failure)
        s.failure = H2Code{frame->goaway.error_code};
      break;
    default:
      break;
  }
  const bool ends = (frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS) &&
                    (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
  if (stream != nullptr && ends) {
    stream->sent_all = true;
    s.mark(*stream);
  }
  return 0;
}

int H2Session::State::on_not_sent(nghttp2_session*, const nghttp2_frame* frame, int, void* self) {
  State& s = *static_cast<State*>(self);
  if (frame->hd.type != NGHTTP2_HEADERS) return 0;
  H2Stream* const stream = s.find(frame->hd.stream_id);
  if (stream == nullptr || stream->closed) return 0;
  // A request that did not leave, since the peer wants no more of them, can be made elsewhere.
  stream->closed = true;
  stream->close_code = H2Code::kRefusedStream;
  s.mark(*stream);
  return 0;
}

ssize_t H2Session::State::read_body(nghttp2_session* session, std::int32_t id, std::uint8_t* out,
                                    std::size_t size, std::uint32_t* flags, nghttp2_data_source*,
                                    void* self) {
  State& s = *static_cast<State*>(self);
  H2Stream* const stream = s.find(id);
  // Its reset stands in the queue, in front of this.
  if (stream == nullptr) return NGHTTP2_ERR_DEFERRED;
  if (stream->out.empty() && !stream->out_finished) {
    stream->deferred = true;
    return NGHTTP2_ERR_DEFERRED;
  }
  const std::size_t count = std::min(size, stream->out.size());
  if (count > 0) std::memcpy(out, stream->out.front().data(), count);
  s.let_go(stream->out, count);
  s.out_bytes -= count;
  if (std::exchange(stream->was_full, false)) s.mark(*stream);
  if (!stream->out.empty() || !stream->out_finished) return static_cast<ssize_t>(count);
  *flags |= NGHTTP2_DATA_FLAG_EOF;
  if (!stream->out_trailers.empty()) {
    *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
    s.begin_fields();
    s.add_fields(stream->out_trailers);
    if (nghttp2_submit_trailer(session, id, s.fields.data(), s.fields.size()) != 0)
      return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  }
  return static_cast<ssize_t>(count);
}

// ---- heads -------------------------------------------------------------------------------------

void H2Session::State::begin_fields() {
  fields.clear();
  shared.text_.clear();
}

void H2Session::State::add_field(std::string_view name, std::string_view value) {
  fields.push_back({.name = mutable_bytes(name),
                    .value = mutable_bytes(value),
                    .namelen = name.size(),
                    .valuelen = value.size(),
                    .flags = NGHTTP2_NV_FLAG_NONE});
}

void H2Session::State::add_fields(const HeaderList& list) {
  // Names in lower case (RFC 9113, section 8.2.1), in memory that does not move meanwhile.
  std::string& text = shared.text_;
  std::size_t size = text.size();
  for (const Field field : list)
    size += field.name.size();
  WEIR_ASSERT(text.empty());  // one list at a time
  text.reserve(size);
  for (const auto [name, value] : list) {
    if (!is_sent(name)) continue;
    // RFC 9113, section 8.2.2: TE may say one thing only.
    if (equals_ignoring_case(name, "te") && !equals_ignoring_case(value, "trailers")) continue;
    const std::size_t at = text.size();
    for (const char c : name)
      text.push_back(lower(c));
    add_field(std::string_view{text}.substr(at), value);
  }
}

namespace {

/// The digits of a number, as long as the object lives.
class Digits {
 public:
  explicit Digits(std::uint64_t number) : digits_{number} {}
  [[nodiscard]] std::string_view text() const { return {digits_.data(), digits_.size()}; }

 private:
  fmt::format_int digits_;
};

}  // namespace

H2Stream* H2Session::open(const RequestHead& head, BodyFraming body) {
  State& s = *state_;
  if (!can_open()) return nullptr;
  const Digits length{body.length};
  s.begin_fields();
  s.add_field(":method", head.method);
  s.add_field(":scheme", s.options.secure ? "https" : "http");
  if (const auto host = head.fields.find("Host"); host && !host->empty())
    s.add_field(":authority", *host);
  s.add_field(":path", head.target);
  s.add_fields(head.fields);
  if (body.kind == BodyKind::kLength) s.add_field("content-length", length.text());
  nghttp2_data_provider provider{.source = {}, .read_callback = State::read_body};
  const bool has_body =
      body.kind == BodyKind::kChunked || (body.kind == BodyKind::kLength && body.length > 0);
  const std::int32_t id =
      nghttp2_submit_request(s.session, nullptr, s.fields.data(), s.fields.size(),
                             has_body ? &provider : nullptr, nullptr);
  if (id < 0) return nullptr;
  H2Stream& stream = s.streams[id];
  stream.id = id;
  stream.known = true;
  stream.submitted = true;
  stream.out_finished = !has_body;
  stream.head_request = head.method == "HEAD";
  ++s.shared.counters_.streams_opened;
  ++s.shared.counters_.streams;
  return &stream;
}

bool H2Session::can_open() const {
  const State& s = *state_;
  if (s.is_server() || draining()) return false;
  const std::uint32_t allowed =
      nghttp2_session_get_remote_settings(s.session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
  return s.streams.size() < std::min(allowed, s.options.streams_max) &&
         nghttp2_session_check_request_allowed(s.session) != 0;
}

void H2Session::send_interim(H2Stream& stream, const ResponseHead& head) {
  State& s = *state_;
  if (stream.closed || stream.submitted) return;
  const Digits status{number_of(head.status)};
  s.begin_fields();
  s.add_field(":status", status.text());
  s.add_fields(head.fields);
  // What cannot be queued for want of memory is not missed by anybody.
  static_cast<void>(nghttp2_submit_headers(s.session, NGHTTP2_FLAG_NONE, stream.id, nullptr,
                                           s.fields.data(), s.fields.size(), nullptr));
}

void H2Session::send_head(H2Stream& stream, const ResponseHead& head, BodyFraming body) {
  State& s = *state_;
  WEIR_ASSERT(!stream.submitted);  // one final head each
  stream.submitted = true;
  stream.out_finished =
      body.kind == BodyKind::kNone || (body.kind == BodyKind::kLength && body.length == 0);
  if (stream.closed) return;
  const Digits status{number_of(head.status)};
  const Digits length{body.length};
  s.begin_fields();
  s.add_field(":status", status.text());
  s.add_fields(head.fields);
  if (body.kind == BodyKind::kLength) {
    s.add_field("content-length", length.text());
  } else if (body.kind == BodyKind::kNone && head.status != Status::kNoContent) {
    // It describes what GET would have returned (RFC 9110, section 8.6).
    if (const auto described = head.fields.find("Content-Length"))
      s.add_field("content-length", *described);
  }
  nghttp2_data_provider provider{.source = {}, .read_callback = State::read_body};
  if (nghttp2_submit_response(s.session, stream.id, s.fields.data(), s.fields.size(),
                              stream.out_finished ? nullptr : &provider) != 0)
    s.fail(NGHTTP2_ERR_NOMEM);
}

// ---- bodies ------------------------------------------------------------------------------------

std::size_t H2Session::room(H2Stream& stream) {
  const State& s = *state_;
  if (stream.closed || stream.out_finished) return 0;
  const std::size_t held = stream.out.size();
  const auto rest = [&](std::size_t limit, std::size_t used) {
    return limit > used ? limit - used : 0;
  };
  const std::size_t room =
      std::max(std::min(rest(kOutStreamMax, held), rest(kOutSessionMax, s.out_bytes)),
               rest(kOutMinimum, held));
  stream.was_full = stream.was_full || room == 0;
  return room;
}

void H2Session::write(H2Stream& stream, std::span<const std::byte> payload) {
  State& s = *state_;
  if (stream.closed || payload.empty()) return;
  if (!s.hold(stream.out, payload)) {
    s.fail(NGHTTP2_ERR_NOMEM);
    return;
  }
  s.out_bytes += payload.size();
  s.resume(stream);
}

void H2Session::finish(H2Stream& stream, const HeaderList& trailers) {
  if (stream.out_finished || stream.closed) return;
  for (const auto [name, value] : trailers)
    stream.out_trailers.add(name, value);
  stream.out_finished = true;
  state_->resume(stream);
}

void H2Session::State::resume(H2Stream& stream) {
  if (std::exchange(stream.deferred, false) && nghttp2_session_resume_data(session, stream.id) != 0)
    fail(NGHTTP2_ERR_NOMEM);
}

void H2Session::consume(H2Stream& stream, std::size_t count) {
  State& s = *state_;
  if (count == 0) return;
  s.let_go(stream.in, count);
  if (s.broken || s.failure) return;
  if (nghttp2_session_consume(s.session, stream.id, count) != 0) s.fail(NGHTTP2_ERR_NOMEM);
}

void H2Session::release(H2Stream& stream, H2Code code) {
  State& s = *state_;
  consume(stream, stream.in.size());
  if (!stream.closed && !s.failure && !s.broken) {
    const bool has_answered = s.is_server() && stream.sent_all;
    const H2Code with = has_answered ? H2Code::kNoError : code;
    if (nghttp2_submit_rst_stream(s.session, NGHTTP2_FLAG_NONE, stream.id,
                                  static_cast<std::uint32_t>(with)) != 0)
      s.fail(NGHTTP2_ERR_NOMEM);
    if (!s.is_server() && ++s.resets_sent >= kResetsMax) s.draining = true;
  }
  s.erase(stream);
}

}  // namespace weir::http
