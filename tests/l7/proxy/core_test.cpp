#include "l7/proxy/core.h"

#include <gtest/gtest.h>

#include "tests/l7/proxy/core_fixture.h"

namespace weir::proxy {
namespace {

TEST_F(ProxyCore, TwoRequestsOnOneConnectionShareOneUpstreamConnection) {
  Backend& app = serve(answering(std::string{kOk}));
  Peer& client = connect_and_send(request());
  world_.run_for(10ms);
  client.send(request());
  world_.run_for(10ms);
  EXPECT_EQ(client.received, std::string{kOk} + std::string{kOk});
  EXPECT_EQ(app.connections.size(), 1U);
  EXPECT_EQ(app.received(), at_backend() + at_backend());
  EXPECT_EQ(outcomes(), "200 ok, 200 ok");
  const UpstreamCounters upstream = world_.report().upstream;
  EXPECT_EQ(upstream.opened, 1U);
  EXPECT_EQ(upstream.reused, 1U);
  EXPECT_EQ(upstream.idle, 1U);
}

}  // namespace
}  // namespace weir::proxy
