// The plane against the running kernel: real programs, pins, links and devices, each test in a
// network namespace and on a BPF file system of its own.

#include "l4/plane.h"

#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "l4/base/bytes.h"
#include "l4/base/hex.h"
#include "l4/bpf_map.h"
#include "l4/names.h"
#include "l4/program_settings.h"
#include "l4/reload.h"
#include "l4/routes.h"
#include "l4/watch.h"
#include "l4/wire/headers.h"

namespace weir::l4 {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kVip = "203.0.113.53:53/udp";

bool run(const std::string& command) { return std::system(command.c_str()) == 0; }

/// An XDP program of somebody else's, which passes everything.
UniqueFd foreign_program() {
  const std::array<bpf_insn, 2> code{
      bpf_insn{.code = BPF_ALU64 | BPF_MOV | BPF_K,
               .dst_reg = 0,
               .src_reg = 0,
               .off = 0,
               .imm = XDP_PASS},
      bpf_insn{.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
  return UniqueFd{
      ::bpf_prog_load(BPF_PROG_TYPE_XDP, "foreign", "GPL", code.data(), code.size(), nullptr)};
}

/// A UDP packet to the address and port, as it would come in from a client.
std::vector<std::byte> udp_frame(const wire::IpAddress& to, std::uint16_t port,
                                 std::uint16_t from_port) {
  std::vector<std::byte> frame(60);
  wire::EthernetHeader ethernet;
  ethernet.destination = {{2, 0, 0, 0, 0, 1}};  // one machine: a broadcast is left to the host
  ethernet.source = {{2, 0, 0, 0, 0, 9}};
  ethernet.type = wire::be16{ETH_P_IP};
  wire::Ipv4Header ip;
  ip.total_length = wire::be16{46};
  ip.protocol = static_cast<std::uint8_t>(wire::IpProtocol::kUdp);
  ip.source = {198, 51, 100, 1};
  std::ranges::copy(to.v4_octets(), ip.destination.begin());
  wire::UdpHeader udp;
  udp.source_port = wire::be16{from_port};
  udp.destination_port = wire::be16{port};
  udp.length = wire::be16{26};
  const std::span bytes{frame};
  store(bytes, ethernet);
  store(bytes.subspan(14), ip);
  store(bytes.subspan(34), udp);
  return frame;
}

/// The first segment of a connection to the address and port.
std::vector<std::byte> syn_frame(const wire::IpAddress& to, std::uint16_t port,
                                 std::uint16_t from_port) {
  std::vector<std::byte> frame = udp_frame(to, port, from_port);  // TCP has its ports there too
  frame[14 + 9] = static_cast<std::byte>(wire::IpProtocol::kTcp);
  frame[34 + 12] = std::byte{0x50};  // a header of 20 bytes
  frame[34 + 13] = std::byte{0x02};  // SYN
  return frame;
}

bool is_rename(std::uint64_t syscall) {
#ifdef SYS_rename
  if (syscall == SYS_rename) return true;
#endif
  return syscall == SYS_renameat || syscall == SYS_renameat2;
}

/// Does `work` in a child process and kills it when its first rename is done, before it can do
/// anything else.
void be_killed_after_the_first_rename(const std::function<void()>& work) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    ::raise(SIGSTOP);
    work();
    ::_exit(0);
  }
  constexpr int kStopsMax = 1'000'000;
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSTOPPED(status));
  ASSERT_EQ(::ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL),
            0);
  bool renaming = false;
  for (int stop = 0; stop < kStopsMax; ++stop) {
    ASSERT_EQ(::ptrace(PTRACE_SYSCALL, child, nullptr, nullptr), 0);
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSTOPPED(status)) << "it ended without a rename";
    if (WSTOPSIG(status) != (SIGTRAP | 0x80)) continue;
    __ptrace_syscall_info info{};
    ASSERT_GT(::ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof(info), &info), 0);
    if (renaming && info.op == PTRACE_SYSCALL_INFO_EXIT) break;
    renaming = info.op == PTRACE_SYSCALL_INFO_ENTRY && is_rename(info.entry.nr);
  }
  EXPECT_TRUE(renaming);
  ASSERT_EQ(::kill(child, SIGKILL), 0);
  ASSERT_EQ(::waitpid(child, &status, 0), child);
}

class PlaneTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "skipped, because loading programs needs root";
    ASSERT_EQ(::unshare(CLONE_NEWNET | CLONE_NEWNS), 0);
    ASSERT_EQ(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    std::string pattern = fs::temp_directory_path() / "weir-plane-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    fs::create_directory(root_ / "bpf");
    ASSERT_EQ(::mount("bpf", (root_ / "bpf").c_str(), "bpf", 0, nullptr), 0);
    ASSERT_TRUE(
        run("echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6 && "
            "ip link set lo up && ip link add nic type veth peer name wire && "
            "ip link set nic up && ip link set wire up && "
            "ip addr add 10.0.2.1/24 dev nic"));
    options_ = {.pin_directory = root_ / "bpf" / "weir", .state_directory = root_ / "state"};
    start();
  }
  void TearDown() override {
    if (root_.empty()) return;
    plane_.reset();
    EXPECT_EQ(::umount((root_ / "bpf").c_str()), 0);
    fs::remove_all(root_);
  }

  /// A daemon that is started, or started again.
  void start() {
    plane_.reset();
    Result<std::unique_ptr<Plane>> opened = Plane::open(options_);
    ASSERT_TRUE(opened) << opened.error().text();
    plane_ = *std::move(opened);
  }

  control::AdminReply ask(const std::string& method, const std::string& path,
                          const json& body = json::object(),
                          const std::map<std::string, std::string>& query = {}) {
    return handle_request(*plane_, {method, path, query, body.dump()}, monotonic_now());
  }
  json ask_well(const std::string& method, const std::string& path,
                const json& body = json::object(),
                const std::map<std::string, std::string>& query = {}) {
    const control::AdminReply reply = ask(method, path, body, query);
    EXPECT_EQ(reply.status, 200) << method << " " << path << ": " << reply.body;
    return json::parse(reply.body);
  }
  void add_dns() {
    ask_well("POST", "/v1/vips",
             {{"vip", kVip},
              {"table_size", 251},
              {"backends", {{{"address", "10.0.2.11"}}, {{"address", "10.0.2.12"}}}}});
  }
  /// A VIP in mode nat.
  void add_nat(std::uint16_t port) {
    ask_well("POST", "/v1/vips",
             {{"vip", fmt::format("203.0.113.53:{}/tcp", port)},
              {"mode", "nat"},
              {"table_size", 251},
              {"backends", {{{"address", "10.0.2.11"}, {"port", 8080}}}}});
  }
  void add_neighbors() {
    ASSERT_TRUE(
        run("ip neigh add 10.0.2.11 lladdr 02:00:00:00:00:0b dev nic && "
            "ip neigh add 10.0.2.12 lladdr 02:00:00:00:00:0c dev nic"));
  }
  json load(const char* device = "nic") {
    return ask_well("POST", "/v1/load", {{"devices", {device}}});
  }
  json apply(const std::string& text) {
    return ask_well("POST", "/v1/apply", {{"file", "/etc/weir/weir.yaml"}, {"text", text}});
  }
  /// As a disk that is mounted read-only is.
  void make_state_read_only() {
    const std::string state = (root_ / "state").string();
    ASSERT_TRUE(
        run("mount --bind " + state + " " + state + " && mount -o remount,ro,bind " + state));
  }
  void make_state_writable() { ASSERT_EQ(::umount((root_ / "state").c_str()), 0); }
  static bool has_device(const char* name) { return ::if_nametoindex(name) != 0; }

  void send(const std::vector<std::byte>& frame) {
    const UniqueFd socket{::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0)};
    ASSERT_TRUE(socket);
    sockaddr_ll to{};
    to.sll_family = AF_PACKET;
    to.sll_ifindex = static_cast<int>(::if_nametoindex("wire"));
    ASSERT_EQ(::sendto(socket.get(), frame.data(), frame.size(), 0,
                       reinterpret_cast<const sockaddr*>(&to), sizeof(to)),
              static_cast<ssize_t>(frame.size()));
  }

  fs::path root_;
  PlaneOptions options_;
  std::unique_ptr<Plane> plane_;
};

constexpr const char* kGateway = R"(version: 1
node:
  interfaces: [nic]
  l7: {workers: 2, carrier: veth, addresses: [10.0.2.9/24]}
gateways:
- name: edge
  addresses: [203.0.113.10]
  listeners:
  - {name: http, port: 80, protocol: HTTP}
services:
  cart: {endpoints: ["10.0.2.11:8080"]}
httpRoutes:
- name: all
  parentRefs: [{name: edge}]
  rules:
  - backendRefs: [{name: cart}]
)";

std::uint64_t packets_of(const json& stats, const std::string& verdict) {
  for (const json& row : stats.at("verdicts")) {
    if (row.at("verdict") == verdict) return row.at("packets").get<std::uint64_t>();
  }
  ADD_FAILURE() << "no verdict " << verdict;
  return 0;
}

TEST_F(PlaneTest, UnloadLeavesNothing) {
  add_dns();
  apply(kGateway);
  EXPECT_TRUE(has_device("weir-l7-1"));
  EXPECT_TRUE(fs::exists(options_.pin_directory));
  const json status = ask_well("GET", "/v1/status");
  EXPECT_EQ(status.at("devices").size(), 1U);
  EXPECT_EQ(status.at("devices")[0].at("mode"), "native");
  EXPECT_EQ(status.at("workers").size(), 4U);

  ask_well("POST", "/v1/unload");
  for (const char* device : {"weir-l7-0", "weir-w1", "weir-l7-g0", "weir-wg1"})
    EXPECT_FALSE(has_device(device)) << device;
  EXPECT_FALSE(fs::exists(options_.pin_directory));
  EXPECT_TRUE(Datapath::check_device("nic", false)) << "a program is left on the device";
  EXPECT_EQ(ask_well("GET", "/v1/vips").at("vips").size(), 2U) << "VIPs stay desired";
}

TEST_F(PlaneTest, TheLaneInUseIsChangedByWordAndOutlivesTheDaemon) {
  EXPECT_EQ(ask("GET", "/v1/lane").status, 409);
  EXPECT_EQ(ask("POST", "/v1/lane", {{"lane", "green"}}).status, 409);
  apply(kGateway);
  const auto device_in_use = [&] {
    std::vector<std::string> devices;
    const json status = ask_well("GET", "/v1/status");
    for (const json& worker : status.at("workers"))
      if (worker.at("in_use")) devices.push_back(worker.at("worker_end"));
    return devices;
  };
  EXPECT_EQ(ask_well("GET", "/v1/lane").at("lane"), "blue");
  EXPECT_EQ(device_in_use(), (std::vector<std::string>{"weir-w0", "weir-w1"}));
  EXPECT_EQ(ask("POST", "/v1/lane", {{"lane", "red"}}).status, 400);
  EXPECT_EQ(ask("POST", "/v1/lane", {{"lane", "green"}, {"now", true}}).status, 400);
  EXPECT_EQ(ask_well("POST", "/v1/lane", {{"lane", "green"}}).at("lane"), "green");
  EXPECT_EQ(device_in_use(), (std::vector<std::string>{"weir-wg0", "weir-wg1"}));

  start();
  EXPECT_EQ(ask_well("GET", "/v1/lane").at("lane"), "green");
  apply(kGateway);
  EXPECT_EQ(device_in_use(), (std::vector<std::string>{"weir-wg0", "weir-wg1"}));
}

TEST_F(PlaneTest, AnUnloadThatTheDiskRefusesStopsNoTraffic) {
  add_neighbors();
  add_dns();
  load();
  make_state_read_only();
  EXPECT_EQ(ask("POST", "/v1/unload").status, 500);
  EXPECT_EQ(ask_well("GET", "/v1/status").at("loaded"), true);
  send(udp_frame(wire::IpAddress::v4(203, 0, 113, 53), 53, 1000));
  EXPECT_EQ(ask_well("GET", "/v1/stats").at("total").at("packets"), 1);

  make_state_writable();
  ask_well("POST", "/v1/unload");
  EXPECT_EQ(ask_well("GET", "/v1/status").at("loaded"), false);
  EXPECT_EQ(load().at("devices").size(), 1U);
}

TEST_F(PlaneTest, ADeviceThatWentAwayKeepsNoChangeFromBeingMadeAndIsLoadedAgain) {
  add_neighbors();
  const std::string second =
      "ip link add second type veth peer name other && ip link set second up";
  ASSERT_TRUE(run(second));
  plane_->on_network_change();
  ask_well("POST", "/v1/load", {{"devices", {"nic", "second"}}});
  ASSERT_TRUE(run("ip link del second"));
  plane_->on_network_change();
  add_dns();
  json status = ask_well("GET", "/v1/status");
  EXPECT_EQ(status.at("devices").size(), 1U);
  EXPECT_NE(status.at("warnings").dump().find("device second is not there"), std::string::npos);
  send(udp_frame(wire::IpAddress::v4(203, 0, 113, 53), 53, 1000));
  EXPECT_EQ(ask_well("GET", "/v1/stats").at("total").at("packets"), 1);

  ASSERT_TRUE(run(second));
  plane_->on_network_change();
  plane_->on_tick(monotonic_now());
  status = ask_well("GET", "/v1/status");
  EXPECT_EQ(status.at("devices").size(), 2U);
  EXPECT_EQ(status.at("warnings").dump().find("second"), std::string::npos);
  EXPECT_EQ(ask("POST", "/v1/load", {{"devices", {"third"}}}).status, 404) << "none of ours";
}

TEST_F(PlaneTest, AChangeThatTheDiskRefusesTouchesNothing) {
  add_neighbors();
  add_dns();
  load();
  const json before = ask_well("GET", "/v1/status");
  const json vips = ask_well("GET", "/v1/vips");
  make_state_read_only();
  EXPECT_EQ(ask("POST", "/v1/load", {{"devices", {"nic"}}, {"mode", "generic"}}).status, 500);
  EXPECT_EQ(ask("POST", "/v1/vips", {{"vip", "203.0.113.54:53/udp"}}).status, 500);
  EXPECT_EQ(ask("POST", "/v1/backends", {{"vip", kVip}, {"address", "10.0.2.13"}}).status, 500);
  EXPECT_EQ(ask("DELETE", "/v1/vips", {}, {{"vip", kVip}}).status, 500);
  EXPECT_EQ(ask_well("GET", "/v1/vips"), vips);
  make_state_writable();
  const json after = ask_well("GET", "/v1/status");
  EXPECT_EQ(after.at("devices"), before.at("devices"));
  EXPECT_EQ(after.at("revision"), before.at("revision"));
}

TEST_F(PlaneTest, EveryChangeIsARevisionThatTellsWhatItWas) {
  add_dns();
  ask_well("POST", "/v1/backends", {{"vip", kVip}, {"address", "10.0.2.11"}, {"weight", 50}});
  ask_well("DELETE", "/v1/backends", {}, {{"vip", kVip}, {"address", "10.0.2.12"}});
  load();
  const auto tells = [this](std::size_t index, const char* cause, const char* change) {
    const json row = ask_well("GET", "/v1/revisions").at("revisions").at(index);
    EXPECT_EQ(row.at("revision"), index + 1);
    EXPECT_EQ(row.at("cause"), cause);
    EXPECT_EQ(row.at("changes"), json({change}));
  };
  for (int starts = 0; starts < 2; ++starts) {
    tells(0, "vip add 203.0.113.53:53/udp", "add vip 203.0.113.53:53/udp (ipip, 2 backends)");
    tells(1, "backend set 203.0.113.53:53/udp 10.0.2.11",
          "vip 203.0.113.53:53/udp: backend 10.0.2.11 weight 1 → 50");
    tells(2, "backend del 203.0.113.53:53/udp 10.0.2.12",
          "vip 203.0.113.53:53/udp: backend 10.0.2.12 removed");
    tells(3, "load nic", "load nic (auto)");
    start();
  }
}

TEST_F(PlaneTest, ARollbackIsANewRevisionWithTheOldStateAndKeepsTheBalancerLoaded) {
  add_dns();
  load();
  ask_well("POST", "/v1/backends", {{"vip", kVip}, {"address", "10.0.2.13"}});
  const json dry = ask_well("POST", "/v1/rollback", {{"revision", 1}, {"dry_run", true}});
  EXPECT_EQ(dry.at("revision"), 3);
  EXPECT_EQ(dry.at("changes"), json({"vip 203.0.113.53:53/udp: backend 10.0.2.13 removed"}));
  EXPECT_EQ(plane_->installed().begin()->second.backends.size(), 3U);
  EXPECT_EQ(ask_well("POST", "/v1/rollback", {{"revision", 1}}).at("revision"), 4);
  EXPECT_EQ(plane_->installed().begin()->second.backends.size(), 2U);
  EXPECT_EQ(ask_well("GET", "/v1/status").at("devices").size(), 1U);
  EXPECT_EQ(ask_well("GET", "/v1/revisions").at("revisions").at(3).at("cause"), "rollback 1");
  EXPECT_EQ(ask("POST", "/v1/rollback", {{"revision", 9}}).status, 404);
  EXPECT_EQ(ask("POST", "/v1/rollback", {{"revision", "1"}}).status, 400);
  EXPECT_EQ(ask("GET", "/v1/revisions", {}, {{"revision", "x"}}).status, 400);
}

TEST_F(PlaneTest, AnExportThatIsAppliedChangesTheOwnerAndNothingElse) {
  apply(kGateway);
  add_dns();
  const control::AdminReply exported = ask("GET", "/v1/export");
  EXPECT_EQ(exported.content_type, "application/yaml");
  const json answer = apply(exported.body);
  EXPECT_EQ(answer.at("changes"), json({"vip 203.0.113.53:53/udp: name none → 203.0.113.53-53-udp",
                                        "vip 203.0.113.53:53/udp: owner manual → file"}));
  EXPECT_EQ(ask_well("GET", "/v1/vips", {}, {{"vip", kVip}}).at("vips")[0].at("owner"), "file");
  EXPECT_EQ(ask("DELETE", "/v1/vips", {}, {{"vip", kVip}}).status, 409);
  EXPECT_TRUE(apply(ask("GET", "/v1/export").body).at("changes").empty());
}

TEST_F(PlaneTest, AFileThatGivesAVipByHandOtherValuesIsAConflictAndInPartLeavesItOut) {
  add_dns();
  const json body{{"file", "/etc/weir/weir.yaml"},
                  {"text",
                   "version: 1\nvips:\n"
                   "- {name: dns, address: 203.0.113.53, port: 53, protocol: UDP, forward: {mode: "
                   "ipip}, backends: []}\n"
                   "- {name: web, address: 203.0.113.80, port: 80, protocol: TCP, forward: {mode: "
                   "ipip}, backends: []}\n"}};
  EXPECT_EQ(ask("POST", "/v1/apply", body).status, 409);
  json partial = body;
  partial["partial"] = true;
  const json answer = ask_well("POST", "/v1/apply", partial);
  EXPECT_EQ(answer.at("left_out").at(0).at("object"), "vip 'dns'");
  EXPECT_EQ(answer.at("changes"), json({"add vip 203.0.113.80:80/tcp (ipip, 0 backends)"}));
  EXPECT_EQ(ask_well("GET", "/v1/vips").at("vips").size(), 2U);
}

TEST_F(PlaneTest, AFileThatCannotBeReloadedLeavesWhatRunsAndTheStatusSaysWhy) {
  const std::string file = (root_ / "weir.yaml").string();
  const auto write = [&](const std::string& text) { std::ofstream{file} << text; };
  reload_last(*plane_, "SIGHUP");
  EXPECT_EQ(plane_->reload_status().failures_total, 1U) << "nothing was applied yet";
  write(kGateway);
  reload(*plane_, file, "start with");
  EXPECT_EQ(ask_well("GET", "/v1/status").at("reload").at("state"), "ok");
  write(std::string{kGateway}.substr(0, 150));
  reload_last(*plane_, "SIGHUP");
  const json status = ask_well("GET", "/v1/status");
  EXPECT_EQ(status.at("reload").at("state"), "failed");
  EXPECT_EQ(status.at("reload").at("file"), file);
  EXPECT_FALSE(status.at("reload").at("diagnostics").empty());
  EXPECT_EQ(status.at("revision"), 1);
  EXPECT_EQ(plane_->reload_status().failures_total, 2U);
  EXPECT_EQ(plane_->reload_status().ok_total, 1U);
  ask_well("POST", "/v1/apply", {{"file", file}, {"text", kGateway}});
  EXPECT_EQ(ask_well("GET", "/v1/status").at("reload").at("state"), "ok");
}

TEST_F(PlaneTest, ARestartAdoptsWhatIsPinned) {
  add_neighbors();
  add_dns();
  const json loaded = load();
  const json before = ask_well("GET", "/v1/vips");
  send(udp_frame(wire::IpAddress::v4(203, 0, 113, 53), 53, 1000));
  start();
  EXPECT_EQ(ask_well("GET", "/v1/vips"), before);
  const json status = ask_well("GET", "/v1/status");
  EXPECT_EQ(status.at("devices")[0].at("program_id"), loaded.at("devices")[0].at("program_id"));
  EXPECT_EQ(ask_well("GET", "/v1/stats").at("total").at("packets"), 1) << "counters were kept";
}

TEST_F(PlaneTest, TrafficFlowsWhileNoDaemonRuns) {
  add_neighbors();
  add_dns();
  load();
  plane_.reset();
  for (std::uint16_t port = 1; port <= 50; ++port)
    send(udp_frame(wire::IpAddress::v4(203, 0, 113, 53), 53, port));
  start();
  const json stats = ask_well("GET", "/v1/stats");
  EXPECT_EQ(packets_of(stats, "tx_ipip"), 50U);
}

TEST_F(PlaneTest, EveryPacketEndsInExactlyOneVerdict) {
  const UniqueFd counting{::bpf_enable_stats(BPF_STATS_RUN_TIME)};
  ASSERT_TRUE(counting);
  add_neighbors();
  add_dns();
  load();
  for (std::uint16_t port = 1; port <= 100; ++port) {
    send(udp_frame(wire::IpAddress::v4(203, 0, 113, 53), 53, port));
    send(udp_frame(wire::IpAddress::v4(203, 0, 113, 53), 54, port));
    send(udp_frame(wire::IpAddress::v4(192, 0, 2, 1), 53, port));
  }
  const json stats = ask_well("GET", "/v1/stats", {}, {{"vip", kVip}});
  EXPECT_EQ(packets_of(stats, "tx_ipip"), 100U);
  EXPECT_EQ(packets_of(stats, "tx_refused"), 100U);
  EXPECT_EQ(packets_of(stats, "pass_not_a_vip"), 100U);
  EXPECT_EQ(stats.at("total").at("packets"), 300);
  EXPECT_EQ(stats.at("program_runs"), 300);
  const json& vip = stats.at("vips").at(0);
  EXPECT_EQ(vip.at("packets"), 100);
  EXPECT_EQ(vip.at("new_flows"), 100);
  EXPECT_EQ(stats.at("flow_table").at("added"), 100);
  EXPECT_EQ(ask_well("GET", "/v1/status").at("flows"), 100);
  const auto sum = vip.at("backends")[0].at("packets").get<int>() +
                   vip.at("backends")[1].at("packets").get<int>();
  EXPECT_EQ(sum, 100);
}

TEST_F(PlaneTest, ATraceSaysHowAPacketWouldEndAndCountsNothing) {
  add_dns();
  ask_well("POST", "/v1/load", {{"devices", {"nic"}}});
  const json before = ask_well("GET", "/v1/stats")["verdicts"];
  const wire::IpAddress vip = wire::IpAddress::v4(203, 0, 113, 53);
  const json answer =
      ask_well("POST", "/v1/trace",
               {{"packets",
                 {hex_of(udp_frame(wire::IpAddress::v4(10, 9, 9, 9), 53, 4711)),
                  hex_of(udp_frame(vip, 54, 4711)), hex_of(udp_frame(vip, 53, 4711))}}});
  EXPECT_EQ(answer["device"], "nic");
  ASSERT_EQ(answer["packets"].size(), 3U);
  EXPECT_EQ(answer["packets"][0]["verdict"], "pass_not_a_vip");
  EXPECT_EQ(answer["packets"][1]["verdict"], "tx_refused");
  EXPECT_EQ(answer["packets"][0]["steps"][0]["text"], "198.51.100.1:4711 > 10.9.9.9:53 UDP; sound");
  const json& steps = answer["packets"][2]["steps"];
  ASSERT_GE(steps.size(), 4U);
  EXPECT_EQ(steps[3]["step"], "service");
  EXPECT_EQ(ask_well("GET", "/v1/stats")["verdicts"], before);
  EXPECT_EQ(ask_well("GET", "/v1/status")["flows"], 0);
  for (const json& wrong :
       {json{{"packets", json::array()}}, json{{"packets", {"0g"}}}, json{{"packets", {"00"}}},
        json{{"packets", {std::string(2 * 3401, '0')}}}, json{{"packets", 7}}, json::object()})
    EXPECT_EQ(ask("POST", "/v1/trace", wrong).status, 400) << wrong;
  EXPECT_EQ(
      ask("POST", "/v1/trace", {{"packets", {std::string(120, '0')}}, {"device", "lo"}}).status,
      404);
}

TEST_F(PlaneTest, ATraceOfAFlowThatIsTranslatedLeavesNoRecordBehind) {
  add_neighbors();
  load();
  add_nat(80);
  const auto syn = syn_frame(wire::IpAddress::v4(203, 0, 113, 53), 80, 1000);
  const auto traced = [&] {
    const json answer = ask_well("POST", "/v1/trace", {{"packets", {hex_of(syn)}}});
    EXPECT_EQ(answer["packets"][0]["verdict"], "tx_nat") << answer;
    std::string nat;
    for (const json& step : answer["packets"][0]["steps"])
      if (step["step"] == "nat") nat += step["text"].get<std::string>() + "\n";
    return nat;
  };
  EXPECT_EQ(traced().find("not in the NAT table"), 0U);
  EXPECT_EQ(ask_well("GET", "/v1/stats").at("nat").at("records"), 0);
  send(syn);
  EXPECT_EQ(traced().find("in the NAT table: "), 0U) << "the copy has the running flows";
  EXPECT_EQ(ask_well("GET", "/v1/stats").at("nat").at("records"), 1);
}

TEST_F(PlaneTest, ANeighborThatMovesIsFollowed) {
  add_dns();
  load();
  const auto hop = [&] {
    plane_->on_network_change();
    return ask_well("GET", "/v1/vips").at("vips")[0].at("backends")[0].at("next_hop");
  };
  EXPECT_EQ(hop().at("state"), "resolving");
  send(udp_frame(wire::IpAddress::v4(203, 0, 113, 53), 53, 1));
  EXPECT_EQ(packets_of(ask_well("GET", "/v1/stats"), "drop_no_next_hop"), 1U);
  ASSERT_TRUE(run("ip neigh replace 10.0.2.11 lladdr 02:00:00:00:00:0b dev nic"));
  EXPECT_EQ(hop().at("mac"), "02:00:00:00:00:0b");
  EXPECT_EQ(hop().at("state"), "resolved");
  EXPECT_EQ(hop().at("source"), "10.0.2.1");
  ASSERT_TRUE(run("ip neigh replace 10.0.2.11 lladdr 02:00:00:00:00:0d dev nic"));
  EXPECT_EQ(hop().at("mac"), "02:00:00:00:00:0d");
  ASSERT_TRUE(run("ip addr add 10.0.2.11/32 dev lo"));
  EXPECT_EQ(hop().at("state"), "local");
}

TEST_F(PlaneTest, AChangeOfBackendsKeepsKnownFlows) {
  add_neighbors();
  add_dns();
  load();
  const auto flows = [&] {
    for (std::uint16_t port = 1; port <= 50; ++port)
      send(udp_frame(wire::IpAddress::v4(203, 0, 113, 53), 53, port));
    return ask_well("GET", "/v1/stats").at("vips")[0];
  };
  const json before = flows();
  ask_well("POST", "/v1/backends", {{"vip", kVip}, {"address", "10.0.2.13"}});
  ask_well("POST", "/v1/backends",
           {{"vip", kVip}, {"address", "10.0.2.12"}, {"state", "draining"}});
  const json after = flows();
  EXPECT_EQ(after.at("new_flows"), 50) << "all flows are known";
  for (int i = 0; i < 2; ++i)
    EXPECT_EQ(after.at("backends")[i].at("packets").get<int>(),
              2 * before.at("backends")[i].at("packets").get<int>());
  EXPECT_EQ(after.at("backends")[2].at("packets"), 0);
}

/// A file with a VIP of each kind that remembers flows, and the words of node.
std::string file_with_node(const std::string& node) {
  return "version: 1\nnode: {" + node + R"(}
vips:
- {name: dns, address: 203.0.113.53, port: 53, protocol: UDP, table: {size: 251},
   forward: {mode: ipip}, backends: [{address: 10.0.2.11}, {address: 10.0.2.12}]}
- {name: voice, address: 203.0.113.53, port: 80, protocol: UDP, table: {size: 251},
   forward: {mode: nat}, backends: [{address: 10.0.2.11}, {address: 10.0.2.12}]}
)";
}

TEST_F(PlaneTest, AChangeOfTheHashSeedKeepsKnownFlows) {
  const wire::IpAddress vip = wire::IpAddress::v4(203, 0, 113, 53);
  add_neighbors();
  apply(file_with_node("interfaces: [nic], hashSeed: {text: the first seed of all}"));
  const auto flows = [&] {
    for (std::uint16_t port = 1; port <= 50; ++port) {
      send(udp_frame(vip, 53, port));
      send(udp_frame(vip, 80, port));  // a SYN's record would be gone after ten seconds
    }
    return ask_well("GET", "/v1/stats");
  };
  const json before = flows();
  ASSERT_EQ(before.at("vips").size(), 2U);
  start();  // what the flow table's keys come from is read back
  const json answer =
      apply(file_with_node("interfaces: [nic], hashSeed: {text: another seed of enough bytes}"));
  EXPECT_EQ(answer.at("changes"), json({"change the hash seed: new flows are spread anew"}));
  const json after = flows();
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(after.at("vips")[i].at("new_flows"), 50) << "all flows are known";
    for (int j = 0; j < 2; ++j) {
      const auto packets = before.at("vips")[i].at("backends")[j].at("packets").get<int>();
      EXPECT_GT(packets, 0);
      EXPECT_EQ(after.at("vips")[i].at("backends")[j].at("packets").get<int>(), 2 * packets);
    }
  }
  EXPECT_EQ(after.at("nat").at("records"), 50);
  const json traced = ask_well("POST", "/v1/trace", {{"packets", {hex_of(udp_frame(vip, 53, 7))}}});
  EXPECT_NE(traced.at("packets")[0].at("steps").dump().find("in the flow table: "),
            std::string::npos)
      << "the tracing program has other keys than the one that runs: " << traced;
}

TEST_F(PlaneTest, WithoutAFlowTableAChangeOfTheHashSeedSaysThatItMovesAllFlows) {
  apply("version: 1\nnode: {interfaces: [nic], l4: {flows: 0}}\n");
  const json answer = apply(
      "version: 1\nnode: {interfaces: [nic], l4: {flows: 0}, hashSeed: {text: sixteen and "
      "more}}\n");
  EXPECT_EQ(answer.at("changes"), json({"change the hash seed: all flows are spread anew"}));
}

TEST_F(PlaneTest, TheFlowTableOfEachLoadHasKeysOfItsOwn) {
  const auto secret = [&] {
    load();
    const SipKey drawn = plane_->datapath().constants().flow_secret;
    ask_well("POST", "/v1/unload");
    return drawn;
  };
  const SipKey first = secret();
  EXPECT_NE(first.words[0], 0U);
  EXPECT_NE(first.words[1], 0U);
  EXPECT_FALSE(first == secret());
}

TEST_F(PlaneTest, AChangedSizeOfTheFlowTableIsWarnedOfByTheNameThatTheFileHas) {
  apply("version: 1\nnode: {interfaces: [nic], l4: {flows: 8192}}\n");
  EXPECT_EQ(ask_well("GET", "/v1/status").at("warnings").dump().find("node.l4.flows"),
            std::string::npos);
  apply("version: 1\nnode: {interfaces: [nic], l4: {flows: 16384}}\n");
  EXPECT_NE(ask_well("GET", "/v1/status")
                .at("warnings")
                .dump()
                .find("node.l4.flows is 16384, but the running flow table has 8192 entries"),
            std::string::npos);
}

TEST_F(PlaneTest, AWatcherFollowsAVipThatIsReplaced) {
  const wire::IpAddress vip = wire::IpAddress::v4(203, 0, 113, 53);
  add_neighbors();
  const auto apply_table = [&](const std::string& vips) {
    apply("version: 1\nnode: {interfaces: [nic]}\nvips: [" + vips + "]\n");
  };
  const std::string dns =
      "{name: dns, address: 203.0.113.53, port: 53, protocol: UDP, forward: {mode: ipip}, "
      "backends: [{address: 10.0.2.11}], table: {size: ";
  apply_table(dns + "251}}");
  std::mutex mutex;
  control::AdminReply reply =
      watch_packets(*plane_, mutex, {"GET", "/v1/monitor", {{"vip", kVip}}, {}});
  ASSERT_EQ(reply.status, 200) << reply.body;
  const auto seen = [&] {
    static_cast<void>(reply.more());  // in which it hears of the change
    send(udp_frame(vip, 53, 1000));
    std::size_t events = 0;
    std::string lines;
    for (int i = 0; i < 5 && events == 0; ++i) {
      lines = reply.more().value_or("");
      for (std::size_t at = lines.find("\"verdict\""); at != std::string::npos;
           at = lines.find("\"verdict\"", at + 1))
        ++events;
    }
    return events;
  };
  EXPECT_EQ(seen(), 1U);
  apply_table(dns + "509}}");
  EXPECT_EQ(seen(), 1U) << "its table has another size, and the VIP another id";
  apply_table("");
  EXPECT_EQ(seen(), 0U) << "that it is gone does not mean that all are watched";
  apply_table(dns + "509}}");
  EXPECT_EQ(seen(), 1U);
}

TEST(AnswersPerCpu, AreTheShareOfACpuThatIsOnlineRoundedUp) {
  EXPECT_EQ(answers_per_cpu(1000, 4), 250U);
  EXPECT_EQ(answers_per_cpu(1000, 3), 334U);
  EXPECT_EQ(answers_per_cpu(0, 3), 0U);
  EXPECT_GE(online_cpus(), 1U);
  EXPECT_LE(online_cpus(), static_cast<std::uint32_t>(::libbpf_num_possible_cpus()));
}

TEST_F(PlaneTest, AForeignProgramIsRefusedByNameAndSurvives) {
  const UniqueFd program = foreign_program();
  ASSERT_TRUE(program);
  const int ifindex = static_cast<int>(::if_nametoindex("nic"));
  ASSERT_EQ(::bpf_xdp_attach(ifindex, program.get(), 0, nullptr), 0);
  const control::AdminReply reply = ask("POST", "/v1/load", {{"devices", {"nic"}}});
  EXPECT_EQ(reply.status, 409) << reply.body;
  const json error = json::parse(reply.body);
  EXPECT_NE(error.at("detail").get<std::string>().find("nic carries the XDP program foreign (id"),
            std::string::npos)
      << reply.body;
  EXPECT_NE(error.at("remedy").get<std::string>().find("xdp off"), std::string::npos);
  std::uint32_t id = 0;
  ASSERT_EQ(::bpf_xdp_query_id(ifindex, 0, &id), 0);
  EXPECT_NE(id, 0U);
  EXPECT_FALSE(fs::exists(options_.pin_directory)) << "nothing may be left of the attempt";
}

TEST_F(PlaneTest, AllDevicesOrNone) {
  EXPECT_EQ(ask("POST", "/v1/load", {{"devices", {"nic", "missing"}}}).status, 404);
  EXPECT_FALSE(plane_->loaded());
  EXPECT_EQ(plane_->desired().revision, 0U);
  EXPECT_TRUE(Datapath::check_device("nic", false));
}

TEST_F(PlaneTest, AStepThatFailsLateTakesTheEarlierStepsBack) {
  load();
  const json before = ask_well("GET", "/v1/status").at("devices");
  // The second device refuses native mode, which shows only when everything else is done.
  const control::AdminReply reply =
      ask("POST", "/v1/load", {{"devices", {"lo"}}, {"mode", "native"}});
  EXPECT_EQ(reply.status, 501) << reply.body;
  EXPECT_EQ(ask_well("GET", "/v1/status").at("devices"), before);
  EXPECT_EQ(plane_->desired().revision, 1U);
}

TEST_F(PlaneTest, AutoTellsWhyItIsGeneric) {
  const json device = load("lo").at("devices")[0];
  EXPECT_EQ(device.at("mode"), "generic");
  EXPECT_NE(device.at("reason").get<std::string>().find("refused native mode"), std::string::npos);
}

TEST_F(PlaneTest, AnotherAbiVersionIsRefusedUntilUnload) {
  add_dns();
  load();
  plane_.reset();
  const UniqueFd state{
      ::bpf_obj_get((fs::path{options_.pin_directory} / "maps" / "weir_state").c_str())};
  ASSERT_TRUE(state);
  const std::uint32_t key = 0;
  std::array<std::uint32_t, 16> value{};
  bpf_map_info info{};
  std::uint32_t info_size = sizeof(info);
  ASSERT_EQ(::bpf_obj_get_info_by_fd(state.get(), &info, &info_size), 0);
  ASSERT_EQ(info.value_size, sizeof(value));
  ASSERT_EQ(::bpf_map_lookup_elem(state.get(), &key, value.data()), 0);
  value[0] = WEIR_ABI_VERSION + 1;
  ASSERT_EQ(::bpf_map_update_elem(state.get(), &key, value.data(), BPF_ANY), 0);

  start();
  const json warnings = ask_well("GET", "/v1/status").at("warnings");
  EXPECT_NE(warnings[0].get<std::string>().find("weir unload"), std::string::npos);
  EXPECT_EQ(ask("POST", "/v1/load", {{"devices", {"nic"}}, {"mode", "native"}}).status, 501);
  EXPECT_FALSE(Datapath::check_device("nic", false)) << "its traffic was stopped unasked";
  ask_well("POST", "/v1/unload");
  load();
}

TEST_F(PlaneTest, SettingsChangeWithoutDetaching) {
  load();
  const json before = ask_well("GET", "/v1/status").at("devices")[0];
  apply(kGateway);  // two L7 workers instead of none
  const json after = ask_well("GET", "/v1/status").at("devices")[0];
  EXPECT_NE(after.at("program_id"), before.at("program_id"));
  EXPECT_EQ(plane_->datapath().settings().l7_workers, 2U);
  send(udp_frame(wire::IpAddress::v4(203, 0, 113, 10), 81, 1));
  EXPECT_EQ(packets_of(ask_well("GET", "/v1/stats"), "tx_refused"), 1U);
}

TEST_F(PlaneTest, ADaemonKilledAmidAReloadLeavesARunningDatapathAndTheNextOneRepairsIt) {
  apply(kGateway);
  plane_.reset();
  be_killed_after_the_first_rename([this] {
    start();
    apply("version: 1\nnode:\n  interfaces: [nic]\n");  // no L7 workers instead of two
  });
  const auto redirected = [this] {
    send(syn_frame(wire::IpAddress::v4(203, 0, 113, 10), 80, 1000));
    return packets_of(ask_well("GET", "/v1/stats"), "redirect_l7");
  };
  send(syn_frame(wire::IpAddress::v4(203, 0, 113, 10), 80, 1000));  // while no daemon runs
  start();
  EXPECT_EQ(plane_->desired().revision, 1U) << "the change was never acknowledged";
  EXPECT_EQ(redirected(), 2U) << "the program does not know the workers";
  const json repaired = ask_well("GET", "/v1/status").at("devices")[0];
  start();
  EXPECT_EQ(redirected(), 3U);
  EXPECT_EQ(ask_well("GET", "/v1/status").at("devices")[0], repaired) << "repaired once, not twice";
}

TEST_F(PlaneTest, TheFirstVipInModeNatBringsTheTableToARunningBalancer) {
  add_neighbors();
  add_dns();
  load();
  EXPECT_TRUE(ask_well("GET", "/v1/stats").at("nat").is_null());
  const json without = ask_well("GET", "/v1/status").at("devices")[0];
  add_nat(80);
  const json with = ask_well("GET", "/v1/status").at("devices")[0];
  EXPECT_NE(with.at("program_id"), without.at("program_id"));
  send(syn_frame(wire::IpAddress::v4(203, 0, 113, 53), 80, 1000));
  start();
  add_nat(81);
  EXPECT_EQ(ask_well("GET", "/v1/status").at("devices")[0], with) << "the table is there already";
  send(syn_frame(wire::IpAddress::v4(203, 0, 113, 53), 81, 1000));
  const json stats = ask_well("GET", "/v1/stats");
  EXPECT_EQ(packets_of(stats, "tx_nat"), 2U);
  EXPECT_EQ(stats.at("nat").at("records"), 2);
  EXPECT_EQ(stats.at("nat").at("unanswered"), 2);
  EXPECT_EQ(stats.at("nat").at("records_max"), 65536);
  EXPECT_EQ(stats.at("nat").at("port_changed"), 2) << "1000 is below the range of full NAT";
}

TEST_F(PlaneTest, ADaemonKilledAmidMakingTheNatTableIsSucceeded) {
  add_neighbors();
  load();
  plane_.reset();
  be_killed_after_the_first_rename([this] {
    start();
    add_nat(80);
  });
  start();
  EXPECT_TRUE(ask_well("GET", "/v1/vips").at("vips").empty()) << "it was never acknowledged";
  add_nat(80);
  send(syn_frame(wire::IpAddress::v4(203, 0, 113, 53), 80, 1000));
  const json stats = ask_well("GET", "/v1/stats");
  EXPECT_EQ(packets_of(stats, "tx_nat"), 1U);
  EXPECT_EQ(stats.at("nat").at("records"), 1);
}

TEST_F(PlaneTest, PinsThatCannotBeReadBackAfterAFailureRefuseChangesUntilTheyCan) {
  add_dns();
  load();
  const UniqueFd vips{
      ::bpf_obj_get((fs::path{options_.pin_directory} / "maps" / "weir_vips").c_str())};
  ASSERT_TRUE(vips);
  const std::uint32_t key = plane_->installed().at(*control::parse_vip_key(kVip)).id.value();
  weir_vip entry{};
  ASSERT_EQ(::bpf_map_lookup_elem(vips.get(), &key, &entry), 0);
  weir_vip damaged = entry;
  damaged.mode = 99;
  ASSERT_EQ(::bpf_map_update_elem(vips.get(), &key, &damaged, BPF_ANY), 0);
  EXPECT_EQ(ask("POST", "/v1/load", {{"devices", {"lo"}}, {"mode", "native"}}).status, 501);

  const json another = {{"vip", "203.0.113.54:53/udp"}};
  const control::AdminReply reply = ask("POST", "/v1/vips", another);
  EXPECT_EQ(reply.status, 501);
  EXPECT_NE(reply.body.find("unknown mode"), std::string::npos) << reply.body;
  ASSERT_EQ(::bpf_map_update_elem(vips.get(), &key, &entry, BPF_ANY), 0);
  ask_well("POST", "/v1/vips", another);
  EXPECT_EQ(plane_->installed().size(), 2U);
}

TEST_F(PlaneTest, ApplyingTheSameFileAgainIsNoRevision) {
  const json first = apply(kGateway);
  const json second = apply(kGateway);
  EXPECT_EQ(second.at("revision"), first.at("revision"));
  EXPECT_TRUE(second.at("changes").empty());
}

TEST_F(PlaneTest, AFileThatNamesAnUnknownDeviceChangesNothing) {
  std::string text = kGateway;
  text.replace(text.find("nic"), 3, "nix");
  const control::AdminReply reply =
      ask("POST", "/v1/apply", {{"file", "/etc/weir/weir.yaml"}, {"text", text}});
  EXPECT_EQ(reply.status, 422) << reply.body;
  EXPECT_FALSE(plane_->loaded());
  EXPECT_EQ(plane_->desired().revision, 0U);
}

TEST_F(PlaneTest, AVipWithTheNodesOwnAddressIsRefused) {
  const control::AdminReply reply = ask("POST", "/v1/vips", {{"vip", "10.0.2.1:22/tcp"}});
  EXPECT_EQ(reply.status, 409) << reply.body;
}

TEST_F(PlaneTest, ListsOfSourcesAreCountedInTheListOfVipsAndShownForOne) {
  ask_well("POST", "/v1/vips",
           {{"vip", kVip},
            {"table_size", 251},
            {"sources", {{"deny", {"192.0.2.0/24", "2001:db8::/32"}}}},
            {"limits", {{"packets", 5}}}});
  const json all = ask_well("GET", "/v1/vips").at("vips")[0];
  EXPECT_EQ(all.at("sources_denied"), 2);
  EXPECT_EQ(all.at("limits").at("packets"), 5);
  EXPECT_FALSE(all.contains("sources"));
  const json one = ask_well("GET", "/v1/vips", {}, {{"vip", kVip}}).at("vips")[0];
  EXPECT_EQ(one.at("sources").at("deny"), json({"192.0.2.0/24", "2001:db8::/32"}));
  EXPECT_EQ(ask("GET", "/v1/vips", {}, {{"vip", "203.0.113.99:53/udp"}}).status, 404);
  EXPECT_EQ(ask("GET", "/v1/vips", {}, {{"vip", "x"}}).status, 400);
}

TEST_F(PlaneTest, AnApplyNamesWhatChangesForTheNodeAndWhatWasRounded) {
  const json answer =
      apply("version: 1\nnode: {sources: {deny: [192.0.2.0/24]}, l4: {natFlows: 3000}}\n");
  EXPECT_EQ(answer.at("changes"),
            json({"block list: 1 prefixes more, 0 fewer",
                  "NAT table: 4096 records instead of 65536, at the next load"}));
  EXPECT_NE(answer.at("warnings").dump().find("'3000', rounded up to 4Ki"), std::string::npos)
      << answer;
}

TEST_F(PlaneTest, RangesThatCrossAreRefusedAcrossFileAndHand) {
  apply(
      "version: 1\nvips:\n- {name: a, address: 203.0.113.7, port: 5000-5999, protocol: TCP, "
      "forward: {mode: ipip}, backends: []}\n");
  const control::AdminReply reply = ask("POST", "/v1/vips", {{"vip", "203.0.113.7:5500-6500/tcp"}});
  EXPECT_EQ(reply.status, 400) << reply.body;
  EXPECT_NE(reply.body.find("overlap 5000-5999"), std::string::npos) << reply.body;
  EXPECT_EQ(plane_->desired().revision, 1U);
}

TEST_F(PlaneTest, AVipOfTheFileIsNotChangedByHand) {
  apply(kGateway);
  EXPECT_EQ(ask("DELETE", "/v1/vips", {}, {{"vip", "203.0.113.10:80/tcp"}}).status, 409);
  EXPECT_EQ(ask("DELETE", "/v1/vips", {}, {{"vip", "203.0.113.11:80/tcp"}}).status, 404);
}

TEST_F(PlaneTest, TheSecondWriterIsRefused) {
  const Result<std::unique_ptr<Plane>> second = Plane::open(options_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), ErrorCode::kConflict);
}

TEST_F(PlaneTest, ADeviceThatComesBackIsLoadedAgain) {
  apply(kGateway);
  ASSERT_TRUE(run("ip link del nic"));
  plane_->on_network_change();
  plane_->on_tick(monotonic_now());
  ASSERT_TRUE(
      run("ip link add nic type veth peer name wire && ip link set nic up && "
          "ip link set wire up"));
  plane_->on_network_change();
  plane_->on_tick(monotonic_now() + std::chrono::seconds{60});
  const json devices = ask_well("GET", "/v1/status").at("devices");
  ASSERT_EQ(devices.size(), 1U);
  EXPECT_EQ(devices[0].at("ifindex"), ::if_nametoindex("nic"));
}

TEST_F(PlaneTest, ALostStateDirectoryDoesNotStopTraffic) {
  add_neighbors();
  add_dns();
  load();
  plane_.reset();
  fs::remove_all(options_.state_directory);
  start();
  send(udp_frame(wire::IpAddress::v4(203, 0, 113, 53), 53, 1));
  EXPECT_EQ(packets_of(ask_well("GET", "/v1/stats"), "tx_ipip"), 1U);
  ask_well("POST", "/v1/vips", {{"vip", "203.0.113.54:53/udp"}});
  EXPECT_EQ(ask_well("GET", "/v1/vips").at("vips").size(), 2U);
}

TEST_F(PlaneTest, AChainIsJoinedOrRefusedWithoutATrace) {
  const control::AdminReply reply =
      ask("POST", "/v1/load", {{"devices", {"nic"}}, {"chain", true}});
  if (reply.status == 200) {
    EXPECT_TRUE(json::parse(reply.body).at("devices")[0].at("chained").get<bool>());
    ask_well("POST", "/v1/unload");
  } else {
    const json error = json::parse(reply.body);
    EXPECT_NE(error.at("remedy").get<std::string>().find("without --chain"), std::string::npos)
        << reply.body;
  }
  EXPECT_TRUE(Datapath::check_device("nic", false));
  EXPECT_FALSE(fs::exists(options_.pin_directory));
}

}  // namespace
}  // namespace weir::l4
