#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace weir::tcp {

/// A fixed piece of a ByteQueue, one page of memory. `number` is its place in the queue's stream:
/// the chunk holds the bytes [number * kBytes, (number + 1) * kBytes).
struct Chunk {
  static constexpr std::size_t kBytes = 4096 - 2 * sizeof(std::uint64_t);
  Chunk* next = nullptr;
  std::uint64_t number = 0;
  std::array<std::byte, kBytes> bytes;
};
static_assert(sizeof(Chunk) == 4096);

/// All chunks of one stack, with a hard limit. Memory is taken as the pool first grows and then
/// kept.
///
/// Receiving and sending may each take at most three quarters, so that neither can starve the
/// other: a proxy that cannot write to one side must still be able to hear from the other. The last
/// sixth of a share is for queues that hold nothing: many who do not read cannot keep the others
/// from going on, a chunk at a time. Bytes out of order are a favour (the sender keeps them until
/// they are acknowledged) and are refused first.
class ChunkPool {
 public:
  enum class Use : std::uint8_t { kReceive, kSend };

  explicit ChunkPool(std::size_t bytes_max);

  /// What a queue asks for: its only chunk, or another one.
  enum class Need : std::uint8_t { kFirst, kMore };

  /// nullptr when the use has reached its share.
  [[nodiscard]] Chunk* take(Use use, Need need);
  void give_back(Chunk* chunk, Use use);

  /// More than half of the share is taken, or nearly all of the pool: shrink windows and buffers.
  [[nodiscard]] bool short_for(Use use) const {
    return used(use) > share_ / 2 || used() > capacity_ / 8 * 7;
  }
  /// take() would fail.
  [[nodiscard]] bool exhausted_for(Use use, Need need) const {
    const std::size_t kept = need == Need::kFirst ? 0 : reserve_;
    return used(use) + kept >= share_ || used() + kept >= capacity_;
  }
  /// take() fails, or will soon: less than an eighth of the reserve is left.
  [[nodiscard]] bool nearly_exhausted_for(Use use) const {
    const std::size_t kept = reserve_ / 8;
    return used(use) + kept >= share_ || used() + kept >= capacity_;
  }
  [[nodiscard]] std::size_t used(Use use) const { return used_[index(use)]; }
  [[nodiscard]] std::size_t used() const { return used_[0] + used_[1]; }
  [[nodiscard]] std::size_t capacity() const { return capacity_; }

 private:
  static constexpr std::size_t kPageChunks = 64;
  static std::size_t index(Use use) { return static_cast<std::size_t>(use); }
  void grow();

  std::size_t capacity_;
  std::size_t share_;
  std::size_t reserve_;  // of each share
  std::size_t grown_ = 0;
  std::array<std::size_t, 2> used_{};
  Chunk* free_ = nullptr;
  std::vector<std::unique_ptr<Chunk[]>> pages_;
};

/// The bytes of one direction of one connection, in chunks of a shared pool. An empty queue holds
/// no chunk. Behind the end, bytes may be placed ahead of their turn; there the list of chunks may
/// have gaps, so that one early byte does not pin a whole window of memory.
///
/// Access by offset starts from the place of the last access: senders and receivers move forward,
/// so the list is hardly ever walked.
class ByteQueue {
 public:
  ByteQueue(ChunkPool& pool, ChunkPool::Use use) : pool_{pool}, use_{use} {}
  ByteQueue(const ByteQueue&) = delete;
  ByteQueue& operator=(const ByteQueue&) = delete;
  ~ByteQueue() { clear(); }

  [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(end_ - front_); }
  [[nodiscard]] bool empty() const { return front_ == end_; }
  /// How many bytes were ever put in.
  [[nodiscard]] std::uint64_t position() const { return end_; }
  /// Memory is short: more than half of what this use may take is taken.
  [[nodiscard]] bool is_short() const { return pool_.short_for(use_); }
  /// Each queue may take one chunk, and no more.
  [[nodiscard]] bool is_rationed() const {
    return pool_.exhausted_for(use_, ChunkPool::Need::kMore);
  }
  /// The pool has no other chunk for this queue. What it holds may still have room.
  [[nodiscard]] bool is_starved() const { return pool_.exhausted_for(use_, need()); }

  /// Nobody gets memory easily.
  [[nodiscard]] bool is_pool_nearly_empty() const { return pool_.nearly_exhausted_for(use_); }

  /// Copies to the end as much as the pool allows; says how much.
  std::size_t append(std::span<const std::byte> bytes);

  /// Copies to `offset` bytes behind the end, without moving it. False when the pool did not allow
  /// all of it; what was written then is of no consequence.
  [[nodiscard]] bool write_ahead(std::size_t offset, std::span<const std::byte> bytes);

  /// Takes bytes that were written ahead into the queue; the caller knows that they are there.
  void extend(std::size_t count) { end_ += count; }

  /// Returns what was written ahead, as far as no byte of the queue shares its chunk.
  void drop_ahead();

  /// Copies from `offset` bytes behind the front; all of `out` lies inside the queue.
  void read(std::size_t offset, std::span<std::byte> out);

  /// The bytes at the front that lie in one piece.
  [[nodiscard]] std::span<const std::byte> front_piece() const;

  /// Removes bytes from the front and returns finished chunks to the pool.
  void consume(std::size_t count);

  /// Returns everything, early bytes too.
  void clear();

 private:
  [[nodiscard]] ChunkPool::Need need() const {
    return head_ == nullptr ? ChunkPool::Need::kFirst : ChunkPool::Need::kMore;
  }
  Chunk* find_or_add(std::uint64_t number);
  std::size_t write(std::uint64_t position, std::span<const std::byte> bytes);

  ChunkPool& pool_;
  ChunkPool::Use use_;
  std::uint64_t front_ = 0;  // positions in the stream since the queue was made
  std::uint64_t end_ = 0;
  std::uint64_t ahead_end_ = 0;  // one past the last byte written ahead; nothing ahead if <= end_
  Chunk* head_ = nullptr;        // sorted by number; numbers may be missing behind end_
  Chunk* cursor_ = nullptr;      // the last chunk that was looked for
};

}  // namespace weir::tcp
