#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <unordered_set>
#include <vector>

#include "l7/tcp/stack.h"
#include "l7/tls/session.h"

namespace weir::proxy {

/// Bytes that one direction of one connection may hold in the proxy. A request head must fit
/// (GatewayLimits::header_bytes), and a TLS record of 16 KiB beside a partial head.
inline constexpr std::size_t kBufferBytes = 64 * 1024;

/// Room in a client's output that any head of ours fits: a backend's of kResponseHeadBytesMax with
/// the fields we add, or a redirect to the longest target.
inline constexpr std::size_t kReplyRoom = kBufferBytes / 2;
inline constexpr std::uint32_t kResponseHeadBytesMax = 24 * 1024;

/// Buffers of one worker, at most kBuffersMax. Connections borrow them while they hold bytes, so
/// that idle connections cost none and steady state allocates nothing. When all are lent, whoever
/// has none waits in line until one comes back or its time is up: memory is bounded by the pool,
/// not by the number of clients. The address space for all of them is one piece; what a burst has
/// used of it goes back to the system.
class BufferPool {
 public:
  explicit BufferPool(std::size_t most = kBuffersMax);
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;
  ~BufferPool();

  [[nodiscard]] bool exhausted() const { return lent_ == most_; }
  /// kBufferBytes of room, not initialised. Not when exhausted().
  [[nodiscard]] std::byte* take();
  void give_back(std::byte* buffer);

  /// A buffer was wanted for this connection, and there was none.
  void refuse(tcp::ConnectionId connection);
  /// Whoever has waited longest for a buffer that is there now; nothing where nobody has, or none
  /// is.
  [[nodiscard]] std::optional<tcp::ConnectionId> take_waiting();
  [[nodiscard]] std::uint64_t refusals() const { return refusals_; }
  [[nodiscard]] std::size_t lent() const { return lent_; }

 private:
  static constexpr std::size_t kBuffersMax = 8192;  ///< 512 MiB
  static constexpr std::size_t kKept = 1024;        ///< 64 MiB of those that are not lent
  std::size_t most_;
  std::byte* memory_ = nullptr;
  std::size_t used_ = 0;  // of the memory, from its front; behind that, nothing was ever lent
  std::size_t lent_ = 0;
  std::uint64_t refusals_ = 0;
  std::vector<std::byte*> free_;  // the last one is lent first; behind kKept they hold no memory
  std::deque<tcp::ConnectionId> waiting_;  // each once, the oldest first
  std::unordered_set<std::uint64_t> is_waiting_;
};

/// Bytes in, taken from the front: a borrowed buffer that goes back when it is empty.
class ByteBuffer {
 public:
  /// `connection` is told when there is a buffer again after there was none.
  ByteBuffer(BufferPool& pool, tcp::ConnectionId connection)
      : pool_{&pool}, connection_{connection} {}
  ByteBuffer(const ByteBuffer&) = delete;
  ByteBuffer& operator=(const ByteBuffer&) = delete;
  ~ByteBuffer() { clear(); }

  [[nodiscard]] std::span<const std::byte> bytes() const {
    return {buffer_ + begin_, end_ - begin_};
  }
  [[nodiscard]] bool empty() const { return begin_ == end_; }
  /// What extend() and append() may add now; nothing while the pool has no buffer for us.
  [[nodiscard]] std::size_t room() const {
    if (buffer_ != nullptr) return kBufferBytes - (end_ - begin_);
    if (!pool_->exhausted()) return kBufferBytes;
    pool_->refuse(connection_);
    return 0;
  }

  /// `count` new bytes at the end, for the caller to fill; count <= room().
  [[nodiscard]] std::span<std::byte> extend(std::size_t count);
  /// Takes bytes off the end again that extend() gave and the caller did not fill.
  void shrink(std::size_t count);
  void append(std::span<const std::byte> bytes);
  void consume(std::size_t count);
  void clear();

 private:
  BufferPool* pool_;
  tcp::ConnectionId connection_;
  std::byte* buffer_ = nullptr;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

/// One byte stream over one TCP connection, with or without TLS: what was received and not yet
/// consumed, and what is to be sent and not yet taken by TCP. Both are bounded; when full, fill()
/// stops reading and the peer's window closes.
class Channel {
 public:
  Channel(tcp::Stack& stack, tcp::ConnectionId connection, BufferPool& pool);

  /// Everything from now on is TLS, what has arrived and was not consumed included. Before anything
  /// is sent.
  void secure(tls::Session session);

  [[nodiscard]] tcp::ConnectionId connection() const { return connection_; }
  [[nodiscard]] const tls::Session* session() const { return session_ ? &*session_ : nullptr; }
  [[nodiscard]] bool handshaking() const { return session_ && !session_->handshake_done(); }
  /// The TLS layer has given up; what it still wants to say is sent by flush().
  [[nodiscard]] bool failed() const { return failed_; }

  /// Goes on with the handshake and moves what has arrived into input(), `most` bytes of it. True
  /// if it got on.
  bool fill(std::size_t most = kBufferBytes);
  [[nodiscard]] std::span<const std::byte> input() const { return input_.bytes(); }
  void consume(std::size_t count) { input_.consume(count); }
  /// The peer will send no more; input() may still hold bytes.
  [[nodiscard]] bool input_ended() const { return input_ended_; }
  /// Likewise, and input() holds none: known without a call to fill().
  [[nodiscard]] bool peer_is_done() const {
    return input_.empty() && (input_ended_ || stack_->at_end(connection_));
  }

  [[nodiscard]] ByteBuffer& output() { return output_; }
  [[nodiscard]] const ByteBuffer& output() const { return output_; }
  /// Hands output to TCP as far as it takes it. True if anything moved.
  bool flush();
  /// Everything that was put into output() has been taken by TCP.
  [[nodiscard]] bool drained() const;

  /// Ends our direction in order, once drained(): close_notify, and FIN behind all of it. False
  /// while TCP has no room for that; call again.
  [[nodiscard]] bool close_output();

 private:
  // Until input() holds so many bytes.
  bool fill_plain(std::size_t limit);
  bool fill_secure(std::size_t limit);
  [[nodiscard]] std::size_t wanted(std::size_t limit) const;
  bool shake_hands();
  bool feed_session();
  bool send_records();

  tcp::Stack* stack_;
  tcp::ConnectionId connection_;
  std::optional<tls::Session> session_;
  ByteBuffer input_;
  ByteBuffer output_;
  bool input_ended_ = false;
  bool failed_ = false;
  bool close_queued_ = false;  // close_notify is in the session's output, or has left
};

}  // namespace weir::proxy
