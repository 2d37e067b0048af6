#include "l4/control/prober.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <functional>
#include <map>

#include "l4/control/probe_engine.h"
#include "tests/l4/control/probe_servers.h"

namespace weir::control {
namespace {

using testing::answers_grpc;
using testing::BoundSocket;
using testing::is_silent;
using testing::says;
using testing::TcpServer;
using testing::UdpServer;

const wire::IpAddress kLoopback4 = wire::IpAddress::v4(127, 0, 0, 1);
const wire::IpAddress kLoopback6 = *wire::IpAddress::parse("::1");
const wire::IpAddress kVip = wire::IpAddress::v4(203, 0, 113, 5);

/// Asked often, so that tests are short; what must answer has plenty of time.
HealthCheck check_of(ProbeKind kind, std::uint32_t timeout_ms = 5'000) {
  return {.kind = kind, .interval_ms = 20, .timeout_ms = timeout_ms};
}

ProbeTarget target_of(std::uint64_t id, HealthCheck check, const wire::IpAddress& backend,
                      wire::Port port) {
  return {.id = id, .check = std::move(check), .backend = backend, .port = port, .vip = kVip};
}

class ProberTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto started = Prober::start();
    ASSERT_TRUE(started) << started.error().text();
    prober_.emplace(*std::move(started));
  }

  /// Waits for results until `enough`, which has seen all of them, says so.
  std::vector<ProbeResult> results_until(
      const std::function<bool(const std::vector<ProbeResult>&)>& enough) {
    constexpr int kPatienceMs = 10'000;
    std::vector<ProbeResult> all;
    while (!enough(all)) {
      pollfd ready{prober_->fd(), POLLIN, 0};
      if (::poll(&ready, 1, kPatienceMs) != 1) {
        ADD_FAILURE() << "no further result after " << all.size();
        return all;
      }
      for (ProbeResult& result : prober_->take_results())
        all.push_back(std::move(result));
    }
    return all;
  }

  ProbeResult first_result(const ProbeTarget& target) {
    prober_->set_targets({target});
    const auto is_its = [&](const ProbeResult& result) { return result.id == target.id; };
    // Those of targets that are gone may still come.
    const auto results =
        results_until([&](const auto& all) { return std::ranges::any_of(all, is_its); });
    const auto found = std::ranges::find_if(results, is_its);
    return found == results.end() ? ProbeResult{} : *found;
  }

  std::optional<Prober> prober_;
};

TEST_F(ProberTest, AConnectionThatIsAcceptedIsASuccess) {
  for (const auto& address : {kLoopback4, kLoopback6}) {
    const TcpServer server{address, is_silent()};
    const auto result =
        first_result(target_of(1, check_of(ProbeKind::kTcp), address, server.port()));
    EXPECT_TRUE(result.is_success) << result.reason;
    EXPECT_EQ(result.reason, "connected");
    EXPECT_GT(result.took, Duration{0});
    prober_->set_targets({});
  }
}

TEST_F(ProberTest, AConnectionThatIsRefusedIsAFailure) {
  const BoundSocket nobody{kLoopback4, SOCK_STREAM};
  const auto result =
      first_result(target_of(1, check_of(ProbeKind::kTcp), kLoopback4, nobody.port()));
  EXPECT_FALSE(result.is_success);
  EXPECT_EQ(result.reason, "connection refused");
}

TEST_F(ProberTest, HttpIsJudgedByItsStatus) {
  const TcpServer good{kLoopback4, says("HTTP/1.1 204 No Content\r\n\r\n")};
  EXPECT_EQ(first_result(target_of(1, check_of(ProbeKind::kHttp), kLoopback4, good.port())).reason,
            "status 204");
  const TcpServer bad{kLoopback6, says("HTTP/1.1 503 Busy\r\n\r\n")};
  EXPECT_EQ(first_result(target_of(2, check_of(ProbeKind::kHttp), kLoopback6, bad.port())).reason,
            "status 503, expected 200-399");
  prober_.reset();
}

TEST_F(ProberTest, HttpsSpeaksTls) {
  const TcpServer plain{kLoopback4, says("HTTP/1.1 400 Bad Request\r\n\r\n")};
  const auto result =
      first_result(target_of(1, check_of(ProbeKind::kHttps), kLoopback4, plain.port()));
  EXPECT_FALSE(result.is_success);
  EXPECT_EQ(result.reason, "TLS: wrong version number");
  prober_.reset();
}

TEST_F(ProberTest, GrpcIsAskedForItsHealth) {
  const TcpServer server{kLoopback4, answers_grpc({.body = {"\0\0\0\0\x02\x08\x01", 7}})};
  const auto result =
      first_result(target_of(1, check_of(ProbeKind::kGrpc), kLoopback4, server.port()));
  EXPECT_TRUE(result.is_success);
  EXPECT_EQ(result.reason, "SERVING");
  prober_.reset();
}

TEST_F(ProberTest, ASilentServerIsAFailureAfterTheTimeoutAndIsAskedAgain) {
  const TcpServer server{kLoopback4, is_silent()};
  prober_->set_targets({target_of(1, check_of(ProbeKind::kHttp, 20), kLoopback4, server.port())});
  const auto results = results_until([](const auto& all) { return all.size() >= 3; });
  for (const ProbeResult& result : results) {
    EXPECT_FALSE(result.is_success);
    EXPECT_EQ(result.reason, "connected, but no complete answer within 20 ms");
    EXPECT_GE(result.took, std::chrono::milliseconds{20});
  }
  EXPECT_GE(prober_->counters().timed_out, 3U);
  EXPECT_EQ(prober_->counters().succeeded, 0U);
  prober_.reset();
}

TEST_F(ProberTest, ADatagramsAnswerIsComparedWithWhatIsExpected) {
  for (const auto& address : {kLoopback4, kLoopback6}) {
    const UdpServer server{address, "pong and more"};
    HealthCheck check = check_of(ProbeKind::kUdp);
    check.send = "ping";
    check.expect = "pong";
    const auto right = first_result(target_of(1, check, address, server.port()));
    EXPECT_TRUE(right.is_success) << right.reason;
    check.expect = "pang";
    const auto wrong = first_result(target_of(2, check, address, server.port()));
    EXPECT_FALSE(wrong.is_success);
    EXPECT_EQ(wrong.reason, "the answer is 'pong and more', expected 'pang'");
    prober_->set_targets({});
  }
}

TEST_F(ProberTest, ADatagramThatIsRefusedIsAFailure) {
  wire::Port port{0};
  { port = BoundSocket{kLoopback4, SOCK_DGRAM}.port(); }
  const auto result = first_result(target_of(1, check_of(ProbeKind::kUdp), kLoopback4, port));
  EXPECT_FALSE(result.is_success);
  EXPECT_EQ(result.reason, "refused: ICMP port unreachable");
}

TEST_F(ProberTest, ASilentDatagramServerIsASuccessUnlessAnAnswerIsExpected) {
  const UdpServer server{kLoopback4, ""};
  HealthCheck check = check_of(ProbeKind::kUdp, 20);
  EXPECT_EQ(first_result(target_of(1, check, kLoopback4, server.port())).reason,
            "not refused within 20 ms");
  check.expect = "pong";
  const auto result = first_result(target_of(2, check, kLoopback4, server.port()));
  EXPECT_FALSE(result.is_success);
  EXPECT_EQ(result.reason, "no answer within 20 ms");
}

TEST_F(ProberTest, AnEchoIsAnswered) {
  for (const auto& address : {kLoopback4, kLoopback6}) {
    const auto result = first_result(target_of(1, check_of(ProbeKind::kIcmp), address, {}));
    if (result.reason.starts_with("this node may not send echo requests"))
      GTEST_SKIP() << result.reason;
    EXPECT_TRUE(result.is_success);
    EXPECT_EQ(result.reason, "echo reply");
    prober_->set_targets({});
  }
}

TEST_F(ProberTest, TargetsThatStayGoOnAndThoseThatGoHaveNoFurtherResults) {
  const TcpServer server{kLoopback4, is_silent()};
  const auto tcp = [&](std::uint64_t id) {
    return target_of(id, check_of(ProbeKind::kTcp), kLoopback4, server.port());
  };
  prober_->set_targets({tcp(1), tcp(2)});
  results_until([](const auto& all) {
    return std::ranges::any_of(all, [](const auto& result) { return result.id == 2; });
  });
  prober_->set_targets({tcp(1), tcp(3)});
  results_until([](const auto& all) {
    return std::ranges::any_of(all, [](const auto& result) { return result.id == 3; });
  });
  static_cast<void>(prober_->take_results());
  const auto after = results_until([](const auto& all) { return all.size() >= 10; });
  std::map<std::uint64_t, int> counts;
  for (const ProbeResult& result : after)
    ++counts[result.id];
  EXPECT_EQ(counts.count(2), 0U);
  EXPECT_GE(counts[1], 4);
  EXPECT_GE(counts[3], 4);
  EXPECT_EQ(prober_->counters().targets, 2U);
  prober_.reset();
}

// ---- the engine, turn by turn ------------------------------------------------------------------

class EngineTest : public ::testing::Test {
 protected:
  void start(std::size_t in_flight_max) {
    wake_ = UniqueFd{::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
    auto created = ProbeEngine::create(wake_.get(), in_flight_max, monotonic_now());
    ASSERT_TRUE(created) << created.error().text();
    engine_ = *std::move(created);
  }

  UniqueFd wake_;
  std::unique_ptr<ProbeEngine> engine_;
};

TEST_F(EngineTest, WhatThisNodeIsShortOfIsNoFailureOfABackend) {
  const TcpServer server{kLoopback4, is_silent()};
  start(2);
  std::vector<ProbeTarget> targets;
  constexpr std::uint64_t kTargets = 8;
  for (std::uint64_t id = 0; id < kTargets; ++id)
    targets.push_back(target_of(id, check_of(ProbeKind::kTcp), kLoopback4, server.port()));
  for (std::uint64_t id = 0; id < 4; ++id) {  // take both places again and again
    targets[id].check = check_of(ProbeKind::kHttp, 20);
  }
  engine_->set_targets(targets, monotonic_now());
  std::map<std::uint64_t, int> counts;
  while (counts.size() < kTargets) {
    for (const ProbeResult& result : engine_->turn()) {
      ++counts[result.id];
      EXPECT_EQ(result.is_success, result.id >= 4) << result.reason;
    }
    ASSERT_LE(engine_->counters().in_flight, 2U);
    ASSERT_LE(engine_->counters().started, 10'000U) << "somebody is never asked";
  }
  EXPECT_GT(engine_->counters().short_of_sockets, 0U);
  engine_.reset();
}

TEST_F(EngineTest, ATargetHasOneProbeAtATimeThoughItsTimeoutIsAsLongAsItsInterval) {
  const TcpServer server{kLoopback4, is_silent()};
  start(100);
  engine_->set_targets({target_of(1, check_of(ProbeKind::kHttp, 20), kLoopback4, server.port())},
                       monotonic_now());
  while (engine_->counters().failed < 5) {
    engine_->turn();
    ASSERT_LE(engine_->counters().in_flight, 1U);
  }
  // The next one has begun, or is to begin; on a busy machine a turn may come late.
  EXPECT_LE(engine_->counters().started, 6U);
  engine_.reset();
}

TEST_F(EngineTest, ATargetThatGoesWhileItWaitsIsForgotten) {
  const TcpServer server{kLoopback4, is_silent()};
  start(1);
  const auto silent = [&](std::uint64_t id) {
    return target_of(id, check_of(ProbeKind::kHttp, 200), kLoopback4, server.port());
  };
  engine_->set_targets({silent(1), silent(2), silent(3)}, monotonic_now());
  while (engine_->counters().short_of_sockets < 2)
    engine_->turn();
  engine_->set_targets({silent(9)}, monotonic_now());
  EXPECT_EQ(engine_->counters().in_flight, 0U);
  std::vector<ProbeResult> results;
  while (results.empty())
    results = engine_->turn();
  EXPECT_EQ(results.front().id, 9U);
  engine_.reset();
}

}  // namespace
}  // namespace weir::control
