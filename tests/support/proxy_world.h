#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "l4/control/model.h"
#include "l7/net/interface.h"
#include "l7/proxy/worker.h"
#include "l7/tcp/stack.h"
#include "tests/support/segment_wire.h"
#include "tests/support/sim_link.h"

namespace weir::testing {

/// One end of one TCP connection outside the proxy: a client, or what a backend has accepted. It
/// lives as long as its world, or until that forgets it. Calls take effect with the world's next
/// turn.
class Peer {
 public:
  Peer(tcp::Stack& stack, tcp::ConnectionId id) : stack_{stack}, id_{id} {}
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  /// Queues bytes; TCP takes them as it can.
  void send(std::string_view bytes) { outgoing_.append(bytes); }
  /// FIN behind everything that is queued. Reading goes on.
  void finish() { finishing_ = true; }
  /// RST, and the end.
  void reset(Instant now);

  std::string received{};    ///< everything so far
  std::size_t handled = 0;   ///< of `received`, for whoever answers
  std::size_t requests = 0;  ///< answered so far, likewise
  /// Not to read beyond this; then the window closes.
  std::size_t read_limit = std::numeric_limits<std::size_t>::max();
  bool closes_with_peer = true;  ///< finish() when the other side has

  [[nodiscard]] bool connected() const { return connected_; }
  /// The other side has sent FIN, and everything before it is in `received`.
  [[nodiscard]] bool ended() const { return ended_; }
  /// Ended by RST, refusal or time-out, of either side.
  [[nodiscard]] bool was_reset() const { return was_reset_; }
  /// Nothing of the connection is left on this side but perhaps its TIME-WAIT.
  [[nodiscard]] bool gone() const { return gone_; }
  [[nodiscard]] bool finished() const { return finishing_; }
  [[nodiscard]] std::size_t unsent() const { return outgoing_.size() - sent_; }
  /// Taken by TCP so far.
  [[nodiscard]] std::uint64_t sent() const { return sent_total_; }

 private:
  friend class ProxyWorld;
  /// Moves bytes both ways; true if something came.
  bool exchange();

  tcp::Stack& stack_;
  tcp::ConnectionId id_;
  std::string outgoing_;
  std::size_t sent_ = 0;
  std::uint64_t sent_total_ = 0;
  bool finishing_ = false;
  bool fin_queued_ = false;
  bool connected_ = false;
  bool ended_ = false;
  bool was_reset_ = false;
  bool gone_ = false;
  std::function<void(Peer&)> handler_;
};

/// What a backend does with a connection: called once it stands, whenever bytes have come, and at
/// the end of the stream.
using Handler = std::function<void(Peer&)>;

struct Backend {
  wire::Endpoint endpoint;
  Handler handler;
  std::vector<Peer*> connections;

  /// Of all connections, in the order in which they were accepted.
  [[nodiscard]] std::string received() const;
};

/// Told about each turn of the worker, to measure it.
class TurnObserver {
 public:
  virtual ~TurnObserver() = default;
  virtual void before_turn() = 0;
  virtual void after_turn() = 0;
};

/// One whole proxy::Worker, or several, on side A of a simulated link, and on side B everybody they
/// speak to: clients and backends over one TCP stack. Time is virtual, one thread runs it all, and
/// the same seed gives the same run.
///
///   ProxyWorld world{{}};
///   Backend& app = world.add_backend(8001, answering("HTTP/1.1 204 \r\n\r\n"));
///   world.install(world.model_for({app.endpoint}));
///   Peer& client = world.connect();
///   client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
///   world.run_for(10ms);
class ProxyWorld {
 public:
  struct Options {
    SimLink::Options link{};
    tcp::StackOptions worker{};
    tcp::StackOptions world{};
    std::uint64_t seed = 1;
    std::uint32_t workers = 1;
    /// Which worker a frame goes to, as a balancer would choose; to the first without it.
    std::function<std::uint32_t(std::span<const std::byte>)> steer = {};
  };

  explicit ProxyWorld(const Options& options);
  ~ProxyWorld();
  ProxyWorld(const ProxyWorld&) = delete;
  ProxyWorld& operator=(const ProxyWorld&) = delete;

  static constexpr std::string_view kClientAddress = "10.0.0.100";
  static constexpr std::string_view kVip = "203.0.113.10";

  /// A gateway "edge" on port 80 of the VIP, and one route "main" that sends everything to one
  /// service "app" of these endpoints. Tests edit it from there.
  [[nodiscard]] static control::Model model_for(const std::vector<wire::Endpoint>& endpoints);
  /// Compiles the model and hands it to the worker.
  void install(const control::Model& model);
  /// Hands over the endpoints of a model whose rest is that of the last one, as when names lead to
  /// other addresses.
  void install_endpoints(const control::Model& model);

  /// Accepts connections on this port from now on.
  Backend& add_backend(std::uint16_t port, Handler handler);
  /// An endpoint where a backend would be; without one it refuses.
  [[nodiscard]] static wire::Endpoint backend_endpoint(std::uint16_t port);
  /// A client; `handler`, if any, is called as a backend's is.
  Peer& connect(std::uint16_t port = 80, Handler handler = {});

  /// Everything that happens now.
  void turn();
  void run_for(Duration duration);
  /// Until the condition holds; false when it does not within `longest`.
  bool run_until(const std::function<bool()>& condition,
                 Duration longest = std::chrono::seconds{10});
  /// Calls `action` between two turns.
  void at(Instant when, std::function<void()> action) { actions_.emplace(when, std::move(action)); }
  /// Every client closes, and time passes until nothing is left over, or at most until every
  /// time-out of an idle worker has run out.
  void hang_up();
  /// What is still there after hang_up() and should not be; empty: nothing.
  [[nodiscard]] std::string left_over();
  /// Every Peer is gone, and is not pointed to any more: a world of many short trials stays small.
  void forget_peers();

  [[nodiscard]] Instant now() const { return now_; }
  [[nodiscard]] proxy::Worker& worker(std::size_t index = 0) { return *workers_[index]; }
  [[nodiscard]] proxy::WorkerReport report(std::size_t index = 0) const {
    return *workers_[index]->make_report();
  }
  [[nodiscard]] const tcp::StackCounters& world_counters() const { return stack_->counters(); }
  [[nodiscard]] SimLink& link() { return link_; }
  [[nodiscard]] std::string drain_log();
  void observe(TurnObserver* observer) { observer_ = observer; }

 private:
  /// The worker's port: frames wait in fixed memory before and after a turn, so that what the link
  /// allocates is not the worker's.
  class WorkerPort final : public port::PacketPort {
   public:
    explicit WorkerPort(port::PacketPort& link);
    /// Forgets the frames that have been received.
    void tidy();
    [[nodiscard]] std::size_t room() const { return kFrames - arrived_.size(); }
    void arrive(std::span<const std::byte> frame);
    void deliver();
    [[nodiscard]] const port::PortCapabilities& capabilities() const override;
    [[nodiscard]] port::PortCounters counters() const override { return link_.counters(); }
    [[nodiscard]] std::size_t receive(std::span<port::Packet> burst) override;
    [[nodiscard]] std::size_t send(std::span<port::Packet> burst) override;
    [[nodiscard]] port::Packet allocate() override { return pool_.allocate(); }
    void reap() override {}
    void wait(Duration, int) override {}  // time is the simulation's

   private:
    static constexpr std::size_t kFrames = 4096;
    port::PacketPort& link_;
    FixedPool pool_{2 * kFrames};
    std::vector<port::Packet> arrived_;  // received up to next_
    std::size_t next_ = 0;
    std::vector<port::Packet> leaving_;
  };

  void fetch();
  void turn_workers();
  void turn_world();
  void on_ready(const tcp::Readiness& ready);
  void serve(Peer& peer);
  [[nodiscard]] Instant next_event() const;

  Instant now_{std::chrono::seconds{1000}};
  SimLink link_;
  std::function<std::uint32_t(std::span<const std::byte>)> steer_;
  std::unique_ptr<proxy::MailRoom> room_;  // none for a single worker
  std::deque<WorkerPort> ports_;
  std::vector<std::unique_ptr<proxy::Worker>> workers_;
  std::unique_ptr<net::Interface> interface_;
  std::unique_ptr<tcp::Stack> stack_;
  std::deque<Backend> backends_;
  std::deque<Peer> peers_;  // by UserData minus kPeerBase
  std::vector<Peer*> clients_;
  std::multimap<Instant, std::function<void()>> actions_;
  TurnObserver* observer_ = nullptr;
  std::uint64_t revision_ = 0;
  std::uint32_t generations_ = 1;  ///< in use when nothing is going on
  proxy::EndpointBook book_;
};

/// One message as it stands on the wire, by an eye that knows nothing of l7/http: enough of RFC
/// 9112 for well-formed messages.
struct WireMessage {
  std::string head;  ///< with the empty line
  std::string body;  ///< without chunk framing
  std::size_t size = 0;
  [[nodiscard]] std::optional<std::string> field(std::string_view name) const;
  [[nodiscard]] int status() const { return std::stoi(head.substr(9, 3)); }
};

enum class MessageEnd : std::uint8_t {
  kFramed,     ///< where its framing says
  kAfterHead,  ///< no body whatever the head says: an answer to HEAD
  kWithBytes,  ///< like kFramed, but without framing everything there is belongs to it
};

/// The first message in `bytes` if it is complete.
std::optional<WireMessage> first_message(std::string_view bytes,
                                         MessageEnd end = MessageEnd::kFramed);

enum class Then : std::uint8_t { kStay, kClose };

/// Answers every complete request with the same bytes, and then stays or closes.
Handler answering(std::string answer, Then then = Then::kStay);

/// `size` bytes in which a hole or a swap shows.
std::string pattern_text(std::size_t size, unsigned seed = 0);

}  // namespace weir::testing
