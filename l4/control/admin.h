#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "l4/base/result.h"
#include "l4/control/config.h"
#include "l4/wire/address.h"

/// The admin API: HTTP and JSON over a unix socket, and over TCP with TLS on both sides where that
/// is asked for. Both daemons serve it, `weir` speaks it.
namespace weir::control {

inline constexpr std::string_view kL4SocketDefault = "/run/weir/l4.sock";
inline constexpr std::string_view kL7SocketDefault = "/run/weir/l7.sock";

struct AdminRequest {
  std::string method;  ///< "GET" (also for HEAD), "POST", "PUT", "PATCH", "DELETE" or "OPTIONS"
  std::string path;    ///< percent-decoded, without the query: "/v1/vips"
  std::map<std::string, std::string> query;
  std::string body;
};

struct AdminReply {
  int status = 200;
  std::string body;  ///< JSON unless content_type says otherwise
  std::string content_type = "application/json";
  /// Set where the body has no end yet: called again and again for the next piece of it, outside of
  /// the handler's turn, until it gives nothing. Keep pieces coming, empty lines if need be: that
  /// the client has gone is noticed when one cannot be written. Destroyed on that server thread.
  std::function<std::optional<std::string>()> more = {};
  std::string allow = {};  ///< the field Allow (RFC 9110, section 10.2.1); empty sends none
};

/// A problem (RFC 9457): {"type", "title", "status", "detail", "code", "remedy"}, with the status
/// that fits the code; README.md has the table.
AdminReply error_reply(const Error& error);
/// The same for what HTTP itself has a status for: its type is "about:blank" (RFC 9457, section
/// 4.2.1), its title the status's own words.
AdminReply http_problem_reply(int status, const Error& error);
/// 422, a problem with {"diagnostics": [{"file", "line", "column", "message", "expectation",
/// "hint", "text"}]}.
AdminReply diagnostics_reply(const std::vector<Diagnostic>& diagnostics);

/// One thing that an API can do. HEAD comes with GET, OPTIONS with every path.
struct AdminOperation {
  std::string_view method;
  std::string_view path;
};
/// For a request that is none of the API's operations: what OPTIONS asks for, else 405 for a path
/// that has other methods, else 404.
AdminReply unknown_path_reply(const AdminRequest& request,
                              std::span<const AdminOperation> operations = {});

/// The body of POST /v1/check and POST /v1/apply: {"file": "/etc/weir/weir.yaml", "text": "…",
/// "partial": false}.
struct ConfigSubmission {
  std::string file;  ///< absolute: relative paths in the text start at its directory
  std::string text;
  bool partial = false;  ///< objects that are wrong are left out; else one refuses all of it
};
std::string to_json(const ConfigSubmission& submission);
Result<ConfigSubmission> submission_from_json(std::string_view text);

/// What a failed reply says, as an Error or as diagnostics; for clients.
struct Refusal {
  Error error;
  std::vector<Diagnostic> diagnostics;
};
Refusal refusal_of(const AdminReply& reply);

/// For a value in the query of AdminClient::request()'s path (RFC 3986, section 2.1).
std::string percent_encoded(std::string_view text);

/// TCP, where both sides show a certificate. All of the files are PEM.
struct AdminTlsOptions {
  wire::Endpoint listen;         ///< port 0 takes a free one
  std::string certificate_file;  ///< the daemon's, with what leads to its authority
  std::string key_file;
  std::string client_ca_file;  ///< whose certificates clients must have
  /// Common names and alternative names (DNS) of clients that may; empty is every client of the
  /// authority.
  std::vector<std::string> allow = {};
};

struct AdminServerOptions {
  std::string socket_path;
  unsigned socket_mode = 0660;
  std::string socket_group = {};  ///< name or number; empty leaves the process's own
  std::optional<AdminTlsOptions> tls = std::nullopt;
  /// In the clear, for scrapers that cannot reach the rest: GET /metrics and nothing else. Whoever
  /// can connect can read counters and the addresses of VIPs and backends.
  std::optional<wire::Endpoint> metrics = std::nullopt;
};

/// Makes this process a member of the group, so that it may give its socket to the group without a
/// right of its own later. Call it while the process may still change its groups.
Result<void> join_socket_group(const std::string& group);

/// Serves requests on threads of its own until stop() or destruction. The handler is called for
/// one request at a time, under one mutex, on those threads: it must not block for long, and must
/// not call stop(). An exception in it becomes status 500. Clients are bounded: in number, in
/// bytes, and in time until their request is there.
class AdminServer {
 public:
  using Handler = std::function<AdminReply(const AdminRequest&)>;

  /// Takes the socket over when its file is left from a process that is gone; refuses (kConflict)
  /// when somebody answers there.
  static Result<AdminServer> start(const AdminServerOptions& options, Handler handler);

  AdminServer(AdminServer&&) noexcept;
  AdminServer& operator=(AdminServer&&) noexcept;
  ~AdminServer();

  /// Removes the socket file, then waits for requests in progress: seconds, where a client reads
  /// slowly. May be called twice.
  void stop();
  /// stop() for a process that another one is about to follow: the socket file stays, so that who
  /// comes in between sees that a daemon belongs there (AdminClient::runs()).
  void hand_over();

  /// The TCP port that it got; 0 where it serves the unix socket alone.
  [[nodiscard]] std::uint16_t tcp_port() const;

 private:
  struct Impl;
  explicit AdminServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Where a daemon serves TCP, and who asks.
struct AdminRemote {
  std::string url;  ///< "https://HOST:PORT"
  std::string certificate_file;
  std::string key_file;
  std::string ca_file;  ///< whose certificate the daemon must have, for HOST
};

/// One request per call over a connection of its own.
class AdminClient {
 public:
  /// Loading a program, or a configuration with ten thousand certificates, may take that long.
  static constexpr std::chrono::seconds kReplyTimeout{60};
  /// For questions that a daemon answers at once, so that one that hangs is found out; and until
  /// one that starts again listens.
  static constexpr std::chrono::seconds kPrompt{5};

  /// `daemon` ("weir-l4") is named in errors.
  AdminClient(std::string daemon, std::string socket_path);
  AdminClient(std::string daemon, AdminRemote remote);

  /// Any status is a reply; only a daemon that cannot be reached (kUnavailable, kDenied) or does
  /// not answer (kInternal: it may have done what it was asked for) is an error.
  [[nodiscard]] Result<AdminReply> request(const std::string& method, const std::string& path,
                                           const std::string& body = {},
                                           std::chrono::seconds patience = kReplyTimeout) const;

  /// A reply without an end: `on_piece` gets its body as it comes, and ends it by returning false.
  /// A refusal, with its body, is a reply too; then `on_piece` is not called. An error is also what
  /// a daemon that breaks off causes.
  [[nodiscard]] Result<AdminReply> stream(
      const std::string& path, const std::function<bool(std::string_view)>& on_piece) const;

  /// Whether the daemon runs here, or was named as one that runs elsewhere. A socket file that
  /// nobody listens on is one of a daemon that is starting again or was followed by another: where
  /// that lasts it is an error, and so is a socket that may not be used. False: there is none.
  [[nodiscard]] Result<bool> runs(std::chrono::milliseconds patience = kPrompt) const;

  [[nodiscard]] const std::string& daemon() const { return daemon_; }

 private:
  [[nodiscard]] Result<void> check_reachable() const;
  [[nodiscard]] std::string place() const;

  std::string daemon_;
  std::string socket_path_;
  std::optional<AdminRemote> remote_;
};

}  // namespace weir::control
