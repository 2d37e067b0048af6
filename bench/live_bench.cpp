#include "bench/live_bench.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <numeric>

#include "bench/own_veth.h"
#include "l4/base/clock.h"
#include "l4/base/fd.h"
#include "l4/datapath.h"
#include "l4/kernel_objects.h"
#include "l4/programmer.h"
#include "live.skel.h"

namespace weir::bench {
namespace {

using control::ForwardMode;

constexpr std::array kModes{ForwardMode::kIpip, ForwardMode::kGue, ForwardMode::kL2};
constexpr const char* kPinDirectory = "/sys/fs/bpf/weir-bench";
constexpr const char* kLockFile = "/run/weir-bench.lock";
constexpr std::uint32_t kBatch = 64;  // frames sent at once, a NAPI budget
constexpr std::uint32_t kPacketsPerCall = 64 * 1024;
constexpr std::uint8_t kBackends = 100;
constexpr std::uint16_t kFirstPort = 80;
constexpr std::size_t kFrameBytes = 60;
constexpr std::uint8_t kAck = 0x10;
constexpr std::uint8_t kSyn = 0x02;

struct DestroySkeleton {
  void operator()(live* skeleton) const { ::live__destroy(skeleton); }
};

/// What is sent, and what stands in its way.
struct Target {
  LiveRow row;
  int program = -1;
  std::uint32_t flow_mask = 0;
  std::uint8_t tcp_flags = kAck;
  std::uint16_t port = kFirstPort;
  bool returns = true;  ///< packets come back to the sender's end
};

const wire::IpAddress& vip_address() {
  static const wire::IpAddress address = wire::IpAddress::v4(198, 51, 100, 1);
  return address;
}

control::Vip vip_of(ForwardMode mode, std::uint16_t port) {
  control::Vip vip;
  vip.address = vip_address();
  vip.ports = {wire::Port{port}, wire::Port{port}};
  vip.mode = mode;
  for (std::uint8_t i = 1; i <= kBackends; ++i) {
    control::Backend backend;
    backend.address = wire::IpAddress::v4(192, 0, 2, i);
    vip.backends.push_back(backend);
  }
  return vip;
}

/// Every backend is behind the device that packets come in by, so that they are sent back.
l4::NextHop way_back(const OwnVeth::End& end) {
  l4::NextHop hop;
  hop.state = l4::NextHopState::kResolved;
  hop.ifindex = end.ifindex;
  hop.device = end.device;
  hop.source = wire::IpAddress::v4(192, 0, 2, 254);
  hop.mac = {{2, 0, 0, 0, 0, 1}};
  hop.source_mac = {{2, 0, 0, 0, 0, 2}};
  hop.mtu = 1500;
  return hop;
}

class Live {
 public:
  static Result<Live> set_up() {
    Live made;
    if (Result<void> taken = made.take_the_only_place(); !taken) return std::move(taken).error();
    Result<OwnVeth> veth = OwnVeth::create();
    if (!veth) return std::move(veth).error();
    made.veth_.emplace(*std::move(veth));
    if (Result<void> loaded = made.load_balancer(); !loaded) return std::move(loaded).error();
    if (Result<void> loaded = made.load_surroundings(); !loaded) return std::move(loaded).error();
    made.choose_targets();
    return made;
  }

  Live(Live&&) = default;
  Live& operator=(Live&&) = delete;
  ~Live() {
    // What is left behind after a failure is taken away when the next one begins.
    if (lock_) static_cast<void>(l4::Datapath::unload(kPinDirectory));
  }

  Result<std::vector<LiveRow>> measure(Duration share, const std::atomic<bool>& stop) {
    std::vector<LiveRow> rows;
    for (Target& target : targets_) {
      Result<double> rate = run(target, share, stop);
      if (!rate) return std::move(rate).error();
      target.row.packets_per_s = *rate;
      rows.push_back(target.row);
    }
    return rows;
  }

 private:
  Live() = default;

  /// Two would disturb each other, and share the pins' place.
  Result<void> take_the_only_place() {
    lock_ = UniqueFd{::open(kLockFile, O_RDWR | O_CREAT | O_CLOEXEC, S_IRUSR | S_IWUSR)};
    if (!lock_)
      return Error::from_errno(fmt::format("opening {}", kLockFile)).with_remedy("run it as root");
    if (::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0) {
      lock_.reset();  // whose pins these are is not this one's affair
      return Error{ErrorCode::kConflict, "another live_bench is running", "wait for its end"};
    }
    return l4::Datapath::unload(kPinDirectory);
  }

  Result<void> load_balancer() {
    l4::DatapathSettings settings;
    settings.hash_seed = {{0x0123456789abcdef, 0xfedcba9876543210}};
    Result<l4::Datapath> datapath = l4::Datapath::load(kPinDirectory, settings);
    if (!datapath) return std::move(datapath).error();
    if (Result<void> allowed = datapath->tables().allow_device(veth_->balancer().ifindex); !allowed)
      return allowed;
    Result<l4::Programmer> programmer = l4::Programmer::adopt(
        datapath->tables(), {.seed = settings.hash_seed, .ticks = datapath->constants().ticks},
        [hop = way_back(veth_->balancer())](const wire::IpAddress&, ForwardMode) { return hop; });
    if (!programmer) return std::move(programmer).error();
    std::vector<control::Operation> operations;
    std::uint16_t port = kFirstPort;
    for (const ForwardMode mode : kModes)
      operations.push_back({control::OperationKind::kAddVip, {}, vip_of(mode, port++)});
    if (Result<void> applied = programmer->apply(operations); !applied) return applied;
    const std::string path = fmt::format("{}/programs/weir_lb", kPinDirectory);
    balancer_ = UniqueFd{::bpf_obj_get(path.c_str())};
    if (!balancer_) return Error::from_errno(fmt::format("opening {}", path));
    return {};
  }

  Result<void> load_surroundings() {
    l4::collect_libbpf_words();
    skeleton_.reset(::live__open_and_load());
    if (!skeleton_) return l4::libbpf_error("loading the programs around the balancer", errno);
    Result<l4::CreatedLink> sink = l4::create_link_in_mode(
        ::bpf_program__fd(skeleton_->progs.live_sink), veth_->sender().device,
        veth_->sender().ifindex, control::XdpMode::kNative);
    if (!sink) return std::move(sink).error();
    sink_ = std::move(sink->fd);
    std::uint32_t address = 0;
    std::memcpy(&address, vip_address().v4_octets().data(), sizeof(address));
    skeleton_->bss->live_vip = address;
    return {};
  }

  void choose_targets() {
    const auto floor = [&](std::string name, const bpf_program* program, bool returns) {
      targets_.push_back({.row = {.name = std::move(name), .is_floor = true},
                          .program = ::bpf_program__fd(program),
                          .returns = returns});
    };
    floor("floor: parse, drop", skeleton_->progs.live_floor_drop, false);
    floor("floor: parse, send back", skeleton_->progs.live_floor_return, true);
    struct Traffic {
      std::string_view name;
      std::uint32_t flow_mask;
      std::uint8_t tcp_flags;
    };
    constexpr std::array<Traffic, 3> kTraffic{{{"1,024 flows", 1023, kAck},
                                               {"65,536 flows", 65535, kAck},
                                               {"every packet a new flow", ~0U, kSyn}}};
    std::uint16_t port = kFirstPort;
    for (const ForwardMode mode : kModes) {
      for (const Traffic& traffic : kTraffic)
        targets_.push_back(
            {.row = {.name = fmt::format("{}, {}", control::text_of(mode), traffic.name)},
             .program = balancer_.get(),
             .flow_mask = traffic.flow_mask,
             .tcp_flags = traffic.tcp_flags,
             .port = port});
      ++port;
    }
  }

  [[nodiscard]] std::uint64_t arrived(const Target& target) const {
    return target.returns ? skeleton_->bss->live_returned : skeleton_->bss->live_dropped;
  }

  Result<void> send(std::uint32_t packets) {
    std::array<std::byte, kFrameBytes> frame{};
    xdp_md context{};
    context.data_end = kFrameBytes;
    context.ingress_ifindex = veth_->sender().ifindex;
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(), .data_size_in = kFrameBytes,
                .ctx_in = &context, .ctx_size_in = sizeof(context),
                .repeat = static_cast<int>(packets), .flags = BPF_F_TEST_XDP_LIVE_FRAMES,
                .batch_size = kBatch);
    const int outcome =
        ::bpf_prog_test_run_opts(::bpf_program__fd(skeleton_->progs.live_send), &options);
    if (outcome == 0 || outcome == -EINTR) return {};
    return Error::from_errno("sending frames by the kernel's test-run", -outcome)
        .with_remedy("it takes Linux 5.18");
  }

  /// Packets a second that arrived behind the target.
  Result<double> run(const Target& target, Duration share, const std::atomic<bool>& stop) {
    Result<l4::CreatedLink> link =
        l4::create_link_in_mode(target.program, veth_->balancer().device, veth_->balancer().ifindex,
                                control::XdpMode::kNative);
    if (!link) return std::move(link).error();
    auto& data = *skeleton_->bss;
    data.live_flow_mask = target.flow_mask;
    data.live_tcp_flags = target.tcp_flags;
    data.live_port = htons(target.port);
    if (Result<void> warm = send(kPacketsPerCall); !warm) return std::move(warm).error();
    const std::uint64_t before = arrived(target);
    const Instant begin = monotonic_now();
    Instant now = begin;
    while (now - begin < share) {
      if (stop) return Error{ErrorCode::kUnavailable, "interrupted"};
      if (Result<void> sent = send(kPacketsPerCall); !sent) return std::move(sent).error();
      now = monotonic_now();
    }
    const std::uint64_t count = arrived(target) - before;
    if (count == 0)
      return Error{ErrorCode::kInternal,
                   fmt::format("{}: no packet arrived; please report it", target.row.name)};
    return static_cast<double>(count) / std::chrono::duration<double>(now - begin).count();
  }

  UniqueFd lock_;
  std::optional<OwnVeth> veth_;
  UniqueFd balancer_;
  std::unique_ptr<live, DestroySkeleton> skeleton_;
  UniqueFd sink_;
  std::vector<Target> targets_;
};

/// Sender and receiver share a CPU anyway; moving between two only adds noise.
void stay_on_this_cpu() {
  const int cpu = ::sched_getcpu();
  if (cpu < 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<unsigned>(cpu), &set);
  static_cast<void>(::sched_setaffinity(0, sizeof(set), &set));
}

}  // namespace

Result<std::vector<LiveRow>> measure_live(Duration share, const std::atomic<bool>& stop) {
  stay_on_this_cpu();
  Result<Live> live = Live::set_up();
  if (!live) return std::move(live).error();
  return live->measure(share, stop);
}

}  // namespace weir::bench
