#include "tests/fuzz/bridging_properties.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "l4/base/bytes.h"
#include "l7/http/h1.h"
#include "tests/fuzz/bridging_messages.h"
#include "tests/support/h2_frames.h"
#include "tests/support/proxy_world.h"

namespace weir::testing {
namespace {

using namespace std::chrono_literals;

constexpr std::uint16_t kPortH1 = 8001;
constexpr std::uint16_t kPortH2 = 8002;
constexpr std::string_view kIndex = "x-index";  // which of the endpoint's requests is answered
constexpr std::string_view kBody = "ok";

/// What one connection to the endpoint has sent, and how far it was answered.
struct EndpointConnection {
  Peer* peer;
  std::unique_ptr<EndpointReader> reader;
  std::vector<std::size_t> indexes;  ///< of its messages, among all
};

/// A worker and two endpoints, one for each version. Made once for many inputs, since that takes
/// longer than an input; each begins with new connections on both sides.
class World {
 public:
  World() : world_{options()} {
    const Backend& h1 = world_.add_backend(kPortH1, [this](Peer& peer) { serve(peer, false); });
    const Backend& h2 = world_.add_backend(kPortH2, [this](Peer& peer) { serve(peer, true); });
    // A gateway listens on port 80 for each: clients choose by the port.
    model_ = ProxyWorld::model_for({h1.endpoint});
    model_.gateways[0].listeners.push_back(model_.gateways[0].listeners[0]);
    model_.gateways[0].listeners[1].name = "second";
    model_.gateways[0].listeners[1].port = wire::Port{81};
    model_.http_routes[0].parents = {{"edge", "http"}};
    model_.services.push_back(ProxyWorld::model_for({h2.endpoint}).services[0]);
    model_.services[1].name = "app2";
    model_.services[1].protocol = control::ServiceProtocol::kH2c;
    model_.http_routes.push_back(model_.http_routes[0]);
    model_.http_routes[1].name = "second";
    model_.http_routes[1].parents = {{"edge", "second"}};
    model_.http_routes[1].rules[0].backends = {{"app2", 1}};
    world_.install(model_);
  }

  Peer& connect(bool endpoint_is_h2) { return world_.connect(endpoint_is_h2 ? 81 : 80); }
  ProxyWorld& world() { return world_; }
  std::size_t uses = 0;

  /// All requests that have reached the endpoint since the last call of clear(), in order.
  [[nodiscard]] std::vector<const BridgedMessage*> received() const {
    std::vector<const BridgedMessage*> all(count_);
    for (const EndpointConnection& connection : connections_)
      for (std::size_t i = 0; i < connection.indexes.size(); ++i)
        all[connection.indexes[i]] = &connection.reader->messages()[i];
    return all;
  }
  /// The client is gone: the endpoint hangs up, and then nothing may be left.
  void clear() {
    for (const EndpointConnection& connection : connections_)
      connection.peer->finish();
    // All counters of the worker are read only when no connection is left outside it, either.
    const auto is_over = [this] {
      const tcp::StackCounters& outside = world_.world_counters();
      return outside.connections == 0 && outside.time_wait == 0 && left_over().empty();
    };
    if (!world_.run_until(is_over, 100s)) bridging_failure("something is left", left_over());
    static_cast<void>(world_.drain_log());
    world_.forget_peers();
    connections_.clear();
    answered_.clear();
    count_ = 0;
  }

 private:
  static ProxyWorld::Options options() {
    ProxyWorld::Options options;
    for (tcp::StackOptions* stack : {&options.worker, &options.world}) {
      stack->connections_max = 1024;
      stack->half_open_max = 64;
      stack->time_wait_max = stack->accept_queue_max = 1024;
      stack->receive_buffer_bytes = stack->send_buffer_bytes = 64 * 1024;
      stack->time_wait = 1ms;
      stack->fin_timeout = stack->last_ack_timeout = 1s;
    }
    options.link.buffers = {1024, 1024};
    return options;
  }

  void serve(Peer& peer, bool is_h2) {
    EndpointConnection& connection = known(peer, is_h2);
    connection.reader->feed(std::string_view{peer.received}.substr(peer.handled));
    peer.handled = peer.received.size();
    const auto& messages = connection.reader->messages();
    while (connection.indexes.size() < messages.size()) {
      connection.indexes.push_back(count_++);
      answered_.push_back(false);
    }
    for (std::size_t i = 0; i < messages.size(); ++i) {
      const std::size_t index = connection.indexes[i];
      if (!messages[i].complete || messages[i].cancelled || answered_[index]) continue;
      answered_[index] = true;
      answer(peer, messages[i], index, is_h2);
    }
  }
  EndpointConnection& known(Peer& peer, bool is_h2) {
    for (EndpointConnection& connection : connections_)
      if (connection.peer == &peer) return connection;
    if (is_h2) peer.send(h2_bytes("settings") + h2_bytes("settings ack"));
    return connections_.emplace_back(
        EndpointConnection{&peer, is_h2 ? endpoint_reader_h2() : endpoint_reader_h1(), {}});
  }
  static void answer(Peer& peer, const BridgedMessage& message, std::size_t index, bool is_h2) {
    const bool has_body = message.method != "HEAD";
    if (is_h2) {
      peer.send(h2_bytes(fmt::format("headers {}{} | :status: 200 | {}: {}", message.stream,
                                     has_body ? "" : " end", kIndex, index)));
      if (has_body) peer.send(h2_bytes(fmt::format("data {} end | {}", message.stream, kBody)));
    } else {
      peer.send(fmt::format("HTTP/1.1 200 OK\r\n{}: {}\r\nContent-Length: {}\r\n\r\n{}", kIndex,
                            index, kBody.size(), has_body ? kBody : ""));
    }
  }

  std::string left_over() {
    std::string text = world_.left_over();
    const proxy::CoreCounters core = world_.report().core;
    const auto expect_none = [&](std::string_view what, std::uint64_t count) {
      if (count != 0) text += fmt::format("{} {}, ", count, what);
    };
    expect_none("exchanges", core.exchanges);
    expect_none("buffers", core.buffers);
    expect_none("streams", core.h2.streams);
    expect_none("sessions", core.h2.sessions);
    expect_none("bytes of sessions", core.h2.memory_bytes);
    return text;
  }

  ProxyWorld world_;
  control::Model model_;
  std::deque<EndpointConnection> connections_;
  std::vector<bool> answered_;
  std::size_t count_ = 0;
};

/// One answer that the client has got.
struct Answer {
  int status = 0;
  std::optional<std::size_t> index;  ///< of the endpoint's request; none: the proxy's own
  bool last = false;                 ///< says that the connection ends with it
};

std::optional<std::size_t> index_of(std::string_view text) {
  if (text.empty()) return std::nullopt;
  return std::stoul(std::string{text});
}

/// How much of the bytes is the body that they begin with.
std::size_t body_size(http::BodyFraming framing, std::string_view bytes) {
  http::BodyDecoder decoder{framing};
  std::size_t at = 0;
  for (;;) {
    const auto step = decoder.decode(as_bytes(bytes.substr(at)));
    at += step.consumed;
    if (step.state == http::BodyDecoder::State::kError) bridging_failure("no body", bytes);
    if (step.state != http::BodyDecoder::State::kPayload) return at;
  }
}

/// Answers in the order of the requests, strictly.
std::vector<Answer> read_answers(std::string_view bytes,
                                 const std::vector<BridgedMessage>& requests) {
  std::vector<Answer> answers;
  const std::string_view all = bytes;
  while (!bytes.empty()) {
    if (answers.size() > requests.size()) bridging_failure("more answers than requests", all);
    const std::string method =
        answers.size() < requests.size() ? requests[answers.size()].method : "GET";
    http::ResponseParser parser;
    const auto result = parser.parse(as_bytes(bytes), method);
    if (result.outcome != http::ParseResult::Outcome::kComplete)
      bridging_failure("no answer", bytes);
    bytes.remove_prefix(result.consumed);
    if (parser.framing().interim) continue;
    bytes.remove_prefix(body_size(parser.framing().body, bytes));
    const http::HeaderList& fields = parser.head().fields;
    answers.push_back({static_cast<int>(number_of(parser.head().status)),
                       index_of(fields.find(kIndex).value_or("")), !parser.framing().keep_alive});
  }
  return answers;
}

/// Who names no host means whom it has connected to.
bool is_same_host(const BridgedMessage& sent, const BridgedMessage& got) {
  return sent.host == got.host || (sent.host.empty() && got.host.starts_with(ProxyWorld::kVip));
}

/// What the endpoint has of the body is the client's.
bool is_same_body(const BridgedMessage& sent, const BridgedMessage& got) {
  return got.complete ? sent.complete && sent.body == got.body : sent.body.starts_with(got.body);
}

/// The endpoint's request as the client has meant it.
void check_same(const BridgedMessage& sent, const BridgedMessage& got) {
  const std::string both =
      fmt::format("{} {} {} [{}]\nbecame\n{} {} {} [{}]", sent.method, sent.target, sent.host,
                  sent.body, got.method, got.target, got.host, got.body);
  if (!sent.routable) bridging_failure("a target of two meanings", both);
  if (sent.method != got.method || sent.target != got.target || !is_same_host(sent, got))
    bridging_failure("another request", both);
  if (!is_same_body(sent, got)) bridging_failure("another body", both);
  // What the proxy says itself, or says in another way.
  static constexpr auto kOurs = std::to_array<std::string_view>(
      {":", "host: ", "via: ", "x-forwarded-", "forwarded: ", "content-length: ",
       "transfer-encoding: ", "cookie: ", "te: trailers", "trailer: ", "connection: Upgrade",
       "connection: TE", "upgrade: websocket", "sec-websocket-key: ", "sec-websocket-version: 13"});
  const auto is_ours = [](const std::string& field) {
    return std::ranges::any_of(kOurs,
                               [&](std::string_view ours) { return field.starts_with(ours); });
  };
  for (const std::string& field : got.fields)
    if (!is_ours(field) && std::ranges::find(sent.fields, field) == sent.fields.end())
      bridging_failure("a field that was not sent", field + "\n" + both);
  for (const std::string& field : got.trailers)
    if (std::ranges::find(sent.trailers, field) == sent.trailers.end())
      bridging_failure("a trailer that was not sent", field + "\n" + both);
}

bool may_be(const BridgedMessage& sent, const BridgedMessage& got) {
  return sent.routable && sent.method == got.method && sent.target == got.target &&
         is_same_host(sent, got) && is_same_body(sent, got);
}

/// Sends one input and holds what comes out at both ends against each other.
class Trial {
 public:
  Trial(World& world, std::span<const std::byte> input)
      : world_{world},
        flags_{std::to_integer<unsigned>(input[0])},
        piece_{std::to_integer<std::size_t>(input[1]) * 4 + 1},
        bytes_{as_text(input.subspan(2))} {
    client_is_h2_ = (flags_ & 1) != 0;
    endpoint_is_h2_ = ((flags_ & 2) != 0) == client_is_h2_;
    // What every peer says first costs a fuzzer too long to find.
    if (client_is_h2_) bytes_ = std::string{kH2ClientPreface} + h2_bytes("settings") + bytes_;
    client_is_h2_ = bytes_.starts_with(kH2ClientPreface);
    sent_ = client_is_h2_ ? read_client_h2(bytes_) : read_client_h1(bytes_);
  }

  void run() {
    Peer& client = world_.connect(endpoint_is_h2_);
    ProxyWorld& world = world_.world();
    world.run_for(1ms);
    for (std::size_t at = 0; at < bytes_.size(); at += piece_) {
      client.send(std::string_view{bytes_}.substr(at, piece_));
      world.turn();
      world.turn();
    }
    world.run_for(aborts() ? 1ms : 100ms);
    if (aborts()) client.reset(world.now());
    check(client);
    if (!aborts()) client.finish();
    world.run_until([&] { return client.gone(); }, 100s);
    world.run_for(1ms);
    check_received();
    world_.clear();
  }

 private:
  [[nodiscard]] bool aborts() const { return (flags_ & 4) != 0; }

  void check(const Peer& client) {
    received_ = world_.received();
    claimed_.assign(sent_.size(), false);
    if (client_is_h2_)
      check_streams(client);
    else
      check_answers(client);
  }

  /// The answer at a place is the one to the request at that place.
  void claim(std::size_t place, std::size_t index) {
    if (index >= received_.size()) bridging_failure("an answer that nobody gave", bytes_);
    check_same(sent_[place], *received_[index]);
    if (std::ranges::find(taken_, index) != taken_.end())
      bridging_failure("an answer given twice", bytes_);
    taken_.push_back(index);
    claimed_[place] = true;
  }

  void check_answers(const Peer& client) {
    const std::vector<Answer> answers = read_answers(client.received, sent_);
    for (std::size_t i = 0; i < answers.size(); ++i) {
      if (answers[i].index)
        claim(i, *answers[i].index);
      else if (answers[i].status < 400)
        bridging_failure("an answer of our own", client.received);
      // Nothing may be read behind a message whose end is in doubt.
      if ((answers[i].last || (i < sent_.size() && sent_[i].last)) && i + 1 < answers.size())
        bridging_failure("an answer behind the last", client.received);
    }
    if (aborts() || (!answers.empty() && answers.back().last)) return;
    const auto complete = static_cast<std::size_t>(
        std::ranges::count_if(sent_, [](const BridgedMessage& m) { return m.complete; }));
    const std::size_t place = answers.size();
    if (place < complete && (place == 0 || !sent_[place - 1].last))
      bridging_failure("a request without an answer", bytes_ + "\n" + client.received);
  }

  void check_streams(const Peer& client) {
    H2Reader reader;
    reader.feed(client.received);
    bool gone = client.ended() || client.was_reset() || aborts();
    for (const H2Frame& frame : reader.frames)
      gone = gone || frame.type == 7;
    for (std::size_t i = 0; i < sent_.size(); ++i) {
      const std::uint32_t stream = sent_[i].stream;
      bool is_settled = false;
      for (const H2Frame& frame : reader.frames) {
        if (frame.stream != stream) continue;
        is_settled = is_settled || frame.type == 3;
        const std::string status = frame.field(":status");
        if (frame.type != 1 || status.empty() || status.front() == '1') continue;
        if (is_settled) bridging_failure("two answers to a stream", frame.text());
        is_settled = true;
        if (const auto index = index_of(frame.field(kIndex))) claim(i, *index);
      }
      if (!gone && !is_settled && sent_[i].complete && !sent_[i].cancelled)
        bridging_failure("a stream without an answer", fmt::format("{}\n{}", stream, bytes_));
    }
    for (const H2Frame& frame : reader.frames)
      if (frame.type == 1 &&
          std::ranges::find(sent_, frame.stream, &BridgedMessage::stream) == sent_.end())
        bridging_failure("an answer to no stream", frame.text());
  }

  /// Requests whose answers have not come back must have been sent all the same.
  void check_received() {
    received_ = world_.received();
    for (std::size_t i = 0; i < received_.size(); ++i) {
      if (std::ranges::find(taken_, i) != taken_.end()) continue;
      std::size_t place = 0;
      while (place < sent_.size() && (claimed_[place] || !may_be(sent_[place], *received_[i])))
        ++place;
      if (place == sent_.size())
        bridging_failure(
            "a request that nobody sent",
            fmt::format("{} {} [{}] {}\nof\n{}", received_[i]->method, received_[i]->target,
                        received_[i]->body, received_[i]->complete, bytes_));
      check_same(sent_[place], *received_[i]);
      claimed_[place] = true;
    }
  }

  World& world_;
  unsigned flags_;
  std::size_t piece_;
  std::string bytes_;
  bool client_is_h2_ = false;
  bool endpoint_is_h2_ = false;
  std::vector<BridgedMessage> sent_;
  std::vector<const BridgedMessage*> received_;
  std::vector<bool> claimed_;       // of sent_: it is known what became of it
  std::vector<std::size_t> taken_;  // of received_: likewise
};

}  // namespace

void check_bridging_input(std::span<const std::byte> input) {
  if (input.size() < 2) return;
  constexpr std::size_t kUsesMax = 1024;  // so that little stands between a find and its world
  static std::unique_ptr<World> world;
  if (!world || world->uses++ == kUsesMax) world = std::make_unique<World>();
  Trial{*world, input}.run();
}

}  // namespace weir::testing
