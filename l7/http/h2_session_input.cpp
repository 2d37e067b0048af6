#include <algorithm>
#include <array>

#include "l4/base/assert.h"
#include "l4/base/bytes.h"
#include "l7/http/characters.h"
#include "l7/http/h2_session_state.h"

namespace weir::http {
namespace {

std::string_view text_of(const std::uint8_t* text, std::size_t size) {
  // char may alias anything, and the view does not outlive the call.
  return {reinterpret_cast<const char*>(text), size};
}

constexpr Refusal bad_request(std::string_view reason) { return {Status::kBadRequest, reason}; }

/// RFC 9113, section 6.5.2: what a field counts for in the size of a list.
constexpr std::size_t kFieldOverhead = 32;
constexpr std::size_t kMethodBytesMax = 32;    // as in HTTP/1.1
constexpr std::size_t kFrameBytesMax = 16384;  // we have announced no other

/// Whether a message of that status has no body whatever its fields say.
bool is_without_body(Status status) {
  return number_of(status) < 200 || status == Status::kNoContent || status == Status::kNotModified;
}

/// The body that follows a head; `otherwise` where the head does not say how long it is.
std::optional<BodyFraming> body_of(const HeaderList& fields, bool ended, BodyFraming when_ended) {
  const std::size_t lengths = fields.count("content-length");
  if (lengths > 1) return std::nullopt;
  if (lengths == 0) return ended ? when_ended : BodyFraming{BodyKind::kChunked, 0};
  const auto length = parse_content_length(*fields.find("content-length"));
  if (!length) return std::nullopt;
  return BodyFraming{BodyKind::kLength, *length};
}

std::optional<std::uint64_t> length_of(BodyFraming body) {
  return body.kind == BodyKind::kLength ? std::optional{body.length} : std::nullopt;
}

}  // namespace

void H2Session::State::set_input_callbacks(nghttp2_session_callbacks* callbacks) {
  nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
  nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
  nghttp2_session_callbacks_set_on_invalid_header_callback(callbacks, on_invalid_header);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
  nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid_frame);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
  // Frames of unknown types have been counted when they begin; what is in them is not looked at.
  nghttp2_session_callbacks_set_on_extension_chunk_recv_callback(
      callbacks,
      [](nghttp2_session*, const nghttp2_frame_hd*, const std::uint8_t*, std::size_t,
         void*) -> int { return NGHTTP2_ERR_CANCEL; });
  nghttp2_session_callbacks_set_unpack_extension_callback(
      callbacks, [](nghttp2_session*, void**, const nghttp2_frame_hd*, void*) -> int {
        return NGHTTP2_ERR_CANCEL;
      });
}

int H2Session::State::abused(H2Abuse what) {
  abuse = what;
  return NGHTTP2_ERR_CALLBACK_FAILURE;
}

int H2Session::State::malformed(H2Stream& stream) {
  stream.malformed = true;
  ++shared.counters_.streams_malformed;
  // A session that has no memory for this ends soon.
  static_cast<void>(
      nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream.id, NGHTTP2_PROTOCOL_ERROR));
  return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

// ---- frames ------------------------------------------------------------------------------------

int H2Session::State::on_begin_frame(nghttp2_session*, const nghttp2_frame_hd* frame, void* self) {
  return static_cast<State*>(self)->take_frame_header(*frame);
}

int H2Session::State::take_frame_header(const nghttp2_frame_hd& frame) {
  const bool is_ack = (frame.flags & NGHTTP2_FLAG_ACK) != 0;
  const auto within = [&](RateBudget& budget, H2Abuse what) {
    return budget.spend(now) ? 0 : abused(what);
  };
  switch (frame.type) {
    case NGHTTP2_DATA:
      pings.refund(1);  // gRPC measures the path by a PING now and then while data comes
      return 0;
    case NGHTTP2_HEADERS:
      return check_headers(frame);
    case NGHTTP2_CONTINUATION:
      // RFC 9113, section 4.2; nghttp2 1.52 does not look at the length of these.
      if (frame.length > kFrameBytesMax) {
        escalation = H2Code::kFrameSizeError;
        return NGHTTP2_ERR_CALLBACK_FAILURE;
      }
      return ++continuations > kContinuationsMax ? abused(H2Abuse::kContinuation) : 0;
    case NGHTTP2_PUSH_PROMISE:
      return 0;
    case NGHTTP2_GOAWAY:
      return is_server() ? within(settings, H2Abuse::kSettings) : 0;
    case NGHTTP2_RST_STREAM:
      // An endpoint's resets are answered by its own health, not by ours.
      return is_server() ? within(resets, H2Abuse::kRapidReset) : 0;
    case NGHTTP2_PING:
      // We ask once, when we leave.
      return is_ack && draining ? 0 : within(pings, H2Abuse::kPing);
    case NGHTTP2_SETTINGS:
      return is_ack ? 0 : within(settings, H2Abuse::kSettings);
    case NGHTTP2_PRIORITY:
      // RFC 9113, section 6.3. nghttp2 does not look at it where there are no priorities.
      if (frame.stream_id == 0) return connection_error(H2Code::kProtocolError);
      return within(priorities, H2Abuse::kPriority);
    case NGHTTP2_WINDOW_UPDATE:
      return within(window_updates, H2Abuse::kWindowUpdate);
    default:
      return within(unknown_frames, H2Abuse::kUnknownFrame);
  }
}

/// Which streams may have HEADERS: nghttp2 ignores those for streams that are over.
int H2Session::State::check_headers(const nghttp2_frame_hd& frame) {
  continuations = 0;
  const std::int32_t id = frame.stream_id;
  if (!is_server()) return is_over(id) ? refuse_late_frame(id) : 0;
  if (id == 0 || id % 2 == 0) return 0;  // an error of its own
  if (id > last_id) {
    last_id = id;
    return 0;
  }
  if (nghttp2_session_find_stream(session, id) != nullptr) return 0;
  const Closed* const over = find_closed(id);
  // RFC 9113, section 5.1.1: a stream below others that was never used is no more to be used.
  if (over == nullptr) return connection_error(H2Code::kProtocolError);
  return over->by_us ? 0 : connection_error(H2Code::kStreamClosed);
}

/// Whether a stream of the client's has been used and is no more. What we have left out by a GOAWAY
/// never was (RFC 9113, section 6.8), and what waits to be opened is not yet.
bool H2Session::State::is_over(std::int32_t id) {
  if (id % 2 == 0) return false;
  const bool was_used =
      is_server() ? id <= nghttp2_session_get_last_proc_stream_id(session)
                  : static_cast<std::uint32_t>(id) < nghttp2_session_get_next_stream_id(session);
  if (!was_used || nghttp2_session_find_stream(session, id) != nullptr) return false;
  const H2Stream* const stream = find(id);
  return stream == nullptr || stream->closed;
}

/// A frame for a stream that is over, which nghttp2 would ignore: an error of that stream, said
/// once (RFC 9113, sections 5.1 and 6.1), unless whoever sent it may not have heard of our reset.
int H2Session::State::refuse_late_frame(std::int32_t id) {
  Closed* const over = find_closed(id);
  if (over != nullptr && over->by_us) return 0;
  if (over != nullptr)
    over->by_us = true;
  else
    note_closed(id, true);
  const int error =
      nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, NGHTTP2_STREAM_CLOSED);
  return error == 0 ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

H2Session::State::Closed* H2Session::State::find_closed(std::int32_t id) {
  auto* const found =
      std::find_if(closed.begin(), closed.end(), [&](const Closed& one) { return one.id == id; });
  return found == closed.end() ? nullptr : found;
}

int H2Session::State::connection_error(H2Code code) {
  escalation = code;
  return NGHTTP2_ERR_CALLBACK_FAILURE;
}

void H2Session::State::note_closed(std::int32_t id, bool by_us) {
  closed[closed_at] = {id, by_us};
  closed_at = (closed_at + 1) % closed.size();
}

int H2Session::State::on_frame(nghttp2_session*, const nghttp2_frame* frame, void* self) {
  State& s = *static_cast<State*>(self);
  const bool ends = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
  switch (frame->hd.type) {
    case NGHTTP2_HEADERS: {
      s.head_open = 0;
      H2Stream* const stream = s.find(frame->hd.stream_id);
      return stream == nullptr ? 0 : s.end_headers(*stream, ends);
    }
    case NGHTTP2_DATA: {
      if (frame->hd.length == frame->data.padlen && !ends && !s.empty_frames.spend(s.now))
        return s.abused(H2Abuse::kEmptyFrame);
      H2Stream* const stream = s.find(frame->hd.stream_id);
      return stream == nullptr || !ends ? 0 : s.end_of_peer(*stream);
    }
    case NGHTTP2_PING:
      if ((frame->hd.flags & NGHTTP2_FLAG_ACK) != 0 && s.draining) s.submit_goaway();
      return 0;
    case NGHTTP2_GOAWAY:
      s.goaway_received = H2Code{frame->goaway.error_code};
      ++s.shared.counters_.goaways_received;
      return 0;
    default:
      return 0;
  }
}

int H2Session::State::on_invalid_frame(nghttp2_session*, const nghttp2_frame* frame, int,
                                       void* self) {
  State& s = *static_cast<State*>(self);
  s.head_open = 0;
  // A stream that is refused at its beginning never was one to nghttp2.
  if (frame->hd.type == NGHTTP2_HEADERS &&
      nghttp2_session_find_stream(s.session, frame->hd.stream_id) == nullptr)
    s.note_closed(frame->hd.stream_id, true);
  if (H2Stream* const stream = s.find(frame->hd.stream_id); stream != nullptr) {
    if (!stream->malformed) ++s.shared.counters_.streams_malformed;
    stream->malformed = true;
  }
  return 0;
}

int H2Session::State::on_data(nghttp2_session*, std::uint8_t, std::int32_t id,
                              const std::uint8_t* data, std::size_t size, void* self) {
  State& s = *static_cast<State*>(self);
  H2Stream* const stream = s.find(id);
  if (stream == nullptr)
    return nghttp2_session_consume(s.session, id, size) == 0 ? 0 : NGHTTP2_ERR_NOMEM;
  if (!s.hold(stream->in, std::as_bytes(std::span{data, size}))) return s.abused(H2Abuse::kMemory);
  // nghttp2 lets no more come.
  if (stream->in_left) *stream->in_left -= std::min<std::uint64_t>(*stream->in_left, size);
  s.mark(*stream);
  return 0;
}

int H2Session::State::on_stream_close(nghttp2_session*, std::int32_t id, std::uint32_t code,
                                      void* self) {
  State& s = *static_cast<State*>(self);
  if (s.head_open == id) s.head_open = 0;
  // With what was sent by us in the stream's last moments: the peer may not have heard of it yet.
  s.note_closed(id, s.reset_id == id);
  H2Stream* const stream = s.find(id);
  if (stream == nullptr) return 0;
  stream->closed = true;
  stream->close_code = H2Code{code};
  s.out_bytes -= stream->out.size();
  s.let_go(stream->out, stream->out.size());  // nobody is there to take it
  // One that its owner has never heard of, or not yet, needs no answer any more.
  const bool is_told = stream->known;
  if (is_told)
    s.mark(*stream);
  else
    s.erase(*stream);
  return 0;
}

// ---- fields ------------------------------------------------------------------------------------

int H2Session::State::on_begin_headers(nghttp2_session*, const nghttp2_frame* frame, void* self) {
  State& s = *static_cast<State*>(self);
  const std::int32_t id = frame->hd.stream_id;
  if (frame->hd.type != NGHTTP2_HEADERS) return 0;
  s.head_open = id;
  if (s.is_server() && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
    s.streams[id].id = id;
    ++s.shared.counters_.streams_opened;
    ++s.shared.counters_.streams;
  }
  if (H2Stream* const stream = s.find(id); stream != nullptr) stream->head_bytes = 0;
  return 0;
}

int H2Session::State::on_header(nghttp2_session*, const nghttp2_frame* frame,
                                const std::uint8_t* name, std::size_t name_size,
                                const std::uint8_t* value, std::size_t value_size, std::uint8_t,
                                void* self) {
  State& s = *static_cast<State*>(self);
  H2Stream* const stream = s.find(frame->hd.stream_id);
  if (stream == nullptr || stream->malformed) return 0;
  return s.take_field(*stream, {text_of(name, name_size), text_of(value, value_size)});
}

int H2Session::State::on_invalid_header(nghttp2_session*, const nghttp2_frame* frame,
                                        const std::uint8_t*, std::size_t, const std::uint8_t*,
                                        std::size_t, std::uint8_t, void* self) {
  // nghttp2 would leave the field out. The message is malformed (RFC 9113, section 8.2.1).
  State& s = *static_cast<State*>(self);
  H2Stream* const stream = s.find(frame->hd.stream_id);
  if (stream == nullptr) return 0;
  return stream->malformed ? NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE : s.malformed(*stream);
}

int H2Session::State::take_field(H2Stream& stream, Field field) {
  stream.head_bytes += field.name.size() + field.value.size() + kFieldOverhead;
  if (stream.head_bytes > kHeaderBombFactor * options.limits.header_bytes)
    return abused(H2Abuse::kHeaderList);
  if (stream.head_read) return take_trailer(stream, field);
  if (field.name.starts_with(':')) return take_pseudo_field(stream, field);
  if (is_server()) {
    take_request_field(stream, field);
    return 0;
  }
  HeaderList& list = stream.response.fields;
  if (stream.head_bytes > options.limits.header_bytes || list.size() >= options.limits.fields_max)
    return malformed(stream);
  if (!all_in(field.name, kTokenCharacter) || !is_field_value(field.value))
    return malformed(stream);
  list.add(field.name, field.value);
  return 0;
}

/// nghttp2 has seen to it that each comes once, in front of the others and in the right message.
int H2Session::State::take_pseudo_field(H2Stream& stream, Field field) {
  if (!is_server()) {
    const auto code = parse_content_length(field.value);  // three digits, says nghttp2
    if (!code || *code < 100 || *code > 599) return malformed(stream);
    stream.response.status = Status{static_cast<std::uint16_t>(*code)};
    return 0;
  }
  if (stream.head_bytes > options.limits.header_bytes) {
    const bool is_path = field.name == ":path";
    stream.refusal = {is_path ? Status::kUriTooLong : Status::kHeaderFieldsTooLarge,
                      is_path ? "the request target is too long" : "the request head is too long"};
    return 0;
  }
  if (field.name == ":method") {
    stream.request.method.assign(field.value);
    if (!is_token(field.value)) return malformed(stream);
    if (field.value.size() > kMethodBytesMax)
      stream.refusal = {Status::kNotImplemented, "the method is longer than any known one"};
  } else if (field.name == ":path") {
    stream.request.target.assign(field.value);
    if (field.value.size() > options.limits.target_bytes)
      stream.refusal = {Status::kUriTooLong, "the request target is too long"};
  } else if (field.name == ":authority") {
    stream.authority.assign(field.value);
    // First, where a reader of HTTP/1.1 looks for it; a Host behind it adds nothing.
    stream.request.fields.add("Host", field.value);
  } else if (field.name == ":scheme") {
    stream.scheme.assign(field.value);
  } else if (field.name == ":protocol") {
    stream.protocol.assign(field.value);
  }
  return 0;
}

void H2Session::State::take_request_field(H2Stream& stream, Field field) {
  if (stream.refusal) return;
  HeaderList& list = stream.request.fields;
  if (stream.head_bytes > options.limits.header_bytes) {
    stream.refusal = {Status::kHeaderFieldsTooLarge, "the request head is too long"};
  } else if (list.size() >= options.limits.fields_max) {
    stream.refusal = {Status::kHeaderFieldsTooLarge, "too many header fields"};
  } else if (!all_in(field.name, kRequestNameCharacter)) {
    stream.refusal = bad_request("an underscore in a field name");
  } else if (!is_field_value(field.value)) {
    stream.refusal = bad_request("a control byte in the head");
  } else if (field.name == "host" && list.contains("host")) {
    // RFC 9113, section 8.3.1: whoever reads the other one must not find another server.
    if (stream.authority.empty())
      stream.refusal = bad_request("more than one Host");
    else if (!equals_ignoring_case(field.value, stream.authority))
      stream.refusal = bad_request("Host and :authority differ");
  } else if (field.name == "cookie") {
    // RFC 9113, section 8.2.3: for whoever reads one Cookie only.
    if (!stream.cookies.empty()) stream.cookies.append("; ");
    stream.cookies.append(field.value);
  } else {
    list.add(field.name, field.value);
  }
}

int H2Session::State::take_trailer(H2Stream& stream, Field field) {
  const bool fits =
      stream.head_bytes <= kTrailerBytesMax && stream.trailers.size() < kTrailerFieldsMax;
  if (!fits || !is_token(field.name) || !is_field_value(field.value)) return malformed(stream);
  stream.trailers.add(field.name, field.value);
  return 0;
}

// ---- ends --------------------------------------------------------------------------------------

int H2Session::State::end_of_peer(H2Stream& stream) {
  stream.peer_ended = true;
  stream.head_complete = stream.head_read;
  mark(stream);
  return 0;
}

int H2Session::State::end_headers(H2Stream& stream, bool ends) {
  if (stream.malformed) return 0;
  // RFC 9113, section 8.5: in a tunnel there is nothing but data.
  if (stream.head_read && stream.tunnel) {
    static_cast<void>(malformed(stream));
    return 0;
  }
  if (stream.head_read) return ends ? end_of_peer(stream) : 0;
  return is_server() ? end_request_head(stream, ends) : end_response_head(stream, ends);
}

namespace {

/// What the fields of a well-formed request cannot show one by one.
std::optional<Refusal> request_refusal(const RequestHead& head, std::string_view scheme,
                                       std::string_view protocol) {
  const bool is_connect = head.method == "CONNECT";
  if (is_connect && !protocol.empty() && !equals_ignoring_case(protocol, "websocket"))
    return Refusal{Status::kNotImplemented, "a protocol other than websocket"};
  if (!head.fields.contains("host")) return bad_request("neither :authority nor Host");
  if (is_connect && protocol.empty()) return std::nullopt;  // has no scheme and no path
  if (scheme != "http" && scheme != "https")
    return bad_request("a scheme other than http and https");
  if (!all_in(head.target, kTargetCharacter))
    return bad_request("the request target has a character that must be escaped");
  // An absolute URI would be a second authority.
  if (!head.target.starts_with('/') && !(head.target == "*" && head.method == "OPTIONS"))
    return bad_request("the request target is no path");
  const std::size_t expectations = head.fields.count("expect");
  if (expectations > 1 ||
      (expectations == 1 && !equals_ignoring_case(*head.fields.find("expect"), "100-continue")))
    return Refusal{Status::kExpectationFailed, "an expectation other than 100-continue"};
  return std::nullopt;
}

}  // namespace

int H2Session::State::end_request_head(H2Stream& stream, bool ends) {
  RequestHead& head = stream.request;
  const auto body = body_of(head.fields, ends, {});
  if (!body) {
    static_cast<void>(malformed(stream));
    return 0;
  }
  if (!stream.refusal) stream.refusal = request_refusal(head, stream.scheme, stream.protocol);
  if (!stream.cookies.empty()) head.fields.add("Cookie", stream.cookies);
  stream.tunnel = head.method == "CONNECT";
  stream.websocket = stream.tunnel && !stream.protocol.empty();
  if (stream.tunnel && !stream.websocket) head.target = stream.authority;
  if (stream.websocket) head.method = "GET";
  stream.request_framing = {
      .body = stream.websocket ? BodyFraming{} : *body,
      .keep_alive = true,
      .expects_continue = !ends && head.fields.contains("expect"),
      .upgrade = stream.websocket,
  };
  stream.in_left = length_of(stream.request_framing.body);
  stream.head_read = true;
  stream.head_complete = ends || stream.in_left != 0 || stream.tunnel || stream.refusal;
  stream.peer_ended = ends;
  if (stream.head_complete) mark(stream);
  // Streams whose client has no opinion take turns; by RFC 9218 one would wait for another's end.
  constexpr nghttp2_extpri kInTurn{NGHTTP2_EXTPRI_DEFAULT_URGENCY, 1};
  if (!head.fields.contains("priority"))
    return nghttp2_session_change_extpri_stream_priority(session, stream.id, &kInTurn, 0);
  return 0;
}

int H2Session::State::end_response_head(H2Stream& stream, bool ends) {
  ResponseHead& head = stream.response;
  mark(stream);
  if (number_of(head.status) < 200) {
    // RFC 9113, section 8.6: HTTP/2 has no 101. nghttp2 lets none of these end a stream.
    const bool is_wrong = head.status == Status::kSwitchingProtocols || ends;
    if (is_wrong || stream.interim.size() == kInterimMax) {
      static_cast<void>(malformed(stream));
      return 0;
    }
    stream.interim.push_back(std::move(head));
    head.clear();
    return 0;
  }
  const auto body = body_of(head.fields, ends, {});
  if (!body) {
    static_cast<void>(malformed(stream));
    return 0;
  }
  const bool no_body = stream.head_request || is_without_body(head.status);
  stream.response_framing = {.body = no_body ? BodyFraming{} : *body, .keep_alive = true};
  stream.in_left = length_of(stream.response_framing.body);
  stream.head_read = true;
  stream.head_complete = ends || stream.in_left != 0;
  stream.peer_ended = ends;
  return 0;
}

}  // namespace weir::http
