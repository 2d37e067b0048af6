#include "bench/stack_lab/ring_port.h"

#include <bit>
#include <utility>

#include "l4/base/assert.h"

namespace weir::bench {
namespace {

constexpr std::size_t kRoom = 2048;
constexpr std::size_t kCacheLine = 64;
constexpr std::size_t kFramesMax = 2048;  // in flight, as in a device's ring

/// One producer, one consumer. Each side keeps what it last saw of the other, so that the shared
/// lines move once in a burst and not with every frame.
class Ring {
 public:
  explicit Ring(std::size_t capacity) : slots_(std::bit_ceil(capacity)) {}

  [[nodiscard]] bool push(port::PacketBuffer* buffer) {
    const std::size_t tail = tail_.load(std::memory_order_relaxed);  // only we write it
    if (tail - head_seen_ == slots_.size()) {
      head_seen_ = head_.load(std::memory_order_acquire);
      if (tail - head_seen_ == slots_.size()) return false;
    }
    slots_[tail & (slots_.size() - 1)] = buffer;
    // Release: who sees the new tail sees the slot, and the frame behind it.
    tail_.store(tail + 1, std::memory_order_release);
    return true;
  }

  [[nodiscard]] port::PacketBuffer* pop() {
    const std::size_t head = head_.load(std::memory_order_relaxed);  // only we write it
    if (head == tail_seen_) {
      tail_seen_ = tail_.load(std::memory_order_acquire);
      if (head == tail_seen_) return nullptr;
    }
    port::PacketBuffer* buffer = slots_[head & (slots_.size() - 1)];
    // Release: who sees the new head may write the slot.
    head_.store(head + 1, std::memory_order_release);
    return buffer;
  }

 private:
  std::vector<port::PacketBuffer*> slots_;
  alignas(kCacheLine) std::atomic<std::size_t> head_{0};
  std::size_t tail_seen_ = 0;  // the consumer's
  alignas(kCacheLine) std::atomic<std::size_t> tail_{0};
  std::size_t head_seen_ = 0;  // the producer's
};

}  // namespace

class RingCable::End final : public port::PacketPort {
 public:
  End(std::uint32_t buffers, std::uint8_t station)
      : own_{*this}, foreign_{*this}, slots_(buffers), arriving_{kFramesMax}, returned_{buffers} {
    capabilities_.mac = {{0x02, 0, 0, 0, 0, station}};
    free_.reserve(buffers);
    for (Slot& slot : slots_) {
      slot.home = this;
      slot.buffer.room = slot.bytes.data();
      slot.buffer.capacity = kRoom;
      free_.push_back(&slot.buffer);
    }
  }
  void connect(End& peer) { peer_ = &peer; }

  const port::PortCapabilities& capabilities() const override { return capabilities_; }
  port::PortCounters counters() const override { return counters_; }

  std::size_t receive(std::span<port::Packet> burst) override {
    std::size_t count = 0;
    for (; count < burst.size(); ++count) {
      port::PacketBuffer* buffer = arriving_.pop();
      if (buffer == nullptr) break;
      buffer->pool = slot_of(*buffer).home == this ? static_cast<port::PacketPool*>(&own_)
                                                   : static_cast<port::PacketPool*>(&foreign_);
      burst[count] = port::Packet{*buffer};
      counters_.received_bytes += buffer->length;
    }
    counters_.received_frames += count;
    return count;
  }

  std::size_t send(std::span<port::Packet> burst) override {
    std::size_t count = 0;
    for (; count < burst.size(); ++count) {
      const std::size_t length = burst[count].size();
      port::PacketBuffer* buffer = burst[count].release();
      if (!peer_->arriving_.push(buffer)) {
        burst[count] = port::Packet{*buffer};
        break;
      }
      counters_.sent_bytes += length;
    }
    counters_.sent_frames += count;
    counters_.send_refused += burst.size() - count;
    return count;
  }

  port::Packet allocate() override {
    if (free_.empty()) reap();
    if (free_.empty()) {
      ++counters_.pool_exhausted;
      return {};
    }
    port::PacketBuffer* buffer = free_.back();
    free_.pop_back();
    buffer->pool = &own_;
    buffer->offset = port::kHeadroom;
    buffer->length = 0;
    return port::Packet{*buffer};
  }

  void reap() override {
    while (port::PacketBuffer* buffer = returned_.pop())
      free_.push_back(buffer);
  }

  void wait(Duration, int) override {}  // who measures in memory does not sleep

 private:
  struct Slot {
    port::PacketBuffer buffer;  // first: a buffer's address is its slot's
    End* home = nullptr;
    alignas(kCacheLine) std::array<std::byte, kRoom> bytes;
  };
  static Slot& slot_of(port::PacketBuffer& buffer) {
    return reinterpret_cast<Slot&>(buffer);  // standard layout, and its first member
  }

  struct OwnPool final : port::PacketPool {
    explicit OwnPool(End& owner) : end{owner} {}
    void release(port::PacketBuffer& buffer) noexcept override { end.free_.push_back(&buffer); }
    End& end;
  };
  /// What the peer's buffers go back to when this end drops them: the way home.
  struct ForeignPool final : port::PacketPool {
    explicit ForeignPool(End& owner) : end{owner} {}
    void release(port::PacketBuffer& buffer) noexcept override {
      const bool taken = end.peer_->returned_.push(&buffer);
      WEIR_ASSERT(taken);  // the ring holds all buffers of its end
    }
    End& end;
  };

  OwnPool own_;
  ForeignPool foreign_;
  End* peer_ = nullptr;
  std::vector<Slot> slots_;
  std::vector<port::PacketBuffer*> free_;
  Ring arriving_;  // the peer produces
  Ring returned_;  // the peer produces
  port::PortCapabilities capabilities_;
  port::PortCounters counters_;
};

RingCable::RingCable(std::uint32_t buffers_each)
    : left_{std::make_unique<End>(buffers_each, 1)},
      right_{std::make_unique<End>(buffers_each, 2)} {
  left_->connect(*right_);
  right_->connect(*left_);
}

RingCable::~RingCable() = default;

port::PacketPort& RingCable::left() { return *left_; }
port::PacketPort& RingCable::right() { return *right_; }

}  // namespace weir::bench
