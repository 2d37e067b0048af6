#include "l7/proxy/exchange.h"

#include <algorithm>
#include <array>

#include "l4/base/bytes.h"

namespace weir::proxy {
namespace {

/// Room that a piece of payload needs beside itself: chunk size line, CRLF, last chunk.
constexpr std::size_t kFramingBytes = 64;
/// Interim responses to one request; a backend that sends more does not mean to answer.
constexpr std::uint32_t kInterimHeadsMax = 64;

/// The one change of protocol that is passed on; on a hop of its own, so in our words (RFC 9110,
/// section 7.8).
void add_upgrade(http::HeaderList& fields) {
  fields.add("Connection", "Upgrade");
  fields.add("Upgrade", "websocket");
}

/// Moves body bytes from one channel's input to another's output until one of them stops it.
struct BodyStep {
  bool moved = false;
  bool finished = false;
  bool malformed = false;
  bool cut = false;  // the stream ended within the body
  std::uint64_t payload_bytes = 0;
};

/// `trailers`: those that were announced.
BodyStep move_body(http::BodyDecoder& decoder, Channel& from, ByteBuffer& to,
                   http::BodyKind framing, std::string_view trailers,
                   std::vector<std::byte>& scratch) {
  BodyStep result;
  while (to.room() > kFramingBytes) {
    const auto input = from.input();
    const auto step =
        decoder.decode(input.first(std::min(input.size(), to.room() - kFramingBytes)));
    if (step.state == http::BodyDecoder::State::kPayload) {
      if (framing == http::BodyKind::kChunked) {
        scratch.clear();
        http::append_chunk_header(scratch, step.payload.size());
        to.append(scratch);
      }
      to.append(step.payload);
      if (framing == http::BodyKind::kChunked) {
        scratch.clear();
        http::append_chunk_end(scratch);
        to.append(scratch);
      }
      result.payload_bytes += step.payload.size();
    }
    from.consume(step.consumed);
    result.moved = result.moved || step.consumed > 0;
    switch (step.state) {
      case http::BodyDecoder::State::kPayload:
        continue;
      case http::BodyDecoder::State::kNeedMore:
        // Where the body ends with the connection, the end of the stream is its end.
        if (!from.input_ended() || !from.input().empty()) return result;
        result.cut = !decoder.may_close_here();
        result.finished = !result.cut;
        break;
      case http::BodyDecoder::State::kDone:
        // The trailers leave at once or not yet; asked again, the decoder says the same.
        if (!trailers.empty() && to.room() < http::kLastChunkBytesMax) return result;
        result.finished = true;
        break;
      case http::BodyDecoder::State::kError:
        result.malformed = true;
        break;
    }
    break;
  }
  if (result.finished && framing == http::BodyKind::kChunked) {
    scratch.clear();
    http::append_last_chunk(scratch, decoder.trailers(), trailers);
    to.append(scratch);
  }
  result.moved = result.moved || result.finished || result.cut || result.malformed;
  return result;
}

/// Who the client is, in fields that nobody but us may write: what came under these names, or under
/// those that other proxies use for the same, is a forgery (RFC 9440, section 2.4). After
/// hop-by-hop fields are gone, lest Connection take ours away.
void set_client_identity(http::HeaderList& fields,
                         const std::optional<tls::ClientIdentity>& identity) {
  static constexpr auto kForged = std::to_array<std::string_view>(
      {"Client-Cert", "Client-Cert-Chain", "X-Client-Cert-Subject", "X-Client-Cert",
       "X-SSL-Client-Cert", "X-SSL-Client-S-DN", "X-SSL-Client-Verify", "SSL-Client-Cert"});
  for (const std::string_view name : kForged)
    fields.remove(name);
  if (!identity) return;
  fields.add("Client-Cert", identity->certificate);
  fields.add("X-Client-Cert-Subject", identity->subject);
}

}  // namespace

bool is_idempotent(std::string_view method) {
  return method == "GET" || method == "HEAD" || method == "PUT" || method == "DELETE" ||
         method == "OPTIONS" || method == "TRACE";
}

void Exchange::begin(GenerationRef with, Instant first, Instant now) {
  generation = std::move(with);
  listener = nullptr;
  rule = nullptr;
  service = nullptr;
  upstream = {};
  endpoint = {};
  attempts = 0;
  status = 0;
  reason = Reason::kOk;
  detail = {};
  first_byte = first;
  request_deadline = attempt_deadline = kNever;
  last_progress = attempt_started = now;
  upstream_duration = {};
  request_bytes = response_bytes = 0;
  active_ = true;
  send_continue_ = head_sent_ = body_taken_ = answered_ = request_complete_ = false;
  response_started_ = response_complete_ = upstream_reusable_ = client_reusable_ = false;
  upgrade_ = tunnel_ = wants_trailers_ = false;
  interim_heads_ = 0;
  response_trailers_.clear();
  response_body_.begin({});
}

void Exchange::end() {
  active_ = false;
  generation = {};
}

void Exchange::prepare_request(http::RequestParser& parser, const http::RequestUri& uri,
                               std::string_view client_address, bool tls,
                               const std::optional<tls::ClientIdentity>& identity) {
  http::RequestHead& head = parser.head();
  client_minor_version_ = head.minor_version;
  method_ = head.method;
  head_request_ = head.method == "HEAD";
  request_framing_ = parser.framing().body;
  request_body_.begin(request_framing_);
  // The answer to Expect is ours to give: the backend is asked only after the client was. Without
  // content there is nothing to wait for (RFC 9110, section 10.1.1).
  send_continue_ =
      parser.framing().expects_continue && request_framing_.kind != http::BodyKind::kNone;
  upgrade_ = parser.framing().upgrade;
  wants_trailers_ = head.minor_version == 1 && http::lists(head.fields, "TE", "trailers");
  request_trailers_.clear();
  if (request_framing_.kind == http::BodyKind::kChunked)
    http::announced_trailers(head.fields, request_trailers_);
  http::remove_hop_by_hop(head.fields);
  set_hop_by_hop(head.fields);
  head.fields.remove("Expect");
  // RFC 9110, section 7.6.3: a gateway names itself and the version it was spoken to in.
  head.fields.add("Via", head.minor_version == 1 ? "1.1 weir" : "1.0 weir");
  http::set_forwarded(head.fields, {client_address, tls ? "https" : "http", uri.authority()});
  set_client_identity(head.fields, identity);
  head.fields.set("Host", uri.authority());
  head.target = uri.target();
  request_head_.clear();
  http::append_request_head(request_head_, head, request_framing_);
}

void Exchange::restart_request() {
  WEIR_ASSERT(replayable());
  head_sent_ = request_complete_ = false;
  // No byte of the body has been taken, so that a new decoder starts where the old one stood.
  request_body_.begin(request_framing_);
}

/// What we tell the backend about this hop, of what the client has told us about its own.
void Exchange::set_hop_by_hop(http::HeaderList& fields) const {
  if (upgrade_) add_upgrade(fields);
  if (wants_trailers_) {  // RFC 9110, section 10.1.4: Connection names it
    fields.add("Connection", "TE");
    fields.add("TE", "trailers");
  }
  if (!request_trailers_.empty()) fields.add("Trailer", request_trailers_);
}

PumpResult Exchange::pump_request(Channel& client, UpstreamConnection& to) {
  if (request_complete_ || !to.connected) return {};
  PumpResult result;
  ByteBuffer& output = to.channel.output();
  if (!head_sent_) {
    // An idle connection's output is empty, and a head is smaller than a buffer.
    if (output.room() < request_head_.size()) return result;
    output.append(request_head_);
    head_sent_ = result.moved = true;
  }
  if (send_continue_) {
    constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
    if (client.output().room() < kContinue.size()) return result;
    client.output().append(as_bytes(kContinue));
    send_continue_ = false;
  }
  const BodyStep step =
      move_body(request_body_, client, output, request_framing_.kind, request_trailers_, scratch_);
  result.moved = result.moved || step.moved;
  request_bytes += step.payload_bytes;
  body_taken_ = body_taken_ || (step.moved && request_framing_.kind != http::BodyKind::kNone);
  request_complete_ = step.finished;
  if (step.cut) result.failure = Reason::kClientReset;
  if (step.malformed) result.failure = Reason::kBadRequest;
  if (body_bytes_max != 0 && request_bytes > body_bytes_max) result.failure = Reason::kBodyTooLarge;
  return result;
}

PumpResult Exchange::pump_response(UpstreamConnection& from, Channel& client, bool keep_alive,
                                   Instant now) {
  if (response_complete_) return {};
  PumpResult result;
  while (!response_started_) {
    const PumpResult head = forward_response_head(from, client, keep_alive, now);
    if (!head.moved || head.failure != Reason::kOk) return head;
    result.moved = true;
  }
  if (tunnel_) return result;
  const BodyStep step = move_body(response_body_, from.channel, client.output(),
                                  response_framing_.kind, response_trailers_, scratch_);
  result.moved = result.moved || step.moved;
  response_bytes += step.payload_bytes;
  if (step.cut) result.failure = Reason::kUpstreamReset;
  if (step.malformed) result.failure = Reason::kUpstreamProtocol;
  if (step.finished) {
    response_complete_ = true;
    upstream_reusable_ = from.parser.framing().keep_alive && request_complete_;
    client_reusable_ =
        keep_alive && request_complete_ && response_framing_.kind != http::BodyKind::kUntilClose;
  }
  return result;
}

PumpResult Exchange::forward_response_head(UpstreamConnection& from, Channel& client,
                                           bool keep_alive, Instant now) {
  // A head must fit whole, with what we add to it; the client drains its output first.
  if (client.output().room() < kReplyRoom) return {};
  const http::ParseResult parsed = from.parser.parse(from.channel.input(), method_);
  switch (parsed.outcome) {
    case http::ParseResult::Outcome::kIncomplete:
      return {false, from.channel.input_ended() ? Reason::kUpstreamReset : Reason::kOk};
    case http::ParseResult::Outcome::kError:
      return {true, Reason::kUpstreamProtocol};
    case http::ParseResult::Outcome::kComplete:
      break;
  }
  from.channel.consume(parsed.consumed);
  answered_ = true;
  if (from.parser.framing().interim) {
    if (++interim_heads_ > kInterimHeadsMax) return {true, Reason::kUpstreamProtocol};
    // 100 was ours to say; HTTP/1.0 clients know no interim responses (RFC 9110, section 15.2).
    if (from.parser.head().status != http::Status::kContinue && client_minor_version_ == 1) {
      http::remove_hop_by_hop(from.parser.head().fields);
      scratch_.clear();
      http::append_response_head(scratch_, from.parser.head(), {});
      client.output().append(scratch_);
    }
    from.parser.reset();
    return {true, Reason::kOk};
  }
  if (from.parser.head().status == http::Status::kSwitchingProtocols)
    return begin_tunnel(from, client, now);
  upstream_duration = now - attempt_started;
  write_final_head(from, client, keep_alive);
  return {true, Reason::kOk};
}

PumpResult Exchange::begin_tunnel(UpstreamConnection& from, Channel& client, Instant now) {
  if (!upgrade_ || !from.parser.framing().upgrade) return {true, Reason::kUpstreamProtocol};
  // Bytes that the client sent before it could know of the 101 are a request to one reader and a
  // frame to another: they are neither (RFC 9110, section 7.8).
  static_cast<void>(client.fill());
  if (!client.input().empty()) {
    detail = "bytes behind an upgrade request that came before its answer";
    return {true, Reason::kBadRequest};
  }
  upstream_duration = now - attempt_started;
  http::ResponseHead& head = from.parser.head();
  status = http::number_of(head.status);
  http::remove_hop_by_hop(head.fields);
  add_upgrade(head.fields);
  scratch_.clear();
  http::append_response_head(scratch_, head, {});
  client.output().append(scratch_);
  response_started_ = tunnel_ = true;
  // From here each direction is over when its stream is; the time for a request no longer counts.
  request_complete_ = false;
  request_deadline = attempt_deadline = kNever;
  return {true, Reason::kOk};
}

void Exchange::begin_passthrough() { tunnel_ = true; }

bool Exchange::pump_tunnel(Channel& client, Channel& backend) {
  bool moved = client.fill();
  moved = backend.fill() || moved;
  const auto pass = [&](Channel& from, Channel& to, std::uint64_t& passed, bool& ended) {
    const std::size_t count = std::min(from.input().size(), to.output().room());
    if (count > 0) {
      to.output().append(from.input().first(count));
      from.consume(count);
      passed += count;
      moved = true;
    }
    moved = to.flush() || moved;
    if (ended || !from.input_ended() || !from.input().empty() || !to.drained()) return;
    ended = to.close_output();
    moved = moved || ended;
  };
  pass(client, backend, request_bytes, request_complete_);
  pass(backend, client, response_bytes, response_complete_);
  response_started_ = response_started_ || response_bytes > 0;
  return moved;
}

void Exchange::write_final_head(UpstreamConnection& from, Channel& client, bool keep_alive) {
  http::ResponseHead& head = from.parser.head();
  const http::ResponseFraming& framing = from.parser.framing();
  response_body_.begin(framing.body);
  response_framing_ = http::reframed_for_client(framing.body, client_minor_version_);
  status = http::number_of(head.status);
  if (wants_trailers_ && framing.body.kind == http::BodyKind::kChunked)
    http::announced_trailers(head.fields, response_trailers_);
  http::remove_hop_by_hop(head.fields);
  if (!response_trailers_.empty()) head.fields.add("Trailer", response_trailers_);
  const bool reusable = keep_alive && response_framing_.kind != http::BodyKind::kUntilClose;
  if (!reusable)
    head.fields.set("Connection", "close");
  else if (client_minor_version_ == 0)
    head.fields.set("Connection", "keep-alive");
  scratch_.clear();
  http::append_response_head(scratch_, head, response_framing_);
  client.output().append(scratch_);
  response_started_ = true;
}

}  // namespace weir::proxy
