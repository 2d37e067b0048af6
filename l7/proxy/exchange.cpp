#include "l7/proxy/exchange.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

#include "l4/base/bytes.h"
#include "l4/base/random.h"
#include "l7/proxy/address_text.h"
#include "l7/proxy/forwarded.h"
#include "l7/proxy/grpc.h"
#include "l7/proxy/mirror.h"

namespace weir::proxy {
namespace {

/// Interim responses to one request; a backend that sends more does not mean to answer.
constexpr std::uint32_t kInterimHeadsMax = 64;

/// The one change of protocol that is passed on; on a hop of its own, so in our words (RFC 9110,
/// section 7.8).
void add_upgrade(http::HeaderList& fields) {
  fields.add("Connection", "Upgrade");
  fields.add("Upgrade", "websocket");
}

/// What a client of HTTP/1 would have sent: 16 bytes in base64 (RFC 6455, section 4.1). Over HTTP/2
/// there is no key (RFC 8441, section 5.1).
void add_websocket_key(http::HeaderList& fields, Random& random) {
  constexpr std::string_view kLetters =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::array<char, 24> key{};
  for (std::size_t i = 0; i < 21; ++i)
    key[i] = kLetters[random.below(64)];
  key[21] = "AQgw"[random.below(4)];  // two bits of the last byte
  key[22] = key[23] = '=';
  fields.set("Sec-WebSocket-Key", {key.data(), key.size()});
}

/// Moves body bytes from one leg to the other until one of them stops it.
struct BodyStep {
  bool moved = false;
  bool finished = false;
  bool malformed = false;
  bool cut = false;  // the stream ended within the body
  std::uint64_t payload_bytes = 0;
};

BodyStep move_body(Leg& from, Leg& to, const TrailerRule& rule, MirrorRequest* mirror = nullptr) {
  BodyStep result;
  while (const std::size_t room = to.room()) {
    const BodyPiece piece = from.read(room);
    result.moved = result.moved || piece.moved;
    switch (piece.state) {
      case BodyPiece::State::kPayload:
        to.write(piece.payload);
        if (mirror != nullptr) mirror->add(piece.payload);
        result.payload_bytes += piece.payload.size();
        from.taken(piece);
        continue;
      case BodyPiece::State::kNothingYet:
        return result;
      case BodyPiece::State::kEnd:
        // The end leaves at once or not yet; asked again, the other leg says the same.
        result.finished = to.finish(from.trailers(), rule);
        break;
      case BodyPiece::State::kCut:
        result.cut = true;
        break;
      case BodyPiece::State::kMalformed:
        result.malformed = true;
        break;
    }
    break;
  }
  result.moved = result.moved || result.finished || result.cut || result.malformed;
  return result;
}

/// Whether the head says it all, so that no body is written.
bool is_empty(http::BodyFraming body) {
  return body.kind == http::BodyKind::kNone ||
         (body.kind == http::BodyKind::kLength && body.length == 0);
}

/// Who the client is, in fields that nobody but us may write: what came under these names, or under
/// those that other proxies use for the same, is a forgery (RFC 9440, section 2.4). After
/// hop-by-hop fields are gone, lest Connection take ours away.
void set_client_identity(http::HeaderList& fields,
                         const std::optional<tls::ClientIdentity>& identity) {
  fields.remove_if(http::tells_client_identity);
  if (!identity) return;
  fields.add("Client-Cert", identity->certificate);
  fields.add("X-Client-Cert-Subject", identity->subject);
}

}  // namespace

bool is_idempotent(std::string_view method) {
  return method == "GET" || method == "HEAD" || method == "PUT" || method == "DELETE" ||
         method == "OPTIONS" || method == "TRACE";
}

void Exchange::from_h1(Channel& channel, http::RequestHead& head,
                       const http::RequestFraming& framing) {
  client_h1_.attach(channel, nullptr);
  client_ = &client_h1_;
  head_ = &head;
  framing_ = &framing;
}

void Exchange::from_h2(http::H2Session& session, http::H2Stream& stream) {
  client_h2_.attach(session, stream);
  client_ = &client_h2_;
  head_ = &stream.request;
  framing_ = &stream.request_framing;
}

void Exchange::begin(GenerationRef with, const ClientFacts& from, Instant first, Instant now) {
  generation = std::move(with);
  facts = &from;
  listener = nullptr;
  forwarded_for.reset();
  rule = nullptr;
  prefix_size = 0;
  max_forwards.reset();
  service = nullptr;
  upstream = {};
  endpoint = {};
  endpoint_index = 0;
  holds_endpoint = retrying = gives_session = false;
  sticky.reset();
  hash.reset();
  tried.clear();
  attempts = retries = stale_tries = 0;
  pause = Pause::kNone;
  rejects = nullptr;
  status = 0;
  reason = Reason::kOk;
  detail = {};
  first_byte = first;
  request_deadline = attempt_deadline = connect_deadline = kNever;
  last_progress = attempt_started = now;
  upstream_duration = tls_duration = wait_duration = connect_duration = {};
  paused_at = {};
  trace.reset();
  request_id.reset();
  values_left_out = 0;
  is_aborted = is_mirror_ = false;
  mirror = nullptr;
  request_bytes = response_bytes = 0;
  body_rate.stop();
  body_is_due = only_listens = false;
  active_ = true;
  grpc_ = is_h2() && proxy::is_grpc(head_->fields);
  send_continue_ = head_sent_ = body_taken_ = answered_ = request_complete_ = false;
  response_started_ = response_complete_ = upstream_reusable_ = client_reusable_ = false;
  upgrade_ = tunnel_ = wants_trailers_ = event_stream_ = false;
  interim_heads_ = 0;
  response_trailers_.clear();
  upstream_ = nullptr;
}

void Exchange::begin_mirror(Leg& source, http::RequestHead& head,
                            const http::RequestFraming& framing, const ClientFacts& from,
                            const Exchange& original, Instant now) {
  client_ = &source;
  head_ = &head;
  framing_ = &framing;
  begin(original.generation, from, now, now);
  is_mirror_ = true;
  listener = original.listener;
  forwarded_for = original.forwarded_for;
  uri = original.uri;
  client_minor_version_ = 1;
  method_ = head.method;
  request_framing_ = framing.body;
  request_trailers_.clear();
}

void Exchange::end() {
  active_ = false;
  generation = {};
}

std::string_view Exchange::protocol() const {
  if (passes_through()) return "TLS";
  if (is_h2()) return "HTTP/2";
  return head_->minor_version == 0 ? "HTTP/1.0" : "HTTP/1.1";
}

void Exchange::prepare_request(const std::optional<tls::ClientIdentity>& identity, Random& random,
                               std::string& scratch) {
  http::RequestHead& head = *head_;
  client_minor_version_ = head.minor_version;
  method_ = head.method;
  request_framing_ = framing_->body;
  client_->begin_body(request_framing_);
  // The answer to Expect is ours to give: the backend is asked only after the client was. Without
  // content there is nothing to wait for (RFC 9110, section 10.1.1).
  send_continue_ = framing_->expects_continue && request_framing_.kind != http::BodyKind::kNone;
  upgrade_ = framing_->upgrade;
  wants_trailers_ = head.minor_version == 1 && http::lists(head.fields, "TE", "trailers");
  request_trailers_.clear();
  if (request_framing_.kind == http::BodyKind::kChunked)
    http::announced_trailers(head.fields, request_trailers_);
  http::remove_hop_by_hop(head.fields);
  set_hop_by_hop(head.fields, random);
  head.fields.remove("Expect");
  // Behind what Connection could take away.
  if (max_forwards) {
    std::array<char, std::numeric_limits<std::uint32_t>::digits10 + 1> digits{};
    const auto written = std::to_chars(digits.data(), digits.data() + digits.size(), *max_forwards);
    head.fields.set("Max-Forwards", {digits.data(), written.ptr});
  }
  // RFC 9110, section 7.6.3: a gateway names itself and the version it was spoken to in.
  const std::string_view via = is_h2()                   ? "2 weir"
                               : head.minor_version == 1 ? "1.1 weir"
                                                         : "1.0 weir";
  head.fields.add("Via", via);
  const http::ForwardedFor seen{facts->client_text, facts->bind->tls ? "https" : "http",
                                uri.authority()};
  describe_client(head.fields, read_claim(head.fields, facts->client.address, listener->forwarded),
                  seen, scratch);
  values_left_out += rule->request_headers.apply(head.fields, {*this});
  // Behind what a route adds: nobody but us says who the client is.
  set_client_identity(head.fields, identity);
  // A client of HTTP/1.0 may name no host: it means whom it has connected to (RFC 9112,
  // section 3.3).
  head.fields.set("Host", uri.authority().empty() ? AddressText{facts->vip}.view()
                                                  : std::string_view{uri.authority()});
  head.target = uri.target();
  if (rule->rewrite) rewrite_target(head);
}

/// X-Forwarded-Host keeps what the client has asked for.
void Exchange::rewrite_target(http::RequestHead& head) const {
  const control::Rewrite& rewrite = *rule->rewrite;
  if (rewrite.hostname) head.fields.set("Host", *rewrite.hostname);
  if (rewrite.path.kind == control::PathEdit::Kind::kKeep || !uri.path().starts_with('/')) return;
  const PathPattern* const pattern = rule->path_pattern ? &*rule->path_pattern : nullptr;
  head.target = edited_path(rewrite.path, pattern, uri.path(), prefix_size);
  head.target.append(uri.query());
}

void Exchange::to_h1(Channel& channel, http::ResponseParser& parser) {
  upstream_h1_.attach(channel, &parser);
  upstream_ = &upstream_h1_;
  restart_request();
}

void Exchange::to_h2(http::H2Session& session) {
  upstream_h2_.attach(session, id.raw());
  upstream_ = &upstream_h2_;
  restart_request();
}

void Exchange::release_stream() {
  // An answer that is complete leaves nothing to cancel, though its request may be on its way.
  if (is_to_h2())
    upstream_h2_.release(response_complete_ ? http::H2Code::kNoError : http::H2Code::kCancel);
}

bool Exchange::stream_was_refused() const { return is_to_h2() && upstream_h2_.was_refused(); }

void Exchange::restart_request() {
  WEIR_ASSERT(replayable());
  head_sent_ = request_complete_ = false;
  // No byte of the body has been taken, so that a new decoder starts where the old one stood.
  client_->begin_body(request_framing_);
}

/// What we tell the backend about this hop, of what the client has told us about its own.
void Exchange::set_hop_by_hop(http::HeaderList& fields, Random& random) const {
  if (upgrade_) add_upgrade(fields);
  if (upgrade_ && is_h2()) {
    add_websocket_key(fields, random);
    if (!fields.contains("Sec-WebSocket-Version")) fields.add("Sec-WebSocket-Version", "13");
  }
  if (wants_trailers_) {  // RFC 9110, section 10.1.4: Connection names it
    fields.add("Connection", "TE");
    fields.add("TE", "trailers");
  }
  if (!request_trailers_.empty()) fields.add("Trailer", request_trailers_);
}

PumpResult Exchange::pump_request() {
  if (request_complete_) return {};
  PumpResult result;
  if (is_connect()) {
    if (head_sent_) return result;
    head_sent_ = request_complete_ = true;
    return {true, Reason::kOk};
  }
  if (!head_sent_) {
    if (!upstream_->head_room()) return result;
    if (!upstream_->send_request(*head_, request_framing_)) return {true, Reason::kConnectFailed};
    head_sent_ = result.moved = true;
  }
  if (send_continue_) {
    if (!client_->head_room()) return result;
    http::ResponseHead go_on;
    go_on.status = http::Status::kContinue;
    go_on.reason = "Continue";
    client_->send_interim(go_on);
    send_continue_ = false;
  }
  if (is_empty(request_framing_)) {
    request_complete_ = true;
    return {true, Reason::kOk};
  }
  const BodyStep step = move_body(
      *client_, *upstream_, {.all = is_h2() && is_to_h2(), .announced = request_trailers_}, mirror);
  result.moved = result.moved || step.moved;
  request_bytes += step.payload_bytes;
  body_taken_ = body_taken_ || step.moved;
  request_complete_ = step.finished;
  if (step.cut) result.failure = Reason::kClientReset;
  if (step.malformed) {
    result.failure = Reason::kBadRequest;
    detail = client_->why();
  }
  if (body_bytes_max != 0 && request_bytes + client_->promised() > body_bytes_max)
    result.failure = Reason::kBodyTooLarge;
  return result;
}

PumpResult Exchange::pump_response(Instant now, std::string_view date) {
  if (response_complete_ || !head_sent_) return {};
  PumpResult result;
  while (!response_started_) {
    const PumpResult head = is_connect() ? begin_connect(now) : forward_response_head(now, date);
    if (!head.moved || head.failure != Reason::kOk || head.unwanted) return head;
    result.moved = true;
  }
  if (tunnel_) return result;
  BodyStep step;
  if (is_empty(response_framing_))
    step.finished = step.moved = true;
  else
    step = move_body(*upstream_, *client_,
                     {.all = is_h2() && is_to_h2(), .announced = response_trailers_});
  result.moved = result.moved || step.moved;
  response_bytes += step.payload_bytes;
  if (step.cut) result.failure = Reason::kUpstreamReset;
  if (step.malformed) result.failure = Reason::kUpstreamProtocol;
  if (step.cut || step.malformed) detail = upstream_->why();
  if (step.finished) {
    response_complete_ = true;
    upstream_reusable_ = upstream_->framing().keep_alive && request_complete_;
    client_reusable_ = keep_alive && response_framing_.kind != http::BodyKind::kUntilClose;
  }
  return result;
}

PumpResult Exchange::forward_response_head(Instant now, std::string_view date) {
  // A head must fit whole, with what we add to it; the client drains its output first.
  if (!client_->head_room()) return {};
  const HeadState state = upstream_->read_head(method_);
  switch (state) {
    case HeadState::kNothingYet:
      return {};
    case HeadState::kCut:
      detail = upstream_->why();
      return {false, Reason::kUpstreamReset};
    case HeadState::kMalformed:
      detail = upstream_->why();
      return {true, Reason::kUpstreamProtocol};
    case HeadState::kInterim:
    case HeadState::kFinal:
      break;
  }
  http::ResponseHead& head = upstream_->response();
  const bool unwanted = state == HeadState::kFinal && rejects != nullptr && replayable() &&
                        rejects->covers(http::number_of(head.status));
  if (unwanted) {
    status = http::number_of(head.status);
    return {.moved = true, .unwanted = true};
  }
  answered_ = true;
  if (state == HeadState::kInterim) {
    if (++interim_heads_ > kInterimHeadsMax) {
      detail = "interim responses without an end";
      return {true, Reason::kUpstreamProtocol};
    }
    // 100 was ours to say; HTTP/1.0 clients know no interim responses (RFC 9110, section 15.2).
    if (head.status != http::Status::kContinue && client_minor_version_ == 1) {
      http::remove_hop_by_hop(head.fields);
      if (head.reason.empty()) head.reason = http::reason_phrase(head.status);
      client_->send_interim(head);
    }
    return {true, Reason::kOk};
  }
  if (head.status == http::Status::kSwitchingProtocols) return begin_tunnel(now);
  if (upgrade_ && is_h2() && http::number_of(head.status) < 300) {
    // To this client success means that the WebSocket stands (RFC 8441, section 5).
    detail = "success without the change of protocol that was asked for";
    return {true, Reason::kUpstreamProtocol};
  }
  upstream_duration = now - attempt_started;
  write_final_head(date);
  return {true, Reason::kOk};
}

PumpResult Exchange::begin_tunnel(Instant now) {
  if (!upgrade_ || !upstream_->framing().upgrade) {
    detail = "a change of protocol that was not asked for";
    return {true, Reason::kUpstreamProtocol};
  }
  if (has_spoken_early()) return {true, Reason::kBadRequest};
  upstream_duration = now - attempt_started;
  http::ResponseHead& head = upstream_->response();
  http::remove_hop_by_hop(head.fields);
  if (is_h2()) {
    // RFC 8441, section 5: 200 is the answer, and nothing is proved by a key.
    head.status = http::Status::kOk;
    head.fields.remove("Sec-WebSocket-Accept");
    client_->send_response(head, {http::BodyKind::kChunked, 0});
  } else {
    add_upgrade(head.fields);
    client_->send_response(head, {});
  }
  enter_tunnel(head.status);
  return {true, Reason::kOk};
}

/// RFC 9110, section 9.3.6: success says that the tunnel stands.
PumpResult Exchange::begin_connect(Instant now) {
  if (!client_->head_room()) return {};
  if (has_spoken_early()) return {true, Reason::kBadRequest};
  answered_ = true;
  upstream_duration = now - attempt_started;
  http::ResponseHead head;
  head.status = http::Status::kOk;
  head.reason = "Connection Established";
  client_->send_response(head, {is_h2() ? http::BodyKind::kChunked : http::BodyKind::kNone, 0});
  enter_tunnel(head.status);
  return {true, Reason::kOk};
}

/// Bytes that the client sent before it could know of its tunnel are a request to one reader and
/// the tunnel's to another: they are neither (RFC 9110, section 7.8). A stream of HTTP/2 has one
/// reading.
bool Exchange::has_spoken_early() {
  static_cast<void>(client_->fill(kBufferBytes));
  if (is_h2() || client_->input_empty()) return false;
  detail = "bytes behind a request for a tunnel that came before its answer";
  return true;
}

void Exchange::enter_tunnel(http::Status told) {
  status = http::number_of(told);
  client_->begin_tunnel();
  upstream_->begin_tunnel();
  response_started_ = tunnel_ = true;
  // From here each direction is over when its stream is; the time for a request no longer counts.
  request_complete_ = false;
  request_deadline = attempt_deadline = kNever;
}

void Exchange::begin_passthrough(Instant now) {
  upstream_duration = now - attempt_started;
  client_->begin_tunnel();
  upstream_->begin_tunnel();
  tunnel_ = true;
}

PumpResult Exchange::pump_tunnel() {
  PumpResult result;
  result.moved = client_->fill(kBufferBytes);
  result.moved = upstream_->fill(wanted()) || result.moved;
  const auto pass = [&](Leg& from, Leg& to, std::uint64_t& passed, bool& ended, Reason cut) {
    if (ended) {
      result.moved = to.flush() || result.moved;
      return;
    }
    const BodyStep step = move_body(from, to, {});
    result.moved = to.flush() || result.moved || step.moved;
    passed += step.payload_bytes;
    ended = step.finished;
    if (!step.cut) return;
    result.failure = cut;
    detail = from.why();
  };
  pass(*client_, *upstream_, request_bytes, request_complete_, Reason::kClientReset);
  pass(*upstream_, *client_, response_bytes, response_complete_, Reason::kUpstreamReset);
  response_started_ = response_started_ || response_bytes > 0;
  return result;
}

void Exchange::write_final_head(std::string_view date) {
  http::ResponseHead& head = upstream_->response();
  const http::BodyFraming body = upstream_->framing().body;
  upstream_->begin_body(body);
  response_framing_ = http::reframed_for_client(body, client_minor_version_);
  // HTTP/2 ends a message with its head where there is no body; HTTP/1 has to say so.
  const bool may_have_body = method_ != "HEAD" && head.status != http::Status::kNoContent &&
                             head.status != http::Status::kNotModified;
  if (body.kind == http::BodyKind::kNone && may_have_body && !is_h2())
    response_framing_ = {http::BodyKind::kLength, 0};
  status = http::number_of(head.status);
  // HTML, section 9.2: lines come when there is something to say.
  const auto type = head.fields.find("Content-Type");
  event_stream_ = type && http::equals_ignoring_case(type->substr(0, type->find_first_of("; ")),
                                                     "text/event-stream");
  const bool takes_trailers = wants_trailers_ || is_h2();
  if (takes_trailers && body.kind == http::BodyKind::kChunked)
    http::announced_trailers(head.fields, response_trailers_);
  http::remove_hop_by_hop(head.fields);
  if (!response_trailers_.empty()) head.fields.add("Trailer", response_trailers_);
  // RFC 9110, section 6.6.1: whoever hands on an answer without one says when it came.
  if (!date.empty() && !head.fields.contains("Date")) head.fields.add("Date", date);
  if (!is_h2()) {
    if (head.reason.empty() && is_to_h2()) head.reason = http::reason_phrase(head.status);
    // Behind an answer that is early the rest of the request may or may not come: there is no next
    // one, and the client is told (RFC 9112, section 9.6).
    keep_alive = keep_alive && request_complete_;
    const bool reusable = keep_alive && response_framing_.kind != http::BodyKind::kUntilClose;
    if (!reusable)
      head.fields.set("Connection", "close");
    else if (client_minor_version_ == 0)
      head.fields.set("Connection", "keep-alive");
  }
  if (gives_session)
    head.fields.add("Set-Cookie",
                    rule->session->set_cookie(service->name, endpoint, facts->bind->tls));
  values_left_out += rule->response_headers.apply(head.fields, {*this});
  client_->send_response(head, response_framing_);
  response_started_ = true;
}

}  // namespace weir::proxy
