// Every role against its counterpart, whole hosts over a cable in memory, on a clock moved by hand.

#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "bench/stack_lab/ring_port.h"
#include "bench/stack_lab/servers.h"
#include "bench/stack_lab/stack_client.h"
#include "tests/support/alloc_guard.h"

namespace weir::bench {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

const wire::IpAddress kLeft = wire::IpAddress::v4(192, 0, 2, 1);
const wire::IpAddress kRight = wire::IpAddress::v4(192, 0, 2, 2);
constexpr std::uint16_t kUpstream = 7000;

net::InterfaceConfig config_of(const wire::IpAddress& address) {
  net::InterfaceConfig config;
  config.addresses = {{address, 24}};
  return config;
}

tcp::StackOptions stack_options() {
  tcp::StackOptions options;
  options.time_wait = milliseconds{50};
  return options;
}

/// Client and server of one host: connections that came to the server's port are the server's.
class Both final : public Application {
 public:
  Both(tcp::Stack& stack, StackClient& client, Application& server)
      : stack_{stack}, client_{client}, server_{server} {}
  void start(Instant now) override { server_.start(now); }
  void on_ready(const tcp::Readiness& ready, Instant now) override {
    const bool is_servers = stack_.local(ready.connection).port.value() == kUpstream;
    is_servers ? server_.on_ready(ready, now) : client_.on_ready(ready, now);
  }
  void advance(Instant now) override { client_.advance(now); }
  [[nodiscard]] bool is_finished() const override { return client_.is_finished(); }

 private:
  tcp::Stack& stack_;
  StackClient& client_;
  Application& server_;
};

class Roles : public ::testing::Test {
 protected:
  Roles() {
    server_options.local = kRight;
    client_options.local = kLeft;
    client_options.peer = {kRight, wire::Port{9000}};
    client_options.connections = 8;
    client_options.warm_up = milliseconds{1};
    client_options.duration = milliseconds{10};
  }
  void turn(Application& left_application, Application& right_application,
            Duration step = microseconds{10}) {
    now += step;
    left.turn(left_application, now);
    right.turn(right_application, now);
  }
  /// To the client's end, and on until nothing is left of either side.
  nlohmann::ordered_json run(StackClient& client, Application& at_left, Application& at_right) {
    at_right.start(now);
    at_left.start(now);
    for (int turns = 0; turns < 20'000 && !client.is_finished(); ++turns)
      turn(at_left, at_right);
    EXPECT_TRUE(client.is_finished());
    auto report = client.client().report();
    client.client().close();
    for (int turns = 0; turns < 400; ++turns)
      turn(at_left, at_right, milliseconds{1});
    for (const StackHost* host : {&left, &right}) {
      EXPECT_EQ(host->stack().counters().connections, 0U);
      EXPECT_EQ(host->stack().counters().time_wait, 0U);
      EXPECT_EQ(host->stack().counters().buffer_chunks, 0U);
    }
    return report;
  }

  Instant now{std::chrono::seconds{1000}};
  RingCable cable{1024};
  LoadOptions server_options;
  LoadOptions client_options;
  StackHost left{cable.left(), config_of(kLeft), stack_options(), Random{1}, now};
  StackHost right{cable.right(), config_of(kRight), stack_options(), Random{2}, now};
};

TEST_F(Roles, RequestsAreAnsweredInAClosedLoopOnAllConnections) {
  client_options.role = Role::kRequests;
  ReplyServer server{right.stack(), server_options};
  StackClient client{left.stack(), client_options};
  const auto report = run(client, client, server);
  EXPECT_EQ(report["failures"], 0);
  // A round trip takes one turn of 10 µs, and eight connections have 10 ms.
  EXPECT_NEAR(report["operations"].get<double>(), 8'000, 100);
  EXPECT_EQ(right.stack().counters().bytes_sent, 256 * server.requests());
}

TEST_F(Roles, TheLoopOfRequestsAllocatesNothing) {
  client_options.role = Role::kRequests;
  client_options.duration = std::chrono::hours{1};
  ReplyServer server{right.stack(), server_options};
  StackClient client{left.stack(), client_options};
  server.start(now);
  for (int turns = 0; turns < 1000; ++turns)
    turn(client, server);
  const std::uint64_t before = server.requests();
  testing::AllocationGuard guard;
  for (int turns = 0; turns < 500; ++turns)
    turn(client, server);
  EXPECT_EQ(guard.allocations(), 0U);
  EXPECT_EQ(server.requests(), before + 8 * 500);
}

TEST_F(Roles, IdleConnectionsAreOpenedFirstAndOnlyHeld) {
  client_options.role = Role::kRequests;
  client_options.idle = 1500;
  ReplyServer server{right.stack(), server_options};
  StackClient client{left.stack(), client_options};
  const auto report = run(client, client, server);
  EXPECT_EQ(report["failures"], 0);
  EXPECT_EQ(right.stack().counters().accepted, 1508U);
}

TEST_F(Roles, ConnectsAreMadeServedAndClosedByNumber) {
  client_options.role = Role::kConnects;
  client_options.count = 500;
  client_options.warm_up = Duration{0};
  ReplyServer server{right.stack(), server_options};
  StackClient client{left.stack(), client_options};
  const auto report = run(client, client, server);
  EXPECT_EQ(report["attempts"], 500);
  EXPECT_EQ(report["operations"], 500);
  EXPECT_EQ(report["failures"], 0);
  EXPECT_EQ(right.stack().counters().accepted, 500U);
}

TEST_F(Roles, ConnectsToNobodyAreFailures) {
  client_options.role = Role::kConnects;
  client_options.count = 20;
  client_options.peer.port = wire::Port{1};
  ReplyServer server{right.stack(), server_options};
  StackClient client{left.stack(), client_options};
  const auto report = run(client, client, server);
  EXPECT_EQ(report["failures"], 20);
  EXPECT_EQ(report["operations"], 0);
}

TEST_F(Roles, ConnectsAtARateStartWhenTheyAreDue) {
  client_options.role = Role::kConnects;
  client_options.rate_per_s = 1000;
  client_options.warm_up = Duration{0};
  client_options.duration = milliseconds{100};
  ReplyServer server{right.stack(), server_options};
  StackClient client{left.stack(), client_options};
  const auto report = run(client, client, server);
  EXPECT_NEAR(report["attempts"].get<double>(), 100, 2);
}

TEST_F(Roles, BulkCountsWhatTheSinkHasAcknowledged) {
  client_options.role = Role::kBulk;
  client_options.connections = 1;
  client_options.duration = milliseconds{2};
  server_options.role = Role::kSink;
  StreamServer server{right.stack(), server_options};
  StackClient client{left.stack(), client_options};
  const auto report = run(client, client, server);
  EXPECT_GT(report["bytes"].get<std::uint64_t>(), 100'000U);
  EXPECT_LE(report["bytes"].get<std::uint64_t>(), server.bytes());
  EXPECT_EQ(report["failures"], 0);
}

TEST_F(Roles, BulkFromASourceCountsWhatIsRead) {
  client_options.role = Role::kBulk;
  client_options.receive = true;
  client_options.warm_up = Duration{0};
  client_options.duration = milliseconds{2};
  server_options.role = Role::kSource;
  StreamServer server{right.stack(), server_options};
  StackClient client{left.stack(), client_options};
  const auto report = run(client, client, server);
  EXPECT_GT(report["bytes"].get<std::uint64_t>(), 100'000U);
  EXPECT_LE(report["bytes"].get<std::uint64_t>(), server.bytes());
}

TEST_F(Roles, ASourceWithANumberEndsAfterIt) {
  client_options.role = Role::kBulk;
  client_options.receive = true;
  client_options.connections = 2;
  server_options.role = Role::kSource;
  server_options.bytes = 100'000;
  StreamServer server{right.stack(), server_options};
  StackClient client{left.stack(), client_options};
  run(client, client, server);
  EXPECT_EQ(server.bytes(), 200'000U);
  EXPECT_EQ(left.stack().counters().bytes_received, 200'000U);
}

TEST_F(Roles, IdleOnesAreAllAskedAtTheEnd) {
  client_options.role = Role::kIdle;
  client_options.connections = 700;
  ReplyServer server{right.stack(), server_options};
  StackClient client{left.stack(), client_options};
  const auto report = run(client, client, server);
  EXPECT_EQ(report["answered"], 700);
  EXPECT_EQ(server.requests(), 700U);
}

TEST_F(Roles, ARelayCarriesRequestsToAServerAndBack) {
  client_options.role = Role::kConnects;
  client_options.count = 200;
  client_options.warm_up = Duration{0};
  server_options.role = Role::kRelay;
  server_options.peer = {kLeft, wire::Port{kUpstream}};
  LoadOptions upstream_options;
  upstream_options.local = kLeft;
  upstream_options.port = kUpstream;
  ReplyServer upstream{left.stack(), upstream_options};
  Relay relay{right.stack(), server_options, 1000};
  StackClient client{left.stack(), client_options};
  Both both{left.stack(), client, upstream};
  const auto report = run(client, both, relay);
  EXPECT_EQ(report["operations"], 200);
  EXPECT_EQ(report["failures"], 0);
  EXPECT_EQ(relay.pairs(), 0U);
  EXPECT_EQ(relay.broken(), 0U);
  EXPECT_EQ(relay.bytes(), 200U * (64 + 256));
}

TEST_F(Roles, ARelayToNobodyResetsItsClients) {
  client_options.role = Role::kConnects;
  client_options.count = 20;
  server_options.role = Role::kRelay;
  server_options.peer = {kLeft, wire::Port{kUpstream}};
  Relay relay{right.stack(), server_options, 1000};
  StackClient client{left.stack(), client_options};
  const auto report = run(client, client, relay);
  EXPECT_EQ(report["failures"], 20);
  EXPECT_EQ(relay.pairs(), 0U);
  EXPECT_EQ(relay.broken(), 20U);
}

TEST_F(Roles, ARelayWithoutRoomForAPairRefuses) {
  client_options.role = Role::kConnects;
  client_options.count = 20;
  server_options.role = Role::kRelay;
  server_options.peer = {kLeft, wire::Port{kUpstream}};
  Relay relay{right.stack(), server_options, 0};
  StackClient client{left.stack(), client_options};
  EXPECT_EQ(run(client, client, relay)["failures"], 20);
  EXPECT_EQ(relay.refused(), 20U);
}

}  // namespace
}  // namespace weir::bench
