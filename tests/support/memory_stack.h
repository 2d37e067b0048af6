#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <vector>

#include "l4/base/clock.h"
#include "l4/wire/address.h"
#include "l7/net/interface.h"
#include "l7/port/heap_pool.h"
#include "l7/port/port.h"
#include "l7/tcp/stack.h"

namespace weir::testing {

/// The whole stack of one core, net::Interface and tcp::Stack, on a link that exists in memory only
/// and on a clock that its owner moves. IP packets go in and come out; the Ethernet headers and the
/// answers to ARP and neighbour solicitations, without which nothing would leave, are made here:
/// one neighbour with one MAC address answers for everybody.
class MemoryStack {
 public:
  struct Options {
    Instant start{std::chrono::seconds{1000}};
    std::uint64_t seed = 1;
    std::uint16_t mtu = 1500;
    tcp::StackOptions stack;
  };
  struct SentPacket {
    Instant at;
    std::vector<std::byte> bytes;  ///< IP header first
  };

  explicit MemoryStack(const Options& options);
  MemoryStack(const MemoryStack&) = delete;
  MemoryStack& operator=(const MemoryStack&) = delete;

  [[nodiscard]] tcp::Stack& tcp() { return stack_; }
  [[nodiscard]] Instant now() const { return now_; }
  [[nodiscard]] net::InterfaceCounters interface_counters() const { return interface_.counters(); }

  /// Makes an address the stack's own, with everybody else on the same link.
  void add_address(const wire::IpAddress& address);
  [[nodiscard]] bool has_address(const wire::IpAddress& address) const;

  /// One received IP packet and what follows from it at once.
  void input(std::span<const std::byte> packet);
  /// Ends a turn of the loop: sends what has become ready.
  void flush();
  /// Moves the clock to `target`, running every timer that is due on the way at its own time.
  /// False when there are always more timers: a stack that does not come to rest.
  [[nodiscard]] bool advance_to(Instant target);
  /// Moves the clock without running timers, for the time that calls themselves take.
  void tick(Duration by) { now_ += by; }
  [[nodiscard]] Instant next_deadline() const;

  /// The oldest packet that has left and was not taken yet.
  [[nodiscard]] std::optional<SentPacket> take_sent();
  [[nodiscard]] const std::deque<SentPacket>& sent() const { return sent_; }

  /// Without buffers nothing can be sent; what is received still arrives.
  void set_buffers(bool available) { port_.buffers = available; }

 private:
  class Port final : public port::PacketPort {
   public:
    explicit Port(std::uint16_t mtu);
    [[nodiscard]] const port::PortCapabilities& capabilities() const override;
    [[nodiscard]] port::PortCounters counters() const override { return {}; }
    [[nodiscard]] std::size_t receive(std::span<port::Packet> burst) override;
    [[nodiscard]] std::size_t send(std::span<port::Packet> burst) override;
    [[nodiscard]] port::Packet allocate() override;
    void reap() override {}
    void wait(Duration longest, int wake_fd) override;

    port::HeapPool pool;
    std::vector<std::vector<std::byte>> frames;  // sent, not yet looked at
    bool buffers = true;

   private:
    port::PortCapabilities capabilities_;
  };

  void input_frame(std::span<const std::byte> frame);
  void send_all();
  [[nodiscard]] bool answer_arp(std::span<const std::byte> message);
  [[nodiscard]] bool answer_solicitation(std::span<const std::byte> packet);

  Instant now_;
  Port port_;
  net::InterfaceConfig config_;
  net::Interface interface_;
  tcp::Stack stack_;
  std::deque<SentPacket> sent_;
};

}  // namespace weir::testing
