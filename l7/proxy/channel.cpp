#include "l7/proxy/channel.h"

#include <algorithm>
#include <cstring>

namespace weir::proxy {

BufferPool::Buffer BufferPool::take() {
  WEIR_ASSERT(!exhausted());  // room() has said so
  ++lent_;
  if (free_.empty()) return std::make_unique_for_overwrite<std::byte[]>(kBufferBytes);
  Buffer buffer = std::move(free_.back());
  free_.pop_back();
  return buffer;
}

void BufferPool::give_back(Buffer buffer) {
  --lent_;
  if (free_.size() < kKept) free_.push_back(std::move(buffer));
}

std::span<std::byte> ByteBuffer::extend(std::size_t count) {
  WEIR_ASSERT(count <= room());
  if (!buffer_) buffer_ = pool_->take();
  if (end_ + count > kBufferBytes) {
    std::memmove(buffer_.get(), buffer_.get() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  end_ += count;
  return {buffer_.get() + end_ - count, count};
}

void ByteBuffer::shrink(std::size_t count) {
  WEIR_ASSERT(count <= end_ - begin_);
  end_ -= count;
  if (empty()) clear();
}

void ByteBuffer::append(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  std::memcpy(extend(bytes.size()).data(), bytes.data(), bytes.size());
}

void ByteBuffer::consume(std::size_t count) {
  WEIR_ASSERT(count <= end_ - begin_);
  begin_ += count;
  if (empty()) clear();
}

void ByteBuffer::clear() {
  begin_ = end_ = 0;
  if (buffer_) pool_->give_back(std::move(buffer_));
}

Channel::Channel(tcp::Stack& stack, tcp::ConnectionId connection, BufferPool& pool)
    : stack_{&stack}, connection_{connection}, input_{pool}, output_{pool} {}

void Channel::secure(tls::Session session) {
  session_.emplace(std::move(session));
  session_->feed(input_.bytes());
  input_.clear();
}

bool Channel::fill() {
  if (input_ended_ || failed_) return false;
  return session_ ? fill_secure() : fill_plain();
}

bool Channel::fill_plain() {
  bool moved = false;
  while (input_.room() > 0) {
    const auto arrived = stack_->peek(connection_);
    const std::size_t count = std::min(arrived.size(), input_.room());
    if (count == 0) break;
    input_.append(arrived.first(count));
    stack_->consume(connection_, count);
    moved = true;
  }
  if (stack_->at_end(connection_)) input_ended_ = moved = true;
  return moved;
}

bool Channel::fill_secure() {
  if (!session_->handshake_done()) return shake_hands();
  constexpr std::size_t kReadBytes = 16 * 1024;
  bool moved = false;
  while (input_.room() > 0) {
    const std::size_t wanted = std::min(input_.room(), kReadBytes);
    const auto [status, count] = session_->read(input_.extend(wanted));
    input_.shrink(wanted - count);
    moved = moved || count > 0;
    if (status == tls::SessionStatus::kFailed) {
      failed_ = true;
      return true;
    }
    if (status == tls::SessionStatus::kClosed) {
      input_ended_ = true;
      return true;
    }
    if (count > 0) continue;
    // TCP may end without close_notify: the stream is cut, and whoever reads a body notices that
    // it is incomplete.
    if (!feed_session()) {
      if (stack_->at_end(connection_)) input_ended_ = moved = true;
      break;
    }
  }
  return moved;
}

bool Channel::shake_hands() {
  bool moved = false;
  while (true) {
    const tls::SessionStatus status = session_->handshake();
    send_records();
    switch (status) {
      case tls::SessionStatus::kOk:
        return true;
      case tls::SessionStatus::kWantInput:
        if (feed_session()) {
          moved = true;
          continue;
        }
        if (stack_->at_end(connection_)) input_ended_ = moved = true;
        return moved;
      case tls::SessionStatus::kWantOutput:
        return moved;
      case tls::SessionStatus::kClosed:
      case tls::SessionStatus::kFailed:
        failed_ = true;
        return true;
    }
  }
}

bool Channel::feed_session() {
  const auto arrived = stack_->peek(connection_);
  if (arrived.empty()) return false;
  session_->feed(arrived);
  stack_->consume(connection_, arrived.size());
  return true;
}

bool Channel::send_records() {
  bool moved = false;
  while (true) {
    const auto records = session_->output();
    if (records.empty()) return moved;
    const std::size_t taken = stack_->write(connection_, records);
    if (taken == 0) return moved;
    session_->consume_output(taken);
    moved = true;
  }
}

bool Channel::flush() {
  bool moved = false;
  if (!session_) {
    while (!output_.empty()) {
      const std::size_t taken = stack_->write(connection_, output_.bytes());
      if (taken == 0) break;
      output_.consume(taken);
      moved = true;
    }
    return moved;
  }
  moved = send_records();
  // New records only once the old ones are gone: TCP's send buffer is the limit, not OpenSSL's.
  while (!failed_ && !handshaking() && !output_.empty() && session_->output().empty()) {
    const std::size_t taken = session_->write(output_.bytes());
    if (taken == 0) break;
    output_.consume(taken);
    moved = true;
    send_records();
  }
  return moved;
}

bool Channel::drained() const {
  return output_.empty() && (!session_ || session_->output().empty());
}

bool Channel::close_output() {
  if (session_ && session_->handshake_done() && !failed_) {
    if (!close_queued_) session_->close();
    close_queued_ = true;
    send_records();
    // A FIN in front of the rest of close_notify would look like a truncation attack.
    if (!session_->output().empty()) return false;
  }
  stack_->close_write(connection_);
  return true;
}

}  // namespace weir::proxy
