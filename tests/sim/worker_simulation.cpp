#include "tests/sim/worker_simulation.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <deque>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/proxy_world.h"

namespace weir::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint16_t kFirstPort = 8001;
constexpr Duration kTimeMax = seconds{300};

enum class Framing : std::uint8_t { kNone, kLength, kChunked, kUntilClose };

/// What a backend does wrong.
enum class Fault : std::uint8_t {
  kNone,
  kResetAtHead,   // before it has seen the body
  kResetInstead,  // of answering
  kCloseInstead,
  kResetWithin,  // the answer
  kCloseWithin,
  kGarbage,
  kSilence,
};
constexpr std::uint32_t kFaultCount = static_cast<std::uint32_t>(Fault::kSilence) + 1;

/// One request and the answer it is to get.
struct Plan {
  std::string method;
  int minor_version = 1;
  Framing framing = Framing::kNone;
  std::size_t body_bytes = 0;
  Framing answer_framing = Framing::kLength;
  std::size_t answer_bytes = 0;
  Fault fault = Fault::kNone;
  unsigned times_seen = 0;  // whole, by backends
};

/// How bad the world is in this run.
struct Conditions {
  double loss = 0;
  bool backends_fail = false;
  bool clients_fail = false;
  ProxyWorld::Options options;

  Conditions(Random& random, std::uint64_t seed) {
    const bool bad_link = random.chance(0.6);
    const std::array<double, 4> losses = {0.001, 0.01, 0.03, 0.05};
    if (bad_link) loss = losses[random.below(losses.size())];
    backends_fail = random.chance(0.5);
    clients_fail = random.chance(0.5);
    const auto treat = [&](LinkOptions& link) {
      link.delay = std::chrono::microseconds{20 + random.below(5'000)};
      link.loss = loss;
      link.reorder = bad_link ? 0.02 : 0;
      link.duplicate = bad_link ? 0.01 : 0;
      link.corrupt = bad_link && random.chance(0.3) ? 0.01 : 0;
    };
    treat(options.link.a_to_b);
    treat(options.link.b_to_a);
    options.link.seed = options.seed = seed;
    const std::array<std::uint32_t, 4> sizes = {4'000, 16'000, 64'000, 256'000};
    for (tcp::StackOptions* stack : {&options.worker, &options.world}) {
      stack->receive_buffer_bytes = sizes[random.below(sizes.size())];
      stack->send_buffer_bytes = sizes[random.below(sizes.size())];
      stack->time_wait = seconds{1};
      stack->connections_max = stack->time_wait_max = 1024;
    }
  }

  [[nodiscard]] bool is_perfect() const { return loss == 0 && !backends_fail && !clients_fail; }
};

class Simulation {
 public:
  Simulation(std::uint64_t seed, bool print)
      : print_{print}, random_{seed}, conditions_{random_, seed}, world_{conditions_.options} {}
  WorkerSimulation run();

 private:
  struct Client {
    Peer* peer = nullptr;
    std::vector<std::size_t> plans;
    std::size_t begun = 0;     // plans of which bytes may have left
    std::size_t answered = 0;  // plans whose answer is known
    Instant sends_until{};     // when the last piece that was scheduled leaves
    bool pipelines = false;
    bool done = false;
  };

  Plan make_plan(bool is_last);
  void open(Client& client);
  void plan_failure(Client& client);
  void read_slowly(Peer& peer);
  void send_next(Client& client);
  void send_in_pieces(Peer& peer, std::string text, Instant& after);
  void on_client(Client& client);
  bool take_answer(Client& client, const WireMessage& answer);
  void on_backend(Peer& peer);
  void answer(Peer& peer, std::size_t id);
  void reconfigure();
  void check_the_end();
  [[nodiscard]] std::string stuck_clients() const;
  [[nodiscard]] std::string frame(std::string head, Framing framing, std::string_view body);
  [[nodiscard]] Duration pause() {
    return random_.chance(0.5) ? Duration{} : milliseconds{1 + random_.below(200)};
  }
  [[nodiscard]] std::size_t body_size() {
    if (random_.chance(0.3)) return 0;
    return random_.chance(0.7) ? random_.below(2'000) : random_.below(40'000);
  }
  void violate(std::string text) {
    if (result_.violation.empty()) result_.violation = std::move(text);
  }
  void say(std::string_view text) const {
    if (print_)
      fmt::print("{:10.6f} {}\n", std::chrono::duration<double>(world_.now() - start_).count(),
                 text);
  }

  bool print_;
  Random random_;
  Conditions conditions_;
  ProxyWorld world_;
  Instant start_ = world_.now();
  std::vector<Backend*> backends_;
  std::vector<Plan> plans_;  // a request's id is its place here
  std::deque<Client> clients_;
  WorkerSimulation result_;
};

// ---- plans --------------------------------------------------------------------------------------

Plan Simulation::make_plan(bool is_last) {
  Plan plan;
  const std::array<std::string_view, 5> methods = {"GET", "POST", "PUT", "HEAD", "DELETE"};
  plan.method = methods[random_.below(methods.size())];
  plan.minor_version = is_last && random_.chance(0.3) ? 0 : 1;
  if (plan.method == "POST" || plan.method == "PUT") {
    plan.body_bytes = body_size();
    plan.framing =
        plan.minor_version == 1 && random_.chance(0.5) ? Framing::kChunked : Framing::kLength;
  }
  const std::array<Framing, 3> framings = {Framing::kLength, Framing::kChunked,
                                           Framing::kUntilClose};
  plan.answer_framing = framings[random_.below(framings.size())];
  plan.answer_bytes = body_size();
  if (conditions_.backends_fail && random_.chance(0.2))
    plan.fault = static_cast<Fault>(random_.below(kFaultCount));
  return plan;
}

std::string Simulation::frame(std::string head, Framing framing, std::string_view body) {
  switch (framing) {
    case Framing::kNone:
    case Framing::kUntilClose:
      return head.append("\r\n").append(body);
    case Framing::kLength:
      return head.append(fmt::format("Content-Length: {}\r\n\r\n", body.size())).append(body);
    case Framing::kChunked:
      break;
  }
  head += "Transfer-Encoding: chunked\r\n\r\n";
  while (!body.empty()) {
    const std::size_t size = std::min<std::size_t>(body.size(), 1 + random_.below(8'000));
    head += fmt::format("{:x}\r\n{}\r\n", size, body.substr(0, size));
    body.remove_prefix(size);
  }
  return head.append("0\r\n\r\n");
}

void Simulation::send_in_pieces(Peer& peer, std::string text, Instant& after) {
  after = std::max(after, world_.now());
  while (!text.empty()) {
    const std::size_t size = random_.chance(0.5)
                                 ? text.size()
                                 : std::min<std::size_t>(text.size(), 1 + random_.below(10'000));
    after += pause();
    world_.at(after, [&peer, piece = text.substr(0, size)] { peer.send(piece); });
    text.erase(0, size);
  }
}

// ---- clients ------------------------------------------------------------------------------------

void Simulation::open(Client& client) {
  const std::size_t count = 1 + random_.below(6);
  for (std::size_t i = 0; i < count; ++i) {
    client.plans.push_back(plans_.size());
    plans_.push_back(make_plan(i + 1 == count));
  }
  client.pipelines = random_.chance(0.3);
  client.peer = &world_.connect(80, [this, &client](Peer&) { on_client(client); });
  if (random_.chance(0.2)) read_slowly(*client.peer);
  if (conditions_.clients_fail && random_.chance(0.4)) plan_failure(client);
  send_next(client);
}

void Simulation::plan_failure(Client& client) {
  const bool by_reset = random_.chance(0.7);
  world_.at(world_.now() + milliseconds{random_.below(1'000)}, [this, &client, by_reset] {
    if (client.peer->gone() || !client.peer->connected()) return;
    say(fmt::format("client {} {}", client.plans[0], by_reset ? "resets" : "closes"));
    if (by_reset)
      client.peer->reset(world_.now());
    else
      client.peer->finish();  // pieces that are still to come never leave
  });
}

/// A reader that takes a few thousand bytes now and then.
void Simulation::read_slowly(Peer& peer) {
  peer.read_limit = peer.received.size() + random_.below(8'000);
  if (peer.gone()) return;
  world_.at(world_.now() + milliseconds{1 + random_.below(50)},
            [this, &peer] { read_slowly(peer); });
}

void Simulation::send_next(Client& client) {
  do {
    if (client.begun == client.plans.size()) return;
    const std::size_t id = client.plans[client.begun++];
    const Plan& plan = plans_[id];
    ++result_.requests;
    const std::string head = fmt::format("{} /{} HTTP/1.{}\r\nHost: shop.example\r\nX-Id: {}\r\n",
                                         plan.method, id, plan.minor_version, id);
    send_in_pieces(
        *client.peer,
        frame(head, plan.framing, pattern_text(plan.body_bytes, static_cast<unsigned>(id))),
        client.sends_until);
  } while (client.pipelines);
}

void Simulation::on_client(Client& client) {
  Peer& peer = *client.peer;
  while (client.answered < client.begun) {
    const Plan& plan = plans_[client.plans[client.answered]];
    const std::string_view rest = std::string_view{peer.received}.substr(peer.handled);
    // Interim heads would go here; nobody sends any.
    MessageEnd end = MessageEnd::kFramed;
    if (plan.method == "HEAD") {
      end = MessageEnd::kAfterHead;
    } else if (plan.minor_version == 0) {
      if (!peer.ended()) return;
      end = MessageEnd::kWithBytes;
    }
    const auto answer = first_message(rest, end);
    if (!answer) return;
    peer.handled += answer->size;
    if (!take_answer(client, *answer)) return;
    if (!client.pipelines && !peer.ended()) send_next(client);
  }
  if (peer.handled < peer.received.size())
    violate(fmt::format("client {}: bytes behind the last answer", client.plans[0]));
  if (client.answered == client.plans.size()) peer.finish();
}

/// False when the answer is none of those that this request can get.
bool Simulation::take_answer(Client& client, const WireMessage& answer) {
  const std::size_t id = client.plans[client.answered++];
  const Plan& plan = plans_[id];
  const auto answer_id = answer.field("X-Id");
  if (!answer_id) {
    ++result_.refused;
    say(fmt::format("request {} gets {}", id, answer.status()));
    const bool excused = plan.fault != Fault::kNone || conditions_.loss > 0 ||
                         conditions_.clients_fail || conditions_.backends_fail;
    if (!excused) violate(fmt::format("request {}: refused with {}", id, answer.status()));
    return true;
  }
  ++result_.answered;
  say(fmt::format("request {} is answered", id));
  const std::string wanted =
      plan.method == "HEAD" ? "" : pattern_text(plan.answer_bytes, static_cast<unsigned>(id) + 1);
  if (*answer_id != std::to_string(id))
    violate(fmt::format("request {}: the answer to {}", id, *answer_id));
  else if (answer.body != wanted)
    violate(fmt::format("request {}: {} bytes of body instead of {}, or other ones", id,
                        answer.body.size(), wanted.size()));
  return result_.violation.empty();
}

// ---- backends -----------------------------------------------------------------------------------

void Simulation::on_backend(Peer& peer) {
  while (!peer.gone() && !peer.finished()) {
    const std::string_view rest = std::string_view{peer.received}.substr(peer.handled);
    const std::size_t head_end = rest.find("\r\n\r\n");
    if (head_end == std::string_view::npos) return;
    const WireMessage head{.head = std::string{rest.substr(0, head_end + 4)}, .body = {}};
    const auto id_text = head.field("X-Id");
    if (!id_text) return violate("a request without its X-Id");
    const std::size_t id = std::stoull(*id_text);
    Plan& plan = plans_.at(id);
    if (plan.fault == Fault::kResetAtHead) {
      say(fmt::format("backend resets at the head of {}", id));
      return peer.reset(world_.now());
    }
    const auto request = first_message(rest);
    if (!request) return;
    peer.handled += request->size;
    if (!request->head.starts_with(fmt::format("{} /{} HTTP/1.1\r\n", plan.method, id)))
      violate(fmt::format("request {}: another request line", id));
    if (request->body != pattern_text(plan.body_bytes, static_cast<unsigned>(id)))
      violate(fmt::format("request {}: {} bytes of body instead of {}, or other ones", id,
                          request->body.size(), plan.body_bytes));
    ++plan.times_seen;
    if (plan.times_seen > (plan.method == "POST" ? 1U : 3U))
      violate(fmt::format("request {}: made {} times", id, plan.times_seen));
    answer(peer, id);
  }
}

void Simulation::answer(Peer& peer, std::size_t id) {
  const Plan& plan = plans_[id];
  const std::size_t answers = ++peer.requests;
  const auto seed = static_cast<unsigned>(id) + 1;
  std::string text = frame(fmt::format("HTTP/1.1 200 OK\r\nX-Id: {}\r\n", id), plan.answer_framing,
                           plan.method == "HEAD" ? "" : pattern_text(plan.answer_bytes, seed));
  if (plan.method == "HEAD") text.resize(text.find("\r\n\r\n") + 4);
  bool closes = plan.answer_framing == Framing::kUntilClose;
  bool resets = false;
  switch (plan.fault) {
    case Fault::kNone:
    case Fault::kResetAtHead:
      break;
    case Fault::kResetInstead:
    case Fault::kCloseInstead:
      text.clear();
      (plan.fault == Fault::kResetInstead ? resets : closes) = true;
      break;
    case Fault::kResetWithin:
    case Fault::kCloseWithin:
      // Cut by a byte at least; without framing, only a reset shows that something is missing.
      text.resize(random_.below(static_cast<std::uint32_t>(text.size())));
      (plan.fault == Fault::kResetWithin || closes ? resets : closes) = true;
      if (resets) closes = false;
      break;
    case Fault::kGarbage:
      text = "220 mail.example ESMTP\r\n\r\n";
      break;
    case Fault::kSilence:
      return;
  }
  Instant last{};
  send_in_pieces(peer, std::move(text), last);
  // Sometimes an idle connection is closed without notice, too; an idle one only, since the end of
  // a stream may be the end of the next answer.
  const bool tires = conditions_.backends_fail && random_.chance(0.1);
  if (!closes && !resets && !tires) return;
  world_.at(last + (tires ? pause() : Duration{}), [this, &peer, id, resets, answers] {
    if (peer.requests != answers) return;
    say(fmt::format("backend {} after {}", resets ? "resets" : "closes", id));
    if (resets)
      peer.reset(world_.now());
    else
      peer.finish();
  });
}

// ---- the run ------------------------------------------------------------------------------------

void Simulation::reconfigure() {
  std::vector<wire::Endpoint> endpoints;
  for (const Backend* backend : backends_)
    if (random_.chance(0.7)) endpoints.push_back(backend->endpoint);
  if (endpoints.empty()) endpoints.push_back(backends_[0]->endpoint);
  // Nobody listens there.
  if (conditions_.backends_fail && random_.chance(0.3))
    endpoints.push_back(ProxyWorld::backend_endpoint(9000));
  control::Model model = ProxyWorld::model_for(endpoints);
  constexpr std::array kPolicies{control::LoadBalancer::kRoundRobin,
                                 control::LoadBalancer::kLeastRequest,
                                 control::LoadBalancer::kRandom, control::LoadBalancer::kRingHash,
                                 control::LoadBalancer::kMaglev};
  model.services[0].balancing.policy = kPolicies[random_.below(kPolicies.size())];
  model.http_routes[0].rules[0].timeouts.backend_request_ms = 20'000;
  world_.install(model);
}

void Simulation::check_the_end() {
  world_.hang_up();
  for (const Client& client : clients_) {
    result_.broken += client.begun - client.answered;
    if (client.answered == client.begun) continue;
    // It may be cut short, but not in silence: the end of what framing promised has not come.
    if (!client.peer->gone()) violate(fmt::format("client {}: no end", client.plans[0]));
    if (conditions_.is_perfect())
      violate(fmt::format("client {}: {} of {} requests answered", client.plans[0], client.answered,
                          client.begun));
  }
  const std::string left = world_.left_over();
  if (!left.empty()) violate("left over: " + left);
  const std::string log = world_.drain_log();
  const auto lines = static_cast<std::uint64_t>(std::ranges::count(log, '\n'));
  const proxy::WorkerReport report = world_.report();
  if (lines != report.core.requests)
    violate(fmt::format("{} lines of log for {} requests", lines, report.core.requests));
  if (lines < result_.answered + result_.refused) violate("answers that were not logged");
  if (report.core.buffers != 0) violate(fmt::format("{} buffers are lent", report.core.buffers));
}

std::string Simulation::stuck_clients() const {
  std::string text;
  for (const Client& client : clients_)
    if (!client.peer->gone())
      text += fmt::format(
          " [{}: {} of {} answered, {} bytes received, {} unsent{}{}{}]", client.plans[0],
          client.answered, client.begun, client.peer->received.size(), client.peer->unsent(),
          client.peer->connected() ? ", connected" : "", client.peer->ended() ? ", ended" : "",
          client.peer->finished() ? ", finished" : "");
  return text;
}

WorkerSimulation Simulation::run() {
  world_.link().on_frame([this](const CapturedFrame& frame) {
    ++result_.frames;
    for (const auto value : {static_cast<std::uint64_t>(frame.at.time_since_epoch().count()),
                             std::uint64_t{frame.bytes.size()}})
      result_.transcript = (result_.transcript ^ value) * 0x100000001b3;
  });
  const std::uint32_t backends = 1 + random_.below(3);
  for (std::uint32_t i = 0; i < backends; ++i)
    backends_.push_back(&world_.add_backend(static_cast<std::uint16_t>(kFirstPort + i),
                                            [this](Peer& peer) { on_backend(peer); }));
  reconfigure();
  const std::uint32_t clients = 1 + random_.below(5);
  for (std::uint32_t i = 0; i < clients; ++i) {
    clients_.emplace_back();
    Client& client = clients_.back();
    world_.at(start_ + milliseconds{random_.below(500)}, [this, &client] { open(client); });
  }
  if (random_.chance(0.5))
    world_.at(start_ + milliseconds{random_.below(1'000)}, [this] { reconfigure(); });

  const auto is_over = [&] {
    return !result_.violation.empty() || std::ranges::all_of(clients_, [](const Client& client) {
      return client.peer != nullptr && client.peer->gone();
    });
  };
  if (!world_.run_until(is_over, kTimeMax)) {
    // A RST may be lost. Who waits behind it is not the worker's any more and would hear it again.
    if (conditions_.loss == 0 || world_.report().core.connections > 0)
      violate("no end:" + stuck_clients());
    for (Client& client : clients_)
      client.peer->send("?");
    if (!world_.run_until(is_over, kTimeMax)) violate("no end at all:" + stuck_clients());
  }
  result_.virtual_seconds = std::chrono::duration<double>(world_.now() - start_).count();
  if (result_.violation.empty()) check_the_end();
  return result_;
}

}  // namespace

WorkerSimulation simulate_worker(std::uint64_t seed, bool print) {
  return Simulation{seed, print}.run();
}

}  // namespace weir::testing
