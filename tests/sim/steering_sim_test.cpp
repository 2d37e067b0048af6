// Several workers behind a balancer that steers every single frame at random: the worst that RSS, a
// cloud's virtual NIC or a balancer of another mind can do (G17 of the design). Nothing may break.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <string>
#include <vector>

#include "l4/base/random.h"
#include "tests/support/proxy_world.h"
#include "tests/support/steering.h"

namespace weir::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint64_t kSeeds = 6;
constexpr Duration kTimeMax = seconds{120};

struct Outcome {
  std::string violation;
  std::uint64_t requests = 0;
  std::uint64_t misrouted = 0;  // found their flow at another worker
  std::uint64_t shown = 0;
  std::uint64_t transcript = 0;
};

/// Clients that send requests with bodies one after another over connections of their own, and
/// check each answer. Backends send as many bytes as the path says.
class Simulation {
 public:
  Simulation(std::uint64_t seed, std::uint32_t workers, double loss)
      : random_{seed},
        workers_{workers},
        loss_{loss},
        world_{options_for(seed, workers, loss, random_)} {}

  Outcome run() {
    world_.link().on_frame([this](const CapturedFrame& frame) {
      for (const auto value : {static_cast<std::uint64_t>(frame.at.time_since_epoch().count()),
                               std::uint64_t{frame.bytes.size()}})
        result_.transcript = (result_.transcript ^ value) * 0x100000001b3;
    });
    std::vector<wire::Endpoint> endpoints;
    for (const std::uint16_t port : {8001, 8002})
      endpoints.push_back(world_.add_backend(port, [](Peer& peer) { serve(peer); }).endpoint);
    world_.install(ProxyWorld::model_for(endpoints));
    constexpr int kClients = 8;
    for (int i = 0; i < kClients; ++i) {
      Client& client = clients_.emplace_back();
      world_.at(world_.now() + milliseconds{random_.below(100)}, [this, &client] { open(client); });
    }
    const auto is_over = [this] {
      return !result_.violation.empty() ||
             std::ranges::all_of(clients_, [](const Client& client) { return client.done; });
    };
    if (!world_.run_until(is_over, kTimeMax)) violate("no end");
    check_the_end();
    return result_;
  }

 private:
  struct Client {
    Peer* peer = nullptr;
    std::size_t requests = 0;
    std::size_t answered = 0;
    std::size_t answer_bytes = 0;  // of the one that is awaited
    bool done = false;
  };

  static ProxyWorld::Options options_for(std::uint64_t seed, std::uint32_t workers, double loss,
                                         Random& random) {
    ProxyWorld::Options options;
    options.seed = options.link.seed = seed;
    options.workers = workers;
    options.steer = random_steering(workers, random.next());
    for (LinkOptions* link : {&options.link.a_to_b, &options.link.b_to_a}) {
      link->delay = std::chrono::microseconds{20 + random.below(3'000)};
      link->loss = loss;
      link->duplicate = loss;
      link->reorder = loss;
    }
    for (tcp::StackOptions* stack : {&options.worker, &options.world}) {
      stack->time_wait = seconds{1};
      stack->connections_max = stack->time_wait_max = 1024;
    }
    return options;
  }

  void violate(std::string text) {
    if (result_.violation.empty()) result_.violation = std::move(text);
  }

  /// A backend: as many bytes as the path says, after the whole body of the request.
  static void serve(Peer& peer) {
    while (const auto request =
               first_message(std::string_view{peer.received}.substr(peer.handled))) {
      peer.handled += request->size;
      const std::size_t begin = request->head.find('/') + 1;
      const std::size_t bytes = std::stoul(request->head.substr(begin));
      peer.send(fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Body: {}\r\n\r\n", bytes,
                            request->body.size()));
      peer.send(pattern_text(bytes));
    }
  }

  void open(Client& client) {
    client.requests = 1 + random_.below(5);
    client.peer = &world_.connect(80, [this, &client](Peer&) { on_client(client); });
    send(client);
  }

  void send(Client& client) {
    ++result_.requests;
    client.answer_bytes = random_.below(60'000);
    const std::string body = pattern_text(random_.below(20'000));
    client.peer->send(fmt::format("POST /{} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{}",
                                  client.answer_bytes, body.size(), body));
  }

  void on_client(Client& client) {
    Peer& peer = *client.peer;
    if (client.done) return;
    if (peer.was_reset() || peer.ended()) {
      client.done = true;
      return violate("a connection ended before its answer");
    }
    const auto answer = first_message(std::string_view{peer.received}.substr(peer.handled));
    if (!answer) return;
    peer.handled += answer->size;
    if (answer->status() != 200 || answer->body != pattern_text(client.answer_bytes))
      violate(fmt::format("an answer with {} and {} bytes instead of {}", answer->status(),
                          answer->body.size(), client.answer_bytes));
    if (++client.answered < client.requests) return send(client);
    client.done = true;
    peer.finish();
  }

  void check_the_end() {
    world_.hang_up();
    const std::string left = world_.left_over();
    if (!left.empty()) violate("left over: " + left);
    for (const Client& client : clients_)
      if (client.peer->was_reset()) violate("a client was reset");
    // Those to TIME-WAIT are ignored and not counted: see below.
    if (world_.world_counters().resets_received > 0) violate("a RST reached a connection");
    for (std::uint32_t i = 0; i < workers_; ++i) {
      const proxy::WorkerReport report = world_.report(i);
      // On a link that repeats SYNs, two workers may have answered one. The client acknowledges the
      // other's answer again and again, also when it is in TIME-WAIT and the connection is over.
      if (loss_ == 0 && report.tcp.resets_sent > 0) violate(fmt::format("worker {} sent a RST", i));
      if (report.core.retries + report.upstream.connect_failed > 0)
        violate(fmt::format("worker {} lost a connection to a backend", i));
      if (report.mail.misrouted_dropped > 0) violate(fmt::format("worker {} dropped", i));
      result_.misrouted += report.mail.misrouted_in;
      result_.shown += report.mail.unknown_shown;
    }
  }

  Random random_;
  std::uint32_t workers_;
  double loss_;
  ProxyWorld world_;
  std::deque<Client> clients_;
  Outcome result_;
};

class RandomSteering : public ::testing::TestWithParam<std::uint32_t> {};

TEST_P(RandomSteering, BreaksNothingAndIsCounted) {
  const char* const text = std::getenv("WEIR_SIM_SEED");
  const std::uint64_t first = text == nullptr ? 1 : std::stoull(text);
  const std::uint64_t last = text == nullptr ? kSeeds : first;
  Outcome sum;
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    // Half of the runs on a good link, half on one that loses, repeats and reorders.
    const Outcome run = Simulation{seed, GetParam(), seed % 2 == 0 ? 0 : 0.02}.run();
    EXPECT_EQ(run.violation, "") << "rerun with: WEIR_SIM_SEED=" << seed;
    EXPECT_GT(run.misrouted, 0U);
    EXPECT_GT(run.shown, 0U);
    sum.requests += run.requests;
    sum.misrouted += run.misrouted;
  }
  std::printf("%u workers: %llu requests, %llu segments found their worker by mail\n", GetParam(),
              static_cast<unsigned long long>(sum.requests),
              static_cast<unsigned long long>(sum.misrouted));
}

INSTANTIATE_TEST_SUITE_P(, RandomSteering, ::testing::Values(2U, 3U), [](const auto& tested) {
  return fmt::format("With{}Workers", tested.param);
});

TEST(SteeringSimulation, RepeatsExactlyFromItsSeed) {
  const Outcome run = Simulation{7, 2, 0.02}.run();
  EXPECT_EQ(run.transcript, (Simulation{7, 2, 0.02}.run().transcript));
  EXPECT_NE(run.transcript, (Simulation{8, 2, 0.02}.run().transcript));
}

}  // namespace
}  // namespace weir::testing
