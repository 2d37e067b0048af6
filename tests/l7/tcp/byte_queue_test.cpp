#include "l7/tcp/byte_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <vector>

#include "l4/base/random.h"

namespace weir::tcp {
namespace {

std::vector<std::byte> random_bytes(Random& random, std::size_t count) {
  std::vector<std::byte> bytes(count);
  for (std::byte& byte : bytes)
    byte = static_cast<std::byte>(random.next());
  return bytes;
}

std::vector<std::byte> drain(ByteQueue& queue) {
  std::vector<std::byte> all;
  while (!queue.empty()) {
    const auto piece = queue.front_piece();
    all.insert(all.end(), piece.begin(), piece.end());
    queue.consume(piece.size());
  }
  return all;
}

TEST(ByteQueue, BehavesLikeADequeUnderRandomAppendsReadsAndConsumes) {
  constexpr std::uint64_t kSeed = 7;
  Random random{kSeed};
  ChunkPool pool{64 * sizeof(Chunk)};
  ByteQueue queue{pool, ChunkPool::Use::kSend};
  std::deque<std::byte> model;
  for (int step = 0; step < 20'000; ++step) {
    switch (random.below(4)) {
      case 0: {
        const auto bytes = random_bytes(random, random.below(9000));
        const std::size_t written = queue.append(bytes);
        model.insert(model.end(), bytes.begin(),
                     bytes.begin() + static_cast<std::ptrdiff_t>(written));
        if (written < bytes.size()) {
          ASSERT_TRUE(pool.exhausted_for(ChunkPool::Use::kSend, ChunkPool::Need::kMore));
        }
        break;
      }
      case 1: {
        const std::size_t count = random.below(static_cast<std::uint32_t>(model.size()) + 1);
        queue.consume(count);
        model.erase(model.begin(), model.begin() + static_cast<std::ptrdiff_t>(count));
        break;
      }
      case 2: {
        const std::size_t offset = random.below(static_cast<std::uint32_t>(model.size()) + 1);
        std::vector<std::byte> out(std::min<std::size_t>(model.size() - offset, 1460));
        queue.read(offset, out);
        ASSERT_TRUE(
            std::equal(out.begin(), out.end(), model.begin() + static_cast<std::ptrdiff_t>(offset)))
            << "seed " << kSeed << " step " << step;
        break;
      }
      case 3: {
        const auto piece = queue.front_piece();
        ASSERT_EQ(piece.empty(), model.empty());
        ASSERT_TRUE(std::equal(piece.begin(), piece.end(), model.begin()));
        break;
      }
    }
    ASSERT_EQ(queue.size(), model.size());
    // No more chunks than the bytes need, at most one of them begun and one not finished.
    ASSERT_LE(pool.used(), model.size() / Chunk::kBytes + 2);
    if (model.empty()) {
      ASSERT_EQ(pool.used(), 0U);
    }
  }
}

TEST(ByteQueue, BytesWrittenAheadInAnyOrderReadAsOneStream) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    Random random{seed};
    ChunkPool pool{128 * sizeof(Chunk)};
    ByteQueue queue{pool, ChunkPool::Use::kReceive};
    // Start somewhere inside a chunk.
    queue.append(random_bytes(random, random.below(5000)));
    queue.consume(queue.size());

    const auto stream = random_bytes(random, 50'000);
    struct Piece {
      std::size_t from;
      std::size_t to;
    };
    std::vector<Piece> pieces;
    for (std::size_t at = 0; at < stream.size();) {
      const std::size_t to = std::min(stream.size(), at + 1 + random.below(3000));
      pieces.push_back({at, to});
      at = to;
    }
    for (std::size_t i = pieces.size(); i > 1; --i)
      std::swap(pieces[i - 1], pieces[random.below(static_cast<std::uint32_t>(i))]);
    for (const Piece& piece : pieces)
      ASSERT_TRUE(queue.write_ahead(piece.from,
                                    std::span{stream}.subspan(piece.from, piece.to - piece.from)));
    ASSERT_TRUE(queue.empty());
    ASSERT_TRUE(queue.front_piece().empty());
    queue.extend(stream.size());
    ASSERT_EQ(drain(queue), stream) << "seed " << seed;
    ASSERT_EQ(pool.used(), 0U);
  }
}

TEST(ByteQueue, OneEarlyByteTakesOneChunkHoweverFarAhead) {
  ChunkPool pool{128 * sizeof(Chunk)};
  ByteQueue queue{pool, ChunkPool::Use::kReceive};
  const std::array<std::byte, 1> byte{std::byte{1}};
  EXPECT_TRUE(queue.write_ahead(200'000, byte));
  EXPECT_EQ(pool.used(), 1U);
}

TEST(ByteQueue, ConsumingEverythingKeepsEarlyBytesOfTheSameChunk) {
  ChunkPool pool{16 * sizeof(Chunk)};
  ByteQueue queue{pool, ChunkPool::Use::kReceive};
  Random random{3};
  const auto bytes = random_bytes(random, 300);
  queue.append(std::span{bytes}.first(100));
  ASSERT_TRUE(queue.write_ahead(100, std::span{bytes}.subspan(200)));
  queue.consume(100);
  EXPECT_EQ(pool.used(), 1U);
  queue.append(std::span{bytes}.subspan(100, 100));
  queue.extend(100);
  const auto rest = drain(queue);
  EXPECT_TRUE(std::equal(rest.begin(), rest.end(), bytes.begin() + 100, bytes.end()));
  EXPECT_EQ(pool.used(), 0U);
}

TEST(ByteQueue, ClearingReturnsEarlyBytesToo) {
  ChunkPool pool{16 * sizeof(Chunk)};
  ByteQueue queue{pool, ChunkPool::Use::kReceive};
  Random random{3};
  queue.append(random_bytes(random, 5000));
  ASSERT_TRUE(queue.write_ahead(9000, random_bytes(random, 100)));
  queue.clear();
  EXPECT_EQ(pool.used(), 0U);
  EXPECT_TRUE(queue.empty());
  const auto bytes = random_bytes(random, 100);
  queue.append(bytes);
  EXPECT_EQ(drain(queue), bytes);
}

TEST(ByteQueue, DroppingEarlyBytesLeavesTheOthersInPlace) {
  ChunkPool pool{64 * sizeof(Chunk)};
  Random random{3};
  // Where the queue ends: nowhere, inside its chunk, at the end of one.
  for (const std::size_t size : {std::size_t{0}, std::size_t{5000}, 2 * Chunk::kBytes}) {
    ByteQueue queue{pool, ChunkPool::Use::kReceive};
    const auto bytes = random_bytes(random, size);
    queue.append(bytes);
    const std::size_t used = pool.used();
    ASSERT_TRUE(queue.write_ahead(10, random_bytes(random, 9000)));
    ASSERT_TRUE(queue.write_ahead(40'000, random_bytes(random, 9000)));
    EXPECT_GT(pool.used(), used);
    queue.drop_ahead();
    EXPECT_EQ(pool.used(), used) << "size " << size;
    const auto more = random_bytes(random, 20'000);
    queue.append(more);
    auto all = bytes;
    all.insert(all.end(), more.begin(), more.end());
    EXPECT_EQ(drain(queue), all) << "size " << size;
    EXPECT_EQ(pool.used(), 0U);
  }
}

using Use = ChunkPool::Use;
using Need = ChunkPool::Need;

TEST(ChunkPool, NeitherUseCanTakeTheLastQuarterFromTheOther) {
  ChunkPool pool{16 * sizeof(Chunk)};
  std::vector<Chunk*> sending;
  while (Chunk* chunk = pool.take(Use::kSend, Need::kFirst))
    sending.push_back(chunk);
  EXPECT_EQ(sending.size(), 12U);
  EXPECT_TRUE(pool.short_for(Use::kSend));
  EXPECT_FALSE(pool.short_for(Use::kReceive));
  std::vector<Chunk*> receiving;
  while (Chunk* chunk = pool.take(Use::kReceive, Need::kFirst))
    receiving.push_back(chunk);
  EXPECT_EQ(receiving.size(), 4U);
  // Not its share, but all that there is: nobody may be told that there is room.
  EXPECT_TRUE(pool.exhausted_for(Use::kReceive, Need::kFirst));
  EXPECT_TRUE(pool.short_for(ChunkPool::Use::kReceive));
  for (Chunk* chunk : sending)
    pool.give_back(chunk, ChunkPool::Use::kSend);
  for (Chunk* chunk : receiving)
    pool.give_back(chunk, ChunkPool::Use::kReceive);
  EXPECT_EQ(pool.used(), 0U);
}

TEST(ChunkPool, TheLastSixthOfAShareIsForQueuesThatHoldNothing) {
  ChunkPool pool{64 * sizeof(Chunk)};
  ByteQueue greedy{pool, Use::kSend};
  const std::vector<std::byte> text(64 * Chunk::kBytes);
  EXPECT_EQ(greedy.append(text), 40 * Chunk::kBytes);
  EXPECT_TRUE(greedy.is_starved());
  EXPECT_TRUE(greedy.is_rationed());
  std::vector<std::unique_ptr<ByteQueue>> modest;
  for (int i = 0; i < 8; ++i) {
    modest.push_back(std::make_unique<ByteQueue>(pool, Use::kSend));
    EXPECT_FALSE(modest.back()->is_starved());
    EXPECT_EQ(modest.back()->append(text), Chunk::kBytes) << "queue " << i;
  }
  ByteQueue late{pool, Use::kSend};
  EXPECT_TRUE(late.is_starved());
  EXPECT_EQ(late.append(text), 0U);
  // What one of them has delivered, it may have again.
  modest.front()->consume(Chunk::kBytes);
  EXPECT_FALSE(modest.front()->is_starved());
  EXPECT_EQ(modest.front()->append(text), Chunk::kBytes);
  // And the other use is as it was, up to what the pool keeps for first chunks.
  ByteQueue reader{pool, Use::kReceive};
  EXPECT_EQ(reader.append(text), 8 * Chunk::kBytes);
}

}  // namespace
}  // namespace weir::tcp
