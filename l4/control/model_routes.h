#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "l4/wire/address.h"

/// The routes of a Model: which requests go where, and what becomes of them on the way. Part of
/// model.h, which is what to include.
namespace weir::control {

/// The listener (or, without one, every listener of the gateway) that a route is attached to.
struct ParentRef {
  std::string gateway;
  std::optional<std::string> listener;  ///< sectionName in the file
  friend bool operator==(const ParentRef&, const ParentRef&) = default;
};

enum class PathMatchKind : std::uint8_t {
  kPrefix,  ///< whole segments: /cart matches /cart and /cart/1, not /cartoon
  kExact,
  kRegex,  ///< RE2, the whole path
};

/// A header, query parameter or cookie that must be there with this value.
struct ValueMatch {
  std::string name;  ///< of a header in lower case
  std::string value;
  bool is_regex = false;  ///< RE2, the whole value
  friend bool operator==(const ValueMatch&, const ValueMatch&) = default;
};

/// All conditions must hold.
struct RouteMatch {
  PathMatchKind path_kind = PathMatchKind::kPrefix;
  std::string path = "/";
  std::optional<std::string> method;
  std::vector<ValueMatch> headers;
  std::vector<ValueMatch> query_params = {};
  std::vector<ValueMatch> cookies = {};
  friend bool operator==(const RouteMatch&, const RouteMatch&) = default;
};

struct RouteTimeouts {
  std::uint32_t request_ms = 0;          ///< whole exchange as the client sees it; 0: no limit
  std::uint32_t backend_request_ms = 0;  ///< one attempt at one endpoint; 0: no limit
  /// How long an endpoint may be silent before and within its answer. Not set: as long as suits
  /// what is answered.
  std::optional<std::uint32_t> backend_idle_ms = {};
  friend bool operator==(const RouteTimeouts&, const RouteTimeouts&) = default;
};

struct BackendRef {
  std::string service;
  std::uint32_t weight = 1;
  friend bool operator==(const BackendRef&, const BackendRef&) = default;
};

/// What becomes of a request's path.
struct PathEdit {
  enum class Kind : std::uint8_t {
    kKeep,
    kFull,    ///< `value` is the path
    kPrefix,  ///< `value` in the place of the prefix that has matched
    kRegex,   ///< the whole path by `pattern` (RE2), `value` with \1 to \9 for what it captured
  };
  Kind kind = Kind::kKeep;
  std::string value = {};
  std::string pattern = {};
  friend bool operator==(const PathEdit&, const PathEdit&) = default;
};

/// Where a client is sent (Gateway API, HTTPRequestRedirectFilter). What is not set is as it came.
struct Redirect {
  std::optional<std::string> scheme;
  std::optional<std::string> hostname;
  std::optional<wire::Port> port;
  PathEdit path;
  std::uint16_t status = 302;
  friend bool operator==(const Redirect&, const Redirect&) = default;
};

/// What the backend is asked for instead (Gateway API, HTTPURLRewriteFilter).
struct Rewrite {
  std::optional<std::string> hostname;
  PathEdit path;
  friend bool operator==(const Rewrite&, const Rewrite&) = default;
};

/// Gateway API, HTTPHeaderFilter: removed, then set, then added. Values are texts with variables
/// (value_template.h).
struct HeaderEdits {
  std::vector<std::pair<std::string, std::string>> set = {};
  std::vector<std::pair<std::string, std::string>> add = {};
  std::vector<std::string> remove = {};
  [[nodiscard]] bool empty() const { return set.empty() && add.empty() && remove.empty(); }
  friend bool operator==(const HeaderEdits&, const HeaderEdits&) = default;
};

/// When a request is made again, at another endpoint. A method that is not idempotent is made again
/// only where nothing of it can have reached an endpoint.
struct RetryPolicy {
  std::uint32_t attempts = 2;  ///< after the first one
  bool on_connect_failure = true;
  bool on_reset = false;    ///< the connection broke before an answer
  bool on_timeout = false;  ///< nothing within backendRequest
  std::vector<std::uint16_t> statuses = {};
  bool on_5xx = false;                ///< all of them
  std::uint32_t budget_percent = 20;  ///< retries at once, of the service's requests; 3 always may
  std::uint32_t backoff_ms = 25;      ///< up to so long before the first, twice that the next

  [[nodiscard]] bool covers(int status) const {
    return (on_5xx && status >= 500) ||
           std::find(statuses.begin(), statuses.end(), status) != statuses.end();
  }
  friend bool operator==(const RetryPolicy&, const RetryPolicy&) = default;
};

/// A client stays with the side of a split and the endpoint that it had first.
struct SessionPersistence {
  std::string cookie;
  std::uint32_t max_age_s = 0;  ///< 0: as long as the client's session
  friend bool operator==(const SessionPersistence&, const SessionPersistence&) = default;
};

/// Of requests, in thousandths of a percent.
inline constexpr std::uint32_t kShareWhole = 100'000;

/// Trouble on purpose, to see what clients make of it. Both may meet one request.
struct FaultInjection {
  std::uint32_t delay_ms = 0;
  std::uint32_t delay_share = 0;   ///< of kShareWhole
  std::uint16_t abort_status = 0;  ///< what is answered instead
  std::uint32_t abort_share = 0;
  friend bool operator==(const FaultInjection&, const FaultInjection&) = default;
};

inline constexpr std::uint32_t kMirrorBodyMax = 64 * 1024;

/// Requests that are also sent to somebody whose answer nobody waits for.
struct Mirror {
  std::string service;
  std::uint32_t share = kShareWhole;
  std::uint32_t body_bytes = kMirrorBodyMax;  ///< a request with a larger body is not mirrored
  friend bool operator==(const Mirror&, const Mirror&) = default;
};

/// A status, or a class of them: 404, or 4 for all of 400 to 499.
struct StatusMatch {
  std::uint16_t value = 0;
  [[nodiscard]] bool is_class() const { return value < 10; }
  [[nodiscard]] bool covers(int status) const {
    return is_class() ? status / 100 == value : status == value;
  }
  friend bool operator==(const StatusMatch&, const StatusMatch&) = default;
};

/// What Weir's own answers of these statuses say, to clients that take the type.
struct ErrorPage {
  std::vector<StatusMatch> statuses;
  std::string content_type;
  std::string body;
  friend bool operator==(const ErrorPage&, const ErrorPage&) = default;
};

/// An answer without a backend.
struct FixedResponse {
  std::uint16_t status = 200;
  std::string content_type;
  std::string body;
  friend bool operator==(const FixedResponse&, const FixedResponse&) = default;
};

/// Answered by a redirect, by a fixed response, or by one of the backends.
struct RouteRule {
  std::string name;                 ///< may be empty
  std::vector<RouteMatch> matches;  ///< any of them; never empty: "prefix /" when none is written
  RouteTimeouts timeouts;
  std::vector<BackendRef> backends;  ///< empty where the rule answers by itself
  std::optional<Redirect> redirect = {};
  std::optional<FixedResponse> respond = {};
  std::optional<Rewrite> rewrite = {};
  HeaderEdits request_headers = {};
  HeaderEdits response_headers = {};
  RetryPolicy retry = {};
  std::optional<SessionPersistence> session = {};
  std::optional<FaultInjection> fault = {};
  std::optional<Mirror> mirror = {};
  friend bool operator==(const RouteRule&, const RouteRule&) = default;
};

struct HttpRoute {
  std::string name;
  std::vector<ParentRef> parents;
  std::vector<std::string> hostnames;  ///< lower case, "*.x" allowed; empty: the listener's
  std::vector<RouteRule> rules;
  std::vector<ErrorPage> error_pages = {};
  friend bool operator==(const HttpRoute&, const HttpRoute&) = default;
};

/// Connections of kTls listeners by the name that the client asks for.
struct TlsRoute {
  std::string name;
  std::vector<ParentRef> parents;
  std::vector<std::string> hostnames;  ///< as HttpRoute's
  std::vector<BackendRef> backends;    ///< never empty; none of services with tls
  friend bool operator==(const TlsRoute&, const TlsRoute&) = default;
};

}  // namespace weir::control
