#include "l7/endpoint_health.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <mutex>

#include "tests/l4/control/probe_servers.h"

namespace weir::l7 {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

/// What probes of HTTP have sent to a server on loopback, all together.
class ProbedServer {
 public:
  [[nodiscard]] wire::Endpoint endpoint() const { return {kLoopback, server_.port()}; }
  [[nodiscard]] std::string heard() const {
    const std::lock_guard lock{mutex_};
    return heard_;
  }

 private:
  static inline const wire::IpAddress kLoopback = wire::IpAddress::v4(127, 0, 0, 1);
  control::testing::Conversation converse() {
    return [this](std::string_view bytes) -> std::string {
      const std::lock_guard lock{mutex_};
      heard_ += bytes;
      return "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    };
  }

  mutable std::mutex mutex_;
  std::string heard_;
  control::testing::TcpServer server_{kLoopback, [this] { return converse(); }};
};

class HealthOfNamedEndpoints : public ::testing::Test {
 protected:
  /// The first request of a check of an endpoint that the name has led to.
  std::string first_probe(const std::string& hostname, const std::string& host) {
    control::Model model;
    model.services = {
        {.name = "app", .endpoints = {{.endpoint = server_.endpoint(), .hostname = hostname}}}};
    model.services[0].health =
        control::HealthCheck{.kind = control::ProbeKind::kHttp, .interval_ms = 100, .host = host};
    const auto snapshot = proxy::build_snapshot(model, 1);
    EndpointHealth health;
    EXPECT_TRUE(health.set_services(model, *snapshot, monotonic_now()));
    const Instant give_up = monotonic_now() + 20s;
    while (server_.heard().empty() && monotonic_now() < give_up)
      ::poll(nullptr, 0, 5);  // until the prober's thread has asked
    return server_.heard();
  }

  ProbedServer server_;
};

TEST_F(HealthOfNamedEndpoints, AreAskedForByTheirName) {
  EXPECT_THAT(first_probe("app.internal", ""), HasSubstr("Host: app.internal\r\n"));
}

TEST_F(HealthOfNamedEndpoints, AreAskedForByTheHostThatTheCheckHas) {
  EXPECT_THAT(first_probe("app.internal", "shop.example"), HasSubstr("Host: shop.example\r\n"));
}

TEST_F(HealthOfNamedEndpoints, WithoutANameAreAskedForByTheirAddress) {
  EXPECT_THAT(first_probe("", ""), HasSubstr("Host: 127.0.0.1"));
}

}  // namespace
}  // namespace weir::l7
