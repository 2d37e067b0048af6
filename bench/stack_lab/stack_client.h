#pragma once

#include <memory>
#include <vector>

#include "bench/stack_lab/clients.h"
#include "bench/stack_lab/stack_host.h"

namespace weir::bench {

/// A Client on our stack. A connection's UserData is its slot.
class StackClient final : public Application, private Transport {
 public:
  StackClient(tcp::Stack& stack, const LoadOptions& options);
  [[nodiscard]] Client& client() { return *client_; }

  void on_ready(const tcp::Readiness& ready, Instant now) override;
  void advance(Instant now) override { client_->advance(now); }
  [[nodiscard]] Instant next_deadline() const override { return client_->next_deadline(); }
  [[nodiscard]] bool is_finished() const override { return client_->is_finished(); }

 private:
  bool connect(std::uint32_t slot, const wire::Endpoint& peer, Instant now) override;
  std::size_t write(std::uint32_t slot, std::span<const std::byte> bytes) override;
  std::size_t discard(std::uint32_t slot) override;
  [[nodiscard]] std::size_t unacknowledged(std::uint32_t slot) const override;
  void close(std::uint32_t slot) override;
  void abort(std::uint32_t slot, Instant now) override;

  tcp::Stack& stack_;
  const LoadOptions& options_;
  std::vector<tcp::ConnectionId> connections_;  // by slot
  std::unique_ptr<Client> client_;
};

}  // namespace weir::bench
