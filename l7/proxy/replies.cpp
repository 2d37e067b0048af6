/// Answers of our own: refusals, redirects, what a route says by itself.

#include <fmt/format.h>

#include <array>
#include <utility>

#include "l4/base/bytes.h"
#include "l7/proxy/exchanges.h"
#include "l7/proxy/grpc.h"

namespace weir::proxy {
namespace {

http::Status status_of(Reason reason) {
  switch (reason) {
    case Reason::kOk:
    case Reason::kFixed:
      return http::Status::kOk;
    case Reason::kRedirect:
      return http::Status::kMovedPermanently;
    case Reason::kBadRequest:
    case Reason::kClientReset:
      return http::Status::kBadRequest;
    case Reason::kHeaderTimeout:
    case Reason::kClientTimeout:
    case Reason::kBodyTooSlow:
      return http::Status::kRequestTimeout;
    case Reason::kHeaderTooLarge:
      return http::Status::kHeaderFieldsTooLarge;
    case Reason::kBodyTooLarge:
      return http::Status::kContentTooLarge;
    case Reason::kNoRoute:
      return http::Status::kNotFound;
    case Reason::kMisdirected:
      return http::Status::kMisdirectedRequest;
    case Reason::kNoEndpoint:
    case Reason::kNoHealthyEndpoint:
    case Reason::kOverloaded:
    case Reason::kFault:
    case Reason::kConnectFailed:
      return http::Status::kServiceUnavailable;
    case Reason::kUpstreamReset:
    case Reason::kUpstreamProtocol:
    case Reason::kUpstreamTls:
      return http::Status::kBadGateway;
    case Reason::kUpstreamTimeout:
    case Reason::kRequestTimeout:
      return http::Status::kGatewayTimeout;
    case Reason::kNotSupported:
      return http::Status::kNotImplemented;
  }
  return http::Status::kInternalServerError;
}

/// Why a head that breaks a rule was refused, for the log and the counters.
Reason reason_of(http::Status refusal) {
  if (refusal == http::Status::kUriTooLong || refusal == http::Status::kHeaderFieldsTooLarge)
    return Reason::kHeaderTooLarge;
  const bool unsupported = refusal == http::Status::kNotImplemented ||
                           refusal == http::Status::kVersionNotSupported ||
                           refusal == http::Status::kExpectationFailed;
  return unsupported ? Reason::kNotSupported : Reason::kBadRequest;
}

/// The nearest page for the status of an answer of ours: the route's, the listener's, the
/// gateway's.
const ErrorPage* error_page(const Exchange& exchange) {
  const ListenerEntry* const listener = exchange.listener;
  // A head that broke a rule, and so has found no listener, cannot be asked what it accepts.
  const http::HeaderList* const fields = listener != nullptr ? &exchange.head().fields : nullptr;
  const auto& gateway = listener != nullptr ? listener->gateway : exchange.facts->bind->gateway;
  const std::array<const ErrorPages*, 3> levels{
      exchange.rule != nullptr ? &exchange.rule->error_pages : nullptr,
      listener != nullptr ? &listener->error_pages : nullptr,
      gateway != nullptr ? &gateway->error_pages : nullptr};
  for (const ErrorPages* const pages : levels)
    if (const ErrorPage* page = pages != nullptr ? pages->find(exchange.status, fields) : nullptr)
      return page;
  return nullptr;
}

struct Content {
  std::string_view text;
  std::string_view type;
};

/// `plain` is what we say where nobody has said it better.
Content content_of(const Exchange& exchange, std::string_view plain) {
  if (exchange.reason == Reason::kFixed) {
    const control::FixedResponse& fixed = *exchange.rule->respond;
    return {fixed.body, fixed.content_type};
  }
  if (const ErrorPage* page = error_page(exchange)) return {page->body, page->content_type};
  return {plain, "text/plain"};
}

}  // namespace

Exchanges::Outcome Exchanges::refuse_head(Exchange& exchange, const http::Refusal& refusal,
                                          Instant now) {
  exchange.uri = {};  // not that of the request before
  return refuse(exchange, refusal, now);
}

Exchanges::Outcome Exchanges::refuse_late_head(Exchange& exchange, Instant now) {
  exchange.uri = {};
  return refuse(exchange, http::Status::kRequestTimeout, Reason::kHeaderTimeout, now);
}

Exchanges::Outcome Exchanges::refuse(Exchange& exchange, http::Status status, Reason reason,
                                     Instant now) {
  drop_upstream(exchange, now);
  exchange.reason = reason;
  return reply(exchange, status, {}, now);
}

Exchanges::Outcome Exchanges::refuse(Exchange& exchange, const http::Refusal& refusal,
                                     Instant now) {
  exchange.detail = refusal.reason;
  return refuse(exchange, refusal.status, reason_of(refusal.status), now);
}

Exchanges::Outcome Exchanges::refuse(Exchange& exchange, Reason reason, Instant now) {
  return refuse(exchange, status_of(reason), reason, now);
}

Exchanges::Outcome Exchanges::redirect_to_https(Exchange& exchange, Instant now) {
  const control::Redirect redirect =
      https_redirect(*exchange.listener->redirect_port, exchange.head().method);
  return send_to(exchange, redirect, nullptr, now);
}

Exchanges::Outcome Exchanges::redirect(Exchange& exchange, Instant now) {
  const Rule& rule = *exchange.rule;
  return send_to(exchange, *rule.redirect, rule.path_pattern ? &*rule.path_pattern : nullptr, now);
}

Exchanges::Outcome Exchanges::send_to(Exchange& exchange, const control::Redirect& redirect,
                                      const PathPattern* pattern, Instant now) {
  const http::RequestUri& uri = exchange.uri;
  const bool has_host = redirect.hostname || !uri.host().empty();
  if (!has_host || !uri.path().starts_with('/')) {
    exchange.detail = "a request without a host or a path cannot be redirected";
    return refuse(exchange, http::Status::kBadRequest, Reason::kBadRequest, now);
  }
  const std::string location = redirect_location(redirect, pattern,
                                                 {.tls = exchange.facts->bind->tls,
                                                  .port = exchange.facts->vip.port.value(),
                                                  .host = uri.host(),
                                                  .path = uri.path(),
                                                  .query = uri.query(),
                                                  .prefix_size = exchange.prefix_size});
  exchange.reason = Reason::kRedirect;
  return reply(exchange, http::Status{redirect.status}, location, now);
}

/// What the route says itself.
Exchanges::Outcome Exchanges::respond(Exchange& exchange, Instant now) {
  const control::FixedResponse& fixed = *exchange.rule->respond;
  exchange.reason = Reason::kFixed;
  return reply(exchange, http::Status{fixed.status}, {}, now);
}

/// Answers an exchange that no backend answers, and ends it.
Exchanges::Outcome Exchanges::reply(Exchange& exchange, http::Status status,
                                    std::string_view location, Instant now) {
  // RFC 9110, section 9.3.6: success would say that a tunnel stands.
  if (exchange.is_connect() && http::number_of(status) < 300) {
    exchange.detail = "CONNECT: its rule leads to no service";
    exchange.reason = Reason::kNotSupported;
    status = http::Status::kNotImplemented;
  }
  const Reason reason = exchange.reason;
  // Without a body the connection is in a known state and can go on; a bad head leaves it unknown,
  // and so does a client that may be speaking into a tunnel already.
  const bool is_known = !exchange.passes_through() && !exchange.is_connect() &&
                        reason != Reason::kBadRequest && reason != Reason::kHeaderTimeout &&
                        reason != Reason::kHeaderTooLarge && reason != Reason::kNotSupported &&
                        exchange.framing().body.kind == http::BodyKind::kNone;
  exchange.set_client_reusable(is_known && exchange.keep_alive);
  bool written = true;
  if (exchange.passes_through())
    write_alert(exchange);
  else if (exchange.is_grpc())
    write_grpc_reply(exchange, status, now);
  else
    written = write_reply(exchange, status, location, now);
  end(exchange, now);
  // An answer that is missing must not look like the next one's.
  return written ? Outcome::kDone : Outcome::kBroken;
}

/// Empty while nobody has said what time it is (RFC 9110, section 6.6.1).
std::string_view Exchanges::date(Instant now) {
  if (!to_unix_) return {};
  const auto since_1970 =
      std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch() + *to_unix_);
  return date_.of(static_cast<std::uint64_t>(since_1970.count()));
}

/// False where there is no room for it: a client that does not read what came before.
bool Exchanges::write_reply(Exchange& exchange, http::Status status, std::string_view location,
                            Instant now) {
  exchange.status = http::number_of(status);
  const std::string_view phrase = http::reason_phrase(status);
  char body[128];
  const auto end = fmt::format_to_n(body, sizeof(body), "{} {}\n", http::number_of(status), phrase);
  const auto [text, type] = content_of(exchange, {body, end.size});
  reply_head_.clear();
  reply_head_.status = status;
  reply_head_.reason = phrase;
  if (const std::string_view today = date(now); !today.empty())
    reply_head_.fields.add("Date", today);
  if (!type.empty()) reply_head_.fields.add("Content-Type", type);
  if (!location.empty()) reply_head_.fields.add("Location", location);
  if (exchange.rule != nullptr)
    exchange.values_left_out +=
        exchange.rule->response_headers.apply(reply_head_.fields, {exchange});
  if (!exchange.client_reusable() && !exchange.is_h2())
    reply_head_.fields.add("Connection", "close");
  // In the middle of an exchange, interim heads or 100 may be waiting; a client that does not read
  // those will not read this either.
  constexpr std::size_t kHeadBytes = 512;
  std::size_t needed = kHeadBytes + text.size();
  for (const http::Field field : reply_head_.fields)
    needed += field.name.size() + field.value.size() + 4;
  Leg& client = exchange.client();
  if (client.room() < needed) return false;
  if (status == http::Status::kNotModified) {  // a length would be that of 200 (RFC 9110, 8.6)
    client.send_response(reply_head_, {});
    return true;
  }
  if (exchange.is_head_request()) {
    const fmt::format_int length{text.size()};
    reply_head_.fields.add("Content-Length", {length.data(), length.size()});
    client.send_response(reply_head_, {});
    return true;
  }
  client.send_response(reply_head_, {http::BodyKind::kLength, text.size()});
  client.write(as_bytes(text));
  static_cast<void>(client.finish({}, {}));  // a length needs no end
  return true;
}

/// A call's answer without a message: its status in the head, which is all there is.
void Exchanges::write_grpc_reply(Exchange& exchange, http::Status status, Instant now) {
  exchange.status = http::number_of(http::Status::kOk);
  reply_head_.clear();
  reply_head_.status = http::Status::kOk;
  if (const std::string_view today = date(now); !today.empty())
    reply_head_.fields.add("date", today);
  reply_head_.fields.add("content-type", "application/grpc");
  reply_head_.fields.add("grpc-status", grpc_status_of(status));
  // Percent-encoding leaves these letters as they are.
  reply_head_.fields.add("grpc-message", text_of(exchange.reason));
  exchange.client().send_response(reply_head_, {});
}

}  // namespace weir::proxy
