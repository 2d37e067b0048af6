#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "l4/base/clock.h"
#include "l4/base/slab.h"
#include "l4/base/timer_wheel.h"
#include "l4/wire/address.h"
#include "l7/http/h1.h"
#include "l7/http/h2_session.h"
#include "l7/proxy/channel.h"
#include "l7/proxy/generation.h"
#include "l7/tcp/stack.h"

namespace weir::proxy {

class Exchange;
using ExchangeId = Handle<Exchange>;

/// Those that have something to do, in the order in which they were added. Keeps its memory.
class ChangedExchanges {
 public:
  [[nodiscard]] bool empty() const { return next_ == ids_.size(); }
  void add(ExchangeId id) { ids_.push_back(id); }
  void add(const std::vector<ExchangeId>& ids) { ids_.insert(ids_.end(), ids.begin(), ids.end()); }
  [[nodiscard]] ExchangeId take() {
    WEIR_ASSERT(!empty());  // whoever takes has asked
    const ExchangeId id = ids_[next_++];
    if (!empty()) return id;
    ids_.clear();
    next_ = 0;
    return id;
  }

 private:
  std::vector<ExchangeId> ids_;
  std::size_t next_ = 0;
};

struct UpstreamConnection;
using UpstreamId = Handle<UpstreamConnection>;

/// One connection to an endpoint. Its states:
///
///   connecting ──connected──► busy ──give_back──► idle ──take──► busy
///        └────── any failure, or nothing left to reuse ──────► dropped
///
/// connecting, busy: somebody uses it. idle: nobody does, the channel is empty, and anything that
/// arrives over HTTP/1 means that the connection cannot be used again. HTTP/1 has one user at a
/// time, HTTP/2 as many as there are streams; they share it while it is being set up, too.
struct UpstreamConnection {
  UpstreamConnection(tcp::Stack& stack, tcp::ConnectionId connection, BufferPool& pool,
                     const wire::Endpoint& to)
      : channel{stack, connection, pool}, endpoint{to} {}

  [[nodiscard]] bool in_use() const { return user || !users.empty(); }

  GenerationRef generation;  ///< with TLS: owns its context, so that it outlives the channel
  /// With TLS: what it was opened for, in that generation. No other service uses it, and no other
  /// configuration: who must be trusted may have changed.
  const ServiceEntry* secured_for = nullptr;
  std::string secured_name{};  ///< likewise: whose certificate it is; empty: the address's
  Channel channel;
  wire::Endpoint endpoint;
  ExchangeId user;                             ///< HTTP/1
  bool is_h2 = false;                          ///< or is to be
  std::vector<ExchangeId> users;               ///< HTTP/2
  std::unique_ptr<http::H2Session> session{};  ///< once it stands
  bool waited_for = false;                     ///< by users for whom there was no stream yet
  bool touched = false;                        ///< stands in the list of those to be run
  http::ResponseParser parser{{.header_bytes = kResponseHeadBytesMax}};
  bool connected = false;
  bool broken = false;          ///< reset or timed out; what came before may still be read
  bool reused = false;          ///< it has carried an exchange before this one
  bool ended_in_order = false;  ///< both directions of a tunnel have; nothing is cut by closing
  bool announced = false;       ///< a PROXY header has said for whom; it is used for nobody else
  std::shared_ptr<EndpointState> counted;  ///< among the connections of whom it was opened for
  Timer timer;                             ///< idle time
};

struct UpstreamCounters {
  std::uint64_t opened = 0;
  std::uint64_t reused = 0;
  std::uint64_t connect_failed = 0;
  std::uint64_t idle_closed = 0;
  std::uint32_t open = 0;  ///< now
  std::uint32_t idle = 0;  ///< now
};

/// Connections of one worker to all endpoints, kept by endpoint and not by configuration: applying
/// a new one drops nothing.
class UpstreamPool {
 public:
  UpstreamPool(tcp::Stack& stack, BufferPool& buffers, TimerWheel& timers, http::H2Shared& h2);

  /// Our own addresses, one per family at most, as source of new connections.
  void set_sources(std::vector<wire::IpAddress> sources) { sources_ = std::move(sources); }

  /// An idle connection to an endpoint of a service of the generation for that exchange, the one
  /// used last, or nothing.
  [[nodiscard]] std::optional<UpstreamId> take_idle(const EndpointEntry& endpoint,
                                                    const ServiceEntry& service,
                                                    const GenerationRef& generation,
                                                    ExchangeId user, Instant now);
  /// Starts a new connection to such an endpoint; `connected` is set once it stands. `announcement`
  /// is what goes before everything else, TLS too: a PROXY header.
  [[nodiscard]] Result<UpstreamId> open(const EndpointEntry& endpoint, const ServiceEntry& service,
                                        const GenerationRef& generation, ExchangeId user,
                                        Instant now, std::span<const std::byte> announcement = {});
  /// Whether the service allows one more connection to the endpoint, over all workers.
  [[nodiscard]] static bool may_open(const EndpointEntry& endpoint, const ServiceEntry& service);
  /// HTTP/2: a connection that takes one more exchange, or nothing. leave() ends the share.
  [[nodiscard]] std::optional<UpstreamId> join(const EndpointEntry& endpoint,
                                               const ServiceEntry& service,
                                               const GenerationRef& generation, ExchangeId user);
  /// HTTP/2: a new one, shared from now on.
  [[nodiscard]] Result<UpstreamId> open_shared(const EndpointEntry& endpoint,
                                               const ServiceEntry& service,
                                               const GenerationRef& generation, ExchangeId user,
                                               Instant now);
  void leave(UpstreamId id, ExchangeId user, Instant now);
  /// HTTP/2: reads and writes what there is. Whose streams have changed is appended to `changed`.
  void run_shared(UpstreamId id, ChangedExchanges& changed, Instant now);
  /// HTTP/2: to be run before the turn ends, since something was put into a stream.
  void touch(UpstreamId id);
  /// HTTP/2: a connection that has just been run, and the session ends with a word.
  void say_goodbye(UpstreamConnection& connection, Instant now);
  /// One that was touched, or zero.
  [[nodiscard]] UpstreamId take_touched();
  [[nodiscard]] bool touched() const { return !touched_.empty(); }
  /// Keeps a connection that has finished an exchange cleanly, or drops it when there are enough.
  void give_back(UpstreamId id, Instant now);
  /// Ends idle connections, now and whenever one becomes idle.
  void begin_drain(Instant now);
  /// Requests go by this one from now on. Connections over TLS belong to a configuration: those of
  /// an older one serve no further request, and drop_outdated() ends those that are idle.
  void use(const Generation& generation);
  void drop_outdated(Instant now);
  [[nodiscard]] bool is_draining() const { return is_draining_; }
  /// Ends a connection at once; in the middle of an exchange by RST.
  void drop(UpstreamId id, Instant now);

  [[nodiscard]] UpstreamConnection* get(UpstreamId id) { return connections_.get(id); }
  [[nodiscard]] UpstreamCounters counters() const;
  void count_connect_failure() { ++counters_.connect_failed; }
  void count_idle_close() { ++counters_.idle_closed; }

 private:
  [[nodiscard]] bool is_outdated(const UpstreamConnection& connection) const;
  static constexpr std::uint32_t kConnectionsMax = 65536;
  static constexpr std::size_t kIdlePerEndpoint = 256;
  static constexpr std::size_t kUsersMax = 100;  ///< of one connection; the endpoint may say less
  static constexpr Duration kIdleTime = std::chrono::seconds{55};

  struct Kept {
    std::vector<UpstreamId> idle;    // used last at the back; entries may be stale
    std::vector<UpstreamId> shared;  // HTTP/2, in use or idle; likewise
  };

  [[nodiscard]] static bool takes_more(const UpstreamConnection& connection);
  /// Goes on with setting up; false while there is no session.
  [[nodiscard]] bool start_session(UpstreamConnection& connection, Instant now);
  void fail_shared(UpstreamConnection& connection, ChangedExchanges& changed);

  tcp::Stack& stack_;
  const Generation* current_ = nullptr;
  bool has_outdated_ = false;
  BufferPool& buffers_;
  TimerWheel& timers_;
  http::H2Shared& h2_;
  std::vector<wire::IpAddress> sources_;
  Slab<UpstreamConnection> connections_{kConnectionsMax};
  std::unordered_map<wire::Endpoint, Kept> endpoints_;
  std::vector<UpstreamId> touched_;
  bool is_draining_ = false;
  UpstreamCounters counters_;
};

}  // namespace weir::proxy
