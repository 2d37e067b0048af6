#include "l7/explain.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "l7/http/h1.h"
#include "l7/http/semantics.h"
#include "l7/proxy/access_log.h"
#include "l7/proxy/client_connection.h"

namespace weir::l7 {
namespace {

constexpr std::size_t kCandidatesMax = 16;

Error wrong_url(const std::string& url) {
  return Error{ErrorCode::kInvalid, fmt::format("the URL is '{}'", url),
               "http:// or https://, a host and a path, such as https://shop.example/cart"};
}

/// What a connection to it would be like.
struct Place {
  bool tls = false;
  wire::Port port;
  std::string authority;
  std::string target;
};

Result<Place> place_of(const std::string& url) {
  Place place;
  std::string_view rest = url;
  if (rest.starts_with("https://"))
    place.tls = true;
  else if (!rest.starts_with("http://"))
    return wrong_url(url);
  rest.remove_prefix(place.tls ? 8 : 7);
  rest = rest.substr(0, rest.find('#'));  // a client keeps it for itself (RFC 9110, section 4.2.5)
  const std::size_t end = std::min(rest.find_first_of("/?"), rest.size());
  place.authority = std::string{rest.substr(0, end)};
  place.target = std::string{rest.substr(end)};
  if (place.authority.empty()) return wrong_url(url);
  if (!place.target.starts_with('/')) place.target.insert(0, "/");
  return place;
}

/// What a connection with these limits would say to these bytes before anybody looks for a route.
std::optional<http::Refusal> refusal_of(const http::RequestHead& head, http::HeadLimits limits) {
  std::string text = fmt::format("{} {} HTTP/1.1\r\n", head.method, head.target);
  for (const http::Field field : head.fields)
    text += fmt::format("{}: {}\r\n", field.name, field.value);
  text += "\r\n";
  http::RequestParser parser{limits};
  const http::ParseResult read = parser.parse(std::as_bytes(std::span{text}));
  if (read.outcome == http::ParseResult::Outcome::kError) return read.refusal;
  const bool is_one = read.consumed == text.size() && parser.head().method == head.method &&
                      parser.head().target == head.target &&
                      parser.head().fields.size() == head.fields.size();
  if (is_one) return std::nullopt;
  return http::Refusal{http::Status::kBadRequest, "a line end in the head"};
}

const proxy::Bind* find_bind(const proxy::Snapshot& snapshot, const Place& place,
                             const std::string& host, const std::optional<wire::Endpoint>& vip) {
  const proxy::Bind* first = nullptr;
  for (const proxy::Bind& bind : snapshot.binds) {
    if (bind.passthrough || bind.tls != place.tls ||
        (vip ? bind.endpoint != *vip : bind.endpoint.port != place.port))
      continue;
    if (snapshot.listener_for(bind, host) != nullptr) return &bind;
    if (first == nullptr) first = &bind;
  }
  return first;
}

void refuse(Explanation& result, http::Status status, proxy::Reason reason) {
  result.outcome = "refuse";
  result.status = http::number_of(status);
  result.reason = std::string{proxy::text_of(reason)};
}

void redirect(Explanation& result, const control::Redirect& redirect,
              const proxy::PathPattern* pattern, const proxy::RedirectFrom& from) {
  result.outcome = "redirect";
  result.status = redirect.status;
  result.reason = std::string{proxy::text_of(proxy::Reason::kRedirect)};
  result.location = proxy::redirect_location(redirect, pattern, from);
}

void list_candidates(Explanation& result, const proxy::Snapshot& snapshot,
                     const proxy::ListenerEntry& listener, const proxy::RouteQuery& query) {
  for (proxy::RouteCandidate& candidate : listener.router.explain(query, kCandidatesMax)) {
    const proxy::Rule& rule = snapshot.rules[candidate.rule];
    result.candidates.push_back(
        {rule.route, rule.name, match_text(*candidate.match), std::move(candidate.failed)});
    if (result.candidates.back().failed.empty() && result.match.empty())
      result.match = result.candidates.back().match;
  }
}

/// What endpoints would be asked for.
void describe_forwarding(Explanation& result, const proxy::Rule& rule, const http::RequestUri& uri,
                         std::size_t prefix_size) {
  result.outcome = "proxy";
  result.sent_host = uri.authority();
  result.sent_target = uri.target();
  if (!rule.rewrite) return;
  if (rule.rewrite->hostname) result.sent_host = *rule.rewrite->hostname;
  if (rule.rewrite->path.kind == control::PathEdit::Kind::kKeep) return;
  result.sent_target =
      proxy::edited_path(rule.rewrite->path, rule.path_pattern ? &*rule.path_pattern : nullptr,
                         uri.path(), prefix_size) +
      std::string{uri.query()};
}

void follow(Explanation& result, const proxy::Snapshot& snapshot, const proxy::Bind& bind,
            const http::RequestHead& head, const http::RequestUri& uri,
            const proxy::TlsFiles* files) {
  const proxy::ListenerEntry* listener = snapshot.listener_for(bind, uri.host());
  if (listener == nullptr) {
    return refuse(result, bind.tls ? http::Status::kMisdirectedRequest : http::Status::kNotFound,
                  proxy::Reason::kNoRoute);
  }
  result.listener = listener->name;
  // Whoever means this host asks for it by TLS as well.
  const auto index = static_cast<std::size_t>(&bind - snapshot.binds.data());
  if (files != nullptr && files->binds[index] && !uri.host().empty() &&
      !files->binds[index]->serves(uri.host()))
    return refuse(result, http::Status::kMisdirectedRequest, proxy::Reason::kMisdirected);
  const proxy::RedirectFrom from{
      bind.tls, bind.endpoint.port.value(), uri.host(), uri.path(), uri.query(), 0};
  if (listener->redirect_port)
    return redirect(result, proxy::https_redirect(*listener->redirect_port, head.method), nullptr,
                    from);
  const proxy::RouteQuery query{head.method, uri.host(), uri.path(), uri.query(), head.fields};
  list_candidates(result, snapshot, *listener, query);
  const auto choice = listener->router.match(query);
  if (!choice) return refuse(result, http::Status::kNotFound, proxy::Reason::kNoRoute);
  const proxy::Rule& rule = snapshot.rules[choice->rule];
  result.chosen = &rule;
  result.route = rule.route;
  result.rule = rule.name;
  if (rule.redirect) {
    proxy::RedirectFrom place = from;
    place.prefix_size = choice->prefix_size;
    redirect(result, *rule.redirect, rule.path_pattern ? &*rule.path_pattern : nullptr, place);
  } else if (rule.respond) {
    result.outcome = "respond";
    result.status = rule.respond->status;
    result.reason = std::string{proxy::text_of(proxy::Reason::kFixed)};
  } else if (const auto forwards = http::max_forwards(head); !forwards) {
    const bool ends_here = forwards.refusal().status == http::Status::kNotImplemented;
    refuse(result, forwards.refusal().status,
           ends_here ? proxy::Reason::kNotSupported : proxy::Reason::kBadRequest);
  } else {
    describe_forwarding(result, rule, uri, choice->prefix_size);
  }
}

}  // namespace

std::string match_text(const control::RouteMatch& match) {
  const char* kind = match.path_kind == control::PathMatchKind::kPrefix  ? "prefix"
                     : match.path_kind == control::PathMatchKind::kExact ? "exact"
                                                                         : "regex";
  std::string text = fmt::format("path {} {}", kind, match.path);
  if (match.method) text += fmt::format(", method {}", *match.method);
  const auto add = [&](const char* what, const std::vector<control::ValueMatch>& values) {
    for (const control::ValueMatch& value : values)
      text +=
          fmt::format(", {} {} {} {}", what, value.name, value.is_regex ? "~" : "=", value.value);
  };
  add("header", match.headers);
  add("query", match.query_params);
  add("cookie", match.cookies);
  return text;
}

Result<Explanation> explain(const proxy::Snapshot& snapshot, const ExplainRequest& request,
                            const proxy::TlsFiles* files) {
  Result<Place> place = place_of(request.url);
  if (!place) return std::move(place).error();
  http::RequestHead head;
  head.method = request.method;
  head.target = place->target;
  head.fields.add("Host", place->authority);
  for (const auto& [name, value] : request.headers) {
    if (http::equals_ignoring_case(name, "host"))
      head.fields.set("Host", value);
    else
      head.fields.add(name, value);
  }
  http::RequestUri uri;
  Explanation result;
  const auto refuse_with = [&](const http::Refusal& refusal) {
    result.outcome = "refuse";
    result.status = http::number_of(refusal.status);
    result.reason = std::string{refusal.reason};
    return result;
  };
  if (const auto refusal = uri.resolve(head)) return refuse_with(*refusal);
  // The port is that of the URL, whatever Host says.
  http::RequestHead asked = head;
  asked.fields.set("Host", place->authority);
  http::RequestUri address;
  if (address.resolve(asked)) return wrong_url(request.url);
  place->port = wire::Port{address.port().value_or(place->tls ? 443 : 80)};
  result.host = uri.host();
  result.path = std::string{uri.path()};
  const proxy::Bind* bind = find_bind(snapshot, *place, uri.host(), request.vip);
  if (bind == nullptr) {
    result.outcome = "refuse";
    result.reason = fmt::format(
        "no listener of {} on {}", place->tls ? "HTTPS" : "HTTP",
        request.vip ? request.vip->text() : fmt::format("port {}", place->port.value()));
    return result;
  }
  result.vip = bind->endpoint.text();
  if (const auto refusal = refusal_of(head, proxy::head_limits(bind->limits)))
    return refuse_with(*refusal);
  follow(result, snapshot, *bind, head, uri, files);
  return result;
}

}  // namespace weir::l7
