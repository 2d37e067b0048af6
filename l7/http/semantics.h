#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "l4/base/assert.h"
#include "l7/http/message.h"

/// The rules that do not depend on how a message is spelled on the wire: framing, hop-by-hop
/// fields, and the one reading of host and path on which everything behind relies. Wherever two
/// readings of a message are possible, it is refused: the backend may prefer the other one, and
/// that difference is what request smuggling lives on.
namespace weir::http {

/// A value, or why the message is refused. Like Result, without a heap: refusals are cheap to
/// cause from outside.
template <typename T>
class [[nodiscard]] Checked {
 public:
  Checked(T value) : state_{std::in_place_index<0>, std::move(value)} {}  // NOLINT: implicit
  Checked(Refusal refusal) : state_{std::in_place_index<1>, refusal} {}   // NOLINT: implicit

  explicit operator bool() const { return state_.index() == 0; }
  const T& operator*() const {
    WEIR_ASSERT(*this);
    return *std::get_if<0>(&state_);
  }
  const T* operator->() const { return &**this; }
  [[nodiscard]] Refusal refusal() const {
    WEIR_ASSERT(!*this);
    return *std::get_if<1>(&state_);
  }

 private:
  std::variant<T, Refusal> state_;
};

// Framing: RFC 9112, sections 6 and 9.

enum class BodyKind : std::uint8_t {
  kNone,
  kLength,
  kChunked,
  kUntilClose,  ///< responses only
};

struct BodyFraming {
  BodyKind kind = BodyKind::kNone;
  std::uint64_t length = 0;  ///< with kLength
  friend bool operator==(const BodyFraming&, const BodyFraming&) = default;
};

struct RequestFraming {
  BodyFraming body;
  bool keep_alive = false;        ///< the client is willing to send another request
  bool expects_continue = false;  ///< 100 (Continue) must come before the client sends its body
  /// Asks for a WebSocket (RFC 6455, section 4.1): a GET without a body whose only Upgrade is
  /// "websocket", named by Connection. Other protocols are not forwarded and do not count: a
  /// backend that went over to h2c would be out of reach of the routes.
  bool upgrade = false;
};

struct ResponseFraming {
  BodyFraming body;
  bool keep_alive = false;  ///< the connection can be used again once the body has been read
  bool interim = false;     ///< 1xx but 101: the real answer follows on the same connection
  bool upgrade = false;     ///< 101 to a WebSocket: what follows is no HTTP any more
};

/// How the body of a parsed HTTP/1.x request ends. Refuses whatever has two readings: a length
/// and a coding, two lengths, a length that is not plain digits, a coding other than "chunked";
/// and, since one look at the fields is enough for both, a request that does not name one host.
Checked<RequestFraming> request_framing(const RequestHead& head);

/// The same for the answer to a request with that method. Refusals are 502: ours to the client.
Checked<ResponseFraming> response_framing(const ResponseHead& head,
                                          std::string_view request_method);

/// How a body from a backend is framed for a client: until-close becomes chunked where the client
/// understands it, and chunked becomes until-close where it does not (HTTP/1.0).
BodyFraming reframed_for_client(BodyFraming from_backend, int client_minor_version);

// Syntax of parts.

/// token of RFC 9110, section 5.6.2; not empty.
bool is_token(std::string_view text);
/// field-value of RFC 9110, section 5.5, without surrounding white space; bytes above 0x7f pass.
bool is_field_value(std::string_view text);
std::string_view trim_white_space(std::string_view text);
/// Content-Length, strictly: digits only, below 2^63 (RFC 9110, section 8.6).
std::optional<std::uint64_t> parse_content_length(std::string_view text);

/// Calls `visit(element)` for every non-empty element of a comma-separated list.
template <typename Visitor>
void for_each_list_element(std::string_view list, Visitor&& visit) {
  while (!list.empty()) {
    const std::size_t comma = list.find(',');
    const std::string_view element = trim_white_space(list.substr(0, comma));
    if (!element.empty()) visit(element);
    if (comma == std::string_view::npos) return;
    list.remove_prefix(comma + 1);
  }
}

/// Whether one of the fields of that name has `option` among its list elements, as in
/// `lists(fields, "Connection", "close")`.
bool lists(const HeaderList& fields, std::string_view name, std::string_view option);

// Where a request goes: RFC 9112, section 3.2, and RFC 3986.

enum class TargetForm : std::uint8_t {
  kOrigin,     ///< /path?query
  kAbsolute,   ///< http://host/path?query
  kAuthority,  ///< host:port, CONNECT only
  kAsterisk,   ///< *, OPTIONS only
};

/// A request target in its parts; views into it.
struct Target {
  TargetForm form = TargetForm::kOrigin;
  std::string_view scheme{};     ///< kAbsolute
  std::string_view authority{};  ///< kAbsolute, kAuthority
  std::string_view path{};       ///< "*" with kAsterisk; never empty but with kAuthority
  std::string_view query{};      ///< from '?' on; empty when there is none
};
Checked<Target> parse_target(std::string_view method, std::string_view target);

/// "host[:port]" in its parts. The host is a name, an IPv4 address or an IPv6 address in brackets;
/// a port without digits counts as none (RFC 3986, section 3.2.3). No user information.
struct Authority {
  std::string_view host;  ///< as written, with brackets
  std::optional<std::uint16_t> port;
};
Checked<Authority> parse_authority(std::string_view text);

/// How often OPTIONS and TRACE may be forwarded from here on (RFC 9110, section 7.6.2), or nothing
/// where nobody counts. Refused with 501 where that is not once, since Weir implements neither
/// method itself, and with 400 what is not one number. What is too large to count is the most that
/// is.
[[nodiscard]] Checked<std::optional<std::uint32_t>> max_forwards(const RequestHead& head);

/// Brings a path into its only spelling, in place (it never grows): unreserved characters are
/// decoded, other escapes in upper case, path parameters (";x=1") removed, "//" merged, "." and
/// ".." resolved, with ".." at the root staying there (RFC 3986, sections 5.2.4 and 6.2.2).
/// Refused with 400: broken escapes, %00, backslashes, and %2F and %5C, since backends disagree
/// whether these separate segments. What is routed and authorised is what is forwarded.
[[nodiscard]] std::optional<Refusal> normalize_path(std::string& path);

/// Who and what a request is for, in the one spelling that routes match and that is forwarded.
/// A reusable object: resolving the next request allocates nothing.
class RequestUri {
 public:
  /// Reads target and Host. The authority of an absolute-form target wins over Host (RFC 9112,
  /// section 3.2.2). With CONNECT there are only host and port.
  [[nodiscard]] std::optional<Refusal> resolve(const RequestHead& head);

  /// Lower case, no port, no trailing dot; IPv6 in brackets. Empty only with HTTP/1.0.
  [[nodiscard]] const std::string& host() const { return host_; }
  [[nodiscard]] std::optional<std::uint16_t> port() const { return port_; }
  /// "host[:port]": the Host to forward.
  [[nodiscard]] const std::string& authority() const { return authority_; }
  /// Normalised; starts with '/', or is "*"; empty with CONNECT.
  [[nodiscard]] std::string_view path() const { return {target_.data(), path_size_}; }
  /// From '?' on, as sent; empty when there is none.
  [[nodiscard]] std::string_view query() const {
    return std::string_view{target_}.substr(path_size_);
  }
  /// path and query: the target to forward.
  [[nodiscard]] const std::string& target() const { return target_; }

 private:
  void set_authority(const Authority& authority);

  std::string host_;
  std::string authority_;
  std::string target_;
  std::size_t path_size_ = 0;
  std::optional<std::uint16_t> port_;
};

// What an intermediary does to fields.

/// Removes what is meant for the next hop only (RFC 9110, section 7.6.1): Connection and what it
/// names, Keep-Alive, Proxy-Connection, TE, Trailer, Transfer-Encoding, Upgrade and the Proxy-
/// credentials. Fields that the meaning of a message depends on (Host, Content-Length,
/// Authorization, …) stay even when Connection names them: it must not be a tool to strip them.
void remove_hop_by_hop(HeaderList& fields);

/// Whether proxies say under that name who the client is by its certificate (Client-Cert of RFC
/// 9440, and what those of others call it): nobody but us may write it.
bool tells_client_identity(std::string_view name);

/// Whether a field of that name may stand behind a body. Not what says where a message ends or
/// goes, who sends it or how it is read (RFC 9110, section 6.5.1): it was acted on before it came.
bool may_be_trailer(std::string_view name);
/// Appends to `names` what Trailer announces and may be one, as in "A, B"; a message that announces
/// more than kAnnouncedTrailersMax announces no others. Before remove_hop_by_hop(), which removes
/// Trailer.
inline constexpr std::size_t kAnnouncedTrailersMax = 32;
void announced_trailers(const HeaderList& fields, std::string& names);
/// Whether a comma-separated list has the element.
bool list_contains(std::string_view list, std::string_view element);

struct ForwardedFor {
  std::string_view client;  ///< address as text, IPv6 without brackets
  std::string_view scheme;  ///< "http" or "https"
  std::string_view host;    ///< what the client asked for: RequestUri::authority()
  std::string_view hops{};  ///< proxies between the client and us, "192.0.2.1, 2001:db8::1"
};
/// Sets X-Forwarded-For, -Proto and -Host and Forwarded (RFC 7239) to what we know and removes
/// their relatives: whatever a client sends there is a claim, not a fact. After
/// remove_hop_by_hop(), so that Connection cannot name them.
void set_forwarded(HeaderList& fields, const ForwardedFor& forwarded);

}  // namespace weir::http
