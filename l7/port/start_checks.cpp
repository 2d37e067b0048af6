#include "l7/port/start_checks.h"

#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <optional>
#include <span>

namespace weir::port {
namespace {

/// The program that libxdp attaches for an AF_XDP socket when nobody brought one.
constexpr std::string_view kSocketProgram = "xsk_def_prog";

// Netlink messages are host-order structures in a byte buffer; they are copied out, never pointed
// into, so that alignment does not matter.
template <typename T>
std::optional<T> read(std::span<const std::byte> bytes) {
  T value;
  if (bytes.size() < sizeof(T)) return std::nullopt;
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

/// Calls visit(type, payload) for each attribute of a netlink attribute list.
template <typename Visit>
void for_each_attribute(std::span<const std::byte> list, Visit&& visit) {
  while (const auto header = read<nlattr>(list)) {
    if (header->nla_len < sizeof(nlattr) || header->nla_len > list.size()) return;
    visit(header->nla_type & NLA_TYPE_MASK,
          list.subspan(sizeof(nlattr), header->nla_len - sizeof(nlattr)));
    const std::size_t step = (std::size_t{header->nla_len} + 3U) & ~std::size_t{3};
    if (step >= list.size()) return;
    list = list.subspan(step);
  }
}

struct LinkRequest {
  nlmsghdr header{};
  ifinfomsg link{};
  nlattr name_attribute{};
  std::array<char, IFNAMSIZ> name{};
};

Device parse_link(std::string_view name, std::span<const std::byte> message) {
  Device device;
  device.name = name;
  const auto link = read<ifinfomsg>(message);
  if (!link) return device;
  device.index = link->ifi_index;
  device.up = (link->ifi_flags & IFF_UP) != 0;
  for_each_attribute(message.subspan(sizeof(ifinfomsg)), [&](int type, auto value) {
    if (type == IFLA_MTU) {
      device.mtu = read<std::uint32_t>(value).value_or(0);
    } else if (type == IFLA_ADDRESS && value.size() == device.mac.bytes.size()) {
      std::memcpy(device.mac.bytes.data(), value.data(), value.size());
    } else if (type == IFLA_XDP) {
      for_each_attribute(value, [&](int inner, auto id) {
        if (inner == IFLA_XDP_PROG_ID) device.xdp_program_id = read<std::uint32_t>(id).value_or(0);
      });
    }
  });
  return device;
}

/// The kernel's name of a loaded program, or nothing when it may not be asked or is gone.
std::optional<std::string> program_name(std::uint32_t id) {
  bpf_attr attr{};
  attr.prog_id = id;
  const UniqueFd program{
      static_cast<int>(::syscall(SYS_bpf, BPF_PROG_GET_FD_BY_ID, &attr, sizeof(attr)))};
  if (!program) return std::nullopt;
  bpf_prog_info info{};
  bpf_attr query{};
  query.info.bpf_fd = static_cast<std::uint32_t>(program.get());
  query.info.info_len = sizeof(info);
  query.info.info = reinterpret_cast<std::uint64_t>(&info);  // the kernel wants it as a number
  if (::syscall(SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &query, sizeof(query)) != 0) return std::nullopt;
  return std::string{info.name, ::strnlen(info.name, sizeof(info.name))};
}

std::optional<std::uint64_t> number_in(const std::filesystem::path& file) {
  std::ifstream stream{file};
  std::uint64_t value = 0;
  if (stream >> value) return value;
  return std::nullopt;
}

std::uint64_t effective_capabilities() {
  std::ifstream status{"/proc/self/status"};
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with("CapEff:")) continue;
    const std::size_t digits = line.find_first_not_of(" \t", 7);
    if (digits == std::string::npos) return 0;
    std::uint64_t mask = 0;
    std::from_chars(line.data() + digits, line.data() + line.size(), mask, 16);
    return mask;
  }
  return 0;
}

}  // namespace

Result<Device> find_device(std::string_view name) {
  if (name.empty() || name.size() >= IFNAMSIZ)
    return Error{ErrorCode::kInvalid,
                 fmt::format("'{}' is no device name: expected 1 to 15 characters", name)};
  const UniqueFd socket{::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)};
  if (!socket) return Error::from_errno("opening a route netlink socket");
  LinkRequest request;
  request.header.nlmsg_len = sizeof(request);
  request.header.nlmsg_type = RTM_GETLINK;
  request.header.nlmsg_flags = NLM_F_REQUEST;
  request.link.ifi_family = AF_UNSPEC;
  request.name_attribute.nla_len = static_cast<std::uint16_t>(sizeof(nlattr) + name.size() + 1);
  request.name_attribute.nla_type = IFLA_IFNAME;
  std::memcpy(request.name.data(), name.data(), name.size());
  if (::send(socket.get(), &request, sizeof(request), 0) < 0)
    return Error::from_errno(fmt::format("asking the kernel about device '{}'", name));

  std::array<std::byte, 16384> buffer;
  const ssize_t received = ::recv(socket.get(), buffer.data(), buffer.size(), 0);
  if (received < 0)
    return Error::from_errno(fmt::format("asking the kernel about device '{}'", name));
  const auto answer = std::span{buffer}.first(static_cast<std::size_t>(received));
  const auto header = read<nlmsghdr>(answer);
  const bool is_link = header && header->nlmsg_type == RTM_NEWLINK &&
                       header->nlmsg_len >= sizeof(nlmsghdr) && header->nlmsg_len <= answer.size();
  if (!is_link)
    return Error{ErrorCode::kNotFound,
                 fmt::format("there is no device '{}' in this network "
                             "namespace",
                             name),
                 "`ip link` lists those that exist; create the worker's veth pair first"};
  return parse_link(name, answer.first(header->nlmsg_len).subspan(sizeof(nlmsghdr)));
}

Result<void> check_device(const Device& device) {
  if (!device.up)
    return Error{ErrorCode::kUnavailable, fmt::format("device '{}' is down", device.name),
                 fmt::format("`ip link set {} up`", device.name)};
  if (device.mtu > kAfXdpMtuMax)
    return Error{ErrorCode::kInvalid,
                 fmt::format("device '{}' has an MTU of {}, AF_XDP frames hold at most {}",
                             device.name, device.mtu, kAfXdpMtuMax),
                 fmt::format("`ip link set {} mtu 1500`, on both ends of a veth", device.name)};
  if (device.xdp_program_id == 0) return {};
  const std::optional<std::string> name = program_name(device.xdp_program_id);
  if (name == kSocketProgram) return {};
  return Error{ErrorCode::kConflict,
               fmt::format("device '{}' already runs the XDP program '{}' (id {}); starting here "
                           "would remove it",
                           device.name, name.value_or("?"), device.xdp_program_id),
               "give the worker a veth end of its own, or unload that program"};
}

Result<UniqueFd> claim_device(const Device& device) {
  // An abstract socket name is unique within the network namespace, as the interface index is, and
  // the kernel drops it with the process: no stale lock files.
  UniqueFd claim{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  if (!claim) return Error::from_errno("opening a socket to claim the device");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string name = fmt::format("weir-port/{}", device.index);
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  // The socket interface takes every address as a sockaddr.
  if (::bind(claim.get(), reinterpret_cast<const sockaddr*>(&address), length) == 0) return claim;
  if (errno != EADDRINUSE)
    return Error::from_errno(fmt::format("claiming device '{}'", device.name));
  return Error{ErrorCode::kConflict,
               fmt::format("device '{}' is in use by another Weir port", device.name),
               "stop the other weir-l7, or give this one a veth of its own"};
}

Result<void> check_rights(std::uint64_t locked_bytes) {
  const std::uint64_t mask = effective_capabilities();
  const auto has = [mask](int capability) { return ((mask >> capability) & 1) != 0; };
  const auto missing = [](std::string_view name, std::string_view purpose) {
    return Error{ErrorCode::kDenied, fmt::format("{} is missing, needed to {}", name, purpose),
                 "run as root, or grant it (AmbientCapabilities= in the systemd unit)"};
  };
  if (!has(CAP_NET_RAW)) return missing("CAP_NET_RAW", "open an AF_XDP socket");
  if (!has(CAP_NET_ADMIN)) return missing("CAP_NET_ADMIN", "attach an XDP program");
  if (!has(CAP_BPF) && !has(CAP_SYS_ADMIN)) return missing("CAP_BPF", "load an XDP program");
  rlimit limit{};
  if (has(CAP_IPC_LOCK) || ::getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return {};
  if (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= locked_bytes) return {};
  return Error{ErrorCode::kDenied,
               fmt::format("this process may lock {} KB of memory, the packet pool needs {} KB",
                           limit.rlim_cur / 1024, locked_bytes / 1024),
               "grant CAP_IPC_LOCK, or raise the limit (`ulimit -l`, LimitMEMLOCK=)"};
}

Result<void> check_huge_pages(std::uint64_t bytes, const std::filesystem::path& sysfs) {
  constexpr std::string_view kFolderStart = "hugepages-";  // hugepages-2048kB
  std::uint64_t free_bytes = 0;
  std::error_code ignored;  // no such folder is no huge pages
  for (const auto& folder : std::filesystem::directory_iterator{sysfs, ignored}) {
    const std::string name = folder.path().filename();
    if (!name.starts_with(kFolderStart)) continue;
    std::uint64_t kilobytes = 0;
    std::from_chars(name.data() + kFolderStart.size(), name.data() + name.size(), kilobytes);
    free_bytes += number_in(folder.path() / "free_hugepages").value_or(0) * kilobytes * 1024;
  }
  if (free_bytes >= bytes) return {};
  constexpr std::uint64_t kMegabyte = 1024 * 1024;
  return Error{ErrorCode::kUnavailable,
               fmt::format("{} MB of huge pages are free, {} MB are needed", free_bytes / kMegabyte,
                           (bytes + kMegabyte - 1) / kMegabyte),
               fmt::format("`sysctl vm.nr_hugepages=N`, with N at least {} more than now",
                           (bytes - free_bytes + 2 * kMegabyte - 1) / (2 * kMegabyte))};
}

}  // namespace weir::port
