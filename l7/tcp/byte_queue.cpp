#include "l7/tcp/byte_queue.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "l4/base/assert.h"

namespace weir::tcp {

ChunkPool::ChunkPool(std::size_t bytes_max)
    : capacity_{std::max<std::size_t>(bytes_max / sizeof(Chunk), 4)},
      share_{capacity_ / 4 * 3},
      reserve_{std::max<std::size_t>(share_ / 6, 1)} {
  pages_.reserve(capacity_ / kPageChunks + 1);
}

void ChunkPool::grow() {
  const std::size_t count = std::min(kPageChunks, capacity_ - grown_);
  WEIR_ASSERT(count > 0);  // take() hands out no more than the capacity
  pages_.push_back(std::make_unique_for_overwrite<Chunk[]>(count));
  for (std::size_t i = 0; i < count; ++i) {
    Chunk& chunk = pages_.back()[i];
    chunk.next = std::exchange(free_, &chunk);
  }
  grown_ += count;
}

Chunk* ChunkPool::take(Use use, Need need) {
  if (exhausted_for(use, need)) return nullptr;
  if (free_ == nullptr) grow();
  ++used_[index(use)];
  return std::exchange(free_, free_->next);
}

void ChunkPool::give_back(Chunk* chunk, Use use) {
  WEIR_ASSERT(used(use) > 0);  // queues give back what they took, under the same use
  --used_[index(use)];
  chunk->next = std::exchange(free_, chunk);
}

Chunk* ByteQueue::find_or_add(std::uint64_t number) {
  Chunk* before = nullptr;  // the last chunk with a smaller number
  if (cursor_ != nullptr && cursor_->number <= number) {
    if (cursor_->number == number) return cursor_;
    before = cursor_;
  } else if (head_ != nullptr && head_->number < number) {
    before = head_;
  }
  Chunk* found = before == nullptr ? head_ : before->next;
  while (found != nullptr && found->number < number) {
    before = found;
    found = found->next;
  }
  if (found == nullptr || found->number != number) {
    Chunk* added = pool_.take(use_, need());
    if (added == nullptr) return nullptr;
    added->number = number;
    added->next = found;
    (before == nullptr ? head_ : before->next) = added;
    found = added;
  }
  cursor_ = found;
  return found;
}

std::size_t ByteQueue::write(std::uint64_t position, std::span<const std::byte> bytes) {
  std::size_t written = 0;
  while (written < bytes.size()) {
    Chunk* chunk = find_or_add(position / Chunk::kBytes);
    if (chunk == nullptr) break;
    const std::size_t at = position % Chunk::kBytes;
    const std::size_t count = std::min(bytes.size() - written, Chunk::kBytes - at);
    std::memcpy(chunk->bytes.data() + at, bytes.data() + written, count);
    written += count;
    position += count;
  }
  return written;
}

std::size_t ByteQueue::append(std::span<const std::byte> bytes) {
  const std::size_t written = write(end_, bytes);
  end_ += written;
  return written;
}

bool ByteQueue::write_ahead(std::size_t offset, std::span<const std::byte> bytes) {
  const std::size_t written = write(end_ + offset, bytes);
  ahead_end_ = std::max(ahead_end_, end_ + offset + written);
  return written == bytes.size();
}

void ByteQueue::drop_ahead() {
  if (empty()) return clear();
  ahead_end_ = end_;
  Chunk* last = head_;
  while (last->next != nullptr && last->next->number * Chunk::kBytes < end_)
    last = last->next;
  Chunk* early = std::exchange(last->next, nullptr);
  while (early != nullptr)
    pool_.give_back(std::exchange(early, early->next), use_);
  cursor_ = last;
}

void ByteQueue::read(std::size_t offset, std::span<std::byte> out) {
  WEIR_ASSERT(offset + out.size() <= size());
  std::uint64_t position = front_ + offset;
  while (!out.empty()) {
    const Chunk* chunk = find_or_add(position / Chunk::kBytes);  // there: it lies before end_
    const std::size_t at = position % Chunk::kBytes;
    const std::size_t count = std::min(out.size(), Chunk::kBytes - at);
    std::memcpy(out.data(), chunk->bytes.data() + at, count);
    out = out.subspan(count);
    position += count;
  }
}

std::span<const std::byte> ByteQueue::front_piece() const {
  if (empty()) return {};
  const std::size_t at = front_ % Chunk::kBytes;
  return std::span{head_->bytes}.subspan(at, std::min(size(), Chunk::kBytes - at));
}

void ByteQueue::consume(std::size_t count) {
  WEIR_ASSERT(count <= size());
  front_ += count;
  // With nothing behind the end, a last chunk that is only partly used goes too: the queue of an
  // idle connection holds nothing, and the next byte takes a new chunk of the same number.
  const bool drop_partial = empty() && ahead_end_ <= end_;
  const std::uint64_t first_kept = front_ / Chunk::kBytes + (drop_partial ? 1 : 0);
  while (head_ != nullptr && head_->number < first_kept) {
    Chunk* done = std::exchange(head_, head_->next);
    if (cursor_ == done) cursor_ = head_;
    pool_.give_back(done, use_);
  }
}

void ByteQueue::clear() {
  front_ = end_;
  ahead_end_ = end_;
  while (head_ != nullptr)
    pool_.give_back(std::exchange(head_, head_->next), use_);
  cursor_ = nullptr;
}

}  // namespace weir::tcp
