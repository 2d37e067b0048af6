#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <thread>

#include "l7/net/interface.h"
#include "l7/port/dpdk_port.h"
#include "l7/port/start_checks.h"
#include "tests/support/veth_namespace.h"

namespace weir::net {
namespace {

using weir::testing::VethNamespace;

/// An Interface over the DPDK port, run by a thread of its own, with the real kernel as its peer.
class InterfaceOnDpdk : public ::testing::Test {
 protected:
  void SetUp() override {
    if (auto rights = port::check_rights(0); !rights) GTEST_SKIP() << rights.error().text();
    if (auto pages = port::check_huge_pages(64 << 20); !pages) GTEST_SKIP() << pages.error().text();
    Result<VethNamespace> created = VethNamespace::create();
    if (!created) GTEST_SKIP() << created.error().text();
    namespace_.emplace(std::move(*created));
    ASSERT_EQ(VethNamespace::run("echo 0 > /proc/sys/net/ipv6/conf/host/disable_ipv6; "
                                 "ip addr add 192.0.2.1/24 dev host; "
                                 "ip addr add 2001:db8:1::1/64 dev host nodad; "
                                 "ip route add 203.0.113.10 via 192.0.2.10; "
                                 "ip route add 2001:db8:ffff::10 via 2001:db8:1::10"),
              0);
    const Result<void> started = port::start_dpdk({});
    ASSERT_TRUE(started) << started.error().text();
    auto opened = port::DpdkPort::open({.device = "worker"});
    ASSERT_TRUE(opened) << opened.error().text();
    port_ = std::move(*opened);
    const auto address = [](std::string_view text) { return *wire::IpAddress::parse(text); };
    interface_.emplace(
        InterfaceConfig{.addresses = {{address("192.0.2.10"), 24}, {address("2001:db8:1::10"), 64}},
                        .vips = {address("203.0.113.10"), address("2001:db8:ffff::10")}},
        *port_, Random{1}, monotonic_now());
    runner_ = std::thread{[this] { run(); }};
  }

  void TearDown() override {
    stop_ = true;
    if (runner_.joinable()) runner_.join();
  }

  void run() {
    std::array<port::Packet, 32> burst;
    while (!stop_) {
      const Instant now = monotonic_now();
      const std::size_t count = port_->receive(burst);
      for (port::Packet& frame : std::span{burst}.first(count))
        static_cast<void>(interface_->input(std::move(frame), now));
      interface_->advance(now);
      interface_->flush(now);
      if (count == 0) port_->wait(std::chrono::milliseconds{5}, -1);
    }
  }

  std::optional<VethNamespace> namespace_;
  std::unique_ptr<port::DpdkPort> port_;
  std::optional<Interface> interface_;
  std::atomic<bool> stop_ = false;
  std::thread runner_;
};

TEST_F(InterfaceOnDpdk, TheKernelsPingIsAnswered) {
  for (const std::string_view target :
       {"192.0.2.10", "203.0.113.10", "2001:db8:1::10", "2001:db8:ffff::10"})
    EXPECT_EQ(VethNamespace::run(
                  fmt::format("ping -n -q -c 5 -i 0.05 -W 5 -s 1400 {} > /dev/null", target)),
              0)
        << target;
  TearDown();
  const InterfaceCounters counters = interface_->counters();
  EXPECT_EQ(counters.echo_answered, 20U);
  EXPECT_EQ(counters.dropped_ip_checksum + counters.dropped_checksum, 0U);
  EXPECT_EQ(port_->counters().invalid_descriptors, 0U);
}

TEST_F(InterfaceOnDpdk, TheKernelHearsThatAUdpPortIsClosed) {
  // The kernel turns "port unreachable" into a refused connection; without it the read times out.
  // Its UDP checksum over a veth is unfinished unless offloading is off.
  ASSERT_EQ(VethNamespace::run("ethtool -K host tx off > /dev/null"), 0);
  EXPECT_EQ(VethNamespace::run("bash -c 'exec 3<>/dev/udp/203.0.113.10/53; echo x >&3; "
                               "read -t 5 -u 3 2> /dev/null; test $? -eq 1'"),
            0);
}

}  // namespace
}  // namespace weir::net
