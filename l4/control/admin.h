#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "l4/base/result.h"
#include "l4/control/config.h"

/// The local admin API: HTTP and JSON over a unix socket. Both daemons serve it, `weir` speaks it.
namespace weir::control {

inline constexpr std::string_view kL4SocketDefault = "/run/weir/l4.sock";
inline constexpr std::string_view kL7SocketDefault = "/run/weir/l7.sock";

struct AdminRequest {
  std::string method;  ///< "GET", "POST", "PUT", "PATCH" or "DELETE"
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
};

/// {"error": {"code", "message", "remedy"}} with the status that fits the code.
AdminReply error_reply(const Error& error);
/// {"diagnostics": [{"file", "line", "column", "message", "expectation", "hint", "text"}]}, 422.
AdminReply diagnostics_reply(const std::vector<Diagnostic>& diagnostics);
/// 404 for a path that the API does not have.
AdminReply unknown_path_reply(const AdminRequest& request);

/// The body of POST /v1/check and POST /v1/apply: {"file": "/etc/weir/weir.yaml", "text": "…"}.
struct ConfigSubmission {
  std::string file;  ///< absolute: relative paths in the text start at its directory
  std::string text;
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

struct AdminServerOptions {
  std::string socket_path;
  unsigned socket_mode = 0660;
};

/// Serves requests on a thread of its own until stop() or destruction. The handler is called for
/// one request at a time, under one mutex, on that server's threads: it must not block for long,
/// and must not call stop(). An exception in it becomes status 500.
class AdminServer {
 public:
  using Handler = std::function<AdminReply(const AdminRequest&)>;

  /// Takes the socket over when its file is left from a process that is gone; refuses (kConflict)
  /// when somebody answers there.
  static Result<AdminServer> start(const AdminServerOptions& options, Handler handler);

  AdminServer(AdminServer&&) noexcept;
  AdminServer& operator=(AdminServer&&) noexcept;
  ~AdminServer();

  /// Waits for the request in progress, then removes the socket file. May be called twice.
  void stop();

 private:
  struct Impl;
  explicit AdminServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// One request per call over a connection of its own.
class AdminClient {
 public:
  /// `daemon` ("weir-l4") is named in errors.
  AdminClient(std::string daemon, std::string socket_path);

  /// Any status is a reply; only a daemon that cannot be reached or does not answer is an error.
  [[nodiscard]] Result<AdminReply> request(const std::string& method, const std::string& path,
                                           const std::string& body = {}) const;

  /// A reply without an end: `on_piece` gets its body as it comes, and ends it by returning false.
  /// A refusal, with its body, is a reply too; then `on_piece` is not called. An error is also what
  /// a daemon that breaks off causes.
  [[nodiscard]] Result<AdminReply> stream(
      const std::string& path, const std::function<bool(std::string_view)>& on_piece) const;

  /// Whether somebody listens on the socket.
  [[nodiscard]] bool reachable() const;

  [[nodiscard]] const std::string& daemon() const { return daemon_; }

 private:
  [[nodiscard]] Result<void> check_reachable() const;

  std::string daemon_;
  std::string socket_path_;
};

}  // namespace weir::control
