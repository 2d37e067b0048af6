#include "l4/probe_path.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include "l4/control/prober.h"
#include "l4/decap.h"
#include "l4/tc_hook.h"
#include "tests/l4/control/probe_servers.h"
#include "tests/support/veth_namespace.h"

namespace weir::l4 {
namespace {

using control::ForwardMode;
using control::HealthCheck;
using control::ProbeKind;
using control::ProbeResult;
using control::testing::BoundSocket;
using control::testing::is_silent;
using control::testing::says;
using control::testing::TcpServer;
using control::testing::UdpServer;
using weir::testing::VethNamespace;

constexpr std::string_view kNode4 = "10.99.0.1", kNode6 = "fd99::1";
constexpr std::string_view kBackend4 = "10.99.0.2", kBackend6 = "fd99::2";
constexpr std::string_view kVip4 = "203.0.113.7", kVip6 = "2001:db8:99::7";
constexpr std::uint32_t kMark = kProbeMarkFirst + 6;

wire::IpAddress address(std::string_view text) { return *wire::IpAddress::parse(text); }

struct PathCase {
  std::string name;
  ForwardMode mode;
  wire::Family family;
  DecapMode decap;
  bool is_unfinished;  // checksums are left to the device, which is a veth and sends them so
};

/// The thread is in the backend's namespace while this lives; what is opened stays there.
class Inside {
 public:
  explicit Inside(const UniqueFd& there)
      : home_{::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)} {
    EXPECT_EQ(::setns(there.get(), CLONE_NEWNET), 0);
  }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;
  ~Inside() { EXPECT_EQ(::setns(home_.get(), CLONE_NEWNET), 0); }

 private:
  UniqueFd home_;
};

/// A node, and a backend in a namespace of its own that has the VIPs on lo and our decapsulation
/// program on its device; a veth pair between them.
class ProbePathTest : public ::testing::TestWithParam<PathCase> {
 protected:
  void SetUp() override {
    auto made = VethNamespace::create();
    if (!made) GTEST_SKIP() << made.error().text();
    node_.emplace(*std::move(made));
    make_backend();
    const std::string settings =
        fmt::format("ethtool -K host tx {} >/dev/null", GetParam().is_unfinished ? "on" : "off");
    ASSERT_EQ(VethNamespace::run("echo 0 > /proc/sys/net/ipv6/conf/host/disable_ipv6 && "
                                 "ip address add 10.99.0.1/24 dev host && "
                                 "ip address add fd99::1/64 dev host nodad && " +
                                 settings),
              0);
    auto opened = ProbePath::open();
    if (!opened && opened.error().code() == ErrorCode::kDenied)
      GTEST_SKIP() << opened.error().text();
    ASSERT_TRUE(opened) << opened.error().text();
    path_.emplace(*std::move(opened));
    auto prober = control::Prober::start();
    ASSERT_TRUE(prober) << prober.error().text();
    prober_.emplace(*std::move(prober));
    via_ = {.mark = kMark,
            .vip = vip(),
            .mode = GetParam().mode,
            .gue_port = wire::Port{WEIR_DECAP_GUE_PORT},
            .egress_ifindex = ifindex_of_host(),
            .outer_source = address(is_v4() ? kNode4 : kNode6)};
    const auto set = path_->set_paths({&via_, 1});
    ASSERT_TRUE(set) << Result<void>{set}.error().text();
  }

  void TearDown() override {
    prober_.reset();  // before the servers that tests hold go, and before the namespaces
    path_.reset();
    if (!backend_) return;
    const Inside inside{backend_};
    static_cast<void>(unload_decap(pins_, "worker"));
    ::rmdir(pins_.c_str());
  }

  void make_backend() {
    {
      const UniqueFd home{::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)};
      ASSERT_EQ(::unshare(CLONE_NEWNET), 0);
      backend_ = UniqueFd{::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)};
      ASSERT_EQ(::setns(home.get(), CLONE_NEWNET), 0);
    }
    ASSERT_TRUE(VethNamespace::ip(
        fmt::format("link set worker netns /proc/{}/fd/{}", ::getpid(), backend_.get())));
    const Inside inside{backend_};
    ASSERT_EQ(VethNamespace::run("echo 0 > /proc/sys/net/ipv6/conf/worker/disable_ipv6 && "
                                 "ip link set lo up && ip link set worker up && "
                                 "ip address add 10.99.0.2/24 dev worker && "
                                 "ip address add fd99::2/64 dev worker nodad && "
                                 "ip address add 203.0.113.7/32 dev lo && "
                                 "ip address add 2001:db8:99::7/128 dev lo nodad"),
              0);
    pins_ = fmt::format("/sys/fs/bpf/weir-probe-test-{}", ::getpid());
    const DecapSettings settings{.sources = {address(kNode4), address(kNode6)},
                                 .vips = {{address(kVip4), 32}, {address(kVip6), 128}}};
    const auto loaded = load_decap(pins_, "worker", GetParam().decap, settings);
    ASSERT_TRUE(loaded) << loaded.error().text();
  }

  static std::uint32_t ifindex_of_host() {
    const auto index = ::if_nametoindex("host");
    EXPECT_NE(index, 0U);
    return index;
  }

  static bool is_v4() { return GetParam().family == wire::Family::kIpv4; }
  static wire::IpAddress vip() { return address(is_v4() ? kVip4 : kVip6); }
  static wire::IpAddress backend_address() { return address(is_v4() ? kBackend4 : kBackend6); }

  /// In the backend's namespace.
  template <typename Server, typename... Arguments>
  std::unique_ptr<Server> serve(Arguments&&... arguments) {
    const Inside inside{backend_};
    return std::make_unique<Server>(std::forward<Arguments>(arguments)...);
  }

  ProbeResult probe(HealthCheck check, wire::Port port, std::uint32_t mark = kMark) {
    check.interval_ms = 20;
    check.timeout_ms = 3'000;
    prober_->set_targets({{.id = ++id_,
                           .check = std::move(check),
                           .backend = backend_address(),
                           .port = port,
                           .vip = vip(),
                           .mark = mark}});
    for (;;) {
      pollfd ready{prober_->fd(), POLLIN, 0};
      if (::poll(&ready, 1, 10'000) != 1) return {.reason = "no result"};
      for (ProbeResult& result : prober_->take_results()) {
        if (result.id != id_) continue;
        prober_->set_targets({});
        return std::move(result);
      }
    }
  }

  std::optional<VethNamespace> node_;
  UniqueFd backend_;
  std::string pins_;
  ProbeVia via_;
  std::optional<ProbePath> path_;
  std::optional<control::Prober> prober_;
  std::uint64_t id_ = 0;
};

TEST_P(ProbePathTest, TheVipOnTheBackendAnswers) {
  const auto http = serve<TcpServer>(vip(), says("HTTP/1.1 200 OK\r\n\r\n"));
  const auto udp = serve<UdpServer>(vip(), "pong");
  EXPECT_EQ(probe({.kind = ProbeKind::kTcp}, http->port()).reason, "connected");
  EXPECT_EQ(probe({.kind = ProbeKind::kHttp}, http->port()).reason, "status 200");
  EXPECT_EQ(probe({.kind = ProbeKind::kUdp, .send = "ping", .expect = "pong"}, udp->port()).reason,
            "answered");
  EXPECT_EQ(probe({.kind = ProbeKind::kIcmp}, {}).reason, "echo reply");
  EXPECT_GE(http->accepted(), 2);  // more where the next turn came before the targets went
  // Nobody listens on the backend's own address.
  EXPECT_EQ(probe({.kind = ProbeKind::kTcp}, http->port(), 0).reason, "connection refused");
  prober_.reset();
}

TEST_P(ProbePathTest, AnotherServiceOnTheBackendsOwnAddressDoesNotStandInForTheVips) {
  const auto own = serve<TcpServer>(backend_address(), is_silent());
  const auto datagrams = serve<UdpServer>(backend_address(), "pong");
  EXPECT_EQ(probe({.kind = ProbeKind::kTcp}, own->port(), 0).reason, "connected");
  EXPECT_EQ(probe({.kind = ProbeKind::kTcp}, own->port()).reason, "connection refused");
  EXPECT_EQ(probe({.kind = ProbeKind::kUdp}, datagrams->port()).reason,
            "refused: ICMP port unreachable");
  prober_.reset();
}

TEST_P(ProbePathTest, AMarkWithoutAPathReachesNobodyAndMarksOfOthersAreLetAlone) {
  const auto own = serve<TcpServer>(backend_address(), is_silent());
  EXPECT_EQ(probe({.kind = ProbeKind::kTcp}, own->port(), 0x1234).reason, "connected");
  ASSERT_TRUE(path_->set_paths({}));
  ASSERT_TRUE(path_->set_paths({&via_, 1}));
  EXPECT_EQ(probe({.kind = ProbeKind::kTcp}, own->port()).reason, "connection refused");
  HealthCheck check{.kind = ProbeKind::kTcp};
  EXPECT_FALSE(probe(check, own->port(), kMark + 1).is_success);
  prober_.reset();
}

std::vector<PathCase> cases() {
  std::vector<PathCase> all;
  const std::array modes{std::pair{ForwardMode::kIpip, "Ipip"}, std::pair{ForwardMode::kGue, "Gue"},
                         std::pair{ForwardMode::kL2, "L2"}};
  for (const auto& [mode, mode_name] : modes) {
    for (const auto family : {wire::Family::kIpv4, wire::Family::kIpv6}) {
      for (const auto decap : {DecapMode::kNative, DecapMode::kTc}) {
        for (const bool is_unfinished : {false, true}) {
          const bool is_v4 = family == wire::Family::kIpv4;
          if (mode == ForwardMode::kGue && !is_v4 && is_unfinished) continue;  // l4/README.md
          all.push_back(
              {fmt::format("{}Over{}To{}With{}Checksums", mode_name, is_v4 ? "Ipv4" : "Ipv6",
                           decap == DecapMode::kTc ? "Tc" : "Xdp",
                           is_unfinished ? "Unfinished" : "Finished"),
               mode, family, decap, is_unfinished});
        }
      }
    }
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(, ProbePathTest, ::testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param.name; });

// ---- without traffic ---------------------------------------------------------------------------

class ProbePathOnDevices : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = VethNamespace::create();
    if (!made) GTEST_SKIP() << made.error().text();
    node_.emplace(*std::move(made));
    auto opened = ProbePath::open();
    if (!opened && opened.error().code() == ErrorCode::kDenied)
      GTEST_SKIP() << opened.error().text();
    ASSERT_TRUE(opened) << opened.error().text();
    path_.emplace(*std::move(opened));
  }

  static ProbeVia via(std::uint32_t mark) {
    return {.mark = mark,
            .vip = address(kVip4),
            .egress_ifindex = ::if_nametoindex("host"),
            .outer_source = address(kNode4)};
  }
  static TcPlace place(const std::string& device, TcSide side) {
    constexpr std::uint32_t kOurPriority = 57035;
    return {device, ::if_nametoindex(device.c_str()), side, kOurPriority};
  }
  /// Ids of programs that hang on the device by links (BPF_TCX_INGRESS, _EGRESS) or as filters.
  static std::vector<std::uint32_t> programs_at(const TcPlace& place) {
    std::array<std::uint32_t, 8> ids{};
    std::uint32_t count = ids.size(), flags = 0;
    const auto type = static_cast<bpf_attach_type>(place.side == TcSide::kIngress ? 46 : 47);
    if (::bpf_prog_query(static_cast<int>(place.ifindex), type, 0, &flags, ids.data(), &count) != 0)
      count = 0;
    std::vector<std::uint32_t> all{ids.begin(), ids.begin() + count};
    if (const auto id = tc_filter_program(place)) all.push_back(*id);
    return all;
  }
  static std::size_t programs_on(const std::string& device) {
    return programs_at(place(device, TcSide::kIngress)).size() +
           programs_at(place(device, TcSide::kEgress)).size();
  }

  std::optional<VethNamespace> node_;
  std::optional<ProbePath> path_;
};

TEST_F(ProbePathOnDevices, NothingStaysAttachedThatIsNotWanted) {
  const ProbeVia way = via(kMark);
  const std::array receiving{::if_nametoindex("worker")};
  ASSERT_TRUE(path_->set_paths({&way, 1}, receiving));
  EXPECT_EQ(programs_on("host"), 2U);
  EXPECT_EQ(programs_on("worker"), 1U);
  ASSERT_TRUE(path_->set_paths({&way, 1}));
  EXPECT_EQ(programs_on("worker"), 0U);
  ASSERT_TRUE(path_->set_paths({}, receiving));
  EXPECT_EQ(programs_on("host"), 0U);
  EXPECT_EQ(programs_on("worker"), 0U);
  ASSERT_TRUE(path_->set_paths({&way, 1}, receiving));
  EXPECT_EQ(programs_on("host"), 2U);
  path_.reset();
  EXPECT_EQ(programs_on("host"), 0U);
  EXPECT_EQ(programs_on("worker"), 0U);
}

TEST_F(ProbePathOnDevices, ADeviceThatCameAgainIsAttachedToAgain) {
  const ProbeVia way = via(kMark);
  ASSERT_TRUE(path_->set_paths({&way, 1}));
  ASSERT_TRUE(VethNamespace::ip("link delete host"));
  EXPECT_FALSE(path_->set_paths({&way, 1}));
  ASSERT_TRUE(VethNamespace::ip(
      fmt::format("link add host index {} type veth peer name worker", way.egress_ifindex)));
  ASSERT_TRUE(path_->set_paths({&way, 1}));
  EXPECT_EQ(programs_on("host"), 2U);
}

TEST_F(ProbePathOnDevices, AFilterThatAKilledProcessLeftGoesAtTheNextStartAndOthersStay) {
  const ProbeVia way = via(kMark);
  ASSERT_TRUE(path_->set_paths({&way, 1}));
  const auto in = programs_at(place("host", TcSide::kIngress));
  ASSERT_EQ(in.size(), 1U);
  const UniqueFd program{::bpf_prog_get_fd_by_id(in.front())};
  // As on a kernel without links for tc; on the other side the program is not what we put there.
  ASSERT_TRUE(replace_tc_filter(program.get(), place("worker", TcSide::kIngress)));
  ASSERT_TRUE(replace_tc_filter(program.get(), place("worker", TcSide::kEgress)));
  ASSERT_EQ(programs_on("worker"), 2U);
  const auto next = ProbePath::open();
  ASSERT_TRUE(next);
  EXPECT_EQ(programs_at(place("worker", TcSide::kIngress)).size(), 0U);
  EXPECT_EQ(programs_at(place("worker", TcSide::kEgress)).size(), 1U);
  EXPECT_EQ(programs_on("host"), 2U);
}

TEST_F(ProbePathOnDevices, WhatCannotBeIsRefusedAndTheRestIsDone) {
  const auto refused = [&](ProbeVia wrong, std::string_view text) {
    const std::array ways{wrong, via(kMark)};
    Result<void> set = path_->set_paths(ways);
    ASSERT_FALSE(set);
    EXPECT_NE(set.error().text().find(text), std::string::npos) << set.error().text();
    EXPECT_EQ(programs_on("host"), 2U);
    ASSERT_TRUE(path_->set_paths({}));
  };
  ProbeVia wrong = via(7);
  refused(wrong, "mark 0x7 of the probes of 203.0.113.7 is not one of 0x57000001 … 0x57ffffff");
  wrong = via(kMark + 1);
  wrong.outer_source = address(kNode6);
  refused(wrong, "probes of 203.0.113.7 cannot leave from fd99::1, of the other IP version");
  wrong = via(kMark + 1);
  wrong.mode = ForwardMode::kNat;
  refused(wrong, "have no encapsulation to go through");
  wrong = via(kMark + 1);
  wrong.egress_ifindex = 4711;
  refused(wrong, "there is no network device with index 4711 for probes");
}

}  // namespace
}  // namespace weir::l4
