#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <initializer_list>
#include <set>
#include <span>

#include "l4/base/fd.h"
#include "l4/netlink.h"
#include "tools/weir/doctor_facts.h"

namespace weir::cli {
namespace {

constexpr std::uint32_t kOffloadsMax = 1024;  ///< Linux has 60

/// ethtool's ioctls on one device.
class Ethtool {
 public:
  Ethtool(const UniqueFd& socket, const std::string& device) : socket_{socket} {
    std::memcpy(request_.ifr_name, device.data(),
                std::min(device.size(), std::size_t{IFNAMSIZ - 1}));
  }

  /// `command` begins with the number of the question; false: the driver has no answer.
  bool ask(void* command) {
    request_.ifr_data = static_cast<char*>(command);
    return ::ioctl(socket_.get(), SIOCETHTOOL, &request_) == 0;
  }

 private:
  const UniqueFd& socket_;
  ifreq request_{};
};

std::string driver_of(Ethtool& device) {
  ethtool_drvinfo info{};
  info.cmd = ETHTOOL_GDRVINFO;
  if (!device.ask(&info)) return {};
  return {info.driver, ::strnlen(info.driver, sizeof(info.driver))};
}

void read_queues(Ethtool& device, DeviceFacts& facts) {
  ethtool_channels channels{};
  channels.cmd = ETHTOOL_GCHANNELS;
  if (!device.ask(&channels)) return;
  // Drivers have queues for both directions, or some for each.
  facts.queues = channels.combined_count + channels.rx_count;
  facts.queues_max = channels.max_combined + channels.max_rx;
}

void read_udp_hash(Ethtool& device, DeviceFacts& facts) {
  ethtool_rxnfc question{};
  question.cmd = ETHTOOL_GRXFH;
  question.flow_type = UDP_V4_FLOW;
  if (!device.ask(&question)) return;
  constexpr std::uint64_t kPorts = RXH_L4_B_0_1 | RXH_L4_B_2_3;
  facts.hashes_udp_ports = (question.data & kPorts) == kPorts;
}

/// A header of words, and the words that the kernel is to fill in behind it.
std::vector<std::uint32_t> question_of(std::initializer_list<std::uint32_t> header,
                                       std::size_t answer_bytes) {
  std::vector<std::uint32_t> words{header};
  words.resize(header.size() + (answer_bytes + 3) / 4);
  return words;
}

/// How many offloads the kernel has names for.
std::uint32_t count_offloads(Ethtool& device) {
  // struct ethtool_sset_info: command, reserved, a mask of 64 bits; then one count.
  static_assert(sizeof(ethtool_sset_info) == 16);
  constexpr std::uint64_t kMask = std::uint64_t{1} << ETH_SS_FEATURES;
  std::vector<std::uint32_t> question = question_of({ETHTOOL_GSSET_INFO, 0}, 12);
  std::memcpy(&question[2], &kMask, sizeof(kMask));
  if (!device.ask(question.data())) return 0;
  std::uint64_t known = 0;
  std::memcpy(&known, &question[2], sizeof(known));
  return known == 0 ? 0 : std::min(question[4], kOffloadsMax);
}

void read_offloads(Ethtool& device, DeviceFacts& facts) {
  const std::uint32_t count = count_offloads(device);
  if (count == 0) return;
  const std::uint32_t blocks = (count + 31) / 32;
  std::vector<std::uint32_t> names =
      question_of({ETHTOOL_GSTRINGS, ETH_SS_FEATURES, count}, std::size_t{count} * ETH_GSTRING_LEN);
  static_assert(sizeof(ethtool_gstrings) == 12);
  std::vector<std::uint32_t> states =
      question_of({ETHTOOL_GFEATURES, blocks}, blocks * sizeof(ethtool_get_features_block));
  static_assert(sizeof(ethtool_gfeatures) == 8);
  if (!device.ask(names.data()) || !device.ask(states.data())) return;
  for (std::uint32_t i = 0; i < count; ++i) {
    // Copied out: words as characters, and as blocks.
    std::array<char, ETH_GSTRING_LEN> name;
    std::memcpy(name.data(), &names[3 + std::size_t{i} * ETH_GSTRING_LEN / 4], name.size());
    ethtool_get_features_block block;
    std::memcpy(&block, &states[2 + std::size_t{i} / 32 * sizeof(block) / 4], sizeof(block));
    const bool is_on = (block.active >> (i % 32) & 1) != 0;
    facts.offloads[std::string{name.data(), ::strnlen(name.data(), name.size())}] = is_on;
  }
}

std::optional<int> rp_filter_of(const std::string& device) {
  std::optional<int> larger;  // of the two, which is what the kernel takes
  for (const std::string& name : {std::string{"all"}, device}) {
    std::ifstream file{"/proc/sys/net/ipv4/conf/" + name + "/rp_filter"};
    int value = 0;
    if (file >> value) larger = std::max(value, larger.value_or(0));
  }
  return larger;
}

std::vector<AttachedProgram> programs_of(std::span<const std::byte> xdp) {
  struct Mode {
    std::uint16_t attribute;
    const char* name;
  };
  constexpr std::array<Mode, 3> kModes{{{IFLA_XDP_DRV_PROG_ID, "native"},
                                        {IFLA_XDP_SKB_PROG_ID, "generic"},
                                        {IFLA_XDP_HW_PROG_ID, "offloaded"}}};
  const l4::NetlinkAttributes attributes{xdp, 0};
  std::vector<AttachedProgram> programs;
  for (const Mode& mode : kModes) {
    if (const auto id = attributes.u32(mode.attribute); id && *id != 0)
      programs.push_back({*id, mode.name, program_name(*id)});
  }
  return programs;
}

/// A device as netlink tells of it, and the one that it is a VLAN of, or 0.
struct Link {
  DeviceFacts facts;
  std::uint32_t vlan_of = 0;
};

std::optional<Link> link_of(const l4::NetlinkMessage& message) {
  const auto fixed = message.fixed<ifinfomsg>();
  if (message.type != RTM_NEWLINK || !fixed) return std::nullopt;
  const l4::NetlinkAttributes attributes{message.body, sizeof(ifinfomsg)};
  Link link;
  DeviceFacts& facts = link.facts;
  facts.name = attributes.text(IFLA_IFNAME);
  facts.ifindex = static_cast<std::uint32_t>(fixed->ifi_index);
  facts.mtu = attributes.u32(IFLA_MTU).value_or(0);
  facts.is_up = (fixed->ifi_flags & IFF_UP) != 0;
  facts.has_carrier = (fixed->ifi_flags & IFF_RUNNING) != 0;
  facts.is_ethernet = fixed->ifi_type == ARPHRD_ETHER;
  if (const auto info = attributes.find(IFLA_LINKINFO)) {
    if (l4::NetlinkAttributes{*info, 0}.text(IFLA_INFO_KIND) == "vlan")
      link.vlan_of = attributes.u32(IFLA_LINK).value_or(0);
  }
  if (const auto xdp = attributes.find(IFLA_XDP)) facts.programs = programs_of(*xdp);
  return link;
}

/// The veth pairs that weir-l4 makes to the L7 workers: "weir-l7-0" and "weir-w0".
bool is_own_veth(const std::string& name) {
  return name.starts_with("weir-l7-") || name.starts_with("weir-w");
}

}  // namespace

Result<std::vector<DeviceFacts>> read_devices() {
  Result<l4::NetlinkSocket> netlink = l4::NetlinkSocket::open();
  if (!netlink) return std::move(netlink).error();
  std::vector<DeviceFacts> devices;
  std::set<std::uint32_t> below_vlans;
  l4::NetlinkRequest request{RTM_GETLINK, NLM_F_DUMP};
  request.fixed(ifinfomsg{});
  Result<void> asked =
      netlink->query(request, "listing the network devices", [&](const auto& message) {
        std::optional<Link> link = link_of(message);
        if (!link) return;
        if (link->vlan_of != 0) below_vlans.insert(link->vlan_of);
        if (link->facts.is_ethernet && !is_own_veth(link->facts.name))
          devices.push_back(std::move(link->facts));
      });
  if (!asked) return std::move(asked).error();
  const UniqueFd socket{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  if (!socket) return Error::from_errno("opening a socket for ethtool's questions");
  for (DeviceFacts& device : devices) {
    Ethtool ethtool{socket, device.name};
    device.carries_vlans = below_vlans.contains(device.ifindex);
    device.driver = driver_of(ethtool);
    read_queues(ethtool, device);
    read_udp_hash(ethtool, device);
    read_offloads(ethtool, device);
    device.rp_filter = rp_filter_of(device.name);
  }
  return devices;
}

}  // namespace weir::cli
