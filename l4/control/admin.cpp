#include "l4/control/admin.h"

#include <httplib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <nlohmann/json.hpp>
#include <system_error>
#include <thread>
#include <utility>

#include "l4/base/fd.h"

namespace weir::control {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kRequestBytesMax = kConfigBytesMax + 1024 * 1024;  // the file, as JSON text
constexpr int kConnectionsMax = 256;                                     // at once; more wait
constexpr auto kReadTimeout = std::chrono::seconds{2};
constexpr auto kStartTimeout = std::chrono::seconds{5};
constexpr auto kReplyTimeout = std::chrono::seconds{60};  // loading a program may take that long

/// Text that came from outside may hold anything; JSON must be UTF-8.
std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

struct CodeWords {
  ErrorCode code;
  std::string_view word;
  int status;
};

constexpr std::array<CodeWords, 7> kCodes{{
    {ErrorCode::kInvalid, "invalid", 400},
    {ErrorCode::kDenied, "denied", 403},
    {ErrorCode::kNotFound, "not_found", 404},
    {ErrorCode::kConflict, "conflict", 409},
    {ErrorCode::kInternal, "internal", 500},
    {ErrorCode::kUnsupported, "unsupported", 501},
    {ErrorCode::kUnavailable, "unavailable", 503},
}};

Json error_json(const Error& error) {
  for (const CodeWords& row : kCodes) {
    if (row.code == error.code())
      return {{"code", row.word}, {"message", error.message()}, {"remedy", error.remedy()}};
  }
  WEIR_ASSERT(false);  // kCodes has every code
  return {};
}

int status_of(const Error& error) {
  for (const CodeWords& row : kCodes) {
    if (row.code == error.code()) return row.status;
  }
  return 500;
}

std::string text_at(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string{};
}

std::size_t count_at(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number_unsigned() ? found->get<std::size_t>() : 0;
}

Result<sockaddr_un> socket_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return Error{ErrorCode::kInvalid,
                 fmt::format("socket path '{}' is {} bytes long", path, path.size()),
                 fmt::format("use 1 to {} bytes", sizeof(address.sun_path) - 1)};
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

/// Success when somebody accepts connections on the socket.
Result<void> try_to_connect(const std::string& path) {
  const Result<sockaddr_un> address = socket_address(path);
  if (!address) return address.error();
  const UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  if (!fd) return Error::from_errno("opening a unix socket");
  // The socket interface takes every address family through the generic type.
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) != 0)
    return Error::from_errno("connect");
  return {};
}

/// Makes the path free for bind(): removes a socket file that nobody listens on.
Result<void> clear_stale_socket(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return {};
    return Error::from_errno(fmt::format("looking at {}", path));
  }
  if (!S_ISSOCK(status.st_mode)) {
    return Error{ErrorCode::kConflict, fmt::format("{} exists and is not a socket", path),
                 "remove it or choose another path"};
  }
  if (try_to_connect(path)) {
    return Error{ErrorCode::kConflict, fmt::format("somebody already listens on {}", path),
                 "stop the other daemon or choose another socket"};
  }
  if (::unlink(path.c_str()) != 0 && errno != ENOENT)
    return Error::from_errno(fmt::format("removing the stale socket {}", path));
  return {};
}

Result<void> make_directory_of(const std::string& path) {
  const std::filesystem::path directory = std::filesystem::path{path}.parent_path();
  std::error_code error;
  if (directory.empty() || std::filesystem::is_directory(directory, error)) return {};
  if (::mkdir(directory.c_str(), 0755) != 0 && errno != EEXIST)
    return Error::from_errno(fmt::format("making the directory {}", directory.string()));
  return {};
}

AdminRequest request_of(const httplib::Request& request) {
  AdminRequest plain;
  plain.method = request.method;
  plain.path = request.path;
  for (const auto& [name, value] : request.params)
    plain.query[name] = value;
  plain.body = request.body;
  return plain;
}

}  // namespace

AdminReply error_reply(const Error& error) {
  return {status_of(error), dump({{"error", error_json(error)}})};
}

AdminReply diagnostics_reply(const std::vector<Diagnostic>& diagnostics) {
  Json list = Json::array();
  for (const Diagnostic& diagnostic : diagnostics) {
    list.push_back({{"file", diagnostic.file},
                    {"line", diagnostic.line},
                    {"column", diagnostic.column},
                    {"message", diagnostic.message},
                    {"expectation", diagnostic.expectation},
                    {"hint", diagnostic.hint},
                    {"text", diagnostic.text()}});
  }
  const Error error{ErrorCode::kInvalid,
                    fmt::format("the configuration was refused, {} error{}; nothing was changed",
                                diagnostics.size(), diagnostics.size() == 1 ? "" : "s")};
  return {422, dump({{"error", error_json(error)}, {"diagnostics", std::move(list)}})};
}

AdminReply unknown_path_reply(const AdminRequest& request) {
  return error_reply(Error{ErrorCode::kNotFound,
                           fmt::format("the API has no {} {}", request.method, request.path),
                           "see the README's section on the admin API"});
}

std::string to_json(const ConfigSubmission& submission) {
  return dump({{"file", submission.file}, {"text", submission.text}});
}

Result<ConfigSubmission> submission_from_json(std::string_view text) {
  const Json json = Json::parse(text, nullptr, false);
  const bool fits = json.is_object() && json.contains("file") && json["file"].is_string() &&
                    json.contains("text") && json["text"].is_string();
  if (!fits) {
    return Error{ErrorCode::kInvalid, "the body is not a configuration to apply",
                 R"(send {"file": "/path/weir.yaml", "text": "version: 1…"})"};
  }
  ConfigSubmission submission{json["file"].get<std::string>(), json["text"].get<std::string>()};
  if (!submission.file.starts_with('/')) {
    return Error{ErrorCode::kInvalid,
                 fmt::format("file '{}' is not an absolute path", submission.file),
                 "relative paths in the configuration start at its directory"};
  }
  return submission;
}

Refusal refusal_of(const AdminReply& reply) {
  Refusal refusal{Error{ErrorCode::kInternal, fmt::format("status {}", reply.status)}, {}};
  const Json json = Json::parse(reply.body, nullptr, false);
  if (!json.is_object()) return refusal;
  if (const auto error = json.find("error"); error != json.end() && error->is_object()) {
    ErrorCode code = ErrorCode::kInternal;
    for (const CodeWords& row : kCodes) {
      if (row.word == text_at(*error, "code")) code = row.code;
    }
    refusal.error = Error{code, text_at(*error, "message"), text_at(*error, "remedy")};
  }
  if (const auto list = json.find("diagnostics"); list != json.end() && list->is_array()) {
    for (const Json& item : *list) {
      if (!item.is_object()) continue;
      refusal.diagnostics.push_back({text_at(item, "file"), count_at(item, "line"),
                                     count_at(item, "column"), text_at(item, "message"),
                                     text_at(item, "expectation"), text_at(item, "hint")});
    }
  }
  return refusal;
}

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

namespace {

/// A thread for each connection: clients that say nothing keep nobody waiting.
class ConnectionThreads : public httplib::TaskQueue {
 public:
  void enqueue(std::function<void()> serve) override {
    std::unique_lock lock{mutex_};
    changed_.wait(lock, [this] { return running_ < kConnectionsMax; });
    ++running_;
    try {
      std::thread{[this, serve] { run(serve); }}.detach();
    } catch (const std::system_error&) {  // no more threads: this one has to do
      lock.unlock();
      run(serve);
    }
  }

  void shutdown() override {
    std::unique_lock lock{mutex_};
    changed_.wait(lock, [this] { return running_ == 0; });
  }

 private:
  void run(const std::function<void()>& serve) {
    serve();
    const std::lock_guard lock{mutex_};
    --running_;
    changed_.notify_all();  // under the lock: after it this object may be gone
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  int running_ = 0;
};

}  // namespace

/// The HTTP server stays in place behind a pointer because its thread and handlers refer to it.
struct AdminServer::Impl {
  std::string socket_path;
  Handler handler;
  std::mutex one_at_a_time;
  httplib::Server server;
  int listening = -1;  // the server's
  std::thread thread;

  void serve(const httplib::Request& request, httplib::Response& response) {
    AdminReply reply;
    {
      const std::lock_guard lock{one_at_a_time};
      reply = handler(request_of(request));
    }
    response.status = reply.status;
    if (!reply.more) {
      response.set_content(std::move(reply.body), reply.content_type);
      return;
    }
    response.set_chunked_content_provider(
        reply.content_type,
        [more = std::move(reply.more)](std::size_t /*offset*/, httplib::DataSink& sink) {
          const std::optional<std::string> piece = more();
          if (!piece) {
            sink.done();
            return true;
          }
          return sink.write(piece->data(), piece->size());
        });
  }

  void set_up() {
    server.set_address_family(AF_UNIX);
    server.new_task_queue = [] { return new ConnectionThreads; };
    server.set_payload_max_length(kRequestBytesMax);
    server.set_read_timeout(kReadTimeout);
    server.set_socket_options([this](int socket) { listening = socket; });
    // One request per connection: an idle client must not hold a thread.
    server.set_keep_alive_max_count(1);
    const auto route = [this](const httplib::Request& request, httplib::Response& response) {
      serve(request, response);
    };
    server.Get(".*", route).Post(".*", route).Put(".*", route);
    server.Patch(".*", route).Delete(".*", route);
    server.set_exception_handler(
        [](const httplib::Request&, httplib::Response& response, std::exception_ptr) {
          const AdminReply reply =
              error_reply(Error{ErrorCode::kInternal, "the request could not be handled"});
          response.status = reply.status;
          response.set_content(reply.body, reply.content_type);
        });
    server.set_error_handler([](const httplib::Request&, httplib::Response& response) {
      if (!response.body.empty()) return;
      const Error error{ErrorCode::kInvalid,
                        response.status == 413
                            ? fmt::format("the body is larger than {} bytes", kRequestBytesMax)
                            : fmt::format("status {}", response.status)};
      response.set_content(dump({{"error", error_json(error)}}), "application/json");
    });
  }
};

AdminServer::AdminServer(std::unique_ptr<Impl> impl) : impl_{std::move(impl)} {}
AdminServer::AdminServer(AdminServer&&) noexcept = default;

AdminServer& AdminServer::operator=(AdminServer&& other) noexcept {
  if (this != &other) {
    stop();
    impl_ = std::move(other.impl_);
  }
  return *this;
}

AdminServer::~AdminServer() { stop(); }

Result<AdminServer> AdminServer::start(const AdminServerOptions& options, Handler handler) {
  const std::string& path = options.socket_path;
  if (const Result<sockaddr_un> address = socket_address(path); !address) return address.error();
  if (Result<void> made = make_directory_of(path); !made) return std::move(made).error();
  if (Result<void> cleared = clear_stale_socket(path); !cleared) return std::move(cleared).error();

  auto impl = std::make_unique<Impl>();
  impl->socket_path = path;
  impl->handler = std::move(handler);
  impl->set_up();
  // The mask, not a later chmod(), so that nobody can connect in between.
  const mode_t old_mask = ::umask(~mode_t{options.socket_mode} & mode_t{0777});
  errno = 0;
  const bool bound = impl->server.bind_to_port(path, 80);
  const int bind_error = errno;
  ::umask(old_mask);
  if (!bound) return Error::from_errno(fmt::format("listening on {}", path), bind_error);
  // The library asks for five, and whoever comes sixth at the same moment would be turned away.
  if (::listen(impl->listening, kConnectionsMax) != 0)
    return Error::from_errno(fmt::format("listening on {}", path));

  impl->thread = std::thread{[server = &impl->server] { server->listen_after_bind(); }};
  // stop() has no effect before the thread is in its loop, so nobody gets the object earlier.
  const auto deadline = std::chrono::steady_clock::now() + kStartTimeout;
  while (!impl->server.is_running() && std::chrono::steady_clock::now() < deadline)
    std::this_thread::yield();
  WEIR_ASSERT(impl->server.is_running());  // the socket listens; only the thread had to start
  return AdminServer{std::move(impl)};
}

void AdminServer::stop() {
  if (!impl_ || !impl_->thread.joinable()) return;
  impl_->server.stop();
  impl_->thread.join();
  ::unlink(impl_->socket_path.c_str());
}

AdminClient::AdminClient(std::string daemon, std::string socket_path)
    : daemon_{std::move(daemon)}, socket_path_{std::move(socket_path)} {}

bool AdminClient::reachable() const { return try_to_connect(socket_path_).has_value(); }

Result<void> AdminClient::check_reachable() const {
  Result<void> connected = try_to_connect(socket_path_);
  if (connected) return {};
  const Error& why = connected.error();
  return Error{why.code() == ErrorCode::kDenied ? ErrorCode::kDenied : ErrorCode::kUnavailable,
               fmt::format("cannot reach {} at {} ({})", daemon_, socket_path_, why.message()),
               why.code() == ErrorCode::kDenied
                   ? "run as root or as a member of the socket's group"
                   : fmt::format("is it running? start {}, or name its socket with --{}-socket",
                                 daemon_, daemon_.ends_with("l4") ? "l4" : "l7")};
}

namespace {

httplib::Request request_for(const std::string& method, const std::string& path) {
  httplib::Request request;
  request.method = method;
  request.path = path;
  request.set_header("Host", "localhost");
  request.set_header("Content-Type", "application/json");
  return request;
}

/// Ready to ask; the caller has encoded in the path what needs it.
void set_up_client(httplib::Client& client) {
  client.set_address_family(AF_UNIX);
  client.set_url_encode(false);
  client.set_read_timeout(kReplyTimeout);
}

}  // namespace

Result<AdminReply> AdminClient::request(const std::string& method, const std::string& path,
                                        const std::string& body) const {
  if (Result<void> reached = check_reachable(); !reached) return std::move(reached).error();
  httplib::Client client{socket_path_, 80};
  set_up_client(client);
  httplib::Request request = request_for(method, path);
  request.body = body;
  const httplib::Result result = client.send(request);
  if (!result) {
    return Error{ErrorCode::kUnavailable,
                 fmt::format("{} at {} gave no answer to {} {} ({})", daemon_, socket_path_, method,
                             path, httplib::to_string(result.error())),
                 "its log says why"};
  }
  return AdminReply{result->status, result->body, result->get_header_value("Content-Type")};
}

Result<AdminReply> AdminClient::stream(
    const std::string& path, const std::function<bool(std::string_view)>& on_piece) const {
  if (Result<void> reached = check_reachable(); !reached) return std::move(reached).error();
  httplib::Client client{socket_path_, 80};
  set_up_client(client);
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
  const httplib::Result result = client.send(request);
  if (result || is_enough) return reply;
  return Error{ErrorCode::kUnavailable,
               fmt::format("{} at {} broke off its answer to GET {} ({})", daemon_, socket_path_,
                           path, httplib::to_string(result.error())),
               "its log says why"};
}

}  // namespace weir::control
