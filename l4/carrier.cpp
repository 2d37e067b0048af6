#include "l4/carrier.h"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/veth.h>
#include <sys/socket.h>
#include <unistd.h>

#include <charconv>
#include <map>
#include <optional>

#include "bpf/abi.h"
#include "l4/base/log.h"

namespace weir::l4 {
namespace {

constexpr std::string_view kBalancerPrefix = "weir-l7-";
constexpr std::string_view kWorkerPrefix = "weir-w";

// The largest MTU at which a veth takes an XDP program: a page less the kernel's head and tail room
// and the Ethernet header (drivers/net/veth.c), rounded down.
constexpr std::uint32_t kMtuMax = 3500;

struct End {
  std::uint32_t ifindex = 0;
  wire::MacAddress mac;
  std::uint32_t mtu = 0;
  bool up = false;
  bool has_xdp = false;
  bool is_veth = false;
};

End end_of(const NetlinkMessage& message, const ifinfomsg& header) {
  const NetlinkAttributes attributes{message.body, sizeof(ifinfomsg)};
  End end;
  end.ifindex = static_cast<std::uint32_t>(header.ifi_index);
  end.mac = attributes.mac(IFLA_ADDRESS).value_or(wire::MacAddress{});
  end.mtu = attributes.u32(IFLA_MTU).value_or(0);
  end.up = (header.ifi_flags & IFF_UP) != 0;
  if (const auto xdp = attributes.find(IFLA_XDP))
    end.has_xdp = NetlinkAttributes{*xdp, 0}.u32(IFLA_XDP_PROG_ID).value_or(0) != 0;
  if (const auto info = attributes.find(IFLA_LINKINFO))
    end.is_veth = NetlinkAttributes{*info, 0}.text(IFLA_INFO_KIND) == "veth";
  return end;
}

Result<std::map<std::string, End>> list_ends(NetlinkSocket& netlink) {
  std::map<std::string, End> ends;
  NetlinkRequest request{RTM_GETLINK, NLM_F_DUMP};
  request.fixed(ifinfomsg{});
  Result<void> listed = netlink.query(request, "listing network devices", [&](const auto& message) {
    const auto header = message.template fixed<ifinfomsg>();
    if (!header) return;
    const NetlinkAttributes attributes{message.body, sizeof(ifinfomsg)};
    ends[attributes.text(IFLA_IFNAME)] = end_of(message, *header);
  });
  if (!listed) return std::move(listed).error();
  return ends;
}

/// N of "weir-l7-N" and "weir-l7-gN", for N that we could have made.
std::optional<std::uint32_t> index_of(std::string_view name) {
  if (!name.starts_with(kBalancerPrefix)) return std::nullopt;
  name.remove_prefix(kBalancerPrefix.size());
  if (const auto mark = mark_of(Lane::kGreen); name.starts_with(mark))
    name.remove_prefix(mark.size());
  std::uint32_t index = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), index);
  if (error != std::errc{} || end != name.data() + name.size()) return std::nullopt;
  if (index >= WEIR_L7_WORKERS_MAX) return std::nullopt;
  return index;
}

Result<void> create_pair(NetlinkSocket& netlink, const std::string& balancer,
                         const std::string& worker, const CarrierOptions& options) {
  ifinfomsg header{};
  header.ifi_flags = IFF_NOARP;
  header.ifi_change = IFF_NOARP;
  NetlinkRequest request{RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL};
  request.fixed(header)
      .attribute(IFLA_IFNAME, std::string_view{balancer})
      .attribute(IFLA_MTU, options.mtu);
  request.nested(IFLA_LINKINFO, [&](NetlinkRequest& info) {
    info.attribute(IFLA_INFO_KIND, std::string_view{"veth"});
    info.nested(IFLA_INFO_DATA, [&](NetlinkRequest& data) {
      data.nested(VETH_INFO_PEER, [&](NetlinkRequest& peer) {
        peer.fixed(header)
            .attribute(IFLA_IFNAME, std::string_view{worker})
            .attribute(IFLA_MTU, options.mtu)
            .attribute(IFLA_ADDRESS, options.mac);
      });
    });
  });
  return netlink.execute(request,
                         fmt::format("creating the veth pair {} and {}", balancer, worker));
}

/// MTU, MAC and flags of an end that exists. The MAC can be changed while the device is up.
Result<void> settle_end(NetlinkSocket& netlink, const std::string& name, const End& end,
                        std::uint32_t mtu, std::optional<wire::MacAddress> mac) {
  ifinfomsg header{};
  header.ifi_index = static_cast<int>(end.ifindex);
  header.ifi_flags = IFF_UP | IFF_NOARP;
  header.ifi_change = IFF_UP | IFF_NOARP;
  NetlinkRequest request{RTM_NEWLINK, 0};
  request.fixed(header);
  if (end.mtu != mtu) request.attribute(IFLA_MTU, mtu);
  if (mac && end.mac != *mac) request.attribute(IFLA_ADDRESS, *mac);
  return netlink.execute(request, fmt::format("setting up {}", name));
}

/// Keeps the kernel from joining multicast groups, which it announces even without an address
/// (RFC 3810). A kernel without IPv6 has no such file and nothing to silence.
void disable_ipv6(const std::string& device) {
  const std::string path = fmt::format("/proc/sys/net/ipv6/conf/{}/disable_ipv6", device);
  const UniqueFd file{::open(path.c_str(), O_WRONLY | O_CLOEXEC)};
  if (!file) return;
  if (::write(file.get(), "1", 1) != 1)
    log_warning("{}: {}; the kernel may speak IPv6 to weir-l7", path, std::strerror(errno));
}

Result<void> remove_pair(NetlinkSocket& netlink, const std::string& name, std::uint32_t ifindex) {
  ifinfomsg header{};
  header.ifi_index = static_cast<int>(ifindex);
  NetlinkRequest request{RTM_DELLINK, 0};
  request.fixed(header);
  return netlink.execute(request, fmt::format("removing {}", name));
}

Result<void> ensure_pair(NetlinkSocket& netlink, std::uint32_t worker, Lane lane,
                         const CarrierOptions& options, std::map<std::string, End>& ends) {
  const std::string balancer = balancer_end_of(worker, lane);
  const std::string peer = worker_end_of(worker, lane);
  for (const std::string& name : {balancer, peer}) {
    if (ends.contains(name) && !ends.at(name).is_veth)
      return Error{ErrorCode::kConflict, fmt::format("{} exists and is no veth device", name),
                   fmt::format("rename it, or remove it with 'ip link del {}'", name)};
  }
  if (ends.contains(balancer) && !ends.contains(peer))
    return Error{
        ErrorCode::kConflict,
        fmt::format("{} exists, but its peer {} is not in this network namespace", balancer, peer),
        fmt::format("remove the pair with 'ip link del {}'", balancer)};
  if (!ends.contains(balancer)) {
    if (Result<void> created = create_pair(netlink, balancer, peer, options); !created)
      return created;
    // Before they go up, so that not one frame of the kernel's own escapes.
    disable_ipv6(balancer);
    disable_ipv6(peer);
    Result<std::map<std::string, End>> listed = list_ends(netlink);
    if (!listed) return std::move(listed).error();
    ends = *std::move(listed);
  }
  Result<void> settled = settle_end(netlink, balancer, ends[balancer], options.mtu, std::nullopt);
  if (!settled) return settled;
  return settle_end(netlink, peer, ends[peer], options.mtu, options.mac);
}

}  // namespace

std::string balancer_end_of(std::uint32_t worker, Lane lane) {
  return fmt::format("{}{}{}", kBalancerPrefix, mark_of(lane), worker);
}
std::string worker_end_of(std::uint32_t worker, Lane lane) {
  return fmt::format("{}{}{}", kWorkerPrefix, mark_of(lane), worker);
}

Result<std::vector<WorkerPair>> find_carrier(NetlinkSocket& netlink) {
  Result<std::map<std::string, End>> ends = list_ends(netlink);
  if (!ends) return std::move(ends).error();
  std::vector<WorkerPair> pairs;
  for (const Lane lane : control::kLanes) {
    for (std::uint32_t worker = 0; worker < WEIR_L7_WORKERS_MAX; ++worker) {
      const auto balancer = ends->find(balancer_end_of(worker, lane));
      if (balancer == ends->end() || !balancer->second.is_veth) continue;
      const auto peer = ends->find(worker_end_of(worker, lane));
      pairs.push_back({.index = worker,
                       .lane = lane,
                       .balancer_end = balancer->first,
                       .worker_end = worker_end_of(worker, lane),
                       .balancer_ifindex = balancer->second.ifindex,
                       .up = peer != ends->end() && balancer->second.up && peer->second.up,
                       .taken = peer != ends->end() && peer->second.has_xdp});
    }
  }
  return pairs;
}

Result<std::vector<WorkerPair>> ensure_carrier(NetlinkSocket& netlink,
                                               const CarrierOptions& options) {
  CarrierOptions fitting = options;
  fitting.mtu = std::min(options.mtu, kMtuMax);
  Result<std::map<std::string, End>> ends = list_ends(netlink);
  if (!ends) return std::move(ends).error();
  for (const Lane lane : control::kLanes) {
    for (std::uint32_t worker = 0; worker < fitting.workers; ++worker) {
      if (Result<void> ensured = ensure_pair(netlink, worker, lane, fitting, *ends); !ensured)
        return std::move(ensured).error();
    }
  }
  for (const auto& [name, end] : *ends) {
    const auto index = index_of(name);
    if (!index || *index < fitting.workers || !end.is_veth) continue;
    if (Result<void> removed = remove_pair(netlink, name, end.ifindex); !removed)
      return std::move(removed).error();
  }
  return find_carrier(netlink);
}

Result<void> remove_carrier(NetlinkSocket& netlink) {
  Result<std::vector<WorkerPair>> pairs = find_carrier(netlink);
  if (!pairs) return std::move(pairs).error();
  for (const WorkerPair& pair : *pairs) {
    Result<void> removed = remove_pair(netlink, pair.balancer_end, pair.balancer_ifindex);
    if (!removed) return removed;
  }
  return {};
}

}  // namespace weir::l4
