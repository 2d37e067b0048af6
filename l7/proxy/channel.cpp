#include "l7/proxy/channel.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace weir::proxy {

BufferPool::BufferPool(std::size_t most) : most_{most} {
  if (most_ == 0) return;
  void* const memory = ::mmap(nullptr, most_ * kBufferBytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc{};
  memory_ = static_cast<std::byte*>(memory);
  free_.reserve(most_);
}

BufferPool::~BufferPool() {
  if (memory_ != nullptr) ::munmap(memory_, most_ * kBufferBytes);
}

std::byte* BufferPool::take() {
  WEIR_ASSERT(!exhausted());  // room() has said so
  ++lent_;
  if (free_.empty()) return memory_ + kBufferBytes * used_++;
  std::byte* const buffer = free_.back();
  free_.pop_back();
  return buffer;
}

void BufferPool::give_back(std::byte* buffer) {
  --lent_;
  if (free_.size() >= kKept) ::madvise(buffer, kBufferBytes, MADV_DONTNEED);
  free_.push_back(buffer);
}

void BufferPool::refuse(tcp::ConnectionId connection) {
  ++refusals_;
  if (connection && is_waiting_.insert(connection.raw()).second) waiting_.push_back(connection);
}

std::optional<tcp::ConnectionId> BufferPool::take_waiting() {
  if (waiting_.empty() || exhausted()) return std::nullopt;
  const tcp::ConnectionId first = waiting_.front();
  waiting_.pop_front();
  is_waiting_.erase(first.raw());
  return first;
}

std::span<std::byte> ByteBuffer::extend(std::size_t count) {
  WEIR_ASSERT(count <= room());
  if (buffer_ == nullptr) buffer_ = pool_->take();
  if (end_ + count > kBufferBytes) {
    std::memmove(buffer_, buffer_ + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  end_ += count;
  return {buffer_ + end_ - count, count};
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
  if (buffer_ != nullptr) pool_->give_back(std::exchange(buffer_, nullptr));
}

Channel::Channel(tcp::Stack& stack, tcp::ConnectionId connection, BufferPool& pool)
    : stack_{&stack},
      connection_{connection},
      input_{pool, connection},
      output_{pool, connection} {}

void Channel::secure(tls::Session session) {
  session_.emplace(std::move(session));
  session_->feed(input_.bytes());
  input_.clear();
}

bool Channel::fill(std::size_t most) {
  if (input_ended_ || failed_) return false;
  const std::size_t limit = input_.bytes().size() + most;
  return session_ ? fill_secure(limit) : fill_plain(limit);
}

/// How many bytes input() may get now. Nobody waits for a buffer who has nothing to put into it.
std::size_t Channel::wanted(std::size_t limit) const {
  const std::size_t held = input_.bytes().size();
  return held >= limit ? 0 : std::min(limit - held, input_.room());
}

bool Channel::fill_plain(std::size_t limit) {
  bool moved = false;
  while (true) {
    const auto arrived = stack_->peek(connection_);
    if (arrived.empty()) break;
    const std::size_t count = std::min(arrived.size(), wanted(limit));
    if (count == 0) break;
    input_.append(arrived.first(count));
    stack_->consume(connection_, count);
    moved = true;
  }
  if (stack_->at_end(connection_)) input_ended_ = moved = true;
  return moved;
}

bool Channel::fill_secure(std::size_t limit) {
  if (!session_->handshake_done()) return shake_hands();
  constexpr std::size_t kReadBytes = 16 * 1024;
  bool moved = false;
  while (const std::size_t room = std::min(wanted(limit), kReadBytes)) {
    const auto [status, count] = session_->read(input_.extend(room));
    input_.shrink(room - count);
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
