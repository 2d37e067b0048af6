#include "l7/port/dpdk_port.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <ostream>
#include <thread>
#include <vector>

#include "l7/port/start_checks.h"
#include "tests/support/veth_namespace.h"

namespace weir::port {
namespace {

using ::testing::HasSubstr;
using weir::testing::VethNamespace;

constexpr std::uint16_t kTestEtherType = 0x88b5;  // IEEE 802: for local experiments
constexpr std::size_t kFrameHeader = 14;

/// The kernel's end of the veth, as a raw socket that sees only our own frames.
class RawEnd {
 public:
  RawEnd() : socket_{::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)} {
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(kTestEtherType);
    address.sll_ifindex = static_cast<int>(::if_nametoindex("host"));
    EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)),
              0);
    const int bytes = 16 * 1024 * 1024;
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
  }

  void send(std::span<const std::uint8_t> frame) {
    EXPECT_EQ(::send(socket_.get(), frame.data(), frame.size(), 0),
              static_cast<ssize_t>(frame.size()));
  }

  [[nodiscard]] std::vector<std::uint8_t> receive() {
    std::vector<std::uint8_t> frame(4096);
    const ssize_t length = ::recv(socket_.get(), frame.data(), frame.size(), MSG_DONTWAIT);
    frame.resize(static_cast<std::size_t>(std::max<ssize_t>(0, length)));
    return frame;
  }

 private:
  UniqueFd socket_;
};

/// A frame whose content is a function of its number.
std::vector<std::uint8_t> numbered_frame(std::uint32_t number, std::size_t length) {
  std::vector<std::uint8_t> frame(length, 0xff);
  frame[12] = kTestEtherType >> 8;
  frame[13] = kTestEtherType & 0xff;
  for (std::size_t i = 0; i < 4; ++i)
    frame[kFrameHeader + i] = static_cast<std::uint8_t>(number >> (8 * i));
  for (std::size_t i = kFrameHeader + 4; i < length; ++i)
    frame[i] = static_cast<std::uint8_t>(number * 31 + i);
  return frame;
}

class DpdkPortTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (auto rights = check_rights(0); !rights) GTEST_SKIP() << rights.error().text();
    if (auto pages = check_huge_pages(64 << 20); !pages) GTEST_SKIP() << pages.error().text();
    Result<VethNamespace> created = VethNamespace::create();
    if (!created) GTEST_SKIP() << created.error().text();
    namespace_.emplace(std::move(*created));
    const Result<void> started = start_dpdk({});
    ASSERT_TRUE(started) << started.error().text();
  }

  static Result<std::unique_ptr<DpdkPort>> open_worker() {
    return DpdkPort::open({.device = "worker", .frames = 16383});
  }

  std::optional<VethNamespace> namespace_;
};

TEST_F(DpdkPortTest, TheDeviceTellsItsAddressAndMtu) {
  ASSERT_TRUE(VethNamespace::ip("link set worker address 02:00:00:00:00:07"));
  auto port = open_worker();
  ASSERT_TRUE(port) << port.error().text();
  EXPECT_EQ((*port)->capabilities().mac.text(), "02:00:00:00:00:07");
  EXPECT_EQ((*port)->capabilities().mtu, 1500);
}

TEST_F(DpdkPortTest, FewerFramesThanTheRingsTakeAreRefusedWithTheirNumber) {
  const auto port = DpdkPort::open({.device = "worker", .frames = 127});
  ASSERT_FALSE(port);
  EXPECT_NE(port.error().text().find("127 packet buffers, expected at least 4095"),
            std::string::npos)
      << port.error().text();
}

/// Echoes what has arrived at the port, keeping what a send() refuses.
class Echo {
 public:
  explicit Echo(DpdkPort& port) : port_{port} {}

  void turn() {
    if (waiting_.size() < 4096) {
      std::array<Packet, 64> burst;
      const std::size_t count = port_.receive(burst);
      for (std::size_t i = 0; i < count; ++i)
        waiting_.push_back(std::move(burst[i]));
    }
    const std::size_t sent = port_.send(waiting_);
    waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(sent));
  }

 private:
  DpdkPort& port_;
  std::vector<Packet> waiting_;
};

TEST_F(DpdkPortTest, TwentyThousandFramesComeBackInOrderAndUnchanged) {
  auto port = open_worker();
  ASSERT_TRUE(port) << port.error().text();
  RawEnd host;
  Echo echo{**port};
  constexpr std::uint32_t kFrames = 20000;
  constexpr std::uint32_t kOutstanding = 64;
  std::uint32_t sent = 0;
  std::uint32_t received = 0;
  std::uint32_t idle = 0;
  const auto length_of = [](std::uint32_t n) { return 60 + (n * 37) % 1455; };  // up to 1514
  while (received < kFrames && idle < 1000000) {
    if (sent < kFrames && sent - received < kOutstanding) {
      host.send(numbered_frame(sent, length_of(sent)));
      ++sent;
    }
    echo.turn();
    const std::vector<std::uint8_t> frame = host.receive();
    idle = frame.empty() ? idle + 1 : 0;
    if (frame.empty()) continue;
    ASSERT_EQ(frame, numbered_frame(received, length_of(received))) << "frame " << received;
    ++received;
  }
  EXPECT_EQ(received, kFrames);
  const PortCounters counters = (*port)->counters();
  EXPECT_EQ(counters.received_frames, kFrames);
  EXPECT_EQ(counters.sent_frames, kFrames);
  EXPECT_EQ(counters.sent_bytes, counters.received_bytes);
  EXPECT_EQ(counters.invalid_descriptors, 0U);  // every frame lies in registered memory
  EXPECT_EQ(counters.receive_no_buffer, 0U);
  EXPECT_EQ(counters.receive_overflow, 0U);
}

TEST_F(DpdkPortTest, EveryFrameOfThePoolCanBeSent) {
  auto port = open_worker();
  ASSERT_TRUE(port) << port.error().text();
  RawEnd host;
  // Holding all that is left sends from every place of the pool, its very end included.
  std::vector<Packet> held;
  for (Packet packet = (*port)->allocate(); packet; packet = (*port)->allocate())
    held.push_back(std::move(packet));
  EXPECT_GT(held.size(), 12000U);
  EXPECT_EQ((*port)->counters().pool_exhausted, 1U);
  std::uint32_t number = 0;
  std::uint32_t received = 0;
  for (Packet& packet : held) {
    const std::vector<std::uint8_t> frame = numbered_frame(number++, 60);
    std::ranges::copy(std::as_bytes(std::span{frame}), packet.append(frame.size()).begin());
    while ((*port)->send(std::span{&packet, 1}) == 0)
      (*port)->reap();
    for (auto seen = host.receive(); !seen.empty(); seen = host.receive()) {
      ASSERT_EQ(seen, numbered_frame(received, 60));
      ++received;
    }
  }
  EXPECT_EQ(received, held.size());
  EXPECT_EQ((*port)->counters().invalid_descriptors, 0U);
}

TEST_F(DpdkPortTest, SentBuffersComeBackByReaping) {
  auto port = open_worker();
  ASSERT_TRUE(port) << port.error().text();
  RawEnd host;
  const std::vector<std::uint8_t> frame = numbered_frame(1, 60);
  // Many more frames than the pool holds, and nothing is ever received.
  for (std::uint32_t round = 0; round < 40000; ++round) {
    Packet packet = (*port)->allocate();
    if (!packet) {
      (*port)->reap();
      packet = (*port)->allocate();
    }
    ASSERT_TRUE(packet) << "round " << round;
    std::ranges::copy(std::as_bytes(std::span{frame}), packet.append(frame.size()).begin());
    if ((*port)->send(std::span{&packet, 1}) == 0) (*port)->reap();
    static_cast<void>(host.receive());
  }
}

TEST_F(DpdkPortTest, AnArrivingFrameEndsTheWait) {
  auto port = open_worker();
  ASSERT_TRUE(port) << port.error().text();
  RawEnd host;
  std::array<Packet, 4> burst;
  ASSERT_EQ((*port)->receive(burst), 0U);
  host.send(numbered_frame(7, 60));
  const Instant before = monotonic_now();
  (*port)->wait(std::chrono::seconds{20}, -1);
  EXPECT_LT(monotonic_now() - before, std::chrono::seconds{10});
  EXPECT_EQ((*port)->receive(burst), 1U);
}

TEST_F(DpdkPortTest, TheWakeDescriptorEndsTheWait) {
  auto port = open_worker();
  ASSERT_TRUE(port) << port.error().text();
  const UniqueFd wake{::eventfd(1, EFD_CLOEXEC)};
  const Instant before = monotonic_now();
  (*port)->wait(std::chrono::seconds{20}, wake.get());
  EXPECT_LT(monotonic_now() - before, std::chrono::seconds{10});
}

TEST_F(DpdkPortTest, AQuietPortWaitsItsTime) {
  auto port = open_worker();
  ASSERT_TRUE(port) << port.error().text();
  const UniqueFd wake{::eventfd(0, EFD_CLOEXEC)};
  const Instant before = monotonic_now();
  (*port)->wait(std::chrono::milliseconds{30}, wake.get());
  EXPECT_GE(monotonic_now() - before, std::chrono::milliseconds{29});
}

TEST_F(DpdkPortTest, AClosedPortLeavesNoProgramBehindAndCanBeOpenedAgain) {
  for (int round = 0; round < 3; ++round) {
    auto port = open_worker();
    ASSERT_TRUE(port) << "round " << round << ": " << port.error().text();
    EXPECT_NE(find_device("worker")->xdp_program_id, 0U);
    port->reset();
    EXPECT_EQ(find_device("worker")->xdp_program_id, 0U);
  }
}

/// Attaches a two-instruction program ("pass everything") the way the balancer does: by a link.
UniqueFd attach_foreign_program(int device_index) {
  const std::array<bpf_insn, 2> code = {
      bpf_insn{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 2},
      bpf_insn{.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
  bpf_attr load{};
  load.prog_type = BPF_PROG_TYPE_XDP;
  load.insns = reinterpret_cast<std::uint64_t>(code.data());
  load.insn_cnt = code.size();
  load.license = reinterpret_cast<std::uint64_t>("BSD");
  std::ranges::copy(std::string_view{"foreign"}, load.prog_name);
  const UniqueFd program{static_cast<int>(::syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof(load)))};
  bpf_attr link{};
  link.link_create.prog_fd = static_cast<std::uint32_t>(program.get());
  link.link_create.target_ifindex = static_cast<std::uint32_t>(device_index);
  link.link_create.attach_type = BPF_XDP;
  return UniqueFd{static_cast<int>(::syscall(SYS_bpf, BPF_LINK_CREATE, &link, sizeof(link)))};
}

TEST_F(DpdkPortTest, AForeignProgramIsNamedAndLeftAlone) {
  const Result<Device> device = find_device("worker");
  ASSERT_TRUE(device) << device.error().text();
  const UniqueFd link = attach_foreign_program(device->index);
  ASSERT_TRUE(link) << std::strerror(errno);
  const std::uint32_t id = find_device("worker")->xdp_program_id;
  ASSERT_NE(id, 0U);
  const auto port = open_worker();
  ASSERT_FALSE(port);
  EXPECT_EQ(port.error().code(), ErrorCode::kConflict);
  EXPECT_THAT(port.error().text(), HasSubstr(fmt::format("'foreign' (id {})", id)));
  EXPECT_EQ(find_device("worker")->xdp_program_id, id);
}

TEST_F(DpdkPortTest, ASecondPortOnTheDeviceIsRefusedAndTheFirstGoesOn) {
  auto port = open_worker();
  ASSERT_TRUE(port) << port.error().text();
  const auto second = open_worker();
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), ErrorCode::kConflict);
  EXPECT_THAT(second.error().text(), HasSubstr("in use by another Weir port"));
  RawEnd host;
  host.send(numbered_frame(1, 60));
  std::array<Packet, 4> burst;
  EXPECT_EQ((*port)->receive(burst), 1U);
}

struct BadDevice {
  std::string_view name;
  std::string_view preparation;  // an `ip` command
  std::string_view device;
  std::string_view expectation;  // part of the message
  friend void PrintTo(const BadDevice& shown, std::ostream* out) { *out << shown.name; }
};
class BadDeviceTest : public DpdkPortTest, public ::testing::WithParamInterface<BadDevice> {};

TEST_P(BadDeviceTest, IsRefusedInOneLineThatSaysWhatToDo) {
  ASSERT_TRUE(VethNamespace::ip(GetParam().preparation));
  const auto port = DpdkPort::open({.device = std::string{GetParam().device}});
  ASSERT_FALSE(port);
  EXPECT_THAT(port.error().text(), HasSubstr(GetParam().expectation));
  EXPECT_FALSE(port.error().remedy().empty());
  EXPECT_EQ(port.error().text().find('\n'), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(, BadDeviceTest,
                         ::testing::Values(BadDevice{"ADeviceThatIsNotThere", "link", "nowhere",
                                                     "there is no device 'nowhere'"},
                                           BadDevice{"ADeviceThatIsDown", "link set worker down",
                                                     "worker", "'worker' is down"},
                                           BadDevice{"AnMtuBeyondOnePage",
                                                     "link set worker mtu 9000", "worker",
                                                     "has an MTU of 9000"}),
                         [](const auto& tested) { return std::string{tested.param.name}; });

TEST_F(DpdkPortTest, ThePortWorksAgainAfterAProcessWasKilledOnIt) {
  std::array<int, 2> pipe_ends{};
  ASSERT_EQ(::pipe(pipe_ends.data()), 0);
  // A fresh process image: a fork of a process that has started DPDK could not use it.
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(pipe_ends[1], STDOUT_FILENO);
    ::execl(WEIR_HOLD_PORT, WEIR_HOLD_PORT, "worker", nullptr);
    ::_exit(127);
  }
  const auto program_is_there = [] { return find_device("worker")->xdp_program_id != 0; };
  for (int i = 0; i < 1000 && !program_is_there(); ++i)
    ::poll(nullptr, 0, 10);
  ASSERT_TRUE(program_is_there());
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ::close(pipe_ends[0]);
  ::close(pipe_ends[1]);
  EXPECT_TRUE(program_is_there());  // a classic attachment outlives its process
  auto port = open_worker();
  ASSERT_TRUE(port) << port.error().text();
  RawEnd host;
  host.send(numbered_frame(1, 60));
  std::array<Packet, 4> burst;
  EXPECT_EQ((*port)->receive(burst), 1U);
}

}  // namespace
}  // namespace weir::port
