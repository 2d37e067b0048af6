#include "l7/resolver.h"

#include <ares.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

#include "l4/base/assert.h"
#include "l4/base/log.h"

namespace weir::l7 {
namespace {

/// What goes through most networks in one piece (DNS flag day 2020); longer answers come by TCP.
constexpr int kUdpBytes = 1232;

Error error_of(int status, std::string_view doing) {
  return Error{ErrorCode::kUnavailable, fmt::format("{}: {}", doing, ares_strerror(status)), {}};
}

LookupResult result_of(int status) {
  switch (status) {
    case ARES_SUCCESS:
      return LookupResult::kFound;
    case ARES_ENODATA:
      return LookupResult::kNoAddress;
    case ARES_ENOTFOUND:
      return LookupResult::kNoName;
    case ARES_ETIMEOUT:
      return LookupResult::kTimeout;
    case ARES_ESERVFAIL:
    case ARES_EREFUSED:
    case ARES_ENOTIMP:
    case ARES_ECONNREFUSED:  // what c-ares says when every server has done one of these
      return LookupResult::kRefused;
    case ARES_EFORMERR:
    case ARES_EBADRESP:
    case ARES_EBADNAME:
    case ARES_EBADSTR:
      return LookupResult::kMalformed;
    default:
      return LookupResult::kFailed;
  }
}

/// The family was asked for; what else may stand in an answer is left out.
std::optional<wire::IpAddress> address_of(const ares_addrinfo_node& node) {
  if (node.ai_family == AF_INET && node.ai_addrlen >= sizeof(sockaddr_in)) {
    std::array<std::uint8_t, 4> octets;
    const auto* address = reinterpret_cast<const sockaddr_in*>(node.ai_addr);
    std::memcpy(octets.data(), &address->sin_addr, octets.size());
    return wire::IpAddress::v4(std::span<const std::uint8_t, 4>{octets});
  }
  if (node.ai_family == AF_INET6 && node.ai_addrlen >= sizeof(sockaddr_in6)) {
    std::array<std::uint8_t, 16> octets;
    const auto* address = reinterpret_cast<const sockaddr_in6*>(node.ai_addr);
    std::memcpy(octets.data(), &address->sin6_addr, octets.size());
    return wire::IpAddress::v6(std::span<const std::uint8_t, 16>{octets});
  }
  return std::nullopt;
}

/// Also frees it. An answer holds for as long as the least of its parts, CNAMEs included.
FamilyAnswer take_answer(int status, ares_addrinfo* found, wire::Family family) {
  FamilyAnswer answer{.result = result_of(status)};
  if (found == nullptr) return answer;
  int ttl_s = std::numeric_limits<int>::max();
  for (const ares_addrinfo_node* node = found->nodes; node != nullptr; node = node->ai_next) {
    const auto address = address_of(*node);
    if (!address || address->family() != family) continue;
    answer.addresses.push_back(*address);
    ttl_s = std::min(ttl_s, node->ai_ttl);
  }
  for (const ares_addrinfo_cname* name = found->cnames; name != nullptr; name = name->next)
    ttl_s = std::min(ttl_s, name->ttl);
  ares_freeaddrinfo(found);
  answer.ttl = std::chrono::seconds{std::max(ttl_s, 0)};
  if (answer.result == LookupResult::kFound && answer.addresses.empty())
    answer.result = LookupResult::kNoAddress;
  return answer;
}

// c-ares' own functions but for two things: nothing blocks or is inherited, and a server that hangs
// up does not end the process by SIGPIPE. It takes all of them or none.

ares_socket_t open_socket(int family, int type, int protocol, void* /*user*/) {
  return ::socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
}
int close_socket(ares_socket_t socket, void* /*user*/) { return ::close(socket); }
int connect_socket(ares_socket_t socket, const sockaddr* to, ares_socklen_t size, void* /*user*/) {
  return ::connect(socket, to, size);
}
ares_ssize_t receive(ares_socket_t socket, void* into, std::size_t size, int flags, sockaddr* from,
                     ares_socklen_t* from_size, void* /*user*/) {
  return ::recvfrom(socket, into, size, flags, from, from_size);
}
ares_ssize_t send_quietly(ares_socket_t socket, const iovec* parts, int count, void* /*user*/) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts);  // which sendmsg() does not write to
  message.msg_iovlen = static_cast<std::size_t>(count);
  return ::sendmsg(socket, &message, MSG_NOSIGNAL);
}

constexpr ares_socket_functions kSocketFunctions{.asocket = open_socket,
                                                 .aclose = close_socket,
                                                 .aconnect = connect_socket,
                                                 .arecvfrom = receive,
                                                 .asendv = send_quietly};

/// Which file it is, and of when.
struct FileStamp {
  ino_t inode = 0;
  std::int64_t modified_ns = 0;
  friend bool operator==(const FileStamp&, const FileStamp&) = default;
};

FileStamp stamp_of(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return {};
  return {status.st_ino, status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec};
}

}  // namespace

struct Resolver::Impl {
  /// What a callback is about; c-ares carries it.
  struct Asked {
    Impl& resolver;
    Question question;
  };

  ~Impl() { close(); }

  Result<void> open();
  void close() {
    if (channel != nullptr) ares_destroy(std::exchange(channel, nullptr));
    sockets.clear();
  }
  void reopen();
  void ask(Question question);
  void advance(Instant at, Duration longest);
  void process(Duration longest);

  static void on_answer(void* context, int status, int timeouts, ares_addrinfo* found);
  static void on_socket(void* context, ares_socket_t socket, int readable, int writable);

  ResolverOptions options;
  NameBook names;
  ares_channel channel = nullptr;
  FileStamp file;
  std::size_t questions = 0;               // that c-ares has
  std::map<ares_socket_t, short> sockets;  // and what is waited for
  Instant now;                             // of the call that is under way
};

Result<void> Resolver::Impl::open() {
  file = stamp_of(options.file);
  ares_options wanted{};
  wanted.flags = ARES_FLAG_EDNS;
  wanted.ednspsz = kUdpBytes;
  wanted.timeout = static_cast<int>(
      std::chrono::duration_cast<std::chrono::milliseconds>(options.timeout).count());
  wanted.tries = options.tries;
  wanted.udp_port = wanted.tcp_port = options.port;
  wanted.sock_state_cb = on_socket;
  wanted.sock_state_cb_data = this;
  wanted.resolvconf_path = options.file.data();
  const int mask = ARES_OPT_FLAGS | ARES_OPT_EDNSPSZ | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES |
                   ARES_OPT_UDP_PORT | ARES_OPT_TCP_PORT | ARES_OPT_SOCK_STATE_CB |
                   ARES_OPT_RESOLVCONF;
  if (const int status = ares_init_options(&channel, &wanted, mask); status != ARES_SUCCESS)
    return error_of(status, "setting up DNS");
  ares_set_socket_functions(channel, &kSocketFunctions, nullptr);
  if (options.servers.empty()) return {};
  const int status = ares_set_servers_ports_csv(channel, options.servers.c_str());
  if (status != ARES_SUCCESS)
    return error_of(status, fmt::format("reading the DNS servers '{}'", options.servers));
  return {};
}

void Resolver::Impl::reopen() {
  close();
  if (Result<void> opened = open(); !opened) log_error("{}", opened.error().text());
}

void Resolver::Impl::on_socket(void* context, ares_socket_t socket, int readable, int writable) {
  auto& sockets = static_cast<Impl*>(context)->sockets;
  const int events = (readable != 0 ? POLLIN : 0) | (writable != 0 ? POLLOUT : 0);
  if (events == 0)
    sockets.erase(socket);
  else
    sockets[socket] = static_cast<short>(events);
}

void Resolver::Impl::on_answer(void* context, int status, int /*timeouts*/, ares_addrinfo* found) {
  const std::unique_ptr<Asked> asked{static_cast<Asked*>(context)};
  FamilyAnswer answer = take_answer(status, found, asked->question.family);
  Impl& self = asked->resolver;
  --self.questions;
  if (status == ARES_EDESTRUCTION) return;  // nobody asks any more
  self.names.answer(asked->question, std::move(answer), self.now);
}

void Resolver::Impl::ask(Question question) {
  if (channel == nullptr) {  // without memory or descriptors
    names.answer(question, {.result = LookupResult::kFailed}, now);
    return;
  }
  ++questions;
  ares_addrinfo_hints hints{};
  hints.ai_family = question.family == wire::Family::kIpv4 ? AF_INET : AF_INET6;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = ARES_AI_NOSORT;  // sorting would open a socket to each
  auto asked = std::make_unique<Asked>(Asked{*this, std::move(question)});
  const std::string name = asked->question.name;  // it may be answered, and gone, at once
  ares_getaddrinfo(channel, name.c_str(), nullptr, &hints, on_answer, asked.release());
}

/// Takes what comes within this time; and what time has ended.
void Resolver::Impl::process(Duration longest) {
  if (channel == nullptr) return;
  std::vector<pollfd> polled;
  for (const auto& [socket, events] : sockets)
    polled.push_back({socket, events, 0});
  // Up, so that what is due then is due.
  const auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(longest).count();
  const int ready = ::poll(polled.data(), polled.size(), static_cast<int>(milliseconds));
  for (const pollfd& each : polled) {
    if (ready <= 0 || each.revents == 0) continue;
    // One that was closed meanwhile is none of c-ares', which looks.
    const bool writable = (each.revents & POLLOUT) != 0;
    const bool readable = (each.revents & ~POLLOUT) != 0;  // errors are found by reading
    ares_process_fd(channel, readable ? each.fd : ARES_SOCKET_BAD,
                    writable ? each.fd : ARES_SOCKET_BAD);
  }
  ares_process_fd(channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);  // time-outs
}

void Resolver::Impl::advance(Instant at, Duration longest) {
  now = at;
  // A host that moves to another network, or gets its first one, has other servers from then on.
  // What is under way ends first.
  const bool is_stale = channel == nullptr || stamp_of(options.file) != file;
  if (!is_stale || questions == 0) {
    std::vector<Question> due = names.take_due(now);
    if (is_stale && !due.empty()) reopen();
    for (Question& question : due)
      ask(std::move(question));
  }
  if (questions > 0) process(longest);
}

Result<Resolver> Resolver::create(ResolverOptions options) {
  // c-ares counts its users; whoever is last would take it down under a thread that still looks.
  if (const int status = ares_library_init(ARES_LIB_INIT_ALL); status != ARES_SUCCESS)
    return error_of(status, "starting c-ares");
  auto impl = std::make_unique<Impl>();
  impl->options = std::move(options);
  if (Result<void> opened = impl->open(); !opened) return std::move(opened).error();
  return Resolver{std::move(impl)};
}

Resolver::Resolver(std::unique_ptr<Impl> impl) : impl_{std::move(impl)} {}
Resolver::Resolver(Resolver&&) noexcept = default;
Resolver& Resolver::operator=(Resolver&&) noexcept = default;
Resolver::~Resolver() = default;

NameBook& Resolver::names() { return impl_->names; }
const NameBook& Resolver::names() const { return impl_->names; }

void Resolver::advance(Instant now) { impl_->advance(now, Duration{}); }

void Resolver::wait(Duration longest) { impl_->advance(monotonic_now(), longest); }

void Resolver::finish_first_lookups(Duration longest) {
  const Instant deadline = monotonic_now() + longest;
  constexpr Duration kStep = std::chrono::milliseconds{50};  // time-outs of c-ares are its own
  for (Instant at = monotonic_now(); at < deadline && !names().all_asked(); at = monotonic_now())
    impl_->advance(at, std::min(kStep, deadline - at));
}

}  // namespace weir::l7
