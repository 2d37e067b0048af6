#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bench/stack_lab/load.h"
#include "bench/stack_lab/stack_host.h"
#include "l4/base/slab.h"

namespace weir::bench {

/// Listens on all ports of the options.
void listen_all(tcp::Stack& stack, const LoadOptions& options);

/// echo and http: so many equal replies as there are requests. What there is to know about a
/// connection (bytes still owed, and how far an unfinished request has come) is kept in its
/// UserData, so that an idle connection costs what the stack's own part costs.
class ReplyServer final : public Application {
 public:
  ReplyServer(tcp::Stack& stack, const LoadOptions& options);
  void start(Instant now) override;
  void on_ready(const tcp::Readiness& ready, Instant now) override;
  [[nodiscard]] std::uint64_t requests() const { return requests_; }

 private:
  /// UserData: 40 bits of bytes owed, and above them 24 bits of the unfinished request.
  struct Progress {
    std::uint64_t owed = 0;
    std::uint32_t partial = 0;
    static Progress from(tcp::UserData user) {
      return {user & ((std::uint64_t{1} << 40) - 1), static_cast<std::uint32_t>(user >> 40)};
    }
    [[nodiscard]] tcp::UserData user() const { return (std::uint64_t{partial} << 40) | owed; }
  };
  void read(tcp::ConnectionId id, Progress& progress);
  /// True when nothing is owed any more.
  bool pay(tcp::ConnectionId id, Progress& progress);
  [[nodiscard]] std::uint32_t take_requests(std::span<const std::byte> bytes, Progress& progress);

  tcp::Stack& stack_;
  const LoadOptions& options_;
  std::string reply_;
  std::vector<std::byte> replies_;  // several in a row, so that one write can pay many
  std::uint64_t requests_ = 0;
};

/// sink and source: one direction at full speed.
class StreamServer final : public Application {
 public:
  StreamServer(tcp::Stack& stack, const LoadOptions& options);
  void start(Instant now) override;
  void on_ready(const tcp::Readiness& ready, Instant now) override;
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

 private:
  void discard(tcp::ConnectionId id);
  void supply(tcp::ConnectionId id, std::uint64_t left);

  tcp::Stack& stack_;
  const LoadOptions& options_;
  std::vector<std::byte> text_;
  std::uint64_t bytes_ = 0;
};

/// relay: every accepted connection has a partner, an active open to the options' peer. Bytes go
/// across without a buffer of ours: what one side cannot take stays in the other's receive queue,
/// whose window then closes. Each direction ends by itself; a reset of one resets the other.
class Relay final : public Application {
 public:
  Relay(tcp::Stack& stack, const LoadOptions& options, std::uint32_t pairs_max);
  void start(Instant now) override;
  void on_ready(const tcp::Readiness& ready, Instant now) override;

  [[nodiscard]] std::uint32_t pairs() const { return pairs_.size(); }
  [[nodiscard]] std::uint64_t refused() const { return refused_; }
  [[nodiscard]] std::uint64_t broken() const { return broken_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

 private:
  struct Side {
    tcp::ConnectionId connection;
    bool is_open = false;    ///< accepted, or connected
    bool has_ended = false;  ///< its stream has ended and the partner has been told
  };
  struct Pair {
    Side sides[2];  // 0: accepted, 1: opened by us
  };
  using PairId = Handle<Pair>;

  /// UserData of a side: the pair's handle, whose index leaves the top bit free, and which side.
  static constexpr std::uint64_t kOpenedSide = std::uint64_t{1} << 31;

  void accept(tcp::ConnectionId accepted, Instant now);
  /// Moves what there is from one side to the other, and the end behind it.
  void move(Pair& pair, unsigned from);
  void drop(PairId id, Instant now);

  tcp::Stack& stack_;
  const LoadOptions& options_;
  Slab<Pair> pairs_;
  std::uint64_t refused_ = 0;  ///< accepted, but no partner could be opened
  std::uint64_t broken_ = 0;   ///< ended by a reset, a refusal or a time-out
  std::uint64_t bytes_ = 0;
};

}  // namespace weir::bench
