#pragma once

#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>

#include "tests/support/memory_stack.h"
#include "tests/support/stack_entry.h"
#include "tests/support/stack_flags.h"

namespace weir::testing {

/// A MemoryStack as Linux sockets. Every function returns what the system call would, or the
/// negative errno. Thread-safe; what blocks, and when time moves, is told in stack_entry.h.
///
///   kFresh ──connect()──► kConnection          kFresh ──listen()──► kListener ──accept()──►
///   another
///                                                                                  kConnection
class MemorySockets {
 public:
  explicit MemorySockets(const StackFlags& flags);
  ~MemorySockets();

  int open(int domain, int type, int protocol);
  int bind(int fd, const sockaddr* address, socklen_t length);
  int listen(int fd);
  int accept(int fd, sockaddr* address, socklen_t* length);
  int connect(int fd, const sockaddr* address, socklen_t length);
  ssize_t receive(int fd, std::span<const iovec> pieces, int flags);
  ssize_t send(int fd, std::span<const iovec> pieces, int flags);
  int peer_address(int fd, sockaddr* address, socklen_t* length);
  int control_flags(int fd, int command, long argument);
  int io_control(int fd, unsigned long request, int* argument);
  int close(int fd);
  int shutdown(int fd, int how);
  int get_option(int fd, int level, int name, void* value, socklen_t* length);
  int set_option(int fd, int level, int name, const void* value, socklen_t length);
  int poll(std::span<pollfd> fds, int timeout_ms);
  int epoll_open();
  int epoll_control(int epoll_fd, int operation, int fd, const epoll_event* event);
  int epoll_wait(int epoll_fd, std::span<epoll_event> events, int timeout_ms);

  int packet_in(std::span<const std::byte> packet);
  int packet_out(std::span<std::byte> room, std::size_t* size, std::int64_t* time_us);
  int sleep_us(std::int64_t duration_us);
  std::int64_t clock_us();

  // struct weir_stack_extras
  int news(weir_stack_news* news);
  int counter(std::string_view name, std::uint64_t* value);
  int exists(int fd);
  int local_port(int fd);
  void set_buffers(bool available);
  void open_turn();
  void close_turn();

 private:
  enum class Kind : std::uint8_t { kFresh, kListener, kConnection, kEpoll };
  struct Watch {  // of an epoll descriptor
    epoll_event event{};
    std::uint64_t seen = 0;  // activity that an edge-triggered watch has reported
    bool armed = true;       // false after one report with EPOLLONESHOT
  };
  struct Socket {
    int fd = -1;  // -1: not accepted yet
    Kind kind = Kind::kFresh;
    bool is_v6 = false;  // of the AF_INET6 domain; its addresses may be mapped IPv4 ones
    bool nonblocking = false;
    bool connected = false;
    bool ended = false;  // reset, timed out or refused: nothing more will be received
    bool read_shut = false;
    bool write_shut = false;
    bool nagle = false;
    bool aborts_on_close = false;  // SO_LINGER of zero seconds
    int error = 0;                 // what SO_ERROR tells once
    std::optional<wire::Endpoint> bound;
    tcp::ConnectionId id;
    unsigned news = 0;
    std::uint64_t activity = 0;
    std::deque<Socket*> waiting;   // of a listener: accepted by the stack, not by the user
    std::map<int, Watch> watched;  // of an epoll descriptor
  };
  using Lock = std::unique_lock<std::mutex>;

  [[nodiscard]] Socket* find(int fd);
  [[nodiscard]] Socket* find_connection(int fd, int& error);
  Socket& add(Kind kind);
  int give_number(Socket& socket);
  void collect();
  void collect_one(const tcp::Readiness& ready);
  void after_call();
  void changed();
  /// Calls `attempt` until it gives something, sleeping between for others to change the state.
  ssize_t block(Lock& lock, bool may_block, Instant until,
                const std::function<std::optional<ssize_t>()>& attempt);
  void wait_for_sleepers(Lock& lock);
  std::optional<ssize_t> try_receive(Socket& socket, std::span<const iovec> pieces, bool peek);
  std::optional<ssize_t> try_send(Socket& socket, std::span<const std::byte> bytes);
  [[nodiscard]] short ready_events(const Socket& socket);
  void drop(Socket& socket);
  [[nodiscard]] bool may_block(const Socket& socket, int flags) const;
  [[nodiscard]] Instant deadline_of(int timeout_ms) const;
  [[nodiscard]] tcp_info kernel_info(const Socket& socket);
  int get_socket_option(Socket& socket, int name);

  const StackFlags flags_;
  std::mutex mutex_;
  std::condition_variable changed_;  // something that a sleeping call may wait for
  std::condition_variable asleep_;   // one more call has looked and fallen asleep
  std::uint64_t generation_ = 0;
  unsigned sleepers_ = 0;         // calls that block
  unsigned sleepers_looked_ = 0;  // of these, those that have looked at this generation
  bool turn_is_open_ = false;
  MemoryStack stack_;
  std::deque<Socket> sockets_;  // do not move, and are kept: numbers are not reused
  std::unordered_map<int, Socket*> by_fd_;
  std::unordered_map<std::uint64_t, Socket*> by_connection_;
  std::deque<Socket*> with_news_;
};

}  // namespace weir::testing
