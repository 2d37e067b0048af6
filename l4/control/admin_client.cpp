#include <fmt/format.h>
#include <httplib.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#include <charconv>
#include <chrono>
#include <filesystem>
#include <memory>
#include <system_error>
#include <thread>
#include <utility>

#include "l4/control/admin.h"
#include "l4/control/admin_socket.h"

namespace weir::control {
namespace {

constexpr auto kConnectTimeout = std::chrono::seconds{5};
constexpr auto kStartPause = std::chrono::milliseconds{50};

httplib::Request request_for(const std::string& method, const std::string& path) {
  httplib::Request request;
  request.method = method;
  request.path = path;
  request.set_header("Host", "localhost");
  request.set_header("Content-Type", "application/json");
  return request;
}

struct HostAndPort {
  std::string host;
  int port = 0;
};

/// "https://HOST:PORT", an IPv6 address in brackets.
Result<HostAndPort> parse_url(const std::string& url) {
  constexpr std::string_view kScheme = "https://";
  std::string_view rest = url;
  HostAndPort parsed;
  if (rest.starts_with(kScheme)) {
    rest.remove_prefix(kScheme.size());
    while (rest.ends_with('/'))
      rest.remove_suffix(1);
    const std::size_t colon = rest.rfind(':');
    std::string_view host = rest.substr(0, colon);
    if (colon != std::string_view::npos) {
      const std::string_view port = rest.substr(colon + 1);
      const auto read = std::from_chars(port.data(), port.data() + port.size(), parsed.port);
      if (read.ec != std::errc{} || read.ptr != port.data() + port.size()) parsed.port = 0;
    }
    if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
    parsed.host = host;
  }
  if (!parsed.host.empty() && parsed.port > 0 && parsed.port < 65536) return parsed;
  return Error{ErrorCode::kInvalid, fmt::format("'{}' is not https://HOST:PORT", url),
               "as in https://balancer-1.example:9443"};
}

/// A daemon may refuse a body before it was sent whole. The library then writes to a closed socket;
/// that must be an error here, and no signal that ends the caller. Others than this thread, and
/// what it does otherwise, are left alone.
class NoPipeSignal {
 public:
  NoPipeSignal() {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  NoPipeSignal(const NoPipeSignal&) = delete;
  NoPipeSignal& operator=(const NoPipeSignal&) = delete;
  ~NoPipeSignal() {
    constexpr timespec kNow{};
    if (sigismember(&before_, SIGPIPE) == 0) ::sigtimedwait(&pipe_, nullptr, &kNow);
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t pipe_{};
  sigset_t before_{};
};

using Client = std::unique_ptr<httplib::ClientImpl>;

Result<Client> tls_client(const AdminRemote& remote) {
  Result<HostAndPort> place = parse_url(remote.url);
  if (!place) return std::move(place).error();
  if (remote.certificate_file.empty() || remote.key_file.empty() || remote.ca_file.empty()) {
    return Error{ErrorCode::kInvalid, fmt::format("{} asks for a certificate", remote.url),
                 "give --tls-cert, --tls-key and --tls-ca, all three"};
  }
  auto client = std::make_unique<httplib::SSLClient>(place->host, place->port,
                                                     remote.certificate_file, remote.key_file);
  if (!client->is_valid()) {
    return Error{ErrorCode::kInvalid,
                 fmt::format("{} and {} are no certificate and its key", remote.certificate_file,
                             remote.key_file),
                 "name two PEM files that belong together"};
  }
  client->set_ca_cert_path(remote.ca_file);
  client->enable_server_certificate_verification(true);
  SSL_CTX_set_min_proto_version(client->ssl_context(), TLS1_2_VERSION);
  return Client{std::move(client)};
}

/// Ready to ask; the caller has encoded in the path what needs it.
Result<Client> make_client(const std::string& socket_path, const std::optional<AdminRemote>& remote,
                           std::chrono::seconds patience) {
  Client client;
  if (remote) {
    Result<Client> made = tls_client(*remote);
    if (!made) return made;
    client = *std::move(made);
  } else {
    client = std::make_unique<httplib::ClientImpl>(socket_path, 80);
    client->set_address_family(AF_UNIX);
  }
  client->set_url_encode(false);
  client->set_connection_timeout(kConnectTimeout);
  client->set_read_timeout(patience);
  return client;
}

/// Whether the daemon may have got the request, and done what it asks for.
bool was_asked(httplib::Error error) {
  return error == httplib::Error::Read || error == httplib::Error::Write ||
         error == httplib::Error::Unknown;
}

/// What the person can do about a connection that did not come about, or ended.
std::string remedy_for(httplib::Error error) {
  switch (error) {
    case httplib::Error::Connection:
    case httplib::Error::ConnectionTimeout:
      return "is it running, with --listen there?";
    case httplib::Error::SSLServerVerification:
      return "its certificate must be of the authority in --tls-ca, valid now, and for that host";
    case httplib::Error::SSLLoadingCerts:
      return "--tls-ca must be a PEM file with the authority's certificate";
    case httplib::Error::SSLConnection:
      return "it speaks no TLS there, or does not take your certificate";
    default:
      return "its log says why";
  }
}

}  // namespace

std::string percent_encoded(std::string_view text) {
  std::string encoded;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '.' || c == '_' || c == '~';
    if (plain) {
      encoded += c;
    } else {
      encoded += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return encoded;
}

AdminClient::AdminClient(std::string daemon, std::string socket_path)
    : daemon_{std::move(daemon)}, socket_path_{std::move(socket_path)} {}

AdminClient::AdminClient(std::string daemon, AdminRemote remote)
    : daemon_{std::move(daemon)}, remote_{std::move(remote)} {}

std::string AdminClient::place() const { return remote_ ? remote_->url : socket_path_; }

Result<bool> AdminClient::runs(std::chrono::milliseconds patience) const {
  if (remote_) return true;
  if (socket_path_.empty()) return false;
  for (const auto deadline = std::chrono::steady_clock::now() + patience;;) {
    Result<void> reached = check_reachable();
    if (reached) return true;
    if (reached.error().code() != ErrorCode::kUnavailable) return std::move(reached).error();
    std::error_code error;
    if (!std::filesystem::exists(socket_path_, error) && !error) return false;
    if (std::chrono::steady_clock::now() >= deadline) break;
    std::this_thread::sleep_for(kStartPause);
  }
  return Error{
      ErrorCode::kUnavailable,
      fmt::format("{} does not listen on {}, but has left the file there: it has crashed, "
                  "or is starting again",
                  daemon_, socket_path_),
      fmt::format("start it, or, where it is not to run any more, remove {}", socket_path_)};
}

Result<void> AdminClient::check_reachable() const {
  if (remote_) return {};  // TLS tells more than a connection does
  if (socket_path_.empty()) {
    return Error{
        ErrorCode::kUnavailable, fmt::format("{} was not named", daemon_),
        fmt::format("name it with {}", daemon_.ends_with("l4") ? "--connect" : "--connect-l7")};
  }
  Result<void> connected = try_to_connect(socket_path_);
  if (connected) return {};
  const Error& why = connected.error();
  return Error{why.code() == ErrorCode::kDenied ? ErrorCode::kDenied : ErrorCode::kUnavailable,
               fmt::format("cannot reach {} at {} ({})", daemon_, socket_path_, why.message()),
               why.code() == ErrorCode::kDenied
                   ? "run as root or as a member of the socket's group"
                   : fmt::format("is it running? start {}, name its socket with --{}-socket, or "
                                 "restart it where the file was removed",
                                 daemon_, daemon_.ends_with("l4") ? "l4" : "l7")};
}

Result<AdminReply> AdminClient::request(const std::string& method, const std::string& path,
                                        const std::string& body,
                                        std::chrono::seconds patience) const {
  if (Result<void> reached = check_reachable(); !reached) return std::move(reached).error();
  Result<Client> client = make_client(socket_path_, remote_, patience);
  if (!client) return std::move(client).error();
  httplib::Request request = request_for(method, path);
  request.body = body;
  const NoPipeSignal no_pipe_signal;
  const httplib::Result result = (*client)->send(request);
  if (!result) {
    return Error{was_asked(result.error()) ? ErrorCode::kInternal : ErrorCode::kUnavailable,
                 fmt::format("{} at {} gave no answer to {} {} ({})", daemon_, place(), method,
                             path, httplib::to_string(result.error())),
                 remedy_for(result.error())};
  }
  return AdminReply{result->status, result->body, result->get_header_value("Content-Type")};
}

Result<AdminReply> AdminClient::stream(
    const std::string& path, const std::function<bool(std::string_view)>& on_piece) const {
  if (Result<void> reached = check_reachable(); !reached) return std::move(reached).error();
  Result<Client> client = make_client(socket_path_, remote_, kReplyTimeout);
  if (!client) return std::move(client).error();
  httplib::Request request = request_for("GET", path);
  AdminReply reply{0, {}};
  bool is_enough = false;
  request.response_handler = [&](const httplib::Response& response) {
    reply.status = response.status;
    reply.content_type = response.get_header_value("Content-Type");
    return true;
  };
  request.content_receiver = [&](const char* data, std::size_t size, std::uint64_t, std::uint64_t) {
    if (reply.status >= 400) {
      reply.body.append(data, size);
      return true;
    }
    is_enough = !on_piece({data, size});
    return !is_enough;
  };
  const NoPipeSignal no_pipe_signal;
  const httplib::Result result = (*client)->send(request);
  if (result || is_enough) return reply;
  return Error{ErrorCode::kUnavailable,
               fmt::format("{} at {} broke off its answer to GET {} ({})", daemon_, place(), path,
                           httplib::to_string(result.error())),
               remedy_for(result.error())};
}

}  // namespace weir::control
