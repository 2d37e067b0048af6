/*
 * The whole TCP/IP stack behind a table of C functions, for a runner that is not part of Weir.
 *
 * The order and the types of struct weir_stack_entry, and the name of the function that fills it,
 * are those that packetdrill asks of a shared object given with --so_filename: its public header
 * gtests/net/packetdrill/packetdrill.h (github.com/google/packetdrill), whose struct this one can
 * be exchanged for. Only the layout is taken from there.
 *
 *     packetdrill --so_filename=libweir_stack_entry.so --so_flags=receive_buffer_bytes=65535 …
 *
 * What is behind it: net::Interface and tcp::Stack over a port in memory, with one neighbour that
 * answers for every address. Nothing touches the kernel's network; descriptors are numbers of this
 * table alone.
 *
 * Time. The stack under test owns the clock. It stands still but for
 *   usleep          moves it, running every timer that is due on the way at its own time;
 *   netdev_receive  moves it to when the next packet leaves, at most by the flag receive_wait_us;
 *   gettimeofday    moves it by the flag clock_step_us, without which a runner that waits by asking
 *                   for the time again and again would wait for ever.
 *
 * Threads. Every function may be called from any thread; one lock covers all. A blocking call
 * sleeps until what another thread does (a packet in, time) lets it go on; alone it would sleep for
 * ever, as with the kernel. Before time moves, every sleeping call has looked at the present state,
 * so that what it does next happens at the time of the packet that woke it.
 *
 * Errors are those of Linux, in errno, with -1 as result. What differs: SIGPIPE is never raised;
 * close() does not reset a connection with unread text (SO_LINGER of zero seconds does); epoll_wait
 * has no more descriptors than this table's; splice and pipe are not there (ENOSYS).
 *
 * Flags are `name=value` with commas between. The names are those of tcp::StackOptions (durations
 * in milliseconds, switches 0 or 1, congestion=cubic|newreno), and
 *
 * - local=ADDRESS: an own address, any number of times; without it every address that is bound or
 *   sent to becomes one;
 * - mtu=, seed=, start_us=, receive_wait_us=, clock_step_us=;
 * - early_write=1: send() before the handshake has ended is taken, as Weir's stack does, where
 *   Linux blocks.
 */
#pragma once

#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif

struct weir_stack_entry {
  void* userdata; /* null when the flags were not understood; stderr says why */
  void (*free)(void* userdata);
  int (*socket)(void* userdata, int domain, int type, int protocol);
  int (*bind)(void* userdata, int fd, const struct sockaddr* address, socklen_t length);
  int (*listen)(void* userdata, int fd, int backlog);
  int (*accept)(void* userdata, int fd, struct sockaddr* address, socklen_t* length);
  int (*connect)(void* userdata, int fd, const struct sockaddr* address, socklen_t length);
  ssize_t (*read)(void* userdata, int fd, void* buffer, size_t size);
  ssize_t (*readv)(void* userdata, int fd, const struct iovec* pieces, int count);
  ssize_t (*recv)(void* userdata, int fd, void* buffer, size_t size, int flags);
  ssize_t (*recvfrom)(void* userdata, int fd, void* buffer, size_t size, int flags,
                      struct sockaddr* address, socklen_t* length);
  ssize_t (*recvmsg)(void* userdata, int fd, struct msghdr* message, int flags);
  ssize_t (*write)(void* userdata, int fd, const void* buffer, size_t size);
  ssize_t (*writev)(void* userdata, int fd, const struct iovec* pieces, int count);
  ssize_t (*send)(void* userdata, int fd, const void* buffer, size_t size, int flags);
  ssize_t (*sendto)(void* userdata, int fd, const void* buffer, size_t size, int flags,
                    const struct sockaddr* address, socklen_t length);
  ssize_t (*sendmsg)(void* userdata, int fd, const struct msghdr* message, int flags);
  int (*fcntl)(void* userdata, int fd, int command, ...);
  int (*ioctl)(void* userdata, int fd, unsigned long request, ...);
  int (*close)(void* userdata, int fd);
  int (*shutdown)(void* userdata, int fd, int how);
  int (*getsockopt)(void* userdata, int fd, int level, int name, void* value, socklen_t* length);
  int (*setsockopt)(void* userdata, int fd, int level, int name, const void* value,
                    socklen_t length);
  int (*poll)(void* userdata, struct pollfd* fds, nfds_t count, int timeout_ms);
  /* One IP packet to the stack. */
  int (*netdev_send)(void* userdata, const void* packet, size_t size);
  /* The next IP packet from the stack. *size is the room on entry and what was received on return,
   * 0 when nothing is sent within receive_wait_us; *time_us is when it left. */
  int (*netdev_receive)(void* userdata, void* packet, size_t* size, long long* time_us);
  int (*usleep)(void* userdata, useconds_t duration_us);
  int (*gettimeofday)(void* userdata, struct timeval* now, struct timezone* zone);
  int (*epoll_create)(void* userdata, int size);
  int (*epoll_ctl)(void* userdata, int epoll_fd, int operation, int fd, struct epoll_event* event);
  int (*epoll_wait)(void* userdata, int epoll_fd, struct epoll_event* events, int events_max,
                    int timeout_ms);
  int (*pipe)(void* userdata, int fds[2]);
  int (*splice)(void* userdata, int fd_in, loff_t* offset_in, int fd_out, loff_t* offset_out,
                size_t size, unsigned int flags);
};

/* Fills the table. Instances are independent of each other. */
void packetdrill_interface_init(const char* flags, struct weir_stack_entry* entry);

/* ---- Weir only: what a test of the stack itself asks that no socket call can answer ---------- */

enum weir_stack_news_flags {
  WEIR_STACK_ACCEPTED = 1,
  WEIR_STACK_CONNECTED = 2,
  WEIR_STACK_READABLE = 4,
  WEIR_STACK_WRITABLE = 8,
  WEIR_STACK_CLOSED = 16,
  WEIR_STACK_RESET = 32,
};

struct weir_stack_news {
  int fd; /* -1: a connection that nobody has accepted yet */
  unsigned int flags;
  uint16_t remote_port;
};

struct weir_stack_extras {
  /* What Stack::poll() has reported about the next connection: 1, or 0 when there is no more. */
  int (*news)(void* userdata, struct weir_stack_news* news);
  /* A field of tcp::StackCounters by its name. */
  int (*counter)(void* userdata, const char* name, uint64_t* value);
  /* Whether the connection that fd stands for exists, also after close(fd): 1 or 0. */
  int (*exists)(void* userdata, int fd);
  /* The local port of a bound or connected socket, or -1. */
  int (*local_port)(void* userdata, int fd);
  /* Whether packet buffers can be had for what is to be sent. */
  int (*set_buffers)(void* userdata, int available);
  /* Between open and close calls are one turn of the owner's loop: what they make ready leaves when
   * the turn ends. Without it each call is a turn of its own. */
  int (*open_turn)(void* userdata);
  int (*close_turn)(void* userdata);
};

const struct weir_stack_extras* weir_stack_entry_extras(void);

#ifdef __cplusplus
}
#endif
