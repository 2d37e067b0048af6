#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <vector>

#include "bench/stack_lab/load.h"

namespace weir::bench {

/// What a client stands on: our stack (stack_client.h) or kernel sockets (kernel_client.h), so that
/// both are given the same load by the same code. Connections are named by their slot.
class Transport {
 public:
  virtual ~Transport() = default;
  /// Begins to connect; false when no local port or connection is left.
  virtual bool connect(std::uint32_t slot, const wire::Endpoint& peer, Instant now) = 0;
  /// How much was taken; on_writable() comes later where it is not all.
  virtual std::size_t write(std::uint32_t slot, std::span<const std::byte> bytes) = 0;
  /// Reads all that is there, and says how much.
  virtual std::size_t discard(std::uint32_t slot) = 0;
  [[nodiscard]] virtual std::size_t unacknowledged(std::uint32_t slot) const = 0;
  /// In order, and without waiting; the slot is free for another connection.
  virtual void close(std::uint32_t slot) = 0;
  virtual void abort(std::uint32_t slot, Instant now) = 0;
};

/// What all clients do: open so many connections, not too many at once, and measure once they are
/// there. Idle connections have the slots after the busy ones.
class Client {
 public:
  Client(Transport& transport, const LoadOptions& options);
  virtual ~Client() = default;
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  /// Once per turn.
  virtual void advance(Instant now);
  [[nodiscard]] virtual Instant next_deadline() const { return measurement_.next_deadline(); }
  [[nodiscard]] bool is_finished() const { return finished_; }
  [[nodiscard]] const Measurement& measurement() const { return measurement_; }
  [[nodiscard]] virtual nlohmann::ordered_json report() const;
  /// Closes all that is open.
  void close();

  // News of the transport.
  void on_connected(std::uint32_t slot, Instant now);
  virtual void on_readable(std::uint32_t slot, Instant now) = 0;
  virtual void on_writable(std::uint32_t slot) { static_cast<void>(slot); }
  /// Refused, reset, timed out, or closed by the peer: the slot has no connection any more.
  void on_lost(std::uint32_t slot, Instant now);

 protected:
  enum class State : std::uint8_t { kNone, kOpening, kOpen };
  struct Slot {
    Instant since;               ///< of the request, or of the connect
    std::uint32_t received = 0;  ///< of the reply
    State state = State::kNone;
  };

  /// Everything is open.
  virtual void begin(Instant now) { static_cast<void>(now); }
  virtual void opened(std::uint32_t slot, Instant now);
  virtual void lost(std::uint32_t slot, Instant now);

  bool open(std::uint32_t slot, Instant now);
  void send_request(std::uint32_t slot, Instant now);
  /// Reads what is there; true when that completes the reply.
  bool read_reply(std::uint32_t slot);
  void finish() { finished_ = true; }

  Transport& transport_;
  const LoadOptions& options_;
  Measurement measurement_;
  std::uint32_t reply_bytes_;
  std::vector<std::byte> request_;
  std::vector<Slot> slots_;
  std::uint32_t opening_ = 0;  // slots of that state

 private:
  void open_more(Instant now);

  std::uint32_t started_ = 0;  // slots that have been opened for the first time
  std::uint32_t next_port_ = 0;
  bool finished_ = false;
};

/// rr: every busy connection sends its next request when the reply is complete. With a rate,
/// requests are due at their time: one that finds no connection free goes later, and its latency
/// counts from when it was due.
class RequestClient final : public Client {
 public:
  using Client::Client;
  void advance(Instant now) override;
  [[nodiscard]] Instant next_deadline() const override;
  void on_readable(std::uint32_t slot, Instant now) override;

 private:
  void begin(Instant now) override;
  void opened(std::uint32_t slot, Instant now) override;
  /// The reply to a connection's first request is there once nothing more comes.
  void learn_replies(Instant now);
  void finish_opening(std::uint32_t slot);
  [[nodiscard]] Instant due(std::uint64_t number) const;
  void ask_due(Instant now);

  std::vector<std::uint32_t> free_;  // with a rate: connections without a request
  Instant began_;
  std::uint64_t asked_ = 0;
  bool has_learnt_ = false;  // with http: how long a reply is
};

/// crr: connect, one request, its reply, close. The first FIN is ours, and TIME-WAIT too. With a
/// rate, starts are due at their time, whatever has become of earlier ones.
class ConnectClient final : public Client {
 public:
  ConnectClient(Transport& transport, const LoadOptions& options);
  void advance(Instant now) override;
  [[nodiscard]] Instant next_deadline() const override;
  [[nodiscard]] nlohmann::ordered_json report() const override;
  void on_readable(std::uint32_t slot, Instant now) override;

 private:
  void opened(std::uint32_t slot, Instant now) override;
  void lost(std::uint32_t slot, Instant now) override;
  void again(std::uint32_t slot);
  void start_due(Instant now);
  void give_up_late(Instant now);

  std::vector<std::uint32_t> free_;  // slots that wait to be opened (again)
  Instant began_;
  Instant next_look_;
  std::uint64_t attempts_ = 0;
};

/// bulk: bytes that the peer has acknowledged, or with `receive` bytes read.
class BulkClient final : public Client {
 public:
  BulkClient(Transport& transport, const LoadOptions& options);
  void advance(Instant now) override;
  void on_readable(std::uint32_t slot, Instant now) override;
  void on_writable(std::uint32_t slot) override;

 private:
  void begin(Instant now) override;
  [[nodiscard]] std::uint64_t acknowledged() const;

  std::vector<std::byte> text_;
  std::uint64_t written_ = 0;
  std::uint64_t acknowledged_before_ = 0;
};

/// idle: holds the connections for the whole duration, then asks each one question.
class IdleClient final : public Client {
 public:
  using Client::Client;
  void advance(Instant now) override;
  [[nodiscard]] nlohmann::ordered_json report() const override;
  void on_readable(std::uint32_t slot, Instant now) override;

 private:
  std::uint32_t asked_ = 0;
  std::uint32_t answered_ = 0;
  Instant give_up_ = kNever;
};

/// The client for the options' role, or nothing for a server's.
[[nodiscard]] std::unique_ptr<Client> make_client(Transport& transport, const LoadOptions& options);

}  // namespace weir::bench
