// How a worker's time is told apart: what DPDK programs call busy and idle cycles.

#include <gtest/gtest.h>

#include "tests/support/proxy_world.h"

namespace weir::testing {
namespace {

using std::chrono::microseconds;

TEST(WorkerTime, ATurnIsChargedFromItsBeginningToTheNextOne) {
  ProxyWorld world{{}};
  proxy::Worker& worker = world.worker();
  Instant now = world.now();
  while (worker.turn(now)) {
  }
  const auto before = world.report();

  now += microseconds{300};  // polling, or asleep
  ASSERT_FALSE(worker.turn(now));
  ASSERT_TRUE(worker.install(tls::TicketKeySet{}));
  now += microseconds{20};
  ASSERT_TRUE(worker.turn(now));
  now += microseconds{7};
  ASSERT_FALSE(worker.turn(now));
  const auto after = world.report();

  EXPECT_EQ(after.idle_time - before.idle_time, microseconds{320});
  EXPECT_EQ(after.busy_time - before.busy_time, microseconds{7});
  EXPECT_EQ(after.busy_turns - before.busy_turns, 1U);
}

TEST(WorkerTime, AllTimeSinceTheStartIsOneOrTheOther) {
  ProxyWorld world{{}};
  const Instant start = world.now();
  Backend& backend = world.add_backend(8001, answering("HTTP/1.1 204 No Content\r\n\r\n"));
  world.install(ProxyWorld::model_for({backend.endpoint}));
  Peer& client = world.connect();
  client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  world.run_for(std::chrono::milliseconds{10});
  static_cast<void>(world.worker().turn(world.now()));
  const auto report = world.report();
  EXPECT_EQ(report.busy_time + report.idle_time, world.now() - start);
  EXPECT_GT(report.idle_time, report.busy_time);
}

}  // namespace
}  // namespace weir::testing
