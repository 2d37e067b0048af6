#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bench/stack_lab/clients.h"
#include "bench/stack_lab/kernel_loop.h"

namespace weir::bench {

/// A Client on kernel sockets.
class KernelClient final : public KernelApplication, private Transport {
 public:
  /// `congestion` is the kernel's name of the control that its sockets use; empty: the default one.
  KernelClient(KernelLoop& loop, const LoadOptions& options, std::string congestion);
  [[nodiscard]] Client& client() { return *client_; }

  void on_event(std::uint64_t user, std::uint32_t events, Instant now) override;
  void advance(Instant now) override { client_->advance(now); }
  [[nodiscard]] Instant next_deadline() const override { return client_->next_deadline(); }
  [[nodiscard]] bool is_finished() const override { return client_->is_finished(); }

 private:
  struct Socket {
    UniqueFd fd;
    std::uint32_t generation = 0;  ///< events of an earlier descriptor of the slot are recognised
    bool is_connected = false;
    bool is_full = false;  ///< a write came up short
  };
  bool connect(std::uint32_t slot, const wire::Endpoint& peer, Instant now) override;
  std::size_t write(std::uint32_t slot, std::span<const std::byte> bytes) override;
  std::size_t discard(std::uint32_t slot) override;
  [[nodiscard]] std::size_t unacknowledged(std::uint32_t slot) const override;
  void close(std::uint32_t slot) override { sockets_[slot].fd.reset(); }
  void abort(std::uint32_t slot, Instant now) override;
  void lose(std::uint32_t slot, Instant now);

  KernelLoop& loop_;
  std::string congestion_;
  std::vector<Socket> sockets_;  // by slot
  std::vector<std::byte> buffer_;
  std::unique_ptr<Client> client_;
};

}  // namespace weir::bench
