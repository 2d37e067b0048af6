#include "l7/port/dpdk_port.h"

#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/if_xdp.h>
#include <poll.h>
#include <rte_bus_vdev.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <set>
#include <string_view>
#include <vector>

#include "l4/base/fd.h"
#include "l7/port/start_checks.h"

#ifdef __SANITIZE_ADDRESS__
// 80 bytes per closed port, lost by the driver together with the socket: see UniqueDevice.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() { return "leak:xsk_umem__create\n"; }
extern "C" const char* __lsan_default_options();
extern "C" const char* __lsan_default_options() { return "print_suppressions=0"; }
#endif

namespace weir::port {
namespace {

constexpr std::uint16_t kRingFrames = 2048;  // the driver's default for each of its rings
// A receive ring that is full, and as much to send and to work on.
constexpr std::uint32_t kFramesMin = 2 * kRingFrames - 1;
constexpr std::uint16_t kDriverBurst = 32;                    // what it moves in one call at most
constexpr std::uint32_t kLinkOverhead = 18;                   // Ethernet header with one VLAN tag
constexpr std::uint32_t kDataRoomMin = 2048;                  // the driver refuses pools with less
constexpr std::uint64_t kEnvironmentBytes = 8 * 1024 * 1024;  // DPDK's own tables, generously

static_assert(kHeadroom == RTE_PKTMBUF_HEADROOM);

/// Collects what libraries write to the standard error stream while it lives: EAL, libxdp and
/// libbpf explain one failure in twenty lines there. Used at start-up only, when no other thread
/// of the process has begun to log.
class StandardErrorCapture {
 public:
  StandardErrorCapture()
      : collected_{::memfd_create("weir-stderr", MFD_CLOEXEC)},
        original_{::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0)} {
    if (collected_ && original_) ::dup2(collected_.get(), STDERR_FILENO);
  }
  ~StandardErrorCapture() { restore(); }
  StandardErrorCapture(const StandardErrorCapture&) = delete;
  StandardErrorCapture& operator=(const StandardErrorCapture&) = delete;

  /// Ends the capture and returns the last two lines that say something, as one.
  [[nodiscard]] std::string finish() {
    std::string text(4096, '\0');
    const off_t end = ::lseek(collected_.get(), 0, SEEK_END);
    const off_t start = std::max<off_t>(0, end - static_cast<off_t>(text.size()));
    const ssize_t length = ::pread(collected_.get(), text.data(), text.size(), start);
    restore();
    text.resize(static_cast<std::size_t>(std::max<ssize_t>(0, length)));
    return last_lines(text);
  }

 private:
  static std::string last_lines(std::string_view text) {
    std::vector<std::string_view> lines;
    while (!text.empty()) {
      const std::size_t newline = text.find('\n');
      const std::string_view line = text.substr(0, newline);
      if (!line.empty()) lines.push_back(line);
      text.remove_prefix(newline == std::string_view::npos ? text.size() : newline + 1);
    }
    if (lines.empty()) return "DPDK gave no reason";
    if (lines.size() == 1) return std::string{lines.back()};
    return fmt::format("{} / {}", lines[lines.size() - 2], lines.back());
  }

  void restore() {
    if (original_) ::dup2(original_.get(), STDERR_FILENO);
    original_.reset();
  }

  UniqueFd collected_;
  UniqueFd original_;
};

/// EAL pins the thread that starts it to its main core. Whom to pin is the owner's business, so
/// the affinity from before is put back.
class AffinityGuard {
 public:
  AffinityGuard() { ::sched_getaffinity(0, sizeof(before_), &before_); }
  ~AffinityGuard() { ::sched_setaffinity(0, sizeof(before_), &before_); }
  AffinityGuard(const AffinityGuard&) = delete;
  AffinityGuard& operator=(const AffinityGuard&) = delete;

  [[nodiscard]] int first_core() const {
    for (int core = 0; core < CPU_SETSIZE; ++core)
      if (CPU_ISSET(static_cast<unsigned>(core), &before_)) return core;
    return 0;
  }

 private:
  cpu_set_t before_{};
};

enum class Environment { kNotStarted, kStarted, kFailed };
Environment environment = Environment::kNotStarted;  // EAL can be initialised once per process

/// Descriptors of this process that are AF_XDP sockets.
std::set<int> xdp_sockets() {
  std::set<int> found;
  std::error_code ignored;  // an unreadable /proc finds nothing, which open() reports
  for (const auto& entry : std::filesystem::directory_iterator{"/proc/self/fd", ignored}) {
    const std::string name = entry.path().filename();
    int fd = -1;
    std::from_chars(name.data(), name.data() + name.size(), fd);
    int domain = 0;
    socklen_t length = sizeof(domain);
    if (::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && domain == AF_XDP)
      found.insert(fd);
  }
  return found;
}

Error driver_error(std::string_view doing, int error_number, std::string_view details) {
  return Error{ErrorCode::kInternal,
               fmt::format("{}: {} ({})", doing, std::strerror(std::abs(error_number)), details)};
}

struct PoolDeleter {
  void operator()(rte_mempool* pool) const { rte_mempool_free(pool); }
};
using UniquePool = std::unique_ptr<rte_mempool, PoolDeleter>;

// Our bookkeeping sits between the mbuf and its data, in the area that DPDK leaves to its user.
constexpr std::uint16_t kPrivateBytes =
    RTE_ALIGN_CEIL(sizeof(PacketBuffer), std::size_t{RTE_MBUF_PRIV_ALIGN});

PacketBuffer& buffer_of(rte_mbuf* frame) {
  return *static_cast<PacketBuffer*>(rte_mbuf_to_priv(frame));  // placed there by describe_frames
}

rte_mbuf* frame_of(PacketBuffer& buffer) {
  return static_cast<rte_mbuf*>(RTE_PTR_SUB(&buffer, sizeof(rte_mbuf)));  // inverse of the above
}

std::uint32_t data_room(std::uint32_t mtu) {
  // The kernel itself keeps XDP_PACKET_HEADROOM free in front of every frame it delivers.
  const std::uint32_t needed = std::uint32_t{XDP_PACKET_HEADROOM} + mtu + kLinkOverhead;
  return RTE_ALIGN_CEIL(std::max(kDataRoomMin, needed), std::uint32_t{RTE_CACHE_LINE_SIZE}) +
         RTE_PKTMBUF_HEADROOM;
}

/// Where frames lie, compared with what the driver tells the kernel about them. DPDK 22.11
/// registers `count x size` bytes from the pool's first chunk on (get_base_addr() and configure of
/// the UMEM in its net_af_xdp); a frame beyond that end makes the kernel refuse one descriptor per
/// burst.
struct FrameSurvey {
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;
  std::uint32_t outside = 0;
};

FrameSurvey survey_frames(rte_mempool& pool) {
  const rte_mempool_memhdr* chunk = STAILQ_FIRST(&pool.mem_list);
  const auto page_mask = static_cast<std::uintptr_t>(::getpagesize()) - 1;
  const auto first = reinterpret_cast<std::uintptr_t>(chunk->addr);  // for comparison only
  FrameSurvey survey;
  survey.begin = first & ~page_mask;
  const std::size_t frame_size = rte_mempool_calc_obj_size(pool.elt_size, pool.flags, nullptr);
  survey.end = first + pool.populated_size * frame_size;
  rte_mempool_obj_iter(
      &pool,
      [](rte_mempool* owner, void* argument, void* object, unsigned) {
        auto& seen = *static_cast<FrameSurvey*>(argument);
        const auto start = reinterpret_cast<std::uintptr_t>(object) - owner->header_size;
        const auto stop = start + owner->header_size + owner->elt_size + owner->trailer_size;
        if (start < seen.begin || stop > seen.end) ++seen.outside;
      },
      &survey);
  return survey;
}

/// A pool whose frames lie packed in one piece. rte_pktmbuf_pool_create() would leave holes at the
/// ends of huge pages (it keeps each frame contiguous for devices, and AF_XDP is none), and the
/// last frames would lie outside what the driver registers.
Result<UniquePool> create_packed_pool(const std::string& name, std::uint32_t frames,
                                      std::uint32_t mtu) {
  const std::uint32_t room = data_room(mtu);
  const std::uint32_t element = sizeof(rte_mbuf) + kPrivateBytes + room;
  UniquePool pool{rte_mempool_create_empty(
      name.c_str(), frames, element, 0, sizeof(rte_pktmbuf_pool_private), SOCKET_ID_ANY,
      RTE_MEMPOOL_F_NO_IOVA_CONTIG | RTE_MEMPOOL_F_SP_PUT | RTE_MEMPOOL_F_SC_GET)};
  if (!pool) return driver_error("creating the packet pool", rte_errno, "empty pool");
  // One core takes and gives back: the ring needs no atomics.
  if (const int failed = rte_mempool_set_ops_byname(pool.get(), "ring_sp_sc", nullptr))
    return driver_error("creating the packet pool", failed, "ring_sp_sc");
  rte_pktmbuf_pool_private settings{};
  settings.mbuf_data_room_size = static_cast<std::uint16_t>(room);
  settings.mbuf_priv_size = kPrivateBytes;
  rte_pktmbuf_pool_init(pool.get(), &settings);
  if (const int populated = rte_mempool_populate_default(pool.get()); populated < 0)
    return Error{ErrorCode::kUnavailable,
                 fmt::format("taking {} MB of huge pages for {} frames: {}",
                             std::uint64_t{frames} * element / 1024 / 1024, frames,
                             std::strerror(-populated)),
                 "free huge pages, or lower the number of frames"};
  rte_mempool_obj_iter(pool.get(), rte_pktmbuf_init, nullptr);

  const FrameSurvey survey = survey_frames(*pool);
  if (pool->nb_mem_chunks != 1 || survey.outside != 0)
    return Error{ErrorCode::kUnavailable,
                 fmt::format("the packet pool lies in {} pieces with {} of {} frames outside the "
                             "first, expected one piece",
                             pool->nb_mem_chunks, survey.outside, frames),
                 "huge pages are fragmented: reserve them at boot, or lower the number of frames"};
  return pool;
}

/// Writes our bookkeeping into every frame, once.
void describe_frames(rte_mempool& pool, PacketPool& owner) {
  rte_mempool_obj_iter(
      &pool,
      [](rte_mempool*, void* argument, void* object, unsigned) {
        auto* frame = static_cast<rte_mbuf*>(object);
        auto* buffer = new (rte_mbuf_to_priv(frame)) PacketBuffer{};
        buffer->pool = static_cast<PacketPool*>(argument);
        buffer->room = static_cast<std::byte*>(frame->buf_addr);
        buffer->capacity = frame->buf_len;
      },
      &owner);
}

/// Undoes rte_vdev_init(): closes the port and takes the XDP program off the device.
class UniqueDevice {
 public:
  explicit UniqueDevice(std::string name) : name_{std::move(name)} {}
  ~UniqueDevice() {
    if (started) rte_eth_dev_stop(port);
    rte_vdev_uninit(name_.c_str());
    // The driver counts the users of its memory wrongly and keeps the socket, and with it the queue
    // and the pool's pages, until the process ends. One that it did close is not ours to close.
    if (socket >= 0 && xdp_sockets().contains(socket)) ::close(socket);
  }
  UniqueDevice(const UniqueDevice&) = delete;
  UniqueDevice& operator=(const UniqueDevice&) = delete;

  std::uint16_t port = RTE_MAX_ETHPORTS;
  bool started = false;
  int socket = -1;  ///< the driver's AF_XDP socket

 private:
  std::string name_;
};

}  // namespace

Result<void> start_dpdk(const DpdkOptions& options) {
  if (environment == Environment::kStarted) return {};
  if (environment == Environment::kFailed)
    return Error{ErrorCode::kInternal, "DPDK failed to start before and cannot be started twice",
                 "restart the process"};
  if (auto rights = check_rights(0); !rights) return rights;
  if (auto pages = check_huge_pages(kEnvironmentBytes); !pages) return pages;

  const AffinityGuard affinity;
  StandardErrorCapture capture;
  const std::string core = fmt::format("{}", affinity.first_core());
  const std::string limit = fmt::format("--socket-limit={}", options.memory_mb);
  // in-memory: no files under /run and no hugetlbfs mount; virtual addresses as IOVA: no device
  // does DMA here, and physical addresses would need more rights.
  std::vector<std::string> words = {"weir-l7",
                                    "--in-memory",
                                    "--no-pci",
                                    "--no-telemetry",
                                    "--iova-mode=va",
                                    "--log-level=warning",
                                    "-l",
                                    core,
                                    limit};
  std::vector<char*> arguments;
  for (std::string& word : words)
    arguments.push_back(word.data());
  arguments.push_back(nullptr);
  if (rte_eal_init(static_cast<int>(words.size()), arguments.data()) < 0) {
    environment = Environment::kFailed;
    return driver_error("starting DPDK", rte_errno, capture.finish());
  }
  environment = Environment::kStarted;
  return {};
}

/// What a DpdkPort owns, in the order in which it must come into being: the device uses the pool.
class DpdkPort::State final : public PacketPool {
 public:
  void release(PacketBuffer& buffer) noexcept override {
    if (hot_count < hot.size())
      hot[hot_count++] = frame_of(buffer);
    else
      rte_pktmbuf_free(frame_of(buffer));
  }

  UniqueFd claim;
  UniquePool pool;
  std::optional<UniqueDevice> device;
  PortCapabilities capabilities;
  PortCounters counters;
  // What was given back last, to be used first: it is still in the core's cache. The pool itself is
  // a ring, whose next frame is the one that has been away longest.
  std::array<rte_mbuf*, 64> hot{};
  std::size_t hot_count = 0;
};

namespace {

/// Queue 0 of the device, receiving into and sending from `pool`.
Result<void> start_device(UniqueDevice& device, const std::string& name, rte_mempool& pool) {
  if (const int failed = rte_eth_dev_get_port_by_name(name.c_str(), &device.port))
    return driver_error("finding the probed port", failed, name);
  const rte_eth_conf defaults{};
  const auto node = static_cast<unsigned>(SOCKET_ID_ANY);
  if (const int failed = rte_eth_dev_configure(device.port, 1, 1, &defaults))
    return driver_error("configuring", failed, "rte_eth_dev_configure");
  if (const int failed = rte_eth_rx_queue_setup(device.port, 0, kRingFrames, node, nullptr, &pool))
    return driver_error("opening the AF_XDP socket", failed, "rte_eth_rx_queue_setup");
  if (const int failed = rte_eth_tx_queue_setup(device.port, 0, kRingFrames, node, nullptr))
    return driver_error("opening the send ring", failed, "rte_eth_tx_queue_setup");
  if (const int failed = rte_eth_dev_start(device.port))
    return driver_error("starting", failed, "rte_eth_dev_start");
  device.started = true;
  return {};
}

/// Brings the driver up on the device and finds the descriptor of its AF_XDP socket, which it does
/// not tell but which can be slept on.
Result<void> attach_driver(std::optional<UniqueDevice>& slot, const Device& device,
                           rte_mempool& pool) {
  StandardErrorCapture capture;
  const std::string name = fmt::format("net_af_xdp_{}", device.name);
  // One device with one queue: closing several leaks all but the first in 22.11. Without a busy
  // budget an empty receive makes no system call; on a veth preferred busy polling only costs.
  const std::string arguments =
      fmt::format("iface={},start_queue=0,queue_count=1,busy_budget=0", device.name);
  const std::set<int> before = xdp_sockets();
  if (const int failed = rte_vdev_init(name.c_str(), arguments.c_str()))
    return driver_error("probing", failed, capture.finish());
  slot.emplace(name);
  Result<void> started = start_device(*slot, name, pool);
  for (const int fd : xdp_sockets())
    if (!before.contains(fd)) slot->socket = fd;
  if (!started) {
    slot.reset();
    return Error{started.error().code(),
                 fmt::format("{}: {}", started.error().message(), capture.finish()),
                 "check that no other AF_XDP program uses the device (`ip link show`)"};
  }
  if (slot->socket < 0)
    return Error{ErrorCode::kInternal, "the driver opened no AF_XDP socket that could be slept on"};
  return {};
}

/// The kernel frees the queue of a closed AF_XDP socket some milliseconds later, from a work queue:
/// a process that is restarted at once may come too early, so a failed start is tried again.
Result<void> attach_driver_patiently(std::optional<UniqueDevice>& slot, const Device& device,
                                     rte_mempool& pool) {
  constexpr int kAttempts = 10;
  for (int attempt = 1;; ++attempt) {
    Result<void> attached = attach_driver(slot, device, pool);
    if (attached || attempt == kAttempts) return attached;
    ::poll(nullptr, 0, 10 * attempt);  // 450 ms in all
  }
}

}  // namespace

Result<std::unique_ptr<DpdkPort>> DpdkPort::open(const DpdkPortOptions& options) {
  WEIR_ASSERT(environment == Environment::kStarted);  // start_dpdk() comes first
  const std::string doing = fmt::format("opening the DPDK port on '{}'", options.device);
  const auto failed = [&doing](Error error) { return std::move(error).while_doing(doing); };
  if (options.frames < kFramesMin)
    return failed(Error{ErrorCode::kInvalid,
                        fmt::format("{} packet buffers, expected at least {}: the receive ring "
                                    "keeps {}, the send ring up to as many",
                                    options.frames, kFramesMin, kRingFrames),
                        "raise the number of frames; any number from there on will do"});

  Result<Device> device = find_device(options.device);
  if (!device) return failed(std::move(device).error());
  auto state = std::make_unique<State>();
  // Claimed before the hook is looked at: a program that is there once we hold the claim is not
  // that of a port which is just starting.
  Result<UniqueFd> claim = claim_device(*device);
  if (!claim) return failed(std::move(claim).error());
  state->claim = std::move(*claim);
  if (auto usable = check_device(*device); !usable) return failed(std::move(usable).error());
  const std::uint64_t bytes =
      std::uint64_t{options.frames} * (sizeof(rte_mbuf) + kPrivateBytes + data_room(device->mtu));
  if (auto rights = check_rights(bytes); !rights) return failed(std::move(rights).error());
  if (auto pages = check_huge_pages(bytes); !pages) return failed(std::move(pages).error());

  Result<UniquePool> pool =
      create_packed_pool(fmt::format("weir_{}", device->index), options.frames, device->mtu);
  if (!pool) return failed(std::move(pool).error());
  state->pool = std::move(*pool);
  describe_frames(*state->pool, *state);
  if (auto attached = attach_driver_patiently(state->device, *device, *state->pool); !attached)
    return failed(std::move(attached).error());
  state->capabilities.mac = device->mac;
  state->capabilities.mtu = static_cast<std::uint16_t>(device->mtu);  // at most kAfXdpMtuMax
  return std::unique_ptr<DpdkPort>{new DpdkPort{std::move(state)}};
}

DpdkPort::DpdkPort(std::unique_ptr<State> state) : state_{std::move(state)} {}
DpdkPort::~DpdkPort() = default;

const PortCapabilities& DpdkPort::capabilities() const { return state_->capabilities; }

PortCounters DpdkPort::counters() const {
  PortCounters counters = state_->counters;
  rte_eth_stats driver{};
  if (rte_eth_stats_get(state_->device->port, &driver) == 0)
    counters.receive_no_buffer = driver.rx_nombuf;
  // The driver's own error counts grow with every partial burst; the socket's do not.
  xdp_statistics kernel{};
  socklen_t length = sizeof(kernel);
  if (::getsockopt(state_->device->socket, SOL_XDP, XDP_STATISTICS, &kernel, &length) == 0) {
    counters.invalid_descriptors = kernel.tx_invalid_descs + kernel.rx_invalid_descs;
    counters.receive_overflow = kernel.rx_ring_full + kernel.rx_dropped;
  }
  return counters;
}

std::size_t DpdkPort::receive(std::span<Packet> burst) {
  std::array<rte_mbuf*, kDriverBurst> frames;
  std::size_t total = 0;
  while (total < burst.size()) {
    const auto wanted =
        static_cast<std::uint16_t>(std::min<std::size_t>(burst.size() - total, kDriverBurst));
    const std::uint16_t count = rte_eth_rx_burst(state_->device->port, 0, frames.data(), wanted);
    for (std::uint16_t i = 0; i < count; ++i) {
      PacketBuffer& buffer = buffer_of(frames[i]);
      buffer.offset = frames[i]->data_off;
      buffer.length = frames[i]->data_len;
      state_->counters.received_bytes += buffer.length;
      burst[total++] = Packet{buffer};
    }
    state_->counters.received_frames += count;
    if (count < wanted) break;
  }
  return total;
}

std::size_t DpdkPort::send(std::span<Packet> burst) {
  std::array<rte_mbuf*, kDriverBurst> frames;
  std::array<std::uint16_t, kDriverBurst> lengths;
  std::size_t total = 0;
  while (total < burst.size()) {
    const auto wanted =
        static_cast<std::uint16_t>(std::min<std::size_t>(burst.size() - total, kDriverBurst));
    for (std::uint16_t i = 0; i < wanted; ++i) {
      PacketBuffer& buffer = *burst[total + i].release();
      WEIR_ASSERT(buffer.pool == state_.get());  // packets do not change ports
      rte_mbuf* frame = frames[i] = frame_of(buffer);
      frame->data_off = buffer.offset;
      frame->data_len = buffer.length;
      frame->pkt_len = buffer.length;  // one buffer per frame: the driver cannot send chains
      lengths[i] = buffer.length;
    }
    const std::uint16_t count = rte_eth_tx_burst(state_->device->port, 0, frames.data(), wanted);
    // What was taken may be back in the pool and in use again; it is not looked at any more.
    for (std::uint16_t i = count; i < wanted; ++i)
      burst[total + i] = Packet{buffer_of(frames[i])};
    for (std::uint16_t i = 0; i < count; ++i)
      state_->counters.sent_bytes += lengths[i];
    state_->counters.sent_frames += count;
    total += count;
    if (count < wanted) break;
  }
  state_->counters.send_refused += burst.size() - total;
  return total;
}

Packet DpdkPort::allocate() {
  rte_mbuf* frame = state_->hot_count > 0 ? state_->hot[--state_->hot_count]
                                          : rte_pktmbuf_alloc(state_->pool.get());
  if (frame == nullptr) {
    ++state_->counters.pool_exhausted;
    return Packet{};
  }
  PacketBuffer& buffer = buffer_of(frame);
  buffer.offset = kHeadroom;
  buffer.length = 0;
  return Packet{buffer};
}

void DpdkPort::reap() {
  // The driver collects completions only inside its send function; an empty burst is enough.
  rte_mbuf* none = nullptr;
  rte_eth_tx_burst(state_->device->port, 0, &none, 0);
}

void DpdkPort::wait(Duration longest, int wake_fd) {
  reap();
  std::array<pollfd, 2> awaited = {pollfd{state_->device->socket, POLLIN, 0},
                                   pollfd{wake_fd, POLLIN, 0}};
  const Duration bounded = std::clamp<Duration>(longest, Duration{0}, std::chrono::hours{1});
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(bounded);
  const timespec timeout{seconds.count(), (bounded - seconds).count()};
  // Being woken early, also by a signal, is within the contract: the caller looks again. A
  // negative wake_fd is ignored by the kernel.
  ::ppoll(awaited.data(), awaited.size(), &timeout, nullptr);
}

}  // namespace weir::port
