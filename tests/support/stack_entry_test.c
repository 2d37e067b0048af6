/*
 * What an outside runner does: opens the shared object, fills the table, plays the peer of a
 * connection packet by packet, and lets a second thread make the calls that block. Only the C
 * interface is used; numbers of the other side are read from its packets.
 */
#include "tests/support/stack_entry.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                   \
  do {                                                                                     \
    if (!(condition)) {                                                                    \
      fprintf(stderr, "%s:%d: %s (errno %d: %s)\n", __FILE__, __LINE__, #condition, errno, \
              strerror(errno));                                                            \
      exit(1);                                                                             \
    }                                                                                      \
  } while (0)

enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };
enum { PEER_PORT = 40000, OWN_PORT = 8080, PEER_ISN = 1000, HEADERS = 40 };

static struct weir_stack_entry stack;
static const char* const kOwn = "192.168.7.9";
static const char* const kPeer = "192.0.2.1";

static uint16_t checksum(uint32_t sum, const uint8_t* bytes, size_t size) {
  for (size_t i = 0; i < size; ++i)
    sum += (i & 1) ? bytes[i] : (uint32_t)bytes[i] << 8;
  while (sum >> 16)
    sum = (sum & 0xffff) + (sum >> 16);
  return (uint16_t)~sum;
}

static void put16(uint8_t* at, unsigned value) {
  at[0] = (uint8_t)(value >> 8);
  at[1] = (uint8_t)value;
}

static void put32(uint8_t* at, uint32_t value) {
  put16(at, value >> 16);
  put16(at + 2, value & 0xffff);
}

static uint32_t get32(const uint8_t* at) {
  return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void peer_sends(unsigned flags, uint32_t seq, uint32_t ack, const char* text) {
  uint8_t packet[256] = {0};
  const size_t size = HEADERS + strlen(text);
  uint8_t* tcp = packet + 20;

  packet[0] = 0x45;
  put16(packet + 2, (unsigned)size);
  packet[8] = 64;
  packet[9] = IPPROTO_TCP;
  inet_pton(AF_INET, kPeer, packet + 12);
  inet_pton(AF_INET, kOwn, packet + 16);
  put16(packet + 10, checksum(0, packet, 20));
  put16(tcp, PEER_PORT);
  put16(tcp + 2, OWN_PORT);
  put32(tcp + 4, seq);
  put32(tcp + 8, ack);
  tcp[12] = 5 << 4;
  tcp[13] = (uint8_t)flags;
  put16(tcp + 14, 65535);
  memcpy(packet + HEADERS, text, strlen(text));
  /* The pseudo header is the two addresses, the protocol and the length. */
  const uint32_t pseudo = IPPROTO_TCP + (uint32_t)(size - 20);
  uint32_t sum = pseudo;
  for (size_t i = 12; i < 20; i += 2)
    sum += (uint32_t)packet[i] << 8 | packet[i + 1];
  put16(tcp + 16, checksum(sum, tcp, size - 20));
  CHECK(stack.netdev_send(stack.userdata, packet, size) == 0);
}

struct sent {
  uint8_t bytes[2048];
  size_t size;
  long long time_us;
};

static struct sent stack_sends(unsigned flags, uint32_t ack) {
  struct sent sent = {.size = sizeof(sent.bytes)};

  CHECK(stack.netdev_receive(stack.userdata, sent.bytes, &sent.size, &sent.time_us) == 0);
  CHECK(sent.size >= HEADERS);
  CHECK(sent.bytes[9] == IPPROTO_TCP);
  CHECK(sent.bytes[20 + 13] == flags);
  CHECK(get32(sent.bytes + 20 + 8) == ack);
  return sent;
}

static struct sockaddr_in own_address(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(OWN_PORT)};

  inet_pton(AF_INET, kOwn, &address.sin_addr);
  return address;
}

struct call {
  int fd;
  long result;
  int error;
  char text[64];
};

static void* accept_in_a_thread(void* argument) {
  struct call* call = argument;
  struct sockaddr_in peer = {0};
  socklen_t length = sizeof(peer);

  call->result = stack.accept(stack.userdata, call->fd, (struct sockaddr*)&peer, &length);
  CHECK(ntohs(peer.sin_port) == PEER_PORT);
  return NULL;
}

static void* read_in_a_thread(void* argument) {
  struct call* call = argument;

  call->result = stack.read(stack.userdata, call->fd, call->text, sizeof(call->text));
  call->error = errno;
  return NULL;
}

static long long now_us(void) {
  struct timeval now;

  CHECK(stack.gettimeofday(stack.userdata, &now, NULL) == 0);
  return (long long)now.tv_sec * 1000000 + now.tv_usec;
}

/* Opens a connection while a thread blocks in accept(); gives its descriptor and our next number.
 */
static int open_connection(int listener, uint32_t* isn) {
  struct call call = {.fd = listener};
  pthread_t thread;

  CHECK(pthread_create(&thread, NULL, accept_in_a_thread, &call) == 0);
  peer_sends(SYN, PEER_ISN, 0, "");
  const struct sent answer = stack_sends(SYN | ACK, PEER_ISN + 1);
  *isn = get32(answer.bytes + 24);
  peer_sends(ACK, PEER_ISN + 1, *isn + 1, "");
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK(call.result >= 0);
  return (int)call.result;
}

static void text_goes_both_ways(int fd, uint32_t isn) {
  struct call call = {.fd = fd};
  pthread_t thread;

  CHECK(pthread_create(&thread, NULL, read_in_a_thread, &call) == 0);
  peer_sends(PSH | ACK, PEER_ISN + 1, isn + 1, "hello");
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK(call.result == 5 && memcmp(call.text, "hello", 5) == 0);
  stack_sends(ACK, PEER_ISN + 6); /* at the start of a connection ACKs are not delayed */

  CHECK(stack.write(stack.userdata, fd, "and you", 7) == 7);
  const struct sent first = stack_sends(PSH | ACK, PEER_ISN + 6);
  CHECK(first.size == HEADERS + 7 && memcmp(first.bytes + HEADERS, "and you", 7) == 0);
  /* Nobody acknowledges it: the clock goes on to when it is sent again. */
  const struct sent second = stack_sends(PSH | ACK, PEER_ISN + 6);
  CHECK(second.size == first.size && get32(second.bytes + 24) == get32(first.bytes + 24));
  CHECK(second.time_us - first.time_us >= 10000 && second.time_us - first.time_us <= 1100000);
  CHECK(now_us() >= second.time_us);
  peer_sends(ACK, PEER_ISN + 6, isn + 8, "");
}

static void errors_are_those_of_linux(int fd, int listener) {
  char byte;
  int value = 7;
  socklen_t length = sizeof(value);
  struct pollfd waiting = {.fd = fd, .events = POLLIN | POLLOUT};
  const long long before = now_us();

  CHECK(stack.recv(stack.userdata, fd, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
  CHECK(stack.read(stack.userdata, 99, &byte, 1) == -1 && errno == EBADF);
  CHECK(stack.read(stack.userdata, listener, &byte, 1) == -1 && errno == ENOTCONN);
  CHECK(stack.setsockopt(stack.userdata, fd, SOL_SOCKET, SO_BROADCAST, &value, sizeof(value)) ==
            -1 &&
        errno == ENOPROTOOPT);
  CHECK(stack.getsockopt(stack.userdata, fd, SOL_SOCKET, SO_ERROR, &value, &length) == 0 &&
        value == 0);
  CHECK(stack.poll(stack.userdata, &waiting, 1, 0) == 1 && waiting.revents == POLLOUT);
  CHECK((stack.usleep)(stack.userdata, 5000) == 0);
  CHECK(now_us() >= before + 5000 && now_us() < before + 6000);
}

static void the_connection_closes(int fd, uint32_t isn) {
  char byte;

  peer_sends(FIN | ACK, PEER_ISN + 6, isn + 8, "");
  stack_sends(ACK, PEER_ISN + 7);
  CHECK(stack.read(stack.userdata, fd, &byte, 1) == 0);
  CHECK(stack.close(stack.userdata, fd) == 0);
  stack_sends(FIN | ACK, PEER_ISN + 7);
  peer_sends(ACK, PEER_ISN + 7, isn + 9, "");
  CHECK(stack.close(stack.userdata, fd) == -1 && errno == EBADF);
  /* Nothing is left that would ever send: the clock stops at receive_wait_us. */
  struct sent none = {.size = sizeof(none.bytes)};
  CHECK(stack.netdev_receive(stack.userdata, none.bytes, &none.size, &none.time_us) == 0);
  CHECK(none.size == 0);
}

static void a_reset_wakes_a_sleeping_reader(int listener) {
  struct call call = {0};
  pthread_t thread;
  uint32_t isn;

  call.fd = open_connection(listener, &isn);
  CHECK(pthread_create(&thread, NULL, read_in_a_thread, &call) == 0);
  peer_sends(RST, PEER_ISN + 1, 0, "");
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK(call.result == -1 && call.error == ECONNRESET);
  CHECK(stack.write(stack.userdata, call.fd, "x", 1) == -1 && errno == EPIPE);
}

int main(int count, char** arguments) {
  void (*init)(const char*, struct weir_stack_entry*);
  struct weir_stack_entry misled;
  const struct sockaddr_in own = own_address();
  uint32_t isn;

  CHECK(count == 2);
  void* object = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
  if (object == NULL) fprintf(stderr, "%s\n", dlerror());
  CHECK(object != NULL);
  *(void**)&init = dlsym(object, "packetdrill_interface_init");
  CHECK(init != NULL);
  init("no_such_flag=1", &misled);
  CHECK(misled.userdata == NULL && misled.socket(NULL, AF_INET, SOCK_STREAM, 0) == -1);

  init("receive_buffer_bytes=65535", &stack);
  CHECK(stack.userdata != NULL);
  const int listener = stack.socket(stack.userdata, AF_INET, SOCK_STREAM, IPPROTO_TCP);
  CHECK(listener >= 0);
  CHECK(stack.bind(stack.userdata, listener, (const struct sockaddr*)&own, sizeof(own)) == 0);
  CHECK(stack.listen(stack.userdata, listener, 1) == 0);
  const int fd = open_connection(listener, &isn);
  text_goes_both_ways(fd, isn);
  errors_are_those_of_linux(fd, listener);
  the_connection_closes(fd, isn);
  a_reset_wakes_a_sleeping_reader(listener);
  stack.free(stack.userdata);
  puts("the C interface works");
  return 0;
}
