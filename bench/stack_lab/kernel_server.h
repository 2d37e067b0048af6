#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/stack_lab/kernel_loop.h"
#include "bench/stack_lab/load.h"

namespace weir::bench {

/// echo, http, sink and source on kernel sockets.
class KernelServer final : public KernelApplication {
 public:
  KernelServer(KernelLoop& loop, const LoadOptions& options);
  Result<void> start();
  void on_event(std::uint64_t user, std::uint32_t events, Instant now) override;
  [[nodiscard]] std::uint64_t accepted() const { return accepted_; }
  [[nodiscard]] std::uint64_t requests() const { return requests_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

 private:
  struct Connection {
    UniqueFd fd;
    std::uint64_t owed = 0;     ///< source: left to be written
    std::uint32_t partial = 0;  ///< of an unfinished request, as in ReplyServer
    bool is_upgraded = false;   ///< websocket: the handshake is over
    bool has_ended = false;     ///< the peer's FIN is there, behind what is still to be read
    bool is_paused = false;     ///< the socket took no more; the rest waits for EPOLLOUT
  };
  void accept_all(int listener);
  void read(Connection& connection);
  bool pay(Connection& connection);
  /// Whether bytes belong to what comes after the handshake.
  bool pass_handshake(std::span<const std::byte> bytes, Connection& connection);
  [[nodiscard]] std::uint32_t take_requests(std::span<const std::byte> bytes, Connection& from);

  KernelLoop& loop_;
  const LoadOptions& options_;
  std::string reply_;
  std::vector<std::byte> replies_;
  std::vector<std::byte> buffer_;
  std::vector<UniqueFd> listeners_;
  std::vector<Connection> connections_;  // by descriptor
  std::uint64_t accepted_ = 0;
  std::uint64_t requests_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace weir::bench
