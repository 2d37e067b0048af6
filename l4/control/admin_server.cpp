#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <condition_variable>
#include <deque>
#include <exception>
#include <map>
#include <new>
#include <set>
#include <system_error>
#include <thread>
#include <utility>

#include "l4/base/fd.h"
#include "l4/base/log.h"
#include "l4/control/admin.h"
#include "l4/control/admin_connection.h"
#include "l4/control/admin_socket.h"
#include "l4/control/admin_tls.h"
#include "l4/wire/address.h"

namespace weir::control {
namespace {

/// At once; more wait, in the kernel's queue or, where only their source has no place left, in the
/// door's. Over TCP anybody may come, so those have places of their own, and nobody has all of
/// them.
struct Places {
  std::size_t all = 0;
  std::size_t of_one_source = 0;  // 0: all of them
};
constexpr Places kLocalPlaces{256, 0};
constexpr Places kTlsPlaces{64, 16};
constexpr Places kMetricsPlaces{16, 12};
constexpr std::size_t kWaitingMax = 64;  // at a door; whoever comes then is closed
constexpr int kBacklog = 256;
constexpr auto kHandshakeTimeout = std::chrono::seconds{5};
constexpr int kRetryMs = 100;  // after accept() failed, for want of descriptors mostly
/// Refusals come from outside: one line of the log for so long.
constexpr auto kRefusalLogInterval = std::chrono::seconds{10};

/// Who the client is, as far as places go: an IPv4 address, or the /64 that one host has all of.
std::string source_of(const sockaddr_storage& from) {
  if (from.ss_family == AF_INET) {
    // The family says what it is.
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(from);
    return {reinterpret_cast<const char*>(&v4.sin_addr), sizeof(v4.sin_addr)};
  }
  if (from.ss_family != AF_INET6) return {};
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(from);  // as above
  return {reinterpret_cast<const char*>(&v6.sin6_addr), 8};
}

std::uint16_t port_of(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  // As above; IPv4 and IPv6 have the port at the same place.
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  return ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

/// How a client came in, which says what it may.
enum class Entry : std::uint8_t { kLocal, kTls, kMetrics };

/// A client whose source has all the places that one may have.
struct Waiting {
  UniqueFd fd;
  std::string source;
};

struct Door {
  Entry entry;
  Places places;
  UniqueFd fd = {};
  std::size_t taken = 0;                              // of the places
  std::map<std::string, std::size_t> by_source = {};  // TCP alone
  std::deque<Waiting> waiting = {};                   // the listening thread's
};

}  // namespace

/// Stays in place behind a pointer because its threads refer to it.
struct AdminServer::Impl {
  explicit Impl(Handler handler) : service{std::move(handler)} {}

  std::string socket_path;
  AdminService service;
  std::optional<AdminTls> tls;
  UniqueFd wake;  // an eventfd: a place is free again, or the end
  std::array<Door, 3> doors{Door{Entry::kLocal, kLocalPlaces}, Door{Entry::kTls, kTlsPlaces},
                            Door{Entry::kMetrics, kMetricsPlaces}};
  std::thread thread;

  std::mutex mutex;  // guards all below, and what listeners count
  std::condition_variable changed;
  std::set<int> open;  // the clients' descriptors
  Instant refusals_told_until{};

  void log_refusal(const Error& error) {
    const Instant now = monotonic_now();
    const std::lock_guard lock{mutex};
    if (now < refusals_told_until) return;
    refusals_told_until = now + kRefusalLogInterval;
    log_warning("a client was refused: {} (more of them are not logged for {} s)", error.text(),
                kRefusalLogInterval.count());
  }

  void wake_up() const {
    const std::uint64_t one = 1;
    // Cannot fail but where the counter is full, and then it is awake.
    static_cast<void>(::write(wake.get(), &one, sizeof(one)));
  }

  Door& door_of(Entry entry) { return doors.at(static_cast<std::size_t>(entry)); }

  void serve(int fd, Entry entry) {
    if (entry == Entry::kTls) return serve_tls(fd);
    PlainChannel channel{fd};
    serve_admin_client(channel, service,
                       entry == Entry::kMetrics ? AdminScope::kMetrics : AdminScope::kEverything);
  }

  void serve_tls(int fd) {
    auto channel = tls->accept(fd, monotonic_now() + kHandshakeTimeout);
    if (!channel) {
      log_refusal(channel.error());
      PlainChannel plain{fd};  // the alert, which says why, must arrive
      end_admin_client(plain);
      return;
    }
    const std::optional<std::string> refused = tls->refused_name(**channel);
    if (!refused) {
      serve_admin_client(**channel, service);
      return;
    }
    const Error error{ErrorCode::kDenied,
                      fmt::format("the client '{}' is not among those of --tls-allow", *refused),
                      "use another certificate, or name it there"};
    log_refusal(error);
    refuse_admin_client(**channel, error_reply(error));
  }

  /// A thread for each connection: clients that say nothing keep nobody waiting.
  void run(UniqueFd fd, Door& door, const std::string& source) {
    // Writing to a client that is gone must not end the daemon; OpenSSL has no flag for that.
    sigset_t pipe_signal;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &pipe_signal, nullptr);
    try {
      serve(fd.get(), door.entry);
    } catch (const std::exception& error) {  // out of memory: this client's loss alone
      log_error("a client's request was given up: {}", error.what());
    }
    const std::lock_guard lock{mutex};
    open.erase(fd.get());
    fd.reset();
    leave(door, source);
    wake_up();
    changed.notify_all();  // under the lock: after it this object may be gone
  }

  /// Under the mutex.
  static void leave(Door& door, const std::string& source) {
    --door.taken;
    const auto found = door.by_source.find(source);
    if (found != door.by_source.end() && --found->second == 0) door.by_source.erase(found);
  }

  /// Under the mutex. False where all places are taken, or all that one source may have.
  static bool enter(Door& door, const std::string& source) {
    if (door.taken >= door.places.all) return false;
    if (door.places.of_one_source != 0) {
      std::size_t& mine = door.by_source[source];
      if (mine == door.places.of_one_source) return false;
      ++mine;
    }
    ++door.taken;
    return true;
  }

  /// False where the system has no descriptor or thread for it now.
  bool take_client(Door& door) {
    sockaddr_storage from{};
    socklen_t size = sizeof(from);
    // The socket interface takes every address family through the generic type.
    UniqueFd fd{::accept4(door.fd.get(), reinterpret_cast<sockaddr*>(&from), &size,
                          SOCK_CLOEXEC | SOCK_NONBLOCK)};
    if (!fd) return errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
    const std::string source = source_of(from);
    const std::lock_guard lock{mutex};
    if (enter(door, source)) return begin(door, std::move(fd), source);
    if (door.waiting.size() < kWaitingMax) door.waiting.push_back({std::move(fd), source});
    return true;
  }

  /// Those who waited for a place that is free now, in their order.
  void admit_waiting(Door& door) {
    const std::lock_guard lock{mutex};
    std::erase_if(door.waiting, [&](Waiting& client) {
      if (!enter(door, client.source)) return false;
      begin(door, std::move(client.fd), client.source);
      return true;
    });
  }

  /// Under the mutex, with a place taken. False where the system has no thread for it now.
  bool begin(Door& door, UniqueFd fd, const std::string& source) {
    const int number = fd.get();
    open.insert(number);
    try {
      std::thread{[this, owned = std::move(fd), &door, source]() mutable {
        run(std::move(owned), door, source);
      }}.detach();
    } catch (const std::system_error&) {
      open.erase(number);
      leave(door, source);
      return false;
    }
    return true;
  }

  [[nodiscard]] pollfd watched(const Door& door) {
    const std::lock_guard lock{mutex};
    const bool has_room = door.fd && door.taken < door.places.all;
    return {has_room ? door.fd.get() : -1, POLLIN, 0};
  }

  void listen() {
    bool is_short = false;  // of descriptors or threads: a pause instead of a spin
    while (!service.is_stopping) {
      std::array<pollfd, 4> all{watched(doors[0]), watched(doors[1]), watched(doors[2]),
                                pollfd{wake.get(), POLLIN, 0}};
      pollfd* first = is_short ? &all.back() : all.data();
      if (::poll(first, is_short ? 1 : all.size(), is_short ? kRetryMs : -1) < 0) continue;
      is_short = false;
      std::uint64_t count = 0;
      if (all.back().revents != 0) static_cast<void>(::read(wake.get(), &count, sizeof(count)));
      try {
        for (Door& each : doors)
          admit_waiting(each);
        for (std::size_t i = 0; i < doors.size(); ++i)
          if (all.at(i).revents != 0 && !take_client(doors.at(i))) is_short = true;
      } catch (const std::bad_alloc&) {  // this client's loss alone
        is_short = true;
      }
    }
  }

  void stop() {
    service.is_stopping = true;
    wake_up();
    thread.join();
    for (Door& each : doors) {
      each.fd.reset();
      each.waiting.clear();
    }
    std::unique_lock lock{mutex};
    // Who has not said all by now is not listened to; what is being answered is answered.
    for (const int fd : open)
      ::shutdown(fd, SHUT_RD);
    changed.wait(lock, [this] { return open.empty(); });
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
  auto impl = std::make_unique<Impl>(std::move(handler));
  if (options.tls) {
    Result<AdminTls> tls = AdminTls::open(*options.tls);
    if (!tls) return std::move(tls).error();
    Result<UniqueFd> tcp = listen_on_tcp(options.tls->listen, kBacklog);
    if (!tcp) return std::move(tcp).error();
    impl->tls = *std::move(tls);
    impl->door_of(Entry::kTls).fd = *std::move(tcp);
  }
  if (options.metrics) {
    Result<UniqueFd> tcp = listen_on_tcp(*options.metrics, kBacklog);
    if (!tcp) return std::move(tcp).error();
    impl->door_of(Entry::kMetrics).fd = *std::move(tcp);
  }
  impl->wake.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!impl->wake) return Error::from_errno("making an eventfd");
  Result<UniqueFd> listening = listen_on_unix_socket(options.socket_path, options.socket_mode,
                                                     options.socket_group, kBacklog);
  if (!listening) return std::move(listening).error();
  impl->door_of(Entry::kLocal).fd = *std::move(listening);
  impl->socket_path = options.socket_path;
  impl->thread = std::thread{[server = impl.get()] { server->listen(); }};
  return AdminServer{std::move(impl)};
}

void AdminServer::stop() {
  if (!impl_ || !impl_->thread.joinable()) return;
  // While it listens: whoever comes next must find no file, or his own.
  ::unlink(impl_->socket_path.c_str());
  impl_->stop();
}

void AdminServer::hand_over() {
  if (impl_ && impl_->thread.joinable()) impl_->stop();
}

std::uint16_t AdminServer::tcp_port() const {
  if (!impl_) return 0;
  const UniqueFd& fd = impl_->door_of(Entry::kTls).fd;
  return fd ? port_of(fd.get()) : std::uint16_t{0};
}

}  // namespace weir::control
