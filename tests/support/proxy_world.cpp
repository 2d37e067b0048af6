#include "tests/support/proxy_world.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "l4/base/assert.h"
#include "l4/base/bytes.h"

namespace weir::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::string_view kWorkerAddress = "10.0.0.1";
constexpr std::string_view kBackendAddress = "10.0.0.2";

/// A worker that is still busy after so many turns at one instant will never rest.
constexpr int kTurnsPerInstant = 100'000;

/// Idle connections of both sides, lingering ones, and TIME-WAIT behind them: all are over by then.
constexpr Duration kHangUpTimeMax = seconds{300};

/// The least by which time moves while somebody asks for a turn now.
constexpr Duration kStep = TimerWheel::kTick;

wire::IpAddress address(std::string_view text) { return *wire::IpAddress::parse(text); }

net::InterfaceConfig worker_config(std::size_t worker) {
  return {.addresses = {{address(kWorkerAddress), 24}},
          .vips = {address(ProxyWorld::kVip)},
          .speaks = worker == 0};
}

net::InterfaceConfig world_config() {
  return {.addresses = {{address(kBackendAddress), 24}, {address(ProxyWorld::kClientAddress), 24}},
          .gateway_v4 = address(kWorkerAddress)};
}

/// Fills an empty packet. The link header goes into the headroom, as where frames are made: the
/// room behind it is for an IP packet of the link's MTU.
void fill(port::Packet& packet, std::span<const std::byte> frame) {
  const std::size_t header = std::min<std::size_t>(frame.size(), 14);
  packet.prepend(header);
  packet.append(frame.size() - header);
  std::ranges::copy(frame, packet.bytes().begin());
}

/// Listeners carry the number of their backend, connections that of their peer.
constexpr tcp::UserData kPeerBase = 1'000'000;

}  // namespace

// ---- peers --------------------------------------------------------------------------------------

void Peer::reset(Instant now) {
  if (gone_) return;
  stack_.abort(id_, now);
  gone_ = was_reset_ = true;
}

bool Peer::exchange() {
  bool came = false;
  while (received.size() < read_limit) {
    const auto arrived = stack_.peek(id_);
    const std::size_t count = std::min(arrived.size(), read_limit - received.size());
    if (count == 0) break;
    received.append(as_text(arrived.first(count)));
    stack_.consume(id_, count);
    came = true;
  }
  if (stack_.at_end(id_) && !ended_) ended_ = came = true;
  if (ended_ && closes_with_peer) finishing_ = true;
  while (connected_ && unsent() > 0) {
    const std::size_t taken =
        stack_.write(id_, as_bytes(std::string_view{outgoing_}.substr(sent_)));
    sent_ += taken;
    sent_total_ += taken;
    if (taken == 0) break;
  }
  if (unsent() == 0) {
    outgoing_.clear();
    sent_ = 0;
    if (finishing_ && connected_ && !std::exchange(fin_queued_, true)) stack_.close_write(id_);
  }
  return came;
}

std::string Backend::received() const {
  std::string all;
  for (const Peer* peer : connections)
    all += peer->received;
  return all;
}

// ---- the worker's port --------------------------------------------------------------------------

ProxyWorld::WorkerPort::WorkerPort(port::PacketPort& link) : link_{link} {
  arrived_.reserve(kFrames);
  leaving_.reserve(kFrames);
}

const port::PortCapabilities& ProxyWorld::WorkerPort::capabilities() const {
  return link_.capabilities();
}

void ProxyWorld::WorkerPort::tidy() {
  arrived_.erase(arrived_.begin(), arrived_.begin() + static_cast<std::ptrdiff_t>(next_));
  next_ = 0;
}

void ProxyWorld::WorkerPort::arrive(std::span<const std::byte> frame) {
  port::Packet copy = pool_.allocate();
  WEIR_ASSERT(copy);  // a turn takes more frames out than this ring holds
  fill(copy, frame);
  arrived_.push_back(std::move(copy));
}

void ProxyWorld::WorkerPort::deliver() {
  for (port::Packet& frame : leaving_) {
    port::Packet copy = link_.allocate();
    if (!copy) break;  // lost, as on any link
    fill(copy, std::as_const(frame).bytes());
    static_cast<void>(link_.send({&copy, 1}));
  }
  leaving_.clear();
}

std::size_t ProxyWorld::WorkerPort::receive(std::span<port::Packet> burst) {
  const std::size_t count = std::min(burst.size(), arrived_.size() - next_);
  for (std::size_t i = 0; i < count; ++i)
    burst[i] = std::move(arrived_[next_++]);
  return count;
}

std::size_t ProxyWorld::WorkerPort::send(std::span<port::Packet> burst) {
  const std::size_t count = std::min(burst.size(), kFrames - leaving_.size());
  for (port::Packet& frame : burst.first(count))
    leaving_.push_back(std::move(frame));
  return count;
}

// ---- the world ----------------------------------------------------------------------------------

ProxyWorld::ProxyWorld(const Options& options) : link_{options.link, now_}, steer_{options.steer} {
  Random random{options.seed};
  constexpr std::size_t kEthernetBytes = 14;
  if (options.workers > 1)
    room_ = std::make_unique<proxy::MailRoom>(
        options.workers, link_.port(Side::kA).capabilities().mtu + kEthernetBytes);
  for (std::uint32_t i = 0; i < options.workers; ++i) {
    ports_.emplace_back(link_.port(Side::kA));
    workers_.push_back(std::move(*proxy::Worker::create(ports_.back(), worker_config(i),
                                                        options.worker, Random{random.next()}, now_,
                                                        {.room = room_.get(), .index = i})));
  }
  interface_ = std::make_unique<net::Interface>(world_config(), link_.port(Side::kB),
                                                Random{random.next()}, now_);
  stack_ = std::make_unique<tcp::Stack>(options.world, *interface_, Random{random.next()}, now_);
}

ProxyWorld::~ProxyWorld() = default;

wire::Endpoint ProxyWorld::backend_endpoint(std::uint16_t port) {
  return {address(kBackendAddress), wire::Port{port}};
}

control::Model ProxyWorld::model_for(const std::vector<wire::Endpoint>& endpoints) {
  control::Model model;
  model.services = {{.name = "app"}};
  for (const wire::Endpoint& endpoint : endpoints)
    model.services[0].endpoints.push_back({endpoint});
  control::Gateway gateway;
  gateway.name = "edge";
  gateway.addresses = {address(kVip)};
  gateway.listeners = {
      {"http", wire::Port{80}, control::ListenerProtocol::kHttp, "", {}, {}, std::nullopt}};
  model.gateways = {gateway};
  control::HttpRoute route;
  route.name = "main";
  route.parents = {{"edge", std::nullopt}};
  route.rules = {{"", {control::RouteMatch{}}, {}, {{"app", 1}}}};
  model.http_routes = {route};
  return model;
}

void ProxyWorld::install(const control::Model& model) {
  const std::shared_ptr<const proxy::Snapshot> snapshot =
      proxy::build_snapshot(model, ++revision_, book_);
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    auto generation = proxy::Generation::create(snapshot);
    WEIR_ASSERT(generation);  // certificates of tests can be read
    // It takes one per turn.
    WEIR_ASSERT(workers_[i]->install(worker_config(i), std::move(*generation)));
  }
  generations_ = 1;
  turn();
}

void ProxyWorld::install_endpoints(const control::Model& model) {
  const std::shared_ptr<const proxy::Snapshot> snapshot =
      proxy::build_snapshot(model, revision_, book_);
  for (const auto& worker : workers_)
    WEIR_ASSERT(
        worker->install_endpoints(proxy::Generation::of_same_configuration(snapshot)));  // as above
  generations_ = 2;  // it stands on that of the configuration
  turn();
}

Backend& ProxyWorld::add_backend(std::uint16_t port, Handler handler) {
  stack_->listen(backend_endpoint(port), backends_.size());
  return backends_.emplace_back(Backend{backend_endpoint(port), std::move(handler), {}});
}

Peer& ProxyWorld::connect(std::uint16_t port, Handler handler) {
  const auto id = stack_->connect(address(kClientAddress), {address(kVip), wire::Port{port}},
                                  kPeerBase + peers_.size(), now_);
  WEIR_ASSERT(id);  // far fewer than there are ports
  Peer& peer = peers_.emplace_back(*stack_, *id);
  peer.handler_ = std::move(handler);
  clients_.push_back(&peer);
  return peer;
}

void ProxyWorld::turn() {
  link_.advance_to(now_);
  while (!actions_.empty() && actions_.begin()->first <= now_) {
    const auto action = actions_.extract(actions_.begin());
    action.mapped()();
  }
  turn_workers();
  turn_world();
}

void ProxyWorld::fetch() {
  std::array<port::Packet, 64> burst;
  for (WorkerPort& port : ports_)
    port.tidy();
  const auto has_room = [&](const WorkerPort& port) { return port.room() >= burst.size(); };
  while (std::ranges::all_of(ports_, has_room)) {
    const std::size_t count = link_.port(Side::kA).receive(burst);
    for (port::Packet& frame : std::span{burst}.first(count)) {
      const auto bytes = std::as_const(frame).bytes();
      ports_[steer_ ? steer_(bytes) : 0].arrive(bytes);
      frame.reset();
    }
    if (count < burst.size()) return;
  }
}

void ProxyWorld::turn_workers() {
  bool busy = true;
  for (int i = 0; busy; ++i) {
    WEIR_ASSERT(i < kTurnsPerInstant);
    fetch();
    busy = false;
    for (std::size_t worker = 0; worker < workers_.size(); ++worker) {
      if (observer_ != nullptr) observer_->before_turn();
      busy = workers_[worker]->turn(now_) || busy;
      if (observer_ != nullptr) observer_->after_turn();
      ports_[worker].deliver();
    }
  }
}

void ProxyWorld::turn_world() {
  std::array<port::Packet, 64> burst;
  for (std::size_t count = burst.size(); count == burst.size();) {
    count = link_.port(Side::kB).receive(burst);
    for (port::Packet& frame : std::span{burst}.first(count))
      if (auto segment = interface_->input(std::move(frame), now_))
        stack_->input(std::move(*segment), now_);
  }
  while (const auto error = interface_->poll_error())
    stack_->error(*error, now_);
  interface_->advance(now_);
  stack_->advance(now_);
  while (const auto ready = stack_->poll())
    on_ready(*ready);
  for (Peer& peer : peers_)
    if (!peer.gone_) serve(peer);
  stack_->flush(now_);
  interface_->flush(now_);
}

void ProxyWorld::on_ready(const tcp::Readiness& ready) {
  Peer* peer = nullptr;
  if (ready.accepted) {
    stack_->set_user(ready.connection, kPeerBase + peers_.size());
    peer = &peers_.emplace_back(*stack_, ready.connection);
    Backend& backend = backends_[ready.user];
    peer->handler_ = backend.handler;
    backend.connections.push_back(peer);
  } else {
    peer = &peers_[ready.user - kPeerBase];
  }
  const bool is_new = (ready.accepted || ready.connected) && !ready.reset;
  if (is_new) peer->connected_ = true;
  if (is_new && peer->handler_) peer->handler_(*peer);
  if (peer->gone_) return;
  serve(*peer);
  if (peer->gone_ || !(ready.reset || ready.closed)) return;
  peer->was_reset_ = ready.reset;
  peer->gone_ = true;
  stack_->release(ready.connection);
}

void ProxyWorld::serve(Peer& peer) {
  if (!peer.exchange() || !peer.handler_) return;
  peer.handler_(peer);
  if (!peer.gone_) static_cast<void>(peer.exchange());
}

Instant ProxyWorld::next_event() const {
  Instant next = std::min({link_.next_event(), interface_->next_deadline(), stack_->next_deadline(),
                           actions_.empty() ? kNever : actions_.begin()->first});
  for (const auto& worker : workers_)
    next = std::min(next, worker->next_deadline());
  return next;
}

void ProxyWorld::run_for(Duration duration) {
  const Instant end = now_ + duration;
  run_until([] { return false; }, duration);
  WEIR_ASSERT(now_ == end);
}

bool ProxyWorld::run_until(const std::function<bool()>& condition, Duration longest) {
  const Instant end = now_ + longest;
  while (true) {
    turn();
    if (condition()) return true;
    if (now_ >= end) return false;
    now_ = std::min(end, std::max(next_event(), now_ + kStep));
  }
}

void ProxyWorld::hang_up() {
  for (Peer& peer : peers_) {
    peer.read_limit = std::numeric_limits<std::size_t>::max();
    peer.closes_with_peer = true;
  }
  for (Peer* client : clients_)
    client->finish();
  for (Duration waited{}; waited < kHangUpTimeMax && !left_over().empty(); waited += seconds{1}) {
    // A RST may be lost, and who has nothing more to say would never learn of it.
    if (waited == kHangUpTimeMax / 2)
      for (Peer& peer : peers_)
        peer.reset(now_);
    run_for(seconds{1});
  }
}

std::string ProxyWorld::left_over() {
  std::string text;
  const auto expect = [&](std::string_view what, std::uint64_t count, std::uint64_t wanted) {
    if (count != wanted) text += fmt::format("{} {}, ", count, what);
  };
  const auto expect_stack = [&](std::string_view whose, const tcp::StackCounters& tcp) {
    expect(fmt::format("connections of {}", whose), tcp.connections, 0);
    expect(fmt::format("half open of {}", whose), tcp.half_open, 0);
    expect(fmt::format("in TIME-WAIT of {}", whose), tcp.time_wait, 0);
    expect(fmt::format("chunks of {}", whose), tcp.buffer_chunks, 0);
  };
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    workers_[i]->destroy_retired();
    const proxy::WorkerReport report = this->report(i);
    expect("client connections", report.core.connections, 0);
    expect("generations", report.core.generations, generations_);
    expect("upstream connections", report.upstream.open, 0);
    expect("idle upstream connections", report.upstream.idle, 0);
    expect("log lines dropped", report.log_dropped, 0);
    expect_stack(fmt::format("worker {}", i), report.tcp);
  }
  expect_stack("the world", stack_->counters());
  return text;
}

void ProxyWorld::forget_peers() {
  WEIR_ASSERT(std::ranges::all_of(peers_, &Peer::gone));  // readiness would name them still
  for (Backend& backend : backends_)
    backend.connections.clear();
  clients_.clear();
  peers_.clear();
}

std::string ProxyWorld::drain_log() {
  std::string log;
  for (const auto& worker : workers_)
    worker->access_log().drain(log);
  return log;
}

// ---- messages -----------------------------------------------------------------------------------

namespace {

/// Undoes chunked framing; the size of what it took, or nothing while it is incomplete.
std::optional<std::size_t> take_chunks(std::string_view bytes, std::string& body) {
  std::size_t at = 0;
  while (true) {
    const std::size_t line_end = bytes.find("\r\n", at);
    if (line_end == std::string_view::npos) return std::nullopt;
    std::size_t size = 0;
    const auto parsed = std::from_chars(bytes.data() + at, bytes.data() + line_end, size, 16);
    WEIR_ASSERT(parsed.ec == std::errc{});  // well-formed messages only
    if (size == 0) {  // trailers, which are not of the body, and an empty line
      const std::size_t last = bytes.find("\r\n\r\n", line_end);
      return last == std::string_view::npos ? std::nullopt : std::optional{last + 4};
    }
    const std::size_t end = line_end + 2 + size + 2;
    if (bytes.size() < end) return std::nullopt;
    WEIR_ASSERT(bytes.substr(end - 2, 2) == "\r\n");
    body.append(bytes.substr(line_end + 2, size));
    at = end;
  }
}

}  // namespace

std::optional<std::string> WireMessage::field(std::string_view name) const {
  const std::string start = fmt::format("\r\n{}: ", name);
  const std::size_t at = head.find(start);
  if (at == std::string::npos) return std::nullopt;
  const std::size_t begin = at + start.size();
  return head.substr(begin, head.find("\r\n", begin) - begin);
}

std::optional<WireMessage> first_message(std::string_view bytes, MessageEnd end) {
  const std::size_t head_end = bytes.find("\r\n\r\n");
  if (head_end == std::string_view::npos) return std::nullopt;
  WireMessage message;
  message.head = bytes.substr(0, head_end + 4);
  message.size = message.head.size();
  if (end == MessageEnd::kAfterHead) return message;
  const std::string_view rest = bytes.substr(message.size);
  if (message.field("Transfer-Encoding")) {
    const auto size = take_chunks(rest, message.body);
    if (!size) return std::nullopt;
    message.size += *size;
  } else if (const auto length = message.field("Content-Length")) {
    const std::size_t size = std::stoull(*length);
    if (rest.size() < size) return std::nullopt;
    message.body = rest.substr(0, size);
    message.size += size;
  } else if (end == MessageEnd::kWithBytes) {
    message.body = rest;
    message.size = bytes.size();
  }
  return message;
}

Handler answering(std::string answer, Then then) {
  return [answer = std::move(answer), then](Peer& peer) {
    while (const auto request =
               first_message(std::string_view{peer.received}.substr(peer.handled))) {
      peer.handled += request->size;
      ++peer.requests;
      peer.send(answer);
      if (then == Then::kClose) peer.finish();
    }
  };
}

std::string pattern_text(std::size_t size, unsigned seed) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i)
    text[i] = static_cast<char>('!' + (i * 7 + (i >> 6) * 11 + (i >> 13) * 5 + seed * 29) % 90);
  return text;
}

}  // namespace weir::testing
